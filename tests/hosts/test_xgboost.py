"""XGBoost: losses as objectives of both of its APIs, beside its own."""

import pickle

import numpy as np
import pytest
import xgboost as xgb
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.model_selection import GridSearchCV

import lossbackend as lb
from lossbackend.boosting import objective
from lossbackend.sklearn import metric, scorer

pytestmark = pytest.mark.host("XGBoost", "xgboost-cpu", '`XGBRegressor(objective=lossbackend.boosting.objective("huber"))`')

TREES = {"max_depth": 3, "eta": 0.3, "nthread": 1, "tree_method": "hist", "base_score": 0.5}
FRAMEWORKS = ("torch", "jax", "tensorflow")


@lb.loss
def pseudo_huber(ops, y_true, y_pred, *, slope=1.0):
    """A loss that XGBoost has and this library has not."""
    return ops.mean(slope**2 * (ops.sqrt(1.0 + ops.square((y_pred - y_true) / slope)) - 1.0), axis=-1)


@lb.loss(sparse=True, min_classes=2)
def softmax_entropy(ops, y_true, y_pred):
    """Cross-entropy of logits, written once more."""
    return ops.logsumexp(y_pred) - ops.take_class(y_pred, y_true)


def train(parameters, data, rounds, ours=None):
    """(Booster, training curve) of the native API."""
    curve = {}
    parameters = {**TREES, "disable_default_eval_metric": 1, **parameters}
    booster = xgb.train(parameters, data, rounds, evals=[(data, "train")], evals_result=curve, obj=ours, verbose_eval=False)
    return booster, next(iter(curve["train"].values()))


def assert_same(ours, builtin, data, same_curve):
    (our_booster, our_curve), (booster, curve) = ours, builtin
    same_curve(our_curve, curve)
    np.testing.assert_allclose(our_booster.predict(data), booster.predict(data), rtol=1e-4, atol=1e-5)


def weights_of(data):
    return np.random.default_rng(0).uniform(0.2, 3.0, len(data))


@pytest.mark.parametrize("weighted", [False, True])
def test_squared_error(diabetes, same_curve, weighted):
    """Half the mean squared error trains to the curve and the predictions of `reg:squarederror`, with weights."""
    features, target = diabetes
    data = xgb.DMatrix(features, target, weight=weights_of(features) if weighted else None)
    own = train({"objective": "reg:squarederror", "eval_metric": "rmse"}, data, 25)
    assert_same(train({"eval_metric": "rmse"}, data, 25, objective("mse", loss_weight=0.5)), own, data, same_curve)
    # The whole square under twice the penalties is the same.
    doubled = {"lambda": 2.0, "min_child_weight": 2.0}
    assert_same(train({"eval_metric": "rmse", **doubled}, data, 25, objective("mse")), own, data, same_curve)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("weighted", [False, True])
def test_yes_or_no(tumours, same_curve, framework, weighted):
    """Binary cross-entropy trains to the curve and the probabilities of `binary:logistic`, on each framework."""
    features, labels = tumours
    data = xgb.DMatrix(features, labels, weight=weights_of(features) if weighted else None)
    parameters = {"objective": "binary:logistic", "eval_metric": "logloss"}
    ours = train(parameters, data, 15, objective("binary_crossentropy", backend=framework))
    assert_same(ours, train(parameters, data, 15), data, same_curve)


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", lb.CategoricalCrossentropy(), softmax_entropy])
def test_ten_classes(digits, same_curve, loss):
    """Cross-entropy of ten classes trains to the curve of `multi:softprob`, whose Hessian is twice the exact one."""
    images, labels = digits
    data = xgb.DMatrix(images, labels, weight=weights_of(images))
    parameters = {"objective": "multi:softprob", "num_class": 10, "eval_metric": "mlogloss", "eta": 0.4}
    # Twice the Hessian is half the step, under half the penalties.
    halves = {"eta": 0.2, "lambda": 0.5, "min_child_weight": 0.5}
    ours = train({**parameters, **halves}, data, 6, objective(loss))
    assert_same(ours, train(parameters, data, 6), data, same_curve)
    assert (ours[0].predict(data).argmax(axis=1) == labels).mean() > 0.95


def test_counts(diabetes, same_curve):
    """Poisson loss of a logarithm trains to the curve of `count:poisson` without its cap on a step."""
    counts = np.round(3 * np.exp(diabetes[1]))
    data = xgb.DMatrix(diabetes[0], counts)
    parameters = {"objective": "count:poisson", "eval_metric": "poisson-nloglik", "max_delta_step": 0, "base_score": 1.0}
    assert_same(train(parameters, data, 20, objective("poisson")), train(parameters, data, 20), data, same_curve)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_loss_of_ones_own(diabetes, same_curve, framework):
    """A user's own loss trains to the curve of the built-in `reg:pseudohubererror`."""
    data = xgb.DMatrix(*diabetes, weight=weights_of(diabetes[0]))
    ours = train({"eval_metric": "mae"}, data, 20, objective(pseudo_huber, slope=0.8, hessian="exact", backend=framework))
    own = train({"objective": "reg:pseudohubererror", "huber_slope": 0.8, "eval_metric": "mae"}, data, 20)
    assert_same(ours, own, data, same_curve)


