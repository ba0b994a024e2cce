"""Keras, run live, as the oracle of numbers."""

import contextlib
import unittest.mock
import warnings

import jax
import numpy as np


@contextlib.contextmanager
def keras_rules():
    """Inside, JAX is as lenient as Keras needs it; use it around every call into Keras."""
    with jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def random_weights_unset():
    """Inside, layers of Keras start with 0 where they would draw; set their weights afterwards.

    To draw them is a program to compile for each shape.
    """
    return _drawn(np.zeros)


def random_weights_of_numpy(seed):
    """Inside, what layers of Keras draw comes from NumPy, as `glorot_uniform` has it.

    To draw them by JAX is a program to compile for each shape.
    """
    from keras.src.initializers.random_initializers import compute_fans

    rng = np.random.default_rng(seed)

    def drawn(shape, dtype):
        limit = np.sqrt(6 / sum(compute_fans(shape)))
        return rng.uniform(-limit, limit, shape).astype(dtype)

    return _drawn(drawn)


def _drawn(draw):
    """Inside, `draw(shape, dtype)` makes the weights that Keras would draw."""
    from keras.src import backend
    from keras.src.initializers.random_initializers import RandomInitializer

    initialize = backend.Variable._initialize_with_initializer

    def initialized(variable, initializer):
        if isinstance(initializer, RandomInitializer):
            variable._initialize(jax.device_put(draw(variable._shape, variable._dtype)))
        else:
            initialize(variable, initializer)

    replaced = "_initialize_with_initializer"
    return unittest.mock.patch.object(backend.Variable, replaced, initialized)


def weights_unset():
    """Inside, all weights of Keras's layers start with 0, those that are ones by default too."""
    from keras.src import backend

    def initialized(variable, initializer):
        zeros = np.zeros(variable._shape, variable._dtype)
        variable._initialize(jax.device_put(zeros))

    replaced = "_initialize_with_initializer"
    return unittest.mock.patch.object(backend.Variable, replaced, initialized)
