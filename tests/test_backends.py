"""Every adapter meets the Ops contract, and ``check_backend`` notices one that does not."""

from types import SimpleNamespace

import numpy as np
import pytest

import lossbackend as lb
from lossbackend.backends.composed import ComposedOps
from lossbackend.ops import Ops
from lossbackend.testing import check_backend


def test_adapter_meets_the_contract(backend):
    check_backend(lb.get_backend(backend.name))


def test_jax_meets_the_contract_in_float64(backend):
    if backend.name != "jax":
        pytest.skip("only JAX has float64 switched off")
    import jax

    with jax.enable_x64(True):
        check_backend(lb.get_backend("jax"))


def test_jax_does_not_look_at_an_array_that_other_processes_hold():
    pytest.importorskip("jax")
    elsewhere = type("Sharding", (), {"is_fully_addressable": False})()
    assert lb.get_backend("jax").is_concrete(SimpleNamespace(sharding=elsewhere)) is False


def rows_of_logits():
    """More than 32768 numbers, which XLA reduces by other code on a processor, with every kind of row among the first."""
    x = np.random.default_rng(3).normal(0.0, 4.0, (1000, 40)).astype("float32")
    x[0, 39], x[1, 0], x[2, 7], x[3, 8], x[4] = np.nan, np.nan, np.inf, -np.inf, -np.inf
    x[5], x[6], x[6, 3], x[7, 1::2] = 1.5, 0.0, 20.0, 9.0
    return x


def exact_log_softmax(x):
    """By the sum of the others than the largest, whose 1 would round them away."""
    shifted = x.astype(float) - x.max(axis=-1, keepdims=True)
    top = np.eye(x.shape[-1])[shifted.argmax(axis=-1)].astype(bool)
    return shifted - np.log1p(np.where(top, 0.0, np.exp(shifted)).sum(axis=-1, keepdims=True))


def test_log_softmax_of_many_rows(backend):
    ops, x = lb.get_backend(backend.name), rows_of_logits()
    log_p = backend.numpy(ops.apply(lambda ops, x: ops.log_softmax(x), backend.tensor(x)))
    assert np.isnan(log_p[[0, 1, 2, 4]]).all()
    assert log_p[3, 8] == -np.inf
    wanted = exact_log_softmax(x[5:])
    np.testing.assert_allclose(log_p[5:], wanted, rtol=5e-7)
    np.testing.assert_allclose(log_p[6, 3], -39 * np.exp(-20.0), rtol=1e-6)


def test_the_slope_of_log_softmax_of_many_rows(differentiable):
    """w − softmax · Σ w, to the last digits of small probabilities too."""
    ops, x = lb.get_backend(differentiable.name), np.round(3.0 * rows_of_logits()[5:])  # whose differences are exact
    weights = np.random.default_rng(4).uniform(0.5, 1.5, x.shape).astype("float32") * (np.arange(40) % 3 == 0)
    slopes = differentiable.grad(lambda x: ops.sum(ops.log_softmax(x) * differentiable.tensor(weights), axis=-1), x)
    share = np.exp(exact_log_softmax(x)) * weights.sum(axis=-1, keepdims=True, dtype=float)
    np.testing.assert_allclose(slopes, weights - share, rtol=2e-6, atol=3e-7)
    alone = weights[0] == 0
    np.testing.assert_allclose(slopes[:, alone], -share[:, alone], rtol=1.5e-6)


def test_the_maximum_of_many_rows(backend):
    ops, x = lb.get_backend(backend.name), rows_of_logits()
    largest = backend.numpy(ops.apply(lambda ops, x: ops.max(x, axis=-1), backend.tensor(x)))
    assert np.isnan(largest[:2]).all()
    assert largest[2:].tolist() == x[2:].max(axis=-1).tolist()
    if backend.grad is not None:
        slopes = backend.grad(lambda x: ops.max(x, axis=-1), x)
        assert np.isnan(slopes[[0, 1], [39, 0]]).all()
        ties = (x[2:] == x[2:].max(axis=-1, keepdims=True)).astype(float)
        np.testing.assert_allclose(slopes[2:], ties / ties.sum(axis=-1, keepdims=True), rtol=1e-6)


