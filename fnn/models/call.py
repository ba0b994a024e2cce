"""ModelCall: the network of a model in Keras's way: `call` of its class, as a layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import jax

from fnn.core.combining import Flow
from fnn.core.context import Context
from fnn.core.layer import Layer
from fnn.core.registry import is_ours, lookup, name_of, unregistered
from fnn.core.tree import SpecTree, Tree
from fnn.core.value import Known
from fnn.models.model import Model
from fnn.runtime.program_cache import shallow
from fnn.subclassing import KerasLayer
from fnn.subclassing.copies import ties_in, unite
from fnn.subclassing.declaring import Declaring
from fnn.subclassing.frame import Declared
from fnn.subclassing.layer import Arguments
from fnn.subclassing.signature import is_input
from fnn.subclassing.tracking import attributes, compared, duplicate, separate


class ModelCall(KerasLayer):
    """`call` of the class of a model, which runs on an object with the attributes of the model.

    `subject` is that object: of the same class, without weights. Two models of one class with
    equal attributes have equal networks, and share what is compiled for them.
    """

    def __init__(self, model: Any) -> None:
        made = vars(model)
        name, dtype = made.get("_fnn_name"), made.get("_dtype_given")
        with self.without_policy():
            super().__init__(name=name, trainable=model.trainable, dtype=dtype)
        held = {
            "_subject": _subject(model),
            # The arguments of the first call, if it had more than one.
            "_form": made.get("_fnn_form"),
            # What `build` of the user has declared, once it has run; without `call`, the inputs of
            # the models inside.
            "_declares": made.get("_fnn_declared"),
        }
        vars(self).update(held)
        # The arguments of this constructor, which refer to the model.
        del vars(self)["_given"]

    @property
    def subject(self) -> Any:
        """The object on which `call` runs."""
        return vars(self)["_subject"]

    @property
    def _class(self) -> Any:
        return type(self.subject)

    @property
    def _own(self) -> Any:
        return self.subject

    def _bare(self) -> Any:
        return duplicate(self.subject)

    def _built(self, given: tuple[Tree, ...], named: dict[str, Tree]) -> Any:
        declared = vars(self).get("_declares")
        if declared is None:
            return super()._built(given, named)
        host = self._bare()
        vars(host)["_fnn_declared"] = declared
        return host

    @property
    def computes(self) -> bool:
        """Whether there is a `call`; a model of two others that trains them may have none."""
        return bool(self.subject._has_call())

    def _declared(self, x: SpecTree) -> Declaring:
        if self.computes:
            return super()._declared(x)
        declared, _ = vars(self)["_declares"]
        return Declaring(self._bare(), Context(), declared)

    def _arguments(self, x: Tree) -> Arguments:
        if self._form is None and isinstance(x, tuple):
            # As in Keras: the inputs of `fit` are the first argument, also if there are several.
            return (list(x),), {}
        return super()._arguments(x)

    def _is_plain(self, x: Tree) -> bool:
        leaves = jax.tree.leaves(x, is_leaf=is_input)
        return bool(leaves) and all(map(is_input, leaves))

    @property
    def class_name(self) -> str:
        """The name of the class of the model."""
        name: str = self._class.__name__
        return name

    @property
    def named_after(self) -> str:
        return self.class_name

    def __getattr__(self, name: str) -> object:
        """Attributes and methods of the model: `self.encoder.latent_size` in a model around it."""
        if "_subject" not in vars(self):
            raise AttributeError(name)  # under construction
        if not name.startswith("_"):
            of_class = hasattr(self._class, name) and not hasattr(Model, name)
            if name in vars(self.subject) or of_class:
                return getattr(self.subject, name)
        return super().__getattr__(name)

    def __repr__(self) -> str:
        return f"{self._class.__name__}()"

    @property
    def _body(self) -> Layer | None:
        """The graph or row of layers that the model was given: what `super().call` computes."""
        given = vars(self.subject).get("network")
        if isinstance(given, Flow):
            return given
        return None

    def inner_inputs(self, x: SpecTree) -> Declared:
        """The layers that `call` calls, by name, and the shapes of their inputs."""
        return self._declared(x).declared_in_order()

    # -- files -----------------------------------------------------------------------------------

    def file_config(self) -> dict[str, Any]:
        """The registered name of the class of the model, and its `get_config`."""
        name = name_of("model", self._class)
        if name is None:
            raise unregistered("model", self._class.__name__)
        config = {"class": name, "config": self.subject.get_config()}
        if self._form is not None:
            config["call_form"] = self._form
        ties = ties_in(self.subject)
        if ties:
            config["one_layer_at"] = ties
        return config

    @classmethod
    def from_file_config(cls, config: dict[str, Any]) -> Any:
        """The layer of the model that `file_config` described, which keeps the model."""
        name, inner = config.get("class"), config.get("config")
        made: Any = None
        if isinstance(name, str) and isinstance(inner, dict):
            made = lookup("model", name)
        is_model = isinstance(made, type) and issubclass(made, Model)
        if not is_model or is_ours(made):
            raise ValueError(
                "expected the name and config of a registered class of models, received "
                f"{name!r}; the file is damaged"
            )
        model = made.from_config(inner)
        unite(model, config.get("one_layer_at", ()))
        vars(model)["_fnn_form"] = config.get("call_form")
        layer = model.as_layer()
        vars(layer)["_fnn_model"] = model
        return layer

    # -- what it is as a value -------------------------------------------------------------------

    def _compared(self) -> Iterator[object]:
        yield from (self._class, self.own_name, self.trainable, self.dtype, self._form)
        yield self._declared_for()
        for name, value in attributes(self.subject):
            if self.subject._counts(name, value):
                yield name
                yield compared(value)

    def _declared_for(self) -> str | None:
        """The names and inputs of the layers that were declared before `call` runs."""
        if vars(self)["_declares"] is None:
            return None
        declared, native_inputs = vars(self)["_declares"]
        inputs = {name: like for name, (_, like) in declared.items()}
        return repr((inputs, native_inputs))

    def _apart(self, known: Known) -> Self:
        subject = duplicate(self.subject)
        for name, value in attributes(subject):
            vars(subject)[name] = separate(value, known)
        twin = shallow(self)
        declares = separate(vars(self)["_declares"], known)
        changed = {"_subject": subject, "_declares": declares, "_fnn_hosts": {}}
        vars(twin).update({**changed, "_fnn_is_twin": True})
        return twin


def _subject(model: Any) -> Any:
    """An object like a model, without weights, on which its methods run."""
    subject = duplicate(model)
    vars(subject)["_fnn_given"] = vars(model).get("_fnn_given", ((), {}))
    return subject
