"""What ``compare.py`` measured, as tables, a plot and a part of docs/performance.md."""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import matplotlib
from contenders import CASES
from measure import GRADIENT
from rich.table import Table as RichTable

matplotlib.use("agg")
from matplotlib import pyplot
from matplotlib.ticker import LogLocator, NullFormatter

Results = dict[str, Any]
Cell = dict[str, Any]

NAMES = {"numpy": "NumPy", "torch": "torch", "jax": "JAX", "tensorflow": "TensorFlow"}
OWN = {"numpy": "whole arrays", "torch": "F.*", "jax": "optax", "tensorflow": "tf.nn"}


@dataclass(frozen=True)
class Comparison:
    """The time of ``ours`` over that of the fastest of ``others``; targets are for geometric means over the losses."""

    title: str
    backend: str
    ours: str
    others: tuple[str, ...]
    forward: bool = True
    # By size: the geometric mean that is wanted.
    targets: tuple[tuple[str, float], ...] = ()
    # At large, what no loss should exceed.
    ceiling: float | None = None
    without: tuple[str, ...] = ()

    def ratios(self, results: Results, size: str) -> dict[str, float]:
        """The ratio of each loss that was measured for both sides."""
        ratios = {}
        for cell in results["cells"]:
            if (cell["backend"], cell["size"], cell["pass"] != GRADIENT) == (self.backend, size, self.forward) and cell["loss"] not in self.without:
                others = [cell["times"][other] for other in self.others if other in cell["times"]]
                if others and self.ours in cell["times"]:
                    ratios[cell["loss"]] = cell["times"][self.ours] / min(others)
        return ratios


EAGER, COMPILED = "lossbackend eager", "lossbackend compiled"
COMPARISONS = (
    Comparison("NumPy vs Keras", "numpy", EAGER, ("Keras eager",), targets=(("large", 0.33), ("small", 0.5)), ceiling=0.7),
    Comparison("NumPy vs whole arrays", "numpy", EAGER, ("own eager",)),
    Comparison("torch eager vs Keras, forward", "torch", EAGER, ("Keras eager",), targets=(("large", 0.35), ("small", 0.75)), ceiling=1.0),
    Comparison("torch eager vs Keras, forward + backward", "torch", EAGER, ("Keras eager",), False, targets=(("large", 0.5), ("small", 0.9))),
    Comparison("torch compiled vs the faster of F.* and Keras, forward", "torch", COMPILED, ("own eager", "Keras eager"), targets=(("large", 0.25),)),
    Comparison("torch compiled vs the faster of F.* and Keras, forward + backward", "torch", COMPILED, ("own eager", "Keras eager"), False),
    Comparison("torch compiled vs the faster of both compiled, forward", "torch", COMPILED, ("own compiled", "Keras compiled")),
    Comparison("torch compiled vs the faster of both compiled, forward + backward", "torch", COMPILED, ("own compiled", "Keras compiled"), False),
    Comparison("JAX vs Keras, both called eagerly, forward", "jax", EAGER, ("Keras eager",), targets=(("large", 0.35), ("small", 0.25))),
    Comparison("JAX vs Keras, both called eagerly, forward + backward", "jax", EAGER, ("Keras eager",), False),
    Comparison(
        "JAX called eagerly vs jitted optax, forward", "jax", EAGER, ("own compiled",), targets=(("large", 1.3), ("small", 2.0)), without=("cosine",)
    ),
    Comparison("JAX compiled vs jitted optax, forward + backward", "jax", COMPILED, ("own compiled",), False, without=("cosine",)),
    Comparison("JAX by lossbackend.value_and_grad vs Keras called eagerly", "jax", COMPILED, ("Keras eager",), False),
    Comparison("JAX compiled vs jitted Keras, forward + backward", "jax", COMPILED, ("Keras compiled",), False),
    Comparison("TensorFlow eager vs Keras, forward", "tensorflow", EAGER, ("Keras eager",), targets=(("large", 0.9), ("small", 0.9))),
    Comparison("TensorFlow eager vs Keras, forward + backward", "tensorflow", EAGER, ("Keras eager",), False),
    Comparison("TensorFlow compiled vs Keras, forward", "tensorflow", COMPILED, ("Keras eager",), targets=(("large", 0.7),)),
    Comparison("TensorFlow compiled vs Keras, forward + backward", "tensorflow", COMPILED, ("Keras eager",), False),
    Comparison("TensorFlow compiled vs compiled Keras, forward", "tensorflow", COMPILED, ("Keras compiled",)),
    Comparison("TensorFlow compiled vs compiled Keras, forward + backward", "tensorflow", COMPILED, ("Keras compiled",), False),
)

TEMPORARIES_TARGET = 32.0  # MiB, NumPy, whatever the number of rows
LINEAR_TARGET, LINEAR_FROM = 1.2, 10_000  # most over least time per row
IMPORT_TARGET = 15.0  # ms


