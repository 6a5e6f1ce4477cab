"""Pictures of losses: the value and the gradient along a line of predictions, with kinks and with the ranges where nothing is learnt.

What is drawn is exact: the definition in arithmetic of 1024 bits, as in ``lossbackend.parity``, and its slopes on both sides of every point. A kink
is where these disagree, and a flat range is where both are 0, so that neither is an effect of rounding.
"""

import difflib
import io
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lossbackend import cli, dispatch, registry
from lossbackend.definition import Definition, loss_of
from lossbackend.files import error_text, listed, replace
from lossbackend.parity.cases import KINDS, Array, Batch, Suite, suite_of, suites
from lossbackend.parity.measure import laid_out

# Okabe and Ito's colours, which the colour-blind can tell apart, on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
_DASHES = ("-", "--", ":", "-.")
_LINE: dict[str, Any] = {"color": "#555555", "linestyle": (0, (4, 3)), "linewidth": 0.8}
_DOT: dict[str, Any] = {"marker": "o", "markersize": 6.0}
# Up to about here, the axis of the slopes of a probability is linear.
_LINEAR = 0.03
# So many letters fit into the width of a picture.
_WIDE = 95
_STYLE = {
    "svg.hashsalt": "lossbackend",
    "font.size": 9.0,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}

_GRADIENT = "∂ loss / ∂ y_pred"
_INTERVALS = 160
# One-sided differences in 1024 bits: what this step leaves out is invisible, and the difference still has 700 good bits.
_STEP = 2.0**-300
# A slope below this is the last bits of a constant; that of a square beside its minimum is a step.
_NOISE = 2.0**-600
# A slope above this is no slope: the value jumps. That of a square root beside 0 is 2^150.
_CLIFF = 2.0**230
# A jump that is seen as one: of the slope, relative to the slope; of the value, relative to the height of the picture.
_JUMP = 0.01
# A change of the value, relative to the height of the picture, that a slope of 0 does not explain.
_CHANGE = 1e-9
# A loss with ten kinks takes a thousand points.
_MOST = 20_000
# Two numbers as close as this, relative to themselves or absolutely, have nothing between them.
_ADJACENT, _NOTHING = 4e-16, 1e-24


class Axis(NamedTuple):
    """A horizontal axis."""

    symbol: str
    label: str
    low: float
    high: float
    scale: str = "linear"
    ticks: Sequence[float] | None = None

    def grid(self) -> Array:
        if self.scale == "logit":
            ends = np.log([self.low, self.high]) - np.log1p([-self.low, -self.high])
            inside = 1 / (1 + np.exp(-np.linspace(ends[0], ends[1], _INTERVALS + 1)))[1:-1]
            return np.array([self.low, *inside, self.high])
        # Rounded, so that 0 is one of them.
        inside = np.linspace(self.low, self.high, _INTERVALS + 1)[1:-1]
        return np.array([self.low, *np.where(abs(inside) < 1e-12 * (self.high - self.low), 0.0, inside), self.high])

    def number(self, value: float) -> str:
        if 1e-15 < 1 - value < 1e-3:
            return f"1 − {self.number(float(f'{1 - value:.2g}'))}"
        if self.scale == "linear" and abs(value) < 1e-14 * (self.high - self.low):
            return "0"
        return re.sub("e([+-])0*", r"e\1", f"{value:.4g}").replace("e+", "e").replace("-", "−", value < 0)


ERROR = Axis("e", "error e = p − y", -3.0, 3.0)
AMOUNT = Axis("p", "prediction p", -1.0, 5.0)
MARGIN = Axis("m", "margin m = y p", -2.0, 3.0)
# 1e-7 is no further from 0 than the line is wide, unless the axis is stretched there.
PROBABILITY = Axis("p", "probability p (stretched towards 0 and 1)", 1e-9, 1 - 1e-9, "logit")
LOGIT = Axis("z", "logit z", -6.0, 6.0)
RATE = Axis("p", "rate p", 0.0, 8.0)
LOG_RATE = Axis("z", "logarithm of the rate, z", -4.0, 3.0)
ANGLE = Axis("θ", "angle θ between y and y_pred, in degrees", -180.0, 180.0, ticks=(-180, -90, 0, 90, 180))


