"""ONNX: exported losses as onnxruntime computes them, optimised, against exact values, textbook formulas and the same call on NumPy."""

import doctest
import json
import os
import sys

import mpmath
import ndonnx as ndx
import numpy as np
import onnx
import onnxruntime
import pytest
from samples import CLASS_AXIS, CLASSES, EVERY_LOSS, expected, sample

import lossbackend as lb
import lossbackend.backends
import lossbackend.onnx
from lossbackend.cli import main
from lossbackend.onnx import export
from lossbackend.parity.cases import cases, suites
from lossbackend.parity.measure import Column, Outcome, compare, laid_out, run_eager
from lossbackend.testing import assert_parity, check_backend

pytest_plugins = ["pytester"]

FLOATS = pytest.mark.parametrize("dtype", ["float32", "float64"])


def run(model, **inputs):
    """The one result of a model, or of a file that holds it, with the optimisations of onnxruntime that are the default."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # A refusal is what some tests want, and not its copy on stderr.
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model if isinstance(model, str) else model.SerializeToString(), options)
    assert [output.name for output in session.get_outputs()] == ["loss"]
    (result,) = session.run(None, inputs)
    return result


def computed(function, **inputs):
    """A function of primitives as a model."""
    arguments = {name: ndx.argument(shape=("N",), dtype=array.dtype.name) for name, array in inputs.items()}
    return run(ndx.build(arguments, {"loss": function(lb.get_backend("onnx"), **arguments)}), **inputs)


def within(got, exact, scale, dtype, units=4):
    """Whether the numbers are as far from the exact ones as so many units in the last place of the scale, and of that dtype."""
    return got.dtype == dtype and bool((np.abs(got - exact) <= units * np.finfo(dtype).eps * scale).all())


@lb.loss
def charbonnier(ops, y_true, y_pred, *, scale=1e-3):
    """A user's own: mean √(e² + s²)."""
    return ops.mean(ops.sqrt(ops.square(y_pred - y_true) + scale**2), axis=-1)


@lb.loss
def quantile(ops, y_true, y_pred, *, q=0.9):
    """Written with numbers on both sides of a selection, and a power."""
    return ops.mean(ops.where(y_true > y_pred, q, q - 1.0) * (y_true - y_pred) ** 1, axis=-1)


# The adapter


def test_contract():
    check_backend("onnx")


@FLOATS
@pytest.mark.parametrize("name", ["expm1", "log1p", "sigmoid", "softplus", "exp", "log", "sqrt"])
def test_primitives_over_their_whole_range(name, dtype):
    exact = {
        "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
        "softplus": lambda x: mpmath.log1p(mpmath.exp(-abs(x))) + max(x, 0),
    }.get(name) or getattr(mpmath, name)
    limits, random = np.finfo(dtype), np.random.default_rng(0)
    sizes = np.exp(random.uniform(np.log(limits.tiny), np.log(limits.max), 200))
    near = np.exp(random.uniform(np.log(1e-8), np.log(80.0), 600))
    x = np.concatenate([sizes, near, 1.0 + near[::4], np.linspace(0.3, 2.5, 200), [0.5, 1.0, 2.0]])
    x = np.concatenate([-x, x]).astype(dtype)
    x = x[{"log": x > 0, "sqrt": x > 0, "log1p": x > -1}.get(name, np.abs(x) < {"float32": 80, "float64": 700}[dtype])]
    got = computed(lambda ops, x: getattr(ops, name)(x), x=x)
    with mpmath.workprec(1200):
        values = [exact(mpmath.mpf(float(entry))) for entry in x]
        nearest = np.array([float(value) for value in values]).astype(dtype)
        units = [float(abs(mpmath.mpf(float(found)) - value)) for found, value in zip(got, values, strict=True)] / np.spacing(np.abs(nearest))
    assert units.max() < 3.5, (units.max(), x[units.argmax()])


