"""Published networks for text: GPT-2, Llama and BERT, in the form of their PyTorch weights."""

from __future__ import annotations

from fnn.activations import gelu
from fnn.core import arguments
from fnn.core.layer import Activation, Layer
from fnn.layers import (
    Add,
    Bias,
    Dense,
    Dropout,
    Embedding,
    GatedDense,
    GroupedQueryAttention,
    Lambda,
    LayerNormalization,
    PositionEmbedding,
    Repeat,
    Residual,
    ReversibleEmbedding,
    RMSNormalization,
    RotaryEmbedding,
    Sequential,
    TransformerEncoderBlock,
    Unmask,
)
from fnn.networks.dtypes import takes_dtype
from fnn.networks.transformers import SMALL
from fnn.symbolic.graph import connect
from fnn.symbolic.node import Input, Node

GELU_BY_TANH = Lambda(gelu, arguments={"approximate": True})


@takes_dtype
def gpt2(
    vocabulary: int = 50257,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    context: int = 1024,
    intermediate_dim: int | None = None,
    dropout: float = 0.1,
    activation: Activation = GELU_BY_TANH,
    epsilon: float = 1e-5,
    *,
    dtype: str | None = None,
) -> Layer:
    """Logits of the next token.   (batch, time) ids -> (batch, time, vocabulary)

    Differs from `gpt` in what published weights need: the embedding of the ids makes the logits
    too, and its GELU is the approximate one. The defaults are those of the smallest GPT-2. Train
    it with losses with `from_logits=True` (Radford et al. 2019).

    >>> network = gpt2(vocabulary=65, width=32, depth=2, heads=4, context=16)
    >>> fnn.core.calling.output_spec(network, jnp.zeros((2, 16), int)).shape
    (2, 16, 65)
    """
    block = TransformerEncoderBlock(
        width,
        heads,
        intermediate_dim,
        dropout=dropout,
        activation=activation,
        epsilon=epsilon,
        use_causal_mask=True,
    )
    ids = Input((context,), dtype="int32")  # or fewer
    embedding = ReversibleEmbedding(
        vocabulary, width, embeddings_initializer=SMALL, name="embedding"
    )
    x = embedding(ids)
    x = PositionEmbedding(context, SMALL, name="positions")(x)
    x = Dropout(dropout)(x)
    x = Repeat(block, depth, name="blocks")(x)
    x = LayerNormalization(epsilon=epsilon, name="norm")(x)
    return connect(ids, embedding(x, reverse=True))


@takes_dtype
def llama(
    vocabulary: int = 32000,
    width: int = 4096,
    depth: int = 32,
    heads: int = 32,
    key_value_heads: int | None = None,
    intermediate_dim: int = 11008,
    head_dim: int | None = None,
    tied: bool = False,
    position: Layer = RotaryEmbedding(),  # noqa: B008 - a frozen value
    activation: Activation = "silu",
    use_bias: bool = False,
    epsilon: float = 1e-6,
    *,
    dtype: str | None = None,
) -> Layer:
    """Logits of the next token.   (batch, time) ids -> (batch, time, vocabulary)

    Rotated positions, root mean square normalization and gated dense layers; groups of query heads
    share a head of keys and values. `tied` makes the logits by the embedding of the ids, `use_bias`
    is that of the attention. The defaults are those of Llama 7B (Touvron et al. 2023).

    >>> network = llama(65, width=16, depth=2, heads=4, key_value_heads=2, intermediate_dim=24)
    >>> fnn.core.calling.output_spec(network, jnp.zeros((2, 16), int)).shape
    (2, 16, 65)
    """
    attention = GroupedQueryAttention(
        head_dim or width // heads,
        heads,
        key_value_heads or heads,
        use_bias=use_bias,
        use_causal_mask=True,
        position=position,
        name="attention",
    )
    gated = GatedDense(intermediate_dim, activation, use_bias=False, name="up")

    def residual(name: str, *layers: Layer) -> Layer:
        norm = RMSNormalization(epsilon=epsilon, name="norm")
        return Residual(Sequential([norm, *layers]), name=name)

    block = Sequential(
        [
            residual("attention", attention),
            residual("feedforward", gated, Dense(width, use_bias=False, name="down")),
        ]
    )
    ids = Input((None,), dtype="int32")
    embedding = ReversibleEmbedding(
        vocabulary, width, tied, embeddings_initializer=SMALL, name="embedding"
    )
    x = Repeat(block, depth, name="blocks")(embedding(ids))
    x = RMSNormalization(epsilon=epsilon, name="norm")(x)
    return connect(ids, embedding(x, reverse=True))


HEADS = "features", "tokens", "classes"


@takes_dtype
def bert(
    vocabulary: int = 30522,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    context: int = 512,
    intermediate_dim: int | None = None,
    segments: int = 2,
    dropout: float = 0.1,
    activation: Activation = "gelu",
    epsilon: float = 1e-12,
    *,
    head: str = "features",
    classes: int = 2,
    dtype: str | None = None,
) -> Layer:
    """An encoder of text, with a head.   (ids, segments), (batch, time) each -> by `head`

    Id 0 is padding. `segments` are 0 in the first sentence and 1 in the second. `head` is
    "features": (features (batch, time, width), pooled (batch, width)); "tokens": logits (batch,
    time, vocabulary) of masked tokens; "classes": logits (batch, classes). The defaults are those
    of BERT-base. Raises ValueError for another `head` (Devlin et al. 2019).

    >>> network = bert(65, width=16, depth=2, heads=4, context=16, head="classes")
    >>> ids = jnp.ones((2, 7), int)
    >>> fnn.core.calling.output_spec(network, (ids, 0 * ids)).shape
    (2, 2)
    """
    if head not in HEADS:
        raise arguments.wrong("bert", "head", f"to be one of {HEADS}", head)
    block = TransformerEncoderBlock(
        width,
        heads,
        intermediate_dim,
        dropout=dropout,
        activation=activation,
        normalize_first=False,
        epsilon=epsilon,
    )
    ids = Input((context,), dtype="int32")  # or fewer
    places = Input((context,), dtype="int32")
    embedding = ReversibleEmbedding(
        vocabulary,
        width,
        embeddings_initializer=SMALL,
        mask_zero=True,
        name="embedding",
    )
    of_segments = Embedding(segments, width, SMALL, name="segments")
    x = Add()([embedding(ids), of_segments(places)])
    x = PositionEmbedding(context, SMALL, name="positions")(x)
    x = LayerNormalization(epsilon=epsilon, name="norm")(x)
    x = Dropout(dropout)(x)
    x = Repeat(block, depth, name="blocks")(x)  # (batch, time, width)
    if head == "tokens":
        x = Dense(width, activation, name="transform")(x)
        x = LayerNormalization(epsilon=epsilon, name="transform_norm")(x)
        logits: Node = Bias(name="logits_bias")(embedding(x, reverse=True))
        return connect((ids, places), logits)
    first = Unmask()(x)[:, 0]  # (batch, width): never padding
    pooled = Dense(width, "tanh", name="pooled")(first)
    if head == "features":
        return connect((ids, places), (x, pooled))
    pooled = Dropout(dropout)(pooled)
    return connect((ids, places), Dense(classes, name="logits")(pooled))
