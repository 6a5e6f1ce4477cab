"""Loss objects, reductions, weights, masks, names and configurations."""

import copy
import importlib
import json
import math
import pickle
import subprocess
import sys
from dataclasses import KW_ONLY, dataclass

import numpy as np
import pytest
import reference
from conftest import chosen_backends, load
from samples import CLASSES, EVERY_LOSS, expected, expected_gradient, sample

import lossbackend as lb

NAN, INF = math.nan, math.inf
MEANS = ("sum_over_batch_size", "mean", "auto")
REDUCTIONS = (*MEANS, "sum", "mean_with_sample_weight")

# Per-sample losses 1, 4, 9, 16 by mean_squared_error: the label is 0 and the prediction its root.
ROOTS = np.array([[1.0], [2.0], [3.0], [4.0]], "float32")
# The same losses and more as (2, 3): 1, 4, 9 / 16, 25, 36.
GRID = np.array([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]], "float32")


def mse(backend, y_pred, reduction, **arguments):
    """The reduced squared error against labels of 0, as a NumPy array."""
    loss = lb.MeanSquaredError(reduction=reduction)
    return backend.numpy(loss(backend.tensor(np.zeros_like(y_pred)), backend.tensor(y_pred), **arguments))


# Reductions


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_a_class_reduces_its_function(backend, name):
    y_true, y_pred = sample(name, (4, 3))
    exact, scales = expected(name, y_true, y_pred)
    y_true, y_pred = backend.tensor(y_true), backend.tensor(y_pred)
    tolerance = 8 * 2.0**-23 * scales.max()
    for reduction, wanted in [
        (None, exact),
        ("none", exact),
        ("sum", exact.sum()),
        *[(mean, exact.mean()) for mean in (*MEANS, "mean_with_sample_weight")],
    ]:
        result = getattr(lb, CLASSES[name])(reduction=reduction)(y_true, y_pred)
        assert backend.is_native(result)
        assert backend.dtype(result) == "float32"
        assert backend.shape(result) == np.shape(wanted)
        np.testing.assert_allclose(backend.numpy(result), wanted, rtol=0, atol=len(exact) * tolerance, err_msg=str(reduction))
    per_sample = getattr(lb, CLASSES[name])().call(y_true, y_pred)
    np.testing.assert_allclose(backend.numpy(per_sample), exact, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_the_gradient_of_a_reduced_loss(differentiable, name):
    y_true, y_pred = sample(name, (4, 3))
    gradient = differentiable.grad(lambda p: getattr(lb, CLASSES[name])()(differentiable.tensor(y_true), p), y_pred)
    exact = expected_gradient(name, y_true, y_pred) / 4
    np.testing.assert_allclose(gradient, exact, rtol=0, atol=64 * 2.0**-23 * np.abs(exact).max())


def test_reductions_with_weights(backend):
    """Losses 1, 4, 9, 16 and weights 1, 2, 0, 5: the sum is 89, the count 4, the sum of weights 8."""
    weights = np.array([1.0, 2.0, 0.0, 5.0], "float32")
    for sample_weight in (
        weights,
        backend.tensor(weights),
        weights.tolist(),
        weights.astype("float64"),
        weights.astype("int32"),
        weights.reshape(4, 1),
    ):
        np.testing.assert_array_equal(mse(backend, ROOTS, "none", sample_weight=sample_weight), [1, 8, 0, 80])
        np.testing.assert_array_equal(mse(backend, ROOTS, None, sample_weight=sample_weight), [1, 8, 0, 80])
        assert mse(backend, ROOTS, "sum", sample_weight=sample_weight) == 89
        for mean in MEANS:
            assert mse(backend, ROOTS, mean, sample_weight=sample_weight) == 89 / 4
        assert mse(backend, ROOTS, "mean_with_sample_weight", sample_weight=sample_weight) == 89 / 8


def test_reductions_with_a_mask(backend):
    mask = np.array([True, False, True, False])
    for given in (mask, backend.tensor(mask), mask.tolist(), mask.reshape(4, 1)):
        np.testing.assert_array_equal(mse(backend, ROOTS, "none", mask=given), [1, 0, 9, 0])
        assert mse(backend, ROOTS, "sum", mask=given) == 10
        for mean in (*MEANS, "mean_with_sample_weight"):
            assert mse(backend, ROOTS, mean, mask=given) == 5


def test_reductions_with_weights_and_a_mask(backend):
    """Unmasked: losses 1, 4, 9 with weights 2, 0, 3; a weight of 0 still counts in the mean."""
    weights, mask = np.array([2.0, 0.0, 3.0, 7.0], "float32"), np.array([True, True, True, False])
    np.testing.assert_array_equal(mse(backend, ROOTS, "none", sample_weight=weights, mask=mask), [2, 0, 27, 0])
    assert mse(backend, ROOTS, "sum", sample_weight=weights, mask=mask) == 29
    for mean in MEANS:
        assert mse(backend, ROOTS, mean, sample_weight=weights, mask=mask) == pytest.approx(29 / 3)
    assert mse(backend, ROOTS, "mean_with_sample_weight", sample_weight=weights, mask=mask) == pytest.approx(29 / 5)


def test_scalar_weights_and_masks(backend):
    for weight in (2, 2.0, np.float64(2.0), np.array(2.0, "float32"), backend.tensor(np.array(2.0, "float32"))):
        assert mse(backend, ROOTS, "sum", sample_weight=weight) == 60
        assert mse(backend, ROOTS, "mean", sample_weight=weight) == 15
        assert mse(backend, ROOTS, "mean_with_sample_weight", sample_weight=weight) == 7.5
        np.testing.assert_array_equal(mse(backend, ROOTS, "none", sample_weight=weight), [2, 8, 18, 32])
    for mask, wanted in ((True, 7.5), (False, 0.0), (np.array(True), 7.5), (backend.tensor(np.array(False)), 0.0)):
        assert mse(backend, ROOTS, "mean", mask=mask) == wanted
    assert mse(backend, ROOTS, "mean", sample_weight=0) == 0
    assert mse(backend, ROOTS, "mean_with_sample_weight", sample_weight=0) == 0


LOSSES = GRID[..., 0].astype("float64") ** 2
ALIGNED = {
    "(N,)": ([1.0, 3.0], [[1, 1, 1], [3, 3, 3]]),
    "(N,1)": ([[1.0], [3.0]], [[1, 1, 1], [3, 3, 3]]),
    "(N,T)": ([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [[1, 2, 3], [4, 5, 6]]),
    "(1,T)": ([[1.0, 2.0, 4.0]], [[1, 2, 4], [1, 2, 4]]),
    "(1,)": ([3.0], [[3, 3, 3], [3, 3, 3]]),
    "(1,1)": ([[3.0]], [[3, 3, 3], [3, 3, 3]]),
    "(N,T,1)": ([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]], [[1, 2, 3], [4, 5, 6]]),
    "(N,1,1)": ([[[1.0]], [[3.0]]], [[1, 1, 1], [3, 3, 3]]),
    "(1,T,1)": ([[[1.0], [2.0], [4.0]]], [[1, 2, 4], [1, 2, 4]]),
}


@pytest.mark.parametrize("shape", ALIGNED)
def test_weights_align_from_the_left(backend, shape):
    given, meant = ALIGNED[shape]
    given, meant = np.array(given, "float32"), np.array(meant, "float64")
    for weights in (given, backend.tensor(given)):
        np.testing.assert_array_equal(mse(backend, GRID, "none", sample_weight=weights), meant * LOSSES)
        assert mse(backend, GRID, "sum", sample_weight=weights) == (meant * LOSSES).sum()
        assert mse(backend, GRID, "mean", sample_weight=weights) == pytest.approx((meant * LOSSES).sum() / 6)
        assert mse(backend, GRID, "mean_with_sample_weight", sample_weight=weights) == pytest.approx((meant * LOSSES).sum() / meant.sum())


@pytest.mark.parametrize("shape", ALIGNED)
def test_masks_align_from_the_left(backend, shape):
    given, meant = (np.array(values) > 2 for values in ALIGNED[shape])
    for mask in (given, backend.tensor(given)):
        np.testing.assert_array_equal(mse(backend, GRID, "none", mask=mask), meant * LOSSES)
        assert mse(backend, GRID, "sum", mask=mask) == (meant * LOSSES).sum()
        for mean in ("mean", "mean_with_sample_weight"):
            assert mse(backend, GRID, mean, mask=mask) == pytest.approx((meant * LOSSES).sum() / max(meant.sum(), 1))


@pytest.mark.parametrize("argument", ["sample_weight", "mask"])
def test_weights_and_masks_that_do_not_align(backend, argument):
    dtype = {"sample_weight": "float32", "mask": "bool"}[argument]
    for y_pred, shapes in (
        (GRID, [(3,), (2, 2), (3, 2), (2, 3, 2), (2, 3, 1, 1), (4,), (0,), (6,), (2, 1, 3), (1, 3, 3)]),
        (ROOTS, [(3,), (4, 2), (4, 1, 1), (1, 4), (0,)]),
    ):
        for shape in shapes:
            with pytest.raises(ValueError, match=argument) as info:
                mse(backend, y_pred, "mean", **{argument: np.ones(shape, dtype)})
            assert str(shape) in str(info.value)
            assert str(y_pred.shape[:-1]) in str(info.value)
    with pytest.raises(ValueError, match=argument):
        lb.MeanSquaredError()(backend.tensor(ROOTS[:, 0]), backend.tensor(ROOTS[:, 0]), **{argument: np.ones(4, dtype)})


def test_one_sample_takes_a_scalar_weight(backend):
    values = backend.tensor(np.array([1.0, 3.0], "float32"))
    zeros = backend.tensor(np.zeros(2, "float32"))
    for weight in (2.0, np.array([2.0], "float32")):
        result = lb.MeanSquaredError()(zeros, values, sample_weight=weight)
        assert backend.shape(result) == ()
        assert float(result) == 10.0


def test_weights_that_are_no_numbers(backend):
    for bad in ("abc", ["a", "b", "c", "d"], np.array([1j, 0, 0, 0]), object()):
        with pytest.raises((TypeError, ValueError), match="sample_weight"):
            mse(backend, ROOTS, "mean", sample_weight=bad)
        with pytest.raises((TypeError, ValueError), match="mask"):
            mse(backend, ROOTS, "mean", mask=bad)


def test_a_bad_reduction_is_named():
    for bad in ("average", "SUM", 1, "", True, ("sum",)):
        with pytest.raises((ValueError, TypeError), match="Invalid value for argument") as info:
            lb.Huber(reduction=bad)
        assert "reduction" in str(info.value)
        assert repr(bad) in str(info.value)


def test_negative_weights_are_weights(backend):
    assert mse(backend, ROOTS, "sum", sample_weight=[-1.0, 1.0, 0.0, 0.0]) == 3
    assert mse(backend, ROOTS, "mean_with_sample_weight", sample_weight=[-1.0, 3.0, 0.0, 0.0]) == 5.5


# What is not selected does not exist


def poisoned(name):
    """Four samples of which the second and the fourth are full of NaN and of labels that are no class."""
    y_true, y_pred = sample(name, (4, 3))
    good_true, good_pred = y_true.copy(), y_pred.copy()
    y_pred[1], y_pred[3] = [NAN, INF, -INF], NAN
    if y_true.dtype.kind == "i":
        y_true[1], y_true[3] = -1, 99
    else:
        y_true[1], y_true[3] = NAN, [INF, -INF, 1e38]
    return y_true, y_pred, good_true, good_pred


SELECTIONS = {
    "mask": {"mask": np.array([True, False, True, False])},
    "weight": {"sample_weight": np.array([1.0, 0.0, 2.0, 0.0], "float32")},
    "mask and weight": {"mask": np.array([True, False, True, True]), "sample_weight": np.array([1.0, 5.0, 2.0, 0.0], "float32")},
    "mask and NaN weight": {"mask": np.array([True, False, True, False]), "sample_weight": np.array([1.0, NAN, 2.0, INF], "float32")},
}


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("name", EVERY_LOSS)
def test_nothing_leaks_from_what_is_not_selected(backend, name, selection):
    """Neither into the value nor into the gradient, and bad labels do not raise."""
    y_true, y_pred, good_true, good_pred = poisoned(name)
    exact, scales = expected(name, good_true, good_pred)
    arguments = SELECTIONS[selection]
    weights = np.array([1.0, 0, 2.0, 0]) if "sample_weight" in arguments else np.array([1.0, 0, 1.0, 0])
    total = (weights * exact).sum()
    count = arguments.get("mask", np.ones(4)).sum()
    tolerance = 64 * 2.0**-23 * scales.max()
    for reduction, wanted in (("none", weights * exact), ("sum", total), ("mean", total / count), ("mean_with_sample_weight", total / weights.sum())):
        loss = getattr(lb, CLASSES[name])(reduction=reduction)
        result = backend.numpy(loss(backend.tensor(y_true), backend.tensor(y_pred), **arguments))
        np.testing.assert_allclose(result, wanted, rtol=0, atol=tolerance, err_msg=reduction)
    if backend.grad:
        gradient = backend.grad(lambda p: getattr(lb, CLASSES[name])(reduction="sum")(backend.tensor(y_true), p, **arguments), y_pred)
        slopes = expected_gradient(name, good_true, good_pred) * weights[:, None]
        np.testing.assert_array_equal(gradient[[1, 3]], np.zeros((2, 3)))
        np.testing.assert_allclose(gradient, slopes, rtol=0, atol=64 * 2.0**-23 * np.abs(slopes).max())


def test_nothing_leaks_within_a_sequence(backend):
    """A mask of (N, T) over predictions of (N, T, D), with class ids, along the last axis and along another."""
    y_true, y_pred = sample("sparse_categorical_crossentropy", (2, 4, 3))
    exact, _ = expected("sparse_categorical_crossentropy", y_true, y_pred)
    mask = np.array([[True, True, False, False], [True, False, True, True]])
    y_pred[~mask], y_true[~mask] = NAN, 1000
    for axis, labels, predictions in ((-1, y_true, y_pred), (-1, y_true[..., None], y_pred), (1, y_true, np.moveaxis(y_pred, -1, 1))):
        loss = lb.SparseCategoricalCrossentropy(axis=axis)
        result = loss(backend.tensor(labels), backend.tensor(np.ascontiguousarray(predictions)), mask=mask)
        np.testing.assert_allclose(backend.numpy(result), exact[mask].mean(), rtol=2e-6)
        if backend.grad:
            gradient = backend.grad(lambda p, y=labels, f=loss: f(backend.tensor(y), p, mask=mask), np.ascontiguousarray(predictions))
            assert np.isfinite(gradient).all()


def test_nothing_leaks_through_labels_of_the_shape_n(backend):
    """(N,) labels beside (N, 1) predictions, and the other way round."""
    column, row = np.array([[1.0], [NAN], [3.0]], "float32"), np.array([0.0, INF, 1.0], "float32")
    mask = np.array([True, False, True])
    for y_true, y_pred in ((row, column), (column, row)):
        for given in (mask, mask[:, None]):
            assert float(lb.MeanSquaredError()(backend.tensor(y_true), backend.tensor(y_pred), mask=given)) == 2.5


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_nothing_selected_is_zero(backend, name):
    y_true, y_pred = sample(name, (4, 3))
    y_pred = np.full_like(y_pred, NAN)
    for arguments in ({"mask": np.zeros(4, bool)}, {"sample_weight": np.zeros(4, "float32")}, {"mask": False}, {"sample_weight": 0.0}):
        for reduction in REDUCTIONS:
            loss = getattr(lb, CLASSES[name])(reduction=reduction)
            assert float(loss(backend.tensor(y_true), backend.tensor(y_pred), **arguments)) == 0.0
        if backend.grad and np.ndim(next(iter(arguments.values()))):
            gradient = backend.grad(lambda p, a=arguments: getattr(lb, CLASSES[name])()(backend.tensor(y_true), p, **a), y_pred)
            np.testing.assert_array_equal(gradient, np.zeros_like(y_pred))


def test_a_nan_that_is_selected_stays(backend):
    y_pred = np.array([[1.0], [NAN]], "float32")
    for reduction in REDUCTIONS:
        assert np.isnan(mse(backend, y_pred, reduction))
        assert np.isnan(mse(backend, y_pred, reduction, mask=[True, True]))


def test_a_weight_of_nan_or_of_inf_is_not_hidden(backend):
    assert np.isnan(mse(backend, ROOTS, "mean", sample_weight=[1.0, NAN, 1.0, 1.0]))
    assert mse(backend, ROOTS, "sum", sample_weight=[1.0, INF, 1.0, 1.0]) == INF


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_an_empty_batch_reduces_to_zero(backend, name):
    for shape in ((0, 3), (0, 4, 3), (2, 0, 3)):
        y_pred = np.zeros(shape, "float32")
        y_true = np.zeros(shape[:-1], "int32") if name == "sparse_categorical_crossentropy" else y_pred
        for reduction in REDUCTIONS:
            result = getattr(lb, CLASSES[name])(reduction=reduction)(backend.tensor(y_true), backend.tensor(y_pred))
            assert backend.shape(result) == ()
            assert float(result) == 0.0
        result = getattr(lb, CLASSES[name])(reduction="none")(
            backend.tensor(y_true), backend.tensor(y_pred), np.ones(shape[:-1]), np.ones(shape[:-1], bool)
        )
        assert backend.shape(result) == shape[:-1]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_the_type_of_a_reduced_loss(backend, dtype):
    """Half precision gives float32, whatever the type of the weights; a float64 weight does not make a float32 loss float64."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="nothing here has bfloat16 arrays")
    y_pred = backend.tensor(ROOTS, dtype)
    wanted = "float64" if dtype == "float64" else "float32"
    for weights in (None, 2.0, np.ones(4), np.ones(4, "float16"), np.ones(4, "int64")):
        result = lb.MeanSquaredError()(backend.tensor(np.zeros_like(ROOTS), dtype), y_pred, sample_weight=weights)
        assert backend.dtype(result) == wanted
        assert lb.MeanSquaredError(reduction="sum").partial(np.zeros_like(ROOTS), y_pred, sample_weight=weights).result().dtype == result.dtype
    result = lb.MeanSquaredError()(backend.tensor(np.zeros_like(ROOTS)), backend.tensor(ROOTS), sample_weight=np.ones(4))
    assert backend.dtype(result) == "float32"


def test_a_float32_sum_of_half_precision(backend):
    """300 losses of 1024 each are beyond float16."""
    result = lb.MeanSquaredError(reduction="sum")(backend.tensor(np.zeros((300, 1)), "float16"), backend.tensor(np.full((300, 1), 32.0), "float16"))
    assert float(result) == 300 * 1024


# Partial results


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_parts_merge_to_the_whole(backend, reduction):
    """Uneven parts, one of them empty and one wholly masked, with weights and a mask."""
    random = np.random.default_rng(1)
    y_true, y_pred = random.normal(size=(11, 3)).astype("float32"), random.normal(size=(11, 3)).astype("float32")
    weights, mask = random.uniform(0, 3, 11).astype("float32"), np.array([True] * 6 + [False] * 3 + [True] * 2)
    losses = ((y_pred.astype("float64") - y_true) ** 2).mean(axis=-1)
    loss = lb.MeanSquaredError(reduction=reduction)
    for use_weights in (False, True):
        for use_mask in (False, True):
            w, m = weights.astype("float64") if use_weights else np.ones(11), mask if use_mask else np.ones(11, bool)
            denominator = {"sum": 1.0, "mean_with_sample_weight": w[m].sum()}.get(reduction, m.sum())
            parts = []
            for start, stop in ((0, 1), (1, 6), (6, 6), (6, 9), (9, 11)):
                cut = slice(start, stop)
                arguments = {"sample_weight": weights[cut]} if use_weights else {}
                arguments |= {"mask": mask[cut]} if use_mask else {}
                parts.append(loss.partial(backend.tensor(y_true[cut]), backend.tensor(y_pred[cut]), **arguments))
            wanted = (w * losses)[m].sum() / denominator
            for merged in (sum(parts), parts[0] + parts[1] + parts[2] + parts[3] + parts[4], sum(parts[::-1])):
                assert backend.is_native(merged.result())
                np.testing.assert_allclose(backend.numpy(merged.result()), wanted, rtol=4e-6)


def test_a_part_is_the_loss_of_itself(backend):
    for name in EVERY_LOSS:
        y_true, y_pred = sample(name, (4, 3))
        exact, _ = expected(name, y_true, y_pred)
        loss = getattr(lb, CLASSES[name])()
        np.testing.assert_allclose(backend.numpy(loss.partial(backend.tensor(y_true), backend.tensor(y_pred)).result()), exact.mean(), rtol=4e-6)


def test_parts_of_sparse_labels_that_are_ignored(backend):
    """Each part has another number of counted entries; a mean of means would be wrong."""
    y_true, y_pred = sample("sparse_categorical_crossentropy", (6, 3))
    exact, _ = expected("sparse_categorical_crossentropy", y_true, y_pred)
    y_true[[1, 2, 3]] = -1
    loss = lb.SparseCategoricalCrossentropy(ignore_class=-1)
    parts = [loss.partial(backend.tensor(y_true[cut]), backend.tensor(y_pred[cut])) for cut in (slice(0, 4), slice(4, 6))]
    np.testing.assert_allclose(backend.numpy(sum(parts).result()), exact[[0, 4, 5]].mean(), rtol=4e-6)


def test_the_gradient_flows_through_parts(differentiable):
    y_pred = ROOTS

    def merged(p):
        loss = lb.MeanSquaredError()
        zeros = differentiable.tensor(np.zeros_like(ROOTS))
        return (loss.partial(zeros[:1], p[:1]) + loss.partial(zeros[1:], p[1:])).result()

    np.testing.assert_allclose(differentiable.grad(merged, y_pred), 2 * ROOTS / 4, rtol=1e-6)


def test_nothing_to_merge_without_a_reduction():
    with pytest.raises(ValueError, match="none"):
        lb.MeanSquaredError(reduction="none").partial([[1.0]], [[2.0]])


# class_weight, pos_weight, ignore_class

LOGS = [
    [math.log(0.5), math.log(0.25), math.log(0.25)],
    [math.log(0.125), math.log(0.625), math.log(0.25)],
    [math.log(0.25), math.log(0.25), math.log(0.5)],
]
PROBABILITIES = np.array([[0.5, 0.25, 0.25], [0.125, 0.625, 0.25], [0.25, 0.25, 0.5]], "float32")
IDS = np.array([0, 1, 0], "int32")


def cross_entropy_forms(backend):
    """The same three samples as class ids and as one-hot rows, as probabilities and as logits."""
    for from_logits, y_pred in ((False, PROBABILITIES), (True, np.array(LOGS, "float32") + 3)):
        yield lb.SparseCategoricalCrossentropy, backend.tensor(IDS), backend.tensor(y_pred), {"from_logits": from_logits}
        yield lb.CategoricalCrossentropy, backend.tensor(np.eye(3, dtype="float32")[IDS]), backend.tensor(y_pred), {"from_logits": from_logits}


CLASS_WEIGHTS = {
    "tuple": (2.0, 0.5, 3.0),
    "list": [2.0, 0.5, 3.0],
    "array": np.array([2.0, 0.5, 3.0]),
    "ids": {0: 2.0, 1: 0.5, 2: 3.0},
    "unordered": {2: 3, 0: 2, 1: 0.5},
}


@pytest.mark.parametrize("form", CLASS_WEIGHTS)
def test_class_weight(backend, form):
    """Multiplies each class's term; only "mean_with_sample_weight" divides by the weights of the true classes."""
    weights = CLASS_WEIGHTS[form]
    for smoothing in (0.0, 0.3):
        soft = np.eye(3)[IDS] * (1 - smoothing) + smoothing / 3
        terms = -(np.array([2.0, 0.5, 3.0]) * soft * np.array(LOGS)).sum(axis=-1)
        for cls, y_true, y_pred, options in cross_entropy_forms(backend):
            options = {**options, "class_weight": weights, "label_smoothing": smoothing}
            for reduction, wanted in (("none", terms), ("sum", terms.sum()), ("mean", terms.mean()), ("mean_with_sample_weight", terms.sum() / 4.5)):
                result = backend.numpy(cls(reduction=reduction, **options)(y_true, y_pred))
                np.testing.assert_allclose(result, wanted, rtol=4e-6, err_msg=f"{cls.__name__} {options} {reduction}")


def test_class_weight_with_sample_weight_and_mask(backend):
    terms = -np.array([2.0 * LOGS[0][0], 0.5 * LOGS[1][1], 2.0 * LOGS[2][0]])
    weights = np.array([3.0, 1.0, 5.0])
    for cls, y_true, y_pred, options in cross_entropy_forms(backend):
        loss = cls(class_weight=(2.0, 0.5, 3.0), reduction="mean_with_sample_weight", **options)
        result = backend.numpy(loss(y_true, y_pred, sample_weight=weights))
        np.testing.assert_allclose(result, (weights * terms).sum() / (6 + 0.5 + 10), rtol=4e-6)
        result = backend.numpy(loss(y_true, y_pred, sample_weight=weights, mask=[True, True, False]))
        np.testing.assert_allclose(result, (weights * terms)[:2].sum() / 6.5, rtol=4e-6)
        mean = cls(class_weight=(2.0, 0.5, 3.0), **options)
        np.testing.assert_allclose(backend.numpy(mean(y_true, y_pred, sample_weight=weights)), (weights * terms).sum() / 3, rtol=4e-6)


def test_missing_classes_weigh_one(backend):
    terms = -np.array([LOGS[0][0], 0.5 * LOGS[1][1], LOGS[2][0]])
    for cls, y_true, y_pred, options in cross_entropy_forms(backend):
        result = backend.numpy(cls(class_weight={1: 0.5}, reduction="none", **options)(y_true, y_pred))
        np.testing.assert_allclose(result, terms, rtol=4e-6)
        result = backend.numpy(cls(class_weight={1: 0.5}, reduction="mean_with_sample_weight", **options)(y_true, y_pred))
        np.testing.assert_allclose(result, terms.sum() / 2.5, rtol=4e-6)


def test_a_class_weight_of_zero_does_not_select_out(backend):
    """It weighs the class's term with 0; the sample stays in the mean, and its NaN is no less a NaN."""
    terms = -np.array([0.0, LOGS[1][1], 0.0])
    for cls, y_true, y_pred, options in cross_entropy_forms(backend):
        np.testing.assert_allclose(backend.numpy(cls(class_weight=(0.0, 1.0, 1.0), **options)(y_true, y_pred)), terms.sum() / 3, rtol=4e-6)
        poisoned_pred = backend.tensor(np.where(np.arange(3)[:, None] == 0, np.float32(NAN), backend.numpy(y_pred)))
        result = backend.numpy(cls(class_weight=(0.0, 1.0, 1.0), reduction="none", **options)(y_true, poisoned_pred))
        np.testing.assert_array_equal(np.isnan(result), [True, False, False])
        result = cls(class_weight=(0.0, 1.0, 1.0), reduction="mean_with_sample_weight", **options)(y_true, y_pred)
        np.testing.assert_allclose(backend.numpy(result), terms.sum() / 1, rtol=4e-6)


def test_class_weight_along_another_axis(backend):
    y_true, y_pred = sample("sparse_categorical_crossentropy", (2, 4, 3))
    exact, _ = expected("sparse_categorical_crossentropy", y_true, y_pred, class_weight=[2.0, 0.5, 3.0])
    counted = np.array([2.0, 0.5, 3.0])[y_true]
    moved = backend.tensor(np.ascontiguousarray(np.moveaxis(y_pred, -1, 1)))
    one_hot = backend.tensor(np.ascontiguousarray(np.moveaxis(np.eye(3, dtype="float32")[y_true], -1, 1)))
    for cls, labels in ((lb.SparseCategoricalCrossentropy, backend.tensor(y_true)), (lb.CategoricalCrossentropy, one_hot)):
        options = {"axis": 1, "class_weight": {0: 2.0, 1: 0.5, 2: 3.0}}
        np.testing.assert_allclose(backend.numpy(cls(reduction="none", **options)(labels, moved)), exact, rtol=4e-6)
        result = cls(reduction="mean_with_sample_weight", **options)(labels, moved)
        np.testing.assert_allclose(backend.numpy(result), exact.sum() / counted.sum(), rtol=4e-6)


def test_pos_weight(backend):
    """A number, or one per entry of the last axis, on the positive term; the denominators stay."""
    y_true, y_pred = np.array([[1.0, 0.0], [0.0, 1.0]], "float32"), np.array([[0.25, 0.5], [0.5, 0.125]], "float32")
    log2 = math.log(2)
    for weight, wanted in (
        (3.0, [(3 * 2 + 1) * log2 / 2, (1 + 3 * 3) * log2 / 2]),
        ((3.0, 5.0), [(3 * 2 + 1) * log2 / 2, (1 + 5 * 3) * log2 / 2]),
        ([3.0, 5.0], [(3 * 2 + 1) * log2 / 2, (1 + 5 * 3) * log2 / 2]),
        (np.array([3.0, 5.0]), [(3 * 2 + 1) * log2 / 2, (1 + 5 * 3) * log2 / 2]),
        (0, [log2 / 2, log2 / 2]),
    ):
        for reduction, value in (("none", wanted), ("mean", np.mean(wanted)), ("sum", np.sum(wanted)), ("mean_with_sample_weight", np.mean(wanted))):
            loss = lb.BinaryCrossentropy(pos_weight=weight, reduction=reduction)
            np.testing.assert_allclose(backend.numpy(loss(backend.tensor(y_true), backend.tensor(y_pred))), value, rtol=4e-6)
            assert hash(loss) == hash(copy.deepcopy(loss))
        logits = np.log(y_pred.astype("float64") / (1 - y_pred)).astype("float32")
        result = lb.binary_crossentropy(backend.tensor(y_true), backend.tensor(logits), True, pos_weight=weight)
        np.testing.assert_allclose(backend.numpy(result), wanted, rtol=4e-6)


@pytest.mark.parametrize("ignored", [-1, 255, 2, 0])
def test_ignored_entries_leave_the_denominators(backend, ignored):
    """With every combination of smoothing, class weights, sample weights and a mask; NaN predictions under ignored labels."""
    others = [c for c in (0, 1, 2) if c != ignored]
    labels = np.array([others[0], ignored, others[1], others[1], ignored, others[0]], "int32")
    y_pred = sample("sparse_categorical_crossentropy", (6, 3), seed=3)[1]
    sound = y_pred.copy()
    y_pred[[1, 4]] = NAN
    counted, per_class, per_sample = labels != ignored, np.array([2.0, 0.5, 3.0]), np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    mask = np.array([True, True, True, False, True, True])
    for smoothing in (0.0, 0.25):
        for class_weight in (None, tuple(per_class)):
            losses = np.zeros(6)
            for row in np.flatnonzero(counted):
                arguments = {"label_smoothing": smoothing, "class_weight": class_weight}
                losses[row] = reference.value("sparse_categorical_crossentropy", int(labels[row]), sound[row].tolist(), **arguments)[0]
            of_class = np.where(counted, per_class[np.where(counted, labels, 0)], 0.0) if class_weight else np.ones(6)
            for weights in (None, per_sample):
                for masked in (None, mask):
                    w = (1.0 if weights is None else weights) * counted * (1 if masked is None else masked)
                    total, left = (w * losses).sum(), (counted if masked is None else counted & masked).sum()
                    for reduction, wanted in (
                        ("none", w * losses),
                        ("sum", total),
                        ("mean", total / left),
                        ("mean_with_sample_weight", total / (w * of_class).sum()),
                    ):
                        loss = lb.SparseCategoricalCrossentropy(
                            ignore_class=ignored, label_smoothing=smoothing, class_weight=class_weight, reduction=reduction
                        )
                        result = backend.numpy(loss(backend.tensor(labels), backend.tensor(y_pred), sample_weight=weights, mask=masked))
                        np.testing.assert_allclose(result, wanted, rtol=8e-6, err_msg=f"{loss} {weights} {masked}")


def test_all_entries_ignored(backend):
    for reduction in REDUCTIONS:
        loss = lb.SparseCategoricalCrossentropy(ignore_class=-1, reduction=reduction)
        labels, y_pred = backend.tensor(np.full(3, -1, "int32")), np.full((3, 3), NAN, "float32")
        assert float(loss(labels, backend.tensor(y_pred))) == 0.0
        if backend.grad:
            np.testing.assert_array_equal(backend.grad(lambda p, f=loss, y=labels: f(y, p), y_pred), np.zeros((3, 3)))


def test_options_of_an_object_reach_its_function(backend):
    one, zero = np.ones((2, 1), "float32"), np.zeros((2, 1), "float32")
    cases = [
        (lb.Huber(delta=0.5), zero, one, 0.375),
        (lb.Huber(0.5), zero, one, 0.375),
        (lb.Hinge(labels="pm1"), zero, one, 1.0),
        (lb.SquaredHinge(labels="binary"), zero, one, 4.0),
        (lb.BinaryCrossentropy(True), one, zero, math.log(2)),
        (lb.BinaryCrossentropy(from_logits=True, label_smoothing=0.5), one, zero, math.log(2)),
        (lb.BinaryCrossentropy(epsilon=1e-3), one, zero, -math.log(1e-3)),
        (lb.Poisson(log_input=True), zero, zero, 1.0),
        (lb.Poisson(epsilon=1e-3), one, zero, -math.log(1e-3)),
        (lb.MeanAbsolutePercentageError(epsilon=0.5), zero, one, 200.0),
        (lb.MeanSquaredLogarithmicError(epsilon=0.5), zero, one, math.log(0.75) ** 2),
        (lb.KLDivergence(epsilon=0.25), one, zero, math.log(4)),
        (lb.KLDivergence(from_logits=True), np.ones((2, 2), "float32"), np.zeros((2, 2), "float32"), 2 * math.log(2)),
        (lb.CosineSimilarity(axis=0), one, one, -1.0),
        (lb.CosineSimilarity(0), one, one, -1.0),
        (lb.CategoricalCrossentropy(True), np.eye(2, dtype="float32"), np.zeros((2, 2), "float32"), math.log(2)),
        (lb.SparseCategoricalCrossentropy(True, 0), np.array([0, 1], "int32"), np.zeros((2, 2), "float32"), math.log(2)),
    ]
    for loss, y_true, y_pred, wanted in cases:
        np.testing.assert_allclose(backend.numpy(loss(backend.tensor(y_true), backend.tensor(y_pred))), wanted, rtol=2e-6, err_msg=repr(loss))


def test_an_object_reads_epsilon_at_the_call(backend):
    loss = lb.BinaryCrossentropy()
    fixed = lb.BinaryCrossentropy(epsilon=1e-4)
    one, zero = backend.tensor(np.ones((2, 1), "float32")), backend.tensor(np.zeros((2, 1), "float32"))
    for epsilon in (1e-7, 1e-2, 1e-7):
        lb.set_epsilon(epsilon)
        np.testing.assert_allclose(backend.numpy(loss(one, zero)), -math.log(epsilon), rtol=1e-6)
        np.testing.assert_allclose(backend.numpy(loss.partial(one, zero).result()), -math.log(epsilon), rtol=1e-6)
        np.testing.assert_allclose(backend.numpy(fixed(one, zero)), -math.log(1e-4), rtol=1e-6)


def test_objects_work_on_every_backend_in_turn(backend):
    """They hold no backend, so one object serves several."""
    shared = _SHARED.setdefault("loss", lb.CategoricalCrossentropy(class_weight=(1.0, 2.0, 3.0)))
    y_true, y_pred = sample("categorical_crossentropy")
    result = shared(backend.tensor(y_true), backend.tensor(y_pred))
    assert backend.is_native(result)
    exact, _ = expected("categorical_crossentropy", y_true, y_pred, class_weight=[1.0, 2.0, 3.0])
    np.testing.assert_allclose(backend.numpy(result), exact.mean(), rtol=4e-6)


_SHARED = {}


# Objects as values

OPTIONS = {
    "MeanSquaredError": [],
    "MeanAbsoluteError": [],
    "MeanAbsolutePercentageError": [{"epsilon": 1e-3}],
    "MeanSquaredLogarithmicError": [{"epsilon": 1e-3}],
    "SquaredHinge": [{"labels": "pm1"}],
    "Hinge": [{"labels": "binary"}],
    "CategoricalHinge": [],
    "LogCosh": [],
    "Huber": [{"delta": 2.5}],
    "CategoricalCrossentropy": [{"from_logits": True}, {"label_smoothing": 0.25}, {"axis": 1}, {"epsilon": 1e-3}, {"class_weight": (1.0, 2.0)}]
    + [{"class_weight": {1: 2.5, 0: 0.5}}],
    "SparseCategoricalCrossentropy": [{"from_logits": True}, {"ignore_class": -1}, {"axis": 0}, {"label_smoothing": 0.25}, {"epsilon": 1e-3}]
    + [{"class_weight": [1.0, 2.0]}, {"class_weight": {3: 2.0}}],
    "BinaryCrossentropy": [
        {"from_logits": True},
        {"label_smoothing": 0.5},
        {"axis": 0},
        {"epsilon": 1e-3},
        {"pos_weight": 2.0},
        {"pos_weight": [1.0, 3.0]},
    ],
    "KLDivergence": [{"epsilon": 1e-3}, {"from_logits": True}],
    "Poisson": [{"epsilon": 1e-3}, {"log_input": True}],
    "CosineSimilarity": [{"axis": 0}],
}
ARGUMENTS = [
    (name, arguments)
    for name, options in OPTIONS.items()
    for arguments in [
        {},
        {"reduction": "sum"},
        {"reduction": None},
        {"reduction": "auto"},
        {"name": "mine"},
        {"reduction": "none", "name": "x"},
        *options,
    ]
]
every_argument = pytest.mark.parametrize(("name", "arguments"), ARGUMENTS, ids=[f"{name}-{arguments}" for name, arguments in ARGUMENTS])


@every_argument
def test_equality_and_hash(name, arguments):
    cls = getattr(lb, name)
    loss, same = cls(**arguments), cls(**copy.deepcopy(arguments))
    assert loss == same
    assert hash(loss) == hash(same)
    assert {loss: "found"}[same] == "found"
    assert (loss == cls()) is (arguments == {})
    assert loss != lb.CategoricalHinge(name="another")
    assert loss != name
    for field, value in arguments.items():
        stored = getattr(loss, field)
        assert stored == value or isinstance(stored, tuple)


@every_argument
def test_repr_is_the_constructor_call(name, arguments):
    loss = getattr(lb, name)(**arguments)
    assert repr(loss).startswith(f"{name}(")
    assert eval(repr(loss), {name: getattr(lb, name)}) == loss


@every_argument
def test_copies_and_pickles(name, arguments):
    loss = getattr(lb, name)(**arguments)
    copies = [
        copy.copy(loss),
        copy.deepcopy(loss),
        *[pickle.loads(pickle.dumps(loss, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)],
    ]
    for other in copies:
        assert other == loss
        assert repr(other) == repr(loss)
        assert hash(other) == hash(loss)
    if name == "Huber":
        np.testing.assert_array_equal(copies[-1]([[0.0]], [[1.0]]), loss([[0.0]], [[1.0]]))


@every_argument
def test_every_constructor_argument_round_trips_through_a_config(name, arguments):
    cls = getattr(lb, name)
    loss = cls(**arguments)
    config = loss.get_config()
    assert type(config) is dict
    for field in arguments:
        assert field in config
    assert cls.from_config(config) == loss
    assert cls.from_config(json.loads(json.dumps(config))) == loss
    for other in (lb.serialize(loss), json.loads(json.dumps(lb.serialize(loss)))):
        assert lb.deserialize(other) == loss
        assert lb.get(other) == loss
        assert type(lb.get(other)) is cls


def test_a_config_is_a_copy():
    loss = lb.Huber(delta=2.0)
    loss.get_config()["delta"] = 5.0
    assert loss.delta == 2.0


def test_objects_do_not_change():
    loss = lb.Huber()
    for attribute in ("delta", "reduction", "name"):
        with pytest.raises(AttributeError):
            setattr(loss, attribute, 3.0)
    with pytest.raises(AttributeError):
        del loss.delta
    weights = [1.0, 2.0]
    loss = lb.CategoricalCrossentropy(class_weight=weights)
    weights[0] = 100.0
    assert loss == lb.CategoricalCrossentropy(class_weight=(1.0, 2.0))


def test_equal_options_spelled_differently_are_equal():
    assert lb.CategoricalCrossentropy(class_weight=[1, 2]) == lb.CategoricalCrossentropy(class_weight=np.array([1.0, 2.0]))
    assert lb.CategoricalCrossentropy(class_weight={0: 1, 1: 2}) == lb.CategoricalCrossentropy(class_weight={1: 2, 0: 1})
    assert lb.Huber(delta=2) == lb.Huber(delta=2.0)
    assert hash(lb.Huber(delta=2)) == hash(lb.Huber(delta=2.0))


def test_an_unknown_entry_of_a_config_is_named():
    with pytest.raises(ValueError, match="gamma"):
        lb.Huber.from_config({"delta": 1.0, "gamma": 2.0})
    with pytest.raises(ValueError, match="Invalid value for argument"):
        lb.Huber.from_config({"reduction": "average"})


def test_a_name_is_only_a_name():
    assert lb.Huber(name="mine").name == "mine"
    assert lb.Huber(name="mine", delta=0.5)([[0.0]], [[1.0]]) == lb.Huber(delta=0.5)([[0.0]], [[1.0]])


def learned(backend):
    """A tensor that is trained, or one that a transform holds: an object would freeze the one and cannot look at the other."""
    module = backend.module
    if backend.name == "torch":
        weight = module.ones((), requires_grad=True)
        return [module.nn.Parameter(module.ones(())), weight * 2, lambda make: module.func.grad(make)(module.ones(()))]
    if backend.name == "tensorflow":
        return [module.Variable(1.5), lambda make: module.function(make, autograph=False)(module.constant(1.5))]
    return [lambda make: module.jit(make)(1.5), lambda make: module.grad(make)(1.5)]


def test_a_learned_option_belongs_to_the_function(differentiable):
    for option in learned(differentiable):
        for make, call in (
            (lambda value: lb.Huber(value), "huber(y_true, y_pred, delta=...)"),
            (lambda value: lb.BinaryCrossentropy(pos_weight=value), "binary_crossentropy(y_true, y_pred, pos_weight=...)"),
        ):
            with pytest.raises(TypeError, match="pass it to the function") as info:
                option(make) if callable(option) else make(option)
            assert call in str(info.value)


def test_a_constant_tensor_becomes_numbers(backend):
    """Also a variable that is not trained."""
    values = [backend.tensor(np.array(1.5, "float32"))]
    if backend.name == "tensorflow":
        values.append(backend.module.Variable(1.5, trainable=False))
    for value in values:
        assert lb.Huber(value) == lb.Huber(1.5)
        assert type(lb.Huber(value).delta) is float


@lb.loss(aliases=("power",))
def power_error(ops, y_true, y_pred, exponent=2.0):
    return ops.mean(ops.abs(y_pred - y_true) ** exponent, axis=-1)


@dataclass(frozen=True)
class PowerError(lb.Loss):
    function = staticmethod(power_error)
    exponent: float = 2.0


@dataclass(frozen=True)
class OffsetPowerError(PowerError):
    unit: str = "m"


def test_a_users_class_takes_reduction_and_name():
    """By keyword, after its own options, however it was derived."""
    loss = PowerError(3.0, reduction="sum", name="cubes")
    assert loss([[0.0], [0.0]], [[1.0], [2.0]]) == 9.0
    assert (loss.exponent, loss.reduction, loss.name) == (3.0, "sum", "cubes")
    assert PowerError() == PowerError(2.0, reduction="sum_over_batch_size", name=None)
    assert len({loss, PowerError(3.0, reduction="sum", name="cubes"), PowerError(3.0)}) == 2
    assert eval(repr(loss)) == PowerError.from_config(loss.get_config()) == pickle.loads(pickle.dumps(loss)) == loss
    assert lb.get(lb.serialize(loss), {"PowerError": PowerError}) == loss
    assert OffsetPowerError(1.0, unit="km", reduction="none").get_config() == {"exponent": 1.0, "reduction": "none", "name": None, "unit": "km"}
    with pytest.raises(TypeError, match="positional"):
        PowerError(3.0, "sum")
    with pytest.raises(ValueError, match="Invalid value for argument `reduction`: 'average'"):
        PowerError(reduction="average")


def test_a_users_class_may_say_where_reduction_stands():
    @dataclass(frozen=True)
    class Cubed(lb.Loss):
        function = staticmethod(power_error)
        reduction: str | None = "sum"
        exponent: float = 3.0

    @dataclass(frozen=True, slots=True)
    class Summed(lb.Loss):
        function = power_error
        reduction = "sum"
        _: KW_ONLY
        exponent: float = 3.0

    assert Summed() == Summed(exponent=3.0, reduction="sum", name=None)
    assert Summed()([[0.0], [0.0]], [[1.0], [2.0]]) == 9.0
    assert Cubed("none", 2.0) == Cubed(reduction="none", exponent=2.0, name=None)
    assert Cubed()([[0.0], [0.0]], [[1.0], [2.0]]) == 9.0


def test_a_class_that_cannot_have_objects():
    class Undecorated(lb.Loss):
        function = staticmethod(power_error)

    @dataclass(frozen=True)
    class NoFunction(lb.Loss):
        scale: float = 1.0

    for cls, wanted in (
        (lb.Loss, "Loss has no loss function"),
        (Undecorated, "must be a dataclass"),
        (NoFunction, "NoFunction has no loss function"),
    ):
        for make in (cls, lambda cls=cls: lb.get(cls), lambda cls=cls: cls.from_config({}), lambda cls=cls: cls.from_config({"reduction": "sum"})):
            with pytest.raises(TypeError, match=wanted):
                make()


# Names

SPELLINGS = {
    "mean_squared_error": ["mse", "MSE"],
    "mean_absolute_error": ["mae", "MAE"],
    "mean_absolute_percentage_error": ["mape", "MAPE"],
    "mean_squared_logarithmic_error": ["msle", "MSLE"],
    "squared_hinge": [],
    "hinge": [],
    "categorical_hinge": [],
    "log_cosh": ["logcosh"],
    "huber": ["huber_loss"],
    "categorical_crossentropy": ["cce"],
    "sparse_categorical_crossentropy": ["scce"],
    "binary_crossentropy": ["bce", "BCE", "logloss"],
    "kl_divergence": ["kullback_leibler_divergence", "kld", "KLD"],
    "poisson": [],
    "cosine_similarity": ["cosine_proximity", "cosine"],
}
EVERY_SPELLING = [(canonical, spelling) for canonical, others in SPELLINGS.items() for spelling in [canonical, *others]]


@pytest.mark.parametrize(("canonical", "spelling"), EVERY_SPELLING)
def test_every_spelling_is_the_same_function(canonical, spelling):
    function = getattr(lb.losses, canonical)
    for namespace in (lb, lb.losses, lb.objectives):
        assert getattr(namespace, spelling) is function
    assert lb.get(spelling) is function
    assert lb.objectives.get(spelling) is function
    assert lb.deserialize(spelling) is function
    assert lb.get(function) is function
    assert function.__name__ == canonical
    assert lb.serialize(function) == canonical
    assert lb.get({"module": "builtins", "class_name": "function", "config": spelling, "registered_name": "function"}) is function
    assert pickle.loads(pickle.dumps(function)) is function
    assert copy.deepcopy(function) is function


@pytest.mark.parametrize(("canonical", "cls"), CLASSES.items())
def test_every_class_name(canonical, cls):
    owner = getattr(lb, cls)
    assert getattr(lb.losses, cls) is owner
    assert getattr(lb.objectives, cls) is owner
    assert lb.get(cls) == owner()
    assert type(lb.get(cls)) is owner
    assert type(lb.deserialize(cls)) is owner
    instance = owner(reduction="sum")
    assert lb.get(instance) is instance
    assert issubclass(owner, lb.Loss)
    assert owner.__name__ == cls


def test_a_class_is_serialized_as_its_name():
    for name in CLASSES.values():
        cls = getattr(lb, name)
        assert lb.serialize(cls) == name
        assert lb.get(lb.serialize(cls)) == lb.get(cls) == cls()
    assert lb.serialize(None) is None
    for other in (lb.Loss, dict, type, 3, [lb.mse]):
        with pytest.raises(ValueError, match="cannot serialize"):
            lb.serialize(other)


def test_what_is_exported():
    names = [*CLASSES.values(), *[spelling for _, spelling in EVERY_SPELLING], "get", "serialize", "deserialize", "is_categorical_crossentropy"]
    for name in [*names, "Loss"]:
        assert name in lb.losses.__all__
        assert hasattr(lb.losses, name)
        assert name in lb.__all__
        assert hasattr(lb, name)
    with pytest.raises(AttributeError, match="no_such_loss"):
        _ = lb.no_such_loss
    for name in ("no_such_loss", "regression", "__path__"):
        with pytest.raises(AttributeError, match=name):
            getattr(lb.objectives, name)
    assert set(lb.objectives.__all__) <= set(dir(lb.objectives))
    assert "regression" not in dir(lb.objectives)


def test_historical_paths():
    import lossbackend.objectives
    import lossbackend.utils.np_utils
    from lossbackend.objectives import categorical_crossentropy
    from lossbackend.utils import np_utils, to_categorical
    from lossbackend.utils.np_utils import to_categorical as historical

    assert historical is to_categorical is lb.to_categorical is np_utils.to_categorical
    assert categorical_crossentropy is lb.categorical_crossentropy
    assert "/ D" in lossbackend.objectives.__doc__ or "divide" in lossbackend.objectives.__doc__


CONFIGS = [
    # Keras 1 and Keras 2: class_name and config
    ({"class_name": "Huber", "config": {"delta": 2.0}}, lb.Huber(2.0)),
    ({"class_name": "Huber", "config": {"reduction": "sum_over_batch_size", "name": "huber_loss", "delta": 1.0}}, lb.Huber(name="huber_loss")),
    ({"class_name": "MeanSquaredError", "config": {"reduction": "auto", "name": "mean_squared_error"}}, ("auto", "mean_squared_error")),
    (
        {"class_name": "CategoricalCrossentropy", "config": {"reduction": "auto", "name": "c", "from_logits": True, "label_smoothing": 0}},
        ("auto", "c"),
    ),
    (
        {"class_name": "SparseCategoricalCrossentropy", "config": {"reduction": "none", "name": "s", "from_logits": False}},
        lb.SparseCategoricalCrossentropy(reduction="none", name="s"),
    ),
    ({"class_name": "LogCosh", "config": {"reduction": "sum", "name": "logcosh"}}, lb.LogCosh("sum", "logcosh")),
    ({"class_name": "CosineSimilarity", "config": {"reduction": "auto", "name": "cosine_similarity", "axis": -1}}, ("auto", "cosine_similarity")),
    ({"class_name": "KLDivergence", "config": {"reduction": "auto", "name": "kl_divergence"}}, ("auto", "kl_divergence")),
    ({"class_name": "Poisson"}, lb.Poisson()),
    # Keras 3: four keys, as keras.losses.serialize of 3.15.1 writes them
    (
        {
            "module": "keras.losses",
            "class_name": "Huber",
            "config": {"name": "huber_loss", "reduction": "sum_over_batch_size"},
            "registered_name": None,
        },
        lb.Huber(name="huber_loss"),
    ),
    (
        {
            "module": "keras.losses",
            "class_name": "CategoricalCrossentropy",
            "config": {"name": "n", "reduction": "sum_over_batch_size", "from_logits": True, "label_smoothing": 0.1, "axis": -1},
            "registered_name": None,
        },
        lb.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1, name="n"),
    ),
    (
        {
            "module": "keras.losses",
            "class_name": "SparseCategoricalCrossentropy",
            "config": {"name": "n", "reduction": "sum", "from_logits": True, "ignore_class": 0},
            "registered_name": None,
        },
        lb.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0, reduction="sum", name="n"),
    ),
    ({"module": "keras.src.losses.losses", "class_name": "LogCosh", "config": {}, "registered_name": "LogCosh"}, lb.LogCosh()),
    # Keras 2.13 to 2.15 write the function too, Keras 3 a dtype
    ({"class_name": "Huber", "config": {"reduction": "auto", "name": "huber_loss", "delta": 1.0, "fn": "huber"}}, ("auto", "huber_loss")),
    ({"class_name": "LogCosh", "config": {"reduction": "sum", "name": "l", "fn": "log_cosh"}}, lb.LogCosh("sum", "l")),
    (
        {
            "module": "keras.losses",
            "class_name": "BinaryCrossentropy",
            "config": {"name": "b", "from_logits": True, "label_smoothing": 0.0, "axis": -1, "fn": "binary_crossentropy", "reduction": "none"},
            "registered_name": None,
        },
        lb.BinaryCrossentropy(True, reduction="none", name="b"),
    ),
    ({"class_name": "CosineSimilarity", "config": {"axis": 1, "fn": "cosine_similarity"}}, lb.CosineSimilarity(1)),
    ({"class_name": "KLDivergence", "config": {"fn": "kullback_leibler_divergence"}}, lb.KLDivergence()),
    ({"class_name": "Poisson", "config": {"dtype": None}}, lb.Poisson()),
    ({"class_name": "Poisson", "config": {"dtype": "float32"}}, lb.Poisson()),
    (
        {
            "class_name": "Hinge",
            "config": {"dtype": {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}},
        },
        lb.Hinge(),
    ),
    ({"module": "keras.losses", "class_name": "function", "config": "kl_divergence", "registered_name": "function"}, lb.kl_divergence),
    ({"module": "builtins", "class_name": "function", "config": "mean_squared_error", "registered_name": "mean_squared_error"}, lb.mse),
]