def test_values_of_arrays_with_values():
    array = lb.mse(np.array([[0.0, 1.0]]), ndx.asarray(np.float32([[3.0, 5.0]])))
    assert isinstance(array, ndx.Array)
    assert array.dtype == ndx.float32
    assert array.unwrap_numpy().tolist() == [12.5]
    with lb.use_backend("ndonnx") as ops:
        assert ops.name == "onnx"
        assert lb.Huber(reduction="sum")([[0.0], [0.0]], [[3.0], [3.0]], mask=[True, False]).unwrap_numpy() == 2.5
        with pytest.raises(ValueError, match="3 at index 1 is outside 0"):
            lb.scce([0, 3], np.ones((2, 3)))
    assert lossbackend.onnx.mae([[1.0]], [[3.0]]).unwrap_numpy().tolist() == [2.0]
    assert lossbackend.onnx.to_categorical([1, 0]).unwrap_numpy().tolist() == [[0.0, 1.0], [1.0, 0.0]]
    with pytest.raises(TypeError, match=r"huber: the onnx backend has no gradients: pass NumPy arrays"):
        lb.value_and_grad(lb.huber)(array, array)


def test_a_graph_of_arrays_without_values():
    y_true, y_pred = (ndx.argument(shape=("N", 2), dtype="float64") for _ in range(2))
    for loss in (lb.mse, lb.jit(lb.mse), lossbackend.onnx.mse):
        model = ndx.build({"y": y_true, "p": y_pred}, {"loss": loss(y_true, y_pred)})
        np.testing.assert_array_equal(run(model, y=np.zeros((3, 2)), p=np.array([[1.0, 3.0]] * 3)), [5.0] * 3)


# Every loss


@FLOATS
@pytest.mark.parametrize("suite", suites(), ids=lambda suite: suite.label)
def test_every_loss_and_option_on_hard_input(suite, dtype):
    """Operation by operation, and exported and optimised: within the bounds of every backend from values exact to 1024 bits."""
    inputs, ops = cases(suite, dtype, 0), lb.get_backend("onnx")
    placed = laid_out(suite, inputs)
    model = export(suite.function, dtype=dtype, **suite.options)
    values = run(model, y_true=placed.y_true.astype("int64" if suite.definition.sparse else dtype), y_pred=placed.y_pred.astype(dtype))
    exported = Outcome(values.astype(np.float64), shape=values.shape, dtype=values.dtype.name)
    outcomes = {Column("onnx", False): run_eager(ops, suite, inputs, dtype), Column("onnx", True): exported}
    measured = compare(suite, dtype, inputs, outcomes)
    assert not measured.breaches
    assert set(measured.ulps) == set(outcomes)


@FLOATS
@pytest.mark.parametrize("name", EVERY_LOSS)
def test_every_loss_by_the_command_line(name, dtype, tmp_path, capsys):
    file = str(tmp_path / "loss.onnx")
    assert main(["export", name, "-o", file, "--dtype", dtype, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    onnx.checker.check_model(file, full_check=True)
    assert record["inputs"]["y_pred"] == {"dtype": dtype, "shape": ["N", "C" if name in (*CLASS_AXIS, "kl_divergence") else "D"]}
    assert record["outputs"] == {"loss": {"dtype": dtype, "shape": ["N"]}}
    assert (record["loss"], record["reduction"], record["file"], record["size"]) == (name, "none", file, os.path.getsize(file))
    for shape in ((1, 2), (7, 3), (64, 17)):
        y_true, y_pred = sample(name, shape, dtype)
        values, scale = expected(name, y_true, y_pred)
        got = run(file, y_true=y_true.astype("int64") if y_true.ndim == 1 else y_true, y_pred=y_pred)
        assert within(got, values, scale, dtype)
        assert within(got, getattr(lb, name)(y_true, y_pred), scale, dtype, units=8)


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_every_class_is_one_number(name, tmp_path, capsys):
    file = str(tmp_path / "loss.onnx")
    assert main(["export", CLASSES[name], "-o", file]) == 0
    assert "reduction  sum_over_batch_size" in capsys.readouterr().out
    y_true, y_pred = sample(name, (9, 4))
    values, scale = expected(name, y_true, y_pred)
    got = run(file, y_true=y_true.astype("int64") if y_true.ndim == 1 else y_true, y_pred=y_pred)
    assert got.shape == ()
    assert within(got, values.mean(), scale.mean(), "float32")


# Options, reductions, shapes


def test_options_are_constants_of_the_model():
    y, p = np.zeros((1, 2), "float32"), np.array([[1.0, 3.0]], "float32")
    for model in (export("huber", delta=2.0), export(lb.Huber(delta=2.0, reduction="none")), export(lb.Huber(), delta=2.0, reduction="none")):
        assert run(model, y_true=y, y_pred=p) == [(0.5 + 4.0) / 2]
    lb.set_epsilon(1e-3)
    model = export("binary_crossentropy", dtype="float64")
    lb.set_epsilon(1e-7)
    np.testing.assert_allclose(run(model, y_true=np.ones((1, 1)), y_pred=np.zeros((1, 1))), -np.log(1e-3), rtol=1e-15)


def test_weights_of_classes():
    y, p = np.eye(3), np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.2, 0.6]])
    expected = -np.log([0.7, 0.3, 0.6]) * [1.0, 2.0, 0.5]
    for weights in ((1.0, 2.0, 0.5), np.array([1.0, 2.0, 0.5])):
        np.testing.assert_allclose(run(export("cce", dtype="float64", class_weight=weights), y_true=y, y_pred=p), expected, rtol=1e-14)
    model = export("scce", shape=("N", 3), dtype="float64", class_weight={1: 2.0, 2: 0.5})
    np.testing.assert_allclose(run(model, y_true=np.arange(3), y_pred=p), expected, rtol=1e-14)
    with pytest.raises(ValueError, match="class_weight as a dict needs a number of classes"):
        export("scce", class_weight={1: 2.0})