class View(NamedTuple):
    """The line of predictions that a kind of input is drawn along."""

    axis: Axis
    labels: Mapping[str, Any]
    """y_true of each curve, by what the legend says; curves that turn out to be one are drawn once."""
    line: Callable[[Any, Any], Sequence[Any]]
    """The entries of y_pred, of x and y_true."""
    direction: Callable[[Array], Sequence[Any]] = lambda x: [1.0]
    """Where y_pred goes for the slope."""
    gradient: str = _GRADIENT
    y_pred: str = ""
    """The entries in words, where there is more than one."""


def _itself(x: Any, y: Any) -> Sequence[Any]:
    return [x]


def _of_two_classes(axis: Axis, label: str, y: Any) -> View:
    line: Callable[[Any, Any], Sequence[Any]] = (lambda x, y: [x, 1 - x]) if axis is PROBABILITY else (lambda x, y: [x, 0 * x])
    y_pred = "(p, 1 − p)" if axis is PROBABILITY else "(z, 0)"
    return View(axis, {label: y}, line, lambda x: [1.0, 0.0], "∂ loss / ∂ y_pred[0]", y_pred)


_COUNTS = {"y = 0": [0.0], "y = 1": [1.0], "y = 3": [3.0]}
_BINARY = {"y = 1": [1.0], "y = 0": [0.0]}

# For every kind of input that lossbackend.parity knows.
VIEWS = {
    "reals": View(ERROR, {"y = 1": [1.0], "y = 2": [2.0]}, lambda x, y: [y[0] + x]),
    "positives": View(AMOUNT, {"y = 1": [1.0], "y = 3": [3.0]}, _itself),
    "signs": View(MARGIN, {"y = 1": [1.0]}, _itself),
    "binary": View(PROBABILITY, _BINARY, _itself),
    "binary-logits": View(LOGIT, _BINARY, _itself),
    "classes": _of_two_classes(PROBABILITY, "y = (1, 0)", [1.0, 0.0]),
    "distributions": _of_two_classes(PROBABILITY, "y = (1, 0)", [1.0, 0.0]),
    "class-logits": _of_two_classes(LOGIT, "y = (1, 0)", [1.0, 0.0]),
    "ids": _of_two_classes(PROBABILITY, "y = class 0", 0),
    "id-logits": _of_two_classes(LOGIT, "y = class 0", 0),
    "counts": View(RATE, _COUNTS, _itself),
    "log-rates": View(LOG_RATE, _COUNTS, _itself),
    "vectors": View(
        ANGLE,
        {"y = (1, 0)": [1.0, 0.0]},
        lambda x, y: [np.cos(np.radians(x.astype(float))), np.sin(np.radians(x.astype(float)))],
        lambda x: [-np.sin(np.radians(x)), np.cos(np.radians(x))],
        "∂ loss / ∂ θ, in radians",
        "(cos θ, sin θ)",
    ),
}


class Flat(NamedTuple):
    """A range of x where the gradient is exactly 0."""

    low: float
    high: float
    saturated: bool
    """Whether the loss is above its minimum there: there is something to learn, and nothing is learnt."""


class Curve(NamedTuple):
    """A loss along its line for one y_true.

    Every x stands there three times: with the slope on its left, NaN at a kink, the slope on its right. The value and the slope are NaN where a jump
    follows.
    """

    suite: Suite
    label: str
    x: Array
    values: Array
    slopes: Array
    kinks: tuple[float, ...]
    jumps: tuple[float, ...]
    """Where the value itself jumps; the slope may, too."""
    flats: tuple[Flat, ...]


# What to draw


def resolve(names: Sequence[str], options: Mapping[str, Any] | None = None, kind: str | None = None) -> list[Suite]:
    """The losses that a person names, each once, with those of the options that it has; ``kind`` is the kind of input of the person's own losses.

    ValueError or TypeError for a name that is none, an option that none of them has, or a value that it cannot have.

    >>> [suite.label for suite in resolve(["mse", "huber_loss"], {"delta": 2.0})]
    ['mean_squared_error', 'huber[delta=2.0]']
    """
    given = dict(options or {})
    found = [cli.find_loss(name) for name in names]
    if kind is not None and kind not in KINDS:
        raise ValueError(f"--inputs: {kind!r} is none of {listed(KINDS)}")
    if kind is not None and all(_is_built_in(own.definition) for own in found):
        raise ValueError("--inputs is for a loss of your own, module:function; what the built-in losses take is known")
    for option in given:
        if not any(option in own.definition.options for own in found):
            near = difflib.get_close_matches(option, [known for own in found for known in own.definition.options], 1)
            nearest = next(own for own in found if not near or near[0] in own.definition.options)
            # Raises, with the near match.
            nearest.definition.complete({**nearest.options, option: given[option]})
    resolved = {}
    for name, own in zip(names, found, strict=True):
        definition = own.definition
        chosen = definition.changed({**own.options, **{option: value for option, value in given.items() if option in definition.options}})
        definition.complete(chosen)
        suite = _built_in(definition, chosen) if _is_built_in(definition) else suite_of(loss_of(definition), chosen, kind, name)
        resolved[suite.label] = suite
    return list(resolved.values())


