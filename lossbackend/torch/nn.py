"""Criteria: every loss class as a ``torch.nn.Module``, under its Keras name and with the conventions of ``torch.nn``.

A criterion is called with ``(input, target)``, and reduces as torch's own do: "none" has the shape of the input where a loss is made for each
element, and "mean" and "sum" go over all elements. ``Criterion`` says what they share, ``criterion`` makes one of a loss of your own.

>>> import torch
>>> from lossbackend.torch import nn
>>> nn.Huber(delta=2.0)
Huber(delta=2.0, reduction='mean')
>>> nn.Huber(reduction="none")(torch.tensor([[0.5, 3.0]]), torch.zeros(1, 2))
tensor([[0.1250, 2.5000]])

In the place of ``torch.nn.CrossEntropyLoss()``:

>>> entropy = nn.SparseCategoricalCrossentropy(from_logits=True)
>>> entropy(torch.zeros(3, 4), torch.tensor([0, 3, -100]))
tensor(1.3863)
"""

import functools
import inspect
import warnings
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, overload

import numpy as np
import torch

from lossbackend import dispatch, registry
from lossbackend.definition import Definition, dense_shapes, evaluate
from lossbackend.losses.objects import Loss, with_own_code
from lossbackend.options import Labels

__all__ = ["Criterion", "criterion"]

Reduction: TypeAlias = Literal["mean", "sum", "none"]
Weights: TypeAlias = torch.Tensor | Sequence[float] | float | None

# Where a class of ids that is not given is ignored all the same.
_IGNORED = -100


