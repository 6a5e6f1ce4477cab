"""Criteria in PyTorch, beside those of torch.nn."""

import ast
import copy
import dataclasses
import doctest
import inspect
import io
import math
import multiprocessing
import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode

import lossbackend as lb
import lossbackend.torch as lt
from lossbackend import registry
from lossbackend.torch import nn, trainer

pytestmark = pytest.mark.host("PyTorch", "torch", "`lossbackend.torch.nn.Huber()(input, target)`, or `lossbackend.torch.huber(target, input)`")

REDUCTIONS = ("mean", "sum", "none")
CLASSES = sorted(registry.classes())


@lb.loss
def charbonnier(ops, y_true, y_pred, *, scale=1e-3):
    return ops.mean(ops.sqrt(ops.square(y_pred - y_true) + scale**2), axis=-1)


@lb.loss
def worst_error(ops, y_true, y_pred):
    return ops.max(ops.abs(y_pred - y_true), axis=-1)


@lb.loss
def length(ops, y_true, y_pred, axis=0):
    return ops.sqrt(ops.sum(ops.square(y_pred - y_true), axis=axis))


@dataclasses.dataclass(frozen=True)
class Charbonnier(lb.Loss):
    function = staticmethod(charbonnier)
    scale: float = 4.0


@dataclasses.dataclass(frozen=True)
class UnweightedEntropy(lb.Loss):
    function = lb.sparse_categorical_crossentropy
    from_logits: bool = True


class CharbonnierCriterion(nn.Criterion):
    loss = charbonnier


def randn(*shape, seed=0, **options):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), **options)


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 0.98 + 0.01


def ids(*shape, classes, seed=0):
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))


def same(ours, builtin, input, target, **tolerance):
    """The same value and the same gradient."""
    pair = [input.detach().clone().requires_grad_() for _ in range(2)]
    values = [criterion(own, target) for criterion, own in zip((ours, builtin), pair, strict=True)]
    torch.testing.assert_close(*values, **tolerance)
    weights = randn(*values[0].shape, seed=9)
    slopes = [torch.autograd.grad(value, own, weights.to(value.dtype))[0] for value, own in zip(values, pair, strict=True)]
    torch.testing.assert_close(*slopes, **tolerance)


