"""Wrong arguments and wrong inputs: each is an error that says what was expected and received."""

import dataclasses
import functools
import math
import re
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.core.calling import call, initialize, output_spec, weight_spec
from fnn.core.context import INFERENCE, Context, Masked, strip_masks
from fnn.core.fields import field_kind, hints
from fnn.layers.shared.recurrence import OverTime
from fnn.preprocessing.images.base import BaseImagePreprocessingLayer
from tests.generate.trees import paths
from tests.helpers.catalogue import CATALOGUE, COMPILED

FORM = re.compile(r"expected .* received ", re.DOTALL)


def spec(*shape, dtype="float32"):
    return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))


def reads(error, *words):
    message = str(error.value)
    assert FORM.search(message), message
    for word in words:
        assert word in message, message


WRONG_ARGUMENTS = [
    (lambda: L.Dense(0), "units=0"),
    (lambda: L.Conv2D(0, 3), "filters=0"),
    (lambda: L.Conv2D(4.0, 3), "filters=4.0"),
    (lambda: L.Conv2D(4, 0), "kernel_size=0"),
    (lambda: L.Conv2D(4, (3, 3, 3)), "kernel_size=(3, 3, 3)"),
    (lambda: L.Conv1D(4, 3, strides=0), "strides=0"),
    (lambda: L.Conv3D(4, 3, dilation_rate=(1, 0, 1)), "dilation_rate=(1, 0, 1)"),
    (lambda: L.Conv2D(4, 3, padding="causal"), "padding='causal'"),
    (lambda: L.Conv2D(4, 3, padding="SAME"), "'same'"),
    (lambda: L.Conv1D(4, 3, data_format="NHWC"), "channels_last"),
    (lambda: L.Conv2D(4, 3, groups=0), "groups=0"),
    (lambda: L.Conv2D(4, 3, groups=3), "multiple of groups=3"),
    (lambda: L.Conv2D(4, 3, activation="rleu"), "relu"),
    (lambda: L.Conv2D(4, 3, kernel_initializer="zero_s"), "zeros"),
    (lambda: L.Conv2DTranspose(0, 3), "filters=0"),
    (lambda: L.Conv1DTranspose(2, 3, padding="causal"), "padding='causal'"),
    (lambda: L.Conv2DTranspose(2, 3, data_format="last"), "data_format='last'"),
    (lambda: L.Conv2DTranspose(2, 3, 2, output_padding=2), "less than strides=2"),
    (lambda: L.DepthwiseConv2D(3, depth_multiplier=0), "depth_multiplier=0"),
    (lambda: L.DepthwiseConv1D(3, padding="causal"), "padding='causal'"),
    (lambda: L.SeparableConv1D(2, (3, 3)), "kernel_size=(3, 3)"),
    (lambda: L.SeparableConv2D(0, 3), "filters=0"),
    (lambda: L.MaxPooling2D(0), "pool_size=0"),
    (lambda: L.MaxPooling2D((2, 2, 2)), "pool_size=(2, 2, 2)"),
    (lambda: L.MaxPooling1D(2, strides=0), "strides=0"),
    (lambda: L.AveragePooling3D(2, padding="causal"), "padding='causal'"),
    (lambda: L.AveragePooling2D(2, data_format="last"), "data_format='last'"),
    (lambda: L.GlobalMaxPooling2D("last"), "data_format='last'"),
    (lambda: L.Flatten("last"), "data_format='last'"),
    (lambda: L.Reshape(4), "target_shape=4"),
    (lambda: L.Reshape((-1, -1)), "at most one -1"),
    (lambda: L.Reshape((2, -3)), "target_shape=(2, -3)"),
    (lambda: L.Permute((0, 1)), "dims=(0, 1)"),
    (lambda: L.Permute(2), "dims=2"),
    (lambda: L.RepeatVector(0), "n=0"),
    (lambda: L.ZeroPadding1D(-1), "padding=-1"),
    (lambda: L.ZeroPadding1D((1, 2, 3)), "padding=(1, 2, 3)"),
    (lambda: L.ZeroPadding2D((1, 2, 3)), "2 numbers or pairs"),
    (lambda: L.ZeroPadding2D(((1, 2), (3, -4))), "padding=(3, -4)"),
    (lambda: L.ZeroPadding2D(1, "last"), "data_format='last'"),
    (lambda: L.Cropping1D(0.5), "cropping=0.5"),
    (lambda: L.Cropping3D((1, 2)), "3 numbers or pairs"),
    (lambda: L.Cropping2D(1, "last"), "data_format='last'"),
    (lambda: L.UpSampling1D(0), "size=0"),
    (lambda: L.UpSampling2D(2, interpolation="cubic"), "bicubic"),
    (lambda: L.UpSampling2D(2, "last"), "data_format='last'"),
    (lambda: L.UpSampling3D((1, 2)), "size=(1, 2)"),
    (lambda: L.UpSampling3D(2, "last"), "data_format='last'"),
    (lambda: L.Concatenate(0), "axis=0"),
    (lambda: L.Concatenate(1.5), "axis=1.5"),
    (lambda: L.Dot(0), "the batch"),
    (lambda: L.Dot((1, 2, 3)), "axes=(1, 2, 3)"),
    (lambda: L.Embedding(0, 4), "input_dim=0"),
    (lambda: L.Embedding(4, -1), "output_dim=-1"),
    (lambda: L.Masking("0"), "mask_value='0'"),
    (lambda: L.Masking(float("nan")), "mask_value=nan"),
    (lambda: L.Rescaling("1"), "scale='1'"),
    (lambda: L.Rescaling(1.0, [[1], [1, 2]]), "offset="),
    (lambda: L.Rescaling(math.nan), "scale=nan"),
    (lambda: L.Rescaling(1, [0.0, math.inf]), "to be a finite number or a list"),
    (lambda: L.Softmax(axis=()), "axis=()"),
    (
        lambda: L.EinsumDense("ab,bc->ac", 3, bias_axes=""),
        "or None for no bias, received bias_axes",
    ),
    (lambda: L.Dense(2, input_shape=(3, -1)), "input_shape=(3, -1)"),
    (lambda: L.Dense(2, input_shape=5), "a tuple of integers and None, or None, received in"),
    (lambda: L.LSTM(0), "units=0"),
    (lambda: L.LSTM(3, dropout=1.5), "dropout=1.5"),
    (lambda: L.GRU(3, recurrent_dropout=-0.1), "recurrent_dropout=-0.1"),
    (lambda: L.SimpleRNN(3, seed=-1), "seed=-1"),
]


