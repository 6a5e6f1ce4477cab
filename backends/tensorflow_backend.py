"""The TensorFlow adapter."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from lossbackend.backends.composed import ComposedOps
from lossbackend.ops import Tensor

# From here on XLA is 2 to 8 times faster, with the gradient too; compiling takes a tenth of a second, as long as dozens of smaller calls.
_COMPILED = 1 << 17


class TensorflowOps(ComposedOps):
    name = "tensorflow"

    # tf.abs has slope 0 at 0.
    abs = staticmethod(tf.abs)
    sign = staticmethod(tf.sign)
    square = staticmethod(tf.square)
    exp = staticmethod(tf.exp)
    expm1 = staticmethod(tf.math.expm1)
    log = staticmethod(tf.math.log)
    sigmoid = staticmethod(tf.sigmoid)
    ones_like = staticmethod(tf.ones_like)
    equal = staticmethod(tf.equal)
    isnan = staticmethod(tf.math.is_nan)
    isinf = staticmethod(tf.math.is_inf)
    sum = staticmethod(tf.reduce_sum)
    mean = staticmethod(tf.reduce_mean)
    any = staticmethod(tf.reduce_any)
    all = staticmethod(tf.reduce_all)
    reshape = staticmethod(tf.reshape)
    expand_dims = staticmethod(tf.expand_dims)
    squeeze = staticmethod(tf.squeeze)
    stop_gradient = staticmethod(tf.stop_gradient)
    _root = staticmethod(tf.sqrt)
    _log1p = staticmethod(tf.math.log1p)
    _floor = staticmethod(tf.floor)
    _largest = staticmethod(tf.reduce_max)

    def is_tensor(self, x: Any) -> bool:
        return isinstance(x, (tf.Tensor, tf.Variable))

    def asarray(self, x: Any, like: Tensor | None = None) -> Tensor:
        if isinstance(x, tf.Tensor):
            return x
        if isinstance(x, (tf.Variable, np.ndarray)):
            return tf.convert_to_tensor(x)
        return tf.convert_to_tensor(x, dtype=None if like is None else like.dtype)

    def to_numpy(self, x: Tensor) -> Any:
        return (tf.cast(x, tf.float32) if x.dtype == tf.bfloat16 else x).numpy()

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        return tf.cast(x, "int64" if dtype == "index" else dtype)

    def shape(self, x: Tensor) -> tuple[Any, ...]:
        shape = x.shape
        if shape.rank is None:
            raise ValueError("a tensor of unknown rank: give it one, for example with tensor.set_shape([None, 10])")
        return tuple(shape.as_list())

    def dtype(self, x: Tensor) -> str:
        return x.dtype.name  # type: ignore[no-any-return]

    def is_concrete(self, *tensors: Tensor) -> bool:
        return not any(tf.is_symbolic_tensor(x) or "CPU" not in x.device for x in tensors)

    def where(self, condition: Tensor, x: Any, y: Any) -> Tensor:
        if tf.executing_eagerly():
            return tf.where(condition, x, y)
        # In a graph, a Python number does not take the dtype of the tensor on the other side by itself.
        dtype = getattr(x, "dtype", None) or getattr(y, "dtype", None)
        return tf.where(condition, tf.convert_to_tensor(x, dtype), tf.convert_to_tensor(y, dtype))

    def max(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        # Only XLA loses NaN, and whether it is to compile a graph the graph does not know.
        return tf.reduce_max(x, axis, keepdims) if tf.executing_eagerly() else super().max(x, axis, keepdims)

    def take_class(self, x: Tensor, ids: Tensor, axis: int = -1) -> Tensor:
        axis %= x.shape.rank
        if axis != x.shape.rank - 1:
            x = tf.transpose(x, [*range(axis), *range(axis + 1, x.shape.rank), axis])
        return tf.gather(x, ids, axis=-1, batch_dims=x.shape.rank - 1)

    def one_hot(self, ids: Tensor, classes: int, dtype: str = "float32") -> Tensor:
        # tf.one_hot makes no bools.
        return tf.cast(tf.equal(tf.expand_dims(ids, -1), tf.range(classes, dtype=ids.dtype)), dtype)

    def concat(self, tensors: list[Tensor], axis: int = 0) -> Tensor:
        return tf.concat(tensors, axis)

    def run(self, definition: Callable[..., Tensor], y_true: Tensor, y_pred: Tensor, options: Mapping[str, Any], apart: bool = False) -> Tensor:
        if tf.executing_eagerly() and self.is_concrete(y_true, y_pred) and y_pred.shape.num_elements() >= _COMPILED:
            return self._run_compiled(definition, y_true, y_pred, options)
        return definition(self, y_true, y_pred, **options)

    def value_and_grad(self, function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        return value, tape.gradient(value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def compile(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return tf.function(function, jit_compile=True, autograph=False)  # type: ignore[no-any-return]


OPS = TensorflowOps()
