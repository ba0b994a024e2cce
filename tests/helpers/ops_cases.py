"""Calls of every function of `keras.ops`, for the tests of parity: a row or more for each name."""

import numpy as np

SHAPES = ((3, 4), (2, 3, 4))
ANY = ("float32", "bfloat16", "int32", "uint8", "bool")
NUMBERS = ("float32", "bfloat16", "int32", "uint8")
INTEGERS = ("int32", "uint8")


class Draw:
    """Arrays of one draw: of its shape and dtype, or of others."""

    def __init__(self, seed, place=0, shape=0):
        self.rng, self.place = np.random.default_rng(seed), place
        self.shape = SHAPES[shape]

    def array(self, dtypes=ANY, shape=None, low=-3, high=3):
        dtype = dtypes[self.place % len(dtypes)] if isinstance(dtypes, tuple) else dtypes
        shape = self.shape if shape is None else shape
        if dtype == "bool":
            return self.rng.random(shape) < 0.5
        if "int" in dtype:
            low = max(int(np.ceil(low)), 0 if dtype[0] == "u" else -100)
            return self.rng.integers(low, max(high, low + 1), shape).astype(dtype)
        if dtype == "complex64":
            return (self.rng.normal(size=shape) + 1j * self.rng.normal(size=shape)).astype(dtype)
        return self.rng.uniform(low, high, shape).astype(np.dtype(dtype))

    def f(self, *shape, low=-3, high=3):
        return self.array("float32", shape or None, low, high)

    def i(self, *shape, low=0, high=3, dtype="int32"):
        return self.array(dtype, shape, low, high)

    def n(self, *shape, low=-3, high=3):
        return self.array(NUMBERS, shape or None, low, high)

    def positive(self, n=3):
        """A positive definite matrix."""
        a = self.f(n, n)
        return a @ a.T + n * np.eye(n, dtype="float32")


CASES = {}


def case(names, make):
    for name in names.split():
        CASES.setdefault(name, []).append(make)


def each(names, *makes):
    for make in makes:
        case(names, make)


def call(*args, **kwargs):
    return args, kwargs


each(
    "abs absolute angle conj conjugate copy cos cosh exp exp2 expm1 floor ceil imag isfinite isinf "
    "isnan isneginf isposinf isreal logical_not negative real sign sin sinc sinh square tan tanh "
    "arcsinh arctan trunc round cbrt deg2rad rad2deg ones_like zeros_like empty_like ravel flip "
    "size ndim shape nan_to_num i0 array convert_to_tensor convert_to_numpy dtype "
    "stop_gradient",
    lambda d: call(d.array(ANY if d.place != 4 else NUMBERS)),
)
CASES["negative"] = CASES["sign"] = [lambda d: call(d.n())]
each("fabs reciprocal signbit", lambda d: call(d.f()))
each("arccos arcsin arctanh", lambda d: call(d.array(low=-0.9, high=0.9)))
each("arccosh", lambda d: call(d.array(low=1, high=3)))
each("log log10 log1p log2 sqrt", lambda d: call(d.array(NUMBERS, low=0.5, high=5)))
each("rsqrt erfinv", lambda d: call(d.array(("float32", "bfloat16"), low=0.1, high=0.9)))
each("erf erfc", lambda d: call(d.array(("float32", "bfloat16"))))
each("imag real conj abs angle conjugate", lambda d: call(d.array("complex64")))
each(
    "relu relu6 sigmoid silu swish softplus softsign log_sigmoid hard_sigmoid hard_silu hard_swish "
    "selu gelu elu celu leaky_relu hard_tanh tanh_shrink soft_shrink hard_shrink sparse_plus "
    "sparse_sigmoid squareplus softmax log_softmax logsumexp glu normalize",
    lambda d: call(d.array(("float32", "bfloat16"))),
)
case("gelu", lambda d: call(d.f(), approximate=False))
each("elu celu", lambda d: call(d.f(), 0.7))
each("leaky_relu soft_shrink hard_shrink", lambda d: call(d.f(), 0.3))
case("squareplus", lambda d: call(d.f(), b=2))
case("threshold", lambda d: call(d.f(), 0.5, -1.0))
each("softmax log_softmax", lambda d: call(d.f(2, 3, 4), axis=(0, 2)))
each("softmax log_softmax", lambda d: call(d.f(2, 3, 4), 1))
each("glu", lambda d: call(d.f(2, 4, 3), axis=1))
case("sparsemax", lambda d: call(d.f(4, 1)))
each("round", lambda d: call(d.f(), 1), lambda d: call(d.i(3, 4, low=-500, high=500), -2))
each("nan_to_num", lambda d: call(np.array([np.nan, np.inf, -np.inf, 1], "f"), 1.0, 2.0, 3.0))
case("clip", lambda d: call(d.array(), 0, 2))
case("view", lambda d: call(d.f(), dtype="int32"))
case("view", lambda d: call(d.f()))

