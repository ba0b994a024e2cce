"""The names of `keras.distribution`, compared with Keras on JAX."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from tests.helpers.oracle import keras_rules

SHAPES = {
    "net/dense/kernel": (16, 8),
    "net/dense/bias": (8,),
    "net/conv2d/kernel": (3, 3, 4, 8),
    "net/other/scale": (8,),
}
LAYOUTS = {
    ".*dense.*kernel": (None, "model"),
    ".*dense.*bias": ("model",),
    ".*conv2d.*kernel": (None, None, None, "model"),
    "net/dense_7/kernel": ("model", None),
}


def refused():
    """Raises in both libraries; the messages of fnn are in `test_wrong_arguments_are_named`."""
    return pytest.raises(ValueError, match=r"[a-z]")


class Weight:
    def __init__(self, path):
        self.path, self.shape = path, SHAPES[path]


@pytest.fixture(params=["keras", "fnn"])
def library(request, keras):
    """`keras.distribution` and then `fnn.distribution`, in the same test."""
    if request.param == "fnn":
        yield fnn.distribution
        return
    with keras_rules():
        yield keras.distribution


def layout_map(library, mesh):
    layouts = library.LayoutMap(mesh)
    for key, axes in LAYOUTS.items():
        layouts[key] = axes
    return layouts


def grid(library):
    return library.DeviceMesh((2, 4), ("batch", "model"))


def axes(layout):
    return layout and layout.axes


def test_all_names_are_there(keras):
    assert {name for name in dir(keras.distribution) if name[0] != "_"} <= {*dir(fnn.distribution)}


def test_a_mesh(library):
    mesh = library.DeviceMesh((2, 4), ["batch", "model"])
    assert tuple(mesh.shape) == (2, 4)
    assert list(mesh.axis_names) == ["batch", "model"]
    assert mesh.devices.tolist() == [[f"cpu:{4 * i + j}" for j in range(4)] for i in range(2)]
    assert mesh.backend_mesh == fnn.distribution.DataParallel(mesh.backend_mesh).mesh
    part = library.DeviceMesh((2,), ["x"], ["cpu:5", "cpu:3"])
    assert [device.id for device in part.backend_mesh.devices] == [5, 3]
    assert repr(mesh).startswith("<DeviceMesh shape=(2, 4), axis_names=['batch', 'model']>")
    for wrong in (((), ()), ((2,), ()), ((2,), ("a", "b")), ((3,), ("a",))):
        with refused():
            library.DeviceMesh(*wrong)


def test_a_layout_of_an_array(library):
    mesh = grid(library)
    layout = library.TensorLayout((None, "model"))
    with refused():
        _ = layout.backend_layout
    layout.device_mesh = mesh
    assert layout.axes == (None, "model")
    assert layout.backend_layout.spec == jax.sharding.PartitionSpec(None, "model")
    with refused():
        layout.device_mesh = mesh
    with refused():
        library.TensorLayout(("rows",), mesh)
    assert repr(layout).startswith("<TensorLayout axes=(None, 'model'), device_mesh=<DeviceMesh")


def test_a_map_of_layouts(library):
    mesh = grid(library)
    layouts = layout_map(library, mesh)
    found = [axes(layouts[path]) for path in ("net/dense_7/kernel", "dense/kernel", "a/b")]
    assert found == [("model", None), (None, "model"), None]
    assert layouts["net/dense/kernel"].device_mesh is mesh is layouts.device_mesh
    assert list(layouts) == list(LAYOUTS)
    assert len(layouts) == 4
    with refused():
        layouts[".*dense.*bias"] = ("batch",)
    with refused():
        layouts["new"] = "model"
    with refused():
        layouts["wrong"] = ("rows",)
    layouts["net.*bias"] = ()
    with refused():
        _ = layouts["net/dense/bias"]
    del layouts["net.*bias"]
    assert axes(layouts["net/dense/bias"]) == ("model",)


def test_distributions(library):
    mesh = grid(library)
    parallel = library.ModelParallel(layout_map=layout_map(library, mesh), batch_dim_name="batch")
    data = library.DataParallel(auto_shard_dataset=False)
    found = [
        [axes(d.get_variable_layout(Weight(path))) for path in SHAPES] for d in (parallel, data)
    ]
    assert found[1] == [(None,) * len(shape) for shape in SHAPES.values()]
    assert found[0][:3] == [*LAYOUTS.values()][:3]
    assert found[0][3] == (None,)
    assert axes(parallel.get_data_layout((8, 3))) == ("batch", None)
    assert axes(parallel.get_tensor_layout("a/dense/kernel")) == (None, "model")
    assert parallel.get_tensor_layout("a") is None
    assert data.get_tensor_layout("a/dense/kernel") is None
    assert (parallel.batch_dim_name, data.batch_dim_name) == ("batch", "batch")
    assert (parallel.num_model_replicas, data.num_model_replicas) == (2, 8)
    assert (parallel.auto_shard_dataset, data.auto_shard_dataset) == (True, False)
    assert (parallel.num_processes, data.num_processes) == (1, 1)
    assert data.device_mesh.devices.tolist() == [f"cpu:{i}" for i in range(8)]
    assert library.DataParallel(devices=["cpu:1", "cpu:2"]).device_mesh.devices.tolist() == [
        "cpu:1",
        "cpu:2",
    ]
    for wrong in ({}, {"layout_map": 8}):
        with refused():
            library.ModelParallel(**wrong)
    with refused():
        library.DataParallel(device_mesh=8)


def test_the_distribution_in_force(library):
    first, second = library.DataParallel(), library.DataParallel(devices=["cpu:0"])
    assert library.distribution() is None
    library.set_distribution(first)
    try:
        with second.scope():
            assert library.distribution() is second
        assert library.distribution() is first
    finally:
        library.set_distribution(None)
    assert library.distribution() is None


def test_an_array_is_distributed(library):
    layout = library.TensorLayout(("batch", "model"), grid(library))
    x = jnp.arange(32.0).reshape(4, 8)
    for y in (
        library.distribute_tensor(x, layout),
        library.distribute_tensor(x, layout.backend_layout),
        jax.jit(lambda x: library.distribute_tensor(x, layout))(x),
    ):
        assert y.addressable_shards[0].data.shape == (2, 2)
        np.testing.assert_array_equal(y, x)


def test_a_symbolic_node_is_left_alone():
    node = fnn.Input((3,))
    layout = fnn.distribution.TensorLayout((None,), grid(fnn.distribution))
    assert fnn.distribution.distribute_tensor(node, layout) is node


@pytest.mark.slow
def test_outputs_of_layers_lie_as_a_map_says(library):
    """Over "model", which divides nothing else here."""
    names = fnn if library is fnn.distribution else keras_of(library)
    layouts = library.LayoutMap(grid(library))
    layouts[".*first/output"] = ("model", None)
    parallel = library.ModelParallel(layout_map=layouts, batch_dim_name="batch")
    shapes = []

    def look(x):
        seen = lambda sharding: shapes.append(sharding.shard_shape((16, 8)))
        jax.debug.inspect_array_sharding(x, callback=seen)
        return x

    library.set_distribution(parallel)
    try:
        layers = [names.layers.Dense(8, name="first"), names.layers.Lambda(look)]
        model = names.Sequential([names.Input((8,)), *layers])
        model.compile("sgd", "mse")
        model.fit(np.ones((16, 8)), np.ones((16, 8)), batch_size=16, verbose=0)
    finally:
        library.set_distribution(None)
    assert shapes == [(4, 8)]


def keras_of(library):
    import keras

    assert library is keras.distribution
    return keras


def test_outputs_that_devices_do_not_divide():
    """Examples are replicated; another axis is an error. Without the map all is as ever."""
    library = fnn.distribution
    layouts = library.LayoutMap(grid(library))
    layouts["first/output"] = ("batch", "model")
    parallel = library.ModelParallel(layout_map=layouts)
    x = np.ones((6, 8), "float32")
    layer = fnn.layers.Sequential([fnn.layers.Dense(8, name="first")])
    params, state = layer.init(jax.random.key(0), x)
    run = jax.jit(lambda x: layer.apply(params, state, x)[0])
    for examples, axes in ((6, ("batch", "model")), (3, (None, "model"))):
        expected = run(x[:examples])
        assert isinstance(expected.sharding, jax.sharding.SingleDeviceSharding)
        with parallel.scope():
            found = run(x[:examples])
        assert tuple(found.sharding.spec) == axes
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    narrow = fnn.layers.Sequential([fnn.layers.Dense(6, name="first")])
    with parallel.scope(), pytest.raises(ValueError, match="divides the output of first of shape"):
        narrow.apply(*narrow.init(jax.random.key(0), x), x)


@pytest.mark.slow
def test_a_training_by_a_map_has_the_losses_of_keras(keras):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 16)).astype("float32"), rng.normal(size=(32, 8)).astype("float32")
    weights = rng.normal(size=(16, 8)).astype("float32"), np.zeros(8, "float32")
    losses, shards = [], []
    for library in (keras, fnn):
        with keras_rules(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layouts = layout_map(library.distribution, grid(library.distribution))
            parallel = library.distribution.ModelParallel(
                layout_map=layouts, batch_dim_name="batch"
            )
            library.distribution.set_distribution(parallel)
            try:
                layers = [library.Input((16,)), library.layers.Dense(8, name="dense")]
                model = library.Sequential(layers, name="net")
                model.set_weights(weights)
                model.compile(library.optimizers.SGD(0.05, momentum=0.9), "mse")
                found = model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
            finally:
                library.distribution.set_distribution(None)
        losses.append(found.history["loss"])
        kernel, bias = model.weights
        shards.append([w.value.addressable_shards[0].data.shape for w in (kernel, bias)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert shards[0] == shards[1] == [(16, 2), (2,)]
