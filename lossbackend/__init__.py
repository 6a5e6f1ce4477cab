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
from lossbackend.losses import (
    BCE,
    KLD,
    MAE,
    MAPE,
    MSE,
    MSLE,
    bce,
    binary_crossentropy,
    categorical_crossentropy,
    categorical_hinge,
    cce,
    cosine,
    cosine_proximity,
    cosine_similarity,
    deserialize,
    get,
    hinge,
    huber,
    huber_loss,
    is_categorical_crossentropy,
    kl_divergence,
    kld,
    kullback_leibler_divergence,
    log_cosh,
    logcosh,
    logloss,
    mae,
    mape,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    mse,
    msle,
    poisson,
    scce,
    serialize,
    sparse_categorical_crossentropy,
    squared_hinge,
)
from lossbackend.options import epsilon, set_epsilon
from lossbackend.transforms import jit, value_and_grad
from lossbackend.utils import to_categorical

if TYPE_CHECKING:
    from lossbackend.losses import (
        BinaryCrossentropy,
        CategoricalCrossentropy,
        CategoricalHinge,
        CosineSimilarity,
        Hinge,
        Huber,
        KLDivergence,
        LogCosh,
        Loss,
        MeanAbsoluteError,
        MeanAbsolutePercentageError,
        MeanSquaredError,
        MeanSquaredLogarithmicError,
        Poisson,
        SparseCategoricalCrossentropy,
        SquaredHinge,
    )

__version__ = "0.1.0"

__all__ = [
    "BCE",
    "KLD",
    "MAE",
    "MAPE",
    "MSE",
    "MSLE",
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "LossFunction",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "available_backends",
    "bce",
    "binary_crossentropy",
    "categorical_crossentropy",
    "categorical_hinge",
    "cce",
    "checked",
    "cosine",
    "cosine_proximity",
    "cosine_similarity",
    "deserialize",
    "epsilon",
    "get",
    "get_backend",
    "hinge",
    "huber",
    "huber_loss",
    "is_categorical_crossentropy",
    "jit",
    "kl_divergence",
    "kld",
    "kullback_leibler_divergence",
    "log_cosh",
    "logcosh",
    "logloss",
    "loss",
    "losses",
    "mae",
    "mape",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "mse",
    "msle",
    "objectives",
    "poisson",
    "scce",
    "serialize",
    "set_backend",
    "set_epsilon",
    "sparse_categorical_crossentropy",
    "squared_hinge",
    "to_categorical",
    "use_backend",
    "utils",
    "value_and_grad",
]


def __getattr__(name: str) -> Any:
    if name in losses.__all__:
        return getattr(losses, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
