"""Plain JAX: its transforms, its devices, and loss objects as arguments of them."""

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossbackend as lb
import lossbackend.jax as lj

pytestmark = pytest.mark.host("JAX", "jax", "`loss(y_true, y_pred).mean()` in `jax.jit`, `jax.grad`, `jax.vmap` ...; a loss object as any argument")


def initial(features, outputs, seed=0):
    scale = 1 / np.sqrt(features)
    return {"w": scale * jax.random.normal(jax.random.key(seed), (features, outputs)), "b": jnp.zeros(outputs)}


def model(parameters, x):
    return x @ parameters["w"] + parameters["b"]


def textbook(labels, logits):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)[:, 0]


def descend(loss, parameters, x, y, rate):
    """A step of gradient descent: (new parameters, loss)."""
    value, slope = jax.value_and_grad(lambda p: loss(y, model(p, x)).mean())(parameters)
    return jax.tree.map(lambda p, g: p - rate * g, parameters, slope), value


def train(step, x, y, outputs, epochs=16, batch=256):
    parameters, curve = initial(x.shape[1], outputs), []
    for _ in range(epochs):
        for start in range(0, len(x), batch):
            parameters, value = step(parameters, x[start : start + batch], y[start : start + batch])
            curve.append(value)
    return parameters, curve


