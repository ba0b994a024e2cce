"""StableHLO: programs of `jax.export`, with the weights beside them in a safetensors file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
from jax import export

from fnn.core.tree import Tree, array_spec
from fnn.export.archive import Endpoint, ExportArchive
from fnn.export.signature import outputs_of, specs_in
from fnn.runtime.files import write_folder
from fnn.runtime.optional import optional
from fnn.saving.tensors import FilePath, encode

FORMAT, VERSION = "fnn-export", 1
SIGNATURE, WEIGHTS = "signature.json", "weights.safetensors"
PLATFORMS = ("cpu", "cuda", "tpu")


def write(archive: ExportArchive, path: FilePath, options: Any) -> None:
    """Writes a folder: a program for each endpoint, the weights, `signature.json`."""
    with optional("flatbuffers", extra="export"):
        import flatbuffers  # noqa: F401 - of jax.export, which does not depend on it
    weights = archive.weights
    programs = {
        name: exported(archive, endpoint)
        for name, endpoint in archive.endpoints.items()
    }
    files: dict[str, bytes | bytearray] = {
        f"{name}.stablehlo": one.serialize() for name, one in programs.items()
    }
    files[WEIGHTS] = encode(weights)
    described = {
        "format": FORMAT,
        "version": VERSION,
        "jax": jax.__version__,
        "platforms": list(PLATFORMS),
        "weights": WEIGHTS,
        "endpoints": {
            name: _described(archive.endpoints[name], program)
            for name, program in programs.items()
        },
        "sha256": {
            name: hashlib.sha256(data).hexdigest() for name, data in files.items()
        },
    }
    text = json.dumps(described, indent=1, allow_nan=False)
    files[SIGNATURE] = text.encode()

    def fill(folder: Path) -> None:
        for name, data in files.items():
            (folder / name).write_bytes(data)

    write_folder(path, fill, replaces=is_export)


def exported(archive: ExportArchive, endpoint: Endpoint) -> export.Exported:
    """The program of an endpoint: of the weights by name, and its arguments."""

    def run(weights: dict[str, jax.Array], *arguments: Tree) -> Tree:
        return archive.run(endpoint, weights, *arguments)

    like = jax.tree.map(_spec, archive.weights)

    def as_program(shapes: tuple[Tree, ...]) -> export.Exported:
        trace = export.export(jax.jit(run), platforms=PLATFORMS)
        return trace(like, *shapes)

    program: export.Exported = archive.traced(endpoint, as_program)
    return program


def _spec(array: jax.Array) -> jax.ShapeDtypeStruct:
    return array_spec(array.shape, array.dtype)


def _described(endpoint: Endpoint, program: export.Exported) -> dict[str, Any]:
    outputs = jax.tree.unflatten(program.out_tree, program.out_avals)
    return {
        "program": f"{endpoint.name}.stablehlo",
        "arguments": len(endpoint.signature),
        "inputs": [spec.as_json() for spec in specs_in(endpoint.signature)],
        "outputs": [
            spec.as_json() for spec in outputs_of(outputs, endpoint.output_names)
        ],
    }


def is_export(folder: Path) -> bool:
    """Whether a folder holds what `write` wrote."""
    return (folder / SIGNATURE).is_file() and (folder / WEIGHTS).is_file()