@pytest.mark.parametrize(("make", "word"), WRONG_ARGUMENTS)
def test_wrong_argument(make, word):
    with pytest.raises(ValueError, match="expected") as error:
        make()
    reads(error, word)


def refusal(function, *args, **named):
    """The error that a call ends in, or None."""
    try:
        function(*args, **named)
    except (ValueError, TypeError) as error:
        return error
    return None


class Stranger:
    """What no field holds."""


MISFITS = {bool: ("no", 1), int: ("3", 2.5, True), float: ("1", True, math.nan), str: (3, b"a")}
LAYERS = {type(case.layer): case.layer for case in CATALOGUE}.values()
INHERITED = {field.name for field in dataclasses.fields(L.Layer)}  # checked by Layer itself


def fields_of(layer):
    """The fields that the class of a layer adds; those of every layer for one of them alone."""
    if type(layer) is L.Graph:  # made by calls, which have checks of their own
        return []
    names = [field.name for field in dataclasses.fields(layer)]
    return [name for name in names if type(layer) is L.Dense or name not in INHERITED]


by_class = pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)


def misfits_of(layer, field):
    hint = hints(type(layer))[field]
    return (Stranger(), *(MISFITS.get(hint, ()) if field_kind(field) is None else ("nonsense",)))


@by_class
def test_no_field_holds_what_it_is_not_for(layer):
    for field in fields_of(layer):
        if (type(layer), field) == (L.Lambda, "output_shape"):
            continue  # taken for Keras's sake and not read
        for misfit in misfits_of(layer, field):
            with pytest.raises((ValueError, TypeError), match="expected") as error:
                layer.replace(**{field: misfit})
            reads(error)
            told = str(error.value) + " ".join(getattr(error.value, "__notes__", ()))
            assert field in told
            assert type(layer).__name__ in told


