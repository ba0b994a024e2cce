"""Spectrograms: the numbers of Keras, run live."""

import jax
import keras
import numpy as np
import pytest

import fnn
from fnn import layers as L
from tests.helpers.keras_images import at_once, twin
from tests.helpers.oracle import keras_rules

SIGNALS = np.random.default_rng(0).normal(size=(3, 400)).astype("float32")
SMALL = {"fft_length": 64, "sequence_stride": 16, "num_mel_bins": 12}
MEL = [
    L.MelSpectrogram(**SMALL),
    L.MelSpectrogram(**SMALL, power_to_db=False),
    L.MelSpectrogram(**SMALL, window="hamming", mag_exp=1.0),
    L.MelSpectrogram(64, 16, 50, num_mel_bins=7, min_freq=0.0, max_freq=3000),
    L.MelSpectrogram(**SMALL, top_db=5.0, ref_power=2.0, min_power=1e-3),
    L.MelSpectrogram(**SMALL, window=None, sampling_rate=8000),
]


@pytest.mark.slow
@pytest.mark.parametrize("layer", MEL, ids=repr)
def test_mel_spectrograms_equal_keras(layer):
    inputs = [SIGNALS]
    if layer == MEL[0]:
        inputs += [SIGNALS[0], (100 * SIGNALS).astype("int32")]
    for x in inputs:
        with keras_rules():
            theirs = at_once(twin(layer), x)
        ours = layer(x)
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


def test_silence_has_a_finite_gradient():
    layer = L.MelSpectrogram(**SMALL)
    slope = jax.jit(jax.grad(lambda x: layer.apply({}, {}, x)[0].sum()))
    assert np.isfinite(slope(np.zeros((1, 128), "float32"))).all()


def test_examples_that_pad_a_batch_are_not_the_loudest():
    layer = L.MelSpectrogram(**SMALL, top_db=3.0)
    loud = SIGNALS * np.array([[1], [1], [100]], "float32")
    ctx = fnn.Context(rows=np.asarray([True, True, False]))
    padded = jax.jit(lambda x: layer.apply({}, {}, x, ctx)[0])(loud)
    np.testing.assert_allclose(padded[:2], layer(SIGNALS[:2]), rtol=1e-5)


SOUNDS = np.random.default_rng(1).normal(size=(3, 60, 2)).astype("float32")
OPTIONS = [
    {},
    {"expand_dims": True, "scaling": "spectrum"},
    {"data_format": "channels_first"},
    {"data_format": "channels_first", "expand_dims": True},
    {"padding": "same", "frame_step": 3, "fft_length": 32, "periodic": True, "scaling": None},
]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["log", "magnitude", "psd", "real", "imag", "angle", "stft"])
def test_fourier_transforms_equal_keras(mode):
    for number, options in enumerate(OPTIONS):
        if number and mode in ("log", "imag", "real"):
            continue
        layer = L.STFTSpectrogram(mode, frame_length=16, window="hamming", **options)
        x = SOUNDS
        if layer.data_format == "channels_first":
            x = x.transpose(0, 2, 1)
        with keras_rules():
            theirs = keras.layers.STFTSpectrogram(mode, 16, window="hamming", **options)
            expected = np.asarray(theirs(x))
        received = np.asarray(layer(x))
        names = [weight.path.split("/")[-1] for weight in theirs.weights]
        assert [weight.path.split("/")[-1] for weight in layer.weights] == names
        if mode == "angle":  # pi and -pi are one angle
            assert received.shape == expected.shape
            received, expected = np.cos(received), np.cos(expected)
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)


BAD = [
    (lambda: L.MelSpectrogram(64, sequence_length=65), "to be at most fft_length=64"),
    (lambda: L.MelSpectrogram(0), "fft_length to be an integer above 0"),
    (lambda: L.STFTSpectrogram("power"), "mode to be one of 'log'"),
    (lambda: L.STFTSpectrogram(frame_length=8, frame_step=9), "from 1 to frame_length=8"),
    (lambda: L.STFTSpectrogram(frame_length=8, fft_length=4), "at least frame_length=8"),
    (lambda: L.STFTSpectrogram(window="round"), "to be a window of scipy.signal.windows"),
    (lambda: L.STFTSpectrogram(scaling="mean"), "scaling to be one of 'density'"),
    (lambda: L.STFTSpectrogram()(SIGNALS), r"of 3 axes \(batch, time, channels\)"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_other_lengths_than_powers_of_2_are_a_warning():
    with pytest.warns(UserWarning, match="fft_length=12 is no power of 2"):
        L.STFTSpectrogram(frame_length=8, fft_length=12)


def test_integers_are_refused():
    layer = L.STFTSpectrogram(frame_length=8)
    with pytest.raises(TypeError, match="expected inputs of floats, received int32"):
        layer(np.ones((1, 20, 1), "int32"))
