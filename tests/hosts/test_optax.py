"""optax: its optimisers with plain losses, and its order of arguments, by ``lossbackend.jax.optax_style``."""

import doctest
import pickle
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lossbackend as lb
import lossbackend.jax as lj
from lossbackend.jax import optax_style

pytestmark = pytest.mark.host("optax", "optax", "`optax_style(loss)(predictions, targets).mean()`, or `loss(y_true, y_pred).mean()`")

rng = np.random.default_rng(5)
VALUES, TARGETS = rng.normal(size=(2, 6, 4)).astype("float32") * np.float32(2)
SHARES = rng.dirichlet(np.ones(4), size=6).astype("float32")
BITS = (TARGETS > 0).astype("float32")
IDS = np.array([0, 3, 1, 1, 2, 0])
LOG_SHARES = np.log(SHARES[::-1].copy())

# name: (ours, optax's, predictions, targets)
COUNTERPARTS = {
    "squared_error": (optax_style(lb.mse), optax.losses.squared_error, VALUES, TARGETS),
    "l2_loss": (lambda p, y: 0.5 * optax_style(lb.mse)(p, y), optax.losses.l2_loss, VALUES, TARGETS),
    "huber_loss": (optax_style(lb.huber), optax.losses.huber_loss, VALUES, TARGETS),
    "huber_loss, delta": (partial(optax_style(lb.huber), delta=0.5), partial(optax.losses.huber_loss, delta=0.5), VALUES, TARGETS),
    "log_cosh": (optax_style(lb.log_cosh), optax.losses.log_cosh, VALUES, TARGETS),
    "hinge_loss": (partial(optax_style(lb.hinge), labels="pm1"), optax.losses.hinge_loss, VALUES, 2 * BITS - 1),
    "sigmoid_binary_cross_entropy": (partial(optax_style(lb.bce), from_logits=True), optax.losses.sigmoid_binary_cross_entropy, VALUES, BITS),
    "softmax_cross_entropy": (partial(optax_style(lb.cce), from_logits=True), optax.losses.softmax_cross_entropy, VALUES, SHARES),
    "softmax_cross_entropy, axis": (
        partial(optax_style(lb.cce), from_logits=True, axis=0),
        partial(optax.losses.softmax_cross_entropy, axis=0),
        VALUES,
        SHARES,
    ),
    "softmax_cross_entropy_with_integer_labels": (
        partial(optax_style(lb.scce), from_logits=True),
        optax.losses.softmax_cross_entropy_with_integer_labels,
        VALUES,
        IDS,
    ),
    "cosine_similarity": (lambda p, y: -optax_style(lb.cosine_similarity)(p, y), optax.losses.cosine_similarity, VALUES, TARGETS),
    "cosine_distance": (lambda p, y: 1.0 + optax_style(lb.cosine_similarity)(p, y), optax.losses.cosine_distance, VALUES, TARGETS),
    "kl_divergence": (partial(optax_style(lb.kl_divergence), from_logits=True), optax.losses.kl_divergence, LOG_SHARES, SHARES),
    "smooth_labels": (
        partial(optax_style(lb.cce), from_logits=True, label_smoothing=0.2),
        lambda p, y: optax.losses.softmax_cross_entropy(p, optax.losses.smooth_labels(y, 0.2)),
        VALUES,
        np.eye(4, dtype="float32")[IDS],
    ),
}


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_the_same_values_and_gradients(name):
    """`optax_style` gives the values, the shape and the gradients of optax's own losses, eagerly and under `jit`, `grad` and `vmap`."""
    ours, theirs, predictions, targets = COUNTERPARTS[name]
    wanted = theirs(predictions, targets)
    for call in (ours, jax.jit(ours)):
        found = call(predictions, targets)
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
        np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-6)
    weights = rng.normal(size=wanted.shape).astype("float32")
    slopes = [jax.jit(jax.grad(lambda p, loss=loss: (weights * loss(p, targets)).sum()))(predictions) for loss in (ours, theirs)]
    if name == "kl_divergence":
        # optax takes log-probabilities as they are, here they are logits: the same for what sums to 1, up to a step that keeps that.
        slopes[1] = slopes[1] - np.exp(predictions) * slopes[1].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=2e-5, atol=2e-6)
    if "axis" not in name:
        np.testing.assert_allclose(jax.vmap(ours)(predictions, targets), wanted, rtol=2e-6, atol=1e-6)


