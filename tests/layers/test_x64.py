"""Under `jax_enable_x64`: float64 layers compute in float64 throughout, float32 ones stay float32.

Over every row of the catalogue, since one constant of the wrong dtype is enough.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.core.calling import call, weight_spec
from fnn.core.context import INFERENCE, strip_masks
from fnn.core.tree import cast
from fnn.testing.subject import is_float, jit, on_host
from tests.helpers.catalogue import CATALOGUE, COMPILED

pytestmark = pytest.mark.slow


def floats(values):
    return [a for a in jax.tree.leaves(strip_masks(values)) if is_float(a)]


def dtypes(values):
    return {str(a.dtype) for a in floats(values)}


def traced(run):
    """`run` that gives shapes and dtypes alone."""
    return lambda *given: jax.eval_shape(run, *given)


@pytest.mark.parametrize("case", CATALOGUE, ids=[case.id for case in CATALOGUE])
def test_float64(case):
    given = (*case.weights, case.x)
    with jax.enable_x64(True):
        layer = case.layer.replace(dtype="float64")
        params, state, x = cast(on_host(given), "float64")  # NumPy compiles nothing
        assert dtypes(weight_spec(layer, x)[0]) <= {"float64"}

        def objective(params, state, x):
            y, new = call(layer, params, state, x, INFERENCE)
            return sum((jnp.sum(a**2) for a in floats(y)), 0.0), (y, new)

        def run(params, state, x):
            learned = jax.grad(objective, has_aux=True, allow_int=True)(params, state, x)
            return *learned, call(case.layer, *given, INFERENCE)

        def both(params, state, x):  # gradients have the dtypes of what they are taken by
            return (), objective(params, state, x)[1], call(case.layer, *given, INFERENCE)

        found = jit(run) if case in COMPILED else traced(both)
        gradients, (y, new), (expected, after) = found(params, state, x)
        assert dtypes((y, new, gradients)) <= {"float64"}
        assert dtypes((expected, after)) <= {"float32"}
    if case not in COMPILED:
        return
    assert all(np.isfinite(g).all() for g in floats(gradients))
    for received, wanted in zip(floats(y), floats(expected), strict=True):
        np.testing.assert_allclose(received, wanted, rtol=1e-4, atol=1e-4)
