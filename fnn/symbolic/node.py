"""Node: a symbolic value in a graph of layers, and `Input`, where a graph starts."""

from __future__ import annotations

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.calling import output_spec
from fnn.core.context import INFERENCE, Context
from fnn.core.door import located
from fnn.core.layer import Layer, Params, State
from fnn.core.masking import Masked, check_mask, strip_masks
from fnn.layers.activation import Activation
from fnn.layers.simple import Lambda
from fnn.layers.wrappers import Inference
from fnn.symbolic.operators import Operators

# An axis whose size is not known runs abstractly at two sizes: what differs is free.
SIZES = ((3, 97), (5, 103))  # (batch, any other axis)


class Node(Operators):
    """What a layer will compute from other nodes. `shape` has None where the size is free.

    Operators and indexing make nodes of it: `1 - x`, `x * y`, `x @ w`, `x[:, -1]`.

    >>> x = Input((4,))
    >>> (x[:, :2] * 3).shape
    (None, 2)
    """

    def __init__(
        self,
        layer: Layer | None,
        parents: Any,
        specs: tuple[Any, ...],
        name: str | None = None,
        owner: Layer | None = None,
    ) -> None:
        self.layer, self.parents, self._specs, self.name = layer, parents, specs, name
        self.owner = (
            owner or layer
        )  # the object that was called: whose name and weights these are
        # Whether only the number of examples is free, in this node and all before it.
        self.fixed_but_for_batch: bool = (
            all(node.fixed_but_for_batch for node in jax.tree.leaves(parents))
            if layer
            else differ_in_batch(*specs)
        )
        self.source: Any = (
            None  # the model that brings weights along, kept alive until then
        )

    @property
    def spec(self) -> Any:
        """Shapes and dtypes at the first trial size."""
        return self._specs[0]

    @property
    def specs(self) -> tuple[Any, ...]:
        """Shapes and dtypes at both trial sizes, the second found when it is first needed.

        Then the nodes before this one get theirs too, without recursion.
        """
        stack = [] if len(self._specs) > 1 else [self]
        while stack:
            before = [
                n for n in jax.tree.leaves(stack[-1].parents) if len(n._specs) == 1
            ]
            stack.extend(before)
            if not before:
                node = stack.pop()
                node._specs = (node.spec, node._inferred(1))
        return self._specs

    def _inferred(self, index: int) -> Any:
        """What the layer makes of its inputs, at one of the trial sizes."""
        layer: Any = self.layer
        trial = jax.tree.map(lambda node: node._specs[index], self.parents)
        with located(self.owner.name if self.owner else None, layer, trial):
            return output_spec(layer, trial)

    @functools.cached_property
    def shape(self) -> Any:
        """The shape, or a structure of shapes; None where the size is free."""
        return free_shape(*self.specs)

    @property
    def dtype(self) -> Any:
        return jax.tree.leaves(self.spec)[0].dtype

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.spec, dict):  # the outputs of a layer, by their keys
            return symbolic_call(Item(index), (self,), {})
        return super().__getitem__(index)

    def activated_by(self, function: Any, arguments: dict[str, Any]) -> Any:
        """The node of a function of arrays, with these further arguments."""
        return (
            Lambda(function, arguments=arguments) if arguments else Activation(function)
        )(self)

    def __repr__(self) -> str:
        made = (
            f"made by {self.layer!r}"
            if self.layer
            else f"Input {self.name or ''}".strip()
        )
        return f"<Node {self.shape} {made}>"


def differ_in_batch(first: Any, second: Any) -> bool:
    """Whether the specs of inputs at two trial sizes differ in the size of the batch alone."""
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(
        a.shape[:1] != b.shape[:1] and a.shape[1:] == b.shape[1:] for a, b in pairs
    )


def free_shape(first: Any, second: Any) -> Any:
    """The shape that both specs share, with None where they differ."""
    merged = jax.tree.map(
        lambda a, b: tuple(
            m if m == n else None for m, n in zip(a.shape, b.shape, strict=True)
        ),
        strip_masks(first),
        strip_masks(second),
    )
    return merged


