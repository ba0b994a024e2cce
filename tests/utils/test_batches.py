"""Batches and Config of fnn.utils, against Keras's."""

import numpy as np
import pytest

import fnn
from tests.helpers.oracle import keras_rules


@pytest.fixture
def keras():
    with keras_rules():
        import keras

        yield keras


PACKED = [(1,), ((1,),), ([1, 2],), (1, 2), (1, None, 3), (1, 2, 3), ({"a": 1}, 2)]
BATCHES = [3, [1], (1,), (1, 2), [1, 2, 3], {"a": 1}, ((1, 2), 3)]


@pytest.mark.parametrize("parts", PACKED, ids=str)
def test_batches_are_packed_as_in_keras(parts, keras):
    expected = keras.utils.pack_x_y_sample_weight(*parts)
    assert fnn.utils.pack_x_y_sample_weight(*parts) == expected


@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_batches_are_unpacked_as_in_keras(batch, keras):
    expected = keras.utils.unpack_x_y_sample_weight(batch)
    assert fnn.utils.unpack_x_y_sample_weight(batch) == expected


@pytest.mark.parametrize("batch", [(), (1, 2, 3, 4)], ids=str)
def test_what_is_no_batch(batch, keras):
    for package in (fnn, keras):
        with pytest.raises(ValueError, match="sample_weight"):
            package.utils.unpack_x_y_sample_weight(batch)


def test_the_inputs_of_a_node(keras):
    for package in (fnn, keras):
        a, b = package.Input((2,)), package.Input((2,))
        joined = package.layers.Add()([a, package.layers.Dense(2)(b)])
        assert package.utils.get_source_inputs(joined + a) == [a, b]
        assert package.utils.get_source_inputs(a) == [a]
        assert package.utils.get_source_inputs(3) == 3


def test_names_that_are_elsewhere_too():
    for name in fnn.saving.__all__:
        if hasattr(fnn.utils, name):
            assert getattr(fnn.utils, name) is getattr(fnn.saving, name)
    assert fnn.utils.standardize_dtype(np.float16) == "float16"


# -- Config --------------------------------------------------------------------------------------


def test_configs_are_as_in_keras(keras):
    found = []
    for package in (fnn, keras):
        config = package.utils.Config(rate=0.1, name="adam")
        config.steps = 3
        config["seed"] = 0
        config.update({"more": 1}, other=2)
        assert config.pop("more") == 1
        assert (config.rate, config["steps"], config.get("none", 7)) == (0.1, 3, 7)
        config.freeze()
        assert config.frozen
        for change in (
            lambda c: setattr(c, "rate", 1), lambda c: c.update(a=1), lambda c: c.pop("rate"),
            lambda c: c.__setitem__("rate", 1),
        ):  # fmt: skip
            with pytest.raises(ValueError, match="frozen"):
                change(config)
        config.unfreeze()
        config.rate = 0.2
        with pytest.raises(AttributeError, match=r"rat.*[Dd]id you mean 'rate'\?"):
            config.rat  # noqa: B018
        found.append(
            [repr(config), config.to_json(), config.as_dict(), list(config), len(config),
             list(config.keys()), list(config.values()), list(config.items()), "rate" in config]
        )  # fmt: skip
    assert found[0] == found[1]
