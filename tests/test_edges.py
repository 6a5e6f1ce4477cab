"""Every number, NaN, infinity, gradient and error that the definition of a loss names, on every backend."""

import contextlib
import inspect
import math

import numpy as np
import pytest
from conftest import chosen_backends, load
from samples import CLASS_AXIS, CLASSES, DENSE, EVERY_LOSS, ONE_HOT, expected, expected_gradient, sample

import lossbackend as lb

INF, NAN, EPS = math.inf, math.nan, 1e-7
SATURATED = -math.log(EPS)  # 16.118
LOG2 = math.log(2.0)
FLOATS = pytest.mark.parametrize("dtype", ["float32", "float64"])
HALVES = pytest.mark.parametrize("dtype", ["float16", "bfloat16"])


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def softplus(z):
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def square(x):
    return x * x


def log_cosh(e):
    """The logarithm of cosh, by its series where the formula cancels."""
    return e * e / 2 - e**4 / 12 + e**6 / 45 if abs(e) < 1e-2 else math.log(math.cosh(e))


# One row per sample: y_true, y_pred, loss, gradient; None where no gradient is promised (the loss is infinite or NaN). An error of NaN has a gradient
# of NaN, because a plausible one would train on without a word.
ELEMENTWISE = {
    "bce-probabilities": (
        "binary_crossentropy",
        {},
        [
            (1, 0, SATURATED, 0),
            (0, 0, 0, 1),
            (1, 1, 0, -1),
            (0, 1, SATURATED, 0),
            (1, NAN, NAN, NAN),
            (0, NAN, NAN, NAN),
            (NAN, 0.5, NAN, NAN),
            # outside [0, 1] as clipped
            (1, -0.5, SATURATED, 0),
            (0, -0.5, 0, 0),
            (1, 1.5, 0, 0),
            (0, 1.5, SATURATED, 0),
            (1, INF, 0, 0),
            (0, INF, SATURATED, 0),
            (1, -INF, SATURATED, 0),
            (0, -INF, 0, 0),
            # the bounds of the clip belong to it
            (1, EPS, SATURATED, -1 / EPS),
            (0, 1 - 2**-20, 20 * LOG2, 2**20),
            (0, 1 - 2**-23, 23 * LOG2, 2**23),
            (0, 1 - 2**-24, SATURATED, 0),
            # log(1 - p) is no longer accurate here, log1p(-p) is
            (0, 2**-40, -math.log1p(-(2**-40)), 1 / (1 - 2**-40)),
            (0, 1e-30, 1e-30, 1),
            (1, 0.5, LOG2, -2),
            (0, 0.5, LOG2, 2),
            (0.5, 0, SATURATED / 2, 0.5),
            (0.5, 1, SATURATED / 2, -0.5),
            (0.25, 0.5, LOG2, 1),
        ],
    ),
    "bce-probabilities-epsilon": (
        "binary_crossentropy",
        {"epsilon": 1e-3},
        [
            (1, 0, -math.log(1e-3), 0),
            (0, 1, -math.log(1e-3), 0),
            (1, 1e-4, -math.log(1e-3), 0),
            (0, 0.9999, -math.log(1e-3), 0),
            (0, 1e-4, -math.log1p(-1e-4), 1 / (1 - 1e-4)),
            (1, 1, 0, -1),
        ],
    ),
    "bce-logits": (
        "binary_crossentropy",
        {"from_logits": True},
        [
            (1, INF, 0, 0),
            (0, INF, INF, 1),
            (0, -INF, 0, 0),
            (1, -INF, INF, -1),
            (0.5, INF, INF, 0.5),
            (0.5, -INF, INF, -0.5),
            (1, NAN, NAN, NAN),
            (0, NAN, NAN, NAN),
            (NAN, 0.0, NAN, NAN),
            (0, 0, LOG2, 0.5),
            (1, 0, LOG2, -0.5),
            (0.25, 0, LOG2, 0.25),
            # nothing saturates
            (0, 40, softplus(40), 1),
            (1, -40, softplus(40), -1),
            (1, 40, softplus(-40), None),
            (0, -40, softplus(-40), sigmoid(-40)),
            (0, -14, softplus(-14), sigmoid(-14)),
            (0, -25, softplus(-25), sigmoid(-25)),
            (0, 25, softplus(25), sigmoid(25)),
            (0, 1e4, 1e4, 1),
            (1, 1e4, 0, 0),
            (0, -1e4, 0, 0),
            (0, 1e38, 1e38, 1),
            (1, -1e38, 1e38, -1),
        ],
    ),
    "bce-logits-smoothing": (
        "binary_crossentropy",
        {"from_logits": True, "label_smoothing": 0.5},
        [(1, INF, INF, 0.25), (0, INF, INF, 0.75), (1, -INF, INF, -0.75), (1, 0, LOG2, -0.25), (0, 0, LOG2, 0.25)],
    ),
    "bce-logits-smoothing-1": (
        "binary_crossentropy",
        {"from_logits": True, "label_smoothing": 1},
        [(1, 0, LOG2, 0), (0, 0, LOG2, 0), (1, 40, 20, 0.5), (0, 40, 20, 0.5)],
    ),
    "bce-logits-pos-weight": (
        "binary_crossentropy",
        {"from_logits": True, "pos_weight": 3.0},
        [(1, 0, 3 * LOG2, -1.5), (0, 0, LOG2, 0.5), (1, INF, 0, 0), (0, INF, INF, 1), (1, -INF, INF, -3), (0, -INF, 0, 0)],
    ),
    "bce-probabilities-pos-weight": (
        "binary_crossentropy",
        {"pos_weight": 3.0},
        [(1, 0, 3 * SATURATED, 0), (0, 1, SATURATED, 0), (1, 0.5, 3 * LOG2, -6), (0, 0.5, LOG2, 2), (0.5, 0.5, 2 * LOG2, -2)],
    ),
    "kld": (
        "kl_divergence",
        {},
        [
            (1, 0, SATURATED, 0),
            (0.5, 0, 0.5 * (math.log(0.5) + SATURATED), 0),
            (0, 0, 0, 0),
            (0, 0.5, 0, 0),
            (-0.0, 0.5, 0, 0),
            (0.5, 1, 0.5 * math.log(0.5), -0.5),
            (1, 1, 0, -1),
            (0, NAN, NAN, NAN),
            (1, NAN, NAN, NAN),
            (NAN, 0.5, NAN, NAN),
            (-0.5, 0.5, NAN, None),
            # no clip at 1, neither of the label nor of the prediction
            (3, 5, 3 * math.log(0.6), -0.6),
            (1, -1, SATURATED, 0),
            (0, -1, 0, 0),
            (1, EPS, SATURATED, -1 / EPS),
            (0, INF, 0, 0),
            (0, -INF, 0, 0),
            (1, INF, -INF, None),
            (1, -INF, SATURATED, 0),
            (INF, 1, INF, None),
            (INF, INF, NAN, NAN),
            (INF, 0, INF, None),
        ],
    ),
    "kld-epsilon": ("kl_divergence", {"epsilon": 0.25}, [(1, 0, 2 * LOG2, 0), (1, 0.125, 2 * LOG2, 0), (1, 0.25, 2 * LOG2, -4)]),
    "poisson": (
        "poisson",
        {},
        [
            (1, 0, SATURATED, 1 - 1 / EPS),
            (2, 0, 2 * SATURATED, 1 - 2 / EPS),
            (0, 0, 0, 1),
            (1, 1, 1 - math.log(1 + EPS), None),
            (1, 2, 2 - math.log(2 + EPS), 1 - 1 / (2 + EPS)),
            (0, 2, 2, 1),
            (1, INF, INF, None),
            (0, INF, INF, None),
            (1, -INF, NAN, None),
            (0, -INF, NAN, None),
            (1, NAN, NAN, None),
            (0, NAN, NAN, None),
            (NAN, 1, NAN, None),
            (NAN, INF, NAN, None),
            # p - y log p with y infinite: the sign of log p decides, and nothing does where p is infinite too
            (INF, 2, -INF, None),
            (INF, 0.5, INF, None),
            (INF, INF, NAN, None),
            (1, -1, NAN, None),
            (0, -1, NAN, None),
            (1, -2e-7, NAN, None),
            (0, -2e-7, NAN, None),
            (0, -5e-8, -5e-8, 1),
            (0, -EPS, -EPS, None),
        ],
    ),
    "poisson-log-input": (
        "poisson",
        {"log_input": True},
        [
            (0, -INF, 0, 0),
            (1, -INF, INF, None),
            (0, INF, INF, None),
            (1, INF, INF, None),
            (1, 0, 1, 0),
            (0, 0, 1, 1),
            (2, 1, math.e - 2, math.e - 2),
            (0, -1e4, 0, 0),
            (3, -1e4, 3e4, -3),
            (INF, 1, -INF, None),
            (INF, -INF, INF, None),
            (INF, INF, NAN, None),
            (1, 1e4, INF, None),
            (1, NAN, NAN, None),
            (NAN, 0, NAN, None),
        ],
    ),
    "mse": (
        "mean_squared_error",
        {},
        [(0, 0, 0, 0), (1, 3, 4, 4), (0, -3, 9, -6), (1, INF, INF, None), (1, -INF, INF, None), (INF, 0, INF, None), (INF, INF, NAN, NAN)]
        + [(INF, -INF, INF, None), (-INF, -INF, NAN, NAN), (1, NAN, NAN, NAN), (NAN, 1, NAN, NAN)],
    ),
    "mae": (
        "mean_absolute_error",
        {},
        [(0, 0, 0, 0), (2, 2, 0, 0), (1, 3, 2, 1), (1, -1, 2, -1), (1, INF, INF, None), (1, -INF, INF, None), (INF, 0, INF, None)]
        + [(INF, INF, NAN, NAN), (INF, -INF, INF, None), (1, NAN, NAN, NAN), (NAN, 1, NAN, NAN)],
    ),
    "mape": (
        "mean_absolute_percentage_error",
        {},
        [(0, 0, 0, 0), (2, 2, 0, 0), (2, 3, 50, 50), (-2, -3, 50, -50), (-4, 0, 100, 25)]
        + [(INF, 1, 100, 0), (-INF, 1, 100, 0), (INF, 0, 100, 0), (INF, INF, NAN, NAN), (INF, -INF, NAN, None), (INF, NAN, NAN, NAN)]
        # y = 0 is divided by epsilon
        + [(0, 1, 100 / EPS, 100 / EPS), (0, -1, 100 / EPS, -100 / EPS), (1e-9, 1, 100 / EPS * (1 - 1e-9), 100 / EPS)]
        + [(1, INF, INF, None), (1, -INF, INF, None), (0, INF, INF, None), (1, NAN, NAN, NAN), (NAN, 1, NAN, NAN)],
    ),
    "mape-epsilon": ("mean_absolute_percentage_error", {"epsilon": 0.5}, [(0, 1, 200, 200), (0.25, 0.75, 100, 200), (2, 3, 50, 50)]),
    "msle": (
        "mean_squared_logarithmic_error",
        {},
        [
            (0, 0, 0, 0),
            (1, 0, square(math.log1p(EPS) - LOG2), 0),
            (1, -1, square(math.log1p(EPS) - LOG2), 0),
            (1, -INF, square(math.log1p(EPS) - LOG2), 0),
            (1, EPS, square(math.log1p(EPS) - LOG2), 2 * (math.log1p(EPS) - LOG2) / (1 + EPS)),
            (0, 1, square(LOG2 - math.log1p(EPS)), LOG2 - math.log1p(EPS)),
            (-1, 1, square(LOG2 - math.log1p(EPS)), LOG2 - math.log1p(EPS)),
            (3, 1, square(LOG2), -LOG2),
            (1, INF, INF, None),
            (INF, 1, INF, None),
            (INF, INF, NAN, NAN),
            (-INF, 1, square(LOG2 - math.log1p(EPS)), LOG2 - math.log1p(EPS)),
            (-INF, -INF, 0, 0),
            (1, NAN, NAN, NAN),
            (NAN, 1, NAN, NAN),
        ],
    ),
    "msle-epsilon": ("mean_squared_logarithmic_error", {"epsilon": 0.5}, [(1, 0, square(math.log(0.75)), 0), (1, 0.5, square(math.log(0.75)), None)]),
    "log_cosh": (
        "log_cosh",
        {},
        [
            (0, 0, 0, 0),
            (2, 2, 0, 0),
            (0, 2**-13, log_cosh(2**-13), math.tanh(2**-13)),
            (0, -(2**-13), log_cosh(2**-13), -math.tanh(2**-13)),
            (0, 1e-10, 5e-21, 1e-10),
            (0, 1e-17, 5e-35, 1e-17),
            (0, 0.5, log_cosh(0.5), math.tanh(0.5)),
            (0, -0.5, log_cosh(0.5), -math.tanh(0.5)),
            # either side of the change of formula
            (0, 1 - 2**-12, log_cosh(1 - 2**-12), math.tanh(1 - 2**-12)),
            (0, 1, log_cosh(1), math.tanh(1)),
            (0, 1 + 2**-12, log_cosh(1 + 2**-12), math.tanh(1 + 2**-12)),
            (0, 3, log_cosh(3), math.tanh(3)),
            (0, 100, 100 - LOG2, 1),
            (0, -1e4, 1e4 - LOG2, -1),
            (0, 1e38, 1e38, 1),
            (0, -3e38, 3e38, -1),
            (1, INF, INF, 1),
            (1, -INF, INF, -1),
            (INF, 1, INF, -1),
            (0, NAN, NAN, NAN),
            (NAN, 0, NAN, NAN),
            (INF, INF, NAN, NAN),
        ],
    ),
    "huber": (
        "huber",
        {},
        [(0, 0, 0, 0), (2, 2, 0, 0), (0, 0.5, 0.125, 0.5), (0, 1, 0.5, 1), (0, -1, 0.5, -1), (0, 2, 1.5, 1), (0, -3, 2.5, -1), (0, 1e38, 1e38, 1)]
        + [(1, INF, INF, 1), (1, -INF, INF, -1), (INF, 1, INF, -1), (0, NAN, NAN, NAN), (NAN, 0, NAN, NAN), (INF, INF, NAN, NAN)],
    ),
    "huber-delta": (
        "huber",
        {"delta": 0.25},
        [(0, 0.25, 1 / 32, 0.25), (0, 2, 0.25 * 1.875, 0.25), (0, -2, 0.25 * 1.875, -0.25), (0, INF, INF, 0.25), (0, -INF, INF, -0.25), (0, 0, 0, 0)],
    ),
    "hinge": (
        "hinge",
        {},
        [
            (1, 0, 1, -1),
            (-1, 0, 1, 1),
            (0, 0, 1, 1),
            (1, 1, 0, 0),
            (-1, -1, 0, 0),
            (0, -1, 0, 0),
            (1, 2, 0, 0),
            (1, 0.5, 0.5, -1),
            (1, INF, 0, 0),
            (-1, INF, INF, 1),
            (0, INF, INF, 1),
            (1, -INF, INF, -1),
            (-1, -INF, 0, 0),
            (0, -INF, 0, 0),
            (1, NAN, NAN, None),
            (-1, NAN, NAN, None),
            (NAN, 1, NAN, None),
            # "auto" changes 0 and nothing else, whatever else is in the batch
            (0.5, 1, 0.5, -0.5),
            (2, 0.25, 0.5, -2),
        ],
    ),
    "hinge-binary-batch": ("hinge", {}, [(0, 0.5, 1.5, 1), (1, 0.5, 0.5, -1)]),
    # a label of 0 is indifferent to every prediction, an infinite one too
    "hinge-pm1": (
        "hinge",
        {"labels": "pm1"},
        [(0, 3, 1, 0), (0, INF, 1, 0), (0, -INF, 1, 0), (0, NAN, NAN, None), (1, 0.5, 0.5, -1), (-1, 0.5, 1.5, 1), (2, 0.25, 0.5, -2)],
    ),
    "hinge-binary": (
        "hinge",
        {"labels": "binary"},
        [(0.5, INF, 1, 0), (1, INF, 0, 0), (0, INF, INF, 1), (0, -INF, 0, 0), (0, 0.5, 1.5, 1), (1, 0.5, 0.5, -1), (0.5, 3, 1, 0), (-1, 1, 4, 3)],
    ),
    "squared_hinge": (
        "squared_hinge",
        {},
        [(1, 0, 1, -2), (-1, 0, 1, 2), (0, 0, 1, 2), (1, 1, 0, 0), (-1, -1, 0, 0), (1, 2, 0, 0), (1, 0.5, 0.25, -1), (0, 0.5, 2.25, 3)]
        + [(1, INF, 0, 0), (-1, INF, INF, None), (1, -INF, INF, None), (-1, -INF, 0, 0), (1, NAN, NAN, None), (NAN, 1, NAN, None)],
    ),
    "squared_hinge-pm1": (
        "squared_hinge",
        {"labels": "pm1"},
        [(0, 3, 1, 0), (0, INF, 1, 0), (0, -INF, 1, 0), (1, 0.5, 0.25, -1), (-1, 0.5, 2.25, 3)],
    ),
    "squared_hinge-binary": ("squared_hinge", {"labels": "binary"}, [(0, 0.5, 2.25, 3), (1, 0.5, 0.25, -1), (0.5, 3, 1, 0)]),
}

