"""TensorFlow on several devices: partial results of replicas that differ in size, and DTensor, against textbook values."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("case", ["replicas", "dtensor"])
def test_several_devices(case):
    """In a process of its own, because the devices of TensorFlow are fixed when it starts."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(HERE / "tensorflow_devices.py"), case]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "held"
