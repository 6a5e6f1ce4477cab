"""PyTensor: symbolic losses, against textbook values, hand-made gradients and PyTorch's own loss."""

import importlib
import math
import os
import pickle
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from samples import EVERY_LOSS, expected, expected_gradient, sample

import lossbackend as lb
from lossbackend.testing import assert_parity, check_backend

# Read when PyTensor is imported: what it compiles is kept in this folder, as long as the tests run, and not in the home of who runs them.
COMPILED = tempfile.TemporaryDirectory()
os.environ["PYTENSOR_FLAGS"] = f"base_compiledir={COMPILED.name}"

import pytensor  # noqa: E402
import pytensor.sparse  # noqa: E402
import pytensor.tensor as pt  # noqa: E402

INF, NAN = math.inf, math.nan
FAR = -math.log(1e-7)
Y = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, -1.0]], "float32")
P = np.array([[0.5, 1.0, -2.0], [4.0, 0.25, -1.0]], "float32")
IDS = np.array([2, 0])


@pytest.fixture(autouse=True)
def without_a_compiler():
    with pytensor.config.change_flags(mode="FAST_COMPILE"):
        yield


def matrices(dtype="float32"):
    """y_true and y_pred of unknown shape."""
    return pt.matrix("y", dtype=dtype), pt.matrix("p", dtype=dtype)


def computed(outputs, given):
    """The values of outputs for the values of inputs."""
    return pytensor.function(list(given), outputs, on_unused_input="ignore")(*given.values())


def losses_and_gradient(loss, y, p, **options):
    """Of arrays, by way of a graph that knows no shape."""
    y_true, y_pred = (pt.tensor(dtype=array.dtype, shape=(None,) * array.ndim) for array in (y, p))
    losses = loss(y_true, y_pred, **options)
    assert losses.type.dtype == p.dtype
    return computed([losses, pytensor.grad(losses.sum(), y_pred)], {y_true: y, y_pred: p})


def test_contract():
    check_backend("pytensor")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", EVERY_LOSS)
def test_every_loss(name, dtype):
    y, p = sample(name, dtype=dtype)
    losses, gradient = losses_and_gradient(lb.get(name), y, p)
    values, scales = expected(name, y, p)
    assert losses.dtype == gradient.dtype == dtype
    assert (abs(losses - values) <= 4 * np.finfo(dtype).eps * scales).all()
    np.testing.assert_allclose(gradient, expected_gradient(name, y, p), rtol=64 * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps)


