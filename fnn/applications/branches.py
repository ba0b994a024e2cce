"""Branches: parallel convolutions whose outputs are joined, as steps of the Inception networks."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from fnn import layers
from fnn.applications.blocks import (
    Names,
    channel_axis,
    conv,
    normalization,
    relu,
    through,
)
from fnn.symbolic.node import Node


class Conv(NamedTuple):
    """relu(normalization(convolution(x)))"""

    filters: int
    window: int | tuple[int, int]
    strides: int = 1
    padding: str = "same"


class Join(NamedTuple):
    """The channels of all branches."""

    name: str | None
    branches: tuple[Branch, ...]


Step: TypeAlias = "Conv | Join | str"  # "mean", or "max", which halves the size
Branch: TypeAlias = "tuple[Step, ...]"


class Builder(Names):
    """Adds layers, those without a name numbered in the order in which they are added, as in Keras.

    >>> build = Builder()
    >>> build.steps(fnn.Input((75, 75, 3)), (Conv(8, 1), "max", Conv(8, 3))).owner.name
    'activation_1'
    """

    def steps(self, x: Node, steps: Branch) -> Node:
        """x after these steps, one after the other."""
        for step in steps:
            if isinstance(step, Join):
                name = step.name or self.new("concatenate")
                ends = [self.steps(x, branch) for branch in step.branches]
                x = through(ends, layers.Concatenate(channel_axis(), name=name))
            elif isinstance(step, Conv):
                name = self.new("conv2d")
                x = through(
                    x,
                    conv(step.filters, name, step.window, step.strides, step.padding),
                    normalization(self.new("batch_normalization"), scale=False),
                    relu(self.new("activation")),
                )
            elif step == "max":
                x = layers.MaxPooling2D(3, 2, name=self.new("max_pooling2d"))(x)
            else:
                name = self.new("average_pooling2d")
                x = layers.AveragePooling2D(3, 1, "same", name=name)(x)
        return x


def half(filters: int) -> Conv:
    """A convolution that halves the size.

    >>> half(8).strides
    2
    """
    return Conv(filters, 3, 2, "valid")


def join(name: str | None, *branches: Branch) -> Join:
    """The channels of all branches.

    >>> join("mixed", (Conv(8, 1),), ("max",)).branches[1]
    ('max',)
    """
    return Join(name, branches)
