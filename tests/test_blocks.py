"""Large input, computed in blocks of samples: the same numbers and gradients, bounded memory, threads that leave nothing behind."""

import os
import subprocess
import sys
import threading
import tracemalloc

import conftest
import numpy as np
import pytest
import reference

import lossbackend as lb

rng = np.random.default_rng(11)
SAMPLES, CLASSES = 9001, 40  # more than two blocks of each backend, the last one shorter
SHARES = rng.dirichlet(np.ones(CLASSES), SAMPLES).astype("float32")
OTHER = rng.dirichlet(np.ones(CLASSES), SAMPLES).astype("float32")
IDS = rng.integers(0, CLASSES, SAMPLES)
SIGNS = np.where(SHARES > 1 / CLASSES, 1.0, -1.0).astype("float32")
ONE_HOT = np.eye(CLASSES, dtype="float32")[IDS]
SOME = [0, 1, 3276, 3277, 6553, 6554, 9000]  # on both sides of where blocks may end


def labels(name):
    if name == "sparse_categorical_crossentropy":
        return IDS
    return ONE_HOT if name == "categorical_hinge" else SIGNS if "hinge" in name else SHARES


def exact(name, y_true, y_pred, **options):
    return np.array([float(reference.value(name, y, p, **options)[0]) for y, p in zip(y_true.tolist(), y_pred.astype(float).tolist(), strict=True)])


def names():
    return sorted(lb.registry.functions())


@pytest.mark.parametrize("name", names())
def test_each_sample_has_its_own_loss(backend, name):
    y_true = labels(name)
    losses = backend.numpy(getattr(lb, name)(backend.tensor(y_true), backend.tensor(OTHER)))
    assert losses.shape == (SAMPLES,)
    np.testing.assert_allclose(losses[SOME], exact(name, y_true[SOME], OTHER[SOME]), rtol=4e-5, atol=1e-7)


@pytest.mark.parametrize("name", names())
def test_each_sample_has_its_own_gradient(differentiable, name):
    y_true = labels(name)
    slopes = differentiable.grad(lambda p: getattr(lb, name)(differentiable.tensor(y_true), p), OTHER)
    wanted = [[float(slope) for slope in reference.gradient(name, y_true[i].tolist(), OTHER[i].astype(float).tolist())] for i in SOME[::3]]
    np.testing.assert_allclose(slopes[SOME[::3]], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [-1, 1, 0])
@pytest.mark.parametrize("sparse", [False, True], ids=["one-hot", "ids"])
def test_any_axis_of_rank_three(backend, axis, sparse):
    """(samples, time, classes), with the classes along another axis."""
    ids = IDS[:9000].reshape(90, 100)
    y_true = ids if sparse else np.moveaxis(np.eye(CLASSES, dtype="float32")[ids], -1, axis)
    y_pred = np.ascontiguousarray(np.moveaxis(OTHER[:9000].reshape(90, 100, CLASSES), -1, axis))
    loss = lb.scce if sparse else lb.cce
    weights = np.linspace(0.5, 2.0, CLASSES)
    losses = backend.numpy(loss(backend.tensor(np.ascontiguousarray(y_true)), backend.tensor(y_pred), axis=axis, class_weight=tuple(weights)))
    assert losses.shape == (90, 100)
    some = [(0, 0), (32, 77), (89, 99)]
    wanted = [weights[ids[i]] * exact("sparse_categorical_crossentropy", ids[i][None], OTHER[:9000].reshape(90, 100, -1)[i][None])[0] for i in some]
    np.testing.assert_allclose([losses[i] for i in some], wanted, rtol=4e-5)


MORE = 26_220  # two blocks of JAX and a few samples, which it computes again with those before
AROUND_BLOCKS = [0, 13106, 13107, 13112, 13113, 26213, 26214, 26219]


@pytest.mark.parametrize("name", ["mean_squared_error", "categorical_hinge", "kl_divergence", "sparse_categorical_crossentropy"])
def test_the_samples_of_the_last_block(backend, name):
    chosen = np.random.default_rng(5).integers(0, SAMPLES, MORE)
    y_true, y_pred = labels(name)[chosen], OTHER[chosen]
    assert y_pred.size >= 1 << 20
    losses = backend.numpy(getattr(lb, name)(backend.tensor(y_true), backend.tensor(y_pred)))
    assert losses.shape == (MORE,)
    np.testing.assert_allclose(losses[AROUND_BLOCKS], exact(name, y_true[AROUND_BLOCKS], y_pred[AROUND_BLOCKS]), rtol=4e-5, atol=1e-7)


