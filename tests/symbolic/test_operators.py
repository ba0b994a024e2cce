"""Operators and indexing of nodes: the numbers of Keras's, masks, and errors that say what."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.core.calling import call
from fnn.core.config import from_config, to_config
from fnn.core.context import INFERENCE, Masked
from fnn.layers import GetItem, Input, LeakyReLU, MatMul, Operator, Unmask
from fnn.symbolic.graph import connect
from tests.helpers.catalogue import jit
from tests.helpers.oracle import keras_rules

X, Y, V = (
    np.random.default_rng(seed).uniform(0.5, 2, shape).astype("float32")
    for seed, shape in enumerate([(3, 6, 4), (3, 6, 4), (3, 4)])
)
ROW, SQUARE = np.arange(1.0, 5.0, dtype="float32"), np.arange(16.0).reshape(4, 4) / 9
EXPRESSIONS = [
    *(lambda x, y, v: x + y, lambda x, y, v: x - y, lambda x, y, v: x * y, lambda x, y, v: x / y),
    *(lambda x, y, v: x**y, lambda x, y, v: x // y, lambda x, y, v: x % y, lambda x, y, v: -x),
    *(lambda x, y, v: x + 1, lambda x, y, v: 1 - x, lambda x, y, v: x * 2.5, lambda x, y, v: 2 / x),
    *(lambda x, y, v: x**2, lambda x, y, v: 2**x, lambda x, y, v: abs(1 - x)),
    *(lambda x, y, v: x * ROW, lambda x, y, v: x + ROW.reshape(1, 1, 4)),
    *(lambda x, y, v: x @ SQUARE, lambda x, y, v: v @ SQUARE),
    *(lambda x, y, v: x @ ROW, lambda x, y, v: x @ y[:, :4], lambda x, y, v: x * v[:, None]),
    *(lambda x, y, v: x[:, :4], lambda x, y, v: x[:, -1], lambda x, y, v: x[..., None]),
    *(lambda x, y, v: x[:, 1:5:2, ::-1], lambda x, y, v: x[:, None, 2], lambda x, y, v: x[..., 1]),
    *(lambda x, y, v: v[:, 1:] * 2 - 1, lambda x, y, v: (x > y) * 2.0),
    *(lambda x, y, v: (x >= 1) * x + (x < 1) * 0.5, lambda x, y, v: (x <= y) * x),
]
# What Keras refuses: a constant of NumPy in front, a list, one slice.
BEYOND = [
    *(lambda x, y, v: ROW - x, lambda x, y, v: np.float32(2) * x, lambda x, y, v: x[:]),
    *(lambda x, y, v: x * [1.0, 2.0, 3.0, 4.0], lambda x, y, v: np.eye(2, 6, dtype="float32") @ x),
    *(lambda x, y, v: np.add(x, y), lambda x, y, v: np.subtract(1, x), lambda x, y, v: np.abs(-x)),
    *(lambda x, y, v: np.multiply(ROW, x), lambda x, y, v: np.negative(x), lambda x, y, v: +x),
    *(lambda x, y, v: np.remainder(x, 2), lambda x, y, v: np.true_divide(x, y)),
    *(lambda x, y, v: np.positive(x) + np.shape(v)[1],),
    *(lambda x, y, v: np.matmul(np.eye(2, 6, dtype="float32"), x), lambda x, y, v: 2 ** (x > 1)),
    *(lambda x, y, v: ((x > 1) & (y > 1)) * 2.0, lambda x, y, v: (~(x > 1) | (y > 1)) * 2.0),
    *(lambda x, y, v: ((x > 1) ^ (y > 1)) * 2.0, lambda x, y, v: ((x // 1) == 1) * x),
    *(lambda x, y, v: ((x // 1) != 1) * x, lambda x, y, v: np.less_equal(ROW, x) * 2.0),
    *(lambda x, y, v: np.invert(x > 1) * 2.0, lambda x, y, v: (True & (x > 1)) * 2.0),
]


def ours(expression):
    nodes = Input((6, 4)), Input((6, 4)), Input((4,))
    return connect(nodes, expression(*nodes))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(EXPRESSIONS)))
def test_an_expression_of_nodes_is_that_of_keras(number):
    import keras

    expression = EXPRESSIONS[number]
    graph = ours(expression)
    params, state = graph.init(jax.random.key(0), (X, Y, V))
    assert not jax.tree.leaves((params, state))
    y, gradient = weighed(lambda x: graph.apply(params, state, x)[0])
    with keras_rules():
        nodes = [keras.Input(a.shape[1:]) for a in (X, Y, V)]
        theirs = keras.Model(nodes, expression(*nodes))
        expected, slope = weighed(lambda x: theirs(list(x)))
    assert y.dtype == expected.dtype
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), gradient, slope
    )
    again = ours(expression)
    assert graph == again
    assert hash(graph) == hash(again)
    assert from_config(json.loads(json.dumps(to_config(graph)))) == graph


@pytest.mark.parametrize("number", range(len(BEYOND)))
def test_an_expression_of_nodes_is_that_of_numpy(number):
    graph = ours(BEYOND[number])
    y = graph.apply({}, {}, tuple(map(jnp.asarray, (X, Y, V))))[0]
    np.testing.assert_allclose(y, BEYOND[number](X, Y, V), rtol=1e-6)


def weighed(function):
    """The outputs, and the gradient of their sum with random weights by the three inputs."""

    def total(x):
        y = function(x)
        return jnp.vdot(np.random.default_rng(5).normal(size=y.shape).astype("float32"), y), y

    (_, y), gradient = jit(jax.value_and_grad(total, has_aux=True))((X, Y, V))
    return y, gradient


@pytest.mark.slow
def test_a_model_of_operators_is_trained_and_saved(tmp_path):
    x = Input((6, 4))
    h = fnn.layers.Dense(4)(x) * 0.5 + x
    model = fnn.Model(x, fnn.layers.Dense(1)(1 - h[:, -1] ** 2), seed=0)
    model.compile("adam", "mse")
    model.fit(X, V[:, :1], verbose=0)
    model.save(tmp_path / "model.fnn")
    again = fnn.load(tmp_path / "model.fnn")
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    assert list(model.params)[:3] == ["dense", "multiply", "add"]


@pytest.mark.slow
def test_a_constant_takes_the_dtype_of_the_inputs():
    for constant in (0.5, [0.5] * 4, np.full(4, 0.5)):
        half = Operator("multiply", constant)
        for dtype, expected in (("bfloat16", "bfloat16"), ("int32", "float32")):
            assert half.apply({}, {}, jnp.ones((2, 4), dtype))[0].dtype == expected
    assert Operator("add", [1, 2]).apply({}, {}, jnp.ones((2, 2), "int8"))[0].dtype == "int8"


def test_the_outputs_of_a_layer_by_key():
    x = Input((4,))
    inner = connect(x, {"a": x * 2, "b": x + 1})
    graph = connect(x, inner(x)["b"] - inner(x)["a"])
    np.testing.assert_allclose(graph.apply({}, {}, V)[0], 1 - V, rtol=1e-6)
    with pytest.raises(KeyError, match="c"):
        inner(x)["c"]


# -- masks -----------------------------------------------------------------------------------------

REAL = np.array([[1, 1, 0, 1, 1, 0], [0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]], bool)
OTHER = np.roll(REAL, 1, 0)


def masks(layer, *inputs):
    return call(layer, {}, {}, inputs[0] if len(inputs) == 1 else inputs, INFERENCE)[0].mask


def test_a_mask_stays_where_its_steps_do():
    x, y = Masked(X, REAL), Masked(Y, OTHER)
    for kept in (Operator("multiply", 2), Operator("negative"), MatMul(SQUARE), MatMul(ROW)):
        np.testing.assert_array_equal(masks(kept, x), REAL)
    for kept in (GetItem((":", ":", 1)), GetItem(("...", None)), GetItem(("...", ":2"))):
        np.testing.assert_array_equal(masks(kept, x), REAL)
    np.testing.assert_array_equal(masks(Operator("add"), x, y), REAL & OTHER)
    np.testing.assert_array_equal(masks(Operator("add"), X, y), OTHER)
    np.testing.assert_array_equal(masks(MatMul(), x, np.swapaxes(Y, 1, 2)), REAL)
    np.testing.assert_array_equal(masks(GetItem((":", "4:0:-2")), x), REAL[:, 4:0:-2])
    words = np.repeat(REAL[..., None], 4, -1)  # a mask for each word of each step
    np.testing.assert_array_equal(
        masks(GetItem((":", "1:", ":2")), Masked(X, words)), words[:, 1:, :2]
    )


@pytest.mark.parametrize(
    "layer", [GetItem((":", -1)), GetItem((":", None)), MatMul(np.ones((2, 6)), True), MatMul()]
)
def test_a_mask_that_would_be_lost_is_refused(layer):
    x = Masked(X, REAL)
    given = (Masked(np.swapaxes(X, 1, 2), REAL[:, :4]), x) if layer == MatMul() else x
    with pytest.raises(ValueError, match=r"expected .* mask.* Unmask\(\) to drop it"):
        call(layer, {}, {}, given, INFERENCE)


def test_unmask_lets_the_last_step_be_taken():
    x = fnn.layers.Masking()(Input((6, 4)))
    with pytest.raises(ValueError, match="whose step may be padding"):
        x[:, -1]
    assert Unmask()(x)[:, -1].shape == (None, 4)


def test_a_node_equals_itself_and_is_compared_with_numbers():
    x, y = Input((4,)), Input((4,))
    assert x == x
    assert x != y
    assert x != None  # noqa: E711
    assert len({x, y, x}) == 2
    assert (x == 1).layer == Operator("equal", 1)
    assert (np.ones(4) != x).layer == Operator("not_equal", np.ones(4), True)


def test_ids_that_are_not_padding_are_a_mask():
    ids, vectors = Input((6,), dtype="int32"), Input((6, 4))
    graph = connect((ids, vectors), fnn.layers.GlobalAveragePooling1D()(vectors, mask=ids != 0))
    given = np.array([[1, 2, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6]], "int32")
    y, _ = graph.apply({}, {}, (given, X))
    for row, length, received in zip(X, (2, 1, 6), y, strict=True):
        np.testing.assert_allclose(received, row[:length].mean(0), rtol=1e-6)


# -- activations -----------------------------------------------------------------------------------


def test_an_activation_of_a_node_is_a_layer():
    x = Input((6, 4))
    assert fnn.activations.relu(x).layer == fnn.layers.Activation("relu")
    assert fnn.activations.get("swish")(x).layer == fnn.layers.Activation("silu")
    graph = connect(x, fnn.activations.leaky_relu(x - 1, 0.3))
    np.testing.assert_allclose(
        graph.apply({}, {}, X)[0], LeakyReLU().apply({}, {}, X - 1)[0], rtol=1e-6
    )
    assert from_config(json.loads(json.dumps(to_config(graph)))) == graph
    assert fnn.activations.softmax(x, axis=1).shape == (None, 6, 4)


# -- errors ----------------------------------------------------------------------------------------

NODE, VECTOR = Input((6, 4)), Input((4,))
WRONG = [
    (lambda: bool(NODE), TypeError, r"<Node .* has no truth value yet; write \(x > 0\) & \(x"),
    (lambda: 0 < NODE < 1, TypeError, r"write \(x > 0\) & \(x < 1\) for `0 < x"),
    (lambda: len(NODE), TypeError, r"<Node .* has no length yet; use x\.shape"),
    (lambda: list(NODE), TypeError, r"no values to iterate over yet; use x\[:, 0\] for a part"),
    (lambda: jnp.sum(NODE), ValueError, r"expected an array, .*Lambda\(lambda x: jnp\.sum\(x, a"),
    (lambda: jnp.ones(4) * NODE, ValueError, r"put a constant array after the node: x \* const"),
    (lambda: np.asarray(NODE), ValueError, "expected an array, received <Node"),
    (lambda: NODE + "a", TypeError, "unsupported operand"),
    (lambda: np.sqrt(NODE), TypeError, r"arrays for np\.sqrt, .*use Lambda\(jnp\.sqrt\)\(x\)"),
    (lambda: np.maximum(NODE, 0), TypeError, r"use Lambda\(lambda x: jnp\.maximum\(x, \.\.\.\)"),
    (lambda: np.sum(NODE), TypeError, r"arrays for np\.sum, .*jnp\.sum\(x, axis=-1\)\)\(x\), a"),
    (lambda: np.add.reduce(NODE), TypeError, r"arrays for np\.add\.reduce, .*jnp\.sum\(x, axis=-1"),
    (lambda: np.add(NODE, 1, 2), TypeError, r"write array = array \+ x, without out$"),
    (lambda: np.ones(4).__iadd__(NODE), TypeError, r"write array = array \+ x, without out$"),
    (lambda: pow(NODE, 2, 5), TypeError, r"two arguments of a node; write x\*\*y % z"),
    (lambda: np.add(NODE, 1, dtype="float32"), TypeError, r"write x \+ y, without dtype$"),
    (lambda: np.add(NODE, None), TypeError, r"arrays for np\.add, received <Node"),
    (lambda: jnp.sqrt(NODE), ValueError, r"expected an array, received <Node"),
    (lambda: float(NODE), TypeError, r"<Node .* has no values yet; compute with the node"),
    (lambda: int(NODE), TypeError, r"<Node .* has no values yet; compute with the node"),
    (lambda: range(NODE), TypeError, r"<Node .* has no values yet; compute with the node"),
    (lambda: round(NODE), TypeError, r"use Lambda\(jnp\.round\)\(x\)"),
    (lambda: 1 in NODE, TypeError, r"has no values yet; use Lambda\(lambda x: jnp\.any"),
    (lambda: NODE.mean(), AttributeError, r"'mean': use Lambda\(lambda x: jnp\.mean\(x, axis=-1\)"),
    (lambda: np.concatenate([NODE, NODE], -1), TypeError, r"use Concatenate\(axis=-1\)\(\[x, y\]"),
    (lambda: NODE.T, AttributeError, r"'T': use Permute\(dims\)\(x\)"),
    (lambda: NODE.nothing, AttributeError, "no attribute 'nothing'$"),
    (lambda: NODE.__setitem__(0, 1), TypeError, r"use Lambda\(lambda x: x\.at"),
    (lambda: NODE & NODE, TypeError, r"booleans or integers for bitwise_and, received flo"),
    (lambda: fnn.layers.Lambda(np.sqrt)(NODE), TypeError, "Lambda: expected a function of JAX, "),
    (lambda: fnn.Sequential([fnn.layers.Dense(1)]).predict(NODE), ValueError,
     "expected an array, received <Node"),
    (lambda: NODE + VECTOR, ValueError, r"shape \(None, 4\) for add; .*x\[:, None\] for a"),
    (lambda: NODE + np.ones((3, 6, 4)), ValueError, "the constant to repeat .* its batch, rec"),
    (lambda: NODE + np.ones((3, 6, 4)), ValueError, r"\(None, 6, 4\) .* shape \(3, 6, 4\) for add"),
    (lambda: NODE + np.ones(5), ValueError, r"received shape \(5,\) for add"),
    (lambda: NODE * np.nan, ValueError, "without NaN, received constant=nan"),
    (lambda: NODE * 1j, ValueError, "received constant=1j"),
    (lambda: NODE * [[1.0], [1.0, 2.0]], ValueError, "Operator: expected constant to be a number"),
    (lambda: NODE * np.ones(20_000), ValueError, "at most 10000.*constant='an array of"),
    (lambda: Operator("sin"), ValueError, "function to be one of 'add'"),
    (lambda: Operator("negative", 2), ValueError, "constant to be None for negative"),
    (lambda: Operator("add")(NODE), ValueError, "expected two inputs with a batch, received 1"),
    (lambda: MatMul(np.ones((2, 2, 2))), ValueError, "constant to have one or two axes"),
    (lambda: VECTOR @ VECTOR, ValueError, r"MatMul: expected inputs of equally many axes, 3 at le"),
    (lambda: NODE[0], ValueError, r"\[0\], which does not keep the batch, .* e\.g\. x\[:, 0\]"),
    (lambda: NODE[None], ValueError, r"received \[None\], which does not keep the batch, the f"),
    (lambda: VECTOR[..., 0, 0], ValueError, r"shape \(None, 4\), .*\[\.\.\., 0, 0\], which d"),
    (lambda: VECTOR[:, 0, 0], ValueError, r"\[:, 0, 0\], an index of 3 axes; use 2 at most"),
    (lambda: NODE[:, 6], ValueError, r"shape \(None, 6, 4\), .*\[:, 6\], but axis 1 has size 6; u"),
    (lambda: NODE[:, None, -7], ValueError, r"-7\], but axis 1 has size 6; use -6 to 5"),
    (lambda: Input((None, 4))[:, :, 4], ValueError, r"shape \(None, None, 4\), .*\[:, :, 4\]"),
    (lambda: NODE[:, [0, 1]], ValueError, "slices, None and ... alone, .*an array of positions"),
    (lambda: NODE[:, True], ValueError, "expected index to hold integers"),
    (lambda: GetItem((":", "a:b")), ValueError, "expected index to hold integers"),
    (lambda: NODE[..., ...], ValueError, "to hold one ... at most"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "message"), WRONG)
def test_what_cannot_be_is_an_error_that_says_what_to_do(make, error, message):
    with pytest.raises(error, match=message):
        make()


# What a reader writes, and the same of arrays where NumPy does not say it by the same expression.
SLIPS = [
    (lambda x, y: x.sum(-1), None),
    (lambda x, y: x.mean(axis=-1), None),
    (lambda x, y: x.max(-1), None),
    (lambda x, y: x.argmax(-1), None),
    (lambda x, y: x.cumsum(-1), None),
    (lambda x, y: x.round(), None),
    (lambda x, y: x.ravel(), lambda x, y: x.reshape(len(x), -1)),
    (lambda x, y: x if x > 0 else 0, lambda x, y: np.maximum(x, 0)),
    (lambda x, y: 1 in x, lambda x, y: (x == 1).any(-1)),
    (lambda x, y: jnp.sum(x), lambda x, y: x.sum(-1)),
    (lambda x, y: np.sum(x, -1), None),
    (lambda x, y: np.add.reduce(x, -1), None),
    (lambda x, y: np.linalg.norm(x, axis=-1), None),
    (lambda x, y: np.exp(x), None),
    (lambda x, y: np.maximum(x, y), None),
    (lambda x, y: np.hypot(x, y), None),
    (lambda x, y: np.where(x > 0, x, 0), None),
    (lambda x, y: np.concatenate([x, y], -1), None),
    (lambda x, y: np.stack([x, y], 1), None),
    (lambda x, y: np.einsum("btf,btf->bt", x, y), None),
    (lambda x, y: np.transpose(x), lambda x, y: x.swapaxes(1, 2)),
    (lambda x, y: np.reshape(x, (-1, 24)), None),
]
LAYER = r"[A-Z]\w+\(CALL\)\(CALL\)".replace("CALL", r"(?:[^()]|\((?:[^()]|\([^()]*\))*\))*")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SLIPS)))
def test_the_layer_that_an_error_advises_gives_the_numbers(number):
    write, expected = SLIPS[number]
    x, y = Input((6, 4)), Input((6, 4))
    with pytest.raises((AttributeError, TypeError, ValueError)) as error:
        write(x, y)
    code = re.search(LAYER, re.sub("<Node .*?>", "", str(error.value))).group()
    names = {**vars(fnn.layers), "jnp": jnp, "x": x, "y": y, "dims": (2, 1), "shape": (24,)}
    model = fnn.Model((x, y), eval(code.replace("bi,bi->b", "btf,btf->bt"), names))
    numbers = np.where(X > 1.5, 1, X - 1), Y
    np.testing.assert_allclose(
        model.predict(numbers, verbose=0), (expected or write)(*numbers), rtol=1e-5, atol=1e-6
    )
