"""Every loss of the Keras pages: the drop-in for ``from keras import losses``.

Losses are grouped by what they compare: regression.py, margin.py, probabilistic.py. The classes are in objects.py, and are imported when first used.
"""

from typing import TYPE_CHECKING, Any

from lossbackend.losses.margin import categorical_hinge, hinge, squared_hinge
from lossbackend.losses.probabilistic import (
    binary_crossentropy,
    categorical_crossentropy,
    kl_divergence,
    poisson,
    sparse_categorical_crossentropy,
)
from lossbackend.losses.regression import (
    cosine_similarity,
    huber,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
)
from lossbackend.registry import deserialize, get, is_categorical_crossentropy, serialize

if TYPE_CHECKING:
    from lossbackend.losses.objects import (
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

# The historical names, for editors; @loss(aliases=...) holds the same ones, for the registry, and a test compares them.
mse = MSE = mean_squared_error
mae = MAE = mean_absolute_error
mape = MAPE = mean_absolute_percentage_error
msle = MSLE = mean_squared_logarithmic_error
logcosh = log_cosh
huber_loss = huber
cosine_proximity = cosine = cosine_similarity
cce = categorical_crossentropy
scce = sparse_categorical_crossentropy
bce = BCE = logloss = binary_crossentropy
kullback_leibler_divergence = kld = KLD = kl_divergence

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
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "bce",
    "binary_crossentropy",
    "categorical_crossentropy",
    "categorical_hinge",
    "cce",
    "cosine",
    "cosine_proximity",
    "cosine_similarity",
    "deserialize",
    "get",
    "hinge",
    "huber",
    "huber_loss",
    "is_categorical_crossentropy",
    "kl_divergence",
    "kld",
    "kullback_leibler_divergence",
    "log_cosh",
    "logcosh",
    "logloss",
    "mae",
    "mape",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "mse",
    "msle",
    "poisson",
    "scce",
    "serialize",
    "sparse_categorical_crossentropy",
    "squared_hinge",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        # Fifteen dataclasses take 13 ms to make, almost all of what `import lossbackend` may cost.
        if name in __all__:
            from lossbackend.losses import objects

            return getattr(objects, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
