"""One backend in one process: what ``compare.py`` starts, once for each backend.

``python measure.py REQUEST``, with {"backend", "device", "cells", "rounds", "seconds", "output"} as JSON, measures times. A cell is one loss, one
shape and one pass; all its contenders get the same tensors, and take turns. With {"contender"}, it measures the memory of that one in the only cell.
"""

import ctypes
import gc
import importlib.metadata
import itertools
import json
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from contenders import CASES, OWN_FUNCTIONS, Function, keras_function, lossbackend_function

# Short calls are repeated to fill this many seconds, so that the clock and the change of turns cost nothing.
BATCH = 0.005

GRADIENT = "forward + backward"


class NumPy:
    """What the measurement needs of a framework; this one neither compiles nor differentiates, and all its calls return when they are done."""

    name = "numpy"
    packages: tuple[str, ...] = ()

    def __init__(self, device: str) -> None:
        self.device = device

    def device_name(self) -> str:
        return self.device

    def tensor(self, array: np.ndarray[Any, Any], gradient: bool = False) -> Any:
        return array

    def numpy(self, tensor: Any) -> np.ndarray[Any, Any]:
        return np.asarray(tensor)

    def differentiated(self, function: Function) -> Function:
        """(mean loss, gradient with respect to y_pred), by the framework."""
        raise NotImplementedError

    def compiled(self, function: Function, gradient: bool) -> Function:
        raise NotImplementedError

    def forget(self) -> None:
        """Drop what compilation keeps from cell to cell."""

    def wait(self, result: Any) -> None:
        """Until the device has computed the result."""

    def peak(self, call: Callable[[], Any]) -> int:
        """Most bytes that the call held beyond what was held before it."""
        tracemalloc.start()
        call()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most


def resident_peak(call: Callable[[], Any]) -> int:
    """The same by the kernel's count of resident memory, which Linux can set back."""
    # What the allocator holds free would hide what a call takes.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _status(entry: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{entry}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {entry}")


class Torch(NumPy):
    name = "torch"
    packages = ("torch",)

    def __init__(self, device: str) -> None:
        import torch

        super().__init__(device)
        self.torch = torch

    def device_name(self) -> str:
        return self.torch.cuda.get_device_name() if self.device == "cuda" else self.device

    def tensor(self, array: np.ndarray[Any, Any], gradient: bool = False) -> Any:
        return self.torch.from_numpy(array).to(self.device).requires_grad_(gradient)

    def numpy(self, tensor: Any) -> np.ndarray[Any, Any]:
        return tensor.cpu().numpy()

    def differentiated(self, function: Function) -> Function:
        def step(y: Any, p: Any) -> Any:
            value = function(y, p).mean()
            return value, self.torch.autograd.grad(value, p)[0]

        return step

    def compiled(self, function: Function, gradient: bool) -> Function:
        if not gradient:
            return self.torch.compile(function)
        objective = self.torch.compile(lambda y, p: function(y, p).mean())

        def step(y: Any, p: Any) -> Any:
            value = objective(y, p)
            return value, self.torch.autograd.grad(value, p)[0]

        return step

    def forget(self) -> None:
        self.torch.compiler.reset()

    def wait(self, result: Any) -> None:
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def peak(self, call: Callable[[], Any]) -> int:
        if self.device == "cpu":
            return resident_peak(call)
        self.torch.cuda.reset_peak_memory_stats()
        before = self.torch.cuda.memory_allocated()
        call()
        return self.torch.cuda.max_memory_allocated() - before


class Jax(NumPy):
    name = "jax"
    packages = ("jax", "jaxlib", "optax")

    def __init__(self, device: str) -> None:
        import jax

        super().__init__(device)
        self.jax = jax
        jax.config.update("jax_default_device", jax.devices(device)[0])

    def device_name(self) -> str:
        return self.jax.devices(self.device)[0].device_kind

    def tensor(self, array: np.ndarray[Any, Any], gradient: bool = False) -> Any:
        # The transfer would else be a part of what is measured first.
        return self.jax.device_put(array, self.jax.devices(self.device)[0]).block_until_ready()

    def differentiated(self, function: Function) -> Function:
        step = self.jax.value_and_grad(lambda p, y: function(y, p).mean())
        return lambda y, p: step(p, y)

    def compiled(self, function: Function, gradient: bool) -> Function:
        return self.jax.jit(self.differentiated(function) if gradient else function)

    def wait(self, result: Any) -> None:
        self.jax.block_until_ready(result)

    def peak(self, call: Callable[[], Any]) -> int:
        if self.device == "cpu":
            return resident_peak(call)
        device = self.jax.devices(self.device)[0]
        before = device.memory_stats()["bytes_in_use"]
        call()
        # JAX cannot set its peak back, but the process has run nothing larger before.
        return device.memory_stats()["peak_bytes_in_use"] - before


