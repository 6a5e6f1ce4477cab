"""The command line. Expected numbers are textbook formulas in plain Python."""

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("click")
pytest.importorskip("rich")

import lossbackend
import lossbackend.backends
from lossbackend import checking, cli, dispatch, evaluation, registry
from lossbackend.cli import main

Y, P = [0.0, 1.0, 1.0, 3.0], [0.5, 1.0, 3.0, 2.0]
MSE = (0.25 + 0.0 + 4.0 + 1.0) / 4

PROBABILITIES = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]
LOGITS = [[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]]
IDS = [0, 2]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory of its own; what a run changes for its process is taken back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.delenv("LOSSBACKEND", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    np.save("y.npy", np.array(Y))
    np.save("p.npy", np.array(P))
    np.save("ids.npy", np.array(IDS))
    np.save("probabilities.npy", np.array(PROBABILITIES))
    np.save("logits.npy", np.array(LOGITS))
    return tmp_path


@pytest.fixture
def run(capsys):
    """Run the command line; its stdout where it succeeds and says nothing on stderr."""

    def run(*arguments: str) -> str:
        code = main(arguments)
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return out

    return run


@pytest.fixture
def mistake(capsys):
    """Run the command line on a person's mistake; the one line that it gives."""

    def mistake(*arguments: str, code: int = 2) -> str:
        assert main(arguments) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1, err
        assert "Traceback" not in err
        return err.removeprefix("error: ").strip()

    return mistake


@pytest.fixture
def evaluate(run) -> Callable[..., dict]:
    return lambda *arguments: json.loads(run("evaluate", *arguments, "--json"))


def module(name: str, text: str) -> None:
    Path(f"{name}.py").write_text(text, encoding="utf-8")


def close(value: float) -> object:
    return pytest.approx(value, rel=1e-12)


def log_softmax(row: list[float], position: int) -> float:
    return row[position] - math.log(sum(math.exp(z) for z in row))


# evaluate: the number


def test_text_output_says_what_was_read_and_computed(run):
    out = run("evaluate", "mse", "y.npy", "p.npy")
    lines = [line.split() for line in out.splitlines()]
    assert lines.pop(-2)[::2] == ["speed", "rows", "second"]
    assert lines == [
        ["y_true", "y.npy", "(4,)", "float64"],
        ["y_pred", "p.npy", "(4,)", "float64"],
        ["loss", "mean_squared_error"],
        ["reduction", "sum_over_batch_size"],
        ["samples", "4"],
        ["backend", "numpy,", "float64"],
        ["value", repr(MSE)],
    ]


def test_json_output(evaluate):
    record = evaluate("MSE", "y.npy", "p.npy")
    assert record.pop("rows_per_second") > 0
    assert record == {
        "loss": "mean_squared_error",
        "value": close(MSE),
        "reduction": "sum_over_batch_size",
        "samples": 4,
        "backend": "numpy",
        "dtype": "float64",
        "inputs": {
            "y_true": {"path": "y.npy", "shape": [4], "dtype": "float64"},
            "y_pred": {"path": "p.npy", "shape": [4], "dtype": "float64"},
        },
        "options": {},
        "output": None,
    }


def test_float32_is_printed_with_the_digits_of_float32(run):
    np.save("p32.npy", np.array([0.1], np.float32))
    assert run("evaluate", "mae", "p32.npy", "p32.npy").splitlines()[-1].split() == ["value", "0.0"]
    np.save("y32.npy", np.array([0.0], np.float32))
    assert run("evaluate", "mae", "y32.npy", "p32.npy").splitlines()[-1].split() == ["value", "0.1"]


def test_a_thousand_numbers_are_a_thousand_samples(evaluate):
    np.save("many.npy", np.arange(1000.0))
    np.save("zeros.npy", np.zeros((1000, 1)))
    expected = sum(i * i for i in range(1000)) / 1000
    np.save("flat.npy", np.zeros(1000))
    for files in (("zeros.npy", "many.npy"), ("many.npy", "zeros.npy"), ("flat.npy", "many.npy")):
        record = evaluate("mse", *files)
        assert (record["samples"], record["value"]) == (1000, close(expected))


def test_scalars_are_one_sample(evaluate):
    np.save("a.npy", np.array(1.0))
    np.save("b.npy", np.array(3.0))
    record = evaluate("mse", "a.npy", "b.npy")
    assert (record["samples"], record["value"]) == (1, close(4.0))


def test_a_class_name_has_the_options_of_its_class(evaluate):
    record = evaluate("Huber", "y.npy", "p.npy", "--option", "delta=0.5")
    errors = [abs(p - y) for y, p in zip(Y, P, strict=True)]
    expected = sum(e * e / 2 if e <= 0.5 else 0.5 * e - 0.125 for e in errors) / 4
    assert (record["loss"], record["value"], record["options"]) == ("huber", close(expected), {"delta": 0.5})


@pytest.mark.parametrize("value", ["true", "True"])
def test_logits_and_class_weight(evaluate, value):
    record = evaluate(
        "sparse_categorical_crossentropy", "ids.npy", "logits.npy", "--option", f"from_logits={value}", "--option", 'class_weight={"2": 3.0}'
    )
    expected = (-log_softmax(LOGITS[0], 0) - 3.0 * log_softmax(LOGITS[1], 2)) / 2
    assert record["value"] == close(expected)
    assert record["options"]["class_weight"] == {"2": 3.0}
    assert record["options"]["from_logits"] is True
    assert record["options"]["epsilon"] == lossbackend.epsilon()


def test_class_weight_as_a_list(evaluate):
    record = evaluate("scce", "ids.npy", "probabilities.npy", "--option", "class_weight=[2, 1, 0.5]")
    assert record["value"] == close((-2 * math.log(0.7) - 0.5 * math.log(0.6)) / 2)


def test_a_string_option(evaluate):
    np.save("pm.npy", np.array([-1.0, 1.0, 1.0, 1.0]))
    record = evaluate("hinge", "pm.npy", "p.npy", "--option", "labels=pm1")
    assert record["value"] == close(sum(max(0.0, 1 - y * p) for y, p in zip([-1, 1, 1, 1], P, strict=True)) / 4)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("sum", 0.25 + 2 * 4.0 + 3 * 1.0),
        ("mean", (0.25 + 2 * 4.0 + 3 * 1.0) / 3),
        ("mean_with_sample_weight", (0.25 + 2 * 4.0 + 3 * 1.0) / 6),
        ("none", [0.25, 0.0, 8.0, 3.0]),
    ],
)
def test_weights_mask_and_reduction(evaluate, reduction, expected):
    np.save("weights.npy", np.array([1.0, 5.0, 2.0, 3.0]))
    np.save("mask.npy", np.array([1, 0, 1, 1]))
    record = evaluate("mse", "y.npy", "p.npy", "--sample-weight", "weights.npy", "--mask", "mask.npy", "--reduction", reduction)
    assert record["value"] == close(expected)
    assert record["reduction"] == reduction
    assert set(record["inputs"]) == {"y_true", "y_pred", "sample_weight", "mask"}


