"""``@loss``: turns a definition, written once against ``Ops``, into the public function that runs on every backend.

The public function resolves the backend, converts, checks shapes and values, lifts half precision and lets the backend run the definition. This is
the only place that does. Compilers trace all of it, so it holds no context manager, no import machinery and no cache (docs/decisions.md).
"""

import difflib
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar, get_args, get_origin, overload

import numpy as np

from lossbackend import checking, dispatch
from lossbackend import options as option_types
from lossbackend.checking import (
    Amount,
    ClassIds,
    Count,
    Distribution,
    DistributionOrLogits,
    OneHot,
    Probability,
    ProbabilityOrLogit,
    RateOrLog,
    Real,
    Sign,
)
from lossbackend.ops import Ops, Tensor
from lossbackend.options import Axis, ClassId, ClassWeight, Epsilon, Flag, Fraction, Labels, Positive, PosWeight
from lossbackend.reduction import Losses, left_align

__all__ = [
    "Amount",
    "Axis",
    "ClassId",
    "ClassIds",
    "ClassWeight",
    "Count",
    "Distribution",
    "DistributionOrLogits",
    "Epsilon",
    "Flag",
    "Fraction",
    "Labels",
    "LossFunction",
    "OneHot",
    "PosWeight",
    "Positive",
    "Probability",
    "ProbabilityOrLogit",
    "RateOrLog",
    "Real",
    "Sign",
    "along_axis",
    "loss",
]

P = ParamSpec("P")
T = TypeVar("T")

# What stands in for an entry that a mask, a weight of 0 or ignore_class leaves out: ordinary input of any loss, away from every kink and pole.
_HARMLESS_TRUE, _HARMLESS_PRED = 1.0, 0.5

# Whether a loss may be computed in parts is learned from that many samples of a call with so many, for so many sets of options.
_PROBED, _LEARNED_FROM, _LEARNED = 16, 1024, 64

# So many class ids are looked at one by one.
_FEW = 128

# Options of these types hold no array.
_PLAIN = dispatch.NEUTRAL - {np.ndarray}

# The dtypes that losses are computed in; others are cast to float32.
_COMPUTED = frozenset({"float32", "float64", "longdouble", "float128", "float96"})


class LossFunction(Protocol[P]):
    """A public loss: one value per sample, in y_pred's framework and, half precision apart, in its dtype."""

    __name__: str
    definition: "Definition"

    def __call__(self, y_true: Any, y_pred: T, *args: P.args, **kwargs: P.kwargs) -> T: ...


