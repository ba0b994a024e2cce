"""Families: the rules for the names of published networks, each for its function of `networks`."""

from __future__ import annotations

from collections.abc import Mapping

from fnn.saving.pytorch.rules import Rule


def _rules(*rules: tuple[str, ...]) -> tuple[Rule, ...]:
    return tuple(Rule(*rule) for rule in rules)


_GPT2_BLOCK = "transformer?.h.{n}"
GPT2 = _rules(
    ("transformer?.wte", "embedding", "embedding"),
    ("transformer?.wpe", "positions", "embedding"),
    (f"{_GPT2_BLOCK}.ln_1", "blocks[{n}]/attention_norm", "norm"),
    # Masks, which older files hold.
    (f"{_GPT2_BLOCK}.attn.bias",),
    (f"{_GPT2_BLOCK}.attn.masked_bias",),
    (
        f"{_GPT2_BLOCK}.attn.c_attn",
        "blocks[{n}]/attention",
        "fused_projections_untransposed",
    ),
    (
        f"{_GPT2_BLOCK}.attn.c_proj",
        "blocks[{n}]/attention/attention_output",
        "dense_untransposed",
    ),
    (f"{_GPT2_BLOCK}.ln_2", "blocks[{n}]/feedforward_norm", "norm"),
    (f"{_GPT2_BLOCK}.mlp.c_fc", "blocks[{n}]/feedforward_up", "dense_untransposed"),
    (f"{_GPT2_BLOCK}.mlp.c_proj", "blocks[{n}]/feedforward_down", "dense_untransposed"),
    ("transformer?.ln_f", "norm", "norm"),
    ("lm_head", "embedding", "tied_logits"),
)

_BERT_BLOCK = "bert?.encoder.layer.{n}"
BERT = _rules(
    ("bert?.embeddings.word_embeddings", "embedding", "embedding"),
    ("bert?.embeddings.position_embeddings", "positions", "embedding"),
    ("bert?.embeddings.token_type_embeddings", "segments", "embedding"),
    ("bert?.embeddings.LayerNorm", "norm", "norm"),
    ("bert?.embeddings.position_ids",),
    (f"{_BERT_BLOCK}.attention.self.{{p}}", "blocks[{n}]/attention/{p}", "dense"),
    (
        f"{_BERT_BLOCK}.attention.output.dense",
        "blocks[{n}]/attention/attention_output",
        "dense",
    ),
    (f"{_BERT_BLOCK}.attention.output.LayerNorm", "blocks[{n}]/attention_norm", "norm"),
    (f"{_BERT_BLOCK}.intermediate.dense", "blocks[{n}]/feedforward_up", "dense"),
    (f"{_BERT_BLOCK}.output.dense", "blocks[{n}]/feedforward_down", "dense"),
    (f"{_BERT_BLOCK}.output.LayerNorm", "blocks[{n}]/feedforward_norm", "norm"),
    ("bert?.pooler.dense", "pooled", "dense"),
    ("classifier", "logits", "dense"),
    ("cls.predictions.transform.dense", "transform", "dense"),
    ("cls.predictions.transform.LayerNorm", "transform_norm", "norm"),
    ("cls.predictions.bias", "logits_bias/bias", "tensor"),
    ("cls.predictions.decoder.weight", "embedding/embeddings", "tied_tensor"),
    ("cls.predictions.decoder.bias", "logits_bias/bias", "tied_tensor"),
)

_LLAMA_BLOCK = "model?.layers.{n}"
_LLAMA_ATTENTION = "blocks[{n}]/attention/attention"
LLAMA = _rules(
    ("model?.embed_tokens", "embedding", "embedding"),
    (f"{_LLAMA_BLOCK}.input_layernorm", "blocks[{n}]/attention/norm", "rms_norm"),
    (f"{_LLAMA_BLOCK}.self_attn.q_proj", f"{_LLAMA_ATTENTION}/query", "dense"),
    (f"{_LLAMA_BLOCK}.self_attn.k_proj", f"{_LLAMA_ATTENTION}/key", "dense"),
    (f"{_LLAMA_BLOCK}.self_attn.v_proj", f"{_LLAMA_ATTENTION}/value", "dense"),
    (
        f"{_LLAMA_BLOCK}.self_attn.o_proj",
        f"{_LLAMA_ATTENTION}/attention_output",
        "dense",
    ),
    (f"{_LLAMA_BLOCK}.self_attn.rotary_emb.inv_freq",),
    (
        f"{_LLAMA_BLOCK}.post_attention_layernorm",
        "blocks[{n}]/feedforward/norm",
        "rms_norm",
    ),
    (f"{_LLAMA_BLOCK}.mlp.gate_proj", "blocks[{n}]/feedforward/up", "gate"),
    (f"{_LLAMA_BLOCK}.mlp.up_proj", "blocks[{n}]/feedforward/up", "gated_values"),
    (f"{_LLAMA_BLOCK}.mlp.down_proj", "blocks[{n}]/feedforward/down", "dense"),
    ("model?.norm", "norm", "rms_norm"),
    ("lm_head", "embedding", "untied_logits"),
)
# Where `tie_word_embeddings` is True.
LLAMA_TIED = (*LLAMA[:-1], Rule("lm_head", "embedding", "tied_logits"))