@pytest.mark.parametrize(("config", "wanted"), CONFIGS, ids=[str(config)[:60] for config, _ in CONFIGS])
def test_configs_of_keras_load(config, wanted):
    before = copy.deepcopy(config)
    for loss in (lb.get(config), lb.deserialize(config)):
        if isinstance(wanted, tuple):
            assert (loss.reduction in MEANS, loss.name) == (True, wanted[1])
            assert type(loss).__name__ == config["class_name"]
        else:
            assert loss == wanted
    assert config == before


@pytest.mark.parametrize("name", sorted(CLASSES.values()))
def test_configs_written_by_keras(name):
    keras = pytest.importorskip("keras")
    theirs = getattr(keras.losses, name)(reduction="sum", name="theirs")
    assert lb.deserialize(keras.losses.serialize(theirs)) == getattr(lb, name)(reduction="sum", name="theirs")
    function = getattr(keras.losses, getattr(lb, name).function.__name__)
    assert lb.deserialize(keras.losses.serialize(function)) is getattr(lb, name).function
    policy = keras.dtype_policies.serialize(keras.dtype_policies.DTypePolicy("float32"))
    assert lb.deserialize({"class_name": name, "config": {"dtype": policy}}) == getattr(lb, name)()


def test_an_auto_reduction_is_a_mean():
    assert float(lb.get({"class_name": "MeanSquaredError", "config": {"reduction": "auto"}})([[0.0], [0.0]], [[1.0], [3.0]])) == 5.0


