"""The command line: ``lossbackend`` and ``python -m lossbackend``.

The work is done by plain functions that return records and raise ValueError for a person's mistake. ``interface`` declares the commands, and ``main``
turns every mistake into one line on stderr.
"""

import importlib
import inspect
import io
import json
import math
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

import lossbackend
from lossbackend import dispatch, registry
from lossbackend.definition import Definition, loss_of
from lossbackend.evaluation import Each, Result, compute
from lossbackend.files import INSTALL, check_output, digits, error_text, listed, open_array, replace, writing
from lossbackend.losses.objects import MEAN, Loss
from lossbackend.reduction import REDUCTIONS

if TYPE_CHECKING:
    import click

Record: TypeAlias = dict[str, Any]

MISTAKE, INTERRUPTED = 2, 130

_SCHEDULER = re.compile(r"threads|processes|(tcp|tls|ws|wss|ucx|inproc)://.+|[^:/]+:\d+")


# Backends


def backend_records() -> Record:
    """Every backend, and which one is selected and why."""
    selected, reason = dispatch.selected()
    available = dispatch.available_backends()
    names = dict.fromkeys((*dispatch.BUILT_IN, *dispatch.SYMBOLIC, *available))
    return {"selected": selected, "reason": reason, "backends": [_backend_record(name, name in available) for name in names]}


def _backend_record(name: str, installed: bool) -> Record:
    """``device`` is where NumPy input is computed; ``problem`` says why there is none."""
    device, problem = None, None
    if installed:
        try:
            with quiet():
                ops = dispatch.adapter(name)
                device = _device_name(ops.asarray(np.zeros(1, np.float32)))
        except Exception as error:  # a broken installation raises anything
            problem = _one_line(f"cannot be imported: {error_text(error)}")
    else:
        problem = f'pip install "lossbackend[{name}]"'
    version = _version(dispatch.package(name)) if installed else None
    return {"name": name, "installed": installed, "version": version, "device": device, "problem": problem}


def _version(name: str) -> str | None:
    """The version of the distribution that the module comes from: tensorflow may be that of tensorflow-cpu."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        distributions = metadata.packages_distributions().get(name, [])
        return metadata.version(distributions[0]) if distributions else None


def _device_name(tensor: Any) -> str | None:
    device = getattr(tensor, "device", None)
    # JAX has an object with a platform; TensorFlow a path that ends in device:CPU:0; torch and NumPy a short name; ndonnx what says nothing.
    name = "" if device is None else str(getattr(device, "platform", device)).rpartition("device:")[2].lower()
    return None if not name or name.startswith("<") else name


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing reaches stdout or stderr: a framework's C++ code writes to the file descriptors while it is imported."""
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in (1, 2):
            os.dup2(nowhere, descriptor)
        yield
    finally:
        for descriptor, original in zip((1, 2), saved, strict=True):
            os.dup2(original, descriptor)
        for descriptor in (nowhere, *saved):
            os.close(descriptor)


# Losses


def loss_records() -> list[Record]:
    """Every loss."""
    return [_loss_record(function.definition) for function in registry.functions().values()]


def loss_record(name: str) -> Record:
    """The loss of a name, alias or class name; ValueError with near matches for an unknown one."""
    found = registry.get(name)
    return _loss_record(getattr(found, "function", found).definition)


def _loss_record(definition: Definition) -> Record:
    docstring = inspect.cleandoc(definition.formula.__doc__ or "")
    class_of = {value.function.definition: value for value in registry.classes().values()}
    constructor = class_of.get(definition)
    return {
        "name": definition.name,
        "class": None if constructor is None else constructor.__name__,
        "aliases": list(definition.aliases),
        "options": dict(definition.defaults),
        "formula": docstring.partition("\n")[0],
        "signature": definition.name + _bare_signature(definition.signature),
        "class_signature": None if constructor is None else constructor.__name__ + _bare_signature(inspect.signature(constructor)),
        "docstring": docstring,
    }