@pytest.mark.parametrize("reduction", ["sum", "mean", "mean_with_sample_weight", "none"])
def test_reductions_with_weights_and_masks(reduction):
    random = np.random.default_rng(0)
    y, p, weights, mask = *random.normal(size=(2, 11, 3)), random.uniform(0.0, 2.0, 11), random.random(11) > 0.4
    losses = np.abs(y - p).mean(axis=1)
    for given in ({}, {"sample_weight": weights}, {"mask": mask}, {"sample_weight": weights, "mask": mask}):
        kept = losses * given.get("sample_weight", 1.0) * given.get("mask", 1.0)
        counted = given.get("mask", np.ones(11)) * (given.get("sample_weight", 1.0) if reduction == "mean_with_sample_weight" else 1.0)
        wanted = {"sum": kept.sum(), "none": kept}.get(reduction, kept.sum() / counted.sum())
        model = export("mae", dtype="float64", reduction=reduction, **dict.fromkeys(given, True))
        assert [value.name for value in model.graph.input] == ["y_true", "y_pred", *given]
        # What is masked reaches nothing, NaN neither.
        hidden = np.where(given.get("mask", np.ones(11, bool))[:, np.newaxis], p, np.nan)
        np.testing.assert_allclose(run(model, y_true=y, y_pred=hidden, **given), wanted, rtol=1e-14)
    nothing = export("mae", reduction=reduction, sample_weight=True, mask=True)
    zeros = np.zeros((2, 1), "float32")
    assert not run(nothing, y_true=zeros, y_pred=zeros + np.inf, sample_weight=zeros[:, 0] + 1, mask=np.zeros(2, bool)).any()


def test_samples_along_more_than_one_axis():
    random = np.random.default_rng(0)
    logits, ids, weights = random.normal(size=(2, 5, 4)), random.integers(0, 4, (2, 5)), random.uniform(size=(2, 5))
    losses = np.log(np.exp(logits).sum(axis=-1)) - np.take_along_axis(logits, ids[..., np.newaxis], -1)[..., 0]
    model = export("scce", shape=("N", "T", 4), dtype="float64", from_logits=True)
    assert lossbackend.onnx.interface(model)["outputs"]["loss"]["shape"] == ["N", "T"]
    np.testing.assert_allclose(run(model, y_true=ids, y_pred=logits), losses, rtol=1e-13)
    model = export("scce", shape=("N", "C", "T"), dtype="float64", from_logits=True, axis=1)
    np.testing.assert_allclose(run(model, y_true=ids, y_pred=logits.swapaxes(1, 2)), losses, rtol=1e-13)
    loss = lb.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight", ignore_class=2, class_weight=(1.0, 3.0, 9.0, 1.0))
    model = export(loss, shape=("N", "T", "C"), dtype="float64", sample_weight=True)
    w = np.array([1.0, 3.0, 0.0, 1.0])[ids] * weights
    np.testing.assert_allclose(run(model, y_true=ids, y_pred=logits, sample_weight=weights), (w * losses).sum() / w.sum(), rtol=1e-13)
    # Of rank 1 is one sample, as everywhere.
    assert run(export("mse", shape=("D",)), y_true=np.float32([0, 0]), y_pred=np.float32([1, 3])) == 5.0