def test_blocks_of_rank_three_along_another_axis(backend):
    """(samples, classes, time), which no backend can bring into two axes."""
    y_pred = np.random.default_rng(6).dirichlet(np.ones(4), (1500, 200)).astype("float32").transpose(0, 2, 1).copy()
    ids = np.random.default_rng(7).integers(0, 4, (1500, 200))
    wanted = -np.log(np.take_along_axis(y_pred.astype(float), ids[:, None], axis=1)[:, 0])
    np.testing.assert_allclose(backend.numpy(lb.scce(backend.tensor(ids), backend.tensor(y_pred), axis=1)), wanted, rtol=1e-4, atol=1e-6)


def test_blocks_with_a_learned_option(backend):
    error = np.linspace(-2.0, 2.0, 1_100_000).astype("float32")[:, None]
    losses = lb.huber(backend.tensor(np.zeros_like(error)), backend.tensor(error), delta=backend.tensor(np.float32(0.5)))
    size = np.abs(error[:, 0].astype(float))
    np.testing.assert_allclose(backend.numpy(losses), np.where(size <= 0.5, size**2 / 2, 0.5 * size - 0.125), rtol=1e-5, atol=1e-12)


def test_a_user_loss_in_blocks(backend):
    @lb.loss
    def own(ops, y_true, y_pred, power=2):
        return ops.mean((y_pred - y_true) ** power, axis=-1)

    y_true, y_pred = np.tile(SHARES, (3, 1)), np.tile(OTHER, (3, 1))
    for _ in range(2):  # the first call is made as a whole
        losses = backend.numpy(own(backend.tensor(y_true), backend.tensor(y_pred), power=3))
        np.testing.assert_allclose(losses, ((y_pred.astype(float) - y_true) ** 3).mean(axis=-1), rtol=1e-3, atol=1e-9)
    large = lb.get_backend(backend.name).in_parts(backend.tensor(y_true), backend.tensor(y_pred))
    assert own.definition.samples.are_independent({"power": 3}) == large
    assert large or backend.name == "tensorflow"  # which compiles the whole


def test_arrays_of_other_layouts(backend):
    for y_pred in (np.asfortranarray(OTHER), OTHER[::-1][::-1], np.repeat(OTHER, 2, axis=0)[::2]):
        losses = backend.numpy(lb.mse(backend.tensor(SHARES), backend.tensor(y_pred)))
        np.testing.assert_allclose(losses, ((OTHER.astype(float) - SHARES) ** 2).mean(axis=-1), rtol=1e-5)


# A user's definition


def test_a_loss_of_ones_own(backend):
    @lb.loss
    def own(ops, y_true, y_pred, scale=1.0):
        return scale * ops.mean(ops.square(ops.square(y_pred - y_true)), axis=-1)

    for scale in (1.0, 3.0, 1.0, 3.0):  # the first call of each is made as a whole
        losses = backend.numpy(own(backend.tensor(SHARES), backend.tensor(OTHER), scale))
        np.testing.assert_allclose(losses, scale * ((OTHER.astype(float) - SHARES) ** 4).mean(axis=-1), rtol=1e-4)


INTERACTING = {
    "sum": (lambda ops, y, p: ops.mean(p - y, axis=-1) / ops.sum(p), lambda y, p: (p - y).mean(axis=-1) / p.sum()),
    "largest": (lambda ops, y, p: ops.mean(p, axis=-1) - ops.max(p), lambda y, p: p.mean(axis=-1) - p.max()),
    "count": (lambda ops, y, p: ops.mean(p, axis=-1) / ops.shape(p)[0], lambda y, p: p.mean(axis=-1) / len(p)),
    "order": (
        lambda ops, y, p: ops.mean(p, axis=-1) * ops.asarray(np.arange(ops.shape(p)[0], dtype="float32"), p),
        lambda y, p: p.mean(axis=-1) * np.arange(len(p)),
    ),
    "one sample less": (
        lambda ops, y, p: ops.concat([ops.mean(p[1:] - p[:-1], axis=-1), ops.mean(p[:1], axis=-1)]),
        lambda y, p: np.concatenate([(p[1:] - p[:-1]).mean(axis=-1), p[:1].mean(axis=-1)]),
    ),
}


