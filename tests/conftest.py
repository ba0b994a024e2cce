"""Strict JAX for every test: several devices, no silent broadcasting of ranks; what is slow."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Whole files that `make quick` leaves out: tables of properties and parity, minutes of compiling.
SLOW_FILES = {
    "test_activation_layers",
    "test_attention",
    "test_attention_properties",
    "test_callbacks",
    "test_catalogue",
    "test_check_layer",
    "test_doctests",
    "test_dropout",
    "test_examples",
    "test_initializers",
    "test_keras_layers",
    "test_layer_table",
    "test_losses",
    "test_metric_exactness",
    "test_metrics",
    "test_networks",
    "test_normalization",
    "test_notebooks",
    "test_optimizers",
    "test_recurrent",
    "test_spatial",
    "test_x64",
}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in SLOW_FILES:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def key():
    return jax.random.key(0)