def test_no_reduction_prints_a_line_for_each_sample(run):
    values = [line.split()[1] for line in run("evaluate", "mse", "y.npy", "p.npy", "--reduction", "none").splitlines() if line.startswith("value")]
    assert [float(value) for value in values] == [0.25, 0.0, 4.0, 1.0]


def test_json_stays_json_where_the_loss_is_not_finite(evaluate):
    np.save("odd.npy", np.array([math.nan, math.inf, 1.0, 2.0]))
    assert evaluate("mse", "y.npy", "odd.npy", "--reduction", "none", "--no-check")["value"][:2] == ["NaN", "Infinity"]


def test_another_backend(evaluate):
    pytest.importorskip("torch")
    record = evaluate("mse", "y.npy", "p.npy", "--backend", "pytorch")
    assert (record["backend"], record["dtype"], record["value"]) == ("torch", "float64", close(MSE))
    assert dispatch.selected() == ("numpy", "the default")


def test_the_environment_variable_selects_the_backend(evaluate, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("LOSSBACKEND", "torch")
    assert evaluate("mse", "y.npy", "p.npy")["backend"] == "torch"


# evaluate: files in


def test_npz(evaluate):
    np.savez("one.npz", y=np.array(Y))
    np.savez("two.npz", y=np.array(Y), p=np.array(P))
    assert evaluate("mse", "one.npz", "two.npz:p")["value"] == close(MSE)


def test_csv(evaluate):
    Path("data.csv").write_text("\ufeffid, label ,score\n1,0,0.5\n2,1,1e0\n3,1,3\n4,3,2\n\n", encoding="utf-8")
    record = evaluate("mse", "data.csv:label", "data.csv:score")
    assert record["value"] == close(MSE)
    assert record["inputs"]["y_true"] == {"path": "data.csv:label", "shape": [4], "dtype": "int64"}
    assert record["inputs"]["y_pred"]["dtype"] == "float64"


def test_csv_columns_in_the_order_given(evaluate):
    Path("data.csv").write_text('b,a,"a,b"\n0.2,0.7,9.5\n0.3,0.1,9\n', encoding="utf-8")
    Path("rest.csv").write_text("c\n0.1\n0.6\n", encoding="utf-8")
    np.save("two.npy", np.array([[0.7, 0.2], [0.1, 0.3]]))
    assert evaluate("mse", "two.npy", "data.csv:a, b")["value"] == 0.0
    assert evaluate("mse", "rest.csv", "rest.csv:c")["value"] == 0.0
    # A column whose own name holds a comma is that column.
    assert evaluate("mae", "rest.csv", "data.csv:a,b")["value"] == close((9.5 - 0.1 + 9 - 0.6) / 2)


def test_csv_class_ids_stay_integers(evaluate):
    Path("ids.csv").write_text("class\n0\n2\n", encoding="utf-8")
    record = evaluate("scce", "ids.csv", "probabilities.npy")
    assert record["inputs"]["y_true"]["dtype"] == "int64"
    assert record["value"] == close(-(math.log(0.7) + math.log(0.6)) / 2)


def test_csv_nan_and_numbers_beyond_int64(evaluate):
    Path("data.csv").write_text("a,b\n100000000000000000000,nan\n1,2\n", encoding="utf-8")
    record = evaluate("mae", "data.csv:a", "data.csv:b", "--reduction", "none", "--no-check")
    assert record["value"] == ["NaN", 1.0]


def test_parquet(evaluate):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"id": [0, 2], "a": [0.7, 0.1], "b": [0.2, 0.3], "c": [0.1, None]})
    parquet.write_table(table, "data.parquet")
    record = evaluate("scce", "data.parquet:id", "data.parquet:a,b,c", "--reduction", "none", "--no-check")
    assert record["inputs"]["y_true"] == {"path": "data.parquet:id", "shape": [2], "dtype": "int64"}
    assert record["inputs"]["y_pred"]["shape"] == [2, 3]
    assert record["value"] == [close(-math.log(0.7)), "NaN"]


# evaluate: a loss of one's own

OWN = """
from dataclasses import dataclass
import lossbackend as lb
print("noise")

@lb.loss
def charbonnier(ops, y_true, y_pred, *, scale):
    print("more noise")
    return ops.mean(ops.sqrt(ops.square(y_pred - y_true) + scale**2), axis=-1)

@dataclass(frozen=True)
class Charbonnier(lb.Loss):
    function = staticmethod(charbonnier)
    scale: float
    reduction: str | None = "sum"

four = Charbonnier(4.0)

class Holder:
    inner = staticmethod(charbonnier)

def plain(y_true, y_pred):
    return 0.0
"""


@pytest.mark.parametrize(
    ("spelling", "options", "mean"),
    [
        ("charbonnier", ["--option", "scale=4"], True),
        ("Holder.inner", ["--option", "scale=4"], True),
        ("Charbonnier", ["--option", "scale=4"], False),
        ("four", [], False),
        ("four", ["--reduction", "mean"], True),
    ],
)
def test_module_and_function(capsys, spelling, options, mean):
    name = "own_losses_" + spelling.replace(".", "_")
    module(name, OWN)
    assert main(["evaluate", f"{name}:{spelling}", "y.npy", "p.npy", "--json", *options]) == 0
    out, err = capsys.readouterr()
    total = sum(math.sqrt((p - y) ** 2 + 16) for y, p in zip(Y, P, strict=True))
    record = json.loads(out)
    assert (record["loss"], record["value"]) == ("charbonnier", close(total / 4 if mean else total))
    assert record["options"] == {"scale": 4.0}
    assert "more noise" in err


