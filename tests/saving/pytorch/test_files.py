"""Files of PyTorch: shards and indices, mapped; pickles and hostile indices are refused."""

import io
import json
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

import fnn
from fnn import layers as L
from fnn import networks
from fnn.saving import load_pytorch
from fnn.saving.pytorch.sources import opened
from fnn.saving.tensors import FileError
from tests.generate.modules import ROOT

DRAW = np.random.default_rng(0)
RULES = [("first", "dense"), ("second", "dense_1")]


def drawn(*shape):
    return DRAW.normal(size=shape).astype("float32")


TENSORS = {
    "first.weight": drawn(3, 4),
    "first.bias": drawn(3),
    "second.weight": drawn(2, 3),
    "second.bias": drawn(2),
}


def model():
    return fnn.Sequential([L.Input((4,)), L.Dense(3), L.Dense(2)])


def save(folder, tensors=TENSORS, shards=2, **listed):
    """The folder of a model in shards; `listed` replaces entries of the index."""
    names = list(tensors)
    files = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[number::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        files.update(dict.fromkeys(part, file))
    index = {"metadata": {"total_size": 1}, "weight_map": {**files, **listed}}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    return path


def check(made):
    for part, name in (("dense", "first"), ("dense_1", "second")):
        np.testing.assert_array_equal(made.params[part]["kernel"], TENSORS[f"{name}.weight"].T)
        np.testing.assert_array_equal(made.params[part]["bias"], TENSORS[f"{name}.bias"])


@pytest.mark.parametrize("given", ["folder", "index", "file", "folder of one file"])
def test_a_file_its_folder_or_an_index_of_shards(given, tmp_path):
    made = model()
    if given in ("folder", "index"):
        path = save(tmp_path)
    else:
        path = tmp_path / "model.safetensors"
        save_file(TENSORS, path)
    load_pytorch(made, tmp_path if "folder" in given else path, RULES)
    check(made)


def test_tensors_are_read_by_rows(tmp_path):
    tensors = {
        "matrix": drawn(5, 3),
        "scalar": np.float32(3),
        "empty": drawn(0, 4),
        "small": np.arange(7, dtype="uint8"),
    }
    save_file({k: np.asarray(v) for k, v in tensors.items()}, tmp_path / "model.safetensors")
    with opened(tmp_path) as sources:
        np.testing.assert_array_equal(sources["matrix"].read(slice(1, 4)), tensors["matrix"][1:4])
        np.testing.assert_array_equal(sources["scalar"].read(slice(0, 1)), 3)
        assert sources["empty"].read(slice(0, 0)).shape == (0, 4)
        np.testing.assert_array_equal(sources["small"].read(slice(2, 9)), [2, 3, 4, 5, 6])


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def pickled():
    return pickle.dumps({"first.weight": Evil()})


def zipped():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("archive/data.pkl", pickled())
    return data.getvalue()


@pytest.mark.parametrize("make", [pickled, zipped])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.safetensors"])
def test_pickles_are_refused_unread(make, name, tmp_path, capsys):
    path = tmp_path / name
    path.write_bytes(make())
    given = tmp_path if name == "pytorch_model.bin" else path
    with pytest.raises(FileError, match=r"holds a pickle.*safetensors\.torch\.save_model"):
        load_pytorch(model(), given, RULES)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "shard",
    ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "a\\b", 3, None],
)
def test_an_index_names_files_beside_it_alone(shard, tmp_path):
    path = save(tmp_path, **{"first.weight": shard})
    with pytest.raises(FileError, match="name of a file"):
        load_pytorch(model(), path, RULES)