each(
    "add multiply subtract equal not_equal less less_equal greater greater_equal maximum minimum "
    "logical_and logical_or logical_xor divide true_divide power floor_divide mod fmod "
    "divide_no_nan arctan2 logaddexp fmax fmin hypot",
    lambda d: call(d.array(NUMBERS, low=1), d.array(NUMBERS[::-1], low=1)),
    lambda d: call(d.n(low=1), 2),
    lambda d: call(2.5, d.n(low=1)),
    lambda d: call(d.f(3, 4, low=1), d.f(4, low=1)),
)
CASES["power"] = CASES["power"][1:]
for name in ("arctan2", "logaddexp"):  # see `KERAS_FAULTS` in test_ops
    CASES[name][2] = lambda d: call(2.5, d.f(low=1))
each("logaddexp2 heaviside nextafter", lambda d: call(d.f(), d.f()))
each("logical_and logical_or logical_xor", lambda d: call(d.array(), d.array("bool")))
each(
    "bitwise_and bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift left_shift "
    "right_shift gcd lcm",
    lambda d: call(d.i(3, 4, high=9), d.i(3, 4, high=4)),
    lambda d: call(d.array(INTEGERS, (3, 4), high=9), 2),
)
each("bitwise_invert bitwise_not", lambda d: call(d.array(("int32", "uint8", "bool"))))
case("ldexp", lambda d: call(d.f(), d.i(*d.shape)))
each("isclose allclose", lambda d: call(d.f(3), d.f(3)), lambda d: call(d.f(3), d.f(3), 0.5, 0.5))
each("isin", lambda d: call(d.i(3, 4), d.i(2)), lambda d: call(d.i(3, 4), d.i(2), invert=True))
case("where", lambda d: call(d.array("bool"), d.array(), 2.0))
case("where", lambda d: call(d.array("bool"), d.n(), d.f()))
case("where", lambda d: call(d.array("bool")))
case("select", lambda d: call([d.array("bool"), d.array("bool")], [d.f(), d.n()], 7))

each(
    "sum mean max min amax amin std var median prod argmax argmin ptp nansum nanmean nanmax "
    "nanmin nanstd nanvar nanprod nanmedian nanargmax nanargmin all any",
    lambda d: call(d.array(("float32", "bfloat16", "int32", "uint8"))),
    lambda d: call(d.array(("float32", "int32", "bfloat16")), axis=1, keepdims=True),
    lambda d: call(d.array(("bfloat16", "float32", "int32")), -1),
)
each(
    "sum mean max min amax amin std var median prod all any nansum nanmean",
    lambda d: call(d.f(2, 3, 4), axis=(0, 2)),
)
each("sum mean max std median prod all", lambda d: call(d.f(2, 3, 4), axis=[0, 1]))
each("sum mean all any std var prod count_nonzero", lambda d: call(d.array("bool")))
each("nansum nanmean nanmax nanargmin", lambda d: call(np.array([[1, np.nan], [2, 3]], "f"), 1))
each("max min", lambda d: call(d.f(), axis=0, initial=1.0))
each("prod cumsum cumprod", lambda d: call(d.n(), axis=1, dtype="float32"))
each("cumsum cumprod nancumsum nancumprod", lambda d: call(d.array()), lambda d: call(d.n(), 0))
each("average", lambda d: call(d.n()), lambda d: call(d.n(3, 4), 1, d.f(4, low=1)))
each("count_nonzero", lambda d: call(d.array()), lambda d: call(d.array(), axis=1))
each(
    "percentile nanpercentile",
    lambda d: call(d.f(), 30.0),
    lambda d: call(d.i(3, 4), [10.0, 50.0], 1),
)
each(
    "quantile nanquantile",
    lambda d: call(d.f(), 0.3, keepdims=True),
    lambda d: call(d.i(3, 4), [0.1, 0.5], 1, "nearest"),
)
each("bincount", lambda d: call(d.i(9)), lambda d: call(d.i(9), d.f(9), minlength=5))
each("bincount", lambda d: call(np.array([[0, 1, 3], [3, 3, 1]])))
each("histogram", lambda d: call(d.f(9)), lambda d: call(d.f(9), 4, (-1.0, 2.0)))
each("trapezoid", lambda d: call(d.f()), lambda d: call(d.f(3, 4), d.f(4), axis=1))
each("corrcoef", lambda d: call(d.n(3, 4)))

