"""``to_categorical``, under its historical path."""

from typing import Any

import numpy as np

from lossbackend import dispatch
from lossbackend.definition import check_ids, read_ids
from lossbackend.options import plain


def to_categorical(y: Any, num_classes: int | None = None, dtype: str = "float32", *, nb_classes: int | None = None) -> Any:
    """Class ids as one-hot rows: 1 at the id, 0 elsewhere, along a new last axis.

    y: ids from 0 to num_classes − 1, of any framework or none, in any shape; a trailing axis of size 1 (of a rank above 1) is dropped.
    num_classes: C; the largest id + 1 when not given. ``nb_classes`` is its Keras 1 name.
    dtype: the name of the result's dtype.

    Raises ValueError for an id that is negative, C or more, or not a whole number; under tracing its row becomes NaN, or −1 in an integer dtype.

    >>> to_categorical([0, 2])
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    if nb_classes is not None:
        if num_classes is not None:
            raise TypeError("to_categorical: nb_classes is another name of num_classes, give one of them")
        num_classes = nb_classes
    ops, like = dispatch.resolve("to_categorical", {"y": y})
    ids, looked_at = read_ids(ops, "to_categorical", "y", y, like)
    shape = ops.shape(ids)
    if len(shape) > 1 and shape[-1] == 1:
        ids = ops.squeeze(ids, -1)
    classes = _number_of_classes(looked_at) if num_classes is None else plain(num_classes)
    if isinstance(classes, bool) or not isinstance(classes, int):
        raise TypeError(f"to_categorical: num_classes must be an int, got {num_classes!r}")
    if classes < 1:
        raise ValueError(f"to_categorical: num_classes must be at least 1, got {num_classes}")
    ids, bad = check_ids(ops, "to_categorical", "y", ids, looked_at, classes, None)
    encoded = ops.one_hot(ids, classes, dtype)
    if bad is None:
        return encoded
    return ops.where(ops.expand_dims(bad, -1), float("nan") if "float" in dtype else -1, encoded)


def _number_of_classes(ids: np.ndarray[Any, Any] | None) -> int:
    """The largest id + 1, at least 1, so that what is wrong with the ids is said of them."""
    if ids is None:
        raise ValueError("to_categorical: num_classes cannot be counted where values cannot be looked at (tracing, accelerators); pass it")
    if ids.size == 0:
        raise ValueError("to_categorical: there are no ids to count the classes of; pass num_classes")
    return max(int(ids.max()) + 1, 1) if np.isfinite(ids).all() else 1
