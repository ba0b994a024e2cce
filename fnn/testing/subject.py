"""Subject: a layer under test, inputs for it, weights, and its runs, each compiled once."""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.calling import call, initialize
from fnn.core.combining import Flow
from fnn.core.context import Context
from fnn.core.layer import Layer, Params, State
from fnn.core.masking import Masked, is_masked, leading, strip_masks


@dataclasses.dataclass(eq=False, repr=False)
class Subject:
    """A layer with inputs `x` and weights that hide no mistake.

    `x` is an array or a tuple of them, the batch in front, plain or `Masked`. `causal` says that
    the layer promises not to look ahead. `path` are the names of the layers around it.
    """

    layer: Layer
    x: Any
    key: Array
    causal: bool = False
    path: tuple[str, ...] = ()

    @functools.cached_property
    def weights(self) -> tuple[Params, State]:
        """(params, state) with which it is tested."""
        return self.random_weights(0)

    def random_weights(self, seed: int) -> tuple[Params, State]:
        """Fresh weights moved by a tenth: no zero or one is left, and signs stay as they are."""
        key = jax.random.fold_in(self.key, seed)
        params, state = initialize(self.layer, key, self.x)
        draw = np.random.default_rng(seed).normal

        def moved(a: Array) -> Array:
            size = jnp.where(a == 0, 1, jnp.abs(a))
            return (
                (a + 0.1 * size * draw(size=a.shape)).astype(a.dtype)
                if is_float(a)
                else a
            )

        return jax.tree.map(moved, params), state

    def run(
        self,
        params: Params,
        state: State,
        x: Any,
        train: bool = False,
        rows: Any = None,
    ) -> tuple[Any, State]:
        """(outputs, new state), masks and all, as inside a network."""
        context = Context(train=train, key=self.key if train else None, rows=rows)
        return call(self.layer, params, state, x, context)

    @functools.cached_property
    def compiled(self) -> Callable[..., tuple[Any, State]]:
        """`run`, compiled once for each mode and shape."""
        return jit(self.run, static_argnames="train")

    def eager(self, train: bool) -> tuple[Any, Any, Any]:
        """What `run` returns without compiling; what it was given, before and after the call."""
        if train not in self._eager:
            given: Any = jax.tree.map(
                np.array, (*self.weights, self.x)
            )  # it can be written to
            (params, state, x), before = given, copy.deepcopy(given)
            self._eager[train] = self.run(params, state, x, train), before, given
        return self._eager[train]

    @functools.cached_property
    def _eager(self) -> dict[bool, tuple[Any, Any, Any]]:
        return {}

    def program(self, train: bool) -> tuple[str, list[Any]]:
        """What `run` computes, as text, and the arrays that it took from elsewhere."""
        run = lambda params, state, x: self.run(params, state, x, train)
        program = jax.make_jaxpr(run)(*self.weights, self.x)
        return re.sub(
            "0x[0-9a-f]+", "", str(program)
        ), program.consts  # without addresses

    @functools.cached_property
    def trains(self) -> bool:
        """Whether training is another computation than inference."""
        return self.program(True)[0] != self.program(False)[0]

    @property
    def modes(self) -> list[bool]:
        """The values of `train` that make a difference."""
        return [False, True] if self.trains else [False]

    @property
    def batch(self) -> int:
        """How many examples there are."""
        return jax.tree.leaves(self.x)[0].shape[0]

    @functools.cached_property
    def masked_x(self) -> Any:
        """The inputs with masks: as given, or on sequences where the layer takes masks at all."""
        if any(map(is_masked, jax.tree.leaves(self.x, is_leaf=is_masked))):
            return self.x
        # What has its channels first has no steps where a mask has them.
        first = getattr(self.layer, "data_format", None) == "channels_first"
        return (
            self.x
            if first or self.layer.masking == "refuse"
            else jax.tree.map(_masked, self.x)
        )

    def parts(self) -> Iterator[Subject]:
        """The layers inside, each with the inputs and weights that it has there."""
        layer, (params, state) = self.layer, self.weights
        found: list[Subject] = []

        def visit(name: str, child: Layer, x: Any) -> Any:
            found.append(self._part(name, child, x, params[name], state[name]))
            return found[-1].run(*found[-1].weights, x)[0]

        if isinstance(layer, Flow):
            layer.flow(self.x, visit)
        elif hasattr(layer, "inside"):
            one = lambda part: (
                jax.tree.map(lambda a: a[0], part) if layer.stacked else part
            )
            x = layer.inside(self.x)
            for name, child in layer.children():
                pair = (params, state) if name is None else (params[name], state[name])
                found.append(self._part(name or "", child, x, *map(one, pair)))
        return iter(found)

    def _part(
        self, name: str, layer: Layer, x: Any, params: Params, state: State
    ) -> Subject:
        path = (*self.path, name) if name else self.path
        part = Subject(layer, x, self.key, self.causal, path)
        part.weights = params, state
        return part


def jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.jit` without the costly optimizations: a thousand small programs are compiled."""
    quick = {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    }
    return jax.jit(function, compiler_options=quick, **options)


def is_float(a: Any) -> bool:
    """Whether the numbers of an array are floating-point."""
    return jnp.issubdtype(a.dtype, jnp.floating)


def take(a: Any, indices: Any, axis: int = 0) -> Any:
    """`jnp.take` that compiles nothing."""
    return jnp.asarray(np.take(np.asarray(a), indices, axis))


def inputs_like(x: Any, key: Array) -> Any:
    """`x` with random numbers where it has none, or the same one everywhere.

    In equal numbers every mistake of order hides.
    """
    draw = np.random.default_rng(np.asarray(jax.random.key_data(key))).normal

    def made(a: Any) -> Any:
        empty = isinstance(a, jax.ShapeDtypeStruct)
        a = jnp.zeros(a.shape, a.dtype) if empty else jnp.asarray(a)
        alike = is_float(a) and bool(jnp.all(a == a.ravel()[0]))
        return jnp.asarray(draw(size=a.shape), a.dtype) if alike else a

    return jax.tree.map(
        lambda a: (
            Masked(made(a.values), jnp.asarray(a.mask)) if is_masked(a) else made(a)
        ),
        x,
        is_leaf=is_masked,
    )


def _masked(a: Any) -> Any:
    """A sequence with a step masked in the first example, two in the last."""
    if a.ndim < 3 or not is_float(a) or a.shape[1] < 2:
        return a
    mask = np.ones(a.shape[:2], bool)
    mask[0, -1] = mask[-1, 0] = mask[-1, a.shape[1] // 2] = False
    return Masked(a, jnp.asarray(mask))


def where_real(a: Masked, otherwise: float) -> Array:
    """The values, with `otherwise` in every masked step."""
    mask = leading(np.asarray(a.mask), a.values.ndim)
    return jnp.asarray(np.where(mask, a.values, otherwise), a.values.dtype)


def plain(x: Any) -> list[Any]:
    """The arrays among the inputs or outputs, without masks."""
    return jax.tree.leaves(strip_masks(x))
