"""Conversions: where the tensors of PyTorch's modules go in fnn's layers, and in which layout."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

Shape: TypeAlias = tuple[int, ...]
# A view of an array of fnn with the axes of the tensor: writing into the view converts.
Layout: TypeAlias = Callable[[np.ndarray, Shape], np.ndarray]


def same(array: np.ndarray, shape: Shape) -> np.ndarray:
    """The array as it is."""
    return array


def rows(array: np.ndarray, shape: Shape) -> np.ndarray:
    """A kernel (inputs, outputs), whose inputs or outputs may have several axes each."""
    return _matrix(array, shape[0])


def columns(array: np.ndarray, shape: Shape) -> np.ndarray:
    """The same for tensors (outputs, inputs)."""
    return _matrix(array, shape[-1]).T


def _matrix(array: np.ndarray, inputs: int) -> np.ndarray:
    """The array as (inputs, outputs); unchanged if no number of its axes holds the inputs."""
    for axes in range(1, array.ndim):
        if math.prod(array.shape[:axes]) == inputs:
            outputs = math.prod(array.shape[axes:])
            return array.reshape(inputs, outputs, copy=False)
    return array


def flat(array: np.ndarray, shape: Shape) -> np.ndarray:
    """A bias (outputs,), which may have several axes."""
    return array.reshape(-1, copy=False)


def channels_first(array: np.ndarray, shape: Shape) -> np.ndarray:
    """A kernel (*window, inputs, outputs) for tensors (outputs, inputs, *window)."""
    return np.moveaxis(array, (-1, -2), (0, 1))


def depthwise(array: np.ndarray, shape: Shape) -> np.ndarray:
    """A kernel (*window, inputs, multiplier) for tensors (inputs * multiplier, 1, *window)."""
    window = array.shape[:-2]
    joined = array.reshape(*window, -1, copy=False)
    return np.moveaxis(joined, -1, 0)[:, None]


def one_example(array: np.ndarray, shape: Shape) -> np.ndarray:
    """An array for tensors with a batch axis of size 1."""
    return array[None]


def first_of_one_example(array: np.ndarray, shape: Shape) -> np.ndarray:
    """The first step of an array, for tensors (1, 1, features)."""
    return array[None, :1]


def first(array: np.ndarray, shape: Shape) -> np.ndarray:
    """The first of two, as a GRU has two biases."""
    view: np.ndarray = array[0]
    return view


def second(array: np.ndarray, shape: Shape) -> np.ndarray:
    """The second of two."""
    view: np.ndarray = array[1]
    return view


class Part(NamedTuple):
    """One of `parts` equal parts along an axis."""

    number: int
    parts: int
    axis: int = 0


class Target(NamedTuple):
    """A weight of a layer that a tensor is written to.

    `layout` makes a view of it with the axes of the tensor. `taken` is the part of the tensor,
    `into` the part of the view, if it is not all of them. `how` says what writing means: "copy",
    "add" to what was copied, or "equal": the tensor is another name of the weight, which is
    compared.

    >>> Target("kernel").how
    'copy'
    """

    weight: str
    layout: Layout = same
    taken: Part | None = None
    into: Part | None = None
    how: Literal["copy", "add", "equal"] = "copy"


# For each tensor of a module the weights that it is written to; none for one that fnn needs not.
Conversion: TypeAlias = Mapping[str, tuple[Target, ...]]


def _to(weight: str, layout: Layout = same) -> tuple[Target, ...]:
    return (Target(weight, layout),)


def _dense(kernel: Layout, into: Part | None = None) -> Conversion:
    return {
        "weight": (Target("kernel", kernel, into=into),),
        "bias": (Target("bias", flat, into=into),),
    }


PROJECTIONS = "query", "key", "value"


def _fused(layout: Layout, axis: int = 0) -> Conversion:
    """The projections of queries, keys and values, side by side in a kernel and in a bias."""
    kernels = []
    biases = []
    for index, name in enumerate(PROJECTIONS):
        kernels.append(Target(f"{name}/kernel", layout, Part(index, 3, axis)))
        biases.append(Target(f"{name}/bias", flat, Part(index, 3)))
    return {"weight": tuple(kernels), "bias": tuple(biases)}


def _attention() -> Conversion:
    """`torch.nn.MultiheadAttention`."""
    fused = _fused(columns)
    conversion = {
        "in_proj_weight": fused["weight"],
        "in_proj_bias": fused["bias"],
        "out_proj.weight": _to("attention_output/kernel", columns),
        "out_proj.bias": _to("attention_output/bias"),
    }
    # Where keys and values have another width than queries.
    for name in PROJECTIONS:
        conversion[f"{name[0]}_proj_weight"] = _to(f"{name}/kernel", columns)
    return conversion


def _gru(layout: Layout, weight: str) -> tuple[Target, ...]:
    """PyTorch's gates r, z, n at the places of z, r, h."""
    return tuple(
        Target(weight, layout, Part(gate, 3), Part(place, 3))
        for gate, place in enumerate((1, 0, 2))
    )


