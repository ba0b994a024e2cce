"""Devices that share the work: a batch divided over them, everything else whole on each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import jax
from jax import lax
from jax.sharding import (
    AxisType,
    Mesh,
    NamedSharding,
    PartitionSpec,
    SingleDeviceSharding,
)

from fnn.runtime.placement import sharding, spec_of


@dataclass(frozen=True)
class Distribution:
    """A mesh of devices, and the axis of it over which the examples of a batch are divided.

    >>> mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> Distribution(mesh).room(6)  # for 6 examples on 4 devices
    8
    """

    mesh: Mesh
    batch_axis: str = "batch"

    @property
    def parts(self) -> int:
        """Into how many parts a batch is divided."""
        return self.mesh.shape[self.batch_axis]

    @property
    def whole(self) -> NamedSharding:
        """The sharding of what lies whole on each device: weights, state, optimizer."""
        return NamedSharding(self.mesh, PartitionSpec())

    def divided(self, axis: int) -> NamedSharding:
        """The sharding of arrays whose examples are along `axis`."""
        return NamedSharding(self.mesh, PartitionSpec(*(None,) * axis, self.batch_axis))

    def room(self, size: int) -> int:
        """The least number of examples from `size` on that the devices divide."""
        return -(-size // self.parts) * self.parts

    def has(self, array: Any) -> bool:
        """Whether an array lies on this mesh."""
        sharding = getattr(array, "sharding", None)
        return isinstance(sharding, NamedSharding) and sharding.mesh == self.mesh

    def tracing(self) -> AbstractContextManager[Any]:
        """Within it traced functions know the axis of the batch (`for_each_part`)."""
        return jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh)

    def keep_whole(self, arrays: Any) -> Any:
        """Traced arrays, whole on each device."""
        return lax.with_sharding_constraint(arrays, self.whole)


# A function is called at the first use: it may ask JAX for its devices, which starts JAX.
_in_force: Distribution | Callable[[], Distribution | None] | None = None


def use(distribution: Distribution | Callable[[], Distribution | None] | None) -> None:
    """Divides batches from now on as this distribution says; None: not at all."""
    global _in_force
    _in_force = distribution


def current() -> Distribution | None:
    """The distribution in force, if there is one."""
    global _in_force
    if _in_force is not None and not isinstance(_in_force, Distribution):
        _in_force = _in_force()
    return _in_force


def divide(batch: Any, weights: Any, axis: int = 0) -> Any:
    """`batch`, whose examples are along `axis`, over the devices of the distribution in force.

    It stays as it is if any of its arrays, or of the weights that it meets, was put on devices by
    the user. A number of examples that the devices do not divide stays on one device, or lies whole
    on each if the weights do.
    """
    own = current()
    if own is None or not _is_free(batch):
        return batch
    whole, divided, on_mesh = own.whole, own.divided(axis), False
    for leaf in jax.tree.leaves(weights):
        if _is_placed(leaf):
            if leaf.sharding != whole:
                return batch
            on_mesh = True
    if all(leaf.shape[axis] % own.parts == 0 for leaf in jax.tree.leaves(batch)):
        return jax.device_put(batch, divided)
    return jax.device_put(batch, whole) if on_mesh else batch


def follow(batch: Any, arrays: Any) -> Any:
    """`arrays` where a batch lies: whole on each device that has a part of it.

    Arrays that the user put on devices stay there.
    """
    own = current()
    if own is None:
        return arrays
    there = next(
        (leaf.sharding for leaf in jax.tree.leaves(batch) if _is_placed(leaf)), None
    )
    whole = own.whole
    if isinstance(there, NamedSharding) and there.mesh == own.mesh:
        there, moves = whole, lambda a: not _is_placed(a)
    elif isinstance(there, NamedSharding | SingleDeviceSharding):
        moves = lambda a: _is_placed(a) and a.sharding == whole
        if isinstance(there, NamedSharding):
            there = NamedSharding(there.mesh, PartitionSpec())
    else:
        return arrays
    return jax.tree.map(lambda a: jax.device_put(a, there) if moves(a) else a, arrays)


def beside(x: Any, arrays: Any) -> Any:
    """`arrays`, whole on each device over which `x` is divided.

    What lies on a mesh of explicit axes already stays as it is.
    """
    on_mesh = next((a for a in jax.tree.leaves(x) if spec_of(a) is not None), None)
    if on_mesh is None:
        return follow(x, arrays)
    whole = sharding(on_mesh, ())
    return jax.tree.map(
        lambda a: a if spec_of(a) is not None else jax.device_put(a, whole), arrays
    )


def distribution_of(batch: Any, arrays: Any) -> Distribution | None:
    """The distribution in force, if a batch lies on its mesh and `arrays` whole on each device."""
    own = current()
    if own is None or not any(map(own.has, jax.tree.leaves(batch))):
        return None
    whole = own.whole
    return own if all(a.sharding == whole for a in jax.tree.leaves(arrays)) else None


def undivided(arrays: Any) -> Any:
    """Arrays that the distribution in force has divided, whole on each device."""
    own = current()
    if own is None:
        return arrays
    return jax.tree.map(
        lambda a: jax.device_put(a, own.whole) if own.has(a) else a, arrays
    )


def for_each_part(
    function: Callable[[Any, Any], Any], whole: Any, examples: Any
) -> Any:
    """`function(whole, examples) -> (results by example, other results)`, part by part.

    Where a batch is divided each device computes its own examples by itself, and the gradients by
    `whole` are added up once, at the end. XLA alone adds them up in each step of a loop. The
    function must treat examples independently, and must close over no traced array.
    """
    own, mesh = current(), jax.sharding.get_abstract_mesh()
    leaves = jax.tree.leaves(examples)
    if (
        own is None
        or dict(zip(mesh.axis_names, mesh.axis_types, strict=True)).get(own.batch_axis)
        is not AxisType.Auto
        or any(leaf.shape[0] % own.parts for leaf in leaves)
    ):
        return function(whole, examples)
    along, everywhere = PartitionSpec(own.batch_axis), PartitionSpec()
    # Without check_vma a gradient is added up where `whole` comes in, so outside of any loop.
    mapped = jax.shard_map(
        function,
        in_specs=(everywhere, along),
        out_specs=(along, everywhere),
        axis_names={own.batch_axis},
        check_vma=False,
    )
    return mapped(whole, examples)


def _is_free(batch: Any) -> bool:
    """Whether no array of a batch is traced, or was put on a device by the user."""
    leaves = jax.tree.leaves(batch)
    return not any(isinstance(a, jax.core.Tracer) or _is_placed(a) for a in leaves)


def _is_placed(array: Any) -> bool:
    """Whether somebody chose the devices of an array: the user, or `divide` and `follow`."""
    placed = isinstance(array, jax.Array) and not isinstance(array, jax.core.Tracer)
    return placed and array.committed