def _is_built_in(definition: Definition) -> bool:
    function = registry.functions().get(definition.name)
    return function is not None and function.definition is definition


def _built_in(definition: Definition, options: Mapping[str, Any]) -> Suite:
    """The last suite whose options are among these: from_logits and its like, which change the kind of input, come last."""
    fitting = [suite for suite in suites([definition.name]) if suite.options.items() <= options.items()]
    return fitting[-1]._replace(options=options)


def variants() -> dict[str, Suite]:
    """Every built-in loss, and once more with the option that makes it take logits or logarithms; by the name of its file in a gallery.

    >>> [name for name in variants() if "poisson" in name]
    ['poisson', 'poisson_log_input']
    """
    first: dict[tuple[str, str], Suite] = {}
    for suite in suites():
        first.setdefault((suite.source, suite.kind), suite)
    return {"_".join([suite.source, *suite.options]): suite for suite in first.values()}


# Values and slopes


class _Line:
    """A loss along the line of its view, for one y_true."""

    def __init__(self, suite: Suite, y_true: Any) -> None:
        self.suite, self.y_true, self.view = suite, y_true, VIEWS[suite.kind]

    def look(self, x: Array) -> tuple[Array, Array, Array]:
        """The value at x, and the slopes on its left and on its right, as float64."""
        ops = dispatch.adapter(dispatch.REFERENCE)
        y_pred = ops.asarray(np.stack(self.view.line(ops.asarray(x), self.y_true), axis=-1))
        step = np.stack(np.broadcast_arrays(*self.view.direction(x), x)[:-1], axis=-1) * _STEP
        values, before, after = np.split(self._exact(np.concatenate([y_pred, y_pred - step, y_pred + step])), 3)
        with np.errstate(all="ignore"):
            slopes = (((end - start) / _STEP).astype(float) for start, end in ((before, values), (values, after)))
            left, right = (np.where(abs(slope) < _NOISE, 0.0, np.where(abs(slope) > _CLIFF, np.nan, slope)) for slope in slopes)
            return values.astype(float), left, right

    def _exact(self, y_pred: Array) -> Array:
        labels = np.full(len(y_pred), self.y_true) if KINDS[self.suite.kind].ids else np.tile(np.array(self.y_true), (len(y_pred), 1))
        whole = Batch(labels, y_pred)
        # Each point is a call of its own where the samples of a call depend on each other.
        calls = [Batch(labels[i : i + 1], y_pred[i : i + 1]) for i in range(len(y_pred))] if self.suite.interacting else [whole]
        with dispatch.use_backend(dispatch.REFERENCE), np.errstate(all="ignore"):
            try:
                return np.concatenate([np.ravel(self.suite.function(*laid_out(self.suite, call), **self.suite.options)) for call in calls])
            except (ValueError, TypeError, ImportError):
                raise
            except Exception as error:  # the formula may be a user's own
                raise ValueError(f"{self.suite.label}: {error_text(error)}") from error


def _is_jump(left: Array, right: Array, scale: float) -> Array:
    jump: Array = abs(left - right) > _JUMP * np.fmax(np.fmax(abs(left), abs(right)), scale)
    return jump


