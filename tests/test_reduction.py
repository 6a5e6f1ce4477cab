"""Partial results: what they add up to, where they may go, and what they refuse. (What each reduction computes is in test_objects.py.)"""

import copy
import math
import pickle

import conftest
import numpy as np
import pytest

import lossbackend as lb

rng = np.random.default_rng(3)
Y_TRUE, Y_PRED = rng.normal(size=(6, 4)).astype("float32"), rng.normal(size=(6, 4)).astype("float32")
ERRORS = ((Y_PRED.astype("float64") - Y_TRUE) ** 2).mean(axis=-1)
MASK = np.array([True, False, True, True, False, True])
WEIGHTS = np.array([1.0, 2.0, 0.5, 0.0, 3.0, 1.5])
MEAN = lb.MeanSquaredError()


def compilers(backend):
    """Each way in which a framework turns a function into another one, that may then return a partial result."""
    framework = backend.module
    if backend.name == "torch":
        # Each test's lambda has the same code, and torch compiles no code more than eight times.
        framework.compiler.reset()
        return [lambda f: framework.compile(f, fullgraph=True, backend="eager")]
    if backend.name == "jax":
        return [framework.jit]
    return [framework.function, lambda f: framework.function(f, jit_compile=True)]


@pytest.mark.parametrize("options", [{}, {"mask": MASK}, {"sample_weight": WEIGHTS, "mask": MASK}], ids=lambda options: "-".join(options) or "plain")
@pytest.mark.parametrize("reduction", ["mean", "sum", "mean_with_sample_weight"])
def test_a_part_leaves_a_compiled_function(differentiable, reduction, options):
    """And merges with one that was computed outside."""
    loss = lb.MeanSquaredError(reduction=reduction)
    weights = options.get("sample_weight", np.ones(6)) * options.get("mask", np.ones(6))
    total, counted = (weights * ERRORS).sum() + ERRORS.sum(), options.get("mask", np.ones(6)).sum() + 6
    wanted = {"sum": total, "mean": total / counted, "mean_with_sample_weight": total / (weights.sum() + 6)}[reduction]
    y_true, y_pred = differentiable.tensor(Y_TRUE), differentiable.tensor(Y_PRED)
    for compiler in compilers(differentiable):
        inside = compiler(lambda y, p: loss.partial(y, p, **options))(y_true, y_pred)
        for merged in (inside + loss.partial(y_true, y_pred), loss.partial(y_true, y_pred) + inside):
            np.testing.assert_allclose(differentiable.numpy(merged.result()), wanted, rtol=4e-6)


@pytest.mark.parametrize("mask", [None, MASK[:2]], ids=["plain", "mask"])
def test_a_part_leaves_vmap(differentiable, mask):
    maps = {"torch": lambda framework: framework.func.vmap, "jax": lambda framework: framework.vmap}
    if differentiable.name not in maps:
        mapped = differentiable.module.vectorized_map
        parts = mapped(lambda pair: MEAN.partial(*pair, mask=mask).total, (Y_TRUE.reshape(3, 2, 4), Y_PRED.reshape(3, 2, 4)))
        results = parts / (2 if mask is None else 1)
    else:
        mapped = maps[differentiable.name](differentiable.module)
        y_true, y_pred = differentiable.tensor(Y_TRUE.reshape(3, 2, 4)), differentiable.tensor(Y_PRED.reshape(3, 2, 4))
        results = mapped(lambda y, p: MEAN.partial(y, p, mask=mask))(y_true, y_pred).result()
    pairs = ERRORS.reshape(3, 2)
    np.testing.assert_allclose(differentiable.numpy(results), pairs.mean(axis=1) if mask is None else pairs[:, 0], rtol=4e-6)


