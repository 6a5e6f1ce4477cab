"""Losses that ask for a margin of 1 between the classes.

What holds for every loss here: y_true and y_pred of different shapes are a ValueError (only (N,) with (N, 1) is understood), so is an option out of
its range, and a TypeError what holds no real numbers; the result has y_pred's dtype, float32 where that is half precision or no float.
"""

from lossbackend.definition import Labels, OneHot, Real, Sign, loss
from lossbackend.ops import Ops, Tensor

# Far beyond the kink for every label that is no subnormal number: 2⁻¹²⁶ times it is 1.
_FAR = 2.0**126


@loss
def hinge(ops: Ops, y_true: Sign, y_pred: Real, *, labels: Labels = "auto") -> Tensor:
    """Hinge loss, mean relu(1 − y'p), with labels y' = ±1; gradient 0 at the kink.

    y_true and y_pred have one shape [..., D], else ValueError; the result [...] is ≥ 0, of y_pred's dtype. ``labels`` says what y holds: "auto" maps
    0 to −1 and keeps the rest, so that {0, 1} and {−1, 1} are both understood; "pm1" keeps y as it is; "binary" is 2y − 1; anything else is a
    ValueError. Source: Keras 1.

    >>> hinge([[1.0, 0.0]], [[0.5, 0.5]])
    array([1.], dtype=float32)
    """
    return ops.mean(ops.relu(1.0 - _agreement(ops, y_true, y_pred, labels)), axis=-1)


@loss
def squared_hinge(ops: Ops, y_true: Sign, y_pred: Real, *, labels: Labels = "auto") -> Tensor:
    """Squared hinge loss, mean relu(1 − y'p)², with labels y' = ±1 as in ``hinge``.

    y_true and y_pred have one shape [..., D], else ValueError; the result [...] is ≥ 0, of y_pred's dtype. Source: Keras 1.

    >>> squared_hinge([[1.0, 0.0]], [[0.5, 0.5]])
    array([1.25], dtype=float32)
    """
    return ops.mean(ops.square(ops.relu(1.0 - _agreement(ops, y_true, y_pred, labels))), axis=-1)


@loss(min_classes=1)
def categorical_hinge(ops: Ops, y_true: OneHot, y_pred: Real) -> Tensor:
    """Categorical hinge loss, relu(1 + max((1 − y)p) − Σ y p), for one-hot y.

    y_true and y_pred have one shape [..., C], else ValueError; the result [...] is ≥ 0, of y_pred's dtype. The true class takes part in the maximum
    as 0. Source: Keras 2.0.5.

    >>> categorical_hinge([[0.0, 1.0, 0.0]], [[0.5, 1.0, -1.0]])
    array([0.5], dtype=float32)
    """
    wrong = ops.max(ops.times(1.0 - y_true, y_pred), axis=-1)
    right = ops.sum(ops.times(y_true, y_pred), axis=-1)
    return ops.relu(1.0 + wrong - right)


def _agreement(ops: Ops, y_true: Tensor, y_pred: Tensor, labels: str) -> Tensor:
    """y'p. Labels become ±1 entry by entry: what one batch happens to hold never changes what a label means."""
    if labels == "binary":
        y_true = 2.0 * y_true - 1.0
    elif labels == "auto":
        y_true = ops.where(ops.equal(y_true, 0), -1.0, y_true)
    # Beyond the kink it does not matter how far: a finite p in place of an infinite one keeps 0 · inf out of the loss and of the slopes.
    endless = ops.isinf(y_pred) & ~(y_true * y_pred < 1.0)
    return y_true * ops.where(endless, ops.clip(y_pred, -_FAR, _FAR), y_pred)
