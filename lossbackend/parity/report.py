"""What a parity run found: on the terminal, as JSON, JUnit XML and HTML, and one case in full."""

import html
import importlib
import json
import math
import operator
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from xml.etree import ElementTree

import numpy as np

import lossbackend
from lossbackend import dispatch, registry
from lossbackend.parity.cases import KINDS, RANGES, Array, Batch, Suite, cases
from lossbackend.parity.measure import (
    GRADIENT_BOUND,
    VALUE_BOUND,
    Breach,
    Column,
    Measurement,
    Outcome,
    Run,
    bad_calls,
    calls,
    case_id,
    compare,
    lacks,
    refused_call,
    run_compiled,
    run_eager,
)
from lossbackend.parity.stability import Finding

Stability: TypeAlias = Mapping[str, Sequence[Finding]]
"""Of each loss of a user's own, by label."""

_CAPTION = "Largest error in ulp, and of a gradient in its units"

# A cell's class: the colours of the heat map, by the largest error in ulp up to which they go.
_HEAT = ((0.5, "exact"), (1.0, "one"), (2.0, "two"), (VALUE_BOUND, "four"), (math.inf, "beyond"))
_TERMINAL = {"exact": "green", "one": "green", "two": "yellow", "four": "dark_orange", "beyond": "bold white on red", "none": "dim"}


def _heat(ulps: float | None) -> str:
    return "none" if ulps is None else next(name for bound, name in _HEAT if ulps <= bound)


def _gradient_heat(units: float | None) -> str:
    return _heat(units) if units is None or units > GRADIENT_BOUND else _heat(min(units, VALUE_BOUND))


def _number(ulps: float | None) -> str:
    if ulps is None:
        return "–"
    return "≠" if math.isinf(ulps) else f"{ulps:.2f}" if ulps < 100 else f"{ulps:.1e}"


def versions(columns: Sequence[Column]) -> dict[str, str]:
    """Of the library, NumPy, and the frameworks that were measured."""
    found = {"lossbackend": lossbackend.__version__, "Python": platform.python_version(), "numpy": np.__version__}
    distributions = metadata.packages_distributions()
    for name in dict.fromkeys(column.backend for column in columns):
        if name not in found and name in distributions:
            found[name] = metadata.version(distributions[name][0])
    return found


# The terminal