def _traced(line: _Line, axis: Axis) -> tuple[Array, Array, Array, Array, float, float]:
    """The grid with every point that halving found on the way to a kink, a jump or the end of a flat range, ascending.

    Returns x, the values, the slopes on the left and on the right, a typical slope, and the height of the picture.
    """
    x = axis.grid()
    points = [(x, *line.look(x))]
    _, values, left, right = points[0]
    if not np.isfinite(values).any():
        built_in = _is_built_in(line.suite.definition)
        advice = "choose another --range" if built_in else "name the kind of its input with --inputs KIND, or choose another --range"
        raise ValueError(f"{line.suite.label}: not a finite number for any {axis.label.partition(' (')[0]}; {advice}")
    # Outside the axis there may be no loss.
    left[0], right[-1] = right[0], left[-1]
    typical = abs(right[np.isfinite(right) & (right != 0)])
    scale = float(np.median(typical)) if typical.size else 1.0
    height = float(np.ptp(_limits([values])))
    # Intervals: both ends, the slopes and the values there.
    ends = np.stack([x[:-1], x[1:], right[:-1], left[1:], values[:-1], values[1:]])
    while True:
        ends = ends[:, ends[1] - ends[0] > _ADJACENT * np.fmax(abs(ends[0]), abs(ends[1])) + _NOTHING]
        start, end, after, before, low, high = ends
        if not start.size:
            break
        if sum(part[0].size for part in points) + start.size > _MOST:
            raise ValueError(
                f"{line.suite.label}: the loss or its slope jumps nearly everywhere: does its formula leave ops? If not, choose a narrower --range"
            )
        middle = start + (end - start) / 2
        values, left, right = line.look(middle)
        points.append((middle, values, left, right))
        # A smooth slope changes by as much in both halves, and less in each of them than in the whole; a smooth value, too.
        size = np.fmax(np.fmax(abs(after), abs(before)), scale)
        open_ = (abs((left - after) - (before - right)) > _JUMP * size) | (abs(before - after) > size / 2)
        open_ |= abs((values - low) - (high - values)) > _JUMP * height
        open_ |= (after == 0) != (before == 0)
        open_ |= (after == 0) & (before == 0) & (abs(high - low) > _CHANGE * height)
        halves = np.stack([start, middle, after, left, low, values]), np.stack([middle, end, right, before, values, high])
        ends = np.concatenate([half[:, open_] for half in halves], axis=1)
    x, values, left, right = (np.concatenate(parts) for parts in zip(*points, strict=True))
    order = np.argsort(x)
    return x[order], values[order], left[order], right[order], scale, height


def _curve(suite: Suite, label: str, y_true: Any, axis: Axis) -> Curve:
    with np.errstate(all="ignore"):
        x, values, left, right, scale, height = _traced(_Line(suite, y_true), axis)
        steps, rises = np.diff(x), abs(np.diff(values))
        adjacent = steps <= _ADJACENT * np.fmax(abs(x[1:]), abs(x[:-1])) + _NOTHING
        # Beside a pole the slope explains the change of the value.
        explained = 2 * steps * np.fmax(np.fmax(abs(right[:-1]), abs(left[1:])), 0.0)
        jumps = adjacent & np.isfinite(rises) & (rises > _JUMP * height) & (rises > explained)
        at = _is_jump(left, right, scale)
        between = adjacent & _is_jump(right[:-1], left[1:], scale) & ~jumps
    # The gaps in the lines; the last x has nothing that follows.
    follows, gap = np.append(jumps | between, False), np.append(jumps, False)
    return Curve(
        suite,
        label,
        np.repeat(x, 3),
        np.stack([values, values, np.where(gap, np.nan, values)], axis=-1).ravel(),
        np.stack([left, np.where(at, np.nan, right), np.where(follows, np.nan, right)], axis=-1).ravel(),
        _places(x, between, x[at]),
        _places(x, jumps),
        tuple(_flats(x, values, left, right, _CHANGE * height)),
    )


def _places(x: Array, between: Array, known: Iterable[float] = ()) -> tuple[float, ...]:
    """The places between two neighbours, and those that are known, ascending, each once."""
    places = sorted([*known, *(_between(*pair) for pair in zip(x[:-1][between], x[1:][between], strict=True))])
    return tuple(float(place) for i, place in enumerate(places) if i == 0 or not np.isclose(place, places[i - 1], rtol=1e-12, atol=1e-18))


def _flats(x: Array, values: Array, left: Array, right: Array, least: float) -> Iterable[Flat]:
    """The ranges where the gradient is 0; where it becomes so inside of the axis, halving has left two numbers."""
    flat = (right[:-1] == 0) & (left[1:] == 0) & (abs(np.diff(values)) <= least)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]])))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        low = _between(x[first - 1], x[first]) if first > 0 and left[first] == 0 else x[first]
        high = _between(x[last], x[last + 1]) if last < len(x) - 1 and right[last] == 0 else x[last]
        yield Flat(float(low), float(high), bool(values[first] > np.nanmin(values) + least))


