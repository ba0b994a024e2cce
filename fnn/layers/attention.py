"""Attention with heads: multi-head and grouped-query, with masks, caches and fused kernels."""

from __future__ import annotations

import functools
from dataclasses import field
from typing import TYPE_CHECKING, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.arguments import Rule
from fnn.core.calling import apply_child, init_child, unzip
from fnn.core.context import INFERENCE, Context, attach_mask, combine_masks, strip_masks
from fnn.core.fields import fraction, positive, random_seed
from fnn.core.layer import Constraint, Initializer, Layer, Params, Regularizer, State
from fnn.core.registry import register
from fnn.core.tree import SpecTree, Tree, array_spec
from fnn.layers.einsum import EinsumDense
from fnn.layers.shared.attending import (
    AttentionLayer,
    Shape,
    append_to_cache,
    check_query_and_value,
    check_shapes,
    fold,
    pair_mask,
    score_shape,
    split_inputs,
    step_axes,
    unfold,
    zero_masked_steps,
)
from fnn.layers.shared.fused_attention import attend_fast
from fnn.runtime.placement import by_batch_and_heads


def as_tuple(given: object) -> object:
    """An integer as a tuple of one; anything else as it is."""
    if isinstance(given, int):
        return (given,)
    return given


class _HeadAttention(AttentionLayer):
    """The children project queries, keys and values; this class attends.

    A subclass declares the fields and `sizes`: (heads of the queries, heads of keys and values,
    size of a key, size of a value).
    """

    input_names = ("query", "value", "key", "attention_mask")
    field_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "flash_attention",
            lambda layer: not layer.flash_attention or _may_be_fused(layer),
            "not to be True with dropout, returned scores or another value size",
        ),
        Rule(
            "activity_regularizer",
            lambda layer: (
                not (layer.return_attention_scores and layer.activity_regularizer)
            ),
            "to be None with return_attention_scores=True",
        ),
    )
    input_rules = (check_query_and_value, check_shapes)
    cache_rules = (
        Rule(
            "use_causal_mask",
            lambda layer: (
                layer.use_causal_mask and layer.attention_axes in (None, (1,))
            ),
            "to be True (over time alone), since later steps are not known yet",
        ),
    )
    keeps_sharding = True

    # Fields that the subclasses declare. Annotations here would make them fields of this
    # class, and the first arguments of every constructor.
    if TYPE_CHECKING:

        @property
        def sizes(self) -> tuple[int, int, int, int]: ...

        @property
        def output_shape(self) -> Shape | None: ...

        @property
        def sliding_window(self) -> int | None: ...

        @property
        def flash_attention(self) -> bool | None: ...

        @property
        def activity_regularizer(self) -> Regularizer: ...

        @property
        def use_bias(self) -> bool: ...

        @property
        def use_gate(self) -> bool: ...

        @property
        def position(self) -> Layer | None: ...

    @functools.cached_property
    def _fnn_children(self) -> dict[int | None, dict[str, Layer]]:
        """The children for each width of the query; made once for a value."""
        return {}

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        # Only the output projection depends on the width of the query, unknown here.
        return tuple(self._children(None).items())

    def _children(self, query_width: int | None) -> dict[str, Layer]:
        if query_width not in self._fnn_children:
            self._fnn_children[query_width] = self._make_children(query_width)
        return self._fnn_children[query_width]

    def _make_children(self, query_width: int | None) -> dict[str, Layer]:
        heads, groups, size, value_size = self.sizes
        project = "...a,abc->...bc"
        children: dict[str, Layer] = {
            "query": self._projection(project, (heads, size), "bc"),
            "key": self._projection(project, (groups, size), "bc"),
        }
        if self.use_gate:
            gate = self._projection(project, (heads, value_size), "bc", "sigmoid")
            children["gate"] = gate
        children["value"] = self._projection(project, (groups, value_size), "bc")
        width = self.output_shape or (query_width,)
        letters = "defghijklm"[: len(width)]
        equation = f"...bc,bc{letters}->...{letters}"
        children["attention_output"] = self._projection(equation, width, letters)
        if self.position is not None:
            children["position"] = self.position
        return children

    def _projection(
        self,
        equation: str,
        shape: tuple[int | None, ...],
        bias_axes: str | None,
        activation: str | None = None,
    ) -> EinsumDense:
        names = [
            f"{weight}_{argument}"
            for weight in ("kernel", "bias")
            for argument in ("initializer", "regularizer", "constraint")
        ]
        # The activity regularizer of the output projection is that of this layer.
        if equation.startswith("...a"):
            names.append("activity_regularizer")
        if not self.use_bias:
            bias_axes = None
        options = {name: getattr(self, name) for name in names}
        with self.without_policy():
            return EinsumDense(
                equation, shape, activation, bias_axes, **options, dtype=self.dtype
            )

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        heads, _, size, value_size = self.sizes
        inputs = split_inputs(x)
        query = inputs.query
        steps = query.shape[:-1]
        specs = {
            "query": query,
            "key": inputs.key,
            "gate": query,
            "value": inputs.value,
            "position": array_spec((*steps, heads, size), query.dtype),
            "attention_output": array_spec((*steps, heads, value_size), query.dtype),
        }
        children = self._children(query.shape[-1]).items()
        pairs = {n: init_child(n, child, key, specs[n]) for n, child in children}
        params, states = unzip(pairs)
        state = {name: part for name, part in states.items() if jax.tree.leaves(part)}
        if "position" in state:
            expected = "to be a layer without state, since it runs on queries and keys"
            advice = f"remove its {[*state['position']]} (an activity_regularizer?)"
            raise arguments.wrong(self, "position", expected, self.position, advice)
        return params, state

    def apply(
        self, params: Params, state: State, x: Tree, ctx: Context = INFERENCE
    ) -> tuple[Tree, State]:
        inputs = split_inputs(x)
        masks = split_inputs(ctx.mask)
        children = self._children(inputs.query.shape[-1])
        offset = state.get("index", 0)  # how many steps are in the cache
        child_states = {**state, "position": {"index": offset}}
        penalties: State = {}

        def run(name: str, a: Array, mask: Array | None = None) -> Array:
            y, penalties[name] = apply_child(
                name, children[name], params, child_states, attach_mask(a, mask), ctx
            )
            values: Array = strip_masks(y)
            return values

        query = zero_masked_steps(inputs.query, masks.query)
        value = zero_masked_steps(inputs.value, masks.value)
        key = zero_masked_steps(inputs.key, masks.key)
        q = run("query", query, masks.query)  # (batch, *positions, heads, size)
        v = run("value", value, masks.value)  # (batch, *positions, groups, value size)
        k = run("key", key, masks.key)  # (batch, *positions, groups, size)
        q, v, k = by_batch_and_heads(q, v, k)
        if self.position is not None:
            q = run("position", q)
            k = run("position", k)
        key_mask = combine_masks((masks.value, masks.key))
        if "index" in state:
            k, v, key_mask, state = append_to_cache(state, k, v, key_mask)
        axes = step_axes(self, query.ndim)
        allowed = pair_mask(inputs.attention_mask, masks.query, key_mask, q, k, axes)
        y, weights = self._attend(q, k, v, axes, allowed, offset, ctx)
        if self.use_gate:
            y = y * run("gate", query, masks.query)
        # (batch, *positions, *output shape)
        y = attach_mask(run("attention_output", y), masks.query)
        # Only children with an activity regularizer have a state to update.
        updated = {name: penalties[name] for name in penalties if name in state}
        state = {**state, **updated}
        if self.return_attention_scores:
            return (y, weights), state
        return y, state

    def _attend(
        self,
        q: Array,
        k: Array,
        v: Array,
        axes: Shape,
        allowed: Array | None,
        offset: Array | int,
        ctx: Context,
    ) -> tuple[Array, Array | None]:
        """The means of the values for every position, and the weights if they were computed."""
        positions = q.ndim - 3
        y, weights = attend_fast(
            self,
            # each (batch * other positions, steps, heads or groups, size)
            fold(q, axes, positions),
            fold(k, axes, positions),
            fold(v, axes, positions),
            allowed,
            ctx,
            offset=offset,
            window=self.sliding_window,
            fused=self.flash_attention,
        )
        # (batch, *positions, heads, value size)
        shape = (*q.shape[:-1], v.shape[-1])
        y = unfold(y, shape, axes, positions)
        if self.return_attention_scores and weights is not None:
            # (batch, *other positions, heads, *queries, *keys)
            shape = score_shape(q.shape, k.shape, q.shape[-2], axes, positions)
            weights = weights.reshape(shape)
        return y, weights

    def cache(self, params: Params, batch: int, length: int) -> State:
        """The state with which this layer processes a sequence a few steps at a time.

        It holds the keys and values of `length` steps, and how many steps it has seen.
        """

        def empty(kernel: Array) -> Array:  # (width, heads, size)
            return jnp.zeros((batch, length, *kernel.shape[1:]), kernel.dtype)

        return {
            "cached_key": empty(params["key"]["kernel"]),
            "cached_value": empty(params["value"]["kernel"]),
            "cached_mask": jnp.zeros((batch, length), bool),
            "index": jnp.array(0),
        }


