"""A loss over files, part by part: what ``lossbackend evaluate`` computes.

Parts are computed one after the other here, or by whatever maps a function over them.
"""

import functools
import math
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from itertools import repeat
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from lossbackend import dispatch
from lossbackend.checking import Objection, checked, of_parts
from lossbackend.definition import Definition, evaluate, loss_shape
from lossbackend.files import Array, Source, error_text
from lossbackend.reduction import Partial, check_reduction

# So many entries of y_pred are in memory at a time, 32 MiB of float64: a loss and its checks keep up to ten copies, and larger parts are no faster.
_ENTRIES = 2**22


class Result(NamedTuple):
    """A loss over files: the reduced value, of how many samples, and how fast."""

    value: Array
    samples: int
    rows_per_second: float


class _Part(NamedTuple):
    """The loss of some rows: what adds up to the reduced value, and the weighted losses, each None where nobody asked for it."""

    partial: Partial | None
    values: Array | None
    samples: int
    # What checking mode objects to that is an objection only if it holds for every part.
    objection: str | None


Each: TypeAlias = Callable[[Callable[[tuple[int, Mapping[str, Array]]], _Part], Iterable[tuple[int, Mapping[str, Array]]]], Iterator[_Part]]


def compute(
    function: Any,
    sources: Mapping[str, Source],
    options: dict[str, Any],
    reduction: str | None,
    backend: str,
    check: bool,
    keep: Callable[[Array], object] | None = None,
    watched: Callable[[Sequence[int]], Iterable[int]] = iter,
    elsewhere: Each | None = None,
) -> Result:
    """The loss of ``sources``: y_true, y_pred, and perhaps sample_weight and mask. ``options`` are complete; ``check`` is checking mode.

    Rows go through memory in parts where their losses are known to be independent; ``watched`` goes through their first rows as they are computed.
    ``keep`` is given the weighted loss of every sample, in parts too. ``elsewhere`` is what maps a function over parts in other processes, in order:
    those read the files themselves, but for what is in memory here. KeyboardInterrupt says how far it came.
    """
    definition: Definition = function.definition
    check_reduction(definition.name, reduction)
    shapes = {argument: _as_samples(definition, argument, np.broadcast_to(0, source.shape)).shape for argument, source in sources.items()}
    shape, axis = loss_shape(definition, shapes, options)
    rows = shape[0]
    step = max(1, rows if definition.interacting or axis == 0 else _ENTRIES // max(1, math.prod(shape[1:])))
    part = functools.partial(_part, function, options, reduction, backend, keep is not None)
    started, done, samples, total, kept, objections = time.perf_counter(), 0, 0, None, [], []
    try:
        if step < rows and definition.samples is not None:
            # Of a user's own loss the first part shows whether samples interact, in which case it may not even be computed.
            with suppress(ValueError, TypeError):
                part(False, next(_aligned(sources, rows, step, range(1)))[1])
            step = step if definition.samples.are_independent(options) else rows
        starts = range(0, max(1, rows), max(1, step))
        stored = {} if elsewhere is None else {name: source for name, source in sources.items() if source.path is not None}
        sent = {name: source for name, source in sources.items() if name not in stored}
        look = functools.partial(_looked_at, part, check, stored, rows, step)
        parts = (map if elsewhere is None else elsewhere)(look, _aligned(sent, rows, step, starts))
        for start, found in zip(watched(starts), parts, strict=False):
            objections += [] if found.objection is None else [found.objection]
            if len(objections) == len(starts):
                raise ValueError(objections[0])
            samples += found.samples
            if found.partial is not None:
                total = _alone(found.partial if total is None else total + found.partial)
            if found.values is not None:
                if found.partial is None:
                    kept.append(found.values)
                if keep is not None:
                    keep(found.values)
            done = min(start + step, rows)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted after {done} of {rows} rows; nothing was written") from None
    value = np.asarray(total.ops.to_numpy(total.result())) if total is not None else kept[0] if len(kept) == 1 else np.concatenate(kept)
    return Result(value, samples, rows / (time.perf_counter() - started))


def _as_samples(definition: Definition, argument: str, array: Array) -> Array:
    """N numbers are N samples here, where the library takes rank 1 for a single one."""
    return array[:, np.newaxis] if array.ndim == 1 and argument in ("y_true", "y_pred") and not definition.sparse else array


def _aligned(sources: Mapping[str, Source], rows: int, step: int, starts: Sequence[int]) -> Iterator[tuple[int, dict[str, Array]]]:
    """Where a part begins, and so many rows of all sources at a time; what has one entry for all rows, every time."""
    streams = [source.parts(0, step) if _is_split(source, rows, step) else repeat(source.whole()) for source in sources.values()]
    for start, *arrays in zip(starts, *streams, strict=False):
        yield start, dict(zip(sources, arrays, strict=True))


def _is_split(source: Source, rows: int, step: int) -> bool:
    return step < rows and source.shape[:1] == (rows,)


def _part(
    function: Any, options: dict[str, Any], reduction: str | None, backend: str, keeping: bool, check: bool, arrays: Mapping[str, Array]
) -> _Part:
    definition: Definition = function.definition
    y_true, y_pred = (_as_samples(definition, argument, arrays[argument]) for argument in ("y_true", "y_pred"))
    reduced = reduction is not None and reduction != "none"
    with dispatch.use_backend(backend), checked() if check else nullcontext(), of_parts() as objections:
        try:
            losses = evaluate(definition, y_true, y_pred, options, arrays.get("sample_weight"), arrays.get("mask"))
            summed = _alone(losses.partial(definition.name, reduction)) if reduction is not None and reduced else None
            values = np.asarray(losses.ops.to_numpy(losses.reduced("none"))) if keeping or not reduced else None
        except (ValueError, TypeError, ImportError):
            raise
        except Exception as error:  # the formula may be a user's own
            raise ValueError(f"{definition.name}: {error_text(error)}") from error
    return _Part(summed, values, math.prod(losses.ops.shape(losses.values)), objections[0] if objections else None)


def _alone(partial: Partial) -> Partial:
    """Without the graph that it is the result of, which would keep the rows of all parts."""
    ops = partial.ops
    if ops.name not in dispatch.SYMBOLIC:
        return partial
    leaves, same = partial.flatten()
    return Partial.unflatten(same, [leaf if isinstance(leaf, int) else ops.asarray(np.asarray(ops.to_numpy(leaf))) for leaf in leaves])


def _looked_at(
    part: Callable[[bool, Mapping[str, Array]], _Part],
    check: bool,
    stored: Mapping[str, Source],
    rows: int,
    step: int,
    begun: tuple[int, Mapping[str, Array]],
) -> _Part:
    """The part that begins at that row, with the rows of ``stored`` besides those given; what is wrong names the row of the file."""
    start, arrays = begun
    arrays = {**arrays, **{name: _read(name, source, start, step, _is_split(source, rows, step)) for name, source in stored.items()}}
    try:
        found = part(check, arrays)
    except ValueError as error:
        message = _on_the_command_line(str(error)) if isinstance(error, Objection) else str(error)
        raise ValueError(_in_the_file(message, start)) from error
    return found if found.objection is None else found._replace(objection=_in_the_file(_on_the_command_line(found.objection), start))


def _read(argument: str, source: Source, start: int, step: int, split: bool) -> Array:
    if not os.path.exists(str(source.path)):
        raise ValueError(
            f"{argument}: no such file on the worker {socket.gethostname()}: {source.path!r}: workers read .npy and .parquet files themselves, "
            f"and need them at the same path"
        )
    return next(source.parts(start, step)) if split else source.whole()


def _in_the_file(message: str, start: int) -> str:
    """The index in a message about the part that begins at that row."""
    return re.sub(r"(?<= at index )(\(?)(\d+)", lambda found: f"{found[1]}{int(found[2]) + start}", message)


def _on_the_command_line(advice: str) -> str:
    """Advice of checking mode in the words of this command."""
    advice = re.sub(r"\b(\w+)=True", r"--option \1=true", advice).replace("mask=", "--mask").rstrip(".")
    return f"{advice}. If the input is meant so, pass --no-check."
