"""The losses for PyTorch code: every name of ``lossbackend.losses``, pinned to PyTorch.

NumPy arrays, numbers and lists become PyTorch tensors; a tensor of another framework is a TypeError.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossbackend.losses import *  # noqa: F403
else:
    from lossbackend.registry import pinned

    globals().update(pinned("torch"))
