"""The command ``lossbackend parity``: what a person asked for, run and shown."""

import datetime
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from lossbackend import cli, dispatch, registry
from lossbackend.definition import loss_of
from lossbackend.files import listed
from lossbackend.parity import report
from lossbackend.parity.cases import DTYPES, KINDS, Suite, suite_of, suites
from lossbackend.parity.measure import Column, columns, measure, steps
from lossbackend.parity.stability import search

BREACH = 1


class Request(NamedTuple):
    """The arguments and options of the command."""

    losses: Sequence[str] = ()
    backends: Sequence[str] = ()
    dtypes: Sequence[str] = ()
    compiled: bool = False
    kind: str | None = None
    options: Sequence[str] = ()
    seed: int = 0
    json_file: str | None = None
    junit_file: str | None = None
    html_file: str | None = None
    case: str | None = None


def parity(request: Request) -> int:
    """Run what was asked for and print it; the exit code. ValueError for a person's mistake."""
    if request.seed < 0:
        raise ValueError(f"--seed: 0 or more, got {request.seed}")
    # What a user's module or a framework prints is no part of the answer.
    with redirect_stdout(sys.stderr):
        files = {suffix: _target(f"--{suffix}", getattr(request, f"{suffix}_file")) for suffix in ("json", "junit", "html")}
        dtypes = _dtypes(request.dtypes)
        wanted = _suites(request)
        chosen = _columns(request)
    if request.case is not None:
        print(report.explain(report.find_case(request.case, wanted, DTYPES, request.seed), chosen))
        return 0
    own = [suite for suite in wanted if ":" in suite.source]
    with redirect_stdout(sys.stderr), _progress(steps(wanted, dtypes, chosen)) as progress:
        run = measure(wanted, dtypes, chosen, request.seed, progress)
        names = [column.backend for column in chosen]
        best = next((name for name in names if dispatch.adapter(name).differentiable), names[0])
        stability = {}
        failed = {measurement.suite.label for measurement in run.measurements if any(found.error for found in measurement.outcomes.values())}
        for suite in own:
            if suite.label in failed:
                continue
            progress(f"stability: {suite.label}", 0)
            stability[suite.label] = search(dispatch.adapter(best), suite)
    report.print_run(run, stability)
    if files["json"] is not None:
        report.write_json(run, stability, files["json"])
    if files["junit"] is not None:
        report.write_junit(run, files["junit"])
    if files["html"] is not None:
        report.write_html(run, stability, files["html"], datetime.date.today().isoformat())
    return BREACH if run.breaches else 0


def _target(option: str, path: str | None) -> Path | None:
    """The file to write; ValueError if it cannot be one, before minutes of measuring."""
    if path is None:
        return None
    target = Path(path)
    try:
        existed = target.exists()
        if target.is_dir():
            raise ValueError(f"{option}: {path!r} is a directory: name a file in it")
        if not target.parent.is_dir():
            raise ValueError(f"{option}: no such directory: {str(target.parent)!r}")
        with target.open("a"):
            pass
    except OSError as error:
        raise ValueError(f"{option}: cannot write {path!r}: {error.strerror}") from error
    if not existed:
        target.unlink()
    return target


def _dtypes(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in DTYPES:
            raise ValueError(f"--dtype: {name!r} is none of {listed(DTYPES)}")
    return list(dict.fromkeys(names)) or list(DTYPES[:2])


def _columns(request: Request) -> list[Column]:
    names = list(dict.fromkeys(dispatch.canonical(name) for name in request.backends)) or dispatch.available_backends()
    if dispatch.REFERENCE in names:
        raise ValueError(f"--backend: {dispatch.REFERENCE} is what the others are measured by")
    with cli.quiet():
        for name in [*names, dispatch.REFERENCE]:
            dispatch.adapter(name)
    return columns(names, request.compiled)


def _suites(request: Request) -> list[Suite]:
    if request.kind is not None and request.kind not in KINDS:
        raise ValueError(f"--inputs: {request.kind!r} is none of {listed(KINDS)}")
    losses = list(request.losses)
    if not losses and request.case is not None and ":" in request.case:
        losses = [request.case.partition("/")[0].partition("[")[0]]
    own = [name for name in losses if ":" in name]
    for option, given in (("--inputs", request.kind is not None), ("--option", bool(request.options))):
        if given and not own:
            raise ValueError(f"{option} is for a loss of your own, module:function; the built-in losses are measured with all their options")
    if not losses:
        return suites()
    built_in = [cli.find_loss(name).definition.name for name in losses if ":" not in name]
    for name in built_in:
        if name not in registry.functions():
            raise ValueError(f"{name!r} is not a built-in loss")
    return suites(dict.fromkeys(built_in)) + [_own_suite(name, request) for name in dict.fromkeys(own)]


def _own_suite(name: str, request: Request) -> Suite:
    found = cli.find_loss(name)
    options = found.definition.changed({**found.options, **cli.parse_options(request.options)})
    found.definition.complete(options)
    return suite_of(loss_of(found.definition), options, request.kind, name)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str, int], None]]:
    """A bar on stderr while a person looks at it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    parts = (BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*parts, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=total)
        yield lambda what, done: bar.update(task, description=what, advance=done)