def _recurrent(
    gates: Callable[[Layout, str], tuple[Target, ...]],
    biases: tuple[tuple[Target, ...], tuple[Target, ...]],
) -> Conversion:
    return {
        "weight_ih": gates(columns, "kernel"),
        "weight_hh": gates(columns, "recurrent_kernel"),
        "bias_ih": biases[0],
        "bias_hh": biases[1],
    }


_SUMMED = (Target("bias"),), (Target("bias", how="add"),)


def _whole(layout: Layout, weight: str) -> tuple[Target, ...]:
    """PyTorch's gates i, f, g, o are in Keras's order."""
    return (Target(weight, layout),)


def _conv(kernel: Layout) -> Conversion:
    return {"weight": _to("kernel", kernel), "bias": _to("bias")}


CONVERSIONS: Mapping[str, Conversion] = {
    # Also projections of attention alone, (width, heads, size) or (heads, size, width).
    "dense": _dense(columns),
    # Kernels (inputs, outputs), as those of `transformers.pytorch_utils.Conv1D`.
    "dense_untransposed": _dense(rows),
    # The halves of `GatedDense`, each a dense layer of PyTorch.
    "gate": _dense(columns, into=Part(0, 2)),
    "gated_values": _dense(columns, into=Part(1, 2)),
    "conv": _conv(channels_first),  # transposed ones too
    "depthwise_conv": _conv(depthwise),
    "norm": {
        "weight": _to("gamma"),
        "bias": _to("beta"),
        "running_mean": _to("moving_mean"),
        "running_var": _to("moving_variance"),
        "num_batches_tracked": (),
        # As TensorFlow calls them, and so do old files of BERT.
        "gamma": _to("gamma"),
        "beta": _to("beta"),
    },
    "rms_norm": {"weight": _to("scale")},
    "embedding": {"weight": _to("embeddings")},
    # Another name for the weights of an embedding, and a kernel of its own, of logits.
    "tied_logits": {"weight": (Target("embeddings", how="equal"),)},
    "untied_logits": {"weight": _to("reverse_embeddings", columns)},
    # A class token is a zero step to which `PositionEmbedding` adds it.
    "positions_with_class_token": {
        "position_embeddings": _to("embeddings", one_example),
        "cls_token": (Target("embeddings", first_of_one_example, how="add"),),
    },
    "lstm": _recurrent(_whole, _SUMMED),
    "rnn": _recurrent(_whole, _SUMMED),
    "gru": _recurrent(_gru, (_gru(first, "bias"), _gru(second, "bias"))),
    "attention": _attention(),
    "fused_projections": _fused(columns),
    "fused_projections_untransposed": _fused(rows, axis=-1),
    # A single tensor, with the axes that it has here.
    "tensor": {"": (Target("", same),)},
    "tied_tensor": {"": (Target("", same, how="equal"),)},
}
