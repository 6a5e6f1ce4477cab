"""Losses in the Trainer of Hugging Face transformers."""

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainingArguments,
)
from transformers.utils import logging

import lossbackend as lb
from lossbackend.torch import hf_loss, nn

pytestmark = pytest.mark.host(
    "Hugging Face Trainer", "transformers", "`Trainer(..., compute_loss_func=lossbackend.torch.hf_loss(lossbackend.sparse_categorical_crossentropy))`"
)

TINY = {"vocab_size": 17, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 64}
DROPLESS = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.3}


@pytest.fixture(autouse=True)
def quiet():
    """No bars and no advice."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    yield
    logging.set_verbosity(before)


@pytest.fixture(scope="module")
def tokens(digits):
    """Digits as rows of 64 tokens, of which the number of ink levels is 17."""
    images, labels = digits
    return torch.from_numpy((images * 16).astype(np.int64)), torch.from_numpy(labels)


def fit(folder, model, rows, compute_loss=None, batch=16, **options):
    """(the loss of every step, the loss of the evaluation)"""
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=64,
        max_steps=10,
        learning_rate=1e-2,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
        **options,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows[:64], compute_loss_func=compute_loss)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], trainer.evaluate()["eval_loss"]


def classifier(kind=BertForSequenceClassification, labels=10):
    torch.manual_seed(0)
    return kind(BertConfig(**TINY, **DROPLESS, num_labels=labels))


def test_sequences_train_as_with_the_models_own_loss(tokens, same_curve, tmp_path):
    """A sequence classifier trains to the curve of the model's own loss, and two halves of a batch are the batch."""
    rows = [{"input_ids": ids, "labels": label} for ids, label in zip(*tokens, strict=True)]
    builtin = fit(tmp_path, classifier(), rows, batch=32)
    for compute_loss in (hf_loss(lb.sparse_categorical_crossentropy), hf_loss(lb.SparseCategoricalCrossentropy(from_logits=True))):
        for batch, accumulate in ((32, 1), (16, 2)):
            ours = fit(tmp_path, classifier(), rows, compute_loss, batch=batch, gradient_accumulation_steps=accumulate)
            same_curve(ours[0], builtin[0])
            assert ours[1] == pytest.approx(builtin[1], rel=1e-5)


def ink(tokens):
    """Rows whose label at each place says whether the next pixel has more ink; places without ink have none."""
    rows = []
    for ids in tokens[0][:256]:
        labels = (ids.roll(-1) > ids).long()
        rows.append({"input_ids": ids, "labels": torch.where(ids > 0, labels, -100)})
    return rows


def test_tokens_train_as_with_the_models_own_loss(tokens, same_curve, tmp_path):
    """A token classifier trains to the curve of the model's own loss: -100 is not counted, and each token of an accumulated step counts alike."""

    def own(outputs, labels, num_items_in_batch=None):
        return F.cross_entropy(outputs.logits.view(-1, 2), labels.view(-1), reduction="sum") / num_items_in_batch

    rows = ink(tokens)
    builtin = fit(tmp_path, classifier(BertForTokenClassification, 2), rows, own, gradient_accumulation_steps=2)
    compute_loss = hf_loss(nn.SparseCategoricalCrossentropy(from_logits=True))
    ours = fit(tmp_path, classifier(BertForTokenClassification, 2), rows, compute_loss, gradient_accumulation_steps=2)
    same_curve(ours[0], builtin[0])
    assert ours[1] == pytest.approx(builtin[1], rel=1e-5)


def test_a_causal_language_model_trains_as_with_its_own_loss(tokens, same_curve, tmp_path):
    """A causal language model trains to the curve of its own loss, with shift=True."""

    def model():
        torch.manual_seed(0)
        dropless = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        return GPT2LMHeadModel(GPT2Config(vocab_size=17, n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0, **dropless))

    rows = [{"input_ids": ids, "labels": torch.where(ids > 0, ids, -100)} for ids in tokens[0][:128]]
    half = {"gradient_accumulation_steps": 2}
    ours, builtin = fit(tmp_path, model(), rows, hf_loss(lb.scce, shift=True), **half), fit(tmp_path, model(), rows, **half)
    same_curve(ours[0], builtin[0])
    assert ours[1] == pytest.approx(builtin[1], rel=1e-5)