def test_any_shape():
    """Scalars, vectors and images: an elementwise loss has the shape of its predictions."""
    for shape in ((), (5,), (5, 1), (2, 3, 4, 5), (0,), (0, 3)):
        predictions, targets = rng.normal(size=(2, *shape)).astype("float32")
        for loss, builtin in ((lb.huber, optax.huber_loss), (lb.log_cosh, optax.log_cosh)):
            found = optax_style(loss)(predictions, targets)
            assert found.shape == shape
            np.testing.assert_allclose(found, builtin(jnp.asarray(predictions), targets), rtol=1e-5, atol=1e-7)
        found = optax_style(lb.bce)(logits=jnp.asarray(predictions), labels=targets > 0, from_logits=True)
        np.testing.assert_allclose(found, optax.sigmoid_binary_cross_entropy(jnp.asarray(predictions), targets > 0), rtol=1e-5, atol=1e-7)


def test_keywords():
    """Called with the keywords that optax's users write, `logits=` and `labels=` or `predictions=` and `targets=`."""
    found = optax_style(lb.scce)(logits=VALUES, labels=IDS, from_logits=True)
    np.testing.assert_allclose(found, optax.softmax_cross_entropy_with_integer_labels(logits=VALUES, labels=IDS), rtol=1e-6)
    found = optax_style(lb.huber)(predictions=VALUES, targets=TARGETS, delta=2.0)
    np.testing.assert_allclose(found, optax.huber_loss(predictions=VALUES, targets=TARGETS, delta=2.0), rtol=1e-6)
    found = optax_style(lb.hinge)(VALUES, targets=BITS, labels="binary")
    np.testing.assert_allclose(found, optax.hinge_loss(VALUES, 2 * BITS - 1), rtol=1e-6)


def test_options_with_a_number_for_each_entry():
    """`pos_weight` with one number for each class keeps the loss elementwise; the mean is right with any option."""
    weights = np.array([1.0, 2.0, 0.5, 4.0], "float32")
    found = optax_style(lb.bce)(VALUES, BITS, from_logits=True, pos_weight=weights)
    np.testing.assert_allclose(found, (1 + (weights - 1) * BITS) * optax.sigmoid_binary_cross_entropy(VALUES, BITS), rtol=2e-6)

    @lb.loss
    def weighted(ops, y_true, y_pred, *, weights=1.0):
        return ops.mean(ops.asarray(weights, like=y_pred) * ops.square(y_pred - y_true), axis=-1)

    np.testing.assert_allclose(optax_style(weighted)(VALUES, TARGETS, weights=3.0), 3 * optax.squared_error(VALUES, TARGETS), rtol=2e-6)
    for given in (weights, jnp.asarray(weights)):
        np.testing.assert_allclose(
            optax_style(weighted)(VALUES, TARGETS, weights=given).mean(), (weights * optax.squared_error(VALUES, TARGETS)).mean(), rtol=2e-6
        )


@lb.loss
def quantile(ops, y_true, y_pred, q):
    error = y_true - y_pred
    return ops.mean(ops.maximum(q * error, (q - 1.0) * error), axis=-1)


@lb.loss
def longest(ops, y_true, y_pred):
    return ops.max(ops.abs(y_pred - y_true), axis=-1)


@dataclass(frozen=True)
class Quantile(lb.Loss):
    function = quantile
    q: float = 0.5


