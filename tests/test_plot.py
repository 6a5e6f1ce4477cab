"""Pictures of losses. Expected values and slopes are textbook formulas in Python's math, and kinks are where a textbook has them."""

import functools
import io
import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("click")
pytest.importorskip("rich")
pytest.importorskip("mpmath")
pytest.importorskip("matplotlib")

import matplotlib
from matplotlib.image import imread

import lossbackend
import lossbackend.backends
from lossbackend import cli, dispatch, plot, registry
from lossbackend.cli import main
from lossbackend.parity.cases import KINDS

EPSILON = 1e-7

OWN = """
import numpy as np
import lossbackend as lb
from lossbackend.definition import Probability, ProbabilityOrLogit

@lb.loss
def dead_zone(ops, y_true, y_pred, *, width=0.003):
    print("noise")
    return ops.mean(ops.relu(ops.abs(y_pred - y_true) - width), axis=-1)

@lb.loss
def soft_zone(ops, y_true, y_pred, *, width=1 / 3):
    return ops.mean(ops.square(ops.relu(ops.abs(y_pred - y_true) - width)), axis=-1)

@lb.loss
def off_centre(ops, y_true, y_pred):
    return ops.mean(ops.relu(ops.abs(y_pred - y_true - 0.01) - 0.004), axis=-1)

@lb.loss
def kinkless(ops, y_true, y_pred, *, scale=1e-5):
    return ops.mean(ops.sqrt(ops.square(y_pred - y_true) + scale**2), axis=-1)

@lb.loss
def root(ops, y_true, y_pred):
    return ops.mean(ops.sqrt(ops.abs(y_pred - y_true)), axis=-1)

@lb.loss
def together(ops, y_true, y_pred):
    error = ops.abs(y_pred - y_true)
    return ops.mean(error, axis=-1) * ops.mean(error)

@lb.loss
def unmarked(ops, y_true, y_pred):
    return -ops.mean(y_true * ops.log(y_pred), axis=-1)

@lb.loss
def marked(ops, y_true: Probability, y_pred: ProbabilityOrLogit):
    return -ops.mean(y_true * ops.log(y_pred), axis=-1)

@lb.loss
def nowhere(ops, y_true, y_pred):
    return ops.mean(ops.log(-ops.square(y_pred) - 1.0), axis=-1)

@lb.loss
def step(ops, y_true, y_pred, *, edge=0.5):
    return ops.mean(ops.where(y_pred - y_true > edge, 1.0, 0.0), axis=-1)

@lb.loss
def raised(ops, y_true, y_pred):
    e = y_pred - y_true
    return ops.mean(ops.where(e > 0.33, ops.square(e) + 1.0, ops.square(e)), axis=-1)

@lb.loss
def bent(ops, y_true, y_pred):
    e = y_pred - y_true
    return ops.mean(ops.where(e > 0.33, 2.0 * e + 1.0, -e), axis=-1)

@lb.loss
def stairs(ops, y_true, y_pred):
    return ops.mean(ops.cast(ops.cast(y_pred - y_true, "int32"), "float64"), axis=-1)

@lb.loss
def fine(ops, y_true, y_pred):
    e = ops.abs(y_pred - y_true)
    return ops.mean(ops.relu(e - 0.25) + ops.relu(e - 0.25001) + e, axis=-1)

@lb.loss
def half(ops, y_true, y_pred):
    return ops.mean(ops.sqrt(y_pred - y_true), axis=-1)

@lb.loss
def pole(ops, y_true, y_pred):
    return -ops.mean(ops.log(ops.abs(y_pred - y_true - 0.3333)), axis=-1)

@lb.loss
def outside(ops, y_true, y_pred):
    return np.mean(np.tanh(np.asarray(y_pred, float) - np.asarray(y_true, float)), axis=-1)

@lb.loss
def broken(ops, y_true, y_pred):
    return {}["nope"]

wide = lb.Huber(2.0)
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory of its own with losses of one's own in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own", raising=False)
    Path("own.py").write_text(OWN, encoding="utf-8")
    yield tmp_path
    sys.modules.pop("own", None)


@pytest.fixture
def run(capsys):
    """Run the command; what it prints where it succeeds. What a loss of one's own prints goes to stderr."""

    def run(*arguments: str, noise: str = "") -> dict[str, str]:
        code = main(["plot", *arguments])
        out, err = capsys.readouterr()
        assert (code, set(err.split())) == (0, set(noise.split()))
        return dict(line.split(maxsplit=1) for line in out.splitlines())

    return run


