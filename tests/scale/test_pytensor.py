"""PyTensor: symbolic losses, against textbook values, hand-made gradients and PyTorch's own loss."""

import json
import math
import os
import pickle
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from samples import EVERY_LOSS, expected, expected_gradient, sample

import lossbackend as lb
from lossbackend import evaluation
from lossbackend.cli import main
from lossbackend.testing import assert_parity, check_backend

# Read when PyTensor is imported: what it compiles is kept in this folder, as long as the tests run, and not in the home of who runs them.
COMPILED = tempfile.TemporaryDirectory()
os.environ["PYTENSOR_FLAGS"] = f"base_compiledir={COMPILED.name}"

import pytensor  # noqa: E402
import pytensor.sparse  # noqa: E402
import pytensor.tensor as pt  # noqa: E402
from pytensor.compile.mode import Mode  # noqa: E402

INF, NAN = math.inf, math.nan
FAR = -math.log(1e-7)
Y = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, -1.0]], "float32")
P = np.array([[0.5, 1.0, -2.0], [4.0, 0.25, -1.0]], "float32")
IDS = np.array([2, 0])


@pytest.fixture(autouse=True)
def without_a_compiler():
    with pytensor.config.change_flags(mode="FAST_COMPILE", cxx=""):
        yield


def matrices(dtype="float32"):
    """y_true and y_pred of unknown shape."""
    return pt.matrix("y", dtype=dtype), pt.matrix("p", dtype=dtype)


def computed(outputs, given):
    """The values of outputs for the values of inputs."""
    return pytensor.function(list(given), outputs, on_unused_input="ignore")(*given.values())


def losses_and_gradient(loss, y, p, **options):
    """Of arrays, by way of a graph that knows no shape."""
    y_true, y_pred = (pt.tensor(dtype=array.dtype, shape=(None,) * array.ndim) for array in (y, p))
    losses = loss(y_true, y_pred, **options)
    assert losses.type.dtype == p.dtype
    return computed([losses, pytensor.grad(losses.sum(), y_pred)], {y_true: y, y_pred: p})


def test_contract():
    check_backend("pytensor")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", EVERY_LOSS)
def test_every_loss(name, dtype):
    y, p = sample(name, dtype=dtype)
    losses, gradient = losses_and_gradient(lb.get(name), y, p)
    values, scales = expected(name, y, p)
    assert losses.dtype == gradient.dtype == dtype
    assert (abs(losses - values) <= 4 * np.finfo(dtype).eps * scales).all()
    np.testing.assert_allclose(gradient, expected_gradient(name, y, p), rtol=64 * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps)


