"""Layer: the base class of everything with weights; a frozen value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random

from fnn.core import arguments
from fnn.core.checks import check_pair
from fnn.core.context import INFERENCE, Context, salt
from fnn.core.fields import field_kind
from fnn.core.tree import Tree, array_spec
from fnn.core.value import Value, resolve
from fnn.runtime.program_cache import small_cache

Params: TypeAlias = dict[str, Any]
State: TypeAlias = dict[str, Any]
Masking: TypeAlias = Literal["pass", "use", "inside", "refuse"]

# What the fields of a layer may hold: a name, a function or a value, or None.
Activation: TypeAlias = Any
Initializer: TypeAlias = Any
Regularizer: TypeAlias = Any
Constraint: TypeAlias = Any


def _not_known(layer: Layer, name: str) -> object:
    """The default of `Layer.on_attribute`: no model knows the layer."""
    return NotImplemented


class Layer(Value, loadable=False):
    """A pure function with weights, described by its fields; it never holds an array.

    Subclass it, declare the fields, define two methods:

        init(key, x) -> (params, state)                   x: anything with .shape and .dtype
        apply(params, state, x, ctx) -> (outputs, state)  always both

    `params` are learned, `state` is updated by calls (running averages); both are dicts, empty if
    the layer has none. Layers of several inputs take a tuple. Shapes, configuration and equality
    follow from the fields and from running the two methods abstractly; no other method is needed.

    `name`         the name within its parent; Keras's default (`dense`, `dense_1`) if None
    `trainable`    False: the weights stay fixed and batch statistics are not updated
    `dtype`        the dtype to compute in: inputs and weights are cast to it, and layers inside
                   inherit it unless they have their own; None: that of weights and inputs
    `input_shape`  the shape of one example; a `Sequential` that starts with it is built at once

    `masking` says what happens to a mask `(batch, time)` of the inputs:
    "pass" (the outputs have it too), "use" (the layer reads `ctx.mask`; the outputs have none,
    unless it returns `Masked`), "inside" (a combinator, its children decide), "refuse" (an error).

    An optional method `check_values(x)` may raise for input values that the layer cannot take
    (`Embedding`: ids out of range). Models and `apply` call it with NumPy arrays, if the values
    are known.

    >>> class Scale(Layer):
    ...     factor: float = 2.0
    ...     def apply(self, params, state, x, ctx=INFERENCE):
    ...         return x * self.factor, state
    >>> init, apply = Scale(3.0)
    >>> apply(*init(random.key(0), jnp.ones(2)), jnp.ones(2))[0].tolist()
    [3.0, 3.0]
    """

    kind: ClassVar[str] = "layer"
    # Hooks of the packages above. Calls the layer on symbolic nodes; set by `fnn.symbolic`.
    on_nodes: ClassVar[Callable[[Layer, tuple[object, ...], dict[str, object]], Tree]]
    # Answers for an attribute that a model knows, or NotImplemented; set by `fnn.models`.
    on_attribute: ClassVar[Callable[[Layer, str], object]] = staticmethod(_not_known)
    masking: ClassVar[Masking] = "refuse"
    # The weights of the children have a leading axis: one entry for each copy.
    stacked: ClassVar[bool] = False
    # The layer can compute with weights and features that are divided over devices.
    keeps_sharding: ClassVar[bool] = False
    # The names of weights that are not the stem of their field `<stem>_initializer`.
    weight_names: ClassVar[dict[str, str]] = {}
    # The names of the inputs of a layer of several inputs, in order.
    input_names: ClassVar[tuple[str, ...]] = ()
    # The fields that Keras takes as arguments of the call.
    call_fields: ClassVar[tuple[str, ...]] = ()
    # The layer mixes the last axis of its inputs, so a mask does not have this axis.
    mixes_features: ClassVar[bool] = False
    # Advice for attributes that layers have in other libraries.
    attribute_advice: ClassVar[dict[str, str]] = {}
    # Each step of the outputs depends on one step only; None: if masking is "pass".
    by_step: ClassVar[bool | None] = None

    name: str | None = field(default=None, kw_only=True)
    trainable: bool = field(default=True, kw_only=True)
    dtype: str | None = field(default=None, kw_only=True)
    input_shape: tuple[int | None, ...] | None = field(default=None, kw_only=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for keras_name, own_name in (("call", "apply"), ("build", "init")):
            if keras_name in cls.__dict__ and cls.apply is Layer.apply:
                raise TypeError(
                    f"{cls.__name__}: expected the pair init(key, x) and apply(params, state, x, "
                    f"ctx), received a method {keras_name}; write {own_name} instead: it takes "
                    "weights as params and returns new ones, and stores nothing on self"
                )
        check_pair(cls)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is not None and (not self.name or "/" in self.name):
            expected = "to be a string without '/', or None"
            raise arguments.wrong(self, "name", expected, self.name)
        for name, value in vars(self).items():
            if isinstance(value, Layer) and field_kind(name) == "activation":
                _require_function(self, name, value)
        if any(size is not None and size < 0 for size in self.input_shape or ()):
            expected = "to be sizes that are not negative, or None for any size"
            raise arguments.wrong(self, "input_shape", expected, self.input_shape)

    def init(self, key: Array, x: Tree) -> tuple[Params, State]:
        """Fresh weights and state for inputs like `x`."""
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Tree, ctx: Context = INFERENCE
    ) -> tuple[Tree, State]:
        """The outputs, and the state after this call."""
        raise TypeError(
            f"expected {type(self).__name__} to define apply(params, state, x, ctx), received a "
            "class without it; return (outputs, state) from it"
        )

    # `apply` without the input checks, and with them; set for each class that defines `apply`.
    unchecked_apply = checked_apply = apply

    def cache(self, params: Params, batch: int, length: int) -> State:
        """The state that the layer needs to process a sequence a few steps at a time.

        Empty if each step is independent; otherwise `apply` finds the previous steps in it (see
        `start_decoding`). Raises ValueError for a layer that mixes steps and has no cache.
        """
        by_step = self.by_step
        if by_step is None:
            by_step = self.masking == "pass"
        axes = getattr(self, "axis", -1)
        if not isinstance(axes, tuple):
            axes = (axes,)
        mixes_time = not {1, -2}.isdisjoint(axes)
        if by_step and not mixes_time:
            return {}
        raise arguments.no_cache(self)

    def is_example(self, params: Params, x: Tree) -> bool:
        """Whether `x` is one example without a batch axis, as inside `jax.vmap`.

        For layers that compute each example independently: `apply` then checks `x` as a batch of
        one. `init` takes batches only.
        """
        return False

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        """The layers inside, by name. A child named None shares the path of its parent."""
        return ()

    @property
    def ensemble_size(self) -> int:
        """The number of networks whose outputs are stacked, `(batch, networks, ...)`, or 0."""
        return 0

    @property
    def named_after(self) -> str:
        """What its default name among its siblings is made of: the name of its class."""
        return type(self).__name__

    @property
    def only_wires(self) -> bool:
        """Whether the outputs are those of the children, as `flow` connects them."""
        return False

    def weight(self, stem: str, key: Array, shape: tuple[int, ...]) -> Array:
        """A fresh weight by the field `<stem>_initializer`; its key depends on its name."""
        identifier = getattr(self, f"{stem}_initializer")
        initializer: Callable[..., Array] = resolve("initializer", identifier)
        name = self.weight_names.get(stem, stem)
        return initializer(random.fold_in(key, salt(name)), shape, self.weight_dtype)

    @property
    def weight_dtype(self) -> np.dtype:
        """float64 for a float64 layer, else float32: weights keep full precision."""
        if self.dtype == "float64":
            return jnp.dtype("float64")
        return jnp.dtype("float32")

    def _instead(self, name: str, value: object) -> str:
        if name == "trainable":
            return f"call model.{'unfreeze' if value else 'freeze'}(layer), and compile again"
        if name in self.attribute_advice:
            return self.attribute_advice[name]
        return super()._instead(name, value)

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        """`init, apply = layer`."""
        return iter((self.init, self.apply))

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """A node of a graph: this layer on symbolic inputs (`Input`).

        `training=False` runs it as in inference, `mask=m` gives the inputs a mask; other names are
        those of inputs (`initial_state=[h, c]`) and the arguments of Keras's call
        (`use_causal_mask=True`). Raises TypeError for anything else.
        """
        return Layer.on_nodes(self, inputs, named)

    if not TYPE_CHECKING:  # a type checker would accept every name

        def __getattr__(self, name: str) -> object:
            """Attributes of Keras's layers, `output` and `get_weights()`: the model has them."""
            if name[0] != "_":
                found = Layer.on_attribute(self, name)
                if found is not NotImplemented:
                    return found
            raise arguments.no_attribute(self, name, self.attribute_advice)


