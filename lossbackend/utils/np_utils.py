"""``to_categorical``, under its historical path."""

import math
from typing import Any

import numpy as np

from lossbackend import dispatch
from lossbackend.definition import check_ids, read_ids
from lossbackend.options import plain

_DTYPES = frozenset(
    {"bool", "bfloat16", *(f"float{bits}" for bits in (16, 32, 64)), *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
)


def to_categorical(y: Any, num_classes: int | None = None, dtype: Any = "float32", *, nb_classes: int | None = None) -> Any:
    """Class ids as one-hot rows: 1 at the id, 0 elsewhere, along a new last axis.

    y: ids from 0 to num_classes − 1, of any framework or none, in any shape; a trailing axis of size 1 (of a rank above 1) is dropped.
    num_classes: C; the largest id + 1 when not given. ``nb_classes`` is its Keras 1 name.
    dtype: the result's dtype, as NumPy names it ("float32", np.float32), or "bfloat16" in a framework. JAX has 64 bits where it is told to, else 32.

    Raises ValueError for an id that is negative, C or more, or not a whole number. Under tracing its row is no one-hot row: NaN in a floating dtype,
    −1 in an integer one, 255 in an unsigned one, all True in bool. TypeError for any other dtype.

    >>> to_categorical([0, 2])
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    return one_hot_rows(y, num_classes, dtype, nb_classes)


def one_hot_rows(y: Any, num_classes: int | None, dtype: Any, nb_classes: int | None, pinned: str | None = None) -> Any:
    """``to_categorical``, for one framework only if ``pinned``."""
    if nb_classes is not None:
        if num_classes is not None:
            raise TypeError("to_categorical: nb_classes is another name of num_classes, give one of them")
        num_classes = nb_classes
    ops, like = dispatch.resolve("to_categorical", {"y": y}, pinned)
    dtype = _name_of(dtype, ops.name)
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
    wrong = math.nan if "float" in dtype else True if dtype == "bool" else 255 if dtype.startswith("u") else -1
    return ops.where(ops.expand_dims(bad, -1), wrong, encoded)


def _name_of(dtype: Any, backend: str) -> str:
    """The name of a dtype; TypeError for what is none on that backend."""
    try:
        name = dtype if isinstance(dtype, str) and dtype == "bfloat16" else np.dtype(dtype).name
    except (TypeError, ValueError):
        name = ""
    # None is float64 to NumPy.
    if dtype is None or name not in _DTYPES or (name == "bfloat16" and backend == "numpy"):
        raise TypeError(f"to_categorical: dtype must be the name of a real dtype that {backend} has, such as 'float32' or 'int32', got {dtype!r}")
    return name


def _number_of_classes(ids: np.ndarray[Any, Any] | None) -> int:
    """The largest id + 1, at least 1, so that what is wrong with the ids is said of them."""
    if ids is None:
        raise ValueError("to_categorical: num_classes cannot be counted where values cannot be looked at (tracing, accelerators); pass it")
    if ids.size == 0:
        raise ValueError("to_categorical: there are no ids to count the classes of; pass num_classes")
    return max(int(ids.max()) + 1, 1) if np.isfinite(ids).all() else 1
