"""Losses of real numbers. e = p − y is the error, and the mean goes over the last axis.

What holds for every loss here: y_true and y_pred of different shapes are a ValueError (only (N,) with (N, 1) is understood), so is an option out of
its range, and a TypeError what holds no real numbers; the result has y_pred's dtype, float32 where that is half precision or no float.
"""

import math

from lossbackend.definition import Amount, Axis, Epsilon, Positive, Real, loss
from lossbackend.ops import Ops, Tensor

# cosh e − 1 = e²/2! + e⁴/4! + …, backwards. Up to ½, what follows e¹⁴/14! is nothing to float64, and what follows e⁸/8! nothing to float32.
_COSH_MINUS_1 = tuple(1 / math.factorial(2 * k) for k in range(7, 0, -1))
_COSH_MINUS_1_SHORT = _COSH_MINUS_1[-4:]


@loss(aliases=("mse", "MSE"))
def mean_squared_error(ops: Ops, y_true: Real, y_pred: Real) -> Tensor:
    """Mean squared error, mean e².

    y_true and y_pred have one shape [..., D], else ValueError; the result [...] is ≥ 0, of y_pred's dtype. Source: Keras 1.

    >>> mean_squared_error([[0.0, 1.0]], [[1.0, 3.0]])
    array([2.5], dtype=float32)
    """
    return ops.mean(ops.square(y_pred - y_true), axis=-1)


@loss(aliases=("mae", "MAE"))
def mean_absolute_error(ops: Ops, y_true: Real, y_pred: Real) -> Tensor:
    """Mean absolute error, mean |e|; gradient 0 at e = 0.

    y_true and y_pred have one shape [..., D], else ValueError; the result [...] is ≥ 0, of y_pred's dtype. Source: Keras 1.

    >>> mean_absolute_error([[0.0, 1.0]], [[1.0, 3.0]])
    array([1.5], dtype=float32)
    """
    return ops.mean(ops.abs(y_pred - y_true), axis=-1)


@loss(aliases=("mape", "MAPE"))
def mean_absolute_percentage_error(ops: Ops, y_true: Real, y_pred: Real, *, epsilon: Epsilon = None) -> Tensor:
    """Mean absolute percentage error, 100 · mean(|e| / max(|y|, ε)), in percent.

    y_true and y_pred have one shape [..., D], else ValueError; the result [...] is ≥ 0, of y_pred's dtype; ε = ``epsilon``, in (0, 1), epsilon() by
    default. Source: Keras 1.

    >>> mean_absolute_percentage_error([[2.0, 4.0]], [[1.0, 5.0]])
    array([37.5], dtype=float32)
    """
    # Every finite p is 100 % away from an infinite y, where inf / inf would be NaN.
    endless = ops.isinf(y_true) & (ops.abs(ops.stop_gradient(y_pred)) < math.inf)
    y_true = ops.where(endless, 1.0, y_true)
    relative = ops.abs(y_pred - y_true) / ops.maximum(ops.abs(y_true), epsilon)
    return 100.0 * ops.mean(ops.where(endless, 1.0, relative), axis=-1)


@loss(aliases=("msle", "MSLE"))
def mean_squared_logarithmic_error(ops: Ops, y_true: Amount, y_pred: Real, *, epsilon: Epsilon = None) -> Tensor:
    """Mean squared logarithmic error, mean (log(1 + max(p, ε)) − log(1 + max(y, ε)))²; gradient 0 at p < ε.

    y_true and y_pred have one shape [..., D], else ValueError; the result [...] is ≥ 0, of y_pred's dtype; ε = ``epsilon``, in (0, 1), epsilon() by
    default. Source: Keras 1.

    >>> mean_squared_logarithmic_error([[0.0]], [[1.0]])
    array([0.48045...], dtype=float32)
    """
    ratio = ops.log1p(ops.maximum(y_pred, epsilon)) - ops.log1p(ops.maximum(y_true, epsilon))
    return ops.mean(ops.square(ratio), axis=-1)


