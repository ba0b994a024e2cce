"""Weights of each layer that Keras has: where Keras puts them in a file, both ways."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn.core.layer import Layer
from tests.helpers.catalogue import CATALOGUE
from tests.helpers.keras_files import (
    by_keras,
    keras_holder,
    named_weights,
    read_by_fnn,
    write_by_fnn,
)
from tests.helpers.keras_twins import twin


def _rows():
    """The rows that have weights and a twin in Keras, the first of each class, then the others."""
    first, others = {}, []
    for case in CATALOGUE:
        if case.keras and type(case.layer).init is not Layer.init:
            kind = type(case.layer).__name__
            (others.append(case) if kind in first else first.__setitem__(kind, case))
    return list(first.values()), others


FIRST, OTHERS = _rows()


def assert_same_layout(case, keras, tmp_path):
    layout, arrays = named_weights(case)
    wanted = [key for holder in layout for key in holder.weights]
    if not wanted:
        pytest.skip("no weights")
    layer = by_keras(twin, case)
    holder = by_keras(keras_holder, keras, layer)
    values = {f"{part}/{'/'.join(path)}" for part, path in wanted}
    ours, theirs = tmp_path / "a.weights.h5", tmp_path / "b.weights.h5"
    write_by_fnn(ours, layout, arrays)
    by_keras(holder.load_weights, ours)
    written = [np.asarray(v.value) for v in layer.weights]
    assert sum(map(np.size, written)) == sum(np.size(arrays[name]) for name in values)
    by_keras(holder.save_weights, theirs)
    found = read_by_fnn(theirs, layout, {n: jnp.asarray(a) for n, a in arrays.items()})
    assert set(found) == values
    for name, array in found.items():
        np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.slow
@pytest.mark.parametrize("case", FIRST, ids=lambda case: case.id)
def test_a_layer_has_its_weights_where_keras_has_them(case, keras, tmp_path):
    assert_same_layout(case, keras, tmp_path)


@pytest.mark.thorough
@pytest.mark.parametrize("case", OTHERS, ids=lambda case: case.id)
def test_every_row_has_its_weights_where_keras_has_them(case, keras, tmp_path):
    assert_same_layout(case, keras, tmp_path)
