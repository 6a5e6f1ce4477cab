"""LightGBM: losses as objectives of both of its APIs, beside its own."""

import pickle

import lightgbm as lgb
import numpy as np
import pytest
from sklearn.base import clone

import lossbackend as lb
from lossbackend.boosting import objective
from lossbackend.sklearn import metric

pytestmark = pytest.mark.host("LightGBM", "lightgbm", '`LGBMRegressor(objective=lossbackend.boosting.objective("huber"))`')

# A custom objective begins at a score of 0. LightGBM counts the samples of a leaf by the Hessian, up to rounding: least of all where one is enough.
TREES = {"num_leaves": 7, "learning_rate": 0.3, "num_threads": 1, "verbosity": -1, "boost_from_average": False, "min_data_in_leaf": 1}
# LGBMClassifier has no probabilities then, and says so.
RAW = pytest.mark.filterwarnings("ignore:Cannot compute class probabilities:UserWarning")


def train(parameters, features, labels, rounds, measure, weights=None):
    """(Booster, training curve of ``measure`` over raw scores) of the native API."""
    data, curve = lgb.Dataset(features, np.ravel(labels), weight=weights), {}
    calls = [lgb.record_evaluation(curve)]

    def feval(scores, data):
        raw = booster_scores(parameters, scores)
        return "ours", measure(data.get_label(), raw, sample_weight=data.get_weight()), False

    booster = lgb.train(
        {**TREES, **parameters, "metric": "None"}, data, rounds, valid_sets=[data], valid_names=["train"], feval=feval, callbacks=calls
    )
    return booster, curve["train"]["ours"]


def booster_scores(parameters, scores):
    """Raw scores, where LightGBM's own objectives hand out probabilities and rates."""
    inverse = {"binary": lambda p: np.log(p) - np.log1p(-p), "multiclass": np.log, "poisson": np.log}
    return inverse.get(parameters["objective"], lambda p: p)(scores)


def assert_same(ours, builtin, features, same_curve):
    (our_booster, our_curve), (booster, curve) = ours, builtin
    same_curve(our_curve, curve)
    np.testing.assert_allclose(our_booster.predict(features), booster.predict(features, raw_score=True), rtol=1e-4, atol=1e-5)


def weights_of(data):
    return np.random.default_rng(0).uniform(0.2, 3.0, len(data))


@pytest.mark.parametrize("weighted", [False, True])
def test_squared_error(diabetes, same_curve, weighted):
    """Half the mean squared error trains to the curve and the predictions of `l2`, with weights."""
    features, target = diabetes
    weights = weights_of(features) if weighted else None
    own = train({"objective": "l2"}, features, target, 25, metric("mse"), weights)
    assert_same(train({"objective": objective("mse", loss_weight=0.5)}, features, target, 25, metric("mse"), weights), own, features, same_curve)


@pytest.mark.parametrize("framework", ["torch", "jax", "tensorflow"])
def test_yes_or_no(tumours, same_curve, framework):
    """Binary cross-entropy trains to the curve and the scores of `binary`, on each framework."""
    features, labels = tumours
    measure, weights = metric("bce", from_logits=True), weights_of(features)
    own = train({"objective": "binary"}, features, labels, 15, measure, weights)
    ours = train({"objective": objective("bce", backend=framework)}, features, labels, 15, measure, weights)
    assert_same(ours, own, features, same_curve)


def test_ten_classes(digits, same_curve):
    """Cross-entropy of ten classes trains to the curve of `multiclass`, whose Hessian is 10/9 of the exact one."""
    images, labels = digits
    measure = metric("scce", from_logits=True)
    own = train({"objective": "multiclass", "num_class": 10}, images, labels, 6, measure)
    # 10/9 of the loss at 9/10 of the step.
    ours = train({"objective": objective("scce", loss_weight=10 / 9), "num_class": 10, "learning_rate": 0.27}, images, labels, 6, measure)
    assert_same(ours, own, images, same_curve)
    assert (ours[0].predict(images).argmax(axis=1) == labels).mean() > 0.95


