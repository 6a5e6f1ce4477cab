"""tf_keras, the Keras 2 that TensorFlow came with."""

import doctest

import keras_hosts as hosts
import numpy as np
import pytest

import lossbackend as lb
from lossbackend import registry

tf_keras = pytest.importorskip("tf_keras")
lk = pytest.importorskip("lossbackend.tf_keras")

pytestmark = [
    pytest.mark.host("tf_keras", "tf_keras", "`model.compile(loss=lossbackend.mse)`, `lossbackend.tf_keras.Huber(delta=2.0)`"),
    # TensorFlow's and tf_keras' own, under the newer Python and NumPy.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Call to deprecated create function:UserWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
]

CLASSES = sorted(registry.classes())


def trained(loss, x, y, units, *rest, **options):
    return hosts.trained(tf_keras, loss, x, y, units, *rest, **options)


@pytest.mark.parametrize("ours", [lb.scce, lk.SparseCategoricalCrossentropy()])
def test_digits(ours, digits, same_curve):
    """Trains on digits, with the labels (N, 1) that it makes, to the curve and the accuracy of the built-in loss."""
    images, labels = digits
    compiled = {"optimizer": "adam", "metrics": ["accuracy"]}
    _, builtin = trained("sparse_categorical_crossentropy", images, labels, 10, "softmax", hidden=32, epochs=8, compiled=compiled)
    _, history = trained(ours, images, labels, 10, "softmax", hidden=32, epochs=8, compiled=compiled)
    same_curve(history["loss"], builtin["loss"])
    assert history["accuracy"] == builtin["accuracy"]
    assert history["accuracy"][-1] > 0.8


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_trains_as_the_class_of_tf_keras(name, same_curve):
    """Every class trains to the curve of the tf_keras class of its name."""
    y, activation, units = hosts.ordinary(name)
    _, builtin = trained(getattr(tf_keras.losses, name)(), hosts.features(), y, units, activation, epochs=2)
    _, history = trained(getattr(lk, name)(), hosts.features(), y, units, activation, epochs=2)
    same_curve(history["loss"], builtin["loss"])


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("reduction", ["sum", "auto", "none"])
def test_every_reduction(name, reduction):
    """Every class reduces weighted losses as the tf_keras class of its name, by every reduction of tf_keras."""
    y, activation, units = hosts.ordinary(name)
    logits = np.random.default_rng(6).normal(size=(len(y), units)).astype("float32")
    p = tf_keras.activations.get(activation)(tf_keras.backend.constant(logits))
    weights = np.random.default_rng(7).uniform(size=len(y)).astype("float32")
    expected = getattr(tf_keras.losses, name)(reduction=reduction)(y, p, weights).numpy()
    np.testing.assert_allclose(getattr(lk, name)(reduction=reduction)(y, p, weights).numpy(), expected, rtol=2e-6, atol=1e-6)


def test_reductions_of_keras_3():
    """Takes "mean", "mean_with_sample_weight" and None too."""
    y, p, w = np.zeros((2, 1)), np.array([[1.0], [3.0]], "float32"), np.array([3.0, 1.0])
    for reduction, expected in (("mean", 6.0), ("mean_with_sample_weight", 3.0), (None, [3.0, 9.0])):
        assert lk.MeanSquaredError(reduction)(y, p, w).numpy().tolist() == expected


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
@pytest.mark.parametrize("weights", [False, True])
def test_masks(reduction, weights, same_curve):
    """A Masking layer takes steps out as with the built-in loss, with weights for each step too, and NaN labels behind it do not leak."""
    x, mask, y = hosts.sequences()
    fit = {"sample_weight": np.random.default_rng(2).uniform(size=(8, 5)).astype("float32")} if weights else {}
    builtin = hosts.trained_on_sequences(tf_keras, tf_keras.losses.MeanSquaredError(reduction), x, y, **fit)
    same_curve(hosts.trained_on_sequences(tf_keras, lk.MeanSquaredError(reduction), x, y, **fit), builtin)
    if not weights:
        broken = np.where(mask[..., np.newaxis], y, np.nan)
        same_curve(hosts.trained_on_sequences(tf_keras, lk.MeanSquaredError(reduction), x, broken), builtin)


@pytest.mark.parametrize("ours", [lb.scce, lk.SparseCategoricalCrossentropy()])
def test_class_weight(ours, same_curve):
    """class_weight beside integer labels weighs as with the built-in loss."""
    y, activation, units = hosts.ordinary("SparseCategoricalCrossentropy")
    weights = {0: 1.0, 1: 3.0, 2: 0.0, 3: 0.5}
    _, builtin = trained("sparse_categorical_crossentropy", hosts.features(), y, units, activation, class_weight=weights)
    _, history = trained(ours, hosts.features(), y, units, activation, class_weight=weights)
    same_curve(history["loss"], builtin["loss"])