def test_parts_add_up_in_a_scan():
    jax = conftest.load("jax").module
    zero = jax.tree.map(jax.numpy.asarray, MEAN.partial(Y_TRUE[:0] + jax.numpy.zeros((0, 4)), Y_PRED[:0]))
    batches = (Y_TRUE.reshape(3, 2, 4), Y_PRED.reshape(3, 2, 4))
    merged, _ = jax.lax.scan(lambda parts, batch: (parts + MEAN.partial(*batch), None), zero, batches)
    np.testing.assert_allclose(merged.result(), ERRORS.mean(), rtol=4e-6)


def test_counts_are_integers(backend):
    """float32 counts to 2**24 only."""
    part = MEAN.partial(backend.tensor(Y_TRUE), backend.tensor(Y_PRED), mask=MASK)
    assert "int" in backend.dtype(part.denominator)
    assert int(part.denominator) == 4
    assert MEAN.partial(Y_TRUE, Y_PRED).denominator == 6


@pytest.mark.parametrize("mask", [None, MASK[:2]], ids=["plain", "mask"])
def test_parts_add_up_in_a_loop_of_tensorflow(mask):
    tensorflow = conftest.load("tensorflow").module
    y_true, y_pred = tensorflow.constant(Y_TRUE[:2]), tensorflow.constant(Y_PRED[:2])

    @tensorflow.function
    def four_times(times):
        part = MEAN.partial(y_true, y_pred, mask=mask)
        for _ in tensorflow.range(times):
            part = part + MEAN.partial(y_true, y_pred, mask=mask)
        return part

    part = four_times(3)
    assert int(part.denominator) == (8 if mask is None else 4)
    np.testing.assert_allclose(part.result(), ERRORS[:2].mean() if mask is None else ERRORS[0], rtol=4e-6)


def test_parts_that_left_their_device_add_up():
    jax = conftest.load("jax").module
    part = MEAN.partial(jax.numpy.asarray(Y_TRUE), jax.numpy.asarray(Y_PRED), mask=MASK)
    here = jax.device_get(part)
    for merged in (here + here, here + part, part + here):
        assert int(merged.denominator) == 8
        np.testing.assert_allclose(merged.result(), ERRORS[MASK].mean(), rtol=4e-6)


def test_a_part_of_placeholders_has_a_text():
    jax = conftest.load("jax").module
    part = jax.eval_shape(MEAN.partial, Y_TRUE, jax.ShapeDtypeStruct(Y_PRED.shape, Y_PRED.dtype))
    assert repr(part).startswith("Partial(MeanSquaredError(")


def test_counts_go_beyond_32_bits(backend):
    """Of merged parts: a mask makes a count a tensor, which for JAX has 32 bits."""
    part = MEAN.partial(backend.tensor(Y_TRUE), backend.tensor(Y_PRED), mask=MASK)
    (*total, count), same = part.flatten()
    large = lb.reduction.Partial.unflatten(same, (*total, backend.tensor(np.array(2**31 - 1, backend.dtype(count)))))
    assert int((large + part).denominator) == 2**31 + 3
    assert int(sum([part, large, large]).denominator) == 2**32 + 2


def test_a_part_is_pickled(backend):
    part = MEAN.partial(backend.tensor(Y_TRUE), backend.tensor(Y_PRED), mask=MASK)
    for same in (pickle.loads(pickle.dumps(part)), copy.deepcopy(part)):
        # A part of the same pytree, not one that looks like it.
        assert same.flatten()[1] == part.flatten()[1]
    merged = pickle.loads(pickle.dumps(part)) + part
    np.testing.assert_allclose(backend.numpy(merged.result()), ERRORS[MASK].mean(), rtol=4e-6)


def test_nothing_adds_nothing():
    part = MEAN.partial(Y_TRUE, Y_PRED)
    assert part + 0 is part
    assert 0 + part is part


