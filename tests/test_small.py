"""TensorFlow: a loss that is called again and again on small tensors is one operation, with the same numbers and all derivatives."""

import subprocess
import sys

import conftest
import numpy as np
import pytest
import reference
from test_tracing import CASES, IDENTITIES, LOGITS, REAL, assert_close, exact, full_weights

import lossbackend as lb

CALLS = 20
ERROR = LOGITS.astype("float64") - REAL
TANH = np.tanh(ERROR)


@pytest.fixture
def tf():
    if "tensorflow" not in conftest.chosen_backends():
        pytest.skip("tensorflow was not chosen")
    return conftest.load("tensorflow").module


@pytest.fixture
def runs(tf, monkeypatch):
    """Grows with each run of a traced function; nothing is traced yet."""
    from lossbackend.backends import tensorflow_backend as adapter

    found, run = [], adapter._Traced._run
    monkeypatch.setattr(adapter._Traced, "_run", lambda self, tensors: found.append(self) or run(self, tensors))
    adapter._small.cache_clear()
    return found


def again(loss, *arguments, **options):
    for _ in range(CALLS):
        values = loss(*arguments, **options)
    return values


@pytest.mark.parametrize(("name", "y_true", "y_pred", "options"), CASES, ids=IDENTITIES)
def test_values_and_gradients(tf, runs, name, y_true, y_pred, options):
    loss, y, p = getattr(lb, name), tf.constant(y_true), tf.constant(y_pred)
    assert_close(again(loss, y, p, **options), exact(name, y_true, y_pred, options))
    before = len(runs)
    with tf.GradientTape() as tape:
        tape.watch(p)
        values = loss(y, p, **options)
    found = tape.gradient(values, p)
    assert len(runs) == before + 2
    assert_close(values, exact(name, y_true, y_pred, options))
    if options.get("axis") == 0:
        y_true, y_pred, found = y_true.T, y_pred.T, tf.transpose(found)
    options = {key: value for key, value in {**options, **full_weights(options)}.items() if key != "axis"}
    wanted = [[float(slope) for slope in reference.gradient(name, a, b, **options)] for a, b in zip(y_true.tolist(), y_pred.tolist(), strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("recording_is_known", [True, False])
def test_every_derivative(tf, runs, monkeypatch, recording_is_known):
    if not recording_is_known:
        monkeypatch.setattr("lossbackend.backends.tensorflow_backend.could_possibly_record", lambda: True)
    y, p = tf.constant(REAL), tf.Variable(LOGITS)
    assert_close(again(lb.log_cosh, y, p), np.log(np.cosh(ERROR)).mean(axis=-1))
    with tf.GradientTape() as third, tf.GradientTape() as second:
        with tf.GradientTape(persistent=True) as first:
            first.watch(y)
            values = lb.log_cosh(y, p)
            total = 2.0 * tf.reduce_sum(values)
        slope = first.gradient(values, p)
        curvature = second.gradient(slope, p)
    assert_close(slope, TANH / 3)
    assert_close(curvature, (1 - TANH**2) / 3)
    assert_close(third.gradient(curvature, p), -2 * TANH * (1 - TANH**2) / 3)
    for _ in range(2):
        assert_close(first.gradient(total, y), -2 * TANH / 3)
    for pfor in (True, False):
        assert_close(first.jacobian(values, p, experimental_use_pfor=pfor), np.eye(4)[:, :, None] * TANH / 3)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            values = lb.log_cosh(y, p)
        by_p = inner.jacobian(values, p)
    assert_close(tf.reduce_sum(outer.jacobian(by_p, p), axis=[0, 1, 2]), (1 - TANH**2) / 3)
    assert runs


def test_forward_mode(tf, runs):
    y, p = tf.constant(REAL), tf.constant(LOGITS)
    again(lb.log_cosh, y, p)
    before = len(runs)
    with tf.autodiff.ForwardAccumulator(p, tf.ones_like(p)) as accumulator:
        with tf.GradientTape() as tape:
            tape.watch(p)
            values = lb.log_cosh(y, p)
        slope = tape.gradient(values, p)
    assert_close(accumulator.jvp(values), TANH.mean(axis=-1))
    assert_close(accumulator.jvp(slope), (1 - TANH**2) / 3)
    assert len(runs) > before


def test_class_ids_have_no_gradient(tf, runs):
    ids, p = tf.constant([0, 2, 1, 2]), tf.constant(LOGITS)
    again(lb.scce, ids, p, from_logits=True)
    with tf.GradientTape() as tape:
        tape.watch(p)
        values = lb.scce(ids, p, from_logits=True)
    softmax = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=-1, keepdims=True)
    by_ids, by_p = tape.gradient(values, [ids, p])
    assert by_ids is None
    assert_close(by_p, softmax - np.eye(3)[[0, 2, 1, 2]])


def test_one_trace_for_all_sizes(tf, runs):
    """But for each type and rank one of its own."""
    for shape in ((4, 3), (7, 2), (1, 5), (0, 3), (2, 4, 3)):
        for dtype in ("float32", "float64"):
            y_pred = np.random.default_rng(1).normal(size=shape).astype(dtype)
            y, p = tf.zeros(shape, dtype), tf.constant(y_pred)
            values = again(lb.log_cosh, y, p)
            assert values.dtype == dtype
            np.testing.assert_allclose(values, np.log(np.cosh(y_pred)).mean(axis=-1), rtol=1e-5)
            with tf.GradientTape() as tape:
                tape.watch(p)
                values = lb.log_cosh(y, p)
            np.testing.assert_allclose(tape.gradient(values, p), np.tanh(y_pred) / shape[-1], rtol=1e-5)
    assert len(set(runs)) == 2 * 4  # each with its gradient


def test_what_changes_all_the_time_is_not_traced(tf, runs):
    y, p = tf.constant(REAL), tf.constant(LOGITS)
    for step in range(5 * CALLS):
        delta = 1.0 + step / 100
        assert_close(lb.huber(y, p, delta), exact("huber", REAL, LOGITS, {"delta": delta}) if step % CALLS == 0 else lb.huber(y, p, delta))
    assert not runs
    # A learned option is no constant.
    for delta in np.linspace(0.5, 1.5, CALLS):
        assert_close(lb.huber(y, p, delta=tf.Variable(delta, dtype="float32")), exact("huber", REAL, LOGITS, {"delta": delta}))
    assert not runs


def test_epsilon_of_the_call(tf, runs):
    one, zero = tf.ones((1, 1)), tf.zeros((1, 1))
    for epsilon in (1e-7, 0.25, 1e-7):
        lb.set_epsilon(epsilon)
        assert_close(again(lb.bce, one, zero), [-np.log(epsilon)])
    assert len(set(runs)) == 2


def test_a_loss_of_ones_own_runs_as_it_is_written(tf, runs):
    scale = 1.0

    @lb.loss
    def own(ops, y_true, y_pred):
        # (Operations enough to be traced, if it were.)
        size = ops.log(ops.exp(ops.relu(ops.abs(ops.clip(y_pred - y_true, -100.0, 100.0)))))
        return ops.mean(scale * size, axis=-1)

    for scale in (1.0, 3.0):  # the definition reads it
        assert_close(again(own, tf.constant(REAL), tf.constant(LOGITS)), scale * np.abs(ERROR).mean(axis=-1))
    assert not runs


@pytest.mark.parametrize("samples", [4, 100_000])
def test_a_loss_of_ones_own_may_look_at_values(tf, samples):
    @lb.loss
    def own(ops, y_true, y_pred):
        sign = 1.0 if float(y_pred[0, 0]) > 0 else -1.0
        return sign * ops.mean(y_pred - y_true, axis=-1)

    for first in (1.0, -1.0):
        y_pred = tf.fill((samples, 2), first)
        assert_close(own(tf.zeros((samples, 2)), y_pred), np.ones(samples))


def test_functions_that_are_run_eagerly(tf, runs):
    tf.config.run_functions_eagerly(True)
    try:
        values = again(lb.log_cosh, tf.constant(REAL), tf.constant(LOGITS))
    finally:
        tf.config.run_functions_eagerly(False)
    assert_close(values, np.log(np.cosh(ERROR)).mean(axis=-1))


def test_inside_functions_and_maps_it_is_the_definition(tf, runs):
    y, p = tf.constant(REAL), tf.constant(LOGITS)
    again(lb.log_cosh, y, p)
    before = len(runs)
    assert_close(tf.function(lambda p: lb.log_cosh(y, p))(p), np.log(np.cosh(ERROR)).mean(axis=-1))
    assert_close(tf.vectorized_map(lambda pair: lb.log_cosh(*pair), (y, p)), np.log(np.cosh(ERROR)).mean(axis=-1))
    assert len(runs) == before


PROCESSES = {
    # TensorFlow's threads do not live on in a forked process.
    "fork": """
child = os.fork()
if child == 0:
    os._exit(0 if right(loss(y, p)) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
""",
    # Each holds a thread of TensorFlow's while it waits, and there are as many as processors.
    "py_functions": """
def call(y, p):
    return tf.py_function(loss, [y, p], tf.float32)
together = tf.function(lambda y, p: call(y, p) + call(y, p) + call(y, p) + call(y, p), autograph=False)
threads = [threading.Thread(target=lambda: [together(y, p) for _ in range(20)]) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert right(together(y, p) / 4)
""",
}


@pytest.mark.parametrize("way", PROCESSES)
def test_it_waits_for_no_thread(tf, way):
    if way == "fork" and sys.platform == "win32":
        pytest.skip("no fork on this system")
    code = f"""
import os, threading, numpy as np, tensorflow as tf, lossbackend as lb
loss, y, p = lb.log_cosh, tf.zeros((32, 10)), tf.ones((32, 10))
def right(values): return np.allclose(values, np.log(np.cosh(1.0)), rtol=1e-5)
for _ in range({CALLS}): loss(y, p)
{PROCESSES[way]}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