def _between(low: float, high: float) -> float:
    """The place that halving has left these two numbers for: most likely one of few digits."""
    if low <= 0 <= high:
        return 0.0
    short = float(f"{high:.15g}")
    return short if low <= short <= high else high


def axis_of(suites: Sequence[Suite], limits: tuple[float, float] | None = None) -> Axis:
    """The axis that these losses of one view share. It goes as far as it takes to see what δ and ε do.

    Between ``limits`` it is not stretched, so that the curves look as they do in a textbook.
    """
    axis = VIEWS[suites[0].kind].axis
    if limits is not None:
        low, high = limits
        if not low < high or not np.isfinite(high - low):
            raise ValueError(f"--range: two numbers, the smaller one first, got {low:g} and {high:g}")
        if high - low < max(1e-18, 1e-12 * max(abs(low), abs(high))):
            raise ValueError(f"--range: {low:g} and {high:g} are too close to each other")
        return Axis(axis.symbol, axis.label.partition(" (")[0], low, high)
    options = [(suite.definition, suite.definition.complete(dict(suite.options))) for suite in suites]
    if axis is ERROR:
        reach = max([axis.high, *(2.0 * values[name] for definition, values in options for name in definition.numbers)])
        return axis._replace(low=-reach, high=reach)
    if axis is PROBABILITY:
        low = min([axis.low, *(values[name] / 100 for definition, values in options for name in definition.epsilons)])
        return axis._replace(low=low, high=1 - max(low, 1e-15))
    return axis


def curves(suites: Sequence[Suite], axis: Axis) -> list[Curve]:
    """The curves of losses of one view; ValueError for a loss that is NaN or infinite all along.

    >>> mae, = curves(resolve(["mae"]), ERROR)
    >>> mae.kinks, mae.flats
    ((0.0,), ())
    """
    drawn: list[Curve] = []
    for suite in suites:
        own: list[Curve] = []
        for label, y_true in VIEWS[suite.kind].labels.items():
            curve = _curve(suite, label, y_true, axis)
            if own and np.array_equal(own[0].values, curve.values, equal_nan=True):
                # The same whatever y is.
                own[0] = own[0]._replace(label="")
            else:
                own.append(curve)
        drawn += own
    return drawn


# Words


def _position(flat: Flat, axis: Axis) -> str:
    ends = flat.low > axis.low, flat.high < axis.high
    low, high = axis.number(flat.low), axis.number(flat.high)
    if not any(ends):
        return "everywhere"
    if all(ends):
        return f"{low} ≤ {axis.symbol} ≤ {high}"
    return f"{axis.symbol} ≥ {low}" if ends[0] else f"{axis.symbol} ≤ {high}"


def _positions(places: Sequence[float], axis: Axis, most: int = 6) -> str:
    """The places, those that print alike once."""
    words = list(dict.fromkeys(f"±{axis.number(abs(place))}" if place and -place in places else axis.number(place) for place in places))
    return f"{axis.symbol} = {', '.join(words[:most])}{', …' if len(words) > most else ''}"


def _names(drawn: Sequence[Curve]) -> list[str]:
    """What the legend calls each curve: nothing where the title says it all."""
    several = len({curve.suite.label for curve in drawn}) > 1
    parts = []
    for curve in drawn:
        y_pred = VIEWS[curve.suite.kind].y_pred
        parts.append([curve.suite.label if several else "", curve.label, y_pred and f"y_pred = {y_pred}"])
    return [", ".join(filter(None, part)) for part in parts]


def _whose(some: Sequence[Curve], drawn: Sequence[Curve]) -> str:
    """The curves in brackets, unless these are all."""
    if len(some) == len(drawn):
        return ""
    losses = dict.fromkeys(curve.suite.label for curve in drawn)
    names = []
    for loss in losses:
        own, labels = ([curve.label for curve in group if curve.suite.label == loss] for group in (drawn, some))
        if labels:
            words = [loss] if len(losses) > 1 else []
            names.append(" with ".join(words + ([" and ".join(labels)] if labels != own else [])))
    return f" ({', '.join(names)})"


KINK, JUMP, SATURATED, FLAT = "kink", "jump", "saturated", "flat"
_LEGEND = {
    KINK: "kink",
    JUMP: "jump of the loss",
    SATURATED: "saturated, gradient 0 with the loss above its minimum",
    FLAT: "gradient 0 with the loss at its minimum",
}