# Of each loss rows of (y, p, loss, gradient); None is not pinned.
EDGES = [
    (lb.mae, {}, [([1.0], [1.0], 0.0, [0.0]), ([1.0], [NAN], NAN, [NAN]), ([0.0], [-INF], INF, [-1.0])]),
    (
        lb.huber,
        {"delta": 0.1},
        [([0.0], [0.1], 0.005, [0.1]), ([0.0], [0.0], 0.0, [0.0]), ([0.0], [-9.0], 0.895, [-0.1]), ([0.0], [INF], INF, [0.1])],
    ),
    (
        lb.log_cosh,
        {},
        [([0.0], [1e-4], 0.5e-8 - 1e-16 / 12, [math.tanh(1e-4)]), ([0.0], [-300.0], 300.0 - math.log(2.0), [-1.0]), ([0.0], [INF], INF, [1.0])],
    ),
    (lb.hinge, {}, [([1.0], [1.0], 0.0, [0.0]), ([0.0], [0.0], 1.0, [1.0]), ([1.0], [INF], 0.0, [0.0]), ([-1.0], [INF], INF, [1.0])]),
    (
        lb.categorical_hinge,
        {},
        [([1.0, 0.0, 0.0], [0.0, 2.0, 2.0], 3.0, [-1.0, 0.5, 0.5]), ([1.0, 0.0, 0.0], [NAN, 0.0, 0.0], NAN, [NAN, None, None])],
    ),
    (
        lb.bce,
        {},
        [([1.0], [0.0], FAR, [0.0]), ([0.0], [1.0], FAR, [0.0]), ([0.0], [0.0], 0.0, [1.0]), ([0.0], [1e-5], -math.log1p(-1e-5), [1 / (1 - 1e-5)])],
    ),
    (
        lb.bce,
        {"from_logits": True},
        [([0.0], [40.0], 40.0, [1.0]), ([0.0], [-40.0], math.exp(-40), [math.exp(-40)]), ([1.0], [INF], 0.0, [0.0]), ([0.0], [INF], INF, [1.0])],
    ),
    (
        lb.cce,
        {"from_logits": True},
        [
            ([1.0, 0.0], [20.0, 0.0], math.log1p(math.exp(-20)), [None, 1 / (1 + math.exp(20))]),
            ([0.0, 1.0], [1000.0, 0.0], 1000.0, [1.0, -1.0]),
            ([1.0, 0.0], [0.0, -INF], 0.0, [0.0, 0.0]),
            ([1.0, 0.0], [INF, 0.0], NAN, [NAN, NAN]),
        ],
    ),
    (
        lb.cce,
        {},
        [
            ([1.0, 0.0], [0.0, 0.0], FAR, [0.0, 0.0]),
            # The square of the sum, which its slope asks for, is no number.
            ([1.0, 0.0], [2.0**-101, 3 * 2.0**-101], math.log(4), [-0.75 * 2.0**101, 0.25 * 2.0**101]),
            ([1.0, 0.0], [0.5, INF], NAN, [NAN, NAN]),
        ],
    ),
    (
        lb.kld,
        {},
        [([0.0, 1.0], [0.5, 0.5], math.log(2), [0.0, -2.0]), ([0.0, 1.0], [1.0, 0.0], FAR, [0.0, 0.0]), ([-1.0, 1.0], [0.5, 0.5], NAN, [None] * 2)],
    ),
    (lb.poisson, {}, [([1.0], [0.0], FAR, [1 - 1e7]), ([0.0], [0.0], 0.0, [1.0]), ([2.0], [INF], INF, [1.0])]),
    (
        lb.cosine_similarity,
        {},
        [
            ([3.0, 4.0], [0.0, 0.0], 0.0, [0.0, 0.0]),
            ([1e-30, 0.0], [1e-30, 0.0], -1.0, [0.0, 0.0]),
            ([3.0, 4.0], [1e30, 0.0], -0.6, [None, -0.8e-30]),
        ],
    ),
    (
        lb.msle,
        {},
        [
            ([0.0], [-1.0], 0.0, [0.0]),
            ([0.0], [math.e - 1], (1 - math.log1p(1e-7)) ** 2, [2 * (1 - math.log1p(1e-7)) / math.e]),
            ([0.0], [NAN], NAN, [NAN]),
        ],
    ),
    (lb.mape, {}, [([0.0], [1e-7], 100.0, [1e9]), ([2.0], [2.0], 0.0, [0.0]), ([INF], [1.0], 100.0, [0.0])]),
]


def at_edges(edges, dtype):
    """The graph of these losses and gradients, its inputs with their values, and what has to come out."""
    outputs, given, wanted = [], {}, []
    for loss, options, rows in edges:
        y, p = matrices(dtype)
        losses = loss(y, p, **options)
        outputs += [losses, pytensor.grad(losses.sum(), p)]
        given |= {y: np.array([row[0] for row in rows], dtype), p: np.array([row[1] for row in rows], dtype)}
        wanted += [np.array([row[2] for row in rows]), np.array([row[3] for row in rows], object)]
    return outputs, given, wanted


def compare_edges(found, wanted, dtype):
    for got, exact in zip(found, wanted, strict=True):
        assert got.dtype == dtype
        pinned = np.array([entry is not None for entry in exact.flat]).reshape(exact.shape)
        np.testing.assert_allclose(got[pinned], exact[pinned].astype(float), rtol=1e-5 if dtype == "float32" else 1e-9, atol=0)


# Every rewrite of the default mode, and no compiler.
REWRITTEN = Mode(linker="py", optimizer="fast_run")


