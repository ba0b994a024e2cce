"""Rules of names: every tensor and weight is accounted for; a failed load changes nothing."""

import jax
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.saving import load_pytorch
from fnn.saving.pytorch import CONVERSIONS, FAMILIES, Rule, Target
from fnn.saving.pytorch.rules import first_match
from fnn.saving.tensors import FileError

DRAW = np.random.default_rng(0)
RULES = [
    ("encoder?.layers.{n}.linear", "repeat[{n}]", "dense"),
    ("head", "dense", "dense"),
    ("old",),
]


def drawn(*shape):
    return DRAW.normal(size=shape).astype("float32")


def model():
    layers = [L.Repeat(L.Dense(4), 3), L.Dense(2)]
    return fnn.Sequential([L.Input((4,)), *layers])


def state_dict(start="encoder."):
    found = {"head.weight": drawn(2, 4), "head.bias": drawn(2)}
    for n in range(3):
        found[f"{start}layers.{n}.linear.weight"] = drawn(4, 4)
        found[f"{start}layers.{n}.linear.bias"] = drawn(4)
    return found


@pytest.mark.parametrize("start", ["encoder.", ""])
def test_each_copy_of_a_stack_gets_its_tensors(start):
    made, tensors = model(), state_dict(start)
    report = load_pytorch(made, tensors, RULES)
    assert report.ok
    assert report.loaded == ("repeat/kernel", "repeat/bias", "dense/kernel", "dense/bias")
    stacked = made.params["repeat"]
    for n in range(3):
        kernel = tensors[f"{start}layers.{n}.linear.weight"]
        np.testing.assert_array_equal(stacked["kernel"][n], kernel.T)
        np.testing.assert_array_equal(stacked["bias"][n], tensors[f"{start}layers.{n}.linear.bias"])
    np.testing.assert_array_equal(made.params["dense"]["kernel"], tensors["head.weight"].T)


