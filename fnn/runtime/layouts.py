"""Layouts: a mesh of devices, and how arrays are divided over its axes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding

from fnn.runtime import processes
from fnn.runtime.placement import (
    Entry,
    Outputs,
    Tree,
    constrain,
    outputs_of_layers,
    partition,
)

# For each axis of an array: what divides it. Axes that are left out are not divided.
Axes: TypeAlias = tuple[Entry, ...]
Shape: TypeAlias = tuple[int, ...]


class Weight(NamedTuple):
    """What a rule sees of a weight: names like "encoder/dense/kernel", and its shape.

    `names` has several for one weight if its path may be written in several ways. `certain`: it
    is a weight of a network, rather than a leaf of any pytree whose path ends like one.
    """

    names: tuple[str, ...]
    shape: Shape
    certain: bool


class Rule(Protocol):
    """A hashable value that divides weights."""

    def divide(self, weight: Weight, axes: Axes, mesh: Mesh) -> Axes:
        """The axes that divide a weight, given those by the rules before, None for each free one.

        Raises ValueError if the rule is meant for this weight and cannot divide it.
        """

    def check(self, names: Sequence[str], divided: Sequence[str]) -> None:
        """Raises ValueError for a rule that fits none of the weights of a network.

        `divided` are the names of the weights that any rule divides.
        """


@dataclass(frozen=True)
class Distribution:
    """A mesh of devices, its axis over which batches are divided, and rules for weights.

    Without rules all weights are replicated, and without an axis all batches.

    >>> mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> Distribution(mesh).room(6)  # for 6 examples on 4 devices
    8
    """

    mesh: Mesh
    batch_axis: str | None = "batch"
    rules: tuple[Rule, ...] = ()

    def __deepcopy__(self, memo: object) -> Distribution:
        return self

    def __reduce__(self) -> tuple[Callable[..., Distribution], tuple[Any, ...]]:
        """A pickle names the devices, which must be there when it is read."""
        devices = [(device.platform, device.id) for device in self.mesh.devices.flat]
        others = {name: value for name, value in vars(self).items() if name != "mesh"}
        shape = tuple(self.mesh.shape.items())
        return _restored, (type(self), shape, devices, others)

    @property
    def parts(self) -> int:
        """The number of parts of a batch."""
        if self.batch_axis is None:
            return 1
        parts: int = self.mesh.shape[self.batch_axis]
        return parts

    @property
    def whole(self) -> NamedSharding:
        """The sharding of replicated arrays: weights without rules, random keys, counters."""
        return NamedSharding(self.mesh, partition())

    def divided(self, axis: int) -> NamedSharding:
        """The sharding of arrays whose examples are along `axis`."""
        return NamedSharding(self.mesh, partition(*(None,) * axis, self.batch_axis))

    def room(self, size: int) -> int:
        """The least number of examples, at least `size`, that the devices divide evenly."""
        return -(-size // self.parts) * self.parts

    def has(self, array: object) -> bool:
        """Whether an array lies on this mesh."""
        sharding = getattr(array, "sharding", None)
        return isinstance(sharding, NamedSharding) and sharding.mesh == self.mesh

    def sharding(self, weight: Weight) -> NamedSharding:
        """The sharding that the rules give a weight."""
        axes: Axes = (None,) * len(weight.shape)
        for rule in self.rules:
            axes = rule.divide(weight, axes, self.mesh)
        # As programs return it: else the next call would compile a second one.
        while axes and axes[-1] is None:
            axes = axes[:-1]
        return NamedSharding(self.mesh, partition(*axes))

    @property
    def outputs(self) -> Outputs | None:
        """What lays out the outputs of layers."""
        return None

    def tracing(self) -> AbstractContextManager[object]:
        """A context in which traced functions know the axis of the batch (`for_each_part`)."""
        return jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """In a `with` block of this thread, the distribution in force, whatever `use` has set."""
        token = _scoped.set(self)
        try:
            with outputs_of_layers(self.outputs):
                yield
        finally:
            _scoped.reset(token)


def _restored(
    cls: type[Distribution],
    shape: tuple[tuple[str, int], ...],
    devices: list[tuple[str, int]],
    others: dict[str, Any],
) -> Distribution:
    """A distribution from a pickle. Raises ValueError if a device is missing."""
    names = [name for name, _ in shape]
    found = [device_of(*device) for device in devices]
    array = np.array(found).reshape([size for _, size in shape])
    distribution = cls.__new__(cls)
    vars(distribution).update(mesh=automatic(Mesh(array, names)), **others)
    return distribution


def device_of(platform: str, number: int) -> jax.Device:
    """A device by its platform and number. Raises ValueError if there is none."""
    known = jax.devices(platform)
    for device in known:
        if device.id == number:
            return device
    raise ValueError(
        f"expected one of the {len(known)} devices of {platform!r}, received "
        f"'{platform}:{number}'; see fnn.distribution.list_devices({platform!r})"
    )


def automatic(mesh: Mesh) -> Mesh:
    """The same mesh with axes along which JAX divides what is computed by itself."""
    if set(mesh.axis_types) == {AxisType.Auto}:
        return mesh
    kinds = (AxisType.Auto,) * len(mesh.axis_names)
    return Mesh(mesh.devices, mesh.axis_names, axis_types=kinds)


class Shared(NamedTuple):
    """The distribution of a dispatch, and the shardings of the leaves of its state."""

    distribution: Distribution
    shardings: tuple[NamedSharding, ...]

    def keep_whole(self, arrays: Tree) -> Tree:
        """Traced arrays, constrained to be replicated."""
        whole = self.distribution.whole
        return jax.tree.map(lambda array: constrain(array, whole), arrays)

    def keep(self, state: Tree) -> Tree:
        """A traced state, constrained to be divided as the state before is."""
        leaves, treedef = jax.tree.flatten(state)
        kept = map(constrain, leaves, self.shardings)
        return jax.tree.unflatten(treedef, kept)


# A function is called at the first use: it may ask JAX for its devices, which starts JAX.
Choice: TypeAlias = Distribution | Callable[[], Distribution | None] | None
_in_force: Choice = None
_scoped: ContextVar[Distribution | None] = ContextVar("scoped", default=None)


def use(distribution: Choice) -> None:
    """Divides batches by this distribution from now on; None: not at all."""
    global _in_force
    _in_force = distribution
    outputs_of_layers.set_global(getattr(distribution, "outputs", None))


def current() -> Distribution | None:
    """The distribution in force, if there is one; by default over the devices of all processes."""
    global _in_force
    scoped = _scoped.get()
    if scoped is not None:
        return scoped
    if _in_force is not None and not isinstance(_in_force, Distribution):
        _in_force = _in_force()
    if (
        _in_force is None
        and jax.distributed.is_initialized()
        and processes.are_several()
    ):
        return Distribution(processes.mesh())
    return _in_force