# Fields that hold numbers of either sign, or ones without end.
ANY_NUMBER = {
    *("BatchNormalization.axis", "LayerNormalization.axis", "GroupNormalization.axis"),
    *("RMSNormalization.axis", "UnitNormalization.axis", "Softmax.axis", "PReLU.shared_axes"),
    *("Concatenate.axis", "Reverse.axis", "Dot.axes", "MultiHeadAttention.attention_axes"),
    "GroupNormalization.groups",  # -1: one a channel
    *("ELU.alpha", "Masking.mask_value", "Normalization.axis", "MelSpectrogram.ref_power"),
    # the ends of an interval around 0
    *("RandomBrightness.factor", "RandomSaturation.factor", "RandomColorDegeneration.factor"),
    *("RandomRotation.factor", "RandomTranslation.height_factor", "RandomTranslation.width_factor"),
    "RandomColorJitter.brightness_factor",
    "RandomColorJitter.saturation_factor",
    # 0 or less: nothing is cut off
    "ContrastLimitedAdaptiveHistogramEqualization.clip_limit",
}


def numbers(layer, field):
    """What is out of range for most fields that may hold a number, beside what else they may."""
    hint = hints(type(layer))[field]
    kinds = typing.get_args(hint) or (hint,)
    by_axis = int in kinds and tuple in map(typing.get_origin, kinds)
    return [-1] * (int in kinds) + [-1.0, math.inf] * (float in kinds) + [(1, -1)] * by_axis


@by_class
def test_no_field_holds_a_number_out_of_its_range(layer):
    for field in fields_of(layer):
        wrong = numbers(layer, field)
        errors = [refusal(layer.replace, **{field: number}) for number in wrong]
        for error in filter(None, errors):
            assert FORM.search(str(error)), error
            assert field in str(error)
        free = field == "fill_value" or f"{type(layer).__name__}.{field}" in ANY_NUMBER
        assert all(errors) == (not free) or not wrong, f"{type(layer).__name__}.{field}"


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: L.Lambda("square"), "function='square'"),
        (lambda: L.Lambda(jnp.square, mask=True), "mask=True"),
        (lambda: L.Lambda(jnp.square, arguments=[1]), "arguments=(1,)"),
    ],
)
def test_lambda_of_no_function(make, word):
    with pytest.raises(TypeError, match="expected") as error:
        make()
    reads(error, word)