each("matmul", lambda d: call(d.n(3, 4), d.n(4, 2)), lambda d: call(d.f(2, 3, 4), d.f(4)))
each("matmul", lambda d: call(d.i(3, 4, dtype="int8"), d.i(4, 2, dtype="int8")))
each("dot vdot inner", lambda d: call(d.n(4), d.n(4)))
each("dot", lambda d: call(d.f(3, 4), d.f(4, 2)))
each("inner", lambda d: call(d.f(3, 4), d.f(2, 4)))
each("outer", lambda d: call(d.n(3), d.n(4)), lambda d: call(d.f(2, 2), d.f(3)))
each("kron", lambda d: call(d.n(2, 3), d.f(3, 2)))
each(
    "einsum",
    lambda d: call("ij,jk->ik", d.n(3, 4), d.n(4, 2)),
    lambda d: call("bij->bji", d.n(2, 3, 4)),
)
each(
    "tensordot",
    lambda d: call(d.f(2, 3, 4), d.f(3, 4)),
    lambda d: call(d.f(2, 3), d.f(3, 2), axes=[[1, 0], [0, 1]]),
)
each("correlate", lambda d: call(d.f(5), d.f(3)), lambda d: call(d.f(5), d.f(3), "same"))
each("cross", lambda d: call(d.n(4, 3), d.n(4, 3)))
each("slogdet logdet", lambda d: call(d.f(2, 3, 3)))
each("trace", lambda d: call(d.n(3, 4)), lambda d: call(d.f(2, 3, 4), 1, 1, 2))

