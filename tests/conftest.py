"""Strict JAX for every test: several devices, no silent broadcasting of ranks."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key():
    return jax.random.key(0)
