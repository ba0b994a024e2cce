"""A network without its last softmax or sigmoid: followed from its outputs back, and rewired."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.tree_util import PyTreeDef

from fnn.core import tree
from fnn.core.calling import output_spec
from fnn.core.checks import with_dtype_of_children
from fnn.core.combining import Flow, Wrapper
from fnn.core.context import is_masked, strip_masks
from fnn.core.layer import Layer
from fnn.core.tree import SpecTree, Tree
from fnn.last_activation.leaf import End, moves_inputs, penalty, split
from fnn.last_activation.rewired import Behind, Change, Penalized, Rewired
from fnn.layers import Ensemble, Identity, Inference, LoRA, Remat, TimeDistributed
from fnn.runtime.program_cache import small_cache
from fnn.symbolic.parts import Item

Path: TypeAlias = tuple[Any, ...]  # the place of a value in nested tuples and dicts

# Layers that return the outputs of their field `inner` (Frozen has the `apply` of Wrapper).
_AROUND = {
    layer.apply
    for layer in (Wrapper, Remat, Inference, TimeDistributed, Ensemble, LoRA)
}


def without_last_activation(layer: Layer, x: SpecTree) -> tuple[Layer, dict[Path, End]]:
    """(the network without the last softmax or sigmoid of its outputs, the ends of its outputs).

    The network has the weights of `layer` at the same paths. It returns logits for each output
    whose `End` has a name: `end.of(logits)` is the output. The ends are given by the path of the
    output (`()` for a single one); unknown ones are left out. `x` are inputs, or their shapes.

    The activation is found through `Sequential`, graphs, nested models, the wrappers that only
    run a layer, and layers that only move values (`Reshape`, `Flatten`, `Identity`). It is not
    found before `Dropout`, which changes probabilities, before other layers, inside your own
    layers and functions, or with a mask of classes.

    >>> layer, ends = without_last_activation(fnn.layers.Dense(3, "softmax"), jnp.ones((2, 4)))
    >>> layer, ends[()].name
    (Dense(units=3), 'softmax')
    """
    leaves, treedef = jax.tree.flatten(tree.spec(x))
    rest, ends = _without(layer, treedef, tuple(leaves))
    if rest is None:
        return layer, ends
    return rest, ends


def outputs_by_path(outputs: Tree) -> list[tuple[Path, Any]]:
    """Each output of a network with its path, in the order of `jax.tree.leaves`.

    >>> outputs_by_path((1, {"a": 2}))
    [((0,), 1), ((1, 'a'), 2)]
    """
    found, _ = jax.tree_util.tree_flatten_with_path(outputs, is_leaf=is_masked)
    return [(tuple(map(_plain, keys)), leaf) for keys, leaf in found]


def _plain(key: object) -> object:
    """The index of a tuple or the key of a dict; for other containers JAX's key object."""
    if isinstance(key, jax.tree_util.SequenceKey):
        return key.idx
    if isinstance(key, jax.tree_util.DictKey):
        return key.key
    return key


@small_cache(64)
def _without(
    layer: Layer, treedef: PyTreeDef, leaves: tuple[SpecTree, ...]
) -> tuple[Layer | None, dict[Path, End]]:
    """`without_last_activation`, with None for a network that stays as it is."""
    x = treedef.unflatten(leaves)
    inputs = jax.tree.map(lambda spec: _Wire(lambda: spec), x, is_leaf=is_masked)
    rest, ends = _follow(layer, inputs)
    if rest is layer:
        return None, _known(ends)
    return rest, _known(ends)


class _Wire:
    """A value between layers while a network is followed without running it."""

    def __init__(
        self,
        spec: Callable[[], SpecTree],
        source: _Call | None = None,
        place: Path = (),
    ) -> None:
        self._spec = spec
        self.source = source
        self.place = place

    @property
    def spec(self) -> SpecTree:
        """Its shape and dtype, inferred on access only."""
        spec = self._spec()
        for key in self.place:
            spec = spec[key]
        return spec

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.spec.shape
        return shape

    @property
    def dtype(self) -> jnp.dtype:
        dtype: jnp.dtype = self.spec.dtype
        return dtype

    def part(self, path: Path) -> _Wire:
        """The value at `path` in this one, for a layer that returns several values."""
        return _Wire(self._spec, self.source, (*self.place, *path))

    def below(self, path: Path) -> Path | None:
        """A path in the outputs of the source as a path in this value; None if not inside."""
        size = len(self.place)
        if path[:size] != self.place:
            return None
        return path[size:]