def _bare_signature(signature: inspect.Signature) -> str:
    parameters = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=parameters, return_annotation=signature.empty))


class Found(NamedTuple):
    """What a LOSS on the command line stands for."""

    # And not its definition, because pickle finds a function by its name.
    function: Any
    options: Mapping[str, Any]
    reduction: str | None
    # And no class or object, which have a reduction of their own.
    is_function: bool

    @property
    def definition(self) -> Definition:
        return self.function.definition  # type: ignore[no-any-return]


def find_loss(name: str) -> Found:
    """The loss of a registered name, or of ``module:function``, which imports that module."""
    found = _load(name) if ":" in name else registry.get(name)
    config: Mapping[str, Any] = {}
    if isinstance(found, Loss):
        config = found.get_config()
    elif inspect.isclass(found) and is_dataclass(found):
        # Not those of an instance: an option without a default comes from --option.
        config = {field.name: field.default for field in fields(found) if field.default is not MISSING}
    function = getattr(found, "function", found)
    if not isinstance(getattr(function, "definition", None), Definition):
        raise ValueError(f"{name!r} is not a loss: decorate the function with @lossbackend.loss, or name a subclass or object of lossbackend.Loss")
    options = {option: value for option, value in config.items() if option not in ("reduction", "name")}
    return Found(function, options, config.get("reduction", MEAN), not config)


