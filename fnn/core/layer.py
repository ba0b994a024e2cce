"""Layer: the base class of everything with weights; a frozen value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random

from fnn.core import arguments
from fnn.core.arguments import Rule
from fnn.core.checks import check_init, check_pair
from fnn.core.config import Configurable
from fnn.core.context import INFERENCE, Context, Defaults, salt, take_defaults
from fnn.core.fields import field_kind
from fnn.core.registry import snake_case
from fnn.core.tree import Path, SpecTree, Tree, array_spec, has_strings
from fnn.core.value import resolve
from fnn.runtime.program_cache import Copied, changes, small_cache

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


def _unheard(*given: object) -> None:
    """The default of hooks that nothing above has set."""


class Layer(Copied, Configurable, loadable=False):
    """A pure function with weights, described by its fields; it never holds an array.

    Subclass it, declare the fields, define two methods:

        init(key, x) -> (params, state)                   x: anything with .shape and .dtype
        apply(params, state, x, ctx) -> (outputs, state)  always both

    `params` are learned, `state` is updated by calls (running averages); both are dicts, empty if
    the layer has none. Layers of several inputs take a tuple. Shapes, configuration and equality
    follow from the fields and from running the two methods abstractly; no other method is needed.

    `name`         the name within its parent; Keras's default (`dense`, `dense_1`) if None;
                   reads as the name in its model
    `trainable`    False: the weights stay fixed and batch statistics are not updated; it can be
                   assigned later, and counts for every model with the layer from its next call on
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
    # Called with each new class, before anything else; set by `fnn.subclassing`.
    on_subclass: ClassVar[Callable[[type], None]] = staticmethod(_unheard)
    # Calls the layer on arrays, and shows it in a notebook as HTML; set by `fnn.models`.
    on_arrays: ClassVar[Callable[[Layer, tuple[object, ...], dict[str, object]], Tree]]
    _repr_html_: ClassVar[Callable[[Layer], str]]
    # Told of a field assigned, asked about the network of a model: by `fnn.models`.
    on_assigned: ClassVar[Callable[[Layer, str], None]] = staticmethod(_unheard)
    is_of_model: ClassVar[Callable[[Layer], bool | None]] = staticmethod(_unheard)
    # Whether layers inside are told apart as objects; places inside with the weights of others.
    holds_objects: ClassVar[bool] = False
    inner_ties: ClassVar[tuple[tuple[Path, Path], ...]] = ()
    # What layers that do not say have as dtype and data format; set by `fnn.config`.
    settings: ClassVar[Defaults]
    # The fields that can be assigned after construction: none changes the weights.
    assignable: ClassVar[tuple[str, ...]] = ("trainable", "activation", "fixed_weights")
    masking: ClassVar[Masking] = "refuse"
    # On strings, which only the host has: "move" if the outputs are elements of the inputs, "run"
    # if `apply` takes arrays of NumPy too.
    with_strings: ClassVar[Literal["refuse", "move", "run"]] = "refuse"
    # The weights of the children have a leading axis: one entry for each copy.
    stacked: ClassVar[bool] = False
    # The layer can compute with weights and features that are divided over devices.
    keeps_sharding: ClassVar[bool] = False
    # JAX divides the operations of the layer over devices, on explicit axes too.
    automatic_axes: ClassVar[bool] = False
    # The names of weights that are not the stem of their field `<stem>_initializer`.
    weight_names: ClassVar[dict[str, str]] = {}
    # The axes of the inputs, or of the first of them: "(batch, ..., features)"; "" for any.
    input_layout: ClassVar[str] = ""
    # Rules for the inputs of `init`, and for the fields in decoding: each raises ValueError.
    input_rules: ClassVar[tuple[Callable[[Any, Any], object], ...]] = ()
    cache_rules: ClassVar[tuple[Rule, ...]] = ()
    # The names of the inputs of a layer of several inputs, in order.
    input_names: ClassVar[tuple[str, ...]] = ()
    # The fields that Keras takes as arguments of the call.
    call_fields: ClassVar[tuple[str, ...]] = ()
    # The layer may draw random numbers in inference too.
    may_draw: ClassVar[bool] = False
    # Called on arrays without `training`, outside of a model, it runs as in training.
    training_alone: ClassVar[bool] = False
    # The layer mixes the last axis of its inputs, so a mask does not have this axis.
    mixes_features: ClassVar[bool] = False
    # With a dtype, floating-point inputs are cast to it.
    casts_inputs: ClassVar[bool] = True
    # Without a dtype of its own, the layer has that of the policy in force.
    follows_policy: ClassVar[bool] = True
    # A function of nodes, which Keras does not count as a layer.
    is_operation: ClassVar[bool] = False
    # Advice for attributes that layers have in other libraries.
    attribute_advice: ClassVar[dict[str, str]] = {}
    # An `InputSpec` of the inputs, or a list of them, if the layer has checks of its own.
    input_spec: ClassVar[Any] = None
    # Each step of the outputs depends on one step only; None: if masking is "pass".
    by_step: ClassVar[bool | None] = None

    name: str | None = field(default=None, kw_only=True)
    trainable: bool = field(default=True, kw_only=True)
    fixed_weights: tuple[str, ...] = field(default=(), kw_only=True)
    dtype: str | None = field(default=None, kw_only=True)
    input_shape: tuple[int | None, ...] | None = field(default=None, kw_only=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        Layer.on_subclass(cls)
        super().__init_subclass__(**kwargs)
        check_pair(cls)

    def __post_init__(self) -> None:
        super().__post_init__()
        name = self.own_name
        if name is not None and (not name or "/" in name or not name.isprintable()):
            expected = "to be a printable string without '/', or None"
            raise arguments.wrong(self, "name", expected, name)
        take_defaults(self, Layer.settings)
        for name, value in vars(self).items():
            if isinstance(value, Layer) and field_kind(name) == "activation":
                _require_function(self, name, value)
        if any(size is not None and size < 0 for size in self.input_shape or ()):
            expected = "to be sizes that are not negative, or None for any size"
            raise arguments.wrong(self, "input_shape", expected, self.input_shape)

    @staticmethod
    def without_policy() -> AbstractContextManager[None]:
        return Layer.settings.without_policy()

    def init(self, key: Array, x: Tree) -> tuple[Params, State]:
        """Fresh weights and state for inputs like `x`."""
        check_init(self, key, x)
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
        axes = np.atleast_1d(getattr(self, "axis", -1)).tolist()
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

    def runs_on_host(self, x: SpecTree) -> bool:
        """Whether NumPy computes the outputs for inputs like `x`, ahead of compiled programs."""
        return self.with_strings != "refuse" and has_strings(x)

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

    def weight_rules(self, part: str) -> dict[str, object]:
        """The regularizer or constraint (`part`) of each own weight: field `<stem>_<part>`."""
        rules = {}
        for name in self.__dataclass_fields__:
            stem, _, end = name.rpartition("_")
            if end == part:
                rules[self.weight_names.get(stem, stem)] = getattr(self, name)
        return rules

    @property
    def weight_dtype(self) -> np.dtype:
        """float64 for a float64 layer, else `fnn.config.floatx()`: full precision in any case."""
        if self.dtype == "float64":
            return jnp.dtype("float64")
        if self.dtype is None:
            return jnp.dtype(Layer.settings.floatx)
        return jnp.dtype("float32")

    @property
    def variable_dtype(self) -> str:
        """The dtype of the weights, by Keras's name."""
        return str(self.weight_dtype)

    @property
    def compute_dtype(self) -> str:
        """The dtype that the layer computes in, by Keras's name."""
        return self.dtype or Layer.settings.floatx

    @property
    def own_name(self) -> str | None:
        """The name that the layer was given; `name` is the name in its model if there is none."""
        given: str | None = vars(self).get("name")
        return given

    def __setattr__(self, name: str, value: object) -> None:
        """Changes a layer in place by one of the fields in `assignable`, as in Keras.

        Everything that contains the layer changes with it. The fields are checked as on
        construction. `trainable` reaches the layers inside.
        """
        held = vars(self)
        if name in self.assignable and ("_sealed" in held or name in held):
            self._change(name, value)
            return
        super().__setattr__(name, value)
        # Of a class with its own `__init__`.
        held.pop("_fnn_children", None)
        if name in ("trainable", "fixed_weights"):
            changes.note()

    def _change(self, name: str, value: object) -> None:
        held = vars(self)
        if "_fnn_is_twin" in held:
            raise arguments.wrong(self, name, "to stay as it is in a cache", value)
        changed = self.replace(**{name: value})
        held[name] = vars(changed)[name]
        if name == "trainable":
            for _, child in self.children():
                child.trainable = self.trainable  # type: ignore[misc]
        else:
            # The parts of a composite layer follow from its fields.
            held.pop("_fnn_children", None)
        changes.note()
        Layer.on_assigned(self, name)

    def _instead(self, name: str, value: object) -> str:
        if hasattr(value, "shape"):
            return f"use layer.{name}.assign(value), once the layer has weights"
        return self.attribute_advice.get(name) or super()._instead(name, value)

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        """`init, apply = layer`."""
        return iter((self.init, self.apply))

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """On symbolic inputs (`Input`) a node of a graph, on arrays the outputs, with weights kept.

        `training=False` runs it as in inference, `mask=m` gives the inputs a mask; other names are
        those of inputs (`initial_state=[h, c]`) and the arguments of Keras's call
        (`use_causal_mask=True`). On arrays the weights are made at the first call and kept beside
        the layer, as in Keras; the pure form is `init, apply = layer`.
        """
        for leaf in jax.tree.leaves((inputs, named)):
            if getattr(leaf, "is_symbolic", False):
                return Layer.on_nodes(self, inputs, named)
        return Layer.on_arrays(self, inputs, named)

    if not TYPE_CHECKING:  # a type checker would accept every name

        def __getattr__(self, name: str) -> object:
            """Attributes of Keras's layers, `output` and `get_weights()`: the model has them."""
            if name[0] != "_":
                found = Layer.on_attribute(self, name)
                if found is not NotImplemented:
                    return found
            raise arguments.no_attribute(self, name, self.attribute_advice)


class _Name:
    """`layer.name`: as given, else that in its model, else Keras's default for its class."""

    def __get__(self, layer: Layer | None, owner: type) -> str | None:
        if layer is None:
            return None
        if layer.own_name is not None:
            return layer.own_name
        known = Layer.on_attribute(layer, "name")
        if isinstance(known, str):
            return known
        return snake_case(layer.named_after)

    def __set__(self, layer: Layer, name: str | None) -> None:
        vars(layer)["name"] = name


# Only now, since a dataclass reads the default of a field from the class.
Layer.name = _Name()  # type: ignore[assignment]


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
