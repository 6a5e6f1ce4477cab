"""The TensorFlow adapter."""

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from lossbackend.backends.composed import ComposedOps
from lossbackend.ops import Tensor

try:
    from tensorflow.python.eager.record import could_possibly_record
except ImportError:
    # It is not public. Whoever does not know has to assume so.
    def could_possibly_record() -> bool:
        """Whether somebody differentiates."""
        return True


# From here on XLA is 2 to 8 times faster, with the gradient too; compiling takes a tenth of a second, as long as dozens of smaller calls.
_COMPILED = 1 << 17

# Below, an operation takes 15 µs whatever it computes, and a traced definition 30 µs, or 140 where somebody differentiates. Tracing takes 7 to 35 ms,
# the gradient as long again: dozens of calls, so only what is called again and again is traced. A mean of squares is 7 operations.
_TRACED_AT_CALL, _FEW_OPERATIONS, _KEPT = 16, 10, 64


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
        wanted = "int64" if dtype == "index" else dtype
        # A cast to the same type takes 3 µs.
        return x if x.dtype.name == wanted else tf.cast(x, wanted)

    def shape(self, x: Tensor) -> tuple[Any, ...]:
        shape = x.shape
        if shape.rank is None:
            raise ValueError("a tensor of unknown rank: give it one, for example with tensor.set_shape([None, 10])")
        return tuple(shape.as_list())

    def dtype(self, x: Tensor) -> str:
        return x.dtype.name  # type: ignore[no-any-return]

    def is_concrete(self, *tensors: Tensor) -> bool:
        for x in tensors:
            if tf.is_symbolic_tensor(x) or "CPU" not in x.device:
                return False
        return True

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
        if tf.executing_eagerly() and self.is_concrete(y_true, y_pred):
            # What users write may look at values and globals.
            ours = definition.__module__.startswith("lossbackend.")
            if y_pred.shape.num_elements() >= _COMPILED:
                try:
                    return self._run_compiled(definition, y_true, y_pred, options)
                except Exception:
                    if ours:
                        raise
            elif ours:
                return self._run_small(definition, y_true, y_pred, options)
        return definition(self, y_true, y_pred, **options)

    def _run_small(self, definition: Callable[..., Tensor], y_true: Tensor, y_pred: Tensor, options: Mapping[str, Any]) -> Tensor:
        try:
            # The type and rank of y_true follow from the definition.
            small = _small(definition, tuple(options.items()), y_pred.dtype, y_pred.shape.rank)
        except TypeError:
            # A learned option cannot be hashed.
            return definition(self, y_true, y_pred, **options)
        return small.call(y_true, y_pred)

    def value_and_grad(self, function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        return value, tape.gradient(value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def compile(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return tf.function(function, jit_compile=True, autograph=False)  # type: ignore[no-any-return]


class _Traced:
    """A function of tensors as one operation for all sizes, differentiable any number of times.

    The operation runs in the thread of its caller. Called as it is meant to be, a tf.function waits for threads of TensorFlow's, which takes 100 µs
    more, and which a forked process does not have and py_functions take from each other.
    """

    def __init__(self, function: Callable[..., Any], signature: Sequence[tf.TensorSpec]) -> None:
        self._function = function
        self._signature = signature
        # In a thread of its own: forward mode, which asks for gradients too, stops all tapes of this one, those inside the function as well.
        with ThreadPoolExecutor(1) as thread:
            self._traced = thread.submit(tf.function(function, autograph=False, jit_compile=False).get_concrete_function, *signature).result()
        self._results = [result.dtype for result in self._traced.outputs]
        self._few = len(self._traced.graph.get_operations()) <= _FEW_OPERATIONS
        self._differentiable = tf.custom_gradient(self._recorded)

    def __call__(self, *tensors: Tensor) -> Any:
        if not tf.executing_eagerly():
            # tape.jacobian differentiates in a graph, where there is nothing to gain.
            return self._function(*tensors)
        if could_possibly_record():
            return self._differentiable(*tensors)
        return self._function(*tensors) if self._few else self._run(tensors)

    def _run(self, tensors: Sequence[Tensor]) -> Any:
        results = tf.raw_ops.PartitionedCall(args=tensors, Tout=self._results, f=self._traced)
        return results if len(results) > 1 else results[0]

    def _recorded(self, *tensors: Tensor) -> Any:
        # TensorFlow knows no gradient of this operation, and must not look for one.
        return self._run([tf.stop_gradient(x) for x in tensors]), lambda *slopes: self._gradient(*tensors, *slopes)

    @functools.cached_property
    def _gradient(self) -> Callable[..., Any]:
        """The gradient by each of the tensors, None for integers, as a function of the tensors and the slopes of the results."""
        inputs = len(self._signature)
        floating = [i for i, spec in enumerate(self._signature) if spec.dtype.is_floating]

        def gradient(*tensors: Tensor) -> Any:
            wanted = [tensors[i] for i in floating]
            with tf.GradientTape() as tape:
                tape.watch(wanted)
                results = self._function(*tensors[:inputs])
            return tape.gradient(results, wanted, tensors[inputs:], unconnected_gradients=tf.UnconnectedGradients.ZERO)

        traced = _Traced(gradient, [*self._signature, *(tf.TensorSpec(result.shape, result.dtype) for result in self._traced.outputs)])

        def complete(*tensors: Tensor) -> Any:
            gradients: list[Any] = [None] * inputs
            for i, found in zip(floating, tf.nest.flatten(traced(*tensors)), strict=True):
                gradients[i] = found
            return gradients

        return complete


class _Small:
    """A definition with its options on small tensors of one type and rank: as it is for the first calls, then traced."""

    def __init__(self, definition: Callable[..., Tensor], options: Mapping[str, Any]) -> None:
        self.call: Callable[..., Tensor] = self._counted
        self._function: Callable[..., Tensor] = lambda y_true, y_pred: definition(OPS, y_true, y_pred, **options)
        self._calls = 0

    def _counted(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        self._calls += 1
        if self._calls >= _TRACED_AT_CALL:
            self.call = _Traced(self._function, [tf.TensorSpec([None] * x.shape.rank, x.dtype) for x in (y_true, y_pred)])
        return self._function(y_true, y_pred)


@functools.lru_cache(maxsize=_KEPT)
def _small(definition: Callable[..., Tensor], options: tuple[tuple[str, Any], ...], dtype: tf.DType, rank: int) -> _Small:
    return _Small(definition, dict(options))


OPS = TensorflowOps()