@pytest.mark.parametrize("hessian", ["auto", "gauss_newton"])
@pytest.mark.parametrize("loss", ["mae", "huber"])
@pytest.mark.parametrize("unit", [1.0, 70.0])
def test_losses_without_curvature(diabetes, loss, unit, hessian):
    """Absolute errors learn, whatever the unit of the labels, about as well as by `reg:absoluteerror`."""
    features, target = diabetes[0], unit * (diabetes[1][:, 0] + 2.0)
    parameters = {"n_estimators": 60, "learning_rate": 0.2, "max_depth": 3, "n_jobs": 1, "min_child_weight": 0.1}
    chosen = {"ours": objective(loss, hessian=hessian), "theirs": "reg:absoluteerror"}
    models = {name: xgb.XGBRegressor(objective=chosen[name], **parameters).fit(features, target) for name in chosen}
    ours, theirs = (np.abs(models[name].predict(features) - target).mean() for name in chosen)
    assert ours < 1.2 * theirs < 0.6 * np.abs(np.median(target) - target).mean()


def test_log_cosh_far_from_the_labels(diabetes):
    """log_cosh, whose curvature fades, learns by Gauss and Newton's."""
    features, target = diabetes[0], diabetes[1][:, 0] + 2.0
    model = xgb.XGBRegressor(objective=objective("log_cosh", hessian="gauss_newton"), n_estimators=40, learning_rate=0.2, max_depth=3, n_jobs=1)
    assert np.abs(model.fit(features, target).predict(features) - target).mean() < 0.5 * np.abs(target - np.median(target)).mean()


def test_both_apis_are_one(digits, diabetes, tumours):
    """The scikit-learn API and the native one train the same model, and a weight counts once in each."""
    for (features, labels), loss, estimator, extra in (
        (diabetes, "huber", xgb.XGBRegressor, {}),
        (tumours, "bce", xgb.XGBClassifier, {"objective": "binary:logistic"}),
        (digits, "scce", xgb.XGBClassifier, {"objective": "multi:softprob", "num_class": 10}),
    ):
        features, labels = features[:300], labels[:300]
        weights = np.random.default_rng(1).integers(0, 3, len(features))
        parameters = {"n_estimators": 4, "learning_rate": 0.3, "max_depth": 3, "base_score": 0.5, "n_jobs": 1, "min_child_weight": 0}
        model = estimator(objective=objective(loss), **parameters).fit(features, labels.ravel(), sample_weight=weights)
        raw = model.predict(features, output_margin=True)
        native, _ = train(
            {**extra, "eval_metric": "rmse" if not extra else "merror" if "num_class" in extra else "error", "min_child_weight": 0},
            xgb.DMatrix(features, labels, weight=weights),
            4,
            objective(loss),
        )
        np.testing.assert_allclose(native.predict(xgb.DMatrix(features), output_margin=True), raw, rtol=1e-5, atol=1e-6)
        # The same as rows that occur as often: exactly once, then.
        again = np.repeat(np.arange(300), weights)
        repeated = estimator(objective=objective(loss, hessian="exact"), tree_method="exact", **parameters)
        weighted = clone(repeated).fit(features, labels.ravel(), sample_weight=weights)
        repeated.fit(features[again], labels.ravel()[again])
        found = (model.predict(features[again], output_margin=True) for model in (repeated, weighted))
        np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-4)


def test_classifiers_predict(digits, tumours):
    """XGBClassifier predicts classes and probabilities, as with its own objective."""
    for (features, labels), loss in ((digits, "scce"), (tumours, "bce")):
        labels = labels.ravel().astype(int)
        parameters = {"n_estimators": 8, "max_depth": 3, "n_jobs": 1, "base_score": 0.5}
        ours = xgb.XGBClassifier(objective=objective(loss), **parameters).fit(features, labels)
        builtin = xgb.XGBClassifier(**parameters).fit(features, labels)
        shares = ours.predict_proba(features)
        np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-5)
        assert ours.score(features, labels) > builtin.score(features, labels) - 0.01
        assert metric(loss)(labels, shares) < 1.3 * metric(loss)(labels, builtin.predict_proba(features))


def test_several_outputs(diabetes, same_curve):
    """Several outputs at once: the mean over two of them is half of what `reg:squarederror` adds up, twice over."""
    targets = np.column_stack([diabetes[1], -2 * diabetes[1]])
    data = xgb.DMatrix(diabetes[0], targets)
    own = train({"objective": "reg:squarederror", "eval_metric": "rmse"}, data, 8)
    assert_same(train({"eval_metric": "rmse"}, data, 8, objective("mse")), own, data, same_curve)


