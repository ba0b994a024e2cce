"""Stacking: equal blocks in a row <-> one Repeat, and their weights with them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fnn.core import tree
from fnn.core.calling import unique_names
from fnn.core.layer import Layer, Params, State
from fnn.layers.repeat import Repeat
from fnn.layers.sequential import Sequential

Weights = tuple[Params, State]


def stack(layer: Layer, params: Params, state: State) -> tuple[Layer, Params, State]:
    """(layer, params, state) with each run of equal blocks as one `Repeat`, weights stacked.

    For a network whose blocks were written, or saved, one by one: it compiles as fast as one block
    and computes the same. Blocks are layers in a row in the `Sequential`, equal but for their
    names, with weights of equal shapes; they must keep the shape of their inputs, as in any
    `Repeat`. Their names are lost, and dropout draws other numbers. `unstack` goes back.
    Raises TypeError if `layer` is no Sequential.

    >>> from fnn.layers import Dense, Sequential
    >>> deep = Sequential([Dense(4, "tanh") for _ in range(48)])
    >>> layer, params, state = stack(deep, *deep.init(jax.random.key(0), jnp.ones((1, 4))))
    >>> layer, params["repeat"]["kernel"].shape
    (Sequential(layers=(Repeat(inner=Dense(units=4, activation='tanh'), times=48),)), (48, 4, 4))
    """
    runs: list[list[tuple[Layer, Weights]]] = []
    for name, child in _children(layer, "stack"):
        item = child, (params[name], state[name])
        if runs and _fits(runs[-1][-1], item):
            runs[-1].append(item)
        else:
            runs.append([item])
    items = [_stacked(run) if len(run) > 1 else run[0] for run in runs]
    return _joined(layer, items)


def unstack(layer: Layer, params: Params, state: State) -> tuple[Layer, Params, State]:
    """(layer, params, state) with each `Repeat` in the `Sequential` as single blocks.

    So that a layer in the middle can be looked at, changed or left out, and for files that hold
    every block by itself. It computes the same; dropout draws other numbers.
    Raises TypeError if `layer` is no Sequential.

    >>> from fnn.layers import Dense, Repeat, Sequential
    >>> deep = Sequential([Repeat(Dense(4), 3)])
    >>> layer, params, _ = unstack(deep, *deep.init(jax.random.key(0), jnp.ones((1, 4))))
    >>> list(params), params["dense_2"]["kernel"].shape
    (['dense', 'dense_1', 'dense_2'], (4, 4))
    """
    items: list[tuple[Layer, Weights]] = []
    for name, child in _children(layer, "unstack"):
        weights = params[name], state[name]
        items += (
            _single(child, weights) if isinstance(child, Repeat) else [(child, weights)]
        )
    return _joined(layer, items)


def _children(layer: Layer, function: str) -> tuple[tuple[Any, Layer], ...]:
    if not isinstance(layer, Sequential):
        raise TypeError(
            f"{function}: expected a Sequential, received {layer!r}; give model.layer of a "
            "model, or the part of a network that is one, with its own params and state"
        )
    return layer.children()


def _nameless(layer: Layer) -> Layer:
    return layer if layer.name is None else layer.replace(name=None)


def _fits(one: tuple[Layer, Weights], other: tuple[Layer, Weights]) -> bool:
    """Whether two layers are equal blocks; without weights there is nothing to stack."""
    (a, before), (b, after) = one, other
    equal = _nameless(a) == _nameless(b) and tree.spec(before) == tree.spec(after)
    return equal and bool(jax.tree.leaves(before))


def _stacked(run: list[tuple[Layer, Weights]]) -> tuple[Layer, Weights]:
    (block, first), weights = run[0], [weights for _, weights in run]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *weights)
    params, state = map(tree.same_order, stacked, first)
    return Repeat(_nameless(block), len(run)), (params, state)


def _single(repeat: Repeat, weights: Weights) -> list[tuple[Layer, Weights]]:
    inner = repeat.inner.replace(
        name=None,
        trainable=repeat.trainable and repeat.inner.trainable,
        dtype=repeat.inner.dtype or repeat.dtype,
    )
    copies = (jax.tree.map(lambda a, i=i: a[i], weights) for i in range(repeat.times))
    return [(inner, tuple(map(tree.same_order, copy, weights))) for copy in copies]


def _joined(
    layer: Layer, items: list[tuple[Layer, Weights]]
) -> tuple[Layer, Params, State]:
    """The Sequential of these layers, and their weights by the names that they get there."""
    layers = [child for child, _ in items]
    names = unique_names(layers)
    params = {name: weights[0] for name, (_, weights) in zip(names, items, strict=True)}
    state = {name: weights[1] for name, (_, weights) in zip(names, items, strict=True)}
    return layer.replace(layers=tuple(layers)), params, state
