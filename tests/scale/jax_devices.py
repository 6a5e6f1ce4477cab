"""Cases for eight devices. JAX fixes their number when it starts, so test_jax_sharding.py runs this file in processes of its own."""

import functools
import linecache
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import samples
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import lossbackend as lb
from lossbackend.backends.jax_backend import OPS

LOGITS = {"from_logits": True}
EVERY_WAY = [(name, {}) for name in samples.EVERY_LOSS] + [
    ("binary_crossentropy", {**LOGITS, "label_smoothing": 0.1, "pos_weight": (1.0, 2.0, 3.0, 0.5)}),
    ("categorical_crossentropy", LOGITS),
    ("categorical_crossentropy", {**LOGITS, "label_smoothing": 0.1, "class_weight": (1.0, 2.0, 3.0, 0.5)}),
    ("sparse_categorical_crossentropy", LOGITS),
    ("sparse_categorical_crossentropy", {**LOGITS, "label_smoothing": 0.1, "class_weight": (1.0, 2.0, 3.0, 0.5)}),
    ("kl_divergence", LOGITS),
    ("poisson", {"log_input": True}),
]
COLLECTIVE = r"= .* (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("

RNG = np.random.default_rng(0)
N, C = 24, 8
Z = RNG.normal(size=(N, C)).astype("float32")
IDS = RNG.integers(0, C, N).astype("int32")
WEIGHTS = RNG.uniform(0.5, 2.0, N).astype("float32")
WEIGHTS[2] = 0.0
MASK = RNG.random(N) > 0.4
EXP = np.exp(np.float64(Z))
CROSS_ENTROPY = np.log(EXP.sum(axis=1)) - Z[np.arange(N), IDS]
SLOPE = EXP / EXP.sum(axis=1, keepdims=True) - np.eye(C)[IDS]
KEPT = WEIGHTS * MASK
DENOMINATORS = {"mean": MASK.sum(), "sum": 1.0, "mean_with_sample_weight": KEPT.sum()}


def cross_entropy(reduction="mean"):
    return lb.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)


@pytest.fixture(params=[AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def mesh(request):
    """Four by two devices: XLA chooses the shardings of what is computed, or types say them."""
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(request.param,) * 2)
    with jax.set_mesh(mesh):
        yield mesh


@pytest.fixture
def put(mesh):
    """An array, spread over the devices: along its first axis, its second ..."""
    return lambda x, *spec: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))


def spread(x):
    """The axes of the mesh that each axis of an array is spread over."""
    spec = tuple(x.sharding.spec)
    return (*spec, *[None] * (x.ndim - len(spec)))


def test_there_are_eight_devices():
    assert jax.device_count() == 8


# XLA computes the same whatever it spreads; only types say which operations are possible.
WAYS = [(kind, *way) for kind in (AxisType.Auto, AxisType.Explicit) for way in EVERY_WAY if kind is AxisType.Explicit or "crossentropy" in way[0]]


@pytest.mark.parametrize(
    ("mesh", "name", "options"), WAYS, ids=lambda value: value.name.lower() if isinstance(value, AxisType) else None, indirect=["mesh"]
)
def test_losses_and_gradients(put, name, options):
    y, p = samples.sample(name, (4, 4), seed=1)
    loss = functools.partial(getattr(lb, name), **options)
    expected, scales = samples.expected(name, y, p, **options)
    spec = "data", "model"
    losses = loss(put(y, *spec[: y.ndim]), put(p, *spec))
    assert spread(losses) == ("data",)
    np.testing.assert_array_less(np.abs(losses - expected), 1e-5 * scales)
    # Labels may be in one place.
    value, slope = jax.jit(jax.value_and_grad(lambda p: loss(y, p).sum()))(put(p, *spec))
    np.testing.assert_allclose(value, expected.sum(), rtol=1e-5)
    np.testing.assert_allclose(slope, samples.expected_gradient(name, y, p, **options), rtol=1e-4, atol=1e-6)
    assert spread(slope) == spec


def collectives(function, *arrays):
    """What the devices send each other in the compiled function, and the sizes of the arrays in it."""
    text = jax.jit(function).lower(*arrays).compile().as_text()
    sizes = {int(size) for shape in re.findall(r"\w+\[([\d,]+)\]", text.partition("ENTRY")[2]) for size in shape.split(",")}
    return set(re.findall(COLLECTIVE, text)), sizes


