"""Layer: the base class of everything with weights; a frozen value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, random

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context, salt
from fnn.core.door import check_pair
from fnn.core.fields import field_kind
from fnn.core.value import Value, resolve
from fnn.runtime.program_cache import small_cache

Params: TypeAlias = dict[str, Any]
State: TypeAlias = dict[str, Any]
Masking: TypeAlias = Literal["pass", "use", "inside", "refuse"]

# What the fields of a layer may hold: a name, a function or a value, and None for none.
Activation: TypeAlias = Any
Initializer: TypeAlias = Any
Regularizer: TypeAlias = Any
Constraint: TypeAlias = Any


class Layer(Value, loadable=False):
    """A pure function with weights, described by its fields; it never holds an array.

    Subclass it, list the fields, write the pair:

        init(key, x) -> (params, state)                   x: anything with .shape and .dtype
        apply(params, state, x, ctx) -> (outputs, state)  always both

    `params` learn, `state` moves (running averages); both are dicts, empty where there is
    nothing. Layers of several inputs take a tuple. Shapes, configuration and equality follow from
    the fields and from running the pair abstractly; no other method is needed.

    `name`         the name within its parent; Keras's default (`dense`, `dense_1`) if None
    `trainable`    False: the weights stay as they are and batch statistics are not updated
    `dtype`        the dtype to compute in: inputs and weights are cast to it, and layers inside
                   compute in it unless they have their own; None: that of weights and inputs
    `input_shape`  the shape of one example; a `Sequential` that starts with it is built at once

    `masking` says what happens to a mask `(batch, time)` on the inputs:
    "pass" (it stays on the outputs), "use" (the layer reads `ctx.mask` and the outputs have none,
    or it returns `Masked`), "inside" (a combinator, its children decide), "refuse" (an error).

    A method `check_values(x)` may raise for numbers that the layer cannot take (`Embedding`: ids
    out of range). It gets inputs as NumPy arrays, by a model and by `apply` where they are known.

    >>> class Scale(Layer):
    ...     factor: float = 2.0
    ...     def apply(self, params, state, x, ctx=INFERENCE):
    ...         return x * self.factor, state
    >>> init, apply = Scale(3.0)
    >>> apply(*init(random.key(0), jnp.ones(2)), jnp.ones(2))[0].tolist()
    [3.0, 3.0]
    """

    kind: ClassVar[str] = "layer"
    on_nodes: ClassVar[
        Callable[[Layer, Any, Any], Any]
    ]  # a call: `fnn.symbolic` sets it
    # What a model knows of this object: `fnn.models` sets it.
    on_attribute: ClassVar[Callable[[Layer, str], Any]] = staticmethod(
        lambda *_: NotImplemented
    )
    masking: ClassVar[Masking] = "refuse"
    stacked: ClassVar[bool] = (
        False  # the weights of the children have a leading axis of copies
    )
    keeps_sharding: ClassVar[bool] = (
        False  # it computes with weights and features that are divided
    )
    weight_names: ClassVar[
        dict[str, str]
    ] = {}  # where `<stem>_initializer` is not for `<stem>`
    input_names: ClassVar[
        tuple[str, ...]
    ] = ()  # of a layer of several inputs, in their order
    call_fields: ClassVar[
        tuple[str, ...]
    ] = ()  # those that Keras takes at the call of the layer
    mixes_features: ClassVar[bool] = (
        False  # a mask of its inputs leaves their last axis out
    )
    attribute_advice: ClassVar[
        dict[str, str]
    ] = {}  # for attributes that other libraries have
    by_step: ClassVar[bool | None] = (
        None  # no step depends on another; None: if masking is "pass"
    )

    name: str | None = field(default=None, kw_only=True)
    trainable: bool = field(default=True, kw_only=True)
    dtype: str | None = field(default=None, kw_only=True)
    input_shape: tuple[int | None, ...] | None = field(default=None, kw_only=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for keras_name, ours in (("call", "apply"), ("build", "init")):
            if keras_name in cls.__dict__ and cls.apply is Layer.apply:
                raise TypeError(
                    f"{cls.__name__}: expected the pair init(key, x) and apply(params, state, x, "
                    f"ctx), received a method {keras_name}; write {ours} instead: weights come "
                    "in as params and go out as results, nothing is kept on self"
                )
        check_pair(cls)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is not None and (not self.name or "/" in self.name):
            raise arguments.wrong(
                self, "name", "to be a string without '/', or None", self.name
            )
        for name, value in vars(self).items():
            if isinstance(value, Layer) and field_kind(name) == "activation":
                _require_function(self, name, value)
        if any(size is not None and size < 0 for size in self.input_shape or ()):
            expected = "to be sizes, or None where any will do"
            raise arguments.wrong(self, "input_shape", expected, self.input_shape)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        """Fresh weights and state for inputs like `x`."""
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        """The outputs, and the state after this call."""
        raise TypeError(
            f"expected {type(self).__name__} to define apply(params, state, x, ctx), received a "
            "class without it; return (outputs, state) from it"
        )

    # What `apply` does behind the checks, and `apply` with these: of each class that defines it.
    unchecked_apply = checked_apply = apply

    def cache(self, params: Params, batch: int, length: int) -> State:
        """What the state gains where a sequence comes a few steps at a time (`start_decoding`).

        Nothing if each step is by itself, else what `apply` then finds in the state of the steps
        before. Raises ValueError for a layer that mixes steps and keeps none.
        """
        alone = self.masking == "pass" if self.by_step is None else self.by_step
        axes = getattr(self, "axis", -1)
        if alone and not {1, -2} & {*(axes if isinstance(axes, tuple) else (axes,))}:
            return {}
        raise arguments.no_cache(self)

    def is_example(self, params: Params, x: Any) -> bool:
        """Whether `x` is one example without a batch axis, as inside `jax.vmap`.

        For layers that compute each example by itself: `apply` then checks `x` as a batch of one.
        `init` takes batches only.
        """
        return False

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        """The layers inside, by name; one named None has its weights where this layer has them."""
        return ()

    @property
    def ensemble_size(self) -> int:
        """How many networks have their outputs side by side, `(batch, networks, ...)`; 0 if one."""
        return 0

    @property
    def named_after(self) -> str:
        """What its default name among its siblings is made of: the name of its class."""
        return type(self).__name__

    @property
    def only_wires(self) -> bool:
        """Whether the outputs are those of the children that `flow` leads the inputs through."""
        return False

    def weight(self, stem: str, key: Array, shape: tuple[int, ...]) -> Array:
        """A fresh weight by the field `<stem>_initializer`; its own name gives it its key."""
        initializer = resolve("initializer", getattr(self, f"{stem}_initializer"))
        name = self.weight_names.get(stem, stem)
        return initializer(random.fold_in(key, salt(name)), shape, self.weight_dtype)

    @property
    def weight_dtype(self) -> Any:
        """float64 for a float64 layer, else float32: weights keep full precision."""
        return jnp.dtype(self.dtype if self.dtype == "float64" else "float32")

    def _instead(self, name: str, value: Any) -> str:
        if name == "trainable":
            return f"call model.{'unfreeze' if value else 'freeze'}(layer), and compile again"
        if name in self.attribute_advice:
            return self.attribute_advice[name]
        return super()._instead(name, value)

    def __iter__(self) -> Iterator[Any]:
        """`init, apply = layer`."""
        return iter((self.init, self.apply))

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """A node of a graph: this layer on symbolic inputs (`Input`).

        `training=False` runs it as in inference, `mask=m` gives the inputs a mask; other names are
        those of inputs (`initial_state=[h, c]`) and of what Keras takes at the call
        (`use_causal_mask=True`). Raises TypeError for anything else.
        """
        return Layer.on_nodes(self, inputs, named)

    if not TYPE_CHECKING:  # a type checker would take every name for one that is there

        def __getattr__(self, name: str) -> Any:
            """What Keras keeps on layers, `output` and `get_weights()`: its model knows it."""
            found = NotImplemented if name[0] == "_" else Layer.on_attribute(self, name)
            if found is not NotImplemented:
                return found
            raise arguments.no_attribute(self, name, self.attribute_advice)


def _require_function(owner: Layer, name: str, layer: Layer) -> None:
    """Raises ValueError unless an activation that is a layer is a function of one array alone."""
    try:
        holds = _weights_of(layer)
    except ValueError as error:  # a draw without a key, or inputs that cannot be
        error.add_note(
            f"as {name} of {type(owner).__name__}: put the layer after this one"
        )
        raise
    if holds:
        expected = "to be a name, a function or a layer without weights"
        advice = (
            f"put the layer after this one: [{type(owner).__name__}(...), {layer!r}]"
        )
        raise arguments.wrong(owner, name, expected, layer, advice)


@small_cache(256)
def _weights_of(layer: Layer) -> int:
    """How many weights and states a layer makes and returns in training without a key."""

    def run(x: Array) -> Any:
        params, state = layer.init(random.key(0), x)
        return (
            (params, state)
            if params or state
            else layer.apply({}, {}, x, Context(train=True))[1]
        )

    trial = jax.ShapeDtypeStruct((2, 2, 2, 2), jnp.float32)
    return len(jax.tree.leaves(jax.eval_shape(run, trial)))


def activate(activation: Any, y: Array) -> Array:
    """The activation, a name, a function or a layer without weights, of `y`; `y` for None."""
    found = resolve("activation", activation)
    if isinstance(found, Layer):
        return found.apply({}, {}, y)[0]
    return y if found is None else found(y)


def along(vector: Array, ndim: int, axis: int = -1) -> Array:
    """`vector` shaped to broadcast along one axis of an array of `ndim` axes (strict JAX)."""
    shape = [1] * ndim
    shape[axis] = vector.shape[0]
    return vector.reshape(shape)


def add_bias(y: Array, bias: Array, axis: int = -1) -> Array:
    """`y` plus one number for each channel along `axis`."""
    return y + along(bias, y.ndim, axis)
