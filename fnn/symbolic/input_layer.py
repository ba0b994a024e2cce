"""InputLayer: the start of a graph as a layer, as Keras lists it among the layers of a model."""

from __future__ import annotations

from fnn.core.context import INFERENCE, Context
from fnn.core.fields import positive
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import Tree
from fnn.symbolic.node import Input, Node


class InputLayer(Layer):
    """The start of a graph: its `output` is the node that `Input` makes of the same arguments.

    `model.layers` of a graph lists one for each input, so that indices are those of Keras. As a
    layer it returns its inputs.   x -> x   `sparse`, `ragged` and `optional` have no effect.

    >>> InputLayer((28, 28, 1)).output.shape
    (None, 28, 28, 1)
    """

    masking = "pass"
    follows_policy = False

    shape: tuple[int | None, ...] | None = None
    batch_size: int | None = positive(default=None)
    dtype: str | None = None
    sparse: bool | None = None
    ragged: bool | None = None
    batch_shape: tuple[int | None, ...] | None = None
    input_tensor: None = None
    optional: bool = False
    name: str | None = None

    def validate(self) -> None:
        if self.shape is None and self.batch_shape is None:
            object.__setattr__(self, "shape", self.input_shape)
        self.output  # noqa: B018 - raises for impossible shapes

    @property
    def output(self) -> Node:
        """The node, the same one each time."""
        known: Node | None = vars(self).get("_fnn_node")
        if known is None:
            known = Input(
                self.shape,
                self.batch_size,
                self.dtype,
                batch_shape=self.batch_shape,
                name=self.own_name,
            )
            object.__setattr__(self, "_fnn_node", known)
        return known

    input = output

    @classmethod
    def of(cls, node: Node, name: str) -> InputLayer:
        """The layer of an input node of a model."""
        made = cls(batch_shape=node.shape, name=name, dtype=str(node.dtype))
        object.__setattr__(made, "_fnn_node", node)
        return made

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        return x, state