def train(criterion, x, y, width, epochs=3, learning_rate=0.1, batch=128):
    """The loss of every step, and the model."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(x.shape[1], 16), torch.nn.Tanh(), torch.nn.Linear(16, width))
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)
    curve = []
    for _ in range(epochs):
        for part, label in zip(x.split(batch), y.split(batch), strict=True):
            optimizer.zero_grad()
            loss = criterion(model(part), label)
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
    return curve, model


def test_digits_train_as_with_cross_entropy(digits, same_curve):
    """Trains a classifier to the curve and the accuracy of nn.CrossEntropyLoss."""
    x, y = map(torch.from_numpy, digits)
    options = {"weight": torch.linspace(0.5, 1.5, 10), "label_smoothing": 0.1}
    for given in ({}, options):
        ours, model = train(nn.SparseCategoricalCrossentropy(from_logits=True, **given), x, y, 10)
        builtin, twin = train(torch.nn.CrossEntropyLoss(**given), x, y, 10)
        same_curve(ours, builtin)
        accuracy, expected = (float((net(x).argmax(dim=1) == y).float().mean()) for net in (model, twin))
        assert accuracy == expected > 0.8


@pytest.mark.parametrize(("ours", "builtin"), [("MeanSquaredError", "MSELoss"), ("MeanAbsoluteError", "L1Loss"), ("Huber", "HuberLoss")])
def test_a_regression_trains_as_with_the_builtin(diabetes, same_curve, ours, builtin):
    """Trains a regression to the curves of nn.MSELoss, nn.L1Loss and nn.HuberLoss."""
    x, y = map(torch.from_numpy, diabetes)
    curves = [train(criterion, x, y, 1, learning_rate=0.02)[0] for criterion in (getattr(nn, ours)(), getattr(torch.nn, builtin)())]
    same_curve(*curves)


def test_yes_or_no_trains_as_with_bce(tumours, same_curve):
    """Trains a binary classifier to the curve of nn.BCEWithLogitsLoss with pos_weight."""
    x, y = map(torch.from_numpy, tumours)
    pos_weight = torch.tensor([0.6])
    ours, model = train(nn.BinaryCrossentropy(from_logits=True, pos_weight=pos_weight), x, y, 1, epochs=10)
    builtin, _ = train(torch.nn.BCEWithLogitsLoss(pos_weight=pos_weight), x, y, 1, epochs=10)
    same_curve(ours, builtin)
    assert ((model(x) > 0) == y.bool()).float().mean() > 0.95


def test_a_loss_function_trains_without_a_criterion(digits, same_curve):
    """Trains with a plain loss function, the labels first, and .mean()."""
    x, y = map(torch.from_numpy, digits)
    ours, _ = train(lambda input, target: lt.sparse_categorical_crossentropy(target, input, from_logits=True).mean(), x, y, 10)
    same_curve(ours, train(torch.nn.CrossEntropyLoss(), x, y, 10)[0])


SHAPES = [((6, 5), (6,)), ((2, 5, 3), (2, 3)), ((2, 5, 3, 4), (2, 3, 4)), ((5,), ())]
ENTROPY = [
    {},
    {"weight": torch.tensor([0.5, 1.0, 2.0, 0.25, 3.0])},
    {"ignore_index": 2},
    {"label_smoothing": 0.2},
    {"weight": torch.tensor([0.5, 1.0, 2.0, 0.25, 3.0]), "label_smoothing": 0.2, "ignore_index": 1},
]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("options", ENTROPY, ids=lambda options: "-".join(options) or "plain")
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_class_ids_are_those_of_cross_entropy(shapes, options, reduction):
    """SparseCategoricalCrossentropy is nn.CrossEntropyLoss in every option, reduction and shape, with its gradient."""
    input, target = randn(*shapes[0]), ids(*shapes[1], classes=5)
    if target.dim() and not options.get("ignore_index"):
        target.view(-1)[1] = -100
    if not target.dim():
        target.fill_(3)
    ours = nn.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction, **options)
    same(ours, torch.nn.CrossEntropyLoss(reduction=reduction, **options), input, target)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("options", [ENTROPY[0], ENTROPY[1], ENTROPY[3], {**ENTROPY[1], **ENTROPY[3]}], ids=lambda options: "-".join(options))
@pytest.mark.parametrize("shape", [(6, 5), (2, 5, 3, 4), (5,)], ids=str)
def test_class_probabilities_are_those_of_cross_entropy(shape, options, reduction):
    """CategoricalCrossentropy is nn.CrossEntropyLoss of class probabilities, whose mean divides by the batch alone."""
    input, target = randn(*shape), randn(*shape, seed=1).softmax(dim=min(1, len(shape) - 1))
    ours = nn.CategoricalCrossentropy(from_logits=True, reduction=reduction, **options)
    same(ours, torch.nn.CrossEntropyLoss(reduction=reduction, **options), input, target)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(6, 5), (2, 5, 3, 4)], ids=str)
def test_probabilities_are_those_of_nll(shape, reduction):
    """SparseCategoricalCrossentropy of probabilities is nn.NLLLoss of their logarithm."""
    input, target = randn(*shape).softmax(dim=1), ids(shape[0], *shape[2:], classes=5)
    ours, builtin = nn.SparseCategoricalCrossentropy(reduction=reduction), torch.nn.NLLLoss(reduction=reduction)
    torch.testing.assert_close(ours(input, target), builtin(input.log(), target))


WEIGHTS = [
    {},
    {"weight": torch.rand(4, generator=torch.Generator().manual_seed(3))},
    {"weight": torch.tensor([[0.5], [0.0], [2.0]])},
    {"pos_weight": torch.tensor(3.0)},
    {"pos_weight": torch.tensor([0.5, 1.0, 2.0, 4.0])},
    {"pos_weight": torch.tensor([0.5, 1.0, 2.0, 4.0]), "weight": torch.tensor([[0.5], [1.0], [2.0]])},
]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("options", WEIGHTS, ids=lambda options: "-".join(options) or "plain")
def test_yes_or_no_is_bce(options, reduction):
    """BinaryCrossentropy is nn.BCEWithLogitsLoss and nn.BCELoss, with weight and pos_weight that broadcast."""
    input, target = randn(3, 4), uniform(3, 4, seed=1)
    same(
        nn.BinaryCrossentropy(from_logits=True, reduction=reduction, **options),
        torch.nn.BCEWithLogitsLoss(reduction=reduction, **options),
        input,
        target,
    )
    if "pos_weight" not in options:
        same(nn.BinaryCrossentropy(reduction=reduction, **options), torch.nn.BCELoss(reduction=reduction, **options), input.sigmoid(), target)


def test_pos_weight_of_an_image():
    """A pos_weight of (C, 1, 1) weighs the channels of images, as in nn.BCEWithLogitsLoss."""
    pos_weight = torch.tensor([0.5, 2.0]).view(2, 1, 1)
    ours = nn.BinaryCrossentropy(from_logits=True, pos_weight=pos_weight, reduction="none")
    same(ours, torch.nn.BCEWithLogitsLoss(pos_weight=pos_weight, reduction="none"), randn(3, 2, 4, 5), uniform(3, 2, 4, 5, seed=1).round())


def elementwise(name, input, target):
    """(criterion of torch, the input that it takes)."""
    log_cosh = lambda input, target: torch.log(torch.cosh(input - target))  # noqa: E731
    return {
        "MeanSquaredError": torch.nn.MSELoss(reduction="none"),
        "MeanAbsoluteError": torch.nn.L1Loss(reduction="none"),
        "Huber": torch.nn.HuberLoss(reduction="none"),
        "Poisson": torch.nn.PoissonNLLLoss(log_input=False, eps=1e-7, reduction="none"),
        "LogCosh": log_cosh,
        "MeanAbsolutePercentageError": lambda input, target: 100 * (input - target).abs() / target.abs(),
        "MeanSquaredLogarithmicError": lambda input, target: (torch.log1p(input) - torch.log1p(target)) ** 2,
        "Hinge": lambda input, target: torch.relu(1 - target * input),
        "SquaredHinge": lambda input, target: torch.relu(1 - target * input) ** 2,
    }[name]


@pytest.mark.parametrize("shape", [(), (6,), (6, 1), (3, 4), (2, 3, 4)], ids=str)
@pytest.mark.parametrize(
    "name",
    [
        "MeanSquaredError",
        "MeanAbsoluteError",
        "Huber",
        "Poisson",
        "LogCosh",
        "MeanAbsolutePercentageError",
        "MeanSquaredLogarithmicError",
        "Hinge",
        "SquaredHinge",
    ],
)
def test_elementwise_losses_reduce_over_all_elements(name, shape):
    """Elementwise losses have the input's shape, and reduce over all elements, as nn.MSELoss and its kin do."""
    input, target = uniform(*shape) * 3, uniform(*shape, seed=1)
    each = elementwise(name, input, target)
    for reduction in REDUCTIONS:
        reduce = {"none": lambda values: values, "sum": torch.sum, "mean": torch.mean}[reduction]
        same(getattr(nn, name)(reduction=reduction), lambda input, target, reduce=reduce: reduce(each(input, target)), input, target)
    assert getattr(nn, name)(reduction="none")(input, target).shape == shape