def test_counts(diabetes, same_curve):
    """Poisson loss of a logarithm trains to the curve of `poisson` without its cap on a step."""
    counts, measure = np.round(3 * np.exp(diabetes[1])), metric("poisson", log_input=True)
    own = train({"objective": "poisson", "poisson_max_delta_step": 1e-12}, diabetes[0], counts, 20, measure)
    ours = train({"objective": objective("poisson")}, diabetes[0], counts, 20, measure)
    assert_same(ours, own, diabetes[0], same_curve)


@pytest.mark.parametrize("weighted", [False, True])
def test_huber_and_l1(diabetes, same_curve, weighted):
    """A Hessian of 1 trains huber to the curve of `huber`, and absolute errors about as well as `l1`."""
    features, target = diabetes
    weights = weights_of(features) if weighted else None
    own = train({"objective": "huber", "alpha": 0.7}, features, target, 20, metric("huber", delta=0.7), weights)
    ours = train({"objective": objective("huber", delta=0.7, hessian=1.0)}, features, target, 20, metric("huber", delta=0.7), weights)
    assert_same(ours, own, features, same_curve)
    own = train({"objective": "l1"}, features, target, 60, metric("mae"), weights)
    ours = train({"objective": objective("mae", hessian=1.0)}, features, target, 60, metric("mae"), weights)
    assert ours[1][-1] < 1.1 * own[1][-1] < 0.6 * own[1][0]


@pytest.mark.parametrize(("loss", "hessian"), [("mae", "auto"), ("huber", "auto"), ("log_cosh", "gauss_newton")])
@pytest.mark.parametrize("unit", [0.01, 1.0, 70.0])
def test_losses_without_curvature(diabetes, loss, hessian, unit):
    """Absolute errors learn from a score of 0, whatever the unit of the labels, about as well as by `l1`."""
    features, target = diabetes[0], unit * (diabetes[1][:, 0] + 2.0)
    errors = []
    for chosen in (objective(loss, hessian=hessian), "l1"):
        model = lgb.LGBMRegressor(objective=chosen, n_estimators=60, learning_rate=0.2, num_leaves=7, n_jobs=1, verbosity=-1)
        errors.append(np.abs(model.fit(features, target).predict(features) - target).mean())
    assert errors[0] < 1.2 * errors[1] < 0.6 * np.abs(np.median(target) - target).mean()


@RAW
def test_both_apis_are_one(digits, diabetes, tumours):
    """The scikit-learn API and the native one train the same model, and a weight counts once in each."""
    for (features, labels), loss, estimator, extra in (
        (diabetes, "huber", lgb.LGBMRegressor, {}),
        (tumours, "bce", lgb.LGBMClassifier, {}),
        (digits, "scce", lgb.LGBMClassifier, {"num_class": 10}),
    ):
        features, labels = features[:300], labels[:300].ravel()
        weights = np.random.default_rng(1).integers(1, 4, len(features))
        parameters = {"n_estimators": 4, "learning_rate": 0.3, "num_leaves": 7, "min_child_samples": 1, "n_jobs": 1, "verbosity": -1}
        model = estimator(objective=objective(loss), **parameters).fit(features, labels, sample_weight=weights)
        raw = model.predict(features, raw_score=True)
        data = lgb.Dataset(features, labels, weight=weights)
        native = lgb.train({**TREES, **extra, "objective": objective(loss)}, data, 4)
        np.testing.assert_allclose(native.predict(features), raw, rtol=1e-9)
        # The objective itself, given what the library keeps of the weights.
        scores = np.random.default_rng(2).normal(size=raw.shape)
        for twice, once in zip(objective(loss)(scores, data), objective(loss)(labels, scores), strict=True):
            np.testing.assert_allclose(twice, once * weights.reshape(-1, *(1,) * (scores.ndim - 1)), rtol=1e-6)
        assert clone(model).get_params()["objective"] == objective(loss)
        assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(features, raw_score=True), raw)


