"""What does not work, why, and what to do instead: the one table of it.

Each limit comes with code that would work without it. test_limits.py holds that it still does not, so that an entry leaves this table when a
framework mends it, and that docs/limits.md is what ``python tests/known_limits.py`` prints.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import lossbackend as lb

HEAD = """# Known limits

What does not work, in which framework, why, and what to do instead. Each entry is tested: when a framework mends one, the test says so.

| limit | where | why | instead |
|---|---|---|---|
"""
ONE, ZERO = np.ones((1, 2), "float32"), np.zeros((1, 2), "float32")


class Limit(NamedTuple):
    """``without(framework)`` is what would hold without the limit; ``shows`` is a pattern in the error that comes instead."""

    limit: str
    frameworks: tuple[str, ...]
    why: str
    instead: str
    without: Callable[[Any], None]
    shows: str


def compiled(framework, function):
    """The function inside the compiler of that framework (a tests.frameworks.Framework)."""
    module = framework.module
    if framework.name == "torch":
        return module.compile(function, fullgraph=True, backend="eager")
    return module.jit(function) if framework.name == "jax" else module.function(function)


def nine_objects_of_a_class(torch):
    losses = [lb.CategoricalCrossentropy(class_weight=(1.0, float(weight))) for weight in range(9)]
    kept = [compiled(torch, loss.__call__) for loss in losses]
    for function in kept:
        function(torch.tensor(ONE), torch.tensor(ONE))


def nine_objects_of_nine_classes(torch):
    names = ("MeanSquaredError", "MeanAbsoluteError", "LogCosh", "Huber", "Hinge", "SquaredHinge", "CategoricalHinge", "KLDivergence", "Poisson")
    kept = [compiled(torch, getattr(lb, name)()) for name in names]
    for function in kept:
        function(torch.tensor(ONE), torch.tensor(ONE))


def a_block_inside_a_compiled_function(torch):
    def function(y_pred):
        with lb.use_backend("torch"):
            return lb.mse([[0.0, 0.0]], [[1.0, 1.0]]) + y_pred.sum()

    assert float(compiled(torch, function)(torch.tensor(ZERO))) == 1.0


def nine_values_of_an_option(torch):
    function = compiled(torch, lambda y_pred, delta: lb.huber(ZERO, y_pred, delta))
    for tenths in range(1, 10):
        function(torch.tensor(ONE), tenths / 10)


def a_scripted_loss(torch):
    scripted = torch.module.jit.script(lb.mse)
    assert scripted(torch.tensor(ZERO), torch.tensor(ONE)) == 1.0


def checked_inside_a_compiler(framework):
    with lb.checked():
        try:
            compiled(framework, lambda y_pred: lb.mse(y_pred, y_pred))(framework.tensor(np.float32("nan") * ONE))
        except ValueError:
            return
    raise AssertionError("no finding")


def a_bad_label_inside_a_compiler(framework):
    try:
        compiled(framework, lambda y_true, y_pred: lb.scce(y_true, y_pred))(framework.tensor(np.array([5])), framework.tensor(ONE / 2))
    except ValueError:
        return
    raise AssertionError("no error")


def epsilon_changed_after_compilation(framework):
    function = compiled(framework, lambda y_true, y_pred: lb.bce(y_true, y_pred))
    for epsilon in (1e-7, 1e-2):
        lb.set_epsilon(epsilon)
        loss = framework.numpy(function(framework.tensor(ONE), framework.tensor(ZERO)))
        np.testing.assert_allclose(loss, -np.log(epsilon), rtol=1e-6)


SCALE = 1.0


@lb.loss
def scaled_error(ops, y_true, y_pred):
    return ops.mean(SCALE * (y_pred - y_true), axis=-1)


def a_global_changed_after_the_first_call(framework):
    global SCALE
    zeros, ones = np.zeros((100_000, 2), "float32"), np.ones((100_000, 2), "float32")
    try:
        for scale in (1.0, 2.0):
            SCALE = scale
            assert framework.numpy(scaled_error(framework.tensor(zeros), framework.tensor(ones)))[0] == scale
    finally:
        SCALE = 1.0


def double_precision_from_numpy(jax):
    with lb.use_backend("jax"):
        assert lb.mse(ZERO.astype("float64"), ONE.astype("float64")).dtype == "float64"


def a_label_beyond_32_bits(jax):
    assert np.isnan(jax.numpy(compiled(jax, lb.scce)(np.array([2**32 + 1]), jax.tensor(ONE / 2)))).all()


def an_unknown_rank(tensorflow):
    module = tensorflow.module
    function = module.function(lb.mse, input_signature=[module.TensorSpec(None), module.TensorSpec(None)])
    assert float(function(tensorflow.tensor(ZERO), tensorflow.tensor(ONE))[0]) == 1.0


def class_weights_by_name_of_unknown_classes(tensorflow):
    spec = tensorflow.module.TensorSpec((None, None))
    function = tensorflow.module.function(lambda y_true, y_pred: lb.cce(y_true, y_pred, class_weight={0: 2.0}), input_signature=[spec, spec])
    function(tensorflow.tensor(ONE), tensorflow.tensor(ONE))


def ragged_input(tensorflow):
    ragged = tensorflow.module.ragged.constant([[1.0], [2.0, 3.0]])
    assert float(lb.mse(ragged, ragged)[0]) == 0.0


def complex_input(framework):
    values = framework.tensor(ONE.astype("complex64"))
    assert float(lb.mse(values, values)[0]) == 0.0


EVERY = ("numpy", "torch", "jax", "tensorflow")
LIMITS = [
    Limit(
        "More than eight loss objects of one class, compiled one by one",
        ("torch",),
        "Dynamo compiles a piece of code eight times, then gives up; the objects of a class share their code",
        "compile the function that calls the loss, such as the training step; or raise `torch._dynamo.config.recompile_limit`",
        nine_objects_of_a_class,
        "FailOnRecompileLimitHit",
    ),
    Limit(
        "More than eight loss objects, of any class, each handed to `torch.compile` as it is",
        ("torch",),
        "`torch.compile` puts an object into a wrapper of its own, which is one piece of code for all",
        "`torch.compile(loss.__call__)`, or compile the function that calls the loss",
        nine_objects_of_nine_classes,
        "FailOnRecompileLimitHit",
    ),
    Limit(
        "`use_backend` inside a compiled function",
        ("torch",),
        "Dynamo cannot follow a ContextVar, and breaks the graph (an error with `fullgraph=True`)",
        "pass tensors: they choose the backend by themselves; or use `lossbackend.torch`",
        a_block_inside_a_compiled_function,
        "ContextVar",
    ),
    Limit(
        "More than eight values of a number such as `delta` in one compiled function",
        ("torch",),
        "each is a constant of the compiled code, because torch's cache confuses numbers that it takes as symbolic",
        "a tensor, `delta=torch.tensor(0.5)`; or `lossbackend.jit`, which compiles anew for each",
        nine_values_of_an_option,
        "FailOnRecompileLimitHit",
    ),
    Limit(
        "`torch.jit.script`",
        ("torch",),
        "TorchScript takes no `*args`, and torch has deprecated it",
        "`torch.compile`, `torch.export` or `torch.jit.trace`",
        a_scripted_loss,
        "variable number of arguments|deprecated",
    ),
    Limit(
        "Checking mode does not look inside compilers and transforms",
        ("torch", "jax", "tensorflow"),
        "values are not known while a call is traced",
        "call the loss once eagerly, inside `lb.checked()`",
        checked_inside_a_compiler,
        "no finding",
    ),
    Limit(
        "A class id out of range is NaN for its sample inside compilers and transforms, and on accelerators, not an error",
        ("torch", "jax", "tensorflow"),
        "values are not known while a call is traced, and looking at them would stop an accelerator",
        "check the labels when they are loaded",
        a_bad_label_inside_a_compiler,
        "no error",
    ),
    Limit(
        "`set_epsilon` after compilation",
        ("jax", "tensorflow"),
        "the number is a constant of the compiled function (Dynamo notices the change and compiles again)",
        "call it before you compile; or compile again",
        epsilon_changed_after_compilation,
        "AssertionError",
    ),
    Limit(
        "A loss of your own keeps the globals of its first call",
        ("jax", "tensorflow"),
        "concrete arrays go through one `jax.jit` of the definition; on TensorFlow those of 131072 entries or more go through one `tf.function`",
        "make what changes an option of the loss",
        a_global_changed_after_the_first_call,
        "AssertionError",
    ),
    Limit(
        "float64 NumPy arrays become float32",
        ("jax",),
        "JAX has 32 bits unless it is told to have 64",
        '`jax.config.update("jax_enable_x64", True)`',
        double_precision_from_numpy,
        "AssertionError",
    ),
    Limit(
        "A class id of 2³² or more may pass for a small one inside `jax.jit`",
        ("jax",),
        "JAX drops the upper 32 bits of a NumPy argument before the function sees it",
        "check the labels when they are loaded; outside `jax.jit` it is a ValueError",
        a_label_beyond_32_bits,
        "AssertionError",
    ),
    Limit(
        "Tensors of unknown rank",
        ("tensorflow",),
        "shapes are compared, and axes counted, while the graph is built",
        "`tensor.set_shape([None, 10])`, or a rank in the `TensorSpec`; sizes may stay unknown",
        an_unknown_rank,
        "unknown rank",
    ),
    Limit(
        "`class_weight` as a dict where the number of classes is unknown",
        ("tensorflow",),
        "the classes that it leaves out have to be counted while the graph is built",
        "one weight per class, or a known class axis",
        class_weights_by_name_of_unknown_classes,
        "needs a number of classes",
    ),
    Limit(
        "Ragged tensors",
        ("tensorflow",),
        "they are no tensors of one shape",
        "`ragged.to_tensor()`, and `mask=` of a loss object for the samples that it adds",
        ragged_input,
        "is a RaggedTensor",
    ),
    Limit(
        "Complex numbers",
        EVERY,
        "no loss here is defined for them",
        "real and imaginary parts as two entries",
        complex_input,
        "must hold real numbers",
    ),
]


def page():
    """docs/limits.md."""
    rows = [(limit.limit, "all" if limit.frameworks == EVERY else ", ".join(limit.frameworks), limit.why, limit.instead) for limit in LIMITS]
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    print(page(), end="")
