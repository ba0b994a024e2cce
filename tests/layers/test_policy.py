"""The policy mixed_bfloat16 over every layer of the catalogue: dtypes, values, live Keras."""

import functools

import jax
import numpy as np
import pytest

from fnn import layers as L
from fnn.core.calling import weight_spec
from fnn.core.context import strip_masks
from fnn.testing.subject import Subject, is_float
from tests.helpers.catalogue import CATALOGUE, COMPILED, first_of_modules, jit
from tests.helpers.keras_twins import ordered, runner, twin
from tests.helpers.oracle import keras_rules
from tests.helpers.policies import equations, operands, policy, remade

pytestmark = pytest.mark.slow


def case_ids(cases):
    return [case.id for case in cases]


def floats(values):
    return [a for a in jax.tree.leaves(strip_masks(values)) if is_float(a)]


def dtypes(values):
    return {str(a.dtype) for a in floats(values)}


def rows(cases, shown):
    """A parametrization over rows; those whose mechanism is that of a row of `shown`: thorough."""
    marks = {True: (), False: pytest.mark.thorough}
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=case.id, marks=marks[case in shown]) for case in cases]
    )


def under(case):
    """The row with its layer made under the policy in force."""
    return Subject(remade(case.layer), case.x, case.key)


def traced(subject, case, train=False):
    run = lambda params, state, x: subject.run(params, state, x, train)
    return jax.make_jaxpr(run, return_shape=True)(*case.weights, case.x)


@pytest.mark.parametrize("case", CATALOGUE, ids=case_ids(CATALOGUE))
def test_weights_and_state_in_float32_and_outputs_in_bfloat16(case):
    with policy("mixed_bfloat16"):
        subject = under(case)
        assert dtypes(weight_spec(subject.layer, case.x)) <= {"float32"}
        program, (y, state) = traced(subject, case, train=True)
    assert dtypes(state) <= {"float32"}
    if "bfloat16" not in case.without and subject.layer.follows_policy:
        assert dtypes(y) <= {"bfloat16"}
    # the exponentials of softmax, the statistics of norms; those of activations may be halves
    norms = ("rsqrt", "sqrt", "reduce_sum") if is_norm(case) else ()
    assert operands(program.jaxpr, *norms) <= {"float32"}


def is_norm(case):
    return "Normalization" in type(case.layer).__name__


BEFORE = [case for case in CATALOGUE if case.layer.follows_policy]


@rows(BEFORE, COMPILED)
def test_layers_made_before_keep_their_dtype(case):
    with policy("mixed_bfloat16"):
        program, _ = traced(case, case)
        assert dtypes(weight_spec(case.layer.replace(), case.x)) <= {"float32"}
    used = {str(a.aval.dtype) for e in equations(program.jaxpr) for a in (*e.invars, *e.outvars)}
    assert "bfloat16" not in used


def near(received, expected):
    """Equal within the rounding of bfloat16, which has 8 bits, relative to the largest."""
    expected = [np.asarray(a, "float32") for a in floats(expected)]
    for a, b in zip(floats(received), expected, strict=True):
        scale = max(np.abs(b).max(initial=0), 1e-3)
        np.testing.assert_allclose(np.asarray(a, "float32"), b, rtol=0, atol=0.04 * scale)


SMOOTH = [case for case in COMPILED if "bfloat16" not in case.without and not case.layer.may_draw]
BY_CLASS = list({type(case.layer): case for case in SMOOTH}.values())


@functools.cache
def under_and_not(name):
    """The outputs of a row under the policy, and without it."""
    (case,) = (case for case in SMOOTH if case.id == name)
    with policy("mixed_bfloat16"):
        subject = under(case)

    def both(params, state, x):
        return subject.run(params, state, x)[0], case.run(params, state, x)[0]

    return jit(both)(*case.weights, case.x)


@rows(SMOOTH, BY_CLASS)
def test_values_are_those_of_float32_within_bfloat16(case):
    near(*under_and_not(case.id))


TWINS = [
    case
    for case in SMOOTH
    if case.keras is not None
    and case.layer.follows_policy
    and not isinstance(case.layer, L.STFTSpectrogram)  # Keras refuses bfloat16 there
]


BY_MODULE = first_of_modules([case for case in TWINS if case in BY_CLASS])


@rows(TWINS, BY_MODULE)
def test_values_are_those_of_keras(case, keras):
    """As those of float32 are, and those of the policy are near them: a row of each module."""
    _, theirs = under_policy_in_keras(case, keras, jit)
    near(under_and_not(case.id)[0], theirs)


@pytest.mark.parametrize("case", TWINS, ids=case_ids(TWINS))
def test_dtypes_are_those_of_keras(case, keras):
    layer, theirs = under_policy_in_keras(case, keras, traced_outputs)
    assert {w.dtype for w in layer.weights if "float" in w.dtype} <= {"float32"}
    with policy("mixed_bfloat16"):
        received, _ = jax.eval_shape(under(case).run, *case.weights, case.x)
    assert [a.dtype for a in floats(received)] == [a.dtype for a in floats(theirs)]


def traced_outputs(run):
    return lambda x: jax.eval_shape(run, x)


def under_policy_in_keras(case, keras, by):
    """The twin of a row made under the policy, and its outputs, computed or traced by `by`."""
    with policy("mixed_bfloat16", keras), keras_rules():
        layer = twin(case)
        _, values = ordered(case)
        layer.set_weights([np.asarray(w) for w in values])
        trainable, run = runner(case, layer, train=False)
        return layer, by(lambda x: run(trainable, x)[0])(strip_masks(case.x))
