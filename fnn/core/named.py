"""Named: values that have a name, Keras's where none is given, and a config by fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Self

from fnn.core.calling import snake_case
from fnn.core.config import from_config, to_config
from fnn.core.registry import misplaced
from fnn.core.value import Value


class Named(Value, loadable=False):
    """A loss, metric or optimizer: `name` is that of its class in Keras unless another is given.

    That is the class in snake case, or what the class has as its attribute `name`. A name given
    that is the default anyway changes nothing: the values are equal and printed alike.

    >>> class MeanGap(Named):
    ...     power: float = 1.0
    >>> MeanGap().name, MeanGap(2.0, name="mine"), MeanGap(name="mean_gap") == MeanGap()
    ('mean_gap', MeanGap(name='mine', power=2.0), True)
    """

    name: str | None = field(default=None, kw_only=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if vars(cls).get("name") is None:
            cls.name = snake_case(cls.__name__)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name:
            object.__setattr__(self, "name", self.default_name)

    @property
    def default_name(self) -> str:
        """The name where none is given."""
        return str(type(self).name)

    def _defaults(self) -> dict[str, Any]:
        return {**super()._defaults(), "name": self.default_name}

    def get_config(self) -> dict[str, Any]:
        """The fields as plain data, as in Keras: `type(value).from_config(config)` reads them.

        Raises ValueError for a function that has no registered name.
        """
        return {n: to_config(value) for n, value in vars(self).items() if n[0] != "_"}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The value that `get_config` described."""
        return cls(**{name: from_config(value) for name, value in config.items()})


def function_name(function: Any) -> str:
    """Keras's name for a function that stands for a loss or metric.

    >>> function_name(jnp.abs), function_name(lambda y_true, y_pred: y_pred)
    ('abs', 'lambda')
    """
    own = getattr(function, "name", None)
    known = getattr(function, "__name__", None) or type(function).__name__
    return own if isinstance(own, str) else snake_case(re.sub(r"\W", "", known))


def of_kind(kind: str, given: Any, *others: str) -> Any:
    """`given`, unless it is a value of a kind that is not among these: TypeError.

    >>> of_kind("loss", jnp.abs) is jnp.abs  # a function may be one
    True
    """
    if isinstance(given, Value) and given.kind not in (kind, "value", *others):
        raise TypeError(misplaced(kind, given.kind, given))
    return given
