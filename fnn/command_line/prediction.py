"""Prediction: the outputs of a saved model for the arrays of a file, written into another."""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

from fnn.command_line.errors import one_line_errors
from fnn.core.tree import Tree
from fnn.export.signature import Spec, is_spec, outputs_of, signature_of, specs_in
from fnn.models import load
from fnn.runtime.files import write_atomically

DESCRIPTION = """\
Computes the outputs of a saved model for all examples of a file of NumPy arrays.

  data   a .npy file for a model with one input, or a .npz file with the inputs by their names,
         which `python -m fnn summary` shows
  out    a .npy file for a model with one output, or a .npz file, which gets the outputs by name

Outputs in half precision are written as float32, as model.predict returns them."""

EXAMPLE = """\
example:
  python -m fnn predict digits.fnn images.npy probabilities.npy"""

# Stands for the name of the array in a .npy file.
ALONE = "an array without a name"


def predict(arguments: list[str]) -> None:
    """Runs `python -m fnn predict` with these arguments.

    Exits with status 1 and one line on standard error for files that cannot be read or written
    and arrays that do not fit the model, 2 for wrong arguments. A file is written whole or not at
    all.

    >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(3,))])
    >>> model.save("small.fnn")
    >>> np.save("x.npy", np.ones((5, 3), "float32"))
    >>> predict(["small.fnn", "x.npy", "y.npy"])
    y.npy: float32 (5, 2)
    """
    given = _parser().parse_args(arguments)
    with one_line_errors("predict"):
        target = _checked_target(given.out, given.force)
        model = load(given.model, compile=False)
        names = model.output_names
        if target.suffix == ".npy" and len(names) != 1:
            raise ValueError(
                f"the model has {len(names)} outputs, which a .npy file cannot hold; write them "
                f"into {target.with_suffix('.npz')}"
            )
        x = _inputs(given.data, model)
        verbose = int(sys.stdout.isatty())
        outputs = model.predict(x, batch_size=given.batch_size, verbose=verbose)
        _write(target, outputs, names, given.force)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m fnn predict",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="a file that model.save wrote, such as m.fnn")
    parser.add_argument("data", help="a .npy or .npz file with the inputs")
    parser.add_argument("out", help="the .npy or .npz file to write")
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="examples computed at once (default: as model.predict chooses)",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace the file out if it exists"
    )
    return parser


def _checked_target(path: str, force: bool) -> Path:
    """The file to write, checked before anything is computed."""
    target = Path(path)
    if target.suffix not in (".npy", ".npz"):
        raise ValueError(f"expected an output file .npy or .npz, received {path}")
    if target.exists() and not force:
        raise FileExistsError(f"{path} exists; pass --force to replace it")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder of {path} does not exist; create it first")
    return target


def _inputs(path: str, model: Any) -> Tree:
    """The arrays of a file in the structure of the model's inputs."""
    (signature,) = signature_of((model.input,))
    specs = specs_in(signature)
    names = [spec.name for spec in specs]
    arrays = _arrays(path)
    if len(specs) == 1 and arrays.keys() == {ALONE}:
        arrays = {names[0]: arrays[ALONE]}
    if arrays.keys() != set(names):
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(
            f"expected the inputs {', '.join(map(str, specs))}, received {found} in {path}; write "
            "arrays of these names into a .npz file, by np.savez"
        )
    structure = jax.tree.structure(signature, is_leaf=is_spec)
    return jax.tree.unflatten(structure, [arrays[name] for name in names])


def _arrays(path: str) -> dict[str, np.ndarray]:
    """The arrays of a file by name. One alone is read from the file batch by batch."""
    try:
        with open(path, "rb") as file:
            if file.read(2) == b"PK":  # a zip, as .npz is one
                file.seek(0)
                with np.load(file, allow_pickle=False) as found:
                    return dict(found.items())
        return {ALONE: np.load(path, mmap_mode="r", allow_pickle=False)}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"expected a whole .npy or .npz file of NumPy with numbers, received {path}"
        ) from error


def _write(
    target: Path,
    outputs: Tree,
    names: Sequence[str],
    force: bool,
) -> None:
    specs = outputs_of(outputs, names)
    arrays = {
        spec.name: array
        for spec, array in zip(specs, jax.tree.leaves(outputs), strict=True)
    }

    def write(file: IO[bytes]) -> None:
        if target.suffix == ".npz":
            np.savez(file, allow_pickle=False, **arrays)
        else:
            (array,) = arrays.values()
            np.save(file, array, allow_pickle=False)

    write_atomically(target, write, overwrite=force)
    for spec in specs:
        print(_line(target, spec, arrays[spec.name]))


def _line(target: Path, spec: Spec, array: np.ndarray) -> str:
    name = f"{spec.name}: " if target.suffix == ".npz" else ""
    return f"{target}: {name}{array.dtype} {array.shape}"
