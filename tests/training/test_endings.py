"""What a network ends in is compared with what its losses take, before the first step."""

import warnings

import jax
import numpy as np
import optax
import pytest

import fnn
from fnn import losses, metrics
from fnn.layers import (
    Activation,
    Add,
    Dense,
    Dropout,
    Ensemble,
    Flatten,
    Frozen,
    Input,
    Lambda,
    Reshape,
    Sequential,
    Softmax,
    TimeDistributed,
    TransformerDecoderBlock,
)
from tests.helpers.counting import compilations

X = np.ones((6, 4), "float32")
LABELS, BITS = np.arange(6) % 3, np.arange(6) % 2
SPARSE = losses.SparseCategoricalCrossentropy
LOGITS = SPARSE(from_logits=True)


def run(layers, loss, y, **compiled):
    net = fnn.Sequential([Dense(3, input_shape=(4,)), *layers], seed=0)
    net.compile("sgd", loss, **compiled)
    with compilations() as compiled_programs:
        try:
            net.evaluate(X, y, verbose=0)
        except ValueError:
            assert compiled_programs == []
            raise


TWICE = {
    "softmax": ([Dense(3, "softmax")], LOGITS, LABELS),
    "Softmax": ([Softmax()], LOGITS, LABELS),
    "sigmoid": ([Dense(1, "sigmoid")], losses.BinaryCrossentropy(from_logits=True), BITS),
    "focal": ([Dense(1, "sigmoid")], losses.BinaryFocalCrossentropy(from_logits=True), BITS),
    "categorical": (
        [Dense(3, "softmax")], losses.CategoricalCrossentropy(from_logits=True), np.eye(3)[LABELS],
    ),
    "through layers that move": ([Softmax(), Reshape((1, 3)), Flatten()], LOGITS, LABELS),
    "nested and frozen": ([Sequential([Frozen(Dense(3, "softmax"))])], LOGITS, LABELS),
    "a function of jax": ([Lambda(jax.nn.softmax)], LOGITS, LABELS),
    "of optax": (
        [Dense(3, "softmax")], optax.losses.softmax_cross_entropy_with_integer_labels, LABELS,
    ),
    "sigmoid, of optax": ([Dense(1, "sigmoid")], optax.losses.sigmoid_binary_cross_entropy, BITS),
    "an ensemble": ([Ensemble(Dense(3, "softmax"), 2)], LOGITS, LABELS),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", TWICE)
def test_logits_expected_of_probabilities_are_an_error(case):
    layers, loss, y = TWICE[case]
    with pytest.raises(ValueError, match=r"expects logits.*ends in a (softmax|sigmoid); remove"):
        run(layers, loss, y)


@pytest.mark.parametrize(
    "metric",
    [
        metrics.SparseCategoricalCrossentropy(from_logits=True),
        metrics.Perplexity(from_logits=True),
        LOGITS,
    ],
)
def test_so_it_is_for_metrics(metric):
    with pytest.raises(ValueError, match=r"expects logits .*ends in a softmax"):
        run([Dense(3, "softmax")], SPARSE(), LABELS, metrics=[metric])


def test_the_output_is_named():
    x = Input((4,))
    net = fnn.Model(x, [Dense(3, name="a")(x), Dense(3, "softmax", name="b")(x)])
    net.compile("sgd", [LOGITS, LOGITS])
    with pytest.raises(ValueError, match="the output 'b' ends in a softmax"):
        net.fit(X, [LABELS, LABELS], verbose=0)


@pytest.mark.parametrize("end", [[Dense(1, "softmax")], [Dense(1), Activation("softmax")]])
def test_a_softmax_over_one_unit_is_an_error(end):
    for loss in ("binary_crossentropy", "mse"):
        layers = [layer.replace() for layer in end]
        with pytest.raises(ValueError, match=r"a softmax over 1 unit, which is always 1; pass"):
            run(layers, loss, BITS)


OTHER = {
    "linear": ([Dense(3)], "sparse_categorical_crossentropy", LABELS, "softmax"),
    "linear by name": ([Dense(3, "linear")], SPARSE(), LABELS, "softmax"),
    "linear function": ([Dense(3, fnn.activations.linear)], SPARSE(), LABELS, "softmax"),
    "one unit": ([Dense(1)], "binary_crossentropy", BITS, "sigmoid"),
    "tanh": ([Dense(1, "tanh")], "binary_crossentropy", BITS, "sigmoid"),
    "relu of two classes": ([Dense(1, "relu")], "binary_crossentropy", BITS, "sigmoid"),
    "moved": (
        [Dense(3), Reshape((3, 1)), Flatten(), Activation(None)], SPARSE(), LABELS, "softmax",
    ),
    "over time": (
        [Reshape((1, 3)), TimeDistributed(Dense(3)), Flatten()], SPARSE(), LABELS, "softmax",
    ),
    "of each member": ([Ensemble(Dense(3), 2)], SPARSE(), LABELS, "softmax"),
    "divergence": ([Dense(3)], "kl_divergence", np.eye(3)[LABELS], "softmax"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", OTHER)
def test_values_that_are_no_probabilities_are_warned_of(case):
    layers, loss, y, activation = OTHER[case]
    with pytest.warns(UserWarning, match=f'expects probabilities, .*activation="{activation}"'):
        run(layers, loss, y)


@pytest.mark.slow
def test_the_warning_is_given_once():
    net = fnn.Sequential([Dense(3, input_shape=(4,))])
    net.compile("sgd", SPARSE())
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("default")
        for _ in range(3):
            net.train_on_batch(X, LABELS)
        net.fit(lambda: iter([(X, LABELS)] * 2), verbose=0)
    assert [str(w.message)[:40] for w in found] == [
        "SparseCategoricalCrossentropy expects pro"[:40]
    ]


def positive(x):
    return jax.nn.softplus(x)


RIGHT = {
    "logits": ([Dense(3)], LOGITS, LABELS),
    "probabilities": ([Dense(3, "softmax")], SPARSE(), LABELS),
    "a function of one's own": ([Dense(3), Lambda(positive)], SPARSE(), LABELS),
    "as an activation": ([Dense(3, positive)], SPARSE(), LABELS),
    "scores to be divided by their sum": ([Dense(3, "softplus")], SPARSE(), LABELS),
    "after a layer that changes them": ([Dense(3), Dropout(0.1)], SPARSE(), LABELS),
    "hard sigmoid": ([Dense(1, "hard_sigmoid")], "binary_crossentropy", BITS),
    "no probabilities": ([Dense(1)], "mse", BITS),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", RIGHT)
def test_nothing_is_said_of_what_may_be_right(case):
    run(*RIGHT[case])


@pytest.mark.slow
def test_nothing_is_said_of_an_end_that_is_not_known():
    x, memory = Input((2, 8)), Input((3, 8))
    block = Sequential([TransformerDecoderBlock(8, 2)])
    two = fnn.Model([x, memory], Dense(1, "sigmoid")(Add()([x, block([x, memory])])))
    two.compile("sgd", "binary_crossentropy")
    two.evaluate([np.ones((6, 2, 8)), np.ones((6, 3, 8))], np.ones((6, 2, 1)), verbose=0)