def test_class_ids_that_are_none_make_their_sample_nan():
    p = np.array([[0.25, 0.75]] * 5, "float32")
    losses = run(export("scce"), y_true=np.array([0, -1, 1, 2, 2**40]), y_pred=p)
    np.testing.assert_allclose(losses, [-np.log(0.25), np.nan, -np.log(0.75), np.nan, np.nan], rtol=1e-6)
    model = export(lb.SparseCategoricalCrossentropy(ignore_class=-1), mask=True)
    np.testing.assert_allclose(run(export("scce", ignore_class=2**40), y_true=np.array([2**40, 0]), y_pred=p[:2]), [0.0, -np.log(0.25)], rtol=1e-6)
    mask = np.array([True, True, True, False, False])
    np.testing.assert_allclose(run(model, y_true=np.array([0, -1, 1, 2, 9]), y_pred=p, mask=mask), -np.log(0.25 * 0.75) / 2, rtol=1e-6)


def test_edges():
    y, inf = np.array([[1.0, 0.0]] * 4, "float32"), np.inf
    p = np.array([[1.0, 0.0], [0.0, 1.0], [np.nan, 0.5], [0.5, 0.5]], "float32")
    np.testing.assert_allclose(run(export("bce"), y_true=y, y_pred=p), [0.0, -np.log(1e-7), np.nan, np.log(2.0)], rtol=1e-6)
    z = np.array([[inf, -inf], [-inf, inf], [1000.0, -1000.0], [0.0, 0.0]], "float32")
    np.testing.assert_allclose(run(export("bce", from_logits=True), y_true=y, y_pred=z), [0.0, inf, 0.0, np.log(2.0)], rtol=1e-6)
    np.testing.assert_allclose(run(export("cce", from_logits=True), y_true=y, y_pred=z), [np.nan, np.nan, 0.0, np.log(2.0)], rtol=1e-6)
    empty = np.zeros((0, 3), "float32")
    for name in ("cosine_similarity", "sparse_categorical_crossentropy"):
        labels = np.zeros(0, "int64") if name.startswith("sparse") else empty
        assert run(export(name), y_true=labels, y_pred=empty).shape == (0,)
        assert run(export(CLASSES[name]), y_true=labels, y_pred=empty) == 0.0


def test_float16_is_computed_in_float32():
    y, p = np.zeros((1, 1), "float16"), np.array([[300.0]], "float16")
    got = run(export("mse", dtype="float16"), y_true=y, y_pred=p)
    assert (got.dtype, got.tolist()) == (np.float32, [90000.0])


def test_nothing_is_broadcast():
    y, p = np.zeros((2, 3), "float32"), np.ones((2, 3), "float32")
    model = export("mse", sample_weight=True)
    good = {"y_true": y, "y_pred": p, "sample_weight": np.ones(2, "float32")}
    assert run(model, **good).tolist() == [1.0, 1.0]
    for bad in ({"y_true": y[:1]}, {"y_true": y[:, :1]}, {"y_true": y.T}, {"y_true": y[:1, :1]}, {"sample_weight": np.ones(1, "float32")}):
        with pytest.raises(Exception, match=r"cannot be reshaped to the requested shape. Input shape:\{"):
            run(model, **{**good, **bad})
    with pytest.raises(Exception, match="cannot be reshaped"):
        run(export("scce"), y_true=np.array([0]), y_pred=p)


