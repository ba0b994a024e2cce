"""The table of a network: its rows, its totals, and that it costs nothing."""

import time

import jax
import jax.numpy as jnp
import pytest

import fnn
from fnn import summaries
from fnn.core.node import input_specs
from fnn.layers import (
    LSTM,
    Add,
    BatchNormalization,
    Dense,
    Ensemble,
    Frozen,
    Input,
    Repeat,
    Residual,
    Sequential,
)
from tests.oracle import keras_rules


def text(model, **options):
    lines = []
    model.summary(print_fn=lines.append, **options)
    return "\n".join(lines)


def rows(table):
    """The cells of a table, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("│")]
    cells = [line.strip("│").split("│") for line in lines[1:]]
    return [(name[1:].rstrip(), shape.strip(), count.strip()) for name, shape, count in cells]


def test_a_small_table_reads_so():
    start = Input((3,))
    h = Dense(4, "relu")(start)
    block = Sequential([Dense(4), BatchNormalization()], name="block", trainable=False)
    model = fnn.Model(start, Dense(1)(Add()([h, block(h)])), name="small")
    assert (
        "\n" + text(model)
        == """
Model: "small"
┌────────────────────────────────────────────┬──────────────┬─────────┐
│ Layer (type)                               │ Output Shape │ Param # │
├────────────────────────────────────────────┼──────────────┼─────────┤
│ dense (Dense)                              │ (None, 4)    │      16 │
│ block (Sequential) (frozen)                │ (None, 4)    │      36 │
│   dense (Dense)                            │ (None, 4)    │      20 │
│   batch_normalization (BatchNormalization) │ (None, 4)    │      16 │
│ add (Add)                                  │ (None, 4)    │       0 │
│ dense_1 (Dense)                            │ (None, 1)    │       5 │
└────────────────────────────────────────────┴──────────────┴─────────┘
 Total params: 57 (228.00 B)
 Trainable params: 21 (84.00 B)
 Non-trainable params: 36 (144.00 B)"""
    )


def test_rows_of_a_nest():
    shared = Dense(2, name="shared")
    a, b = Input((2,)), Input((None, 5))
    y, h, _ = LSTM(2, return_sequences=True, return_state=True)(b)
    deep = Repeat(Residual(Sequential([Dense(2), Frozen(Dense(2))])), 3)(shared(h))
    model = fnn.Model((a, b), (shared(a), Ensemble(Dense(1), 4)(deep), y), seed=0)
    assert rows(text(model)) == [
        ("lstm (LSTM)", "((None, None, 2), (None, 2), (None, 2))", "64"),
        ("item (Item)", "(None, 2)", "0"),
        ("shared (Dense)", "(None, 2)", "6"),
        ("repeat (Repeat)", "(None, 2)", "36"),
        ("  dense (Dense)", "(None, 2)", "18"),
        ("  frozen (Frozen) (frozen)", "(None, 2)", "18"),
        ("shared (Dense)", "(None, 2)", "shared"),
        ("ensemble (Ensemble)", "(None, 4, 1)", "12"),
        ("item_1 (Item)", "(None, None, 2)", "0"),
    ]
    assert len(rows(text(model, expand_nested=False))) == 7
    assert " Trainable params: 100 (400.00 B)" in text(model)
    assert " Non-trainable params: 18 (72.00 B)" in text(model)


def test_a_layer_without_children_is_one_row():
    trials = list(input_specs((None, 3)))
    table = summaries.table("alone", Dense(4), trials)
    assert rows(table) == [("Dense (Dense)", "(None, 4)", "16")]
    assert rows(summaries.table("r", Residual(Dense(3)), trials)) == [
        ("Residual (Residual)", "(None, 3)", "12")
    ]


def network(library):
    k = library.layers
    block = library.Sequential([k.Input((6,)), k.Dense(6), k.BatchNormalization()])
    start = k.Input((5, 4))
    h = k.LSTM(6)(start)
    frozen = k.Dense(6, trainable=False)
    return library.Model(start, k.Dense(3)(k.Add()([block(h), frozen(h)])))


def test_totals_are_those_of_keras():
    import keras
    from keras.src.utils import summary_utils

    with keras_rules():
        theirs = network(keras)
        counts = {
            "Total": summary_utils.count_params(theirs.weights),
            "Trainable": summary_utils.count_params(theirs.trainable_weights),
            "Non-trainable": summary_utils.count_params(theirs.non_trainable_weights),
        }
        sizes = summary_utils.weight_memory_size(theirs.weights)
    ours = network(fnn)
    assert ours.count_params() == counts["Total"] == theirs.count_params()
    table = text(ours)
    for title, count in counts.items():
        size = summary_utils.readable_memory_size(4 * count)
        assert f" {title} params: {count:,} ({size})" in table
    assert f"({summary_utils.readable_memory_size(sizes)})" in table.splitlines()[-3]


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1536, 10**6, 5 * 2**30, 3 * 2**40, 7 * 2**50])
def test_sizes_read_like_those_of_keras(count):
    units = [(2**40, "TB"), (2**30, "GB"), (2**20, "MB"), (2**10, "KB"), (1, "B")]
    scale, unit = next((s, u) for s, u in units if count >= s or s == 1)
    assert summaries.size(count) == f"{count / scale:.2f} {unit}"


def test_ten_billion_parameters_are_summed_up_without_memory():
    width, blocks = 4096, 64
    block = Residual(Sequential([Dense(4 * width, "gelu"), Dense(width)]))
    net = Sequential([Dense(width), Repeat(block, blocks), Dense(64000)])
    trials = list(input_specs((None, width)))
    jax.block_until_ready(jnp.zeros(()))
    before, began = len(jax.live_arrays()), time.perf_counter()
    table = summaries.table("large", net, trials)
    assert time.perf_counter() - began < 5
    assert len(jax.live_arrays()) <= before + 1  # the key of the abstract run
    each = 2 * 4 * width**2 + 5 * width
    total = width**2 + width + blocks * each + 64000 * (width + 1)
    assert total > 8.8e9
    assert f"Total params: {total:,}" in table
    assert ("repeat (Repeat)", "(None, 4096)", f"{blocks * each:,}") in rows(table)


def test_a_model_of_unknown_shape_says_what_to_do():
    with pytest.raises(ValueError, match=r"to know its input shape.*model\.build\(\(None, 10\)\)"):
        fnn.Sequential([Dense(3)]).summary()