class Definition:
    """What ``@loss`` knows of a loss: the formula, its options and what it asks of its input."""

    def __init__(self, formula: Callable[..., Tensor], aliases: tuple[str, ...], sparse: bool, min_classes: int, interacting: bool) -> None:
        parameters = _parameters(formula)
        if len(parameters) < 3 or any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
            raise TypeError(f"@loss: {formula.__name__} must take (ops, y_true, y_pred, ...options), each option by name")
        self.formula = formula
        self.name = formula.__name__
        self.aliases = aliases
        self.sparse = sparse
        self.min_classes = min_classes
        # The samples of the losses here are independent; of a user's that is found out.
        self.samples = None if str(formula.__module__).startswith("lossbackend.") else Samples()
        self.interacting = interacting
        self.targets = (parameters[1].name, parameters[2].name)
        self.kinds = {"y_true": checking.kind_of(parameters[1].annotation), "y_pred": checking.kind_of(parameters[2].annotation)}
        option_parameters = parameters[3:]
        self.options = tuple(p.name for p in option_parameters)
        self.positional = tuple(p.name for p in option_parameters if p.kind is not p.KEYWORD_ONLY)
        self.defaults = {p.name: p.default for p in option_parameters if p.default is not p.empty}
        checks = {p.name: _check_of(p) for p in option_parameters}
        self.checks = {name: check for name, check in checks.items() if check is not None}
        # The options that @loss itself acts on, known by their type, not by their name.
        self.epsilons = self._options_of(Epsilon)
        self.numbers = self._options_of(Positive) + self._options_of(Fraction)
        self.class_weights = self._options_of(ClassWeight)
        self.pos_weights = self._options_of(PosWeight)
        self.ignored_classes = self._options_of(ClassId) if sparse else ()
        self.signature = inspect.Signature(
            [parameters[1].replace(annotation=Any), parameters[2].replace(annotation=Any)]
            + [p.replace(annotation=_bare(p.annotation)) for p in option_parameters],
            return_annotation=Any,
        )

    def __repr__(self) -> str:
        return f"<definition of {self.name}>"

    def _options_of(self, kind: Any) -> tuple[str, ...]:
        return tuple(name for name, check in self.checks.items() if check in kind.__metadata__)

    def bind(self, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        """(y_true, y_pred, options) of a call, options checked and complete."""
        if len(args) == 2 and self.targets[0] not in given and self.targets[1] not in given:
            return args[0], args[1], self.complete(given)
        names = self.targets + self.positional
        if len(args) > len(names):
            raise TypeError(f"{self.name}: takes {len(names)} positional arguments ({', '.join(names)}), got {len(args)}")
        for name in names[: len(args)]:
            if name in given:
                raise TypeError(f"{self.name}: {name} was given twice")
        given = {**dict(zip(names, args, strict=False)), **given}
        for name in self.targets:
            if name not in given:
                raise TypeError(f"{self.name}: {name} is missing")
        y_true = given.pop(self.targets[0])
        y_pred = given.pop(self.targets[1])
        return y_true, y_pred, self.complete(given)

    def complete(self, given: dict[str, Any], checked: bool = False) -> dict[str, Any]:
        """All options: those given, checked unless they have been, and the defaults of the others."""
        options = dict(self.defaults)
        if checked:
            options.update(given)
        else:
            for name in given:
                if name not in self.options:
                    raise TypeError(f"{self.name}: {self._unknown_option(name)}")
                options[name] = self.check(name, given[name])
        for name in self.epsilons:
            if name in options and options[name] is None:
                # A number from here on, so that no compiled definition keeps an old one.
                options[name] = option_types.epsilon()
        if len(options) != len(self.options):
            missing = ", ".join(name for name in self.options if name not in options)
            raise TypeError(f"{self.name}: option {missing} is missing")
        return options

    def changed(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the options that are not the defaults. (An array is none.)"""
        return {
            name: value
            for name, value in options.items()
            if name not in self.defaults or isinstance(value, np.ndarray) or value != self.defaults[name]
        }

    def check(self, name: str, value: Any) -> Any:
        """The option's value as a plain Python object; ValueError or TypeError if it cannot be one."""
        check = self.checks.get(name)
        return option_types.plain(value) if check is None else check(self.name, name, value)

    def constant(self, name: str, value: Any) -> Any:
        """The option's value for a loss object: as ``check``, and a tensor as the numbers in it, so that the object compares and hashes by value.

        TypeError for a learned tensor (one that requires a gradient, a trainable variable), which the object would freeze, and for one that cannot be
        looked at.
        """
        framework = dispatch.framework(value)
        if framework is not None:
            ops = dispatch.adapter(framework)
            learned = getattr(value, "requires_grad", False) or getattr(value, "trainable", False)
            if learned or not ops.is_concrete(value):
                what = "learned" if learned else "traced (or on an accelerator)"
                raise TypeError(
                    f"{self.name}: {name} is a {framework} tensor that is {what}, and a loss object holds numbers: "
                    f"pass it to the function, {self.name}(y_true, y_pred, {name}=...)"
                )
            value = ops.to_numpy(value)
        return self.check(name, value)

    @functools.cached_property
    def elementwise(self) -> bool:
        """Whether the loss of a sample is the mean of the losses of its entries, each alone: so in huber, not in cosine_similarity or kl_divergence.

        Found out once, with NumPy, from entries of every size and several values of every option that is a number or a flag, because the shape of a
        result must not depend on them; False where the formula refuses such entries.
        """
        if self.sparse or self.interacting:
            return False
        shares = np.linspace(0.05, 0.95, 12).reshape(4, 3)
        # What every loss takes, then what only some do.
        y_true, y_pred = (np.concatenate([x, (x - 0.5) * 10.0 ** np.arange(4)[:, np.newaxis]]) for x in (shares[::-1], shares**2))
        given = {**dict.fromkeys(self.options, 0.5), **self.defaults}
        others = [{name: value} for name, default in given.items() if type(default) in (float, bool) for value in _others(default)]
        try:
            return self._is_mean(y_true, y_pred, self.complete(given)) and all(
                self._is_mean(y_true, y_pred, self._varied(given, other)) for other in others
            )
        except Exception:
            # Of a user's formula it may be any; who calls the loss will see it.
            return False

    def _varied(self, given: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        """The options with one of them changed; as they are where it may not have that value."""
        try:
            return self.complete({**given, **other})
        except ValueError:
            return self.complete(given)

    def _is_mean(self, y_true: Tensor, y_pred: Tensor, options: dict[str, Any]) -> bool:
        ops = dispatch.adapter("numpy")
        # The formula itself: checking mode, if it is on, has nothing to do with these numbers.
        whole = ops.run(self.formula, y_true, y_pred, options)
        with np.errstate(invalid="ignore"):
            means = ops.run(self.formula, y_true[..., np.newaxis], y_pred[..., np.newaxis], options).mean(axis=-1)
        return bool(np.shape(whole) == np.shape(means) and np.isfinite(whole).any() and np.allclose(means, whole, equal_nan=True))

    def _unknown_option(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.options, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        known = ", ".join(self.options) or "none"
        return f"unknown option {name!r}{hint} (options: {known})"


def _others(default: float | bool) -> tuple[float | bool, ...]:
    """Other values of an option."""
    return (not default,) if isinstance(default, bool) else (0.3, 2.0)


def _check_of(parameter: inspect.Parameter) -> Callable[[str, str, Any], Any] | None:
    """The check that the option's type carries; ``axis``, and an ``epsilon`` of None, mean the same in every loss, whatever a user annotates."""
    kind = parameter.annotation
    if not hasattr(kind, "__metadata__") and parameter.name == "axis":
        kind = Axis
    elif not hasattr(kind, "__metadata__") and parameter.name == "epsilon" and parameter.default is None:
        kind = Epsilon
    checks: list[Callable[[str, str, Any], Any]] = [extra for extra in getattr(kind, "__metadata__", ()) if callable(extra)]
    return checks[0] if checks else None


def _parameters(formula: Callable[..., Tensor]) -> list[inspect.Parameter]:
    """The parameters of a definition, with annotations as objects also where its module keeps them as text."""
    try:
        return list(inspect.signature(formula, eval_str=True).parameters.values())
    except (NameError, SyntaxError, TypeError, AttributeError):
        # A name that only a type checker knows.
        return list(inspect.signature(formula).parameters.values())


def _bare(annotation: Any) -> Any:
    """float for Annotated[float, ...]: what a reader of the signature wants to see."""
    return get_args(annotation)[0] if hasattr(annotation, "__metadata__") and get_origin(annotation) is not None else annotation


@overload
def loss(formula: Callable[Concatenate[Any, Any, Any, P], Any], /) -> LossFunction[P]: ...
@overload
def loss(
    *, aliases: tuple[str, ...] = (), sparse: bool = False, min_classes: int = 0, interacting: bool = False
) -> Callable[[Callable[Concatenate[Any, Any, Any, P], Any]], LossFunction[P]]: ...
def loss(formula: Any = None, /, *, aliases: tuple[str, ...] = (), sparse: bool = False, min_classes: int = 0, interacting: bool = False) -> Any:
    """Make a loss for every backend of a definition ``(ops, y_true, y_pred, ...options)`` that returns one value per sample.

    The definition sees tensors of one framework and one floating dtype, float32 or wider, of equal shape, and reduces their last axis (or the axis
    that its option ``axis`` names).

    aliases: other names of the same loss, by which ``get`` and ``deserialize`` find it too: a loss of your own among their ``custom_objects``.
    sparse: y_true holds class ids instead of one value per prediction; they arrive as integers within range.
    min_classes: fewer classes along the loss axis than this are an error.
    interacting: the samples depend on each other, so that the loss of a part is not a part of the losses.

    An option named ``axis`` is checked as an int; one named ``epsilon`` whose default is None is ``lossbackend.epsilon()`` then. On JAX the
    definition is compiled once for each set of options, so a global that it reads stays what it was then: make it an option.

    >>> import numpy as np
    >>> @loss
    ... def charbonnier(ops, y_true, y_pred, *, scale=1e-3):
    ...     return ops.mean(ops.sqrt(ops.square(y_pred - y_true) + scale**2), axis=-1)
    >>> charbonnier(np.array([[0.0, 4.0]]), np.array([[3.0, 4.0]]), scale=4.0)
    array([4.5])
    """
    if formula is None:
        return lambda formula: loss_of(Definition(formula, aliases, sparse, min_classes, interacting))
    return loss_of(Definition(formula, aliases, sparse, min_classes, interacting))


def loss_of(definition: Definition, pinned: str | None = None, module: str | None = None) -> Any:
    """The public function of a definition, for one framework only if ``pinned``; ``module`` is where pickle finds it."""

    def public(*args, **options):  # type: ignore[no-untyped-def]
        y_true, y_pred, values = definition.bind(args, options)
        return evaluate(definition, y_true, y_pred, values, pinned=pinned).values

    # Dynamo counts recompilations per code object: functions that share one fail from the ninth loss on.
    public.__code__ = public.__code__.replace(co_name=definition.name, co_qualname=definition.name)
    public.__name__ = public.__qualname__ = definition.name
    public.__module__ = module or definition.formula.__module__
    public.__doc__ = definition.formula.__doc__
    # With functools.wraps and its __wrapped__, tf.function(loss) looks for the definition's own parameters, ops among them.
    public.__signature__ = definition.signature  # type: ignore[attr-defined]
    public.definition = definition  # type: ignore[attr-defined]
    public.pinned = pinned  # type: ignore[attr-defined]
    return public


class Call(NamedTuple):
    """A call of a loss, converted and checked."""

    ops: Ops
    y_true: Tensor
    y_pred: Tensor
    options: dict[str, Any]
    axis: int
    shape: tuple[Any, ...]
    # Which samples count, which are computed, their weights, and which have a label that could not be looked at and is none.
    unmasked: Tensor | None
    selected: Tensor | None
    weights: Tensor | None
    bad: Tensor | None


def prepare(
    definition: Definition,
    y_true: Any,
    y_pred: Any,
    options: dict[str, Any],
    sample_weight: Any = None,
    mask: Any = None,
    pinned: str | None = None,
) -> Call:
    """The arguments of a call as tensors of the backend that they choose; TypeError or ValueError for what they may not be."""
    name = definition.name
    arguments = {"y_true": y_true, "y_pred": y_pred, "sample_weight": sample_weight, "mask": mask, **options}
    ops, like = dispatch.resolve(name, arguments, pinned)
    if like is not None and dispatch.compiling():
        y_true, y_pred = _followed(ops, y_true, like), _followed(ops, y_pred, like)
        sample_weight, mask = _followed(ops, sample_weight, like), _followed(ops, mask, like)

    y_pred = predictions(ops, name, y_pred, like)
    dtype = ops.dtype(y_pred)
    axis = options.get("axis", -1)
    looked_at = None
    if definition.sparse:
        y_true, looked_at = read_ids(ops, name, "y_true", y_true, y_pred)
    else:
        y_true = _floats(ops, name, "y_true", y_true, dtype, y_pred)
    y_true, y_pred, shape, axis = fitted(ops, definition, y_true, y_pred, axis)

    kept = None
    for option in definition.ignored_classes:
        if options[option] is not None:
            kept = _kept(ops, y_true, looked_at, options[option], y_pred)
    unmasked = selected = weights = None
    if sample_weight is not None or mask is not None or kept is not None:
        unmasked, selected, weights = _selection(ops, name, y_pred, sample_weight, mask, kept, without(shape, axis))
    if checking.ON:
        given = {"y_true": y_true, "y_pred": y_pred, "sample_weight": weights}
        checking.look(ops, name, definition.kinds, given, options, axis, selected)
    if selected is not None:
        chosen = ops.expand_dims(selected, axis)
        y_pred = ops.where(chosen, y_pred, _HARMLESS_PRED)
        y_true = y_true if definition.sparse else ops.where(chosen, y_true, _HARMLESS_TRUE)
    bad = None
    if definition.sparse:
        classes = shape[axis] if isinstance(shape[axis], int) else ops.sum(ops.ones_like(y_pred), axis=axis)
        concrete = ops.is_concrete(y_pred) if selected is None else ops.is_concrete(y_pred, selected)
        y_true, bad = check_ids(ops, name, "y_true", y_true, looked_at if concrete else None, classes, selected)
    if options:
        options = _prepare_options(ops, definition, options, shape[axis], y_pred)
    return Call(ops, y_true, y_pred, options, axis, shape, unmasked, selected, weights, bad)


def evaluate(
    definition: Definition,
    y_true: Any,
    y_pred: Any,
    options: dict[str, Any],
    sample_weight: Any = None,
    mask: Any = None,
    pinned: str | None = None,
) -> Losses:
    """The per-sample losses of a call, on the backend that its arguments choose."""
    call = prepare(definition, y_true, y_pred, options, sample_weight, mask, pinned)
    ops, bad, selected = call.ops, call.bad, call.selected
    values = _computed(definition, call)
    if bad is None and selected is None and not definition.class_weights:
        return Losses(ops, values, None, None, call.weights, None)
    if bad is not None:
        # Times NaN, not a selected NaN, so that the gradient of such a sample is NaN too, never a plausible 0.
        values = values * ops.where(bad, float("nan"), ops.ones_like(values))
    if selected is not None:
        values = ops.where(selected, values, 0.0)
    true_class_weights = None
    for option in definition.class_weights:
        if call.options[option] is not None:
            weights = call.options[option]
            true_class_weights = functools.partial(_true_class_weights, ops, weights, call.y_true, call.y_pred, call.axis, definition.sparse)
    return Losses(ops, values, call.unmasked, selected, call.weights, true_class_weights)


# Running the definition


def _computed(definition: Definition, call: Call) -> Tensor:
    """What the definition makes of a call: one loss per sample."""
    ops, y_true, y_pred, axis, shape = call.ops, call.y_true, call.y_pred, call.axis, call.shape
    if isinstance(shape[axis], int) and shape[axis] == 0:
        return ops.sum(y_pred, axis=axis)
    options, samples = call.options, definition.samples
    in_parts = axis > 0 and not definition.interacting and ops.in_parts(y_true, y_pred)
    if samples is None:
        if not in_parts or len(shape) == 2 or axis < len(shape) - 1:
            return ops.run(definition.formula, y_true, y_pred, options, in_parts)
        # All samples along one axis: the formulas here know of no other than the loss axis.
        y_true, y_pred = ops.reshape(y_true, (-1, *ops.shape(y_true)[axis:])), ops.reshape(y_pred, (-1, shape[axis]))
        options = {**options, "axis": -1} if "axis" in options else options
        return ops.reshape(ops.run(definition.formula, y_true, y_pred, options, True), shape[:axis])
    apart = in_parts and samples.are_independent(options)
    values = ops.run(definition.formula, y_true, y_pred, options, apart)
    if not ops.is_tensor(values):
        raise TypeError(f"{definition.name}: the definition returned {values!r}, it has to return a tensor with one loss per sample")
    if not _same_shape(ops.shape(values), without(shape, axis)):
        raise ValueError(
            f"{definition.name}: the definition returned shape {ops.shape(values)}, it has to reduce axis {axis} of {shape} and nothing else"
        )
    if in_parts and not apart:
        samples.learn(ops, definition.formula, y_true, y_pred, options, values)
    return values


class Samples:
    """Whether the samples of a user's definition, which may have forgotten to say, are independent of each other: found out with each set of options.

    The first large call is computed as a whole. Then a few of its samples are computed again: without the others, whose part would be missing, and
    beside others that are not the same, whose part would change. What is not finite, or the same for all samples, tells nothing yet.
    """

    def __init__(self) -> None:
        self._found: dict[Any, bool] = {}

    def are_independent(self, options: dict[str, Any]) -> bool:
        """Whether they are known to be."""
        return self._found.get(_constants(options), False)

    def learn(self, ops: Ops, formula: Callable[..., Tensor], y_true: Tensor, y_pred: Tensor, options: dict[str, Any], values: Tensor) -> None:
        """Find it out from a call and its losses."""
        samples, key = ops.shape(y_pred)[0], _constants(options)
        if key is None or key in self._found or samples < _LEARNED_FROM or len(self._found) >= _LEARNED:
            return
        chosen = np.arange(_PROBED) * samples // _PROBED
        true, pred = ops.stop_gradient(y_true)[chosen], ops.stop_gradient(y_pred)[chosen]
        whole = np.asarray(ops.to_numpy(ops.stop_gradient(values)[chosen]))
        if not np.isfinite(whole).all() or np.ptp(whole) == 0:
            return
        half = _PROBED // 2
        # Class ids stay class ids.
        others = [(true, pred)] + [(true if ops.dtype(true).startswith("int") else true * a + b, pred * a + b) for a, b in ((2.0, 1.0), (0.5, 0.0))]
        try:
            for other_true, other_pred in others:
                mixed = ops.concat([true[:half], other_true[half:]]), ops.concat([pred[:half], other_pred[half:]])
                for part in (mixed, (mixed[0][:half], mixed[1][:half])):
                    found = np.asarray(ops.to_numpy(ops.run(formula, part[0], part[1], options)))[:half]
                    if not np.allclose(found, whole[:half], rtol=1e-5, atol=0.0):
                        self._found[key] = False
                        return
        except (ValueError, TypeError, IndexError, RuntimeError):
            # It needs the whole batch.
            self._found[key] = False
            return
        self._found[key] = True


def _constants(options: dict[str, Any]) -> Any:
    """Options as a key; None where one may hold something for every sample."""
    if any(isinstance(value, np.ndarray) or dispatch.framework(value) is not None for value in options.values()):
        return None
    try:
        key = tuple((name, type(value), value) for name, value in options.items())
        hash(key)
    except TypeError:
        return None
    return key


def _selection(
    ops: Ops, loss: str, y_pred: Tensor, sample_weight: Any, mask: Any, kept: Tensor | None, shape: tuple[Any, ...]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Which samples count (mask, ignore_class), which of them are computed (weight not 0), and the weights; None for all, all, and 1."""
    unmasked, weights = kept, None
    if mask is not None:
        chosen = _mask(ops, loss, mask, shape, y_pred)
        unmasked = chosen if unmasked is None else unmasked & chosen
    unmasked = _unless_all(ops, unmasked)
    selected = unmasked
    if sample_weight is not None:
        weights = _floats(ops, loss, "sample_weight", sample_weight, ops.dtype(y_pred), y_pred)
        weights = left_align(ops, loss, "sample_weight", weights, shape)
        weighted = ~ops.equal(weights, 0)
        selected = _unless_all(ops, weighted if unmasked is None else unmasked & weighted)
    return unmasked, selected, weights


def _unless_all(ops: Ops, selected: Tensor | None) -> Tensor | None:
    """None where all samples are seen to be selected, as they mostly are: that saves a copy of the predictions and one of the labels."""
    return None if selected is not None and ops.is_concrete(selected) and bool(np.all(ops.to_numpy(selected))) else selected


# What comes in


def _followed(ops: Ops, value: Any, like: Tensor) -> Any:
    """An array or a list beside a tensor that a compiler follows, by the framework's own conversion: it cannot follow NumPy's.

    A list in float64 first, which is exact for class ids and rounds once more where the loss is computed in less.
    """
    if isinstance(value, (np.ndarray, list, tuple)):
        return ops.asarray(value, ops.cast(like, "float64"))
    return value


def neutral_array(loss: str, argument: str, value: Any) -> np.ndarray[Any, Any]:
    """A NumPy array of numbers from whatever names no framework: arrays, numbers, lists, pandas objects."""
    if type(value) is np.ndarray:
        array = value
    else:
        if value is None or isinstance(value, (str, bytes)):
            raise TypeError(f"{loss}: {argument} must be a tensor, an array or numbers, got {value!r}")
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"{loss}: {argument} is a masked array, whose mask would be lost: pass its .data, and mask= to a loss object")
        if isinstance(value, getattr(sys.modules.get("pytensor.sparse.variable"), "SparseVariable", ())):
            raise TypeError(f"{loss}: {argument} is a sparse matrix: make it dense with pytensor.sparse.dense_from_sparse")
        inside = _framework_inside(value)
        if inside is not None:
            raise TypeError(f"{loss}: {argument} is a {type(value).__name__} of {inside} tensors: stack them into one tensor")
        if isinstance(value, getattr(sys.modules.get("keras"), "Variable", ())):
            raise TypeError(f"{loss}: {argument} is a keras.Variable: pass the tensor that it holds, its .value")
        tensorflow = sys.modules.get("tensorflow")
        if isinstance(value, (getattr(tensorflow, "RaggedTensor", ()), getattr(tensorflow, "SparseTensor", ()))):
            raise TypeError(
                f"{loss}: {argument} is a {type(value).__name__}, which has no entry in every place: make it dense with ragged.to_tensor() or "
                "tf.sparse.to_dense, and give mask= to a loss object for the samples that this adds"
            )
        try:
            array = np.asarray(value)
        except Exception as error:
            raise TypeError(f"{loss}: {argument} of type {type(value).__name__} cannot be read as an array: {error}") from error
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "V" and array.dtype.name.startswith(("bfloat", "float")):
        return array.astype(np.float32)
    if array.dtype.kind not in "biuf":
        hint = ": make numbers of it, columns of strings by their class ids, columns of several nullable types by .astype(float)"
        raise TypeError(f"{loss}: {argument} must hold real numbers, got dtype {array.dtype}{hint if array.dtype.kind in 'OUS' else ''}")
    return array


def _framework_inside(value: Any) -> str | None:
    """Whose tensors a list holds, if any: as numbers they would lose their gradient."""
    if not isinstance(value, (list, tuple)):
        return dispatch.framework(value)
    return next((found for found in map(_framework_inside, value) if found is not None), None)


def _is_neutral(ops: Ops, value: Any) -> bool:
    return ops.name == "numpy" or not ops.is_tensor(value)


def _looked_at(ops: Ops, loss: str, argument: str, value: Any, like: Tensor | None) -> np.ndarray[Any, Any] | None:
    """The values, where they can be looked at: in an array that is no tensor yet, or a concrete tensor beside a concrete ``like``."""
    if _is_neutral(ops, value):
        return neutral_array(loss, argument, value)
    concrete = ops.is_concrete(value) if like is None else ops.is_concrete(value, like)
    return np.asarray(ops.to_numpy(value)) if concrete else None


def predictions(ops: Ops, loss: str, value: Any, like: Tensor | None) -> Tensor:
    """y_pred as a tensor in the type that the loss is computed in: its own, float32 for half precision, integers, bools, lists and numbers.

    A half-precision sum overflows at 65504, and a gradient scaler needs float32; the gradient flows back through the cast in y_pred's own type.
    """
    if (like is None or type(value) is not type(like)) and _is_neutral(ops, value):
        array = neutral_array(loss, "y_pred", value)
        typed = hasattr(value, "dtype") or hasattr(value, "__array__")
        if not typed or array.dtype.kind != "f" or array.dtype.itemsize < 4:
            array = _quiet_cast(array, np.float32)
        if array.dtype.itemsize > 8 and ops.name != "numpy":
            # No framework has long doubles.
            array = array.astype(np.float64)
        value = array
    value = ops.asarray(value, like)
    dtype = ops.dtype(value)
    if dtype in _COMPUTED:
        return value
    _check_real(loss, "y_pred", dtype)
    return ops.cast(value, "float32")


def _floats(ops: Ops, loss: str, argument: str, value: Any, dtype: str, like: Tensor) -> Tensor:
    """Dense labels or weights as a tensor of that dtype, on the device of ``like``."""
    if type(value) is type(like) and ops.dtype(value) == dtype:
        return ops.asarray(value, like)
    if type(value) is float or type(value) is int:
        # A compiler follows a number, not NumPy.
        return ops.asarray(float(value), like)
    if _is_neutral(ops, value):
        # Cast before the framework sees it: JAX would make 32-bit integers of 64-bit ones.
        return ops.asarray(_quiet_cast(neutral_array(loss, argument, value), dtype), like)
    value = ops.asarray(value, like)
    own = ops.dtype(value)
    if own == dtype:
        return value
    _check_real(loss, argument, own)
    return ops.cast(value, dtype)


def _quiet_cast(array: np.ndarray[Any, Any], dtype: Any) -> np.ndarray[Any, Any]:
    """The array in another dtype, where a number beyond its range is an infinity, without a word, as in every framework."""
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def _check_real(loss: str, argument: str, dtype: str) -> None:
    if not dtype.startswith(("float", "bfloat", "int", "uint", "bool")):
        raise TypeError(f"{loss}: {argument} must hold real numbers, got dtype {dtype}")


def _mask(ops: Ops, loss: str, value: Any, shape: tuple[Any, ...], like: Tensor) -> Tensor:
    """The mask as bools, aligned with per-sample losses of that shape. What is no truth value is refused where it can be looked at."""
    looked_at = _looked_at(ops, loss, "mask", value, like)
    if looked_at is None or not _is_neutral(ops, value):
        mask = ops.cast(ops.asarray(value, like), "bool")
    else:
        mask = ops.asarray(looked_at.astype(bool, copy=False), like)
    mask = left_align(ops, loss, "mask", mask, shape)
    if looked_at is not None and looked_at.dtype != bool and not ((looked_at == 0) | (looked_at == 1)).all():
        raise ValueError(f"{loss}: mask must hold True and False (or 1 and 0), got {looked_at.dtype} with other values")
    return mask


# Shapes


def axis_of(definition: Definition, shape: tuple[Any, ...], axis: int) -> int:
    """The loss axis of y_pred, counted from the left; ValueError unless it has enough classes."""
    rank = len(shape)
    if not -rank <= axis < rank:
        raise ValueError(f"{definition.name}: axis {axis} is out of range for y_pred of shape {shape}")
    size = shape[axis]
    if isinstance(size, int) and size < definition.min_classes:
        hint = ": for a single probability or logit per sample use binary_crossentropy" if size == 1 else ""
        raise ValueError(f"{definition.name}: needs at least {definition.min_classes} classes along axis {axis}, got y_pred of shape {shape}{hint}")
    return axis % rank


def loss_shape(definition: Definition, shapes: Mapping[str, tuple[int, ...]], options: Mapping[str, Any]) -> tuple[tuple[int, ...], int]:
    """y_pred's shape and the loss axis in it, counted from the left, of arguments of those shapes; ValueError, as in a call, if they do not fit."""
    # One number each, however large the shape.
    tensors = {argument: np.broadcast_to(np.float32(0), shape) for argument, shape in shapes.items()}
    _, _, shape, axis = fitted(dispatch.adapter("numpy"), definition, tensors.pop("y_true"), tensors.pop("y_pred"), options.get("axis", -1))
    for argument, tensor in tensors.items():
        left_align(dispatch.adapter("numpy"), definition.name, argument, tensor, without(shape, axis))
    return shape, axis


def fitted(ops: Ops, definition: Definition, y_true: Tensor, y_pred: Tensor, axis: int) -> tuple[Tensor, Tensor, tuple[Any, ...], int]:
    """y_true and y_pred in shapes that fit, the shape of y_pred, and the loss axis in it, counted from the left; ValueError where they do not fit."""
    if definition.sparse:
        y_true, shape = sparse_shapes(ops, definition, y_true, y_pred, axis)
    else:
        y_true, y_pred, shape = dense_shapes(ops, definition, y_true, y_pred, axis)
    return y_true, y_pred, shape, axis_of(definition, shape, axis)


def dense_shapes(ops: Ops, definition: Definition, y_true: Tensor, y_pred: Tensor, axis: int) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
    """Equal shapes, (N,) with (N, 1), or two scalars; nothing else, because broadcasting (N,) against (N, 1) averages N × N differences."""
    true_shape, pred_shape = ops.shape(y_true), ops.shape(y_pred)
    if len(true_shape) == 1 and len(pred_shape) == 2 and pred_shape[1] == 1:
        y_true, aligned = ops.expand_dims(y_true, -1), (true_shape[0], 1)
        if not _same_shape(aligned, pred_shape):
            raise ValueError(_different_shapes(definition, true_shape, pred_shape, axis))
        return y_true, y_pred, pred_shape
    if len(pred_shape) == 1 and len(true_shape) == 2 and true_shape[1] == 1:
        y_pred, aligned = ops.expand_dims(y_pred, -1), (pred_shape[0], 1)
        if not _same_shape(true_shape, aligned):
            raise ValueError(_different_shapes(definition, true_shape, pred_shape, axis))
        return y_true, y_pred, aligned
    if not _same_shape(true_shape, pred_shape):
        raise ValueError(_different_shapes(definition, true_shape, pred_shape, axis))
    if not pred_shape:
        return ops.reshape(y_true, (1,)), ops.reshape(y_pred, (1,)), (1,)
    return y_true, y_pred, pred_shape


def _same_shape(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    """Whether the shapes are equal as far as they are known."""
    if len(first) != len(second):
        return False
    for one, other in zip(first, second, strict=True):
        if one is not other and isinstance(one, int) and isinstance(other, int) and one != other:
            return False
    return True


def without(shape: tuple[Any, ...], axis: int) -> tuple[Any, ...]:
    return shape[:axis] + shape[axis + 1 :] if axis >= 0 else shape[: len(shape) + axis] + shape[len(shape) + axis + 1 :]


def _different_shapes(definition: Definition, true_shape: tuple[Any, ...], pred_shape: tuple[Any, ...], axis: int) -> str:
    message = f"{definition.name}: y_true and y_pred must have the same shape, got {true_shape} and {pred_shape}."
    in_range = -len(pred_shape) <= axis < len(pred_shape)
    if definition.min_classes and in_range and true_shape in (without(pred_shape, axis), (*without(pred_shape, axis), 1)):
        return (
            f"{message} y_true looks like integer class ids: use sparse_categorical_crossentropy, "
            f"or to_categorical(y_true, num_classes={pred_shape[axis]}) for one-hot labels."
        )
    return f"{message} Nothing is broadcast; reshape one of them (only (N,) with (N, 1) is understood)."


def sparse_shapes(ops: Ops, definition: Definition, ids: Tensor, y_pred: Tensor, axis: int) -> tuple[Tensor, tuple[Any, ...]]:
    """The class ids in y_pred's shape without the class axis, where they may come with size 1."""
    pred_shape, true_shape = ops.shape(y_pred), ops.shape(ids)
    if not pred_shape:
        raise ValueError(f"{definition.name}: y_pred needs a class axis, got a scalar")
    axis = axis_of(definition, pred_shape, axis)
    expected = without(pred_shape, axis)
    if len(true_shape) == len(pred_shape) and true_shape[axis] == 1:
        ids = ops.squeeze(ids, axis)
    if not _same_shape(ops.shape(ids), expected):
        hint = ""
        if true_shape == pred_shape:
            hint = " y_true looks one-hot: use categorical_crossentropy, or argmax it along the class axis."
        with_one = (*pred_shape[:axis], 1, *pred_shape[axis + 1 :])
        raise ValueError(
            f"{definition.name}: y_true must have the shape of y_pred without the class axis, {expected} or {with_one}, "
            f"got {true_shape} for y_pred of shape {pred_shape}.{hint}"
        )
    return ids, pred_shape


# Class ids


def read_ids(ops: Ops, loss: str, argument: str, value: Any, like: Tensor | None) -> tuple[Tensor, np.ndarray[Any, Any] | None]:
    """Class ids as a tensor, never by way of a float type, and as they came in where values can be looked at."""
    looked_at = _looked_at(ops, loss, argument, value, like)
    neutral = _is_neutral(ops, value)
    if looked_at is not None and looked_at.dtype.kind == "f":
        # Half precision cannot be compared with 2**31.
        looked_at = looked_at.astype(np.float64)
        whole = looked_at == np.trunc(looked_at)
    else:
        whole = None
    long = neutral and looked_at is not None and looked_at.dtype.itemsize > 4
    if looked_at is not None and (whole is not None or (long and not _within(looked_at, -(2**31), 2**31))):
        # What is no 32-bit id becomes −2**31, which is none either: JAX keeps the lower 32 bits, which would make a valid id of 2**32 + 1.
        valid = (looked_at >= -(2**31)) & (looked_at < 2**31) & (True if whole is None else whole)
        value = ops.asarray(np.where(valid, looked_at, -(2**31)).astype(np.int64), like)
    elif neutral and looked_at is not None:
        value = ops.asarray(looked_at.astype(np.int64, copy=False) if long else looked_at, like)
    else:
        value = ops.asarray(value, like)
    dtype = ops.dtype(value)
    _check_real(loss, argument, dtype)
    if dtype.startswith(("float", "bfloat")):
        # Half precision does not hold every number of classes.
        return value if dtype == "float64" else ops.cast(value, "float32"), looked_at
    ids = ops.cast(ops.cast(value, "int32") if dtype == "bool" else value, "index")
    # What is too large for the index type has wrapped into the negative.
    return ops.where(ids < 0, -(2**31), ids) if dtype.startswith("uint") else ids, looked_at


def _within(ids: np.ndarray[Any, Any], low: int, high: int) -> bool:
    """Whether low ≤ id < high for all of them, without an array of comparisons."""
    if ids.size <= _FEW:
        # As Python's own numbers: NumPy's reductions take longer to begin.
        few = ids.ravel().tolist()
        return not few or (min(few) >= low and max(few) < high)
    return bool(ids.min() >= low and ids.max() < high)


def _kept(ops: Ops, ids: Tensor, looked_at: np.ndarray[Any, Any] | None, ignore_class: int, like: Tensor) -> Tensor | None:
    """Where the ids are not ``ignore_class``; None for everywhere."""
    if looked_at is not None:
        kept = np.asarray(looked_at != ignore_class)
        return None if kept.all() else ops.asarray(kept.reshape(ops.shape(ids)), like)
    # No id is out of the range of its type, with which frameworks will not compare it.
    bits = 31 if ops.dtype(ids) == "int32" else 63
    return ~ops.equal(ids, ignore_class) if -(2**bits) <= ignore_class < 2**bits else None


def check_ids(
    ops: Ops, loss: str, argument: str, ids: Tensor, looked_at: np.ndarray[Any, Any] | None, classes: Any, selected: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Ids that are all within range, and where they were not (None: nowhere).

    A bad id is a ValueError where values can be looked at. Where they cannot, the caller makes the offending samples NaN.
    """
    floating = ops.dtype(ids).startswith(("float", "bfloat"))
    wrong = None
    if looked_at is not None and isinstance(classes, int):
        chosen = None if selected is None else ops.to_numpy(selected)
        _refuse_bad_ids(loss, argument, looked_at.reshape(ops.shape(ids)), classes, chosen)
    else:
        if isinstance(classes, int):
            good = (ids >= 0) & (ids < classes)
        else:
            # The number of classes is not known before the graph runs: count them.
            good = (ids >= 0) & (ops.cast(ids, ops.dtype(classes)) < classes)
        if floating:
            good = good & ops.equal(ids, ops.cast(ops.cast(ops.where(good, ids, 0.0), "index"), ops.dtype(ids)))
        wrong = ~good if selected is None else selected & ~good
        selected = good if selected is None else selected & good
    if selected is not None:
        ids = ops.where(selected, ids, 0.0 if floating else 0)
    return ops.cast(ids, "index"), wrong


def _refuse_bad_ids(loss: str, argument: str, ids: np.ndarray[Any, Any], classes: int, selected: np.ndarray[Any, Any] | None) -> None:
    if ids.dtype.kind != "f" and _within(ids, 0, classes):
        return
    bad = ~((ids >= 0) & (ids < classes))
    if ids.dtype.kind == "f":
        bad |= ids != np.floor(ids)
    if selected is not None:
        bad &= selected
    if not bad.any():
        return
    where = tuple(int(i) for i in np.argwhere(bad)[0])
    found = ids[where].item()
    at = f" at index {where[0] if len(where) == 1 else where}" if where else ""
    what = "is not a whole number" if isinstance(found, float) and found != np.floor(found) else f"is outside 0 ... {classes - 1}"
    raise ValueError(
        f"{loss}: {argument} must hold class ids from 0 to {classes - 1} ({classes} classes); {found}{at} {what} "
        f"(smallest {ids.min().item()}, largest {ids.max().item()})."
    )


# Options that hold tensors


def _prepare_options(ops: Ops, definition: Definition, options: dict[str, Any], size: Any, y_pred: Tensor) -> dict[str, Any]:
    """Options as the definition takes them: weights of the right length, arrays and tensors in the type of the computation."""
    prepared = dict(options)
    for name, value in options.items():
        if type(value) in _PLAIN:
            continue
        if isinstance(value, np.ndarray) or ops.is_tensor(value):
            if ops.name != "numpy" and name in definition.checks:
                _check_tensor(ops, definition, name, value)
            prepared[name] = _floats(ops, definition.name, name, value, ops.dtype(y_pred), y_pred)
    for name in definition.class_weights:
        if prepared[name] is not None:
            prepared[name] = _per_class(ops, definition, name, prepared[name], size)
    for name in definition.pos_weights:
        weights = prepared[name]
        if weights is not None and not isinstance(weights, (int, float)):
            _check_length(ops, definition, name, weights, ops.shape(y_pred)[-1], scalar=True)
    return prepared


def _check_tensor(ops: Ops, definition: Definition, name: str, value: Tensor) -> None:
    """A learned or traced option: its values where they can be looked at, and that a number is one."""
    if ops.is_concrete(value):
        array = np.asarray(ops.to_numpy(value))
        # Weights are looked at all together, and one by one only for what is to be said of them.
        weights = array.ndim == 1 and name in definition.class_weights + definition.pos_weights
        if not (weights and bool(((array >= 0) & (array < np.inf)).all())):
            definition.check(name, array)
    elif name in definition.numbers and ops.shape(value) != ():
        raise TypeError(f"{definition.name}: {name} must be a number, got a tensor of shape {ops.shape(value)}")


def _per_class(ops: Ops, definition: Definition, option: str, weights: Any, classes: Any) -> Any:
    """One weight per class; a {class: weight} that leaves some out weighs those 1."""
    if isinstance(weights, tuple) and weights and isinstance(weights[0], tuple):
        if not isinstance(classes, int):
            raise ValueError(f"{definition.name}: {option} as a dict needs a number of classes that is known; give one weight per class")
        complete = [1.0] * classes
        for class_id, weight in weights:
            if not 0 <= class_id < classes:
                raise ValueError(f"{definition.name}: {option} names class {class_id}, outside 0 ... {classes - 1}")
            complete[class_id] = weight
        return tuple(complete)
    _check_length(ops, definition, option, weights, classes)
    return weights


def _check_length(ops: Ops, definition: Definition, option: str, weights: Any, wanted: Any, scalar: bool = False) -> None:
    shape = (len(weights),) if isinstance(weights, tuple) else ops.shape(weights)
    if not _same_shape(shape, (wanted,)) and not (scalar and shape == ()):
        raise ValueError(f"{definition.name}: {option} must hold {wanted} numbers, one per entry of the last axis or class, got shape {shape}")


def along_axis(ops: Ops, values: Any, like: Tensor, axis: int) -> Tensor:
    """One value per entry of an axis, repeated to the shape of ``like``."""
    rank = len(ops.shape(like))
    shape = tuple(-1 if i == axis % rank else 1 for i in range(rank))
    return ops.reshape(ops.asarray(values, like=like), shape) * ops.ones_like(like)


def _true_class_weights(ops: Ops, weights: Any, y_true: Tensor, y_pred: Tensor, axis: int, sparse: bool) -> Tensor:
    """The weight of each sample's true class."""
    weights = along_axis(ops, weights, y_pred, axis)
    return ops.take_class(weights, y_true, axis=axis) if sparse else ops.sum(weights * y_true, axis=axis)
