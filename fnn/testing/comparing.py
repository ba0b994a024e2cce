"""Comparing: what a check found broken, and two trees of arrays leaf by leaf."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import tree
from fnn.core.masking import is_masked


class PromiseError(Exception):
    """What was expected and received; where to look and the usual cause, if not the property's."""

    def __init__(
        self, expected: str, received: str, at: str = "", cause: str = ""
    ) -> None:
        super().__init__(f"expected {expected}, received {received}")
        self.at, self.cause = at, cause


def same(received: Any, expected: Any, what: str, tolerance: float = 1e-5) -> None:
    """Raises PromiseError unless structure, dtypes, shapes and numbers are the same."""
    structures: list[Any] = [
        jax.tree.structure(values) for values in (received, expected)
    ]
    if structures[0] != structures[1]:
        raise PromiseError(f"{what} of {outline(expected)}", outline(received))
    leaves = jax.tree_util.tree_leaves_with_path(received)
    for (path, a), b in zip(leaves, jax.tree.leaves(expected), strict=True):
        name = what + jax.tree_util.keystr(path)
        if a.shape != b.shape or a.dtype != b.dtype:
            raise PromiseError(f"{name} to be {tree.describe(b)}", tree.describe(a))
        _same_numbers(_numbers(a), _numbers(b), name, tolerance)


def _numbers(a: Any) -> np.ndarray:
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        a = jax.random.key_data(a)
    return np.asarray(a, "float64")


def _same_numbers(a: np.ndarray, b: np.ndarray, name: str, tolerance: float) -> None:
    close = np.isclose(a, b, tolerance, tolerance, equal_nan=True)
    if close.all():
        return
    with np.errstate(invalid="ignore"):
        distance = np.where(
            close, -1, np.nan_to_num(np.abs(a - b), nan=np.inf, posinf=np.inf)
        )
    worst = tuple(map(int, np.unravel_index(np.argmax(distance), a.shape)))
    place = f"{name}[{', '.join(map(str, worst))}]" if worst else name
    received = f"{a[worst]:.6g} ({(~close).sum()} of {a.size} numbers differ)"
    raise PromiseError(f"{place} = {b[worst]:.6g}", received)


def same_shapes(
    received: Any, expected: Any, what: str, by: str = "", at: str = ""
) -> None:
    """Raises PromiseError unless structure, shapes and dtypes are the same."""
    shapes = lambda values: jax.tree.map(lambda a: (a.shape, str(a.dtype)), values)
    if shapes(received) != shapes(expected):
        raise PromiseError(f"{what} {outline(expected)}", outline(received) + by, at)


def outline(values: Any) -> str:
    """Structure, shapes and dtypes in words: `{'a': float32[3]}`."""
    if isinstance(values, dict):
        return f"{{{', '.join(f'{name!r}: {outline(value)}' for name, value in values.items())}}}"
    if isinstance(values, (tuple, list)):
        return f"({', '.join(map(outline, values))})"
    return (
        f"Masked({tree.describe(values)})"
        if is_masked(values)
        else tree.describe(values)
    )
