"""Variables: arrays that a class in Keras's way creates, reads and assigns."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from fnn.core.tree import Tree, dtype_name
from fnn.core.value import resolve
from fnn.runtime.scope import Scope, scopes
from fnn.runtime.seed import next_key

Shape: TypeAlias = tuple[int, ...]
Regularizer: TypeAlias = object
Constraint: TypeAlias = object
Operand: TypeAlias = Tree


def _operator(name: str) -> Callable[..., Array]:
    """The method of an operator: it computes with the values of variables."""
    function = getattr(operator, name)

    def method(self: ArrayLike, *others: Operand) -> Array:
        result: Array = function(self.value, *map(_operand, others))
        return result

    return method


def _reflected(name: str) -> Callable[..., Array]:
    function = getattr(operator, name)

    def method(self: ArrayLike, other: Operand) -> Array:
        result: Array = function(_operand(other), self.value)
        return result

    return method


class ArrayLike:
    """What has a `value`, an array, and computes as it does: operators, indexing, conversions.

    >>> v = Variable([1.0, 2.0])
    >>> (v + 1).tolist(), float(v[1]), v.sum().item(), jnp.exp(v * 0).tolist()
    ([2.0, 3.0], 2.0, 3.0, [1.0, 1.0])
    """

    # `array * variable` of NumPy leaves the operation to the variable.
    __array_priority__ = 1000

    @property
    def value(self) -> Array:
        """The array."""
        raise NotImplementedError

    def numpy(self) -> np.ndarray:
        """The value as a NumPy array."""
        return np.asarray(self.value)

    @property
    def shape(self) -> Shape:
        shape: Shape = self.value.shape
        return shape

    @property
    def dtype(self) -> str:
        return str(self.value.dtype)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def __jax_array__(self) -> Array:
        return self.value

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> np.ndarray:
        return np.asarray(self.value, dtype)

    def __getitem__(self, index: object) -> Array:
        result: Array = self.value[index]
        return result

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __index__(self) -> int:
        return operator.index(self.value)

    # By identity, as in Keras: `==` compares the entries.
    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> Any:
        """Attributes and methods of arrays: `w.sum()`, `w.T`, `w.at`."""
        if name[:1] == "_":
            raise AttributeError(name)
        return getattr(self.value, name)

    def __iter__(self) -> Iterator[Array]:
        return iter(self.value)


_BOTH_SIDES = "add sub mul truediv floordiv mod pow matmul and or xor"
_ONE_SIDE = "neg pos abs invert eq ne lt le gt ge"

for _name in f"{_ONE_SIDE} {_BOTH_SIDES}".split():
    setattr(ArrayLike, f"__{_name}__", _operator(f"__{_name}__"))
for _name in _BOTH_SIDES.split():
    setattr(ArrayLike, f"__r{_name}__", _reflected(f"__{_name}__"))


class Variable(ArrayLike):
    """An array that may be assigned. In the methods of a layer, a weight of the layer.

    `Variable(value)`, or `Variable(initializer, shape=(2, 3))`. Outside of layers it keeps its
    value itself; inside `call` it is read from the weights that the layer is applied to. A
    trainable one is changed by optimizers only, and cannot be assigned in `call`.
    Raises ValueError without a shape, and for an assignment of another shape.

    >>> v = Variable([1.0, 2.0])
    >>> v.assign_add([1.0, 1.0]).tolist(), (v * 2).tolist()
    ([2.0, 3.0], [4.0, 6.0])
    """

    def __init__(
        self,
        initializer: Tree,
        shape: Sequence[int] | None = None,
        dtype: DTypeLike | None = None,
        trainable: bool = True,
        autocast: bool = True,
        aggregation: str = "none",
        synchronization: str = "auto",
        name: str | None = None,
        layout: object = None,
        *,
        regularizer: Regularizer = None,
        constraint: Constraint = None,
    ) -> None:
        self.given_name = name
        self.trainable = trainable
        self.regularizer = regularizer
        self.constraint = constraint
        self.autocast = autocast
        self.aggregation = aggregation
        self._value: Array | None = None
        # Where the value is, for a weight of a layer that has weights: (read, write).
        self.home: Callable[[], ArrayLike | None] | None = None
        if callable(initializer) or isinstance(initializer, str):
            self.initializer: Callable[..., Array] = resolve("initializer", initializer)
            self._dtype = dtype_name(dtype or "float32")
            self._shape = _checked_shape(shape, name)
            return
        with jax.ensure_compile_time_eval():
            self._value = jnp.asarray(value_of(initializer), dtype)
        self.initializer = functools.partial(_constant, self._value)
        self._shape = tuple(self._value.shape)
        self._dtype = str(self._value.dtype)

    @property
    def name(self) -> str:
        """The name that was given, or "variable"."""
        return self.given_name or "variable"

    @property
    def path(self) -> str:
        """The name, after those of the layers around it."""
        return self.name

    @property
    def shape(self) -> Shape:
        return self._shape

    @property
    def dtype(self) -> str:
        return self._dtype

    @property
    def is_fresh(self) -> bool:
        """Whether it has had no value yet."""
        return self._value is None

    @property
    def own_value(self) -> np.ndarray:
        """The value that it keeps itself, whatever a scope says."""
        return np.asarray(self._value)

    def initial(self, key: Array) -> Array:
        """A fresh value; the one that was assigned, if there is one."""
        if self._value is not None:
            return self._value
        made: Array = self.initializer(key, self._shape, jnp.dtype(self._dtype))
        return jnp.asarray(made, self._dtype)

    @property
    def value(self) -> Array:
        """The array: from the innermost scope that holds the variable, else its own."""
        for scope in scopes():
            found = scope.read(self)
            if found is not None:
                return found
        home = self.home and self.home()
        if home is not None:
            return home.value
        if self._value is None:
            with jax.ensure_compile_time_eval():
                self._value = self.initial(next_key())
        return self._value

    def assign(self, value: Operand) -> Array:
        """Sets the value; returns it."""
        new = jnp.asarray(value_of(value), self._dtype)
        if tuple(new.shape) != self._shape:
            raise ValueError(
                f"Variable {self.path}: expected a value of shape {self._shape}, received shape "
                f"{tuple(new.shape)}; reshape it, or make the variable of that shape"
            )
        for scope in scopes():
            if scope.write(self, new):
                return new
        home = self.home and self.home()
        if home is not None:
            home.assign(new)
            return new
        if isinstance(new, jax.core.Tracer):
            raise ValueError(
                f"Variable {self.path}: expected an array with a value, received a traced one, "
                "which would leave its trace; make the variable in a layer by add_weight and "
                "assign it in the layer's call"
            )
        self._value = new
        return new

    def assign_add(self, value: Operand) -> Array:
        """Adds to the value; returns the new one."""
        return self.assign(self.value + jnp.asarray(value_of(value)))

    def assign_sub(self, value: Operand) -> Array:
        """Subtracts from the value; returns the new one."""
        return self.assign(self.value - jnp.asarray(value_of(value)))

    def declaration(self) -> tuple[object, ...]:
        """What an equal variable has in common with this one, beside the value."""
        return (
            self._shape,
            self._dtype,
            self.trainable,
            self.given_name,
            self.regularizer,
            self.constraint,
        )

    def __repr__(self) -> str:
        value = ""
        if self._value is not None and self.size < 20:
            value = f", value={np.asarray(self._value)}"
        return f"<Variable path={self.path}, shape={self._shape}, dtype={self._dtype}{value}>"


def _constant(
    value: Array,
    key: Array,
    shape: Shape,
    dtype: DTypeLike,
) -> Array:
    return value


def _checked_shape(shape: object, name: str | None) -> Shape:
    if isinstance(shape, (int, np.integer)):
        shape = (int(shape),)
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else ()
    if shape is None or any(isinstance(size, jax.core.Tracer) for size in sizes):
        received = shape
        if shape is not None:
            received = "a size that depends on the data"
        raise ValueError(
            f"Variable {name or ''}: expected a shape of integers beside an initializer, received "
            f"{received}; use sizes of input_shape, which are known when the layer is built"
        )
    for size in sizes:
        if size is None or isinstance(size, float) or size < 0:
            raise ValueError(
                f"Variable {name or ''}: expected a shape of integers, received {tuple(sizes)}; "
                "a size that is None is not known when the layer is built: give Input that size"
            )
    return tuple(int(size) for size in sizes)


def _operand(thing: Operand) -> Operand:
    """The other operand of an operator: the array of a variable, of a list an array."""
    if isinstance(thing, (list, tuple)):
        return jnp.asarray(thing)
    return value_of(thing)


def value_of(thing: Operand) -> Operand:
    """The array of a variable; anything else as it is.

    >>> value_of(Variable(2.0)).item(), value_of("a")
    (2.0, 'a')
    """
    if isinstance(thing, ArrayLike):
        return thing.value
    return thing


class StatelessScope(Scope):
    """A block in which variables have other values and assignments change nothing outside.

    `state_mapping` holds pairs (variable, value). `get_current_value(v)` is what was assigned
    inside, or None.

    >>> v = Variable(1.0)
    >>> with StatelessScope([(v, 5.0)]) as scope:
    ...     _ = v.assign_add(1.0)
    >>> float(scope.get_current_value(v)), float(v)
    (6.0, 1.0)
    """

    def __init__(
        self,
        state_mapping: Iterable[tuple[Variable, Operand]] | None = None,
        collect_losses: bool = False,
        initialize_variables: bool = True,
    ) -> None:
        self._values: dict[int, tuple[object, Array]] = {}
        for variable, value in state_mapping or ():
            self.add_update((variable, value))

    def add_update(self, update: tuple[object, Operand]) -> None:
        """Sets a variable inside this scope."""
        variable, value = update
        dtype = getattr(variable, "dtype", None)
        array = jnp.asarray(value_of(value), dtype)
        self._values[id(variable)] = variable, array

    def get_current_value(self, variable: object) -> Array | None:
        """The value of a variable in this scope, None if it has none here."""
        return self._values.get(id(variable), (None, None))[1]

    @property
    def held(self) -> set[int]:
        """The ids of the variables that have a value here."""
        return {*self._values}

    def read(self, variable: object) -> Array | None:
        return self.get_current_value(variable)

    def write(self, variable: object, value: Array) -> bool:
        self.add_update((variable, value))
        return True
