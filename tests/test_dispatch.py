"""Which backend runs a call, and what importing the library does not do."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import chosen_backends, load

import lossbackend as lb
from lossbackend import dispatch

EXTRAS = {"torch": "torch", "jax": "jax", "tensorflow": "tensorflow"}
FOREIGN = [name for name in chosen_backends() if name != "numpy"]
ONE, THREE = [[1.0]], [[3.0]]


def chosen(y_true=ONE, y_pred=THREE):
    """The name of the backend that runs a call, by the type of its result."""
    result = lb.mse(y_true, y_pred)
    return next(name for name in chosen_backends() if load(name).is_native(result))


def run(code, **environment):
    """The code in a fresh interpreter, with no selection of this one's environment."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("LOSSBACKEND")}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env={**inherited, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}, timeout=300)


@pytest.fixture
def foreign(backend):
    """A backend other than the default one."""
    if backend.name == "numpy":
        pytest.skip("NumPy is what is chosen anyway")
    return backend


# The order of precedence


def test_numpy_is_the_default():
    assert chosen() == "numpy"
    assert chosen(np.array(ONE), np.array(THREE)) == "numpy"
    assert lb.get_backend().name == "numpy"


def test_a_tensor_decides_before_any_selection(foreign, monkeypatch):
    tensor = foreign.tensor(np.array(THREE, "float32"))
    monkeypatch.setenv("LOSSBACKEND", "numpy")
    lb.set_backend("numpy")
    with lb.use_backend("numpy"):
        for y_true in (ONE, np.array(ONE), tensor, 1.0 if foreign.shape(tensor) == () else ONE):
            assert foreign.is_native(lb.mse(y_true, tensor))
            assert foreign.is_native(lb.mse(tensor, y_true))
        assert foreign.is_native(lb.MeanSquaredError()(ONE, tensor))
        assert foreign.is_native(lb.MeanSquaredError()(ONE, THREE, sample_weight=foreign.tensor(np.ones(1, "float32"))))
        assert foreign.is_native(lb.MeanSquaredError()(ONE, THREE, mask=foreign.tensor(np.ones(1, bool))))


def test_a_block_wins_over_the_process_and_the_environment(foreign, monkeypatch):
    with lb.use_backend(foreign.name) as adapter:
        assert adapter.name == foreign.name
        assert chosen() == foreign.name
        assert lb.get_backend().name == foreign.name
        with lb.use_backend("numpy"):
            assert chosen() == "numpy"
        assert chosen() == foreign.name
    assert chosen() == "numpy"
    lb.set_backend(foreign.name)
    with lb.use_backend("numpy"):
        assert chosen() == "numpy"
    assert chosen() == foreign.name
    lb.set_backend(None)
    monkeypatch.setenv("LOSSBACKEND", foreign.name)
    with lb.use_backend("numpy"):
        assert chosen() == "numpy"


def test_a_block_ends_with_an_exception(foreign):
    with pytest.raises(KeyError), lb.use_backend(foreign.name):
        raise KeyError
    assert chosen() == "numpy"


def test_the_process_wins_over_the_environment(foreign, monkeypatch):
    monkeypatch.setenv("LOSSBACKEND", "numpy")
    lb.set_backend(foreign.name)
    assert chosen() == foreign.name
    lb.set_backend("numpy")
    monkeypatch.setenv("LOSSBACKEND", foreign.name)
    assert chosen() == "numpy"
    lb.set_backend(None)
    assert chosen() == foreign.name


def test_the_environment_is_read_at_each_call(foreign, monkeypatch):
    """Setting it after the import is not too late."""
    assert chosen() == "numpy"
    monkeypatch.setenv("LOSSBACKEND", foreign.name)
    assert chosen() == foreign.name
    assert lb.get_backend().name == foreign.name
    monkeypatch.setenv("LOSSBACKEND", "")
    assert chosen() == "numpy"
    monkeypatch.delenv("LOSSBACKEND")
    assert chosen() == "numpy"


def test_what_is_converted_goes_to_the_selected_framework(foreign):
    """Integers, booleans, lists of lists, numbers, and objects with __array__."""

    class Lazy:
        def __array__(self, dtype=None, copy=None):
            return np.array(THREE, dtype or "float32")

    with lb.use_backend(foreign.name):
        for y_pred in (THREE, [[3]], [[True]], np.array(THREE), np.array([[3]]), np.array([[True]]), 3.0, 3, np.float32(3), Lazy()):
            assert foreign.is_native(lb.mse(np.zeros(np.shape(y_pred if not isinstance(y_pred, Lazy) else THREE)), y_pred))
        assert foreign.dtype(lb.mse([[1]], [[3]])) == "float32"
        assert foreign.is_native(lb.scce([0, 1], np.eye(2, dtype="float32")))
        assert foreign.is_native(lb.to_categorical([0, 1]))


