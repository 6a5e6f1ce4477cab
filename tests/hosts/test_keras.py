"""Keras 3 on the backend that KERAS_BACKEND names."""

import doctest
from dataclasses import dataclass

import keras
import keras_hosts as hosts
import numpy as np
import pytest

import lossbackend as lb
import lossbackend.keras as lk
from lossbackend import registry

BACKEND = {"torch": "PyTorch", "jax": "JAX", "tensorflow": "TensorFlow"}[keras.backend.backend()]
pytestmark = [
    pytest.mark.host(f"Keras 3 on {BACKEND}", "keras", "`model.compile(loss=lossbackend.mse)`, `lossbackend.keras.Huber(delta=2.0)`"),
    # Keras' own variables, and torch's tensors, under NumPy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]

CLASSES = sorted(registry.classes())


def trained(loss, x, y, units, *rest, **options):
    return hosts.trained(keras, loss, x, y, units, *rest, **options)


def numbers(value):
    return np.asarray(keras.ops.convert_to_numpy(value))


@pytest.fixture(scope="module")
def trained_on_digits(digits):
    images, labels = digits

    def run(loss):
        """(history, accuracy)."""
        compiled = {"optimizer": keras.optimizers.Adam(0.01), "metrics": ["accuracy"]}
        model, history = trained(loss, images, labels, 10, "softmax", hidden=32, epochs=4, compiled=compiled)
        return history, float(model.evaluate(images, labels, verbose=0)[1])

    return run


@pytest.fixture(scope="module")
def builtin_on_digits(trained_on_digits):
    return trained_on_digits("sparse_categorical_crossentropy")


@pytest.mark.parametrize("ours", [lb.scce, lk.SparseCategoricalCrossentropy, "sparse_categorical_crossentropy"])
def test_digits(ours, builtin_on_digits, trained_on_digits, same_curve):
    """Trains on digits to the curve and the accuracy of the built-in sparse_categorical_crossentropy: function, class, and name after install()."""
    builtin, accuracy = builtin_on_digits
    lk.install()
    try:
        history, reached = trained_on_digits(ours)
    finally:
        lk.uninstall()
    same_curve(history["loss"], builtin["loss"])
    assert history["accuracy"] == builtin["accuracy"]
    assert reached == accuracy > 0.8


@pytest.mark.parametrize("ours", [lb.mean_squared_error, lk.MeanSquaredError()])
def test_the_line_of_the_keras_page(ours, diabetes, same_curve):
    """model.compile(loss=lossbackend.mean_squared_error, optimizer="sgd") trains to the curve of loss="mean_squared_error"."""
    _, builtin = trained("mean_squared_error", *diabetes, 1, epochs=5)
    _, history = trained(ours, *diabetes, 1, epochs=5)
    same_curve(history["loss"], builtin["loss"])


@pytest.mark.parametrize("ours", [lb.bce, lk.BinaryCrossentropy()])
def test_tumours(ours, tumours, same_curve):
    """Trains a yes-or-no classifier to the curve and the accuracy of the built-in binary_crossentropy."""
    compiled = {"optimizer": "adam", "metrics": ["accuracy"]}
    _, builtin = trained("binary_crossentropy", *tumours, 1, "sigmoid", epochs=8, hidden=8, compiled=compiled)
    _, history = trained(ours, *tumours, 1, "sigmoid", epochs=8, hidden=8, compiled=compiled)
    same_curve(history["loss"], builtin["loss"])
    assert history["accuracy"] == builtin["accuracy"]
    assert history["accuracy"][-1] > 0.8


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_trains_as_the_class_of_keras(name, same_curve):
    """Every class trains to the curve of the Keras class of its name."""
    y, activation, units = hosts.ordinary(name)
    x = hosts.features()
    _, builtin = trained(getattr(keras.losses, name)(), x, y, units, activation, epochs=2)
    _, history = trained(getattr(lk, name)(), x, y, units, activation, epochs=2)
    same_curve(history["loss"], builtin["loss"])


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("reduction", ["sum", "mean", "mean_with_sample_weight", "none", None])
def test_every_reduction(name, reduction):
    """Every class reduces weighted losses as the Keras class of its name, by every reduction of Keras."""
    y, activation, units = hosts.ordinary(name)
    logits = np.random.default_rng(6).normal(size=(len(y), units)).astype("float32")
    p = numbers(keras.activations.get(activation)(keras.ops.convert_to_tensor(logits)))
    weights = np.random.default_rng(7).uniform(size=len(y)).astype("float32")
    ours = getattr(lk, name)(reduction=reduction)(y, p, weights)
    assert keras.ops.is_tensor(ours)
    np.testing.assert_allclose(numbers(ours), numbers(getattr(keras.losses, name)(reduction=reduction)(y, p, weights)), rtol=2e-6, atol=1e-6)
    per_sample = numbers(getattr(lk, name)().call(y, keras.ops.convert_to_tensor(p)))
    np.testing.assert_allclose(per_sample, numbers(getattr(keras.losses, name)(reduction=None)(y, p)), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", CLASSES)
def test_arguments_are_those_of_keras(name):
    """Every class takes the arguments of the Keras class of its name, in its order."""
    theirs, ours = hosts.arguments(getattr(keras.losses, name)), hosts.arguments(getattr(lk, name))
    assert set(theirs) <= set(ours)
    assert [argument for argument in ours if argument in theirs] == theirs
    assert getattr(lk, name)().name == {"Huber": "huber"}.get(name, getattr(keras.losses, name)().name)
    assert lk.Huber(0.5, "sum", "mine").get_config() == {"delta": 0.5, "reduction": "sum", "name": "mine", "dtype": None}


@pytest.mark.parametrize("weighted", [{"sample_weight": True}, {"class_weight": {0: 1.0, 1: 3.0, 2: 0.0, 3: 0.5}}])
@pytest.mark.parametrize("ours", [lb.scce, lk.SparseCategoricalCrossentropy()])
def test_weights(ours, weighted, same_curve):
    """sample_weight, and class_weight beside integer labels, weigh as with the built-in loss."""
    y, activation, units = hosts.ordinary("SparseCategoricalCrossentropy")
    if weighted.get("sample_weight"):
        weighted = {"sample_weight": np.random.default_rng(1).uniform(size=len(y))}
    _, builtin = trained("sparse_categorical_crossentropy", hosts.features(), y, units, activation, **weighted)
    _, history = trained(ours, hosts.features(), y, units, activation, **weighted)
    same_curve(history["loss"], builtin["loss"])


@pytest.mark.parametrize(
    ("reduction", "weights"), [("sum_over_batch_size", False), ("sum_over_batch_size", True), ("sum", True), ("mean_with_sample_weight", True)]
)
def test_masks(reduction, weights, same_curve):
    """A Masking layer takes steps out as with the built-in loss, with weights for each step too."""
    x, _, y = hosts.sequences()
    fit = {"sample_weight": np.random.default_rng(2).uniform(size=(8, 5)).astype("float32")} if weights else {}
    builtin = hosts.trained_on_sequences(keras, keras.losses.MeanSquaredError(reduction), x, y, **fit)
    same_curve(hosts.trained_on_sequences(keras, lk.MeanSquaredError(reduction), x, y, **fit), builtin)
    if reduction == "sum_over_batch_size" and weights:
        same_curve(hosts.trained_on_sequences(keras, lb.mse, x, y, **fit), builtin)


@pytest.mark.parametrize("hidden_by", ["mask", "weight"])
def test_nothing_leaks_from_what_is_left_out(hidden_by, same_curve):
    """A NaN label behind a mask or a weight of 0 reaches neither loss nor gradient; with the built-in loss the model is lost."""
    x, mask, y = hosts.sequences()
    fit = {}
    if hidden_by == "weight":
        x = np.where(x == 0, 1.0, x).astype("float32")
        fit = {"sample_weight": mask.astype("float32")}
    clean = hosts.trained_on_sequences(keras, "mse", x, np.where(mask[..., np.newaxis], y, 0.0), **fit)
    broken = np.where(mask[..., np.newaxis], y, np.nan)
    assert np.isnan(hosts.trained_on_sequences(keras, "mse", x, broken, **fit)).all()
    same_curve(hosts.trained_on_sequences(keras, lk.MeanSquaredError(), x, broken, **fit), clean)


def test_weights_of_sequences(same_curve):
    """One weight per sequence weighs all of its steps."""
    x, _, y = hosts.sequences()
    weights = np.linspace(0.5, 2.0, 8, dtype="float32")
    builtin = hosts.trained_on_sequences(keras, "mse", x, y, sample_weight=np.repeat(weights[:, np.newaxis], 5, axis=1))
    same_curve(hosts.trained_on_sequences(keras, lk.MeanSquaredError(), x, y, sample_weight=weights), builtin)


def test_embedding(same_curve):
    """Embedding(mask_zero=True) takes padding out of a sparse classification of each step."""
    tokens = np.array([[1, 2, 3, 0], [3, 1, 0, 0], [2, 2, 1, 3]])
    labels = np.array([[0, 1, 2, 0], [2, 0, 0, 0], [1, 1, 0, 2]])

    def run(loss):
        keras.utils.set_random_seed(7)
        model = keras.Sequential([keras.layers.Embedding(4, 5, mask_zero=True), keras.layers.Dense(3, activation="softmax")])
        model.compile(loss=loss, optimizer="sgd")
        return hosts.fitted(model, tokens, labels)["loss"]

    builtin = run("sparse_categorical_crossentropy")
    same_curve(run(lb.scce), builtin)
    same_curve(run(lk.SparseCategoricalCrossentropy()), builtin)


@pytest.mark.parametrize("outputs", ["list", "dict"])
@pytest.mark.parametrize("ours", [(lb.mse, lb.scce), (lk.MeanSquaredError(), lk.SparseCategoricalCrossentropy())])
def test_several_outputs(outputs, ours, same_curve):
    """Lists and dicts of losses, with loss_weights and metrics, for a model with two outputs."""
    x, ids = hosts.features(), hosts.ordinary("SparseCategoricalCrossentropy")[0]

    def run(first, second):
        keras.utils.set_random_seed(7)
        given = keras.layers.Input((3,))
        heads = {"size": keras.layers.Dense(1, name="size")(given), "kind": keras.layers.Dense(4, activation="softmax", name="kind")(given)}
        targets, losses, weights, metrics = (
            {"size": x[:, :1], "kind": ids},
            {"size": first, "kind": second},
            {"size": 1.0, "kind": 0.5},
            {"size": ["mae"]},
        )
        if outputs == "list":
            heads, targets, losses, weights, metrics = list(heads.values()), list(targets.values()), [first, second], [1.0, 0.5], [["mae"], []]
        model = keras.Model(given, heads)
        model.compile(loss=losses, loss_weights=weights, optimizer="sgd", metrics=metrics)
        return hosts.fitted(model, x, targets)

    builtin, history = run("mse", "sparse_categorical_crossentropy"), run(*ours)
    assert set(history) == set(builtin)
    for key, curve in builtin.items():
        same_curve(history[key], curve)


def test_metrics(same_curve):
    """Functions as metrics and weighted_metrics, and a Loss object as a metric, are those of Keras."""
    x, y = hosts.features(), hosts.ordinary("Huber")[0]
    weights = np.random.default_rng(1).uniform(size=len(y))

    def run(metrics, weighted):
        return trained(lb.mse, x, y, 4, compiled={"metrics": metrics, "weighted_metrics": weighted}, sample_weight=weights)[1]

    builtin = run([keras.losses.mean_absolute_error, keras.losses.Huber(0.5, name="huber")], [keras.losses.log_cosh])
    history = run([lb.mae, lk.Huber(0.5)], [lb.log_cosh])
    assert set(history) == set(builtin) == {"loss", "mean_absolute_error", "huber", "log_cosh"}
    for key, curve in builtin.items():
        same_curve(history[key], curve)


@pytest.mark.skipif(BACKEND == "PyTorch", reason="torch.compile takes minutes, and Keras does not use it unless asked")
@pytest.mark.parametrize("ours", [lb.scce, lk.SparseCategoricalCrossentropy()])
def test_jit_compile(ours, same_curve):
    """jit_compile=True trains to the curve of the built-in loss."""
    y, activation, units = hosts.ordinary("SparseCategoricalCrossentropy")
    _, builtin = trained("sparse_categorical_crossentropy", hosts.features(), y, units, activation, compiled={"jit_compile": True})
    _, history = trained(ours, hosts.features(), y, units, activation, compiled={"jit_compile": True})
    same_curve(history["loss"], builtin["loss"])


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("ours", [lb.mse, lk.MeanSquaredError()])
def test_mixed_precision(policy, ours, diabetes, same_curve):
    """Under mixed_bfloat16, and mixed_float16 with its LossScaleOptimizer, trains to the curve of the built-in loss."""
    keras.config.set_dtype_policy(policy)
    try:
        _, builtin = trained("mse", *diabetes, 1, hidden=4)
        model, history = trained(ours, *diabetes, 1, hidden=4)
    finally:
        keras.config.set_dtype_policy("float32")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (policy == "mixed_float16")
    same_curve(history["loss"], builtin["loss"])


def test_dtype(same_curve):
    """dtype= casts predictions as Keras does."""
    y, p = np.array([[1.0, 0.0]]), np.array([[1.0 + 2**-12, 0.0]])
    assert float(lk.MeanSquaredError(dtype="bfloat16")(y, p)) == 0.0
    assert float(lk.MeanSquaredError()(y, p)) == pytest.approx(2**-25)
    assert lk.MeanSquaredError.from_config(lk.MeanSquaredError(dtype=keras.DTypePolicy("mixed_float16")).get_config()).dtype == "float16"


def test_own_steps(same_curve):
    """A model that computes its own loss in compute_loss, with add_loss in a layer, trains to the curve of the built-in loss."""
    x, y = hosts.features(), hosts.ordinary("Huber")[0]

    def run(loss, penalty):
        class Penalised(keras.layers.Layer):
            def call(self, inputs):
                self.add_loss(0.1 * keras.ops.mean(penalty(keras.ops.zeros_like(inputs), inputs)))
                return inputs

        class Own(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense, self.penalised = keras.layers.Dense(4), Penalised()

            def call(self, inputs):
                return self.penalised(self.dense(inputs))

            def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
                return loss(y, y_pred, sample_weight) + sum(self.losses)

        keras.utils.set_random_seed(7)
        model = Own()
        model.compile(optimizer="sgd")
        return hosts.fitted(model, x, y)["loss"]

    same_curve(run(lk.Huber(0.5), lb.mse), run(keras.losses.Huber(0.5), keras.losses.mean_squared_error))


def test_a_dataset_of_tensorflow():
    """Labels and weights that are tensors of another framework are taken, as Keras takes them."""
    tf = pytest.importorskip("tensorflow")
    y, p, w = np.array([1, 0]), np.array([[0.2, 0.8], [0.6, 0.4]], "float32"), np.array([1.0, 3.0], "float32")
    loss = lk.SparseCategoricalCrossentropy()(tf.constant(y), keras.ops.convert_to_tensor(p), tf.constant(w))
    assert float(loss) == pytest.approx((-np.log(0.8) - 3 * np.log(0.6)) / 2, rel=1e-6)


def test_class_ids_stay_integers():
    """Integer labels reach a class here as integers, and are checked: 2²⁴ + 1 is no class of two."""
    seen = []

    @lb.loss(sparse=True)
    def looks(ops, y_true, y_pred):
        seen.append(ops.dtype(y_true))
        return ops.take_class(y_pred, y_true, axis=-1)

    trained(lk.as_loss(looks), hosts.features(), hosts.ordinary("SparseCategoricalCrossentropy")[0], 4, epochs=1)
    assert seen
    assert all(dtype.startswith("int") for dtype in seen)
    with pytest.raises(ValueError, match=r"sparse_categorical_crossentropy: y_true must hold class ids from 0 to 1 .* 16777217"):
        lk.SparseCategoricalCrossentropy()([2**24 + 1], [[0.5, 0.5]])


def test_targets_without_the_axis_of_predictions(same_curve):
    """Targets (N, T) beside predictions (N, T, 1) are understood as by the built-in loss."""
    x, _, y = hosts.sequences()
    x = x + 1.0

    def run(loss):
        keras.utils.set_random_seed(7)
        model = keras.Sequential([keras.layers.Input((5, 3)), keras.layers.Dense(1)])
        model.compile(loss=loss, optimizer="sgd")
        return hosts.fitted(model, x, y[..., 0])["loss"]

    for name, theirs in (("MeanSquaredError", "mse"), ("CosineSimilarity", "cosine_similarity")):
        same_curve(run(getattr(lk, name)()), run(theirs))


@lb.loss(aliases=("cauchy_loss",))
def cauchy_error(ops, y_true, y_pred, scale=1.0, *, floor=0.0):
    """Mean log(1 + (e/s)²)."""
    return ops.mean(ops.log1p(ops.square((y_pred - y_true) / scale)), axis=-1) + floor


@dataclass(frozen=True)
class Scaled(lb.Loss):
    """A class of one's own."""

    function = staticmethod(cauchy_error)
    scale: float = 3.0
    floor: float = 0.0


def cauchy(y_true, y_pred, scale):
    return keras.ops.mean(keras.ops.log1p(keras.ops.square((y_pred - keras.ops.cast(y_true, y_pred.dtype)) / scale)), axis=-1)


@pytest.mark.parametrize(
    "ours", [lambda: cauchy_error, lambda: lk.as_loss(cauchy_error), lambda: lk.as_loss(Scaled, scale=1.0), lambda: lk.as_loss(Scaled(1.0))]
)
def test_a_loss_of_ones_own(ours, diabetes, same_curve):
    """A function by @lossbackend.loss, and as_loss of it and of a class of one's own, train to the curve of the formula in keras.ops."""
    _, builtin = trained(lambda y, p: cauchy(y, p, 1.0), *diabetes, 1)
    _, history = trained(ours(), *diabetes, 1)
    same_curve(history["loss"], builtin["loss"])


def test_as_loss_takes_options():
    """as_loss takes options, reduction, name and dtype, keeps those of an object, and refuses what is no loss of this library."""
    y, p = np.zeros((3, 2)), np.array([[1.0, 2.0], [0.0, 1.0], [2.0, 2.0]], "float32")
    exact = np.log1p((p / 2.0) ** 2).mean(axis=1)
    loss = lk.as_loss(cauchy_error, scale=2.0, floor=1.0, reduction="sum", name="mine")
    assert isinstance(loss, keras.losses.Loss)
    np.testing.assert_allclose(float(loss(y, p)), (exact + 1).sum(), rtol=1e-6)
    np.testing.assert_allclose(float(lk.as_loss(Scaled(2.0, reduction="sum"))(y, p, np.array([1.0, 0.0, 2.0]))), (exact * [1, 0, 2]).sum(), rtol=1e-6)
    assert loss.get_config() == {"scale": 2.0, "floor": 1.0, "reduction": "sum", "name": "mine", "dtype": None}
    assert type(lk.as_loss(lb.huber)) is type(lk.as_loss(lb.Huber(2.0))) is lk.Huber
    assert lk.as_loss(lb.Huber(2.0), reduction="sum").get_config()["delta"] == 2.0
    with pytest.raises(TypeError, match=r"as_loss: expected a function made by @lossbackend\.loss"):
        lk.as_loss(keras.losses.mean_squared_error)


def test_a_subclass_that_computes_itself():
    """A subclass with a call of its own is reduced by Keras, weights included."""

    class Doubled(lk.MeanSquaredError):
        def call(self, y_true, y_pred):
            return 2 * super().call(y_true, y_pred)

    y, p, w = np.zeros((2, 1), "float32"), np.array([[1.0], [2.0]], "float32"), np.array([1.0, 0.5], "float32")
    assert float(Doubled()(y, p, w)) == pytest.approx((2 * 1 + 2 * 4 * 0.5) / 2)


@pytest.mark.parametrize("name", CLASSES)
def test_configs(name):
    """Every constructor argument survives serialisation, as JSON too."""
    options = hosts.OPTIONS.get(name, {})
    loss = getattr(lk, name)(**options, reduction="sum", name="mine", dtype="float64")
    text = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(hosts.json.loads(hosts.json.dumps(text)))
    assert type(again) is getattr(lk, name)
    assert again.loss == loss.loss
    assert again.get_config() == loss.get_config()
    assert (again.name, again.reduction, again.dtype) == ("mine", "sum", "float64")
    assert text["registered_name"] == f"lossbackend>{name}"


RELOAD = """
import json, sys
import numpy as np, keras
import lossbackend as lb, lossbackend.keras as lk
x, y = np.load("x.npy"), np.load("y.npy")

@lb.loss
def cauchy_error(ops, y_true, y_pred, scale=1.0, *, floor=0.0):
    return ops.mean(ops.log1p(ops.square((y_pred - y_true) / scale)), axis=-1) + floor

lk.as_loss(cauchy_error)
lk.install()
curves = {}
for name in %r:
    model = keras.models.load_model(name)
    if name.endswith("h5"):
        # Keras does not train what it loads from this format.
        curves[name] = model.evaluate(x, y, verbose=0)
        continue
    history = model.fit(x, y, epochs=2, verbose=0, shuffle=False, batch_size=128).history["loss"]
    curves[name] = [type(model._compile_loss._flat_losses[0].loss).__module__, [float(value) for value in history]]
print(json.dumps(curves, default=float))
"""


def test_saved_models(diabetes, same_curve, tmp_path):
    """A saved model (function, class, own loss, plain object, name) loads in a fresh process, and training goes on as with the built-in loss."""
    np.save(tmp_path / "x.npy", diabetes[0])
    np.save(tmp_path / "y.npy", diabetes[1])
    builtin = {"mse": "mse", "huber": keras.losses.Huber(0.5), "cauchy": lambda y, p: cauchy(y, p, 2.0)}
    losses = {
        "function.keras": (lb.MSE, "mse"),
        "class.keras": (lk.Huber(0.5, name="mine"), "huber"),
        "own.keras": (lk.as_loss(cauchy_error, scale=2.0), "cauchy"),
        "plain.keras": (lb.Huber(0.5), "huber"),
        "name.keras": ("mse", "mse"),
    }
    for name, (ours, _) in losses.items():
        model, _ = trained(ours, *diabetes, 1, epochs=2)
        model.save(tmp_path / name)
    model.save(tmp_path / "name.h5")
    expected = {name: trained(loss, *diabetes, 1, epochs=4)[1]["loss"][2:] for name, loss in builtin.items()}
    found = hosts.in_a_fresh_process(RELOAD % [*losses, "name.h5"], tmp_path)
    error = model.predict(diabetes[0], verbose=0) - diabetes[1]
    assert found["name.h5"] == pytest.approx(np.square(error).mean(), rel=1e-5)
    for name, (_, theirs) in losses.items():
        module, curve = found[name]
        same_curve(curve, expected[theirs])
        assert module == "lossbackend.keras"


def test_names_before_and_after(same_curve):
    """install() makes every historical name mean the loss here, in get and in compile; uninstall() takes it back."""
    before = [keras.losses.get, keras.losses.deserialize, keras.src.losses.get, keras.src.losses.deserialize]
    attribute = keras.losses.mean_squared_error
    assert keras.losses.get("mse") is attribute
    with pytest.raises(ValueError, match="cosine_proximity"):
        keras.losses.get("cosine_proximity")
    lk.install()
    lk.install()
    try:
        for name, value in registry.names().items():
            for found in (keras.losses.get(name), keras.losses.deserialize(name)):
                assert type(found) is getattr(lk, name) if name in CLASSES else found is value
        assert keras.losses.mean_squared_error is attribute
        assert keras.losses.get("dice") is keras.losses.dice
        assert keras.losses.get(keras.losses.dice) is keras.losses.dice
        assert keras.losses.deserialize("mse", custom_objects={"mse": keras.losses.dice}) is keras.losses.dice
        assert keras.losses.get(None) is None
        assert isinstance(keras.losses.get({"class_name": "Huber", "config": {"delta": 2.0}}), keras.losses.Huber)
        with pytest.raises(ValueError, match="nonsense"):
            keras.losses.get("nonsense")
        y, activation, units = hosts.ordinary("CosineSimilarity")
        model, history = trained("cosine_proximity", hosts.features(), y, units, activation)
        assert type(model._compile_loss._flat_losses[0].loss) is lk.CosineSimilarity
    finally:
        lk.uninstall()
        lk.uninstall()
    assert before == [keras.losses.get, keras.losses.deserialize, keras.src.losses.get, keras.src.losses.deserialize]
    same_curve(history["loss"], trained("cosine_similarity", hosts.features(), y, units, activation)[1]["loss"])


def test_names_of_a_model_that_is_compiled():
    """A model that was compiled with a name takes the loss here when it first computes one, and keeps it until it is compiled again."""
    x, y = hosts.features(), hosts.ordinary("Huber")[0]
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(4)])
    model.compile(loss="mse", optimizer="sgd")
    lk.install()
    try:
        hosts.fitted(model, x, y, 1)
    finally:
        lk.uninstall()
    hosts.fitted(model, x, y, 1)
    assert type(model._compile_loss._flat_losses[0].loss) is lk.MeanSquaredError
    model.compile(loss="mse", optimizer="sgd")
    hosts.fitted(model, x, y, 1)
    assert not isinstance(model._compile_loss._flat_losses[0].loss, lk.Loss)


def test_plain_objects(same_curve):
    """An object of lossbackend keeps its options and reduction in compile, and after install() takes weights as the Keras class does."""
    x, y = hosts.features(), hosts.ordinary("Huber")[0]
    weights = np.random.default_rng(1).uniform(size=len(y))
    ours, builtin = lb.Huber(0.5, reduction="sum"), keras.losses.Huber(0.5, reduction="sum")
    same_curve(trained(ours, x, y, 4)[1]["loss"], trained(builtin, x, y, 4)[1]["loss"])
    lk.install()
    try:
        same_curve(trained(ours, x, y, 4, sample_weight=weights)[1]["loss"], trained(builtin, x, y, 4, sample_weight=weights)[1]["loss"])
    finally:
        lk.uninstall()


def test_bad_input_is_named():
    """Errors name the loss and what came in, also out of fit."""
    with pytest.raises(ValueError, match="Huber: Invalid value for argument `reduction`: 'average'"):
        lk.Huber(reduction="average")
    with pytest.raises(TypeError, match="unexpected keyword argument 'dleta'"):
        lk.Huber(dleta=1.0)
    with pytest.raises(ValueError, match="mean_squared_error: y_true and y_pred must have the same shape"):
        trained(lk.MeanSquaredError(), hosts.features(), np.zeros((hosts.ROWS, 3)), 4)


def test_examples():
    """The examples of the module's docstrings run."""
    failed, attempted = doctest.testmod(lk)
    assert attempted > 5
    assert failed == 0


def test_page(run_page):
    """Every block of the page runs."""
    run_page("hosts/keras")


def test_options_are_attributes():
    """Options are attributes, and an object prints them; the base class says that it has no loss."""
    loss = lk.Huber(delta=2.0)
    assert loss.delta == 2.0
    assert repr(loss).startswith("Huber(delta=2.0")
    assert lk.as_loss(loss) is loss
    with pytest.raises(AttributeError, match="'Huber' object has no attribute 'gamma'"):
        _ = loss.gamma
    with pytest.raises(TypeError, match="has no loss: use one of them"):
        lk.Loss()
