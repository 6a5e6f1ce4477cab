"""The ONNX adapter: arrays of ndonnx.

One with values is computed at once, operation by operation, by onnxruntime. Of one without, which ``ndonnx.argument`` makes, the loss is a graph.
"""

import math
from typing import Any

import ndonnx as ndx
import numpy as np
import spox.opset.ai.onnx.v20 as operators

from lossbackend.backends.composed import ComposedOps
from lossbackend.ops import Tensor

# eˣ − 1 = x + x²/2! + x³/3! + …, and 2 artanh s = 2s + s (2s²/3 + 2s⁴/5 + …), backwards. Up to |x| = 1 and |s| = ⅓, what follows is nothing to
# float64, and what follows the short ones nothing to float32.
_EXP = tuple(1 / math.factorial(k) for k in range(19, 1, -1))
_EXP_SHORT = _EXP[-10:]
_ARTANH = tuple(2 / (2 * k + 1) for k in range(16, 0, -1))
_ARTANH_SHORT = _ARTANH[-7:]

# So many numbers are added up one after the other.
_RUN = 256


class OnnxOps(ComposedOps):
    name = "onnx"
    differentiable = False

    abs = staticmethod(ndx.abs)
    sign = staticmethod(ndx.sign)
    square = staticmethod(ndx.square)
    # onnxruntime does not take the reciprocal first, and there are no slopes to pin.
    divide = staticmethod(ndx.divide)
    sqrt = staticmethod(ndx.sqrt)
    exp = staticmethod(ndx.exp)
    log = staticmethod(ndx.log)
    ones_like = staticmethod(ndx.ones_like)
    isnan = staticmethod(ndx.isnan)
    isinf = staticmethod(ndx.isinf)
    reshape = staticmethod(ndx.reshape)
    _floor = staticmethod(ndx.floor)

    def is_tensor(self, x: Any) -> bool:
        return isinstance(x, ndx.Array)

    def asarray(self, x: Any, like: Tensor | None = None) -> Tensor:
        if isinstance(x, ndx.Array):
            return x
        return ndx.asarray(np.asarray(x), dtype=None if like is None or isinstance(x, (np.ndarray, np.generic)) else like.dtype)

    def to_numpy(self, x: Tensor) -> Any:
        return x.unwrap_numpy()

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        return x.astype("int64" if dtype == "index" else dtype, copy=False)

    def shape(self, x: Tensor) -> tuple[Any, ...]:
        return x.shape  # type: ignore[no-any-return]

    def dtype(self, x: Tensor) -> str:
        return x.dtype.unwrap_numpy().name  # type: ignore[no-any-return]

    def is_concrete(self, *tensors: Tensor) -> bool:
        try:
            for x in tensors:
                x.unwrap_numpy()
        except ValueError:
            return False
        return True

    def stop_gradient(self, x: Tensor) -> Tensor:
        return x

    def where(self, condition: Tensor, x: Any, y: Any) -> Tensor:
        # Of two numbers there is no dtype to take.
        return ndx.where(condition, x, y if isinstance(x, ndx.Array) or isinstance(y, ndx.Array) else ndx.asarray(y, dtype="float32"))

    def equal(self, x: Tensor, y: Any) -> Tensor:
        return x == y

    def expm1(self, x: Tensor) -> Tensor:
        # ONNX has none, and eˣ − 1 is what rounding leaves of it near 0.
        near = (x > -1.0) & (x < 1.0)
        small = self.where(near, x, 0.0)
        series = 0.0 * small
        for coefficient in _EXP_SHORT if self.dtype(x) == "float32" else _EXP:
            series = (series + coefficient) * small
        return self.where(near, small + series * small, self.exp(x) - 1.0)

    def log1p(self, x: Tensor) -> Tensor:
        # Nor this one. The classic remedy, x log(u) / (u − 1) with u = 1 + x, is as good as the logarithm near 1, which onnxruntime has with an error
        # of 3 units in the last place in float32. 2 artanh(x / (2 + x)) needs no logarithm: 2s is x − s x.
        near = (x > -0.5) & (x < 1.0)
        small = self.where(near, x, 0.0)
        ratio = small / (2.0 + small)
        square = ratio * ratio
        series = 0.0 * small
        for coefficient in _ARTANH_SHORT if self.dtype(x) == "float32" else _ARTANH:
            series = (series + coefficient) * square
        return self.where(near, small - ratio * (small - series), self.log(1.0 + self.where(near, 0.0, x)))

    def sum(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        size = x.size if axis is None else x.shape[axis]
        # Along an axis whose size nobody knows there are mostly few.
        many = size > _RUN if size is not None else axis is None
        if many and self.dtype(x).startswith("float") and not (axis is None and keepdims):
            # onnxruntime adds one after the other, which costs the sum of a million float32 losses three digits: runs first, then runs of those.
            x, axis = (ndx.reshape(x, (-1,)), 0) if axis is None else (x, axis % x.ndim)
            x = _in_runs(_in_runs(x, axis), axis)
        return ndx.sum(x, axis=axis, keepdims=keepdims)

    # ndonnx's own take the mean in float64, which not every runtime has, and branch for axes that are empty.

    def mean(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        size = x.dynamic_size if axis is None else x.dynamic_shape[axis]
        return self.sum(x, axis=axis, keepdims=keepdims) / size.astype(x.dtype)

    def _largest(self, x: Tensor, axis: int | None, keepdims: bool) -> Tensor:
        axes = None if axis is None else operators.const(np.array([axis]))
        return ndx.asarray(operators.reduce_max(x.unwrap_spox(), axes, keepdims=int(keepdims)))

    def any(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return self.sum(self.cast(x, "int64"), axis=axis, keepdims=keepdims) > 0

    def all(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return ~self.any(~x, axis=axis, keepdims=keepdims)

    def take_class(self, x: Tensor, ids: Tensor, axis: int = -1) -> Tensor:
        return self.squeeze(ndx.take_along_axis(x, self.expand_dims(ids, axis), axis=axis), axis)

    def one_hot(self, ids: Tensor, classes: int, dtype: str = "float32") -> Tensor:
        return self.cast(self.expand_dims(ids, -1) == ndx.arange(classes), dtype)

    def expand_dims(self, x: Tensor, axis: int) -> Tensor:
        return ndx.expand_dims(x, axis=axis)

    def squeeze(self, x: Tensor, axis: int) -> Tensor:
        return ndx.squeeze(x, axis=axis)

    def concat(self, tensors: list[Tensor], axis: int = 0) -> Tensor:
        return ndx.concat(tensors, axis=axis)


def _in_runs(x: Tensor, axis: int) -> Tensor:
    """The sums of so many neighbours along the axis."""
    shape = x.dynamic_shape
    before, after = shape[:axis], shape[axis + 1 :]
    missing = ndx.broadcast_to(ndx.asarray(0.0, dtype=x.dtype), ndx.concat([before, -shape[axis : axis + 1] % _RUN, after]))
    runs = ndx.concat([before, ndx.asarray([-1, _RUN], dtype="int64"), after])
    return ndx.sum(ndx.reshape(ndx.concat([x, missing], axis=axis), runs), axis=axis + 1)


OPS = OnnxOps()
