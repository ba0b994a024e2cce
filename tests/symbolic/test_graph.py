"""Graphs: layers wired by symbolic calls."""

import json
import time
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.core import tree
from fnn.core.calling import call, weight_spec
from fnn.core.config import from_config, to_config
from fnn.core.context import INFERENCE
from fnn.core.value import Fields
from fnn.layers import (
    LSTM,
    Add,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Input,
    MultiHeadAttention,
    Repeat,
    Sequential,
    TransformerDecoderBlock,
)
from fnn.symbolic.graph import connect
from tests.helpers.catalogue import jit
from tests.helpers.oracle import keras_rules

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
Z = np.random.default_rng(1).normal(size=(4, 2)).astype("float32")


def made(layer, x):
    params, state = weight_spec(layer, x)  # initialize compiles a generator for each shape
    draw = np.random.default_rng(0).normal
    drawn = jax.tree.map(lambda a: jnp.asarray(0.5 * draw(size=a.shape), a.dtype), params)
    return tree.same_order(drawn, params), state


def forward(layer, x, params=None, state=None):
    if params is None:
        params, state = made(layer, x)
    return jit(lambda params: call(layer, params, state, x, INFERENCE)[0])(params)


def linear(p, x):
    return x @ p["kernel"] + p["bias"].reshape(1, -1)


def close(received, expected):
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, received, expected)


# -- structure -----------------------------------------------------------------------------------


def two_in_two_out(form):
    a, b = Input((3,), name="a"), Input((2,), name="b")
    first, second = Dense(4, name="first")(a), Dense(4, name="second")(b)
    outputs = Add()([first, second]), first
    if form == "tuple":
        return connect((a, b), outputs), (X, Z)
    if form == "list":
        return connect([a, b], list(outputs)), [X, Z]
    if form == "dict":
        keys = dict(zip(("sum", "first"), outputs, strict=True))
        return connect({"z": b, "x": a}, keys), {"x": X, "z": Z, "unused": Z}
    return connect({"pair": (a, b)}, {"pair": outputs}), {"pair": (X, Z)}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["tuple", "list", "dict", "nested"])
def test_inputs_and_outputs_have_any_structure(form):
    graph, x = two_in_two_out(form)
    given = tuple(x) if form == "list" else x
    params, state = made(graph, given)
    y = forward(graph, given, params, state)
    first = linear(params["first"], X)
    outputs = first + linear(params["second"], Z), first
    expected = {
        "dict": dict(zip(("sum", "first"), outputs, strict=True)),
        "list": list(outputs),
        "nested": {"pair": outputs},
    }.get(form, outputs)
    assert jax.tree.structure(y) == jax.tree.structure(expected)
    close(y, expected)


@pytest.mark.parametrize(
    ("form", "x", "message"),
    [
        ("tuple", X, "expected a tuple of 2 inputs, received one array of shape "),
        ("tuple", (X, Z, Z), "expected a tuple of 2 inputs, received a tuple of 3"),
        ("dict", {"x": X}, r"inputs by the keys \['x', 'z'\], received \['x'\]"),
        ("dict", (X, Z), r"inputs by the keys \['x', 'z'\], received a tuple of 2"),
    ],
)
def test_inputs_of_another_structure_are_an_error(form, x, message):
    graph, right = two_in_two_out(form)
    with pytest.raises(ValueError, match=message):
        graph.init(jax.random.key(0), x)
    params, state = graph.init(jax.random.key(0), right)
    with pytest.raises(ValueError, match=message):
        graph.apply(params, state, x)


def test_a_diamond_is_that_of_keras():
    import keras

    def build(library):
        k = library.layers
        start = k.Input((3,))
        h = k.Dense(4, "tanh")(start)
        left, right = k.Dense(3, "relu")(h), k.Dense(3, "sigmoid")(h)
        return start, k.Dense(2)(k.Concatenate()([k.Multiply()([left, right]), start, h]))

    import fnn as ours

    graph = connect(*build(ours))
    params, state = made(graph, X)
    with keras_rules():
        theirs = keras.Model(*build(keras))
        theirs.set_weights([np.asarray(leaf) for _, leaf in tree.flatten(params)])
        expected = np.asarray(theirs(X))
    close(forward(graph, X, params, state), expected)
    assert list(params) == ["dense", "dense_1", "dense_2", "multiply", "concatenate", "dense_3"]


