"""Features: how one column of a table is encoded, and how several are crossed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

from fnn.core.config import Configurable
from fnn.core.fields import one_of, positive
from fnn.core.layer import Layer
from fnn.layers import (
    CategoryEncoding,
    Discretization,
    HashedCrossing,
    Hashing,
    Identity,
    IntegerLookup,
    Normalization,
    Rescaling,
    StringLookup,
)

Number: TypeAlias = float


class Feature(Configurable):
    """A column: the dtype of its values, the layer that prepares them, and how they come out.

    `output_mode` is "one_hot" for a layer that returns integers, "int" or "float" to leave the
    outputs of the layer as they are.
    """

    kind: ClassVar[str] = "feature"

    dtype: str
    preprocessor: Layer
    output_mode: str = one_of(("int", "one_hot", "float"))


class Cross(Configurable):
    """Several columns, whose combinations are hashed into `crossing_dim` bins."""

    kind: ClassVar[str] = "feature"

    feature_names: tuple[str, ...]
    crossing_dim: int = positive()
    output_mode: str = one_of(("int", "one_hot"), default="one_hot")

    @property
    def name(self) -> str:
        """The names of the columns, joined by `_X_`."""
        return "_X_".join(self.feature_names)


def number_of_bins(layer: Layer) -> int | None:
    """The number of different integers that a layer returns; None if it is not known."""
    if isinstance(layer, (IntegerLookup, StringLookup)):
        return layer.vocabulary_size()
    if isinstance(layer, Discretization):
        # As in Keras: bins beyond those that were learned stay empty.
        return layer.num_bins or len(layer.bin_boundaries or ()) + 1
    if isinstance(layer, (HashedCrossing, Hashing)):
        return layer.num_bins
    if isinstance(layer, CategoryEncoding):
        return layer.num_tokens
    return None


class Kinds:
    """The class methods of `FeatureSpace` that describe a feature or a cross."""

    @classmethod
    def cross(
        cls,
        feature_names: Sequence[str],
        crossing_dim: int,
        output_mode: str = "one_hot",
    ) -> Cross:
        """Combinations of the values of several features, hashed into `crossing_dim` bins."""
        return Cross(tuple(feature_names), crossing_dim, output_mode)

    @classmethod
    def feature(cls, dtype: str, preprocessor: Layer, output_mode: str) -> Feature:
        """A feature with a layer of the user."""
        return Feature(dtype, preprocessor, output_mode)

    @classmethod
    def float(cls, name: str | None = None) -> Feature:
        """Numbers as they are."""
        return Feature("float32", Identity(name=_named(name)), "float")

    @classmethod
    def float_rescaled(
        cls,
        scale: Number = 1.0,
        offset: Number = 0.0,
        name: str | None = None,
    ) -> Feature:
        """Numbers times `scale` plus `offset`."""
        layer = Rescaling(scale, offset, name=_named(name))
        return Feature("float32", layer, "float")

    @classmethod
    def float_normalized(cls, name: str | None = None) -> Feature:
        """Numbers shifted and scaled to mean 0 and variance 1 over the data of `adapt`."""
        return Feature("float32", Normalization(name=_named(name)), "float")

    @classmethod
    def float_discretized(
        cls,
        num_bins: int | None,
        bin_boundaries: Sequence[Number] | None = None,
        output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:
        """Numbers to the index of a bin: of `num_bins` learned ones, or between the boundaries."""
        boundaries = None
        if bin_boundaries is not None:
            boundaries, num_bins = tuple(bin_boundaries), None
        layer = Discretization(boundaries, num_bins, name=_named(name))
        return Feature("float32", layer, output_mode)

    @classmethod
    def integer_categorical(
        cls,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:
        """Integers to their index among those in the data of `adapt`."""
        layer = IntegerLookup(
            max_tokens=max_tokens, num_oov_indices=num_oov_indices, name=_named(name)
        )
        return Feature("int32", layer, output_mode)

    @classmethod
    def string_categorical(
        cls,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:
        """Strings to their index among those in the data of `adapt`."""
        layer = StringLookup(
            max_tokens=max_tokens, num_oov_indices=num_oov_indices, name=_named(name)
        )
        return Feature("string", layer, output_mode)

    @classmethod
    def string_hashed(
        cls,
        num_bins: int,
        output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:
        """Strings to one of `num_bins` bins by their hash."""
        return Feature("string", Hashing(num_bins, name=_named(name)), output_mode)

    @classmethod
    def integer_hashed(
        cls,
        num_bins: int,
        output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:
        """Integers to one of `num_bins` bins by their hash."""
        return Feature("int32", Hashing(num_bins, name=_named(name)), output_mode)


def _named(name: str | None) -> Any:
    if name is None:
        return None
    return f"{name}_preprocessor"
