"""Options: what they may be written as, and that @loss knows them by their type, not by their name."""

import math

import numpy as np
import pytest

import lossbackend as lb
from lossbackend.definition import ClassWeight, Epsilon, Positive

IDS = np.array([0, 1, 2])
THIRDS = np.full((3, 3), 1 / 3)
ZEROS, ONES = np.zeros((2, 3)), np.ones((2, 3))


# A user's own options


def test_names_of_ours_mean_nothing_in_a_loss_of_ones_own(backend):
    @lb.loss
    def own(ops, y_true, y_pred, *, class_weight=2.0, pos_weight="none", ignore_class=(), epsilon=2.0):
        assert (pos_weight, ignore_class) == ("ours", 3)
        return ops.mean(class_weight * epsilon * (y_pred - y_true), axis=-1)

    values = own(backend.tensor(ZEROS.astype("float32")), backend.tensor(ONES.astype("float32")), class_weight=4.0, pos_weight="ours", ignore_class=3)
    np.testing.assert_array_equal(backend.numpy(values), [8.0, 8.0])


def test_types_of_ours_mean_the_same_under_any_name(backend):
    @lb.loss(sparse=True)
    def own(ops, y_true, y_pred, *, importance: ClassWeight = None, smallest: Epsilon = None):
        assert smallest == lb.epsilon()
        return ops.take_class(ops.asarray(importance, like=y_pred) * y_pred, y_true)

    y_true, y_pred = backend.tensor(IDS), backend.tensor(np.ones((3, 3), "float32"))
    np.testing.assert_array_equal(backend.numpy(own(y_true, y_pred, importance={1: 5.0})), [1.0, 5.0, 1.0])
    with pytest.raises(ValueError, match="own: importance must hold 3 numbers"):
        own(y_true, y_pred, importance=[1.0])


def test_an_epsilon_of_none_is_a_number():
    @lb.loss
    def own(ops, y_true, y_pred, epsilon=None):
        return ops.mean(epsilon * (y_pred - y_true), axis=-1)

    np.testing.assert_array_equal(own(ZEROS, ONES), [1e-7, 1e-7])
    lb.set_epsilon(0.25)
    np.testing.assert_array_equal(own(ZEROS, ONES), [0.25, 0.25])


def test_annotations_that_are_text():
    """As in a module that begins with ``from __future__ import annotations``."""

    def own(ops, y_true, y_pred, scale: "Positive" = 1.0):
        return ops.mean(scale * (y_pred - y_true), axis=-1)

    with pytest.raises(ValueError, match="scale must be positive"):
        lb.loss(own)(ZEROS, ONES, scale=-1.0)
    own.__annotations__["scale"] = "Undefined"
    np.testing.assert_array_equal(lb.loss(own)(ZEROS, ONES, scale=-1.0), [-1.0, -1.0])


# Weights


def columns():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    return [pandas.Series([1.0, 2.0, 3.0]), pandas.Series([3.0, 1.0, 2.0], index=[2, 0, 1]), polars.Series([1.0, 2.0, 3.0])]


@pytest.mark.parametrize("column", range(3), ids=["pandas", "pandas with classes as index", "polars"])
def test_class_weights_in_a_column(backend, column):
    """A pandas index names the classes: value_counts() puts the commonest first."""
    y_pred = backend.tensor(THIRDS.astype("float32"))
    values = backend.numpy(lb.scce(IDS, y_pred, class_weight=columns()[column]))
    np.testing.assert_allclose(values, math.log(3) * np.array([1.0, 2.0, 3.0]), rtol=1e-6)
    assert lb.SparseCategoricalCrossentropy(class_weight=columns()[column]) == lb.SparseCategoricalCrossentropy(
        class_weight={0: 1.0, 1: 2.0, 2: 3.0} if column < 2 else (1.0, 2.0, 3.0)
    )


@pytest.mark.parametrize("column", [0, 2], ids=["pandas", "polars"])
def test_positive_weights_in_a_column(backend, column):
    values = backend.numpy(lb.bce(np.ones((1, 3)), backend.tensor(np.full((1, 3), 0.5, "float32")), pos_weight=columns()[column]))
    np.testing.assert_allclose(values, [2 * math.log(2)], rtol=1e-6)


def test_pairs_are_no_array():
    """Nor is an array of pairs anything else: rows of two weights would be read as {class: weight}."""
    with pytest.raises(TypeError, match="class_weight must be one number per class"):
        lb.scce(IDS, THIRDS, class_weight=np.array([[0.0, 5.0], [1.0, 2.0]]))
    np.testing.assert_allclose(lb.scce(IDS, THIRDS, class_weight=[[0, 5.0], [1, 2.0]]), math.log(3) * np.array([5.0, 2.0, 1.0]))


def test_a_label_convention_is_a_word():
    with pytest.raises(ValueError, match="labels must be 'auto'"):
        lb.hinge(ZEROS, ONES, labels=np.array(["auto", "pm1"]))


# Tensors as options


BAD_TENSORS = [
    ("huber", "delta", -1.0, ValueError),
    ("huber", "delta", [1.0, 2.0, 3.0], TypeError),
    ("categorical_crossentropy", "label_smoothing", 2.0, ValueError),
    ("categorical_crossentropy", "class_weight", [-1.0, 1.0, 1.0], ValueError),
    ("categorical_crossentropy", "class_weight", [1.0, 1.0], ValueError),
    ("categorical_crossentropy", "class_weight", [1.0, math.nan, 1.0], ValueError),
    ("binary_crossentropy", "pos_weight", [-1.0, 1.0, 1.0], ValueError),
    ("binary_crossentropy", "pos_weight", [1.0, 1.0, math.inf], ValueError),
]


@pytest.mark.parametrize(("name", "option", "value", "error"), BAD_TENSORS, ids=str)
def test_a_tensor_is_checked_like_a_number(backend, name, option, value, error):
    y_true, y_pred = backend.tensor(np.eye(3, dtype="float32")), backend.tensor(THIRDS.astype("float32"))
    with pytest.raises(error, match=f"{name}.*{option}"):
        getattr(lb, name)(y_true, y_pred, **{option: backend.tensor(np.array(value, "float32"))})


def test_a_traced_number_is_one_number():
    jax = pytest.importorskip("jax")
    with pytest.raises(TypeError, match=r"huber: delta must be a number, got a tensor of shape \(2,\)"):
        jax.jit(lambda delta: lb.huber(ZEROS, ONES, delta=delta))(np.array([1.0, 2.0]))


# What a definition returns


@pytest.mark.parametrize("returned", [None, 3.0, [1.0, 2.0]])
def test_a_definition_that_returns_no_tensor(backend, returned):
    @lb.loss
    def own(ops, y_true, y_pred):
        return returned

    with pytest.raises((TypeError, ValueError), match="own: the definition returned"):
        own(backend.tensor(ZEROS), backend.tensor(ONES))
