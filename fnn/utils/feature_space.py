"""FeatureSpace: a layer that encodes the columns of a table, by a short description of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import jax
import numpy as np

from fnn.core.arguments import wrong
from fnn.core.calling import output_spec_of_child
from fnn.core.combining import Flow, Visit
from fnn.core.fields import one_of, positive
from fnn.core.layer import Layer
from fnn.core.tree import Tree, is_string
from fnn.core.value import Fields
from fnn.layers import (
    CategoryEncoding,
    Concatenate,
    Discretization,
    HashedCrossing,
    Normalization,
)
from fnn.models.loading import load
from fnn.models.model import Model
from fnn.preprocessing.adapting import Adapting
from fnn.preprocessing.strings import as_host
from fnn.preprocessing.vocabularied import Vocabularied
from fnn.symbolic.node import Input, Node
from fnn.utils.features import Cross, Feature, Kinds, number_of_bins

BATCH = 32  # examples to learn from at a time, if the data is not in batches


class FeatureSpace(Kinds, Flow):
    """Columns of a table as vectors: each column is encoded by a layer, crosses of them by hashes.

    `features` maps names to "float", "float_rescaled", "float_normalized", "float_discretized",
    "integer_categorical", "string_categorical", "integer_hashed", "string_hashed", or to what the
    class methods of these names return. `crosses` are tuples of names or `FeatureSpace.cross(...)`.
    `output_mode="concat"` gives one vector an example, the features in the order of their names,
    then the crosses; "dict" gives an array for each. `preprocessors` and `crossers` are the layers.

    Call `adapt` before use. It is called on a dict of columns (batch,) or (batch, 1), or of single
    values; in a model it is a layer that takes `get_inputs()`: `get_encoded_features()` are its
    outputs, and strings are encoded ahead of the compiled part. In a `map` of `tf.data` it
    cannot run. Raises ValueError for unknown kinds and columns, and before `adapt`.

    >>> space = FeatureSpace({"age": "float_normalized", "city": "string_categorical"})
    >>> space.adapt({"age": [20.0, 40.0], "city": ["Rome", "Oslo"]})
    >>> space({"age": [30.0, 50.0], "city": ["Oslo", "Bonn"]}).tolist()
    [[0.0, 0.0, 0.0, 1.0], [2.0, 1.0, 0.0, 0.0]]
    >>> outputs = fnn.layers.Dense(1)(space.get_encoded_features())
    >>> fnn.Model(space.get_inputs(), outputs).output_shape
    (None, 1)
    """

    input_rules = (lambda self, x: self._check_inputs(x),)

    features: Any
    output_mode: str = one_of(("concat", "dict"), default="concat")
    crosses: Any = None
    crossing_dim: int = positive(default=32)
    hashing_dim: int = positive(default=32)
    num_discretization_bins: int = positive(default=32)

    def validate(self) -> None:
        if not isinstance(self.features, Fields) or not self.features.items:
            expected = "to be a dict from names to kinds of features"
            raise wrong(self, "features", expected, self.features)
        held = vars(self)
        features = self.features.as_dict()
        pairs = tuple((name, self._feature(kind)) for name, kind in features.items())
        held["features"] = Fields(pairs)
        held["crosses"] = tuple(self._cross(given) for given in self.crosses or ())
        for name, feature in self._described().items():
            if feature.output_mode == "int" and self.output_mode == "concat":
                raise ValueError(
                    f"FeatureSpace: expected features that are encoded, received {name!r} with "
                    'output_mode="int"; pass output_mode="dict" to the FeatureSpace'
                )
            layer = self._layers()[name]
            if feature.output_mode == "one_hot" and number_of_bins(layer) is None:
                raise ValueError(
                    f"FeatureSpace: expected a layer with a known number of integers for "
                    f'{name!r}, received {layer!r}; pass output_mode="int" or "float" for it'
                )

    def _feature(self, kind: Any) -> Feature:
        """A feature, or the one that the name of a kind stands for."""
        if isinstance(kind, Feature):
            return kind
        sizes = {
            "float": (),
            "float_rescaled": (),
            "float_normalized": (),
            "float_discretized": (self.num_discretization_bins,),
            "integer_categorical": (),
            "string_categorical": (),
            "integer_hashed": (self.hashing_dim,),
            "string_hashed": (self.hashing_dim,),
        }
        if kind not in sizes:
            expected = f"to have kinds out of {', '.join(sizes)}"
            raise wrong(self, "features", expected, kind)
        made: Feature = getattr(self, kind)(*sizes[kind])
        return made

    def _cross(self, given: Any) -> Cross:
        cross: Cross = given
        if not isinstance(given, Cross):
            cross = Cross(tuple(given), self.crossing_dim)
        unknown = set(cross.feature_names) - set(self.features.as_dict())
        if unknown:
            expected = f"to name features, not {sorted(unknown)}"
            raise wrong(self, "crosses", expected, given)
        return cross

    # -- the layers ------------------------------------------------------------------------------

    @property
    def preprocessors(self) -> dict[str, Layer]:
        """The layer of each feature."""
        return {name: one.preprocessor for name, one in self.features.items}

    @property
    def crossers(self) -> dict[str, Layer]:
        """The `HashedCrossing` of each cross, by `name_X_name`."""
        known: dict[str, Layer] = vars(self).setdefault("_fnn_crossers", {})
        for cross in self.crosses:
            if cross.name not in known:
                known[cross.name] = HashedCrossing(cross.crossing_dim, name=cross.name)
        return dict(known)

    def _described(self) -> dict[str, Feature | Cross]:
        """Features and crosses by name, in the order of the outputs."""
        features = dict(sorted(self.features.items))
        crosses = {cross.name: cross for cross in self.crosses}
        return features | dict(sorted(crosses.items()))

    def _layers(self) -> dict[str, Layer]:
        return self.preprocessors | self.crossers

    def _encoders(self) -> dict[str, Layer]:
        """The layers that encode integers as vectors; their sizes are learned."""
        known = vars(self).setdefault("_fnn_encoders", {})
        encoders = {}
        for name, feature in self._described().items():
            if feature.output_mode == "one_hot":
                bins = number_of_bins(self._layers()[name])
                encoder = known.get((name, bins)) or CategoryEncoding(bins)
                known[name, bins] = encoders[name] = encoder
        return encoders

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        found = [(f"{name}_preprocessor", one) for name, one in self._layers().items()]
        found += [(f"{name}_encoder", one) for name, one in self._encoders().items()]
        if self.output_mode == "concat":
            found.append(("concatenate", self._concatenate))
        return tuple(found)

    @property
    def _concatenate(self) -> Layer:
        made: Layer = vars(self).setdefault("_fnn_concatenate", Concatenate())
        return made

    def flow(self, x: Tree, visit: Visit) -> Tree:
        found = {}
        for name, layer in self.preprocessors.items():
            found[name] = visit(f"{name}_preprocessor", layer, x[name])
        for cross in self.crosses:
            crossed = tuple(found[name] for name in cross.feature_names)
            layer = self.crossers[cross.name]
            found[cross.name] = visit(f"{cross.name}_preprocessor", layer, crossed)
        for name, layer in self._encoders().items():
            found[name] = visit(f"{name}_encoder", layer, found[name])
        ordered = {name: found[name] for name in self._described()}
        if self.output_mode == "dict":
            return ordered
        if len(ordered) == 1:
            return next(iter(ordered.values()))
        return visit("concatenate", self._concatenate, tuple(ordered.values()))

    def _check_inputs(self, x: Tree) -> None:
        """Raises ValueError for missing columns, and features that are no part of a vector."""
        self._check_columns(x)
        for name, feature in self.features.items:
            if feature.output_mode == "float" and self.output_mode == "concat":
                made = output_spec_of_child(name, feature.preprocessor, x[name])
                if is_string(made.dtype) or made.dtype.kind in "iub":
                    raise ValueError(
                        f"FeatureSpace: expected floats from the layer of {name!r} to "
                        f'concatenate, received {made.dtype}; pass output_mode="dict" to the '
                        "FeatureSpace"
                    )

    def _check_columns(self, data: Any) -> None:
        """Raises ValueError unless there is a column for each feature."""
        missing = [name for name in self.preprocessors if name not in data]
        if missing:
            raise ValueError(
                f"FeatureSpace: expected a dict with the columns {list(self.preprocessors)}, "
                f"received it without {missing}; add them to the data"
            )

    # -- learning --------------------------------------------------------------------------------

    def adapt(self, dataset: Any) -> None:
        """Lets the layers learn from a dict of columns, a frame, or a stream of dicts.

        The dicts of a stream are batches or single examples, also in `(x, y)`. Data that is not in
        batches is taken 32 examples at a time, on which learned bins depend a little.
        """
        learning = self._learning()
        for layer in learning.values():
            layer.reset_state()
        batch = None
        for batch in self._batches(dataset):
            self._check_columns(batch)
            for name, layer in learning.items():
                layer.update_state(self._column(name, batch[name]))
        if batch is None:
            raise ValueError(
                "FeatureSpace: expected data to learn from, received no batch; check the source"
            )
        for layer in learning.values():
            layer.finalize_state()
        vars(self).pop("_fnn_encoded", None)

    def _learning(self) -> dict[str, Adapting]:
        """The layers that learn: those that were not given what they need."""
        found = {}
        for name, layer in self.preprocessors.items():
            # The fields: as attributes they also show what was learned.
            given = [vars(layer).get(field) for field in ("mean", "vocabulary")]
            is_given = any(value is not None for value in given)
            if isinstance(layer, Discretization):
                is_given = layer.num_bins is None
            if isinstance(layer, Adapting) and not is_given:
                found[name] = layer
        return found

    def _batches(self, dataset: Any) -> Iterator[Mapping[str, Any]]:
        if _is_table(dataset):
            columns = {
                name: as_host(self, dataset[name]) for name in self._present(dataset)
            }
            length = max(map(len, columns.values()), default=0)
            for start in range(0, length, BATCH):
                stop = start + BATCH
                yield {name: column[start:stop] for name, column in columns.items()}
            return
        waiting: list[Mapping[str, Any]] = []
        for item in _items(dataset):
            if np.ndim(item[next(iter(item))]):
                yield item
                continue
            waiting.append(item)
            if len(waiting) == BATCH:
                yield _together(waiting)
                waiting = []
        if waiting:
            yield _together(waiting)

    def _present(self, data: Any) -> list[str]:
        self._check_columns(data)
        return list(self.preprocessors)

    def _check_adapted(self) -> None:
        """Raises ValueError if a layer has not learned."""
        for name, layer in self._learning().items():
            if not _has_learned(layer):
                raise ValueError(
                    f"FeatureSpace: expected a FeatureSpace that has learned from data, received "
                    f"one whose feature {name!r} has not; call feature_space.adapt(data) before"
                )

    # -- use -------------------------------------------------------------------------------------

    def get_inputs(self) -> dict[str, Node]:
        """An `Input` of shape (1,) for each feature, by name."""
        inputs: dict[str, Node] | None = vars(self).get("_fnn_inputs")
        if inputs is None:
            self._check_adapted()
            inputs = {
                name: Input((1,), dtype=feature.dtype, name=name)
                for name, feature in self.features.items
            }
            vars(self)["_fnn_inputs"] = inputs
        return inputs

    def get_encoded_features(self) -> Tree:
        """The node of the vector, or a dict of nodes, that is computed from `get_inputs()`."""
        self._check_adapted()
        if "_fnn_encoded" not in vars(self):
            vars(self)["_fnn_encoded"] = self(self.get_inputs())
        return vars(self)["_fnn_encoded"]

    def __call__(self, data: Any, **named: Any) -> Any:
        """The encoded features of a dict or frame of columns, of one example, or of nodes."""
        if not _is_table(data):
            raise TypeError(
                f"FeatureSpace: expected a dict of columns, received {type(data).__name__}; pass "
                "{name: column} with all features"
            )
        self._check_adapted()
        given = {name: data[name] for name in self._present(data)}
        if any(isinstance(column, Node) for column in given.values()):
            return super().__call__(given, **named)
        single = all(np.ndim(column) == 0 for column in given.values())
        columns = {name: self._column(name, given[name]) for name in given}
        encoded = super().__call__(columns, **named)
        if single:
            return jax.tree.map(lambda array: array[0], encoded)
        return encoded

    def _column(self, name: str, values: Any) -> Any:
        """A column as an array (batch, 1)."""
        if hasattr(values, "graph"):
            raise TypeError(
                "FeatureSpace: expected arrays, received a symbolic tensor of TensorFlow; put the "
                "FeatureSpace into the model, or call it on the batches, outside of map"
            )
        column = values
        if not isinstance(values, jax.Array):
            column = as_host(self, values)
        if column.ndim < 2:
            column = column.reshape(-1, 1)
        if (
            self.features.as_dict()[name].dtype == "float32"
            and column.dtype.kind in "iub"
        ):
            column = column.astype(np.float32)
        return column

    # -- files -----------------------------------------------------------------------------------

    def save(self, filepath: Any) -> None:
        """Writes the layers with what they learned to a file; `fnn.load` makes a model of it."""
        Model(self.get_inputs(), self.get_encoded_features()).save(filepath)

    @classmethod
    def load(cls, filepath: Any) -> Self:
        """The FeatureSpace that `save` wrote. Raises ValueError for another model."""
        model = load(filepath)
        for _, layer in model.layer.children():
            if isinstance(layer, cls):
                vars(layer)["_fnn_model"] = model  # it holds what was learned
                return layer
        raise ValueError(
            f"FeatureSpace: expected a file written by FeatureSpace.save, received {filepath!r} "
            "with another model; use fnn.load"
        )


def _is_table(data: Any) -> bool:
    """Whether this is a dict or a frame: columns by name."""
    return isinstance(data, Mapping) or hasattr(data, "columns")


def _items(dataset: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    """The dicts of a stream, without targets."""
    for item in dataset:
        if isinstance(item, (tuple, list)) and item:
            item = item[0]
        if not isinstance(item, Mapping):
            raise TypeError(
                f"FeatureSpace: expected dicts of columns from the data, received "
                f"{type(item).__name__}; give each batch as {{name: column}}"
            )
        yield item


def _together(items: list[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    return {name: np.stack([item[name] for item in items]) for name in items[0]}


def _has_learned(layer: Adapting) -> bool:
    if isinstance(layer, Vocabularied):
        return layer.learned is not None
    if isinstance(layer, Discretization):
        return layer.bin_boundaries is not None
    if isinstance(layer, Normalization):
        weights = _weights(layer)
        return bool(weights) and bool(weights[-1] > 0)
    return True


def _weights(layer: Any) -> list[np.ndarray]:
    weights: list[np.ndarray] = layer.get_weights()
    return weights
