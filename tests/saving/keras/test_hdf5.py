"""HDF5 files read in Python: as h5py reads them, and hostile ones refused before they do harm."""

import io
import random
import time

import h5py
import ml_dtypes
import numpy as np
import pytest

import fnn
from fnn.layers import Dense
from fnn.saving.keras import hdf5
from fnn.saving.tensors import FileError
from tests.helpers.hostile import harmless

DTYPES = ["float16", "float32", ">f4", "float64", "int8", "uint8", "int32", ">i8", "uint64", "bool"]


def read(data):
    return hdf5.read(io.BytesIO(data), len(data))


def written(write, **options):
    target = io.BytesIO()
    with h5py.File(target, "w", **options) as file:
        write(file)
    return target.getvalue()


def plain(value):
    if isinstance(value, np.ndarray):
        return [item.decode() if isinstance(item, bytes) else item for item in value.tolist()]
    return value.decode() if isinstance(value, bytes) else value


def assert_same(ours, theirs):
    """Names, attributes, dtypes and every byte, as h5py has them."""
    assert ours.attributes == {name: plain(value) for name, value in theirs.attrs.items()}
    if isinstance(ours, hdf5.Dataset):
        expected, values = theirs[()], ours.read()
        assert (values.dtype, values.shape) == (expected.dtype, expected.shape)
        assert values.tobytes() == np.ascontiguousarray(expected).tobytes()
        return
    assert set(ours.items) == set(theirs)
    for name, item in ours.items.items():
        assert_same(item, theirs[name])


def many_kinds(file):
    for dtype in DTYPES:
        file.create_dataset(f"plain/{dtype}", data=np.arange(6).reshape(2, 3).astype(dtype))
    file.create_dataset("scalar", data=np.float32(2.5))
    file.create_dataset("none", data=np.zeros((0, 3), "float32"))
    file.create_dataset("brain", data=np.ones(3, ml_dtypes.bfloat16))
    large = np.arange(1000.0).reshape(10, 100)
    file.create_dataset("chunks", data=large, chunks=(3, 7))
    file.create_dataset("packed", data=large, chunks=(5, 10), compression="gzip", shuffle=True)
    file.create_dataset("summed", data=large, chunks=(10, 9), compression="gzip", fletcher32=True)
    for number in range(40):
        file.create_group(f"groups/{number}/inside")
    file["groups"].attrs["text"] = "é" * 70_000
    file["groups"].attrs["bytes"] = b"abc"
    file["groups"].attrs["fixed"] = np.array([b"a", b"bcd"])
    file["groups"].attrs["free"] = ["a", "", "bcd"]
    file["groups"].attrs["number"] = 3


def test_equals_h5py():
    data = written(many_kinds)
    with h5py.File(io.BytesIO(data)) as file:
        assert_same(read(data), file)


def test_newer_groups_of_few_links_equal_h5py():
    def write(file):
        file.create_dataset("a/b", data=np.arange(3))
        file["a"].attrs["name"] = "x"

    data = written(write, libver="latest")
    with h5py.File(io.BytesIO(data)) as file:
        assert_same(read(data), file)


def test_find_takes_a_path():
    root = read(written(many_kinds))
    assert root.find("plain/float32").shape == (2, 3)
    assert root.find("plain/nothing") is root.find("scalar/x") is None
    assert root.group("nowhere").items == {}


def soft_link(file):
    file["link"] = h5py.SoftLink("/a")


def external_link(file):
    file["link"] = h5py.ExternalLink("/etc/passwd", "/")


def hard_link_above(file):
    file["a/again"] = file["/"]


def hard_link_twice(file):
    file["b"] = file["a"]


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "data", (4,))
    file.create_virtual_dataset("virtual", layout)


