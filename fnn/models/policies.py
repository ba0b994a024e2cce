"""Policies: how a model computes: the dtypes of its layers, and Keras's switches."""

from __future__ import annotations

from typing import Any, ClassVar

from fnn import dtype_policies, optimizers
from fnn.core.layer import Layer
from fnn.dtype_policies import DTypePolicy, QuantizedDTypePolicy
from fnn.layers.quantized import Quantized
from fnn.models import quantizing
from fnn.models.program import Program
from fnn.models.quantizing import Filters
from fnn.models.weights import Weights
from fnn.optimizers import LossScaleOptimizer


class Policies:
    """The attributes of a model that say how it computes."""

    _program: Program
    _weights: Weights

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
        if isinstance(self.layer, Quantized):
            source = dtype_policies.of_layer(self.layer.inner)
            return QuantizedDTypePolicy(self.layer.mode, source.name)
        return dtype_policies.of_layer(self.layer)

    @property
    def quantization_mode(self) -> str | None:
        """How weights are quantized; None if they are not."""
        return self.dtype_policy.quantization_mode

    def quantize(
        self, mode: str | None = None, config: Any = None, filters: Filters = None
    ) -> None:
        """Stores the weights of `Dense`, `EinsumDense` and `Embedding` as int8, for inference.

        They take a quarter of the memory and stay fixed from then on; biases and other layers are
        as before. `mode` is "int8": inputs of products are quantized too, each row as it comes, as
        in Keras; `config=Int8QuantizationConfig(activation_quantizer=None)` leaves inputs as they
        are. `filters` selects layers by their paths: regular expressions, or a function of a
        layer. Layers inside others (attention, transformer blocks) count. `LoRA(model, rank=8)`
        then trains low-rank changes.
        Raises ValueError for other modes, before there are weights, for a class with `call`, for
        a model that shares weights with another one, and the second time.

        >>> model = fnn.Sequential([fnn.layers.Dense(8, input_shape=(64,))])
        >>> model.quantize("int8")
        >>> str(model.layers[0].kernel.dtype), model.dtype_policy.name
        ('int8', 'int8_from_float32')
        """
        quantizing.quantize(self._weights, mode, config, filters)
        self._program.forget_network()

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
        return LossScaleOptimizer(inner_optimizer=found)

    @property
    def compiled(self) -> bool:
        """Whether `compile` has been called."""
        return self._program.arguments is not None
