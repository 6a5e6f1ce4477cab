"""The losses for NumPy code: every name of ``lossbackend.losses``, pinned to NumPy.

NumPy arrays, numbers and lists become NumPy arrays; a tensor of another framework is a TypeError.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossbackend.losses import *  # noqa: F403
else:
    from lossbackend.registry import pinned

    globals().update(pinned("numpy"))
