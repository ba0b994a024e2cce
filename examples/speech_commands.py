"""Spoken digits: a spectrogram and convolutions name each of them.

The speech is synthesized here: each digit glides from one vowel to another, spoken by voices of
different pitch, melody, size and speed, in noise. Nothing is downloaded. The spectrogram is a layer
of the network, computed on the device in the compiled step. `examples.digit_sequences` goes on to
several digits in one sound.

The baseline is logistic regression on the mean spectrum, which does not know which vowel was first.

In full (about 20 s of one core): 0.980 of the digits are named by the network, 0.510 by the mean
spectrum; 0.1 would be right by chance.
"""

import numpy as np

import fnn
from examples import common
from fnn import layers

RATE, SLOT = 5000, 1800  # samples a second, samples for a digit
# Two resonances of each vowel in Hz; a digit goes from one vowel to another.
VOWELS = {"i": (280, 2200), "e": (450, 1900), "a": (750, 1250), "o": (480, 850)}
DIGITS = ("ia", "ai", "ea", "ae", "oa", "ao", "io", "oi", "eo", "oe")


def speak(rng, digit):
    """One digit by a new voice: harmonics of a pitch, louder near two gliding resonances."""
    time = np.linspace(0, 1, rng.integers(900, 1500))
    scaled = lambda vowel: np.array(VOWELS[vowel]) * rng.uniform(0.9, 1.1)
    start, end = map(scaled, DIGITS[digit])
    glide = 1 / (1 + np.exp(-12 * (time[:, None] - 0.5)))
    formants = start + (end - start) * glide  # (time, 2)
    pitch = rng.uniform(90, 200) * (1 + rng.uniform(-0.15, 0.15) * time)
    hertz = np.arange(1, 28) * pitch[:, None]  # (time, harmonics)
    gain = sum(np.exp(-(((hertz - f) / 120) ** 2)) for f in formants.T[..., None])
    gain[hertz > RATE / 2] = 0
    wave = (gain * np.sin(2 * np.pi * np.cumsum(hertz, axis=0) / RATE)).sum(axis=1)
    return wave * np.sin(np.pi * time) ** 0.5 * rng.uniform(0.3, 1)


def sounds(count, most, seed):
    """Waves (count, most * SLOT), and 1 to `most` digits of each: from 1 on, padded with 0."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(0, 0.3, (count, most * SLOT))
    labels = np.zeros((count, most), "int32")
    for wave, label in zip(waves, labels, strict=True):
        number = rng.integers(1, most + 1)
        for place, slot in enumerate(np.array_split(wave, number)):
            label[place] = rng.integers(len(DIGITS)) + 1
            spoken = speak(rng, label[place] - 1)
            start = rng.integers(len(slot) - len(spoken) + 1)
            slot[start : start + len(spoken)] += spoken
    return waves.astype("float32"), labels


def spectrogram():
    """Decibels (batch, mel bins, frames), a frame every 20 ms."""
    frames = {"fft_length": 256, "sequence_length": 256, "sequence_stride": 100}
    bins = {"num_mel_bins": 40, "min_freq": 100, "max_freq": RATE / 2}
    return layers.MelSpectrogram(sampling_rate=RATE, **frames, **bins)


def build(length, *last):
    """From waves to features every 40 ms, and then the last layers."""
    options = {"activation": "relu", "padding": "same"}
    network = [
        fnn.Input((length,)),
        spectrogram(),
        layers.Permute((2, 1)),  # (batch, frames, mel bins)
        layers.Rescaling(1 / 20),
        layers.Conv1D(64, 5, **options),
        layers.BatchNormalization(),
        layers.Conv1D(64, 5, strides=2, **options),
        layers.BatchNormalization(),
        layers.Conv1D(64, 5, **options),
        layers.Dropout(0.2),
    ]
    return fnn.Sequential([*network, *last], seed=0)


def linear(waves, labels):
    """Logistic regression on the mean spectrum. Returns a function from waves to digits."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    mean = lambda waves: np.asarray(spectrogram()(waves)).mean(axis=-1)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    model.fit(mean(waves), labels[:, 0])
    return lambda waves: model.predict(mean(waves))


def main(epochs=12, out="speech_commands.png", examples=2000, verbose="auto"):
    """Returns the accuracies on other sounds: network, then baseline."""
    data = sounds(examples, 1, seed=0)
    waves, labels = sounds(examples // 4, 1, seed=1)
    last = layers.GlobalAveragePooling1D(), layers.Dense(len(DIGITS) + 1, "softmax")
    model = build(SLOT, *last)
    model.compile(fnn.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    model.fit(*data, epochs=epochs, verbose=verbose)
    named = model.predict(waves, verbose=0).argmax(axis=1)
    ours = float((named == labels[:, 0]).mean())
    baseline = float((linear(*data)(waves) == labels[:, 0]).mean())
    print(f"digits named: network {ours:.3f}, mean spectrum {baseline:.3f}")
    figure = common.new_figure(11, 5)
    left, right = figure.subfigures(1, 2)
    axes = left.subplots(4, 1)
    heard = spectrogram()(waves[:4])  # decibels (4, mel bins, frames)
    for ax, decibels, label in zip(axes, heard, labels[:4, 0], strict=True):
        ax.imshow(decibels, origin="lower", aspect="auto")
        ax.set(ylabel=DIGITS[label - 1], xticks=[], yticks=[])
    classes = labels[:, 0] - 1, named - 1
    fnn.visualization.plot_confusion_matrix(*classes, DIGITS, figure=right)
    common.write(figure, out)
    return ours, baseline


if __name__ == "__main__":
    common.run(main)
