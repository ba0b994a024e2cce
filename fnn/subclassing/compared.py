"""Compared: a layer in Keras's way as a value: what it is compared by, and its twin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from fnn.core import tying
from fnn.core.layer import Layer
from fnn.core.tying import Ties
from fnn.core.value import Known, compared_field
from fnn.core.value import separate as apart
from fnn.runtime.program_cache import changes, interned, shallow
from fnn.subclassing.tracking import (
    UNCOMPARED,
    attributes,
    compared,
    layers_in,
    separate,
)


class Compared:
    """The methods of a value, for an object that is compared by its attributes."""

    @property
    def _hosts(self) -> dict[Any, Any]:
        """The copies on which `build` has run; see `KerasLayer`."""
        raise NotImplementedError

    @property
    def _own(self) -> Any:
        """The object with the attributes; see `KerasLayer`."""
        raise NotImplementedError

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        """The layers inside; see `Layer`."""
        raise NotImplementedError

    def _counts(self, name: str, value: object) -> bool:
        """Whether an attribute matters for what is computed; see `Methods`."""
        raise NotImplementedError

    def _forget(self) -> None:
        vars(self).pop("_fnn_memory", None)
        if vars(self).pop("_fnn_seen", False):
            # What contains this layer is another value now.
            changes.note()

    def _memory(self) -> dict[str, Any]:
        """What is remembered of this value until a layer is changed in place."""
        memory: dict[str, Any] = vars(self).get("_fnn_memory", changes.NO_MEMORY)
        if memory["count"] != changes.now:
            memory = vars(self)["_fnn_memory"] = {"count": changes.now}
        return memory

    @property
    def inner_ties(self) -> Ties:
        """The places inside where one layer object stands that has weights elsewhere inside."""
        memory = self._memory()
        name = f"ties of {len(self._hosts)}"  # `build` may make layers
        if name not in memory:
            memory[name] = tying.find(self.children())
        found: Ties = memory[name]
        return found

    def _key(self) -> tuple[object, ...]:
        memory = self._memory()
        if "key" not in memory:
            vars(self)["_fnn_seen"] = True
            own = layers_in(self._own)
            memory["key"] = *self._compared(), tying.find(own.items())
        known: tuple[object, ...] = memory["key"]
        return known

    def _compared(self) -> Iterator[object]:
        """What the value is compared by, beside which layers inside are one object."""
        yield type(self)
        fields = getattr(type(self), "__dataclass_fields__", {})
        for name, value in attributes(self):
            if name in UNCOMPARED or not self._counts(name, value):
                continue
            yield name
            if name in fields:
                yield compared_field(name, value)
            else:
                yield compared(value)

    @property
    def _twin(self) -> Self:
        if "_fnn_is_twin" in vars(self):
            return self
        memory = self._memory()
        if "twin" not in memory:
            memory["twin"] = interned(self, apart)
        twin: Self = memory["twin"]
        return twin

    def _apart(self, known: Known) -> Self:
        twin = shallow(self)
        for name, value in attributes(self):
            vars(twin)[name] = separate(value, known)
        vars(twin)["_fnn_is_twin"] = True
        return twin
