"""Small attributes and methods of layers and models, each against Keras's own."""

import copy

import jax
import numpy as np
import pytest

import fnn
from tests.helpers.oracle import keras_rules

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")


def both(function):
    """What a function of a package returns for fnn, and for Keras."""
    with keras_rules():
        import keras

        theirs = function(keras)
        with jax.numpy_rank_promotion("allow"):
            ours = function(fnn)
    return ours, theirs


def same(function):
    ours, theirs = both(function)
    assert ours == theirs
    return ours


# -- layers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [None, "float32", "mixed_bfloat16", "mixed_float16", "float64"])
def test_policies(dtype):
    def found(package):
        own = dtype
        if own and own.startswith("mixed"):
            own = package.DTypePolicy(own)
        layer = package.layers.Dense(3, dtype=own)
        names = layer.dtype_policy.name, layer.compute_dtype, layer.variable_dtype
        return *names, layer.quantization_mode, layer.autocast, layer.supports_masking

    same(found)


@pytest.mark.slow
def test_directions():
    def found(package):
        layer = package.layers.Bidirectional(package.layers.LSTM(3))
        layer(X[:, :, None])
        directions = layer.forward_layer, layer.backward_layer
        shapes = [[tuple(w.shape) for w in one.weights] for one in directions]
        backwards = [one.go_backwards for one in directions]
        return shapes, backwards, tuple(layer.backward_layer.cell.kernel.shape)

    same(found)


@pytest.mark.slow
def test_output_shapes():
    def found(package):
        layers = package.layers
        shapes = [
            layers.Dense(4).compute_output_shape((2, 3)),
            layers.Conv2D(4, 3, strides=2).compute_output_shape((None, 9, 9, 3)),
            layers.LSTM(3, return_sequences=True).compute_output_shape((None, 4, 5)),
            layers.Concatenate().compute_output_shape([(None, 2), (None, 3)]),
        ]
        row = package.Sequential([package.Input((4,)), layers.Dense(2)])
        return [*shapes, row.compute_output_shape((None, 4))]

    same(found)


@pytest.mark.slow
def test_paths():
    def found(package):
        layers = package.layers
        named = layers.Dense(2, name="named")
        named(X)

        class Around(layers.Layer):
            def __init__(self, **kwargs):
                super().__init__(**kwargs)
                self.inner = layers.Dense(2, name="head")

            def call(self, x):
                return self.inner(x)

        around = Around(name="around")
        around(X)
        model = package.Sequential([package.Input((4,)), layers.Dense(1, name="a")], name="net")
        every = [*named.weights, *around.weights, *model.weights]
        return [w.path for w in every], named.kernel.path

    same(found)


def test_weights_before_there_are_any():
    def found(package):
        layer = package.layers.Dense(2)
        model = package.Sequential([layer])
        return layer.get_weights(), model.get_weights(), model.weights, model.built

    same(found)


@pytest.mark.slow
def test_build_by_the_user():
    """`build` of a user's class, called outside and in the `build` of a layer around it."""

    def found(package):
        layers = package.layers

        class Scaled(layers.Layer):
            def __init__(self):
                super().__init__()
                self.dense = layers.Dense(2)

            def build(self, input_shape):
                self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")
                self.dense.build(input_shape)

            def call(self, x):
                return self.dense(x * self.scale)

        class Around(layers.Layer):
            def __init__(self):
                super().__init__()
                self.inner = Scaled()

            def build(self, input_shape):
                self.inner.build(input_shape)

            def call(self, x):
                return self.inner(x)

        layer, around = Scaled(), Around()
        layer.build((None, 4))
        around.build((None, 4))
        before = layer.get_weights()
        y = np.asarray(layer(X))
        np.testing.assert_allclose(y, X @ before[1] + before[2], atol=1e-5)
        return len(before), len(layer.weights), len(around.weights), len(around.inner.weights)

    same(found)


def test_build_configs():
    def found(package):
        layer = package.layers.Dense(2)
        configs = [layer.get_build_config()]
        layer.build((None, 4))
        configs.append(layer.get_build_config())
        other = package.layers.Dense(2)
        other.build_from_config(configs[-1])
        row = package.Sequential([package.layers.Dense(2)])
        row.build((None, 4))
        return configs, [tuple(w.shape) for w in other.weights], row.get_build_config()

    same(found)


