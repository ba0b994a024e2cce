"""Sequential: one layer after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fnn.core import arguments
from fnn.core.calling import unique_names
from fnn.core.combining import Flow, Visit
from fnn.core.layer import Layer


class Sequential(Flow):
    """Feeds each layer the outputs of the one before.   Children: `dense`, `dense_1`, ...

    Raises TypeError for an item that is no layer, ValueError for two layers of the same name.

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

    def flow(self, x: Any, visit: Visit) -> Any:
        for name, layer in self.children():
            x = visit(name or "", layer, x)
        return x

    @property
    def ensemble_size(self) -> int:
        return self.layers[-1].ensemble_size if self.layers else 0
