"""What each of several torch processes does: ``python torch_ranks.py FOLDER RANK PROCESSES``, started by test_torch_distributed.py.

A case is a function that raises where it does not hold. All processes run all of their cases in the same order, and write down which went well: after
one that failed they are out of step, and stop. Expected values are textbook formulas in NumPy, and torch's own losses of the whole batch.
"""

import functools
import sys
import traceback
import warnings
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

import lossbackend as lb
from lossbackend.backends.torch_backend import TorchOps
from lossbackend.testing import check_backend
from lossbackend.torch import nn

CASES = {2: {}, 4: {}}


def case(processes=2):
    def add(function):
        CASES[processes][function.__name__] = function
        return function

    return add


@functools.cache
def mesh(*shape):
    return init_device_mesh("cpu", shape or (dist.get_world_size(),))


def spread(x, *placements, over=None):
    """The tensor, which every process has, as a DTensor."""
    return distribute_tensor(torch.as_tensor(x), over or mesh(), placements, src_data_rank=None)


def whole(x):
    return (x.full_tensor() if isinstance(x, DTensor) else x).detach().numpy()


def close(got, expected, about="", rtol=1e-6):
    np.testing.assert_allclose(whole(got), expected, rtol=rtol, atol=rtol, err_msg=str(about))


# The losses in NumPy


def log_softmax(z):
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def entropy(y, log_p, smoothing=0.0, weights=1.0):
    y = y * (1 - smoothing) + smoothing / y.shape[-1]
    return -(weights * y * log_p).sum(axis=-1)


def binary(y, p, smoothing=0.0, positive=1.0):
    y = y * (1 - smoothing) + smoothing / 2
    return -(positive * y * np.log(p) + (1 - y) * np.log(1 - p)).mean(axis=-1)


def huber(e, delta=1.0):
    return np.where(abs(e) < delta, e**2 / 2, delta * (abs(e) - delta / 2)).mean(axis=-1)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def length(x):
    return np.sqrt((x**2).sum(axis=-1))


class Data:
    """Labels and predictions of some samples and classes."""

    def __init__(self, samples, classes):
        rng = np.random.default_rng(samples)
        self.real, self.logits = rng.normal(size=(2, samples, classes))
        self.shares, self.others = rng.dirichlet(np.full(classes, 4.0), size=(2, samples))
        self.ids = rng.integers(0, classes, samples)
        self.bits = rng.integers(0, 2, (samples, classes)).astype(float)
        self.weights, self.slopes = rng.uniform(0.5, 2.0, (2, samples))
        self.mask = np.arange(samples) % 3 > 0
        self.of_class = rng.uniform(0.5, 2.0, classes)

    def one_hot(self):
        return np.eye(self.logits.shape[1])[self.ids]


EVEN, UNEVEN = Data(8, 4), Data(7, 5)