@pytest.fixture
def mistake(capsys):
    """Run the command on a person's mistake; the one line that it gives."""

    def mistake(*arguments: str) -> str:
        assert main(["plot", *arguments]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert err.startswith("error: ")
        return err.removeprefix("error: ").strip()

    return mistake


@functools.cache
def curves(name: str, kind: str | None = None, limits: tuple[float, float] | None = None, **options: object) -> list[plot.Curve]:
    (panel,) = plot.panels(plot.resolve([name], options, kind), limits)
    return panel.curves


# What is drawn


def log_cosh(e: float) -> float:
    return math.log(math.cosh(e))


def softplus(z: float) -> float:
    return math.log1p(math.exp(z))


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def sign(x: float) -> float:
    return (x > 0) - (x < 0)


def msle(y: float) -> tuple:
    return (
        lambda p: (math.log1p(max(p, EPSILON)) - math.log1p(y)) ** 2,
        lambda p: 2 * (math.log1p(p) - math.log1p(y)) / (1 + p) if p > EPSILON else 0.0,
    )


def poisson(y: float) -> tuple:
    return lambda p: p - y * math.log(p + EPSILON), lambda p: 1 - y / (p + EPSILON)


def log_poisson(y: float) -> tuple:
    return lambda z: math.exp(z) - y * z, lambda z: math.exp(z) - y


def clipped(p: float) -> float:
    return -math.log(max(p, EPSILON))


LIKELY = (clipped, lambda p: -1 / p if p > EPSILON else 0.0)
UNLIKELY = (lambda p: clipped(1 - p), lambda p: 1 / (1 - p) if 1 - p > EPSILON else 0.0)
# p / (p + q) with q fixed has the slope q.
SHARE = (clipped, lambda p: -(1 - p) / p if p > EPSILON else 0.0)
LOGIT = (lambda z: softplus(-z), lambda z: sigmoid(z) - 1)
CATEGORICAL_HINGE = (lambda z: max(0.0, 1 - z), lambda z: -1.0 if z < 1 else 0.0)

# Of each curve: the loss and its slope.
FORMULAS = {
    "mean_squared_error": [(lambda e: e * e, lambda e: 2 * e)],
    "mean_absolute_error": [(abs, sign)],
    "mean_absolute_percentage_error": [(lambda e: 100 * abs(e), lambda e: 100 * sign(e)), (lambda e: 50 * abs(e), lambda e: 50 * sign(e))],
    "mean_squared_logarithmic_error": [msle(1), msle(3)],
    "log_cosh": [(log_cosh, math.tanh)],
    "huber": [(lambda e: e * e / 2 if abs(e) <= 1 else abs(e) - 0.5, lambda e: max(-1.0, min(1.0, e)))],
    "cosine_similarity": [(lambda t: -math.cos(math.radians(t)), lambda t: math.sin(math.radians(t)))],
    "hinge": [(lambda m: max(0.0, 1 - m), lambda m: -1.0 if m < 1 else 0.0)],
    "squared_hinge": [(lambda m: max(0.0, 1 - m) ** 2, lambda m: -2 * max(0.0, 1 - m))],
    "categorical_hinge": [CATEGORICAL_HINGE],
    "binary_crossentropy": [LIKELY, UNLIKELY],
    "binary_crossentropy_from_logits": [LOGIT, (softplus, sigmoid)],
    "categorical_crossentropy": [SHARE],
    "categorical_crossentropy_from_logits": [LOGIT],
    "sparse_categorical_crossentropy": [SHARE],
    "sparse_categorical_crossentropy_from_logits": [LOGIT],
    "kl_divergence": [LIKELY],
    "kl_divergence_from_logits": [LOGIT],
    "poisson": [poisson(0), poisson(1), poisson(3)],
    "poisson_log_input": [log_poisson(0), log_poisson(1), log_poisson(3)],
}


@pytest.mark.parametrize("name", list(plot.variants()))
def test_curves_are_the_textbook_formulas(name):
    (panel,) = plot.panels([plot.variants()[name]])
    assert len(panel.curves) == len(FORMULAS[name])
    for curve, (loss, slope) in zip(panel.curves, FORMULAS[name], strict=True):
        # Beside a kink it depends on the last bit.
        away = np.array([all(abs(x - kink) > 1e-9 * abs(kink) for kink in curve.kinks) for x in curve.x])
        x = curve.x[away]
        np.testing.assert_allclose(curve.values[away], [loss(float(value)) for value in x], rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(curve.slopes[away], [slope(float(value)) for value in x], rtol=1e-6, atol=1e-12)
        assert len(set(curve.x)) > 300


def test_every_loss_and_every_kind_of_input_has_a_view():
    assert {suite.source for suite in plot.variants().values()} == set(registry.functions())
    assert set(plot.VIEWS) == set(KINDS)
    assert set(FORMULAS) == set(plot.variants())


# Kinks

ALMOST_1 = 1 - EPSILON


@pytest.mark.parametrize(
    ("name", "options", "kinks"),
    [
        ("mae", {}, [(0.0,)]),
        ("mape", {}, [(0.0,), (0.0,)]),
        ("msle", {}, [(EPSILON,), (EPSILON,)]),
        ("msle", {"epsilon": 0.3}, [(0.3,), (0.3,)]),
        ("hinge", {}, [(1.0,)]),
        ("categorical_hinge", {}, [(1.0,)]),
        ("bce", {}, [(EPSILON,), (ALMOST_1,)]),
        ("bce", {"label_smoothing": 0.1}, [(EPSILON, ALMOST_1), (EPSILON, ALMOST_1)]),
        ("bce", {"epsilon": 1e-12}, [(1e-12,), (1 - 1e-12,)]),
        ("cce", {}, [(EPSILON,)]),
        ("scce", {"epsilon": 0.01}, [(0.01,)]),
        ("kld", {}, [(EPSILON,)]),
        ("mse", {}, [()]),
        ("huber", {}, [()]),
        ("huber", {"delta": 0.013}, [()]),
        ("log_cosh", {}, [()]),
        ("squared_hinge", {}, [()]),
        ("cosine", {}, [()]),
        ("poisson", {}, [(), (), ()]),
        ("poisson", {"log_input": True}, [(), (), ()]),
        ("bce", {"from_logits": True}, [(), ()]),
        ("cce", {"from_logits": True}, [()]),
        ("own:dead_zone", {}, [(-0.003, 0.003)]),
        ("own:dead_zone", {"width": 1 / 3}, [(-1 / 3, 1 / 3)]),
        ("own:off_centre", {}, [(0.006, 0.014)]),
        ("own:kinkless", {}, [()]),
        ("own:root", {}, [(0.0,)]),
        ("own:half", {}, [(0.0,)]),
        ("own:fine", {}, [(-0.25001, -0.25, 0.0, 0.25, 0.25001)]),
        ("own:step", {}, [()]),
        ("own:raised", {}, [()]),
        ("own:bent", {}, [()]),
    ],
)
def test_kinks(name, options, kinks):
    found = curves(name, **options)
    assert len(found) == len(kinks)
    for curve, expected in zip(found, kinks, strict=True):
        assert curve.kinks == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_the_gradient_has_a_gap_at_a_kink():
    (curve,) = curves("mae")
    at = curve.x == 0
    np.testing.assert_array_equal(curve.slopes[at], [-1.0, np.nan, 1.0])
    assert np.isfinite(curve.slopes[~at]).all()


# Jumps


@pytest.mark.parametrize(
    ("name", "options", "jumps"),
    [
        ("own:step", {}, (0.5,)),
        ("own:step", {"edge": 0.75}, (0.75,)),
        ("own:step", {"edge": 1 / 3}, (1 / 3,)),
        ("own:raised", {}, (0.33,)),
        ("own:bent", {}, (0.33,)),
        ("own:stairs", {}, (-2.0, -1.0, 1.0, 2.0)),
        ("own:half", {}, ()),
        ("own:root", {}, ()),
        ("own:pole", {}, ()),
        ("mae", {}, ()),
        ("bce", {}, ()),
        ("cosine", {}, ()),
    ],
)
def test_jumps(name, options, jumps):
    for curve in curves(name, limits=None if name in ("bce", "cosine") else (-2.5, 2.5), **options):
        assert curve.jumps == pytest.approx(jumps, rel=1e-12)


def test_a_jump_is_a_gap_in_the_line():
    (curve,) = curves("own:raised")
    (gap,) = np.flatnonzero(np.isnan(curve.values))
    assert (curve.x[gap], curve.x[gap + 1]) == pytest.approx((0.33, 0.33), rel=1e-15)
    assert (curve.values[gap - 1], curve.values[gap + 1]) == pytest.approx((0.33**2, 0.33**2 + 1))
    assert np.nanmax(abs(curve.slopes)) == 6.0
    np.testing.assert_allclose(np.delete(curve.slopes, gap), 2 * np.delete(curve.x, gap), atol=1e-15)


def test_a_staircase_is_flat_from_jump_to_jump():
    (curve,) = curves("own:stairs", limits=(-2.5, 2.5))
    assert [flat[:2] for flat in curve.flats] == [(-2.5, -2.0), (-2.0, -1.0), (-1.0, 1.0), (1.0, 2.0), (2.0, 2.5)]
    assert [flat.saturated for flat in curve.flats] == [False, True, True, True, True]


# Ranges without a gradient


@pytest.mark.parametrize(
    ("name", "options", "flats"),
    [
        ("bce", {}, [(1e-9, EPSILON, True), (ALMOST_1, 1 - 1e-9, True)]),
        ("cce", {}, [(1e-9, EPSILON, True)]),
        ("scce", {"epsilon": 0.01}, [(1e-9, 0.01, True)]),
        ("kld", {}, [(1e-9, EPSILON, True)]),
        ("msle", {}, [(-1.0, EPSILON, True)] * 2),
        ("hinge", {}, [(1.0, 3.0, False)]),
        ("squared_hinge", {}, [(1.0, 3.0, False)]),
        ("categorical_hinge", {}, [(1.0, 6.0, False)]),
        ("own:dead_zone", {}, [(-0.003, 0.003, False)]),
        ("own:soft_zone", {}, [(-1 / 3, 1 / 3, False)]),
        ("scce", {"ignore_class": 0}, [(1e-9, 1 - 1e-9, False)]),
        ("own:soft_zone", {"width": 0.0123}, [(-0.0123, 0.0123, False)]),
    ],
)
def test_flat_ranges(name, options, flats):
    found = curves(name, **options)
    assert [len(curve.flats) for curve in found] == [1] * len(flats)
    for curve, (low, high, saturated) in zip(found, flats, strict=True):
        (flat,) = curve.flats
        assert (flat.low, flat.high) == pytest.approx((low, high), rel=1e-9)
        assert flat.saturated is saturated


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mse", {}),
        ("mae", {}),
        ("huber", {}),
        ("log_cosh", {}),
        ("cosine", {}),
        ("poisson", {}),
        ("bce", {"from_logits": True}),
        ("cce", {"from_logits": True}),
        ("bce", {"label_smoothing": 0.1}),
    ],
)
def test_nothing_is_flat(name, options):
    assert all(curve.flats == () for curve in curves(name, **options))


