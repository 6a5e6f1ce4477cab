"""pandas: columns straight into losses, metrics, scorers and boosters."""

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from sklearn import metrics
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_score

import lossbackend as lb
from lossbackend.boosting import objective
from lossbackend.sklearn import metric, scorer

pytestmark = pytest.mark.host("pandas", "pandas", '`lossbackend.mse(df[["y"]], df[["p"]])`')


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame({"y": rng.normal(size=9), "p": rng.normal(size=9), "q": rng.normal(size=9), "w": np.arange(9) % 4})


def test_frames_and_columns(frame):
    """A frame of one column is N samples to a loss and a loss object; a column alone is one sample, its mean."""
    errors = np.square(frame["y"] - frame["p"]).to_numpy()
    np.testing.assert_allclose(lb.mse(frame[["y"]], frame[["p"]]), errors, rtol=1e-12)
    assert lb.mse(frame["y"], frame["p"]) == pytest.approx(errors.mean(), rel=1e-12)
    np.testing.assert_allclose(lb.mse(frame["y"], frame[["p"]]), errors, rtol=1e-12)
    both = np.square(frame[["y", "p"]].to_numpy() - frame[["q", "q"]].to_numpy()).mean(axis=1)
    np.testing.assert_allclose(lb.mse(frame[["y", "p"]], frame[["q", "q"]]), both, rtol=1e-12)
    weighted = lb.MeanSquaredError(reduction="mean_with_sample_weight")(frame[["y"]], frame[["p"]], sample_weight=frame["w"])
    assert weighted == pytest.approx(np.average(errors, weights=frame["w"]), rel=1e-12)
    ids = pd.Series([1, 0, 1], index=[7, 8, 9])
    np.testing.assert_allclose(lb.scce(ids, pd.DataFrame({"a": [0.5, 0.2, 0.9], "b": [0.5, 0.8, 0.1]})), -np.log([0.5, 0.2, 0.1]), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "Float64", "Int64", "int8", "boolean"])
def test_types_of_columns(dtype):
    """Nullable types are taken as their numbers; a missing value is a NaN to a loss and an error to a metric."""
    y, p = pd.Series([1, 0, 1]).astype(dtype), pd.Series([0, 0, 1]).astype(dtype)
    np.testing.assert_allclose(lb.mae(y.to_frame(), p.to_frame()), [1.0, 0.0, 0.0])
    assert metric("mae")(y, p) == pytest.approx(1 / 3)
    if dtype[0] in "FI":
        assert np.isnan(lb.mae(y.to_frame(), p.mask(p == 1).to_frame())[2])
        with pytest.raises(ValueError, match=r"mean_absolute_error: y_pred at index \(2, 0\) is nan"):
            metric("mae")(y, p.mask(p == 1))


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["a", "b"]),
        pd.Series(["a", "b"], dtype="category"),
        pd.Series([1, 2.5], dtype=object),
        pd.DataFrame({"a": [1, 2], "b": [1.5, 2.5]}).convert_dtypes(),
    ],
)
def test_what_is_no_number(column):
    """Strings, categories and mixed nullable types are errors that say what to do."""
    with pytest.raises(TypeError, match=r"mean_squared_error: y_pred must hold real numbers, got dtype object: make numbers of it, .*astype"):
        lb.mse(column, column)


def test_metrics_of_columns(frame):
    """Metrics take columns, frames and categories of classes, whatever their index."""
    y, p, w = frame["y"], frame["p"].sort_index(ascending=False), frame["w"]
    assert metric("mae")(y, p, w) == pytest.approx(metrics.mean_absolute_error(y, p, sample_weight=w), rel=1e-12)
    assert metric("mae")(frame[["y"]], frame[["p"]]) == pytest.approx(metrics.mean_absolute_error(frame["y"], frame["p"]), rel=1e-12)
    names = pd.Series(["dog", "cat", "dog"], dtype="category")
    shares = pd.DataFrame({"cat": [0.1, 0.7, 0.4], "dog": [0.9, 0.3, 0.6]})
    assert metric("scce")(names, shares) == pytest.approx(metrics.log_loss(names, shares), rel=1e-12)


def test_models_of_frames(diabetes, tumours):
    """Estimators and boosters fitted on frames are scored, and trained, by losses."""
    features = pd.DataFrame(diabetes[0].astype(float), columns=[f"x{i}" for i in range(10)])
    target = pd.Series(diabetes[1][:, 0].astype(float), index=features.index)
    ours = cross_val_score(Ridge(), features, target, scoring=scorer("mse"), cv=3)
    np.testing.assert_allclose(ours, cross_val_score(Ridge(), features, target, scoring="neg_mean_squared_error", cv=3), rtol=1e-12)
    labels = pd.Series(np.where(tumours[1][:, 0] == 1, "benign", "malignant"))
    model = LogisticRegression().fit(tumours[0], labels)
    expected = metrics.log_loss(labels, model.predict_proba(tumours[0]))
    assert scorer("bce")(model, tumours[0], labels) == pytest.approx(-expected, rel=1e-5)
    booster = xgb.XGBRegressor(objective=objective("mse", loss_weight=0.5), n_estimators=5, base_score=0.5, n_jobs=1).fit(features, target)
    builtin = xgb.XGBRegressor(n_estimators=5, base_score=0.5, n_jobs=1).fit(features, target)
    np.testing.assert_allclose(booster.predict(features), builtin.predict(features), rtol=1e-5, atol=1e-6)
    gradient, _ = objective("mse")(target, target + 1.0)
    np.testing.assert_allclose(gradient, 2.0)
