"""Optimizer lists: the state of a model's optimizer as a list, and one step on lists."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import tree
from fnn.core.tree import Path, Tree
from fnn.models.lists import array_of
from fnn.models.variables import WeightVariable, keys_of
from fnn.models.weights import Weights
from fnn.optimizers.optimizer import Optimizer, run_update
from fnn.optimizers.stateful import first_steps
from fnn.training.step import moved
from fnn.variables import value_of


class OptimizerLists:
    """The optimizer of a program in the form of Keras's functions on JAX."""

    weights: Weights

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer as a value."""
        raise NotImplementedError

    def optimizer_state(self) -> Tree:
        """The state of the optimizer."""
        raise NotImplementedError

    def optimizer_variables(self) -> list[WeightVariable]:
        """The state of the optimizer as variables."""
        parts = first_steps(self.optimizer_state())
        places = jax.tree_util.tree_flatten_with_path(parts)[0]
        names = [tree.path_name(path[1:]) for path, _ in places]
        return [self._optimizer_variable(*pair) for pair in enumerate(names)]

    def _optimizer_variable(self, index: int, name: str) -> WeightVariable:
        if name == "step":
            name = "iteration"  # Keras's name

        def read() -> Array:
            return jnp.asarray(self.optimizer_values(self.optimizer_state())[index])

        def write(value: Array) -> None:
            values = self.optimizer_values(self.optimizer_state())
            values[index] = value
            state = self.optimizer_state_of(values)
            self.weights.shown = self.weights.now.replace(optimizer=state)

        return WeightVariable(
            f"{self._optimizer_name}/{name}", read, write, learns=lambda: False
        )

    @property
    def _optimizer_name(self) -> str:
        return str(getattr(self.optimizer, "name", "optimizer"))

    def optimizer_values(self, state: Tree) -> list[Array]:
        """The state of the optimizer as a list: the step and the learning rate come first."""
        return jax.tree.leaves(first_steps(state))

    def optimizer_state_of(self, values: Sequence[Tree]) -> Tree:
        """The state of the optimizer from such a list. Raises ValueError for another length."""
        leaves, structure = jax.tree.flatten(first_steps(self.optimizer_state()))
        if len(values) != len(leaves):
            raise ValueError(
                f"expected the values of the {len(leaves)} variables of the optimizer, received "
                f"{len(values)}; pass [v.value for v in model.optimizer.variables]"
            )
        steps, others = jax.tree.unflatten(structure, map(value_of, values))
        if isinstance(others, dict):
            return {**steps, **others}
        return others

    def stateless_apply(
        self,
        values: Sequence[Tree],
        grads: Sequence[Tree],
        trainable: Sequence[Tree],
    ) -> tuple[list[Array], list[Array]]:
        """(values of the weights, those of the optimizer) after one step."""
        layer = self.weights.network.layer
        names = keys_of(self.weights, learned=True)
        if not len(names) == len(grads) == len(trainable):
            raise ValueError(
                f"expected gradients and values of the {len(names)} trainable_variables, received "
                f"{len(grads)} and {len(trainable)}; pass both in the order of that list"
            )
        paths = [path for _, path in names]
        given = _by_path(paths, trainable)
        slopes = _by_path(paths, grads)
        state = self.optimizer_state_of(values)
        updates, after = run_update(self.optimizer, slopes, state, given)
        learned = moved(layer, given, updates)
        arrays = [tree.get(learned, path) for path in paths]
        return arrays, self.optimizer_values(after)


def _by_path(paths: list[Path], values: Sequence[Tree]) -> Tree:
    """Values as nested dicts of arrays."""
    arrays = map(array_of, values)
    return tree.unflatten(zip(paths, arrays, strict=True))