@loss(aliases=("logcosh",))
def log_cosh(ops: Ops, y_true: Real, y_pred: Real) -> Tensor:
    """Logarithm of the hyperbolic cosine of the error, mean log cosh e: e²/2 near 0, |e| − log 2 far out; gradient tanh(e).

    y_true and y_pred have one shape [..., D], else ValueError; the result [...] is ≥ 0, of y_pred's dtype. Source: Keras 2.0.4.

    >>> log_cosh([[0.0]], [[1.0]])
    array([0.43378...], dtype=float32)
    """
    # Near 0, cosh e rounds to 1, and every form that takes its logarithm is all error. Up to ½, log1p of the series of cosh e − 1 is not. Beyond,
    # with |e| = ½ + t, cosh e = eᵗ · cosh ½ · (1 + k(e^(−2t) − 1)), where k = 1 / (exp 1 + 1), overflows nowhere. At t = 0 the one is the other,
    # exactly, so that nothing has to be selected: where nothing is compiled, a selection costs as much as thirty additions.
    error = y_pred - y_true
    near = ops.clip(error, -0.5, 0.5)
    square = ops.square(near)
    first, *others = _COSH_MINUS_1_SHORT if ops.dtype(error) == "float32" else _COSH_MINUS_1
    series = first * square
    for coefficient in others:
        series = (series + coefficient) * square
    beyond = ops.abs(error - near)
    decay = ops.expm1(-2.0 * beyond) / (math.e + 1.0)
    return ops.mean(beyond + ops.log1p(series + decay * (1.0 + series)), axis=-1)


@loss(aliases=("huber_loss",))
def huber(ops: Ops, y_true: Real, y_pred: Real, delta: Positive = 1.0) -> Tensor:
    """Huber loss, mean(½q² + δ relu(|e| − δ)) with q = clip(e, −δ, δ): e²/2 up to δ, a line of slope δ from there.

    y_true and y_pred have one shape [..., D], else ValueError; the result [...] is ≥ 0, of y_pred's dtype; δ > 0, else ValueError. Source: Huber,
    Annals of Mathematical Statistics 35 (1964) 73.

    >>> huber([[0.0, 0.0]], [[0.5, 3.0]])
    array([1.3125], dtype=float32)
    """
    error = y_pred - y_true
    near = ops.clip(error, -delta, delta)
    # |e| − |q| is the same number as relu(|e| − δ), but its slope near 0 is δ − δ, which rounds the slope of ½q² away.
    return ops.mean(0.5 * ops.square(near) + delta * ops.relu(ops.abs(error) - delta), axis=-1)


@loss(aliases=("cosine_proximity", "cosine"))
def cosine_similarity(ops: Ops, y_true: Real, y_pred: Real, axis: Axis = -1) -> Tensor:
    """Negative cosine of the angle between y and p, −Σ ŷ p̂ along ``axis``: −1 for the same direction, 1 for the opposite one.

    y_true and y_pred have one shape, else ValueError; the result is without ``axis``, in [−1, 1], of y_pred's dtype. A zero vector gives 0, with
    gradient 0. Source: Keras 2.3.

    >>> cosine_similarity([[3.0, 4.0]], [[4.0, 3.0]])
    array([-0.96...], dtype=float32)
    """
    (y, y_norm), (p, p_norm) = _scaled(ops, y_true, axis), _scaled(ops, y_pred, axis)
    norms = y_norm * p_norm
    zero = ops.equal(norms, 0)
    cosine = ops.where(zero, 0.0, ops.sum(y * p, axis=axis) / ops.where(zero, 1.0, norms))
    # Rounding may leave [−1, 1]. The step back into it is a constant to the gradient, which a plain clip would cut off at parallel vectors.
    return 0.0 - (cosine + ops.stop_gradient(ops.clip(cosine, -1.0, 1.0) - cosine))


def _scaled(ops: Ops, vector: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The vector over its largest entry, and the norm of that: 1 or more, or 0."""
    # Squares of 1e-25 or 1e25 leave the range of float32. The direction of the scaled vector is the same, and a constant factor has no part in it.
    largest = ops.stop_gradient(ops.max(ops.abs(vector), axis=axis, keepdims=True))
    scaled = ops.divide(vector, ops.where(ops.equal(largest, 0), 1.0, largest))
    return scaled, ops.sqrt(ops.sum(ops.square(scaled), axis=axis))
