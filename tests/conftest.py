"""Strict JAX for every test: several devices, no silent broadcasting of ranks."""

import gc
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import jax
import pytest

import fnn
from tests.helpers.compiling import HAS_OLDER_EMITTERS, OLDER_EMITTERS
from tests.helpers.oracle import keras_rules

if HAS_OLDER_EMITTERS:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {OLDER_EMITTERS}"

jax.config.update("jax_traceback_in_locations_limit", 0)  # shown nowhere, and takes time
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(scope="session")
def keras():
    with keras_rules():
        import keras

        return keras


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
    marked = request.node.get_closest_marker
    cheap = bool(marked("slow")) and not marked("optimized")
    jax.config.update("jax_disable_most_optimizations", cheap)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    if mappings() > MOST_MAPPINGS:
        gc.unfreeze()
        jax.clear_caches()
    gc.collect()
    gc.freeze()  # what is left stays: each later collection would go through all of it again
