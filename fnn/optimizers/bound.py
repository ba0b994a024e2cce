"""The optimizer of a model, with the learning rate and step count that the model holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any, Self, TypeAlias

import jax
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

Number = float | np.generic | np.ndarray | jax.Array
AnyOptimizer: TypeAlias = Any  # an optimizer of fnn, or an optax transformation
AnyModel: TypeAlias = Any  # a model of `fnn.models`, which this package cannot import
Child: TypeAlias = tuple[jax.tree_util.DictKey, Number]  # an entry of a dict, to JAX


class LiveNumber(NDArrayOperatorsMixin):
    """A number that a model holds: reads give its current value, `assign` changes it.

    Keras's callbacks use `optimizer.learning_rate` this way: `float(rate)`,
    `rate * 0.5`, `rate.numpy()`, `rate.assign(0.01)`.

    >>> held = {"rate": 0.5}
    >>> rate = LiveNumber(lambda: held["rate"], lambda value: held.update(rate=value))
    >>> rate.assign(rate * 0.5)
    >>> float(rate), f"{rate:.3f}"
    (0.25, '0.250')
    """

    def __init__(
        self, read: Callable[[], Number], write: Callable[[Number], None]
    ) -> None:
        self._read = read
        self._write = write

    def assign(self, value: Number) -> None:
        """Sets the number, from the next step on."""
        self._write(value)

    def numpy(self) -> Any:
        """The current value, as a NumPy scalar."""
        return np.asarray(self._read())[()]

    def as_value(self) -> Any:
        """The current value, as a Python number."""
        return self.numpy().item()

    value = property(numpy, doc="The current value, as a NumPy scalar.")

    def __array__(
        self, dtype: np.dtype | None = None, copy: bool | None = None
    ) -> np.ndarray:
        return np.asarray(self._read(), dtype)

    def __jax_array__(self) -> jax.Array:
        return jax.numpy.asarray(self._read())

    def __array_ufunc__(
        self,
        ufunc: np.ufunc,
        method: str,
        *inputs: object,
        **named: Any,
    ) -> Any:
        targets = named.get("out", ())
        if any(isinstance(target, LiveNumber) for target in targets):
            # `rate *= 0.5` computes a plain number, which the assignment then sets.
            del named["out"]
        values = []
        for operand in inputs:
            if isinstance(operand, LiveNumber):
                operand = operand.numpy()
            values.append(operand)
        return getattr(ufunc, method)(*values, **named)

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
        # A copy is a plain number: it belongs to no model.
        value = self.as_value()
        return type(value), (value,)


class LiveRates(dict[str, Any]):
    """The learning rates of `ByPath` by pattern, as last read; assigning to one sets it.

    >>> held = {"**": 0.5}
    >>> rates = LiveRates(held, held.update)
    >>> rates["**"] *= 0.5
    >>> held, rates
    ({'**': 0.25}, {'**': 0.25})
    """

    def __init__(
        self,
        rates: dict[str, Any],
        write: Callable[[dict[str, Number]], object],
    ) -> None:
        super().__init__(rates)
        self._write = write

    def __setitem__(self, name: str, value: Number) -> None:
        self._write({name: value})
        super().__setitem__(name, value)

    # This one calls `__setitem__` for each entry; that of dict would not.
    update = MutableMapping.update

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def __reduce__(self) -> Any:
        # A copy is a plain dict: it belongs to no model.
        return dict, (dict(self),)


def _flatten_rates(rates: LiveRates) -> tuple[list[Child], tuple[str, ...]]:
    names = sorted(rates)  # JAX sorts the keys of dicts
    children = [(jax.tree_util.DictKey(name), rates[name]) for name in names]
    return children, tuple(names)


def _unflatten_rates(names: tuple[str, ...], rates: Iterable[Any]) -> Any:
    # A plain dict: JAX may put tracers or anything else in place of the rates.
    return dict(zip(names, rates, strict=True))


# To JAX it is a dict too.
jax.tree_util.register_pytree_with_keys(LiveRates, _flatten_rates, _unflatten_rates)


def plain(value: Any) -> Any:
    """The current value of a live number, also inside dicts; anything else as it is."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, LiveNumber):
        return value.as_value()
    return value