def test_none_is_none():
    assert lb.get(None) is None


def test_a_callable_is_itself():
    def mine(y_true, y_pred):
        return y_pred

    for function in (mine, len, lambda y_true, y_pred: y_true):
        assert lb.get(function) is function


@pytest.mark.parametrize(
    ("unknown", "near"),
    [
        ("mean_square_error", "mean_squared_error"),
        ("categorical_cross_entropy", "categorical_crossentropy"),
        ("hubber", "huber"),
        ("Mse", "mse"),
        ("BinaryCrossEntropy", "BinaryCrossentropy"),
        ("cosine_distance", "cosine"),
        ("mse ", "mse"),
    ],
)
def test_unknown_names_get_near_matches(unknown, near):
    for identifier in (unknown, {"class_name": unknown, "config": {}}):
        with pytest.raises(ValueError, match=unknown) as info:
            lb.get(identifier)
        assert near in str(info.value)
        with pytest.raises(ValueError, match=unknown):
            lb.deserialize(identifier)


@pytest.mark.parametrize(
    "identifier",
    [
        "",
        "K",
        "np",
        "get",
        "serialize",
        "deserialize",
        "to_categorical",
        "is_categorical_crossentropy",
        "Loss",
        "__doc__",
        "os",
        "__builtins__",
        "loss",
        "epsilon",
    ],
)
def test_only_losses_have_names(identifier):
    """The first Keras looked a name up among everything that its module held."""
    with pytest.raises(ValueError, match=r"[Uu]nknown"):
        lb.get(identifier)


