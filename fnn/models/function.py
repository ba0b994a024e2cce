"""Function: the computation between nodes of a graph, called on arrays."""

from __future__ import annotations

import jax

from fnn import tree
from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.models.model import Model
from fnn.symbolic.node import Node


class Function:
    """What the nodes `outputs` are for other `inputs`, in the structures that were given.

    Layers have the weights of the models that they are in. Raises ValueError if `inputs` or
    `outputs` are empty, and for outputs that need other inputs.

    >>> x = fnn.KerasTensor((None, 2))
    >>> double = Function(x, [x + x])
    >>> [y.tolist() for y in double(jax.numpy.ones((1, 2)))]
    [[[2.0, 2.0]]]
    """

    def __init__(self, inputs: Tree, outputs: Tree, name: str | None = None) -> None:
        for argument, nodes in (("inputs", inputs), ("outputs", outputs)):
            if not tree.flatten(nodes):
                raise ValueError(
                    f"Function: expected at least one node in {argument}, received none"
                )
        self._outputs = outputs
        self._single = len(tree.flatten(inputs)) == 1
        self._model = Model(self._given(inputs), outputs, name=name or "function")

    def _given(self, inputs: Tree) -> Tree:
        """The inputs as the model takes them: a single one alone."""
        if self._single and tree.is_nested(inputs):
            return tree.flatten(inputs)[0]
        return inputs

    @property
    def name(self) -> str:
        """The name of the function."""
        return self._model.name

    @property
    def inputs(self) -> list[Node]:
        """The nodes of the inputs, in a list."""
        return self._model.inputs

    @property
    def outputs(self) -> list[Node]:
        """The nodes of the outputs, in a list."""
        return tree.flatten(self._outputs)

    @property
    def operations(self) -> list[Layer]:
        """The layers between inputs and outputs."""
        return [layer for _, layer in self._model.layer.children()]

    def __call__(self, inputs: Tree) -> Tree:
        """The outputs for arrays; for nodes, nodes."""
        outputs = self._model(self._given(inputs))
        return tree.pack_sequence_as(self._outputs, jax.tree.leaves(outputs))
