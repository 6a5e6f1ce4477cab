"""Every backend against the exact value and against the other backends.

The exact value is the definition itself in arithmetic of 1024 bits, on the very bits that a backend was given. An error is counted in units in the
last place (ulp) of a scale:

* the exact value; and where the error is more than one unit of that, the larger of it and Σ |x ∂f/∂x| over the entries x of y_true and y_pred, which
  is what a relative error of 1 in the input would change: where terms cancel, rounding the input alone moves the result by that many units;
* at least 1 for losses of probabilities that are divided by their sum: p/Σp is rounded near 1, and that rounding is an absolute error of its
  logarithm.

The exact gradient is found by differences in the same arithmetic, of every entry of y_pred. Errors are counted in units of the row's largest entry,
and where there is more than one of those, of ``gradient_scale``. Where the slopes on both sides of an entry disagree (a kink), or the loss is
infinite, there is no exact slope, and the columns are held against their median: the rule for kinks is the same on every backend.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from lossbackend import dispatch
from lossbackend.ops import Ops, Tensor
from lossbackend.parity.cases import RANGES, SAMPLES, WIDTH, Array, Batch, Suite, batch, cases

# What a value may be off, in units in the last place, and a gradient, in units of its scale.
VALUE_BOUND = 4.0
GRADIENT_BOUND = 8.0

# A relative step for differences in arithmetic of 1024 bits: what they leave out is as small, and second ones still have 600 good bits.
_STEP = 2.0**-200
# The error of a number computed in 1024 bits from parts of that size, with some room.
_NOISE = 2.0**-1000
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
    """Of each case; of the columns that have values to compare."""
    gradient: Array
    """Exact, and at a kink the median of the columns."""
    gradient_units: Mapping[Column, Array]
    """Of each case; of the columns that differentiate."""
    breaches: list[Breach]
    cases: int

    def breach(self, column: Column, *facts: str) -> Breach | None:
        """The first breach of a column over one of these facts."""
        return next((breach for breach in self.breaches if breach.column == column.label and breach.fact in facts), None)

    def worst(self, column: Column) -> float | None:
        """The largest error of a column in ulp; infinity where the result is not even of that kind; None where the column has no such dtype."""
        if self.breach(column, "exception", "shape", "dtype") is not None:
            return math.inf
        ulps = self.ulps.get(column)
        return None if ulps is None else float(ulps.max())

    def worst_gradient(self) -> tuple[Column, float] | None:
        """The column whose gradients are furthest off, and how far in units; None where no column has any."""
        worst = {column: float(units.max()) for column, units in self.gradient_units.items()}
        worst |= {column: math.inf for column in self.outcomes if self.breach(column, "gradient dtype") is not None}
        column = max(worst, key=worst.__getitem__, default=None)
        return None if column is None else (column, worst[column])


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


def laid_out(suite: Suite, inputs: Batch) -> Batch:
    """The inputs with the loss axis where the option ``axis`` has it."""
    if not suite.transposed:
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


def calls(suite: Suite, inputs: Batch) -> list[Batch]:
    """The calls that compute the cases: one for all of them, or where samples interact one for each, whose first loss it is."""
    if not suite.interacting:
        return [laid_out(suite, inputs)]
    labels = (SAMPLES,) if suite.definition.sparse else (SAMPLES, WIDTH)
    return [laid_out(suite, Batch(y_true.reshape(labels), y_pred.reshape(SAMPLES, WIDTH))) for y_true, y_pred in zip(*inputs, strict=True)]


def run_eager(ops: Ops, suite: Suite, inputs: Batch, dtype: str) -> Outcome:
    """One call, and one call for the gradient; of samples that interact for each case."""
    try:
        return _run(ops, suite, inputs, dtype, functools.partial(suite.function, **suite.options))
    except Exception as error:  # a fact to compare
        return Outcome(error=error)


def _run(ops: Ops, suite: Suite, inputs: Batch, dtype: str, function: Callable[[Tensor, Tensor], Tensor]) -> Outcome:
    values, gradients, shape, dtypes = [], [], (0,), ("", "")
    with dispatch.use_backend(ops.name), _precision(ops, dtype), np.errstate(all="ignore"):
        for call in calls(suite, inputs):
            y_true, y_pred = _tensor(ops, call.y_true, dtype), _tensor(ops, call.y_pred, dtype)
            found = function(y_true, y_pred)
            values.append(_numbers(ops, found))
            shape, dtypes = tuple(ops.shape(found)), (ops.dtype(found), "")
            if ops.differentiable:
                differentiate = functools.partial(ops.value_and_grad, _first(suite, function, y_true))
                # As lossbackend.value_and_grad does: call by call, JAX would compile the value and its slope apart.
                _, gradient = (ops.compile(differentiate) if ops.name == "jax" else differentiate)(y_pred)
                gradients.append(_rows(suite, _numbers(ops, gradient)))
                dtypes = (dtypes[0], ops.dtype(gradient))
    if not suite.interacting:
        return Outcome(values[0], gradients[0] if gradients else None, shape, *dtypes)
    slopes = np.stack(gradients).reshape(len(gradients), -1) if gradients else None
    return Outcome(np.array([own[0] for own in values]), slopes, (len(values),), *dtypes)


def _first(suite: Suite, function: Callable[[Tensor, Tensor], Tensor], y_true: Tensor) -> Callable[[Tensor], Tensor]:
    """What is differentiated: all losses of a call, or where samples interact that of the case."""
    return lambda y_pred: function(y_true, y_pred)[:1] if suite.interacting else function(y_true, y_pred)


def _rows(suite: Suite, gradient: Array) -> Array:
    return gradient.T if suite.transposed else gradient


def run_compiled(ops: Ops, group: Sequence[tuple[Suite, Batch]], dtype: str) -> list[Outcome]:
    """Several suites compiled as one function; each alone where that fails, to see which one it is.

    Compilers take seconds for a function and little more for a larger one. Where samples interact, each case is a call of a function of one suite.
    """
    try:
        if len(group) == 1 and group[0][0].interacting:
            suite, inputs = group[0]
            return [_run(ops, suite, inputs, dtype, ops.compile(functools.partial(suite.function, **suite.options)))]
        return _run_group(ops, group, dtype)
    except Exception as error:
        if len(group) == 1:
            return [Outcome(error=error)]
        return [outcome for one in group for outcome in run_compiled(ops, [one], dtype)]


def _run_group(ops: Ops, group: Sequence[tuple[Suite, Batch]], dtype: str) -> list[Outcome]:
    placed = [laid_out(suite, inputs) for suite, inputs in group]
    parts = [(suite.function, dict(suite.options), inputs.y_pred.shape) for (suite, _), inputs in zip(group, placed, strict=True)]
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
        y_trues = [_tensor(ops, inputs.y_true, dtype) for inputs in placed]
        compiled = ops.compile(losses)
        flat = np.concatenate([inputs.y_pred.ravel() for inputs in placed])
        values, gradient = ops.value_and_grad(lambda x: compiled(y_trues, x), _tensor(ops, flat, dtype))
        all_values, all_slopes = _numbers(ops, values), _numbers(ops, gradient)
        gradient_dtype = ops.dtype(gradient)
    outcomes = []
    slopes = np.split(all_slopes, np.cumsum([inputs.y_pred.size for inputs in placed])[:-1])
    sizes = [int(np.prod(shape)) for shape, _ in facts]
    for (suite, _), inputs, own, part, (shape, kind) in zip(group, placed, np.split(all_values, np.cumsum(sizes)[:-1]), slopes, facts, strict=True):
        outcomes.append(Outcome(own.reshape(shape), _rows(suite, part.reshape(inputs.y_pred.shape)), shape, kind, gradient_dtype))
    return outcomes


# The exact value


def _exact(suite: Suite, y_true: Array, y_pred: Array) -> Array:
    """Numbers of 1024 bits, of the rows of y_pred (of floats or such numbers)."""
    # Conversions of NaN to numbers of 1024 bits leave floating-point flags behind, which NumPy warns of.
    with dispatch.use_backend(dispatch.REFERENCE), np.errstate(all="ignore"):
        values = [suite.function(call.y_true, call.y_pred, **suite.options) for call in calls(suite, Batch(y_true, y_pred))]
    exact: Array = np.array([own[0] for own in values]) if suite.interacting else values[0]
    return exact


def exact_values(suite: Suite, inputs: Batch) -> tuple[Array, Array, Array]:
    """The exact values, of 1024 bits; and as the sum of two float64 arrays: the nearest, and what remains."""
    values = _exact(suite, *inputs)
    nearest = values.astype(np.float64)
    finite = np.isfinite(nearest)
    rest = np.zeros_like(nearest)
    rest[finite] = (values[finite] - nearest[finite]).astype(np.float64)
    return values, nearest, rest


def _precise(array: Array) -> Array:
    with np.errstate(all="ignore"):
        exact: Array = dispatch.adapter(dispatch.REFERENCE).asarray(array)
    return exact


def _number_array(inputs: Batch) -> Batch:
    return Batch(inputs.y_true if inputs.y_true.dtype.kind == "i" else _precise(inputs.y_true), _precise(inputs.y_pred))


def _scaled(inputs: Batch) -> Iterator[Batch]:
    """The inputs with one entry of each row times 1 + step, for each entry of y_true (unless they are ids) and of y_pred."""
    for argument in ("y_pred",) if inputs.y_true.dtype.kind == "i" else ("y_true", "y_pred"):
        for entry in range(inputs.y_pred.shape[1]):
            moved = getattr(inputs, argument).copy()
            moved[:, entry] = moved[:, entry] * (_precise(np.array([1.0]))[0] + _STEP)
            yield inputs._replace(**{argument: moved})


def _stacked(suite: Suite, batches: Sequence[Batch]) -> Array:
    """Exact values of many batches of equal shape in one call: (batch, row)."""
    values = _exact(suite, np.concatenate([y for y, _ in batches]), np.concatenate([p for _, p in batches]))
    return values.reshape(len(batches), -1)


def _change(moved: Array, base: Array) -> Array:
    """|moved − base| per relative step as float64, 0 where either is not finite."""
    finite = np.isfinite(moved.astype(np.float64)) & np.isfinite(base.astype(np.float64))
    change = np.zeros(moved.shape)
    change[finite] = abs((moved[finite] - base[finite]) / _STEP).astype(np.float64)
    return change


def condition_scale(suite: Suite, inputs: Batch) -> Array:
    """Σ |x ∂f/∂x| of each row, over the entries of y_true (unless they are ids) and of y_pred."""
    precise = _number_array(inputs)
    values = _stacked(suite, [precise, *_scaled(precise)])
    with np.errstate(all="ignore"):
        total: Array = _change(values[1:], np.broadcast_to(values[0], values[1:].shape)).sum(axis=0)
    return total


def _sizes(y_pred: Array) -> Array:
    """What a step of each entry is relative to: itself, or for a 0 the smallest other number of its row, 1 at most."""
    size = abs(y_pred)
    others = np.where((size > 0) & np.isfinite(size.astype(np.float64)), size, _precise(np.array(1.0)))
    sizes: Array = np.where(size > 0, size, np.minimum(others.min(axis=-1, keepdims=True), 1.0))
    return sizes


def _slopes(suite: Suite, batches: Sequence[Batch], bases: Array, side: int = 1) -> Array:
    """∂f/∂p of every entry by one-sided differences of 1024 bits from ``bases``, the values of the batches: (batch, row, entry)."""
    moved, widths = [], []
    for inputs in batches:
        steps = _sizes(inputs.y_pred) * (side * _STEP)
        for entry in range(inputs.y_pred.shape[1]):
            y_pred = inputs.y_pred.copy()
            y_pred[:, entry] = y_pred[:, entry] + steps[:, entry]
            moved.append(Batch(inputs.y_true, y_pred))
        widths.append(steps)
    values = _stacked(suite, moved).reshape(len(batches), -1, bases.shape[-1]).transpose(0, 2, 1)
    slopes: Array = (values - bases[..., np.newaxis]) / np.stack(widths)
    return slopes


def exact_gradient(suite: Suite, inputs: Batch, values: Array) -> tuple[Array, Array]:
    """∂f/∂p of every entry from exact values, at a kink that of one side or of both; and what the last bits of the values make of it."""
    precise = _number_array(inputs)
    sizes = _sizes(precise.y_pred)
    with np.errstate(all="ignore"):
        slopes = _slopes(suite, [precise], values[np.newaxis])[0]
        noise = (np.maximum(abs(values), 1.0)[:, np.newaxis] * _NOISE / (sizes * _STEP)).astype(np.float64)
        # Where the slope vanishes the step shows: both sides of it cancel.
        flat = np.flatnonzero((abs(slopes) * sizes < _STEP * _JUMP).any(axis=-1))
        if flat.size:
            other = _slopes(suite, [Batch(precise.y_true[flat], precise.y_pred[flat])], values[np.newaxis, flat], side=-1)[0]
            slopes[flat] = (slopes[flat] + other) / 2
        return slopes.astype(np.float64), noise


def gradient_jump(suite: Suite, inputs: Batch, exact: Array, dtype: str) -> Array:
    """How far the exact slopes of every entry are from those one unit in the last place above it and below it.

    That far, because the place of a kink is a constant of the formula, which the dtype may have rounded.
    """
    precise = _number_array(inputs)
    units = _sizes(precise.y_pred) * RANGES[RANGES[dtype].computed].epsilon
    slopes = [exact]
    with np.errstate(all="ignore"):
        for side in (1, -1):
            beside = [Batch(precise.y_true, precise.y_pred.copy()) for _ in range(exact.shape[1])]
            for entry, moved in enumerate(beside):
                moved.y_pred[:, entry] = moved.y_pred[:, entry] + side * units[:, entry]
            found = _slopes(suite, beside, _stacked(suite, beside), side)
            slopes.append(np.stack([found[entry, :, entry] for entry in range(exact.shape[1])], axis=-1).astype(np.float64))
        return np.asarray(np.ptp(slopes, axis=0))


def gradient_scale(suite: Suite, inputs: Batch) -> Array:
    """What rounding does to each row's gradient g: Σ |x ∂g/∂x|, and the size of the parts that it is a difference of, where that is known."""
    precise = _number_array(inputs)
    batches = [precise, *_scaled(precise)]
    with np.errstate(all="ignore"):
        slopes = _slopes(suite, batches, _stacked(suite, batches))
        change = _change(slopes[1:], np.broadcast_to(slopes[0], slopes[1:].shape))
    scale = np.where(change > _JUMP, 0.0, change).sum(axis=0).max(axis=-1)
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
            self.values, self.nearest, self.rest = exact_values(suite, inputs)
        except Exception as error:  # a fact to compare
            self.error = error
            self.values = self.nearest = self.rest = np.full(len(inputs.y_pred), np.nan)
        with np.errstate(over="ignore"):
            self.expected = self.nearest.astype(self.computed).astype(np.float64)

    def breach(self, case: int | str, column: Column, fact: str, message: str) -> None:
        self.breaches.append(Breach(case_id(self.suite, self.dtype, case), column.label, fact, message))

    def run(self) -> Measurement:
        usable = {column: outcome for column, outcome in self.outcomes.items() if self._facts(column, outcome)}
        with np.errstate(all="ignore"):
            ulps = self._values(usable)
            gradient, units = self._gradients_of(usable)
        cases = len(self.inputs.y_pred)
        return Measurement(self.suite, self.dtype, self.inputs, self.nearest, self.outcomes, ulps, gradient, units, self.breaches, cases)

    def _rows(self, rows: Array) -> Batch:
        return Batch(self.inputs.y_true[rows], self.inputs.y_pred[rows])

    def _facts(self, column: Column, outcome: Outcome) -> bool:
        """Exception, shape and dtype; whether there are values to compare."""
        # These are inputs that a loss has to take: what every column refuses alike is still no value.
        if outcome.error is not None:
            self.breach("all", column, "exception", f"{type(outcome.error).__name__}: {outcome.error}")
            return False
        if self.error is not None:
            self.breach("all", column, "exception", f"there is no exact value to compare with: {type(self.error).__name__}: {self.error}")
            return False
        if outcome.shape != self.nearest.shape:
            self.breach("all", column, "shape", f"{outcome.shape}, expected {self.nearest.shape}")
            return False
        if outcome.dtype != self.computed:
            self.breach("all", column, "dtype", f"{outcome.dtype}, expected {self.computed}")
        if outcome.gradient is not None and outcome.gradient_dtype != self.dtype:
            self.breach("all", column, "gradient dtype", f"{outcome.gradient_dtype}, expected {self.dtype}")
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
        # The condition scale takes more exact evaluations: found only where it matters.
        doubtful = np.flatnonzero([any(1.0 < own[row] < np.inf for own in ulps.values()) for row in range(len(scale))])
        if doubtful.size:
            scale[doubtful] = np.fmax(scale[doubtful], condition_scale(self.suite, self._rows(doubtful)))
            ulps = {column: self._ulps(_of(outcome.values), scale) for column, outcome in usable.items()}
        for column, own in ulps.items():
            values = _of(usable[column].values)
            for row in np.flatnonzero(own > VALUE_BOUND):
                difference = f"{own[row]:.3g} ulp off" if np.isfinite(own[row]) else "not of the same kind"
                self.breach(int(row), column, "value", f"{values[row]!s}, exact {self.expected[row]!s}: {difference}")
        return ulps

    def _gradients_of(self, usable: Mapping[Column, Outcome]) -> tuple[Array, dict[Column, Array]]:
        slopes = {column: outcome.gradient for column, outcome in usable.items() if outcome.gradient is not None}
        if not slopes:
            return np.full(self.inputs.y_pred.shape, np.nan), {}
        exact, noise = exact_gradient(self.suite, self.inputs, self.values)
        infinite = self._finite_gradients(slopes, exact)
        stacked = np.stack(list(slopes.values()))
        counted = ~np.isnan(self.nearest)
        gradient, units, exactly = self._gradient_units(stacked, exact, noise, counted)
        kind = np.where(np.isfinite(stacked), 0.0, stacked)
        reference = next(iter(slopes))
        for index, column in enumerate(slopes):
            units[index][infinite[column]] = np.inf
            differs = ~((kind[index] == kind[0]) | (np.isnan(kind[index]) & np.isnan(kind[0]))).all(axis=-1) & counted
            for row in np.flatnonzero(differs):
                self.breach(int(row), column, "gradient", f"{stacked[index][row].tolist()}, on {reference.label} {stacked[0][row].tolist()}")
                units[index][row] = np.inf
            for row in np.flatnonzero((units[index] > GRADIENT_BOUND) & np.isfinite(units[index])):
                what = "exact" if exactly[row] else "elsewhere"
                message = f"{stacked[index][row].tolist()}, {what} {gradient[row].tolist()}: {units[index][row]:.3g} units off"
                self.breach(int(row), column, "gradient", message)
        return gradient, dict(zip(slopes, units, strict=True))

    def _gradient_units(self, stacked: Array, exact: Array, noise: Array, counted: Array) -> tuple[Array, Array, Array]:
        """The gradient that each row should have, the error of every column in units of its scale, and in which rows all of it is exact."""
        finite = np.isfinite(stacked).all(axis=0)
        sizes = np.fmax(abs(stacked).max(axis=0), np.where(np.isfinite(exact), abs(exact), 0.0))
        scale = np.where(finite, sizes, 0.0).max(axis=-1)
        known = np.isfinite(exact) & (noise <= _unit(scale, self.dtype)[:, np.newaxis])
        middle = np.median(stacked, axis=0)

        def errors() -> tuple[Array, Array]:
            gradient = np.where(known, exact, middle)
            gap = np.where(finite, abs(stacked - gradient), 0.0).max(axis=-1)
            return gradient, np.where(counted & (gap > RANGES[self.dtype].smallest_normal), gap / _unit(scale, self.dtype), 0.0)

        gradient, units = errors()
        doubtful = np.flatnonzero((units > 1.0).any(axis=0))
        if doubtful.size:
            scale[doubtful] = np.fmax(scale[doubtful], gradient_scale(self.suite, self._rows(doubtful)))
            gradient, units = errors()
            beyond = np.flatnonzero((units > GRADIENT_BOUND).any(axis=0))
            if beyond.size:
                jump = gradient_jump(self.suite, self._rows(beyond), exact[beyond], self.dtype)
                known[beyond] &= jump <= GRADIENT_BOUND * _unit(scale[beyond], self.dtype)[:, np.newaxis]
                gradient, units = errors()
        return gradient, units, np.asarray(known.all(axis=-1))

    def _finite_gradients(self, slopes: Mapping[Column, Array], exact: Array) -> dict[Column, Array]:
        """A finite loss has a finite gradient, unless the exact gradient exceeds the range of the dtype. The rows where it has not."""
        beyond = abs(exact) >= _largest(self.dtype)
        rows = {}
        for column, own in slopes.items():
            allowed = np.isfinite(own) | (beyond & (own == np.sign(exact) * np.inf))
            rows[column] = np.flatnonzero(np.isfinite(self.expected) & np.isfinite(self.nearest) & ~allowed.all(axis=-1))
            for row in rows[column]:
                self.breach(int(row), column, "gradient", f"{own[row].tolist()} for a finite loss of {self.expected[row]!s}")
        return rows


