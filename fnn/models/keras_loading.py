"""Keras loading: the model in a file that Keras wrote, or fnn in Keras's format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fnn.core.registry import CustomObjectScope
from fnn.models.loading import Custom, model_of
from fnn.saving import formats
from fnn.saving.formats import Opened
from fnn.saving.keras import files, vocabularies
from fnn.saving.keras.configs import compile_from_keras, network_from_keras
from fnn.saving.keras.hdf5 import Group
from fnn.saving.reading import refused, unmakeable
from fnn.saving.tensors import FileError, parse


def _made(config: Mapping[str, Any], custom: Custom) -> Any:
    """The model of a config of Keras, with shapes as its weights if these are known."""
    with CustomObjectScope(custom or {}):
        return model_of(network_from_keras(config, custom), draw=False)


def _load_keras(opened: Opened, custom: Custom, compile: bool) -> Any:
    """The model in a `.keras` file."""
    archive = opened.zip
    assert archive is not None
    config = files.read_config(opened)
    with refused(opened.path, unmakeable):
        model = _made(config, custom)
    root = files.root_of(opened, model)

    def asset(name: str) -> bytes | None:
        path = f"{files.ASSETS}/{name}"
        return archive.read(path) if path in archive.names else None

    if model.built:
        files.load_from(model, root, opened.path)
        vocabularies.load(files.holders_of(model), root, asset)
    elif any(True for _ in root.datasets("layers")):
        raise FileError(
            f"expected the shape of the inputs in {opened.path}, which has weights, received a "
            "network without it; build the layers in fnn, then call model.load_weights(path)"
        )
    if compile:
        _compile(model, config.get("compile_config"), custom, root, opened)
    return model


def _load_hdf5(opened: Opened, custom: Custom, compile: bool) -> Any:
    """The model in a legacy `.h5` file."""
    root = files.root_of(opened)
    described = root.attributes.get("model_config")
    if not isinstance(described, str):
        raise FileError(
            f"expected a file of a model, received {opened.path}, which holds weights and no "
            "network; create the model, then call model.load_weights(path)"
        )
    with refused(opened.path, unmakeable):
        model = _made(parse(described.encode()), custom)
    if model.built:
        files.load_from(model, root, opened.path)
    training = root.attributes.get("training_config")
    if compile and isinstance(training, str):
        _compile(model, parse(training.encode()), custom, root, opened)
    return model


def _compile(
    model: Any,
    config: Mapping[str, Any] | None,
    custom: Custom,
    root: Group,
    opened: Opened,
) -> None:
    """Compiles the model as the file says, and continues its optimizer."""
    with refused(opened.path, unmakeable), CustomObjectScope(custom or {}):
        arguments = compile_from_keras(config, custom)
        if arguments is None:
            return
        model.compile(**arguments)
    if model.built:
        files.load_optimizer(model, root)


formats.KERAS.load_model = _load_keras
formats.HDF5.load_model = _load_hdf5
