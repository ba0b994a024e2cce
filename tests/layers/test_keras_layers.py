"""Every layer of the catalogue against Keras, run live: signature, weights, outputs, gradients."""

import dataclasses
import inspect
from pathlib import Path

import pytest

from fnn import layers as L
from fnn.core.fields import field_kind
from fnn.core.layer import Layer
from fnn.layers import Conv3DTranspose
from tests.generate.trees import paths
from tests.helpers.attention_calls import DRAWN_TOO, RELATIVES
from tests.helpers.catalogue import CATALOGUE, COMPILED
from tests.helpers.keras_twins import OURS, assert_equals_keras


def moves(case):
    """Whether training changes a state of the layer: then its numbers can be those of Keras."""
    state = paths()[case.id]["state"]
    return any(path[-1] != "aux_loss" for path in state) and case.trains


TWINS = [case for case in CATALOGUE if case.keras is not None]
# In training where something moves: dropout draws other random numbers than Keras. Not where Keras
# moves the averages of a `TimeDistributed` once a step: here all steps are one batch, by NumPy in
# test_combinators.py.
RUNS = [
    pytest.param(case, train, id=f"{'training' if train else 'inference'}-{case.id}")
    for case in TWINS
    for train in (False, True)
    if not train or (moves(case) and not isinstance(case.layer, L.TimeDistributed))
]
CLASSES = sorted({type(case.layer) for case in TWINS if case.keras == "same"}, key=str)
# Of Keras's arguments fnn leaves out: what wrappers do, what JAX decides, arrays in a value.
LEFT_OUT = {
    "weights",
    "lora_rank",
    "lora_alpha",
    "quantization_config",
    "gptq_unpacked_column_size",
    "use_cudnn",
    "name",
    "dtype",
}


# Whose further rows are compared without gradients: JAX differentiates what is the same. Those of
# convolution, pooling and edges, which have rules of their own, test_spatial.py compares with loops
# over all options; of recurrent layers there are no such rules (test_recurrent.py has theirs by
# both ways to multiply).
BY_MODULE = {
    *("adaptive_pooling", "convolution", "depthwise", "global_pooling", "padding", "pooling"),
    *("transposed", "upsampling", "recurrent", "conv_recurrent"),
}


def graded(case):
    return case in COMPILED or type(case.layer).__module__.split(".")[-1] not in BY_MODULE


@pytest.mark.slow
@pytest.mark.parametrize(("case", "train"), RUNS)
def test_layer_equals_keras(case, train):
    assert_equals_keras(case, train, gradients=graded(case))


@pytest.mark.thorough
@pytest.mark.parametrize("case", [case for case in TWINS if not graded(case)], ids=lambda c: c.id)
def test_gradients_of_further_rows_equal_keras(case):
    assert_equals_keras(case, train=False)


