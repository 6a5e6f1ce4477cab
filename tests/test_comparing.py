"""assert_parity agrees where backends agree, and says what differs where they do not."""

import numpy as np
import pytest
from conftest import chosen_backends, load
from samples import EVERY_LOSS, sample

import lossbackend as lb
from lossbackend.testing import Backend, assert_parity

ZEROS, ERRORS = np.zeros((2, 2), "float32"), np.array([[1.0, 2.0], [1e-3, 0.0]], "float32")


@pytest.fixture(scope="module", autouse=True)
def two_backends():
    if len(chosen_backends()) < 2:
        pytest.skip("comparing takes two backends")
    for name in chosen_backends():
        load(name)


@pytest.fixture
def torch():
    return load("torch").module


@pytest.fixture
def jnp():
    return load("jax").module.numpy


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_every_loss_agrees(name):
    assert_parity(getattr(lb, name), *sample(name), backends=chosen_backends())


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_dtypes_and_loss_objects(dtype):
    y_true, y_pred = sample("huber", dtype=dtype)
    assert_parity(lb.Huber(), y_true, y_pred, backends=chosen_backends(), sample_weight=np.arange(4.0))


def test_agrees_where_the_value_cancels():
    assert_parity(lb.poisson, np.full((1, 3), np.e, "float32"), np.full((1, 3), np.e, "float32"), backends=chosen_backends())
    extreme = np.array([[np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-38]], "float32")
    for y_true in (np.zeros_like(extreme), np.ones_like(extreme)):
        assert_parity(lb.bce, y_true.T, extreme.T, backends=chosen_backends(), from_logits=True)


def test_a_refusal_of_every_backend_is_parity():
    assert_parity(lb.scce, [0, 7], [[0.5, 0.5], [0.5, 0.5]], backends=chosen_backends())
    assert_parity(lb.mse, np.zeros(2), np.zeros(3), backends=chosen_backends())


def test_a_mistake_in_the_test_is_not():
    with pytest.raises(TypeError, match="unknown option 'axsi', did you mean 'axis'"):
        assert_parity(lb.scce, [0], [[0.5, 0.5]], axsi=0)
    with pytest.raises(TypeError, match="sample_wieght"):
        assert_parity(lb.Huber(), ZEROS, ERRORS, sample_wieght=1)
    with pytest.raises(NameError):
        assert_parity(lambda y, p: undefined, ZEROS, ERRORS, backends=chosen_backends())  # noqa: F821
    with pytest.raises(ValueError, match="needs two backends to compare, got numpy"):
        assert_parity(lb.mse, ZEROS, ERRORS, backends=["numpy"])
    with pytest.raises(ValueError, match="Did you mean 'torch'"):
        assert_parity(lb.mse, ZEROS, ERRORS, backends=["trch", "numpy"])
    with pytest.raises(TypeError, match="list of names"):
        assert_parity(lb.mse, ZEROS, ERRORS, backends="numpy")
    with pytest.raises(ValueError, match="no function for the backend jax"):
        assert_parity({"numpy": lb.mse, "torch": lb.mse}, ZEROS, ERRORS, backends=["numpy", "jax"])
    with pytest.raises(TypeError, match="must be callable, got 'mse'"):
        assert_parity("mse", ZEROS, ERRORS)


def test_two_functions_that_agree(torch, jnp):
    def in_torch(y_true, y_pred, weight):
        assert isinstance(weight, torch.Tensor)
        return (weight * (y_pred - y_true) ** 2).mean()

    def in_jax(y_true, y_pred, weight):
        return jnp.mean(weight * (y_pred - y_true) ** 2)

    weight = np.array([[1.0, 2.0]], "float32")
    assert_parity({"pytorch": in_torch, "jax": in_jax}, ZEROS, ERRORS, weight=weight)
    assert_parity({"torch": in_torch, "jax": in_jax}, ZEROS.astype("float64"), ERRORS.astype("float64"), weight=weight.astype("float64"))


def test_a_value_that_differs(torch, jnp):
    def naive(y_true, y_pred):
        return torch.log(torch.cosh(y_pred - y_true)).mean(dim=-1)

    with pytest.raises(AssertionError) as caught:
        assert_parity({"torch": naive, "jax": lb.log_cosh}, ZEROS, ERRORS)
    header, blank, *table = str(caught.value).split("\n")
    assert header == "naive and log_cosh: the backends disagree in the value at index 1 (1 of 2 entries; rtol 3.81e-06)"
    assert blank == ""
    assert table[0].split() == ["backend", "value", "ulps", "from", "torch"]
    assert table[1].split()[0] == "torch"
    assert table[1].split()[2] == "0"
    assert table[2].split()[:2] == ["jax", "2.5e-07"]
    assert float(table[2].split()[2]) > 1e5
    assert table[-1].startswith("y_pred[1] = [0.001, 0.")
    assert_parity({"torch": naive, "jax": lb.log_cosh}, ZEROS, ERRORS, atol=1e-7, gradients=False)