def test_options_of_elementwise_losses():
    """delta is that of nn.HuberLoss, log_input that of nn.PoissonNLLLoss."""
    input, target = randn(3, 4), uniform(3, 4, seed=1)
    same(nn.Huber(delta=0.3), torch.nn.HuberLoss(delta=0.3), input, target)
    same(nn.Poisson(log_input=True), torch.nn.PoissonNLLLoss(log_input=True), input, target)
    smoothed = nn.BinaryCrossentropy(from_logits=True, label_smoothing=0.2)
    same(smoothed, lambda input, target: F.binary_cross_entropy_with_logits(input, target * 0.8 + 0.1), input, target)


def test_divergence_is_batchmean():
    """KLDivergence sums over the classes: its mean is the batchmean of nn.KLDivLoss, with its gradient."""
    input, target = randn(6, 5), randn(6, 5, seed=1).softmax(dim=1)
    builtin = torch.nn.KLDivLoss(reduction="batchmean")
    same(nn.KLDivergence(from_logits=True), lambda input, target: builtin(input.log_softmax(dim=1), target), input, target)
    total = torch.nn.KLDivLoss(reduction="sum")
    same(nn.KLDivergence(reduction="sum"), lambda input, target: total(input.log(), target), input.softmax(dim=1), target)
    # The classes of an image are along axis 1.
    input, target = (randn(2, 5, 3, 4, seed=seed).softmax(dim=1) for seed in (0, 1))
    each = torch.nn.KLDivLoss(reduction="none")
    same(nn.KLDivergence(reduction="none"), lambda input, target: each(input.log(), target).sum(dim=1), input, target)


def test_vectors_lie_along_axis_1():
    """CosineSimilarity is minus nn.CosineSimilarity, and CategoricalHinge its formula, along torch's class axis."""
    for shape in ((6, 5), (2, 5, 3, 4)):
        input, target = randn(*shape), randn(*shape, seed=1)
        same(nn.CosineSimilarity(reduction="none"), lambda input, target: -torch.nn.CosineSimilarity()(input, target), input, target)
        one_hot = F.one_hot(input.argsort(dim=1)[:, 2], 5).movedim(-1, 1).float()

        def hinge(input, target):
            return torch.relu(1 + ((1 - target) * input).amax(dim=1) - (target * input).sum(dim=1)).sum()

        same(nn.CategoricalHinge(reduction="sum"), hinge, input, one_hot)
    same(nn.CosineSimilarity(axis=-1), lambda input, target: -F.cosine_similarity(input, target, dim=-1).mean(), input, target)


def test_an_axis_of_an_elementwise_loss():
    """With an axis an elementwise loss takes the mean along it, as in Keras."""
    input, target = randn(2, 3, 4), randn(2, 3, 4, seed=1)
    for axis in (1, -1):
        torch.testing.assert_close(nn.MeanSquaredError(axis=axis, reduction="none")(input, target), ((input - target) ** 2).mean(dim=axis))
    weighted = nn.BinaryCrossentropy(torch.tensor([1.0, 2.0, 3.0, 4.0]), from_logits=True, axis=1, reduction="none")
    each = F.binary_cross_entropy_with_logits(input, target.sigmoid(), reduction="none").mean(dim=1)
    torch.testing.assert_close(weighted(input, target.sigmoid()), each * torch.tensor([1.0, 2.0, 3.0, 4.0]))


