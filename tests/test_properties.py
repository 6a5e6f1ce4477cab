"""What holds for any input: the exact value, finite gradients, and samples that do not know of each other."""

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
