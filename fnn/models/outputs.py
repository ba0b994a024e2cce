"""Checks of the outputs of a model: an error names the layer that returned None."""

from __future__ import annotations

from typing import Any

import jax

from fnn.core.calling import output_spec, output_spec_of_child
from fnn.core.combining import Flow
from fnn.core.layer import Layer
from fnn.symbolic.node import UNCOUNTED


def refuse_none(layer: Layer, x: Any) -> None:
    """Raises ValueError, naming the layer that made it, if an output for `x` is None."""
    try:
        place = _first_none(output_spec(layer, x))
    except Exception:
        # It is raised where outputs are needed, with the sizes of the data.
        return
    if place is None:
        return
    maker, name = layer, ""

    def visit(child: str, inner: Layer, x: Any) -> Any:
        nonlocal maker, name
        made = output_spec_of_child(child, inner, x)
        if _first_none(made) is not None and not isinstance(inner, UNCOUNTED):
            maker, name = inner, f" in layer {child}"
        return made

    if isinstance(layer, Flow):
        layer.flow(x, visit)
    raise ValueError(
        f"expected arrays as the outputs of a model, received None{place}, which {maker!r}{name} "
        "returns; return arrays alone, or leave this output out"
    )


def _first_none(outputs: Any) -> str | None:
    """Where the first None is in a structure of outputs: ` at [1]`, "" for itself."""
    pairs = jax.tree_util.tree_leaves_with_path(
        outputs, is_leaf=lambda leaf: leaf is None
    )
    places = [jax.tree_util.keystr(path) for path, leaf in pairs if leaf is None]
    return None if not places else places[0] and f" at {places[0]}"
