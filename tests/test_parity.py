"""lossbackend parity: nothing to report of the real library, everything of one with planted mistakes."""

import contextlib
import io
import json
import math
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("mpmath")
pytest.importorskip("click")
pytest.importorskip("rich")

from conftest import chosen_backends
from frameworks import FRAMEWORKS

import lossbackend as lb
from lossbackend import definition, dispatch
from lossbackend.cli import main
from lossbackend.ops import Ops
from lossbackend.parity import cases, measure, report, stability

LOSSES = """
import lossbackend as lb

@lb.loss
def naive_log_cosh(ops, y_true, y_pred):
    error = y_pred - y_true
    return ops.mean(ops.log((ops.exp(error) + ops.exp(-error)) / 2.0), axis=-1)

@lb.loss
def swapped_clip(ops, y_true, y_pred):
    return ops.mean(ops.clip(y_pred - y_true, 1.0 if ops.name == "numpy" else -1.0, 1.0), axis=-1)

@lb.loss
def wrong_axis(ops, y_true, y_pred):
    return ops.mean(ops.square(y_pred - y_true), axis=0 if ops.name == "numpy" else -1)

@lb.loss
def root(ops, y_true, y_pred):
    return ops.mean(ops.abs(y_pred - y_true) ** 0.5, axis=-1)

@lb.loss
def weighted(ops, y_true, y_pred, *, weight):
    return weight * ops.mean(ops.square(y_pred - y_true), axis=-1)

@lb.loss(sparse=True)
def picked(ops, y_true, y_pred):
    return -ops.take_class(ops.log_softmax(y_pred), y_true)

@lb.loss
def typo(ops, y_true, y_pred):
    return ops.mean(ops.sqaure(y_pred - y_true), axis=-1)

@lb.loss(min_classes=5)
def five(ops, y_true, y_pred):
    return ops.mean(ops.square(y_pred - y_true), axis=-1)

@lb.loss
def failing_on_numpy(ops, y_true, y_pred):
    if ops.name == "numpy":
        raise RuntimeError("planted <b>")
    return ops.mean(ops.square(y_pred - y_true), axis=-1)

@lb.loss
def wide_on_numpy(ops, y_true, y_pred):
    value = ops.mean(ops.square(y_pred - y_true), axis=-1)
    return ops.cast(value, "float64") if ops.name == "numpy" else value

@lb.loss
def rank(ops, y_true, y_pred):
    distance = ops.mean(ops.abs(y_pred - y_true), axis=-1)
    return distance / (1.0 + ops.mean(distance))

@lb.loss(interacting=True)
def shifted_rank(ops, y_true, y_pred):
    distance = ops.mean(ops.abs(y_pred - y_true), axis=-1)
    return distance / (1.0 + ops.mean(distance)) + (1e-4 if ops.name == "numpy" else 0.0)

@lb.loss
def forgotten_rank(ops, y_true, y_pred):
    distance = ops.mean(ops.abs(y_pred - y_true), axis=-1)
    return distance / (1.0 + (1.001 if ops.name == "numpy" else 1.0) * ops.mean(distance))

@lb.loss
def on_axis(ops, y_true, y_pred, *, axis=0):
    return ops.mean(ops.square(y_pred - y_true), axis=axis)

class Mine(lb.Loss):
    function = staticmethod(lb.huber)

wide = lb.Huber(delta=2.0)
plain = len
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory with losses of one's own; the module's name is new each time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "own_parity", raising=False)
    Path("own_parity.py").write_text(LOSSES, encoding="utf-8")
    return tmp_path


@pytest.fixture
def run(capsys):
    def run(*arguments: str) -> tuple[int, str]:
        code = main(["parity", *arguments])
        out, err = capsys.readouterr()
        assert err == ""
        return code, out

    return run


def installed() -> list[str]:
    return [name for name in chosen_backends() if FRAMEWORKS[name].installed()]


def fast() -> list[str]:
    """Two columns that take no time to compile, one of which differentiates; ``--backend`` for each."""
    return [argument for name in ("numpy", "torch") if name in installed() for argument in ("--backend", name)]


needs_torch = pytest.mark.skipif("torch" not in installed(), reason="needs a gradient, from torch")
needs_numpy = pytest.mark.skipif("numpy" not in installed(), reason="compares with numpy")


# The library itself


def test_no_breach_in_the_library():
    found = measure.measure(cases.suites(), ["float64", "float32"], measure.columns(installed(), compiled=False), seed=0)
    assert found.breaches == []
    assert found.cases > 6000
    for measurement in found.measurements:
        for column in found.columns:
            assert measurement.worst(column) <= 4, (measurement.suite.label, measurement.dtype, column.label)
        assert all((units <= 4).all() for units in measurement.gradient_units.values()), (measurement.suite.label, measurement.dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_no_breach_in_half_precision(dtype):
    names = [name for name in installed() if name != "jax"]
    suites = cases.suites(["binary_crossentropy", "huber", "cosine_similarity", "categorical_hinge"])
    assert measure.measure(suites, [dtype], measure.columns(names, compiled=False), seed=0).breaches == []


@pytest.mark.parametrize("name", ["jax", "tensorflow"])
def test_compiled_columns(name):
    if name not in installed():
        pytest.skip(f"{name} is not chosen or not installed")
    columns = measure.columns([name], compiled=True)
    assert [column.label for column in columns] == [name, f"{name} compiled"]
    found = measure.measure(cases.suites(["log_cosh", "huber"]), ["float64"], columns, seed=1)
    assert found.breaches == []
    assert all(measurement.worst(column) <= 4 for measurement in found.measurements for column in columns)


def test_numpy_has_no_compiled_column():
    assert [column.label for column in measure.columns(["numpy"], compiled=True)] == ["numpy"]


def test_every_option_of_every_loss_is_measured():
    for name, function in lb.registry.functions().items():
        measured = {option for suite in cases.suites([name]) for option in suite.options}
        assert measured == set(function.definition.options)


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("kind", cases.KINDS)
def test_batches_have_one_shape_and_exact_numbers(kind, dtype):
    inputs = cases.batch(kind, dtype, seed=3)
    assert inputs.y_pred.shape == (cases.ROWS, cases.WIDTH)
    assert inputs.y_true.shape == ((cases.ROWS,) if cases.KINDS[kind].ids else (cases.ROWS, cases.WIDTH))
    np.testing.assert_array_equal(cases.rounded(inputs.y_pred, dtype), inputs.y_pred)
    np.testing.assert_array_equal(cases.batch(kind, dtype, seed=3).y_pred, inputs.y_pred)
    assert not np.array_equal(cases.batch(kind, dtype, seed=4).y_pred, inputs.y_pred)


def test_bfloat16_rounds_to_nearest_even():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = np.random.default_rng(0).normal(size=1000) * 10.0 ** np.random.default_rng(1).uniform(-30, 30, 1000)
    values = np.concatenate([values.astype(np.float32), [0.0, -0.0, np.inf, -np.inf, np.nan, 1.00390625, 1.01171875]]).astype(np.float64)
    np.testing.assert_array_equal(cases.rounded(values, "bfloat16"), values.astype(ml_dtypes.bfloat16).astype(np.float64))


def test_scales():
    """Of p − y the condition scale is |p| + |y|; of the gradient 2(p − y)/3 of mse two thirds of that."""
    inputs = cases.Batch(np.array([[1.0, 2.0, 3.0]]), np.array([[1.5, 2.0, -1.0]]))

    @lb.loss
    def difference(ops, y_true, y_pred):
        return ops.sum(y_pred - y_true, axis=-1)

    assert measure.condition_scale(cases.suite_of(difference, {}, "reals", "difference"), inputs) == pytest.approx([10.5])
    mse = cases.suite_of(lb.mse, {}, "reals", "mse")
    assert measure.gradient_scale(mse, inputs) == pytest.approx([2 / 3 * 4.0])


def exact_gradient(loss, kind: str, y_true, y_pred):
    """Of one sample, and how far it jumps within a unit of float32."""
    suite, inputs = cases.suite_of(loss, {}, kind, "loss"), cases.Batch(np.array([y_true]), np.array([y_pred]))
    slopes, noise = measure.exact_gradient(suite, inputs, measure.exact_values(suite, inputs)[0])
    assert (noise < 1e-30).all()
    return slopes[0], measure.gradient_jump(suite, inputs, slopes, "float32")[0]


def test_exact_gradients_are_those_of_the_textbook():
    def sigmoid(z):
        return 1 / (1 + math.exp(-z))

    slopes, jump = exact_gradient(lb.mse, "reals", [1.0, 2.0, 3.0], [1.5, 2.0, -1.0])
    np.testing.assert_array_equal(slopes, [1 / 3, 0.0, -8 / 3])
    assert (jump < 1e-6).all()
    slopes, _ = exact_gradient(lb.log_cosh, "reals", [0.0, 0.0, 0.0], [1e-4, 0.5, -20.0])
    np.testing.assert_allclose(slopes, [math.tanh(1e-4) / 3, math.tanh(0.5) / 3, math.tanh(-20.0) / 3], rtol=1e-15)

    @lb.loss
    def cross_entropy(ops, y_true, y_pred):
        return -ops.sum(y_true * ops.log_softmax(y_pred), axis=-1)

    slopes, _ = exact_gradient(cross_entropy, "class-logits", [0.0, 1.0, 0.0], [0.0, 0.0, 100.0])
    np.testing.assert_allclose(slopes, [math.exp(-100) / (1 + 2 * math.exp(-100)), math.exp(-100) - 1, 1 - 2 * math.exp(-100)], rtol=1e-15)
    slopes, _ = exact_gradient(lb.binary_crossentropy, "binary", [1.0, 0.0, 1.0], [sigmoid(2.0), sigmoid(-3.0), 1e-30])
    np.testing.assert_allclose(slopes, [-1 / sigmoid(2.0) / 3, 1 / (1 - sigmoid(-3.0)) / 3, 0.0], rtol=1e-15)


def test_a_kink_has_no_exact_gradient():
    for loss, kind, y_true, y_pred, kinks in (
        (lb.mae, "reals", [1.0, 2.0, 0.0], [1.0, 3.0, 0.0], [True, False, True]),
        (lb.hinge, "signs", [1.0, -1.0, 1.0], [1.0, -1.0, 0.5], [True, True, False]),
        # The constant of the formula lies between this number and the next.
        (lb.binary_crossentropy, "binary", [1.0, 1.0, 1.0], [float(np.float32(1e-7)), 2e-7, 0.5], [True, False, False]),
        # A jump: 0 for the zero vector.
        (lb.cosine_similarity, "vectors", [1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [True, True, True]),
    ):
        slopes, jump = exact_gradient(loss, kind, y_true, y_pred)
        np.testing.assert_array_equal(jump > 1e-2 * max(abs(slopes)), kinks)


# Planted mistakes


def breaches(path: str = "out.json") -> list[dict]:
    return json.loads(Path(path).read_text(encoding="utf-8"))["breaches"]


@needs_numpy
@pytest.mark.parametrize(
    ("primitive", "wrong", "loss"),
    [
        ("clip", lambda x, low, high: np.clip(x, high, low), "huber"),
        ("abs", lambda x: np.abs(x) * np.float32(1.000001), "mae"),
        ("log1p", lambda x: np.log(1 + x), "msle"),
        ("mean", lambda x, axis=None, keepdims=False: np.mean(x, axis=0), "mse"),
        ("log_softmax", lambda x, axis=-1: np.log(np.exp(x) / np.exp(x).sum(axis, keepdims=True)), "kld"),
        ("mean", lambda x, axis=None, keepdims=False: np.mean(x, axis=axis).astype("float64"), "mse"),
    ],
)
def test_a_wrong_primitive_is_a_breach(run, monkeypatch, primitive, wrong, loss):
    adapter: Ops = dispatch.adapter("numpy")
    monkeypatch.setattr(type(adapter), primitive, staticmethod(wrong))
    code, out = run(loss, "--backend", "numpy", "--dtype", "float32", "--json", "out.json")
    assert code == 1
    assert "breach" in out.splitlines()[-2]
    assert {breach["column"] for breach in breaches()} == {"numpy"}


@needs_torch
@pytest.mark.parametrize(
    ("primitive", "wrong", "loss"),
    [
        ("abs", lambda torch: lambda x: torch.where(x < 0, -x, x), "mae"),
        ("relu", lambda torch: lambda x: torch.where(x < 0, 0.0, x), "hinge"),
        ("sqrt", lambda torch: lambda self, x: torch.sqrt(x), "cosine"),
    ],
)
def test_a_wrong_gradient_at_a_kink_is_a_breach(run, monkeypatch, primitive, wrong, loss):
    other = next((name for name in ("tensorflow", "jax") if name in installed()), None)
    if other is None:
        pytest.skip("needs a second framework with gradients")
    import torch

    adapter = dispatch.adapter("torch")
    function = wrong(torch)
    monkeypatch.setattr(type(adapter), primitive, function if primitive == "sqrt" else staticmethod(function))
    code, _ = run(loss, "--backend", "torch", "--backend", other, "--dtype", "float32", "--json", "out.json")
    assert code == 1
    assert {breach["fact"] for breach in breaches()} == {"gradient"}


@needs_torch
@pytest.mark.parametrize(("primitive", "loss"), [("square", "mse"), ("exp", "poisson"), ("log1p", "msle"), ("max", "categorical_hinge")])
def test_a_gradient_that_is_wrong_on_every_backend_is_a_breach(run, monkeypatch, primitive, loss):
    adapter = dispatch.adapter("torch")
    right = getattr(adapter, primitive)

    def wrong(*arguments, **options):
        value = right(*arguments, **options)
        if value.requires_grad:
            value.register_hook(lambda slope: slope * 1.00001)
        return value

    monkeypatch.setattr(type(adapter), primitive, staticmethod(wrong))
    code, _ = run(loss, "--backend", "torch", "--dtype", "float32", "--json", "out.json")
    assert code == 1
    assert {breach["fact"] for breach in breaches()} == {"gradient"}
    assert "exact" in breaches()[0]["message"]


@needs_torch
def test_a_gradient_that_is_not_finite_is_a_breach(run):
    code, out = run("own_parity:root", "--backend", "torch", "--dtype", "float32", "--json", "out.json")
    assert code == 1
    (entry,) = json.loads(Path("out.json").read_text(encoding="utf-8"))["losses"]
    assert entry["gradient_units"]["torch"] == "inf"
    assert "own_parity:root/float32/0" in {breach["case"] for breach in breaches()}
    assert "gradient is not finite" in out or "for a finite loss" in out


@needs_numpy
@pytest.mark.parametrize(("loss", "fact"), [("swapped_clip", "value"), ("wrong_axis", "shape")])
def test_a_definition_that_differs_by_backend_is_a_breach(run, loss, fact):
    code, _ = run(f"own_parity:{loss}", "--backend", "numpy", "--json", "out.json")
    found = breaches()
    if loss == "wrong_axis":
        # @lossbackend.loss refuses it, which is an exception where the reference has none.
        fact = "exception"
    assert code == 1
    assert {breach["fact"] for breach in found} == {fact}


@needs_numpy
@pytest.mark.parametrize(
    ("loss", "says"), [("typo", "AttributeError: "), ("five", "ValueError: five: "), ("failing_on_numpy", "RuntimeError: planted")]
)
def test_a_loss_without_a_value_is_a_breach(run, loss, says):
    """Also where every backend and the reference fail alike."""
    code, out = run(f"own_parity:{loss}", "--backend", "numpy", "--dtype", "float32", "--json", "out.json", "--html", "out.html")
    assert code == 1
    assert f"own_parity:{loss} has no value on any backend" in out
    (breach,) = breaches()
    assert (breach["fact"], breach["column"]) == ("exception", "numpy")
    assert breach["message"].startswith(says)
    assert_shown_as_a_breach(out, says)


@needs_numpy
@pytest.mark.parametrize("loss", ["shifted_rank", "forgotten_rank"])
def test_a_wrong_loss_whose_samples_interact_is_a_breach(loss):
    """In almost every case: NaN and infinities of one case are not in the others."""
    found = measured_alone(loss, ["numpy"])
    assert {breach.fact for breach in found.breaches} == {"value"}
    assert len(found.breaches) > cases.ROWS - 8


@pytest.mark.skipif(not fast(), reason="needs numpy or torch")
def test_a_loss_whose_samples_interact_is_measured_case_by_case():
    found = measured_alone("rank", [name for name in ("numpy", "torch") if name in installed()])
    assert found.breaches == []
    assert all(np.isfinite(outcome.values).sum() > cases.ROWS - 8 for outcome in found.measurements[0].outcomes.values())


def measured_alone(loss: str, backends: list[str]) -> measure.Run:
    import own_parity

    suite = cases.suite_of(getattr(own_parity, loss), {}, None, f"own_parity:{loss}")
    return measure.measure([suite], ["float32"], measure.columns(backends, compiled=False), seed=0)


def test_samples_that_interact_are_found_out():
    import own_parity

    suites = [cases.suite_of(getattr(own_parity, name), {}, None, name) for name in ("rank", "forgotten_rank", "shifted_rank", "root", "on_axis")]
    assert [suite.interacting for suite in suites] == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("kinds", "options", "expected"),
    [
        ({}, {}, "reals"),
        ({"y_pred": definition.Probability}, {}, "binary"),
        ({"y_true": definition.Probability}, {}, "binary-logits"),
        ({"y_pred": definition.DistributionOrLogits}, {}, "distributions"),
        ({"y_pred": definition.DistributionOrLogits}, {"from_logits": True}, "class-logits"),
        ({"y_true": definition.OneHot}, {}, "class-logits"),
        ({"y_true": definition.Count}, {}, "log-rates"),
        ({"y_pred": definition.RateOrLog}, {}, "counts"),
        ({"y_true": definition.Sign}, {}, "signs"),
        ({"y_pred": definition.Amount}, {}, "positives"),
    ],
)
def test_annotations_say_what_input_a_loss_is_measured_on(kinds, options, expected):
    def formula(ops, y_true, y_pred, *, from_logits=False):
        return ops.mean(y_pred - y_true, axis=-1)

    formula.__annotations__.update(kinds)
    assert cases.suite_of(lb.loss(formula), options, None, "formula").kind == expected


@needs_numpy
@pytest.mark.parametrize("axis", [None, -2, -1, 0, 1])
def test_any_axis_of_two(run, axis):
    option = [] if axis is None else ["--option", f"axis={axis}"]
    assert run("own_parity:on_axis", *option, "--backend", "numpy", "--dtype", "float32")[0] == 0


@needs_numpy
def test_a_wrong_dtype_is_shown_as_a_breach(run):
    code, out = run("own_parity:wide_on_numpy", "--backend", "numpy", "--dtype", "float32", "--json", "out.json", "--html", "out.html")
    assert code == 1
    assert_shown_as_a_breach(out, "dtype: float64, expected float32")


def assert_shown_as_a_breach(out: str, tip: str) -> None:
    """The cell of numpy in the one row of the heat map: on the terminal, in JSON and HTML."""
    assert out.splitlines()[2].split()[1] == "≠"
    (entry,) = json.loads(Path("out.json").read_text(encoding="utf-8"))["losses"]
    assert entry["ulps"]["numpy"] == "inf"
    page = Path("out.html").read_text(encoding="utf-8")
    (cell,) = [part for part in page.split("<td") if 'class="beyond"' in part and part.split("</td>")[0].endswith(">≠")]
    assert tip in cell


# What it prints and writes


class Page(HTMLParser):
    """Every element closed, none of them a script, nothing from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.titles: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "link", "img", "iframe")
        attributes = dict(attrs)
        assert not {name for name in attributes if name.startswith("on") or name == "src"}
        assert attributes.get("href", "#").startswith("#")
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
        if "title" in attributes:
            self.titles.append(attributes["title"])
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_files_of_a_run_without_breaches(run):
    files = ["--json", "out.json", "--junit", "out.xml", "--html", "out.html"]
    code, out = run("huber", "log_cosh", *fast(), *files)
    assert code == 0
    assert "huber[delta=0.25]" in out
    assert out.splitlines()[0] == "float64: largest error in ulp, and of a gradient in its units"
    assert out.splitlines()[-1].endswith(": no breach")
    record = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert record["breaches"] == []
    assert [entry["loss"] for entry in record["losses"]][:3] == ["huber", "huber[delta=0.25]", "huber[delta=2.0]"]
    assert all(0 < ulps <= 4 for entry in record["losses"] for ulps in entry["ulps"].values())
    assert all(entry["gradient_units"].keys() == set(record["columns"]) - {"numpy"} for entry in record["losses"])
    tree = ElementTree.parse("out.xml").getroot()
    assert (tree.get("failures"), int(tree.get("tests"))) == ("0", len(record["losses"]) * len(record["columns"]))
    text = Path("out.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert "no breach" in page.text
    assert "prefers-color-scheme" in text
    assert any(title.startswith("huber[delta=0.25]/float32/") for title in page.titles)
    assert len(page.titles) == len(record["losses"]) * (len(record["columns"]) + 2)


def test_files_of_a_run_with_breaches(run):
    code, out = run("own_parity:naive_log_cosh", *fast(), "--json", "out.json", "--junit", "out.xml", "--html", "out.html")
    assert code == 1
    record = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert record["breaches"]
    assert record["stability"]["own_parity:naive_log_cosh"]
    failures = ElementTree.parse("out.xml").getroot().findall("testcase/failure")
    assert len(failures) == len({(breach["case"].rpartition("/")[0], breach["column"]) for breach in record["breaches"]})
    page = Page(Path("out.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert "overflows" in page.text
    assert record["breaches"][0]["case"] in page.text
    assert "loses digits" in out


@pytest.mark.parametrize(
    "case",
    [
        "huber[delta=0.25]/float32/17",
        "cosine_similarity[axis=0]/float64/11",
        "own_parity:picked/float32/4",
        "own_parity:wide[delta=2.0]/float32/9",
        "own_parity:Mine/float32/9",
        "own_parity:rank/float64/5",
        "huber/float16/9",
    ],
)
def test_the_snippet_of_a_case_prints_its_value(run, case):
    code, out = run("--explain", case, *fast())
    assert code == 0
    assert f"case      {case}" in out
    head, snippet = out.split("To reproduce:\n\n")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(snippet, "<snippet>", "exec"), {})
    lines = printed.getvalue().splitlines()
    assert len(lines) == len(fast()) // 2
    for line in lines:
        backend, value = line.split()
        shown = next(line for line in head.splitlines() if line.startswith(f"{backend} ")).split()[1]
        assert float(value.strip("[]")) == float(shown)


@needs_torch
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_the_snippet_of_a_wrong_gradient_prints_it(run, dtype):
    code, out = run("--explain", f"own_parity:root/{dtype}/0", "--backend", "torch")
    assert code == 0
    assert "breach: torch, gradient: [nan, nan, nan]" in out
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(out.split("To reproduce:\n\n")[1], "<snippet>", "exec"), {})
    assert printed.getvalue().splitlines() == ["torch 0.0", "torch gradient [[nan, nan, nan]]"]


def test_a_call_that_is_refused_is_explained_without_compilers(run):
    name = next((name for name in ("jax", "torch") if name in installed()), None)
    if name is None:
        pytest.skip("needs a compiler")
    code, out = run("--explain", "scce/float32/id too large", "--backend", name, "--compiled")
    assert code == 0
    assert "case      sparse_categorical_crossentropy/float32/id too large" in out
    assert "breach" not in out
    assert f"{name} compiled" not in out


def test_every_option_set_has_a_snippet_that_is_python():
    for suite in cases.suites():
        case = report.find_case(f"{suite.label}/float32/0", cases.suites(), ["float32"], 0)
        compile(report.snippet(case, ["numpy"]), suite.label, "exec")


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("huber/float32/fewer labels", "ValueError: huber: y_true and y_pred must have the same shape, got (3, 3) and (4, 3)"),
        ("huber/float32/flat labels", "ValueError: huber: y_true and y_pred must have the same shape, got (4,) and (4, 3)"),
        ("cosine_similarity[axis=0]/float32/wider labels", "ValueError: cosine_similarity: y_true and y_pred must have the same shape"),
        ("sparse_categorical_crossentropy/float32/id below 0", "-1 at index 1 is outside 0 ... 2"),
        ("sparse_categorical_crossentropy/float32/id too large", "3 at index 1 is outside 0 ... 2"),
        ("huber/float32/all", "shape (64,), float32"),
    ],
)
def test_a_case_by_name_is_explained(run, case, expected):
    code, out = run("--explain", case, *fast())
    assert code == 0
    head, snippet = out.split("To reproduce:\n\n")
    assert expected in next(line for line in head.splitlines() if line.startswith("expected  "))
    columns = [line for line in head.splitlines() if line.startswith(("numpy ", "torch "))]
    assert len(columns) == len(fast()) // 2
    assert all(expected in line for line in columns)
    assert "breach" not in head
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(snippet, "<snippet>", "exec"), {})
    assert printed.getvalue().count("ValueError") == (0 if case.endswith("/all") else len(columns))


