"""The losses for tf_keras, the Keras 2 that TensorFlow came with: ``tf_keras.losses.Loss`` classes of every loss, and its functions.

The same as ``lossbackend.keras``, for the other Keras; ``tf.keras`` is it where ``TF_USE_LEGACY_KERAS=1`` is set.

>>> import tf_keras, lossbackend.tf_keras
>>> model = tf_keras.Sequential([tf_keras.layers.Dense(1)])
>>> model.compile(loss=lossbackend.tf_keras.Huber(delta=2.0), optimizer="sgd")
"""

from typing import TYPE_CHECKING, Any

import tf_keras

from lossbackend import keras_losses

if TYPE_CHECKING:
    from lossbackend.losses import *  # noqa: F403


class Adapted(keras_losses.Adapter, tf_keras.losses.Loss):
    """The base of the classes here: a ``tf_keras.losses.Loss`` that leaves everything to its ``.loss``, the object of this library.

    Called with ``(y_true, y_pred, sample_weight=None)``, as Keras does. The constructor takes the arguments of the class in ``lossbackend``. An entry
    with weight 0, or masked by a ``Masking`` or ``Embedding`` layer, is taken out before the loss is computed. "mean", "mean_with_sample_weight" and
    None are reductions too, though not of tf_keras: to it the first two are "sum_over_batch_size". A subclass that writes its own ``call`` is reduced
    by tf_keras. Raises what the class in ``lossbackend`` raises.
    """

    keras = tf_keras

    def __init__(self, *args: Any, **options: Any) -> None:
        self.loss = self.wrapped(*args, **options)
        # What tf_keras asks it for is whether to divide the loss among replicas.
        reduction = {"sum": "sum", "none": "none", None: "none"}.get(self.loss.reduction, "sum_over_batch_size")
        super().__init__(reduction=reduction, name=keras_losses.named(self.loss))

    def _shared(self, value: Any) -> Any:
        # Inside a strategy, but outside fit(), tf_keras refuses a mean here.
        self._get_reduction()
        return value


def as_loss(loss: Any, **options: Any) -> Any:
    """The ``tf_keras.losses.Loss`` of a loss of your own (or of this library), with these options, ``reduction`` and ``name``.

    loss: a function made by ``@lossbackend.loss``, a subclass of ``lossbackend.Loss``, or an object of one, whose options are kept. TypeError for
    anything else. Saved and loaded like ``lossbackend.keras.as_loss``.

    >>> import lossbackend
    >>> @lossbackend.loss
    ... def charbonnier(ops, y_true, y_pred, scale=1e-3):
    ...     return ops.mean(ops.sqrt(ops.square(y_pred - y_true) + scale**2), axis=-1)
    >>> float(as_loss(charbonnier, scale=4.0, reduction="sum")([[0.0], [0.0]], [[3.0], [3.0]]))
    10.0
    """
    return keras_losses.as_loss(Adapted, loss, options)


_table = keras_losses.namespace(Adapted)
_names = keras_losses.Names(tf_keras, _table, as_loss)


def install() -> None:
    """Let the names of this library, in every historical spelling, mean its losses wherever tf_keras looks one up.

    What ``lossbackend.keras.install`` does in Keras 3. tf_keras, too, looks a loss up when the model first computes it: a model that was compiled
    with a name before, and neither trained nor evaluated since, uses this library's loss.

    >>> install()
    >>> tf_keras.losses.get("cosine_proximity").__module__
    'lossbackend.losses.regression'
    >>> uninstall()
    """
    _names.install()


def uninstall() -> None:
    """Take ``install`` back: tf_keras has the look-up that it had before. Without one before it, does nothing."""
    _names.uninstall()


if not TYPE_CHECKING:
    globals().update(_table)
    Loss = Adapted
    get = _names.get
    deserialize = _names.deserialize

__all__ = sorted([*_table, "Loss", "as_loss", "deserialize", "get", "install", "uninstall"])
