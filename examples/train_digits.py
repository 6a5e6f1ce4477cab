"""One loss object trains the same model in PyTorch, JAX and TensorFlow.

The model is a softmax regression on handwritten digits: logits = images @ weights + biases, from 64 pixels to 10 classes. Each framework trains it in
its own way, from the same initial weights, with plain gradient descent on all images at once. Nothing but the loss is shared, and as it is the same
loss to the last digits, so are the training curves: the script compares them at every step, draws them, and fails if they part.

Run: pip install matplotlib rich && python train_digits.py
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import lossbackend
from lossbackend import Loss

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Advance = Callable[[], object]
"""Called after each step, for the progress bar."""
Run = tuple[list[float], float]
"""The loss before each step, and the accuracy on the same images after the last."""

LEARNING_RATE = 0.5
TOLERANCE = 1e-5
ACCURACY = 0.9
DIGITS = Path(__file__).parent / "digits"


def train_torch(images: Floats, labels: Labels, weights: Floats, biases: Floats, steps: int, loss: Loss, advance: Advance) -> Run:
    """PyTorch: a module, an optimiser, and backward() on the loss."""
    import torch

    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    model = torch.nn.Linear(*weights.shape)
    # A Linear layer keeps its weights transposed: outputs by inputs.
    model.load_state_dict({"weight": torch.from_numpy(weights.T), "bias": torch.from_numpy(biases)})
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)

    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(y, model(x))
        value.backward()
        optimizer.step()
        losses.append(value.item())
        advance()
    return losses, float((model(x).argmax(dim=1) == y).float().mean())


def train_jax(images: Floats, labels: Labels, weights: Floats, biases: Floats, steps: int, loss: Loss, advance: Advance) -> Run:
    """JAX: a pure function from parameters to better parameters, compiled."""
    import jax
    import jax.numpy as jnp

    def predict(parameters: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        # A GPU may round the factors of a matrix product to 10 bits, unless told otherwise.
        return jnp.matmul(x, parameters["weights"], precision="highest") + parameters["biases"]

    @jax.jit
    def step(parameters: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        value, gradients = jax.value_and_grad(lambda p: loss(y, predict(p, x)))(parameters)
        return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, parameters, gradients), value

    x, y = jnp.asarray(images), jnp.asarray(labels)
    parameters = {"weights": jnp.asarray(weights), "biases": jnp.asarray(biases)}
    losses = []
    for _ in range(steps):
        parameters, value = step(parameters, x, y)
        losses.append(float(value))
        advance()
    return losses, float((predict(parameters, x).argmax(axis=1) == y).mean())


def train_tensorflow(images: Floats, labels: Labels, weights: Floats, biases: Floats, steps: int, loss: Loss, advance: Advance) -> Run:
    """TensorFlow: variables, a gradient tape, and the step as one graph."""
    # Read at the import: without them TensorFlow greets with a page of messages, one of which only goes when oneDNN does.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf

    # As in JAX: the products of a GPU in full float32.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    x, y = tf.constant(images), tf.constant(labels)
    w, b = tf.Variable(weights), tf.Variable(biases)

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = loss(y, x @ w + b)
        for variable, gradient in zip((w, b), tape.gradient(value, (w, b)), strict=True):
            variable.assign_sub(LEARNING_RATE * gradient)
        return value

    losses = []
    for _ in range(steps):
        losses.append(float(step()))
        advance()
    return losses, float(np.mean(tf.argmax(x @ w + b, axis=1) == y))


TRAIN = {"torch": train_torch, "jax": train_jax, "tensorflow": train_tensorflow}
TITLES = {"torch": "PyTorch", "jax": "JAX", "tensorflow": "TensorFlow"}


def train(backends: Sequence[str], steps: int, console: Console) -> dict[str, Run]:
    """One run per backend, all from the same data, initial weights and loss."""
    images = np.load(DIGITS / "images.npy").astype(np.float32) / 16
    labels = np.load(DIGITS / "labels.npy")
    weights = np.random.default_rng(0).normal(scale=0.01, size=(64, 10)).astype(np.float32)
    biases = np.zeros(10, np.float32)
    loss = lossbackend.SparseCategoricalCrossentropy(from_logits=True)

    columns = TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    runs = {}
    with Progress(*columns, console=console) as progress:
        for backend in backends:
            task = progress.add_task(TITLES[backend], total=steps)
            runs[backend] = TRAIN[backend](images, labels, weights, biases, steps, loss, partial(progress.advance, task))
    return runs


def differences(runs: dict[str, Run]) -> NDArray[np.float64]:
    """By how much the largest loss exceeds the smallest, as a fraction of it, at each step."""
    curves = np.array([losses for losses, _ in runs.values()])
    return (curves.max(axis=0) - curves.min(axis=0)) / curves.min(axis=0)


def table(runs: dict[str, Run]) -> Table:
    """A few steps of the curves side by side, and the accuracies."""
    difference = differences(runs)
    rows = Table(title="Training loss", caption=f"largest relative difference over all {len(difference)} steps: {difference.max():.1e}")
    for heading in ("step", *(TITLES[backend] for backend in runs), "relative difference"):
        rows.add_column(heading, justify="right")
    for step in np.unique(np.linspace(0, len(difference) - 1, 6).astype(int)):
        rows.add_row(str(step + 1), *(f"{losses[step]:.8f}" for losses, _ in runs.values()), f"{difference[step]:.1e}")
    rows.add_section()
    rows.add_row("accuracy", *(f"{accuracy:.2%}" for _, accuracy in runs.values()), "")
    return rows


def draw(runs: dict[str, Run], path: Path) -> None:
    """The curves over each other, and below them how far each is from the first."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    # Each line is thinner than the one it lies on, and the last is broken, so that all of them show.
    styles: dict[str, dict[str, Any]] = {
        "torch": {"color": "#fdb863", "linewidth": 9, "solid_capstyle": "round"},
        "jax": {"color": "#2c7fb8", "linewidth": 4.5, "solid_capstyle": "round"},
        "tensorflow": {"color": "black", "linewidth": 1.6, "linestyle": (0, (3, 3))},
    }
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(8, 6), dpi=150, height_ratios=(5, 2), layout="constrained")
    reference = next(iter(runs))
    first = np.array(runs[reference][0])
    for backend, (losses, accuracy) in runs.items():
        steps = np.arange(1, len(losses) + 1)
        style = styles[backend]
        above.plot(steps, losses, label=f"{TITLES[backend]}: accuracy {accuracy:.1%}", **style)
        if backend != reference:
            below.plot(steps, (np.array(losses) - first) / first * 1e7, "o", color=style["color"], markersize=2 + style["linewidth"] / 1.6)
    above.set_title("One loss in every framework: softmax regression on the digits", fontsize=13, pad=10)
    above.set(ylabel="cross-entropy", ylim=(0, None))
    above.legend(frameon=False, handlelength=3.5, labelspacing=0.8)
    below.axhline(0, color=styles[reference]["color"], linewidth=3, zorder=0)
    limit = max(5.0, 1.2 * max(map(abs, below.dataLim.intervaly)))
    below.set(xlabel="step", ylabel=f"relative difference\nfrom {TITLES[reference]}, $10^{{-7}}$", ylim=(-limit, limit))
    for axes in (above, below):
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels()
    figure.savefig(path)
    plt.close(figure)