def test_large_input():
    """Hundreds of thousands of elements, which are computed in blocks, give what nn.BCEWithLogitsLoss and nn.MSELoss give."""
    input, target = randn(5000, 64), uniform(5000, 64, seed=1)
    pos_weight = torch.linspace(0.5, 2.0, 64)
    same(nn.MeanSquaredError(), torch.nn.MSELoss(), input, target)
    for weights in (pos_weight, pos_weight[:1]):
        ours = nn.BinaryCrossentropy(from_logits=True, pos_weight=weights)
        same(ours, torch.nn.BCEWithLogitsLoss(pos_weight=weights), input, target)


def test_habits():
    """Weights by position, as lists and arrays; labels of any integer type; (N,) with (N, 1)."""
    input, target = randn(6, 3), ids(6, classes=3)
    expected = torch.nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0]))(input, target)
    for weight in ([1.0, 2.0, 3.0], np.array([1, 2, 3]), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)):
        torch.testing.assert_close(nn.SparseCategoricalCrossentropy(weight, from_logits=True)(input, target), expected)
    for dtype in (torch.int32, torch.uint8, torch.float32):
        torch.testing.assert_close(nn.SparseCategoricalCrossentropy([1.0, 2.0, 3.0], from_logits=True)(input, target.to(dtype)), expected)
    torch.testing.assert_close(nn.MeanSquaredError()(input[:, :1], input[:, 1]), torch.nn.MSELoss()(input[:, 0], input[:, 1]))
    assert nn.MeanSquaredError(reduction="none")(input[:, :1], input[:, 1]).shape == (6, 1)
    torch.testing.assert_close(
        nn.BinaryCrossentropy(from_logits=True)(input[:, 0], target % 2), F.binary_cross_entropy_with_logits(input[:, 0], (target % 2).float())
    )
    criterion = nn.Huber()
    criterion.reduction, criterion.delta = "sum", 0.5
    torch.testing.assert_close(criterion(input=input[:, 0], target=input[:, 1]), F.huber_loss(input[:, 0], input[:, 1], reduction="sum", delta=0.5))


def test_where_it_differs():
    """A batch that is ignored as a whole, or empty, has loss 0 and gradient 0, where torch's have NaN."""
    input = randn(2, 3, requires_grad=True)
    loss = nn.SparseCategoricalCrossentropy(from_logits=True)(input, torch.tensor([-100, -100]))
    loss.backward()
    assert loss.item() == 0.0
    assert input.grad.tolist() == [[0.0] * 3] * 2
    assert math.isnan(torch.nn.CrossEntropyLoss()(input, torch.tensor([-100, -100])).item())
    assert nn.MeanSquaredError()(torch.zeros(0, 3), torch.zeros(0, 3)).item() == 0.0
    # A probability of 0: torch stops at a loss of 100, this library at -log(1e-7).
    assert nn.BinaryCrossentropy()(torch.tensor([0.0]), torch.tensor([1.0])).item() == pytest.approx(-math.log(1e-7))
    assert torch.nn.BCELoss()(torch.tensor([0.0]), torch.tensor([1.0])).item() == 100.0