def test_several_outputs_and_metrics(same_curve):
    """A dict of losses with loss_weights, and functions as metrics."""
    x, ids = hosts.features(), hosts.ordinary("SparseCategoricalCrossentropy")[0]

    def run(first, second, metric):
        tf_keras.utils.set_random_seed(7)
        given = tf_keras.layers.Input((3,))
        heads = {"size": tf_keras.layers.Dense(1, name="size")(given), "kind": tf_keras.layers.Dense(4, "softmax", name="kind")(given)}
        model = tf_keras.Model(given, heads)
        model.compile("sgd", {"size": first, "kind": second}, metrics={"size": [metric]}, loss_weights={"size": 1.0, "kind": 0.5})
        return hosts.fitted(model, x, {"size": x[:, :1], "kind": ids})

    builtin = run("mse", "sparse_categorical_crossentropy", tf_keras.losses.mean_absolute_error)
    history = run(lk.MeanSquaredError(), lb.scce, lb.mae)
    assert set(history) == set(builtin)
    for key, curve in builtin.items():
        same_curve(history[key], curve)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy, diabetes, same_curve):
    """Under mixed_bfloat16, and mixed_float16 with its LossScaleOptimizer, trains to the curve of the built-in loss."""
    tf_keras.mixed_precision.set_global_policy(policy)
    try:
        # As one is told to: the last layer in float32.
        def run(loss):
            tf_keras.utils.set_random_seed(7)
            model = tf_keras.Sequential([tf_keras.layers.Dense(4, "tanh"), tf_keras.layers.Dense(1, dtype="float32")])
            model.compile("sgd", loss)
            return hosts.fitted(model, *diabetes)["loss"]

        builtin = run("mse")
        same_curve(run(lb.mse), builtin)
        same_curve(run(lk.MeanSquaredError()), builtin)
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


RELOAD = """
import json
import numpy as np, tf_keras
import lossbackend.tf_keras
x, y = np.load("x.npy"), np.load("y.npy")
curves = {}
for name in %r:
    model = tf_keras.models.load_model(name)
    curves[name] = model.fit(x, y, epochs=2, verbose=0, shuffle=False, batch_size=128).history["loss"]
print(json.dumps(curves))
"""


def test_saved_models(diabetes, same_curve, tmp_path):
    """A saved model (.keras and .h5, function and class) loads in a fresh process, and training goes on as with the built-in loss."""
    np.save(tmp_path / "x.npy", diabetes[0])
    np.save(tmp_path / "y.npy", diabetes[1])
    for kind, ours in (("function", lb.mse), ("class", lk.Huber(0.5))):
        model, _ = trained(ours, *diabetes, 1, epochs=2)
        for suffix in ("keras", "h5"):
            model.save(tmp_path / f"{kind}.{suffix}")
    found = hosts.in_a_fresh_process(RELOAD % ["function.keras", "function.h5", "class.keras", "class.h5"], tmp_path)
    for kind, builtin in (("function", "mse"), ("class", tf_keras.losses.Huber(0.5))):
        expected = trained(builtin, *diabetes, 1, epochs=4)[1]["loss"][2:]
        for suffix in ("keras", "h5"):
            same_curve(found[f"{kind}.{suffix}"], expected)


def test_names_before_and_after(same_curve):
    """install() makes every historical name mean the loss here, in get and in compile; uninstall() takes it back."""
    before = [tf_keras.losses.get, tf_keras.losses.deserialize]
    attribute = tf_keras.losses.mean_squared_error
    lk.install()
    lk.install()
    try:
        for name, value in registry.names().items():
            found = tf_keras.losses.get(name)
            assert type(found) is getattr(lk, name) if name in CLASSES else found is value
        assert tf_keras.losses.mean_squared_error is attribute
        assert tf_keras.losses.get("binary_focal_crossentropy") is tf_keras.losses.binary_focal_crossentropy
        y, activation, units = hosts.ordinary("CosineSimilarity")
        model, history = trained("cosine_proximity", hosts.features(), y, units, activation)
        assert type(model.compiled_loss._losses[0]) is lk.CosineSimilarity
        ours = trained(lb.Huber(0.5, reduction="sum"), hosts.features(), y, units, sample_weight=np.full(len(y), 0.5))[1]["loss"]
    finally:
        lk.uninstall()
    assert before == [tf_keras.losses.get, tf_keras.losses.deserialize]
    assert tf_keras.losses.get("mse") is attribute
    same_curve(history["loss"], trained("cosine_similarity", hosts.features(), y, units, activation)[1]["loss"])
    builtin = trained(tf_keras.losses.Huber(0.5, reduction="sum"), hosts.features(), y, units, sample_weight=np.full(len(y), 0.5))[1]["loss"]
    same_curve(ours, builtin)


@pytest.mark.parametrize("name", CLASSES)
def test_configs(name):
    """Every constructor argument survives serialisation, as JSON too."""
    loss = getattr(lk, name)(**hosts.OPTIONS.get(name, {}), reduction="sum", name="mine")
    again = tf_keras.saving.deserialize_keras_object(hosts.json.loads(hosts.json.dumps(tf_keras.saving.serialize_keras_object(loss))))
    assert type(again) is getattr(lk, name)
    assert again.loss == loss.loss
    assert again.get_config() == loss.get_config()


def test_examples():
    """The examples of the module's docstrings run."""
    failed, attempted = doctest.testmod(lk)
    assert attempted > 5
    assert failed == 0


def test_page(run_page):
    """Every block of the page runs."""
    run_page("hosts/tf_keras")
