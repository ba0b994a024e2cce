"""Under `jax_enable_x64`: float64 layers compute in float64 throughout, float32 ones stay float32.

Over every row of the catalogue, since one constant of the wrong dtype is enough.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import layers as L
from fnn.core.calling import call, weight_spec
from fnn.core.context import INFERENCE, strip_masks
from fnn.core.tree import cast
from fnn.testing.subject import is_float, jit, on_host
from tests.helpers.catalogue import CATALOGUE, COMPILED, first_of_modules
from tests.helpers.policies import equations

pytestmark = pytest.mark.slow


def floats(values):
    return [a for a in jax.tree.leaves(strip_masks(values)) if is_float(a)]


def dtypes(values):
    return {str(a.dtype) for a in floats(values)}


def in_float64(case):
    """The layer of a row in float64, with its weights and inputs, and the row's own of float32."""
    given = (*case.weights, case.x)
    with jax.enable_x64(True):
        wide = cast(on_host(given), "float64")  # NumPy compiles nothing
        return case.layer.replace(dtype="float64"), wide, given


def both(case, layer, narrow):
    """A function that gives what `layer` in float64 gives, and the layer of the row in float32."""
    run = lambda layer, given: call(layer, *given, INFERENCE)
    return lambda wide: (run(layer, wide), run(case.layer, narrow))


def gradients(layer, given):
    def objective(params, state, x):
        y, _ = call(layer, params, state, x, INFERENCE)
        return sum((jnp.sum(a**2) for a in floats(y)), 0.0)

    return jax.grad(objective, allow_int=True)(*given)


# These count in float32 (entries, and places of an expert), or compute in it: the histogram, and
# the tables of a spectrogram.
NARROW_INSIDE = (
    L.GlobalAveragePooling1D,
    L.MixtureOfExperts,
    L.ContrastLimitedAdaptiveHistogramEqualization,
    L.MelSpectrogram,
)


@pytest.mark.parametrize("case", CATALOGUE, ids=[case.id for case in CATALOGUE])
def test_float64(case):
    layer, wide, narrow = in_float64(case)
    with jax.enable_x64(True):
        assert dtypes(weight_spec(layer, wide[-1])[0]) <= {"float64"}
        run = lambda wide: call(layer, *wide, INFERENCE)
        program, results = jax.make_jaxpr(run, return_shape=True)(wide)
        assert dtypes(results) <= {"float64"}
        if not isinstance(layer, NARROW_INSIDE):  # numbers that were narrow once stay rounded
            inside = [a.aval for e in equations(program.jaxpr) for a in e.outvars]
            assert {str(a.dtype) for a in inside if is_float(a)} <= {"float64"}
        narrow = jax.eval_shape(lambda: call(case.layer, *narrow, INFERENCE))
        assert dtypes(narrow) <= {"float32"}


# The dtypes of all are known by tracing; numbers say that what is computed by dtype is right.
COMPUTED = first_of_modules(COMPILED)
ROWS = [
    pytest.param(case, id=case.id, marks=() if case in COMPUTED else pytest.mark.thorough)
    for case in COMPILED
]


@pytest.mark.parametrize("case", ROWS)
def test_numbers_and_gradients_in_float64(case):
    layer, wide, narrow = in_float64(case)
    with jax.enable_x64(True):
        run = lambda wide: (both(case, layer, narrow)(wide), gradients(layer, wide))
        ((y, _), (expected, _)), learned = jit(run)(wide)
    assert dtypes(learned) <= {"float64"}
    assert all(np.isfinite(g).all() for g in floats(learned))
    for received, wanted in zip(floats(y), floats(expected), strict=True):
        np.testing.assert_allclose(received, wanted, rtol=1e-4, atol=1e-4)
