"""Losses as ONNX models: ``export``; and every name of ``lossbackend.losses``, and ``to_categorical``, pinned to arrays of ndonnx.

NumPy arrays, numbers and lists become such arrays, whose losses onnxruntime computes; a tensor of another framework is a TypeError.
"""

import inspect
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import lossbackend
from lossbackend import registry
from lossbackend.columns import bind, has_classes
from lossbackend.definition import axis_of, evaluate, prepare, without
from lossbackend.files import error_text, replace
from lossbackend.losses import objects
from lossbackend.reduction import check_reduction

if TYPE_CHECKING:
    from lossbackend.losses import *  # noqa: F403
    from lossbackend.utils import to_categorical as to_categorical
else:
    from lossbackend.registry import pinned

    # Says how to install what is missing.
    globals().update(pinned("onnx"))
    __all__ = sorted([*__all__, "export"])  # noqa: F405

import ndonnx as ndx
import onnx

DTYPES = ("float32", "float64", "float16")
# Of the operators that a loss takes, what has changed since (ONNX 1.14) are only the types that they know: onnxruntime 1.15 reads the files.
OPSET, IR_VERSION = 19, 9


def export(
    loss: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    shape: Sequence[int | str] | None = None,
    dtype: Literal["float32", "float64", "float16"] = "float32",
    reduction: str | None = None,
    sample_weight: bool = False,
    mask: bool = False,
    **options: Any,
) -> onnx.ModelProto:
    """An ONNX model of a loss, written to ``path`` unless that is None.

    loss: a name, a loss function, class or object, your own too; ``options`` are those of the loss, and constants of the model.
    shape: of y_pred, a name for each axis of any size and a number for one of that size only; ("N", "C") by default, ("N", "D") where there are no
        classes.
    dtype: of y_pred, of the weights, and of y_true unless that holds class ids, which are int64. float16 is computed in float32.
    reduction: by default that of a loss object, and none for anything else.
    sample_weight, mask: whether the model takes them, one per sample; a mask holds bools.

    The inputs of the model are y_true, y_pred, and the sample_weight and mask that were asked for, its output is loss: one number, or one per sample
    where nothing is reduced. Nothing is broadcast: onnxruntime refuses shapes that differ. A class id that is none makes its sample NaN.

    Raises ValueError or TypeError for a loss, an option, a shape or a dtype that there is none of, ValueError for a loss of your own whose formula
    looks at values or at sizes that are not fixed, and for a file that cannot be written, where the one that was there stays.

    >>> import numpy as np
    >>> import onnxruntime
    >>> model = export("huber", delta=2.0)
    >>> session = onnxruntime.InferenceSession(model.SerializeToString())
    >>> session.run(None, {"y_true": np.zeros((2, 1), "float32"), "y_pred": np.array([[1.0], [4.0]], "float32")})
    [array([0.5, 6. ], dtype=float32)]
    """
    found = registry.get(loss)
    bound = bind(found, options)
    definition, complete = bound.definition, bound.complete()
    if reduction is None and isinstance(found, objects.Loss):
        reduction = found.reduction
    check_reduction(definition.name, reduction)
    if dtype not in DTYPES:
        raise ValueError(f"{definition.name}: dtype must be one of {', '.join(map(repr, DTYPES))}, got {dtype!r}")
    sizes = _sizes(definition.name, ("N", "C" if has_classes(definition) else "D") if shape is None else shape)
    axis = axis_of(definition, sizes, complete.get("axis", -1))
    for option in definition.class_weights + definition.pos_weights:
        weights, along = complete[option], axis if option in definition.class_weights else len(sizes) - 1
        if isinstance(weights, tuple) and isinstance(weights[0], float) and isinstance(sizes[along], str):
            # Of another size they would be broadcast when the model runs.
            sizes = (*sizes[:along], len(weights), *sizes[along + 1 :])
    samples = without(sizes, axis)

    inputs = {
        "y_true": ndx.argument(shape=samples, dtype="int64") if definition.sparse else ndx.argument(shape=sizes, dtype=dtype),
        "y_pred": ndx.argument(shape=sizes, dtype=dtype),
    }
    if sample_weight:
        inputs["sample_weight"] = ndx.argument(shape=samples, dtype=dtype)
    if mask:
        inputs["mask"] = ndx.argument(shape=samples, dtype="bool")
    of_pred = inputs["y_pred"].dynamic_shape
    of_samples = ndx.concat([of_pred[:axis], of_pred[axis + 1 :]])
    wanted = {"y_true": of_samples if definition.sparse else of_pred, "sample_weight": of_samples, "mask": of_samples}
    if isinstance(sizes[axis], str) and definition.min_classes > 1:
        # Of a single class the loss would be 0 for ever.
        few = ndx.astype(of_pred[axis : axis + 1] < definition.min_classes, "int64")
        wanted["y_pred"] = ndx.concat([of_pred[:axis], of_pred[axis : axis + 1] + few, of_pred[axis + 1 :]])
    arrays = {name: _of_shape(array, wanted[name]) if name in wanted else array for name, array in inputs.items()}

    # Refuses what any call refuses; what goes wrong after that is the formula's.
    prepare(definition, options=complete, **arrays, pinned="onnx")
    try:
        losses = evaluate(definition, options=complete, **arrays, pinned="onnx").reduced(reduction)
    except (Exception, SystemExit) as error:
        if str(error).startswith(f"{definition.name}: "):
            raise
        raise ValueError(
            f"{definition.name}: its formula makes no graph ({error_text(error)}): it may look at no value, and at a size only where shape= fixes it"
        ) from error

    model = ndx.build(inputs, {"loss": losses})
    model.producer_name, model.producer_version = "lossbackend", lossbackend.__version__
    model.doc_string = inspect.cleandoc(definition.formula.__doc__ or "")
    model.graph.name = definition.name
    known = {"loss": definition.name, "options": json.dumps(complete, default=_numbers), "reduction": reduction or "none"}
    onnx.helper.set_model_props(model, known)
    for dim, size in zip(model.graph.output[0].type.tensor_type.shape.dim, samples, strict=False):
        setattr(dim, "dim_value" if isinstance(size, int) else "dim_param", size)
    model.opset_import[0].version, model.ir_version = OPSET, IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    if path is not None:
        replace(Path(os.path.realpath(path)), lambda temporary: onnx.save(model, temporary))
    return model


