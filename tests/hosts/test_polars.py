"""polars: columns straight into losses, metrics and scorers."""

import numpy as np
import polars as pl
import pytest
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

import lossbackend as lb
from lossbackend.boosting import objective
from lossbackend.sklearn import metric, scorer

pytestmark = pytest.mark.host("polars", "polars", '`lossbackend.mse(df.select("y"), df.select("p"))`')


def test_frames_and_columns():
    """A frame of one column is N samples to a loss and a loss object; a column alone is one sample, its mean."""
    frame = pl.DataFrame({"y": [0.0, 1.0, 4.0], "p": [1.0, 1.0, 1.0], "w": [1, 0, 3]})
    np.testing.assert_allclose(lb.mse(frame.select("y"), frame.select("p")), [1.0, 0.0, 9.0])
    assert lb.mse(frame["y"], frame["p"]) == pytest.approx(10 / 3)
    assert lb.MeanSquaredError()(frame.select("y"), frame.select("p"), sample_weight=frame["w"]) == pytest.approx(28 / 3)
    assert lb.MeanSquaredError()(frame.select("y"), frame.select("p"), mask=frame["w"] > 0) == pytest.approx(5.0)
    np.testing.assert_allclose(lb.scce(pl.Series([1, 0]), pl.DataFrame({"a": [0.5, 0.2], "b": [0.5, 0.8]})), -np.log([0.5, 0.2]), rtol=1e-6)
    np.testing.assert_allclose(objective("mse")(frame["y"], frame["p"], frame["w"])[0], [2.0, 0.0, -18.0])


def test_missing_values_and_strings():
    """A null is a NaN, and makes the loss one; strings and decimals are errors that say what to do."""
    missing = pl.Series([1.0, None])
    assert np.isnan(lb.mse(missing, missing))
    for column in (pl.Series(["a", "b"]), pl.Series(["a", "b"], dtype=pl.Categorical), pl.Series([1, 2]).cast(pl.Decimal(10, 2))):
        with pytest.raises(TypeError, match=r"mean_squared_error: y_pred must hold real numbers, got dtype .*: make numbers of it"):
            lb.mse(column, column)


def test_metrics_and_scorers(tumours):
    """Metrics and scorers take columns, of strings too, and estimators fitted on frames."""
    frame = pl.DataFrame({"y": [0.0, 1.0, 4.0], "p": [1.0, 1.5, 1.0], "w": [1, 0, 3]})
    expected = metrics.mean_absolute_error(frame["y"].to_numpy(), frame["p"].to_numpy(), sample_weight=frame["w"].to_numpy())
    assert metric("mae")(frame["y"], frame["p"], frame["w"]) == pytest.approx(expected, rel=1e-12)
    features = pl.DataFrame(tumours[0].astype(np.float64))
    labels = pl.Series(np.where(tumours[1][:, 0] == 1, "benign", "malignant"))
    ours = cross_val_score(LogisticRegression(), features, labels, scoring=scorer("binary_crossentropy"), cv=3)
    np.testing.assert_allclose(ours, cross_val_score(LogisticRegression(), features, labels, scoring="neg_log_loss", cv=3), rtol=1e-5)