each("append", lambda d: call(d.n(2, 3), d.f(2, 3)), lambda d: call(d.n(2, 3), d.n(2, 3), axis=1))
each("array_split", lambda d: call(d.f(7, 2), 3), lambda d: call(d.f(2, 7), 3, axis=1))
each("split", lambda d: call(d.n(4, 6), 2), lambda d: call(d.f(4, 6), [1, 4], axis=1))
each("hsplit", lambda d: call(d.n(4, 6), 2), lambda d: call(d.f(4, 6), [1, 4]))
each("vsplit", lambda d: call(d.n(4, 6), 2))
each("dsplit", lambda d: call(d.n(2, 3, 4), 2))
each("broadcast_to", lambda d: call(d.array(shape=(1, 4)), (3, 4)), lambda d: call(d.f(4), [2, 4]))
each(
    "concatenate",
    lambda d: call([d.n(2, 3), d.f(2, 3)]),
    lambda d: call((d.n(2, 3), d.n(2, 1)), axis=-1),
)
each("concatenate stack", lambda d: call([[1, 2], [3, 4]]))
each("hstack vstack dstack", lambda d: call([d.n(2, 3), d.f(2, 3)]))
each(
    "stack", lambda d: call([d.n(2, 3), d.f(2, 3)]), lambda d: call((d.n(2, 3), d.n(2, 3)), axis=1)
)
each("diag", lambda d: call(d.n(3)), lambda d: call(d.n(3, 4), k=1))
each("diagflat", lambda d: call(d.n(2, 2)), lambda d: call(d.n(3), k=-1))
each("diagonal", lambda d: call(d.n(3, 4)), lambda d: call(d.f(2, 3, 4), 1, 1, 2))
each("diff", lambda d: call(d.n(3, 4)), lambda d: call(d.f(3, 4), n=2, axis=0))
each("expand_dims", lambda d: call(d.array(), 1), lambda d: call(d.n(), axis=(0, 2)))
each("flip", lambda d: call(d.array(), axis=1))
each("fliplr flipud", lambda d: call(d.array()))
each(
    "get_item", lambda d: call(d.n(3, 4), 1), lambda d: call(d.n(3, 4), (slice(None), slice(1, 3)))
)
each(
    "get_item", lambda d: call(d.n(3, 4), (..., None)), lambda d: call(d.n(3, 4), np.array([0, 2]))
)
each("meshgrid", lambda d: call(d.n(3), d.n(2)), lambda d: call(d.f(3), d.f(2), indexing="ij"))
each("moveaxis", lambda d: call(d.n(2, 3, 4), 0, 2), lambda d: call(d.n(2, 3, 4), (0, 1), (2, 0)))
each("pad", lambda d: call(d.n(2, 3), 1), lambda d: call(d.n(2, 3), ((1, 0), (0, 2)), "reflect"))
each("pad", lambda d: call(d.n(2, 3), [[1, 0], [0, 2]], constant_values=3))
each("repeat", lambda d: call(d.n(2, 3), 2), lambda d: call(d.n(2, 3), 3, axis=1))
each(
    "reshape",
    lambda d: call(d.array(shape=(3, 4)), (2, 6)),
    lambda d: call(d.n(3, 4), [-1]),
    lambda d: call(d.f(3, 4), -1),
)
each("roll", lambda d: call(d.n(), 2), lambda d: call(d.n(), 1, axis=1))
each("rot90", lambda d: call(d.n(3, 4)), lambda d: call(d.n(2, 3, 4), 3, (1, 2)))
each("squeeze", lambda d: call(d.n(1, 3, 1)), lambda d: call(d.n(1, 3, 1), axis=2))
each("swapaxes", lambda d: call(d.n(2, 3, 4), 0, 2))
each("take", lambda d: call(d.n(3, 4), d.i(2)), lambda d: call(d.n(3, 4), [0, 2], axis=1))
each(
    "take_along_axis", lambda d: call(d.n(3, 4), d.i(3, 2), axis=1), lambda d: call(d.f(4), d.i(2))
)
each("tile", lambda d: call(d.n(2, 3), 2), lambda d: call(d.n(2, 3), (2, 1)))
each("transpose", lambda d: call(d.n(2, 3, 4)), lambda d: call(d.n(2, 3, 4), axes=(1, 2, 0)))
each("tril triu", lambda d: call(d.n(3, 4)), lambda d: call(d.n(2, 3, 4), k=1))
each("argpartition", lambda d: call(d.f(6), 2), lambda d: call(d.f(2, 6), 3, axis=None))
each("argsort sort", lambda d: call(d.n()), lambda d: call(d.f(), axis=0))
each("digitize", lambda d: call(d.n(), np.array([-1.0, 0.0, 1.0], "f")))
each("nonzero", lambda d: call(d.array()))
each(
    "searchsorted",
    lambda d: call(np.sort(d.f(5)), d.f(3)),
    lambda d: call([1, 2, 3], [2], side="right"),
)
each("unique", lambda d: call(d.i(9)))
each(
    "unique",
    lambda d: call(
        d.i(9), return_index=True, return_inverse=True, return_counts=True, size=4, fill_value=9
    ),
)
each("unravel_index", lambda d: call(d.i(3, high=11), (3, 4)))

each(
    "arange",
    lambda d: call(5),
    lambda d: call(1, 9, 2),
    lambda d: call(0.5, 3),
    lambda d: call(4, dtype="float32"),
)
each("bartlett blackman hamming hanning", lambda d: call(7))
each("kaiser", lambda d: call(7, 2.5))
each("empty ones zeros", lambda d: call((2, 3)), lambda d: call([2], "int32"), lambda d: call(3))
each("full", lambda d: call((2, 3), 7), lambda d: call((2, 3), 1.5, dtype="int32"))
each("identity", lambda d: call(3), lambda d: call(2, dtype="int32"))
each("eye tri", lambda d: call(3), lambda d: call(3, 4, k=1, dtype="int32"))
each("empty_like ones_like zeros_like", lambda d: call(d.n(), dtype="float32"))
each("full_like", lambda d: call(d.n(), 2), lambda d: call(d.n(), 2.5, dtype="float32"))
each("geomspace logspace", lambda d: call(1.0, 3.0, 5), lambda d: call(1, 2, num=4, endpoint=False))
each(
    "linspace",
    lambda d: call(1.0, 3.0, 5),
    lambda d: call(d.f(2), d.f(2), num=4, retstep=True, axis=1),
)
each("vander", lambda d: call(d.n(3)), lambda d: call(d.f(3), 4, increasing=True))
each(
    "array convert_to_tensor",
    lambda d: call([[1, 2], [3, 4]]),
    lambda d: call(d.n(), "float32"),
    lambda d: call(3),
)
each("cast", lambda d: call(d.array(), "float32"), lambda d: call(d.f(), "int32"))
each(
    "saturate_cast",
    lambda d: call(d.f(low=-400, high=400), "uint8"),
    lambda d: call(d.i(3, high=300), "int8"),
)