def check(runs: dict[str, Run]) -> int:
    """The exit status: 1, with a line on stderr, if the curves part or a model has not learnt."""
    difference = differences(runs)
    # "not <=" rather than ">": NaN is a failure too.
    apart = np.flatnonzero(~(difference <= TOLERANCE))
    if apart.size:
        print(f"FAILED: the losses differ by up to {difference.max():.1e} of their size, first at step {apart[0] + 1}", file=sys.stderr)
    poor = [f"{TITLES[backend]} {accuracy:.1%}" for backend, (_, accuracy) in runs.items() if not accuracy > ACCURACY]
    if poor:
        print(f"FAILED: the accuracy is not above {ACCURACY:.0%}: {', '.join(poor)}", file=sys.stderr)
    return 1 if apart.size or poor else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    installed = [backend for backend in TRAIN if backend in lossbackend.available_backends()]
    parser = argparse.ArgumentParser(description="Train one model in several frameworks with one loss, and compare the training curves.")
    parser.add_argument("--steps", type=int, default=100, help="steps of gradient descent (default: 100)")
    parser.add_argument("--output", type=Path, default=Path("digits_training.png"), help="the image to write (default: digits_training.png)")
    parser.add_argument("--backends", nargs="+", choices=list(TRAIN), default=installed, help="default: those installed")
    options = parser.parse_args(arguments)
    missing = [backend for backend in options.backends if backend not in installed]
    if missing or not options.backends:
        parser.error(f"not installed: {', '.join(missing or TRAIN)}")
    if options.steps < 1:
        parser.error(f"--steps must be at least 1, got {options.steps}")
    if not options.output.parent.is_dir():
        parser.error(f"--output: there is no directory {options.output.parent}")

    console = Console()
    runs = train([backend for backend in TRAIN if backend in options.backends], options.steps, console)
    console.print(table(runs))
    draw(runs, options.output)
    console.print(f"curves: {options.output}")
    return check(runs)


if __name__ == "__main__":
    sys.exit(main())
