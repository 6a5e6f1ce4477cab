"""What the tests need of each framework: make a tensor, read one, differentiate. Nothing here goes through the library under test."""

import contextlib
import importlib.util

import numpy as np


class Framework:
    """One framework; ``grad`` is None where there is no differentiation."""

    name = "numpy"
    package = "numpy"
    grad = None
    native_grad = None
    second = None

    @classmethod
    def installed(cls):
        return importlib.util.find_spec(cls.package) is not None

    def double_precision(self):
        """The context in which float64 and int64 tensors exist; only JAX needs one."""
        return contextlib.nullcontext()

    def tensor(self, array, dtype=None):
        """A native tensor of exactly the array's dtype, or of the dtype named."""
        array = np.asarray(array)
        return array if dtype is None else array.astype(_numpy_dtype(dtype))

    def numpy(self, tensor):
        """The values as a NumPy array; bfloat16 widens to float32, which NumPy can compare."""
        array = np.asarray(tensor)
        return array.astype(np.float32) if array.dtype.name == "bfloat16" else array

    def dtype(self, tensor):
        return tensor.dtype.name

    def shape(self, tensor):
        return tuple(tensor.shape)

    def is_native(self, tensor):
        return isinstance(tensor, np.ndarray | np.generic)

    def __repr__(self):
        return self.name


class Differentiable(Framework):
    def grad(self, function, array, dtype=None):
        """The gradient of the sum of function(y_pred) with respect to y_pred, as a NumPy array."""
        return self.numpy(self.native_grad(function, array, dtype))


class Torch(Differentiable):
    name = package = "torch"

    def __init__(self):
        import torch

        self.module = torch

    def tensor(self, array, dtype=None):
        array = np.array(array)  # a copy: a tensor over read-only memory warns
        if array.dtype.name == "bfloat16":
            return self.module.tensor(array.astype(np.float32)).to(self.module.bfloat16)
        tensor = self.module.tensor(array)
        return tensor if dtype is None else tensor.to(getattr(self.module, dtype))

    def numpy(self, tensor):
        return (tensor.float() if tensor.dtype == self.module.bfloat16 else tensor).numpy(force=True)

    def dtype(self, tensor):
        return str(tensor.dtype).removeprefix("torch.")

    def is_native(self, tensor):
        return isinstance(tensor, self.module.Tensor)

    def native_grad(self, function, array, dtype=None):
        y_pred = self.tensor(array, dtype).requires_grad_()
        function(y_pred).sum().backward()
        return y_pred.grad

    def second(self, function, array):
        y_pred = self.tensor(array).requires_grad_()
        (gradient,) = self.module.autograd.grad(function(y_pred).sum(), y_pred, create_graph=True)
        (curvature,) = self.module.autograd.grad(gradient.sum(), y_pred)
        return self.numpy(curvature)


class Jax(Differentiable):
    name = package = "jax"

    def __init__(self):
        import jax

        self.module = jax

    def double_precision(self):
        return self.module.enable_x64(True)

    def tensor(self, array, dtype=None):
        return self.module.numpy.asarray(np.asarray(array) if dtype is None else np.asarray(array).astype(_numpy_dtype(dtype)))

    def is_native(self, tensor):
        return isinstance(tensor, self.module.Array)

    def native_grad(self, function, array, dtype=None):
        # Compiled, because op by op each primitive of each shape is compiled by itself.
        return self.module.jit(self.module.grad(lambda y_pred: function(y_pred).sum()))(self.tensor(array, dtype))

    def second(self, function, array):
        gradient = self.module.grad(lambda y_pred: function(y_pred).sum())
        return self.numpy(self.module.grad(lambda y_pred: gradient(y_pred).sum())(self.tensor(array)))


class TensorFlow(Differentiable):
    name = package = "tensorflow"

    def __init__(self):
        import tensorflow

        self.module = tensorflow

    def tensor(self, array, dtype=None):
        array = np.asarray(array)
        return self.module.constant(array if dtype is None else array.astype(_numpy_dtype(dtype)))

    def numpy(self, tensor):
        return super().numpy(tensor.numpy())

    def is_native(self, tensor):
        return isinstance(tensor, self.module.Tensor)

    def native_grad(self, function, array, dtype=None):
        y_pred = self.tensor(array, dtype)
        with self.module.GradientTape() as tape:
            tape.watch(y_pred)
            total = self.module.reduce_sum(function(y_pred))
        return tape.gradient(total, y_pred, unconnected_gradients=self.module.UnconnectedGradients.ZERO)

    def second(self, function, array):
        y_pred = self.tensor(array)
        with self.module.GradientTape() as outer:
            outer.watch(y_pred)
            with self.module.GradientTape() as inner:
                inner.watch(y_pred)
                total = self.module.reduce_sum(function(y_pred))
            gradient = self.module.reduce_sum(inner.gradient(total, y_pred))
        return self.numpy(outer.gradient(gradient, y_pred, unconnected_gradients=self.module.UnconnectedGradients.ZERO))


FRAMEWORKS = {framework.name: framework for framework in (Framework, Torch, Jax, TensorFlow)}


def _numpy_dtype(name):
    if name == "bfloat16":
        import ml_dtypes  # NumPy has no bfloat16 of its own; JAX and TensorFlow install this one

        return ml_dtypes.bfloat16
    return name
