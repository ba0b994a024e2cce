"""Policies: how a model computes: the dtypes of its layers, and Keras's switches."""

from __future__ import annotations

from typing import ClassVar

from fnn import dtype_policies, optimizers
from fnn.core.layer import Layer
from fnn.dtype_policies import DTypePolicy
from fnn.models.program import Program
from fnn.optimizers import LossScaleOptimizer


class Policies:
    """The attributes of a model that say how it computes."""

    _program: Program

    quantization_mode: ClassVar[None] = None
    run_eagerly: ClassVar[bool] = False
    jit_compile: ClassVar[bool] = True

    @property
    def layer(self) -> Layer:
        """The pure network."""
        raise NotImplementedError

    def as_layer(self) -> Layer:
        """The layer for use inside another network, with these weights."""
        raise NotImplementedError

    @property
    def dtype_policy(self) -> DTypePolicy:
        """The dtypes of the layers that do not have their own."""
        return dtype_policies.of_layer(self.layer)

    @property
    def compute_dtype(self) -> str:
        """The dtype that layers without their own compute in."""
        return self.dtype_policy.compute_dtype

    @property
    def variable_dtype(self) -> str:
        """The dtype of the weights of layers without their own."""
        return self.dtype_policy.variable_dtype

    dtype = variable_dtype

    def _scaling(self, optimizer: object, auto_scale_loss: bool) -> object:
        """The optimizer, with loss scaling if the model computes in float16."""
        found = optimizers.get(optimizer)
        scales = isinstance(found, LossScaleOptimizer)
        if not auto_scale_loss or scales or self.compute_dtype != "float16":
            return optimizer
        return LossScaleOptimizer(found)

    @property
    def compiled(self) -> bool:
        """Whether `compile` has been called."""
        return self._program.arguments is not None
