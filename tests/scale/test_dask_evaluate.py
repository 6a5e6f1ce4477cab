"""`lossbackend evaluate --dask`: the parts of files on a cluster, against textbook values and in spite of what goes wrong there."""

import contextlib
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from distributed import LocalCluster

import lossbackend as lb
from lossbackend import cli, cluster, evaluation, files
from lossbackend.cli import main
from lossbackend.dask import map_loss, reduce_loss

pytestmark = pytest.mark.timeout(120)

RNG = np.random.default_rng(0)
ROWS = 1003
Y, P = RNG.normal(size=(2, ROWS, 3))
IDS = RNG.integers(0, 3, ROWS)
WEIGHTS = RNG.integers(0, 4, ROWS) / 3
MASK = RNG.random(ROWS) > 0.2
SQUARES = ((Y - P) ** 2).mean(axis=1)
# Waits for a file, on a worker only.
OWN = """
import os, signal, time
import lossbackend as lb
from own_helper import POWER

@lb.loss
def power(ops, y_true, y_pred):
    return ops.mean(ops.abs(y_pred - y_true) ** POWER, axis=-1)

@lb.loss
def deadly(ops, y_true, y_pred):
    if os.getpid() != {client} and ops.to_numpy(y_true)[0, 0] > 0 and not os.path.exists({killed!r}):
        open({killed!r}, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return ops.mean(ops.abs(y_pred - y_true) ** POWER, axis=-1)

@lb.loss
def slow(ops, y_true, y_pred):
    if os.getpid() != {client} and os.path.exists({slow!r}):
        open({started!r}, "a").write("x")
        time.sleep(0.2)
    return ops.mean(ops.abs(y_pred - y_true) ** POWER, axis=-1)

# Known to be independent, which so few rows do not show.
for loss in (power, deadly, slow):
    loss.definition.samples = None

@lb.loss
def unknown(ops, y_true, y_pred):
    return ops.mean(ops.abs(y_pred - y_true) ** POWER, axis=-1)

@lb.loss(interacting=True)
def spread(ops, y_true, y_pred):
    return ops.mean(y_pred - ops.mean(y_pred), axis=-1) ** 2
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A scheduler with two workers, processes, which start elsewhere than the command line does."""
    elsewhere = str(tmp_path_factory.mktemp("workers"))
    options = {"n_workers": 2, "threads_per_worker": 2, "processes": True, "dashboard_address": "127.0.0.1:0", "memory_limit": 0}
    with LocalCluster(**options, host="127.0.0.1", silence_logs=50, local_directory=elsewhere) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory of its own with the files; 16 rows of three numbers are a part."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(evaluation, "_ENTRIES", 50)
    np.save("y.npy", Y)
    np.save("p.npy", P)
    np.save("w.npy", WEIGHTS)
    np.savez("m.npz", mask=MASK)
    pd.DataFrame(P, columns=["a", "b", "c"]).to_parquet("p.parquet", row_group_size=70)
    pd.DataFrame(P, columns=["a", "b", "c"]).to_csv("p.csv", index=False)
    pd.DataFrame({"y": IDS}).to_csv("ids.csv", index=False)
    for name in ("own_losses", "own_helper"):
        sys.modules.pop(name, None)
    names = {name: str(tmp_path / name) for name in ("killed", "slow", "started")}
    Path("own_losses.py").write_text(OWN.format(client=os.getpid(), **names))
    Path("own_helper.py").write_text("POWER = 2\n")
    return tmp_path


@pytest.fixture
def on(capsys):
    """Run the command line, whose record has to be that of the same run without --dask."""

    def run(scheduler, *arguments):
        records = []
        for where in ((), ("--dask", scheduler)):
            code = main(["evaluate", *arguments, "--json", *where])
            out, err = capsys.readouterr()
            assert (code, err) == (0, "")
            records.append(json.loads(out))
            assert records[-1].pop("rows_per_second") >= 0
        assert records[0] == records[1]
        return records[1]

    return run


