"""Properties of a layer by itself: a value, a pure call, compiled, halved, differentiated."""

from __future__ import annotations

import copy
import json
from typing import Any

import jax
import jax.numpy as jnp

from fnn.core.calling import initialize, output_spec, weight_spec
from fnn.core.config import from_config, to_config
from fnn.core.tree import cast, describe
from fnn.testing.comparing import PromiseError, same, same_shapes
from fnn.testing.promises import promise
from fnn.testing.subject import Subject, is_float, jit


@promise(
    "a field holds what is compared by identity, or the class writes an __eq__ of its own",
    at="field",
)
def equality_and_hash(subject: Subject) -> None:
    """Layers of equal fields are equal."""
    layer: Any = subject.layer
    for again in (layer.replace(), copy.deepcopy(layer)):
        if again != layer or hash(again) != hash(layer):
            raise PromiseError(
                "a copy to be equal and have the same hash", "another one"
            )
    if layer.replace(name="another") == layer:
        raise PromiseError("a layer of another name to be another one", "an equal one")


@promise(
    "@fnn.register is missing above the class, or above a function that a field holds",
    at="field",
)
def config_round_trip(subject: Subject) -> None:
    """Its fields, written as JSON, make the same layer again."""
    layer: Any = subject.layer
    for name, value in vars(layer).items():
        if name[0] != "_":
            try:
                to_config(value)
            except ValueError as error:
                raise PromiseError(
                    "fields of plain data", str(error), f"field {name}"
                ) from None
    data = json.dumps(to_config(layer))
    again = from_config(json.loads(data))
    if type(again) is not type(layer) or json.dumps(to_config(again)) != data:
        raise PromiseError(repr(layer), repr(again))


@promise("ctx.random_key(...) stands outside `if ctx.train`")
def inference_needs_no_key(subject: Subject) -> None:
    """In inference it runs without a key."""
    subject.eager(False)


@promise(
    "Python looks at the numbers (`if x.sum() > 0`, `int(x.max())`): take sizes from x.shape "
    "and choose by jnp.where",
)
def shapes_by_eval_shape_are_those_of_running(subject: Subject) -> None:
    """Shapes are known without numbers."""
    weights, by = subject.weights, " by jax.eval_shape"
    same_shapes(
        weight_spec(subject.layer, subject.x), weights, "the weights", by, "init"
    )
    ran = subject.compiled(*weights, subject.x)
    abstract = jax.eval_shape(subject.run, *weights, subject.x)
    same_shapes(abstract, ran, "(outputs, state)", by)
    same_shapes(output_spec(subject.layer, subject.x), ran[0], "outputs", by)


@promise(
    "it writes in place (`x += 1`, `params[...] = ...`), or it reads what changes elsewhere "
    "(np.random, time, a global, a counter): what moves belongs into the state",
)
def calls_are_pure(subject: Subject) -> None:
    """A call changes nothing and depends on nothing but its arguments."""
    for train in subject.modes:
        _, before, after = subject.eager(train)
        same(after, before, "(params, state, x)", tolerance=0)
        (first, constants), (second, others) = (
            subject.program(train) for _ in range(2)
        )
        if first != second:
            pairs = zip(first.splitlines(), second.splitlines(), strict=False)
            once, twice = next((p for p in pairs if p[0] != p[1]), ("one", "another"))
            raise PromiseError(
                f"each call to be the same program, `{once.strip()}`", twice.strip()
            )
        same(others, constants, "the constants of the program", tolerance=0)


@promise(
    "it asks whether it is traced, or reads numbers through NumPy",
)
def jit_equals_eager(subject: Subject) -> None:
    """Compiled it computes what it computes eagerly."""
    for train in subject.modes:
        received = subject.compiled(*subject.weights, subject.x, train=train)
        same(received, subject.eager(train)[0], "(outputs, state)")


@promise(
    "apply returns only the entries that moved, or a new one: return {**state, ...}",
)
def state_keeps_its_structure(subject: Subject) -> None:
    """The state after a call is of the same names, shapes and dtypes as before."""
    params, state = subject.weights
    for train in subject.modes:
        run = lambda state, train=train: subject.run(params, state, subject.x, train)[1]
        same_shapes(jax.eval_shape(run, state), state, "the state")


