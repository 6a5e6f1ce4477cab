"""Both sides of every row of docs/migrating.md give the same numbers."""

import re
from pathlib import Path

import numpy as np
import pytest

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "migrating.md").read_text()


def rows(title):
    section = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", TEXT, flags=re.DOTALL | re.MULTILINE).group(1)
    return re.findall(r"^\| `(.*)` \| `(.*)` \|$", section, flags=re.MULTILINE)


def data():
    random = np.random.default_rng(0)
    y, p = random.normal(size=(2, 6, 3)).astype(np.float32)
    class_logits = random.normal(size=(6, 3)).astype(np.float32)
    class_probabilities = np.exp(class_logits) / np.exp(class_logits).sum(axis=1, keepdims=True)
    logits = random.normal(size=(6, 2)).astype(np.float32)
    ids = np.array([0, 1, 2, 2, 1, 0])
    return {
        "y": y,
        "p": p,
        "weights": random.uniform(size=6).astype(np.float32),
        "class_logits": class_logits,
        "class_probabilities": class_probabilities,
        "ids": ids,
        "one_hot": np.eye(3, dtype=np.float32)[ids],
        "class_weights": np.array([0.5, 1.0, 2.0], np.float32),
        "logits": logits,
        "probabilities": 1 / (1 + np.exp(-logits)),
        "labels": random.integers(0, 2, (6, 2)).astype(np.float32),
        "pos_weight": np.array([1.0, 3.0], np.float32),
        "signs": random.choice([-1.0, 1.0], (6, 3)).astype(np.float32),
        "counts": random.poisson(2.0, (6, 3)).astype(np.float32),
    }


def keras():
    import keras

    import lossbackend as lb

    return {"keras": keras, "lb": lb} | {name: keras.ops.convert_to_tensor(array) for name, array in data().items()}


def torch():
    import torch
    from torch.nn import functional

    import lossbackend.torch as lt
    from lossbackend.torch import nn

    return {"torch": torch, "F": functional, "lt": lt, "nn": nn} | {name: torch.from_numpy(array) for name, array in data().items()}


def jax():
    import jax.numpy as jnp
    import optax

    import lossbackend.jax as lj

    return {"jnp": jnp, "optax": optax, "lj": lj} | {
        name: jnp.asarray(array.astype(np.int32) if name == "ids" else array) for name, array in data().items()
    }


def numbers(tensor):
    return tensor.numpy(force=True) if hasattr(tensor, "detach") else np.asarray(tensor)


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [(*row, names) for title, names in (("From Keras", keras), ("From PyTorch", torch), ("From optax", jax)) for row in rows(title)],
)
def test_both_sides_are_one_number(before, after, names):
    here = names()
    expected, found = (numbers(eval(side, dict(here))) for side in (before, after))
    assert expected.shape == found.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("title", "least"), [("From Keras", 8), ("From PyTorch", 12), ("From optax", 8)])
def test_no_row_is_lost(title, least):
    section = TEXT.split(f"## {title}")[1].split("\n## ")[0]
    assert len(rows(title)) == len([line for line in section.splitlines() if line.startswith("| `")]) >= least