def test_where_a_slope_is_too_small_to_be_told_from_0():
    yes, no = curves("bce", from_logits=True, limits=(-1000.0, 1000.0))
    # exp(−z) is 2^-600.
    assert yes.flats == (plot.Flat(pytest.approx(600 * math.log(2)), 1000.0, False),)
    assert no.flats == (plot.Flat(-1000.0, pytest.approx(-600 * math.log(2)), False),)


def test_beyond_the_ends_of_a_probability_both_kinds_of_range_are_found():
    yes, no = curves("bce", limits=(-1.0, 2.0))
    assert yes.flats == (plot.Flat(-1.0, pytest.approx(EPSILON), True), plot.Flat(1.0, 2.0, False))
    assert no.flats == (plot.Flat(-1.0, 0.0, False), plot.Flat(pytest.approx(ALMOST_1), 2.0, True))


# Losses, options, axes


def test_an_option_is_for_the_losses_that_have_it():
    assert [suite.label for suite in plot.resolve(["mse", "huber_loss", "Huber", "own:wide"], {"delta": 0.5})] == [
        "mean_squared_error",
        "huber[delta=0.5]",
    ]


def test_a_loss_object_brings_its_options():
    (curve,) = curves("own:wide")
    assert curve.suite.label == "huber[delta=2.0]"
    assert curve.values[-1] == 2 * (abs(curve.x[-1]) - 1)
    # Far enough to see the line beyond δ.
    assert curve.x[-1] == 4.0


