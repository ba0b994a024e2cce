"""Node: a symbolic value in a graph of layers, and `Input`, which makes the first ones."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from fnn.core import arguments, tree
from fnn.core.calling import output_spec
from fnn.core.checks import located
from fnn.core.context import Masked, check_mask, strip_masks
from fnn.core.layer import Layer
from fnn.core.tree import SpecTree, StringSpec, Tree, array_spec
from fnn.layers.activation import Activation
from fnn.layers.simple import Lambda
from fnn.layers.wrappers import Inference, Training
from fnn.runtime.keras_objects import refuse_keras
from fnn.runtime.settings import settings
from fnn.symbolic.operators import Operators
from fnn.symbolic.parts import Item, TakeMask, WithMask
from fnn.symbolic.rematerializing import in_scope
from fnn.symbolic.trial_sizes import differ_in_batch, hide_trial_sizes, merged_shape

# Shapes are inferred at two trial sizes of each unknown axis; sizes that differ are unknown.
SIZES = ((3, 97), (5, 239))  # (batch, any other axis)


class Node(Operators):
    """The outputs of a layer in a graph. `shape` has None where the size is unknown.

    Operators and indexing make nodes: `1 - x`, `x * y`, `x @ w`, `x[:, -1]`.

    >>> x = Input((4,))
    >>> (x[:, :2] * 3).shape
    (None, 2)
    """

    def __init__(
        self,
        layer: Layer | None,
        parents: Tree,
        specs: tuple[SpecTree, ...],
        name: str | None = None,
        owner: Layer | None = None,
    ) -> None:
        self.layer = layer
        self.parents = parents
        self._specs = specs
        self.name = name
        # The layer object that was called, which has the name and the weights.
        self.owner = owner or layer
        # Whether the batch size is the only unknown size of this node and all before it.
        self.fixed_but_for_batch: bool
        if layer:
            before = jax.tree.leaves(parents)
            self.fixed_but_for_batch = all(node.fixed_but_for_batch for node in before)
        else:
            self.fixed_but_for_batch = differ_in_batch(*specs)
        # The model that a node comes from, which keeps its weights alive.
        self.source: object = None

    @property
    def spec(self) -> SpecTree:
        """Shapes and dtypes at the first trial size."""
        return self._specs[0]

    @property
    def specs(self) -> tuple[SpecTree, ...]:
        """Shapes and dtypes at both trial sizes; the second is inferred on first use.

        The nodes before this one get theirs first, without recursion.
        """
        stack = []
        if len(self._specs) == 1:
            stack = [self]
        while stack:
            parents = jax.tree.leaves(stack[-1].parents)
            before = [node for node in parents if len(node._specs) == 1]
            stack.extend(before)
            if not before:
                node = stack.pop()
                node._specs = (node.spec, node._inferred(1))
        return self._specs

    def _inferred(self, index: int) -> SpecTree:
        """The shapes of the outputs at one of the trial sizes."""
        assert self.layer is not None  # inputs have both specs
        assert self.owner is not None
        trial = jax.tree.map(lambda node: node._specs[index], self.parents)
        with located(self.owner.name, self.layer, trial):
            return output_spec(self.layer, trial)

    @functools.cached_property
    def shape(self) -> Any:
        """The shape, or a structure of shapes; None where the size is unknown."""
        return free_shape(*self.specs)

    @property
    def dtype(self) -> Any:
        """The dtype, that of the first of several values; "string" for strings, as in Keras."""
        dtype = jax.tree.leaves(self.spec)[0].dtype
        if tree.is_string(dtype):
            return "string"
        return dtype

    @property
    def _keras_mask(self) -> Node | None:
        """The node of the mask that the values have, as in Keras; None without a mask."""
        if not isinstance(self.spec, Masked):
            return None
        node: Node = symbolic_call(TakeMask(), (self,), {})
        return node

    def __getitem__(self, index: Any) -> Node:
        if isinstance(self.spec, dict):  # a layer whose outputs are a dict
            item: Node = symbolic_call(Item(index), (self,), {})
            return item
        part: Node = super().__getitem__(index)
        return part

    def activated_by(
        self, function: Callable[..., Array], arguments: dict[str, object]
    ) -> Node:
        """The node of a function of arrays, with these arguments beside the array."""
        node: Node
        if arguments:
            node = Lambda(function, arguments=arguments)(self)
        else:
            node = Activation(function)(self)
        return node

    def __repr__(self) -> str:
        if self.layer:
            return f"<Node {self.shape} made by {self.layer!r}>"
        if self.name:
            return f"<Node {self.shape} Input {self.name}>"
        return f"<Node {self.shape} Input>"


def input_name(number: int) -> str:
    """Keras's names of inputs: `input_layer`, `input_layer_1`, ..."""
    if number == 0:
        return "input_layer"
    return f"input_layer_{number}"