class Criterion(torch.nn.Module):
    """A loss as torch's own criteria are: ``criterion(input, target)``, the base of all classes here.

    Elementwise losses (the loss of many entries is the mean of the losses of each) count every element as a sample: "none" has the input's shape. The
    others take their classes, or vectors, along ``axis``: by default axis 1 of (N, C, d1, ...), and axis 0 of (C,). All options are keywords, those
    of the loss (``delta``, ``from_logits``, ``label_smoothing``, ...) under their names, and torch's:

    * reduction: "mean", "sum" or "none". 0/0 is 0. An attribute that may be changed later, as all options may; compile with ``dynamic=False`` then.
    * weight, of the categorical cross-entropies: one number per class. The "mean" of class ids divides by the weights of the true classes, that of
      class probabilities by the number of samples. Of BinaryCrossentropy: a factor for each element, or what broadcasts to them; "mean" divides by
      the number of elements. It may come by position.
    * pos_weight, of BinaryCrossentropy: a factor of the positive labels, which broadcasts to the input.
    * ignore_index, of SparseCategoricalCrossentropy: an id whose entries give 0 and are not counted, -100 unless told, or None.
    * axis: the class axis, or the axis whose elements are one sample of an elementwise loss (which then has its mean for a loss, as in Keras).

    ``weight`` and ``pos_weight`` are buffers: they move with ``.to()`` and are in the state_dict; a ``torch.nn.Parameter`` is a parameter of the
    criterion and is learned. The loss is computed in the input's type, and half precision in float32.

    Raises TypeError for an unknown option or what is no tensor, and ValueError for options out of range and shapes that do not fit; it calls the
    input y_pred and the target y_true. Warns where the target requires a gradient and the input does not, if it makes a difference which is which.

    A criterion of your own loss, by @lossbackend.loss or a subclass of lossbackend.Loss, has the same conventions:

    >>> import lossbackend, torch
    >>> @lossbackend.loss
    ... def charbonnier(ops, y_true, y_pred, *, scale=1e-3):
    ...     return ops.mean(ops.sqrt(ops.square(y_pred - y_true) + scale**2), axis=-1)
    >>> class Charbonnier(Criterion):
    ...     loss = charbonnier
    >>> Charbonnier(scale=4.0, reduction="none")(torch.tensor([3.0, 0.0]), torch.zeros(2))
    tensor([5., 4.])
    """

    loss: ClassVar[Any]
    definition: ClassVar[Definition]
    __signature__: ClassVar[inspect.Signature]
    # The attribute that holds each option of the definition, and those attributes that are tensors.
    _attributes: ClassVar[dict[str, str]] = {}
    _tensors: ClassVar[tuple[str, ...]] = ()

    axis: int | None
    reduction: str
    weight: torch.Tensor | None
    pos_weight: torch.Tensor | None

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "loss" not in vars(cls):
            return
        cls.definition, defaults = _described(cls.loss)
        if not inspect.isclass(cls.loss):
            # Or it would be a method of the criterion.
            cls.loss = staticmethod(cls.loss)
        torch_names = _torch_names(cls.definition, list(defaults))
        cls._attributes = {option: torch_names.get(option, option) for option in defaults if option != "axis"}
        cls._tensors = tuple(name for name in ("weight", "pos_weight") if name in torch_names.values())
        cls.__signature__ = _signature(cls.definition, defaults, cls._attributes, cls._tensors)
        if "forward" not in vars(cls):
            # Dynamo counts recompilations per code object.
            cls.forward = with_own_code(Criterion.forward, cls.__qualname__)  # type: ignore[method-assign]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__()
        name = type(self).__name__
        if not hasattr(type(self), "definition"):
            raise TypeError(f"{name} has no loss: use a class such as Huber, or write one with `loss = f`, f by @lossbackend.loss")
        try:
            bound = self.__signature__.bind(*args, **options)
        except TypeError as error:
            raise TypeError(f"{name}: {error} (options: {', '.join(self.__signature__.parameters)})") from None
        bound.apply_defaults()
        for attribute, value in bound.arguments.items():
            if attribute in self._tensors:
                self._hold(attribute, value)
            else:
                setattr(self, attribute, value)
        self.elementwise = self.definition.elementwise
        self.symmetric = _is_symmetric(self.definition, {option: getattr(self, attribute) for option, attribute in self._attributes.items()})

    def __setattr__(self, name: str, value: Any) -> None:
        # Checked here, once, and not at each call.
        if name == "reduction" and value not in ("mean", "sum", "none"):
            raise ValueError(f"{type(self).__name__}: Invalid value for argument `reduction`: {value!r}. Choose one of 'mean', 'sum', 'none'.")
        if name == "axis" and value is not None and not isinstance(value, int):
            raise TypeError(f"{type(self).__name__}: axis must be an int or None, got {value!r}")
        for option, attribute in self._attributes.items():
            # An epsilon of None is that at the time of the call.
            if attribute == name and name not in self._tensors and not (value is None and option in self.definition.epsilons):
                value = self.definition.constant(option, value)
        super().__setattr__(name, value)

    def _hold(self, attribute: str, value: Any) -> None:
        """Keep weights as a buffer, or as the parameter that they are."""
        if isinstance(value, torch.nn.Parameter):
            setattr(self, attribute, value)
            return
        if value is not None and not isinstance(value, torch.Tensor):
            for option in (option for option, name in self._attributes.items() if name == attribute):
                value = self.definition.check(option, value)
            if isinstance(value, tuple) and value and isinstance(value[0], tuple):
                raise ValueError(f"{type(self).__name__}: {attribute} must be one number per class, a dict does not say how many there are")
            try:
                value = torch.tensor(value, dtype=torch.get_default_dtype())
            except (TypeError, ValueError, RuntimeError):
                raise TypeError(f"{type(self).__name__}: {attribute} must be a tensor or numbers, got {value!r}") from None
        self.register_buffer(attribute, value)

    def extra_repr(self) -> str:
        """The options, and the shapes of the weights."""
        values = {name: getattr(self, name) for name in self.__signature__.parameters}
        shown = {name: tuple(value.shape) if name in self._tensors else value for name, value in values.items() if value is not None}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of ``input``, the predictions, and ``target``, the labels, reduced."""
        name, definition, reduction = type(self).__name__, self.definition, self.reduction
        for argument, value in (("input", input), ("target", target)):
            if not isinstance(value, torch.Tensor):
                raise TypeError(f"{name}: {argument} must be a torch tensor, got {type(value).__name__}")
        if definition.sparse and target.is_floating_point() and not input.is_floating_point():
            raise ValueError(f"{name}: criteria take (input, target), predictions first; the input holds {input.dtype}, the target {target.dtype}")
        if not torch.compiler.is_compiling() and target.requires_grad and not (input.requires_grad or self.symmetric) and torch.is_grad_enabled():
            # No error, because a learned label is one too, as in a reversed Kullback–Leibler divergence.
            warnings.warn(f"{name}: the target requires a gradient and the input does not; criteria take (input, target)", stacklevel=4)
        options = definition.complete({option: getattr(self, attribute) for option, attribute in self._attributes.items()}, checked=True)
        # Weights that are no option of the definition are those of the elements.
        rescaling = self.weight if "weight" in self._tensors and "weight" not in self._attributes.values() else None
        shape = tuple(input.shape)
        if self.elementwise and self.axis is None:
            target, input, _ = dense_shapes(_OPS, definition, target, input, -1)
            if reduction != "none" and rescaling is None and len(shape) > 1 and self._fits_rows(input):
                # The mean over all elements is the mean of the means of rows, which takes a fraction of the memory.
                losses = evaluate(definition, target, input, options, pinned="torch").reduced(reduction)
                return losses if reduction == "mean" else losses * input.shape[-1]
            target, input = self._alone(target, input, options)
            if rescaling is not None:
                rescaling = _expanded(name, "weight", rescaling, shape).reshape(input.shape[1:] if options.get("axis") == 0 else shape)
            losses = evaluate(definition, target, input, options, rescaling, pinned="torch").reduced(reduction)
            return losses.reshape(shape) if reduction == "none" else losses
        axis = min(1, len(shape) - 1) if self.axis is None else self.axis
        if shape and not -len(shape) <= axis < len(shape):
            raise ValueError(f"{name}: axis {axis} is out of range for input of shape {shape}")
        if "axis" in definition.options:
            options["axis"] = axis
        elif target.dim() == len(shape) or definition.sparse:
            input, target = input.movedim(axis, -1), target if definition.sparse else target.movedim(axis, -1)
        if rescaling is not None:
            rescaling = _expanded(name, "weight", rescaling, shape[:axis] + shape[axis % len(shape) + 1 :])
        if reduction == "mean" and definition.sparse and "weight" in self._tensors and self.weight is not None:
            reduction = "mean_with_sample_weight"
        return evaluate(definition, target, input, options, rescaling, pinned="torch").reduced(reduction)

    def _fits_rows(self, input: torch.Tensor) -> bool:
        """Whether there is one pos_weight, or one for each entry of a row, if there is any."""
        pos_weight = self.pos_weight if "pos_weight" in self._tensors else None
        return pos_weight is None or pos_weight.dim() == 0 or pos_weight.shape == input.shape[-1:]

    def _alone(self, target: torch.Tensor, input: torch.Tensor, options: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Target and input in a shape in which each element is a sample, and ``options`` with the pos_weight of each."""
        pos_weight = self.pos_weight if "pos_weight" in self._tensors else None
        if pos_weight is None or pos_weight.numel() == 1:
            options.update({} if pos_weight is None else {self.definition.pos_weights[0]: pos_weight.reshape(())})
            return target.unsqueeze(-1), input.unsqueeze(-1)
        name = type(self).__name__
        if "axis" not in self.definition.options:
            raise ValueError(f"{name}: pos_weight must be one number, because {self.definition.name} has no option axis")
        # The definition takes one pos_weight per entry of the last axis: the elements lie along that, and each is alone on the first.
        options["axis"] = 0
        if self._fits_rows(input):
            options[self.definition.pos_weights[0]] = pos_weight
            return target.unsqueeze(0), input.unsqueeze(0)
        options[self.definition.pos_weights[0]] = _expanded(name, "pos_weight", pos_weight, input.shape).reshape(-1)
        return target.reshape(1, -1), input.reshape(1, -1)


