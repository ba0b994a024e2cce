"""Layers in Keras's way: a class with `build` and `call` as a pure pair of init and apply."""

from __future__ import annotations

from typing import Any, Self, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, random

from fnn.core import arguments, tree, tying
from fnn.core.calling import init_child
from fnn.core.context import (
    INFERENCE,
    Context,
    carry_mask,
    is_masked,
    salt,
    strip_masks,
)
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import Path, SpecTree, Tree
from fnn.runtime.program_cache import changes, shallow
from fnn.subclassing.calls import run
from fnn.subclassing.compared import Compared
from fnn.subclassing.containers import Attribute, copied
from fnn.subclassing.declaring import Declaring
from fnn.subclassing.described import Described
from fnn.subclassing.frame import Declared, Running, running_frame
from fnn.subclassing.methods import Methods
from fnn.subclassing.signature import (
    Named,
    Positional,
    Signature,
    as_arguments,
    as_list,
    build_arguments,
    form_of,
    is_input,
    signature_of,
)
from fnn.subclassing.tracking import (
    duplicate,
    joined,
    layers_in,
    variables_in,
)

_GONE = (
    "what call assigns to self is gone after the call; return it, or assign a weight made by "
    "add_weight(..., trainable=False)"
)
# Where the state holds the sum of what `add_loss` added.
LOSSES = "added_losses"

Arguments: TypeAlias = tuple[Positional, Named]


