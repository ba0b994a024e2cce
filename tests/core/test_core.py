"""The core: values and their configuration, contexts, masks, names, errors, trees of weights."""

import copy
import json
import pickle
import traceback
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.core import arguments, fields, registry, tree, weights
from fnn.core import value as value_module
from fnn.core.calling import (
    applied_spec,
    call,
    initialize,
    output_spec,
    snake_case,
    unique_names,
    walk,
    weight_spec,
)
from fnn.core.checks import located
from fnn.core.config import from_config, to_config
from fnn.core.context import (
    INFERENCE,
    Context,
    Masked,
    attach_mask,
    combine_masks,
    split_mask,
    strip_masks,
)
from fnn.core.registry import lookup, names_of, register
from fnn.core.value import Fields, Value, resolve
from fnn.layers import (
    LSTM,
    BatchNormalization,
    Dense,
    Dropout,
    Embedding,
    Ensemble,
    Frozen,
    Input,
    Parallel,
    Repeat,
    Residual,
    Sequential,
)
from fnn.runtime.seed import next_key
from tests.helpers.catalogue import jit
from tests.helpers.oracle import keras_rules

# -- values --------------------------------------------------------------------------------------


@register
class Point(Value):
    """Two fields, and a check."""

    x: object
    y: object = 0

    def validate(self):
        if self.y is None:
            raise ValueError("expected y to be given, received None")


class Other(Value):
    """The fields of `Point` in another class."""

    x: object
    y: object = 0


class Opened(Value):
    """A class with an `__init__` of its own stays open."""

    def __init__(self, table):
        self.table = table
        self._private = object()


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        (Point(1), Point(1, 0), True),
        (Point(1), Point(1, 1), False),
        (Point(1), Other(1), False),
        (Point([1, [2, 3]]), Point((1, (2, 3))), True),
        (Point(np.array([[1, 2]])), Point(((1, 2),)), True),
        (Point(np.float64(0.5), np.int64(3)), Point(0.5, 3), True),
        (Point({"a": [1]}), Point({"a": (1,)}), True),
        (Point({"a": 1}), Point({"a": 2}), False),
        (Point(2), Point(2.0), False),  # they compute in different dtypes
        (Point(1), Point(True), False),
        (Point((1, 2)), Point((1.0, 2.0)), False),
        (Point({"c": 2}), Point({"c": 2.0}), False),
        (Point([{"c": [1]}]), Point([{"c": [True]}]), False),
        (Point(0.0), Point(-0.0), False),
        (Point(float("nan")), Point(float("nan")), True),
        (Point(Point((1,))), Point(Point((1.0,))), False),
        (Opened([1, 2]), Opened([1, 2]), True),
        (Opened([1, 2]), Opened([1]), False),
    ],
)
def test_values_are_equal_by_class_and_fields(first, second, equal):
    assert (first == second) is equal
    assert (hash(first) == hash(second)) is equal


def test_equal_numbers_of_different_types_share_no_shapes():
    class Times(fnn.Layer):
        factor: float

        def apply(self, params, state, x, ctx=INFERENCE):
            return x * self.factor, state

    x = jax.ShapeDtypeStruct((2,), jnp.int32)
    assert [output_spec(Times(n), x).dtype for n in (2, 2.0)] == [jnp.int32, jnp.float32]


def test_equal_networks_are_compared_without_looking_inside_twice(monkeypatch):
    first, second = (Sequential([Dense(n) for n in range(1, 9)]) for _ in range(2))
    assert first == second
    monkeypatch.setattr(value_module, "freeze", None)
    assert first == second
    assert hash(first) == hash(second)


class Rates(Value):
    """An open class that holds what it is given."""

    def __init__(self, rates):
        self.rates = rates


