"""Every layer of the catalogue as a program for any number of examples."""

import jax
import numpy as np
import pytest

import fnn
from fnn.core.context import is_masked, strip_masks
from fnn.export.stablehlo import exported
from fnn.training.predict_step import make_predict_step
from tests.helpers.catalogue import CATALOGUE

pytestmark = pytest.mark.thorough
# These need the number of examples.
OF_ONE_SIZE = ("stateful=True", "capacity_factor=0.5", "STFTSpectrogram(mode='magnitude'")


def free(leaf):
    return fnn.InputSpec(shape=(None, *leaf.shape[1:]), dtype=leaf.dtype)


@pytest.mark.parametrize("case", CATALOGUE, ids=lambda case: case.id)
def test_every_layer_is_exported_for_any_number_of_examples(case):
    params, state = case.random_weights(0)
    step = make_predict_step(case.layer)
    leaves, structure = jax.tree.flatten(case.x)

    def run(*leaves):
        return step(params, state, jax.tree.unflatten(structure, leaves))[0]

    archive = fnn.export.ExportArchive()
    archive.add_endpoint("serve", run, list(map(free, leaves)))
    if any(part in case.id for part in OF_ONE_SIZE):
        with pytest.raises(ValueError, match="serve cannot be exported for inputs"):
            exported(archive, archive.endpoints["serve"])
        return
    program = exported(archive, archive.endpoints["serve"])
    found = jax.tree.leaves(program.call({}, *leaves))
    wanted = jax.tree.leaves(strip_masks(run(*leaves)), is_leaf=is_masked)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
