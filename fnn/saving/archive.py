"""A saved model: a zip of JSON and safetensors, written whole or not at all, read as data."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fnn.core import tree
from fnn.core.config import from_config, to_config
from fnn.core.files import write_whole
from fnn.core.node import Node, input_specs

FORMAT = 1
MEMBERS = ("manifest.json", "config.json", "weights.safetensors")
HDF5 = b"\x89HDF\r\n\x1a\n"


class FileError(ValueError):
    """A file that is damaged, of another format, or does not fit the model."""


def save_model(model: Any, path: Any, overwrite: bool = True) -> None:
    """Writes `model`, its network, its weights, how it was compiled: what `model.save` does.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))])
    >>> save_model(model, "model.fnn")
    >>> fnn.load("model.fnn").layer == model.layer
    True
    """
    model.train_state  # noqa: B018 - says so if there are no weights yet
    config = json.dumps(_model_config(model), indent=1, allow_nan=False).encode()
    weights = _weights(model)
    digests = {
        name: hashlib.sha256(data).hexdigest()
        for name, data in (("config.json", config), ("weights.safetensors", weights))
    }
    manifest = json.dumps({"format": "fnn", "version": FORMAT, "sha256": digests}).encode()

    def write(file: Any) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, data in zip(MEMBERS, (manifest, config, weights), strict=True):
                archive.writestr(name, data)

    write_whole(path, write, overwrite=overwrite)


def save_weights(model: Any, path: Any, overwrite: bool = True) -> None:
    """Writes the weights of `model` as one safetensors file."""
    data = _weights(model)
    write_whole(path, lambda file: file.write(data), overwrite=overwrite)


def _weights(model: Any) -> bytes:
    from safetensors.numpy import save

    now = model.train_state
    named = {
        "/".join((part, *path)): np.asarray(leaf, order="C")
        for part, branch in (("params", now.params), ("state", now.state))
        for path, leaf in tree.flatten(branch)
    }
    return save(named, metadata={"format": "fnn"})


def _model_config(model: Any) -> dict[str, Any]:
    return {
        "class": type(model).__name__,
        "name": model.name,
        "layer": to_config(model.layer),
        "inputs": _describe_inputs(model._inputs),
        "compile": _compile_config(model._compiled),
    }


def _describe_inputs(inputs: Any) -> Any:
    if isinstance(inputs, tuple):
        return [_describe_inputs(item) for item in inputs]
    if isinstance(inputs, dict):
        return {name: _describe_inputs(item) for name, item in inputs.items()}
    return {"shape": list(inputs.shape), "dtype": str(inputs.dtype), "name": inputs.name}


def _compile_config(compiled: dict[str, Any] | None) -> Any:
    """What `compile` was given, None if something in it has no name in a file."""
    if compiled is None:
        return None
    try:
        return {name: _plain(value) for name, value in compiled.items()}
    except ValueError:
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {"by": {name: _plain(item) for name, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return to_config(value)


def load_weights(model: Any, path: Any) -> None:
    """Gives `model` the weights of a file by `save_weights` or `save`."""
    data = _bytes(path)
    weights = read(path)[1] if data[:2] == b"PK" else _tensors(data, path)
    assign(model, weights, path)


def _bytes(path: Any) -> bytes:
    target = Path(os.path.expanduser(os.fspath(path)))
    if not target.is_file():
        raise FileNotFoundError(f"expected a file, received {target}, where there is none")
    data = target.read_bytes()
    if data.startswith(HDF5):
        raise FileError(_by_keras(path))
    return data


def _by_keras(path: Any) -> str:
    return (
        f"expected a file that fnn wrote, received {path}, written by Keras; do load it there, "
        "and give a model of the same layers model.set_weights(keras_model.get_weights())"
    )


def read(path: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The configuration and the weights in a saved model, after every check."""
    data = _bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if "metadata.json" in archive.namelist():
                raise FileError(_by_keras(path))
            if tuple(info.filename for info in infos) != MEMBERS or any(
                info.compress_type != zipfile.ZIP_STORED or info.file_size > len(data)
                for info in infos
            ):
                raise FileError(damaged(path, f"expected the members {MEMBERS}, stored"))
            manifest, config, tensors = (archive.read(name) for name in MEMBERS)
        described = _parse(manifest)
        version, digests = described["version"], described["sha256"]
        if described["format"] != "fnn":
            raise FileError(damaged(path, "it is not a file of fnn"))
        if version > FORMAT:
            raise FileError(
                f"expected {path} in format {FORMAT} or older, received format {version}; "
                "do install a newer fnn"
            )
        for name, content in ((MEMBERS[1], config), (MEMBERS[2], tensors)):
            if hashlib.sha256(content).hexdigest() != digests[name]:
                raise FileError(damaged(path, f"the checksum of {name} differs"))
        return _parse(config), _tensors(tensors, path)
    except FileError:
        raise
    except (
        zipfile.BadZipFile,
        KeyError,
        TypeError,
        ValueError,
        EOFError,
        RecursionError,
        NotImplementedError,
        OverflowError,
        struct.error,
    ) as error:
        raise FileError(damaged(path, str(error) or type(error).__name__)) from error