def test_labels_of_other_kinds_train_as_with_the_models_own_loss(tokens, same_curve, tmp_path):
    """Regressions, labels of several classes at once and class probabilities train as with the model's own loss or torch's."""
    ink = tokens[0].float().mean(dim=1) / 4 - 1
    several = torch.stack((ink > 0, tokens[1] > 4, tokens[1] % 2 == 0), dim=1).float()
    soft = F.one_hot(tokens[1], 10) * 0.8 + 0.02

    def entropy(outputs, labels, num_items_in_batch=None):
        return F.cross_entropy(outputs.logits, labels)

    for labels, width, compute_loss, own in (
        (ink, 1, hf_loss(lb.mean_squared_error), None),
        (several, 3, hf_loss(lb.binary_crossentropy), None),
        (soft, 10, hf_loss(lb.categorical_crossentropy), entropy),
    ):
        rows = [{"input_ids": ids, "labels": label} for ids, label in zip(tokens[0], labels, strict=True)]
        ours, builtin = fit(tmp_path, classifier(labels=width), rows, compute_loss), fit(tmp_path, classifier(labels=width), rows, own)
        same_curve(ours[0], builtin[0])
        assert ours[1] == pytest.approx(builtin[1], rel=1e-5)


def test_what_a_model_may_return():
    """Logits are found in a dict, in a tuple and alone; the sum is divided by a tensor, a number, or what the mean counts."""
    logits, labels = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [5.0, 0.0]]]), torch.tensor([[0, 0, -100]])
    each = F.cross_entropy(logits[0], labels[0], reduction="none")
    compute_loss = pickle.loads(pickle.dumps(hf_loss(lb.SparseCategoricalCrossentropy(from_logits=True))))
    for outputs in ({"logits": logits}, (logits, None), logits):
        torch.testing.assert_close(compute_loss(outputs, labels), each.sum() / 2)
        for count in (8, torch.tensor(8)):
            torch.testing.assert_close(compute_loss(outputs, labels, num_items_in_batch=count), each.sum() / 8)
    weighted = hf_loss(nn.SparseCategoricalCrossentropy([1.0, 3.0]), shift=True)
    assert repr(weighted).startswith("TrainerLoss(criterion=SparseCategoricalCrossentropy(weight=(2,)")
    assert hf_loss(lb.Huber, delta=3.0).criterion.delta == 3.0
    assert hf_loss(nn.BinaryCrossentropy).criterion.from_logits is True
    assert hf_loss(nn.BinaryCrossentropy, from_logits=False).criterion.from_logits is False
    assert compute_loss.criterion.reduction == "mean"


def test_the_criterion_that_is_given_stays_as_it_is():
    """A criterion that is handed over keeps its axis and its reduction."""
    criterion = nn.SparseCategoricalCrossentropy(torch.ones(2))
    hf_loss(criterion)(torch.full((1, 3, 2), 0.5), torch.tensor([[0, 1, 1]]), torch.tensor(3))
    assert (criterion.axis, criterion.reduction) == (None, "mean")


def test_mistakes_have_clear_errors():
    """Options beside a criterion, no labels, and what is no loss are errors that say so."""
    with pytest.raises(TypeError, match=r"hf_loss: Huber.* has its options; got delta beside it"):
        hf_loss(nn.Huber(), delta=2.0)
    with pytest.raises(ValueError, match=r"hf_loss: Huber.* needs labels"):
        hf_loss(nn.Huber())({"logits": torch.zeros(1)}, None)
    with pytest.raises(TypeError, match="a criterion needs a loss function"):
        hf_loss(torch.nn.CrossEntropyLoss())