# name: (loss, labels of the data, predictions of the data, options of the data, the formula of labels, predictions and the data)
LOSSES = {
    "mse": (lb.mse, "real", "logits", {}, lambda y, p, d: ((p - y) ** 2).mean(axis=-1)),
    "mae": (lb.mae, "real", "logits", {}, lambda y, p, d: abs(p - y).mean(axis=-1)),
    "mape": (lb.mape, "real", "logits", {}, lambda y, p, d: 100 * (abs(p - y) / abs(y)).mean(axis=-1)),
    "msle": (lb.msle, "shares", "others", {}, lambda y, p, d: ((np.log(1 + p) - np.log(1 + y)) ** 2).mean(axis=-1)),
    "log_cosh": (lb.log_cosh, "real", "logits", {}, lambda y, p, d: np.log(np.cosh(p - y)).mean(axis=-1)),
    "huber": (lb.huber, "real", "logits", {}, lambda y, p, d: huber(p - y)),
    "cosine": (lb.cosine, "real", "logits", {}, lambda y, p, d: -(y * p).sum(axis=-1) / (length(y) * length(p))),
    "hinge": (lb.hinge, "bits", "logits", {}, lambda y, p, d: np.maximum(1 - (2 * y - 1) * p, 0).mean(axis=-1)),
    "squared_hinge": (lb.squared_hinge, "bits", "logits", {}, lambda y, p, d: (np.maximum(1 - (2 * y - 1) * p, 0) ** 2).mean(axis=-1)),
    "categorical_hinge": (
        lb.categorical_hinge,
        "one_hot",
        "logits",
        {},
        lambda y, p, d: np.maximum(1 + ((1 - y) * p).max(axis=-1) - (y * p).sum(axis=-1), 0),
    ),
    "cce": (lb.cce, "shares", "others", {}, lambda y, p, d: entropy(y, np.log(p / p.sum(axis=-1, keepdims=True)))),
    "cce_logits": (lb.cce, "shares", "logits", {"from_logits": True}, lambda y, p, d: entropy(y, log_softmax(p))),
    "cce_options": (
        lb.cce,
        "shares",
        "logits",
        {"from_logits": True, "label_smoothing": 0.1, "class_weight": "of_class"},
        lambda y, p, d: entropy(y, log_softmax(p), 0.1, d.of_class),
    ),
    "scce": (lb.scce, "ids", "others", {}, lambda y, p, d: entropy(d.one_hot(), np.log(p / p.sum(axis=-1, keepdims=True)))),
    "scce_logits": (lb.scce, "ids", "logits", {"from_logits": True}, lambda y, p, d: entropy(d.one_hot(), log_softmax(p))),
    "scce_options": (
        lb.scce,
        "ids",
        "logits",
        {"from_logits": True, "label_smoothing": 0.1, "class_weight": "of_class", "ignore_class": 1},
        lambda y, p, d: np.where(y == 1, 0.0, entropy(d.one_hot(), log_softmax(p), 0.1, d.of_class)),
    ),
    "bce": (lb.bce, "bits", "others", {}, lambda y, p, d: binary(y, p)),
    "bce_logits": (lb.bce, "bits", "logits", {"from_logits": True}, lambda y, p, d: binary(y, sigmoid(p))),
    "bce_options": (
        lb.bce,
        "bits",
        "logits",
        {"from_logits": True, "label_smoothing": 0.2, "pos_weight": "of_class"},
        lambda y, p, d: binary(y, sigmoid(p), 0.2, d.of_class),
    ),
    "kld": (lb.kld, "shares", "others", {}, lambda y, p, d: (y * np.log(y / p)).sum(axis=-1)),
    "kld_logits": (lb.kld, "shares", "logits", {"from_logits": True}, lambda y, p, d: (y * (np.log(y) - log_softmax(p))).sum(axis=-1)),
    "poisson": (lb.poisson, "bits", "others", {}, lambda y, p, d: (p - y * np.log(p + 1e-7)).mean(axis=-1)),
    "poisson_log": (lb.poisson, "bits", "logits", {"log_input": True}, lambda y, p, d: (np.exp(p) - y * p).mean(axis=-1)),
}


def of(data, name):
    """(loss, y_true, y_pred, options, expected losses, expected gradient of Σ slope · loss)"""
    loss, labels, predictions, options, formula = LOSSES[name]
    y, p = getattr(data, labels), getattr(data, predictions)
    y = y() if callable(y) else y
    options = {option: getattr(data, value) if isinstance(value, str) else value for option, value in options.items()}

    def difference(step):
        return np.stack([formula(y, p + h, data) - formula(y, p - h, data) for h in step * np.eye(p.shape[1])], axis=1)

    gradient = (8 * difference(1e-5) - difference(2e-5)) / 12e-5
    return loss, y, p, options, formula(y, p, data), gradient * data.slopes[:, np.newaxis]