def free_shape(first: SpecTree, second: SpecTree) -> Any:
    """The shape of two specs, with None for sizes that differ; for a pytree one of shapes."""
    return jax.tree.map(merged_shape, strip_masks(first), strip_masks(second))


def input_specs(
    shape: Sequence[int | None], dtype: DTypeLike = "float32"
) -> tuple[jax.ShapeDtypeStruct, ...]:
    """The specs of a batch of inputs at the trial sizes; None in `shape` is an unknown size."""
    specs: list[Any] = []
    for batch, other in SIZES:
        sizes = []
        for axis, size in enumerate(shape):
            if size is not None:
                sizes.append(size)
            elif axis == 0:
                sizes.append(batch)
            else:
                sizes.append(other)
        if tree.is_string(dtype):
            specs.append(StringSpec(tuple(sizes), free=other))
        else:
            specs.append(array_spec(tuple(sizes), jnp.dtype(dtype)))
    return tuple(specs)


def Input(  # noqa: N802 - Keras's name
    shape: tuple[int | None, ...] | None = None,
    batch_size: int | None = None,
    dtype: DTypeLike | None = None,
    *,
    batch_shape: tuple[int | None, ...] | None = None,
    name: str | None = None,
) -> Node:
    """The start of a graph: a placeholder for examples of a shape.

    `shape` is that of one example, None for axes of any size. In a list of layers it only gives
    `Sequential` its input shape. Raises ValueError for an impossible shape.

    >>> Input(shape=(28, 28, 1)).shape
    (None, 28, 28, 1)
    """
    if batch_shape is None:
        if not isinstance(shape, (tuple, list)):
            example = shape
            if shape is None:
                example = 10
            raise ValueError(
                "Input: expected shape to be a tuple, the shape of one example, received "
                f"shape={shape!r}; e.g. Input(shape=({example},))"
            )
        batch_shape = (batch_size, *shape)
    sizes = tuple(map(_plain_size, batch_shape))
    known = [size for size in sizes if size is not None]
    if any(not isinstance(size, int) or size < 0 for size in known):
        raise ValueError(
            "Input: expected integers or None in shape, received "
            f"{sizes!r}; e.g. Input(shape=(28, 28, 1))"
        )
    return Node(None, (), input_specs(sizes, dtype or settings.floatx), name)


def _plain_size(size: Any) -> Any:
    if isinstance(size, np.integer):
        return size.item()
    return size


def symbolic_call(
    layer: Layer, inputs: tuple[object, ...], named: dict[str, object]
) -> Any:
    """The node of `layer` on `inputs`; its shape is inferred now, so errors are at this line.

    Named inputs are put in the order of `layer.input_names`; `training`, `mask` and the layer's
    `call_fields` change how this call runs. Raises TypeError for arrays and other names.
    """
    run, x = bound_call(layer, inputs, named)
    leaves = jax.tree.leaves(x)
    if not leaves or not all(isinstance(leaf, Node) for leaf in leaves):
        for leaf in leaves:
            refuse_keras(leaf)
        types = sorted({type(leaf).__name__ for leaf in leaves})
        raise TypeError(
            f"{type(layer).__name__}: expected symbolic inputs (from Input), received "
            f"{', '.join(types) or 'nothing'}; "
            "on arrays call params, state = layer.init(key, x), then layer.apply(params, state, "
            "x), or put the layer into a Model"
        )
    arguments.input_spec(layer, x)
    run = in_scope(run, lambda: jax.tree.map(lambda node: node.spec, x))
    return nodes_of(run, x, layer)


def nodes_of(
    layer: Layer,
    x: Tree,
    owner: Layer | None = None,
) -> Any:
    """The node, or one for each output, of a layer on nodes as its `apply` takes them."""
    node = Node(layer, x, (), owner=owner or layer)
    node._specs = (_first_spec(node),)
    if not node.fixed_but_for_batch:
        # Infers the second spec too: an input may fit a layer by chance, at the first size.
        node.specs  # noqa: B018
    return _unpacked(node)


def _unpacked(node: Node) -> Any:
    """One node for each of several outputs, so that these unpack: y, (h, c) = layer(x)."""
    if not isinstance(node.spec, (tuple, list)):
        return node
    items = [Node(Item(i), node, (spec,)) for i, spec in enumerate(node.spec)]
    return type(node.spec)(map(_unpacked, items))


