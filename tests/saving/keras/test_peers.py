"""Files of Keras's own applications, and of models of users' classes, in both directions."""

import numpy as np
import pytest

import fnn
from tests.helpers.applications import of_keras
from tests.helpers.keras_files import assert_near, by_keras
from tests.helpers.keras_networks import randomize
from tests.helpers.oracle import weights_unset

# The smallest images that each takes, or nearly.
APPLICATIONS = {
    "MobileNetV3Small": 32,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "DenseNet121": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "NASNetMobile": 32,
    "Xception": 71,
    "InceptionV3": 75,
    "VGG16": 32,
    "ConvNeXtTiny": 32,
}


# Times the kernels that keep the size of what they are given; the first that suffices is used.
GAINS = 2.0 ** np.arange(0, 2.1, 0.25)


def spread(model, gain):
    """Kernels by which a signal passes, and vectors that are not all zeros or ones."""
    draw = np.random.default_rng(0)

    def moved(weight):
        if weight.ndim == 0:
            return weight
        if weight.ndim == 1:
            return (1 + 0.1 * draw.normal(size=weight.shape)).astype(weight.dtype)
        # In depthwise kernels, (..., channels, 1), the inputs of an output are those of a channel.
        inputs = np.prod(weight.shape[: -1 if weight.shape[-1] > 1 else -2])
        scale = gain / np.sqrt(inputs)
        return (scale * draw.normal(size=weight.shape)).astype(weight.dtype)

    model.set_weights([moved(np.asarray(weight)) for weight in model.get_weights()])
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()  # Normalization computes with copies


def outputs_that_depend_on(x, model):
    """The outputs of a model of Keras with weights by which they differ from image to image."""
    for gain in GAINS:
        spread(model, gain)
        outputs = model.predict(x, verbose=0)
        if np.ptp(outputs, axis=0).max() > 1e-2 * np.abs(outputs).max():
            return outputs
    raise AssertionError("the outputs hardly depend on the images")


def assert_application_goes_both_ways(name, keras, tmp_path):
    size = APPLICATIONS.get(name, 32)
    options = {"classes": 10, "classifier_activation": None}
    theirs = of_keras(name, input_shape=(size, size, 3), **options)
    x = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")
    x[1] /= 4  # a darker one
    expected = by_keras(outputs_that_depend_on, x, theirs)
    by_keras(theirs.save, tmp_path / "theirs.keras")
    ours = fnn.load(tmp_path / "theirs.keras")
    largest = np.abs(expected).max()
    np.testing.assert_allclose(ours.predict(x, verbose=0), expected, rtol=0, atol=1e-5 * largest)
    ours.save(tmp_path / "ours.keras")
    with weights_unset():
        again = by_keras(keras.saving.load_model, tmp_path / "ours.keras")
    for mine, weight in zip(by_keras(again.get_weights), by_keras(theirs.get_weights), strict=True):
        np.testing.assert_array_equal(mine, weight)


@pytest.mark.slow
def test_a_small_application_goes_both_ways(keras, tmp_path):
    assert_application_goes_both_ways("MobileNetV3Tiny", keras, tmp_path)


@pytest.mark.thorough
@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications_go_both_ways(name, keras, tmp_path):
    assert_application_goes_both_ways(name, keras, tmp_path)


def net(k):
    """A model of layers in attributes, lists and dicts, some of them twice."""
    nn = k.layers

    class Block(nn.Layer):
        def __init__(self):
            super().__init__()
            self.row = [nn.Dense(3), {"a": nn.Dense(3)}]
            self._private = nn.Dense(3)

        def build(self, shape):
            self.fixed = self.add_weight(shape=(1, 3), trainable=False)
            self.scale = self.add_weight(shape=(1, 3))

        def call(self, x):
            return self._private(x) + self.row[1]["a"](self.row[0](x)) * self.scale + self.fixed

    class Net(k.Model):
        def __init__(self):
            super().__init__()
            self.first = nn.Dense(3)
            self.blocks = [Block(), nn.Dense(3), nn.Dense(3)]
            self.last = k.Sequential([nn.Dense(4), nn.Dense(2)])
            # After "layers", where Keras has all layers whose attributes come later.
            self.output_of_all = nn.Dense(2)
            self.also = self.first

        def call(self, x):
            x = self.first(x)
            for block in self.blocks:
                x = block(x)
            return self.output_of_all(self.last(self.also(x)))

    return Net()


@pytest.mark.slow
def test_weights_of_classes_go_both_ways(keras, tmp_path):
    path = tmp_path / "net.weights.h5"
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    theirs = by_keras(net, keras)
    by_keras(theirs, x)
    by_keras(randomize, theirs)
    by_keras(theirs.save_weights, path)
    ours = net(fnn)
    ours.predict(x, verbose=0)
    ours.load_weights(path)
    assert_near(ours.predict(x, verbose=0), by_keras(theirs, x))
    randomize(ours, 5)
    ours.save_weights(path)
    by_keras(theirs.load_weights, path)
    assert_near(ours.predict(x, verbose=0), by_keras(theirs, x))


def own_model(k):
    class Own(k.Model):
        def __init__(self, units=3, **kwargs):
            super().__init__(**kwargs)
            self.units = units
            self.hidden, self.top = k.layers.Dense(units), k.layers.Dense(2)

        def call(self, x):
            return self.top(self.hidden(x))

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    return Own