@pytest.mark.parametrize("declared", [False, True], ids=["forgotten", "declared"])
@pytest.mark.parametrize("interaction", INTERACTING)
def test_samples_that_depend_on_each_other(backend, interaction, declared):
    formula, wanted = INTERACTING[interaction]
    y_pred = np.exp(5 * OTHER)

    def own(ops, y_true, y_pred):
        return formula(ops, y_true, y_pred)

    loss = lb.loss(interacting=declared)(own)
    for _ in range(2):
        losses = loss(backend.tensor(SHARES), backend.tensor(y_pred))
        np.testing.assert_allclose(backend.numpy(losses), wanted(SHARES.astype(float), y_pred.astype(float)), rtol=1e-3, atol=1e-6)


def test_an_interaction_that_few_samples_hide(backend):
    """One label in a thousand is 1: a few samples have none, and look independent."""

    @lb.loss
    def own(ops, y_true, y_pred):
        return ops.mean(ops.square(y_pred - y_true), axis=-1) / (1e-3 + ops.mean(y_true))

    y_true = (np.arange(200_000) % 1009 == 3).astype("float32")[:, None]
    y_pred = np.random.default_rng(2).random((200_000, 1)).astype("float32")
    wanted = ((y_pred.astype(float) - y_true) ** 2).mean(axis=-1) / (1e-3 + y_true.mean(dtype=float))
    for _ in range(2):
        np.testing.assert_allclose(backend.numpy(own(backend.tensor(y_true), backend.tensor(y_pred))), wanted, rtol=1e-3)


def test_an_interaction_that_the_first_batch_hides(backend):
    """Labels that are all 1 have the same maximum in every part."""

    @lb.loss
    def own(ops, y_true, y_pred):
        return ops.mean(ops.abs(y_pred - y_true), axis=-1) / ops.max(ops.abs(y_true))

    for y_true in (np.ones_like(SHARES), SHARES):
        wanted = np.abs(OTHER.astype(float) - y_true).mean(axis=-1) / np.abs(y_true).max()
        np.testing.assert_allclose(backend.numpy(own(backend.tensor(y_true), backend.tensor(OTHER))), wanted, rtol=1e-3)


def test_a_definition_that_counts_its_axes_from_the_left(backend):
    """Samples of rank 2, whose own first axis it refers to."""

    @lb.loss
    def own(ops, y_true, y_pred):
        error = y_pred - y_true
        return ops.mean(ops.square(error - ops.mean(error, axis=1, keepdims=True)), axis=-1)

    y_pred = np.random.default_rng(4).normal(size=(4000, 8, 16)).astype("float32")
    exact = y_pred.astype(float)
    wanted = ((exact - exact.mean(axis=1, keepdims=True)) ** 2).mean(axis=-1)
    for _ in range(2):
        losses = own(backend.tensor(np.zeros_like(y_pred)), backend.tensor(y_pred))
        np.testing.assert_allclose(backend.numpy(losses), wanted, rtol=1e-3)


def test_a_tensor_among_the_options_is_not_kept(backend):
    @lb.loss
    def own(ops, y_true, y_pred, *, scale):
        return ops.mean(scale * (y_pred - y_true), axis=-1)

    for scale in (np.float32(2.0), np.linspace(0.0, 1.0, SAMPLES).astype("float32")[:, None]):
        wanted = (scale * (OTHER.astype(float) - SHARES)).mean(axis=-1)
        for _ in range(2):
            losses = own(backend.tensor(SHARES), backend.tensor(OTHER), scale=backend.tensor(scale))
            np.testing.assert_allclose(backend.numpy(losses), wanted, rtol=1e-3, atol=1e-7)
    assert backend.name == "numpy" or not own.definition.samples._found


def test_samples_that_are_all_alike_prove_nothing(backend):
    """With equal rows a loss that subtracts the batch's largest entry looks like one that does not."""

    @lb.loss
    def own(ops, y_true, y_pred):
        return ops.mean(y_pred, axis=-1) - ops.max(y_pred)

    ones = np.ones_like(OTHER)
    np.testing.assert_allclose(backend.numpy(own(backend.tensor(ones), backend.tensor(ones))), np.zeros(SAMPLES), atol=1e-6)
    losses = backend.numpy(own(backend.tensor(ones), backend.tensor(OTHER)))
    np.testing.assert_allclose(losses, OTHER.astype(float).mean(axis=-1) - OTHER.max(), rtol=1e-4)


