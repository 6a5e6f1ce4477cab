"""A backend from outside: MLX, whose adapter is a distribution of its own in lossbackend-mlx/. Expected values are textbook formulas."""

import json
import math
import pickle
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from reference import gradient, value

import lossbackend as lb
from lossbackend import cli, registry
from lossbackend.testing import assert_parity, check_backend

HERE = Path(__file__).parent
ADAPTER = HERE / "lossbackend-mlx" / "lossbackend_mlx.py"
PAGE = HERE.parents[1] / "docs" / "engines" / "adapter.md"

RNG = np.random.default_rng(0)
Y, P = RNG.normal(size=(2, 5, 4))
SHARES = RNG.dirichlet(np.ones(4), 5)
PROBABILITIES = RNG.uniform(0.05, 0.95, (5, 4))
ONE_HOT = np.eye(4)[[0, 3, 1, 2, 2]]
IDS = np.array([0, 3, 1, 2, 2])
BITS = (RNG.random((5, 4)) > 0.5).astype(float)
WEIGHTS, MASK = np.array([1.0, 0.0, 2.0, 0.5, 1.0]), np.array([True, True, False, True, True])

CASES = [
    ("mean_squared_error", Y, P, {}),
    ("mean_absolute_error", Y, P, {}),
    ("mean_absolute_percentage_error", Y, P, {}),
    ("mean_squared_logarithmic_error", np.abs(Y), np.abs(P), {}),
    ("log_cosh", Y, P, {}),
    ("log_cosh", Y, 30 * P, {}),
    ("huber", Y, 2 * P, {"delta": 0.7}),
    ("cosine_similarity", Y, P, {}),
    ("hinge", BITS, P, {}),
    ("squared_hinge", BITS, P, {"labels": "binary"}),
    ("categorical_hinge", ONE_HOT, P, {}),
    ("categorical_crossentropy", ONE_HOT, SHARES, {"label_smoothing": 0.1}),
    ("categorical_crossentropy", SHARES, 5 * P, {"from_logits": True}),
    ("sparse_categorical_crossentropy", IDS, SHARES, {}),
    ("sparse_categorical_crossentropy", IDS, 30 * P, {"from_logits": True, "class_weight": (1.0, 2.0, 0.5, 3.0)}),
    ("binary_crossentropy", BITS, PROBABILITIES, {}),
    ("binary_crossentropy", BITS, 20 * P, {"from_logits": True, "pos_weight": 3.0}),
    ("kl_divergence", SHARES, SHARES[::-1].copy(), {}),
    ("kl_divergence", SHARES, P, {"from_logits": True}),
    ("poisson", 5 * SHARES, PROBABILITIES, {}),
    ("poisson", 5 * SHARES, P, {"log_input": True}),
]


@pytest.fixture(scope="module", autouse=True)
def kernels(tmp_path_factory):
    """mx.compile keeps what g++ has made of a loss, in seconds for each kernel, in the folder for temporary files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("kernels")))
        yield


def array(x, dtype=mx.float32):
    """MLX makes float32 of NumPy's float64 by itself."""
    return mx.array(x, dtype) if np.asarray(x).dtype.kind == "f" else mx.array(x)


def exactly(x):
    """As Python's numbers, which hold those of a float32."""
    return np.array(x).astype(np.float64).tolist() if np.array(x).dtype.kind == "f" else np.array(x).tolist()


def test_every_loss_has_a_case():
    assert {name for name, *_ in CASES} == set(registry.functions())


# The contract, and who finds the adapter


def test_the_contract():
    check_backend("mlx")


def test_who_breaks_the_contract_is_told_so():
    from lossbackend_mlx import MlxOps

    class Careless(MlxOps):
        exp = staticmethod(mx.exp)

        def relu(self, x):
            return mx.maximum(x, 0)

    with pytest.raises(AssertionError, match="'mlx' breaks the Ops contract") as info:
        check_backend(Careless())
    lines = str(info.value).splitlines()
    assert any(line.startswith("float64: exp: ") and re.search(r"\(up to 3\.\d+e\+08 ulps off, 6 are allowed\)", line) for line in lines)
    assert any(line.startswith("float32: gradient of relu at ") for line in lines)
    assert not any("take_class" in line for line in lines)


