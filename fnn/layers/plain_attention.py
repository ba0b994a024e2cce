"""Attention without heads or projections: by dot products, by sums."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax.numpy as jnp
from jax import Array, random

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context, salt
from fnn.core.fields import fraction, one_of, random_seed
from fnn.core.layer import Layer, Params, State
from fnn.core.masking import attach_mask, combine_masks
from fnn.initializers.scaling import GlorotUniform
from fnn.layers.shared.attending import (
    band_mask,
    blank_steps,
    check_inputs,
    parts,
    shares_of,
)
from fnn.layers.shared.dropping import drop


class _PlainAttention(Layer):
    """A subclass writes `scores(params, query, key)`, (batch, queries, keys)."""

    masking = "use"
    mixes_features = True
    input_names = ("query", "value", "key")
    call_fields = ("use_causal_mask", "return_attention_scores")
    attention_axes = (1,)

    def check(self, x: Any) -> Any:
        """The query, where the inputs fit each other; else raises ValueError."""
        query, value, key, mask = parts(x)
        arguments.every_input(self, (query, value), self.input_names)
        if mask is not None or len(query.shape) != 3:
            raise ValueError(
                f"{type(self).__name__}: expected (query, value) or (query, value, key), each "
                f"(batch, time, features), received {len(x)} inputs, the first of shape "
                f"{tuple(query.shape)}; use MultiHeadAttention for more axes and other masks"
            )
        check_inputs(self, query, value, key, None)
        if query.shape[-1] != key.shape[-1]:
            raise ValueError(
                f"{type(self).__name__}: expected query and key of as many features, received "
                f"shapes {tuple(query.shape)} and {tuple(key.shape)}; bring them to one width "
                "first, e.g. by Dense"
            )
        return query

    def apply(
        self: Any, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        masks = parts(ctx.mask)
        query, value, key = map(blank_steps, parts(x), masks[:3])
        real = combine_masks(masks[1:3])
        band = band_mask(query.shape[1], key.shape[1], 0, self.use_causal_mask, None)
        allowed = combine_masks(
            (
                None if real is None else real[:, None],
                None if band is None else band[0],
                None if masks[0] is None else masks[0][:, :, None],
            )
        )
        shares = shares_of(self.scores(params, query, key), allowed)
        kept = drop(self, shares, self.dropout, ctx, "dropout")
        y = attach_mask(jnp.matmul(kept, value), masks[0])
        return ((y, shares) if self.return_attention_scores else y), state


class Attention(_PlainAttention):
    """softmax(score(query, key)) value, the score being a dot product.

    (query, value) or (query, value, key): (batch, queries, features), (batch, keys, ...) ->
    (batch, queries, width of the values). Not divided by the root of the features; `use_scale`
    multiplies with a weight `scale ()`. `score_mode="concat"` sums tanh(scale * (query + key))
    times `concat_score_weight ()` instead. Masks of the inputs count, also that of the key (which
    Keras overlooks); a query that may look nowhere gets zeros (in Keras some mean). What Keras
    takes in the call are fields: `use_causal_mask`, `return_attention_scores`.
    Raises ValueError for wrong arguments and inputs that do not fit (Luong et al. 2015,
    section 3.1).

    >>> x = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> Attention(use_causal_mask=True).apply({}, {}, (x, x))[0][0, 0].tolist()
    [1.0, 0.0]
    """

    use_scale: bool = False
    score_mode: str = one_of(("dot", "concat"), default="dot")
    dropout: float = fraction(default=0.0)
    seed: int | None = random_seed(default=None)
    use_causal_mask: bool = field(default=False, kw_only=True)
    return_attention_scores: bool = field(default=False, kw_only=True)

    def validate(self) -> None:
        super().validate()

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        self.check(x)
        present = {
            "scale": self.use_scale,
            "concat_score_weight": self.score_mode == "concat",
        }
        return {
            name: jnp.ones((), self.weight_dtype) for name, on in present.items() if on
        }, {}

    def scores(self, params: Params, query: Array, key: Array) -> Array:
        """(batch, queries, keys)."""
        scale = params["scale"] if self.use_scale else 1
        if self.score_mode == "dot":
            return jnp.einsum("bqd,bkd->bqk", query, key) * scale
        pairs = jnp.tanh(scale * (query[:, :, None] + key[:, None]))
        return params["concat_score_weight"] * pairs.sum(-1)


class AdditiveAttention(_PlainAttention):
    """softmax(sum(scale * tanh(query + key))) value, a sum over features.

    Inputs, masks and fields are those of `Attention`; `use_scale` gives each feature a weight in
    `scale (features,)`. Raises as `Attention` (Bahdanau et al. 2015, appendix A.1.2).

    >>> init, apply = AdditiveAttention()
    >>> x = jnp.ones((1, 3, 2))
    >>> params, state = init(jax.random.key(0), (x, x))
    >>> params["scale"].shape, apply(params, state, (x, x))[0].shape
    ((2,), (1, 3, 2))
    """

    use_scale: bool = True
    dropout: float = fraction(default=0.0)
    seed: int | None = random_seed(default=None, kw_only=True)
    use_causal_mask: bool = field(default=False, kw_only=True)
    return_attention_scores: bool = field(default=False, kw_only=True)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        query = self.check(x)
        if not self.use_scale:
            return {}, {}
        draw = GlorotUniform()
        key = random.fold_in(key, salt("scale"))
        return {"scale": draw(key, (query.shape[-1],), self.weight_dtype)}, {}

    def scores(self, params: Params, query: Array, key: Array) -> Array:
        """(batch, queries, keys)."""
        pairs = jnp.tanh(query[:, :, None] + key[:, None])
        return pairs @ params["scale"] if self.use_scale else pairs.sum(-1)
