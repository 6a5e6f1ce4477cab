"""The pytest plugin: tests that run once per backend. It imports no framework; a test that asks for one does.

* ``backend``: a fixture over the backends installed here, one ``lossbackend.testing.Backend`` at a time;
* ``parity``: ``assert_parity`` over the same backends;
* ``@pytest.mark.lossbackend_backends("torch", "jax")``: on these only;
* ``@pytest.mark.lossbackend_skip("jax", reason="...")``, ``@pytest.mark.lossbackend_xfail("tensorflow", reason="...", strict=True)``;
* ``--lossbackend-backends torch,jax``: on these only, for the whole run; what is not installed is skipped, visibly;
* ``--lossbackend-require torch,jax`` (or ``all``): a failure where one of these is not installed.

A fixture ``backend`` of a project's own takes the place of this one, as in pytest it always does.
"""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from lossbackend import dispatch

_SELECT, _SKIP, _XFAIL = "lossbackend_backends", "lossbackend_skip", "lossbackend_xfail"
_MARKERS = (
    f"{_SELECT}(*names): run the test on these backends only.",
    f"{_SKIP}(*names, reason): skip the test on these backends.",
    f"{_XFAIL}(*names, reason, strict=<xfail_strict>): the test is expected to fail on these backends.",
)


class _Chosen(str):
    """A backend's name that came from this plugin: a test may have another fixture of the same name, whose parameters are none of ours."""

    __slots__ = ()


class _Expected(NamedTuple):
    """What the markers of a test say of one backend."""

    action: str
    reason: str
    strict: bool


class _Run:
    """The backends of this run, and the fixtures over them."""

    def __init__(self, chosen: list[str], required: list[str]) -> None:
        installed = dispatch.available_backends()
        self.names = [*(chosen or installed), *(name for name in required if name not in (chosen or installed))]
        self.installed = [name for name in self.names if name in installed]
        self.required = required

    def fixtures(self) -> Any:
        """A plugin with the fixtures, whose parameters are known only once the command line is read."""

        @pytest.fixture(params=[_Chosen(name) for name in self.names], ids=self.names, scope="session")
        def backend(request: pytest.FixtureRequest) -> Any:
            """One installed backend: .tensor(array), .numpy(tensor), .value_and_grad(function, y_pred), .name, .ops."""
            return self.load(dispatch.canonical(request.param))

        @pytest.fixture
        def parity(request: pytest.FixtureRequest) -> Any:
            """assert_parity(loss, y_true, y_pred, ...) over the backends of this run, as the markers of the test say."""
            return self.parity(request.node)

        # What pytest calls a plugin of fixtures is a module; in a class they would be methods.
        plugin: Any = ModuleType("lossbackend_fixtures")
        plugin.backend, plugin.parity = backend, parity
        return plugin

    def load(self, name: str) -> Any:
        from lossbackend.testing import Backend

        if name in dispatch.available_backends():
            return Backend(name)
        if name in self.required:
            pytest.fail(f"the backend {name} is not installed, and --lossbackend-require asks for it", pytrace=False)
        pytest.skip(f"the backend {name} is not installed")

    def parity(self, item: pytest.Item) -> Callable[..., None]:
        from lossbackend.testing import assert_parity

        expected = _expected(item)
        selected = _selected(item)
        names = [name for name in self.names if (selected is None or name in selected) and not (name in expected and expected[name].action == _SKIP)]
        for name in names:
            if name in self.required:
                self.load(name)
        here = [name for name in names if name in self.installed]
        failing = [name for name in here if name in expected]
        sound = [name for name in here if name not in failing]

        def parity(loss: Any, y_true: Any, y_pred: Any, **options: Any) -> None:
            functions = loss if isinstance(loss, dict) else None
            given = None if functions is None else {dispatch.canonical(name) for name in functions}
            compared = [name for name in sound if given is None or name in given]
            suspected = [name for name in failing if given is None or name in given]
            if not compared or len(compared) + len(suspected) < 2:
                pytest.skip(f"parity takes two backends, and there is {', '.join(compared) or 'none'}")
            if len(compared) > 1:
                assert_parity(loss, y_true, y_pred, backends=compared, **options)
            for name in suspected:
                try:
                    assert_parity(loss, y_true, y_pred, backends=[compared[0], name], **options)
                except Exception:
                    continue
                if expected[name].strict:
                    pytest.fail(f"[XPASS(strict)] {name} agrees with {compared[0]}: {expected[name].reason}", pytrace=False)

        return parity


