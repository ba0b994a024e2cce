"""Sharing: a layer that stands in several living models has one set of weights, as in Keras."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax

from fnn.core import tree
from fnn.core.calling import walk
from fnn.core.layer import Layer
from fnn.core.value import Fields
from fnn.models import owned
from fnn.symbolic.node import Node, input_specs
from fnn.training.state import TrainState

T = TypeVar("T", bound=Layer)


class Cell:
    """What a model starts from, and its weights with what else training changes, once made."""

    def __init__(self, inputs: Any = None, now: TrainState | None = None) -> None:
        self.inputs, self.now = inputs, now


class Owner:
    """Which model has the weights of a layer object, and at which path.

    It does not keep the model alive. Of a model that was made a layer it keeps the `cell` of
    weights, so that they outlive the model: `Sequential([Residual(Sequential([...]))])`.
    """

    def __init__(self, model: Any, path: tree.Path, cell: Cell | None = None) -> None:
        self._model, self.path, self.cell, self.name = (
            weakref.ref(model),
            path,
            cell,
            model.name,
        )

    @property
    def model(self) -> Any:
        """The model, or None if it is gone."""
        return self._model()

    def answers(self, name: str) -> bool:
        """Whether the model can say this of its layer now."""
        return name in owned.ANSWERS and self.model is not None and self.model.built

    def answer(self, name: str, layer: Layer) -> Any:
        """What Keras lets one ask its layer."""
        return owned.ANSWERS[name](self.model, self.path, layer)

    @staticmethod
    def of(layer: Layer) -> Owner | None:
        """The owner of a layer, if it has a living one."""
        owner = _owners.get(layer)
        return owner if owner is not None and owner.model is not None else None

    def mark(self, layer: Layer) -> None:
        """Makes this the owner of a layer."""
        _owners.put(layer, self)


class _Owners:
    """The owners of layers, by the identity of these: equal layers may have different ones.

    An entry is gone with its layer.
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Layer], Owner]] = {}

    def get(self, layer: Layer) -> Owner | None:
        """The owner of this object."""
        entry = self._entries.get(id(layer))
        return entry[1] if entry is not None and entry[0]() is layer else None

    def put(self, layer: Layer, owner: Owner) -> None:
        """Notes the owner of this object."""
        key, entries = id(layer), self._entries
        entries[key] = weakref.ref(layer, lambda _: entries.pop(key, None)), owner


_owners = _Owners()


def answer(layer: Layer, name: str) -> Any:
    """What Keras lets one ask a layer, as its model knows it; NotImplemented for all else."""
    owner = Owner.of(layer)
    return (
        owner.answer(name, layer)
        if owner is not None and owner.answers(name)
        else NotImplemented
    )


Layer.on_attribute = staticmethod(answer)


def stated_inputs(layer: Layer) -> Any:
    """The nodes that a layer says it starts from: those of its model, or by its `input_shape`."""
    owner = _owners.get(layer)
    if owner is not None and owner.cell is not None:
        return owner.cell.inputs
    if layer.input_shape is None:
        return None
    return Node(None, (), input_specs((None, *layer.input_shape)))


class Share:
    """A place in a model whose weights are those of another one, its owner.

    If layers of the owner come or go, the weights that both still have stay shared.
    """

    def __init__(
        self, path: tree.Path, layer: Layer, owner: Any, place: tree.Path
    ) -> None:
        self.path, self.layer, self.owner, self.place = path, layer, owner, place
        self._seen: tuple[Any, Any] = (None, None)

    def fits(self, now: TrainState) -> bool:
        """Whether the owner still has the weights that are in `now`, and no others."""
        theirs = _parts(self.owner._now, self.place) if self.owner.built else None
        return bool(_shapes(theirs) == _shapes(_parts(now, self.path)))

    def pull(self, now: TrainState) -> TrainState:
        """`now` with the weights that the owner has."""
        if not self.owner.built:
            return now
        found = _parts(self.owner._now, self.place)
        if all(new is old for new, old in zip(found, self._seen, strict=True)):
            return now
        self._seen = found
        return _with_parts(now, self.path, found)

    def push(self, now: TrainState) -> None:
        """Gives the owner the weights in `now`."""
        if not self.owner.built:
            return
        held = self.owner._now
        given = _with_parts(held, self.place, _parts(now, self.path))
        both = ((state.params, state.state) for state in (held, given))
        if any(
            new is not old for old, new in zip(*map(jax.tree.leaves, both), strict=True)
        ):
            self.owner._now = given
        self._seen = _parts(self.owner._now, self.place)


def _parts(now: TrainState, path: tree.Path) -> tuple[Any, Any]:
    """Params and state at a path; None where there are none."""
    return tree.get(now.params, path) or None, tree.get(now.state, path) or None


def _with_parts(now: TrainState, path: tree.Path, parts: tuple[Any, Any]) -> TrainState:
    """`now` with those of these weights that it has at a path, in dicts of its own."""
    for name, old, part in zip(
        ("params", "state"), _parts(now, path), parts, strict=True
    ):
        if old is not None:
            new = _replaced(old, part)
            now = now.replace(**{name: tree.put(getattr(now, name), path, new)})
    return now


