"""The JAX adapter."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lossbackend.backends.composed import ComposedOps, compiled
from lossbackend.ops import Tensor
from lossbackend.reduction import Partial

# A dtype works its name out anew each time, in two microseconds.
_NAMES = {np.dtype(name): name for name in ("float32", "float64", "int32", "int64", "bool")}
_INDEX = (np.dtype("int32"), np.dtype("int64"))


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
        # Of an array that is spread over several processes none holds all values.
        for x in tensors:
            if isinstance(x, jax.core.Tracer) or not x.is_fully_addressable or next(iter(x.sharding.device_set)).platform != "cpu":
                return False
        return True

    def take_class(self, x: Tensor, ids: Tensor, axis: int = -1) -> Tensor:
        return jnp.take_along_axis(x, jnp.expand_dims(ids, axis), axis=axis, mode="clip").squeeze(axis)

    def one_hot(self, ids: Tensor, classes: int, dtype: str = "float32") -> Tensor:
        return jax.nn.one_hot(ids, classes, dtype=jax.dtypes.canonicalize_dtype(dtype))

    def run(self, definition: Callable[..., Tensor], y_true: Tensor, y_pred: Tensor, options: Mapping[str, Any], apart: bool = False) -> Tensor:
        # Op by op, JAX is 3 to 20 times slower, also while it differentiates, and compiles for each shape either way.
        return self._run_compiled(definition, y_true, y_pred, options)

    def apply(self, function: Callable[..., Tensor], *tensors: Tensor | int | None) -> Tensor:
        return compiled(self, function, ())(*tensors)

    def value_and_grad(self, function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        value, pull = jax.vjp(function, x)
        (gradient,) = pull(jnp.ones_like(value))
        return value, gradient

    def compile(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        # Inside another compiled function it leaves no call of its own.
        return jax.jit(function, inline=True)  # type: ignore[no-any-return]

    def double_precision(self) -> AbstractContextManager[Any]:
        return jax.enable_x64(True)  # type: ignore[no-any-return]


OPS = JaxOps()

jax.tree_util.register_pytree_node(Partial, Partial.flatten, Partial.unflatten)