def test_module_in_a_package(evaluate):
    Path("own_package").mkdir()
    Path("own_package/__init__.py").write_text("", encoding="utf-8")
    module("own_package/inner", "from lossbackend import mse as mine")
    assert evaluate("own_package.inner:mine", "y.npy", "p.npy")["value"] == close(MSE)


def test_help_says_that_a_module_runs_its_code(run):
    assert "nothing else loads code" in " ".join(run("evaluate", "--help").split())


# evaluate: files out


def test_output_npy(evaluate):
    assert evaluate("mse", "y.npy", "p.npy", "--output", "out.npy")["output"] == "out.npy"
    np.testing.assert_array_equal(np.load("out.npy"), [0.25, 0.0, 4.0, 1.0])
    assert not [name for name in os.listdir() if name.startswith(".")]


def test_output_csv_can_be_read_again(evaluate):
    np.save("p32.npy", np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    np.save("zeros.npy", np.zeros(4))
    evaluate("mae", "zeros.npy", "p32.npy", "--output", "out.csv")
    assert Path("out.csv").read_text().split() == ["loss", "0.1", "0.2", "0.3", "0.4"]
    assert evaluate("mae", "out.csv", "p32.npy")["value"] == pytest.approx(0.0, abs=1e-7)


def test_output_csv_of_more_than_one_axis(evaluate):
    np.save("a.npy", np.arange(12.0).reshape(2, 3, 2))
    np.save("b.npy", np.zeros((2, 3, 2)))
    evaluate("mae", "b.npy", "a.npy", "--output", "out.csv")
    with open("out.csv", newline="") as file:
        assert list(csv.reader(file)) == [["loss_0", "loss_1", "loss_2"], ["0.5", "2.5", "4.5"], ["6.5", "8.5", "10.5"]]


def test_output_replaces_a_file_and_the_target_of_a_link(run):
    Path("old.npy").write_text("old")
    Path("link.npy").symlink_to("old.npy")
    assert "output" in run("evaluate", "mse", "y.npy", "p.npy", "--output", "link.npy")
    assert Path("link.npy").is_symlink()
    assert np.load("old.npy").shape == (4,)


def test_a_failed_write_leaves_the_old_file(mistake, monkeypatch):
    def full(file, *arguments, **options):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    np.save("out.npy", np.array([7.0]))
    monkeypatch.setattr(np, "save", full)
    assert "No space left on device" in mistake("evaluate", "mse", "y.npy", "p.npy", "--output", "out.npy")
    assert np.load("out.npy") == 7.0
    assert not [name for name in os.listdir() if name.startswith(".")]


# evaluate: more rows than memory


@pytest.fixture
def in_parts(monkeypatch):
    """Compute in parts of so many entries of y_pred from now on."""
    return lambda entries: monkeypatch.setattr(evaluation, "_ENTRIES", entries)


@pytest.fixture
def many(here):
    """1003 rows of logits and ids, weights (some are 0) and a mask (the first 100 rows are out), in .npy."""
    rng = np.random.default_rng(0)
    np.save("z.npy", (rng.normal(size=(1003, 3)) * 10.0 ** rng.integers(-3, 3, (1003, 1))).astype(np.float32))
    np.save("fortran.npy", np.asfortranarray(np.load("z.npy")))
    np.save("t.npy", rng.integers(0, 3, 1003))
    np.save("dense.npy", rng.normal(size=(1003, 3)))
    np.save("w.npy", rng.integers(0, 4, 1003) / 3)
    np.save("one.npy", np.array([2.0]))
    np.save("m.npy", (np.arange(1003) >= 100) & (rng.random(1003) > 0.1))


SPARSE = ("sparse_categorical_crossentropy", "t.npy", "z.npy", "--option", "from_logits=true", "--option", "class_weight=[1, 2, 0.5]")


@pytest.mark.parametrize("reduction", ["mean", "sum", "mean_with_sample_weight", "none"])
@pytest.mark.parametrize(
    "arguments",
    [
        (*SPARSE,),
        (*SPARSE, "--sample-weight", "w.npy", "--mask", "m.npy"),
        (*SPARSE[:-2], "--sample-weight", "one.npy", "--option", "ignore_class=1"),
        ("huber", "dense.npy", "z.npy", "--sample-weight", "w.npy"),
        ("mse", "w.npy", "w.npy", "--mask", "m.npy"),
        ("mae", "dense.npy", "fortran.npy", "--mask", "m.npy"),
        ("cosine_similarity", "dense.npy", "z.npy", "--option", "axis=0"),
    ],
)
def test_parts_add_up_to_the_whole(evaluate, many, in_parts, arguments, reduction):
    whole = evaluate(*arguments, "--reduction", reduction)
    # 16 rows at a time, and 11 in the last.
    in_parts(50)
    parts = evaluate(*arguments, "--reduction", reduction)
    assert parts.pop("rows_per_second") > 0
    assert parts["value"] == pytest.approx(whole["value"], rel=2e-6)
    assert parts == {**{key: entry for key, entry in whole.items() if key != "rows_per_second"}, "value": parts["value"]}


def test_only_parts_are_in_memory_at_a_time(evaluate, many, in_parts, monkeypatch):
    seen = []
    monkeypatch.setattr(
        evaluation, "evaluate", lambda definition, y_true, y_pred, *rest: seen.append(len(y_pred)) or computed(definition, y_true, y_pred, *rest)
    )
    computed = lossbackend.definition.evaluate
    in_parts(50)
    evaluate(*SPARSE)
    assert seen == [16] * 62 + [11]


def test_parts_on_another_backend(evaluate, many, in_parts):
    pytest.importorskip("torch")
    arguments = (*SPARSE, "--sample-weight", "w.npy", "--mask", "m.npy", "--backend", "torch", "--reduction", "mean_with_sample_weight")
    whole = evaluate(*arguments)["value"]
    in_parts(900)
    assert evaluate(*arguments)["value"] == pytest.approx(whole, rel=2e-6)


def test_row_groups_with_other_borders(evaluate, many, in_parts):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    logits = np.load("z.npy")
    parquet.write_table(pyarrow.table({"t": np.load("t.npy")}), "t.parquet", row_group_size=70)
    parquet.write_table(pyarrow.table({"b": logits[:, 1], "a": logits[:, 0], "c": logits[:, 2]}), "z.parquet", row_group_size=301)
    expected = evaluate(*SPARSE, "--sample-weight", "w.npy", "--reduction", "none")["value"]
    for entries in (50, 3 * 70, 3 * 301, 3 * 1002, 3 * 1003):
        in_parts(entries)
        record = evaluate(SPARSE[0], "t.parquet", "z.parquet:a,b,c", *SPARSE[3:], "--sample-weight", "w.npy", "--reduction", "none")
        assert record["value"] == expected
        assert record["inputs"]["y_pred"] == {"path": "z.parquet:a,b,c", "shape": [1003, 3], "dtype": "float32"}


def test_missing_values_are_found_without_statistics(mistake, in_parts):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"a": [1, 2, None, 4]}), "data.parquet", write_statistics=False)
    in_parts(1)
    assert mistake("evaluate", "mse", "data.parquet", "p.npy") == "y_true: 'data.parquet': column 'a' has 1 missing values"