def test_mistakes_have_clear_errors():
    """Mistakes say which criterion, what came in and what to do."""
    with pytest.raises(ValueError, match=r"Huber: Invalid value for argument `reduction`: 'average'. Choose one of 'mean', 'sum', 'none'"):
        nn.Huber(reduction="average")
    for reduction in (None, "auto", ["mean"]):
        with pytest.raises(ValueError, match="Poisson: Invalid value for argument `reduction`"):
            nn.Poisson(reduction=reduction)
    criterion = nn.Huber()
    with pytest.raises(ValueError, match="Huber: Invalid value"):
        criterion.reduction = "batchmean"
    with pytest.raises(ValueError, match="huber: delta must be positive"):
        criterion.delta = -1.0
    with pytest.raises(TypeError, match=r"SparseCategoricalCrossentropy: got an unexpected keyword argument 'class_weight' \(options: weight, "):
        nn.SparseCategoricalCrossentropy(class_weight=[1.0, 2.0])
    with pytest.raises(TypeError, match="Huber: too many positional arguments"):
        nn.Huber(2.0)
    with pytest.raises(ValueError, match="huber: delta must be positive"):
        nn.Huber(delta=-1.0)
    with pytest.raises(TypeError, match="CosineSimilarity: axis must be an int"):
        nn.CosineSimilarity(axis=1.5)
    for cls in (nn.CosineSimilarity, nn.KLDivergence, nn.MeanSquaredError):
        with pytest.raises(ValueError, match=rf"{cls.__name__}: axis 2 is out of range for input of shape \(2, 3\)"):
            cls(axis=2)(torch.ones(2, 3), torch.ones(2, 3))
    with pytest.raises(TypeError, match="BinaryCrossentropy: weight must be a tensor or numbers, got 'mean'"):
        nn.BinaryCrossentropy("mean")
    with pytest.raises(ValueError, match=r"SparseCategoricalCrossentropy: criteria take \(input, target\), predictions first"):
        nn.SparseCategoricalCrossentropy()(torch.tensor([0, 1]), torch.ones(2, 3))
    with pytest.raises(ValueError, match="CategoricalCrossentropy: weight must be one number per class"):
        nn.CategoricalCrossentropy({0: 1.0})
    with pytest.raises(ValueError, match="not negative"):
        nn.CategoricalCrossentropy([1.0, -1.0])
    with pytest.raises(ValueError, match="finite and not negative, got -1"):
        nn.CategoricalCrossentropy(torch.tensor([1.0, -1.0]))(torch.ones(2, 2), torch.ones(2, 2))
    with pytest.raises(ValueError, match="class_weight must hold 3 numbers"):
        nn.SparseCategoricalCrossentropy([1.0, 2.0])(torch.ones(2, 3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"mean_squared_error: y_true and y_pred must have the same shape, got \(3,\) and \(2, 3\)"):
        nn.MeanSquaredError()(torch.zeros(2, 3), torch.zeros(3))
    with pytest.raises(ValueError, match=r"kl_divergence: y_true and y_pred must have the same shape, got \(3,\) and \(2, 3, 4\)"):
        nn.KLDivergence()(torch.zeros(2, 3, 4), torch.zeros(3))
    with pytest.raises(ValueError, match=r"BinaryCrossentropy: weight of shape \(5,\) does not broadcast to \(2, 3\)"):
        nn.BinaryCrossentropy(torch.ones(5))(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"BinaryCrossentropy: pos_weight of shape \(5,\) does not broadcast to \(2, 3\)"):
        nn.BinaryCrossentropy(pos_weight=torch.ones(5))(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="class ids from 0 to 2"):
        nn.SparseCategoricalCrossentropy()(torch.ones(2, 3), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="use sparse_categorical_crossentropy"):
        nn.CategoricalCrossentropy()(torch.ones(2, 3), torch.tensor([0, 2]))
    with pytest.raises(TypeError, match="Huber: target must be a torch tensor, got list"):
        nn.Huber()(torch.zeros(2), [0.0, 1.0])
    with pytest.raises(TypeError, match="Criterion has no loss"):
        nn.Criterion()
    with pytest.raises(TypeError, match="a criterion needs a loss function made by @lossbackend"):
        nn.criterion(torch.nn.MSELoss())


def test_swapped_arguments_are_noticed():
    """A target with a gradient beside an input without one is warned of, where the order matters."""
    learned, fixed = uniform(3, 4).requires_grad_(), uniform(3, 4, seed=1)
    for cls in (nn.BinaryCrossentropy, nn.KLDivergence, nn.Poisson, nn.CategoricalCrossentropy):
        with pytest.warns(UserWarning, match=f"{cls.__name__}: the target requires a gradient and the input does not; criteria take") as caught:
            cls()(fixed, learned)
        assert caught[0].filename == __file__
        cls()(learned, fixed)
        cls()(learned, uniform(3, 4, seed=2).requires_grad_())
        with torch.no_grad():
            cls()(fixed, learned)
    # As in the two losses of a vector-quantised autoencoder.
    for cls in (nn.MeanSquaredError, nn.MeanAbsoluteError, nn.Huber, nn.LogCosh, nn.CosineSimilarity):
        cls()(fixed, learned)


def test_weights_are_buffers(tmp_path):
    """Weights move with .to(), are in the state_dict, and survive pickle, deepcopy and torch.save."""
    criterion = nn.SparseCategoricalCrossentropy(torch.tensor([1.0, 2.0, 3.0]), from_logits=True)
    builtin = torch.nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0]))
    input, target = randn(4, 3), ids(4, classes=3)
    assert criterion.state_dict().keys() == builtin.state_dict().keys()
    assert dict(criterion.named_buffers()).keys() == {"weight"}
    assert nn.BinaryCrossentropy(pos_weight=2.0).state_dict() == {"pos_weight": torch.tensor(2.0)}
    assert not nn.BinaryCrossentropy().state_dict()
    assert copy.deepcopy(criterion).to(torch.float64).weight.dtype is torch.float64
    assert copy.deepcopy(criterion).to("meta").weight.is_meta
    expected = builtin(input, target)
    file = io.BytesIO()
    torch.save(criterion, file)
    file.seek(0)
    copies = (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion)), torch.load(file, weights_only=False), criterion.half())
    for twin in copies:
        torch.testing.assert_close(twin(input, target), expected)
    other = nn.SparseCategoricalCrossentropy(torch.ones(3), from_logits=True)
    other.load_state_dict(builtin.state_dict())
    torch.testing.assert_close(other(input, target), expected)
    other.weight = None
    torch.testing.assert_close(other(input, target), torch.nn.CrossEntropyLoss()(input, target))


