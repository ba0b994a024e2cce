"""Functions of matrices that JAX lacks or that check their input."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.scipy.linalg
from jax import Array

from fnn.core.tree import Tree


def check_matrix(name: str, x: Array) -> None:
    """Raises ValueError for an array that holds no matrices."""
    if x.ndim < 2:
        raise ValueError(
            f"{name}: expected an array of two axes or more, received shape {x.shape}"
        )


def _check_square(name: str, x: Array) -> None:
    check_matrix(name, x)
    if x.shape[-1] != x.shape[-2]:
        raise ValueError(
            f"{name}: expected square matrices in the last two axes, received shape {x.shape}"
        )


def _check_system(
    name: str,
    a: Array,
    b: Array,
) -> None:
    _check_square(name, a)
    if not b.ndim:
        raise ValueError(
            f"{name}: expected b with an axis of equations, received a number"
        )
    rows = b.shape[-1]
    if a.ndim - b.ndim != 1:
        rows = b.shape[-2]
    if rows != a.shape[-1]:
        raise ValueError(
            f"{name}: expected b with {a.shape[-1]} equations, as a has, received shapes "
            f"{a.shape} and {b.shape}"
        )


def cholesky(x: Array, upper: bool = False) -> Array:
    """The triangular factor of a positive definite matrix."""
    _check_square("cholesky", x)
    factor = jnp.linalg.cholesky(x, upper=upper)
    is_known = not isinstance(factor, jax.core.Tracer)
    if is_known and jnp.isnan(factor).any():
        raise ValueError(
            "cholesky: expected positive definite matrices, received one that is not; "
            "add a small multiple of the identity"
        )
    result: Array = factor
    return result


def cholesky_inverse(x: Array, upper: bool = False) -> Array:
    """The inverse of a matrix, from its Cholesky factor."""
    _check_square("cholesky_inverse", x)
    identity = jnp.eye(x.shape[-1], dtype=x.dtype)
    inverse = jax.scipy.linalg.solve_triangular(x, identity, lower=not upper)
    if upper:
        return inverse @ inverse.T
    return inverse.T @ inverse


def det(x: Array) -> Array:
    """The determinant of square matrices."""
    _check_square("det", x)
    result: Array = jnp.linalg.det(x)
    return result


def eig(x: Array) -> tuple[Array, Array]:
    """Eigenvalues and eigenvectors of square matrices; on a CPU alone."""
    _check_square("eig", x)
    return jnp.linalg.eig(x)


def eigh(x: Array) -> tuple[Array, Array]:
    """Eigenvalues and eigenvectors of symmetric matrices."""
    _check_square("eigh", x)
    result: tuple[Array, Array] = jnp.linalg.eigh(x)
    return result


def inv(x: Array) -> Array:
    """The inverse of square matrices."""
    _check_square("inv", x)
    result: Array = jnp.linalg.inv(x)
    return result


def lstsq(
    a: Array,
    b: Array,
    rcond: float | None = None,
) -> Array:
    """The solution of a @ x = b with the least squared error."""
    return jnp.linalg.lstsq(a, b, rcond=rcond)[0]


def lu_factor(x: Array) -> tuple[Array, Array]:
    """The triangular factors of a matrix in one array, and the exchanged rows."""
    check_matrix("lu_factor", x)
    factor: Callable[[Array], tuple[Array, Array]] = jax.scipy.linalg.lu_factor
    for _ in range(x.ndim - 2):
        factor = jax.vmap(factor)
    return factor(x)


def matrix_rank(x: Array, tol: float | None = None) -> Array:
    """How many singular values of a matrix are above a tolerance."""
    check_matrix("matrix_rank", x)
    result: Array = jnp.linalg.matrix_rank(x, tol).astype("int32")
    return result


def pinv(x: Array, rcond: float | None = None) -> Array:
    """The pseudo-inverse of matrices."""
    check_matrix("pinv", x)
    return jnp.linalg.pinv(x, rcond)


def qr(x: Array, mode: str = "reduced") -> Tree:
    """An orthogonal and a triangular matrix whose product is the matrix."""
    if mode not in ("reduced", "complete"):
        raise ValueError(
            f"qr: expected mode to be 'reduced' or 'complete', received {mode!r}"
        )
    return jnp.linalg.qr(x, mode=mode)


def solve(a: Array, b: Array) -> Array:
    """The solution of a @ x = b."""
    _check_system("solve", a, b)
    result: Array = jnp.linalg.solve(a, b)
    return result


def solve_triangular(
    a: Array,
    b: Array,
    lower: bool = False,
) -> Array:
    """The solution of a @ x = b for a triangular matrix."""
    _check_system("solve_triangular", a, b)
    return jax.scipy.linalg.solve_triangular(a, b, lower=lower)


def svd(
    x: Array,
    full_matrices: bool = True,
    compute_uv: bool = True,
) -> Tree:
    """The singular values of a matrix, with the matrices of singular vectors around them."""
    check_matrix("svd", x)
    return jnp.linalg.svd(x, full_matrices=full_matrices, compute_uv=compute_uv)


def jvp(
    fun: Callable[..., Tree],
    primals: Tree,
    tangents: Tree,
    has_aux: bool = False,
) -> Tree:
    """The value of a function and its derivative along tangents."""
    return jax.jvp(fun, tuple(primals), tuple(tangents), has_aux=has_aux)