def test_one_call_one_framework():
    if len(FOREIGN) < 2:
        pytest.skip("needs two frameworks")
    tensors = {name: load(name).tensor(np.ones((2, 3), "float32")) for name in FOREIGN}
    for first in FOREIGN:
        for second in FOREIGN:
            if first != second:
                for loss in (lb.mse, lb.MeanSquaredError(), lb.MeanSquaredError().partial, lb.MeanSquaredError().call):
                    with pytest.raises(TypeError, match=f"(?i){first}") as info:
                        loss(tensors[first], tensors[second])
                    assert second in str(info.value).lower()


# Names


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        *[(name, name) for name in ("numpy", "torch", "jax", "tensorflow")],
        ("NumPy", "numpy"),
        ("NUMPY", "numpy"),
        ("np", "numpy"),
        ("NP", "numpy"),
        ("PyTorch", "torch"),
        ("pytorch", "torch"),
        ("TORCH", "torch"),
        ("JAX", "jax"),
        ("Jax", "jax"),
        ("tf", "tensorflow"),
        ("TF", "tensorflow"),
        ("TensorFlow", "tensorflow"),
    ],
)
def test_spellings_of_a_backend(spelling, name, monkeypatch):
    if name not in chosen_backends():
        pytest.skip(f"{name} is not among the chosen backends")
    load(name)
    assert lb.get_backend(spelling).name == name
    with lb.use_backend(spelling):
        assert lb.get_backend().name == name
    lb.set_backend(spelling)
    assert lb.get_backend().name == name
    lb.set_backend(None)
    monkeypatch.setenv("LOSSBACKEND", spelling)
    assert lb.get_backend().name == name


@pytest.mark.parametrize(
    ("unknown", "near"), [("torhc", "torch"), ("jaxx", "jax"), ("tensorfow", "tensorflow"), ("numpi", "numpy"), ("pytorhc", "torch")]
)
def test_unknown_names_get_near_matches(unknown, near, monkeypatch):
    def block():
        with lb.use_backend(unknown):
            pass

    def environment():
        monkeypatch.setenv("LOSSBACKEND", unknown)
        lb.mse(ONE, THREE)

    for attempt in (lambda: lb.get_backend(unknown), lambda: lb.set_backend(unknown), block, environment):
        with pytest.raises(ValueError, match=unknown) as info:
            attempt()
        assert near in str(info.value)
    assert "LOSSBACKEND" in str(info.value)


def test_a_name_like_none_lists_what_there_is():
    for name in ("theano", "os", "../torch", "numpy_backend", "lossbackend.backends.numpy_backend", "sys"):
        with pytest.raises(ValueError, match="numpy") as info:
            lb.get_backend(name)
        assert repr(name) in str(info.value)


def test_names_must_be_text():
    for name in (1, b"numpy", ["numpy"], np):
        with pytest.raises((TypeError, ValueError)):
            lb.get_backend(name)
        with pytest.raises((TypeError, ValueError)):
            lb.set_backend(name)


def test_a_failed_selection_changes_nothing(foreign):
    lb.set_backend(foreign.name)
    with pytest.raises(ValueError, match="nonsense"):
        lb.set_backend("nonsense")
    assert chosen() == foreign.name


def test_available_backends():
    available = lb.available_backends()
    assert "numpy" in available
    for name in chosen_backends():
        assert (name in available) is load(name).installed()
    assert all(lb.get_backend(name).name == name for name in chosen_backends())


# A backend from outside

