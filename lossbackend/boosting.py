"""Any loss as the objective of XGBoost and LightGBM: its gradient and its diagonal Hessian. Imports neither of them."""

import functools
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from lossbackend import checking, dispatch, transforms
from lossbackend.columns import Array, Bound, aligned, bind, numbers
from lossbackend.definition import evaluate
from lossbackend.ops import Ops, Tensor

# What a booster adds up are logits, or logarithms of rates, never probabilities.
_RAW = ("from_logits", "log_input")

# A sample whose own Newton step is longer than this has no curvature to speak of: a straight line, or what is left of an exponential.
_LONGEST_STEP = 1e4
# Near 0 a residual says nothing of the scale of the labels, which a part of the mean loss does.
_SMALLEST_PART = 0.1

_CHOICES = ("auto", "exact", "gauss_newton")


def objective(loss: Any, *, hessian: str | float = "auto", loss_weight: float = 1.0, backend: str | None = None, **options: Any) -> "Objective":
    """The objective of a loss, for ``XGBRegressor(objective=...)``, ``xgb.train(obj=...)``, ``LGBMRegressor(objective=...)`` and LightGBM's
    ``params={"objective": ...}``; their classifiers too.

    loss: a name, a loss function, class or object, your own too. The sum over the samples is what is descended, so the reduction of an object says
    nothing here. ``options`` are those of the loss. The scores of a booster are no probabilities: ``from_logits`` (``log_input``) is True for every
    loss that has it, unless it is among the ``options``.

    hessian: the second derivative of each sample's loss by each of its scores, by which a booster divides.

    * "auto": the exact one, and that of Gauss and Newton where the exact one is negative, 0 or next to nothing (less than 1/10000 of the slope), so
      that no step could be taken: mean_absolute_error, huber beyond δ, log_cosh far out, hinge. With r = √loss for the residual it is 2 r'², slope² /
      (2 · loss), which has the scale of the labels; no loss counts as less than a tenth of the mean, because r' has no bound near 0.
    * "exact": whatever it is.
    * "gauss_newton": that of Gauss and Newton wherever it is the larger one. Steps are shorter and safer for a loss that grows like a line, such as
      log_cosh, far from the labels.
    * a positive number: the exact one, but at least that. 1.0 is what LightGBM takes for l1 and huber.

    loss_weight: what the loss is multiplied by. Both libraries descend half of the squared error: ``objective("mse", loss_weight=0.5)`` is theirs.
    backend: who differentiates, "torch", "jax" or "tensorflow"; None for the selected backend, or else one that is imported, or else installed.

    Labels are one number per sample, class ids where there are classes, never one-hot; scores are (N,) or, for K classes or outputs, (N, K).
    Gradient and Hessian, in float64, are shaped like the scores, and multiplied by the samples' weights. Raises ValueError for an unknown name or
    choice, a loss whose samples interact, labels that are not finite, ids out of range; TypeError for what is no loss; ImportError where no framework
    that differentiates is installed.

    >>> import numpy as np
    >>> objective("mse")
    objective(mean_squared_error)
    >>> gradient, hessian = objective("mse")(np.array([1.0, 2.0]), np.array([4.0, 2.0]))
    >>> gradient.tolist(), hessian.tolist()
    ([6.0, 0.0], [2.0, 2.0])
    """
    bound = bind(loss, options)
    name = bound.definition.name
    raw = {option: True for option in _RAW if option in bound.definition.options and option not in options}
    if raw:
        bound = bound._replace(options=tuple(sorted({**dict(bound.options), **raw}.items())))
    if bound.definition.interacting:
        raise ValueError(f"{name}: the samples of this loss interact, and a booster takes one gradient and one second derivative per sample")
    if hessian not in _CHOICES and not _is_positive(hessian):
        raise ValueError(f"{name}: hessian must be one of {', '.join(map(repr, _CHOICES))} or a positive number, got {hessian!r}")
    if not _is_positive(loss_weight):
        raise ValueError(f"{name}: loss_weight must be a positive number, got {loss_weight!r}")
    if backend is not None and not dispatch.get_backend(backend).differentiable:
        raise ValueError(f"{name}: {backend} has no gradients: choose torch, jax or tensorflow")
    hessian = hessian if isinstance(hessian, str) else float(hessian)
    return Objective(bound, hessian, float(loss_weight), None if backend is None else dispatch.canonical(backend))


