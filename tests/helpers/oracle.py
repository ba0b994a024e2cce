"""Keras, run live, as the oracle of numbers."""

import contextlib
import warnings

import jax


@contextlib.contextmanager
def keras_rules():
    """Inside, JAX is as lenient as Keras needs it; use it around every call into Keras."""
    with jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