def test_a_parquet_file_without_rows(evaluate):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"a": pyarrow.array([], "float32")}), "data.parquet")
    record = evaluate("mse", "data.parquet", "data.parquet")
    assert (record["samples"], record["value"], record["dtype"]) == (0, 0.0, "float32")


@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_output_in_parts_is_that_of_the_whole(run, many, in_parts, suffix):
    for name, entries in (("whole", 10_000), ("parts", 50)):
        in_parts(entries)
        run("evaluate", *SPARSE, "--mask", "m.npy", "--output", f"{name}.{suffix}")
    assert Path(f"parts.{suffix}").read_bytes() == Path(f"whole.{suffix}").read_bytes()


def test_output_in_parts_of_more_than_one_axis(run, in_parts):
    np.save("a.npy", np.asfortranarray(np.arange(84.0).reshape(7, 4, 3)))
    for name, entries in (("whole", 10_000), ("parts", 24)):
        in_parts(entries)
        run("evaluate", "mae", "a.npy", "a.npy", "--output", f"{name}.npy")
    assert np.load("parts.npy").shape == (7, 4)
    np.testing.assert_array_equal(np.load("parts.npy"), np.load("whole.npy"))


def test_messages_name_the_row_of_the_file(mistake, many, in_parts):
    logits, ids = np.load("z.npy"), np.load("t.npy")
    logits[700, 2], ids[900] = math.nan, 3
    np.save("nan.npy", logits)
    np.save("bad.npy", ids)
    in_parts(50)
    assert "y_pred at index (700, 2) is nan" in mistake("evaluate", "mse", "dense.npy", "nan.npy")
    assert "3 at index 900 is outside 0 ... 2" in mistake("evaluate", SPARSE[0], "bad.npy", *SPARSE[2:])
    np.save("rows.npy", np.vstack([np.full((500, 3), 1 / 3), np.full((503, 3), 0.3)]))
    assert "the row at index 500 sums to 0.9" in mistake("evaluate", SPARSE[0], "t.npy", "rows.npy")


def test_shapes_in_messages_are_those_of_the_files(mistake, many, in_parts):
    in_parts(1)
    np.save("short.npy", np.zeros((1002, 3)))
    np.save("weights.npy", np.ones(1002))
    assert "must have the same shape, got (1002, 3) and (1003, 3)" in mistake("evaluate", "mse", "short.npy", "z.npy")
    assert "mask of shape (1002,) does not align with per-sample losses of shape (1003,)" in mistake("evaluate", *SPARSE, "--mask", "weights.npy")


def test_what_looks_like_probabilities_does_so_everywhere(mistake, run, in_parts):
    # Sorted, so that every part but one looks like probabilities.
    np.save("labels.npy", np.array([0.0, 1.0] * 8))
    np.save("sorted.npy", np.array([*np.linspace(0.1, 0.9, 15), 3.0]))
    np.save("shares.npy", np.linspace(0.1, 0.9, 16))
    in_parts(4)
    run("evaluate", "bce", "labels.npy", "sorted.npy", "--option", "from_logits=true")
    line = mistake("evaluate", "bce", "labels.npy", "shares.npy", "--option", "from_logits=true")
    assert "y_pred at index (0, 0) is 0.1, and all of y_pred lies in [0, 1]: these look like probabilities" in line
    assert line.endswith("pass --no-check.")


def test_a_loss_of_ones_own_whose_samples_interact_is_computed_whole(evaluate, in_parts):
    module(
        "own_interacting",
        "import lossbackend as lb\n"
        "@lb.loss(interacting=True)\ndef said(ops, y_true, y_pred): return ops.mean(y_pred - ops.mean(y_pred), axis=-1) ** 2\n"
        "@lb.loss\ndef unsaid(ops, y_true, y_pred): return ops.mean(y_pred - ops.mean(y_pred), axis=-1) ** 2\n"
        "@lb.loss\ndef apart(ops, y_true, y_pred): return ops.mean((y_pred - y_true) ** 2, axis=-1)\n",
    )
    rows = 300_000
    values = np.random.default_rng(0).normal(size=rows)
    np.save("rows.npy", values)
    np.save("zeros.npy", np.zeros(rows))
    in_parts(200_000)
    for name, expected in (("said", values.var()), ("unsaid", values.var()), ("apart", np.square(values).mean())):
        assert evaluate(f"own_interacting:{name}", "zeros.npy", "rows.npy")["value"] == close(expected)


def test_interrupted_between_parts(mistake, many, in_parts, monkeypatch):
    def interrupt(definition, y_true, y_pred, *rest):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return lossbackend.definition.evaluate(definition, y_true, y_pred, *rest)

    np.save("out.npy", np.array([7.0]))
    in_parts(50)
    for output in ((), ("--output", "out.npy"), ("--output", "out.csv")):
        calls = []
        monkeypatch.setattr(evaluation, "evaluate", interrupt)
        assert mistake("evaluate", *SPARSE, *output, code=130) == "interrupted after 48 of 1003 rows; nothing was written"
    assert np.load("out.npy") == 7.0
    assert not [name for name in os.listdir() if name.startswith(".") or name == "out.csv"]


def sparse_file(name: str, shape: tuple[int, ...]) -> None:
    """float32 zeros that take no room on the disk."""
    with open(name, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + 4 * math.prod(shape))


