"""A network without its last softmax or sigmoid: followed from its outputs back, and rewired."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from fnn.core import tree
from fnn.core.calling import output_spec
from fnn.core.combining import Flow, Wrapper
from fnn.core.door import with_dtype_of_children
from fnn.core.layer import Layer
from fnn.core.masking import is_masked, strip_masks
from fnn.last_activation.leaf import End, moves_inputs, penalty, split
from fnn.last_activation.rewired import Behind, Change, Penalized, Rewired
from fnn.layers import Ensemble, Identity, Inference, LoRA, Remat, TimeDistributed
from fnn.runtime.program_cache import small_cache
from fnn.symbolic.node import Item

Path: TypeAlias = tuple[Any, ...]  # where a value is in nested tuples and dicts

# Layers whose outputs are those of their field `inner` (Frozen has the `apply` of Wrapper).
_AROUND = {
    layer.apply
    for layer in (Wrapper, Remat, Inference, TimeDistributed, Ensemble, LoRA)
}


def without_last_activation(layer: Layer, x: Any) -> tuple[Layer, dict[Path, End]]:
    """(the network without the last softmax or sigmoid of its outputs, what each output ends in).

    It has the weights of `layer` by the same paths, and returns logits where an `End` has a name:
    `end.of(logits)` is the output. The ends go by the path of the output (`()` if there is one);
    of those that are not known there is none. `x` are inputs, or their shapes.

    An activation is found through `Sequential`, graphs, nested models and the wrappers that only
    run a layer, and through what only moves numbers (`Reshape`, `Flatten`, `Identity`). It is not
    before `Dropout`, which changes probabilities, before other layers, in a layer or function of
    your own that computes the activation inside, or with a mask of classes.

    >>> layer, ends = without_last_activation(fnn.layers.Dense(3, "softmax"), jnp.ones((2, 4)))
    >>> layer, ends[()].name
    (Dense(units=3), 'softmax')
    """
    leaves, treedef = jax.tree.flatten(tree.spec(x))
    rest, ends = _without(layer, treedef, tuple(leaves))
    return layer if rest is None else rest, ends


def outputs_by_path(outputs: Any) -> list[tuple[Path, Any]]:
    """Each output of a network with its path, in the order of `jax.tree.leaves`.

    >>> outputs_by_path((1, {"a": 2}))
    [((0,), 1), ((1, 'a'), 2)]
    """
    found, _ = jax.tree_util.tree_flatten_with_path(outputs, is_leaf=is_masked)
    return [(tuple(map(_plain, keys)), leaf) for keys, leaf in found]


def _plain(key: Any) -> Any:
    """The index of a tuple or the key of a dict; of other containers what JAX has for it."""
    if isinstance(key, jax.tree_util.SequenceKey):
        return key.idx
    return key.key if isinstance(key, jax.tree_util.DictKey) else key


@small_cache(64)
def _without(
    layer: Layer, treedef: Any, leaves: tuple[Any, ...]
) -> tuple[Layer | None, dict[Path, End]]:
    """As `without_last_activation`; None for a network that stays as it is."""
    x = treedef.unflatten(leaves)
    inputs = jax.tree.map(lambda spec: _Wire(lambda: spec), x, is_leaf=is_masked)
    rest, ends = _follow(layer, inputs)
    known = {path: end for path, end in ends.items() if isinstance(end, End)}
    return None if rest is layer else rest, known


class _Wire:
    """What goes from layer to layer, while a network is followed and not run."""

    def __init__(
        self, spec: Callable[[], Any], source: _Call | None = None, place: Path = ()
    ) -> None:
        self._spec, self.source, self.place = spec, source, place

    @property
    def spec(self) -> Any:
        """Its shape and dtype, found only when it is asked for."""
        return functools.reduce(lambda spec, key: spec[key], self.place, self._spec())

    @property
    def shape(self) -> Any:
        return self.spec.shape

    @property
    def dtype(self) -> Any:
        return self.spec.dtype

    def part(self, path: Path) -> _Wire:
        """What is at `path` in it, where a layer returns several values."""
        return _Wire(self._spec, self.source, (*self.place, *path))

    def below(self, path: Path) -> Path | None:
        """`path` of the outputs of its source as one from here; None if it is not on this wire."""
        size = len(self.place)
        return path[size:] if path[:size] == self.place else None


class _Call:
    """A layer at its place in a flow; `calls` are those of the flow, in their order."""

    def __init__(self, calls: list[_Call], layer: Layer, x: Any) -> None:
        self.calls, self.number, self.layer, self.x = calls, len(calls), layer, x
        self.inputs = _wires(x)
        self._found: Any = None

    @functools.cached_property
    def followed(self) -> tuple[Layer, _Ends]:
        return _follow(self.layer, self.x)

    def spec(self) -> Any:
        """The shape and dtype of its outputs, found in order: a long network needs no recursion."""
        for call in self.calls[: self.number + 1]:
            if call._found is None:
                call._found = output_spec(call.layer, _specs(call.x))
        return self._found


# By the path of an output what it ends in; if that is an input which was only moved, this and the
# wires inside on its way.
_Ends: TypeAlias = dict[Path, End | tuple[_Wire, ...]]

# What is to be made of the logits on a wire, by the number of its call and its path there.
_Logits: TypeAlias = dict[tuple[int, Path], End]


def _wires(x: Any) -> dict[Path, _Wire]:
    """The wires in nested tuples and dicts. Raises TypeError for those in anything else."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(x)
    found = {
        tuple(map(_plain, keys)): leaf
        for keys, leaf in leaves
        if isinstance(leaf, _Wire)
    }
    if any(not isinstance(key, (int, str)) for path in found for key in path):
        raise TypeError(f"expected tuples and dicts, received {x!r}")
    return found