class BoundOptimizer:
    """The optimizer of a model: the compiled value, with the rate that the model holds.

    It can be used wherever the value can (`compile`, `optax.chain`), is equal to it and
    an instance of its class. `learning_rate` is the rate of the next step and can be set
    without recompiling; `compile(model.optimizer)`, `replace`, `get_config` and copies
    keep it. `iterations` is the number of steps. Compiling the same model again also
    keeps the step count and the moments. All other attributes are those of the value and
    cannot be set.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))])
    >>> model.compile(fnn.optimizers.SGD(0.5), "mse")
    >>> model.optimizer.learning_rate = 0.25
    >>> float(model.optimizer.learning_rate), model.optimizer == fnn.optimizers.SGD(0.5)
    (0.25, True)
    """

    __slots__ = ("_model", "_optimizer")

    def __init__(self, optimizer: AnyOptimizer, model: AnyModel) -> None:
        object.__setattr__(self, "_optimizer", optimizer)
        object.__setattr__(self, "_model", model)

    def as_value(self) -> AnyOptimizer:
        """The value, independent of the model, with the current rate if one was set."""
        return self._model.with_current_rate(self._optimizer)

    @property
    def learning_rate(self) -> LiveNumber | dict[str, Any]:
        """The rate of the next step; a dict if there are several."""
        model = self._model
        rate = model.learning_rate
        if rate is None:
            raise AttributeError  # Python then calls __getattr__, which explains
        if isinstance(rate, dict):
            return rate

        def read() -> Number:
            number: Number = model.learning_rate
            return number

        def write(value: Number) -> None:
            model.learning_rate = value

        return LiveNumber(read, write)

    @property
    def iterations(self) -> LiveNumber:
        """The number of updates made; for an optax optimizer, the model's count of steps.

        As in Keras, several steps whose gradients are accumulated make one update.
        """
        each = getattr(self._optimizer, "gradient_accumulation_steps", None) or 1

        def read() -> Number:
            made: Number = self._model.iterations() // each
            return made

        def refuse(value: Number) -> None:
            raise AttributeError(
                "the number of steps is counted by training; assign model.train_state to "
                "continue from another state"
            )

        return LiveNumber(read, refuse)

    def build(self, variables: Any) -> None:
        """Makes the state, if there is none: that for the weights of the model."""
        self._model.ensure_optimizer_state()

    @property
    def variables(self) -> Any:
        """The state: the step, the learning rate and the rest, as variables of the model."""
        return self._model.optimizer_variables()

    def stateless_apply(
        self,
        optimizer_variables: Any,
        grads: Any,
        trainable_variables: Any,
    ) -> Any:
        """(values of the weights, values of `variables`) after one step; nothing is kept."""
        return self._model.stateless_apply(
            optimizer_variables, grads, trainable_variables
        )

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._optimizer)

    def __getattr__(self, name: str) -> Any:
        if name == "learning_rate":
            raise AttributeError(
                "this optimizer has no readable learning rate; compile with one of "
                "fnn.optimizers, or with optax.inject_hyperparams(optax.sgd)(0.1)"
            )
        if name in ("replace", "get_config"):
            # What these return contains the learning rate.
            return getattr(self.as_value(), name)
        return getattr(self._optimizer, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "learning_rate":
            changed = "another optimizer"
            if name in getattr(type(self._optimizer), "__dataclass_fields__", ()):
                changed = f"model.optimizer.replace({name}={value!r})"
            raise dataclasses.FrozenInstanceError(
                f"the {name} of an optimizer is compiled into the step; call "
                f"model.compile({changed}, loss=...) to change it"
            )
        self._model.learning_rate = value

    def __eq__(self, other: object) -> bool:
        if type(other) is BoundOptimizer:
            other = other._optimizer
        return bool(self._optimizer == other)

    def __hash__(self) -> int:
        return hash(self._optimizer)

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter(self._optimizer)

    def __repr__(self) -> str:
        return repr(self._optimizer)

    def __reduce__(self) -> Any:
        # A copy is the plain value: it belongs to no model.
        return unbound, (self.as_value(),)


def is_bound(optimizer: object, model: AnyModel) -> bool:
    """Whether this is the current optimizer of that model."""
    if type(optimizer) is not BoundOptimizer or optimizer._model is not model:
        return False
    return bool(model.is_compiled_with(optimizer._optimizer))


def unbound(optimizer: AnyOptimizer) -> AnyOptimizer:
    """The value of a model's optimizer; anything else as it is."""
    if type(optimizer) is BoundOptimizer:
        return optimizer.as_value()
    return optimizer