def fresh_process(code, **environment):
    """What the code prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu", **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


# Training


def test_classification(digits, same_curve):
    """A jitted step trains on digits to the curve and the accuracy of the textbook cross-entropy."""
    images, labels = digits
    found = {}
    for name, loss in (("ours", partial(lb.sparse_categorical_crossentropy, from_logits=True)), ("textbook", textbook)):
        step = jax.jit(lambda p, x, y, loss=loss: descend(loss, p, x, y, 0.5))
        parameters, curve = train(step, images, labels, 10)
        found[name] = curve, (model(parameters, images).argmax(axis=1) == labels).mean()
    same_curve(found["ours"][0], found["textbook"][0])
    assert found["ours"][1] == found["textbook"][1] > 0.9


def test_regression(diabetes, same_curve):
    """A loss object trains on diabetes to the curve of the textbook Huber loss, in a step that is not jitted."""

    def textbook_huber(y, p):
        error = jnp.abs(p - y)
        return jnp.where(error < 0.5, error**2 / 2, 0.5 * (error - 0.25))

    curves = [train(partial(descend, loss, rate=0.1), *diabetes, 1, epochs=2)[1] for loss in (lb.Huber(delta=0.5), textbook_huber)]
    same_curve(*curves)


def test_whole_training_in_scan(digits, same_curve):
    """A whole training runs inside `lax.scan`, compiled once, with the loss object in the carry."""
    images, labels = digits
    batches = images[:1536].reshape(6, 256, 64), labels[:1536].reshape(6, 256)

    def epoch(state, batch):
        loss, parameters = state
        parameters, value = descend(loss, parameters, *batch, 0.5)
        return (loss, parameters), value

    scanned = jax.jit(lambda loss, parameters: jax.lax.scan(epoch, (loss, parameters), batches))
    (loss, parameters), curve = scanned(lb.SparseCategoricalCrossentropy(from_logits=True), initial(64, 10))
    assert loss == lb.SparseCategoricalCrossentropy(from_logits=True)
    expected, values = initial(64, 10), []
    for x, y in zip(*batches, strict=True):
        expected, value = descend(textbook, expected, x, y, 0.5)
        values.append(value)
    same_curve(curve, values)
    np.testing.assert_allclose(parameters["w"], expected["w"], rtol=1e-4, atol=1e-6)


def test_half_precision(digits):
    """A model in bfloat16 gets a float32 loss and bfloat16 gradients."""
    images, labels = digits
    parameters = jax.tree.map(lambda p: p.astype("bfloat16"), initial(64, 10))
    value, slope = jax.jit(jax.value_and_grad(lambda p: lb.scce(labels, model(p, images.astype("bfloat16")), from_logits=True).mean()))(parameters)
    assert value.dtype == "float32"
    assert slope["w"].dtype == "bfloat16"
    np.testing.assert_allclose(value, textbook(labels, model(parameters, images.astype("bfloat16")).astype("float32")).mean(), rtol=1e-4)


# Transforms

REAL = np.random.default_rng(3).normal(size=(2, 6, 4)).astype("float32")


def test_transforms():
    """`jit`, `grad`, `vmap`, `hessian`, `jvp`, `linearize` and `checkpoint`, nested, give the textbook's derivatives."""
    y, p = REAL
    slope = np.tanh(p - y) / 4
    single = jax.grad(lb.log_cosh, argnums=1)
    for per_sample in (jax.vmap(single), jax.jit(jax.vmap(single)), jax.vmap(jax.grad(jax.checkpoint(lb.log_cosh), argnums=1))):
        np.testing.assert_allclose(per_sample(y, p), slope, rtol=1e-5, atol=1e-7)
    value, tangent = jax.jvp(partial(lb.log_cosh, y), (p,), (np.ones_like(p),))
    np.testing.assert_allclose(value, np.log(np.cosh(np.float64(p) - y)).mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(tangent, slope.sum(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.linearize(partial(lb.log_cosh, y), p)[1](np.ones_like(p)), tangent, rtol=1e-6)
    curvature = jax.vmap(jax.hessian(lb.log_cosh, argnums=1))(y, p)
    np.testing.assert_allclose(curvature, np.eye(4) * (1 / np.cosh(p - y) ** 2 / 4)[:, None], rtol=1e-4, atol=1e-7)


def test_several_models_at_once(diabetes):
    """`vmap` over models and over values of an option trains an ensemble in one step."""
    x, y = diabetes
    models = jax.vmap(lambda key: {"w": jax.random.normal(key, (10, 1)), "b": jnp.zeros(1)})(jax.random.split(jax.random.key(0), 3))
    deltas = jnp.array([0.5, 1.0, 2.0])
    values = jax.jit(jax.vmap(lambda p, delta: lb.huber(y, model(p, x), delta=delta).mean()))(models, deltas)
    for i, delta in enumerate(deltas):
        error = np.abs(x @ models["w"][i] + models["b"][i] - y).astype("float64")
        exact = np.where(error < delta, error**2 / 2, delta * (error - delta / 2)).mean()
        np.testing.assert_allclose(values[i], exact, rtol=1e-5)


def test_control_flow():
    """Inside `lax.cond`, `lax.while_loop`, `lax.map` and `fori_loop`."""
    y, p = REAL
    exact = np.abs(np.float64(p) - y).mean(axis=1)
    np.testing.assert_allclose(jax.lax.map(lambda pair: lb.mae(*pair), (y, p)), exact, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda flag: jax.lax.cond(flag, lb.mae, lb.mse, y, p))(True), exact, rtol=1e-6)
    total = jax.lax.fori_loop(0, 6, lambda i, sum: sum + lb.mae(jnp.asarray(y)[i], jnp.asarray(p)[i]), 0.0)
    np.testing.assert_allclose(total, exact.sum(), rtol=1e-6)
    far = jax.lax.while_loop(lambda x: lb.mse(jnp.zeros(1), x) < 100.0, lambda x: 2 * x, jnp.ones(1))
    assert far == 16.0


def test_double_precision():
    """Under `jax.enable_x64`, in float64."""
    with jax.enable_x64(True):
        y, p = REAL.astype("float64")
        value = jax.jit(lb.log_cosh)(y, p)
        assert value.dtype == "float64"
        np.testing.assert_allclose(value, np.log(np.cosh(p - y)).mean(axis=1), rtol=1e-13)


DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as P, NamedSharding
import lossbackend as lb
from sklearn.datasets import load_digits
images, labels = load_digits(return_X_y=True)
images, labels = (images[:1796] / 16).astype("float32"), labels[:1796]
assert jax.device_count() == 2
w = 0.1 * jax.random.normal(jax.random.key(0), (64, 10))
loss = lb.SparseCategoricalCrossentropy(from_logits=True)

def textbook(w):
    return -jnp.take_along_axis(jax.nn.log_softmax(images @ w), labels[:, None], axis=1).mean()

value, slope = jax.value_and_grad(textbook)(w)

def same(found, gradient=None):
    np.testing.assert_allclose(found, value, rtol=1e-5)
    if gradient is not None:
        np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-7)

mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
rows = NamedSharding(mesh, P("batch"))
x, y = jax.device_put(images, rows), jax.device_put(labels, rows)
step = jax.jit(lambda loss, w, x, y: jax.value_and_grad(lambda w: loss(y, x @ w))(w))
same(*step(loss, w, x, y))
per_sample = jax.jit(lambda w, x, y: lb.scce(y, x @ w, from_logits=True))(w, x, y)
assert per_sample.sharding.is_equivalent_to(rows, 1)
explicit = jax.make_mesh((2,), ("batch",))
with jax.set_mesh(explicit):
    same(jax.jit(lambda x, y: lb.scce(y, x @ w, from_logits=True).mean())(*(jax.device_put(a, NamedSharding(explicit, P("batch"))) for a in (x, y))))
print("sharding")

def shard(w, x, y):
    # Each device has its part of the samples.
    value, slope = jax.value_and_grad(lambda w: loss(y, x @ w))(jax.lax.pcast(w, "batch", to="varying"))
    return jax.lax.pmean(value, "batch"), jax.lax.pmean(slope, "batch")

same(*jax.jit(jax.shard_map(shard, mesh=mesh, in_specs=(P(), P("batch"), P("batch")), out_specs=P()))(w, x, y))
# Parts that do not count alike: partial results add up exactly, a mean of means would not.
mask = np.arange(1796) < 1000
expected = -jnp.take_along_axis(jax.nn.log_softmax(images @ w), labels[:, None], axis=1)[:1000].mean()
uneven = jax.shard_map(lambda x, y, m: jax.lax.psum(loss.partial(y, x @ w, mask=m), "batch"), mesh=mesh, in_specs=P("batch"), out_specs=P())
np.testing.assert_allclose(jax.jit(uneven)(x, y, mask).result(), expected, rtol=1e-5)
print("shard_map")

halves = lambda array: array.reshape(2, 898, *array.shape[1:])
def device(loss, w, x, y):
    value, slope = jax.value_and_grad(lambda w: loss(y, x @ w))(w)
    return jax.lax.pmean(value, "d"), jax.lax.pmean(slope, "d")
