"""Every block of code in the README and in docs/ runs, and its table of losses is the registry's."""

import doctest
import math
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lossbackend import registry

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# They run where their hosts and engines are: tests/hosts, tests/scale.
OTHER_PAGES = sorted((ROOT / "docs" / "hosts").glob("*.md")) + sorted((ROOT / "docs" / "engines").glob("*.md"))


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES + OTHER_PAGES, ids=lambda page: page.name)
def test_every_block_is_of_a_kind_that_is_run(page):
    languages = re.findall(r"^```(\w*)\n(?:.*?\n)??^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert set(languages) <= {"python", "bash", "toml"}


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch's own, from inside torch.compile
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks(page.read_text(), "python"))
    for framework in ("torch", "jax", "tensorflow"):
        if framework in code:
            pytest.importorskip(framework)
    test = doctest.DocTestParser().get_doctest(code, {}, page.name, str(page), 0)
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test).failed == 0


def test_toml_blocks():
    for block in blocks(README, "toml"):
        assert tomllib.loads(block)["project"]["entry-points"]["lossbackend.backends"]


def test_bash_blocks():
    """What installs runs elsewhere: the first command and the development command in test_packaging.py, the second is .ci/run."""
    first, second, *others = [line for block in blocks(README, "bash") for line in block.strip().splitlines()]
    assert second == "python -m pip install nox && python -m nox"
    assert second in (ROOT / ".ci" / "run").read_text()
    install, evaluate = first.split(" && ")
    assert install == 'python -m pip install ".[cli]"'
    run = [evaluate, *(line for line in others if " pip install " not in line)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for line in run:
        if "torch" in line:
            pytest.importorskip("torch")
        done = subprocess.run(line, shell=True, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        if line == evaluate:
            assert re.search(r"labels.npy +\(1797,\) +int64", done.stdout)
            assert re.search(r"0\.\d{5}", done.stdout)
    assert shutil.which("lossbackend", path=path)


def test_table_of_losses():
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in README.splitlines() if line.startswith("| `")]
    table = {row[0].strip("`"): row for row in rows}
    classes = {cls.function.definition.name: name for name, cls in registry.classes().items()}
    assert set(table) == set(registry.functions())
    for name, function in registry.functions().items():
        assert re.findall(r"`(\w+)`", table[name][1]) == list(function.definition.aliases)
        assert table[name][2] == f"`{classes[name]}`"
        assert re.findall(r"`(\w+)`", table[name][4]) == list(function.definition.options)


def test_pages_of_the_losses(monkeypatch, tmp_path):
    """Each loss has its edge values, and each known difference from Keras is on some page."""
    for module in ("matplotlib", "torch"):
        pytest.importorskip(module)
    monkeypatch.syspath_prepend(ROOT / "docs")
    import gallery

    monkeypatch.setattr(gallery.plot, "gallery", lambda folder, format: None)
    gallery.write(tmp_path)
    pages = {path.stem: path.read_text() for path in tmp_path.glob("*.md")}
    assert set(pages) == {"index", *registry.functions()}
    # Probabilities saturate at −log ε, logits nowhere.
    saturated = f"{-math.log(1e-7):.6g}"
    assert f"| 1 | 0 | {saturated} | 0 |" in pages["binary_crossentropy"]
    assert f"| (1, 0) | (0, 1) | {saturated} | (0, 0) |" in pages["categorical_crossentropy"]
    assert "| 1 | −∞ | ∞ | −1 |" in pages["binary_crossentropy"]
    assert "| 0 | ∞ | ∞ | 1 |" in pages["log_cosh"]
    differences = [line for line in (ROOT / "docs" / "differences.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(differences) > 20
    for line in differences:
        assert line.startswith("| to_categorical |") or any(line in page for page in pages.values()), line
