"""Every loss of the Keras pages, written once, on NumPy, PyTorch, JAX and TensorFlow.

>>> import numpy as np
>>> import lossbackend as lb
>>> lb.mse(np.array([[0.0, 1.0]]), np.array([[1.0, 3.0]]))
array([2.5])
"""

from typing import TYPE_CHECKING, Any

from lossbackend import losses, objectives, utils
from lossbackend.checking import checked
from lossbackend.definition import LossFunction, loss
from lossbackend.dispatch import available_backends, get_backend, set_backend, use_backend
from lossbackend.options import epsilon, set_epsilon
from lossbackend.transforms import jit, value_and_grad
from lossbackend.utils import to_categorical

if TYPE_CHECKING:
    from lossbackend.losses import *  # noqa: F403
else:
    # The functions, which are there already; __getattr__ imports the classes when one is first used.
    globals().update({name: value for name, value in vars(losses).items() if name in losses.__all__})

    def __getattr__(name: str) -> Any:
        if name in losses.__all__:
            return getattr(losses, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__version__ = "0.1.0"

__all__ = [
    "LossFunction",
    "available_backends",
    "checked",
    "epsilon",
    "get_backend",
    "jit",
    "loss",
    "losses",
    "objectives",
    "set_backend",
    "set_epsilon",
    "to_categorical",
    "use_backend",
    "utils",
    "value_and_grad",
]
__all__ += losses.__all__


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