def marks(axis: Axis, drawn: Sequence[Curve]) -> dict[str, str]:
    """What is marked, and where, with the curves that it belongs to unless that is all of them.

    >>> marks(MARGIN, curves(resolve(["hinge"]), MARGIN))
    {'kink': 'm = 1', 'flat': 'm ≥ 1'}
    """
    found: dict[str, dict[str, list[Curve]]] = {what: {} for what in _LEGEND}
    for curve in drawn:
        for what, places in ((KINK, curve.kinks), (JUMP, curve.jumps)):
            if places:
                found[what].setdefault(_positions(places, axis), []).append(curve)
        for flat in curve.flats:
            found[SATURATED if flat.saturated else FLAT].setdefault(_position(flat, axis), []).append(curve)
    return {what: ", ".join(f"{where}{_whose(some, drawn)}" for where, some in places.items()) for what, places in found.items() if places}


# Drawing


class Panel(NamedTuple):
    """The losses of one horizontal axis."""

    axis: Axis
    curves: list[Curve]


def panels(suites: Sequence[Suite], limits: tuple[float, float] | None = None) -> list[Panel]:
    """The losses by horizontal axis, each a column of the picture; ``limits`` are those of the only one."""
    by_axis: dict[Axis, list[Suite]] = {}
    for suite in suites:
        by_axis.setdefault(VIEWS[suite.kind].axis, []).append(suite)
    if limits is not None and len(by_axis) > 1:
        raise ValueError(f"--range: these losses have {len(by_axis)} horizontal axes, {listed(axis.label for axis in by_axis)}: draw them one by one")
    return [Panel(axis, curves(own, axis)) for own in by_axis.values() for axis in [axis_of(own, limits)]]


