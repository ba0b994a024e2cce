"""Mixture of experts: a router sends each token through a few of many copies of a layer."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random

from fnn.core import arguments, tree
from fnn.core.arguments import Rule
from fnn.core.calling import call, init_copies, output_spec
from fnn.core.context import (
    INFERENCE,
    Context,
    Masked,
    attach_mask,
    leading,
    salt,
    split_mask,
)
from fnn.core.fields import not_negative, positive
from fnn.core.layer import Initializer, Layer, Params, State
from fnn.core.tree import SpecTree, Tree, array_spec
from fnn.layers.shared.statistics import at_least_float32
from fnn.runtime.placement import place, place_like


class Queues(NamedTuple):
    """Which token is at which position in the queue of which expert."""

    positions: Array  # (choices, tokens); the length of the queues if there is no room
    tokens: Array  # (experts, positions); the number of tokens where a queue is empty


class MixtureOfExperts(Layer):
    """A router sends each token through `top_k` of `experts` copies of `expert`.

    (batch, ..., features) -> (batch, ..., outputs of `expert`)

    p = softmax(x @ router); y = sum of p_i * expert_i(x) over the `top_k` largest p, divided by
    their sum if there are several (a single one divided by itself would give the router no
    gradient). With `capacity_factor=None` every token gets its experts, and every expert computes
    every token. With a number, each expert has a capacity of ceil(capacity_factor * top_k * tokens
    / experts) tokens: first choices are served before second ones, then earlier tokens before later
    ones. A choice beyond the capacity adds 0, so put a `Residual` around the layer. This costs
    less, but makes outputs depend on the rest of the batch.

    To balance the experts, `aux_loss` in the state, which training adds to the loss, is balance *
    experts * sum(f_i * P_i), with the fraction f_i of choices for expert i and its mean probability
    P_i. It equals `balance` if all experts are used equally. Padding examples and masked steps are
    left out of the loss and the capacity, and their outputs are 0.
    Weights: `router (features, experts)`; those of `expert` under `experts`, with a leading axis.
    Raises ValueError for wrong arguments, and in `init` for an expert that does not treat tokens
    independently (Fedus et al. 2021, equations 2 to 6 for top_k=1; Shazeer et al. 2017, section 2).

    >>> from fnn.layers import Dense
    >>> layer, x = MixtureOfExperts(Dense(5, "relu"), experts=4), jnp.ones((2, 3, 6))
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> params["router"].shape, params["experts"]["kernel"].shape
    ((6, 4), (4, 6, 5))
    >>> jax.jit(layer.apply)(params, state, x)[0].shape
    (2, 3, 5)
    """

    masking = "use"
    by_step = True
    stacked = True
    input_layout = "(batch, ..., features)"
    field_rules = (
        Rule(
            "top_k",
            lambda layer: layer.top_k <= layer.experts,
            "to be at most experts={self.experts}",
        ),
    )
    cache_rules = (
        Rule(
            "capacity_factor",
            lambda layer: layer.capacity_factor is None,
            "to be None, since all steps together share the capacity",
        ),
    )

    expert: Layer
    experts: int = positive(default=8)
    top_k: int = positive(default=2)
    capacity_factor: float | None = positive(default=None)
    balance: float = not_negative(default=0.01)
    router_initializer: Initializer = "glorot_uniform"

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return (("experts", self.expert),)

    def inside(self, x: Tree) -> Array:
        """The tokens, (tokens, features)."""
        values: Array = split_mask(x)[0]
        return values.reshape(-1, values.shape[-1])

    def is_example(self, params: Params, x: Tree) -> bool:
        return arguments.is_vector(x)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        number = math.prod(x.shape[:-1])
        features = x.shape[-1]
        tokens = array_spec((number, features), x.dtype)
        y = output_spec(self.expert, tokens)
        shape = getattr(y, "shape", ())
        if isinstance(y, Masked) or shape[:1] != (number,):
            raise ValueError(
                f"MixtureOfExperts: expected an expert that returns an array (tokens, ...) for "
                f"{tokens.shape}, received {tree.describe(y)} from {self.expert!r}; pass a layer "
                "that treats tokens independently, like Dense"
            )
        router = self.weight("router", key, (features, self.experts))
        key = random.fold_in(key, salt("experts"))
        copies, expert_states = init_copies(self.expert, key, self.experts, tokens)
        params = {"router": router, "experts": copies}
        return params, {"aux_loss": jnp.zeros(()), "experts": expert_states}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        tokens = x.reshape(-1, x.shape[-1])  # (tokens, features)
        valid = _valid_tokens(x, ctx)  # (tokens,)
        if self.capacity_factor is not None:
            # The queues are for the tokens of all devices together.
            tokens = place(tokens, ())
            valid = place(valid, ())
        router = at_least_float32(params["router"])
        logits = at_least_float32(tokens) @ router
        probabilities = jax.nn.softmax(logits)  # (tokens, experts)
        likeliest, chosen = lax.top_k(probabilities, self.top_k)  # (tokens, choices)
        likeliest = likeliest.T  # (choices, tokens)
        chosen = chosen.T  # (choices, tokens)
        # A single probability divided by itself is 1: the router would never learn.
        if self.top_k > 1:
            likeliest /= likeliest.sum(0, keepdims=True)
        gates = jnp.where(valid[None], likeliest, 0)  # (choices, tokens)
        # (choices, tokens, experts)
        choices = jax.nn.one_hot(chosen, self.experts, dtype=bool)
        choices = choices & valid[None, :, None]

        if self.capacity_factor is None:
            y, states = self._apply_to_all(params, state, tokens, chosen, choices, ctx)
        else:
            queues = self._queues(self.capacity_factor, chosen, choices, valid)
            y, states = self._apply_to_queues(
                params, state, tokens, chosen, queues, ctx
            )
        # (choices, tokens, ...) -> (tokens, ...)
        gates = gates.astype(y.dtype)
        y = jnp.einsum("kt,kt...->t...", gates, y)
        loss = self._imbalance(probabilities, choices, valid)
        loss = loss.astype(state["aux_loss"].dtype)
        # (batch, ..., outputs of the expert)
        y = y.reshape(*x.shape[:-1], *y.shape[1:])
        y = place_like(y, x)
        return attach_mask(y, ctx.mask), {"aux_loss": loss, "experts": states}

    def _apply_to_all(
        self,
        params: Params,
        state: State,
        tokens: Array,
        chosen: Array,
        choices: Array,
        ctx: Context,
    ) -> tuple[Array, State]:
        """Every expert on every token; the outputs of the chosen ones, (choices, tokens, ...)."""
        # An expert counts only the tokens that chose it as valid.
        rows = choices.any(0).T  # (experts, tokens)
        y, states = self._run(params, state, tokens, None, rows, ctx)
        # (experts, tokens, ...) -> (choices, tokens, ...)
        chosen = leading(chosen, y.ndim)  # (choices, tokens, 1, ...)
        y = jnp.take_along_axis(y, chosen, 0)
        return y, states

    def _apply_to_queues(
        self,
        params: Params,
        state: State,
        tokens: Array,
        chosen: Array,
        queues: Queues,
        ctx: Context,
    ) -> tuple[Array, State]:
        """Each expert on its queue; the outputs of the chosen ones, (choices, tokens, ...)."""
        # (experts, positions, features)
        queued = jnp.take(tokens, queues.tokens, axis=0, mode="fill", fill_value=0)
        rows = queues.tokens < len(tokens)  # (experts, positions)
        y, states = self._run(params, state, queued, 0, rows, ctx)
        # (experts, positions, ...) -> (choices, tokens, ...), 0 where there was no room
        y = y.at[chosen, queues.positions].get(mode="fill", fill_value=0)
        return y, states

    def _run(
        self,
        params: Params,
        state: State,
        x: Array,
        axis: int | None,
        rows: Array,
        ctx: Context,
    ) -> tuple[Array, State]:
        """The outputs (experts, tokens, ...) for all of `x`, or with `axis` 0 for a part each."""

        def run_expert(
            index: Array,
            params: Params,
            state: State,
            x: Array,
            rows: Array,
        ) -> tuple[Array, State]:
            own = ctx.child("experts").repeat(index).replace(rows=rows)
            return call(self.expert, params, state, x, own, "experts")

        run = jax.vmap(run_expert, (0, 0, 0, axis, 0))
        index = jnp.arange(self.experts)
        return run(index, params["experts"], state["experts"], x, rows)

    def _queues(
        self,
        capacity_factor: float,
        chosen: Array,
        choices: Array,
        valid: Array,
    ) -> Queues:
        """The queues, with first choices before second ones, and in the order of the tokens."""
        number = len(valid)
        # The same float32 factor for both, so that a padded batch has the capacity of its
        # valid examples.
        factor = np.float32(capacity_factor * self.top_k / self.experts)
        capacity = jnp.ceil(factor * valid.sum())
        length = min(math.ceil(factor * np.float32(number)), number)
        # (choices * tokens, experts), 1 where that expert is chosen
        joins = choices.reshape(-1, self.experts).astype("int32")
        # How many joined the same queue before, (choices, tokens).
        places = joins.cumsum(0) - 1
        before = (places * joins).sum(-1)
        before = before.reshape(chosen.shape)
        has_room = choices.any(-1) & (before < capacity)
        positions = jnp.where(has_room, before, length)
        empty = jnp.full((self.experts, length), number)
        every_token = jnp.arange(number)[None]  # (1, tokens)
        tokens = empty.at[chosen, positions].set(every_token, mode="drop")
        return Queues(positions, tokens)

    def _imbalance(
        self,
        probabilities: Array,
        choices: Array,
        valid: Array,
    ) -> Array:
        """The auxiliary loss: `balance` if all experts are used equally, else more."""
        count = jnp.maximum(valid.sum(), 1)
        chosen = choices.sum((0, 1))  # (experts,)
        fraction = chosen / (count * self.top_k)  # (experts,)
        probabilities = jnp.where(valid[:, None], probabilities, 0)  # (tokens, experts)
        mean = probabilities.sum(0) / count  # (experts,)
        return self.balance * self.experts * (fraction * mean).sum()


def _valid_tokens(x: Array, ctx: Context) -> Array:
    """False for the tokens of padding examples and of masked steps, (tokens,)."""
    valid = jnp.ones(x.shape[:-1], bool)  # (batch, ...)
    for known in (ctx.rows, ctx.mask):
        if known is not None:
            valid &= leading(known, valid.ndim)
    return valid.reshape(-1)
