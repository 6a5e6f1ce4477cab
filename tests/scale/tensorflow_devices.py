"""Cases for four devices, run by test_tensorflow_distribute.py in processes of their own: ``python tensorflow_devices.py replicas``."""

import sys

import numpy as np
import tensorflow as tf
from tensorflow.experimental import dtensor

import lossbackend as lb

RNG = np.random.default_rng(0)
N, C = 9, 4
X, START = RNG.normal(size=(N, 3)).astype("float32"), RNG.normal(size=(3, C)).astype("float32")
IDS = RNG.integers(0, C, N)
WEIGHTS = RNG.uniform(0.5, 2.0, N).astype("float32")
MASK = np.array([1, 1, 1, 0, 0, 0, 1, 1, 1], bool)
KEPT = WEIGHTS * MASK


def textbook(x, ids, w):
    """Cross-entropies of a linear model, and their slopes by its logits."""
    powers = np.exp(np.float64(x @ w))
    softmax = powers / powers.sum(axis=1, keepdims=True)
    return -np.log(softmax[np.arange(len(ids)), ids]), softmax - np.eye(C)[ids]


def replicas():
    """Batches of 4, 4 and 1: of the last one the second replica gets nothing, and masks leave some replicas less than others."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    data = tf.data.Dataset.from_tensor_slices((X, IDS, WEIGHTS, MASK)).batch(4)
    for reduction, weights, rate in (("mean", MASK, 0.5), ("sum", None, 0.05), ("mean_with_sample_weight", KEPT, 0.5)):
        loss = lb.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
        with strategy.scope():
            w = tf.Variable(START)
        train(strategy, data, loss, w, weights, rate)
        evaluate(strategy, data, loss, w, weights)


def train(strategy, data, loss, w, counted, rate):
    """A replica divides by what all replicas count; their values and gradients add up to those of one device."""

    def replica(x, ids, weights, mask):
        everywhere = tf.distribute.get_replica_context()
        with tf.GradientTape() as tape:
            part = loss.partial(ids, x @ w, weights, mask)
            value = part.total
            if part.denominator is not None:
                value /= tf.cast(everywhere.all_reduce("SUM", part.denominator), tf.float32)
        w.assign_sub(rate * everywhere.all_reduce("SUM", tape.gradient(value, w)))
        return value

    @tf.function(reduce_retracing=True)
    def step(batch):
        return strategy.reduce("SUM", strategy.run(replica, args=batch), axis=None)

    found = [float(step(batch)) for batch in strategy.experimental_distribute_dataset(data)]
    exact, expected = np.float64(START), []
    for rows in (slice(0, 4), slice(4, 8), slice(8, 9)):
        losses, slopes = textbook(X[rows], IDS[rows], exact)
        denominator = 1.0 if counted is None else counted[rows].sum()
        expected.append((KEPT[rows] * losses).sum() / denominator)
        exact -= rate * X[rows].T @ (KEPT[rows, np.newaxis] * slopes) / denominator
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(w.numpy(), exact, rtol=1e-4, atol=1e-6)


def evaluate(strategy, data, loss, w, counted):
    """Partial results are added up inside a compiled step and over steps, and so are their parts by `strategy.reduce`."""

    def replica(x, ids, weights, mask):
        return loss.partial(ids, x @ w, weights, mask)

    def parts(x, ids, weights, mask):
        part = replica(x, ids, weights, mask)
        return part.total, part.total if part.denominator is None else part.denominator

    @tf.function(reduce_retracing=True)
    def local(batch):
        return sum(strategy.experimental_local_results(strategy.run(replica, args=batch)))

    @tf.function(reduce_retracing=True)
    def reduced(batch):
        return [strategy.reduce("SUM", part, axis=None) for part in strategy.run(parts, args=batch)]

    losses, _ = textbook(X, IDS, w.numpy())
    total, denominator = (KEPT * losses).sum(), 1.0 if counted is None else counted.sum()
    batches = list(strategy.experimental_distribute_dataset(data))
    np.testing.assert_allclose(sum(map(local, batches)).result(), total / denominator, rtol=1e-5)
    sums = np.sum([[float(part) for part in reduced(batch)] for batch in batches], axis=0)
    np.testing.assert_allclose(sums, [total, total if counted is None else denominator], rtol=1e-5)
    # Eagerly, each replica's partial result comes out.
    eager = [part for batch in batches for part in strategy.experimental_local_results(strategy.run(replica, args=batch))]
    assert len(eager) == 6
    np.testing.assert_allclose(sum(eager).result(), total / denominator, rtol=1e-5)


def spread_tensors():
    """DTensor: samples and classes over two devices each."""
    mesh = dtensor.create_mesh([("data", 2), ("model", 2)], devices=[f"CPU:{i}" for i in range(4)])

    def put(x, *spec):
        return dtensor.relayout(dtensor.copy_to_mesh(x, dtensor.Layout.replicated(mesh, x.ndim)), dtensor.Layout(list(spec), mesh))

    def whole(x):
        return dtensor.relayout(x, dtensor.Layout.replicated(mesh, x.shape.rank)).numpy()

    x, ids, kept = X[:8], IDS[:8], KEPT[:8]
    losses, slopes = textbook(x, ids, START)
    one_hot = np.eye(C, dtype="float32")[ids]
    given = put(ids, "data"), put(WEIGHTS[:8], "data"), put(MASK[:8], "data")
    for classes in (dtensor.UNSHARDED, "model"):
        z = put(x @ START, "data", classes)
        for loss, labels in ((lb.scce, given[0]), (lb.cce, put(one_hot, "data", classes))):
            found = loss(labels, z, from_logits=True)
            assert dtensor.fetch_layout(found).sharding_specs == ["data"]
            np.testing.assert_allclose(whole(found), losses, rtol=1e-5)
        np.testing.assert_allclose(whole(lb.mse(put(one_hot, "data", classes), z)), np.mean((x @ START - one_hot) ** 2, axis=1), rtol=1e-5)
        mean = lb.SparseCategoricalCrossentropy(from_logits=True)

        @tf.function
        def step(z, ids, weights, mask, mean=mean):
            with tf.GradientTape() as tape:
                tape.watch(z)
                value = mean(ids, z, weights, mask)
            return value, tape.gradient(value, z)

        value, slope = step(z, *given)
        np.testing.assert_allclose(whole(value), (kept * losses).sum() / MASK[:8].sum(), rtol=1e-5)
        np.testing.assert_allclose(whole(slope), kept[:, np.newaxis] * slopes / MASK[:8].sum(), rtol=1e-4, atol=1e-6)
        part = mean.partial(given[0], z, given[1], given[2])
        np.testing.assert_allclose([whole(part.total), whole(part.denominator)], [(kept * losses).sum(), MASK[:8].sum()], rtol=1e-5)


if __name__ == "__main__":
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
    {"replicas": replicas, "dtensor": spread_tensors}[sys.argv[1]]()
    print("held")
