"""Weights and batches over several devices: the numbers of one device, a part of the memory."""

import contextlib
import copy
import functools
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import fnn
from fnn import distribution as D
from fnn import layers as L
from fnn import networks
from fnn.optimizers import SGD
from fnn.runtime import layouts
from tests.helpers.counting import compilations
from tests.helpers.killing import Kill

slow, thorough = pytest.mark.slow, pytest.mark.thorough

VOCABULARY, TIME, EXAMPLES = 16, 6, 42


@pytest.fixture(autouse=True)
def none_in_force():
    yield
    D.set_distribution(None)


def grid():
    return D.DeviceMesh((2, 4), ("data", "model"))


LAYOUTS = {
    "data parallel": D.DataParallel,
    "fsdp": lambda: D.FSDP(min_size=32),
    "tensor parallel": lambda: D.TensorParallel(grid()),
    "fsdp and tensor parallel": lambda: D.FSDP(grid(), min_size=64) & D.TensorParallel(grid()),
}
# Of each kind of rule one; batches alone are divided in test_distribution.py, weights of other
# networks below.
SAMPLED = [
    pytest.param("data parallel", marks=thorough),
    pytest.param("fsdp", marks=thorough),
    pytest.param("tensor parallel", marks=slow),
    pytest.param("fsdp and tensor parallel", marks=slow),
]
MOMENTUM = SGD(0.01, momentum=0.9)


def ids(seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, VOCABULARY, (EXAMPLES, TIME)).astype("int32")


@functools.cache
def trained(layout):
    """Losses of 21 steps, metrics, and the model, with dropout and incomplete batches."""
    network = networks.gpt(VOCABULARY, 16, 2, 4, TIME, dropout=0.2)
    model = fnn.Model(network, seed=0)
    model.build((None, TIME))  # on one device, which takes no program for each layout
    chosen = LAYOUTS[layout]() if layout else None
    model.compile(
        SGD(0.05, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        distribution=chosen,
    )
    losses = []
    watch = fnn.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: losses.append(logs))
    x, y = ids(0), ids(1)
    model.fit(x, y, batch_size=15, epochs=7, verbose=0, callbacks=[watch])
    return losses, model.evaluate(x, y, verbose=0), model


