"""Checking mode: what a loss asks of its input, and a look at whether it got that.

The kind of an argument is its annotation in the definition (``y_pred: ProbabilityOrLogit``), so that a formula and what it expects are read
together. Off by default, and then the call path tests one flag.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from typing import Annotated, Any, NamedTuple, TypeAlias

import numpy as np

from lossbackend.ops import Ops, Tensor

_Array: TypeAlias = np.ndarray[Any, Any]

# What was computed or rounded need not sum to 1 in the last digits; what was never normalised is further off.
_SUM_TOLERANCE = 1e-3
# bfloat16 has eight bits.
_COARSE_TOLERANCE = 2.0**-8
_BOUND_TOLERANCE = 1e-6

_FROM_ENVIRONMENT = os.environ.get("LOSSBACKEND_CHECK", "").lower() not in ("", "0", "false")
# A process-wide flag like dispatch.STRICT, because a compiler cannot follow a context variable; under compilation it is fixed at trace.
ON = _FROM_ENVIRONMENT
_blocks = 0
_entering = threading.Lock()


@contextmanager
def checked() -> Iterator[None]:
    """Inside the block, and in every thread, a loss looks at its input and raises ValueError where that cannot be meant.

    NaN or infinities; probabilities outside [0, 1] or that do not sum to 1; logits where probabilities are expected, and the other way round; labels
    that are not one-hot, ±1, or counts, as the loss asks. The message names the loss, the argument, the first offending index and its value. Entries
    that a mask, a weight of 0 or ``ignore_class`` leaves out are not looked at, and neither is anything on an accelerator or under tracing
    (``torch.compile``, ``jax.jit``, ``jax.grad``, ``tf.function``). ``LOSSBACKEND_CHECK=1``, set before the import, checks everywhere.

    >>> import lossbackend as lb
    >>> with lb.checked():
    ...     lb.bce([[1.0, 0.0]], [[3.5, -2.0]])
    Traceback (most recent call last):
    ValueError: binary_crossentropy: y_pred at index (0, 0) is 3.5, outside [0, 1]: these look like logits: pass from_logits=True, or apply ...
    """
    # Counted, because blocks of two threads may overlap without being nested.
    global ON, _blocks
    with _entering:
        _blocks += 1
        ON = True
    try:
        yield
    finally:
        with _entering:
            _blocks -= 1
            ON = _FROM_ENVIRONMENT or _blocks > 0


class Finding(NamedTuple):
    """Something to complain of wherever ``bad``: "y_true at index (0, 1) is −1, ``what``: ``advice``."."""

    bad: _Array
    what: str
    advice: str
    # What the index refers to: None is an entry of the argument, else the sums along its class axis.
    sums: _Array | None = None
    # Whether this is only so because it is so of every entry.
    of_all: bool = False


class Objection(ValueError):
    """What checking mode raises in the block of ``of_parts``, and a ValueError elsewhere."""


# Only asked for where values can be looked at, which is where no compiler follows.
_of_all: ContextVar[list[str] | None] = ContextVar("lossbackend_of_parts", default=None)


@contextmanager
def of_parts() -> Iterator[list[str]]:
    """Inside the block, in this thread, input is a part of all of it: what is objectionable only if all of it is so is listed, not raised."""
    found: list[str] = []
    token = _of_all.set(found)
    try:
        yield found
    finally:
        _of_all.reset(token)


class Kind(NamedTuple):
    """What an argument of a loss may hold. ``findings`` is given the values (NaN where left out), the options of the call and the loss axis."""

    name: str
    findings: Callable[[_Array, Mapping[str, Any], int], Iterator[Finding]]


def _anything(values: _Array, options: Mapping[str, Any], axis: int) -> Iterator[Finding]:
    return iter(())


def _not_negative(advice: str) -> Callable[[_Array, Mapping[str, Any], int], Iterator[Finding]]:
    def findings(values: _Array, options: Mapping[str, Any], axis: int) -> Iterator[Finding]:
        yield Finding(values < 0, "which is negative", advice)

    return findings


def _rates(values: _Array, options: Mapping[str, Any], axis: int) -> Iterator[Finding]:
    if not options.get("log_input"):
        yield Finding(values < 0, "which is negative", "a rate is 0 or more: pass log_input=True if these are logarithms, or apply exp or softplus")


def _outside(values: _Array) -> _Array:
    return (values < -_BOUND_TOLERANCE) | (values > 1 + _BOUND_TOLERANCE)


def _sums(values: _Array, axis: int) -> tuple[_Array, _Array]:
    """The sums along the class axis, and which of them are not 1."""
    sums = values.sum(axis=axis, dtype=np.float64)
    # A loss has lifted bfloat16 to float32 by now, whose last sixteen bits are then 0.
    short = values.astype(np.float32)
    coarse = not (short.view(np.uint32) & 0xFFFF).any() and bool(((short == values) | np.isnan(values)).all())
    return sums, np.abs(sums - 1) > (_COARSE_TOLERANCE if coarse else _SUM_TOLERANCE)


def _probability(values: _Array, options: Mapping[str, Any], axis: int) -> Iterator[Finding]:
    yield Finding(_outside(values), "outside [0, 1]", "a label is 0, 1 or a probability between them: map ±1 labels with (y + 1) / 2")


def _distribution(values: _Array, options: Mapping[str, Any], axis: int) -> Iterator[Finding]:
    advice = "labels are one-hot or probabilities: to_categorical makes one-hot labels of class ids, and mask= leaves out unlabelled samples"
    yield Finding(_outside(values), "outside [0, 1]", advice)
    sums, off = _sums(values, axis)
    yield Finding(off, "not to 1", advice, sums)


def _one_hot(values: _Array, options: Mapping[str, Any], axis: int) -> Iterator[Finding]:
    advice = "labels are one-hot: to_categorical makes them of class ids, and mask= leaves out unlabelled samples"
    yield Finding((values != 0) & (values != 1) & ~np.isnan(values), "neither 0 nor 1", advice)
    sums, off = _sums(values, axis)
    yield Finding(off, "not to 1", advice, sums)


def _signs(values: _Array, options: Mapping[str, Any], axis: int) -> Iterator[Finding]:
    labels = options.get("labels", "auto")
    allowed = {"auto": (-1, 0, 1), "pm1": (-1, 1), "binary": (0, 1)}[labels]
    bad = ~np.isin(values, allowed) & ~np.isnan(values)
    yield Finding(bad, f"none of {', '.join(map(str, allowed))}", f"labels={labels!r} takes no other labels")


def _probability_or_logit(values: _Array, options: Mapping[str, Any], axis: int) -> Iterator[Finding]:
    outside = _outside(values)
    if not options.get("from_logits"):
        yield Finding(outside, "outside [0, 1]", "these look like logits: pass from_logits=True, or apply a sigmoid")
    elif not outside.any():
        # All zeros is what a network with a last layer of zeros says: logits as likely as not.
        yield Finding(values > 0, "and all of y_pred lies in [0, 1]", "these look like probabilities: drop from_logits=True", of_all=True)


def _distribution_or_logits(values: _Array, options: Mapping[str, Any], axis: int) -> Iterator[Finding]:
    outside = _outside(values)
    sums, off = _sums(values, axis)
    if not options.get("from_logits"):
        yield Finding(outside, "outside [0, 1]", "these look like logits: pass from_logits=True, or apply a softmax")
        yield Finding(off, "not to 1", "divide probabilities by their sum, or pass from_logits=True if these are logits", sums)
    elif not outside.any() and not off.any():
        yield Finding(~np.isnan(sums), "and all of y_pred lies in [0, 1]", "these look like probabilities: drop from_logits=True", sums, of_all=True)


REAL = Kind("real", _anything)
Real: TypeAlias = Annotated[Tensor, REAL]
ClassIds: TypeAlias = Annotated[Tensor, Kind("class ids", _anything)]
Amount: TypeAlias = Annotated[Tensor, Kind("amount", _not_negative("the loss takes it for epsilon"))]
Count: TypeAlias = Annotated[Tensor, Kind("count", _not_negative("a count is 0 or more"))]
RateOrLog: TypeAlias = Annotated[Tensor, Kind("rate or log", _rates)]
Sign: TypeAlias = Annotated[Tensor, Kind("sign", _signs)]
Probability: TypeAlias = Annotated[Tensor, Kind("probability", _probability)]
ProbabilityOrLogit: TypeAlias = Annotated[Tensor, Kind("probability or logit", _probability_or_logit)]
OneHot: TypeAlias = Annotated[Tensor, Kind("one-hot", _one_hot)]
Distribution: TypeAlias = Annotated[Tensor, Kind("distribution", _distribution)]
DistributionOrLogits: TypeAlias = Annotated[Tensor, Kind("distribution or logits", _distribution_or_logits)]


def kind_of(annotation: Any) -> Kind:
    """The kind that an annotation names; any other promises numbers, and nothing else."""
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, Kind):
            return extra
    return REAL


def look(
    ops: Ops,
    loss: str,
    kinds: Mapping[str, Kind],
    tensors: Mapping[str, Tensor | None],
    options: Mapping[str, Any],
    axis: int,
    selected: Tensor | None,
) -> None:
    """ValueError for the first finding in those tensors, where values can be looked at. ``axis`` counts from the left."""
    given = {argument: tensor for argument, tensor in tensors.items() if tensor is not None}
    if not ops.is_concrete(*given.values(), *(() if selected is None else (selected,))):
        return
    chosen = None if selected is None else np.asarray(ops.to_numpy(selected))
    listed, of_all = _of_all.get(), []
    error = ValueError if listed is None else Objection
    for argument, tensor in given.items():
        values = np.asarray(ops.to_numpy(tensor))
        if values.dtype.kind != "f":
            continue
        if chosen is not None:
            # Labels of one sample each have no loss axis; NaN is in none of the comparisons that follow.
            along = chosen if values.ndim == chosen.ndim else np.expand_dims(chosen, axis)
            # One weight may stand for many samples.
            values, counts = np.broadcast_arrays(values, along)
        else:
            counts = np.ones(values.shape, bool)
        advice = "find out where it comes from, or leave the sample out with mask= or a weight of 0"
        infinite = Finding(~np.isfinite(values) & counts, "which is not a finite number", advice)
        findings = kinds.get(argument, REAL).findings(np.where(counts, values, np.nan), options, axis)
        for finding in chain([infinite], findings):
            complaint = _complaint(loss, argument, values, finding)
            if complaint and finding.of_all:
                of_all.append(complaint)
            elif complaint:
                raise error(complaint)
    if listed is not None:
        listed += of_all
    elif of_all:
        raise error(of_all[0])


def _complaint(loss: str, argument: str, values: _Array, finding: Finding) -> str:
    if not finding.bad.any():
        return ""
    where = tuple(int(i) for i in np.argwhere(finding.bad)[0])
    at = f" at index {where[0] if len(where) == 1 else where}" if where else ""
    if finding.sums is None:
        return f"{loss}: {argument}{at} is {values[where]:.6g}, {finding.what}: {finding.advice}."
    return f"{loss}: {argument}: the row{at} sums to {finding.sums[where]:.6g}, {finding.what}: {finding.advice}."