def lopsided(library):
    """Branches of unequal length, one layer in two of them; every layer of another width."""
    k = library.layers
    start = k.Input((3,))
    shared = k.Dense(7)
    short = shared(start)
    long = k.Dense(6)(k.Dense(5)(k.Dense(4)(start)))
    late = shared(k.Dense(3, name="late")(long))
    first = k.Dense(8)(k.Concatenate()([short, long, late]))
    return start, [k.Dense(9)(short), first, k.Dense(10)(k.Add()([short, late]))]


@pytest.mark.slow
def test_weights_are_in_the_order_of_keras():
    import keras

    with keras_rules():
        theirs = keras.Model(*lopsided(keras))
        expected = [w.shape for w in theirs.get_weights()]
    assert [w.shape for w in fnn.Model(*lopsided(fnn)).get_weights()] == expected


@pytest.mark.slow
def test_a_shared_layer_has_one_set_of_weights_and_both_gradients():
    a, b = Input((3,)), Input((3,))
    shared = Dense(2, "tanh")
    graph = connect((a, b), Concatenate()([shared(a), shared(b)]))
    x = (X, 2 * X + 1)
    params, state = made(graph, x)
    assert list(params) == ["dense", "concatenate"]
    loss = lambda p: (graph.apply(p, state, x)[0] ** 2).sum()
    use = lambda p, x: (jnp.tanh(linear(p, x)) ** 2).sum()
    total = jit(jax.grad(loss))(params)["dense"]
    parts = [jit(jax.grad(use))(params["dense"], one) for one in x]
    close(total, jax.tree.map(lambda g, h: g + h, *parts))


def test_equal_layers_that_are_two_objects_are_not_shared():
    start = Input((3,))
    graph = connect(start, Dense(3)(Dense(3)(start)))
    assert list(made(graph, X)[0]) == ["dense", "dense_1"]


@pytest.mark.slow
def test_a_chain_of_500_layers_is_wired_without_recursion():
    start = node = Input((3,))
    began = time.perf_counter()
    for _ in range(500):
        node = Dense(3, kernel_initializer="identity", bias_initializer="ones")(node)
    graph = connect(start, node)
    assert time.perf_counter() - began < 20
    assert [name for name, _, _ in graph.steps][::499] == ["dense", "dense_499"]
    assert from_config(json.loads(json.dumps(to_config(graph)))) == graph
    shape = jax.eval_shape(lambda key: graph.init(key, X[:1])[0], jax.random.key(0))
    assert len(shape) == 500
    params = {name: {"kernel": jnp.eye(3), "bias": jnp.ones(3)} for name in shape}
    y, _ = graph.apply(params, {name: {} for name in shape}, X[:1])
    close(y, X[:1] + 500)


@pytest.mark.slow
def test_several_outputs_of_a_layer_unpack():
    start = Input((None, 3))
    y, h, c = LSTM(4, return_sequences=True, return_state=True)(start)
    assert (y.shape, h.shape, c.shape) == ((None, None, 4), (None, 4), (None, 4))
    graph = connect(start, (h, Dense(2)(y)))
    x = np.ones((2, 5, 3), "float32")
    params, state = made(graph, x)
    last, projected = forward(graph, x, params, state)
    (sequence, h, _), _ = call(
        LSTM(4, return_sequences=True, return_state=True), params["lstm"], {}, x, INFERENCE
    )
    close(last, h)
    close(projected, sequence @ params["dense"]["kernel"] + params["dense"]["bias"][None, None])


def test_shapes_have_none_where_the_size_is_free():
    start = Input((None, None, 3))
    y = Conv2D(5, 3, padding="same")(start)
    assert y.shape == (None, None, None, 5)
    assert Input((8, 8, 3)).shape == (None, 8, 8, 3)
    assert Flatten()(Conv2D(5, 3)(Input((8, 8, 3)))).shape == (None, 180)
    assert Input((3,), batch_size=7).shape == (7, 3)
    assert y.dtype == jnp.float32
    assert repr(start) == "<Node (None, None, None, 3) Input>"
    assert repr(y).startswith("<Node (None, None, None, 5) made by Conv2D(filters=5")


# -- errors at the user's line -------------------------------------------------------------------


