"""Quantizers give Keras's numbers."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import fnn
from fnn import quantizers
from tests.helpers.both_libraries import assert_equal, normal
from tests.helpers.oracle import keras_rules

X = normal(5, 6)
BYTES = np.random.default_rng(0).integers(-8, 8, (5, 3)).astype("int8")

CALLS = [
    ("abs_max_quantize", (X, -1), {}),
    ("abs_max_quantize", (X, (0, 1)), {"value_range": (-7, 7), "epsilon": 0.1}),
    ("abs_max_quantize_grouped_with_zero_point", (X, 2), {}),
    ("abs_max_quantize_grouped_with_zero_point", (X, 4), {}),
    ("fake_quant_with_min_max_vars", (X, -0.7, 1.1), {}),
    ("fake_quant_with_min_max_vars", (X, -0.7, 1.1), {"num_bits": 3, "narrow_range": True}),
    ("compute_float8_scale", (2.0, 3.0, 448.0), {}),
    ("compute_float8_scale", (2.0, 3.0, 448.0), {"margin": 1}),
    ("compute_float8_scale", (0.0, 3.0, 448.0), {}),
    ("compute_float8_scale", (float("inf"), 3.0, 448.0), {}),
    ("compute_float8_amax_history", (X, np.arange(4, dtype="float32")), {}),
    ("quantize_and_dequantize", (300 * X, 0.5, "float8_e4m3fn", "float32"), {}),
    ("pack_int4", (BYTES,), {}),
    ("pack_int4", (BYTES,), {"axis": -1}),
    ("pack_int4", ((BYTES + 8).astype("uint8"),), {"dtype": "uint8"}),
]


@pytest.mark.parametrize(("name", "given", "named"), CALLS)
def test_functions_are_those_of_keras(name, given, named):
    # one program each; but sizes, which packing returns too, are no arrays
    whole = jax.jit if name != "pack_int4" else lambda run: run
    with keras_rules():
        wanted = whole(lambda: getattr(keras.quantizers, name)(*map(_array, given), **named))()
    found = whole(lambda: getattr(quantizers, name)(*given, **named))()
    assert_equal(found, wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert getattr(one, "dtype", None) == getattr(other, "dtype", None)


def _array(value):
    return jnp.asarray(value) if isinstance(value, (np.ndarray, float)) else value


@pytest.mark.slow
@pytest.mark.parametrize("axis", [None, 1, -1])
def test_gradients_of_fake_quantization_are_those_of_keras(axis):
    limits = np.float32(-0.7), np.float32(0.9)
    if axis is not None:
        limits = tuple(
            np.linspace(*ends, 6, dtype="float32") for ends in ((-0.9, -0.4), (0.4, 0.9))
        )

    def gradients(library):
        def total(x, low, high):
            quantize = library.quantizers.fake_quant_with_min_max_vars
            y = quantize(x, low, high, num_bits=4, axis=axis)
            return jnp.sum(y * jnp.cos(jnp.arange(30.0).reshape(5, 6)))

        return jax.jit(jax.value_and_grad(total, (0, 1, 2)))(X, *limits)

    with keras_rules():
        wanted = gradients(keras)
    assert_equal(gradients(fnn), wanted)


@pytest.mark.slow
@pytest.mark.parametrize(("axis", "dtype"), [(0, "int8"), (1, "int8"), (-2, "uint8")])
def test_unpacking_reverses_packing(axis, dtype):
    array = BYTES if dtype == "int8" else (BYTES + 8).astype("uint8")
    packed, shape, length = quantizers.pack_int4(array, axis, dtype)
    assert packed.shape == shape
    found = quantizers.unpack_int4(packed, length, axis, dtype)
    np.testing.assert_array_equal(found, array)
    with keras_rules():
        wanted = keras.quantizers.unpack_int4(packed, length, axis, dtype)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.slow
def test_the_quantizer_is_a_value_of_a_name():
    with keras_rules():
        wanted = keras.quantizers.AbsMaxQuantizer(axis=0)(jnp.asarray(X))
        last = keras.quantizers.AbsMaxQuantizer()(jnp.asarray(X))
    one = quantizers.AbsMaxQuantizer(axis=0)
    assert_equal(one(X), wanted)
    assert_equal(one(X, axis=-1), last)
    assert quantizers.get("abs_max_quantizer")(X)[1].shape == (5, 1)
    assert quantizers.deserialize(quantizers.serialize(one)) == one
    assert quantizers.AbsMaxQuantizer.from_config(one.get_config()) == one


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="value_range must be within"):
        quantizers.AbsMaxQuantizer(value_range=(-200, 200))
    with pytest.raises(TypeError, match="expected an array of int8 for pack_int4"):
        quantizers.pack_int4(X)
    with pytest.raises(TypeError, match="expected an array of int8 or uint8"):
        quantizers.unpack_int4(X, 3)
    with pytest.raises(ValueError, match="expected dtype 'int8' or 'uint8'"):
        quantizers.unpack_int4(BYTES, 3, dtype="int16")
