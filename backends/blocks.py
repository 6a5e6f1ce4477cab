"""Blocks of samples: what a definition makes of one fits the cache, and its temporaries stay small whatever the number of samples."""

import itertools
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

_pool: ThreadPoolExecutor | None = None
_making = threading.Lock()
_here = threading.local()


def rows_of(shape: tuple[int, ...], elements: int) -> int:
    """How many samples, along the first axis of that shape, hold about that many numbers."""
    return max(1, elements // max(math.prod(shape[1:]), 1))


def threads() -> int:
    """``LOSSBACKEND_NUM_THREADS``, else the processors that this process may use."""
    wanted = os.environ.get("LOSSBACKEND_NUM_THREADS", "")
    if not wanted:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not wanted.isdecimal() or int(wanted) < 1:
        raise ValueError(f"the environment variable LOSSBACKEND_NUM_THREADS must be a number of threads, got {wanted!r}")
    return int(wanted)


def for_each(work: Callable[[int], None], blocks: int) -> None:
    """work(0), …, work(blocks − 1), on this thread and helpers, each in a copy of this one's context, NumPy's errstate included."""
    remaining = itertools.count()

    def take() -> None:
        # Whoever is done takes the next block: counting is atomic.
        outer = getattr(_here, "busy", False)
        _here.busy = True
        try:
            for block in remaining:
                if block >= blocks:
                    return
                work(block)
        finally:
            _here.busy = outer

    # A definition that calls a loss is inside a block already: it must not wait for helpers that may all wait for theirs.
    helpers = 0 if getattr(_here, "busy", False) else min(threads(), blocks) - 1
    started = [_helpers().submit(copy_context().run, take) for _ in range(helpers)]
    try:
        take()
    finally:
        for helper in started:
            # Nothing is left for a helper that has not woken up yet.
            if not helper.cancel():
                helper.result()


def _helpers() -> ThreadPoolExecutor:
    global _pool
    with _making:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(threads() - 1, 1), thread_name_prefix="lossbackend")
        return _pool


def _forget() -> None:
    """A forked process has the pool, but none of its threads."""
    global _pool, _making
    _pool, _making = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
