"""Equinox: its filtered transforms, and a loss object as a field of a module."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lossbackend as lb
from lossbackend.jax import OptaxStyle, optax_style

pytestmark = pytest.mark.host("Equinox", "equinox", "`loss(y, jax.vmap(model)(x)).mean()` in `eqx.filter_value_and_grad`; a loss object as a field")


def network(features, outputs):
    return eqx.nn.MLP(features, outputs, width_size=32, depth=1, key=jax.random.key(0))


def train(loss, x, y, outputs, steps=30):
    """(model, curve) of full-batch training, as in Equinox' own examples."""
    model, optimiser = network(x.shape[1], outputs), optax.adam(1e-2)

    @eqx.filter_jit
    def step(model, moments, x, y):
        value, slope = eqx.filter_value_and_grad(lambda model: loss(jax.vmap(model)(x), y).mean())(model)
        updates, moments = optimiser.update(slope, moments, model)
        return eqx.apply_updates(model, updates), moments, value

    moments, curve = optimiser.init(eqx.filter(model, eqx.is_inexact_array)), []
    for _ in range(steps):
        model, moments, value = step(model, moments, x, y)
        curve.append(value)
    return model, curve


def test_classification(digits, same_curve):
    """Trains on digits to the curve and the accuracy of optax's built-in loss."""
    images, labels = digits
    built_in = optax.softmax_cross_entropy_with_integer_labels
    found = [train(loss, images, labels, 10) for loss in (lambda z, y: lb.scce(y, z, from_logits=True), built_in)]
    same_curve(found[0][1], found[1][1])
    accuracy = [float((jax.vmap(model)(images).argmax(axis=1) == labels).mean()) for model, _ in found]
    assert accuracy[0] == accuracy[1] > 0.9


def test_regression(diabetes, same_curve):
    """Trains on diabetes to the curve of optax's log_cosh."""
    same_curve(train(optax_style(lb.log_cosh), *diabetes, 1)[1], train(optax.log_cosh, *diabetes, 1)[1])


class Task(eqx.Module):
    network: eqx.nn.MLP
    loss: lb.Loss
    penalty: OptaxStyle = optax_style(lb.mse)

    def __call__(self, x, y):
        predictions = jax.vmap(self.network)(x)
        return self.loss(y, predictions) + 0.0 * self.penalty(predictions, y).mean()


def test_a_field_of_a_module(diabetes, same_curve):
    """A loss object is an ordinary field of a module, which `jax.jit`, `jax.grad` and `filter_*` take, and equal ones compile once."""
    x, y = diabetes
    traces = []

    def objective(task, x, y):
        traces.append(task.loss)
        return task(x, y)

    def descend(task, transform):
        value, slope = transform(task, x, y)
        return jax.tree.map(lambda p, g: p - 0.1 * g if eqx.is_inexact_array(p) else p, task, slope), value

    expected, exact = network(10, 1), []
    for _ in range(4):
        value, slope = eqx.filter_jit(eqx.filter_value_and_grad(lambda model: optax.huber_loss(jax.vmap(model)(x), y, delta=0.5).mean()))(expected)
        expected = jax.tree.map(lambda p, g: p - 0.1 * g if eqx.is_inexact_array(p) else p, expected, slope)
        exact.append(value)
    filtered, curve = eqx.filter_jit(eqx.filter_value_and_grad(objective)), []
    task = Task(network(10, 1), lb.Huber(delta=0.5))
    for _ in range(4):
        # A new and equal object at each step.
        task, value = descend(Task(task.network, lb.Huber(delta=0.5)), filtered)
        curve.append(value)
    same_curve(curve, exact)
    assert len(traces) == 1
    filtered(Task(task.network, lb.Huber(delta=1.0)), x, y)
    assert len(traces) == 2


def test_a_module_of_arrays_only(diabetes):
    """With a loss object in it, a module of arrays stays a pytree that plain `jax.jit` and `jax.grad` take."""

    class Linear(eqx.Module):
        w: jax.Array
        loss: lb.Loss

        def __call__(self, x, y):
            return self.loss(y, x @ self.w)

    x, y = diabetes
    model = Linear(jnp.full((10, 1), 0.1), lb.MeanSquaredError())
    assert len(jax.tree.leaves(model)) == 1
    value, slope = jax.jit(jax.value_and_grad(lambda model: model(x, y)))(model)
    error = x @ np.full((10, 1), 0.1, "float32") - y
    np.testing.assert_allclose(value, np.mean(error**2), rtol=1e-5)
    np.testing.assert_allclose(slope.w, 2 * x.T @ error / len(x), rtol=1e-4, atol=1e-6)
    assert slope.loss == model.loss


def test_partition_and_serialisation(tmp_path, diabetes):
    """`eqx.partition`, `eqx.combine`, `tree_at` and (de)serialised leaves keep the loss of a module."""
    task = Task(network(10, 1), lb.Huber(delta=0.5))
    arrays, rest = eqx.partition(task, eqx.is_array)
    assert eqx.tree_equal(eqx.combine(arrays, rest), task)
    eqx.tree_serialise_leaves(tmp_path / "task.eqx", task)
    blank = eqx.tree_at(lambda task: task.network, task, eqx.nn.MLP(10, 1, width_size=32, depth=1, key=jax.random.key(1)))
    loaded = eqx.tree_deserialise_leaves(tmp_path / "task.eqx", blank)
    np.testing.assert_allclose(loaded(*diabetes), task(*diabetes), rtol=1e-6)
    error = jax.vmap(task.network)(diabetes[0]) - diabetes[1]
    np.testing.assert_allclose(task(*diabetes), optax.huber_loss(error, delta=0.5).mean(), rtol=1e-5)


def test_other_transforms(digits):
    """`filter_vmap` for the loss of each sample, and `filter_grad`, also of a checkpointed objective."""
    images, labels = digits[0][:100], digits[1][:100]
    model = network(64, 10)
    exact = optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(images), labels)
    single = partial(lb.sparse_categorical_crossentropy, from_logits=True)
    per_sample = eqx.filter_vmap(lambda model, x, y: single(y, model(x)), in_axes=(None, 0, 0))(model, images, labels)
    np.testing.assert_allclose(per_sample, exact, rtol=1e-5, atol=1e-6)
    objectives = (
        lambda model: single(labels, jax.vmap(model)(images)).mean(),
        eqx.filter_checkpoint(lambda model: single(labels, jax.vmap(model)(images)).mean()),
        lambda model: optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(images), labels).mean(),
    )
    *ours, builtin = (eqx.filter_grad(objective)(model).layers[0].weight for objective in objectives)
    for slope in ours:
        np.testing.assert_allclose(slope, builtin, rtol=1e-4, atol=1e-7)