@pytest.mark.parametrize(
    ("use", "field"),
    [
        (
            lambda array: fnn.layers.Lambda(jnp.square, arguments={"c": array}),
            "arguments of Lambda",
        ),
        (lambda array: Point([array]), "x of Point"),
        (lambda array: hash(Rates(array)), "rates of Rates"),
        (lambda array: Rates(array) == Rates(array), "rates of Rates"),
    ],
)
@pytest.mark.parametrize("array", [jnp.ones(2), {1, 2}], ids=["array", "set"])
def test_what_has_no_hash_is_refused_with_words(use, field, array):
    with pytest.raises(
        TypeError, match=r"expected plain data.*convert an array with np\.asarray"
    ) as caught:
        use(array)
    assert f"as {field}" in caught.value.__notes__


def test_values_hold_plain_things_and_print_as_written():
    point = Point(np.arange(3), {"a": [np.float32(0.5)]})
    assert point.x == (0, 1, 2)
    assert point.y == Fields((("a", (0.5,)),))
    assert point.y.as_dict() == {"a": (0.5,)}
    assert repr(Point((1, "a"), 0)) == "Point(x=(1, 'a'))"
    assert repr(Dense(3, jnp.tanh, name="last")) == "Dense(name='last', units=3, activation=tanh)"
    assert repr(Opened(3)) == "Opened(table=3)"


def test_a_field_is_its_own_whatever_a_base_calls_by_its_name():
    class Base(Value):
        unit: ClassVar[str] = "metre"
        size: int

        def weight(self):
            return 2

    class Thing(Base):
        unit: str
        weight: float
        label: str

    thing = Thing(3, "kg", 2.5, "red")
    assert repr(thing) == "Thing(size=3, unit='kg', weight=2.5, label='red')"
    with pytest.raises(TypeError, match="'unit', 'weight', and 'label'"):
        Thing(3)


def test_a_value_is_frozen_and_says_how_to_change_it():
    with pytest.raises(
        AttributeError, match=r"its x cannot be assigned; value\.replace\(x=5\) makes"
    ):
        Point(1).x = 5
    assert Point(1).replace(y=2) == Point(1, 2)
    with pytest.raises(ValueError, match="expected y to be given"):
        Point(1).replace(y=None)
    with pytest.raises(
        TypeError, match=r"Point: expected arguments among x, y, received z=2; leave it out"
    ):
        Point(1).replace(z=2)
    opened = Opened(1)
    opened.table = 2
    assert opened == Opened(2)


@pytest.mark.parametrize("value", [Point((1, 2)), Dense(3, "relu"), Sequential([Dense(2)])])
def test_values_are_copied_and_pickled(value):
    hash(value)  # which is kept, and must not travel: strings hash differently elsewhere
    for twin in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert "_hash" not in vars(twin)
        assert twin == value
        assert hash(twin) == hash(value)
        with pytest.raises(AttributeError, match="is a value"):
            twin.name = "other"


def test_an_error_names_the_field():
    with pytest.raises(ValueError, match="did you mean 'relu'") as info:
        Dense(3, activation="rleu")
    assert info.value.__notes__ == ["as activation of Dense"]


# -- names and configuration ---------------------------------------------------------------------


def test_names_stand_for_functions_and_fresh_values():
    assert lookup("activation", "relu") is fnn.activations.relu
    assert resolve("initializer", "zeros") == fnn.initializers.Zeros()
    assert resolve("initializer", fnn.initializers.Zeros) == fnn.initializers.Zeros()
    assert resolve("initializer", None) is None
    assert resolve("activation", abs) is abs
    assert lookup("layer", "Mine", {"Mine": Point}) is Point
    assert Dense(2, fnn.activations.relu) == Dense(2, "relu")
    with pytest.raises(TypeError, match=r"function or a value for the activation, received 3 of"):
        resolve("activation", 3)


def test_a_function_may_be_registered_under_several_names():
    try:

        @register("twice", kind="activation")
        def two_times(x):
            return 2 * x

        assert resolve("activation", "twice") is resolve("activation", "two_times") is two_times
        assert to_config(Dense(2, two_times))["activation"] == "two_times"
    finally:
        for name in ("twice", "two_times"):
            registry.TABLE.pop(("activation", name))
    assert "twice" not in names_of("activation")


