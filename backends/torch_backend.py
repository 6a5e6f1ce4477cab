"""The PyTorch adapter."""

import functools
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch.nn.functional import threshold
from torch.utils._pytree import register_pytree_node

from lossbackend.backends.blocks import rows_of
from lossbackend.backends.composed import ComposedOps
from lossbackend.ops import Tensor
from lossbackend.reduction import Partial

_DTYPES = {
    name: getattr(torch, name)
    for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool")
}
# NumPy knows the neighbours of their numbers.
_NUMPYS = (torch.float32, torch.float64)
# A subclass may be fake, distributed or symbolic.
_PLAIN = (torch.Tensor, torch.nn.Parameter)
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# Whether backward is to leave the graph for another time (retain_graph).
_graph_is_kept: Callable[[], bool] = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)
_DTYPES["index"] = torch.int64  # gather takes no other
# A block's temporaries stay in the cache, and it is long enough for torch to use every core on it.
_BLOCK = 1 << 17


class TorchOps(ComposedOps):
    name = "torch"

    sign = staticmethod(torch.sign)
    square = staticmethod(torch.square)
    exp = staticmethod(torch.exp)
    expm1 = staticmethod(torch.expm1)
    log = staticmethod(torch.log)
    log1p = staticmethod(torch.log1p)
    sigmoid = staticmethod(torch.sigmoid)
    relu = staticmethod(torch.relu)
    where = staticmethod(torch.where)
    ones_like = staticmethod(torch.ones_like)
    equal = staticmethod(torch.eq)
    isnan = staticmethod(torch.isnan)
    isinf = staticmethod(torch.isinf)
    reshape = staticmethod(torch.reshape)
    expand_dims = staticmethod(torch.unsqueeze)
    squeeze = staticmethod(torch.squeeze)
    _root = staticmethod(torch.sqrt)
    _floor = staticmethod(torch.floor)

    def is_tensor(self, x: Any) -> bool:
        return isinstance(x, torch.Tensor)

    def asarray(self, x: Any, like: Tensor | None = None) -> Tensor:
        if not isinstance(x, torch.Tensor):
            x = _tensor_of(x, like)
        return x if type(x) in _PLAIN and (like is None or type(like) in _PLAIN) else _beside(x, like)

    def to_numpy(self, x: Tensor) -> Any:
        x = x.detach() if x.is_cpu else x.detach().cpu()
        # NumPy has no bfloat16, nor anything of 8 bits.
        return (x if x.dtype in _NAMES and x.dtype is not torch.bfloat16 else x.float()).numpy()

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        wanted = _DTYPES[dtype]
        return x if x.dtype is wanted else x.to(wanted)

    def shape(self, x: Tensor) -> tuple[Any, ...]:
        return tuple(x.shape)

    def dtype(self, x: Tensor) -> str:
        return _NAMES.get(x.dtype) or str(x.dtype).removeprefix("torch.")

    def is_concrete(self, *tensors: Tensor) -> bool:
        # Inside grad, vmap and their kin not even a tensor that takes no part can be looked at.
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._functorch.peek_interpreter_stack() is not None:
            return False
        if torch._C._len_torch_dispatch_stack():
            # Somebody records what is computed, as make_fx does.
            return False
        for x in tensors:
            if type(x) not in _PLAIN or not x.is_cpu:
                return False
        return True

    def stop_gradient(self, x: Tensor) -> Tensor:
        return x.detach()

    # torch.abs has slope 0 at 0 and clamp slope 1 on the closed interval, but both have slope 0 at NaN: native where no gradient is wanted.

    def abs(self, x: Tensor) -> Tensor:
        # Times 1, which is NaN at NaN: the slope is that NaN times the sign.
        return torch.abs(x) * torch.clamp(x.detach(), 1, 1) if x.requires_grad else torch.abs(x)

    def clip(self, x: Tensor, low: Any, high: Any) -> Tensor:
        if not x.requires_grad:
            return torch.clamp(x, low, high)
        if torch.compiler.is_compiling() or x.dtype not in _NUMPYS or isinstance(low, torch.Tensor) or isinstance(high, torch.Tensor):
            return super().clip(x, low, high)
        if high is not None:
            x = -_at_least(-x, -high)
        return x if low is None else _at_least(x, low)

    def divide(self, x: Tensor, y: Tensor) -> Tensor:
        # x/y² in torch's slope is inf for 1 and 1e-20, and a gradient of 0 times that NaN.
        return super().divide(x, y) if y.requires_grad else torch.div(x, y)

    def softplus(self, x: Tensor) -> Tensor:
        # torch's own has a second derivative of σ(1 − σ), whose digits are gone at 15.
        return super().softplus(x) if x.requires_grad or not self.is_concrete(x) else self._native_softplus(x)

    def _native_softplus(self, x: Tensor) -> Tensor:
        # Above its threshold, 20 unless told, torch returns x, and 2e-9 is much to float64. Here e^−threshold is nothing, and e^threshold finite.
        return torch.nn.functional.softplus(x, threshold=700.0 if x.dtype is torch.float64 else 80.0)

    def _nowhere(self, condition: Tensor) -> bool:
        return self.is_concrete(condition) and not condition.any().item()

    def times(self, weight: Any, x: Tensor) -> Tensor:
        if isinstance(weight, (int, float)) or not self.is_concrete(weight, x):
            return super().times(weight, x)
        product = weight * x
        # An infinity shows in the sum, which is one pass over the entries; to find out which weights are 0 where takes four.
        return product if math.isfinite(product.detach().sum().item()) else super().times(weight, x)

    def minimum(self, x: Tensor, y: Tensor | float) -> Tensor:
        return self.clip(x, None, y) if isinstance(y, (int, float)) else torch.minimum(x, y)

    def maximum(self, x: Tensor, y: Tensor | float) -> Tensor:
        return self.clip(x, y, None) if isinstance(y, (int, float)) else torch.maximum(x, y)

    def sum(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        total = torch.sum(x, dim=axis, keepdim=keepdims)
        return total if type(x) in _PLAIN else _settled(total)

    def mean(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        if _is_distributed(x):
            # Of shards of different sizes torch gathers all entries for their mean.
            return self.sum(x, axis, keepdims) / (x.numel() if axis is None else x.shape[axis])
        return torch.mean(x, dim=axis, keepdim=keepdims)

    def max(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        # Processes that find their maximum together may lose NaN.
        return super().max(x, axis, keepdims) if _is_distributed(x) else self._largest(x, axis, keepdims)

    def _largest(self, x: Tensor, axis: int | None, keepdims: bool) -> Tensor:
        # torch.max gives the whole gradient of a tie to one entry.
        if type(x) not in _PLAIN:
            x = _without_empty_shards(x, axis)
        largest = torch.amax(x, dim=() if axis is None else axis, keepdim=keepdims)
        return largest if type(x) in _PLAIN else _settled(largest)

    def any(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return torch.any(x, dim=axis, keepdim=keepdims)

    def all(self, x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return torch.all(x, dim=axis, keepdim=keepdims)

    def softmax(self, x: Tensor, axis: int = -1) -> Tensor:
        # torch gathers a sharded axis.
        return super().softmax(x, axis) if _is_sharded(x, axis) else torch.softmax(x, dim=axis)

    def take_class(self, x: Tensor, ids: Tensor, axis: int = -1) -> Tensor:
        if _is_sharded(x, axis):
            return _take_from_shards(self, x, ids, axis)
        return torch.gather(x, axis, ids.unsqueeze(axis)).squeeze(axis)

    def one_hot(self, ids: Tensor, classes: int, dtype: str = "float32") -> Tensor:
        return (ids.unsqueeze(-1) == self.asarray(torch.arange(classes, device=ids.device), ids)).to(_DTYPES[dtype])

    def concat(self, tensors: list[Tensor], axis: int = 0) -> Tensor:
        return torch.cat(tensors, dim=axis)

    def in_parts(self, y_true: Tensor, y_pred: Tensor) -> bool:
        # While it traces, torch.export would take a look at the size for a limit of the batch; a tensor that is symbolic has a type of its own.
        large = not torch.compiler.is_compiling() and type(y_pred) in _PLAIN and y_pred.numel() >= 2 * _BLOCK
        return large and self.is_concrete(y_true, y_pred)

    def run(self, definition: Callable[..., Tensor], y_true: Tensor, y_pred: Tensor, options: Mapping[str, Any], apart: bool = False) -> Tensor:
        if not apart:
            return definition(self, y_true, y_pred, **options)
        rows = rows_of(y_pred.shape, _BLOCK)

        def losses(true: Tensor, pred: Tensor, ops: TorchOps = self) -> Tensor:
            return definition(ops, true, pred, **options)

        if torch.is_grad_enabled() and (y_true.requires_grad or y_pred.requires_grad) and _depends_on_samples_alone(losses, y_true, y_pred):
            return _Differentiated.apply(losses, rows, y_true, y_pred)
        return _in_blocks(losses, rows, y_true, y_pred)

    def value_and_grad(self, function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        if torch.compiler.is_compiling():
            # A compiler follows this, and not torch.autograd.grad.
            value, pull = torch.func.vjp(function, x)
            (gradient,) = pull(torch.ones_like(value))
            return value, gradient
        x = x.detach().requires_grad_()
        value = function(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), gradient

    def grad_and_curvature(self, function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
        if not gradient.requires_grad:
            return gradient, torch.zeros_like(gradient)
        # One graph for all columns.
        slopes = [torch.autograd.grad(gradient[:, k].sum(), x, retain_graph=True, materialize_grads=True)[0][:, k] for k in range(x.shape[-1])]
        return gradient.detach(), torch.stack(slopes, dim=-1)

    def compile(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return torch.compile(function, fullgraph=True)  # type: ignore[no-any-return]


def _tensor_of(x: Any, like: Tensor | None) -> Tensor:
    device = None if like is None else like.device
    if isinstance(x, np.ndarray):
        # torch shares memory with an array, but warns of a read-only one and refuses negative strides. (A compiler shares nothing.)
        if not torch.compiler.is_compiling() and (not x.flags.writeable or any(stride < 0 for stride in x.strides)):
            x = x.copy()
        return torch.as_tensor(x, device=device)
    return torch.as_tensor(x, dtype=None if like is None else like.dtype, device=device)


def _is_distributed(x: Any) -> bool:
    """Whether it is a DTensor: known by what it has, because torch may be built without torch.distributed."""
    return type(x) not in _PLAIN and hasattr(x, "device_mesh")


def _beside(x: Tensor, like: Tensor) -> Tensor:
    """A tensor beside a DTensor is the whole one, the same on every process."""
    if _is_distributed(like) and not _is_distributed(x):
        return like.from_local(x, like.device_mesh)
    return _settled(x)


def _settled(x: Tensor) -> Tensor:
    """Where each process has a share of a sum or maximum, that of all.

    A DTensor would settle it wherever it is needed next, and its gradient where that has been repeated along the classes: then all processes exchange
    tensors of the size of the predictions. The second step changes nothing but settles the gradient.
    """
    if not _is_distributed(x) or not any(placement.is_partial() for placement in x.placements):
        return x
    return _replicated(_replicated(x, lambda placement: placement.is_partial()), lambda placement: False)


def _replicated(x: Tensor, where: Callable[[Any], bool]) -> Tensor:
    """Whole on every process along the dimensions of the mesh that ``where`` holds for."""
    from torch.distributed.tensor import Replicate

    return x.redistribute(placements=[Replicate() if where(placement) else placement for placement in x.placements])


def _without_empty_shards(x: Tensor, axis: int | None) -> Tensor:
    """With entries on every process, because torch finds no maximum of none. Ten classes on eight processes leave three without; few are gathered."""
    if not _is_distributed(x):
        return x
    smallest = list(x.shape)
    for placement, processes in zip(x.placements, x.device_mesh.shape, strict=True):
        along = getattr(placement, "dim", None)
        if along is not None:
            smallest[along] = max(smallest[along] - (processes - 1) * -(-smallest[along] // processes), 0)
    empty = [along for along in (range(x.dim()) if axis is None else (axis % x.dim(),)) if smallest[along] == 0]
    return _replicated(x, lambda placement: getattr(placement, "dim", None) in empty) if empty else x


def _is_sharded(x: Tensor, axis: int) -> bool:
    """Whether no process has all entries along the axis."""
    return _is_distributed(x) and any(getattr(placement, "dim", None) == axis % x.dim() for placement in x.placements)


def _take_from_shards(ops: TorchOps, x: Tensor, ids: Tensor, axis: int) -> Tensor:
    from torch.distributed.tensor import Replicate

    axis %= x.dim()
    # Each process compares the ids with its own classes.
    classes = ops.asarray(torch.arange(x.shape[axis], device=x.device).reshape([-1 if i == axis else 1 for i in range(x.dim())]), x)
    own = classes.redistribute(placements=[p if getattr(p, "dim", None) == axis else Replicate() for p in x.placements])
    return ops.sum(torch.where(ids.unsqueeze(axis) == own, x, 0.0), axis)


def _in_blocks(losses: Callable[[Tensor, Tensor], Tensor], rows: int, y_true: Tensor, y_pred: Tensor) -> Tensor:
    # Not slices: the gradient of each would be a tensor of the whole size.
    return torch.cat([losses(true, pred) for true, pred in zip(y_true.split(rows), y_pred.split(rows), strict=True)])


class _OnceDifferentiable(TorchOps):
    """For gradients that nobody differentiates."""

    softplus = TorchOps._native_softplus


_ONCE = _OnceDifferentiable()


def _unhooked() -> AbstractContextManager[Any]:
    # torch.utils.checkpoint would compute all blocks so far again for each of those whose graph lasts no longer than the block.
    return torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)  # type: ignore[no-any-return]


class _Differentiated(torch.autograd.Function):
    """The losses of samples that are independent, each block differentiated while it is in the cache.

    A loss depends on its own sample only, so its slopes are all that backward needs: one product, and one tensor kept of the size of y_pred, in place
    of every intermediate.
    """

    @staticmethod
    def forward(ctx: Any, losses: Callable[..., Tensor], rows: int, y_true: Tensor, y_pred: Tensor) -> Tensor:
        needed = ctx.needs_input_grad[2:]
        slopes = [torch.empty_like(tensor) for tensor, wanted in zip((y_true, y_pred), needed, strict=True) if wanted]
        values = []
        for true, pred, *parts in zip(y_true.split(rows), y_pred.split(rows), *(slope.split(rows) for slope in slopes), strict=True):
            block = [part.detach().requires_grad_(wanted) for part, wanted in zip((true, pred), needed, strict=True)]
            with torch.enable_grad(), _unhooked():
                value = losses(*block, ops=_ONCE)
                if value.requires_grad:
                    wanted = [part for part in block if part.requires_grad]
                    found = torch.autograd.grad(value, wanted, torch.ones_like(value), materialize_grads=True)
                else:
                    # A definition may have no slope in some block.
                    found = [torch.zeros_like(part) for part in parts]
            for part, slope in zip(parts, found, strict=True):
                part.copy_(slope)
            values.append(value.detach())
        ctx.losses, ctx.rows = losses, rows
        # Labels that need no gradient may be changed before backward, which seldom asks for them.
        ctx.labels = None if y_true.requires_grad else (y_true, y_true._version)
        ctx.save_for_backward(y_true if y_true.requires_grad else None, y_pred, *slopes)
        return torch.cat(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        y_true, y_pred, *slopes = ctx.saved_tensors
        if torch.is_grad_enabled():
            # Somebody wants derivatives of this one.
            if ctx.labels is not None:
                y_true, version = ctx.labels
                if y_true._version != version:
                    raise RuntimeError("y_true has been changed in place since the loss was computed, and its gradient is to be differentiated")
            # Views, because one of the two may depend on the other, and the way between them is no concern of this function.
            pair = [tensor.view_as(tensor) for tensor in (y_true, y_pred)]
            inputs = [tensor for tensor, wanted in zip(pair, ctx.needs_input_grad[2:], strict=True) if wanted]
            values = _in_blocks(ctx.losses, ctx.rows, *pair)
            results = list(torch.autograd.grad(values, inputs, gradient, create_graph=True, materialize_grads=True))
        else:
            # In the slopes' own memory, where nobody can want them again: taking new pages costs more than the product.
            kept = _graph_is_kept() or not OPS.is_concrete(gradient) or torch._C._functorch.is_legacy_batchedtensor(gradient)
            multiply = torch.mul if kept else torch.Tensor.mul_
            results = [multiply(slope, gradient.unsqueeze(-1)) for slope in slopes]
        return None, None, *(results.pop(0) if wanted else None for wanted in ctx.needs_input_grad[2:])


def _depends_on_samples_alone(losses: Callable[[Tensor, Tensor], Tensor], y_true: Tensor, y_pred: Tensor) -> bool:
    """Whether each sample has one loss, and nothing but the samples has a gradient (no learned option, no parameter of a closure)."""
    if y_true.is_inference() or any(torch.autograd.forward_ad.unpack_dual(tensor).tangent is not None for tensor in (y_true, y_pred)):
        return False
    sample = [tensor[:1].detach().requires_grad_(tensor.requires_grad) for tensor in (y_true, y_pred)]
    with _unhooked():
        values = losses(*sample)
    if values.dim() != 1 or y_pred.dim() != 2 or not values.requires_grad:
        return False
    # The leaves of the graph are the tensors that gradients are gathered for.
    seen, open_nodes = set(), [values.grad_fn]
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and not any(leaf is tensor for tensor in sample):
            return False
        open_nodes += [following for following, _ in node.next_functions]
    return True


def _at_least(x: Tensor, low: float) -> Tensor:
    # Alone of torch's clips it hands NaN on with its slope, but has slope 0 at the threshold: one number below the bound.
    return threshold(x, _below(low, x.dtype), low)


@functools.lru_cache(maxsize=64)
def _below(bound: float, dtype: torch.dtype) -> float:
    """The next number below, in that dtype; below 0 the next that is not subnormal, which a processor may take for 0."""
    wide = np.dtype(_NAMES[dtype]).type
    return min(float(np.nextafter(wide(bound), -np.inf)), -float(np.finfo(wide).tiny)) if bound == 0 else float(np.nextafter(wide(bound), -np.inf))


def _flatten(part: Partial) -> tuple[list[Tensor], Any]:
    leaves, same = part.flatten()
    # torch.func.vmap takes nothing but tensors.
    return [torch.as_tensor(leaf) for leaf in leaves], same


OPS = TorchOps()

register_pytree_node(Partial, _flatten, lambda leaves, same: Partial.unflatten(same, leaves))
