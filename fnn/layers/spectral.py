"""Spectral normalization: a layer with its kernel divided by the largest singular value."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax, random

from fnn.core import arguments
from fnn.core.arguments import Rule
from fnn.core.calling import call, walk
from fnn.core.combining import Wrapper
from fnn.core.context import INFERENCE, Context, salt
from fnn.core.fields import positive
from fnn.core.layer import Params, State
from fnn.core.tree import SpecTree, Tree
from fnn.initializers.drawn import TruncatedNormal
from fnn.runtime.arithmetic import unit_length
from fnn.runtime.placement import place


def _has_one_kernel(layer: Wrapper) -> bool:
    # Layers at the empty path have their weights where `inner` has its own.
    same_path = [layer for path, layer, _ in walk(layer.inner) if not path]
    return not any(layer.stacked for layer in same_path)


class SpectralNormalization(Wrapper):
    """`inner` with its kernel divided by an estimate of its largest singular value in training.

    The layer then makes no input much longer. It computes W / sigma, where sigma = v W u^T after
    `power_iterations` times v = u W^T / |u W^T| and u = v W / |v W|; all axes of the kernel but the
    last count as one. Weights: those of `inner`, at the same paths; state: `vector_u (1, last
    axis)`, updated in training, so that one iteration a step is enough.

    Inference computes with the kernel as it is stored, as in Keras. Only the optimizer changes
    `kernel`, as in Keras's `fit` on JAX, so that the outputs of inference are not those of training
    (on TensorFlow and PyTorch Keras stores the quotient at each step of training); with
    `Training(SpectralNormalization(layer))` inference divides too. No gradient goes through u, v.
    Raises ValueError unless `power_iterations` is a positive integer and `inner` itself has a
    weight `kernel` or `embeddings` (Miyato et al. 2018, section 2.1 and appendix A).

    >>> from fnn.layers import Dense
    >>> layer = SpectralNormalization(Dense(3), power_iterations=9)
    >>> params, state = layer.init(jax.random.key(0), jnp.eye(3))
    >>> y, _ = layer.apply(params, state, jnp.eye(3), fnn.Context(train=True))
    >>> bool(abs(jnp.linalg.norm(y, 2) - 1) < 0.05)
    True
    """

    field_rules = (
        Rule(
            "inner",
            _has_one_kernel,
            "to be a layer with one kernel, not one for each copy",
            "e.g. Repeat(SpectralNormalization(layer), 3)",
        ),
    )

    # Weights of `inner`, at the same path, that Keras counts as the wrapper's own.
    shared_with_inner = ("kernel", "embeddings")

    power_iterations: int = positive(default=1)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        params, state = super().init(key, x)
        if not set(self.shared_with_inner) & set(params):
            expected = "to be a layer with a weight 'kernel' or 'embeddings'"
            advice = f"wrap the layers inside it, which has {sorted(params)}"
            raise arguments.wrong(self, "inner", expected, self.inner, advice)
        kernel = params[_kernel_name(params)]
        draw = TruncatedNormal(stddev=0.02)
        key = random.fold_in(key, salt("vector_u"))
        shape = (1, kernel.shape[-1])
        vector = draw(key, shape, kernel.dtype)
        return params, {**state, "vector_u": vector}

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        inner_state = dict(state)
        vector = inner_state.pop("vector_u")  # (1, last axis)
        if ctx.train:
            params, updated = self._divided(params, vector)
            if not ctx.frozen:
                vector = updated
        y, inner_state = call(self.inner, params, inner_state, x, ctx)
        return y, {**inner_state, "vector_u": vector}

    def _divided(self, params: Params, vector: Array) -> tuple[Params, Array]:
        """The weights with the kernel divided, and the vector after the power iterations."""
        name = _kernel_name(params)
        kernel = params[name].astype(vector.dtype)
        sigma, updated = largest_singular_value(kernel, vector, self.power_iterations)
        is_zero = jnp.all(kernel == 0)  # sigma is 0 then, and stays out of the quotient
        divided = kernel / jnp.where(is_zero, 1, sigma)
        divided = divided.astype(params[name].dtype)
        updated = jnp.where(is_zero, vector, updated)
        return {**params, name: divided}, updated


def _kernel_name(params: Params) -> str:
    if "kernel" in params:
        return "kernel"
    return "embeddings"


def largest_singular_value(
    kernel: Array,
    u: Array,
    iterations: int,
) -> tuple[Array, Array]:
    """(sigma, u) of `kernel (..., columns)` after power iterations from `u (1, columns)`."""
    matrix = place(kernel, ())  # whole on every device
    matrix = matrix.reshape(-1, kernel.shape[-1])  # (rows, columns)
    dtype = jnp.result_type(u, matrix)
    fixed = lax.stop_gradient(matrix).astype(dtype)

    def iterate(_: Array, vectors: tuple[Array, Array]) -> tuple[Array, Array]:
        v = unit_length(vectors[0] @ fixed.T, least=1e-14)  # (1, rows)
        u = unit_length(v @ fixed, least=1e-14)  # (1, columns)
        return u, v

    u = lax.stop_gradient(u).astype(dtype)
    start = (u, u @ fixed.T)
    u, v = lax.fori_loop(0, iterations, iterate, start)
    sigma = (v @ matrix @ u.T)[0, 0]
    return sigma, u
