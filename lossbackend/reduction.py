"""Reductions of per-sample losses with weights and masks, and partial results that merge exactly."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from lossbackend.ops import Ops, Tensor

REDUCTIONS = ("sum_over_batch_size", "mean", "auto", "sum", "mean_with_sample_weight", "none", None)


def check_reduction(loss: str, reduction: Any) -> None:
    """ValueError unless ``reduction`` names one."""
    if reduction is not None and (not isinstance(reduction, str) or reduction not in REDUCTIONS):
        known = ", ".join(repr(name) for name in REDUCTIONS)
        raise ValueError(f"{loss}: Invalid value for argument `reduction`: {reduction!r}. Choose one of {known}.")


def left_align(ops: Ops, loss: str, argument: str, tensor: Tensor, shape: tuple[Any, ...]) -> Tensor:
    """``tensor`` with trailing axes of size 1 so that it broadcasts against per-sample losses of that shape from the left.

    One extra trailing axis of size 1 is squeezed. ValueError where a dimension is neither the loss' own nor 1.
    """
    own = ops.shape(tensor)
    aligned = own
    if len(own) == len(shape) + 1 and own[-1] == 1:
        tensor = ops.squeeze(tensor, -1)
        aligned = own[:-1]
    for _ in range(len(shape) - len(aligned)):
        tensor = ops.expand_dims(tensor, -1)
    fits = len(aligned) <= len(shape)
    for mine, wanted in zip(aligned, shape, strict=False):
        # A dimension that is not known yet cannot be compared.
        if isinstance(mine, int) and isinstance(wanted, int) and mine != wanted and mine != 1:
            fits = False
    if not fits:
        if shape:
            such_as = " or ".join(dict.fromkeys((str(shape[:1]), str(shape))))
            hint = f"it has to be a scalar, or match them from the left, such as {such_as}, where 1 stands for any size."
        else:
            hint = "input of rank 1 is one sample, whose loss is a single number; N samples have shape (N, 1)."
        raise ValueError(f"{loss}: {argument} of shape {own} does not align with per-sample losses of shape {shape}: {hint}")
    return tensor


class Losses(NamedTuple):
    """Per-sample losses, 0 where ``selected`` is False, with what a reduction needs to know of them; None stands for True and 1."""

    ops: Ops
    values: Tensor
    unmasked: Tensor | None
    selected: Tensor | None
    weights: Tensor | None
    true_class_weights: Callable[[], Tensor] | None

    def reduced(self, reduction: str | None) -> Tensor:
        """The losses after that reduction."""
        ops, values, unmasked, selected, weights, _ = self
        if reduction is None or reduction == "none":
            return ops.apply(_weighted, values, selected, weights)
        if reduction == "sum":
            return ops.apply(_total, values, selected, weights)
        if reduction == "mean_with_sample_weight":
            return ops.apply(_weighted_mean, values, unmasked, selected, weights, self._class_weights())
        return ops.apply(_mean, values, unmasked, selected, weights)

    def partial(self, loss: Any, reduction: str) -> "Partial":
        """The mergeable form of a reduction other than "none"."""
        ops, values, unmasked, selected, weights, _ = self
        total = _exactly(ops, ops.apply(_total, values, selected, weights))
        if reduction == "sum":
            return Partial(loss, ops, total, ())
        if reduction == "mean_with_sample_weight":
            return Partial(loss, ops, total, _exactly(ops, _total_weight(ops, values, unmasked, weights, self._class_weights())))
        return Partial(loss, ops, total, (_count(ops, values, unmasked),))

    def _class_weights(self) -> Tensor | None:
        return None if self.true_class_weights is None else self.true_class_weights()


def _weighted(ops: Ops, values: Tensor, selected: Tensor | None, weights: Tensor | None) -> Tensor:
    """Weight · loss, 0 for an entry that is not selected: its weight may be anything, NaN too."""
    if weights is None:
        return values
    return values * (weights if selected is None else ops.where(selected, weights, 0.0))


def _total(ops: Ops, values: Tensor, selected: Tensor | None, weights: Tensor | None) -> Tensor:
    return ops.sum(_weighted(ops, values, selected, weights))


def _count(ops: Ops, values: Tensor, unmasked: Tensor | None) -> Tensor | int:
    """How many entries count: an integer, because float32 counts to 2²⁴ only."""
    shape = ops.shape(values)
    if unmasked is None and all(isinstance(size, int) for size in shape):
        return math.prod(shape)
    counted = ops.ones_like(values)
    return ops.sum(ops.cast(counted if unmasked is None else ops.where(unmasked, counted, 0.0), "index"))


def _total_weight(ops: Ops, values: Tensor, unmasked: Tensor | None, weights: Tensor | None, class_weights: Tensor | None) -> Tensor:
    counted = ops.ones_like(values)
    for factor in (weights, class_weights):
        counted = counted if factor is None else counted * factor
    return ops.sum(counted if unmasked is None else ops.where(unmasked, counted, 0.0))


def _quotient(ops: Ops, total: Tensor, denominator: Tensor | int) -> Tensor:
    """total / denominator, where 0/0 is 0."""
    if isinstance(denominator, int):
        # As a float: JAX takes no int beyond 32 bits.
        return total / float(max(denominator, 1))
    denominator = ops.cast(denominator, ops.dtype(total))
    nothing = ops.equal(denominator, 0)
    # Weights of both signs may cancel: that is total/0 = ±inf, and only 0/0 is 0. Each branch gets input that keeps its gradient finite.
    cancelled = ops.times(total, ops.where(nothing, math.inf, 0.0 * denominator))
    return ops.where(nothing, cancelled, total / ops.where(nothing, 1.0, denominator))


def _mean(ops: Ops, values: Tensor, unmasked: Tensor | None, selected: Tensor | None, weights: Tensor | None) -> Tensor:
    return _quotient(ops, _total(ops, values, selected, weights), _count(ops, values, unmasked))


def _weighted_mean(
    ops: Ops, values: Tensor, unmasked: Tensor | None, selected: Tensor | None, weights: Tensor | None, class_weights: Tensor | None
) -> Tensor:
    return _quotient(ops, _total(ops, values, selected, weights), _total_weight(ops, values, unmasked, weights, class_weights))


class Sum(NamedTuple):
    """A sum of parts, and what rounding has left out of it."""

    value: Tensor
    lost: Tensor


def _exactly(ops: Ops, value: Tensor) -> Sum:
    return Sum(value, ops.asarray(0.0, like=value))


def _add(ops: Ops, one: Tensor, one_lost: Tensor, other: Tensor, other_lost: Tensor) -> Sum:
    """One + other, rounded, and the rounding error, exactly (Knuth, The Art of Computer Programming 2, section 4.2.2, theorem B)."""
    value = one + other
    added = value - one
    lost = (one - (value - added)) + (other - added)
    # An infinity has lost nothing, and inf − inf would be NaN. Nothing of this has a slope.
    lost = ops.where(ops.isinf(value) | ops.isnan(value), 0.0, ops.stop_gradient(lost))
    return Sum(value, one_lost + other_lost + lost)


class Partial:
    """A weighted sum of losses and what to divide it by, for a part of the samples: ``a + b`` and ``sum(parts)`` are those of all of them.

    A mean of means is wrong on parts of different sizes; this is not. Sums carry along what rounding leaves out of them, so that a thousand parts of
    a million float32 losses lose no digit. ``total`` is the sum; ``denominator`` is None for the reduction "sum", an int or an integer tensor where
    samples are counted, and a tensor where weights are added up. It is a pytree of JAX, PyTorch and TensorFlow, so that a compiled or mapped function
    may return it, and a collective sum of it over devices is that of all samples.
    """

    __slots__ = ("_counted", "_total", "loss", "ops")

    def __init__(self, loss: Any, ops: Ops, total: Sum, counted: tuple[Tensor | int, ...]) -> None:
        # Nothing, a count, or a Sum.
        self.loss = loss
        self.ops = ops
        self._total = total
        self._counted = counted

    @property
    def total(self) -> Tensor:
        return self._total.value + self._total.lost

    @property
    def denominator(self) -> Tensor | int | None:
        if isinstance(self._counted, Sum):
            return self._counted.value + self._counted.lost
        return self._counted[0] if self._counted else None

    def __add__(self, other: object) -> "Partial":
        if isinstance(other, int) and other == 0:
            # What sum() starts at.
            return self
        if not isinstance(other, Partial):
            return NotImplemented
        if self.loss != other.loss:
            raise ValueError(f"partial results of {self.loss!r} and of {other.loss!r} do not add up: use one loss object for all parts.")
        if self.ops.name != other.ops.name:
            raise TypeError(f"partial results on {self.ops.name} and on {other.ops.name} do not add up: use one backend for all parts.")
        one, two = self._counted, other._counted
        counted = self._sum(one, two) if isinstance(one, Sum) else tuple(map(self._count, one, two))
        return Partial(self.loss, self.ops, self._sum(self._total, other._total), counted)

    __radd__ = __add__

    def _sum(self, one: Sum, other: Any) -> Sum:
        return Sum(*self.ops.apply(_add, *one, *other))

    def _count(self, one: Tensor | int, other: Tensor | int) -> Tensor | int:
        """The sum of two counts, each an int or a tensor of whatever integer type a compiler left it in."""
        # jax.device_get makes arrays of NumPy of a part's.
        tensors = [self.ops.asarray(count) for count in (one, other) if not isinstance(count, int)]
        if tensors and self.ops.dtype(tensors[0]) == "int32" and self.ops.is_concrete(*tensors):
            # JAX counts to 2³¹, and goes on below 0.
            return int(one) + int(other)
        return one + (self.ops.cast(other, self.ops.dtype(one)) if len(tensors) == 2 else other)

    def __repr__(self) -> str:
        # Nothing is computed: a compiler prints parts whose tensors are placeholders.
        counted = self._counted[0] if self._counted else None
        return f"Partial({self.loss!r}, total={self._total.value!r}, denominator={counted!r})"

    def result(self) -> Tensor:
        """total / denominator, where 0/0 is 0."""
        total, denominator = self.total, self.denominator
        if denominator is None or isinstance(denominator, int):
            return total if denominator is None else _quotient(self.ops, total, denominator)
        return self.ops.apply(_quotient, total, denominator)

    def flatten(self) -> tuple[tuple[Tensor, ...], tuple[Any, Ops]]:
        """The tensors (and the count), and what is the same in all parts."""
        return (*self._total, *self._counted), (self.loss, self.ops)

    @classmethod
    def unflatten(cls, same: tuple[Any, Ops], leaves: Any) -> "Partial":
        """What ``flatten`` took apart."""
        value, lost, *counted = leaves
        return cls(*same, Sum(value, lost), Sum(*counted) if len(counted) == 2 else tuple(counted))

    def __tf_flatten__(self) -> tuple[tuple[Any, Ops], tuple[Tensor, ...]]:
        leaves, same = self.flatten()
        return same, leaves

    __tf_unflatten__ = unflatten
