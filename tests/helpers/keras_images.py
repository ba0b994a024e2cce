"""Layers of images in Keras, with the same arguments as ours."""

import jax
import numpy as np


def twin(layer):
    """The same layer of Keras."""
    import keras

    config = layer.get_config()
    left_out = ("input_shape", "trainable", "name", "dtype")
    by_default = ("data_format", "bounding_box_format", "seed")
    config = {
        name: value
        for name, value in config.items()
        if name not in left_out and not (name in by_default and value is None)
    }
    return getattr(keras.layers, type(layer).__name__)(**config)


def at_once(function, *given):
    """What a function returns, as arrays of NumPy, computed by one program.

    Called as it is, each operation for each shape would be a program to compile.
    """
    return jax.tree.map(np.asarray, jax.jit(function)(*given))
