"""Convolution, pooling and padding over drawn shapes and arguments, against loops in NumPy."""

import dataclasses
import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnn import layers as L
from fnn.core.calling import call, initialize, output_spec, weight_spec
from fnn.core.context import INFERENCE, Masked
from fnn.layers import depthwise
from fnn.layers.shared import spatial as spatial_functions
from tests.helpers.catalogue import Case, jit
from tests.helpers.drawn import examples
from tests.helpers.keras_twins import assert_equals_keras

FEW = settings(deadline=None, derandomize=True)
DRAWS = {1: 8, 2: 5, 3: 4}  # as many axes, at least
LARGER = [pytest.param(spatial, marks=pytest.mark.slow) for spatial in (2, 3)]
dimensions = pytest.mark.parametrize("spatial", [1, *LARGER])


def of(name, spatial):
    """`of("Conv{}DTranspose", 2)` is `Conv2DTranspose`."""
    return getattr(L, name.format(spatial))


def fields(cls):
    return [field.name for field in dataclasses.fields(cls)]


def channels_first(layer):
    return getattr(layer, "data_format", None) == "channels_first"


def shape_for(layer, sizes, channels):
    """Two examples of these sizes."""
    return (2, channels, *sizes) if channels_first(layer) else (2, *sizes, channels)


def check(*rows):
    """Outputs, and gradients along a random direction, are those of `oracle(params, x)`.

    A row is (layer, sizes, channels, oracle); all are one program. The oracle has channels last and
    computes in float64; its slope is a difference.
    """
    cases = [Case(layer, shape_for(layer, sizes, n)) for layer, sizes, n, _ in rows]
    oracles = [lastly(oracle, layer) for layer, _, _, oracle in rows]
    given = [(case.weights[0], case.x) for case in cases]
    exact = [jax.tree.map(lambda a: np.asarray(a, "float64"), pair) for pair in given]
    expected = [oracle(*pair) for oracle, pair in zip(oracles, exact, strict=True)]
    rng = np.random.default_rng(3)
    cotangents = [rng.normal(size=y.shape).astype("float32") for y in expected]

    def differentiated(case, cotangent, pair):
        y, pull = jax.vjp(lambda params, x: case.layer.apply(params, {}, x)[0], *pair)
        return y, pull(cotangent)

    run = lambda *given: [differentiated(*row) for row in zip(cases, *given, strict=True)]
    found = jit(run)(cotangents, given)
    for case, oracle, pair, wanted, cotangent, (y, gradients) in zip(
        cases, oracles, exact, expected, cotangents, found, strict=True
    ):
        shown = f"{case.layer} on {case.x.shape}"
        np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5, err_msg=shown)
        direction = jax.tree.map(lambda a: rng.normal(size=a.shape), pair)
        values = []
        for step in (1e-5, -1e-5):
            moved = jax.tree.map(lambda a, d, step=step: a + step * d, pair, direction)
            values.append(np.vdot(cotangent, oracle(*moved)))
        products = jax.tree.map(np.vdot, gradients, direction)
        slope = (values[0] - values[1]) / 2e-5
        slopes = sum(jax.tree.leaves(products)), slope
        np.testing.assert_allclose(*slopes, rtol=1e-4, atol=1e-4, err_msg=shown)


def lastly(oracle, layer):
    """`oracle` for the data format of the layer."""
    if not channels_first(layer):
        return oracle
    return lambda params, x: np.moveaxis(oracle(params, np.moveaxis(x, 1, -1)), -1, 1)


def each(draw, low, high, spatial):
    return tuple(draw(st.integers(low, high)) for _ in range(spatial))


data_formats = st.sampled_from([None, "channels_last", "channels_first"])


def windowed(draw, spatial, paddings=("valid", "same")):
    """(the arguments of a window and how it moves, sizes that it fits into)."""
    window, strides = each(draw, 1, 3, spatial), each(draw, 1, 3, spatial)
    dilation = each(draw, 1, 2, spatial)
    padding = draw(st.sampled_from(paddings))
    reach = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    least = reach if padding == "valid" else [1] * spatial
    sizes = tuple(draw(st.integers(n, n + 3)) for n in least)
    named = {"kernel_size": window, "strides": strides, "dilation_rate": dilation}
    return named | {"padding": padding, "data_format": draw(data_formats)}, sizes


