"""Mixture of experts: many equal layers, of which each token goes through a few."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random

from fnn.core import arguments, tree
from fnn.core.calling import call, init_copies, output_spec
from fnn.core.context import INFERENCE, Context, salt
from fnn.core.fields import not_negative, positive
from fnn.core.layer import Initializer, Layer, Params, State
from fnn.core.masking import Masked, attach_mask, leading, split_mask
from fnn.layers.shared.statistics import at_least_float32
from fnn.runtime.placement import place, place_like


class MixtureOfExperts(Layer):
    """The `top_k` of `experts` copies of `expert` that a router likes best, for each token.

    (batch, ..., features) -> (batch, ..., whatever `expert` makes of the features)

    p = softmax(x @ router); y = sum of p_i * expert_i(x) over the `top_k` largest p, which are
    divided by their sum (not a single one: the router would get no gradient). With
    `capacity_factor=None` every token gets its experts, and every expert computes every token. A
    number leaves each expert room for ceil(capacity_factor * top_k * tokens / experts) tokens:
    first choices come before second ones, then earlier tokens before later ones; a choice that
    finds no room adds 0, so put a `Residual` around. That costs less, and makes outputs depend on
    the rest of the batch.

    So that experts share the work, `aux_loss` in the state, which training adds to the loss, is
    balance * experts * sum(f_i * P_i): of the choices the share f that expert i has, and the mean P
    of its probability. It is `balance` where all share alike. Padded rows and masked steps count
    neither there nor for room, and their outputs are 0.
    Weights: `router (features, experts)`; those of `expert` under `experts`, with a leading axis.
    Raises ValueError for wrong arguments, and in `init` for an expert that does not keep its tokens
    apart (Fedus et al. 2021, equations 2 to 6 for top_k=1; Shazeer et al. 2017, section 2).

    >>> from fnn.layers import Dense
    >>> layer, x = MixtureOfExperts(Dense(5, "relu"), experts=4), jnp.ones((2, 3, 6))
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> params["router"].shape, params["experts"]["kernel"].shape
    ((6, 4), (4, 6, 5))
    >>> layer.apply(params, state, x)[0].shape
    (2, 3, 5)
    """

    masking = "use"
    stacked = True

    expert: Layer
    experts: int = positive(default=8)
    top_k: int = positive(default=2)
    capacity_factor: float | None = positive(default=None)
    balance: float = not_negative(default=0.01)
    router_initializer: Initializer = "glorot_uniform"

    def validate(self) -> None:
        arguments.layer(self, self.expert, "as expert")
        if self.top_k > self.experts:
            expected = f"to be at most experts={self.experts}"
            raise arguments.wrong(self, "top_k", expected, self.top_k)

    def cache(self, params: Params, batch: int, length: int) -> State:
        """Nothing, as each token is by itself; raises ValueError where they compete for room."""
        if self.capacity_factor is not None:
            expected = (
                "to be None, since the room of an expert is for all steps together"
            )
            raise arguments.wrong(
                self, "capacity_factor", expected, self.capacity_factor
            )
        return {}

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return (("experts", self.expert),)

    def inside(self, x: Any) -> Any:
        """The tokens one by one."""
        x = split_mask(x)[0]
        return x.reshape(-1, x.shape[-1])

    def is_example(self, params: Params, x: Any) -> bool:
        return arguments.is_vector(x)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.minimum_rank(self, x, 2, "(batch, ..., features)")
        number, features = math.prod(x.shape[:-1]), x.shape[-1]
        tokens = jax.ShapeDtypeStruct((number, features), x.dtype)
        made = output_spec(self.expert, tokens)
        if isinstance(made, Masked) or getattr(made, "shape", ())[:1] != (number,):
            raise ValueError(
                f"MixtureOfExperts: expected an expert that makes one array of {tokens.shape}, a "
                f"row for each token, received {tree.describe(made)} from {self.expert!r}; give "
                "a layer for single tokens, like Dense"
            )
        router = self.weight("router", key, (features, self.experts))
        copies, state = init_copies(
            self.expert, random.fold_in(key, salt("experts")), self.experts, tokens
        )
        return (
            {"router": router, "experts": copies},
            {"aux_loss": jnp.zeros(()), "experts": state},
        )

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        tokens, real = x.reshape(-1, x.shape[-1]), _real_tokens(x, ctx)
        if self.capacity_factor is not None:  # there is one queue for all
            tokens, real = place(tokens, ()), place(real, ())
        logits = at_least_float32(tokens) @ at_least_float32(params["router"])
        shares = jax.nn.softmax(logits)
        likely, chosen = (a.T for a in lax.top_k(shares, self.top_k))  # (choice, token)
        if (
            self.top_k > 1
        ):  # a lone share divided by itself is 1: the router would never learn
            likely /= likely.sum(0, keepdims=True)
        gates = jnp.where(real[None], likely, 0)
        choices = jax.nn.one_hot(chosen, self.experts, dtype=bool) & real[None, :, None]

        if self.capacity_factor is None:
            inputs, axis, rows = tokens, None, choices.any(0).T
        else:
            places, sources = self._places(chosen, choices, real)
            inputs = jnp.take(tokens, sources, axis=0, mode="fill", fill_value=0)
            axis, rows = 0, sources < len(tokens)

        def one(
            index: Array, params: Params, state: State, x: Array, rows: Array
        ) -> Any:
            own = ctx.child("experts").repeat(index).replace(rows=rows)
            return call(self.expert, params, state, x, own, "experts")

        outputs, after = jax.vmap(one, (0, 0, 0, axis, 0))(
            jnp.arange(self.experts), params["experts"], state["experts"], inputs, rows
        )
        if self.capacity_factor is None:
            found = jnp.take_along_axis(outputs, leading(chosen, outputs.ndim), 0)
        else:
            found = outputs.at[chosen, places].get(mode="fill", fill_value=0)
        y = jnp.einsum("kt,kt...->t...", gates.astype(found.dtype), found)
        loss = self._imbalance(shares, choices, real).astype(state["aux_loss"].dtype)
        y = place_like(y.reshape(*x.shape[:-1], *y.shape[1:]), x)
        y = attach_mask(y, ctx.mask)
        return y, {"aux_loss": loss, "experts": after}

    def _places(
        self: Any, chosen: Array, choices: Array, real: Array
    ) -> tuple[Array, Array]:
        """Where each (choice, token) is in the queue of its expert, and who is at each place.

        A place past the last, or a token past the last, stands for none.
        """
        number = len(real)
        # In float32 here as there, so that a padded batch has just the room of the real rows.
        each = np.float32(self.capacity_factor * self.top_k / self.experts)
        room = jnp.ceil(each * real.sum())
        length = min(math.ceil(each * np.float32(number)), number)
        queue = choices.reshape(-1, self.experts).astype("int32")
        places = ((queue.cumsum(0) - 1) * queue).sum(-1).reshape(chosen.shape)
        places = jnp.where(choices.any(-1) & (places < room), places, length)
        sources = jnp.full((self.experts, length), number)
        return places, sources.at[chosen, places].set(
            jnp.arange(number)[None], mode="drop"
        )

    def _imbalance(self, shares: Array, choices: Array, real: Array) -> Array:
        """`balance` where every expert has its share, more where some have most."""
        count = jnp.maximum(real.sum(), 1)
        taken = choices.sum((0, 1)) / (count * self.top_k)
        likely = jnp.where(real[:, None], shares, 0).sum(0) / count
        return self.balance * self.experts * (taken * likely).sum()


def _real_tokens(x: Array, ctx: Context) -> Array:
    """Which tokens of `x` (batch, ..., features) are real: no padded row, no masked step."""
    real = jnp.ones(x.shape[:-1], bool)
    for known in (ctx.rows, ctx.mask):
        if known is not None:
            real &= leading(known, real.ndim)
    return real.reshape(-1)