@pytest.mark.parametrize("mode", ["FAST_COMPILE", REWRITTEN], ids=["as it is", "rewritten"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("edges", EDGES, ids=lambda edges: edges[0].__name__ + "".join(edges[1]))
def test_edges(edges, dtype, mode):
    outputs, given, wanted = at_edges([edges], dtype)
    with pytensor.config.change_flags(mode=mode):
        compare_edges(computed(outputs, given), wanted, dtype)


@pytest.mark.parametrize(("dtype", "exponents"), [("float32", [-66, -122, 127]), ("float64", [-530, -1019, 1023])])
def test_division_keeps_its_form(dtype, exponents):
    """Cancelled, the slope by the divisor would be that of a square which no float holds."""
    divisors = np.array([[-1.5], *([2.0**n] for n in exponents), [INF]], dtype)
    dividends = np.array([[1.5 * y, 0.5 * y] for y in divisors[:-1, 0]] + [[1.0, 2.0]], dtype)
    x, y = pt.matrix(dtype=dtype), pt.col(dtype=dtype)
    quotient = lb.get_backend("pytensor").divide(x, y)
    with pytensor.config.change_flags(mode=REWRITTEN):
        found, by_x, by_y = computed([quotient, *pytensor.grad(quotient.sum(), [x, y])], {x: dividends, y: divisors})
    np.testing.assert_allclose(found, [[1.5, 0.5]] * 4 + [[NAN, NAN]], rtol=1e-6)
    np.testing.assert_allclose(by_x[:4] * divisors[:4], np.ones((4, 2)), rtol=1e-6)
    np.testing.assert_allclose(by_y[:3] * divisors[:3], np.full((3, 1), -2.0), rtol=1e-6)


@pytest.mark.parametrize("mode", ["FAST_COMPILE", REWRITTEN], ids=["as it is", "rewritten"])
@pytest.mark.parametrize(
    ("y", "p"), [([0, 0, 0], [0.5, NAN, 1]), ([0, 0, 0], [0.5, -np.inf, 1]), ([NAN, 1, 1], [0, 0, 0]), ([1, 0, 0], [NAN, 0.5, 1])]
)
def test_nan_beside_a_zero_vector_stays(y, p, mode):
    y, p = (np.array([x], "float32") for x in (y, p))
    with pytensor.config.change_flags(mode=mode):
        losses, gradient = losses_and_gradient(lb.cosine_similarity, y, p)
    assert np.isnan(losses).all()
    assert np.isnan(gradient).any()


def test_the_default_mode():
    """Which rewrites, and compiles."""
    outputs, given, wanted = at_edges([edges for edges in EDGES if edges[0] is lb.huber], "float32")
    ids, p = pt.ivector(), pt.fmatrix()
    outputs.append(lb.scce(ids, p))
    # Not 16.1: the sum of the probabilities is infinite.
    given |= {ids: np.array([0, 0], "int32"), p: np.array([[0.5, INF], [0.5, 0.5]], "float32")}
    wanted.append(np.array([NAN, math.log(2)], object))
    with pytensor.config.change_flags(mode="Mode"):
        compare_edges(computed(outputs, given), wanted, "float32")


@pytest.mark.parametrize(
    ("true", "pred", "rank"),
    [(2, 2, 1), (1, 1, 0), (3, 3, 2), (0, 0, 0), ("column", 1, 1), (1, "column", 1), ("column", "column", 1)],
)
def test_unknown_shapes(true, pred, rank):
    y, p = (pt.col(dtype="float32") if kind == "column" else pt.tensor(dtype="float32", shape=(None,) * kind) for kind in (true, pred))
    losses = lb.mse(y, p)
    assert losses.type.shape == (None,) * rank
    given = {
        x: np.ones((4, 1) if x.type.broadcastable == (False, True) else (4, 3, 2)[: x.ndim] if x.ndim > 1 else (4,) * x.ndim, "float32")
        for x in (y, p)
    }
    found = computed(losses, {**given, p: 3 * given[p]})
    np.testing.assert_array_equal(found, np.full(found.shape, 4.0))
    assert found.shape == (4, 3, 2)[:rank]


def test_along_any_axis():
    p = pt.dtensor3()
    values = np.random.default_rng(0).normal(size=(2, 3, 4))
    for axis in range(3):
        ids = np.argmax(values, axis=axis)
        losses = lb.scce(pt.lmatrix("i"), p, from_logits=True, axis=axis)
        powers = np.exp(values)
        (i,) = (x for x in pytensor.graph.traversal.graph_inputs([losses]) if x.name == "i")
        np.testing.assert_allclose(computed(losses, {i: ids, p: values}), -np.log(powers.max(axis) / powers.sum(axis)), rtol=1e-14)


def test_shapes_that_do_not_fit():
    y, p = matrices()
    with pytest.raises(ValueError, match=r"mean_squared_error: y_true and y_pred must have the same shape, got \(3, 2\) and \(None, 3\)"):
        lb.mse(pt.tensor(shape=(3, 2)), pt.tensor(shape=(None, 3)))
    with pytest.raises(ValueError, match=r"categorical_crossentropy.*use sparse_categorical_crossentropy"):
        lb.cce(pt.ivector(), p)
    with pytest.raises(ValueError, match=r"sparse_categorical_crossentropy.*looks one-hot"):
        lb.scce(y, p)
    with pytest.raises(ValueError, match="use binary_crossentropy"):
        lb.cce(pt.fcol(), pt.fcol())
    with pytest.raises(ValueError, match="axis 2 is out of range"):
        lb.cosine_similarity(y, p, axis=2)
    with pytest.raises(ValueError, match="sample_weight of shape"):
        lb.MeanSquaredError()(y, p, sample_weight=pt.ftensor3())
    # What is not known before is refused when the graph runs, and never broadcast.
    for other in (pt.fmatrix(), pt.fcol()):
        with pytest.raises(AssertionError, match=r"broadcast|SpecifyShape"):
            computed(lb.mse(y, other), {y: Y, other: Y[:, :1]})
    ids = pt.ivector()
    for labels in ([1], [0, 1, 2]):
        with pytest.raises(ValueError, match="broadcast"):
            computed(lb.scce(ids, p), {ids: np.array(labels, "int32"), p: P})


@pytest.mark.parametrize("kind", ["int8", "int32", "int64", "uint8", "uint64", "float32", "float64"])
def test_class_ids(kind):
    ids, p = pt.vector("ids", dtype=kind), pt.fmatrix("p")
    losses = lb.scce(ids, p, from_logits=True)
    run = pytensor.function([ids, p], [losses, pytensor.grad(losses.sum(), p)])
    shares = np.exp(P) / np.exp(P).sum(axis=1, keepdims=True)
    found, gradient = run(IDS.astype(kind), P)
    np.testing.assert_allclose(found, -np.log(shares[[0, 1], IDS]), rtol=1e-6)
    np.testing.assert_allclose(gradient, shares - np.eye(3)[IDS], rtol=1e-5, atol=1e-7)
    wrong = {"f": [3.0, -1.0, 0.5, NAN, INF, 1e20], "i": [3, -1, 127], "u": [3, 255]}[kind[0]]
    for label in wrong:
        found, gradient = run(np.array([label, 0]).astype(kind), P)
        assert np.isnan(found[0])
        assert np.isnan(gradient[0]).all()
        np.testing.assert_allclose(found[1], -np.log(shares[1, 0]), rtol=1e-6)
        assert np.isfinite(gradient[1]).all()


def test_class_ids_that_are_ignored_weighted_or_a_column():
    ids, p = pt.imatrix("ids"), pt.fmatrix("p")
    column = pt.specify_broadcastable(ids, 1)
    losses = lb.scce(column, p, from_logits=True, ignore_class=-1, class_weight=[1.0, 2.0, 3.0])
    logs = P - np.log(np.exp(P).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(computed(losses, {ids: np.array([[1], [-1]], "int32"), p: P}), [-2 * logs[0, 1], 0.0], rtol=1e-6)
    mean = lb.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)(column, p)
    np.testing.assert_allclose(
        computed(mean, {ids: np.array([[1], [-1]], "int32"), p: np.array([P[0], [NAN] * 3], "float32")}), -logs[0, 1], rtol=1e-6
    )
    with pytest.raises(ValueError, match="class_weight as a dict needs a number of classes"):
        lb.scce(pt.ivector(), p, class_weight={0: 2.0})
    one_hot = computed(lb.to_categorical(column, 3), {ids: np.array([[1], [5]], "int32")})
    np.testing.assert_array_equal(one_hot, [[0, 1, 0], [NAN] * 3])


@pytest.mark.parametrize("reduction", ["sum", "mean", "mean_with_sample_weight", "none"])
def test_reductions(reduction):
    y, p = matrices()
    weights, mask = pt.fvector(), pt.vector(dtype="bool")
    reduced = lb.MeanAbsoluteError(reduction)(y, p, weights, mask)
    w, m = np.array([0.5, 2.0], "float32"), np.array([True, False])
    # What is masked is NaN, and reaches nothing.
    given = {y: Y, p: np.where(m[:, np.newaxis], P, np.float32(NAN)), weights: w, mask: m}
    found, gradient = computed([reduced, pytensor.grad(reduced.sum(), p)], given)
    each = abs(P[0] - Y[0]).mean()
    np.testing.assert_allclose(
        found, {"none": [0.5 * each, 0], "sum": 0.5 * each, "mean": 0.5 * each, "mean_with_sample_weight": each}[reduction], rtol=1e-6
    )
    slopes = np.sign(P[0] - Y[0]) / 3 * (1 if reduction == "mean_with_sample_weight" else 0.5)
    np.testing.assert_allclose(gradient, [slopes, [0, 0, 0]], rtol=1e-6)
    assert found.dtype == gradient.dtype == "float32"
    if reduction != "none":
        nothing = {y: Y[:0], p: P[:0], weights: w[:0], mask: m[:0]}
        assert computed(reduced, nothing) == 0
        parts = sum(lb.MeanAbsoluteError(reduction).partial(y[i:][:1], p[i:][:1], weights[i:][:1], mask[i:][:1]) for i in range(2))
        np.testing.assert_allclose(computed(parts.result(), given), found, rtol=1e-6)


def test_options_may_be_variables():
    y, p = matrices()
    delta = pt.fscalar()
    losses = lb.huber(y, p, delta=delta)
    found, slope = computed([losses, pytensor.grad(losses.sum(), delta)], {y: Y[:1], p: P[:1], delta: np.float32(0.25)})
    np.testing.assert_allclose(found, [(0.25 * (0.5 + 4.0) - 2 * 0.25**2 / 2) / 3], rtol=1e-6)
    np.testing.assert_allclose(slope, (0.25 + 3.75) / 3, rtol=1e-6)
    assert lb.bce(y, p, label_smoothing=pytensor.shared(0.1)).dtype == "float32"
    with pytest.raises(TypeError, match="huber: delta must be a number, got a tensor of shape"):
        lb.huber(y, p, delta=pt.fvector())
    with pytest.raises(TypeError, match=r"huber: delta is a pytensor tensor.*pass it to the function"):
        lb.Huber(delta=delta)
    lb.set_epsilon(1e-2)
    assert math.isclose(lb.bce(pt.constant([[1.0]]), pt.constant([[0.0]])).eval()[0], -math.log(1e-2))


@lb.loss
def power(ops, y_true, y_pred, *, exponent=0.3):
    """A user's own, with numbers that no float32 holds, and one that is too large for a small integer."""
    return ops.mean(100000 * ops.abs(y_pred - y_true) ** exponent + 0.1, axis=-1)


def test_a_loss_of_ones_own():
    y, p = matrices()
    losses = power(y, p)
    assert losses.type.dtype == "float32"
    found, gradient = computed([losses, pytensor.grad(losses.sum(), p)], {y: Y, p: P})
    error = abs(P - Y).astype("float64")
    np.testing.assert_allclose(found, (1e5 * error**0.3 + 0.1).mean(axis=1), rtol=1e-6)
    far = error > 0
    np.testing.assert_allclose(gradient[far], (1e5 * 0.3 * error[far] ** -0.7 * np.sign(P - Y)[far]) / 3, rtol=1e-5)
    assert power(y, p, exponent=pt.fscalar()).dtype == "float32"


def test_dtypes_of_the_configuration_change_none():
    for floatX, policy in (("float32", "custom"), ("float64", "custom"), ("float32", "numpy+floatX")):
        with pytensor.config.change_flags(floatX=floatX, cast_policy=policy):
            for dtype in ("float32", "float64"):
                losses = lb.huber(*matrices(dtype), delta=0.1)
                found = losses_and_gradient(lb.huber, np.zeros((1, 1), dtype), np.ones((1, 1), dtype), delta=0.1)
                assert losses.dtype == found[1].dtype == dtype
                np.testing.assert_allclose(found[0], 0.095, rtol=2 * np.finfo(dtype).eps)
            assert pytensor.config.floatX == floatX
            assert pytensor.config.cast_policy == policy
    value, gradient = lb.value_and_grad(lb.mse)(pt.fmatrix(), pt.tensor(dtype="float16", shape=(None, None)))
    assert (value.dtype, gradient.dtype) == ("float32", "float16")
    assert lb.mse(pt.fmatrix(), pt.imatrix()).dtype == "float32"
    with pytest.raises(TypeError, match="must hold real numbers, got dtype complex128"):
        lb.mse(pt.fmatrix(), pt.zmatrix())


def test_numpy_input_becomes_a_constant_expression(monkeypatch):
    monkeypatch.setenv("LOSSBACKEND", "pytensor")
    buffer = P.copy()
    losses = lb.mse(Y, buffer)
    # The graph runs later than the buffer is filled anew.
    buffer[:] = 0.0
    assert isinstance(losses, pt.TensorVariable)
    np.testing.assert_allclose(losses.eval(), ((Y - P) ** 2).mean(axis=1), rtol=1e-6)
    assert (lb.mse(Y, P.astype("float64")).dtype, lb.mse([[1.0]], [[2.0]]).dtype) == ("float64", "float32")
    value, gradient = lb.value_and_grad(lb.mse)(Y, P)
    np.testing.assert_allclose(value.eval(), ((Y - P) ** 2).mean(), rtol=1e-6)
    np.testing.assert_allclose(gradient.eval(), 2 * (P - Y) / 6, rtol=1e-6)
    with pytest.raises(ValueError, match="class ids from 0 to 2"):
        lb.scce([3, 0], P)
    with pytest.raises(ValueError, match="class ids from 0 to 2"):
        lb.SparseCategoricalCrossentropy()([3, 0], P, mask=[True, False])
    assert np.isfinite(lb.SparseCategoricalCrossentropy(from_logits=True)([3, 0], P, mask=[False, True]).eval())
    with lb.checked(), pytest.raises(ValueError, match=r"these look like logits"):
        lb.bce(abs(np.sign(Y)), P)
    # An overflow is infinite, without a warning.
    assert lb.get_backend().to_numpy(lb.mse(np.zeros((1, 2)), np.full((1, 2), 1.5e19, "float32"))) == INF
    assert not lb.get_backend().is_concrete(pytensor.shared(P) + 1.0)


def test_transforms():
    y, p = matrices()
    expected_value, slopes = ((Y - P) ** 2).mean(), 2 * (P - Y) / 6
    for step in (lb.value_and_grad(lb.mse), lb.value_and_grad(lb.MeanSquaredError()), lb.jit(lb.value_and_grad(lb.mse))):
        value, gradient = computed(step(y, p), {y: Y, p: P})
        np.testing.assert_allclose(value, expected_value, rtol=1e-6)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-6)
    # Predictions that the loss does not depend on have gradient 0.
    flat = lb.loss(lambda ops, y_true, y_pred: ops.mean(ops.sign(ops.stop_gradient(y_pred)), axis=-1))
    np.testing.assert_array_equal(computed(lb.value_and_grad(flat)(y, p)[1], {y: Y, p: P}), 0 * P)
    np.testing.assert_allclose(computed(lb.jit(lb.huber)(y, p, delta=0.5), {y: Y, p: P}).shape, (2,))


def test_what_is_done_to_graphs():
    y, p = matrices()
    losses, each = lb.mse(y, p), ((Y - P) ** 2).mean(axis=1)
    stored = pytensor.shared(P)
    np.testing.assert_allclose(computed(lb.mse(y, stored), {y: Y}), each, rtol=1e-6)
    np.testing.assert_allclose(pytensor.function([y], losses, givens={p: stored})(Y), each, rtol=1e-6)
    np.testing.assert_allclose(pytensor.graph.replace.graph_replace(losses, {p: y + 2.0}).eval({y: Y}), [4.0, 4.0])
    again = pickle.loads(pickle.dumps(pytensor.function([y, p], losses)))
    np.testing.assert_allclose(again(Y, P), each, rtol=1e-6)
    batches, ids = pt.ftensor3(), pt.imatrix()
    stacked, labels = np.stack([P, Y]), np.array([[2, 0], [1, 5]], "int32")
    i = pt.ivector()
    vectorized = pytensor.graph.replace.vectorize_graph(lb.scce(i, p, from_logits=True), {i: ids, p: batches})
    logs = stacked - np.log(np.exp(stacked).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(
        computed(vectorized, {ids: labels, batches: stacked}), [[-logs[0, 0, 2], -logs[0, 1, 0]], [-logs[1, 0, 1], NAN]], rtol=1e-5
    )
    steps = pytensor.scan(lambda p: lb.huber(pt.zeros_like(p), p), sequences=[batches], return_updates=False)
    error = abs(stacked)
    each = np.where(error < 1, error**2 / 2, error - 0.5).mean(axis=-1)
    found, gradient = computed([steps, pytensor.grad(steps.sum(), batches)], {batches: stacked})
    np.testing.assert_allclose(found, each, rtol=1e-6)
    np.testing.assert_allclose(gradient, np.clip(stacked, -1, 1) / 3, rtol=1e-6)
    row = pt.dvector()
    curvature = pytensor.gradient.hessian(lb.cce(pt.constant([1.0, 0.0]), row, from_logits=True), row).eval({row: np.zeros(2)})
    np.testing.assert_allclose(curvature, [[0.25, -0.25], [-0.25, 0.25]], rtol=1e-12)


def test_other_frameworks_and_namespaces():
    import torch

    import lossbackend.pytensor as lpt
    import lossbackend.torch as lt

    y, p = matrices()
    with pytest.raises(TypeError, match="y_true is a torch tensor, y_pred is a pytensor tensor"):
        lb.mse(torch.ones(2, 3), p)
    with pytest.raises(TypeError, match=r"takes pytensor tensors and NumPy arrays, got a torch tensor"):
        lpt.mse(torch.ones(2, 3), torch.ones(2, 3))
    with pytest.raises(TypeError, match=r"Use lossbackend\.pytensor\.mean_squared_error"):
        lt.mse(y, p)
    with pytest.raises(TypeError, match="y_true is a list of pytensor tensors: stack them"):
        lb.mse([p, p], p)
    with pytest.raises(TypeError, match="y_pred is a sparse matrix: make it dense"):
        lb.mse(y, pytensor.sparse.csr_matrix(dtype="float32"))
    np.testing.assert_allclose(lpt.Huber(2.0)(Y, P).eval(), lb.Huber(2.0)(Y, P), rtol=1e-6)
    assert lpt.get("mse") is lpt.mean_squared_error
    assert lb.deserialize(lb.serialize(lb.Huber(2.0)))(y, p).type.shape == ()


def test_parity():
    for name in ("huber", "log_cosh", "sparse_categorical_crossentropy", "cosine_similarity"):
        y, p = sample(name)
        for backends in (["numpy", "pytensor"], ["pytensor", "torch"]):
            assert_parity(lb.get(name), y, p, backends=backends)
    with pytest.raises(AssertionError, match="the backends disagree in the gradient"):
        assert_parity({"torch": lb.mse, "pytensor": lambda y, p: lb.mse(y, pytensor.gradient.grad_scale(p, 2.0))}, Y, P)


def test_command_line(tmp_path, capsys):
    losses = ("huber", "kl_divergence")
    assert "pytensor" in lb.available_backends()
    assert main(["parity", *losses, "--backend", "pytensor", "--backend", "numpy"]) == 0
    out = capsys.readouterr().out
    assert "on 2 columns: no breach" in out
    assert "pytensor" in out
    np.save(tmp_path / "y.npy", Y)
    np.save(tmp_path / "p.npy", P)
    files = [str(tmp_path / name) for name in ("y.npy", "p.npy")]
    assert main(["evaluate", "mse", *files, "--backend", "pytensor", "--reduction", "sum", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(found["value"], ((Y - P) ** 2).mean(axis=1).sum(), rtol=1e-6)
    assert found["backend"] == "pytensor"


def test_parts_of_a_file_forget_their_graphs(tmp_path, monkeypatch, capsys):
    """Which would keep all rows: of the sum of a hundred parts nothing remains but the numbers."""
    sums = []
    alone = evaluation._alone
    monkeypatch.setattr(evaluation, "_alone", lambda part: sums.append(alone(part)) or sums[-1])
    monkeypatch.setattr(evaluation, "_ENTRIES", 8)
    y = np.random.default_rng(0).normal(size=(400, 2))
    np.save(tmp_path / "y.npy", y)
    assert main(["evaluate", "mse", *[str(tmp_path / "y.npy")] * 2, "--backend", "pytensor", "--json", "--no-check"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == 0.0
    assert len(sums) == 200
    assert all(isinstance(leaf, pt.TensorConstant) for part in sums for leaf in part.flatten()[0] if not isinstance(leaf, int))


def test_import_and_installation():
    """The library imports no PyTensor by itself, and says how to get it."""
    code = """
import sys
import lossbackend as lb, lossbackend.losses
lb.mse([[1.0]], [[2.0]]), lb.available_backends()
assert "pytensor" not in sys.modules
sys.modules["pytensor"] = None
lb.use_backend("pytensor").__enter__()
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert 'Install it with: pip install "lossbackend[pytensor]"' in run.stderr


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training(dtype):
    """A network on the digits: the curve of PyTorch with its own loss from the same weights, and of softmax − one-hot by hand."""
    import torch
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(dtype)
    random = np.random.default_rng(0)
    start = [random.normal(0, 0.2, (64, 16)).astype(dtype), random.normal(0, 0.2, (16, 10)).astype(dtype)]
    batches = [slice(i, i + 100) for _ in range(8) for i in range(0, 1500, 100)]
    rate = np.asarray(0.5, dtype)

    x, ids = pt.matrix("x", dtype=dtype), pt.lvector("ids")
    weights = [pytensor.shared(array, name=f"w{i}") for i, array in enumerate(start)]
    logits = pt.tanh(x @ weights[0]) @ weights[1]
    loss = lb.SparseCategoricalCrossentropy(from_logits=True)(ids, logits)
    updates = [(w, w - rate * slope) for w, slope in zip(weights, pytensor.grad(loss, weights), strict=True)]
    step = pytensor.function([x, ids], loss, updates=updates)
    curve = [float(step(images[batch], labels[batch])) for batch in batches]

    parameters = [torch.tensor(array, requires_grad=True) for array in start]
    optimizer = torch.optim.SGD(parameters, lr=0.5)
    built_in = []
    for batch in batches:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(
            torch.tanh(torch.tensor(images[batch]) @ parameters[0]) @ parameters[1], torch.tensor(labels[batch])
        )
        value.backward()
        optimizer.step()
        built_in.append(value.item())

    first, second = (array.astype("float64") for array in start)
    by_hand = []
    for batch in batches:
        hidden = np.tanh(images[batch] @ first)
        powers = np.exp(hidden @ second)
        shares = powers / powers.sum(axis=1, keepdims=True)
        by_hand.append(-np.log(shares[np.arange(len(shares)), labels[batch]]).mean())
        slope = (shares - np.eye(10)[labels[batch]]) / len(shares)
        back = slope @ second.T * (1 - hidden**2)
        second -= 0.5 * hidden.T @ slope
        first -= 0.5 * images[batch].T @ back

    np.testing.assert_allclose(curve, built_in, rtol=1e-5)
    np.testing.assert_allclose(curve, by_hand, rtol=1e-5 if dtype == "float64" else 1e-4)
    held_out = np.argmax(np.tanh(images[1500:] @ weights[0].get_value()) @ weights[1].get_value(), axis=1)
    assert (held_out == labels[1500:]).mean() > 0.85


def test_page(run_page):
    run_page("engines/pytensor")