def _largest(dtype: str) -> float:
    return {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}.get(dtype) or float(np.finfo(dtype).max)


def _of(values: Array | None) -> Array:
    assert values is not None
    return values


def compare(suite: Suite, dtype: str, inputs: Batch, outcomes: Mapping[Column, Outcome]) -> Measurement:
    """What every column made of a batch, held against the exact value and the other columns."""
    return _Comparison(suite, dtype, inputs, outcomes).run()


# Calls that have to be refused


def bad_calls(suite: Suite, dtype: str, seed: int) -> dict[str, Batch]:
    """By name. Shapes that do not fit, and ids that are none."""
    inputs = batch(suite.kind, dtype, seed)
    y_true, y_pred = inputs.y_true[:4], inputs.y_pred[:4]
    calls = {"fewer labels": Batch(y_true[:3], y_pred)}
    if not suite.definition.sparse:
        return {**calls, "wider labels": Batch(np.concatenate([y_true, y_true], axis=1), y_pred), "flat labels": Batch(y_true[:, 0], y_pred)}
    for name, label in (("id too large", WIDTH), ("id below 0", -1)):
        labels = y_true.copy()
        labels[1] = label
        calls[name] = Batch(labels, y_pred)
    return calls


def refused(suite: Suite, dtype: str, seed: int, eager: Sequence[Column]) -> tuple[list[Breach], int]:
    """Calls that every backend has to refuse with the exception that the reference raises; the breaches, and the number of calls."""
    breaches = []
    bad = bad_calls(suite, dtype, seed)
    for name, call in bad.items():
        outcomes = {column: run_refused(column.backend, suite, call, dtype) for column in eager}
        breaches += refused_call(suite, name, call, dtype, outcomes)
    return breaches, len(bad)


