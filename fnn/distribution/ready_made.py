"""Distributions: over which devices a model trains, and how its weights and batches are divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from fnn.core.tree import SpecTree, Tree
from fnn.core.weights import check_patterns
from fnn.distribution.mesh import Device, DeviceMesh, LayoutMap, TensorLayout, mesh_of
from fnn.distribution.rules import Largest, Mapped, Table, for_transformers
from fnn.runtime import layouts
from fnn.runtime.layouts import Axes, Weight
from fnn.runtime.placement import used_by
from fnn.runtime.processes import put
from fnn.training import laying_out


class Distribution(layouts.Distribution):
    """What all distributions have: a mesh, the axis of batches, rules for weights."""

    # Keras's argument for several processes.
    auto_shard_dataset: bool = True

    def __and__(self, other: layouts.Distribution) -> Distribution:
        """Both on one mesh: what the rules of one leave undivided, those of the other may divide.

        Raises ValueError for different meshes, or different axes of batches.
        """
        if (self.mesh, self.batch_axis) != (other.mesh, other.batch_axis):
            raise ValueError(
                f"expected two distributions over one mesh and one axis of batches, received "
                f"{self} & {other}; pass the same mesh and axis to both"
            )
        # Rules by size divide what is left, so they come last.
        rules = sorted(
            self.rules + other.rules, key=lambda rule: isinstance(rule, Largest)
        )
        return Distribution(self.mesh, self.batch_axis, tuple(rules))

    # -- for pure functions ----------------------------------------------------------------------

    def shardings(self, arrays: SpecTree) -> Tree:
        """The sharding of each array of a pytree, or of each shape: for `jax.jit`.

        Patterns may match the end of a path, `dense/kernel` that of `params/dense/kernel`.

        >>> rules = {"dense/kernel": (None, "data")}
        >>> layout = fnn.distribution.ByPath(fnn.distribution.DeviceMesh((8,), ("data",)), rules)
        >>> found = layout.shardings({"params": {"dense": {"kernel": np.ones((3, 16))}}})
        >>> tuple(found["params"]["dense"]["kernel"].spec)
        (None, 'data')
        """
        return laying_out.shardings(self, arrays)

    def place(self, arrays: Tree) -> Tree:
        """A pytree on the devices, divided by the rules; arrays that lie on devices stay there."""
        return laying_out.place(self, arrays)

    def divide(self, batch: Tree) -> Tree:
        """A batch on the devices, its examples divided over them.

        Raises ValueError of JAX for a number of examples that they do not divide evenly.
        """
        return put(batch, self.divided(0))

    # -- by Keras's names ------------------------------------------------------------------------

    @property
    def device_mesh(self) -> DeviceMesh:
        """The devices and the names of their axes."""
        mesh = self.mesh
        return DeviceMesh(mesh.devices.shape, mesh.axis_names, mesh.devices)

    @property
    def batch_dim_name(self) -> str | None:
        """The axis of the mesh that divides batches; None if they are replicated."""
        return self.batch_axis

    @property
    def num_processes(self) -> int:
        """The number of processes of the computation."""
        return int(jax.process_count())

    @property
    def num_model_replicas(self) -> int:
        """The number of parts of a batch."""
        return self.parts

    def get_data_layout(self, data_shape: Sequence[int | None]) -> TensorLayout:
        """The layout of inputs of this shape."""
        axes = [self.batch_axis, *(None for _ in data_shape[1:])]
        return TensorLayout(axes, self.device_mesh)

    def get_variable_layout(self, variable: Any) -> TensorLayout:
        """The layout of a weight with a `path` and a `shape`."""
        inside = variable.path.partition("/")[2]
        weight = Weight((inside, variable.path), tuple(variable.shape), True)
        axes = tuple(self.sharding(weight).spec)
        others = (None,) * (len(weight.shape) - len(axes))
        return TensorLayout(axes + others, self.device_mesh)

    def get_tensor_layout(self, path: str) -> TensorLayout | None:
        """The layout that a `LayoutMap` has for the output of a layer, "dense/output"."""
        found = self.outputs
        return found.layouts[path] if isinstance(found, Mapped) else None

    @property
    def outputs(self) -> Mapped | Largest | None:
        """What lays out the outputs of layers: a `LayoutMap`, else FSDP."""
        for kind in (Mapped, Largest):
            for rule in self.rules:
                if isinstance(rule, kind):
                    return rule
        return None

    def __repr__(self) -> str:
        axes = dict(self.mesh.shape)
        return f"<{type(self).__name__} over {axes}, batches along {self.batch_axis!r}>"


class DataParallel(Distribution):
    """Divides batches over the devices; each has all weights.

    Over all devices by default, else over `devices` or along the first axis of `device_mesh`.
    Gradients are those of the whole batch, and so are the statistics of BatchNormalization.
    `auto_shard_dataset` is accepted as in Keras. Raises ValueError for what is no mesh.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(4,))], seed=0)
    >>> model.compile("sgd", "mse", distribution=fnn.distribution.DataParallel())
    >>> _ = model.fit(np.ones((64, 4)), np.ones((64, 1)), verbose=0)
    >>> len(model.params["dense"]["kernel"].devices())
    8
    """

    def __init__(
        self,
        device_mesh: DeviceMesh | Mesh | None = None,
        devices: Sequence[Device] | None = None,
        auto_shard_dataset: bool = True,
    ) -> None:
        mesh = mesh_of(device_mesh, devices)
        super().__init__(mesh, mesh.axis_names[0])
        vars(self)["auto_shard_dataset"] = auto_shard_dataset

    @property
    def num_model_replicas(self) -> int:
        """The number of devices."""
        return int(self.mesh.devices.size)


class FSDP(Distribution):
    """Divides batches over the devices, and each large weight too, with its optimizer state.

    A device holds about one part of weights and optimizer state (fully sharded data parallel, ZeRO
    stage 3), and gets the rest of a layer when it computes it. Weights of fewer than `min_size`
    elements, and those of which the devices divide no axis evenly, are replicated. `axis` is the
    first of the mesh by default. Raises ValueError for an axis that the mesh does not have, and
    for a `min_size` that is no positive integer. (Rajbhandari et al. 2020.)

    >>> model = fnn.Sequential([fnn.layers.Dense(64, input_shape=(32,))], seed=0)
    >>> model.compile("adam", "mse", distribution=fnn.distribution.FSDP())
    >>> model.params["dense"]["kernel"].addressable_shards[0].data.shape
    (32, 8)
    """

    def __init__(
        self,
        device_mesh: DeviceMesh | Mesh | None = None,
        devices: Sequence[Device] | None = None,
        *,
        axis: str | None = None,
        min_size: int = 1024,
    ) -> None:
        mesh = mesh_of(device_mesh, devices)
        axis = axis or mesh.axis_names[0]
        _check_axes("FSDP", mesh, axis)
        if isinstance(min_size, bool) or not isinstance(min_size, int) or min_size < 1:
            raise ValueError(
                f"FSDP: min_size must be a positive integer, the number of elements of a weight "
                f"that is divided, got {min_size!r}"
            )
        super().__init__(mesh, axis, (Largest(axis, min_size),))


class ByPath(Distribution):
    """Divides weights by patterns of their paths, and batches along an axis of the mesh.

    `rules` is a dict from pattern to axes of the mesh, for the last axes of the weight; the first
    pattern that matches decides. In a pattern `*` stands for any part of one name, `**` for any
    number of names, as in `fnn.optimizers.ByPath`. Other weights are replicated. `batch_dim_name`
    is the first axis of the mesh by default. Raises ValueError for rules of another form, for axes
    that the mesh does not have, and at the first use for patterns that match no weight, and for
    weights that the devices do not divide evenly.

    >>> mesh = fnn.distribution.DeviceMesh((2, 4), ("data", "model"))
    >>> columns = fnn.distribution.ByPath(mesh, {"**/kernel": (None, "model")})
    >>> model = fnn.Sequential([fnn.layers.Dense(64, input_shape=(32,))], seed=0)
    >>> model.compile("adam", "mse", distribution=columns)
    >>> model.params["dense"]["kernel"].addressable_shards[0].data.shape
    (32, 16)
    """

    def __init__(
        self,
        device_mesh: DeviceMesh | Mesh,
        rules: Mapping[str, Axes],
        *,
        batch_dim_name: str | None = None,
    ) -> None:
        mesh = mesh_of(device_mesh)
        batch_axis = batch_dim_name or mesh.axis_names[0]
        _check_rules(rules)
        _check_axes("ByPath", mesh, batch_axis, *used_by(*rules.values()))
        patterns = tuple((pattern, tuple(axes)) for pattern, axes in rules.items())
        super().__init__(mesh, batch_axis, (Table(patterns),))


class TensorParallel(Distribution):
    """Divides the transformer blocks over the axis "model", batches over another one.

    Of attention each device has some of the heads, of the feed-forward layers some of the columns
    and then of the rows, of embeddings and of the logits that a last `Dense` makes some of the
    vocabulary. Names are those of `TransformerEncoderBlock`, `TransformerDecoderBlock`,
    `MultiHeadAttention` and `Embedding`, and "dense" for a layer outside of all others.
    What the devices do not divide evenly is replicated. `axis` renames "model"; `batch_dim_name`
    is the first other axis by default, and without one batches are replicated. Raises ValueError
    for axes that the mesh does not have, and at the first use for a network of which nothing
    would be divided. (Shoeybi et al. 2019, Megatron-LM.)

    >>> mesh = fnn.distribution.DeviceMesh((2, 4), ("data", "model"))
    >>> both = fnn.distribution.FSDP(mesh) & fnn.distribution.TensorParallel(mesh)
    >>> both.batch_axis, len(both.rules)
    ('data', 2)
    """

    def __init__(
        self,
        device_mesh: DeviceMesh | Mesh,
        *,
        axis: str = "model",
        batch_dim_name: str | None = None,
    ) -> None:
        mesh = mesh_of(device_mesh)
        others = [name for name in mesh.axis_names if name != axis]
        batch_axis = batch_dim_name or next(iter(others), None)
        _check_axes("TensorParallel", mesh, axis, *filter(None, [batch_axis]))
        super().__init__(mesh, batch_axis, (for_transformers(axis),))


class ModelParallel(Distribution):
    """Divides weights as a `LayoutMap` says, and batches along an axis of its mesh, as in Keras.

    `batch_dim_name` is the first axis of the mesh by default. The map has layouts of weights, and
    for paths such as "dense/output" layouts of the outputs of layers; other outputs lie as JAX
    chooses. Raises ValueError without a map, and at the first use for weights and outputs that the
    devices do not divide evenly; an output whose examples they do not divide has them replicated.

    >>> mesh = fnn.distribution.DeviceMesh((2, 4), ("batch", "model"))
    >>> layout_map = fnn.distribution.LayoutMap(mesh)
    >>> layout_map[".*dense.*kernel"] = (None, "model")
    >>> parallel = fnn.distribution.ModelParallel(layout_map=layout_map, batch_dim_name="batch")
    >>> parallel.get_variable_layout(fnn.Variable(np.ones((3, 8)), name="dense/kernel")).axes
    (None, 'model')
    """

    def __init__(
        self,
        *,
        layout_map: LayoutMap | None = None,
        batch_dim_name: str | None = None,
        auto_shard_dataset: bool = True,
        device_mesh: DeviceMesh | None = None,
    ) -> None:
        if not isinstance(layout_map, LayoutMap):
            raise ValueError(
                "ModelParallel: expected layout_map as an fnn.distribution.LayoutMap, received "
                f"{layout_map!r}; make one by fnn.distribution.LayoutMap, for a DeviceMesh"
            )
        mesh = mesh_of(layout_map.device_mesh)
        batch_axis = batch_dim_name or mesh.axis_names[0]
        _check_axes("ModelParallel", mesh, batch_axis)
        super().__init__(mesh, batch_axis, (Mapped(layout_map),))
        vars(self)["auto_shard_dataset"] = auto_shard_dataset


def _check_rules(rules: object) -> None:
    """Raises ValueError unless `rules` has a tuple of axes for each pattern, each axis once."""
    received = rules
    if isinstance(rules, Mapping):
        check_patterns("ByPath", "rules", tuple(rules))
        wrong = [axes for axes in rules.values() if not _is_axes(axes)]
        if not wrong:
            return
        received = wrong[0]
    raise ValueError(
        "ByPath: expected rules as a dict from patterns to tuples of axes of the mesh, or None, "
        f"each axis once, received {received!r}; e.g. {{'**/kernel': (None, 'model')}}"
    )


def _is_axes(axes: object) -> bool:
    if not isinstance(axes, (tuple, list)):
        return False
    names: list[object] = []
    for entry in axes:
        if isinstance(entry, tuple):
            names += entry
        else:
            names.append(entry)
    named = [name for name in names if name is not None]
    if not all(isinstance(name, str) for name in named):
        return False
    return len(set(named)) == len(named)


def _check_axes(name: str, mesh: Mesh, *axes: str) -> None:
    unknown = sorted(set(axes) - set(mesh.axis_names))
    if unknown:
        raise ValueError(
            f"{name}: expected axes of the mesh, {list(mesh.axis_names)}, received {unknown}; use "
            "those names, or name the axes of the mesh so"
        )


def distribution() -> layouts.Distribution | None:
    """The distribution that a `scope()` or `set_distribution` has put in force, if there is one.

    >>> with fnn.distribution.DataParallel().scope():
    ...     fnn.distribution.distribution()
    <DataParallel over {'batch': 8}, batches along 'batch'>
    """
    return layouts.current()


def set_distribution(value: layouts.Distribution | None) -> None:
    """Uses a distribution for all models and functions from now on; None: none.

    One that a model is compiled with, and one in a `with distribution.scope()` block, come first.
    Raises TypeError for something else than a distribution.

    >>> fnn.distribution.set_distribution(None)
    """
    if value is not None:
        check_distribution(value)
    layouts.use(value)


def check_distribution(value: object) -> None:
    """Raises TypeError for something else than a distribution."""
    if not isinstance(value, layouts.Distribution):
        raise TypeError(
            f"expected a distribution, received {value!r}; e.g. fnn.distribution.DataParallel()"
        )