@pytest.mark.parametrize(
    "value",
    [
        None,
        (1, 2.5, "same", True, None),
        Point((1, (2, 3)), {"b": (1,), "a": {"c": None}}),
        Sequential(
            [Dense(3, "relu", kernel_regularizer=fnn.regularizers.L2(0.1), name="first")],
        ),
        Residual(Repeat(Sequential([Dense(4), Dropout(0.5)]), 3), trainable=False),
        Ensemble(Parallel([Frozen(Dense(2)), Dense(2)], merge=fnn.layers.Add()), 3),
    ],
    ids=str,
)
def test_configurations_round_trip_through_json(value):
    back = from_config(json.loads(json.dumps(to_config(value))))
    assert back == value
    assert repr(back) == repr(value)


def test_a_name_of_fnn_stays_its_own():
    before = dict(registry.TABLE)
    with pytest.raises(ValueError, match="for the layer, received 'Dense', which fnn uses; call"):

        @register
        class Dense(fnn.Layer):
            """Not the one that fnn's blocks are made of."""

    with pytest.raises(ValueError, match="for the activation, received 'relu'"):
        register("relu", kind="activation")(lambda x: x)
    assert before == registry.TABLE
    for _ in range(2):  # a cell that runs again

        @register
        class Mine(fnn.Layer):
            """Registered anew."""

        assert lookup("layer", "Mine") is Mine
    del registry.TABLE["layer", "Mine"]


def test_what_has_no_name_is_not_saved():
    with pytest.raises(ValueError, match="a registered value to save, received Other; put"):
        to_config(Other(1))
    with pytest.raises(ValueError, match="registered function to save, received <lambda>"):
        to_config(Dense(3, lambda x: x))
    with pytest.raises(ValueError, match="received <object object"):
        to_config(object())


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({}, ValueError, "a description of a value, received an empty dict"),
        ({"layer": "Dens", "units": 3}, ValueError, "expected a layer that fnn.*mean 'Dense'"),
        ({"module": "os", "name": "system"}, ValueError, "expected a module that fnn knows"),
        ({"": "Dense"}, ValueError, "fnn knows, received 'Dense'"),
        ({"layer": ["Dense"]}, ValueError, "expected the name of a layer, received"),
        ({"layer": {"layer": "Dense"}}, ValueError, "expected the name of a layer, received"),
        ({"layer": "os.system"}, ValueError, "expected a layer that fnn knows"),
        ({"layer": "Dense"}, ValueError, r"\['units'\] at least, received \[\]"),
        ({"layer": "Dense", "units": 3, "apply": 0}, ValueError, r"received \['apply', 'units'\]"),
        ({"layer": "Dense", "units": "3"}, ValueError, "units to be an integer"),
        ({"layer": "Dense", "units": 3, "name": "a/b"}, ValueError, "string without '/'"),
        ({"layer": "Dense", "units": 3, "name": "a\0b"}, ValueError, "printable string"),
        ({"layer": "Dense", "units": 3, "name": 5}, ValueError, "a string or None"),
        ({"layer": "Dense", "units": 3, "trainable": "no"}, ValueError, "to be True or False"),
        ({"layer": "Dense", "units": 3, "activation": 5}, TypeError, "value for the activation"),
        ({"layer": "Dense", "units": 3, "dtype": "text"}, ValueError, "the name of a dtype"),
        ({"layer": "Layer"}, ValueError, "fnn knows, received 'Layer'"),
        ({"layer": "Composite"}, ValueError, "fnn knows, received 'Composite'"),
        ({"metric": "ConfusionMetric"}, ValueError, "fnn knows, received 'ConfusionMetric'"),
        ({"loss": "Loss"}, ValueError, "fnn knows, received 'Loss'"),
        ({"value": "Objective"}, ValueError, "fnn knows, received 'Objective'"),
        ({"layer": "Sequential", "layers": 5}, TypeError, "to be a list of layers, received 5"),
        ({"layer": "Sequential", "layers": [5]}, TypeError, "a layer at position 0, received 5"),
        ({"layer": "Residual", "inner": 5}, TypeError, "a layer as inner, received 5"),
        ({"layer": "Repeat", "inner": "dense"}, TypeError, "as inner, received 'dense'"),
        ({"layer": "Ensemble", "inner": None}, TypeError, "as inner, received None"),
        ({"layer": "Parallel", "layers": [], "merge": "add"}, TypeError, "layer as merge"),
        ({"dict": 5}, ValueError, r"a list of \[key, value\] for a dict, received 5"),
        ({"dict": [["a"]]}, ValueError, r"a list of \[key, value\] for a dict"),
    ],
    ids=str,
)
def test_a_hostile_configuration_is_refused_with_words(data, error, message):
    with pytest.raises(error, match=message):
        from_config(data)


