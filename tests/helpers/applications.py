"""Networks of fnn.applications and of Keras with the same weights, and what they compute."""

import contextlib
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from tests.helpers.catalogue import jit
from tests.helpers.oracle import keras_rules, weights_unset
from tests.helpers.small_networks import DEEPER, OURS
from tests.helpers.small_networks import theirs as small_one_of_keras

# Where the smallest images are larger than 32 x 32.
SIDES = {"Xception": 71, "InceptionV3": 75, "InceptionResNetV2": 75}
ROUNDING = 1e-9  # what may differ in float64
VISIBLE = 1e-4  # what another image changes, at least
DEEP = 300  # layers
MOST_DRAWN = 999_983  # random numbers for a kernel; a prime, so that no two columns are the same
SMALL, LARGE = 10**6, 150 * 10**6  # weights


def of_keras(name, /, **arguments):
    """Keras's network with weights of zeros, its layers named as in a session of its own."""
    with keras_rules():
        import keras

        keras.backend.clear_session()
        with weights_unset():
            network = getattr(keras.applications, name, None) or small_one_of_keras(keras, name)
            return network(weights=None, **arguments)


def ours(name, /, weights=None, **arguments):
    network = getattr(fnn.applications, name, None) or (OURS | DEEPER)[name]
    return network(weights=weights, **arguments)


def weights(layer, path=()):
    """(path of names, variable) of a network: names of layers, then that of the weight.

    Keras's own paths have the names of scopes too, and a weight of LayerScale has none.
    """
    inside = getattr(layer, "layers", ())
    for one in inside:
        yield from weights(one, (*path, one.name))
    if not inside:
        for variable in layer.weights:
            name = variable.name
            if name.startswith("variable"):
                name = "gamma"
            yield "/".join((*path, name)), variable


def drawn(path, shape, random, gain=1.0):
    """Weights with which the outputs of deep networks neither vanish nor explode.

    `gain` is how much the kernels enlarge the variance.
    """
    name = path.rpartition("/")[2]
    if name == "count":
        return np.asarray(1)
    if name in ("gamma", "moving_variance", "variance"):
        return random.uniform(0.5, 1.0, shape).astype("float32")
    if name in ("beta", "bias", "moving_mean", "mean"):
        return random.uniform(-0.2, 0.2, shape).astype("float32")
    fan_in = max(1, int(np.prod(shape[:-1])))
    if shape[-1] == 1 and len(shape) == 4:  # depthwise
        fan_in = int(np.prod(shape[:2]))
    numbers = random.normal(size=min(int(np.prod(shape)), MOST_DRAWN))
    return (np.resize(numbers, shape) * (gain / fan_in) ** 0.5).astype("float32")


def pair(name, /, gain=1.0, **arguments):
    """(ours, Keras's) with the same random weights, carried over by layer name."""
    with without_drawing():
        mine = ours(name, **arguments)
    theirs = of_keras(name, **arguments)
    random = np.random.default_rng(0)
    with keras_rules():
        for path, variable in weights(theirs):
            array = drawn(path, tuple(variable.shape), random, gain)
            variable.assign(jax.device_put(array.astype(variable.dtype)))
        for layer in theirs.layers:
            if hasattr(layer, "finalize_state"):
                layer.finalize_state()  # Normalization computes with copies
        by_name = {layer.name: layer.get_weights() for layer in theirs.layers}
    mine.set_weights([array for one in mine.layers for array in by_name.get(one.name, ())])
    return mine, theirs


def objective(y):
    """The sum of the outputs times fixed random numbers."""
    factors = np.random.default_rng(2).normal(size=y.shape).astype("float32")
    return jnp.vdot(factors, y)


def compiled(run, model):
    """As one program, or operation by operation: those of large networks take 20 GB and more."""
    size = model.count_params()
    whole = size < SMALL or (len(model.layers) < DEEP and size < LARGE)
    return jit(run) if whole else run


def program_of_keras(model, gradients=True):
    """Images -> (outputs, {path: gradient}) in inference; without `gradients` {} for these."""
    trained = [jnp.asarray(v.value) for v in model.trainable_variables]
    others = [jnp.asarray(v.value) for v in model.non_trainable_variables]
    names = {id(variable): path for path, variable in weights(model)}
    paths = [names[id(variable)] for variable in model.trainable_variables]

    def value(trained, x):
        y, _ = model.stateless_call(trained, others, x, training=False)
        return objective(y), y

    run = compiled(jax.grad(value, has_aux=True) if gradients else value, model)

    def results(x):
        with keras_rules():
            found, y = run(trained, x)
        return y, dict(zip(paths, found, strict=True)) if gradients else {}

    return results


def our_program(model, gradients=True):
    """Images -> (outputs, {path: gradient}) in inference; without `gradients` {} for these."""

    def value(params, x):
        y, _ = model.layer.apply(params, model.state, x)
        return objective(y), y

    run = compiled(jax.grad(value, has_aux=True) if gradients else value, model)

    def results(x):
        found, y = run(model.params, x)
        if not gradients:
            return y, {}
        return y, {"/".join(path): a for path, a in fnn.core.tree.flatten(found)}

    return results


def difference(received, expected):
    """The largest one, relative to the largest number expected."""
    assert received.shape == expected.shape
    received, expected = np.asarray(received), np.asarray(expected)
    largest = np.abs(expected).max()
    assert np.isfinite(received).all()
    assert largest > 0
    return np.abs(received - expected).max() / largest


