"""The strategies: what they promise of their arrays, what is among them, and what a failure shrinks to."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from samples import EVERY_LOSS

import lossbackend as lb
from lossbackend.checking import Probability, ProbabilityOrLogit
from lossbackend.testing import strategies

KEEP = settings(max_examples=25, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
SEARCH = settings(KEEP, max_examples=5000)
DTYPES = pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])


def sums_to_one(x):
    return np.allclose(x.sum(axis=-1, dtype="float64"), 1, atol=3 * np.finfo(x.dtype).eps)


PROMISES = {
    "reals": lambda x: np.isfinite(x).all(),
    "positive": lambda x: (x >= 0).all() and not np.signbit(x).any(),
    "probabilities": lambda x: ((x >= 0) & (x <= 1)).all(),
    "distributions": lambda x: ((x >= 0) & (x <= 1)).all() and sums_to_one(x),
    "logits": lambda x: (np.abs(x) <= 1e4).all(),
    "one_hot": lambda x: set(np.unique(x)) <= {0, 1} and (x.sum(axis=-1) == 1).all(),
    "signs": lambda x: set(np.unique(x)) <= {-1, 1},
    "counts": lambda x: (x >= 0).all() and (x == np.floor(x)).all(),
    "vectors": lambda x: np.isfinite(x).all(),
}


@DTYPES
@pytest.mark.parametrize("name", PROMISES)
def test_what_they_promise(name, dtype):
    info = np.finfo(dtype)

    @KEEP
    @given(getattr(strategies, name)((2, 3), dtype))
    def check(x):
        assert (x.shape, x.dtype) == ((2, 3), dtype)
        assert PROMISES[name](x)
        assert name == "distributions" or not ((x != 0) & (np.abs(x) < info.smallest_normal)).any()

    check()


def test_class_ids_and_shapes_that_vary():
    @KEEP
    @given(strategies.class_ids((5,), 4, "int32"), strategies.probabilities(st.sampled_from([(1, 2), (3, 2)])))
    def check(ids, p):
        assert ids.dtype == "int32"
        assert ((ids >= 0) & (ids < 4)).all()
        assert p.shape in ((1, 2), (3, 2))

    check()


@pytest.mark.parametrize(
    ("strategy", "edge"),
    [
        (strategies.reals(), lambda x: np.signbit(x[x == 0]).any()),
        (strategies.reals(), lambda x: (np.abs(x) == np.finfo("float32").max).any()),
        (strategies.reals(), lambda x: (x == np.finfo("float32").smallest_normal).any()),
        (strategies.reals(subnormal=True), lambda x: ((x != 0) & (np.abs(x) < np.finfo("float32").smallest_normal)).any()),
        (strategies.reals(nan=True, infinity=True), lambda x: np.isnan(x).any() and np.isposinf(x).any() and np.isneginf(x).any()),
        (strategies.reals(), lambda x: len(np.unique(x)) == 1),
        (strategies.positive(), lambda x: (x == 0).any()),
        (strategies.positive(limit=1e15), lambda x: (x > 1e6).any()),
        (strategies.probabilities(), lambda x: (x == 0).any() and (x == 1).any()),
        (strategies.probabilities(), lambda x: (x == np.float32(1e-7)).any() and (x == np.nextafter(np.float32(1), np.float32(0))).any()),
        (strategies.distributions(), lambda x: (x.max(axis=-1) == 1).any() and (x.max(axis=-1) < 0.4).any()),
        (strategies.distributions(), lambda x: ((x > 0) & (x < 1e-6)).any()),
        (strategies.logits(), lambda x: (x == 100).any() and (x == -40).any()),
        (strategies.logits(), lambda x: (x.argmax(axis=-1) != 2 - x[:, ::-1].argmax(axis=-1)).any()),
        (strategies.vectors(), lambda x: (x == 0).all(axis=-1).any() and (x != 0).all(axis=-1).any()),
        (strategies.vectors(), lambda x: (np.abs(x).max(axis=-1) > 1e18).any()),
    ],
)
def test_the_edges_are_among_them(strategy, edge):
    find(strategy, edge, settings=settings(SEARCH, phases=[Phase.generate]))


def test_a_positive_strategy_may_leave_out_zero():
    @KEEP
    @given(strategies.positive(zero=False))
    def check(x):
        assert (x > 0).all()

    check()


def test_failures_shrink_to_what_one_can_read():
    np.testing.assert_array_equal(find(strategies.reals((2, 2)), lambda x: x.max() > 0.9, settings=SEARCH), np.ones((2, 2)))
    np.testing.assert_array_equal(find(strategies.reals((2, 2)), lambda x: True, settings=SEARCH), np.zeros((2, 2)))
    np.testing.assert_array_equal(find(strategies.one_hot((2, 2)), lambda x: True, settings=SEARCH), [[1, 0], [1, 0]])
    np.testing.assert_array_equal(find(strategies.distributions((1, 2)), lambda x: True, settings=SEARCH), [[0.5, 0.5]])
    np.testing.assert_array_equal(find(strategies.signs((1, 2)), lambda x: (x < 0).any(), settings=SEARCH), [[-1, -1]])


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_a_pair_is_what_checking_mode_accepts(name):
    @KEEP
    @given(strategies.pair(getattr(lb, name), (4, 3)))
    def check(pair):
        with lb.checked():
            assert getattr(lb, name)(*pair).shape == (4,)

    check()


def test_a_pair_follows_the_options():
    @KEEP
    @given(
        strategies.pair(lb.scce, (2, 3, 4), axis=1, from_logits=True),
        strategies.pair(lb.CategoricalCrossentropy(axis=0), (3, 2)),
        strategies.pair(lb.Hinge(labels="binary"), (2, 2)),
        strategies.pair(lb.poisson, (2, 2), log_input=True),
    )
    def check(sparse, categorical, hinge, poisson):
        assert [array.shape for array in sparse] == [(2, 4), (2, 3, 4)]
        assert sparse[0].max() < 3
        with lb.checked():
            lb.CategoricalCrossentropy(axis=0)(*categorical)
            lb.Hinge(labels="binary")(*hinge)
        assert np.isfinite(lb.poisson(*poisson, log_input=True)).all()

    check()


def test_a_pair_for_a_loss_of_ones_own():
    @lb.loss
    def brier(ops, y_true: Probability, y_pred: ProbabilityOrLogit):
        return ops.mean(ops.square(y_pred - y_true), axis=-1)

    @lb.loss
    def plain(ops, y_true, y_pred):
        return ops.mean(y_pred - y_true, axis=-1)

    @KEEP
    @given(strategies.pair(brier), strategies.pair(plain, limit=5))
    def check(probabilities, numbers):
        assert all(((array >= 0) & (array <= 1)).all() for array in probabilities)
        assert all((np.abs(array) <= 5).all() for array in numbers)

    check()
    with pytest.raises(TypeError, match="pair: needs a loss function or loss object of this library, got 'mse'"):
        strategies.pair("mse")