def test_control_c_leaves_the_old_output():
    sparse_file("huge.npy", (2**30, 4))
    np.save("out.npy", np.array([7.0]))
    child = process("evaluate", "mse", "huge.npy", "huge.npy", "--output", "out.npy")
    # Its temporary file says how far it is.
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 2**24 for path in Path().glob(".lossbackend-*/out.npy")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, "")
    assert re.fullmatch(r"error: interrupted after [1-9]\d* of 1073741824 rows; nothing was written\n", err)
    assert np.load("out.npy") == 7.0
    assert not list(Path().glob(".lossbackend-*"))


def parquet_file(name: str, groups: int, rows: int) -> None:
    """Zeros in one column, which are few bytes on the disk."""
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"a": np.zeros(rows)})
    with pytest.importorskip("pyarrow.parquet").ParquetWriter(name, table.schema) as file:
        for _ in range(groups):
            file.write_table(table)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("suffix", ["npy", "parquet"])
def test_memory_is_bounded(suffix):
    if suffix == "npy":
        sparse_file("small.npy", (4, 16))
        sparse_file("large.npy", (2**23, 16))
    else:
        parquet_file("small.parquet", 1, 4)
        parquet_file("large.parquet", 16, 2**22)
    peaks = []
    for file in (f"small.{suffix}", f"large.{suffix}"):
        # Not ru_maxrss, which a process may inherit from the one that started it.
        code = f"from lossbackend.cli import main; assert main(['evaluate', 'mse', {file!r}, {file!r}]) == 0; print(open('/proc/self/status').read())"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        peaks.append(int(re.search(r"VmHWM:\s*(\d+) kB", run.stdout)[1]) / 1024)
    # Of 1 GiB together, in MiB above what evaluating four rows takes.
    assert peaks[1] - peaks[0] < 400


def test_a_bar_on_a_terminal_only_over_several_parts(many, in_parts, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["evaluate", *SPARSE]) == 0
    assert capsys.readouterr().err == ""
    in_parts(50)
    assert main(["evaluate", *SPARSE]) == 0
    assert "100%" in capsys.readouterr().err


# evaluate: checking mode

ONE_HOT = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]


@pytest.mark.parametrize(
    ("loss", "y_true", "y_pred", "options", "message"),
    [
        ("cce", ONE_HOT, LOGITS, [], "look like logits: pass --option from_logits=true"),
        ("scce", IDS, LOGITS, [], "look like logits: pass --option from_logits=true"),
        ("cce", ONE_HOT, [[0.7, 0.2, 0.1], [0.5, 0.2, 0.1]], [], "y_pred: the row at index 1 sums to 0.8, not to 1"),
        ("cce", ONE_HOT, PROBABILITIES, ["--option", "from_logits=true"], "look like probabilities: drop --option from_logits=true"),
        ("cce", np.transpose(ONE_HOT), np.transpose([[0.7, 0.2, 0.1], [0.5, 0.2, 0.1]]), ["--option", "axis=0"], "the row at index 1"),
        ("poisson", ONE_HOT, LOGITS, [], "pass --option log_input=true if these are logarithms"),
        ("mse", ONE_HOT, [[0.0, 0.0, 0.0], [0.0, math.nan, 0.0]], [], "y_pred at index (1, 1) is nan, which is not a finite number"),
        ("mse", ONE_HOT, [[0.0, 0.0, 0.0], [0.0, math.nan, 0.0]], [], "leave the sample out with --mask or a weight of 0"),
    ],
)
def test_what_checking_mode_refuses_is_a_mistake(mistake, run, loss, y_true, y_pred, options, message):
    np.save("a.npy", np.array(y_true))
    np.save("b.npy", np.array(y_pred))
    line = mistake("evaluate", loss, "a.npy", "b.npy", *options)
    assert message in line
    assert line.endswith(" If the input is meant so, pass --no-check.")
    run("evaluate", loss, "a.npy", "b.npy", *options, "--no-check")
    assert not checking.ON


@pytest.mark.parametrize(
    ("loss", "y_true", "y_pred", "options"),
    [
        ("cce", ONE_HOT, [[0.7, 0.2, 0.1004], [0.1, 0.3, 0.6]], []),
        ("cce", ONE_HOT, [[0.7, 0.2, 0.1], [0.5, 0.2, 0.1]], ["--option", "from_logits=true"]),
        ("bce", ONE_HOT, [[0.9, 0.9, 0.9], [0.0, 1.0, 1.0 + 1e-7]], []),
        ("mse", ONE_HOT, LOGITS, []),
        ("cce", np.zeros((0, 3)), np.zeros((0, 3)), ["--option", "from_logits=true"]),
        ("cce", np.zeros((0, 3)), np.zeros((0, 3)), []),
    ],
)
def test_checking_mode_does_not_misfire(run, loss, y_true, y_pred, options):
    np.save("a.npy", np.array(y_true))
    np.save("b.npy", np.array(y_pred))
    run("evaluate", loss, "a.npy", "b.npy", *options)


def test_checking_mode_leaves_out_what_is_masked_weightless_or_ignored(evaluate):
    np.save("b.npy", np.array([PROBABILITIES[0], [0.0, 0.0, 0.0]]))
    np.save("mask.npy", np.array([True, False]))
    np.save("weight.npy", np.array([1.0, 0.0]))
    expected = -math.log(0.7)
    assert evaluate("scce", "ids.npy", "b.npy", "--mask", "mask.npy")["value"] == close(expected)
    assert evaluate("scce", "ids.npy", "b.npy", "--sample-weight", "weight.npy")["value"] == close(expected / 2)
    assert evaluate("scce", "ids.npy", "b.npy", "--option", "ignore_class=2")["value"] == close(expected)


# Mistakes


def write(name: str, text: str | bytes) -> str:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return name


def test_no_such_file(mistake):
    assert mistake("evaluate", "mse", "nope.npy", "p.npy") == "y_true: no such file: 'nope.npy'"
    assert "sample_weight: no such file" in mistake("evaluate", "mse", "y.npy", "p.npy", "--sample-weight", "nope.csv:w")


def test_a_directory_as_input(mistake):
    Path("folder.npy").mkdir()
    assert "is a directory" in mistake("evaluate", "mse", "folder.npy", "p.npy")