def _load(name: str) -> Any:
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise ValueError(f"{name!r} names no loss: write module:function")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a module may do anything while it is imported
        hint = f"; write {module_name.removesuffix('.py')}:{path}" if module_name.endswith(".py") else ""
        raise ValueError(f"cannot import {module_name!r}: {error_text(error)}{hint}") from error
    known = [key for key, value in vars(found).items() if isinstance(getattr(value, "definition", None), Definition)]
    for part in path.split("."):
        if not hasattr(found, part):
            raise ValueError(f"module {module_name!r} has no {path!r}; its losses are: {listed(known)}")
        found = getattr(found, part)
    return found


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """The options of ``k=v`` pairs. A value is JSON, or True, False, None, or else a string."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ValueError(f"--option takes name=value, got {pair!r}")
        if name in options:
            raise ValueError(f"--option {name} was given twice")
        options[name] = _parse_value(name, text.strip())
    return options


def _parse_value(name: str, text: str) -> Any:
    if text in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[text]
    try:
        return json.loads(text, object_hook=_int_keys)
    except (ValueError, RecursionError) as error:
        if text.startswith(("[", "{")):
            raise ValueError(f'--option {name}: {text!r} is not valid JSON; write it like [1.0, 2.0] or {{"1": 2.0}}') from error
        return text


def _int_keys(value: dict[str, Any]) -> dict[Any, Any]:
    """JSON has only strings as keys; class ids are ints."""
    return {int(key) if re.fullmatch(r"-?\d+", key) else key: entry for key, entry in value.items()}


def _workers(scheduler: str) -> AbstractContextManager[Each]:
    try:
        from lossbackend import cluster
    except ImportError as error:
        raise ValueError(f'--dask needs pip install "lossbackend[dask]" ({error})') from error
    return cluster.workers(scheduler)


# Text


def _one_line(message: str) -> str:
    return " ".join(line.strip() for line in message.splitlines() if line.strip())


def _plain(value: Any) -> Any:
    """``value`` as strict JSON, in which NaN and the infinities are strings."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _print_json(record: Any) -> None:
    import click

    click.echo(json.dumps(_plain(record)))


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    # Nothing is cut or wrapped in a pipe or a file.
    console = Console(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else 10_000)
    table = Table(box=None, pad_edge=False)
    for position, column in enumerate(columns):
        table.add_column(column, no_wrap=position == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    import click

    width = max(len(name) for name, _ in pairs)
    click.echo("\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in pairs))


def _print_gallery(files: Mapping[str, Any]) -> None:
    import click

    click.echo("\n".join(map(str, files.values())))


def _with_a_bar(items: Sequence[Any]) -> Iterable[Any]:
    """The items one by one, and a bar on stderr while a person looks at it."""
    from rich.console import Console
    from rich.progress import track

    return track(items, "", console=Console(stderr=True), transient=True, disable=len(items) < 2 or not sys.stderr.isatty())


def _print_backends(record: Record) -> None:
    rows = []
    for backend in record["backends"]:
        reason = record["reason"] if backend["name"] == record["selected"] else ""
        rows.append(
            (
                backend["name"],
                "yes" if backend["installed"] else "no",
                backend["version"] or "",
                backend["device"] or backend["problem"] or "",
                f"yes: {reason}" if reason else "",
            )
        )
    _print_table(("backend", "installed", "version", "device", "selected"), rows)


def _print_losses(records: Iterable[Record]) -> None:
    rows = [(record["name"], ", ".join(record["aliases"]), ", ".join(record["options"]), record["formula"]) for record in records]
    _print_table(("name", "aliases", "options", "formula"), rows)


def _print_loss(record: Record) -> None:
    import click

    pairs = [("formula", record["formula"]), ("function", record["signature"])]
    if record["class"] is not None:
        pairs.append(("class", record["class_signature"]))
    _print_pairs([*pairs, ("aliases", ", ".join(record["aliases"]) or "none")])
    click.echo(record["docstring"].removeprefix(record["formula"]))


def _print_evaluation(record: Record, result: Result) -> None:
    files = {name: (file["path"], str(tuple(file["shape"])), file["dtype"]) for name, file in record["inputs"].items()}
    widths = [max(len(cells[i]) for cells in files.values()) for i in range(3)]
    pairs = [(name, "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))) for name, cells in files.items()]
    pairs.append(("loss", record["loss"]))
    pairs += [("option", f"{name}={value!r}") for name, value in record["options"].items()]
    pairs += [("reduction", record["reduction"]), ("samples", str(record["samples"])), ("backend", f"{record['backend']}, {record['dtype']}")]
    pairs.append(("speed", f"{record['rows_per_second']:,.0f} rows per second"))
    if record["output"] is not None:
        pairs.append(("output", record["output"]))
    _print_pairs(pairs + [("value", " ".join(row)) for row in digits(result.value)])


def _print_export(record: Record) -> None:
    pairs = [("loss", record["loss"]), *(("option", f"{name}={value!r}") for name, value in record["options"].items())]
    pairs.append(("reduction", record["reduction"]))
    for what in ("input", "output"):
        pairs += [(what, f"{name}  {found['dtype']}  ({', '.join(map(str, found['shape']))})") for name, found in record[f"{what}s"].items()]
    pairs += [("opset", str(record["opset"])), ("size", f"{record['size']:,} bytes"), ("file", record["file"])]
    _print_pairs(pairs)


# Commands


def interface() -> "click.Group":
    """The commands. click is imported here, so that ``main`` can say how to install it."""
    import click
    import rich  # noqa: F401  # missing: said at once, not by the first table

    class Group(click.Group):
        def invoke(self, ctx: click.Context) -> Any:
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt as interrupt:
                raise click.Abort(*interrupt.args) from None

    as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, on one line.")

    @click.group(cls=Group, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
    @click.version_option(lossbackend.__version__, prog_name="lossbackend")
    def group() -> None:
        """Every loss of the Keras pages on NumPy, PyTorch, JAX and TensorFlow."""

    @group.command("backends", short_help="Show the backends, and which one is selected.")
    @as_json
    def backends_command(as_json: bool) -> None:
        """Show the backends: installed or not, version, device, and which one is selected.

        The device is where NumPy input is computed. Every installed framework is imported to ask for it, which takes seconds.
        """
        record = backend_records()
        (_print_json if as_json else _print_backends)(record)

    @group.command("losses", short_help="Show every loss, or one of them.")
    @click.argument("name", required=False)
    @as_json
    def losses_command(name: str | None, as_json: bool) -> None:
        """Show every loss, or the loss NAME (an alias or a class name too): formula, signature, aliases."""
        if name is None:
            (_print_json if as_json else _print_losses)(loss_records())
        else:
            (_print_json if as_json else _print_loss)(loss_record(name))

    def known_scheduler(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
        # Eager, so that an argument which was taken for the value is not first missed elsewhere.
        if value is not None and not _SCHEDULER.fullmatch(value):
            raise click.BadParameter(
                f"{value!r} is neither threads, processes nor the address of a scheduler, such as tcp://host:8786. "
                f"Write --dask=threads where an argument follows, or --dask last.",
                context,
                option,
            )
        return value

    @group.command("evaluate", short_help="Compute a loss over files.")
    @click.argument("loss")
    @click.argument("y_true")
    @click.argument("y_pred")
    @click.option("--backend", metavar="NAME", help="Where to compute; see `lossbackend backends`.")
    @click.option("--option", "pairs", metavar="NAME=VALUE", multiple=True, help="An option of the loss. Repeatable.")
    @click.option("--reduction", type=click.Choice([name for name in REDUCTIONS if name]), help=f"How to make one number of them.  [default: {MEAN}]")
    @click.option("--sample-weight", metavar="FILE", help="One weight per sample.")
    @click.option("--mask", metavar="FILE", help="One 0 or 1 per sample: 0 leaves the sample out.")
    @click.option("--output", metavar="FILE", help="Write the weighted loss of each sample to a .npy or .csv file.")
    @click.option("--check/--no-check", default=True, help="Refuse input that cannot be meant.  [default: check]")
    @click.option(
        "--dask",
        metavar="[SCHEDULER]",
        is_flag=False,
        flag_value="threads",
        is_eager=True,
        callback=known_scheduler,
        help="Compute the parts on dask: threads (the default), processes, or the scheduler at an address, such as tcp://host:8786.",
    )
    @as_json
    def evaluate_command(
        loss: str,
        y_true: str,
        y_pred: str,
        backend: str | None,
        pairs: tuple[str, ...],
        reduction: str | None,
        sample_weight: str | None,
        mask: str | None,
        output: str | None,
        check: bool,
        dask: str | None,
        as_json: bool,
    ) -> None:
        """Compute LOSS of the predictions in Y_PRED against the labels in Y_TRUE.

        LOSS is a name that `lossbackend losses` knows, or module:function, a loss of your own: a function made with @lossbackend.loss, or a
        subclass or object of lossbackend.Loss. The latter imports that module and so runs its code; nothing else loads code. The current
        directory is importable.

        \b
        Y_TRUE, Y_PRED and every other FILE is one of
          data.npy
          data.npz:key
          data.csv:column[,column...]       with a header row
          data.parquet:column[,column...]
        The part after the colon may be left out where there is only one.

        A .npy or .parquet file may be larger than memory, where the losses of its rows are independent: they are computed in parts.

        With --dask, workers read .npy and .parquet files themselves, and so need them at the same paths; other files are read here and sent. Your own
        loss is sent too, with the modules of the current directory; what else it imports has to be installed there. Write --dask last, or with
        a value: it would take an argument that follows for one.

        Files are never unpickled. A column of N numbers is N samples: dense labels and predictions of shape (N,) are taken as (N, 1).

        The VALUE of an --option is true, false, null, a number, [1.0, 2.0] or {"1": 2.0}, as in JSON, and a string otherwise. In the output
        of --json, NaN and the infinities are the strings "NaN", "Infinity" and "-Infinity".

        \b
        Examples:
          lossbackend evaluate mse labels.csv:price predictions.npy
          lossbackend evaluate sparse_categorical_crossentropy y.csv:class logits.npz:logits \\
              --option from_logits=true --option class_weight='{"1": 2.0}'
          lossbackend evaluate my_losses:charbonnier y.npy p.npy --backend torch
          lossbackend evaluate mse /shared/y.parquet /shared/p.npy --dask tcp://head:8786
        """
        # What a user's module or a framework prints is no part of the answer.
        with redirect_stdout(sys.stderr):
            found = find_loss(loss)
            given = parse_options(pairs)
            target = None if output is None else check_output(output)
            files = {"y_true": y_true, "y_pred": y_pred, "sample_weight": sample_weight, "mask": mask}
            sources = {name: open_array(name, file) for name, file in files.items() if file is not None}
            options = found.definition.complete({**found.options, **given})
            reduction = found.reduction if reduction is None else reduction
            with quiet():
                backend = dispatch.get_backend(backend).name
            with nullcontext() if dask is None else _workers(dask) as elsewhere:
                computed = partial(compute, found.function, sources, options, reduction, backend, check, watched=_with_a_bar, elsewhere=elsewhere)

                def written(path: Path) -> Result:
                    with writing(path) as append:
                        return computed(keep=append)

                result = computed() if target is None else replace(target, written)
        record = {
            "loss": found.definition.name,
            "value": result.value.tolist(),
            "reduction": reduction or "none",
            "samples": result.samples,
            "backend": backend,
            "dtype": str(result.value.dtype),
            "inputs": {name: {"path": files[name], "shape": list(source.shape), "dtype": str(source.dtype)} for name, source in sources.items()},
            "options": {**options, **given},
            "output": output,
            "rows_per_second": result.rows_per_second,
        }
        if as_json:
            _print_json(record)
        else:
            _print_evaluation({**record, "options": {**found.options, **given}}, result)

    @group.command("parity", short_help="Measure losses on every backend against their exact values.")
    @click.argument("loss", nargs=-1)
    @click.option("--backend", "backends", metavar="NAME", multiple=True, help="A backend to measure. Repeatable.  [default: every installed one]")
    @click.option("--dtype", "dtypes", metavar="NAME", multiple=True, help="float64 and float32 by default; bfloat16, float16. Repeatable.")
    @click.option("--compiled/--eager", default=False, help="Measure torch.compile, jax.jit and XLA too, which takes minutes.  [default: eager]")
    @click.option(
        "--inputs",
        "kind",
        metavar="KIND",
        help="The kind of input of your own loss.  [default: what it annotates; else reals, id-logits for class ids]",
    )
    @click.option("--option", "pairs", metavar="NAME=VALUE", multiple=True, help="An option of your own loss. Repeatable.")
    @click.option("--seed", type=int, default=0, help="Of the random inputs.  [default: 0]")
    @click.option("--json", "json_file", metavar="FILE", help="Write everything as JSON.")
    @click.option("--junit", "junit_file", metavar="FILE", help="Write JUnit XML.")
    @click.option("--html", "html_file", metavar="FILE", help="Write one self-contained page.")
    @click.option("--explain", "case", metavar="CASE", help="Show one case in full, with code that reproduces it, and nothing else.")
    def parity_command(
        loss: tuple[str, ...],
        backends: tuple[str, ...],
        dtypes: tuple[str, ...],
        compiled: bool,
        kind: str | None,
        pairs: tuple[str, ...],
        seed: int,
        json_file: str | None,
        junit_file: str | None,
        html_file: str | None,
        case: str | None,
    ) -> int:
        """Measure each LOSS (every built-in one by default) on every backend, against its exact value and against the other backends.

        The values and gradients of hard and of random inputs are compared with the exact ones, in units in the last place (ulp), and so are shapes,
        dtypes, exceptions, NaN and infinities. Where a gradient has a kink, it is compared between backends. The exit code is 1 where they disagree.

        LOSS is a name that `lossbackend losses` knows, or module:function, a loss of your own. Of the latter the run also says where its formula
        loses digits, overflows or has gradients that are not finite, with the smallest input that shows it. KIND is one of reals, positives, binary,
        binary-logits, signs, classes, class-logits, distributions, ids, id-logits, counts, log-rates, vectors.

        \b
        Examples:
          lossbackend parity
          lossbackend parity huber log_cosh --backend torch --backend jax --compiled
          lossbackend parity my_losses:charbonnier --html parity.html
          lossbackend parity --explain 'huber[delta=0.25]/float32/17'
        """
        from lossbackend.parity.command import Request, parity

        request = Request(loss, backends, dtypes, compiled, kind, pairs, seed, json_file, junit_file, html_file, case)
        return parity(request)

    @group.command("plot", short_help="Draw losses and their gradients.")
    @click.argument("loss", nargs=-1)
    @click.option("-o", "--output", metavar="FILE", help="The picture, .png or .svg.  [default: LOSS.png]")
    @click.option("--option", "pairs", metavar="NAME=VALUE", multiple=True, help="An option of the losses that have it. Repeatable.")
    @click.option("--range", "limits", type=float, nargs=2, metavar="LOW HIGH", help="The ends of the horizontal axis, which is then linear.")
    @click.option(
        "--inputs",
        "kind",
        metavar="KIND",
        help="The kind of input of your own losses, as in `lossbackend parity`.  [default: what they annotate]",
    )
    @click.option("--gallery", metavar="DIR", help="Draw every built-in loss into a directory, which is made, and nothing else.")
    @click.option("--format", "suffix", type=click.Choice(["png", "svg"]), help="Of the default file, png, and of the gallery, svg.")
    def plot_command(
        loss: tuple[str, ...],
        output: str | None,
        pairs: tuple[str, ...],
        limits: tuple[float, float] | None,
        kind: str | None,
        gallery: str | None,
        suffix: str | None,
    ) -> None:
        """Draw each LOSS and its gradient with respect to y_pred, all in one picture.

        Kinks, where the slopes on both sides differ, and jumps of the loss are marked, and so are the ranges where the gradient is 0: saturated where
        the loss is above its minimum, so that nothing is learnt there. Everything is exact, which needs no framework.

        LOSS is a name that `lossbackend losses` knows, or module:function, a loss of your own. The horizontal axis is the error p − y, the margin
        y p, the probability, the logit or the rate, as the loss takes it; losses of different axes stand side by side. The axis of probabilities is
        stretched towards 0 and 1, because losses of probabilities saturate closer to them than a line is wide.

        \b
        Examples:
          lossbackend plot huber
          lossbackend plot mse mae huber log_cosh -o robust.svg
          lossbackend plot huber --option delta=0.5 --range -2 2
          lossbackend plot binary_crossentropy --range 0 1
          lossbackend plot binary_crossentropy --option from_logits=true
          lossbackend plot my_losses:charbonnier
          lossbackend plot --gallery pictures --format png
        """
        try:
            from lossbackend import plot

            dispatch.adapter(dispatch.REFERENCE)
        except ImportError as error:
            raise ValueError('pictures need pip install "lossbackend[plot]"') from error
        if gallery is not None:
            if loss or output is not None or pairs or limits or kind is not None:
                raise ValueError("--gallery draws every built-in loss as it is: give it no LOSS, and no option but --format")
            _print_gallery(plot.gallery(gallery, suffix or "svg", _with_a_bar))
            return
        if not loss:
            raise click.UsageError("Missing argument 'LOSS', or --gallery DIR.", click.get_current_context())
        if output is not None and suffix is not None:
            raise ValueError("--format: the end of the file that --output names says it, drop one of them")
        # What a user's module prints is no part of the answer.
        with redirect_stdout(sys.stderr):
            suites = plot.resolve(loss, parse_options(pairs), kind)
            if output is None:
                output = f"{'-'.join(name.rpartition(':')[2] for name in loss)}.{suffix or 'png'}"
            target = check_output(output, (".png", ".svg"))
            panels = plot.panels(suites, limits)
            plot.save(plot.draw(panels), target)
        _print_pairs([("output", output), *((what, where) for panel in panels for what, where in plot.marks(*panel).items())])

    @group.command("export", short_help="Write a loss as an ONNX model.")
    @click.argument("loss")
    @click.option("-o", "--output", metavar="FILE", help="The model, .onnx.  [default: LOSS.onnx]")
    @click.option("--option", "pairs", metavar="NAME=VALUE", multiple=True, help="An option of the loss, a constant of the model. Repeatable.")
    @click.option("--shape", metavar="SIZES", help="Of y_pred: a name for an axis of any size, a number for a fixed one.  [default: N,C or N,D]")
    @click.option("--dtype", type=click.Choice(["float32", "float64", "float16"]), default="float32", help="Of y_pred.  [default: float32]")
    @click.option("--reduction", type=click.Choice([name for name in REDUCTIONS if name]), help="How to make one number of them.  [default: none]")
    @click.option("--sample-weight", is_flag=True, help="The model takes one weight per sample.")
    @click.option("--mask", is_flag=True, help="The model takes one bool per sample: False leaves the sample out.")
    @as_json
    def export_command(
        loss: str,
        output: str | None,
        pairs: tuple[str, ...],
        shape: str | None,
        dtype: Literal["float32", "float64", "float16"],
        reduction: str | None,
        sample_weight: bool,
        mask: bool,
        as_json: bool,
    ) -> None:
        """Write LOSS as an ONNX model, which onnxruntime runs wherever it runs.

        LOSS is a name that `lossbackend losses` knows, or module:function, a loss of your own. The model takes y_true and y_pred, and gives the loss
        of each sample; or one number, where there is a --reduction, or LOSS is a class or an object, which has one.

        Class ids are int64. One that is none makes its sample NaN. Nothing is broadcast.

        \b
        Examples:
          lossbackend export huber -o huber.onnx --option delta=2.0
          lossbackend export sparse_categorical_crossentropy --option from_logits=true --shape N,T,1000
          lossbackend export Huber --sample-weight --mask
          lossbackend export my_losses:charbonnier --dtype float64 --reduction mean
        """
        # What a user's module prints is no part of the answer.
        with redirect_stdout(sys.stderr):
            found = find_loss(loss)
            options = {**found.options, **parse_options(pairs)}
            if output is None:
                output = f"{loss.rpartition(':')[2]}.onnx"
            target = check_output(output, (".onnx",))
            with quiet():
                from lossbackend import onnx
            reduction = None if found.is_function and reduction is None else reduction or found.reduction
            sizes = None if shape is None else [int(size) if size.isdecimal() else size for size in map(str.strip, shape.split(","))]
            model = onnx.export(
                loss_of(found.definition),
                target,
                shape=sizes,
                dtype=dtype,
                reduction=reduction,
                sample_weight=sample_weight,
                mask=mask,
                **options,
            )
        record = {"loss": found.definition.name, "options": options, "reduction": reduction or "none", **onnx.interface(model), "file": output}
        (_print_json if as_json else _print_export)(record)

    return group


def _fail(message: str, code: int = MISTAKE) -> int:
    print(f"error: {_one_line(message)}", file=sys.stderr)
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 2 for a person's mistake, which is one line on stderr, 130 when interrupted."""
    try:
        group = interface()
    except ImportError:
        return _fail(f"the command line needs {INSTALL}")
    import click

    if isinstance(sys.stdout, io.TextIOWrapper):
        # Formulas hold signs that a legacy encoding lacks.
        sys.stdout.reconfigure(errors="replace")
    # TensorFlow reads this when it is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with warnings.catch_warnings():
        # One line is all a mistake gives, and an overflow shows in the result. Who asks Python for warnings (-W) still gets them.
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        try:
            return group.main(arguments, prog_name="lossbackend", standalone_mode=False) or 0
        except (click.Abort, KeyboardInterrupt) as interrupt:
            return _fail(str(interrupt) or "interrupted", INTERRUPTED)
        except click.UsageError as error:
            command = "lossbackend" if error.ctx is None else error.ctx.command_path
            return _fail(f"{error.format_message()} Try `{command} --help`.")
        except click.ClickException as error:
            return _fail(error.format_message())
        except (ValueError, TypeError, ImportError) as error:
            return _fail(error_text(error))
        except OSError as error:
            return _fail(error.strerror or error_text(error))
