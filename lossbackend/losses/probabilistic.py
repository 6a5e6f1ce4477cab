"""Losses of probabilities, logits and rates. log is the natural logarithm, ε is epsilon() by default, ỹ are smoothed labels.

What holds for every loss here: y_true and y_pred of different shapes are a ValueError (only (N,) with (N, 1) is understood), so is an option out of
its range, and a TypeError what holds no real numbers; the result has y_pred's dtype, float32 where that is half precision or no float.
"""

import math
from typing import Any

from lossbackend.definition import (
    Axis,
    ClassId,
    ClassIds,
    ClassWeight,
    Count,
    Distribution,
    DistributionOrLogits,
    Epsilon,
    Flag,
    Fraction,
    PosWeight,
    Probability,
    ProbabilityOrLogit,
    RateOrLog,
    along_axis,
    loss,
)
from lossbackend.ops import Ops, Tensor


@loss(aliases=("cce",), min_classes=2)
def categorical_crossentropy(
    ops: Ops,
    y_true: Distribution,
    y_pred: DistributionOrLogits,
    from_logits: Flag = False,
    label_smoothing: Fraction = 0.0,
    *,
    axis: Axis = -1,
    epsilon: Epsilon = None,
    class_weight: ClassWeight = None,
) -> Tensor:
    """Cross-entropy of one-hot labels or class probabilities, −Σ w ỹ log p along the class axis, with ỹ = y(1 − α) + α/C.

    y_true and y_pred have one shape, else ValueError; the result is without ``axis``, ≥ 0 for labels in [0, 1], of y_pred's dtype. Probabilities are
    divided by their sum and clipped to [ε, 1], so a loss is at most 16.118 and has gradient 0 there; with ``from_logits`` log p = log_softmax(z),
    which saturates nowhere. α is ``label_smoothing`` in [0, 1]; w is ``class_weight``, C numbers or {class: weight}. ValueError for C = 1, and for
    integer class ids (see sparse_categorical_crossentropy). Source: Keras 1; label smoothing: Szegedy et al., CVPR 2016, section 7.

    >>> categorical_crossentropy([[0.0, 1.0]], [[0.5, 0.5]])
    array([0.69314...], dtype=float32)
    """
    log_p = _log_probability(ops, y_pred, from_logits, axis, epsilon, class_weight)
    return _smoothed(ops, ops.sum(ops.times(y_true, log_p), axis=axis), log_p, label_smoothing, axis)


@loss(aliases=("scce",), min_classes=2, sparse=True)
def sparse_categorical_crossentropy(
    ops: Ops,
    y_true: ClassIds,
    y_pred: DistributionOrLogits,
    from_logits: Flag = False,
    axis: Axis = -1,
    *,
    ignore_class: ClassId = None,
    label_smoothing: Fraction = 0.0,
    epsilon: Epsilon = None,
    class_weight: ClassWeight = None,
) -> Tensor:
    """Cross-entropy of integer class ids, −w log p of the true class: categorical_crossentropy of the one-hot labels, in every option.

    y_true has y_pred's shape without ``axis``, or with size 1 there, else ValueError; the result is without ``axis``, ≥ 0, of y_pred's dtype. Entries
    of ``ignore_class`` give 0 and are not counted in a mean. An id outside 0 … C − 1 is a ValueError where values can be looked at, and a NaN for its
    sample under tracing. The fourth positional parameter is ``axis``, as in Keras 2.3 (it is ignore_class in Keras 3). Source: Keras 1.

    >>> sparse_categorical_crossentropy([1], [[0.5, 0.5]])
    array([0.69314...], dtype=float32)
    """
    # @loss takes ignore_class entries out before they come here.
    log_p = _log_probability(ops, y_pred, from_logits, axis, epsilon, class_weight)
    return _smoothed(ops, ops.take_class(log_p, y_true, axis=axis), log_p, label_smoothing, axis)


@loss(aliases=("bce", "BCE", "logloss"))
def binary_crossentropy(
    ops: Ops,
    y_true: Probability,
    y_pred: ProbabilityOrLogit,
    from_logits: Flag = False,
    label_smoothing: Fraction = 0.0,
    *,
    axis: Axis = -1,
    epsilon: Epsilon = None,
    pos_weight: PosWeight = None,
) -> Tensor:
    """Cross-entropy of independent yes-or-no labels, mean(−w ỹ log p − (1 − ỹ) log(1 − p)) along ``axis``, with ỹ = y(1 − α) + α/2.

    y_true and y_pred have one shape, else ValueError; the result is without ``axis``, ≥ 0 for labels in [0, 1], of y_pred's dtype. p and 1 − p are
    kept at ε or above, so a loss is at most 16.118 and has gradient 0 there; with ``from_logits`` the loss is mean(w ỹ softplus(−z) + (1 − ỹ)
    softplus(z)), which saturates nowhere: use logits where you can. α is ``label_smoothing`` in [0, 1]; w is ``pos_weight``, a number or one per
    entry of the last axis. Source: Keras 1.

    >>> binary_crossentropy([[1.0, 0.0]], [[0.5, 0.0]])
    array([0.34657...], dtype=float32)
    """
    yes, no = y_true, 1.0 - y_true
    if not _is_zero(label_smoothing):
        # 1 − ỹ, rounded once: for labels of 1, 1 − (1 − α/2) would lose the digits of α.
        yes, no = (share * (1.0 - label_smoothing) + label_smoothing / 2 for share in (yes, no))
    if pos_weight is not None:
        yes = ops.asarray(pos_weight, like=y_pred) * yes
    if from_logits:
        return ops.mean(ops.times(yes, ops.softplus(-y_pred)) + ops.times(no, ops.softplus(y_pred)), axis=axis)
    # 1 − ε is 0.99999988 in float32 and 1 in float16, so "p near 1" asks 1 − p; log(1 − p) is off by thousands of units in the last place at
    # small p, log1p(−p) is not, and gets input that is harmless where it is not selected.
    certain = 1.0 - y_pred < epsilon
    log_epsilon = math.log(epsilon)  # type: ignore[arg-type]  # @loss has put a number for None
    log_no = ops.where(certain, log_epsilon, ops.log1p(-ops.where(certain, 0.0, ops.clip(y_pred, 0.0, None))))
    return 0.0 - ops.mean(yes * ops.log(ops.clip(y_pred, epsilon, 1.0)) + no * log_no, axis=axis)


