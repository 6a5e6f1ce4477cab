"""The examples do what they say, and the digits files are what their script makes."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REQUIRE, chosen_backends
from frameworks import FRAMEWORKS

import lossbackend

EXAMPLES = Path(__file__).parents[1] / "examples"
DIGITS = EXAMPLES / "digits"
FILES = {
    "labels": (np.int64, (1797,)),
    "probabilities": (np.float32, (1797, 10)),
    "logits": (np.float32, (1797, 10)),
    "images": (np.uint8, (1797, 64)),
}

# Runs main() of the script, and keeps what train() returned: the report shows a few steps only.
DRIVER = """
import importlib.util, json, pathlib, sys
spec = importlib.util.spec_from_file_location("train_digits", sys.argv[1])
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
train = script.train
def keep(*arguments):
    runs = train(*arguments)
    pathlib.Path(sys.argv[2]).write_text(json.dumps(runs))
    return runs
script.train = keep
sys.exit(script.main(sys.argv[3:]))
"""


def digits(name):
    return np.load(DIGITS / f"{name}.npy")


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script():
    pytest.importorskip("matplotlib")
    pytest.importorskip("rich")
    return load(EXAMPLES / "train_digits.py")


def compared():
    """The chosen frameworks, without those that are not installed, unless they are required."""
    chosen = [name for name in chosen_backends() if name != "numpy"]
    if os.environ.get(REQUIRE, "") in ("", "0"):
        chosen = [name for name in chosen if FRAMEWORKS[name].installed()]
    if len(chosen) < 2:
        pytest.skip("needs two frameworks to compare")
    return chosen


def test_training_curves_coincide(script, tmp_path):
    from matplotlib import image

    # In a process of its own, because it configures TensorFlow for all that follows in the process.
    backends = compared()
    command = [sys.executable, "-W", "error", "-c", DRIVER, script.__file__, "runs.json", "--output", "curves.png", "--backends", *backends]
    environment = {**os.environ, "PYTHONUTF8": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr

    runs = json.loads((tmp_path / "runs.json").read_text())
    assert set(runs) == set(backends)
    curves = np.array([losses for losses, _ in runs.values()])
    assert curves.shape == (len(runs), 100)
    for curve in curves[1:]:
        np.testing.assert_allclose(curve, curves[0], rtol=1e-5, atol=0)
    # An untrained model gives each of the 10 digits about the same probability.
    np.testing.assert_allclose(curves[:, 0], math.log(10), rtol=0.01)
    assert (np.diff(curves) < 0).all()
    assert all(accuracy > 0.9 for _, accuracy in runs.values()), runs

    losses, accuracy = runs[backends[0]]
    for part in ("largest relative difference over all 100 steps", f"{losses[0]:.8f}", f"{losses[-1]:.8f}", f"{accuracy:.2%}"):
        assert part in done.stdout

    pixels = image.imread(tmp_path / "curves.png")[..., :3]
    assert pixels.shape == (900, 1200, 3)
    assert 0.01 < (pixels.min(axis=-1) < 0.5).mean() < 0.5
    # Some of it is coloured: the curves, and not just the axes.
    assert (np.ptp(pixels, axis=-1) > 0.3).mean() > 0.005


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"torch": ([1.0, 1.0], 0.95), "jax": ([1.0, 1.0001], 0.95)}, "differ by up to 1.0e-04 of their size, first at step 2"),
        ({"torch": ([1.0, 1.0], 0.95), "jax": ([math.nan, 1.0], 0.95)}, "first at step 1"),
        ({"torch": ([1.0, 1.0], 0.95), "jax": ([1.0, 1.0], 0.9)}, "accuracy is not above 90%: JAX 90.0%"),
    ],
)
def test_training_fails_where_curves_part_or_nothing_is_learnt(script, monkeypatch, capsys, tmp_path, runs, message):
    monkeypatch.setattr(script, "train", lambda backends, steps, console: runs)
    monkeypatch.setattr(lossbackend, "available_backends", lambda: ["numpy", "torch", "jax"])
    assert script.main(["--output", str(tmp_path / "curves.png")]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--backends", "torch", "tensorflow"], "not installed: tensorflow"),
        (["--output", "nowhere/curves.png"], "there is no directory nowhere"),
    ],
)
def test_training_refuses_bad_options(script, monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lossbackend, "available_backends", lambda: ["numpy", "torch", "jax"])
    with pytest.raises(SystemExit, match="2"):
        script.main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", FILES)
def test_digits_files(name):
    array = digits(name)
    assert (array.dtype, array.shape) == FILES[name]
    assert np.isfinite(array).all()


def test_digits_files_are_small():
    assert sum(path.stat().st_size for path in DIGITS.glob("*.npy")) < 300_000


def test_digits_values():
    assert sorted(set(digits("labels").tolist())) == list(range(10))
    assert (digits("images").min(), digits("images").max()) == (0, 16)
    probabilities, logits = digits("probabilities").astype(np.float64), digits("logits").astype(np.float64)
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    odds = np.exp(logits)
    np.testing.assert_allclose(probabilities, odds / odds.sum(axis=1, keepdims=True), rtol=1e-5)
    # A good classifier that has not seen the digit it predicts: not perfect.
    accuracy = (probabilities.argmax(axis=1) == digits("labels")).mean()
    assert 0.95 < accuracy < 0.99


def test_loss_of_the_digits():
    labels, probabilities = digits("labels"), digits("probabilities")
    exact = [-math.log(row[label]) for label, row in zip(labels.tolist(), probabilities.tolist(), strict=True)]
    losses = lossbackend.sparse_categorical_crossentropy(labels, probabilities)
    np.testing.assert_allclose(losses.mean(), math.fsum(exact) / len(exact), rtol=1e-6)
    # A probability near 1 is known to 6e-8 in float32, and so is its logarithm.
    np.testing.assert_allclose(losses, exact, rtol=1e-6, atol=3e-7)
    from_logits = lossbackend.sparse_categorical_crossentropy(labels, digits("logits"), from_logits=True)
    np.testing.assert_allclose(from_logits, exact, rtol=1e-6, atol=3e-7)


def test_make_digits_makes_the_files():
    pytest.importorskip("sklearn")
    made = load(DIGITS / "make_digits.py").make()
    assert set(made) == set(FILES)
    for name, array in made.items():
        assert (array.dtype, array.shape) == FILES[name]
        if array.dtype == np.float32:
            # The absolute tolerance is for the logits that happen to be near 0.
            np.testing.assert_allclose(array, digits(name), rtol=1e-4, atol=1e-5 if name == "logits" else 0)
        else:
            np.testing.assert_array_equal(array, digits(name))