def test_the_second_derivatives_of_jax_where_classes_tie(backend):
    if backend.name != "jax":
        pytest.skip("only JAX has derivatives of its own here")
    import jax

    ops, x = lb.get_backend("jax"), np.array([1.0, 3.0, 3.0], "float32")
    share = np.exp(exact_log_softmax(x[None]))[0]
    wanted = np.outer(share, share) - np.diag(share)  # of log softmax of any class
    for second in (jax.hessian, lambda f: jax.jacrev(jax.jacrev(f)), lambda f: jax.jacfwd(jax.jacfwd(f))):
        np.testing.assert_allclose(second(lambda x: ops.log_softmax(x)[0])(x), wanted, rtol=1e-5)
        np.testing.assert_allclose(second(lambda x: ops.max(x, axis=-1) ** 2)(x), np.outer([0, 1, 1], [0, 1, 1]) / 2, atol=1e-6)
    assert ops.max(ops.asarray(np.ones((2, 3), "float32"))).shape == ()
    assert ops.max(ops.asarray(np.ones((2, 3), "float32")), axis=0, keepdims=True).shape == (1, 3)


@pytest.mark.parametrize("name", ["log_cosh", "huber", "binary_crossentropy", "cosine_similarity"])
def test_the_backward_pass_of_jax_is_one_compiled_function_of_the_input(backend, name):
    """Op by op, or from every intermediate of the forward pass, it takes ten times as long."""
    if backend.name != "jax":
        pytest.skip("JAX alone differentiates what is compiled")
    import jax

    y_true, y_pred = jax.numpy.full((30, 40), 0.25), jax.numpy.full((30, 40), 0.75)
    _, tangent = jax.linearize(lambda p: getattr(lb, name)(y_true, p), y_pred)
    steps = jax.make_jaxpr(tangent)(y_pred)
    assert [step.primitive.name for step in steps.eqns] in (["jit"], ["pjit"])
    assert len(steps.consts) <= 2


def test_the_exact_adapter_meets_the_contract_in_its_values():
    pytest.importorskip("mpmath")
    check_backend(lb.get_backend("mpmath"))


def test_the_exact_adapter_gives_the_value_of_the_very_input():
    mpmath = pytest.importorskip("mpmath")
    error = np.array([[1e-4]], "float32")
    with lb.use_backend("mpmath"):
        (value,) = lb.log_cosh(np.zeros_like(error), error)
    with mpmath.workdps(40):
        assert mpmath.almosteq(value, mpmath.log(mpmath.cosh(mpmath.mpf(float(error[0, 0])))), rel_eps=1e-20)
    assert "mpmath" not in lb.available_backends()


def test_the_exact_adapter_takes_weights_and_masks():
    pytest.importorskip("mpmath")
    y, p = np.zeros((3, 1)), np.array([[1.0], [2.0], [3.0]])
    with lb.use_backend("mpmath"):
        assert lb.MeanSquaredError()(y, p, sample_weight=[1.0, 2.0, 0.0], mask=[True, True, False]) == 4.5
        assert lb.SparseCategoricalCrossentropy(ignore_class=1)([0, 1], np.array([[1.0, 0.0], [0.5, 0.5]]), sample_weight=[2.0, 1.0]) == 0


def numpy_adapter(**changes):
    """The NumPy adapter with some primitives replaced."""
    return type("Broken", (type(lb.get_backend("numpy")),), changes)()


