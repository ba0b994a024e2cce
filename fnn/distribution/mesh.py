"""Meshes of devices, and layouts of arrays over them, by Keras's names."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from fnn.distribution.processes import list_devices
from fnn.runtime.layouts import automatic, device_of
from fnn.runtime.placement import constrain, partition, used_by
from fnn.runtime.processes import put
from fnn.symbolic.node import Node

Device: TypeAlias = "str | jax.Device"


class DeviceMesh:
    """Devices in a grid with named axes; by default all that there are.

    `devices` are strings like those of `list_devices`, or JAX's. A `jax.sharding.Mesh` does as
    well wherever fnn takes a `DeviceMesh`. Raises ValueError if the number of devices is not that
    of the places in `shape`, or that of the axes not that of the names.

    >>> mesh = fnn.distribution.DeviceMesh((2, 4), ("data", "model"))
    >>> str(mesh.devices[0, 1]), dict(mesh.backend_mesh.shape)
    ('cpu:1', {'data': 2, 'model': 4})
    """

    def __init__(
        self,
        shape: Sequence[int],
        axis_names: Sequence[str],
        devices: Sequence[Device] | np.ndarray | None = None,
    ) -> None:
        if not shape or len(shape) != len(axis_names):
            raise ValueError(
                "DeviceMesh: expected a shape with a name for each axis, received "
                f"shape={shape}, axis_names={axis_names}; e.g. (2, 4), ('data', 'model')"
            )
        if devices is None:
            devices = list_devices()
        flat = list(np.array(devices).flat)
        if math.prod(shape) != len(flat):
            raise ValueError(
                f"DeviceMesh: expected as many devices as the shape {tuple(shape)} has places, "
                f"{math.prod(shape)}, received {len(flat)}; give another shape, or a part of "
                "fnn.distribution.list_devices() as devices"
            )
        self.shape = tuple(shape)
        self.axis_names = list(axis_names)
        names = [_name(device) for device in flat]
        self.devices = np.array(names).reshape(self.shape)

    @property
    def backend_mesh(self) -> Mesh:
        """The mesh of JAX, with automatic axes."""
        found = [_device(name) for name in self.devices.flat]
        devices = np.array(found).reshape(self.shape)
        return automatic(Mesh(devices, tuple(self.axis_names)))

    def __repr__(self) -> str:
        return f"<DeviceMesh shape={self.shape}, axis_names={self.axis_names}>"


def _name(device: Device) -> str:
    if isinstance(device, jax.Device):
        return f"{device.platform}:{device.id}"
    return str(device)


def _device(name: str) -> jax.Device:
    platform, _, number = name.partition(":")
    return device_of(platform, int(number or 0))


def mesh_of(
    device_mesh: object = None, devices: Sequence[Device] | None = None
) -> Mesh:
    """The mesh of JAX for what a user gives; by default all devices along one axis, "batch".

    Raises ValueError for something else than a mesh.
    """
    if device_mesh is None:
        if devices is None:
            devices = list_devices()
        device_mesh = DeviceMesh(np.shape(devices), ["batch"], devices)
    if isinstance(device_mesh, DeviceMesh):
        return device_mesh.backend_mesh
    if not isinstance(device_mesh, Mesh):
        raise ValueError(
            f"expected device_mesh as a DeviceMesh or a jax.sharding.Mesh, received "
            f"{device_mesh!r}; e.g. fnn.distribution.DeviceMesh((8,), ('data',))"
        )
    return automatic(device_mesh)


class TensorLayout:
    """The axis of a mesh that divides each axis of an array, None for those that none divides.

    The mesh may be set later, once. Raises ValueError for an axis that the mesh does not have.

    >>> mesh = fnn.distribution.DeviceMesh((2, 4), ("data", "model"))
    >>> tuple(fnn.distribution.TensorLayout((None, "model"), mesh).backend_layout.spec)
    (None, 'model')
    """

    def __init__(
        self, axes: Sequence[str | None], device_mesh: DeviceMesh | None = None
    ) -> None:
        self.axes = tuple(axes)
        self._device_mesh = device_mesh
        self._check()

    @property
    def device_mesh(self) -> DeviceMesh | None:
        """The mesh; None if it has not been set."""
        return self._device_mesh

    @device_mesh.setter
    def device_mesh(self, device_mesh: DeviceMesh) -> None:
        if self._device_mesh is not None:
            raise ValueError(
                f"TensorLayout: the mesh is {self._device_mesh} and cannot become another; make "
                "a new TensorLayout"
            )
        self._device_mesh = device_mesh
        self._check()

    @property
    def backend_layout(self) -> NamedSharding:
        """The sharding of JAX. Raises ValueError without a mesh."""
        if self._device_mesh is None:
            raise ValueError(
                "TensorLayout: expected a mesh to be set, received none; set layout.device_mesh"
            )
        return NamedSharding(self._device_mesh.backend_mesh, partition(*self.axes))

    def _check(self) -> None:
        if self._device_mesh is None:
            return
        unknown = used_by(self.axes) - set(self._device_mesh.axis_names)
        if unknown:
            raise ValueError(
                f"TensorLayout: expected axes of the mesh, {self._device_mesh.axis_names}, "
                f"received {sorted(unknown)}; use those names, or None"
            )

    def __repr__(self) -> str:
        return f"<TensorLayout axes={self.axes}, device_mesh={self.device_mesh}>"


class LayoutMap(MutableMapping[str, Any]):
    """A dict from regular expressions for the paths of variables to layouts, as in Keras.

    A path gets the layout of the key that equals it, else of the one expression that matches all
    of it, else None. Values are `TensorLayout` or tuples of axes. Keys are expressions, not the
    globs that `ByPath` takes. Raises ValueError for a key that is there already, for a value of
    another kind, and for a path that several expressions match.

    >>> layouts = fnn.distribution.LayoutMap(fnn.distribution.DeviceMesh((8,), ("model",)))
    >>> layouts[".*dense.*kernel"] = (None, "model")
    >>> layouts["net/dense_1/kernel"].axes, layouts["net/dense_1/bias"]
    ((None, 'model'), None)
    """

    def __init__(self, device_mesh: DeviceMesh) -> None:
        self.device_mesh = device_mesh
        self._layouts: dict[str, TensorLayout] = {}

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __getitem__(self, key: str) -> TensorLayout | None:
        if key in self._layouts:
            return self._layouts[key]
        matching = [one for one in self._layouts if re.fullmatch(one, key)]
        if len(matching) > 1:
            raise ValueError(
                f"LayoutMap: expected one expression that matches {key!r}, received {matching}; "
                "make them exclude each other"
            )
        return self._layouts[matching[0]] if matching else None

    def __setitem__(
        self, key: str, layout: TensorLayout | tuple[str | None, ...]
    ) -> None:
        if key in self._layouts:
            raise ValueError(
                f"LayoutMap: {key!r} is there already, with {self._layouts[key]}; delete it before"
            )
        if isinstance(layout, tuple):
            layout = TensorLayout(layout)
        if not isinstance(layout, TensorLayout):
            raise ValueError(
                f"LayoutMap: expected a TensorLayout or a tuple of axes, received {layout!r}; "
                "e.g. (None, 'model')"
            )
        if layout.device_mesh is None:
            layout.device_mesh = self.device_mesh
        self._layouts[key] = layout

    def __delitem__(self, key: str) -> None:
        del self._layouts[key]

    def __len__(self) -> int:
        return len(self._layouts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._layouts)


def distribute_tensor(tensor: Any, layout: TensorLayout | NamedSharding) -> Any:
    """An array on the devices of a layout; inside `jit` the same array, constrained to it.

    A symbolic node is returned as it is.

    >>> mesh = fnn.distribution.DeviceMesh((8,), ("data",))
    >>> layout = fnn.distribution.TensorLayout(("data", None), mesh)
    >>> x = fnn.distribution.distribute_tensor(jnp.ones((16, 3)), layout)
    >>> x.addressable_shards[0].data.shape
    (2, 3)
    """
    if isinstance(layout, TensorLayout):
        layout = layout.backend_layout
    if isinstance(tensor, Node):
        return tensor
    if isinstance(tensor, jax.core.Tracer):
        return constrain(tensor, layout)
    return put(tensor, layout)