def interface(model: onnx.ModelProto) -> dict[str, Any]:
    """What a model takes and gives, for which opset, and how many bytes it has."""
    values = {"inputs": model.graph.input, "outputs": model.graph.output}
    return {what: {value.name: _described(value.type.tensor_type) for value in found} for what, found in values.items()} | {
        "opset": model.opset_import[0].version,
        "size": model.ByteSize(),
    }


def _described(tensor: onnx.TypeProto.Tensor) -> dict[str, Any]:
    return {
        "dtype": onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name,
        "shape": [dim.dim_param or dim.dim_value for dim in tensor.shape.dim],
    }


def _sizes(loss: str, shape: Sequence[int | str]) -> tuple[int | str, ...]:
    """The shape of y_pred, checked."""
    sizes = tuple(shape) if isinstance(shape, Sequence) and not isinstance(shape, str) else ()
    known = all(size.isidentifier() if isinstance(size, str) else type(size) is int and 0 < size < 2**31 for size in sizes)
    names = [size for size in sizes if isinstance(size, str)]
    if not sizes or not known or len(set(names)) < len(names):
        raise ValueError(f'{loss}: shape must have a name of its own or a size for each axis of y_pred, such as ("N", 10), got {shape!r}')
    return sizes


def _of_shape(array: ndx.Array, wanted: ndx.Array) -> ndx.Array:
    """The array as it is; an error of whoever runs the model where it has another shape, which would be broadcast."""
    given = array.dynamic_shape
    # No array has as many entries as that where a size is not the wanted one.
    return ndx.reshape(array, ndx.where(given == wanted, wanted, wanted + given))


def _numbers(array: Any) -> Any:
    return np.asarray(array).tolist()
