"""LoRA: a network that stays as it is but for changes of low rank to its kernels."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax, random

from fnn.core import arguments, tree, weights
from fnn.core.calling import apply_child, walk
from fnn.core.combining import Flow, Visit
from fnn.core.context import INFERENCE, Context, salt
from fnn.core.fields import not_negative, positive
from fnn.core.layer import Initializer, Layer, Params, State
from fnn.core.masking import carry_mask
from fnn.core.tree import check_patterns, matches_any
from fnn.layers.wrappers import Frozen


class LoRA(Flow):
    """`inner` with W + alpha / rank * A @ B in place of each kernel W; A and B alone learn.

    Weights: those of `inner` under `inner`, frozen (no gradient, no optimizer slots, no batch
    statistics); for each kernel `(..., out)` under `lora`, by its path, `a (..., rank)`, random,
    and `b (rank, out)`, zeros, so that at first the outputs are those of `inner`. `alpha` is
    `rank` unless told. `patterns` says which weights change, of those with two axes or more
    that learn in `inner`: `("**/attention/**",)` for attention alone.

    The trained weights of a model come along: `LoRA(model, rank=8)`. Others are put in by hand:
    `params = {**params, "inner": pretrained}`. `merge` turns the trained pair back into weights
    of `inner`, so that nothing is left to pay for in use.
    Raises ValueError for wrong arguments, and in `init` if the patterns fit no such weight
    (Hu et al. 2021, section 4.1).

    >>> from fnn.layers import Dense
    >>> layer, x = LoRA(Dense(4), rank=2), jnp.ones((1, 3))
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> jax.tree.map(jnp.shape, params["lora"])
    {'kernel': {'a': (3, 2), 'b': (2, 4)}}
    >>> jax.tree.map(jnp.shape, layer.merge(params))
    {'bias': (4,), 'kernel': (3, 4)}
    """

    inner: Layer
    rank: int = positive()
    alpha: float | None = not_negative(default=None)
    patterns: tuple[str, ...] = ("**/kernel",)
    a_initializer: Initializer = "he_uniform"
    b_initializer: Initializer = "zeros"

    def validate(self) -> None:
        arguments.layer(self, self.inner, "as inner")
        check_patterns(self, "patterns", self.patterns)

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return (("inner", Frozen(self.inner)),)

    def flow(self, x: Any, visit: Visit) -> Any:
        ((name, frozen),) = self.children()
        return visit(name or "", frozen, x)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        params, state = super().init(key, x)
        pairs: list[tuple[tree.Path, Array]] = []
        for path, shape, copies in self._chosen(params["inner"]):
            own = random.fold_in(key, salt("/".join(path)))
            make: Any = lambda key, shape=shape, copies=copies: self.weight(
                "a", key, (*shape[copies:-1], self.rank)
            )
            for _ in range(copies):
                make = jax.vmap(make)
            pairs.append(((*path, "a"), make(random.split(own, shape[:copies]))))
            b = self.weight("b", own, (*shape[:copies], self.rank, shape[-1]))
            pairs.append(((*path, "b"), b))
        return {**params, "lora": tree.unflatten(pairs)}, state

    def _chosen(self, params: Params) -> list[tuple[tree.Path, tuple[int, ...], int]]:
        """(path, shape, stacked axes) of each weight of `inner` that is to change."""
        learning = dict(tree.flatten(weights.split(self.inner, params)[0]))
        layers = [(path, copies) for path, _, copies in walk(self.inner)]
        found = []
        for path, weight in learning.items():
            copies = max(
                copies for outer, copies in layers if path[: len(outer)] == outer
            )
            if matches_any(self.patterns, "/".join(path)) and weight.ndim - copies >= 2:
                found.append((path, weight.shape, copies))
        if not found:
            known = (
                ", ".join("/".join(path) for path, _ in tree.flatten(params))
                or "no weights"
            )
            raise arguments.wrong(
                self,
                "patterns",
                f"to fit a weight with two axes or more that learns, out of {known}",
                self.patterns,
            )
        return found

    def apply(  # type: ignore[override]
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        x, ctx = carry_mask(x, ctx.replace(frozen=True))
        changed = {
            "inner": self._changed(lax.stop_gradient(params["inner"]), params["lora"])
        }
        y, after = apply_child("inner", self.inner, changed, state, x, ctx)
        return y, {"inner": after}

    def merge(self, params: Params) -> Params:
        """The weights with which `inner` alone computes what this layer computes."""
        return self._changed(params["inner"], params["lora"])

    def _changed(self, params: Params, lora: Params) -> Params:
        scale = (self.rank if self.alpha is None else self.alpha) / self.rank
        for path in dict.fromkeys(path[:-1] for path, _ in tree.flatten(lora)):
            kernel, pair = tree.get(params, path), tree.get(lora, path)
            product: Any = jnp.matmul
            for _ in range(
                pair["b"].ndim - 2
            ):  # copies of a layer, each with a pair of its own
                product = jax.vmap(product)
            change = scale * product(pair["a"], pair["b"])
            params = tree.put(params, path, kernel + change.astype(kernel.dtype))
        return params
