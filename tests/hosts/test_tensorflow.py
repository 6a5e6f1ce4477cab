"""TensorFlow without Keras: loops of one's own, tf.function, XLA, tf.data, tf.distribute and SavedModel."""

import linecache
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import lossbackend as lb
import lossbackend.tensorflow as ltf

pytestmark = pytest.mark.host("TensorFlow", "tensorflow-cpu", "`loss(y_true, y_pred)` in `tf.GradientTape`, `tf.function`, XLA, `tf.distribute`")


class Network(tf.Module):
    def __init__(self, features, outputs, seed=0):
        super().__init__()
        draw = np.random.default_rng(seed)
        self.w = [tf.Variable((draw.normal(size=s) / np.sqrt(s[0])).astype("float32")) for s in ((features, 32), (32, outputs))]

    def __call__(self, x):
        return tf.nn.relu(x @ self.w[0]) @ self.w[1]


def sparse(y, z):
    return lb.scce(y, z, from_logits=True)


def built_in_sparse(y, z):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)


def train(loss, data, features, outputs, compiler, rate=0.5, epochs=10):
    """(model, curve): gradient descent over batches."""
    model = Network(features, outputs)

    def step(x, y):
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(y, model(x)))
        for variable, slope in zip(model.w, tape.gradient(value, model.w), strict=True):
            variable.assign_sub(rate * slope)
        return value

    step = compiler(step)
    return model, [float(step(x, y)) for _ in range(epochs) for x, y in data]


COMPILERS = {
    "eager": lambda step: step,
    "tf.function": tf.function,
    "XLA": tf.function(jit_compile=True),
    "unknown batch": lambda step: tf.function(step, input_signature=[tf.TensorSpec([None, 64]), tf.TensorSpec([None], tf.int64)]),
    "reduce_retracing": tf.function(reduce_retracing=True),
}


@pytest.mark.parametrize("compiler", COMPILERS)
def test_classification(digits, same_curve, compiler):
    """A custom loop trains on digits to the curve and accuracy of `tf.nn`'s loss: eager, `tf.function`, XLA, any batch size."""
    data = tf.data.Dataset.from_tensor_slices(digits).batch(256)
    (ours, curve), (builtin, expected) = (train(loss, data, 64, 10, COMPILERS[compiler]) for loss in (sparse, built_in_sparse))
    same_curve(curve, expected)
    accuracy = [np.mean(np.argmax(model(digits[0]), axis=1) == digits[1]) for model in (ours, builtin)]
    assert accuracy[0] == accuracy[1] > 0.85


@pytest.mark.parametrize(
    ("ours", "built_in"),
    [
        (lb.CategoricalCrossentropy(from_logits=True), tf.nn.softmax_cross_entropy_with_logits),
        (lambda y, z: lb.bce(y, z, from_logits=True), lambda y, z: tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=z)),
        (ltf.MeanSquaredError(), lambda y, z: tf.math.squared_difference(y, z)),
        (lb.cosine_similarity, lambda y, z: -tf.reduce_sum(tf.nn.l2_normalize(y, -1, 1e-30) * tf.nn.l2_normalize(z, -1, 1e-30), -1)),
    ],
    ids=["softmax", "sigmoid", "squared", "cosine"],
)
def test_other_losses(digits, same_curve, ours, built_in):
    """Loss functions and objects train with one-hot labels to the curves of `tf.nn`'s softmax, sigmoid and squared losses."""
    images, labels = digits
    data = tf.data.Dataset.from_tensor_slices((images, np.eye(10, dtype="float32")[labels])).batch(600)
    same_curve(*(train(loss, data, 64, 10, tf.function)[1] for loss in (ours, built_in)))


def test_data_in_other_types(digits):
    """int64 and uint8 labels, float64 targets, and NumPy beside tensors: tf.nn would refuse some, the numbers are the same."""
    images, labels = digits[0][:50], digits[1][:50]
    z = Network(64, 10)(images)
    exact = built_in_sparse(labels, z)
    for y in (labels, labels[:, None], tf.constant(labels, tf.uint8), tf.constant(labels, tf.float32)):
        np.testing.assert_allclose(sparse(y, z), exact, rtol=1e-5)
    found = lb.mse(tf.constant(np.eye(10)[labels]), z)
    np.testing.assert_allclose(found, np.mean((np.eye(10)[labels] - z.numpy()) ** 2, axis=1), rtol=1e-5)
    assert found.dtype == tf.float32


