"""Every loss and every option on ordinary input: value and gradient against 60-digit arithmetic."""

import functools

import numpy as np
import pytest
import reference
from samples import CLASS_AXIS, ONE_HOT

import lossbackend as lb

FLOATS = pytest.mark.parametrize("dtype", ["float32", "float64"])

CASES = [
    ("mean_squared_error", {}),
    ("mean_absolute_error", {}),
    ("mean_absolute_percentage_error", {}),
    ("mean_absolute_percentage_error", {"epsilon": 0.25}),
    ("mean_squared_logarithmic_error", {}),
    ("mean_squared_logarithmic_error", {"epsilon": 0.25}),
    ("hinge", {}),
    ("hinge", {"labels": "pm1"}),
    ("hinge", {"labels": "binary"}),
    ("squared_hinge", {}),
    ("squared_hinge", {"labels": "pm1"}),
    ("squared_hinge", {"labels": "binary"}),
    ("categorical_hinge", {}),
    ("log_cosh", {}),
    ("huber", {}),
    ("huber", {"delta": 0.25}),
    ("huber", {"delta": 5.0}),
    ("categorical_crossentropy", {}),
    ("categorical_crossentropy", {"label_smoothing": 0.3}),
    ("categorical_crossentropy", {"epsilon": 0.01}),
    ("categorical_crossentropy", {"class_weight": (2.0, 0.5, 3.0, 1.0, 0.0)}),
    ("categorical_crossentropy", {"label_smoothing": 0.3, "class_weight": (2.0, 0.5, 3.0, 1.0, 0.25), "epsilon": 0.01}),
    ("categorical_crossentropy", {"from_logits": True}),
    ("categorical_crossentropy", {"from_logits": True, "label_smoothing": 0.3}),
    ("categorical_crossentropy", {"from_logits": True, "label_smoothing": 0.3, "class_weight": (2.0, 0.5, 3.0, 1.0, 0.25)}),
    ("sparse_categorical_crossentropy", {}),
    ("sparse_categorical_crossentropy", {"label_smoothing": 0.3}),
    ("sparse_categorical_crossentropy", {"epsilon": 0.01}),
    ("sparse_categorical_crossentropy", {"ignore_class": 1}),
    ("sparse_categorical_crossentropy", {"label_smoothing": 0.3, "class_weight": (2.0, 0.5, 3.0, 1.0, 0.25), "ignore_class": 2}),
    ("sparse_categorical_crossentropy", {"from_logits": True}),
    ("sparse_categorical_crossentropy", {"from_logits": True, "label_smoothing": 0.3}),
    ("sparse_categorical_crossentropy", {"from_logits": True, "label_smoothing": 0.3, "class_weight": (2.0, 0.5, 3.0, 1.0, 0.25), "ignore_class": 2}),
    ("binary_crossentropy", {}),
    ("binary_crossentropy", {"label_smoothing": 0.2}),
    ("binary_crossentropy", {"epsilon": 0.01}),
    ("binary_crossentropy", {"pos_weight": 3.0}),
    ("binary_crossentropy", {"pos_weight": (3.0, 0.5, 2.0, 1.0, 4.0), "label_smoothing": 0.2, "epsilon": 0.01}),
    ("binary_crossentropy", {"from_logits": True}),
    ("binary_crossentropy", {"from_logits": True, "label_smoothing": 0.2}),
    ("binary_crossentropy", {"from_logits": True, "label_smoothing": 0.2, "pos_weight": (3.0, 0.5, 2.0, 1.0, 4.0)}),
    ("kl_divergence", {}),
    ("kl_divergence", {"epsilon": 0.25}),
    ("kl_divergence", {"from_logits": True}),
    ("poisson", {}),
    ("poisson", {"epsilon": 0.25}),
    ("poisson", {"log_input": True}),
    ("cosine_similarity", {}),
]
IDS = [f"{name}-{options}" for name, options in CASES]
every_case = pytest.mark.parametrize("case", range(len(CASES)), ids=IDS)

