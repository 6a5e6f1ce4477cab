"""Data that really trains, and a record of what each host was shown to do, from which table.py makes a page of the documentation."""

import json
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets


def pytest_addoption(parser):
    parser.addoption("--hosts-record", metavar="FILE", help="append one line of JSON for each test: host, version, what was shown, outcome")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("host") is not None and not item.obj.__doc__:
            raise pytest.UsageError(f"{item.nodeid}: the docstring of a test of a host says in one line what it shows")


@pytest.fixture(autouse=True)
def record_what_is_shown(request, record_property):
    """Travels with the report, also from the workers of pytest-xdist."""
    marker = request.node.get_closest_marker("host")
    if marker is None:
        return
    name, package, write = marker.args
    shown = request.node.obj.__doc__.strip().partition("\n")[0].rstrip(".")
    facts = {"host": name, "version": metadata.version(package).partition("+")[0], "write": write, "shown": shown}
    record_property("host", facts)


class Recorder:
    """Writes the record, in the one process that hears of every report."""

    def __init__(self, path):
        self.path = path

    def pytest_runtest_logreport(self, report):
        facts = dict(report.user_properties).get("host")
        if facts is not None and (report.when == "call" or report.outcome != "passed"):
            with open(self.path, "a") as file:
                file.write(json.dumps({**facts, "outcome": report.outcome}) + "\n")


def pytest_configure(config):
    path = config.getoption("--hosts-record")
    if path is not None and not hasattr(config, "workerinput"):
        # Before a test changes the directory.
        config.pluginmanager.register(Recorder(Path(path).absolute()))


@pytest.fixture(scope="session")
def digits():
    """(images (1797, 64) float32 in [0, 1], labels (1797,) int64): ten classes of handwritten digits."""
    images, labels = datasets.load_digits(return_X_y=True)
    return (images / 16).astype(np.float32), labels.astype(np.int64)


@pytest.fixture(scope="session")
def diabetes():
    """(features (442, 10), progression (442, 1)) float32, both standardised: a regression."""
    features, target = datasets.load_diabetes(return_X_y=True)
    features, target = ((array - array.mean(axis=0)) / array.std(axis=0) for array in (features, target[:, np.newaxis]))
    return features.astype(np.float32), target.astype(np.float32)


@pytest.fixture(scope="session")
def tumours():
    """(features (569, 30) float32, standardised, labels (569, 1) float32 of 0 and 1): a yes-or-no question."""
    features, labels = datasets.load_breast_cancer(return_X_y=True)
    return ((features - features.mean(axis=0)) / features.std(axis=0)).astype(np.float32), labels[:, np.newaxis].astype(np.float32)


@pytest.fixture(scope="session")
def same_curve():
    """Asserts that two training curves are one, to 1e-5 of their size, and go down."""

    def check(ours, builtin, rtol=1e-5):
        ours, builtin = np.asarray(ours, np.float64), np.asarray(builtin, np.float64)
        assert ours.shape == builtin.shape
        assert ours.size > 1
        assert np.isfinite(builtin).all()
        np.testing.assert_allclose(ours, builtin, rtol=rtol, atol=0)
        assert ours[-1] < ours[0]

    return check