def _is_positive(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < math.inf


@dataclass(frozen=True, repr=False)
class Objective:
    """What ``objective`` returns: equal by value, hashable, picklable."""

    bound: Bound
    hessian: str | float
    loss_weight: float
    backend: str | None

    @property
    def __name__(self) -> str:
        return self.bound.definition.name

    def __repr__(self) -> str:
        others = {"hessian": "auto", "loss_weight": 1.0, "backend": None}
        given = dict(self.bound.options) | {name: getattr(self, name) for name, default in others.items() if getattr(self, name) != default}
        return f"objective({', '.join([self.__name__, *(f'{name}={value!r}' for name, value in given.items())])})"

    # Three parameters, the last of that name: LightGBM counts them, XGBoost looks for the name.
    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Array, Array]:
        """(gradient, Hessian) of labels and scores, or of scores and a DMatrix or Dataset, as each of the libraries calls it."""
        if hasattr(y_pred, "get_label"):
            y_true, y_pred, sample_weight = y_pred.get_label(), y_true, y_pred.get_weight()
        scores = numbers(self.__name__, "y_pred", y_pred).astype(np.float64)
        labels = numbers(self.__name__, "y_true", y_true)
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            where = int(np.flatnonzero(~np.isfinite(labels.ravel()))[0])
            raise ValueError(f"{self.__name__}: y_true holds {labels.ravel()[where]} at index {where}: a label has to be a finite number")
        true, pred = aligned(self.bound.definition, labels, scores)
        self._look_at_labels(true)
        losses, gradient, exact = self._derivatives(true, pred)
        factor = np.full(len(scores), self.loss_weight)
        if sample_weight is not None and np.size(sample_weight) > 0:
            weights = numbers(self.__name__, "sample_weight", sample_weight)
            if weights.size != len(scores):
                raise ValueError(f"{self.__name__}: sample_weight must hold one number for each of {len(scores)} samples, got shape {weights.shape}")
            factor = factor * weights.reshape(-1)
        factor = factor.reshape(-1, *(1,) * (scores.ndim - 1))
        gradient, curvature = gradient.reshape(scores.shape), self._curvature(losses, gradient, exact).reshape(scores.shape)
        return factor * gradient, factor * curvature

    def _look_at_labels(self, labels: Array) -> None:
        """ValueError for labels that the loss cannot mean: 2 of yes and no, a negative count."""
        definition = self.bound.definition
        if not definition.sparse:
            given = {"y_true": np.asarray(labels, np.float64)}
            checking.look(dispatch.adapter("numpy"), self.__name__, definition.kinds, given, self.bound.complete(), 1, None)

    def _curvature(self, losses: Array, gradient: Array, exact: Array) -> Array:
        if self.hessian == "exact":
            return exact
        if not isinstance(self.hessian, str):
            return np.maximum(exact, self.hessian)
        squares = np.maximum(losses, _SMALLEST_PART * losses.mean())[:, np.newaxis]
        # A loss below 0 is no square of anything.
        gauss_newton: Array = np.divide(np.square(gradient), 2 * squares, out=np.zeros_like(gradient), where=squares > 0)
        if self.hessian == "gauss_newton":
            return np.maximum(exact, gauss_newton)
        return np.where(exact * _LONGEST_STEP >= np.abs(gradient), exact, np.where(gauss_newton > 0, gauss_newton, 1.0))

    def _derivatives(self, y_true: Array, y_pred: Array) -> tuple[Array, Array, Array]:
        """The losses, their slopes and their curvatures."""
        ops = self._ops()
        with ops.double_precision():
            options = tuple(self.bound.complete().items())
            true, pred = ops.asarray(y_true), ops.asarray(y_pred)
            # Not inside a compiler, where no value can be looked at.
            losses = evaluate(self.bound.definition, true, pred, dict(options)).values
            step: Callable[..., Any] = functools.partial(_derivatives, ops, self.bound, options)
            if ops.name == "jax":
                # Op by op, JAX takes longer to differentiate than to compile. (An option of a user's own may not be hashable.)
                with suppress(TypeError):
                    step = _compiled(ops.name, self.bound, options)
            gradient, exact = step(true, pred)
            losses, gradient, exact = (np.asarray(ops.to_numpy(tensor)) for tensor in (losses, gradient, exact))
        return losses, gradient, exact

    def _ops(self) -> Ops:
        name = self.backend or self.bound.pinned or dispatch.selected()[0]
        ops = dispatch.adapter(name)
        return ops if ops.differentiable else transforms.lender(self.__name__)


def _derivatives(ops: Ops, bound: Bound, options: tuple[tuple[str, Any], ...], y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
    return ops.grad_and_curvature(lambda pred: evaluate(bound.definition, y_true, pred, dict(options)).values, y_pred)


@functools.lru_cache(maxsize=64)
def _compiled(backend: str, bound: Bound, options: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    ops = dispatch.adapter(backend)
    return ops.compile(functools.partial(_derivatives, ops, bound, options))
