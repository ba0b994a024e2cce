"""Functions of neural networks, by Keras's names: activations, convolution, losses."""

from __future__ import annotations

import jax

from fnn.ops import layerwise, pooling, sequences, spatial
from fnn.ops.table import Table, functions, rows

_ACTIVATIONS: Table = {
    **rows(
        "(x)",
        "hard_sigmoid hard_silu hard_swish hard_tanh log_sigmoid relu relu6 selu sigmoid "
        "silu softplus sparse_plus sparse_sigmoid swish",
        jax.nn,
    ),
    "softsign(x)": jax.nn.soft_sign,
    "celu(x, alpha=1.0)": jax.nn.celu,
    "elu(x, alpha=1.0)": jax.nn.elu,
    "gelu(x, approximate=True)": jax.nn.gelu,
    "glu(x, axis=-1)": jax.nn.glu,
    "leaky_relu(x, negative_slope=0.2)": jax.nn.leaky_relu,
    "squareplus(x, b=4)": jax.nn.squareplus,
    **rows("(x, axis=-1)", "log_softmax softmax sparsemax", layerwise),
    **rows("(x, threshold=0.5)", "hard_shrink soft_shrink", layerwise),
    "tanh_shrink(x)": layerwise.tanh_shrink,
    "threshold(x, threshold, default_value)": layerwise.threshold,
}

_SPACE: Table = {
    **rows(
        "(inputs, output_size, data_format=None)",
        "adaptive_average_pool adaptive_max_pool",
        pooling,
    ),
    **rows(
        "(inputs, pool_size, strides=None, padding='valid', data_format=None)",
        "average_pool max_pool",
        pooling,
    ),
    **rows(
        "(inputs, kernel, strides=1, padding='valid', data_format=None, dilation_rate=1)",
        "conv depthwise_conv",
        spatial,
    ),
    "conv_transpose(inputs, kernel, strides=1, padding='valid', output_padding=None, "
    "data_format=None, dilation_rate=1)": spatial.conv_transpose,
    "separable_conv(inputs, depthwise_kernel, pointwise_kernel, strides=1, "
    "padding='valid', data_format=None, dilation_rate=1)": spatial.separable_conv,
    **rows(
        "(x, block_size, data_format='channels_last')",
        "depth_to_space space_to_depth",
        spatial,
    ),
    "fold(x, output_size, kernel_size, dilation=1, padding=0, stride=1)": spatial.fold,
    "unfold(x, kernel_size, dilation=1, padding=0, stride=1)": spatial.unfold,
}

_LAYERS: Table = {
    "binary_crossentropy(target, output, from_logits=False)": (
        layerwise.binary_crossentropy
    ),
    **rows(
        "(target, output, from_logits=False, axis=-1)",
        "categorical_crossentropy sparse_categorical_crossentropy",
        layerwise,
    ),
    "ctc_loss(target, output, target_length, output_length, mask_index=0)": (
        sequences.ctc_loss
    ),
    "ctc_decode(inputs, sequence_lengths, strategy='greedy', beam_width=100, "
    "top_paths=1, merge_repeated=True, mask_index=0)": sequences.ctc_decode,
    "batch_normalization(x, mean, variance, axis, offset=None, scale=None, "
    "epsilon=0.001)": layerwise.batch_normalization,
    "layer_normalization(x, gamma=None, beta=None, axis=-1, epsilon=None, **kwargs)": (
        layerwise.layer_normalization
    ),
    "rms_normalization(x, scale=None, axis=-1, epsilon=None)": (
        layerwise.rms_normalization
    ),
    "normalize(x, axis=-1, order=2, epsilon=None)": layerwise.normalize,
    "moments(x, axes, keepdims=False, synchronized=False)": layerwise.moments,
    "one_hot(x, num_classes, axis=-1, dtype=None, sparse=False)": layerwise.one_hot,
    "multi_hot(inputs, num_classes=None, axis=-1, dtype=None, sparse=False, **kwargs)": (
        layerwise.multi_hot
    ),
    "dot_product_attention(query, key, value, bias=None, mask=None, scale=None, "
    "is_causal=False, flash_attention=None, attn_logits_soft_cap=None)": (
        layerwise.dot_product_attention
    ),
    "polar(abs_, angle)": layerwise.polar,
    "psnr(x1, x2, max_val)": layerwise.psnr,
}

_MODULE = functions(__name__, _ACTIVATIONS | _SPACE | _LAYERS)
globals().update(_MODULE)
__all__ = list(_MODULE)
