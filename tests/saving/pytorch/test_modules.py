"""Modules of PyTorch: each conversion gives a layer with the same outputs and gradients."""

import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.saving import load_pytorch
from fnn.saving.pytorch import Rule

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from tests.helpers.pytorch_peers import compare_gradients, randomized  # noqa: E402

DRAW = np.random.default_rng(0)


class Itself(nn.Module):
    """A module that takes and returns sequences or images with channels last, as fnn does."""

    def __init__(self, inner, channels_first=False):
        super().__init__()
        self.inner, self.channels_first = inner, channels_first

    def forward(self, x):
        # Contiguous: the gradient of GroupNorm ends the process otherwise (PyTorch 2.13).
        y = self.inner(x.movedim(-1, 1).contiguous() if self.channels_first else x)
        y = y[0] if isinstance(y, tuple) else y
        return y.movedim(1, -1) if self.channels_first else y


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.inner(x, x, x)[0]


class CrossAttention(nn.Module):
    """Keys and values of the width of the query, and of others, which are not fused then."""

    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True)
        self.register_buffer("memory", torch.tensor(MEMORY))

    def forward(self, x):
        return self.inner(x, self.memory, self.memory)[0]


def drawn(*shape):
    return DRAW.normal(size=shape).astype("float32")


MEMORY = drawn(2, 3, 6)
VECTORS, SEQUENCE, WIDE = drawn(3, 5), drawn(2, 6, 4), drawn(2, 6, 8)
IMAGE, VOLUME, IDS = drawn(2, 7, 6, 4), drawn(2, 4, 5, 3, 2), DRAW.integers(0, 9, (2, 5))
OVER_TIME = {"return_sequences": True}
BLOCK = (
    ("inner.self_attn", "attention", "attention"),
    ("inner.linear1", "feedforward_up", "dense"),
    ("inner.linear2", "feedforward_down", "dense"),
    ("inner.norm1", "attention_norm", "norm"),
    ("inner.norm2", "feedforward_norm", "norm"),
)


def both_ways(kind):
    return (
        ("inner.*_l0", f"forward_{kind}", kind),
        ("inner.*_l0_reverse", f"backward_{kind}", kind),
    )


def stacked(kind, *layers):
    rules = [(f"inner.*_l{n}", layer, kind) for n, layer in enumerate(layers)]
    return tuple(rules)


def test_a_module_is_not_a_state_dict():
    model = fnn.Sequential([L.Dense(3, input_shape=(5,))])
    with pytest.raises(TypeError, match=r"pass model\.state_dict\(\)"):
        load_pytorch(model, nn.Linear(5, 3), [("", "dense")])