def test_losses_of_one_axis_share_a_panel():
    losses = ["mse", "bce", "hinge", "mae", "cce"]
    assert [[curve.suite.source for curve in panel.curves] for panel in plot.panels(plot.resolve(losses))] == [
        ["mean_squared_error", "mean_absolute_error"],
        ["binary_crossentropy", "binary_crossentropy", "categorical_crossentropy"],
        ["hinge"],
    ]


def test_logits_are_drawn_over_logits():
    for name in ("bce", "cce"):
        (curve, *_) = curves(name, from_logits=True)
        assert curve.x[0] == -6.0
        assert curve.values[0] == pytest.approx(softplus(6.0))


def test_the_kind_of_input_of_ones_own_loss():
    for loss, kind in (("own:marked", None), ("own:unmarked", "binary")):
        (yes, no) = curves(loss, kind)
        np.testing.assert_allclose(yes.values, [-math.log(p) for p in yes.x], rtol=1e-9, atol=1e-15)
        assert not no.values.any()


def test_a_loss_whose_samples_interact_is_drawn_of_one_sample():
    (curve,) = curves("own:together", limits=(-1.0, 1.0))
    np.testing.assert_allclose(curve.values, curve.x**2, rtol=1e-12)


def test_an_axis_option_does_not_change_the_picture():
    for name in ("cosine", "cce"):
        (first,), (last,) = curves(name, axis=0), curves(name)
        np.testing.assert_array_equal(first.values, last.values)