@pytest.mark.parametrize("identifier", [1, 1.5, True, b"mse", ["mse"], ("mse",), object(), {}, {"config": {}}, {"class_name": 3, "config": {}}])
def test_identifiers_of_no_known_kind(identifier):
    for function in (lb.get, lb.deserialize):
        with pytest.raises((ValueError, TypeError)):
            function(identifier)


def test_bad_configs():
    for config in (
        {"class_name": "Huber", "config": {"delta": -1.0}},
        {"class_name": "Huber", "config": {"gamma": 1}},
        {"class_name": "Huber", "config": 3},
    ):
        with pytest.raises((ValueError, TypeError), match=r"[Hh]uber"):
            lb.deserialize(config)
    policy = {"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}}
    for entry, wrong in (("fn", "poisson"), ("fn", None), ("fn", ["huber"]), ("dtype", "float16"), ("dtype", policy), ("dtype", {"config": {}})):
        with pytest.raises(ValueError, match=f"Huber: the config has {entry}") as info:
            lb.deserialize({"class_name": "Huber", "config": {entry: wrong}})
        assert {"fn": "'huber' or 'huber_loss'", "dtype": "None or 'float32'"}[entry] in str(info.value)


def test_custom_objects():
    @lb.loss
    def charbonnier(ops, y_true, y_pred, *, scale=1e-3):
        return ops.mean(ops.sqrt(ops.square(y_pred - y_true) + scale**2), axis=-1)

    assert lb.deserialize("charbonnier", custom_objects={"charbonnier": charbonnier}) is charbonnier
    function = {"module": "builtins", "class_name": "function", "config": "charbonnier", "registered_name": "function"}
    assert lb.deserialize(function, {"charbonnier": charbonnier}) is charbonnier
    assert lb.deserialize({"class_name": "Mine", "config": {"delta": 2.0}}, custom_objects={"Mine": lb.Huber}) == lb.Huber(2.0)
    with pytest.raises(ValueError, match="charbonier"):
        lb.deserialize("charbonier", custom_objects={"charbonnier": charbonnier})
    with pytest.raises(ValueError, match="charbonnier"):
        lb.deserialize("charbonnier")


def test_aliases_of_custom_objects():
    for find in (lb.get, lb.deserialize):
        assert find("power", {"power_error": power_error}) is power_error
        assert find({"class_name": "function", "config": "power"}, custom_objects={"mine": power_error}) is power_error
        # A name that is given beats an alias, and an alias of the user's one of the library's.
        assert find("power", {"power_error": power_error, "power": lb.mse}) is lb.mse
        with pytest.raises(ValueError, match="unknown loss 'power'"):
            find("power")
    impostor = lb.loss(aliases=("mse",))(lambda ops, y_true, y_pred: y_pred)
    assert lb.get("mse", {"impostor": impostor}) is impostor
    assert lb.get("mse") is lb.mean_squared_error


PROBE = """
import builtins, json, os, sys
import lossbackend as lb
sys.path.insert(0, sys.argv[1])
loaded = set(sys.modules)
events = []
WATCHED = ("exec", "compile", "import", "os.system", "subprocess.Popen", "open")
sys.addaudithook(lambda event, args: events.append((event, args)) if event in WATCHED else None)
CONFIGS = [
    {"module": "os", "class_name": "system", "config": "echo harm", "registered_name": None},
    {"module": "os", "class_name": "function", "config": "system", "registered_name": "function"},
    {"module": "harm", "class_name": "Loss", "config": {}, "registered_name": None},
    {"module": "harm", "class_name": "function", "config": "loss", "registered_name": "harm>loss"},
    {"module": "harm", "class_name": "Nothing", "config": {}, "registered_name": "harm>Nothing"},
    {"class_name": "__lambda__", "config": {"value": "4wAAAA==", "defaults": None, "closure": None}},
    {"class_name": "harm.Loss", "config": {}},
    {"class_name": "__import__", "config": {"name": "harm"}},
    {"module": "builtins", "class_name": "eval", "config": "__import__('harm')", "registered_name": None},
    "harm.loss", "harm:loss", "__import__('harm')", "lossbackend.harm",
]
for config in CONFIGS:
    for function in (lb.deserialize, lb.get):
        try:
            function(config)
        except ValueError:
            pass
        else:
            print("accepted", config)
# A known class beside a foreign module name: loaded from here, never from there.
lb.deserialize({"module": "harm", "class_name": "Huber", "config": {"delta": 2.0}, "registered_name": None})
print("events", [event for event in events if "harm" in repr(event) or event[0] in ("os.system", "subprocess.Popen")])
print("modules", sorted(name for name in set(sys.modules) - loaded if "harm" in name))
print("file", os.path.exists(os.path.join(sys.argv[1], "harmed")))
"""


def test_deserialize_runs_and_imports_nothing(tmp_path):
    (tmp_path / "harm.py").write_text(f"open({str(tmp_path / 'harmed')!r}, 'w').close()\nloss = Loss = len\n")
    output = subprocess.run([sys.executable, "-c", PROBE, str(tmp_path)], capture_output=True, text=True, check=True).stdout
    assert output.splitlines() == ["events []", "modules []", "file False"]


def test_is_categorical_crossentropy():
    yes = [
        lb.categorical_crossentropy,
        lb.cce,
        lb.CategoricalCrossentropy,
        lb.CategoricalCrossentropy(),
        lb.CategoricalCrossentropy(from_logits=True),
    ]
    yes += ["categorical_crossentropy", "cce", "CategoricalCrossentropy", lb.objectives.categorical_crossentropy, lb.get("categorical_crossentropy")]
    for loss in yes:
        assert lb.is_categorical_crossentropy(loss) is True, loss
    no = [
        None,
        "mse",
        "sparse_categorical_crossentropy",
        "binary_crossentropy",
        lb.mse,
        lb.SparseCategoricalCrossentropy(),
        lb.scce,
        lb.MeanSquaredError,
    ]
    for loss in [*no, 1, "", "unknown", len, lambda y_true, y_pred: 0, {}]:
        assert lb.is_categorical_crossentropy(loss) is False, loss


def test_is_categorical_crossentropy_of_pinned_functions(backend):
    assert lb.is_categorical_crossentropy(pinned(backend).categorical_crossentropy) is True
    assert lb.is_categorical_crossentropy(pinned(backend).CategoricalCrossentropy()) is True
    assert lb.is_categorical_crossentropy(pinned(backend).sparse_categorical_crossentropy) is False


# to_categorical


def test_to_categorical(backend):
    ids = np.array([0, 2, 1], "int32")
    result = lb.to_categorical(backend.tensor(ids))
    assert backend.is_native(result)
    assert backend.dtype(result) == "float32"
    np.testing.assert_array_equal(backend.numpy(result), np.eye(3)[ids])
    for arguments in ({"num_classes": 4}, {"nb_classes": 4}):
        np.testing.assert_array_equal(backend.numpy(lb.to_categorical(backend.tensor(ids), **arguments)), np.eye(4)[ids])
    np.testing.assert_array_equal(backend.numpy(lb.to_categorical(backend.tensor(ids), 4)), np.eye(4)[ids])


def test_to_categorical_keeps_the_leading_shape(backend):
    ids = np.array([[0, 2, 1], [1, 1, 0]], "int32")
    np.testing.assert_array_equal(backend.numpy(lb.to_categorical(backend.tensor(ids))), np.eye(3)[ids])
    np.testing.assert_array_equal(backend.numpy(lb.to_categorical(backend.tensor(ids[..., None]))), np.eye(3)[ids])
    np.testing.assert_array_equal(backend.numpy(lb.to_categorical(backend.tensor(ids[:, :1]))), np.eye(2)[ids[:, 0]])
    result = lb.to_categorical(backend.tensor(np.array(2, "int32")), 3)
    np.testing.assert_array_equal(backend.numpy(result), [0, 0, 1])
    result = lb.to_categorical(backend.tensor(np.zeros((0, 2), "int32")), 3)
    assert backend.shape(result) == (0, 2, 3)
    # A size of 1 is squeezed, also where it is the only entry.
    assert backend.shape(lb.to_categorical(backend.tensor(np.array([1], "int32")), 3)) in {(1, 3), (3,)}


DTYPES = ["bool", *(f"float{bits}" for bits in (16, 32, 64)), *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]


@pytest.mark.parametrize("named", DTYPES)
def test_to_categorical_dtype(backend, named):
    """As NumPy names it, in every spelling; JAX has 32 bits unless it is told to have 64, and is not to warn of it."""
    ids = backend.tensor(np.array([0, 1], "int32"))
    for spelling in (named, np.dtype(named), np.dtype(named).type):
        with backend.double_precision():
            assert backend.dtype(lb.to_categorical(ids, 2, spelling)) == named
        result = lb.to_categorical(ids, 2, dtype=spelling)
        assert backend.dtype(result) == (named.replace("64", "32") if backend.name == "jax" else named)
        np.testing.assert_array_equal(backend.numpy(result), np.eye(2, dtype=named))


def test_to_categorical_dtypes_of_other_names(backend):
    ids = backend.tensor(np.array([0, 1], "int32"))
    with backend.double_precision():
        for dtype in (float, "float"):
            assert backend.dtype(lb.to_categorical(ids, 2, dtype)) == "float64"
    refused = [None, "complex64", "str", "object", "float31", "", 3, object(), {}, *([] if backend.name in ("numpy", "jax") else [ids.dtype])]
    if backend.name == "numpy":
        refused.append("bfloat16")
    else:
        assert backend.dtype(lb.to_categorical(ids, 2, "bfloat16")) == "bfloat16"
    for dtype in refused:
        with pytest.raises(TypeError, match=f"to_categorical: dtype must be the name of a real dtype that {backend.name} has"):
            lb.to_categorical(ids, 2, dtype)


@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16"])
def test_to_categorical_under_tracing_marks_a_bad_id(differentiable, dtype):
    """By a row that is no one-hot row."""
    traced = {"torch": lambda module: module.vmap, "jax": lambda module: module.jit, "tensorflow": lambda module: module.function}
    trace = traced[differentiable.name](differentiable.module)
    rows = trace(lambda y: lb.to_categorical(y, 2, dtype))(differentiable.tensor(np.array([[0, 2], [-1, 1]], "int32")))
    wrong = NAN if "float" in dtype else True if dtype == "bool" else 255 if "uint" in dtype else -1
    np.testing.assert_array_equal(differentiable.numpy(rows), [[[1, 0], [wrong] * 2], [[wrong] * 2, [0, 1]]])


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "float32", "float16", "bool"])
def test_to_categorical_of_every_type(backend, kind):
    result = lb.to_categorical(backend.tensor(np.array([0, 1], kind)), 2)
    np.testing.assert_array_equal(backend.numpy(result), np.eye(2))