class KerasLayer(  # type: ignore[override]
    Methods, Described, Compared, Layer, loadable=False
):
    """The base of layers that define `call`: put below such a class when it is created.

    `init` and `apply` run `build` and `call` on a copy, whose weights are those of the trees, in
    a frame: layers among the attributes are its children, under the names of the attributes.
    """

    masking = "inside"
    holds_objects = True
    may_draw = True
    activity_regularizer: Any = None

    def __new__(cls, *given: object, **named: object) -> Self:
        made = super().__new__(cls)
        object.__setattr__(made, "_given", (given, named))
        return made

    def __init__(
        self,
        *given: Any,
        activity_regularizer: object = None,
        autocast: bool = True,
        **named: Any,
    ) -> None:
        if "batch_shape" in named or "batch_input_shape" in named:
            shape = named.pop("batch_shape", None) or named.pop("batch_input_shape")
            named["input_shape"] = tuple(shape)[1:]
        if "input_dim" in named and self._native is None:
            named["input_shape"] = (named.pop("input_dim"),)
        super().__init__(*given, **named)
        if activity_regularizer is not None:
            vars(self)["activity_regularizer"] = activity_regularizer

    # -- for the methods of a subclass -----------------------------------------------------------

    def build(self, input_shape: Tree) -> None:
        """Makes the weights for inputs of this shape; by default those of the base layer."""
        frame = running_frame()
        if self._native is not None and frame is not None:
            frame.native_inputs = frame.inputs

    def call(
        self,
        inputs: Tree,
        *others: Tree,
        **named: Tree,
    ) -> Tree:
        """The outputs; by default those of the layer that this class extends."""
        frame = running_frame()
        if self._native is None or frame is None:
            raise TypeError(
                f"expected {type(self).__name__} to define call(inputs), received a class "
                "without it; return the outputs from it"
            )
        return frame.run_native(self._native, (inputs, *others), named)

    def _note_change(self, name: str) -> None:
        vars(self).pop("_fnn_hosts", None)
        self._forget()
        if name == "trainable" and running_frame() is None:
            for _, child in self.children():
                child.trainable = self.trainable  # type: ignore[misc]
            changes.note()
            Layer.on_assigned(self, name)

    def _note_change_inside(self, name: str) -> None:
        frame = running_frame()
        if frame is not None and frame.host is self:
            return
        if Layer.on_attribute(self, "built") is not True:
            self._hosts.clear()
        for host in self._hosts.values():
            # `build` has run on it, and does not run again.
            attribute = Attribute(host, name)
            vars(host)[name] = copied(vars(self)[name], attribute)
        if self._reads(name):
            self._forget()
            changes.note()

    def replace(self, **changes: object) -> Self:
        changed = super().replace(**changes)
        if not changes:
            object.__setattr__(changed, "_fnn_hosts", self._hosts)
        return changed

    def __getattr__(self, name: str) -> object:
        if not name.startswith("_"):
            for host in reversed(self._hosts.values()):
                if name in vars(host):
                    found = vars(host)[name]
                    for variable in variables_in(host).values():
                        self._adopt(variable)
                    return found
            frame = running_frame()
            if frame is not None and frame.host is self:
                found = frame.own_weight(name)
                if found is not None:
                    return found
        try:
            return super().__getattr__(name)  # type: ignore[misc]
        except AttributeError as error:
            if name[0] != "_" and name in self._class.call.__code__.co_names:
                error.args = (f"{error.args[0]}: {_GONE}",)
            raise

    # -- the pure pair ---------------------------------------------------------------------------

    @property
    def _hosts(self) -> dict[Any, Any]:
        """The copies on which `build` has run, by the shapes that it was given."""
        hosts: dict[Any, Any] = vars(self).setdefault("_fnn_hosts", {})
        return hosts

    @property
    def _class(self) -> Any:
        """The class whose `build` and `call` run."""
        return type(self)

    @property
    def _own(self) -> Any:
        """The object whose attributes are those of the user's class."""
        return self

    def _bare(self) -> Any:
        """A new host: an object with the attributes of this one, to run methods on."""
        return duplicate(self._own)

    @property
    def _signature(self) -> Signature:
        return signature_of(self._class.call)

    def _arguments(self, x: Tree) -> Arguments:
        """The arguments of `call` for the inputs of `apply`."""
        if self._form is None:
            given = as_arguments(self._signature, x)
            if hasattr(self, "state_size") and len(given) == 2:
                # A cell: Keras passes its states in a list.
                given = given[0], as_list(given[1])
            return given, {}
        inputs = x if isinstance(x, tuple) else (x,)
        return self._form.fill(inputs)

    def bind_call(
        self,
        inputs: Positional,
        named: Named,
    ) -> tuple[Layer, Tree]:
        """(this layer with the form of a call, the arrays or nodes among the arguments)."""
        signature = self._signature
        known = signature.names | {"training", "mask"}
        if not signature.takes_any and not named.keys() <= known:
            unknown = sorted(named.keys() - known)
            raise TypeError(
                f"{type(self).__name__}: expected arguments of call{signature.positional}, "
                f"received {unknown}"
            )
        named = {name: value for name, value in named.items() if value is not None}
        if not named and len(inputs) == 1 and self._is_plain(inputs[0]):
            (x,) = inputs
            if isinstance(x, list):
                x = tuple(x)
            return self, x
        form, arrays = form_of(inputs, named)
        variant = shallow(self)
        object.__setattr__(variant, "_form", form)
        object.__setattr__(variant, "_fnn_hosts", self._hosts)
        if len(arrays) == 1:
            return variant, arrays[0]
        return variant, arrays

    def _is_plain(self, x: Tree) -> bool:
        if not isinstance(x, (list, tuple)):
            return is_input(x)
        if len(self._signature.positional) > 1:
            return False
        return bool(x) and all(map(is_input, x))

    def _host(self, given: Positional, named: Named) -> Any:
        """The copy on which `build` has run for inputs of these shapes."""
        leaves, structure = jax.tree.flatten((given, named), is_leaf=is_masked)
        key = structure, tuple(map(_shape_without_batch, leaves))
        if key not in self._hosts:
            self._hosts[key] = self._built(given, named)
        return self._hosts[key]

    def prepare(self, x: SpecTree) -> None:
        """Runs `build` for inputs like `x`, so that its variables are known."""
        self._host(*self._arguments(x))

    def _built(self, given: Positional, named: Named) -> Any:
        host = self._bare()
        vars(host)["_fnn_declared"] = self._run_build(host, given, named)
        return host

    def _run_build(
        self,
        host: Any,
        given: Positional,
        named: Named,
    ) -> tuple[Declared, SpecTree]:
        """Runs `build` of an object. What it declares: layers inside, inputs of the base layer."""
        declared: Declared = {}
        frame = Declaring(host, Context(), declared)
        frame.inputs = strip_masks(tree.spec(given[0]))
        names = self._signature.positional
        by_name = [named[name] for name in names[len(given) :] if name in named]
        inputs = strip_masks((*given, *by_name))
        shapes = build_arguments(self._class.build, names, inputs)
        with frame, jax.ensure_compile_time_eval():
            if isinstance(shapes, dict):
                host.build(**shapes)
            else:
                host.build(*shapes)
        object.__setattr__(host, "built", True)
        return declared, frame.native_inputs

    def _declared(self, x: SpecTree) -> Declaring:
        """The frame of a run on shapes: the weights, layers and losses that there are."""
        x = tree.spec(x)
        given, named = self._arguments(x)
        host = self._host(given, named)
        declared, native_inputs = vars(host)["_fnn_declared"]
        declared = dict(declared)
        frames: list[Declaring] = []

        def trial(key: Array, x: Tree) -> Tree:
            given, named = self._arguments(x)
            ctx = Context(train=True, key=key)
            frame = Declaring(duplicate(host), ctx, declared)
            frame.ties = self.inner_ties
            frame.native_inputs = native_inputs
            frames.append(frame)
            return strip_masks(run(self._class, frame, given, named))

        tree.shapes_of(trial, random.key(0), x)
        return frames[0]

    def init(self, key: Array, x: Tree) -> tuple[Params, State]:
        frame = self._declared(x)
        params: Params = {}
        state: State = {}
        if self._native is not None and frame.native_inputs is not None:
            params, state = self._native.init(self, key, frame.native_inputs)
        for name, variable in frame.variables().items():
            part = params if variable.trainable else state
            part[name] = variable.initial(random.fold_in(key, salt(name)))
        for name, (layer, like) in frame.declared_in_order().items():
            *around, last = name.split("/")
            own_key = key
            for outer in around:
                own_key = random.fold_in(own_key, salt(outer))
            made = init_child(last, layer, own_key, like)
            params, state = joined((params, state), name, made)
        for path, variable in frame.used.items():
            *around, last = path
            own_key = random.fold_in(key, salt("/".join(path)))
            weight = {last: variable.initial(own_key)}
            made = ({}, weight)
            if variable.trainable:
                made = (weight, {})
            params, state = joined((params, state), "/".join(around), made)
        if frame.losses:
            state[LOSSES] = {"aux_loss": jnp.zeros(())}
        ties = self.inner_ties
        return tying.gathered(params, ties), tying.gathered(state, ties)

    def apply(
        self, params: Params, state: State, x: Tree, ctx: Context = INFERENCE
    ) -> tuple[Tree, State]:
        x, ctx = carry_mask(x, ctx)
        given, named = self._arguments(x)
        training = named.get("training")
        if training is not None:
            ctx = ctx.replace(train=bool(training))
        host = self._host(given, named)
        ties = self.inner_ties

        def apply(params: Params, state: State) -> tuple[Tree, State]:
            frame = Running(duplicate(host), params, state, ctx, ties)
            y = run(self._class, frame, given, dict(named))
            if LOSSES in state:
                total = sum(frame.losses, jnp.zeros(()))
                frame.state[LOSSES] = {"aux_loss": total.astype(jnp.float32)}
            return y, frame.state

        if ties:
            return tying.run(ties, apply, params, state)
        return apply(params, state)

    def weight_rules(self, part: str) -> dict[str, object]:
        rules = super().weight_rules(part)
        for host in (self._own, *self._hosts.values()):
            for name, variable in variables_in(host).items():
                rules[name] = getattr(variable, part)
        return rules

    # -- what it is as a value -------------------------------------------------------------------

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        vars(self)["_fnn_seen"] = True
        return tuple(layers_in(self.last_host).items())

    @property
    def last_host(self) -> Any:
        """The object with the attributes of this layer on which `build` ran last, if it did."""
        hosts = list(self._hosts.values())
        return hosts[-1] if hosts else self._own

    def path_of_variable(self, variable: object) -> Path:
        """The path of a variable of this layer or of a layer inside; empty if there is none."""
        for host in (*self._hosts.values(), self._own):
            for name, own in variables_in(host).items():
                if own is variable:
                    return (name,)
            for name, layer in layers_in(host).items():
                find = getattr(layer, "path_of_variable", None)
                inner: Path = () if find is None else find(variable)
                if inner:
                    return (name, *inner)
        return ()

    def __repr__(self) -> str:
        given, named = vars(self).get("_given", ((), {}))
        shown = [arguments.shown(item, 60) for item in given]
        shown += [f"{name}={arguments.shown(item, 60)}" for name, item in named.items()]
        return f"{type(self).__name__}({', '.join(shown)})"


def _shape_without_batch(leaf: Any) -> tuple[int, ...] | None:
    if hasattr(leaf, "shape"):
        return tuple(leaf.shape[1:])
    return None
