"""Graph: layers wired by symbolic calls, with any structure of inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from fnn.core.arguments import kind_of, shown
from fnn.core.calling import unique_names
from fnn.core.combining import Flow, Visit
from fnn.core.layer import Layer
from fnn.core.value import Fields
from fnn.symbolic.node import UNCOUNTED, Node


class Graph(Flow):
    """Layers wired as a directed graph; `connect` writes it from nodes.

    `inputs` and `outputs` are structures of places (a number, a tuple, or `Fields` for a dict by
    key; None for an optional input that is left out). A step is (name of the child, the layer, the
    structure of places of its inputs), and its outputs take the next free place. A layer named in
    two steps has one set of weights.

    >>> from fnn.layers import Add, Dense
    >>> steps = ("dense", Dense(2, kernel_initializer="ones"), 0), ("add", Add(), (0, 1))
    >>> init, apply = Graph(inputs=0, steps=steps, outputs=2)  # x + dense(x)
    >>> apply(*init(jax.random.key(0), jnp.ones((1, 2))), jnp.ones((1, 2)))[0].tolist()
    [[3.0, 3.0]]
    """

    inputs: Any = 0
    steps: tuple[tuple[str, Layer, Any], ...] = ()
    outputs: Any = 0

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return tuple({name: layer for name, layer, _ in self.steps}.items())

    def flow(self, x: Any, visit: Visit) -> Any:
        values: list[Any] = []
        _scatter(self.inputs, x, values)
        for name, layer, places in self.steps:
            values.append(visit(name, layer, gather(places, values)))
        return gather(self.outputs, values)

    def cut(self) -> tuple[Graph, Graph]:
        """(what does without the last input, the rest): the second takes what the first makes.

        The inputs of the second are (a tuple of these values, the last input). Both have the
        layers under the names that they have here, so the same weights are for both.
        """
        inputs, after = leaves(self.inputs), {leaves(self.inputs)[-1]}
        for place, (_, _, places) in enumerate(self.steps, len(inputs)):
            if after & {*leaves(places)}:
                after.add(place)
        steps = list(enumerate(self.steps, len(inputs)))
        first = [(place, step) for place, step in steps if place not in after]
        last = [(place, step) for place, step in steps if place in after]
        used = {p for _, step in last for p in leaves(step[2])} | {
            *leaves(self.outputs)
        }
        passed = sorted(used - after)
        order = (
            [*inputs[:-1], *(p for p, _ in first)],
            [*passed, inputs[-1], *(p for p, _ in last)],
        )
        before, rest = (
            {old: new for new, old in enumerate(places)} for places in order
        )
        return (
            Graph(
                _at(self.inputs[:-1], before),
                _moved(first, before),
                tuple(before[p] for p in passed),
            ),
            Graph(
                (tuple(range(len(passed))), len(passed)),
                _moved(last, rest),
                _at(self.outputs, rest),
            ),
        )

    @property
    def output_names(self) -> list[str]:
        """For each output the name of the layer that makes it, or `input_<place>`."""
        first = len(leaves(self.inputs))
        name = lambda place: (
            self.steps[place - first][0] if place >= first else f"input_{place}"
        )
        return [name(place) for place in leaves(self.outputs)]

    @property
    def ensemble_size(self) -> int:
        """That of the layer which makes the one output."""
        ends, first = leaves(self.outputs), len(leaves(self.inputs))
        one = len(ends) == 1 and ends[0] >= first
        return self.steps[ends[0] - first][1].ensemble_size if one else 0


def leaves(places: Any) -> list[int]:
    """The places in a structure, in order."""
    if isinstance(places, Fields):
        return [leaf for _, item in places.items for leaf in leaves(item)]
    if isinstance(places, tuple):
        return [leaf for item in places for leaf in leaves(item)]
    return [] if places is None else [places]


def map_places(function: Callable[[int], Any], places: Any) -> Any:
    """The structure of `places` (dicts again for `Fields`) with `function` of each place."""
    if isinstance(places, Fields):
        return {name: map_places(function, item) for name, item in places.items}
    if isinstance(places, tuple):
        return tuple(map_places(function, item) for item in places)
    return None if places is None else function(places)


def _at(places: Any, order: dict[int, int]) -> Any:
    """The structure of places, by other numbers."""
    if isinstance(places, Fields):
        return Fields(tuple((name, _at(item, order)) for name, item in places.items))
    if isinstance(places, tuple):
        return tuple(_at(item, order) for item in places)
    return None if places is None else order[places]


def _moved(steps: Any, order: dict[int, int]) -> tuple[tuple[str, Layer, Any], ...]:
    """The steps, their inputs at places of other numbers."""
    return tuple(
        (name, layer, _at(places, order)) for _, (name, layer, places) in steps
    )


def gather(places: Any, values: list[Any]) -> Any:
    """The structure of `places` with the value at each."""
    return map_places(lambda place: values[place], places)


def _scatter(places: Any, x: Any, values: list[Any]) -> None:
    """Appends the parts of `x` to `values` in the order of the places. Dicts go by key."""
    if isinstance(places, Fields):
        names = [name for name, _ in places.items]
        if not isinstance(x, dict) or set(names) - set(x):
            received = sorted(x) if isinstance(x, dict) else kind_of(x)
            raise ValueError(
                f"Graph: expected inputs by the keys {sorted(names)}, received {received}; "
                "give a dict with all of them"
            )
        for name, item in places.items:
            _scatter(item, x[name], values)
    elif isinstance(places, tuple):
        if not isinstance(x, (tuple, list)) or len(x) != len(places):
            raise ValueError(
                f"Graph: expected a tuple of {len(places)} inputs, received {kind_of(x)}; "
                "give them in the order of the model's inputs"
            )
        for item, part in zip(places, x, strict=True):
            _scatter(item, part, values)
    else:
        values.append(x)


def connect(inputs: Any, outputs: Any) -> Graph:
    """The graph that computes the `outputs` nodes from the `inputs` nodes.

    Both are a node, or a tuple, list or dict of nodes. Raises TypeError for an input that is no
    node, ValueError if an output needs an input that is not listed.

    >>> from fnn.layers import Dense, Input
    >>> x = Input((4,))
    >>> connect(x, Dense(3)(x)).steps
    (('dense', Dense(units=3), 0),)
    """
    starts: list[Node] = jax.tree.leaves(inputs, is_leaf=lambda node: node is None)
    for index, node in enumerate(starts):
        if not isinstance(node, Node):
            raise TypeError(
                f"Graph: expected every input to be a symbolic node (from Input), received "
                f"{shown(node)} at position {index}; leave it out, or make an Input for it"
            )
    place = {id(node): index for index, node in enumerate(starts)}
    order: list[Node] = []
    seen: dict[int, int] = {}
    for output in jax.tree.leaves(outputs, is_leaf=lambda node: node is None):
        _collect(output, place, order, seen)
    _sort_as_keras(order, seen)
    place |= {id(node): len(starts) + index for index, node in enumerate(order)}
    owners: dict[int, Any] = {id(node.owner): node.owner for node in order}
    names = dict(zip(owners, unique_names(owners.values()), strict=True))
    steps: Any = tuple(
        (names[id(node.owner)], node.layer, _places(node.parents, place))
        for node in order
    )
    return Graph(_places(inputs, place), steps, _places(outputs, place, list))


def _collect(
    output: Any, place: dict[int, int], order: list[Node], seen: dict[int, int]
) -> None:
    """Appends to `order` what `output` needs, parents first, without recursion.

    `place` gains every node that is done, `seen` every node in the order in which it was met.
    """
    stack = [output]
    while stack:
        node = stack[-1]
        if not isinstance(node, Node):
            raise TypeError(
                f"Graph: expected symbolic outputs (a layer called on Input), received {node!r}; "
                "leave it out"
            )
        seen.setdefault(id(node), len(seen))
        missing = [p for p in jax.tree.leaves(node.parents) if id(p) not in place]
        if id(node) in place:
            stack.pop()
        elif node.layer is None:
            raise ValueError(
                f"Graph: expected every Input that the outputs need, received outputs that also "
                f"need {node!r}; add it to the inputs"
            )
        elif missing:
            stack.extend(reversed(missing))
        else:
            place[id(node)] = -1
            order.append(stack.pop())


def _sort_as_keras(order: list[Node], seen: dict[int, int]) -> None:
    """Sorts by the distance to the outputs, so that weights come in the order of Keras."""
    depth = dict.fromkeys(seen, 0)
    for node in reversed(order):
        step = 0 if isinstance(node.layer, UNCOUNTED) else 1
        for parent in jax.tree.leaves(node.parents):
            depth[id(parent)] = max(depth.get(id(parent), 0), depth[id(node)] + step)
    made = {id(node): place for place, node in enumerate(order)}

    def rank(node: Node) -> tuple[int, bool, int]:
        uncounted = isinstance(
            node.layer, UNCOUNTED
        )  # one may need another at the same depth
        return -depth[id(node)], uncounted, (made if uncounted else seen)[id(node)]

    order.sort(key=rank)


def _places(nodes: Any, place: dict[int, int], order: Any = sorted) -> Any:
    if isinstance(nodes, dict):
        return Fields(
            tuple((name, _places(nodes[name], place, order)) for name in order(nodes))
        )
    if isinstance(nodes, (tuple, list)):
        return tuple(_places(node, place, order) for node in nodes)
    return None if nodes is None else place[id(nodes)]
