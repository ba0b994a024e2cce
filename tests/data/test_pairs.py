"""Sources together with what else a program uses: augmentation, frames, checkpoints, callbacks."""

import numpy as np
import pytest

import fnn
from fnn import layers
from fnn.data import bucket, csv, image_folder, split, windows
from fnn.utils import save_img

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Dark and bright images: what a network must tell apart."""
    folder = tmp_path_factory.mktemp("images")
    for name, level in (("bright", 200), ("dark", 50)):
        (folder / name).mkdir()
        for number in range(12):
            pixels = level + RNG.integers(-40, 40, (6, 8, 3))
            save_img(folder / name / f"{number}.png", pixels, scale=False)
    return folder


def augmented():
    return fnn.Sequential(
        [
            fnn.Input((6, 6, 3)),
            layers.RandomFlip("horizontal"),
            layers.RandomTranslation(0.1, 0.1),
            layers.Rescaling(1 / 127.5, -1.0),
            layers.GlobalAveragePooling2D(),
            layers.Dense(1, "sigmoid"),
        ],
        seed=0,
    )


@pytest.mark.slow
def test_an_image_folder_with_augmentation(images):
    stream = image_folder(images, (6, 6), label_mode="binary", batch_size=8, seed=0)
    model = augmented()
    model.compile(fnn.optimizers.Adam(0.1), "binary_crossentropy", metrics=["accuracy"])
    history = model.fit(
        stream, epochs=8, validation_split=split(0.25, stratify=True), verbose=0
    ).history
    assert history["val_accuracy"][-1] == 1.0
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    # In inference nothing is drawn: batches of any order give the same.
    first, again = (model.evaluate(stream, verbose=0) for _ in range(2))
    np.testing.assert_allclose(first, again, rtol=1e-6)


def test_augmentation_draws_anew_for_images_of_a_folder(images):
    stream = image_folder(images, (6, 6), label_mode=None, batch_size=24, shuffle=False)
    (x,) = stream
    flip = layers.RandomFlip("horizontal", seed=0)
    found = np.asarray(flip(x, training=True))
    flipped = np.array([np.array_equal(a, b[:, ::-1]) for a, b in zip(found, x, strict=True)])
    kept = np.array([np.array_equal(a, b) for a, b in zip(found, x, strict=True)])
    assert (flipped | kept).all()
    assert 0 < flipped.sum() < 24


@pytest.mark.slow
def test_a_table_trains_as_its_columns_do(tmp_path):
    lines = [f"{a:.3f},{b:.3f},{a - 2 * b:.3f}" for a, b in RNG.normal(size=(40, 2))]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *lines]))
    table = csv(tmp_path / "t.csv", "y", as_dict=False, batch_size=8)
    x, y = table.read()
    weights = []
    for data in ((table,), (x, y)):
        model = fnn.Sequential([fnn.Input((2,)), layers.Dense(1)], seed=0)
        model.compile(fnn.optimizers.SGD(0.1), "mse")
        model.fit(*data, batch_size=8, epochs=5, shuffle=False, verbose=0)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_allclose(*weights, rtol=1e-5)
    np.testing.assert_allclose(weights[0], [1, -2, 0], atol=0.2)


@pytest.mark.slow
def test_windows_train_as_their_arrays_do():
    series = np.sin(np.arange(80) / 5).astype("float32")
    stream = windows(series, length=6, horizon=1, batch_size=10)
    x, y = (np.concatenate(part) for part in zip(*stream, strict=True))
    histories = []
    for data in ((stream,), (x, y)):
        model = fnn.Sequential([fnn.Input((6,)), layers.Dense(1)], seed=0)
        model.compile("sgd", "mse")
        history = model.fit(
            *data, batch_size=10, epochs=2, shuffle=False, validation_split=0.25, verbose=0
        )
        histories.append([history.history[name] for name in ("loss", "val_loss")])
    np.testing.assert_allclose(*histories, rtol=1e-4)


@pytest.mark.slow
def test_buckets_with_recurrence_class_weights_of_their_own_and_callbacks():
    words = [RNG.integers(1, 9, n).tolist() for n in RNG.integers(1, 8, 30)]
    ends = [sequence[-1] % 2 for sequence in words]
    weights = np.where(np.array(ends), 2.0, 1.0)
    model = fnn.Sequential(
        [
            fnn.Input((None,), dtype="int32"),
            layers.Embedding(10, 8, mask_zero=True),
            layers.GRU(8),
            layers.Dense(1, "sigmoid"),
        ],
        seed=0,
    )
    model.compile(fnn.optimizers.Adam(0.1), "binary_crossentropy", weighted_metrics=["accuracy"])
    batches = bucket(words, ends, weights, lengths=2, batch_size=10, seed=0)
    seen = []
    watch = fnn.callbacks.LambdaCallback(on_train_batch_end=lambda n, logs: seen.append(n))
    history = model.fit(batches, epochs=15, callbacks=[watch], verbose=0).history
    assert seen == [0, 1, 2] * 15
    assert history["loss"][-1] < 0.3 * history["loss"][0]
    whole = fnn.utils.pad_sequences(words, padding="post")
    expected = model.evaluate(whole, np.array(ends), sample_weight=weights, verbose=0)
    np.testing.assert_allclose(model.evaluate(batches, verbose=0), expected, rtol=1e-5)