@overload
def criterion(loss: Loss) -> Criterion: ...
@overload
def criterion(loss: Any) -> type[Criterion]: ...
def criterion(loss: Any) -> Any:
    """The criterion of a loss: a class for a loss function or a class of loss objects, a criterion with the same options for a loss object.

    ``loss`` is a function made by @lossbackend.loss, a subclass of lossbackend.Loss, or an object of one; TypeError for anything else. The criterion
    of an object keeps its axis and its reduction too, so that it gives the object's numbers; ValueError where its mean weighs classes in another way
    than a criterion's. Such criteria are pickled by their loss; where the class itself is pickled, give it a place: ``class Mine(Criterion): loss =
    mine``.

    >>> import lossbackend
    >>> criterion(lossbackend.huber)
    <class 'lossbackend.torch.nn.Huber'>
    >>> criterion(lossbackend.Huber(2.0, reduction="sum"))
    Huber(delta=2.0, axis=-1, reduction='sum')
    """
    if isinstance(loss, Criterion) or (inspect.isclass(loss) and issubclass(loss, Criterion)):
        return loss
    if not isinstance(loss, Loss):
        return _class_of(loss)
    kind: Any = type(loss)
    cls, config = _class_of(kind), loss.get_config()
    given = {cls._attributes[option]: value for option, value in config.items() if option in cls._attributes and value is not None}
    reduction = {"sum": "sum", "none": "none", None: "none"}.get(loss.reduction, "mean")
    by_weight = loss.reduction == "mean_with_sample_weight"
    if reduction == "mean" and any(config.get(option) is not None for option in cls.definition.class_weights) and by_weight != cls.definition.sparse:
        wanted = "mean_with_sample_weight" if cls.definition.sparse else "sum_over_batch_size"
        raise ValueError(f"{loss!r}: with class weights, the mean of a criterion is that of reduction={wanted!r}: choose it")
    return cls(**given, axis=config.get("axis", -1), reduction=reduction)


