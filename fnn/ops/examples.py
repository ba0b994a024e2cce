"""Examples: a call of each function and what it returns, for the docstring of the function."""

from __future__ import annotations

import re

from fnn.ops.numpy_examples import NUMPY

_FUNCTION = re.compile(r"^.*?\bops\.(?:image\.)?(\w+)", re.MULTILINE)

# A call and its result in a line each; lines without a result prepare the next call.
CORE = """
sums = jax.jit(lambda x: ops.associative_scan(jnp.add, x))
sums(np.arange(4)) -> Array([0, 1, 3, 6], dtype=int32)
ops.cast([1.7, -1.7], "int32") -> Array([ 1, -1], dtype=int32)
ops.cdist([[0.0, 0.0]], [[3.0, 4.0], [0.0, 1.0]]).tolist() -> [[5.0, 1.0]]
ops.cond(True, lambda: jnp.ones(2), lambda: jnp.zeros(2)) -> Array([1., 1.], dtype=float32)
ops.convert_to_tensor([1, 2], dtype="float32") -> Array([1., 2.], dtype=float32)
np.float64(ops.erf([0.0, 1.0])).round(3) -> array([0. , 0.843])
np.float64(ops.erfc([0.0, 1.0])).round(3) -> array([1. , 0.157])
np.float64(ops.erfinv([0.0, 0.5])).round(3) -> array([0. , 0.477])
ops.extract_sequences([1, 2, 3, 4, 5], 3, 2).tolist() -> [[1, 2, 3], [3, 4, 5]]
ops.fft(([1.0, 1.0], [0.0, 0.0]))[0] -> Array([2., 0.], dtype=float32)
ops.fft2((np.ones((2, 2)), np.zeros((2, 2))))[0].tolist() -> [[4.0, 0.0], [0.0, 0.0]]
ops.fori_loop(0, 4, lambda i, total: total + i, 10).item() -> 16
ops.ifft2((np.ones((2, 2)), np.zeros((2, 2))))[0].tolist() -> [[1.0, 0.0], [0.0, 0.0]]
ops.in_top_k([0, 1], [[0.1, 0.7, 0.2], [0.1, 0.7, 0.2]], k=2) -> Array([False, True], dtype=bool)
ops.irfft(([2.0, 0.0], [0.0, 0.0])) -> Array([1., 1.], dtype=float32)
again = jax.jit(lambda x: ops.istft(ops.stft(x, 4, 2, 4), 4, 2, 4))
np.float64(again(np.ones(6, "f"))).round(3) -> array([1., 1., 1., 1., 1., 1.])
np.float64(ops.logdet([[2.0, 0.0], [0.0, 2.0]])).round(3) -> np.float64(1.386)
np.float64(ops.logsumexp([0.0, 0.0])).round(3) -> np.float64(0.693)
ops.map(lambda x: x * x, np.arange(3)) -> Array([0, 1, 4], dtype=int32)
ops.rearrange(np.zeros((2, 3, 4)), "b h w -> b (h w)").shape -> (2, 12)
ops.rfft([1.0, 0.0, 0.0, 0.0])[0] -> Array([1., 1., 1.], dtype=float32)
ops.rsqrt([4.0, 16.0]) -> Array([0.5 , 0.25], dtype=float32)
ops.saturate_cast([300.0, -5.0], "uint8") -> Array([255, 0], dtype=uint8)
total, before = ops.scan(lambda total, x: (total + x, total), 0, np.arange(4))
total.item(), before.tolist() -> (6, [0, 0, 1, 3])
ops.scatter([[0], [2]], [5, 7], (4,)) -> Array([5, 0, 7, 0], dtype=int32)
ops.scatter_update([1, 2, 3], [[0], [2]], [10, 30]) -> Array([10, 2, 30], dtype=int32)
ops.segment_max([1, 5, 3], [0, 0, 1], num_segments=2) -> Array([5, 3], dtype=int32)
ops.segment_min([1, 5, 3], [0, 0, 1], num_segments=2) -> Array([1, 3], dtype=int32)
ops.segment_prod([2, 5, 3], [0, 0, 1], num_segments=2) -> Array([10, 3], dtype=int32)
ops.segment_sum([1, 5, 3], [0, 0, 1], num_segments=2) -> Array([6, 3], dtype=int32)
ops.slice([1, 2, 3, 4], (1,), (2,)) -> Array([2, 3], dtype=int32)
ops.slice_update([1, 2, 3, 4], (1,), [20, 30]) -> Array([ 1, 20, 30, 4], dtype=int32)
jax.jit(lambda x: ops.stft(x, 4, 2, 4))(np.ones(8, "f"))[0].shape -> (5, 3)
jax.grad(lambda x: x * ops.stop_gradient(x))(3.0).item() -> 3.0
ops.switch(1, [lambda x: x, lambda x: 10 * x], 5).item() -> 50
ops.top_k([3, 9, 5], 2) -> (Array([9, 5], dtype=int32), Array([1, 2], dtype=int32))
ops.unstack([[1, 2], [3, 4]]) -> [Array([1, 2], dtype=int32), Array([3, 4], dtype=int32)]
ops.vectorized_map(lambda x: x.sum(), np.array([[1, 2], [3, 4]])) -> Array([3, 7], dtype=int32)
ops.view_as_complex([[1.0, 2.0]]) -> Array([1.+2.j], dtype=complex64)
ops.view_as_real([1 + 2j]).tolist() -> [[1.0, 2.0]]
ops.while_loop(lambda i: i < 5, lambda i: (i + 2,), (0,))[0].item() -> 6
"""

