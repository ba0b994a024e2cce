"""Tree files: any pytree as a safetensors file, its structure in the header."""

from __future__ import annotations

import json
from typing import IO, Literal

from fnn.core.tree import Tree
from fnn.saving import tensors
from fnn.saving.tensors import STRUCTURE, Tensors, damaged, parse
from fnn.saving.trees import Packed, pack


def write(file: IO[bytes], tree: Tree, checksum: bool = True) -> None:
    """Writes what `trees.pack` makes of a tree, one array at a time.

    >>> tree = {"a": jnp.arange(3), "b": [None, 1.5]}
    >>> with open("tree.safetensors", "wb") as file:
    ...     write(file, tree)
    ...     size = file.tell()
    >>> with open("tree.safetensors", "rb") as file:
    ...     packed = read(tensors.Tensors(file, size, file.name))
    >>> fnn.saving.trees.unpack(*packed)
    {'a': Array([0, 1, 2], dtype=int32), 'b': [None, 1.5]}
    """
    arrays, description = pack(tree)
    structure = json.dumps({"tree": description}, allow_nan=False)
    tensors.write(file, arrays, {STRUCTURE: structure}, checksum)


def read(
    found: Tensors, checksum: Literal["required", "optional"] = "required"
) -> Packed:
    """What `write` wrote, for `trees.unpack` or `trees.restore`.

    Raises FileError for a file that is damaged or of another program.
    """
    structure = found.metadata.get(STRUCTURE)
    if structure is None:
        raise damaged(found.path, "the structure of its tree is missing")
    try:
        description = parse(structure.encode())["tree"]
    except (ValueError, KeyError, RecursionError) as error:
        raise damaged(found.path, f"the structure of its tree: {error!r}") from error
    return Packed(dict(found.load(checksum)), description)
