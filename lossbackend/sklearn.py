"""Any loss as a metric and as a scorer of scikit-learn.

>>> from sklearn.linear_model import Ridge
>>> from sklearn.model_selection import cross_val_score
>>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 2.0, 3.0]
>>> cross_val_score(Ridge(alpha=1e-6), X, y, scoring=scorer("huber"), cv=2).round(3) + 0.0
array([0., 0.])
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.metrics._scorer import _Scorer

from lossbackend import dispatch, registry
from lossbackend.checking import DistributionOrLogits, Probability, ProbabilityOrLogit, Sign, checked, kind_of
from lossbackend.columns import Array, Bound, aligned, bind, has_classes, numbers
from lossbackend.definition import evaluate
from lossbackend.losses.objects import Loss

__all__ = ["Metric", "metric", "scorer"]

_PROBABILITIES = (kind_of(ProbabilityOrLogit), kind_of(DistributionOrLogits))
_YES_OR_NO = (kind_of(Probability), kind_of(Sign))


def metric(loss: Any, *, labels: Any = None, **options: Any) -> "Metric":
    """A loss as ``metric(y_true, y_pred, sample_weight=None) -> float``, like those of ``sklearn.metrics``: Σ w · loss / Σ w.

    loss: a name, a loss function, class or object, your own too; ``options`` are those of the loss. An object that sums keeps its sum; one that
    reduces nothing is a ValueError.
    labels: the classes in the order of y_pred's columns, ``estimator.classes_``. Without them numbers are class ids where they can be (0 and 1, or
    0 … C − 1), and anything else, such as strings, is one of the sorted classes of y_true, as in ``sklearn.metrics.log_loss``; ValueError where
    these are not as many as y_pred's columns.

    y_true and y_pred are arrays, lists, tensors, or columns of pandas and polars. N numbers are N samples. Labels of classes need not be one-hot; of
    two classes, y_pred may be the probability or score of the second alone, (N,), or both, (N, 2).

    >>> metric("mse")([0.0, 1.0], [1.0, 3.0])
    2.5
    >>> round(metric("binary_crossentropy")(["no", "yes"], [[0.9, 0.1], [0.2, 0.8]]), 4)
    0.1643
    """
    if isinstance(labels, str):
        # What y_true holds, an option of hinge.
        options, labels = {**options, "labels": labels}, None
    loss = registry.get(loss)
    bound = bind(loss, options)
    reduction = loss.reduction if isinstance(loss, Loss) else "mean"
    if reduction in (None, "none"):
        raise ValueError(f"{bound.definition.name}: {loss!r} reduces nothing, and a metric is one number: choose another reduction")
    return Metric(bound, None if labels is None else tuple(np.asarray(labels).tolist()), "sum" if reduction == "sum" else "mean_with_sample_weight")


def scorer(loss: Any, *, response_method: Any = None, labels: Any = None, **options: Any) -> Any:
    """A loss as a scorer of ``cross_val_score``, ``GridSearchCV`` and their kin, as ``sklearn.metrics.make_scorer`` makes them: minus the ``metric``.

    response_method: what the loss is computed of; None for what it asks for: ``predict_proba`` for a loss of probabilities, ``decision_function``
    for logits (from_logits=True) and margins, ``predict`` for all others. Probabilities for logits, or the other way round, are a ValueError.
    labels: the classes; None for those of the estimator, of which a fold may lack one.

    >>> scorer("sparse_categorical_crossentropy")
    make_scorer(sparse_categorical_crossentropy, greater_is_better=False, response_method='predict_proba')
    """
    function = metric(loss, labels=labels, **options)
    wanted = _response_method(function.bound)
    for method in [response_method] if isinstance(response_method, str) else response_method or ():
        if {method, wanted} == {"predict_proba", "decision_function"} and "from_logits" in function.bound.definition.options:
            raise ValueError(
                f"{function.__name__}: response_method {method!r} with from_logits={wanted == 'decision_function'}: this loss asks for {wanted}"
            )
    return Scorer(function, -1, {}, response_method or wanted)


class Scorer(_Scorer):
    """scikit-learn's own scorer, which tells the metric the classes of the estimator as well, and is equal by value."""

    def _score(self, method_caller: Any, estimator: Any, X: Any, y_true: Any, **metadata: Any) -> Any:
        classes = getattr(estimator, "classes_", None)
        if isinstance(classes, np.ndarray) and self._score_func.takes_classes:
            metadata = {"labels": classes, **metadata}
        return super()._score(method_caller, estimator, X, y_true, **metadata)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scorer) and self._state() == other._state()

    def __hash__(self) -> int:
        return hash(self._score_func)

    def _state(self) -> Any:
        return self._score_func, self._response_method, getattr(self, "_metadata_request", None)


def _response_method(bound: Bound) -> str:
    definition = bound.definition
    if definition.kinds["y_pred"] in _PROBABILITIES or definition.sparse:
        return "decision_function" if bound.complete().get("from_logits") else "predict_proba"
    margin = definition.kinds["y_true"] is kind_of(Sign) or has_classes(definition)
    return "decision_function" if margin else "predict"