class Exchanged(TorchDispatchMode):
    """The collectives that DTensors call for, and how many numbers each is given."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented
        if function.namespace.startswith("_c10d_functional") and not function.__name__.startswith(("wait", "_wrap")):
            self.found.append((function.__name__.partition(".")[0], args[0].numel()))
        return function(*args, **(kwargs or {}))


def one_loss(name):
    """Values, gradients and placements, of batch- and class-sharded predictions, and no exchange of what has a number for each class."""
    for data in (EVEN, UNEVEN):
        loss, y, p, options, expected, gradient = of(data, name)
        for placement in (Shard(0), Shard(1)):
            labels = {"plain": torch.as_tensor(y), "replicated": spread(y, Replicate())} if data is EVEN else {"array": y, "list": y.tolist()}
            if y.ndim == 2 or placement == Shard(0):
                labels["sharded"] = spread(y, placement)
            for kind, y_true in labels.items():
                about = f"{p.shape} {placement}, labels {kind}"
                y_pred = spread(p, placement).requires_grad_()
                slopes = spread(data.slopes, Replicate())
                with Exchanged() as exchanged:
                    values = loss(y_true, y_pred, **options)
                    (values * slopes).sum().backward()
                assert values.placements == (Shard(0) if placement == Shard(0) else Replicate(),), (about, values.placements)
                assert y_pred.grad.placements == (placement,), (about, y_pred.grad.placements)
                assert all(name == "all_reduce" and size <= len(p) for name, size in exchanged.found), (about, exchanged.found)
                assert placement == Shard(1) or not exchanged.found, (about, exchanged.found)
                close(values, expected, about)
                close(y_pred.grad, gradient, about)


for _name in LOSSES:
    CASES[2][_name] = functools.partial(one_loss, _name)


@case()
def float32():
    for name in ("mse", "scce_logits", "bce_logits"):
        loss, y, p, options, expected, _ = of(UNEVEN, name)
        for dtype, result in ((torch.float32, torch.float32), (torch.bfloat16, torch.float32)):
            y_pred = spread(torch.tensor(p, dtype=dtype), Shard(1)).requires_grad_()
            values = loss(y, y_pred, **options)
            values.sum().backward()
            assert values.dtype is result
            assert y_pred.grad.dtype is dtype
            close(values, expected, name, rtol=1e-5 if dtype is torch.float32 else 0.05)


@case()
def cross_entropy_sends_no_predictions():
    for name in ("scce_logits", "scce", "cce_logits", "cce", "bce_logits", "bce"):
        loss, y, p, options, expected, _ = of(UNEVEN, name)
        y_pred = spread(p, Shard(1)).requires_grad_()
        with CommDebugMode() as forward:
            values = loss(y, y_pred, **options)
        gradient = torch.ones_like(values)
        with CommDebugMode() as backward:
            values.backward(gradient)
        for counts in (forward.get_comm_counts(), backward.get_comm_counts()):
            assert {str(kind).rpartition(".")[2] for kind, count in counts.items() if count} <= {"all_reduce"}, (name, counts)
        close(values, expected, name)


@case()
def reductions_with_weights_and_masks():
    data = UNEVEN
    losses, mask, weights = huber(data.logits - data.real), data.mask, data.weights
    kept = mask * weights * losses
    expected = {
        "sum": kept.sum(),
        "mean": kept.sum() / mask.sum(),
        "mean_with_sample_weight": kept.sum() / (mask * weights).sum(),
        "none": kept,
    }
    given = {
        "plain": (torch.tensor(weights), torch.tensor(mask)),
        "arrays": (weights, mask),
        "lists": (weights.tolist(), mask.tolist()),
        "sharded": (spread(weights, Shard(0)), spread(mask, Shard(0))),
        "whole": (spread(weights[:, np.newaxis], Replicate()), spread(mask, Replicate())),
    }
    error = data.logits - data.real
    slope = (mask * weights)[:, np.newaxis] * np.clip(error, -1, 1) / error.shape[1]
    for reduction, value in expected.items():
        loss = lb.Huber(reduction=reduction)
        for placement in (Shard(0), Shard(1), Replicate()):
            for kind, (sample_weight, chosen) in given.items():
                about = (reduction, placement, kind)
                y_pred = spread(data.logits, placement).requires_grad_()
                found = loss(data.real, y_pred, sample_weight, chosen)
                found.sum().backward()
                close(found, value, about)
                close(y_pred.grad, slope * (1.0 if reduction == "none" else value / kept.sum()), about)
                if reduction != "none":
                    # The same on every process, so that what one prints or logs is true.
                    np.testing.assert_allclose(found.item(), value, rtol=1e-6)
                    part = loss.partial(data.real, y_pred, sample_weight, chosen)
                    close((part + part).result(), 2 * value if reduction == "sum" else value, about)
    close(lb.Huber()(data.real, spread(data.logits, Shard(0))), losses.mean())
    close(lb.Huber()(data.real, spread(data.logits, Shard(0)), 0.5), losses.mean() / 2)


@case()
def what_is_masked_reaches_nothing():
    data = UNEVEN
    logits = np.where(data.mask[:, np.newaxis], data.logits, np.nan)
    expected = entropy(data.one_hot(), log_softmax(data.logits))[data.mask].mean()
    for placement in (Shard(0), Shard(1)):
        y_pred = spread(logits, placement).requires_grad_()
        loss = lb.SparseCategoricalCrossentropy(from_logits=True)(data.ids, y_pred, mask=data.mask)
        loss.backward()
        close(loss, expected)
        assert np.isfinite(whole(y_pred.grad)).all()


@case()
def a_nan_stays_in_its_sample():
    """Processes that look for a maximum together may lose it."""
    for name in LOSSES:
        loss, y, p, options, *_ = of(UNEVEN, name)
        p = p.copy()
        p[2, 0] = p[5, 4] = np.nan
        if name == "scce_options":
            y = np.where(y == 1, 0, y)
        for placement in (Shard(0), Shard(1)):
            bad = np.isnan(whole(loss(y, spread(p, placement), **options)))
            assert bad.tolist() == [i in (2, 5) for i in range(7)], (name, placement, bad)


@case()
def a_class_id_out_of_range_is_nan():
    good = entropy(UNEVEN.one_hot(), log_softmax(UNEVEN.logits))
    wrong = np.array([1, 3])
    for bad_ids in ((5, -1), (2**40, -100)):
        ids = UNEVEN.ids.copy()
        ids[wrong] = bad_ids
        for placement in (Shard(0), Shard(1)):
            for labels in (ids, torch.tensor(ids), ids.tolist(), torch.tensor(ids, dtype=torch.float64), spread(ids, Replicate())):
                y_pred = spread(UNEVEN.logits, placement).requires_grad_()
                values = lb.scce(labels, y_pred, from_logits=True)
                values.sum().backward()
                expected = good.copy()
                expected[wrong] = np.nan
                close(values, expected)
                assert np.isnan(whole(y_pred.grad)).any(axis=1).tolist() == [i in wrong for i in range(7)]


@case()
def shapes_of_labels():
    expected = entropy(UNEVEN.one_hot(), log_softmax(UNEVEN.logits))
    column = UNEVEN.ids[:, np.newaxis]
    for placement in (Shard(0), Shard(1)):
        for labels in (column, column.astype("int32"), column.astype(float), spread(column, Shard(0)), torch.tensor(column, dtype=torch.uint8)):
            close(lb.scce(labels, spread(UNEVEN.logits, placement), from_logits=True), expected)
    y, p = UNEVEN.real[:, 0], UNEVEN.logits[:, :1]
    close(lb.mse(y, spread(p, Shard(0))), ((p[:, 0] - y) ** 2))
    close(lb.mse(spread(y, Shard(0)), spread(p, Shard(0))), ((p[:, 0] - y) ** 2))
    close(lb.mse(spread(UNEVEN.real, Shard(0)), torch.tensor(UNEVEN.logits)), ((UNEVEN.logits - UNEVEN.real) ** 2).mean(axis=1))
    with pytest.raises(ValueError, match=r"must have the same shape, got \(3, 5\) and \(7, 5\)"):
        lb.mse(UNEVEN.real[:3], spread(UNEVEN.logits, Shard(0)))


@case()
def any_axis_of_three():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(3, 4, 5))
    for axis in (0, 1, -1):
        ids = rng.integers(0, logits.shape[axis], np.delete(logits.shape, axis))
        moved = np.moveaxis(logits, axis, -1)
        expected = -np.take_along_axis(log_softmax(moved), ids[..., np.newaxis], -1)[..., 0]
        for dim in range(3):
            close(lb.scce(ids, spread(logits, Shard(dim)), from_logits=True, axis=axis), expected, (axis, dim))
    along = -(UNEVEN.real * UNEVEN.logits).sum(axis=0) / np.sqrt((UNEVEN.real**2).sum(axis=0) * (UNEVEN.logits**2).sum(axis=0))
    for dim in range(2):
        close(lb.cosine(UNEVEN.real, spread(UNEVEN.logits, Shard(dim)), axis=0), along, dim)


@case()
def few_samples():
    for samples in (0, 1):
        real, logits, ids = UNEVEN.real[:samples], UNEVEN.logits[:samples], UNEVEN.ids[:samples]
        y_pred = spread(logits, Shard(0)).requires_grad_()
        values = lb.scce(ids, y_pred, from_logits=True)
        values.sum().backward()
        close(values, entropy(np.eye(5)[ids], log_softmax(logits)))
        assert y_pred.grad.shape == logits.shape
        close(lb.MeanSquaredError()(real, spread(logits, Shard(0))), ((logits - real) ** 2).mean() if samples else 0.0)
    # One process has no entry of a row.
    close(lb.categorical_hinge(np.ones((3, 1)), spread(np.full((3, 1), 0.25), Shard(1))), [0.75] * 3)
    close(lb.cosine(np.ones((3, 1)), spread(np.full((3, 1), 0.25), Shard(1))), [-1.0] * 3)


@case()
def predictions_that_are_yet_to_be_added_up():
    """As those of a row-parallel layer."""
    for name in LOSSES:
        loss, y, p, options, expected, gradient = of(UNEVEN, name)
        share = torch.tensor(p * (0.25 if dist.get_rank() else 0.75), requires_grad=True)
        y_pred = DTensor.from_local(share, mesh(), [Partial()])
        values = loss(torch.tensor(y), y_pred, **options)
        (values * spread(UNEVEN.slopes, Replicate())).sum().backward()
        close(values, expected, name)
        close(share.grad, gradient, name)


@case()
def learned_options():
    """The gradient of what every process has is the whole one."""
    error = UNEVEN.logits - UNEVEN.real
    delta = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    lb.huber(UNEVEN.real, spread(UNEVEN.logits, Shard(0)), delta=delta).sum().backward()
    close(delta.grad, np.maximum(abs(error) - 0.5, 0).mean(axis=1).sum())
    for placement in (Shard(0), Shard(1)):
        weights = torch.tensor(UNEVEN.of_class, requires_grad=True)
        lb.scce(UNEVEN.ids, spread(UNEVEN.logits, placement), from_logits=True, class_weight=weights).sum().backward()
        close(weights.grad, -(UNEVEN.one_hot() * log_softmax(UNEVEN.logits)).sum(axis=0))
    weights = torch.tensor(UNEVEN.weights, requires_grad=True)
    lb.Huber(reduction="sum")(UNEVEN.real, spread(UNEVEN.logits, Shard(0)), weights).backward()
    close(weights.grad, huber(error))


@case()
def value_and_gradient():
    share = np.exp(log_softmax(UNEVEN.logits))
    value, gradient = lb.value_and_grad(lb.scce)(UNEVEN.ids, spread(UNEVEN.logits, Shard(1)), from_logits=True)
    close(value, entropy(UNEVEN.one_hot(), log_softmax(UNEVEN.logits)).mean())
    close(gradient, (share - UNEVEN.one_hot()) / 7)
    # And the derivative of a gradient: of Σ g², 2 (diag p − p pᵀ) g.
    y_pred = spread(UNEVEN.logits, Shard(1)).requires_grad_()
    (slopes,) = torch.autograd.grad(lb.scce(UNEVEN.ids, y_pred, from_logits=True).sum(), y_pred, create_graph=True)
    (slopes**2).sum().backward()
    g = share - UNEVEN.one_hot()
    close(y_pred.grad, 2 * share * (g - (share * g).sum(axis=1, keepdims=True)))


@case()
def a_loss_of_ones_own():
    @lb.loss(sparse=True)
    def brier(ops, y_true, y_pred):
        chosen = ops.one_hot(y_true, ops.shape(y_pred)[-1], ops.dtype(y_pred))
        return ops.mean(ops.square(ops.softmax(y_pred) - chosen), axis=-1) + ops.logsumexp(y_pred)

    shares = np.exp(log_softmax(UNEVEN.logits))
    expected = ((shares - UNEVEN.one_hot()) ** 2).mean(axis=1) + np.log(np.exp(UNEVEN.logits).sum(axis=1))
    for placement in (Shard(0), Shard(1)):
        with Exchanged() as exchanged:
            values = brier(UNEVEN.ids, spread(UNEVEN.logits, placement))
        assert all(kind == "all_reduce" and size <= 7 for kind, size in exchanged.found), exchanged.found
        close(values, expected)


@case()
def compiled():
    for name, placement in (("mse", Shard(0)), ("scce_logits", Shard(1))):
        loss, y, p, options, expected, gradient = of(UNEVEN, name)
        torch._dynamo.reset()
        fast = torch.compile(functools.partial(loss, **options), backend="aot_eager", fullgraph=True)
        y_pred = spread(p, placement).requires_grad_()
        values = fast(torch.tensor(y), y_pred)
        (values * spread(UNEVEN.slopes, Replicate())).sum().backward()
        close(values, expected, (name, placement))
        close(y_pred.grad, gradient, (name, placement))


@case()
def checking_mode_does_not_look():
    with lb.checked():
        close(lb.bce([[1.0]], spread([[3.0]], Shard(0))), [0.0])


@case()
def every_primitive():
    class Sharded(TorchOps):
        def asarray(self, x, like=None):
            x = super().asarray(x, like)
            return x if isinstance(x, DTensor) else spread(x, Shard(x.dim() - 1) if x.dim() else Replicate())

        def reshape(self, x, shape):
            # torch does not take shards of different sizes apart.
            return super().reshape(x.redistribute(placements=[Replicate()]), shape)

        def to_numpy(self, x):
            return whole(x)

    with pytest.raises(AssertionError, match="breaks the Ops contract") as raised:
        check_backend(Sharded())
    _, *breaches = str(raised.value).splitlines()
    # Values of all processes cannot be looked at by one.
    assert [breach.partition(": ")[0] for breach in breaches] == ["float32", "float64"], breaches
    assert all("is_concrete of" in breach and breach.endswith("False") for breach in breaches), breaches


@case()
def criteria():
    """Against torch's own, of the whole batch."""
    d = UNEVEN
    weight = torch.tensor(d.of_class)
    z, y, bits, ids, shares = (torch.tensor(x) for x in (d.logits, d.real, d.bits, d.ids, d.shares))
    logit = {"from_logits": True}
    for make, target, expected in (
        (nn.MeanSquaredError, y, functional.mse_loss),
        (nn.Huber, y, functional.huber_loss),
        (functools.partial(nn.SparseCategoricalCrossentropy, weight, **logit), ids, functools.partial(functional.cross_entropy, weight=weight)),
        (functools.partial(nn.CategoricalCrossentropy, **logit), shares, functional.cross_entropy),
        (
            functools.partial(nn.BinaryCrossentropy, pos_weight=weight, **logit),
            bits,
            functools.partial(functional.binary_cross_entropy_with_logits, pos_weight=weight),
        ),
        (functools.partial(nn.BinaryCrossentropy, y**2, **logit), bits, functools.partial(functional.binary_cross_entropy_with_logits, weight=y**2)),
    ):
        for reduction in ("mean", "sum", "none"):
            criterion = make(reduction=reduction)
            x = z.clone().requires_grad_()
            wanted = expected(x, target, reduction=reduction)
            wanted.sum().backward()
            for placement in (Shard(0), Shard(1)):
                for labels in (target, spread(target, placement if target.dim() == 2 else Replicate())):
                    about = (criterion, placement, type(labels))
                    input = spread(z, placement).requires_grad_()
                    found = criterion(input, labels)
                    found.sum().backward()
                    close(found, whole(wanted), about)
                    close(input.grad, whole(x.grad), about)