@functools.cache
def _class_of(loss: Any) -> type[Criterion]:
    definition, defaults = _described(loss)
    for cls in _built_in:
        if (cls.definition, _described(cls.loss)[1]) == (definition, defaults):
            return cls
    name = loss.__name__ if inspect.isclass(loss) else "".join(part.capitalize() for part in definition.name.split("_"))
    return type(name, (Criterion,), {"loss": loss, "__module__": loss.__module__, "__doc__": loss.__doc__, "__reduce__": _reduce})


def _reduce(self: Criterion) -> Any:
    # A class that was made by a call is nowhere to be found by pickle.
    return _empty, (type(self).loss,), self.__dict__


def _empty(loss: Any) -> Criterion:
    cls = _class_of(loss)
    return cls.__new__(cls)


def _described(loss: Any) -> tuple[Definition, dict[str, Any]]:
    """The definition of a loss function or class, and the options with their defaults."""
    if inspect.isclass(loss) and issubclass(loss, Loss):
        definition = loss._definition()
        defaults = {field.name: field.default for field in fields(loss) if field.name not in ("reduction", "name")}
        return definition, {name: inspect.Parameter.empty if default is MISSING else default for name, default in defaults.items()}
    found = getattr(loss, "definition", None)
    if not isinstance(found, Definition):
        raise TypeError(f"a criterion needs a loss function made by @lossbackend.loss, or a class or an object of lossbackend.Loss, got {loss!r}")
    return found, {name: found.defaults.get(name, inspect.Parameter.empty) for name in found.options}


def _torch_names(definition: Definition, given: list[str]) -> dict[str, str]:
    """Torch's names of the options that it has too, known by their type; "" for the weights of elements, which are no option of a definition."""
    kinds = {"weight": definition.class_weights, "pos_weight": definition.pos_weights, "ignore_index": definition.ignored_classes}
    names = {options[0]: name for name, options in kinds.items() if len(options) == 1 and options[0] in given}
    # A loss that weighs positive labels is a binary cross-entropy, and torch's take a factor for each element.
    return {"": "weight", **names} if "pos_weight" in names.values() and "weight" not in (*names.values(), *given) else names


def _signature(definition: Definition, defaults: dict[str, Any], attributes: dict[str, str], tensors: tuple[str, ...]) -> inspect.Signature:
    parameters = [inspect.Parameter("weight", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)] if "weight" in tensors else []
    given = {name: defaults[option] for option, name in attributes.items() if name != "weight" or "weight" not in tensors}
    if any(attributes.get(option) == "ignore_index" and given["ignore_index"] is None for option in definition.ignored_classes):
        given["ignore_index"] = _IGNORED
    # The last axis is a loss's own default; here None is torch's class axis.
    axis = defaults.get("axis", -1)
    given.update(axis=None if axis == -1 else axis, reduction="mean")
    parameters += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default) for name, default in given.items()]
    return inspect.Signature(parameters)


def _expanded(name: str, argument: str, tensor: torch.Tensor, shape: Any) -> torch.Tensor:
    try:
        return torch.broadcast_to(tensor, tuple(shape))
    except RuntimeError:
        raise ValueError(f"{name}: {argument} of shape {tuple(tensor.shape)} does not broadcast to {tuple(shape)}") from None


