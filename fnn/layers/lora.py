"""LoRA: a frozen network with trainable low-rank changes to its kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax, random

from fnn.core import arguments, tree, weights
from fnn.core.calling import apply_child, walk
from fnn.core.combining import Flow, Visit
from fnn.core.context import INFERENCE, Context, carry_mask, salt
from fnn.core.fields import not_negative, positive
from fnn.core.layer import Initializer, Layer, Params, State
from fnn.core.tree import SpecTree, Tree
from fnn.core.weights import check_patterns
from fnn.layers.wrappers import Frozen
from fnn.runtime.patterns import matches_any


class Kernel(NamedTuple):
    """A weight of `inner` that is changed."""

    path: tree.Path
    shape: tuple[int, ...]  # (*copies, ..., out)
    copies: int  # the number of leading axes of stacked copies


class LoRA(Flow):
    """`inner` with W + alpha / rank * A @ B in place of each kernel W; only A and B are trained.

    Weights: those of `inner` under `inner`, frozen (no gradient, no optimizer state, no batch
    statistics). For each kernel `(..., out)`, under `lora` and its path: `a (..., rank)`, random,
    and `b (rank, out)`, zeros, so that the initial outputs are those of `inner`. `alpha` is `rank`
    by default. `patterns` selects the weights to change, among the trainable weights of `inner`
    with at least two axes, and the int8 ones of `Quantized`: `("**/attention/**",)` for attention
    only.

    `LoRA(model, rank=8)` takes over the trained weights of a model. Insert other weights with
    `params = {**params, "inner": pretrained}`. `merge` adds the trained changes to the weights of
    `inner`, so that inference costs nothing extra.
    Raises ValueError for wrong arguments, and in `init` if the patterns match no such weight
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
        check_patterns(self, "patterns", self.patterns)

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        with self.without_policy():
            return (("inner", Frozen(self.inner)),)

    def flow(self, x: Tree, visit: Visit) -> Tree:
        ((_, frozen),) = self.children()
        return visit("inner", frozen, x)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        params, state = super().init(key, x)
        leaves: list[tuple[tree.Path, Array]] = []
        for path, shape, copies in self._chosen(params["inner"]):
            own = random.fold_in(key, salt("/".join(path)))
            stacked = shape[:copies]
            a_shape = (*shape[copies:-1], self.rank)
            b_shape = (*stacked, self.rank, shape[-1])
            # A key for each copy, so that the scale of `a` is that of a single layer.
            draw = _over_copies(self._draw_a(a_shape), copies)
            a = draw(random.split(own, stacked))  # (*copies, ..., rank)
            b = self.weight("b", own, b_shape)  # (*copies, rank, out)
            leaves.append(((*path, "a"), a))
            leaves.append(((*path, "b"), b))
        return {**params, "lora": tree.unflatten(leaves)}, state

    def _draw_a(self, shape: tuple[int, ...]) -> Callable[[Array], Array]:
        return lambda key: self.weight("a", key, shape)

    def _chosen(self, params: Params) -> list[Kernel]:
        """The weights to change; raises ValueError if there are none."""
        trainable, fixed = weights.split(self.inner, params)
        layers = [(path, copies) for path, _, copies in walk(self.inner)]
        chosen = []
        eight_bits = [(p, w) for p, w in tree.flatten(fixed) if w.dtype == "int8"]
        for path, weight in (*tree.flatten(trainable), *eight_bits):
            copies = max(n for outer, n in layers if path[: len(outer)] == outer)
            matches = matches_any(self.patterns, "/".join(path))
            if matches and weight.ndim - copies >= 2:
                chosen.append(Kernel(path, weight.shape, copies))
        if not chosen:
            known = ["/".join(path) for path, _ in tree.flatten(params)]
            expected = "to match a trainable weight with at least two axes, out of "
            expected += ", ".join(known) or "no weights"
            raise arguments.wrong(self, "patterns", expected, self.patterns)
        return chosen

    def apply(  # type: ignore[override]
        self, params: Params, state: State, x: Tree, ctx: Context = INFERENCE
    ) -> tuple[Tree, State]:
        x, ctx = carry_mask(x, ctx.replace(frozen=True))
        frozen = lax.stop_gradient(params["inner"])
        changed = {"inner": self._changed(frozen, params["lora"])}
        y, after = apply_child("inner", self.inner, changed, state, x, ctx)
        return y, {"inner": after}

    def merge(self, params: Params) -> Params:
        """The weights with which `inner` alone computes the outputs of this layer."""
        return self._changed(params["inner"], params["lora"])

    def _changed(self, params: Params, lora: Params) -> Params:
        """The weights of `inner` plus the low-rank changes."""
        scale = 1.0
        if self.alpha is not None:
            scale = self.alpha / self.rank
        kernels = dict.fromkeys(path[:-1] for path, _ in tree.flatten(lora))
        for path in kernels:
            kernel = tree.get(params, path)
            pair = tree.get(lora, path)
            product = _over_copies(jnp.matmul, pair["b"].ndim - 2)
            change = scale * product(pair["a"], pair["b"])  # (*copies, ..., out)
            if kernel.dtype == "int8":  # added to the outputs of the quantized kernel
                path = (*path[:-1], f"{path[-1]}_change")
                kernel = jnp.zeros((), change.dtype)
            kernel = kernel + change.astype(kernel.dtype)
            params = tree.put(params, path, kernel)
        return params


def _over_copies(function: Callable[..., Array], copies: int) -> Callable[..., Array]:
    """`function` mapped over the leading axes of stacked copies."""
    for _ in range(copies):
        function = jax.vmap(function)
    return function
