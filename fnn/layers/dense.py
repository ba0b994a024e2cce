"""Dense: a fully connected layer."""

from __future__ import annotations

from jax import Array

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import positive
from fnn.core.layer import (
    Activation,
    Constraint,
    Initializer,
    Layer,
    Params,
    Regularizer,
    State,
    activate,
)
from fnn.core.tree import SpecTree, Tree
from fnn.runtime.placement import add_bias, matmul


class Dense(Layer):
    """activation(x @ kernel + bias).   (..., features) -> (..., units)

    The product is over the last axis only; use `Flatten` first to connect all of an image. `init`
    takes inputs with a batch axis; `apply` also takes a single example, as inside `jax.vmap`.
    Weights: `kernel (features, units)`, `bias (units,)`.
    Raises ValueError unless `units` is a positive integer and inputs have as many features as in
    `init`.

    >>> init, apply = Dense(3)
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 5)))
    >>> apply(params, state, jnp.ones((2, 5)))[0].shape
    (2, 3)
    """

    masking = "pass"
    mixes_features = True
    keeps_sharding = True
    input_layout = "(batch, ..., features)"

    units: int = positive()
    activation: Activation = None
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    activity_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    bias_constraint: Constraint = None

    def is_example(self, params: Params, x: Tree) -> bool:
        return arguments.is_vector(x)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        features = x.shape[-1]
        kernel = self.weight("kernel", key, (features, self.units))
        params = {"kernel": kernel}
        if self.use_bias:
            params["bias"] = self.weight("bias", key, (self.units,))
        return params, {}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        if "kernel_scale" in params:
            axes = "abcdefghijklm"[: x.ndim - 1]
            y = ctx.stored.einsum(x, params, (f"{axes}y", "yz", f"{axes}z"))
        else:
            y = matmul(x, params["kernel"])  # (..., units)
        if self.use_bias:
            y = add_bias(y, params["bias"])  # (units,), for every position
        return activate(self.activation, y), state
