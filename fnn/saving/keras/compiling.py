"""Compiling: the arguments of `compile` in Keras's configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fnn.core.config import deserialize_keras_object, serialize_keras_object
from fnn.core.registry import TABLE, CustomObjectScope
from fnn.runtime.keras_objects import MODULES
from fnn.schedules import InverseTimeDecay

_ARGUMENTS = ("optimizer", "loss", "loss_weights", "metrics", "weighted_metrics")
_KINDS = {"optimizer": "optimizer", "loss": "loss"}
_KINDS |= {"metrics": "metric", "weighted_metrics": "metric"}
# Arguments of fnn alone, and their defaults, at which they are left out.
_OWN = {
    "guard": "raise",
    "checks": True,
    "objective": None,
    "remat": (),
    "max_compiles": None,
}
# Arguments of Keras 2's optimizers that had no effect on the numbers.
_DROPPED = ("is_legacy_optimizer", "jit_compile", "decay", "lr")


def compile_to_keras(arguments: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Arguments of `compile` as a `compile_config`; None before `compile`.

    Raises ValueError for a function without a registered name.
    """
    if arguments is None:
        return None
    own = {name for name, default in _OWN.items() if arguments[name] != default}
    return {
        name: serialize_keras_object(value)
        for name, value in arguments.items()
        if name in _ARGUMENTS or name in own
    }


def compile_from_keras(
    config: Mapping[str, Any] | None,
    custom_objects: Mapping[str, object] | None = None,
) -> dict[str, Any] | None:
    """The arguments of `compile` in a `compile_config`, or in the `training_config` of a `.h5`.

    None if the model was not compiled. Raises ValueError for unknown names.
    """
    if not config:
        return None
    given = dict(config)
    if "optimizer_config" in given:
        given["optimizer"] = given["optimizer_config"]
    known = {name: given[name] for name in (*_ARGUMENTS, *_OWN) if name in given}
    with CustomObjectScope(custom_objects):
        return {name: _read(name, value) for name, value in known.items()}


def _read(argument: str, value: Any) -> Any:
    if argument == "optimizer":
        value = _optimizer(value)
    try:
        return deserialize_keras_object(_of_kind(_KINDS.get(argument), _goals(value)))
    except ValueError as error:
        raise ValueError(
            f"{error}; it is the {argument} of compile, which compile=False leaves out"
        ) from error


def _of_kind(kind: str | None, value: Any) -> Any:
    """Objects that fnn does not have with the module of `kind`, so that errors name it."""
    if isinstance(value, (list, tuple)):
        return [_of_kind(kind, item) for item in value]
    if not isinstance(value, dict) or kind is None:
        return value
    if "class_name" not in value:
        return {name: _of_kind(kind, item) for name, item in value.items()}
    name = value["class_name"]
    if name == "function":
        name = value.get("config")
    if any((other, name) in TABLE for other in MODULES):
        return value
    return {**value, "module": MODULES[kind]}


def _optimizer(value: Any) -> Any:
    """The config of an optimizer, with the names of Keras 3."""
    config = value.get("config") if isinstance(value, dict) else None
    if not isinstance(config, dict):
        return value
    new = {name: item for name, item in config.items() if name not in _DROPPED}
    if "lr" in config:
        new["learning_rate"] = config["lr"]
    if config.get("decay"):
        rate, decay = new["learning_rate"], config["decay"]
        new["learning_rate"] = InverseTimeDecay(rate, 1, decay)
    name = str(value.get("class_name")).removeprefix("Custom>")
    return {**value, "class_name": name, "config": new}


def _goals(value: Any) -> Any:
    """Losses and metrics, with those of Keras 2 that wrap a function by its name."""
    if isinstance(value, (list, tuple)):
        return [_goals(item) for item in value]
    if not isinstance(value, dict):
        return value
    config = value.get("config")
    if "class_name" not in value or not isinstance(config, dict):
        return {name: _goals(item) for name, item in value.items()}
    function = config.get("fn")
    if value["class_name"] in ("MeanMetricWrapper", "LossFunctionWrapper"):
        if config.get("name") in ("accuracy", "acc", "crossentropy", "ce"):
            return config["name"]
        if isinstance(function, str):
            return function
    new = {name: item for name, item in config.items() if name != "fn"}
    if not isinstance(function, str):
        new = dict(config)
    if new.get("reduction") == "auto":
        new["reduction"] = "sum_over_batch_size"
    return {**value, "config": new}
