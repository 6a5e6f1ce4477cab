"""dask: lazy losses of arrays and data frames, against textbook values and the same call on one array."""

import contextlib
import os
import signal

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster

import lossbackend as lb
from lossbackend.dask import map_loss, reduce_loss

RNG = np.random.default_rng(0)
Y, P = RNG.normal(size=(2, 11, 6))
LOGITS = RNG.normal(size=(11, 6))
IDS = RNG.integers(0, 6, 11)
WEIGHTS = RNG.uniform(0.0, 2.0, 11)
MASK = RNG.random(11) > 0.3
CHUNKS = [((4, 4, 3), 6), ((1, 9, 1), (2, 3, 1)), (11, 1)]


@lb.loss
def power(ops, y_true, y_pred, *, exponent=3.0):
    """A user's own."""
    return ops.mean(ops.abs(y_pred - y_true) ** exponent, axis=-1)


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def never(*shape):
    """An array that cannot be computed."""

    def fail():
        raise AssertionError("something was computed")

    return da.from_delayed(dask.delayed(fail)(), shape, np.float64)


def cross_entropy(ids, logits, axis=-1):
    """log Σ exp z − z of the true class."""
    logits = np.moveaxis(logits, axis, -1)
    return np.log(np.exp(logits).sum(axis=-1)) - np.take_along_axis(logits, ids[..., np.newaxis], -1)[..., 0]


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("loss", ["mse", lb.mse, lb.MeanSquaredError, lb.MeanSquaredError(reduction="none")])
def test_dense(chunks, loss):
    losses = map_loss(loss, da.from_array(Y, chunks=(5, 2)), da.from_array(P, chunks=chunks))
    assert losses.shape == (11,)
    assert losses.dtype == losses.compute().dtype == np.float64
    np.testing.assert_allclose(losses, ((Y - P) ** 2).mean(axis=1), rtol=1e-14)


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("column", [False, True])
def test_class_ids(chunks, column):
    ids = da.from_array(IDS[:, np.newaxis] if column else IDS, chunks=3)
    losses = map_loss("sparse_categorical_crossentropy", ids, da.from_array(LOGITS, chunks=chunks), from_logits=True)
    np.testing.assert_allclose(losses, cross_entropy(IDS, LOGITS), rtol=1e-13)
    one_hot = da.from_array(np.eye(6)[IDS], chunks=(2, 5))
    losses = map_loss(lb.CategoricalCrossentropy(from_logits=True), one_hot, da.from_array(LOGITS, chunks=chunks))
    np.testing.assert_allclose(losses, cross_entropy(IDS, LOGITS), rtol=1e-13)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
def test_any_axis_of_three(axis):
    logits = RNG.normal(size=(3, 4, 5))
    ids = RNG.integers(0, logits.shape[axis], np.delete(logits.shape, axis))
    losses = map_loss("sparse_categorical_crossentropy", da.from_array(ids, chunks=2), da.from_array(logits, chunks=2), axis=axis, from_logits=True)
    np.testing.assert_allclose(losses, cross_entropy(ids, logits, axis), rtol=1e-13)
    reduced = reduce_loss("sparse_categorical_crossentropy", ids, da.from_array(logits, chunks=2), axis=axis, from_logits=True)
    np.testing.assert_allclose(reduced, cross_entropy(ids, logits, axis).mean(), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "bool"])