OTHERS = {
    "loss": lambda: lb.MeanAbsoluteError().partial(Y_TRUE, Y_PRED),
    "reduction": lambda: lb.MeanSquaredError(reduction="sum").partial(Y_TRUE, Y_PRED),
    "number": lambda: 1,
    "result": lambda: MEAN(Y_TRUE, Y_PRED),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_does_not_add_up(other):
    with pytest.raises((TypeError, ValueError), match=r"do not add up|unsupported"):
        MEAN.partial(Y_TRUE, Y_PRED) + OTHERS[other]()
    with pytest.raises((TypeError, ValueError), match=r"do not add up|unsupported"):
        OTHERS[other]() + MEAN.partial(Y_TRUE, Y_PRED)


def test_two_frameworks_do_not_add_up(differentiable):
    with pytest.raises(TypeError, match=f"on numpy and on {differentiable.name} do not add up"):
        MEAN.partial(Y_TRUE, Y_PRED) + MEAN.partial(differentiable.tensor(Y_TRUE), differentiable.tensor(Y_PRED))


def test_an_overflow_while_weighing_is_infinite_and_silent(backend):
    """Warnings are errors here, and NumPy alone would give one."""
    y_true, y_pred = backend.tensor(np.zeros((2, 1), "float32")), backend.tensor(np.full((2, 1), 1e15, "float32"))
    for options in ({"sample_weight": [1e30, 1.0]}, {"sample_weight": [1e30, 1.0], "mask": [True, False]}):
        assert np.isinf(backend.numpy(MEAN(y_true, y_pred, **options)))
        assert np.isinf(backend.numpy(MEAN.partial(y_true, y_pred, **options).result()))


@pytest.mark.parametrize("reduction", ["mean", "mean_with_sample_weight"])
def test_a_thousand_million_samples_lose_no_digit(backend, reduction):
    """A thousand parts of a million float32 losses each, computed once: the sum is as good as that of one part."""
    losses = np.random.default_rng(5).lognormal(size=(1_000_000, 1)).astype("float32")
    weights = np.full(len(losses), 0.3, "float32")
    loss = lb.MeanAbsoluteError(reduction=reduction)
    options = {"sample_weight": backend.tensor(weights)} if reduction == "mean_with_sample_weight" else {}
    part = loss.partial(backend.tensor(np.zeros_like(losses)), backend.tensor(losses), **options)
    exact = losses.astype(np.float64).mean()
    one = abs(float(backend.numpy(part.result())) / exact - 1)
    merged = sum(part for _ in range(1000))
    assert abs(float(backend.numpy(merged.result())) / exact - 1) <= one + 1.2e-7
    if reduction == "mean":
        assert merged.denominator == 10**9


def test_uneven_parts_in_any_order(backend):
    """Parts of one sample and of a thousand, among them huge and tiny ones, add up to the exact sum from both ends."""
    random = np.random.default_rng(7)
    losses = (random.lognormal(sigma=4, size=5000)).astype("float32")
    cuts = np.split(losses, np.sort(random.choice(np.arange(1, 5000), 40, replace=False)))
    loss = lb.MeanAbsoluteError(reduction="sum")
    parts = [loss.partial(backend.tensor(np.zeros((len(cut), 1), "float32")), backend.tensor(cut[:, np.newaxis])) for cut in cuts]
    exact = math.fsum(losses.tolist())
    for ordered in (parts, parts[::-1]):
        np.testing.assert_allclose(float(backend.numpy(sum(ordered).result())), exact, rtol=4e-7)


def test_infinite_parts(backend):
    """An infinite part makes the sum infinite, a NaN makes it NaN, and neither warns."""
    parts = {
        name: MEAN.partial(backend.tensor(np.zeros((1, 1), "float32")), backend.tensor(np.full((1, 1), value, "float32")))
        for name, value in {"one": 1.0, "infinite": np.inf, "nan": np.nan}.items()
    }
    assert np.isposinf(backend.numpy((parts["one"] + parts["infinite"] + parts["one"]).result()))
    assert np.isnan(backend.numpy((parts["one"] + parts["nan"] + parts["infinite"]).result()))
