"""Operations on nodes: the layers they make, their names, files, mixed calls, and errors."""

import itertools
import json
import random
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import ops
from fnn.core.config import from_config, to_config
from fnn.layers import Dense, Embedding
from fnn.ops.operation import OPERATIONS, Constant
from fnn.saving.archive import FileError
from tests.helpers import hostile


@pytest.fixture(autouse=True)
def broadcasting_as_in_keras():
    with jax.numpy_rank_promotion("allow"):
        yield


def run(model, *inputs):
    x = inputs[0] if len(inputs) == 1 else inputs
    return model.layer.apply(model.params, model.state, x)[0]


def through_a_file(model, tmp_path):
    path = tmp_path / "model.fnn"
    model.save(path)
    return fnn.load(path)


def first_layer(model):
    return model.layer.steps[0][1]


X = np.arange(12, dtype="float32").reshape(3, 4)


def test_a_call_makes_a_layer_that_is_named_after_the_operation():
    a, b = fnn.Input((4,)), fnn.Input((3,))
    joined = ops.concatenate([a, b], axis=-1)
    assert joined.shape == (None, 7)
    model = fnn.Model([a, b], ops.concatenate([joined, a], axis=1))
    names = [name for name, _, _ in model.layer.steps]
    assert names == ["concatenate", "concatenate_1"]
    np.testing.assert_array_equal(run(model, X, X[:, :3]), np.concatenate([X, X[:, :3], X], axis=1))


def test_layers_are_values():
    def make(axis, shift=1.0):
        x = fnn.Input((4,))
        return first_layer(fnn.Model(x, ops.sum(ops.add(x, np.full(4, shift)), axis=axis)))

    assert make(1) == make(1)
    assert hash(make(1)) == hash(make(1))
    assert make(1) == make(0)  # the first step is the sum's input
    assert make(1) != make(1, 2.0)


