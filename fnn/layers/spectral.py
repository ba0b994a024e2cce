"""Spectral normalization: a layer whose kernel is divided by its largest singular value."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, lax, random

from fnn.core import arguments
from fnn.core.arithmetic import unit_length
from fnn.core.calling import call, walk
from fnn.core.combining import Wrapper
from fnn.core.context import INFERENCE, Context, salt
from fnn.core.fields import positive
from fnn.core.layer import Params, State
from fnn.initializers.drawn import TruncatedNormal
from fnn.runtime.placement import place


class SpectralNormalization(Wrapper):
    """`inner` with its kernel divided by an estimate of the largest singular value of it.

    W / sigma, sigma = v W u^T, after `power_iterations` times v = u W^T / |u W^T| and
    u = v W / |v W|; all axes of the kernel but the last count as one. So the layer stretches no
    input by much more than 1. Weights: those of `inner`, where they are; `vector_u (1, last axis)`
    in the state, which training moves, so that one iteration a step is enough.

    Keras overwrites the kernel by the quotient in training and uses it as it is in inference. Here
    `kernel` stays what the optimizer made of it, and inference divides too, by the sigma that
    follows from the stored vector, which stays as it is then. No gradient goes through u and v.
    Raises ValueError unless `power_iterations` is an integer above 0 and `inner` has a
    `kernel` or `embeddings` of its own (Miyato et al. 2018, section 2.1 and appendix A).

    >>> from fnn.layers import Dense
    >>> layer = SpectralNormalization(Dense(3), power_iterations=9)
    >>> params, state = layer.init(jax.random.key(0), jnp.eye(3))
    >>> y, _ = layer.apply(params, state, jnp.eye(3))
    >>> bool(abs(jnp.linalg.norm(y, 2) - 1) < 0.05)
    True
    """

    power_iterations: int = positive(default=1)

    def validate(self) -> None:
        arguments.layer(self, self.inner, "as inner")
        if any(layer.stacked for path, layer, _ in walk(self.inner) if not path):
            raise ValueError(
                f"SpectralNormalization: expected a layer with one kernel, received {self.inner!r} "
                "with one for each copy; e.g. Repeat(SpectralNormalization(layer), 3)"
            )

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        params, state = super().init(key, x)
        if not {"kernel", "embeddings"} & set(params):
            raise ValueError(
                "SpectralNormalization: expected a layer with a weight 'kernel' or 'embeddings', "
                f"received {self.inner!r} with {sorted(params)}; wrap the layers inside it"
            )
        kernel = params[self._name(params)]
        draw = TruncatedNormal(stddev=0.02)
        vector = draw(
            random.fold_in(key, salt("vector_u")), (1, kernel.shape[-1]), kernel.dtype
        )
        return params, {**state, "vector_u": vector}

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        name, vector = self._name(params), state["vector_u"]
        kernel = params[name].astype(vector.dtype)
        sigma, moved = largest_singular_value(kernel, vector, self.power_iterations)
        empty = jnp.all(kernel == 0)
        divided = (kernel / jnp.where(empty, 1, sigma)).astype(params[name].dtype)
        if ctx.train and not ctx.frozen:
            vector = jnp.where(empty, vector, moved)
        rest = {part: leaf for part, leaf in state.items() if part != "vector_u"}
        y, after = call(self.inner, {**params, name: divided}, rest, x, ctx)
        return y, {**after, "vector_u": vector}

    def _name(self, params: Params) -> str:
        return "kernel" if "kernel" in params else "embeddings"


def largest_singular_value(
    kernel: Array, u: Array, iterations: int
) -> tuple[Array, Array]:
    """(sigma, u) of `kernel (..., columns)` after power iterations from `u (1, columns)`."""
    matrix = place(kernel, ()).reshape(-1, kernel.shape[-1])
    dtype = jnp.result_type(u, matrix)
    fixed = lax.stop_gradient(matrix).astype(dtype)

    def iterate(_: Any, pair: tuple[Array, Array]) -> tuple[Array, Array]:
        v = unit_length(pair[0] @ fixed.T, least=1e-14)
        return unit_length(v @ fixed, least=1e-14), v

    start = lax.stop_gradient(u).astype(dtype)
    u, v = lax.fori_loop(0, iterations, iterate, (start, start @ fixed.T))
    return (v @ matrix @ u.T)[0, 0], u
