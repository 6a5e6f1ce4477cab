"""``jit`` and ``value_and_grad``: a loss compiled, and a loss with its gradient, whatever the framework of the tensors."""

import importlib.util
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from lossbackend import dispatch, options
from lossbackend.definition import Definition, neutral_array, predictions, prepare, read_ids
from lossbackend.ops import Ops, Tensor
from lossbackend.reduction import Losses

# Who differentiates for NumPy: one that is imported already, else the first that is installed.
_LENDERS = ("torch", "jax", "tensorflow")


def jit(loss: Any) -> Any:
    """A loss, compiled by the framework of the tensors that it is called with; called like the loss itself.

    By ``torch.compile``, ``jax.jit`` or ``tf.function(jit_compile=True)``, at the first call and again for other shapes and options; NumPy runs the
    loss as it is. Values cannot be looked at inside: a bad class id makes its sample NaN. ``loss`` is a loss function, a loss object, or what
    ``value_and_grad`` made of one; TypeError for anything else.

    >>> import numpy as np
    >>> import lossbackend as lb
    >>> lb.jit(lb.huber)(np.array([[0.0, 0.0]]), np.array([[0.5, 3.0]]), delta=1.0)
    array([1.3125])
    """
    return Transformed(loss.loss, True, loss.gradient) if isinstance(loss, Transformed) else Transformed(loss, True, False)


def value_and_grad(loss: Any) -> Any:
    """A function like ``loss`` that returns (loss, gradient with respect to y_pred), in the tensors' framework and y_pred's dtype.

    The loss is the mean over the samples of a loss function, and what its reduction makes of it for a loss object. NumPy has no gradients: for
    arrays, numbers and lists PyTorch, JAX or TensorFlow is borrowed, whichever is imported already or installed, without copying where it can, and
    the results are NumPy's. ImportError where none is installed; ValueError for an object that reduces nothing; TypeError for anything else.

    >>> import numpy as np
    >>> import lossbackend as lb
    >>> value, gradient = lb.value_and_grad(lb.mse)(np.array([[0.0], [1.0]]), np.array([[2.0], [1.0]]))
    >>> float(value), gradient.tolist()
    (2.0, [[2.0], [0.0]])
    """
    return Transformed(loss.loss, loss.compiled, True) if isinstance(loss, Transformed) else Transformed(loss, False, True)


