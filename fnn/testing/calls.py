"""Properties of single calls: equality, config, purity, jit, dtypes, gradients, vmap."""

from __future__ import annotations

import copy
import json
import operator
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.calling import initialize, output_spec, weight_spec
from fnn.core.config import from_config, to_config
from fnn.core.layer import Params, State
from fnn.core.tree import SpecTree, Tree, cast, describe
from fnn.testing.comparing import PromiseError, same, same_shapes
from fnn.testing.promises import promise
from fnn.testing.subject import Subject, is_float, jit, on_host


@promise(
    "a field holds an object that is compared by identity, or the class defines its own "
    "__eq__",
    at="field",
)
def equality_and_hash(subject: Subject) -> None:
    """Layers with equal fields are equal."""
    layer = subject.layer
    copies = (layer.replace(), copy.deepcopy(layer))
    for again in copies:
        if again != layer or hash(again) != hash(layer):
            raise PromiseError("a copy to be equal, with the same hash", "another one")
    if layer.replace(name="another") == layer:
        raise PromiseError("a layer of another name to be different", "an equal one")


@promise(
    "@fnn.register is missing above the class, or above a function that a field holds",
    at="field",
)
def config_round_trip(subject: Subject) -> None:
    """Its fields, written as JSON, create an equal layer."""
    layer = subject.layer
    for name, value in vars(layer).items():
        if name[0] != "_":
            _require_config(name, value)
    # Compared as JSON, which is what a file holds.
    data = json.dumps(to_config(layer))
    again = from_config(json.loads(data))
    same_class = type(again) is type(layer)
    data_again = json.dumps(to_config(again))
    if not same_class or data_again != data:
        raise PromiseError(repr(layer), repr(again))


def _require_config(name: str, value: object) -> None:
    try:
        to_config(value)
    except ValueError as error:
        at = f"field {name}"
        raise PromiseError("fields of plain data", str(error), at) from None


@promise("ctx.random_key(...) is called outside of `if ctx.train`")
def inference_needs_no_key(subject: Subject) -> None:
    """Inference needs no random key."""
    subject.eager(False)


@promise(
    "Python reads values (`if x.sum() > 0`, `int(x.max())`): take sizes from x.shape and "
    "choose with jnp.where",
)
def shapes_by_eval_shape_are_those_of_running(subject: Subject) -> None:
    """Shapes do not depend on values."""
    weights = subject.weights
    x = subject.x
    by = " by jax.eval_shape"
    abstract = weight_spec(subject.layer, x)
    same_shapes(abstract, weights, "the weights", by, "init")
    ran = subject.compiled(*weights, x)
    abstract = jax.eval_shape(subject.run, *weights, x)
    same_shapes(abstract, ran, "(outputs, state)", by)
    outputs = output_spec(subject.layer, x)
    same_shapes(outputs, ran[0], "outputs", by)


@promise(
    "it writes in place (`x += 1`, `params[...] = ...`), or reads something that changes "
    "(np.random, time, a global, a counter): move it into the state",
)
def calls_are_pure(subject: Subject) -> None:
    """A call changes nothing and depends only on its arguments."""
    for train in subject.modes:
        run = subject.eager(train)
        before = run.arguments_before
        same(run.arguments_after, before, "(params, state, x)", tolerance=0)
        first = subject.program(train)
        second = subject.traced(train)
        if first.jaxpr != second.jaxpr:
            once, twice = _first_difference(first.jaxpr, second.jaxpr)
            raise PromiseError(f"each call to be the same program, `{once}`", twice)
        what = "the constants of the program"
        same(second.constants, first.constants, what, tolerance=0)


def _first_difference(first: str, second: str) -> tuple[str, str]:
    first_lines = first.splitlines()
    second_lines = second.splitlines()
    for once, twice in zip(first_lines, second_lines, strict=False):
        if once != twice:
            return once.strip(), twice.strip()
    return "one", "another"


@promise(
    "it checks whether it is traced, or reads values through NumPy",
)
def jit_equals_eager(subject: Subject) -> None:
    """It computes the same with and without jit."""
    arguments = (*subject.weights, subject.x)
    for train in subject.modes:
        received = subject.compiled(*arguments, train=train)
        expected = subject.eager(train).results
        same(received, expected, "(outputs, state)")


@promise(
    "apply returns only the entries that changed, or a new one: return {**state, ...}",
)
def state_keeps_its_structure(subject: Subject) -> None:
    """A call keeps the names, shapes and dtypes of the state."""
    params, state = subject.weights
    for train in subject.modes:

        def new_state(state: State, train: bool = train) -> State:
            _, after = subject.run(params, state, subject.x, train)
            return after

        after_call = jax.eval_shape(new_state, state)
        same_shapes(after_call, state, "the state")