CROSSENTROPY = [
    ((1, 0), (0, 1), SATURATED, (0, 0)),
    ((1, 0), (1, 0), 0, (0, 1)),
    ((0, 1), (0.25, 0.75), -math.log(0.75), (1, -1 / 3)),
    ((1, 0), (0, 0), SATURATED, (0, 0)),
    # p is divided by its sum
    ((1, 0), (2, 2), LOG2, (-0.25, 0.25)),
    ((0, 1), (6, 2), 2 * LOG2, (1 / 8, -3 / 8)),
    ((1, 0), (1e-8, 1), SATURATED, (0, 0)),
    ((1, 0), (-1, 2), SATURATED, (0, 0)),
    ((0, 1), (-1, 2), 0, (0, 0)),
    ((1, 0), (0.5, -0.5), LOG2, None),
    # sums whose square or whose reciprocal is out of range
    ((1, 0), (1e-20, 1e-20), LOG2, (-5e19, 5e19)),
    ((0, 1), (1e-30, 0), SATURATED, (0, 0)),
    ((1, 0), (1e-30, 0), 0, None),
    ((0, 1), (1e38, 1e38), LOG2, None),
    ((1, 0), (NAN, 0.5), NAN, None),
    ((0, 1), (NAN, 0.5), NAN, None),
    ((1, 0), (INF, 1), NAN, None),
    ((0, 1), (INF, 1), NAN, None),
    ((1, 0), (-INF, 1), NAN, None),
    ((1, 0), (INF, -INF), NAN, None),
]
CROSSENTROPY_LOGITS = [
    ((1, 0), (0, 0), LOG2, (-0.5, 0.5)),
    ((1, 0), (0, -INF), 0, (0, 0)),
    ((0, 1), (0, -INF), INF, (1, -1)),
    ((1, 0), (INF, 0), NAN, None),
    ((0, 1), (INF, 0), NAN, None),
    ((1, 0), (INF, INF), NAN, None),
    ((1, 0), (-INF, -INF), NAN, None),
    ((1, 0), (NAN, 0), NAN, None),
    ((0, 1), (NAN, 0), NAN, None),
    ((1, 0), (NAN, -INF), NAN, None),
    ((1, 0), (1e4, 0), 0, (0, 0)),
    ((0, 1), (1e4, 0), 1e4, (1, -1)),
    ((1, 0), (1e38, -1e38), 0, (0, 0)),
    ((0, 1), (1e38, -1e38), 2e38, (1, -1)),
    ((0, 1), (-1e38, 0), 0, (0, 0)),
]
VECTORS = {
    "cce-probabilities": (
        "categorical_crossentropy",
        {},
        [
            *CROSSENTROPY,
            ((0.5, 0.25), (0, 0), 0.75 * SATURATED, (0, 0)),
            ((2, 1), (0.5, 0.5), 3 * LOG2, (-1, 1)),
            # an all-zero one-hot row
            ((0, 0), (0.5, 0.5), 0, (0, 0)),
            ((0, 0), (0, 0), 0, (0, 0)),
            ((0, 0), (0, 1), 0, (0, 0)),
            ((0, 0), (NAN, 0.5), NAN, None),
            ((NAN, 1), (0.5, 0.5), NAN, None),
        ],
    ),
    "cce-probabilities-epsilon": (
        "categorical_crossentropy",
        {"epsilon": 0.125},
        [((1, 0), (0, 1), 3 * LOG2, (0, 0)), ((1, 0), (0, 0), 3 * LOG2, (0, 0))],
    ),
    "cce-probabilities-smoothing": (
        "categorical_crossentropy",
        {"label_smoothing": 0.5},
        [((1, 0), (0.5, 0.5), LOG2, (-0.5, 0.5)), ((1, 0), (0, 1), 0.75 * SATURATED, None), ((0, 0), (0.5, 0.5), 0.5 * LOG2, (0, 0))],
    ),
    "cce-probabilities-class-weight": (
        "categorical_crossentropy",
        {"class_weight": (2.0, 3.0)},
        [((1, 0), (0.5, 0.5), 2 * LOG2, (-2, 2)), ((0, 1), (0.5, 0.5), 3 * LOG2, (3, -3)), ((0, 0), (0.5, 0.5), 0, (0, 0))],
    ),
    "cce-logits": (
        "categorical_crossentropy",
        {"from_logits": True},
        [
            *CROSSENTROPY_LOGITS,
            ((0, 0), (1, 2), 0, (0, 0)),
            ((0, 0), (0, -INF), 0, (0, 0)),
            ((0.5, 0.5), (0, 0), LOG2, (0, 0)),
            # the gradient is (sum of y) * softmax - y, whatever y sums to
            ((2, 1), (0, 0), 3 * LOG2, (-0.5, 0.5)),
            ((0.25, 0), (0, 0), 0.25 * LOG2, (-0.125, 0.125)),
            ((NAN, 1), (0, 0), NAN, None),
        ],
    ),
    "cce-logits-smoothing": (
        "categorical_crossentropy",
        {"from_logits": True, "label_smoothing": 0.5},
        [((1, 0), (0, 0), LOG2, (-0.25, 0.25)), ((1, 0), (0, -INF), INF, (0.25, -0.25)), ((1, 0), (-INF, 0), INF, (-0.75, 0.75))],
    ),
    "cce-logits-class-weight": (
        "categorical_crossentropy",
        {"from_logits": True, "class_weight": (2.0, 3.0)},
        [((1, 0), (0, 0), 2 * LOG2, (-1, 1)), ((0, 1), (0, 0), 3 * LOG2, (1.5, -1.5)), ((1, 0), (0, -INF), 0, (0, 0))],
    ),
    "scce-probabilities": ("sparse_categorical_crossentropy", {}, CROSSENTROPY),
    "scce-logits": ("sparse_categorical_crossentropy", {"from_logits": True}, CROSSENTROPY_LOGITS),
    "scce-logits-smoothing": (
        "sparse_categorical_crossentropy",
        {"from_logits": True, "label_smoothing": 0.5},
        [((1, 0), (0, 0), LOG2, (-0.25, 0.25)), ((1, 0), (0, -INF), INF, (0.25, -0.25)), ((1, 0), (-INF, 0), INF, (-0.75, 0.75))],
    ),
    "scce-logits-class-weight": (
        "sparse_categorical_crossentropy",
        {"from_logits": True, "class_weight": (2.0, 3.0)},
        [((1, 0), (0, 0), 2 * LOG2, (-1, 1)), ((0, 1), (0, 0), 3 * LOG2, (1.5, -1.5)), ((1, 0), (0, -INF), 0, (0, 0))],
    ),
    "kld-probabilities": (
        "kl_divergence",
        {},
        [
            ((0.5, 0.5), (0.25, 0.75), 0.5 * math.log(2) + 0.5 * math.log(2 / 3), (-2, -2 / 3)),
            ((0, 0), (0.5, 0.5), 0, (0, 0)),
            ((1, 0), (0, 1), SATURATED, (0, 0)),
            ((1, 0), (1, NAN), NAN, None),
            ((1, 0), (1, 0), 0, (-1, 0)),
        ],
    ),
    "kld-logits": (
        "kl_divergence",
        {"from_logits": True},
        [
            ((1, 0), (0, 0), LOG2, (-0.5, 0.5)),
            ((0.5, 0.5), (0, 0), 0, (0, 0)),
            ((2, 1), (0, 0), 5 * LOG2, (-0.5, 0.5)),
            ((0, 0), (1, 2), 0, (0, 0)),
            ((1, 0), (0, -INF), 0, (0, 0)),
            ((0, 1), (0, -INF), INF, None),
            ((1, 0), (INF, 0), NAN, None),
            ((1, 0), (NAN, 0), NAN, None),
            ((0, 1), (NAN, 0), NAN, None),
            ((-1, 1), (0, 0), NAN, None),
        ],
    ),
    "cosine": (
        "cosine_similarity",
        {},
        [
            ((1, 0), (1, 0), -1, (0, 0)),
            ((1, 0), (0, 1), 0, (-1, 0)),
            ((1, 0), (-1, 0), 1, (0, 0)),
            ((3, 4), (4, 3), -0.96, (0.0336, -0.0448)),
            ((0, 0), (1, 2), 0, (0, 0)),
            ((1, 2), (0, 0), 0, (0, 0)),
            ((0, 0), (0, 0), 0, (0, 0)),
            ((1, 0), (INF, 0), NAN, None),
            ((1, 0), (-INF, 1), NAN, None),
            ((1, 0), (INF, INF), NAN, None),
            ((INF, 0), (1, 0), NAN, None),
            ((0, 0), (INF, 1), NAN, None),
            ((1, 0), (NAN, 1), NAN, None),
            ((0, 0), (NAN, 1), NAN, None),
            ((NAN, 1), (1, 0), NAN, None),
            ((NAN, 1), (0, 0), NAN, None),
        ],
    ),
    "cosine-scales": (
        "cosine_similarity",
        {},
        [
            ((3e37, 4e37), (4, 3), -0.96, (0.0336, -0.0448)),
            ((3e-37, 4e-37), (4, 3), -0.96, (0.0336, -0.0448)),
            ((3.6e-38, 4.8e-38), (4.8e-38, 3.6e-38), -0.96, (0.0336 / 1.2e-38, -0.0448 / 1.2e-38)),
            ((0.75e38, 1e38), (1e38, 0.75e38), -0.96, None),
            ((3e37, 4e37), (4.8e-38, 3.6e-38), -0.96, (0.0336 / 1.2e-38, -0.0448 / 1.2e-38)),
            ((3.6e-38, 4.8e-38), (1e38, 0.75e38), -0.96, None),
            ((3e38, 3e38), (3e38, 3e38), -1, None),
        ],
    ),
    "categorical_hinge": (
        "categorical_hinge",
        {},
        [
            ((1, 0, 0), (2, 0.5, 0.25), 0, (0, 0, 0)),
            ((1, 0, 0), (0, 0.5, 0.25), 1.5, (-1, 1, 0)),
            # a maximum splits ties equally, the 0 that the true class contributes included
            ((1, 0, 0), (0, 0.5, 0.5), 1.5, (-1, 0.5, 0.5)),
            ((1, 0, 0), (0.5, 0, 0), 0.5, (-1, 1 / 3, 1 / 3)),
            ((1, 0, 0), (1, 0, 0), 0, (0, 0, 0)),
            ((0, 0, 0), (-3, -0.5, -2), 0.5, (0, 1, 0)),
            ((0, 1, 0), (-5, -3, -4), 4, (0, -1, 0)),
            ((1, 0, 0), (NAN, 0, 0), NAN, None),
            ((1, 0, 0), (0, NAN, 0), NAN, None),
            ((NAN, 0, 0), (0, 0, 0), NAN, None),
            # the limits
            ((1, 0, 0), (0, INF, 0), INF, None),
            ((1, 0, 0), (-INF, 0, 0), INF, None),
            ((1, 0, 0), (INF, 0, 0), 0, (0, 0, 0)),
            ((1, 0, 0), (0, -INF, 0), 1, None),
        ],
    ),
}
TABLE = {**ELEMENTWISE, **VECTORS}


