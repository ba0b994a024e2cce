"""Attention over heads: multi-head and grouped-query, with masks of every kind and caches."""

from __future__ import annotations

import functools
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.core import arguments
from fnn.core.calling import apply_child, init_child, unzip
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import fraction, positive, random_seed
from fnn.core.layer import Constraint, Initializer, Layer, Params, Regularizer, State
from fnn.core.masking import attach_mask, combine_masks, strip_masks
from fnn.layers.einsum import EinsumDense
from fnn.layers.shared.attending import (
    attend,
    attend_fused,
    attend_masked,
    axes_of,
    band_mask,
    blank_steps,
    check_inputs,
    fold,
    fusible,
    pair_mask,
    parts,
    remember,
    score_shape,
    unfold,
)
from fnn.runtime.placement import by_batch_and_heads


class _HeadAttention(Layer):
    """A subclass lists the fields and says `sizes`; the children project, this class attends.

    `sizes` is (heads of the queries, heads of keys and values, size of a key, size of a value).
    """

    masking = "use"
    mixes_features = True
    input_names = ("query", "value", "key", "attention_mask")
    call_fields = ("use_causal_mask", "return_attention_scores")
    keeps_sharding = True

    def validate(self: Any) -> None:
        if self.position is not None:
            arguments.layer(self, self.position, "as position")
        _, _, size, value_size = self.sizes
        if self.flash_attention and (
            self.dropout or self.return_attention_scores or size != value_size
        ):
            expected = (
                "not to be True with dropout, scores returned or values of another size"
            )
            raise arguments.wrong(self, "flash_attention", expected, True)
        if self.return_attention_scores and self.activity_regularizer is not None:
            expected = "to be None where scores are returned too"
            raise arguments.wrong(
                self, "activity_regularizer", expected, self.activity_regularizer
            )

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return self._children(None)  # whatever the width of the query

    def _children(self: Any, query: int | None) -> tuple[tuple[str | None, Layer], ...]:
        heads, groups, size, value_size = self.sizes
        width = self.output_shape or (query,)
        letters = "defghijklm"[: len(width)]
        into = "...a,abc->...bc"
        children: dict[str, Layer] = {
            "query": self._projection(into, (heads, size), "bc"),
            "key": self._projection(into, (groups, size), "bc"),
            "gate": self._projection(into, (heads, value_size), "bc", "sigmoid"),
            "value": self._projection(into, (groups, value_size), "bc"),
            "attention_output": self._projection(
                f"...bc,bc{letters}->...{letters}", width, letters
            ),
            "position": self.position,
        }
        absent = {"gate": not self.use_gate, "position": self.position is None}
        return tuple(
            (name, child) for name, child in children.items() if not absent.get(name)
        )

    def _projection(
        self: Any, equation: str, shape: Any, bias_axes: str, activation: Any = None
    ) -> Layer:
        shared = ("initializer", "regularizer", "constraint")
        fields = {f"{w}_{part}" for w in ("kernel", "bias") for part in shared}
        if equation.startswith(
            "...a"
        ):  # what the last one gives is penalized as that of the layer
            fields.add("activity_regularizer")
        return EinsumDense(
            equation,
            shape,
            activation,
            bias_axes if self.use_bias else None,
            **{name: getattr(self, name) for name in fields},
            dtype=self.dtype,
        )

    def init(self: Any, key: Array, x: Any) -> tuple[Params, State]:
        query, value, keys, allowed = parts(x)
        check_inputs(self, query, value, keys, allowed)
        heads, _, size, value_size = self.sizes
        inputs = {"key": keys, "value": value}
        like = lambda *shape: jax.ShapeDtypeStruct(
            (*query.shape[:-1], *shape), query.dtype
        )
        inputs["position"], inputs["attention_output"] = (
            like(heads, size),
            like(heads, value_size),
        )
        make = lambda name, child: init_child(name, child, key, inputs.get(name, query))
        children = self._children(query.shape[-1])
        params, made = unzip({name: make(name, child) for name, child in children})
        state = {name: part for name, part in made.items() if jax.tree.leaves(part)}
        if "position" in state:
            expected = (
                "to be a layer without state, since it runs on queries and on keys"
            )
            advice = (
                f"take its {sorted(state['position'])} away (an activity_regularizer?)"
            )
            raise arguments.wrong(self, "position", expected, self.position, advice)
        return params, state

    def apply(
        self: Any, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        (query, value, keys, allowed), masks = parts(x), parts(ctx.mask)
        children = dict(self._children(query.shape[-1]))
        offset = state.get("index", 0)  # how many steps a cache holds already
        penalties: State = {}

        def run(name: str, a: Array, mask: Any = None) -> Any:
            inner, a = {**state, "position": {"index": offset}}, attach_mask(a, mask)
            y, penalties[name] = apply_child(
                name, children[name], params, inner, a, ctx
            )
            return strip_masks(y)

        query, value, keys = map(blank_steps, (query, value, keys), masks)
        names = "query", "value", "key"
        q, v, k = by_batch_and_heads(*map(run, names, (query, value, keys), masks))
        if self.position is not None:
            q, k = run("position", q), run("position", k)
        real = combine_masks(masks[1:3])
        if "index" in state:
            k, v, real, state = remember(state, k, v, real)
        n, axes = query.ndim - 2, axes_of(self, query.ndim)
        shape = score_shape(q.shape, k.shape, q.shape[-2], axes, n)
        allowed = pair_mask(allowed, (masks[0], real), q, k, axes, shape)
        y, shares = self._attend(
            *(fold(a, axes, n) for a in (q, k, v)), allowed, offset, ctx
        )
        y = unfold(y, (*q.shape[:-1], v.shape[-1]), axes, n)
        y = y * run("gate", query, masks[0]) if self.use_gate else y
        y = attach_mask(run("attention_output", y), masks[0])
        state = state | {name: penalties[name] for name in state.keys() & penalties}
        return (
            (y, shares.reshape(shape)) if self.return_attention_scores else y
        ), state

    def _attend(
        self: Any,
        q: Array,
        k: Array,
        v: Array,
        allowed: Array | None,
        offset: Any,
        ctx: Context,
    ) -> tuple[Array, Any]:
        """What `attend` gives, the outputs by cuDNN's kernel where that is wanted or better."""
        causal, window, steps = (
            self.use_causal_mask,
            self.sliding_window,
            (q.shape[1], k.shape[1]),
        )
        # What the kernel knows by itself; a mask for it would be as large as the scores it spares.
        bare = allowed is None and isinstance(offset, int)
        bare = bare and (steps[0] == steps[1] if causal else window is None)
        allowed = combine_masks((allowed, band_mask(*steps, offset, causal, window)))
        fused = functools.partial(attend_fused, causal=causal, window=window)
        if self.flash_attention:
            if bare or allowed is None:
                return fused(q, k, v), None
            return attend_masked(q, k, v, allowed), None
        scores = self.return_attention_scores or (ctx.train and self.dropout)
        if self.flash_attention is None and bare and not scores and fusible(q, k, v):
            plain = lambda q, k, v: attend(self, q, k, v, allowed, ctx, somewhere=True)[
                0
            ]
            return lax.platform_dependent(q, k, v, cuda=fused, default=plain), None
        return attend(
            self, q, k, v, allowed, ctx, somewhere=bare
        )  # each step sees itself

    def cache(self: Any, params: Params, batch: int, length: int) -> State:
        """The state with which this layer goes through a sequence a few steps at a time.

        It holds the keys and values of `length` steps, and how many of them have been seen.
        Raises ValueError unless attention is causal, over one axis of time.
        """
        if not self.use_causal_mask or self.attention_axes not in (None, (1,)):
            expected = (
                "to be True (over time alone), since a step cannot see those to come"
            )
            raise arguments.wrong(
                self, "use_causal_mask", expected, self.use_causal_mask
            )
        kernels = params["key"]["kernel"], params["value"]["kernel"]
        k, v = (jnp.zeros((batch, length, *w.shape[1:]), w.dtype) for w in kernels)
        real = jnp.zeros((batch, length), bool)
        return {
            "cached_key": k,
            "cached_value": v,
            "cached_mask": real,
            "index": jnp.array(0),
        }


class MultiHeadAttention(_HeadAttention):
    """Multi-head attention: a mean of the values for each query, by its similarity to their keys.

    Takes `(query, value)`, `(query, value, key)` or `(query, value, key, attention_mask)`, keys
    being the values unless given (and None where only the mask is); one array attends to itself.
    (batch, queries, width), (batch, keys, ...) -> (batch, queries, width). `attention_mask` is
    True where a query may look, (batch, queries, keys) or with heads before these two. Masks of
    the inputs count too; a query that may look nowhere gets the bias alone (Keras, in some
    cases, the mean of what it must not see). `attention_axes` are the axes of steps, all between
    batch and width unless told; over several, they are one sequence in the order of the array.

    What Keras takes in the call are fields here: `use_causal_mask` (no query looks at later keys)
    and `return_attention_scores` (the outputs are `(outputs, scores)`, scores as before dropout).
    `position` is a layer, such as `RotaryEmbedding()`, over queries and keys (batch, time, heads,
    key_dim) that keeps no state. On a GPU the fused kernel of cuDNN computes in half precision,
    where there is no mask but that of causality; it has gradients and no other derivative, and
    where it is used a program is for one platform. `flash_attention=False` keeps away from it, True
    insists on it (and raises what JAX says where it does not run).
    Weights: `query/kernel (width, heads, key_dim)`, `query/bias (heads, key_dim)`, `key/...`,
    `value/...`, `gate/...`, `attention_output/kernel (heads, value_dim, width)` and its bias.
    An `activity_regularizer` is of what each of these five gives, real steps alone.
    Raises ValueError for wrong arguments, inputs that do not fit, and a wrong mask
    (Vaswani et al. 2017, section 3.2; the gate: Qiu et al. 2025).

    >>> init, apply = MultiHeadAttention(2, 8, use_causal_mask=True)
    >>> x = jnp.ones((1, 5, 16))
    >>> params, state = init(jax.random.key(0), (x, x))
    >>> apply(params, state, (x, x))[0].shape, params["query"]["kernel"].shape
    ((1, 5, 16), (16, 2, 8))
    """

    num_heads: int = positive()
    key_dim: int = positive()
    value_dim: int | None = positive(default=None)
    dropout: float = fraction(default=0.0)
    use_bias: bool = True
    output_shape: int | tuple[int, ...] | None = None
    attention_axes: int | tuple[int, ...] | None = None
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

    def validate(self) -> None:
        for name in ("output_shape", "attention_axes"):
            if isinstance(getattr(self, name), int):
                object.__setattr__(self, name, (getattr(self, name),))
        if self.output_shape is not None:
            arguments.integers(self, "output_shape", len(self.output_shape))  # type: ignore[arg-type]
        super().validate()

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        value_dim = self.key_dim if self.value_dim is None else self.value_dim
        return self.num_heads, self.num_heads, self.key_dim, value_dim


class GroupedQueryAttention(_HeadAttention):
    """`MultiHeadAttention` in which groups of query heads share one head of keys and values.

    Inputs, masks and the fields that are not listed by Keras are those of `MultiHeadAttention`.
    Weights: `query/kernel (width, num_query_heads, head_dim)`, `key/kernel (width,
    num_key_value_heads, head_dim)`, `value/...`, `attention_output/...`.
    Raises ValueError unless the key-value heads divide the query heads (Ainslie et al. 2023).

    >>> init, apply = GroupedQueryAttention(8, 4, 2)
    >>> x = jnp.ones((1, 5, 16))
    >>> init(jax.random.key(0), (x, x))[0]["key"]["kernel"].shape
    (16, 2, 8)
    """

    output_shape = attention_axes = None
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

    def validate(self) -> None:
        if self.num_query_heads % self.num_key_value_heads:
            expected = f"to divide num_query_heads={self.num_query_heads}"
            raise arguments.wrong(
                self, "num_key_value_heads", expected, self.num_key_value_heads
            )
        super().validate()

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        return (
            self.num_query_heads,
            self.num_key_value_heads,
            self.head_dim,
            self.head_dim,
        )
