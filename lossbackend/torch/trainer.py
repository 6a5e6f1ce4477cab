"""A loss for the Trainer of Hugging Face transformers."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lossbackend.losses.objects import Loss
from lossbackend.torch.nn import Criterion, criterion


def hf_loss(loss: Any, *, shift: bool = False, **options: Any) -> "TrainerLoss":
    """What ``transformers.Trainer(compute_loss_func=...)`` takes, made of a loss.

    ``loss`` is a loss function or class, with ``options`` for its criterion (see ``lossbackend.torch.nn``), or a loss object or a criterion, which
    has its options; TypeError for anything else. A model hands over logits: a function or a class that can take logits is told that it gets them.
    The class axis is the last one, and class ids of -100 are not counted. shift: the prediction at each place is that of the next label, as a causal
    language model needs it.

    >>> import lossbackend, torch
    >>> compute_loss = hf_loss(lossbackend.sparse_categorical_crossentropy, label_smoothing=0.1)
    >>> compute_loss({"logits": torch.zeros(1, 2, 4)}, torch.tensor([[3, -100]]), num_items_in_batch=torch.tensor(2))
    tensor(0.6931)
    """
    if isinstance(loss, (Criterion, Loss)):
        if options:
            raise TypeError(f"hf_loss: {loss!r} has its options; got {', '.join(options)} beside it")
        made = copy.copy(criterion(loss))
    else:
        cls = criterion(loss)
        if "from_logits" in cls.__signature__.parameters:
            options = {"from_logits": True, **options}
        made = cls(**options)
    if made.axis is None and not made.elementwise:
        made.axis = -1
    return TrainerLoss(made, shift)


@dataclass(frozen=True)
class TrainerLoss:
    """A criterion, called as the Trainer calls a loss: ``(outputs, labels, num_items_in_batch=None)``.

    ``outputs`` hold the logits under that name, as the first of a tuple, or are them. With ``num_items_in_batch``, the number of labels of all
    batches of a step, the sum of the losses is divided by it, so that gradient accumulation gives the gradient of the whole; without, it is the mean.
    """

    criterion: Criterion
    shift: bool = False

    def __call__(self, outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        """The loss, a scalar."""
        if labels is None:
            raise ValueError(f"hf_loss: {self.criterion!r} needs labels, and the inputs of the model had none")
        logits = outputs["logits"] if isinstance(outputs, Mapping) else outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        labels = labels.to(logits.device)
        if self.shift:
            logits, labels = logits[..., :-1, :], labels[..., 1:]
        # The Trainer moves the model and its inputs, and knows nothing of weights that a loss may have: they follow, as the criterion's own.
        reduced = copy.copy(self.criterion.to(logits.device))
        reduced.reduction = "mean" if num_items_in_batch is None else "sum"
        loss = reduced(logits, labels)
        if num_items_in_batch is None:
            return loss
        # The Trainer counts every number in the labels, of which one sample of class probabilities has as many as classes.
        per_sample = 1 if reduced.axis is None or reduced.definition.sparse else labels.shape[reduced.axis]
        # Where all labels are ignored, 0/0 is 0.
        items = num_items_in_batch.clamp(min=1) if hasattr(num_items_in_batch, "clamp") else max(num_items_in_batch, 1)
        return loss * per_sample / items