@pytest.mark.parametrize("mesh", [AxisType.Auto], ids=["auto"], indirect=True)
@pytest.mark.parametrize(("name", "options"), [way for way in EVERY_WAY if "crossentropy" in way[0] and not way[1].get("label_smoothing")])
def test_classes_stay_where_they_are(put, name, options):
    """Of predictions that are spread over devices sums are exchanged, and nothing else; of a batch that is spread, nothing."""
    y, p = samples.sample(name, (8, 62))
    loss = functools.partial(getattr(lb, name), **options)
    for function in (loss, jax.grad(lambda y, p: loss(y, p).sum(), argnums=1)):
        sent, sizes = collectives(function, put(y, *("data", "model")[: y.ndim]), put(p, "data", "model"))
        assert sent <= {"all-reduce"}
        assert 31 in sizes
        assert 62 not in sizes
    assert collectives(function, put(y, "data"), put(p, "data"))[0] == set()
    assert spread(loss(put(y, "data"), put(p, "data"))) == ("data",)


def test_a_gather_would_be_seen():
    mesh = jax.make_mesh((2,), ("model",), axis_types=(AxisType.Auto,))
    sent, sizes = collectives(lambda x: jnp.sort(x, axis=1), jax.device_put(Z, NamedSharding(mesh, PartitionSpec(None, "model"))))
    assert sent & {"all-gather", "all-to-all"}
    assert C in sizes


@pytest.mark.parametrize(
    ("reduction", "spec"), [("mean", ("data", "model")), ("sum", (None, "model")), ("mean_with_sample_weight", (("data", "model"), None))]
)
def test_weights_and_masks(put, reduction, spec):
    loss = cross_entropy(reduction)
    value = (KEPT * CROSS_ENTROPY).sum() / DENOMINATORS[reduction]
    # What is masked reaches nothing, NaN neither.
    z = put(np.where(MASK[:, np.newaxis], Z, np.nan), *spec)
    given = IDS, WEIGHTS, MASK
    for ids, weights, mask in (given, [put(x) for x in given], [put(x, spec[0]) for x in given]):
        np.testing.assert_allclose(loss(ids, z, weights, mask), value, rtol=1e-5)
    np.testing.assert_allclose(loss.partial(ids, z, weights, mask).result(), value, rtol=1e-5)
    for step in (lb.value_and_grad(loss), lb.jit(lb.value_and_grad(loss))):
        found, slope = step(ids, z, weights, mask)
        np.testing.assert_allclose(found, value, rtol=1e-5)
        np.testing.assert_allclose(slope, KEPT[:, np.newaxis] * SLOPE / DENOMINATORS[reduction], rtol=1e-4, atol=1e-6)
        assert spread(slope) == spec


@pytest.mark.parametrize("axis", [1, 2])
def test_three_axes_and_an_ignored_class(put, axis):
    z = RNG.normal(size=(8, 8, 8)).astype("float32")
    ids = RNG.integers(0, 8, (8, 8)).astype("int32")
    powers = np.exp(np.float64(z))
    losses = np.log(powers.sum(axis=axis)) - np.take_along_axis(np.float64(z), np.expand_dims(ids, axis), axis).squeeze(axis)
    for spec in (("data", "model", None), ("data", None, "model"), (None, None, ("data", "model"))):
        labels = put(ids, *(spec[:axis] + spec[axis + 1 :]))
        found = lb.scce(labels, put(z, *spec), from_logits=True, axis=axis)
        np.testing.assert_allclose(found, losses, rtol=1e-4, atol=1e-6)
        mean = lb.SparseCategoricalCrossentropy(from_logits=True, axis=axis, ignore_class=3)(labels, put(z, *spec))
        np.testing.assert_allclose(mean, losses[ids != 3].mean(), rtol=1e-5)


