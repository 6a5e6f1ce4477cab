"""The losses for Keras 3, on its PyTorch, JAX and TensorFlow backends: ``keras.losses.Loss`` classes of every loss, and its functions.

Importing it registers the losses with ``keras.saving``, so that models compiled with them are saved and loaded.

>>> import keras, lossbackend.keras
>>> model = keras.Sequential([keras.layers.Dense(1)])
>>> model.compile(loss=lossbackend.keras.Huber(delta=2.0), optimizer="sgd")
"""

from typing import TYPE_CHECKING, Any

import keras

from lossbackend import dispatch, keras_losses

if TYPE_CHECKING:
    from lossbackend.losses import *  # noqa: F403


class Adapted(keras_losses.Adapter, keras.losses.Loss):
    """The base of the classes here: a ``keras.losses.Loss`` that leaves everything to its ``.loss``, the object of this library.

    Called with ``(y_true, y_pred, sample_weight=None)``, as Keras does. The constructor takes the arguments of the class in ``lossbackend``, and
    Keras' ``dtype``, which y_pred is cast to first. An entry with weight 0, or masked by a ``Masking`` or ``Embedding`` layer, is taken out before
    the loss is computed. ``reduction`` is one of Keras' or "auto"; class ids stay integers. A subclass that writes its own ``call`` is reduced by
    Keras. Raises what the class in ``lossbackend`` raises.
    """

    keras = keras

    def __init__(self, *args: Any, dtype: Any = None, **options: Any) -> None:
        self.loss = self.wrapped(*args, **options)
        reduction = "sum_over_batch_size" if self.loss.reduction == "auto" else self.loss.reduction
        super().__init__(name=keras_losses.named(self.loss), reduction=reduction, dtype=dtype)
        self._given_dtype = None if dtype is None else keras.dtype_policies.get(dtype).name

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument, as plain Python objects."""
        return {**super().get_config(), "dtype": self._given_dtype}

    def _mask(self, y_pred: Any) -> Any:
        # An array of JAX has no attributes: Keras keeps its mask elsewhere.
        return keras.src.backend.get_keras_mask(y_pred)

    def _tensor(self, value: Any) -> Any:
        return value if dispatch.framework(value) is None else keras.ops.convert_to_tensor(value)

    def _predictions(self, y_pred: Any) -> Any:
        return keras.ops.convert_to_tensor(y_pred, dtype=self.dtype)

    def _shared(self, value: Any) -> Any:
        return keras.src.losses.loss.scale_loss_for_distribution(value)


def as_loss(loss: Any, **options: Any) -> Any:
    """The ``keras.losses.Loss`` of a loss of your own (or of this library), with these options, ``reduction``, ``name`` and ``dtype``.

    loss: a function made by ``@lossbackend.loss``, a subclass of ``lossbackend.Loss``, or an object of one, whose options are kept. TypeError for
    anything else.

    A model compiled with it is saved as usual. It is loaded where ``as_loss`` was called with the same function or class before, with whatever
    options: that registers it with Keras, as ``Custom>`` and the class' name, which is the function's in capitals (``Custom>MyLoss`` for
    ``my_loss``).

    >>> import lossbackend
    >>> @lossbackend.loss
    ... def charbonnier(ops, y_true, y_pred, scale=1e-3):
    ...     return ops.mean(ops.sqrt(ops.square(y_pred - y_true) + scale**2), axis=-1)
    >>> float(as_loss(charbonnier, scale=4.0, reduction="sum")([[0.0], [0.0]], [[3.0], [3.0]]))
    10.0
    """
    return keras_losses.as_loss(Adapted, loss, options)


_table = keras_losses.namespace(Adapted)
_names = keras_losses.Names(keras, _table, as_loss)


def install() -> None:
    """Let the names of this library, in every historical spelling, mean its losses wherever Keras 3 looks one up.

    From then on:

    * ``model.compile(loss="mse")``, also in lists and dicts, is ``lossbackend.keras.MeanSquaredError()``, and so for every name;
    * ``compile`` makes a Keras ``Loss`` of functions, classes and objects of ``lossbackend`` too, so that weights and masks reach their reduction;
    * ``keras.losses.get`` and ``keras.losses.deserialize`` return the function of a name, and an object of a class' name;
    * a saved model that was compiled with a name is loaded with this library's loss.

    Objects of Keras' own classes, and their configs, stay Keras'.

    Keras looks a loss up when the model first computes it, not in ``compile``. So a model that was compiled with a name before, and neither trained
    nor evaluated since, uses this library's loss; one that was keeps the loss that it has, until it is compiled again. Names that are not this
    library's, ``metrics=["mse"]`` and the attributes of ``keras.losses`` (``keras.losses.mean_squared_error``) stay Keras'. A second call does
    nothing.

    >>> install()
    >>> keras.losses.get("cosine_proximity").__module__
    'lossbackend.losses.regression'
    >>> uninstall()
    """
    _names.install()


def uninstall() -> None:
    """Take ``install`` back: Keras has the look-up that it had before. Without one before it, does nothing."""
    _names.uninstall()


if not TYPE_CHECKING:
    globals().update(_table)
    Loss = Adapted
    get = _names.get
    deserialize = _names.deserialize

__all__ = sorted([*_table, "Loss", "as_loss", "deserialize", "get", "install", "uninstall"])
