"""Checking mode: what it refuses, what it lets pass, and that it is not there when it is off."""

import math
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import load
from samples import EVERY_LOSS, sample

import lossbackend as lb
from lossbackend import checking

NAN, INF = math.nan, math.inf
HALF = [[0.5, 0.5]]

# loss, y_true, y_pred, options, what the message says
REFUSED = [
    ("mean_squared_error", [[0, 1], [0, NAN]], [[0, 1], [0, 1]], {}, r"mean_squared_error: y_true at index \(1, 1\) is nan, which is not a finite"),
    ("mean_squared_error", [[0, 1]], [[0, -INF]], {}, r"y_pred at index \(0, 1\) is -inf, .* leave the sample out with mask="),
    ("mean_squared_logarithmic_error", [[-2]], [[1]], {}, r"y_true at index \(0, 0\) is -2, which is negative: the loss takes it for epsilon"),
    ("categorical_crossentropy", [[0, 1]], [[1.5, -0.5]], {}, r"y_pred at index \(0, 0\) is 1.5, outside \[0, 1\].*pass from_logits=True"),
    ("categorical_crossentropy", [[0, 1], [0, 1]], [[0.5, 0.5], [0.5, 0.75]], {}, r"y_pred: the row at index 1 sums to 1.25, not to 1"),
    ("categorical_crossentropy", [[0, 1]], HALF, {"from_logits": True}, r"these look like probabilities: drop from_logits=True"),
    ("categorical_crossentropy", [[1, 1]], HALF, {}, r"y_true: the row at index 0 sums to 2, not to 1: .*to_categorical"),
    ("categorical_crossentropy", [[0, 0]], HALF, {}, r"y_true: the row at index 0 sums to 0"),
    ("categorical_crossentropy", [[-1, 2]], HALF, {}, r"y_true at index \(0, 0\) is -1, outside \[0, 1\]"),
    ("categorical_crossentropy", np.ones((2, 3)) / 2, np.ones((2, 3)) / 3, {"axis": 0}, r"y_pred: the row at index 0 sums to 0.666667, not to 1"),
    ("sparse_categorical_crossentropy", [0], [[3, 4]], {}, r"y_pred at index \(0, 0\) is 3, outside \[0, 1\]"),
    ("sparse_categorical_crossentropy", [0], HALF, {"from_logits": True}, "these look like probabilities"),
    ("sparse_categorical_crossentropy", [0, 1], [[3, 4], [NAN, 1]], {"from_logits": True}, r"y_pred at index \(1, 0\) is nan"),
    ("binary_crossentropy", [[0, 1]], [[-0.5, 0.5]], {}, r"y_pred at index \(0, 0\) is -0.5, outside \[0, 1\].*or apply a sigmoid"),
    ("binary_crossentropy", [[0, 1]], [[0, 0.5]], {"from_logits": True}, r"y_pred at index \(0, 1\) is 0.5, and all of y_pred lies in \[0, 1\]"),
    ("binary_crossentropy", [[-1, 1]], HALF, {}, r"y_true at index \(0, 0\) is -1, outside \[0, 1\].*\(y \+ 1\) / 2"),
    ("kl_divergence", [[-0.5, 1.5]], HALF, {}, r"y_true at index \(0, 0\) is -0.5, outside \[0, 1\]"),
    ("kl_divergence", HALF, [[0.5, 0.25]], {}, r"y_pred: the row at index 0 sums to 0.75, not to 1"),
    ("kl_divergence", HALF, HALF, {"from_logits": True}, "these look like probabilities"),
    ("poisson", [[-1]], [[1]], {}, r"y_true at index \(0, 0\) is -1, which is negative"),
    ("poisson", [[1]], [[-1]], {}, r"y_pred at index \(0, 0\) is -1, which is negative: .*log_input=True"),
    ("hinge", [[1, 2]], [[0, 0]], {}, r"y_true at index \(0, 1\) is 2, none of -1, 0, 1"),
    ("squared_hinge", [[1, 0]], [[0, 0]], {"labels": "pm1"}, r"y_true at index \(0, 1\) is 0, none of -1, 1: labels='pm1'"),
    ("squared_hinge", [[1, -1]], [[0, 0]], {"labels": "binary"}, r"y_true at index \(0, 1\) is -1, none of 0, 1"),
    ("categorical_hinge", [[0.5, 0.5]], [[3, 4]], {}, r"y_true at index \(0, 0\) is 0.5, neither 0 nor 1"),
    ("categorical_hinge", [[1, 1]], [[3, 4]], {}, r"y_true: the row at index 0 sums to 2"),
]

