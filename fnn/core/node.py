"""Node: a symbolic value in a graph of layers, and `Input`, where a graph starts."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.calling import located, output_spec
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer, Params, State
from fnn.core.masking import strip_masks

# An axis whose size is not known runs abstractly at two sizes: what differs is free.
SIZES = ((3, 97), (5, 103))  # (batch, any other axis)


class Node:
    """What a layer will compute from other nodes. `shape` has None where the size is free."""

    def __init__(
        self, layer: Layer | None, parents: Any, specs: tuple[Any, ...], name: str | None = None
    ) -> None:
        self.layer, self.parents, self.specs, self.name = layer, parents, specs, name
        self.source: Any = None  # the model that brings weights along, kept alive until then

    @property
    def spec(self) -> Any:
        """Shapes and dtypes at the first trial size."""
        return self.specs[0]

    @property
    def shape(self) -> Any:
        """The shape, or a structure of shapes; None where the size is free."""
        return free_shape(*self.specs)

    @property
    def dtype(self) -> Any:
        return jax.tree.leaves(self.spec)[0].dtype

    def __repr__(self) -> str:
        made = f"made by {self.layer!r}" if self.layer else f"Input {self.name or ''}".strip()
        return f"<Node {self.shape} {made}>"


def free_shape(first: Any, second: Any) -> Any:
    """The shape that both specs share, with None where they differ."""
    merged = jax.tree.map(
        lambda a, b: tuple(m if m == n else None for m, n in zip(a.shape, b.shape, strict=True)),
        strip_masks(first),
        strip_masks(second),
    )
    return merged


def input_specs(shape: Any, dtype: Any = "float32") -> tuple[Any, ...]:
    """The trial specs of a batch of inputs of this shape, None where the size is free."""
    return tuple(
        jax.ShapeDtypeStruct(
            tuple(
                size if size is not None else other if i else batch for i, size in enumerate(shape)
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
                f"shape={shape!r}; do e.g. Input(shape=({10 if shape is None else shape},))"
            )
        batch_shape = (batch_size, *shape)
    whole = tuple(n.item() if isinstance(n, np.integer) else n for n in batch_shape)
    if any(n is not None and (not isinstance(n, int) or n < 0) for n in whole):
        raise ValueError(
            "Input: expected whole numbers or None in shape, received "
            f"{tuple(whole)!r}; do e.g. Input(shape=(28, 28, 1))"
        )
    return Node(None, (), input_specs(whole, dtype or "float32"), name)


def symbolic_call(layer: Layer, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The node of `layer` on `inputs`; its shape is inferred now, so errors are at this line.

    Named inputs are put in the order of `layer.input_names`. Raises TypeError for arrays.
    """
    x = _as_one_input(layer, inputs, named)
    leaves = jax.tree.leaves(x)
    if not leaves or not all(isinstance(leaf, Node) for leaf in leaves):
        received = ", ".join(sorted({type(leaf).__name__ for leaf in leaves})) or "nothing"
        raise TypeError(
            f"{type(layer).__name__}: expected symbolic inputs (from Input), received {received}; "
            "on arrays do params, state = layer.init(key, x), then layer.apply(params, state, x), "
            "or put the layer into a Model"
        )
    trials = [jax.tree.map(lambda node, i=i: node.specs[i], x) for i in range(len(SIZES))]
    with located(layer.name, layer, trials[0]):
        specs = tuple(output_spec(layer, trial) for trial in trials)
    node = Node(layer, x, specs)
    if isinstance(specs[0], (tuple, list)):  # so that several outputs unpack: y, h, c = lstm(x)
        return tuple(
            Node(Item(index), node, tuple(spec[index] for spec in specs))
            for index in range(len(specs[0]))
        )
    return node


def _as_one_input(layer: Layer, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
    order = layer.input_names
    unknown = [name for name in named if name not in order]
    if unknown:
        raise TypeError(
            f"{type(layer).__name__}: expected symbolic inputs{f' {order}' if order else ''}, "
            f"received the argument {unknown[0]!r}; training and masks are said by Context"
        )
    if named:
        inputs = (*inputs, *(named.get(name) for name in order[len(inputs) :]))
        while inputs[-1] is None:
            inputs = inputs[:-1]
    x = inputs[0] if len(inputs) == 1 else inputs
    return tuple(x) if isinstance(x, list) else x


class Item(Layer):
    """Picks one of several values.   (a, b, ...) -> the one at `index`"""

    masking = "inside"
    passes_logits = True

    index: int

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        return x[self.index], state
