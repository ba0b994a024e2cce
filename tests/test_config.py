"""fnn.config and fnn.backend: settings that act as Keras's do, and dtypes."""

import itertools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import backend, config, layers
from fnn.runtime.settings import Settings, settings
from tests.helpers.oracle import keras_rules

X, Y = np.ones((6, 3), "float32"), np.ones((6, 1), "float32")


@pytest.fixture(autouse=True)
def as_before():
    """Every test ends with the settings that it found."""
    before = dict(vars(settings))
    yield
    settings.change(**before)
    config.enable_traceback_filtering()


@pytest.fixture
def keras():
    with keras_rules():
        import keras

        yield keras


def dense():
    model = fnn.Sequential([layers.Dense(1, input_shape=(3,))], seed=0)
    model.compile("sgd", "mse")
    return model


def test_the_settings_at_first_are_those_of_keras(keras):
    # The folder of compiled programs is a setting of fnn alone.
    for name in {*config.__all__} - {"compilation_cache", "dtype_policy"}:
        if not name.startswith(("set_", "enable_", "disable_")):
            assert getattr(config, name)() == getattr(keras.config, name)(), name
    assert config.dtype_policy().name == keras.config.dtype_policy().name


# -- numbers -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("value", [1e-7, 1e-3])
@pytest.mark.parametrize(
    "name", ["binary_crossentropy", "categorical_crossentropy", "kl_divergence", "poisson",
             "mean_absolute_percentage_error", "mean_squared_logarithmic_error", "dice", "tversky",
             "binary_focal_crossentropy"],
)  # fmt: skip
def test_epsilon_is_where_losses_are_clipped(name, value, keras):
    y_true = np.array([[0.0, 1.0], [1.0, 0.0]], "float32")
    y_pred = np.array([[0.0, 1.0], [0.0001, 0.9999]], "float32")
    config.set_epsilon(value)
    keras.config.set_epsilon(value)
    try:
        expected = getattr(keras.losses, name)(y_true, y_pred)
    finally:
        keras.config.set_epsilon(1e-7)
    np.testing.assert_allclose(getattr(fnn.losses, name)(y_true, y_pred), expected, rtol=2e-5)


@pytest.mark.slow
def test_epsilon_reaches_programs_that_are_compiled_already():
    model = fnn.Sequential([layers.Lambda(lambda x: x)])
    model.compile("sgd", "binary_crossentropy")
    zeros = np.zeros((2, 1), "float32")
    first = model.evaluate(zeros, zeros + 1, verbose=0)
    config.set_epsilon(1e-2)
    again = fnn.Sequential([layers.Lambda(lambda x: x)])
    again.compile("sgd", "binary_crossentropy")
    assert again.evaluate(zeros, zeros + 1, verbose=0) == pytest.approx(-np.log(1e-2), rel=1e-4)
    assert first == pytest.approx(-np.log(1e-7), rel=1e-4)


@pytest.mark.slow
def test_floatx():
    for wrong in ("float16", "bfloat16", "int32"):
        with pytest.raises(ValueError, match='floatx to be "float32" or "float64", received'):
            config.set_floatx(wrong)
    with pytest.raises(ValueError, match="float64 enabled"):
        config.set_floatx("float64")
    with jax.enable_x64(True):
        config.set_floatx("float64")
        assert backend.floatx() == backend.standardize_dtype(None) == "float64"
        inputs = fnn.Input((3,))
        model = fnn.Model(inputs, layers.Dense(2)(inputs))
        assert {str(inputs.dtype), *(str(w.dtype) for w in model.weights)} == {"float64"}
        assert model.predict(X, verbose=0).dtype == "float64"
        assert layers.Dense(2, dtype="float32").weight_dtype == "float32"
        config.set_floatx("float32")
    assert {str(w.dtype) for w in dense().weights} == {"float32"}


