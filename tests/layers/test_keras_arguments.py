"""Arguments of Keras's constructors that are no fields: another word for one, or nothing at all."""

import dataclasses
import inspect

import pytest

import fnn
from fnn import layers as L
from fnn.keras_names import IGNORED_ARGUMENTS
from tests.helpers.catalogue import CATALOGUE
from tests.helpers.oracle import keras_rules

SAME = [
    (lambda: L.Dense(3, input_dim=5), lambda: L.Dense(3, input_shape=(5,))),
    (lambda: L.Dense(3, input_dim=None), lambda: L.Dense(3)),
    (lambda: L.Embedding(9, 4, input_length=7), lambda: L.Embedding(9, 4)),
    (lambda: L.Embedding(input_dim=9, output_dim=4), lambda: L.Embedding(9, 4)),
    (lambda: L.LSTM(3, use_cudnn="auto", implementation=2), lambda: L.LSTM(3)),
    (lambda: L.GRU(3, input_dim=4, use_cudnn=False), lambda: L.GRU(3, input_shape=(4,))),
    (lambda: L.Dense(3, lora_rank=None, autocast=True), lambda: L.Dense(3)),
    (lambda: L.LeakyReLU(alpha=0.1), lambda: L.LeakyReLU(0.1)),
    (lambda: L.LayerNormalization(rms_scaling=False), lambda: L.LayerNormalization()),
    (lambda: L.Dropout(0.5, activity_regularizer=None), lambda: L.Dropout(0.5)),
    (lambda: L.TimeDistributed(layer=L.Dense(3)), lambda: L.TimeDistributed(L.Dense(3))),
    (lambda: L.Bidirectional(layer=L.GRU(3), weights=None), lambda: L.Bidirectional(L.GRU(3))),
]


@pytest.mark.parametrize(("given", "expected"), SAME)
def test_an_argument_of_the_same_meaning_makes_the_same_layer(given, expected):
    assert given() == expected()
    assert repr(given()) == repr(expected())
    assert given().replace() == expected()


def test_input_dim_builds_a_model():
    model = fnn.Sequential([L.Dense(3, input_dim=5), L.Dense(1)])
    assert model.built
    assert model.input_shape == (None, 5)


def test_what_kerass_constructors_list_is_known():
    """Each argument of Keras's layers is a field, or has an answer here; none is a surprise."""
    import keras

    unknown = []
    for cls in {type(case.layer) for case in CATALOGUE}:
        with keras_rules():
            twin = getattr(keras.layers, cls.__name__, None)
            listed = inspect.signature(twin.__init__).parameters if twin else ()
        fields = {field.name for field in dataclasses.fields(cls)}
        answered = {*fields, *IGNORED_ARGUMENTS, "layer", "self", "args", "kwargs"}
        unknown += [(cls.__name__, name) for name in listed if name not in answered]
    assert not unknown


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: L.Dense(3, autocast=False), ValueError, r"Dense: expected autocast to be True, .*"
         "received autocast=False; use dtype='float32'"),
        (lambda: L.Dense(3, lora_rank=4), ValueError, r"received lora_rank=4; use LoRA\(layer"),
        (lambda: L.Dense(3, quantization_config={}), ValueError, "weights are not quantized here"),
        (lambda: L.Embedding(9, 4, weights=[[1.0]]), ValueError,
         "make the model, then layer.set_weights"),
        (lambda: L.Dropout(0.5, activity_regularizer="l2"), ValueError,
         r"put ActivityRegularization\(l1, l2\) after the layer"),
        (lambda: L.LSTM(3, time_major=True), ValueError, r"inputs are \(batch, time, features\)"),
        (lambda: L.Dense(3, batch_input_shape=(2, 5)), ValueError, r"or Input\(batch_shape=...\)"),
        (lambda: L.Dense(unit=3), TypeError, "Dense: expected arguments among units, activation, "
         ".*received unit=3; did you mean units"),
        (lambda: L.Dense(3, foo=1), TypeError, "received foo=1; leave it out"),
        (lambda: L.ReLU(negative_slope=0.1, alpha=0.2), TypeError, "received alpha=0.2"),
        (lambda: fnn.optimizers.Adam(learning=0.1), TypeError, "did you mean learning_rate"),
        (lambda: fnn.losses.Huber(input_length=3), TypeError, "received input_length=3"),
    ],
)  # fmt: skip
def test_any_other_is_an_error_that_says_what_to_do(make, error, message):
    with pytest.raises(error, match=message):
        make()
