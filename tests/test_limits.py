"""Known limits are still there, and docs/limits.md lists them."""

import re
from pathlib import Path

import pytest
from conftest import chosen_backends, load
from known_limits import LIMITS, page

CASES = [
    pytest.param(limit, name, id=f"{limit.without.__name__}-{name}") for limit in LIMITS for name in limit.frameworks if name in chosen_backends()
]


@pytest.mark.parametrize(("limit", "name"), CASES)
def test_a_known_limit(limit, name):
    """Where this fails, a framework has mended it: take the limit out of the table."""
    framework = load(name)
    if name == "torch":
        framework.module.compiler.reset()
    with pytest.raises(Exception) as info:  # noqa: PT011  # which one is asked below
        limit.without(framework)
    assert re.search(limit.shows, f"{type(info.value).__name__}: {info.value}")


def test_the_page_of_limits():
    assert (Path(__file__).resolve().parent.parent / "docs" / "limits.md").read_text() == page(), "python tests/known_limits.py > docs/limits.md"