MODULES = {  # the module, the layer, inputs, rules
    "linear": (Itself(nn.Linear(5, 3)), L.Dense(3), VECTORS, "dense"),
    "without bias": (
        Itself(nn.Linear(5, 3, bias=False)),
        L.Dense(3, use_bias=False),
        VECTORS,
        "dense",
    ),
    "conv1d": (
        Itself(nn.Conv1d(4, 3, 3, padding=1), True),
        L.Conv1D(3, 3, padding="same"),
        SEQUENCE,
        "conv",
    ),
    "conv2d in groups": (
        Itself(nn.Conv2d(4, 6, (3, 2), groups=2), True),
        L.Conv2D(6, (3, 2), groups=2),
        IMAGE,
        "conv",
    ),
    "conv3d": (Itself(nn.Conv3d(2, 3, 2), True), L.Conv3D(3, 2), VOLUME, "conv"),
    "depthwise": (
        Itself(nn.Conv2d(4, 8, (3, 2), groups=4), True),
        L.DepthwiseConv2D((3, 2), depth_multiplier=2),
        IMAGE,
        "depthwise_conv",
    ),
    "transposed": (
        Itself(nn.ConvTranspose2d(4, 3, (3, 2), stride=2), True),
        L.Conv2DTranspose(3, (3, 2), strides=2, output_padding=0),
        IMAGE,
        "conv",
    ),
    "batch norm": (
        Itself(nn.BatchNorm2d(4), True),
        L.BatchNormalization(epsilon=1e-5),
        IMAGE,
        "norm",
    ),
    "layer norm": (
        Itself(nn.LayerNorm(4)),
        L.LayerNormalization(epsilon=1e-5),
        SEQUENCE,
        "norm",
    ),
    "group norm": (
        Itself(nn.GroupNorm(2, 4), True),
        L.GroupNormalization(2, epsilon=1e-5),
        IMAGE,
        "norm",
    ),
    "rms norm": (
        Itself(nn.RMSNorm(4, eps=1e-6)),
        L.RMSNormalization(),
        SEQUENCE,
        "rms_norm",
    ),
    "embedding": (Itself(nn.Embedding(9, 4)), L.Embedding(9, 4), IDS, "embedding"),
    "lstm": (
        Itself(nn.LSTM(4, 3, batch_first=True)),
        L.LSTM(3, **OVER_TIME),
        SEQUENCE,
        (("inner.*_l0", "", "lstm"),),
    ),
    "gru": (
        Itself(nn.GRU(4, 3, batch_first=True)),
        L.GRU(3, **OVER_TIME),
        SEQUENCE,
        (("inner.*_l0", "", "gru"),),
    ),
    "rnn": (
        Itself(nn.RNN(4, 3, batch_first=True)),
        L.SimpleRNN(3, **OVER_TIME),
        SEQUENCE,
        (("inner.*_l0", "", "rnn"),),
    ),
    "two layers of gru": (
        Itself(nn.GRU(4, 3, num_layers=2, batch_first=True)),
        L.Sequential([L.GRU(3, **OVER_TIME), L.GRU(3, **OVER_TIME)]),
        SEQUENCE,
        stacked("gru", "gru", "gru_1"),
    ),
    "lstm both ways": (
        Itself(nn.LSTM(4, 3, bidirectional=True, batch_first=True)),
        L.Bidirectional(L.LSTM(3, **OVER_TIME)),
        SEQUENCE,
        both_ways("lstm"),
    ),
    "attention": (
        SelfAttention(),
        L.MultiHeadAttention(2, 4),
        WIDE,
        "attention",
    ),
    "attention to another width": (
        CrossAttention(),
        L.MultiHeadAttention(2, 4),
        (WIDE, MEMORY),
        (("inner", "", "attention"), ("memory",)),
    ),
    "encoder layer": (
        Itself(nn.TransformerEncoderLayer(8, 2, 12, 0.0, "gelu", batch_first=True)),
        L.TransformerEncoderBlock(8, 2, 12, normalize_first=False),
        WIDE,
        BLOCK,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_a_module_and_its_layer_are_equal(name):
    module, layer, x, rules = MODULES[name]
    module = randomized(module)
    if isinstance(rules, str):
        rules = (("inner", "", rules),)
    model = fnn.Model(layer)
    model(x)  # makes its weights
    first = x[0] if isinstance(x, tuple) else x
    outputs = module(torch.tensor(first))
    report = load_pytorch(model, module.state_dict(), rules, reference=(x, outputs))
    assert report.ok
    assert report.differences["outputs"] < 1e-5
    table = [Rule(*rule) for rule in rules]
    compare_gradients(model, x, module, outputs, table, tolerance=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "float8_e4m3fn"])
def test_tensors_of_any_float_become_the_dtype_of_the_model(dtype):
    tensor = torch.tensor(DRAW.normal(size=(3, 5))).to(getattr(torch, dtype))
    model = fnn.Sequential([L.Dense(3, use_bias=False, input_shape=(5,))])
    load_pytorch(model, {"0.weight": tensor}, [("0", "dense")])
    (kernel,) = model.get_weights()
    assert kernel.dtype == "float32"
    np.testing.assert_array_equal(kernel, tensor.float().numpy().T)
