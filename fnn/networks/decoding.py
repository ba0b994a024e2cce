"""Decoding: a causal network run a few steps at a time, its caches explicit state."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax, random

from fnn.core.calling import call
from fnn.core.context import INFERENCE
from fnn.core.layer import Layer, Params, State
from fnn.core.logits import is_activated, strip_logits


def start_decoding(layer: Layer, params: Params, state: State, batch: int, length: int) -> State:
    """`state` with empty caches of `length` steps in every layer that looks back.

    From then on `layer.apply(params, state, x)` takes the next steps alone, and returns the state
    with which to go on: keys and values of attention, and the place of the next position. It is
    an ordinary pytree of fixed shapes, so one compiled function does all steps. More than `length`
    steps are not noticed: the last place is written over.
    Raises ValueError for attention that is not causal.

    >>> from fnn.layers import MultiHeadAttention
    >>> layer, x = MultiHeadAttention(2, 4, use_causal_mask=True), jnp.ones((1, 5, 8))
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> state = start_decoding(layer, params, state, batch=1, length=5)
    >>> y, state = layer.apply(params, state, x[:, :1])
    >>> y.shape, int(state["index"])
    ((1, 1, 8), 1)
    """
    if hasattr(layer, "cache"):
        return {**state, **layer.cache(params, batch, length)}
    for name, child in layer.children():
        start: Any = functools.partial(start_decoding, child, batch=batch, length=length)
        if layer.stacked:  # Repeat: a cache for each copy
            start = jax.vmap(start)
        if name is None:
            state = start(params, state)
        else:
            state = {**state, name: start(params[name], state[name])}
    return state


def generate(
    layer: Layer,
    params: Params,
    state: State,
    prompt: Any,
    steps: int,
    temperature: float = 1.0,
    key: Array | None = None,
) -> Array:
    """`prompt` and `steps` tokens more.   (batch, time) ids -> (batch, time + steps)

    Without a key each token is the most probable one; with a key it is drawn, from probabilities
    whose logarithms are divided by `temperature` (below 1 bolder choices, above 1 freer ones).
    `layer` is a network like `gpt`. One compilation for a shape of prompts and a number of steps.
    Raises ValueError for a prompt that is not (batch, time), and for less than one step.

    >>> from fnn.networks import gpt
    >>> network, prompt = gpt(9, 8, 1, 2, context=6), jnp.array([[1, 2, 3]])
    >>> generate(network, *network.init(jax.random.key(0), prompt), prompt, steps=3).shape
    (1, 6)
    """
    prompt = jnp.asarray(prompt)
    if prompt.ndim != 2 or not prompt.shape[1]:
        raise ValueError(
            "generate: expected a prompt of shape (batch, time) with at least one step, received "
            f"shape {prompt.shape}; do e.g. prompt[None] for a single text"
        )
    if steps < 1:
        raise ValueError(
            f"generate: expected at least one step, received steps={steps}; do steps=100"
        )
    return _generate(layer, steps, params, state, prompt, jnp.float32(temperature), key)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _generate(
    layer: Layer,
    steps: int,
    params: Params,
    state: State,
    prompt: Array,
    temperature: Array,
    key: Array | None,
) -> Array:
    batch, time = prompt.shape
    state = start_decoding(layer, params, state, batch, time + steps - 1)

    def advance(state: State, tokens: Array, step: Any) -> tuple[Array, State]:
        y, state = call(layer, params, state, tokens, INFERENCE.replace(logits=True))
        soft = is_activated(y) and y.activation == "softmax"
        last = (y.logits if soft else strip_logits(y))[:, -1]
        if key is None:
            return jnp.argmax(last, -1).astype(prompt.dtype), state
        drawn = random.categorical(random.fold_in(key, step), last / temperature)
        return drawn.astype(prompt.dtype), state

    def again(carry: tuple[Array, State], step: Array) -> tuple[Any, Array]:
        token, state = advance(carry[1], carry[0][:, None], step)
        return (token, state), token

    first = advance(state, prompt, 0)
    _, rest = lax.scan(again, first, jnp.arange(1, steps))
    return jnp.concatenate([prompt, first[0][:, None], rest.T], 1)