# By the start of the name: scale of the images, gain of the kernels. With them the outputs of the
# network depend on the image, and gradients reach its first layers.
SCALES = {
    "EfficientNetB": (255.0, 2.5),
    "EfficientNetV2": (255.0, 1.5),
    "ConvNeXt": (255.0, 1.0),
    "MobileNetV3": (255.0, 2.0),
    "MobileNet": (1.0, 2.0),
}


def assert_equals_keras(name, /, gradients=True, **arguments):
    """Layers, which weights learn, outputs, and gradients of a scalar by all weights, in float64.

    In float32 deep networks enlarge the rounding, so that the two differ by it: by up to 2e-2, and
    where the input of a ReLU is zero but for rounding, they may give the gradient of either side.
    """
    side = SIDES.get(name, 32)
    shape = (side, side, 3)
    arguments = {"classes": 3, "classifier_activation": None, "input_shape": shape, **arguments}
    known = [found for start, found in SCALES.items() if name.startswith(start)]
    scale, gain = (*known, (1.0, 1.0))[0]
    images = lambda seed: scale * np.random.default_rng(seed).uniform(-1, 1, (1, *shape))
    with double_precision():
        mine, theirs = pair(name, gain=gain, **arguments)
        far = arguments_that_differ(mine, theirs)
        assert not far, f"arguments of {name}: {far}"
        learned = [[tuple(w.shape) for w in one.trainable_weights] for one in (mine, theirs)]
        run = our_program(mine, gradients)
        other, _ = run(images(1))
        y, found = run(images(0))
        del mine, run  # as large as the gradients
        expected, wanted = program_of_keras(theirs, gradients)(images(0))
    assert learned[0] == learned[1]
    assert y.dtype == expected.dtype == "float64"
    assert difference(y, expected) < ROUNDING
    assert difference(other, expected) > VISIBLE
    assert found.keys() == wanted.keys()
    far = {path: difference(found[path], wanted[path]) for path in wanted}
    far = {path: number for path, number in far.items() if number > ROUNDING}
    assert not far, f"gradients of {name}: {far}"


def arguments_that_differ(mine, theirs):
    """{name of a layer: {argument: (ours, Keras's)}}, of all arguments that both have."""
    assert [layer.name for layer in mine.layers] == [layer.name for layer in theirs.layers]
    found = {}
    for layer, other in zip(mine.layers[1:], theirs.layers[1:], strict=True):
        config = other.get_config()
        shared = set(config) & set(getattr(layer, "__dataclass_fields__", ()))
        shared -= {"dtype", "layers", "data_format", "mean", "variance"}
        if np.prod(config.get("kernel_size", 0)) == 1:
            shared.remove("padding")  # the same either way
        if getattr(layer, "strides", 1) is None:
            shared.remove("strides")  # those of the window
        pairs = {key: (plain(getattr(layer, key)), plain(config[key])) for key in sorted(shared)}
        far = {key: pair for key, pair in pairs.items() if not equal(*pair)}
        if far:
            found[layer.name] = far
    return found


def plain(value):
    """An argument of either library as numbers, names and tuples."""
    import keras

    if isinstance(value, dict) and "class_name" in value:
        value = keras.saving.deserialize_keras_object(value)
    if isinstance(value, keras.initializers.Initializer):
        config = {key: v for key, v in value.get_config().items() if key != "seed"}
        return type(value).__name__, config
    if hasattr(value, "__dataclass_fields__"):
        names = [name for name in value.__dataclass_fields__ if name != "seed"]
        return type(value).__name__, {name: getattr(value, name) for name in names}
    if isinstance(value, (list, tuple)):
        return tuple(map(plain, value))
    return value


def equal(mine, other):
    """Equal, or two ways to say the same."""
    if isinstance(other, tuple) and isinstance(other[0], str):  # an initializer
        if isinstance(mine, str):
            mine = plain(fnn.initializers.get(mine))
        if other == ("Constant", {"value": 0.0}):
            return mine == ("Zeros", {})
        return mine == other
    if isinstance(other, tuple) and isinstance(mine, int):
        return all(equal(mine, part) for part in other)
    if other == "linear":
        return mine in (None, "linear")
    if isinstance(other, str) and isinstance(mine, str):
        return mine == other or fnn.activations.get(mine) is fnn.activations.get(other)
    return mine == other or (mine, other) in ((3, -1), (-1, 3))  # the axis of channels


@contextlib.contextmanager
def double_precision():
    """Both libraries make and compute float64 inside.

    Keras's normalizations and means would compute in float32: its `result_type` has no float64.
    """
    types = ("keras.src.backend.result_type", "keras.src.backend.common.dtypes.result_type")
    of_layers, of_functions = (mock.patch(name, return_value="float64") for name in types)
    with keras_rules(), jax.enable_x64(True), of_layers, of_functions:
        import keras

        before = keras.config.floatx(), fnn.config.floatx()
        try:
            keras.config.set_floatx("float64")
            fnn.config.set_floatx("float64")
            yield
        finally:
            keras.config.set_floatx(before[0])
            fnn.config.set_floatx(before[1])


def without_drawing():
    """Inside, the kernels of our networks are zeros, as those of Keras here are."""
    zeros = lambda name, key, shape, dtype, *limits: np.zeros(shape, dtype)
    return mock.patch.object(fnn.runtime.initial_values, "_draw", zeros)
