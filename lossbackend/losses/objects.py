"""The loss classes: a loss function, its options, and a reduction to one number.

They are frozen dataclasses, hence equal when their options are, hashable (a static argument of jax.jit, and a pytree without leaves as any other
argument), picklable, and readable in print.
"""

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import KW_ONLY, Field, dataclass, fields, is_dataclass
from types import FunctionType
from typing import Any, ClassVar, Self, TypeVar

from lossbackend import dispatch
from lossbackend.definition import Definition, evaluate
from lossbackend.losses import margin, probabilistic, regression
from lossbackend.options import ClassId, ClassWeight, Epsilon, Labels, PosWeight
from lossbackend.reduction import Losses, Partial, check_reduction

T = TypeVar("T")
MEAN = "sum_over_batch_size"


class Loss:
    """A loss function with its options and a reduction, the base of all classes here.

    Called with ``(y_true, y_pred, sample_weight=None, mask=None)`` it returns one number ("none": one per sample). ``sample_weight`` and ``mask``
    align from the left with the per-sample losses, or are scalars. An entry with mask False or weight 0 is taken out before the loss is computed, so
    nothing in it, NaN included, reaches the result or the gradient. ``reduction``:

    * "sum_over_batch_size" = "mean" = "auto": Σ w · loss / number of unmasked entries, whatever the weights;
    * "mean_with_sample_weight": Σ w · loss / Σ w;
    * "sum": Σ w · loss;
    * "none" or None: w · loss, not reduced.

    0/0 is 0. Raises ValueError for any other reduction, for weights and masks that do not align, and for what the function refuses: shapes that
    differ (but (N,) counts as (N, 1)), options out of range. An option holds numbers, so that objects compare and hash by value: a learned or traced
    tensor is a TypeError, and belongs into a call of the function.

    A class for a loss of your own takes three lines. ``reduction`` and ``name`` are keywords of it, unless it says itself where they stand (a type
    checker sees them only then):

    >>> from dataclasses import dataclass
    >>> from lossbackend import loss
    >>> @loss
    ... def charbonnier(ops, y_true, y_pred, scale=1e-3):
    ...     return ops.mean(ops.sqrt(ops.square(y_pred - y_true) + scale**2), axis=-1)
    >>> @dataclass(frozen=True)
    ... class Charbonnier(Loss):
    ...     function = staticmethod(charbonnier)
    ...     scale: float = 1e-3
    >>> Charbonnier(4.0, reduction="sum")([[0.0], [0.0]], [[3.0], [3.0]], mask=[True, False])
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
                setattr(cls, method.__name__, with_own_code(method, cls.__qualname__))
        if not is_dataclass(cls):
            # Fields of Loss would stand first in every subclass. As annotations of the subclass, before it becomes a dataclass, they come last.
            own = cls.__annotations__
            marker = {} if KW_ONLY in own.values() else {"_": KW_ONLY}
            added = {name: Loss.__annotations__[name] for name in ("reduction", "name") if name not in own}
            cls.__annotations__ = {**own, **marker, **added}

    def __new__(cls, *args: Any, **options: Any) -> Self:
        # Not when the class is made: it may be before JAX is imported, and a decorator may register it yet. A copy and a pickle come by here too.
        register_static(cls)
        return super().__new__(cls)

    def __init__(self, *args: Any, **options: Any) -> None:
        # A dataclass has an __init__ of its own: only what is none comes here.
        self._definition()

    @classmethod
    def _definition(cls) -> Definition:
        """The function's definition; TypeError for a class that cannot have objects."""
        definition: Definition | None = getattr(getattr(cls, "function", None), "definition", None)
        if definition is None:
            raise TypeError(
                f"{cls.__name__} has no loss function: use a subclass such as Huber, or write one with `function = staticmethod(f)`, f by @loss"
            )
        if not is_dataclass(cls):
            raise TypeError(f"{cls.__name__} must be a dataclass: write @dataclass(frozen=True) above it")
        return definition

    def __post_init__(self) -> None:
        definition = self._definition()
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
        return evaluate(definition, y_true, y_pred, definition.complete(self._options, checked=True), sample_weight, mask, self.pinned)

    def __call__(self, y_true: Any, y_pred: T, sample_weight: Any = None, mask: Any = None) -> T:
        """The reduced loss."""
        return self._evaluate(y_true, y_pred, sample_weight, mask).reduced(self.reduction)  # type: ignore[no-any-return]

    def call(self, y_true: Any, y_pred: T) -> T:
        """The loss of each sample."""
        return self._evaluate(y_true, y_pred, None, None).values  # type: ignore[no-any-return]

    def partial(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> Partial:
        """The reduction of a part of the samples, to be added to those of the other parts: ``sum(parts).result()``.

        Raises ValueError where there is no reduction ("none").

        >>> loss = MeanSquaredError()
        >>> parts = [loss.partial([[0.0]], [[3.0]]), loss.partial([[0.0], [0.0]], [[0.0], [0.0]])]
        >>> sum(parts).result()
        np.float32(3.0)
        """
        if self.reduction is None or self.reduction == "none":
            raise ValueError(f"{type(self).__name__}: reduction {self.reduction!r} reduces nothing, so it has no partial results")
        return self._evaluate(y_true, y_pred, sample_weight, mask).partial(self, self.reduction)

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument, as plain Python objects."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The loss that a ``get_config`` describes, here or in Keras; ValueError for an argument that the class does not have.

        Keras 2.13 to 2.15 also write "fn", which has to be the name of the class's function; a Keras "dtype" has to be None or float32, because
        a loss is computed in y_pred's type.

        >>> Huber.from_config({"reduction": "auto", "name": "h", "delta": 2.0, "fn": "huber"})
        Huber(delta=2.0, reduction='auto', name='h')
        """
        definition = cls._definition()
        known = [field.name for field in fields(cls)]
        config = dict(config)
        for entry, possible in (("fn", (definition.name, *definition.aliases)), ("dtype", (None, "float32"))):
            if entry in config and entry not in known:
                value = config.pop(entry)
                # Keras 3 writes a dtype as a policy: {"class_name": "DTypePolicy", "config": {"name": "float32"}}.
                policy = value.get("config") if isinstance(value, Mapping) else None
                if (policy.get("name", value) if isinstance(policy, Mapping) else value) not in possible:
                    raise ValueError(f"{cls.__name__}: the config has {entry} {value!r}, which can only be {' or '.join(map(repr, possible))} here")
        unknown = [name for name in config if name not in known]
        if unknown:
            raise ValueError(f"{cls.__name__}: the config has unknown entries {unknown} (known: {known})")
        return cls(**config)


# Of these classes JAX has been told.
_STATIC: set[type[Any]] = set()


def register_static(cls: type[Any]) -> None:
    """Objects of the class are pytrees of JAX without leaves, constants that it compares by value: known to it from here on, if it is imported."""
    tree_util = getattr(sys.modules.get("jax"), "tree_util", None)
    if tree_util is None or dispatch.compiling() or cls in _STATIC:
        return
    # What the author of the class has registered stays.
    with contextlib.suppress(ValueError):
        tree_util.register_static(cls)
    _STATIC.add(cls)


def with_own_code(function: Any, owner: str) -> Any:
    """A copy of a method for a class of that name, with a code object of its own."""
    name = f"{owner}.{function.__name__}"
    copy = FunctionType(function.__code__.replace(co_name=name, co_qualname=name), function.__globals__, function.__name__, function.__defaults__)
    copy.__doc__, copy.__annotations__, copy.__qualname__ = function.__doc__, function.__annotations__, name
    return copy


# The positional parameters are those of Keras 3, in its order; what this library adds is keyword-only.


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Mean squared error, mean e² with e = p − y, reduced.

    y_true and y_pred have the same shape [..., D]. Source: Keras 2.

    >>> MeanSquaredError()([[0.0], [0.0]], [[1.0], [3.0]])
    np.float32(5.0)
    """

    function = staticmethod(regression.mean_squared_error)
    reduction: str | None = MEAN
    name: str | None = None


@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """Mean absolute error, mean |e| with e = p − y, reduced.

    y_true and y_pred have the same shape [..., D]. Source: Keras 2.

    >>> MeanAbsoluteError()([[0.0], [0.0]], [[1.0], [3.0]])
    np.float32(2.0)
    """

    function = staticmethod(regression.mean_absolute_error)
    reduction: str | None = MEAN
    name: str | None = None


@dataclass(frozen=True)
class MeanAbsolutePercentageError(Loss):
    """Mean absolute percentage error, 100 · mean(|e| / max(|y|, ε)) with e = p − y, reduced.

    y_true and y_pred have the same shape [..., D]. epsilon: ε in (0, 1), else ValueError; None stands for ``lossbackend.epsilon()`` at the call.
    Source: Keras 2.

    >>> MeanAbsolutePercentageError()([[2.0], [4.0]], [[1.0], [5.0]])
    np.float32(37.5)
    """

    function = staticmethod(regression.mean_absolute_percentage_error)
    reduction: str | None = MEAN
    name: str | None = None
    _: KW_ONLY
    epsilon: Epsilon = None


@dataclass(frozen=True)
class MeanSquaredLogarithmicError(Loss):
    """Mean squared logarithmic error, mean (log(1 + max(p, ε)) − log(1 + max(y, ε)))², reduced.

    y_true and y_pred have the same shape [..., D]. epsilon: ε in (0, 1), else ValueError; None stands for ``lossbackend.epsilon()`` at the call.
    Source: Keras 2.

    >>> MeanSquaredLogarithmicError()([[0.0], [0.0]], [[1.0], [0.0]])
    np.float32(0.24022...)
    """

    function = staticmethod(regression.mean_squared_logarithmic_error)
    reduction: str | None = MEAN
    name: str | None = None
    _: KW_ONLY
    epsilon: Epsilon = None


@dataclass(frozen=True)
class SquaredHinge(Loss):
    """Squared hinge loss, mean relu(1 − y'p)² with labels y' = ±1, reduced.

    y_true and y_pred have the same shape [..., D]. labels: what y_true holds, "auto" (0 stands for −1), "pm1" or "binary", else ValueError; see
    ``hinge``. Source: Keras 2.

    >>> SquaredHinge()([[1.0], [0.0]], [[0.5], [0.5]])
    np.float32(1.25)
    """

    function = staticmethod(margin.squared_hinge)
    reduction: str | None = MEAN
    name: str | None = None
    _: KW_ONLY
    labels: Labels = "auto"


@dataclass(frozen=True)
class Hinge(Loss):
    """Hinge loss, mean relu(1 − y'p) with labels y' = ±1, reduced.

    y_true and y_pred have the same shape [..., D]. labels: what y_true holds, "auto" (0 stands for −1), "pm1" or "binary", else ValueError; see
    ``hinge``. Source: Keras 2.

    >>> Hinge()([[1.0], [0.0]], [[0.5], [0.5]])
    np.float32(1.0)
    """

    function = staticmethod(margin.hinge)
    reduction: str | None = MEAN
    name: str | None = None
    _: KW_ONLY
    labels: Labels = "auto"


@dataclass(frozen=True)
class CategoricalHinge(Loss):
    """Categorical hinge loss, relu(1 + max((1 − y)p) − Σ y p) for one-hot y, reduced.

    y_true and y_pred have the same shape [..., C]; ValueError for C = 0. Source: Keras 2.

    >>> CategoricalHinge()([[0.0, 1.0, 0.0]], [[0.5, 1.0, -1.0]])
    np.float32(0.5)
    """

    function = staticmethod(margin.categorical_hinge)
    reduction: str | None = MEAN
    name: str | None = None


@dataclass(frozen=True)
class LogCosh(Loss):
    """Logarithm of the hyperbolic cosine of the error, mean log cosh(p − y), reduced.

    y_true and y_pred have the same shape [..., D]. Source: Keras 2.

    >>> LogCosh()([[0.0], [0.0]], [[1.0], [-1.0]])
    np.float32(0.43378...)
    """

    function = staticmethod(regression.log_cosh)
    reduction: str | None = MEAN
    name: str | None = None


@dataclass(frozen=True)
class Huber(Loss):
    """Huber loss, mean(½q² + δ relu(|e| − δ)) with e = p − y and q = clip(e, −δ, δ), reduced.

    y_true and y_pred have the same shape [..., D]. delta: δ > 0, else ValueError. Source: Keras 2; Huber, Annals of Mathematical Statistics 35
    (1964) 73.

    >>> Huber(delta=2.0)([[0.0], [0.0]], [[1.0], [4.0]])
    np.float32(3.25)
    """

    function = staticmethod(regression.huber)
    delta: float = 1.0
    reduction: str | None = MEAN
    name: str | None = None


@dataclass(frozen=True)
class CategoricalCrossentropy(Loss):
    """Cross-entropy of one-hot labels or class probabilities, −Σ w ỹ log p with ỹ = y(1 − α) + α/C, reduced.

    y_true and y_pred have the same shape, C ≥ 2 classes along ``axis``, else ValueError. from_logits: y_pred holds logits z, p = softmax(z).
    label_smoothing: α in [0, 1]. epsilon: ε, where p is clipped. class_weight: w, C numbers or {class: weight}, of which "mean_with_sample_weight"
    counts the true class's. Source: Keras 2.

    >>> CategoricalCrossentropy(from_logits=True)([[0.0, 1.0], [1.0, 0.0]], [[2.0, 2.0], [0.0, 0.0]])
    np.float32(0.6931472)
    """

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
    """Cross-entropy of integer class ids, −w log p of the true class, reduced.

    y_true has y_pred's shape without ``axis``, or with size 1 there; an id outside 0 … C − 1 is a ValueError, and NaN under tracing. ignore_class: an
    id whose entries give 0 and are not counted. The other options are those of CategoricalCrossentropy of the one-hot labels. Source: Keras 2.

    >>> SparseCategoricalCrossentropy(ignore_class=-1)([1, -1], [[0.5, 0.5], [0.25, 0.75]])
    np.float32(0.6931472)
    """

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
    """Cross-entropy of yes-or-no labels, mean(−w ỹ log p − (1 − ỹ) log(1 − p)) with ỹ = y(1 − α) + α/2, reduced.

    y_true and y_pred have the same shape, and the mean goes along ``axis``. from_logits: y_pred holds logits z, p = sigmoid(z). label_smoothing: α in
    [0, 1], else ValueError. epsilon: ε, the least that p and 1 − p count. pos_weight: w, a number or one per entry of the last axis. Source: Keras 2.

    >>> BinaryCrossentropy(from_logits=True, pos_weight=3.0)([[1.0], [0.0]], [[0.0], [0.0]])
    np.float32(1.3862944)
    """

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
    """Kullback–Leibler divergence of p from y, Σ y(log y − log max(p, ε)), reduced.

    y_true and y_pred have the same shape [..., C]. epsilon: ε in (0, 1), else ValueError. from_logits: y_pred holds logits z, p = softmax(z).
    Source: Keras 2.

    >>> KLDivergence()([[0.5, 0.5], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]])
    np.float32(0.3465736)
    """

    function = staticmethod(probabilistic.kl_divergence)
    reduction: str | None = MEAN
    name: str | None = None
    _: KW_ONLY
    epsilon: Epsilon = None
    from_logits: bool = False


@dataclass(frozen=True)
class Poisson(Loss):
    """Negative log-likelihood of counts y under Poisson rates p, mean(p − y log(p + ε)), reduced.

    y_true and y_pred have the same shape [..., D]. epsilon: ε in (0, 1), else ValueError. log_input: y_pred holds z = log p, and the loss is
    mean(eᶻ − y z). Source: Keras 2.

    >>> Poisson()([[1.0], [0.0]], [[2.0], [2.0]])
    np.float32(1.6534264)
    """

    function = staticmethod(probabilistic.poisson)
    reduction: str | None = MEAN
    name: str | None = None
    _: KW_ONLY
    epsilon: Epsilon = None
    log_input: bool = False


@dataclass(frozen=True)
class CosineSimilarity(Loss):
    """Negative cosine of the angle between y and p, −Σ ŷ p̂ along ``axis``, reduced: −1 for the same direction.

    y_true and y_pred have the same shape, of which ``axis`` is one, else ValueError. Source: Keras 2.

    >>> CosineSimilarity()([[3.0, 4.0], [1.0, 0.0]], [[4.0, 3.0], [0.0, 1.0]])
    np.float32(-0.48...)
    """

    function = staticmethod(regression.cosine_similarity)
    axis: int = -1
    reduction: str | None = MEAN
    name: str | None = None