# One case of each loss in each of its forms, and the richest one of the cross-entropies.
LARGE = [index for index, (_, options) in enumerate(CASES) if not options.keys() - {"from_logits", "log_input"} or len(options) > 2]

# float64 inputs, rounded to the type under test: two shapes, the second of one sample per row and rank 3.
SHAPES = [(6, 5), (2, 3, 5)]


def ordinary(name, options, shape, dtype, seed):
    """Input such as a model makes: logits and errors of a few units, probabilities from all of (0, 1), several magnitudes of each."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=shape) * random.choice([0.1, 1.0, 5.0], (*shape[:-1], 1))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    if name in CLASS_AXIS:
        y_true = random.integers(0, shape[-1], shape[:-1]).astype("int32")
        # Probabilities are divided by their sum, so that of every other row is not 1.
        y_pred = logits if options.get("from_logits") or name == "categorical_hinge" else softmax * random.choice([1.0, 0.5, 3.0], (*shape[:-1], 1))
        if name in ONE_HOT:
            soft = random.dirichlet(np.ones(shape[-1]), shape[:-1]) * 1.5
            one_hot = np.eye(shape[-1])[y_true]
            y_true = np.where(random.random((*shape[:-1], 1)) < 0.5, one_hot, soft if name == "categorical_crossentropy" else one_hot).astype(dtype)
        return y_true, y_pred.astype(dtype)
    if name in ("hinge", "squared_hinge"):
        return random.choice([-1.0, 0.0, 1.0, 0.5, 2.0], shape).astype(dtype), logits.astype(dtype)
    if name == "binary_crossentropy":
        y_true = np.where(random.random(shape) < 0.6, random.integers(0, 2, shape), random.random(shape))
        return y_true.astype(dtype), (logits if options.get("from_logits") else 1 / (1 + np.exp(-logits))).astype(dtype)
    if name == "kl_divergence":
        y_true = np.where(random.random(shape) < 0.2, 0.0, random.dirichlet(np.ones(shape[-1]), shape[:-1]))
        return y_true.astype(dtype), (logits if options.get("from_logits") else softmax).astype(dtype)
    if name == "poisson":
        return random.poisson(2.0, shape).astype(dtype), (logits if options.get("log_input") else np.exp(logits)).astype(dtype)
    if name == "mean_squared_logarithmic_error":
        return np.exp(random.normal(size=shape)).astype(dtype), (np.exp(random.normal(size=shape)) - 0.2).astype(dtype)
    return random.normal(size=shape).astype(dtype), logits.astype(dtype)


def flat(name, y_true, y_pred):
    """The samples as lists of Python floats, and class ids as Python integers."""
    labels = (
        y_true.reshape(-1).tolist() if name == "sparse_categorical_crossentropy" else y_true.reshape(-1, y_true.shape[-1]).astype("float64").tolist()
    )
    return labels, y_pred.reshape(-1, y_pred.shape[-1]).astype("float64").tolist()


def exact_losses(name, options, y_true, y_pred):
    pairs = [reference.value(name, y, p, **options) for y, p in zip(*flat(name, y_true, y_pred), strict=True)]
    return (np.array([float(part) for part in parts]).reshape(y_pred.shape[:-1]) for parts in zip(*pairs, strict=True))


def exact_gradient(name, options, y_true, y_pred):
    slopes = [reference.gradient(name, y, p, **options) for y, p in zip(*flat(name, y_true, y_pred), strict=True)]
    return np.array([[float(slope) for slope in row] for row in slopes]).reshape(y_pred.shape)


@functools.cache
def wanted(case, shape, dtype):
    """Input, exact losses, their rounding scales and the exact gradient; the same for each backend, so worked out once."""
    name, options = CASES[case]
    y_true, y_pred = ordinary(name, options, shape, dtype, seed=case)
    losses, scales = exact_losses(name, options, y_true, y_pred)
    return y_true, y_pred, losses, scales, exact_gradient(name, options, y_true, y_pred)


def gradient_scale(name, options, y_true, y_pred, gradient):
    """The size of what is added up in one gradient entry, where it can be more than the entry itself.

    A probability that is near its neighbours' sum, a softmax or sigmoid minus a label, a rate of 1 − y/p: such differences are exact relative to
    their terms. Elsewhere an entry is exact relative to itself.
    """
    own = np.abs(gradient).max(axis=-1, keepdims=True)
    if name == "poisson":
        return own + 1 + np.abs(y_true) / (1 if options.get("log_input") else np.maximum(y_pred, 1e-6))
    if name in CLASS_AXIS or options.get("from_logits"):
        return own + (4 if options.get("from_logits") else 4 / np.abs(y_pred).sum(axis=-1, keepdims=True))
    if name == "binary_crossentropy":
        return own + 4 / np.minimum(y_pred, 1 - y_pred).min(axis=-1, keepdims=True)
    if name == "cosine_similarity":
        return own + 1 / np.sqrt((y_pred.astype("float64") ** 2).sum(axis=-1, keepdims=True))
    if name in ("mean_squared_logarithmic_error", "squared_hinge"):
        return own + 2 * (1 + np.abs(y_true)) * (1 + np.abs(y_pred))
    return own


@every_case
@FLOATS
def test_value(backend, dtype, case):
    name, options = CASES[case]
    for shape in SHAPES:
        y_true, y_pred, losses, scales, _ = wanted(case, shape, dtype)
        result = getattr(lb, name)(backend.tensor(y_true), backend.tensor(y_pred), **options)
        assert backend.is_native(result)
        values = backend.numpy(result)
        assert values.dtype == dtype
        assert values.shape == shape[:-1]
        excess = np.abs(values - losses) / (float(np.finfo(dtype).eps) * np.maximum(scales, 1e-300))
        assert excess.max() <= 8, f"{excess.max():.1f} ulp of the sum of the terms at {np.unravel_index(excess.argmax(), excess.shape)}"


@every_case
@FLOATS
def test_gradient(differentiable, dtype, case):
    name, options = CASES[case]
    shape = SHAPES[0]
    y_true, y_pred, _, _, exact = wanted(case, shape, dtype)
    function = getattr(lb, name)
    gradient = differentiable.grad(lambda p: function(differentiable.tensor(y_true), p, **options), y_pred)
    assert gradient.dtype == dtype
    excess = np.abs(gradient - exact) / (float(np.finfo(dtype).eps) * np.maximum(gradient_scale(name, options, y_true, y_pred, exact), 1e-300))
    assert excess.max() <= 16, f"{excess.max():.1f} ulp of the sum of the terms at {np.unravel_index(excess.argmax(), excess.shape)}"


@pytest.mark.parametrize("case", LARGE, ids=[IDS[case] for case in LARGE])
def test_a_large_batch(backend, case):
    """More rows than any block or threshold of a backend: some of them, the first and the last included, are worked out exactly."""
    name, options = CASES[case]
    y_true, y_pred = ordinary(name, options, (60_000, 5), "float32", seed=case)
    y_true, y_pred = np.ascontiguousarray(y_true), np.ascontiguousarray(y_pred)
    values = backend.numpy(getattr(lb, name)(backend.tensor(y_true), backend.tensor(y_pred), **options))
    assert values.shape == (60_000,)
    rows = np.r_[0:3, 1023:1026, 4095:4098, 16383:16386, 30000, 59_997:60_000]
    losses, scales = exact_losses(name, options, y_true[rows], y_pred[rows])
    assert (np.abs(values[rows] - losses) <= 8 * 2.0**-23 * np.maximum(scales, 1e-30)).all()
    if backend.grad:
        gradient = backend.grad(lambda p: getattr(lb, name)(backend.tensor(y_true), p, **options), y_pred)
        exact = exact_gradient(name, options, y_true[rows], y_pred[rows])
        scale = gradient_scale(name, options, y_true[rows], y_pred[rows], exact)
        assert (np.abs(gradient[rows] - exact) <= 16 * 2.0**-23 * np.maximum(scale, 1e-30)).all()


def test_a_large_batch_along_another_axis(backend):
    """Samples along the last axis, classes along the first: the loss axis is never split."""
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(5, 60_000)).astype("float32"), random.integers(0, 5, 60_000).astype("int32")
    rows = np.r_[0:3, 16383:16386, 59_997:60_000]
    losses, _ = exact_losses("sparse_categorical_crossentropy", {"from_logits": True}, labels[rows], logits.T[rows])
    for y_true in (labels, labels[None]):
        values = backend.numpy(lb.scce(backend.tensor(y_true), backend.tensor(logits), from_logits=True, axis=0))
        assert values.shape == (60_000,)
        np.testing.assert_allclose(values[rows], losses, rtol=2e-6)
    losses, _ = exact_losses("cosine_similarity", {}, logits.T[rows], (logits.T + 1)[rows])
    values = backend.numpy(lb.cosine_similarity(backend.tensor(logits), backend.tensor(logits + 1), axis=0))
    np.testing.assert_allclose(values[rows], losses, atol=2e-6)


def test_one_large_sample(backend):
    """A rank-1 input of a million entries is one sample; the sum keeps its digits."""
    y_pred = np.full(1_000_000, 0.1, "float32")
    result = backend.numpy(lb.mse(backend.tensor(np.zeros_like(y_pred)), backend.tensor(y_pred)))
    assert result.shape == ()
    np.testing.assert_allclose(result, float(np.float32(0.1)) ** 2, rtol=2e-5)


def test_a_large_batch_of_a_loss_object(backend):
    """Weights, mask and class ids follow their rows into whatever parts a batch is split."""
    random = np.random.default_rng(0)
    y_pred, labels = random.normal(size=(60_000, 5)).astype("float32"), random.integers(0, 5, 60_000).astype("int32")
    weights, mask = random.uniform(0, 2, 60_000).astype("float32"), random.random(60_000) < 0.7
    shifted = y_pred.astype("float64") - y_pred.max(axis=-1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    losses = -np.take_along_axis(log_softmax, labels[:, None], axis=-1)[:, 0]
    y_pred[~mask], labels[~mask] = np.nan, -1
    weights = weights.astype("float64")
    for reduction, exact in (
        ("mean", (weights * losses)[mask].sum() / mask.sum()),
        ("mean_with_sample_weight", (weights * losses)[mask].sum() / weights[mask].sum()),
        ("sum", (weights * losses)[mask].sum()),
    ):
        loss = lb.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
        result = backend.numpy(loss(backend.tensor(labels), backend.tensor(y_pred), sample_weight=weights, mask=mask))
        np.testing.assert_allclose(result, exact, rtol=1e-5)
    none = lb.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    result = backend.numpy(none(backend.tensor(labels), backend.tensor(y_pred), sample_weight=weights, mask=mask))
    np.testing.assert_allclose(result, np.where(mask, weights * losses, 0.0), rtol=1e-4, atol=1e-6)


def test_a_bad_label_in_a_large_batch(backend):
    labels = np.zeros(60_000, "int32")
    labels[59_999] = 7
    with pytest.raises(ValueError, match="59999"):
        lb.scce(backend.tensor(labels), backend.tensor(np.full((60_000, 5), 0.2, "float32")))


def test_the_input_is_not_changed(backend):
    """Nothing is computed in place."""
    for case, (name, options) in enumerate(CASES):
        y_true, y_pred = ordinary(name, options, SHAPES[0], "float32", seed=case)
        native_true, native_pred = backend.tensor(y_true.copy()), backend.tensor(y_pred.copy())
        getattr(lb, name)(native_true, native_pred, **options)
        np.testing.assert_array_equal(backend.numpy(native_true), y_true)
        np.testing.assert_array_equal(backend.numpy(native_pred), y_pred)