@loss(aliases=("kullback_leibler_divergence", "kld", "KLD"))
def kl_divergence(ops: Ops, y_true: Distribution, y_pred: DistributionOrLogits, *, epsilon: Epsilon = None, from_logits: Flag = False) -> Tensor:
    """Kullback–Leibler divergence of p from y, Σ y(log y − log max(p, ε)) over the last axis, an entry with y = 0 contributing 0.

    y_true and y_pred have one shape [..., C], else ValueError; the result [...] is of y_pred's dtype; with ``from_logits`` log p = log_softmax(z).
    Neither is renormalised, so it is negative where p sums to more than y. y < 0 gives NaN. Source: Kullback and Leibler, Annals of Mathematical
    Statistics 22 (1951) 79.

    >>> kl_divergence([[0.5, 0.5]], [[0.25, 0.75]])
    array([0.14384...], dtype=float32)
    """
    log_p = ops.log_softmax(y_pred) if from_logits else ops.log(ops.maximum(y_pred, epsilon))
    log_y = ops.log(ops.where(ops.equal(y_true, 0), 1.0, y_true))
    return ops.sum(ops.times(y_true, log_y - log_p), axis=-1)


@loss
def poisson(ops: Ops, y_true: Count, y_pred: RateOrLog, *, epsilon: Epsilon = None, log_input: Flag = False) -> Tensor:
    """Negative log-likelihood of counts y under Poisson rates p, without the term in y alone: mean(p − y log(p + ε)).

    y_true and y_pred have one shape [..., D], else ValueError; the result [...] is of y_pred's dtype; with ``log_input`` y_pred is z = log p, and the
    loss mean(eᶻ − y z). p < −ε gives NaN. Source: Keras 1.

    >>> poisson([[1.0]], [[2.0]])
    array([1.30685...], dtype=float32)
    """
    # eᶻ outgrows y z, and p outgrows log p: where they are infinite so is the loss, and inf − inf would be NaN.
    if log_input:
        power = ops.exp(y_pred)
        return ops.mean(power - ops.times(y_true, ops.where(ops.isinf(power), 0.0, y_pred)), axis=-1)
    rate = y_pred + epsilon
    # 0 · log 0 is 0, and so is its slope.
    rate = ops.where(ops.equal(y_pred, math.inf) | ops.equal(y_true, 0) & ops.equal(rate, 0), 1.0, rate)
    return ops.mean(y_pred - y_true * ops.log(rate), axis=-1)


def _log_probability(ops: Ops, y_pred: Tensor, from_logits: bool, axis: int, epsilon: Epsilon, class_weight: Any) -> Tensor:
    """log p of every class, times the weight of the class."""
    if from_logits:
        log_p = ops.log_softmax(y_pred, axis=axis)
    else:
        total = ops.sum(y_pred, axis=axis, keepdims=True)
        # 0 · inf is NaN, and so is what has a sum without an end.
        total = ops.where(ops.equal(total, 0), 1.0, total + 0.0 * total)
        log_p = ops.log(ops.clip(ops.divide(y_pred, total), epsilon, 1.0))
    return log_p if class_weight is None else ops.times(along_axis(ops, class_weight, y_pred, axis), log_p)


def _smoothed(ops: Ops, true_class: Tensor, log_p: Tensor, label_smoothing: Any, axis: int) -> Tensor:
    """−Σ ỹ log p from Σ y log p: as ỹ = (1 − α)y + α/C, it is −(1 − α) Σ y log p − α mean log p, whatever the number of classes."""
    if _is_zero(label_smoothing):
        # 0 − x, because −x is −0.0 where nothing is lost.
        return 0.0 - true_class
    return 0.0 - ops.times(1.0 - label_smoothing, true_class) - ops.times(label_smoothing, ops.mean(log_p, axis=axis))


def _is_zero(option: Any) -> bool:
    """Whether an option that may be a tensor is the number 0."""
    return isinstance(option, (int, float)) and option == 0