def print_run(run: Run, stability: Stability, most: int = 10) -> None:
    """The heat map of every dtype, and the breaches."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(emoji=False, highlight=False)
    if not console.is_terminal:
        # Nothing is cut or wrapped in a pipe or a file.
        console = Console(emoji=False, highlight=False, width=10_000)
    for dtype in run.dtypes:
        # A table's own title wraps at the table's width.
        console.print(Text(f"{dtype}: {_CAPTION.lower()}", style="bold"))
        table = Table(box=None, pad_edge=False)
        table.add_column("loss", no_wrap=True)
        for column in run.columns:
            table.add_column(column.label, justify="right")
        table.add_column("gradient", justify="right")
        for measurement in _of(run, dtype):
            cells = [Text(_number(measurement.worst(column)), style=_TERMINAL[_heat(measurement.worst(column))]) for column in run.columns]
            units = _worst_gradient(measurement)
            table.add_row(Text(measurement.suite.label), *cells, Text(_number(units), style=_TERMINAL[_gradient_heat(units)]))
        console.print(table)
        console.print()
    for label, findings in stability.items():
        console.print(Text(f"{label} in float32:{'' if findings else ' loses no digits, does not overflow, has finite gradients'}", style="bold"))
        for finding in findings:
            console.print(Text(f"  {finding}"))
        console.print()
    for breach in run.breaches[:most]:
        console.print(Text(f"{breach.case}  {breach.column}  {breach.fact}: {breach.message}"))
    if len(run.breaches) > most:
        console.print(f"... and {len(run.breaches) - most} more; --json has all of them")
    for label in valueless(run):
        console.print(Text(f"{label} has no value on any backend", style="bold red"))
    console.print(Text(summary(run), style="bold red" if run.breaches else "bold green"))
    if run.breaches:
        seed = f" --seed {run.seed}" if run.seed else ""
        console.print(f"--explain CASE{seed} shows one of them in full.")


def valueless(run: Run) -> list[str]:
    """The losses, by label, that no column computed in any dtype."""
    computed = {measurement.suite.label for measurement in run.measurements for found in measurement.outcomes.values() if found.error is None}
    return [label for label in dict.fromkeys(measurement.suite.label for measurement in run.measurements) if label not in computed]


def summary(run: Run) -> str:
    losses = len({measurement.suite.definition.name for measurement in run.measurements})
    found = f"{len(run.breaches)} {'breach' if len(run.breaches) == 1 else 'breaches'}" if run.breaches else "no breach"
    return f"{_plural(losses, 'loss', 'losses')}, {_plural(run.cases, 'case', 'cases')} on {_plural(len(run.columns), 'column', 'columns')}: {found}"


def _plural(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _of(run: Run, dtype: str) -> list[Measurement]:
    return [measurement for measurement in run.measurements if measurement.dtype == dtype]


def _worst_gradient(measurement: Measurement) -> float | None:
    worst = measurement.worst_gradient()
    return None if worst is None else worst[1]


# Files


def record(run: Run, stability: Stability) -> dict[str, Any]:
    """Everything that a program may want of a run.

    An error in ulp is "inf" for another kind of result (an exception, a shape, a dtype, NaN for a number), null where the column has no such dtype.
    """
    return {
        "versions": versions(run.columns),
        "columns": [column.label for column in run.columns],
        "dtypes": run.dtypes,
        "seed": run.seed,
        "cases": run.cases,
        "bounds": {"ulps": VALUE_BOUND, "gradient_units": GRADIENT_BOUND},
        "losses": [
            {
                "loss": measurement.suite.label,
                "dtype": measurement.dtype,
                "inputs": measurement.suite.kind,
                "cases": measurement.cases,
                "ulps": {column.label: _json_number(measurement.worst(column)) for column in run.columns},
                "gradient_units": {column.label: _json_number(float(units.max())) for column, units in measurement.gradient_units.items()},
                "breaches": len(measurement.breaches),
            }
            for measurement in run.measurements
        ],
        "breaches": [breach._asdict() for breach in run.breaches],
        "stability": {label: [finding._asdict() for finding in findings] for label, findings in stability.items()},
    }


def _json_number(number: float | None) -> float | str | None:
    return "inf" if number == math.inf else number


def write_json(run: Run, stability: Stability, path: Path) -> None:
    path.write_text(json.dumps(record(run, stability), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_junit(run: Run, path: Path) -> None:
    """One test case per loss, dtype and column."""
    suite = ElementTree.Element("testsuite", name="lossbackend parity")
    failures: dict[tuple[str, str], list[Breach]] = {}
    for breach in run.breaches:
        failures.setdefault((breach.case.rpartition("/")[0], breach.column), []).append(breach)
    tests = 0
    for measurement in run.measurements:
        for column in measurement.outcomes:
            name = f"{measurement.suite.label}/{measurement.dtype}"
            case = ElementTree.SubElement(suite, "testcase", classname=column.label, name=name)
            tests += 1
            found = failures.get((name, column.label))
            if found:
                failure = ElementTree.SubElement(case, "failure", message=_printable(f"{found[0].case}: {found[0].message}"))
                failure.text = _printable("\n".join(f"{breach.case} {breach.fact}: {breach.message}" for breach in found))
    suite.set("tests", str(tests))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    ElementTree.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def _printable(text: str) -> str:
    """XML has no control characters, and an exception's message may hold any."""
    return "".join(character for character in text if character.isprintable() or character in "\n\t")


