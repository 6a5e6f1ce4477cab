"""A page for each loss: its formula, its curves, its edge values and what Keras does instead, all from the library itself and from differences.md."""

import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

import lossbackend
from lossbackend import cli, plot, registry
from lossbackend.parity.cases import Suite

INF, NAN = float("inf"), float("nan")
DIFFERENCES = Path(__file__).parent / "differences.md"

# What can go wrong with each kind of input: (label, prediction), the last axis as a list.
EDGES: dict[str, list[tuple[Any, list[float]]]] = {
    "reals": [
        ([0.0], [0.0]), ([0.0], [0.0001]), ([0.0], [100.0]), ([0.0], [INF]), ([0.0], [-INF]), ([0.0], [NAN]),
    ],
    "positives": [
        ([0.0], [0.0]), ([1.0], [0.0]), ([1.0], [-0.5]), ([0.0], [1.0]), ([1.0], [INF]), ([1.0], [-INF]), ([1.0], [NAN]),
    ],
    "binary": [
        ([1.0], [0.0]), ([0.0], [0.0]), ([1.0], [1.0]), ([0.0], [1.0]), ([1.0], [1e-08]), ([1.0], [1.5]), ([1.0], [NAN]),
    ],
    "binary-logits": [
        ([1.0], [0.0]), ([0.0], [40.0]), ([1.0], [INF]), ([0.0], [INF]), ([1.0], [-INF]), ([0.0], [-INF]), ([0.5], [INF]), ([1.0], [NAN]),
    ],
    "signs": [
        ([1.0], [1.0]), ([1.0], [0.0]), ([0.0], [0.5]), ([-1.0], [INF]), ([1.0], [INF]), ([1.0], [NAN]),
    ],
    "classes": [
        ([1.0, 0.0], [0.0, 1.0]), ([1.0, 0.0], [1.0, 0.0]), ([1.0, 0.0], [0.0, 0.0]), ([0.0, 0.0], [0.5, 0.5]), ([1.0, 0.0], [2.0, 6.0]),
        ([1.0, 0.0], [NAN, 0.5]),
    ],
    "class-logits": [
        ([1.0, 0.0], [20.0, 0.0]), ([1.0, 0.0], [0.0, 1000.0]), ([1.0, 0.0], [0.0, -INF]), ([1.0, 0.0], [-INF, 0.0]), ([1.0, 0.0], [INF, 0.0]),
        ([0.0, 0.0], [1.0, 2.0]), ([1.0, 0.0], [NAN, 0.0]),
    ],
    "ids": [
        (0, [0.0, 1.0]), (0, [1.0, 0.0]), (0, [0.0, 0.0]), (0, [2.0, 6.0]), (0, [NAN, 0.5]),
    ],
    "id-logits": [
        (0, [20.0, 0.0]), (0, [0.0, 1000.0]), (0, [0.0, -INF]), (0, [-INF, 0.0]), (0, [INF, 0.0]), (0, [NAN, 0.0]),
    ],
    "distributions": [
        ([0.5, 0.5], [0.0, 1.0]), ([0.0, 1.0], [0.5, 0.5]), ([1.0, 0.0], [1.0, 0.0]), ([0.5, 0.5], [0.25, 0.25]), ([-0.5, 1.5], [0.5, 0.5]),
        ([0.5, 0.5], [NAN, 0.5]),
    ],
    "counts": [
        ([0.0], [0.0]), ([2.0], [0.0]), ([2.0], [2.0]), ([2.0], [INF]), ([2.0], [-1.0]), ([2.0], [NAN]),
    ],
    "log-rates": [
        ([2.0], [0.0]), ([0.0], [-INF]), ([2.0], [-INF]), ([2.0], [INF]), ([2.0], [NAN]),
    ],
    "vectors": [
        ([1.0, 0.0], [2.0, 0.0]), ([1.0, 0.0], [-1.0, 0.0]), ([1.0, 0.0], [0.0, 1.0]), ([1.0, 0.0], [0.0, 0.0]), ([1e+25, 0.0], [1e+25, 1e+25]),
        ([1.0, 0.0], [INF, 0.0]), ([1.0, 0.0], [NAN, 0.0]),
    ],
}  # fmt: skip


