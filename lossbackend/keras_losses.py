"""What ``lossbackend.keras`` and ``lossbackend.tf_keras`` share: the losses as classes of a Keras, and the names that Keras looks up."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, field, make_dataclass
from typing import Any, ClassVar

from lossbackend import dispatch, registry
from lossbackend.definition import Definition
from lossbackend.losses.objects import Loss

PACKAGE = "lossbackend"
# Where Keras' own decorator puts what its users register without naming a package.
USERS_PACKAGE = "Custom"


def _no_loss(*args: Any, **options: Any) -> Any:
    raise TypeError("Loss is the base of the classes here, and has no loss: use one of them, or as_loss for a loss of your own, or the Loss of Keras")


class Adapter:
    """A loss object of this library as a Keras ``Loss``, which is the other base of its subclasses.

    Weights and the mask that Keras keeps with a tensor go into the loss object, which takes entries out *before* it computes: Keras multiplies what
    it has computed, and 0 · NaN is NaN.
    """

    keras: ClassVar[Any]
    wrapped: ClassVar[Any] = staticmethod(_no_loss)
    loss: Loss
    name: str

    def __repr__(self) -> str:
        return repr(self.loss)

    def __getattr__(self, name: str) -> Any:
        # The options, under their names.
        loss = self.__dict__.get("loss")
        if loss is not None and name in loss._options:
            return getattr(loss, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _mask(self, y_pred: Any) -> Any:
        """The mask that Keras keeps with this tensor."""
        return getattr(y_pred, "_keras_mask", None)

    def _tensor(self, value: Any) -> Any:
        """A tensor of another framework or device as one that Keras computes with; what names no framework as it is."""
        return value

    def _predictions(self, y_pred: Any) -> Any:
        """y_pred in the type that the loss was asked to compute in."""
        return y_pred

    def _shared(self, value: Any) -> Any:
        """A reduced loss as one replica's share of it."""
        return value

    def _inputs(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        """Labels and predictions; (N, T) beside (N, T, 1) is (N, T), as in Keras. (N,) beside (N, 1) is understood by every loss."""
        y_true, y_pred = self._tensor(y_true), self._predictions(y_pred)
        if not self.wrapped.function.definition.sparse and hasattr(y_true, "shape"):
            labels, predictions = len(y_true.shape), len(y_pred.shape)
            if predictions == labels + 1 > 2 and y_pred.shape[-1] == 1:
                y_pred = y_pred[..., 0]
            elif labels == predictions + 1 > 2 and y_true.shape[-1] == 1:
                y_true = y_true[..., 0]
        return y_true, y_pred

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The reduced loss."""
        if type(self).call is not Adapter.call:
            # A subclass of yours, whose losses Keras reduces.
            return super().__call__(y_true, y_pred, sample_weight)  # type: ignore[misc]
        mask = self._mask(y_pred)
        y_true, y_pred = self._inputs(y_true, y_pred)
        value = self.loss(y_true, y_pred, self._tensor(sample_weight), mask)
        return value if self.loss.reduction in ("sum", "none", None) else self._shared(value)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each sample."""
        return self.loss.call(*self._inputs(y_true, y_pred))

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument, as plain Python objects."""
        return {**self.loss.get_config(), "name": self.name}


def named(loss: Loss) -> str:
    """Its name; that of its function, as Keras calls its own, where it was given none."""
    return loss.name or str(type(loss).function.__name__)


def adapted(base: Any, cls: Any, package: str = USERS_PACKAGE) -> Any:
    """The Keras class of a loss class, registered, so that files which name either of the two are loaded as the Keras class."""
    register = base.keras.saving.register_keras_serializable(package=package)
    register(cls)
    return register(_adapted(base, cls))


@functools.cache
def _adapted(base: Any, cls: Any) -> Any:
    framework = "tensorflow" if base.keras.__name__ == "tf_keras" else base.keras.backend.backend()
    # Pinned, so that lists and NumPy arrays become tensors of the framework that Keras computes with.
    wrapped = type(cls.__name__, (cls,), {"pinned": dispatch.canonical(framework), "__module__": base.__module__})
    parameters = [p for p in inspect.signature(base).parameters.values() if p.name == "dtype"]
    signature = inspect.Signature([*inspect.signature(cls).parameters.values(), *parameters])
    # The examples show NumPy's numbers.
    doc = (cls.__doc__ or "").partition(">>>")[0].rstrip()
    return type(cls.__name__, (base,), {"wrapped": wrapped, "__module__": base.__module__, "__doc__": doc, "__signature__": signature})


@functools.cache
def _class_of(function: Any) -> type[Loss]:
    """The loss class of a function: this library's, or made of its options, with a class' name."""
    definition: Definition = function.definition
    for cls in registry.classes().values():
        if cls.function.definition is definition:
            return cls  # type: ignore[no-any-return]
    options = [
        (name, Any, field(default=definition.defaults.get(name, MISSING), kw_only=name not in definition.positional)) for name in definition.options
    ]
    namespace = {"function": staticmethod(function), "__module__": function.__module__, "__doc__": function.__doc__}
    title = "".join(part[:1].upper() + part[1:] for part in definition.name.split("_"))
    return make_dataclass(title, options, bases=(Loss,), namespace=namespace, frozen=True)


def is_loss(value: Any) -> bool:
    """Whether this is a loss function, class or object of this library, or one written with it."""
    if isinstance(getattr(value, "definition", None), Definition):
        return True
    return issubclass(value, Loss) if inspect.isclass(value) else isinstance(value, Loss)


def as_loss(base: type[Adapter], loss: Any, options: dict[str, Any]) -> Any:
    """The Keras ``Loss`` of a loss function, class or object."""
    if isinstance(loss, Adapter) and not options:
        return loss
    if not is_loss(loss):
        raise TypeError(f"as_loss: expected a function made by @lossbackend.loss, or a lossbackend.Loss, got {loss!r}")
    if isinstance(loss, Loss):
        cls: Any = type(loss)
        options = {**loss.get_config(), **options}
    else:
        cls = loss if inspect.isclass(loss) else _class_of(loss)
    own = registry.classes()
    if cls.pinned is not None and cls.__name__ in own:
        cls = own[cls.__name__]
    return adapted(base, cls, PACKAGE if cls in own.values() else USERS_PACKAGE)(**options)


def namespace(base: type[Adapter]) -> dict[str, Any]:
    """Every name of ``lossbackend.losses`` that is a loss: the functions themselves, registered, and the Keras classes."""
    register = base.keras.saving.register_keras_serializable(package=PACKAGE)
    for function in registry.functions().values():
        register(function)
    classes = {name: adapted(base, cls, PACKAGE) for name, cls in registry.classes().items()}
    return {**registry.names(), **classes}


class Names:
    """The names of the losses where a Keras looks up its own."""

    def __init__(self, keras: Any, table: Mapping[str, Any], as_loss: Callable[[Any], Any]) -> None:
        self.keras = keras
        self.table = table
        self.as_loss = as_loss
        self.replaced: list[tuple[Any, str, Any]] = []

    def get(self, identifier: Any) -> Any:
        """A loss by its name: a function, or an object with the defaults; what is no name of this library is left to Keras."""
        if isinstance(identifier, str) and identifier in self.table:
            found = self.table[identifier]
            return found() if inspect.isclass(found) else found
        return self._keras("get")(identifier)

    def deserialize(self, name: Any, custom_objects: Any = None, **options: Any) -> Any:
        """As ``get``, of what Keras' ``serialize`` wrote; ``custom_objects`` come first."""
        if isinstance(name, str) and name in self.table and name not in (custom_objects or {}):
            return self.get(name)
        return self._keras("deserialize")(name, custom_objects=custom_objects, **options)

    def compiled(self, identifier: Any) -> Any:
        """What ``compile`` makes of a loss: a Keras ``Loss`` of whatever is this library's."""
        if isinstance(identifier, str) and identifier in self.table:
            identifier = self.table[identifier]
        if inspect.isclass(identifier) and issubclass(identifier, Adapter):
            return identifier()
        return self.as_loss(identifier) if is_loss(identifier) else self._keras("get")(identifier)

    def _keras(self, attribute: str) -> Any:
        """Keras' own function, also while it is replaced."""
        own = {name: original for module, name, original in self.replaced if module is self.keras.losses}
        return own.get(attribute) or getattr(self.keras.losses, attribute)

    def install(self) -> None:
        """Replace the look-up of Keras by that of this object."""
        if self.replaced:
            return
        # compile() asks the module inside, users ask the public one.
        inside, public = self.keras.src.losses, self.keras.losses
        for module, attribute, new in (
            (public, "get", self.get),
            (inside, "get", self.compiled),
            (public, "deserialize", self.deserialize),
            (inside, "deserialize", self.deserialize),
        ):
            self.replaced.append((module, attribute, getattr(module, attribute)))
            setattr(module, attribute, new)

    def uninstall(self) -> None:
        """Put back what was there."""
        while self.replaced:
            setattr(*self.replaced.pop())