_STYLE = """
:root { color-scheme: light dark; --text: #1c2024; --soft: #60646c; --page: #fff; --card: #f6f7f9; --line: #dfe2e6;
  --exact: #d3f0dc; --one: #e6f4cf; --two: #fbf0bb; --four: #fbd7a6; --beyond: #d6293e; --accent: #1a6fd4; }
@media (prefers-color-scheme: dark) { :root { --text: #e8eaed; --soft: #a2a8b0; --page: #14161a; --card: #1d2026; --line: #353a42;
  --exact: #12402a; --one: #2c431a; --two: #4f4512; --four: #633c0d; --beyond: #c0223a; --accent: #74aef6; } }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
p { margin: .5rem 0; max-width: 46rem; } .soft { color: var(--soft); }
.verdict { display: inline-block; margin: 1rem 0; padding: .35rem .9rem; border-radius: 2rem; font-weight: 600; background: var(--exact); }
.verdict.bad { background: var(--beyond); color: #fff; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: .5rem 0 1rem; }
dl div { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .8rem; }
dt { color: var(--soft); font-size: .8rem; } dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
caption { text-align: left; padding: .5rem .75rem; color: var(--soft); }
th, td { padding: .3rem .7rem; border-top: 1px solid var(--line); text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
thead th { background: var(--card); border-top: 0; position: sticky; top: 0; }
th:first-child, td.text { text-align: left; }
tbody th { font-weight: 500; font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .8125rem; }
.heat td, .heat thead th:not(:first-child) { width: 6rem; min-width: 3.5rem; } .heat tr > :last-child { border-left: 1px solid var(--line); }
td.wide { white-space: normal; overflow-wrap: anywhere; min-width: 20rem; }
.exact { background: var(--exact); } .one { background: var(--one); } .two { background: var(--two); } .four { background: var(--four); }
.beyond { background: var(--beyond); color: #fff; font-weight: 700; } .none { color: var(--soft); }
.legend { display: flex; flex-wrap: wrap; gap: .5rem; padding: 0; margin: .75rem 0; list-style: none; font-size: .8125rem; }
.legend li { padding: .15rem .6rem; border-radius: .3rem; } a { color: var(--accent); }
code { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .9em; }
@media print { .scroll { overflow: visible; } thead th { position: static; } }
"""

_LEGEND = (
    ("exact", "up to ½ ulp: correctly rounded"),
    ("one", "up to 1"),
    ("two", "up to 2"),
    ("four", f"up to {VALUE_BOUND:g}: the bound"),
    ("beyond", f"beyond {VALUE_BOUND:g}, or ≠: another kind of result, an exception"),
    ("none", "– not available"),
)


def write_html(run: Run, stability: Stability, path: Path, date: str) -> None:
    """One file that needs nothing else, not even JavaScript."""
    text = html.escape
    facts = {"Date": date, "Machine": f"{platform.machine()}, {platform.system()}"} | versions(run.columns)
    facts["Seed"] = str(run.seed)
    cards = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in facts.items())
    legend = "".join(f'<li class="{name}">{text(meaning)}</li>' for name, meaning in _LEGEND)
    body = [
        f'<h1>Parity of losses</h1><p class="verdict{" bad" if run.breaches else ""}">{text(summary(run))}</p>',
        f"<dl>{cards}</dl>",
        "<p>Each loss was computed on every backend from the same bits, and compared with its exact value, which is the definition in arithmetic of "
        "1024 bits. A cell holds the largest error over all cases in units in the last place (ulp) of the exact value, or, where terms cancel, of "
        "what rounding the input alone would change. The last column holds the largest error of any gradient, in units of its own scale; at a kink, "
        f"which has no exact slope, it is the distance from the other backends, and the bound is {GRADIENT_BOUND:g}. "
        "Point at a cell for its worst case.</p>",
        '<p><a href="#breaches">The breaches</a> are listed at the end.</p>' if run.breaches else "",
        f'<ul class="legend" aria-label="Colours">{legend}</ul>',
    ]
    body += [_html_heat_map(run, dtype) for dtype in run.dtypes]
    body += [_html_stability(label, findings) for label, findings in stability.items()]
    if run.breaches:
        body.append(_html_breaches(run))
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Parity of losses: {text(summary(run))}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )
    path.write_text(page, encoding="utf-8")


