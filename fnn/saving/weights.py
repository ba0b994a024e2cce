"""Weights: those of a model by their paths in files, as safetensors and as NumPy's `.npz`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any, Protocol

import jax
import numpy as np

from fnn.core import tree
from fnn.core.layer import Params, State
from fnn.runtime.files import write_atomically
from fnn.runtime.processes import local
from fnn.runtime.warning import warn
from fnn.saving import formats, npz, tensors
from fnn.saving.formats import Opened
from fnn.saving.report import LoadReport, Shaped, compare
from fnn.saving.tensors import FileError, FilePath, Tensors

# Where a file has what classes store themselves (`save_own_variables`), after their path.
OWN = "own/"


class HasWeights(Protocol):
    """The weights of a model: its train state."""

    @property
    def params(self) -> Params: ...

    @property
    def state(self) -> State: ...


class Weighted(Protocol):
    """A model (`fnn.Model`, which this package must not import), as far as its weights go."""

    train_state: Any

    def own_stores(self) -> dict[str, np.ndarray]: ...

    @property
    def stores_own(self) -> bool: ...

    def take_own_stores(self, arrays: dict[str, np.ndarray]) -> None: ...


def named(weights: HasWeights) -> dict[str, jax.Array]:
    """Every leaf of params and state by its path in a file."""
    found = {}
    for part in ("params", "state"):
        for path, leaf in tree.flatten(getattr(weights, part)):
            found[_name(part, path)] = leaf
    return found


def stored(model: Weighted) -> dict[str, jax.Array | np.ndarray]:
    """All that a file of weights holds: every weight, and what classes store themselves."""
    own = {OWN + name: array for name, array in model.own_stores().items()}
    return {**local(named(model.train_state)), **own}


def save_weights(model: Weighted, path: FilePath, overwrite: bool = True) -> None:
    """Writes the weights of `model`: as `.npz` if the name ends so, else as safetensors.

    >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(3,))])
    >>> fnn.saving.save_weights(model, "weights.npz")
    >>> [(path, array.shape) for path, array in np.load("weights.npz").items()]
    [('params/dense/kernel', (3, 2)), ('params/dense/bias', (2,))]
    """
    known = formats.of_name(path, "weights", formats.SAFETENSORS)
    assert known.save_weights is not None
    known.save_weights(model, path, overwrite)


def _save_safetensors(model: Weighted, path: FilePath, overwrite: bool) -> None:
    arrays = stored(model)

    def write(file: IO[bytes]) -> None:
        tensors.write(file, arrays)

    write_atomically(path, write, overwrite=overwrite)


def _save_npz(model: Weighted, path: FilePath, overwrite: bool) -> None:
    arrays = stored(model)
    npz.check(arrays)
    write_atomically(path, lambda file: npz.write(file, arrays), overwrite=overwrite)


def load_weights(
    model: Weighted,
    path: FilePath,
    skip_mismatch: bool = False,
    strict: bool = True,
    by_name: bool = False,
) -> LoadReport | None:
    """Loads into `model` the weights of a file written by `save_weights` or `save`.

    Legacy files of Keras (`.h5`) have them in lists by layer: `by_name` takes the layers by their
    names instead of their order.

    Safetensors files of other programs are read if names and shapes match the model. They have no
    checksum, so damage to their values cannot be detected: a warning is logged (logger `fnn`).
    Raises FileError for a damaged file, and for names or shapes that are not those of the model.

    >>> one, other = (fnn.Sequential([fnn.layers.Dense(2, input_shape=(3,))]) for _ in range(2))
    >>> fnn.saving.save_weights(one, "weights.safetensors")
    >>> fnn.saving.load_weights(other, "weights.safetensors")
    >>> np.array_equal(one.params["dense"]["kernel"], other.params["dense"]["kernel"])
    True
    """
    named(model.train_state)  # raises if the model has no weights yet
    with formats.opened(path) as opened:
        options: dict[str, bool] = {}
        if by_name and opened.format is not formats.HDF5:
            raise FileError(
                f"expected a legacy file of Keras (.h5) with by_name=True, received {path}; "
                "leave by_name out"
            )
        if by_name:
            options["by_name"] = True
        report: LoadReport = opened.reader("load_weights")(
            model, opened, skip_mismatch, strict, **options
        )
    if strict and not skip_mismatch:
        return None
    return report


def _load_safetensors(
    model: Weighted, opened: Opened, skip_mismatch: bool, strict: bool
) -> LoadReport:
    found = Tensors(opened.file, opened.file.size, opened.path)

    def load(names: Iterable[str]) -> dict[str, np.ndarray]:
        # All of them: the checksum is that of the whole file.
        return found.load()

    return take(model, found.tensors, load, opened.path, skip_mismatch, strict)


def _load_npz(
    model: Weighted, opened: Opened, skip_mismatch: bool, strict: bool
) -> LoadReport:
    assert opened.zip is not None
    found = npz.Arrays(opened.zip)
    if all(name.startswith("arr_") for name in found.entries):
        raise FileError(
            f"expected arrays named by paths like 'params/dense/kernel' in {opened.path}, "
            f"received {', '.join(found.entries):.80}; read them by NumPy, and pass them to "
            "model.set_weights"
        )
    return take(model, found.entries, found.load, opened.path, skip_mismatch, strict)


def take(
    model: Weighted,
    found: Mapping[str, Shaped],
    load: Callable[[Iterable[str]], dict[str, np.ndarray]],
    path: FilePath,
    skip_mismatch: bool = False,
    strict: bool = True,
) -> LoadReport:
    """Loads into `model` the arrays of a file whose paths and shapes are `found`; all or nothing.

    Raises FileError listing every difference. With `strict=False` the weights that fit are loaded,
    with `skip_mismatch` the layers all of whose weights fit; a warning names the others.
    Nothing is allocated before; `load(names)` may leave out what is not in `names`.
    """
    wanted = named(model.train_state)
    stores: list[str] = []
    if model.stores_own:
        stores = [name for name in found if _is_own(name)]
    if stores:
        found = {name: t for name, t in found.items() if not _is_own(name)}
    report = compare(wanted, found)
    fitting = report.loaded
    if skip_mismatch:
        fitting = _of_whole_layers(wanted, fitting)
        if len(fitting) < len(wanted):
            warn(_skipped(report, path))
        report = LoadReport(fitting, report.missing, report.unexpected, report.reshaped)
    elif strict:
        report.check(path)
    arrays = load([*fitting, *stores])
    own = {name: array for name, array in arrays.items() if _is_own(name)}
    given = {name: arrays.pop(name) for name in fitting}
    given |= own
    assign(model, given)
    return report


def _of_whole_layers(wanted: Iterable[str], fitting: Iterable[str]) -> tuple[str, ...]:
    """Those of layers none of whose weights is missing or misshapen."""
    known = set(fitting)
    partial = {_layer(name) for name in wanted if name not in known}
    return tuple(name for name in fitting if _layer(name) not in partial)


def _layer(name: str) -> str:
    """`params/dense/kernel` -> `dense`."""
    return name.partition("/")[2].rpartition("/")[0]


def _skipped(report: LoadReport, path: FilePath) -> str:
    lines = [line for line in report.lines() if not line.endswith("not in the model")]
    return (
        f"layers whose weights do not fit keep theirs (skip_mismatch), in {path}:\n  "
        + "\n  ".join(lines)
    )


def assign(model: Weighted, weights: dict[str, np.ndarray]) -> None:
    """Sets weights of `model`, given by their paths; others stay. `weights` is emptied."""
    now = model.train_state
    parts = {}
    for part in ("params", "state"):
        branch = getattr(now, part)
        leaves = []
        for path, leaf in tree.flatten(branch):
            # Popped, so that a copy on the host is gone before the next is made.
            given = weights.pop(_name(part, path), None)
            if given is not None:
                leaf = tree.owned(given)
            leaves.append((path, leaf))
        parts[part] = tree.fill(branch, tree.unflatten(leaves))
    model.train_state = now.replace(**parts)
    own = {n.removeprefix(OWN): a for n, a in weights.items() if _is_own(n)}
    if own:
        model.take_own_stores(own)


def _name(part: str, path: tree.Path) -> str:
    return "/".join((part, *path))


def _is_own(name: str) -> bool:
    return name.startswith(OWN)


formats.SAFETENSORS.save_weights = _save_safetensors
formats.SAFETENSORS.load_weights = _load_safetensors
formats.NPZ.save_weights = _save_npz
formats.NPZ.load_weights = _load_npz