def test_a_loss_of_the_user():
    """A loss of your own: elementwise where it is a mean over entries, found out by itself."""
    error = np.float64(TARGETS) - VALUES
    for call in (optax_style(quantile), jax.jit(optax_style(quantile))):
        np.testing.assert_allclose(call(VALUES, TARGETS, q=0.9), np.maximum(0.9 * error, -0.1 * error), rtol=1e-5)
    np.testing.assert_allclose(optax_style(longest)(VALUES, TARGETS), np.abs(error).max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(optax_style(Quantile(0.9))(VALUES, TARGETS), np.maximum(0.9 * error, -0.1 * error).mean(), rtol=1e-5)


def test_objects():
    """A loss object keeps its reduction, and takes weights and masks."""
    weights = np.array([1.0, 2.0, 0.0, 1.0, 0.5, 3.0], "float32")
    per_sample = optax.huber_loss(VALUES, TARGETS, delta=2.0).mean(axis=1)
    np.testing.assert_allclose(optax_style(lb.Huber(delta=2.0))(VALUES, TARGETS), per_sample.mean(), rtol=1e-6)
    np.testing.assert_allclose(optax_style(lj.Huber(2.0, reduction="sum"))(VALUES, TARGETS, sample_weight=weights), weights @ per_sample, rtol=1e-5)
    np.testing.assert_allclose(optax_style(lb.Huber(2.0, reduction="none"))(VALUES, TARGETS), per_sample, rtol=1e-6)
    np.testing.assert_allclose(optax_style(lb.Huber(2.0))(VALUES, TARGETS, mask=weights > 0.7), per_sample[weights > 0.7].mean(), rtol=1e-5)


def test_a_value():
    """What it returns is a value: equal for equal losses, hashable, picklable, a static argument or any other, compiled once."""
    traces = []

    def step(loss, p, y):
        traces.append(loss)
        return loss(p, y).mean()

    for compiled in (jax.jit(step), jax.jit(step, static_argnums=0)):
        traces.clear()
        for make in (lambda: optax_style(lb.huber), lambda: optax_style(lb.Huber(delta=2.0)), lambda: optax_style(lb.Huber(delta=3.0))):
            for loss in (make(), make(), pickle.loads(pickle.dumps(make()))):
                compiled(loss, VALUES, TARGETS)
        assert len(traces) == 3
    assert optax_style(lb.huber) != optax_style(lb.mse)
    assert len({optax_style(lb.huber), optax_style(lb.huber), optax_style(lb.Huber())}) == 2
    assert repr(optax_style(lb.huber)) == "optax_style(huber)"
    assert repr(optax_style(lb.Huber(2.0))) == f"optax_style({lb.Huber(2.0)!r})"
    assert optax_style(lb.Huber()).__name__ == optax_style(lb.huber_loss).__name__ == "huber"
    assert "optax_style" in lj.__all__


def test_mistakes():
    """Clear errors for shapes that differ, a forgotten argument, an unknown option, and what is no loss."""
    huber = optax_style(lb.huber)
    with pytest.raises(ValueError, match=r"huber: y_true and y_pred must have the same shape, got \(4,\) and \(6, 4\)"):
        huber(VALUES, TARGETS[0])
    with pytest.raises(TypeError, match="targets are missing"):
        huber(VALUES)
    with pytest.raises(TypeError, match="huber: unknown option 'dleta', did you mean 'delta'"):
        huber(VALUES, TARGETS, dleta=1.0)
    for wrong in (optax.huber_loss, lb.Huber, "huber"):
        with pytest.raises(TypeError, match="optax_style: expected a loss function or a loss object, got"):
            optax_style(wrong)


def test_where_optax_has_no_answer():
    """Where optax gives a NaN gradient (cosine of a zero vector) or 0 (log_cosh of a small error), ours is right."""
    zero, one = jnp.zeros((1, 4)), jnp.ones((1, 4))
    assert np.isnan(jax.grad(lambda p: optax.cosine_distance(p, one).sum())(zero)).all()
    np.testing.assert_array_equal(jax.grad(lambda p: optax_style(lb.cosine_similarity)(p, one).sum())(zero), zero)
    assert optax.log_cosh(jnp.array([1e-4]), jnp.zeros(1)) == 0.0
    np.testing.assert_allclose(optax_style(lb.log_cosh)(jnp.array([1e-4]), jnp.zeros(1)), 5e-9, rtol=1e-6)


def mlp(key, features, outputs):
    keys = jax.random.split(key)
    return [jax.random.normal(k, shape) / np.sqrt(shape[0]) for k, shape in zip(keys, ((features, 32), (32, outputs)), strict=True)]


def forward(parameters, x):
    return jax.nn.relu(x @ parameters[0]) @ parameters[1]


def train(loss, optimiser, x, y, outputs, steps=30):
    """(parameters, curve) of full-batch training with that optimiser."""
    parameters = mlp(jax.random.key(1), x.shape[1], outputs)

    @jax.jit
    def step(state, x, y):
        parameters, moments = state
        value, slope = jax.value_and_grad(lambda p: loss(forward(p, x), y).mean())(parameters)
        updates, moments = optimiser.update(slope, moments, parameters)
        return (optax.apply_updates(parameters, updates), moments), value

    state, curve = (parameters, optimiser.init(parameters)), []
    for _ in range(steps):
        state, value = step(state, x, y)
        curve.append(value)
    return state[0], curve


def test_classification(digits, same_curve):
    """`optax.adamw` trains on digits to the curve and the accuracy of optax's softmax cross-entropy."""
    images, labels = digits
    losses = partial(optax_style(lb.scce), from_logits=True), optax.softmax_cross_entropy_with_integer_labels
    (ours, curve), (builtin, expected) = (train(loss, optax.adamw(3e-2), images, labels, 10) for loss in losses)
    same_curve(curve, expected)
    accuracy = [(forward(parameters, images).argmax(axis=1) == labels).mean() for parameters in (ours, builtin)]
    assert accuracy[0] == accuracy[1] > 0.95


@pytest.mark.parametrize("name", ["huber_loss", "log_cosh", "l2_loss"])
def test_regression(diabetes, same_curve, name):
    """`optax.sgd` with momentum trains on diabetes to the curves of optax's elementwise losses."""
    ours, builtin, *_ = COUNTERPARTS[name]
    same_curve(*(train(loss, optax.sgd(0.1, momentum=0.9), *diabetes, 1)[1] for loss in (ours, builtin)))


def test_yes_or_no(tumours, same_curve):
    """`optax.chain` with clipping and a schedule trains on tumours to the curve of optax's sigmoid cross-entropy."""
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(1e-2, 30)))
    losses = partial(optax_style(lb.bce), from_logits=True), optax.sigmoid_binary_cross_entropy
    (ours, curve), (_, expected) = (train(loss, optimiser, *tumours, 1) for loss in losses)
    same_curve(curve, expected)
    assert ((forward(ours, tumours[0]) > 0) == tumours[1]).mean() > 0.97


