"""Subject: a layer under test with inputs and weights; runs are cached and compiled once."""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from fnn.core.calling import call, initialize
from fnn.core.combining import Flow
from fnn.core.context import Context, Masked, is_masked, leading, strip_masks
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import SpecTree, Tree

Weights = tuple[Params, State]


class EagerRun(NamedTuple):
    """A run without compilation; its arguments are (params, state, x)."""

    results: tuple[Tree, State]
    arguments_before: Tree
    arguments_after: Tree


class Program(NamedTuple):
    """A traced run: its jaxpr, and the arrays captured from outside."""

    jaxpr: str
    constants: list[Array]


@dataclasses.dataclass(eq=False, repr=False)
class Subject:
    """A layer with inputs `x`, and weights that hide no mistake.

    `x` is an array or a tuple of arrays, batch first, plain or `Masked`. `causal`: the layer
    guarantees not to look ahead. `path` are the names of the layers around it.
    """

    layer: Layer
    x: Tree
    key: Array
    causal: bool = False
    path: tuple[str, ...] = ()

    @functools.cached_property
    def weights(self) -> Weights:
        """(params, state) for the tests."""
        return self.random_weights(0)

    def random_weights(self, seed: int) -> Weights:
        """Fresh weights with 10 % noise: none is exactly 0 or 1, and signs are kept."""
        key = jax.random.fold_in(self.key, seed)
        params, state = initialize(self.layer, key, self.x)
        draw = np.random.default_rng(seed).normal

        def with_noise(a: Array) -> Array:
            if not is_float(a):
                return a
            weight = np.asarray(a)  # NumPy compiles nothing
            size = np.where(weight == 0, 1, np.abs(weight))
            noise = 0.1 * size * draw(size=a.shape)
            noisy: Array = jax.device_put((weight + noise).astype(a.dtype))
            return noisy

        return jax.tree.map(with_noise, params), state

    def run(
        self,
        params: Params,
        state: State,
        x: Tree,
        train: bool = False,
        rows: Array | None = None,
    ) -> tuple[Tree, State]:
        """(outputs, new state), with masks, as inside a network."""
        context = Context(train=train, rows=rows)
        if train:
            context = context.replace(key=self.key)
        return call(self.layer, params, state, x, context)

    def compiled(
        self,
        params: Params,
        state: State,
        x: Tree,
        train: bool = False,
        rows: Array | None = None,
    ) -> tuple[Tree, State]:
        """`run`, compiled once for each mode and shape."""
        # A default left out would be another program to JAX than the same value passed.
        return self._compiled(params, state, x, train, rows)

    @functools.cached_property
    def _compiled(self) -> Callable[..., tuple[Tree, State]]:
        return jit(self.run, static_argnums=3)

    def outputs(self, x: Tree) -> Tree:
        """The outputs of the compiled layer in inference."""
        y, _ = self.compiled(*self.weights, x)
        return y

    def eager(self, train: bool) -> EagerRun:
        """`run` without compilation, called once for each mode."""
        if train not in self._eager:
            # NumPy arrays, since a layer could write to them.
            arguments: Tree = (*self.weights, self.x)
            arguments = jax.tree.map(np.array, arguments)
            before = copy.deepcopy(arguments)
            params, state, x = arguments
            results = self.run(params, state, x, train)
            self._eager[train] = EagerRun(results, before, arguments)
        return self._eager[train]

    @functools.cached_property
    def _eager(self) -> dict[bool, EagerRun]:
        return {}

    def program(self, train: bool) -> Program:
        """The program of `run`, traced once for each mode."""
        if train not in self._programs:
            self._programs[train] = self.traced(train)
        return self._programs[train]

    @functools.cached_property
    def _programs(self) -> dict[bool, Program]:
        return {}

    def traced(self, train: bool) -> Program:
        """The program of `run`, traced now."""

        def run(
            params: Params,
            state: State,
            x: Tree,
        ) -> tuple[Tree, State]:
            return self.run(params, state, x, train)

        trace = jax.make_jaxpr(run)
        program = trace(*self.weights, self.x)
        # Two traces of the same program have objects at different addresses.
        jaxpr = re.sub("0x[0-9a-f]+", "", str(program))
        return Program(jaxpr, program.consts)

    @functools.cached_property
    def trains(self) -> bool:
        """Whether the layer computes something else in training than in inference."""
        training = self.program(True)
        inference = self.program(False)
        return training.jaxpr != inference.jaxpr

    @property
    def modes(self) -> list[bool]:
        """The values of `train` that make a difference."""
        if self.trains:
            return [False, True]
        return [False]

    @property
    def batch(self) -> int:
        """The number of examples."""
        first = jax.tree.leaves(self.x)[0]
        return len(first)

    @functools.cached_property
    def masked_x(self) -> Tree:
        """The inputs; sequences get masks if none is given and the layer accepts masks."""
        if masked_leaves(self.x):
            return self.x
        # Images with channels first have no time axis in place of a mask's.
        channels_first = getattr(self.layer, "data_format", None) == "channels_first"
        if channels_first or self.layer.masking == "refuse":
            return self.x
        return jax.tree.map(_masked, self.x)

    def parts(self) -> Iterator[Subject]:
        """The layers inside, each with its inputs and weights there."""
        if isinstance(self.layer, Flow):
            return iter(self._parts_of_flow(self.layer))
        if hasattr(self.layer, "inside"):
            x = self.layer.inside(self.x)
            return iter(self._parts_of_wrapper(x))
        return iter(())

    def _parts_of_flow(self, layer: Flow) -> list[Subject]:
        params, state = self.weights
        parts: list[Subject] = []

        def visit(
            name: str,
            child: Layer,
            x: Tree,
        ) -> Tree:
            weights = (params[name], state[name])
            part = self._part(name, child, x, weights)
            parts.append(part)
            y, _ = part.run(*part.weights, x)
            return y

        layer.flow(self.x, visit)
        return parts

    def _parts_of_wrapper(self, x: Tree) -> list[Subject]:
        params, state = self.weights
        parts = []
        for name, child in self.layer.children():
            weights = (params, state)
            if name is not None:
                weights = (params[name], state[name])
            if self.layer.stacked:
                # The weights of the first copy.
                weights = jax.tree.map(lambda a: a[0], weights)
            part = self._part(name or "", child, x, weights)
            parts.append(part)
        return parts

    def _part(
        self,
        name: str,
        layer: Layer,
        x: Tree,
        weights: Weights,
    ) -> Subject:
        path = self.path
        if name:
            path = (*path, name)
        part = Subject(layer, x, self.key, self.causal, path)
        part.weights = weights
        return part


def jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.jit` without expensive optimizations, for thousands of small programs."""
    quick = {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    }
    return jax.jit(function, compiler_options=quick, **options)


def is_float(a: SpecTree) -> bool:
    """Whether an array has a floating-point dtype."""
    return jnp.issubdtype(a.dtype, jnp.floating)


def on_host(tree: Tree) -> Tree:
    """The arrays as those of NumPy, whose operations compile nothing; random keys stay."""

    def copied(a: Array) -> Array | np.ndarray:
        is_key = jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
        return a if is_key else np.asarray(a)

    return jax.tree.map(copied, tree)


def take(
    a: ArrayLike,
    indices: Sequence[int] | np.ndarray,
    axis: int = 0,
) -> np.ndarray:
    """`jnp.take` without compilation."""
    return np.take(np.asarray(a), indices, axis)


def inputs_like(x: SpecTree, key: Array) -> Tree:
    """`x` with random values in place of specs and of constant floating-point arrays.

    Equal values would hide any mistake in order.
    """
    bits = jax.random.key_data(key)
    seed = np.asarray(bits)
    draw = np.random.default_rng(seed).normal

    def varied(a: Any) -> Array:
        if isinstance(a, jax.ShapeDtypeStruct):
            a = jnp.zeros(a.shape, a.dtype)
        array = jnp.asarray(a)
        if not is_float(array):
            # Integers may be class numbers or ids.
            return array
        first = array.ravel()[0]
        if bool(jnp.all(array == first)):
            values = draw(size=array.shape)
            return jnp.asarray(values, array.dtype)
        return array

    def with_mask(a: Any) -> Tree:
        if not is_masked(a):
            return varied(a)
        mask = jnp.asarray(a.mask)
        return Masked(varied(a.values), mask)

    return jax.tree.map(with_mask, x, is_leaf=is_masked)


def _masked(a: Array) -> Array | Masked:
    """A sequence with one masked step in the first example and two in the last."""
    # Not a sequence of two or more steps.
    if a.ndim < 3 or not is_float(a):
        return a
    if a.shape[1] < 2:
        return a
    batch_and_time = a.shape[:2]
    mask = np.ones(batch_and_time, bool)
    middle = a.shape[1] // 2
    mask[0, -1] = False
    mask[-1, 0] = False
    mask[-1, middle] = False
    return Masked(a, jnp.asarray(mask))


def where_valid(a: Masked, otherwise: float) -> np.ndarray:
    """The values, with `otherwise` in every masked step."""
    mask = np.asarray(a.mask)
    mask = leading(mask, a.values.ndim)
    values = np.where(mask, a.values, otherwise)
    return values.astype(a.values.dtype)


def masked_leaves(x: Tree) -> list[Masked]:
    """The `Masked` values in inputs or outputs."""
    leaves = jax.tree.leaves(x, is_leaf=is_masked)
    return list(filter(is_masked, leaves))


def plain(x: Tree) -> list[Any]:
    """The arrays in inputs or outputs, without masks."""
    return jax.tree.leaves(strip_masks(x))
