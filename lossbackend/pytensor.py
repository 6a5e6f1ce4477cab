"""The losses for PyTensor code: every name of ``lossbackend.losses``, and ``to_categorical``, pinned to PyTensor.

NumPy arrays, numbers and lists become PyTensor constants; a tensor of another framework is a TypeError.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossbackend.losses import *  # noqa: F403
    from lossbackend.utils import to_categorical as to_categorical
else:
    from lossbackend.registry import pinned

    globals().update(pinned("pytensor"))
