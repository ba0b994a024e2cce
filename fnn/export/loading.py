"""Loading: the programs of an exported folder, run by JAX without the layers they were made of."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from fnn.core.tree import Tree
from fnn.export.signature import Spec, as_tuples, is_spec, path_of
from fnn.export.stablehlo import FORMAT, SIGNATURE, VERSION, WEIGHTS, is_export
from fnn.runtime.optional import optional
from fnn.saving import tensors
from fnn.saving.tensors import FileError, damaged

# What a program, a signature or weights that are missing or damaged raise.
_FAULTS = (
    FileNotFoundError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
)
MOST_JSON = 2**24  # bytes of `signature.json`
PLAIN_NAME = re.compile(r"\w+\.stablehlo")


class Endpoint:
    """A compiled program with its weights: a function of arrays.

    `inputs` and `outputs` are lists of `Spec` (name, path, shape, dtype). Numbers of another width
    are converted; raises ValueError for a shape and TypeError for a kind that does not fit.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(3,))])
    >>> model.export("dense", verbose=False)
    >>> fnn.export.load("dense").endpoints["serve"]
    <Endpoint input_0: float32 (any, 3) -> output: float32 (any, 1)>
    """

    def __init__(
        self,
        program: export.Exported,
        weights: dict[str, jax.Array],
        described: dict[str, Any],
    ) -> None:
        self.inputs = [_spec(one) for one in described["inputs"]]
        self.outputs = [_spec(one) for one in described["outputs"]]
        taken: Any = program.in_tree  # the structure of ((weights, *arguments), {})
        arguments, _ = jax.tree.unflatten(taken, range(taken.num_leaves))
        places, structure = jax.tree_util.tree_flatten_with_path(arguments[1:])
        self._structure: Any = structure
        paths = [path_of(path)[1:] for path, _ in places]
        if paths != [spec.path for spec in self.inputs]:
            raise ValueError("its program takes other inputs than its signature says")
        self._takes_one = len(arguments) == 2  # beside the weights
        self._weights = weights
        self._run = jax.jit(program.call)

    def __call__(self, *arguments: Tree) -> Tree:
        """The outputs for arguments in the structure of the inputs; lists stand for tuples."""
        if self._takes_one and len(arguments) > 1:
            arguments = (arguments,)
        given = tuple(map(as_tuples, arguments))
        leaves, structure = jax.tree.flatten(given)
        if structure != self._structure:
            wanted = jax.tree.unflatten(self._structure, self.inputs)
            raise ValueError(
                f"expected inputs {_shown(wanted)}, received {_shown(given)}; pass the arrays in "
                "the structure of the model's inputs"
            )
        pairs = zip(leaves, self.inputs, strict=True)
        arrays = [_fitting(array, spec) for array, spec in pairs]
        _check_examples(arrays, self.inputs)
        arguments = jax.tree.unflatten(self._structure, arrays)
        return self._run(self._weights, *arguments)

    def __repr__(self) -> str:
        inputs = ", ".join(map(str, self.inputs))
        outputs = ", ".join(map(str, self.outputs))
        return f"<Endpoint {inputs} -> {outputs}>"


def _shown(arguments: tuple[Tree, ...]) -> str:
    """Arguments with "array", or what is wanted, in place of each array."""

    def leaf(item: Any) -> str:
        return str(item) if isinstance(item, Spec) else "array"

    shown = jax.tree.map(leaf, arguments, is_leaf=is_spec)
    return ", ".join(map(str, shown)) or "none"


def _check_examples(arrays: list[Any], specs: list[Spec]) -> None:
    """Raises ValueError unless inputs with a free number of examples have equally many."""
    counts = [
        len(array)
        for array, spec in zip(arrays, specs, strict=True)
        if spec.shape[:1] == (None,)
    ]
    if len(set(counts)) > 1 or 0 in counts:
        raise ValueError(
            f"expected at least one example, and as many in each input, received {counts}; pass "
            "arrays with equal first sizes"
        )


class Exported:
    """What `model.export` wrote: a function of arrays, with the other endpoints as attributes.

    >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(3,))])
    >>> model.export("dense", verbose=False)
    >>> fnn.export.load("dense")(np.ones((5, 3), "float32")).shape
    (5, 2)
    """

    def __init__(self, endpoints: dict[str, Endpoint]) -> None:
        self.endpoints = endpoints

    def __call__(self, *arguments: Tree) -> Tree:
        """The outputs of the first endpoint."""
        return next(iter(self.endpoints.values()))(*arguments)

    def __repr__(self) -> str:
        return f"<Exported {self.endpoints}>"

    def __getattr__(self, name: str) -> Endpoint:
        found = self.__dict__.get("endpoints", {}).get(name)
        if found is None:
            raise AttributeError(
                f"expected one of the endpoints {list(self.__dict__.get('endpoints', ()))}, "
                f"received {name!r}"
            )
        endpoint: Endpoint = found
        return endpoint


def load(path: str | os.PathLike[str]) -> Exported:
    """The programs in a folder that `model.export` or `ExportArchive` wrote as StableHLO.

    Needs nothing of the layers that they were made of. Raises FileError, a ValueError, if the
    folder is not one, or if a file of it is damaged or of a newer version. A program is compiled
    for the device at hand at its first call. JAX alone runs it too:

        program = jax.export.deserialize(bytearray(open("dense/serve.stablehlo", "rb").read()))
        weights = safetensors.numpy.load_file("dense/weights.safetensors")
        outputs = jax.jit(program.call)(weights, x)

    >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(3,))])
    >>> model.export("dense", verbose=False)
    >>> x = np.ones((5, 3), "float32")
    >>> bool((load("dense").serve(x) == model(x)).all())
    True
    """
    folder = Path(os.path.expanduser(os.fspath(path)))
    if not is_export(folder):
        raise FileError(
            f"expected a folder that model.export wrote, received {folder}, which lacks "
            f"{SIGNATURE} or {WEIGHTS}; fnn.load reads what model.save wrote"
        )
    try:
        return _read(folder)
    except FileError:
        raise
    except _FAULTS as error:
        raise damaged(folder, f"{type(error).__name__}: {error}") from error


def _read(folder: Path) -> Exported:
    with open(folder / SIGNATURE, "rb") as file:
        described = tensors.parse(file.read(MOST_JSON))
    if described["format"] != FORMAT:
        raise ValueError(
            f"{SIGNATURE} has the format {str(described['format'])[:40]!r}"
        )
    if described["version"] != VERSION:
        raise FileError(
            f"expected an export of version {VERSION}, received {folder} of version "
            f"{str(described['version'])[:40]}; install the fnn that wrote it, or a newer one"
        )
    arrays = tensors.load(folder / WEIGHTS)
    weights = {name: jnp.asarray(array) for name, array in arrays.items()}
    endpoints = {
        name: Endpoint(_program(folder, one, described), weights, one)
        for name, one in described["endpoints"].items()
    }
    if not endpoints:
        raise ValueError("it has no endpoint")
    return Exported(endpoints)


def _program(
    folder: Path, one: dict[str, Any], described: dict[str, Any]
) -> export.Exported:
    name = one["program"]
    if not PLAIN_NAME.fullmatch(name):
        raise ValueError(f"the name of a program is {name[:40]!r}")
    data = (folder / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != described["sha256"][name]:
        raise ValueError(f"the checksum of {name} differs")
    with optional("flatbuffers", extra="export"):
        import flatbuffers  # noqa: F401 - of jax.export, which does not depend on it
    try:
        return export.deserialize(bytearray(data))
    except Exception as error:
        raise FileError(
            f"JAX {jax.__version__} cannot read {folder / name}, written by JAX "
            f"{str(described['jax'])[:40]}: {error}; a program is read by the version that wrote "
            "it and for six months by newer ones: export the saved model again"
        ) from error


def _spec(one: dict[str, Any]) -> Spec:
    return Spec(
        name=one["name"],
        path=tuple(one["path"]),
        shape=tuple(one["shape"]),
        dtype=one["dtype"],
    )


def _fitting(given: Any, spec: Spec) -> jax.Array:
    """An array with the dtype of a spec. Raises if it does not fit."""
    if not hasattr(given, "dtype"):
        given = np.asarray(given)
    wanted = jnp.dtype(spec.dtype)
    sizes = zip(given.shape, spec.shape, strict=False)
    fits = all(size in (known, None) for known, size in sizes)
    if given.ndim != len(spec.shape) or not fits:
        raise ValueError(
            f"expected {spec}, received an array of shape {given.shape}; pass arrays of the shape "
            "that the model was exported for"
        )
    if not np.can_cast(given.dtype, wanted, "same_kind"):
        raise TypeError(
            f"expected {spec}, received {given.dtype}; convert it by x.astype({spec.dtype!r})"
        )
    return jnp.asarray(given, wanted)
