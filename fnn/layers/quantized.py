"""Quantized: a network whose large weights are stored in eight bits, for inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field
from typing import NamedTuple

import jax
from jax import Array

from fnn.core import tree
from fnn.core.calling import call, walk
from fnn.core.combining import PassingWrapper
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import Path, SpecTree, Tree
from fnn.layers.dense import Dense
from fnn.layers.einsum import EinsumDense
from fnn.layers.embedding import Embedding
from fnn.layers.shared import eight_bits
from fnn.runtime.placement import gathered


class Stored(NamedTuple):
    """A weight that is stored in eight bits: its path, and the axes that share a scale."""

    path: Path
    axes: tuple[int, ...]
    copies: int  # the number of leading axes of stacked copies


class Quantized(PassingWrapper):
    """`inner` with the weights of `Dense`, `EinsumDense` and `Embedding` as int8 with scales.

    kernel = round(127 / max|w| * w), with a scale for each output (`kernel_scale`), for each id of
    an `Embedding` (`embeddings_scale`). These weights stay fixed, others learn. With `int8_inputs`
    the inputs of the products are quantized too, each row by its maximum, as in Keras; False keeps
    them as they are, which is more exact. `paths` are those of the layers to quantize; None: all.

    `model.quantize("int8")` quantizes a trained model; `init` quantizes fresh weights, and
    `quantize(params)` those of `inner`. `LoRA(Quantized(...))` trains changes to the kernels.

    >>> from fnn.layers import Dense
    >>> params, state = Quantized(Dense(3)).init(jax.random.key(0), jnp.ones((1, 4)))
    >>> jax.tree.map(lambda a: str(a.dtype), params)
    {'bias': 'float32', 'kernel': 'int8', 'kernel_scale': 'float32'}
    """

    inner: Layer
    mode: str = one_of(("int8",), default="int8")
    int8_inputs: bool = field(default=True, kw_only=True)
    paths: tuple[str, ...] | None = field(default=None, kw_only=True)

    @property
    def _body(self) -> Layer:
        """The layer whose layers are those of a model of this one."""
        return self.inner

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        params, state = super().init(key, x)
        return self.quantize(params), state

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        ctx = ctx.replace(stored=eight_bits.EightBits(self.int8_inputs))
        # The scales of a divided weight would be divided along another axis than the product.
        return call(self.inner, gathered(params), state, x, ctx)

    def quantize(self, params: Params) -> Params:
        """The weights of `inner`, with those that are stored in eight bits quantized."""
        for path, axes, copies in self._stored():
            *outer, name = path
            branch = tree.get(params, tuple(outer))
            if name not in branch:  # tied to those of another layer
                continue
            run = _over_copies(axes, copies)
            quantized, scale = run(branch[name])
            branch = {**branch, name: quantized, f"{name}_scale": scale}
            params = tree.put(params, tuple(outer), branch) if outer else branch
        return params

    def integer_weights(self) -> Iterator[Path]:
        for path, _, _ in self._stored():
            yield path
            yield (*path[:-1], f"{path[-1]}_scale")

    def _stored(self) -> Iterator[Stored]:
        for path, layer, copies in walk(self.inner):
            if self.paths is not None and "/".join(path) not in self.paths:
                continue
            if type(layer) is Dense:
                yield Stored((*path, "kernel"), (0,), copies)
            elif type(layer) is EinsumDense:
                yield Stored((*path, "kernel"), layer.summed_axes, copies)
            elif type(layer) is Embedding:
                yield Stored((*path, "embeddings"), (1,), copies)


def _over_copies(
    axes: tuple[int, ...], copies: int
) -> Callable[[Array], tuple[Array, Array]]:
    """`eight_bits.quantize` along `axes`, mapped over the leading axes of stacked copies."""

    def run(weight: Array) -> tuple[Array, Array]:
        return eight_bits.quantize(weight, axes)

    for _ in range(copies):
        run = jax.vmap(run)
    return run
