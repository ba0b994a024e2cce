"""Configurable: the base class of values with a config; Named: of those with a name, too."""

from __future__ import annotations

import re
from dataclasses import field
from typing import Any, TypeVar

from fnn.core.config import Configurable
from fnn.core.registry import misplaced, snake_case
from fnn.core.value import Value

T = TypeVar("T")


class Named(Configurable, loadable=False):
    """A loss, metric or optimizer: `name` is that of its class in Keras unless another is given.

    The default is the class name in snake case, or the class attribute `name`. Passing the
    default name changes nothing: the values are equal and printed alike.

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
        """The name if none is given."""
        return str(type(self).name)

    def _defaults(self) -> dict[str, object]:
        return {**super()._defaults(), "name": self.default_name}


def function_name(function: object) -> str:
    """Keras's name for a function used as a loss or metric.

    >>> function_name(jnp.abs), function_name(lambda y_true, y_pred: y_pred)
    ('abs', 'lambda')
    """
    name = getattr(function, "name", None)
    if isinstance(name, str):
        return name
    name = getattr(function, "__name__", None) or type(function).__name__
    letters = re.sub(r"\W", "", name)
    return snake_case(letters)


def of_kind(
    kind: str,
    given: T,
    *others: str,
) -> T:
    """`given`, unless it is a value of another kind: TypeError.

    >>> of_kind("loss", jnp.abs) is jnp.abs  # a function may be one
    True
    """
    if isinstance(given, Value) and given.kind not in (kind, "value", *others):
        raise TypeError(misplaced(kind, given.kind, given))
    return given