def loss_function(name, options):
    function = getattr(lb, name)
    return lambda y_true, y_pred: function(y_true, y_pred, **options)


def columns(case, dtype):
    """The rows of a case as arrays: y_true, y_pred, losses, gradients; NaN where nothing is promised, and where that is."""
    name, options, rows = case
    y_true, y_pred, losses, gradients = zip(*rows, strict=True)
    y_pred = np.array(y_pred, dtype).reshape(len(rows), -1)
    y_true = np.array(y_true, dtype).reshape(len(rows), -1)
    if name == "sparse_categorical_crossentropy":
        y_true = y_true.argmax(axis=-1).astype("int32")
    return loss_function(name, options), y_true, y_pred, losses, gradients


def agrees(actual, wanted, dtype, ulps=8, atol=0.0):
    """Equal up to rounding; without ``atol`` a promised 0 is exactly 0."""
    wanted = np.reshape(np.array(wanted, "float64"), np.shape(actual))
    return np.allclose(np.asarray(actual, "float64"), wanted, rtol=ulps * float(np.finfo(dtype).eps), atol=atol, equal_nan=True)


def softmax_rounding(case, y, dtype):
    """A gradient from logits is a difference of numbers of the size of the labels' sum: nothing can be promised below their rounding."""
    logits = TABLE[case][1].get("from_logits") and case in VECTORS
    total = np.abs(y).sum(dtype="float64") if np.ndim(y) else 1.0
    return float(np.finfo(dtype).eps * total) if logits else 0.0