def write(folder: Path) -> None:
    """All pages of a folder, and the pictures on them."""
    plot.gallery(folder, "svg")
    records = cli.loss_records()
    for record in records:
        definition = registry.functions()[record["name"]].definition
        variants = {picture: suite for picture, suite in plot.variants().items() if suite.definition is definition}
        _renew(folder / f"{record['name']}.md", _page(record, variants))
    _renew(folder / "index.md", _index(records))


def _renew(path: Path, text: str) -> None:
    # A page that did not change is not read again.
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _index(records: list[cli.Record]) -> str:
    lines = ["# The losses\n", "y is the label, p the prediction, z a logit, e = p − y, ε = 1e-7. Edge values are those of float64.\n"]
    for record in records:
        name = record["name"]
        lines += [f"## [{name}]({name}.md)\n", f"{record['formula']}\n", f"[![{name}]({name}.svg)]({name}.md)\n"]
    lines += [":::{toctree}", ":hidden:", "", *(record["name"] for record in records), ":::", ""]
    return "\n".join(lines)


def _page(record: cli.Record, variants: dict[str, Suite]) -> str:
    details, _, example = record["docstring"].removeprefix(record["formula"]).partition(">>>")
    signatures = (textwrap.fill(record[kind], 80, subsequent_indent=" " * 4, break_on_hyphens=False) for kind in ("signature", "class_signature"))
    aliases = ", ".join(f"`{alias}`" for alias in record["aliases"])
    parts = [
        f"# {record['name']}",
        record["formula"],
        *(f"![The loss and its gradient]({picture}.svg)" for picture in variants),
        _code("\n".join(signatures)),
        f"Also called {aliases}." if aliases else "",
        # Two backticks are code in a docstring, and in Markdown too.
        " ".join(details.split()),
        _code(f">>>{example}".strip()),
        "## Edge values",
        *map(_edges, variants.values()),
        "## Where Keras 3 differs",
        _differences(record["name"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _edges(suite: Suite) -> str:
    """The loss and its gradient at the edges, as a framework computes them in float64."""
    options = ", ".join(f"`{name}={value}`" for name, value in suite.options.items())
    rows = [f"With {options}:\n" if options else "", f"| y | {'z' if options else 'p'} | loss | gradient |", "|---|---|---|---|"]
    for label, prediction in EDGES[suite.kind]:
        loss, gradient = lossbackend.value_and_grad(suite.function)(np.array([label]), np.array([prediction]), **suite.options)
        rows.append(f"| {_numbers(label)} | {_numbers(prediction)} | {_number(float(loss))} | {_numbers(gradient[0].tolist())} |")
    return "\n".join(rows).strip()


def _numbers(entry: Any) -> str:
    if not isinstance(entry, list):
        return str(entry)
    return _number(entry[0]) if len(entry) == 1 else f"({', '.join(map(_number, entry))})"


def _number(value: float) -> str:
    text = {INF: "∞", -INF: "−∞"}.get(value, "NaN" if value != value else f"{value + 0.0:.6g}")
    return text.replace("-", "−")


def _differences(name: str) -> str:
    """The rows of differences.md that are about this loss or about all of them."""
    head, *rows = [line for line in DIFFERENCES.read_text().splitlines() if line.startswith("|")]
    about = {"all", "classes"} | ({"categorical cross-entropies"} if "categorical_crossentropy" in name else set())
    own = [row for row in rows if _about(row) & about or name in _about(row)]
    return "\n".join([head, rows[0], *own])


def _about(row: str) -> set[str]:
    return {word.strip() for word in re.split(r",", row.split("|")[1])}
