"""The tensor primitives that a loss definition may use, and what each one means.

An adapter (``backends/X_backend.py``) implements this protocol for one framework; ``lossbackend.testing.check_backend`` runs the whole contract
against it.

Rules for all of them, unless said otherwise:

* shapes broadcast as in NumPy, ``axis`` is one int (``None``: all axes), and a reduced axis is gone unless ``keepdims``;
* the result has the floating dtype of the tensors that went in, and a Python number never changes it;
* NaN in gives NaN out, at that element only (in that row, for a reduction), and the slope there is never 0, which would train on
  without a word: it is NaN, or 1 where the operation hands ``x`` on (``relu``, ``clip``, ``minimum``, ``maximum``);
* the gradient is the derivative where there is one. Where there is none it is pinned, because the frameworks' own primitives disagree there.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

Tensor: TypeAlias = Any
"""A tensor of whatever framework the adapter is for: values are never wrapped."""


class Ops(Protocol):
    """One framework, as loss definitions see it."""

    name: str
    """The name that ``use_backend`` and ``LOSSBACKEND`` know it by."""

    differentiable: bool
    """Whether ``value_and_grad`` works."""

    # Tensors in and out

    def is_tensor(self, x: Any) -> bool:
        """Whether ``x`` is one of this framework's tensors (tracers and parameters included)."""
        ...

    def asarray(self, x: Any, like: Tensor | None = None) -> Tensor:
        """A tensor with the values of ``x``, on the device of ``like``.

        A tensor of this framework comes back as it is (beside one that is distributed over processes as the whole of such a tensor), a NumPy array
        keeps its dtype where the framework has it, a number or tuple of numbers takes the dtype of ``like``.
        """
        ...

    def to_numpy(self, x: Tensor) -> Any:
        """The values as a NumPy array (a view where possible)."""
        ...

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """``x`` in another dtype, by name ("float32", "bool", ...); "index" is the framework's own index type. Differentiable between floats."""
        ...

    def shape(self, x: Tensor) -> tuple[Any, ...]:
        """The shape; a dimension that is not known yet is not an ``int``. ValueError where not even the rank is known."""
        ...

    def dtype(self, x: Tensor) -> str:
        """The name of the dtype, in NumPy's spelling ("bfloat16" too)."""
        ...

    def is_concrete(self, *tensors: Tensor) -> bool:
        """Whether the values can be looked at now, without waiting for a device: False under tracing and on accelerators.

        Of no tensors: whether no compiler or transform of the framework is at work that would forbid it for every tensor.
        """
        ...

    def stop_gradient(self, x: Tensor) -> Tensor:
        """``x``, with gradient 0."""
        ...

    # Elementwise

    def abs(self, x: Tensor) -> Tensor:
        """abs x. Slope 0 at 0."""
        ...

    def sign(self, x: Tensor) -> Tensor:
        """−1, 0 or 1. Gradient 0. The value at NaN is not specified, but a composed ``abs`` takes its slope there from it: NaN."""
        ...

    def square(self, x: Tensor) -> Tensor:
        """x²."""
        ...

    def sqrt(self, x: Tensor) -> Tensor:
        """√x, NaN below 0. Slope 0 at 0, so that a norm has gradient 0 at the zero vector."""
        ...

    def exp(self, x: Tensor) -> Tensor:
        """eˣ."""
        ...

    def expm1(self, x: Tensor) -> Tensor:
        """eˣ − 1, exact near 0."""
        ...

    def log(self, x: Tensor) -> Tensor:
        """Natural logarithm, −inf at 0, NaN below."""
        ...

    def log1p(self, x: Tensor) -> Tensor:
        """log(1 + x), exact near 0."""
        ...

    def sigmoid(self, x: Tensor) -> Tensor:
        """1 / (1 + e⁻ˣ)."""
        ...

    def softplus(self, x: Tensor) -> Tensor:
        """log(1 + eˣ), overflow-free and exact on both sides; slope ½ at 0."""
        ...

    def relu(self, x: Tensor) -> Tensor:
        """max(x, 0). Slope 0 at 0."""
        ...

    def minimum(self, x: Tensor, y: Tensor | float) -> Tensor:
        """The smaller. Two tensors share the gradient equally at a tie; a Python number is a one-sided ``clip``."""
        ...

    def maximum(self, x: Tensor, y: Tensor | float) -> Tensor:
        """The larger. Two tensors share the gradient equally at a tie; a Python number is a one-sided ``clip``."""
        ...

    def clip(self, x: Tensor, low: Any, high: Any) -> Tensor:
        """``x`` kept within [low, high], either of which may be None. Slope 1 on the closed interval, 0 outside."""
        ...

    def divide(self, x: Tensor, y: Tensor) -> Tensor:
        """x / y for finite y ≠ 0, with its gradient, also where 1/y or y² leaves the range of the dtype."""
        ...

    def where(self, condition: Tensor, x: Any, y: Any) -> Tensor:
        """``x`` where the condition holds, else ``y``.

        The gradient goes to the one selected; sanitise the *input* of a risky operation, not its result.
        """
        ...

    def ones_like(self, x: Tensor) -> Tensor:
        """1 everywhere, with the shape and dtype of ``x``."""
        ...

    def equal(self, x: Tensor, y: Any) -> Tensor:
        """x = y, elementwise, as bool."""
        ...

    def isnan(self, x: Tensor) -> Tensor:
        """Whether NaN, elementwise."""
        ...

    def isinf(self, x: Tensor) -> Tensor:
        """Whether +inf or −inf, elementwise."""
        ...

    def times(self, weight: Any, x: Tensor) -> Tensor:
        """weight · x, where a weight of 0 silences an infinity: 0 · ±inf = 0. (NaN stays NaN.)"""
        ...

    # Reductions

    def sum(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """Sum; 0 over an empty axis. Many, along the last axis or all of them, are not added one after the other, which loses digits."""
        ...

    def mean(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """Arithmetic mean."""
        ...

    def max(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """Largest entry. Ties share the gradient equally; in a row with a NaN at least the NaN itself has a gradient of NaN."""
        ...

    def any(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """Whether any entry of a bool tensor holds."""
        ...

    def all(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """Whether all entries of a bool tensor hold."""
        ...

    # Along the class axis

    def softmax(self, x: Tensor, axis: int = -1) -> Tensor:
        """e^{xᵢ} / Σⱼ e^{xⱼ}. An entry of −inf gives 0; +inf, or nothing but −inf, gives NaN."""
        ...

    def log_softmax(self, x: Tensor, axis: int = -1) -> Tensor:
        """log softmax, exact where one class is all but certain. An entry of −inf gives −inf; +inf, or nothing but −inf, gives NaN."""
        ...

    def logsumexp(self, x: Tensor, axis: int = -1, keepdims: bool = False) -> Tensor:
        """log Σⱼ e^{xⱼ}. Nothing but −inf gives −inf, with gradient 0; +inf gives +inf."""
        ...

    def take_class(self, x: Tensor, ids: Tensor, axis: int = -1) -> Tensor:
        """The entry of ``x`` along ``axis`` that ``ids`` (0 ≤ id < C; the shape of ``x`` without ``axis``) names."""
        ...

    def one_hot(self, ids: Tensor, classes: int, dtype: str = "float32") -> Tensor:
        """1 at the id, 0 elsewhere, along a new last axis; 0 ≤ id < C."""
        ...

    # Shapes

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The same values in another shape; one entry may be −1."""
        ...

    def expand_dims(self, x: Tensor, axis: int) -> Tensor:
        """With an axis of size 1 more, at ``axis`` of the result."""
        ...

    def squeeze(self, x: Tensor, axis: int) -> Tensor:
        """Without an axis of size 1."""
        ...

    def concat(self, tensors: list[Tensor], axis: int = 0) -> Tensor:
        """Joined along an existing axis."""
        ...

    # Running

    def in_parts(self, y_true: Tensor, y_pred: Tensor) -> bool:
        """Whether these are large enough, and not traced, so that ``run`` had better compute their samples in parts."""
        ...

    def run(self, definition: Callable[..., Tensor], y_true: Tensor, y_pred: Tensor, options: Mapping[str, Any], apart: bool = False) -> Tensor:
        """``definition(self, y_true, y_pred, **options)``, in whatever way is fast here.

        ``apart``: ``in_parts`` holds, and the samples along the first axis, which is not the loss axis, may be computed apart from each other.
        """
        ...

    def apply(self, function: Callable[..., Tensor], *tensors: Tensor | int | None) -> Tensor:
        """``function(self, *tensors)`` for a function of a module, such as a reduction of losses, in whatever way is fast here."""
        ...

    def value_and_grad(self, function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """A function's value at ``x``, and the gradient of the sum of its entries."""
        ...

    def grad_and_curvature(self, function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """∂/∂x and ∂²/∂x², entry by entry, of the sum of a function's entries at ``x`` of shape (N, K), whose N rows do not interact."""
        ...

    def compile(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """``function`` compiled as a whole by the framework's own compiler; ``function`` itself where there is none."""
        ...

    def double_precision(self) -> AbstractContextManager[Any]:
        """A context in which float64 tensors exist."""
        ...
