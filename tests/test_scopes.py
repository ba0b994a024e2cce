"""device and name_scope, against Keras's; the version."""

import jax
import jax.numpy as jnp
import pytest

import fnn
from tests.helpers.oracle import keras_rules


@pytest.fixture
def keras():
    with keras_rules():
        import keras

        yield keras


def test_devices(keras):
    for package in (fnn, keras):
        for name in ("cpu", "cpu:0", "CPU:0"):
            with package.device(name):
                assert jnp.ones(2).device == jax.devices("cpu")[0]
        with pytest.raises(RuntimeError, match="tpu"), package.device("tpu:0"):
            pass
    many = len(jax.devices("cpu"))
    with pytest.raises(ValueError, match=r"expected a device among the"), fnn.device(f"cpu:{many}"):
        pass


def test_name_scopes(keras):
    for package in (fnn, keras):
        with package.name_scope("encoder") as scope:
            assert scope.name == "encoder"
        for wrong in ("a/b", 3):
            with pytest.raises(ValueError, match="name"):
                package.name_scope(wrong)

    @jax.jit
    def named(x):
        with fnn.name_scope("outer"), fnn.name_scope("inner"):
            return jnp.sin(x)

    assert "outer/inner" in named.lower(1.0).as_text(debug_info=True)


def test_the_version_and_the_base_classes(keras):
    assert fnn.version() == fnn.__version__
    for name, module in (
        ("Initializer", "initializers"), ("Loss", "losses"), ("Metric", "metrics"),
        ("Optimizer", "optimizers"), ("Regularizer", "regularizers"), ("Layer", "layers"),
    ):  # fmt: skip
        for package in (fnn, keras):
            assert getattr(package, name) is getattr(getattr(package, module), name)
    assert fnn.mixed_precision.LossScaleOptimizer is fnn.optimizers.LossScaleOptimizer