def test_every_loadable_class_is_made_of_no_other():
    """A class that others subclass is there to be subclassed, not to be named by a string."""
    bases = {
        f"{kind} {name}"
        for (kind, name), thing in registry.TABLE.items()
        if isinstance(thing, type)
        # A `Model` is one, and a base class too; so is a policy in Keras.
        and kind not in ("model", "dtype_policy")
        and [c for c in thing.__subclasses__() if ours(c) and c.__name__[0] != "_"]
    }
    assert not bases


def ours(thing):
    return thing.__module__.partition(".")[0] == "fnn"


def test_an_open_class_is_saved_by_its_attributes():
    class Table(Opened):
        """Registered below, without its name in the table of all tests."""

    with pytest.raises(ValueError, match="received Table"):
        to_config(Table(1))
    data = {"value": "Table", "table": [1, {"value": "Point", "x": 2}]}
    back = from_config(data, {"Table": Table})
    assert back.table == (1, Point(2))


# -- checks of arguments -------------------------------------------------------------------------


class Bounded(Value):
    """A field for each kind of bound."""

    least: float = fields.not_negative(default=0.0)
    part: float = fields.fraction(default=0.0)
    size: int = fields.positive(default=1)
    choice: str | None = fields.one_of(("a", None), default=None)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("least", (0, 0.5, 3), (-1, "1", None, True, np.inf)),
        ("part", (0, 1, 0.5), (-0.1, 1.1, "1", None, True)),
        ("size", (1, 7), (0, -1, 1.0, "1", None, True)),
        ("choice", ("a", None), ("b", 1)),
    ],
)
def test_bounds_of_fields(name, right, wrong):
    for value in right:
        assert getattr(Bounded(**{name: value}), name) == value
    for value in wrong:
        with pytest.raises(ValueError, match=f"Bounded: expected {name} to be .*received {name}="):
            Bounded(**{name: value})


def test_integers_for_each_axis():
    for value in (1, (1, 2)):
        assert arguments.integers("Point", "x", 2, value=value) == (1, value if value == 1 else 2)
    for value in (0, (1, 2, 3), (1, 0.5)):
        with pytest.raises(ValueError, match=r"Point: expected x to be .*received x="):
            arguments.integers("Point", "x", 2, value=value)


def test_a_seed_has_32_bits():
    for seed in (None, 0, 2**32 - 1):
        Dropout(0.5, seed=seed)
    for seed in (-1, 2**32):
        with pytest.raises(ValueError, match=r"seed to be an integer from 0 to 2\*\*32 - 1"):
            Dropout(0.5, seed=seed)
    for seed in (1.0, True):
        with pytest.raises(ValueError, match="seed to be an integer or None"):
            Dropout(0.5, seed=seed)


def test_a_seed_of_the_process_makes_models_reproducible():
    from fnn.runtime import seed

    before = dict(seed._SEED)
    try:
        keys = []
        for _ in range(2):
            fnn.set_seed(3)
            keys.append([jax.random.key_data(next_key()).tolist() for _ in range(2)])
        assert keys[0] == keys[1]
        assert keys[0][0] != keys[0][1]
        assert (jax.random.key_data(next_key(5)) == jax.random.key_data(jax.random.key(5))).all()
        with pytest.raises(ValueError, match=r"seed as an integer, received 1\.5"):
            fnn.set_seed(1.5)
        fnn.runtime.seed._SEED.update(seed=None)
        assert jax.random.key_data(next_key()).tolist() != jax.random.key_data(next_key()).tolist()
    finally:
        seed._SEED.update(before)


