"""Every backend against the exact value and against the other backends.

The exact value is the definition itself in arithmetic of 1024 bits, on the very bits that a backend was given. An error is counted in units in the
last place (ulp) of a scale:

* the exact value; and where the error is more than one unit of that, the larger of it and Σ |x ∂f/∂x| over the entries x of y_true and y_pred, which
  is what a relative error of 1 in the input would change: where terms cancel, rounding the input alone moves the result by that many units;
* at least 1 for losses of probabilities that are divided by their sum: p/Σp is rounded near 1, and that rounding is an absolute error of its
  logarithm.

Gradients have no exact value at a kink, so they are compared with each other, in units of the larger of the row's largest entry and
``gradient_scale``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from lossbackend import dispatch
from lossbackend.ops import Ops, Tensor
from lossbackend.parity.cases import RANGES, WIDTH, Array, Batch, Suite, batch

# What a value may be off, in units in the last place, and what two gradients may differ by, in units of their scale.
VALUE_BOUND = 4.0
GRADIENT_BOUND = 16.0

# A relative step for differences in arithmetic of 1024 bits: its square still leaves 400 good bits.
_STEP = 2.0**-300
# A second difference this large is that of a jump.
_JUMP = 2.0**100


class Column(NamedTuple):
    """A backend, eager or compiled."""

    backend: str
    compiled: bool

    @property
    def label(self) -> str:
        return f"{self.backend} compiled" if self.compiled else self.backend


class Outcome(NamedTuple):
    """What one column made of a batch: values and gradients as float64, or the exception."""

    values: Array | None = None
    gradient: Array | None = None
    shape: tuple[int, ...] = ()
    dtype: str = ""
    gradient_dtype: str = ""
    error: BaseException | None = None


class Breach(NamedTuple):
    """A disagreement: in which case, in which column, over what."""

    case: str
    column: str
    fact: str
    message: str


class Measurement(NamedTuple):
    """One loss with one set of options in one dtype, on every column."""

    suite: Suite
    dtype: str
    inputs: Batch
    exact: Array
    outcomes: Mapping[Column, Outcome]
    ulps: Mapping[Column, Array]
    """Of each case; NaN where the column has no value to compare."""
    gradient_units: Array
    """The largest difference between two columns, of each case."""
    breaches: list[Breach]
    cases: int

    def worst(self, column: Column) -> float | None:
        """The largest error of a column in ulp; None where it has none, infinity where the result is not even of that kind."""
        ulps = self.ulps.get(column)
        return None if ulps is None or np.isnan(ulps).all() else float(np.nanmax(ulps))


def case_id(suite: Suite, dtype: str, case: int | str) -> str:
    return f"{suite.label}/{dtype}/{case}"


def columns(backends: Iterable[str], compiled: bool) -> list[Column]:
    """The eager column of every backend, and the compiled one of those that have a compiler."""
    found = []
    for name in backends:
        found.append(Column(name, False))
        if compiled and _compiles(dispatch.adapter(name)):
            found.append(Column(name, True))
    return found


def _compiles(ops: Ops) -> bool:
    def same(x: Tensor) -> Tensor:
        return x

    return ops.compile(same) is not same


# Running


def _precision(ops: Ops, dtype: str) -> AbstractContextManager[Any]:
    return ops.double_precision() if dtype == "float64" else nullcontext()


def _laid_out(suite: Suite, inputs: Batch) -> Batch:
    """The inputs with the loss axis where the option ``axis`` has it."""
    if suite.options.get("axis") != 0:
        return inputs
    y_true = inputs.y_true if inputs.y_true.ndim == 1 else inputs.y_true.T
    return Batch(np.ascontiguousarray(y_true), np.ascontiguousarray(inputs.y_pred.T))


def _tensor(ops: Ops, array: Array, dtype: str) -> Tensor:
    """A tensor of that dtype, which holds the values exactly."""
    if array.dtype.kind == "i":
        return ops.asarray(array)
    return ops.asarray(array) if dtype == "float64" else ops.cast(ops.asarray(array.astype(np.float32)), dtype)


def _numbers(ops: Ops, tensor: Tensor) -> Array:
    return np.asarray(ops.to_numpy(tensor)).astype(np.float64)


def run_eager(ops: Ops, suite: Suite, inputs: Batch, dtype: str) -> Outcome:
    """One call, and one call for the gradient."""
    inputs = _laid_out(suite, inputs)
    with dispatch.use_backend(ops.name), _precision(ops, dtype), np.errstate(all="ignore"):
        try:
            y_true, y_pred = _tensor(ops, inputs.y_true, dtype), _tensor(ops, inputs.y_pred, dtype)
            values = suite.function(y_true, y_pred, **suite.options)
            facts = _numbers(ops, values), tuple(ops.shape(values)), ops.dtype(values)
            if not ops.differentiable:
                return Outcome(facts[0], None, *facts[1:])
            _, gradient = ops.value_and_grad(lambda x: suite.function(y_true, x, **suite.options), y_pred)
            return Outcome(facts[0], _rows(suite, _numbers(ops, gradient)), *facts[1:], ops.dtype(gradient))
        except Exception as error:  # a fact to compare
            return Outcome(error=error)


def _rows(suite: Suite, gradient: Array) -> Array:
    return gradient.T if suite.options.get("axis") == 0 else gradient


def run_compiled(ops: Ops, group: Sequence[tuple[Suite, Batch]], dtype: str) -> list[Outcome]:
    """Several suites compiled as one function; each alone where that fails, to see which one it is.

    Compilers take seconds for a function and little more for a larger one.
    """
    try:
        return _run_group(ops, group, dtype)
    except Exception as error:
        if len(group) == 1:
            return [Outcome(error=error)]
        return [outcome for one in group for outcome in run_compiled(ops, [one], dtype)]


def _run_group(ops: Ops, group: Sequence[tuple[Suite, Batch]], dtype: str) -> list[Outcome]:
    laid_out = [_laid_out(suite, inputs) for suite, inputs in group]
    parts = [(suite.function, dict(suite.options), inputs.y_pred.shape) for (suite, _), inputs in zip(group, laid_out, strict=True)]
    facts: list[tuple[tuple[int, ...], str]] = []

    def losses(y_trues: list[Tensor], flat: Tensor) -> Tensor:
        results = []
        start = 0
        facts.clear()
        for (function, options, shape), y_true in zip(parts, y_trues, strict=True):
            stop = start + shape[0] * shape[1]
            values = function(y_true, ops.reshape(flat[start:stop], shape), **options)
            facts.append((tuple(ops.shape(values)), ops.dtype(values)))
            results.append(ops.reshape(values, (-1,)))
            start = stop
        return ops.concat(results, axis=0)

    # A compiler may count recompilations by code object (torch does), and all groups share this one.
    name = f"losses_of_{len(parts)}_{dtype}_{id(parts)}"
    losses.__code__ = losses.__code__.replace(co_name=name, co_qualname=name)
    with _precision(ops, dtype):
        y_trues = [_tensor(ops, inputs.y_true, dtype) for inputs in laid_out]
        compiled = ops.compile(losses)
        flat = np.concatenate([inputs.y_pred.ravel() for inputs in laid_out])
        values, gradient = ops.value_and_grad(lambda x: compiled(y_trues, x), _tensor(ops, flat, dtype))
        all_values, all_slopes = _numbers(ops, values), _numbers(ops, gradient)
        gradient_dtype = ops.dtype(gradient)
    outcomes = []
    slopes = np.split(all_slopes, np.cumsum([inputs.y_pred.size for inputs in laid_out])[:-1])
    sizes = [int(np.prod(shape)) for shape, _ in facts]
    for (suite, _), inputs, own, part, (shape, kind) in zip(group, laid_out, np.split(all_values, np.cumsum(sizes)[:-1]), slopes, facts, strict=True):
        outcomes.append(Outcome(own.reshape(shape), _rows(suite, part.reshape(inputs.y_pred.shape)), shape, kind, gradient_dtype))
    return outcomes


# The exact value


def _exact(suite: Suite, y_true: Array, y_pred: Array) -> Array:
    """Numbers of 1024 bits, of the rows of y_pred (of floats or such numbers)."""
    laid_out = _laid_out(suite, Batch(y_true, y_pred))
    # Conversions of NaN to numbers of 1024 bits leave floating-point flags behind, which NumPy warns of.
    with dispatch.use_backend(dispatch.REFERENCE), np.errstate(all="ignore"):
        values: Array = suite.function(laid_out.y_true, laid_out.y_pred, **suite.options)
    return values


def exact_values(suite: Suite, inputs: Batch) -> tuple[Array, Array]:
    """The exact values as the sum of two float64 arrays: the nearest, and what remains."""
    values = _exact(suite, *inputs)
    nearest = values.astype(np.float64)
    finite = np.isfinite(nearest)
    rest = np.zeros_like(nearest)
    rest[finite] = (values[finite] - nearest[finite]).astype(np.float64)
    return nearest, rest


def _precise(array: Array) -> Array:
    with np.errstate(all="ignore"):
        exact: Array = dispatch.adapter(dispatch.REFERENCE).asarray(array)
    return exact


def _moved(inputs: Batch, steps: Iterable[tuple[str, int, float]]) -> Iterator[tuple[Array, Array]]:
    """The inputs with one entry of each row times 1 + step, for each (argument, entry, step)."""
    for argument, entry, step in steps:
        moved = getattr(inputs, argument).copy()
        moved[:, entry] = moved[:, entry] * (_precise(np.array([1.0]))[0] + step)
        yield (moved, inputs.y_pred) if argument == "y_true" else (inputs.y_true, moved)


def _entries(inputs: Batch) -> list[tuple[str, int]]:
    labels = [("y_true", entry) for entry in range(WIDTH)] if inputs.y_true.ndim == 2 else []
    return labels + [("y_pred", entry) for entry in range(WIDTH)]


def _stacked(suite: Suite, batches: Sequence[tuple[Array, Array]]) -> Array:
    """Exact values of many batches of equal shape in one call: (batch, row)."""
    values = _exact(suite, np.concatenate([y for y, _ in batches]), np.concatenate([p for _, p in batches]))
    return values.reshape(len(batches), -1)


def _spread(up: Array, down: Array) -> Array:
    """|up − down| / 2h as float64, 0 where either is not finite."""
    with np.errstate(all="ignore"):
        finite = np.isfinite(up.astype(np.float64)) & np.isfinite(down.astype(np.float64))
        spread = np.zeros(up.shape)
        spread[finite] = abs((up[finite] - down[finite]) / (2 * _STEP)).astype(np.float64)
    return spread


def _number_array(inputs: Batch) -> Batch:
    return Batch(_precise(inputs.y_true) if inputs.y_true.ndim == 2 else inputs.y_true, _precise(inputs.y_pred))


def condition_scale(suite: Suite, inputs: Batch) -> Array:
    """Σ |x ∂f/∂x| of each row, over the entries of y_true (unless they are ids) and of y_pred."""
    precise = _number_array(inputs)
    entries = _entries(precise)
    moved = _moved(precise, [(argument, entry, step) for argument, entry in entries for step in (_STEP, -_STEP)])
    values = _stacked(suite, list(moved))
    total: Array = _spread(values[0::2], values[1::2]).sum(axis=0)
    return total


def _gradients(suite: Suite, batches: Sequence[tuple[Array, Array]]) -> Array:
    """Exact ∂f/∂p of every entry, as numbers of 1024 bits: (batch, row, entry)."""
    sides = []
    steps = []
    for y_true, y_pred in batches:
        for entry in range(WIDTH):
            # Absolute where p is 0, which a relative step leaves where it is.
            step = np.where(y_pred[:, entry] == 0, 1.0, abs(y_pred[:, entry])) * _STEP
            steps.append(step)
            for sign in (1, -1):
                moved = y_pred.copy()
                moved[:, entry] = moved[:, entry] + sign * step
                sides.append((y_true, moved))
    values = _stacked(suite, sides)
    slopes: Array = (values[0::2] - values[1::2]) / (2 * np.stack(steps))
    return slopes.reshape(len(batches), WIDTH, -1).transpose(0, 2, 1)


def exact_gradient(suite: Suite, inputs: Batch) -> Array:
    """∂f/∂p by central differences: the mean of both sides at a kink."""
    precise = _number_array(inputs)
    slopes: Array = _gradients(suite, [(precise.y_true, precise.y_pred)])[0].astype(np.float64)
    return slopes


def gradient_scale(suite: Suite, inputs: Batch) -> Array:
    """What rounding does to each row's gradient g: Σ |x ∂g/∂x|, and the size of the parts that it is a difference of, where that is known."""
    precise = _number_array(inputs)
    steps = [(argument, entry, step) for argument, entry in _entries(precise) for step in (_STEP, -_STEP)]
    slopes = _gradients(suite, list(_moved(precise, steps)))
    spread = _spread(slopes[0::2], slopes[1::2])
    scale = np.where(spread > _JUMP, 0.0, spread).sum(axis=0).max(axis=-1)
    # A gradient that is a difference of parts of one size, each of them rounded: softmax and label; label and share of the sum; unit vectors.
    size = abs(inputs.y_pred).max(axis=-1)
    if suite.kind in ("class-logits", "id-logits"):
        scale = np.fmax(scale, 1.0)
    elif suite.kind in ("classes", "ids", "vectors"):
        scale = np.fmax(scale, np.where((size > 0) & np.isfinite(size), 1 / size, 0.0))
    return np.where(np.isfinite(scale), scale, 0.0)