WRONG_INPUTS = [
    (L.Dense(3), spec(4), "(4,)"),
    (L.Conv2D(4, 3), spec(2, 28, 28), "(batch, height, width, channels)"),
    (L.Conv2D(4, 3, data_format="channels_first"), spec(2, 8, 8), "(batch, channels, height, wid"),
    (L.Conv1D(4, 3), spec(2, 3, 4, 5), "(batch, steps, channels)"),
    (L.Conv3D(4, 3), spec(2, 3, 4, 5), "depth"),
    (L.Conv2D(4, 5), spec(2, 4, 8, 3), "at least (5, 5)"),
    (L.Conv1D(4, 3, dilation_rate=2), spec(2, 4, 3), "at least (5,)"),
    (L.Conv2D(4, 3, groups=2), spec(2, 8, 8, 3), "multiple of groups=2"),
    (L.Conv2DTranspose(4, 3), spec(2, 8, 8), "(batch, height, width, channels)"),
    (L.DepthwiseConv1D(3, data_format="channels_first"), spec(2, 8), "(batch, channels, steps)"),
    (L.SeparableConv2D(4, 5), spec(2, 4, 8, 3), "at least (5, 5)"),
    (L.MaxPooling2D(), spec(2, 8, 8), "(batch, height, width, channels)"),
    (L.MaxPooling2D(9), spec(2, 8, 8, 1), "at least (9, 9)"),
    (L.AveragePooling1D(2, data_format="channels_first"), spec(2, 8), "(batch, channels, steps)"),
    (L.GlobalMaxPooling1D(), spec(2, 8), "(batch, steps, channels)"),
    (L.GlobalAveragePooling2D("channels_first"), spec(2, 8), "(batch, channels, height, width)"),
    (L.Flatten(), spec(), "()"),
    (L.Reshape((2, 3)), spec(5, 7), "choose a target_shape of 7 values"),
    (L.Reshape((2, -1)), spec(5, 7), "a multiple of 2"),
    (L.Permute((2, 1)), spec(5, 7), "3 axes"),
    (L.RepeatVector(2), spec(5, 7, 2), "(batch, features)"),
    (L.ZeroPadding2D(), spec(5, 7, 2), "4 axes"),
    (L.Cropping1D(), spec(5, 7), "(batch, steps, channels)"),
    (L.Cropping1D((3, 4)), spec(5, 7, 2), "larger than cropping=(3, 4)"),
    (L.Cropping2D(((0, 0), (1, 1))), spec(5, 7, 2, 3), "received one array of shape (5, 7, 2, 3)"),
    (L.UpSampling1D(), spec(5, 7), "(batch, steps, channels)"),
    (L.UpSampling2D(), spec(5, 7, 2), "4 axes"),
    (L.UpSampling3D(), spec(5, 7, 2), "5 axes"),
    (L.Add(), (spec(5, 7), spec(5, 8)), "[(5, 7), (5, 8)]"),
    (L.Add(), (spec(5, 7), spec(1, 7)), "one batch size"),
    (L.Multiply(), (spec(5, 3, 7), spec(5, 3)), "[(5, 3, 7), (5, 3)]"),
    (L.Subtract(), (spec(5, 7),) * 3, "2 arrays"),
    (L.Concatenate(), (spec(5, 7), spec(5, 7, 2)), "[(5, 7), (5, 7, 2)]"),
    (L.Concatenate(1), (spec(5, 7, 2), spec(5, 7, 3)), "except along axis 1"),
    (L.Concatenate(2), (spec(5, 7), spec(5, 7)), "axis 2"),
    (L.Concatenate(-2), (spec(5, 7), spec(5, 7)), "axis -2"),
    (L.Dot(1), (spec(5, 7), spec(5, 8)), "[(5, 7), (5, 8)]"),
    (L.Dot(2), (spec(5, 7), spec(5, 7)), "axes=2"),
    (L.Dot(1), (spec(5, 7),) * 3, "2 arrays"),
    (L.Embedding(4, 2), spec(dtype="int32"), "axes"),
    (L.Embedding(4, 2, mask_zero=True), spec(5, dtype="int32"), "mask_zero=False"),
    (L.Masking(), spec(5, 7), "(batch, time, features, ...)"),
    (L.Rescaling([1, 2, 3]), spec(5, 7), "(5, 7)"),
    (
        L.Rescaling(1, [[1, 2, 3]]),
        spec(5),
        "offset to have the last axes of",
    ),
    (L.LSTM(3), spec(5, 7), "(batch, time, features)"),
    (L.LSTM(3), (spec(5, 7, 2), spec(5, 3)), "received [(5, 3)]"),
    (L.GRU(3), (spec(5, 7, 2), spec(5, 4)), "of shapes [(5, 3)], received [(5, 4)]"),
    (L.SimpleRNN(3), spec(5, 7, 2, 2), "3 axes"),
]


@pytest.mark.parametrize(("layer", "x", "word"), WRONG_INPUTS, ids=lambda value: str(value)[:60])
def test_wrong_input(layer, x, word):
    """It is known from shapes alone, and says in which layer."""
    with pytest.raises(ValueError, match="expected") as error:
        output_spec(layer, x)
    reads(error, word)
    assert any(repr(layer) in note for note in error.value.__notes__)


@pytest.mark.parametrize("layer", [L.Add(), L.Concatenate(), L.Dot(1)], ids=repr)
@pytest.mark.parametrize("x", [spec(3, 4), ()], ids=["array", "nothing"])
def test_merging_wants_a_tuple(layer, x):
    with pytest.raises(TypeError, match="tuple") as error:
        initialize(layer, jax.random.key(0), x)
    reads(error, type(layer).__name__)


@pytest.mark.parametrize(
    "layer",
    [L.Dense(2), L.Conv1D(2, 1), L.Flatten(), L.Embedding(3, 2), L.MaxPooling1D()],
    ids=repr,
)
def test_layers_of_one_input_refuse_two(layer):
    with pytest.raises(TypeError, match="one array") as error:
        initialize(layer, jax.random.key(0), (spec(3, 4, 4), spec(3, 4, 4)))
    reads(error, "Concatenate")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([[1, 4]], ("from 0 to 3", "received 4 at (0, 1)")),
        ([[1, 2], [-1, 0]], ("from 0 to 3", "received -1 at (1, 0)")),
        ([[1.0, 0.5]], ("integers", "received 0.5")),
    ],
)
def test_ids_in_the_data_of_a_model(data, words):
    with pytest.raises(ValueError, match="ids") as error:
        L.Embedding(4, 2).check_values(np.array(data))
    reads(error, *words)


OUTSIDE = np.array([[1, 2], [4, 0]], "int32")