class TensorFlow(NumPy):
    name = "tensorflow"
    packages = ("tensorflow-cpu", "tensorflow")

    def __init__(self, device: str) -> None:
        import tensorflow as tf

        super().__init__(device)
        self.tf = tf
        self.place = "GPU:0" if device == "cuda" else "CPU:0"
        if device == "cpu":
            tf.config.set_visible_devices([], "GPU")

    def device_name(self) -> str:
        if self.device == "cpu":
            return self.device
        return str(self.tf.config.experimental.get_device_details(self.tf.config.list_physical_devices("GPU")[0])["device_name"])

    def tensor(self, array: np.ndarray[Any, Any], gradient: bool = False) -> Any:
        with self.tf.device(self.place):
            return self.tf.constant(array)

    def differentiated(self, function: Function) -> Function:
        def step(y: Any, p: Any) -> Any:
            with self.tf.GradientTape() as tape:
                tape.watch(p)
                value = self.tf.reduce_mean(function(y, p))
            return value, tape.gradient(value, p)

        return step

    def compiled(self, function: Function, gradient: bool) -> Function:
        return self.tf.function(self.differentiated(function) if gradient else function, jit_compile=True)

    def wait(self, result: Any) -> None:
        if self.device == "cuda":
            self.tf.test.experimental.sync_devices()

    def peak(self, call: Callable[[], Any]) -> int:
        if self.device == "cpu":
            return resident_peak(call)
        self.tf.config.experimental.reset_memory_stats(self.place)
        before = self.tf.config.experimental.get_memory_info(self.place)["current"]
        call()
        return int(self.tf.config.experimental.get_memory_info(self.place)["peak"]) - before


FRAMEWORKS = {"numpy": NumPy, "torch": Torch, "jax": Jax, "tensorflow": TensorFlow}


def contenders(framework: NumPy, name: str, own: Function | None, gradient: bool, modes: list[str]) -> dict[str, Function]:
    """What takes part in a cell, under "library mode"."""
    import lossbackend as lb

    case = CASES[name]
    libraries = {"lossbackend": lossbackend_function(case), "Keras": keras_function(case)}
    if own is not None:
        libraries["own"] = own
    chosen = {}
    for library, function in libraries.items():
        # optax is written to be compiled.
        if "eager" in modes and not (library == "own" and isinstance(framework, Jax)):
            chosen[f"{library} eager"] = framework.differentiated(function) if gradient else function
        if "compiled" in modes and library == "lossbackend":
            chosen["lossbackend compiled"] = lossbackend_function(case, *([lb.value_and_grad] if gradient else []), lb.jit)
        elif "compiled" in modes:
            chosen[f"{library} compiled"] = framework.compiled(function, gradient)
    return chosen


def check(framework: NumPy, name: str, own: Function | None) -> None:
    """That all of them compute the same loss: RuntimeError if one does not."""
    case = CASES[name]
    y, p = case.inputs(np.random.default_rng(1), (64, 10))
    expected = case.textbook(y.astype(np.float64) if y.dtype.kind == "f" else y, p.astype(np.float64))
    for label, function in contenders(framework, name, own, False, ["eager"]).items():
        values = framework.numpy(function(framework.tensor(y), framework.tensor(p)))
        if not np.allclose(values, expected, rtol=1e-4, atol=1e-5):
            raise RuntimeError(f"{name}: {label} computes another loss: {values[:3]}, expected {expected[:3]}")


