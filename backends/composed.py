"""Primitives that follow from others, in a form that meets the contract on any framework.

An adapter inherits them and overrides one where its framework's own primitive meets the contract too. The comments say what goes wrong otherwise.
"""

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lossbackend.ops import Ops, Tensor


class ComposedOps(Ops):
    """What an adapter need not write. A class that lacks one of the others is a TypeError that names them."""

    differentiable = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # What is inherited from the protocol returns None, which would come out far from here.
        required = [name for name in ("name", *vars(Ops)) if not name.startswith("_")]
        missing = [name for name in required if getattr(cls, name, None) is vars(Ops).get(name)]
        if missing:
            raise TypeError(f"the adapter {cls.__name__} lacks {', '.join(missing)}: lossbackend/ops.py says what each of them does")

    def abs(self, x: Tensor) -> Tensor:
        # |x|' at 0 is 1 in JAX. The sign is a constant of the derivative, so it is 0 here (NaN at NaN), and every higher derivative is 0.
        return x * self.stop_gradient(self.sign(x))

    def sqrt(self, x: Tensor) -> Tensor:
        # √' at 0 is inf, and inf · 0 is NaN further down: keep the 0 away from the root.
        zero = self.equal(x, 0)
        return self.where(zero, 0.0, self._root(self.where(zero, 1.0, x)))

    def _root(self, x: Tensor) -> Tensor:
        """The framework's own square root."""
        raise self._lacks("_root, the framework's own square root")

    def log1p(self, x: Tensor) -> Tensor:
        if self.dtype(x) != "float64":
            return self._log1p(x)
        # XLA's float64 log1p is off by 120 units in the last place around −0.41, and right below 0.3: halve the logarithm into that range,
        # log(1 + x) = 2 log √(1 + x), and take √(1 + x) − 1 without cancellation.
        near = self.abs(x) < 0.5
        small = self.where(near, x, 0.0)
        halved = self._log1p(small / (1.0 + self._root(1.0 + small)))
        return self.where(near, 2.0 * halved, self.log(1.0 + self.where(near, 0.0, x)))

    def _log1p(self, x: Tensor) -> Tensor:
        """The framework's own log(1 + x)."""
        raise self._lacks("_log1p, the framework's own log(1 + x)")

    def relu(self, x: Tensor) -> Tensor:
        # XLA's max loses NaN in some shapes; max(x, 0) has slope ½ or 1 at 0.
        return self.where(x <= 0, 0.0, x)

    def _nowhere(self, condition: Tensor) -> bool:
        """Whether the condition is seen to hold nowhere; False where values cannot be looked at, or a look would not pay."""
        return False

    def _floor(self, x: Tensor) -> Tensor:
        """The largest whole number that is not above; its gradient is not asked for."""
        raise self._lacks("_floor, the largest whole number that is not above")

    def _lacks(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"the adapter {type(self).__name__} lacks {what}")

    def max(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        # XLA's max loses NaN. What is added is 0, or a NaN whose slope at the NaN is NaN too; a NaN that is only selected would have slope 0.
        lost = self.sum(self.where(self.isnan(x), x, 0.0), axis=axis, keepdims=keepdims)
        return self._largest(x, axis=axis, keepdims=keepdims) + self.square(lost)

    def _largest(self, x: Tensor, axis: int | None, keepdims: bool) -> Tensor:
        """The framework's own maximum along an axis, which may lose NaN, and splits the gradient of a tie."""
        if type(self).max is ComposedOps.max:
            raise self._lacks("_largest, the framework's own maximum along an axis")
        return self.max(x, axis=axis, keepdims=keepdims)

    def sigmoid(self, x: Tensor) -> Tensor:
        decay = self.exp(self.where(x > 0, -x, x))
        return self.where(x > 0, 1.0, decay) / (1.0 + decay)

    def softplus(self, x: Tensor) -> Tensor:
        # max(x, 0) + log1p(exp(−|x|)). Both branches of −|x| have a slope at 0 (−1 or 1, never 0), so that softplus' is ½ there and softplus'' is ¼.
        positive = x > 0
        return self.where(positive, x, 0.0) + self.log1p(self.exp(self.where(positive, -x, x)))

    def clip(self, x: Tensor, low: Any, high: Any) -> Tensor:
        # min and max give ½ at a bound in JAX, clip too: select instead, which keeps NaN as well.
        if high is not None:
            x = self.where(x > high, high, x)
        return x if low is None else self.where(x < low, low, x)

    def minimum(self, x: Tensor, y: Tensor | float) -> Tensor:
        if isinstance(y, (int, float)):
            return self.clip(x, None, y)
        return -self.maximum(-x, -y)

    def maximum(self, x: Tensor, y: Tensor | float) -> Tensor:
        if isinstance(y, (int, float)):
            return self.clip(x, y, None)
        # TensorFlow gives the whole gradient to one side of a tie.
        return self.where(x > y, x, self.where(x < y, y, 0.5 * x + 0.5 * y))

    def divide(self, x: Tensor, y: Tensor) -> Tensor:
        # By the root of |y|, twice: XLA multiplies by the reciprocal, and that of 1e38 is subnormal, hence 0; y² in the slope is 0 for 1e-20.
        root = self._root(self.abs(self.stop_gradient(y)))
        return x / root / (y / root)

    def times(self, weight: Any, x: Tensor) -> Tensor:
        number = isinstance(weight, (int, float))
        if number and weight != 0:
            return weight * x
        infinite = self.isinf(x)
        if self._nowhere(infinite):
            return weight * x
        silenced = infinite if number else self.equal(weight, 0) & infinite
        # Only the infinities are selected away: elsewhere the product rule holds, for the gradient of the weight too.
        return weight * self.where(silenced, 0.0, x)

    def _shifted(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """x − max x, and log Σ e^{x − max x}."""
        # (A NaN that the maximum loses comes back with the sum.)
        shifted = x - self.stop_gradient(self._largest(x, axis=axis, keepdims=True))
        powers = self.exp(shifted)
        total = self.sum(powers, axis=axis, keepdims=True)
        coarse = self.log(total)
        # Where one class is all but certain, the sum is 1 + what the others add, and 1 + 1e-12 would round that away. Of all powers only e⁰ has a
        # whole part, so the others are added up once more without it. The difference is rounding, hence a constant to the gradient.
        powers, total = self.stop_gradient(powers), self.stop_gradient(total)
        certain = total < 1.5
        if self._nowhere(certain):
            return shifted, coarse
        others = self.sum(powers - self._floor(powers), axis=axis, keepdims=True)
        return shifted, coarse + self.where(certain, self.log1p(others) - self.log(total), 0.0)

    def softmax(self, x: Tensor, axis: int = -1) -> Tensor:
        powers = self.exp(x - self.stop_gradient(self._largest(x, axis=axis, keepdims=True)))
        return powers / self.sum(powers, axis=axis, keepdims=True)

    def log_softmax(self, x: Tensor, axis: int = -1) -> Tensor:
        shifted, log_total = self._shifted(x, axis)
        return shifted - log_total

    def logsumexp(self, x: Tensor, axis: int = -1, keepdims: bool = False) -> Tensor:
        # An infinite maximum would give inf − inf: shift by 0 there instead, and select what the sum overflows or underflows to.
        largest = self.stop_gradient(self.max(x, axis=axis, keepdims=True))
        endless = self.isinf(largest)
        _, log_total = self._shifted(self.where(endless, 0.0, x), axis)
        total = self.where(endless, largest, self.where(endless, 0.0, largest) + log_total)
        return total if keepdims else self.squeeze(total, axis=axis)

    def in_parts(self, y_true: Tensor, y_pred: Tensor) -> bool:
        return False

    def run(self, definition: Callable[..., Tensor], y_true: Tensor, y_pred: Tensor, options: Mapping[str, Any], apart: bool = False) -> Tensor:
        return definition(self, y_true, y_pred, **options)

    def _run_compiled(self, definition: Callable[..., Tensor], y_true: Tensor, y_pred: Tensor, options: Mapping[str, Any]) -> Tensor:
        try:
            function = compiled(self, definition, tuple([(name, type(value), value) for name, value in options.items()]))
        except TypeError:
            # A learned or traced option cannot be hashed, hence not be a constant of the compiled definition.
            return definition(self, y_true, y_pred, **options)
        return function(y_true, y_pred)

    def apply(self, function: Callable[..., Tensor], *tensors: Tensor | int | None) -> Tensor:
        return function(self, *tensors)

    def __reduce__(self) -> str:
        # An adapter is pickled as the name of the one object that its module holds.
        return "OPS"

    def value_and_grad(self, function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(f"the {self.name} backend has no gradients")

    def grad_and_curvature(self, function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        columns = range(self.shape(x)[-1])
        # Rows do not interact: the slope of the sum of a column has in that column the second derivatives, one for each row.
        second = [self.value_and_grad(lambda x, k=k: self.value_and_grad(function, x)[1][:, k], x)[1][:, k : k + 1] for k in columns]  # type: ignore[misc]
        return self.value_and_grad(function, x)[1], self.concat(second, axis=-1)

    def compile(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return function

    def double_precision(self) -> AbstractContextManager[Any]:
        return nullcontext()


@functools.lru_cache(maxsize=256)
def compiled(ops: Ops, definition: Callable[..., Tensor], options: tuple[tuple[str, type, Any], ...]) -> Callable[..., Tensor]:
    """The definition compiled as a whole, with its options as constants. Their types are part of the key, because 1 == 1.0 == True."""
    return ops.compile(functools.partial(definition, ops, **{name: value for name, _, value in options}))
