"""``lb.jit`` and ``lb.value_and_grad``: against the exact formula, for functions, objects and a user's own loss, natively and for NumPy."""

import copy
import importlib
import pickle

import conftest
import numpy as np
import pytest
import reference

import lossbackend as lb
from lossbackend import transforms

# torch's own, from inside its compiler.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")

rng = np.random.default_rng(5)
REAL, OTHER = rng.normal(size=(6, 3)).astype("float32"), (2 * rng.normal(size=(6, 3))).astype("float32")
SHARES = rng.dirichlet(np.ones(3), size=6).astype("float32")
IDS = np.array([0, 2, 1, 0, 2, 1])
WEIGHTS, MASK = np.array([1.0, 2.0, 0.0, 0.5, 3.0, 1.0]), np.array([True, True, True, False, True, True])


def value_and_grad(loss):
    """lb.value_and_grad, where NumPy has somebody to borrow a gradient from."""
    if not any(conftest.FRAMEWORKS[name].installed() for name in ("torch", "jax", "tensorflow")):
        pytest.skip("no framework is installed that differentiates")
    return lb.value_and_grad(loss)


@lb.loss
def quartic(ops, y_true, y_pred, scale=1.0):
    return scale * ops.mean(ops.square(ops.square(y_pred - y_true)), axis=-1)


def exact(name, y_true, y_pred, **options):
    """Losses, and the gradient of each by its own predictions."""
    pairs = list(zip(y_true.tolist(), y_pred.astype("float64").tolist(), strict=True))
    values = [float(reference.value(name, y, p, **options)[0]) for y, p in pairs]
    return np.array(values), np.array([[float(slope) for slope in reference.gradient(name, y, p, **options)] for y, p in pairs])


def own(y_true, y_pred, scale=1.0):
    error = y_pred.astype("float64") - y_true
    return scale * (error**4).mean(axis=-1), scale * 4 * error**3 / 3


# loss, labels, predictions, options, (losses, gradient of each by its predictions)
CASES = {
    "function": (lb.log_cosh, REAL, OTHER, {}, exact("log_cosh", REAL, OTHER)),
    "function-option": (lb.huber, REAL, OTHER, {"delta": 0.5}, exact("huber", REAL, OTHER, delta=0.5)),
    "class ids": (lb.scce, IDS, OTHER, {"from_logits": True}, exact("sparse_categorical_crossentropy", IDS, OTHER, from_logits=True)),
    "own": (quartic, REAL, OTHER, {"scale": 2.0}, own(REAL, OTHER, 2.0)),
    "object": (lb.Huber(0.5), REAL, OTHER, {}, exact("huber", REAL, OTHER, delta=0.5)),
    "object-weights": (lb.MeanSquaredError(), REAL, OTHER, {"sample_weight": WEIGHTS, "mask": MASK}, exact("mean_squared_error", REAL, OTHER)),
}
every_case = pytest.mark.parametrize("case", CASES)


def wanted(case):
    """(what the loss returns, mean, gradient of the mean)."""
    loss, _, _, options, (values, slopes) = CASES[case]
    weights = options.get("sample_weight", np.ones(6)) * options.get("mask", np.ones(6))
    count = options.get("mask", np.ones(6)).sum()
    mean = (weights * values).sum() / count
    return values if callable(getattr(loss, "definition", None)) or hasattr(loss, "definition") else mean, mean, weights[:, None] * slopes / count


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=4e-6, atol=1e-7)


@every_case
def test_jit(backend, case):
    loss, y_true, y_pred, options, _ = CASES[case]
    result = lb.jit(loss)(backend.tensor(y_true), backend.tensor(y_pred), **options)
    assert backend.is_native(result)
    assert_close(backend.numpy(result), wanted(case)[0])


@every_case
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_value_and_grad(backend, case, compiled):
    """NumPy borrows another framework, and gets arrays back."""
    loss, y_true, y_pred, options, _ = CASES[case]
    function = lb.jit(value_and_grad(loss)) if compiled else value_and_grad(loss)
    value, gradient = function(backend.tensor(y_true), backend.tensor(y_pred), **options)
    assert backend.is_native(value)
    assert backend.is_native(gradient)
    assert_close(backend.numpy(value), wanted(case)[1])
    assert_close(backend.numpy(gradient), wanted(case)[2])
    again, _ = value_and_grad(lb.jit(loss))(backend.tensor(y_true), backend.tensor(y_pred), **options)
    assert_close(backend.numpy(again), wanted(case)[1])


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_the_gradient_has_the_dtype_of_the_predictions(backend, dtype):
    with backend.double_precision():
        value, gradient = value_and_grad(lb.mse)(backend.tensor(REAL.astype(dtype)), backend.tensor(OTHER.astype(dtype)))
    assert (backend.dtype(value), backend.dtype(gradient)) == ("float64" if dtype == "float64" else "float32", dtype)