@pytest.mark.parametrize("inside", [None, "torch", "jax"])
def test_dtype_is_that_of_a_call(dtype, inside):
    y_pred = P.astype(dtype)
    with lb.use_backend(inside or "numpy") as ops:
        wanted = ops.to_numpy(lb.mae(Y, y_pred))
    losses, reduced = map_loss("mae", Y, da.from_array(y_pred, chunks=4), backend=inside), reduce_loss("mae", Y, y_pred, backend=inside)
    assert losses.dtype == losses.compute().dtype == reduced.dtype == reduced.compute().dtype == wanted.dtype
    np.testing.assert_allclose(losses, np.abs(Y - y_pred.astype("float64")).mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(reduced, np.abs(Y - y_pred.astype("float64")).mean(), rtol=1e-6)


@pytest.mark.parametrize("chunks", CHUNKS)
def test_reductions_with_weights_and_masks(chunks):
    y, p, weights = da.from_array(Y, chunks=4), da.from_array(P, chunks=chunks), da.from_array(WEIGHTS, chunks=2)
    losses = np.abs(Y - P).mean(axis=1)
    kept = MASK * WEIGHTS * losses
    expected = {"sum": kept.sum(), "mean": kept.sum() / MASK.sum(), "mean_with_sample_weight": kept.sum() / (MASK * WEIGHTS).sum()}
    for reduction, value in expected.items():
        found = reduce_loss(lb.MeanAbsoluteError(reduction), y, p, weights, MASK)
        assert found.shape == ()
        np.testing.assert_allclose(found, value, rtol=1e-14)
    np.testing.assert_allclose(reduce_loss("mae", y, p), losses.mean(), rtol=1e-14)
    np.testing.assert_allclose(reduce_loss("mae", y, p, 0.5), 0.5 * losses.mean(), rtol=1e-14)
    # What is masked reaches nothing, NaN neither.
    p = da.where(MASK[:, np.newaxis], p, np.nan)
    np.testing.assert_allclose(reduce_loss("mae", y, p, mask=MASK), losses[MASK].mean(), rtol=1e-14)


def test_weights_of_class_and_time():
    ids, logits, weights = RNG.integers(0, 3, (4, 5)), RNG.normal(size=(4, 5, 3)), RNG.uniform(size=4)
    loss = lb.SparseCategoricalCrossentropy(from_logits=True, class_weight={1: 2.0}, reduction="mean_with_sample_weight", ignore_class=2)
    found = reduce_loss(loss, da.from_array(ids, chunks=2), da.from_array(logits, chunks=2), da.from_array(weights, chunks=3))
    w = np.array([1.0, 2.0, 0.0])[ids] * weights[:, np.newaxis]
    np.testing.assert_allclose(found, (w * cross_entropy(ids, logits)).sum() / w.sum(), rtol=1e-13)


def test_a_thousand_float32_blocks_lose_no_digit():
    y_pred = da.full((1_000, 1), np.float32(0.1), chunks=1, dtype="float32")
    exact = float(np.float32(0.1)) * 1000
    assert abs(reduce_loss(lb.MeanAbsoluteError("sum"), da.zeros((1_000, 1)), y_pred).compute() - exact) < np.spacing(np.float32(exact))


def test_data_frames():
    data = pd.DataFrame({"y": IDS, "w": WEIGHTS, "m": MASK, **{f"p{i}": LOGITS[:, i] for i in range(6)}})
    frame = dd.from_pandas(data, npartitions=3).clear_divisions()
    logits = frame[[f"p{i}" for i in range(6)]]
    for ids in (frame["y"], frame[["y"]]):
        losses = map_loss("sparse_categorical_crossentropy", ids, logits, from_logits=True)
        assert np.isnan(losses.shape[0])
        np.testing.assert_allclose(losses.compute(), cross_entropy(IDS, LOGITS), rtol=1e-13)
    found = reduce_loss(lb.SparseCategoricalCrossentropy(from_logits=True), frame["y"], logits, frame["w"], frame["m"])
    np.testing.assert_allclose(found, (MASK * WEIGHTS * cross_entropy(IDS, LOGITS)).sum() / MASK.sum(), rtol=1e-13)
    # A column is N samples, of a data frame as of an array (N, 1).
    for y_pred in (frame["p0"], frame[["p0"]], frame["p0"].to_dask_array()[:, np.newaxis]):
        np.testing.assert_allclose(map_loss("mse", frame["w"], y_pred).compute(), (WEIGHTS - LOGITS[:, 0]) ** 2, rtol=1e-13)


@pytest.mark.parametrize("inside", ["numpy", "torch", "jax"])
def test_any_backend_in_a_block(inside):
    y, p = (x.astype("float32") for x in (Y, P))
    losses = map_loss(power, da.from_array(y, chunks=4), da.from_array(p, chunks=(3, 2)), backend=inside, exponent=2.0)
    assert isinstance(losses.compute(), np.ndarray)
    seen = set()

    @lb.loss
    def witness(ops, y_true, y_pred):
        seen.add(ops.name)
        return ops.mean(y_pred, axis=-1)

    map_loss(witness, da.from_array(y), da.from_array(p), backend=inside).compute()
    assert seen == {inside}
    np.testing.assert_allclose(losses, ((Y - P) ** 2).mean(axis=1), rtol=1e-5)
    found = reduce_loss(power, da.from_array(y, chunks=4), da.from_array(p, chunks=(3, 2)), WEIGHTS, MASK, backend=inside, exponent=2.0)
    np.testing.assert_allclose(found, (MASK * WEIGHTS * ((Y - P) ** 2).mean(axis=1)).sum() / MASK.sum(), rtol=1e-5)


def test_the_backend_and_epsilon_are_those_of_the_call():
    """What computes later, or elsewhere, has defaults of its own."""
    zeros, ones = da.zeros((2, 1)), da.ones((2, 1))
    lb.set_epsilon(1e-3)
    with lb.use_backend("jax"):
        losses, reduced = map_loss("binary_crossentropy", ones, zeros), reduce_loss("binary_crossentropy", ones, zeros)
    lb.set_epsilon(1e-7)
    assert losses.dtype == reduced.dtype == np.float32
    np.testing.assert_allclose([*losses.compute(), reduced.compute()], -np.log(1e-3), rtol=1e-5)


def test_nothing_is_computed_before_it_is_asked_for():
    calls = []

    @lb.loss
    def counted(ops, y_true, y_pred):
        calls.append(ops.shape(y_pred))
        return ops.mean(y_pred - y_true, axis=-1)

    map_loss(counted, never(11, 6), never(11, 6))
    reduce_loss(counted, never(11, 6), never(11, 6), never(11), never(11))
    lazy = map_loss(counted, da.from_array(Y, chunks=6), da.from_array(P, chunks=6))
    assert not calls
    lazy.compute()
    assert sorted(calls) == [(5, 6), (6, 6)]
    with pytest.raises(AssertionError, match="something was computed"):
        map_loss(counted, never(11, 6), never(11, 6)).compute()


def test_input_without_samples_or_axes():
    assert map_loss("mse", da.zeros((0, 3)), da.zeros((0, 3))).compute().shape == (0,)
    assert reduce_loss("mse", da.zeros((0, 3)), da.zeros((0, 3))).compute() == 0.0
    # Of rank 1 is one sample, in as many blocks as it may be.
    for compute in (map_loss, reduce_loss):
        assert compute("mse", da.zeros(4, chunks=1), da.arange(4.0, chunks=3)).compute() == 3.5


def test_mistakes():
    y, p = da.from_array(Y, chunks=4), da.from_array(P, chunks=4)
    with pytest.raises(ValueError, match=r"Huber.*reduces nothing.*lossbackend\.dask\.map_loss"):
        reduce_loss(lb.Huber(reduction="none"), y, p)
    with pytest.raises(ValueError, match="must have the same shape"):
        map_loss("mse", y[:1], p)
    with pytest.raises(ValueError, match="use sparse_categorical_crossentropy"):
        map_loss("categorical_crossentropy", da.from_array(IDS), p)
    with pytest.raises(ValueError, match="sample_weight of shape"):
        reduce_loss("mse", y, p, sample_weight=[1.0, 2.0])
    with pytest.raises(ValueError, match="Did you mean 'torch'"):
        map_loss("mse", y, p, backend="tirch")
    with pytest.raises(TypeError, match="unknown option 'detla'"):
        map_loss("huber", y, p, detla=1.0)
    with pytest.raises(ValueError, match="class ids from 0 to 5"):
        map_loss("sparse_categorical_crossentropy", da.from_array(IDS + 6), p).compute()


def test_samples_that_depend_on_each_other():
    @lb.loss(interacting=True)
    def centred(ops, y_true, y_pred):
        error = y_pred - y_true
        return ops.mean(ops.square(error - ops.mean(error, axis=0, keepdims=True)), axis=-1)

    y, p, expected = da.from_array(Y, chunks=4), da.from_array(P, chunks=4), ((P - Y - (P - Y).mean(axis=0)) ** 2).mean(axis=1)
    with pytest.raises(ValueError, match=r"centred: its samples depend on each other.*rechunk"):
        map_loss(centred, y, p)
    # Blocks of the labels divide the predictions too.
    for labels, predictions in ((y, p.rechunk(-1)), (y.rechunk(-1), p)):
        with pytest.raises(ValueError, match=r"centred: its samples depend on each other.*rechunk"):
            reduce_loss(centred, labels, predictions)
    np.testing.assert_allclose(map_loss(centred, y.rechunk(-1), p.rechunk(-1)), expected, rtol=1e-12)


def test_on_threads_and_processes():
    @lb.loss
    def local(ops, y_true, y_pred):
        """Is pickled by value."""
        return ops.mean(ops.abs(y_pred - y_true), axis=-1)

    y, p = da.from_array(Y, chunks=4), da.from_array(P, chunks=(3, 2))
    for scheduler in ("threads", "processes"):
        losses, reduced = dask.compute(map_loss(local, y, p), reduce_loss(local, y, p), scheduler=scheduler, num_workers=2)
        np.testing.assert_allclose(losses, np.abs(Y - P).mean(axis=1), rtol=1e-14)
        np.testing.assert_allclose(reduced, np.abs(Y - P).mean(), rtol=1e-14)


@contextlib.contextmanager
def at_most(seconds):
    def stop(signum, frame):
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_cluster_that_loses_a_worker(tmp_path):
    @lb.loss
    def local(ops, y_true, y_pred):
        return ops.mean(ops.abs(y_pred - y_true), axis=-1)

    killed = tmp_path / "killed"

    def dies_once(block, block_info=None):
        if block_info[0]["chunk-location"][0] == 6:
            with contextlib.suppress(FileExistsError):
                killed.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return block

    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None, "memory_limit": 0}
    with (
        at_most(120),
        dask.config.set(scheduler=None),
        LocalCluster(**options, silence_logs=50, local_directory=str(tmp_path)) as cluster,
        Client(cluster) as client,
    ):
        p = da.from_array(P, chunks=(1, 3)).map_blocks(dies_once, dtype=P.dtype, meta=np.empty((0, 0)))
        y = da.from_array(Y, chunks=(2, 6))
        futures = client.compute([reduce_loss(local, y, p, WEIGHTS, MASK), map_loss(local, y, p)])
        reduced, losses = (future.result(timeout=90) for future in futures)
        torch = client.compute(reduce_loss("huber", y, p, backend="torch")).result(timeout=90)
    assert killed.exists()
    np.testing.assert_allclose(losses, np.abs(Y - P).mean(axis=1), rtol=1e-14)
    np.testing.assert_allclose(reduced, (MASK * WEIGHTS * np.abs(Y - P).mean(axis=1)).sum() / MASK.sum(), rtol=1e-14)
    error = np.abs(Y - P)
    np.testing.assert_allclose(torch, np.where(error < 1, 0.5 * error**2, error - 0.5).mean(), rtol=1e-13)


def test_page(run_page):
    run_page("engines/dask")
