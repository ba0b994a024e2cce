"""Stacking: turns equal consecutive layers and their weights into one Repeat, and back."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnn.core import tree
from fnn.core.calling import unique_names
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import Tree
from fnn.layers.repeat import Repeat
from fnn.layers.sequential import Sequential


class _Block(NamedTuple):
    """A child of the Sequential, and its weights."""

    layer: Layer
    params: Params
    state: State


def stack(
    layer: Layer,
    params: Params,
    state: State,
) -> tuple[Layer, Params, State]:
    """(layer, params, state) with consecutive equal layers as one `Repeat`, weights stacked.

    For a network whose blocks were written, or saved, one by one: it then compiles as fast as a
    single block and computes the same. Blocks are consecutive layers of the `Sequential` that are
    equal except for their names and have weights of equal shapes. They must keep the shape of their
    inputs, as in any `Repeat`. Their names are lost, and dropout draws different masks. `unstack`
    is the inverse.
    Raises TypeError if `layer` is not a Sequential.

    >>> from fnn.layers import Dense, Sequential
    >>> deep = Sequential([Dense(4, "tanh") for _ in range(48)])
    >>> layer, params, state = stack(deep, *deep.init(jax.random.key(0), jnp.ones((1, 4))))
    >>> layer, params["repeat"]["kernel"].shape
    (Sequential(layers=(Repeat(inner=Dense(units=4, activation='tanh'), times=48),)), (48, 4, 4))
    """
    runs: list[list[_Block]] = []
    for block in _blocks("stack", layer, params, state):
        if runs and _are_equal(runs[-1][-1], block):
            runs[-1].append(block)
        else:
            runs.append([block])
    return _joined(layer, [_stacked(run) for run in runs])


def unstack(
    layer: Layer,
    params: Params,
    state: State,
) -> tuple[Layer, Params, State]:
    """(layer, params, state) with each `Repeat` of the `Sequential` as separate layers.

    Use it to inspect, change or leave out a single copy, and for files with separate blocks. The
    network computes the same; dropout draws different masks.
    Raises TypeError if `layer` is not a Sequential.

    >>> from fnn.layers import Dense, Repeat, Sequential
    >>> deep = Sequential([Repeat(Dense(4), 3)])
    >>> layer, params, _ = unstack(deep, *deep.init(jax.random.key(0), jnp.ones((1, 4))))
    >>> list(params), params["dense_2"]["kernel"].shape
    (['dense', 'dense_1', 'dense_2'], (4, 4))
    """
    blocks: list[_Block] = []
    for block in _blocks("unstack", layer, params, state):
        blocks += _copies(block)
    return _joined(layer, blocks)


def _blocks(
    function: str,
    layer: Layer,
    params: Params,
    state: State,
) -> list[_Block]:
    """The children of a Sequential with their weights; `function` is named in the error."""
    if not isinstance(layer, Sequential):
        raise TypeError(
            f"{function}: expected a Sequential, received {layer!r}; pass model.layer of a "
            "model, or the Sequential inside a network, with its own params and state"
        )
    if layer.order is not None:
        raise ValueError(
            f"{function}: expected layers with weights of their own, received a Sequential in "
            "which some run several times; make an equal layer for each place"
        )
    blocks = []
    for name, child in layer.children():
        assert name is not None  # a Sequential names all its children
        blocks.append(_Block(child, params[name], state[name]))
    return blocks


def _nameless(layer: Layer) -> Layer:
    if layer.own_name is None:
        return layer
    return layer.replace(name=None)


def _are_equal(one: _Block, other: _Block) -> bool:
    """Whether two blocks can be stacked; without weights there is nothing to stack."""
    if _nameless(one.layer) != _nameless(other.layer):
        return False
    weights = one.params, one.state
    others = other.params, other.state
    if tree.spec(weights) != tree.spec(others):
        return False
    return bool(jax.tree.leaves(weights))


def _stacked(run: list[_Block]) -> _Block:
    """Equal blocks as one `Repeat`; a single block as it is."""
    first = run[0]
    if len(run) == 1:
        return first
    weights = [(block.params, block.state) for block in run]
    # Each leaf becomes (copies, ...).
    params, state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *weights)
    return _Block(
        Repeat(_nameless(first.layer), len(run)),
        tree.same_order(params, first.params),
        tree.same_order(state, first.state),
    )


def _copies(block: _Block) -> list[_Block]:
    """The copies of a `Repeat` as separate blocks; any other block as it is."""
    repeat, params, state = block
    if not isinstance(repeat, Repeat):
        return [block]
    inner = repeat.inner
    inner = inner.replace(
        name=None,
        trainable=repeat.trainable and inner.trainable,
        dtype=inner.dtype or repeat.dtype,
    )
    blocks = []
    for i in range(repeat.times):
        own_params = tree.same_order(_copy(params, i), params)
        own_state = tree.same_order(_copy(state, i), state)
        blocks.append(_Block(inner, own_params, own_state))
    return blocks


def _copy(weights: Tree, i: int) -> Tree:
    """The weights of a single copy."""
    return jax.tree.map(lambda a: a[i], weights)


def _joined(layer: Layer, blocks: list[_Block]) -> tuple[Layer, Params, State]:
    """The Sequential of these blocks, and their weights by their new names."""
    layers = tuple(block.layer for block in blocks)
    names = unique_names(layers)
    params: Params = {}
    state: State = {}
    for name, block in zip(names, blocks, strict=True):
        params[name] = block.params
        state[name] = block.state
    return layer.replace(layers=layers), params, state
