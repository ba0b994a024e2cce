"""Attention without heads or projections: Attention and AdditiveAttention."""

from __future__ import annotations

from dataclasses import field

import jax.numpy as jnp
from jax import Array, random

from fnn.core.arguments import Rule
from fnn.core.context import INFERENCE, Context, attach_mask, combine_masks, salt
from fnn.core.fields import fraction, one_of, random_seed
from fnn.core.layer import Params, State
from fnn.core.tree import SpecTree, Tree
from fnn.initializers.scaling import GlorotUniform
from fnn.layers.shared.attending import (
    AttentionLayer,
    attention_weights,
    band_mask,
    check_query_and_value,
    check_shapes,
    split_inputs,
    zero_masked_steps,
)
from fnn.layers.shared.dropping import drop


def _have_equal_features(layer: _PlainAttention, x: SpecTree) -> bool:
    query, _, key, _ = split_inputs(x)
    return bool(query.shape[-1] == key.shape[-1])


class _PlainAttention(AttentionLayer):
    """A subclass defines `scores`."""

    input_names = ("query", "value", "key")
    attention_axes = (1,)
    input_rules = (
        check_query_and_value,
        Rule(
            "inputs",
            lambda _, x: x[3:] == () and len(x[0].shape) == 3,
            "to be (query, value) or (query, value, key), each (batch, time, features)",
            "use MultiHeadAttention for more axes and other masks",
        ),
        check_shapes,
        Rule(
            "inputs",
            _have_equal_features,
            "with equally many features in query and key",
            "bring them to the same width first, e.g. by Dense",
        ),
    )

    def scores(
        self,
        params: Params,
        query: Array,
        key: Array,
    ) -> Array:
        """The similarity of each query to each key, (batch, queries, keys)."""
        raise NotImplementedError

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        inputs = split_inputs(x)
        masks = split_inputs(ctx.mask)
        # (batch, queries, features)
        query = zero_masked_steps(inputs.query, masks.query)
        value = zero_masked_steps(inputs.value, masks.value)  # (batch, keys, width)
        key = zero_masked_steps(inputs.key, masks.key)  # (batch, keys, features)
        queries = query.shape[1]
        keys = key.shape[1]
        allowed = self._allowed(queries, keys, *masks[:3])
        scores = self.scores(params, query, key)  # (batch, queries, keys)
        weights = attention_weights(scores, allowed)
        dropped = drop(self, weights, self.dropout, ctx, "dropout")
        y = jnp.matmul(dropped, value)  # (batch, queries, width)
        y = attach_mask(y, masks.query)
        if self.return_attention_scores:
            return (y, weights), state
        return y, state

    def _allowed(
        self,
        queries: int,
        keys: int,
        query_mask: Array | None,
        value_mask: Array | None,
        key_mask: Array | None,
    ) -> Array | None:
        """Which query may attend to which key, (batch, queries, keys); None for all."""
        key_mask = combine_masks((value_mask, key_mask))
        band = band_mask(queries, keys, 0, self.use_causal_mask, None)
        if key_mask is not None:
            key_mask = key_mask[:, None]  # (batch, 1, keys)
        if band is not None:
            band = band[0]  # (1, queries, keys)
        if query_mask is not None:
            query_mask = query_mask[:, :, None]  # (batch, queries, 1)
        return combine_masks((key_mask, band, query_mask))


class Attention(_PlainAttention):
    """softmax(score(query, key)) value; the score is a dot product.

    (batch, queries, features), (batch, keys, ...) -> (batch, queries, width of the values)

    Takes (query, value) or (query, value, key). Scores are not divided by sqrt(features);
    `use_scale` multiplies them by a weight `scale ()`. With `score_mode="concat"` the score is the
    sum of tanh(scale * (query + key)) over features, times `concat_score_weight ()`. Masks of the
    inputs are applied, also that of the key (which Keras ignores). A query that may attend to no
    key gets zeros (in Keras, a mean). Two arguments of Keras's call are fields here:
    `use_causal_mask` and `return_attention_scores`.
    Raises ValueError for wrong arguments and inputs that do not fit together (Luong et al. 2015,
    section 3.1).

    >>> x = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> Attention(use_causal_mask=True)([x, x]).tolist()[0][0]
    [1.0, 0.0]
    """

    use_scale: bool = False
    score_mode: str = one_of(("dot", "concat"), default="dot")
    dropout: float = fraction(default=0.0)
    seed: int | None = random_seed(default=None)
    use_causal_mask: bool = field(default=False, kw_only=True)
    return_attention_scores: bool = field(default=False, kw_only=True)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        params: Params = {}
        if self.use_scale:
            params["scale"] = jnp.ones((), self.weight_dtype)
        if self.score_mode == "concat":
            params["concat_score_weight"] = jnp.ones((), self.weight_dtype)
        return params, {}

    def scores(
        self,
        params: Params,
        query: Array,
        key: Array,
    ) -> Array:
        scale: Array | int = params.get("scale", 1)
        if self.score_mode == "dot":
            # (batch, queries, keys)
            return jnp.einsum("bqd,bkd->bqk", query, key) * scale
        query = query[:, :, None]  # (batch, queries, 1, features)
        key = key[:, None]  # (batch, 1, keys, features)
        pairs = jnp.tanh(scale * (query + key))  # (batch, queries, keys, features)
        weight: Array = params["concat_score_weight"]
        return weight * pairs.sum(-1)  # (batch, queries, keys)


class AdditiveAttention(_PlainAttention):
    """softmax(sum(scale * tanh(query + key))) value; the sum is over features.

    Inputs, masks and fields are as in `Attention`; `use_scale` gives each feature a weight in
    `scale (features,)`. Raises the errors of `Attention` (Bahdanau et al. 2015, appendix A.1.2).

    >>> init, apply = AdditiveAttention()
    >>> x = jnp.ones((1, 3, 2))
    >>> params, state = init(jax.random.key(0), (x, x))
    >>> params["scale"].shape, jax.jit(apply)(params, state, (x, x))[0].shape
    ((2,), (1, 3, 2))
    """

    use_scale: bool = True
    dropout: float = fraction(default=0.0)
    seed: int | None = random_seed(default=None, kw_only=True)
    use_causal_mask: bool = field(default=False, kw_only=True)
    return_attention_scores: bool = field(default=False, kw_only=True)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        if not self.use_scale:
            return {}, {}
        initializer = GlorotUniform()
        key = random.fold_in(key, salt("scale"))
        features = split_inputs(x).query.shape[-1]
        scale = initializer(key, (features,), self.weight_dtype)
        return {"scale": scale}, {}

    def scores(
        self,
        params: Params,
        query: Array,
        key: Array,
    ) -> Array:
        query = query[:, :, None]  # (batch, queries, 1, features)
        key = key[:, None]  # (batch, 1, keys, features)
        pairs = jnp.tanh(query + key)  # (batch, queries, keys, features)
        if self.use_scale:
            scale: Array = params["scale"]
            return pairs @ scale  # (batch, queries, keys)
        return pairs.sum(-1)  # (batch, queries, keys)
