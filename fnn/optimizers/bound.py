"""Bound: the optimizer of a model, with the learning rate and step count that the model holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, Self

import jax
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

Number = float | np.generic | np.ndarray | jax.Array


class LiveNumber(NDArrayOperatorsMixin):
    """A number that a model holds: always the one of now, and `assign` changes it.

    What Keras's callbacks expect of `optimizer.learning_rate`: `float(rate)`, `rate * 0.5`,
    `rate.numpy()`, `rate.assign(0.01)`.

    >>> held = {"rate": 0.5}
    >>> rate = LiveNumber(lambda: held["rate"], lambda value: held.update(rate=value))
    >>> rate.assign(rate * 0.5)
    >>> float(rate), f"{rate:.3f}"
    (0.25, '0.250')
    """

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self._read, self._write = read, write

    def assign(self, value: Number) -> None:
        """Sets the number, from the next step on."""
        self._write(value)

    def numpy(self) -> Any:
        """The number now, as a NumPy scalar."""
        return np.asarray(self._read())[()]

    def as_value(self) -> Any:
        """The number now, as a plain one."""
        return self.numpy().item()

    value = property(numpy, doc="The number now, as a NumPy scalar.")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._read(), dtype)

    def __jax_array__(self) -> jax.Array:
        return jax.numpy.asarray(self._read())

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, **named: Any
    ) -> Any:
        if any(isinstance(target, LiveNumber) for target in named.get("out", ())):
            del named[
                "out"
            ]  # `rate *= 0.5` makes a plain number, which the assignment then sets
        plain = [i.numpy() if isinstance(i, LiveNumber) else i for i in inputs]
        return getattr(ufunc, method)(*plain, **named)

    def __float__(self) -> float:
        return float(self.numpy())

    def __int__(self) -> int:
        return int(self.numpy())

    def __bool__(self) -> bool:
        return bool(self.numpy())

    def __format__(self, spec: str) -> str:
        return format(self.as_value(), spec)

    def __repr__(self) -> str:
        return repr(self.as_value())

    def __reduce__(self) -> Any:
        return type(self.as_value()), (self.as_value(),)  # a copy is the number alone


class LiveRates(dict[str, Any]):
    """The learning rates of `ByPath` by pattern, as they were when read; assigning one sets it.

    >>> held = {"**": 0.5}
    >>> rates = LiveRates(held, held.update)
    >>> rates["**"] *= 0.5
    >>> held, rates
    ({'**': 0.25}, {'**': 0.25})
    """

    def __init__(
        self, rates: dict[str, Any], write: Callable[[dict[str, Any]], Any]
    ) -> None:
        super().__init__(rates)
        self._write = write

    def __setitem__(self, name: str, value: Number) -> None:
        self._write({name: value})
        super().__setitem__(name, value)

    update = MutableMapping.update  # which assigns each; that of dict would not

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def __reduce__(self) -> Any:
        return dict, (dict(self),)  # a copy is the numbers alone


def _flat(rates: LiveRates) -> Any:
    names = sorted(rates)  # in the order that dicts have in JAX
    return [(jax.tree_util.DictKey(name), rates[name]) for name in names], tuple(names)


def _dict(names: Any, rates: Any) -> Any:
    return dict(zip(names, rates, strict=True))


jax.tree_util.register_pytree_with_keys(
    LiveRates, _flat, _dict
)  # to JAX it is a dict too


def plain(value: Any) -> Any:
    """A live number as the number of now, in dicts too; anything else as it is."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value.as_value() if isinstance(value, LiveNumber) else value


class BoundOptimizer:
    """The optimizer of a model: the value it was compiled with, and the rate that the model holds.

    It stands wherever the value does (a `compile`, `optax.chain`), is equal to it and an instance
    of its class. `learning_rate` is that of the next step and can be set, without compiling anew;
    `compile(model.optimizer)`, `replace`, `get_config` and copies keep it. `iterations` is the
    number of steps. `compile` of the same model keeps those too, and moments. Everything else is
    the value's and stays as it is.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))])
    >>> model.compile(fnn.optimizers.SGD(0.5), "mse")
    >>> model.optimizer.learning_rate = 0.25
    >>> float(model.optimizer.learning_rate), model.optimizer == fnn.optimizers.SGD(0.5)
    (0.25, True)
    """

    __slots__ = ("_model", "_optimizer")

    def __init__(self, optimizer: Any, model: Any) -> None:
        object.__setattr__(self, "_optimizer", optimizer)
        object.__setattr__(self, "_model", model)

    def as_value(self) -> Any:
        """The value alone, which no model holds, with the learning rate of now if one was set."""
        return self._model.with_current_rate(self._optimizer)

    @property
    def learning_rate(self) -> Any:
        """The rate of the next step; of several rates a dict."""
        model = self._model
        now = model.learning_rate
        if now is None:
            raise AttributeError  # on which Python asks __getattr__
        if isinstance(now, dict):
            return now
        return LiveNumber(
            lambda: model.learning_rate,
            lambda value: setattr(model, "learning_rate", value),
        )

    @property
    def iterations(self) -> LiveNumber:
        """How many steps it has made; of optax's optimizers the model."""
        model = self._model

        def refuse(value: Any) -> None:
            raise AttributeError(
                "the number of steps is counted by training; assign model.train_state to go on "
                "from another state"
            )

        return LiveNumber(model.iterations, refuse)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._optimizer)

    def __getattr__(self, name: str) -> Any:
        if name == "learning_rate":
            raise AttributeError(
                "this optimizer does not tell its learning rate; compile with one of "
                "fnn.optimizers, or with optax.inject_hyperparams(optax.sgd)(0.1)"
            )
        tells_rate = name in ("replace", "get_config")
        return getattr(self.as_value() if tells_rate else self._optimizer, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "learning_rate":
            known = name in getattr(type(self._optimizer), "__dataclass_fields__", ())
            kept = (
                f"model.optimizer.replace({name}={value!r})"
                if known
                else "another optimizer"
            )
            raise dataclasses.FrozenInstanceError(
                f"the {name} of an optimizer is compiled into the step; call "
                f"model.compile({kept}, loss=...) to change it"
            )
        self._model.learning_rate = value

    def __eq__(self, other: object) -> bool:
        compiled = other._optimizer if type(other) is BoundOptimizer else other
        return bool(self._optimizer == compiled)

    def __hash__(self) -> int:
        return hash(self._optimizer)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._optimizer)

    def __repr__(self) -> str:
        return repr(self._optimizer)

    def __reduce__(self) -> Any:
        return unbound, (self.as_value(),)  # a copy is the value alone


def is_bound(optimizer: Any, model: Any) -> bool:
    """Whether this is the optimizer of that model, which was not compiled with another since."""
    if type(optimizer) is not BoundOptimizer or optimizer._model is not model:
        return False
    return bool(model.is_compiled_with(optimizer._optimizer))


def unbound(optimizer: Any) -> Any:
    """The value of an optimizer that may be a model's; anything else as it is."""
    return optimizer.as_value() if type(optimizer) is BoundOptimizer else optimizer
