"""What `fnn.ops` says to arguments that cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import ops
from fnn.ops import image

X = jnp.ones((2, 3))
IMAGES = jnp.ones((2, 6, 5, 3))
POINTS = jnp.ones((4, 2))
OTHER = jnp.ones((3, 3))

CASES = {
    "data_format": (lambda: ops.max_pool(IMAGES, 2, 2, data_format="last"), "'channels_last' or"),
    "padding": (lambda: ops.average_pool(IMAGES, 2, 2, "full"), "'valid' or 'same', .*'full'"),
    "adaptive": (lambda: ops.adaptive_max_pool(X, 2), r"1, 2 or 3 axes of space.*\(2, 3\)"),
    "adaptive size": (
        lambda: ops.adaptive_average_pool(IMAGES, (10**9, 2)),
        "expected output_size of at most 10000",
    ),
    "conv": (lambda: ops.conv(IMAGES, jnp.ones((2, 2, 2, 4))), "conv: expected channels that 2"),
    "conv empty": (lambda: ops.conv(IMAGES, jnp.ones((9, 2, 3, 4))), "as large as the kernel"),
    "depthwise": (
        lambda: ops.depthwise_conv(IMAGES, jnp.ones((2, 2, 2, 1))),
        "depthwise_conv: expected inputs of 2 channels",
    ),
    "transpose": (
        lambda: ops.conv_transpose(IMAGES, jnp.ones((2, 2, 4, 2))),
        "conv_transpose: expected inputs of 2 channels",
    ),
    "unfold": (lambda: ops.unfold(X, 2), "unfold: expected an array of four axes"),
    "fold": (lambda: ops.fold(X, 4, 2), "fold: expected an array of three axes"),
    "block": (lambda: ops.depth_to_space(IMAGES, 1), "block_size of 2 or more, received 1"),
    "crossentropy": (lambda: ops.binary_crossentropy(X, OTHER), "target and output of one shape"),
    "no classes": (lambda: ops.categorical_crossentropy(1.0, 1.0), "an axis of classes"),
    "sparse": (lambda: ops.sparse_categorical_crossentropy(X, OTHER), "a class for each row"),
    "moments": (lambda: ops.moments(X, 0, synchronized=True), "expected synchronized=False"),
    "normalization": (lambda: ops.layer_normalization(X, gama=1), "expected no argument 'gama'"),
    "normalize": (lambda: ops.normalize(X, order=0), "order to be an integer of 1 or more"),
    "one_hot": (lambda: ops.one_hot(1, 3, sparse=True), "one_hot: expected sparse=False"),
    "multi_hot": (lambda: ops.multi_hot([1]), "multi_hot: expected num_classes"),
    "attention": (lambda: ops.dot_product_attention(X, X, X), r"\(batch, time, heads, features\)"),
    "soft cap": (
        lambda: ops.dot_product_attention(IMAGES, IMAGES, IMAGES, attn_logits_soft_cap=1.0),
        "expected attn_logits_soft_cap=None, received 1.0",
    ),
    "decode": (lambda: ops.ctc_decode(IMAGES[0], [1] * 6, "best"), "'greedy' or 'beam_search'"),
    "matrix": (lambda: ops.pinv(X[0]), "pinv: expected an array of two axes or more"),
    "square": (lambda: ops.det(X), "det: expected square matrices"),
    "system": (lambda: ops.solve(OTHER, X), "solve: expected b with 3 equations"),
    "no equations": (lambda: ops.solve(OTHER, 1.0), "an axis of equations, received a number"),
    "cholesky": (lambda: ops.cholesky(-OTHER), "positive definite matrices, received one that"),
    "qr": (lambda: ops.qr(X, "raw"), "'reduced' or 'complete', received 'raw'"),
    "fft": (lambda: ops.fft(X), "fft: expected a pair of arrays"),
    "fft shapes": (lambda: ops.fft((X, OTHER)), "fft: expected real and imaginary parts of one"),
    "fft dtypes": (lambda: ops.fft2((X, X.astype(int))), "fft2: expected parts of floats"),
    "window": (lambda: ops.stft(X, 2, 1, 2, "bell"), "'hann', 'hamming', an array or None"),
    "window size": (lambda: ops.stft(X, 2, 1, 2, [1.0] * 3), r"a window of shape \(2,\)"),
    "stride": (lambda: ops.istft((X, X), 2, 0, 2), "sequence_stride to be a positive integer"),
    "stft": (lambda: ops.stft(X.astype(int), 2, 1, 2), "stft: expected float32 or float64"),
    "stft size": (lambda: ops.stft(X, 3, 1, 2), "fft_length of at least 3"),
    "istft": (lambda: ops.istft((X[0], X[0]), 2, 1, 4), r"\(..., frames, frequencies\)"),
    "scan": (lambda: ops.scan(lambda c, x: (c, x), 0, X, unroll=0), "unroll to be a positive"),
    "tensor": (lambda: ops.convert_to_tensor(X, sparse=True), "no sparse or ragged arrays"),
    "scatter": (lambda: ops.scatter_update(X, [[0]], 1.0, "mean"), "reduction to be 'add'"),
    "unstack": (lambda: ops.unstack(jnp.ones(10_001)), "an axis of at most 10000"),
    "segments": (lambda: ops.segment_sum(X, [0], 2), "segment_sum: expected segment_ids of one"),
    "number": (lambda: ops.segment_max(X, [0, 1]), "segment_max: expected num_segments"),
    "cdist": (lambda: ops.cdist(X, X.T), "cdist: expected arrays of two axes or more"),
    "complex": (lambda: ops.view_as_complex(X), "a last axis of size 2"),
    "rearrange": (lambda: ops.rearrange(X, "a b c -> c"), "'axes -> axes' with 2 axes"),
    "einsum": (lambda: ops.einsum("ij->ji", X, optimize="optimal"), "'auto', 'greedy', True"),
    "gray": (lambda: image.rgb_to_grayscale(IMAGES[..., :2]), "3 channels, or 1, received 2"),
    "image": (lambda: image.rgb_to_grayscale(X), "one image .three axes. or a batch"),
    "hsv": (lambda: image.rgb_to_hsv(IMAGES.astype(int)), "images of floats"),
    "resize": (lambda: image.resize(IMAGES, (2, 0)), "two positive integers"),
    "interpolation": (lambda: image.resize(IMAGES, (2, 2), "best"), "interpolation among"),
    "both": (
        lambda: image.resize(IMAGES, (2, 2), crop_to_aspect_ratio=True, pad_to_aspect_ratio=True),
        "received both",
    ),
    "method": (
        lambda: image.scale_and_translate(X, (2, 2), [1.0, 1.0], [0.0, 0.0], (0, 1), "best"),
        "method among linear",
    ),
    "pad": (lambda: image.pad_images(IMAGES, 1, 1, 1, 1, 9), "expected two of the borders"),
    "borders": (lambda: image.pad_images(IMAGES, -1, 0, 0, 0), "borders of 0 or more"),
    "patches": (lambda: image.extract_patches(IMAGES, (1, 2, 3, 4)), "2 or 3 integers"),
    "patches 3d": (lambda: image.extract_patches_3d(IMAGES, (1, 2)), "3 integers"),
    "coordinates": (lambda: image.map_coordinates(X, X.T, 1), r"shape \(2, ...\)"),
    "order": (lambda: image.map_coordinates(X, X, 2), "order 0 or 1"),
    "affine": (lambda: image.affine_transform(IMAGES, IMAGES), "a transform of 8 numbers"),
    "fill": (
        lambda: image.affine_transform(IMAGES, jnp.ones(8), fill_mode="zero"),
        "fill_mode among constant",
    ),
    "points": (lambda: image.perspective_transform(IMAGES, POINTS, X), r"shape \(4, 2\)"),
}


@pytest.mark.parametrize("case", CASES)
def test_arguments_that_cannot_be(case):
    call, match = CASES[case]
    with pytest.raises((ValueError, TypeError, NotImplementedError), match=match):
        call()


def test_a_cholesky_factor_is_not_looked_at_under_jit():
    assert bool(jnp.isnan(jax.jit(ops.cholesky)(-OTHER)).any())


def test_nodes_have_no_values_and_their_questions_have_answers():
    x = fnn.Input((3,), dtype="bfloat16")
    with pytest.raises(TypeError, match=r"received a symbolic node, .* call predict"):
        ops.convert_to_numpy(x)
    assert (ops.shape(x), ops.ndim(x), ops.dtype(x)) == ((None, 3), 2, "bfloat16")
    assert not ops.is_tensor(x)
    with pytest.raises(ValueError, match="unstack: expected results whose number is known"):
        ops.unstack(x)
    assert len(ops.unstack(fnn.Input((3,), batch_size=2))) == 2


@pytest.mark.parametrize("name", ["indices_or_sections", "beam_width"])
def test_a_program_without_end_is_refused(name):
    x = fnn.Input((20_000,))
    with pytest.raises(ValueError, match=f"to hold {name} of at most 10000"):
        ops.split(x, 20_000, axis=1) if name[0] == "i" else ops.ctc_decode(
            fnn.Input((5, 3)), fnn.Input((), dtype="int32"), "beam_search", beam_width=10**9
        )


def test_defaults_that_keras_leaves_to_the_front():
    """Here `max_pool` without strides works, and `gaussian_blur` without a format is as all are."""
    np.testing.assert_array_equal(ops.max_pool(IMAGES, 2), ops.max_pool(IMAGES, 2, 2))
    np.testing.assert_array_equal(
        image.gaussian_blur(IMAGES), image.gaussian_blur(IMAGES, data_format="channels_last")
    )
