"""Ordinary input for each loss, the same bits on every backend."""

import numpy as np
import reference

CLASSES = {
    "mean_squared_error": "MeanSquaredError",
    "mean_absolute_error": "MeanAbsoluteError",
    "mean_absolute_percentage_error": "MeanAbsolutePercentageError",
    "mean_squared_logarithmic_error": "MeanSquaredLogarithmicError",
    "squared_hinge": "SquaredHinge",
    "hinge": "Hinge",
    "categorical_hinge": "CategoricalHinge",
    "log_cosh": "LogCosh",
    "huber": "Huber",
    "categorical_crossentropy": "CategoricalCrossentropy",
    "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
    "binary_crossentropy": "BinaryCrossentropy",
    "kl_divergence": "KLDivergence",
    "poisson": "Poisson",
    "cosine_similarity": "CosineSimilarity",
}
EVERY_LOSS = sorted(CLASSES)
DENSE = [name for name in EVERY_LOSS if name != "sparse_categorical_crossentropy"]
ONE_HOT = ("categorical_crossentropy", "categorical_hinge")
CLASS_AXIS = (*ONE_HOT, "sparse_categorical_crossentropy")
REAL = ("mean_squared_error", "mean_absolute_error", "log_cosh", "huber", "cosine_similarity")


def sample(name, shape=(4, 3), dtype="float32", seed=0):
    """y_true and y_pred for the loss of that name; probabilities where it wants them, which are logits too."""
    random = np.random.default_rng(seed)
    probabilities = random.uniform(0.05, 0.95, shape)
    if name in CLASS_AXIS:
        probabilities /= probabilities.sum(axis=-1, keepdims=True)
        y_true = random.integers(0, shape[-1], shape[:-1]).astype("int32")
        if name in ONE_HOT:
            y_true = np.eye(shape[-1], dtype=dtype)[y_true]
        return y_true, probabilities.astype(dtype)
    if name in REAL:
        return random.normal(size=shape).astype(dtype), random.normal(size=shape).astype(dtype)
    if name in ("hinge", "squared_hinge"):
        return random.choice([-1.0, 1.0], shape).astype(dtype), random.normal(size=shape).astype(dtype)
    return random.uniform(0.05, 0.95, shape).astype(dtype), probabilities.astype(dtype)


def expected(name, y_true, y_pred, **options):
    """The exact losses of a batch along its last axis, as float64, and their rounding scales."""
    labels = np.asarray(y_true).reshape(-1).tolist() if name == "sparse_categorical_crossentropy" else _rows(y_true)
    pairs = [reference.value(name, y, p, **options) for y, p in zip(labels, _rows(y_pred), strict=True)]
    values, scales = np.array([[float(value), float(scale)] for value, scale in pairs]).reshape(-1, 2).T
    return values.reshape(y_pred.shape[:-1]), scales.reshape(y_pred.shape[:-1])


def expected_gradient(name, y_true, y_pred, **options):
    """The exact gradient of the sum over the batch, as float64."""
    labels = np.asarray(y_true).reshape(-1).tolist() if name == "sparse_categorical_crossentropy" else _rows(y_true)
    slopes = [reference.gradient(name, y, p, **options) for y, p in zip(labels, _rows(y_pred), strict=True)]
    return np.array(slopes, "float64").reshape(y_pred.shape)


def _rows(array):
    array = np.asarray(array, "float64")
    return array.reshape(-1, array.shape[-1]).tolist()