@pytest.mark.parametrize("case", TABLE)
@FLOATS
def test_value(backend, dtype, case):
    function, y_true, y_pred, losses, _ = columns(TABLE[case], dtype)
    result = function(backend.tensor(y_true), backend.tensor(y_pred))
    assert backend.is_native(result)
    values = backend.numpy(result)
    assert values.shape == (len(losses),)
    assert values.dtype == dtype
    rows = zip(TABLE[case][2], values.tolist(), losses, strict=True)
    # A normalised probability is rounded to a unit of 1: XLA's p · (1/Σp) need not be 1 where p/Σp is.
    atol = np.finfo(dtype).eps if case.endswith("probabilities") else 0.0
    assert [(row, got) for row, got, wanted in rows if wanted is not None and not agrees(got, wanted, dtype, atol=atol)] == []


@pytest.mark.parametrize("case", TABLE)
@FLOATS
def test_gradient(differentiable, dtype, case):
    function, y_true, y_pred, losses, gradients = columns(TABLE[case], dtype)
    slopes = differentiable.grad(lambda p: function(differentiable.tensor(y_true), p), y_pred)
    assert slopes.dtype == dtype
    wrong = []
    for row, y, got, value, wanted in zip(TABLE[case][2], y_true, slopes, losses, gradients, strict=True):
        finite_loss = value is not None and math.isfinite(value)
        if (finite_loss and not np.isfinite(got).all()) or (
            wanted is not None and not agrees(got, wanted, dtype, ulps=16, atol=softmax_rounding(case, y, dtype))
        ):
            wrong.append((row, got.tolist()))
    assert wrong == []


@pytest.mark.parametrize("case", [case for case in TABLE if TABLE[case][0] not in ("sparse_categorical_crossentropy", "categorical_hinge")])
@FLOATS
def test_gradient_by_the_labels(differentiable, dtype, case):
    """Soft labels may be trained: where the loss is finite so is their gradient, or its exact value is infinite, but never NaN."""
    function, y_true, y_pred, losses, _ = columns(TABLE[case], dtype)
    slopes = differentiable.grad(lambda y: function(y, differentiable.tensor(y_pred)), y_true)
    assert slopes.dtype == dtype
    rows = zip(TABLE[case][2], slopes, losses, strict=True)
    assert [(row, got) for row, got, loss in rows if loss is not None and math.isfinite(loss) and np.isnan(got).any()] == []


