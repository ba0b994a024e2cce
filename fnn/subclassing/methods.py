"""Methods: what the methods of a class in Keras's way may use: add_weight, add_loss, assignment."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from fnn.core.tree import Path, Tree
from fnn.runtime.warning import warn
from fnn.subclassing.containers import Attribute, leaves, tracked
from fnn.subclassing.frame import Frame, running_frame
from fnn.subclassing.reads import may_refer, names_read
from fnn.subclassing.tracking import UNCOMPARED, attributes, compared, inside, is_traced
from fnn.variables import ArrayLike, Variable, value_of


class Methods:
    """The methods of layers and models in Keras's way that make weights and losses."""

    # The value of a weight of an object that has weights; set by `fnn.models`.
    on_variable: ClassVar[Callable[[Any, Path], ArrayLike | None]]
    # A function of what files hold of an object, by its name; set by `fnn.models`.
    on_stored: ClassVar[Callable[[Any, str], Callable[..., Any]]]
    supports_masking = False

    def add_weight(
        self,
        *given: Any,
        shape: Sequence[int] | None = None,
        initializer: object = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: object = None,
        constraint: object = None,
        aggregation: str = "none",
        overwrite_with_gradient: bool = False,
        name: str | None = None,
    ) -> Variable:
        """A weight of this layer: in `__init__`, in `build` or at first use in `call`.

        Without a shape it is a scalar; without an initializer "glorot_uniform" for floating-point
        numbers, else "zeros". `trainable=False` makes it state, which `call` may assign.
        """
        order = ["shape", "initializer", "dtype", "trainable"]
        if given and isinstance(given[0], str):
            order.insert(0, "name")
        by_name = dict(zip(order, given, strict=False))
        shape = by_name.get("shape", shape)
        name = by_name.get("name", name)
        dtype = by_name.get("dtype", dtype) or getattr(self, "weight_dtype", "float32")
        initializer = by_name.get("initializer", initializer)
        if initializer is None:
            is_float = jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
            initializer = "glorot_uniform" if is_float else "zeros"
        variable = Variable(
            initializer,
            () if shape is None else shape,
            dtype,
            by_name.get("trainable", trainable),
            name=name,
            regularizer=regularizer,
            constraint=constraint,
        )
        vars(self).setdefault("_added", []).append(variable)
        self._adopt(variable)
        frame = running_frame()
        if frame is not None and frame.host is self:
            frame.add(variable)
        return variable

    add_variable = add_weight

    def add_loss(self, loss: Tree) -> None:
        """Adds the sum of `loss` to the loss of training; in `call`."""
        frame = running_frame()
        if frame is None:
            raise ValueError(
                f"{type(self).__name__}: add_loss works inside call, where the loss of one batch "
                "is known; call it there"
            )
        for part in jax.tree.leaves(loss, is_leaf=lambda leaf: hasattr(leaf, "value")):
            frame.losses.append(jnp.sum(jnp.asarray(value_of(part))))

    def compute_mask(self, inputs: Tree, previous_mask: Tree = None) -> Tree:
        """The mask of the outputs: that of the inputs if `supports_masking`, else None."""
        if self.supports_masking:
            return previous_mask
        return None

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Puts the weights of the layer itself into `store`, under "0", "1", ..."""
        Methods.on_stored(self, "save_own_variables")(store)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Takes the weights of the layer itself from `store`."""
        Methods.on_stored(self, "load_own_variables")(store)

    def get_build_config(self) -> dict[str, Any] | None:
        """The shape of the inputs, as for `build`; None before it is known."""
        config: dict[str, Any] | None = Methods.on_stored(self, "get_build_config")()
        return config

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        """Builds the layer as `get_build_config` says."""
        Methods.on_stored(self, "build_from_config")(config)

    def path_of_variable(self, variable: object) -> Path:
        """The path of a variable of this object or of a layer inside; empty if there is none."""
        return ()

    def _note_change(self, name: str) -> None:
        """Called after an attribute was assigned."""

    def _adopt(self, variable: Variable) -> None:
        """Makes a variable find its value in the weights of this layer, once it has some."""
        variable.home = _Home(self, variable)

    def __setattr__(self, name: str, value: object) -> None:
        frame = running_frame()
        if frame is not None and frame.host is self:
            self._refuse_leak(frame, name, value)
        value = tracked(value, Attribute(self, name))
        object.__setattr__(self, name, value)
        for _, item in inside(name, value):
            if isinstance(item, Variable):
                self._adopt(item)
        self._note_change(name)

    def __setstate__(self, state: dict[str, Any]) -> None:
        restore = getattr(super(), "__setstate__", vars(self).update)
        restore(state)
        for name, value in attributes(self):
            if name not in UNCOMPARED and name != "_added":
                vars(self)[name] = tracked(value, Attribute(self, name))
            for item in leaves(value):
                if isinstance(item, Variable):
                    self._adopt(item)

    def _refuse_leak(self, frame: Frame, name: str, value: object) -> None:
        if name not in vars(self) or name in frame.assigned or not frame.calls:
            frame.assigned.add(name)
            return
        if any(map(is_traced, leaves(value))):
            raise self._leak(f"an array assigned to self.{name}")
        if compared(value) != compared(vars(self)[name]):
            self._warn_of_change(name)

    def _refuse_leak_inside(self, name: str, added: tuple[Any, ...]) -> None:
        if any(map(is_traced, leaves(added))):
            raise self._leak(f"an array put into self.{name}")
        self._warn_of_change(name)

    def _leak(self, received: str) -> TypeError:
        return TypeError(
            f"{type(self).__name__}: expected call to return its results, received {received}, "
            "which is gone after the call; return it, or make a weight in __init__ or build, "
            "self.kept = self.add_weight(..., trainable=False), and call self.kept.assign(...)"
        )

    def _warn_of_change(self, name: str) -> None:
        warn(
            f"{type(self).__name__}: call changes self.{name}, but it runs on a copy, and only "
            "when it is traced: the object keeps the value that it had; to count calls make a "
            "weight, self.count = self.add_weight(initializer='zeros', trainable=False), and call "
            "self.count.assign_add(1)"
        )

    def _before_change(self, name: str, added: tuple[Any, ...]) -> None:
        """Called before a list, dict or set among the attributes changes."""
        frame = running_frame()
        if frame is not None and frame.host is self:
            if frame.calls and name not in frame.assigned:
                self._refuse_leak_inside(name, added)
            return
        things = [thing for _, thing in inside(name, added)]
        if things and getattr(self, "built", False):
            raise ValueError(
                f"{type(self).__name__}: expected layers and variables to be made in __init__ or "
                f"build, received {things[0]!r} for self.{name} of an object that has its weights "
                "already; make a new object with it"
            )

    def _note_change_inside(self, name: str) -> None:
        """Called after a list, dict or set among the attributes has changed."""
        frame = running_frame()
        if frame is None or frame.host is not self:
            self._note_change(name)

    def _counts(self, name: str, value: object) -> bool:
        """Whether an attribute may matter for what is computed: no list that is only written."""
        if not isinstance(value, (list, dict, set)) or self._reads(name):
            return True
        return any(True for _ in inside(name, value))

    def _reads(self, name: str) -> bool:
        """Whether what is compiled may depend on a list, dict or set among the attributes."""
        cls: Any = type(self)
        names = names_read(cls)
        if names is None or name in names:
            return True
        return any(map(may_refer, vars(self).values()))


class _Home:
    """Where the weight behind a variable of a layer is; a copy of the layer makes its own."""

    def __init__(self, layer: Methods, variable: Variable) -> None:
        self.layer = weakref.ref(layer)
        self.variable = variable

    def __call__(self) -> ArrayLike | None:
        layer = self.layer()
        if layer is None:
            return None
        path = layer.path_of_variable(self.variable)
        if not path:
            return None
        return Methods.on_variable(layer, path)

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _nowhere, ()


def _nowhere() -> None:
    """The home of the variable of a copy, before the copy of its layer has it."""
