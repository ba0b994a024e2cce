"""SavedModel: programs for TensorFlow, converted by jax2tf."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fnn.core.tree import Tree
from fnn.export.archive import Endpoint, ExportArchive
from fnn.export.signature import Spec, map_specs
from fnn.export.stablehlo import PLATFORMS
from fnn.runtime.files import write_folder
from fnn.runtime.optional import optional
from fnn.saving.tensors import FilePath


def write(archive: ExportArchive, path: FilePath, options: Any) -> None:
    """Writes a folder of TensorFlow: each endpoint is a method and a signature."""
    with optional("tensorflow", extra="test"):
        import tensorflow as tf
        from jax.experimental import jax2tf
    module = tf.Module()
    variables = {
        name: tf.Variable(np.asarray(array), name=name)
        for name, array in archive.weights.items()
    }
    module.weights = list(variables.values())
    for name, collection in archive.collections.items():
        setattr(module, name, [variables[weight] for weight in collection])
    signatures: dict[str, Any] = {}
    for name, endpoint in archive.endpoints.items():
        function = _function(archive, endpoint, variables, tf, jax2tf)
        setattr(module, name, function)
        signatures.setdefault("serving_default", function)
        signatures[name] = function

    def fill(folder: Path) -> None:
        tf.saved_model.save(module, str(folder), signatures, options)

    write_folder(path, fill, replaces=is_saved_model)


def _function(
    archive: ExportArchive,
    endpoint: Endpoint,
    variables: dict[str, Any],
    tf: Any,
    jax2tf: Any,
) -> Any:
    """An endpoint as a function of TensorFlow, with a free number of examples."""

    def run(weights: dict[str, jax.Array], *arguments: Tree) -> Tree:
        return archive.run(endpoint, weights, *arguments)

    given = endpoint.options.get("jax2tf_kwargs") or {}

    def convert(shapes: tuple[Tree, ...]) -> Callable[..., Tree]:
        arguments = {
            "polymorphic_shapes": [None, *jax.tree.map(_as_string, shapes)],
            "native_serialization_platforms": PLATFORMS,
            "with_gradient": False,
            **given,
        }
        converted: Callable[..., Tree] = jax2tf.convert(run, **arguments)
        return converted

    def spec(one: Spec) -> Any:
        return tf.TensorSpec(one.shape, one.dtype, name=_tensor_name(one.name))

    converted = archive.traced(endpoint, convert)
    signature = map_specs(spec, endpoint.signature)

    def serve(*arguments: Tree) -> Tree:
        return converted(variables, *arguments)

    return tf.function(serve, input_signature=signature, autograph=False)


def _as_string(shape: jax.ShapeDtypeStruct) -> str:
    return "(" + ", ".join(map(str, shape.shape)) + ",)"


def _tensor_name(name: str) -> str:
    """A name as TensorFlow allows it for a tensor."""
    return "".join(c if c.isalnum() or c in "_." else "_" for c in name)


def is_saved_model(folder: Path) -> bool:
    """Whether a folder holds a SavedModel."""
    return (folder / "saved_model.pb").is_file()
