"""Batches as tuples (x, y, sample_weight), and the inputs behind a node."""

from __future__ import annotations

from fnn import tree
from fnn.core.tree import Tree
from fnn.symbolic.node import Node


def pack_x_y_sample_weight(
    x: Tree,
    y: Tree = None,
    sample_weight: Tree = None,
) -> Tree:
    """The tuple that `fit` takes as a batch: without the parts at the end that are None.

    A single array `x` alone stays as it is.

    >>> pack_x_y_sample_weight(1, 2), pack_x_y_sample_weight(1), pack_x_y_sample_weight([1])
    ((1, 2), 1, ([1],))
    """
    if y is None:
        if isinstance(x, (tuple, list)):
            return (x,)
        return x
    if sample_weight is None:
        return (x, y)
    return (x, y, sample_weight)


def unpack_x_y_sample_weight(data: Tree) -> tuple[Tree, Tree, Tree]:
    """(x, y, sample_weight) of a batch, None for parts that it does not have.

    Raises ValueError for a tuple or list of none, or of more than three.

    >>> unpack_x_y_sample_weight((1, 2))
    (1, 2, None)
    """
    if not isinstance(data, (tuple, list)):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ValueError(
            "expected a batch as x, (x,), (x, y) or (x, y, sample_weight), received "
            f"{len(data)} parts; put several inputs into one tuple: ((a, b), y)"
        )
    x, y, weight = (*data, None, None)[:3]
    return x, y, weight


def get_source_inputs(tensor: Tree) -> Tree:
    """The inputs of the graph that a node depends on; another value as it is.

    >>> x = fnn.Input((3,))
    >>> get_source_inputs(fnn.layers.Dense(2)(x)) == [x]
    True
    """
    if not isinstance(tensor, Node):
        return tensor
    found: list[Node] = []
    seen: set[int] = set()
    waiting = [tensor]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.layer is None:
            found.append(node)
        parents = reversed(tree.flatten(node.parents))
        waiting.extend(parent for parent in parents if isinstance(parent, Node))
    return found
