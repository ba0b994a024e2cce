"""The weights of a model with `call`, whose network follows the attributes of the model."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from fnn.core.tree import Tree
from fnn.models import sharing
from fnn.models.call import ModelCall
from fnn.models.network import Network
from fnn.models.weights import Weights
from fnn.subclassing.tracking import layer_of, tracked
from fnn.training.state import TrainState


class CallWeights(Weights):
    """The weights of a model with `call`, whose network follows the attributes of the model."""

    def __init__(self, network: Network, seed: int | None, model: Any) -> None:
        self._model: Callable[[], Any] = weakref.ref(model)
        self._waits = False
        super().__init__(network, seed)

    @property
    def network(self) -> Network:
        """The network for the attributes that the model has now."""
        model = self._model()
        if model is not None and vars(model).pop("_fnn_changed", False):
            self._follow(model)
        return super().network

    @network.setter
    def network(self, network: Network) -> None:
        self._network = network

    def _follow(self, model: Any) -> None:
        layer = ModelCall(model)
        inside = self._inside(model)
        others = inside != vars(model).get("_fnn_inside", inside)
        vars(model)["_fnn_inside"] = inside
        if layer == self._network.layer and not others:
            return
        self._network = Network(layer, self._network.inputs, self._network.name)
        if self.built and others:
            self.build()

    def _inside(self, model: Any) -> list[tuple[int, bool]]:
        """Layers and models inside by their ids, and whether they have weights from elsewhere."""
        found = []
        for _, item in tracked(model):
            layer = layer_of(item)
            owner = None if layer is None else sharing.owner_of(layer)
            held = None if owner is None else owner.weights
            own: object = self
            elsewhere = held is not None and held is not own and held.built
            found.append((id(item), elsewhere))
        return found

    def build(self) -> None:
        """The weights are made at their first use: `__init__` may still set attributes."""
        self._waits = True

    @property
    def built(self) -> bool:
        return self._waits or self._now is not None

    @property
    def now(self) -> TrainState:
        if self._waits:
            self.build_for(self.network.inputs)
        return super().now

    @now.setter
    def now(self, state: TrainState) -> None:
        Weights.now.fset(self, state)  # type: ignore[attr-defined]

    def build_for(self, inputs: Tree) -> None:
        model = self._model()
        waited, self._waits = self._waits, False
        try:
            if model is not None:
                model._prepare(inputs)
            before = self.network
            self.network = before.with_inputs(inputs)
            try:
                super().build()
            except BaseException:
                self.network = before
                raise
        except BaseException:
            self._waits = waited
            raise
        if model is not None:
            vars(model)["_fnn_inside"] = self._inside(model)

    def take(self, now: TrainState) -> None:
        """Starts with the state of another model, of which this is a copy, models inside too."""
        self.start_from(now.params, now.state)
        self.now = now
        model = self._model()
        vars(model)["_fnn_inside"] = self._inside(model)

    def forget(self) -> None:
        self._waits = False
        super().forget()

    def refresh_inner_models(self) -> None:
        model = self._model()
        if model is not None:
            vars(model)["_fnn_changed"] = True
