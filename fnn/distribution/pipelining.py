"""Pipelining: the copies of `Repeat` in stages, one after the other on different devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh

from fnn.core.calling import call
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Params, State
from fnn.core.tree import Tree
from fnn.distribution.mesh import DeviceMesh, mesh_of
from fnn.layers.repeat import Repeat
from fnn.runtime import convolutions
from fnn.runtime.placement import partition

Apply: TypeAlias = Callable[..., tuple[Array, State]]
# A function that JAX does not annotate.
send: Callable[[Array, str, list[tuple[int, int]]], Array] = lax.ppermute


def pipeline(
    layer: Repeat,
    device_mesh: DeviceMesh | Mesh,
    *,
    axis: str = "stage",
    microbatches: int | None = None,
) -> Apply:
    """`layer.apply` with the copies divided over an axis of a mesh: a device has some of them.

    A batch is cut into `microbatches`, by default as many as there are stages. While a device
    computes its copies for one, the device before it computes its own for the next; of
    microbatches + stages - 1 turns a device is idle in stages - 1. The numbers are those of
    `layer.apply`, but dropout draws others. Divide the weights along their first axis, by
    `jax.device_put` with `PartitionSpec(axis)`. Inputs are one array without mask, and the layer
    has no state. Raises ValueError unless the stages divide the copies and the
    microbatches the batch. (GPipe, Huang et al. 2019.)

    >>> blocks = fnn.layers.Repeat(fnn.layers.Dense(4, "tanh"), 8)
    >>> x = jnp.ones((6, 4))
    >>> params, state = blocks.init(jax.random.key(0), x)
    >>> mesh = fnn.distribution.DeviceMesh((4, 2), ("stage", "data"))
    >>> y, _ = jax.jit(fnn.distribution.pipeline(blocks, mesh, microbatches=3))(params, state, x)
    >>> bool(jnp.allclose(y, blocks.apply(params, state, x)[0], atol=1e-6))
    True
    """
    mesh = mesh_of(device_mesh)
    if axis not in mesh.axis_names or layer.times % mesh.shape[axis]:
        raise ValueError(
            f"pipeline: expected an axis {axis!r} whose size divides times={layer.times}, received "
            f"a mesh with {dict(mesh.shape)}; use another mesh, or another number of copies"
        )
    stages = mesh.shape[axis]
    number = microbatches or stages

    def apply(
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        _check(x, state, ctx, number)
        parts = x.reshape(number, -1, *x.shape[1:])  # (microbatches, examples, ...)

        def stage(params: Params, state: State, parts: Array) -> Array:
            return _stage(layer, params, state, parts, ctx, (axis, stages))

        run = jax.shard_map(
            stage,
            mesh=mesh,
            in_specs=(partition(axis), partition(axis), partition()),
            out_specs=partition(axis),
            axis_names={axis},
            check_vma=False,
        )
        # (stages, microbatches, examples, ...), of which the last stage has the results.
        y: Array = run(params, state, parts)[-1]
        return y.reshape(x.shape), state

    return apply


def _check(
    x: Any,
    state: State,
    ctx: Context,
    number: int,
) -> None:
    if not hasattr(x, "shape") or ctx.mask is not None or jax.tree.leaves(state):
        raise ValueError(
            "pipeline: expected one array without mask, and a layer without state, received "
            "something else; use the layer's own apply"
        )
    if x.shape[0] % number:
        raise ValueError(
            f"pipeline: {number} microbatches do not divide a batch of {x.shape[0]} examples "
            "evenly; choose other microbatches"
        )


def _stage(
    layer: Repeat,
    params: Params,
    state: State,
    parts: Array,
    ctx: Context,
    place: tuple[str, int],
) -> Array:
    """What one device computes: its copies, for each microbatch when its turn comes.

    Only the last stage returns results: (1, microbatches, examples, ...).
    """
    axis, stages = place
    here, own = lax.axis_index(axis), layer.times // stages
    last = parts.shape[0] - 1

    def copies(x: Array, turn: Array) -> Array:
        moved = ctx
        if ctx.key is not None:
            key = jax.random.fold_in(ctx.key, turn - here)
            moved = ctx.replace(key=key)

        def step(x: Array, copy: tuple[Array, Params, State]) -> tuple[Array, None]:
            index, params, state = copy
            y, _ = call(layer.inner, params, state, x, moved.repeat(index))
            return y, None

        step = convolutions.in_loop(step)
        numbers = here * own + jnp.arange(own)
        y, _ = lax.scan(step, x, (numbers, params, state))
        return y

    def take_turn(carry: tuple[Array, Array], turn: Array) -> Tree:
        received, results = carry
        is_first = here == 0
        x = jnp.where(is_first, parts[jnp.minimum(turn, last)], received)
        y = copies(x, turn)
        # Before its first result the last stage writes to place 0, and writes again.
        done = jnp.clip(turn - (stages - 1), 0, last)
        results = lax.dynamic_update_index_in_dim(results, y, done, 0)
        ring = [(i, (i + 1) % stages) for i in range(stages)]
        return (send(y, axis, ring), results), None

    start = jnp.zeros_like(parts[0]), jnp.zeros_like(parts)
    turns = jnp.arange(last + stages)
    (_, results), _ = lax.scan(take_turn, start, turns)
    return results[None]