OUTSIDE = """
import numpy as np
from lossbackend.backends.numpy_backend import NumpyOps

class Array(np.ndarray):
    pass

class Adapter(NumpyOps):
    name = "elsewhere"
    def is_tensor(self, x):
        return isinstance(x, Array)
    def asarray(self, x, like=None):
        return np.asarray(x).view(Array)

OPS = Adapter()
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a distribution whose module of that source ships the backend "elsewhere"."""

    def install(source, target="elsewhere:OPS"):
        (tmp_path / "elsewhere.py").write_text(source)
        folder = tmp_path / "lossbackend_elsewhere-1.5.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: lossbackend-elsewhere\nVersion: 1.5\n")
        (folder / "entry_points.txt").write_text(f"[lossbackend.backends]\nElsewhere = {target}\n")
        monkeypatch.syspath_prepend(tmp_path)
        dispatch._third_party_packages.cache_clear()

    monkeypatch.setattr(dispatch, "_loaded", {})
    monkeypatch.setattr(dispatch, "_third_party", ())
    yield install
    sys.modules.pop("elsewhere", None)
    dispatch._third_party_packages.cache_clear()


def test_tensors_from_outside_are_known_before_anybody_has_named_their_backend(install):
    install(OUTSIDE)
    import elsewhere

    assert "elsewhere" in lb.available_backends()
    tensor = np.array(THREE).view(elsewhere.Array)
    assert type(lb.mse(np.array(ONE), np.array(THREE))) is np.ndarray
    assert dispatch._loaded == {}
    found = lb.mse(ONE, tensor)
    assert (type(found), found.tolist()) == (elsewhere.Array, [4.0])
    assert lb.get_backend("ELSEWHERE") is elsewhere.OPS
    with pytest.raises(ValueError, match="Did you mean 'elsewhere'"):
        lb.get_backend("elsewere")


def test_tensors_from_outside_beside_a_framework(install, foreign):
    install(OUTSIDE)
    import elsewhere

    with pytest.raises(TypeError, match=f"two frameworks in one call.*{foreign.name}.*elsewhere tensor"):
        lb.mse(foreign.tensor(np.ones((1, 1), "float32")), np.array(THREE).view(elsewhere.Array))


@pytest.mark.parametrize(
    ("source", "target", "problem"),
    [
        ("1 / 0", "elsewhere:OPS", ": ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(4)", "elsewhere:OPS", ": SystemExit: 4"),
        (
            "class OPS:\n    pass\nOPS = OPS()\nOPS.name = 'elsewhere'",
            "elsewhere:OPS",
            "it has to be an adapter, an object whose name is 'elsewhere'",
        ),
        ("import nowhere_to_be_found", "elsewhere:OPS", ": ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        (OUTSIDE, "elsewhere:ADAPTER", ": AttributeError: module 'elsewhere' has no attribute 'ADAPTER'"),
        (OUTSIDE, "elsewhere:Adapter", ", which is <class 'elsewhere.Adapter'>: it has to be an adapter, an object whose name is 'elsewhere'"),
        ("from lossbackend.backends.numpy_backend import OPS", "elsewhere:OPS", ": it has to be an adapter, an object whose name is 'elsewhere'"),
    ],
)
def test_a_broken_backend_from_outside_is_named(install, monkeypatch, source, target, problem):
    install(source, target)
    with pytest.raises(ImportError) as info:
        lb.get_backend("elsewhere")
    message = str(info.value)
    assert message.startswith(f"the backend 'elsewhere' cannot be imported (its entry point is {target} of lossbackend-elsewhere 1.5")
    assert message.endswith(f"{problem}).")
    assert "\n" not in message
    # The others are none the worse for it.
    monkeypatch.setattr(dispatch, "BUILT_IN", ("numpy",))
    monkeypatch.setattr(dispatch, "SYMBOLIC", ())
    cli = pytest.importorskip("lossbackend.cli")
    numpy, *_, broken = sorted(cli.backend_records()["backends"], key=lambda record: record["name"] == "elsewhere")
    assert (numpy["name"], numpy["problem"]) == ("numpy", None)
    assert broken["problem"].startswith("cannot be imported: the backend 'elsewhere'")
    assert lb.mse(ONE, THREE).tolist() == [4.0]


def test_a_name_of_this_library_cannot_be_taken(install, tmp_path):
    install(OUTSIDE)
    (tmp_path / "lossbackend_elsewhere-1.5.dist-info" / "entry_points.txt").write_text("[lossbackend.backends]\nnumpy = elsewhere:OPS\n")
    assert lb.available_backends().count("numpy") == 1
    assert type(lb.get_backend("numpy")).__name__ == "NumpyOps"


# A framework that is not there

ABSENT = """
import sys
sys.modules[{package!r}] = None
import lossbackend as lb
assert lb.available_backends().count({name!r}) == 0 if hasattr(lb.available_backends(), "count") else {name!r} not in lb.available_backends()
def message(attempt):
    try:
        attempt()
    except ImportError as error:
        print(error)
    else:
        print("no ImportError")
def block():
    with lb.use_backend({name!r}):
        pass
def pinned():
    import lossbackend.{name}
    lossbackend.{name}.mse([[1.0]], [[2.0]])
message(lambda: lb.get_backend({name!r}))
message(lambda: lb.set_backend({name!r}))
message(block)
message(pinned)
import os
os.environ["LOSSBACKEND"] = {name!r}
message(lambda: lb.mse([[1.0]], [[2.0]]))
del os.environ["LOSSBACKEND"]
print(lb.mse([[1.0]], [[3.0]]).tolist())
"""


@pytest.mark.parametrize("name", EXTRAS)
def test_a_missing_framework_says_what_to_install(name):
    result = run(ABSENT.format(name=name, package=name))
    assert result.returncode == 0, result.stderr
    *messages, last = result.stdout.splitlines()
    lines = [line for line in messages if f'pip install "lossbackend[{EXTRAS[name]}]"' in line]
    assert len(lines) == 5, result.stdout
    assert last == "[4.0]"


# Threads


def test_a_block_is_not_seen_in_other_threads(foreign):
    seen = {}
    with lb.use_backend(foreign.name):
        thread = threading.Thread(target=lambda: seen.update(thread=lb.get_backend().name))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(1) as pool:
            seen["pool"] = pool.submit(lambda: lb.get_backend().name).result()
        assert chosen() == foreign.name
    assert seen == {"thread": "numpy", "pool": "numpy"}


def test_the_process_wide_choice_is_seen_in_other_threads(foreign):
    lb.set_backend(foreign.name)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: lb.get_backend().name).result() == foreign.name
        assert foreign.is_native(pool.submit(lambda: lb.mse(ONE, THREE)).result())


