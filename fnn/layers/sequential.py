"""Sequential: layers one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from fnn.core import arguments
from fnn.core.calling import unique_names
from fnn.core.combining import Flow, Visit
from fnn.core.layer import Layer
from fnn.core.tree import Tree


class Sequential(Flow):
    """Passes the outputs of each layer to the next.   Children: `dense`, `dense_1`, ...

    Raises TypeError for an item that is not a layer, ValueError for two layers of the same name.

    >>> from fnn.layers import Dense
    >>> init, apply = Sequential([Dense(8, "relu"), Dense(2)])
    >>> params, state = init(jax.random.key(0), jnp.ones((1, 4)))
    >>> params["dense_1"]["kernel"].shape
    (8, 2)
    """

    layers: Sequence[Layer] = ()

    def validate(self) -> None:
        arguments.layers(self)
        unique_names(self.layers)

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return tuple(zip(unique_names(self.layers), self.layers, strict=True))

    def flow(self, x: Tree, visit: Visit) -> Tree:
        for name, layer in self.children():
            x = visit(name or "", layer, x)
        return x

    @property
    def ensemble_size(self) -> int:
        if not self.layers:
            return 0
        return self.layers[-1].ensemble_size