def _parse(data: bytes) -> Any:
    parsed = json.loads(data)
    if not isinstance(parsed, dict):
        raise ValueError("expected a JSON object")
    return parsed


def damaged(path: Any, what: str) -> str:
    """The message for a file that is not whole."""
    return f"expected a whole file, received {path}, which is damaged or not a saved model: {what}"


def _tensors(data: bytes, path: Any) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as load_tensors

    try:
        return load_tensors(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise FileError(damaged(path, str(error))) from error


def assign(model: Any, weights: dict[str, np.ndarray], path: Any) -> None:
    """Puts weights by their paths into `model`: all of them, or an error with every difference."""
    now = model.train_state
    parts = {"params": now.params, "state": now.state}
    wanted = {
        "/".join((part, *where)): leaf
        for part, branch in parts.items()
        for where, leaf in tree.flatten(branch)
    }
    lines = [f"{name}: missing in the file" for name in wanted if name not in weights]
    lines += [f"{name}: not in the model" for name in weights if name not in wanted]
    for name in wanted.keys() & weights.keys():
        expected, found = wanted[name], weights[name]
        if tuple(expected.shape) != found.shape or expected.dtype != found.dtype:
            lines.append(
                f"{name}: expected {expected.dtype}{list(expected.shape)}, "
                f"found {found.dtype}{list(found.shape)}"
            )
    if lines:
        raise FileError(
            f"expected weights for this model in {path}, received differences:\n  "
            + "\n  ".join(sorted(lines))
        )
    take = lambda part: tree.unflatten(
        (where, tree.owned(weights["/".join((part, *where))]))
        for where, _ in tree.flatten(parts[part])
    )
    params, state = take("params"), take("state")
    model.train_state = now.replace(
        params=tree.fill(now.params, params), state=tree.fill(now.state, state)
    )


def inputs_of(described: Any) -> Any:
    """The input nodes that a saved model describes."""
    if isinstance(described, list):
        return tuple(map(inputs_of, described))
    if set(described) == {"shape", "dtype", "name"}:
        shape = tuple(described["shape"])
        return Node(None, (), input_specs(shape, described["dtype"]), described["name"])
    return {name: inputs_of(item) for name, item in described.items()}


def from_plain(value: Any, custom: Mapping[str, Any] | None) -> Any:
    """An argument of `compile` as it was given, from what a file says of it."""
    if isinstance(value, dict) and list(value) == ["by"]:
        return {name: from_plain(item, custom) for name, item in value["by"].items()}
    if isinstance(value, list):
        return [from_plain(item, custom) for item in value]
    return from_config(value, custom)