# Models on several processes. A linear model with softmax, whose gradient is (p − y) xᵀ.

INPUTS = np.random.default_rng(5).normal(size=(7, 3))


def linear():
    model = torch.nn.Linear(3, 5, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.linspace(-1.0, 1.0, 15).reshape(5, 3))
        model.bias.zero_()
    return model


def slopes(inputs, ids, weight, bias, of_sample):
    """The gradients of Σ of_sample · cross-entropy by weight and bias."""
    delta = of_sample[:, np.newaxis] * (np.exp(log_softmax(inputs @ weight.T + bias)) - np.eye(5)[ids])
    return delta.T @ inputs, delta.sum(axis=0)


def mine():
    """Which of the samples: five, and two."""
    return slice(0, 5) if dist.get_rank() == 0 else slice(5, 7)


@case()
def training_on_even_shards():
    """The mean of the gradients of equal shards is that of the whole."""
    rng = np.random.default_rng(6)
    inputs, ids = rng.normal(size=(8, 3)), rng.integers(0, 5, 8)
    samples = torch.utils.data.TensorDataset(torch.tensor(inputs), torch.tensor(ids))
    for loss in (lb.SparseCategoricalCrossentropy(from_logits=True), lambda y, p: nn.SparseCategoricalCrossentropy(from_logits=True)(p, y)):
        sampler = torch.utils.data.DistributedSampler(samples, shuffle=False)
        model = DistributedDataParallel(linear())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(2):
            for x, y in torch.utils.data.DataLoader(samples, batch_size=2, sampler=sampler):
                optimizer.zero_grad()
                loss(y, model(x)).backward()
                optimizer.step()
        weight, bias = (whole(parameter) for parameter in linear().parameters())
        for _ in range(2):
            for batch in ([0, 1, 2, 3], [4, 5, 6, 7]):
                by_weight, by_bias = slopes(inputs[batch], ids[batch], weight, bias, np.full(4, 0.25))
                weight, bias = weight - 0.5 * by_weight, bias - 0.5 * by_bias
        close(model.module.weight, weight)
        close(model.module.bias, bias)