def test_other_classes_may_be_anything(put):
    """The entry of the true class is selected, forward and backward, not multiplied by a mask."""
    x = np.where(np.eye(C, dtype=bool)[IDS], Z, [[np.nan, np.inf] * (C // 2)]).astype("float32")
    found, slope = jax.jit(jax.value_and_grad(lambda x, ids: jnp.log(jnp.square(OPS.take_class(x, ids))).sum()))(put(x, "data", "model"), IDS)
    true = np.float64(Z[np.arange(N), IDS])
    np.testing.assert_allclose(found, np.log(true**2).sum(), rtol=1e-5)
    np.testing.assert_allclose(slope, np.eye(C)[IDS] * (2 / true)[:, np.newaxis], rtol=1e-5)
    # An id that is none makes its sample NaN.
    losses = jax.jit(functools.partial(lb.scce, from_logits=True))(put(np.where(np.arange(N) == 5, C, IDS), "data"), put(Z, "data", "model"))
    np.testing.assert_allclose(losses, np.where(np.arange(N) == 5, np.nan, CROSS_ENTROPY), rtol=1e-5)


def test_transforms(put):
    ids, z = put(IDS, "data"), put(Z, "data", "model")
    loss = functools.partial(lb.scce, from_logits=True)
    np.testing.assert_allclose(jax.vmap(loss)(ids, z), CROSS_ENTROPY, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(jax.grad(loss, argnums=1))(ids, z), SLOPE, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(jax.jvp(lambda z: loss(ids, z), (z,), (z,))[1], (SLOPE * Z).sum(axis=1), rtol=1e-4, atol=1e-5)
    # Hessian times z: softmax (z − Σ softmax z).
    softmax = EXP / EXP.sum(axis=1, keepdims=True)
    second = jax.jit(lambda z: jax.jvp(jax.grad(lambda z: loss(ids, z).sum()), (z,), (z,))[1])(z)
    np.testing.assert_allclose(second, softmax * (Z - (softmax * Z).sum(axis=1, keepdims=True)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_large_arrays_on_one_device_and_on_several(kind):
    """Large arrays of one device are computed in blocks; not so beside labels that are spread over several."""
    y, p = RNG.normal(size=(2, 1 << 15, 64)).astype("float32")
    exact = np.abs(np.float64(p) - y).mean(axis=1)
    rows = NamedSharding(jax.make_mesh((8,), ("data",), axis_types=(kind,)), PartitionSpec("data"))
    one = jnp.asarray(p)
    assert len(one.sharding.device_set) == 1
    for labels, predictions in ((jax.device_put(y, rows), one), (y, jax.device_put(p, rows)), (y, one)):
        np.testing.assert_allclose(lb.mae(labels, predictions), exact, rtol=1e-5)


def test_a_step_of_training(put):
    """A layer that is spread along its outputs trains as one array does."""
    x, start = RNG.normal(size=(N, 5)).astype("float32"), RNG.normal(size=(5, C)).astype("float32")
    loss = cross_entropy()

    @jax.jit
    def step(w, x, ids):
        value, slope = jax.value_and_grad(lambda w: loss(ids, x @ w))(w)
        return w - 0.5 * slope, value

    w, exact = put(start, None, "model"), np.float64(start)
    for _ in range(3):
        w, value = step(w, put(x, "data"), put(IDS, "data"))
        powers = np.exp(x @ exact)
        softmax = powers / powers.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(value, -np.log(softmax[np.arange(N), IDS]).mean(), rtol=1e-5)
        exact -= 0.5 * x.T @ (softmax - np.eye(C)[IDS]) / N
    np.testing.assert_allclose(w, exact, rtol=1e-4, atol=1e-6)
    assert spread(w) == (None, "model")


# Parts


@pytest.mark.parametrize("reduction", DENOMINATORS)
def test_shard_map_adds_up_parts(mesh, put, reduction):
    """Masks leave each device another number of samples; the sum over devices is the reduction of all, and so is its gradient."""
    loss, data = cross_entropy(reduction), PartitionSpec("data")

    @jax.jit
    @jax.shard_map(mesh=mesh, in_specs=data, out_specs=PartitionSpec())
    def total(ids, z, weights, mask):
        return jax.lax.psum(loss.partial(ids, z, weights, mask), "data")

    ids, weights, mask = (put(x, "data") for x in (IDS, WEIGHTS, MASK))
    value, slope = jax.value_and_grad(lambda z: total(ids, z, weights, mask).result())(put(Z, "data"))
    np.testing.assert_allclose(value, (KEPT * CROSS_ENTROPY).sum() / DENOMINATORS[reduction], rtol=1e-5)
    np.testing.assert_allclose(slope, KEPT[:, np.newaxis] * SLOPE / DENOMINATORS[reduction], rtol=1e-4, atol=1e-6)
    if reduction == "mean":
        assert int(total(ids, put(Z, "data"), weights, mask).denominator) == MASK.sum()


def test_what_devices_lose_is_added_up(mesh, put):
    """Each of four devices adds 2⁻²⁵ to 1 a few times; float32 would forget them, and psum adds up what is kept of them."""
    loss, data = lb.MeanAbsoluteError("sum"), PartitionSpec("data")

    @jax.jit
    @jax.shard_map(mesh=mesh, in_specs=data, out_specs=PartitionSpec())
    def total(p):
        parts = [loss.partial(jnp.zeros_like(row), row) for row in p]
        return jax.lax.psum(sum(parts), "data")

    rows = np.full((4, 5, 1, 1), 2.0**-25, "float32")
    rows[:, 0] = 1.0
    assert total(put(rows.reshape(20, 1, 1), "data")).total == np.float32(4.0 + 16 * 2.0**-25) > 4.0


@pytest.mark.parametrize("padded", [False, True])
def test_microbatches(put, padded):
    """Parts are the carry of `lax.scan`; microbatches that are padded differ in size."""
    loss = cross_entropy()
    lengths = np.array([8, 3, 6]) if padded else np.array([8, 8, 8])
    mask = np.arange(8) < lengths[:, np.newaxis]
    z, ids = Z.reshape(3, 8, C), IDS.reshape(3, 8)

    @jax.jit
    def mean(z, ids, mask):
        def add(part, batch):
            z, ids, mask = batch
            return part + loss.partial(ids, z, mask=mask), None

        first = loss.partial(ids[0], z[0], mask=mask[0])
        return jax.lax.scan(add, first, (z[1:], ids[1:], mask[1:]))[0].result()

    value, slope = jax.value_and_grad(mean)(put(z, None, "data", "model"), put(ids, None, "data"), put(mask, None, "data"))
    np.testing.assert_allclose(value, CROSS_ENTROPY[mask.ravel()].mean(), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(slope).reshape(N, C), mask.reshape(N, 1) * SLOPE / mask.sum(), rtol=1e-4, atol=1e-6)


def test_gradients_are_accumulated_over_parts(put):
    """Gradients of sums of uneven batches, divided at the end by what the parts count."""
    loss, parts, slopes = cross_entropy(), [], []

    def total(z, ids):
        part = loss.partial(ids, z)
        return part.total, part

    for batch in (slice(0, 8), slice(8, 12), slice(12, 24)):
        slope, part = jax.jit(jax.grad(total, has_aux=True))(put(Z[batch], "data", "model"), put(IDS[batch], "data"))
        parts.append(part)
        slopes.append(np.asarray(slope))
    whole = sum(parts)
    assert whole.denominator == N
    np.testing.assert_allclose(whole.result(), CROSS_ENTROPY.mean(), rtol=1e-5)
    np.testing.assert_allclose(np.concatenate(slopes) / whole.denominator, SLOPE / N, rtol=1e-4, atol=1e-6)


def test_pmap():
    loss = cross_entropy()
    ids, z = IDS.reshape(8, 3), Z.reshape(8, 3, C)
    np.testing.assert_allclose(jax.pmap(functools.partial(lb.scce, from_logits=True))(ids, z).ravel(), CROSS_ENTROPY, rtol=1e-5)
    total = jax.pmap(lambda ids, z: jax.lax.psum(loss.partial(ids, z), "devices"), axis_name="devices")(ids, z)
    np.testing.assert_allclose(total.result(), [CROSS_ENTROPY.mean()] * 8, rtol=1e-5)


def test_page(run_page, monkeypatch):
    # AutoGraph asks which file the source of a function is in, and doctest says none.
    for example in range(80):
        name = f"<doctest sharding[{example}]>"
        monkeypatch.setitem(linecache.cache, name, (0, None, [], name))
    run_page("engines/sharding")