def test_a_difference_of_one_definition_names_the_exact_value():
    pytest.importorskip("mpmath")

    @lb.loss
    def crooked(ops, y_true, y_pred):
        factor = 1.0 if ops.name in ("numpy", "mpmath") else 1.0001
        return factor * ops.mean(ops.square(y_pred - y_true), axis=-1)

    other = next(name for name in chosen_backends() if name != "numpy")
    with pytest.raises(AssertionError, match=r"crooked: .* at index 0 \(2 of 2 entries.*\n\n.*\nnumpy +2.5 +0\n.* +2.50025 +\d+\nexact +2.5 +0\n"):
        assert_parity(crooked, ZEROS, ERRORS, backends=["numpy", other])


def test_other_differences(torch, jnp):
    def kink(y_true, y_pred):
        return abs(y_pred - y_true).mean(-1)

    with pytest.raises(AssertionError, match=r"the gradient at index \(1, 1\) \(1 of 4 entries(.|\n)*torch +0.0(.|\n)*jax +0.5"):
        assert_parity({"torch": kink, "jax": kink}, ZEROS, ERRORS)
    assert_parity({"torch": kink, "jax": kink}, ZEROS, ERRORS, gradients=False)
    with pytest.raises(AssertionError, match=r"the shape of the result\n\nbackend  shape\ntorch    \(2,\)\njax      \(\)"):
        assert_parity({"torch": kink, "jax": lambda y, p: kink(y, p).sum()}, ZEROS, ERRORS)
    with pytest.raises(AssertionError, match=r"the dtype of the result\n\nbackend  dtype\ntorch    float32\njax      bfloat16"):
        assert_parity({"torch": kink, "jax": lambda y, p: kink(y, p).astype("bfloat16")}, ZEROS, ERRORS)
    with pytest.raises(AssertionError, match=r"what the call does\n\nbackend +outcome\ntorch +RuntimeError: all elements .*\njax +a result"):
        assert_parity({"torch": torch.nn.functional.binary_cross_entropy, "jax": kink}, ZEROS, ERRORS)
    with pytest.raises(AssertionError, match=r"torch +nan +0\njax +0.0 +-") as caught:
        assert_parity({"jax": lambda y, p: p.sum(-1) * 0, "torch": lambda y, p: p.sum(-1) * float("nan")}, ZEROS, ERRORS, backends=["torch", "jax"])
    assert "index 0 (2 of 2 entries" in str(caught.value)


def test_input_is_not_shared():
    def careless(y_true, y_pred):
        y_pred *= 0
        return y_pred.sum(-1)

    y_pred = ERRORS.copy()
    assert_parity({"numpy": careless, "mpmath": careless}, ZEROS, y_pred)
    np.testing.assert_array_equal(y_pred, ERRORS)


def test_backend_handle(backend):
    handle = Backend(backend.name)
    assert repr(handle) == backend.name
    assert backend.is_native(handle.tensor([0.5]))
    assert handle.dtype(handle.tensor([0.5])) == "float32"
    assert handle.dtype(handle.tensor([1])) in ("int64", "int32")
    assert handle.dtype(handle.tensor(np.zeros(1, "float16"))) == "float16"
    with handle.double_precision():
        assert handle.dtype(handle.tensor(np.zeros(1))) == "float64"
        assert handle.dtype(handle.tensor([1.0], dtype="float64")) == "float64"
    if backend.grad is None:
        with pytest.raises(NotImplementedError, match="numpy does not differentiate"):
            handle.value_and_grad(lambda p: p, handle.tensor([1.0]))
    else:
        half = handle.tensor([0.5, 2.0], dtype="bfloat16")
        assert handle.dtype(half) == "bfloat16"
        value, gradient = handle.value_and_grad(lambda p: lb.mse(0 * p, p), half)
        assert float(handle.numpy(value)) == 2.125
        np.testing.assert_array_equal(handle.numpy(gradient), [0.5, 2.0])


def misspelt(ops, y_true, y_pred):
    return ops.mean(ops.square(y_pred - y_true), axi=-1)


def not_reduced(ops, y_true, y_pred):
    return ops.square(y_pred - y_true)


@pytest.mark.parametrize("formula", [misspelt, not_reduced])
def test_a_mistake_in_a_formula_is_no_refusal(formula):
    """Every backend raises alike, and still nothing was compared."""
    with pytest.raises((TypeError, ValueError)):
        assert_parity(lb.loss(formula), [[0.0, 1.0]], [[1.0, 1.0]], backends=["numpy", "mpmath"])


def test_a_refusal_of_a_loss_is_parity():
    assert_parity(lb.scce, [5], [[0.5, 0.5]], backends=["numpy", "mpmath"])


def test_tensors_are_told_to_be_arrays():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="expected a NumPy array or numbers"):
        assert_parity(lb.mse, [[0.0]], torch.ones(1, 1, requires_grad=True), backends=["numpy", "mpmath"])