@pytest.mark.parametrize(("name", "option"), [("bce", {"pos_weight": (2.0, 3.0)}), ("cce", {"class_weight": (2.0, 3.0)})])
def test_weights_say_how_many_classes_there_are(name, option):
    y, p = np.eye(2, dtype="float32"), np.full((2, 2), 0.5, "float32")
    model = export(name, **option)
    np.testing.assert_allclose(run(model, y_true=y, y_pred=p), np.log(2) * {"bce": np.array([3, 4]) / 2, "cce": np.array([2, 3])}[name], rtol=1e-6)
    with pytest.raises(Exception, match="invalid dimensions"):
        run(model, y_true=y[:, :1], y_pred=p[:, :1])


@pytest.mark.parametrize("labels", [{"cce": np.ones((2, 1), "float32")}, {"scce": np.zeros(2, "int64")}])
def test_a_single_class_is_refused(labels):
    """Its loss would be 0 for ever."""
    ((name, y),) = labels.items()
    with pytest.raises(Exception, match="cannot be reshaped"):
        run(export(name), y_true=y, y_pred=np.ones((2, 1), "float32"))


def test_many_samples():
    """In float32 the count of so many samples, and their sum, keep their digits."""
    p = np.full((3_000_000, 1), 0.1, "float32")
    got = run(export(lb.MeanAbsoluteError()), y_true=np.zeros_like(p), y_pred=p)
    assert within(got, np.float64(p[0, 0]), 0.1, "float32")
    with lb.use_backend("onnx"):
        got = lb.MeanAbsoluteError()(np.zeros_like(p[:100_000]), p[:100_000]).unwrap_numpy()
    assert within(got, np.float64(p[0, 0]), 0.1, "float32")


# A loss of one's own


def test_losses_of_ones_own():
    random = np.random.default_rng(0)
    y, p = random.normal(size=(2, 7, 3)).astype("float32")
    np.testing.assert_allclose(
        run(export(charbonnier, scale=0.5), y_true=y, y_pred=p), np.sqrt((y - p) ** 2 + 0.25).mean(axis=1, dtype="float64"), rtol=1e-6
    )
    error = (y - p).astype("float64")
    got = run(export(quantile, reduction="mean"), y_true=y, y_pred=p)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.maximum(0.9 * error, -0.1 * error).mean(), rtol=1e-6)

    @lb.loss(interacting=True)
    def centred(ops, y_true, y_pred):
        error = y_pred - y_true
        return ops.mean(ops.square(error - ops.mean(error, axis=0, keepdims=True)), axis=-1)

    np.testing.assert_allclose(run(export(centred), y_true=y, y_pred=p), ((error - error.mean(axis=0)) ** 2).mean(axis=1), rtol=1e-5)

    @lb.loss
    def sized(ops, y_true, y_pred):
        return ops.sum(ops.square(y_pred - y_true), axis=-1) / ops.shape(y_pred)[-1]

    np.testing.assert_allclose(run(export(sized, shape=("N", 3)), y_true=y, y_pred=p), (error**2).mean(axis=1), rtol=1e-6)
    with pytest.raises(ValueError, match=r"sized: its formula makes no graph .*at a size only where shape= fixes it"):
        export(sized)


def test_a_formula_that_looks_at_values():
    @lb.loss
    def asks(ops, y_true, y_pred):
        return ops.mean(y_pred if ops.sum(y_pred) > 0 else y_true, axis=-1)

    @lb.loss
    def reads(ops, y_true, y_pred):
        return ops.mean(y_pred, axis=-1) * float(ops.to_numpy(ops.max(y_true)))

    @lb.loss
    def fails(ops, y_true, y_pred):
        return {}["nope"]

    for loss in (asks, reads, fails):
        with pytest.raises(ValueError, match=rf"{loss.__name__}: its formula makes no graph \(.*\): it may look at no value"):
            export(loss)


# The file


