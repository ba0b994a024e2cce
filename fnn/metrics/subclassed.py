"""Metrics written in Keras's way, with `update_state` and `result`, as pure functions."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from fnn.core.registry import is_ours
from fnn.core.tree import SpecTree, Tree
from fnn.core.value import freeze
from fnn.metrics.accumulator import Accumulator, Run, Total, fresh_value
from fnn.metrics.losses import MeanMetricWrapper
from fnn.metrics.metric import Metric, call_update
from fnn.variables import ArrayLike, Variable

Initializer = Any  # a name, a function or a value


class Subclassed(Metric, loadable=False):
    """The base that a metric gets if its class defines `update_state`, `reset_state` or `result()`.

    Its variables come from `add_weight` and `add_variable`, and from metrics and variables among
    its attributes. `init`, `update` and `result` run its methods on a copy, in a scope that holds
    the values of the variables, so they are pure. Two metrics of one class with equal attributes
    are equal and share compiled programs.

    In `fit` and `evaluate` each batch updates the variables in turn, and `update_state` gets the
    arrays that Keras passes: `sample_weight` only for `weighted_metrics`. Raises ValueError for
    an `update_state` that stores a traced array on `self`, or assigns variables that are not its
    own, and for a `result` that assigns; TypeError for a `result` that is not a number.

    >>> class Largest(Metric):
    ...     def __init__(self, name="largest", **kwargs):
    ...         super().__init__(name=name, **kwargs)
    ...         self.largest = self.add_weight(name="largest", initializer="zeros")
    ...     def update_state(self, y_true, y_pred, sample_weight=None):
    ...         self.largest.assign(fnn.ops.maximum(self.largest, y_pred[0]))
    ...     def result(self):
    ...         return self.largest
    >>> metric = Largest()
    >>> metric.update_state([0.0], [3.0])
    >>> float(metric.result()), float(metric.result(metric.update(metric.init(), [0.0], [2.0])))
    (3.0, 2.0)
    """

    adds: ClassVar[bool] = False
    rebuilds: ClassVar[bool] = True
    _variables: list[Variable]
    _base: Accumulator
    # No constructor of its own: that of the class that is changed.
    _open: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        own = {"_variables": [], "_base": Accumulator(self._zeros_of_base)}
        if self.dtype is None:
            own["dtype"] = "float32"
        for name, value in own.items():
            object.__setattr__(self, name, value)

    def _zeros_of_base(self) -> Tree:
        """The sums of the metric that this class changes; none if it is a metric of its own."""
        after = type(self).__mro__
        after = after[after.index(Subclassed) + 1 : after.index(Metric)]
        if any("update" in vars(base) or "values" in vars(base) for base in after):
            return super().init()
        return ()

    # -- what Keras's class offers --------------------------------------------------------------

    def add_variable(
        self,
        shape: Sequence[int] = (),
        initializer: Initializer = None,
        dtype: DTypeLike | None = None,
        aggregation: str = "sum",
        name: str | None = None,
    ) -> Variable:
        """A new variable of this metric; zeros unless an initializer is given."""
        if "_variables" not in vars(self):
            raise RuntimeError(
                f"{type(self).__name__}: call super().__init__(name=name) before add_weight"
            )
        variable = Variable(
            initializer or "zeros",
            shape,
            dtype,
            False,
            aggregation=aggregation,
            name=name,
        )
        self._variables.append(variable)
        return variable

    def add_weight(
        self,
        shape: Sequence[int] = (),
        initializer: Initializer = None,
        dtype: DTypeLike | None = None,
        name: str | None = None,
    ) -> Variable:
        """The same as `add_variable`."""
        return self.add_variable(shape, initializer, dtype, name=name)

    @property
    def variables(self) -> list[Variable]:
        """The variables of this metric, then those of metrics among its attributes."""
        found: list[Variable] = [*self._base.variables, *self._variables]
        metrics = []
        for part in _parts(vars(self)):
            if isinstance(part, Metric):
                metrics += part.variables
            else:
                found.append(part)
        return list({id(variable): variable for variable in found + metrics}.values())

    def update_state(
        self,
        *batch: Tree,
        sample_weight: Tree = None,
        **named: Tree,
    ) -> None:
        """`update_state` of the metric that this class changes."""
        if not self._base.variables:
            raise NotImplementedError(
                f"{type(self).__name__}: define update_state(y_true, y_pred, "
                "sample_weight=None)"
            )
        zeros = self._zeros_of_base()
        more = call_update(super().update, zeros, batch, sample_weight, named)
        self._base.add(more)

    def reset_state(self) -> None:
        """Sets all variables to zero."""
        self._base.reset()
        for variable in self.variables:
            variable.assign(jnp.zeros_like(variable.value))

    # -- the pure functions -----------------------------------------------------------------------

    def init(self, y_true: SpecTree = None, y_pred: SpecTree = None) -> Tree:
        """The values of the variables after `reset_state`."""
        run = self._copy()
        variables = run.variables
        with Run(_fresh(variables)) as scope:
            run.reset_state()
        values = _values(scope, variables)
        if y_pred is not None and any(isinstance(v, Total) for v in variables):
            # Sums for each class have the shape that the first batch gives them.
            grown = jax.eval_shape(self.update, values, y_true, y_pred)
            pairs = zip(values, grown, strict=True)
            values = tuple(jnp.broadcast_to(old, new.shape) for old, new in pairs)
        return values

    def update(
        self,
        sums: Tree,
        *batch: Tree,
        weight: Tree = None,
        mask: Array | None = None,
        **named: Tree,
    ) -> Tree:
        """The values of the variables after `update_state`."""
        if weight is not None:
            named["sample_weight"] = weight
        run = self._copy()
        variables = run.variables
        with Run(zip(variables, sums, strict=True)) as scope:
            scope.mask = mask
            last = batch[-1] if batch else None
            scope.y_pred = named.get("y_pred", last)
            run.update_state(*batch, **named)
        _check_leaks(run, scope, variables)
        return _values(scope, variables)

    def result(self, sums: Tree = None) -> Any:
        """The metric: of the values of its variables, by default those that it has now."""
        if sums is not None:
            return self._result_of(sums)
        if not self._base.variables:
            raise NotImplementedError(f"{type(self).__name__}: define result()")
        return super().result(self._base.sums)

    def _result_of(self, sums: Tree) -> Any:
        run = self._copy()
        with Run(zip(run.variables, sums, strict=True)) as scope:
            before = scope.values
            found = _number(self, run.result())
        if any(value is not before.get(key) for key, value in scope.values.items()):
            raise ValueError(
                f"{type(self).__name__}: expected result() to compute a number, but it assigned a "
                "variable; assign in update_state"
            )
        return found

    def check(self, y_true: SpecTree, y_pred: SpecTree) -> None:
        """Runs `update_state` and `result` without values: it may create variables there."""

        def trial(y_true: Tree, y_pred: Tree) -> None:
            self.update_state(y_true, y_pred)

        with Run(_fresh(self.variables)) as scope:
            jax.eval_shape(trial, y_true, y_pred)
        _check_leaks(self, scope, self.variables)
        jax.eval_shape(self.result, self.init(y_true, y_pred))

    def stateless_update_state(
        self,
        metric_variables: Sequence[Tree],
        *batch: Tree,
        **named: Tree,
    ) -> list[Array]:
        """The values of the variables after `update_state`, from those before."""
        return [*self.update(self._sums(metric_variables), *batch, **named)]

    def _copy(self) -> Any:
        """A copy to run methods on: what they set on it is not set on the metric."""
        run = copy.copy(self)
        vars(run).pop("_sealed", None)
        object.__setattr__(run, "_variables", list(self._variables))
        return run

    def _attributes(self) -> Iterator[tuple[str, Any]]:
        for name, value in super()._attributes():
            yield name, _compared(value)

    def __hash__(self) -> int:
        known: int | None = vars(self).get("_fnn_hash")
        if known is None:
            known = hash(self._key())
            if "_fnn_is_twin" in vars(self):
                # Nobody changes a twin, which is hashed in every dispatch of a program.
                vars(self)["_fnn_hash"] = known
        return known

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


def _parts(value: object) -> Iterator[Any]:
    """The metrics and variables in nested lists, tuples and dicts."""
    if isinstance(value, (Metric, Variable)):
        yield value
        return
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _parts(item)


def _fresh(variables: list[Variable]) -> list[tuple[Variable, Array]]:
    return [(variable, fresh_value(variable)) for variable in variables]


def _values(scope: Run, variables: list[Variable]) -> tuple[Array, ...]:
    return tuple(scope.values[id(variable)] for variable in variables)


def _check_leaks(
    run: Any,
    scope: Run,
    variables: list[Variable],
) -> None:
    """Raises ValueError for what `update_state` did beside assigning the variables."""
    name = type(run).__name__
    if len(run.variables) > len(variables):
        raise ValueError(
            f"{name}: expected variables from __init__, received a new one in update_state; create "
            "it in __init__, or call update_state once before"
        )
    if scope.values.keys() - {id(variable) for variable in variables}:
        raise ValueError(
            f"{name}: expected update_state to assign variables of the metric, received another "
            "one; make it with self.add_weight, or store it as an attribute of the metric"
        )
    for attribute, value in [*vars(run).items()]:
        leaves = jax.tree.leaves(value)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            del vars(run)[attribute]
            raise ValueError(
                f"{name}: expected update_state to keep arrays in variables, received a traced "
                f"array as self.{attribute}; make a variable with self.add_weight and assign it"
            )


def _number(metric: Metric, found: Any) -> Any:
    """The result of a metric as an array, or a dict of arrays."""
    if isinstance(found, dict):
        return {name: _number(metric, value) for name, value in found.items()}
    if isinstance(found, ArrayLike):
        return found.value
    try:
        return jnp.asarray(found)
    except (TypeError, ValueError):
        raise TypeError(
            f"{type(metric).__name__}: expected result() to return a number, an array or a dict "
            f"of numbers, received {found!r} of type {type(found).__name__}"
        ) from None


class _Itself:
    """An object that is equal to itself only, whatever its class says."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def _compared(value: Any) -> Any:
    """What an attribute is compared by: a variable by its shape and initializer."""
    if isinstance(value, Variable):
        initializer: Any = value.initializer
        if isinstance(initializer, functools.partial):
            initializer = np.asarray(fresh_value(value)).tobytes()
        return (*value.declaration(), initializer)
    if isinstance(value, (list, tuple)):
        return tuple(map(_compared, value))
    if isinstance(value, dict):
        return tuple((name, _compared(item)) for name, item in value.items())
    try:
        freeze(value)
    except TypeError:
        return _Itself(value)
    return value


