"""JAX on several devices and processes. Their number is fixed when JAX starts, so every test has processes of its own."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# The code that is compiled here is run once.
EIGHT_DEVICES = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": EIGHT_DEVICES, "GLOO_SOCKET_IFNAME": "lo"}


@pytest.mark.parametrize("cases", ["auto", "explicit", "eight or gather or pmap", "page"])
def test_eight_devices(cases):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "jax_devices.py"), "-k", cases]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr


TWO_PROCESSES = """
import sys
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
address = f"127.0.0.1:{sys.argv[1]}"
jax.distributed.initialize(address, 2, int(sys.argv[2]), coordinator_bind_address=address, initialization_timeout=60)
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import lossbackend as lb
from lossbackend.backends.jax_backend import OPS

mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
draw = np.random.default_rng(0)
z, ids, weights, mask = draw.normal(size=(8, 4)).astype("float32"), draw.integers(0, 4, 8), draw.uniform(size=8).astype("float32"), np.arange(8) != 5
powers = np.exp(np.float64(z))
softmax = powers / powers.sum(axis=1, keepdims=True)
kept = weights * mask
losses = -np.log(softmax[np.arange(8), ids])

def put(x, *spec):
    return jax.make_array_from_callback(x.shape, NamedSharding(mesh, PartitionSpec(*spec)), lambda index: x[index])

spread = put(z, "data", "model")
assert not spread.is_fully_addressable and not OPS.is_concrete(spread)
loss = lb.SparseCategoricalCrossentropy(from_logits=True)
# Of labels that no process has all of, a wrong one makes its sample NaN.
assert np.isnan(loss(put(ids + 4 * (ids == 0), "data"), spread))
for arguments in ((ids, weights, mask), [put(x, "data") for x in (ids.astype("int32"), weights, mask)]):
    ids_, weights_, mask_ = arguments
    np.testing.assert_allclose(loss(ids_, spread, weights_, mask_), (kept * losses).sum() / 7, rtol=1e-5)
    value, slope = lb.value_and_grad(loss)(ids_, spread, weights_, mask_)
    np.testing.assert_allclose(value, (kept * losses).sum() / 7, rtol=1e-5)
    for shard in slope.addressable_shards:
        expected = kept[:, np.newaxis] * (softmax - np.eye(4)[ids]) / 7
        np.testing.assert_allclose(shard.data, expected[shard.index], rtol=1e-4, atol=1e-6)
    part = loss.partial(ids_, spread, weights_, mask_)
    np.testing.assert_allclose([part.total, part.denominator], [(kept * losses).sum(), 7], rtol=1e-5)
print("held")
"""


def test_two_processes():
    """Each has half of the samples, and of their classes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**ENVIRONMENT, "XLA_FLAGS": ""}
    start = [sys.executable, "-c", TWO_PROCESSES, port]
    running = [subprocess.Popen([*start, str(i)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) for i in (0, 1)]
    try:
        results = [process.communicate(timeout=100) for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()
    for process, (out, errors) in zip(running, results, strict=True):
        assert process.returncode == 0, errors
        assert out.splitlines()[-1] == "held"
