"""Hugging Face: networks with weights from a folder of a published model."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from fnn.core.layer import Activation, Layer
from fnn.core.tree import Tree
from fnn.layers import RotaryEmbedding
from fnn.models import Model
from fnn.models.loading import without_arrays
from fnn.networks.language import GELU_BY_TANH, bert, gpt2, llama
from fnn.networks.transformers import vit, whisper_encoder
from fnn.saving.pytorch import FAMILIES, Rule, load_pytorch
from fnn.saving.reading import refused, unmakeable
from fnn.saving.tensors import FilePath, damaged, parse
from fnn.symbolic.node import Input

CONFIG = "config.json"
CONFIG_LIMIT = 2**22

Config: TypeAlias = Mapping[str, Any]

ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": GELU_BY_TANH,
    "gelu_pytorch_tanh": GELU_BY_TANH,
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}


class _Network(NamedTuple):
    """A network, its inputs, and the rules for the names of its weights."""

    layer: Layer
    inputs: Tree
    rules: tuple[Rule, ...]


def from_hugging_face(folder: FilePath) -> Model:
    """The network that `config.json` in a folder describes, with the weights beside it.

    The folder is one that `model.save_pretrained(folder)` wrote or that was downloaded, with
    `model.safetensors` or shards and their index. Known are GPT2LMHeadModel, LlamaForCausalLM,
    BertModel, BertForMaskedLM, BertForSequenceClassification, ViTForImageClassification, and
    the encoder of WhisperModel and WhisperForConditionalGeneration. Outputs are logits; images and
    spectra have channels last. `generate(model.layer, model.params, model.state, ids, steps)`
    continues ids. Weights are read into the model without another copy of them.
    Raises FileError for another architecture or a setting that changes what is computed and is not
    known here, and the errors of `fnn.saving.load_pytorch`.

    >>> from_hugging_face("nowhere")
    Traceback (most recent call last):
        ...
    FileNotFoundError: expected a folder with config.json, received nowhere, which has none
    """
    path = Path(os.path.expanduser(os.fspath(folder))) / CONFIG
    if not path.is_file():
        raise FileNotFoundError(
            f"expected a folder with {CONFIG}, received {folder}, which has none"
        )
    if path.stat().st_size > CONFIG_LIMIT:
        raise damaged(path, f"it has more than {CONFIG_LIMIT} bytes")
    with refused(path):
        config = parse(path.read_bytes())
    with refused(path, unmakeable):
        architecture = _architecture(config)
        network = ARCHITECTURES[architecture](config)
        model = without_arrays(network.layer, network.inputs, str(config["model_type"]))
    load_pytorch(model, folder, network.rules)
    return model


def _architecture(config: Config) -> str:
    named = config.get("architectures")
    if not isinstance(named, list) or len(named) != 1 or named[0] not in ARCHITECTURES:
        raise ValueError(
            f"expected one of the architectures {sorted(ARCHITECTURES)}, received {named!r:.80}; "
            "make the network of layers, and load its weights by fnn.saving.load_pytorch"
        )
    architecture: str = named[0]
    return architecture


def _expect(config: Config, **known: object) -> None:
    """Raises ValueError for settings under which a network computes something else."""
    for name, value in known.items():
        if config.get(name, value) not in (value, None):
            raise ValueError(
                f"expected {name}={value!r}, received {config[name]!r:.80}, which is not known here"
            )


def _activation(config: Config, name: str, default: str) -> Activation:
    value = config.get(name, default)
    if value not in ACTIVATIONS:
        raise ValueError(
            f"expected {name} to be one of {sorted(ACTIVATIONS)}, received {value!r:.80}"
        )
    return ACTIVATIONS[value]


def _ids(steps: int | None = None) -> Tree:
    """Ids of this many steps, or fewer."""
    return Input((steps,), dtype="int32")


def _gpt2(config: Config) -> _Network:
    _expect(
        config,
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
        add_cross_attention=False,
        tie_word_embeddings=True,
    )
    layer = gpt2(
        config["vocab_size"],
        config["n_embd"],
        config["n_layer"],
        config["n_head"],
        config["n_positions"],
        config.get("n_inner"),
        dropout=config.get("resid_pdrop", 0.1),
        activation=_activation(config, "activation_function", "gelu_new"),
        epsilon=config.get("layer_norm_epsilon", 1e-5),
    )
    return _Network(layer, _ids(config["n_positions"]), FAMILIES["gpt2"])


def _llama(config: Config) -> _Network:
    _expect(config, mlp_bias=False)
    rope = _rotation(config)
    tied = config.get("tie_word_embeddings", False)
    layer = llama(
        config["vocab_size"],
        config["hidden_size"],
        config["num_hidden_layers"],
        config["num_attention_heads"],
        config.get("num_key_value_heads"),
        config["intermediate_size"],
        config.get("head_dim"),
        tied=tied,
        position=rope,
        activation=_activation(config, "hidden_act", "silu"),
        use_bias=config.get("attention_bias", False),
        epsilon=config.get("rms_norm_eps", 1e-6),
    )
    family = "llama_tied" if tied else "llama"
    return _Network(layer, _ids(), FAMILIES[family])


def _rotation(config: Config) -> RotaryEmbedding:
    """The rotation of positions, of the kinds that scale angles by the wavelength alone."""
    # One dict in newer files, two entries in older ones.
    scaling = config.get("rope_scaling") or {}
    rope: Config = {**scaling, **(config.get("rope_parameters") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "linear", "llama3"):
        raise ValueError(
            "expected rotated positions of the type default, linear or llama3, received "
            f"{kind!r:.80}"
        )
    wavelengths = None
    if kind == "llama3":
        length = rope["original_max_position_embeddings"]
        wavelengths = (
            length / rope["high_freq_factor"],
            length / rope["low_freq_factor"],
        )
    return RotaryEmbedding(
        rope.get("rope_theta", config.get("rope_theta", 10000.0)),
        rope.get("factor", 1.0),
        wavelengths,
    )


BERT_HEADS = {
    "BertModel": "features",
    "BertForMaskedLM": "tokens",
    "BertForSequenceClassification": "classes",
}


def _bert(config: Config) -> _Network:
    _expect(
        config,
        is_decoder=False,
        add_cross_attention=False,
        tie_word_embeddings=True,
        position_embedding_type="absolute",
        pad_token_id=0,
    )
    head = BERT_HEADS[_architecture(config)]
    layer = bert(
        config["vocab_size"],
        config["hidden_size"],
        config["num_hidden_layers"],
        config["num_attention_heads"],
        config["max_position_embeddings"],
        config["intermediate_size"],
        config.get("type_vocab_size", 2),
        dropout=config.get("hidden_dropout_prob", 0.1),
        activation=_activation(config, "hidden_act", "gelu"),
        epsilon=config.get("layer_norm_eps", 1e-12),
        head=head,
        classes=len(config.get("id2label", "01")),
    )
    # Heads of the pretraining, which published files have besides.
    others = [Rule("cls.seq_relationship")]
    if head == "tokens":
        others.append(Rule("bert?.pooler"))
    else:
        others.append(Rule("cls"))
    ids = _ids(config["max_position_embeddings"])
    rules = (*others, *FAMILIES["bert"])
    return _Network(layer, (ids, ids), rules)


def _vit(config: Config) -> _Network:
    _expect(config, qkv_bias=True)
    size = config["image_size"]
    shape = (size, size, config.get("num_channels", 3))
    layer = vit(
        shape,
        config["patch_size"],
        config["hidden_size"],
        config["num_hidden_layers"],
        config["num_attention_heads"],
        classes=len(config.get("id2label", "01")),
        dropout=config.get("hidden_dropout_prob", 0.0),
        pooling="token",
        intermediate_dim=config["intermediate_size"],
        activation=_activation(config, "hidden_act", "gelu"),
        epsilon=config.get("layer_norm_eps", 1e-12),
        classifier_activation=None,
    )
    return _Network(layer, Input(shape), FAMILIES["vit"])


def _whisper(config: Config) -> _Network:
    context = config["max_source_positions"]
    layer = whisper_encoder(
        config["num_mel_bins"],
        config["d_model"],
        config["encoder_layers"],
        config["encoder_attention_heads"],
        context,
        config["encoder_ffn_dim"],
        dropout=config.get("dropout", 0.0),
        activation=_activation(config, "activation_function", "gelu"),
    )
    inputs = Input((2 * context, config["num_mel_bins"]))
    return _Network(layer, inputs, FAMILIES["whisper_encoder"])


ARCHITECTURES: Mapping[str, Callable[[Config], _Network]] = {
    "GPT2LMHeadModel": _gpt2,
    "LlamaForCausalLM": _llama,
    **dict.fromkeys(BERT_HEADS, _bert),
    "ViTForImageClassification": _vit,
    "WhisperModel": _whisper,
    "WhisperForConditionalGeneration": _whisper,
}