class Transformed:
    """What ``jit`` and ``value_and_grad`` return."""

    def __init__(self, loss: Any, compiled: bool, gradient: bool) -> None:
        definition = definition_of("value_and_grad" if gradient else "jit", loss)
        if gradient and getattr(loss, "reduction", "mean") in (None, "none"):
            raise ValueError(f"value_and_grad: {loss!r} reduces nothing, and a gradient is that of one number: choose another reduction")
        self.loss = loss
        self.compiled = compiled
        self.gradient = gradient
        self.__name__ = definition.name
        self._definition = definition
        self._true, self._pred = definition.targets if isinstance(loss, FunctionType) else ("y_true", "y_pred")
        self._steps: dict[Any, Callable[..., Any]] = {}

    def __repr__(self) -> str:
        text = self.__name__ if isinstance(self.loss, FunctionType) else repr(self.loss)
        text = f"value_and_grad({text})" if self.gradient else text
        return f"jit({text})" if self.compiled else text

    def __reduce__(self) -> Any:
        # What is compiled stays behind.
        return Transformed, (self.loss, self.compiled, self.gradient)

    def __call__(self, *args: Any, **given: Any) -> Any:
        """The loss, or (loss, gradient)."""
        arguments = self._bind(args, given)
        ops, like = dispatch.resolve(self.__name__, arguments, getattr(self.loss, "pinned", None))
        if self.gradient and not ops.differentiable and like is not None:
            raise TypeError(f"{self.__name__}: the {ops.name} backend has no gradients: pass NumPy arrays, for which another one is borrowed")
        borrowed = lender(self.__name__) if self.gradient and not ops.differentiable else ops
        if borrowed is ops:
            return self._run(ops, arguments, like)
        with borrowed.double_precision():
            results = self._run(borrowed, arguments, like)
            return tuple(borrowed.to_numpy(result)[()] for result in results)

    def _run(self, ops: Ops, arguments: dict[str, Any], like: Tensor | None) -> Any:
        # Op by op, JAX differentiates slower than it compiles. Inside another compiler or transform there is nothing to compile.
        if not ops.is_concrete() or not (self.compiled or ops.name == "jax"):
            if not self.gradient:
                return self.loss(**arguments)
            y_pred = self._differentiable(ops, arguments[self._pred], like)
            return self._step(ops, (self._pred,), {name: value for name, value in arguments.items() if name != self._pred})(y_pred)
        if not self.compiled:
            # Nobody asked for a compiler, inside which no value can be looked at.
            self._check(arguments)
        tensors, constants = self._split(ops, arguments, like)
        try:
            return self._compiled(ops, tuple(tensors), constants)(*tensors.values())
        except Exception:
            # A compiler hides an error of ours in one of its own: without it, it comes as it is.
            self._step(ops, tuple(tensors), constants)(*tensors.values())
            raise

    def _check(self, arguments: dict[str, Any]) -> None:
        y_true, y_pred, rest = arguments[self._true], arguments[self._pred], {**arguments}
        del rest[self._true], rest[self._pred]
        pinned = getattr(self.loss, "pinned", None)
        if isinstance(self.loss, FunctionType):
            prepare(self._definition, y_true, y_pred, rest, pinned=pinned)
        else:
            prepare(self._definition, y_true, y_pred, self._definition.complete(self.loss._options, checked=True), **rest, pinned=pinned)

    def _differentiable(self, ops: Ops, value: Any, like: Tensor | None) -> Tensor:
        """The predictions as a tensor that has a gradient, in their own type, half precision included."""
        if ops.is_tensor(value) and ops.dtype(value).startswith(("float", "bfloat")):
            return value
        if getattr(value, "dtype", None) == np.float16:
            return ops.asarray(neutral_array(self.__name__, self._pred, value), like)
        return predictions(ops, self.__name__, value, like)

    def _bind(self, args: tuple[Any, ...], given: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a call, by name."""
        definition = self._definition
        if isinstance(self.loss, FunctionType):
            y_true, y_pred, values = definition.bind(args, given)
            return {self._true: y_true, self._pred: y_pred, **values}
        names = ("y_true", "y_pred", "sample_weight", "mask")
        if len(args) > len(names) or not set(given) <= set(names[len(args) :]) or len(args) + len(given) < 2:
            raise TypeError(f"{self!r}: takes y_true, y_pred, sample_weight and mask, got {len(args)} positional arguments and {sorted(given)}")
        return {**dict(zip(names, args, strict=False)), **given}

    def _split(self, ops: Ops, arguments: dict[str, Any], like: Tensor | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The arguments that are tensors, natively and y_pred first, and those that are constants of what is compiled."""
        name = self.__name__
        like = self._differentiable(ops, arguments[self._pred], like)
        tensors, constants = {self._pred: like}, {}
        for argument, value in arguments.items():
            if argument == self._pred:
                continue
            if ops.is_tensor(value):
                tensors[argument] = value
            elif argument == self._true and self._definition.sparse:
                tensors[argument], _ = read_ids(ops, name, argument, value, like)
            elif isinstance(value, np.ndarray) or (argument in (self._true, "sample_weight", "mask") and value is not None):
                tensors[argument] = ops.asarray(_in_floats(neutral_array(name, argument, value)), like)
            else:
                constants[argument] = value
        return tensors, constants

    def _step(self, ops: Ops, names: tuple[str, ...], constants: dict[str, Any]) -> Callable[..., Any]:
        """What is run on the tensors of those names."""
        loss, pred = self.loss, names[0]

        def run(*tensors: Tensor) -> Any:
            named = dict(zip(names, tensors, strict=True))
            return loss(**named, **constants)

        def step(*tensors: Tensor) -> Any:
            rest = dict(zip(names[1:], tensors[1:], strict=True))

            def objective(y_pred: Tensor) -> Tensor:
                values = loss(**{pred: y_pred}, **rest, **constants)
                return values if not isinstance(loss, FunctionType) else Losses(ops, values, None, None, None, None).reduced("mean")

            return ops.value_and_grad(objective, tensors[0])

        return step if self.gradient else run

    def _compiled(self, ops: Ops, names: tuple[str, ...], constants: dict[str, Any]) -> Callable[..., Any]:
        """``_step``, compiled once for each set of constants; as it is where one cannot be told from another."""
        function = self._step(ops, names, constants)
        try:
            key = (ops.name, names, options.epsilon(), tuple((name, type(value), _frozen(value)) for name, value in constants.items()))
            known = key in self._steps
        except TypeError:
            return function
        if not known:
            # A code object of its own, because torch counts recompilations by code object.
            function.__code__ = function.__code__.replace(co_name=self.__name__, co_qualname=self.__name__)
            self._steps[key] = ops.compile(function)
        return self._steps[key]


def definition_of(caller: str, loss: Any) -> Definition:
    """The definition of a loss function or a loss object; TypeError for anything else."""
    definition = getattr(getattr(type(loss), "function", loss), "definition", None)
    if not isinstance(definition, Definition):
        raise TypeError(f"{caller}: expected a loss function or a loss object, got {loss!r}")
    return definition


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def _in_floats(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Integers as float64, because JAX keeps the lower 32 bits of them."""
    return array.astype(np.float64) if array.dtype.kind in "iu" else array


def lender(loss: str) -> Ops:
    """The adapter that differentiates for NumPy."""
    imported = [name for name in _LENDERS if name in sys.modules]
    for name in (*imported, *_LENDERS):
        if name in sys.modules or importlib.util.find_spec(name) is not None:
            return dispatch.adapter(name)
    raise ImportError(f'{loss}: NumPy has no gradients, and none of {", ".join(_LENDERS)} is installed: pip install "lossbackend[torch]"')