@needs_numpy
def test_every_breach_of_a_run_can_be_explained(run, monkeypatch):
    adapter = type(dispatch.adapter("numpy"))
    monkeypatch.setattr(adapter, "abs", staticmethod(lambda x: np.abs(x).astype("float64") * 1.01))
    code, out = run("mae", "--backend", "numpy", "--dtype", "float32", "--seed", "7", "--json", "out.json")
    assert code == 1
    assert "--explain CASE --seed 7" in out
    names = {breach["case"] for breach in breaches()}
    assert len({name.rpartition("/")[2] == "all" for name in names}) == 2
    for name in sorted(names)[-3:] + [name for name in names if name.endswith("/all")]:
        code, out = run("--explain", name, "--seed", "7", "--backend", "numpy")
        assert code == 0
        assert "breach: numpy" in out


# Stability


@needs_numpy
def test_stability_finds_where_a_formula_goes_wrong(run):
    from own_parity import naive_log_cosh

    found = stability.findings(naive_log_cosh)
    digits, overflow = found[:2]
    assert (digits.what, overflow.what) == ("loses digits", "overflows")
    # e²/2 leaves the normal numbers below 1.5e-19, and the last e whose exponential is a float32 is log of the largest one.
    assert digits.smallest == pytest.approx(math.sqrt(2 * 2.0**-126), rel=1e-5)
    assert 0.01 < digits.largest < 1
    assert overflow.smallest == pytest.approx(math.log(float(np.finfo(np.float32).max)), rel=1e-6)
    assert "inf, exact 88.02969" in overflow.worst