def gradient_of_parts(model, loss, parameter, *weights):
    part = loss.partial(torch.tensor(UNEVEN.ids[mine()]), model(torch.tensor(INPUTS[mine()])), *(torch.tensor(w[mine()]) for w in weights))
    count = torch.tensor(float(part.denominator))
    dist.all_reduce(count)
    (part.total * dist.get_world_size() / count).backward()
    return parameter.grad


@case()
def training_on_uneven_shards():
    """A mean of means is not the mean; sums over the count of all are."""
    ids, (weight, bias) = UNEVEN.ids, (whole(parameter) for parameter in linear().parameters())
    loss = lb.SparseCategoricalCrossentropy(from_logits=True)
    expected, _ = slopes(INPUTS, ids, weight, bias, np.full(7, 1 / 7))
    model = DistributedDataParallel(linear())
    loss(torch.tensor(ids[mine()]), model(torch.tensor(INPUTS[mine()]))).backward()
    assert abs(whole(model.module.weight.grad) - expected).max() > 0.01
    model = DistributedDataParallel(linear())
    close(gradient_of_parts(model, loss, model.module.weight), expected)
    # With masks that leave one process with less, and weights.
    of_sample = UNEVEN.weights * UNEVEN.mask
    for reduction, denominator in (("mean", UNEVEN.mask.sum()), ("mean_with_sample_weight", of_sample.sum())):
        loss = lb.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
        model = DistributedDataParallel(linear())
        expected, _ = slopes(INPUTS, ids, weight, bias, of_sample / denominator)
        close(gradient_of_parts(model, loss, model.module.weight, UNEVEN.weights, UNEVEN.mask), expected, reduction)