def test_what_is_in_the_file(tmp_path):
    file = tmp_path / "loss.onnx"
    model = export(lb.Huber(delta=2.0), file, mask=True)
    onnx.checker.check_model(str(file), full_check=True)
    read = onnx.load(file)
    assert read == model
    assert (read.producer_name, read.producer_version) == ("lossbackend", lb.__version__)
    assert [(entry.domain, entry.version) for entry in read.opset_import] == [("", 19)]
    assert read.ir_version == 9
    assert read.doc_string.startswith("Huber loss, mean(½q² + δ relu(|e| − δ))")
    properties = {entry.key: entry.value for entry in read.metadata_props}
    assert properties == {"loss": "huber", "options": '{"delta": 2.0}', "reduction": "sum_over_batch_size"}
    again = lb.deserialize({"class_name": "Huber", "config": {**json.loads(properties["options"]), "reduction": properties["reduction"]}})
    assert again == lb.Huber(delta=2.0)
    assert lossbackend.onnx.interface(read) == {
        "inputs": {
            "y_true": {"dtype": "float32", "shape": ["N", "D"]},
            "y_pred": {"dtype": "float32", "shape": ["N", "D"]},
            "mask": {"dtype": "bool", "shape": ["N"]},
        },
        "outputs": {"loss": {"dtype": "float32", "shape": []}},
        "opset": 19,
        "size": file.stat().st_size,
    }
    # A float32 model runs where there is no float64.
    for name in ("bce", "log_cosh", "cosine_similarity", "scce"):
        assert "double" not in onnx.printer.to_text(export(name, reduction="mean", sample_weight=True, mask=True).graph), name


def test_a_failed_export_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "loss.onnx"
    file.write_bytes(b"old")

    def full(model, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save", full)
    with pytest.raises(ValueError, match=r"loss.onnx' cannot be written: No space left on device"):
        export("mse", file)
    with pytest.raises(ValueError, match="delta must be positive"):
        export("huber", file, delta=-1.0)
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["loss.onnx"]
    monkeypatch.undo()
    link = tmp_path / "link.onnx"
    link.symlink_to(file)
    export("mse", link)
    assert link.is_symlink()
    assert onnx.load(file).graph.name == "mean_squared_error"
    with pytest.raises(ValueError, match="cannot be written: No such file or directory"):
        export("mse", tmp_path / "nowhere" / "loss.onnx")


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        ("hubert", {}, "unknown loss 'hubert'. Did you mean 'huber'"),
        (np.square, {}, "expected a loss, its name, its class or an object of it"),
        ("huber", {"detla": 1.0}, "unknown option 'detla', did you mean 'delta'"),
        ("huber", {"reduction": "average"}, "Invalid value for argument `reduction`: 'average'"),
        ("huber", {"dtype": "bfloat16"}, "huber: dtype must be one of 'float32', 'float64', 'float16', got 'bfloat16'"),
        ("huber", {"shape": "N"}, "huber: shape must have a name of its own or a size for each axis of y_pred"),
        ("huber", {"shape": ()}, "huber: shape must have a name of its own or a size"),
        ("huber", {"shape": ("N", 0)}, "huber: shape must have a name of its own or a size"),
        ("huber", {"shape": ("N", "N")}, "huber: shape must have a name of its own or a size"),
        ("huber", {"shape": 5}, "huber: shape must have a name of its own or a size"),
        ("cce", {"shape": ("N", 1)}, "needs at least 2 classes along axis -1, got y_pred of shape .'N', 1.: .*use binary_crossentropy"),
        ("cce", {"axis": 2}, "axis 2 is out of range for y_pred of shape .'N', 'C'."),
        ("cce", {"shape": ("N", 4), "class_weight": (1.0, 2.0)}, "class_weight"),
    ],
)
def test_mistakes(loss, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        export(loss, **options)


# The command line


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_onnx.py").write_text(
        "from dataclasses import dataclass\nimport lossbackend as lb\nprint('noise')\n"
        "@lb.loss\ndef scaled(ops, y_true, y_pred, *, by): return by * ops.mean(y_pred - y_true, axis=-1)\n"
        "@lb.loss\ndef looks(ops, y_true, y_pred): return ops.mean(y_pred if y_pred.unwrap_numpy().any() else y_true, axis=-1)\n"
        "@dataclass(frozen=True)\nclass Scaled(lb.Loss):\n    function = staticmethod(scaled)\n    by: float = 3.0\n"
        "total = Scaled(2.0, reduction='sum')\n"
    )
    return tmp_path