# Words


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["own:dead_zone"], {"kink": "e = ±0.003", "flat": "−0.003 ≤ e ≤ 0.003"}),
        (["own:step"], {"jump": "e = 0.5", "saturated": "e ≥ 0.5", "flat": "e ≤ 0.5"}),
        (["own:raised"], {"jump": "e = 0.33"}),
        (["own:half"], {"kink": "e = 0"}),
        (["own:fine"], {"kink": "e = ±0.25, 0"}),
        (["cce"], {"kink": "p = 1e-7", "saturated": "p ≤ 1e-7"}),
        (["bce"], {"kink": "p = 1e-7 (y = 1), p = 1 − 1e-7 (y = 0)", "saturated": "p ≤ 1e-7 (y = 1), p ≥ 1 − 1e-7 (y = 0)"}),
        (["hinge", "squared_hinge"], {"kink": "m = 1 (hinge)", "flat": "m ≥ 1"}),
        (["mse", "mae", "mape"], {"kink": "e = 0 (mean_absolute_error, mean_absolute_percentage_error)"}),
        (
            ["bce", "cce"],
            {
                "kink": "p = 1e-7 (binary_crossentropy with y = 1, categorical_crossentropy), p = 1 − 1e-7 (binary_crossentropy with y = 0)",
                "saturated": "p ≤ 1e-7 (binary_crossentropy with y = 1, categorical_crossentropy), p ≥ 1 − 1e-7 (binary_crossentropy with y = 0)",
            },
        ),
        (["huber"], {}),
    ],
)
def test_what_is_marked_in_words(names, words):
    (panel,) = plot.panels(plot.resolve(names))
    assert plot.marks(*panel) == words


# The picture


def parts(*names: str):
    figure = plot.draw(plot.panels(plot.resolve(names)))
    figure.draw_without_rendering()
    return figure, [(*part.axes, part.legends) for part in figure.subfigs]


