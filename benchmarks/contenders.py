"""Who computes what: the cases, their input, and each library's function for them.

A function takes (y_true, y_pred) and returns one value per sample. It stands here only where its mathematics is that of the loss, on input like
``Case.inputs`` makes (away from the edges that every library treats in its own way); ``measure.py`` compares the values before it takes any time.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Function = Callable[[Any, Any], Any]


def reals(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array]:
    return rng.standard_normal(shape, np.float32), rng.standard_normal(shape, np.float32)


def amounts(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array]:
    return rng.random(shape, np.float32) + np.float32(0.05), rng.random(shape, np.float32) + np.float32(0.05)


def signs(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array]:
    return np.where(rng.random(shape, np.float32) < 0.5, np.float32(-1), np.float32(1)), rng.standard_normal(shape, np.float32)


def bits_and_logits(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array]:
    return (rng.random(shape, np.float32) < 0.5).astype(np.float32), rng.standard_normal(shape, np.float32)


def bits_and_probabilities(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array]:
    bits, logits = bits_and_logits(rng, shape)
    return bits, 1 / (1 + np.exp(-logits))


def distributions(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array]:
    return softmax(rng.standard_normal(shape, np.float32)), softmax(rng.standard_normal(shape, np.float32))


def ids_and_logits(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array]:
    return rng.integers(0, shape[1], shape[0]), rng.standard_normal(shape, np.float32)


def ids_and_probabilities(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array]:
    ids, logits = ids_and_logits(rng, shape)
    return ids, softmax(logits)


def one_hot_and_logits(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array]:
    ids, logits = ids_and_logits(rng, shape)
    one_hot = np.zeros(shape, np.float32)
    np.put_along_axis(one_hot, ids[:, None], np.float32(1), axis=-1)
    return one_hot, logits


def one_hot_and_probabilities(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array]:
    one_hot, logits = one_hot_and_logits(rng, shape)
    return one_hot, softmax(logits)


def softmax(logits: Array) -> Array:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def log_sum_exp(logits: Array) -> Array:
    top = logits.max(axis=-1, keepdims=True)
    return top[..., 0] + np.log(np.exp(logits - top).sum(axis=-1))


def of_class(values: Array, ids: Array) -> Array:
    return np.take_along_axis(values, ids[:, None], axis=-1)[..., 0]


def textbook_huber(y: Array, p: Array) -> Array:
    error = np.abs(p - y)
    return np.where(error <= 1, np.float32(0.5) * np.square(error), error - np.float32(0.5)).mean(axis=-1)


def textbook_cosine(y: Array, p: Array) -> Array:
    return -(y * p).sum(axis=-1) / (np.linalg.norm(y, axis=-1) * np.linalg.norm(p, axis=-1))


@dataclass(frozen=True)
class Case:
    """A loss with options: its name in lossbackend and in Keras, its input, and NumPy's whole-array expression."""

    function: str
    inputs: Callable[[np.random.Generator, tuple[int, int]], tuple[Array, Array]]
    textbook: Function
    options: dict[str, Any] = field(default_factory=dict)


LOGITS = {"from_logits": True}

CASES = {
    "mse": Case("mean_squared_error", reals, lambda y, p: np.square(p - y).mean(axis=-1)),
    "mae": Case("mean_absolute_error", reals, lambda y, p: np.abs(p - y).mean(axis=-1)),
    "mape": Case("mean_absolute_percentage_error", amounts, lambda y, p: 100 * np.abs((p - y) / np.maximum(np.abs(y), 1e-7)).mean(axis=-1)),
    "msle": Case(
        "mean_squared_logarithmic_error",
        amounts,
        lambda y, p: np.square(np.log1p(np.maximum(p, 1e-7)) - np.log1p(np.maximum(y, 1e-7))).mean(axis=-1),
    ),
    "log_cosh": Case("log_cosh", reals, lambda y, p: (np.logaddexp(p - y, y - p) - np.float32(np.log(2))).mean(axis=-1)),
    "huber": Case("huber", reals, textbook_huber),
    "cosine": Case("cosine_similarity", reals, textbook_cosine),
    "hinge": Case("hinge", signs, lambda y, p: np.maximum(1 - y * p, 0).mean(axis=-1)),
    "squared_hinge": Case("squared_hinge", signs, lambda y, p: np.square(np.maximum(1 - y * p, 0)).mean(axis=-1)),
    "categorical_hinge": Case(
        "categorical_hinge", one_hot_and_logits, lambda y, p: np.maximum(1 + ((1 - y) * p).max(axis=-1) - (y * p).sum(axis=-1), 0)
    ),
    "kld": Case("kl_divergence", distributions, lambda y, p: (y * np.log(y / p)).sum(axis=-1)),
    "poisson": Case("poisson", amounts, lambda y, p: (p - y * np.log(p + np.float32(1e-7))).mean(axis=-1)),
    "bce": Case("binary_crossentropy", bits_and_probabilities, lambda y, p: -(y * np.log(p) + (1 - y) * np.log1p(-p)).mean(axis=-1)),
    "bce_logits": Case(
        "binary_crossentropy",
        bits_and_logits,
        lambda y, z: (np.maximum(z, 0) - y * z + np.log1p(np.exp(-np.abs(z)))).mean(axis=-1),
        LOGITS,
    ),
    "cce": Case("categorical_crossentropy", one_hot_and_probabilities, lambda y, p: -(y * np.log(p / p.sum(axis=-1, keepdims=True))).sum(axis=-1)),
    "cce_logits": Case("categorical_crossentropy", one_hot_and_logits, lambda y, z: (y * (log_sum_exp(z)[:, None] - z)).sum(axis=-1), LOGITS),
    "scce": Case("sparse_categorical_crossentropy", ids_and_probabilities, lambda y, p: np.log(p.sum(axis=-1)) - np.log(of_class(p, y))),
    "scce_logits": Case("sparse_categorical_crossentropy", ids_and_logits, lambda y, z: log_sum_exp(z) - of_class(z, y), LOGITS),
}


