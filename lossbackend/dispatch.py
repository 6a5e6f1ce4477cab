"""Which backend runs a call.

A framework tensor among the arguments decides. Only when there is none: the ``use_backend`` block, else ``set_backend``, else the environment
variable ``LOSSBACKEND``, else NumPy, all read at call time.
"""

import difflib
import functools
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import numpy as np

from lossbackend.ops import Ops

BUILT_IN = ("numpy", "torch", "jax", "tensorflow")
# Tensors that have no values yet: the loss of such is a graph, which runs later and elsewhere.
SYMBOLIC = ("pytensor", "onnx")
# Exact arithmetic to measure the others by: selected like them, but no framework, so not listed as one.
REFERENCE = "mpmath"
_MODULES = {name: f"lossbackend.backends.{name}_backend" for name in (*BUILT_IN, *SYMBOLIC, REFERENCE)}
# The packages that do not have the name of their backend.
_PACKAGES = {"onnx": "ndonnx"}
_SPELLINGS = {"np": "numpy", "pytorch": "torch", "tf": "tensorflow", "tensorflow-cpu": "tensorflow", "ndonnx": "onnx"}

# Values of these types name no framework; asking for the exact type first is cheaper than any isinstance.
NEUTRAL = frozenset({np.ndarray, float, int, bool, list, tuple, str, type(None)})

# A process-wide flag, not read from the environment at each call: a compiler follows a call that holds a tensor, and fixes the flag at trace.
STRICT = os.environ.get("LOSSBACKEND_STRICT", "").lower() not in ("", "0", "false")

_loaded: dict[str, Ops] = {}
_third_party: tuple[Ops, ...] = ()
_process_wide: str | None = None
_block: ContextVar[str | None] = ContextVar("lossbackend_use_backend", default=None)


def _built_in(name: str) -> Ops:
    # Import statements, because a compiler follows them, and not importlib.
    if name == "numpy":
        from lossbackend.backends import numpy_backend as module
    elif name == "torch":
        from lossbackend.backends import torch_backend as module
    elif name == "jax":
        from lossbackend.backends import jax_backend as module
    elif name == "tensorflow":
        from lossbackend.backends import tensorflow_backend as module
    elif name == "pytensor":
        from lossbackend.backends import pytensor_backend as module
    elif name == "onnx":
        from lossbackend.backends import onnx_backend as module
    else:
        from lossbackend.backends import mpmath_backend as module
    return cast(Ops, module.OPS)


def _entry_points() -> dict[str, Any]:
    """Third-party adapters, by name: the entry-point group ``lossbackend.backends``."""
    from importlib.metadata import entry_points

    found = {entry.name.lower(): entry for entry in entry_points(group="lossbackend.backends")}
    return {name: entry for name, entry in found.items() if name not in _MODULES}


@functools.cache
def _third_party_packages() -> frozenset[str]:
    """The packages whose tensors may come in before anybody has named their backend: each has its backend's name."""
    return frozenset(_entry_points())


def canonical(name: str) -> str:
    """The one spelling of a backend's name; ValueError with near matches for an unknown one."""
    if not isinstance(name, str):
        raise TypeError(f"a backend is named by a string, got {name!r}")
    wanted = name.strip().lower()
    wanted = _SPELLINGS.get(wanted, wanted)
    if wanted in _MODULES or wanted in _loaded:
        return wanted
    third_party = _entry_points()
    if wanted in third_party:
        return wanted
    known = [*BUILT_IN, *SYMBOLIC, *third_party]
    near = difflib.get_close_matches(wanted, [*known, *_SPELLINGS], n=1, cutoff=0.5)
    hint = f" Did you mean {_SPELLINGS.get(near[0], near[0])!r}?" if near else ""
    raise ValueError(f"unknown backend {name!r}.{hint} Known: {', '.join(known)}.")


def _load(name: str) -> Ops:
    """The adapter of that canonical name, imported on first use."""
    global _third_party
    try:
        if name in _MODULES:
            return _built_in(name)
        ops = _third_party_adapter(name, _entry_points()[name])
    except ImportError as error:
        extra = {REFERENCE: "parity"}.get(name, name) if name in _MODULES else None
        hint = "" if extra is None else f' Install it with: pip install "lossbackend[{extra}]"'
        raise ImportError(f"the backend {name!r} cannot be imported ({error}).{hint}") from error
    # Two threads may both come here: they load the same object, and one assignment publishes it, so there is no lock for a compiler to trip over.
    _loaded[name] = ops
    _third_party = tuple(_loaded.values())
    return ops


def _third_party_adapter(name: str, entry: Any) -> Ops:
    """What that entry point names; ImportError where it is no adapter of that name, or anything at all goes wrong while it is imported."""
    where = f"its entry point is {entry.value}" + (f" of {entry.dist.name} {entry.dist.version}" if entry.dist is not None else "")
    try:
        ops = entry.load()
    except (Exception, SystemExit) as error:
        raise ImportError(f"{where}: {type(error).__name__}: {error}") from error
    if isinstance(ops, type) or getattr(ops, "name", None) != name or not hasattr(ops, "is_tensor"):
        raise ImportError(f"{where}, which is {ops!r}: it has to be an adapter, an object whose name is {name!r}")
    return cast(Ops, ops)


def adapter(name: str) -> Ops:
    """The adapter of that canonical name."""
    # The interpreter remembers modules. A memory of our own would be filled while a compiler traces the first call, and fail it.
    module = sys.modules.get(_MODULES.get(name, ""))
    ops = _loaded.get(name) if module is None else getattr(module, "OPS", None)
    return _load(name) if ops is None else ops