@pytest.mark.parametrize("name", ["y.txt", "y", "", "y.csv.gz"])
def test_unknown_suffix(mistake, name):
    assert "has to end in .npy, .npz, .csv or .parquet" in mistake("evaluate", "mse", name, "p.npy")


def test_npz_keys(mistake):
    np.savez("two.npz", y=np.array(Y), p=np.array(P))
    np.savez("none.npz")
    assert mistake("evaluate", "mse", "two.npz", "p.npy") == "y_true: 'two.npz': 2 arrays, 'y', 'p': add ':' and a name, such as ':y'"
    assert mistake("evaluate", "mse", "two.npz:z", "p.npy") == "y_true: 'two.npz': no array 'z'; there are 'y', 'p'"
    assert "there are no arrays" in mistake("evaluate", "mse", "none.npz", "p.npy")
    assert "drop ':z'" in mistake("evaluate", "mse", "y.npy:z", "p.npy")


def test_many_names_are_not_all_listed(mistake):
    write("wide.csv", ",".join(f"c{i}" for i in range(50)) + "\n")
    line = mistake("evaluate", "mse", "wide.csv", "p.npy")
    assert "'c19', and 30 more" in line
    assert "c20" not in line


def test_csv_columns(mistake):
    write("data.csv", "a,b,b\n1,2,3\n")
    assert "3 columns, 'a', 'b', 'b': add ':' and a name" in mistake("evaluate", "mse", "data.csv", "p.npy")
    assert "no column 'c'; there are 'a', 'b', 'b'" in mistake("evaluate", "mse", "data.csv:a,c", "p.npy")
    assert "2 columns are called 'b'" in mistake("evaluate", "mse", "data.csv:b", "p.npy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,oops\n", "line 3, column 'b': 'oops' is not a number"),
        ("a,b\n1,2\n3,\n", "line 3, column 'b': '' is not a number"),
        ("a,b\n1,1_000\n", "line 2, column 'b': '1_000' is not a number"),
        ("a,b\n1,2\n3\n", "line 3 has 1 cells where the header has 2"),
        ("a,b\n1,2\n\n3,4\n", "line 3 has 0 cells where the header has 2"),
        ("", "the file is empty; a header row is required"),
        (b"a,b\n\xff,2\n", "not text in UTF-8"),
        (b'a,b\n1,"' + b"2" * 200_000 + b'"\n', "field larger than field limit"),
    ],
)
def test_bad_csv(mistake, text, message):
    assert message in mistake("evaluate", "mse", write("data.csv", text) + ":b", "p.npy")


def test_csv_without_a_header(mistake, evaluate):
    assert "a header row is required (if it is one, add ':1.5')" in mistake("evaluate", "mse", write("data.csv", "1.5\n2\n3\n4\n5\n"), "p.npy")
    assert evaluate("mse", "data.csv:1.5", "p.npy")["samples"] == 4


def test_parquet_columns(mistake):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"a": [1, None], "s": ["x", "y"]}), "data.parquet")
    assert "2 columns, 'a', 's'" in mistake("evaluate", "mse", "data.parquet", "p.npy")
    assert "no column 'b'; there are 'a', 's'" in mistake("evaluate", "mse", "data.parquet:b", "p.npy")
    assert "column 'a' has 1 missing values" in mistake("evaluate", "mse", "data.parquet:a", "p.npy")
    assert "column 's' holds string, not numbers" in mistake("evaluate", "mse", "data.parquet:s", "p.npy")
    assert "'bad.parquet'" in mistake("evaluate", "mse", write("bad.parquet", "not parquet"), "p.npy")


