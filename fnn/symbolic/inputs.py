"""KerasTensor: the start of a graph in Keras's form of a node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.typing import DTypeLike

from fnn.symbolic.node import Node, input_specs


class _AnyNode(type):
    """Every node is an instance."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Node)


class KerasTensor(Node, metaclass=_AnyNode):
    """A node without a layer, by the shape of a batch; every node of a graph is an instance.

    >>> KerasTensor((None, 3)).shape, isinstance(fnn.Input((3,)), KerasTensor)
    ((None, 3), True)
    """

    def __init__(
        self,
        shape: Sequence[int | None],
        dtype: DTypeLike = "float32",
        sparse: bool = False,
        ragged: bool = False,
        record_history: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(None, (), input_specs(tuple(shape), dtype), name)