# what looks odd and is right
ACCEPTED = [
    ("categorical_crossentropy", [[0.25, 0.75]], HALF, {}),
    ("categorical_crossentropy", [[0, 1]], [[1.0000001, -1e-8]], {}),
    ("categorical_crossentropy", [[0, 1]], [[0.5, 0.9]], {"from_logits": True}),
    ("categorical_crossentropy", [[0, 1]], [[0, 0]], {"from_logits": True}),
    ("binary_crossentropy", [[0.5, 1]], [[0, 1]], {}),
    ("binary_crossentropy", [[0, 1]], [[0, 0]], {"from_logits": True}),
    ("hinge", [[1, 0, -1]], [[9, -9, 0]], {}),
    ("poisson", [[0, 2.5]], [[0, 7]], {}),
    ("poisson", [[1]], [[-7]], {"log_input": True}),
]


def call(backend, name, y_true, y_pred, options):
    y_true = np.array(y_true, None if name.startswith("sparse") else "float32")
    return getattr(lb, name)(backend.tensor(y_true), backend.tensor(np.array(y_pred, "float32")), **options)


@pytest.mark.parametrize(("name", "y_true", "y_pred", "options", "message"), REFUSED)
def test_refused(backend, name, y_true, y_pred, options, message):
    call(backend, name, y_true, y_pred, options)
    with lb.checked(), pytest.raises(ValueError, match=f"^{name}: .*{message.removeprefix(name + ': ')}"):
        call(backend, name, y_true, y_pred, options)


@pytest.mark.parametrize(("name", "y_true", "y_pred", "options"), ACCEPTED)
def test_accepted(backend, name, y_true, y_pred, options):
    with lb.checked():
        call(backend, name, y_true, y_pred, options)


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_ordinary_input_passes(backend, name):
    y_true, y_pred = sample(name)
    if name == "kl_divergence":
        y_true, y_pred = (array / array.sum(axis=-1, keepdims=True) for array in (y_true, y_pred))
    plain = backend.numpy(getattr(lb, name)(backend.tensor(y_true), backend.tensor(y_pred)))
    with lb.checked():
        np.testing.assert_array_equal(backend.numpy(getattr(lb, name)(backend.tensor(y_true), backend.tensor(y_pred))), plain)


def test_what_is_left_out_is_not_looked_at(backend):
    y_true, y_pred = (np.array(rows, "float32") for rows in ([[0, 1], [7, NAN]], [[0.5, 0.5], [INF, -3]]))
    loss = lb.CategoricalCrossentropy()
    y_true, y_pred = backend.tensor(y_true), backend.tensor(y_pred)
    with lb.checked():
        loss(y_true, y_pred, mask=[True, False])
        loss(y_true, y_pred, sample_weight=[2.0, 0.0])
        lb.scce(backend.tensor(np.array([1, -1])), y_pred, ignore_class=-1)
        with pytest.raises(ValueError, match=r"y_true at index \(1, 1\) is nan"):
            loss(y_true, y_pred, mask=[True, True])
        with pytest.raises(ValueError, match="sample_weight at index 0 is inf"):
            loss(y_true, y_pred, sample_weight=[INF, 0.0])


