"""RematScope and remat: values recomputed in the backward pass instead of kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from typing import Any

import jax

from fnn.core.arguments import wrong
from fnn.core.calling import output_spec
from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.layers.wrappers import Remat

MODES = ("full", "activations", "larger_than", "list_of_layers", None)


class RematScope:
    """In a `with` block, layers called on nodes recompute their values, as `Remat` does.

    `mode` chooses them: "full" all, "activations" those with an activation, "larger_than" those
    with outputs of more numbers (per example) than `output_size_threshold`, "list_of_layers" the
    `layer_names`, None none. Scopes may be nested; the innermost counts. Outputs and gradients
    stay the same. The layers of a `Sequential` are called by itself: put it into `Remat`.
    Raises ValueError for another mode.

    >>> x = fnn.Input((4,))
    >>> with RematScope():
    ...     y = fnn.layers.Dense(2)(x)
    >>> y.layer
    Remat(inner=Dense(units=2))
    """

    def __init__(
        self,
        mode: str | None = "full",
        output_size_threshold: int = 1024,
        layer_names: Sequence[str] | None = None,
    ) -> None:
        if mode not in MODES:
            raise wrong("RematScope", "mode", f"to be one of {MODES}", mode)
        self.mode = mode
        self.output_size_threshold = output_size_threshold
        self.layer_names = list(layer_names or ())
        self._tokens: list[Token[RematScope | None]] = []

    def __enter__(self) -> RematScope:
        self._tokens.append(_SCOPE.set(self))
        return self

    def __exit__(self, *error: object) -> None:
        _SCOPE.reset(self._tokens.pop())

    def holds(self, layer: Layer, trial: Tree) -> bool:
        """Whether a layer with inputs like `trial` is one that recomputes."""
        if self.mode == "full":
            return True
        if self.mode == "activations":
            return vars(layer).get("activation") is not None
        if self.mode == "list_of_layers":
            return layer.name in self.layer_names
        if self.mode == "larger_than":
            outputs = jax.tree.leaves(output_spec(layer, trial))
            size = sum(math.prod(output.shape[1:]) for output in outputs)
            return bool(size > self.output_size_threshold)
        return False


_SCOPE: ContextVar[RematScope | None] = ContextVar("remat scope", default=None)


def in_scope(layer: Layer, trial: Callable[[], Tree]) -> Layer:
    """The layer as a call runs it: in `Remat` if the scope says so."""
    scope = _SCOPE.get()
    if scope is None or not scope.holds(layer, trial()):
        return layer
    return Remat(layer)


def remat(f: Any) -> Any:
    """A function or layer that recomputes its values in the backward pass.

    >>> square = remat(lambda x: x ** 2)
    >>> jax.grad(square)(3.0).item()
    6.0
    """
    if isinstance(f, Layer):
        return Remat(f)
    return jax.checkpoint(f)
