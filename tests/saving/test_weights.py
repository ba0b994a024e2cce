"""Weights alone: as safetensors and as `.npz`, all of them, those that fit, layer by layer."""

import io
import struct
import tracemalloc
import warnings
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import fnn
from fnn.layers import BatchNormalization, Dense
from fnn.saving import tensors
from fnn.saving.tensors import FileError
from tests.helpers.hostile import harmless
from tests.helpers.oracle import keras_rules

X = np.linspace(-1, 1, 32, dtype="float32").reshape(8, 4)


def made(*units, seed=0, norm=True):
    layers = [Dense(n, name=f"layer_{i}") for i, n in enumerate(units)]
    if norm:
        layers.insert(1, BatchNormalization())
    return fnn.Sequential([fnn.Input((4,)), *layers], seed=seed)


def same_weights(first, second):
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz", "a.NPZ", "a", "a.fnn"])
def test_weights_come_back(name, tmp_path):
    model, other = made(3, 2), made(3, 2, seed=1)
    model.save_weights(tmp_path / name)
    assert other.load_weights(tmp_path / name) is None
    same_weights(model, other)
    with pytest.raises(FileExistsError):
        model.save_weights(tmp_path / name, overwrite=False)


def test_numpy_reads_what_it_is_written_and_the_other_way_round(tmp_path):
    model, other = made(3, 2), made(3, 2, seed=1)
    path = tmp_path / "a.npz"
    model.save_weights(path)
    with np.load(path, allow_pickle=False) as found:
        arrays = dict(found)
    assert list(arrays)[:2] == ["params/layer_0/kernel", "params/layer_0/bias"]
    np.testing.assert_array_equal(arrays["params/layer_0/kernel"], model.get_weights()[0])
    arrays["params/layer_0/kernel"] = np.asfortranarray(arrays["params/layer_0/kernel"])
    arrays["params/layer_1/kernel"] = arrays["params/layer_1/kernel"].astype(">f4")
    np.savez_compressed(path, **arrays)
    other.load_weights(path)
    same_weights(model, other)


class Small(fnn.Layer):
    """With weights of dtypes that NumPy does not have."""

    def init(self, key, x):
        return {"half": jnp.ones(3, "bfloat16"), "tiny": jnp.arange(-2, 2, dtype="int4")}, {}

    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        return x * params["half"].sum().astype(x.dtype), state


def test_npz_says_which_dtypes_it_does_not_know(tmp_path):
    model = fnn.Sequential([Small(input_shape=(2,))])
    with pytest.raises(ValueError, match=r'received bfloat16 at params.*"weights.safetensors"'):
        model.save_weights(tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())
    model.save_weights(tmp_path / "a.safetensors")
    assert str(load_file(tmp_path / "a.safetensors")["params/small/half"].dtype) == "bfloat16"
    other = fnn.Sequential([Small(input_shape=(2,))])
    other.params = {"small": {name: 0 * w for name, w in model.params["small"].items()}}
    other.load_weights(tmp_path / "a.safetensors")
    same_weights(model, other)
    assert [str(w.dtype) for w in other.get_weights()] == ["bfloat16", "int4"]


# -- what does not fit ---------------------------------------------------------------------------


@pytest.fixture(params=["safetensors", "npz", "fnn"])
def three(request, tmp_path):
    """A file of three layers, of which a model of others has some."""
    path = tmp_path / f"three.{request.param}"
    model = made(3, 5, 2)
    save = model.save if request.param == "fnn" else model.save_weights
    save(path)
    return path, model


def smaller():
    """Its first layer fits; the second one has another size, the third one no bias, a fourth."""
    layers = [Dense(3, name="layer_0"), BatchNormalization(), Dense(6, name="layer_1")]
    last = Dense(2, use_bias=False, name="layer_2")
    return fnn.Sequential([fnn.Input((4,)), *layers, last, Dense(1, name="layer_3")], seed=1)


DIFFERENCES = [
    "params/layer_1/bias: expected float32[6], found float32[5]",
    "params/layer_1/kernel: expected float32[3, 6], found float32[3, 5]",
    "params/layer_2/bias: not in the model",
    "params/layer_2/kernel: expected float32[6, 2], found float32[5, 2]",
    "params/layer_3/bias: missing in the file",
    "params/layer_3/kernel: missing in the file",
]


