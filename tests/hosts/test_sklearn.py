"""scikit-learn: losses as metrics and as scorers of real estimators, beside its own."""

import copy
import pickle

import numpy as np
import pytest
import sklearn
from sklearn import metrics
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelBinarizer, StandardScaler
from sklearn.svm import LinearSVC

import lossbackend as lb
from lossbackend.sklearn import metric, scorer

pytestmark = pytest.mark.host("scikit-learn", "scikit-learn", '`scoring=lossbackend.sklearn.scorer("huber")`')

NAMES = np.array(["setosa", "versicolor", "virginica"])


@lb.loss
def pinball(ops, y_true, y_pred, *, level=0.5):
    """A quantile's loss, which scikit-learn has too."""
    error = y_true - y_pred
    return ops.mean(ops.maximum(level * error, (level - 1.0) * error), axis=-1)


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


def regression(seed=0, shape=(60,)):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.5, 3.0, shape), rng.uniform(0.5, 3.0, shape), rng.uniform(0.0, 2.0, shape[0])


@pytest.mark.parametrize(
    ("loss", "own"),
    [
        ("mse", metrics.mean_squared_error),
        (lb.mae, metrics.mean_absolute_error),
        ("MSLE", metrics.mean_squared_log_error),
        (lb.MeanAbsolutePercentageError, lambda *args, **weights: 100 * metrics.mean_absolute_percentage_error(*args, **weights)),
        (pinball, metrics.mean_pinball_loss),
    ],
)
@pytest.mark.parametrize("shape", [(60,), (60, 1), (60, 3)])
def test_metrics_of_regressions(loss, own, shape):
    """Metrics equal `sklearn.metrics`, weighted or not, for one output and several."""
    y_true, y_pred, weights = regression(shape=shape)
    for given in ({}, {"sample_weight": weights}, {"sample_weight": None}):
        value = metric(loss)(y_true, y_pred, **given)
        assert type(value) is float
        assert value == pytest.approx(own(y_true, y_pred, **given), rel=1e-12)
    assert metric(loss)(y_true.tolist(), y_pred.tolist(), weights.tolist()) == pytest.approx(own(y_true, y_pred, sample_weight=weights), rel=1e-12)


@pytest.mark.parametrize("labels", [[0, 1, 2], [1, 2, 3], [-1, 0, 5], ["a", "b", "c"]])
@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "categorical_crossentropy", "kl_divergence"])
def test_probabilities_of_classes(iris, loss, labels):
    """Log loss of `predict_proba` equals `log_loss`, for class ids, other numbers and strings, with weights."""
    features, ids = iris
    y, weights = np.array(labels)[ids], np.arange(150) % 4
    model = LogisticRegression(max_iter=500).fit(features, y)
    shares = model.predict_proba(features)
    expected = metrics.log_loss(y, shares, sample_weight=weights)
    assert metric(loss)(y, shares, sample_weight=weights) == pytest.approx(expected, rel=1e-12)
    # A part of the data that lacks a class.
    part = ids != 1
    named = metric(loss, labels=model.classes_)
    assert named(y[part], shares[part]) == pytest.approx(metrics.log_loss(y[part], shares[part], labels=labels), rel=1e-12)
    if loss != "sparse_categorical_crossentropy":
        assert metric(loss)(LabelBinarizer().fit_transform(y), shares, weights) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("labels", [[0, 1], [-1, 1], [1, 2], ["no", "yes"], [False, True]])
@pytest.mark.parametrize("loss", ["binary_crossentropy", "sparse_categorical_crossentropy", "cce"])
def test_two_classes(tumours, loss, labels):
    """Two classes: both columns of `predict_proba` or the second alone, and logits of `decision_function`."""
    features, ids = tumours
    y, weights = np.array(labels)[ids[:, 0].astype(int)], np.linspace(0, 1, len(ids))
    model = LogisticRegression().fit(features, y)
    shares, logits = model.predict_proba(features), model.decision_function(features)
    expected = metrics.log_loss(y, shares, sample_weight=weights)
    for y_pred in (shares, shares[:, 1], shares[:, 1:]):
        assert metric(loss)(y, y_pred, weights) == pytest.approx(expected, rel=1e-6)
    assert metric(loss, from_logits=True)(y, logits, sample_weight=weights) == pytest.approx(expected, rel=1e-6)
    assert scorer(loss)(model, features, y, sample_weight=weights) == pytest.approx(-expected, rel=1e-6)
    assert scorer(loss, from_logits=True)(model, features, y, sample_weight=weights) == pytest.approx(-expected, rel=1e-6)


