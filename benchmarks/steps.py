"""Where a small call spends its time: ``python benchmarks/steps.py [BACKEND ...]``, for the backends that are installed here by default."""

import sys
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np
from contenders import CASES
from measure import FRAMEWORKS
from rich.console import Console
from rich.table import Table

import lossbackend as lb
from lossbackend import definition as steps
from lossbackend import dispatch

SHOWN = ("mse", "cce_logits", "scce_logits")


def microseconds(call: Callable[[], Any], number: int = 2000) -> float:
    """The least of several means: what else the machine does only adds."""
    call()
    return 1e6 * min(timeit.repeat(call, number=number, repeat=7)) / number


def steps_of(backend: str, name: str) -> dict[str, float]:
    """Microseconds of each step of a call, by itself, and of the whole."""
    case, framework = CASES[name], FRAMEWORKS[backend]("cpu")
    y_true, y_pred = (framework.tensor(array) for array in case.inputs(np.random.default_rng(0), (32, 10)))
    loss = getattr(lb, case.function)
    definition, ops = loss.definition, dispatch.adapter(backend)
    options = definition.complete(dict(case.options))
    arguments = {"y_true": y_true, "y_pred": y_pred, "sample_weight": None, "mask": None, **options}
    call = steps.prepare(definition, y_true, y_pred, options)
    found = {
        "arguments and options": microseconds(lambda: definition.bind((y_true, y_pred), case.options)),
        "choice of the backend": microseconds(lambda: dispatch.resolve(name, arguments)),
        "y_pred's type": microseconds(lambda: steps.predictions(ops, name, y_pred, y_pred)),
    }
    if definition.sparse:
        ids, looked_at = steps.read_ids(ops, name, "y_true", y_true, y_pred)
        found["class ids read"] = microseconds(lambda: steps.read_ids(ops, name, "y_true", y_true, y_pred))
        found["class ids checked"] = microseconds(lambda: steps.check_ids(ops, name, "y_true", ids, looked_at, 10, None))
    else:
        found["y_true's type"] = microseconds(lambda: steps._floats(ops, name, "y_true", y_true, "float32", y_pred))
        found["shapes"] = microseconds(lambda: steps.dense_shapes(ops, definition, y_true, y_pred, -1))
    found["all before the definition"] = microseconds(lambda: steps.prepare(definition, y_true, y_pred, options))
    found["the definition"] = microseconds(lambda: ops.run(definition.formula, call.y_true, call.y_pred, call.options))
    # More than its parts: what runs by itself, again and again, is warm.
    found["the whole call"] = microseconds(lambda: loss(y_true, y_pred, **case.options))
    return found


def main() -> None:
    console = Console(width=None if sys.stdout.isatty() else 150)
    for backend in sys.argv[1:] or lb.available_backends():
        measured = {name: steps_of(backend, name) for name in SHOWN}
        table = Table("µs", *SHOWN, title=f"{backend}, (32, 10)", title_justify="left")
        for step in dict.fromkeys(step for found in measured.values() for step in found):
            table.add_row(step, *(f"{found[step]:.1f}" if step in found else "" for found in measured.values()))
        console.print(table)


if __name__ == "__main__":
    main()