@pytest.mark.parametrize("transform", [lb.jit, value_and_grad], ids=["jit", "value_and_grad"])
def test_lists_and_arrays_beside_a_tensor(backend, transform):
    plain = {"y_true": REAL, "y_pred": OTHER}
    for argument in plain:
        for convert in (np.asarray, np.ndarray.tolist):
            mixed = {**plain, argument: backend.tensor(plain[argument])}
            mixed = {name: value if name == argument else convert(value) for name, value in mixed.items()}
            result = transform(lb.mse)(**mixed)
            result = result[0] if isinstance(result, tuple) else result
            assert backend.is_native(result)
            assert_close(np.mean(backend.numpy(result)), exact("mean_squared_error", REAL, OTHER)[0].mean())


def test_what_is_selected_runs_input_that_names_no_framework(differentiable):
    with lb.use_backend(differentiable.name):
        assert differentiable.is_native(lb.jit(lb.mse)(REAL, OTHER))
        assert all(differentiable.is_native(result) for result in value_and_grad(lb.mse)(REAL, OTHER))


def test_an_empty_batch(backend):
    value, gradient = value_and_grad(lb.mse)(backend.tensor(REAL[:0]), backend.tensor(OTHER[:0]))
    assert float(backend.numpy(value)) == 0
    assert backend.shape(gradient) == (0, 3)


def test_many_losses_and_options(differentiable):
    """torch stops compiling after eight versions of one code object."""
    y_true, y_pred = differentiable.tensor(SHARES), differentiable.tensor(SHARES[::-1].copy())
    for function in lb.registry.functions().values():
        if not function.definition.sparse:
            assert differentiable.shape(lb.jit(function)(y_true, y_pred)) == (6,)
    huber = lb.jit(lb.huber)
    for tenths in range(1, 11):
        values, _ = exact("huber", SHARES, SHARES[::-1], delta=tenths / 10)
        assert_close(differentiable.numpy(huber(y_true, y_pred, tenths / 10)), values)


def test_a_compiled_loss_keeps_no_old_epsilon(differentiable):
    zero, one = differentiable.tensor(np.zeros((1, 1), "float32")), differentiable.tensor(np.ones((1, 1), "float32"))
    compiled = lb.jit(lb.bce)
    for epsilon in (1e-7, 0.25):
        lb.set_epsilon(epsilon)
        assert_close(differentiable.numpy(compiled(one, zero)), [-np.log(epsilon)])


def test_a_bad_class_id_is_nan(differentiable):
    values = differentiable.numpy(lb.jit(lb.scce)(np.array([0, 3, 2**32 + 1]), differentiable.tensor(SHARES[:3])))
    np.testing.assert_array_equal(np.isnan(values), [False, True, True])


@pytest.mark.parametrize("ids", [[0, 7], [0, 1.5], [0, -1]], ids=str)
def test_a_bad_class_id_is_an_error_where_nobody_asked_for_a_compiler(backend, ids):
    """And so says the message, with what came in."""
    half = backend.tensor(np.full((2, 2), 0.5, "float32"))
    for y_true in (np.array(ids), ids, backend.tensor(np.array(ids))):
        with pytest.raises(ValueError, match=f"sparse_categorical_crossentropy.*{ids[1]} at index 1"):
            value_and_grad(lb.scce)(y_true, half)


def test_a_bad_mask_is_an_error(backend):
    zeros = backend.tensor(np.zeros((2, 2), "float32"))
    with pytest.raises(ValueError, match="mask must hold True and False"):
        value_and_grad(lb.MeanSquaredError())(zeros, zeros, mask=backend.tensor(np.array([2.0, 0.0])))


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_predictions_that_are_no_floats(backend, dtype):
    y_true, y_pred = np.zeros((1, 2)), np.array([[1, 0]], dtype)
    value, gradient = value_and_grad(lb.mse)(backend.tensor(y_true.astype("float32")), backend.tensor(y_pred))
    assert float(backend.numpy(value)) == 0.5
    assert backend.dtype(gradient) == "float32"
    assert backend.numpy(gradient).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("transform", [lb.jit, value_and_grad], ids=["jit", "value_and_grad"])