def _called(layer):
    """Every way to give a layer ids that are known."""
    params, state = initialize(layer, jax.random.key(0), OUTSIDE)
    model = fnn.Model(layer)
    model.build((None, 2))
    once = jax.vmap(lambda params: layer.apply(params, state, OUTSIDE)[0])
    return {
        "apply": lambda: layer.apply(params, state, OUTSIDE),
        "apply on the device": lambda: layer.apply(params, state, jnp.asarray(OUTSIDE)),
        "a gradient": lambda: jax.grad(
            lambda p: strip_masks(layer.apply(p, state, OUTSIDE)[0]).sum()
        )(params),
        "vmap over weights": lambda: once(jax.tree.map(lambda a: a[None], params)),
        "a model": lambda: model(OUTSIDE),
        "predict": lambda: model.predict(OUTSIDE, verbose=0),
        "predict_on_batch": lambda: model.predict_on_batch(OUTSIDE),
    }


@pytest.mark.parametrize(
    "layer",
    [
        L.Embedding(4, 2, mask_zero=True),
        L.ReversibleEmbedding(4, 2),
        L.Sequential([L.Embedding(4, 2), L.Dense(3)]),
        L.LoRA(L.Sequential([L.Embedding(4, 2), L.Dense(3)]), 1),
        L.SpectralNormalization(L.Embedding(4, 2)),
    ],
    ids=["Embedding", "ReversibleEmbedding", "Sequential", "LoRA", "SpectralNormalization"],
)
def test_ids_out_of_range_are_refused_wherever_they_are_known(layer):
    for call_it in _called(layer).values():
        with pytest.raises(ValueError, match=r"expected ids from 0 to 3, received 4 at \(1, 0\)"):
            call_it()


def test_ids_that_are_masked_or_not_known_are_not_refused():
    layer = L.Embedding(4, 2)
    params, state = initialize(layer, jax.random.key(0), OUTSIDE)
    valid = jnp.asarray(OUTSIDE < 4)
    y, _ = call(layer, params, state, Masked(jnp.asarray(OUTSIDE), valid), INFERENCE)
    assert bool(jnp.isfinite(y.values[valid]).all())
    traced = jax.jit(lambda ids: layer.apply(params, state, ids)[0])(OUTSIDE)
    np.testing.assert_array_equal(jnp.isnan(traced).any(-1), OUTSIDE > 3)
    model = fnn.Model(layer)
    model.build((None, 2))
    assert bool(jnp.isnan(jax.jit(model)(OUTSIDE)).any())


def width_axis(layer):
    """The axis of the inputs that the weights are as wide as."""
    if isinstance(layer, L.EinsumDense):
        return layer.equation.index(layer.equation[layer.equation.index(",") + 1])
    first = getattr(layer, "data_format", None) == "channels_first"
    over_time = isinstance(layer, OverTime)
    return (2 if over_time else 1) if first else getattr(layer, "axis", -1)


def reshaped(case, change, index=0):
    """The inputs with another shape of one of them."""
    inputs = list(case.x) if isinstance(case.x, tuple) else [case.x]
    old = inputs[index]
    new = jax.ShapeDtypeStruct(tuple(change(list(old.shape))), old.dtype)
    inputs[index] = Masked(new, old.mask) if isinstance(old, Masked) else new
    return tuple(inputs) if isinstance(case.x, tuple) else inputs[0]


def run_on(case, x):
    """The shapes that come of other inputs than those of `init`."""
    run = lambda params, state, x: call(case.layer, params, state, x, INFERENCE)
    return jax.eval_shape(run, *weights_of(case), x)


@functools.cache
def weights_of(case):
    return weight_spec(case.layer, case.x)


def wider(case):
    axis = width_axis(case.layer)
    axis = axis[0] if isinstance(axis, tuple) else axis
    return lambda shape: [n + (i == axis % len(shape)) for i, n in enumerate(shape)]


LOOKING_UP = (L.Embedding, L.ReversibleEmbedding)  # of ids: as wide as there are steps
WITH_WEIGHTS = [
    case
    for case in CATALOGUE
    if paths()[case.id]["params"]
    and not (isinstance(case.layer, LOOKING_UP) and case.x.dtype == "int32")
    and not isinstance(case.layer, L.STFTSpectrogram)  # each channel with the same weights
]


