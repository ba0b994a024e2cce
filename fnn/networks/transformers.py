"""Transformers: GPT for text, ViT for images, encoder-decoder for translation."""

from __future__ import annotations

from fnn.core.layer import Layer
from fnn.initializers.drawn import RandomNormal
from fnn.layers import (
    Conv2D,
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
)
from fnn.symbolic.graph import connect
from fnn.symbolic.node import Input, Node

SMALL = RandomNormal(stddev=0.02)  # for embeddings (Radford et al. 2018, section 4.1)


def gpt(
    vocabulary: int,
    width: int,
    depth: int,
    heads: int,
    context: int,
    dropout: float = 0.0,
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


def vit(
    shape: tuple[int, int, int],
    patch: int,
    width: int,
    depth: int,
    heads: int,
    classes: int,
    dropout: float = 0.0,
) -> Layer:
    """Class probabilities of an image, from its patches.   (batch, *shape) -> (batch, classes)

    The patches, `patch` pixels wide and high, are the steps of a transformer; the mean of its
    outputs is classified. Pixels at the right and bottom that do not fill a patch are left out
    (Dosovitskiy et al. 2021; the mean: Beyer et al. 2022).

    >>> network = vit((8, 8, 3), patch=4, width=16, depth=1, heads=2, classes=10)
    >>> x = jnp.ones((2, 8, 8, 3))
    >>> fnn.core.calling.output_spec(network, x).shape
    (2, 10)
    """
    height, breadth, _ = shape
    steps = (height // patch) * (breadth // patch)
    return Sequential(
        [
            Conv2D(width, patch, strides=patch, name="patches"),
            Reshape((steps, width)),
            PositionEmbedding(steps, SMALL),
            Dropout(dropout),
            Repeat(TransformerEncoderBlock(width, heads, dropout=dropout), depth),
            LayerNormalization(epsilon=1e-5),
            GlobalAveragePooling1D(),
            Dense(classes, "softmax"),
        ]
    )


def encoder_decoder(
    vocabularies: tuple[int, int],
    width: int,
    depth: int,
    heads: int,
    dropout: float = 0.0,
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
