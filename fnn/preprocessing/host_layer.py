"""HostLayer: the base class of layers that NumPy computes, ahead of compiled programs."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import numpy as np

from fnn.core.calling import walk
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import SpecTree, Tree, TrialStrings, spec
from fnn.preprocessing.strings import as_host, on_device, refuse_sparse


class HostLayer(Layer, loadable=False):
    """A layer without weights that takes strings, or integers of 64 bits, on the host.

    A subclass defines `compute(x)`, of arrays of NumPy, and `host_spec(x)`, the shape of the
    outputs. Called on strings, arrays or lists it returns an array of JAX, or strings as an array
    of NumPy. At the head of a model it runs in the input pipeline, ahead of the compiled part.
    """

    masking = "refuse"
    # The dtype is that of the outputs, mostly integers or strings.
    follows_policy = False
    # The inputs are several arrays.
    takes_several: ClassVar[bool] = False

    def validate(self) -> None:
        refuse_sparse(self)

    @property
    def has_free_length(self) -> bool:
        """Whether the longest example of a batch decides about the length of the outputs."""
        return False

    def runs_on_host(self, x: SpecTree) -> bool:
        return True

    def host_spec(self, x: SpecTree) -> SpecTree:
        """Shape and dtype of the outputs."""
        raise NotImplementedError

    def compute(self, x: Any) -> np.ndarray:
        """The outputs for an array of NumPy, or a tuple of several."""
        raise NotImplementedError

    def on_host(self, x: Tree) -> np.ndarray:
        """The outputs for strings, arrays or lists, as an array of NumPy."""
        first = jax.tree.leaves(x)[:9]
        if any(isinstance(leaf, TrialStrings) for leaf in first):
            made = self.host_spec(spec(x))
            return np.zeros(made.shape, made.dtype)
        if self.takes_several:
            return self.compute(tuple(as_host(self, part) for part in x))
        return self.compute(as_host(self, x))

    def when_called(self, y: np.ndarray) -> np.ndarray:
        """The outputs of a call on data, outside of a network, which Keras has in another dtype."""
        return y

    def apply(
        self, params: Params, state: State, x: Tree, ctx: Context = INFERENCE
    ) -> tuple[Tree, State]:
        return on_device(self.on_host(x)), state

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """On symbolic inputs a node of a graph; on strings, arrays and lists the outputs."""
        named.pop("training", None)
        if len(inputs) != 1 or named or _is_symbolic(inputs[0]):
            return super().__call__(*inputs, **named)
        return on_device(self.when_called(self.on_host(inputs[0])))


def _is_symbolic(x: Tree) -> bool:
    """Whether this is a node, or a list or tuple of nodes; long lists of strings are not read."""
    if isinstance(x, (list, tuple)):
        return any(_is_symbolic(part) for part in x[:2])
    return bool(getattr(x, "is_symbolic", False)) and not isinstance(x, jax.Array)


def has_free_lengths(layer: Layer) -> bool:
    """Whether batches of one shape may have several after the layers on the host."""
    inside = (one for _, one, _ in walk(layer))
    return any(isinstance(one, HostLayer) and one.has_free_length for one in inside)