def test_policies(keras):
    for name in ("float32", "float64", "bfloat16", "mixed_bfloat16", "mixed_float16"):
        ours, theirs = fnn.DTypePolicy(name), keras.DTypePolicy(name)
        assert ours.compute_dtype == theirs.compute_dtype
        assert ours.variable_dtype == theirs.variable_dtype
        assert ours.get_config() == theirs.get_config()
        assert fnn.dtype_policies.get(ours.get_config() and name) == ours
        assert fnn.dtype_policies.deserialize(keras.dtype_policies.serialize(theirs)) == ours
        assert fnn.dtype_policies.get(fnn.dtype_policies.serialize(ours)) == ours
    for wrong in ("foo", 3):
        with pytest.raises(ValueError, match="Cannot"):
            keras.dtype_policies.get(wrong)
        with pytest.raises(ValueError, match="expected the name of a"):
            fnn.dtype_policies.get(wrong)
    assert layers.Dense(2, dtype="mixed_bfloat16").dtype == "bfloat16"
    assert layers.Dense(2, dtype=fnn.DTypePolicy("mixed_float16")).dtype == "float16"
    assert config.dtype_policy() == fnn.mixed_precision.global_policy() == fnn.DTypePolicy()
    fnn.mixed_precision.set_global_policy("float32")
    for name in ("bfloat16", "int8_from_float32"):
        with pytest.raises(ValueError, match="expected one of the policies"):
            fnn.mixed_precision.set_global_policy(name)


# -- images --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_image_data_format(keras):
    config.set_image_data_format("channels_first")
    keras.config.set_image_data_format("channels_first")
    image = np.random.default_rng(0).normal(size=(1, 2, 5, 5)).astype("float32")
    try:
        made = [
            ("Conv2D", {"filters": 3, "kernel_size": 2}), ("MaxPooling2D", {}), ("Flatten", {}),
            ("GlobalAveragePooling2D", {}), ("UpSampling2D", {}), ("ZeroPadding2D", {}),
        ]  # fmt: skip
        for name, arguments in made:
            ours, theirs = getattr(layers, name)(**arguments), getattr(keras.layers, name)
            theirs = theirs(**arguments)
            assert ours.data_format == theirs.data_format == "channels_first"
            expected = theirs(image)
            params, state = ours.init(jax.random.key(0), image)
            if params:
                params = dict(zip(("kernel", "bias"), theirs.get_weights(), strict=True))
            received, _ = ours.apply(params, state, image)
            np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)
        pooled = fnn.ops.max_pool(image, 2, 2), keras.ops.max_pool(image, 2, 2)
        np.testing.assert_array_equal(*pooled)
    finally:
        keras.config.set_image_data_format("channels_last")
    config.set_image_data_format("channels_last")
    assert layers.Conv2D(3, 2) == layers.Conv2D(3, 2, data_format=None)
    with pytest.raises(ValueError, match='"channels_last" or "channels_first", received \'x\''):
        config.set_image_data_format("x")


# -- output --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_interactive_logging(capsys, caplog):
    config.disable_interactive_logging()
    assert not fnn.utils.is_interactive_logging_enabled()
    with caplog.at_level(logging.INFO, "fnn"):
        dense().fit(X, Y, epochs=2)
    assert capsys.readouterr().out == ""
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if line.startswith("Epoch")] == ["Epoch 1/2", "Epoch 2/2"]
    assert sum("loss" in line for line in lines) == 2
    config.enable_interactive_logging()
    dense().fit(X, Y)
    assert "loss" in capsys.readouterr().out


def test_tracebacks_are_filtered_as_jax_does():
    config.disable_traceback_filtering()
    assert jax.config.jax_traceback_filtering == "off"
    assert not config.is_traceback_filtering_enabled()
    config.enable_traceback_filtering()
    assert config.is_traceback_filtering_enabled()


@pytest.mark.slow
def test_flash_attention_can_be_ruled_out(keras, monkeypatch):
    from fnn.layers.shared import fused_attention

    asked = []
    monkeypatch.setattr(fused_attention, "has_fused_kernel", lambda *_: asked.append(1))
    layer, x = layers.MultiHeadAttention(2, 4), np.ones((1, 3, 4), "float32")
    params, state = layer.init(jax.random.key(0), (x, x))
    layer.apply(params, state, (x, x))
    count = len(asked)
    assert count
    config.disable_flash_attention()
    layer.apply(params, state, (x, x))
    assert len(asked) == count
    assert config.is_flash_attention_enabled() is False
    config.enable_flash_attention()
    assert config.is_flash_attention_enabled() is None
    assert keras.config.is_flash_attention_enabled() is None


