"""Hypothesis strategies for the input of losses, each with a pool of the values at which losses go wrong.

All give NumPy arrays of a shape and dtype (one shape, so that a compiler compiles once; pass a strategy of shapes for more). Entries are drawn from
the pool or between its members, repeat often (ties), and shrink to zeros. ``pair`` gives y_true and y_pred for a loss.

>>> from hypothesis import given, settings
>>> import lossbackend as lb
>>> from lossbackend.testing import strategies
>>> @settings(max_examples=5, derandomize=True, database=None, deadline=None)
... @given(strategies.pair(lb.bce, (2, 3)))
... def never_negative(pair):
...     assert (lb.bce(*pair) >= 0).all()
>>> never_negative()
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lossbackend.definition import Definition

Shape: TypeAlias = Any
"""A tuple, or a strategy of tuples."""
Arrays: TypeAlias = "st.SearchStrategy[np.ndarray[Any, Any]]"

DEFAULT_SHAPE = (4, 3)


def _pool(dtype: str, low: float | None, high: float | None, subnormal: bool, nan: bool, infinity: bool) -> list[float]:
    """The edges between low and high, the simplest first, because that is what a failure shrinks to."""
    info = np.finfo(dtype)
    eps, tiny, huge = float(info.eps), float(info.smallest_normal), float(info.max)
    root = float(np.sqrt(huge))
    # 1e-7 is epsilon(); a float next to 1, on either side; 14, 40 and 100 saturate a sigmoid, or exp in float32; the square of 2 · root overflows.
    positive = [1.0, 0.5, 2.0, 1e-7, eps, 1 - eps / 2, 1 + eps, 14.0, 40.0, 100.0, tiny, root / 2, root * 2, huge]
    positive += [float(info.smallest_subnormal)] if subnormal else []
    pool = [0.0, *positive, -0.0, *(-x for x in positive)]
    pool += [np.inf, -np.inf] if infinity else []
    with np.errstate(all="ignore"):
        held = [float(np.dtype(dtype).type(x)) for x in pool if (low is None or x >= low) and (high is None or x <= high)]
    # What the dtype rounds to a subnormal number (1e-7 in float16) is no edge that was asked for.
    return [*(x for x in held if subnormal or x == 0 or abs(x) >= tiny), *([np.nan] if nan else [])]


def _numbers(dtype: str, low: float | None, high: float | None, subnormal: bool, nan: bool, infinity: bool) -> Any:
    # A bound like 1e15 is no float32, and floats() asks for one that is; one past the largest number is that.
    largest = float(np.finfo(dtype).max)
    low, high = (None if bound is None else float(np.dtype(dtype).type(np.clip(bound, -largest, largest))) for bound in (low, high))
    width: Any = 8 * np.dtype(dtype).itemsize
    kinds: dict[str, Any] = {"width": width, "allow_nan": nan, "allow_subnormal": subnormal}
    # Ordinary numbers beside the edges: most of what floats() draws by itself is far from 1.
    near = st.floats(
        min_value=-8.0 if low is None else max(low, -8.0), max_value=8.0 if high is None else min(high, 8.0), **kinds | {"allow_nan": False}
    )
    far = st.floats(min_value=low, max_value=high, allow_infinity=infinity if low is None or high is None else None, **kinds)
    return st.one_of(st.sampled_from(_pool(dtype, low, high, subnormal, nan, infinity)), near, far)


def reals(
    shape: Shape = DEFAULT_SHAPE,
    dtype: str = "float32",
    *,
    limit: float | None = None,
    nan: bool = False,
    infinity: bool = False,
    subnormal: bool = False,
) -> Arrays:
    """Real numbers, at most ``limit`` in magnitude; 0, −0.0, ±1, ±eps, tiny and huge among them."""
    low = None if limit is None else -limit
    return hnp.arrays(dtype, shape, elements=_numbers(dtype, low, limit, subnormal, nan, infinity and limit is None))


def positive(
    shape: Shape = DEFAULT_SHAPE, dtype: str = "float32", *, limit: float | None = None, zero: bool = True, subnormal: bool = False
) -> Arrays:
    """Amounts and rates: 0 (unless ``zero`` is False) to ``limit``."""
    low = 0.0 if zero else float(np.finfo(dtype).smallest_normal)
    return hnp.arrays(dtype, shape, elements=_numbers(dtype, low, limit, subnormal, False, False)).map(np.abs)


def probabilities(shape: Shape = DEFAULT_SHAPE, dtype: str = "float32", *, subnormal: bool = False) -> Arrays:
    """Independent probabilities: 0, 1, the floats next to them and epsilon among them."""
    return hnp.arrays(dtype, shape, elements=_numbers(dtype, 0.0, 1.0, subnormal, False, False)).map(np.abs)


def distributions(shape: Shape = DEFAULT_SHAPE, dtype: str = "float32", *, axis: int = -1) -> Arrays:
    """Probabilities that sum to 1 along ``axis``: certain ones, uniform ones, and ones that leave a class next to nothing."""

    def normalised(weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        total = weights.sum(axis=axis, keepdims=True)
        return np.asarray(np.where(total > 0, weights, 1.0) / np.where(total > 0, total, weights.shape[axis]), dtype)

    weights = st.one_of(st.sampled_from([0.0, 1.0, 1e-3, 1e-7, 1e-30]), st.floats(0.0, 1.0, allow_subnormal=False))
    return hnp.arrays("float64", shape, elements=weights).map(normalised)


def logits(shape: Shape = DEFAULT_SHAPE, dtype: str = "float32", *, limit: float | None = 1e4, nan: bool = False, infinity: bool = False) -> Arrays:
    """Logits up to ``limit``: ties, confident ones, and ones whose exponential overflows."""
    return reals(shape, dtype, limit=limit, nan=nan, infinity=infinity)


def one_hot(shape: Shape = DEFAULT_SHAPE, dtype: str = "float32", *, axis: int = -1) -> Arrays:
    """A 1 per sample along ``axis``, else 0."""

    def encoded(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        largest = np.expand_dims(values.argmax(axis=axis), axis)
        classes = np.expand_dims(np.arange(values.shape[axis]), [i for i in range(values.ndim) if i != axis % values.ndim])
        return np.asarray(classes == largest, dtype)

    return hnp.arrays("int8", shape, elements=st.integers(0, 100)).map(encoded)


def class_ids(shape: Shape = (4,), classes: int = 3, dtype: str = "int64") -> Arrays:
    """Integers from 0 to classes − 1."""
    return hnp.arrays(dtype, shape, elements=st.integers(0, classes - 1))


def signs(shape: Shape = DEFAULT_SHAPE, dtype: str = "float32", *, labels: tuple[int, ...] = (1, -1)) -> Arrays:
    """Labels of ±1, or those named."""
    return hnp.arrays(dtype, shape, elements=st.sampled_from([float(label) for label in labels]))


def counts(shape: Shape = DEFAULT_SHAPE, dtype: str = "float32", *, limit: int = 1000) -> Arrays:
    """Whole numbers from 0 to ``limit``, as floats."""
    return hnp.arrays(dtype, shape, elements=st.integers(0, limit).map(float))


def vectors(shape: Shape = DEFAULT_SHAPE, dtype: str = "float32", *, limit: float | None = None) -> Arrays:
    """Directions along the last axis: zero vectors, parallel ones, and ones whose squares over- or underflow."""
    scales = st.sampled_from([1.0, 0.0, float(np.sqrt(np.finfo(dtype).smallest_normal)), float(np.sqrt(np.finfo(dtype).max))])

    def scaled(pair: tuple[Any, float]) -> np.ndarray[Any, Any]:
        entries, scale = pair
        scaled = np.asarray(entries * np.dtype(dtype).type(min(scale, limit) if limit is not None else scale))
        # A product of two small numbers may be subnormal, which a framework may flush: a vector of nothing else has no direction to agree on.
        return np.where(np.abs(scaled) < np.finfo(dtype).smallest_normal, np.zeros_like(scaled), scaled)

    return st.tuples(reals(shape, dtype, limit=1.0), scales).map(scaled)


def pair(loss: Any, shape: tuple[int, ...] = DEFAULT_SHAPE, dtype: str = "float32", *, limit: float | None = None, **options: Any) -> Any:
    """(y_true, y_pred) as the loss asks for them, given its options: ``axis``, ``from_logits``, ``log_input``, ``labels``.

    A loss of your own says what it asks for by annotating its arguments (``y_pred: Probability``, see ``lossbackend.definition``); else both are real
    numbers. ``limit`` bounds reals, rates and logits.
    """
    definition = getattr(getattr(loss, "function", loss), "definition", None)
    if not isinstance(definition, Definition):
        raise TypeError(f"pair: needs a loss function or loss object of this library, got {loss!r}")
    options = {**getattr(loss, "_options", {}), **options}
    axis = options.get("axis", -1)
    bound = 1e4 if limit is None else limit
    in_logs = options.get("from_logits") or options.get("log_input")

    def real() -> Arrays:
        return vectors(shape, dtype) if definition.name == "cosine_similarity" else reals(shape, dtype, limit=limit)

    makers: dict[str, Callable[[], Any]] = {
        "real": real,
        "class ids": lambda: class_ids(tuple(np.delete(shape, axis).tolist()), shape[axis]),
        "amount": lambda: positive(shape, dtype, limit=limit),
        "count": lambda: counts(shape, dtype),
        "rate or log": lambda: logits(shape, dtype, limit=min(bound, 80.0)) if in_logs else positive(shape, dtype, limit=limit),
        "sign": lambda: signs(shape, dtype, labels=(1, 0) if options.get("labels") == "binary" else (1, -1)),
        "probability": lambda: probabilities(shape, dtype),
        "probability or logit": lambda: logits(shape, dtype, limit=bound) if in_logs else probabilities(shape, dtype),
        "one-hot": lambda: one_hot(shape, dtype, axis=axis),
        "distribution": lambda: st.one_of(one_hot(shape, dtype, axis=axis), distributions(shape, dtype, axis=axis)),
        "distribution or logits": lambda: logits(shape, dtype, limit=bound) if in_logs else distributions(shape, dtype, axis=axis),
    }
    return st.tuples(*(makers[definition.kinds[argument].name]() for argument in ("y_true", "y_pred")))