def draw(columns: Sequence[Panel]) -> Figure:
    """The picture: a column for each panel, the loss above its gradient."""
    with matplotlib.style.context(["default", _STYLE]):
        # A line for each entry of the longest legend.
        entries = max(len(panel.curves) + len(marks(*panel)) for panel in columns)
        wide = min(len(columns), 3)
        high = -(-len(columns) // wide)
        figure = Figure(figsize=(7.0 * wide, (4.6 + 0.2 * entries) * high), dpi=150, layout="constrained")
        for part, panel in zip(figure.subfigures(high, wide, squeeze=False).flat, columns, strict=False):
            _draw_panel(part, panel)
    return figure


def _draw_panel(part: Any, panel: Panel) -> None:
    axis, drawn = panel
    losses = list(dict.fromkeys(curve.suite.label for curve in drawn))
    above, below = part.subplots(2, 1, sharex=True)
    if len(losses) == 1:
        formula = (drawn[0].suite.definition.formula.__doc__ or "").strip().partition("\n")[0].replace("``", "")
        part.suptitle(losses[0], fontsize=12, fontweight="bold")
        # Lines of about one length.
        lines = len(formula) // _WIDE + 1
        above.set_title("\n".join(textwrap.wrap(formula, len(formula) // lines + 12)), fontsize=8)
    handles: list[Any] = []
    position = dict.fromkeys(losses, 0)
    for index, (curve, name) in enumerate(zip(drawn, _names(drawn), strict=True)):
        loss, nth = losses.index(curve.suite.label), position[curve.suite.label]
        position[curve.suite.label] += 1
        style: dict[str, Any] = {
            "color": _COLOURS[(loss if len(losses) > 1 else nth) % len(_COLOURS)],
            "linestyle": _DASHES[nth % len(_DASHES)],
            # Curves that lie on each other are all seen.
            "linewidth": 1.5 + 2.0 * (len(drawn) - 1 - index) / len(drawn),
        }
        above.plot(curve.x, curve.values, **style)
        below.plot(curve.x, curve.slopes, **style)
        if name:
            handles.append(Line2D([], [], label=name, **style))
        for kink in curve.kinks:
            above.plot(kink, curve.values[np.searchsorted(curve.x, kink)], **{**_DOT, "color": style["color"]}, zorder=3)
    for ax in (above, below):
        for place in {place for curve in drawn for place in curve.kinks + curve.jumps}:
            ax.axvline(place, **_LINE, zorder=1)
        # Where one curve is saturated and another one is flat, the hatches cross.
        for flat in {flat for curve in drawn for flat in curve.flats}:
            ax.axvspan(flat.low, flat.high, **_shade(flat.saturated), zorder=0)
    for what, where in marks(*panel).items():
        # A line does not end inside of "p = 1".
        label = "\n".join(textwrap.wrap(re.sub(r" ([=≤≥−]) ", "\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}", f"{_LEGEND[what]}: {where}"), _WIDE))
        line = {KINK: {**_DOT, **_LINE}, JUMP: _LINE}.get(what)
        handles.append(Patch(**_shade(what == SATURATED), label=label) if line is None else Line2D([], [], **line, label=label))
    above.set_ylabel("loss")
    gradients = {VIEWS[curve.suite.kind].gradient for curve in drawn}
    below.set_ylabel(gradients.pop() if len(gradients) == 1 else _GRADIENT)
    below.set_xlabel(axis.label)
    below.set_xscale(axis.scale)
    below.set_xlim(axis.low, axis.high)
    if axis.ticks is not None:
        below.set_xticks(axis.ticks)
    above.set_ylim(_limits([np.interp(axis.grid(), curve.x, curve.values) for curve in drawn]))
    if axis.scale == "logit":
        # 1/p is as far away from the rest as p is from 0. Where symlog goes from one scale to the other, it would draw a kink.
        squeezed = [np.arcsinh(curve.slopes / _LINEAR) for curve in drawn]
        low, high = (_LINEAR * np.sinh(end) for end in _limits(squeezed))
        tens = 10.0 ** np.arange(0, 300, 2)
        below.set_yscale("asinh", linear_width=_LINEAR)
        below.set_ylim(low, high)
        below.set_yticks([tick for tick in (*-tens, 0.0, *tens) if low <= tick <= high])
        below.minorticks_off()
    else:
        below.set_ylim(_limits([np.interp(axis.grid(), curve.x, curve.slopes) for curve in drawn]))
    if handles:
        part.legend(handles=handles, loc="outside lower center", frameon=False)


def _shade(saturated: bool) -> dict[str, Any]:
    if saturated:
        return {"facecolor": "#E69F00", "alpha": 0.35, "linewidth": 0.0, "hatch": "//", "edgecolor": "#A06000"}
    return {"facecolor": "#999999", "alpha": 0.3, "linewidth": 0.0, "hatch": "\\\\", "edgecolor": "#666666"}


def _limits(rows: Sequence[Array]) -> tuple[float, float]:
    """All of it, unless a pole would leave nothing else to be seen."""
    numbers = np.concatenate(rows)
    numbers = numbers[np.isfinite(numbers)]
    low, high = float(numbers.min()), float(numbers.max())
    inner_low, inner_high = np.quantile(numbers, [0.05, 0.95])
    spread = inner_high - inner_low
    if 0 < 2 * spread < inner_low - low:
        low = inner_low - spread / 8
    if 0 < 2 * spread < high - inner_high:
        high = inner_high + spread / 8
    room = 0.06 * (high - low) or 1.0
    return low - room, high + room


def rendered(figure: Figure, suffix: str) -> bytes:
    """The picture as PNG or SVG: the same bytes for the same picture, on one version of matplotlib."""
    buffer = io.BytesIO()
    with matplotlib.style.context(["default", _STYLE]):
        figure.savefig(buffer, format=suffix, metadata={"Date": None} if suffix == "svg" else {"Software": None})
    return buffer.getvalue()


def save(figure: Figure, target: Path) -> None:
    """Write the picture, in the format of the file's end; ValueError where that fails, and then ``target`` is as it was."""
    picture = rendered(figure, target.suffix.lower().removeprefix("."))
    replace(target, lambda temporary: temporary.write_bytes(picture))


def gallery(
    directory: str | Path, format: str = "svg", progress: Callable[[Sequence[tuple[str, Suite]]], Iterable[tuple[str, Suite]]] = iter
) -> dict[str, Path]:
    """A picture of every built-in loss, and of its variant for logits, in that directory, which is made; the files by name.

    ``progress`` is given what will be drawn, and hands it out one by one. ``format`` is "png" or "svg". ValueError where a file cannot be written.
    """
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--gallery: no directory can be made of {str(directory)!r}: {error.strerror or error}") from error
    files = {}
    for name, suite in progress(list(variants().items())):
        files[name] = folder / f"{name}.{format}"
        save(draw(panels([suite])), files[name])
    return files
