"""The table of a network: its rows, its totals, and that it costs nothing."""

import time

import jax
import jax.numpy as jnp
import pytest

import fnn
from fnn import summaries
from fnn.layers import (
    LSTM,
    BatchNormalization,
    Dense,
    Ensemble,
    Frozen,
    Input,
    Repeat,
    Residual,
    Sequential,
)
from fnn.runtime.tables import COUNT
from fnn.summaries.table import ListedNetwork
from tests.helpers.oracle import keras_rules


def text(model, **options):
    lines = []
    model.summary(print_fn=lines.append, **options)
    assert len(lines) == 1  # as in Keras: all of it at once
    return lines[0]


def rows(table):
    """The cells of a table, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("│")]
    cells = [line.strip("│").split("│") for line in lines[1:]]
    return [(name[1:].rstrip(), *map(str.strip, others)) for name, *others in cells]


def small(library=fnn):
    k = library.layers
    start = k.Input((3,), name="start")
    h = k.Dense(4, "relu", name="first")(start)
    inside = [k.Dense(4, name="inner"), k.BatchNormalization(name="norm")]
    if library is fnn:
        block = Sequential(inside, name="block", trainable=False)
    else:
        block = library.Sequential(inside, name="block")
        block.trainable = False
    y = k.Dense(1, name="last")(k.Add(name="add")([h, block(h)]))
    return library.Model(start, y, name="small")


def test_a_small_table_reads_so():
    assert (
        "\n" + text(small(), line_length=100)
        == """
Model: "small"
┌─────────────────────────────┬──────────────┬─────────┬──────────────────────────┐
│ Layer (type)                │ Output Shape │ Param # │ Connected to             │
├─────────────────────────────┼──────────────┼─────────┼──────────────────────────┤
│ start (Input)               │ (None, 3)    │       0 │ -                        │
│ first (Dense)               │ (None, 4)    │      16 │ start[0][0]              │
│ block (Sequential) (frozen) │ (None, 4)    │      36 │ first[0][0]              │
│ add (Add)                   │ (None, 4)    │       0 │ first[0][0], block[0][0] │
│ last (Dense)                │ (None, 1)    │       5 │ add[0][0]                │
└─────────────────────────────┴──────────────┴─────────┴──────────────────────────┘
 Total params: 57 (228.00 B)
 Trainable params: 21 (84.00 B)
 Non-trainable params: 36 (144.00 B)"""
    )


def test_a_table_folds_its_texts_to_its_width():
    assert (
        "\n" + text(small(), line_length=62, expand_nested=True, show_trainable=True)
        == """