X3 = {"data_format": "channels_first"}
each(
    "max_pool average_pool",
    lambda d: call(d.f(2, 6, 5, 3), 2, 2),
    lambda d: call(d.f(2, 6, 5, 3), (2, 3), 1, "same"),
)
each(
    "max_pool average_pool",
    lambda d: call(d.f(2, 7, 3), 3, 2),
    lambda d: call(d.f(2, 3, 6, 5), 2, (1, 2), **X3),
)
each("adaptive_average_pool adaptive_max_pool", lambda d: call(d.f(2, 7, 3), 3))
each("adaptive_average_pool adaptive_max_pool", lambda d: call(d.f(2, 3, 7, 5), (3, 2), **X3))
each("adaptive_average_pool adaptive_max_pool", lambda d: call(d.f(1, 4, 5, 4, 2), 2))
each(
    "conv",
    lambda d: call(d.f(2, 6, 5, 4), d.f(3, 2, 4, 5)),
    lambda d: call(d.f(2, 7, 4), d.f(3, 2, 6), 2, "same"),
)
each("conv", lambda d: call(d.f(2, 4, 6, 5), d.f(2, 2, 4, 3), dilation_rate=2, **X3))
each("depthwise_conv", lambda d: call(d.f(2, 6, 5, 4), d.f(3, 2, 4, 2), (1, 1), "same"))
each("depthwise_conv", lambda d: call(d.f(2, 4, 9), d.f(3, 4, 2), 2, **X3))
each("separable_conv", lambda d: call(d.f(2, 6, 5, 4), d.f(3, 2, 4, 2), d.f(1, 1, 8, 3)))
each("conv_transpose", lambda d: call(d.f(2, 4, 3, 3), d.f(3, 2, 5, 3), 2))
each("conv_transpose", lambda d: call(d.f(2, 4, 3), d.f(3, 5, 3), 3, "same"))
each("conv_transpose", lambda d: call(d.f(2, 4, 3), d.f(3, 5, 3), 2, "same", 1))
each("conv_transpose", lambda d: call(d.f(2, 3, 4), d.f(3, 5, 3), 2, output_padding=1, **X3))
each("unfold", lambda d: call(d.f(2, 3, 5, 6), 2), lambda d: call(d.f(2, 3, 5, 6), (2, 3), 1, 1, 2))
each(
    "fold",
    lambda d: call(d.f(2, 12, 20), (5, 6), 2),
    lambda d: call(d.f(2, 12, 12), 6, 2, 1, 1, 2) if 0 else call(d.f(2, 12, 16), 6, 2, 1, 1, 2),
)
each(
    "depth_to_space",
    lambda d: call(d.f(2, 2, 3, 8), 2),
    lambda d: call(d.f(2, 8, 2, 3), 2, "channels_first"),
)
each(
    "space_to_depth",
    lambda d: call(d.f(2, 4, 6, 2), 2),
    lambda d: call(d.f(2, 2, 4, 6), 2, "channels_first"),
)
each("one_hot", lambda d: call(d.i(3, 4), 3), lambda d: call(d.i(3), 4, axis=0, dtype="int32"))
each(
    "multi_hot", lambda d: call(d.i(3, 4), 3), lambda d: call(d.i(3), num_classes=4, dtype="int32")
)


def probabilities(d, *shape):
    x = np.exp(d.f(*shape))
    return x / x.sum(-1, keepdims=True)


