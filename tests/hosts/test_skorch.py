"""Criteria in skorch."""

import functools
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor

import lossbackend as lb
from lossbackend.torch import nn

pytestmark = pytest.mark.host(
    "skorch", "skorch", "`NeuralNetClassifier(criterion=lossbackend.torch.nn.SparseCategoricalCrossentropy, criterion__from_logits=True)`"
)

# What turns logits into probabilities: skorch knows only torch's own criteria.
SOFTMAX = functools.partial(torch.softmax, dim=-1)


class Logits(torch.nn.Module):
    def __init__(self, width=10, features=64):
        super().__init__()
        self.linear = torch.nn.Linear(features, width)

    def forward(self, x):
        return self.linear(x)


class Probabilities(Logits):
    def forward(self, x):
        return self.linear(x).softmax(dim=-1)


@lb.loss
def charbonnier(ops, y_true, y_pred, *, scale=1e-3):
    return ops.mean(ops.sqrt(ops.square(y_pred - y_true) + scale**2), axis=-1)


class Charbonnier(nn.Criterion):
    loss = charbonnier


def fit(kind, x, y, lr=0.5, **options):
    """The net, and its losses: those of training, then those of validation."""
    torch.manual_seed(0)
    return with_curve(kind(max_epochs=10, lr=lr, verbose=0, **options).fit(x, y))


def with_curve(net):
    return net, net.history[:, "train_loss"] + net.history[:, "valid_loss"]


def test_a_classifier_trains_as_with_the_builtin(digits, same_curve):
    """NeuralNetClassifier trains to the curve and the accuracy of nn.CrossEntropyLoss."""
    ours, curve = fit(
        NeuralNetClassifier,
        *digits,
        module=Logits,
        criterion=nn.SparseCategoricalCrossentropy,
        criterion__from_logits=True,
        criterion__label_smoothing=0.1,
        predict_nonlinearity=SOFTMAX,
    )
    builtin, expected = fit(NeuralNetClassifier, *digits, module=Logits, criterion=torch.nn.CrossEntropyLoss, criterion__label_smoothing=0.1)
    same_curve(curve, expected)
    np.testing.assert_allclose(ours.predict_proba(digits[0]), builtin.predict_proba(digits[0]), rtol=1e-4)
    assert ours.score(*digits) == builtin.score(*digits) > 0.8


def test_a_module_that_returns_probabilities(digits, same_curve):
    """The defaults fit skorch's own: a module that returns probabilities trains as with its default criterion."""
    ours, curve = fit(NeuralNetClassifier, *digits, module=Probabilities, criterion=nn.SparseCategoricalCrossentropy)
    builtin, expected = fit(NeuralNetClassifier, *digits, module=Probabilities)
    same_curve(curve, expected)
    np.testing.assert_allclose(ours.predict_proba(digits[0]).sum(axis=1), 1.0, rtol=1e-5)
    assert ours.score(*digits) == builtin.score(*digits) > 0.8


def test_logits_stay_logits(digits):
    """Without predict_nonlinearity, predict_proba shows the logits, and predict is right all the same."""
    net, _ = fit(NeuralNetClassifier, *digits, module=Logits, criterion=nn.SparseCategoricalCrossentropy(from_logits=True))
    assert net.predict_proba(digits[0]).min() < 0
    assert net.score(*digits) > 0.8


def test_a_binary_classifier(tumours, same_curve):
    """NeuralNetBinaryClassifier trains as with its default, nn.BCEWithLogitsLoss, with pos_weight."""
    x, y = tumours[0], tumours[1][:, 0].astype(np.int64)
    options = {"module": Logits, "module__width": 1, "module__features": 30}
    pos_weight = torch.tensor(0.5)
    ours, curve = fit(
        NeuralNetBinaryClassifier,
        x,
        y,
        criterion=nn.BinaryCrossentropy,
        criterion__from_logits=True,
        criterion__pos_weight=pos_weight,
        predict_nonlinearity=_two_columns,
        **options,
    )
    builtin, expected = fit(NeuralNetBinaryClassifier, x, y.astype(np.float32), criterion__pos_weight=pos_weight, **options)
    same_curve(curve, expected)
    np.testing.assert_allclose(ours.predict_proba(x), builtin.predict_proba(x), rtol=1e-4, atol=1e-6)
    assert ours.score(x, y) == builtin.score(x, y) > 0.95


def _two_columns(logits):
    positive = torch.sigmoid(logits)
    return torch.stack((1 - positive, positive), dim=-1)


@pytest.mark.parametrize("given", ["class", "object"])
def test_a_regressor(diabetes, same_curve, given):
    """NeuralNetRegressor trains to the curve of nn.MSELoss, given the class or an object of it."""
    options = {"module": Logits, "module__width": 1, "module__features": 10}
    criterion = nn.MeanSquaredError if given == "class" else nn.MeanSquaredError()
    ours, curve = fit(NeuralNetRegressor, *diabetes, lr=0.05, criterion=criterion, **options)
    builtin, expected = fit(NeuralNetRegressor, *diabetes, lr=0.05, criterion=torch.nn.MSELoss, **options)
    same_curve(curve, expected)
    assert ours.score(*diabetes) == pytest.approx(builtin.score(*diabetes), rel=1e-4)


def test_clone_and_pickle(diabetes):
    """A net is cloned and pickled with its criterion, also that of a loss of your own."""
    options = {"module": Logits, "module__width": 1, "module__features": 10}
    for given in (
        {"criterion": nn.Huber, "criterion__delta": 0.5},
        {"criterion": Charbonnier, "criterion__scale": 0.1},
        {"criterion": nn.criterion(charbonnier)(scale=0.1)},
    ):
        net, curve = fit(NeuralNetRegressor, *diabetes, lr=0.05, **given, **options)
        torch.manual_seed(0)
        assert with_curve(clone(net).fit(*diabetes))[1] == curve
        again = pickle.loads(pickle.dumps(net))
        assert repr(again.criterion_) == repr(net.criterion_)
        np.testing.assert_array_equal(again.predict(diabetes[0]), net.predict(diabetes[0]))


def test_grid_search(diabetes):
    """GridSearchCV searches over criterion__delta, and finds what it finds with nn.HuberLoss."""
    found = []
    for criterion in (nn.Huber, torch.nn.HuberLoss):
        torch.manual_seed(0)
        net = NeuralNetRegressor(
            Logits, criterion=criterion, module__width=1, module__features=10, max_epochs=3, lr=0.05, verbose=0, train_split=None
        )
        search = GridSearchCV(net, {"criterion__delta": [0.01, 0.1, 1.0]}, cv=2, scoring="neg_mean_squared_error")
        found.append(search.fit(*diabetes))
    ours, builtin = found
    assert ours.best_params_ == builtin.best_params_
    assert ours.best_estimator_.criterion_.delta == ours.best_params_["criterion__delta"]
    np.testing.assert_allclose(ours.cv_results_["mean_test_score"], builtin.cv_results_["mean_test_score"], rtol=1e-4)
    assert len(set(ours.cv_results_["mean_test_score"])) == 3