# -- limits --------------------------------------------------------------------------------------


def batches(keras_or_fnn, model, **named):
    """How many batches and epochs a fit has, and how many batches evaluate and predict."""
    counts = {"train": 0, "test": 0, "predict": 0, "epochs": 0}

    class Count(keras_or_fnn.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            counts["train"] += 1

        def on_test_batch_end(self, batch, logs=None):
            counts["test"] += 1

        def on_predict_batch_end(self, batch, logs=None):
            counts["predict"] += 1

        def on_epoch_end(self, epoch, logs=None):
            counts["epochs"] += 1

    runs = [
        lambda: model.fit(X, Y, epochs=3, verbose=0, callbacks=[Count()], **named),
        lambda: model.evaluate(X, Y, verbose=0, callbacks=[Count()], **named),
        lambda: model.predict(X, verbose=0, callbacks=[Count()], batch_size=1),
    ]
    for run in runs:
        with pytest.warns(UserWarning, match=r"(?i)limit"):
            run()
    return counts


@pytest.mark.slow
@pytest.mark.parametrize("named", [{}, {"batch_size": 1}])
def test_epochs_and_steps_are_limited_as_in_keras(named):
    import keras

    theirs = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    theirs.compile("sgd", "mse")
    keras.config.set_max_epochs(2)
    keras.config.set_max_steps_per_epoch(2)
    try:
        with jax.numpy_rank_promotion("allow"):
            expected = batches(keras, theirs, **named)
    finally:
        keras.config.set_max_epochs(None)
        keras.config.set_max_steps_per_epoch(None)
    config.set_max_epochs(2)
    config.set_max_steps_per_epoch(2)
    assert batches(fnn, dense(), **named) == expected
    assert config.max_epochs() == config.max_steps_per_epoch() == 2


def test_limits_come_from_keras_environment(monkeypatch):
    from fnn.runtime.settings import _limit

    monkeypatch.setenv("KERAS_MAX_EPOCHS", "3")
    assert _limit("KERAS_MAX_EPOCHS") == 3
    assert _limit("NOTHING") is None
    assert Settings().max_epochs is None


# -- the rest ------------------------------------------------------------------------------------


def test_what_has_one_value():
    config.set_backend("jax")
    with pytest.raises(ValueError, match="expected the backend \"jax\", received 'torch'"):
        config.set_backend("torch")
    with pytest.raises(ValueError, match="fnn never runs code from a file"):
        config.enable_unsafe_deserialization()
    assert config.backend() == fnn.backend.backend() == "jax"
    assert config.is_nnx_enabled() is False


DTYPES = [None, int, float, bool, "bool", "uint8", "int8", "int32", "uint32", "float16",
          "bfloat16", "float32", np.float32, np.dtype("int8"), "int"]  # fmt: skip


@pytest.mark.parametrize("dtype", [*DTYPES, "string", str, "complex64", "float8_e4m3fn"])
def test_dtypes_by_name(dtype, keras):
    for name in ("standardize_dtype", "is_float_dtype", "is_int_dtype"):
        assert getattr(backend, name)(dtype) == getattr(keras.backend, name)(dtype)


def test_types_promote_as_in_keras(keras):
    assert backend.result_type() == keras.backend.result_type()
    for pair in itertools.product(DTYPES, DTYPES):
        assert backend.result_type(*pair) == keras.backend.result_type(*pair), pair
    with pytest.raises(ValueError, match="expected a dtype or its name, received 'foo'"):
        backend.standardize_dtype("foo")


def test_symbolic_nodes_are_known(keras):
    for name in ("is_keras_tensor",):
        ours, theirs = getattr(backend, name), getattr(keras.backend, name)
        assert ours(fnn.Input((2,))) is theirs(keras.Input((2,))) is True
        assert ours(jnp.ones(2)) is theirs(jnp.ones(2)) is False
    first = backend.get_uid("test_config")
    assert backend.get_uid("test_config") == first + 1