def input_specs(shape: Any, dtype: Any = "float32") -> tuple[Any, ...]:
    """The trial specs of a batch of inputs of this shape, None where the size is free."""
    return tuple(
        jax.ShapeDtypeStruct(
            tuple(
                size if size is not None else other if i else batch
                for i, size in enumerate(shape)
            ),
            jnp.dtype(dtype),
        )
        for batch, other in SIZES
    )


def Input(  # noqa: N802 - Keras's name
    shape: tuple[int | None, ...] | None = None,
    batch_size: int | None = None,
    dtype: Any = None,
    *,
    batch_shape: tuple[int | None, ...] | None = None,
    name: str | None = None,
) -> Node:
    """The start of a graph: a placeholder for examples of a shape.

    `shape` is that of one example, None where an axis may have any size. In a list of layers it
    only tells `Sequential` its input shape. Raises ValueError for a shape that cannot be.

    >>> Input(shape=(28, 28, 1)).shape
    (None, 28, 28, 1)
    """
    if batch_shape is None:
        if not isinstance(shape, (tuple, list)):
            raise ValueError(
                "Input: expected shape to be a tuple, the shape of one example, received "
                f"shape={shape!r}; e.g. Input(shape=({10 if shape is None else shape},))"
            )
        batch_shape = (batch_size, *shape)
    whole = tuple(n.item() if isinstance(n, np.integer) else n for n in batch_shape)
    if any(n is not None and (not isinstance(n, int) or n < 0) for n in whole):
        raise ValueError(
            "Input: expected integers or None in shape, received "
            f"{tuple(whole)!r}; e.g. Input(shape=(28, 28, 1))"
        )
    return Node(None, (), input_specs(whole, dtype or "float32"), name)