def _may_be_fused(layer: _HeadAttention) -> bool:
    _, _, size, value_size = layer.sizes
    return not (layer.dropout or layer.return_attention_scores or size != value_size)


class MultiHeadAttention(_HeadAttention):
    """Multi-head attention: a mean of the values, weighted by query-key similarity.

    (batch, queries, width), (batch, keys, ...) -> (batch, queries, width)

    Takes `(query, value)`, `(query, value, key)` or `(query, value, key, attention_mask)`. Without
    a key, or with None as key, the values are the keys; a single array attends to itself.
    `attention_mask` is True where a query may attend, (batch, queries, keys) or (batch, heads,
    queries, keys). Masks of the inputs are applied too. A query that may attend to no key gets the
    bias alone (in Keras, sometimes a mean of masked values). `attention_axes` are the axes of
    steps, by default all between batch and width; several axes form one sequence, in the order of
    the array.

    Two arguments of Keras's call are fields here: `use_causal_mask` (no query attends to later
    keys) and `return_attention_scores` (the outputs are `(outputs, scores)`; the scores are those
    before dropout). `position` is a layer without state, such as `RotaryEmbedding()`, applied to
    queries and keys, (batch, time, heads, key_dim).
    On a GPU, cuDNN's fused kernel is used in half precision if causality is the only mask. It has
    gradients but no other derivatives, and a program that uses it runs on one platform only.
    `flash_attention=False` never uses it; True requires it, and raises JAX's error where it does
    not run.
    Weights: `query/kernel (width, heads, key_dim)`, `query/bias (heads, key_dim)`, `key/...`,
    `value/...`, `gate/...`, `attention_output/kernel (heads, value_dim, width)` and its bias.
    An `activity_regularizer` applies to the outputs of each of these five, unmasked steps only.
    Raises ValueError for wrong arguments, inputs that do not fit together, and a mask that does
    not fit the scores (Vaswani et al. 2017, section 3.2; the gate: Qiu et al. 2025).

    >>> init, apply = MultiHeadAttention(2, 8, use_causal_mask=True)
    >>> x = jnp.ones((1, 5, 16))
    >>> params, state = init(jax.random.key(0), (x, x))
    >>> jax.jit(apply)(params, state, (x, x))[0].shape, params["query"]["kernel"].shape
    ((1, 5, 16), (16, 2, 8))
    """

    num_heads: int = positive()
    key_dim: int = positive()
    value_dim: int | None = positive(default=None)
    dropout: float = fraction(default=0.0)
    use_bias: bool = True
    output_shape: Shape | None = positive(default=None, convert=as_tuple)
    attention_axes: Shape | None = field(default=None, metadata={"convert": as_tuple})
    sliding_window: int | None = positive(default=None)
    flash_attention: bool | None = None
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    activity_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    bias_constraint: Constraint = None
    use_gate: bool = False
    seed: int | None = random_seed(default=None)
    use_causal_mask: bool = field(default=False, kw_only=True)
    return_attention_scores: bool = field(default=False, kw_only=True)
    position: Layer | None = field(default=None, kw_only=True)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        value_dim = self.value_dim or self.key_dim
        return self.num_heads, self.num_heads, self.key_dim, value_dim