@pytest.mark.parametrize(
    ("function", "structure"),
    [
        (lambda x: ops.split(x, 2, axis=1), list),
        (lambda x: ops.split(x, 1, axis=1), list),
        (lambda x: ops.slogdet(ops.reshape(x, (-1, 2, 2))), tuple),
        (lambda x: ops.hsplit(x, [1, 3]), list),
    ],
)
def test_several_outputs_have_the_structure_of_keras(function, structure, tmp_path):
    x = fnn.Input((4,))
    made = function(x)
    assert type(made) is structure
    model = through_a_file(fnn.Model(x, list(made)), tmp_path)
    outputs = run(model, X)
    if len(made) == 1:
        outputs = [outputs]  # as in Keras, a list of one output comes without the list
    for found, expected in zip(outputs, function(jnp.asarray(X)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_inputs_and_constants_of_every_kind(tmp_path):
    x, y = fnn.Input((4,)), fnn.Input((4,), dtype="int32")
    made = [
        ops.add(x, 2),
        ops.add(x, [1, 2, 3, 4]),
        ops.multiply(x, np.arange(4, dtype="float64")),
        ops.where(x > 5, x, -np.inf),
        ops.where(ops.equal(y, 1), float("nan"), x),
        ops.maximum(jnp.ones((1, 4), jnp.bfloat16), x),
        ops.multiply(x, jnp.asarray(2.0) + 1),
        ops.stack([x, ops.zeros_like(x), x], axis=1),
        ops.get_item(x, (slice(None), slice(1, None, 2))),
        ops.get_item(x, (..., None)),
        ops.take(x, [1, 0], axis=1),
        ops.zeros_like(x, dtype=jnp.int32),
        ops.einsum("bi,bj->bij", x, y),
        ops.multiply(x, 1j),
    ]
    model = fnn.Model([x, y], made)
    again = through_a_file(model, tmp_path)
    assert again.layer == model.layer
    given = X, np.arange(12, dtype="int32").reshape(3, 4) % 3
    for node, before, after in zip(made, run(model, *given), run(again, *given), strict=True):
        assert node.dtype == before.dtype == after.dtype
        assert node.shape[1:] == before.shape[1:]
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(run(again, *given)[3], np.where(X > 5, X, -np.inf))
    assert run(again, *given)[11].dtype == "int32"


def test_one_node_twice_is_one_input():
    x = fnn.Input((4,))
    node = ops.multiply(x, x)
    assert node.parents is x or node.parents == (x,)
    np.testing.assert_array_equal(run(fnn.Model(x, node), X), X * X)


def test_numbers_of_python_leave_the_dtype():
    x = fnn.Input((4,), dtype="bfloat16")
    assert ops.add(x, 2.5).dtype == jnp.bfloat16
    assert ops.add(x, np.float32(2.5)).dtype == jnp.float32
    assert ops.where(x > 0, x, float("inf")).dtype == jnp.bfloat16


def test_operations_may_go_over_the_batch():
    x = fnn.Input((4,))
    assert ops.mean(x, 0).shape == (4,)
    assert ops.sum(x).shape == ()
    assert ops.transpose(x).shape == (4, None)
    np.testing.assert_allclose(run(fnn.Model(x, ops.mean(x, 0)), X), X.mean(0))


def test_a_short_batch_is_no_other_where_an_operation_goes_over_it():
    x = fnn.Input((4,))
    model = fnn.Model(x, ops.subtract(x, ops.mean(x, 0, keepdims=True)))
    rows = np.arange(20, dtype="float32").reshape(5, 4)
    parts = [part - part.mean(0) for part in (rows[:3], rows[3:])]
    found = model.predict(rows, batch_size=3, verbose=0)
    np.testing.assert_allclose(found, np.concatenate(parts))


def test_functions_are_saved_by_their_names(tmp_path):
    x = fnn.Input((4,))
    model = fnn.Model(x, fnn.layers.Lambda(ops.relu)(ops.vectorized_map(ops.softplus, x)))
    again = through_a_file(model, tmp_path)
    np.testing.assert_array_equal(run(again, X), run(model, X))
    nameless = fnn.Model(x, ops.map(lambda row: row * 2, x))
    np.testing.assert_array_equal(run(nameless, X), X * 2)
    with pytest.raises(ValueError, match="expected a registered function to save"):
        nameless.save(tmp_path / "nameless.fnn")


def test_a_layer_may_be_called_again():
    x, y = fnn.Input((4,)), fnn.Input((2,))
    layer = first_layer(fnn.Model(x, ops.sum(x, axis=1)))
    assert layer(y).shape == (None,)


def test_masks_are_dropped():
    x = fnn.Input((3,), dtype="int32")
    node = ops.sum(Embedding(5, 2, mask_zero=True)(x), axis=1)
    model = fnn.Model(x, Dense(1)(node))
    assert model.predict(np.zeros((2, 3), "int32"), verbose=0).shape == (2, 1)


def test_they_train():
    x = fnn.Input((4,))
    y = Dense(3)(x)
    model = fnn.Model(x, ops.sum(ops.tanh(ops.concatenate([y, x], axis=-1)), axis=1, keepdims=True))
    model.compile(fnn.optimizers.Adam(0.1), "mse")
    losses = model.fit(X, X[:, :1] / 10, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_an_error_is_at_the_line_of_the_call_and_names_the_operation():
    a, b = fnn.Input((4,)), fnn.Input((3, 3))
    with pytest.raises(TypeError, match=r"got \(None, 4\), \(None, 3, 3\)") as caught:
        ops.concatenate([a, b])
    assert "ops.concatenate(xs=" in "".join(caught.value.__notes__)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda x: ops.mean(x, 0, False, 1), TypeError, "too many positional arguments"),
        (lambda x: ops.mean(x, axes=0), TypeError, r"mean.*unexpected keyword argument 'axes'"),
        (lambda x: ops.mean(), TypeError, r"mean\(x, axis=None.*missing a required argument: 'x'"),
        (lambda x: ops.mean(x, x=x), TypeError, "multiple values for argument 'x'"),
        (lambda x: ops.where(x, x), ValueError, "expected both x1 and x2 or neither"),
        (lambda x: ops.ldexp(x, 1.5), TypeError, "expected integers as x2, received float32"),
        (lambda x: ops.pad(x, 1, "edge", 3), ValueError, "only with mode='constant'"),
        (lambda x: ops.select([], []), ValueError, "expected conditions and choices"),
        (lambda x: ops.histogram(x), ValueError, "expected an array of one axis"),
        (lambda x: ops.searchsorted(x, x), ValueError, "a sorted sequence of one axis"),
        (lambda x: ops.bincount(x, sparse=True), ValueError, "fnn has no sparse arrays"),
        (lambda x: ops.vectorize(3), ValueError, "vectorize: expected a function"),
    ],
)
def test_calls_that_cannot_be(call, error, match):
    with pytest.raises(error, match=match):
        call(jnp.ones((2, 3)))


def test_arrays_of_a_trace_are_no_constants():
    x = fnn.Input((4,))
    with pytest.raises(TypeError, match="build the graph outside of jit"):
        jax.jit(lambda a: ops.add(x, a))(X)
    with pytest.raises(TypeError, match="expected an array of numbers"):
        ops.add(x, np.array(["a"], dtype=object))


def test_functions_get_nodes_as_operands_alone():
    x, choice = fnn.Input((4,)), fnn.Input(batch_shape=(), dtype="int32")
    branches = [lambda x: x + 1, lambda x: x * 2]
    model = fnn.Model([choice, x], ops.switch(choice, branches, x))
    np.testing.assert_array_equal(run(model, jnp.asarray(1), X), X * 2)
    with pytest.raises(TypeError, match="uses a symbolic node from outside; hand the node over"):
        ops.cond(ops.greater(choice, 0), lambda: x, lambda: x)