def lossbackend_function(case: Case, *transforms: Callable[[Any], Any]) -> Function:
    """lossbackend's loss, through ``value_and_grad`` and ``jit`` if these are given."""
    function = getattr(importlib.import_module("lossbackend"), case.function)
    for transform in transforms:
        function = transform(function)
    return lambda y, p: function(y, p, **case.options)


def keras_function(case: Case) -> Function:
    """Keras' loss of the same name, by the backend that the environment variable KERAS_BACKEND names."""
    function = getattr(importlib.import_module("keras").losses, case.function)
    return lambda y, p: function(y, p, **case.options)


def torch_functions() -> dict[str, Function]:
    """torch.nn.functional."""
    import torch.nn.functional as F

    return {
        "mse": lambda y, p: F.mse_loss(p, y, reduction="none").mean(-1),
        "mae": lambda y, p: F.l1_loss(p, y, reduction="none").mean(-1),
        "huber": lambda y, p: F.huber_loss(p, y, reduction="none").mean(-1),
        "cosine": lambda y, p: -F.cosine_similarity(p, y, dim=-1),
        "kld": lambda y, p: F.kl_div(p.log(), y, reduction="none").sum(-1),
        "poisson": lambda y, p: F.poisson_nll_loss(p, y, log_input=False, eps=1e-7, reduction="none").mean(-1),
        "bce": lambda y, p: F.binary_cross_entropy(p, y, reduction="none").mean(-1),
        "bce_logits": lambda y, z: F.binary_cross_entropy_with_logits(z, y, reduction="none").mean(-1),
        "cce_logits": lambda y, z: F.cross_entropy(z, y, reduction="none"),
        "scce_logits": lambda y, z: F.cross_entropy(z, y, reduction="none"),
    }


def optax_functions() -> dict[str, Function]:
    """optax.losses."""
    import jax.numpy as jnp
    from optax import losses

    return {
        "mse": lambda y, p: losses.squared_error(p, y).mean(-1),
        "log_cosh": lambda y, p: losses.log_cosh(p, y).mean(-1),
        "huber": lambda y, p: losses.huber_loss(p, y).mean(-1),
        "cosine": lambda y, p: -losses.cosine_similarity(p, y),
        "hinge": lambda y, p: losses.hinge_loss(p, y).mean(-1),
        "kld": lambda y, p: losses.kl_divergence(jnp.log(p), y),
        "bce_logits": lambda y, z: losses.sigmoid_binary_cross_entropy(z, y).mean(-1),
        "cce_logits": lambda y, z: losses.softmax_cross_entropy(z, y),
        "scce_logits": lambda y, z: losses.softmax_cross_entropy_with_integer_labels(z, y),
    }


def tensorflow_functions() -> dict[str, Function]:
    """tf.nn, and tf.math where one function of it is most of the loss."""
    import tensorflow as tf

    return {
        "mse": lambda y, p: tf.reduce_mean(tf.math.squared_difference(p, y), axis=-1),
        "cosine": lambda y, p: -tf.reduce_sum(tf.nn.l2_normalize(y, axis=-1) * tf.nn.l2_normalize(p, axis=-1), axis=-1),
        "bce_logits": lambda y, z: tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=z), axis=-1),
        "cce_logits": lambda y, z: tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=z),
        "scce_logits": lambda y, z: tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z),
    }


OWN_FUNCTIONS: dict[str, Callable[[], dict[str, Function]]] = {
    "numpy": lambda: {name: case.textbook for name, case in CASES.items()},
    "torch": torch_functions,
    "jax": optax_functions,
    "tensorflow": tensorflow_functions,
}