class GroupedQueryAttention(_HeadAttention):
    """`MultiHeadAttention` in which groups of query heads share one head of keys and values.

    Inputs, masks and the fields that Keras's layer does not have are as in `MultiHeadAttention`.
    Weights: `query/kernel (width, num_query_heads, head_dim)`, `key/kernel (width,
    num_key_value_heads, head_dim)`, `value/...`, `attention_output/...`.
    Raises ValueError unless the key-value heads divide the query heads (Ainslie et al. 2023).

    >>> init, apply = GroupedQueryAttention(8, 4, 2)
    >>> x = jnp.ones((1, 5, 16))
    >>> init(jax.random.key(0), (x, x))[0]["key"]["kernel"].shape
    (16, 2, 8)
    """

    output_shape = attention_axes = None
    field_rules = (
        *_HeadAttention.field_rules,
        Rule(
            "num_key_value_heads",
            lambda layer: layer.num_query_heads % layer.num_key_value_heads == 0,
            "to divide num_query_heads={self.num_query_heads}",
        ),
    )

    head_dim: int = positive()
    num_query_heads: int = positive()
    num_key_value_heads: int = positive()
    dropout: float = fraction(default=0.0)
    use_bias: bool = True
    sliding_window: int | None = positive(default=None)
    flash_attention: bool | None = None
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    activity_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    bias_constraint: Constraint = None
    use_gate: bool = False
    seed: int | None = random_seed(default=None)
    use_causal_mask: bool = field(default=False, kw_only=True)
    return_attention_scores: bool = field(default=False, kw_only=True)
    position: Layer | None = field(default=None, kw_only=True)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        size = self.head_dim
        return self.num_query_heads, self.num_key_value_heads, size, size


# Its name in configs of Keras.
register(GroupedQueryAttention, "GroupQueryAttention")