def test_what_has_no_counterpart_is_listed_and_nothing_changes():
    made, tensors = model(), state_dict()
    before = made.get_weights()
    del tensors["encoder.layers.1.linear.bias"]
    tensors["encoder.layers.3.linear.bias"] = drawn(4)
    tensors["other.weight"] = tensors["old.weight"] = drawn(3)
    tensors["head.weight"] = drawn(2, 5)
    tensors["head.bias"] = np.arange(2)
    with pytest.raises(FileError) as caught:
        load_pytorch(made, tensors, RULES)
    assert str(caught.value).splitlines() == [
        "expected weights for this model in the state dict, received differences:",
        "  dense/bias: expected float32[2], found int64[2] of head.bias",
        "  dense/kernel: expected float32[4, 2], found float32[2, 5] of head.weight",
        "  encoder.layers.3.linear.bias: not in the model",
        "  other.weight: not in the model",
        "  repeat/bias[1]: missing in the file",
    ]
    for old, new in zip(before, made.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_without_strict_the_rest_is_loaded():
    made, tensors = model(), state_dict()
    before = made.params["repeat"]["bias"]
    del tensors["encoder.layers.1.linear.bias"]
    report = load_pytorch(made, tensors, RULES, strict=False)
    assert report.missing == ("repeat/bias[1]",)
    assert report.loaded == ("repeat/kernel", "dense/kernel", "dense/bias")
    np.testing.assert_array_equal(made.params["repeat"]["bias"], before)
    np.testing.assert_array_equal(made.params["dense"]["kernel"], tensors["head.weight"].T)


def test_two_tensors_for_one_weight_are_one_too_many():
    made, tensors = model(), state_dict()
    tensors["layers.1.linear.bias"] = drawn(4)
    with pytest.raises(FileError, match=r"layers.1.linear.bias: not in the model"):
        load_pytorch(made, tensors, RULES)


def test_a_sum_needs_all_of_its_tensors():
    made = fnn.Sequential([L.LSTM(3, input_shape=(5, 2))])
    tensors = {
        "rnn.weight_ih_l0": drawn(12, 2),
        "rnn.weight_hh_l0": drawn(12, 3),
        "rnn.bias_ih_l0": drawn(12),
        "rnn.bias_hh_l0": drawn(12),
    }
    rules = [("rnn.*_l0", "lstm", "lstm")]
    load_pytorch(made, tensors, rules)
    total = tensors["rnn.bias_ih_l0"] + tensors["rnn.bias_hh_l0"]
    np.testing.assert_array_equal(made.params["lstm"]["bias"], total)
    for name in ("rnn.bias_ih_l0", "rnn.bias_hh_l0"):
        others = {other: tensor for other, tensor in tensors.items() if other != name}
        with pytest.raises(FileError, match="lstm/bias: missing"):
            load_pytorch(made, others, rules)


def test_another_name_of_tied_weights_must_hold_the_same():
    table = L.ReversibleEmbedding(5, 3)
    made = fnn.Model(table)
    made(np.zeros((1, 2), int))
    rules = [("wte", "", "embedding"), ("lm_head", "", "tied_logits")]
    weight = drawn(5, 3)
    load_pytorch(made, {"wte.weight": weight, "lm_head.weight": weight.copy()}, rules)
    np.testing.assert_array_equal(made.get_weights()[0], weight)
    with pytest.raises(FileError, match=r"lm_head.weight to be another name"):
        load_pytorch(made, {"wte.weight": 2 * weight, "lm_head.weight": weight}, rules)
    np.testing.assert_array_equal(made.get_weights()[0], weight)


def test_the_first_rule_that_knows_the_tensor_counts():
    rules = [Rule("a", "x", "norm"), Rule("a.b", "y"), Rule("{n}.c"), Rule("*_l{k}", "z[{k}]")]
    names = {"a.weight": "x", "a.b.weight": "y", "a.b.gain": None, "q.c.any.thing": None}
    for name, target in names.items():
        match = first_match(name, rules)
        assert (match and match.rule.target) == target, name
    assert first_match("a.b.gain", rules) is None
    assert first_match("q.c.any.thing", rules) is not None
    assert first_match("bias_ih_l3", [Rule("*_l{k}", "z[{k}]", "lstm")]).weight == "bias_ih"


def test_a_table_of_ones_own_is_a_conversion():
    made = fnn.Sequential([L.Dense(2, use_bias=False, input_shape=(3,))])
    weight = drawn(3, 2)
    rules = [Rule("net", "dense", {"w": (Target("kernel"),)})]
    load_pytorch(made, {"net.w": weight}, rules)
    np.testing.assert_array_equal(made.get_weights()[0], weight)


def test_zeros_are_set_where_pytorch_has_no_weight():
    made = fnn.Sequential([L.Dense(2, input_shape=(3,), bias_initializer="ones")])
    load_pytorch(made, {"net.weight": drawn(2, 3)}, [("net", "dense"), ("", "dense/bias", "zeros")])
    np.testing.assert_array_equal(made.get_weights()[1], [0, 0])


def test_the_report_compares_outputs_with_the_reference():
    x = L.Input((3,))
    made = fnn.Model(x, {"one": L.Dense(2, name="a")(x), "two": L.Dense(1, name="b")(x)})
    tensors = {"a.weight": drawn(2, 3), "a.bias": drawn(2), "b.weight": drawn(1, 3)}
    tensors["b.bias"] = drawn(1)
    rules = [("{name}", "{name}", "dense")]
    inputs = drawn(4, 3)
    outputs = {
        name: inputs @ tensors[f"{letter}.weight"].T + tensors[f"{letter}.bias"]
        for name, letter in (("one", "a"), ("two", "b"))
    }
    outputs["two"][2] += 0.5
    report = load_pytorch(made, tensors, rules, reference=(inputs, outputs))
    assert report.differences["outputs/one"] < 1e-5
    assert report.differences["outputs/two"] == pytest.approx(0.5, abs=1e-5)
    assert str(report).splitlines()[1] == ("outputs/two: differs from the reference by at most 0.5")
    with pytest.raises(ValueError, match="expected reference outputs like the 2"):
        load_pytorch(made, tensors, rules, reference=(inputs, outputs["one"]))
    outputs["one"] = outputs["one"][:2]
    with pytest.raises(ValueError, match=r"of shape \(4, 2\), received \(2, 2\)"):
        load_pytorch(made, tensors, rules, reference=(inputs, outputs))


def test_unknown_names_of_rules_and_conversions():
    made, tensors = model(), state_dict()
    with pytest.raises(ValueError, match=r"one of.*'gpt2'.*rules='gpt3'"):
        load_pytorch(made, tensors, "gpt3")
    with pytest.raises(ValueError, match=r"one of.*'dense'.*conversion='dens'"):
        load_pytorch(made, tensors, [("a", "b", "dens")])
    with pytest.raises(ValueError, match=r"expected rules to be tuples \(source, target"):
        load_pytorch(made, tensors, ["conv"])


@pytest.mark.slow
def test_loaded_weights_train():
    """Their memory is that of the arrays that were filled: donated, it is not written to again."""
    made = model()
    load_pytorch(made, state_dict(), RULES)
    kept = jax.tree.map(np.array, made.params)
    held = made.params
    made.compile("sgd", "mse")
    made.fit(drawn(8, 4), drawn(8, 2), epochs=2, verbose=0)
    for leaf, copy in zip(jax.tree.leaves(held), jax.tree.leaves(kept), strict=True):
        np.testing.assert_array_equal(leaf, copy)


def test_the_families_name_conversions_that_exist():
    for rules in FAMILIES.values():
        for rule in rules:
            assert rule.target is None or rule.conversion in {*CONVERSIONS, "zeros"}, rule