def test_own_losses_by_the_command_line(own, capsys):
    y, p = np.zeros((2, 1), "float32"), np.array([[1.0], [2.0]], "float32")
    for arguments, file, value in (
        (["own_onnx:scaled", "--option", "by=3.0"], "scaled.onnx", [3.0, 6.0]),
        (["own_onnx:scaled", "--option", "by=3.0", "--reduction", "mean"], "scaled.onnx", 4.5),
        (["own_onnx:Scaled"], "Scaled.onnx", 4.5),
        (["own_onnx:total", "-o", "sum.onnx"], "sum.onnx", 6.0),
        (["own_onnx:total", "--reduction", "none"], "total.onnx", [2.0, 4.0]),
    ):
        assert main(["export", *arguments]) == 0
        assert f"file       {file}" in capsys.readouterr().out.splitlines()
        assert run(file, y_true=y, y_pred=p).tolist() == value


def test_text_of_the_command(own, capsys):
    assert main(["export", "Huber", "--option", "delta=2.0", "--shape", "N, T,3", "--mask", "--dtype", "float64", "-o", "h.onnx"]) == 0
    size = f"{os.path.getsize('h.onnx'):,}"
    assert capsys.readouterr().out.splitlines() == [
        "loss       huber",
        "option     delta=2.0",
        "reduction  sum_over_batch_size",
        "input      y_true  float64  (N, T, 3)",
        "input      y_pred  float64  (N, T, 3)",
        "input      mask  bool  (N, T)",
        "output     loss  float64  ()",
        "opset      19",
        f"size       {size} bytes",
        "file       h.onnx",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hubert"], "unknown loss 'hubert'"),
        (["huber", "-o", "loss.pt"], "'loss.pt' has to end in .onnx"),
        (["huber", "-o", "nowhere/loss.onnx"], "no such directory"),
        (["huber", "--option", "delta=-1"], "delta must be positive"),
        (["huber", "--shape", "N,-3"], "shape must have a name of its own or a size for each axis"),
        (["huber", "--dtype", "int8"], "Invalid value for '--dtype'"),
        (["own_onnx:scaled"], "option by is missing"),
        (["own_onnx:looks"], "looks: its formula makes no graph"),
        ([], "Missing argument 'LOSS'"),
    ],
)
def test_mistakes_on_the_command_line(own, capsys, arguments, message):
    assert main(["export", *arguments]) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line != "noise"]
    assert out == ""
    assert len(lines) == 1
    assert message in lines[0]
    assert not [name for name in os.listdir() if name.endswith((".onnx", ".pt")) or name.startswith(".lossbackend")]


def test_without_the_extra(own, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "lossbackend.onnx")
    monkeypatch.delitem(sys.modules, "lossbackend.backends.onnx_backend")
    monkeypatch.delattr(lossbackend, "onnx")
    monkeypatch.delattr(lossbackend.backends, "onnx_backend")
    monkeypatch.setitem(sys.modules, "ndonnx", None)
    assert main(["export", "huber"]) == 2
    assert 'pip install "lossbackend[onnx]"' in capsys.readouterr().err


# Beside the other backends


def test_parity_of_the_command_line(capsys):
    assert main(["parity", "mean_absolute_error", "--backend", "numpy", "--backend", "onnx"]) == 0
    out = capsys.readouterr().out
    assert "numpy  onnx" in out
    assert "on 2 columns: no breach" in out


def test_assert_parity():
    y, p = np.random.default_rng(0).normal(size=(2, 5, 3))
    assert_parity(lb.huber, y, p, backends=["numpy", "onnx", "mpmath"], delta=0.5)
    assert_parity(lb.scce, [0, 7], [[0.5, 0.5]] * 2, backends=["numpy", "onnx"])
    with pytest.raises(AssertionError, match="the backends disagree in the value"):
        assert_parity({"numpy": lb.mse, "onnx": lb.mae}, y, p)


def test_fixture_of_the_plugin(pytester):
    pytester.makepyfile(
        "import lossbackend as lb\n\ndef test_value(backend):\n    assert backend.numpy(lb.mse([[1.0]], backend.tensor([[3.0]]))) == 4.0\n"
        "\ndef test_parity(parity):\n    parity(lb.log_cosh, [[1.0]], [[3.0]])\n"
    )
    result = pytester.runpytest("-v", "--lossbackend-backends", "numpy,onnx", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*test_value?onnx? PASSED*"])


def test_example():
    (test,) = doctest.DocTestFinder().find(export, "export")
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


def test_page(run_page):
    run_page("engines/onnx")