each("categorical_crossentropy", lambda d: call(probabilities(d, 3, 4), probabilities(d, 3, 4)))
each(
    "categorical_crossentropy", lambda d: call(probabilities(d, 3, 4), d.f(3, 4), from_logits=True)
)
each("sparse_categorical_crossentropy", lambda d: call(d.i(3), probabilities(d, 3, 4)))
each("sparse_categorical_crossentropy", lambda d: call(d.i(3, 1), d.f(3, 4), True))
each("binary_crossentropy", lambda d: call(d.f(3, 4, low=0, high=1), d.f(3, 4, low=0, high=1)))
each("binary_crossentropy", lambda d: call(d.f(3, 4, low=0, high=1), d.f(3, 4), from_logits=True))
each(
    "moments",
    lambda d: call(d.array(("float32", "bfloat16")), 1),
    lambda d: call(d.f(2, 3, 4), [0, 1], keepdims=True),
)
each("batch_normalization", lambda d: call(d.f(2, 3, 4), d.f(4), d.f(4, low=1), -1))
each(
    "batch_normalization",
    lambda d: call(d.f(2, 3, 4), d.f(3), d.f(3, low=1), 1, d.f(3), d.f(3), 1e-2),
)
each(
    "layer_normalization",
    lambda d: call(d.array(("float32", "bfloat16"))),
    lambda d: call(d.f(2, 3, 4), d.f(4), d.f(4)),
)
each("layer_normalization", lambda d: call(d.f(2, 3, 4), d.f(3), axis=1, epsilon=1e-2))
each("layer_normalization", lambda d: call(d.f(2, 3, 4), d.f(3, 4), axis=(1, 2)))
each(
    "rms_normalization",
    lambda d: call(d.array(("float32", "bfloat16"))),
    lambda d: call(d.f(2, 3, 4), d.f(4), axis=-1),
)
each("rms_normalization", lambda d: call(d.f(2, 3, 4), axis=[1, 2], epsilon=0.1))
each("normalize", lambda d: call(d.f(3, 4), 0, 3), lambda d: call(d.f(3, 4), order=1))
each("dot_product_attention", lambda d: call(d.f(2, 3, 2, 4), d.f(2, 5, 2, 4), d.f(2, 5, 2, 4)))
each(
    "dot_product_attention",
    lambda d: call(
        d.f(2, 3, 2, 4),
        d.f(2, 3, 2, 4),
        d.f(2, 3, 2, 4),
        d.f(2, 2, 3, 3),
        d.array("bool", (2, 1, 3, 3)),
        0.3,
    ),
)
each(
    "dot_product_attention",
    lambda d: call(d.f(2, 3, 2, 4), d.f(2, 3, 2, 4), d.f(2, 3, 2, 4), is_causal=True),
)
each("polar", lambda d: call(d.f(low=0), d.f()))
each("psnr", lambda d: call(d.f(), d.f(), 3.0))
each(
    "ctc_loss",
    lambda d: call(d.i(2, 3, low=1, high=4), d.f(2, 6, 5), np.array([3, 2]), np.array([6, 4])),
)
each(
    "ctc_decode",
    lambda d: call(d.f(2, 6, 5), np.array([6, 4])),
    lambda d: call(d.f(2, 6, 5), np.array([6, 4]), merge_repeated=False, mask_index=2),
)
each("ctc_decode", lambda d: call(d.f(2, 5, 4), np.array([5, 3]), "beam_search", 4, 2))

each("cholesky", lambda d: call(d.positive()), lambda d: call(d.positive(), upper=True))
each("cholesky_inverse", lambda d: call(np.linalg.cholesky(d.positive())))
each("cholesky_inverse", lambda d: call(np.linalg.cholesky(d.positive()).T.copy(), True))
each(
    "det inv", lambda d: call(d.positive()), lambda d: call(np.stack([d.positive(), d.positive()]))
)
each("eigh", lambda d: call(d.positive()))
each("eig", lambda d: call(d.positive()))
each("lstsq", lambda d: call(d.f(4, 3), d.f(4, 2)), lambda d: call(d.f(4, 3), d.f(4), 1e-3))
each("lu_factor", lambda d: call(d.f(3, 3)), lambda d: call(d.f(2, 3, 3)))
each("matrix_rank", lambda d: call(d.f(3, 4)), lambda d: call(d.f(2, 3, 4), 0.1))
each(
    "norm",
    lambda d: call(d.array()),
    lambda d: call(d.f(3, 4), 1, axis=1),
    lambda d: call(d.f(3, 4), "fro", keepdims=True),
)
each("pinv", lambda d: call(d.f(3, 4)))
each("qr", lambda d: call(d.f(4, 3)), lambda d: call(d.f(4, 3), "complete"))
each("solve", lambda d: call(d.positive(), d.f(3)), lambda d: call(d.positive(), d.f(3, 2)))
each("solve_triangular", lambda d: call(np.linalg.cholesky(d.positive()), d.f(3), True))
each(
    "svd",
    lambda d: call(d.f(4, 3)),
    lambda d: call(d.f(4, 3), False),
    lambda d: call(d.f(4, 3), compute_uv=False),
)