@needs_numpy
def test_the_library_is_stable():
    for loss, kind in ((lb.log_cosh, "reals"), (lb.poisson, "counts"), (lb.sparse_categorical_crossentropy, "ids")):
        assert stability.findings(loss, kind) == []
    assert stability.findings(lb.binary_crossentropy, "binary-logits", from_logits=True) == []


@needs_torch
def test_stability_looks_at_zero():
    import own_parity

    found = [finding for finding in stability.findings(own_parity.root, backend="torch") if "gradient" in finding.what]
    assert found[0].smallest == 0
    assert "has a gradient that is not finite at x = 0; there [nan, nan, nan], and the loss is 0.0" in str(found[0])


@needs_numpy
def test_stability_tells_regions_apart():
    @lb.loss
    def holed(ops, y_true, y_pred):
        error = ops.abs(y_pred - y_true)
        bad = ((error > 1e-6) & (error < 1e-5)) | ((error > 1e5) & (error < 1e6))
        return ops.mean(ops.where(bad, (error + 1e4 * error) - 1e4 * error, error), axis=-1)

    low, high = [finding for finding in stability.findings(holed) if finding.probe == "y_true = 0, y_pred = x"]
    assert (low.smallest, low.largest, high.smallest, high.largest) == pytest.approx((1e-6, 1e-5, 1e5, 1e6), rel=0.1)


