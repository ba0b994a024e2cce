"""Objects in Keras's form: what fnn and what Keras wrote is read; custom objects; scopes."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import saving
from fnn.core import registry
from fnn.core.calling import call
from fnn.core.config import from_config, to_config
from fnn.core.value import Fields
from fnn.runtime.keras_objects import name_in_keras
from tests.helpers.catalogue import CATALOGUE
from tests.helpers.keras_twins import IN_CALL, OURS
from tests.helpers.oracle import keras_rules


@pytest.fixture
def keras():
    with keras_rules():
        import keras

        yield keras


@pytest.fixture(autouse=True)
def nothing_stays():
    """Every test ends with the names that it found."""
    before = [dict(table) for table in (registry.TABLE, registry.CUSTOM, registry._NAMES)]
    yield
    for table, then in zip((registry.TABLE, registry.CUSTOM, registry._NAMES), before, strict=True):
        table.clear()
        table.update(then)


def through_json(described):
    return json.loads(json.dumps(described))


# -- plain data ----------------------------------------------------------------------------------

PLAIN = [
    *(None, True, 3, 2.5, "x", b"bytes", slice(1, 2), ..., [1, (2, {"a": None})]),
    *(np.float32(3), np.arange(3), np.float16, {"a": {"b": 1}}),
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_data_is_written_and_read_as_by_keras(value, keras):
    written = saving.serialize_keras_object(value)
    assert repr(written) == repr(keras.saving.serialize_keras_object(value))
    read = saving.deserialize_keras_object(written)
    if isinstance(value, type):  # which Keras writes, but cannot read
        assert read is value
        return
    assert repr(read) == repr(keras.saving.deserialize_keras_object(written))


def test_arrays_of_jax(keras):
    written = saving.serialize_keras_object(jnp.arange(3))
    assert written["class_name"] == "__tensor__"
    assert saving.deserialize_keras_object(written).tolist() == [0, 1, 2]


def test_what_cannot_be_written():
    with pytest.raises(TypeError, match="define get_config in object"):
        saving.serialize_keras_object(object())
    with pytest.raises(ValueError, match=r"fnn.register\(function, 'name'\)"):
        saving.serialize_keras_object(lambda x: x)
    code = {"class_name": "__lambda__", "config": {"value": "4wEAAA=="}}
    with pytest.raises(ValueError, match="which fnn never runs"):
        saving.deserialize_keras_object(code, safe_mode=False)
    with pytest.raises(ValueError, match="expected a layer that fnn knows, received 'Nope'"):
        saving.deserialize_keras_object({"class_name": "Nope", "config": {}})


# -- layers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CATALOGUE, ids=[case.id for case in CATALOGUE])
def test_layers_are_read_as_they_are_written(case):
    described = through_json(fnn.layers.serialize(case.layer))
    assert described["class_name"] == name_in_keras(type(case.layer))
    assert fnn.layers.deserialize(described) == case.layer
    assert saving.deserialize_keras_object(described) == case.layer
    assert type(case.layer).from_config(through_json(case.layer.get_config())) == case.layer


def program(layer, case):
    """The computation of a layer as text."""
    run = functools.partial(call, layer, ctx=fnn.INFERENCE)
    text = str(jax.make_jaxpr(run)(*case.weights, case.x))
    # The first run of a kind of layer makes an unused key, with which its shapes are checked.
    lines = [line for line in text.splitlines() if "_:key<fry>[] = random_seed" not in line]
    return " ".join(" ".join(lines).split())


OF_KERAS = [case for case in CATALOGUE if case.keras == "same"]


@pytest.mark.slow
@pytest.mark.parametrize("case", OF_KERAS, ids=[case.id for case in OF_KERAS])
def test_layers_that_keras_wrote_compute_the_same(case, keras):
    fields = {
        n: v.as_dict() if isinstance(v, Fields) else v
        for n, v in vars(case.layer).items()
        if n[0] != "_" and n not in OURS | IN_CALL
    }
    theirs = getattr(keras.layers, type(case.layer).__name__)(**fields)
    read = fnn.layers.deserialize(through_json(keras.layers.serialize(theirs)))
    in_call = {n: v for n, v in vars(case.layer).items() if n in IN_CALL}
    read, layer = (one.replace(**in_call, name=None, dtype=None) for one in (read, case.layer))
    assert read == layer or program(read, case) == program(layer, case)


def test_the_form_is_that_of_keras(keras):
    ours = fnn.layers.serialize(
        fnn.layers.Dense(3, "relu", kernel_regularizer=fnn.regularizers.L2())
    )
    theirs = keras.layers.serialize(
        keras.layers.Dense(3, "relu", kernel_regularizer=keras.regularizers.L2())
    )
    assert set(ours) == set(theirs)
    for field in ("units", "activation", "use_bias", "bias_regularizer"):
        assert ours["config"][field] == theirs["config"][field]
    assert ours["module"] == theirs["module"] == "keras.layers"
    assert ours["config"]["kernel_regularizer"] == theirs["config"]["kernel_regularizer"]


# -- the other kinds -----------------------------------------------------------------------------

OBJECTS = {
    "initializers": [("HeNormal", {}), ("Constant", {"value": 2.0}), ("Orthogonal", {"gain": 2.0})],
    "regularizers": [("L1", {"l1": 0.5}), ("L1L2", {"l1": 0.1, "l2": 0.2})],
    "constraints": [("MaxNorm", {"max_value": 3}), ("NonNeg", {})],
    "losses": [("MeanSquaredError", {"reduction": "sum"}),
               ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.1})],
    "metrics": [("AUC", {"num_thresholds": 9}), ("MeanIoU", {"num_classes": 3}),
                ("SparseCategoricalAccuracy", {"name": "acc"})],
    "optimizers": [("Adam", {"learning_rate": 0.5, "amsgrad": True}), ("SGD", {"momentum": 0.5})],
}  # fmt: skip
ROWS = [(module, *row) for module, rows in OBJECTS.items() for row in rows]


@pytest.mark.parametrize(("module", "name", "named"), ROWS, ids=[f"{r[0]}-{r[1]}" for r in ROWS])
def test_objects_of_every_kind(module, name, named, keras):
    part, other = getattr(fnn, module), getattr(keras, module)
    value = getattr(part, name)(**named)
    described = through_json(part.serialize(value))
    assert part.deserialize(described) == part.get(described) == value
    keras.utils.clear_session(free_memory=False)  # it counts names
    theirs = other.serialize(getattr(other, name)(**named))
    read = part.deserialize(through_json(theirs))
    if module != "optimizers":  # the learning rate is a float32 there
        assert read == (value.replace(dtype=read.dtype) if hasattr(read, "dtype") else value)
    assert read.get_config().keys() == value.get_config().keys()
    assert {**described, "module": theirs["module"], "config": theirs["config"]} == theirs
    for field, held in theirs["config"].items():
        if field in named or field == "name":
            assert described["config"][field] == pytest.approx(held)
    with pytest.raises(ValueError, match="received 'Nope'"):
        part.deserialize("Nope")


def test_schedules(keras):
    for name, named in (
        ("CosineDecay", {"initial_learning_rate": 0.5, "decay_steps": 10}),
        ("PiecewiseConstantDecay", {"boundaries": [1, 2], "values": [1.0, 0.5, 0.1]}),
    ):
        value = getattr(fnn.schedules, name)(**named)
        theirs = getattr(keras.optimizers.schedules, name)(**named)
        theirs = keras.optimizers.schedules.serialize(theirs)
        assert fnn.schedules.deserialize(through_json(theirs)) == value
        assert fnn.schedules.deserialize(through_json(fnn.schedules.serialize(value))) == value
        optimizer = fnn.optimizers.Adam(value)
        described = through_json(fnn.optimizers.serialize(optimizer))
        assert fnn.optimizers.deserialize(described) == optimizer


def test_activations_are_written_by_name(keras):
    for name in ("relu", "gelu", "softmax", "linear"):
        ours = fnn.activations.serialize(getattr(fnn.activations, name))
        assert ours == keras.activations.serialize(getattr(keras.activations, name)) == name
        assert fnn.activations.deserialize(ours) is getattr(fnn.activations, name)


def test_functions_are_written_by_name(keras):
    for module, name in (("activations", "relu"), ("losses", "mean_squared_error")):
        function = getattr(getattr(fnn, module), name)
        theirs = keras.saving.serialize_keras_object(getattr(getattr(keras, module), name))
        assert saving.serialize_keras_object(function) == theirs
    assert fnn.losses.deserialize(theirs) == fnn.losses.MeanSquaredError()


def test_the_arguments_of_layers_may_be_configs():
    initializer = {"class_name": "HeNormal", "config": {"seed": 3}}
    layer = fnn.layers.Dense(2, kernel_initializer=initializer)
    assert layer.kernel_initializer == fnn.initializers.HeNormal(seed=3)


# -- the user's own ------------------------------------------------------------------------------


def test_names_are_registered_as_in_keras(keras):
    found = []
    for package in (saving, keras.saving):

        @package.register_keras_serializable("mine", "Third")
        def third(x):
            return x / 3

        assert package.get_custom_objects()["mine>Third"] is third
        assert package.get_registered_object("mine>Third") is third
        assert package.get_registered_object("nothing") is None
        described = package.serialize_keras_object(third)
        assert package.deserialize_keras_object(described) is third
        found.append(
            (package.get_registered_name(third), package.get_registered_name(len), described)
        )
    assert found[0] == found[1]
    with keras.saving.custom_object_scope({}):
        del keras.saving.get_custom_objects()["mine>Third"]


class Scaled(fnn.Layer):
    factor: float = 2.0

    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        return x * self.factor, state


def test_a_layer_of_the_user_is_found_by_its_full_name():
    layer = saving.register_keras_serializable("mine")(Scaled)(3.0)
    described = through_json(fnn.layers.serialize(layer))
    assert described["registered_name"] == "mine>Scaled"
    assert described["module"] is None
    assert fnn.layers.deserialize(described) == layer
    assert from_config(to_config(layer)) == layer


def test_a_layer_of_the_user_with_a_name_of_fnn(tmp_path):
    class Residual(fnn.Layer):
        def apply(self, params, state, x, ctx=fnn.INFERENCE):
            return x + 1, state

    saving.register_keras_serializable()(Residual)
    assert to_config(Residual())["layer"] == "Custom>Residual"
    model = fnn.Sequential([fnn.Input((2,)), Residual()])
    model.save(tmp_path / "own.fnn")
    again = fnn.load(tmp_path / "own.fnn")
    assert again.predict(np.zeros((1, 2)), verbose=0).tolist() == [[1, 1]]
    assert fnn.layers.deserialize(fnn.layers.serialize(Residual())) == Residual()
    inner = fnn.layers.Residual(fnn.layers.Dense(2))
    assert fnn.layers.deserialize(fnn.layers.serialize(inner)) == inner


def test_scopes(keras):
    def twice(x):
        return 2 * x

    def thrice(x):
        return 3 * x

    for package in (fnn, keras):
        scope, found = (
            package.saving.custom_object_scope,
            package.saving.get_registered_object,
        )
        with scope({"own": twice}):
            assert found("own") is twice
            with scope({"own": thrice}):
                assert found("own") is thrice
            assert found("own") is twice
        assert found("own") is None
        package.saving.get_custom_objects()["own"] = twice
        assert found("own") is twice
        del package.saving.get_custom_objects()["own"]
    with saving.custom_object_scope({"own": twice}):
        assert fnn.activations.get("own") is twice
    with pytest.raises(ValueError, match="own"):
        fnn.activations.get("own")
    layer = fnn.layers.Activation(twice)
    described = fnn.layers.serialize(layer)
    assert fnn.layers.deserialize(described, {"twice": twice}) == layer
    assert fnn.utils.custom_object_scope is saving.CustomObjectScope


def test_models_load_in_a_scope(tmp_path):
    model = fnn.Sequential([fnn.Input((2,)), Scaled(3.0)])
    fnn.register(Scaled)
    model.save(tmp_path / "scaled.fnn")
    registry.TABLE.pop(("layer", "Scaled"))
    with pytest.raises(ValueError, match="Scaled"):
        saving.load_model(tmp_path / "scaled.fnn")
    with saving.custom_object_scope({"Scaled": Scaled}):
        again = saving.load_model(tmp_path / "scaled.fnn")
    assert again.predict(np.ones((1, 2)), verbose=0).tolist() == [[3, 3]]


@pytest.mark.slow
def test_a_config_of_ones_own():
    """`get_config` in Keras's way, with the sub-layer in Keras's form."""

    class Twice(fnn.Layer):
        def __init__(self, inner, **kwargs):
            super().__init__(**kwargs)
            self.inner = inner

        def children(self):
            return ((None, self.inner),)

        def get_config(self):
            config = super().get_config()
            config["inner"] = saving.serialize_keras_object(self.inner)
            return config

        @classmethod
        def from_config(cls, config):
            inner = saving.deserialize_keras_object(config.pop("inner"))
            return cls(inner, **config)

    layer = Twice(fnn.layers.Dense(3), name="both")
    described = through_json(fnn.layers.serialize(layer))
    again = fnn.layers.deserialize(described, {"Twice": Twice})
    assert again == layer
    assert again.name == "both"
