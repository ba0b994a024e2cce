"""Devices: batches are divided over those of the distribution in force."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import (
    AxisType,
    NamedSharding,
    Sharding,
    SingleDeviceSharding,
)

from fnn.runtime import processes
from fnn.runtime.layouts import Distribution, Shared, current
from fnn.runtime.placement import (
    Tree,
    partition,
    sharding,
    spec_of,
    spec_with_sharding,
)


def divide(
    batch: Tree,
    weights: Tree,
    axis: int = 0,
) -> Tree:
    """`batch`, whose examples are along `axis`, over the devices of the distribution in force.

    It is returned as it is if the user put any of its arrays on devices, or a weight on others
    than these. If the devices do not divide the number of examples evenly, it stays on one
    device, or is replicated if the weights lie on the mesh.
    """
    distribution = current()
    if distribution is None or not _is_free(batch):
        return batch
    # A sharding takes long to make, so once for all leaves.
    whole = distribution.whole
    divided = distribution.divided(axis)
    on_mesh = False
    for leaf in jax.tree.leaves(weights):
        if _is_placed(leaf):
            if not distribution.has(leaf):
                return batch
            on_mesh = True
    sizes = [leaf.shape[axis] for leaf in jax.tree.leaves(batch)]
    if all(size % distribution.parts == 0 for size in sizes):
        return processes.put(batch, divided)
    if on_mesh:
        return processes.put(batch, whole)
    return batch


def follow(batch: Tree, arrays: Tree) -> Tree:
    """`arrays` moved to the devices of a batch: replicated on each device that has a part of it.

    Arrays that lie on the mesh of the distribution, or that the user put on devices, stay there.
    """
    distribution = current()
    if distribution is None:
        return arrays
    there = _sharding_of_batch(batch)
    whole = distribution.whole
    if isinstance(there, NamedSharding) and there.mesh == distribution.mesh:
        return _put(arrays, whole, lambda a: not _is_placed(a))
    if isinstance(there, NamedSharding):
        there = NamedSharding(there.mesh, partition())
    elif not isinstance(there, SingleDeviceSharding):
        return arrays
    return _put(arrays, there, distribution.has)


def _sharding_of_batch(batch: Tree) -> Sharding | None:
    """The sharding of the first array that somebody put on devices, if there is one."""
    for leaf in jax.tree.leaves(batch):
        if _is_placed(leaf):
            found: Sharding = leaf.sharding
            return found
    return None


def _put(
    arrays: Tree,
    place: Sharding,
    moves: Callable[[Any], bool],
) -> Tree:
    """`arrays` with those for which `moves` holds put on the devices of a sharding."""

    def put(array: jax.Array) -> jax.Array:
        if moves(array):
            array = processes.put(array, place)
        return array

    return jax.tree.map(put, arrays)


def beside(x: Tree, arrays: Tree) -> Tree:
    """`arrays`, replicated on the devices over which `x` is divided.

    Arrays that already lie on a mesh of explicit axes stay as they are.
    """
    for leaf in jax.tree.leaves(x):
        if spec_of(leaf) is not None:
            return _put(arrays, sharding(leaf, ()), lambda a: spec_of(a) is None)
    return follow(x, arrays)


def as_divided(batch: Tree, arrays: Tree) -> tuple[Tree, Tree]:
    """The shapes of a dispatch of steps, with the shardings that its arrays would have.

    The examples of `batch` are along its second axis.
    """
    distribution = current()
    if distribution is None:
        return batch, arrays
    whole = divided = distribution.whole
    sizes = [leaf.shape[1] for leaf in jax.tree.leaves(batch)]
    if all(size % distribution.parts == 0 for size in sizes):
        divided = distribution.divided(1)

    def on_mesh(array: Any, place: Sharding) -> jax.ShapeDtypeStruct:
        return spec_with_sharding(array.shape, array.dtype, sharding=place)

    batch = jax.tree.map(lambda leaf: on_mesh(leaf, divided), batch)
    arrays = jax.tree.map(
        lambda leaf: on_mesh(leaf, leaf.sharding if distribution.has(leaf) else whole),
        arrays,
    )
    return batch, arrays


def shared(batch: Tree, arrays: Tree) -> Shared | None:
    """The distribution in force, if a batch and all `arrays` lie on its mesh."""
    there = _mesh_of_batch(batch)
    if there is None:
        return None
    distribution = current()
    if distribution is None or distribution.mesh != there:
        return None
    leaves = jax.tree.leaves(arrays)
    if not all(map(distribution.has, leaves)):
        return None
    return Shared(distribution, tuple(leaf.sharding for leaf in leaves))


def _mesh_of_batch(batch: Tree) -> object:
    """The mesh on which the first array lies that lies on one."""
    for leaf in jax.tree.leaves(batch):
        found = getattr(leaf, "sharding", None)
        if isinstance(found, NamedSharding):
            return found.mesh
    return None


def undivided(arrays: Tree) -> Tree:
    """`arrays`, replicated if the distribution in force has divided them."""
    distribution = current()
    if distribution is None:
        return arrays
    return _put(arrays, distribution.whole, distribution.has)


def for_each_part(
    function: Callable[[Tree, Tree], tuple[Tree, Tree]],
    whole: Tree,
    examples: Tree,
) -> tuple[Tree, Tree]:
    """`function(whole, examples) -> (results by example, other results)`, part by part.

    If the batch is divided, each device computes its own examples, and gradients with respect to
    `whole` are summed over the devices once, at the end. XLA alone would sum them in each step of
    a loop. The function must treat examples independently, and must not close over traced arrays.
    """
    distribution = current()
    if distribution is None or not _can_map(distribution, examples):
        return function(whole, examples)
    along = partition(distribution.batch_axis)
    everywhere = partition()
    # Without check_vma a gradient is summed where `whole` comes in, so outside of any loop.
    mapped = jax.shard_map(
        function,
        in_specs=(everywhere, along),
        out_specs=(along, everywhere),
        axis_names={distribution.batch_axis},
        check_vma=False,
    )
    return mapped(whole, examples)


def _can_map(distribution: Distribution, examples: Tree) -> bool:
    """Whether the mesh of this trace has the batch axis, and it divides the examples evenly."""
    mesh = jax.sharding.get_abstract_mesh()
    types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    if types.get(distribution.batch_axis) is not AxisType.Auto:
        return False
    sizes = [leaf.shape[0] for leaf in jax.tree.leaves(examples)]
    return all(size % distribution.parts == 0 for size in sizes)


def _is_free(batch: Tree) -> bool:
    """Whether no array of a batch is traced, or was put on a device by the user."""
    for leaf in jax.tree.leaves(batch):
        if isinstance(leaf, jax.core.Tracer) or _is_placed(leaf):
            return False
    return True


def _is_placed(array: object) -> bool:
    """Whether the devices of an array were chosen: by the user, or by `divide` and `follow`."""
    if not isinstance(array, jax.Array) or isinstance(array, jax.core.Tracer):
        return False
    if jax.distributed.is_initialized() and array.is_fully_addressable:
        # Several processes compute with arrays on the devices of all.
        return array.committed and not processes.are_several()
    return array.committed