def test_learned_weights():
    """A Parameter as pos_weight or weight is a parameter of the criterion, and gets its gradient, which torch's own do not give."""
    input, target = randn(4, 3), uniform(4, 3, seed=1)
    target /= target.sum(dim=1, keepdim=True)

    def yes_or_no(weight):
        return nn.BinaryCrossentropy(from_logits=True, pos_weight=weight)

    def one_of_many(weight):
        return nn.CategoricalCrossentropy(weight, from_logits=True)

    def bce(weight):
        return lambda input, target: -(weight * target * F.logsigmoid(input) + (1 - target) * F.logsigmoid(-input)).mean()

    def entropy(weight):
        return lambda input, target: -(weight * target * input.log_softmax(dim=1)).sum(dim=1).mean()

    for ours, builtin, weight in ((yes_or_no, bce, [2.0]), (yes_or_no, bce, [1.0, 2.0, 3.0]), (one_of_many, entropy, [1.0, 2.0, 3.0])):
        learned, twin = torch.nn.Parameter(torch.tensor(weight)), torch.tensor(weight, requires_grad=True)
        criterion = ours(learned)
        assert [parameter is learned for parameter in criterion.parameters()] == [True]
        criterion(input, target).backward()
        builtin(twin)(input, target).backward()
        torch.testing.assert_close(learned.grad, twin.grad)
        # A tensor that requires a gradient, and is no Parameter, is a buffer, as in torch.
        plain = torch.tensor(weight, requires_grad=True)
        ours(plain)(input, target).backward()
        torch.testing.assert_close(plain.grad, twin.grad)
    with pytest.raises(TypeError, match="delta is a torch tensor that is learned"):
        nn.Huber(delta=torch.nn.Parameter(torch.tensor(1.0)))


def test_repr():
    """Print shows the options."""
    assert repr(nn.Huber(delta=2.0, reduction="sum")) == "Huber(delta=2.0, reduction='sum')"
    shown = "SparseCategoricalCrossentropy(weight=(3,), from_logits=True, ignore_index=0, label_smoothing=0.0, reduction='mean')"
    assert repr(nn.SparseCategoricalCrossentropy(torch.ones(3), from_logits=True, ignore_index=0)) == shown


def sample(name):
    """(a criterion, input, target) for every class."""
    if name == "SparseCategoricalCrossentropy":
        return nn.SparseCategoricalCrossentropy([1.0, 2.0, 3.0, 4.0], from_logits=True), randn(3, 4), torch.tensor([0, -100, 3])
    options = {"from_logits": True} if "from_logits" in inspect.signature(getattr(nn, name)).parameters else {}
    options |= {"pos_weight": [1.0, 2.0, 3.0, 4.0]} if name == "BinaryCrossentropy" else {}
    return getattr(nn, name)(**options), uniform(3, 4) * 2, randn(3, 4, seed=1).softmax(dim=1)


def test_every_criterion_compiles():
    """torch.compile(fullgraph=True) takes every criterion, all in one process, with gradients."""
    torch._dynamo.reset()
    for name in CLASSES:
        criterion, input, target = sample(name)
        compiled = torch.compile(criterion, fullgraph=True, backend="eager")
        same(compiled, criterion, input, target)
    criterion, input, target = sample("BinaryCrossentropy")
    step = torch.compile(lambda input, target: criterion(input, target), fullgraph=True, backend="aot_eager", dynamic=True)
    for rows in (3, 2):
        same(step, torch.nn.BCEWithLogitsLoss(pos_weight=criterion.pos_weight), input[:rows], target[:rows])
    # A learned label, of which eager code is warned.
    learned = target.clone().requires_grad_()
    torch.testing.assert_close(step(input, learned), step(input, target))
    torch._dynamo.reset()


@pytest.mark.parametrize("name", CLASSES)
def test_export(name):
    """torch.export with strict=True and a batch of any size takes every criterion."""
    criterion, input, target = sample(name)
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(criterion, (input, target), dynamic_shapes=({0: batch}, {0: batch}), strict=True)
    repeated = torch.cat([input, input + 0.1]), torch.cat([target, target])
    torch.testing.assert_close(exported.module()(*repeated), criterion(*repeated))


@pytest.mark.parametrize("name", CLASSES)
def test_transforms(name):
    """functional_call, torch.func.grad and vmap, AOT autograd, fake and meta tensors take every criterion."""
    from functorch.compile import aot_module, nop

    criterion, input, target = sample(name)
    state = {**dict(criterion.named_parameters()), **dict(criterion.named_buffers())}
    functional = torch.func.functional_call(criterion, {key: value + 1.0 for key, value in state.items()}, (input, target))
    shifted = copy.deepcopy(criterion)
    shifted.load_state_dict({key: value + 1.0 for key, value in state.items()})
    torch.testing.assert_close(functional, shifted(input, target))

    own = input.clone().requires_grad_()
    gradient = torch.autograd.grad(criterion(own, target), own)[0]
    torch.testing.assert_close(torch.func.grad(criterion)(input, target), gradient)
    criterion.reduction = "none"
    torch.testing.assert_close(torch.func.vmap(criterion)(input, target), criterion(input, target))
    criterion.reduction = "mean"

    ahead = aot_module(criterion, fw_compiler=nop, bw_compiler=nop)
    torch.testing.assert_close(torch.autograd.grad(ahead(own, target), own)[0], gradient)
    assert copy.deepcopy(criterion).to("meta")(input.to("meta"), target.to("meta")).is_meta
    fake = copy.deepcopy(criterion)
    with FakeTensorMode() as mode:
        for key, value in state.items():
            setattr(fake, key, mode.from_tensor(value))
        assert fake(mode.from_tensor(input), mode.from_tensor(target)).shape == ()


