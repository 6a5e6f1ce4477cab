"""The losses for PyTorch code: every name of ``lossbackend.losses``, and ``to_categorical``, pinned to PyTorch.

NumPy arrays, numbers and lists become PyTorch tensors; a tensor of another framework is a TypeError. ``lossbackend.torch.nn`` has the losses as
criteria, and ``hf_loss`` makes what the Trainer of Hugging Face takes.
"""

from typing import TYPE_CHECKING

from lossbackend.torch import nn as nn
from lossbackend.torch.trainer import hf_loss as hf_loss

if TYPE_CHECKING:
    from lossbackend.losses import *  # noqa: F403
    from lossbackend.utils import to_categorical as to_categorical
else:
    from lossbackend.registry import pinned

    globals().update(pinned("torch"))
    globals()["__all__"] += ["hf_loss"]