# -- contexts and masks --------------------------------------------------------------------------


def number(key):
    return jax.random.key_data(key).tolist()


def test_a_random_key_depends_on_the_path_alone(key):
    ctx = Context(train=True, key=key, mask=jnp.ones((1, 1)), rows=jnp.ones(1))
    child = ctx.child("a").child("b")
    assert child.path == ("a", "b")
    assert child.mask is None  # it travels with the values
    assert child.rows is ctx.rows
    first = number(child.random_key())
    ctx.child("a").random_key()  # asking elsewhere changes nothing
    assert number(child.random_key()) == first
    keys = [
        *(ctx, ctx.child("a"), child, ctx.child("b"), ctx.child("b").child("a")),
        *(child.repeat(0), child.repeat(1), child.repeat(1).repeat(0), child.repeat(0).repeat(1)),
    ]
    drawn = [number(c.random_key(purpose)) for c in keys for purpose in ("", "noise")]
    assert len({tuple(d) for d in drawn}) == len(drawn)


def test_a_context_without_a_key():
    ctx = Context(train=True)
    assert ctx.repeat(3) is ctx
    with pytest.raises(ValueError, match=r"received Context\(key=None\); use Context\(train=True"):
        ctx.random_key()


def test_a_context_is_a_pytree_of_its_arrays(key):
    ctx = Context(train=True, key=key, rows=jnp.ones(2), path=("a",))
    assert len(jax.tree.leaves(ctx)) == 2
    back = jax.jit(lambda c: c.replace(rows=c.rows * 2) if c.train else c)(ctx)
    assert (back.train, back.path, back.rows.tolist()) == (True, ("a",), [2, 2])


@pytest.mark.slow
def test_a_mask_travels_through_transforms():
    values, mask = jnp.arange(12.0).reshape(2, 3, 2), jnp.array([[1, 1, 0], [1, 0, 0]], bool)

    def double(x):
        return Masked(x.values * 2, x.mask)

    x = Masked(values, mask)
    for result in (jax.jit(double)(x), jax.vmap(double)(x)):
        np.testing.assert_array_equal(result.values, values * 2)
        np.testing.assert_array_equal(result.mask, mask)

    def total(values):
        y = double(Masked(values, mask))
        return jnp.where(y.mask[..., None], y.values, 0).sum()

    expected = 2.0 * np.repeat(np.asarray(mask)[..., None], 2, 2)
    np.testing.assert_array_equal(jax.grad(total)(values), expected)
    assert (x.shape, x.dtype) == ((2, 3, 2), jnp.float32)


def test_masks_are_split_stripped_and_combined():
    a, b = jnp.array([[True, False]]), jnp.array([[True, True]])
    x, y = jnp.ones((1, 2, 3)), jnp.ones((1, 2))
    assert split_mask(x) == (x, None)
    values, masks = split_mask((Masked(x, a), y))
    assert values == (x, y)
    assert masks == (a, None)
    assert strip_masks({"k": (Masked(x, a), y)}) == {"k": (x, y)}
    assert attach_mask(x, None) is x
    assert combine_masks((None, None)) is None
    assert combine_masks((a, None)) is a
    assert combine_masks((b, a, None)).tolist() == [[True, False]]


# -- names of layers -----------------------------------------------------------------------------


def test_default_names_are_those_of_keras():
    import keras
    from keras.src.utils.naming import to_snake_case

    names = [n for n, thing in vars(keras.layers).items() if isinstance(thing, type)]
    names += [name for name in names_of("layer") if hasattr(fnn.layers, name)]
    assert len(names) > 100
    assert {n: snake_case(n) for n in names} == {n: to_snake_case(n) for n in names}


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ([Dense(1), Dense(1), Dropout(0.1), Dense(2)], ["dense", "dense_1", "dropout", "dense_2"]),
        ([Dense(1, name="dense"), Dense(1)], ["dense", "dense_1"]),
        ([Dense(1), Dense(1, name="dense")], ["dense_1", "dense"]),
        ([Dense(1, name="dense_1"), Dense(1), Dense(1)], ["dense_1", "dense", "dense_2"]),
        ([], []),
    ],
)
def test_siblings_have_different_names(layers, names):
    assert unique_names(layers) == names


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sequential([Dense(1, name="a"), Dropout(0.1, name="a")]),
        lambda: Parallel([Dense(1, name="a")], merge=fnn.layers.Add(name="a")),
    ],
)
def test_a_name_given_twice_is_an_error(make):
    with pytest.raises(ValueError, match=r"different names, received \['a'\] more than once"):
        make()