@pytest.mark.parametrize("labels", [[0, 1], [-1, 1], [1, 2], ["no", "yes"]])
@pytest.mark.parametrize("loss", ["hinge", "categorical_hinge"])
def test_margins_of_two_classes(tumours, loss, labels):
    """Hinge losses of `decision_function` equal `hinge_loss`, with weights."""
    y, weights = np.array(labels)[tumours[1][:, 0].astype(int)], np.linspace(1.0, 2.0, 569)
    model = LinearSVC(random_state=0).fit(tumours[0], y)
    expected = metrics.hinge_loss(y, model.decision_function(tumours[0]), sample_weight=weights)
    assert scorer(loss)(model, tumours[0], y, sample_weight=weights) == pytest.approx(-expected, rel=1e-12)


def test_margins_of_several_classes(iris):
    """`categorical_hinge` equals `hinge_loss` of several classes, where no score is negative."""
    scores = np.random.default_rng(0).uniform(0.0, 3.0, (150, 3))
    y = NAMES[iris[1]]
    assert metric("categorical_hinge")(y, scores) == pytest.approx(metrics.hinge_loss(y, scores), rel=1e-12)


def test_cross_validation(diabetes, iris):
    """`cross_val_score` and `cross_validate` give the scores of the built-in names."""
    features, target = diabetes[0], diabetes[1][:, 0].astype(np.float64)
    ours = cross_val_score(Ridge(), features, target, scoring=scorer("mse"), cv=5)
    np.testing.assert_allclose(ours, cross_val_score(Ridge(), features, target, scoring="neg_mean_squared_error", cv=5), rtol=1e-12)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    both = {"ours": scorer("scce"), "own": "neg_log_loss", "margins": scorer("categorical_hinge")}
    found = cross_validate(model, iris[0], NAMES[iris[1]], scoring=both, cv=3)
    np.testing.assert_allclose(found["test_ours"], found["test_own"], rtol=1e-12)
    assert (found["test_margins"] < 0).all()


def test_grid_search_in_two_processes(digits):
    """`GridSearchCV(n_jobs=2)` chooses what it chooses by the built-in name, also by a loss written here."""
    # log_loss computes in the type of the probabilities, which is that of the images.
    images, labels = digits[0][:300].astype(np.float64), digits[1][:300]
    grid = {"C": [1e-3, 1e-1, 10.0]}
    results = []
    for scoring in (scorer("sparse_categorical_crossentropy"), "neg_log_loss"):
        results.append(GridSearchCV(LogisticRegression(max_iter=300), grid, scoring=scoring, cv=2, n_jobs=2).fit(images, labels))
    ours, own = results
    assert ours.best_params_ == own.best_params_ == {"C": 10.0}
    np.testing.assert_allclose(ours.cv_results_["mean_test_score"], own.cv_results_["mean_test_score"], rtol=1e-10)
    assert ours.best_estimator_.score(images, labels) > 0.99

    @lb.loss
    def closure(ops, y_true, y_pred):
        return ops.mean(ops.square(y_pred - y_true), axis=-1)

    # Neither importable nor picklable by name: the workers get it by value.
    found = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, scoring=scorer(closure), cv=2, n_jobs=2).fit(images, labels)
    builtin = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, scoring="neg_mean_squared_error", cv=2).fit(images, labels)
    np.testing.assert_allclose(found.cv_results_["mean_test_score"], builtin.cv_results_["mean_test_score"], rtol=1e-5)


def test_weights_are_routed(diabetes):
    """Metadata routing hands sample_weight on, by `set_score_request`."""
    features, target = diabetes[0], diabetes[1][:, 0].astype(np.float64)
    weights = np.linspace(0.0, 2.0, len(target))
    with sklearn.config_context(enable_metadata_routing=True):
        scores = []
        own = metrics.make_scorer(metrics.mean_absolute_error, greater_is_better=False)
        for scoring in (scorer("mae"), own):
            model = Ridge().set_fit_request(sample_weight=True)
            routed = scoring.set_score_request(sample_weight=True)
            scores.append(cross_val_score(model, features, target, scoring=routed, cv=3, params={"sample_weight": weights}))
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-12)
    unweighted = cross_val_score(Ridge(), features, target, scoring="neg_mean_absolute_error", cv=3)
    assert np.abs(scores[0] - unweighted).max() > 1e-3