@promise(
    "a float32 constant in the arithmetic (np.float32(2), jnp.ones(n)): give it x.dtype",
)
def bfloat16(subject: Subject) -> None:
    """Outputs of bfloat16 inputs are bfloat16; weights are float32."""
    params, state = subject.weights
    half_params, half_x = cast(on_host((params, subject.x)), "bfloat16")
    made = weight_spec(subject.layer, half_x)
    for leaf in _floats(made):
        if leaf.dtype.itemsize < 4:
            cause = (
                "init makes weights of x.dtype: use self.weight(...), or "
                "self.weight_dtype"
            )
            raise PromiseError("weights in float32", describe(leaf), "init", cause)
    for train in subject.modes:

        def run(
            params: Params,
            x: Tree,
            train: bool = train,
        ) -> tuple[Tree, State]:
            return subject.run(params, state, x, train)

        outputs, new_state = jax.eval_shape(run, half_params, half_x)
        for leaf in _floats(outputs):
            if leaf.dtype != (subject.layer.dtype or "bfloat16"):
                raise PromiseError("outputs in bfloat16", describe(leaf))
        _, state_in_float32 = jax.eval_shape(run, params, subject.x)
        same_shapes(new_state, state_in_float32, "the state")
    # Now with values: bfloat16 has 8 bits of precision.
    outputs, _ = subject.compiled(half_params, state, half_x, train=train)
    finite = [np.isfinite(np.asarray(a)).all() for a in _floats(outputs)]
    if not all(finite):
        raise PromiseError("finite outputs in bfloat16", "infinity or NaN")


def _floats(values: SpecTree) -> Iterator[Any]:
    """The leaves of floating-point dtypes."""
    return filter(is_float, jax.tree.leaves(values))


@promise(
    "jnp.where hides a value of sqrt, log or a division but not its gradient (make its "
    "argument safe too), or rounding, argmax or stop_gradient blocks the gradient",
)
def gradients_are_finite(subject: Subject) -> None:
    """Gradients by weights and inputs are finite, and not all zero."""
    params, state = subject.weights
    differentiated = (params, subject.x)
    leaves, treedef = jax.tree.flatten(differentiated)
    floats = [i for i, leaf in enumerate(leaves) if is_float(leaf)]
    paths = jax.tree_util.tree_leaves_with_path(differentiated)
    names = [jax.tree_util.keystr(path) for path, _ in paths]

    def loss(values: list[Array], train: bool) -> Array:
        filled = list(leaves)
        for i, value in zip(floats, values, strict=True):
            filled[i] = value
        params, x = jax.tree.unflatten(treedef, filled)
        y, _ = subject.run(params, state, x, train)
        squares = [jnp.sum(a**2) for a in _floats(y)]
        return sum(squares, jnp.zeros(()))

    # The values of the floating-point leaves are differentiated.
    gradient = jit(jax.grad(loss), static_argnums=1)
    for train in subject.modes:
        values = [leaves[i] for i in floats]
        gradients = gradient(values, train)
        for i, g in zip(floats, gradients, strict=True):
            _require_finite(g, names[i])
        moving = [(np.asarray(g) != 0).any() for g in gradients]
        if gradients and not any(moving):
            raise PromiseError("a gradient by some weight or input", "zeros everywhere")


def _require_finite(gradient: Array, name: str) -> None:
    # By NumPy, which compiles nothing.
    finite = np.isfinite(np.asarray(gradient))
    bad = int((~finite).sum())
    if bad:
        expected = f"finite gradients by (params, x){name}"
        received = f"{bad} of {gradient.size} that are infinite or NaN"
        raise PromiseError(expected, received)


@promise(
    "it reads the values or the leading axis of a weight, or calls Python (pure_callback)",
)
def vmap_over_weights(subject: Subject) -> None:
    """It works under jax.vmap over the weights."""
    each = [subject.random_weights(0), subject.random_weights(1)]
    stacked = jax.tree.map(_stack, *map(on_host, each))
    keys = jax.random.split(subject.key, 2)

    def init(key: Array) -> tuple[Params, State]:
        return initialize(subject.layer, key, subject.x)

    made = jax.eval_shape(jax.vmap(init), keys)
    same_shapes(made, stacked, "the weights", " by jax.vmap", "init")
    if not jax.tree.leaves(stacked):
        # A layer without weights and state.
        return

    def run(params: Params, state: State) -> Tree:
        y, _ = subject.run(params, state, subject.x)
        return y

    run_all = jit(jax.vmap(run))
    outputs = on_host(run_all(*stacked))
    for i, weights in enumerate(each):
        own = operator.itemgetter(i)
        received = jax.tree.map(own, outputs)
        expected, _ = subject.compiled(*weights, subject.x)
        same(received, expected, "outputs")


def _stack(*leaves: Array | np.ndarray) -> Array | np.ndarray:
    if isinstance(leaves[0], np.ndarray):
        return np.stack(leaves)
    return jnp.stack(leaves)  # random keys