def _is_symmetric(definition: Definition, options: dict[str, Any]) -> bool:
    """Whether labels and predictions may change places, tried out on probabilities and on numbers of every size and sign."""
    options = definition.complete({**options, **dict.fromkeys(definition.class_weights + definition.pos_weights)}, checked=True)
    y_true, y_pred = np.array([[0.3, 0.6, 0.1], [3.0, -2.0, 0.0]]), np.array([[0.2, 0.5, 0.9], [1.0, -50.0, 2.5]])
    ops = dispatch.adapter("numpy")
    try:
        one, other = (ops.run(definition.formula, *pair, options) for pair in ((y_true, y_pred), (y_pred, y_true)))
    except Exception:
        # It takes labels of another kind, class ids for one.
        return False
    return np.allclose(one, other, equal_nan=True)


_OPS = dispatch.adapter("torch")
_built_in: list[type[Criterion]] = []

if TYPE_CHECKING:
    # For editors and type checkers, what is made below; a test compares the two.
    class MeanSquaredError(Criterion):
        def __init__(self, *, axis: int | None = None, reduction: Reduction = "mean") -> None: ...

    class MeanAbsoluteError(Criterion):
        def __init__(self, *, axis: int | None = None, reduction: Reduction = "mean") -> None: ...

    class MeanAbsolutePercentageError(Criterion):
        def __init__(self, *, epsilon: float | None = None, axis: int | None = None, reduction: Reduction = "mean") -> None: ...

    class MeanSquaredLogarithmicError(Criterion):
        def __init__(self, *, epsilon: float | None = None, axis: int | None = None, reduction: Reduction = "mean") -> None: ...

    class SquaredHinge(Criterion):
        def __init__(self, *, labels: Labels = "auto", axis: int | None = None, reduction: Reduction = "mean") -> None: ...

    class Hinge(Criterion):
        def __init__(self, *, labels: Labels = "auto", axis: int | None = None, reduction: Reduction = "mean") -> None: ...

    class CategoricalHinge(Criterion):
        def __init__(self, *, axis: int | None = None, reduction: Reduction = "mean") -> None: ...

    class LogCosh(Criterion):
        def __init__(self, *, axis: int | None = None, reduction: Reduction = "mean") -> None: ...

    class Huber(Criterion):
        def __init__(self, *, delta: float = 1.0, axis: int | None = None, reduction: Reduction = "mean") -> None: ...

    class CategoricalCrossentropy(Criterion):
        def __init__(
            self,
            weight: Weights = None,
            *,
            from_logits: bool = False,
            label_smoothing: float = 0.0,
            epsilon: float | None = None,
            axis: int | None = None,
            reduction: Reduction = "mean",
        ) -> None: ...

    class SparseCategoricalCrossentropy(Criterion):
        def __init__(
            self,
            weight: Weights = None,
            *,
            from_logits: bool = False,
            ignore_index: int | None = -100,
            label_smoothing: float = 0.0,
            epsilon: float | None = None,
            axis: int | None = None,
            reduction: Reduction = "mean",
        ) -> None: ...

    class BinaryCrossentropy(Criterion):
        def __init__(
            self,
            weight: Weights = None,
            *,
            from_logits: bool = False,
            label_smoothing: float = 0.0,
            epsilon: float | None = None,
            pos_weight: Weights = None,
            axis: int | None = None,
            reduction: Reduction = "mean",
        ) -> None: ...

    class KLDivergence(Criterion):
        def __init__(
            self, *, epsilon: float | None = None, from_logits: bool = False, axis: int | None = None, reduction: Reduction = "mean"
        ) -> None: ...

    class Poisson(Criterion):
        def __init__(
            self, *, epsilon: float | None = None, log_input: bool = False, axis: int | None = None, reduction: Reduction = "mean"
        ) -> None: ...

    class CosineSimilarity(Criterion):
        def __init__(self, *, axis: int | None = None, reduction: Reduction = "mean") -> None: ...

else:
    for _name, _loss in registry.classes().items():
        _summary = _loss.__doc__.partition("\n")[0].replace(", reduced.", ".")
        globals()[_name] = type(_name, (Criterion,), {"loss": _loss, "__module__": __name__, "__doc__": f"{_summary} See Criterion."})
        _built_in.append(globals()[_name])
        __all__ += [_name]
