"""The loss classes: a loss function, its options, and a reduction to one number.

They are frozen dataclasses, hence equal when their options are, hashable (a static argument of jax.jit), picklable, and readable in print.
"""

from dataclasses import KW_ONLY, Field, dataclass, fields
from types import FunctionType
from typing import Any, ClassVar, Self, TypeVar

from lossbackend.definition import Definition, evaluate
from lossbackend.losses import margin, probabilistic, regression
from lossbackend.options import ClassId, ClassWeight, Epsilon, Labels, PosWeight
from lossbackend.reduction import Losses, Partial, check_reduction

T = TypeVar("T")
MEAN = "sum_over_batch_size"


class Loss:
    """A loss function with its options and a reduction.

    Called with ``(y_true, y_pred, sample_weight=None, mask=None)`` it returns one number ("none": one per sample). ``sample_weight`` and ``mask``
    align from the left with the per-sample losses, or are scalars. An entry with mask False or weight 0 is taken out before the loss is computed, so
    nothing in it, NaN included, reaches the result or the gradient. ``reduction``:

    * "sum_over_batch_size" = "mean" = "auto": Σ w · loss / number of unmasked entries, whatever the weights;
    * "mean_with_sample_weight": Σ w · loss / Σ w;
    * "sum": Σ w · loss;
    * "none" or None: w · loss, not reduced.

    0/0 is 0. ValueError for any other reduction, and for weights that do not align.

    A class for a loss of your own takes three lines:

    >>> from dataclasses import dataclass
    >>> from lossbackend import loss
    >>> @loss
    ... def charbonnier(ops, y_true, y_pred, scale=1e-3):
    ...     return ops.mean(ops.sqrt(ops.square(y_pred - y_true) + scale**2), axis=-1)
    >>> @dataclass(frozen=True)
    ... class Charbonnier(Loss):
    ...     function = staticmethod(charbonnier)
    ...     scale: float = 1e-3
    >>> Charbonnier(scale=4.0)([[0.0], [0.0]], [[3.0], [3.0]], mask=[True, False])
    np.float32(5.0)
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    function: ClassVar[Any]
    pinned: ClassVar[str | None] = None
    reduction: str | None = MEAN
    name: str | None = None
    _options: dict[str, Any]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # One code object per class, because Dynamo counts recompilations by code object.
        for method in (Loss.__call__, Loss.call, Loss.partial):
            # What a subclass writes itself stays.
            if getattr(cls, method.__name__).__code__.co_code == method.__code__.co_code:
                setattr(cls, method.__name__, _with_own_code(method, cls.__qualname__))

    def __post_init__(self) -> None:
        definition: Definition = type(self).function.definition
        check_reduction(type(self).__name__, self.reduction)
        options = {}
        for field in fields(self):
            if field.name not in ("reduction", "name"):
                # None stands for the epsilon at the time of the call, not of the construction.
                value = getattr(self, field.name)
                value = None if field.name == "epsilon" and value is None else definition.constant(field.name, value)
                object.__setattr__(self, field.name, value)
                options[field.name] = value
        object.__setattr__(self, "_options", options)

    def _evaluate(self, y_true: Any, y_pred: Any, sample_weight: Any, mask: Any) -> Losses:
        definition: Definition = type(self).function.definition
        return evaluate(definition, y_true, y_pred, definition.complete(self._options), sample_weight, mask, self.pinned)

    def __call__(self, y_true: Any, y_pred: T, sample_weight: Any = None, mask: Any = None) -> T:
        """The reduced loss."""
        return self._evaluate(y_true, y_pred, sample_weight, mask).reduced(self.reduction)  # type: ignore[no-any-return]

    def call(self, y_true: Any, y_pred: T) -> T:
        """The loss of each sample."""
        return self._evaluate(y_true, y_pred, None, None).values  # type: ignore[no-any-return]

    def partial(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> Partial:
        """The reduction of a part of the samples, to be added to those of the other parts: ``sum(parts).result()``."""
        if self.reduction is None or self.reduction == "none":
            raise ValueError(f"{type(self).__name__}: reduction {self.reduction!r} reduces nothing, so it has no partial results")
        return self._evaluate(y_true, y_pred, sample_weight, mask).partial(self, self.reduction)

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument, as plain Python objects."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The loss that a ``get_config`` describes; ValueError for an argument that the class does not have."""
        known = [field.name for field in fields(cls)]
        unknown = [name for name in config if name not in known]
        if unknown:
            raise ValueError(f"{cls.__name__}: the config has unknown entries {unknown} (known: {known})")
        return cls(**config)