values, slopes = jax.pmap(device, "d", in_axes=(None, None, 0, 0))(loss, w, halves(images), halves(labels))
same(values[0], slopes[0])
print("pmap")
"""


def test_several_devices():
    """On two devices, by `jit` of sharded arrays, `shard_map` and `pmap`, the loss and its gradient are those of one."""
    assert fresh_process(DEVICES, XLA_FLAGS="--xla_force_host_platform_device_count=2") == ["sharding", "shard_map", "pmap"]


# Loss objects as arguments


@lb.loss
def charbonnier(ops, y_true, y_pred, *, scale=1e-3):
    return ops.mean(ops.sqrt(ops.square(y_pred - y_true) + scale**2), axis=-1)


@dataclass(frozen=True)
class Charbonnier(lb.Loss):
    function = charbonnier
    scale: float = 1e-3


def exact_charbonnier(scale):
    y, p = np.float64(REAL)
    return np.sqrt((p - y) ** 2 + scale**2).mean()


@pytest.mark.parametrize("static", [True, False])
def test_recompilation(static):
    """A loss object, of a class of yours too, is an argument, static or not: equal ones compile once, other options again."""
    y, p = REAL
    traces = []

    def step(loss, y, p):
        traces.append(loss)
        return loss(y, p)

    step = jax.jit(step, static_argnums=0 if static else ())
    for _ in range(3):
        np.testing.assert_allclose(step(lb.MeanSquaredError(), y, p), np.mean((np.float64(p) - y) ** 2), rtol=1e-6)
        np.testing.assert_allclose(step(Charbonnier(scale=2.0), y, p), exact_charbonnier(2.0), rtol=1e-6)
        np.testing.assert_allclose(step(Charbonnier(scale=4.0), y, p), exact_charbonnier(4.0), rtol=1e-6)
        np.testing.assert_allclose(step(pickle.loads(pickle.dumps(Charbonnier(4.0))), y, p), exact_charbonnier(4.0), rtol=1e-6)
        step(lj.Huber(), y, p)
        step(lb.Huber(), y, p)
        step(lb.Huber(reduction="sum"), y, p)
    assert len(traces) == 6
    assert step._cache_size() == 6


def test_pytrees():
    """A loss object is a pytree without leaves: among parameters, in `tree.map`, `vmap`, `grad` and what a function returns."""
    y, p = REAL
    state = {"w": jnp.asarray(p), "loss": Charbonnier(scale=2.0), "more": [lb.Huber(delta=2.0), lj.LogCosh(), lb.losses.Poisson(log_input=True)]}
    assert len(jax.tree.leaves(state)) == 1
    leaves, structure = jax.tree.flatten(state)
    assert jax.tree.unflatten(structure, leaves)["more"] == state["more"]
    assert structure == jax.tree.structure({**state, "loss": Charbonnier(scale=2.0)})
    assert structure != jax.tree.structure({**state, "loss": Charbonnier(scale=3.0)})
    slope = jax.jit(jax.grad(lambda state: state["loss"](y, state["w"])))(state)
    error = np.float64(p) - y
    np.testing.assert_allclose(slope["w"], error / np.sqrt(error**2 + 4.0) / error.size, rtol=1e-5)
    moved = jax.tree.map(lambda parameter, gradient: parameter - gradient, state, slope)
    assert moved["loss"] == state["loss"]
    values = jax.vmap(lambda loss, y, p: loss(y, p), in_axes=(None, 0, 0))(state["loss"], y, p)
    np.testing.assert_allclose(values.mean(), exact_charbonnier(2.0), rtol=1e-6)


def test_a_registration_of_the_user():
    """A class that its author registers with JAX stays registered as the author has it."""

    @jax.tree_util.register_static
    @dataclass(frozen=True)
    class Static(lb.Loss):
        function = charbonnier

    @partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["scale", "reduction", "name"])
    @dataclass(frozen=True)
    class Meta(lb.Loss):
        function = charbonnier
        scale: float = 1e-3

    for loss in (Static(), Meta(scale=1e-3)):
        assert jax.tree.leaves(loss) == []
        np.testing.assert_allclose(jax.jit(lambda loss: loss(*REAL))(loss), exact_charbonnier(1e-3), rtol=1e-6)


ORDERS = {
    "lossbackend first": "import lossbackend as lb; cls = lb.Huber; import jax; loss = cls(delta=2.0)",
    "jax first": "import jax; import lossbackend as lb; loss = lb.Huber(delta=2.0)",
    "pickled": "import jax, pickle; loss = pickle.loads(bytes.fromhex('{pickled}'))",
    "copied": "import lossbackend as lb; early = lb.Huber(delta=2.0); import jax, copy; loss = early; copy.copy(early)",
    "replaced": "import lossbackend as lb; early = lb.Huber(); import jax, dataclasses; loss = dataclasses.replace(early, delta=2.0)",
    "made before jax, then lossbackend.jax": "import lossbackend as lb; loss = lb.Huber(delta=2.0); import jax; import lossbackend.jax",
    "pinned": "import lossbackend.jax as lj; import jax; loss = lj.Huber(delta=2.0)",
    "a class of one's own": "import lossbackend as lb\nclass Mine(lb.Huber): pass\nimport jax; loss = Mine(delta=2.0)",
}


def test_any_order_of_imports():
    """Whichever is imported first, and before JAX tensors were ever met: made, unpickled, copied, pinned, of a subclass."""
    pickled = pickle.dumps(lb.Huber(delta=2.0)).hex()
    use = "\nassert jax.tree.leaves(loss) == [] and jax.jit(lambda loss, y, p: loss(y, p))(loss, jax.numpy.zeros(2), jax.numpy.ones(2)) == 0.5"
    for name, code in ORDERS.items():
        assert fresh_process(f"{code.replace('{pickled}', pickled)}{use}; print('held')") == ["held"], name


def test_the_page_for_jax(run_page):
    """The examples of its page run."""
    run_page("hosts/jax")
