"""A function over many parts on the workers of dask: what ``lossbackend evaluate --dask`` computes with."""

import functools
import logging
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
from dask.distributed import Client

from lossbackend.files import error_text

# A scheduler that is there answers at once; dask itself waits for half a minute.
_TIMEOUT = 10
_LOOPBACK = "127.0.0.1:0"
_LOCAL = {"dashboard_address": _LOOPBACK, "worker_dashboard_address": _LOOPBACK, "memory_limit": 0, "silence_logs": logging.CRITICAL}
_CLUSTERS = {"threads": {"processes": False, **_LOCAL}, "processes": {"processes": True, **_LOCAL}}


@contextmanager
def workers(scheduler: str) -> Iterator[Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]]:
    """What is like ``map``, but calls the function on workers: "threads" or "processes" of this machine, or those of the scheduler at an address.

    Results come in the order of the items, of which only a few for every worker are under way at a time. What is under way when the block is left is
    given up. ValueError for a scheduler that does not answer.
    """
    disabled = logging.root.manager.disable
    # What goes wrong is an exception here, and the logs say it again with a traceback.
    logging.disable(logging.CRITICAL)
    client = None
    try:
        with _undisturbed():
            client = _connected(scheduler, _CLUSTERS.get(scheduler, {"address": scheduler}))
        yield functools.partial(_mapped, client)
    finally:
        with _undisturbed():
            if client is not None:
                client.close()
            logging.disable(disabled)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """An interrupt inside the block is one at its end: a cluster that is left half-way takes half a minute to go, and says so at length.

    Processes that begin inside never hear of it, where a terminal interrupts each of them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts: list[int] = []
    # It lets signals through where it begins, which would be among the workers.
    resource_tracker.ensure_running()
    handler = signal.signal(signal.SIGINT, lambda number, frame: interrupts.append(number))
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGINT, handler)
    if interrupts:
        raise KeyboardInterrupt


def _connected(scheduler: str, options: dict[str, Any]) -> Any:
    try:
        client = Client(**options, timeout=_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"--dask: no scheduler of dask answers at {scheduler}: {error_text(error)}") from error
    if not client.nthreads():
        print(f"the scheduler at {scheduler} has no workers yet: waiting for one", file=sys.stderr)
    return client


def _mapped(client: Any, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    pickled, waiting = _by_value(function), deque[Any]()
    try:
        for item in items:
            waiting.append(client.submit(evaluate_part, pickled, item, pure=False))
            # Asked for each time, because workers come and go.
            if len(waiting) >= max(16, 4 * sum(client.nthreads().values())):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except (ValueError, TypeError, ImportError):
        raise
    except Exception as error:  # dask has one of its own for each way to lose a task
        raise ValueError(f"--dask: {error_text(error)}") from error


def _by_value(function: Callable[[Any], Any]) -> bytes:
    """Pickled, with the modules of the working directory, which no worker can import."""
    modules = [module for module in list(sys.modules.values()) if _is_of_here(module)]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(function))
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _is_of_here(module: ModuleType) -> bool:
    name, file = str(getattr(module, "__name__", "")), getattr(module, "__file__", None)
    path = os.path.join(os.getcwd(), *name.split("."))
    return file is not None and not name.startswith("lossbackend") and path in (str(Path(file).with_suffix("")), os.path.dirname(file))


# On a worker


def evaluate_part(pickled: bytes, item: Any) -> Any:
    """The function's result; dask shows this name."""
    return _loaded(pickled)(item)


@functools.lru_cache(maxsize=1)
def _loaded(pickled: bytes) -> Callable[[Any], Any]:
    # Once for all parts: JAX compiles a function anew that was unpickled anew.
    return cloudpickle.loads(pickled)  # type: ignore[no-any-return]
