"""Everything that CI runs: ``python -m nox``. One session: ``python -m nox -s types``. The benchmarks run only when named: ``-s bench``."""

import os
import shutil

import nox

# uv does not read pip's configuration.
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True

FRAMEWORKS = "torch,jax,tensorflow-cpu"


def install(session: nox.Session, *groups: str, extras: str | None = None) -> None:
    """These dependency groups, and the project with these extras, at the versions of constraints.txt."""
    requirements = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), *groups)
    project = () if extras is None else ("-e", f".[{extras}]")
    session.install("-c", "constraints.txt", *project, *requirements)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: rules and formatting."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict over the library, the adapters and a user's code."""
    install(session, "types", extras="cli")
    session.run("mypy")
    session.run("mypy", "tests/typing_of_users_code.py")


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite on all four backends; a missing framework is a failure."""
    install(session, "test", extras=f"{FRAMEWORKS},cli")
    environment = {"LOSSBACKEND_TEST_REQUIRE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "MPLBACKEND": "agg"}
    session.run("pytest", "--ignore=tests/test_packaging.py", "-n", "2", "--dist", "worksteal", *session.posargs, env=environment)


@nox.session
def numpy_only(session: nox.Session) -> None:
    """Without any framework installed: every one of them is optional."""
    install(session, "test", extras="cli")
    absent = "import importlib.util as u; assert not any(u.find_spec(name) for name in ('torch', 'jax', 'tensorflow', 'keras'))"
    session.run("python", "-c", absent)
    environment = {"LOSSBACKEND_TEST_BACKENDS": "numpy"}
    session.run("pytest", "--ignore=tests/test_packaging.py", "-n", "2", "-rs", *session.posargs, env=environment)


@nox.session
def hosts(session: nox.Session) -> None:
    """Training and evaluating with every host, for real; ``-- --write`` renews the page that says what was shown."""
    install(session, "test", "hosts", extras=f"{FRAMEWORKS},cli,plot")
    session.install("-c", "constraints.txt", "--no-deps", "tf_keras")
    record, page = os.path.join(session.create_tmp(), "hosts.jsonl"), "docs/hosts/shown.md"
    with open(record, "w"):
        pass
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "MPLBACKEND": "agg"}
    # Keras has one backend per process.
    for backend in ("torch", "jax", "tensorflow"):
        session.run("pytest", "tests/hosts/test_keras.py", f"--hosts-record={record}", env={**environment, "KERAS_BACKEND": backend})
    others = ("--ignore=tests/hosts/test_keras.py", "-n", "2", "--dist", "loadfile")
    session.run("pytest", "tests/hosts", *others, f"--hosts-record={record}", env=environment)
    if "--write" in session.posargs:
        text = session.run("python", "tests/hosts/table.py", record, silent=True)
        with open(page, "w") as file:
            file.write(str(text))
    session.run("python", "tests/hosts/table.py", record, "--check", page)


@nox.session
def scale(session: nox.Session) -> None:
    """Beyond one machine and beyond values: dask, sharded JAX, distributed torch and TensorFlow, PyTensor, ONNX, a backend from outside."""
    install(session, "test", "scale", extras=f"{FRAMEWORKS},cli,parity,dask,pytensor,onnx")
    session.install("-c", "constraints.txt", "tests/scale/lossbackend-mlx")
    # A test that hangs fails; one that hangs in a framework's own code, where no signal comes through, ends with all processes that it has started.
    limit = ("timeout", "--kill-after=10", "840") if shutil.which("timeout") else ()
    options = ("--timeout=180", "-n", "2", "--dist", "loadfile")
    session.run(*limit, "pytest", "tests/scale", *options, *session.posargs, env={"TF_CPP_MIN_LOG_LEVEL": "3"}, external=bool(limit))


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, as HTML in build/docs; every warning is an error."""
    install(session, "docs", extras="torch,plot")
    session.run("sphinx-build", "--fail-on-warning", "--keep-going", "--jobs", "2", "docs", "build/docs", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """The wheel and the sdist hold what they should, and an installed wheel works."""
    install(session, "build", extras="cli")
    session.run("pytest", "tests/test_packaging.py", *session.posargs)


@nox.session
def mutations(session: nox.Session) -> None:
    """Mistakes planted in a copy of the project, one at a time: the suite notices each."""
    install(session, "test", extras="torch,cli")
    session.run("python", "tests/mutations.py")


@nox.session
def browser(session: nox.Session) -> None:
    """The HTML report of ``lossbackend parity``, looked at with Chromium."""
    install(session, "browser", extras="jax,parity")
    folder = session.create_tmp()
    report, facts, screenshot = (os.path.join(folder, name) for name in ("parity.html", "parity.json", "parity.png"))
    session.run("lossbackend", "parity", "--dtype", "float32", "--html", report, "--json", facts, silent=True)
    session.run("python", "tests/browser.py", chromium(session), report, facts, screenshot)


def chromium(session: nox.Session) -> str:
    """The browser of this machine; Debian's, installed now, where there is none."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is not None:
        return found
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        session.error("needs Chromium: install it with the package manager of this machine")
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    session.run("apt-get", "update", external=True, silent=True)
    session.run("apt-get", "install", "-y", "--no-install-recommends", "chromium", env=environment, external=True, silent=True)
    return shutil.which("chromium") or session.error("installed chromium, and does not find it")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """lossbackend against Keras and the frameworks' own functions; options after ``--``, ``-- --help`` lists them."""
    install(session, "bench", extras=FRAMEWORKS)
    session.run("python", "benchmarks/compare.py", *session.posargs)


@nox.session(default=False)
def engines(session: nox.Session) -> None:
    """Rows per second and memory of every engine; options after ``--``, ``-- --help`` lists them."""
    install(session, "bench", "scale", extras=f"{FRAMEWORKS},cli,dask,pytensor,onnx")
    session.run("python", "benchmarks/engines.py", *session.posargs)