NN = """
ops.adaptive_average_pool(np.float32([[[1], [3], [5], [7]]]), 2).tolist() -> [[[2.0], [6.0]]]
ops.adaptive_max_pool(np.float32([[[1], [3], [5], [7]]]), 2).tolist() -> [[[3.0], [7.0]]]
ops.average_pool(np.float32([[[1], [3], [5], [7]]]), 2, 2).tolist() -> [[[2.0], [6.0]]]
x = np.float32([[1], [5]])
np.float64(ops.batch_normalization(x, [3.0], [4.0], axis=-1)).round(3).tolist() -> [[-1.0], [1.0]]
np.float64(ops.binary_crossentropy([1.0, 0.0], [0.9, 0.9])).round(3) -> array([0.105, 2.303])
np.float64(ops.categorical_crossentropy([[0.0, 1.0]], [[0.2, 0.8]])).round(3) -> array([0.223])
np.float64(ops.celu([-1.0, 2.0])).round(3) -> array([-0.632, 2. ])
x, kernel = np.float32([[[1], [2], [4]]]), np.float32([[[1]], [[-1]]])
ops.conv(x, kernel).tolist() -> [[[-1.0], [-2.0]]]
x, kernel = np.float32([[[1], [2]]]), np.float32([[[1]], [[10]]])
ops.conv_transpose(x, kernel, 2).tolist() -> [[[1.0], [10.0], [2.0], [20.0]]]
logits = 5 * np.eye(3, dtype="f")[[[1, 1, 0, 2]]]
jax.jit(ops.ctc_decode)(logits, np.array([4]))[0].tolist() -> [[[1, 2, -1, -1]]]
labels, outputs = np.array([[1]]), np.zeros((1, 2, 2), "f")
loss = jax.jit(ops.ctc_loss)(labels, outputs, np.array([1]), np.array([2]))
np.float64(loss).round(3) -> array([0.288])
ops.depth_to_space(np.arange(4).reshape(1, 1, 1, 4), 2).squeeze().tolist() -> [[0, 1], [2, 3]]
x, kernel = np.float32([[[1, 1], [2, 3]]]), np.float32([[[1], [1]], [[1], [10]]])
ops.depthwise_conv(x, kernel).tolist() -> [[[3.0, 31.0]]]
x = np.eye(2, dtype="f").reshape(1, 2, 1, 2)
np.float64(jax.jit(ops.dot_product_attention)(x, x, x)[0, 0, 0]).round(2) -> array([0.67, 0.33])
np.float64(ops.elu([-1.0, 2.0])).round(3) -> array([-0.632, 2. ])
ops.fold(np.ones((1, 2, 2), "f"), (3, 1), (2, 1)).ravel().tolist() -> [1.0, 2.0, 1.0]
np.float64(ops.gelu([-1.0, 2.0])).round(3) -> array([-0.159, 1.955])
ops.glu([1.0, 2.0, 0.0, 100.0]) -> Array([0.5, 2. ], dtype=float32)
ops.hard_shrink([-1.0, 0.3, 2.0]) -> Array([-1., 0., 2.], dtype=float32)
ops.hard_sigmoid([-4.0, 0.0, 4.0]) -> Array([0. , 0.5, 1. ], dtype=float32)
ops.hard_silu([-4.0, 0.0, 4.0]) -> Array([-0., 0., 4.], dtype=float32)
ops.hard_swish([-4.0, 0.0, 4.0]) -> Array([-0., 0., 4.], dtype=float32)
ops.hard_tanh([-4.0, 0.5, 4.0]) -> Array([-1. , 0.5, 1. ], dtype=float32)
np.float64(ops.layer_normalization([[1.0, 3.0]], axis=-1)).round(2).tolist() -> [[-1.0, 1.0]]
ops.leaky_relu([-1.0, 2.0]) -> Array([-0.2, 2. ], dtype=float32)
np.float64(ops.log_sigmoid([0.0, 2.0])).round(3) -> array([-0.693, -0.127])
np.float64(ops.log_softmax([0.0, 0.0])).round(3) -> array([-0.693, -0.693])
ops.max_pool(np.float32([[[1], [3], [5], [7]]]), 2, 2).tolist() -> [[[3.0], [7.0]]]
ops.moments([1.0, 3.0], axes=0) -> (Array(2., dtype=float32), Array(1., dtype=float32))
ops.multi_hot([0, 2], 4) -> Array([1., 0., 1., 0.], dtype=float32)
np.float64(ops.normalize([3.0, 4.0])).round(3) -> array([0.6, 0.8])
ops.one_hot([1, 0], 3).tolist() -> [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
ops.polar([1.0, 2.0], [0.0, 0.0]) -> Array([1.+0.j, 2.+0.j], dtype=complex64)
np.float64(ops.psnr([0.0, 1.0], [0.0, 0.9], max_val=1.0)).round(1) -> np.float64(23.0)
ops.relu([-1.0, 2.0]) -> Array([0., 2.], dtype=float32)
ops.relu6([-1.0, 2.0, 9.0]) -> Array([0., 2., 6.], dtype=float32)
np.float64(ops.rms_normalization([3.0, 4.0])).round(3) -> array([0.849, 1.131])
np.float64(ops.selu([-1.0, 2.0])).round(3) -> array([-1.111, 2.101])
x, kernel = np.float32([[[1], [2]]]), np.float32([[[1]]])
ops.separable_conv(x, kernel, np.float32([[[3, 5]]])).tolist() -> [[[3.0, 5.0], [6.0, 10.0]]]
np.float64(ops.sigmoid([0.0, 2.0])).round(3) -> array([0.5 , 0.881])
np.float64(ops.silu([0.0, 2.0])).round(3) -> array([0. , 1.762])
ops.soft_shrink([-1.0, 0.3, 2.0]) -> Array([-0.5, 0. , 1.5], dtype=float32)
np.float64(ops.softmax([0.0, 1.0])).round(3) -> array([0.269, 0.731])
np.float64(ops.softplus([0.0, 2.0])).round(3) -> array([0.693, 2.127])
ops.softsign([-1.0, 3.0]) -> Array([-0.5 , 0.75], dtype=float32)
ops.space_to_depth(np.arange(4).reshape(1, 2, 2, 1), 2).tolist() -> [[[[0, 1, 2, 3]]]]
np.float64(ops.sparse_categorical_crossentropy([1], [[0.2, 0.8]])).round(3) -> array([0.223])
ops.sparse_plus([-2.0, 0.0, 2.0]) -> Array([0. , 0.25, 2. ], dtype=float32)
ops.sparse_sigmoid([-2.0, 0.0, 2.0]) -> Array([0. , 0.5, 1. ], dtype=float32)
ops.sparsemax([0.0, 0.5, 3.0]) -> Array([0., 0., 1.], dtype=float32)
np.float64(ops.squareplus([0.0, 2.0])).round(3) -> array([1. , 2.414])
np.float64(ops.swish([0.0, 2.0])).round(3) -> array([0. , 1.762])
np.float64(ops.tanh_shrink([0.0, 2.0])).round(3) -> array([0. , 1.036])
ops.threshold([0.2, 0.8], threshold=0.5, default_value=0.0) -> Array([0. , 0.8], dtype=float32)
x = np.arange(4.0).reshape(1, 1, 4, 1)
ops.unfold(x, (2, 1)).tolist() -> [[[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]]]
"""

