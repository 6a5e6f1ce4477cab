"""The pytest plugin in projects that are not this one: each test writes one, and runs pytest in it."""

import pytest
from conftest import chosen_backends
from frameworks import FRAMEWORKS

pytest_plugins = ["pytester"]

BACKENDS = """
import numpy as np, pytest
import lossbackend as lb

def test_value(backend):
    result = lb.mse(backend.tensor([[0.0, 1.0]]), backend.tensor([[1.0, 3.0]]))
    assert backend.ops.is_tensor(result)
    np.testing.assert_allclose(backend.numpy(result), [2.5])
"""
PROBE = """
import sys

def {hook}:
    heavy = {{"torch", "jax", "tensorflow", "hypothesis", "mpmath", "lossbackend.testing", "lossbackend.losses.objects"}}
    print("IMPORTED", sorted(heavy & set(sys.modules)))
"""
# What a project's conftest.py can do to look like a machine without a framework.
WITHOUT = "import sys\nfor name in {names}:\n    sys.modules[name] = None\n"


def needs_torch():
    # Not imported here: pytester takes what a test imports out of sys.modules again, and torch cannot be imported twice.
    if not FRAMEWORKS["torch"].installed():
        pytest.skip("torch is not installed")


@pytest.fixture
def project(pytester, monkeypatch):
    """A foreign project: run(files..., options) is pytest in a process of its own."""
    for variable in ("PYTEST_ADDOPTS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")

    def run(code, *options, without=None):
        absent = [name for name in ("torch", "jax", "tensorflow") if without is None or name in without]
        pytester.makeconftest(WITHOUT.format(names=absent))
        pytester.makepyfile(code)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error", "--strict-markers", *options)

    return run


def test_a_test_runs_once_per_backend(project):
    here = [name for name in chosen_backends() if FRAMEWORKS[name].installed()]
    result = project(BACKENDS, "-v", "--lossbackend-backends", ",".join(here), without=())
    result.assert_outcomes(passed=len(here))
    result.stdout.fnmatch_lines([f"*::test_value[[]{name}[]] PASSED*" for name in here])


def test_only_what_is_installed_by_default(project):
    result = project(BACKENDS, "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*::test_value[[]numpy[]] PASSED*"])


def test_collection_imports_no_framework(pytester):
    pytester.makeconftest(PROBE.format(hook="pytest_collection_finish(session)"))
    pytester.makepyfile(BACKENDS)
    result = pytester.runpytest_subprocess("--collect-only", "-q", "-s", "-p", "no:hypothesispytest")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*::test_value[[]numpy[]]", "*IMPORTED [[][]]"])