@dataclass(frozen=True)
class Table:
    """Rows of text under a title; columns that hold nothing are left out."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def lines(self) -> list[tuple[str, ...]]:
        """The header and the rows."""
        filled = [any(row[column] for row in self.rows) for column in range(len(self.header))]
        return [tuple(itertools.compress(line, filled)) for line in (self.header, *self.rows)]

    def rich(self) -> RichTable:
        header, *rows = self.lines()
        table = RichTable(*header, title=self.title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        header, *rows = self.lines()
        lines = [header, tuple("---" for _ in header), *rows]
        return f"### {self.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def tables(results: Results) -> list[Table]:
    """What the results hold, the targets first."""
    made = [targets(results), other_targets(results), memory(results)]
    for size in dict.fromkeys(cell["size"] for cell in results["cells"] if cell["size"] != "rows"):
        made += [times(results, size, backend) for backend in dict.fromkeys(cell["backend"] for cell in results["cells"])]
    return [table for table in made if table.rows]


def targets(results: Results) -> Table:
    rows = []
    for comparison in COMPARISONS:
        wanted = dict(comparison.targets)
        for size in ("large", "small"):
            ratios = comparison.ratios(results, size)
            if ratios:
                mean = geometric_mean(ratios.values())
                worst = max(ratios, key=lambda loss: ratios[loss])
                ceiling = comparison.ceiling if size == "large" else None
                met = [mean <= wanted[size]] if size in wanted else []
                met += [ratios[worst] <= ceiling] if ceiling is not None else []
                limit = f" (limit {ceiling:g})" if ceiling is not None else ""
                rows.append(
                    (
                        comparison.title,
                        size,
                        f"{mean:.2f}",
                        f"{wanted[size]:g}" if size in wanted else "",
                        f"{ratios[worst]:.2f} {worst}{limit}",
                        str(len(ratios)),
                        ("yes" if all(met) else "no") if met else "",
                    )
                )
    return Table("Time over the other's time", ("comparison", "size", "geometric mean", "target", "worst loss", "losses", "met"), rows)


def other_targets(results: Results) -> Table:
    rows = []
    held = [
        (cell["temporaries"][EAGER] / 2**20, f"{cell['loss']}, {cell['rows']} rows")
        for cell in results["cells"]
        if cell["backend"] == "numpy" and cell["size"] != "small"
    ]
    if held:
        most, where = max(held)
        rows.append(("NumPy's temporaries, most", f"{most:.1f} MiB ({where})", f"{TEMPORARIES_TARGET:g} MiB", verdict(most <= TEMPORARIES_TARGET)))
    for loss, per_row in cost_of_rows(results, EAGER).items():
        linear = [cost for rows_of, cost in per_row if rows_of >= LINEAR_FROM]
        if len(linear) > 1:
            spread = max(linear) / min(linear)
            shown = f"{spread:.2f} ({', '.join(f'{1e9 * cost:.3g}' for cost in linear)} ns)"
            rows.append((f"{loss} on NumPy, most over least time per row, 1e4 to 1e7", shown, f"{LINEAR_TARGET:g}", verdict(spread <= LINEAR_TARGET)))
    if "import" in results:
        ours, keras = (1e3 * results["import"][module] for module in ("lossbackend", "keras"))
        shown = f"{ours:.1f} ms (Keras on NumPy {keras:.0f} ms)"
        rows.append(("import lossbackend, beyond NumPy", shown, f"{IMPORT_TARGET:g} ms", verdict(ours <= IMPORT_TARGET)))
    return Table("Memory, rows, import", ("what", "measured", "target", "met"), rows)


def memory(results: Results) -> Table:
    """Peaks of the frameworks, from a process per contender, and of NumPy."""
    rows = []
    losses = {cell["loss"] for cell in results["memory"]}
    on_numpy = [
        cell for cell in results["cells"] if cell["backend"] == "numpy" and cell["size"] == "large" and (cell["loss"] in losses or not losses)
    ]
    for cell in on_numpy + results["memory"]:
        held = {label: f"{size / 2**20:.0f}" for label, size in cell["temporaries"].items()}
        rows.append((NAMES[cell["backend"]], cell["loss"], cell["pass"], *in_columns(held)))
    return Table("Temporaries at large, MiB", ("backend", "loss", "pass", *COLUMNS), rows)


COLUMNS = ("lossbackend", "compiled", "Keras", "Keras compiled", "own", "own compiled")


def in_columns(values: dict[str, str]) -> tuple[str, ...]:
    labels = [f"{library} {mode}" for library in ("lossbackend", "Keras", "own") for mode in ("eager", "compiled")]
    return tuple(values.get(label, "") for label in labels)


def times(results: Results, size: str, backend: str) -> Table:
    rows = []
    shape = ""
    for cell in results["cells"]:
        if (cell["size"], cell["backend"]) == (size, backend):
            shape = f"({cell['rows']}, {cell['columns']})"
            rows.append((cell["loss"], cell["pass"], *in_columns({label: f"{1e3 * value:.3g}" for label, value in cell["times"].items()})))
    header = tuple(column.replace("own", OWN[backend]) for column in COLUMNS)
    return Table(f"{NAMES[backend]}, {size} {shape}, median ms", ("loss", "pass", *header), rows)


def verdict(met: bool) -> str:
    return "yes" if met else "no"


def geometric_mean(ratios: Iterable[float]) -> float:
    logarithms = [math.log(ratio) for ratio in ratios]
    return math.exp(sum(logarithms) / len(logarithms))


def cost_of_rows(results: Results, contender: str) -> dict[str, list[tuple[int, float]]]:
    """Per loss, (rows, seconds per row)."""
    costs: dict[str, list[tuple[int, float]]] = {}
    for cell in results["cells"]:
        if cell["size"] == "rows":
            costs.setdefault(cell["loss"], []).append((cell["rows"], cell["times"][contender] / cell["rows"]))
    return costs


def plot(results: Results, path: Path) -> None:
    """Left, the ratio of every loss at large; right, NumPy's cost of a row."""
    drawn = [(comparison, comparison.ratios(results, "large")) for comparison in COMPARISONS]
    drawn = [(comparison, ratios) for comparison, ratios in drawn if ratios]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(15, 1.5 + 0.38 * max(len(drawn), 10)), width_ratios=(3, 2), layout="constrained")
    for height, (comparison, ratios) in enumerate(drawn):
        left.plot(list(ratios.values()), [height] * len(ratios), "o", color="C0", alpha=0.45, label="one loss" if height == 0 else None)
        left.plot(geometric_mean(ratios.values()), height, "|", color="C3", markersize=16, markeredgewidth=3, label="mean" if height == 0 else None)
        for size, target in comparison.targets:
            if size == "large":
                left.plot(target, height, "<", color="black", label="target" if height == 0 else None)
    left.axvline(1, color="grey", linewidth=0.8)
    left.set(xscale="log", xlabel="time / the other's time at (200000, 64): left of 1 is faster", yticks=range(len(drawn)))
    left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.xaxis.set_major_formatter("{x:g}")
    left.xaxis.set_minor_formatter(NullFormatter())
    left.set_yticklabels([comparison.title for comparison, _ in drawn])
    left.invert_yaxis()
    for contender, style, name in ((EAGER, "o-", "lossbackend"), ("Keras eager", "s--", "Keras"), ("own eager", "^:", "whole arrays")):
        for colour, (loss, costs) in enumerate(cost_of_rows(results, contender).items()):
            right.plot([rows for rows, _ in costs], [1e9 * cost for _, cost in costs], style, color=f"C{colour}", label=f"{loss}, {name}")
    right.set(xscale="log", yscale="log", xlabel="rows of 16 float32", ylabel="ns per row", title="NumPy, forward")
    for axes in (left, right):
        if axes.lines[1:]:
            axes.legend(fontsize="small")
        else:
            axes.set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def markers(device: str) -> tuple[str, str]:
    """The lines of the page between which the results of this device stand."""
    return f"<!-- {device}: generated by benchmarks/compare.py -->", f"<!-- end of {device} -->"