def test_one_error_lists_all_that_differs_and_nothing_changes(three):
    path, _ = three
    model = smaller()
    before = model.get_weights()
    with pytest.raises(FileError, match="received differences") as caught:
        model.load_weights(path)
    assert [line.strip() for line in str(caught.value).splitlines()[1:]] == DIFFERENCES
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_fits_is_loaded_if_asked(three):
    path, whole = three
    model = smaller()
    before = model.params["layer_1"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = model.load_weights(path, strict=False)
    assert sorted(report.lines()) == DIFFERENCES
    assert "state/batch_normalization/moving_mean" in report.loaded
    for name in ("layer_0", "batch_normalization"):
        jax.tree.map(np.testing.assert_array_equal, model.params[name], whole.params[name])
    jax.tree.map(np.testing.assert_array_equal, model.params["layer_1"], before)


def partial():
    """Of its second layer the bias would fit."""
    layers = [fnn.Input((7,)), Dense(3, name="layer_0"), BatchNormalization(), Dense(4)]
    return fnn.Sequential(layers, seed=1)


@pytest.mark.slow
def test_layers_that_do_not_fit_are_skipped_as_by_keras(three, tmp_path):
    path, whole = three
    model = partial()
    before = model.get_weights()
    with pytest.warns(UserWarning, match=r"(?s)keep theirs.*layer_0/kernel: expected") as said:
        report = model.load_weights(path, skip_mismatch=True)
    assert len(said) == 1
    assert "params/layer_0/bias" not in report.loaded  # it fits, its kernel does not
    with keras_rules(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the weights that Keras skips
        import keras

        def of_keras(size, *units):
            layers = [keras.layers.Dense(n) for n in units]
            layers.insert(1, keras.layers.BatchNormalization())
            return keras.Sequential([keras.layers.Input((size,)), *layers])

        theirs, loaded = of_keras(4, 3, 5, 2), of_keras(7, 3, 4)
        theirs.set_weights(whole.get_weights())
        kept = loaded.get_weights()
        theirs.save_weights(tmp_path / "theirs.weights.h5")
        loaded.load_weights(tmp_path / "theirs.weights.h5", skip_mismatch=True)
        found = loaded.get_weights()
    changed = [not np.array_equal(a, b) for a, b in zip(found, kept, strict=True)]
    ours = [not np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True)]
    assert changed[:2] == ours[:2] == [False, False]
    jax.tree.map(
        np.testing.assert_array_equal,
        model.params["batch_normalization"],
        whole.params["batch_normalization"],
    )


# -- npz that is damaged or made to harm ---------------------------------------------------------


def zipped(members, **options):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in members:
            archive.writestr(name, data, **options)
    return out.getvalue()


def npy(array, **options):
    out = io.BytesIO()
    np.lib.format.write_array(out, array, **options)
    return out.getvalue()


def headed(text, data=b""):
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data


def link(data):
    info = zipfile.ZipInfo("params/layer_0/kernel.npy")
    info.external_attr = 0o120777 << 16
    return zipped([(info, data)])


KERNEL = "params/layer_0/kernel.npy"
PLAIN = npy(np.ones(3, "float32"))
WHOLE = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }"
NPZ = {
    "objects": (zipped([(KERNEL, npy(np.array([{}], object), allow_pickle=True))]), "not numbers"),
    "records": (zipped([(KERNEL, npy(np.zeros(2, "i4,f4")))]), "not numbers"),
    "a huge shape": (zipped([(KERNEL, headed(WHOLE.encode() % b"2**40,"))]), "damaged"),
    "another huge shape": (
        zipped([(KERNEL, headed(WHOLE.encode() % b"1099511627776,"))]), "its shape needs"
    ),
    "negative": (zipped([(KERNEL, headed(WHOLE.encode() % b"-1, -3,", bytes(12)))]), "sizes"),
    "many axes": (zipped([(KERNEL, headed(WHOLE.encode() % (b"1," * 40), bytes(4)))]), "sizes"),
    "code": (zipped([(KERNEL, headed(b"__import__('os').system('true')"))]), "damaged"),
    "nested": (zipped([(KERNEL, headed(b"(" * 9000))]), "damaged"),
    "a long header": (zipped([(KERNEL, headed(b" " * 60_000))]), "damaged"),
    "cut": (zipped([(KERNEL, PLAIN[:-4])]), "its shape needs"),
    "no array": (zipped([(KERNEL, b"hello")]), "damaged"),
    "a pickle": (zipped([(KERNEL, b"cos\nsystem\n(S'true'\ntR.")]), "damaged"),
    "a name twice": (zipped([(KERNEL, PLAIN), (KERNEL, PLAIN)]), "occurs twice"),
    "upwards": (zipped([("../a.npy", PLAIN)]), "not a plain path"),
    "absolute": (zipped([("/etc/a.npy", PLAIN)]), "not a plain path"),
    "a drive": (zipped([("C:a.npy", PLAIN)]), "not a plain path"),
    "a link": (link(b"/etc/passwd"), "is a link"),
    "a bomb": (
        zipped([(KERNEL, npy(np.zeros(20_000_000, "u1")))], compress_type=zipfile.ZIP_DEFLATED),
        r"expected float32\[4, 3\], found uint8",
    ),
    "another way": (zipped([(KERNEL, PLAIN)], compress_type=zipfile.ZIP_LZMA), "unknown way"),
}  # fmt: skip