each("cdist", lambda d: call(d.f(3, 4), d.f(2, 4)), lambda d: call(d.f(2, 3, 4), d.f(2, 5, 4)))
each("extract_sequences", lambda d: call(d.f(2, 9), 4, 2), lambda d: call(d.f(9), 3, 3))
each("fft", lambda d: call((d.f(2, 6), d.f(2, 6))))
each("fft2 ifft2", lambda d: call((d.f(2, 4, 6), d.f(2, 4, 6))))
each("rfft", lambda d: call(d.f(2, 6)), lambda d: call(d.f(2, 6), 8))
each("irfft", lambda d: call((d.f(2, 4), d.f(2, 4))), lambda d: call((d.f(2, 4), d.f(2, 4)), 5))
each(
    "stft", lambda d: call(d.f(2, 20), 6, 3, 8), lambda d: call(d.f(20), 6, 3, 6, "hamming", False)
)
each(
    "stft",
    lambda d: call(d.f(2, 20), 6, 3, 8, None),
    lambda d: call(d.f(2, 20), 6, 3, 8, d.f(6, low=1)),
)
each(
    "istft",
    lambda d: call((d.f(2, 7, 5), d.f(2, 7, 5)), 6, 3, 8),
    lambda d: call((d.f(7, 4), d.f(7, 4)), 6, 3, 6, 18, "hamming", False),
)
each("istft", lambda d: call((d.f(2, 7, 5), d.f(2, 7, 5)), 6, 3, 8, None, None))
each("in_top_k", lambda d: call(d.i(3), d.f(3, 5), 2))
each("top_k", lambda d: call(d.n(3, 5), 2), lambda d: call(d.f(3, 5), 2, sorted=False))
each("logsumexp", lambda d: call(d.f(), axis=1, keepdims=True))
each(
    "rearrange",
    lambda d: call(d.f(2, 4, 6), "b h w -> b (w h)"),
    lambda d: call(d.f(2, 4, 6), "b (h h1) w -> h1 b w h", h1=2),
)
each("scatter", lambda d: call(np.array([[0, 1], [2, 0]]), d.f(2), (3, 2)))
each("scatter_update", lambda d: call(d.f(3, 4), np.array([[0, 1], [2, 0]]), d.f(2)))
each(
    "scatter_update",
    lambda d: call(d.f(3, 4), [[0, 1], [2, 0]], d.f(2), "max"),
    lambda d: call(d.f(3, 4), [[0], [0]], d.f(2, 4), "add"),
)
each(
    "segment_sum segment_max segment_min segment_prod",
    lambda d: call(d.f(4, 2), np.array([0, 1, 0, 2]), 3),
)
each(
    "segment_sum segment_max",
    lambda d: call(d.i(4), np.array([0, 0, 1, 2]), num_segments=4, sorted=True),
)
each(
    "slice",
    lambda d: call(d.f(3, 4), (1, 0), (2, -1)),
    lambda d: call(d.f(3, 4), np.array([1, 1]), (2, 2)),
)
each("slice_update", lambda d: call(d.f(3, 4), [1, 1], d.f(2, 2)))
each("unstack", lambda d: call(d.n(2, 3)), lambda d: call(d.n(2, 3), axis=1))
each("view_as_complex", lambda d: call(d.f(3, 2)))
each("view_as_real", lambda d: call(d.array("complex64")), lambda d: call(d.f()))
each("is_tensor", lambda d: call(d.f()), lambda d: call([1]))

each("cond", lambda d: call(d.array("bool", ()), lambda: np.float32(1), lambda: np.float32(2)))
each("switch", lambda d: call(1, [lambda x: x + 1, lambda x: x * 2], d.f()))
each("while_loop", lambda d: call(lambda i, x: i < 3, lambda i, x: (i + 1, x * 2), (0, d.f())))
each(
    "while_loop",
    lambda d: call(lambda x: x.sum() < 1e6, lambda x: x * 2, d.f(low=1), maximum_iterations=3),
)
each("fori_loop", lambda d: call(0, 3, lambda i, x: x + i, d.f()))
each(
    "scan",
    lambda d: call(lambda c, x: (c + x, c * x), d.f(3), d.f(4, 3)),
    lambda d: call(lambda c, x: (c * 2, c), d.f(3), length=3, reverse=True),
)
each(
    "associative_scan",
    lambda d: call(lambda a, b: a * b, d.f(4, 3)),
    lambda d: call(lambda a, b: a + b, d.f(4, 3), True, 1),
)
each("map", lambda d: call(lambda x: x * 2, d.f(4, 3)))
each("vectorized_map", lambda d: call(lambda x: x.sum(), d.f(4, 3)))
each("vectorized_map", lambda d: call(lambda xs: xs[0] @ xs[1], (d.f(4, 3), d.f(4, 3))))
each("jvp", lambda d: call(lambda x: x * x, (d.f(),), (d.f(),)))


