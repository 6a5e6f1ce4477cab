"""lossbackend on MLX: the adapter, and every loss for MLX arrays alone, as ``lossbackend_mlx.mse``."""

import mlx.core as mx
import numpy as np

from lossbackend.backends.composed import ComposedOps
from lossbackend.registry import pinned


@mx.custom_function
def _exp(x):
    # mx.exp has the digits of a float32 at best, in float64 too; mx.expm1 has them all. 1/e^|x|, because 1 + expm1(−50) would be 0.
    power = 1 + mx.expm1(mx.abs(x))
    return mx.where(x < 0, 1 / power, power)


@_exp.vjp
def _exp_slope(x, cotangent, power):
    return cotangent * power


@mx.custom_function
def _select(condition, x, y):
    return mx.where(condition, x, y)


@_select.vjp
def _select_slope(arrays, cotangent, selected):
    # mx.where multiplies by 0 or 1, and 0 · inf is NaN.
    condition, nothing = arrays[0], mx.zeros_like(cotangent)
    return mx.zeros_like(condition), mx.where(condition, cotangent, nothing), mx.where(condition, nothing, cotangent)


class MlxOps(ComposedOps):
    name = "mlx"

    square = staticmethod(mx.square)
    exp = staticmethod(_exp)
    expm1 = staticmethod(mx.expm1)
    log = staticmethod(mx.log)
    ones_like = staticmethod(mx.ones_like)
    equal = staticmethod(mx.equal)
    isnan = staticmethod(mx.isnan)
    isinf = staticmethod(mx.isinf)
    any = staticmethod(mx.any)
    all = staticmethod(mx.all)
    reshape = staticmethod(mx.reshape)
    expand_dims = staticmethod(mx.expand_dims)
    squeeze = staticmethod(mx.squeeze)
    concat = staticmethod(mx.concatenate)
    stop_gradient = staticmethod(mx.stop_gradient)
    compile = staticmethod(mx.compile)
    _root = staticmethod(mx.sqrt)
    _log1p = staticmethod(mx.log1p)
    _floor = staticmethod(mx.floor)
    _largest = staticmethod(mx.max)

    def is_tensor(self, x):
        return isinstance(x, mx.array)

    def asarray(self, x, like=None):
        if isinstance(x, mx.array):
            return x
        if isinstance(x, np.ndarray):
            # mx.array takes no view from the end, and makes float32 of float64, which no GPU has.
            return mx.array(np.asarray(x, order="C"), mx.float64 if x.dtype == np.float64 and _on_cpu() else None)
        return mx.array(x, None if like is None else like.dtype)

    def to_numpy(self, x):
        return np.asarray(x.astype(mx.float32) if x.dtype == mx.bfloat16 else x)

    def cast(self, x, dtype):
        return x.astype(getattr(mx, {"index": "int64", "bool": "bool_"}.get(dtype, dtype)))

    def shape(self, x):
        return x.shape

    def dtype(self, x):
        return str(x.dtype).removeprefix("mlx.core.")

    def is_concrete(self, *tensors):
        if tensors and not _on_cpu():
            return False
        try:
            mx.eval(*tensors)
        except ValueError:
            # Inside mx.compile and mx.vmap there are no values; inside mx.grad there are.
            return False
        return True

    def where(self, condition, x, y):
        like = x if isinstance(x, mx.array) else y
        return _select(*mx.broadcast_arrays(condition, self.asarray(x, like), self.asarray(y, like)))

    def sign(self, x):
        # NaN at NaN, where mx.sign has 0: the slope of abs.
        return mx.where(mx.isnan(x), x, mx.sign(x))

    def sum(self, x, axis=None, keepdims=False):
        if x.size == 0:
            # mx.sum of nothing may never end.
            x = mx.zeros([1 if axis in (None, i, i - x.ndim) else size for i, size in enumerate(x.shape)], x.dtype)
        # On a processor mx.sum adds one number after the other: a million float32 would be off by a percent.
        precise = x.astype(mx.float64) if x.dtype == mx.float32 and _on_cpu() else x
        return mx.sum(precise, axis, keepdims).astype(x.dtype)

    def mean(self, x, axis=None, keepdims=False):
        return self.sum(x, axis, keepdims) / (x.size if axis is None else x.shape[axis])

    def take_class(self, x, ids, axis=-1):
        return mx.take_along_axis(x, mx.expand_dims(ids, axis), axis).squeeze(axis)

    def one_hot(self, ids, classes, dtype="float32"):
        return self.cast(mx.expand_dims(ids, -1) == mx.arange(classes), dtype)

    def value_and_grad(self, function, x):
        def total(x):
            value = function(x)
            return value.sum(), value

        (_, value), gradient = mx.value_and_grad(total)(x)
        return value, gradient

    def double_precision(self):
        return mx.stream(mx.cpu)


def _on_cpu():
    return mx.default_device().type == mx.cpu


OPS = MlxOps()
globals().update(pinned("mlx", __name__))
