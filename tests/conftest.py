"""Which backends the tests run on, and a clean state around each test."""

import doctest
import os
import re
from pathlib import Path

import pytest
from frameworks import FRAMEWORKS

DOCS = Path(__file__).resolve().parent.parent / "docs"
CHOICE = "LOSSBACKEND_TEST_BACKENDS"
REQUIRE = "LOSSBACKEND_TEST_REQUIRE"
_loaded = {}


def chosen_backends():
    """The names in LOSSBACKEND_TEST_BACKENDS, all when it is not set."""
    names = [name.strip() for name in os.environ.get(CHOICE, "").split(",") if name.strip()] or list(FRAMEWORKS)
    unknown = [name for name in names if name not in FRAMEWORKS]
    if unknown:
        raise pytest.UsageError(f"{CHOICE}: unknown backends {', '.join(unknown)} (known: {', '.join(FRAMEWORKS)})")
    return names


def load(name):
    """The framework called that; where it is not installed a visible skip, or a failure when LOSSBACKEND_TEST_REQUIRE=1."""
    if not FRAMEWORKS[name].installed():
        if os.environ.get(REQUIRE, "") not in ("", "0"):
            pytest.fail(f"{name} is not installed, and {REQUIRE} asks for every chosen backend", pytrace=False)
        pytest.skip(f"{name} is not installed")
    if name not in _loaded:
        _loaded[name] = FRAMEWORKS[name]()
    return _loaded[name]


def pytest_configure(config):
    chosen_backends()


def pytest_generate_tests(metafunc):
    if "backend" in metafunc.fixturenames:
        differentiable = "differentiable" in metafunc.fixturenames
        names = [name for name in chosen_backends() if FRAMEWORKS[name].grad or not differentiable]
        metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture
def backend(request):
    """One framework helper (see frameworks.py); a test with dtype="float64" runs where float64 tensors exist."""
    framework = load(request.param)
    if request.node.callspec.params.get("dtype") == "float64":
        with framework.double_precision():
            yield framework
    else:
        yield framework


@pytest.fixture
def differentiable(backend):
    """A backend that can differentiate."""
    return backend


@pytest.fixture(autouse=True)
def clean_state(monkeypatch):
    """No selection of the surrounding shell reaches a test, and none of a test's reaches the next."""
    import lossbackend as lb

    for variable in ("LOSSBACKEND", "LOSSBACKEND_STRICT", "LOSSBACKEND_CHECK"):
        monkeypatch.delenv(variable, raising=False)
    epsilon = lb.epsilon()
    yield
    lb.set_epsilon(epsilon)
    lb.set_backend(None)


@pytest.fixture
def run_page(monkeypatch, tmp_path):
    """Runs every Python block of a page of docs/, named without its suffix, as one session, in an empty folder."""

    def run(name):
        page = DOCS / f"{name}.md"
        code = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL))
        test = doctest.DocTestParser().get_doctest(code, {}, page.stem, str(page), 0)
        assert test.examples
        monkeypatch.chdir(tmp_path)
        assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS).run(test).failed == 0

    return run
