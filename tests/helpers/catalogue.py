"""The catalogue: a row for each layer and mode, over which every property is tested.

`Case(layer, *inputs)` is a row. An input is a shape (random float32), an array, or what `masked`
and `ids` make; several inputs become a tuple. `without` names the properties of `fnn.testing` that
do not hold, `keras` builds the twin in Keras where it is not the class of the same name with the
same arguments (None: Keras has no such layer), and `causal` says that a later step changes no
earlier output.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from fnn import layers as L
from fnn.core.calling import initialize, weight_spec
from fnn.core.context import Masked
from fnn.core.registry import register
from fnn.symbolic.graph import connect
from fnn.testing.subject import Subject, jit  # noqa: F401 - other tests take jit from here
from tests.helpers.quick_keys import quick_key

KEY = jax.random.key(7)


class Case(Subject):
    """A layer, inputs for it, and what is known of it."""

    def __init__(self, layer, *inputs, id=None, keras="same", without=(), causal=False):
        self.layer, self.inputs, self.id = layer, inputs, id or repr(layer)
        self.keras, self.without, self.causal = keras, without, causal
        self.key, self.path = quick_key(7), ()

    @functools.cached_property
    def x(self):
        made = tuple(_made(value, seed) for seed, value in enumerate(self.inputs))
        return made[0] if len(made) == 1 else made

    def random_weights(self, seed):
        # Not by initialize: compiling a random generator for each shape takes seconds a row.
        params, state = weight_spec(self.layer, self.x)
        draw = np.random.default_rng(seed).normal
        drawn = lambda a: jax.device_put((0.4 * draw(size=a.shape)).astype(a.dtype))
        params = jax.tree.map(drawn, params)
        if state:
            state = initialize(self.layer, jax.random.key(seed), self.x)[1]
        return params, state


def _made(value, seed):
    if isinstance(value, Masked):
        return Masked(_made(value.values, seed), value.mask)
    if isinstance(value, tuple):
        value = np.random.default_rng(seed).normal(size=value).astype("float32")
    return jax.device_put(value)


def masked(shape):
    """Random inputs of which some steps are padding, at the start, in between and at the end."""
    mask = np.ones(shape[:2], bool)
    mask[0, -1] = mask[1, 0] = mask[-1, 1] = False
    return Masked(shape, jnp.asarray(mask))


def ids(shape, below):
    """Random integers, 0 among them."""
    numbers = np.random.default_rng(0).integers(0, below, shape).astype("int32")
    numbers[0, -1] = 0
    return numbers


def _graph():
    """Two inputs, a layer used twice, two outputs."""
    a, b = L.Input((3,)), L.Input((2,))
    shared = L.Dense(4, "tanh")
    joined = L.Concatenate()([shared(a), shared(L.Dense(3)(b))])
    return connect((a, b), (L.Dense(1)(joined), joined))


@register
def doubled(x, times=2):
    return x * times


@register
def same_mask(x, mask):
    return mask


SEQUENCE, IMAGE, VOLUME = (3, 6, 4), (3, 6, 7, 4), (3, 4, 5, 6, 2)
FEW_STEPS = (3, 4, 4)  # of an unrolled loop; other numbers than those of units
SERIES, FILM = (3, 4, 6, 2), (3, 4, 5, 6, 3)  # sequences of what has steps, or of images
COLORS = (3, 4, 5, 3)  # images of three channels
SMALL, SMALL_4, FILM_3D = (
    (2, 2, 3, 4, 3),
    (2, 3, 4, 3, 4),
    (2, 2, 3, 3, 4, 2),
)  # volumes, and a sequence of such
# The outputs do not depend on the inputs smoothly, and have a dtype of their own.
NO_FLOATS = ["bfloat16", "gradients_are_finite"]
CLIPPING = {"rmin": 0.5, "rmax": 2.0, "dmax": 0.3}
# A stateful layer keeps a state for each row, so it takes batches of one size only.
OF_ONE_BATCH_SIZE = ["an_example_alone_is_as_in_the_batch", "padded_rows_change_nothing"]
# The outputs go in steps, so their gradient is zero.
STEPS = ["gradients_are_finite"]
# One step, which repeats along those of the other input, and is padding in one example.
ONE_STEP = Masked((3, 1, 4), jnp.asarray([[True], [False], [True]])), SEQUENCE

CATALOGUE = [
    Case(L.Dense(5), (3, 4)),
    Case(L.Dense(5, "relu", use_bias=False, activity_regularizer="l2"), SEQUENCE),
    Case(L.Dense(5, activity_regularizer="l2"), masked(SEQUENCE), id="Dense penalized", keras=None),
    # learned from data, and encoded
    Case(L.Normalization(mean=[1.0, 0.5, -2.0], variance=[4.0, 0.25, 1.0]), (5, 3)),
    Case(L.Normalization(1, invert=True), SEQUENCE, keras=None),
    Case(L.Discretization([-0.5, 0.0, 1.0]), (3, 4), without=NO_FLOATS),
    Case(L.Discretization([-0.5, 1.0], output_mode="multi_hot"), (3, 4), without=NO_FLOATS),
    Case(L.CategoryEncoding(6, "count"), ids((3, 4), 6), without=["bfloat16"]),
    Case(L.CategoryEncoding(6, "one_hot"), ids((3, 1), 6), without=["bfloat16"]),
    # convolution
    Case(L.Conv1D(5, 3), SEQUENCE),
    Case(L.Conv1D(5, 2, strides=2, padding="same", activation="relu"), SEQUENCE),
    Case(L.Conv1D(5, 3, padding="same"), SEQUENCE),
    Case(L.Conv1D(6, 2, padding="causal", dilation_rate=2, groups=2), SEQUENCE, causal=True),
    Case(
        L.Conv1D(5, 3, data_format="channels_first", use_bias=False, activity_regularizer="l2"),
        SEQUENCE,
    ),
    Case(L.Conv2D(5, 3, activation="relu", activity_regularizer="l2"), IMAGE),
    Case(L.Conv2D(5, (2, 3), strides=(2, 1), padding="same", use_bias=False), IMAGE),
    Case(L.Conv2D(4, 2, dilation_rate=2, groups=2), IMAGE),
    Case(L.Conv2D(6, 3, padding="same", data_format="channels_first", groups=3), IMAGE),
    Case(L.Conv2D(2, 3, strides=2, dilation_rate=2), IMAGE, keras=None),
    Case(L.Conv3D(3, 2), VOLUME),
    Case(L.Conv3D(3, (1, 2, 3), strides=2, padding="same", activity_regularizer="l2"), VOLUME),
    Case(L.Conv3D(3, 2, data_format="channels_first"), VOLUME),
    Case(L.Conv3D(4, 2, dilation_rate=2, groups=2, activation="elu", use_bias=False), SMALL_4),
    Case(L.Conv1DTranspose(5, 3, strides=2, padding="same", activity_regularizer="l2"), SEQUENCE),
    Case(L.Conv1DTranspose(5, 2, strides=3, output_padding=1), SEQUENCE),
    Case(
        L.Conv1DTranspose(3, 2, 1, "valid", None, "channels_first", 2, "tanh", use_bias=False),
        SEQUENCE,
    ),
    Case(L.Conv2DTranspose(5, 3, activity_regularizer="l2"), IMAGE),
    Case(L.Conv2DTranspose(5, (2, 4), strides=(3, 2), padding="same", use_bias=False), IMAGE),
    Case(L.Conv2DTranspose(5, 3, strides=2, padding="same", output_padding=0), IMAGE),
    Case(L.Conv2DTranspose(5, 2, 1, "valid", None, "channels_first", 2, "relu"), IMAGE),
    Case(
        L.Conv3DTranspose(
            2, 2, strides=2, activation="relu", use_bias=False, activity_regularizer="l2"
        ),
        VOLUME,
    ),
    Case(L.Conv3DTranspose(2, 3, 2, "same", output_padding=1), SMALL),
    Case(L.Conv3DTranspose(2, 2, data_format="channels_first", dilation_rate=2), SMALL),
    Case(L.DepthwiseConv1D(3, depth_multiplier=2), SEQUENCE),
    Case(
        L.DepthwiseConv1D(
            2, padding="same", dilation_rate=2, use_bias=False, activity_regularizer="l2"
        ),
        SEQUENCE,
    ),
    Case(L.DepthwiseConv1D(2, 2, data_format="channels_first", activation="tanh"), SEQUENCE),
    Case(
        L.DepthwiseConv2D(
            (2, 3), strides=2, padding="same", activation="relu", activity_regularizer="l2"
        ),
        IMAGE,
    ),
    Case(
        L.DepthwiseConv2D(
            2, depth_multiplier=2, data_format="channels_first", dilation_rate=2, use_bias=False
        ),
        IMAGE,
    ),
    Case(L.SeparableConv1D(5, 3, depth_multiplier=2), SEQUENCE),
    Case(L.SeparableConv1D(5, 2, padding="same"), SEQUENCE),
    Case(L.SeparableConv1D(5, 2, 2, "same", "channels_first", activation="elu"), SEQUENCE),
    Case(
        L.SeparableConv1D(5, 2, dilation_rate=2, use_bias=False, activity_regularizer="l2"),
        SEQUENCE,
    ),
    Case(
        L.SeparableConv2D(
            5, 3, strides=2, padding="same", activation="relu", activity_regularizer="l2"
        ),
        IMAGE,
    ),
    Case(
        L.SeparableConv2D(
            5,
            2,
            data_format="channels_first",
            dilation_rate=2,
            depth_multiplier=2,
            use_bias=False,
        ),
        IMAGE,
    ),
    # pooling
    Case(L.MaxPooling1D(), SEQUENCE),
    Case(L.MaxPooling1D(3, strides=2, padding="same"), SEQUENCE),
    Case(L.MaxPooling1D(2, data_format="channels_first"), SEQUENCE),
    Case(L.MaxPooling2D(), IMAGE),
    Case(L.MaxPooling2D((2, 5), padding="same"), IMAGE),
    Case(L.MaxPooling2D(3, strides=1), IMAGE),
    Case(L.MaxPooling2D(2, strides=3), IMAGE),
    Case(L.MaxPooling2D(3, strides=2, padding="same"), IMAGE),
    Case(L.MaxPooling2D((2, 3), data_format="channels_first"), IMAGE),
    Case(L.MaxPooling3D(), VOLUME),
    Case(L.MaxPooling3D((2, 3, 1), (1, 2, 2), "same"), VOLUME),
    Case(L.MaxPooling3D(2, data_format="channels_first"), SMALL),
    Case(L.AveragePooling1D(2), SEQUENCE),
    Case(L.AveragePooling1D(4, strides=3, padding="same"), SEQUENCE),
    Case(L.AveragePooling1D(2, data_format="channels_first"), SEQUENCE),
    Case(L.AveragePooling2D(2), IMAGE),
    Case(L.AveragePooling2D((4, 5), padding="same"), IMAGE),
    Case(L.AveragePooling2D(3, strides=2, padding="same"), IMAGE),
    Case(L.AveragePooling2D(2, data_format="channels_first"), IMAGE),
    Case(L.AveragePooling3D(2), VOLUME),
    Case(L.AveragePooling3D(3, strides=2, padding="same"), VOLUME),
    Case(L.AveragePooling3D(2, data_format="channels_first"), SMALL),
    Case(L.GlobalMaxPooling1D(), SEQUENCE),
    Case(L.GlobalMaxPooling1D(), masked(SEQUENCE), id="GlobalMaxPooling1D() masked", keras=None),
    Case(L.GlobalMaxPooling1D("channels_first", keepdims=True), SEQUENCE),
    Case(L.GlobalMaxPooling2D(), IMAGE),
    Case(L.GlobalMaxPooling2D("channels_first"), IMAGE),
    Case(L.GlobalMaxPooling2D(keepdims=True), IMAGE),
    Case(L.GlobalMaxPooling3D("channels_first"), SMALL),
    Case(L.GlobalMaxPooling3D(keepdims=True), VOLUME),
    Case(L.GlobalAveragePooling1D(), SEQUENCE),
    Case(L.GlobalAveragePooling1D(), masked(SEQUENCE), id="GlobalAveragePooling1D() masked"),
    Case(L.GlobalAveragePooling1D(keepdims=True), masked(SEQUENCE), id="keepdims, masked"),
    Case(L.GlobalAveragePooling2D(), IMAGE),
    Case(L.GlobalAveragePooling2D("channels_first", True), IMAGE),
    Case(L.GlobalAveragePooling3D(), VOLUME),
    Case(L.GlobalAveragePooling1D("channels_first"), SEQUENCE),
    Case(L.GlobalAveragePooling3D("channels_first", keepdims=True), SMALL),
    Case(L.AdaptiveMaxPooling1D(4), SEQUENCE),
    Case(L.AdaptiveMaxPooling1D(3, "channels_first"), SEQUENCE),
    Case(L.AdaptiveMaxPooling2D((3, 5)), IMAGE),
    Case(L.AdaptiveMaxPooling2D((9, 2), "channels_first"), IMAGE),
    Case(L.AdaptiveMaxPooling3D((2, 3, 1)), VOLUME),
    Case(L.AdaptiveMaxPooling3D(2, "channels_first"), SMALL),
    Case(L.AdaptiveAveragePooling1D(4), SEQUENCE),
    Case(L.AdaptiveAveragePooling1D(3, "channels_first"), SEQUENCE),
    Case(L.AdaptiveAveragePooling2D((3, 5)), IMAGE),
    Case(L.AdaptiveAveragePooling2D((9, 2), "channels_first"), IMAGE),
    Case(L.AdaptiveAveragePooling3D((2, 3, 1)), VOLUME),
    Case(L.AdaptiveAveragePooling3D(2, "channels_first"), SMALL),
    # reshaping
    Case(L.Flatten(), IMAGE),
    Case(L.Flatten("channels_first"), IMAGE),
    Case(L.Flatten(), (3,), id="Flatten() of numbers"),
    Case(L.Reshape((7, -1)), IMAGE),
    Case(L.Reshape((2, 2)), (3, 4)),
    Case(L.Permute((2, 3, 1)), IMAGE),
    Case(L.RepeatVector(3), (3, 4)),
    Case(L.ZeroPadding1D((0, 2)), SEQUENCE),
    Case(L.ZeroPadding1D(data_format="channels_first"), SEQUENCE),
    Case(L.ZeroPadding2D(), IMAGE),
    Case(L.ZeroPadding2D(((1, 0), (2, 3)), "channels_first"), IMAGE),
    Case(L.ZeroPadding3D(), SMALL),
    Case(L.ZeroPadding3D((1, 0, 2), "channels_first"), SMALL),
    Case(L.Cropping1D(), SEQUENCE),
    Case(L.Cropping1D((0, 2)), SEQUENCE),
    Case(L.Cropping2D(), IMAGE, id="Cropping2D() of nothing"),
    Case(L.Cropping2D((2, 1), "channels_first"), IMAGE),
    Case(L.Cropping3D(), VOLUME),
    Case(L.Cropping3D(((0, 1), (1, 0), (1, 1)), "channels_first"), SMALL),
    Case(L.UpSampling1D(3), SEQUENCE),
    Case(L.UpSampling1D(), SEQUENCE),
    Case(L.UpSampling2D(), IMAGE),
    Case(L.UpSampling2D((1, 3), "channels_first", "bilinear"), IMAGE),
    Case(L.UpSampling2D(interpolation="bicubic"), IMAGE),
    Case(L.UpSampling2D(interpolation="lanczos3"), IMAGE),
    Case(L.UpSampling2D(interpolation="lanczos5"), IMAGE),
    Case(L.UpSampling3D(), SMALL),
    Case(L.UpSampling3D((1, 2, 3), "channels_first"), SMALL),
    Case(L.Reverse(), masked(SEQUENCE), keras=None),
    Case(L.Reverse(-1), masked(SEQUENCE), keras=None),
    # merging
    Case(L.Add(), SEQUENCE, SEQUENCE, SEQUENCE),
    Case(L.Add(), (3, 4), SEQUENCE, id="Add() of other ranks"),
    Case(L.Add(), masked(SEQUENCE), (3, 1, 4), id="Add() masked", keras=None),
    Case(L.Add(), *ONE_STEP, id="Add() of one masked step", keras=None),
    Case(L.Subtract(), SEQUENCE, (3, 1, 4)),
    Case(L.Multiply(), SEQUENCE, SEQUENCE),
    Case(L.Average(), SEQUENCE, SEQUENCE, SEQUENCE),
    Case(L.Maximum(), SEQUENCE, SEQUENCE),
    Case(L.Minimum(), SEQUENCE, SEQUENCE),
    Case(L.Concatenate(), SEQUENCE, (3, 6, 2)),
    Case(L.Concatenate(1), SEQUENCE, (3, 2, 4)),
    Case(L.Concatenate(), masked(SEQUENCE), SEQUENCE, id="Concatenate() masked", keras=None),
    Case(L.Concatenate(1), masked(SEQUENCE), SEQUENCE, id="Concatenate(1) masked", keras=None),
    Case(L.Dot(1), (3, 4), (3, 4)),
    Case(L.Dot(-1, normalize=True), SEQUENCE, (3, 2, 4)),
    Case(L.Dot((1, 2)), (3, 4), SEQUENCE),
    Case(L.Dot((3, 1)), IMAGE, (3, 4, 2)),
    # embedding and masks
    Case(L.Embedding(9, 4), ids((3, 5), 9)),
    Case(L.Embedding(9, 4, mask_zero=True), ids((3, 5), 9)),
    Case(L.ReversibleEmbedding(9, 4, mask_zero=True), ids((3, 5), 9)),
    Case(L.ReversibleEmbedding(9, 4, False), ids((3, 5), 9)),
    Case(L.ReversibleEmbedding(9, 4, logit_soft_cap=2.0), masked(SEQUENCE), keras=None),
    Case(L.ReversibleEmbedding(9, 4, False), SEQUENCE, id="untied logits", keras=None),
    Case(L.Masking(), masked(SEQUENCE), keras=None),
    Case(
        L.Masking(),
        np.array([[[0, 1], [0, 0]], [[0, 0], [2, 1]]], "float32"),
        id="Masking() of zeros",
    ),
    Case(L.Masking(1.0), np.array([[[1, 1], [1, 2]], [[0, 0], [1, 1]]], "float32")),
    Case(L.Unmask(), masked(SEQUENCE), keras=None, without=["masked_steps_change_nothing"]),
    # simple
    Case(L.Identity(), masked(SEQUENCE)),
    Case(L.InputLayer(batch_shape=(None, None, 4)), masked(SEQUENCE), keras=None),
    Case(L.RandomFlip("horizontal"), IMAGE),
    Case(L.RandomRotation(0.2, "constant", fill_value=1.0), IMAGE),
    Case(L.RandomTranslation(0.2, (-0.3, 0.1), data_format="channels_first"), IMAGE),
    Case(L.RandomZoom(0.3, interpolation="nearest"), IMAGE),
    Case(L.RandomCrop(2, 2, seed=1), IMAGE, keras=None),
    Case(L.RandomShear(0.3, 0.1), IMAGE),
    Case(L.RandomPerspective(1.0, 0.4), IMAGE),
    Case(L.RandomBrightness(0.2, (-1, 1)), IMAGE),
    Case(L.RandomContrast(0.4, (-2, 2)), IMAGE),
    Case(L.RandomSaturation(0.4, (-2, 2)), COLORS),
    Case(L.RandomHue(0.4, (-2, 2)), COLORS),
    Case(L.RandomSharpness(0.9, (-2, 2)), IMAGE),
    Case(L.RandomColorDegeneration(0.9, (-2, 2)), COLORS),
    Case(L.RandomColorJitter((-2, 2), 0.1, 0.2, 0.3, 0.4), COLORS),
    Case(L.CutMix(), IMAGE),
    Case(L.MixUp(), IMAGE),
    Case(L.Bias(), masked(SEQUENCE), keras=None, causal=True),
    Case(L.Rescaling(1 / 255), IMAGE),
    Case(L.Rescaling(1 / 255, offset=-0.5), IMAGE),
    Case(L.Rescaling([1.0, 2.0, 3.0, 4.0], [0.5]), SEQUENCE),
    # images and sounds
    Case(L.Resizing(3, 5), IMAGE),
    Case(L.Resizing(8, 5, "bicubic", pad_to_aspect_ratio=True, fill_value=0.5), IMAGE),
    Case(L.CenterCrop(3, 4), IMAGE),
    Case(L.MaxNumBoundingBoxes(2), IMAGE),
    Case(L.AutoContrast((-3, 3)), IMAGE),
    Case(L.Equalization((-3, 3), bins=9), IMAGE, without=STEPS),
    Case(
        L.ContrastLimitedAdaptiveHistogramEqualization((-3, 3), tile_grid_size=(2, 3)),
        IMAGE,
        without=STEPS,
    ),
    Case(L.Solarization(0.3, 0.4, (-3, 3)), IMAGE),
    Case(L.RandomGrayscale(), (3, 6, 7, 3)),
    Case(L.RandomInvert(value_range=(-3, 3)), IMAGE),
    Case(L.RandomPosterization(5, (-3, 3)), IMAGE, without=STEPS),
    Case(L.RandomErasing(value_range=(-3, 3)), IMAGE),
    Case(L.RandomGaussianBlur(value_range=(-3, 3)), IMAGE),
    Case(L.RandomElasticTransform(value_range=(-3, 3)), IMAGE),
    Case(L.RandAugment((-3, 3)), (3, 6, 7, 3)),
    Case(L.AugMix((-3, 3), 2, 1), (3, 6, 7, 3)),
    Case(L.Pipeline([L.Resizing(5, 5), L.CenterCrop(3, 4)]), IMAGE, keras=None),
    # decibels are relative to the loudest of the batch
    Case(L.MelSpectrogram(16, 4, num_mel_bins=5), (3, 40), without=OF_ONE_BATCH_SIZE[:1]),
    Case(L.MelSpectrogram(16, 4, num_mel_bins=5, power_to_db=False), (3, 40)),
    Case(L.STFTSpectrogram("magnitude", 8, fft_length=8), (3, 30, 2)),
    Case(L.STFTSpectrogram("real", 8, expand_dims=True, padding="same"), (3, 30, 2)),
    Case(L.Lambda(doubled, arguments={"times": 3}), SEQUENCE),
    Case(L.Lambda(doubled, mask=same_mask), masked(SEQUENCE)),
    # operators of nodes: their twins in Keras are in test_operators.py
    Case(L.Operator("multiply", 2.0), masked(SEQUENCE), keras=None, causal=True),
    Case(L.Operator("subtract", [1.0, 2.0, 3.0, 4.0], reflected=True), SEQUENCE, keras=None),
    Case(L.Operator("power", 2), SEQUENCE, keras=None),
    Case(L.Operator("absolute"), masked(SEQUENCE), keras=None),
    Case(L.Operator("add"), masked(SEQUENCE), (3, 1, 4), keras=None),
    Case(L.Operator("multiply"), masked(SEQUENCE), masked(SEQUENCE), keras=None),
    Case(L.MatMul(), masked(SEQUENCE), (3, 4, 2), keras=None),
    Case(L.MatMul([[1.0, 2.0], [0.5, 0.0], [0.0, -1.0], [3.0, 1.0]]), masked(SEQUENCE), keras=None),
    Case(L.MatMul([[1.0, 2.0, 0.5, -1.0, 0.0, 1.0]], reflected=True), SEQUENCE, keras=None),
    Case(L.GetItem((":", "1:5", 2)), masked(SEQUENCE), keras=None),
    Case(L.GetItem((":", "::-1")), masked(SEQUENCE), keras=None),
    Case(L.GetItem(("...", None)), masked(SEQUENCE), keras=None),
    Case(  # the last step may be padding, so a mask is refused
        L.GetItem((":", -1)), SEQUENCE, keras=None, without=["masked_steps_change_nothing"]
    ),
    # recurrent
    Case(L.LSTM(3), SEQUENCE),
    Case(L.LSTM(3), masked(SEQUENCE), id="LSTM(3) masked"),
    Case(L.LSTM(3), SEQUENCE, (3, 3), (3, 3), id="LSTM(3) from a state"),
    Case(L.LSTM(3, return_sequences=True, return_state=True, go_backwards=True), SEQUENCE),
    Case(L.LSTM(3, return_sequences=True, return_state=True), masked(SEQUENCE), causal=True),
    Case(L.LSTM(3, return_sequences=True, go_backwards=True), masked(SEQUENCE)),
    Case(L.LSTM(3, return_sequences=True, zero_output_for_mask=True), masked(SEQUENCE)),
    Case(
        L.LSTM(3, activity_regularizer="l1", return_sequences=True),
        masked(SEQUENCE),
        id="LSTM penalized",
        keras=None,
    ),
    Case(
        L.LSTM(3, "relu", "hard_sigmoid", use_bias=False, unroll=True, activity_regularizer="l2"),
        FEW_STEPS,
    ),
    Case(L.LSTM(3, unit_forget_bias=False, dropout=0.3, recurrent_dropout=0.4), SEQUENCE),
    Case(L.GRU(3), SEQUENCE),
    Case(L.GRU(3, reset_after=False, return_sequences=True), masked(SEQUENCE)),
    Case(
        L.GRU(3, "relu", "hard_sigmoid", use_bias=False, dropout=0.5, activity_regularizer="l2"),
        SEQUENCE,
    ),
    Case(L.GRU(3, return_sequences=True, zero_output_for_mask=True), masked(SEQUENCE)),
    Case(L.GRU(3, go_backwards=True, unroll=True, recurrent_dropout=0.3), FEW_STEPS),
    Case(L.GRU(3, return_state=True, reset_after=False, use_bias=False), SEQUENCE, (3, 3)),
    Case(L.SimpleRNN(3), SEQUENCE),
    Case(L.SimpleRNN(3, return_sequences=True, recurrent_dropout=0.5), masked(SEQUENCE)),
    Case(L.SimpleRNN(3, return_state=True, go_backwards=True, unroll=True), FEW_STEPS),
    Case(L.SimpleRNN(3, "relu", False, dropout=0.3, zero_output_for_mask=True), masked(SEQUENCE)),
    Case(L.GRU(3, stateful=True), masked(SEQUENCE), keras=None, without=OF_ONE_BATCH_SIZE),
    Case(L.LSTMCell(3), (3, 4), (3, 3), (3, 3)),
    Case(
        L.LSTMCell(
            3,
            "relu",
            "hard_sigmoid",
            use_bias=False,
            unit_forget_bias=False,
            dropout=0.3,
            recurrent_dropout=0.4,
        ),
        *((3, 4), (3, 3), (3, 3)),
    ),
    Case(L.GRUCell(3), (3, 4), (3, 3)),
    Case(L.GRUCell(3, dropout=0.3, recurrent_dropout=0.4, seed=1), (3, 4), (3, 3)),
    Case(L.GRUCell(3, "relu", "hard_sigmoid", use_bias=False, reset_after=False), (3, 4), (3, 3)),
    Case(L.SimpleRNNCell(3), (3, 4), (3, 3)),
    Case(L.SimpleRNNCell(3, "relu", False, dropout=0.3, recurrent_dropout=0.4), (3, 4), (3, 3)),
    Case(
        L.StackedRNNCells([L.GRUCell(3), L.SimpleRNNCell(2)]),
        *((3, 4), (3, 3), (3, 2)),
        keras=lambda k: k.StackedRNNCells([k.GRUCell(3), k.SimpleRNNCell(2)]),
    ),
    Case(
        L.RNN(L.LSTMCell(3), return_sequences=True, zero_output_for_mask=True),
        masked(SEQUENCE),
        keras=lambda k: k.RNN(k.LSTMCell(3), return_sequences=True, zero_output_for_mask=True),
        causal=True,
    ),
    Case(
        L.RNN([L.GRUCell(3), L.LSTMCell(2)], return_state=True, go_backwards=True, unroll=True),
        FEW_STEPS,
        keras=lambda k: k.RNN(
            [k.GRUCell(3), k.LSTMCell(2)], return_state=True, go_backwards=True, unroll=True
        ),
    ),
    Case(
        L.Bidirectional(L.LSTM(3, return_sequences=True)),
        masked(SEQUENCE),
        keras=lambda k: k.Bidirectional(k.LSTM(3, return_sequences=True)),
    ),
    Case(
        L.Bidirectional(
            L.GRU(3, return_state=True), None, L.SimpleRNN(2, return_state=True, go_backwards=True)
        ),
        SEQUENCE,
        *((3, 3), (3, 2)),
        keras=lambda k: k.Bidirectional(
            k.GRU(3, return_state=True),
            None,
            backward_layer=k.SimpleRNN(2, return_state=True, go_backwards=True),
        ),
    ),
    Case(
        L.Bidirectional(L.LSTM(3, dropout=0.5), "mul"),
        SEQUENCE,
        keras=lambda k: k.Bidirectional(k.LSTM(3, dropout=0.5), "mul"),
    ),
    Case(L.ConvLSTM1D(3, 2, return_sequences=True, dropout=0.4), SERIES, causal=True),
    Case(
        L.ConvLSTM1D(
            2, 2, 2, "same", "channels_first", recurrent_dropout=0.4, activity_regularizer="l2"
        ),
        SERIES,
    ),
    Case(
        L.ConvLSTM1D(
            2,
            2,
            dilation_rate=2,
            activation="relu",
            recurrent_activation="hard_sigmoid",
            use_bias=False,
            unit_forget_bias=False,
            return_state=True,
            go_backwards=True,
            unroll=True,
        ),
        SERIES,
    ),
    Case(
        L.ConvLSTM2D(3, (2, 3), (1, 2), "same", return_state=True, activity_regularizer="l2"), FILM
    ),
    Case(  # Keras masks columns
        L.ConvLSTM2D(2, 2, return_sequences=True), masked(FILM), keras=None, causal=True
    ),
    Case(
        L.ConvLSTM2D(
            2,
            2,
            data_format="channels_first",
            dilation_rate=(2, 1),
            activation="relu",
            recurrent_activation="hard_sigmoid",
            use_bias=False,
            unit_forget_bias=False,
            dropout=0.3,
            recurrent_dropout=0.4,
            return_sequences=True,
            go_backwards=True,
            unroll=True,
        ),
        FILM,
    ),
    Case(
        L.ConvLSTM3D(
            2,
            2,
            dilation_rate=(2, 1, 1),
            activation="relu",
            recurrent_activation="hard_sigmoid",
            use_bias=False,
            unit_forget_bias=False,
            dropout=0.3,
            recurrent_dropout=0.4,
            return_state=True,
            go_backwards=True,
            unroll=True,
        ),
        (2, 3, 3, 3, 4, 2),
    ),
    Case(L.ConvLSTM3D(2, 2, activity_regularizer="l2"), FILM_3D),
    Case(
        L.ConvLSTM3D(1, 2, 2, "same", "channels_first", return_sequences=True),
        FILM_3D,
        causal=True,
    ),
    # activations
    Case(L.Activation("gelu"), masked(SEQUENCE)),
    Case(L.ReLU(), SEQUENCE),
    Case(L.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2), SEQUENCE),
    Case(L.LeakyReLU(), SEQUENCE),
    Case(L.LeakyReLU(0.2), SEQUENCE),
    Case(L.PReLU(), SEQUENCE),
    Case(L.PReLU(shared_axes=[1]), SEQUENCE),
    Case(L.ELU(), SEQUENCE),
    Case(L.ELU(0.7), SEQUENCE),
    Case(L.Softmax(), SEQUENCE),
    Case(L.Softmax(1), SEQUENCE),
    Case(L.Softmax((2, 3)), IMAGE),
    # dropout and noise: the identity in inference
    Case(L.Dropout(0.4), masked(SEQUENCE)),
    Case(L.Dropout(0.4, noise_shape=(None, 1, None)), SEQUENCE),
    Case(L.SpatialDropout1D(0.4), SEQUENCE),
    Case(L.SpatialDropout2D(0.4), IMAGE),
    Case(L.SpatialDropout2D(0.4, "channels_first"), IMAGE),
    Case(L.SpatialDropout3D(0.4), VOLUME),
    Case(L.SpatialDropout3D(0.4, "channels_first"), VOLUME),
    Case(L.GaussianDropout(0.4), SEQUENCE),
    Case(L.GaussianNoise(0.4), SEQUENCE),
    Case(L.AlphaDropout(0.4), SEQUENCE),
    Case(L.AlphaDropout(0.4, (None, 1, None)), SEQUENCE),
    Case(L.ActivityRegularization(0.1, 0.2), SEQUENCE),
    # normalization
    Case(L.BatchNormalization(), IMAGE),
    Case(L.BatchNormalization(axis=1, scale=False), IMAGE),
    Case(L.BatchNormalization(renorm=True, renorm_momentum=0.9), IMAGE),
    Case(L.BatchNormalization(renorm=True, renorm_clipping=CLIPPING), SEQUENCE),
    Case(L.BatchNormalization(synchronized=True), (5, 3), keras=None),  # of several devices there
    Case(L.BatchNormalization(momentum=0.9, epsilon=0.1, center=False), masked(SEQUENCE)),
    Case(L.LayerNormalization(), masked(SEQUENCE)),
    Case(L.LayerNormalization(rms_scaling=True), SEQUENCE),
    Case(L.LayerNormalization(epsilon=0.1, scale=False), SEQUENCE),
    Case(L.LayerNormalization(axis=(1, 2), center=False), SEQUENCE),
    Case(L.GroupNormalization(), (2, 3, 64)),
    Case(L.GroupNormalization(2), IMAGE),
    Case(L.GroupNormalization(3, 1, 0.1, center=False, scale=False), IMAGE),
    Case(
        L.GroupNormalization(2),
        SEQUENCE,
        id="GroupNormalization(groups=2) of a sequence",
    ),
    Case(L.RMSNormalization(), SEQUENCE),
    Case(L.RMSNormalization((2, 3), 0.1), IMAGE),
    Case(L.UnitNormalization(), SEQUENCE),
    Case(L.UnitNormalization((2, 3)), IMAGE),
    # combinators: their numbers have oracles of their own in test_combinators.py
    Case(
        L.Sequential([L.Dense(4, "relu"), L.BatchNormalization(), L.Dense(2)]), (6, 3), keras=None
    ),
    Case(L.Sequential([L.Dropout(0.5), L.LSTM(3)]), masked(SEQUENCE), keras=None),
    Case(L.Residual(L.Dense(4, "tanh")), masked(SEQUENCE), keras=None),
    Case(L.Parallel([L.Dense(2), L.Dense(3)], merge=L.Concatenate()), SEQUENCE, keras=None),
    Case(L.Parallel([L.Dense(2), L.Dropout(0.5)]), SEQUENCE, keras=None),
    Case(L.Repeat(L.Residual(L.Sequential([L.Dense(4), L.Dropout(0.3)])), 3), SEQUENCE, keras=None),
    Case(L.Remat(L.Sequential([L.Dense(4), L.Dropout(0.3)])), SEQUENCE, keras=None),
    Case(L.Frozen(L.Sequential([L.Dense(4), L.BatchNormalization()])), (6, 3), keras=None),
    Case(L.Inference(L.Sequential([L.Dense(4), L.BatchNormalization()])), (6, 3), keras=None),
    Case(
        L.TimeDistributed(L.Dense(3)),
        masked(SEQUENCE),
        keras=lambda k: k.TimeDistributed(k.Dense(3)),
    ),
    Case(
        L.TimeDistributed(L.BatchNormalization()),
        SEQUENCE,
        keras=lambda k: k.TimeDistributed(k.BatchNormalization()),
    ),
    Case(L.Ensemble(L.Sequential([L.Dense(4), L.Dropout(0.3)]), 3), (5, 3), keras=None),
    Case(L.Ensemble(L.Residual(L.Dense(4)), 2), masked(SEQUENCE), keras=None),
    Case(L.Spread(L.Ensemble(L.Dense(4, "tanh"), 3)), masked(SEQUENCE), keras=None),
    Case(
        L.SpectralNormalization(L.Dense(5, "tanh")),
        masked(SEQUENCE),
        keras=lambda k: k.SpectralNormalization(k.Dense(5, "tanh")),
    ),
    Case(
        L.SpectralNormalization(L.Conv2D(5, 3), power_iterations=2),
        IMAGE,
        keras=lambda k: k.SpectralNormalization(k.Conv2D(5, 3), 2),
    ),
    Case(L.Quantized(L.Sequential([L.Dense(4), L.Repeat(L.Dense(4), 2)])), (3, 4), keras=None),
    Case(
        L.LoRA(L.Sequential([L.Dense(4), L.Dropout(0.3), L.Repeat(L.Dense(4), 2)]), 2, alpha=3.0),
        masked(SEQUENCE),
        keras=None,
    ),
    Case(L.MixtureOfExperts(L.Dense(5, "tanh"), 4), masked(SEQUENCE), keras=None),
    Case(
        L.MixtureOfExperts(L.Sequential([L.Dense(4), L.BatchNormalization()]), 3, 1, balance=0.1),
        SEQUENCE,
        keras=None,
    ),
    Case(
        L.MixtureOfExperts(L.Dense(5, "tanh"), 4, capacity_factor=0.5),
        masked(SEQUENCE),
        keras=None,
        without=["an_example_alone_is_as_in_the_batch", "batch_order_changes_nothing"],
    ),
    Case(_graph(), (4, 3), (4, 2), id="Graph", keras=None),
    # attention and its parts: their twins in Keras are in test_attention.py and test_networks.py
    Case(L.MultiHeadAttention(2, 3), SEQUENCE, keras=None),
    Case(L.MultiHeadAttention(2, 3, dropout=0.4, use_gate=True), SEQUENCE, (3, 2, 5), keras=None),
    Case(
        L.MultiHeadAttention(2, 3, 2, output_shape=(2, 3), return_attention_scores=True),
        masked(SEQUENCE),
        masked((3, 2, 5)),
        keras=None,
    ),
    Case(
        L.MultiHeadAttention(2, 4, use_causal_mask=True, position=L.RotaryEmbedding()),
        masked(SEQUENCE),
        keras=None,
        causal=True,
    ),
    Case(L.MultiHeadAttention(2, 3, attention_axes=2, sliding_window=2), IMAGE, IMAGE, keras=None),
    Case(L.GroupedQueryAttention(3, 4, 2, dropout=0.4), masked(SEQUENCE), keras=None),
    Case(
        L.GroupedQueryAttention(
            2, 2, 1, sliding_window=2, use_gate=True, return_attention_scores=True
        ),
        SEQUENCE,
        keras=None,
    ),
    Case(
        L.MultiHeadAttention(2, 3, activity_regularizer="l2"),
        masked(SEQUENCE),
        id="MultiHeadAttention penalized",
        keras=None,
    ),
    Case(L.GroupedQueryAttention(3, 4, 2, use_causal_mask=True), SEQUENCE, keras=None, causal=True),
    Case(L.Attention(), SEQUENCE, (3, 2, 4)),
    Case(L.Attention(True, "concat", 0.3), masked(SEQUENCE), masked(SEQUENCE)),
    Case(L.Attention(use_causal_mask=True), SEQUENCE, SEQUENCE, causal=True),
    Case(L.Attention(return_attention_scores=True), SEQUENCE, (3, 2, 4), (3, 2, 4)),
    Case(L.AdditiveAttention(), SEQUENCE, (3, 2, 4)),
    Case(L.AdditiveAttention(return_attention_scores=True), SEQUENCE, (3, 2, 4)),
    Case(L.AdditiveAttention(False, 0.3), masked(SEQUENCE), masked(SEQUENCE)),
    Case(L.AdditiveAttention(use_causal_mask=True), masked(SEQUENCE), SEQUENCE),
    Case(L.EinsumDense("abc,cde->abde", (None, 2, 3), "relu", "e"), masked(SEQUENCE)),
    Case(L.EinsumDense("ab...,bc->ac...", 5, activity_regularizer="l2"), IMAGE),
    Case(L.PositionEmbedding(9), masked(SEQUENCE), keras=None),
    Case(L.SinusoidalPosition(), masked(SEQUENCE), keras=None),
    Case(L.RotaryEmbedding(), IMAGE, keras=None, causal=True),
    Case(L.GatedDense(3), masked(SEQUENCE), keras=None),
    Case(L.TransformerEncoderBlock(4, 2, dropout=0.3), masked(SEQUENCE), keras=None),
    Case(
        L.TransformerEncoderBlock(4, 2, normalize_first=False, position=L.RotaryEmbedding()),
        masked(SEQUENCE),
        keras=None,
    ),
    Case(
        L.TransformerDecoderBlock(4, 2, normalize_first=False, position=L.RotaryEmbedding()),
        SEQUENCE,
        (3, 2, 5),
        keras=None,
        causal=True,
    ),
    Case(L.TransformerEncoderBlock(4, 2, use_causal_mask=True), SEQUENCE, keras=None, causal=True),
    Case(
        L.TransformerDecoderBlock(4, 2, dropout=0.3),
        SEQUENCE,
        masked((3, 2, 5)),
        keras=None,
        causal=True,
    ),
]

# Of each class the rows that are also run where a trace of the others says enough: its first, and
# the first with a mask.
COMPILED = {
    (type(case.layer), any(isinstance(given, Masked) for given in case.inputs)): case
    for case in reversed(CATALOGUE)
}.values()


def first_of_modules(cases):
    """Of each module of layers the first row: one of each mechanism."""
    rows = {type(case.layer).__module__: case for case in reversed(list(cases))}
    return list(rows.values())
