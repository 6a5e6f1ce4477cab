"""``assert_parity``: one loss on several backends, or one loss per backend, from the same NumPy input."""

import contextlib
import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from lossbackend import dispatch
from lossbackend.definition import Definition, prepare
from lossbackend.ops import Ops, Tensor

_Array: TypeAlias = np.ndarray[Any, Any]

# Units in the last place. Each backend may round each of a few operations its own way.
_ULPS = 32
_EPS = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52}
# Below the smallest normal number of float32 or float64 a framework may flush to 0.
_TINY = {"float32": 2.0**-126, "float64": 2.0**-1022}


class Backend:
    """One framework, as a test sees it: ``tensor`` makes a native tensor of an array, ``numpy`` reads one.

    >>> numpy = Backend("numpy")
    >>> numpy.tensor([0.5, 1.0])
    array([0.5, 1. ], dtype=float32)
    """

    def __init__(self, name: str) -> None:
        self.ops: Ops = dispatch.get_backend(name)
        self.name = self.ops.name

    def __repr__(self) -> str:
        return self.name

    def tensor(self, values: Any, dtype: str | None = None) -> Tensor:
        """A native tensor: of an array's own dtype (see ``double_precision`` for JAX), float32 of floats in lists, or of the dtype named."""
        array = as_array(values)
        if array.dtype.name == "bfloat16" and self.name != "numpy":
            # The frameworks take ml_dtypes' arrays in different ways, or not at all.
            array, dtype = array.astype(np.float32), dtype or "bfloat16"
        # A copy: torch would share the array's memory, and a test may change either.
        tensor = self.ops.asarray(array.copy())
        return tensor if dtype is None else self.ops.cast(tensor, dtype)

    def numpy(self, tensor: Tensor) -> _Array:
        """The values as an array; bfloat16 widens to float32."""
        return np.asarray(self.ops.to_numpy(tensor) if self.ops.is_tensor(tensor) else tensor)

    def dtype(self, tensor: Tensor) -> str:
        """The dtype's name, in NumPy's spelling."""
        return self.ops.dtype(tensor) if self.ops.is_tensor(tensor) else np.asarray(tensor).dtype.name

    def value_and_grad(self, function: Callable[[Tensor], Tensor], y_pred: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of function(y_pred), and its gradient; NotImplementedError on a backend that does not differentiate."""
        if not self.ops.differentiable:
            raise NotImplementedError(f"the backend {self.name} does not differentiate")
        return self.ops.value_and_grad(lambda p: self.ops.sum(function(p)), y_pred)

    def double_precision(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which float64 exists; only JAX needs one."""
        return self.ops.double_precision()


def as_array(values: Any) -> _Array:
    """The values as an array; floats that come without a dtype are float32, as in a loss."""
    if dispatch.framework(values) is not None:
        raise TypeError(f"expected a NumPy array or numbers, which every backend gets a tensor of, got a {dispatch.framework(values)} tensor")
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype == np.float64 and not hasattr(values, "dtype") else array


class _Result(NamedTuple):
    """What one backend made of the input: an array and its dtype there, or an exception."""

    backend: Backend
    array: _Array | None = None
    dtype: str = ""
    error: Exception | None = None


class _Comparison:
    """One call of assert_parity."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]], y_true: Any, y_pred: Any, options: dict[str, Any], name: str) -> None:
        self.functions = {Backend(backend): function for backend, function in functions.items()}
        self.y_true, self.y_pred = as_array(y_true), as_array(y_pred)
        if not hasattr(y_pred, "dtype"):
            self.y_pred = self.y_pred.astype(np.float32)
        self.options = options
        self.name = name

    def call(self, backend: Backend, differentiate: str | None) -> _Result:
        """The values, or the gradient of their sum with respect to "y_true" or "y_pred"."""
        function, options = self.functions[backend], self.options
        double = self.y_pred.dtype == np.float64
        precision = backend.double_precision() if double else contextlib.nullcontext()
        # NumPy arrays name no framework: they go to this backend whatever LOSSBACKEND says.
        with precision, dispatch.use_backend(backend.name), np.errstate(all="ignore"):
            if _definition(function) is None:
                # Another library's function cannot take arrays beside tensors.
                options = {name: backend.tensor(value) if isinstance(value, np.ndarray) else value for name, value in options.items()}
            try:
                y_true, y_pred = backend.tensor(self.y_true), backend.tensor(self.y_pred)
                if differentiate is None:
                    result = function(y_true, y_pred, **options)
                elif differentiate == "y_pred":
                    result = backend.value_and_grad(lambda p: function(y_true, p, **options), y_pred)[1]
                else:
                    result = backend.value_and_grad(lambda t: function(t, y_pred, **options), y_true)[1]
                return _Result(backend, backend.numpy(result), backend.dtype(result))
            except Exception as error:
                return _Result(backend, error=error)

    def values(self, rtol: float | None, atol: float | None) -> _Array | None:
        """Compare the values; None where every backend refuses the input, else which of them are finite."""
        results = [self.call(backend, None) for backend in self.functions]
        if self.agreed_on_errors(results, "what the call does"):
            return None
        tolerance = self.agreed_on_types(results, "the result", rtol)
        arrays = [_wide(result) for result in results]
        bad = _differ(arrays, tolerance, _TINY.get(self.y_pred.dtype.name, 0.0) if atol is None else atol)
        if bad.any() and atol is None:
            bad = _differ(arrays, tolerance, tolerance * self.condition(arrays[0].shape))
        self.complain(results, arrays, bad, "the value", tolerance, atol)
        return np.isfinite(arrays[0])

    def gradients(self, finite: _Array, rtol: float | None, atol: float | None) -> None:
        """Compare the gradients of samples with a finite loss: no other has one that anybody promises."""
        if self.y_pred.dtype.kind in "biu":
            return
        results = [self.call(backend, "y_pred") for backend in self.functions if backend.ops.differentiable]
        if len(results) < 2 or self.agreed_on_errors(results, "what differentiation does"):
            return
        tolerance = self.agreed_on_types(results, "the gradient", rtol)
        arrays = [_wide(result) for result in results]
        kept = self.per_entry(finite)
        arrays = [np.where(kept, array, 0.0) for array in arrays]
        # Entries of a gradient cancel too: σ(z) − y, to which y contributes its rounding.
        largest = np.max([np.where(np.isfinite(array), np.abs(array), 0.0) for array in arrays], axis=0)
        scale = 1.0 + (largest.max(axis=-1, keepdims=True, initial=0.0) if largest.ndim else largest)
        bad = _differ(arrays, tolerance, tolerance * scale if atol is None else atol)
        self.complain(results, arrays, bad, "the gradient", tolerance, atol)

    def agreed_on_errors(self, results: list[_Result], what: str) -> bool:
        """Whether every backend raised, and the same; AssertionError where only some did."""
        errors = [result.error for result in results]
        kinds = {type(error) for error in errors}
        if kinds == {type(None)}:
            return False
        if len(kinds) > 1:
            lines = [(str(r.backend), "a result" if r.error is None else f"{type(r.error).__name__}: {_short(str(r.error))}") for r in results]
            raise AssertionError(f"{self.name}: the backends disagree in {what}\n\n" + _table([("backend", "outcome"), *lines])) from next(
                filter(None, errors)
            )
        # A refusal of the input is an answer. A mistake in a function, or in the call, is none.
        if all(_refuses(self.functions[result.backend], result.error) for result in results):
            return True
        assert errors[0] is not None
        raise errors[0]

    def agreed_on_types(self, results: list[_Result], what: str, rtol: float | None) -> float:
        """The relative tolerance for results of one shape and dtype; AssertionError for any others."""
        dtype = self.common_dtype(results)
        dtypes = [dtype if r.backend.name == dispatch.REFERENCE else r.dtype for r in results]
        for fact, found in (("shape", [_wide(r).shape for r in results]), ("dtype", dtypes)):
            if len(set(found)) > 1:
                lines = [(str(r.backend), str(entry)) for r, entry in zip(results, found, strict=True)]
                raise AssertionError(f"{self.name}: the backends disagree in the {fact} of {what}\n\n" + _table([("backend", fact), *lines]))
        return _ULPS * _EPS.get(dtype, 0.0) if rtol is None else rtol

    def common_dtype(self, results: list[_Result]) -> str:
        """The dtype of the first result; the exact reference has none of its own, and takes that of the others."""
        return next((result.dtype for result in results if result.backend.name != dispatch.REFERENCE), "float64")

    def condition(self, shape: tuple[int, ...]) -> Any:
        """Per value, Σ |x ∂f/∂x| over its input: what a relative error of 1 in the input does to it, however much its terms cancel."""
        total: Any = np.zeros(shape)
        for argument, x in (("y_true", self.y_true), ("y_pred", self.y_pred)):
            if x.dtype.kind in "biu":
                continue
            for backend in self.functions:
                result = self.call(backend, argument) if backend.ops.differentiable else _Result(backend)
                if result.array is None:
                    continue
                with np.errstate(all="ignore"):
                    change = np.abs(_wide(result) * x.astype(np.float64))
                total = np.maximum(total, self.per_value(np.where(np.isfinite(change), change, 0.0), shape))
        return total

    def axis(self, shape: tuple[int, ...]) -> int | None:
        """The axis of y_pred that values of that shape lack."""
        wanted = self.options.get("axis", -1)
        for axis in (wanted if isinstance(wanted, int) else -1, -1):
            if -self.y_pred.ndim <= axis < self.y_pred.ndim and np.delete(self.y_pred.shape, axis).tolist() == list(shape):
                return axis
        return None

    def per_value(self, entries: _Array, shape: tuple[int, ...]) -> Any:
        axis = self.axis(shape)
        if entries.shape == shape:
            return entries
        return entries.sum() if axis is None or entries.shape != self.y_pred.shape else entries.sum(axis=axis)

    def per_entry(self, finite: _Array) -> _Array:
        axis = self.axis(finite.shape)
        if axis is not None:
            return np.broadcast_to(np.expand_dims(finite, axis), self.y_pred.shape)
        return finite if finite.shape == self.y_pred.shape else np.broadcast_to(finite.all(), self.y_pred.shape)

    def complain(self, results: list[_Result], arrays: list[_Array], bad: _Array, what: str, rtol: float, atol: float | None) -> None:
        if not bad.any():
            return
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        at = f" at index {where[0] if len(where) == 1 else where}" if where else ""
        first = results[0].backend
        dtype = self.common_dtype(results)
        rows = [("backend", "value", f"ulps from {first}")]
        for result, array in zip(results, arrays, strict=True):
            value = float(array[where])
            text = _text(value, "float64" if result.backend.name == dispatch.REFERENCE else dtype)
            rows.append((str(result.backend), text, _distance(value, float(arrays[0][where]), dtype)))
        exact = self.exact(where) if what == "the value" else None
        if exact is not None:
            rows.append(("exact", f"{exact:.17g}", _distance(exact, float(arrays[0][where]), dtype)))
        tolerances = f"rtol {rtol:.3g}" + ("" if atol is None else f", atol {atol:.3g}")
        lines = [f"{self.name}: the backends disagree in {what}{at} ({bad.sum()} of {bad.size} entries; {tolerances})", "", _table(rows)]
        axis = self.axis(bad.shape)
        sample = where if bad.shape != self.y_pred.shape else where[:-1]
        if axis in (-1, self.y_pred.ndim - 1) or bad.shape == self.y_pred.shape:
            shown = {"y_true": self.y_true, "y_pred": self.y_pred}
            lines += ["", *(f"{argument}{list(sample) if sample else ''} = {_entries(array, sample)}" for argument, array in shown.items())]
        raise AssertionError("\n".join(lines))

    def exact(self, where: tuple[int, ...]) -> float | None:
        """The exact value, where there is a definition and mpmath to run it."""
        function = next(iter(self.functions.values()))
        if _definition(function) is None or len({id(other) for other in self.functions.values()}) > 1:
            return None
        with contextlib.suppress(Exception), dispatch.use_backend(dispatch.REFERENCE) as ops:
            return float(ops.to_numpy(function(self.y_true, self.y_pred, **self.options))[where])
        return None


def _definition(function: Any) -> Definition | None:
    """The definition behind one of this library's functions or loss objects."""
    found = getattr(getattr(function, "function", function), "definition", None)
    return found if isinstance(found, Definition) else None


def _refuses(function: Any, error: Exception | None) -> bool:
    """Whether a function refused its input: a loss of this library before its formula ran, any other function with a ValueError."""
    if _definition(function) is None:
        return isinstance(error, ValueError)
    return any(frame.f_code is prepare.__code__ for frame, _ in traceback.walk_tb(error.__traceback__ if error else None))


def _wide(result: _Result) -> _Array:
    assert result.array is not None
    return result.array.astype(np.float64)


def _differ(arrays: list[_Array], rtol: float, atol: Any) -> _Array:
    """Where any of the arrays is not the first one; NaN is equal to NaN, and an infinity to itself alone."""
    first = arrays[0]
    bad = np.zeros(first.shape, bool)
    with np.errstate(all="ignore"):
        for other in arrays[1:]:
            close = np.abs(other - first) <= rtol * np.maximum(np.abs(first), np.abs(other)) + atol
            # inf − inf is no distance, and inf ≤ inf no agreement.
            same = (first == other) | (np.isnan(first) & np.isnan(other)) | (np.isfinite(first) & np.isfinite(other) & close)
            bad |= ~same
    return bad


def _distance(value: float, reference: float, dtype: str) -> str:
    if value == reference or (value != value and reference != reference):
        return "0"
    if not np.isfinite(value) or not np.isfinite(reference) or dtype not in _EPS:
        return "-"
    unit = max(2.0 ** np.floor(np.log2(max(abs(value), abs(reference)))) * _EPS[dtype], _TINY.get(dtype, 0.0) * _EPS[dtype])
    ulps = abs(value - reference) / unit
    return f"{ulps:.0f}" if ulps < 1e6 else f"{ulps:.1e}"


def _text(value: float, dtype: str) -> str:
    """The shortest text that reads back as this number of that dtype."""
    return str(np.float32(value) if dtype == "float32" else value)


def _entries(array: _Array, sample: tuple[int, ...]) -> str:
    part = array[sample[: array.ndim]]
    return np.array2string(part, separator=", ", threshold=12, floatmode="unique").replace("\n", "")


def _short(text: str) -> str:
    line = text.strip().split("\n")[0]
    return line if len(line) <= 100 else line[:97] + "..."


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _selected(loss: Any, backends: Iterable[str] | None) -> tuple[dict[str, Any], str]:
    """The function for each backend, and a name for all of them."""
    if isinstance(backends, str):
        raise TypeError(f"assert_parity: backends must be a list of names, got the string {backends!r}")
    wanted = None if backends is None else [dispatch.canonical(name) for name in backends]
    if isinstance(loss, Mapping):
        functions = {dispatch.canonical(name): function for name, function in loss.items()}
        missing = [name for name in wanted or () if name not in functions]
        if missing:
            raise ValueError(f"assert_parity: there is no function for the backend {missing[0]} (functions for: {', '.join(functions)})")
        functions = functions if wanted is None else {name: functions[name] for name in wanted}
    else:
        functions = dict.fromkeys(dispatch.available_backends() if wanted is None else wanted, loss)
    for function in functions.values():
        if not callable(function):
            raise TypeError(f"assert_parity: a loss must be callable, got {function!r}")
    if len(functions) < 2:
        raise ValueError(f"assert_parity: needs two backends to compare, got {', '.join(functions) or 'none'}")
    names = dict.fromkeys(getattr(function, "__name__", None) or type(function).__name__ for function in functions.values())
    return functions, " and ".join(names)


def assert_parity(
    loss: Any,
    y_true: Any,
    y_pred: Any,
    *,
    backends: Iterable[str] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    gradients: bool = True,
    **options: Any,
) -> None:
    """AssertionError unless a loss does the same on every backend: value, shape, dtype, NaN and infinities, exception type, gradient.

    loss: a loss function or loss object of this library, any function (y_true, y_pred, **options) that takes the tensors of every framework, or a
        dict from backend to function, to hold two implementations against each other. Each gets native tensors of its framework; arrays among the
        options become tensors too, unless the loss is of this library.
    y_true, y_pred: NumPy arrays, or lists. float64 y_pred is compared in float64, on JAX inside ``jax.enable_x64``.
    backends: names; by default all that are installed, or all that the dict names.
    rtol, atol: what the results may differ by. By default 32 units in the last place of their dtype, relative to the value, or to what the value's
        terms add up from where they cancel.
    gradients: whether the gradients with respect to y_pred are compared, where the loss is finite and the backends differentiate.

    Input that every backend refuses alike is parity: a loss of this library before its formula runs, any other function with a ValueError. Any
    other exception that all of them raise is passed on. The message is a table of the first entry that differs, with the exact value where mpmath
    is installed.

    "mpmath", where it is installed, is a backend too: the exact value.

    >>> import numpy as np
    >>> import lossbackend as lb
    >>> def naive(y_true, y_pred):
    ...     return np.log(np.cosh(y_pred - y_true)).mean(axis=-1)
    >>> assert_parity({"numpy": naive, "mpmath": lb.log_cosh}, [[0.0], [0.0]], [[1.0], [0.001]])
    Traceback (most recent call last):
    AssertionError: naive and log_cosh: the backends disagree in the value at index 1 (1 of 2 entries; rtol 3.81e-06)
    <BLANKLINE>
    backend  value                  ulps from numpy
    numpy    4.7683704e-07          0
    mpmath   4.999999641641255e-07  407486
    <BLANKLINE>
    y_true[1] = [0.]
    y_pred[1] = [0.001]
    """
    functions, name = _selected(loss, backends)
    for function in functions.values():
        definition = _definition(function)
        if definition is not None and function.__class__.__name__ == "function":
            # A misspelled option is a mistake in the test, not a result to compare.
            definition.complete(dict(options))
        elif definition is not None:
            inspect.signature(function).bind(y_true, y_pred, **options)
    comparison = _Comparison(functions, y_true, y_pred, options, name)
    finite = comparison.values(rtol, atol)
    if gradients and finite is not None:
        comparison.gradients(finite, rtol, atol)