def test_parquet_without_pyarrow(mistake, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "'data.parquet' needs pyarrow to be read: pip install" in mistake("evaluate", "mse", write("data.parquet", ""), "p.npy")


def test_objects_and_text_are_not_read(mistake):
    np.save("objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez("objects.npz", a=np.array([{}], dtype=object))
    np.save("text.npy", np.array(["a"]))
    np.save("complex.npy", np.array([1j]))
    for name in ("objects.npy", "objects.npz"):
        assert f"y_true: '{name}': Python objects, which are never read" in mistake("evaluate", "mse", name, "p.npy")
    assert "the values are <U1, not numbers" in mistake("evaluate", "mse", "text.npy", "p.npy")
    assert "the values are complex128, not numbers" in mistake("evaluate", "mse", "complex.npy", "p.npy")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04nonsense", b"\x93NUMPY\x01\x00"])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_damaged_files(mistake, suffix, content):
    name = write(f"damaged.{suffix}", content)
    assert f"y_true: '{name}': " in mistake("evaluate", "mse", name, "p.npy")


def test_unreadable_file(mistake, monkeypatch):
    def refuse(path, **options):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(np, "load", refuse)
    assert mistake("evaluate", "mse", "y.npy", "p.npy") == "y_true: 'y.npy': Permission denied"


def test_wrong_shapes(mistake):
    assert "must have the same shape" in mistake("evaluate", "mse", "y.npy", "logits.npy")
    assert "use sparse_categorical_crossentropy" in mistake("evaluate", "cce", "ids.npy", "logits.npy")
    assert "use binary_crossentropy" in mistake("evaluate", "cce", "y.npy", "p.npy")
    assert "sample_weight of shape (2,) does not align" in mistake("evaluate", "mse", "y.npy", "p.npy", "--sample-weight", "ids.npy")
    assert "mask of shape (2,) does not align" in mistake("evaluate", "mse", "y.npy", "p.npy", "--mask", "ids.npy")


@pytest.mark.parametrize("name", ["msee", "", "Hubber", "MeanSquareError"])
def test_unknown_loss(mistake, name):
    line = mistake("evaluate", name, "y.npy", "p.npy")
    assert f"unknown loss {name!r}" in line
    assert not name or "Did you mean" in line


@pytest.mark.parametrize(
    ("loss", "option", "message"),
    [
        ("huber", "delat=1", "did you mean 'delta'?"),
        ("Huber", "delat=1", "did you mean 'delta'?"),
        ("mse", "reduction=sum", "unknown option 'reduction'"),
        ("huber", "delta=-1", "delta must be positive and finite, got -1"),
        ("huber", "delta=NaN", "delta must be positive and finite, got nan"),
        ("huber", "delta=wide", "delta must be a number, got 'wide'"),
        ("huber", "delta", "--option takes name=value, got 'delta'"),
        ("huber", "=1", "--option takes name=value, got '=1'"),
        ("bce", "label_smoothing=2", "label_smoothing must lie between 0 and 1"),
        ("bce", "from_logits=yes", "from_logits must be True or False, got 'yes'"),
        ("hinge", "labels=pm2", "labels must be 'auto', 'pm1' or 'binary'"),
        ("bce", "pos_weight=[1,", "is not valid JSON"),
        ("mape", "epsilon=0", "epsilon must lie between 0 and 1"),
        ("cosine", "axis=5", "axis 5 is out of range"),
    ],
)
def test_bad_options(mistake, loss, option, message):
    assert message in mistake("evaluate", loss, "y.npy", "p.npy", "--option", option)


def test_an_option_given_twice(mistake):
    assert "--option delta was given twice" in mistake("evaluate", "huber", "y.npy", "p.npy", "--option", "delta=1", "--option", "delta=2")


@pytest.mark.parametrize(
    ("value", "message"),
    [('{"a": 1}', "a class in class_weight must be an int, got 'a'"), ('{"7": 1}', "names class 7"), ("[1]", "must hold 3 numbers")],
)
def test_bad_class_weights(mistake, value, message):
    assert message in mistake("evaluate", "scce", "ids.npy", "probabilities.npy", "--option", f"class_weight={value}")


@pytest.mark.parametrize("bad", [3, -1])
def test_label_out_of_range(mistake, bad):
    np.save("bad.npy", np.array([0, bad]))
    assert f"{bad} at index 1 is outside 0 ... 2" in mistake("evaluate", "scce", "bad.npy", "probabilities.npy")


def test_unknown_backend(mistake, monkeypatch):
    assert "unknown backend 'torhc'" in mistake("evaluate", "mse", "y.npy", "p.npy", "--backend", "torhc")
    monkeypatch.setenv("LOSSBACKEND", "torhc")
    assert "the environment variable LOSSBACKEND: unknown backend 'torhc'" in mistake("evaluate", "mse", "y.npy", "p.npy")
    assert "unknown backend 'torhc'" in mistake("backends")


def test_a_backend_that_is_not_installed(mistake, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.delitem(sys.modules, "lossbackend.backends.jax_backend", raising=False)
    monkeypatch.delattr(lossbackend.backends, "jax_backend", raising=False)
    monkeypatch.delitem(dispatch._loaded, "jax", raising=False)
    assert 'pip install "lossbackend[jax]"' in mistake("evaluate", "mse", "y.npy", "p.npy", "--backend", "jax")


def test_bad_reduction(mistake):
    assert "'avg' is not one of 'sum_over_batch_size'" in mistake("evaluate", "mse", "y.npy", "p.npy", "--reduction", "avg")
    module("own_reduction", OWN.replace('print("noise")', "").replace('"sum"', '"avg"').replace("four =", "#"))
    assert "Invalid value for argument `reduction`: 'avg'" in mistake(
        "evaluate", "own_reduction:Charbonnier", "y.npy", "p.npy", "--option", "scale=1"
    )


def test_bad_output(mistake):
    Path("folder").mkdir()
    Path("folder.npy").mkdir()
    assert "is a directory" in mistake("evaluate", "mse", "y.npy", "p.npy", "--output", "folder")
    assert "is a directory" in mistake("evaluate", "mse", "y.npy", "p.npy", "--output", "folder.npy")
    assert "has to end in .npy or .csv" in mistake("evaluate", "mse", "y.npy", "p.npy", "--output", "out.txt")
    assert "no such directory" in mistake("evaluate", "mse", "y.npy", "p.npy", "--output", "nope/out.npy")


def test_bad_modules(mistake):
    module("own_empty", "def plain(y_true, y_pred): return 0.0\nfrom lossbackend import mse")
    module("own_broken", "import not_there_at_all")
    module("own_syntax", "def f(:\n")
    module("own_exit", "import sys\nsys.exit('bye')")
    module("own_raising", "raise RuntimeError('first\\nsecond')")
    for name, message in {
        "own_nowhere:f": "cannot import 'own_nowhere': No module named 'own_nowhere'",
        "own_empty.py:mse": "write own_empty:mse",
        "own_empty:nope": "module 'own_empty' has no 'nope'; its losses are: 'mse'",
        "own_empty:mse.nope": "module 'own_empty' has no 'mse.nope'",
        "own_empty:plain": "'own_empty:plain' is not a loss: decorate the function with @lossbackend.loss",
        "lossbackend:Loss": "is not a loss",
        "own_broken:f": "cannot import 'own_broken': No module named 'not_there_at_all'",
        "own_syntax:f": "cannot import 'own_syntax': SyntaxError",
        "own_exit:f": "cannot import 'own_exit': SystemExit: bye",
        "own_raising:f": "cannot import 'own_raising': RuntimeError: first second",
        ".own:f": "cannot import '.own'",
        ":f": "write module:function",
        "own_empty:": "write module:function",
    }.items():
        assert message in mistake("evaluate", name, "y.npy", "p.npy")


def test_a_loss_of_ones_own_that_fails(mistake):
    module(
        "own_failing",
        "from lossbackend import loss\n"
        "@loss\ndef key(ops, y_true, y_pred): return {}['nope']\n"
        "@loss\ndef value(ops, y_true, y_pred): raise ValueError('one\\n  two')\n"
        "@loss\ndef needs(ops, y_true, y_pred, *, scale): return ops.mean(y_pred, axis=-1)\n",
    )
    assert mistake("evaluate", "own_failing:key", "y.npy", "p.npy") == "key: KeyError: 'nope'"
    assert mistake("evaluate", "own_failing:value", "y.npy", "p.npy") == "one two"
    assert "option scale is missing" in mistake("evaluate", "own_failing:needs", "y.npy", "p.npy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing command. Try `lossbackend --help`."),
        (["evalute"], "No such command 'evalute'."),
        (["evaluate"], "Missing argument 'LOSS'. Try `lossbackend evaluate --help`."),
        (["evaluate", "mse", "y.npy"], "Missing argument 'Y_PRED'."),
        (["evaluate", "mse", "y.npy", "p.npy", "extra"], "unexpected extra argument"),
        (["evaluate", "mse", "y.npy", "p.npy", "--nope"], "No such option"),
        (["evaluate", "mse", "y.npy", "p.npy", "--option"], "requires an argument"),
        (["losses", "msee"], "Did you mean 'mse'"),
        (["losses", "a", "b"], "unexpected extra argument"),
        (["backends", "x"], "unexpected extra argument"),
    ],
)
def test_wrong_arguments(mistake, arguments, message):
    assert message in mistake(*arguments)


def test_interrupted(mistake, monkeypatch):
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "functions", interrupt)
    assert mistake("losses", code=130) == "interrupted"


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra(mistake, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    assert mistake("losses") == 'the command line needs pip install "lossbackend[cli]"'


# backends


def test_backends_that_are_missing_or_broken(run, monkeypatch):
    def broken(name: str) -> object:
        if name == "torch":
            raise RuntimeError("libcudart.so\nnot found")
        return adapter(name)

    adapter = dispatch.adapter
    monkeypatch.setattr(dispatch, "available_backends", lambda: ["numpy", "torch", "mine"])
    monkeypatch.setattr(dispatch, "adapter", broken)
    monkeypatch.setitem(dispatch._loaded, "mine", SimpleNamespace(name="mine", asarray=lambda x: object()))
    record = json.loads(run("backends", "--json"))
    assert (record["selected"], record["reason"]) == ("numpy", "the default")
    table = {backend.pop("name"): backend for backend in record["backends"]}
    assert list(table) == ["numpy", "torch", "jax", "tensorflow", "pytensor", "onnx", "mine"]
    assert [table[name]["problem"] for name in ("pytensor", "onnx")] == [f'pip install "lossbackend[{name}]"' for name in ("pytensor", "onnx")]
    assert table["numpy"] == {"installed": True, "version": np.__version__, "device": "cpu", "problem": None}
    assert table["torch"]["problem"] == "cannot be imported: RuntimeError: libcudart.so not found"
    assert table["jax"] == {"installed": False, "version": None, "device": None, "problem": 'pip install "lossbackend[jax]"'}
    assert table["mine"] == {"installed": True, "version": None, "device": None, "problem": None}
    lines = run("backends").splitlines()
    assert lines[0].split() == ["backend", "installed", "version", "device", "selected"]
    assert lines[1].split() == ["numpy", "yes", np.__version__, "cpu", "yes:", "the", "default"]
    assert 'pip install "lossbackend[jax]"' in lines[3]


def test_backends_names_the_device_and_why(run, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(dispatch, "available_backends", lambda: ["numpy", "torch"])
    monkeypatch.setenv("LOSSBACKEND", "torch")
    record = json.loads(run("backends", "--json"))
    assert (record["selected"], record["reason"]) == ("torch", "the environment variable LOSSBACKEND")
    assert record["backends"][1] == {"name": "torch", "installed": True, "version": torch.__version__, "device": "cpu", "problem": None}


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("cpu", "cpu"),
        ("cuda:0", "cuda:0"),
        ("/job:localhost/replica:0/task:0/device:GPU:1", "gpu:1"),
        (SimpleNamespace(platform="gpu"), "gpu"),
        (object(), None),
        (None, None),
    ],
)
def test_device_names(device, expected):
    assert cli._device_name(SimpleNamespace(device=device)) == expected