def _specs(x: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.spec if isinstance(leaf, _Wire) else leaf, x)


def _follow(layer: Any, x: Any) -> tuple[Layer, _Ends]:
    """(the layer without the activations that its outputs end in, what these end in)."""
    running = with_dtype_of_children(layer)
    rest, ends = _follow_running(running, x)
    return layer if rest is running else rest, ends


def _follow_running(layer: Any, x: Any) -> tuple[Layer, _Ends]:
    apply = type(layer).apply
    if apply is Flow.apply:
        return _follow_flow(layer, x)
    if (
        layer._open
    ):  # its class has an __init__ of its own, so that `replace` may not work
        return layer, {}
    if apply is Item.apply:
        return layer, {
            (): (x.part((layer.index,)) if isinstance(x, _Wire) else x[layer.index],)
        }
    if moves_inputs(layer):
        return layer, {(): (x,)} if isinstance(x, _Wire) else {}
    if apply in _AROUND:
        return _follow_inner(layer, x)
    rank = lambda: len(strip_masks(output_spec(layer, _specs(x))).shape)
    rest, end = split(layer, lambda: _specs(x), rank) or (layer, None)
    if end is None or end.name is None:
        return layer, {} if end is None else {(): end}
    if penalty(layer) is not None:
        rest = Penalized(rest.replace(activity_regularizer=None), end, penalty(layer))
    return rest, {(): end}


def _follow_inner(layer: Any, x: Any) -> tuple[Layer, _Ends]:
    step = _Wire(lambda: jax.eval_shape(layer.inside, x.spec))
    inner, ends = _follow(
        layer.inner, step if isinstance(layer, TimeDistributed) else x
    )
    if penalty(layer.inner) is not None:  # more is done with an input than to move it
        ends = {path: end for path, end in ends.items() if isinstance(end, End)}
    return layer if inner is layer.inner else layer.replace(inner=inner), ends


