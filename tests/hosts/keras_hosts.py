"""What test_keras.py and test_tf_keras.py share: models, and input on which this library and Keras agree for every loss."""

import inspect
import json
import os
import subprocess
import sys

import numpy as np

ROWS, CLASSES = 24, 4


def ordinary(name):
    """(y_true, activation, units) on which Keras' loss of that class and ours do not deliberately differ."""
    rng = np.random.default_rng(3)
    if name == "SparseCategoricalCrossentropy":
        return rng.integers(0, CLASSES, ROWS), "softmax", CLASSES
    if name in ("CategoricalCrossentropy", "CategoricalHinge"):
        return np.eye(CLASSES, dtype="float32")[rng.integers(0, CLASSES, ROWS)], "softmax", CLASSES
    if name == "KLDivergence":
        return rng.dirichlet(np.ones(CLASSES), ROWS).astype("float32"), "softmax", CLASSES
    if name in ("BinaryCrossentropy", "Hinge", "SquaredHinge"):
        labels = rng.integers(0, 2, (ROWS, CLASSES)).astype("float32")
        return labels, "sigmoid" if name == "BinaryCrossentropy" else "linear", CLASSES
    return rng.uniform(0.5, 2.0, (ROWS, CLASSES)).astype("float32"), "softplus", CLASSES


def features():
    """(ROWS, 3) float32."""
    return np.random.default_rng(4).normal(size=(ROWS, 3)).astype("float32")


# Options other than the defaults, of each class that has some.
OPTIONS = {
    "Huber": {"delta": 0.5},
    "CategoricalCrossentropy": {"from_logits": True, "label_smoothing": 0.1, "class_weight": {0: 2.0, 3: 0.5}},
    "SparseCategoricalCrossentropy": {"from_logits": True, "ignore_class": 2, "class_weight": [1.0, 2.0, 3.0, 4.0]},
    "BinaryCrossentropy": {"from_logits": True, "label_smoothing": 0.2, "pos_weight": [1.0, 2.0, 3.0, 4.0]},
    "CosineSimilarity": {"axis": 1},
    "Hinge": {"labels": "binary"},
    "SquaredHinge": {"labels": "binary"},
    "Poisson": {"log_input": True},
    "KLDivergence": {"from_logits": True},
    "MeanAbsolutePercentageError": {"epsilon": 0.01},
    "MeanSquaredLogarithmicError": {"epsilon": 0.01},
}


def trained(keras, loss, x, y, units, activation="linear", epochs=3, hidden=0, compiled=None, **fit):
    """(model, history) of a small network from a fixed start."""
    keras.utils.set_random_seed(7)
    layers = [keras.layers.Dense(hidden, activation="tanh")] if hidden else []
    model = keras.Sequential([keras.layers.Input(x.shape[1:]), *layers, keras.layers.Dense(units, activation=activation)])
    model.compile(loss=loss, **{"optimizer": "sgd", **(compiled or {})})
    return model, fitted(model, x, y, epochs, **fit)


def fitted(model, x, y, epochs=3, **fit):
    """The history of so many epochs, as NumPy numbers."""
    history = model.fit(x, y, epochs=epochs, verbose=0, **{"shuffle": False, "batch_size": 128, **fit}).history
    return {key: [float(value) for value in values] for key, values in history.items()}


def sequences():
    """((8, 5, 3) features of which some steps are all 0, the mask of the others, (8, 5, 1) targets)."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(8, 5, 3)).astype("float32"), rng.normal(size=(8, 5, 1)).astype("float32")
    x[:, 3:] = 0
    x[0, 1:] = 0
    return x, (x != 0).any(axis=-1), y


def trained_on_sequences(keras, loss, x, y, **fit):
    """The history of a recurrent network behind a Masking layer."""
    keras.utils.set_random_seed(7)
    rnn = keras.layers.SimpleRNN(4, return_sequences=True)
    model = keras.Sequential([keras.layers.Input((5, 3)), keras.layers.Masking(), rnn, keras.layers.Dense(1)])
    model.compile(loss=loss, optimizer="sgd")
    return fitted(model, x, y, **fit)["loss"]


def arguments(cls):
    """The names of a class' arguments, in order."""
    return list(inspect.signature(cls).parameters)


def in_a_fresh_process(code, folder):
    """What a script prints as JSON."""
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=environment, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])
