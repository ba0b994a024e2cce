"""Normalization, Discretization, CategoryEncoding: the numbers of live Keras."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers as L
from tests.helpers.oracle import keras_rules

DRAW = np.random.default_rng(0)
DATA = DRAW.normal(3, 2, (50, 4, 3)).astype("float32")
IDS = DRAW.integers(0, 6, (4, 3))


@pytest.fixture(scope="module")
def keras():
    pytest.importorskip("tensorflow")
    with keras_rules():
        import keras

        yield keras.layers


def adapted(layer, data):
    with keras_rules():
        layer.adapt(data)
    return layer


def close(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    return True


def of_keras(layer, *given, **named):
    with keras_rules():
        return np.asarray(layer(*given, **named))


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("axis", [-1, None, 1, (1, 2), (-1, 1)])
def test_normalization_learns_as_keras(keras, axis, invert):
    ours = adapted(L.Normalization(axis, invert=invert), DATA)
    theirs = adapted(keras.Normalization(axis, invert=invert), DATA)
    assert close(ours(DATA), of_keras(theirs, DATA))
    with keras_rules():
        weights = theirs.get_weights()
    for found, expected in zip(ours.get_weights()[:2], weights, strict=False):
        assert close(found, expected)
    assert [w.shape for w in ours.get_weights()] == [w.shape for w in weights]
    for name in ("mean", "variance"):
        assert close(getattr(ours, name), getattr(theirs, name))
    batches = [DATA[:7], DATA[7:40], DATA[40:]]
    for data in (batches, iter(batches), lambda: iter(batches)):
        ours.adapt(data)
        assert close(ours(DATA), of_keras(theirs, DATA))


MOMENTS = ((-1, (3,)), (-1, ()), (None, ()), ((1, 2), (4, 3)), ((1, 2), (3,)))


@pytest.mark.parametrize(("axis", "shape"), MOMENTS)
def test_given_moments_broadcast_as_in_keras(keras, axis, shape):
    mean, variance = DRAW.normal(size=shape), DRAW.uniform(0, 2, size=shape)
    given = {"axis": axis, "mean": mean.tolist(), "variance": variance.tolist()}
    assert close(L.Normalization(**given)(DATA), of_keras(keras.Normalization(**given), DATA))


def test_normalization_is_a_pure_pair():
    layer = L.Normalization()
    params, state = layer.init(jax.random.key(0), jnp.asarray(DATA))
    assert params == {}
    assert {name: leaf.shape for name, leaf in state.items()} == {
        "mean": (3,),
        "variance": (3,),
        "count": (),
    }
    moments = {"mean": DATA.mean((0, 1)), "variance": DATA.var((0, 1))}
    state |= {name: jnp.asarray(value) for name, value in moments.items()}
    y, _ = jax.jit(layer.apply)(params, state, jnp.asarray(DATA))
    assert close(y, (DATA - moments["mean"]) / np.sqrt(moments["variance"]))


def test_what_normalization_learned_is_not_part_of_its_value():
    layer = L.Normalization()
    assert layer.mean is None
    layer.adapt(DATA)
    assert layer == L.Normalization()
    assert layer.get_config()["mean"] is None
    given = L.Normalization(mean=1.0, variance=4.0)
    assert given.replace(invert=True).variance == given.variance == 4.0


@pytest.mark.slow
def test_layers_take_frames_sparse_matrices_and_eager_tensors():
    pandas, tensorflow = pytest.importorskip("pandas"), pytest.importorskip("tensorflow")
    x = np.array([[1.0, 5.0], [3.0, 9.0]], np.float32)
    layer = adapted(L.Normalization(), pandas.DataFrame(x))
    sparse = pytest.importorskip("scipy.sparse").csr_matrix(x)
    assert close(adapted(L.Normalization(), sparse).mean, [[2, 7]])
    for given in (pandas.DataFrame(x), tensorflow.constant(x), sparse):
        assert close(layer(given), [[-1, -1], [1, 1]])
    stream = tensorflow.data.Dataset.from_tensor_slices(x)
    for layer in (L.Rescaling(2.0), L.Hashing(3)):
        with pytest.raises(TypeError, match=r"a symbolic tensor .* tf.numpy_function"):
            stream.map(lambda part, layer=layer: layer(part))


def test_integers_are_normalized_as_numbers():
    layer = L.Normalization(mean=1.0, variance=4.0)
    assert layer(np.array([[1, 5]])).tolist() == [[0.0, 2.0]]


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.01, 0.2])
@pytest.mark.parametrize("bins", [2, 5, 10])
def test_discretization_learns_as_keras(keras, bins, epsilon):
    ours = L.Discretization(num_bins=bins, epsilon=epsilon)
    theirs = keras.Discretization(num_bins=bins, epsilon=epsilon)
    batches = [DATA[i : i + 7] for i in range(0, 50, 7)]
    for data in (DATA, batches, iter(batches)):
        ours.adapt(data)
        with keras_rules():
            theirs.adapt(DATA if data is DATA else batches)
        assert close(ours.bin_boundaries, theirs.bin_boundaries)
        assert close(ours(DATA), of_keras(theirs, DATA))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["int", "one_hot", "multi_hot", "count"])
def test_bins_are_encoded_as_in_keras(keras, mode):
    chosen = {"bin_boundaries": [-1.0, 3.0, 4.5], "output_mode": mode}
    ours, theirs = L.Discretization(**chosen), keras.Discretization(**chosen)
    for x in (DATA, DATA[:, 0], DATA[:, 0, :1], DATA[:, 0, 0]):
        assert close(ours(x), of_keras(theirs, x))


@pytest.mark.parametrize("mode", ["one_hot", "multi_hot", "count"])
def test_categories_are_encoded_as_in_keras(keras, mode):
    ours, theirs = L.CategoryEncoding(6, mode), keras.CategoryEncoding(6, mode)
    for x in (IDS, IDS[:, :1], IDS[:, 0], IDS.reshape(2, 2, 3)):
        assert close(ours(x), of_keras(theirs, x))
    weights = DRAW.random((4, 3)).astype("float32")
    if mode == "count":
        expected = of_keras(theirs, IDS, count_weights=weights)
        assert close(ours(IDS, count_weights=weights), expected)


@pytest.mark.slow
def test_what_is_learned_is_part_of_every_model_with_the_layer(tmp_path):
    data = DATA[:, 0]
    norm, bins = L.Normalization(), L.Discretization(num_bins=4, output_mode="one_hot")
    x = fnn.Input((3,))
    joined = L.Concatenate()([norm(x), L.Flatten()(L.Rescaling(2.0)(x))])
    first = fnn.Model(x, L.Dense(2)(joined), seed=0)
    second = fnn.Sequential([x, norm, L.Dense(1)], seed=1)
    with pytest.raises(ValueError, match=r"Normalization: .* has not learned them yet"):
        second.predict(data, verbose=0)
    norm.adapt(data[:, ::-1])
    before = second.predict(data, verbose=0)
    norm.adapt(data)
    bins.adapt(data)
    expected = (data - data.mean(0)) / data.std(0)
    inner = fnn.Model(x, norm(x))
    assert close(inner.predict(data, verbose=0), expected)
    assert not np.allclose(second.predict(data, verbose=0), before)
    assert close(first.get_layer("normalization").get_weights()[0], data.mean(0))
    model = fnn.Sequential([x, bins, L.Flatten(), L.Dense(1)], seed=0)
    path = tmp_path / "model.fnn"
    for one in (first, second, model):
        one.save(path)
        assert close(fnn.load(path).predict(data, verbose=0), one.predict(data, verbose=0))
    second.compile("sgd", "mse")
    second.fit(data, data[:, :1], verbose=0)
    assert close(norm.get_weights()[0], data.mean(0))