# losses


def test_losses_lists_every_loss(run):
    lines = run("losses").splitlines()
    records = json.loads(run("losses", "--json"))
    assert [record["name"] for record in records] == list(registry.functions())
    assert len(lines) == len(records) + 1
    for record, line in zip(records, lines[1:], strict=True):
        assert line.startswith(record["name"])
        for cell in (*record["aliases"], *record["options"], record["formula"]):
            assert cell in line


@pytest.mark.parametrize("name", ["kl_divergence", "KLD", "KLDivergence"])
def test_one_loss(run, name):
    out = run("losses", name)
    assert "Σ y(log y − log max(p, ε))" in out
    assert "kl_divergence(y_true, y_pred, *, epsilon=None, from_logits=False)" in out
    assert "KLDivergence(reduction='sum_over_batch_size', name=None, *, epsilon=None, from_logits=False)" in out
    assert "kullback_leibler_divergence, kld, KLD" in out
    assert "y_true and y_pred have one shape" in out
    record = json.loads(run("losses", name, "--json"))
    assert (record["name"], record["class"], record["options"]) == ("kl_divergence", "KLDivergence", {"epsilon": None, "from_logits": False})


def test_every_name_is_understood(run):
    for name in registry.names():
        assert json.loads(run("losses", name, "--json"))["signature"]


def test_losses_takes_names_only(mistake):
    module("own_unread", "raise SystemExit")
    assert "unknown loss" in mistake("losses", "own_unread:f")


# The process


@pytest.mark.parametrize("command", [[], ["backends"], ["losses"], ["evaluate"], ["parity"], ["plot"], ["export"]])
def test_help(run, command):
    assert run(*command, "--help").startswith("Usage: lossbackend")
    assert run(*command, "-h").startswith("Usage: lossbackend")


def test_version(run):
    assert lossbackend.__version__ in run("--version")


def process(*arguments: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "lossbackend", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_exit_codes_of_the_process():
    right = process("evaluate", "mse", "y.npy", "p.npy")
    out, err = right.communicate(timeout=60)
    assert (right.returncode, err) == (0, "")
    assert f"value      {MSE}" in out
    wrong = process("evaluate", "mse", "nope.npy", "p.npy")
    assert wrong.communicate(timeout=60) == ("", "error: y_true: no such file: 'nope.npy'\n")
    assert wrong.returncode == 2


@pytest.mark.parametrize("arguments", [["losses"], ["evaluate", "mse", "y.npy", "p.npy", "--reduction", "none"]])
def test_a_closed_pipe_is_no_error(arguments):
    child = process(*arguments)
    child.stdout.close()
    with child.stderr:
        assert child.stderr.read() == ""
    child.wait(timeout=60)


def test_a_full_disk_is_one_line():
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with open("/dev/full", "w") as full:
        child = subprocess.run(
            [sys.executable, "-m", "lossbackend", "evaluate", "mse", "y.npy", "p.npy"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (child.returncode, child.stderr) == (2, "error: No space left on device\n")


def test_an_encoding_without_the_signs_of_a_formula():
    child = process("losses", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")
    assert "mean_squared_error" in out