@RAW
def test_classes_of_raw_scores(digits, tumours):
    """LGBMClassifier hands out raw scores, whose classes are as good as those of its own objective."""
    for (features, labels), loss in ((digits, "scce"), (tumours, "bce")):
        labels = labels.ravel().astype(int)
        parameters = {"n_estimators": 8, "num_leaves": 7, "n_jobs": 1, "verbosity": -1}
        scores = lgb.LGBMClassifier(objective=objective(loss), **parameters).fit(features, labels).predict_proba(features)
        classes = scores.argmax(axis=1) if scores.ndim == 2 else scores > 0
        builtin = lgb.LGBMClassifier(**parameters).fit(features, labels)
        assert (classes == labels).mean() > builtin.score(features, labels) - 0.02


def test_an_evaluation_metric(diabetes):
    """A metric as `eval_metric`, in the triple that LightGBM asks for, is what it measures itself."""
    features, target = diabetes[0], diabetes[1].ravel()
    model = lgb.LGBMRegressor(objective=objective("huber"), n_estimators=20, n_jobs=1, verbosity=-1)
    mae = metric("mae")
    measured = [lambda y, p, w: ("ours", mae(y, p, w), False), "l1"]
    model.fit(features, target, sample_weight=weights_of(features), eval_X=features, eval_y=target, eval_metric=measured)
    curves = model.evals_result_["training" if "training" in model.evals_result_ else "valid_0"]
    np.testing.assert_allclose(curves["ours"], curves["l1"], rtol=1e-6)


# What an objective is, whichever library asks


@lb.loss
def charbonnier(ops, y_true, y_pred, *, scale=1e-3):
    return ops.mean(ops.sqrt(ops.square(y_pred - y_true) + scale**2), axis=-1)


@lb.loss(interacting=True)
def spread(ops, y_true, y_pred):
    return ops.mean(ops.square(y_pred - ops.mean(y_pred)), axis=-1)