@pytest.mark.parametrize(
    ("primitive", "wrong"),
    [
        ("abs", lambda self, x: x),
        ("log1p", lambda self, x: np.log(1 + x)),
        ("softplus", lambda self, x: np.log(1 + np.exp(x))),
        ("relu", lambda self, x: np.where(x > 0, x, 0.0)),
        ("clip", lambda self, x, low, high: np.clip(x, high, low)),
        ("maximum", lambda self, x, y: np.fmax(x, y)),
        ("times", lambda self, weight, x: weight * x),
        ("sum", lambda self, x, axis=None, keepdims=False: np.sum(x, axis=0 if axis == -1 else axis, keepdims=keepdims)),
        ("log_softmax", lambda self, x, axis=-1: np.log(np.exp(x) / np.exp(x).sum(axis, keepdims=True))),
        ("logsumexp", lambda self, x, axis=-1, keepdims=False: np.log(np.exp(x).sum(axis, keepdims=keepdims))),
        ("take_class", lambda self, x, ids, axis=-1: np.take_along_axis(x, np.expand_dims(ids, -1), -1).squeeze(-1) if axis == -1 else x[0]),
        ("one_hot", lambda self, ids, classes, dtype="float32": np.eye(classes)[ids].astype("float16")),
        ("cast", lambda self, x, dtype: x),
        ("asarray", lambda self, x, like=None: np.asarray(x)),
        ("where", lambda self, condition, x, y: np.where(condition, x, y).astype("float64")),
    ],
)
def test_check_backend_notices_a_wrong_primitive(primitive, wrong):
    with pytest.raises(AssertionError, match="breaks the Ops contract"), np.errstate(all="ignore"):
        check_backend(numpy_adapter(**{primitive: wrong}))


@pytest.mark.parametrize(
    ("primitive", "wrong"),
    [
        ("abs", "jnp.abs"),  # slope 1 at 0
        ("relu", "lambda self, x: jnp.maximum(x, 0)"),  # ½ at 0
        ("clip", "lambda self, x, low, high: jnp.clip(x, low, high)"),  # ½ at a bound
        ("abs", "lambda self, x: jnp.where(x > 0, x, jnp.where(x < 0, -x, jnp.where(x != x, jnp.nan, 0.0)))"),  # 0 at NaN
        ("divide", "lambda self, x, y: x / y"),  # 1/y flushed
        ("sqrt", "lambda self, x: jnp.sqrt(x)"),  # inf at 0
        ("stop_gradient", "lambda self, x: x"),
    ],
)
def test_check_backend_notices_a_wrong_gradient(primitive, wrong):
    jnp = pytest.importorskip("jax.numpy")
    function = eval(wrong, {"jnp": jnp})
    function = function if "lambda" in wrong else staticmethod(function)
    adapter = type("Broken", (type(lb.get_backend("jax")),), {primitive: function})()
    with pytest.raises(AssertionError, match="gradient of"):
        check_backend(adapter)