@pytest.mark.parametrize("case", TABLE)
def test_a_large_batch(backend, case):
    """The same rows many times over, which a backend may split, compile or run on several threads."""
    function, y_true, y_pred, losses, gradients = columns(TABLE[case], "float32")
    rows, times = len(losses), -(-100_000 // y_pred.size)
    y_true, y_pred = np.concatenate([y_true] * times), np.concatenate([y_pred] * times)
    values = backend.numpy(function(backend.tensor(y_true), backend.tensor(y_pred))).reshape(times, rows)
    assert values.dtype == "float32"
    slopes = backend.grad(lambda p: function(backend.tensor(y_true), p), y_pred).reshape(times, rows, -1) if backend.grad else None
    wrong = []
    for index, (row, value, gradient) in enumerate(zip(TABLE[case][2], losses, gradients, strict=True)):
        if not agrees(values[:, index], np.full(times, value), "float32", atol=2.0**-23 if case.endswith("probabilities") else 0.0):
            wrong.append((row, np.unique(values[:, index])))
        atol = softmax_rounding(case, y_true[index], "float32")
        if backend.grad and gradient is not None:
            for got in np.unique(slopes[:, index], axis=0):
                if not agrees(got, gradient, "float32", ulps=16, atol=atol):
                    wrong.append((row, got))
        elif backend.grad and math.isfinite(value) and not np.isfinite(slopes[:, index]).all():
            wrong.append((row, "gradient"))
    assert wrong == []


@FLOATS
def test_nan_stays_in_its_sample(backend, dtype):
    """One NaN, in the prediction or in a dense label, makes that sample NaN and leaves the value and gradient of the others exact."""
    for name in EVERY_LOSS:
        y_true, y_pred = sample(name, (4, 3), dtype)
        values, scales = expected(name, y_true, y_pred)
        slopes = expected_gradient(name, y_true, y_pred)
        y_pred[1, 2] = NAN
        sound = [0, 2, 3]
        if y_true.dtype == dtype:
            y_true[3, 0] = NAN
            sound = [0, 2]
        function = getattr(lb, name)
        result = backend.numpy(function(backend.tensor(y_true), backend.tensor(y_pred)))
        assert np.isnan(np.delete(result, sound)).all(), name
        np.testing.assert_allclose(result[sound], values[sound], rtol=0, atol=8 * float((np.finfo(dtype).eps * scales).max()), err_msg=name)
        if backend.grad:
            gradient = backend.grad(lambda p, f=function, y=y_true: f(backend.tensor(y), p), y_pred)
            # The line of hinge has the same slope everywhere.
            assert np.isnan(gradient[1, 2]) or name == "hinge", name
            size = np.abs(slopes[sound]).max()
            np.testing.assert_allclose(gradient[sound], slopes[sound], rtol=0, atol=64 * float(np.finfo(dtype).eps * size), err_msg=name)


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_nan_is_not_lost_in_a_large_batch(backend, name):
    """Compilers vectorise minimum and maximum differently from a certain size on, and some forget NaN there."""
    for shape in ((1000, 8), (100_000, 3)):
        y_true, y_pred = sample(name, shape)
        y_pred[::4, 1] = NAN
        if y_true.dtype == "float32":
            y_true[1::4, 1] = NAN
        values = backend.numpy(getattr(lb, name)(backend.tensor(y_true), backend.tensor(y_pred)))
        wanted = np.isnan(y_pred).any(axis=-1) | np.isnan(y_true.reshape(len(y_true), -1)).any(axis=-1)
        np.testing.assert_array_equal(np.isnan(values), wanted, err_msg=str(shape))


def test_log_cosh_is_never_negative_and_relatively_exact(backend):
    """Over the whole range of float32, both signs; 4 ulp, where the frameworks' usual forms lose every digit."""
    errors = np.geomspace(2.0**-60, 2.0**126, 499).astype("float32")
    errors = np.concatenate([errors, -errors, np.linspace(0.9, 1.1, 101, dtype="float32")]).reshape(-1, 1)
    values = backend.numpy(lb.log_cosh(backend.tensor(np.zeros_like(errors)), backend.tensor(errors)))
    exact, _ = expected("log_cosh", np.zeros_like(errors), errors)
    assert (values >= 0).all()
    np.testing.assert_allclose(values, exact, rtol=4 * 2.0**-23)


def test_log_cosh_in_float64_is_relatively_exact(backend):
    errors = np.concatenate([np.geomspace(2.0**-500, 2.0**1022, 299), np.linspace(0.9, 1.1, 101)]).reshape(-1, 1)
    with backend.double_precision():
        values = backend.numpy(lb.log_cosh(backend.tensor(np.zeros_like(errors)), backend.tensor(errors)))
    exact, _ = expected("log_cosh", np.zeros_like(errors), errors)
    assert values.dtype == "float64"
    assert (values >= 0).all()
    np.testing.assert_allclose(values, exact, rtol=4 * 2.0**-52)


@pytest.mark.parametrize("options", [{}, {"from_logits": True}], ids=["probabilities", "logits"])
@FLOATS
def test_binary_crossentropy_is_relatively_exact(backend, dtype, options):
    """Hard labels leave nothing to cancel, so the loss is right to a few ulp from the smallest to the largest."""
    if options:
        y_pred = np.linspace(-80, 80, 641).astype(dtype)
    else:
        small = np.geomspace(2.0**-40, 0.5, 321).astype(dtype)
        y_pred = np.concatenate([small, np.array(1, dtype) - small[small > 4e-7]])
    y_pred = np.concatenate([y_pred, y_pred]).reshape(-1, 1)
    y_true = np.repeat(np.array([0, 1], dtype), len(y_pred) // 2).reshape(-1, 1)
    values = backend.numpy(lb.binary_crossentropy(backend.tensor(y_true), backend.tensor(y_pred), **options))
    exact, _ = expected("binary_crossentropy", y_true, y_pred, **options)
    np.testing.assert_allclose(values, exact, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", ["huber", "log_cosh"])
@FLOATS
def test_second_derivative_at_no_error_is_one(differentiable, dtype, name):
    y_pred = np.array([[0.0], [2.0**-30], [-(2.0**-30)]], dtype)
    curvature = differentiable.second(lambda p: getattr(lb, name)(differentiable.tensor(np.zeros_like(y_pred)), p), y_pred)
    np.testing.assert_allclose(curvature, np.ones_like(y_pred), rtol=1e-6)


@FLOATS
def test_second_derivatives_where_they_exist(differentiable, dtype):
    """One entry per sample, so that the derivative of the summed gradient is the second derivative."""
    cases = [
        ("mean_squared_error", {}, 0.0, 1.5, 2.0),
        ("log_cosh", {}, 0.0, 2.0, 1 / math.cosh(2.0) ** 2),
        ("huber", {}, 0.0, 0.5, 1.0),
        ("huber", {}, 0.0, 2.0, 0.0),
        ("mean_absolute_error", {}, 0.0, 2.0, 0.0),
        ("squared_hinge", {}, 1.0, 0.5, 2.0),
        ("poisson", {"log_input": True}, 1.0, 0.5, math.exp(0.5)),
        ("poisson", {}, 3.0, 2.0, 3 / (2 + EPS) ** 2),
        ("binary_crossentropy", {}, 1.0, 0.25, 16.0),
        ("binary_crossentropy", {"from_logits": True}, 1.0, 0.5, sigmoid(0.5) * sigmoid(-0.5)),
        ("binary_crossentropy", {"from_logits": True}, 1.0, 0.0, 0.25),
        ("kl_divergence", {}, 0.5, 0.25, 8.0),
    ]
    for name, options, label, prediction, wanted in cases:
        y_true = differentiable.tensor(np.array([[label]], dtype))
        function = loss_function(name, options)
        curvature = differentiable.second(lambda p, f=function, y=y_true: f(y, p), np.array([[prediction]], dtype))
        np.testing.assert_allclose(curvature, [[wanted]], rtol=2e-6, atol=1e-6, err_msg=f"{name} {options}")


@FLOATS
def test_cosine_never_leaves_its_range(backend, dtype):
    y_pred = np.random.default_rng(0).normal(size=(2000, 3)).astype(dtype)
    for factor in (1.0, 3.0, -1.0, -0.1):
        values = backend.numpy(lb.cosine_similarity(backend.tensor(y_pred * np.array(factor, dtype)), backend.tensor(y_pred)))
        assert np.abs(values).max() <= 1.0
        np.testing.assert_allclose(values, -np.sign(factor) * np.ones(2000), rtol=8 * np.finfo(dtype).eps)


def test_cosine_scales_of_float64(backend):
    with backend.double_precision():
        for scale in (1e-307, 1e-160, 1e160, 2e307):
            y_true, y_pred = np.array([[3.0, 4.0]]) * scale, np.array([[4.0, 3.0]]) * scale
            values = backend.numpy(lb.cosine_similarity(backend.tensor(y_true), backend.tensor(y_pred)))
            np.testing.assert_allclose(values, [-0.96], rtol=1e-15, err_msg=str(scale))


@pytest.mark.parametrize("error", [1e-12, 1e-7, 0.25, 1.0, 3.0])
def test_the_slope_of_huber_keeps_its_digits(differentiable, error):
    """q below delta, delta above: nothing of the size of delta may be added to a small slope and taken away again."""
    y_pred = np.full((64, 3), error, "float32")
    slope = differentiable.grad(lambda p: lb.huber(differentiable.tensor(np.zeros_like(y_pred)), p), y_pred)
    np.testing.assert_allclose(slope, np.full((64, 3), min(np.float64(np.float32(error)), 1.0) / 3), rtol=3e-7)


def test_probabilities_that_cancel(differentiable):
    """Their sum is 1e-20, whose square is 0."""
    y_true, y_pred = np.array([[1.0, 0.0, 0.0]], "float32"), np.array([[88.0, -88.0, 1e-20]], "float32")
    for options in ({}, {"label_smoothing": 1.0}, {"class_weight": (2.0, 1.0, 1.0)}):
        slopes = differentiable.grad(lambda p, options=options: lb.cce(differentiable.tensor(y_true), p, **options), y_pred)
        assert np.isfinite(slopes).all()


@pytest.mark.parametrize("delta", [1e39, 1e-39])
def test_a_delta_beyond_the_range_of_float32(backend, delta):
    """It would be inf or 0 where it is used."""
    zeros = backend.tensor(np.zeros((1, 1), "float32"))
    with pytest.raises(ValueError, match="huber: delta must be positive and finite"):
        lb.huber(zeros, zeros, delta)


def test_losses_do_not_overflow_where_their_value_does_not(backend):
    """Sums, squares and differences inside a loss stay in range when the loss itself is."""
    huge = np.array([[3e38]], "float32")
    assert backend.numpy(lb.huber(backend.tensor(np.zeros_like(huge)), backend.tensor(huge)))[0] == np.float32(3e38)
    # The difference of these logits is beyond float32, and so is a loss of 6e38; the loss of the winning class is 0.
    logits, labels = backend.tensor(np.array([[3e38, -3e38]] * 2, "float32")), backend.tensor(np.array([0, 1], "int32"))
    np.testing.assert_array_equal(backend.numpy(lb.scce(labels, logits, from_logits=True)), [0.0, INF])
    # The sum of the probabilities overflows, and NaN is the rule for a sum that is not finite.
    assert np.isnan(backend.numpy(lb.cce(backend.tensor(np.eye(2, dtype="float32")), backend.tensor(np.full((2, 2), 3e38, "float32"))))).all()


def test_probabilities_and_logits_are_never_confused(backend):
    """Nothing is guessed: numbers that look like logits are clipped as probabilities, whatever made them."""
    y_true, logits = np.array([[1.0], [0.0]], "float32"), np.array([[3.0], [3.0]], "float32")
    np.testing.assert_allclose(backend.numpy(lb.bce(backend.tensor(y_true), backend.tensor(logits))), [0.0, SATURATED], rtol=1e-6)
    np.testing.assert_allclose(
        backend.numpy(lb.bce(backend.tensor(y_true), backend.tensor(logits), True)), [math.log1p(math.exp(-3)), softplus(3)], rtol=1e-6
    )


# Half precision and other types


@HALVES
@pytest.mark.parametrize("name", EVERY_LOSS)
def test_half_precision_is_computed_in_float32(backend, dtype, name):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="nothing here has bfloat16 arrays")
    y_true, y_pred = sample(name)
    labels = y_true.dtype.kind == "i"
    y_true, y_pred = backend.tensor(y_true, None if labels else dtype), backend.tensor(y_pred, dtype)
    assert backend.dtype(y_pred) == dtype
    result = getattr(lb, name)(y_true, y_pred)
    assert backend.dtype(result) == "float32"
    exact_true, exact_pred = backend.numpy(y_true), backend.numpy(y_pred).astype("float32")
    values, scales = expected(name, exact_true, exact_pred)
    np.testing.assert_allclose(backend.numpy(result), values, rtol=0, atol=8 * 2.0**-23 * scales.max())
    if backend.grad:
        gradient = backend.native_grad(lambda p: getattr(lb, name)(y_true, p), exact_pred, dtype)
        assert backend.dtype(gradient) == dtype
        slopes = expected_gradient(name, exact_true, exact_pred)
        tolerance = {"float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype]
        np.testing.assert_allclose(backend.numpy(gradient).astype("float64"), slopes, rtol=tolerance, atol=1e-6 * np.abs(slopes).max())


@HALVES
def test_half_precision_neither_overflows_nor_saturates_early(backend, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="nothing here has bfloat16 arrays")

    def value(loss, y_true, y_pred, **options):
        return float(backend.numpy(loss(backend.tensor(np.array([[y_true]]), dtype), backend.tensor(np.array([[y_pred]]), dtype), **options))[0])

    assert value(lb.bce, 1.0, 0.0) == pytest.approx(SATURATED, rel=1e-6)
    assert value(lb.bce, 0.0, 1.0) == pytest.approx(SATURATED, rel=1e-6)
    assert value(lb.mape, 0.0, 1.0) == pytest.approx(1e9, rel=1e-6)
    assert value(lb.mse, 0.0, 1024.0) == 2.0**20
    assert value(lb.kld, 1.0, 0.0) == pytest.approx(SATURATED, rel=1e-6)
    assert value(lb.poisson, 1.0, 0.0) == pytest.approx(SATURATED, rel=1e-6)
    assert value(lb.log_cosh, 0.0, 2.0**-7) == pytest.approx(log_cosh(2.0**-7), rel=1e-6)
    # 4096 equal entries: a sum in half precision stops growing long before it has all of them.
    ones = backend.tensor(np.ones((1, 4096)), dtype)
    assert float(backend.numpy(lb.mse(backend.tensor(np.zeros((1, 4096)), dtype), ones))[0]) == 1.0


def test_half_precision_labels_stay_integers(backend):
    """Class ids above 2048 are not numbers of float16; ids above 256 not of bfloat16."""
    y_pred = np.zeros((2, 4100), "float16")
    y_pred[0, 4097], y_pred[1, 2049] = 60.0, 60.0
    labels = np.array([4097, 2049], "int32")
    values = backend.numpy(lb.scce(backend.tensor(labels), backend.tensor(y_pred), from_logits=True))
    np.testing.assert_allclose(values, [0.0, 0.0], atol=1e-6)


def test_dense_labels_are_cast_to_the_compute_type(backend):
    """float64 labels beside float32 and float16 predictions; 1/3 is rounded once, to float32."""
    y_true = np.array([[1 / 3]])
    for dtype in ("float32", "float16"):
        y_pred = backend.tensor(np.array([[1.0]]), dtype)
        for labels in (y_true, y_true.tolist()):
            result = lb.mse(labels, y_pred)
            assert backend.dtype(result) == "float32"
            np.testing.assert_allclose(backend.numpy(result), [(1 - np.float32(1 / 3)) ** 2], rtol=4e-7)
    with backend.double_precision():
        result = lb.mse(backend.tensor(np.array([[0.25]], "float32")), backend.tensor(np.array([[1.0]])))
        assert backend.dtype(result) == "float64"
        np.testing.assert_array_equal(backend.numpy(result), [0.5625])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int32", "int64"])
def test_integer_predictions_become_float32(backend, dtype):
    """And float labels beside them are not truncated, nor does an unsigned difference wrap around."""
    with backend.double_precision():
        y_pred = backend.tensor(np.array([[1, 0]]), dtype)
        result = lb.mse(backend.tensor(np.array([[0.75, 0.5]], "float32")), y_pred)
        assert backend.dtype(result) == "float32"
        np.testing.assert_array_equal(backend.numpy(result), [(0.0625 + 0.25) / 2])
        result = lb.mae(backend.tensor(np.array([[0, 1]]), dtype), y_pred)
        assert backend.dtype(result) == "float32"
        np.testing.assert_array_equal(backend.numpy(result), [1.0])


def test_integer_and_bool_labels(backend):
    for dtype in ("bool", "uint8", "int8", "int32"):
        result = lb.bce(backend.tensor(np.array([[1, 0]]), dtype), backend.tensor(np.array([[0.5, 0.5]], "float32")))
        np.testing.assert_allclose(backend.numpy(result), [LOG2], rtol=1e-6)


def test_lists_and_numbers_become_float32(backend):
    with lb.use_backend(backend.name):
        for result in (lb.mse([[0, 1], [2, 3]], [[0, 1], [2, 5]]), lb.mse([[0.0, 1.0], [2.0, 3.0]], [[0.0, 1.0], [2.0, 5.0]])):
            assert backend.is_native(result)
            assert backend.dtype(result) == "float32"
            np.testing.assert_array_equal(backend.numpy(result), [0.0, 2.0])
        for result in (lb.mse(1, 3), lb.mse(1.0, 3.0), lb.mse(True, 3)):
            assert backend.is_native(result)
            assert backend.dtype(result) == "float32"
            assert backend.shape(result) == ()
            assert float(result) == 4.0


def test_lists_become_float32_where_double_precision_is_on_too(backend):
    with backend.double_precision(), lb.use_backend(backend.name):
        assert backend.dtype(lb.mse([[0.0, 1.0]], [[1.0, 3.0]])) == "float32"
        assert backend.dtype(lb.SparseCategoricalCrossentropy(class_weight=(1, 2))([0, 1], [[0.5, 0.5], [0.5, 0.5]])) == "float32"
        half = backend.tensor(np.zeros((2, 2)), "float16")
        assert backend.dtype(lb.SparseCategoricalCrossentropy(class_weight=(1, 2), label_smoothing=0.5)([0, 1], half, np.ones(2))) == "float32"


def test_variables_are_tensors(differentiable):
    """What an optimiser changes, where the framework has a type for it."""
    module, values = differentiable.module, np.array([[1.0, 3.0]], "float32")
    if differentiable.name == "jax":
        pytest.skip("JAX has no variables")
    variable = module.nn.Parameter(module.tensor(values)) if differentiable.name == "torch" else module.Variable(values)
    for result in (lb.mse([[0.0, 0.0]], variable), lb.mse(variable, variable + 1) * 5, lb.MeanSquaredError()([[0.0, 0.0]], variable)):
        assert differentiable.is_native(result)
        np.testing.assert_array_equal(np.ravel(differentiable.numpy(result)), [5.0])


def test_lists_and_arrays_beside_a_tensor(backend):
    y_pred = backend.tensor(np.array([[0.5, 2.0]], "float32"))
    for y_true in ([[0.5, 1.0]], ((0.5, 1.0),), np.array([[0.5, 1.0]]), np.array([[0.5, 1.0]], "float16")):
        result = lb.mse(y_true, y_pred)
        assert backend.is_native(result)
        assert backend.dtype(result) == "float32"
        np.testing.assert_array_equal(backend.numpy(result), [0.5])
    # The label's framework counts too.
    result = lb.mse(backend.tensor(np.array([[0.5, 1.0]], "float32")), [[0.5, 2.0]])
    assert backend.is_native(result)
    np.testing.assert_array_equal(backend.numpy(result), [0.5])


def test_awkward_arrays(backend):
    """Read-only, reversed, strided, Fortran-ordered and broadcast NumPy input, alone and beside a tensor, is input like any other."""
    base = np.arange(12, dtype="float32").reshape(3, 4)
    read_only = base.copy()
    read_only.flags.writeable = False
    zeros = np.zeros((3, 4), "float32")
    for array in (read_only, base[::-1, ::-1], np.repeat(base, 2, axis=1)[:, ::2], np.asfortranarray(base), np.broadcast_to(base[0], (3, 4))):
        wanted = (array.astype("float64") ** 2).mean(axis=-1)
        np.testing.assert_allclose(backend.numpy(lb.mse(array, backend.tensor(zeros))), wanted, rtol=1e-6)
        with lb.use_backend(backend.name):
            np.testing.assert_allclose(backend.numpy(lb.mse(zeros, array)), wanted, rtol=1e-6)
    np.testing.assert_array_equal(base, np.arange(12).reshape(3, 4))


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2"])
def test_byte_swapped_arrays(backend, dtype):
    """As read from a file that another machine wrote."""
    array, zeros = np.array([[1, 2], [3, 4]], dtype), np.zeros((2, 2), "float32")
    with lb.use_backend(backend.name):
        np.testing.assert_allclose(backend.numpy(lb.mse(array, backend.tensor(zeros))), [2.5, 12.5])
        np.testing.assert_allclose(backend.numpy(lb.mse(zeros, array)), [2.5, 12.5])


def test_data_frames_and_series():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for frame, series in ((pandas.DataFrame, pandas.Series), (polars.DataFrame, polars.Series)):
        y_true, y_pred = frame({"a": [0.0, 1.0], "b": [2.0, 3.0]}), frame({"a": [1.0, 1.0], "b": [2.0, 5.0]})
        np.testing.assert_array_equal(lb.mse(y_true, y_pred), [0.5, 2.0])
        np.testing.assert_array_equal(lb.scce(series([0, 1]), np.eye(2)), [0.0, 0.0])
        np.testing.assert_array_equal(lb.mse(series([0.0, 1.0]), np.zeros((2, 1))), [0.0, 1.0])


# Shapes


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_the_last_axis_is_reduced_and_gone(backend, name):
    y_true, y_pred = sample(name, (2, 4, 3))
    result = getattr(lb, name)(backend.tensor(y_true), backend.tensor(y_pred))
    values, scales = expected(name, y_true, y_pred)
    assert backend.shape(result) == (2, 4)
    np.testing.assert_allclose(backend.numpy(result), values, rtol=0, atol=8 * 2.0**-23 * scales.max())
    # One sample is a scalar.
    one = getattr(lb, name)(backend.tensor(y_true[0, 0]), backend.tensor(y_pred[0, 0]))
    assert backend.shape(one) == ()
    np.testing.assert_allclose(backend.numpy(one), values[0, 0], rtol=0, atol=8 * 2.0**-23 * scales.max())


@pytest.mark.parametrize("name", ["cosine_similarity", "categorical_crossentropy", "sparse_categorical_crossentropy", "binary_crossentropy"])
@pytest.mark.parametrize("axis", [0, 1, -2, 2, -3])
def test_the_loss_axis_may_be_any(backend, name, axis):
    """The loss over an axis is the loss over the last, of the transposed input."""
    y_true, y_pred = sample(name, (2, 4, 3))
    values, scales = expected(name, y_true, y_pred)
    shaped = y_true if y_true.ndim < 3 else np.moveaxis(y_true, -1, axis)
    result = getattr(lb, name)(backend.tensor(shaped), backend.tensor(np.moveaxis(y_pred, -1, axis)), axis=axis)
    assert backend.shape(result) == (2, 4)
    np.testing.assert_allclose(backend.numpy(result), values, rtol=0, atol=8 * 2.0**-23 * scales.max())


@pytest.mark.parametrize("name", ["categorical_crossentropy", "sparse_categorical_crossentropy"])
def test_smoothing_counts_the_classes_of_the_axis(backend, name):
    y_true, y_pred = sample(name, (2, 4, 3))
    values, scales = expected(name, y_true, y_pred, label_smoothing=0.3)
    shaped = y_true if y_true.ndim < 3 else np.moveaxis(y_true, -1, 1)
    result = getattr(lb, name)(backend.tensor(shaped), backend.tensor(np.moveaxis(y_pred, -1, 1)), axis=1, label_smoothing=0.3)
    np.testing.assert_allclose(backend.numpy(result), values, rtol=0, atol=8 * 2.0**-23 * scales.max())


@pytest.mark.parametrize("name", ["cosine_similarity", "categorical_crossentropy", "sparse_categorical_crossentropy", "binary_crossentropy"])
def test_an_axis_that_is_not_there(backend, name):
    y_true, y_pred = sample(name)
    for axis in (2, -3, 7):
        with pytest.raises(ValueError, match="axis") as info:
            getattr(lb, name)(backend.tensor(y_true), backend.tensor(y_pred), axis=axis)
        assert name in str(info.value)
        assert str(axis) in str(info.value)


DENSE_ELEMENTWISE = [name for name in DENSE if name not in ONE_HOT]


@pytest.mark.parametrize("name", DENSE_ELEMENTWISE)
def test_a_column_and_a_row_of_numbers_are_n_samples(backend, name):
    y_true, y_pred = sample(name, (5, 1))
    values, scales = expected(name, y_true, y_pred)
    for labels, predictions in ((y_true, y_pred[:, 0]), (y_true[:, 0], y_pred)):
        result = getattr(lb, name)(backend.tensor(labels), backend.tensor(predictions))
        assert backend.shape(result) == (5,)
        np.testing.assert_allclose(backend.numpy(result), values, rtol=0, atol=8 * 2.0**-23 * max(scales.max(), 1))


@pytest.mark.parametrize("name", DENSE)
def test_other_shapes_are_errors(backend, name):
    shapes = [((2, 3), (3, 2)), ((3,), (4,)), ((2, 3), (2, 1)), ((2, 1), (2, 3)), ((2, 3), (3,)), ((1, 3), (2, 3)), ((2, 3), (2, 3, 1)), ((2, 3), ())]
    shapes += [((), (2, 3)), ((), (1,)), ((4,), (3, 1)), ((3,), (3, 3)), ((3,), (1, 3)), ((2, 3, 1), (2, 3)), ((1, 1), (2, 2))]
    for true_shape, pred_shape in shapes:
        y_true, y_pred = np.full(true_shape, 0.5, "float32"), np.full(pred_shape, 0.5, "float32")
        with pytest.raises(ValueError, match="must have the same shape") as info:
            getattr(lb, name)(backend.tensor(y_true), backend.tensor(y_pred))
        for part in (name, str(true_shape), str(pred_shape)):
            assert part in str(info.value)


def test_a_class_names_itself_in_a_shape_error(backend):
    with pytest.raises(ValueError, match="must have the same shape") as info:
        lb.Huber()(backend.tensor(np.zeros((2, 3), "float32")), backend.tensor(np.zeros((3, 2), "float32")))
    assert "huber" in str(info.value).lower()
    assert "(2, 3)" in str(info.value)


def test_class_ids_for_the_dense_cross_entropy_get_a_hint(backend):
    y_pred = backend.tensor(np.full((4, 3), 1 / 3, "float32"))
    for labels in (np.array([0, 1, 2, 1], "int32"), np.array([[0], [1], [2], [1]], "int32"), np.array([0, 1, 2, 1], "float32")):
        with pytest.raises(ValueError, match="must have the same shape") as info:
            lb.categorical_crossentropy(backend.tensor(labels), y_pred)
        for part in ("categorical_crossentropy", "sparse_categorical_crossentropy", "to_categorical", str(labels.shape), "(4, 3)"):
            assert part in str(info.value)


@pytest.mark.parametrize("options", [{}, {"from_logits": True}], ids=["probabilities", "logits"])
def test_one_class_is_an_error_that_names_the_binary_loss(backend, options):
    y_pred = backend.tensor(np.full((4, 1), 0.5, "float32"))
    with pytest.raises(ValueError, match="binary_crossentropy"):
        lb.categorical_crossentropy(backend.tensor(np.ones((4, 1), "float32")), y_pred, **options)
    with pytest.raises(ValueError, match="binary_crossentropy"):
        lb.sparse_categorical_crossentropy(backend.tensor(np.zeros(4, "int32")), y_pred, **options)


# Empty input


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_an_empty_batch(backend, name):
    for shape in ((0, 3), (0, 4, 3), (2, 0, 3)):
        y_pred = np.zeros(shape, "float32")
        y_true = np.zeros(shape[:-1], "int32") if name == "sparse_categorical_crossentropy" else y_pred
        result = getattr(lb, name)(backend.tensor(y_true), backend.tensor(y_pred))
        assert backend.shape(result) == shape[:-1]
        assert backend.dtype(result) == "float32"
    if backend.grad:
        gradient = backend.grad(lambda p: getattr(lb, name)(backend.tensor(y_true), p), y_pred)
        assert gradient.shape == y_pred.shape


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_no_features(backend, name):
    y_pred = np.zeros((2, 0), "float32")
    if name in CLASS_AXIS:
        y_true = np.zeros(2, "int32") if name == "sparse_categorical_crossentropy" else y_pred
        with pytest.raises(ValueError, match=name):
            getattr(lb, name)(backend.tensor(y_true), backend.tensor(y_pred))
        return
    result = getattr(lb, name)(backend.tensor(y_pred), backend.tensor(y_pred))
    np.testing.assert_array_equal(backend.numpy(result), [0.0, 0.0])
    assert backend.dtype(result) == "float32"
    if backend.grad:
        assert backend.grad(lambda p: getattr(lb, name)(backend.tensor(y_pred), p), y_pred).shape == (2, 0)


# Class labels


def scce(backend, labels, y_pred=None, **options):
    y_pred = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]], "float32") if y_pred is None else y_pred
    return backend.numpy(lb.sparse_categorical_crossentropy(labels, backend.tensor(y_pred), **options))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "uint32", "uint64", "float32", "float16", "float64", "longdouble"])
