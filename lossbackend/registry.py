"""Names of losses: ``get``, ``serialize``, ``deserialize``, and the pinned namespaces.

A config is data: nothing that one names is imported or called, it is looked up here or in ``custom_objects``.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from lossbackend import dispatch
from lossbackend.definition import Definition, loss_of

# The names that a namespace knows, made when one is asked for.
Names: TypeAlias = Callable[[], dict[str, Any]]


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


def _look_up(name: str, known: Names, custom_objects: Mapping[str, Any] | None) -> Any:
    custom = custom_objects or {}
    # A name that is given beats an alias, and both beat a name of this library.
    aliases = {alias: value for value in custom.values() for alias in getattr(getattr(value, "definition", None), "aliases", ())}
    table = {**known(), **aliases, **custom}
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=3, cutoff=0.6) or difflib.get_close_matches(name.lower(), table, n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(repr(match) for match in near)}?" if near else ""
    raise ValueError(f"unknown loss {name!r}.{hint} `lossbackend losses` lists them all.")


def get(identifier: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The loss of a name, class, config or callable; None for None.

    A function's name, in any historical spelling, gives the function; a class or its name gives an instance with the defaults; a dict is
    deserialized; any other callable comes back as it is. Names that are not this library's are looked up in ``custom_objects``, a dict from names to
    functions and classes, by the aliases of its functions too. Raises ValueError, with near matches, for anything else.

    >>> get("mse").__name__
    'mean_squared_error'
    >>> get("Huber")
    Huber(delta=1.0, reduction='sum_over_batch_size', name=None)
    """
    return _get(identifier, names, custom_objects)


def _get(identifier: Any, known: Names, custom_objects: Mapping[str, Any] | None) -> Any:
    if identifier is None:
        return None
    if isinstance(identifier, (str, Mapping)):
        return _deserialize(identifier, known, custom_objects)
    if _is_loss_class(identifier):
        return identifier()
    if callable(identifier):
        return identifier
    raise ValueError(f"a loss is a name, a class, a config or a callable, got {identifier!r}")


def serialize(loss: Any) -> Any:
    """A JSON-able description: the name of a function, {"class_name", "config"} of an object; None for None.

    A class is described by its name, which stands for an instance with the defaults, as in ``get``. What is pinned to a framework is described like
    its counterpart in ``lossbackend.losses``: the namespace whose ``deserialize`` reads the description pins. Raises ValueError for anything else.

    >>> serialize(get("mse"))
    'mean_squared_error'
    >>> serialize(get("Hinge"))
    {'class_name': 'Hinge', 'config': {'reduction': 'sum_over_batch_size', 'name': None, 'labels': 'auto'}}
    """
    if loss is None:
        return None
    if inspect.isclass(loss):
        if _is_loss_class(loss) and hasattr(loss, "function"):
            return loss.__name__
    elif hasattr(loss, "get_config"):
        return {"class_name": type(loss).__name__, "config": loss.get_config()}
    elif callable(loss) and hasattr(loss, "__name__"):
        return loss.__name__
    raise ValueError(f"cannot serialize {loss!r}: it is no loss function, no loss object and no class of loss objects")


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The loss that ``serialize`` described, here or in Keras 2 or 3; names that are not this library's are looked up in ``custom_objects``.

    Of a Keras config, "fn" has to name the class's function, and "dtype" has to be None or float32: a loss is computed in y_pred's type. Raises
    ValueError for an unknown name, or a config that does not fit its class.

    >>> deserialize({"class_name": "Huber", "config": {"delta": 2.0}})
    Huber(delta=2.0, reduction='sum_over_batch_size', name=None)
    """
    return _deserialize(config, names, custom_objects)


def _deserialize(config: Any, known: Names, custom_objects: Mapping[str, Any] | None) -> Any:
    if config is None:
        return None
    if isinstance(config, str):
        found = _look_up(config, known, custom_objects)
        return found() if _is_loss_class(found) else found
    if not isinstance(config, Mapping) or not isinstance(config.get("class_name"), str):
        raise ValueError(f"a loss config is a name or a dict with 'class_name' and 'config', got {config!r}")
    class_name, inner = config["class_name"], config.get("config")
    if class_name == "function":
        # Keras 3's form of a function; its 'module' is not looked at.
        if not isinstance(inner, str):
            raise ValueError(f"the config of a function is its name, got {inner!r}")
        return _look_up(inner, known, custom_objects)
    found = _look_up(class_name, known, custom_objects)
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


def pinned(backend: str, module: str | None = None) -> dict[str, Any]:
    """Every name of ``lossbackend.losses``, and to_categorical, pinned to one framework, for a module, by default ``lossbackend.<backend>``."""
    from lossbackend import losses, utils
    from lossbackend.losses.objects import Loss

    dispatch.get_backend(backend)
    module = module or f"lossbackend.{backend}"
    base = type("Loss", (Loss,), {"pinned": backend, "__module__": module, "__doc__": Loss.__doc__})
    here: dict[str, Any] = {name: loss_of(function.definition, backend, module) for name, function in functions().items()}
    for name, cls in classes().items():
        here[name] = type(name, (cls, base), {"__module__": module, "__doc__": cls.__doc__})
    table = {spelling: here[value.__name__] for spelling, value in names().items()}

    def get(identifier: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
        return _get(identifier, lambda: table, custom_objects)

    def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
        return _deserialize(config, lambda: table, custom_objects)

    def to_categorical(y: Any, num_classes: int | None = None, dtype: Any = "float32", *, nb_classes: int | None = None) -> Any:
        return utils.np_utils.one_hot_rows(y, num_classes, dtype, nb_classes, backend)

    namespace = {name: getattr(losses, name) for name in losses.__all__} | table | {"Loss": base}
    for function, unpinned in ((get, losses.get), (deserialize, losses.deserialize), (to_categorical, utils.to_categorical)):
        # Where pickle finds it.
        function.__module__, function.__qualname__, function.__doc__ = module, function.__name__, unpinned.__doc__
        namespace[function.__name__] = function
    return {**namespace, "__all__": sorted(namespace)}
