"""What holds for any input: the exact value, gradients that are slopes, and samples that do not know of each other."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from samples import EVERY_LOSS, expected

import lossbackend as lb
from lossbackend.testing import strategies

# The same examples in every run; one shape, or JAX would compile for each.
EXAMPLES = settings(max_examples=15, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
SHAPE = (4, 3)
CASES = [(name, {}) for name in EVERY_LOSS] + [
    ("binary_crossentropy", {"from_logits": True}),
    ("binary_crossentropy", {"from_logits": True, "label_smoothing": 0.125}),
    ("categorical_crossentropy", {"from_logits": True}),
    ("categorical_crossentropy", {"label_smoothing": 0.125}),
    ("sparse_categorical_crossentropy", {"from_logits": True}),
    ("kl_divergence", {"from_logits": True}),
    ("poisson", {"log_input": True}),
    ("hinge", {"labels": "binary"}),
]
cases = pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{name}-{'-'.join(options) or 'plain'}" for name, options in CASES])

# Everything else is a sum of terms that are not negative. (Σ y(log y − log p) is not, because neither need sum to exactly 1.)
SIGNED = ("kl_divergence", "poisson", "cosine_similarity")
ULP = float(np.finfo("float32").eps)
TINY = float(np.finfo("float32").smallest_normal)


def pairs(name, options):
    # Squares of 1e15 are well inside float32, their thousandfold too: what overflows has its own tests.
    return strategies.pair(getattr(lb, name), SHAPE, limit=1e4 if options else 1e15, **options)


def evaluated(backend, name, options, y_true, y_pred):
    return backend.numpy(getattr(lb, name)(backend.tensor(y_true), backend.tensor(y_pred), **options))


def gradient(backend, name, options):
    """(y_true, y_pred) → the gradient of the sum; on JAX compiled once, not once per example."""
    function = getattr(lb, name)
    if backend.name != "jax":
        return lambda y_true, y_pred: backend.grad(lambda p: function(backend.tensor(y_true), p, **options), y_pred)
    jax = backend.module
    # The labels are constants: as a traced argument, those of sparse_categorical_crossentropy would be checked for NaN instead.
    compiled = jax.jit(jax.grad(lambda p, y: function(y, p, **options).sum()))
    return lambda y_true, y_pred: backend.numpy(compiled(backend.tensor(y_pred), backend.tensor(y_true)))


@cases
def test_every_sample_has_its_exact_loss_in_any_batch(backend, name, options):
    @EXAMPLES
    @given(pairs(name, options))
    def check(pair):
        y_true, y_pred = pair
        value, scale = expected(name, y_true, y_pred, **options)
        allowed = 4 * ULP * np.maximum(scale, np.abs(value)) + 4 * TINY
        got = evaluated(backend, name, options, y_true, y_pred)
        np.testing.assert_array_less(np.abs(got - value), allowed)
        assert name in SIGNED or (got >= 0).all()
        assert name != "cosine_similarity" or (np.abs(got) <= 1).all()
        reversed_batch = evaluated(backend, name, options, y_true[::-1].copy(), y_pred[::-1].copy())
        np.testing.assert_array_less(np.abs(reversed_batch[::-1] - value), allowed)
        np.testing.assert_array_less(np.abs(evaluated(backend, name, options, y_true[:1], y_pred[:1]) - value[:1]), allowed[:1])

    check()


@cases
def test_a_finite_loss_has_a_finite_gradient(differentiable, name, options):
    differentiate = gradient(differentiable, name, options)

    @EXAMPLES
    @given(pairs(name, options))
    def check(pair):
        assert np.isfinite(evaluated(differentiable, name, options, *pair)).all()
        assert np.isfinite(differentiate(*pair)).all()

    check()


@cases
@pytest.mark.parametrize("dtype", ["float64"])
def test_a_gradient_is_the_slope_between_neighbours(differentiable, dtype, name, options):
    """Central differences in float64, of the entries whose slopes on both sides agree: at a kink there is no slope, and the tables pin the rule."""
    differentiate = gradient(differentiable, name, options)
    compared = 0

    @EXAMPLES
    @given(strategies.pair(getattr(lb, name), SHAPE, dtype, limit=20.0, **options))
    def check(pair):
        nonlocal compared
        y_true, y_pred = pair
        got = differentiate(y_true, y_pred)
        middle = evaluated(differentiable, name, options, y_true, y_pred)
        longest = np.abs(y_pred).max(axis=-1)
        for entry in range(SHAPE[1]):
            step = np.zeros(SHAPE)
            step[:, entry] = 1e-5 * np.maximum(np.abs(y_pred[:, entry]), 1e-3 * np.where(longest > 0, longest, 1.0))
            width = step[:, entry]
            above = (evaluated(differentiable, name, options, y_true, y_pred + step) - middle) / width
            below = (middle - evaluated(differentiable, name, options, y_true, y_pred - step)) / width
            # What rounding makes of a difference, and the curvature of a logarithm.
            noise = 1e-14 * (1 + np.abs(middle)) / width
            smooth = np.abs(above - below) <= 1e-3 * np.abs(above) + 10 * noise
            # The cosine jumps at the zero vector.
            smooth &= (longest > 0) | (name != "cosine_similarity")
            compared += smooth.sum()
            wanted = (above + below) / 2
            assert (np.abs(got[:, entry] - wanted) <= 1e-5 * np.abs(wanted) + noise + 1e-7)[smooth].all()

    check()
    assert compared > 50


@pytest.mark.parametrize("dtype", ["float64"])
@pytest.mark.parametrize(
    ("name", "options", "hessian"),
    [
        ("mean_squared_error", {}, lambda z: np.eye(3) * 2 / 3),
        ("log_cosh", {}, lambda z: np.diag(1 / np.cosh(z) ** 2) / 3),
        ("huber", {}, lambda z: np.diag(np.abs(z) < 1) / 3),
        # diag(p) − ppᵀ, whatever the label.
        ("categorical_crossentropy", {"from_logits": True}, lambda z: np.diag(softmax(z)) - np.outer(softmax(z), softmax(z))),
        ("sparse_categorical_crossentropy", {"from_logits": True}, lambda z: np.diag(softmax(z)) - np.outer(softmax(z), softmax(z))),
        ("binary_crossentropy", {"from_logits": True}, lambda z: np.diag(np.exp(z) / (1 + np.exp(z)) ** 2) / 3),
    ],
)
def test_hessians_are_those_of_the_textbook(differentiable, dtype, name, options, hessian):
    y_true = np.array([1]) if name.startswith("sparse") else np.array([[0.0, 1.0, 0.0] if "crossentropy" in name else [0.0, 0.0, 0.0]])
    for z in ([0.0, 0.0, 0.0], [0.5, -1.5, 3.0]):
        wanted = hessian(np.array(z))
        for first in range(3):
            for second in range(first, 3):
                # Along the entries v alone, the derivative of the summed gradient is v ∘ Hv.
                along = np.zeros((1, 3))
                along[0, [first, second]] = 1.0
                v, rest = differentiable.tensor(along), differentiable.tensor((1 - along) * z)
                labels = differentiable.tensor(y_true)
                got = differentiable.second(lambda p, v=v, rest=rest, y=labels: getattr(lb, name)(y, rest + v * p, **options), np.array([z]))
                np.testing.assert_allclose(got, along * (wanted @ along[0]), rtol=1e-12, atol=1e-15)


def softmax(z):
    return np.exp(z) / np.exp(z).sum()


@cases
def test_a_nan_stays_in_its_sample(backend, name, options):
    @EXAMPLES
    @given(pairs(name, options))
    def check(pair):
        whole = evaluated(backend, name, options, *pair)
        for argument in range(2):
            changed = [array.copy() for array in pair]
            if changed[argument].dtype.kind == "f":
                changed[argument][1, 2] = math.nan
                got = evaluated(backend, name, options, *changed)
                np.testing.assert_array_equal(np.isnan(got), [False, True, False, False])
                np.testing.assert_array_equal(got[[0, 2, 3]], whole[[0, 2, 3]])

    check()