def images(d, *shape):
    return d.f(*(shape or (2, 6, 5, 3)), low=0, high=1)


FIRST = {"data_format": "channels_first"}
each(
    "rgb_to_grayscale rgb_to_hsv hsv_to_rgb",
    lambda d: call(images(d)),
    lambda d: call(images(d, 3, 4, 5), "channels_first"),
)
each("rgb_to_grayscale", lambda d: call(d.i(4, 5, 3, high=255, dtype="uint8")))
each(
    "resize",
    lambda d: call(images(d), (4, 8)),
    lambda d: call(images(d, 3, 6, 5), (3, 3), "nearest", **FIRST),
)
each("resize", lambda d: call(d.i(2, 6, 5, 3, high=255, dtype="uint8"), (4, 8), "bicubic", True))
each(
    "resize",
    lambda d: call(images(d), (4, 8), crop_to_aspect_ratio=True),
    lambda d: call(images(d), (4, 8), pad_to_aspect_ratio=True, fill_value=0.5),
)
each(
    "scale_and_translate",
    lambda d: call(
        images(d), (2, 4, 4, 3), d.f(2, low=0.5, high=2), d.f(2), (1, 2), "linear", False
    ),
)
each(
    "pad_images",
    lambda d: call(images(d), 1, 2, 0, 1),
    lambda d: call(images(d), top_padding=1, left_padding=2, target_height=9, target_width=9),
)
each(
    "crop_images",
    lambda d: call(images(d), 1, 2, 0, 1),
    lambda d: call(images(d), top_cropping=1, right_cropping=2, target_height=3, target_width=2),
)
each(
    "extract_patches",
    lambda d: call(images(d), 2),
    lambda d: call(images(d), (3, 2), 1, padding="same"),
    lambda d: call(images(d, 4, 6, 5, 2), (2, 2, 2)),
)
each("extract_patches", lambda d: call(images(d, 6, 5, 3), 2, dilation_rate=2, strides=1))
each(
    "extract_patches_3d",
    lambda d: call(images(d, 2, 4, 6, 5, 2), 2),
    lambda d: call(images(d, 4, 6, 5, 2), (2, 1, 2)),
)
each(
    "ssim",
    lambda d: call(images(d, 2, 12, 13, 3), images(d, 2, 12, 13, 3)),
    lambda d: call(images(d, 3, 12, 13), images(d, 3, 12, 13), 2.0, 5, **FIRST),
)
each(
    "map_coordinates",
    lambda d: call(d.f(4, 5), d.f(2, 3, low=0, high=3), 1),
    lambda d: call(d.f(4, 5), d.f(2, 3, 2), 0, "reflect"),
)
each(
    "affine_transform",
    lambda d: call(images(d), np.array([[1, 0.2, 1, 0.1, 0.9, -1, 0, 0]] * 2, "f")),
)
each(
    "affine_transform",
    lambda d: call(
        images(d, 3, 6, 5),
        np.array([1, 0.2, 1, 0.1, 0.9, -1, 0, 0], "f"),
        "nearest",
        "reflect",
        **FIRST,
    ),
)
POINTS = np.array([[0, 0], [4, 0], [0, 5], [4, 5]], "float32")
each(
    "perspective_transform",
    lambda d: call(
        images(d), np.stack([POINTS] * 2), np.stack([POINTS] * 2) + d.f(2, 4, 2, low=-0.3, high=0.3)
    ),
)
each(
    "perspective_transform",
    lambda d: call(
        images(d, 6, 5, 3), POINTS, POINTS + d.f(4, 2, low=-0.3, high=0.3), "nearest", 0.5
    ),
)
each(
    "gaussian_blur",
    lambda d: call(images(d), (3, 5), (1.0, 2.0), "channels_last"),
    lambda d: call(images(d, 3, 6, 5), **FIRST),
)
each(
    "sobel_edges",
    lambda d: call(images(d)),
    lambda d: call(images(d, 2, 3, 6, 5), "channels_first"),
)
each("elastic_transform", lambda d: call(images(d), 3.0, 1.0, seed=3))
each("vectorize", lambda d: call(lambda x: x + 1))
each("custom_gradient", lambda d: call(lambda x: (x, lambda upstream: 2 * upstream)))
