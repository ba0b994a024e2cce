"""Described: layers in Keras's way in files and in Keras's form, by get_config and from_config."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from fnn.core.config import (
    deserialize_keras_object,
    serialize_keras_object,
)
from fnn.core.layer import Layer
from fnn.subclassing.copies import ties_in, unite
from fnn.subclassing.methods import Methods
from fnn.subclassing.signature import Form


class Described:
    """The configuration of a layer in Keras's way: the arguments of its constructor."""

    # The class that computes, for a subclass of a layer with an `apply` of its own.
    _native: ClassVar[type[Layer] | None] = None
    # The arguments of the call, if they are not the inputs alone; of each object.
    _form: ClassVar[Form | None] = None

    rebuilds: ClassVar[bool] = True

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor, as in Keras; `from_config` makes an equal layer.

        In a class that overrides it, `super().get_config()` has those of the base: add your own.
        """
        config: dict[str, Any] = super().get_config()  # type: ignore[misc]
        own = {"name", "trainable", "dtype"}
        if self._native is None:
            config = {name: item for name, item in config.items() if name in own}
        if type(self).get_config is Described.get_config:
            config |= given_arguments(type(self), *vars(self)["_given"])
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The layer that `get_config` described.

        A constructor without `**kwargs` is called without `name`, `trainable` and `dtype`.
        """
        given, later = arguments_of(cls, config)
        made = cls(**given)
        vars(made).update(**later)
        return made

    def file_config(self) -> dict[str, Any]:
        """`get_config`, the form of the call in a graph, and which layers inside are one."""
        config = self.get_config()
        if self._form is not None:
            config["call_form"] = self._form
        if _says_build(type(self)):
            config["build_config"] = self.get_build_config()  # type: ignore[attr-defined]
        ties = ties_in(self)
        if ties:
            config["one_layer_at"] = ties
        return config

    @classmethod
    def from_file_config(cls, config: dict[str, Any]) -> Self:
        """The layer that `file_config` described. Raises ValueError for other arguments."""
        form = config.pop("call_form", None)
        build_config = config.pop("build_config", None)
        places = config.pop("one_layer_at", ())
        try:
            made = cls.from_config(config)
        except TypeError as error:
            raise ValueError(
                f"expected the arguments of {cls.__name__}, received {sorted(config)}: {error}"
            ) from error
        vars(made)["_form"] = form
        if build_config is not None and _says_build(cls):
            made.build_from_config(build_config)  # type: ignore[attr-defined]
        unite(made, places)
        return made


def _says_build(cls: Any) -> bool:
    """Whether a class has its own way to describe how it is built."""
    return cls.get_build_config is not Methods.get_build_config


def given_arguments(
    cls: Any, given: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, Any]:
    """The arguments with which an object of a class was made, by name, in Keras's form."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    by_name = dict(zip(names[1:], given, strict=False)) | named
    return {name: serialize_keras_object(item) for name, item in by_name.items()}


def arguments_of(
    cls: Any, config: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(arguments for the constructor of a class, those that it does not take) of a config."""
    given = {name: deserialize_keras_object(item) for name, item in config.items()}
    parameters = inspect.signature(cls.__init__).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    later: dict[str, Any] = {}
    for name in ("name", "trainable", "dtype"):
        if name in given and not takes_any and name not in parameters:
            later[name] = given.pop(name)
    return given, later