def test_a_loss_says_what_it_is_computed_of():
    """The scorer asks the estimator for what the loss needs: predictions, probabilities, logits or margins."""
    asked = {name: scorer(name)._response_method for name in lb.losses.__all__ if getattr(getattr(lb, name), "definition", None)}
    probabilities = {name for name, method in asked.items() if method == "predict_proba"}
    margins = {name for name, method in asked.items() if method == "decision_function"}
    assert {"binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy", "kl_divergence"} <= probabilities
    assert margins == {"hinge", "squared_hinge", "categorical_hinge"}
    assert {"mse", "huber", "poisson", "log_cosh", "cosine"} <= set(asked) - probabilities - margins
    assert scorer(lb.BinaryCrossentropy(from_logits=True))._response_method == "decision_function"
    assert scorer("hinge", response_method="predict")._response_method == "predict"


def test_models_of_many_kinds(digits):
    """Scores forests, stochastic gradients and Poisson regressions as their own metrics do."""
    images, labels = digits[0][:400], digits[1][:400]
    forest = RandomForestClassifier(20, random_state=0).fit(images[:300], labels[:300])
    shares = np.clip(forest.predict_proba(images[300:]), 1e-7, 1.0)
    # Probabilities of 0 are clipped at epsilon here, at float64's there.
    expected = -np.log(shares[np.arange(100), labels[300:]]).mean()
    assert scorer("scce")(forest, images[300:], labels[300:]) == pytest.approx(-expected, rel=1e-6)
    line = SGDClassifier(loss="hinge", random_state=0).fit(images, labels % 2)
    assert scorer("hinge")(line, images, labels % 2) == pytest.approx(-metrics.hinge_loss(labels % 2, line.decision_function(images)), rel=1e-12)
    counts = PoissonRegressor().fit(images, labels)
    rates = counts.predict(images).astype(np.float64)
    assert scorer("poisson")(counts, images, labels) == pytest.approx(-np.mean(rates - labels * np.log(rates + 1e-7)), rel=1e-12)


def test_metrics_are_values():
    """Metrics and scorers pickle, copy, compare and print."""
    for made in (metric("huber", delta=2.0), metric(lb.Huber(2.0)), metric(pinball, level=0.9), metric("scce", labels=["a", "b"])):
        for twin in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), clone(made, safe=False)):
            assert twin == made
            assert hash(twin) == hash(made)
    assert metric("huber", delta=2.0) == metric(lb.Huber(2.0)) != metric("huber")
    assert repr(metric("huber", delta=2.0)) == "metric(huber, delta=2.0)"
    assert metric("mse").__name__ == "mean_squared_error"
    made = scorer("huber", delta=2.0)
    twin = pickle.loads(pickle.dumps(made))
    assert twin == made == scorer(lb.Huber(2.0)) != scorer("huber")
    assert hash(twin) == hash(made)
    with sklearn.config_context(enable_metadata_routing=True):
        assert made.set_score_request(sample_weight=True) != scorer("huber", delta=2.0)
    assert metric(lb.Huber(reduction="sum"))([0.0, 0.0], [1.0, 1.0], [1.0, 3.0]) == 2.0


