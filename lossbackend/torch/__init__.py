"""The losses for PyTorch code: every name of ``lossbackend.losses``, and ``to_categorical``, pinned to PyTorch.

NumPy arrays, numbers and lists become PyTorch tensors; a tensor of another framework is a TypeError. ``lossbackend.torch.nn`` has the losses as
criteria, and ``hf_loss`` makes what the Trainer of Hugging Face takes.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossbackend.losses import *  # noqa: F403
    from lossbackend.torch import nn as nn
    from lossbackend.torch.trainer import hf_loss as hf_loss
    from lossbackend.utils import to_categorical as to_categorical
else:
    from lossbackend.registry import pinned

    # First, because it says how to install a PyTorch that is missing.
    globals().update(pinned("torch"))
    from lossbackend.torch import nn as nn
    from lossbackend.torch.trainer import hf_loss as hf_loss

    globals()["__all__"] += ["hf_loss"]