def external_data(file):
    file.create_dataset("x", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def other_filter(file):
    file.create_dataset("x", data=np.zeros(1000), compression="lzf")


def objects(file):
    file.create_dataset("x", data=["a", "b"])


def references(file):
    file.create_dataset("x", data=file["a"].ref, dtype=h5py.ref_dtype)


def sequences(file):
    data = file.create_dataset("x", (1,), h5py.vlen_dtype("f4"))
    data[0] = [1.0, 2.0]


def never_written(file):
    file.create_dataset("x", (10**6, 10**6), "f4")


def chunks_never_written(file):
    file.create_dataset("x", (10**6, 10**6), "f4", chunks=(10, 10))


def deep(file):
    file.create_group("/".join("a" * 200))


def dense_links(file):
    for number in range(50):
        file.create_group(f"g/{number}")


REFUSED = {
    soft_link: "soft link",
    external_link: "external link",
    hard_link_above: "two links",
    hard_link_twice: "two links",
    virtual: "virtual",
    external_data: "another file",
    other_filter: "filter",
    objects: "array of objects",
    references: "class 7",
    sequences: "sequences",
    never_written: "has",
    chunks_never_written: "0 chunks instead of",
    deep: "nested too deep",
}


@pytest.mark.parametrize("write", REFUSED, ids=lambda write: write.__name__)
def test_what_keras_does_not_write_is_refused(write):
    def whole(file):
        file.create_group("a")
        write(file)

    data = written(whole)
    with harmless(), pytest.raises(ValueError, match=REFUSED[write]):
        read(data)


@pytest.mark.parametrize("write", [soft_link, external_link, virtual, dense_links])
def test_what_keras_does_not_write_is_refused_in_newer_files(write):
    data = written(write, libver="latest")
    with harmless(), pytest.raises(ValueError, match=r"link|virtual|newer"):
        read(data)


def test_a_bomb_costs_no_memory_before_its_shape_is_known():
    """A model takes arrays of its own shapes only, and each chunk is bounded by its data."""

    def bomb(file):
        zeros = np.zeros((2**12, 2**10), "float32")
        file.create_dataset("x", data=zeros, chunks=zeros.shape, compression=1)

    data = written(bomb)
    assert len(data) < 2**17
    with harmless(megabytes=4):
        assert read(data).find("x").shape == (2**12, 2**10)


def test_more_elements_than_the_file_has_are_refused():
    data = bytearray(written(lambda file: file.create_dataset("x", data=np.zeros((3, 5), "f4"))))
    shape = np.array([3, 5], "<u8").tobytes()
    place = data.index(shape)
    data[place : place + 16] = np.array([2**31, 2**31], "<u8").tobytes()
    with harmless(), pytest.raises(ValueError, match="bytes"):
        read(bytes(data))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 50, 95, 400, -8])
def test_a_file_that_ends_early_is_refused(size):
    data = written(many_kinds)[:size]
    with harmless(), pytest.raises(ValueError, match=r"bytes|end|structure"):
        read(data)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of weights and of a whole model, as fnn writes them."""
    folder = tmp_path_factory.mktemp("files")
    model = fnn.Sequential([Dense(3, input_shape=(4,)), Dense(2)], seed=0)
    model.save_weights(folder / "a.weights.h5")
    model.save_weights(folder / "b.h5")
    return model, folder


def mutated(data, draw):
    """Bytes changed, or cut, or set to all ones or zeros."""
    data = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        kind, place = draw.random(), draw.randrange(len(data))
        if kind < 0.6:
            data[place] = draw.randrange(256)
        elif kind < 0.8:
            data[place] ^= 1 << draw.randrange(8)
        elif kind < 0.9:
            data = data[: max(place, 1)]
        else:
            size = draw.choice([2, 4, 8])
            data[place : place + size] = draw.choice([b"\xff", b"\0"]) * size
    return bytes(data)


def assert_mutants_load_equal_or_are_refused(files, name, seeds, tmp_path):
    model, folder = files
    data, path = (folder / name).read_bytes(), tmp_path / name
    expected = model.get_weights()
    loaded = 0
    for seed in seeds:
        path.write_bytes(mutated(data, random.Random(seed)))
        start = time.process_time()
        try:
            model.load_weights(path)
            loaded += 1
        except FileError:
            pass
        assert time.process_time() - start < 1
        for mine, array in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(mine, array)
    return loaded


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.weights.h5", "b.h5"])
def test_some_mutants_load_as_they_were_or_are_refused(files, name, tmp_path):
    loaded = assert_mutants_load_equal_or_are_refused(files, name, range(150), tmp_path)
    assert 0 < loaded < 150  # there are gaps in these files, whose bytes say nothing


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["a.weights.h5", "b.h5"])
def test_ten_thousand_mutants_load_as_they_were_or_are_refused(files, name, tmp_path):
    assert_mutants_load_equal_or_are_refused(files, name, range(10_000), tmp_path)
