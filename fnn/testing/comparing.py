"""Comparing: the error for a failed check, and comparison of two trees of arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core import tree
from fnn.core.context import is_masked
from fnn.core.tree import SpecTree, Tree


class PromiseError(Exception):
    """What was expected and received.

    `at` says where to look and `cause` names the usual cause, if they differ from the property's.
    """

    def __init__(
        self,
        expected: str,
        received: str,
        at: str = "",
        cause: str = "",
    ) -> None:
        super().__init__(f"expected {expected}, received {received}")
        self.at = at
        self.cause = cause


def same(
    received: Tree,
    expected: Tree,
    what: str,
    tolerance: float = 1e-5,
) -> None:
    """Raises PromiseError unless structure, dtypes, shapes and values are the same."""
    structure: object = jax.tree.structure(received)
    if structure != jax.tree.structure(expected):
        raise PromiseError(f"{what} of {outline(expected)}", outline(received))
    leaves = jax.tree_util.tree_leaves_with_path(received)
    expected_leaves = jax.tree.leaves(expected)
    for (path, a), b in zip(leaves, expected_leaves, strict=True):
        name = what + jax.tree_util.keystr(path)
        if a.shape != b.shape or a.dtype != b.dtype:
            raise PromiseError(f"{name} to be {tree.describe(b)}", tree.describe(a))
        numbers = _as_numbers(a)
        expected_numbers = _as_numbers(b)
        _same_values(numbers, expected_numbers, name, tolerance)


def _as_numbers(a: Array) -> np.ndarray:
    is_key = jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
    if is_key:
        # Random keys are compared by their bits.
        a = jax.random.key_data(a)
    return np.asarray(a, "float64")


def _same_values(
    a: np.ndarray,
    b: np.ndarray,
    name: str,
    tolerance: float,
) -> None:
    close = np.isclose(a, b, tolerance, tolerance, equal_nan=True)
    if close.all():
        return
    with np.errstate(invalid="ignore"):
        distance = np.abs(a - b)
    distance = np.nan_to_num(distance, nan=np.inf, posinf=np.inf)
    # The largest difference, or NaN, is shown.
    distance = np.where(close, -1, distance)
    flat_index = np.argmax(distance)
    index = np.unravel_index(flat_index, a.shape)
    worst = tuple(map(int, index))
    place = name
    if worst:
        shown = ", ".join(map(str, worst))
        place = f"{name}[{shown}]"
    differing = (~close).sum()
    received = f"{a[worst]:.6g} ({differing} of {a.size} numbers differ)"
    raise PromiseError(f"{place} = {b[worst]:.6g}", received)


def same_shapes(
    received: SpecTree,
    expected: SpecTree,
    what: str,
    by: str = "",
    at: str = "",
) -> None:
    """Raises PromiseError unless structure, shapes and dtypes are the same."""
    if _shapes(received) != _shapes(expected):
        raise PromiseError(f"{what} {outline(expected)}", outline(received) + by, at)


def _shapes(values: SpecTree) -> SpecTree:
    def shape_and_dtype(a: SpecTree) -> tuple[tuple[int, ...], str]:
        return a.shape, str(a.dtype)

    return jax.tree.map(shape_and_dtype, values)


def outline(values: SpecTree) -> str:
    """Structure, shapes and dtypes as a string: `{'a': float32[3]}`."""
    if isinstance(values, dict):
        entries = [f"{name!r}: {outline(value)}" for name, value in values.items()]
        return f"{{{', '.join(entries)}}}"
    if isinstance(values, (tuple, list)):
        return f"({', '.join(map(outline, values))})"
    if is_masked(values):
        return f"Masked({tree.describe(values)})"
    return tree.describe(values)
