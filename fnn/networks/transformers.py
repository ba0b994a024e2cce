"""Transformers: GPT, ViT for images, Whisper's encoder of speech, encoder-decoder."""

from __future__ import annotations

from fnn.core import arguments
from fnn.core.layer import Activation, Layer
from fnn.initializers.drawn import RandomNormal
from fnn.layers import (
    Conv1D,
    Conv2D,
    Cropping1D,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling1D,
    LayerNormalization,
    PositionEmbedding,
    Repeat,
    Reshape,
    Sequential,
    SinusoidalPosition,
    TransformerDecoderBlock,
    TransformerEncoderBlock,
    ZeroPadding1D,
)
from fnn.networks.dtypes import takes_dtype
from fnn.symbolic.graph import connect
from fnn.symbolic.node import Input, Node

SMALL = RandomNormal(stddev=0.02)  # for embeddings (Radford et al. 2018, section 4.1)


@takes_dtype
def gpt(
    vocabulary: int,
    width: int,
    depth: int,
    heads: int,
    context: int,
    dropout: float = 0.0,
    *,
    dtype: str | None = None,
) -> Layer:
    """Probabilities of the next token.   (batch, time) ids -> (batch, time, vocabulary)

    `depth` blocks of `width`, compiled once, for at most `context` steps. Train it with targets one
    step ahead and "sparse_categorical_crossentropy"; `generate` continues a
    sequence of ids (Radford et al. 2019).

    >>> network = gpt(vocabulary=65, width=32, depth=2, heads=4, context=16)
    >>> ids = jnp.zeros((2, 16), int)
    >>> fnn.core.calling.output_spec(network, ids).shape
    (2, 16, 65)
    """
    block = TransformerEncoderBlock(width, heads, dropout=dropout, use_causal_mask=True)
    return Sequential(
        [
            Embedding(vocabulary, width, SMALL),
            PositionEmbedding(context, SMALL),
            Dropout(dropout),
            Repeat(block, depth),
            LayerNormalization(epsilon=1e-5),
            Dense(vocabulary, "softmax"),
        ]
    )


@takes_dtype
def vit(
    shape: tuple[int, int, int],
    patch: int,
    width: int,
    depth: int,
    heads: int,
    classes: int,
    dropout: float = 0.0,
    *,
    pooling: str = "mean",
    intermediate_dim: int | None = None,
    activation: Activation = "gelu",
    epsilon: float = 1e-5,
    classifier_activation: Activation = "softmax",
    dtype: str | None = None,
) -> Layer:
    """Class probabilities of an image, from its patches.   (batch, *shape) -> (batch, classes)

    The patches, `patch` pixels wide and high, are the steps of a transformer. Classified is the
    mean of its outputs or, with `pooling="token"`, that of an additional first step: a class token,
    which is part of its learned position. Pixels at the right and bottom that do not fill a patch
    are left out. With `pooling="token"`, `epsilon=1e-12` and `classifier_activation=None` it is
    the network of Hugging Face.
    Raises ValueError for another `pooling` (Dosovitskiy et al. 2021; the mean: Beyer et al. 2022).

    >>> network = vit((8, 8, 3), patch=4, width=16, depth=1, heads=2, classes=10)
    >>> x = jnp.ones((2, 8, 8, 3))
    >>> fnn.core.calling.output_spec(network, x).shape
    (2, 10)
    """
    if pooling not in ("mean", "token"):
        raise arguments.wrong("vit", "pooling", 'to be "mean" or "token"', pooling)
    height, breadth, _ = shape
    steps = (height // patch) * (breadth // patch)
    token: list[Layer] = []
    pooled: list[Layer] = [GlobalAveragePooling1D()]
    if pooling == "token":
        token = [ZeroPadding1D((1, 0))]
        pooled = [Cropping1D((0, steps)), Reshape((width,))]
    block = TransformerEncoderBlock(
        width,
        heads,
        intermediate_dim,
        dropout=dropout,
        activation=activation,
        epsilon=epsilon,
    )
    return Sequential(
        [
            Conv2D(width, patch, strides=patch, name="patches"),
            Reshape((steps, width)),
            *token,
            PositionEmbedding(steps + len(token), SMALL),
            Dropout(dropout),
            Repeat(block, depth),
            LayerNormalization(epsilon=epsilon),
            *pooled,
            Dense(classes, classifier_activation),
        ]
    )


@takes_dtype
def whisper_encoder(
    mels: int = 80,
    width: int = 384,
    depth: int = 4,
    heads: int = 6,
    context: int = 1500,
    intermediate_dim: int | None = None,
    dropout: float = 0.0,
    activation: Activation = "gelu",
    *,
    dtype: str | None = None,
) -> Layer:
    """Features of speech.   (batch, 2 * context, mels) spectra -> (batch, context, width)

    The defaults are those of Whisper "tiny"; sequences may be shorter, but are 30 seconds in
    published weights (Radford et al. 2022, section 2.2).

    >>> network = whisper_encoder(mels=8, width=16, depth=1, heads=2, context=5)
    >>> fnn.core.calling.output_spec(network, jnp.ones((2, 10, 8))).shape
    (2, 5, 16)
    """
    block = TransformerEncoderBlock(
        width, heads, intermediate_dim, dropout=dropout, activation=activation
    )
    conv1 = Conv1D(width, 3, padding="same", activation="gelu", name="conv1")
    conv2 = Conv1D(width, 3, strides=2, activation="gelu", name="conv2")
    return Sequential(
        [
            conv1,
            ZeroPadding1D(1),  # on both sides, unlike padding="same" with strides
            conv2,
            PositionEmbedding(context, SMALL, name="positions"),
            Dropout(dropout),
            Repeat(block, depth, name="blocks"),
            LayerNormalization(epsilon=1e-5, name="norm"),
        ]
    )


@takes_dtype
def encoder_decoder(
    vocabularies: tuple[int, int],
    width: int,
    depth: int,
    heads: int,
    dropout: float = 0.0,
    *,
    dtype: str | None = None,
) -> Layer:
    """Probabilities of the next token of a translation.   (source, target) ids -> as `gpt`

    Takes `(source, target)`, (batch, steps) and (batch, time). The target is shifted by one step:
    each step is the token before the one to predict. Id 0 is padding in both. `vocabularies` are
    the numbers of ids of source and target (Vaswani et al. 2017, but with normalization before
    attention and dense layers).

    >>> network = encoder_decoder((20, 30), width=16, depth=1, heads=2)
    >>> ids = jnp.ones((2, 7), int), jnp.ones((2, 5), int)
    >>> fnn.core.calling.output_spec(network, ids).shape
    (2, 5, 30)
    """
    source_size, target_size = vocabularies
    source = Input((None,), dtype="int32")
    target = Input((None,), dtype="int32")

    def embed(vocabulary: int, ids: Node) -> Node:
        x = Embedding(vocabulary, width, SMALL, mask_zero=True)(ids)
        x = SinusoidalPosition()(x)
        dropped: Node = Dropout(dropout)(x)
        return dropped

    memory = embed(source_size, source)  # (batch, steps, width)
    block = TransformerEncoderBlock(width, heads, dropout=dropout)
    memory = Repeat(block, depth)(memory)
    memory = LayerNormalization(epsilon=1e-5)(memory)
    x = embed(target_size, target)  # (batch, time, width)
    for _ in range(depth):
        x = TransformerDecoderBlock(width, heads, dropout=dropout)(x, memory)
    x = LayerNormalization(epsilon=1e-5)(x)
    return connect((source, target), Dense(target_size, "softmax")(x))
