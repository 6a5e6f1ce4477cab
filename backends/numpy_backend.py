"""The NumPy adapter: values without gradients."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lossbackend.backends.blocks import for_each, rows_of
from lossbackend.backends.composed import ComposedOps
from lossbackend.ops import Tensor

_DTYPES: dict[str, Any] = {"index": np.intp}
# NumPy's stubs do not know a keepdims that is only known at run time.
_ADD: Any = np.add
_MAXIMUM: Any = np.maximum
_OR: Any = np.logical_or
_AND: Any = np.logical_and
# Half a dozen arrays of 256 KiB, as many as a definition has at once, fit the cache of a core; shorter ones cost more calls than they save.
_BLOCK = 1 << 16
# What NumPy does of what has no ordinary result, if nobody has asked for anything else.
_USUAL = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
_NAMES = {np.dtype(name): name for name in ("float32", "float64", "int32", "int64", "bool")}


class NumpyOps(ComposedOps):
    name = "numpy"
    differentiable = False

    abs = staticmethod(np.abs)
    sign = staticmethod(np.sign)
    square = staticmethod(np.square)
    divide = staticmethod(np.divide)
    sqrt = staticmethod(np.sqrt)
    exp = staticmethod(np.exp)
    expm1 = staticmethod(np.expm1)
    log = staticmethod(np.log)
    log1p = staticmethod(np.log1p)
    minimum = staticmethod(np.minimum)
    maximum = staticmethod(np.maximum)
    ones_like = staticmethod(np.ones_like)
    equal = staticmethod(np.equal)
    isnan = staticmethod(np.isnan)
    isinf = staticmethod(np.isinf)
    reshape = staticmethod(np.reshape)
    expand_dims = staticmethod(np.expand_dims)
    squeeze = staticmethod(np.squeeze)
    _floor = staticmethod(np.floor)

    def is_tensor(self, x: Any) -> bool:
        return isinstance(x, (np.ndarray, np.generic))

    def asarray(self, x: Any, like: Tensor | None = None) -> Tensor:
        if isinstance(x, (np.ndarray, np.generic)):
            return x
        return np.asarray(x, dtype=None if like is None else like.dtype)

    def to_numpy(self, x: Tensor) -> Any:
        return np.asarray(x)

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        return x.astype(_DTYPES.get(dtype, dtype), copy=False)

    def shape(self, x: Tensor) -> tuple[Any, ...]:
        return x.shape  # type: ignore[no-any-return]

    def dtype(self, x: Tensor) -> str:
        return _NAMES.get(x.dtype) or x.dtype.name

    def is_concrete(self, *tensors: Tensor) -> bool:
        return True

    def stop_gradient(self, x: Tensor) -> Tensor:
        return x

    def where(self, condition: Tensor, x: Any, y: Any) -> Tensor:
        # np.where alone of all makes 0-d arrays where the others give scalars.
        return np.where(condition, x, y)[()]

    def relu(self, x: Tensor) -> Tensor:
        return np.maximum(x, 0)

    def softplus(self, x: Tensor) -> Tensor:
        # Without selections: three times faster, and there is no slope to keep.
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))

    def clip(self, x: Tensor, low: Any, high: Any) -> Tensor:
        # np.clip costs ten times the two ufuncs on a small array.
        if high is not None:
            x = np.minimum(x, high)
        return x if low is None else np.maximum(x, low)

    def _nowhere(self, condition: Tensor) -> bool:
        return not condition.any()

    # The ufuncs' own reduce is what np.sum and its siblings call in the end, several microseconds earlier.

    def sum(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return _ADD.reduce(x, axis=axis, keepdims=keepdims)

    def mean(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return _ADD.reduce(x, axis=axis, keepdims=keepdims) / (x.size if axis is None else x.shape[axis])

    def max(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return _MAXIMUM.reduce(x, axis=axis, keepdims=keepdims)

    def any(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return _OR.reduce(x, axis=axis, keepdims=keepdims)

    def all(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return _AND.reduce(x, axis=axis, keepdims=keepdims)

    def take_class(self, x: Tensor, ids: Tensor, axis: int = -1) -> Tensor:
        return np.take_along_axis(x, np.expand_dims(ids, axis), axis=axis).squeeze(axis)

    def one_hot(self, ids: Tensor, classes: int, dtype: str = "float32") -> Tensor:
        return (np.expand_dims(ids, -1) == np.arange(classes)).astype(dtype)

    def concat(self, tensors: list[Tensor], axis: int = 0) -> Tensor:
        return np.concatenate(tensors, axis=axis)

    def in_parts(self, y_true: Tensor, y_pred: Tensor) -> bool:
        return y_pred.size >= 2 * _BLOCK  # type: ignore[no-any-return]

    def run(self, definition: Callable[..., Tensor], y_true: Tensor, y_pred: Tensor, options: Mapping[str, Any], apart: bool = False) -> Tensor:
        with _quiet():
            return self._in_blocks(definition, y_true, y_pred, options) if apart else definition(self, y_true, y_pred, **options)

    def _in_blocks(self, definition: Callable[..., Tensor], y_true: Tensor, y_pred: Tensor, options: Mapping[str, Any]) -> Tensor:
        rows, samples = rows_of(y_pred.shape, _BLOCK), len(y_pred)
        losses: list[Tensor] = []
        making = threading.Lock()

        def work(block: int) -> None:
            part = slice(block * rows, (block + 1) * rows)
            found = definition(self, y_true[part], y_pred[part], **options)
            with making:
                # Whoever is first knows what all of them look like.
                if not losses:
                    losses.append(np.empty((samples, *found.shape[1:]), found.dtype))
            losses[0][part] = found

        for_each(work, -(-samples // rows))
        return losses[0]

    def apply(self, function: Callable[..., Tensor], *tensors: Tensor | int | None) -> Tensor:
        with _quiet():
            return function(self, *tensors)


def _quiet() -> np.errstate:
    """No warnings: an infinity has a defined loss, so it is no reason for one, and no other backend gives one. Who asked to raise still gets that."""
    asked = np.geterr()
    if asked == _USUAL:
        return np.errstate(divide="ignore", over="ignore", invalid="ignore")
    return np.errstate(**{kind: "ignore" for kind, reaction in asked.items() if reaction == "warn"})  # type: ignore[arg-type]


OPS = NumpyOps()
