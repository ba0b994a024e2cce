"""Graph: layers connected by symbolic calls, with any structure of inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import jax

from fnn.core.arguments import kind_of, shown
from fnn.core.calling import unique_names
from fnn.core.combining import Flow, Visit
from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.core.value import Fields, Value
from fnn.runtime.keras_objects import refuse_keras
from fnn.symbolic.node import Node
from fnn.symbolic.parts import UNCOUNTED

# A structure of integers: an integer, a tuple, `Fields` for a dict, `Listed` for a list, or None
# for an input left out.
Places: TypeAlias = Any
# A node, or a tuple, list or dict of nodes.
Nodes: TypeAlias = Any
Step: TypeAlias = tuple[str, Layer, Places]


class Listed(Value):
    """A list in a structure of places; a tuple there stands for a tuple."""

    items: tuple[Any, ...] = ()


class Graph(Flow):
    """Layers connected as a directed graph; `connect` makes it from nodes.

    Each value has a place: the inputs come first, then the outputs of each step. `inputs` and
    `outputs` are structures of places (an integer, a tuple, `Fields` for a dict, `Listed` for a
    list; None for an optional input that is left out). A step is (name of the child, the layer,
    the places of its inputs). A name used in two steps is one layer with one set of weights.

    >>> from fnn.layers import Add, Dense
    >>> steps = ("dense", Dense(2, kernel_initializer="ones"), 0), ("add", Add(), (0, 1))
    >>> init, apply = Graph(inputs=0, steps=steps, outputs=2)  # x + dense(x)
    >>> apply(*init(jax.random.key(0), jnp.ones((1, 2))), jnp.ones((1, 2)))[0].tolist()
    [[3.0, 3.0]]
    """

    inputs: Places = 0
    steps: tuple[Step, ...] = ()
    outputs: Places = 0

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return tuple({name: layer for name, layer, _ in self.steps}.items())

    def flow(self, x: Tree, visit: Visit) -> Tree:
        values: list[Tree] = []
        _scatter(self.inputs, x, values)
        for name, layer, places in self.steps:
            values.append(visit(name, layer, gather(places, values)))
        return gather(self.outputs, values)

    def cut(self) -> tuple[Graph, Graph]:
        """(the part that does not depend on the last input, the rest).

        The inputs of the second are (a tuple of the outputs of the first, the last input). Both
        use the names of the layers here, so the same weights fit both.
        """
        inputs = leaves(self.inputs)
        steps = dict(enumerate(self.steps, len(inputs)))
        after = self._depending_on(inputs[-1])
        first = [place for place in steps if place not in after]
        last = [place for place in steps if place in after]
        # The values that the second graph needs from the first.
        used = {*leaves(self.outputs)}
        for place in last:
            used.update(leaves(steps[place][2]))
        passed = sorted(used - after)
        before = _numbered([*inputs[:-1], *first])
        rest = _numbered([*passed, inputs[-1], *last])
        return (
            Graph(
                inputs=_renumbered(self.inputs[:-1], before),
                steps=_moved([steps[place] for place in first], before),
                outputs=tuple(before[place] for place in passed),
            ),
            Graph(
                inputs=(tuple(range(len(passed))), len(passed)),
                steps=_moved([steps[place] for place in last], rest),
                outputs=_renumbered(self.outputs, rest),
            ),
        )

    def _depending_on(self, start: int) -> set[int]:
        """The places whose values depend on the value at `start`."""
        found = {start}
        inputs = len(leaves(self.inputs))
        for place, (_, _, places) in enumerate(self.steps, inputs):
            if not found.isdisjoint(leaves(places)):
                found.add(place)
        return found

    def with_inputs(self) -> list[int | str]:
        """The numbers of the inputs and the names of the children, in Keras's order of layers.

        That is by the distance to the outputs, then as they are met on the way from there.
        """
        inputs = len(leaves(self.inputs))
        parents = {}
        for number, (_, _, places) in enumerate(self.steps, inputs):
            parents[number] = leaves(places)
        depth = dict.fromkeys(range(inputs + len(self.steps)), 0)
        for place in reversed(parents):
            counts = not isinstance(self.steps[place - inputs][1], UNCOUNTED)
            for parent in parents[place]:
                depth[parent] = max(depth[parent], depth[place] + counts)
        met: dict[int, int] = {}
        # Dicts by their sorted keys, as JAX and Keras have them.
        outputs = map_places(lambda place: place, self.outputs)
        waiting = jax.tree.leaves(outputs)[::-1]
        while waiting:
            place = waiting.pop()
            if place not in met:
                met[place] = len(met)
                waiting += reversed(parents.get(place, []))
        found: dict[int | str, tuple[int, int]] = {}
        for place in depth:
            name: int | str = place
            if place >= inputs:
                name = self.steps[place - inputs][0]
            rank = -depth[place], met.get(place, len(depth))
            found[name] = min(rank, found.get(name, rank))
        return sorted(found, key=lambda name: found[name])

    @property
    def output_names(self) -> list[str]:
        """For each output the name of the layer that computes it, or `input_<place>`."""
        inputs = len(leaves(self.inputs))
        names = [f"input_{place}" for place in range(inputs)]
        names += [name for name, _, _ in self.steps]
        return [names[place] for place in leaves(self.outputs)]

    @property
    def ensemble_size(self) -> int:
        """That of the layer that computes the output, if there is one output."""
        outputs = leaves(self.outputs)
        inputs = len(leaves(self.inputs))
        if len(outputs) != 1 or outputs[0] < inputs:
            return 0
        return self.steps[outputs[0] - inputs][1].ensemble_size


def leaves(places: Places) -> list[int]:
    """The places in a structure, in order."""
    if places is None:
        return []
    if isinstance(places, Fields):
        return [leaf for _, item in places.items for leaf in leaves(item)]
    if isinstance(places, Listed):
        places = places.items
    if isinstance(places, tuple):
        return [leaf for item in places for leaf in leaves(item)]
    return [places]


def map_places(function: Callable[[int], Tree], places: Places) -> Tree:
    """The structure of `places`, with dicts and lists, and `function` of each place."""
    if places is None:
        return None
    if isinstance(places, Fields):
        return {name: map_places(function, item) for name, item in places.items}
    if isinstance(places, Listed):
        return [map_places(function, item) for item in places.items]
    if isinstance(places, tuple):
        return tuple(map_places(function, item) for item in places)
    return function(places)


def _renumbered(places: Places, order: dict[int, int]) -> Places:
    """The structure with each place replaced by its new number."""
    if places is None:
        return None
    if isinstance(places, Fields):
        items = ((name, _renumbered(item, order)) for name, item in places.items)
        return Fields(tuple(items))
    if isinstance(places, Listed):
        return Listed(_renumbered(places.items, order))
    if isinstance(places, tuple):
        return tuple(_renumbered(item, order) for item in places)
    return order[places]


def _numbered(places: list[int]) -> dict[int, int]:
    """Old place -> new place, for places in their new order."""
    return {old: new for new, old in enumerate(places)}


def _moved(steps: list[Step], order: dict[int, int]) -> tuple[Step, ...]:
    """The steps with their inputs at new places."""
    moved = []
    for name, layer, places in steps:
        moved.append((name, layer, _renumbered(places, order)))
    return tuple(moved)


def gather(places: Places, values: list[Any]) -> Any:
    """The structure of `places` with the value at each place."""
    return map_places(lambda place: values[place], places)


def _scatter(
    places: Places,
    x: Tree,
    values: list[Tree],
) -> None:
    """Appends the parts of `x` to `values` in the order of the places; dicts by key."""
    if isinstance(places, Fields):
        _check_keys([name for name, _ in places.items], x)
        for name, item in places.items:
            _scatter(item, x[name], values)
    elif isinstance(places, tuple):
        if not isinstance(x, (tuple, list)) or len(x) != len(places):
            raise ValueError(
                f"Graph: expected a tuple of {len(places)} inputs, received {kind_of(x)}; "
                "pass them in the order of the model's inputs"
            )
        for item, part in zip(places, x, strict=True):
            _scatter(item, part, values)
    else:
        values.append(x)


def _check_keys(names: list[str], x: object) -> None:
    """Raises ValueError unless `x` is a dict with all these keys."""
    received: object = kind_of(x)
    if isinstance(x, dict):
        if set(names) <= set(x):
            return
        received = sorted(x)
    raise ValueError(
        f"Graph: expected inputs by the keys {sorted(names)}, received {received}; "
        "pass a dict with all of them"
    )


def connect(inputs: Nodes, outputs: Nodes) -> Graph:
    """The graph that computes the `outputs` nodes from the `inputs` nodes.

    Both are a node, or a tuple, list or dict of nodes; outputs keep their structure. Raises
    TypeError for an input that is not a node, and ValueError if an output needs an input that is
    not listed.

    >>> from fnn.layers import Dense, Input
    >>> x = Input((4,))
    >>> connect(x, Dense(3)(x)).steps
    (('dense', Dense(units=3), 0),)
    """
    starts = _leaf_nodes(inputs)
    for index, node in enumerate(starts):
        if not isinstance(node, Node):
            refuse_keras(node)
            raise TypeError(
                f"Graph: expected every input to be a symbolic node (from Input), received "
                f"{shown(node)} at position {index}; leave it out, or make an Input for it"
            )
    place = {id(node): index for index, node in enumerate(starts)}
    order: list[Node] = []
    seen: dict[int, int] = {}
    for output in _leaf_nodes(outputs):
        _collect(output, place, order, seen)
    _sort_as_keras(order, seen)
    for index, node in enumerate(order, len(starts)):
        place[id(node)] = index
    owners = {id(node.owner): node.owner for node in order if node.owner}
    names = dict(zip(owners, unique_names(owners.values()), strict=True))
    steps = []
    for node in order:
        assert node.layer is not None  # `_collect` refuses inputs that are not listed
        name = names[id(node.owner)]
        steps.append((name, node.layer, _places(node.parents, place)))
    return Graph(
        inputs=_places(inputs, place),
        steps=tuple(steps),
        outputs=_places(outputs, place, list),
    )


def _leaf_nodes(nodes: Nodes) -> list[Node]:
    """The nodes in a structure; what else is in it too, for the caller to refuse."""
    return jax.tree.leaves(nodes, is_leaf=lambda node: node is None)


def _collect(
    output: Node,
    place: dict[int, int],
    order: list[Node],
    seen: dict[int, int],
) -> None:
    """Appends to `order` the nodes that `output` needs, parents first, without recursion.

    Each node that is done gets an entry in `place`; `seen` numbers the nodes as they are met.
    """
    stack = [output]
    while stack:
        node = stack[-1]
        if not isinstance(node, Node):
            refuse_keras(node)
            raise TypeError(
                f"Graph: expected symbolic outputs (a layer called on Input), received {node!r}; "
                "leave it out"
            )
        seen.setdefault(id(node), len(seen))
        parents = jax.tree.leaves(node.parents)
        missing = [parent for parent in parents if id(parent) not in place]
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
    """Sorts by the distance to the outputs, so that weights come in Keras's order."""
    depth = dict.fromkeys(seen, 0)
    for node in reversed(order):
        distance = depth[id(node)]
        if not isinstance(node.layer, UNCOUNTED):
            distance += 1
        for parent in jax.tree.leaves(node.parents):
            known = depth.get(id(parent), 0)
            depth[id(parent)] = max(known, distance)
    made = {id(node): place for place, node in enumerate(order)}

    def rank(node: Node) -> tuple[int, bool, int]:
        # An uncounted node may need another of the same depth, so these keep their order.
        if isinstance(node.layer, UNCOUNTED):
            return -depth[id(node)], True, made[id(node)]
        return -depth[id(node)], False, seen[id(node)]

    order.sort(key=rank)


def _places(
    nodes: Nodes,
    place: dict[int, int],
    order: Callable[[Iterable[str]], list[str]] = sorted,
) -> Places:
    """The structure of places of these nodes; the keys of dicts in the given order.

    `order=list` is that of outputs, whose lists stay lists.
    """
    if nodes is None:
        return None
    if isinstance(nodes, dict):
        items = []
        for name in order(nodes):
            items.append((name, _places(nodes[name], place, order)))
        return Fields(tuple(items))
    if isinstance(nodes, (tuple, list)):
        places = tuple(_places(node, place, order) for node in nodes)
        if isinstance(nodes, list) and order is list:
            return Listed(places)
        return places
    return place[id(nodes)]