def _replaced(old: Any, new: Any) -> Any:
    """`old` with the leaves of `new` of the same paths and shapes."""
    if isinstance(old, dict):
        new = new if isinstance(new, dict) else {}
        return {name: _replaced(leaf, new.get(name)) for name, leaf in old.items()}
    return new if hasattr(new, "shape") and new.shape == old.shape else old


def shares(model: Any, fresh: TrainState) -> Iterator[Share]:
    """Where in a new model, whose weights would be `fresh`, stand layers that others have.

    A layer that here has weights of other shapes is not shared. Raises ValueError for a model with
    weights inside copies (`Repeat`, `Ensemble`), which would each need their own.
    """
    done: list[tree.Path] = []
    for path, layer, copies in walk(model.layer):
        owner = Owner.of(layer)
        if (
            owner is None
            or owner.model is model
            or any(path[: len(p)] == p for p in done)
        ):
            continue
        other = owner.model
        if copies or not other.built:
            if copies and not owner.path and other.built:
                raise _inside_copies(path, owner)
            continue
        theirs, mine = _parts(other._now, owner.path), _parts(fresh, path)
        if _shapes(theirs) == _shapes(mine) and jax.tree.leaves(mine):
            done.append(path)
            yield Share(path, layer, other, owner.path)


def inherit(model: Any, fresh: TrainState) -> TrainState:
    """`fresh` with the weights of models inside that are gone themselves.

    Raises ValueError for one inside copies, as `shares` does.
    """
    for path, layer, copies in walk(model.layer):
        owner = _owners.get(layer)
        if (
            owner is None
            or owner.model is not None
            or owner.cell is None
            or not owner.cell.now
        ):
            continue
        if copies:
            raise _inside_copies(path, owner)
        theirs = _parts(owner.cell.now, ())
        if _shapes(theirs) == _shapes(_parts(fresh, path)):
            fresh = _with_parts(fresh, path, theirs)
            Owner(model, path).mark(layer)
    return fresh


def _inside_copies(path: tree.Path, owner: Owner) -> ValueError:
    return ValueError(
        f"expected a layer inside the copies at {'/'.join(path)}, received the model "
        f"{owner.name!r} with its weights; give it model.layer"
    )


def claim(model: Any) -> None:
    """Makes a model the owner of the layers in it that have none."""
    for path, layer, copies in walk(model.layer):
        if path and not copies and Owner.of(layer) is None:
            Owner(model, path).mark(layer)


def keep(model: Any, before: TrainState, fresh: TrainState) -> TrainState:
    """`fresh` with the weights that layers of a model had `before` others came beside them."""
    for path, layer, _ in walk(model.layer):
        owner = Owner.of(layer)
        if path and owner is not None and owner.model is model:
            old = _parts(before, owner.path)
            if _shapes(old) == _shapes(_parts(fresh, path)):
                fresh = _with_parts(fresh, path, old)
            Owner(model, path).mark(layer)
    return fresh


def _shapes(parts: Any) -> Any:
    return jax.tree.map(lambda a: (a.shape, a.dtype), parts)


def refreshed(layer: Any, found: list[Share], now: TrainState | None) -> Any:
    """`layer` with the models inside as they are now: which of them learn may have changed."""
    swaps = {}
    for share in found:
        if (
            not share.place
            and share.owner.layer != share.layer
            and now
            and share.fits(now)
        ):
            swaps[id(share.layer)] = share.owner.as_layer()
            share.layer = swaps[id(share.layer)]
    return swapped(layer, swaps) if swaps else layer


def swapped(layer: Layer, swaps: dict[int, Layer]) -> Layer:
    """`layer` with some of the layers inside replaced, by their identity."""
    if id(layer) in swaps:
        return swaps[id(layer)]
    return _inside(layer, lambda inner: swapped(inner, swaps))


def apart(layer: T, known: dict[int, Any] | None = None) -> T:
    """An equal layer of other objects throughout, which no model has; but models inside stay."""
    known = {} if known is None else known
    owner = _owners.get(layer)
    if owner is not None and (owner.model is not None or owner.cell) and not owner.path:
        return layer
    if id(layer) not in known:
        known[id(layer)] = _inside(layer, lambda inner: apart(inner, known)).replace()
    return known[id(layer)]


def _inside(layer: T, change: Callable[[Layer], Layer]) -> T:
    """`layer` with `change` of each layer that it holds; itself where they stay as they are."""

    def changed(value: Any) -> Any:
        if isinstance(value, Layer):
            return change(value)
        if isinstance(value, Fields):
            items = changed(value.items)
            return value if items is value.items else Fields(items)
        if isinstance(value, tuple):
            new = tuple(map(changed, value))
            return (
                new
                if any(a is not b for a, b in zip(new, value, strict=True))
                else value
            )
        return value

    fields = {
        name: (v, changed(v)) for name, v in vars(layer).items() if name[0] != "_"
    }
    moved = {name: new for name, (old, new) in fields.items() if new is not old}
    return layer.replace(**moved) if moved else layer
