"""OptimizerMap and MultiOptimizer: one optimizer for each regular expression of paths."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, ClassVar

from fnn.core.arguments import wrong
from fnn.core.config import deserialize_keras_object, serialize_keras_object
from fnn.core.value import Fields
from fnn.optimizers.optimizer import AnyOptimizer, Optimizer, get
from fnn.optimizers.several import LossScaleOptimizer, Several

# The key of the default optimizer among the rules: no path is empty.
_DEFAULT = ""


class OptimizerMap(MutableMapping[str, AnyOptimizer]):
    """Optimizers by the paths of weights, for `MultiOptimizer`; others get the default one.

    A key is a path (`dense/kernel`) or a regular expression of whole paths (`encoder/.*`), which
    begin with the name of the layer, also in a `Sequential` (in Keras: with the model's there).
    Raises TypeError and ValueError for what is no optimizer, and for a key that is set twice or
    is no string; on reading, ValueError for a path that several expressions match.

    >>> optimizers = OptimizerMap(fnn.optimizers.SGD(), {"encoder/.*": fnn.optimizers.Adam()})
    >>> optimizers["encoder/dense/kernel"].name, optimizers["head/kernel"].name
    ('adam', 'sgd')
    """

    def __init__(
        self,
        default_optimizer: Optimizer,
        optimizer_map: dict[str, Optimizer] | None = None,
    ) -> None:
        if not isinstance(default_optimizer, Optimizer):
            raise TypeError(
                "OptimizerMap: expected an optimizer as default_optimizer, received "
                f"{default_optimizer!r}; e.g. SGD()"
            )
        if not isinstance(optimizer_map, dict | None):
            raise TypeError(
                "OptimizerMap: expected optimizer_map to be a dict of optimizers by path, "
                f"received {optimizer_map!r}"
            )
        self._default = default_optimizer
        self._by_key = dict(optimizer_map or {})

    @property
    def default_optimizer(self) -> Optimizer:
        """The optimizer of weights that no key matches."""
        return self._default

    def __getitem__(self, key: str) -> AnyOptimizer:
        pattern = _key_of(key, list(self._by_key))
        return dict(self.as_value().items)[pattern]

    def __setitem__(self, key: str, optimizer: AnyOptimizer) -> None:
        if not isinstance(key, str) or key in self._by_key:
            raise ValueError(
                f"OptimizerMap: expected a new path as key, received {key!r}; delete the old "
                "entry first"
            )
        _check_inner(optimizer)
        self._by_key[key] = optimizer

    def __delitem__(self, key: str) -> None:
        del self._by_key[key]

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_key)

    def __call__(self, variable: Any) -> AnyOptimizer:
        """The optimizer of a weight with a `path`."""
        return self[variable.path]

    def as_value(self) -> Fields:
        """The entries as plain data, the default one last."""
        return Fields((*self._by_key.items(), (_DEFAULT, self._default)))

    def get_config(self) -> dict[str, Any]:
        """The arguments in Keras's form."""
        return {
            "default_optimizer": serialize_keras_object(self._default),
            "optimizer_map": serialize_keras_object(self._by_key),
        }

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        custom_objects: Mapping[str, object] | None = None,
    ) -> OptimizerMap:
        """The map that `get_config` described."""
        given = deserialize_keras_object(dict(config), custom_objects)
        return cls(given["default_optimizer"], given["optimizer_map"])


def _check_inner(optimizer: object) -> None:
    """Raises ValueError unless this may be one optimizer of several."""
    if isinstance(optimizer, (Several, LossScaleOptimizer)):
        raise ValueError(
            f"expected a plain optimizer, received {optimizer!r}; use it around the whole"
        )
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"expected an optimizer, received {optimizer!r}; e.g. Adam()")


def _key_of(path: str, keys: list[str]) -> str:
    """The key for a path: itself, the expression that matches it, or the default."""
    if path in keys:
        return path
    found = [key for key in keys if key and re.fullmatch(key, path)]
    if len(found) > 1:
        raise ValueError(
            f"expected one optimizer for {path}, received several, for {found}; change the "
            "expressions so that one of them matches"
        )
    return (*found, _DEFAULT)[0]


class MultiOptimizer(Several):
    """One optimizer for each entry of an `OptimizerMap`, `ByPath` with Keras's patterns.

    `model.learning_rate` is a dict by entry; that of the default optimizer has the key "".
    A function of a weight, which has `path` and `name`, may take the place of the map: `compile`
    calls it once for each weight, and makes a map of what it returns.
    Raises ValueError for anything else.

    >>> optimizers = OptimizerMap(fnn.optimizers.SGD(0.5), {".*bias": fnn.optimizers.SGD(1.0)})
    >>> optimizer = MultiOptimizer(optimizers)
    >>> weights = {"bias": jax.numpy.ones(()), "kernel": jax.numpy.ones(())}
    >>> updates, _ = optimizer.update(weights, optimizer.init(weights), weights)
    >>> float(updates["bias"]), float(updates["kernel"])
    (-1.0, -0.5)
    """

    learning_rate: ClassVar[None] = None  # type: ignore[misc]  # each rule has its own
    rules: Any  # type: ignore[misc]

    def validate(self) -> None:
        if callable(self.rules):
            return
        if not isinstance(self.rules, Fields):
            raise wrong(
                self, "optimizer_map", "to be an OptimizerMap or a function", self.rules,
                'e.g. OptimizerMap(SGD(), {"encoder/.*": Adam()})',
            )  # fmt: skip
        found = {key: get(rule) for key, rule in self.rules.items}
        for rule in found.values():
            _check_inner(rule)
        object.__setattr__(self, "rules", Fields(tuple(found.items())))

    @property
    def optimizers(self) -> dict[str, AnyOptimizer]:
        if callable(self.rules):
            return {}  # until the weights are known
        return super().optimizers

    def for_weights(self, weights: Mapping[str, Any]) -> MultiOptimizer:
        if not callable(self.rules):
            return self
        paths: dict[AnyOptimizer, list[str]] = {}
        for path, weight in weights.items():
            rule = get(self.rules(weight))
            _check_inner(rule)
            paths.setdefault(rule, []).append(re.escape(path))
        found = [("|".join(keys), rule) for rule, keys in paths.items()]
        return self._changed(rules=Fields(tuple(found)))

    def _rule_for(self, path: str) -> str:
        if callable(self.rules):
            raise ValueError(
                "MultiOptimizer: expected to know the weights before its function is called, "
                f"received {path!r}; compile a model with it, or use an OptimizerMap"
            )
        return _key_of(path, list(self.optimizers))

    def _check_rules(self, paths: list[str]) -> None:
        """An entry may have no weight, as in Keras."""