def test_the_picture_shows_the_curves_and_what_is_marked():
    (curve,) = curves("hinge")
    _, [(above, below, [legend])] = parts("hinge")
    for ax, shown in ((above, curve.values), (below, curve.slopes)):
        np.testing.assert_array_equal(ax.lines[0].get_data(), (curve.x, shown))
        assert [line.get_xdata() for line in ax.lines if line.get_linestyle() == "--"] == [[1.0, 1.0]]
        (shade,) = ax.patches
        assert (shade.get_x(), shade.get_width()) == (1.0, 2.0)
        assert ax.get_xlim() == (-2.0, 3.0)
    (dot,) = [line for line in above.lines if line.get_marker() == "o"]
    assert [float(np.ravel(part)[0]) for part in dot.get_data()] == [1.0, 0.0]
    assert [text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in legend.get_texts()] == [
        "y = 1",
        "kink: m = 1",
        "gradient 0 with the loss at its minimum: m ≥ 1",
    ]
    assert below.get_xlabel() == "margin m = y p"
    assert (above.get_ylabel(), below.get_ylabel()) == ("loss", "∂ loss / ∂ y_pred")
    assert above.get_title().startswith("Hinge loss, mean relu(1 − y'p)")


def test_a_jump_is_a_dashed_line():
    _, [(above, below, [legend])] = parts("own:raised")
    for ax in (above, below):
        assert [line.get_xdata() for line in ax.lines if line.get_linestyle() == "--"] == [pytest.approx([0.33, 0.33])]
    assert not any(line.get_marker() == "o" for line in (*above.lines, *legend.legend_handles))
    assert [text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in legend.get_texts()] == ["jump of the loss: e = 0.33"]


def test_where_one_curve_is_saturated_and_another_one_flat_both_are_seen():
    figure = plot.draw(plot.panels(plot.resolve(["bce"]), (-1.0, 2.0)))
    (part,) = figure.subfigs
    assert {patch.get_hatch() for patch in part.axes[0].patches} == {"//", "\\\\"}


@pytest.mark.parametrize("names", [["bce"], ["bce", "cce", "kld", "scce"], ["mse", "bce", "hinge"], ["mse", "mae", "huber"]], ids="-".join)
def test_nothing_covers_anything(names):
    figure, columns = parts(*names)
    inside = figure.bbox.frozen()
    for above, below, legends in columns:
        boxes = [*(ax.get_tightbbox() for ax in (above, below)), *(legend.get_window_extent() for legend in legends)]
        for number, box in enumerate(boxes):
            assert inside.x0 <= box.x0
            assert box.x1 <= inside.x1
            assert box.y0 >= inside.y0
            assert not any(box.overlaps(other) for other in boxes[number + 1 :])
        ticks = [text.get_window_extent() for text in below.get_yticklabels() if text.get_visible()]
        assert not any(one.overlaps(other) for number, one in enumerate(ticks) for other in ticks[number + 1 :])


def test_a_pole_does_not_hide_the_rest():
    _, [(above, below, _)] = parts("poisson")
    assert above.get_ylim()[1] < 15
    assert below.get_ylim()[0] > -10


def test_saturation_of_a_probability_is_wide_enough_to_be_seen():
    _, [(above, _, _)] = parts("cce")
    (shade,) = above.patches
    pixels = above.transData.transform([(shade.get_x(), 0), (shade.get_x() + shade.get_width(), 0)])[:, 0]
    assert np.ptp(pixels) > 0.05 * above.bbox.width


# Files


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_picture_is_the_same_whenever_and_whoever_draws_it(suffix):
    panels = plot.panels(plot.resolve(["bce"]))
    first = plot.rendered(plot.draw(panels), suffix)
    with matplotlib.rc_context({"figure.facecolor": "black", "font.size": 20, "svg.hashsalt": "other"}):
        assert plot.rendered(plot.draw(panels), suffix) == first
    assert b"dc:date" not in first