# -- where an error is ---------------------------------------------------------------------------


class TroubleError(Exception):
    """An error of a user's own, with a constructor of its own."""

    def __init__(self, code, *, reason):
        super().__init__(code)
        self.reason = reason


class Fails(fnn.Layer):
    """Raises in training; notes may be there already."""

    masking = "pass"

    def apply(self, params, state, x, ctx=INFERENCE):
        if ctx.train:
            error = TroubleError(7, reason="train")
            error.add_note("by the layer itself")
            raise error
        return x, state


class Remarks(fnn.core.combining.Wrapper):
    """Adds a note to errors on their way out."""

    def apply(self, params, state, x, ctx=INFERENCE):
        try:
            return call(self.inner, params, state, x, ctx)
        except TroubleError as error:
            error.add_note("seen by Remarks")
            raise


INNER = Sequential([Dense(3), Remarks(Repeat(Residual(Fails()), 2))], name="in")
NEST = Sequential([Dense(3), INNER])


def notes(error):
    """The notes of an error but for JAX's own, on its traceback."""
    return [note for note in error.__notes__ if not note.startswith("----")]


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.vmap, jax.grad, jax.checkpoint])
def test_an_error_has_one_note_with_the_whole_path(transform, key):
    x = jnp.ones((4, 2, 3)) if transform is jax.vmap else jnp.ones((2, 3))
    params, state = initialize(NEST, key, x[0] if transform is jax.vmap else x)

    def run(x):
        return NEST.apply(params, state, x, Context(train=True))[0].sum()

    with pytest.raises(TroubleError) as info:
        transform(run)(x)
    assert info.value.reason == "train"
    assert notes(info.value) == [
        "by the layer itself",
        "in layer in/remarks: Fails() applied to float32[2, 3]",
        "seen by Remarks",
    ]
    printed = "".join(traceback.format_exception(info.value))
    assert printed.count("in layer") == 1
    assert "in apply" in printed  # the traceback is whole


def test_a_wrong_shape_is_located_when_weights_are_made(key):
    deep = Sequential([Sequential([Dense(3), Residual(Dense(2))], name="encoder")])
    with pytest.raises(ValueError, match="keeps the shape") as info:
        deep.init(key, jnp.ones((1, 4)))
    (note,) = notes(info.value)
    assert note.startswith("in layer encoder/residual: Residual(inner=Dense(units=2)) applied to")


def test_a_layer_alone_is_located_by_its_class():
    with pytest.raises(KeyError) as info, located(None, Dense(3), jnp.ones((1, 2))):
        raise KeyError("kernel")
    assert info.value.__notes__ == ["in layer Dense: Dense(units=3) applied to float32[1, 2]"]


def test_a_mask_that_would_be_lost_is_refused_and_located(key):
    net = Sequential([Embedding(5, 3, mask_zero=True), fnn.layers.Flatten()])
    with pytest.raises(ValueError, match="expected inputs without a mask, since Flatten") as info:
        net.init(key, jnp.ones((2, 4), jnp.int32))
    (note,) = notes(info.value)
    assert note.startswith("in layer flatten: Flatten() applied to float32[2, 4, 3]")


def test_a_layer_without_apply_is_refused_with_words():
    class Empty(fnn.Layer):
        pass

    with pytest.raises(TypeError, match="expected Empty to define apply"):
        Empty().apply({}, {}, jnp.ones(1))


# -- trees of weights ----------------------------------------------------------------------------