def test_a_run_that_does_not_use_it_imports_nothing_else(pytester):
    pytester.makeconftest(PROBE.format(hook="pytest_unconfigure()"))
    pytester.makepyfile("def test_it():\n    pass\n")
    result = pytester.runpytest_subprocess("-s", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*IMPORTED [[][]]"])


def test_the_probe_can_fail(pytester):
    pytester.makeconftest(PROBE.format(hook="pytest_unconfigure()"))
    pytester.makepyfile("import lossbackend.testing\n\ndef test_it():\n    pass\n")
    pytester.runpytest_subprocess("-s", "-p", "no:hypothesispytest").stdout.fnmatch_lines(["*IMPORTED [[]'lossbackend.testing'[]]"])


def test_a_missing_framework_is_a_visible_skip_when_chosen(project):
    result = project(BACKENDS, "--lossbackend-backends", "NumPy,pytorch", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*the backend torch is not installed"])


@pytest.mark.parametrize(("required", "errors"), [("torch", 1), ("all", 3), ("numpy", 0)])
def test_a_missing_framework_is_a_failure_when_required(project, required, errors):
    result = project(BACKENDS, "--lossbackend-require", required)
    result.assert_outcomes(passed=1, errors=errors)
    assert (result.ret != 0) == bool(errors)
    if errors:
        result.stdout.fnmatch_lines(["*the backend torch is not installed, and --lossbackend-require asks for it*"])


def test_all_that_was_chosen_is_required(project):
    project(BACKENDS, "--lossbackend-backends=numpy", "--lossbackend-require=all").assert_outcomes(passed=1)
    project(BACKENDS, "--lossbackend-backends=numpy,jax", "--lossbackend-require=all").assert_outcomes(passed=1, errors=1)


def test_parity_fails_without_what_is_required(project):
    code = "import lossbackend as lb\n\ndef test_it(parity):\n    parity(lb.mse, [[0.0]], [[1.0]])\n"
    project(code, "--lossbackend-require=jax").assert_outcomes(errors=1)
    result = project(code, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*parity takes two backends, and there is numpy"])


@pytest.mark.parametrize("option", ["--lossbackend-backends", "--lossbackend-require"])
def test_unknown_names_are_usage_errors(project, option):
    assert project(BACKENDS, option, "numpy,mpmath").ret == pytest.ExitCode.USAGE_ERROR
    result = project(BACKENDS, option, "numpy,tensorflwo")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {option}: unknown backend 'tensorflwo'. Did you mean 'tensorflow'?*"])


MARKED = """
import pytest

@pytest.mark.lossbackend_backends("np")
def test_selected(backend):
    assert backend.name == "numpy"

@pytest.mark.lossbackend_backends("torch", "jax")
@pytest.mark.parametrize("number", [1, 2])
def test_elsewhere(backend, number):
    raise AssertionError

@pytest.mark.lossbackend_skip("numpy", reason="no gradients there")
def test_skipped(backend):
    raise AssertionError

@pytest.mark.lossbackend_skip("jax", "tensorflow", reason="of another one")
def test_not_skipped(backend):
    pass

@pytest.mark.lossbackend_xfail("numpy", reason="known")
def test_expected_failure(backend):
    raise AssertionError

@pytest.mark.lossbackend_xfail("numpy", reason="known", strict=True)
def test_unexpected_success(backend):
    pass

@pytest.mark.lossbackend_xfail("numpy", reason="known", strict=False)
def test_lucky(backend):
    pass

@pytest.mark.lossbackend_backends("torch")
class TestMine:
    @pytest.mark.lossbackend_backends("numpy")
    def test_closest_marker(self, backend):
        pass

    def test_without_the_fixture(self):
        pass
"""


def test_markers(project):
    result = project(MARKED, "-rsxX")
    result.assert_outcomes(passed=4, skipped=2, failed=1, xfailed=1, xpassed=1, deselected=1)
    result.stdout.fnmatch_lines_random(
        [
            "SKIPPED*no gradients there",
            "SKIPPED*none of its backends (torch, jax) is installed here and selected",
            "XFAIL*test_expected_failure*known",
            "XPASS*test_lucky*known",
            "*XPASS(strict)*known*",
        ]
    )


def test_markers_choose_among_backends(project):
    needs_torch()
    code = """
import pytest
pytestmark = pytest.mark.lossbackend_backends("torch")

@pytest.mark.parametrize("number", [1, 2])
def test_selected(backend, number):
    assert backend.name == "torch"
"""
    project(code, without=("jax", "tensorflow")).assert_outcomes(passed=2, deselected=2)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("lossbackend_skip('jax')", "test_it*: lossbackend_skip needs a reason, as in lossbackend_skip('jax', reason='...')"),
        ("lossbackend_xfail('jax', reason=' ')", "test_it*: lossbackend_xfail needs a reason*"),
        ("lossbackend_skip('jaks', reason='x')", "test_it*: lossbackend_skip: unknown backend 'jaks'. Did you mean 'jax'?*"),
        ("lossbackend_skip(reason='x')", "test_it*: lossbackend_skip needs the name of a backend*"),
        ("lossbackend_skip('jax', reason='x', strict=True)", "test_it*: lossbackend_skip takes reason, got reason, strict"),
        ("lossbackend_backends()", "test_it*: lossbackend_backends needs the name of a backend, as in lossbackend_backends('torch')"),
        ("lossbackend_backends('jax', reason='x')", "test_it*: lossbackend_backends takes names only*"),
        ("lossbackend_backends(3)", "test_it*: lossbackend_backends: a backend is named by a string, got 3"),
    ],
)
def test_a_marker_that_says_too_little_is_a_usage_error(project, marker, message):
    result = project(f"import pytest\n\n@pytest.mark.{marker}\ndef test_it(backend):\n    pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{message}"])


PARITY = """
import pytest
import lossbackend as lb

ARGUMENTS = [[0.0, 1.0]], [[3.0, 1.0]]

@lb.loss
def crooked(ops, y_true, y_pred):
    return (2.0 if ops.name == "torch" else 1.0) * ops.mean(ops.square(y_pred - y_true), axis=-1)

def test_agrees(parity):
    parity(lb.huber, *ARGUMENTS, delta=0.5)

def test_differs(parity):
    parity(crooked, *ARGUMENTS)

def test_two_functions(parity):
    torch = pytest.importorskip("torch")
    parity({"torch": lambda y, p: torch.nn.functional.mse_loss(p, y, reduction="none").mean(-1), "numpy": lb.mse}, *ARGUMENTS)

@pytest.mark.lossbackend_skip("torch", reason="doubled there")
def test_without(parity):
    parity(crooked, *ARGUMENTS)

@pytest.mark.lossbackend_xfail("torch", reason="doubled there", strict=True)
def test_known(parity):
    parity(crooked, *ARGUMENTS)

@pytest.mark.lossbackend_xfail("torch", reason="doubled there", strict=True)
def test_not_known(parity):
    parity(lb.mse, *ARGUMENTS)
"""


def test_parity(project):
    needs_torch()
    result = project(PARITY, "-v", without=("jax", "tensorflow"))
    result.assert_outcomes(passed=3, failed=2, skipped=1)
    result.stdout.fnmatch_lines_random(
        ["*::test_differs FAILED*", "*::test_not_known FAILED*", "*torch  *9.0*", "*XPASS(strict)* torch agrees with numpy: doubled there*"]
    )


def test_a_fixture_of_the_project_takes_its_place(project):
    code = """
import pytest

@pytest.fixture(params=["one", "two", "three"])
def backend(request):
    return request.param

@pytest.mark.lossbackend_backends("torch")
def test_own(backend):
    assert backend in ("one", "two", "three")
"""
    project(code).assert_outcomes(passed=3)


def test_wider_fixtures_may_use_it(project):
    code = """
import pytest

@pytest.fixture(scope="module")
def zeros(backend):
    return backend.tensor([0.0])

def test_it(backend, zeros):
    assert backend.numpy(zeros) == 0
"""
    project(code).assert_outcomes(passed=1)


def test_with_xdist(project):
    pytest.importorskip("xdist")
    result = project(MARKED, "-n", "2")
    result.assert_outcomes(passed=4, skipped=2, failed=1, xfailed=1, xpassed=1)
