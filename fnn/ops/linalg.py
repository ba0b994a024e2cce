"""Functions of matrices, by Keras's names."""

from __future__ import annotations

import jax.numpy as jnp

from fnn.ops import matrices
from fnn.ops.dtypes import as_float
from fnn.ops.table import Table, functions, keeps_lists, rows

_TABLE: Table = {
    **rows("(x)", "det eig eigh inv lu_factor", matrices),
    **rows("(x, upper=False)", "cholesky cholesky_inverse", matrices),
    "jvp(fun, primals, tangents, has_aux=False)": keeps_lists(matrices.jvp),
    "lstsq(a, b, rcond=None)": matrices.lstsq,
    "matrix_rank(x, tol=None)": matrices.matrix_rank,
    "norm(x, ord=None, axis=None, keepdims=False)": as_float(jnp.linalg.norm),
    "pinv(x, rcond=None)": matrices.pinv,
    "qr(x, mode='reduced')": matrices.qr,
    "solve(a, b)": matrices.solve,
    "solve_triangular(a, b, lower=False)": matrices.solve_triangular,
    "svd(x, full_matrices=True, compute_uv=True)": matrices.svd,
}

_MODULE = functions(__name__, _TABLE)
globals().update(_MODULE)
__all__ = list(_MODULE)