@dataclass(frozen=True, repr=False)
class Metric:
    """What ``metric`` returns: equal by value, hashable, picklable."""

    bound: Bound
    labels: tuple[Any, ...] | None
    reduction: str

    @property
    def __name__(self) -> str:
        return self.bound.definition.name

    def __repr__(self) -> str:
        given = dict(self.bound.options) | ({} if self.labels is None else {"labels": list(self.labels)})
        return f"metric({', '.join([self.__name__, *(f'{name}={value!r}' for name, value in given.items())])})"

    @property
    def takes_classes(self) -> bool:
        """Whether y_true holds classes, and has not been told which."""
        return self.labels is None and (has_classes(self.bound.definition) or self.bound.definition.kinds["y_true"] in _YES_OR_NO)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None, *, labels: Any = None) -> float:
        """The loss, a Python float. ``labels`` are those of ``metric``."""
        if labels is not None:
            return replace(self, labels=tuple(np.asarray(labels).tolist()))(y_true, y_pred, sample_weight)
        if hasattr(y_true, "fit"):
            raise TypeError(f"{self.__name__}: a metric is called with (y_true, y_pred); as scoring= take lossbackend.sklearn.scorer")
        definition, options = self.bound.definition, self.bound.complete()
        # scikit-learn's own metrics are computed in float64 too.
        pred = numbers(self.__name__, "y_pred", y_pred).astype(np.float64)
        true, pred = aligned(definition, *self._as_numbers(y_true, pred, options))
        with checked():
            # A number that is wrong by its meaning, of logits taken for probabilities, looks like any other score.
            losses = evaluate(definition, true, pred, options, sample_weight, pinned=self.bound.pinned)
        return float(losses.ops.to_numpy(losses.reduced(self.reduction)))

    def _as_numbers(self, y_true: Any, y_pred: Array, options: dict[str, Any]) -> tuple[Array, Array]:
        """Labels as numbers, and predictions with as many columns as the definition wants of two classes."""
        definition = self.bound.definition
        classes, yes_or_no = has_classes(definition), definition.kinds["y_true"] in _YES_OR_NO
        labels = np.asarray(y_true) if dispatch.framework(y_true) is None else numbers(self.__name__, "y_true", y_true)
        column = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
        if not column or not (classes or yes_or_no or self.labels is not None):
            return numbers(self.__name__, "y_true", y_true), y_pred
        if classes and (y_pred.ndim == 1 or y_pred.shape[1:] == (1,)):
            second = y_pred.reshape(-1)
            if _response_method(self.bound) == "decision_function":
                # Their difference is the score, and no maximum with 0, which categorical_hinge takes, changes it.
                y_pred = np.column_stack([np.maximum(-second, 0), np.maximum(second, 0)])
            else:
                y_pred = np.column_stack([1 - second, second])
        elif yes_or_no and y_pred.ndim == 2 and y_pred.shape[1] == 2:
            y_pred = y_pred[:, 1] - y_pred[:, 0] if _response_method(self.bound) == "decision_function" else y_pred[:, 1]
        ids = self._ids(labels.reshape(-1), y_pred.shape[1] if classes else 2, options)
        return ids, y_pred

    def _ids(self, labels: Array, classes: int, options: dict[str, Any]) -> Array:
        """The labels as class ids, ±1 for a margin, or as they are where they can be meant so."""
        kind = self.bound.definition.kinds["y_true"]
        signs = kind is kind_of(Sign)
        ignored = [options[option] for option in self.bound.definition.ignored_classes if options[option] is not None]
        if self.labels is None and labels.dtype.kind in "biuf":
            if signs:
                meant = np.isin(labels, (-1, 0, 1))
            elif kind is kind_of(Probability):
                meant = (labels >= 0) & (labels <= 1)
            else:
                meant = np.isin(labels, (*range(classes), *ignored))
            if meant.all() or not np.isfinite(labels).all():
                return labels
        try:
            found, inverse = np.unique(labels, return_inverse=True)
        except TypeError as error:
            raise ValueError(f"{self.__name__}: y_true holds labels that do not sort, missing ones perhaps: {error}") from error
        known = [label for label in found.tolist() if label not in ignored] if self.labels is None else list(self.labels)
        unknown = [label for label in found.tolist() if label not in (*known, *ignored)]
        if unknown:
            raise ValueError(f"{self.__name__}: {unknown[0]!r} is none of the labels {known}")
        if len(known) != classes:
            advice = "pass labels=estimator.classes_, the classes in the order of y_pred's columns"
            if len(known) > classes == 2 and not has_classes(self.bound.definition):
                advice = "this loss takes two classes, so use one of several"
            raise ValueError(f"{self.__name__}: there are {len(known)} labels, {known}, for {classes} classes in y_pred: {advice}")
        ids = np.array([known.index(label) if label in known else label for label in found.tolist()])[inverse]
        return 2 * ids - 1 if signs else ids
