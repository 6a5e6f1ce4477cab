"""What a user installs: the package list, the wheel, the sdist. Run by ``nox -s build``."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text())


def modules() -> set[str]:
    """Every module file, by its path inside the installed package."""
    library = {path.relative_to(ROOT).as_posix() for path in (ROOT / "lossbackend").rglob("*.py")}
    return library | {f"lossbackend/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "backends").glob("*.py")}


def test_package_list_names_every_folder():
    folders = {Path(module).parent.as_posix().replace("/", ".") for module in modules()}
    assert set(CONFIGURATION["tool"]["setuptools"]["packages"]) == folders


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    output = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output), str(ROOT)], check=True, capture_output=True)
    return output


def test_wheel_holds_the_library_and_nothing_else(distributions):
    (wheel,) = distributions.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == modules() | {"lossbackend/py.typed"}


def test_sdist_builds_the_same_modules(distributions):
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"LICENSE", "README.md", "pyproject.toml", "backends/torch_backend.py", "lossbackend/ops.py"} <= names


def test_first_command_of_the_readme(tmp_path):
    """In a copy of the project and a fresh virtual environment, exactly as written."""
    command = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)[0].strip()
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for file in files:
        target = tmp_path / "project" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, target)
    venv.create(tmp_path / "venv", with_pip=True)
    environment = {**os.environ, "PATH": f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, shell=True, cwd=tmp_path / "project", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "sparse_categorical_crossentropy" in done.stdout


def test_installed_wheel_runs_on_numpy_alone(distributions, tmp_path):
    (wheel,) = distributions.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel], check=True)
    code = """
import importlib.util
import lossbackend as lb
assert lb.mse([[0.0]], [[2.0]]).tolist() == [4.0]
assert lb.get_backend("numpy").name == "numpy"
assert importlib.util.find_spec("backends") is None
print(sorted(lb.available_backends()))
"""
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "['numpy']", "")
    command = subprocess.run([tmp_path / "venv" / "bin" / "lossbackend", "losses"], capture_output=True, text=True, cwd=tmp_path)
    assert command.returncode == 2
    assert command.stderr.count("\n") == 1
    assert 'pip install "lossbackend[cli]"' in command.stderr
