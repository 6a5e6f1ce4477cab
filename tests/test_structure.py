"""The rules that keep the library what it is: who imports whom, one table of names, examples that run."""

import ast
import dataclasses
import doctest
import importlib.util
import inspect
import pkgutil
from pathlib import Path

import numpy as np
import pytest
from frameworks import FRAMEWORKS as FRAMEWORKS_HERE

import lossbackend as lb
from lossbackend import dispatch, losses, registry

ROOT = Path(__file__).resolve().parent.parent
FRAMEWORKS = {
    "torch",
    "jax",
    "tensorflow",
    "pytensor",
    "ndonnx",
    "onnx",
    "onnxruntime",
    "keras",
    "tf_keras",
    "sklearn",
    "xgboost",
    "lightgbm",
    "matplotlib",
    "dask",
}
# What framework-specific code imports, when it asks for it.
FACADES = {
    "keras": {"keras"},
    "tf_keras": {"tf_keras"},
    "torch.nn": {"torch"},
    "sklearn": {"sklearn"},
    "plot": {"matplotlib"},
    "dask": {"dask"},
    "cluster": {"dask"},
    "onnx": {"ndonnx", "onnx"},
}

ADAPTERS = ("numpy", "torch", "jax", "tensorflow", "pytensor", "onnx", "mpmath")

# What a module of the library may import of it (besides itself): see docs/decisions.md.
ALLOWED = {
    "ops": set(),
    "options": {"dispatch"},
    "dispatch": {"ops", *(f"backends.{name}_backend" for name in ADAPTERS)},
    "reduction": {"ops"},
    "checking": {"ops"},
    "definition": {"checking", "ops", "options", "dispatch", "reduction"},
    "losses.regression": {"definition", "ops"},
    "losses.margin": {"definition", "ops"},
    "losses.probabilistic": {"definition", "ops"},
    "losses.objects": {"definition", "dispatch", "losses", "ops", "options", "reduction"},
    "backends.composed": {"ops"},
    "backends.blocks": {"ops"},
    **{f"backends.{name}_backend": {"backends.blocks", "backends.composed", "ops", "reduction"} for name in ADAPTERS},
}


def sources():
    for path in [*(ROOT / "lossbackend").rglob("*.py"), *(ROOT / "backends").glob("*.py")]:
        name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        yield name.removeprefix("lossbackend."), ast.parse(path.read_text())


def imports(tree):
    """(module, names) of every import statement, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, []
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module, [alias.name for alias in node.names]


def own_imports(tree):
    """The library's modules that a tree imports, without the prefix."""
    for module, names in imports(tree):
        if module == "lossbackend":
            yield from names
        elif module == "lossbackend.backends":
            yield from (f"backends.{name}" for name in names)
        elif module.startswith("lossbackend."):
            yield module.removeprefix("lossbackend.")


@pytest.mark.parametrize(("name", "tree"), [pytest.param(name, tree, id=name) for name, tree in sources() if name in ALLOWED])
def test_imports_go_one_way(name, tree):
    found = set(own_imports(tree))
    assert found <= ALLOWED[name], found - ALLOWED[name]


def test_every_core_module_has_a_rule():
    names = {name for name, _ in sources()}
    assert set(ALLOWED) <= names
    assert {name for name in names if name.startswith(("losses.", "backends."))} <= set(ALLOWED)


@pytest.mark.parametrize(("name", "tree"), [pytest.param(name, tree, id=name) for name, tree in sources()])
def test_a_framework_is_imported_by_its_adapter_or_its_facade_only(name, tree):
    found = {module.split(".")[0] for module, _ in imports(tree)} & FRAMEWORKS
    backend = name.removeprefix("backends.").removesuffix("_backend")
    assert found <= (FACADES.get(name, set()) if backend == name else {dispatch.package(backend)})


@pytest.mark.parametrize(("name", "tree"), [pytest.param(name, tree, id=name) for name, tree in sources()])
def test_only_dispatch_names_adapters(name, tree):
    named = {module for module in own_imports(tree) if module.startswith("backends") and module not in ("backends.blocks", "backends.composed")}
    assert not named or name == "dispatch"


@pytest.mark.parametrize(("name", "tree"), [pytest.param(name, tree, id=name) for name, tree in sources() if name in ALLOWED])
def test_what_is_traced_has_no_walrus(name, tree):
    """AutoGraph cannot read it."""
    assert not any(isinstance(node, ast.NamedExpr) for node in ast.walk(tree))


def test_aliases_are_written_twice_and_agree():
    for name, function in registry.functions().items():
        spellings = {spelling for spelling, value in vars(losses).items() if value is function}
        assert spellings == {name, *function.definition.aliases}
        assert spellings <= set(losses.__all__)
        assert all(getattr(lb, spelling) is function for spelling in spellings)


def test_every_function_has_a_class_with_its_options():
    by_function = {cls.function.definition.name: cls for cls in registry.classes().values()}
    assert set(by_function) == set(registry.functions())
    for _name, cls in by_function.items():
        fields = {field.name: field.default for field in dataclasses.fields(cls)}
        assert fields.pop("reduction") == "sum_over_batch_size"
        assert fields.pop("name") is None
        assert fields == dict(cls.function.definition.defaults)