def test_a_summary_names_operations(capsys):
    x = fnn.Input((4,))
    fnn.Model(x, Dense(2)(ops.concatenate([x, x]))).summary()
    assert "concatenate" in capsys.readouterr().out


def test_arrays_have_the_program_of_jax():
    def program(function, *given):
        return str(jax.make_jaxpr(function)(*given))

    assert program(ops.mean, X) == program(jnp.mean, X)
    assert program(lambda x: ops.sum(x, axis=1), X) == program(lambda x: jnp.sum(x, axis=1), X)
    assert program(ops.add, X, X) == program(jnp.add, X, X)


# -- files ---------------------------------------------------------------------------------------

ADD = {"dict": [["x1", {"value": "Place", "index": 0}], ["x2", 1]]}


def constant(dtype="float32", shape=(2,), data="AAAAAAAAAAA=", **more):
    return {"value": "Constant", "dtype": dtype, "shape": list(shape), "data": data, **more}


HOSTILE = [
    {"operation": "os.system", "arguments": ADD},
    {"operation": "eval", "arguments": ADD},
    {"operation": "__class__", "arguments": ADD},
    {"operation": ["add"], "arguments": ADD},
    {"operation": "add", "arguments": [1]},
    {"operation": "add", "arguments": {"dict": [["x1", 1], ["x2", 1]]}},
    {"operation": "add", "arguments": {"dict": [["x1", {"value": "Place", "index": 1}]]}},
    {"operation": "add", "arguments": {"dict": [["x1", {"value": "Place", "index": -1}]]}},
    {"operation": "add", "arguments": {"dict": [*ADD["dict"], ["out", 3]]}},
    {"operation": "add", "arguments": {"dict": [*ADD["dict"][:1], ["x2", constant("object")]]}},
    {"operation": "add", "arguments": {"dict": [*ADD["dict"][:1], ["x2", constant(data="!")]]}},
    {"operation": "add", "arguments": {"dict": [*ADD["dict"][:1], ["x2", constant(shape=[3])]]}},
    {"operation": "add", "arguments": {"dict": [*ADD["dict"][:1], ["x2", constant(shape=[-2])]]}},
    {"operation": "add", "arguments": {"dict": [*ADD["dict"][:1], ["x2", constant("evil")]]}},
    {"operation": "add", "arguments": {"dict": [["x1", {"value": "Place", "index": 0}],
        ["x2", {"function": "system"}]]}},
    {"operation": "add", "arguments": ADD, "compute": 1},
]  # fmt: skip


@pytest.mark.parametrize("entry", HOSTILE, ids=str)
def test_hostile_descriptions_are_refused(entry, tmp_path):
    with pytest.raises((ValueError, TypeError), match="expected"):
        from_config({"layer": "Operation", **entry})
    x = fnn.Input((4,))
    path, other = tmp_path / "model.fnn", tmp_path / "hostile.fnn"
    fnn.Model(x, Dense(2)(ops.add(x, 1))).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    steps = config["layer"]["steps"]
    assert steps[0][1]["operation"] == "add"
    steps[0][1] = {"layer": "Operation", **entry}
    changed = json.dumps(config)
    with zipfile.ZipFile(other, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, changed if name == "config.json" else data)
    with pytest.raises(FileError):
        fnn.load(other)


@pytest.mark.slow
def test_changed_files_load_or_are_refused(tmp_path):
    """One value of the description is another: nothing runs but operations of the table."""
    x = fnn.Input((4,))
    joined = ops.concatenate([x, ops.add(x, np.ones((1, 4), "float32"))], axis=-1)
    left, right = ops.split(joined, [2], axis=1)
    path = tmp_path / "model.fnn"
    fnn.Model(x, [ops.where(left > 0, left, np.inf), ops.get_item(right, (..., 0))]).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    cases = list(itertools.product(hostile.nodes(config), [*hostile.WRONG, "sum", "map", "eye"]))
    for at, value in random.Random(0).sample(cases, 250):
        changed = hostile.described(members, lambda _, a=at, v=value: hostile.put(config, a, v))
        path.write_bytes(changed)
        hostile.loads_or_is_refused(path)


def test_constants_are_compared_by_content():
    a, b = Constant.of(np.arange(3)), Constant.of(np.arange(3))
    assert a == b
    assert hash(a) == hash(b)
    assert a != Constant.of(np.arange(3.0))
    assert from_config(json.loads(json.dumps(to_config(a)))) == a
    np.testing.assert_array_equal(a.value, np.arange(3))
    assert repr(a) == "int64[3]"


def test_every_operation_explains_itself():
    for name, known in OPERATIONS.items():
        first = (known.function.__doc__ or "").partition("\n")[0]
        assert first.endswith("."), (name, first)
        assert ":func:" not in first, (name, first)
        assert "LAX-backend" not in first
        assert known.function.__name__ == name