def test_blocks_of_several_threads_do_not_mix():
    """Each thread keeps its own selection while the others change theirs."""
    names = chosen_backends()
    for name in names:
        load(name)
    barrier = threading.Barrier(len(names))

    def work(name):
        for _ in range(20):
            with lb.use_backend(name):
                barrier.wait()
                if lb.get_backend().name != name:
                    return False
                barrier.wait()
        return True

    with ThreadPoolExecutor(len(names)) as pool:
        assert all(pool.map(work, names))


def test_many_threads_may_compute_at_once(backend):
    y_pred = np.arange(12, dtype="float32").reshape(4, 3)
    exact = (y_pred.astype("float64") ** 2).mean(axis=-1)

    def work(_):
        return backend.numpy(lb.mse(backend.tensor(np.zeros_like(y_pred)), backend.tensor(y_pred)))

    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(work, range(64)):
            np.testing.assert_allclose(result, exact, rtol=1e-6)


def test_the_errstate_of_the_caller_is_kept():
    """A user who asks NumPy to raise gets no exception from edge values that have a defined loss, and keeps the setting."""
    with np.errstate(all="raise"):
        np.testing.assert_allclose(lb.bce(np.array([[1.0]]), np.array([[0.0]])), [16.11809565], rtol=1e-6)
        assert np.isinf(lb.mse(np.array([[0.0]]), np.array([[np.inf]])))[0]
        assert np.geterr()["divide"] == "raise"


# STRICT


STRICT = """
import numpy as np, lossbackend as lb, {package} as framework
tensor = {tensor}
def attempt(function):
    try:
        function()
    except (TypeError, ValueError) as error:
        print(type(error).__name__, str(error).lower())
    else:
        print("accepted")
attempt(lambda: lb.mse(tensor, tensor))
with lb.use_backend({name!r}):
    attempt(lambda: lb.mse(tensor, tensor))
    attempt(lambda: lb.mse([[1.0]], tensor))
lb.set_backend({name!r})
attempt(lambda: lb.mse(tensor, tensor))
attempt(lambda: lb.mse([[1.0]], [[1.0]]))
"""
TENSORS = {"torch": "framework.ones((1, 1))", "jax": "framework.numpy.ones((1, 1))", "tensorflow": "framework.ones((1, 1))"}