def test_everything_public_is_reachable():
    for module in (lb, losses, lb.objectives):
        for name in module.__all__:
            assert getattr(module, name) is not None
    assert set(losses.__all__) <= set(lb.__all__)


def test_no_op_is_a_loss():
    """A definition is written out: no framework's fused loss, no op named after one."""
    from lossbackend.ops import Ops

    assert not [name for name in vars(Ops) if "entropy" in name or "loss" in name or "error" in name]


def documented_modules():
    needs = {"lossbackend.dask": "dask", "lossbackend.cluster": "distributed"}
    absent = [name for name, package in needs.items() if importlib.util.find_spec(package) is None]
    names = [name for _, name, _ in pkgutil.walk_packages(lb.__path__, "lossbackend.")]
    return [
        name
        for name in ["lossbackend", *names]
        if "backends" not in name
        and name not in absent
        and not name.endswith((".torch", ".jax", ".tensorflow", ".pytensor", ".onnx", ".keras", ".tf_keras", ".torch.nn", "__main__", ".cli"))
    ]


@pytest.mark.parametrize("name", documented_modules())
def test_examples_in_docstrings(name):
    differentiates = any(FRAMEWORKS_HERE[framework].installed() for framework in ("torch", "jax", "tensorflow"))
    if name in ("lossbackend.transforms", "lossbackend.boosting") and not differentiates:
        pytest.skip("no framework is installed that differentiates")
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert failed == 0


@pytest.mark.parametrize("name", sorted(registry.functions()))
def test_examples_of_the_losses(name):
    """doctest does not look into a function that @loss made."""
    function = registry.functions()[name]
    test = doctest.DocTestParser().get_doctest(function.__doc__, {name: function}, name, None, None)
    assert test.examples
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0


@pytest.mark.parametrize("name", sorted(registry.functions()))
def test_signatures_are_readable(name):
    signature = inspect.signature(registry.functions()[name])
    assert list(signature.parameters)[:2] == ["y_true", "y_pred"]
    assert "Annotated" not in str(signature)
    assert "ops" not in signature.parameters


def test_positional_parameters_of_the_keras_pages():
    def positional(function):
        return [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD][2:]

    assert positional(lb.huber_loss) == ["delta"]
    assert positional(lb.categorical_crossentropy) == ["from_logits", "label_smoothing"]
    assert positional(lb.sparse_categorical_crossentropy) == ["from_logits", "axis"]
    assert positional(lb.binary_crossentropy) == ["from_logits", "label_smoothing"]
    assert positional(lb.cosine_proximity) == ["axis"]


def test_a_definition_that_cannot_be_called_by_name_is_refused():
    with pytest.raises(TypeError, match=r"@loss: crooked must take \(ops, y_true, y_pred"):

        @lb.loss
        def crooked(ops, y_true, *rest):
            return y_true


def test_a_users_loss_gets_every_guarantee(backend):
    @lb.loss(aliases=("power",))
    def power_error(ops, y_true, y_pred, exponent, *, axis=-1, epsilon=None):
        return ops.sum(ops.abs(y_pred - y_true) ** exponent + epsilon, axis=axis)

    y, p = np.zeros((2, 2), "float32"), np.array([[1, 2], [3, 4]], "float32")
    result = power_error(backend.tensor(y), backend.tensor(p), 2.0, epsilon=0.5, axis=0)
    assert backend.is_native(result)
    np.testing.assert_allclose(backend.numpy(result), [11.0, 21.0])
    np.testing.assert_allclose(backend.numpy(power_error(backend.tensor(y), backend.tensor(p), 1.0)), [3.0, 7.0], rtol=1e-6)
    with pytest.raises(TypeError, match="power_error: option exponent is missing"):
        power_error(backend.tensor(y), backend.tensor(p))
    with pytest.raises(TypeError, match="power_error: unknown option 'exponant', did you mean 'exponent'"):
        power_error(backend.tensor(y), backend.tensor(p), exponant=2)
    with pytest.raises(ValueError, match="power_error: y_true and y_pred must have the same shape"):
        power_error(backend.tensor(y), backend.tensor(p[:1]), 2.0)


def test_which_losses_are_means_of_their_entries():
    """Known from the formulas; of a user's it is found out, with other options than the defaults where there are none."""
    others = {"categorical_crossentropy", "sparse_categorical_crossentropy", "categorical_hinge", "cosine_similarity", "kl_divergence"}
    assert {name for name, function in registry.functions().items() if not function.definition.elementwise} == others

    @lb.loss
    def quantile(ops, y_true, y_pred, q):
        error = y_true - y_pred
        return ops.mean(ops.maximum(q * error, (q - 1.0) * error), axis=-1)

    @lb.loss
    def total(ops, y_true, y_pred):
        return ops.sum(ops.square(y_pred - y_true), axis=-1)

    @lb.loss
    def huber_of_the_root(ops, y_true, y_pred):
        """Elementwise while errors are small."""
        root = ops.sqrt(ops.mean(ops.square(y_pred - y_true), axis=-1))
        return ops.where(root < 1.0, 0.5 * ops.square(root), root - 0.5)

    @lb.loss
    def first_two(ops, y_true, y_pred):
        return ops.abs(y_pred[..., 0] - y_true[..., 1])

    with lb.checked():
        assert quantile.definition.elementwise is True
        for function in (total, huber_of_the_root, first_two):
            assert function.definition.elementwise is False