# Of each loss rows of (y, p, loss, gradient); None is not pinned.
EDGES = [
    (lb.mae, {}, [([1.0], [1.0], 0.0, [0.0]), ([1.0], [NAN], NAN, [NAN]), ([0.0], [-INF], INF, [-1.0])]),
    (
        lb.huber,
        {"delta": 0.1},
        [([0.0], [0.1], 0.005, [0.1]), ([0.0], [0.0], 0.0, [0.0]), ([0.0], [-9.0], 0.895, [-0.1]), ([0.0], [INF], INF, [0.1])],
    ),
    (
        lb.log_cosh,
        {},
        [([0.0], [1e-4], 0.5e-8 - 1e-16 / 12, [math.tanh(1e-4)]), ([0.0], [-300.0], 300.0 - math.log(2.0), [-1.0]), ([0.0], [INF], INF, [1.0])],
    ),
    (lb.hinge, {}, [([1.0], [1.0], 0.0, [0.0]), ([0.0], [0.0], 1.0, [1.0]), ([1.0], [INF], 0.0, [0.0]), ([-1.0], [INF], INF, [1.0])]),
    (lb.categorical_hinge, {}, [([1.0, 0.0, 0.0], [0.0, 2.0, 2.0], 3.0, [-1.0, 0.5, 0.5]), ([1.0, 0.0, 0.0], [NAN, 0.0, 0.0], NAN, [NAN, None, None])]),
    (
        lb.bce,
        {},
        [([1.0], [0.0], FAR, [0.0]), ([0.0], [1.0], FAR, [0.0]), ([0.0], [0.0], 0.0, [1.0]), ([0.0], [1e-5], -math.log1p(-1e-5), [1 / (1 - 1e-5)])],
    ),
    (
        lb.bce,
        {"from_logits": True},
        [([0.0], [40.0], 40.0, [1.0]), ([0.0], [-40.0], math.exp(-40), [math.exp(-40)]), ([1.0], [INF], 0.0, [0.0]), ([0.0], [INF], INF, [1.0])],
    ),
    (
        lb.cce,
        {"from_logits": True},
        [
            ([1.0, 0.0], [20.0, 0.0], math.log1p(math.exp(-20)), [None, 1 / (1 + math.exp(20))]),
            ([0.0, 1.0], [1000.0, 0.0], 1000.0, [1.0, -1.0]),
            ([1.0, 0.0], [0.0, -INF], 0.0, [0.0, 0.0]),
            ([1.0, 0.0], [INF, 0.0], NAN, [NAN, NAN]),
        ],
    ),
    (
        lb.cce,
        {},
        [
            ([1.0, 0.0], [0.0, 0.0], FAR, [0.0, 0.0]),
            # The square of the sum, which its slope asks for, is no number.
            ([1.0, 0.0], [2.0**-101, 3 * 2.0**-101], math.log(4), [-0.75 * 2.0**101, 0.25 * 2.0**101]),
            # Not 16.1 for the first class: the sum is infinite.
            ([1.0, 0.0], [0.5, INF], NAN, [NAN, NAN]),
        ],
    ),
    (lb.kld, {}, [([0.0, 1.0], [0.5, 0.5], math.log(2), [0.0, -2.0]), ([0.0, 1.0], [1.0, 0.0], FAR, [0.0, 0.0]), ([-1.0, 1.0], [0.5, 0.5], NAN, [None] * 2)]),
    (lb.poisson, {}, [([1.0], [0.0], FAR, [1 - 1e7]), ([0.0], [0.0], 0.0, [1.0]), ([2.0], [INF], INF, [1.0])]),
    (
        lb.cosine_similarity,
        {},
        [([3.0, 4.0], [0.0, 0.0], 0.0, [0.0, 0.0]), ([1e-30, 0.0], [1e-30, 0.0], -1.0, [0.0, 0.0]), ([3.0, 4.0], [1e30, 0.0], -0.6, [None, -0.8e-30])],
    ),
    (lb.msle, {}, [([0.0], [-1.0], 0.0, [0.0]), ([0.0], [math.e - 1], (1 - math.log1p(1e-7)) ** 2, [2 * (1 - math.log1p(1e-7)) / math.e]), ([0.0], [NAN], NAN, [NAN])]),
    (lb.mape, {}, [([0.0], [1e-7], 100.0, [1e9]), ([2.0], [2.0], 0.0, [0.0]), ([INF], [1.0], 100.0, [0.0])]),
]


def at_edges(edges, dtype):
    """The graph of these losses and gradients, its inputs with their values, and what has to come out."""
    outputs, given, wanted = [], {}, []
    for loss, options, rows in edges:
        y, p = matrices(dtype)
        losses = loss(y, p, **options)
        outputs += [losses, pytensor.grad(losses.sum(), p)]
        given |= {y: np.array([row[0] for row in rows], dtype), p: np.array([row[1] for row in rows], dtype)}
        wanted += [np.array([row[2] for row in rows]), np.array([row[3] for row in rows], object)]
    return outputs, given, wanted


def compare_edges(found, wanted, dtype):
    for got, exact in zip(found, wanted, strict=True):
        assert got.dtype == dtype
        pinned = np.array([entry is not None for entry in exact.flat]).reshape(exact.shape)
        np.testing.assert_allclose(got[pinned], exact[pinned].astype(float), rtol=1e-5 if dtype == "float32" else 1e-9, atol=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("edges", EDGES, ids=lambda edges: edges[0].__name__ + "".join(edges[1]))
def test_edges(edges, dtype):
    outputs, given, wanted = at_edges([edges], dtype)
    compare_edges(computed(outputs, given), wanted, dtype)