HOSTILE = {
    "no JSON": "{",
    "no object": "[]",
    "no map": "{}",
    "a list": '{"weight_map": []}',
    "twice": '{"weight_map": {"a": "b", "a": "c"}}',
    "deep": '{"weight_map": ' + "[" * 100_000 + "]" * 100_000 + "}",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_damaged_index(text, tmp_path):
    path = save(tmp_path)
    path.write_text(text)
    with pytest.raises(FileError, match=r"index\.json"):
        load_pytorch(model(), path, RULES)


def test_an_index_that_does_not_fit_its_files(tmp_path):
    path = save(tmp_path, **{"third.weight": "model-00001-of-00002.safetensors"})
    with pytest.raises(FileError, match=r"other tensors than listed: .*third"):
        load_pytorch(model(), path, RULES)
    path = save(tmp_path, **{"first.weight": "model-00003-of-00003.safetensors"})
    with pytest.raises(FileNotFoundError, match="00003-of-00003"):
        load_pytorch(model(), path, RULES)


def test_what_is_not_there_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected model\.safetensors or"):
        load_pytorch(model(), tmp_path, RULES)
    with pytest.raises(FileNotFoundError, match="where there is none"):
        load_pytorch(model(), tmp_path / "no.safetensors", RULES)
    with pytest.raises(FileNotFoundError, match=r"folder with config\.json"):
        networks.from_hugging_face(tmp_path)


CONFIG = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "vocab_size": 11,
    "n_embd": 8,
    "n_layer": 1,
    "n_head": 2,
    "n_positions": 6,
}
REFUSED = {
    "another network": ({"architectures": ["MambaForCausalLM"]}, "one of the architectures"),
    "none": ({"architectures": None}, "one of the architectures"),
    "another scale": ({"scale_attn_by_inverse_layer_idx": True}, "not known here"),
    "an activation": ({"activation_function": "os.system"}, "to be one of"),
    "no width": ({"n_embd": "many"}, "units"),
    "heads": ({"n_head": 3}, "num_heads"),
    "terabytes": ({"vocab_size": 2 * 10**9}, "received differences"),
    "layers": ({"n_layer": 10**9}, "received differences"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_a_config_that_is_not_known_or_does_not_fit(name, tmp_path):
    changes, message = REFUSED[name]
    save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    with pytest.raises(FileError, match=message):
        networks.from_hugging_face(tmp_path)


SCRIPT = """
import sys, numpy as np, jax
from fnn.networks import from_hugging_face
jax.device_put(np.ones(3)).block_until_ready()

def memory(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

from_hugging_face(sys.argv[1])  # so that what the program needs is there
open("/proc/self/clear_refs", "w").write("5")  # the peak begins here
before = memory("VmRSS")
model = from_hugging_face(sys.argv[2])
size = sum(leaf.nbytes for leaf in jax.tree.leaves(model.params))
print((memory("VmHWM") - before) / size, size)
"""


def save_gpt2(folder, width, layers, vocabulary):
    """A folder with a GPT-2 in float32 shards."""
    shapes = {
        "wte.weight": (vocabulary, width),
        "wpe.weight": (6, width),
        "ln_f.weight": (width,),
        "ln_f.bias": (width,),
    }
    for n in range(layers):
        for name, shape in {
            "ln_1": (width,),
            "attn.c_attn": (width, 3 * width),
            "attn.c_proj": (width, width),
            "ln_2": (width,),
            "mlp.c_fc": (width, 4 * width),
            "mlp.c_proj": (4 * width, width),
        }.items():
            shapes[f"h.{n}.{name}.weight"] = shape
            shapes[f"h.{n}.{name}.bias"] = shape[-1:]
    folder.mkdir()
    save(folder, {name: np.ones(shape, "float32") for name, shape in shapes.items()}, shards=3)
    config = {"vocab_size": vocabulary, "n_embd": width, "n_layer": layers}
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    return str(folder)


def peak(folder, **sizes):
    """The peak memory of loading a network in multiples of its weights, and their size."""
    small = save_gpt2(folder / "small", width=8, layers=2, vocabulary=11)
    large = save_gpt2(folder / "large", **sizes)
    command = [sys.executable, "-c", SCRIPT, small, large]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    ratio, size = run.stdout.split()
    return float(ratio), int(size)


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@on_linux
@pytest.mark.slow
def test_weights_are_in_memory_once(tmp_path):
    ratio, size = peak(tmp_path, width=512, layers=4, vocabulary=40_000)
    assert size > 100e6
    assert ratio < 1.1


@on_linux
@pytest.mark.thorough
def test_the_peak_is_a_tenth_above_the_weights(tmp_path):
    ratio, size = peak(tmp_path, width=1024, layers=12, vocabulary=50_257)
    print(ratio, size)
    assert size > 700e6
    assert ratio < 1.1
