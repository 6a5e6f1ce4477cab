"""Losses over columns: where N numbers are N samples, and labels are one number per sample, as in scikit-learn and in gradient boosting."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lossbackend import dispatch, registry
from lossbackend.checking import Distribution, OneHot, kind_of
from lossbackend.definition import Definition, check_ids, neutral_array, read_ids
from lossbackend.losses.objects import Loss
from lossbackend.ops import Tensor

Array = np.ndarray[Any, Any]

# The labels of these hold a number for every class.
_PER_CLASS = (kind_of(Distribution), kind_of(OneHot))


class Bound(NamedTuple):
    """A loss with its options, equal and hashable by value."""

    # And not its definition, because pickle finds a function by its name.
    function: Any
    options: tuple[tuple[str, Any], ...]
    pinned: str | None

    @property
    def definition(self) -> Definition:
        return self.function.definition  # type: ignore[no-any-return]

    def complete(self) -> dict[str, Any]:
        """All options, those that follow ``lossbackend.epsilon()`` as they are now."""
        return self.definition.complete(dict(self.options), checked=True)


def bind(loss: Any, options: Mapping[str, Any]) -> Bound:
    """The loss of a name, function, class, config or object; ``options`` come on top of those of an object.

    ValueError for an unknown name, TypeError for what is no loss, or an option that the loss does not have.
    """
    found = registry.get(loss)
    function = type(found).function if isinstance(found, Loss) else found
    definition = getattr(function, "definition", None)
    if not isinstance(definition, Definition):
        raise TypeError(
            f"expected a loss, its name, its class or an object of it, got {loss!r}: a function of your own becomes one by @lossbackend.loss"
        )
    given = {**(found._options if isinstance(found, Loss) else {}), **options}
    # Complains of what is unknown or missing.
    definition.complete(given)
    # Without the defaults, so that an object and its function are equal, and an epsilon of None is asked for at each call.
    kept = {name: definition.constant(name, value) for name, value in definition.changed(given).items()}
    return Bound(function, tuple(sorted(kept.items())), found.pinned)


def numbers(loss: str, argument: str, value: Any) -> Array:
    """A NumPy array of whatever holds numbers: arrays, lists, data frames and their columns, tensors; TypeError for what does not."""
    framework = dispatch.framework(value)
    return np.asarray(dispatch.adapter(framework).to_numpy(value)) if framework is not None else neutral_array(loss, argument, value)


def has_classes(definition: Definition) -> bool:
    """Whether the last axis of y_pred holds one number for every class."""
    return definition.sparse or definition.kinds["y_true"] in _PER_CLASS


def aligned(definition: Definition, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
    """Labels and predictions as the definition takes them: columns as (N, 1), class ids one-hot where it asks for one-hot labels."""
    if y_pred.ndim == 1:
        y_pred = y_pred[:, np.newaxis]
    ids = y_true.ndim == 1 or (y_true.ndim == 2 and y_true.shape[1] == 1)
    if definition.sparse or not ids:
        return y_true, y_pred
    if y_pred.ndim == 2 and y_pred.shape[1] > 1 and has_classes(definition):
        return _one_hot(definition, y_true.reshape(-1), y_pred.shape[1]), y_pred
    # Boosters hand the labels of several outputs in one row.
    return y_true.reshape(y_pred.shape if y_true.size == y_pred.size else (-1, 1)), y_pred


def _one_hot(definition: Definition, labels: Array, classes: int) -> Tensor:
    ops = dispatch.adapter("numpy")
    ids, looked_at = read_ids(ops, definition.name, "y_true", labels, None)
    ids, _ = check_ids(ops, definition.name, "y_true", ids, looked_at, classes, None)
    return ops.one_hot(ids, classes, "float64")