def symbolic_call(layer: Layer, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The node of `layer` on `inputs`; its shape is inferred now, so errors are at this line.

    Named inputs are put in the order of `layer.input_names`; `training`, `mask` and the layer's
    `call_fields` say how it is run in this place. Raises TypeError for arrays and other names.
    """
    run, named = _as_asked(layer, named)
    x = _as_one_input(layer, inputs, named)
    leaves = jax.tree.leaves(x)
    if not leaves or not all(isinstance(leaf, Node) for leaf in leaves):
        received = (
            ", ".join(sorted({type(leaf).__name__ for leaf in leaves})) or "nothing"
        )
        raise TypeError(
            f"{type(layer).__name__}: expected symbolic inputs (from Input), received {received}; "
            "on arrays do params, state = layer.init(key, x), then layer.apply(params, state, x), "
            "or put the layer into a Model"
        )
    node = Node(run, x, (), owner=layer)
    node._specs = (_first_spec(node),)
    if not node.fixed_but_for_batch:
        node.specs  # noqa: B018 - an input may fit a layer by chance, at the first size
    if isinstance(
        node.spec, (tuple, list)
    ):  # so that several outputs unpack: y, h, c = lstm(x)
        return tuple(
            Node(Item(index), node, (spec,)) for index, spec in enumerate(node.spec)
        )
    return node


def _first_spec(node: Node) -> Any:
    """The outputs at the first trial size. An error says None where a size is that of the trial."""
    try:
        return node._inferred(0)
    except Exception as error:
        try:
            for parent in jax.tree.leaves(node.parents):
                parent.specs  # noqa: B018 - finds the second
            node._inferred(1)
        except Exception as other:
            _free_sizes(error, other)
        raise


def _free_sizes(error: Exception, other: Exception) -> None:
    """Writes None for each number of an error that is another at another trial size."""
    if len(error.args) == 1 and isinstance(error.args[0], str) and len(other.args) == 1:
        error.args = (_free_text(error.args[0], str(other.args[0])),)
    notes, others = (getattr(e, "__notes__", []) for e in (error, other))
    for index, (note, same) in enumerate(zip(notes, others, strict=False)):
        notes[index] = _free_text(note, same)


def _free_text(text: str, other: str) -> str:
    """`text` with None for the numbers that differ; as it is where other words do.

    >>> _free_text("received shape (3, 4)", "received shape (5, 4)")
    'received shape (None, 4)'
    """
    parts, others = (re.split(r"(\d+)", t) for t in (text, other))
    if parts[::2] != others[::2]:
        return text
    return "".join(a if a == b else "None" for a, b in zip(parts, others, strict=True))


def _as_asked(layer: Layer, named: dict[str, Any]) -> tuple[Layer, dict[str, Any]]:
    """The layer as this call wants it to run, and what else the call names."""
    fields = {name: value for name, value in named.items() if name in layer.call_fields}
    run = layer.replace(**fields) if fields else layer
    training = named.get("training")
    if training is False:
        run = Inference(run)
    elif training is not None:
        raise TypeError(
            f"{type(layer).__name__}: expected training=False, which runs it as in inference, or "
            f"None, received training={training!r}; leave it out: fit trains, and for random "
            "outputs (Monte Carlo dropout) do layer.apply(params, state, x, Context(train=True, "
            "key=key)), once for each key"
        )
    return run, {n: v for n, v in named.items() if n not in fields and n != "training"}


def _as_one_input(layer: Layer, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
    order, owner = layer.input_names, type(layer).__name__
    masks = {
        n: named[n]
        for n in ("mask", *(f"{i}_mask" for i in order))
        if n in {*named} - {*order}
    }
    unknown = [name for name in named if name not in (*order, *masks)]
    if unknown:
        advice = "arguments of a call are inputs, training and masks"
        if hasattr(layer, unknown[0]):
            advice = f"use {owner}({unknown[0]}=...), when the layer is made"
        raise TypeError(
            f"{owner}: expected symbolic inputs{f' {order}' if order else ''}, "
            f"received the argument {unknown[0]!r}; {advice}"
        )
    inputs = (*inputs, *(named.get(name) for name in order[len(inputs) :]))
    while inputs and inputs[-1] is None:
        inputs = inputs[:-1]
    x = inputs[0] if len(inputs) == 1 else inputs
    x = tuple(x) if isinstance(x, list) else x
    return _masked(layer, x, masks) if masks else x


def _masked(layer: Layer, x: Any, masks: dict[str, Any]) -> Any:
    """The inputs, each with the mask that the call gives it: `mask` is of the first, or a list."""
    owner, order = type(layer).__name__, layer.input_names
    parts = list(x) if isinstance(x, tuple) else [x]
    of_first = masks.get("mask")
    given = dict(
        enumerate(of_first if isinstance(of_first, (tuple, list)) else [of_first])
    )
    given |= {
        i: masks[f"{n}_mask"] for i, n in enumerate(order) if f"{n}_mask" in masks
    }
    for place, mask in given.items():
        if mask is not None and (place >= len(parts) or parts[place] is None):
            number = sum(part is not None for part in parts)
            raise TypeError(
                f"{owner}: expected masks for the {number} inputs of this call, received one for "
                f"input {place} by {', '.join(masks)}; give that input too"
            )
        if isinstance(mask, Node) and isinstance(parts[place], Node):
            check_mask(layer, parts[place].shape, mask.shape)
        if mask is not None:
            parts[place] = symbolic_call(WithMask(), (parts[place], mask), {})
    return tuple(parts) if isinstance(x, tuple) else parts[0]


class Item(Layer):
    """Picks one of several values.   (a, b, ...) or {key: a, ...} -> the one at `index`"""

    masking = "inside"

    index: int | str

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        return x[self.index], state


class WithMask(Layer):
    """Gives values a mask, True where a step is real.   (values, mask) -> Masked(values, mask)

    What `layer(x, mask=mask)` does to `x` before the layer; a mask that `x` has is replaced.
    Raises ValueError unless the mask has the first axes of the values, two at least.
    """

    masking = "use"

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        values, mask = x
        check_mask(self, values.shape, mask.shape)
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        values, mask = x
        return Masked(values, mask.astype(bool)), state


UNCOUNTED = (Item, WithMask)  # in Keras, what these do is no layer

Layer.on_nodes = staticmethod(symbolic_call)