_run = pytest.StashKey[_Run]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lossbackend")
    group.addoption("--lossbackend-backends", metavar="NAMES", default="", help="Run tests of the fixture `backend` on these backends only.")
    group.addoption("--lossbackend-require", metavar="NAMES", default="", help="Fail where one of these backends is not installed; `all` for all.")


def pytest_configure(config: pytest.Config) -> None:
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    chosen = _names_of_option(config, "--lossbackend-backends")
    required = _names_of_option(config, "--lossbackend-require", everything=chosen or list(dispatch.BUILT_IN))
    run = config.stash[_run] = _Run(chosen, required)
    config.pluginmanager.register(run.fixtures(), "lossbackend-fixtures")


def _names_of_option(config: pytest.Config, option: str, everything: list[str] | None = None) -> list[str]:
    names = [name for name in config.getoption(option).split(",") if name.strip()]
    if everything is not None and [name.strip().lower() for name in names] == ["all"]:
        return everything
    return _canonical(names, option)


def _canonical(names: Any, where: str) -> list[str]:
    try:
        found = list(dict.fromkeys(dispatch.canonical(name) for name in names))
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"{where}: {error}") from None
    if dispatch.REFERENCE in found:
        raise pytest.UsageError(
            f"{where}: {dispatch.REFERENCE} is no framework with tensors of its own: name it in assert_parity(..., backends=[...])"
        )
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Apply the markers, which is the first moment at which they are known together with the parameters."""
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    survivors: set[str] = set()
    for item in items:
        selected, expected = _selected(item), _expected(item)
        name = _chosen(item)
        if name is None:
            kept.append(item)
        elif selected is not None and name not in selected:
            dropped.append(item)
        else:
            kept.append(item)
            survivors.add(_test(item))
            if name in expected:
                action, reason, strict = expected[name]
                item.add_marker(pytest.mark.skip(reason=reason) if action == _SKIP else pytest.mark.xfail(reason=reason, strict=strict))
    if not dropped:
        return
    # A test that no backend is left for stays, once, as a skip that says so: it would vanish without a word.
    lost = {_test(item): item for item in reversed(dropped) if _test(item) not in survivors}
    for item in lost.values():
        names = ", ".join(_selected(item) or ())
        item.add_marker(pytest.mark.skip(reason=f"none of its backends ({names}) is installed here and selected"))
    stay = {id(item) for item in [*kept, *lost.values()]}
    config.hook.pytest_deselected(items=[item for item in dropped if id(item) not in stay])
    items[:] = [item for item in items if id(item) in stay]


def _chosen(item: pytest.Item) -> str | None:
    """The backend that this item runs on, None where it has none of this plugin's."""
    name = getattr(getattr(item, "callspec", None), "params", {}).get("backend")
    return name if isinstance(name, _Chosen) else None


def _test(item: pytest.Item) -> str:
    """The test that an item is one of, whatever its parameters."""
    return f"{item.parent.nodeid if item.parent else ''}::{getattr(item, 'originalname', item.name)}"


def _markers(item: pytest.Item, marker: str) -> Iterator[tuple[pytest.Mark, list[str]]]:
    for mark in item.iter_markers(marker):
        where = f"{item.nodeid}: {marker}"
        if not mark.args:
            raise pytest.UsageError(f"{where} needs the name of a backend, as in {marker}('torch'{'' if marker == _SELECT else ', reason=...'})")
        yield mark, _canonical(mark.args, where)


def _selected(item: pytest.Item) -> list[str] | None:
    """What lossbackend_backends says, None where it says nothing; the closest marker counts."""
    for mark, names in _markers(item, _SELECT):
        if mark.kwargs:
            raise pytest.UsageError(f"{item.nodeid}: {_SELECT} takes names only, got {', '.join(mark.kwargs)}=")
        return names
    return None


def _expected(item: pytest.Item) -> dict[str, _Expected]:
    """What the skip and xfail markers say, by backend; a skip counts more than an xfail, a closer marker more than one further out."""
    found: dict[str, _Expected] = {}
    for marker, allowed in ((_SKIP, {"reason"}), (_XFAIL, {"reason", "strict"})):
        for mark, names in _markers(item, marker):
            reason = mark.kwargs.get("reason")
            if not isinstance(reason, str) or not reason.strip():
                raise pytest.UsageError(f"{item.nodeid}: {marker} needs a reason, as in {marker}({mark.args[0]!r}, reason='...')")
            if set(mark.kwargs) - allowed:
                raise pytest.UsageError(f"{item.nodeid}: {marker} takes {' and '.join(sorted(allowed))}, got {', '.join(mark.kwargs)}")
            strict = mark.kwargs.get("strict", item.config.getini("xfail_strict"))
            for name in names:
                found.setdefault(name, _Expected(marker, reason, bool(strict)))
    return found