TREE = {"b": {"kernel": jnp.ones((2, 3)), "empty": {}}, "a": {"bias": jnp.zeros(3, jnp.bfloat16)}}


def test_trees_are_listed_and_built_in_their_order():
    paths = [path for path, _ in tree.flatten(TREE)]
    assert paths == [("b", "kernel"), ("a", "bias")]
    assert list(tree.unflatten(tree.flatten(TREE))) == ["b", "a"]
    assert tree.get(TREE, ("b", "kernel")).shape == (2, 3)
    assert tree.get(TREE, ("c", "kernel")) == {}
    changed = tree.put(TREE, ("c", "d"), 1)
    assert changed["c"] == {"d": 1}
    assert "c" not in TREE
    assert tree.put(TREE, (), 5) == 5
    assert list(
        tree.same_order({"a": {"x": 1, "y": 2}, "b": 3}, {"b": 0, "a": {"y": 0, "x": 0}})
    ) == [
        "b",
        "a",
    ]


def test_trees_are_counted_and_described():
    assert tree.count(TREE) == 9
    assert tree.nbytes(TREE) == 6 * 4 + 3 * 2
    assert tree.describe((TREE["b"]["kernel"], 3)) == "float32[2, 3], int"
    assert tree.spec(TREE)["a"]["bias"] == jax.ShapeDtypeStruct((3,), jnp.bfloat16)


def test_split_and_merge_are_inverse(key):
    net = Sequential([Dense(2), Frozen(Sequential([Dense(2)])), Dense(1, trainable=False)])
    params, _ = net.init(key, jnp.ones((1, 3)))
    kept, fixed = weights.split(net, params)
    assert list(kept) == ["dense"]
    assert list(fixed) == ["frozen", "dense_1"]
    merged = weights.merge(params, kept, fixed)
    assert list(merged) == list(params)
    jax.tree.map(np.testing.assert_array_equal, merged, params)
    with_dropout = {"dense": kept["dense"], "dropout": {}}
    assert weights.merge(with_dropout, kept, {}) == with_dropout


@pytest.mark.slow
def test_penalties_and_constraints_reach_every_copy():
    layer = Dense(3, kernel_regularizer="l2", bias_regularizer="l1", kernel_constraint="unit_norm")
    net = Sequential([layer, Repeat(Residual(layer), 4), Ensemble(layer, 2)])
    params, _ = weight_spec(net, jnp.ones((1, 3)))
    draw = np.random.default_rng(0).normal
    params = jax.tree.map(lambda a: jnp.asarray(draw(size=a.shape), a.dtype), params)
    kernels, biases = (
        [np.asarray(leaf, "float64") for path, leaf in tree.flatten(params) if path[-1] == name]
        for name in ("kernel", "bias")
    )
    expected = 0.01 * (sum((k**2).sum() for k in kernels) + sum(np.abs(b).sum() for b in biases))
    np.testing.assert_allclose(weights.penalty(net, params), expected, rtol=1e-5)

    constrained = weights.constrain(net, params)
    for path, before in tree.flatten(params):
        after = tree.get(constrained, path)
        if path[-1] == "kernel":
            before = before / np.linalg.norm(before, axis=-2, keepdims=True)
        np.testing.assert_allclose(after, before, rtol=1e-5)


def test_auxiliary_losses_add_up():
    state = {
        "a": {"aux_loss": jnp.array([1.0, 2.0]), "mean": jnp.ones(3)},
        "aux_loss": jnp.ones(()),
    }
    assert float(weights.auxiliary(state)) == 4
    assert float(weights.auxiliary({})) == 0


def nested(library):
    """The same nest of layers from fnn or Keras."""
    block = lambda units: library.Sequential(
        [library.layers.Dense(units), library.layers.BatchNormalization(), library.layers.Dense(2)]
    )
    return library.Sequential(
        [
            library.layers.Input((5, 3)),
            library.layers.BatchNormalization(),
            block(4),
            library.layers.LSTM(3),
            library.layers.BatchNormalization(scale=False),
            block(6),
        ]
    )


