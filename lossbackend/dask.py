"""Losses of dask arrays and data frames, lazily: of what does not fit into memory, on threads, processes or a cluster.

>>> import dask.array as da
>>> y_true, y_pred = da.zeros((4, 2), chunks=(3, 1)), da.arange(8.0, chunks=4).reshape(4, 2)
>>> map_loss("mse", y_true, y_pred).compute()
array([ 0.5,  6.5, 20.5, 42.5])
>>> reduce_loss("mse", y_true, y_pred).compute()
np.float64(17.5)
"""

import functools
from contextlib import nullcontext
from typing import Any, NamedTuple

import dask.array as da
import numpy as np

from lossbackend import checking, dispatch, registry
from lossbackend.columns import Array, bind
from lossbackend.definition import evaluate, fitted, predictions, without
from lossbackend.losses.objects import Loss
from lossbackend.reduction import Losses, Partial, left_align

__all__ = ["map_loss", "reduce_loss"]


def map_loss(loss: Any, y_true: Any, y_pred: Any, *, backend: str | None = None, **options: Any) -> Any:
    """The loss of each sample: a dask array of y_pred's shape without the loss axis, of which nothing is computed yet.

    loss: a name, a loss function, class or object, your own too; ``options`` are those of the loss. y_true, y_pred: dask arrays in any chunks, data
    frames of dask, or arrays, in the shapes that the loss takes; a column of a data frame, N numbers, is N samples. backend: the one that computes
    inside a block; None for the selected one. The result is in blocks of NumPy, in the type that the loss has on that backend.

    ValueError for shapes that do not fit, as far as they are known, and for a loss whose samples depend on each other and are in several blocks. What
    is wrong inside a block, such as a bad class id, is raised when that is computed, with indices of that block. So is what checking mode
    objects to, where it is on now.

    >>> ids, logits = da.from_array([0, 1], chunks=1), da.zeros((2, 4), chunks=(1, 2))
    >>> map_loss("sparse_categorical_crossentropy", ids, logits, from_logits=True).compute()
    array([1.38629436, 1.38629436])
    """
    call = _call(loss, y_true, y_pred, backend, options)
    return call.blockwise(functools.partial(_values, call.dtype), call.dtype)


def reduce_loss(
    loss: Any, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None, *, backend: str | None = None, **options: Any
) -> Any:
    """The reduced loss of all samples: a dask array without axes, whose ``compute()`` is the number that one array of all samples has.

    The reduction is the one of a loss object, and the mean for anything else; ValueError where there is none ("none"). Weights and masks align as in
    a call of a loss object. Everything else is as in ``map_loss``. The partial results of the blocks are added up in a tree.

    >>> from lossbackend import MeanSquaredError
    >>> y = da.zeros((3, 1), chunks=2)
    >>> loss = MeanSquaredError("mean_with_sample_weight")
    >>> reduce_loss(loss, y, y + [[1.0], [2.0], [3.0]], sample_weight=[1.0, 2.0, 3.0], mask=[True, True, False]).compute()
    np.float64(3.0)
    """
    found = registry.get(loss)
    reduction = found.reduction if isinstance(found, Loss) else "mean"
    if reduction is None or reduction == "none":
        raise ValueError(f"{found!r} reduces nothing: take lossbackend.dask.map_loss for one loss per sample, or choose another reduction")
    call = _call(found, y_true, y_pred, backend, options)
    summary = functools.partial(_partial, call.function.definition.name, reduction)
    weights = call.aligned("sample_weight", sample_weight), call.aligned("mask", mask)
    parts = call.blockwise(summary, np.dtype(object), *weights, adjust_chunks=dict.fromkeys(call.samples, 1))
    return da.reduction(parts, _sum, _result, combine=_sum, dtype=call.dtype, meta=np.empty((), call.dtype))