# Comparing


def _unit(scale: Array, dtype: str) -> Array:
    """One unit in the last place of numbers of that size."""
    limits = RANGES[dtype]
    size = np.clip(scale, limits.smallest_normal, np.finfo(np.float32 if dtype != "float64" else np.float64).max)
    unit: Array = limits.epsilon * np.exp2(np.floor(np.log2(size)))
    return unit


class _Comparison:
    """One suite in one dtype: what every column made of it, held against the exact value and the other columns."""

    def __init__(self, suite: Suite, dtype: str, inputs: Batch, outcomes: Mapping[Column, Outcome]) -> None:
        self.suite, self.dtype, self.inputs, self.outcomes = suite, dtype, inputs, outcomes
        self.computed = RANGES[dtype].computed
        self.breaches: list[Breach] = []
        self.error: BaseException | None = None
        try:
            self.nearest, self.rest = exact_values(suite, inputs)
        except Exception as error:  # a fact to compare
            self.error = error
            self.nearest = self.rest = np.full(len(inputs.y_pred), np.nan)
        with np.errstate(over="ignore"):
            self.expected = self.nearest.astype(self.computed).astype(np.float64)

    def breach(self, case: int | str, column: Column, fact: str, message: str) -> None:
        self.breaches.append(Breach(case_id(self.suite, self.dtype, case), column.label, fact, message))

    def run(self) -> Measurement:
        usable = {column: outcome for column, outcome in self.outcomes.items() if self._facts(column, outcome)}
        with np.errstate(all="ignore"):
            ulps = self._values(usable)
            units = self._gradients_of(usable)
        return Measurement(self.suite, self.dtype, self.inputs, self.nearest, self.outcomes, ulps, units, self.breaches, len(self.inputs.y_pred))

    def _facts(self, column: Column, outcome: Outcome) -> bool:
        """Exception, shape and dtype; whether there are values to compare."""
        expected = None if self.error is None else type(self.error).__name__
        found = None if outcome.error is None else type(outcome.error).__name__
        if expected != found:
            said = outcome.error if outcome.error is not None else self.error
            self.breach("all", column, "exception", f"{found or 'no exception'}, expected {expected or 'none'}: {said}")
        if outcome.error is not None or self.error is not None:
            return False
        if outcome.shape != self.nearest.shape:
            self.breach("all", column, "shape", f"{outcome.shape}, expected {self.nearest.shape}")
            return False
        if outcome.dtype != self.computed:
            self.breach("all", column, "dtype", f"{outcome.dtype}, expected {self.computed}")
        if outcome.gradient is not None and outcome.gradient_dtype != self.dtype:
            self.breach("all", column, "dtype", f"the gradient is {outcome.gradient_dtype}, expected {self.dtype}")
        return True

    def _ulps(self, values: Array, scale: Array) -> Array:
        """Infinity where the exact value is not even of that kind: finite, +inf, −inf or NaN."""
        same = np.where(np.isfinite(self.expected), np.isfinite(values), (values == self.expected) | (np.isnan(values) & np.isnan(self.expected)))
        error = abs((values - self.nearest) - self.rest) / _unit(scale, self.computed)
        tiny = RANGES[self.computed].smallest_normal
        flushed = (abs(self.nearest) < tiny) & (abs(values) <= tiny)
        return np.where(~same, np.inf, np.where(~np.isfinite(self.expected) | flushed, 0.0, error))

    def _values(self, usable: Mapping[Column, Outcome]) -> dict[Column, Array]:
        scale = np.where(np.isfinite(self.nearest), abs(self.nearest), 0.0)
        if self.suite.normalised:
            scale = np.fmax(scale, 1.0)
        ulps = {column: self._ulps(_of(outcome.values), scale) for column, outcome in usable.items()}
        # The condition scale takes a dozen exact evaluations: found only where it matters.
        doubtful = [row for row in range(len(scale)) if any(1.0 < own[row] < np.inf for own in ulps.values())]
        if doubtful and not self.suite.definition.interacting:
            chosen = Batch(self.inputs.y_true[doubtful], self.inputs.y_pred[doubtful])
            scale[doubtful] = np.fmax(scale[doubtful], condition_scale(self.suite, chosen))
            ulps = {column: self._ulps(_of(outcome.values), scale) for column, outcome in usable.items()}
        for column, own in ulps.items():
            values = _of(usable[column].values)
            for row in np.flatnonzero(own > VALUE_BOUND):
                difference = f"{own[row]:.3g} ulp off" if np.isfinite(own[row]) else "not of the same kind"
                self.breach(int(row), column, "value", f"{values[row]!s}, exact {self.expected[row]!s}: {difference}")
        return ulps

    def _gradients_of(self, usable: Mapping[Column, Outcome]) -> Array:
        units = np.zeros(len(self.inputs.y_pred))
        slopes = {column: outcome.gradient for column, outcome in usable.items() if outcome.gradient is not None}
        if not slopes:
            return units
        self._finite_gradients(slopes)
        stacked = np.stack(list(slopes.values()))
        counted = ~np.isnan(self.nearest)
        kind = np.where(np.isfinite(stacked), 0.0, stacked)
        reference = next(iter(slopes))
        for index, column in enumerate(slopes):
            differs = ~((kind[index] == kind[0]) | (np.isnan(kind[index]) & np.isnan(kind[0]))).all(axis=-1) & counted
            for row in np.flatnonzero(differs):
                self.breach(int(row), column, "gradient", f"{stacked[index][row].tolist()}, on {reference.label} {stacked[0][row].tolist()}")
                units[row] = np.inf
        finite = np.isfinite(stacked).all(axis=0)
        gap = np.where(finite, stacked.max(axis=0) - stacked.min(axis=0), 0.0).max(axis=-1)
        scale = np.where(finite, abs(stacked).max(axis=0), 0.0).max(axis=-1)
        plain = gap / _unit(scale, self.dtype)
        doubtful = np.flatnonzero((plain > 1.0) & counted)
        if doubtful.size and not self.suite.definition.interacting:
            chosen = Batch(self.inputs.y_true[doubtful], self.inputs.y_pred[doubtful])
            scale[doubtful] = np.fmax(scale[doubtful], gradient_scale(self.suite, chosen))
            plain = gap / _unit(scale, self.dtype)
        flushed = gap <= RANGES[self.dtype].smallest_normal
        units = np.fmax(units, np.where(counted & ~flushed, plain, 0.0))
        for row in np.flatnonzero((units > GRADIENT_BOUND) & np.isfinite(units)):
            middle = np.median(stacked[:, row], axis=0)
            furthest = list(slopes)[int(abs(stacked[:, row] - middle).max(axis=-1).argmax())]
            self.breach(
                int(row), furthest, "gradient", f"{slopes[furthest][row].tolist()}, elsewhere {middle.tolist()}: {units[row]:.3g} units apart"
            )
        return units

    def _finite_gradients(self, slopes: Mapping[Column, Array]) -> None:
        """A finite loss has a finite gradient, unless the exact gradient exceeds the range of the dtype."""
        for column, own in slopes.items():
            rows = np.flatnonzero(np.isfinite(self.expected) & np.isfinite(self.nearest) & ~np.isfinite(own).all(axis=-1))
            if not rows.size:
                continue
            exact = exact_gradient(self.suite, Batch(self.inputs.y_true[rows], self.inputs.y_pred[rows]))
            beyond = abs(exact) >= _largest(self.dtype)
            allowed = np.isfinite(own[rows]) | (beyond & (own[rows] == np.sign(exact) * np.inf))
            for row in rows[~allowed.all(axis=-1)]:
                self.breach(int(row), column, "gradient", f"{own[row].tolist()} for a finite loss of {self.expected[row]!s}")