@pytest.mark.slow
def test_whole_models_of_classes_go_both_ways(keras, tmp_path):
    path = tmp_path / "own.keras"
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    theirs, mine = own_model(keras), own_model(fnn)

    def trained(model):
        model.compile("sgd", "mse")
        model.fit(x, x[:, :2], verbose=0)
        model.save(path)
        return model.predict(x, verbose=0)

    expected = by_keras(lambda: trained(theirs(4)))
    ours = fnn.load(path, {"Own": mine})
    assert_near(ours.predict(x, verbose=0), expected)
    assert (ours.units, ours.optimizer.iterations) == (4, 1)
    expected = trained(mine(4))
    again = by_keras(keras.saving.load_model, path, {"Own": theirs})
    assert_near(by_keras(again.predict, x, verbose=0), expected)
    assert_near(fnn.load(path, {"Own": mine}).predict(x, verbose=0), expected)


def two_outputs(k):
    x = k.Input((3,), name="x")
    last, first = k.layers.Dense(4, name="last")(x), k.layers.Dense(2, name="first")(x)
    return k.Model(x, {"last": last, "first": first})


def test_outputs_in_a_dict_go_both_ways(keras, tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    theirs, ours = by_keras(two_outputs, keras), two_outputs(fnn)
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    for name in ("a.keras", "a.h5", "a.weights.h5"):
        by_keras(theirs.save_weights if "weights" in name else theirs.save, tmp_path / name)
        ours.load_weights(tmp_path / name)
        assert_near(ours.predict(x, verbose=0), by_keras(theirs.predict, x, verbose=0))


@pytest.mark.slow
def test_weights_of_keras_come_with_the_optimizer(tmp_path):
    x = np.ones((4, 3), "float32")
    model, other = (fnn.Sequential([fnn.layers.Dense(1, input_shape=(3,))]) for _ in range(2))
    for net in (model, other):
        net.compile("adam", "mse")
    model.fit(x, x[:, :1], verbose=0)
    model.save_weights(tmp_path / "a.weights.h5")
    other.load_weights(tmp_path / "a.weights.h5")
    assert_near(other.train_state.optimizer, model.train_state.optimizer, 0)


@pytest.mark.slow
def test_a_legacy_file_with_a_short_name_of_a_loss_is_read_by_keras(keras, tmp_path):
    model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(3,))])
    model.compile("sgd", "mse")
    model.save(tmp_path / "a.h5")
    again = by_keras(keras.saving.load_model, tmp_path / "a.h5")
    x = np.ones((2, 3), "float32")
    received = by_keras(again.evaluate, x, x[:, :1], verbose=0)
    assert_near(received, model.evaluate(x, x[:, :1], verbose=0))


@pytest.mark.slow
def test_spectral_normalization_is_trained_and_read_as_in_keras(keras, tmp_path):
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")

    def build(k):
        layer = k.layers.SpectralNormalization(k.layers.Dense(2))
        model = k.Sequential([k.Input((3,)), layer])
        model.compile(k.optimizers.SGD(0.1), "mse")
        return model

    def trained(model):
        model.fit(x, x[:, :2], epochs=3, verbose=0)
        return model.predict(x, verbose=0)

    theirs = by_keras(build, keras)
    by_keras(theirs.save, tmp_path / "a.keras")
    expected = by_keras(trained, theirs)
    ours = fnn.load(tmp_path / "a.keras")
    assert_near(trained(ours), expected)
    ours.save(tmp_path / "b.keras")
    again = by_keras(keras.saving.load_model, tmp_path / "b.keras")
    assert_near(by_keras(again.predict, x, verbose=0), expected)


@pytest.mark.slow
def test_grouped_query_attention_goes_both_ways(keras, tmp_path):
    path = tmp_path / "attention.weights.h5"

    def build(k):
        x = k.Input((3, 4))
        layer = k.layers.GroupQueryAttention(2, 4, 2, use_gate=True)
        return k.Model(x, layer(x, x))

    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    theirs = by_keras(lambda: randomize(build(keras)))
    by_keras(theirs.save_weights, path)
    ours = build(fnn)
    ours.load_weights(path)
    assert_near(ours.predict(x, verbose=0), by_keras(theirs.predict, x, verbose=0))
    ours.save_weights(path)
    by_keras(theirs.load_weights, path)


@pytest.mark.slow
def test_what_a_class_stores_itself_is_in_the_file(tmp_path):
    class Own(fnn.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(1, 3))

        def call(self, x):
            return x * self.scale

        def save_own_variables(self, store):
            super().save_own_variables(store)
            store["extra"] = np.float32([4, 5])

        def load_own_variables(self, store):
            store = dict(store)
            self.loaded = store.pop("extra")
            super().load_own_variables(store)

    def build(seed):
        layers = [fnn.layers.Dense(3, input_shape=(3,)), Own()]
        return fnn.Sequential(layers, seed=seed)

    model, other = build(0), build(1)
    model.save_weights(tmp_path / "own.weights.h5")
    other.load_weights(tmp_path / "own.weights.h5")
    assert_near(other.get_weights(), model.get_weights(), 0)
    assert other.layers[1].loaded.tolist() == [4, 5]
