"""Rules: which axes of the mesh divide a weight, by its path and shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax import Array
from jax.sharding import AxisType, Mesh, PartitionSpec

from fnn.core.context import Masked, is_masked
from fnn.core.tree import Tree
from fnn.core.weights import check_matches
from fnn.distribution.mesh import LayoutMap, TensorLayout, distribute_tensor
from fnn.runtime.layouts import Axes, Shape, Weight
from fnn.runtime.patterns import matches, matches_any
from fnn.runtime.placement import constrain, partition, used_by


@dataclass(frozen=True)
class Largest:
    """Divides each weight of at least `min_size` elements along its largest free axis.

    Along the last one of the largest that the devices divide evenly; others stay replicated.
    """

    axis: str
    min_size: int

    def divide(self, weight: Weight, axes: Axes, mesh: Mesh) -> Axes:
        shape = weight.shape
        if math.prod(shape) < self.min_size or self.axis in used_by(axes):
            return axes
        parts = mesh.shape[self.axis]
        free = [
            (size, place)
            for place, size in enumerate(shape)
            if axes[place] is None and size >= parts and size % parts == 0
        ]
        if not free:
            return axes
        _, place = max(free)
        return (*axes[:place], self.axis, *axes[place + 1 :])

    def check(self, names: Sequence[str], divided: Sequence[str]) -> None:
        """Nothing: weights may all be small."""

    def lay_out(self, path: str, y: Tree) -> Tree:
        """An output with its examples divided, so that XLA gathers weights instead of these."""
        mesh = jax.sharding.get_abstract_mesh()
        if (
            mesh.empty
            or AxisType.Manual in mesh.axis_types
            or self.axis not in mesh.axis_names
        ):
            return y

        def place(output: Array) -> Array:
            if not output.ndim or output.shape[0] % mesh.shape[self.axis]:
                return output
            others = (PartitionSpec.UNCONSTRAINED,) * (output.ndim - 1)
            return constrain(output, partition(self.axis, *others))

        return jax.tree.map(place, y)


@dataclass(frozen=True)
class Table:
    """Divides the weights that match a pattern: the first one decides.

    The axes of a pattern are those of the last axes of a weight, so that the copies of a layer in
    `Repeat` are divided as the layer alone. With `lenient`, what the devices do not divide evenly
    is replicated, and patterns need not match.
    """

    patterns: tuple[tuple[str, Axes], ...]
    lenient: bool = False

    def divide(self, weight: Weight, axes: Axes, mesh: Mesh) -> Axes:
        for pattern, wanted in self.patterns:
            if any(matches(pattern, name) for name in weight.names):
                rest = len(weight.shape) - len(wanted)
                found = (None,) * rest + wanted
                wrong = misfit(found, weight.shape, mesh)
                if not wrong:
                    return found
                if self.lenient or not weight.certain:
                    return axes
                raise ValueError(
                    f"ByPath: {pattern!r} divides {weight.names[0]} of shape {weight.shape} by "
                    f"{wanted}, but {wrong}; give other axes, or another pattern before it"
                )
        return axes

    def check(self, names: Sequence[str], divided: Sequence[str]) -> None:
        patterns = tuple(pattern for pattern, _ in self.patterns)
        if not self.lenient:
            check_matches("ByPath", "rules", patterns, list(names))
            return
        # Any network may have a layer like the last one of a transformer.
        blocks = tuple(pattern for pattern in patterns if pattern not in LOGITS)
        if not any(matches_any(blocks, name) for name in divided):
            raise ValueError(
                "TensorParallel divides attention, feed-forward layers and embeddings of "
                "transformers over the axis 'model', but divides no weight of this network: it "
                "has none of them, or the devices do not divide their heads and units; use "
                "FSDP, or ByPath with rules for these weights"
            )


@dataclass(frozen=True)
class Mapped:
    """Divides weights as a `LayoutMap` says; those that no expression matches are replicated."""

    layouts: LayoutMap

    def divide(self, weight: Weight, axes: Axes, mesh: Mesh) -> Axes:
        found = filter(None, map(self.layouts.__getitem__, reversed(weight.names)))
        layout = next(found, None)
        if layout is None:
            return axes
        wrong = misfit(layout.axes, weight.shape, mesh)
        if not wrong:
            rest = len(weight.shape) - len(layout.axes)
            return layout.axes + (None,) * rest
        if not weight.certain:
            return axes
        raise ValueError(
            f"LayoutMap: {layout.axes} divides {weight.names[0]} of shape {weight.shape}, but "
            f"{wrong}; give other axes"
        )

    def check(self, names: Sequence[str], divided: Sequence[str]) -> None:
        """Nothing: a map may be made for several networks."""

    def lay_out(self, path: str, y: Tree) -> Tree:
        """The output of the layer with this path, divided if the map has a layout for it.

        Raises ValueError if the devices do not divide it evenly, but for its examples: a batch
        that they do not divide is replicated.
        """
        layout = self.layouts[f"{path}/output"]
        # Within `shard_map` each device computes with a part of its own.
        is_part = AxisType.Manual in jax.sharding.get_abstract_mesh().axis_types
        if layout is None or is_part:
            return y

        def place(output: Any) -> Any:
            if is_masked(output):
                return Masked(place(output.values), output.mask)
            axes = layout.axes
            mesh = self.layouts.device_mesh.backend_mesh
            if misfit(axes[:1], output.shape, mesh):
                axes = (None, *axes[1:])
            wrong = misfit(axes, output.shape, mesh)
            if wrong:
                raise ValueError(
                    f"LayoutMap: {layout.axes} divides the output of {path} of shape "
                    f"{output.shape}, but {wrong}; give other axes"
                )
            return distribute_tensor(output, TensorLayout(axes, layout.device_mesh))

        return jax.tree.map(place, y, is_leaf=is_masked)


def misfit(axes: Axes, shape: Shape, mesh: Mesh) -> str:
    """Why axes of a mesh cannot divide an array of this shape; "" if they can."""
    if len(axes) > len(shape):
        return f"it has only {len(shape)} axes"
    for place, (size, entry) in enumerate(zip(shape, axes, strict=False)):
        parts = math.prod(mesh.shape[name] for name in used_by((entry,)))
        if size % parts:
            return f"{parts} devices do not divide axis {place} of {size} evenly"
    return ""


# Columns of the layer that makes logits of the vocabulary: XLA then sums the probabilities over
# the devices.
LOGITS: dict[str, Axes] = {
    "dense/kernel": (None, "model"),  # (features, vocabulary)
    "dense/bias": ("model",),
    "**/reverse_embeddings": (None, "model"),
}

# Heads of attention, columns and then rows of the feed-forward layers, rows of embeddings: each
# block then adds up parts of its output over the devices twice (Shoeybi et al. 2019).
_BY_HEAD = (None, "model", None)
TRANSFORMER: tuple[tuple[str, Axes], ...] = (
    ("**/query/kernel", _BY_HEAD),  # (features, heads, size)
    ("**/key/kernel", _BY_HEAD),
    ("**/value/kernel", _BY_HEAD),
    ("**/query/bias", ("model", None)),  # (heads, size)
    ("**/key/bias", ("model", None)),
    ("**/value/bias", ("model", None)),
    ("**/attention_output/kernel", ("model", None, None)),  # (heads, size, features)
    ("**/feedforward_up/kernel", (None, "model")),  # (features, units)
    ("**/feedforward_up/bias", ("model",)),
    ("**/feedforward_down/kernel", ("model", None)),  # (units, features)
    ("**/position_embedding*/embeddings", ()),
    ("**/embeddings", ("model", None)),  # (vocabulary, features)
    *LOGITS.items(),
)


def for_transformers(axis: str) -> Table:
    """The table for transformers, over this axis of a mesh."""
    patterns = []
    for pattern, axes in TRANSFORMER:
        renamed = tuple(axis if entry is not None else None for entry in axes)
        patterns.append((pattern, renamed))
    return Table(tuple(patterns), lenient=True)