def around(page: Path, begin: str, end: str) -> tuple[str, str]:
    """What stands before and after the results between these lines; an error if the page has no place for them."""
    text = page.read_text()
    if begin not in text or end not in text:
        raise click.ClickException(f"{page} has no place for the results: write the lines {begin} and {end} into it")
    return text[: text.index(begin) + len(begin)], text[text.index(end) :]


def write(results: Results, page: Path) -> None:
    """Replace the part of the page that holds the results of this device."""
    device = results["device"]
    before, after = around(page, *markers(device))
    picture = f"{page.stem}-{device}.png"
    plot(results, page.parent / picture)
    first, *others = tables(results)
    counted = sum(table.title.endswith("median ms") for table in others)
    details = "\n".join(table.markdown() for table in others[len(others) - counted :])
    parts = [description(results), first.markdown(), *(table.markdown() for table in others[: len(others) - counted])]
    parts += [f"![Ratios at large, and NumPy's cost of a row]({picture})\n", "<details><summary>All medians</summary>\n", details, "</details>"]
    page.write_text(before + "\n\n" + "\n".join(parts) + "\n\n" + after)


def description(results: Results) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in sorted(results["versions"].items()))
    device = "" if results["device"] == "cpu" else f", {machine['device']}"
    load = f" The load was {machine['load']:.1f} when it began: other work ran beside it." if machine["load"] > 0.5 else ""
    losses = list(dict.fromkeys(cell["loss"] for cell in results["cells"]))
    part = "" if len(losses) == len(CASES) else f" A part of the losses only: {', '.join(losses)}."
    place = f"{machine['processor']}, {machine['cores']} cores{device}"
    return f"{machine['date']}, {place}, {machine['system']}, Python {machine['python']}; {versions}.{load}{part}\n"
