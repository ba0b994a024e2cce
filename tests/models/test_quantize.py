"""`quantize("int8")`: the numbers of Keras, the size, files, and LoRA on top."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.core import tree
from fnn.quantizers import AbsMaxQuantizer, Int8QuantizationConfig
from tests.helpers.oracle import keras_rules, random_weights_unset

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 20, (32, 6)), RNG.integers(0, 4, 32)


def network(layers=L, start=fnn.Input, model=fnn.Model):
    """Each kind of layer that is quantized (Keras cannot quantize equations with dots)."""
    x = start((6,), dtype="int32")
    h = layers.Embedding(20, 8)(x)
    h = layers.EinsumDense("abc,cd->abd", (6, 5), bias_axes="d")(h)
    h = layers.EinsumDense("abx,xhd->abhd", (6, 2, 3), activation="relu")(h)
    h = layers.Dense(7, "gelu")(h)
    h = layers.Flatten()(h)
    return model(x, layers.Dense(4, "softmax")(h))


def leaves(model):
    return {"/".join(path): np.asarray(a) for path, a in tree.flatten(model.params)}


@pytest.mark.slow
@pytest.mark.parametrize("weight_only", [False, True])
def test_the_numbers_of_keras(keras, weight_only):
    ours = network()
    with keras_rules():
        with random_weights_unset():
            theirs = network(keras.layers, keras.Input, keras.Model)
        theirs.set_weights(ours.get_weights())
        given = {}
        for model, library in ((ours, fnn), (theirs, keras)):
            if weight_only:
                kind = library.quantizers.Int8QuantizationConfig
                given = {"config": kind(activation_quantizer=None)}
            model.quantize("int8", **given)
        expected = theirs.predict(X, verbose=0)
        integers = [w for w in theirs.get_weights() if w.dtype == "int8"]
    np.testing.assert_allclose(ours.predict(X, verbose=0), expected, rtol=1e-6, atol=1e-7)
    own = [w for w in ours.get_weights() if w.dtype == "int8"]
    for a, b in zip(own, integers, strict=True):
        np.testing.assert_array_equal(a, b)
    assert ours.dtype_policy.name == theirs.layers[-1].dtype_policy.name == "int8_from_float32"
    assert ours.quantization_mode == theirs.layers[-1].quantization_mode == "int8"


def blocks():
    ids = fnn.Input((8,), dtype="int32")
    h = L.Embedding(50, 32)(ids)
    h = L.Repeat(L.TransformerEncoderBlock(32, 4), 3)(h)
    return fnn.Model(ids, L.Dense(50)(h))


@pytest.mark.slow
def test_layers_inside_others_are_quantized_to_a_quarter(tmp_path):
    model = blocks()
    x = RNG.integers(0, 50, (4, 8))
    before, size = model.predict(x, verbose=0), tree.nbytes(model.params)
    model.quantize("int8")
    assert tree.nbytes(model.params) < 0.3 * size
    weights = leaves(model)
    kernels = [n for n in weights if n.endswith(("kernel", "embeddings"))]
    assert len(kernels) == 8
    assert all(weights[name].dtype == np.int8 for name in kernels)
    after = model.predict(x, verbose=0)
    assert 0 < np.abs(after - before).max() < 0.03 * np.abs(before).max()
    model.save(tmp_path / "quantized.fnn")
    loaded = fnn.load(tmp_path / "quantized.fnn")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), after)
    assert loaded.dtype_policy.name == "int8_from_float32"
    assert jax.tree.map(lambda a: a.dtype, loaded.params) == jax.tree.map(
        lambda a: a.dtype, model.params
    )


@pytest.mark.slow
def test_a_row_of_layers_in_files(tmp_path):
    model = fnn.Sequential([L.Dense(8, "relu", input_shape=(4,)), L.Dense(3)], seed=0)
    model.quantize("int8")
    model.save(tmp_path / "row.fnn")
    loaded = fnn.load(tmp_path / "row.fnn")
    assert type(loaded) is fnn.Sequential
    assert loaded.quantization_mode == "int8"
    np.testing.assert_array_equal(loaded(np.eye(4)), model(np.eye(4)))
    with pytest.raises(ValueError, match="is quantized, and fnn writes no Keras files"):
        model.save(tmp_path / "row.keras")
    with pytest.raises(ValueError, match=r"Quantized has layers inside .*save it as \.fnn"):
        model.save_weights(tmp_path / "row.weights.h5")


def test_each_kernel_is_half_a_step_from_its_integers():
    model = network()
    before = leaves(model)
    model.quantize("int8")
    after = leaves(model)
    for name in before:
        if not name.endswith(("kernel", "embeddings")):
            np.testing.assert_array_equal(after[name], before[name])
    kernel, scale = after["dense/kernel"], after["dense/kernel_scale"]
    step = np.abs(before["dense/kernel"]).max(0) / 127
    wrong = np.abs(kernel / scale - before["dense/kernel"])
    assert (wrong <= 0.501 * step + 1e-6).all()


@pytest.mark.slow
def test_lora_on_top_trains_its_weights_alone():
    base = network()
    base.quantize("int8")
    model = fnn.Model(L.LoRA(base, rank=2))
    model.compile(fnn.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
    np.testing.assert_allclose(model.predict(X, verbose=0), base.predict(X, verbose=0), rtol=1e-6)
    before = leaves(model)
    losses = model.fit(X, Y, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    for name, value in leaves(model).items():
        moved = not np.array_equal(value, before[name])
        assert moved == name.startswith("lora/"), name
    kept = jax.tree_util.tree_leaves_with_path(model.train_state.optimizer)
    of_weights = [jax.tree_util.keystr(path) for path, leaf in kept if leaf.ndim]
    assert of_weights
    assert all("lora" in path for path in of_weights)
    # merged weights: the quantized kernel and the change beside it
    merge = jax.jit(lambda params, x: base.layer.apply(model.layer.merge(params), base.state, x))
    merged = merge(model.params, X)[0]
    np.testing.assert_allclose(merged, model.predict(X, verbose=0), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_gradient_of_lora_is_that_of_the_dequantized_kernel():
    dense, x = L.Dense(3), jnp.asarray(RNG.normal(size=(5, 4)), "float32")
    layer = L.Quantized(dense, int8_inputs=False)
    params, state = layer.init(jax.random.key(0), x)
    kernel = params["kernel"] / params["kernel_scale"][None]
    exact = {"bias": params["bias"], "kernel": kernel}
    gradients = [
        jax.grad(lambda x, f=f, p=p: jnp.sum(jnp.sin(f.apply(p, state, x)[0])))(x)
        for f, p in ((layer, params), (dense, exact))
    ]
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_training_goes_on_without_the_quantized_weights():
    model = network()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(X, Y, verbose=0)
    model.quantize("int8")
    before = leaves(model)
    model.fit(X, Y, verbose=0)
    moved = [n for n, value in leaves(model).items() if not np.array_equal(value, before[n])]
    assert moved
    assert all(name.endswith("bias") for name in moved)


def test_filters():
    model = network()
    model.quantize("int8", filters="dense_1|embedding")
    kinds = {name: str(value.dtype) for name, value in leaves(model).items()}
    assert kinds["dense_1/kernel"] == kinds["embedding/embeddings"] == "int8"
    assert kinds["dense/kernel"] == "float32"
    model = network()
    model.quantize("int8", filters=lambda layer: isinstance(layer, L.Embedding))
    assert [n for n, value in leaves(model).items() if value.dtype == "int8"] == [
        "embedding/embeddings"
    ]


@pytest.mark.slow
def test_ids_outside_the_table_are_nan_and_zero_is_masked():
    layer = L.Quantized(L.Embedding(5, 2, mask_zero=True))
    ids = jnp.array([[1, 0, 7]])
    weights = layer.init(jax.random.key(0), ids)
    y = jax.jit(layer.apply)(*weights, ids)[0]
    assert y.mask.tolist() == [[True, False, True]]
    assert np.isnan(y.values[0, 2]).all()
    assert np.isfinite(y.values[0, :2]).all()


class Called(fnn.Model):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(2)

    def call(self, x):
        return self.dense(x)


@pytest.mark.slow
def test_what_cannot_be_quantized():
    model = network()
    for mode in ("int4", "float8", "gptq", "awq", None, "int3"):
        with pytest.raises(ValueError, match='mode must be "int8", got mode='):
            model.quantize(mode)
    with pytest.raises(ValueError, match=r"that the filters select, received filters=\['x'\]"):
        model.quantize("int8", filters="x")
    with pytest.raises(ValueError, match="weight_quantizer to be None"):
        Int8QuantizationConfig(weight_quantizer=AbsMaxQuantizer())
    with pytest.raises(ValueError, match=r"to be fnn\.quantizers\.Abs"):
        Int8QuantizationConfig(activation_quantizer=AbsMaxQuantizer(value_range=(-7, 7)))
    model.quantize("int8")
    with pytest.raises(ValueError, match="is quantized already"):
        model.quantize("int8")
    with pytest.raises(ValueError, match="has no weights yet"):
        fnn.Sequential([L.Dense(2)]).quantize("int8")
    called = Called()
    called(np.ones((1, 3), "float32"))
    with pytest.raises(ValueError, match="is a class with call, which is not supported"):
        called.quantize("int8")
    row = fnn.Sequential([L.Dense(2, input_shape=(3,))])
    around = fnn.Sequential([row, L.Dense(2)])
    with pytest.raises(ValueError, match="shares weights with another model; quantize a copy"):
        around.quantize("int8")
    apart = copy.copy(around)
    apart.quantize("int8")
    assert apart.quantization_mode == "int8"
    assert around.quantization_mode is row.quantization_mode is None
    with pytest.raises(ValueError, match="is quantized, so its layers stay"):
        apart.add(L.Dense(1))