def check_picture(path: Path) -> None:
    if path.suffix == ".svg":
        root = ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 10
    else:
        image = imread(io.BytesIO(path.read_bytes()), format="png")
        assert image.shape[1] == 1050
        # White paper also where the page is dark.
        assert (image[0, 0] == 1).all()
        # A line in colour.
        assert np.ptp(image[..., :3], axis=-1).max() > 0.5


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["mse"], "mse.png"),
        (["Huber", "--format", "svg"], "Huber.svg"),
        (["mse", "mae"], "mse-mae.png"),
        (["hinge", "-o", "a.svg"], "a.svg"),
        (["hinge", "--output", "b.PNG"], "b.PNG"),
        (["huber", "--option", "delta=0.5", "--range", "-2", "2"], "huber.png"),
    ],
)
def test_the_command_writes_one_picture(run, here, arguments, file):
    before = set(here.iterdir())
    assert run(*arguments)["output"] == file
    assert [path.name for path in set(here.iterdir()) - before if path.name != "__pycache__"] == [file]
    check_picture(Path(file))


def test_the_command_says_what_it_marked(run):
    assert run("bce", "--range", "0", "1") == {
        "output": "bce.png",
        "kink": "p = 1e-7 (y = 1), p = 1 − 1e-7 (y = 0)",
        "saturated": "p ≤ 1e-7 (y = 1), p ≥ 1 − 1e-7 (y = 0)",
    }


def test_a_loss_of_ones_own(run):
    printed = run("own:dead_zone", "--option", "width=0.33333", noise="noise")
    assert printed == {"output": "dead_zone.png", "kink": "e = ±0.3333", "flat": "−0.3333 ≤ e ≤ 0.3333"}
    check_picture(Path("dead_zone.png"))
    assert run("own:unmarked", "--inputs", "binary") == {"output": "unmarked.png", "flat": "everywhere (y = 0)"}