@pytest.fixture
def mistake(capsys):
    def mistake(*arguments):
        assert main(["evaluate", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert re.fullmatch(r"error: .*\n", err), err
        return err.removeprefix("error: ").strip()

    return mistake


@pytest.mark.parametrize("y_pred", ["p.npy", "p.parquet:a,b,c", "p.csv:a,b,c"])
def test_formats(on, address, y_pred):
    assert on(address, "mse", "y.npy", y_pred)["value"] == pytest.approx(SQUARES.mean(), rel=1e-12)


def test_reductions(on, address):
    y_pred = "p.parquet:a,b,c"
    kept = MASK * WEIGHTS
    weighted = ("--sample-weight", "w.npy", "--mask", "m.npz", "--reduction")
    for reduction, divisor in (("sum", 1), ("mean", MASK.sum()), ("mean_with_sample_weight", kept.sum())):
        record = on(address, "mse", "y.npy", y_pred, *weighted, reduction)
        assert record["value"] == pytest.approx((kept * SQUARES).sum() / divisor, rel=1e-12)
    np.testing.assert_allclose(on(address, "mse", "y.npy", y_pred, *weighted, "none")["value"], kept * SQUARES, rtol=1e-12)


def test_class_ids_of_a_csv_file_and_options(on, address):
    arguments = ("scce", "ids.csv", "p.parquet:c,a,b", "--option", "from_logits=true")
    logits = P[:, [2, 0, 1]]
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(ROWS), IDS]
    assert on(address, *arguments)["value"] == pytest.approx(losses.mean(), rel=1e-12)
    weights = np.array([1.0, 2.0, 0.5])[IDS]
    record = on(address, *arguments, "--option", "class_weight=[1, 2, 0.5]", "--reduction", "mean_with_sample_weight")
    assert record["value"] == pytest.approx((weights * losses).sum() / weights.sum(), rel=1e-12)


def test_columns_and_one_weight_for_all(on, address):
    np.save("column.npy", Y[:, 0])
    np.save("one.npy", np.array([2.0]))
    record = on(address, "mae", "column.npy", "p.parquet:a", "--sample-weight", "one.npy")
    assert (record["samples"], record["value"]) == (ROWS, pytest.approx(2 * np.abs(Y[:, 0] - P[:, 0]).mean(), rel=1e-12))


@pytest.mark.parametrize("axis", [0, 1])
def test_what_is_computed_whole(on, address, axis):
    cosines = (Y * P).sum(axis) / np.sqrt((Y**2).sum(axis) * (P**2).sum(axis))
    record = on(address, "cosine_similarity", "y.npy", "p.parquet:a,b,c", "--option", f"axis={axis}")
    assert record["value"] == pytest.approx(-cosines.mean(), rel=1e-12)


def test_files_without_rows_and_numbers_without_axes(on, address):
    np.save("none.npy", np.zeros((0, 3)))
    np.save("number.npy", np.array(2.0))
    assert on(address, "mse", "none.npy", "none.npy")["value"] == 0.0
    assert on(address, "mse", "number.npy", "number.npy", "--sample-weight", "number.npy")["value"] == 0.0


def test_another_backend_on_the_workers(on, address):
    record = on(address, "mse", "y.npy", "p.npy", "--backend", "torch")
    assert (record["backend"], record["value"]) == ("torch", pytest.approx(SQUARES.mean(), rel=1e-12))


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_dask_on_this_machine(on, scheduler):
    assert on(scheduler, "own_losses:power", "y.npy", "p.parquet:a,b,c")["value"] == pytest.approx(SQUARES.mean(), rel=1e-12)


@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_output_in_order(address, suffix, capsys):
    assert main(["evaluate", "mse", "y.npy", "p.npy", "--sample-weight", "w.npy", "--output", f"out.{suffix}", "--dask", address]) == 0
    assert capsys.readouterr().err == ""
    found = np.load("out.npy") if suffix == "npy" else pd.read_csv("out.csv")["loss"]
    np.testing.assert_allclose(found, WEIGHTS * SQUARES, rtol=1e-12)


def test_a_loss_of_ones_own_is_sent(on, address, capsys):
    """With the module that it imports; and as it is now, not as it was."""
    assert on(address, "own_losses:power", "y.npy", "p.npy")["value"] == pytest.approx(SQUARES.mean(), rel=1e-12)
    Path("own_helper.py").write_text("POWER = 4.0\n")
    for name in ("own_losses", "own_helper"):
        del sys.modules[name]
    assert on(address, "own_losses:power", "y.npy", "p.npy")["value"] == pytest.approx(((Y - P) ** 4).mean(), rel=1e-12)


def test_whether_samples_of_ones_own_loss_interact(on, address, monkeypatch):
    """Is said, or found out from the first part."""
    seen, mapped = [], cluster._mapped
    rows = 300_000
    y, p = RNG.normal(size=(2, rows))
    np.save("many.npy", p)
    np.save("labels.npy", y)
    monkeypatch.setattr(evaluation, "_ENTRIES", 200_000)
    monkeypatch.setattr(
        cluster, "_mapped", lambda client, function, items: mapped(client, function, (seen.append(item[0]) or item for item in items))
    )
    for name, expected, starts in (("unknown", ((y - p) ** 2).mean(), [0, 200_000]), ("spread", p.var(), [0])):
        seen.clear()
        assert on("threads", f"own_losses:{name}", "labels.npy", "many.npy")["value"] == pytest.approx(expected, rel=1e-12)
        assert seen == starts


def test_a_worker_that_dies(address, capsys):
    code = main(["evaluate", "own_losses:deadly", "y.npy", "p.npy", "--json", "--dask", address, "--output", "out.npy"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert Path("killed").exists()
    assert json.loads(out)["value"] == pytest.approx(SQUARES.mean(), rel=1e-12)
    np.testing.assert_allclose(np.load("out.npy"), SQUARES, rtol=1e-12)


# Mistakes


def test_messages_name_the_row_of_the_file(mistake, run_checked, address):
    bad, ids = P.copy(), IDS.copy()
    bad[700, 2], ids[900] = math.nan, 3
    np.save("nan.npy", bad)
    pd.DataFrame({"y": ids}).to_csv("bad.csv", index=False)
    line = mistake("mse", "y.npy", "nan.npy", "--dask", address)
    assert "y_pred at index (700, 2) is nan" in line
    assert line.endswith("leave the sample out with --mask or a weight of 0. If the input is meant so, pass --no-check.")
    assert "3 at index 900 is outside 0 ... 2" in mistake("scce", "bad.csv", "p.npy", "--option", "from_logits=true", "--dask", address)
    assert math.isnan(float(run_checked("mse", "y.npy", "nan.npy", "--no-check", "--dask", address)))


@pytest.fixture
def run_checked(capsys):
    def run(*arguments):
        assert main(["evaluate", *arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)["value"]

    return run


def test_what_looks_like_probabilities_does_so_everywhere(mistake, run_checked, address):
    np.save("labels.npy", np.tile([0.0, 1.0], 160))
    np.save("shares.npy", np.linspace(0.1, 0.9, 320))
    np.save("sorted.npy", np.array([*np.linspace(0.1, 0.9, 319), 3.0]))
    logits = np.load("sorted.npy")
    expected = (np.log1p(np.exp(logits)) - np.load("labels.npy") * logits).mean()
    found = run_checked("bce", "labels.npy", "sorted.npy", "--option", "from_logits=true", "--dask", address)
    assert found == pytest.approx(expected, rel=1e-12)
    line = mistake("bce", "labels.npy", "shares.npy", "--option", "from_logits=true", "--dask", address)
    assert "y_pred at index (0, 0) is 0.1, and all of y_pred lies in [0, 1]: these look like probabilities" in line
    assert line.endswith("pass --no-check.")


def test_a_loss_of_ones_own_that_fails(mistake, address):
    Path("own_failing.py").write_text(
        "import lossbackend as lb\n@lb.loss\ndef failing(ops, y_true, y_pred): raise KeyError('nothing')\n"
        "@lb.loss\ndef importing(ops, y_true, y_pred):\n    import no_such_module\n"
    )
    assert mistake("own_failing:failing", "y.npy", "p.npy", "--dask", address) == "failing: KeyError: 'nothing'"
    assert "no_such_module" in mistake("own_failing:importing", "y.npy", "p.npy", "--dask", address)


def test_a_file_that_a_worker_does_not_find(mistake, address, monkeypatch):
    def moved(argument, source):
        opened = files.open_array(argument, source)
        return opened._replace(path="/nowhere/p.npy") if argument == "y_pred" else opened

    monkeypatch.setattr(cli, "open_array", moved)
    line = mistake("mse", "y.npy", "p.npy", "--dask", address)
    assert line.startswith(f"y_pred: no such file on the worker {socket.gethostname()}: '/nowhere/p.npy'")


def test_a_scheduler_that_does_not_answer(mistake, monkeypatch):
    monkeypatch.setattr(cluster, "_TIMEOUT", 1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        began = time.monotonic()
        assert mistake("mse", "y.npy", "p.npy", "--dask", address).startswith(f"--dask: no scheduler of dask answers at {address}: ")
        assert time.monotonic() - began < 20


@pytest.mark.parametrize("value", ["thread", "mse", "own_losses:power", "localhost", "http://127.0.0.1:8787", ""])
def test_what_names_no_scheduler(mistake, value):
    assert "is neither threads, processes nor the address of a scheduler" in mistake("--dask", value, "y.npy", "p.npy")


def test_without_the_extra(mistake, monkeypatch):
    for missing in ("dask.distributed", "cloudpickle"):
        with monkeypatch.context() as patch:
            patch.delitem(sys.modules, "lossbackend.cluster", raising=False)
            patch.delattr(lb, "cluster", raising=False)
            patch.setitem(sys.modules, missing, None)
            assert mistake("mse", "y.npy", "p.npy", "--dask").startswith('--dask needs pip install "lossbackend[dask]"')


def test_no_workers_yet(capsys):
    options = {
        "processes": False,
        "dashboard_address": "127.0.0.1:0",
        "memory_limit": 0,
        "host": "127.0.0.1",
        "protocol": "tcp://",
        "silence_logs": 50,
    }
    with LocalCluster(n_workers=0, **options) as empty:
        child = process("mse", "y.npy", "p.npy", "--dask", empty.scheduler_address)
        with ended(child):
            assert child.stderr.readline() == f"the scheduler at {empty.scheduler_address} has no workers yet: waiting for one\n"
            empty.scale(1)
            out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")
    assert f"samples    {ROWS}" in out


# Ctrl-C


def process(*arguments, entries=50):
    code = f"import sys; from lossbackend import cli, evaluation; evaluation._ENTRIES = {entries}; sys.exit(cli.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "evaluate", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


@contextlib.contextmanager
def ended(child):
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        child.stderr.close()


@pytest.mark.parametrize("scheduler", ["threads", "processes", "address"])
def test_control_c(scheduler, address):
    Path("slow").touch()
    np.save("out.npy", np.array([7.0]))
    child = process("own_losses:slow", "y.npy", "p.npy", "--output", "out.npy", "--dask", address if scheduler == "address" else scheduler)
    with ended(child):
        deadline = time.monotonic() + 60
        while not (Path("started").exists() and len(Path("started").read_text()) > 8):
            assert child.poll() is None, child.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        # To its whole group, as a terminal does.
        os.killpg(child.pid, signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (130, "")
    assert re.fullmatch(rf"error: interrupted after \d+ of {ROWS} rows; nothing was written\n", err), err
    assert np.load("out.npy") == 7.0
    assert not list(Path().glob(".lossbackend-*"))
    # What had begun ends, and nothing else begins.
    time.sleep(0.5)
    begun = Path("started").read_text()
    time.sleep(0.6)
    assert Path("started").read_text() == begun
    assert len(begun) < 40


@pytest.mark.parametrize("seconds", [0.0, 0.7, 1.4])
def test_control_c_while_the_cluster_begins(seconds):
    """And once more while it goes."""
    Path("slow").touch()
    child = process("own_losses:slow", "y.npy", "p.npy", "--output", "out.npy", "--dask", "processes")
    with ended(child):
        deadline = time.monotonic() + 60
        while len(list(Path("/proc").glob(f"{child.pid}/task/*"))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(seconds + 1.0)
        os.killpg(child.pid, signal.SIGINT)
        time.sleep(0.3)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGINT)
        _, err = child.communicate(timeout=30)
    # The second may meet the interpreter as it ends, which a shell calls 130 too; of dask and its processes nothing is heard.
    assert child.returncode in (130, -signal.SIGINT), err
    assert re.fullmatch(r"error: interrupted.*\n", err) if child.returncode == 130 else err.startswith("error: interrupted"), err
    assert not re.search("spawn_main|distributed|Nanny|Client", err), err
    assert not Path("out.npy").exists()


# Checking mode of dask arrays


def test_checking_mode_is_that_of_the_call():
    bad = da.from_array(np.where(np.arange(ROWS)[:, np.newaxis] == 700, math.nan, P), chunks=(300, 2))
    with lb.checked():
        losses, reduced = map_loss("mse", Y, bad), reduce_loss("mse", Y, bad)
    for lazy, scheduler in ((losses, "processes"), (losses, "synchronous"), (reduced, "threads")):
        with pytest.raises(ValueError, match=r"y_pred at index \(100, 0\) is nan, which is not a finite number"):
            lazy.compute(scheduler=scheduler)
    assert np.isnan(map_loss("mse", Y, bad).compute()).sum() == 1


def test_checking_mode_objects_to_all_blocks_only_where_it_sees_them():
    labels, logits = np.tile([[0.0], [1.0]], (4, 1)), np.linspace(0.1, 3.0, 8)[:, np.newaxis]
    expected = (np.log1p(np.exp(logits)) - labels * logits).mean()
    with lb.checked():
        parts = reduce_loss("bce", labels, da.from_array(logits, chunks=2), from_logits=True)
        whole = reduce_loss("bce", labels, da.from_array(logits / 4, chunks=-1), from_logits=True)
    assert parts.compute() == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="these look like probabilities"):
        whole.compute()