def selected() -> tuple[str, str]:
    """The backend for input that names none, and what selected it."""
    block = _block.get()
    if block is not None:
        return block, "use_backend"
    return _selected_for_process()


def _selected_for_process() -> tuple[str, str]:
    if _process_wide is not None:
        return _process_wide, "set_backend"
    variable = os.environ.get("LOSSBACKEND", "")
    if variable:
        try:
            return canonical(variable), "the environment variable LOSSBACKEND"
        except ValueError as error:
            raise ValueError(f"the environment variable LOSSBACKEND: {error}") from None
    return "numpy", "the default"


def get_backend(name: str | None = None) -> Ops:
    """The adapter of that name, or the one for input that names no framework.

    Names are case-insensitive; "pytorch", "tf" and "np" are understood. Raises ValueError for an unknown name, ImportError with the pip command for
    a framework that is not installed.

    >>> get_backend("np").name
    'numpy'
    """
    return adapter(selected()[0] if name is None else canonical(name))


def set_backend(name: str | None) -> None:
    """Select the backend of the whole process for input that names no framework; None takes it back.

    >>> set_backend("numpy")
    >>> set_backend(None)
    """
    global _process_wide
    _process_wide = None if name is None else get_backend(name).name


@contextmanager
def use_backend(name: str) -> Iterator[Ops]:
    """Select the backend for input that names no framework, inside a ``with`` block of this thread or task.

    >>> with use_backend("numpy") as backend:
    ...     backend.name
    'numpy'
    """
    ops = get_backend(name)
    token = _block.set(ops.name)
    try:
        yield ops
    finally:
        _block.reset(token)


def available_backends() -> list[str]:
    """The names of the backends that can be imported here. Imports none of them.

    >>> "numpy" in available_backends()
    True
    """
    return [*(name for name in (*BUILT_IN, *SYMBOLIC) if importlib.util.find_spec(package(name)) is not None), *_entry_points()]


def package(name: str) -> str:
    """The package that the backend of that canonical name is made for."""
    return _PACKAGES.get(name, name)


def framework(value: Any) -> str | None:
    """The name of the framework whose tensor this is; None for NumPy, numbers and lists.

    A framework that was never imported has no tensors, so only imported ones are asked, and by ``isinstance``: that recognises tracers, Parameters
    and subclasses.
    """
    if type(value) in NEUTRAL:
        return None
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, getattr(torch, "Tensor", ())):
        return "torch"
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(value, getattr(jax, "Array", ())):
        return "jax"
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and isinstance(value, (getattr(tensorflow, "Tensor", ()), getattr(tensorflow, "Variable", ()))):
        return "tensorflow"
    pytensor = sys.modules.get("pytensor.tensor.variable")
    if pytensor is not None and isinstance(value, getattr(pytensor, "TensorVariable", ())):
        # Sparse matrices are variables too, and no tensors: the adapter knows.
        return "pytensor" if adapter("pytensor").is_tensor(value) else None
    ndonnx = sys.modules.get("ndonnx")
    if ndonnx is not None and isinstance(value, getattr(ndonnx, "Array", ())):
        return "onnx"
    for ops in _third_party:
        if ops.is_tensor(value):
            return ops.name
    return None if compiling() else _third_party_of(value)


def _third_party_of(value: Any) -> str | None:
    """The framework of a value, likewise, if its adapter has not been loaded yet: NumPy would take the tensor for an array, and lose its gradient."""
    name = type(value).__module__.partition(".")[0]
    if name not in _third_party_packages() or name in _loaded:
        return None
    return name if adapter(name).is_tensor(value) else None


def compiling() -> bool:
    """Whether a compiler follows the Python code of this call, as ``torch.compile`` does."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.compiler.is_compiling())


def resolve(loss: str, arguments: Mapping[str, Any], pinned: str | None = None) -> tuple[Ops, Any]:
    """The adapter for a call of ``loss`` with these arguments, and the first framework tensor among them (None where there is none)."""
    found = tensor = None
    for value in arguments.values():
        if value is None or type(value) is type(tensor):
            continue
        name = framework(value)
        if name is not None and name != found:
            if found is not None:
                raise TypeError(_mixed(loss, arguments))
            found, tensor = name, value
    if found is None:
        return adapter(selected()[0] if pinned is None else pinned), None
    if pinned is not None and found != pinned:
        namespace = f"{found}." if found in (*BUILT_IN, *SYMBOLIC) else ""
        takes = "NumPy arrays" if pinned == "numpy" else f"{pinned} tensors and NumPy arrays"
        raise TypeError(f"{loss}: lossbackend.{pinned} takes {takes}, got a {found} tensor. Use lossbackend.{namespace}{loss}.")
    if STRICT and pinned is None:
        _check_strict(loss, found)
    return adapter(found), tensor


def _mixed(loss: str, arguments: Mapping[str, Any]) -> str:
    named = [f"{argument} is a {name} tensor" for argument, name in ((a, framework(v)) for a, v in arguments.items()) if name is not None]
    return f"{loss}: tensors of two frameworks in one call ({', '.join(named)}). Convert one of them first, for example with numpy.asarray."


def _check_strict(loss: str, found: str) -> None:
    name, reason = _selected_for_process() if compiling() else selected()
    if name != found:
        raise TypeError(f"{loss}: LOSSBACKEND_STRICT is set and the backend is {name} ({reason}), got a {found} tensor.")
