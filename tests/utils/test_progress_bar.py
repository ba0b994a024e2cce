"""Progbar: the numbers that Keras's shows."""

import re

import keras
import pytest

from fnn.utils import Progbar


def lines(out):
    """What was drawn, without colors and backspaces."""
    plain = re.sub(r"\x1b\[\d+m|\x08", "", out)
    return [line.strip() for line in re.split(r"[\r\n]", plain) if line.strip()]


def numbers(line):
    """(the steps, the values) of a line."""
    values = {}
    for name, value in re.findall(r"(\w+): ([-\d.e+]+)", line):
        values[name] = float(value)
    return re.match(r"\d+/\w+", line).group(), values


@pytest.mark.parametrize(
    "arguments", [{}, {"stateful_metrics": ["b"]}, {"stateless_metrics": ["b"]}]
)
@pytest.mark.parametrize("target", [5, None])
@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_values_are_those_of_keras(arguments, target, verbose, capsys):
    shown = []
    for cls in (keras.utils.Progbar, Progbar):
        bar = cls(target, verbose=verbose, interval=0, unit_name="part", **arguments)
        for step in range(5):
            bar.update(step + 1, [("a", step + 0.5), ("b", 2.0 * step)])
        if target is None:
            bar.update(5, finalize=True)
        out = capsys.readouterr().out
        shown.append([numbers(line) for line in lines(out)])
        if verbose:
            assert ("/part" in out) == bool(shown[-1])
    theirs, ours = shown
    if target is None and ours:
        ours[-1] = ("5/Unknown", ours[-1][1])  # Keras does not count what it has seen
    if verbose == 2 and target is None:
        theirs = theirs or ours  # Keras writes nothing
    assert ours == theirs


def test_add_counts_on(capsys):
    bar = Progbar(6, width=6, interval=0)
    for _ in range(3):
        bar.add(2, [("loss", 1.0)])
    assert [numbers(line)[0] for line in lines(capsys.readouterr().out)] == ["2/6", "4/6", "6/6"]


def test_updates_wait_for_the_interval(capsys):
    bar = Progbar(1000, interval=60)
    for step in range(1, 1001):
        bar.update(step)
    assert [numbers(line)[0] for line in lines(capsys.readouterr().out)] == ["1/1000", "1000/1000"]


def test_both_lists_are_refused():
    with pytest.raises(ValueError, match="stateful_metrics or stateless_metrics, received both"):
        Progbar(3, stateful_metrics=["a"], stateless_metrics=["b"])
