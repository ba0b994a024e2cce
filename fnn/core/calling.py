"""Calling layers: names, keys, masks, shapes by abstract evaluation, and errors with paths."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
from jax import Array, lax, random
from jax.tree_util import PyTreeDef

from fnn.core import tree
from fnn.core.arguments import check_inputs
from fnn.core.checks import Method, check_apply, inner_apply, located, run_apply
from fnn.core.context import (
    Context,
    Masked,
    activity_penalty,
    combine_masks,
    is_masked,
    refuse_mask,
    salt,
    split_mask,
    strip_masks,
    without_gradients,
)
from fnn.core.layer import Layer, Params, State
from fnn.core.registry import snake_case
from fnn.core.tree import Path, SpecTree, Tree
from fnn.core.value import resolve
from fnn.runtime.patterns import matches_any
from fnn.runtime.placement import on_automatic_axes, outputs_of_layers, prepared
from fnn.runtime.program_cache import small_cache
from fnn.runtime.recording import recording


def initialize(
    layer: Layer,
    key: Array,
    x: Tree,
    name: str | None = None,
) -> tuple[Params, State]:
    """`layer.init`; a leaf layer gets inputs without masks, and errors are located."""
    with located(name, layer, x):
        values = x
        if layer.masking != "inside":
            values = split_mask(x)[0]
        params, state = layer.init(key, values)
    if getattr(layer, "activity_regularizer", None) is not None:
        state = {**state, "aux_loss": jnp.zeros(())}
    return params, state


def call(
    layer: Layer,
    params: Params,
    state: State,
    x: Tree,
    ctx: Context,
    name: str | None = None,
    fresh: bool = False,
) -> tuple[Tree, State]:
    """`layer.apply` with the features of every layer: masks, freezing, activity regularizer.

    `fresh` weights come from `init` for these inputs, so they fit.
    """
    with located(name, layer, x):
        apply, params, x, ctx = before_call(layer, params, state, x, ctx, fresh)
        y, new_state = apply(params, state, x, ctx)
        return after_call(layer, state, new_state, y, ctx)


def before_call(
    layer: Layer,
    params: Params,
    state: State,
    x: Tree,
    ctx: Context,
    fresh: bool = False,
) -> tuple[Callable[..., tuple[Tree, State]], Params, Tree, Context]:
    """(function to call, weights, inputs, context): checked, masks moved to the context."""
    if not layer.trainable:
        params = lax.stop_gradient(params)
        ctx = ctx.replace(frozen=True)
    elif layer.fixed_weights:
        params = without_gradients(params, layer.fixed_weights)
    if layer.masking != "inside":
        x, mask = split_mask(x)
        if mask is None:
            mask = ctx.mask
        refuse_mask(layer, mask)
        params, x, mask = prepared(layer, params, x, mask)
        ctx = ctx.replace(mask=mask)
    check_apply(layer, params, state, x, ctx, fresh)
    apply = inner_apply(layer)
    if layer.dtype is not None:
        apply = functools.partial(run_apply, apply)
    if layer.automatic_axes:
        apply = functools.partial(_on_automatic_axes, apply)
    if ctx.record:
        apply = functools.partial(recording, strip_masks, is_masked, apply)
    run = functools.partial(apply, layer)
    if ctx.remat and _is_recomputed(layer, ctx):
        # Once, not once more for each layer inside.
        return jax.checkpoint(run), params, x, ctx.replace(remat=())
    return run, params, x, ctx


def _is_recomputed(layer: Layer, ctx: Context) -> bool:
    """Whether the patterns of a context mean this layer: of a wrapper, the one inside."""
    is_around = any(name is None for name, _ in layer.children())
    return not is_around and matches_any(ctx.remat, "/".join(ctx.path))


def _on_automatic_axes(
    apply: Method,
    layer: Layer,
    params: Params,
    state: State,
    x: Tree,
    ctx: Context,
) -> tuple[Tree, State]:
    run = functools.partial(apply, layer)
    given = (params, state, x, ctx)
    result: tuple[Tree, State] = on_automatic_axes(run, given, x)
    return result


def after_call(
    layer: Layer,
    state: State,
    new_state: State,
    y: Tree,
    ctx: Context,
) -> tuple[Tree, State]:
    """(outputs with their layout and mask, the state with the penalty of the regularizer)."""
    mask = ctx.mask
    outputs = outputs_of_layers.value
    if outputs is not None:
        y = outputs.lay_out("/".join(ctx.path), y)
    passes = layer.masking == "pass" and mask is not None
    if passes and not isinstance(y, Masked):
        if isinstance(mask, tuple):
            mask = combine_masks(mask)
        y = Masked(y, mask)
    regularizer = getattr(layer, "activity_regularizer", None)
    if regularizer is not None:
        penalty = activity_penalty(resolve("regularizer", regularizer), y, ctx)
        dtype = state["aux_loss"].dtype
        new_state = {**new_state, "aux_loss": penalty.astype(dtype)}
    return y, new_state


def init_child(
    name: str,
    layer: Layer,
    key: Array,
    x: Tree,
) -> tuple[Params, State]:
    """Fresh weights of the child called `name`; its key depends only on `key` and the name."""
    own_key = random.fold_in(key, salt(name))
    return initialize(layer, own_key, x, name)


def apply_child(
    name: str,
    layer: Layer,
    params: Params,
    state: State,
    x: Tree,
    ctx: Context,
) -> tuple[Tree, State]:
    """The child called `name` applied to `x`, with its branches of params and state.

    A child without weights or state needs no entry there.
    """
    own_params = params.get(name, {})
    own_state = state.get(name, {})
    with jax.named_scope(name):
        return call(layer, own_params, own_state, x, ctx.child(name), name)


def output_spec(layer: Layer, x: SpecTree) -> SpecTree:
    """Shapes and dtypes that `layer` returns for inputs like `x`; nothing is computed.

    >>> from fnn.layers import Dense
    >>> output_spec(Dense(3), jax.ShapeDtypeStruct((2, 5), jnp.float32)).shape
    (2, 3)
    """
    leaves, treedef = jax.tree.flatten(tree.spec(x))
    nameless = _nameless(layer)
    if nameless is not layer:
        # The error for inputs that do not fit shows the layer with its name, below.
        with contextlib.suppress(Exception):
            return _output_spec(nameless, treedef, tuple(leaves))
    return _output_spec(layer, treedef, tuple(leaves))


def _nameless(layer: Layer) -> Layer:
    """The layer without its name, so that those of equal blocks are traced once.

    Not for a class with its own `__init__` or layers inside, which may use it.
    """
    if layer.own_name is None or layer._open or layer.children():
        return layer
    return layer.replace(name=None)


@small_cache(4096)  # equal layers on equal shapes are traced once
def _output_spec(
    layer: Layer,
    treedef: PyTreeDef,
    leaves: tuple[SpecTree, ...],
) -> SpecTree:
    x = treedef.unflatten(leaves)
    if layer.runs_on_host(x):
        if layer.with_strings == "refuse":
            return layer.host_spec(x)  # type: ignore[attr-defined]
        return tree.spec_of_strings(layer, x)
    if layer.only_wires:
        check_inputs(layer, split_mask(x)[0])
        # No trace of its own: those of its children are cached, from when they were initialized.
        return layer.flow(x, output_spec_of_child)  # type: ignore[attr-defined]
    if tree.has_strings(leaves):
        return output_spec(_around_strings(layer), x)

    def run(x: Tree) -> Tree:
        key = random.key(0)
        params, state = initialize(layer, key, x)
        ctx = Context(key=key)
        y, _ = call(layer, params, state, x, ctx, fresh=True)
        return y

    return jax.eval_shape(run, x)


def _around_strings(layer: Layer) -> Layer:
    """The layer inside a wrapper that takes strings. Raises TypeError for other layers."""
    children = layer.children()
    if len(children) == 1 and children[0][0] is None:
        return children[0][1]
    raise tree.refuse_strings(layer)


def output_spec_of_child(
    name: str,
    layer: Layer,
    x: SpecTree,
) -> SpecTree:
    """`output_spec` of the child called `name`; errors say which child it was."""
    with located(name, layer, x):
        return output_spec(layer, x)


def applied_spec(
    layer: Layer,
    params: Params,
    state: State,
    x: SpecTree,
) -> SpecTree:
    """Shapes and dtypes that `layer` returns with these weights; raises if `x` does not fit."""
    given = tree.spec((params, state, x))
    leaves, treedef = jax.tree.flatten(given)
    return _applied_spec(layer, treedef, tuple(leaves))


@small_cache(256)
def _applied_spec(
    layer: Layer,
    treedef: PyTreeDef,
    leaves: tuple[SpecTree, ...],
) -> SpecTree:
    def run(
        params: Params,
        state: State,
        x: Tree,
    ) -> Tree:
        ctx = Context(key=random.key(0))
        y, _ = call(layer, params, state, x, ctx)
        return y

    return jax.eval_shape(run, *treedef.unflatten(leaves))


def weight_spec(layer: Layer, x: SpecTree) -> tuple[Params, State]:
    """Shapes and dtypes of (params, state), in the order in which the layers create them."""
    leaves, treedef = jax.tree.flatten(tree.spec(x))
    return _weight_spec(layer, treedef, tuple(leaves))


@small_cache(4096)
def _weight_spec(
    layer: Layer,
    treedef: PyTreeDef,
    leaves: tuple[SpecTree, ...],
) -> tuple[Params, State]:
    written = []

    def run(key: Array, x: Tree) -> tuple[Params, State]:
        pair = initialize(layer, key, x)
        written.append(tree.names(pair))  # in the order written: JAX sorts dicts
        return pair

    x = treedef.unflatten(leaves)
    spec = tree.shapes_of(run, random.key(0), x)
    params, state = map(tree.same_order, spec, written[-1])
    return params, state


def init_copies(
    layer: Layer,
    key: Array,
    number: int,
    x: Tree,
) -> tuple[Params, State]:
    """Fresh weights of `number` copies of `layer`, stacked, each from its own key."""
    keys = random.split(key, number)
    stacked = jax.vmap(lambda key: initialize(layer, key, x))(keys)
    params, state = map(tree.same_order, stacked, weight_spec(layer, x))
    return params, state


def unique_names(layers: Iterable[Layer]) -> list[str]:
    """The names of sibling layers: their own, or `dense`, `dense_1`, ... by class.

    Raises ValueError if two siblings have the same name of their own.
    """
    layers = list(layers)
    own = [layer.own_name for layer in layers if layer.own_name]
    twice = {name for name in own if own.count(name) > 1}
    if twice:
        raise ValueError(
            f"expected sibling layers of different names, received {sorted(twice)} more than once; "
            "rename one (the same layer object twice in a graph shares its weights)"
        )
    taken = set(own)
    counts: dict[str, int] = {}
    names = []
    for layer in layers:
        name = layer.own_name or _free_name(layer, taken, counts)
        taken.add(name)
        names.append(name)
    return names


def _free_name(
    layer: Layer,
    taken: set[str],
    counts: dict[str, int],
) -> str:
    """The next name like that of the layer's class that is not taken."""
    base = snake_case(layer.named_after)
    while True:
        number = counts.get(base, 0)
        counts[base] = number + 1
        name = base
        if number:
            name = f"{base}_{number}"
        if name not in taken:
            return name


def walk(
    layer: Layer,
    path: Path = (),
    copies: int = 0,
) -> Iterator[tuple[Path, Layer, int]]:
    """Every layer inside, outermost first: (path of its weights, the layer, stacked axes)."""
    yield path, layer, copies
    for name, child in layer.children():
        inner = path
        if name is not None:
            inner = (*path, name)
        yield from walk(child, inner, copies + layer.stacked)


def unzip(pairs: dict[str, tuple[Params, State]]) -> tuple[Params, State]:
    """`{name: (params, state)}` -> `{name: params}, {name: state}`."""
    params = {name: own for name, (own, _) in pairs.items()}
    state = {name: own for name, (_, own) in pairs.items()}
    return params, state
