"""Loading: the model that a file describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fnn.core.config import from_config
from fnn.core.layer import Layer
from fnn.layers.sequential import Sequential as SequentialLayer
from fnn.models.model import Model
from fnn.models.sequential import Sequential
from fnn.saving import archive, description


def load(
    path: Any, custom_objects: Mapping[str, Any] | None = None, compile: bool = True
) -> Any:
    """The model that `model.save(path)` wrote, compiled as it was if all of that has names.

    Only names of fnn, registered names (`fnn.register`) and names in `custom_objects` are looked
    up; nothing is imported and nothing in the file is executed. Every byte is checked before a
    weight is used, and the weights must fit the network before memory is allocated for them.
    Raises FileError, a ValueError, for a file that is damaged, newer than this version, not
    written by fnn, or whose network cannot be made, for instance because a name is unknown.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))])
    >>> model.save("model.fnn")
    >>> again, x = fnn.load("model.fnn"), np.ones((3, 2), "float32")
    >>> bool((again.predict(x, verbose=0) == model.predict(x, verbose=0)).all())
    True
    """
    with archive.opened(path) as saved:
        described = saved.config
        with archive.refused(path, archive.unmakeable):
            model = _make(described, custom_objects)
        archive.assign(model, saved.weights(model.train_state))
        if compile and described["compile"] is not None:
            with archive.refused(path, archive.unmakeable):
                arguments = {
                    name: description.from_plain(value, custom_objects)
                    for name, value in described["compile"].items()
                }
                model.compile(**arguments)
    return model


def _make(described: dict[str, Any], custom: Mapping[str, Any] | None) -> Any:
    """The model of a description, with shapes as its weights: nothing is drawn or allocated."""
    description.check(described)
    layer = from_config(described["layer"], custom)
    cls, kind = (
        (Sequential, SequentialLayer)
        if described["class"] == "Sequential"
        else (Model, Layer)
    )
    if not isinstance(layer, kind):
        raise ValueError(f"expected a {kind.__name__} in it, received {layer!r}")
    model = cls.__new__(cls)
    model._set_up(layer, description.inputs_of(described["inputs"]), described["name"])
    weights = model._weights
    weights.start_from(*weights.network.weight_specs)
    return model