class _Call:
    """A call of a layer in a flow; `calls` are all calls of the flow, in order."""

    def __init__(self, calls: list[_Call], layer: Layer, x: Tree) -> None:
        self.calls = calls
        self.number = len(calls)
        self.layer = layer
        self.x = x
        self.inputs = _wires(x)
        self._spec: SpecTree = None

    @functools.cached_property
    def followed(self) -> _Followed:
        return _follow(self.layer, self.x)

    def spec(self) -> SpecTree:
        """Shapes and dtypes of the outputs; inferred in order, so without deep recursion."""
        for call in self.calls[: self.number + 1]:
            if call._spec is None:
                call._spec = output_spec(call.layer, _specs(call.x))
        return self._spec


# By the path of an output its end. For an input that was only moved: this wire, then the wires
# inside, in order.
_Ends: TypeAlias = dict[Path, End | tuple[_Wire, ...]]

# The ends of the logits on wires, by the number of their call and their path there.
_Logits: TypeAlias = dict[tuple[int, Path], End]


class _Followed(NamedTuple):
    """A layer without the last activations of its outputs, and the ends of its outputs."""

    layer: Layer
    ends: _Ends


def _known(ends: _Ends) -> dict[Path, End]:
    """The ends that are activations."""
    return {path: end for path, end in ends.items() if isinstance(end, End)}


def _moved_inputs(ends: _Ends) -> dict[Path, tuple[_Wire, ...]]:
    """The ends that are inputs, only moved."""
    return {path: end for path, end in ends.items() if isinstance(end, tuple)}


def _wires(x: Tree) -> dict[Path, _Wire]:
    """The wires in nested tuples and dicts. Raises TypeError for other containers."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(x)
    found = {}
    for keys, leaf in leaves:
        if not isinstance(leaf, _Wire):
            continue
        path = tuple(map(_plain, keys))
        if not all(isinstance(key, (int, str)) for key in path):
            raise TypeError(f"expected tuples and dicts, received {x!r}")
        found[path] = leaf
    return found


def _specs(x: Tree) -> SpecTree:
    return jax.tree.map(_spec_of, x)


def _spec_of(leaf: Any) -> SpecTree:
    if isinstance(leaf, _Wire):
        return leaf.spec
    return leaf


def _follow(layer: Layer, x: Tree) -> _Followed:
    """The layer without its last activations. The same object if nothing is removed."""
    running = with_dtype_of_children(layer)
    rest, ends = _follow_running(running, x)
    if rest is running:
        rest = layer
    return _Followed(rest, ends)


def _follow_running(layer: Any, x: Tree) -> _Followed:
    apply = type(layer).apply
    if apply is Flow.apply:
        return _follow_flow(layer, x)
    if layer._open:  # its class has its own `__init__`, so `replace` may not work
        return _Followed(layer, {})
    if apply is Item.apply:
        if isinstance(x, _Wire):
            return _Followed(layer, {(): (x.part((layer.index,)),)})
        return _Followed(layer, {(): (x[layer.index],)})
    if moves_inputs(layer):
        if not isinstance(x, _Wire):
            return _Followed(layer, {})
        return _Followed(layer, {(): (x,)})
    if apply in _AROUND:
        return _follow_inner(layer, x)
    return _follow_leaf(layer, x)


def _follow_leaf(layer: Layer, x: Tree) -> _Followed:
    def rank() -> int:
        return len(strip_masks(output_spec(layer, _specs(x))).shape)

    found = split(layer, lambda: _specs(x), rank)
    if found is None:
        return _Followed(layer, {})
    rest, end = found
    if end.name is None:
        return _Followed(layer, {(): end})
    if penalty(layer) is not None:
        plain = rest.replace(activity_regularizer=None)
        rest = Penalized(plain, end, penalty(layer))
    return _Followed(rest, {(): end})


def _follow_inner(layer: Any, x: Tree) -> _Followed:
    """Follows the layer inside a wrapper."""
    if isinstance(layer, TimeDistributed):
        # `inner` gets one step at a time.
        outer = x
        x = _Wire(lambda: jax.eval_shape(layer.inside, outer.spec))
    inner, ends = _follow(layer.inner, x)
    if penalty(layer.inner) is not None:
        # An input with a penalty is not only moved.
        ends = dict(_known(ends))
    if inner is layer.inner:
        return _Followed(layer, ends)
    return _Followed(layer.replace(inner=inner), ends)


def _follow_flow(flow: Flow, x: Tree) -> _Followed:
    calls: list[_Call] = []

    def visit(name: str, layer: Layer, x: Tree) -> _Wire:
        call = _Call(calls, layer, x)
        calls.append(call)
        return _Wire(call.spec, call)

    try:
        outputs = _wires(flow.flow(x, visit))
    except Exception:  # a flow that computes with values
        return _Followed(flow, {})
    origins: dict[Path, _Origin] = {}
    for path, wire in outputs.items():
        for origin in _origins(wire, calls):
            origins[(*path, *origin.path)] = origin
    ends: _Ends = {}
    logits: _Logits = {}
    for path, (_, start, chain) in origins.items():
        if isinstance(start, End):
            end = _moved(start, chain)
            ends[path] = end
            if end.name is not None:
                for wire in chain:
                    if wire.source is not None and wire.source in calls:
                        logits[wire.source.number, wire.place] = end
        elif all(map(_only_moves, calls)):
            ends[path] = (start, *chain)
    changes = tuple(_changes(calls, logits))
    if not changes:
        return _Followed(flow, ends)
    rewired = Rewired(
        flow, changes, ties=flow.ties, trainable=flow.trainable, dtype=flow.dtype
    )
    return _Followed(rewired, ends)


class _Origin(NamedTuple):
    """The origin of a value on a wire, at `path` there: an end, or a wire of the flow's inputs."""

    path: Path
    start: End | _Wire
    chain: list[_Wire]  # the wires from there to this one