@pytest.mark.parametrize("framework", ["torch", "jax", "tensorflow"])
def test_derivatives(framework):
    """Gradients and diagonal Hessians are those of the formulas, for a user's loss and for three classes."""
    y, p = np.array([0.0, 1.0, -2.0]), np.array([0.5, -1.0, 1.0])
    e = p - y
    for loss, options, slope, curvature in (
        (charbonnier, {"scale": 0.5}, e / np.sqrt(e**2 + 0.25), 0.25 / (e**2 + 0.25) ** 1.5),
        ("log_cosh", {}, np.tanh(e), 1 / np.cosh(e) ** 2),
        ("mse", {"loss_weight": 0.5}, e, np.ones(3)),
    ):
        gradient, hessian = objective(loss, backend=framework, hessian="exact", **options)(y, p)
        assert gradient.dtype == hessian.dtype == np.float64
        np.testing.assert_allclose(gradient, slope, rtol=1e-12)
        np.testing.assert_allclose(hessian, curvature, rtol=1e-10)
    signs, p = np.array([-1.0, 1.0, 1.0]), np.array([0.5, -1.0, 2.0])
    gradient, hessian = objective(lb.SquaredHinge(labels="pm1"), backend=framework, hessian="exact")(signs, p)
    np.testing.assert_allclose(gradient, [3.0, -4.0, 0.0])
    np.testing.assert_allclose(hessian, [2.0, 2.0, 0.0])
    scores, ids, weights = np.random.default_rng(0).normal(size=(4, 3)), np.array([0.0, 2.0, 1.0, 1.0]), np.array([1.0, 0.0, 2.0, 0.5])
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    for loss in ("scce", "cce", "kld", lb.SparseCategoricalCrossentropy):
        gradient, hessian = objective(loss, backend=framework)(ids, scores, weights)
        np.testing.assert_allclose(gradient, weights[:, None] * (shares - np.eye(3)[ids.astype(int)]), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(hessian, weights[:, None] * shares * (1 - shares), rtol=1e-10, atol=1e-12)


def test_where_there_is_no_curvature():
    """Without curvature it is Gauss and Newton's, slope² / (2 loss), or the floor that was asked for."""
    y, p = np.zeros(4), np.array([4.0, -1.0, 0.02, 0.0])
    gradient, hessian = objective("mae")(y, p)
    np.testing.assert_allclose(gradient, [1.0, -1.0, 1.0, 0.0])
    np.testing.assert_allclose(hessian, [1 / 8, 1 / 2, 1 / (0.2 * np.abs(p).mean()), 0.0])
    np.testing.assert_allclose(objective("mae", hessian="exact")(y, p)[1], 0.0)
    np.testing.assert_allclose(objective("mae", hessian=0.3)(y, p)[1], 0.3)
    np.testing.assert_allclose(objective("mae", hessian=0.3, loss_weight=2.0)(y, p, np.full(4, 0.5))[1], 0.3)
    np.testing.assert_allclose(objective("huber", hessian="exact")(y, p)[1], [0.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(objective("huber")(y, p)[1], [1 / 7, 1.0, 1.0, 1.0])


def test_objectives_are_values():
    """Objectives pickle, compare and print, and raw scores are never taken for probabilities."""
    for made in (objective("huber", delta=2.0), objective(lb.Huber(2.0)), objective(charbonnier, hessian=1.0, backend="torch")):
        assert pickle.loads(pickle.dumps(made)) == made
        assert hash(pickle.loads(pickle.dumps(made))) == hash(made)
    assert objective("huber", delta=2.0) == objective(lb.Huber(2.0)) != objective("huber")
    assert repr(objective("bce", hessian="exact")) == "objective(binary_crossentropy, from_logits=True, hessian='exact')"
    assert objective("bce") == objective(lb.BinaryCrossentropy()) == objective("bce", from_logits=True) != objective("bce", from_logits=False)
    assert objective("poisson").bound.complete()["log_input"] is True
    assert objective("mse").__name__ == "mean_squared_error"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: objective("msee"), ValueError, "unknown loss 'msee'"),
        (lambda: objective(lambda y, p: p), TypeError, "expected a loss, .*@lossbackend.loss"),
        (lambda: objective(spread), ValueError, "spread: the samples of this loss interact"),
        (lambda: objective("mae", hessian="one"), ValueError, "mean_absolute_error: hessian must be one of .* got 'one'"),
        (lambda: objective("mae", hessian=0.0), ValueError, "mean_absolute_error: hessian must be"),
        (lambda: objective("mae", loss_weight=0), ValueError, "mean_absolute_error: loss_weight must be a positive number"),
        (lambda: objective("mae", backend="numpy"), ValueError, "mean_absolute_error: numpy has no gradients: choose torch"),
        (lambda: objective("mae")([0.0, np.nan], [0.0, 1.0]), ValueError, "mean_absolute_error: y_true holds nan at index 1"),
        (
            lambda: objective("scce")([0.0, 3.0], np.zeros((2, 3))),
            ValueError,
            "sparse_categorical_crossentropy: y_true must hold class ids from 0 to 2",
        ),
        (lambda: objective("cce")([0.0, 3.0], np.zeros((2, 3))), ValueError, "categorical_crossentropy: y_true must hold class ids from 0 to 2"),
        (lambda: objective("scce")([0.0, 1.0], np.zeros(2)), ValueError, "needs at least 2 classes .*use binary_crossentropy"),
        (lambda: objective("mse")([0.0, 1.0], np.zeros((2, 3))), ValueError, "mean_squared_error: y_true and y_pred must have the same shape"),
    ],
)
def test_mistakes_are_named(make, error, message):
    """Mistakes are errors that name the loss and say what to do."""
    with pytest.raises(error, match=message):
        make()


def test_without_a_framework(monkeypatch):
    """Without a framework that differentiates, the error says what to install."""
    monkeypatch.setattr("lossbackend.transforms._LENDERS", ())
    with pytest.raises(ImportError, match=r'mean_squared_error: .*pip install "lossbackend\[torch\]"'):
        objective("mse")([0.0], [1.0])