def _largest(dtype: str) -> float:
    return {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}.get(dtype) or float(np.finfo(dtype).max)


def _of(values: Array | None) -> Array:
    assert values is not None
    return values


def compare(suite: Suite, dtype: str, inputs: Batch, outcomes: Mapping[Column, Outcome]) -> Measurement:
    """What every column made of a batch, held against the exact value and the other columns."""
    return _Comparison(suite, dtype, inputs, outcomes).run()


# Calls that have to be refused


def _bad_calls(suite: Suite, inputs: Batch) -> dict[str, Batch]:
    """By name. Shapes that do not fit, and ids that are none."""
    y_true, y_pred = inputs.y_true[:4], inputs.y_pred[:4]
    calls = {"fewer labels": Batch(y_true[:3], y_pred)}
    if not suite.definition.sparse:
        return {**calls, "wider labels": Batch(np.concatenate([y_true, y_true], axis=1), y_pred), "flat labels": Batch(y_true[:, 0], y_pred)}
    for name, label in (("id too large", WIDTH), ("id below 0", -1)):
        labels = y_true.copy()
        labels[1] = label
        calls[name] = Batch(labels, y_pred)
    return calls


def refused(suite: Suite, inputs: Batch, dtype: str, eager: Sequence[Column]) -> tuple[list[Breach], int]:
    """Calls that every backend has to refuse with the exception that the reference raises; the breaches, and the number of calls."""
    breaches = []
    calls = _bad_calls(suite, inputs)
    for name, call in calls.items():
        expected = run_eager(dispatch.adapter(dispatch.REFERENCE), suite, call, dtype).error
        for column in eager:
            found = run_eager(dispatch.adapter(column.backend), suite, call, dtype).error
            if type(found) is not type(expected) or found is None:
                said = "no exception" if found is None else f"{type(found).__name__}: {found}"
                breaches.append(Breach(case_id(suite, dtype, name), column.label, "exception", f"{said}, expected {type(expected).__name__}"))
    return breaches, len(calls)


