"""Configs: Keras's config of a network as values of fnn, and back."""

from __future__ import annotations

from typing import Any, Protocol

from fnn.core.config import serialize_keras_object
from fnn.core.tree import Tree
from fnn.layers.sequential import Sequential
from fnn.saving import description
from fnn.saving.keras.compiling import compile_from_keras, compile_to_keras
from fnn.saving.keras.reading import KerasNetwork, network_from_keras
from fnn.saving.keras.writing import graph_config, model_entry, refuse_own, row_config
from fnn.symbolic.graph import Graph

__all__ = [
    "KerasNetwork",
    "compile_from_keras",
    "compile_to_keras",
    "config_to_keras",
    "network_from_keras",
    "network_to_keras",
]


class Describable(description.Describable, Protocol):
    """The attributes of a model that its config is made of."""

    def get_build_config(self) -> dict[str, Tree] | None: ...


def config_to_keras(model: Describable) -> tuple[str, dict[str, Any]] | None:
    """(the name of Keras's class, its config) of a model; None if it is no row and no graph."""
    layer, inputs = model.layer, model._network.inputs
    if isinstance(layer, Sequential):
        return "Sequential", row_config(model.name, layer, inputs)
    if isinstance(layer, Graph):
        return "Functional", graph_config(model.name, layer, inputs)
    return None


def network_to_keras(
    model: Describable, strict: bool = True, beside: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The config from which Keras makes the network of a model, `{"class_name": ...}`.

    With `strict`, raises ValueError for a layer that Keras does not have, with its name; else
    the config names classes of fnn for these. A class with `call` is named as it is registered.
    Fields of layers in `beside` are left out: they lie beside the config in a file.
    """
    made = config_to_keras(model)
    if made is None:
        entry: dict[str, Any] = serialize_keras_object(model)
        if strict and getattr(model, "quantization_mode", None) is not None:
            raise ValueError(
                f"the model {model.name!r} is quantized, and fnn writes no Keras files of such "
                "models; save it as .fnn, or as .keras before quantize"
            )
        if strict and str(entry.get("module")).startswith(("fnn", "keras")):
            raise ValueError(
                f"expected a row or graph of layers, which Keras has too, received the model "
                f"{model.name!r} of {model.layer!r}; make it by fnn.Sequential([layer]), or "
                "save it as .fnn"
            )
        # Without it Keras makes no weights, and takes none from a file.
        entry["build_config"] = model.get_build_config()
    else:
        if strict and model.layer.inner_ties:
            place, before = map("/".join, model.layer.inner_ties[0])
            raise ValueError(
                f"expected a network that Keras has too, received {model.name!r} with one layer as "
                f"{before} and as {place}, which Keras would make two layers of; save it as .fnn"
            )
        entry = model_entry(*made)
    if beside:
        entry = _without(entry, beside)
    if strict:
        refuse_own(entry)
    return entry


def _without(data: Any, fields: tuple[str, ...]) -> Any:
    """A config without these fields of layers of Keras."""
    if isinstance(data, list):
        return [_without(item, fields) for item in data]
    if not isinstance(data, dict):
        return data
    left = {name: _without(item, fields) for name, item in data.items()}
    if not str(data.get("module")).startswith("keras."):
        return left
    config = left["config"]
    if isinstance(config, dict):
        kept = {name: item for name, item in config.items() if name not in fields}
        left["config"] = kept
    return left
