"""Small files in the formats of the published datasets, as their first authors wrote them."""

import io
import json
import pickle
import pickletools

import numpy as np

RNG = np.random.default_rng(0)


def as_python_2(obj):
    """The pickle of an object as Python 2 wrote it, with plain strings for bytes."""
    data = bytearray(pickle.dumps(obj, protocol=3))
    names = {"SHORT_BINBYTES": b"U", "BINBYTES": b"T"}
    for code, _, place in pickletools.genops(bytes(data)):
        if code.name in names:
            data[place : place + 1] = names[code.name]
    data[1] = 2
    return bytes(data).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def lists(count, longest=9, words=70_000):
    """An array of lists of word numbers, the rarest beyond two bytes."""
    array = np.empty(count, object)
    for i in range(count):
        array[i] = RNG.integers(1, words, RNG.integers(2, longest)).tolist()
    return array


def npz(path, **arrays):
    """Writes arrays as the published .npz files hold them: objects as Python 2 did."""
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            file = io.BytesIO()
            np.lib.format.write_array(file, array, allow_pickle=True)
            data = file.getvalue()
            if array.dtype == object:
                header = data[: data.index(b"\n") + 1]
                data = header + as_python_2(array)
            archive.writestr(f"{name}.npy", data)


def write_imdb(folder, count=12):
    folder.mkdir(parents=True, exist_ok=True)
    labels = RNG.integers(0, 2, 2 * count)
    npz(
        folder / "imdb.npz",
        x_train=lists(count),
        y_train=labels[:count],
        x_test=lists(count),
        y_test=labels[count:],
    )
    (folder / "imdb_word_index.json").write_text(json.dumps({"the": 1, "film": 2}))


def write_reuters(folder, count=20):
    folder.mkdir(parents=True, exist_ok=True)
    npz(folder / "reuters.npz", x=lists(count), y=RNG.integers(0, 46, count))
    (folder / "reuters_word_index.json").write_text(json.dumps({"oil": 7}))


def write_housing(folder, name, features, count=30):
    folder.mkdir(parents=True, exist_ok=True)
    x = RNG.normal(size=(count, features))
    np.savez(folder / f"{name}.npz", x=x, y=x.sum(axis=1))


def _cifar_batch(path, count, **labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    batch = {
        b"batch_label": b"training batch",
        b"data": RNG.integers(0, 256, (count, 3072)).astype("uint8"),
        b"filenames": [b"a.png"] * count,
    }
    for name, most in labels.items():
        batch[name.encode()] = RNG.integers(0, most, count).tolist()
    path.write_bytes(as_python_2(batch))


def write_cifar10(folder, count=3):
    """As extracted: the folder holds `cifar-10-batches-py`."""
    inside = folder / "cifar-10-batches-py"
    for name in [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]:
        _cifar_batch(inside / name, count, labels=10)


def write_cifar100(folder, count=3):
    inside = folder / "cifar-100-python"
    for name in ("train", "test"):
        _cifar_batch(inside / name, count, fine_labels=100, coarse_labels=20)


def write_all(data):
    """All datasets in a folder that stands for `$FNN_DATA`."""
    write_imdb(data / "imdb")
    write_reuters(data / "reuters")
    write_housing(data / "boston_housing", "boston_housing", 13)
    write_housing(data / "california_housing", "california_housing", 8)
    write_cifar10(data / "cifar10")
    write_cifar100(data / "cifar100")