@promise(
    "a float32 constant in the mathematics (np.float32(2), jnp.ones(n)): give it x.dtype",
)
def bfloat16(subject: Subject) -> None:
    """Bfloat16 stays bfloat16, and weights are made in float32."""
    half = cast((subject.weights[0], subject.x), "bfloat16")
    for leaf in jax.tree.leaves(weight_spec(subject.layer, half[1])):
        if is_float(leaf) and leaf.dtype.itemsize < 4:
            cause = "init makes weights of x.dtype: use self.weight(...), or self.weight_dtype"
            raise PromiseError("weights in float32", describe(leaf), "init", cause)
    for train in subject.modes:
        run = lambda params, x, train=train: subject.run(
            params, subject.weights[1], x, train
        )
        outputs, state = jax.eval_shape(run, *half)
        for leaf in filter(is_float, jax.tree.leaves(outputs)):
            if leaf.dtype != (subject.layer.dtype or "bfloat16"):
                raise PromiseError("outputs in bfloat16", describe(leaf))
        full = jax.eval_shape(run, subject.weights[0], subject.x)[1]
        same_shapes(state, full, "the state")
    outputs = subject.compiled(half[0], subject.weights[1], half[1], train=train)[0]
    if not all(
        bool(jnp.isfinite(a).all()) for a in filter(is_float, jax.tree.leaves(outputs))
    ):
        raise PromiseError("finite outputs in bfloat16", "infinity or NaN")


@promise(
    "jnp.where hides a value of sqrt, log or a division but not its gradient (make its argument "
    "safe too), or rounding, argmax and stop_gradient let none through",
)
def gradients_are_finite(subject: Subject) -> None:
    """Gradients by weights and inputs are finite, and not all zero."""
    params, state = subject.weights
    treedef: Any
    leaves, treedef = jax.tree.flatten((params, subject.x))
    floats = [i for i, leaf in enumerate(leaves) if is_float(leaf)]
    names = [
        jax.tree_util.keystr(path)
        for path, _ in jax.tree_util.tree_leaves_with_path((params, subject.x))
    ]

    def loss(values: list[Any], train: bool) -> Any:
        filled = list(leaves)
        for i, value in zip(floats, values, strict=True):
            filled[i] = value
        params, x = treedef.unflatten(filled)
        y = subject.run(params, state, x, train)[0]
        return sum(jnp.sum(a**2) for a in jax.tree.leaves(y) if is_float(a))

    for train in subject.modes:
        gradient = jit(jax.grad(loss), static_argnums=1)
        gradients = gradient([leaves[i] for i in floats], train)
        for i, g in zip(floats, gradients, strict=True):
            bad = int((~jnp.isfinite(g)).sum())
            if bad:
                raise PromiseError(
                    f"finite gradients by (params, x){names[i]}",
                    f"{bad} of {g.size} that are infinite or NaN",
                )
        if gradients and not any(bool((g != 0).any()) for g in gradients):
            raise PromiseError("a gradient by some weight or input", "zeros everywhere")


@promise(
    "it looks at the numbers or the leading axis of a weight, or calls Python (pure_callback)",
)
def vmap_over_weights(subject: Subject) -> None:
    """Many weights go through it at once, by jax.vmap over init and apply."""
    each = [subject.random_weights(seed) for seed in range(2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    keys = jax.random.split(subject.key, 2)
    init = jax.vmap(lambda key: initialize(subject.layer, key, subject.x))
    same_shapes(
        jax.eval_shape(init, keys), stacked, "the weights", " by jax.vmap", "init"
    )
    if not jax.tree.leaves(stacked):
        return
    run = jax.vmap(lambda params, state: subject.run(params, state, subject.x)[0])
    outputs = jit(run)(*stacked)
    for i, weights in enumerate(each):
        expected = subject.compiled(*weights, subject.x)[0]
        same(jax.tree.map(lambda a, i=i: a[i], outputs), expected, "outputs")