def run_refused(backend: str, suite: Suite, call: Batch, dtype: str) -> Outcome:
    """A call that has to be refused is one call, whatever its samples do."""
    return run_eager(dispatch.adapter(backend), suite._replace(interacting=False), call, dtype)


def refused_call(suite: Suite, name: str, call: Batch, dtype: str, outcomes: Mapping[Column, Outcome]) -> list[Breach]:
    """One of these calls."""
    breaches = []
    expected = run_refused(dispatch.REFERENCE, suite, call, dtype).error
    for column, outcome in outcomes.items():
        if type(outcome.error) is not type(expected) or outcome.error is None:
            said = "no exception" if outcome.error is None else f"{type(outcome.error).__name__}: {outcome.error}"
            breaches.append(Breach(case_id(suite, dtype, name), column.label, "exception", f"{said}, expected {type(expected).__name__}"))
    return breaches


# The whole run


class Run(NamedTuple):
    """All measurements, and what disagreed."""

    columns: list[Column]
    dtypes: list[str]
    measurements: list[Measurement]
    breaches: list[Breach]
    cases: int
    seed: int


# Suites that are compiled together.
GROUP = 64

Progress: TypeAlias = Callable[[str, int], None]


def measure(suites: Sequence[Suite], dtypes: Sequence[str], chosen: Sequence[Column], seed: int, progress: Progress = lambda what, done: None) -> Run:
    """Every suite in every dtype on every column. ``progress`` is told what comes next, and how many steps of ``steps()`` were done."""
    eager = [column for column in chosen if not column.compiled]
    found: list[Future[Measurement]] = []
    refusals = []
    # Exact numbers are Python's work, which goes on beside the compilers.
    pool = ThreadPoolExecutor(1)
    try:
        for dtype in dtypes:
            batches = [(suite, cases(suite, dtype, seed)) for suite in suites]
            outcomes: list[dict[Column, Outcome]] = [dict.fromkeys(chosen, Outcome()) for _ in suites]
            for column in chosen:
                for indices in groups(suites) if column.compiled else []:
                    group = [batches[index] for index in indices]
                    progress(f"{column.label}, {dtype}: {group[0][0].label}", 0)
                    for index, outcome in zip(indices, run_compiled(dispatch.adapter(column.backend), group, dtype), strict=True):
                        outcomes[index][column] = outcome
                    progress(f"{column.label}, {dtype}", len(group))
            for (suite, inputs), own in zip(batches, outcomes, strict=True):
                for column in eager:
                    progress(f"{column.label}, {dtype}: {suite.label}", 0)
                    own[column] = run_eager(dispatch.adapter(column.backend), suite, inputs, dtype)
                    progress(f"{column.label}, {dtype}", 1)
                held = {column: outcome for column, outcome in own.items() if not lacks(outcome, dtype)}
                found.append(pool.submit(compare, suite, dtype, inputs, held))
                if dtype == dtypes[0]:
                    refusals.append(refused(suite, dtype, seed, [column for column in eager if column in held]))
        measurements = []
        for index, future in enumerate(found):
            measurements.append(future.result())
            if index < len(refusals):
                measurements[-1].breaches.extend(refusals[index][0])
            progress(f"exact values, {measurements[-1].dtype}: {measurements[-1].suite.label}", 1)
    finally:
        pool.shutdown(cancel_futures=True)
    breaches = [breach for measurement in measurements for breach in measurement.breaches]
    count = sum(measurement.cases for measurement in measurements) + sum(number for _, number in refusals)
    return Run(list(chosen), list(dtypes), measurements, breaches, count, seed)


def groups(suites: Sequence[Suite]) -> list[list[int]]:
    """Which suites are compiled together."""
    apart = [index for index, suite in enumerate(suites) if not suite.interacting]
    return [apart[start : start + GROUP] for start in range(0, len(apart), GROUP)] + [[i] for i, suite in enumerate(suites) if suite.interacting]


def lacks(outcome: Outcome, dtype: str) -> bool:
    """Whether the framework simply has no such dtype: NumPy has bfloat16 only beside a framework that brings it."""
    return dtype == "bfloat16" and isinstance(outcome.error, TypeError) and "bfloat16" in str(outcome.error)


def steps(suites: Sequence[Suite], dtypes: Sequence[str], chosen: Sequence[Column]) -> int:
    """How many steps ``measure`` reports."""
    return len(suites) * len(dtypes) * (len(chosen) + 1)