@case()
def evaluating_on_uneven_shards():
    loss, logits = lb.SparseCategoricalCrossentropy(from_logits=True), INPUTS @ whole(linear().weight).T
    with torch.no_grad():
        own = [loss.partial(UNEVEN.ids[mine()][i : i + 2], torch.tensor(logits[mine()][i : i + 2])) for i in range(0, len(UNEVEN.ids[mine()]), 2)]
    losses = entropy(UNEVEN.one_hot(), log_softmax(logits))
    # A process without a batch has the sum of nothing, which is 0.
    for part, samples in ((sum(own), 7), (sum(own[:1] if dist.get_rank() == 0 else []), 2)):
        parts = [None] * dist.get_world_size()
        dist.all_gather_object(parts, part)
        close(sum(parts).result(), losses[:samples].mean())


@case()
def fully_sharded_parameters():
    model = linear()
    expected, _ = slopes(INPUTS, UNEVEN.ids, *(whole(parameter) for parameter in model.parameters()), np.full(7, 1 / 7))
    fully_shard(model, mesh=mesh())
    close(gradient_of_parts(model, lb.SparseCategoricalCrossentropy(from_logits=True), model.weight), expected)


@case()
def classes_of_a_layer_on_two_processes():
    """Tensor parallelism: the logits stay where they are made."""
    model = linear()
    expected, by_bias = slopes(INPUTS, UNEVEN.ids, *(whole(parameter) for parameter in model.parameters()), np.full(7, 1 / 7))
    parallelize_module(model, mesh(), ColwiseParallel(use_local_output=False))
    logits = model(torch.tensor(INPUTS))
    assert logits.placements == (Shard(1),)
    lb.SparseCategoricalCrossentropy(from_logits=True)(torch.tensor(UNEVEN.ids), logits).backward()
    close(model.weight.grad, expected)
    close(model.bias.grad, by_bias)