def test_own_variables():
    def found(package):
        layer = package.layers.Dense(2)
        layer(X)
        store = {}
        layer.save_own_variables(store)
        layer.load_own_variables({name: np.ones_like(array) for name, array in store.items()})
        with pytest.raises(ValueError, match="expected 2"):
            layer.load_own_variables({"0": store["0"]})
        shapes = {name: array.shape for name, array in store.items()}
        return shapes, [w.tolist() for w in layer.get_weights()]

    same(found)


@pytest.mark.slow
def test_classes_store_what_they_like(tmp_path):
    def found(package):
        @package.saving.register_keras_serializable(package="stores")
        class Counts(package.layers.Layer):
            seen = (1, 2)

            def build(self, input_shape):
                self.w = self.add_weight(shape=(4,), name="w")

            def call(self, x):
                return x * self.w

            def save_own_variables(self, store):
                super().save_own_variables(store)
                store["seen"] = np.array(self.seen)

            def load_own_variables(self, store):
                self.seen = tuple(map(int, store["seen"][...]))
                self.w.assign(store["0"])

        path, weights = tmp_path / "model.keras", tmp_path / "model.weights.h5"
        inputs = package.Input((4,))
        model = package.Model(inputs, Counts(name="counts")(inputs))
        model.layers[1].seen = (7, 8)
        model.save(path)
        again = package.saving.load_model(path)
        np.testing.assert_array_equal(again(X), model(X))
        model.save_weights(weights)
        model.layers[1].seen = (0, 0)
        model.load_weights(weights)
        return again.layers[1].seen, model.layers[1].seen

    assert same(found) == ((7, 8), (7, 8))


