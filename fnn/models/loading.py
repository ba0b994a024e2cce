"""Loading: the model that a file describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fnn.core.calling import weight_spec
from fnn.core.config import from_config
from fnn.models.model import Model
from fnn.models.sequential import Sequential
from fnn.models.weighted import Weighted
from fnn.saving import archive


def load(path: Any, custom_objects: Mapping[str, Any] | None = None, compile: bool = True) -> Any:
    """The model that `model.save(path)` wrote, compiled as it was if all of that has names.

    Only names that fnn knows, that were registered (`fnn.register`) or that `custom_objects` has
    are looked up; nothing is imported, nothing in the file is executed. Every byte is checked
    before a weight is used. Raises FileError for a file that is damaged, newer or not by fnn,
    ValueError for a name that is not known.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))])
    >>> model.save("model.fnn")
    >>> again, x = fnn.load("model.fnn"), np.ones((3, 2), "float32")
    >>> bool((again.predict(x, verbose=0) == model.predict(x, verbose=0)).all())
    True
    """
    config, weights = archive.read(path)
    try:
        layer = from_config(config["layer"], custom_objects)
        cls = Sequential if config["class"] == "Sequential" else Model
        model: Any = cls.__new__(cls)
        Weighted.__init__(model, layer)  # the layer as it is, and no weights drawn yet
        model.name, model._inputs = config["name"], archive.inputs_of(config["inputs"])
    except (KeyError, AttributeError, RecursionError) as error:
        raise archive.FileError(
            archive.damaged(path, f"its description ends in {type(error).__name__}")
        ) from None
    model._start_from(*weight_spec(layer, model._trial()))
    archive.assign(model, weights, path)
    if compile and config["compile"] is not None:
        arguments = {n: archive.from_plain(v, custom_objects) for n, v in config["compile"].items()}
        model.compile(**arguments)
    return model
