"""The Ops contract as a test: values, shapes, dtypes, NaN, infinities, and the pinned gradients."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lossbackend.dispatch import get_backend
from lossbackend.ops import Ops, Tensor

INF, NAN = math.inf, math.nan

# Of each elementwise primitive: (x, value, slope), where a slope of None is not pinned.
_POINTS: dict[str, list[tuple[float, float, float | None]]] = {
    "abs": [(-2, 2, -1), (0, 0, 0), (3, 3, 1), (INF, INF, 1), (-INF, INF, -1), (NAN, NAN, NAN)],
    "sign": [(-2, -1, 0), (0, 0, 0), (3, 1, 0), (INF, 1, 0), (-INF, -1, 0)],
    "square": [(-3, 9, -6), (0, 0, 0), (INF, INF, INF), (NAN, NAN, NAN)],
    "sqrt": [(4, 2, 0.25), (0, 0, 0), (1e-30, math.sqrt(1e-30), 0.5 / math.sqrt(1e-30)), (INF, INF, 0), (-1, NAN, None), (NAN, NAN, None)],
    "exp": [(0, 1, 1), (1, math.e, math.e), (-20, math.exp(-20), math.exp(-20)), (-INF, 0, 0), (INF, INF, None), (NAN, NAN, None)],
    "expm1": [(0, 0, 1), (1e-6, math.expm1(1e-6), math.exp(1e-6)), (1, math.e - 1, math.e), (-INF, -1, 0), (INF, INF, None), (NAN, NAN, None)],
    "log": [(1, 0, 1), (1e-30, math.log(1e-30), 1e30), (0, -INF, None), (INF, INF, 0), (-1, NAN, None), (NAN, NAN, None)],
    "log1p": [(0, 0, 1), (1e-6, math.log1p(1e-6), 1 / (1 + 1e-6)), (3, math.log(4), 0.25), (-1, -INF, None), (-2, NAN, None), (NAN, NAN, None)],
    "sigmoid": [(0, 0.5, 0.25), (2, 1 / (1 + math.exp(-2)), None), (-50, math.exp(-50), math.exp(-50)), (INF, 1, 0), (-INF, 0, 0), (NAN, NAN, None)],
    "softplus": [
        (0, math.log(2), 0.5),
        (1, math.log1p(math.e), 1 / (1 + math.exp(-1))),
        (-14, math.log1p(math.exp(-14)), 1 / (1 + math.exp(14))),
        (21, 21 + math.log1p(math.exp(-21)), 1 / (1 + math.exp(-21))),
        (-50, math.exp(-50), math.exp(-50)),
        (1000, 1000, 1),
        (INF, INF, 1),
        (-INF, 0, 0),
        (NAN, NAN, None),
    ],
    "relu": [(-2, 0, 0), (0, 0, 0), (3, 3, 1), (INF, INF, 1), (-INF, 0, 0), (NAN, NAN, 1)],
}


class _Contract:
    """One run of the contract against one adapter, in one floating dtype."""

    def __init__(self, ops: Ops, dtype: str) -> None:
        self.ops = ops
        self.breaches: list[str] = []
        self.requested = dtype
        # JAX has no float64 unless the user has switched it on.
        self.dtype = ops.dtype(ops.asarray(np.zeros(1, dtype)))
        self.ulp = float(np.finfo(self.dtype).eps)

    def tensor(self, values: Any) -> Tensor:
        return self.ops.asarray(np.array(values, self.requested))

    def expect(self, what: str, got: Tensor, expected: Any, ulps: float = 4.0) -> None:
        """The values, shape and dtype of a result; bools and integers are compared exactly."""
        wanted = np.asarray(expected)
        values = self.ops.to_numpy(got)
        if values.shape != wanted.shape:
            self.breaches.append(f"{what}: shape {values.shape}, expected {wanted.shape}")
        elif wanted.dtype.kind == "f" and self.ops.dtype(got) != self.dtype:
            self.breaches.append(f"{what}: dtype {self.ops.dtype(got)}, expected {self.dtype}")
        elif not np.allclose(values, wanted.astype(values.dtype), rtol=ulps * self.ulp, atol=0, equal_nan=True):
            self.breaches.append(f"{what}: {values.tolist()}, expected {wanted.tolist()}{self._distance(values, wanted, ulps)}")

    def _distance(self, got: Any, wanted: Any, ulps: float) -> str:
        """How far off the worst finite number is, and what is allowed; nothing to say where something else is wrong."""
        if wanted.dtype.kind != "f":
            return ""
        comparable = np.isfinite(got) & np.isfinite(wanted) & (wanted != 0)
        off = np.max(np.abs(got[comparable] / wanted[comparable] - 1.0), initial=0.0) / self.ulp
        return f" (up to {off:.3g} ulps off, {ulps:g} are allowed)" if off > ulps else ""

    def gradient(self, what: str, function: Callable[[Tensor], Tensor], at: Any, expected: Any) -> None:
        """The gradient of the sum of a function's entries; None where it is not pinned."""
        if not self.ops.differentiable:
            return
        _, gradient = self.ops.value_and_grad(lambda x: self.ops.sum(function(x)), self.tensor(at))
        got = np.atleast_1d(self.ops.to_numpy(gradient)).astype(np.float64)
        pinned = np.array([value is not None for value in np.ravel(np.array(expected, dtype=object))]).reshape(np.shape(at))
        wanted = np.where(pinned, np.array(expected, dtype=object), 0.0).astype(np.float64)
        got = np.where(pinned, got, 0.0)
        if not np.allclose(got, wanted, rtol=8 * self.ulp, atol=0, equal_nan=True):
            self.breaches.append(f"gradient of {what} at {at}: {got.tolist()}, expected {expected}{self._distance(got, wanted, 8)}")

    def curvature(self) -> None:
        ops = self.ops
        if not ops.differentiable:
            return
        cases: list[tuple[str, Callable[[Tensor], Tensor], Any, Any, Any]] = [
            ("cubes", lambda t: ops.sum(t * ops.square(t), axis=-1), [[1.0, -2.0], [3.0, 0.0]], [[3, 12], [27, 0]], [[6, -12], [18, 0]]),
            ("logsumexp", lambda t: ops.logsumexp(t), [[0.0, 0.0], [1.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]], [[0.25, 0.25], [0.25, 0.25]]),
            ("abs", lambda t: ops.mean(ops.abs(t), axis=-1), [[2.0], [-1.0]], [[1], [-1]], [[0], [0]]),
        ]
        for what, function, at, slopes, curvatures in cases:
            first, second = ops.grad_and_curvature(function, self.tensor(at))
            self.expect(f"slope of {what}", first, np.array(slopes, float), ulps=8)
            self.expect(f"curvature of {what}", second, np.array(curvatures, float), ulps=8)

    def elementwise(self) -> None:
        ops = self.ops
        for name, points in _POINTS.items():
            function = getattr(ops, name)
            inputs = [x for x, _, _ in points]
            # The expected values belong to the decimal x; in float32 the x that came in is another one, half an ulp away.
            exact = np.array(inputs, self.requested).astype(np.float64)
            values = [value if x == given or x != x else _moved(name, x) for x, (given, value, _) in zip(exact, points, strict=True)]
            self.expect(name, function(self.tensor(inputs)), np.array(values, np.float64), ulps=6)
            self.gradient(name, function, inputs, [slope for _, _, slope in points])
        x = [-2.0, -1.0, 0.0, 1.0, 2.0, INF, -INF, NAN]
        self.expect("clip", ops.clip(self.tensor(x), -1.0, 1.0), [-1.0, -1.0, 0.0, 1.0, 1.0, 1.0, -1.0, NAN])
        self.gradient("clip", lambda t: ops.clip(t, -1.0, 1.0), x, [0, 1, 1, 1, 0, 0, 0, 1])
        self.expect("clip with a low bound", ops.clip(self.tensor(x), 1.0, None), [1.0, 1.0, 1.0, 1.0, 2.0, INF, 1.0, NAN])
        self.expect("clip with a high bound", ops.clip(self.tensor(x), None, 1.0), [-2.0, -1.0, 0.0, 1.0, 1.0, 1.0, -INF, NAN])
        for name, values, slopes, numbers, ties in (
            ("maximum", [1.0, 1.0, 2.0, INF, NAN], [0, 0.5, 1], [1.0, 1.0, 2.0, INF, NAN], [0, 1, 1, 1, 1]),
            ("minimum", [0.0, 1.0, 1.0, 1.0, NAN], [1, 0.5, 0], [0.0, 1.0, 1.0, 1.0, NAN], [1, 1, 0, 0, 1]),
        ):
            function = getattr(ops, name)
            first, second = self.tensor([0.0, 1.0, 2.0, INF, NAN]), self.tensor([1.0] * 5)
            self.expect(name, function(first, second), values)
            self.expect(f"{name} with a number", function(first, 1.0), numbers)
            self.gradient(f"{name}, ties", functools.partial(function, y=self.tensor([1.0] * 3)), [0.0, 1.0, 2.0], slopes)
            self.gradient(f"{name} with a number, ties", functools.partial(function, y=1.0), [0.0, 1.0, 2.0, INF, NAN], ties)
        # Of every one of these divisors but the first, the reciprocal or the square leaves the range of the dtype.
        divisors = [-1.5, 2.0**-66, 2.0**-122, 2.0**127]
        if "float32" not in (self.dtype, self.requested):
            divisors = [-1.5, 2.0**-530, 2.0**-1019, 2.0**1023]
        dividends = self.tensor([[1.5 * y, 0.5 * y] for y in divisors])
        self.expect("divide", ops.divide(dividends, self.tensor([[y] for y in divisors])), [[1.5, 0.5]] * 4)
        self.gradient("divide", lambda y: ops.divide(dividends[:3], y), [[y] for y in divisors[:3]], [[-2.0 / y] for y in divisors[:3]])
        self.gradient("divide by NaN", lambda x: ops.divide(x, self.tensor([NAN, 2.0])), [1.0, 1.0], [NAN, 0.5])

    def selecting(self) -> None:
        ops = self.ops
        x = self.tensor([0.0, 1.0, INF, -INF, NAN])
        self.expect("equal", ops.equal(x, 1.0), [False, True, False, False, False])
        self.expect("equal of tensors", ops.equal(x, x), [True, True, True, True, False])
        self.expect("isnan", ops.isnan(x), [False, False, False, False, True])
        self.expect("isinf", ops.isinf(x), [False, False, True, True, False])
        self.expect("ones_like", ops.ones_like(x), [1.0] * 5)
        self.expect("where", ops.where(ops.isinf(x), 7.0, x), [0.0, 1.0, 7.0, 7.0, NAN])
        self.expect("where, number last", ops.where(ops.isinf(x), x, 7.0), [7.0, 7.0, INF, -INF, 7.0])
        self.gradient("where", lambda t: ops.where(t > 0, 3.0 * t, 0.0), [-1.0, 0.0, 2.0], [0, 0, 3])
        self.gradient("where over sanitised input", lambda t: ops.where(t > 0, ops.log(ops.where(t > 0, t, 1.0)), 0.0), [0.0, 2.0], [0, 0.5])
        self.gradient("where beside an infinite slope", lambda t: ops.square(ops.where(t > 0, t, ops.exp(-t))), [INF, 1.0], [INF, 2])
        weight = self.tensor([0.0, 2.0, 0.0, 0.0, 0.0])
        self.expect("times", ops.times(weight, x), [0.0, 2.0, 0.0, 0.0, NAN])
        self.expect("times with the number 0", ops.times(0.0, x), [0.0, 0.0, 0.0, 0.0, NAN])
        self.gradient("times, by the weight", lambda w: ops.times(w, self.tensor([3.0, INF])), [0.0, 0.0], [3, 0])
        self.gradient("stop_gradient", lambda t: ops.stop_gradient(t) * t, [3.0], [3])
        for number in (2, 0.5):
            self.expect(f"arithmetic with {number}", (x + number) * number, (np.array([0.0, 1.0, INF, -INF, NAN]) + number) * number)

    def reducing(self) -> None:
        ops = self.ops
        rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]]
        x = self.tensor(rows)
        for name, of_all, per_row, per_column in (
            ("sum", 24.0, [6.0, 18.0], [5.0, 7.0, 12.0]),
            ("mean", 4.0, [2.0, 6.0], [2.5, 3.5, 6.0]),
            ("max", 9.0, [3.0, 9.0], [4.0, 5.0, 9.0]),
        ):
            function = getattr(ops, name)
            self.expect(name, function(x), of_all)
            self.expect(f"{name}, axis=-1", function(x, axis=-1), per_row)
            self.expect(f"{name}, axis=0", function(x, axis=0), per_column)
            self.expect(f"{name}, keepdims", function(x, axis=-1, keepdims=True), [[value] for value in per_row])
            self.expect(f"{name} of NaN", function(self.tensor([[1.0, NAN], [1.0, 2.0]]), axis=-1)[:1], [NAN])
        many, tenth = self.tensor(np.full((2, 1 << 13), 0.1)), float(np.array(0.1, self.requested).astype(self.dtype))
        # float64 has digits to spare.
        ulps = 64 if self.dtype == "float32" else 1 << 11
        self.expect("sum of many", ops.sum(many), (1 << 14) * tenth, ulps)
        self.expect("sum of many, axis=-1", ops.sum(many, axis=-1), [(1 << 13) * tenth] * 2, ulps)
        self.expect("mean of many", ops.mean(many), tenth, ulps)
        self.expect("sum over an empty axis", ops.sum(self.tensor(np.zeros((2, 0))), axis=-1), [0.0, 0.0])
        self.gradient("max, ties", lambda t: ops.max(t, axis=-1), [[1.0, 3.0, 3.0]], [[0, 0.5, 0.5]])
        self.gradient("max of NaN", lambda t: ops.max(t, axis=-1), [[1.0, NAN], [1.0, 2.0]], [[None, NAN], [0, 1]])
        truths = ops.asarray(np.array([[True, False], [True, True]]))
        self.expect("any", ops.any(truths, axis=-1), [True, True])
        self.expect("all", ops.all(truths, axis=-1), [False, True])
        self.expect("all, everything", ops.all(truths), False)

    def classes(self) -> None:
        ops = self.ops
        rows = [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [1000.0, 0.0, -INF], [-20.0, 0.0, -30.0]]
        shares = [_softmax(row) for row in rows]
        self.expect("softmax", ops.softmax(self.tensor(rows)), shares, ulps=16)
        self.expect("log_softmax", ops.log_softmax(self.tensor(rows)), [_log_softmax(row) for row in rows], ulps=8)
        columns = self.tensor(np.transpose(rows))
        self.expect("log_softmax, axis=0", ops.log_softmax(columns, axis=0), np.transpose([_log_softmax(row) for row in rows]), ulps=8)
        self.expect("logsumexp", ops.logsumexp(self.tensor(rows)), [_logsumexp(row) for row in rows], ulps=8)
        self.expect("logsumexp, keepdims", ops.logsumexp(self.tensor(rows), keepdims=True), [[_logsumexp(row)] for row in rows], ulps=8)
        self.expect("logsumexp of infinities", ops.logsumexp(self.tensor([[-INF, -INF], [INF, 0.0]])), [-INF, INF])
        self.gradient("logsumexp of nothing but −inf", lambda t: ops.logsumexp(t), [[-INF, -INF]], [[0, 0]])
        self.gradient("logsumexp, ties", lambda t: ops.logsumexp(t), [[0.0, 0.0]], [[0.5, 0.5]])
        for name in ("softmax", "log_softmax"):
            self.expect(f"{name} of infinities", getattr(ops, name)(self.tensor([[INF, 0.0], [-INF, -INF]])), [[NAN, NAN], [NAN, NAN]])
            self.expect(f"{name} of NaN", getattr(ops, name)(self.tensor([[NAN, 0.0]])), [[NAN, NAN]])
        third = 1 / 3
        self.gradient("log_softmax, ties", lambda t: ops.log_softmax(t)[:, 0], [[2.0, 2.0, 2.0]], [[1 - third, -third, -third]])
        ids = ops.cast(ops.asarray(np.array([2, 0, 1, 1])), "index")
        self.expect("take_class", ops.take_class(self.tensor(rows), ids), [3.0, 0.0, 0.0, 0.0])
        self.expect("take_class, axis=0", ops.take_class(columns, ids, axis=0), [3.0, 0.0, 0.0, 0.0])
        middle = self.tensor(np.arange(12.0).reshape(2, 3, 2))
        picked = ops.take_class(middle, ops.cast(ops.asarray(np.array([[0, 1], [2, 0]])), "index"), axis=1)
        self.expect("take_class, axis=1", picked, [[0.0, 3.0], [10.0, 7.0]])
        self.gradient("take_class", lambda t: ops.take_class(t, ids[:2]), [[1.0, 2.0, 3.0]] * 2, [[0, 0, 1], [1, 0, 0]])
        self.expect("one_hot", ops.one_hot(ids, 3, self.dtype), [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])

    def shapes_and_types(self) -> None:
        ops = self.ops
        x = self.tensor(np.arange(6.0).reshape(2, 3))
        if not ops.is_tensor(x) or ops.is_tensor("x"):
            self.breaches.append("is_tensor: a tensor is one, a string is not")
        if tuple(ops.shape(x)) != (2, 3) or ops.dtype(x) != self.dtype or not ops.is_concrete(x):
            self.breaches.append(f"shape, dtype or is_concrete of a (2, 3) {self.dtype}: {ops.shape(x)}, {ops.dtype(x)}, {ops.is_concrete(x)}")
        self.expect("reshape", ops.reshape(x, (3, -1)), [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
        self.expect("expand_dims", ops.expand_dims(x, 1), [[[0.0, 1.0, 2.0]], [[3.0, 4.0, 5.0]]])
        self.expect("squeeze", ops.squeeze(ops.expand_dims(x, -1), -1), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
        self.expect("concat", ops.concat([x, x[:1, :]]), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [0.0, 1.0, 2.0]])
        self.expect("asarray of a view from the end", ops.asarray(np.arange(6.0).astype(self.requested)[::-2]), [5.0, 3.0, 1.0])
        self.expect("asarray of rank 0", ops.asarray(np.array(3.0, self.requested)), 3.0)
        self.expect("asarray of a tuple", ops.asarray((1, 2), like=x), [1.0, 2.0])
        self.expect("asarray of a number", ops.asarray(3, like=x), 3.0)
        self.expect("cast to bool", ops.cast(x, "bool")[0, :], [False, True, True])
        for name in ("float32", "int32", "bool"):
            # An adapter need not have every floating type, but what it has it has to cast to.
            if ops.dtype(ops.cast(x, name)) != ops.dtype(ops.asarray(np.zeros(1, name))):
                self.breaches.append(f"cast to {name}: dtype {ops.dtype(ops.cast(x, name))}")
        self.gradient("cast there and back", lambda t: ops.cast(ops.cast(2.0 * t, "float32"), self.dtype), [3.0], [2])
        doubled = ops.run(lambda ops, y_true, y_pred, factor: factor * (y_pred - y_true), x, x + 1.0, {"factor": 2.0})
        self.expect("run", doubled, np.full((2, 3), 2.0))


def _moved(name: str, x: float) -> float:
    """The value of a primitive at an x that its table does not hold exactly."""
    functions: dict[str, Callable[[float], float]] = {"sqrt": math.sqrt, "expm1": math.expm1, "log": math.log, "log1p": math.log1p}
    return functions[name](x)


def _largest_and_rest(row: Sequence[float]) -> tuple[float, float]:
    """max x, and log Σ e^{x − max x}, exact where the rest adds next to nothing."""
    largest = max(row)
    others = [x for i, x in enumerate(row) if i != list(row).index(largest)]
    return largest, math.log1p(math.fsum(math.exp(x - largest) for x in others))


def _logsumexp(row: Sequence[float]) -> float:
    return sum(_largest_and_rest(row))


def _log_softmax(row: Sequence[float]) -> list[float]:
    largest, rest = _largest_and_rest(row)
    return [x - largest - rest for x in row]


def _softmax(row: Sequence[float]) -> list[float]:
    return [math.exp(x) for x in _log_softmax(row)]


def check_backend(ops: Ops | str) -> None:
    """Hold an adapter, or the one of that name, against the whole Ops contract in float32 and float64: values, shapes, dtypes, NaN, infinities, and
    the pinned gradients.

    Expected values come from Python's ``math``. Raises AssertionError with a line for every breach.

    >>> check_backend("numpy")
    """
    ops = get_backend(ops) if isinstance(ops, str) else ops
    breaches = []
    for dtype in ("float32", "float64"):
        contract = _Contract(ops, dtype)
        # Infinities and NaN are the point here: NumPy need not warn of them.
        with np.errstate(all="ignore"):
            for part in (
                contract.elementwise,
                contract.selecting,
                contract.reducing,
                contract.classes,
                contract.shapes_and_types,
                contract.curvature,
            ):
                try:
                    part()
                except Exception as error:
                    contract.breaches.append(f"{part.__name__}: raised {type(error).__name__}: {error}")
        breaches += [f"{dtype}: {breach}" for breach in contract.breaches]
    if breaches:
        raise AssertionError(f"the backend {ops.name!r} breaks the Ops contract:\n" + "\n".join(breaches))