@pytest.mark.parametrize("case", NPZ)
def test_arrays_that_are_refused(case, tmp_path):
    data, match = NPZ[case]
    path, model = tmp_path / "a.npz", made(3)
    path.write_bytes(data)
    before = model.get_weights()
    with harmless(), pytest.raises(FileError, match=match):
        model.load_weights(path)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_flipped_byte_of_an_npz_is_noticed(tmp_path):
    model, other = made(3, norm=False), made(3, norm=False, seed=1)
    path = tmp_path / "a.npz"
    model.save_weights(path)
    data, before = path.read_bytes(), other.get_weights()
    for at in range(0, len(data), 5):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        try:
            other.load_weights(path)
        except FileError:
            for a, b in zip(other.get_weights(), before, strict=True):
                np.testing.assert_array_equal(a, b)
        else:
            same_weights(model, other)  # the bit says nothing of the weights
            other.set_weights(before)


# -- memory --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("how", ["save", "save_weights", "npz"])
def test_saving_copies_one_array_at_a_time(how, tmp_path):
    """Sharded arrays are put together for the file, one after the other."""
    model = fnn.Sequential([Dense(768, input_shape=(768,)) for _ in range(6)], seed=0)
    mesh = jax.make_mesh((8,), ("d",))
    sharding = jax.NamedSharding(mesh, jax.P("d"))
    place = lambda array: jax.device_put(array, sharding) if array.ndim > 1 else array
    model.params = jax.tree.map(place, model.params)
    path = tmp_path / ("a.npz" if how == "npz" else "a.fnn")
    save = model.save if how == "save" else model.save_weights
    tracemalloc.start()
    save(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    array = 4 * 768**2
    assert path.stat().st_size > 6 * array
    assert peak < 3.25 * array


def test_an_array_keeps_no_copy_on_the_host():
    array = jnp.ones((8, 3))
    assert tensors.on_host(array).tobytes() == np.ones((8, 3), "float32").tobytes()
    assert getattr(array, "_npy_value", None) is None


def test_a_model_without_weights_takes_none(tmp_path):
    path = tmp_path / "a.safetensors"
    fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))]).save_weights(path)
    with pytest.raises(ValueError, match="has no weights yet") as error:
        fnn.Sequential([fnn.layers.Dense(1)]).load_weights(path)
    assert "damaged" not in str(error.value)


@pytest.mark.parametrize("name", ["m.safetensors", "m.npz", "m.onnx", "m.PT"])
def test_a_model_is_not_written_under_the_name_of_something_else(name, tmp_path):
    model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))])
    with pytest.raises(ValueError, match=r"name it \.fnn"):
        model.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["w.pt", "w.BIN", "w.npy", "w.onnx"])
def test_weights_are_not_written_under_the_name_of_something_else(name, tmp_path):
    model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))])
    with pytest.raises(ValueError, match=r"name it \.safetensors, \.npz or \.weights\.h5"):
        model.save_weights(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a:b", "..", "a\\b"])
def test_names_that_no_zip_may_have_are_refused_before_writing(name, tmp_path):
    model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,), name=name)])
    with pytest.raises(ValueError, match="rename the layer, or save the weights as"):
        model.save_weights(tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())
    model.save_weights(tmp_path / "a.safetensors")
    model.load_weights(tmp_path / "a.safetensors")