def rows(cases):
    """A parametrization over rows: what is said hangs on the class, so further rows are thorough.

    Those of convolution and pooling in both data formats: test_spatial.py.
    """
    marks = {True: (), False: pytest.mark.thorough}
    each = [pytest.param(case, id=case.id, marks=marks[case in COMPILED]) for case in cases]
    return pytest.mark.parametrize("case", each)


@pytest.mark.slow
@rows(WITH_WEIGHTS)
def test_inputs_of_another_width_than_in_init(case):
    with pytest.raises(ValueError, match="expected") as error:
        run_on(case, reshaped(case, wider(case)))
    reads(error)
    note = error.value.__notes__[0]
    assert note.startswith("in layer ")
    assert " applied to " in note


# Those that take inputs of any number of axes, or of a range of numbers.
ANY_RANK = {
    *(
        L.Identity,
        L.InputLayer,
        L.Unmask,
        L.Lambda,
        L.Rescaling,
        L.Flatten,
        L.Reshape,
        L.Reverse,
        L.Masking,
    ),
    *(L.Activation, L.ReLU, L.LeakyReLU, L.ELU, L.Softmax, L.UnitNormalization, L.Add, L.Dot),
    *(L.Dropout, L.GaussianDropout, L.GaussianNoise, L.AlphaDropout, L.ActivityRegularization),
    *(L.Embedding, L.ReversibleEmbedding, L.RotaryEmbedding, L.Operator, L.GetItem),
    # where `axis` is counted from the front
    *(L.LayerNormalization, L.BatchNormalization, L.GroupNormalization, L.RMSNormalization),
    *(L.CategoryEncoding, L.Discretization, L.MelSpectrogram, L.Normalization),
    L.Pipeline,  # one image is a batch of one, as for the layers in it
}


@pytest.mark.parametrize("change", [lambda s: [*s, 2], lambda s: s[:-1]], ids=["more", "less"])
@rows(CATALOGUE)
def test_inputs_of_another_rank_than_in_init(case, change):
    found = refusal(run_on, case, reshaped(case, change))
    if found is None:
        images = isinstance(case.layer, BaseImagePreprocessingLayer)
        any_rank = images or type(case.layer) in ANY_RANK
        assert any_rank or "..." in getattr(case.layer, "equation", "")
    else:
        assert FORM.search(str(found)), found
        assert any(note.startswith("in layer ") for note in found.__notes__)


CHANGES = {
    "wider": lambda shape: [*shape[:-1], shape[-1] + 1],
    "more axes": lambda shape: [*shape, 2],
    "less axes": lambda shape: shape[:-1],
    "another batch": lambda shape: [shape[0] + 1, *shape[1:]],
}
# What each of several inputs may be without the others: such inputs have a meaning there.
FREE = {
    L.Add: {"less axes"},  # broadcast
    L.Subtract: {"less axes"},
    L.Concatenate: {"wider"},
    L.Dot: {"wider", "more axes", "less axes"},  # along the axes that are not summed over
    L.MatMul: {"wider"},
    L.Attention: {"wider"},  # the values
}
SEVERAL = [
    pytest.param(
        case, index, id=f"{index}-{case.id}", marks=[pytest.mark.thorough] * (case not in COMPILED)
    )
    for case in CATALOGUE
    if len(case.inputs) > 1
    for index in range(len(case.inputs))
]


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("case", "index"), SEVERAL)
def test_each_of_several_inputs_fits_the_others(case, index, change):
    error = refusal(run_on, case, reshaped(case, CHANGES[change], index))
    if error is None:
        assert change in FREE[type(case.layer)]
    else:
        assert FORM.search(str(error)), error
        assert any(note.startswith("in layer ") for note in error.__notes__)


@pytest.mark.parametrize(
    ("layer", "built", "given", "words"),
    [
        (L.Dense(2), (3, 4), (3, 5), "inputs of 4 features, received 5 in shape (3, 5)"),
        (L.BatchNormalization(), (3, 4), (3, 1), "inputs of 4 features, received 1 in"),
        (L.PReLU(), (3, 4), (3, 1), "inputs of 4 features, received 1 in shape (3, 1)"),
        (
            L.LayerNormalization((1, 2)),
            (3, 4, 5),
            (3, 5, 4),
            "gamma of shape (5, 4) for inputs of shape (3, 5, 4)",
        ),
        (L.MaxPooling2D(), (3, 4, 4, 1), (3, 4, 4), "inputs of 4 axes (batch, height, width, cha"),
        (
            L.Permute((2, 1)),
            (3, 4, 5),
            (3, 4),
            "inputs of 3 axes (batch, axis 1, axis 2)",
        ),
    ],
    ids=str,
)
def test_apply_alone_checks_its_inputs(layer, built, given, words):
    params, state = layer.init(jax.random.key(0), spec(*built))
    with pytest.raises(ValueError, match="expected") as error:
        layer.apply(params, state, jnp.ones(given))
    reads(error, words)
    with pytest.raises(ValueError, match="expected"):
        layer.apply(params, state, x=jnp.ones(given))