LINALG = """
ops.cholesky([[4.0, 0.0], [0.0, 9.0]]).tolist() -> [[2.0, 0.0], [0.0, 3.0]]
ops.cholesky_inverse([[2.0, 0.0], [0.0, 1.0]]).tolist() -> [[0.25, 0.0], [0.0, 1.0]]
np.float64(ops.det([[1.0, 2.0], [3.0, 4.0]])).round(3) -> np.float64(-2.0)
ops.eig([[2.0, 0.0], [0.0, 3.0]])[0].real -> Array([2., 3.], dtype=float32)
np.float64(ops.eigh([[2.0, 0.0], [0.0, 3.0]])[0]).round(3) -> array([2., 3.])
ops.inv([[2.0, 0.0], [0.0, 4.0]]).tolist() -> [[0.5, 0.0], [0.0, 0.25]]
[x.item() for x in ops.jvp(jnp.square, (3.0,), (1.0,))] -> [9.0, 6.0]
np.float64(ops.lstsq([[1.0], [1.0]], [2.0, 4.0])).round(3) -> array([3.])
ops.lu_factor([[2.0, 0.0], [0.0, 4.0]])[0].tolist() -> [[2.0, 0.0], [0.0, 4.0]]
ops.matrix_rank([[1.0, 2.0], [2.0, 4.0]]) -> Array(1, dtype=int32)
ops.norm([3.0, 4.0]) -> Array(5., dtype=float32)
np.float64(ops.pinv([[2.0], [0.0]])).round(3).tolist() -> [[0.5, 0.0]]
np.float64(ops.qr([[3.0], [4.0]])[1]).round(3).tolist() -> [[-5.0]]
ops.solve([[2.0, 0.0], [0.0, 4.0]], [2.0, 8.0]) -> Array([1., 2.], dtype=float32)
ops.solve_triangular([[2.0, 0.0], [1.0, 1.0]], [2.0, 5.0], lower=True).tolist() -> [1.0, 4.0]
np.float64(ops.svd([[3.0, 0.0], [0.0, 2.0]])[1]).round(3) -> array([3., 2.])
"""

