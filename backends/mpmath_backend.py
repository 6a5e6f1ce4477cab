"""The exact reference: definitions in arithmetic of 1024 bits, on NumPy arrays of mpmath numbers. Slow, and only for measuring the others."""

import operator
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np

from lossbackend.backends.composed import ComposedOps
from lossbackend.ops import Tensor

# A context of its own: the precision of mpmath.mp is the user's, and mpmath numbers calculate in that of the context they come from.
_EXACT = mpmath.MPContext()
_EXACT.prec = 1024
_BEYOND = _EXACT.mpf(2) ** 1100

_DTYPES: dict[str, Any] = {"index": np.intp}


def _elementwise(function: Callable[..., Any], inputs: int = 1) -> Any:
    """A function of numbers over arrays of them; mpmath raises where IEEE arithmetic has NaN or an infinity."""
    universal = np.frompyfunc(function, inputs, 1)
    return staticmethod(lambda *arrays: _array(universal(*arrays)))


def _array(x: Any) -> Any:
    """An array also of a single number."""
    if isinstance(x, np.ndarray):
        return x
    single = np.empty((), dtype=object)
    single[()] = x
    return single


def _exact(x: Any) -> Any:
    """mpmath numbers of the same values."""
    return _array(np.frompyfunc(_EXACT.mpf, 1, 1)(np.asarray(x).astype(object)))


def _exp(x: Any) -> Any:
    # e to what no float64 holds takes as many digits as x has bits in front of its point, and for ever: it is 0 or infinite to whoever reads it.
    if _EXACT.isfinite(x) and abs(x) > _BEYOND:
        return _EXACT.inf if x > 0 else _EXACT.zero
    return _EXACT.exp(x)


def _log(x: Any) -> Any:
    return -_EXACT.inf if x == 0 else _EXACT.nan if x < 0 else _EXACT.log(x)


def _expm1(x: Any) -> Any:
    return _EXACT.expm1(x) if _EXACT.isfinite(x) and abs(x) < _BEYOND else _exp(x) - 1


class MpmathOps(ComposedOps):
    name = "mpmath"
    differentiable = False

    abs = _elementwise(abs)
    sign = _elementwise(_EXACT.sign)
    square = _elementwise(lambda x: x * x)
    divide = staticmethod(operator.truediv)
    # What it is asked of lies between 0 and 1.
    _floor = _elementwise(lambda x: _EXACT.mpf(x == 1))
    sqrt = _elementwise(lambda x: _EXACT.nan if x < 0 else _EXACT.sqrt(x))
    exp = _elementwise(_exp)
    expm1 = _elementwise(_expm1)
    log = _elementwise(_log)
    log1p = _elementwise(lambda x: _EXACT.log1p(x) if _EXACT.isfinite(x) and x > -1 else _log(1 + x))
    relu = _elementwise(lambda x: _EXACT.zero if x <= 0 else x)
    equal = staticmethod(lambda x, y: np.asarray(np.equal(x, y), dtype=bool))
    isnan = staticmethod(lambda x: np.asarray(np.frompyfunc(_EXACT.isnan, 1, 1)(x), dtype=bool))
    isinf = staticmethod(lambda x: np.asarray(np.frompyfunc(_EXACT.isinf, 1, 1)(x), dtype=bool))
    reshape = staticmethod(np.reshape)
    expand_dims = staticmethod(np.expand_dims)
    squeeze = staticmethod(np.squeeze)

    def is_tensor(self, x: Any) -> bool:
        return isinstance(x, np.ndarray)

    def asarray(self, x: Any, like: Tensor | None = None) -> Tensor:
        if isinstance(x, np.ndarray) and x.dtype.kind in "Obiu":
            return x
        return _exact(np.asarray(x))

    def to_numpy(self, x: Tensor) -> Any:
        return x if x.dtype != object else x.astype(np.float64)

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        if dtype.startswith(("float", "bfloat")):
            return _exact(x)
        return x.astype(_DTYPES.get(dtype, dtype))

    def shape(self, x: Tensor) -> tuple[Any, ...]:
        return np.shape(x)

    def dtype(self, x: Tensor) -> str:
        # Arithmetic on arrays of rank 0 leaves a bare number.
        return "float64" if _array(x).dtype == object else str(x.dtype.name)

    def is_concrete(self, *tensors: Tensor) -> bool:
        return True

    def stop_gradient(self, x: Tensor) -> Tensor:
        return x

    def ones_like(self, x: Tensor) -> Tensor:
        return self.asarray(np.ones(np.shape(x)))

    def where(self, condition: Tensor, x: Any, y: Any) -> Tensor:
        # A number that is selected would go on in arithmetic of 53 bits.
        x, y = (_EXACT.mpf(value) if isinstance(value, (int, float)) else value for value in (x, y))
        return _array(np.where(condition, _array(x), _array(y)))

    def sum(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        x = _array(x)
        if x.dtype != object:
            return np.asarray(np.sum(x, axis=axis, keepdims=keepdims))
        return _array(np.sum(x, axis=axis, keepdims=keepdims, initial=_EXACT.zero))

    def mean(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return _array(self.sum(x, axis, keepdims) / (np.size(x) if axis is None else np.shape(x)[axis]))

    def max(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        # Comparisons with NaN are False, so the largest of the others would win.
        missing = np.any(self.isnan(x), axis=axis, keepdims=keepdims)
        return self.where(missing, _EXACT.nan, np.max(self.where(self.isnan(x), -_EXACT.inf, x), axis=axis, keepdims=keepdims))

    def any(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return np.any(x, axis=axis, keepdims=keepdims)

    def all(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return np.all(x, axis=axis, keepdims=keepdims)

    def take_class(self, x: Tensor, ids: Tensor, axis: int = -1) -> Tensor:
        return np.take_along_axis(x, np.expand_dims(ids, axis), axis=axis).squeeze(axis)

    def one_hot(self, ids: Tensor, classes: int, dtype: str = "float32") -> Tensor:
        return self.cast(np.expand_dims(ids, -1) == np.arange(classes), dtype)

    def concat(self, tensors: list[Tensor], axis: int = 0) -> Tensor:
        return np.concatenate(tensors, axis=axis)


OPS = MpmathOps()