def _origins(wire: _Wire, calls: list[_Call]) -> Iterator[_Origin]:
    """The origin of each value on a wire."""
    if wire.source is None or wire.source not in calls:
        yield _Origin((), wire, [])
        return
    for path, end in wire.source.followed.ends.items():
        here = wire.below(path)
        if here is None:
            continue
        if isinstance(end, End):
            yield _Origin(here, end, [wire.part(here)])
            continue
        # An input that was only moved: its own origin, then the wires on the way.
        for inner, start, chain in _origins(end[0], calls):
            if not inner:  # a single value
                yield _Origin(here, start, [*chain, *end[1:], wire.part(here)])


def _only_moves(call: _Call) -> bool:
    """Whether a layer only moves its inputs."""
    ends = call.followed.ends
    if not ends or len(_moved_inputs(ends)) < len(ends):
        return False
    return penalty(call.layer) is None


def _moved(end: End, chain: list[_Wire]) -> End:
    """`end` after the layers that moved its values along `chain`.

    Its name is None if the activation cannot be applied afterwards: the classes were separated,
    or the dtype became narrower.
    """
    if end.name is None or len(chain) == 1:
        return end
    specs = [strip_masks(wire.spec) for wire in chain]
    dtypes = [spec.dtype for spec in specs]
    classes = {spec.shape[-1:] for spec in specs}
    separated = end.name == "softmax" and len(classes) > 1
    steps = itertools.pairwise(dtypes)
    exact = all(jnp.promote_types(a, b) == b for a, b in steps)
    if separated or not exact:
        return dataclasses.replace(end, name=None)
    if len(set(dtypes)) == 1:
        return end
    return dataclasses.replace(end, dtype=end.dtype or dtypes[0])


def _changes(calls: list[_Call], logits: _Logits) -> Iterator[Change]:
    """The changes of layers that put `logits` on these wires.

    `logits` gains the other wires that then have logits.
    """
    for call in calls:
        layer = call.layer
        taken = _carried(call.inputs, calls, logits)
        if any(call.number == source for source, _ in logits):
            rest, ends = call.followed
            made = {path: end for path, end in _known(ends).items() if end.name}
            if made:
                layer = rest
            else:  # it only moves its inputs, so it takes logits
                inputs = {path: end[0] for path, end in _moved_inputs(ends).items()}
                made = _carried(inputs, calls, logits)
                taken = {}
                if penalty(layer) is not None:
                    same = Identity(dtype=layer.dtype)
                    layer = Penalized(same, logits[call.number, ()], penalty(layer))
            for path, end in made.items():
                logits[call.number, path] = end
        if taken:
            layer = Behind(layer, tuple(taken.items()))
        if layer is not call.layer:
            yield Change(call.number, call.layer, layer)


def _carried(
    wires: dict[Path, _Wire], calls: list[_Call], logits: _Logits
) -> dict[Path, End]:
    """The ends of the logits among `wires`, by path."""
    found = {}
    for path, wire in wires.items():
        for (number, place), end in logits.items():
            if wire.source is not calls[number]:
                continue
            here = wire.below(place)
            if here is not None:
                found[(*path, *here)] = end
    return found