def test_gallery(capsys):
    kept = Path("pictures/huber.txt")
    kept.parent.mkdir()
    kept.write_text("mine")
    assert main(["plot", "--gallery", "pictures"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    files = {path.name for path in Path("pictures").iterdir()} - {kept.name}
    assert files == {f"{name}.svg" for name in FORMULAS} == {Path(line).name for line in out.splitlines()}
    assert kept.read_text() == "mine"
    for name in files:
        check_picture(Path("pictures") / name)
    (suite,) = plot.resolve(["huber"])
    assert Path("pictures/huber.svg").read_bytes() == plot.rendered(plot.draw(plot.panels([suite])), "svg")


def test_a_bar_while_a_person_looks(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(cli._with_a_bar(["a", "b", "c"])) == ["a", "b", "c"]
    assert "100%" in sys.stderr.getvalue()


def test_gallery_as_a_function(monkeypatch):
    few = {name: suite for name, suite in plot.variants().items() if name.endswith("hinge")}
    monkeypatch.setattr(plot, "variants", lambda: few)
    seen = []

    def progress(items):
        for name, suite in items:
            seen.append(name)
            yield name, suite

    files = plot.gallery("new/folder", "png", progress)
    assert files == {name: Path(f"new/folder/{name}.png") for name in few}
    assert seen == list(few)
    for path in files.values():
        check_picture(path)


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'LOSS', or --gallery DIR. Try `lossbackend plot --help`."),
        (["msee"], "unknown loss 'msee'. Did you mean 'mse'"),
        (["mse", "own:nope"], "module 'own' has no 'nope'"),
        (["huber", "--option", "delat=1"], "huber: unknown option 'delat', did you mean 'delta'?"),
        (["mse", "mae", "--option", "delta=1"], "unknown option 'delta'"),
        (["mse", "huber", "--option", "delta=-1"], "huber: delta must be positive"),
        (["huber", "--option", "delta"], "--option takes name=value"),
        (["mse", "huber", "--option", "dlta=1"], "huber: unknown option 'dlta', did you mean 'delta'?"),
        (["cce", "--option", "class_weight=[1,2,3]"], "class_weight must hold 2 numbers"),
        (["mse", "-o", "a.pdf"], "--output: 'a.pdf' has to end in .png or .svg"),
        (["mse", "-o", "a"], "--output: 'a' has to end in .png or .svg"),
        (["mse", "-o", "nope/a.png"], "--output: no such directory"),
        (["mse", "-o", "."], "'.' is a directory: name a file in it, such as './losses.png'"),
        (["mse", "-o", ""], "--output: '' is a directory"),
        (["mse", "-o", "a.png/"], "--output: 'a.png/' is a directory"),
        ([""], "unknown loss ''"),
        (["own:"], "'own:' names no loss: write module:function"),
        (["mse/.."], "unknown loss 'mse/..'"),
        (["mse", "-o", "a.png", "--format", "svg"], "drop one of them"),
        (["mse", "--format", "pdf"], "'pdf' is not one of 'png', 'svg'"),
        (["mse", "--range", "2", "1"], "--range: two numbers, the smaller one first, got 2 and 1"),
        (["mse", "--range", "0", "inf"], "--range: two numbers"),
        (["mse", "--range", "0", "nan"], "--range: two numbers"),
        (["mse", "--range", "-1e308", "1e308"], "--range: two numbers"),
        (["mse", "--range", "-1e-300", "1e-300"], "--range: -1e-300 and 1e-300 are too close to each other"),
        (["mse", "--range", "1", "1.0000000000001"], "are too close to each other"),
        (["mse", "--range", "1e300", "1e301"], "mean_squared_error: not a finite number for any error e = p − y; choose another --range"),
        (["poisson", "--range", "-5", "-2"], "poisson: not a finite number for any rate p; choose another --range"),
        (["own:outside"], "own:outside: the loss or its slope jumps nearly everywhere: does its formula leave ops?"),
        (["mse", "--range", "0"], "'--range' requires 2 arguments"),
        (["mse", "hinge", "--range", "0", "1"], "--range: these losses have 2 horizontal axes, 'error e = p − y', 'margin m = y p'"),
        (["mse", "--inputs", "binary"], "--inputs is for a loss of your own"),
        (["own:unmarked", "--inputs", "binari"], "'binari' is none of 'reals'"),
        (["own:unmarked", "--inputs", "ids"], "one label per prediction"),
        (["own:nowhere"], "own:nowhere: not a finite number for any error e = p − y; name the kind of its input with --inputs KIND"),
        (["own:broken"], "KeyError: 'nope'"),
        (["mse", "--gallery", "g"], "--gallery draws every built-in loss as it is"),
        (["--gallery", "g", "--option", "delta=1"], "--gallery draws every built-in loss as it is"),
        (["--gallery", "g", "-o", "a.png"], "--gallery draws every built-in loss as it is"),
        (["--gallery", "g", "--range", "0", "1"], "--gallery draws every built-in loss as it is"),
        (["--gallery", "own.py"], "--gallery: no directory can be made of 'own.py'"),
        (["--gallery", "own.py/g"], "--gallery: no directory can be made of 'own.py/g'"),
    ],
)
def test_mistakes(mistake, here, arguments, message):
    assert message in mistake(*arguments)
    assert {path.name for path in here.iterdir()} <= {"own.py", "__pycache__"}


def test_a_file_that_cannot_be_written(mistake, monkeypatch):
    def full(path, data):
        with open(path, "wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    Path("mse.png").write_text("old")
    assert "mse.png' cannot be written: No space left on device" in mistake("mse")
    assert Path("mse.png").read_text() == "old"
    assert "binary_crossentropy.svg' cannot be written: No space left on device" in mistake("--gallery", "g")


def test_without_matplotlib(mistake, monkeypatch):
    monkeypatch.delitem(sys.modules, "lossbackend.plot")
    monkeypatch.delattr(lossbackend, "plot")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert mistake("mse") == 'pictures need pip install "lossbackend[plot]"'


def test_without_mpmath(mistake, monkeypatch):
    monkeypatch.setitem(sys.modules, "mpmath", None)
    monkeypatch.delitem(sys.modules, "lossbackend.backends.mpmath_backend", raising=False)
    monkeypatch.delattr(lossbackend.backends, "mpmath_backend", raising=False)
    monkeypatch.delitem(dispatch._loaded, "mpmath", raising=False)
    assert mistake("mse") == 'pictures need pip install "lossbackend[plot]"'


def test_matplotlib_is_imported_for_pictures_only():
    code = "import sys; from lossbackend.cli import main; main(sys.argv[1:]); sys.exit(any(name.startswith('matplotlib') for name in sys.modules))"
    used = [subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True).returncode for arguments in (["losses"], ["plot", "mse"])]
    assert used == [0, 1]
