"""Names of losses: ``get``, ``serialize``, ``deserialize``, and the pinned namespaces.

A config is data: nothing that one names is imported or called, it is looked up here or in ``custom_objects``.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from lossbackend import dispatch
from lossbackend.definition import Definition, loss_of


def functions() -> dict[str, Any]:
    """Every loss function, by its canonical name."""
    from lossbackend import losses

    unique = {id(value): value for value in vars(losses).values() if isinstance(getattr(value, "definition", None), Definition)}
    return {function.__name__: function for function in sorted(unique.values(), key=lambda function: str(function.__name__))}


def classes() -> dict[str, Any]:
    """Every loss class, by name."""
    from lossbackend.losses import objects

    return {name: value for name, value in vars(objects).items() if _is_loss_class(value) and value is not objects.Loss}


def names() -> dict[str, Any]:
    """Every name that ``get`` understands: functions, their aliases, classes."""
    table: dict[str, Any] = {}
    for name, function in functions().items():
        for spelling in (name, *function.definition.aliases):
            table[spelling] = function
    return {**table, **classes()}


def _is_loss_class(value: Any) -> bool:
    from lossbackend.losses.objects import Loss

    return inspect.isclass(value) and issubclass(value, Loss)


def _look_up(name: str, custom_objects: Mapping[str, Any] | None) -> Any:
    table = {**names(), **(custom_objects or {})}
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=3, cutoff=0.6) or difflib.get_close_matches(name.lower(), table, n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(repr(match) for match in near)}?" if near else ""
    raise ValueError(f"unknown loss {name!r}.{hint} `lossbackend losses` lists them all.")


def get(identifier: Any) -> Any:
    """The loss of a name, class, config or callable; None for None.

    A function's name, in any historical spelling, gives the function; a class or its name gives an instance with the defaults; a dict is
    deserialized; any other callable comes back as it is. Raises ValueError, with near matches, for anything else.

    >>> get("mse").__name__
    'mean_squared_error'
    >>> get("Huber")
    Huber(delta=1.0, reduction='sum_over_batch_size', name=None)
    """
    if identifier is None:
        return None
    if isinstance(identifier, (str, Mapping)):
        return deserialize(identifier)
    if _is_loss_class(identifier):
        return identifier()
    if callable(identifier):
        return identifier
    raise ValueError(f"a loss is a name, a class, a config or a callable, got {identifier!r}")


def serialize(loss: Any) -> Any:
    """A JSON-able description: the name of a function, {"class_name", "config"} of an object. Raises ValueError for anything else.

    >>> serialize(get("mse"))
    'mean_squared_error'
    >>> serialize(get("Hinge"))
    {'class_name': 'Hinge', 'config': {'reduction': 'sum_over_batch_size', 'name': None, 'labels': 'auto'}}
    """
    if hasattr(loss, "get_config"):
        return {"class_name": type(loss).__name__, "config": loss.get_config()}
    if callable(loss) and hasattr(loss, "__name__"):
        return loss.__name__
    raise ValueError(f"cannot serialize {loss!r}: it is neither a loss function nor a loss object")


def deserialize(config: Any, custom_objects: Mapping[str, Callable[..., Any]] | None = None) -> Any:
    """The loss that ``serialize`` described, here or in Keras 2 or 3; names that are not this library's are looked up in ``custom_objects``.

    Raises ValueError for an unknown name, or a config that does not fit its class.

    >>> deserialize({"class_name": "Huber", "config": {"delta": 2.0}})
    Huber(delta=2.0, reduction='sum_over_batch_size', name=None)
    """
    if config is None:
        return None
    if isinstance(config, str):
        found = _look_up(config, custom_objects)
        return found() if _is_loss_class(found) else found
    if not isinstance(config, Mapping) or not isinstance(config.get("class_name"), str):
        raise ValueError(f"a loss config is a name or a dict with 'class_name' and 'config', got {config!r}")
    class_name, inner = config["class_name"], config.get("config")
    if class_name == "function":
        # Keras 3's form of a function; its 'module' is not looked at.
        if not isinstance(inner, str):
            raise ValueError(f"the config of a function is its name, got {inner!r}")
        return _look_up(inner, custom_objects)
    found = _look_up(class_name, custom_objects)
    if not hasattr(found, "from_config"):
        raise ValueError(f"{class_name!r} is a function, not a loss class: its config is its name")
    if not isinstance(inner, (Mapping, type(None))):
        raise ValueError(f"the config of {class_name} must be a dict, got {inner!r}")
    return found.from_config(dict(inner or {}))


def is_categorical_crossentropy(loss: Any) -> bool:
    """Whether this is categorical_crossentropy: the function, its class, an object of it, or any of their names.

    >>> is_categorical_crossentropy("cce"), is_categorical_crossentropy("sparse_categorical_crossentropy")
    (True, False)
    """
    from lossbackend.losses import categorical_crossentropy

    if isinstance(loss, str):
        loss = names().get(loss)
    function = getattr(loss, "function", loss)
    return getattr(function, "definition", None) is categorical_crossentropy.definition


def pinned(backend: str) -> dict[str, Any]:
    """Every name of ``lossbackend.losses`` pinned to one framework, for the module ``lossbackend.<backend>``."""
    from lossbackend import losses
    from lossbackend.losses import objects

    dispatch.get_backend(backend)
    functions_here = {name: loss_of(function.definition, backend) for name, function in functions().items()}
    namespace: dict[str, Any] = {"__all__": list(losses.__all__)}
    for name in losses.__all__:
        value = getattr(losses, name)
        if isinstance(getattr(value, "definition", None), Definition):
            value = functions_here[value.__name__]
        elif _is_loss_class(value) and value is not objects.Loss:
            value = type(name, (value,), {"pinned": backend, "__module__": f"lossbackend.{backend}", "__doc__": value.__doc__})
        namespace[name] = value
    return namespace
