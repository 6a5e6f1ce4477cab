"""torch on several processes: DTensors sharded over samples and classes, and models on shards of different sizes.

torch_ranks.py holds the cases; here its processes are started, watched and ended.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch_ranks

from lossbackend import registry

SCRIPT = Path(torch_ranks.__file__)
# Seconds, for all cases together.
LIMIT = 240


def run_ranks(folder, processes):
    """What each case came to on every process: {case: [text of each]}. Ends all processes as soon as one has failed, and after LIMIT."""
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    started = []
    try:
        for rank in range(processes):
            with (folder / f"output{rank}").open("w") as output:
                command = [sys.executable, str(SCRIPT), str(folder), str(rank), str(processes)]
                started.append(subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT))
        until = time.monotonic() + LIMIT
        while any(process.poll() is None for process in started) and time.monotonic() < until:
            if any(process.poll() for process in started):
                # The others wait for it in vain; what they are about to write they have a moment for.
                until = min(until, time.monotonic() + 1)
            time.sleep(0.05)
    finally:
        for process in started:
            process.kill()
            process.wait()
    texts = [(folder / f"rank{rank}").read_text() if (folder / f"rank{rank}").exists() else "" for rank in range(processes)]
    outputs = "\n".join((folder / f"output{rank}").read_text()[-2000:] for rank in range(processes))
    return texts, outputs


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Of a number of processes: what they wrote down, each once."""
    found = {}

    def of(processes):
        if processes not in found:
            found[processes] = run_ranks(tmp_path_factory.mktemp(f"ranks{processes}"), processes)
        return found[processes]

    return of


@pytest.mark.parametrize(("processes", "name"), [(processes, name) for processes, cases in torch_ranks.CASES.items() for name in cases])
def test_on_processes(ranks, processes, name):
    texts, outputs = ranks(processes)
    failed = [text.partition(f"{name} failed\n")[2] for text in texts if f"{name} failed\n" in text]
    assert not failed, "\n".join(failed)
    silent = [rank for rank, text in enumerate(texts) if f"{name} passed\n" not in text]
    assert not silent, f"processes {silent} did not come to an end of {name}\n{outputs}"


def test_no_loss_is_left_out():
    tested = {loss.definition.name for loss, *_ in torch_ranks.LOSSES.values()}
    assert tested == {loss.definition.name for loss in registry.functions().values()}