@pytest.mark.parametrize("x", [800.0, 3e4, 1e300])
def test_an_exponential_of_an_exponential_is_exact_and_quick(x):
    """It is an infinity, or its reciprocal 0, to whoever reads it; its digits would take for ever."""
    ops = lb.get_backend("mpmath")
    power = ops.exp(ops.asarray(np.array([x, -x])))
    assert ops.to_numpy(ops.exp(power)).tolist() == [np.inf, 1.0]
    assert ops.to_numpy(ops.exp(-power)).tolist() == [0.0, 1.0]
    assert ops.to_numpy(ops.log(power))[0] == pytest.approx(x) or x > 1e299


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own, in its first forward mode
def test_torch_slopes_in_forward_mode_and_second_derivatives():
    torch = pytest.importorskip("torch")
    ops, zeros, ones = lb.get_backend("torch"), torch.zeros(2, 3), torch.ones(2, 3)
    _, slope = torch.func.jvp(lambda x: ops.sqrt(ops.sum(ops.square(x), axis=-1)), (zeros,), (ones,))
    assert slope.tolist() == [0.0, 0.0]
    x = torch.tensor([-15.0, 0.0, 10.0, 15.0, 20.0], requires_grad=True)
    (slope,) = torch.autograd.grad(ops.softplus(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x)
    exact = x.detach().double().numpy()
    np.testing.assert_allclose(second, np.exp(-np.abs(exact)) / (1 + np.exp(-np.abs(exact))) ** 2, rtol=1e-5)


def test_torch_clips_what_numpy_has_not_and_what_a_processor_takes_for_0():
    torch = pytest.importorskip("torch")
    ops = lb.get_backend("torch")
    x = torch.tensor([-1.0, 0.0, 0.5, 2.0], dtype=torch.bfloat16, requires_grad=True)
    clipped = ops.clip(x, 0.0, 1.0)
    assert clipped.tolist() == [0.0, 0.0, 0.5, 1.0]
    assert torch.autograd.grad(clipped.sum(), x)[0].tolist() == [0.0, 1.0, 1.0, 0.0]
    assert torch.set_flush_denormal(True)
    try:
        x = torch.tensor([-1.0, 0.0, 1.0], requires_grad=True)
        assert torch.autograd.grad(ops.clip(x, 0.0, None).sum(), x)[0].tolist() == [0.0, 1.0, 1.0]
    finally:
        torch.set_flush_denormal(False)


def test_torch_make_fx_records_a_loss():
    torch = pytest.importorskip("torch")
    from torch.fx.experimental.proxy_tensor import make_fx

    y, p = torch.eye(3)[:2], torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    graph = make_fx(lb.cce)(y, p)
    np.testing.assert_allclose(graph(y, p), -np.log([0.5, 0.8]), rtol=1e-6)


def test_check_backend_says_how_far_off_a_number_is():
    class Careless(type(lb.get_backend("numpy"))):
        def sum(self, x, axis=None, keepdims=False):
            # One number after the other.
            return super().sum(x, axis, keepdims) if x.size < 1000 else np.cumsum(x, axis, dtype=x.dtype)[..., -1]

    with pytest.raises(AssertionError) as info:
        check_backend(Careless())
    lines = str(info.value).splitlines()[1:]
    assert [line.partition(": 8")[0].partition(": 1")[0].partition(": [")[0] for line in lines] == [
        "float32: sum of many",
        "float32: sum of many, axis=-1",
    ]
    assert all(line.endswith(" ulps off, 64 are allowed)") and float(line.split(" (up to ")[1].split()[0]) > 300 for line in lines)


def test_check_backend_notices_arrays_that_are_not_taken():
    def asarray(self, x, like=None):
        if any(stride < 0 for stride in np.asarray(x).strides):
            raise ValueError("negative strides")
        return np.asarray(x, dtype=None if like is None or isinstance(x, np.ndarray) else like.dtype)

    with pytest.raises(AssertionError, match="shapes_and_types: raised ValueError: negative strides"):
        check_backend(numpy_adapter(asarray=asarray))


def test_a_primitive_that_is_missing_is_named():
    with pytest.raises(TypeError, match=r"the adapter Half lacks is_tensor, asarray, .*, exp, .*squeeze, concat: lossbackend/ops\.py says") as info:
        type("Half", (ComposedOps,), {"name": "half", "square": staticmethod(np.square)})
    assert "square" not in str(info.value)
    primitives = {name: value for name, value in vars(type(lb.get_backend("numpy"))).items() if name in dir(Ops) and name != "name"}
    with pytest.raises(TypeError, match="the adapter Nameless lacks name:"):
        type("Nameless", (ComposedOps,), primitives)


@pytest.mark.parametrize(("derived", "from_what"), [("sqrt", "_root"), ("log1p", "_log1p"), ("max", "_largest"), ("log_softmax", "_floor")])
def test_what_a_primitive_is_derived_from_is_named(derived, from_what):
    own = {name: getattr(ComposedOps, name) for name in (derived, from_what)}
    with pytest.raises(NotImplementedError, match=f"the adapter Broken lacks {from_what}, "):
        getattr(numpy_adapter(_nowhere=ComposedOps._nowhere, **own), derived)(np.float32([1.0, 2.0]), **({"axis": -1} if derived == "max" else {}))