# The whole run


class Run(NamedTuple):
    """All measurements, and what disagreed."""

    columns: list[Column]
    dtypes: list[str]
    measurements: list[Measurement]
    breaches: list[Breach]
    cases: int


# Suites that are compiled together.
GROUP = 64

Progress: TypeAlias = Callable[[str, int], None]


def measure(suites: Sequence[Suite], dtypes: Sequence[str], chosen: Sequence[Column], seed: int, progress: Progress = lambda what, done: None) -> Run:
    """Every suite in every dtype on every column. ``progress`` is told what comes next, and how many steps of ``steps()`` were done."""
    measurements, breaches, cases = [], [], 0
    for dtype in dtypes:
        batches = [(suite, batch(suite.kind, dtype, seed)) for suite in suites]
        outcomes: list[dict[Column, Outcome]] = [{} for _ in suites]
        for column in chosen:
            ops = dispatch.adapter(column.backend)
            for start in range(0, len(batches), GROUP if column.compiled else 1):
                group = batches[start : start + (GROUP if column.compiled else 1)]
                progress(f"{column.label}, {dtype}: {group[0][0].label}", 0)
                found = run_compiled(ops, group, dtype) if column.compiled else [run_eager(ops, *group[0], dtype)]
                for offset, outcome in enumerate(found):
                    outcomes[start + offset][column] = outcome
                progress(f"{column.label}, {dtype}", len(group))
        for (suite, inputs), own in zip(batches, outcomes, strict=True):
            progress(f"exact values, {dtype}: {suite.label}", 0)
            held = {column: outcome for column, outcome in own.items() if not _lacks(outcome, dtype)}
            measurement = compare(suite, dtype, inputs, held)
            measurements.append(measurement)
            breaches += measurement.breaches
            cases += measurement.cases
            if dtype == dtypes[0]:
                bad, calls = refused(suite, inputs, dtype, [column for column in held if not column.compiled])
                breaches += bad
                cases += calls
            progress(f"exact values, {dtype}", 1)
    return Run(list(chosen), list(dtypes), measurements, breaches, cases)


def _lacks(outcome: Outcome, dtype: str) -> bool:
    """Whether the framework simply has no such dtype: NumPy has bfloat16 only beside a framework that brings it."""
    return dtype == "bfloat16" and isinstance(outcome.error, TypeError) and "bfloat16" in str(outcome.error)


def steps(suites: Sequence[Suite], dtypes: Sequence[str], chosen: Sequence[Column]) -> int:
    """How many steps ``measure`` reports."""
    return len(suites) * len(dtypes) * (len(chosen) + 1)