def test_a_missing_input_is_named():
    a, b = Input((3,)), Input((2,), name="b")
    y = Concatenate()([a, b])
    with pytest.raises(ValueError, match=r"also need <Node \(None, 2\) Input b>; add it"):
        connect(a, y)
    with pytest.raises(TypeError, match=r"expected symbolic outputs .*received 3"):
        connect(a, 3)
    for inputs, shown in (((a, None, b), "None at position 1"), ({"a": a, "b": X}, "an array")):
        with pytest.raises(
            TypeError, match=f"every input to be a symbolic node .*received {shown}"
        ):
            fnn.Model(inputs, y)


def test_an_error_shows_none_for_sizes_that_are_free():
    """And the numbers that are the reader's, equal ones too."""
    with pytest.raises(ValueError, match=r"of 3 axes .*shape \(None, 3\)") as error:
        LSTM(3)(Input((3,)))
    assert any("applied to float32[None, 3]" in note for note in error.value.__notes__)
    with pytest.raises(ValueError, match=r"\(None, None, 3\).* \(None, 3\)"):
        Concatenate()([Input((None, 3)), Input((3,))])


def test_one_array_for_several_inputs_is_shown_by_its_shape():
    """Also where it is traced: a model of two inputs, a layer of two inputs called on one node."""
    a, b = Input((5, 3)), Input((5, 3))
    x = np.ones((4, 5, 3), "float32")
    with pytest.raises(
        ValueError, match=r"of 2 inputs, received one array of shape \(4, 5, 3\); pass"
    ):
        fnn.Model((a, b), Add()([a, b])).predict(x, verbose=0)
    for layer in (TransformerDecoderBlock(3, 1), Add()):
        name = type(layer).__name__
        with pytest.raises(
            TypeError, match=rf"{name}: .*received one array of shape \(None, 5, 3\)"
        ):
            layer(a)
        with pytest.raises(TypeError, match=rf"{name}: .*received one array of shape \(4, 5, 3\)"):
            layer.init(jax.random.key(0), x)


@pytest.mark.parametrize(
    ("called", "message"),
    [
        (lambda: Dense(3)(), "received nothing"),
        (lambda: Add()([Input((3,)), X]), "received Node, ndarray"),
        (
            lambda: Dropout(0.5)(Input((3,)), seed=1),
            r"'seed'; use Dropout\(seed=...\), when the layer",
        ),
    ],
)
def test_what_is_no_node_is_refused(called, message):
    with pytest.raises((TypeError, IndexError), match=message):
        called()


def test_a_wrong_shape_is_an_error_at_its_line_with_the_path():
    start = Input((8, 8, 3))
    with pytest.raises(ValueError, match="expected inputs of") as info:
        Sequential([Dense(4), LSTM(3)], name="head")(start)  # this line
    assert "in layer head/lstm: LSTM(units=3)" in "".join(info.value.__notes__)
    lines = [frame.line for frame in traceback.extract_tb(info.value.__traceback__)]
    assert any("# this line" in line for line in lines)


# -- models in graphs ----------------------------------------------------------------------------


def test_a_model_twice_in_a_graph_shares_its_weights():
    tower = fnn.Sequential([Dense(4, "tanh", input_shape=(3,)), Dense(2)], name="tower", seed=0)
    a, b = Input((3,)), Input((3,))
    model = fnn.Model((a, b), Add()([tower(a), tower(b)]))
    assert model.count_params() == tower.count_params()
    assert list(model.params) == ["tower", "add"]
    jax.tree.map(np.testing.assert_array_equal, model.params["tower"], tower.params)
    y = model.predict((X, X + 1), verbose=0)
    close(y, tower.predict(X, verbose=0) + tower.predict(X + 1, verbose=0))


@pytest.mark.slow
def test_a_model_that_brings_weights_cannot_be_copied():
    tower = fnn.Sequential([Dense(3, input_shape=(3,))], name="tower")
    with pytest.raises(
        ValueError, match=r"inside the copies at repeat, received the model 'tower'"
    ):
        fnn.Sequential([Input((3,)), Repeat(tower, 2)])
    assert fnn.Sequential([Input((3,)), Repeat(tower.layer, 2)]).count_params() == 24


class Pair(fnn.Layer):
    """Returns its input and None, in a tuple or dict."""

    named: bool = False

    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        return {"a": x, "b": None} if self.named else (x, None), state