def test_an_evaluation_metric(diabetes, tumours):
    """`eval_metric=metric(...)` is what XGBoost itself measures, and stops early."""
    features, target = diabetes
    kept = {"n_estimators": 60, "max_depth": 3, "n_jobs": 1, "early_stopping_rounds": 3}
    curves = []
    for measured in (metric("mae"), "mae"):
        model = xgb.XGBRegressor(eval_metric=measured, **kept).fit(
            features[:300], target[:300], eval_set=[(features[300:], target[300:])], verbose=False
        )
        curves.append(list(model.evals_result()["validation_0"].values())[-1])
    assert len(curves[0]) == len(curves[1]) < 60
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-5)
    # Beside an objective of one's own XGBoost hands out raw scores.
    model = xgb.XGBClassifier(objective=objective("bce"), eval_metric=metric("bce", from_logits=True), n_estimators=5, base_score=0.5, n_jobs=1)
    model.fit(tumours[0], tumours[1].ravel(), eval_set=[tumours], verbose=False)
    assert list(model.evals_result()["validation_0"].values())[-1][-1] == pytest.approx(
        metric("bce")(tumours[1], model.predict_proba(tumours[0])), rel=1e-5
    )


def test_search_and_pickle(diabetes):
    """Models with such an objective are cloned, searched and pickled."""
    features, target = diabetes[0], diabetes[1].ravel()
    model = xgb.XGBRegressor(objective=objective("huber", delta=0.5), n_estimators=10, n_jobs=1)
    search = GridSearchCV(model, {"max_depth": [1, 3]}, scoring=scorer("huber"), cv=2).fit(features, target)
    assert search.best_score_ < 0
    twin = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(twin.predict(features), search.predict(features))
    assert twin.objective == objective("huber", delta=0.5)


def test_the_page(run_page):
    """Every example of the page runs."""
    run_page("hosts/boosting")


@pytest.mark.parametrize("unit", [1.0, 10.0, 1000.0])
def test_absolute_errors_with_the_defaults(unit):
    """`loss_weight=mean |y|` lets absolute errors learn with XGBoost's own defaults, in every unit of the labels."""
    features, target = load_diabetes(return_X_y=True)
    features, target = features[:200], target[:200] * unit
    model = xgb.XGBRegressor(objective=objective("mae", loss_weight=np.abs(target).mean()), n_estimators=50, max_depth=3, n_jobs=1)
    builtin = xgb.XGBRegressor(objective="reg:absoluteerror", n_estimators=50, max_depth=3, n_jobs=1)
    ours, theirs = (np.abs(m.fit(features, target).predict(features) - target).mean() for m in (model, builtin))
    assert ours < 1.1 * theirs


def test_counts_far_from_one():
    """Poisson loss of large counts learns from a score that begins at their logarithm."""
    features, target = load_diabetes(return_X_y=True)
    model = xgb.XGBRegressor(objective=objective("poisson"), n_estimators=30, max_depth=3, base_score=float(np.log(target.mean())), n_jobs=1)
    builtin = xgb.XGBRegressor(objective="count:poisson", n_estimators=30, max_depth=3, n_jobs=1)
    ours = np.exp(model.fit(features, target).predict(features))
    assert np.abs(ours - target).mean() < np.abs(builtin.fit(features, target).predict(features) - target).mean()


def test_labels_that_cannot_be_meant():
    """Labels that the loss cannot mean are errors, and a weight for the positive class counts as `scale_pos_weight` does."""
    features, target = load_breast_cancer(return_X_y=True)
    with pytest.raises(ValueError, match=r"binary_crossentropy: y_true at index .* is 2, outside"):
        xgb.XGBRegressor(objective=objective("bce"), n_estimators=1).fit(features, target + 1)
    with pytest.raises(ValueError, match=r"hinge: y_true at index .* is 2, none of"):
        objective("hinge")([1.0, 2.0], [0.3, 0.4])
    with pytest.raises(ValueError, match="sample_weight must hold one number for each of 2 samples"):
        objective("mse")([1.0, 2.0], [1.0, 3.0], [1.0, 2.0, 3.0])
    same = {"n_estimators": 10, "max_depth": 3, "base_score": 0.5, "n_jobs": 1}
    ours = xgb.XGBClassifier(objective=objective("bce", pos_weight=5.0), **same).fit(features, target).predict(features, output_margin=True)
    builtin = xgb.XGBClassifier(scale_pos_weight=5.0, **same).fit(features, target).predict(features, output_margin=True)
    np.testing.assert_allclose(ours - ours.mean(), builtin - builtin.mean(), rtol=1e-3, atol=1e-3)
