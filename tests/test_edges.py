"""Every number, NaN, infinity, gradient and error that the definition of a loss names, on every backend."""

import math

import numpy as np
import pytest
from samples import CLASS_AXIS, DENSE, EVERY_LOSS, ONE_HOT, expected, expected_gradient, sample

import lossbackend as lb

INF, NAN, EPS = math.inf, math.nan, 1e-7
SATURATED = -math.log(EPS)  # 16.118
LOG2 = math.log(2.0)
FLOATS = pytest.mark.parametrize("dtype", ["float32", "float64"])
HALVES = pytest.mark.parametrize("dtype", ["float16", "bfloat16"])


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def square(x):
    return x * x


# One row per sample: y_true, y_pred, loss, gradient; None where no gradient is promised (the loss is infinite or NaN).
ELEMENTWISE = {
    "bce-probabilities": (
        "binary_crossentropy",
        {},
        [
            (1, 0, SATURATED, 0),
            (0, 0, 0, 1),
            (1, 1, 0, -1),
            (0, 1, SATURATED, 0),
            (1, NAN, NAN, None),
            (0, NAN, NAN, None),
            (NAN, 0.5, NAN, None),
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
            (0, 2**-40, 2**-40, 1),
            (0, 1e-30, 1e-30, 1),
            (1, 0.5, LOG2, -2),
            (0, 0.5, LOG2, 2),
            (0.5, 0, SATURATED / 2, 0.5),
            (0.5, 1, SATURATED / 2, -0.5),
            (0.25, 0.25, -0.25 * math.log(0.25) - 0.75 * math.log(0.75), 0),
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
            (1, NAN, NAN, None),
            (0, NAN, NAN, None),
            (NAN, 0.0, NAN, None),
            (0, 0, LOG2, 0.5),
            (1, 0, LOG2, -0.5),
            (0.25, 0, LOG2, 0.25),
            # nothing saturates
            (0, 40, 40, 1),
            (1, -40, 40, -1),
            (1, 40, math.exp(-40), None),
            (0, -40, math.exp(-40), math.exp(-40)),
            (0, -14, math.log1p(math.exp(-14)), sigmoid(-14)),
            (0, -25, math.log1p(math.exp(-25)), sigmoid(-25)),
            (0, 25, 25, 1),
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
            (0, NAN, NAN, None),
            (1, NAN, NAN, None),
            (NAN, 0.5, NAN, None),
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
            (3, 2, 2 - 3 * math.log(2 + EPS), 1 - 3 / (2 + EPS)),
            (0, 2, 2, 1),
            (1, INF, INF, None),
            (0, INF, INF, None),
            (1, -INF, NAN, None),
            (0, -INF, NAN, None),
            (1, NAN, NAN, None),
            (0, NAN, NAN, None),
            (NAN, 1, NAN, None),
            (NAN, INF, NAN, None),
            (1, -1, NAN, None),
            (0, -1, NAN, None),
            (1, -2e-7, NAN, None),
            (0, -2e-7, NAN, None),
            (0, -5e-8, -5e-8, 1),
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
            (1, 1e4, INF, None),
            (1, NAN, NAN, None),
            (NAN, 0, NAN, None),
        ],
    ),
    "mse": (
        "mean_squared_error",
        {},
        [(0, 0, 0, 0), (1, 3, 4, 4), (0, -3, 9, -6), (1, INF, INF, None), (1, -INF, INF, None), (INF, 0, INF, None), (INF, INF, NAN, None)]
        + [(1, NAN, NAN, None), (NAN, 1, NAN, None)],
    ),
    "mae": (
        "mean_absolute_error",
        {},
        [(0, 0, 0, 0), (2, 2, 0, 0), (1, 3, 2, 1), (1, -1, 2, -1), (1, INF, INF, None), (1, -INF, INF, None), (INF, 0, INF, None)]
        + [(INF, INF, NAN, None), (1, NAN, NAN, None), (NAN, 1, NAN, None)],
    ),
    "mape": (
        "mean_absolute_percentage_error",
        {},
        [(0, 0, 0, 0), (2, 2, 0, 0), (2, 3, 50, 50), (-2, -3, 50, -50), (-4, 0, 100, 25)]
        # y = 0 is divided by epsilon
        + [(0, 1, 100 / EPS, 100 / EPS), (0, -1, 100 / EPS, -100 / EPS), (1e-9, 1, 100 / EPS * (1 - 1e-9), 100 / EPS)]
        + [(1, INF, INF, None), (1, -INF, INF, None), (0, INF, INF, None), (1, NAN, NAN, None), (NAN, 1, NAN, None)],
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
            (1, NAN, NAN, None),
            (NAN, 1, NAN, None),
        ],
    ),
    "msle-epsilon": ("mean_squared_logarithmic_error", {"epsilon": 0.5}, [(1, 0, square(math.log(0.75)), 0), (1, 0.5, square(math.log(0.75)), None)]),
    "log_cosh": (
        "log_cosh",
        {},
        [
            (0, 0, 0, 0),
            (2, 2, 0, 0),
            (0, 2**-13, 2**-27, 2**-13),
            (0, -(2**-13), 2**-27, -(2**-13)),
            (0, 1e-10, 5e-21, 1e-10),
            (0, 1e-17, 5e-35, 1e-17),
            (0, 0.5, math.log(math.cosh(0.5)), math.tanh(0.5)),
            (0, -0.5, math.log(math.cosh(0.5)), -math.tanh(0.5)),
            # either side of the change of formula
            (0, 1 - 2**-12, math.log(math.cosh(1 - 2**-12)), math.tanh(1 - 2**-12)),
            (0, 1, math.log(math.cosh(1)), math.tanh(1)),
            (0, 1 + 2**-12, math.log(math.cosh(1 + 2**-12)), math.tanh(1 + 2**-12)),
            (0, 3, math.log(math.cosh(3)), math.tanh(3)),
            (0, 100, 100 - LOG2, 1),
            (0, -1e4, 1e4 - LOG2, -1),
            (0, 1e38, 1e38, 1),
            (0, -3e38, 3e38, -1),
            (1, INF, INF, 1),
            (1, -INF, INF, -1),
            (INF, 1, INF, -1),
            (0, NAN, NAN, None),
            (NAN, 0, NAN, None),
            (INF, INF, NAN, None),
        ],
    ),
    "huber": (
        "huber",
        {},
        [(0, 0, 0, 0), (2, 2, 0, 0), (0, 0.5, 0.125, 0.5), (0, 1, 0.5, 1), (0, -1, 0.5, -1), (0, 2, 1.5, 1), (0, -3, 2.5, -1), (0, 1e38, 1e38, 1)]
        + [(1, INF, INF, 1), (1, -INF, INF, -1), (INF, 1, INF, -1), (0, NAN, NAN, None), (NAN, 0, NAN, None), (INF, INF, NAN, None)],
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
    "hinge-pm1": ("hinge", {"labels": "pm1"}, [(0, 3, 1, 0), (1, 0.5, 0.5, -1), (-1, 0.5, 1.5, 1), (2, 0.25, 0.5, -2)]),
    "hinge-binary": ("hinge", {"labels": "binary"}, [(0, 0.5, 1.5, 1), (1, 0.5, 0.5, -1), (0.5, 3, 1, 0), (-1, 1, 4, 3)]),
    "squared_hinge": (
        "squared_hinge",
        {},
        [(1, 0, 1, -2), (-1, 0, 1, 2), (0, 0, 1, 2), (1, 1, 0, 0), (-1, -1, 0, 0), (1, 2, 0, 0), (1, 0.5, 0.25, -1), (0, 0.5, 2.25, 3)]
        + [(1, INF, 0, 0), (-1, INF, INF, None), (1, -INF, INF, None), (-1, -INF, 0, 0), (1, NAN, NAN, None), (NAN, 1, NAN, None)],
    ),
    "squared_hinge-pm1": ("squared_hinge", {"labels": "pm1"}, [(0, 3, 1, 0), (1, 0.5, 0.25, -1), (-1, 0.5, 2.25, 3)]),
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
    "cce-probabilities-epsilon": ("categorical_crossentropy", {"epsilon": 0.125}, [((1, 0), (0, 1), 3 * LOG2, (0, 0)), ((1, 0), (0, 0), 3 * LOG2, (0, 0))]),
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
            ((1e38, 1e-38), (1e-38, 1e38), None, None),
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


def close(actual, wanted, dtype, ulps=8, what=""):
    """Equal up to rounding; a promised 0 is exactly 0."""
    assert actual.dtype == dtype, f"{what} is {actual.dtype}"
    np.testing.assert_allclose(actual, np.array(wanted, "float64"), rtol=ulps * float(np.finfo(dtype).eps), atol=0, err_msg=str(what))


@pytest.mark.parametrize("case", TABLE)
@FLOATS
def test_value(backend, dtype, case):
    function, y_true, y_pred, losses, _ = columns(TABLE[case], dtype)
    result = function(backend.tensor(y_true), backend.tensor(y_pred))
    assert backend.is_native(result)
    values = backend.numpy(result)
    assert values.shape == (len(losses),)
    assert values.dtype == dtype
    for index, wanted in enumerate(losses):
        if wanted is not None:
            close(values[index], wanted, dtype, what=TABLE[case][2][index])


@pytest.mark.parametrize("case", TABLE)
@FLOATS
def test_gradient(differentiable, dtype, case):
    function, y_true, y_pred, losses, gradients = columns(TABLE[case], dtype)
    slopes = differentiable.grad(lambda p: function(differentiable.tensor(y_true), p), y_pred)
    assert slopes.dtype == dtype
    for index, wanted in enumerate(gradients):
        row = TABLE[case][2][index]
        if losses[index] is not None and math.isfinite(losses[index]):
            assert np.isfinite(slopes[index]).all(), (row, slopes[index])
        if wanted is not None:
            close(slopes[index], np.reshape(wanted, -1), dtype, ulps=16, what=row)
