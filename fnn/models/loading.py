"""Loading: the model that a file describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from fnn.core import tree
from fnn.core.config import from_config
from fnn.core.layer import Layer
from fnn.core.registry import CustomObjectScope, snake_case
from fnn.core.tree import Tree
from fnn.layers.sequential import Sequential as SequentialLayer
from fnn.models.model import Model
from fnn.models.sequential import Sequential
from fnn.models.wiring import body_of
from fnn.runtime.warning import warn
from fnn.saving import archive, description, formats
from fnn.saving.description import LeftOutError
from fnn.saving.formats import Opened
from fnn.saving.keras.configs import KerasNetwork
from fnn.saving.reading import refused, unmakeable
from fnn.saving.tensors import FileError, FilePath, memory
from fnn.subclassing.copies import united

Custom: TypeAlias = Mapping[str, Any] | None  # objects by the names in a file


def load(
    path: Any,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Any:
    """The model that `model.save(path)` wrote, to use or to train on as if it had never stopped.

    Only names of fnn, registered names (`fnn.register`) and names in `custom_objects` are looked
    up; nothing is imported and nothing in the file is executed. Every byte is checked before a
    weight is used, and the weights must fit the network before memory is allocated for them.
    With `compile=False` the model is not compiled, and has no state of an optimizer. Files of
    version 0.1.0 are read too; they hold no state of an optimizer. Files that Keras wrote
    (`.keras`, legacy `.h5` of Keras 2 and 3) are read without it if their layers are in fnn.
    `safe_mode` has no effect: no file can have code that is executed.
    Raises FileError, a ValueError, for a file that is damaged, newer than this version, not
    written by fnn, or whose network cannot be made, for instance because a name is unknown.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))])
    >>> model.save("model.fnn")
    >>> again, x = fnn.load("model.fnn"), np.ones((3, 2), "float32")
    >>> bool((again.predict(x, verbose=0) == model.predict(x, verbose=0)).all())
    True
    """
    with formats.opened(path) as opened:
        return opened.reader("load_model")(opened, custom_objects, compile)


def _load(opened: Opened, custom: Custom, compile: bool) -> Any:
    """The model in a file of fnn."""
    saved = archive.of_zip(opened)
    described = saved.config
    with refused(opened.path, unmakeable):
        model = _make(described, custom)
    saved.load_weights(model)
    if compile and described["compile"] is not None:
        _compile(model, described["compile"], opened.path, custom)
    saved.load_training(model)
    return model


def _compile(
    model: Any,
    described: dict[str, Any],
    path: FilePath,
    custom: Custom,
) -> None:
    """Compiles as described; warns if the file does not hold all of the arguments."""
    try:
        with refused(path, unmakeable):
            arguments = {
                name: description.from_plain(value, custom)
                for name, value in described.items()
            }
            model.compile(**arguments)
    except FileError as error:
        if not isinstance(error.__cause__, LeftOutError):
            raise
        name = error.__cause__.args[0]
        warn(
            f"the model of {path} is not compiled, since {name!r} has no registered name and is "
            f"not in the file; pass custom_objects={{{name!r}: ...}} to continue its training, or "
            "call model.compile"
        )


def _make(described: dict[str, Any], custom: Custom) -> Any:
    """The model of a description, with shapes as its weights: nothing is drawn or allocated."""
    description.check(described)
    with CustomObjectScope(custom or {}):
        layer = from_config(described["layer"], custom)
    model = vars(layer).get("_fnn_model")
    if model is not None:  # of a class in Keras's way, which has made its own layer
        model.name = described["name"]
        if described["inputs"] is not None:
            model._weights.build_for(description.inputs_of(described["inputs"]))
        return model
    cls: Any = Model
    kind = Layer
    if described["class"] == "Sequential":
        cls, kind = Sequential, SequentialLayer
    if not isinstance(body_of(layer), kind):
        raise ValueError(f"expected a {kind.__name__} in it, received {layer!r}")
    inputs = description.inputs_of(described["inputs"])
    return without_arrays(united(layer), inputs, described["name"], cls)


def without_arrays(
    layer: Layer, inputs: Tree, name: str, cls: type[Model] = Model
) -> Model:
    """A model with shapes as its weights, to be loaded: nothing is drawn or allocated.

    >>> model = without_arrays(fnn.layers.Dense(2), fnn.Input((3,)), "model")
    >>> model.params["kernel"].shape
    (3, 2)
    """
    model = cls.__new__(cls)
    model._set_up(layer, inputs, name)
    weights = model._weights
    weights.start_from(*weights.network.weight_specs)
    return model


def model_of(network: KerasNetwork, draw: bool = True) -> Any:
    """The model of a network that Keras's config describes.

    Without `draw` it has the shapes of its weights alone: nothing is drawn or allocated.
    """
    if network.made is not None:
        model = network.made
        if network.build_config and not model.built:
            model.build_from_config(network.build_config)
        return model
    assert network.layer is not None  # of a row or a graph
    cls: type[Model] = Model
    if network.kind == "Sequential":
        cls = Sequential
    name = network.name or snake_case(cls.__name__)
    if network.inputs is not None and not draw:
        return without_arrays(network.layer, network.inputs, name, cls)
    model = cls.__new__(cls)
    model._set_up(network.layer, network.inputs, name)
    if network.inputs is not None:
        _check_memory(model)
        model._weights.build()
    return model


def _check_memory(model: Model) -> None:
    """Raises ValueError for weights that no allocation could hold, before one is drawn."""
    needed = tree.nbytes(model._weights.network.weight_specs)
    most = memory()
    if needed > most:
        raise ValueError(
            f"expected weights that fit into the memory of this machine ({most} bytes), received "
            f"a network with {needed} bytes of them"
        )


formats.FNN.load_model = _load