def test_labels_of_every_type(backend, dtype):
    if dtype != "longdouble":  # no framework's tensors hold any
        with backend.double_precision():
            np.testing.assert_allclose(scce(backend, backend.tensor(np.array([0, 2], dtype))), [LOG2, 2 * LOG2], rtol=1e-6)
    np.testing.assert_allclose(scce(backend, np.array([0, 2], dtype)), [LOG2, 2 * LOG2], rtol=1e-6)


def test_narrow_labels_of_many_classes(backend):
    """The number of classes, and the class to ignore, need not fit the labels' type."""
    y_pred = np.zeros((2, 300), "float32")
    y_pred[0, 100], y_pred[1, 127] = 200.0, 200.0
    for dtype in ("int8", "uint8", "int16"):
        labels = backend.tensor(np.array([100, 127], dtype))
        for ignored in (None, -1, 255, 2**32 + 1):
            np.testing.assert_allclose(scce(backend, labels, y_pred, from_logits=True, ignore_class=ignored), [0, 0], atol=1e-6)


def test_a_wide_label_is_not_the_class_to_ignore(backend):
    """2**64 - 1 has the bits of -1."""
    with pytest.raises(ValueError, match="sparse_categorical_crossentropy"):
        scce(backend, np.array([0, 2**64 - 1], "uint64"), ignore_class=-1)