def test_to_categorical_of_neutral_input(backend):
    with lb.use_backend(backend.name):
        for ids in ([0, 2, 1], (0, 2, 1), np.array([0, 2, 1]), np.array([[0], [2], [1]]), [0.0, 2.0, 1.0]):
            result = lb.to_categorical(ids)
            np.testing.assert_array_equal(backend.numpy(result), np.eye(3)[[0, 2, 1]])
            assert backend.is_native(result)


@pytest.mark.parametrize("bad", [[0, -1], [0, 3], [0, 1.5], [0, NAN], [0, INF], [0, -100], [0, 2**32 + 1]])
def test_to_categorical_of_bad_ids(backend, bad):
    for ids in (np.array(bad), bad, backend.tensor(np.array(bad, "float32"))):
        with pytest.raises(ValueError, match="to_categorical"):
            lb.to_categorical(ids, 3)
    if bad[1] != 3 and bad[1] != 2**32 + 1:
        with pytest.raises(ValueError, match="to_categorical"):
            lb.to_categorical(backend.tensor(np.array(bad)))


def test_to_categorical_of_nothing_needs_the_number_of_classes(backend):
    with pytest.raises(ValueError, match="num_classes"):
        lb.to_categorical(backend.tensor(np.zeros(0, "int32")))
    for bad in (-1, 1.5, "3"):
        with pytest.raises((ValueError, TypeError), match="num_classes"):
            lb.to_categorical(backend.tensor(np.zeros(2, "int32")), bad)
    with pytest.raises((ValueError, TypeError), match="nb_classes"):
        lb.to_categorical(backend.tensor(np.zeros(2, "int32")), 3, nb_classes=4)


