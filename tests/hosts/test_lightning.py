"""Criteria in Lightning."""

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader, TensorDataset

import lossbackend.torch as lt
from lossbackend.torch import nn

pytestmark = [
    pytest.mark.host("Lightning", "lightning", "`lossbackend.torch.nn.Huber()` in a `LightningModule`"),
    # The data is in memory, and the last batch of an epoch small: there is nothing to tell.
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    # Lightning's own use of torch.
    pytest.mark.filterwarnings("ignore:`isinstance\\(treespec, LeafSpec\\)` is deprecated"),
]

WEIGHT = torch.linspace(0.5, 1.5, 10)


class Classifier(lightning.LightningModule):
    def __init__(self, criterion):
        super().__init__()
        torch.manual_seed(0)
        self.model = torch.nn.Linear(64, 10)
        self.criterion = criterion

    def training_step(self, batch, index):
        x, y = batch
        loss = self.criterion(self.model(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, index):
        x, y = batch
        logits = self.model(x)
        self.log("val_loss", self.criterion(logits, y))
        self.log("val_acc", (logits.argmax(dim=1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)


class Curve(Callback):
    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.losses.append(float(trainer.callback_metrics["train_loss"]))


def quiet(folder, **options):
    """A Trainer that writes and says nothing."""
    return lightning.Trainer(
        max_epochs=8,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )


def fit(criterion, digits, folder, **options):
    """(the loss of every step, the metrics of the last validation, the module)"""
    x, y = map(torch.from_numpy, digits)
    train, held_out = TensorDataset(x[:1500], y[:1500]), TensorDataset(x[1500:], y[1500:])
    module, curve = Classifier(criterion), Curve()
    trainer = quiet(folder, callbacks=[curve], **options)
    trainer.fit(module, DataLoader(train, batch_size=250), DataLoader(held_out, batch_size=500))
    return curve.losses, {name: float(value) for name, value in trainer.callback_metrics.items()}, module, trainer


def test_trains_as_with_the_builtin(digits, same_curve, tmp_path):
    """Trains to the curve, the validation loss and the accuracy of nn.CrossEntropyLoss, with self.log."""
    curves, metrics = [], []
    for criterion in (nn.SparseCategoricalCrossentropy(WEIGHT, from_logits=True), torch.nn.CrossEntropyLoss(WEIGHT)):
        losses, last, *_ = fit(criterion, digits, tmp_path)
        curves.append(losses)
        metrics.append(last)
    same_curve(*curves)
    assert metrics[0]["val_loss"] == pytest.approx(metrics[1]["val_loss"], rel=1e-5)
    assert metrics[0]["val_acc"] == metrics[1]["val_acc"] > 0.8


def test_mixed_precision(digits, same_curve, tmp_path):
    """Trains with precision="bf16-mixed" as nn.CrossEntropyLoss does."""
    criteria = nn.SparseCategoricalCrossentropy(from_logits=True), torch.nn.CrossEntropyLoss()
    same_curve(*(fit(criterion, digits, tmp_path, precision="bf16-mixed")[0] for criterion in criteria))


def test_checkpoints(digits, tmp_path):
    """A checkpoint holds the weights of the criterion, and its hyperparameters the criterion."""
    *_, module, trainer = fit(nn.SparseCategoricalCrossentropy(WEIGHT, from_logits=True), digits, tmp_path)
    trainer.save_checkpoint(tmp_path / "digits.ckpt")
    fresh = nn.SparseCategoricalCrossentropy(torch.ones(10), from_logits=True)
    loaded = Classifier.load_from_checkpoint(tmp_path / "digits.ckpt", criterion=fresh)
    torch.testing.assert_close(loaded.criterion.weight, WEIGHT)
    x, y = torch.from_numpy(digits[0]), torch.from_numpy(digits[1])
    with torch.no_grad():
        torch.testing.assert_close(loaded.criterion(loaded.model(x), y), module.criterion(module.model(x), y))


def test_a_loss_function(digits, same_curve, tmp_path):
    """A plain loss function trains with .mean(), which self.log needs."""

    def entropy(logits, labels):
        return lt.sparse_categorical_crossentropy(labels, logits, from_logits=True).mean()

    same_curve(fit(entropy, digits, tmp_path)[0], fit(torch.nn.CrossEntropyLoss(), digits, tmp_path)[0])
