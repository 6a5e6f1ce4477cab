"""What an option of a loss may be: a type for the editor, and a check that names the loss.

``delta: Positive = 1.0`` in a definition is a float to a type checker, and to ``@loss`` a float that has to be positive.
Checks return the value as a plain Python number, because ``float32_array * np.float64(2)`` is float64 in NumPy.
"""

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np

from lossbackend import dispatch

_EPSILON = 1e-7

# The smallest and the largest normal float32.
_TINY, _HUGE = 2.0**-126, 2.0**128 - 2.0**104


def epsilon() -> float:
    """The smallest probability that a logarithm sees, 1e-7 unless ``set_epsilon`` changed it.

    >>> epsilon()
    1e-07
    """
    return _EPSILON


def set_epsilon(value: float) -> None:
    """Change ``epsilon()`` for the whole process. A loss reads it at each call; inside a user's own jit it is fixed at trace.

    Raises ValueError unless 0 < value < 1.

    >>> set_epsilon(1e-7)
    """
    global _EPSILON
    if value is None:
        raise TypeError("set_epsilon: value must be a number, got None")
    _EPSILON = _epsilon("set_epsilon", "value", value)


def plain(value: Any) -> Any:
    """NumPy scalars and 0-d arrays as Python numbers; anything else as it is."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    if type(value) is float:
        # torch.compile makes a number that changed symbolic, and then finds code for its old value in its cache (torch 2.13, clamp(x, max=δ) + δ).
        # What is hashed becomes a constant to it, and part of the key.
        hash(value)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_foreign(value: Any) -> bool:
    """Whether it is a framework's tensor (a learned or traced option): its value is not ours to look at."""
    # Numbers first: a compiler may have made one symbolic, and cannot ask that for its framework.
    return not isinstance(value, (int, float)) and dispatch.framework(value) is not None


def _listed(value: Any) -> Any:
    """An array, or a column of a data frame, of rank 1 as a list; anything else as it is."""
    if isinstance(value, np.ndarray) or (hasattr(value, "__array__") and not isinstance(value, np.generic)):
        array = np.asarray(value)
        return array.tolist() if array.ndim == 1 else value
    return value


def _number(loss: str, option: str, value: Any) -> float:
    value = plain(value)
    if not _is_number(value):
        raise TypeError(f"{loss}: {option} must be a number, got {value!r}")
    # An int may be larger than any tensor's dtype; a compiler's symbolic number is left alone.
    return float(value) if isinstance(value, int) and abs(value) >= 2**31 else value


def _positive(loss: str, option: str, value: Any) -> Any:
    if _is_foreign(value):
        return value
    number = _number(loss, option, value)
    # A number that is 0 or inf in float32 would be neither positive nor finite where it is used.
    if not _TINY <= number <= _HUGE:
        raise ValueError(f"{loss}: {option} must be positive and finite, got {value!r}{' (float32 cannot hold it)' if 0 < number < math.inf else ''}")
    return number


def _fraction(loss: str, option: str, value: Any) -> Any:
    if _is_foreign(value):
        return value
    number = _number(loss, option, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{loss}: {option} must lie between 0 and 1, got {value!r}")
    return number


def _epsilon(loss: str, option: str, value: Any) -> float:
    if value is None:
        return _EPSILON
    number = _number(loss, option, value)
    if not _TINY <= number < 1:
        raise ValueError(f"{loss}: {option} must lie between 0 and 1, in the range of float32, got {value!r}")
    return number


def _axis(loss: str, option: str, value: Any) -> int:
    if not isinstance(value, (bool, np.bool_)):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(f"{loss}: {option} must be an int, got {value!r}")


def _flag(loss: str, option: str, value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise TypeError(f"{loss}: {option} must be True or False, got {value!r}")


def _class_id(loss: str, option: str, value: Any) -> int | None:
    return None if value is None else _axis(loss, option, value)


def _weight(loss: str, option: str, value: Any) -> float:
    number = _number(loss, option, value)
    if not 0 <= number < math.inf:
        raise ValueError(f"{loss}: a weight in {option} must be finite and not negative, got {value!r}")
    return number


def _weights(loss: str, option: str, value: Any) -> tuple[float, ...]:
    try:
        return tuple(_weight(loss, option, weight) for weight in value)
    except TypeError:
        raise TypeError(f"{loss}: {option} must hold numbers, got {value!r}") from None


def _class_weight(loss: str, option: str, value: Any) -> Any:
    """C numbers as a tuple, {class: weight} as a tuple of pairs: hashable, so that loss objects are."""
    if value is None or _is_foreign(value):
        return value
    if isinstance(value, Mapping) or (hasattr(value, "index") and hasattr(value, "items")):
        # A pandas Series is a mapping from its index: value_counts puts the commonest class first, not class 0.
        if len(value) == 0:
            return None
        value = tuple(value.items())
    value = _listed(value)
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{loss}: {option} must be one number per class, or a dict from class to number, got {value!r}")
    if value and all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in value):
        pairs = [(_axis(loss, f"a class in {option}", class_id), _weight(loss, option, weight)) for class_id, weight in value]
        pairs.sort(key=lambda pair: pair[0])
        if len({class_id for class_id, _ in pairs}) < len(pairs):
            raise ValueError(f"{loss}: {option} names a class twice: {value!r}")
        return tuple(pairs)
    return _weights(loss, option, value)


def _pos_weight(loss: str, option: str, value: Any) -> Any:
    value = plain(value)
    if value is None or _is_foreign(value):
        return value
    value = _listed(value)
    return _weights(loss, option, value) if isinstance(value, (tuple, list)) else _weight(loss, option, value)


def _labels(loss: str, option: str, value: Any) -> str:
    if not isinstance(value, str) or value not in ("auto", "pm1", "binary"):
        raise ValueError(f"{loss}: {option} must be 'auto', 'pm1' or 'binary', got {value!r}")
    return str(value)


Positive: TypeAlias = Annotated[float, _positive]
Fraction: TypeAlias = Annotated[float, _fraction]
Epsilon: TypeAlias = Annotated[float | None, _epsilon]
Axis: TypeAlias = Annotated[int, _axis]
Flag: TypeAlias = Annotated[bool, _flag]
ClassId: TypeAlias = Annotated[int | None, _class_id]
ClassWeight: TypeAlias = Annotated[Sequence[float] | Mapping[int, float] | Any | None, _class_weight]
PosWeight: TypeAlias = Annotated[float | Sequence[float] | Any | None, _pos_weight]
Labels: TypeAlias = Annotated[Literal["auto", "pm1", "binary"], _labels]
