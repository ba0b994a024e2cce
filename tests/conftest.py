"""Strict JAX for every test: several devices, no silent broadcasting of ranks; what is slow."""

import gc
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import jax
import pytest

import fnn
from tests.compiling import HAS_OLDER_EMITTERS, OLDER_EMITTERS

if HAS_OLDER_EMITTERS:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {OLDER_EMITTERS}"

jax.config.update("jax_traceback_in_locations_limit", 0)  # shown nowhere, and takes time
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Whole files that `make quick` leaves out: tables of properties and parity, minutes of compiling.
SLOW_FILES = {
    "test_activation_layers",
    "test_activations",
    "test_attention",
    "test_attention_properties",
    "test_callbacks",
    "test_catalogue",
    "test_check_layer",
    "test_combinators",
    "test_decoding",
    "test_distribution",
    "test_doctests",
    "test_dropout",
    "test_dtypes",
    "test_ensembles",
    "test_examples",
    "test_experts",
    "test_explicit_axes",
    "test_initializers",
    "test_keras_layers",
    "test_layer_table",
    "test_layers",
    "test_lora",
    "test_loss_metric_properties",
    "test_losses",
    "test_metric_exactness",
    "test_metric_names",
    "test_metrics",
    "test_metrics_evaluated",
    "test_nested_masks",
    "test_networks",
    "test_normalization",
    "test_notebooks",
    "test_ops",
    "test_optax_losses",
    "test_optimizer_training",
    "test_optimizers",
    "test_random",
    "test_readme",
    "test_recurrent",
    "test_regularizers_constraints",
    "test_reversible_embedding",
    "test_schedules",
    "test_single_examples",
    "test_spatial",
    "test_spectral",
    "test_stacking",
    "test_stateful",
    "test_x64",
}

# Of these the ones that do more than compile many small programs.
LONG_RUNS = {"test_callbacks", "test_examples", "test_networks", "test_notebooks", "test_readme"}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in SLOW_FILES:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(autouse=True)
def same_weights_in_every_run():
    """What a model learns does not hang on the weights that it happens to start from."""
    fnn.set_seed(0)


# A process dies at 65,530 mappings (Linux), and each program takes about five of them.
MOST_MAPPINGS = 30_000


def mappings():
    maps = Path("/proc/self/maps")
    return maps.read_bytes().count(b"\n") if maps.exists() else 0


@pytest.fixture(autouse=True, scope="module")
def cheap_compilation(request):
    """Programs that run once are compiled without the costly optimizations."""
    cheap = request.path.stem in SLOW_FILES - LONG_RUNS
    jax.config.update("jax_disable_most_optimizations", cheap)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    if mappings() > MOST_MAPPINGS:
        gc.unfreeze()
        jax.clear_caches()
    gc.collect()
    gc.freeze()  # what is left stays: each later collection would go through all of it again