def edges(sizes, reach, strides, padding):
    """What stands before and after each axis."""
    if padding == "valid":
        return [(0, 0) for _ in sizes]
    if padding == "causal":
        return [(r - 1, 0) for r in reach]
    outputs = [-(-n // s) for n, s in zip(sizes, strides, strict=True)]
    moved = zip(outputs, strides, reach, sizes, strict=True)
    total = [max((m - 1) * s + r - n, 0) for m, s, r, n in moved]
    return [(t // 2, t - t // 2) for t in total]


def convolved(x, kernel, layer):
    """A loop over positions: `kernel (*window, in, out)` on what each one sees."""
    strides, dilation = layer.strides, layer.dilation_rate
    reach = [(k - 1) * d + 1 for k, d in zip(kernel.shape[:-2], dilation, strict=True)]
    x = np.pad(x, [(0, 0), *edges(x.shape[1:-1], reach, strides, layer.padding), (0, 0)])
    outputs = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:-1], reach, strides, strict=True)]
    y = np.zeros((len(x), *outputs, kernel.shape[-1]))
    for position in np.ndindex(*outputs):
        moved = zip(position, strides, reach, dilation, strict=True)
        seen = x[(slice(None), *(slice(p * s, p * s + r, d) for p, s, r, d in moved))]
        y[(slice(None), *position)] = np.tensordot(seen, kernel, kernel.ndim - 1)
    return y


def without_groups(kernel, groups):
    """The kernel that does the same over all channels: zeros between the groups."""
    inside, filters = kernel.shape[-2], kernel.shape[-1] // groups
    whole = np.zeros((*kernel.shape[:-2], inside * groups, filters * groups))
    for g in range(groups):
        rows, columns = slice(g * inside, (g + 1) * inside), slice(g * filters, (g + 1) * filters)
        whole[..., rows, columns] = kernel[..., columns]
    return whole


def each_alone(kernel):
    """A depthwise kernel as one over all channels: channel c makes outputs c m to (c + 1) m."""
    channels, multiplier = kernel.shape[-2:]
    whole = np.zeros((*kernel.shape[:-1], channels * multiplier))
    for c in range(channels):
        whole[..., c, c * multiplier : (c + 1) * multiplier] = kernel[..., c, :]
    return whole


def spread_out(x, kernel, layer):
    """What a convolution of these arguments would have come from: each input adds its kernel."""
    window, strides, dilation = layer.kernel_size, layer.strides, layer.dilation_rate
    sizes = x.shape[1:-1]
    reach = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    whole = [(n - 1) * s + max(r, s) for n, s, r in zip(sizes, strides, reach, strict=True)]
    y = np.zeros((len(x), *whole, kernel.shape[-2]))
    for position, offset in itertools.product(np.ndindex(*sizes), np.ndindex(*window)):
        moved = zip(position, strides, offset, dilation, strict=True)
        there = tuple(p * s + k * d for p, s, k, d in moved)
        y[(slice(None), *there)] += x[(slice(None), *position)] @ kernel[offset].T
    if layer.padding == "same":
        cut = [(max(r - s, 0) // 2, n * s) for n, s, r in zip(sizes, strides, reach, strict=True)]
        y = y[(slice(None), *(slice(before, before + size) for before, size in cut))]
    return y


@st.composite
def convolutions(draw, spatial):
    causal = ("causal",) if spatial == 1 else ()
    named, sizes = windowed(draw, spatial, ("valid", "same", *causal))
    groups, inside, filters = each(draw, 1, 2, 3)
    named |= {"groups": groups, "use_bias": draw(st.booleans())}
    layer = of("Conv{}D", spatial)(groups * filters, **named)
    return (
        layer,
        sizes,
        groups * inside,
        lambda params, x: (
            convolved(x, without_groups(params["kernel"], groups), layer) + params.get("bias", 0)
        ),
    )


@dimensions
def test_convolution(spatial):
    check(*examples(convolutions(spatial), DRAWS[spatial]))


@st.composite
def transposed(draw, spatial):
    named, _ = windowed(draw, spatial)
    layer = of("Conv{}DTranspose", spatial)(3, **named)
    sizes = each(draw, 1, 4, spatial)
    return layer, sizes, 2, lambda p, x: spread_out(x, p["kernel"], layer) + p["bias"]


@dimensions
def test_transposed_convolution(spatial):
    check(*examples(transposed(spatial), DRAWS[spatial]))


@pytest.mark.slow
@pytest.mark.parametrize("spatial", [1, 2])
@settings(FEW, max_examples=4)
@given(st.data())
def test_transposed_convolution_with_output_padding(spatial, data):
    strides = each(data.draw, 1, 3, spatial)
    layer = of("Conv{}DTranspose", spatial)(
        2,
        each(data.draw, 1, 4, spatial),
        strides,
        data.draw(st.sampled_from(["valid", "same"])),
        output_padding=tuple(data.draw(st.integers(0, s - 1)) for s in strides),
    )
    case = Case(layer, (2, *each(data.draw, 2, 4, spatial), 2))
    assert_equals_keras(case, train=False, gradients=False)  # those of a loop above


@st.composite
def depthwise_or_separable(draw, spatial, separable):
    named, sizes = windowed(draw, spatial)
    channels, multiplier = each(draw, 1, 3, 2)
    named["depth_multiplier"] = multiplier

    def depthwise(p, x):
        return convolved(x, each_alone(p["kernel"]), layer) + p["bias"]

    def both(p, x):
        y = convolved(x, each_alone(p["depthwise_kernel"]), layer)
        return np.tensordot(y, p["pointwise_kernel"].reshape(-1, 3), 1) + p["bias"]

    if separable:
        layer = of("SeparableConv{}D", spatial)(3, **named)
    else:
        layer = of("DepthwiseConv{}D", spatial)(**named)
    return layer, sizes, channels, both if separable else depthwise


@pytest.mark.slow
@pytest.mark.parametrize("spatial", [1, LARGER[0]])
@pytest.mark.parametrize("separable", [False, True])
def test_depthwise_and_separable_convolution(spatial, separable):
    check(*examples(depthwise_or_separable(spatial, separable), DRAWS[spatial]))


def pooled(x, bounds, reduce):
    """A loop over windows, given as (start, end) for each output along each axis."""
    y = np.zeros((len(x), *map(len, bounds), x.shape[-1]))
    for position in np.ndindex(*map(len, bounds)):
        ends = [axis[i] for axis, i in zip(bounds, position, strict=True)]
        part = x[(slice(None), *(slice(*end) for end in ends))]
        y[(slice(None), *position)] = reduce(part, tuple(range(1, x.ndim - 1)))
    return y


kinds = pytest.mark.parametrize(("kind", "reduce"), [("Max", np.max), ("Average", np.mean)])


@st.composite
def poolings(draw, spatial, kind, reduce):
    named, sizes = windowed(draw, spatial)
    window, padding = named["kernel_size"], named["padding"]
    if padding == "valid":
        sizes = tuple(max(n, k) for n, k in zip(sizes, window, strict=True))
    strides = draw(st.sampled_from([None, window, named["strides"]]))
    layer = of(f"{kind}Pooling{{}}D", spatial)(window, strides, padding, named["data_format"])
    bounds = []
    strides = strides or window
    before = edges(sizes, window, strides, padding)
    for n, k, s, (first, last) in zip(sizes, window, strides, before, strict=True):
        starts = [i * s - first for i in range((n + first + last - k) // s + 1)]
        bounds.append([(max(start, 0), min(start + k, n)) for start in starts])
    return layer, sizes, 2, lambda _, x: pooled(x, bounds, reduce)


@dimensions
@kinds
def test_pooling(spatial, kind, reduce):
    check(*examples(poolings(spatial, kind, reduce), DRAWS[spatial]))


@st.composite
def adaptive_poolings(draw, spatial, kind, reduce):
    sizes, outputs = each(draw, 1, 9, spatial), each(draw, 1, 7, spatial)
    layer = of(f"Adaptive{kind}Pooling{{}}D", spatial)(outputs, draw(data_formats))
    bounds = [
        [(int(np.floor(i * n / m)), int(np.ceil((i + 1) * n / m))) for i in range(m)]
        for n, m in zip(sizes, outputs, strict=True)
    ]
    return layer, sizes, 2, lambda _, x: pooled(x, bounds, reduce)


@dimensions
@kinds
def test_adaptive_pooling(spatial, kind, reduce):
    check(*examples(adaptive_poolings(spatial, kind, reduce), DRAWS[spatial]))


@kinds
def test_adaptive_pooling_of_more_windows_than_it_can_count(kind, reduce):
    layer = of(f"Adaptive{kind}Pooling{{}}D", 1)(10**9)
    words = r"axis below 2\*\*31, received 1000000000 windows of an axis of size 7; give a small"
    with pytest.raises(ValueError, match=words):
        layer.apply({}, {}, np.ones((1, 7, 1), "float32"))


@st.composite
def global_poolings(draw, spatial, kind, reduce):
    keepdims, axes = draw(st.booleans()), tuple(range(1, spatial + 1))
    layer = of(f"Global{kind}Pooling{{}}D", spatial)(draw(data_formats), keepdims)
    sizes = each(draw, 1, 5, spatial)
    return layer, sizes, 3, lambda _, x: reduce(x, axes, keepdims=keepdims)


@dimensions
@kinds
def test_global_pooling(spatial, kind, reduce):
    check(*examples(global_poolings(spatial, kind, reduce), 5))


@st.composite
def real_steps(draw):
    """(keepdims, inputs, which of their steps are real: one of each row at least)."""
    keepdims, steps = draw(st.booleans()), draw(st.integers(1, 5))
    real = st.lists(st.booleans(), min_size=steps, max_size=steps).filter(any)
    x = np.random.default_rng(steps).normal(size=(2, steps, 3)).astype("float32")
    return keepdims, x, np.array([draw(real), draw(real)])


@pytest.mark.slow
@kinds
def test_global_pooling_of_real_steps(kind, reduce):
    """Row by row, over its real steps alone; what stands in the others reaches nothing."""
    rows = examples(real_steps(), 5)

    def total(x, mask, keepdims):
        layer = of(f"Global{kind}Pooling{{}}D", 1)(keepdims=keepdims)
        y = call(layer, {}, {}, Masked(x, mask), INFERENCE)[0]
        return y.sum(), y

    graded = jax.grad(total, has_aux=True)
    run = lambda given: [graded(*pair, row[0]) for pair, row in zip(given, rows, strict=True)]
    spoiled = [np.where(mask[..., None], x, np.float32(np.nan)) for _, x, mask in rows]
    found = jit(run)([(bad, mask) for bad, (*_, mask) in zip(spoiled, rows, strict=True)])
    for (keepdims, x, mask), (gradient, y) in zip(rows, found, strict=True):
        expected = [reduce(a[m], 0, keepdims=keepdims) for a, m in zip(x, mask, strict=True)]
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(np.asarray(gradient)[~mask], 0)


@pytest.mark.thorough  # the rows of the catalogue have each option: test_keras_layers.py
@dimensions
@settings(FEW, max_examples=2)  # each compiles a Keras layer
@given(st.data())
def test_conv_lstm(spatial, data):
    """Over windows, strides, dilations and the flags of recurrent layers, against Keras."""
    named, sizes = windowed(data.draw, spatial)
    if max(named["strides"]) > 1:
        named["dilation_rate"] = (1,) * spatial  # one of both, in Keras
    flags = ("use_bias", "return_sequences", "return_state", "go_backwards")
    named |= {flag: data.draw(st.booleans()) for flag in flags}
    layer = of("ConvLSTM{}D", spatial)(2, **named)
    _, *shape = shape_for(layer, sizes, 2)
    case = Case(layer, (2, data.draw(st.integers(1, 3)), *shape))
    assert_equals_keras(case, train=False)


@st.composite
def edge_layers(draw, spatial):
    sizes, size = each(draw, 1, 4, spatial), each(draw, 1, 3, spatial)
    pairs = tuple(each(draw, 0, 2, 2) for _ in sizes)
    larger = tuple(n + sum(pair) for n, pair in zip(sizes, pairs, strict=True))
    inner = [slice(first, first + n) for (first, _), n in zip(pairs, sizes, strict=True)]
    field = pairs[0] if spatial == 1 else pairs
    rows = []
    for name, argument, drawn, oracle in (
        ("ZeroPadding", field, sizes, lambda _, x: np.pad(x, [(0, 0), *pairs, (0, 0)])),
        ("Cropping", field, larger, lambda _, x: x[(slice(None), *inner)]),
        ("UpSampling", size, sizes, lambda _, x: np.kron(x, np.ones((1, *size, 1)))),
    ):
        layer = of(name + "{}D", spatial)(argument)
        if "data_format" in fields(type(layer)):
            layer = layer.replace(data_format=draw(data_formats))
        rows.append((layer, drawn, 2, oracle))
    return rows


@dimensions
def test_padding_cropping_and_upsampling(spatial):
    check(*itertools.chain(*examples(edge_layers(spatial), 4)))


@pytest.mark.slow
@pytest.mark.parametrize("size", [3, 7])
def test_adaptive_pooling_of_whole_numbers(size):
    x = jnp.arange(-10, 2, dtype="int8").reshape(1, 6, 2)
    for kind, dtype in ((L.AdaptiveMaxPooling1D, "int8"), (L.AdaptiveAveragePooling1D, "float32")):
        pool = jit(lambda x, kind=kind: kind(size).apply({}, {}, x)[0])
        assert pool(x).dtype == dtype
        np.testing.assert_array_equal(pool(x), pool(x.astype("float32")))


@pytest.mark.slow
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [L.AdaptiveMaxPooling1D, L.AdaptiveAveragePooling1D])
def test_what_is_not_finite_stays_in_its_windows(kind, bad):
    x = jnp.ones((1, 7, 1)).at[0, 3].set(bad)  # in the second of the windows 0..2, 2..4, 4..6
    y = jit(lambda x: kind(3).apply({}, {}, x)[0].ravel())(x)
    reached = 1.0 if bad == -np.inf and "Max" in kind.__name__ else bad
    np.testing.assert_array_equal(y, [1.0, reached, 1.0])


@pytest.mark.slow
@pytest.mark.parametrize("size", [3, 7])
def test_equal_largest_values_share_the_gradient(size):
    layer = L.AdaptiveMaxPooling2D((size, 2))
    objective = lambda x: jnp.sum(layer.apply({}, {}, x)[0])
    gradient = jit(jax.grad(objective))(jnp.ones((1, 6, 5, 1)))
    np.testing.assert_allclose(jnp.sum(gradient), 2 * size, rtol=1e-6)
    assert (gradient > 0).all()


KERNELS = ("Conv{}D", "Conv{}DTranspose", "DepthwiseConv{}D", "SeparableConv{}D")
WINDOWS = ("MaxPooling{}D", "AveragePooling{}D")
ADAPTIVE = ("AdaptiveMaxPooling{}D", "AdaptiveAveragePooling{}D")
WHOLE = ("GlobalMaxPooling{}D", "GlobalAveragePooling{}D")
EDGES = ("ZeroPadding{}D", "Cropping{}D", "UpSampling{}D")
NEEDED = {"filters": 2, "kernel_size": 2, "pool_size": 2, "output_size": 2}


def every(*families):
    """The parametrization of a test over the layers of these families."""
    named = [name.format(spatial) for name in families for spatial in (1, 2, 3)]
    known = [name for name in named if hasattr(L, name)]
    return pytest.mark.parametrize("cls", [getattr(L, name) for name in known], ids=known)


every_layer = every(*KERNELS, *WINDOWS, *ADAPTIVE, *WHOLE, *EDGES)
COUNTS = (0, -1, 1.5, "2", True)
LENGTHS = (*COUNTS, (), (2, 2, 2, 2), (2, 0, 2))
WRONG = {
    **dict.fromkeys(["filters", "groups", "depth_multiplier"], COUNTS),
    **dict.fromkeys(["strides", "dilation_rate"], LENGTHS),
    **dict.fromkeys(["kernel_size", "pool_size", "output_size", "size"], (*LENGTHS, None)),
    "padding": ("full", None, 1),
    "output_padding": (-1, 7, 0.5, (0, 0, 0, 0)),
    "cropping": (-1, 0.5, "1", (1, 1, 1, 1), ((1, -1),)),
    "data_format": ("NHWC", 1),
    "interpolation": ("linear", None),
}


def example(cls, **changes):
    """A layer of this class with the arguments that it needs."""
    needed = {field: NEEDED[field] for field in fields(cls) if field in NEEDED}
    return cls(**{**needed, **changes})


def spec(layer, channels=4):
    """Inputs as far as `init` needs them."""
    shape = shape_for(layer, (6,) * layer.spatial, channels)
    return jax.ShapeDtypeStruct(shape, "float32")


@every_layer
def test_every_wrong_argument_is_named(cls):
    for field in fields(cls):
        wrong = WRONG.get(field, ())
        if field == "padding" and "ZeroPadding" in cls.__name__:
            wrong = (*WRONG["cropping"], "same")
        for value in wrong:
            with pytest.raises(ValueError, match=f"{cls.__name__}: expected {field} ") as error:
                example(cls, **{field: value})
            assert f"received {field}=" in str(error.value)


@every_layer
def test_a_misspelt_name_is_named(cls):
    for field in fields(cls):
        kind = field.rpartition("_")[2]
        if kind in ("activation", "initializer", "regularizer", "constraint"):
            with pytest.raises(ValueError, match="that fnn knows, received 'oops'") as error:
                example(cls, **{field: "oops"})
            assert error.value.__notes__ == [f"as {field} of {cls.__name__}"]


@pytest.mark.slow
@every_layer
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_every_wrong_number_of_axes_is_counted(cls, data_format):
    if "data_format" in fields(cls):
        layer = example(cls, data_format=data_format)
    else:
        layer, data_format = example(cls), "channels_last"
    inner = {1: "steps", 2: "height, width", 3: "depth, height, width"}[layer.spatial]
    layout = f"(batch, channels, {inner})" if "first" in data_format else f"(batch, {inner}, chan"
    for rank in (0, layer.spatial + 1, layer.spatial + 3):
        shape = (6,) * rank
        with pytest.raises(ValueError, match=f"{cls.__name__}: expected inputs of") as error:
            output_spec(layer, jax.ShapeDtypeStruct(shape, "float32"))
        message = str(error.value)
        assert f"of {layer.spatial + 2} axes {layout}" in message
        assert f"received {rank} axes, shape {shape}" in message
        assert any(repr(layer) in note for note in error.value.__notes__)


@every_layer
def test_two_inputs_are_refused(cls):
    layer = example(cls)
    x = spec(layer)
    with pytest.raises(TypeError, match=f"{cls.__name__}: expected one array as input") as error:
        initialize(layer, jax.random.key(0), (x, x))
    assert "received a tuple of 2; merge" in str(error.value)


@pytest.mark.slow
@every(*KERNELS)
@pytest.mark.parametrize("data_format", [None, "channels_first"])
def test_inputs_narrower_or_wider_than_in_init_are_refused(cls, data_format):
    layer = example(cls, data_format=data_format)
    params, state = weight_spec(layer, spec(layer))
    for channels in (1, 3, 8):
        x = spec(layer, channels)
        with pytest.raises(ValueError, match=f"{cls.__name__}: expected inputs of 4 fea") as error:
            layer.apply(params, state, x)
        assert f"received {channels} in shape {x.shape}" in str(error.value)


@every(*(name for name in (*KERNELS, *WINDOWS) if "Transpose" not in name))
def test_inputs_that_no_window_fits_into_are_refused(cls):
    """And are taken where the edges are padded."""
    field = "pool_size" if "Pooling" in cls.__name__ else "kernel_size"
    layer = example(cls, **{field: 7})
    x = spec(layer)
    with pytest.raises(ValueError, match="expected inputs of at least") as error:
        output_spec(layer, x)
    sevens = (7,) * layer.spatial
    assert f"{cls.__name__}: expected inputs of at least {sevens}" in str(error.value)
    assert f"received one array of shape {x.shape}; use padding='same'" in str(error.value)
    assert f"a smaller {field}" in str(error.value)
    output_spec(layer.replace(padding="same"), x)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (L.DepthwiseConv2D(3, padding="same", depth_multiplier=2), (2, 7, 6, 3)),
        (L.DepthwiseConv2D((5, 2), strides=(2, 3), data_format="channels_first"), (2, 3, 11, 9)),
        (L.DepthwiseConv2D((2, 3), dilation_rate=(3, 2), padding="same"), (2, 7, 9, 4)),
        (L.DepthwiseConv1D(4, strides=3, padding="same", depth_multiplier=3), (2, 10, 2)),
        (L.SeparableConv1D(5, 3, data_format="channels_first"), (2, 3, 8)),
    ],
    ids=str,
)
def test_a_depthwise_convolution_is_the_same_by_either_way(monkeypatch, layer, shape, dtype):
    case = Case(layer.replace(dtype=dtype), shape)
    layer, x, (params, state) = case.layer, case.x.astype(dtype), case.weights
    both = []
    for few in (49, 0):
        monkeypatch.setattr(depthwise, "FEW_OFFSETS", few)

        def total(params, x):  # a new function: JAX keeps what it traced
            y = call(layer, params, state, x, INFERENCE)[0]
            assert y.dtype == dtype
            return (y.astype("float32") ** 2).sum()

        graded = jax.jit(jax.value_and_grad(total, (0, 1)))
        program = str(graded.trace(params, x).jaxpr)
        grouped = re.search(r"feature_group_count=[2-9]", program)
        assert bool(grouped) == (few == 0 or jax.default_backend() != "cpu")
        both.append(graded(params, x))
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    for a, b in zip(*map(jax.tree.leaves, both), strict=True):
        a, b = np.asarray(a, "float32"), np.asarray(b, "float32")
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "window", "strides", "dilation", "padding"),
    [
        ((2, 2), (3, 3), 1, 1, "same"),
        ((1, 1), (3, 3), 1, 1, "same"),
        ((4, 4), (3, 3), 2, 1, "same"),
        ((3, 3), (3, 3), 1, 1, "valid"),
        ((5, 6), (1, 1), 2, 1, "valid"),
        ((3, 4), (1, 5), 1, 1, "same"),
        ((3, 3), (2, 2), 1, 3, "same"),
    ],
)
def test_a_product_is_the_convolution_of_xla(
    sizes, window, strides, dilation, padding, monkeypatch
):
    """Forward and backward, where `convolve` chooses a product of patches on CPU."""
    layer = L.Conv2D(3, window, strides, padding, dilation_rate=dilation)
    case = Case(layer, (2, *sizes, 4))
    x, (params, state) = case.x, case.weights

    def run(params, x):
        y = layer.apply(params, state, x)[0]
        return jnp.sin(y).sum(), y

    def results():
        found = jax.jit(jax.value_and_grad(run, (0, 1), has_aux=True))
        return found.trace(params, x).jaxpr, jax.tree.leaves(found(params, x))

    program, product = results()
    assert "conv_general_dilated" not in str(program)
    run = functools.partial(run)
    monkeypatch.setattr(spatial_functions, "_is_product", lambda *given: False)
    program, wanted = results()
    assert "conv_general_dilated" in str(program)
    for found, expected in zip(product, wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