def test_to_categorical_makes_labels_for_the_dense_loss(backend):
    y_true, y_pred = sample("sparse_categorical_crossentropy")
    exact, _ = expected("sparse_categorical_crossentropy", y_true, y_pred)
    result = lb.categorical_crossentropy(lb.to_categorical(backend.tensor(y_true), 3), backend.tensor(y_pred))
    np.testing.assert_allclose(backend.numpy(result), exact, rtol=4e-6)


# Pinned namespaces


def pinned(backend):
    return importlib.import_module(f"lossbackend.{backend.name}")


def test_a_pinned_namespace_has_every_loss(backend):
    namespace = pinned(backend)
    for name in lb.losses.__all__:
        assert hasattr(namespace, name), name
    for canonical, spelling in EVERY_SPELLING:
        assert getattr(namespace, spelling) is getattr(namespace, canonical)
        assert getattr(namespace, canonical).__name__ == canonical


def test_a_pinned_namespace_makes_native_results_of_anything(backend):
    namespace = pinned(backend)
    other = "numpy" if backend.name != "numpy" else None
    for name in EVERY_LOSS:
        y_true, y_pred = sample(name)
        exact, scales = expected(name, y_true, y_pred)
        for labels, predictions in ((y_true, y_pred), (y_true.tolist(), y_pred.tolist()), (backend.tensor(y_true), backend.tensor(y_pred))):
            result = getattr(namespace, name)(labels, predictions)
            assert backend.is_native(result)
            assert backend.dtype(result) == "float32"
            np.testing.assert_allclose(backend.numpy(result), exact, rtol=0, atol=8 * 2.0**-23 * scales.max())
        reduced = getattr(namespace, CLASSES[name])()(y_true, y_pred)
        assert backend.is_native(reduced)
        np.testing.assert_allclose(backend.numpy(reduced), exact.mean(), rtol=0, atol=8 * 2.0**-23 * scales.max())
    if other:
        with lb.use_backend(other):
            assert backend.is_native(namespace.mse([[1.0]], [[2.0]]))