def test_a_mistake_is_told_as_by_the_loss_itself(backend, transform):
    with pytest.raises(ValueError, match="mean_squared_error: y_true and y_pred must have the same shape"):
        transform(lb.mse)(backend.tensor(REAL), backend.tensor(OTHER[:, :2].copy()))


def test_an_option_that_is_a_list(backend):
    @lb.loss
    def weighted(ops, y_true, y_pred, *, weights):
        return ops.mean(ops.square(y_pred - y_true) * ops.asarray(weights, like=y_pred), axis=-1)

    zeros, ones = backend.tensor(np.zeros((1, 2), "float32")), backend.tensor(np.ones((1, 2), "float32"))
    for weights, wanted in (([1.0, 3.0], 2.0), ([1.0, 5.0], 3.0)):
        assert float(backend.numpy(lb.jit(weighted)(zeros, ones, weights=weights))[0]) == wanted
        assert float(backend.numpy(value_and_grad(weighted)(zeros, ones, weights=weights)[0])) == wanted


def test_the_gradient_of_a_compiled_loss(differentiable):
    compiled = lb.jit(lb.log_cosh)
    slopes = differentiable.grad(lambda p: compiled(differentiable.tensor(REAL), p), OTHER)
    assert_close(slopes, exact("log_cosh", REAL, OTHER)[1])


def test_inside_the_transforms_of_torch():
    torch = conftest.load("torch").module
    compiled, y_true, y_pred = lb.jit(lb.log_cosh), torch.tensor(REAL), torch.tensor(OTHER)
    assert_close(torch.func.grad(lambda p: compiled(y_true, p).sum())(y_pred), exact("log_cosh", REAL, OTHER)[1])
    nested = torch.compile(lambda y, p: compiled(y, p) + 1.0, fullgraph=True, backend="eager")
    assert_close(nested(y_true, y_pred), exact("log_cosh", REAL, OTHER)[0] + 1)


def test_a_pinned_loss_stays_pinned():
    backend = conftest.load("torch")
    pinned = importlib.import_module("lossbackend.torch")
    for loss in (pinned.mse, pinned.MeanSquaredError()):
        assert backend.is_native(lb.jit(loss)(REAL, OTHER))
        assert all(backend.is_native(result) for result in value_and_grad(loss)(REAL, OTHER))


def test_pickle_copy_and_print():
    function = lb.jit(lb.value_and_grad(lb.Huber(2.0)))
    assert repr(function) == f"jit(value_and_grad({lb.Huber(2.0)!r}))"
    assert repr(lb.jit(lb.mse)) == "jit(mean_squared_error)"
    for same in (pickle.loads(pickle.dumps(function)), copy.deepcopy(function)):
        assert repr(same) == repr(function)


def test_without_a_framework_there_is_no_gradient(monkeypatch):
    monkeypatch.setattr(transforms, "_LENDERS", ("no_such_framework",))
    with pytest.raises(ImportError, match=r'pip install "lossbackend\[torch\]"'):
        lb.value_and_grad(lb.mse)(REAL, OTHER)


@pytest.mark.parametrize("transform", [lb.jit, value_and_grad], ids=["jit", "value_and_grad"])
@pytest.mark.parametrize("wrong", [3, "mse", np.mean, None, lb.Huber], ids=["number", "name", "function", "None", "class"])
def test_what_is_no_loss(transform, wrong):
    with pytest.raises(TypeError, match=f"{transform.__name__}: expected a loss function or a loss object"):
        transform(wrong)


def test_nothing_to_differentiate_without_a_reduction():
    with pytest.raises(ValueError, match="reduces nothing"):
        lb.value_and_grad(lb.MeanSquaredError(reduction="none"))


@pytest.mark.parametrize("arguments", [(), (REAL,), (REAL, OTHER, None, None, 1)], ids=len)
def test_wrong_arguments_of_an_object(arguments):
    with pytest.raises(TypeError, match="takes y_true, y_pred, sample_weight and mask"):
        lb.jit(lb.Huber())(*arguments)
    with pytest.raises(TypeError, match="delta"):
        lb.jit(lb.Huber())(REAL, OTHER, delta=2.0)
