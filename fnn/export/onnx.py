"""ONNX: a program for ONNX Runtime and others, converted by jax2onnx."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from fnn.core.tree import Tree
from fnn.export.archive import Endpoint, ExportArchive
from fnn.export.rewriting import rewritten
from fnn.export.signature import outputs_of, specs_in
from fnn.runtime.files import write_atomically
from fnn.runtime.optional import optional
from fnn.saving.tensors import FilePath


def write(archive: ExportArchive, path: FilePath, options: Any) -> None:
    """Writes a file of ONNX with the weights in it. Raises ValueError for several endpoints."""
    if len(archive.endpoints) > 1:
        raise ValueError(
            f"expected one endpoint, since a file of ONNX holds one program, received "
            f"{list(archive.endpoints)}; write an archive for each"
        )
    (endpoint,) = archive.endpoints.values()
    with optional("jax2onnx", extra="onnx"), _as_it_was(jnp):
        import jax2onnx
        from jax2onnx.plugins.plugin_system import import_all_plugins

        import_all_plugins()

    def convert(shapes: tuple[Tree, ...]) -> Any:
        return _converted(archive, endpoint, shapes, jax2onnx.to_onnx)

    with _as_it_was(jnp):
        data = archive.traced(endpoint, convert).SerializeToString()
    write_atomically(path, lambda file: file.write(data))


@contextmanager
def _as_it_was(module: ModuleType) -> Iterator[None]:
    """Takes back what jax2onnx puts in place of jax's functions, as its narrower `cumsum`."""
    before = dict(vars(module))
    try:
        yield
    finally:
        vars(module).update(before)


def _converted(
    archive: ExportArchive, endpoint: Endpoint, shapes: tuple[Tree, ...], to_onnx: Any
) -> Any:
    _, structure = jax.tree.flatten(shapes)
    weights = archive.weights

    def run(*flat: jax.Array) -> tuple[jax.Array, ...]:
        arguments = jax.tree.unflatten(structure, flat)
        results = archive.run(endpoint, weights, *arguments)
        return tuple(jax.tree.leaves(results))

    outputs = jax.eval_shape(
        lambda *given: archive.run(endpoint, weights, *given), *shapes
    )
    named = outputs_of(outputs, endpoint.output_names)
    given = {}
    if endpoint.options.get("opset_version") is not None:
        given["opset"] = endpoint.options["opset_version"]
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    return to_onnx(
        rewritten(run),
        inputs=_inputs(shapes),
        model_name=endpoint.name,
        input_names=_plain(spec.name for spec in specs_in(endpoint.signature)),
        output_names=_outputs(named, endpoint),
        **given,
    )


def _inputs(shapes: tuple[Tree, ...]) -> list[jax.ShapeDtypeStruct]:
    """The inputs with names in place of free sizes."""
    return [
        jax.ShapeDtypeStruct(tuple(map(_size, leaf.shape)), leaf.dtype)  # type: ignore[no-untyped-call]
        for leaf in jax.tree.leaves(shapes)
    ]


def _size(size: Any) -> int | str:
    if isinstance(size, int):
        return size
    return str(size)


def _plain(names: Iterable[str]) -> list[str]:
    return [re.sub(r"\W", "_", name) for name in names]


def _outputs(named: Any, endpoint: Endpoint) -> list[str]:
    """The names of the outputs, none of them that of an input."""
    taken = set(_plain(spec.name for spec in specs_in(endpoint.signature)))
    found = []
    for name in _plain(spec.name for spec in named):
        while name in taken:
            name += "_output"
        taken.add(name)
        found.append(name)
    return found
