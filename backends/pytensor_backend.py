"""The PyTensor adapter: symbolic tensors in, a graph out, which ``pytensor.function`` compiles and runs later.

PyTensor rewrites a graph before it runs it, as if no number were NaN or infinite (0 · x is 0, x − x is 0): what follows must hold either way.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad
from pytensor.graph.basic import Constant
from pytensor.graph.traversal import graph_inputs
from pytensor.scalar.basic import autocast_float_as
from pytensor.tensor.variable import TensorVariable

from lossbackend.backends.composed import ComposedOps
from lossbackend.ops import Tensor

# For values that are asked for once: without a compiler, and rewritten as in every mode, so that it shows what users will get.
_AT_ONCE = "FAST_COMPILE"


class PytensorOps(ComposedOps):
    name = "pytensor"

    abs = staticmethod(pt.abs)
    sign = staticmethod(pt.sign)
    square = staticmethod(pt.sqr)
    exp = staticmethod(pt.exp)
    expm1 = staticmethod(pt.expm1)
    log = staticmethod(pt.log)
    log1p = staticmethod(pt.log1p)
    ones_like = staticmethod(pt.ones_like)
    isnan = staticmethod(pt.isnan)
    isinf = staticmethod(pt.isinf)
    sum = staticmethod(pt.sum)
    mean = staticmethod(pt.mean)
    any = staticmethod(pt.any)
    all = staticmethod(pt.all)
    reshape = staticmethod(pt.reshape)
    expand_dims = staticmethod(pt.expand_dims)
    squeeze = staticmethod(pt.squeeze)
    concat = staticmethod(pt.concatenate)
    stop_gradient = staticmethod(disconnected_grad)
    _root = staticmethod(pt.sqrt)
    _floor = staticmethod(pt.floor)
    _largest = staticmethod(pt.max)

    def is_tensor(self, x: Any) -> bool:
        # A sparse matrix is a TensorVariable too, of a type with a format.
        return isinstance(x, TensorVariable) and not hasattr(x.type, "format")

    def asarray(self, x: Any, like: Tensor | None = None) -> Tensor:
        if isinstance(x, TensorVariable):
            return x
        if isinstance(x, np.ndarray):
            # A copy: the graph runs later, and the array may be somebody's buffer.
            return pt.constant(x.copy())
        return pt.constant(np.asarray(x, None if like is None else like.dtype))

    def to_numpy(self, x: Tensor) -> Any:
        if isinstance(x, Constant):
            return x.data
        # NumPy, which does the work then, would warn of a sum of float32 that is infinite.
        with np.errstate(all="ignore"):
            return pytensor.function([], x, mode=_AT_ONCE)()

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        wanted = "int64" if dtype == "index" else dtype
        return pt.neq(x, 0) if wanted == "bool" != x.dtype else pt.cast(x, wanted)

    def shape(self, x: Tensor) -> tuple[Any, ...]:
        return x.type.shape  # type: ignore[no-any-return]

    def dtype(self, x: Tensor) -> str:
        return x.dtype  # type: ignore[no-any-return]

    def is_concrete(self, *tensors: Tensor) -> bool:
        # A shared variable has a value now, but what the graph will see is its value then.
        return all(isinstance(leaf, Constant) for leaf in graph_inputs(tensors))

    def where(self, condition: Tensor, x: Any, y: Any) -> Tensor:
        # A condition that looks differentiable adds zeros to the gradient, in float64.
        return pt.switch(disconnected_grad(condition), _number(x, y), _number(y, x))

    def equal(self, x: Tensor, y: Any) -> Tensor:
        # An == of PyTensor asks whether it is the same variable, which is rewritten to be equal to itself, where it is NaN too.
        return pt.eq(pt.isnan(x), 0) if x is y else pt.eq(x, _number(y, x))

    def times(self, weight: Any, x: Tensor) -> Tensor:
        # A constant 0 times NaN is rewritten to 0.
        return self.where(self.isnan(x), x, 0.0) if isinstance(weight, (int, float)) and weight == 0 else super().times(weight, x)

    def max(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        # PyTensor gives the whole gradient to every entry of a tie. What is added is 0, and NaN where the maximum has lost one.
        largest = pt.max(x, axis=axis, keepdims=True)
        value = disconnected_grad(largest)
        ties = self.sum(self.cast(pt.eq(disconnected_grad(x), value), x.dtype), axis=axis, keepdims=True)
        lost = self.sum(self.where(self.isnan(x), x, 0.0), axis=axis, keepdims=True)
        result = self.where(self.isinf(value), largest, value + (largest - value) / ties) + self.square(lost)
        return result if keepdims else pt.squeeze(result, axis=axis)

    def divide(self, x: Tensor, y: Tensor) -> Tensor:
        # By the root of |y|, twice, because the slope has a y² in it, which is 0 for 1e-20. Rewrites would cancel the roots, and make one selection
        # of two with one condition: hence two of them. (The losses of class probabilities add 0 · y to a sum y, so that an infinity makes NaN of all;
        # that is rewritten to 0, so it is the divisor that does.)
        root = pt.sqrt(pt.abs(disconnected_grad(y)))
        return self.where(self.isnan(y), x / disconnected_grad(y), x / root) / self.where(self.isinf(y), np.nan, y / root)

    def sqrt(self, x: Tensor) -> Tensor:
        # As composed, with the 0 taken from x: a constant one times NaN is rewritten to 0.
        zero = self.equal(x, 0)
        return self.where(zero, disconnected_grad(x), self._root(self.where(zero, 1.0, x)))

    def take_class(self, x: Tensor, ids: Tensor, axis: int = -1) -> Tensor:
        # Not by indices, which take several forms in the modes of PyTensor, not all of which the modes can compile or differentiate.
        axis %= x.ndim
        x = pt.specify_shape(x, (*ids.type.shape[:axis], None, *ids.type.shape[axis:]))
        return self.sum(self.where(self._chosen(ids, x.shape[axis], axis), x, 0.0), axis=axis)

    def one_hot(self, ids: Tensor, classes: int, dtype: str = "float32") -> Tensor:
        return self.cast(self._chosen(ids, classes, ids.ndim), dtype)

    def _chosen(self, ids: Tensor, classes: Any, axis: int) -> Tensor:
        """Whether a class is the one that the id names, along a new axis of classes."""
        counted = pt.arange(classes, dtype=ids.dtype)
        return pt.eq(pt.expand_dims(ids, axis), pt.expand_dims(counted, tuple(range(1, ids.ndim - axis + 1))))

    def run(self, definition: Callable[..., Tensor], y_true: Tensor, y_pred: Tensor, options: Mapping[str, Any], apart: bool = False) -> Tensor:
        if y_true.ndim == y_pred.ndim:
            # What is known of one is asked of the other when the graph runs: a column beside a matrix would be broadcast.
            y_true, y_pred = pt.specify_shape(y_true, y_pred.type.shape), pt.specify_shape(y_pred, y_true.type.shape)
        with _python_numbers_as(y_pred.dtype):
            values = definition(self, y_true, y_pred, **options)
        # An int of 32768 or more is a tensor of int32, and float32 · int32 is float64.
        return pt.cast(values, y_pred.dtype) if getattr(values, "dtype", "") == "float64" else values

    def apply(self, function: Callable[..., Tensor], *tensors: Tensor | int | None) -> Tensor:
        with _python_numbers_as(next(x.dtype for x in tensors if isinstance(x, TensorVariable))):
            return function(self, *tensors)

    def value_and_grad(self, function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        value = function(x)
        # The gradient of a cast from float16 stays float32.
        return value, pt.cast(pytensor.grad(pt.sum(value), x, disconnected_inputs="ignore"), x.dtype)


@contextmanager
def _python_numbers_as(dtype: str) -> Iterator[None]:
    """A context in which a float beside a tensor is of that dtype: elsewhere 0.1 is a tensor of float64, which makes one of the other."""
    with pytensor.config.change_flags(cast_policy="custom"), autocast_float_as(dtype):
        yield


def _number(value: Any, beside: Any) -> Any:
    """A Python number in the dtype of the tensor beside it: PyTensor would give it one of its own, which might change the tensor's."""
    return value if isinstance(value, TensorVariable) or not isinstance(beside, TensorVariable) else np.asarray(value, beside.dtype)


OPS = PytensorOps()