def take_turns(framework: NumPy, calls: dict[str, Callable[[], Any]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds per call of every contender in every round; each round runs each of them once, and begins with another one."""
    repeats = {}
    for label, call in calls.items():
        # The first call compiles, the second still fills caches.
        for _ in range(2):
            start = time.perf_counter()
            framework.wait(call())
            took = time.perf_counter() - start
        repeats[label] = max(1, int(BATCH / took))
    labels = list(calls)
    times: dict[str, list[float]] = {label: [] for label in labels}
    gc.collect()
    gc.disable()
    begin = time.perf_counter()
    for turn in range(rounds):
        first = turn % len(labels)
        for label in labels[first:] + labels[:first]:
            call = calls[label]
            start = time.perf_counter()
            for _ in itertools.repeat(None, repeats[label]):
                result = call()
            framework.wait(result)
            times[label].append((time.perf_counter() - start) / repeats[label])
            del result
        if turn >= 2 and time.perf_counter() - begin > seconds:
            break
    gc.enable()
    return times


def measured(framework: NumPy, cells: list[dict[str, Any]], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Every cell with the median seconds of its contenders, and on NumPy with the bytes of their temporaries."""
    own = OWN_FUNCTIONS[framework.name]()
    for name in dict.fromkeys(cell["loss"] for cell in cells):
        check(framework, name, own.get(name))
    made: tuple[Any, Any, Any] = (None, None, None)
    results = []
    for cell in cells:
        name, shape, gradient = cell["loss"], (cell["rows"], cell["columns"]), cell["pass"] == GRADIENT
        if made[0] != (name, shape):
            made = ((name, shape), *CASES[name].inputs(np.random.default_rng(0), shape))
        y, p = framework.tensor(made[1]), framework.tensor(made[2], gradient)
        framework.forget()
        calls = {label: partial(function, y, p) for label, function in contenders(framework, name, own.get(name), gradient, cell["modes"]).items()}
        begin = time.perf_counter()
        times = take_turns(framework, calls, rounds, seconds)
        medians = {label: statistics.median(values) for label, values in times.items()}
        memory = {label: framework.peak(call) - returned(cell) for label, call in calls.items()} if framework.name == "numpy" else {}
        results.append({**cell, "backend": framework.name, "times": medians, "temporaries": memory})
        shown = ", ".join(f"{label} {1e3 * value:.3g}" for label, value in medians.items())
        print(f"{framework.name} {name} {cell['size']} {cell['pass']}: {shown} ms ({time.perf_counter() - begin:.1f} s)", file=sys.stderr, flush=True)
    return results


def returned(cell: dict[str, Any]) -> int:
    """The bytes of what a call returns, which are no temporaries."""
    return 4 * cell["rows"] * (cell["columns"] if cell["pass"] == GRADIENT else 1)


def temporaries(framework: NumPy, cell: dict[str, Any], label: str) -> int:
    """The bytes of a contender's temporaries, in a process that has run nothing else: allocators keep what they once had."""
    own = OWN_FUNCTIONS[framework.name]().get(cell["loss"])
    gradient = cell["pass"] == GRADIENT
    function = contenders(framework, cell["loss"], own, gradient, ["eager", "compiled"])[label]
    # The second shape is what counts; the first one loads libraries and starts threads.
    for shape in ((1000, cell["columns"]), (cell["rows"], cell["columns"])):
        y, p = CASES[cell["loss"]].inputs(np.random.default_rng(0), shape)
        call = partial(function, framework.tensor(y), framework.tensor(p, gradient))
        most = framework.peak(lambda call=call: framework.wait(call()))
    return most - returned(cell)


def main() -> None:
    request = json.loads(sys.argv[1])
    framework = FRAMEWORKS[request["backend"]](request["device"])
    result: Any
    if "contender" in request:
        result = temporaries(framework, request["cells"][0], request["contender"])
    else:
        cells = measured(framework, request["cells"], request["rounds"], request["seconds"])
        result = {"cells": cells, "device": framework.device_name(), "versions": versions(*framework.packages, "keras", "numpy")}
    Path(request["output"]).write_text(json.dumps(result))
    # TensorFlow and JAX take seconds to go in order.
    os._exit(0)


def versions(*packages: str) -> dict[str, str]:
    installed = {distribution.name.replace("_", "-"): distribution.version for distribution in importlib.metadata.distributions()}
    return {package: installed[package] for package in packages if package in installed}


if __name__ == "__main__":
    main()
