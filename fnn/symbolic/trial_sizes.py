"""Trial sizes: comparisons of the results at two sizes of an axis whose size is unknown."""

from __future__ import annotations

import re

import jax

from fnn.core.tree import SpecTree


def differ_in_batch(first: SpecTree, second: SpecTree) -> bool:
    """Whether the specs of inputs at two trial sizes differ in the batch size alone."""
    leaves = jax.tree.leaves(first)
    others = jax.tree.leaves(second)
    for leaf, other in zip(leaves, others, strict=True):
        if leaf.shape[:1] == other.shape[:1]:
            return False
        if leaf.shape[1:] != other.shape[1:]:
            return False
    return True


def merged_shape(
    first: jax.ShapeDtypeStruct, second: jax.ShapeDtypeStruct
) -> tuple[int | None, ...]:
    """The shape of two specs, with None for sizes that differ."""
    sizes: list[int | None] = []
    for size, other in zip(first.shape, second.shape, strict=True):
        if size == other:
            sizes.append(size)
        else:
            sizes.append(None)
    return tuple(sizes)


def hide_trial_sizes(error: Exception, other: Exception) -> None:
    """Writes None for each number of an error that differs in the error of the other trial."""
    if len(error.args) == len(other.args) == 1:
        (message,) = error.args
        (other_message,) = other.args
        if isinstance(message, str):
            error.args = (_with_none(message, str(other_message)),)
    notes = getattr(error, "__notes__", [])
    others = getattr(other, "__notes__", [])
    for index, (note, same) in enumerate(zip(notes, others, strict=False)):
        notes[index] = _with_none(note, same)


def _with_none(message: str, other: str) -> str:
    """`message` with None for the numbers that differ; unchanged if anything else differs.

    >>> _with_none("received shape (3, 4)", "received shape (5, 4)")
    'received shape (None, 4)'
    """
    parts = re.split(r"(\d+)", message)  # words and numbers alternate
    others = re.split(r"(\d+)", other)
    if parts[::2] != others[::2]:
        return message
    for place, part in enumerate(others):
        if part != parts[place]:
            parts[place] = "None"
    return "".join(parts)
