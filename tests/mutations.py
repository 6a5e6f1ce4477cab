"""Does the suite notice? ``python tests/mutations.py`` plants one mistake at a time in a copy of the project and runs the tests that should fail.

Exit code 1 where a mistake survives, or where its place in the code is not found any more.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).parents[1]
FILES = ("tests/test_values.py", "tests/test_edges.py", "tests/test_objects.py", "tests/test_backends.py", "tests/test_blocks.py")


class Mutation(NamedTuple):
    """A mistake: in ``file``, ``right`` becomes ``wrong``, and the tests that ``-k`` selects have to fail."""

    mistake: str
    file: str
    right: str
    wrong: str
    select: str


REGRESSION, MARGIN, PROBABILISTIC = (f"lossbackend/losses/{name}.py" for name in ("regression", "margin", "probabilistic"))
DEFINITION, REDUCTION = "lossbackend/definition.py", "lossbackend/reduction.py"
COMPOSED, TORCH = "backends/composed.py", "backends/torch_backend.py"

SQUARES = "ops.mean(ops.square(y_pred - y_true), axis=-1)"
MUTATIONS = (
    Mutation("mse over the wrong axis", REGRESSION, SQUARES, SQUARES.replace("axis=-1", "axis=0"), "squared_error"),
    Mutation("mse: a sum for the mean", REGRESSION, SQUARES, SQUARES.replace("ops.mean", "ops.sum"), "squared_error"),
    Mutation("huber: bounds of the clip swapped", REGRESSION, "ops.clip(error, -delta, delta)", "ops.clip(error, delta, -delta)", "huber"),
    Mutation("huber: delta squared", REGRESSION, "delta * ops.relu(", "delta**2 * ops.relu(", "huber"),
    Mutation("log_cosh: a logarithm of 1 + series", REGRESSION, "ops.log1p(series + decay", "ops.log(1.0 + series + decay", "log_cosh"),
    Mutation("log_cosh: the constant of another bound", REGRESSION, "/ (math.e + 1.0)", "/ (math.e**2 + 1.0)", "log_cosh"),
    Mutation("log_cosh: a term less", REGRESSION, "_COSH_MINUS_1[-4:]", "_COSH_MINUS_1[-3:]", "log_cosh"),
    Mutation("mape: epsilon ignored", REGRESSION, "ops.maximum(ops.abs(y_true), epsilon)", "ops.abs(y_true)", "percentage"),
    Mutation("cosine: the sign", REGRESSION, "return 0.0 - (cosine", "return 0.0 + (cosine", "cosine"),
    Mutation(
        "cosine: squares that leave the range",
        REGRESSION,
        "scaled = ops.divide(vector, ops.where(ops.equal(largest, 0), 1.0, largest))",
        "scaled = vector",
        "cosine",
    ),
    Mutation("hinge: labels of 0 kept", MARGIN, "ops.where(ops.equal(y_true, 0), -1.0, y_true)", "y_true", "hinge"),
    Mutation("cross-entropy: label smoothing lost", PROBABILISTIC, "and option == 0", "and option >= 0", "crossentropy"),
    Mutation("cross-entropy: class weights ignored", PROBABILISTIC, "log_p if class_weight is None else", "log_p if True else", "class_weight"),
    Mutation(
        "cross-entropy: from_logits ignored", PROBABILISTIC, "    if from_logits:\n        log_p =", "    if False:\n        log_p =", "crossentropy"
    ),
    Mutation(
        "binary: label smoothing of the 1 only",
        PROBABILISTIC,
        "yes, no = (share * (1.0 - label_smoothing) + label_smoothing / 2 for share in (yes, no))",
        "yes = yes * (1.0 - label_smoothing) + label_smoothing / 2",
        "binary",
    ),
    Mutation("binary: epsilon ignored", PROBABILISTIC, "ops.clip(y_pred, epsilon, 1.0)", "ops.clip(y_pred, 0.0, 1.0)", "binary"),
    Mutation("binary: log(1 − p)", PROBABILISTIC, "ops.log1p(-ops.where(", "ops.log(1.0 - ops.where(", "binary"),
    Mutation("kl: 0 log 0", PROBABILISTIC, "ops.times(y_true, log_y - log_p)", "y_true * (ops.log(y_true) - log_p)", "kl"),
    Mutation("poisson: epsilon ignored", PROBABILISTIC, "rate = y_pred + epsilon", "rate = 1.0 * y_pred", "poisson"),
    Mutation("class ids that wrap", DEFINITION, "bad = ~((ids >= 0) & (ids < classes))", "bad = ~(ids < classes)", "labels"),
    Mutation("ignore_class ignored", DEFINITION, "kept = _kept(", "kept = None and _kept(", "ignored"),
    Mutation("a mask ignored", DEFINITION, "unmasked = chosen if unmasked is None else unmasked & chosen", "unmasked = kept", "mask"),
    Mutation("weights multiplied, not selected", DEFINITION, "y_pred = ops.where(chosen, y_pred, _HARMLESS_PRED)", "y_pred = y_pred * 1.0", "leak"),
    Mutation("half precision kept", DEFINITION, 'frozenset({"float32"', 'frozenset({"float16", "bfloat16", "float32"', "half"),
    Mutation(
        "masked entries counted",
        REDUCTION,
        'ops.cast(counted if unmasked is None else ops.where(unmasked, counted, 0.0), "index")',
        'ops.cast(counted, "index")',
        "mask",
    ),
    Mutation("log_softmax: log of softmax", COMPOSED, "return shifted - log_total", "return self.log(self.softmax(x, axis))", "cce"),
    Mutation("log_softmax: the others rounded away", COMPOSED, "if self._nowhere(certain):", "if True:", "log_softmax"),
    Mutation("√'s slope at 0", COMPOSED, "self.where(zero, 0.0, self._root(self.where(zero, 1.0, x)))", "self._root(x)", "contract and torch"),
    Mutation(
        "|x|' = 1 at 0", TORCH, "return torch.abs(x) * torch.clamp(x.detach(), 1, 1) if", "return torch.where(x < 0, -x, x) if", "mae or absolute"
    ),
    Mutation("relu' = 1 at 0", TORCH, "relu = staticmethod(torch.relu)", "relu = staticmethod(lambda x: torch.where(x < 0, 0.0, x))", "hinge"),
    Mutation("clip' = 0 at a bound", TORCH, "return threshold(x, _below(low, x.dtype), low)", "return threshold(x, low, low)", "contract and torch"),
    Mutation("softplus in float32 only", TORCH, "700.0 if x.dtype is torch.float64 else 80.0", "20.0", "contract and torch"),
    Mutation("times: infinities kept", TORCH, "return product if math.isfinite(", "return product if True or math.isfinite(", "contract and torch"),
    Mutation("blocks: the upstream gradient lost", TORCH, "multiply(slope, gradient.unsqueeze(-1))", "multiply(slope, 1.0)", "gradients_by"),
    Mutation("blocks: slopes used up", TORCH, "torch.mul if kept else torch.Tensor.mul_", "torch.Tensor.mul_", "gradients_by"),
    Mutation(
        "blocks: parameters forgotten", TORCH, "if leaf is not None and not any(leaf is tensor for tensor in sample):", "if False:", "closes_over"
    ),
    Mutation(
        "max' to one of a tie",
        TORCH,
        "torch.amax(x, dim=() if axis is None else axis, keepdim=keepdims)",
        "x.max(axis, keepdim=keepdims).values",
        "categorical_hinge",
    ),
)


def copied(folder: str, mutation: Mutation | None) -> Path:
    """The project in a folder, with the mistake. The adapters lie where they are installed: an import of the project would find its own."""
    root = Path(folder)
    for name in ("tests", "examples", "lossbackend", "backends"):
        target = root / ("lossbackend/backends" if name == "backends" else name)
        shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    shutil.copy(ROOT / "pyproject.toml", root)
    if mutation is not None:
        path = root / (f"lossbackend/{mutation.file}" if mutation.file.startswith("backends/") else mutation.file)
        code = path.read_text(encoding="utf-8")
        if code.count(mutation.right) != 1:
            raise LookupError(f"{mutation.right!r} is {code.count(mutation.right)} times in {mutation.file}, not once")
        path.write_text(code.replace(mutation.right, mutation.wrong), encoding="utf-8")
    return root


def run(mutation: Mutation | None) -> tuple[bool, str]:
    """Whether tests failed, and which one first, or what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            root = copied(folder, mutation)
        except LookupError as error:
            return False, str(error)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-n", "0", *FILES]
        command += [] if mutation is None else ["-k", mutation.select]
        environment = os.environ | {"PYTHONPATH": str(root), "LOSSBACKEND_TEST_BACKENDS": "numpy,torch"}
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    if done.returncode == 1 and failed:
        return True, failed[0].removeprefix("FAILED tests/").partition(" - ")[0]
    return False, (done.stdout.strip().splitlines() or [done.stderr.strip()])[-1]


def main() -> int:
    """The table; 1 where a mistake survives."""
    table = Table("mistake", "in", "caught by", box=None)
    survivors = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sound = pool.submit(run, None)
        for mutation, (caught, what) in zip(MUTATIONS, pool.map(run, MUTATIONS), strict=True):
            survivors += not caught
            table.add_row(mutation.mistake, mutation.file, escape(what) if caught else f"[bold red]survives: {escape(what)}")
    broken, what = sound.result()
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    if broken or "passed" not in what:
        console.print(f"[bold red]The suite fails without any mistake: {escape(what)}")
        return 1
    console.print(f"{len(MUTATIONS) - survivors} of {len(MUTATIONS)} mistakes caught")
    return min(survivors, 1)


if __name__ == "__main__":
    sys.exit(main())