def test_a_pinned_namespace_refuses_another_framework(backend):
    others = [load(name) for name in chosen_backends() if name not in ("numpy", backend.name)]
    for other in others:
        values = other.tensor(np.zeros((2, 3), "float32"))
        with pytest.raises(TypeError, match=r"(?i)" + other.name):
            pinned(backend).mse(values, values)


def test_pinned_objects_are_values_too(backend):
    namespace = pinned(backend)
    loss = namespace.Huber(delta=2.0)
    assert loss == namespace.Huber(2.0)
    assert loss != lb.Huber(2.0)
    assert hash(loss) == hash(namespace.Huber(2.0))
    for copied in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss), copy.copy(loss)):
        assert copied == loss
        assert backend.is_native(copied([[0.0]], [[1.0]]))
    for name in namespace.__all__:
        value = getattr(namespace, name)
        assert pickle.loads(pickle.dumps(value)) is value
        assert copy.deepcopy(value) is value


def test_a_pinned_namespace_finds_pinned_losses(backend):
    """By name and config; a config is the plain one, and pins where it is read."""
    namespace = pinned(backend)
    for canonical, spelling in EVERY_SPELLING:
        function = getattr(namespace, canonical)
        for found in (namespace.get(spelling), namespace.deserialize(spelling), namespace.get({"class_name": "function", "config": spelling})):
            assert found is function
        assert namespace.serialize(function) == canonical == lb.serialize(getattr(lb, canonical))
        assert namespace.deserialize(namespace.serialize(function)) is function
    for name in CLASSES.values():
        cls = getattr(namespace, name)
        loss = cls(reduction="sum", name="n")
        assert namespace.get(name) == namespace.get(cls) == namespace.deserialize(name) == cls()
        assert namespace.serialize(loss) == lb.serialize(getattr(lb, name)(reduction="sum", name="n"))
        assert namespace.deserialize(namespace.serialize(loss)) == namespace.get(namespace.serialize(loss)) == loss
        assert type(lb.deserialize(namespace.serialize(loss))) is getattr(lb, name)
        assert isinstance(loss, namespace.Loss)
        assert isinstance(loss, lb.Loss)
    assert namespace.get(None) is None
    assert namespace.get(lb.mse) is lb.mse
    assert namespace.get("power", {"power_error": power_error}) is power_error
    with lb.use_backend("numpy"):
        assert backend.is_native(namespace.get("mse")([[1.0]], [[2.0]]))
        assert backend.is_native(namespace.get("MeanSquaredError")([[1.0]], [[2.0]]))
    with pytest.raises(ValueError, match="mean_squared_error"):
        namespace.get("mean_square_error")