def test_a_line_search(diabetes, same_curve):
    """`optax.lbfgs`, which calls the objective again, takes the steps that it takes with optax's loss."""
    x, y = diabetes

    def curve(loss):
        def objective(w):
            return loss(x @ w, y).mean()

        optimiser, w, values = optax.lbfgs(), jnp.zeros((10, 1)), []
        state = optimiser.init(w)
        value_and_grad = optax.value_and_grad_from_state(objective)
        for _ in range(4):
            value, slope = value_and_grad(w, state=state)
            updates, state = optimiser.update(slope, state, w, value=value, grad=slope, value_fn=objective)
            w = optax.apply_updates(w, updates)
            values.append(value)
        return values

    same_curve(curve(partial(optax_style(lb.huber), delta=1.0)), curve(partial(optax.huber_loss, delta=1.0)))


def test_the_example_of_its_documentation():
    """The examples of its documentation run."""
    test = doctest.DocTestParser().get_doctest(optax_style.__doc__, {"optax_style": optax_style}, "optax_style", None, None)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


def test_mistakes_name_what_came_in():
    """Tensors of another framework and unknown keywords are errors that name them; an axis is the loss's own."""
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"lossbackend\.jax takes jax tensors and NumPy arrays, got a torch tensor"):
        optax_style(lb.mse)(torch.zeros(2, 2), torch.zeros(2, 2))
    with pytest.raises(TypeError, match=r"predictions are missing: .* came predictor_outputs"):
        optax_style(lb.hinge)(predictor_outputs=jnp.zeros((2, 2)), targets=jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="axis 17 is out of range"):
        optax_style(lb.bce)(jnp.zeros((2, 2)), jnp.zeros((2, 2)), axis=17)
    assert optax_style(lb.bce)(jnp.full((2, 3), 0.5), jnp.zeros((2, 3)), axis=0).shape == (3,)
