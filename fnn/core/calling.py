"""Calling layers: names, keys, masks, shapes by abstract evaluation, and errors that say where."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax, random

from fnn.core import tree
from fnn.core.context import Context, salt
from fnn.core.door import check_apply, inner_apply, located, run_apply
from fnn.core.layer import Layer, Params, State
from fnn.core.masking import Masked, combine_masks, is_masked, leading, split_mask
from fnn.core.value import resolve
from fnn.runtime.placement import prepared
from fnn.runtime.program_cache import small_cache


def initialize(
    layer: Layer, key: Array, x: Any, name: str | None = None
) -> tuple[Params, State]:
    """`layer.init`, with masks taken off the inputs of leaf layers and errors located."""
    with located(name, layer, x):
        values = x if layer.masking == "inside" else split_mask(x)[0]
        params, state = layer.init(key, values)
    if getattr(layer, "activity_regularizer", None) is not None:
        state = {**state, "aux_loss": jnp.zeros(())}
    return params, state


def call(
    layer: Layer,
    params: Params,
    state: State,
    x: Any,
    ctx: Context,
    name: str | None = None,
) -> tuple[Any, State]:
    """`layer.apply`, with what holds for every layer: masks, freezing, penalty."""
    with located(name, layer, x):
        apply, params, x, ctx = before_call(layer, params, state, x, ctx)
        y, new_state = apply(params, state, x, ctx)
        return after_call(layer, state, new_state, y, ctx)


def before_call(
    layer: Layer, params: Params, state: State, x: Any, ctx: Context
) -> tuple[Callable[..., Any], Params, Any, Context]:
    """(what to call, its weights, its inputs, its context): checked, masks taken off the inputs."""
    if not layer.trainable:
        params, ctx = lax.stop_gradient(params), ctx.replace(frozen=True)
    if layer.masking != "inside":
        x, mask = split_mask(x)
        mask = ctx.mask if mask is None else mask
        refuse_mask(layer, mask)
        params, x, mask = prepared(layer, params, x, mask)
        ctx = ctx.replace(mask=mask)
    check_apply(layer, params, state, x, ctx)
    apply = inner_apply(layer)
    run = functools.partial(
        apply if layer.dtype is None else functools.partial(run_apply, apply), layer
    )
    return run, params, x, ctx


def after_call(
    layer: Layer, state: State, new_state: State, y: Any, ctx: Context
) -> tuple[Any, State]:
    """(outputs with their mask, the state with the penalty of the outputs)."""
    if layer.masking == "pass" and ctx.mask is not None and not isinstance(y, Masked):
        y = Masked(
            y, combine_masks(ctx.mask) if isinstance(ctx.mask, tuple) else ctx.mask
        )
    regularizer = getattr(layer, "activity_regularizer", None)
    if regularizer is not None:
        penalty = activity_penalty(regularizer, y, ctx)
        new_state = {**new_state, "aux_loss": penalty.astype(state["aux_loss"].dtype)}
    return y, new_state


def refuse_mask(layer: Layer, mask: Any) -> None:
    """Raises ValueError if there is a mask and the layer cannot carry it."""
    if layer.masking == "refuse" and any(m is not None for m in jax.tree.leaves(mask)):
        raise ValueError(
            f"expected inputs without a mask, since {type(layer).__name__} mixes or drops time "
            "steps, received a mask (from Embedding(mask_zero=True) or Masking); use a layer "
            "that reads the mask first (LSTM, GlobalAveragePooling1D), or Unmask() to drop it"
        )


def activity_penalty(activity_regularizer: Any, y: Any, ctx: Context) -> Array:
    """The regularizer of the unmasked steps of `y`, a mean over the valid examples of the batch.

    An example counts once, however many of its steps are unmasked: as in Keras, where none is
    masked.
    """
    regularizer = resolve("regularizer", activity_regularizer)
    total = jnp.zeros(())
    for part in jax.tree.leaves(y, is_leaf=is_masked):
        output, mask = split_mask(part)
        for real in (ctx.rows, mask):
            if real is not None:
                output = jnp.where(leading(real.astype(bool), output.ndim), output, 0)
        rows = output.shape[0] if ctx.rows is None else jnp.maximum(ctx.rows.sum(), 1)
        total += regularizer(output) / rows
    return total


def init_child(name: str, layer: Layer, key: Array, x: Any) -> tuple[Params, State]:
    """Fresh weights of the child called `name`; its key depends on the name alone."""
    return initialize(layer, random.fold_in(key, salt(name)), x, name)


def apply_child(
    name: str, layer: Layer, params: Params, state: State, x: Any, ctx: Context
) -> tuple[Any, State]:
    """The child called `name` applied to `x`, with its part of params and state.

    A child without weights or state needs no entry: where nothing moves, `{}` is a whole state.
    """
    part, now = params.get(name, {}), state.get(name, {})
    with jax.named_scope(name):
        return call(layer, part, now, x, ctx.child(name), name)


def output_spec(layer: Layer, x: Any) -> Any:
    """Shapes and dtypes that `layer` returns for inputs like `x`; nothing is computed.

    >>> from fnn.layers import Dense
    >>> output_spec(Dense(3), jax.ShapeDtypeStruct((2, 5), jnp.float32)).shape
    (2, 3)
    """
    leaves, treedef = jax.tree.flatten(tree.spec(x))
    return _output_spec(layer, treedef, tuple(leaves))


@small_cache(4096)  # equal layers on equal shapes are traced once
def _output_spec(layer: Layer, treedef: Any, leaves: tuple[Any, ...]) -> Any:
    x = treedef.unflatten(leaves)
    if (
        layer.only_wires
    ):  # then its children were traced, each by itself, when it was initialized
        return layer.flow(x, output_spec_of_child)  # type: ignore[attr-defined]

    def run(x: Any) -> Any:
        params, state = initialize(layer, random.key(0), x)
        return call(layer, params, state, x, Context())[0]

    return jax.eval_shape(run, x)


def output_spec_of_child(name: str, layer: Layer, x: Any) -> Any:
    """`output_spec`; an error says which child it was."""
    with located(name, layer, x):
        return output_spec(layer, x)


def applied_spec(layer: Layer, params: Params, state: State, x: Any) -> Any:
    """Shapes and dtypes that `layer` returns with these weights; raises if `x` does not fit."""
    leaves, treedef = jax.tree.flatten(tree.spec((params, state, x)))
    return _applied_spec(layer, treedef, tuple(leaves))


@small_cache(256)
def _applied_spec(layer: Layer, treedef: Any, leaves: tuple[Any, ...]) -> Any:
    run = lambda params, state, x: call(layer, params, state, x, Context())[0]
    return jax.eval_shape(run, *treedef.unflatten(leaves))


def weight_spec(layer: Layer, x: Any) -> tuple[Params, State]:
    """Shapes and dtypes of (params, state), in the order in which the layers create them."""
    leaves, treedef = jax.tree.flatten(tree.spec(x))
    return _weight_spec(layer, treedef, tuple(leaves))


@small_cache(4096)
def _weight_spec(
    layer: Layer, treedef: Any, leaves: tuple[Any, ...]
) -> tuple[Params, State]:
    written = []

    def run(key: Array, x: Any) -> Any:
        pair = initialize(layer, key, x)
        written.append(tree.names(pair))  # as written: JAX returns dicts sorted
        return pair

    spec = jax.eval_shape(run, random.key(0), treedef.unflatten(leaves))
    params, state = map(tree.same_order, spec, written[-1])
    return params, state


def init_copies(layer: Layer, key: Array, number: int, x: Any) -> tuple[Params, State]:
    """Fresh weights of `number` copies of `layer`, each from a key of its own."""
    keys = random.split(key, number)
    stacked = jax.vmap(lambda key: initialize(layer, key, x))(keys)
    return tuple(map(tree.same_order, stacked, weight_spec(layer, x)))


def snake_case(name: str) -> str:
    """Keras's default name for a class: `MaxPooling2D` -> `max_pooling2d`."""
    return re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", name).lower()


