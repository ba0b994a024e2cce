"""Published networks: logits and gradients equal those of transformers and torchvision."""

import numpy as np
import pytest

import fnn
from fnn import networks
from fnn.networks import convolutional
from fnn.saving import load_pytorch
from fnn.saving.pytorch import FAMILIES
from fnn.saving.tensors import FileError

torch = pytest.importorskip("torch")
T = pytest.importorskip("transformers")

from tests.helpers.pytorch_peers import ResNet, compare_gradients, randomized  # noqa: E402

pytestmark = pytest.mark.slow

DRAW = np.random.default_rng(0)
IDS = DRAW.integers(1, 37, (2, 7))
PADDED = np.where(np.arange(7) < np.array([[7], [5]]), IDS, 0)
SEGMENTS = np.tile(np.arange(7) > 3, (2, 1)).astype(int)
IMAGES = DRAW.normal(size=(2, 8, 8, 3)).astype("float32")
SPECTRA = DRAW.normal(size=(2, 12, 4)).astype("float32")
SIZES = {
    "vocab_size": 37,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {
    "vocab_size": 37,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 12,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WHISPER = {
    "vocab_size": 37,
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "num_mel_bins": 4,
    "max_source_positions": 6,
    "max_target_positions": 6,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


def gpt2():
    return T.GPT2LMHeadModel(T.GPT2Config(**GPT2))


def llama(**options):
    return T.LlamaForCausalLM(T.LlamaConfig(**SIZES, num_key_value_heads=2, **options))


def bert(cls, **options):
    return cls(T.BertConfig(**SIZES, max_position_embeddings=12, **options))


def vit():
    sizes = {name: SIZES[name] for name in list(SIZES)[1:5]}
    return T.ViTForImageClassification(
        T.ViTConfig(**sizes, image_size=8, patch_size=4, num_labels=3)
    )


def read_text(module, ids):
    return module(torch.tensor(ids)).logits


def read_padded(module, x):
    ids, segments = map(torch.tensor, x)
    return module(ids, attention_mask=(ids != 0).long(), token_type_ids=segments).logits


def read_images(module, x):
    return module(torch.tensor(x.transpose(0, 3, 1, 2))).logits


def read_spectra(module, x):
    encoder = module.encoder if hasattr(module, "encoder") else module.model.encoder
    return encoder(torch.tensor(x.transpose(0, 2, 1))).last_hidden_state


NETWORKS = {  # the module, inputs, the outputs of the module for these, the rules, what counts
    "gpt2": (gpt2, IDS, read_text, "gpt2"),
    "llama": (llama, IDS, read_text, "llama"),
    "tied llama": (
        lambda: llama(
            tie_word_embeddings=True,
            attention_bias=True,
            head_dim=6,
            rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0},
        ),
        IDS,
        read_text,
        "llama_tied",
    ),
    "llama 3.1": (
        lambda: llama(
            head_dim=8,
            max_position_embeddings=64,
            rope_parameters={
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
                "rope_theta": 500.0,
            },
        ),
        IDS,
        read_text,
        "llama",
    ),
    "bert for tokens": (
        lambda: bert(T.BertForMaskedLM),
        (PADDED, SEGMENTS),
        read_padded,
        "bert",
        PADDED > 0,
    ),
    "bert for classes": (
        lambda: bert(T.BertForSequenceClassification, num_labels=3),
        (PADDED, SEGMENTS),
        read_padded,
        "bert",
    ),
    "vit": (vit, IMAGES, read_images, "vit"),
    "whisper": (
        lambda: T.WhisperModel(T.WhisperConfig(**WHISPER)),
        SPECTRA,
        read_spectra,
        "whisper_encoder",
    ),
}


# The rules of "llama 3.1", and the rotation of what generates below.
PLAIN = pytest.param("llama", marks=pytest.mark.thorough)


@pytest.mark.parametrize("name", [PLAIN if name == "llama" else name for name in NETWORKS])
def test_a_folder_of_hugging_face_is_the_same_network(name, tmp_path):
    make, x, read, rules, *places = NETWORKS[name]
    places = places[0] if places else slice(None)
    module = randomized(make())
    module.save_pretrained(tmp_path)
    model = networks.from_hugging_face(tmp_path)
    expected = read(module, x)
    received = compare_gradients(model, x, module, expected, FAMILIES[rules], places)
    np.testing.assert_allclose(received, expected.detach().numpy()[places], rtol=1e-4, atol=1e-4)


def test_bert_without_a_head_has_features_and_their_summary(tmp_path):
    module = randomized(bert(T.BertModel))
    module.save_pretrained(tmp_path)
    features, pooled = networks.from_hugging_face(tmp_path).predict((PADDED, SEGMENTS), verbose=0)
    ids, segments = torch.tensor(PADDED), torch.tensor(SEGMENTS)
    expected = module(ids, attention_mask=(ids != 0).long(), token_type_ids=segments)
    theirs = expected.last_hidden_state.detach().numpy()
    np.testing.assert_allclose(features[PADDED > 0], theirs[PADDED > 0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        pooled, expected.pooler_output.detach().numpy(), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("make", [gpt2, llama])
def test_generate_writes_the_same_tokens(make, tmp_path):
    module = randomized(make(), scale=1.0)
    module.save_pretrained(tmp_path, max_shard_size="8KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    model = networks.from_hugging_face(tmp_path)
    module.generation_config.eos_token_id = None
    prompt = torch.tensor(IDS[:, :4])
    expected = module.generate(
        prompt, attention_mask=prompt**0, max_new_tokens=8, do_sample=False, pad_token_id=0
    )
    made = networks.generate(model, IDS[:, :4], steps=8)
    np.testing.assert_array_equal(made, expected)
    assert len(np.unique(made[:, 4:])) > 3


def test_the_encoder_of_a_whole_whisper(tmp_path):
    module = T.WhisperForConditionalGeneration(T.WhisperConfig(**WHISPER))
    module.save_pretrained(tmp_path)
    model = networks.from_hugging_face(tmp_path)
    kernel = module.model.encoder.layers[1].fc1.weight.detach().numpy().T
    received = model.params["blocks"]["feedforward_up"]["kernel"][1]
    np.testing.assert_array_equal(received, kernel)


def test_a_rotation_that_is_not_known_is_refused(tmp_path):
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 500.0}
    llama(rope_parameters=rope).save_pretrained(tmp_path)
    with pytest.raises(FileError, match="linear or llama3, received 'dynamic'"):
        networks.from_hugging_face(tmp_path)


def test_a_state_dict_in_memory_gives_the_weights_of_the_folder(tmp_path):
    module = randomized(gpt2())
    model = fnn.Model(networks.gpt2(37, 16, 2, 2, context=12))
    model(IDS)  # makes its weights
    logits = read_text(module, IDS)
    report = load_pytorch(model, module.state_dict(), "gpt2", reference=(IDS, logits))
    assert report.ok
    assert report.differences["outputs"] < 1e-4


@pytest.mark.parametrize(("depth", "blocks"), [(18, (1, 2)), (50, (2, 1))])
def test_the_resnet_of_torchvision(depth, blocks, monkeypatch):
    bottleneck = depth == 50
    stages = {depth: convolutional._Stages(blocks, bottleneck)}
    monkeypatch.setattr(convolutional, "STAGES", stages)
    check_resnet(depth, blocks, bottleneck)


@pytest.mark.thorough
@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_every_resnet_of_torchvision_whole(depth):
    check_resnet(depth, *convolutional.STAGES[depth])


def check_resnet(depth, blocks, bottleneck):
    module = randomized(ResNet(blocks, bottleneck, classes=5))
    with torch.no_grad():  # as drawn, what a deep network returns is too large
        for tensor in module.parameters():
            if tensor.ndim > 1:
                tensor *= 1 / (0.3 * np.sqrt(tensor[0].numel()))
    x = DRAW.normal(size=(2, 33, 32, 3)).astype("float32")  # odd and even
    network = networks.resnet(depth, 5, (33, 32, 3), version="v1.5", classifier_activation=None)
    model = fnn.Model(network)
    model.build((None, 33, 32, 3))
    logits = module(torch.tensor(x.transpose(0, 3, 1, 2)))
    report = load_pytorch(model, module.state_dict(), "resnet", reference=(x, logits))
    scale = float(np.abs(logits.detach().numpy()).max())
    assert report.differences["outputs"] / scale < 1e-4
    compare_gradients(model, x, module, logits, FAMILIES["resnet"])
