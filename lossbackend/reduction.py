"""Weights, masks and reductions of per-sample losses, and partial results that merge exactly."""

import math
from typing import Any

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
        raise ValueError(
            f"{loss}: {argument} of shape {own} does not align with per-sample losses of shape {shape}: it has to be a scalar, or match them from "
            f"the left, such as {shape[:1]} or {shape}, where 1 stands for any size."
        )
    return tensor


class Partial:
    """A weighted sum of losses and what to divide it by, for a part of the samples: ``a + b`` and ``sum(parts)`` are those of all of them.

    A mean of means is wrong on parts of different sizes; this is not. ``denominator`` is None for the reduction "sum", a number where every sample
    counts, else a tensor.
    """

    __slots__ = ("denominator", "ops", "total")

    def __init__(self, ops: Ops, total: Tensor, denominator: Tensor | int | None) -> None:
        self.ops = ops
        self.total = total
        self.denominator = denominator

    def __add__(self, other: "Partial") -> "Partial":
        if not isinstance(other, Partial):
            return NotImplemented
        if self.denominator is None and other.denominator is None:
            return Partial(self.ops, self.total + other.total, None)
        if self.denominator is None or other.denominator is None:
            raise ValueError("partial results of a sum and of a mean do not add up: use one loss object for all parts.")
        return Partial(self.ops, self.total + other.total, self.denominator + other.denominator)

    def __radd__(self, other: object) -> "Partial":
        # sum() starts at 0.
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __repr__(self) -> str:
        return f"Partial(total={self.total!r}, denominator={self.denominator!r})"

    def result(self) -> Tensor:
        """total / denominator, where 0/0 is 0."""
        if self.denominator is None:
            return self.total
        if isinstance(self.denominator, int):
            return self.total / max(self.denominator, 1)
        ops = self.ops
        nothing = ops.equal(self.denominator, 0)
        # Weights of both signs may cancel: that is total/0 = ±inf, and only 0/0 is 0. Each branch gets input that keeps its gradient finite.
        cancelled = ops.times(self.total, ops.where(nothing, math.inf, 0.0 * self.denominator))
        return ops.where(nothing, cancelled, self.total / ops.where(nothing, 1.0, self.denominator))


def partial(ops: Ops, losses: Tensor, unmasked: Tensor | None, weights: Tensor | None, class_weights: Tensor | None, reduction: str) -> Partial:
    """The mergeable form of a reduction other than "none".

    ``losses`` are weighted already. ``unmasked``, ``weights`` and ``class_weights`` broadcast against them, None standing for True and 1.
    """
    total = ops.sum(losses)
    if reduction == "sum":
        return Partial(ops, total, None)
    if reduction == "mean_with_sample_weight" and not (weights is None and class_weights is None):
        counted = ops.ones_like(losses)
        for factor in (weights, class_weights):
            counted = counted if factor is None else counted * factor
        # A weight outside the mask may be anything, NaN too.
        return Partial(ops, total, ops.sum(counted if unmasked is None else ops.where(unmasked, counted, 0.0)))
    if unmasked is not None:
        return Partial(ops, total, ops.sum(ops.where(unmasked, ops.ones_like(losses), 0.0)))
    shape = ops.shape(losses)
    known = all(isinstance(size, int) for size in shape)
    return Partial(ops, total, math.prod(shape) if known else ops.sum(ops.ones_like(losses)))
