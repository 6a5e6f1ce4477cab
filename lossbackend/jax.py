"""The losses for JAX code: every name of ``lossbackend.losses``, and ``to_categorical``, pinned to JAX, and ``optax_style``.

NumPy arrays, numbers and lists become JAX arrays; a tensor of another framework is a TypeError.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from lossbackend import definition, dispatch
from lossbackend.losses import objects
from lossbackend.transforms import definition_of

if TYPE_CHECKING:
    from lossbackend.losses import *  # noqa: F403
    from lossbackend.utils import to_categorical as to_categorical
else:
    from lossbackend.registry import pinned

    globals().update(pinned("jax"))
    __all__ = sorted([*__all__, "optax_style"])  # noqa: F405

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class OptaxStyle:
    """What ``optax_style`` returns: equal for equal losses, hashable, a pytree without leaves."""

    loss: Any

    def __post_init__(self) -> None:
        definition_of("optax_style", self.loss)

    def __repr__(self) -> str:
        return f"optax_style({self.loss!r})" if isinstance(self.loss, objects.Loss) else f"optax_style({self.__name__})"

    @property
    def __name__(self) -> str:
        return definition_of("optax_style", self.loss).name

    @overload
    def __call__(self, predictions: T, targets: Any, **options: Any) -> T: ...
    @overload
    def __call__(self, *, logits: T, labels: Any, **options: Any) -> T: ...
    def __call__(self, predictions: Any = None, targets: Any = None, **options: Any) -> Any:
        """The loss of predictions and targets; optax calls them ``logits`` and ``labels`` where it takes logits."""
        predictions = options.pop("logits", None) if predictions is None else predictions
        # An option may be called labels, too.
        targets = options.pop("labels", None) if targets is None else targets
        known = definition_of("optax_style", self.loss)
        if predictions is None or targets is None:
            missing, given = "predictions are" if predictions is None else "targets are", ", ".join(options) or "nothing"
            raise TypeError(f"{self!r}: {missing} missing: it takes (predictions, targets), or logits= and labels=; beside them came {given}")
        ops, like = dispatch.resolve(known.name, {"predictions": predictions, "targets": targets, **options}, "jax")
        if known.elementwise and not isinstance(self.loss, objects.Loss) and "axis" not in options:
            predictions = definition.predictions(ops, known.name, predictions, like)
            targets = targets if ops.is_tensor(targets) else definition.neutral_array(known.name, "y_true", targets)
            # An option with a number for each entry of the last axis needs that axis. A loss that takes an axis can leave it where it is.
            axis = 0 if "axis" in known.options else -1
            if targets.shape == predictions.shape and (axis == 0 or not any(map(np.ndim, options.values()))):
                targets, predictions = (ops.expand_dims(ops.asarray(x), axis) for x in (targets, predictions))
                options = {**options, "axis": 0} if axis == 0 else options
        return self.loss(targets, predictions, **options)


def optax_style(loss: Any) -> OptaxStyle:
    """A loss as optax has them: a pure function of (predictions, targets), in that order, that reduces nothing and leaves ``.mean()`` to you.

    Of a loss function, one of your own too, comes what optax returns: one loss per entry, of the shape of ``predictions``, where the loss of a sample
    is the mean over its entries (huber, log_cosh, binary_crossentropy ...), and one per sample, the last axis gone, where it is not (the categorical
    cross-entropies, cosine_similarity, kl_divergence). Either way the mean of all is the mean of ``loss(y_true, y_pred)``. Options are keywords. An
    ``axis`` makes the result one loss per sample, and so does an option with a number per entry, unless the loss takes an ``axis``. A loss object
    keeps its own reduction, and takes ``sample_weight`` and ``mask``. optax's keywords ``logits`` and ``labels`` are understood.

    It works under jit, grad, vmap and all of JAX's transforms; equal losses give equal, hashable functions, so that one is a static argument, or any
    other. Raises TypeError for what is no loss function or loss object, and what the loss raises.

    >>> import jax
    >>> import lossbackend as lb
    >>> huber_loss = optax_style(lb.huber)
    >>> huber_loss(jax.numpy.array([[0.5, 3.0]]), jax.numpy.zeros((1, 2)), delta=1.0)
    Array([[0.125, 2.5  ]], dtype=float32)
    >>> optax_style(lb.scce)(logits=jax.numpy.zeros((1, 2)), labels=jax.numpy.array([1]), from_logits=True)
    Array([0.6931472], dtype=float32)
    """
    return OptaxStyle(loss)


objects.register_static(OptaxStyle)
# Of classes whose objects were made before JAX was imported it has not been told.
_classes: list[type[Any]] = [objects.Loss]
for _cls in _classes:
    objects.register_static(_cls)
    _classes.extend(_cls.__subclasses__())
