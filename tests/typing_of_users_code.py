"""What a type checker tells a user: checked by mypy --strict in ``nox -s types``, never run."""

from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import lossbackend as lb
import lossbackend.jax as lj
import lossbackend.torch as lt
from lossbackend import losses

Array = npt.NDArray[np.float32]


@lb.loss
def charbonnier(ops: Any, y_true: Any, y_pred: Any, *, scale: float = 1e-3) -> Any:
    return ops.mean(ops.sqrt(ops.square(y_pred - y_true) + scale**2), axis=-1)


def user(y: Array, p: Array) -> None:
    # The result has y_pred's type, and every option its own.
    assert_type(lb.huber(y, p, delta=2.0), Array)
    assert_type(lb.huber_loss(y, p, 2.0), Array)
    assert_type(losses.mse(y_true=y, y_pred=p), Array)
    assert_type(lt.categorical_crossentropy(y, p, True, 0.1, axis=1, class_weight={0: 2.0}), Array)
    assert_type(charbonnier(y, p, scale=1.0), Array)
    assert_type(lb.Huber(delta=2.0, reduction="sum")(y, p, sample_weight=y), Array)
    assert_type(lb.Huber(2.0).delta, float)
    assert_type(lj.optax_style(lb.huber)(p, y, delta=2.0), Array)
    assert_type(lj.optax_style(charbonnier)(logits=p, labels=y), Array)
    # A mistake is one before the program runs.
    lb.huber(y, p, delta="2")  # type: ignore[arg-type]
    lb.huber(y)  # type: ignore[call-arg]
    lb.mse(y, p, delta=1.0)  # type: ignore[call-arg]
    lb.Huber(alpha=2.0)  # type: ignore[call-arg]
    lb.hubber(y, p)  # type: ignore[attr-defined]
    losses.Hubber()  # type: ignore[attr-defined]
