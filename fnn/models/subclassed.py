"""Models in Keras's way: classes with `__init__`, `call` and `build`."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import jax

from fnn.core.context import strip_masks
from fnn.core.layer import Layer
from fnn.core.registry import CustomObjectScope, snake_case
from fnn.core.tree import Path, SpecTree, Tree, dtype_name
from fnn.models import cells, fitting, sharing
from fnn.models.call import ModelCall
from fnn.models.call_weights import CallWeights
from fnn.models.model import Model, Verbose
from fnn.models.network import Network
from fnn.models.own_data import StepFeed, own_predictions
from fnn.models.own_steps import StepProgram
from fnn.models.weights import Weights
from fnn.models.wiring import nodes_of_shape
from fnn.subclassing import Methods, running_frame
from fnn.subclassing.described import arguments_of, given_arguments
from fnn.subclassing.frame import Declared
from fnn.subclassing.tracking import layers_in, tracked, variables_in
from fnn.symbolic.node import Node, bound_call, symbolic_call
from fnn.training.loop import Callbacks
from fnn.variables import Variable


class KerasModel(Methods, Model):
    """The base of models that define `call`: put below such a class when it is created.

    The network is `call`, run on an object with the attributes of the model: layers, models and
    variables among them are its children, under the names of the attributes.
    """

    # Attributes that are not the user's.
    _parts: ClassVar[frozenset[str]] = frozenset(
        {
            *("_weights", "_program", "_feed", "_used_as", "_start", "history"),
            *("stop_training", "stop_evaluating", "stop_predicting"),
        }
    )

    def __new__(cls, *given: Any, **named: Any) -> Self:
        made = super().__new__(cls)
        vars(made)["_fnn_given"] = given, named
        return made

    def __init__(
        self,
        *given: Any,
        trainable: bool = True,
        dtype: Any = None,
        **named: Any,
    ) -> None:
        vars(self)["_fnn_trainable"] = trainable
        dtype = dtype or Layer.settings.dtype_of_new_layers
        if dtype is not None:
            vars(self)["_dtype_given"] = dtype_name(dtype)
        is_plain = super().__init__.__func__ is Model.__init__  # type: ignore[attr-defined]
        if is_plain and not given and "inputs" not in named:
            name = named.pop("name", None)
            vars(self)["_fnn_name"] = name
            name = name or snake_case(type(self).__name__)
            self._set_up(None, None, name, **named)
        else:
            super().__init__(*given, **named)

    def _set_up(
        self, layer: Any, inputs: Tree, name: str, seed: int | None = None
    ) -> None:
        if layer is not None and type(self).call is KerasModel.call:
            super()._set_up(layer, inputs, name, seed)
            return
        if layer is not None:
            # What `super().call` computes.
            vars(self)["network"] = layer
        network = Network(ModelCall(self), inputs, name)
        self._take_parts(CallWeights(network, seed, self))
        vars(self)["_fnn_changed"] = True

    @property
    def _whole(self) -> Layer:
        """The layers of a `Sequential` in a row."""
        layer: Layer = vars(self).get("network", self.layer)
        return layer

    def _network_of(self, whole: Layer, inputs: Tree) -> Network:
        if "network" not in vars(self):
            return Network(whole, inputs, self.name)
        vars(self)["network"] = whole
        return Network(ModelCall(self), inputs, self.name)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor, as in Keras; `from_config` makes an equal model.

        In a class that overrides it, `super().get_config()` has those of the base: add your own.
        """
        if not self._has_call():
            return super().get_config()
        config = {"name": self.name, "trainable": self.trainable, "dtype": None}
        if type(self).get_config is KerasModel.get_config:
            config |= given_arguments(type(self), *vars(self)["_fnn_given"])
        return config

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        custom_objects: Mapping[str, object] | None = None,
    ) -> Self:
        """The model that `get_config` described, with new weights."""
        # The config of a graph, or that of one layer.
        if {"layers", "input_layers"} <= config.keys() or {
            "layer",
            "inputs",
        } <= config.keys():
            return super().from_config(config, custom_objects)
        with CustomObjectScope(custom_objects or {}):
            given, later = arguments_of(cls, config)
        made = cls(**given)
        if later.get("name"):
            made.name = later["name"]
        return made

    def __getstate__(self) -> dict[str, object]:
        if "_weights" not in vars(self):
            # The object on which `call` runs has no weights.
            return dict(vars(self))
        return super().__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_weights" not in state:
            return
        held = self._weights
        weights: Weights = held
        if isinstance(self.layer, ModelCall):
            weights = CallWeights(held.network, None, self)
            weights.key = held.key
        program = self._program.copy_for_model(weights, self)
        self._weights, self._program = weights, program
        weights.user = weakref.ref(self)
        self._feed = StepFeed(weights, program)
        if isinstance(weights, CallWeights) and held.built:
            now = held.now
            held.forget()
            weights.take(now)

    def _take_parts(self, weights: Weights) -> None:
        self._weights = weights
        weights.user = weakref.ref(self)
        self._program: StepProgram = StepProgram(weights, self)
        self._feed = StepFeed(weights, self._program)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            if name not in ("_weights", "_program", "_feed"):
                return super().__getattr__(name)
            owner = type(self).__name__
            if running_frame() is not None:
                raise AttributeError(
                    f"{owner}: expected call to use the layers, variables and attributes of the "
                    "model, received a use of its weights or of a method such as predict, which "
                    "it does not have while call runs; call the layers, self.layer(x)"
                )
            raise AttributeError(
                f"{owner}: expected __init__ to begin with super().__init__(), received a model "
                "without it; add that line"
            )

    # -- for the methods of a subclass -----------------------------------------------------------

    def build(self, input_shape: Tree = None) -> None:
        """Makes the weights for inputs of this shape, the batch included: `(None, 28, 28, 1)`."""
        frame = running_frame()
        if frame is None or frame.host is not self:
            self._weights.build_for(nodes_of_shape(input_shape))

    def call(self, inputs: Tree, *others: Tree, **named: Tree) -> Tree:
        """The outputs; by default those of the graph, or the layers, that the model was given."""
        frame = running_frame()
        network = vars(self).get("network")
        if network is None or frame is None:
            raise self._without_call()
        named = {name: value for name, value in named.items() if value is not None}
        return frame.run(network, (inputs, *others), named)

    def _without_call(self) -> TypeError:
        return TypeError(
            f"expected {type(self).__name__} to define call(inputs), received a class "
            "without it; return the outputs from it"
        )

    def _note_change(self, name: str) -> None:
        if name not in self._parts:
            vars(self)["_fnn_changed"] = True
            if "_program" in vars(self):
                self._program.forget_steps()

    def path_of_variable(self, variable: object) -> Path:
        for name, own in variables_in(self).items():
            if own is variable:
                return (name,)
        return ()

    def _has_call(self) -> bool:
        defines = type(self).call is not KerasModel.call
        return defines or "network" in vars(self)

    def _as_result(self, logs: dict[str, float], return_dict: bool) -> Tree:
        if return_dict or not self._program.own("test_step"):
            return super()._as_result(logs, return_dict)
        ordered = [logs[name] for name in self._program.ordered(logs)]
        return ordered[0] if len(ordered) == 1 else ordered

    def _predict(
        self,
        x: Tree,
        batch_size: int | None,
        verbose: Verbose,
        steps: int | None,
        callbacks: Callbacks,
    ) -> Tree:
        if not self._program.own("predict_step"):
            return super()._predict(x, batch_size, verbose, steps, callbacks)
        listen = functools.partial(fitting.listening, self, callbacks, verbose)
        feed = self._feed
        assert isinstance(feed, StepFeed)
        x = feed.readable(x)[0]
        return own_predictions(feed, x, batch_size, steps, listen)

    # -- weights ---------------------------------------------------------------------------------

    @property
    def built(self) -> bool:
        """Whether the weights have been made."""
        return "_weights" in vars(self) and self._weights.built

    @built.setter
    def built(self, built: bool) -> None:
        """Accepted for `self.built = True` in `build`, and of no effect."""

    def _prepare(self, inputs: Tree) -> None:
        """Runs `build` of the user, once, and makes the weights of the models inside."""
        made = vars(self)
        made["_fnn_changed"] = True
        network = self.layer
        if not isinstance(network, ModelCall):
            return
        if not self._has_call():
            if not isinstance(inputs, tuple) or inputs:
                raise self._without_call()
            made["_fnn_declared"] = self._inputs_inside(), None
            made["_fnn_changed"] = True
            return
        if "_fnn_declared" not in made and type(self).build is not KerasModel.build:
            given, named = network._arguments(inputs)
            made["_fnn_declared"] = network._run_build(self, given, named)
            made["_fnn_changed"] = True
            network = self.layer
            assert isinstance(network, ModelCall)
        self._build_models(network, jax.tree.map(_first_spec, inputs))

    def _inputs_inside(self) -> Declared:
        """The layers and models inside that have weights, by name, and the inputs of each."""
        declared: Declared = {}
        for name, layer in layers_in(self).items():
            owner = sharing.owner_of(layer)
            if owner is None or owner.weights is None or owner.path:
                continue
            if owner.weights.built:
                owner.weights.now  # noqa: B018 - makes those that wait
                declared[name] = layer, owner.weights.network.trial()
        return declared

    def _build_models(self, network: ModelCall, x: SpecTree) -> None:
        inside = {name: item for name, item in tracked(self) if isinstance(item, Model)}
        held = self._inputs_inside()
        if not held and all(model.built for model in inside.values()):
            return
        declared = network._declared(x).declared
        # Not called by `call`: other methods, such as `compute_loss`, may use them.
        others = {name: held[name] for name in held if name not in declared}
        if others:
            before, native_inputs = vars(self).get("_fnn_declared") or ({}, None)
            vars(self)["_fnn_declared"] = {**before, **others}, native_inputs
        for name, model in inside.items():
            if not model.built and name in declared:
                layer, like = declared[name]
                if isinstance(layer, ModelCall):
                    vars(model)["_fnn_form"] = layer._form
                    vars(model)["_fnn_changed"] = True
                model._weights.build_for(cells.nodes_like(layer, like))
        vars(self)["_fnn_changed"] = True

    def __call__(self, *given: Tree, **named: Tree) -> Tree:
        """A node of a graph for symbolic inputs; for arrays the outputs, on the device."""
        if not isinstance(self.layer, ModelCall):
            return super().__call__(*given, **named)
        if not self.built and running_frame() is None:
            self._build_from(given, named)
        leaves = jax.tree.leaves((given, named))
        if not any(isinstance(leaf, Node) for leaf in leaves):
            return cells.on_arrays(self.as_layer(), given, named)
        result = symbolic_call(self.as_layer(), given, named)
        for node in jax.tree.leaves(result):
            node.source = self
        return result

    def _build_from(self, given: tuple[Tree, ...], named: dict[str, Tree]) -> None:
        """Makes the weights for the arguments of a first call."""
        if not self._has_call():
            self._weights.build_for(())
            return
        given = tuple(map(cells.as_arrays, given))
        others = {
            name: cells.as_arrays(value)
            for name, value in named.items()
            if name not in ("training", "mask")
        }
        layer, x = bound_call(self.layer, given, others)
        assert isinstance(layer, ModelCall)
        vars(self)["_fnn_form"] = layer._form
        vars(self)["_fnn_changed"] = True
        if not any(isinstance(leaf, Node) for leaf in jax.tree.leaves(x)):
            x = cells.nodes_like(layer, strip_masks(x))
        self._weights.build_for(x)

    # -- layers ----------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the model."""
        if "_weights" in vars(self):
            return self._network.name
        return snake_case(type(self).__name__)

    @name.setter
    def name(self, name: str) -> None:
        self._weights.network = self._network.with_name(name)

    @property
    def _is_own(self) -> bool:
        """Whether the layers are attributes, not those of a graph that the model was given."""
        network = self.layer
        return isinstance(network, ModelCall) and network._body is None

    def _listed(self, name: str, learned: bool | None) -> list[Any]:
        made: list[Any] = super()._listed(name, learned)
        if self.built:
            return made
        own = variables_in(self).values()
        chosen = [v for v in own if learned in (None, v.trainable)]
        return chosen + made

    @property
    def layers(self) -> list[Any]:
        """The layers and models among the attributes, in order."""
        if "_weights" in vars(self) and not self._is_own:
            return super().layers
        return [item for _, item in tracked(self) if not isinstance(item, Variable)]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """The layer of that name, or attribute, or at that index."""
        if not self._is_own:
            return super().get_layer(name, index)
        inside = {key: item for key, item in tracked(self) if item in self.layers}
        by_name = {item.name: item for item in inside.values() if item.name}
        found = {**inside, **by_name}
        if name in found:
            return found[name]
        if index is not None and -len(inside) <= index < len(inside):
            return list(inside.values())[index]
        return super().get_layer(name, index)

    @property
    def trainable(self) -> bool:
        """False: training changes no weight of this model. Compile again after setting it."""
        return bool(vars(self).get("_fnn_trainable", True))

    @trainable.setter
    def trainable(self, trainable: bool) -> None:
        vars(self)["_fnn_trainable"] = bool(trainable)
        for _, item in tracked(self):
            if not isinstance(item, Variable):
                item.trainable = bool(trainable)
        self._set_all_trainable(bool(trainable))


def _first_spec(node: Node) -> SpecTree:
    return node.specs[0]
