"""Operations: the classes of Keras behind operators and `keras.ops`, and those of fnn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fnn import ops
from fnn.core.layer import Layer
from fnn.core.registry import TABLE
from fnn.core.tree import Tree
from fnn.ops.operation import OPERATIONS, Operation, restored
from fnn.ops.table import ARRAYS
from fnn.symbolic.indexing import selector
from fnn.symbolic.node import Node
from fnn.symbolic.operations import (
    KERAS_NAMES,
    OPERATORS,
    UNARY,
    GetItem,
    MatMul,
    Operator,
)
from fnn.symbolic.operators import combine

HOME = "keras.src.ops."

# The functions that are not in Keras's module `numpy`, by module.
_MODULES = {
    "nn": "swish hard_swish relu relu6 sigmoid sparse_sigmoid softplus softsign soft_shrink "
    "sparse_plus silu squareplus log_sigmoid leaky_relu hard_sigmoid hard_silu elu selu "
    "gelu celu glu tanh_shrink hard_tanh hard_shrink threshold softmax log_softmax "
    "sparsemax max_pool adaptive_max_pool average_pool adaptive_average_pool conv "
    "depthwise_conv separable_conv conv_transpose one_hot binary_crossentropy "
    "categorical_crossentropy sparse_categorical_crossentropy multi_hot moments "
    "ctc_loss ctc_decode normalize psnr dot_product_attention polar unfold fold "
    "depth_to_space space_to_depth batch_normalization layer_normalization "
    "rms_normalization",
    "math": "segment_sum segment_max segment_min segment_prod top_k in_top_k logsumexp cdist "
    "extract_sequences fft fft2 ifft2 rfft irfft stft istft rsqrt erf erfc erfinv logdet "
    "view_as_complex view_as_real",
    "core": "map scan associative_scan scatter scatter_update slice slice_update switch "
    "while_loop stop_gradient fori_loop unstack cast saturate_cast convert_to_tensor cond "
    "vectorized_map",
    "image": "rgb_to_grayscale rgb_to_hsv hsv_to_rgb resize affine_transform extract_patches "
    "map_coordinates pad_images crop_images perspective_transform gaussian_blur "
    "elastic_transform scale_and_translate sobel_edges ssim",
    "linalg": "cholesky cholesky_inverse det eig eigh inv lu_factor norm qr solve "
    "solve_triangular svd lstsq matrix_rank pinv jvp",
    "einops": "rearrange",
}
MODULE_OF = {name: part for part, names in _MODULES.items() for name in names.split()}
# The names of classes that are not those of the functions in capitals.
_NAMES = (
    "AllClose IsIn SearchSorted CTC_Loss CTC_Decode PSNR CDist FFT FFT2 IFFT2 RFFT IRFFT STFT "
    "ISTFT RGB_To_Grayscale RGB_To_HSV HSV_To_RGB SSIM SVD JVP"
)
_CLASSES = {name.lower(): name.replace("_", "") for name in _NAMES.split()}
_SHORT = {
    "batch_normalization": "BatchNorm",
    "hard_swish": "HardSilu",
    "layer_normalization": "LayerNorm",
    "rms_normalization": "RMSNorm",
    "swish": "Silu",
}
# Which arguments the call of a class takes, beside arrays by their usual names; the others are
# those of its constructor.
_IN_CALL = {
    "arange": "start stop step",
    "bincount": "x",
    "concatenate": "xs",
    "diagonal": "x",
    "digitize": "x bins",
    "dot_product_attention": "query key value bias mask scale",
    "dstack": "xs",
    "einsum": "operands",
    "full": "fill_value",
    "full_like": "x fill_value",
    "geomspace": "start stop",
    "get_item": "x key",
    "hstack": "xs",
    "isclose": "x1 x2 rtol atol",
    "linspace": "start stop",
    "logspace": "start stop",
    "pad": "x constant_values",
    "rearrange": "tensor pattern axes_lengths",
    "scale_and_translate": "images output_shape scale translation",
    "select": "condlist choicelist default",
    "slice": "inputs start_indices",
    "slice_update": "inputs start_indices updates",
    "squareplus": "x",
    "stop_gradient": "variable",
    "trace": "x",
    "trapezoid": "y",
    "vstack": "xs",
}
_FNN_NAMES = {theirs: name for name, theirs in KERAS_NAMES.items()}
# Functions of functions, which no file can hold.
_OF_FUNCTIONS = (
    *("map", "scan", "associative_scan", "switch", "while_loop", "fori_loop", "cond"),
    *("vectorized_map", "jvp"),
)


class KerasCall(NamedTuple):
    """An operation in Keras's config: module and class, constructor, call."""

    module: str
    class_name: str
    config: dict[str, Any]
    args: list[Any]
    kwargs: dict[str, Any]


def class_of(function: str) -> str:
    """The name of Keras's class behind a function.

    >>> class_of("expand_dims"), class_of("ctc_loss"), class_of("fft2")
    ('ExpandDims', 'CTCLoss', 'FFT2')
    """
    if function in _SHORT:
        return _SHORT[function]
    known = _CLASSES.get(function, function)
    words = known.split("_")
    return "".join(word[:1].upper() + word[1:] for word in words)


# By class; of several names of one function, such as `swish`, the first in its module.
_FUNCTIONS = {class_of(name): name for name in reversed(OPERATIONS)}
_FUNCTIONS |= {class_of(name): name for name in MODULE_OF}
_OPERATIONS = {"GetItem", *_FUNCTIONS}