@pytest.mark.slow
def test_weights_are_in_the_order_of_keras():
    import keras

    ours = nested(fnn)
    with keras_rules():
        theirs = nested(keras)
        shapes = [w.shape for w in theirs.get_weights()]
        names = [v.path.split("/")[-1] for v in theirs.weights]
    assert [w.shape for w in ours.get_weights()] == shapes
    assert [entry.path[-1] for entry in ours._weights.entries()] == names


def test_weights_are_listed_as_the_layers_make_them():
    net = Sequential([LSTM(2, return_sequences=True), BatchNormalization(), Ensemble(Dense(1))])
    params, state = weight_spec(net, jax.ShapeDtypeStruct((2, 4, 3), jnp.float32))
    assert [path for path, _ in tree.flatten(params)] == [
        *(("lstm", name) for name in ("kernel", "recurrent_kernel", "bias")),
        *(("batch_normalization", name) for name in ("gamma", "beta")),
        *(("ensemble", name) for name in ("kernel", "bias")),
    ]
    assert list(state["batch_normalization"]) == ["moving_mean", "moving_variance"]
    assert params["ensemble"]["kernel"].shape == (2, 2, 1)
    assert [(path, copies) for path, _, copies in walk(net)][-2:] == [
        (("ensemble",), 0),
        (("ensemble",), 1),
    ]


# -- shapes --------------------------------------------------------------------------------------


def test_an_equal_layer_on_equal_shapes_is_traced_once():
    traced = []

    class Counted(fnn.Layer):
        units: int = 1

        def apply(self, params, state, x, ctx=INFERENCE):
            traced.append(x.shape)
            return x, state

    for _ in range(3):
        output_spec(Sequential([Counted(2)]), jnp.ones((2, 3)))
        output_spec(Sequential([Counted(2)]), jax.ShapeDtypeStruct((2, 3), jnp.float32))
    once = len(traced)
    assert once <= 2  # once to wire the children, once for the whole
    output_spec(Sequential([Counted(2)]), jnp.ones((4, 3)))
    assert len(traced) == 2 * once
    for _ in range(3):
        applied_spec(Counted(2), {}, {}, jnp.ones((7, 3)))
    assert len(traced) == 2 * once + 1


def test_layers_that_differ_in_name_alone_are_traced_once():
    traced = []

    class Halved(fnn.Layer):
        def apply(self, params, state, x, ctx=INFERENCE):
            traced.append(x.shape)
            if x.shape[-1] % 2:
                raise ValueError("an even number of features is needed")
            return x[..., ::2], state

    x = fnn.Input((8,))
    Halved(name="first")(x)
    once = len(traced)
    Halved(name="second")(x)
    assert len(traced) == once
    with pytest.raises(ValueError, match="an even number") as caught:
        Halved(name="third")(fnn.Input((7,)))
    assert "third" in "".join(caught.value.__notes__)


def test_shapes_need_no_memory_and_no_device():
    before = len(jax.live_arrays())
    spec = output_spec(
        Sequential([Dense(10**6), Dense(10**6)]), jax.ShapeDtypeStruct((2, 10), jnp.float32)
    )
    assert spec.shape == (2, 10**6)
    assert len(jax.live_arrays()) <= before + 1  # the key of the abstract run


def test_a_layer_computes_in_its_dtype_and_keeps_full_weights(key):
    layer, x = Dense(2, dtype="bfloat16"), jnp.ones((1, 3))
    params, state = initialize(layer, key, x)
    assert params["kernel"].dtype == jnp.float32
    y, _ = jit(lambda p, x: call(layer, p, state, x, INFERENCE))(params, x)
    assert y.dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="expected the name of a dtype, received 'float7'"):
        Dense(2, dtype="float7")


def test_input_says_what_a_shape_is():
    assert Input((3, None)).shape == (None, 3, None)
    assert Input(batch_shape=(4, 3), dtype="int32").shape == (4, 3)
    with pytest.raises(ValueError, match=r"shape to be a tuple.*received shape=3; e.g. .*\(3,\)"):
        Input(3)
    with pytest.raises(ValueError, match="integers or None in shape"):
        Input((3, -1))
