"""Host: a network cut into a part that NumPy computes, and the rest, which is compiled."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from fnn.core import tree
from fnn.core.calling import call, output_spec_of_child, walk, weight_spec
from fnn.core.combining import Flow, Visit
from fnn.core.context import Context
from fnn.core.layer import Layer
from fnn.core.tree import SpecTree, Tree
from fnn.layers.wrappers import Frozen, Inference, Remat, Training
from fnn.preprocessing.host_layer import HostLayer
from fnn.preprocessing.strings import in_working_dtype
from fnn.runtime.program_cache import small_cache
from fnn.symbolic.node import Node

TreeDef: TypeAlias = Any
# Wrappers that pass their inputs on.
_AROUND = (Frozen, Inference, Remat, Training)


class Handed(NamedTuple):
    """A call of a flow that runs on the host: the structure of its outputs, their first slot."""

    number: int
    structure: TreeDef
    first: int


class Inner(NamedTuple):
    """A call of a flow that is cut itself: what is left of the layer, and where its inputs are."""

    number: int
    rest: Layer
    used: tuple[int, ...]
    inputs: int
    first: int


class _Unused:
    """Stands for a value that the compiled part does not need."""


UNUSED = _Unused()
SHORTEST = 8  # the least length of padded examples of a stream


class AfterHost(Flow, loadable=False):
    """`inner` without the calls that run on the host; the names of its layers are the same.

    Every input, and every output of a call on the host, has a slot. The inputs are a tuple of
    those slots that are `used`.
    """

    inner: Flow
    structure: Any
    used: tuple[int, ...] = ()
    handed: tuple[Handed, ...] = ()
    cuts: tuple[Inner, ...] = ()

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return tuple(self.inner.children())

    def flow(self, x: Tree, visit: Visit) -> Tree:
        slots = dict(zip(self.used, x, strict=True))
        handed = {one.number: one for one in self.handed}
        cuts = {one.number: one for one in self.cuts}
        numbers = itertools.count()

        def values(structure: TreeDef, first: int) -> Tree:
            places = range(first, first + structure.num_leaves)
            return structure.unflatten([slots.get(i, UNUSED) for i in places])

        def other(name: str, layer: Layer, x: Tree) -> Tree:
            number = next(numbers)
            if number in handed:
                return values(handed[number].structure, handed[number].first)
            if number not in cuts:
                return visit(name, layer, x)
            cut = cuts[number]
            given = jax.tree.leaves(x)
            given += [slots.get(cut.first + i, UNUSED) for i in range(_room(cut.used))]
            return visit(name, cut.rest, tuple(given[i] for i in cut.used))

        return self.inner.flow(values(self.structure, 0), other)


def _room(used: tuple[int, ...]) -> int:
    return max(used, default=-1) + 1


class _Value:
    """A value between layers while a flow is followed: its spec, and its slot if it has one."""

    def __init__(self, spec: SpecTree, slot: int | None, maker: int | None) -> None:
        self.spec = spec
        self.slot = slot
        self.maker = maker


class _Later:
    """A value that the host does not know, unless a layer on the host needs it."""

    def __init__(self, layer: Layer, x: Tree) -> None:
        self._layer, self._x = layer, x

    def value(self) -> Tree:
        """The value, computed now."""
        y, _ = call(self._layer, {}, {}, known(self._x), Context())
        return jax.tree.map(np.asarray, y)


def known(x: Tree) -> Tree:
    """Values with those computed that the host had left."""

    def of(leaf: Any) -> Tree:
        if isinstance(leaf, _Later):
            return leaf.value()
        return leaf

    return jax.tree.map(of, x)


class Host:
    """The part of a flow on the host, found by following the flow on the shapes `x`."""

    def __init__(self, flow: Flow, x: SpecTree) -> None:
        self.flow = flow
        self.slots: list[SpecTree] = []
        self.used: set[int] = set()
        self.handed: dict[int, Handed] = {}
        # Of the calls that are cut, or all on the host.
        self.parts: dict[int, Host] = {}
        self.cuts: dict[int, Inner] = {}
        self.calls: dict[int, tuple[str, Layer, Tree]] = {}
        self._numbers = itertools.count()
        self.structure = jax.tree.structure(x)
        inputs = self._slots_of(x, None)
        self.inputs = len(self.slots)
        self.outputs = flow.flow(inputs, self._visit)
        for value in jax.tree.leaves(self.outputs):
            self._use(value)

    @property
    def is_whole(self) -> bool:
        """Whether every output is computed on the host."""
        values = jax.tree.leaves(self.outputs)
        return all(value.slot is not None for value in values)

    def _slots_of(self, spec: SpecTree, maker: int | None) -> Tree:
        """Values with slots of their own."""

        def value(leaf: SpecTree) -> _Value:
            self.slots.append(leaf)
            return _Value(leaf, len(self.slots) - 1, maker)

        return jax.tree.map(value, spec)

    def _use(self, value: _Value) -> None:
        if value.slot is not None:
            self.used.add(value.slot)

    def _visit(self, name: str, layer: Layer, x: Tree) -> Tree:
        number = next(self._numbers)
        self.calls[number] = name, layer, x
        specs = jax.tree.map(lambda value: value.spec, x)
        made = output_spec_of_child(name, layer, specs)
        if layer.runs_on_host(specs):
            return self._hand(number, x, made)
        inner = _flow_inside(layer)
        if inner is not None and (has_host(inner) or tree.has_strings(specs)):
            part = Host(inner, specs)
            self.parts[number] = part
            if part.is_whole:
                return self._hand(number, x, made)
            self._cut(number, layer, x, part)
        else:
            _refuse_inside(layer)
            for value in jax.tree.leaves(x):
                self._use(value)
        return jax.tree.map(lambda spec: _Value(spec, None, number), made)

    def _hand(self, number: int, x: Tree, made: SpecTree) -> Tree:
        """The outputs of a call that runs on the host."""
        for value in jax.tree.leaves(x):
            self._check_known(value, self.calls[number][1])
        structure = jax.tree.structure(made)
        self.handed[number] = Handed(number, structure, len(self.slots))
        return self._slots_of(made, number)

    def _cut(self, number: int, layer: Layer, x: Tree, part: Host) -> None:
        """A call of which a part runs on the host."""
        values = jax.tree.leaves(x)
        first = len(self.slots)
        for slot in range(part.inputs, len(part.slots)):
            self.slots.append(part.slots[slot])
            if slot in part.used:
                self.used.add(first + slot - part.inputs)
        for slot in part.used:
            if slot < part.inputs:
                self._use(values[slot])
        rest = _around(layer, part.rest())
        used = tuple(sorted(part.used))
        self.cuts[number] = Inner(number, rest, used, part.inputs, first)

    def _check_known(self, value: _Value, user: Layer) -> None:
        """Raises ValueError for a value that needs weights, which the host does not have."""
        if value.slot is not None or value.maker is None:
            return
        name, layer, x = self.calls[value.maker]
        specs = jax.tree.map(lambda value: value.spec, x)
        if jax.tree.leaves(weight_spec(layer, specs)):
            advice = "put the layers that take strings first"
            if getattr(user, "invert", False):
                kind = type(user).__name__
                advice = f"leave {kind} out of the model, and call it on the outputs of predict"
            raise ValueError(
                f"expected layers without weights before {user!r}, which runs on the host, "
                f"received {name}, {layer!r}; {advice}"
            )
        for before in jax.tree.leaves(x):
            self._check_known(before, user)

    def rest(self) -> AfterHost:
        """The part that is compiled. Raises TypeError if it would have to return strings."""
        if tree.has_strings([self.slots[slot] for slot in self.used]):
            raise TypeError(
                "expected a model with numbers as outputs, received one that returns strings; "
                "leave the last layer out of the model, and call it on the outputs"
            )
        return AfterHost(
            self.flow,
            structure=self.structure,
            used=tuple(sorted(self.used)),
            handed=tuple(self.handed.values()),
            cuts=tuple(self.cuts.values()),
        )

    # -- on arrays -------------------------------------------------------------------------------

    def run(self, x: Tree, in_stream: bool = False) -> tuple[np.ndarray, ...]:
        """The inputs of the rest, for inputs of the network.

        In a stream, outputs whose length depends on the batch are padded to one of a few lengths.
        """
        slots, _ = self._run(x, in_stream)
        return tuple(slots[slot] for slot in sorted(self.used))

    def _run(self, x: Tree, in_stream: bool) -> tuple[list[Any], Tree]:
        """(the values of all slots, the outputs)."""
        slots = jax.tree.leaves(x)
        numbers = itertools.count()

        def visit(name: str, layer: Layer, x: Tree) -> Tree:
            number = next(numbers)
            if number in self.handed:
                outputs = self._outputs(number, layer, known(x), in_stream)
                slots.extend(jax.tree.leaves(outputs))
                return outputs
            if number in self.cuts:
                part = self.parts[number]
                inner, _ = part._run(x, in_stream)
                slots.extend(inner[part.inputs :])
                cut = self.cuts[number]
                return _Later(cut.rest, tuple(inner[i] for i in cut.used))
            return _Later(layer, x)

        outputs = self.flow.flow(x, visit)
        return slots, outputs

    def _outputs(self, number: int, layer: Layer, x: Tree, in_stream: bool) -> Tree:
        if number in self.parts:
            return self.parts[number]._run(x, in_stream)[1]
        if not isinstance(layer, HostLayer):
            return tree.on_strings(layer, x)
        y = layer.on_host(x)
        if in_stream and layer.has_free_length:
            return in_few_lengths(y)
        return y


def in_few_lengths(y: np.ndarray) -> np.ndarray:
    """(batch, length) padded by zeros to a power of two, so that few programs are compiled."""
    length = max(1 << (y.shape[1] - 1).bit_length(), SHORTEST)
    return np.pad(y, ((0, 0), (0, length - y.shape[1])))


class Cut(NamedTuple):
    """A network in two: `run(x, in_stream)` on the host; `rest` of its outputs is compiled.

    `inputs` are those of the rest: specs, or nodes. Its weights have the paths of the network.
    """

    run: Callable[..., tuple[np.ndarray, ...]]
    rest: Layer
    inputs: tuple[Any, ...]

    def known_outputs(self, count: int) -> list[SpecTree] | None:
        """What `run` returns for `count` examples; None if a size depends on their values.

        The inputs of the rest are nodes here.
        """
        shapes = [node.shape[1:] for node in self.inputs]
        if any(size is None for shape in shapes for size in shape):
            return None
        pairs = zip(self.inputs, shapes, strict=True)
        return [tree.array_spec((count, *shape), node.dtype) for node, shape in pairs]


@small_cache(64)
def has_host(layer: Layer) -> bool:
    """Whether a layer inside may run on the host."""
    inside = (type(one) for _, one, _ in walk(layer))
    return any(one.runs_on_host is not Layer.runs_on_host for one in inside)


def cut(layer: Layer, x: SpecTree) -> Cut | None:
    """`layer` in two for inputs like `x`; None if it cannot be cut, or nothing is on the host."""
    flow = _flow_inside(layer)
    if layer.runs_on_host(x):
        flow = _Alone(layer)
    if flow is None or not (has_host(layer) or tree.has_strings(x)):
        return None
    host = Host(flow, x)
    rest: Layer = host.rest()
    if not layer.runs_on_host(x):
        rest = _around(layer, rest)
    specs = tuple(host.slots[slot] for slot in sorted(host.used))

    def run(x: Tree, in_stream: bool = False) -> tuple[np.ndarray, ...]:
        return tuple(map(in_working_dtype, host.run(x, in_stream)))

    return Cut(run, rest, specs)


def cut_nodes(layer: Layer, nodes: Tree) -> Cut | None:
    """`cut` for the nodes of the inputs; those of the rest are nodes too."""
    first, second = (
        cut(layer, jax.tree.map(lambda node: node.specs[index], nodes))  # noqa: B023
        for index in (0, 1)
    )
    if first is None or second is None:
        return None
    pairs = zip(first.inputs, second.inputs, strict=True)
    made = tuple(Node(None, (), specs) for specs in pairs)
    return first._replace(inputs=made)


class _Alone(Flow, loadable=False):
    """A single layer as a flow."""

    inner: Layer

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return ((None, self.inner),)

    def flow(self, x: Tree, visit: Visit) -> Tree:
        return visit("", self.inner, x)


def _flow_inside(layer: Layer) -> Flow | None:
    """The flow that a layer is, or that wrappers around it run; None for other layers."""
    while isinstance(layer, _AROUND):
        layer = layer.inner
    if isinstance(layer, Flow) and type(layer).apply is Flow.apply:
        return layer
    return None


def _around(layer: Layer, rest: Layer) -> Layer:
    """The rest of a flow in the wrappers of `layer`."""
    if isinstance(layer, _AROUND):
        return layer.replace(inner=_around(layer.inner, rest))
    if layer.dtype is not None or not layer.trainable:
        return rest.replace(dtype=layer.dtype, trainable=layer.trainable)
    return rest


def _refuse_inside(layer: Layer) -> None:
    """Raises ValueError for a layer that runs one on the host where it cannot be cut out."""
    if _is_call(layer) or not has_host(layer):
        return
    inside = next(one for _, one, _ in walk(layer) if isinstance(one, HostLayer))
    raise ValueError(
        f"{type(inside).__name__} runs on the host, ahead of the compiled part, and cannot stand "
        f"inside {type(layer).__name__}; put it into a Sequential or functional model before it"
    )


def _is_call(layer: Layer) -> bool:
    """Whether a class with `call` decides which of its layers it runs."""
    return hasattr(layer, "bind_call")
