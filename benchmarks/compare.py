"""lossbackend against Keras and against each framework's own functions: ``python benchmarks/compare.py --help``."""

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import report
from contenders import CASES
from measure import GRADIENT
from rich.console import Console

HERE = Path(__file__).parent
BACKENDS = ("numpy", "torch", "jax", "tensorflow")
PASSES = ("forward", GRADIENT)

# The shapes of a size, and the losses that a full run takes there.
SIZES: dict[str, tuple[list[tuple[int, int]], tuple[str, ...]]] = {
    "small": ([(32, 10)], tuple(CASES)),
    "large": ([(200_000, 64)], tuple(CASES)),
    "tall": ([(5_000_000, 4)], ("mse", "cce_logits")),
    "wide": ([(4096, 50257)], ("scce_logits",)),
    "rows": ([(10**exponent, 16) for exponent in range(3, 8)], ("mse", "log_cosh")),
}

# torch and TensorFlow take seconds to compile; a full run has them compile at this size only.
COMPILED_AT = "large"

# New processes for each import.
IMPORTS = 9

MEMORY_AT = ("large", GRADIENT)


def cells_of(backend: str, losses: tuple[str, ...], sizes: tuple[str, ...], modes: tuple[str, ...]) -> list[dict[str, Any]]:
    """What is asked for; where nothing is said, what the targets need."""
    cells = []
    for size in sizes or SIZES:
        shapes, usual = SIZES[size]
        if size == "rows" and backend != "numpy":
            continue
        both = backend == "jax" or size == COMPILED_AT
        chosen = ["eager"] if backend == "numpy" else list(modes) or (["eager", "compiled"] if both else ["eager"])
        for loss in losses or usual:
            for rows, columns in shapes:
                for name in PASSES[: 1 if backend == "numpy" else 2]:
                    cells.append({"loss": loss, "size": size, "rows": rows, "columns": columns, "pass": name, "modes": chosen})
    return cells


def worker(backend: str, device: str, **request: Any) -> Any:
    """What ``measure.py`` answers, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "result.json"
        request = {"backend": backend, "device": device, "output": str(output), **request}
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        if device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        finished = subprocess.run([sys.executable, str(HERE / "measure.py"), json.dumps(request)], env=environment)
        if finished.returncode != 0:
            raise click.ClickException(f"measuring {backend} failed")
        return json.loads(output.read_text())


def memory_of(backend: str, device: str, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The temporaries of every contender in the cells, by a process for each."""
    results = []
    for cell in cells:
        kept = {key: cell[key] for key in ("loss", "size", "rows", "columns", "pass", "modes")}
        held = {label: worker(backend, device, cells=[kept], contender=label) for label in cell["times"]}
        results.append({**kept, "backend": backend, "temporaries": held})
    return results


def import_times(rounds: int) -> dict[str, float]:
    """Median seconds of an import after NumPy's, each in a new process, in turns."""
    times: dict[str, list[float]] = {"lossbackend": [], "keras": []}
    with tempfile.TemporaryDirectory() as folder:
        # With byte code, as pip installs it, whatever this environment says.
        environment = {**os.environ, "KERAS_BACKEND": "numpy", "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": folder}
        for _ in range(rounds + 1):
            for module, values in times.items():
                code = f"import numpy, time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
                values.append(float(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout))
    # The first round reads from the disk, and compiles.
    return {module: statistics.median(values[1:]) for module, values in times.items()}


def write(results: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{results['device']}.json").write_text(json.dumps(results, indent=1))


def machine() -> dict[str, Any]:
    models = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.system(),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
        "load": os.getloadavg()[0],
    }


@click.command(context_settings={"show_default": True})
@click.option("--backend", "backends", multiple=True, type=click.Choice(BACKENDS), help="May be repeated.  [default: all]")
@click.option(
    "--loss",
    "losses",
    multiple=True,
    type=click.Choice(list(CASES)),
    metavar="LOSS",
    help="As in benchmarks/contenders.py; may be repeated.  [default: all]",
)
@click.option("--size", "sizes", multiple=True, type=click.Choice(list(SIZES)), help="May be repeated.  [default: all]")
@click.option("--mode", "modes", multiple=True, type=click.Choice(["eager", "compiled"]), help="May be repeated.  [default: what the targets need]")
@click.option(
    "--memory",
    multiple=True,
    type=click.Choice(list(CASES)),
    metavar="LOSS",
    default=["cce_logits"],
    help="Losses at large, forward + backward, whose memory on a framework is measured: a process for each contender. May be repeated.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where the tensors are.")
@click.option("--rounds", type=click.IntRange(1), default=15, help="At most so many turns of every contender.")
@click.option("--seconds", type=float, default=0.3, help="No new turn of a comparison after this time, once there are three.")
@click.option("--read", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Report what an earlier run wrote, and measure nothing.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default=Path("build/bench"), help="Folder for the JSON and the plot.")
@click.option("--markdown", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Page that shall hold these results, plot beside it.")
def main(
    backends: tuple[str, ...],
    losses: tuple[str, ...],
    sizes: tuple[str, ...],
    modes: tuple[str, ...],
    memory: tuple[str, ...],
    device: str,
    rounds: int,
    seconds: float,
    read: Path | None,
    output: Path,
    markdown: Path | None,
) -> None:
    """Measure lossbackend, Keras on the same backend, and the framework's own functions, on the same tensors, in turns.

    A size is a shape: small (32, 10), large (200000, 64), tall (5000000, 4), wide (4096, 50257); "rows" is NumPy's cost from 1e3 to 1e7 rows of 16.
    """
    if markdown is not None and read is None:
        # Before a quarter of an hour, not after it.
        report.around(markdown, *report.markers(device))
    if read is not None:
        results = json.loads(read.read_text())
    else:
        results = {"machine": machine(), "device": device, "cells": [], "memory": [], "versions": {}}
        if device == "cuda":
            backends = tuple(backend for backend in backends or BACKENDS if backend != "numpy")
        for backend in backends or BACKENDS:
            answer = worker(backend, device, cells=cells_of(backend, losses, sizes, modes), rounds=rounds, seconds=seconds)
            results["cells"] += answer["cells"]
            results["versions"] |= answer["versions"]
            results["machine"]["device"] = answer["device"]
            if backend != "numpy":
                wanted = [cell for cell in answer["cells"] if (cell["size"], cell["pass"]) == MEMORY_AT and cell["loss"] in memory]
                results["memory"] += memory_of(backend, device, wanted)
            write(results, output)
        if not (losses or sizes or modes):
            results["import"] = import_times(IMPORTS)
            write(results, output)
    console = Console(width=None if sys.stdout.isatty() else 150)
    for table in report.tables(results):
        console.print(table.rich())
    report.plot(results, output / f"{results['device']}.png")
    if markdown is not None:
        report.write(results, markdown)


if __name__ == "__main__":
    main()