Model: "small"
┌────────────┬────────────┬─────────┬────────────┬───────────┐
│ Layer      │ Output     │ Param # │ Connected  │ Trainable │
│ (type)     │ Shape      │         │ to         │           │
├────────────┼────────────┼─────────┼────────────┼───────────┤
│ start      │ (None, 3)  │       0 │ -          │ -         │
│ (Input)    │            │         │            │           │
│ first      │ (None, 4)  │      16 │ start[0][0 │ Y         │
│ (Dense)    │            │         │ ]          │           │
│ block (Seq │ (None, 4)  │      36 │ first[0][0 │ N         │
│ uential)   │            │         │ ]          │           │
│ (frozen)   │            │         │            │           │
│   inner    │ (None, 4)  │      20 │ -          │ N         │
│   (Dense)  │            │         │            │           │
│   norm (Ba │ (None, 4)  │      16 │ -          │ N         │
│   tchNorma │            │         │            │           │
│   lization │            │         │            │           │
│   )        │            │         │            │           │
│ add (Add)  │ (None, 4)  │       0 │ first[0][0 │ -         │
│            │            │         │ ], block[0 │           │
│            │            │         │ ][0]       │           │
│ last       │ (None, 1)  │       5 │ add[0][0]  │ Y         │
│ (Dense)    │            │         │            │           │
└────────────┴────────────┴─────────┴────────────┴───────────┘
 Total params: 57 (228.00 B)
 Trainable params: 21 (84.00 B)
 Non-trainable params: 36 (144.00 B)"""
    )


@pytest.mark.slow
@pytest.mark.parametrize("length", [50, 62, 80, 200])
def test_no_line_is_longer_than_it_may_be(length, monkeypatch):
    options = {"expand_nested": True, "show_trainable": True}
    found = text(small(), line_length=length, **options)
    monkeypatch.setenv("COLUMNS", str(length))
    assert text(small(), **options) == found
    grid = [line for line in found.splitlines() if line[0] in "┌├│└"]
    assert len({len(line) for line in grid}) == 1
    assert len(grid[0]) <= length
    whole = rows(text(small(), line_length=500, **options))
    unfolded = ["".join(texts).replace(" ", "") for texts in zip(*rows(found), strict=True)]
    if length >= 80:  # the head is one line
        assert unfolded == ["".join(t).replace(" ", "") for t in zip(*whole, strict=True)]


def test_positions_are_the_ends_of_columns():
    shares = text(small(), line_length=101, positions=[0.3, 0.6, 0.7, 1.0])
    ends = text(small(), line_length=101, positions=[30, 60, 70, 100])
    assert shares == ends
    assert [at for at, c in enumerate(ends.splitlines()[1]) if c in "┬┐"] == [30, 60, 70, 100]
    for wrong in ([0.5, 1.0], [0.3, 0.3, 0.7, 1.0]):
        with pytest.raises(ValueError, match=r"the ends of 4 columns as positions.*on lines of"):
            text(small(), positions=wrong)


def rows_of_keras(model, monkeypatch, **options):
    """The rows of Keras's own table, in the form of `rows`;"""
    monkeypatch.setenv("COLUMNS", "300")
    with keras_rules():
        table = text(model, line_length=300, **options).replace("┃", "│")
    cells = [line.strip("│").split("│") for line in table.splitlines() if line.startswith("│")]
    return [tuple(cell.replace("└", "").strip() for cell in row) for row in cells[1:]]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"expand_nested": True},
        {"layer_range": ("first", "add")},
        {"layer_range": ("l.*", "f")},
        {"layer_range": ("block", "block"), "expand_nested": True},
    ],
)
def test_rows_are_those_of_keras(options, monkeypatch):
    import keras

    def plain(found):
        words = {" (frozen)": "", "(InputLayer)": "(Input)"}
        for old, new in words.items():
            found = [tuple(cell.replace(old, new).strip() for cell in row) for row in found]
        return found

    ours = plain(rows(text(small(), line_length=300, **options)))
    with keras_rules():
        oracle = small(keras)
    assert ours == plain(rows_of_keras(oracle, monkeypatch, **options))
    with_column = rows(text(small(), line_length=300, show_trainable=True))
    expected = rows_of_keras(oracle, monkeypatch, show_trainable=True)
    assert [row[-1] for row in with_column] == [row[-1] for row in expected]


def test_a_range_that_matches_nothing_names_the_layers():
    for wrong in (("first", "x"), ("x", "first"), ("first",)):
        with pytest.raises(ValueError, match=r"two patterns among the names \['start', 'first'"):
            text(small(), layer_range=wrong)


@pytest.mark.slow
def test_rows_of_a_nest():
    shared = Dense(2, name="shared")
    a, b = Input((2,)), Input((None, 5), name="b")
    y, h, _ = LSTM(2, return_sequences=True, return_state=True)(b)
    deep = Repeat(Residual(Sequential([Dense(2), Frozen(Dense(2))])), 3)(shared(h))
    model = fnn.Model((a, b), (shared(a), Ensemble(Dense(1), 4)(deep), y), seed=0)
    wide = text(model, line_length=200, expand_nested=True)
    assert rows(wide) == [
        ("input_layer (Input)", "(None, 2)", "0", "-"),
        ("b (Input)", "(None, None, 5)", "0", "-"),
        ("lstm (LSTM)", "((None, None, 2), (None, 2), (None, 2))", "64", "b[0][0]"),
        ("shared (Dense)", "(None, 2)", "6", "lstm[0][1]"),
        ("repeat (Repeat)", "(None, 2)", "36", "shared[0][0]"),
        ("  dense (Dense)", "(None, 2)", "18", "-"),
        ("  frozen (Frozen) (frozen)", "(None, 2)", "18", "-"),
        ("shared (Dense)", "(None, 2)", "shared", "input_layer[0][0]"),
        ("ensemble (Ensemble)", "(None, 4, 1)", "12", "repeat[0][0]"),
    ]
    assert len(rows(text(model, line_length=200))) == 7
    assert " Trainable params: 100 (400.00 B)" in wide
    assert " Non-trainable params: 18 (72.00 B)" in wide
    assert repr(model) == '<Model "model": 4 layers, 118 parameters>'