@pytest.mark.parametrize("name", EXTRAS)
def test_strict(name):
    """With LOSSBACKEND_STRICT=1 a tensor of another framework than the selected one is an error, naming both."""
    if name not in chosen_backends():
        pytest.skip(f"{name} is not among the chosen backends")
    load(name)
    code = STRICT.format(name=name, package=name, tensor=TENSORS[name])
    strict = run(code, LOSSBACKEND_STRICT="1")
    assert strict.returncode == 0, strict.stderr
    first, *others = strict.stdout.splitlines()
    assert first.split()[0] in ("TypeError", "ValueError")
    assert name in first
    assert "numpy" in first
    assert others == ["accepted"] * 4


def test_not_strict():
    """Unset, empty and 0 are all off."""
    if "torch" not in chosen_backends():
        pytest.skip("torch is not among the chosen backends")
    load("torch")
    code = STRICT.format(name="torch", package="torch", tensor=TENSORS["torch"])
    for environment in ({}, {"LOSSBACKEND_STRICT": "0"}, {"LOSSBACKEND_STRICT": ""}):
        lax = run(code, **environment)
        assert lax.stdout.splitlines() == ["accepted"] * 5, (environment, lax.stdout, lax.stderr)


# Importing


MODULES = ["lossbackend", "lossbackend.losses", "lossbackend.objectives", "lossbackend.utils.np_utils", "lossbackend.testing", "lossbackend.numpy"]
PROBE = """
import sys
{imports}
heavy = {{"torch", "jax", "jaxlib", "tensorflow", "keras", "pandas", "mpmath", "matplotlib", "scipy"}}
print(sorted(heavy & {{name.split(".")[0] for name in sys.modules}}))
"""


def imported(imports):
    """The frameworks that a fresh interpreter holds after the statements."""
    result = run(PROBE.format(imports=imports))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


@pytest.mark.parametrize("module", MODULES)
def test_importing_the_library_imports_no_framework(module):
    assert imported(f"import {module}") == "[]\n"


def test_using_the_library_on_numpy_imports_no_framework():
    code = """
import lossbackend as lb, numpy as np
lb.mse([[1.0]], [[2.0]])
lb.CategoricalCrossentropy()(np.eye(2), np.eye(2), sample_weight=[1.0, 2.0], mask=[True, False])
lb.get("mse"), lb.get("Huber"), lb.deserialize(lb.serialize(lb.Huber())), lb.to_categorical([0, 1]), lb.available_backends()
with lb.use_backend("numpy"):
    lb.bce([[1.0]], [[0.5]])
"""
    assert imported(code) == "[]\n"


def test_the_probe_can_fail():
    """It notices an import that does happen."""
    names = [name for name in FOREIGN if load(name).installed()]
    if not names:
        pytest.skip("needs a framework")
    assert names[0] in imported(f"import {names[0]}")


CONFIGURATION = {
    "torch": "m.get_default_dtype(), m.get_num_threads(), m.is_grad_enabled(), m.get_default_device(), m.are_deterministic_algorithms_enabled()",
    "jax": "m.config.jax_enable_x64, m.config.jax_default_matmul_precision, m.config.jax_debug_nans, m.config.jax_platforms",
    "tensorflow": "m.executing_eagerly(), m.config.threading.get_intra_op_parallelism_threads(), m.config.optimizer.get_jit()",
    "numpy": "m.geterr(), m.get_printoptions()",
}
USE = """
import os, {package} as m
os.chdir({work!r})
before = [{configuration}]
import lossbackend as lb
import lossbackend.{name} as pinned
with lb.use_backend({name!r}):
    lb.mse([[1.0]], [[2.0]]), lb.Huber()([[1.0]], [[2.0]]), lb.scce([0], [[0.5, 0.5]], from_logits=True), pinned.mae([[1.0]], [[2.0]])
assert before == [{configuration}]
"""


def test_importing_and_using_leave_no_trace(tmp_path, backend):
    """Nothing is printed, no file is written, and the framework's configuration stays."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    code = USE.format(package=backend.package, name=backend.name, work=str(work), configuration=CONFIGURATION[backend.name])
    folders = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "XDG_CONFIG_HOME": str(home / "config")}
    result = run(code, PYTHONDONTWRITEBYTECODE="1", **folders)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    written = [str(path) for path in tmp_path.rglob("*") if path.is_file()]
    if backend.name == "tensorflow":  # its C++ start-up messages, and the keras.json and font list of the Keras that it imports
        assert [line for line in result.stderr.splitlines() if "lossbackend" in line.lower()] == []
        written = [path for path in written if path.startswith(str(work)) or "lossbackend" in path.removeprefix(str(tmp_path))]
    else:
        assert result.stderr == ""
    assert written == []
