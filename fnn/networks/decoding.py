"""Decoding: runs a causal network a few steps at a time, with caches in its state."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias, overload

import jax
import jax.numpy as jnp
from jax import Array, lax, random

from fnn.core import arguments
from fnn.core.calling import call
from fnn.core.checks import located
from fnn.core.combining import Flow
from fnn.core.context import INFERENCE, strip_masks
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import Tree
from fnn.last_activation import without_last_activation
from fnn.layers.shared.recurrence import OverTime
from fnn.models import Model
from fnn.symbolic.graph import Graph, gather, leaves
from fnn.symbolic.parts import Item

# Nested like the inputs or outputs of a layer: True for those that come a few steps at a time,
# False for those that are passed as a whole.
Coming: TypeAlias = Tree


def start_decoding(
    layer: Layer,
    params: Params,
    state: State,
    batch: int,
    length: int,
    coming: Coming = None,
) -> State:
    """`state` with empty caches of `length` steps in every layer that uses earlier steps.

    With this state, `layer.apply(params, state, x)` takes only the next steps and returns the state
    for the following call: keys and values of attention, states of recurrent layers, the last
    inputs of causal convolutions, and the next position. The state is an ordinary pytree of fixed
    shapes, so one compiled function runs all steps. More than `length` steps raise no error: they
    overwrite the end of the cache.

    With several inputs, some may be passed as a whole in every call: `coming` is True for inputs
    that come a few steps at a time and False for the others. By default these are the last input of
    a graph, and all inputs of a `TransformerDecoderBlock` except the memory.
    Raises ValueError for a layer that mixes steps and needs more than the earlier ones; the message
    names the layer and an alternative.

    >>> from fnn.layers import MultiHeadAttention
    >>> layer, x = MultiHeadAttention(2, 4, use_causal_mask=True), jnp.ones((1, 5, 8))
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> state = start_decoding(layer, params, state, batch=1, length=5)
    >>> y, state = jax.jit(layer.apply)(params, state, x[:, :1])
    >>> y.shape, int(state["index"])
    ((1, 1, 8), 1)
    """
    if coming is None:
        coming = _default_coming(layer)
    state, _ = _start(layer, params, state, coming, batch, length)
    return state


def _default_coming(layer: Layer) -> Coming:
    """The last input of a graph, all but a memory of other layers."""
    inner = getattr(layer, "inner", None)
    if inner is not None and not layer.input_names:  # a wrapper
        return _default_coming(inner)
    if isinstance(layer, Graph):
        places = leaves(layer.inputs)
        is_last = [place == places[-1] for place in range(len(places))]
        return gather(layer.inputs, is_last)
    names = layer.input_names
    if "memory" in names:
        return tuple(name != "memory" for name in names)
    return True


def _start(
    layer: Layer,
    params: Params,
    state: State,
    coming: Coming,
    batch: int,
    length: int,
) -> tuple[State, Coming]:
    """`state` with caches, and which of the outputs come a few steps at a time."""
    if not any(jax.tree.leaves(coming)):  # all inputs are passed as a whole
        return state, False
    if isinstance(layer, Item):
        several = isinstance(coming, tuple)
        if several:
            coming = coming[layer.index]
        return state, coming
    has_own_cache = type(layer).cache is not Layer.cache or layer.by_step is not None
    if layer.masking != "inside" or has_own_cache:
        return _start_leaf(layer, params, state, coming, batch, length)
    if isinstance(layer, Flow):
        return _start_flow(layer, params, state, coming, batch, length)
    outputs: Coming = coming
    for name, child in layer.children():

        def start_child(
            params: Params,
            state: State,
            child: Layer = child,
        ) -> State:
            nonlocal outputs
            state, outputs = _start(child, params, state, coming, batch, length)
            return state

        start: Callable[[Params, State], State] = start_child
        if layer.stacked:  # a cache for each copy
            start = jax.vmap(start_child)
        if name is None:
            state = start(params, state)
        else:
            state = {**state, name: start(params[name], state[name])}
    return state, outputs


def _start_flow(
    layer: Flow,
    params: Params,
    state: State,
    coming: Coming,
    batch: int,
    length: int,
) -> tuple[State, Coming]:
    """Starts the children in the order in which they run."""
    new = dict(state)
    visited: set[str] = set()

    def visit(
        name: str,
        child: Layer,
        coming: Coming,
    ) -> Coming:
        child_params = params.get(name, {})
        child_state = state.get(name, {})
        with located(name, child, coming):
            started, outputs = _start(
                child, child_params, child_state, coming, batch, length
            )
            has_cache = len(jax.tree.leaves(started)) > len(
                jax.tree.leaves(child_state)
            )
            if has_cache and name in visited:
                raise ValueError(
                    f"start_decoding: expected layers with a cache to be used once, received "
                    f"{child!r} used twice; use a separate layer in each place"
                )
        visited.add(name)
        if has_cache:
            new[name] = started
        return outputs

    return new, layer.flow(coming, visit)


def _start_leaf(
    layer: Layer,
    params: Params,
    state: State,
    coming: Coming,
    batch: int,
    length: int,
) -> tuple[State, Coming]:
    """A layer with its own cache, and which of its outputs come a few steps at a time."""
    is_attention = layer.input_names[:1] == ("query",)
    if is_attention and isinstance(coming, (tuple, list)):
        query, *others = coming
        if not any(others):
            # Attention to a memory: each query attends to all of it, so no cache is needed.
            _require_independent_queries(layer)
            return state, True
        if not query:
            raise arguments.no_cache(layer)
    for rule in layer.cache_rules:
        rule(layer)
    state = {**state, **layer.cache(params, batch, length)}
    if not isinstance(layer, OverTime):
        return state, True
    outputs: Coming = layer.return_sequences
    if layer.return_state:
        states = [name for name in state if name.startswith("rnn_state")]
        outputs = (outputs, *(False for _ in states))
    return state, outputs


def _require_independent_queries(layer: Layer) -> None:
    """Raises ValueError for attention in which the position of a query matters."""
    for name in ("use_causal_mask", "sliding_window", "position"):
        value = getattr(layer, name, None)
        if value:
            expected = "not to be set if the values are passed as a whole"
            raise arguments.wrong(layer, name, expected, value)


@overload
def generate(
    network: Model,
    prompt: Tree,
    steps: int,
    temperature: float = 1.0,
    key: Array | None = None,
) -> Array: ...
@overload
def generate(
    network: Layer,
    params: Params,
    state: State,
    prompt: Tree,
    steps: int,
    temperature: float = 1.0,
    key: Array | None = None,
) -> Array: ...
def generate(
    network: Model | Layer,
    *arguments: Any,
    **named: Any,
) -> Array:
    """`prompt` followed by `steps` generated tokens.   (batch, time) ids -> (batch, time + steps)

    Takes a built model, `generate(model, prompt, steps)`, or a layer and its weights, `generate(
    layer, params, state, prompt, steps)`; then `temperature` and `key`. Without a key, each token
    is the most probable one. With a key it is sampled, with logits divided by `temperature`: below
    1 prefers probable tokens, above 1 makes the choice more random.
    The network is one like `gpt`. For a network like `encoder_decoder`, the prompt is a tuple of
    its inputs, and the last of them is continued: `(source, prompt)` or `(memory, prompt)`; the
    part that depends only on the source is computed once. It compiles once for each shape of the
    prompt and number of steps.
    Raises ValueError for a prompt that is not (batch, time), for less than one step, for a
    temperature that is not positive, and the errors of `start_decoding`.

    >>> from fnn.networks import gpt
    >>> network, prompt = gpt(9, 8, 1, 2, context=6), jnp.array([[1, 2, 3]])
    >>> generate(network, *network.init(jax.random.key(0), prompt), prompt, steps=3).shape
    (1, 6)
    """
    if isinstance(network, Model):
        arguments = (network.params, network.state, *arguments)
        network = network.layer
    return _continue(network, *arguments, **named)


def _continue(
    layer: Layer,
    params: Params,
    state: State,
    prompt: Tree,
    steps: int,
    temperature: float = 1.0,
    key: Array | None = None,
) -> Array:
    """The prompt, checked, and what follows it."""
    given: tuple[Tree, ...] = ()
    if isinstance(prompt, tuple):
        *first, prompt = prompt
        given = jax.tree.map(jnp.asarray, tuple(first))
    prompt = jnp.asarray(prompt)
    if prompt.ndim != 2 or not prompt.shape[1]:
        raise ValueError(
            "generate: expected a prompt of shape (batch, time) with at least one step, received "
            f"shape {prompt.shape}; e.g. prompt[None] for a single sequence"
        )
    if steps < 1:
        raise ValueError(
            f"generate: expected at least one step, received steps={steps}; e.g. steps=100"
        )
    if isinstance(temperature, (int, float)) and not temperature > 0:
        raise ValueError(
            f"generate: expected a positive temperature, received temperature={temperature}; leave "
            "out the key for the most probable tokens"
        )
    heat = jnp.float32(temperature)
    tokens: Array
    tokens = _generate(layer, steps, params, state, given, prompt, heat, key)
    return tokens


@functools.partial(jax.jit, static_argnums=(0, 1))
def _generate(
    layer: Layer,
    steps: int,
    params: Params,
    state: State,
    given: tuple[Tree, ...],
    prompt: Array,
    temperature: Array,
    key: Array | None,
) -> Array:
    decoder = layer
    coming: Coming = None
    if given and isinstance(layer, Graph) and isinstance(layer.inputs, tuple):
        # The part without the prompt runs once; `decoder` takes its outputs.
        encoder, decoder = layer.cut()
        given = (call(encoder, params, state, given, INFERENCE)[0],)
    if given and not isinstance(decoder, Graph):
        coming = (*(False for _ in given), True)
    batch, time = prompt.shape
    length = time + steps - 1  # the last token is not an input
    state = start_decoding(decoder, params, state, batch, length, coming)

    def next_token(
        state: State,
        tokens: Array,
        step: Array | int,
    ) -> tuple[Array, State]:
        logits, state = _last_logits(decoder, params, state, given, tokens)
        if key is None:
            token = jnp.argmax(logits, -1)  # (batch,)
        else:
            step_key = random.fold_in(key, step)
            token = random.categorical(step_key, logits / temperature)
        return token.astype(prompt.dtype), state

    def scan_step(
        carry: tuple[Array, State], step: Array
    ) -> tuple[tuple[Array, State], Array]:
        token, state = carry
        token, state = next_token(state, token[:, None], step)
        return (token, state), token

    token, state = next_token(state, prompt, 0)
    later_steps = jnp.arange(1, steps)
    _, rest = lax.scan(scan_step, (token, state), later_steps)
    # (batch, time), (batch, 1), (batch, steps - 1) -> (batch, time + steps)
    return jnp.concatenate([prompt, token[:, None], rest.T], 1)


def _last_logits(
    decoder: Layer,
    params: Params,
    state: State,
    given: tuple[Tree, ...],
    tokens: Array,
) -> tuple[Array, State]:
    """The logits after the last of `tokens`, (batch, vocabulary), and the state."""
    x: Tree = tokens
    if given:
        x = (*given, tokens)
    # Without its softmax the network returns logits. A sigmoid is applied, as its outputs are
    # not probabilities of one choice.
    network, ends = without_last_activation(decoder, x)
    y, state = call(network, params, state, x, INFERENCE)
    end = ends.get(())
    if end is not None and end.name == "sigmoid":
        y = end.of(y)
    return strip_masks(y)[:, -1], state