def _follow_flow(flow: Any, x: Any) -> tuple[Layer, _Ends]:
    calls: list[_Call] = []

    def visit(name: str, layer: Layer, x: Any) -> _Wire:
        calls.append(_Call(calls, layer, x))
        return _Wire(calls[-1].spec, calls[-1])

    try:
        outputs = _wires(flow.flow(x, visit))
    except Exception:  # a flow that looks into what it is given
        return flow, {}
    found = {
        (*path, *inner): (end, chain)
        for path, wire in outputs.items()
        for inner, end, chain in _origins(wire, calls)
    }
    ends: _Ends = {}
    logits: _Logits = {}
    for path, (origin, chain) in found.items():
        if isinstance(origin, End):
            ends[path] = end = _moved(origin, chain)
            if end.name is not None:
                own = (wire for wire in chain if wire.source in calls)
                logits |= {
                    (wire.source.number, wire.place): end for wire in own if wire.source
                }
        elif all(map(_only_moves, calls)):
            ends[path] = (origin, *chain)
    changes = tuple(_changes(calls, logits))
    if not changes:
        return flow, ends
    return Rewired(flow, changes, trainable=flow.trainable, dtype=flow.dtype), ends


def _origins(
    wire: _Wire, calls: list[_Call]
) -> Iterator[tuple[Path, End | _Wire, list[_Wire]]]:
    """For each value on a wire: (its path, what it ends in, the wires from there to here).

    It ends in a wire, where it is an input of the flow.
    """
    if wire.source not in calls:
        yield (), wire, []
        return
    for path, end in wire.source.followed[1].items():
        here = wire.below(path)
        if here is not None and isinstance(end, End):
            yield here, end, [wire.part(here)]
        elif here is not None and isinstance(end, tuple):
            for inner, origin, chain in _origins(end[0], calls):
                if not inner:  # a single value
                    yield here, origin, [*chain, *end[1:], wire.part(here)]


def _only_moves(call: _Call) -> bool:
    """Whether all that a layer does is to move its inputs."""
    _, ends = call.followed
    moves = bool(ends) and all(isinstance(end, tuple) for end in ends.values())
    return moves and penalty(call.layer) is None


def _moved(end: End, chain: list[_Wire]) -> End:
    """`end` after the layers that moved its numbers along `chain`.

    Without a name where the activation cannot be applied there: classes came apart, or the dtype
    became narrower.
    """
    if end.name is None or len(chain) == 1:
        return end
    specs = [strip_masks(wire.spec) for wire in chain]
    together = end.name == "sigmoid" or len({spec.shape[-1:] for spec in specs}) == 1
    dtypes = [spec.dtype for spec in specs]
    exact = all(jnp.promote_types(a, b) == b for a, b in itertools.pairwise(dtypes))
    if not together or not exact:
        return dataclasses.replace(end, name=None)
    return (
        end
        if len({*dtypes}) == 1
        else dataclasses.replace(end, dtype=end.dtype or dtypes[0])
    )


def _changes(calls: list[_Call], logits: _Logits) -> Iterator[Change]:
    """What to call instead of some layers, so that these wires carry `logits`.

    `logits` gains the other wires that carry some then.
    """
    for call in calls:
        layer, number = call.layer, call.number
        taken = _carried(call.inputs, calls, logits)
        if any(number == source for source, _ in logits):
            rest, ends = call.followed
            made = {
                path: end
                for path, end in ends.items()
                if isinstance(end, End) and end.name
            }
            if made:
                layer = rest
            else:  # it only moves what it takes
                moved = {
                    path: end[0] for path, end in ends.items() if isinstance(end, tuple)
                }
                made = _carried(moved, calls, logits)
                taken = {}
                if penalty(layer) is not None:
                    same = Identity(dtype=layer.dtype)
                    layer = Penalized(same, logits[number, ()], penalty(layer))
            logits |= {(number, path): end for path, end in made.items()}
        if taken:
            layer = Behind(layer, tuple(taken.items()))
        if layer is not call.layer:
            yield Change(number, call.layer, layer)


def _carried(
    wires: dict[Path, _Wire], calls: list[_Call], logits: _Logits
) -> dict[Path, End]:
    """Where there are logits among `wires`: what is to be made of them, by the path."""
    return {
        (*path, *here): end
        for path, wire in wires.items()
        for (number, place), end in logits.items()
        if wire.source is calls[number] and (here := wire.below(place)) is not None
    }
