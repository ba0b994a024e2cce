"""Formats: what `model.export` writes, by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from fnn.core.tree import Tree
from fnn.export import onnx, saved_model, stablehlo
from fnn.export.archive import SERVE, ExportArchive

ExportArchive.writers |= {
    "stablehlo": stablehlo.write,
    "tf_saved_model": saved_model.write,
    "saved_model": saved_model.write,  # Keras's name in ExportArchive
    "onnx": onnx.write,
}
# Formats of Keras that need other backends than JAX.
ELSEWHERE = {
    "litert": "export as tf_saved_model and convert that with TensorFlow Lite's converter",
    "openvino": "export as onnx, which OpenVINO reads",
    "torch": "export as onnx",
}


def export_model(
    model: Any,
    filepath: str | os.PathLike[str],
    format: str | None = None,
    verbose: bool | None = None,
    input_signature: Tree = None,
    output_names: Sequence[str] = (),
    **kwargs: Any,
) -> None:
    """Writes a program of `model`, like `model.export`.

    Without a `format` the name of the file tells it: `.onnx` is ONNX, any other a folder of
    StableHLO. Raises ValueError for an unknown format, or one that does not fit the name.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(3,))])
    >>> fnn.export.export_model(model, "dense", verbose=False)
    >>> sorted(os.listdir("dense"))
    ['serve.stablehlo', 'signature.json', 'weights.safetensors']
    """
    is_onnx = os.fspath(filepath).lower().endswith(".onnx")
    if format is None:
        format = "onnx" if is_onnx else "stablehlo"
    if format in ELSEWHERE:
        raise ValueError(f"format={format!r} is not written here; {ELSEWHERE[format]}")
    if format not in ExportArchive.writers:
        known = sorted(ExportArchive.writers.keys() - {"saved_model"})
        raise ValueError(
            f"expected a format of {known}, received {format!r}; stablehlo programs are run by JAX"
        )
    if is_onnx and format != "onnx":
        raise ValueError(
            f"expected the name of a folder for format={format!r}, received {filepath}; leave "
            "format out to write ONNX, or choose a name without .onnx"
        )
    archive = ExportArchive(format)
    archive.add_endpoint(
        SERVE, model, input_signature, output_names=output_names, **kwargs
    )
    archive.write_out(filepath, verbose=verbose is not False)