@pytest.mark.parametrize("name", ["SparseCategoricalCrossentropy", "BinaryCrossentropy", "MeanSquaredError", "Poisson"])
def test_second_derivatives(name):
    """Second derivatives are those of finite differences."""
    criterion, input, target = sample(name)
    criterion = criterion.double()
    target = target.double() if target.is_floating_point() else target
    assert torch.autograd.gradgradcheck(lambda input: criterion(input, target), (input.double().requires_grad_(),))


def test_half_precision(digits, same_curve):
    """Under autocast, with a gradient scaler, half precision gives a loss of float32, and trains as nn.CrossEntropyLoss does."""
    criterion = nn.SparseCategoricalCrossentropy([1.0, 2.0, 3.0, 4.0], from_logits=True)
    for dtype in (torch.bfloat16, torch.float16):
        input = randn(3, 4).to(dtype).requires_grad_()
        loss = criterion(input, torch.tensor([0, 1, 3]))
        loss.backward()
        assert (loss.dtype, input.grad.dtype) == (torch.float32, dtype)
    x, y = map(torch.from_numpy, digits)
    curves = []
    for criterion in (nn.SparseCategoricalCrossentropy(from_logits=True), torch.nn.CrossEntropyLoss()):
        torch.manual_seed(0)
        model, scaler = torch.nn.Linear(64, 10), torch.amp.GradScaler("cpu", init_scale=256.0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        curves.append([])
        for part, label in zip(x.split(256), y.split(256), strict=True):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = criterion(model(part), label)
            assert loss.dtype is torch.float32
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            curves[-1].append(loss.item())
    same_curve(*curves)


def in_another_process(criterion):
    return criterion(torch.tensor([[3.0, 0.0]]), torch.zeros(1, 2)).item(), repr(criterion)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_other_processes():
    """Criteria, those of your own losses too, are pickled into other processes."""
    criteria = [nn.Huber(delta=0.5), nn.criterion(charbonnier)(scale=4.0), nn.criterion(Charbonnier()), CharbonnierCriterion(scale=4.0)]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        found = list(pool.map(in_another_process, criteria))
    assert found[0] == (pytest.approx(0.6875), "Huber(delta=0.5, reduction='mean')")
    assert [value for value, _ in found[1:]] == [4.5, 4.5, 4.5]


def test_replicas():
    """What DataParallel does to a criterion leaves it as it was: forward changes no state."""
    criterion, input, target = sample("BinaryCrossentropy")
    before = copy.copy(criterion.__dict__)
    replica = criterion._replicate_for_data_parallel()
    torch.testing.assert_close(replica(input, target), criterion(input, target))
    with ThreadPoolExecutor(2) as pool:
        assert len(set(pool.map(lambda _: criterion(input, target).item(), range(20)))) == 1
    assert criterion.__dict__ == before


def test_a_loss_of_your_own():
    """A user's own loss, elementwise or not, has the same conventions, as a subclass or by criterion()."""
    input, target = torch.tensor([[3.0, 0.0], [0.0, 0.0]]), torch.zeros(2, 2)
    each = torch.tensor([[5.0, 4.0], [4.0, 4.0]])
    made = nn.criterion(charbonnier)
    assert issubclass(made, nn.Criterion)
    assert made is nn.criterion(charbonnier)
    assert repr(made(scale=4.0)) == "Charbonnier(scale=4.0, reduction='mean')"
    for criterion in (
        made(scale=4.0, reduction="none"),
        CharbonnierCriterion(scale=4.0, reduction="none"),
        nn.criterion(Charbonnier)(reduction="none"),
    ):
        torch.testing.assert_close(criterion(input, target), each)
    torch.testing.assert_close(nn.criterion(Charbonnier(reduction="sum"))(input, target), each.mean(dim=-1).sum())
    torch.testing.assert_close(nn.criterion(worst_error)(reduction="none")(input, target), torch.tensor([3.0, 0.0]))
    # An axis that the loss has for its own stays its own.
    for options, expected in (({}, [3.0, 4.0]), ({"axis": 1}, [5.0, 0.0])):
        found = nn.criterion(length)(reduction="none", **options)(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), target)
        torch.testing.assert_close(found, torch.tensor(expected))
    torch.testing.assert_close(copy.deepcopy(made(scale=4.0))(input, target), each.mean())
    for loss in (lb.huber, lt.huber, lb.Huber, lt.Huber):
        assert nn.criterion(loss) is nn.Huber
    cross = nn.criterion(lb.SparseCategoricalCrossentropy(from_logits=True, ignore_class=1, class_weight=(1.0, 2.0, 3.0), reduction=None))
    assert (cross.from_logits, cross.ignore_index, cross.weight.tolist(), cross.reduction, cross.axis) == (True, 1, [1.0, 2.0, 3.0], "none", -1)
    assert nn.criterion(lb.CosineSimilarity(axis=0)).axis == 0
    # A class that has some of the options of its function has no others.
    assert list(inspect.signature(nn.criterion(UnweightedEntropy)).parameters) == ["from_logits", "axis", "reduction"]
    logits = randn(3, 4)
    torch.testing.assert_close(nn.criterion(UnweightedEntropy())(logits, torch.tensor([0, 1, 3])), F.cross_entropy(logits, torch.tensor([0, 1, 3])))
    assert nn.criterion(lb.SparseCategoricalCrossentropy()).ignore_index == -100


