"""The JAX adapter."""

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lossbackend.backends.blocks import rows_of
from lossbackend.backends.composed import ComposedOps, compiled
from lossbackend.ops import Tensor
from lossbackend.reduction import Partial

# A dtype works its name out anew each time, in two microseconds.
_NAMES = {np.dtype(name): name for name in ("float32", "float64", "int32", "int64", "bool")}
_INDEX = (np.dtype("int32"), np.dtype("int64"))

# The temporaries of a definition then stay in the cache; measured on (200000, 64) float32, half as many take 1.1 times as long, a quarter 1.3 times.
_BLOCK = 1 << 19


class JaxOps(ComposedOps):
    name = "jax"

    sign = staticmethod(jnp.sign)
    square = staticmethod(jnp.square)
    exp = staticmethod(jnp.exp)
    expm1 = staticmethod(jnp.expm1)
    log = staticmethod(jnp.log)
    sigmoid = staticmethod(jax.nn.sigmoid)
    where = staticmethod(jnp.where)
    ones_like = staticmethod(jnp.ones_like)
    equal = staticmethod(jnp.equal)
    isnan = staticmethod(jnp.isnan)
    isinf = staticmethod(jnp.isinf)
    sum = staticmethod(jnp.sum)
    mean = staticmethod(jnp.mean)
    any = staticmethod(jnp.any)
    all = staticmethod(jnp.all)
    reshape = staticmethod(jnp.reshape)
    expand_dims = staticmethod(jnp.expand_dims)
    squeeze = staticmethod(jnp.squeeze)
    concat = staticmethod(jnp.concatenate)
    stop_gradient = staticmethod(jax.lax.stop_gradient)
    _root = staticmethod(jnp.sqrt)
    _log1p = staticmethod(jnp.log1p)
    _floor = staticmethod(jnp.floor)
    _largest = staticmethod(jnp.max)

    def max(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return _max(x, axis, keepdims)

    def log_softmax(self, x: Tensor, axis: int = -1) -> Tensor:
        return _log_softmax(x, axis)

    def _shifted(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        # As composed, with 1 + sign for a comparison: that takes a pass of its own over the memory of a processor, where XLA makes one pass of
        # arithmetic and reductions.
        shifted = x - jax.lax.stop_gradient(jnp.max(x, axis=axis, keepdims=True))
        top = 1.0 + jnp.sign(shifted)
        ties = jnp.sum(top, axis=axis, keepdims=True)
        return shifted, self.log1p(jnp.sum(jnp.exp(shifted) - top, axis=axis, keepdims=True) + (ties - 1.0))

    def is_tensor(self, x: Any) -> bool:
        return isinstance(x, jax.Array)

    def asarray(self, x: Any, like: Tensor | None = None) -> Tensor:
        if isinstance(x, jax.Array):
            return x
        if isinstance(x, np.ndarray):
            return jnp.asarray(x)
        return jnp.asarray(x, dtype=None if like is None else like.dtype)

    def to_numpy(self, x: Tensor) -> Any:
        return np.asarray(x.astype("float32") if x.dtype == "bfloat16" else x)

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        if dtype != "index":
            return x.astype(dtype)
        # int32, or int64 where the user has switched that on: asking for more than there is makes JAX warn.
        return x if x.dtype in _INDEX else x.astype(jax.dtypes.canonicalize_dtype("int64"))

    def shape(self, x: Tensor) -> tuple[Any, ...]:
        return x.shape  # type: ignore[no-any-return]

    def dtype(self, x: Tensor) -> str:
        return _NAMES.get(x.dtype) or x.dtype.name

    def is_concrete(self, *tensors: Tensor) -> bool:
        for x in tensors:
            if isinstance(x, jax.core.Tracer) or not _at_hand(x.sharding):
                return False
        return True

    def take_class(self, x: Tensor, ids: Tensor, axis: int = -1) -> Tensor:
        # Not a gather, which JAX refuses along an axis that is spread over devices, and no slower: XLA makes it part of the pass that computes x.
        chosen = jax.lax.broadcasted_iota(ids.dtype, x.shape, axis % x.ndim) == jnp.expand_dims(ids, axis)
        return jnp.sum(x, axis=axis, where=chosen, dtype=x.dtype)

    def one_hot(self, ids: Tensor, classes: int, dtype: str = "float32") -> Tensor:
        return jax.nn.one_hot(ids, classes, dtype=jax.dtypes.canonicalize_dtype(dtype))

    def in_parts(self, y_true: Tensor, y_pred: Tensor) -> bool:
        # A tracer may have no size yet, and on several devices a block would be on one of them.
        large = not isinstance(y_pred, jax.core.Tracer) and y_pred.size >= 2 * _BLOCK
        return large and self.is_concrete(y_true, y_pred) and all(len(x.sharding.device_set) == 1 for x in (y_true, y_pred))

    def run(self, definition: Callable[..., Tensor], y_true: Tensor, y_pred: Tensor, options: Mapping[str, Any], apart: bool = False) -> Tensor:
        # Op by op, JAX is 3 to 20 times slower, also while it differentiates, and compiles for each shape either way.
        return self._run_compiled(_InBlocks(definition) if apart else definition, y_true, y_pred, options)

    def apply(self, function: Callable[..., Tensor], *tensors: Tensor | int | None) -> Tensor:
        return compiled(self, function, ())(*tensors)

    def value_and_grad(self, function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        value, pull = jax.vjp(function, x)
        (gradient,) = pull(jnp.ones_like(value))
        return value, gradient

    def compile(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        # Not inline: the backward pass of who differentiates eagerly would run op by op. And only the input is handed from one compiled pass to the
        # other, because intermediates are cheaper to compute again than to store. Inside another compiled function XLA sees that they are the same.
        return jax.jit(jax.checkpoint(function, prevent_cse=False))  # type: ignore[no-any-return]

    def double_precision(self) -> AbstractContextManager[Any]:
        return jax.enable_x64(True)  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=64)
def _at_hand(sharding: jax.sharding.Sharding) -> bool:
    # Of an array that is spread over several processes none holds all values.
    return bool(sharding.is_fully_addressable and next(iter(sharding.device_set)).platform == "cpu")


# Derivatives of their own, written with primitives that have one of every order: those of the parts take more passes over the memory.


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _max(x: Tensor, axis: int | None, keepdims: bool) -> Tensor:
    # XLA's max loses NaN, which has no sign.
    return jnp.max(x, axis=axis, keepdims=keepdims) + 0.0 * jnp.sum(jnp.sign(x), axis=axis, keepdims=keepdims)


@_max.defjvp  # type: ignore[untyped-decorator]
def _max_slope(axis: int | None, keepdims: bool, primals: tuple[Tensor], tangents: tuple[Tensor]) -> tuple[Tensor, Tensor]:
    (x,), (tangent,) = primals, tangents
    largest = _max(x, axis, True)
    top = jnp.where(x == largest, jnp.ones_like(x), jnp.where(jnp.isnan(largest), jnp.nan, 0.0))
    slope = jnp.sum(top * tangent, axis=axis, keepdims=True) / jnp.sum(top, axis=axis, keepdims=True)
    return (largest, slope) if keepdims else (jnp.squeeze(largest, axis), jnp.squeeze(slope, axis))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _log_softmax(x: Tensor, axis: int) -> Tensor:
    return ComposedOps.log_softmax(OPS, x, axis)


@_log_softmax.defjvp  # type: ignore[untyped-decorator]
def _log_softmax_slope(axis: int, primals: tuple[Tensor], tangents: tuple[Tensor]) -> tuple[Tensor, Tensor]:
    (x,), (tangent,) = primals, tangents
    # Not exp(log softmax), which the rounding of the logarithm puts off by as many units in the last place as that is large.
    return _log_softmax(x, axis), tangent - jnp.sum(OPS.softmax(x, axis) * tangent, axis=axis, keepdims=True)


class _InBlocks(NamedTuple):
    """A definition that runs over one block of samples after the other; equal, hence compiled once, for equal definitions."""

    definition: Callable[..., Tensor]

    def __call__(self, ops: JaxOps, y_true: Tensor, y_pred: Tensor, **options: Any) -> Tensor:
        samples, rows = len(y_pred), rows_of(y_pred.shape, _BLOCK)
        count = -(-samples // rows)

        def losses(block: Tensor) -> Tensor:
            # A slice that would end after the last sample begins earlier, so that all have one size.
            parts = (jax.lax.dynamic_slice_in_dim(x, block * rows, rows) for x in (y_true, y_pred))
            return self.definition(ops, *parts, **options)

        blocks = jax.lax.map(losses, jnp.arange(count))
        return jnp.concatenate([blocks[:-1].reshape(-1, *blocks.shape[2:]), blocks[-1, count * rows - samples :]])


OPS = JaxOps()

jax.tree_util.register_pytree_node(Partial, Partial.flatten, Partial.unflatten)