def close(found, expected, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def specs(tree):
    """How each array that is divided is divided, by its path."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not leaf.sharding.is_fully_replicated:
            found[fnn.core.tree.path_name(path)] = spec_of(leaf)
    return found


def spec_of(array):
    """What divides each axis of an array, up to the last that is divided."""
    axes = list(array.sharding.spec)
    while axes and axes[-1] is None:
        axes.pop()
    return tuple(axes)


@pytest.mark.parametrize("layout", SAMPLED)
def test_a_training_has_the_losses_of_one_device(layout):
    expected, found = trained(None), trained(layout)
    assert len(found[0]) == 21
    close(found[:2], expected[:2])
    accuracies = [[logs["accuracy"] for logs in run[0]] for run in (expected, found)]
    assert accuracies[0] == accuracies[1]
    if layout == "fsdp and tensor parallel":  # of the others it is the forward pass of `evaluate`
        outputs = [model.predict(ids(0), verbose=0) for *_, model in (expected, found)]
        close(*outputs)


@slow
def test_tensor_parallel_divides_heads_columns_rows_and_embeddings():
    model = trained("tensor parallel")[-1]
    by_head, stacked = (None, None, "model"), (None, None, "model")
    block = {
        **{f"attention/{name}/kernel": by_head for name in ("key", "query", "value")},
        **{f"attention/{name}/bias": (None, "model") for name in ("key", "query", "value")},
        "attention/attention_output/kernel": (None, "model"),
        "feedforward_up/kernel": stacked,
        "feedforward_up/bias": (None, "model"),
        "feedforward_down/kernel": (None, "model"),
    }
    expected = {"embedding/embeddings": ("model",)}
    expected |= {"dense/kernel": (None, "model"), "dense/bias": ("model",)}
    expected |= {f"repeat/{name}": axes for name, axes in block.items()}
    assert specs(model.params) == expected
    moments = specs(model.train_state.optimizer)
    assert len(moments) == len(expected)
    for path, axes in moments.items():
        assert any(path.endswith(f"/{name}") and axes == expected[name] for name in expected)


@slow
def test_both_divide_what_the_other_leaves():
    found = specs(trained("fsdp and tensor parallel")[-1].params)
    assert found["repeat/feedforward_up/kernel"] == (None, "data", "model")
    assert found["dense/kernel"] == ("data", "model")


@slow
def test_logits_by_the_embedding_are_divided_over_the_vocabulary():
    """The table that ids and logits share, and the loss of one device."""
    losses = []
    for chosen in (None, D.TensorParallel(grid())):
        layer = networks.llama(VOCABULARY, 16, 1, 4, intermediate_dim=24, tied=True)
        model = fnn.Model(layer, seed=0)
        loss = fnn.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(SGD(0.1), loss, distribution=chosen)
        losses.append(model.fit(ids(0), ids(1), 14, 2, verbose=0).history["loss"])
    assert specs(model.params)["embedding/embeddings"] == ("model",)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


# -- memory --------------------------------------------------------------------------------------


def bytes_of(tree, device=None):
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    if device is None:
        return sum(array.nbytes for array in arrays)
    shards = [shard for array in arrays for shard in array.addressable_shards]
    return sum(shard.data.nbytes for shard in shards if shard.device == device)


def perceptron(distribution=None):
    """Equal ones, trained on batches of one size, share their programs."""
    layers = [L.Dense(64, "relu"), L.Dropout(0.2), L.BatchNormalization(), L.Dense(3)]
    model = fnn.Sequential([fnn.Input((32,)), *layers], seed=0)
    model.compile(MOMENTUM, "mse", distribution=distribution)
    return model


def fit(model, x=None, y=None, **arguments):
    """One pass over batches of 15 and 12, which 8 devices do not divide."""
    x, y = (X, Y) if x is None else (x, y)
    return model.fit(x, y, batch_size=15, verbose=0, **arguments)


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


X, Y = numbers(0, EXAMPLES, 32), numbers(1, EXAMPLES, 3)


@slow
def test_fsdp_keeps_an_eighth_on_each_device():
    """Before a training and after it: the next one finds the program of the first."""
    model = perceptron(LAYOUTS["fsdp"]())
    # The last layer has 195 numbers, of which no axis can be divided by 8 but 64.
    for _ in range(2):
        state = model.train_state
        for part in (state.params, state.optimizer):
            whole = bytes_of(part)
            for device in jax.devices():
                assert whole / 8 <= bytes_of(part, device) < whole / 8 * 1.05
        with compilations() as compiled:
            fit(model)
    assert not compiled


@slow
def test_fsdp_gathers_the_weights_of_one_block_and_no_examples():
    """What the devices send each other in a loop over three blocks, forward and backward."""
    layer, chosen = L.Repeat(L.TransformerEncoderBlock(16, 2), 3), D.FSDP(min_size=16)
    x = jax.ShapeDtypeStruct((24, 5, 16), jnp.float32, sharding=chosen.divided(0))
    params, _ = jax.eval_shape(lambda key: layer.init(key, x), jax.random.key(0))
    lay = lambda a, place: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place)
    params = jax.tree.map(lay, params, chosen.shardings(params))
    loss = lambda params, x: jnp.square(layer.apply(params, {}, x)[0]).mean()
    with chosen.scope(), chosen.tracing():
        program = jax.jit(jax.grad(loss)).lower(params, x).compile().as_text()
    sent = re.findall(r"f32\[([\d,]*)\]\S* (?:all-gather|all-to-all|collective-permute)\(", program)
    blocks = {",".join(map(str, leaf.shape[1:])) for leaf in jax.tree.leaves(params)}
    assert "16,64" in sent
    assert {*sent} <= blocks


def test_weights_are_created_where_they_belong(monkeypatch):
    """No device ever holds a whole large weight."""
    made = []
    put = jax.device_put
    monkeypatch.setattr(jax, "device_put", lambda x, *a, **k: made.append(x) or put(x, *a, **k))
    with D.FSDP().scope():
        model = fnn.Sequential([L.Dense(96, input_shape=(64,))], seed=0)
        kernel = model.params["dense"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (64, 12)
    assert not any(np.shape(x) == (64, 96) for x in jax.tree.leaves(made))
    alone = fnn.Sequential([L.Dense(96, input_shape=(64,))], seed=0)
    close(model.params, alone.params, 1e-6)


# -- verbs ---------------------------------------------------------------------------------------


def everything(model, folder):
    """What all verbs return, with batches that 8 devices do not divide."""
    found = [model.train_on_batch(X[:7], Y[:7]) for _ in range(2)]
    fit(model, epochs=2, validation_data=(X[:9], Y[:9]))
    found += [model.history.history["loss"], model.history.history["val_loss"]]
    found += [model.evaluate(X, Y, batch_size=15, verbose=0), model.test_on_batch(X[:7], Y[:7])]
    found += [model.predict(X[:size], verbose=0) for size in (1, 7, 42)]
    found += [model.predict_on_batch(X[:7]), np.asarray(model(X[:7]))]
    model.save(folder / "model.fnn")
    loaded = fnn.load(folder / "model.fnn")
    found.append(loaded.predict(X, verbose=0))
    copied = copy.deepcopy(model)
    fit(copied)
    found += [copied.get_weights(), model.get_weights()]
    model.load_weights(folder / "model.fnn")
    model.layers[0].trainable = False
    model.compile(SGD(0.1), "mse", distribution=model._program.distribution)
    frozen = np.asarray(model.layers[0].kernel)
    fit(model)
    np.testing.assert_array_equal(model.layers[0].kernel, frozen)
    return [*found, model.get_weights()], copied, loaded


@pytest.fixture(scope="module")
def of_one_device(tmp_path_factory):
    return everything(perceptron(), tmp_path_factory.mktemp("one"))[0]


# Batches alone are divided in test_distribution.py.
@pytest.mark.parametrize(
    "layout", [pytest.param("fsdp", marks=slow), pytest.param("data parallel", marks=thorough)]
)
def test_all_verbs_have_the_numbers_of_one_device(layout, of_one_device, tmp_path):
    model = perceptron(LAYOUTS[layout]())
    found, copied, loaded = everything(model, tmp_path)
    close(found, of_one_device)
    if layout == "fsdp":
        divided = {"dense/kernel", "dense/bias", "dense_1/kernel"}
        divided |= {"batch_normalization/gamma", "batch_normalization/beta"}
        assert divided == {*specs(model.params)}
        assert {*specs(copied.params)} == {*specs(model.params)}
        assert not specs(loaded.params)  # a file has numbers, not devices


@slow
def test_a_training_resumes_where_it_was(tmp_path):
    def fitted(folder, *callbacks, epochs=3, **named):
        model = perceptron(LAYOUTS["fsdp"]())
        with contextlib.suppress(KeyboardInterrupt):
            fit(model, epochs=epochs, checkpoint=folder, callbacks=[*callbacks], **named)
        return model

    straight = fitted(tmp_path / "straight")
    fitted(tmp_path / "resumed", Kill(1))
    resumed = fitted(tmp_path / "resumed", resume=True)
    close(resumed.get_weights(), straight.get_weights(), 1e-6)
    assert specs(resumed.params) == specs(straight.params) != {}
    assert specs(resumed.train_state.optimizer) == specs(straight.train_state.optimizer) != {}


def test_a_copy_and_a_pickle_keep_the_distribution():
    for layout in LAYOUTS.values():
        chosen = layout()
        assert copy.deepcopy(chosen) is chosen
        again = pickle.loads(pickle.dumps(chosen))
        assert again == chosen
        assert hash(again) == hash(chosen)
        assert repr(again) == repr(chosen)


# -- which distribution --------------------------------------------------------------------------


def kernel_spec(model):
    return spec_of(model.layers[0].kernel.value)


def test_a_distribution_of_compile_comes_before_that_in_force():
    D.set_distribution(D.DataParallel())
    with D.FSDP(min_size=32).scope():
        assert isinstance(D.distribution(), D.FSDP)
        model = perceptron(D.ByPath(grid(), {"dense/kernel": ("model", None)}))
        assert kernel_spec(model) == ("model",)
        other = perceptron()
        assert kernel_spec(other) == (None, "batch")
    assert isinstance(D.distribution(), D.DataParallel)
    before = other.predict(X, verbose=0)
    fit(other, epochs=0)
    assert kernel_spec(other) == ()
    assert len(other.layers[0].kernel.value.devices()) == 8
    close(other.predict(X, verbose=0), before)


@slow
def test_weights_move_to_another_distribution():
    model, alone = perceptron(D.DataParallel()), perceptron()
    layouts_ = [
        None,
        D.FSDP(min_size=32),
        D.ByPath(grid(), {"**/kernel": (None, None)}),
        D.FSDP(devices=jax.devices()[:4], min_size=32),
    ]
    specs = []
    for chosen in layouts_:
        if chosen is not None:
            model.compile(model.optimizer, "mse", distribution=chosen)
        for one in (model, alone):
            fit(one)
        close(model.get_weights(), alone.get_weights())
        specs.append(kernel_spec(model))
    assert specs == [(), (None, "batch"), (), (None, "batch")]
    assert len(model.layers[0].kernel.value.devices()) == 4


@slow
def test_numbers_that_are_assigned_go_to_the_devices():
    model = perceptron(D.FSDP(min_size=32))
    model.set_weights([a + 1 for a in model.get_weights()])
    assert kernel_spec(model) == (None, "batch")
    model.params = jax.tree.map(np.asarray, model.params)
    fit(model)
    assert kernel_spec(model) == (None, "batch")


def placed(kind):
    mesh = jax.make_mesh((8,), ("mine",), axis_types=(kind,))
    return NamedSharding(mesh, PartitionSpec(None, "mine")), NamedSharding(mesh, PartitionSpec())


@slow
@pytest.mark.parametrize("chosen", [None, LAYOUTS["fsdp"]])
def test_weights_that_the_user_divided_stay_so_with_their_optimizer_state(chosen):
    divided, whole = placed(AxisType.Auto)
    model = perceptron(chosen and chosen())
    fit(model)  # the optimizer has a state
    where = lambda a: divided if a.shape == (32, 64) else whole
    model.params = jax.tree.map(lambda a: jax.device_put(np.asarray(a), where(a)), model.params)
    moments = [a for a in jax.tree.leaves(model.train_state.optimizer) if a.shape == (32, 64)]
    assert {a.sharding for a in moments} == {divided}
    assert len(moments) == 1
    model.state = jax.tree.map(np.asarray, model.state)
    fit(model, jax.device_put(X, whole), jax.device_put(Y, whole))
    assert model.params["dense"]["kernel"].sharding == divided


# -- pure functions ------------------------------------------------------------------------------


@slow
def test_a_pure_step_has_the_numbers_of_one_device():
    layer = L.Sequential([L.Dense(64, "relu"), L.Dense(3)])
    params, _ = layer.init(jax.random.key(0), X)
    optimizer = optax.sgd(0.05, momentum=0.9)

    def step(state, batch, key):
        def loss(params):
            outputs, _ = layer.apply(params, {}, batch[0])
            return jnp.square(outputs - batch[1]).mean()

        value, slopes = jax.value_and_grad(loss)(state["params"])
        updates, after = optimizer.update(slopes, state["optimizer"], state["params"])
        state = {"params": optax.apply_updates(state["params"], updates), "optimizer": after}
        return state, {"loss": value}

    start = {"params": params, "optimizer": optimizer.init(params)}
    fitted = functools.partial(
        fnn.training.fit, step, start, (X, Y), batch_size=16, epochs=3, verbose=0
    )
    expected, _ = fitted()
    rules = {"dense/kernel": (None, "model"), "dense/bias": ("model",)}
    by_path = D.ByPath(grid(), rules)
    for chosen, number in ((by_path, 4), (D.FSDP(min_size=64), 6)):
        found, _ = fitted(distribution=chosen)
        close(found, expected)
        assert len(specs(found)) == number
        with chosen.scope():
            close(fitted()[0], expected)
    assert specs(by_path.place(start)) == {
        f"{place}/dense/{name}": axes
        for place in ("params", "optimizer/0/.trace")
        for name, axes in (("kernel", (None, "model")), ("bias", ("model",)))
    }


def test_shardings_for_jit():
    layer, chosen = L.Dense(64), D.FSDP(min_size=32)
    init = lambda key: layer.init(key, X)
    shapes = jax.eval_shape(init, jax.random.key(0))
    params, _ = jax.jit(init, out_shardings=chosen.shardings(shapes))(jax.random.key(0))
    assert specs(params) == {"kernel": (None, "batch"), "bias": ("batch",)}
    batch = chosen.divide(X[:40])
    assert batch.addressable_shards[0].data.shape == (5, 32)
    y, _ = jax.jit(layer.apply)(params, {}, batch)
    close(y, layer.apply(jax.device_get(params), {}, X[:40])[0])


# -- other networks ------------------------------------------------------------------------------


def recurrent():
    return [L.LSTM(16, dropout=0.2), L.Dense(3)]


def convolutional():
    return [L.Conv2D(16, 3), L.BatchNormalization(), L.Flatten(), L.Dense(3)]


@slow
@pytest.mark.parametrize(
    ("make", "shape"), [(recurrent, (5, 16)), (convolutional, (6, 6, 8))], ids=["lstm", "cnn"]
)
def test_other_networks_over_a_grid(make, shape):
    x = numbers(2, 20, *shape)
    results = []
    for chosen in (None, D.FSDP(grid(), min_size=64)):
        model = fnn.Sequential([fnn.Input(shape), *make()], seed=0)
        model.compile(SGD(0.1), "mse", distribution=chosen)
        history = model.fit(x, Y[:20], batch_size=7, epochs=2, verbose=0).history
        results.append((history, model.get_weights()))
    assert specs(model.params)
    close(*results)


@slow
def test_a_model_inside_another_moves_to_the_mesh_of_that():
    inner = perceptron(D.ByPath(grid(), {"dense/kernel": (None, "model")}))
    alone = perceptron()
    losses = []
    for model, given in ((inner, {"distribution": D.FSDP(min_size=8)}), (alone, {})):
        outer = fnn.Model(L.LoRA(model, rank=2), seed=0)
        outer.compile(MOMENTUM, "mse", **given)
        history = fit(outer, epochs=2)
        losses.append(history.history["loss"])
        if given:
            meshes = {leaf.sharding.mesh.axis_names for leaf in jax.tree.leaves(outer.params)}
            assert meshes == {("batch",)}
    np.testing.assert_allclose(*losses, rtol=1e-5)


# -- mistakes ------------------------------------------------------------------------------------


def test_a_pattern_that_matches_nothing_is_named():
    rules = {"dens/kernel": ("model", None)}
    with pytest.raises(ValueError, match=r"which match none; use paths, e\.g\. dense/kernel"):
        perceptron(D.ByPath(grid(), rules))


def test_a_weight_that_devices_do_not_divide_is_named():
    rules = {"dense_1/kernel": (None, "model")}
    message = r"divides dense_1/kernel of shape \(64, 3\) by .*4 devices do not divide axis 1 of 3"
    with pytest.raises(ValueError, match=message):
        perceptron(D.ByPath(grid(), rules))
    with pytest.raises(ValueError, match="it has only 1 axes"):
        perceptron(D.ByPath(grid(), {"dense/bias": (None, "model")}))


def test_tensor_parallel_needs_a_transformer():
    with pytest.raises(ValueError, match="divides no weight of this network"):
        perceptron(D.TensorParallel(grid()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: D.FSDP(grid(), axis="rows"), r"FSDP: expected axes of the mesh, \['data',"),
        (lambda: D.FSDP(min_size=0), "min_size must be a positive integer"),
        (lambda: D.TensorParallel(D.DeviceMesh((8,), ("x",))), r"received \['model'\]"),
        (lambda: D.ByPath(grid(), {"a": ("b",)}), r"received \['b'\]"),
        (lambda: D.ByPath(grid(), ["a"]), r"rules as a dict .* received \['a'\]"),
        (lambda: D.ByPath(grid(), {"a": "model"}), "to tuples of axes .* received 'model'"),
        (lambda: D.ByPath(grid(), {"a": ("data", "data")}), "each axis once"),
        (lambda: D.ByPath(grid(), {1: ("data",)}), "rules to be patterns of paths"),
        (lambda: D.DataParallel(8), "expected device_mesh as a DeviceMesh"),
        (lambda: D.DataParallel() & D.FSDP(grid()), "over one mesh and one axis"),
        (lambda: D.DeviceMesh((2,), ("cpu", "x")), "a shape with a name for each axis"),
        (lambda: D.DeviceMesh((2, 3), ("a", "b")), r"places, 6, received 8"),
        (lambda: D.DeviceMesh((1,), ("a",), ["cpu:9"]).backend_mesh, r"received 'cpu:9'"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_no_distribution():
    for take in (D.set_distribution, perceptron):
        with pytest.raises(TypeError, match="expected a distribution, received 'fsdp'"):
            take("fsdp")


def test_explicit_meshes_become_automatic():
    mesh = jax.make_mesh((8,), ("data",))
    assert set(D.DataParallel(mesh).mesh.axis_types) == {AxisType.Auto}
    assert layouts.automatic(D.DataParallel(mesh).mesh) is D.DataParallel(mesh).mesh