# -- classes --------------------------------------------------------------------------------------


def adapt(cls: Any) -> None:
    """Makes a class in Keras's way a `Subclassed` one; called for every new class of metrics."""
    if "reset_states" in vars(cls):
        raise TypeError(
            f"{cls.__name__}: expected reset_state, received a method reset_states; rename it, "
            "as in Keras 3"
        )
    if not issubclass(cls, Subclassed):
        if not _is_in_keras_way(cls):
            return
        # Its methods may set attributes, unless it declares fields.
        is_open = cls._open or not inspect.get_annotations(cls)
        bases = cls.__bases__
        place = next(i for i, base in enumerate(bases) if issubclass(base, Metric))
        cls.__bases__ = (*bases[:place], Subclassed, *bases[place:])
        _take_name(cls)
        cls._open = is_open
    if not hasattr(cls.result, "takes_sums"):
        cls.result = _with_sums(cls.result)


def _is_in_keras_way(cls: type[Metric]) -> bool:
    changed = (
        cls.update_state is not Metric.update_state
        or cls.reset_state is not Metric.reset_state
    )
    return changed or len(inspect.signature(cls.result).parameters) == 1


def _take_name(cls: Any) -> None:
    """A class that changes one of Keras's metrics keeps its name, as in Keras."""
    bases = [base for base in cls.__mro__ if is_ours(base) and issubclass(base, Metric)]
    nearest = bases[1]  # after `Subclassed`
    if nearest not in (Metric, MeanMetricWrapper) and "name" not in vars(cls):
        cls.name = nearest.name


def _with_sums(function: Callable[..., Any]) -> Callable[..., Any]:
    """`result(self)` of a user that may also be given the sums."""

    @functools.wraps(function)
    def result(self: Subclassed, sums: Tree = None) -> Any:
        if sums is None:
            return function(self)
        return self._result_of(sums)

    result.takes_sums = True  # type: ignore[attr-defined]
    return result


Subclassed.result.takes_sums = True  # type: ignore[attr-defined]
Metric.on_subclass = staticmethod(adapt)