def test_weights_of_a_wrong_shape_are_not_taken_for_wrong_inputs():
    x, layer = jnp.ones((8, 4)), L.Dense(3)
    params, state = layer.init(jax.random.key(0), x)
    for kernel, words in (
        ((4, 5), "kernel of shape (4, 3) for inputs of shape (8, 4), received shape (4, 5)"),
        ((4,), "kernel of shape (4, 3) for inputs of shape (8, 4), received shape (4,)"),
        ((6, 3), "inputs of 6 features, received 4 in shape (8, 4)"),  # one or the other
        ((6, 3), "pass 6 features, or kernel of shape (4, 3) for 4"),
    ):
        with pytest.raises(ValueError, match="Dense: expected") as error:
            layer.apply({**params, "kernel": jnp.ones(kernel)}, state, x)
        reads(error, words)
    with pytest.raises(ValueError, match="expected") as error:
        layer.apply({**params, "bias": jnp.ones(2)}, state, x)
    reads(error, "bias of shape (3,) for inputs of shape (8, 4), received shape (2,)")


def test_arrays_in_arguments_are_told_by_their_shape():
    matrix = np.random.default_rng(0).normal(size=(100, 16))
    with pytest.raises(ValueError, match="Embedding: expected weights") as error:
        L.Embedding(100, 16, weights=[matrix])
    reads(error, "received weights=[an array float64[100, 16]]; make the model, then layer.set_")
    with pytest.raises(ValueError, match="Dense: expected units") as error:
        L.Dense(np.arange(1000.0))
    assert len(str(error.value)) < 500
    model = fnn.Sequential([L.Embedding(100, 16, input_shape=(3,))])
    model.layers[0].set_weights([matrix])
    np.testing.assert_array_equal(model.get_weights()[0], matrix.astype("float32"))


REFUSING = [
    L.Conv1D(2, 1),
    L.MaxPooling1D(),
    L.AveragePooling1D(2),
    L.Flatten(),
    L.Reshape((-1,)),
    L.Permute((2, 1)),
    L.ZeroPadding1D(),
    L.Cropping1D(),
    L.UpSampling1D(),
    L.Lambda(jnp.square),
]


@pytest.mark.parametrize("layer", REFUSING, ids=repr)
def test_masks_that_would_be_lost_are_refused(layer):
    x = Masked(jnp.ones((2, 4, 3)), jnp.ones((2, 4), bool))
    params, state = initialize(layer, jax.random.key(0), x)
    with pytest.raises(ValueError, match="mask") as error:
        call(layer, params, state, x, INFERENCE)
    reads(error, "Unmask()")


def test_dropout_in_training_wants_a_key():
    layer, x = L.LSTM(2, dropout=0.5), jnp.ones((1, 2, 3))
    params, state = layer.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="key") as error:
        layer.apply(params, state, x, Context(train=True))
    reads(error, "jax.random.key(0)")


@pytest.mark.parametrize("number", [-1, 4, 1000, 0.5])
def test_an_id_outside_the_table_is_not_a_number(number):
    """Where ids are traced one neither wraps nor clamps: it shows, and no row learns from it."""
    layer, ids = L.Embedding(4, 2), jnp.array([[1, number]])
    params, state = layer.init(jax.random.key(0), ids)
    run = lambda p, ids: layer.apply(p, state, ids)[0]
    y = jax.jit(run)(params, ids)
    assert np.isfinite(y[0, 0]).all()
    assert np.isnan(y[0, 1]).all()
    slope = jax.jit(jax.grad(lambda p, ids: jnp.nansum(run(p, ids))))
    gradient = slope(params, ids)["embeddings"]
    np.testing.assert_array_equal(gradient, [[0, 0], [1, 1], [0, 0], [0, 0]])