IMAGE = """
x = np.float32([[[1], [2], [3]]])
move = np.float32([1, 0, 1, 0, 1, 0, 0, 0])
jax.jit(ops.image.affine_transform)(x, move).ravel().tolist() -> [2.0, 3.0, 0.0]
ops.image.crop_images(np.arange(9).reshape(3, 3, 1), 1, 1, 1, 1).tolist() -> [[[4]]]
bend = jax.jit(lambda x: ops.image.elastic_transform(x, seed=0))
bend(np.ones((4, 4, 1), "f")).shape -> (4, 4, 1)
x = np.arange(4.0).reshape(2, 2, 1)
ops.image.extract_patches(x, (1, 2)).squeeze().tolist() -> [[0.0, 1.0], [2.0, 3.0]]
ops.image.extract_patches_3d(np.zeros((4, 4, 4, 1)), 2).shape -> (2, 2, 2, 8)
x = np.float32([[[0], [4], [0]]])
blur = jax.jit(lambda x: ops.image.gaussian_blur(x, (1, 3)))
np.float64(blur(x)).round(3).ravel() -> array([0. , 1.807, 0. ])
red = np.float32([[[0.0, 1.0, 1.0]]])
jax.jit(ops.image.hsv_to_rgb)(red).ravel() -> Array([1., 0., 0.], dtype=float32)
x = np.float32([[0, 1], [2, 3]])
ops.image.map_coordinates(x, [[0.5], [0.5]], order=1) -> Array([1.5], dtype=float32)
ops.image.pad_images(np.ones((1, 1, 1)), 0, 1, 0, 1).squeeze().tolist() -> [0.0, 1.0, 0.0]
x = np.float32([[[1], [2]], [[3], [4]]])
p = np.float32([[0, 0], [0, 1], [1, 0], [1, 1]])
turned = jax.jit(ops.image.perspective_transform)(x, p, p[::-1])
np.float64(turned).round().squeeze().tolist() -> [[4.0, 3.0], [2.0, 1.0]]
x = np.float32([[[0], [2]]])
ops.image.resize(x, (1, 4)).ravel() -> Array([0. , 0.5, 1.5, 2. ], dtype=float32)
red = np.float32([[[1, 0, 0]]])
np.float64(ops.image.rgb_to_grayscale(red)).round(3).ravel() -> array([0.299])
red = np.float32([[[1.0, 0.0, 0.0]]])
jax.jit(ops.image.rgb_to_hsv)(red).ravel() -> Array([0., 1., 1.], dtype=float32)
x, scale, shift = np.float32([[[0], [2]]]), np.float32([1, 2]), np.zeros(2, "f")
resize = lambda x: ops.image.scale_and_translate(x, (1, 4, 1), scale, shift, (0, 1), "linear")
jax.jit(resize)(x).ravel().tolist() -> [0.0, 0.5, 1.5, 2.0]
x = np.float32([[[0], [1], [2]]])
ops.image.sobel_edges(x).squeeze().tolist() -> [[0.0, 2.0], [0.0, 4.0], [0.0, -2.0]]
x = np.ones((11, 11, 1), "f")
jax.jit(ops.image.ssim)(x, x) -> Array(1., dtype=float32)
"""


def parsed(text: str) -> dict[str, str]:
    r"""The examples of a string as they stand in docstrings, by the names of the functions.

    >>> parsed("ops.size([1]) -> 1")
    {'size': '>>> fnn.ops.size([1])\n1'}
    """
    found: dict[str, str] = {}
    lines: list[str] = []
    for line in text.strip().splitlines():
        call, arrow, result = line.rpartition(" -> ")
        lines.append(call if arrow else line)
        if not arrow:
            continue
        # The first function of the last line that has one.
        [*_, name] = _FUNCTION.findall("\n".join(lines))
        typed = [re.sub(r"\bops\.", "fnn.ops.", f">>> {each}") for each in lines]
        found[name] = "\n".join([*typed, result])
        lines = []
    return found


EXAMPLES = {
    name: example
    for text in (CORE, NN, LINALG, IMAGE, NUMPY)
    for name, example in parsed(text).items()
}