def test_a_loss_within_a_loss(backend):
    @lb.loss
    def outer(ops, y_true, y_pred):
        return lb.mse(y_true, y_pred) + lb.mae(y_true, y_pred)

    y_true, y_pred = np.tile(SHARES, (4, 1)), np.tile(OTHER, (4, 1))
    error = OTHER.astype(float) - SHARES
    wanted = np.tile((error**2).mean(axis=-1) + np.abs(error).mean(axis=-1), 4)
    np.testing.assert_allclose(backend.numpy(outer(backend.tensor(y_true), backend.tensor(y_pred))), wanted, rtol=1e-5)


# Threads, memory, processes


def test_many_threads_at_once(backend):
    y_true, y_pred = backend.tensor(SHARES), backend.tensor(OTHER)
    wanted, found = ((OTHER.astype(float) - SHARES) ** 2).mean(axis=-1), []
    workers = [threading.Thread(target=lambda: found.append(backend.numpy(lb.mse(y_true, y_pred)))) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 8
    for losses in found:
        np.testing.assert_allclose(losses, wanted, rtol=1e-5)


def test_helpers_have_the_errstate_of_the_caller():
    y_pred = np.ones((2_000_000, 1), "float32")
    y_pred[-1] = 3e38
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        lb.mse(np.zeros_like(y_pred), y_pred)
    assert np.isinf(lb.mse(np.zeros_like(y_pred), y_pred)[-1])


def test_an_error_of_a_helper_is_the_callers():
    @lb.loss
    def own(ops, y_true, y_pred):
        if ops.shape(y_pred)[0] > 20 and float(y_pred[0, 0]) > 1.5e6:
            raise RuntimeError("in a block")
        return ops.mean(y_pred, axis=-1)

    y_pred = np.arange(2_000_000.0).reshape(-1, 1)
    own(y_pred, y_pred)  # as a whole, whose first entry is 0
    with pytest.raises(RuntimeError, match="in a block"):
        own(y_pred, y_pred)


@pytest.mark.parametrize("wanted", ["1", "3"])
def test_the_number_of_threads(monkeypatch, wanted):
    monkeypatch.setenv("LOSSBACKEND_NUM_THREADS", wanted)
    np.testing.assert_allclose(lb.mse(SHARES, OTHER), ((OTHER.astype(float) - SHARES) ** 2).mean(axis=-1), rtol=1e-5)


@pytest.mark.parametrize("wanted", ["0", "-1", "two", "1.5"])
def test_a_number_of_threads_that_is_none(monkeypatch, wanted):
    monkeypatch.setenv("LOSSBACKEND_NUM_THREADS", wanted)
    with pytest.raises(ValueError, match=f"LOSSBACKEND_NUM_THREADS must be a number of threads, got '{wanted}'"):
        lb.mse(SHARES, OTHER)


@pytest.mark.parametrize("name", names())
def test_temporaries_are_small_whatever_the_number_of_samples(name):
    """The losses themselves, and nothing else that grows."""
    samples = 1_000_000
    y_true = np.zeros(samples, "int64") if name == "sparse_categorical_crossentropy" else np.ones((samples, 8), "float32")
    y_pred = np.full((samples, 8), 0.125, "float32")
    tracemalloc.start()
    losses = getattr(lb, name)(y_true, y_pred)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - losses.nbytes < 2**25


PROCESSES = {
    "exit": "losses()\nassert any(t.name.startswith('lossbackend') for t in threading.enumerate())",
    "fork": """
losses()
child = os.fork()
if child == 0:
    os._exit(0 if np.allclose(losses(), 1.0) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
""",
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("way", PROCESSES)
def test_processes_end(way):
    """No thread holds a process at its end, and a forked one has threads of its own."""
    head = "import os, threading, numpy as np, lossbackend as lb\nos.environ['LOSSBACKEND_NUM_THREADS'] = '3'\n"
    head += "def losses(): return lb.mse(np.zeros((200000, 4)), np.ones((200000, 4)))\n"
    done = subprocess.run([sys.executable, "-W", "error", "-c", head + PROCESSES[way]], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# Gradients on torch, where each block is differentiated while it is computed


@pytest.fixture
def torch():
    if "torch" not in conftest.chosen_backends():
        pytest.skip("torch was not chosen")
    return conftest.load("torch").module


def quartic_slopes(scale=1.0):
    return scale * 4 * (OTHER.astype(float) - SHARES) ** 3 / CLASSES


@lb.loss
def quartic(ops, y_true, y_pred, *, scale=1.0):
    return ops.mean(scale * ops.square(ops.square(y_pred - y_true)), axis=-1)


def large(torch, *learned):
    y_true, y_pred = torch.tensor(SHARES, requires_grad="y_true" in learned), torch.tensor(OTHER, requires_grad="y_pred" in learned)
    quartic(y_true, y_pred)  # the first call learns that samples are independent
    return y_true, y_pred


@pytest.mark.parametrize("learned", [("y_true",), ("y_pred",), ("y_true", "y_pred")], ids="-".join)
def test_gradients_by_what_has_one(torch, learned):
    y_true, y_pred = large(torch, *learned)
    upstream = torch.linspace(-1, 1, SAMPLES)
    slopes = upstream.double().numpy()[:, None] * quartic_slopes()
    losses = quartic(y_true, y_pred)
    for _ in range(2):  # a graph may be used twice
        found = torch.autograd.grad(losses, [y_true] * ("y_true" in learned) + [y_pred] * ("y_pred" in learned), upstream, retain_graph=True)
        for name, gradient in zip(learned, found, strict=True):
            np.testing.assert_allclose(gradient, -slopes if name == "y_true" else slopes, rtol=1e-4, atol=1e-9)


def test_derivatives_of_gradients(torch):
    y_true, y_pred = large(torch, "y_pred")
    direction = torch.linspace(0.5, 2, CLASSES)
    (gradient,) = torch.autograd.grad(quartic(y_true, y_pred).sum(), y_pred, create_graph=True)
    (second,) = torch.autograd.grad((gradient * direction).sum(), y_pred)
    wanted = 12 * (OTHER.astype(float) - SHARES) ** 2 / CLASSES * direction.double().numpy()
    np.testing.assert_allclose(second, wanted, rtol=1e-4, atol=1e-9)
    # A Hessian that is none: through the losses of a function of what is differentiated.
    (gradient,) = torch.autograd.grad(lb.mse(y_true, y_pred**2).sum(), y_pred, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), y_pred)
    p, y = OTHER.astype(float), SHARES.astype(float)
    np.testing.assert_allclose(second, (12 * p**2 - 4 * y) / CLASSES, rtol=1e-3, atol=1e-7)


def test_labels_that_depend_on_predictions_or_the_other_way_round(torch):
    a = torch.tensor(OTHER, requires_grad=True)
    exact, y = OTHER.astype(float), OTHER.astype(float) ** 2
    for create_graph in (False, True):
        (slope,) = torch.autograd.grad(lb.mse(a, a**2).sum(), a, create_graph=create_graph)
        np.testing.assert_allclose(slope.detach(), 2 * (y - exact) * (2 * exact - 1) / CLASSES, rtol=1e-4, atol=1e-9)
    (second,) = torch.autograd.grad(slope.sum(), a)
    np.testing.assert_allclose(second, (2 * (2 * exact - 1) ** 2 + 4 * (y - exact)) / CLASSES, rtol=1e-4, atol=1e-8)
    (slope,) = torch.autograd.grad(lb.poisson(a, a).sum(), a, create_graph=True)
    np.testing.assert_allclose(slope.detach(), -np.log(exact + 1e-7) / CLASSES + (1 - exact / (exact + 1e-7)) / CLASSES, rtol=1e-4, atol=1e-7)


def test_many_gradients_at_once(torch):
    y_true, y_pred = large(torch, "y_pred")
    upstream = torch.stack([torch.ones(SAMPLES), torch.linspace(-1, 1, SAMPLES)])
    (found,) = torch.autograd.grad(quartic(y_true, y_pred), y_pred, upstream, is_grads_batched=True)
    np.testing.assert_allclose(found, upstream.double().numpy()[:, :, None] * quartic_slopes(), rtol=1e-4, atol=1e-9)


def test_a_checkpoint_computes_each_sample_twice(torch):
    computed = []

    @lb.loss
    def own(ops, y_true, y_pred):
        computed.append(ops.shape(y_pred)[0])
        return ops.mean(ops.square(y_pred - y_true), axis=-1)

    y_true, y_pred = torch.tensor(SHARES).repeat(4, 1), torch.tensor(OTHER).repeat(4, 1).requires_grad_()
    own(y_true, y_pred)
    computed.clear()
    losses = torch.utils.checkpoint.checkpoint(own, y_true, y_pred, use_reentrant=False)
    (slopes,) = torch.autograd.grad(losses.sum(), y_pred)
    np.testing.assert_allclose(slopes[:SAMPLES], 2 * (OTHER.astype(float) - SHARES) / CLASSES, rtol=1e-4, atol=1e-9)
    assert sum(computed) <= 2 * 4 * SAMPLES + 10


def test_labels_of_inference_mode_and_labels_that_change(torch):
    _, y_pred = large(torch, "y_pred")
    with torch.inference_mode():
        y_true = torch.tensor(SHARES)
    np.testing.assert_allclose(torch.autograd.grad(quartic(y_true, y_pred).sum(), y_pred)[0], quartic_slopes(), rtol=1e-4, atol=1e-9)
    y_true = torch.tensor(SHARES)
    losses = quartic(y_true, y_pred)
    y_true.zero_()
    with pytest.raises(RuntimeError, match="changed in place"):
        torch.autograd.grad(losses.sum(), y_pred, create_graph=True)
    np.testing.assert_allclose(torch.autograd.grad(losses.sum(), y_pred)[0], quartic_slopes(), rtol=1e-4, atol=1e-9)


def test_a_definition_without_a_slope_in_some_block(torch):
    @lb.loss
    def own(ops, y_true, y_pred):
        error = y_pred - y_true
        return ops.mean(ops.square(error if ops.shape(y_pred)[0] % 2 else ops.stop_gradient(error)), axis=-1)

    y_true, y_pred = large(torch, "y_pred")
    for _ in range(2):  # the last block has an odd number of samples, as the whole has
        (slopes,) = torch.autograd.grad(own(y_true, y_pred).sum(), y_pred)
        assert np.isfinite(slopes.numpy()).all()
        np.testing.assert_allclose(slopes[-1], 2 * (OTHER[-1].astype(float) - SHARES[-1]) / CLASSES, rtol=1e-4, atol=1e-9)


def test_a_learned_option_has_a_gradient(torch):
    y_true, y_pred = large(torch, "y_pred")
    scale = torch.tensor(2.0, requires_grad=True)
    by_pred, by_scale = torch.autograd.grad(quartic(y_true, y_pred, scale=scale).sum(), [y_pred, scale])
    np.testing.assert_allclose(by_pred, quartic_slopes(2.0), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(by_scale, ((OTHER.astype(float) - SHARES) ** 4).mean(axis=-1).sum(), rtol=1e-4)


def test_a_parameter_that_the_definition_closes_over_has_a_gradient(torch):
    weight = torch.nn.Parameter(torch.tensor(3.0))

    @lb.loss
    def own(ops, y_true, y_pred):
        return ops.mean(weight * ops.square(y_pred - y_true), axis=-1)

    y_true, y_pred = large(torch, "y_pred")
    error = OTHER.astype(float) - SHARES
    for _ in range(2):
        by_pred, by_weight = torch.autograd.grad(own(y_true, y_pred).sum(), [y_pred, weight])
        np.testing.assert_allclose(by_pred, 3 * 2 * error / CLASSES, rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(by_weight, (error**2).mean(axis=-1).sum(), rtol=1e-4)


def test_a_loss_without_a_slope(torch):
    y_true, y_pred = large(torch, "y_pred")

    @lb.loss
    def own(ops, y_true, y_pred):
        return ops.mean(ops.sign(y_pred - y_true), axis=-1) + 0.0 * ops.mean(ops.stop_gradient(y_pred), axis=-1)

    for _ in range(2):
        values = own(y_true, y_pred)
        if values.requires_grad:
            assert not torch.autograd.grad(values.sum(), y_pred)[0].any()


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own, while it makes a dual
def test_forward_mode(torch):
    y_true, y_pred = large(torch, "y_pred")
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(y_pred, torch.ones_like(y_pred))
        tangent = torch.autograd.forward_ad.unpack_dual(quartic(y_true, dual)).tangent
    np.testing.assert_allclose(tangent.detach(), quartic_slopes().sum(axis=-1), rtol=1e-3, atol=1e-9)


def test_only_the_slopes_are_kept(torch):
    """One tensor of the size of y_pred for backward, whatever the number of operations."""
    y_true, y_pred = large(torch, "y_pred")
    kept = [tensor for tensor in lb.log_cosh(y_true, y_pred).grad_fn.saved_tensors if tensor is not None]
    inputs = {y_true.data_ptr(), y_pred.data_ptr()}
    assert sum(tensor.numel() for tensor in kept if tensor.data_ptr() not in inputs) == y_pred.numel()