def test_a_users_class_of_a_pinned_namespace_is_pinned(backend):
    @dataclass(frozen=True)
    class Mine(pinned(backend).Loss):
        function = staticmethod(power_error)
        exponent: float = 2.0

    with lb.use_backend("numpy"):
        assert backend.is_native(Mine(reduction="sum")([[1.0]], [[2.0]]))


def test_a_pinned_to_categorical(backend):
    result = pinned(backend).to_categorical([0, 2], dtype="int32")
    assert backend.is_native(result)
    np.testing.assert_array_equal(backend.numpy(result), [[1, 0, 0], [0, 0, 1]])
    for other in [load(name) for name in chosen_backends() if name not in ("numpy", backend.name)]:
        with pytest.raises(TypeError, match=f"Use lossbackend.{other.name}.to_categorical"):
            pinned(backend).to_categorical(other.tensor(np.array([0, 2])))


def test_a_mask_holds_truth_values(backend):
    """A weight given as a mask would count every sample in full."""
    y = backend.tensor(np.zeros((2, 1), "float32"))
    assert float(backend.numpy(lb.MeanSquaredError("sum")(y, y + 1.0, mask=backend.tensor(np.array([1, 0], "int32"))))) == 1.0
    with pytest.raises(ValueError, match="mean_squared_error: mask must hold True and False"):
        lb.MeanSquaredError()(y, y, mask=backend.tensor(np.array([0.5, 1.0], "float32")))


def test_a_subclass_keeps_what_it_writes_itself():
    class Doubled(lb.Huber):
        def __call__(self, y_true, y_pred, sample_weight=None, mask=None):
            return 2 * super().__call__(y_true, y_pred, sample_weight, mask)

    class Again(Doubled):
        pass

    assert Doubled()([[0.0]], [[1.0]]) == Again()([[0.0]], [[1.0]]) == 1.0


def test_no_class_weights_are_weights_of_one():
    assert lb.CategoricalCrossentropy(class_weight={}) == lb.CategoricalCrossentropy()