class _Call(NamedTuple):
    """A loss, the options, the backend and the checking mode that it has now (a worker has its own), and arrays whose shapes fit."""

    function: Any
    options: dict[str, Any]
    backend: str
    check: bool
    y_true: Any
    y_pred: Any
    axis: int
    dtype: np.dtype[Any]

    @property
    def samples(self) -> tuple[int, ...]:
        """The axes of y_pred that the losses have."""
        return without(tuple(range(self.y_pred.ndim)), self.axis)

    def aligned(self, argument: str, value: Any) -> Any:
        """Weights or a mask with as many axes as the losses have; None as it is."""
        if value is None:
            return None
        return left_align(dispatch.adapter("numpy"), self.function.definition.name, argument, _array(value), without(self.y_pred.shape, self.axis))

    def blockwise(self, summary: Any, dtype: np.dtype[Any], *weights: Any, **chunks: Any) -> Any:
        """What ``summary`` makes of the losses of each block, which has all of the loss axis."""
        axes = tuple(range(self.y_pred.ndim))
        operands = [self.y_true, self.samples if self.function.definition.sparse else axes, self.y_pred, axes]
        for value in weights:
            operands += [value, None if value is None else self.samples]
        # Not only y_pred's: blocks are as small as those of any operand.
        blocks, _ = da.core.unify_chunks(*operands)
        is_part = any(len(blocks[axis]) > 1 for axis in self.samples)
        definition = self.function.definition
        if definition.interacting and is_part:
            raise ValueError(f"{definition.name}: its samples depend on each other, so that they have to be in one block of every array: rechunk(-1)")
        block = functools.partial(_block, summary, self.function, self.options, self.backend, self.check, is_part)
        meta = np.empty((0,) * len(self.samples), dtype)
        return da.blockwise(block, self.samples, *operands, concatenate=True, dtype=dtype, meta=meta, **chunks)


def _call(loss: Any, y_true: Any, y_pred: Any, backend: str | None, options: dict[str, Any]) -> _Call:
    bound = bind(loss, options)
    definition, complete = bound.definition, bound.complete()
    ops = dispatch.get_backend(bound.pinned or backend)
    y_true, y_pred = _array(y_true), _array(y_pred)
    # The rules for shapes read no values, so that dask's arrays, with sizes that are not known, pass through them.
    y_true, y_pred, _, axis = fitted(dispatch.adapter("numpy"), definition, y_true, y_pred, complete.get("axis", -1))
    dtype = np.dtype(ops.dtype(predictions(ops, definition.name, np.empty(1, y_pred.dtype), None)))
    return _Call(bound.function, complete, ops.name, checking.ON, y_true, y_pred, axis, dtype)


def _array(value: Any) -> Any:
    """A dask array; a column as (N, 1)."""
    if not hasattr(value, "to_dask_array"):
        return da.asanyarray(value)
    array = value.to_dask_array()
    return array[:, np.newaxis] if array.ndim == 1 else array


# In a block


def _block(
    summary: Any,
    function: Any,
    options: dict[str, Any],
    backend: str,
    check: bool,
    is_part: bool,
    y_true: Any,
    y_pred: Any,
    weights: Any = None,
    mask: Any = None,
) -> Any:
    # What is objectionable only if all samples are so, no block can tell.
    with checking.checked() if check else nullcontext(), checking.of_parts() if is_part else nullcontext():
        try:
            losses = evaluate(function.definition, y_true, y_pred, options, weights, mask, backend)
        except checking.Objection as objection:
            raise ValueError(*objection.args) from None
        return summary(losses)


def _values(dtype: np.dtype[Any], losses: Losses) -> Array:
    return np.asarray(losses.ops.to_numpy(losses.values)).astype(dtype, copy=False)


def _partial(name: str, reduction: str, losses: Losses) -> Array:
    # Under the loss's name: a function that was pickled by value is another one in each process.
    part = np.empty((1,) * len(losses.ops.shape(losses.values)), object)
    part[...] = losses.partial(name, reduction)
    return part


def _sum(parts: Array, axis: tuple[int, ...], keepdims: bool) -> Any:
    # Dask would pass NumPy's own sum the dtype of the result, too.
    return np.sum(parts, axis=axis, keepdims=keepdims)


def _result(parts: Array, axis: tuple[int, ...], keepdims: bool, dtype: np.dtype[Any]) -> Any:
    total: Partial = _sum(parts, axis, keepdims)
    return np.asarray(total.ops.to_numpy(total.result())).astype(dtype)[()]