NONE = {
    "a layer": lambda: fnn.Model(Pair(input_shape=(3,))),
    "a layer, dict": lambda: fnn.Model(Pair(True, input_shape=(3,))),
    "in a row": lambda: fnn.Sequential([Dense(2, input_shape=(3,)), Pair()]),
    "in a row, later": lambda: fnn.Sequential([Dense(2), Pair()]).build((None, 3)),
    "at the first data": lambda: fnn.Sequential([Dense(2), Pair()]).predict(X, verbose=0),
    "nested": lambda: fnn.Sequential([fnn.Sequential([Dense(2), Pair()])]).build((None, 3)),
    "in a graph": lambda: fnn.Model(start := Input((3,)), Pair()(start)),
    "in a graph, dict": lambda: fnn.Model(start := Input((3,)), Pair(True)(start)),
    "one of them": lambda: fnn.Model(start := Input((3,)), [start, Pair()(start)[1]]),
}


@pytest.mark.parametrize("case", NONE)
def test_outputs_that_are_none_are_an_error_that_names_the_layer(case):
    with pytest.raises(ValueError, match=r"received None at .*, which .*Pair\(.*return arrays"):
        NONE[case]()


def test_none_beside_the_outputs_of_a_graph_is_an_error():
    start = Input((3,))
    with pytest.raises(TypeError, match=r"expected symbolic outputs .*received None; leave it out"):
        fnn.Model(start, (Dense(1)(start), None))
    y, _ = Pair()(start)
    model = fnn.Model(start, Dense(1)(y), seed=0)  # which does not ask for it
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(model.predict(X, verbose=0), X @ kernel + bias, rtol=1e-5)


def test_inputs_may_go_by_the_names_of_the_model():
    a, b = Input((3,), name="a"), Input((2,), name="b")
    model = fnn.Model([a, b], Dense(1)(Concatenate()([a, b])), seed=0)
    expected = model.predict([X, Z], verbose=0)
    np.testing.assert_array_equal(model.predict({"b": Z, "a": X}, verbose=0), expected)
    with pytest.raises(ValueError, match=r"inputs by the names \['a', 'b'\], received \['a'\]"):
        model.predict({"a": X}, verbose=0)


def test_weights_are_replaced_by_trees_like_them():
    model = fnn.Model(start := Input((3,)), Dense(2)(start), seed=0)
    doubled = jax.tree.map(lambda a: 2 * a, model.params)
    before = model.predict(X, verbose=0)
    model.params = doubled
    close(model.predict(X, verbose=0), 2 * before)
    with pytest.raises(ValueError, match="expected params like") as info:
        model.params = {"dense": {"kernel": jnp.ones((2, 3)), "scale": jnp.ones(2)}}
    assert str(info.value).splitlines()[1:] == [
        "  dense/bias: missing",
        "  dense/scale: not in this model",
        "  dense/kernel: expected (3, 2), received (2, 3)",
    ]
    close(model.predict(X, verbose=0), 2 * before)


# -- graphs are values ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("form", ["tuple", "list", "dict", "nested"])
def test_equal_graphs_are_equal_values(form):
    first, x = two_in_two_out(form)
    second, _ = two_in_two_out(form)
    assert first == second
    assert hash(first) == hash(second)
    back = from_config(json.loads(json.dumps(to_config(first))))
    assert back == first
    assert hash(back) == hash(first)
    given = tuple(x) if form == "list" else x
    params, state = made(first, given)
    jax.tree.map(
        np.testing.assert_array_equal,
        forward(first, given, params, state),
        forward(back, given, params, state),
    )


def test_other_wires_make_another_graph():
    start = Input((3,))
    h = Dense(3)(start)
    chain = connect(start, Dense(3)(h))
    assert chain != connect(start, h)
    assert chain != connect(start, Dense(3)(Dense(3, "relu")(start)))
    assert chain != connect(start, (Dense(3)(h), h))
    shared = Dense(3)
    assert connect(start, shared(shared(start))) != chain


@pytest.mark.slow
def test_a_graph_in_a_graph_and_in_a_sequence():
    start = Input((3,))
    inner = connect(start, Add()([Dense(3, "tanh")(start), start]))
    outer = connect(start, Dense(2)(inner(start)))
    net = Sequential([Dense(3), outer])
    params, state = made(net, X)
    h = linear(params["dense"], X)
    p = params["graph"]
    h = h + jnp.tanh(linear(p["graph"]["dense"], h))
    close(forward(net, X, params, state), linear(p["dense"], h))
    assert outer.inputs == 0
    assert isinstance(two_in_two_out("dict")[0].inputs, Fields)


