"""Reverse: steps and masks the other way round."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn.core.calling import call, output_spec
from fnn.core.context import INFERENCE, Masked
from fnn.layers import LSTM, Embedding, Input, Reverse, Sequential
from tests.helpers.catalogue import KEY, jit

STEPS = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
MASK = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1]], bool)


@pytest.mark.parametrize("axis", [1, 2, -1, -2])
def test_it_is_flip(axis):
    y, _ = call(Reverse(axis), {}, {}, STEPS, INFERENCE)
    np.testing.assert_array_equal(y, np.flip(STEPS, axis))
    y, _ = call(Reverse(axis), {}, {}, Masked(STEPS, jnp.asarray(MASK)), INFERENCE)
    np.testing.assert_array_equal(y.values, np.flip(STEPS, axis))
    np.testing.assert_array_equal(y.mask, MASK[:, ::-1] if axis in (1, -2) else MASK)


def test_a_recurrent_layer_reads_padding_at_the_front_as_none():
    ids = np.array([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0]], "int32")
    layer = Sequential([Embedding(6, 4, mask_zero=True), Reverse(), LSTM(3)])
    params, state = layer.init(KEY, ids)
    real = [ids[row : row + 1, :length] for row, length in enumerate((3, 1))]
    y, *alone = jit(lambda *each: [layer.apply(params, state, x)[0] for x in each])(ids, *real)
    np.testing.assert_allclose(y, np.concatenate(alone), rtol=1e-5, atol=1e-6)


def test_wrong_axes():
    assert Reverse()(Input((None, 4))).shape == (None, None, 4)
    for axis in (0, 1.0, True, None):
        with pytest.raises(ValueError, match="Reverse: expected axis to be an integer"):
            Reverse(axis)
    for axis in (3, -3):
        with pytest.raises(ValueError, match=r"axis after the batch of inputs of shape \(2, 5, 3"):
            output_spec(Reverse(axis), STEPS)
    with pytest.raises(ValueError, match="received 1 axes"):
        output_spec(Reverse(), STEPS[0, 0])
