"""What the tests of every engine need: its page of the documentation as a test."""

import doctest
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs" / "engines"


@pytest.fixture
def run_page(monkeypatch, tmp_path):
    """Runs every Python block of a page of docs/engines, as one session, in an empty folder."""

    def run(name):
        path = DOCS / f"{name}.md"
        code = "\n".join(re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.DOTALL))
        test = doctest.DocTestParser().get_doctest(code, {}, name, str(path), 0)
        assert test.examples
        monkeypatch.chdir(tmp_path)
        assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS).run(test).failed == 0

    return run