def test_it_is_found_by_its_name(monkeypatch):
    assert "mlx" in lb.available_backends()
    assert isinstance(lb.mse([[1.0]], [[3.0]]), np.ndarray)
    with lb.use_backend("MLX") as ops:
        assert ops.name == "mlx"
        assert isinstance(lb.mse([[1.0]], [[3.0]]), mx.array)
    monkeypatch.setenv("LOSSBACKEND", "mlx")
    found = lb.Huber()(np.zeros((2, 1)), [[0.5], [3.0]], sample_weight=np.array([1.0, 2.0]))
    assert isinstance(found, mx.array)
    assert found.item() == (0.125 + 2 * 2.5) / 2
    assert lb.to_categorical([0, 2]).tolist() == [[1, 0, 0], [0, 0, 1]]
    with pytest.raises(ValueError, match=r"unknown backend 'mxl'\. Did you mean 'mlx'"):
        lb.get_backend("mxl")


FIRST = """
import sys
import mlx.core as mx
import numpy as np
import lossbackend as lb
assert "lossbackend_mlx" not in sys.modules
{before}
x = mx.array([1.0, 3.0])
print(lb.mse(mx.zeros(2), x), mx.grad(lambda x: lb.mse(np.zeros(2), x))(x).tolist())
"""


@pytest.mark.parametrize("before", ["", "lb.mse(np.float32([1]), np.float32([2]))", "import lossbackend_mlx"])
def test_its_tensors_are_known_before_anybody_has_named_it(before):
    """NumPy, which reads them too, would lose the gradient."""
    result = subprocess.run([sys.executable, "-W", "error", "-c", FIRST.format(before=before)], capture_output=True, text=True, timeout=100)
    assert (result.stdout, result.stderr) == ("array(5, dtype=float32) [1.0, 3.0]\n", "")


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("y.npy", IDS)
    np.save("z.npy", 3 * P)
    assert cli.main(["evaluate", "scce", "y.npy", "z.npy", "--backend", "mlx", "--option", "from_logits=true", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["backend"], record["dtype"]) == ("mlx", "float64")
    z = 3 * P
    assert math.isclose(record["value"], (np.log(np.exp(z).sum(axis=1)) - z[np.arange(5), IDS]).mean(), rel_tol=1e-14)
    assert cli.main(["evaluate", "mse", "z.npy", "z.npy", "--backend", "mxl"]) == 2
    assert "Did you mean 'mlx'" in capsys.readouterr().err


def test_the_list_of_backends(monkeypatch):
    monkeypatch.setattr("lossbackend.dispatch.BUILT_IN", ("numpy",))
    monkeypatch.setattr("lossbackend.dispatch.SYMBOLIC", ())
    numpy, mlx = cli.backend_records()["backends"]
    assert mlx == {**numpy, "name": "mlx", "version": metadata.version("mlx"), "device": None}


# Values and gradients


@pytest.mark.parametrize(("name", "y", "p", "options"), CASES)
@pytest.mark.parametrize(("dtype", "ulp"), [(mx.float32, 2.0**-23), (mx.float64, 2.0**-52)])
def test_values_and_gradients(name, y, p, options, dtype, ulp):
    loss = getattr(lb, name)
    y, p = array(y, dtype), array(p, dtype)
    found = loss(y, p, **options)
    slopes = mx.grad(lambda p: loss(y, p, **options).sum())(p)
    assert found.dtype == slopes.dtype == dtype
    for y_one, p_one, got, slope in zip(exactly(y), exactly(p), exactly(found), exactly(slopes), strict=True):
        exact, scale = value(name, y_one, p_one, **options)
        assert abs(got - exact) <= 4 * ulp * max(scale, ulp)
        exact = np.array([float(x) for x in gradient(name, y_one, p_one, **options)])
        # A softmax is rounded relative to 1.
        np.testing.assert_allclose(slope, exact, rtol=8 * ulp, atol=2 * ulp * max(1.0, np.abs(exact).max()))


def test_kinks_and_edges():
    """Pinned, whatever mx.abs, mx.maximum and mx.clip have there."""
    slopes = mx.grad(lambda p: lb.mae(mx.zeros((1, 2)), p).sum())(mx.array([[0.0, 2.0]]))
    assert slopes.tolist() == [[0.0, 0.5]]
    assert mx.grad(lambda p: lb.hinge(mx.ones((1, 1)), p).sum())(mx.ones((1, 1))).tolist() == [[0.0]]
    assert lb.bce(mx.array([[1.0, 0.0]]), mx.array([[mx.inf, -mx.inf]]), from_logits=True).tolist() == [0.0]
    assert lb.mse(mx.zeros((2, 1)), mx.array([[mx.nan], [2.0]])).tolist()[1] == 4.0
    assert lb.mse(mx.zeros((0, 3)), mx.zeros((0, 3))).shape == (0,)


@pytest.mark.parametrize("half", [mx.float16, mx.bfloat16])
def test_half_precision_is_computed_in_float32(half):
    p = mx.array([[300.0, 0.0]], half)
    assert (lb.mse(mx.zeros((1, 2), half), p).dtype, lb.mse(mx.zeros((1, 2)), p).item()) == (mx.float32, 45000.0)
    slope = mx.grad(lambda p: lb.mse(mx.zeros((1, 2)), p).sum())(p)
    assert (slope.dtype, slope.tolist()) == (half, [[300.0, 0.0]])


def test_curvature():
    """1 − tanh² of log cosh, by two reverse passes."""
    p = array(P, mx.float64)
    slope = mx.grad(lambda p: lb.log_cosh(array(Y, mx.float64), p).sum())
    found = mx.grad(lambda p: slope(p).sum())(p)
    np.testing.assert_allclose(np.array(found), (1 - np.tanh(P - Y) ** 2) / 4, rtol=1e-12)


def test_loss_objects_with_weights_and_masks():
    y, p = array(Y), array(P).at[2].add(mx.nan)
    errors = ((np.float32(Y) - np.float32(P)) ** 2).mean(axis=1)
    kept = np.where(MASK, WEIGHTS, 0.0)
    total = sum(w * e for w, e in zip(kept, errors, strict=True))
    for reduction, expected in (("sum", total), ("mean", total / MASK.sum()), ("mean_with_sample_weight", total / kept.sum())):
        loss = lb.MeanSquaredError(reduction)
        for weights, mask in ((WEIGHTS, MASK), (array(WEIGHTS), array(MASK))):
            found, slope = mx.value_and_grad(lambda p, loss=loss, w=weights, m=mask: loss(y, p, sample_weight=w, mask=m))(p)
            assert math.isclose(found.item(), expected, rel_tol=1e-6)
            assert (np.array(slope)[~(kept > 0)] == 0).all()
        parts = [loss.partial(y[part], p[part], array(WEIGHTS)[part], array(MASK)[part]) for part in (slice(0, 2), slice(2, 5))]
        assert math.isclose(sum(parts).result().item(), expected, rel_tol=1e-6)


@lb.loss
def charbonnier(ops, y_true, y_pred, *, scale=1e-3):
    """A user's own."""
    return ops.mean(ops.sqrt(ops.square(y_pred - y_true) + scale**2), axis=-1)


def test_a_loss_of_ones_own():
    y, p = array(Y), array(P)
    expected = np.sqrt((np.float32(Y) - np.float32(P)) ** 2 + 4.0).mean(axis=1)
    for loss in (charbonnier, lb.jit(charbonnier)):
        found = loss(y, p, scale=2.0) if loss is not charbonnier else charbonnier(y, p, scale=mx.array(2.0))
        np.testing.assert_allclose(np.array(found), expected, rtol=1e-6)


# Compiled and mapped


def test_compiled_and_mapped():
    y, p = array(Y), array(P)
    errors = np.array(exactly(p)) - np.array(exactly(y))
    for transformed in (mx.compile(lb.mse), mx.vmap(lb.mse)):
        np.testing.assert_allclose(np.array(transformed(y, p)), (errors**2).mean(axis=1), rtol=1e-6)
    slope = mx.compile(mx.grad(lambda p: lb.mse(y, p).sum()))(p)
    np.testing.assert_allclose(np.array(slope), errors / 2, rtol=1e-6)


def test_bad_labels():
    """An error where there are values, also while differentiating; NaN for the sample where there are none, with 2**32 + 1 too, which wraps to 1."""
    ids, p = mx.array([0, 2**32 + 1]), mx.array([[0.5, 0.5], [0.5, 0.5]])
    for call in (lb.scce, lambda ids, p: mx.grad(lambda p: lb.scce(ids, p).sum())(p)):
        with pytest.raises(ValueError, match=r"class ids from 0 to 1 .*4294967297 at index 1"):
            call(ids, p)
    first, second = mx.vmap(lb.scce)(ids, p).tolist()
    assert math.isclose(first, math.log(2), rel_tol=1e-6)
    assert math.isnan(second)
    if shutil.which("g++"):
        # Without it mx.compile traces nothing.
        assert mx.compile(lb.scce)(ids, p).shape == (2,)


# Beside other frameworks


def test_two_frameworks_in_one_call():
    import torch

    for arguments in ((torch.zeros(1, 2), mx.zeros((1, 2))), (mx.zeros((1, 2)), torch.zeros(1, 2))):
        with pytest.raises(TypeError, match=r"two frameworks in one call.*mlx tensor"):
            lb.mse(*arguments)


def test_parity():
    # Float64 input stays what it is.
    assert_parity(lb.log_cosh, Y, P, backends=["numpy", "mlx", "mpmath"])
    assert_parity(charbonnier, Y.astype("float32"), P.astype("float32"), backends=["numpy", "mlx", "torch"])


def test_parity_of_every_loss(capsys):
    code = cli.main(["parity", "--backend", "mlx", "--backend", "torch", "--dtype", "float32"])
    out, err = capsys.readouterr()
    assert (code, out.splitlines()[-1].rpartition(": ")[2]) == (0, "no breach"), out + err


def test_pinned():
    import lossbackend_mlx as lm
    import torch

    import lossbackend.numpy as ln

    assert isinstance(lm.mse([[1.0]], [[3.0]]), mx.array)
    assert pickle.loads(pickle.dumps(lm.mse)) is lm.mse
    assert pickle.loads(pickle.dumps(lm.Huber(2.0))) == lm.Huber(2.0) != lb.Huber(2.0)
    assert type(lm.get("Huber")) is lm.Huber
    tensor = torch.zeros(1)
    with pytest.raises(TypeError, match="takes mlx tensors and NumPy arrays, got a torch tensor"):
        lm.mse(tensor, tensor)
    with pytest.raises(TypeError, match=r"got a mlx tensor\. Use lossbackend\.mean_squared_error"):
        ln.mse(mx.zeros(1), mx.zeros(1))


def test_a_mean_of_many_samples():
    """mx.mean of a million float32 is off by a percent."""
    y_pred = mx.full((1_000_000, 1), 0.1)
    assert math.isclose(lb.MeanAbsoluteError()(mx.zeros((1_000_000, 1)), y_pred).item(), np.float32(0.1), rel_tol=1e-6)


def test_softmax_regression():
    """On scikit-learn's digits, by the gradient of one loss object."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = mx.array((digits.data / 16).astype("float32")), mx.array(digits.target)
    loss = lb.SparseCategoricalCrossentropy(from_logits=True)
    weights = mx.zeros((64, 10))
    step = mx.value_and_grad(lambda weights: loss(y, x @ weights))
    losses = []
    for _ in range(60):
        found, slope = step(weights)
        weights = weights - 2.0 * slope
        mx.eval(found, weights)
        losses.append(found.item())
    assert math.isclose(losses[0], math.log(10), rel_tol=1e-6)
    assert losses[-1] < 0.3
    assert (mx.argmax(x @ weights, axis=1) == y).astype(mx.float32).mean().item() > 0.94


# The page


def test_the_page_shows_the_adapter():
    page, code = PAGE.read_text(), ADAPTER.read_text()
    assert f"```python\n{code}```" in page
    lines = sum(bool(line.strip()) for line in code.splitlines())
    assert page.startswith(f"# Add a backend in {lines} lines\n")
    toml = (ADAPTER.parent / "pyproject.toml").read_text()
    assert f"```toml\n{toml}```" in page


def test_the_page_names_every_primitive():
    from lossbackend.backends.composed import ComposedOps
    from lossbackend.ops import Ops

    inherited = {name for name in vars(Ops) if not name.startswith("_") and name in vars(ComposedOps)} | {"differentiable"}
    rows = re.findall(r"^\| (you write|inherited)[^|]*\| (.*?) \|", PAGE.read_text(), flags=re.MULTILINE)
    table = {kind: {name for row, names in rows if row == kind for name in re.findall(r"`([a-z]\w*)`", names)} for kind in ("you write", "inherited")}
    assert table["inherited"] == inherited
    assert table["you write"] == {"name"} | {name for name in vars(Ops) if not name.startswith("_")} - inherited


def test_page(run_page):
    run_page("engines/adapter")