def in_call(function: str) -> list[str]:
    """The names of the arguments that the call of Keras's class takes."""
    if function in _IN_CALL:
        return _IN_CALL[function].split()
    parameters = OPERATIONS[function].signature.parameters
    return [name for name in parameters if name in ARRAYS]


def is_operation(entry: Mapping[str, Any]) -> bool:
    """Whether the entry of a graph is an operation, not a layer.

    Legacy files of Keras 3 do not say the module. An operation there has no `trainable`; one with
    the name of a layer, such as Add, takes two arguments in place of a list.

    >>> is_operation({"class_name": "Relu", "config": {"name": "relu"}})
    True
    """
    module, config = entry.get("module"), entry.get("config")
    name = entry.get("class_name")
    if module is not None or not isinstance(config, dict):
        return str(module).startswith(HOME)
    if name not in _OPERATIONS or "trainable" in config:
        return False
    calls = entry.get("inbound_nodes")
    first = calls[0] if isinstance(calls, list) and calls else {}
    args = first.get("args") if isinstance(first, dict) else None
    is_list = isinstance(args, list) and len(args) == 1
    return ("layer", name) not in TABLE or not is_list


# -- from Keras ----------------------------------------------------------------------------------


def call_from_keras(
    class_name: str,
    config: Mapping[str, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Tree:
    """The nodes that an operation of Keras makes of nodes.

    Raises ValueError for an operation that fnn does not have.
    """
    if class_name == "GetItem":
        node, key = (*args, *kwargs.values())
        return node[key]
    name = _FUNCTIONS.get(class_name)
    if name is None or name in _OF_FUNCTIONS:
        raise ValueError(f"expected an operation of fnn.ops, received {class_name}")
    operator = _by_operator(name, args, kwargs)
    if operator is not None:
        return operator
    parameters = OPERATIONS[name].signature.parameters
    named = {
        key: item
        for key, item in config.items()
        if key != "name" and (key not in parameters or item != parameters[key].default)
    }
    if "dtype" not in parameters:
        named.pop("dtype", None)
    if name == "einsum":
        return ops.einsum(named.pop("subscripts"), *args, **kwargs)
    named |= zip(in_call(name), args, strict=False)
    call: Callable[..., Tree] = _function(name)
    return call(**named, **kwargs)


def _function(name: str) -> Callable[..., Tree]:
    """The function of `fnn.ops` of this name."""
    for place in (ops, ops.image, ops.linalg, ops.nn, ops.numpy):
        if hasattr(place, name):
            return getattr(place, name)  # type: ignore[no-any-return]
    raise ValueError(f"expected an operation of fnn.ops, received {name}")


def _by_operator(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Tree | None:
    """The node of an operator, for inputs that it takes: without a mask, of fitting shapes."""
    ours = _FNN_NAMES.get(name, name)
    operands = (*args, *kwargs.values())
    count = 2
    if ours in UNARY:
        count = 1
    nodes = [operand for operand in operands if isinstance(operand, Node)]
    is_known = ours in OPERATORS and len(operands) == count and nodes
    if not is_known or any(node._keras_mask is not None for node in nodes):
        return None
    try:
        made = combine(ours, *operands)
    except (TypeError, ValueError):
        return None
    if made is NotImplemented:
        return None
    return made


# -- to Keras ------------------------------------------------------------------------------------


def call_to_keras(layer: Layer, inputs: Sequence[Any]) -> KerasCall | None:
    """An operator or operation on inputs in Keras's form; None for another layer."""
    if isinstance(layer, (Operator, MatMul)):
        function = "matmul"
        if isinstance(layer, Operator):
            function = KERAS_NAMES.get(layer.function, layer.function)
        operands = list(inputs)
        if layer.constant is not None:
            operands.append(_constant(layer.constant))
        if layer.reflected:
            operands.reverse()
        return KerasCall(HOME + "numpy", class_of(function), {}, operands, {})
    if isinstance(layer, GetItem):
        key = tuple(map(selector, layer.index))
        return KerasCall(HOME + "numpy", "GetItem", {}, [inputs[0], key], {})
    if isinstance(layer, Operation):
        return _of_operation(layer, inputs)
    return None


def _constant(value: Any) -> Any:
    if isinstance(value, tuple):
        return np.asarray(value)
    return value


def _of_operation(layer: Operation, inputs: Sequence[Any]) -> KerasCall:
    name = layer.operation
    if name in _OF_FUNCTIONS:
        raise ValueError(
            f"expected an operation on arrays alone, received ops.{name}, whose functions Keras "
            "cannot save; save in .fnn"
        )
    given = {n: restored(item, inputs) for n, item in layer.arguments.items}
    called = in_call(name)
    args, kwargs, config = [], {}, {}
    for key, parameter in OPERATIONS[name].signature.parameters.items():
        if key == "operands":
            args += list(given[key])
        elif key not in called and parameter.kind is not parameter.VAR_KEYWORD:
            config[key] = given.get(key, parameter.default)
        elif key in given and len(args) == called.index(key):
            args.append(given[key])
        elif key in given:
            kwargs[key] = given[key]
    module = HOME + MODULE_OF.get(name, "numpy")
    return KerasCall(module, class_of(name), config, args, kwargs)
