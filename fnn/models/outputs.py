"""Outputs: the structure of the outputs of a model, and the error for outputs that are None."""

from __future__ import annotations

from typing import Any

import jax

from fnn.core.calling import output_spec, output_spec_of_child
from fnn.core.combining import Flow
from fnn.core.context import is_masked
from fnn.core.layer import Layer
from fnn.core.tree import path_name
from fnn.symbolic.parts import UNCOUNTED


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
    for path, leaf in pairs:
        if leaf is None:
            place = jax.tree_util.keystr(path)
            return place and f" at {place}"
    return None


def names_of_inputs(nodes: Any) -> list[str | None]:
    """The names of inputs that are not nested; None for one that has none."""
    if isinstance(nodes, dict):
        return list(nodes)
    if isinstance(nodes, tuple):
        return [getattr(node, "name", None) for node in nodes]
    return [nodes.name]


def names_of_outputs(outputs: Any, names: list[str]) -> list[str]:
    """The names of outputs: the keys of a dict, or those of their layers (`names`, if known)."""
    count = len(jax.tree.leaves(outputs, is_leaf=is_masked))
    if isinstance(outputs, dict) and len(outputs) == count:
        return sorted(outputs)
    if len(names) == count:
        return nested_names(outputs, names)
    if count == 1:
        return ["output"]
    return [f"output_{index}" for index in range(count)]


def nested_names(outputs: Any, names: list[str]) -> list[str]:
    """The names of outputs, given those of their layers: as in Keras with the path inside.

    >>> nested_names({"g": 1, "h": (2, 3)}, ["u", "v", "w"])
    ['g', 'h/v', 'h/w']
    """
    pairs = jax.tree_util.tree_leaves_with_path(outputs, is_leaf=is_masked)
    found = []
    for (path, _), name in zip(pairs, names, strict=True):
        if path and isinstance(path[-1], jax.tree_util.DictKey):
            name = str(path[-1].key)
        found.append(path_name((*path[:-1], name)))
    return found


def as_tuple(nodes: Any) -> Any:
    """A list of nodes as a tuple."""
    if isinstance(nodes, list):
        return tuple(nodes)
    return nodes


def as_given(nodes: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a call: an array as a tuple, for inputs that are a list of one."""
    is_one = isinstance(nodes, tuple) and len(nodes) == len(given) == 1
    if is_one and hasattr(given[0], "shape"):
        return (given,)
    return given


def without_a_list_of_one(outputs: Any) -> Any:
    """The output alone of a list or tuple of one, as in Keras."""
    if isinstance(outputs, (list, tuple)) and len(outputs) == 1:
        return outputs[0]
    return outputs