def test_bool_and_list_labels(backend):
    y_pred = np.array([[0.5, 0.5], [0.75, 0.25]], "float32")
    for labels in (np.array([True, True]), backend.tensor(np.array([True, True])), [1, 1], [1.0, 1.0], [[1], [1]], (True, True)):
        np.testing.assert_allclose(scce(backend, labels, y_pred), [LOG2, 2 * LOG2], rtol=1e-6)


BAD_LABELS = {
    "-1": np.array([0, -1], "int32"),
    "-100": np.array([0, -100], "int32"),
    "3": np.array([0, 3], "int32"),
    "-128": np.array([0, -128], "int8"),
    "255": np.array([0, 255], "uint8"),
    "2147483647": np.array([0, 2**31 - 1], "int32"),
    "4294967297": np.array([0, 2**32 + 1], "int64"),
    "-4294967295": np.array([0, 1 - 2**32], "int64"),
    "18446744073709551615": np.array([0, 2**64 - 1], "uint64"),
    "7": np.array([0.0, 7.0], "float32"),
    "-2": np.array([[0.0], [-2.0]], "float32"),
    "0.5": np.array([0.0, 0.5], "float32"),
    "1.75": np.array([0.0, 1.75], "float32"),
    "nan": np.array([0.0, NAN], "float32"),
    "inf": np.array([0.0, INF], "float32"),
}


@pytest.mark.parametrize("bad", BAD_LABELS)
@pytest.mark.parametrize("source", ["tensor", "array", "list"])
def test_bad_labels_are_errors(backend, bad, source):
    """Neither a wrapped class nor a framework's own ignore value nor a crash, wherever the labels come from."""
    labels = BAD_LABELS[bad]
    if source == "list" and labels.dtype == "uint64":
        pytest.skip("NumPy reads such a list as floats")
    with backend.double_precision() if source == "tensor" else contextlib.nullcontext():
        native = backend.tensor(labels) if source == "tensor" else labels if source == "array" else labels.tolist()
        for options in ({}, {"from_logits": True, "label_smoothing": 0.1}, {"ignore_class": 1}):
            with pytest.raises(ValueError, match="sparse_categorical_crossentropy") as info:
                scce(backend, native, **options)
            assert "y_true" in str(info.value)
            assert bad in str(info.value)


def test_wide_labels_do_not_wrap_around(backend):
    """Not even where int64 is switched off after the labels were made: 2**32 + 1 is not class 1."""
    with backend.double_precision():
        labels = backend.tensor(np.array([0, 2**32 + 1], "int64"))
    for options in ({}, {"from_logits": True}, {"ignore_class": 1}):
        with pytest.raises(ValueError, match="sparse_categorical_crossentropy"):
            scce(backend, labels, **options)


def test_bad_labels_of_a_loss_object(backend):
    with pytest.raises(ValueError, match=r"-1"):
        lb.SparseCategoricalCrossentropy()(backend.tensor(np.array([0, -1], "int32")), backend.tensor(np.eye(2, dtype="float32")))


@pytest.mark.parametrize("shape", [(2, 2), (3,), (1,), (1, 2), (2, 1, 1), (), (2, 3)])
def test_labels_of_another_shape(backend, shape):
    with pytest.raises(ValueError, match="sparse_categorical_crossentropy") as info:
        scce(backend, backend.tensor(np.zeros(shape, "int32")))
    for part in ("y_true", str(shape), "(2, 3)"):
        assert part in str(info.value)


def test_label_shapes(backend):
    """The predictions' shape without the class axis, or with size 1 there, for each position of the axis; also where N equals C."""
    y_true, y_pred = sample("sparse_categorical_crossentropy", (3, 3, 3))
    values, _ = expected("sparse_categorical_crossentropy", y_true, y_pred)
    for axis in (-1, 2, 1, 0, -2):
        moved = np.ascontiguousarray(np.moveaxis(y_pred, -1, axis))
        for labels in (y_true, np.expand_dims(y_true, axis)):
            np.testing.assert_allclose(scce(backend, backend.tensor(labels), moved, axis=axis), values, rtol=2e-6)
    for label in (backend.tensor(y_true[0, 0]), backend.tensor(y_true[0, :1]), int(y_true[0, 0])):
        np.testing.assert_allclose(scce(backend, label, y_pred[0, 0]), values[0, 0], rtol=2e-6)


def test_ignored_entries_are_zero_and_their_nan_does_not_leak(backend):
    y_pred = np.array([[0.5, 0.5], [NAN, 0.5], [0.25, 0.75], [INF, NAN]], "float32")
    for ignored in (-1, 255, 0, -100, 2**24):
        labels = np.array([1, ignored, 1, ignored], "int32")
        np.testing.assert_allclose(scce(backend, backend.tensor(labels), y_pred, ignore_class=ignored), [LOG2, 0, -math.log(0.75), 0], rtol=1e-6)
        for from_logits in (False, True):
            for smoothing in (0.0, 0.25):
                options = {"ignore_class": ignored, "from_logits": from_logits, "label_smoothing": smoothing}
                if backend.grad:
                    gradient = backend.grad(lambda p, y=labels, o=options: lb.scce(backend.tensor(y), p, **o), y_pred)
                    assert np.isfinite(gradient).all(), options
                    np.testing.assert_array_equal(gradient[[1, 3]], np.zeros((2, 2)))
    # Compared as integers: in float32 these two would be the same number.
    with pytest.raises(ValueError, match="16777217"):
        scce(backend, backend.tensor(np.array([1, 2**24 + 1], "int32")), y_pred[:2], ignore_class=2**24)


def test_float_labels_may_be_ignored_too(backend):
    y_pred = np.array([[0.5, 0.5], [NAN, 0.5]], "float32")
    np.testing.assert_allclose(scce(backend, backend.tensor(np.array([1.0, -1.0], "float32")), y_pred, ignore_class=-1), [LOG2, 0], rtol=1e-6)


# Arguments that are not what they should be


def test_two_frameworks_in_one_call(backend):
    others = [name for name in chosen_backends() if name not in ("numpy", backend.name)]
    if backend.name == "numpy" or not others:
        pytest.skip("needs two frameworks")
    for name in others:
        other = load(name)
        values = np.zeros((2, 3), "float32")
        with pytest.raises(TypeError) as info:
            lb.mse(backend.tensor(values), other.tensor(values))
        assert backend.name in str(info.value).lower()
        assert name in str(info.value).lower()
        with pytest.raises(TypeError):
            lb.MeanSquaredError()(backend.tensor(values), backend.tensor(values), other.tensor(np.ones(2, "float32")))


