"""Described: the config of a model as plain data and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from fnn.core.config import from_config
from fnn.core.tree import Tree
from fnn.models.program import Program
from fnn.models.weights import Weights
from fnn.saving import description
from fnn.saving.keras.configs import (
    compile_from_keras,
    compile_to_keras,
    config_to_keras,
    network_from_keras,
    network_to_keras,
)
from fnn.subclassing.copies import united


class Described:
    """The methods of a model that describe it without its weights."""

    kind: ClassVar[str] = "model"
    _weights: Weights
    _program: Program

    def _set_up(self, layer: Any, inputs: Tree, name: str) -> None:
        """The parts of a model; see `Model`."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The network in Keras's schema: layers, their calls, inputs and outputs.

        `from_config` makes a model of it. A model of a single layer has no form in Keras; its
        config has `layer` and `inputs`. Raises ValueError for a layer or function without a
        registered name.
        """
        made = config_to_keras(self)  # type: ignore[arg-type]
        if made is not None:
            return made[1]
        described = description.describe(self)  # type: ignore[arg-type]
        return {name: described[name] for name in ("name", "layer", "inputs")}

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        custom_objects: Mapping[str, object] | None = None,
    ) -> Self:
        """The model that `get_config` of fnn or of Keras described, with new weights."""
        model = cls.__new__(cls)
        if "layers" in config:
            name = "Functional" if "input_layers" in config else "Sequential"
            entry = {"class_name": name, "config": config}
            network = network_from_keras(entry, custom_objects)
            model._set_up(network.layer, network.inputs, network.name or name.lower())
            if network.inputs is not None:
                model._weights.build()
            return model
        layer = united(from_config(config["layer"], custom_objects))
        inputs = config["inputs"]
        if inputs is not None:
            inputs = description.inputs_of(inputs)
        model._set_up(layer, inputs, config["name"])
        if inputs is not None:
            model._weights.build()
        return model

    def get_compile_config(self) -> dict[str, Any] | None:
        """The arguments of `compile` as plain data, None before it was called."""
        return compile_to_keras(self._program.arguments)

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """Compiles as `get_compile_config` of an equal model says."""
        compile_model: Any = self.compile  # type: ignore[attr-defined]
        given = compile_from_keras(config)
        if given is not None:
            compile_model(**given)

    def to_json(self, **kwargs: Any) -> str:
        """The network and the arguments of `compile` as a JSON object in Keras's schema.

        `fnn.models.model_from_json` makes a model of it, and Keras's function of that name does so
        for layers that Keras has. The arguments are those of `json.dumps`. Raises ValueError for
        an object without a registered name.
        """
        described = network_to_keras(self, strict=False)  # type: ignore[arg-type]
        described["build_config"] = self.get_build_config()  # type: ignore[attr-defined]
        described["compile_config"] = self.get_compile_config()
        return json.dumps(described, **kwargs)