@case(processes=4)
def samples_times_classes():
    """Two groups of samples by two of classes, and other arrangements; five classes on four processes leave one without."""
    both = mesh(2, 2)
    arrangements = [
        ((Shard(0), Shard(1)), both, (Shard(0), Replicate())),
        ((Shard(1),), mesh(), (Replicate(),)),
        ((Shard(1), Shard(0)), both, (Replicate(), Shard(0))),
        ((Replicate(), Shard(1)), both, (Replicate(), Replicate())),
        ((Shard(1), Shard(1)), both, (Replicate(), Replicate())),
        ((Shard(0),), mesh(), (Shard(0),)),
    ]
    for name in LOSSES:
        loss, y, p, options, expected, gradient = of(UNEVEN, name)
        for placements, over, of_losses in arrangements if name in ("scce_logits", "categorical_hinge") else arrangements[:2]:
            y_pred = spread(p, *placements, over=over).requires_grad_()
            values = loss(y, y_pred, **options)
            (values * spread(UNEVEN.slopes, *[Replicate()] * over.ndim, over=over)).sum().backward()
            about = (name, placements)
            assert values.placements == of_losses, (about, values.placements)
            close(values, expected, about)
            close(y_pred.grad, gradient, about)
    loss = lb.SparseCategoricalCrossentropy(from_logits=True)
    found = loss(UNEVEN.ids, spread(UNEVEN.logits, Shard(0), Shard(1), over=both), UNEVEN.weights, UNEVEN.mask)
    losses = entropy(UNEVEN.one_hot(), log_softmax(UNEVEN.logits))
    np.testing.assert_allclose(found.item(), (losses * UNEVEN.weights * UNEVEN.mask).sum() / UNEVEN.mask.sum(), rtol=1e-6)


def main(folder, rank, processes):
    warnings.simplefilter("error")
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=int(rank), world_size=int(processes), timeout=timedelta(seconds=60))
    with Path(folder, f"rank{rank}").open("w", buffering=1) as results:
        for name, function in CASES[int(processes)].items():
            try:
                function()
            except BaseException:
                results.write(f"{name} failed\n{traceback.format_exc()}")
                raise
            results.write(f"{name} passed\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
