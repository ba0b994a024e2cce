"""Loading: PyTorch's weights into a model, a few rows at a time, and a comparison of outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import jax
import numpy as np

from fnn.core import arguments, tree
from fnn.core.tree import Tree
from fnn.saving.pytorch.conversions import Part
from fnn.saving.pytorch.families import FAMILIES
from fnn.saving.pytorch.rules import Piece, Rule, part_of, plan
from fnn.saving.pytorch.sources import Source, Sources, as_array, opened
from fnn.saving.report import LoadReport, Shaped
from fnn.saving.tensors import FileError, FilePath

# How many bytes of a tensor are in memory at a time.
PIECE = 2**21
# XLA's CPU takes arrays without a copy if they begin at a multiple of this.
ALIGNMENT = 64

Weights: TypeAlias = FilePath | Mapping[str, Any]
Rules: TypeAlias = str | Sequence[tuple[Any, ...]]  # of `Rule`s, or alike


class Model(Protocol):
    """A model (`fnn.Model`, which this package must not import)."""

    train_state: Any

    def predict(self, x: Tree, *, verbose: int) -> Tree: ...


def load_pytorch(
    model: Model,
    weights: Weights,
    rules: Rules,
    reference: tuple[Tree, Tree] | None = None,
    strict: bool = True,
) -> LoadReport:
    """Loads weights of PyTorch into `model`, by rules from its names to the paths here.

    `weights` is a state dict, a safetensors file, the index of a file in shards, or a folder with
    one of these. `rules` are `Rule`s or tuples `(source, target, conversion)`, of which the first
    that fits a tensor counts, or the name of a family: "gpt2", "bert", "llama", "llama_tied",
    "vit", "whisper_encoder", "resnet" (torchvision). Files are mapped and read a few rows at a
    time; the model keeps its old weights until all new ones are there.

    `reference` are inputs and the outputs of PyTorch for them, as arrays in fnn's layout (images
    and sequences with channels last): the report has the largest difference of each output.
    Raises FileError (and changes nothing) if a tensor or a weight is without its counterpart, or a
    shape differs; with `strict=False` it loads the others. Files with pickles (.pt, .bin) are
    refused, since reading them runs what is in them.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))])
    >>> state_dict = {"0.weight": np.array([[1.0, 2.0]]), "0.bias": np.array([3.0])}
    >>> x, y = np.ones((1, 2), "float32"), np.array([[6.0]])
    >>> report = load_pytorch(model, state_dict, [("0", "dense", "dense")], reference=(x, y))
    >>> report.loaded, report.differences
    (('dense/kernel', 'dense/bias'), {'outputs': 0.0})
    """
    table = _checked(rules)
    now = model.train_state
    wanted = dict(_named(now))
    with opened(weights) as sources:
        made = plan(table, wanted, sources)
        if strict:
            made.report.check(_shown(weights))
        arrays = {
            path: filled(wanted[path], made.pieces[path], sources)
            for path in made.report.loaded
        }
    _assign(model, now, arrays)
    if reference is None:
        return made.report
    return _compared(model, made.report, *reference)


def _checked(rules: Rules) -> tuple[Rule, ...]:
    """The rules of a family, or these. Raises ValueError for an unknown name."""
    if isinstance(rules, str):
        if rules not in FAMILIES:
            expected = f"to be rules, or one of {sorted(FAMILIES)}"
            raise arguments.wrong("load_pytorch", "rules", expected, rules)
        return FAMILIES[rules]
    if not all(
        isinstance(rule, (tuple, list)) and 1 <= len(rule) <= 3 for rule in rules
    ):
        expected = "to be tuples (source, target, conversion)"
        raise arguments.wrong("load_pytorch", "rules", expected, rules)
    table = tuple(Rule(*rule) for rule in rules)
    for rule in table:
        if rule.source and rule.target is not None:
            rule.table  # noqa: B018 - raises an error for an unknown conversion
    return table


def _shown(weights: Weights) -> FilePath:
    if isinstance(weights, Mapping):
        return "the state dict"
    return weights


def _named(now: Any) -> Iterator[tuple[str, Shaped]]:
    """The weights and states of a model by their paths."""
    for branch in (now.params, now.state):
        for path, leaf in tree.flatten(branch):
            yield "/".join(path), leaf


def filled(wanted: Shaped, pieces: list[Piece], sources: Sources) -> jax.Array:
    """A weight made of pieces; zeros if there are none."""
    array = _empty(wanted.shape, np.dtype(wanted.dtype))
    if not pieces:
        array[...] = 0
    # First what is copied, then what is added to it or compared with it.
    for piece in sorted(pieces, key=lambda piece: piece.target.how != "copy"):
        _write(piece, array, sources[piece.source])
    # The only reference to its memory, which JAX takes over.
    on_device: jax.Array = jax.device_put(array)
    return on_device


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def _write(piece: Piece, array: np.ndarray, source: Source) -> None:
    """Writes a tensor into a weight, a few rows at a time."""
    view = np.atleast_1d(piece.view(array, source.shape))
    part = piece.target.taken
    for rows in _in_rows(view):
        values = np.atleast_1d(source.read(_shifted(rows, part, source)))
        if part is not None and part.axis != 0:
            values = values[part_of(values.shape, part)]
        values = values.astype(view.dtype, copy=False)
        if piece.target.how == "copy":
            view[rows] = values
        elif piece.target.how == "add":
            view[rows] += values
        elif not np.array_equal(view[rows], values):
            raise FileError(
                f"expected {piece.source} to be another name for the weights that it is tied to, "
                "received other values; use a network in which the two are not tied"
            )


def _in_rows(view: np.ndarray) -> Iterator[slice]:
    """Slices of the first axis of about PIECE bytes."""
    length = len(view)
    size = max(view.nbytes // max(length, 1), 1)
    step = max(PIECE // size, 1)
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def _shifted(rows: slice, part: Part | None, source: Source) -> slice:
    """The rows of the tensor for these rows of a part of it."""
    if part is None or part.axis != 0:
        return rows
    start = part.number * (source.shape[0] // part.parts)
    return slice(rows.start + start, rows.stop + start)


def _assign(model: Model, now: Any, arrays: dict[str, jax.Array]) -> None:
    """Sets the weights that have been loaded."""
    parts = {}
    for part in ("params", "state"):
        branch = getattr(now, part)
        leaves = []
        for path, leaf in tree.flatten(branch):
            leaves.append((path, arrays.get("/".join(path), leaf)))
        parts[part] = tree.fill(branch, tree.unflatten(leaves))
    model.train_state = now.replace(**parts)


def _compared(
    model: Model, report: LoadReport, inputs: Tree, expected: Tree
) -> LoadReport:
    """The report with the largest difference of each output."""
    outputs = model.predict(jax.tree.map(as_array, inputs), verbose=0)
    expected = jax.tree.map(as_array, expected)
    differences = {}
    named = jax.tree_util.tree_leaves_with_path({"outputs": outputs})
    others = jax.tree.leaves(expected)
    if len(named) != len(others):
        raise ValueError(
            f"load_pytorch: expected reference outputs like the {len(named)} of the model, "
            f"received {len(others)}"
        )
    for (path, ours), theirs in zip(named, others, strict=True):
        name = tree.path_name(path)
        if ours.shape != theirs.shape:
            raise ValueError(
                f"load_pytorch: expected reference {name} of shape {ours.shape}, received "
                f"{theirs.shape}; pass them in the layout of the model"
            )
        gap = np.abs(ours - theirs)
        differences[name] = float(gap.max(initial=0))
    return LoadReport(
        report.loaded,
        report.missing,
        report.unexpected,
        report.reshaped,
        differences,
    )
