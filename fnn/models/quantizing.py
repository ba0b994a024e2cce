"""Quantizing: the weights of a trained model stored in eight bits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from fnn.core.calling import walk
from fnn.core.layer import Layer
from fnn.layers.dense import Dense
from fnn.layers.einsum import EinsumDense
from fnn.layers.embedding import Embedding
from fnn.layers.quantized import Quantized
from fnn.models.weights import Weights
from fnn.quantizers import Int8QuantizationConfig

# A regular expression of paths, several of them, or a function of a layer; None: all layers.
Filters: TypeAlias = str | Iterable[str] | Callable[[Layer], bool] | None


def quantize(weights: Weights, mode: str | None, config: Any, filters: Filters) -> None:
    """Replaces the network by a `Quantized` one, and the weights by those in eight bits."""
    config = _config_of(mode, config)
    _check(weights)
    layer = weights.network.layer
    paths = _chosen(layer, filters)
    quantized = Quantized(
        layer,
        int8_inputs=config.activation_quantizer is not None,
        paths=None if filters is None else paths,
    ).replace(name=layer.own_name, dtype=layer.dtype)
    now = weights.now
    weights.network = weights.network.with_layer(quantized)
    params = quantized.quantize(now.params)
    weights.now = now.replace(params=params, optimizer=None)


def _config_of(mode: str | None, config: Any) -> Int8QuantizationConfig:
    """The configuration; raises ValueError for another mode than int8."""
    if config is None and mode == "int8":
        return Int8QuantizationConfig()
    if not isinstance(config, Int8QuantizationConfig) or mode not in (None, "int8"):
        raise ValueError(
            f'quantize: mode must be "int8", got mode={mode!r} and config={config!r}; call '
            'model.quantize("int8")'
        )
    return config


def _check(weights: Weights) -> None:
    weights.now  # noqa: B018 - raises while there are no weights
    name, whole = weights.network.name, weights.network.layer
    if any(isinstance(layer, Quantized) for _, layer, _ in walk(whole)):
        raise ValueError(f"quantize: the model {name!r} is quantized already")
    if hasattr(whole, "subject"):
        raise ValueError(
            f"quantize: the model {name!r} is a class with call, which is not supported; build a "
            "Sequential or functional model of its layers"
        )
    if weights.shares or weights.followers:
        raise ValueError(
            f"quantize: the model {name!r} shares weights with another model; quantize a copy of "
            "it"
        )


def _chosen(layer: Layer, filters: Filters) -> tuple[str, ...]:
    """The paths of the layers to quantize; raises ValueError if there are none."""
    if isinstance(filters, str):
        filters = [filters]
    known, chosen = [], []
    for path, inner, _ in walk(layer):
        if type(inner) not in (Dense, EinsumDense, Embedding):
            continue
        name = "/".join(path)
        known.append(name)
        if filters is None or _matches(filters, name, inner):
            chosen.append(name)
    if not chosen:
        raise ValueError(
            "quantize: expected a Dense, EinsumDense or Embedding that the filters select, "
            f"received filters={filters!r} for the layers {known}"
        )
    return tuple(chosen)


def _matches(
    filters: Iterable[str] | Callable[[Layer], bool],
    path: str,
    layer: Layer,
) -> bool:
    if callable(filters):
        return bool(filters(layer))
    return any(re.search(pattern, path) for pattern in filters)