def bound_call(
    layer: Layer,
    inputs: tuple[Tree, ...],
    named: dict[str, Tree],
) -> tuple[Layer, Tree]:
    """(the layer as a call with these arguments runs it, its inputs as `apply` takes them)."""
    bind = getattr(layer, "bind_call", None)
    if bind is not None:
        # A class in Keras's way, whose `call` has a signature of its own.
        bound: tuple[Layer, Tree] = bind(inputs, named)
        return bound
    run, named = _configured(layer, named)
    return run, _as_one_input(layer, inputs, named)


def _first_spec(node: Node) -> SpecTree:
    """The outputs at the first trial size. Errors show None in place of the trial size."""
    try:
        return node._inferred(0)
    except Exception as error:
        try:
            for parent in jax.tree.leaves(node.parents):
                parent.specs  # noqa: B018 - infers the second
            node._inferred(1)
        except Exception as other:
            hide_trial_sizes(error, other)
        raise


def _configured(
    layer: Layer, named: dict[str, object]
) -> tuple[Layer, dict[str, object]]:
    """The layer as this call runs it, and the remaining arguments of the call."""
    fields = {name: value for name, value in named.items() if name in layer.call_fields}
    run = layer
    if fields:
        run = layer.replace(**fields)
    training = named.get("training")
    if training is not None:
        if not isinstance(training, (bool, int)):
            raise TypeError(
                f"{type(layer).__name__}: expected training to be True, False or None, received "
                f"training={training!r}"
            )
        run = Training(run) if training else Inference(run)
    used = {*fields, "training"}
    rest = {name: value for name, value in named.items() if name not in used}
    return run, rest


def _as_one_input(
    layer: Layer, inputs: tuple[object, ...], named: dict[str, object]
) -> Tree:
    """All inputs of a call, as `apply` takes them, with the masks that the call gives them."""
    order = layer.input_names
    mask_names = {"mask", *(f"{name}_mask" for name in order)} - set(order)
    masks = {name: value for name, value in named.items() if name in mask_names}
    for name in named:
        if name not in order and name not in masks:
            raise _unknown_name(layer, name)
    by_name = [named.get(name) for name in order[len(inputs) :]]
    inputs = (*inputs, *by_name)
    while inputs and inputs[-1] is None:
        inputs = inputs[:-1]
    x: Tree = inputs
    if len(inputs) == 1:
        x = inputs[0]
    if isinstance(x, list):
        x = tuple(x)
    if masks:
        return _masked(layer, x, masks)
    return x


def _unknown_name(layer: Layer, name: str) -> TypeError:
    """The error for an argument of a call that is neither an input nor a mask."""
    owner = type(layer).__name__
    advice = "the arguments of a call are inputs, training and masks"
    if hasattr(layer, name):
        advice = f"use {owner}({name}=...), when the layer is made"
    inputs = ""
    if layer.input_names:
        inputs = f" {layer.input_names}"
    return TypeError(
        f"{owner}: expected symbolic inputs{inputs}, received the argument {name!r}; {advice}"
    )


def _masked(
    layer: Layer,
    x: Tree,
    masks: dict[str, Tree],
) -> Tree:
    """The inputs with the masks of the call: `mask` is that of the first input, or a list."""
    parts = [x]
    if isinstance(x, tuple):
        parts = list(x)
    first = masks.get("mask")
    if not isinstance(first, (tuple, list)):
        first = [first]
    given = dict(enumerate(first))
    for place, name in enumerate(layer.input_names):
        if f"{name}_mask" in masks:
            given[place] = masks[f"{name}_mask"]
    for place, mask in given.items():
        if mask is None:
            continue
        if place >= len(parts) or parts[place] is None:
            inputs = sum(part is not None for part in parts)
            raise TypeError(
                f"{type(layer).__name__}: expected masks for the {inputs} inputs of this call, "
                f"received one for input {place} by {', '.join(masks)}; pass that input too"
            )
        part = parts[place]
        if isinstance(mask, Node) and isinstance(part, Node):
            check_mask(layer, part.shape, mask.shape)
        if isinstance(part, Node):
            parts[place] = symbolic_call(WithMask(), (part, mask), {})
        else:
            parts[place] = Masked(strip_masks(part), jnp.asarray(mask, bool))
    if isinstance(x, tuple):
        return tuple(parts)
    return parts[0]


Layer.on_nodes = staticmethod(symbolic_call)