WRONG = {
    "None": None,
    "string": "abc",
    "strings": [["a", "b"]],
    "bytes": b"ab",
    "complex": np.array([[1 + 2j, 0]]),
    "complex number": 1j,
    "object": np.array([[object(), object()]]),
    "date": np.array([["2020-01-01", "2020-01-02"]], "datetime64[D]"),
    "ragged": [[1.0, 2.0], [3.0]],
    "record": np.zeros(2, [("a", "f4"), ("b", "f4")]),
    "dict": {"a": 1.0},
    "set": {1.0, 2.0},
    "function": math.log,
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("argument", ["y_true", "y_pred"])
def test_arguments_that_hold_no_numbers(backend, wrong, argument):
    values = backend.tensor(np.zeros((1, 2), "float32"))
    arguments = {"y_true": values, "y_pred": values, argument: WRONG[wrong]}
    with pytest.raises((TypeError, ValueError)) as info:
        lb.mse(arguments["y_true"], arguments["y_pred"])
    assert "mean_squared_error" in str(info.value)
    assert argument in str(info.value)


@pytest.mark.parametrize("argument", ["y_true", "y_pred"])
def test_tensors_in_a_list(differentiable, argument):
    """They would be read as numbers, and lose their gradient."""
    values = differentiable.tensor(np.zeros((1, 2), "float32"))
    scalar = differentiable.tensor(np.float32(1.0))
    for nested in ([values[0]], [[scalar, scalar]], ((scalar, scalar),)):
        with pytest.raises(TypeError, match=f"mean_squared_error: {argument} is a (list|tuple) of {differentiable.name} tensors"):
            lb.mse(**{"y_true": [[0.0, 0.0]], "y_pred": [[0.0, 0.0]], argument: nested})


@pytest.mark.parametrize("argument", ["y_true", "y_pred"])
def test_a_native_complex_tensor(backend, argument):
    values = backend.tensor(np.zeros((1, 2), "float32"))
    arguments = {"y_true": values, "y_pred": values, argument: backend.tensor(np.zeros((1, 2), "complex64"))}
    with pytest.raises(TypeError, match="mean_squared_error") as info:
        lb.mse(arguments["y_true"], arguments["y_pred"])
    assert argument in str(info.value)
    assert "complex" in str(info.value)


@pytest.mark.parametrize("argument", ["y_true", "y_pred"])
def test_a_masked_array_is_not_taken_for_a_whole_one(backend, argument):
    """Its hidden entries would count as data."""
    values = backend.tensor(np.zeros((1, 2), "float32"))
    arguments = {"y_true": values, "y_pred": values, argument: np.ma.masked_array([[1.0, 2.0]], [[True, False]])}
    with pytest.raises((TypeError, ValueError), match="mask"):
        lb.mse(arguments["y_true"], arguments["y_pred"])


BAD_OPTIONS = [
    ("huber", "delta", [0, 0.0, -1.0, NAN, "1", None, [1.0]]),
    ("categorical_crossentropy", "label_smoothing", [-0.1, 1.5, NAN, INF, "0.1", None, [0.1]]),
    ("sparse_categorical_crossentropy", "label_smoothing", [-0.1, 1.5, NAN]),
    ("binary_crossentropy", "label_smoothing", [-0.1, 1.5, NAN]),
    ("hinge", "labels", ["pm", "AUTO?", 1, None]),
    ("squared_hinge", "labels", ["pm", None]),
    ("categorical_crossentropy", "class_weight", [(1.0, 2.0), (1.0, 2.0, 3.0, 4.0), {3: 1.0}, {-1: 1.0}, "abc", {"a": 1.0}, {0.5: 1.0}]),
    ("sparse_categorical_crossentropy", "class_weight", [(1.0, 2.0), {3: 1.0}]),
    ("binary_crossentropy", "pos_weight", [(1.0, 2.0), (1.0, 2.0, 3.0, 4.0), "abc"]),
    ("sparse_categorical_crossentropy", "ignore_class", [0.5, "a", NAN]),
    ("categorical_crossentropy", "axis", ["last", 1.5, None]),
    ("mean_absolute_percentage_error", "epsilon", [NAN, "a", -1.0]),
    ("binary_crossentropy", "epsilon", [NAN, "a", -1.0]),
    ("categorical_crossentropy", "from_logits", ["yes", None]),
    ("poisson", "log_input", ["no"]),
]


@pytest.mark.parametrize(("name", "option", "value"), [(name, option, value) for name, option, values in BAD_OPTIONS for value in values])
def test_bad_options(name, option, value):
    """Checked by the function and by the constructor, or, where the classes must be known, by the call of the object."""
    y_true, y_pred = sample(name)
    with pytest.raises((ValueError, TypeError)) as info:
        getattr(lb, name)(y_true, y_pred, **{option: value})
    assert name in str(info.value)
    assert option in str(info.value)
    with pytest.raises((ValueError, TypeError)) as info:
        getattr(lb, CLASSES[name])(**{option: value})(y_true, y_pred)
    assert option in str(info.value)


def test_unknown_options_are_errors():
    with pytest.raises(TypeError, match="smoothing"):
        lb.mse(np.zeros((2, 3)), np.zeros((2, 3)), smoothing=1)
    with pytest.raises(TypeError):
        lb.mse(np.zeros((2, 3)))
    with pytest.raises(TypeError):
        lb.mse(np.zeros((2, 3)), np.zeros((2, 3)), None)


def test_the_positional_parameters_keep_their_place():
    """Those of the Keras 1 and Keras 2.3 pages, by position; what is new, by keyword only."""
    y_true, y_pred = np.array([[1.0, 0.0]]), np.array([[2.0, 0.0]])
    assert lb.huber_loss(y_true, y_pred, 0.5)[0] == pytest.approx((0.5 * 1 - 0.125) / 2)
    smoothed = 0.75 * math.log1p(math.exp(-2)) + 0.25 * (2 + math.log1p(math.exp(-2)))
    assert lb.categorical_crossentropy(y_true, y_pred, True, 0.5)[0] == pytest.approx(smoothed)
    by_column = lb.sparse_categorical_crossentropy([0, 0, 1], np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), True, 0)
    np.testing.assert_allclose(by_column, [softplus(-2), LOG2, LOG2])
    assert lb.binary_crossentropy(y_true, y_pred, True, 0.5)[0] == pytest.approx((0.75 * softplus(-2) + 0.25 * softplus(2) + LOG2) / 2)
    assert lb.cosine_proximity(y_true, y_pred, 0).shape == (2,)
    for function, arguments in (
        (lb.categorical_crossentropy, (True, 0.5, -1)),
        (lb.sparse_categorical_crossentropy, (True, -1, None)),
        (lb.hinge, ("auto",)),
    ):
        with pytest.raises(TypeError):
            function(y_true, y_pred, *arguments)


def test_each_option_of_the_definition_is_there():
    options = {
        "mean_squared_error": {},
        "mean_absolute_error": {},
        "mean_absolute_percentage_error": {"epsilon": None},
        "mean_squared_logarithmic_error": {"epsilon": None},
        "squared_hinge": {"labels": "auto"},
        "hinge": {"labels": "auto"},
        "categorical_hinge": {},
        "log_cosh": {},
        "huber": {"delta": 1.0},
        "categorical_crossentropy": {"from_logits": False, "label_smoothing": 0, "axis": -1, "epsilon": None, "class_weight": None},
        "sparse_categorical_crossentropy": {"from_logits": False, "axis": -1, "ignore_class": None, "label_smoothing": 0, "epsilon": None}
        | {"class_weight": None},
        "binary_crossentropy": {"from_logits": False, "label_smoothing": 0, "axis": -1, "epsilon": None, "pos_weight": None},
        "kl_divergence": {"epsilon": None, "from_logits": False},
        "poisson": {"epsilon": None, "log_input": False},
        "cosine_similarity": {"axis": -1},
    }
    for name, defaults in options.items():
        parameters = dict(inspect.signature(getattr(lb, name)).parameters)
        assert list(parameters)[:2] == ["y_true", "y_pred"]
        assert {key: parameter.default for key, parameter in list(parameters.items())[2:]} == defaults, name


def test_the_keyword_names_of_the_arguments(backend):
    values = backend.tensor(np.ones((2, 3), "float32"))
    np.testing.assert_array_equal(backend.numpy(lb.mse(y_pred=values, y_true=values)), [0.0, 0.0])


# The fuzz factor


def test_epsilon_is_read_at_each_call(backend):
    """Also by what a backend may have compiled at an earlier call with the same shapes."""
    zero, one = backend.tensor(np.zeros((2, 2), "float32")), backend.tensor(np.ones((2, 2), "float32"))
    for epsilon in (1e-7, 1e-3, 1e-7, 0.25):
        lb.set_epsilon(epsilon)
        assert lb.epsilon() == epsilon
        np.testing.assert_allclose(backend.numpy(lb.bce(one, zero)), [-math.log(epsilon)] * 2, rtol=1e-6)
        np.testing.assert_allclose(backend.numpy(lb.mape(zero, one)), [100 / epsilon] * 2, rtol=1e-6)
        np.testing.assert_allclose(backend.numpy(lb.poisson(one, zero)), [-math.log(epsilon)] * 2, rtol=1e-6)
        np.testing.assert_allclose(backend.numpy(lb.kld(one, zero)), [-2 * math.log(epsilon)] * 2, rtol=1e-6)
        np.testing.assert_allclose(backend.numpy(lb.cce(one, zero)), [-2 * math.log(epsilon)] * 2, rtol=1e-6)
        np.testing.assert_allclose(backend.numpy(lb.msle(one, zero)), [(math.log1p(epsilon) - LOG2) ** 2] * 2, rtol=1e-6)
        # A keyword wins for one call.
        np.testing.assert_allclose(backend.numpy(lb.bce(one, zero, epsilon=1e-5)), [-math.log(1e-5)] * 2, rtol=1e-6)


def test_epsilon_must_be_a_small_positive_number():
    for value in (0, -1e-7, NAN, INF, "1e-7", None):
        with pytest.raises((ValueError, TypeError)):
            lb.set_epsilon(value)
    assert lb.epsilon() == EPS


def test_a_label_beyond_the_range_of_the_predictions_is_infinite(backend):
    """Without the warning of an overflow in NumPy's cast."""
    with np.errstate(all="raise", over="warn"):
        values = lb.mse(np.array([[1e300]]), backend.tensor(np.zeros((1, 1), "float32")))
    assert backend.numpy(values)[0] == INF