def unique_names(layers: Iterable[Layer]) -> list[str]:
    """The names of sibling layers: the given one, or `dense`, `dense_1`, ... by class.

    Raises ValueError if two siblings were given the same name.
    """
    layers = list(layers)
    given = [layer.name for layer in layers if layer.name]
    twice = {name for name in given if given.count(name) > 1}
    if twice:
        raise ValueError(
            f"expected sibling layers of different names, received {sorted(twice)} more than once; "
            "rename one (the same layer object twice in a graph shares its weights)"
        )
    taken, counts, names = set(given), dict[str, int](), list[str]()
    for layer in layers:
        name = layer.name
        while name is None or (not layer.name and name in taken):
            base = snake_case(layer.named_after)
            number = counts[base] = counts.get(base, -1) + 1
            name = f"{base}_{number}" if number else base
        taken.add(name)
        names.append(name)
    return names


def walk(
    layer: Layer, path: tuple[str, ...] = (), copies: int = 0
) -> Iterator[tuple[tuple[str, ...], Layer, int]]:
    """Every layer inside, outermost first: (path of its weights, the layer, stacked axes)."""
    yield path, layer, copies
    for name, child in layer.children():
        inner = path if name is None else (*path, name)
        yield from walk(child, inner, copies + layer.stacked)


def unzip(pairs: dict[str, tuple[Any, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`{name: (a, b)}` -> `{name: a}, {name: b}`."""
    return {k: a for k, (a, _) in pairs.items()}, {k: b for k, (_, b) in pairs.items()}
