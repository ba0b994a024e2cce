"""Decoding: a causal network run a few steps at a time, its caches explicit state."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax, random

from fnn.core import arguments
from fnn.core.calling import call
from fnn.core.combining import Flow
from fnn.core.context import INFERENCE
from fnn.core.door import located
from fnn.core.layer import Layer, Params, State
from fnn.core.masking import strip_masks
from fnn.last_activation import without_last_activation
from fnn.layers.shared.recurrence import OverTime
from fnn.symbolic.graph import Graph, gather, leaves
from fnn.symbolic.node import Item

# Which inputs come a few steps at a time: True or False for each, in their structure.
Coming = Any


def start_decoding(
    layer: Layer,
    params: Params,
    state: State,
    batch: int,
    length: int,
    coming: Coming = None,
) -> State:
    """`state` with empty caches of `length` steps in every layer that looks back.

    From then on `layer.apply(params, state, x)` takes the next steps alone, and returns the state
    with which to go on: keys and values of attention, states of recurrent layers, the last inputs
    of causal convolutions, and the place of the next position. It is an ordinary pytree of fixed
    shapes, so one compiled function does all steps. More than `length` steps are not noticed: the
    last place is written over.

    Of several inputs some are there as a whole, at every call: `coming` has True for those that
    come step by step, False for the others. Unless told it is the last one of a graph, and all but
    the memory of a `TransformerDecoderBlock`.
    Raises ValueError for a layer that mixes steps and cannot do so with those before alone: it
    says which, and what to use.

    >>> from fnn.layers import MultiHeadAttention
    >>> layer, x = MultiHeadAttention(2, 4, use_causal_mask=True), jnp.ones((1, 5, 8))
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> state = start_decoding(layer, params, state, batch=1, length=5)
    >>> y, state = layer.apply(params, state, x[:, :1])
    >>> y.shape, int(state["index"])
    ((1, 1, 8), 1)
    """
    coming = _by_default(layer) if coming is None else coming
    return _start(layer, params, state, coming, batch, length)[0]


def _by_default(layer: Layer) -> Coming:
    inner = getattr(layer, "inner", None)
    if inner is not None and not layer.input_names:  # a wrapper
        return _by_default(inner)
    if isinstance(layer, Graph):
        places = leaves(layer.inputs)
        return gather(
            layer.inputs, [place == places[-1] for place in range(len(places))]
        )
    names = layer.input_names
    return tuple(name != "memory" for name in names) if "memory" in names else True


def _start(
    layer: Layer, params: Params, state: State, coming: Coming, batch: int, length: int
) -> tuple[State, Coming]:
    """`state` with caches, and which of the outputs come step by step."""
    if not any(jax.tree.leaves(coming)):  # it is all there
        return state, False
    if isinstance(layer, Item):
        part: Any = coming
        return state, part[layer.index] if isinstance(coming, tuple) else coming
    start: Any = functools.partial(_start, coming=coming, batch=batch, length=length)
    own = type(layer).cache is not Layer.cache or layer.by_step is not None
    if layer.masking != "inside" or own:
        return _own_cache(layer, params, state, coming, batch, length)
    if isinstance(layer, Flow):
        return _start_flow(layer, params, state, coming, batch, length)
    after: Coming = coming
    for name, child in layer.children():
        part, now = (params, state) if name is None else (params[name], state[name])

        def one(params: Params, state: State, child: Layer = child) -> State:
            nonlocal after
            state, after = start(child, params, state)
            return state

        new = (jax.vmap(one) if layer.stacked else one)(
            part, now
        )  # a cache for each copy
        state = new if name is None else {**state, name: new}
    return state, after


def _start_flow(
    layer: Flow, params: Params, state: State, coming: Coming, batch: int, length: int
) -> tuple[State, Coming]:
    """The flow of a combinator, led through by what comes step by step."""
    new, uses = dict(state), set[str]()

    def visit(name: str, child: Layer, coming: Coming) -> Coming:
        part, now = params.get(name, {}), state.get(name, {})
        with located(name, child, coming):
            started, after = _start(child, part, now, coming, batch, length)
            cached = len(jax.tree.leaves(started)) > len(jax.tree.leaves(now))
            if cached and name in uses:
                raise ValueError(
                    f"start_decoding: expected layers with a cache to be used once, received "
                    f"{child!r} used twice; give each place a layer of its own"
                )
        uses.add(name)
        if cached:
            new[name] = started
        return after

    after = layer.flow(coming, visit)
    return new, after


def _own_cache(
    layer: Any, params: Params, state: State, coming: Coming, batch: int, length: int
) -> tuple[State, Coming]:
    """A leaf layer with the cache that it has, and which of its outputs come step by step."""
    looks = layer.input_names[:1] == ("query",) and isinstance(coming, (tuple, list))
    if looks and not any(
        coming[1:]
    ):  # at a memory: a query by itself looks at all of it
        for name in ("use_causal_mask", "sliding_window", "position"):
            if getattr(layer, name, None):
                expected = "not to be set where the values are there as a whole"
                raise arguments.wrong(layer, name, expected, getattr(layer, name))
        return state, True
    if looks and not coming[0]:
        raise arguments.no_cache(layer)
    state = {**state, **layer.cache(params, batch, length)}
    if isinstance(layer, OverTime):
        kept = [name for name in state if name.startswith("rnn_state")]
        y: Any = layer.return_sequences
        return state, (y, *(False for _ in kept)) if layer.return_state else y
    return state, True


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
    `layer` is a network like `gpt`. For one like `encoder_decoder` the prompt is a tuple of its
    inputs, the last being what is continued: `(source, prompt)`, or `(memory, prompt)`; what needs
    the source alone is computed once. One compilation for a shape of prompts and a number of steps.
    Raises ValueError for a prompt that is not (batch, time), for less than one step, and as
    `start_decoding`.

    >>> from fnn.networks import gpt
    >>> network, prompt = gpt(9, 8, 1, 2, context=6), jnp.array([[1, 2, 3]])
    >>> generate(network, *network.init(jax.random.key(0), prompt), prompt, steps=3).shape
    (1, 6)
    """
    *given, prompt = prompt if isinstance(prompt, tuple) else (prompt,)
    prompt = jnp.asarray(prompt)
    if prompt.ndim != 2 or not prompt.shape[1]:
        raise ValueError(
            "generate: expected a prompt of shape (batch, time) with at least one step, received "
            f"shape {prompt.shape}; e.g. prompt[None] for a single text"
        )
    if steps < 1:
        raise ValueError(
            f"generate: expected at least one step, received steps={steps}; do steps=100"
        )
    given = jax.tree.map(jnp.asarray, tuple(given))
    return _generate(
        layer, steps, params, state, given, prompt, jnp.float32(temperature), key
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _generate(
    layer: Layer,
    steps: int,
    params: Params,
    state: State,
    given: tuple[Any, ...],
    prompt: Array,
    temperature: Array,
    key: Array | None,
) -> Array:
    before = layer
    if given and isinstance(before, Graph) and isinstance(before.inputs, tuple):
        once, before = before.cut()
        given = (call(once, params, state, given, INFERENCE)[0],)
    batch, time = prompt.shape
    whole = given and not isinstance(before, Graph)
    coming = (*(False for _ in given), True) if whole else None
    state = start_decoding(before, params, state, batch, time + steps - 1, coming)

    def advance(state: State, tokens: Array, step: Any) -> tuple[Array, State]:
        x = (*given, tokens) if given else tokens
        network, ends = without_last_activation(before, x)
        y, state = call(network, params, state, x, INFERENCE)
        end = ends.get(())
        if end is not None and end.name == "sigmoid":
            y = end.of(y)
        last = strip_masks(y)[:, -1]
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