def test_gradients_of_every_kind():
    """`GradientTape`, nested and persistent, its `jacobian`, `ForwardAccumulator` and `tf.recompute_grad`."""
    y, p = tf.random.stateless_normal((2, 5, 3), seed=(1, 2))
    e = (p - y).numpy().astype("float64")
    with tf.GradientTape() as outer:
        outer.watch(p)
        with tf.GradientTape(persistent=True) as inner:
            inner.watch(p)
            value = lb.log_cosh(y, p)
            recomputed = tf.recompute_grad(lambda p: lb.log_cosh(y, p))(p)
        slope = inner.gradient(value, p)
        total = tf.reduce_sum(slope)
    np.testing.assert_allclose(slope, np.tanh(e) / 3, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(inner.gradient(recomputed, p), np.tanh(e) / 3, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(outer.gradient(total, p), 1 / np.cosh(e) ** 2 / 3, rtol=1e-4, atol=1e-6)
    with tf.autodiff.ForwardAccumulator(p, tf.ones_like(p)) as forward:
        value = lb.log_cosh(y, p)
    np.testing.assert_allclose(forward.jvp(value), np.tanh(e).sum(axis=1) / 3, rtol=1e-5, atol=1e-6)
    with tf.GradientTape() as tape:
        tape.watch(p)
        value = lb.log_cosh(y, p)
    np.testing.assert_allclose(tf.reduce_sum(tape.jacobian(value, p), axis=1), np.tanh(e) / 3, rtol=1e-5, atol=1e-7)


def test_data_pipelines(digits):
    """Inside `tf.data.Dataset.map`, `tf.map_fn`, `tf.vectorized_map`, `tf.scan`, `tf.while_loop` and `tf.cond`."""
    images, labels = digits[0][:60], digits[1][:60]
    z = Network(64, 10)(images)
    exact = built_in_sparse(labels, z).numpy()
    mapped = tf.data.Dataset.from_tensor_slices((labels, z)).batch(7).map(sparse, num_parallel_calls=2)
    np.testing.assert_allclose(np.concatenate(list(mapped.as_numpy_iterator())), exact, rtol=1e-5)
    single = tf.data.Dataset.from_tensor_slices((labels, z)).map(sparse)
    np.testing.assert_allclose(list(single.as_numpy_iterator()), exact, rtol=1e-5)
    for over in (tf.map_fn, tf.vectorized_map):
        found = over(lambda pair: sparse(*pair), (tf.constant(labels), z), **({"fn_output_signature": tf.float32} if over is tf.map_fn else {}))
        np.testing.assert_allclose(found, exact, rtol=1e-5)

    @tf.function
    def total(y, z):
        sum = tf.constant(0.0)
        for i in tf.range(tf.shape(y)[0]):
            if y[i] != 0:
                sum += sparse(y[i], z[i])
        return sum

    np.testing.assert_allclose(total(labels, z), exact[labels != 0].sum(), rtol=1e-5)
    running = tf.scan(lambda sum, pair: sum + sparse(*pair), (tf.constant(labels), z), tf.constant(0.0))
    np.testing.assert_allclose(running, np.cumsum(exact), rtol=1e-4)


def test_objects_as_arguments():
    """A loss object is an argument of `tf.function`: equal ones are traced once, other options again."""
    traces = []

    @tf.function
    def value(loss, y, p):
        traces.append(loss)
        return loss(y, p)

    y, p = tf.zeros((4, 1)), tf.constant([[0.5], [1.0], [2.0], [3.0]])
    one, two = lb.Huber(delta=1.0), lb.Huber(delta=2.0)
    for _ in range(3):
        np.testing.assert_allclose(value(one, y, p), (0.125 + 0.5 + 1.5 + 2.5) / 4)
        np.testing.assert_allclose(value(two, y, p), (0.125 + 0.5 + 2.0 + 4.0) / 4)
        np.testing.assert_allclose(value(lb.Huber(delta=1.0), y, p), (0.125 + 0.5 + 1.5 + 2.5) / 4)
    assert traces == [one, two]


def test_ragged_tensors():
    """Ragged tensors get an error that says what to do; padded, with a mask, they give the mean of what is there."""
    steps = tf.ragged.constant([[[1.0], [2.0]], [[3.0]]], ragged_rank=1)
    with pytest.raises(TypeError, match=r"mean_squared_error: y_pred is a RaggedTensor, .* ragged.to_tensor\(\).* mask="):
        lb.mse(steps, steps)
    found = lb.MeanSquaredError()(tf.zeros((2, 2, 1)), steps.to_tensor(), mask=tf.sequence_mask(steps.row_lengths()))
    np.testing.assert_allclose(found, (1 + 4 + 9) / 3)


TWO_DEVICES = """
import numpy as np, tensorflow as tf
import lossbackend as lb
from sklearn.datasets import load_digits

cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
images, labels = load_digits(return_X_y=True)
images, labels = (images[:1003] / 16).astype("float32"), labels[:1003]
BATCH = 160
# The last batch has 43 samples, 22 for one device and 21 for the other.
data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(BATCH)
start = 0.1 * np.random.default_rng(0).normal(size=(64, 10)).astype("float32")

w, expected = tf.Variable(start), []
for x, y in [batch for _ in range(2) for batch in data]:
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(y, x @ w)) / tf.cast(len(y), tf.float32)
    w.assign_sub(0.5 * tape.gradient(value, w))
    expected.append(float(value))

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
for loss in (lambda y, z: lb.scce(y, z, from_logits=True), lb.SparseCategoricalCrossentropy(from_logits=True, reduction="none")):
    with strategy.scope():
        mirrored = tf.Variable(start)

    def replica(x, y):
        samples = tf.distribute.get_replica_context().all_reduce("SUM", tf.shape(y)[0])
        with tf.GradientTape() as tape:
            value = tf.nn.compute_average_loss(loss(y, x @ mirrored), global_batch_size=samples)
        slope = tf.distribute.get_replica_context().all_reduce("SUM", tape.gradient(value, mirrored))
        mirrored.assign_sub(0.5 * slope)
        return value

    @tf.function
    def step(x, y):
        return strategy.reduce("SUM", strategy.run(replica, args=(x, y)), axis=None)

    curve = [float(step(x, y)) for _ in range(2) for x, y in strategy.experimental_distribute_dataset(data)]
    np.testing.assert_allclose(curve, expected, rtol=1e-5)
    np.testing.assert_allclose(mirrored.numpy(), w.numpy(), rtol=1e-4, atol=1e-6)
    assert curve[-1] < curve[0]

    # A constant batch size, as in TensorFlow's guide: each sample weighs the same, in the smaller last batch too.
    @tf.function
    def total(x, y):
        average = lambda x, y: tf.nn.compute_average_loss(loss(y, x @ mirrored), global_batch_size=BATCH)
        return strategy.reduce("SUM", strategy.run(average, args=(x, y)), axis=None)

    found = sum(float(total(x, y)) for x, y in strategy.experimental_distribute_dataset(data)) * BATCH / 1003
    exact = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, images @ w))
    np.testing.assert_allclose(found, exact, rtol=1e-4)

    # Partial results of the devices add up to the mean, whatever each of them has.
    if isinstance(loss, lb.Loss):
        mean = lb.SparseCategoricalCrossentropy(from_logits=True)
        parts = []
        for x, y in strategy.experimental_distribute_dataset(data):
            of_devices = strategy.run(lambda x, y: mean.partial(y, x @ mirrored), args=(x, y))
            parts += strategy.experimental_local_results(of_devices)
        np.testing.assert_allclose(sum(parts).result(), exact, rtol=1e-4)
    print("held")
"""


def fresh_process(code, *arguments):
    """What the code prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_two_devices():
    """`tf.distribute.MirroredStrategy` over two devices, uneven batches included, trains like one, by `tf.nn.compute_average_loss`."""
    assert fresh_process(TWO_DEVICES) == ["held", "held"]


LOAD = """
import sys, numpy as np, tensorflow as tf
folder = sys.argv[1]
model, data = tf.saved_model.load(folder), np.load(folder + "/data.npz")
y, x = tf.constant(data["y"]), tf.constant(data["x"])
value = model.signatures["evaluate"](y=y, x=x)["loss"]
np.testing.assert_allclose(value, data["loss"], rtol=1e-5)
with tf.GradientTape() as tape:
    mean = tf.reduce_mean(model.per_sample(y, x))
np.testing.assert_allclose(tape.gradient(mean, model.w[1]), data["slope"], rtol=1e-4, atol=1e-7)
np.testing.assert_allclose(model.per_sample(y[:3], x[:3]), data["loss"][:3], rtol=1e-5)
assert not any(name.startswith("lossbackend") for name in sys.modules)
print("held")
"""


class Exported(Network):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "y"), tf.TensorSpec([None, 64], name="x")])
    def per_sample(self, y, x):
        return sparse(y, self(x))


def test_saved_model(digits, tmp_path):
    """A SavedModel computes the loss and its gradient, from a signature too, in a process that has no lossbackend."""
    x, y = digits[0][:20], digits[1][:20]
    model = Exported(64, 10)
    with tf.GradientTape() as tape:
        loss = built_in_sparse(y, model(x))
        mean = tf.reduce_mean(loss)
    evaluate = tf.function(lambda y, x: {"loss": model.per_sample(y, x)}, input_signature=model.per_sample.input_signature)
    tf.saved_model.save(model, str(tmp_path), signatures={"evaluate": evaluate})
    np.savez(tmp_path / "data.npz", x=x, y=y, loss=loss, slope=tape.gradient(mean, model.w[1]))
    assert fresh_process(LOAD, str(tmp_path)) == ["held"]


def test_the_page_for_tensorflow(run_page, monkeypatch):
    """The examples of its page run."""
    # AutoGraph asks which file the source of a function is in, and doctest says none.
    for example in range(50):
        name = f"<doctest tensorflow[{example}]>"
        monkeypatch.setitem(linecache.cache, name, (0, None, [], name))
    run_page("hosts/tensorflow")