def test_every_backend_computes_them(monkeypatch):
    """Computed by whatever backend is selected; tensors are taken as well."""
    torch = pytest.importorskip("torch")
    y_true, y_pred, weights = regression()
    for name in ("torch", "jax", "tensorflow"):
        monkeypatch.setenv("LOSSBACKEND", name)
        assert metric("mae")(y_true, y_pred, weights) == pytest.approx(metrics.mean_absolute_error(y_true, y_pred, sample_weight=weights), rel=1e-6)
    assert metric("mae")(torch.tensor(y_true), torch.tensor(y_pred)) == pytest.approx(metrics.mean_absolute_error(y_true, y_pred), rel=1e-6)
    assert type(metric("mse")([0], [1])) is float


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: metric("msee"), ValueError, "unknown loss 'msee'. Did you mean 'mse'"),
        (lambda: metric(metrics.mean_squared_error), TypeError, "expected a loss, .*@lossbackend.loss"),
        (lambda: metric("huber", dleta=1.0), TypeError, "huber: unknown option 'dleta', did you mean 'delta'"),
        (lambda: metric("huber", delta=-1.0), ValueError, "huber: delta must be positive"),
        (lambda: metric(lb.Huber(reduction="none")), ValueError, "huber: .*reduces nothing"),
        (lambda: metric("mse")([0.0, 1.0], [0.0]), ValueError, "mean_squared_error: y_true and y_pred must have the same shape"),
        (lambda: metric("mse")(["a"], [0.0]), TypeError, "mean_squared_error: y_true must hold real numbers, got dtype <U1: make numbers of it"),
        (
            lambda: metric("scce")(["a", "b"], [[0.2, 0.3, 0.5]] * 2),
            ValueError,
            r"there are 2 labels, \['a', 'b'\], for 3 classes.*estimator.classes_",
        ),
        (lambda: metric("scce", labels=["a", "b"])(["c"], [[0.5, 0.5]]), ValueError, r"'c' is none of the labels \['a', 'b'\]"),
        (lambda: metric("scce")(np.array(["a", None], object), [[0.5, 0.5]] * 2), ValueError, "y_true holds labels that do not sort"),
        (lambda: metric("mse")([0.0], [1.0], sample_weight=[1.0, 2.0]), ValueError, "mean_squared_error: sample_weight of shape"),
    ],
)
def test_mistakes_are_named(make, error, message):
    """Mistakes are errors that name the loss and say what to do."""
    with pytest.raises(error, match=message):
        make()


def test_the_page(run_page):
    """Every example of the page runs."""
    run_page("hosts/scikit-learn")


@pytest.mark.parametrize("first", [0, 1])
def test_a_fold_that_lacks_a_class(first):
    """A scorer knows the classes of the estimator where a fold lacks one, or the estimator does."""
    images, labels = load_iris(return_X_y=True)
    labels = labels + first
    cv = KFold(5)
    model = LogisticRegression(max_iter=500)
    exact = []
    for train, test in cv.split(images):
        model.fit(images[train], labels[train])
        known = np.isin(labels[test], model.classes_)
        probabilities = model.predict_proba(images[test])
        exact.append(-metrics.log_loss(labels[test], probabilities, labels=model.classes_) if known.all() else np.nan)
    np.testing.assert_allclose(cross_val_score(model, images, labels, scoring=scorer("scce"), cv=cv), exact, rtol=1e-6)
    assert np.isfinite(exact).all()
    # Of classes that stand in order, the first fold is one that the estimator has never seen.
    with pytest.warns(UserWarning, match="Scoring failed"):
        unseen = cross_val_score(model, images, labels, scoring=scorer("scce"), cv=KFold(3))
    assert np.isnan(unseen).all()


def test_logits_are_no_probabilities():
    """Logits taken for probabilities, estimators taken for labels and labels of too many classes are errors."""
    for method in ("decision_function", ["predict_proba", "decision_function"]):
        with pytest.raises(ValueError, match="'decision_function' with from_logits=False: this loss asks for predict_proba"):
            scorer("bce", response_method=method)
    with pytest.raises(ValueError, match="response_method 'predict_proba'"):
        scorer("scce", from_logits=True, response_method="predict_proba")
    with pytest.raises(ValueError, match="these look like logits"):
        metric("bce")([0.0, 1.0], [-1.3, 4.0])
    with pytest.raises(TypeError, match=r"as scoring= take lossbackend\.sklearn\.scorer"):
        metric("mse")(LogisticRegression(), [[0.0]], [0.0])
    with pytest.raises(ValueError, match="for 2 classes in y_pred: this loss takes two classes"):
        metric("hinge")([0, 1, 2], np.zeros((3, 3)))


def test_an_ignored_class_beside_labels():
    """An ignored class needs not be among the labels."""
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    exact = -np.log([0.9, 0.8]).mean()
    for labels in (None, [0, 1]):
        assert metric("scce", ignore_class=-1, labels=labels)([0, 1, -1], probabilities) == pytest.approx(exact, rel=1e-6)
