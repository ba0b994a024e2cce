"""Sequential: layers one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from fnn.core import arguments
from fnn.core.calling import unique_names
from fnn.core.combining import Flow, Visit
from fnn.core.layer import Layer
from fnn.core.tree import Tree


class Chain(Flow, loadable=False):
    """The base class of layers that pass the outputs of each layer to the next."""

    layers: Sequence[Layer] = ()
    order: tuple[int, ...] | None = field(default=None, kw_only=True)

    def validate(self) -> None:
        unique_names(self.layers)
        places = set(self.order or ())
        if not places <= set(range(len(self.layers))):
            expected = f"to be numbers of the {len(self.layers)} layers"
            raise arguments.wrong(self, "order", expected, self.order)

    @property
    def row(self) -> tuple[Layer, ...]:
        """The layer at each place, in the order in which they run."""
        if self.order is None:
            return tuple(self.layers)
        return tuple(self.layers[index] for index in self.order)

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return tuple(zip(unique_names(self.layers), self.layers, strict=True))

    def flow(self, x: Tree, visit: Visit) -> Tree:
        children = self.children()
        for index in self.order or range(len(children)):
            name, layer = children[index]
            x = visit(name or "", layer, x)
        return x

    @property
    def ensemble_size(self) -> int:
        if not self.layers:
            return 0
        return self.row[-1].ensemble_size


class Sequential(Chain):
    """Passes the outputs of each layer to the next.   Children: `dense`, `dense_1`, ...

    `order` are the numbers of the layers in the order in which they run, if some run several
    times, each with one set of weights; by default each runs once.
    Raises TypeError for an item that is not a layer, ValueError for two layers of the same name.

    >>> from fnn.layers import Dense
    >>> init, apply = Sequential([Dense(8, "relu"), Dense(2)])
    >>> params, state = init(jax.random.key(0), jnp.ones((1, 4)))
    >>> params["dense_1"]["kernel"].shape
    (8, 2)
    """