def test_a_users_loss_is_checked_for_what_it_declares(backend):
    @lb.loss
    def spread(ops, y_true, y_pred):
        return ops.max(ops.abs(y_pred - y_true), axis=-1)

    @lb.loss
    def brier(ops, y_true: checking.Probability, y_pred: checking.ProbabilityOrLogit):
        return ops.mean(ops.square(y_pred - y_true), axis=-1)

    good, bad = backend.tensor(np.array([[0.5, 3.0]], "float32")), backend.tensor(np.array([[0.5, NAN]], "float32"))
    with lb.checked():
        spread(good, good)
        with pytest.raises(ValueError, match=r"spread: y_pred at index \(0, 1\) is nan"):
            spread(good, bad)
        with pytest.raises(ValueError, match=r"brier: y_true at index \(0, 1\) is 3, outside"):
            brier(good, good)


def test_nothing_is_looked_at_under_tracing():
    """The flag may be on or off: the call compiles as a whole, and has the same result."""
    torch = load("torch").module
    y_true, y_pred = torch.tensor([[0.0, 2.0]]), torch.tensor([[3.0, NAN]])
    for compiled in (torch.compile(lb.cce, fullgraph=True, backend="eager"), torch.compile(lb.MeanSquaredError(), fullgraph=True, backend="eager")):
        assert compiled(y_true, y_pred).isnan().all()
        with lb.checked():
            assert compiled(y_true, y_pred).isnan().all()
    torch._dynamo.reset()


def test_nothing_is_looked_at_under_jit_and_tf_function():
    jax, tf = load("jax").module, load("tensorflow").module
    y_true, y_pred = np.array([[0.0, 2.0]], "float32"), np.array([[3.0, NAN]], "float32")
    with lb.checked():
        assert np.isnan(jax.jit(lb.cce)(y_true, y_pred)).all()
        assert np.isnan(jax.jit(jax.grad(lambda p: lb.cce(y_true, p).sum()))(y_pred)).all()
        assert np.isnan(tf.function(lb.cce)(tf.constant(y_true), tf.constant(y_pred))).all()


def test_blocks_nest_and_overlap():
    assert not checking.ON
    with lb.checked():
        with lb.checked():
            assert checking.ON
        assert checking.ON
    assert not checking.ON

    inside, leave = threading.Event(), threading.Event()

    def other():
        with lb.checked():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with lb.checked():
        thread.start()
        inside.wait(10)
    assert checking.ON
    leave.set()
    thread.join()
    assert not checking.ON
    with pytest.raises(KeyError), lb.checked():
        raise KeyError
    assert not checking.ON


@pytest.mark.parametrize(("value", "refused"), [("1", True), ("0", False), ("", False)])
def test_environment_variable(value, refused):
    code = "import lossbackend as lb\nlb.mse([[float('nan')]], [[1.0]])\nwith lb.checked(): pass\nlb.mse([[float('nan')]], [[1.0]])"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "LOSSBACKEND_CHECK": value}, capture_output=True, text=True)
    assert (done.returncode != 0) == refused, done.stderr
    assert ("ValueError: mean_squared_error: y_true at index (0, 0) is nan" in done.stderr) == refused


def test_what_bfloat16_leaves_of_a_sum_of_one(backend):
    """Eight bits: three shares may add up to 1.003."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    logits = np.random.default_rng(0).normal(size=(200, 3))
    shares = (np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)).astype(ml_dtypes.bfloat16)
    assert (abs(shares.astype(float).sum(axis=-1) - 1) > 1e-3).any()
    y_true = np.eye(3, dtype="float32")[np.arange(200) % 3]
    with lb.checked():
        lb.cce(y_true, shares if backend.name == "numpy" else backend.tensor(shares, "bfloat16"))
        with pytest.raises(ValueError, match="not to 1"):
            lb.cce(y_true, backend.tensor(shares.astype("float32") * np.float32(0.984375)))


def test_one_weight_may_stand_for_all_samples():
    with lb.checked():
        value = lb.MeanSquaredError(reduction="sum")([[1.0], [2.0]], [[0.0], [math.nan]], sample_weight=[3.0], mask=[True, False])
        with pytest.raises(ValueError, match="sample_weight at index 1 is nan"):
            lb.MeanSquaredError()([[1.0], [2.0]], [[0.0], [0.0]], sample_weight=[math.nan], mask=[False, True])
    assert value == 3.0