# -- optional inputs -------------------------------------------------------------------------------

QUERY = np.random.default_rng(5).normal(size=(4, 5, 4)).astype("float32")
MEMORY = np.random.default_rng(6).normal(size=(4, 3, 4)).astype("float32")
PAIRS = np.random.default_rng(7).uniform(size=(4, 5, 3)) > 0.3


class Scaled(fnn.layers.Layer):
    """x * scale + shift; both may be left out."""

    input_names = ("inputs", "scale", "shift")

    def apply(self, params, state, x, ctx=INFERENCE):
        x, scale, shift = (*x, None)[:3]
        return (x if scale is None else x * scale) + (0 if shift is None else shift), state


def test_a_value_deep_in_the_outputs_of_a_graph_is_an_input_of_a_layer():
    """It is picked in two steps, of which the second needs the first."""
    x = Input((2,))
    double, triple = x + x, x + x + x
    inner = connect(x, (x, {"b": double, "c": (double, triple)}))
    first, rest = inner(x)
    outer = connect(x, {"y": Concatenate()([first, rest["c"][1]]), "z": rest["b"]})
    ones = jnp.ones((1, 2))
    outputs, _ = call(outer, *outer.init(jax.random.key(0), ones), ones, INFERENCE)
    np.testing.assert_array_equal(outputs["y"], [[1, 1, 3, 3]])
    np.testing.assert_array_equal(outputs["z"], [[2, 2]])


@pytest.mark.slow
def test_an_optional_input_may_be_left_out_before_one_that_is_given(tmp_path, capsys):
    """Attention with a mask and no key equals that of Keras; saved, as JSON, in a summary."""
    import keras

    pairs = {"dtype": "bool"}
    with keras_rules():
        k = keras.layers
        inputs = k.Input((5, 4)), k.Input((3, 4)), k.Input((5, 3), **pairs)
        attended = k.MultiHeadAttention(2, 3)(*inputs[:2], attention_mask=inputs[2])
        theirs = keras.Model(inputs, attended)
        expected, given = np.asarray(theirs([QUERY, MEMORY, PAIRS])), theirs.get_weights()
    nodes = Input((5, 4)), Input((3, 4)), Input((5, 3), **pairs)
    model = fnn.Model(nodes, MultiHeadAttention(2, 3)(*nodes[:2], attention_mask=nodes[2]))
    model.set_weights(given)
    x = (QUERY, MEMORY, PAIRS)
    y = model.predict(x, verbose=0)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    graph = model.layer
    assert graph.steps[0][2] == (0, 1, None, 2)
    assert from_config(json.loads(json.dumps(to_config(graph)))) == graph
    model.save(tmp_path / "model.fnn")
    np.testing.assert_array_equal(fnn.load(tmp_path / "model.fnn").predict(x, verbose=0), y)
    again = fnn.Model(graph)  # an equal network with weights of its own
    again.build([(None, 5, 4), (None, 3, 4), (None, 5, 3)])
    again.set_weights(given)
    np.testing.assert_array_equal(again.predict(x, verbose=0), y)
    model.summary()
    assert "input_layer_2[0][0]" in capsys.readouterr().out
    by_place = MultiHeadAttention(2, 3)([*nodes[:2], None, nodes[2]])
    assert connect(nodes, by_place) == graph


def test_any_input_between_may_be_left_out():
    nodes = Input((4,)), Input((4,))
    graph = connect(nodes, Scaled()(nodes[0], shift=Scaled()(nodes[0], None, nodes[1])))
    y, _ = graph.apply({}, {}, (QUERY[:, 0], MEMORY[:, 0]))
    np.testing.assert_allclose(y, 2 * QUERY[:, 0] + MEMORY[:, 0], rtol=1e-6)
    first, rest = graph.cut()
    passed, _ = first.apply({}, {}, (QUERY[:, 0],))
    again, _ = rest.apply({}, {}, (passed, MEMORY[:, 0]))
    np.testing.assert_allclose(again, y, rtol=1e-6)
