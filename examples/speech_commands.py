"""Spoken digits: a spectrogram and convolutions name one, and CTC reads a sequence of them.

The speech is synthesized here: each digit glides from one vowel to another, spoken by voices of
different pitch, melody, size and speed, in noise. Nothing is downloaded. Of a sequence the labels
are known, not where they are: that is what the CTC loss is for. The spectrogram is a layer of the
network, computed on the device in the compiled step.

The baseline is logistic regression on the mean spectrum. For a sequence it is told how many digits
there are, and cuts the sound into as many equal parts; the network has to find both by itself.

In full (about a minute of one core): 0.980 of single digits are named by the network, 0.510 by the
mean spectrum, which does not know which vowel was first. 0.952 of the sequences are read without
any error, 0.130 from equal parts; 0.1 of the digits would be right by chance.
"""

import numpy as np

import fnn
from examples import common
from fnn.layers import (
    BatchNormalization,
    Conv1D,
    Dense,
    Dropout,
    GlobalAveragePooling1D,
    MelSpectrogram,
    Permute,
    Rescaling,
)

RATE, SLOT, MOST = (
    5000,
    1800,
    4,
)  # samples a second, samples for a digit, digits in a sequence
VOWELS = {
    "i": (280, 2200),
    "e": (450, 1900),
    "a": (750, 1250),
    "o": (480, 850),
}  # formants, Hz
DIGITS = (
    "ia",
    "ai",
    "ea",
    "ae",
    "oa",
    "ao",
    "io",
    "oi",
    "eo",
    "oe",
)  # from vowel to vowel


def speak(rng, digit):
    """One digit by a new voice: harmonics of a pitch, louder near two gliding resonances."""
    time = np.linspace(0, 1, rng.integers(900, 1500))
    start, end = (
        np.array(VOWELS[vowel]) * rng.uniform(0.9, 1.1) for vowel in DIGITS[digit]
    )
    formants = start + (end - start) / (
        1 + np.exp(-12 * (time[:, None] - 0.5))
    )  # (time, 2)
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
    options = {
        "sampling_rate": RATE,
        "num_mel_bins": 40,
        "min_freq": 100,
        "max_freq": RATE / 2,
    }
    return MelSpectrogram(
        fft_length=256, sequence_length=256, sequence_stride=100, **options
    )


def build(length, *last):
    """From waves to features every 40 ms, and then the last layers."""
    layers = [
        fnn.Input((length,)),
        spectrogram(),
        Permute((2, 1)),  # (batch, frames, mel bins)
        Rescaling(1 / 20),
        Conv1D(64, 5, activation="relu", padding="same"),
        BatchNormalization(),
        Conv1D(64, 5, strides=2, activation="relu", padding="same"),
        BatchNormalization(),
        Conv1D(64, 5, activation="relu", padding="same"),
        Dropout(0.2),
    ]
    return fnn.Sequential([*layers, *last], seed=0)


def name_digits(data, tested, epochs, verbose):
    """The accuracy of a network on single digits."""
    model = build(SLOT, GlobalAveragePooling1D(), Dense(len(DIGITS) + 1, "softmax"))
    model.compile(
        fnn.optimizers.Adam(2e-3),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(*data, epochs=epochs, verbose=verbose)
    return model.evaluate(*tested, verbose=0)[1]


def read_digits(data, tested, epochs, verbose):
    """What a network trained with CTC reads in each sequence, and its probabilities in time."""
    model = build(MOST * SLOT, Dense(len(DIGITS) + 1))
    model.compile(fnn.optimizers.Adam(2e-3), fnn.losses.CTC())
    model.fit(*data, epochs=epochs, verbose=verbose)
    logits = model.predict(tested[0], verbose=0)  # (batch, frames, 1 + digits)
    labels, _ = fnn.ops.ctc_decode(logits, np.full(len(logits), logits.shape[1]))
    return np.asarray(labels[0]), np.asarray(fnn.activations.softmax(logits))


def linear(data):
    """Logistic regression on the mean spectrum. Returns a function from waves to digits."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    mean = lambda waves: np.asarray(spectrogram()(waves)).mean(axis=-1)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    model.fit(mean(data[0]), data[1][:, 0])
    return lambda waves: model.predict(mean(waves))


def cut_and_name(name, waves, labels):
    """The digits of sequences whose number of digits is known, each in an equal part."""
    found = np.zeros_like(labels)
    for number in range(1, MOST + 1):
        chosen = (labels > 0).sum(axis=1) == number
        for place, part in enumerate(np.array_split(waves[chosen], number, axis=1)):
            middle = (
                part.shape[1] - SLOT
            ) // 2  # of every part as much as of a single digit
            found[chosen, place] = (
                name(part[:, middle : middle + SLOT]) if chosen.any() else 0
            )
    return found


def draw(path, wave, label, probabilities):
    """A sequence as a spectrogram; below, where the network hears which digit."""
    figure = common.new_figure(11, 5.5)
    above, below = figure.subplots(2, 1, sharex=True)
    seconds = len(wave) / RATE
    heard = np.asarray(spectrogram()(wave[None]))[0]
    above.imshow(
        heard, origin="lower", aspect="auto", extent=(0, seconds, 0, len(heard))
    )
    above.set(
        ylabel="mel bin", title="spoken: " + " ".join(DIGITS[i - 1] for i in label if i)
    )
    time = np.linspace(0, seconds, len(probabilities))
    below.plot(time, probabilities[:, 0], color="0.8", label="blank")
    for digit in sorted(set(label[label > 0])):
        below.plot(time, probabilities[:, digit], label=DIGITS[digit - 1])
    below.set(xlabel="seconds", ylabel="probability")
    below.legend(ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    common.write(figure, path)


def main(epochs=12, out="speech_commands.png", examples=2000, verbose="auto"):
    """Returns the accuracies on single digits and on whole sequences: (ours, baseline) each."""
    one, one_test = sounds(examples, 1, seed=0), sounds(examples // 4, 1, seed=1)
    many = sounds(examples, MOST, seed=2)
    waves, labels = sounds(examples // 4, MOST, seed=3)
    name = linear(one)
    digits = (
        name_digits(one, one_test, epochs, verbose),
        (name(one_test[0]) == one_test[1][:, 0]).mean(),
    )
    print(
        f"single digits named: network {digits[0]:.3f}, mean spectrum {digits[1]:.3f}"
    )
    read, probabilities = read_digits(many, (waves, labels), epochs, verbose)
    wanted = np.pad(labels, ((0, 0), (0, read.shape[1] - MOST)))
    whole = lambda found, right: float((found == right).all(axis=1).mean())
    ours = whole(np.maximum(read, 0), wanted)
    sequences = ours, whole(cut_and_name(name, waves, labels), labels)
    print(
        f"sequences without any error: network {sequences[0]:.3f}, cut {sequences[1]:.3f}"
    )
    longest = int((labels > 0).sum(axis=1).argmax())
    draw(out, waves[longest], labels[longest], probabilities[longest])
    return digits, sequences


if __name__ == "__main__":
    common.run(main)
