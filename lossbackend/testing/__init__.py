"""Tools for tests: ``assert_parity`` compares backends, ``check_backend`` holds an adapter against the Ops contract, ``strategies`` makes input.

``strategies`` needs Hypothesis, and is imported when it is asked for.
"""

import importlib
from typing import Any

from lossbackend.testing.comparing import Backend, assert_parity
from lossbackend.testing.contract import check_backend

__all__ = ["Backend", "assert_parity", "check_backend", "strategies"]


def __getattr__(name: str) -> Any:
    if name == "strategies":
        # An import statement would ask this function for the name again.
        return importlib.import_module("lossbackend.testing.strategies")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
