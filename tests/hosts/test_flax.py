"""Flax NNX: its training loop, and a loss object as an attribute of a module."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import lossbackend as lb
from lossbackend.jax import optax_style

pytestmark = pytest.mark.host(
    "Flax NNX", "flax", "`loss(y, model(x)).mean()` in `nnx.value_and_grad`, or `optax_style(loss)(logits=..., labels=...)`"
)


class Network(nnx.Module):
    def __init__(self, features, outputs, *, rngs, loss=None):
        self.hidden = nnx.Linear(features, 32, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.out = nnx.Linear(32, outputs, rngs=rngs)
        self.loss = loss

    def __call__(self, x):
        return self.out(self.dropout(nnx.relu(self.hidden(x))))


def train(objective, x, y, outputs, epochs=8, batch=300, **attributes):
    """(model, curve): Adam on batches, as in Flax's own guides."""
    model = Network(x.shape[1], outputs, rngs=nnx.Rngs(0), **attributes)
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x, y):
        value, slope = nnx.value_and_grad(objective)(model, x, y)
        optimizer.update(model, slope)
        return value

    curve = [step(model, optimizer, x[i : i + batch], y[i : i + batch]) for _ in range(epochs) for i in range(0, len(x), batch)]
    model.eval()
    return model, curve


def test_classification(digits, same_curve):
    """Trains on digits with `nnx.Optimizer`, `nnx.jit` and dropout, to the curve and the accuracy of optax's built-in loss."""
    images, labels = digits
    objectives = {
        "built in": lambda model, x, y: optax.softmax_cross_entropy_with_integer_labels(logits=model(x), labels=y).mean(),
        "function": lambda model, x, y: lb.scce(y, model(x), from_logits=True).mean(),
        "object": lambda model, x, y: lb.SparseCategoricalCrossentropy(from_logits=True)(y, model(x)),
        "optax_style": lambda model, x, y: optax_style(lb.scce)(logits=model(x), labels=y, from_logits=True).mean(),
    }
    found = {name: train(objective, images, labels, 10) for name, objective in objectives.items()}
    accuracies = {name: float((model(images).argmax(axis=1) == labels).mean()) for name, (model, _) in found.items()}
    for name in ("function", "object", "optax_style"):
        same_curve(found[name][1], found["built in"][1])
        assert accuracies[name] == accuracies["built in"] > 0.9


def test_regression(diabetes, same_curve):
    """Trains on diabetes to the curve of optax's Huber loss."""
    ours = train(lambda model, x, y: optax_style(lb.huber)(model(x), y, delta=0.5).mean(), *diabetes, 1)[1]
    same_curve(ours, train(lambda model, x, y: optax.huber_loss(model(x), y, delta=0.5).mean(), *diabetes, 1)[1])


def test_an_attribute_of_a_module(diabetes, same_curve):
    """A loss object is an attribute of a module, through `nnx.jit`, `nnx.split` and `nnx.merge`; equal ones share a compilation."""
    loss = lb.Huber(delta=0.5)
    model, curve = train(lambda model, x, y: model.loss(y, model(x)), *diabetes, 1, loss=loss)
    same_curve(curve, train(lambda model, x, y: optax.huber_loss(model(x), y, delta=0.5).mean(), *diabetes, 1)[1])
    graph, state = nnx.split(model)
    assert len(jax.tree.leaves(nnx.state(model, nnx.Param))) == 4
    merged = nnx.merge(graph, state)
    assert merged.loss == loss
    traces = []

    @nnx.jit
    def value(model, x, y):
        traces.append(model.loss)
        return model.loss(y, model(x))

    x, y = diabetes
    for loss in (lb.Huber(delta=0.5), lb.Huber(delta=0.5), lb.Huber(delta=1.0)):
        other = Network(10, 1, rngs=nnx.Rngs(0), loss=loss)
        other.eval()
        error = np.abs(other(x) - y)
        exact = np.where(error < loss.delta, error**2 / 2, loss.delta * (error - loss.delta / 2)).mean()
        np.testing.assert_allclose(value(other, x, y), exact, rtol=1e-5)
    assert len(traces) == 2


def test_an_argument(diabetes):
    """A loss object is an argument of `nnx.jit` like any other, in a dict too."""
    model = Network(10, 1, rngs=nnx.Rngs(0))
    model.eval()
    traces = []

    @nnx.jit
    def value(losses, model, x, y):
        traces.append(losses)
        return losses["train"](y, model(x))

    for _ in range(2):
        found = value({"train": lb.MeanSquaredError()}, model, *diabetes)
        np.testing.assert_allclose(found, jnp.mean((model(diabetes[0]) - diabetes[1]) ** 2), rtol=1e-6)
    assert len(traces) == 1


def test_scan_and_vmap(digits):
    """Inside `nnx.scan` over batches and `nnx.vmap` over models."""
    images, labels = digits
    batches = images[:1500].reshape(5, 300, 64), labels[:1500].reshape(5, 300)
    model = Network(64, 10, rngs=nnx.Rngs(0))
    model.eval()

    @nnx.scan(in_axes=(None, 0, 0), out_axes=0)
    def losses(model, x, y):
        return lb.scce(y, model(x), from_logits=True).mean()

    expected = [optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean() for x, y in zip(*batches, strict=True)]
    np.testing.assert_allclose(losses(model, *batches), expected, rtol=1e-5)

    @nnx.vmap(in_axes=0, out_axes=0)
    def make(rngs):
        return nnx.Linear(64, 10, rngs=rngs)

    models = make(nnx.Rngs(0).split(3))
    values = nnx.vmap(lambda model: lb.scce(labels, model(images), from_logits=True).mean())(models)
    kernels = models.kernel[...]
    expected = [optax.softmax_cross_entropy_with_integer_labels(images @ kernel, labels).mean() for kernel in kernels]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_linen(digits, same_curve):
    """Flax Linen, with `TrainState`: the same loss, the same curve."""
    from flax import linen
    from flax.training.train_state import TrainState

    images, labels = digits
    network = linen.Sequential([linen.Dense(32), linen.relu, linen.Dense(10)])
    curves = []
    for loss in (lambda y, z: lb.scce(y, z, from_logits=True), lambda y, z: optax.softmax_cross_entropy_with_integer_labels(z, y)):
        state = TrainState.create(apply_fn=network.apply, params=network.init(jax.random.key(0), images[:1]), tx=optax.adam(1e-2))

        @jax.jit
        def step(state, x, y, loss=loss):
            value, slope = jax.value_and_grad(lambda params: loss(y, state.apply_fn(params, x)).mean())(state.params)
            return state.apply_gradients(grads=slope), value

        curve = []
        for _ in range(10):
            state, value = step(state, images, labels)
            curve.append(value)
        curves.append(curve)
    same_curve(*curves)
