"""SavedModels, run by TensorFlow, whose import takes seconds: all in this file."""

import jax
import numpy as np
import pytest

import fnn
from tests.helpers.exported import NETWORKS, dense

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


@pytest.mark.parametrize("make", NETWORKS, ids=lambda make: make.__name__)
def test_tensorflow_gives_what_predict_gives(make, tf, tmp_path):
    model, x = make()
    model.export(tmp_path / "out", format="tf_saved_model", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "out"))
    for count in (1, 5):
        some = jax.tree.map(lambda array: array[:count], x)  # noqa: B023
        given = jax.tree.map(tf.constant, some)
        if isinstance(given, list):
            given = tuple(given)
        found = jax.tree.leaves(served.serve(given))
        wanted = jax.tree.leaves(model.predict(some, verbose=0))
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_an_archive_has_methods_signatures_and_collections(tf, tmp_path):
    model, x = dense()
    archive = fnn.export.ExportArchive("tf_saved_model")
    archive.track(model)
    spec = [fnn.InputSpec(shape=(None, 4), dtype="float32")]
    archive.add_endpoint("doubled", lambda x: 2 * model(x), spec)
    archive.add_endpoint("serve", model, jax2tf_kwargs={"with_gradient": False})
    archive.add_variable_collection("kernels", [model.layers[0].kernel])
    archive.write_out(tmp_path / "out", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "out"))
    wanted = model.predict(x, verbose=0)
    np.testing.assert_allclose(served.doubled(x), 2 * wanted, atol=1e-5)
    by_signature = served.signatures["serving_default"](tf.constant(x))
    np.testing.assert_allclose(jax.tree.leaves(by_signature)[0], 2 * wanted, atol=1e-5)
    np.testing.assert_array_equal(served.kernels[0], model.layers[0].kernel)
    assert sorted(served.signatures) == ["doubled", "serve", "serving_default"]
