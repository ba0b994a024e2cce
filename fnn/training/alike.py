"""Alike: the batches of a stream in the structure, shapes and dtypes of the first one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import tree
from fnn.core.tree import SpecTree, Tree


def alike(
    batch: Tree,
    first: SpecTree,
    number: int,
    varies: bool = False,
) -> Tree:
    """`batch` in the dtypes of the first. Raises ValueError if it differs otherwise.

    `number` is that of the batch, for messages. With `varies` sizes may differ.

    >>> alike(np.ones(2, "int32"), np.ones(3, "float32"), 1)
    array([1., 1.], dtype=float32)
    """
    if not _fits(batch, first, varies):
        raise _unlike(batch, first, number)
    count, most = tree.batch_size(batch), tree.batch_size(first)
    if count > most:
        raise ValueError(
            f"batch {number} of the stream holds {count} examples and the first held "
            f"{most}; give the largest batch first"
        )

    def cast(array: Any, spec: jax.ShapeDtypeStruct) -> Any:
        if array.dtype == spec.dtype:
            return array
        converted = _converted(np.asarray(array), spec.dtype)
        if converted is None:
            raise _unlike(batch, first, number)
        return converted

    return jax.tree.map(cast, batch, first)


def _fits(batch: Tree, first: SpecTree, varies: bool) -> bool:
    """Whether a batch has the structure of the first, and its shapes if they may not vary."""
    structure, shapes = _shapes_of_examples(batch)
    expected, wanted = _shapes_of_examples(first)
    if not varies:
        return (structure, shapes) == (expected, wanted)
    axes = [len(shape) for shape in shapes]
    return bool(structure == expected) and axes == [len(shape) for shape in wanted]


def _unlike(batch: Tree, first: SpecTree, number: int) -> ValueError:
    shown, expected = tree.describe(batch), tree.describe(first)
    if _shapes_of_examples(batch)[0] != _shapes_of_examples(first)[0]:
        # With the keys.
        shown, expected = _structure(batch), _structure(first)
    return ValueError(
        f"batch {number} of the stream is {shown} and the first was {expected}; give "
        "every batch the same arrays, shapes and dtypes (sequences: fnn.data.bucket pads them; "
        "texts: TextVectorization(output_sequence_length=...))"
    )


def _structure(batch: Tree) -> str:
    """A batch as a string: its structure with shapes and dtypes, without quotes."""
    described = jax.tree.map(tree.describe, batch)
    return str(described).replace("'", "")


def _shapes_of_examples(batch: Tree) -> tuple[Any, list[tuple[int, ...]]]:
    """The structure of a batch, and the shapes of its leaves without the first axis."""
    leaves, treedef = jax.tree.flatten(batch)
    return treedef, [leaf.shape[1:] for leaf in leaves]


def _converted(array: np.ndarray, dtype: Any) -> np.ndarray | None:
    """The array in another dtype; None if values do not fit."""
    with np.errstate(all="ignore"):
        converted = array.astype(dtype)
    if jnp.issubdtype(array.dtype, jnp.floating) and jnp.issubdtype(
        dtype, jnp.floating
    ):
        # Rounding is fine, overflow is not.
        fits = np.isfinite(converted) | ~np.isfinite(array)
    else:
        fits = converted == array
    if not fits.all():
        return None
    return converted