_VIT = {  # the names in files, and those in memory of newer versions
    "vit.encoder.layer.{n}": {
        "attention.attention.query": "attention/query",
        "attention.attention.key": "attention/key",
        "attention.attention.value": "attention/value",
        "attention.output.dense": "attention/attention_output",
        "intermediate.dense": "feedforward_up",
        "output.dense": "feedforward_down",
    },
    "vit.layers.{n}": {
        "attention.q_proj": "attention/query",
        "attention.k_proj": "attention/key",
        "attention.v_proj": "attention/value",
        "attention.o_proj": "attention/attention_output",
        "mlp.fc1": "feedforward_up",
        "mlp.fc2": "feedforward_down",
    },
}
VIT = _rules(
    ("vit.embeddings", "position_embedding", "positions_with_class_token"),
    ("vit.embeddings.patch_embeddings.projection", "patches", "conv"),
    *(
        (f"{block}.{source}", f"repeat[{{n}}]/{target}", "dense")
        for block, names in _VIT.items()
        for source, target in names.items()
    ),
    *(
        (f"{block}.layernorm_{source}", f"repeat[{{n}}]/{target}_norm", "norm")
        for block in _VIT
        for source, target in (("before", "attention"), ("after", "feedforward"))
    ),
    ("vit.layernorm", "layer_normalization", "norm"),
    ("classifier", "dense", "dense"),
)

_WHISPER = "model?.encoder"
_WHISPER_BLOCK = f"{_WHISPER}.layers.{{n}}"
_WHISPER_ATTENTION = "blocks[{n}]/attention"
WHISPER_ENCODER = _rules(
    (f"{_WHISPER}.conv1", "conv1", "conv"),
    (f"{_WHISPER}.conv2", "conv2", "conv"),
    (f"{_WHISPER}.embed_positions", "positions", "embedding"),
    (f"{_WHISPER_BLOCK}.self_attn_layer_norm", f"{_WHISPER_ATTENTION}_norm", "norm"),
    (f"{_WHISPER_BLOCK}.self_attn.q_proj", f"{_WHISPER_ATTENTION}/query", "dense"),
    (f"{_WHISPER_BLOCK}.self_attn.k_proj", f"{_WHISPER_ATTENTION}/key", "dense"),
    (f"{_WHISPER_BLOCK}.self_attn.v_proj", f"{_WHISPER_ATTENTION}/value", "dense"),
    # Whisper has none: it would add the same to all scores of a query.
    ("", "blocks/attention/key/bias", "zeros"),
    (
        f"{_WHISPER_BLOCK}.self_attn.out_proj",
        f"{_WHISPER_ATTENTION}/attention_output",
        "dense",
    ),
    (f"{_WHISPER_BLOCK}.final_layer_norm", "blocks[{n}]/feedforward_norm", "norm"),
    (f"{_WHISPER_BLOCK}.fc1", "blocks[{n}]/feedforward_up", "dense"),
    (f"{_WHISPER_BLOCK}.fc2", "blocks[{n}]/feedforward_down", "dense"),
    (f"{_WHISPER}.layer_norm", "norm", "norm"),
    ("model?.decoder",),
    ("proj_out",),
)


def _resnet() -> tuple[Rule, ...]:
    """torchvision's names: its layer1.0 is Keras's conv2_block1, whose numbers begin at 1."""
    rules = [
        ("conv1", "conv1_conv", "conv"),
        ("bn1", "conv1_bn", "norm"),
        ("fc", "predictions", "dense"),
    ]
    for stage, most in enumerate((3, 8, 36, 3), start=1):
        for block in range(most):
            source = f"layer{stage}.{block}"
            target = f"conv{stage + 1}_block{block + 1}"
            for number in (1, 2, 3):
                rules.append(
                    (f"{source}.conv{number}", f"{target}_{number}_conv", "conv")
                )
                rules.append((f"{source}.bn{number}", f"{target}_{number}_bn", "norm"))
            rules.append((f"{source}.downsample.0", f"{target}_0_conv", "conv"))
            rules.append((f"{source}.downsample.1", f"{target}_0_bn", "norm"))
    return _rules(*rules)


FAMILIES: Mapping[str, tuple[Rule, ...]] = {
    "gpt2": GPT2,
    "bert": BERT,
    "llama": LLAMA,
    "llama_tied": LLAMA_TIED,
    "vit": VIT,
    "whisper_encoder": WHISPER_ENCODER,
    "resnet": _resnet(),
}