# What is compared live: here and, since attention is called in another way there, in its own test.
LIVE = [case.layer for case in TWINS]
LIVE += [layer for name, (layer, _) in RELATIVES.items() if name not in DRAWN_TOO]
# Layers of Keras that stand in none of these, and the test that compares them instead.
ELSEWHERE = {
    "JaxLayer": "test_jax_layer.py::test_a_function_with_weights_trains_as_in_keras",
    "FlaxLayer": "test_jax_layer.py::test_a_module_of_flax",
    "InputLayer": "../symbolic/test_inputs.py::test_input_layers_start_models_as_in_keras",
    "Pipeline": "../preprocessing/images/test_deterministic.py"
    "::test_a_pipeline_runs_its_layers_and_is_saved",
    "RandomCrop": "../preprocessing/augmentation/test_same_map.py::test_crops",
    "Wrapper": "../subclassing/test_keras_layers.py::test_equal_outputs",
    # on the host: strings have no place in an array
    "StringLookup": "../preprocessing/test_lookups.py"
    "::test_a_string_lookup_gives_the_numbers_of_keras",
    "IntegerLookup": "../preprocessing/test_lookups.py"
    "::test_an_integer_lookup_gives_the_numbers_of_keras",
    "Hashing": "../preprocessing/test_lookups.py::test_hashing_gives_the_numbers_of_keras",
    "HashedCrossing": "../preprocessing/test_lookups.py"
    "::test_crossed_features_give_the_numbers_of_keras",
    "TextVectorization": "../preprocessing/test_text.py::test_texts_give_the_numbers_of_keras",
}
# Options that cannot show in such a comparison, and what shows them.
FLASH = "test_attention.py::test_flash_attention_is_the_same_attention"
PENALTY = "test_attention.py::test_every_projection_is_penalized"
BATCH = "test_normalization.py::test_the_batch_is_one_on_several_devices"
BACK = "test_reversible_embedding.py::test_back_and_forth_are_those_of_keras"
UNSEEN = {
    "seed": "test_dropout.py::test_key_path_and_seed_decide_the_noise",
    "stateful": "test_recurrent.py::test_stateful_equals_keras",
    "BatchNormalization.synchronized": BATCH,
    "MultiHeadAttention.flash_attention": FLASH,
    "GroupedQueryAttention.flash_attention": FLASH,
    # Keras takes it and leaves it out
    "SimpleRNN.activity_regularizer": "test_dropout.py::test_the_penalty_leaves_masked_steps_out",
    "MultiHeadAttention.activity_regularizer": PENALTY,
    "GroupedQueryAttention.activity_regularizer": PENALTY,
    "ReversibleEmbedding.reverse_dtype": BACK,
    "ReversibleEmbedding.logit_soft_cap": BACK,
    # Keras takes the mask of steps for one of columns
    "ConvLSTM1D.zero_output_for_mask": "test_recurrent.py::test_conv_lstm_of_one_pixel_is_lstm",
    "ConvLSTM2D.zero_output_for_mask": "test_recurrent.py::test_conv_lstm_of_one_pixel_is_lstm",
    "ConvLSTM3D.zero_output_for_mask": "test_recurrent.py::test_conv_lstm_of_one_pixel_is_lstm",
}
OWN_OPTIONS = {  # fnn's own, and what is taken and not read
    ("MultiHeadAttention", "position"),
    ("GroupedQueryAttention", "position"),
    ("Lambda", "output_shape"),
    ("ActivityRegularization", "l1"),  # by default it does nothing
    ("ActivityRegularization", "l2"),
}


def test_every_layer_that_keras_has_too_is_compared_with_it():
    import keras

    theirs = {name for name, value in vars(keras.layers).items() if inspect.isclass(value)}
    both = {
        cls
        for name, cls in vars(L).items()
        if name in theirs and inspect.isclass(cls) and issubclass(cls, Layer) and cls is not Layer
    }
    missing = {cls.__name__ for cls in both - set(map(type, LIVE))}
    assert missing == set(ELSEWHERE)
    assert len(both) >= 90


def test_the_tests_named_here_are_there():
    for name in (*ELSEWHERE.values(), *UNSEEN.values()):
        file, _, function = name.partition("::")
        assert f"\ndef {function}(" in (Path(__file__).parent / file).read_text(), name


def options():
    """(class, field) of what the layers compared live can be given, but for weights' own."""
    for cls in sorted({type(layer) for layer in LIVE}, key=str):
        if cls.__module__.startswith("fnn.preprocessing"):  # compared in tests/preprocessing
            continue
        for field in dataclasses.fields(cls):
            of_weights = field_kind(field.name) in ("initializer", "regularizer", "constraint")
            of_weights &= field.name != "activity_regularizer"
            ours = field.name in OURS or (cls.__name__, field.name) in OWN_OPTIONS
            if field.default is not dataclasses.MISSING and not of_weights and not ours:
                yield cls, field


def test_every_option_is_compared_with_keras_as_it_is_by_default_and_otherwise():
    missing = []
    for cls, field in options():
        given = [vars(layer)[field.name] for layer in LIVE if type(layer) is cls]
        default = {repr(value) == repr(field.default) for value in given}
        name = f"{cls.__name__}.{field.name}"
        if default != {True, False} and not {field.name, name} & UNSEEN.keys():
            missing.append(name)
    assert not missing


@pytest.mark.slow
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_arguments_are_those_of_keras(cls):
    """Names, order and defaults."""
    import keras

    theirs = inspect.signature(getattr(keras.layers, cls.__name__).__init__).parameters
    theirs = {
        name: parameter.default
        for name, parameter in theirs.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name not in {"self", *LEFT_OUT}
    }
    mine = {
        name: parameter.default
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    }
    if cls is not Conv3DTranspose:  # Keras has another order there than in 1D and 2D
        assert list(mine) == list(theirs)
    assert mine == theirs
