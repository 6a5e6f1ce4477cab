"""Where a formula itself goes wrong in float32: loses digits, overflows, or has a gradient that is not finite while the loss is.

One number x is varied over 0 and the whole range of float32 while the rest of the input stays, and the ends of what was found are bisected.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from lossbackend.ops import Ops
from lossbackend.parity.cases import Array, Batch, Suite, company, suite_of
from lossbackend.parity.measure import Column, compare, run_eager

# Four units in the last place are a loss's own rounding; a formula that loses digits is off by far more.
_LOST = 16.0
_DIGITS = -math.log10(2.0**-24)
_PER_DECADE = 6


class Probe(NamedTuple):
    """A way to make an input of a number x."""

    description: str
    row: Callable[[float], tuple[object, list[float]]]
    smallest: float = 1e-37
    # Three of these still add up to a number: their mean is the library's, not the formula's.
    largest: float = 1e38


def _share(x: float) -> list[float]:
    return [x, (1.0 - x) / 2, (1.0 - x) / 2]


_PROBES: dict[str, list[Probe]] = {
    "reals": [
        Probe("y_true = 0, y_pred = x", lambda x: ([0.0] * 3, [x] * 3)),
        Probe("y_true = 0, y_pred = −x", lambda x: ([0.0] * 3, [-x] * 3)),
        Probe("y_true = 1, y_pred = 1 + x", lambda x: ([1.0] * 3, [1.0 + x] * 3), smallest=2.0**-23),
    ],
    "positives": [
        Probe("y_true = 1, y_pred = x", lambda x: ([1.0] * 3, [x] * 3)),
        Probe("y_true = x, y_pred = 1", lambda x: ([x] * 3, [1.0] * 3)),
        Probe("y_true = 1, y_pred = 1 + x", lambda x: ([1.0] * 3, [1.0 + x] * 3), smallest=2.0**-23),
    ],
    "binary": [
        Probe("y_true = 1, y_pred = x", lambda x: ([1.0] * 3, [x] * 3), largest=1.0),
        Probe("y_true = 0, y_pred = x", lambda x: ([0.0] * 3, [x] * 3), largest=1.0),
        Probe("y_true = 0, y_pred = 1 − x", lambda x: ([0.0] * 3, [1.0 - x] * 3), smallest=2.0**-24, largest=1.0),
    ],
    "binary-logits": [
        Probe(f"y_true = {y:g}, y_pred = {sign}x", lambda x, y=y, s=s: ([y] * 3, [s * x] * 3))  # type: ignore[misc]
        for y in (0.0, 1.0)
        for sign, s in (("", 1.0), ("−", -1.0))
    ],
    "signs": [
        Probe(f"y_true = {y:g}, y_pred = x", lambda x, y=y: ([y] * 3, [x] * 3))  # type: ignore[misc]
        for y in (1.0, -1.0)
    ],
    "classes": [Probe("y_true = (1, 0, 0), y_pred = (x, (1−x)/2, (1−x)/2)", lambda x: ([1.0, 0.0, 0.0], _share(x)), largest=1.0)],
    "distributions": [Probe("y_true = (½, ¼, ¼), y_pred = (x, (1−x)/2, (1−x)/2)", lambda x: ([0.5, 0.25, 0.25], _share(x)), largest=1.0)],
    "class-logits": [
        Probe("y_true = (1, 0, 0), y_pred = (x, 0, 0)", lambda x: ([1.0, 0.0, 0.0], [x, 0.0, 0.0])),
        Probe("y_true = (1, 0, 0), y_pred = (−x, 0, 0)", lambda x: ([1.0, 0.0, 0.0], [-x, 0.0, 0.0])),
        Probe("y_true = (1, 0, 0), y_pred = (x, x, x)", lambda x: ([1.0, 0.0, 0.0], [x] * 3)),
    ],
    "ids": [Probe("y_true = 0, y_pred = (x, (1−x)/2, (1−x)/2)", lambda x: (0, _share(x)), largest=1.0)],
    "id-logits": [
        Probe("y_true = 0, y_pred = (x, 0, 0)", lambda x: (0, [x, 0.0, 0.0])),
        Probe("y_true = 0, y_pred = (−x, 0, 0)", lambda x: (0, [-x, 0.0, 0.0])),
        Probe("y_true = 0, y_pred = (x, x, x)", lambda x: (0, [x] * 3)),
    ],
    "counts": [Probe("y_true = 1, y_pred = x", lambda x: ([1.0] * 3, [x] * 3))],
    "log-rates": [
        Probe("y_true = 1, y_pred = x", lambda x: ([1.0] * 3, [x] * 3)),
        Probe("y_true = 1, y_pred = −x", lambda x: ([1.0] * 3, [-x] * 3)),
    ],
    "vectors": [Probe("y_true = (1, 1, 0), y_pred = (x, 0, x)", lambda x: ([1.0, 1.0, 0.0], [x, 0.0, x]))],
}


class Finding(NamedTuple):
    """What goes wrong along a probe, from the smallest x of a region that shows it to the largest."""

    probe: str
    what: str
    smallest: float
    largest: float
    worst: str

    def __str__(self) -> str:
        where = f"at x = {self.smallest:.3g}" if self.smallest == self.largest else f"from x = {self.smallest:.3g} to {self.largest:.3g}"
        return f"{self.probe}: {self.what} {where}; {self.worst}"


class Points(NamedTuple):
    """A loss along a probe: float32 against exact."""

    x: Array
    values: Array
    exact: Array
    ulps: Array
    gradient: Array | None

    @property
    def lost(self) -> Array:
        return np.isfinite(self.ulps) & (self.ulps > _LOST)

    @property
    def overflown(self) -> Array:
        return ~np.isfinite(self.values) & np.isfinite(self.exact)

    @property
    def endless(self) -> Array:
        if self.gradient is None:
            return np.zeros(len(self.x), bool)
        return np.isfinite(self.values) & ~np.isfinite(self.gradient).all(axis=-1)


def _points(ops: Ops, suite: Suite, probe: Probe, x: Array) -> Points:
    x = x.astype(np.float32).astype(np.float64)
    pairs = [probe.row(float(number)) for number in x]
    y_true, y_pred = np.array([y for y, _ in pairs]), np.array([p for _, p in pairs]).astype(np.float32).astype(np.float64)
    inputs = Batch(y_true.astype(np.int32) if suite.definition.sparse else y_true.astype(np.float32).astype(np.float64), y_pred)
    inputs = company(suite, inputs, "float32")
    outcome = run_eager(ops, suite, inputs, "float32")
    if outcome.error is not None:
        raise outcome.error
    column = Column(ops.name, False)
    measurement = compare(suite, "float32", inputs, {column: outcome._replace(gradient=None)})
    assert outcome.values is not None
    with np.errstate(over="ignore"):
        exact = measurement.exact.astype(np.float32).astype(np.float64)
    return Points(x, outcome.values, exact, measurement.ulps[column], outcome.gradient)


def _edge(ops: Ops, suite: Suite, probe: Probe, good: float, bad: float, wrong: Callable[[Points], Array]) -> float:
    """The x nearest to ``good`` at which it goes wrong, to the last bit of float32 where ``wrong`` has one edge between the two."""
    while True:
        middle = float(np.float32(math.sqrt(good) * math.sqrt(bad)))
        if middle in (good, bad):
            return bad
        if wrong(_points(ops, suite, probe, np.array([middle])))[0]:
            bad = middle
        else:
            good = middle


_KINDS: Iterable[tuple[str, Callable[[Points], Array]]] = (
    ("loses digits", lambda points: points.lost),
    ("overflows", lambda points: points.overflown),
    ("has a gradient that is not finite", lambda points: points.endless),
)


def findings(loss: object, inputs: str | None = None, backend: str = "numpy", **options: object) -> list[Finding]:
    """Where a loss goes wrong in float32 on a backend; NumPy has no gradients to look at.

    inputs: the kind of input, as in ``lossbackend parity --inputs``.

    >>> from lossbackend import huber
    >>> findings(huber)
    []
    """
    from lossbackend import dispatch

    return search(dispatch.get_backend(backend), suite_of(loss, options, inputs, getattr(loss, "__name__", "loss")))


def search(ops: Ops, suite: Suite) -> list[Finding]:
    """Where the loss of a suite goes wrong in float32."""
    found = []
    for probe in _PROBES[suite.kind]:
        decades = math.log10(probe.largest / probe.smallest)
        x = np.geomspace(probe.smallest, probe.largest, int(decades * _PER_DECADE) + 1).astype(np.float32).astype(np.float64)
        x = np.union1d([0.0, 1.0], x)
        points = _points(ops, suite, probe, x)
        for what, wrong in _KINDS:
            rows = np.flatnonzero(wrong(points))
            # Within a region a few results are right by chance.
            for region in np.split(rows, np.flatnonzero(np.diff(rows) > _PER_DECADE) + 1) if rows.size else []:
                first, last = int(region[0]), int(region[-1])
                smallest = x[first] if first == 0 else _edge(ops, suite, probe, x[first - 1], x[first], wrong)
                largest = x[last] if last == len(x) - 1 else _edge(ops, suite, probe, x[last + 1], x[last], wrong)
                worst = _worst(ops, suite, probe, points, region, what, smallest)
                found.append(Finding(probe.description, what, float(smallest), float(largest), worst))
    return found


def _worst(ops: Ops, suite: Suite, probe: Probe, points: Points, region: Array, what: str, smallest: float) -> str:
    if what == "loses digits":
        row = int(region[np.argmax(points.ulps[region])])
        digits = min(math.log10(points.ulps[row]), _DIGITS)
        value, exact = np.float32(points.values[row]), np.float32(points.exact[row])
        return f"{digits:.1f} of {_DIGITS:.1f} digits at x = {points.x[row]:.3g}: {value!s}, exact {exact!s}"
    at = _points(ops, suite, probe, np.array([smallest]))
    if what == "overflows":
        return f"there {np.float32(at.values[0])!s}, exact {np.float32(at.exact[0])!s}"
    assert at.gradient is not None
    return f"there {at.gradient[0].tolist()}, and the loss is {np.float32(at.values[0])!s}"