def test_every_loss_has_a_criterion():
    """Every loss class of the library has its criterion, with all of its options, and editors see the same."""
    tree = ast.parse(inspect.getsource(nn))
    stubs = {node.name: node.body[0].args for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name != "Criterion"}
    assert list(stubs) == list(registry.classes())
    assert set(nn.__all__) == {"Criterion", "criterion", *stubs}
    for name, loss in registry.classes().items():
        cls, written = getattr(nn, name), stubs[name]
        assert (cls.__name__, cls.__module__, cls.loss) == (name, "lossbackend.torch.nn", loss)
        defaults = {
            argument.arg: ast.literal_eval(default)
            for arguments, values in ((written.args[1:], written.defaults), (written.kwonlyargs, written.kw_defaults))
            for argument, default in zip(arguments, values, strict=True)
        }
        assert defaults == {key: parameter.default for key, parameter in inspect.signature(cls).parameters.items()}
        torch_names = {"class_weight": "weight", "ignore_class": "ignore_index"}
        options = {torch_names.get(field.name, field.name) for field in dataclasses.fields(loss)}
        assert options - {"name"} <= set(defaults)


def test_checking_mode_does_not_change_what_a_loss_is():
    """A criterion made where suspicious values are errors is the same criterion."""
    with lb.checked():
        made = [nn.Poisson(), nn.Hinge(), nn.BinaryCrossentropy(), nn.KLDivergence()]
    assert [criterion.elementwise for criterion in made] == [True, True, True, False]


@pytest.mark.parametrize("module", [nn, trainer])
def test_examples(module):
    """The examples of the documentation in the code run."""
    failed, attempted = doctest.testmod(module)
    assert attempted
    assert not failed


def test_page(run_page):
    """The page about PyTorch runs as it is written."""
    with warnings.catch_warnings():
        run_page("hosts/pytorch")


def test_criteria_of_objects():
    """The criterion of a loss object gives the object's numbers, or says where it cannot."""
    y, p = torch.rand(5, 4), torch.rand(5, 4)
    for loss in (lb.Huber(0.3), lb.Huber(0.3, reduction="sum"), lb.Huber(0.3, reduction="none"), lb.CategoricalCrossentropy(axis=0)):
        torch.testing.assert_close(nn.criterion(loss)(p, y), loss(y, p))
    ids, weights = torch.tensor([0, 1, 2, 3, 3]), [1.0, 2.0, 5.0, 0.5]
    weighted = lb.SparseCategoricalCrossentropy(class_weight=weights, reduction="mean_with_sample_weight")
    torch.testing.assert_close(nn.criterion(weighted)(p, ids), weighted(ids, p))
    for loss in (
        lb.SparseCategoricalCrossentropy(class_weight=weights),
        lb.CategoricalCrossentropy(class_weight=weights, reduction="mean_with_sample_weight"),
    ):
        with pytest.raises(ValueError, match="with class weights, the mean of a criterion is that of reduction="):
            nn.criterion(loss)
    made = nn.Huber(delta=5.0)
    assert nn.criterion(made) is made
    assert nn.criterion(nn.Huber) is nn.Huber
    assert float(made.loss(delta=2.0)(y, p)) == float(lb.Huber(2.0)(y, p))


def test_a_loss_that_is_elementwise_with_its_defaults_only():
    """A loss that an option makes one of the whole sample is one of the whole sample with every option."""

    @lb.loss
    def peaked(ops, y_true, y_pred, *, weight_of_peak=0.0):
        error = ops.abs(y_pred - y_true)
        return ops.mean(ops.square(error), axis=-1) + weight_of_peak * ops.max(error, axis=-1)

    input, target = torch.tensor([[0.0, 1.0, 2.0]]), torch.zeros(1, 3)
    for reduction in ("mean", "sum", "none"):
        found = nn.criterion(peaked)(weight_of_peak=1.0, reduction=reduction)(input, target)
        assert found.reshape(()).item() == pytest.approx(5 / 3 + 2)