def test_a_chain_needs_no_connections():
    x = Input((3,))
    model = fnn.Model(x, Dense(2)(Dense(4)(x)))
    assert [row[0] for row in rows(text(model))] == [
        "input_layer (Input)", "dense (Dense)", "dense_1 (Dense)",
    ]  # fmt: skip
    assert "Connected" not in text(model)
    assert "Connected" in text(fnn.Model(Frozen(small().layer, input_shape=(3,))), line_length=99)


def test_a_layer_without_children_is_one_row():
    alone = fnn.Model(Dense(4, input_shape=(3,)))
    assert rows(text(alone, show_trainable=True)) == [("Dense (Dense)", "(None, 4)", "16", "Y")]
    residual = fnn.Model(Residual(Dense(3, trainable=False), input_shape=(3,)))
    assert rows(text(residual, show_trainable=True)) == [
        ("Residual (Residual)", "(None, 3)", "12", "N")
    ]


def test_a_model_in_one_line():
    model = fnn.Sequential([Dense(3), BatchNormalization()], name="pair")
    assert repr(model) == '<Sequential "pair": 2 layers, not built>'
    model.build((None, 500))
    assert repr(model) == '<Sequential "pair": 2 layers, 1,515 parameters>'
    assert repr(fnn.Model(Dense(1, input_shape=(2,)))) == '<Model "model": 1 layer, 3 parameters>'


def network(library):
    k = library.layers
    block = library.Sequential([k.Input((6,)), k.Dense(6), k.BatchNormalization()])
    start = k.Input((5, 4))
    h = k.LSTM(6)(start)
    frozen = k.Dense(6, trainable=False)
    return library.Model(start, k.Dense(3)(k.Add()([block(h), frozen(h)])))


@pytest.mark.slow
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
    jax.block_until_ready(jnp.zeros(()))
    before, began = len(jax.live_arrays()), time.perf_counter()
    network = ListedNetwork(net, Input((width,)), nested=False)
    assert time.perf_counter() - began < 5
    assert len(jax.live_arrays()) <= before + 1  # the key of the abstract run
    each = 2 * 4 * width**2 + 5 * width
    total = width**2 + width + blocks * each + 64000 * (width + 1)
    assert total > 8.8e9
    assert f" Total params: {total:,} " in network.totals()[0]
    assert network.rows[1].cells[COUNT] == f"{blocks * each:,}"


@pytest.mark.slow
def test_the_policy_is_shown(capsys):
    row = [fnn.layers.Dense(3, input_shape=(4,)), fnn.layers.Dense(2, dtype="float32")]
    model = fnn.Sequential(row, dtype="mixed_bfloat16")
    model.summary()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == " Dtype policy: mixed_bfloat16; float32 in dense_1"
    fnn.Sequential([fnn.layers.Dense(3, input_shape=(4,), dtype="float16")]).summary()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == " Dtype policy: float32; mixed_float16 in dense"
    model = fnn.Sequential([fnn.layers.Dense(3, input_shape=(4,))])
    model.summary()
    assert "policy" not in capsys.readouterr().out
    model.quantize("int8")
    model.summary()
    assert capsys.readouterr().out.splitlines()[-1] == " Dtype policy: int8_from_float32"