def _with_own_code(function: Any, owner: str) -> Any:
    name = f"{owner}.{function.__name__}"
    copy = FunctionType(function.__code__.replace(co_name=name, co_qualname=name), function.__globals__, function.__name__, function.__defaults__)
    copy.__doc__, copy.__annotations__, copy.__qualname__ = function.__doc__, function.__annotations__, name
    return copy


# The positional parameters are those of Keras 3, in its order; what this library adds is keyword-only.


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """``mean_squared_error``, reduced."""

    function = staticmethod(regression.mean_squared_error)
    reduction: str | None = MEAN
    name: str | None = None


@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """``mean_absolute_error``, reduced."""

    function = staticmethod(regression.mean_absolute_error)
    reduction: str | None = MEAN
    name: str | None = None


@dataclass(frozen=True)
class MeanAbsolutePercentageError(Loss):
    """``mean_absolute_percentage_error``, reduced."""

    function = staticmethod(regression.mean_absolute_percentage_error)
    reduction: str | None = MEAN
    name: str | None = None
    _: KW_ONLY
    epsilon: Epsilon = None


@dataclass(frozen=True)
class MeanSquaredLogarithmicError(Loss):
    """``mean_squared_logarithmic_error``, reduced."""

    function = staticmethod(regression.mean_squared_logarithmic_error)
    reduction: str | None = MEAN
    name: str | None = None
    _: KW_ONLY
    epsilon: Epsilon = None


@dataclass(frozen=True)
class SquaredHinge(Loss):
    """``squared_hinge``, reduced."""

    function = staticmethod(margin.squared_hinge)
    reduction: str | None = MEAN
    name: str | None = None
    _: KW_ONLY
    labels: Labels = "auto"


@dataclass(frozen=True)
class Hinge(Loss):
    """``hinge``, reduced."""

    function = staticmethod(margin.hinge)
    reduction: str | None = MEAN
    name: str | None = None
    _: KW_ONLY
    labels: Labels = "auto"


@dataclass(frozen=True)
class CategoricalHinge(Loss):
    """``categorical_hinge``, reduced."""

    function = staticmethod(margin.categorical_hinge)
    reduction: str | None = MEAN
    name: str | None = None


@dataclass(frozen=True)
class LogCosh(Loss):
    """``log_cosh``, reduced."""

    function = staticmethod(regression.log_cosh)
    reduction: str | None = MEAN
    name: str | None = None


@dataclass(frozen=True)
class Huber(Loss):
    """``huber``, reduced."""

    function = staticmethod(regression.huber)
    delta: float = 1.0
    reduction: str | None = MEAN
    name: str | None = None


@dataclass(frozen=True)
class CategoricalCrossentropy(Loss):
    """``categorical_crossentropy``, reduced."""

    function = staticmethod(probabilistic.categorical_crossentropy)
    from_logits: bool = False
    label_smoothing: float = 0.0
    axis: int = -1
    reduction: str | None = MEAN
    name: str | None = None
    _: KW_ONLY
    epsilon: Epsilon = None
    class_weight: ClassWeight = None


@dataclass(frozen=True)
class SparseCategoricalCrossentropy(Loss):
    """``sparse_categorical_crossentropy``, reduced."""

    function = staticmethod(probabilistic.sparse_categorical_crossentropy)
    from_logits: bool = False
    ignore_class: ClassId = None
    reduction: str | None = MEAN
    axis: int = -1
    name: str | None = None
    _: KW_ONLY
    label_smoothing: float = 0.0
    epsilon: Epsilon = None
    class_weight: ClassWeight = None


@dataclass(frozen=True)
class BinaryCrossentropy(Loss):
    """``binary_crossentropy``, reduced."""

    function = staticmethod(probabilistic.binary_crossentropy)
    from_logits: bool = False
    label_smoothing: float = 0.0
    axis: int = -1
    reduction: str | None = MEAN
    name: str | None = None
    _: KW_ONLY
    epsilon: Epsilon = None
    pos_weight: PosWeight = None


@dataclass(frozen=True)
class KLDivergence(Loss):
    """``kl_divergence``, reduced."""

    function = staticmethod(probabilistic.kl_divergence)
    reduction: str | None = MEAN
    name: str | None = None
    _: KW_ONLY
    epsilon: Epsilon = None
    from_logits: bool = False


@dataclass(frozen=True)
class Poisson(Loss):
    """``poisson``, reduced."""

    function = staticmethod(probabilistic.poisson)
    reduction: str | None = MEAN
    name: str | None = None
    _: KW_ONLY
    epsilon: Epsilon = None
    log_input: bool = False


@dataclass(frozen=True)
class CosineSimilarity(Loss):
    """``cosine_similarity``, reduced."""

    function = staticmethod(regression.cosine_similarity)
    axis: int = -1
    reduction: str | None = MEAN
    name: str | None = None