def _html_breaches(run: Run, most: int = 100) -> str:
    rows = "".join(
        f'<tr><th scope="row">{html.escape(breach.case)}</th><td class="text">{html.escape(breach.column)}</td><td class="text">{breach.fact}</td>'
        f'<td class="text wide">{html.escape(breach.message[:500])}</td></tr>'
        for breach in run.breaches[:most]
    )
    shown = f"the first {most} of {len(run.breaches)}" if len(run.breaches) > most else f"all {len(run.breaches)}"
    head = "".join(f'<th scope="col"{_TEXT if name != "Case" else ""}>{name}</th>' for name in ("Case", "Column", "Fact", "What was found"))
    return (
        f'<section id="breaches"><h2>Breaches</h2><div class="scroll" tabindex="0"><table><caption>{shown}; <code>--explain CASE</code> '
        f"shows one in full</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _html_stability(label: str, findings: Sequence[Finding]) -> str:
    title = f"<h2>Stability of <code>{html.escape(label)}</code> in float32</h2>"
    if not findings:
        return f"<section>{title}<p>It loses no digits, does not overflow, and has finite gradients.</p></section>"
    head = "".join(f'<th scope="col"{_TEXT if "x" not in name else ""}>{name}</th>' for name in ("Input", "What", "smallest x", "largest x", "Worst"))
    rows = "".join(
        f'<tr><th scope="row">{html.escape(found.probe)}</th><td class="text">{html.escape(found.what)}</td><td>{found.smallest:.6g}</td>'
        f'<td>{found.largest:.6g}</td><td class="text wide">{html.escape(found.worst)}</td></tr>'
        for found in findings
    )
    return f'<section>{title}<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>'


_TEXT = ' style="text-align:left"'


def _html_heat_map(run: Run, dtype: str) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in ["Loss", *(c.label for c in run.columns), "gradient"])
    rows = []
    for measurement in _of(run, dtype):
        cells = "".join(_html_value_cell(measurement, column) for column in run.columns) + _html_gradient_cell(measurement)
        label, kind = html.escape(measurement.suite.label), html.escape(KINDS[measurement.suite.kind].description)
        rows.append(f'<tr><th scope="row" title="{kind}">{label}</th>{cells}</tr>')
    return (
        f'<section><h2>{dtype}</h2><div class="scroll" tabindex="0"><table class="heat"><caption>{_CAPTION}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _html_value_cell(measurement: Measurement, column: Column) -> str:
    breach = measurement.breach(column, "exception", "shape", "dtype")
    if breach is not None:
        return _html_breach(breach)
    ulps, values = measurement.ulps.get(column), measurement.outcomes[column].values if column in measurement.outcomes else None
    if ulps is None or values is None:
        return _html_cell(None, "", "the backend has no such dtype")
    row = int(ulps.argmax())
    return _html_cell(
        float(ulps[row]), _heat(float(ulps[row])), _tip(measurement, column, row, f"value {values[row]!s}, exact {measurement.exact[row]!s}")
    )


def _html_gradient_cell(measurement: Measurement) -> str:
    worst = measurement.worst_gradient()
    if worst is None:
        return _html_cell(None, "", "no gradients to compare")
    column, units = worst
    breach = measurement.breach(column, "gradient dtype")
    if breach is not None:
        return _html_breach(breach)
    row, own = int(measurement.gradient_units[column].argmax()), measurement.outcomes[column].gradient
    assert own is not None
    return _html_cell(
        units, _gradient_heat(units), _tip(measurement, column, row, f"gradient {own[row].tolist()}, exact {measurement.gradient[row].tolist()}")
    )


def _html_breach(breach: Breach) -> str:
    return _html_cell(math.inf, "beyond", f"{breach.case} on {breach.column}, {breach.fact}: {breach.message[:500]}")


def _tip(measurement: Measurement, column: Column, row: int, found: str) -> str:
    inputs = measurement.inputs
    case = case_id(measurement.suite, measurement.dtype, row)
    return f"{case} on {column.label}: y_true {inputs.y_true[row].tolist()}, y_pred {inputs.y_pred[row].tolist()}, {found}"


def _html_cell(number: float | None, heat: str, tip: str) -> str:
    return f'<td class="{heat or "none"}" title="{html.escape(tip)}">{_number(number)}</td>'


# One case


class Case(NamedTuple):
    """One row of a batch, the whole batch ("all"), or a call that has to be refused, by its name."""

    suite: Suite
    dtype: str
    name: str
    inputs: Batch

    @property
    def single(self) -> bool:
        return self.name.isdigit()

    @property
    def refused(self) -> bool:
        return not self.single and self.name != "all"


def find_case(case: str, suites: Sequence[Suite], dtypes: Sequence[str], seed: int) -> Case:
    """The case of an id as a run prints it; ValueError where there is none."""
    by_label = {suite.label: suite for suite in suites}
    label, _, rest = case.partition("/")
    dtype, _, name = rest.partition("/")
    loss, bracket, options = label.partition("[")
    if ":" not in loss and loss in registry.names():
        found = registry.get(loss)
        label = getattr(found, "function", found).definition.name + bracket + options
    if label in by_label and dtype in dtypes:
        suite = by_label[label]
        stack = cases(suite, dtype, seed)
        if name.isdigit() and int(name) < len(stack.y_pred):
            row = slice(int(name), int(name) + 1)
            return Case(suite, dtype, name, Batch(stack.y_true[row], stack.y_pred[row]))
        named = {"all": stack, **bad_calls(suite, dtype, seed)}
        if name in named:
            found = Case(suite, dtype, name, named[name])
            return found._replace(suite=suite._replace(interacting=False)) if found.refused else found
    example = case_id(suites[0], dtypes[0], 0)
    raise ValueError(f"--explain: no case {case!r}; a case is written LOSS/DTYPE/NUMBER, such as {example}, or as a run prints it")


def explain(case: Case, columns: Sequence[Column]) -> str:
    """One case by itself: input, what is expected, and what every column makes of it."""
    suite, dtype, name, inputs = case
    if case.refused:
        # As in a run: compiled, where values cannot be looked at, a bad id is NaN.
        columns = [column for column in columns if not column.compiled]
    outcomes = {}
    for column in columns:
        ops = dispatch.adapter(column.backend)
        outcome = run_compiled(ops, [(suite, inputs)], dtype)[0] if column.compiled else run_eager(ops, suite, inputs, dtype)
        if not lacks(outcome, dtype):
            outcomes[column] = outcome
    expected = run_eager(dispatch.adapter(dispatch.REFERENCE), suite, inputs, dtype)._replace(dtype=RANGES[dtype].computed)
    measurement = compare(suite, dtype, inputs, outcomes)
    shown = calls(suite, inputs)[0] if suite.interacting and case.single else inputs
    y_true, y_pred = (
        str((array if suite.interacting else array[0]).tolist()) if case.single else f"shape {array.shape}, in the code below" for array in shown
    )
    lines = [f"case      {case_id(suite, dtype, name)}", f"y_true    {y_true}", f"y_pred    {y_pred}"]
    if case.single and expected.error is None:
        lines.append(f"exact     {float(measurement.exact[0])!r}")
        if measurement.gradient_units:
            lines.append(f"gradient  {measurement.gradient[0].tolist()}")
    else:
        lines.append(f"expected  {_facts(expected)}")
    lines.append("")
    width = max(len(column.label) for column in columns)
    for column, outcome in outcomes.items():
        found = _facts(outcome)
        if case.single and outcome.values is not None:
            gradient = "" if outcome.gradient is None else f"   gradient {outcome.gradient[0].tolist()}"
            found = f"{_shown(outcome.values[0], outcome.dtype)}   {_number(measurement.worst(column))} ulp{gradient}"
        lines.append(f"{column.label:<{width}}  {found}")
    breaches = refused_call(suite, name, inputs, dtype, outcomes) if case.refused else measurement.breaches
    lines += [f"breach: {breach.column}, {breach.fact}: {breach.message}" for breach in breaches]
    slopes = any(breach.fact.startswith("gradient") for breach in breaches)
    return "\n".join([*lines, "", "To reproduce:", "", snippet(case, [column.backend for column in outcomes], slopes)])


def _facts(outcome: Outcome) -> str:
    if outcome.error is not None:
        return f"{type(outcome.error).__name__}: {outcome.error}"
    return f"shape {outcome.shape}, {outcome.dtype}"


def _shown(value: float, dtype: str) -> str:
    return str(np.float32(value)) if dtype == "float32" else str(value)


def snippet(case: Case, backends: Sequence[str], gradient: bool = False) -> str:
    """Python code that prints the loss of one case on each backend, and its gradient where there is one."""
    suite, dtype, _, inputs = case
    names = list(dict.fromkeys(backends))
    module, colon, path = suite.source.partition(":")
    function = f"lb.{suite.definition.name}"
    if colon:
        # The options of a loss object are its own, and so is its reduction; the function inside takes them.
        found = operator.attrgetter(path)(importlib.import_module(module))
        function = path if hasattr(found, "definition") else f"{path}.function"
    options = "".join(f", {name}={value!r}" for name, value in suite.options.items())
    half = dtype in ("bfloat16", "float16")
    # NumPy has no bfloat16, but float32 holds the same numbers.
    numpy_dtype = "float32" if half else dtype
    placed = calls(suite, inputs)
    apart = len(placed) > 1
    y_true, y_pred = (np.stack(arrays) if apart else arrays[0] for arrays in zip(*placed, strict=True))

    def tensor(name: str, array: Array) -> str:
        own = f"ops.asarray({name})"
        return f'ops.cast({own}, "{dtype}")' if half and array.dtype.kind == "f" else own

    first = "[:1]" if suite.interacting else ""
    loss = f"{function}(y, p{options}){first}"
    shown = f"np.asarray(ops.to_numpy({loss}))"
    body = ["ops = lb.get_backend(backend)", f"y, p = {tensor('y_true', y_true)}, {tensor('y_pred', y_pred)}"]
    if apart:
        body[1] = (
            "calls = [" + body[1].partition(" = ")[2].replace("y_true", "y").replace("y_pred", "p").join("()") + " for y, p in zip(y_true, y_pred)]"
        )
        shown = f"np.concatenate([np.asarray(ops.to_numpy({loss})) for y, p in calls])"
    if case.single:
        body.append(f"print(backend, {shown}.flat[0])")
    else:
        body += ["try:", f"    print(backend, {shown})", "except Exception as error:", "    print(backend, type(error).__name__, error)"]
    if gradient and not apart:
        slope = f"ops.value_and_grad(lambda p: {loss}, p)[1]"
        body += ["if ops.differentiable:", f'    print(backend, "gradient", np.asarray(ops.to_numpy({slope})).astype(float).tolist())']
    lines = ["import lossbackend as lb", "import numpy as np", "from numpy import inf, nan"]
    if colon:
        lines.append(f"from {module} import {path.partition('.')[0]}")
    if dtype == "float64" and "jax" in names:
        lines += ["import jax", "", 'jax.config.update("jax_enable_x64", True)']
    lines += [
        "",
        f'y_true = np.array({y_true.tolist()}, "{numpy_dtype if y_true.dtype.kind == "f" else "int32"}")',
        f'y_pred = np.array({y_pred.tolist()}, "{numpy_dtype}")',
        f"for backend in {names}:",
        "    with lb.use_backend(backend):",
        *(f"        {line}" for line in body),
    ]
    return "\n".join(lines)