def _require_function(owner: Layer, name: str, layer: Layer) -> None:
    """Raises ValueError unless a layer given as an activation is a pure function of one array."""
    try:
        has_weights = _weights_of(layer) > 0
    except ValueError as error:  # it draws random numbers, or cannot take such inputs
        error.add_note(
            f"as {name} of {type(owner).__name__}: put the layer after this one"
        )
        raise
    if has_weights:
        expected = "to be a name, a function or a layer without weights"
        advice = (
            f"put the layer after this one: [{type(owner).__name__}(...), {layer!r}]"
        )
        raise arguments.wrong(owner, name, expected, layer, advice)


@small_cache(256)
def _weights_of(layer: Layer) -> int:
    """The number of weights and states that a layer creates, or returns in training."""

    def run(x: Array) -> Tree:
        params, state = layer.init(random.key(0), x)
        if params or state:
            return params, state
        return layer.apply({}, {}, x, Context(train=True))[1]

    trial = array_spec((2, 2, 2, 2), jnp.float32)
    return len(jax.tree.leaves(jax.eval_shape(run, trial)))


def activate(activation: Activation, y: Array) -> Array:
    """Applies an activation: a name, a function or a layer without weights; None: `y` itself."""
    function = resolve("activation", activation)
    if isinstance(function, Layer):
        y = function.apply({}, {}, y)[0]
    elif function is not None:
        y = function(y)
    return y


def along(vector: Array, ndim: int, axis: int = -1) -> Array:
    """`vector` reshaped to broadcast along one axis of an array of `ndim` axes."""
    # Strict JAX does not broadcast arrays of different ranks by itself.
    shape = [1] * ndim
    shape[axis] = vector.shape[0]
    return vector.reshape(shape)


def add_bias(y: Array, bias: Array, axis: int = -1) -> Array:
    """`y` plus one number for each channel along `axis`."""
    return y + along(bias, y.ndim, axis)
