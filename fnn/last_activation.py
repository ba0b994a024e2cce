"""The last softmax or sigmoid of a network, cut off it: what a loss of logits is taken of.

Layers know nothing of this: a network is a value, so it is read here, from its outputs back, and
written again without its last activation. It is recognized by the function that computes a layer,
its `apply`, so a subclass with an `apply` of its own is left as it is.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import tree
from fnn.core.arithmetic import activate
from fnn.core.calling import activity_penalty, call, output_spec, walk
from fnn.core.combining import Flow, Visit, Wrapper
from fnn.core.config import resolve
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer, Params, State
from fnn.core.masking import attach_mask, is_masked, split_mask, strip_masks
from fnn.core.node import Item
from fnn.core.program_cache import small_cache
from fnn.layers import (
    Activation,
    ActivityRegularization,
    Conv1D,
    Conv1DTranspose,
    Dense,
    DepthwiseConv1D,
    EinsumDense,
    Ensemble,
    Flatten,
    Identity,
    Inference,
    Lambda,
    LoRA,
    Remat,
    Reshape,
    SeparableConv1D,
    Softmax,
    TimeDistributed,
)

Path: TypeAlias = tuple[Any, ...]  # where an output is in the structure of all outputs

# The last thing they compute is their field `activation` (Conv2D by the same `apply`, and so on).
_WITH_ACTIVATION = {
    layer.apply
    for layer in (
        Activation, Dense, EinsumDense, Conv1D, Conv1DTranspose, DepthwiseConv1D, SeparableConv1D,
    )
}  # fmt: skip
# Their outputs are their inputs, in other places at most.
_MOVING = {layer.apply for layer in (Identity, ActivityRegularization, Flatten, Reshape)}
# Their outputs are those of the layer `inner` (Frozen by the `apply` of Wrapper).
_AROUND = {layer.apply for layer in (Wrapper, Remat, Inference, TimeDistributed, Ensemble, LoRA)}

_NAMES = {
    jax.nn.softmax: "softmax",
    jax.nn.sigmoid: "sigmoid",
    jax.scipy.special.softmax: "softmax",
    jax.scipy.special.expit: "sigmoid",
}


@dataclass(frozen=True)
class End:
    """What an output of a network ends in: the last layer that computes it, and its activation.

    `name` is "softmax" or "sigmoid" where the activation can be cut off: a softmax is then one of
    the last axis of the output. `dtype` is the one to compute it in, if that is another than that
    of the logits.

    >>> End(Dense(2, "sigmoid"), "sigmoid", "sigmoid").of(jnp.zeros((1, 2))).tolist()
    [[0.5, 0.5]]
    """

    layer: Layer
    activation: Any
    name: str | None = None
    dtype: Any = None

    def of(self, logits: Any) -> Any:
        """The output, of the logits; a mask stays."""
        z, mask = split_mask(logits)
        if self.dtype is None:
            return attach_mask(activate(self.name, z), mask)
        return attach_mask(activate(self.name, z.astype(self.dtype)).astype(z.dtype), mask)

    def name_for(self, shape: tuple[int, ...]) -> str | None:
        """`name`, for outputs of this shape: a softmax over one class has no logits."""
        return None if self.name == "softmax" and shape[-1:] == (1,) else self.name


def without_last_activation(layer: Layer, x: Any) -> tuple[Layer, dict[Path, End]]:
    """(the network without the last softmax or sigmoid of its outputs, what each output ends in).

    It has the weights of `layer` by the same paths, and returns logits where an `End` has a name:
    `end.of(logits)` is the output. The ends go by the path of the output (`()` if there is one);
    of those that are not known there is none. `x` are inputs, or their shapes.

    An activation is found through `Sequential`, graphs, nested models and the wrappers that only
    run a layer, and through what only moves numbers (`Reshape`, `Flatten`, `Identity`). It is not
    before `Dropout`, which changes probabilities, before other layers, in a layer or function of
    your own that computes the activation inside, or with a mask of classes.

    >>> layer, ends = without_last_activation(Dense(3, "softmax"), jnp.ones((2, 4)))
    >>> layer, ends[()].name
    (Dense(units=3), 'softmax')
    """
    leaves, treedef = jax.tree.flatten(tree.spec(x))
    return _without(layer, treedef, tuple(leaves))


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
def _without(layer: Layer, treedef: Any, leaves: tuple[Any, ...]) -> tuple[Layer, dict[Path, End]]:
    x = treedef.unflatten(leaves)
    inputs = jax.tree.map(lambda spec: _Wire(lambda: spec), x, is_leaf=is_masked)
    rest, ends = _follow(layer, inputs)
    return rest, {path: end for path, end in ends.items() if isinstance(end, End)}


# -- following a network without running it ------------------------------------------------------


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


_Ends: TypeAlias = dict[Path, End | _Wire]  # an input, where an output is one that was only moved


class _Call:
    """A layer at its place in a flow; `calls` are those of the flow, in their order."""

    def __init__(self, calls: list[_Call], layer: Layer, x: Any) -> None:
        self.calls, self.number, self.layer, self.x = calls, len(calls), layer, x
        self.inputs = _wires(x)
        self._found: Any = None

    @functools.cached_property
    def followed(self) -> tuple[Layer, _Ends]:
        """(the layer without the activation that it ends in, what its outputs end in)."""
        return _follow(self.layer, self.x)

    def spec(self) -> Any:
        """The shape and dtype of its outputs; long networks need no recursion for it."""
        for call in self.calls[: self.number + 1]:
            if call._found is None:
                call._found = output_spec(call.layer, _specs(call.x))
        return self._found


def _wires(x: Any) -> dict[Path, _Wire]:
    """The wires in nested tuples and dicts. Raises TypeError for those in anything else."""
    found = {path: leaf for path, leaf in outputs_by_path(x) if isinstance(leaf, _Wire)}
    if any(not isinstance(key, (int, str)) for path in found for key in path):
        raise TypeError(f"expected tuples and dicts, received {x!r}")
    return found


def _specs(x: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.spec if isinstance(leaf, _Wire) else leaf, x)


def _follow(layer: Any, x: Any) -> tuple[Layer, _Ends]:
    """(the layer without the activations that its outputs end in, what these end in)."""
    apply = type(layer).apply
    if apply is Flow.apply:
        return _follow_flow(layer, x)
    if layer._open:  # its class has an __init__ of its own, so that `replace` may not work
        return layer, {}
    if apply is Item.apply:
        index = layer.index
        return layer, {(): x.part((index,)) if isinstance(x, _Wire) else x[index]}
    if apply in _MOVING or (apply is Activation.apply and layer.activation in (None, "linear")):
        return layer, dict(_wires(x))
    if apply in _AROUND:
        return _follow_inner(layer, x)
    return _follow_leaf(layer, x)


def _follow_inner(layer: Any, x: Any) -> tuple[Layer, _Ends]:
    if isinstance(layer, TimeDistributed):
        step = _Wire(lambda: jax.eval_shape(layer.inside, x.spec))
        inner, ends = _follow(layer.inner, step)
    else:
        inner, ends = _follow(layer.inner, x)
    if isinstance(layer, (TimeDistributed, Ensemble)):  # an input has other axes than the outputs
        ends = {path: end for path, end in ends.items() if isinstance(end, End)}
    return layer if inner is layer.inner else layer.replace(inner=inner), ends


def _follow_leaf(layer: Any, x: Any) -> tuple[Layer, _Ends]:
    parts = _parts(layer, x)
    if parts is None:
        return layer, {}
    rest, activation = parts
    rank = lambda: len(strip_masks(output_spec(layer, _specs(x))).shape)
    end = End(layer, activation, _name(activation, rank))
    if end.name is None:
        return layer, {(): end}
    regularizer = getattr(layer, "activity_regularizer", None)
    if regularizer is not None:
        rest = _Penalized(rest.replace(activity_regularizer=None), end, regularizer)
    return rest, {(): end}


def _parts(layer: Any, x: Any) -> tuple[Any, Any] | None:
    """(the layer without the activation that it computes last, that); None if it is not known."""
    apply = type(layer).apply
    if apply in _WITH_ACTIVATION:
        return layer.replace(activation=None), layer.activation
    if apply is Softmax.apply and not _masks_classes(x):
        common = {name: getattr(layer, name) for name in ("name", "trainable", "dtype")}
        softmax = functools.partial(resolve("activation", "softmax"), axis=layer.axis)
        return Activation(None, **common), softmax
    if apply is Lambda.apply and layer.mask is None:
        options = layer.arguments.as_dict() if layer.arguments else {}
        function = functools.partial(layer.function, **options)
        return layer.replace(function=_unchanged, arguments=None), function
    return None


def _unchanged(x: Any) -> Any:
    return x


def _masks_classes(x: Any) -> bool:
    """Whether the inputs of a `Softmax` bring a mask of its classes."""
    if not isinstance(x, _Wire):
        return True
    values, mask = split_mask(x.spec)
    return not hasattr(values, "shape") or (mask is not None and len(mask.shape) == values.ndim)


def _name(activation: Any, rank: Callable[[], int]) -> str | None:
    """The activation if it is a sigmoid or a softmax of the last axis, by its name; else None."""
    options: dict[str, Any] = {}
    while isinstance(activation, functools.partial) and not activation.args:
        activation, options = activation.func, {**activation.keywords, **options}
    functions = {resolve("activation", name): name for name in ("softmax", "sigmoid")}
    name = activation
    if not isinstance(activation, str):
        known = (_NAMES | functions).items()
        name = next((name for function, name in known if function is activation), None)
    axis = options.pop("axis", -1)
    axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
    if name not in ("softmax", "sigmoid") or options:
        return None
    return name if name == "sigmoid" or axis == -1 or axis == rank() - 1 else None


# -- a network of layers that are wired ----------------------------------------------------------


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
    if _only_moves(found, calls):
        return flow, {path: end for path, (end, _) in found.items()}
    chains = {
        path: [_moved(end, chain[: length + 1]) for length in range(len(chain))]
        for path, (end, chain) in found.items()
        if isinstance(end, End)
    }
    raw: dict[tuple[int, Path], End] = {}  # the wires that now carry logits
    for path, ends in chains.items():
        if ends[-1].name is not None:
            _, chain = found[path]
            wires = zip(chain, ends, strict=True)
            raw |= {(wire.source.number, wire.place): end for wire, end in wires if wire.source}
    changes = _changes(calls, raw)
    ends_of_all: _Ends = {path: ends[-1] for path, ends in chains.items()}
    if not changes:
        return flow, ends_of_all
    return _Rewired(flow, changes, trainable=flow.trainable, dtype=flow.dtype), ends_of_all


def _origins(wire: _Wire, calls: list[_Call]) -> Iterator[tuple[Path, End | _Wire, list[_Wire]]]:
    """For each value on a wire: (its path, what it ends in, the wires from there to here).

    It ends in a wire, where it is an input of the flow.
    """
    if wire.source is None or wire.source.calls is not calls:
        yield (), wire, []
        return
    for path, end in wire.source.followed[1].items():
        if path[: len(wire.place)] == wire.place:
            rest = path[len(wire.place) :]
            if isinstance(end, End):
                yield rest, end, [wire.part(rest)]
            else:
                for inner, origin, chain in _origins(end, calls):
                    yield (*rest, *inner), origin, [*chain, wire.part((*rest, *inner))]


def _only_moves(found: Any, calls: list[_Call]) -> bool:
    """Whether all that a flow computes is its inputs in other places."""
    ends = itertools.chain(
        (end for end, _ in found.values()),
        *(call.followed[1].values() or [None] for call in calls),
    )
    return bool(found) and all(isinstance(end, _Wire) for end in ends)


def _moved(end: End, chain: list[_Wire]) -> End:
    """`end` after the layers that moved its numbers along `chain`.

    Without a name where the activation cannot be applied there: classes came apart, or a dtype
    became narrower.
    """
    if end.name is None or len(chain) == 1:
        return end
    specs = [strip_masks(wire.spec) for wire in chain]
    together = end.name == "sigmoid" or len({spec.shape[-1:] for spec in specs}) == 1
    dtypes = [spec.dtype for spec in specs]
    exact = all(jnp.promote_types(a, b) == b for a, b in itertools.pairwise(dtypes))
    if not together or not exact or not all(map(_one_value, chain[1:])):
        return dataclasses.replace(end, name=None)
    first = dtypes[0] if end.dtype is None else end.dtype
    return end if dtypes[-1] == first else dataclasses.replace(end, dtype=first)


def _one_value(wire: _Wire) -> bool:
    """Whether a layer moved a single value, and no layer inside it looks at that."""
    assert wire.source is not None
    layer = wire.source.layer
    inside = (inner for _, inner, _ in walk(layer) if inner is not layer)
    return not wire.place and not any(map(_penalty, inside))


def _penalty(layer: Layer) -> Any:
    return getattr(layer, "activity_regularizer", None)


def _changes(calls: list[_Call], raw: dict[tuple[int, Path], End]) -> tuple[Any, ...]:
    """(number of a call, the layer to call instead) so that the wires in `raw` carry logits.

    `raw` gains the other outputs of the layers that are changed.
    """
    changes: dict[int, Layer] = {}
    for call in calls:
        layer = call.layer
        if any(number == call.number for number, _ in raw):
            rest, ends = call.followed
            known = {path: end for path, end in ends.items() if isinstance(end, End)}
            if not known:  # it only moves logits
                if _penalty(layer) is not None:
                    same = Identity(dtype=layer.dtype)
                    changes[call.number] = _Penalized(same, raw[call.number, ()], _penalty(layer))
                continue
            layer = rest
            raw |= {(call.number, path): end for path, end in known.items() if end.name}
        taken = tuple(_taken(call, raw))
        if taken:
            layer = _Behind(layer, taken)
        if layer is not call.layer:
            changes[call.number] = layer
    return tuple(changes.items())


def _taken(call: _Call, raw: dict[tuple[int, Path], End]) -> Iterator[tuple[Path, End]]:
    """The inputs of a call that are now logits: (path, what is to be applied to them)."""
    for path, wire in call.inputs.items():
        for (number, place), end in raw.items():
            here = wire.source is call.calls[number] and place[: len(wire.place)] == wire.place
            if here:
                yield (*path, *place[len(wire.place) :]), end


# -- the layers of a network that was cut --------------------------------------------------------


class _Rewired(Flow, loadable=False):
    """`inner` with other layers at some of its calls: pairs of the number of a call and a layer."""

    inner: Any
    changes: Any = ()

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return self.inner.children()

    def flow(self, x: Any, visit: Visit) -> Any:
        changes, number = dict(self.changes), itertools.count()
        return self.inner.flow(
            x, lambda name, layer, x: visit(name, changes.get(next(number), layer), x)
        )


class _Penalized(Wrapper, loadable=False):
    """`inner`, which returns logits, with a penalty of what they become by an activation."""

    end: Any
    penalty: Any

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        logits, after = call(self.inner, params, state, x, ctx)
        penalty = activity_penalty(self.penalty, self.end.of(logits), ctx)
        return logits, {**after, "aux_loss": penalty.astype(state["aux_loss"].dtype)}


class _Behind(Wrapper, loadable=False):
    """`inner` behind activations of its inputs: pairs of the path of an input and its `End`."""

    ends: Any

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        for path, end in self.ends:
            x = _with(x, path, end.of)
        return call(self.inner, params, state, x, ctx)


def _with(x: Any, path: Path, function: Callable[[Any], Array]) -> Any:
    """Nested tuples and dicts with `function` of what is at `path` in its place."""
    if not path:
        return function(x)
    if isinstance(x, dict):
        return {**x, path[0]: _with(x[path[0]], path[1:], function)}
    return tuple(
        _with(item, path[1:], function) if index == path[0] else item
        for index, item in enumerate(x)
    )