def test_an_assignment_to_a_weight_of_a_layer_inside_has_a_message():
    class Doubling(fnn.layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = fnn.layers.Dense(2)

        def call(self, x):
            y = self.dense(x)
            self.dense.kernel.assign(self.dense.kernel * 2)
            return y

    with pytest.raises(TypeError, match=r"expected call of Doubling to assign weights of its own"):
        Doubling()(X)


POLICIES = {
    "QuantizedDTypePolicy": ("int8", "mixed_bfloat16"),
    "Int4DTypePolicy": ("int4/128", "float32"),
    "QuantizedFloat8DTypePolicy": ("float8", "float32"),
    "GPTQDTypePolicy": ("gptq/4/128", "float32"),
    "AWQDTypePolicy": ("awq/4/128", "float16"),
}


@pytest.mark.parametrize("name", POLICIES)
def test_quantized_policies(name):
    def found(package):
        policies = package.dtype_policies
        policy = getattr(policies, name)(*POLICIES[name])
        again = policies.deserialize(policies.serialize(policy))
        assert type(again) is type(policy) is type(policies.get(policy.name))
        with pytest.raises(ValueError, match="mode"):
            getattr(policies, name)("int9", "float32")
        config = policy.get_config()
        config.pop("amax_history_length", None)  # of float8 in Keras
        dtypes = policy.compute_dtype, policy.variable_dtype
        return again.name, policy.quantization_mode, dtypes, config

    same(found)


def test_maps_of_policies():
    def found(package):
        policies = package.dtype_policies
        chosen = policies.DTypePolicyMap()
        chosen["layer/dense"] = package.DTypePolicy("bfloat16")
        chosen["enc"] = package.DTypePolicy("float16")
        with pytest.raises(ValueError, match="enc"):
            chosen["enc"] = package.DTypePolicy()
        names = [chosen[key].name for key in ("layer/dense", "enc/x", "other")]
        return names, chosen.name, list(chosen), chosen.compute_dtype, chosen.variable_dtype

    same(found)
    chosen = fnn.dtype_policies.DTypePolicyMap("float16", {"a": fnn.DTypePolicy("bfloat16")})
    again = fnn.dtype_policies.DTypePolicyMap.from_config(chosen.get_config())
    assert (dict(again), again.default_policy) == (dict(chosen), chosen.default_policy)
    with pytest.raises(ValueError, match=r"expected one policy for ab, received several"):
        fnn.dtype_policies.DTypePolicyMap(policy_map={"a.": again["a"], ".b": again["a"]})["ab"]
    with pytest.raises(TypeError, match=r"expected a policy for 'c', received 'float32'"):
        again["c"] = "float32"


# -- models --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["made", "loaded", "cloned"])
def test_models_inside(kind, tmp_path):
    def found(package):
        layers = package.layers
        row = [package.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")]
        inner = package.Sequential(row, name="inner")
        inputs = package.Input((4,))
        outer = package.Model(inputs, layers.Dense(1, name="top")(inner(inputs)))
        if kind == "loaded":
            outer.save(tmp_path / "outer.keras")
            outer = package.saving.load_model(tmp_path / "outer.keras")
        if kind == "cloned":
            outer = package.models.clone_model(outer)
        one = outer.get_layer("inner")
        lines = []
        one.summary(print_fn=lambda line, **kwargs: lines.append(line))
        outer.set_weights([np.full(w.shape, 0.5) for w in outer.get_weights()])
        values = one.predict(X, verbose=0).round(4).tolist()
        names = [layer.name for layer in one.layers]
        assert "23" in "".join(lines)
        return names, one.get_layer("a").units, values, one.output_shape, one.count_params()

    same(found)


def test_models_inside_are_the_objects():
    def found(package):
        inner = package.Sequential([package.Input((4,)), package.layers.Dense(3)])
        outer = package.Sequential([inner, package.layers.Dense(1)])
        kinds = [isinstance(layer, package.Model) for layer in outer.layers]
        return outer.layers[0] is inner, outer.get_layer(inner.name) is inner, kinds

    same(found)


@pytest.mark.slow
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies(copied):
    def found(package):
        register = package.saving.register_keras_serializable(package="copies")

        @register
        class Net(package.Model):
            def __init__(self, **kwargs):
                super().__init__(**kwargs)
                self.dense = package.layers.Dense(3)
                self.head = package.layers.Dense(1)

            def call(self, x):
                return self.head(self.dense(x))

        net, dense = Net(), package.layers.Dense(2)
        net.compile("sgd", "mse")
        net.fit(X, X[:, :1], verbose=0)
        results = []
        for thing in (net, dense):
            before = np.asarray(thing(X))
            other = copied(thing)
            equal = np.allclose(other(X), before)
            other.set_weights([w * 0 for w in other.get_weights()])
            results += [equal, np.allclose(thing(X), before), np.allclose(other(X), 0)]
        again = copied(net)
        again.fit(X, X[:, :1], verbose=0)
        return *results, int(again.optimizer.iterations), again.dense is net.dense

    same(found)


def test_a_copy_of_a_layer_has_the_variables_of_the_layers_inside():
    class Counter(fnn.layers.Layer):
        def __init__(self):
            super().__init__()
            self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x):
            self.calls.assign_add(1.0)
            return x

    layer = Counter()
    layer(X)
    other = copy.deepcopy(layer)
    other(X)
    assert (float(layer.calls), float(other.calls)) == (1.0, 2.0)


@pytest.mark.slow
def test_params_of_callbacks():
    def found(package):
        seen = []

        class See(package.callbacks.Callback):
            def on_train_begin(self, logs=None):
                seen.append(dict(self.params))

            on_test_begin = on_predict_begin = on_train_begin

        model = package.Sequential([package.Input((4,)), package.layers.Dense(1)])
        model.compile("sgd", "mse")
        model.fit(X, X[:, :1], verbose=0, callbacks=[See()])
        model.evaluate(X, X[:, :1], verbose=0, callbacks=[See()])
        model.predict(X, verbose=0, callbacks=[See()])
        return seen

    same(found)


@pytest.mark.slow
def test_x64_switched_on_between_two_fits():
    model = fnn.Sequential([fnn.Input((4,)), fnn.layers.Dense(1)], seed=0)
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(X, X[:, :1], batch_size=3, verbose=0)
    with jax.enable_x64(True):
        model.fit(X, X[:, :1], batch_size=3, verbose=0)
        model.evaluate(X, X[:, :1], verbose=0)
        assert model.predict(X, verbose=0).dtype == "float32"
    assert {w.dtype for w in model.weights} == {"float32"}


@pytest.mark.slow
def test_class_weights_of_several_outputs_with_steps_of_its_own():
    class Own(fnn.Model):
        def train_step(self, *given):
            return super().train_step(*given)

    inputs = fnn.Input((4,))
    model = Own(inputs, [fnn.layers.Dense(1)(inputs), fnn.layers.Dense(1)(inputs)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"targets of one output beside class_weight"):
        model.fit(X, [X[:, :1], X[:, :1]], class_weight={0: 1.0}, verbose=0)


@pytest.mark.slow
def test_compile_configs():
    def found(package):
        model = package.Sequential([package.Input((4,)), package.layers.Dense(1)])
        model.compile("adam", "mse", metrics=["mae"])
        other = package.Sequential([package.Input((4,)), package.layers.Dense(1)])
        other.compile_from_config(model.get_compile_config())
        names = type(other.optimizer).__name__ if package is not fnn else "Adam"
        return names, model.compiled, sorted(other.evaluate(X, X[:, :1], 4, 0, return_dict=True))

    same(found)