@needs_numpy
def test_stability_of_samples_that_interact():
    @lb.loss(interacting=True)
    def spread(ops, y_true, y_pred):
        error = ops.mean(y_pred - y_true, axis=-1)
        return error * ops.square(error) / ops.mean(ops.square(error))

    (overflow,) = (finding for finding in stability.findings(spread) if finding.probe == "y_true = 0, y_pred = x")
    assert overflow.what == "overflows"
    # Where e³ does; in one batch with the largest x the mean of all would be infinite.
    assert overflow.smallest == pytest.approx(float(np.finfo(np.float32).max) ** (1 / 3), rel=1e-6)
    assert overflow.largest == pytest.approx(1e38)


@needs_torch
def test_stability_finds_gradients_that_are_not_finite():
    import own_parity

    @lb.loss
    def distance(ops, y_true, y_pred):
        return ops.mean((ops.exp(y_pred - y_true) + 1.0) ** -0.5, axis=-1)

    assert stability.findings(own_parity.picked, backend="torch") == []
    found = [finding for finding in stability.findings(distance, backend="torch") if "gradient" in finding.what]
    assert found
    assert found[0].smallest == pytest.approx(88.7228, abs=1e-3)


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["hubr"], "Did you mean 'huber'"),
        (["huber", "--backend", "torhc"], "Did you mean 'torch'"),
        (["huber", "--backend", "mpmath"], "what the others are measured by"),
        (["huber", "--dtype", "float8"], "--dtype: 'float8'"),
        (["huber", "--inputs", "reals"], "for a loss of your own"),
        (["own_parity:weighted", "--inputs", "unreal"], "--inputs: 'unreal'"),
        (["own_parity:picked", "--inputs", "reals"], "takes class ids"),
        (["own_parity:weighted"], "option weight is missing"),
        (["own_parity:plain"], "is not a loss"),
        (["own_parity:nothing"], "its losses are"),
        (["huber", "--html", "no/such/page.html"], "--html: no such directory"),
        (["huber", "--json", "."], "is a directory"),
        (["--explain", "huber/float32/64", "--backend", "numpy"], "LOSS/DTYPE/NUMBER"),
        (["--explain", "huber", "--backend", "numpy"], "LOSS/DTYPE/NUMBER"),
        (["--seed", "x"], "is not a valid integer"),
        (["--seed", "-1"], "--seed: 0 or more"),
        (["own_parity:on_axis", "--option", "axis=2"], "axis is 2"),
        (["huber", "--json", "/dev/null/x.json"], "--json: "),
        (["huber", "--junit", "x" * 300], "--junit: cannot write 'xxx"),
    ],
)
def test_a_mistake_is_one_line(capsys, arguments, says):
    assert main(["parity", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err


def test_options_of_a_loss_of_ones_own(run):
    code, out = run("own_parity:weighted", "--option", "weight=0.5", "--backend", "numpy", "--dtype", "float32")
    assert code == 0
    assert "own_parity:weighted[weight=0.5]" in out
