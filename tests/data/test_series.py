"""Windows of series: by a loop, over gaps, on disk, and as Keras's function makes them."""

import itertools

import keras
import numpy as np
import pytest

from fnn.data import windows
from fnn.utils import timeseries_dataset_from_array

SERIES = np.arange(60.0).reshape(30, 2)
TARGETS = np.arange(30) * 10


def by_a_loop(series, goals, length, ahead, stride, rate, parts):
    """Every window and its target, position by position."""
    found = []
    for begin, end in parts:
        for start in itertools.count(begin, stride):
            steps = [start + i * rate for i in range(length)]
            aims = [steps[-1] + n for n in np.atleast_1d(ahead)] if goals is not None else []
            if max(steps + aims) >= end:
                break
            target = None
            if goals is not None:
                target = goals[aims] if np.ndim(ahead) else goals[aims[0]]
            found.append((series[steps], target))
    return found


@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize(("stride", "rate"), [(1, 1), (3, 2)])
@pytest.mark.parametrize("horizon", [0, 2, range(1, 4)])
@pytest.mark.parametrize("parts", [[(0, 30)], [(2, 13), (15, 30)], [(0, 2), (3, 30)]])
@pytest.mark.parametrize("targets", [None, TARGETS])
def test_windows_by_a_loop(length, stride, rate, horizon, parts, targets):
    starts, ends = zip(*parts, strict=True)
    stream = windows(
        SERIES,
        targets,
        length=length,
        horizon=horizon,
        stride=stride,
        sampling_rate=rate,
        start=starts,
        end=list(ends),
        batch_size=4,
    )
    goals = SERIES if targets is None else targets
    expected = by_a_loop(SERIES, goals, length, horizon, stride, rate, parts)
    x, y = (np.concatenate(part) for part in zip(*stream, strict=True))
    np.testing.assert_array_equal(x, [window for window, _ in expected])
    np.testing.assert_array_equal(y, [target for _, target in expected])
    assert stream.count == len(expected)


def test_without_targets_and_horizon_there_are_windows_alone():
    (found,) = windows(SERIES, length=28, start=1)
    np.testing.assert_array_equal(found, [SERIES[1:29], SERIES[2:30]])


def test_targets_alone_belong_to_the_last_step():
    ((_, y),) = windows(SERIES, TARGETS, length=5, batch_size=100)
    np.testing.assert_array_equal(y, TARGETS[4:])


@pytest.mark.parametrize(
    "arguments",
    [
        {"sequence_length": 4},
        {"sequence_length": 3, "sequence_stride": 2, "sampling_rate": 3},
        {"sequence_length": 5, "start_index": 3, "end_index": 21},
        {"sequence_length": 2, "start_index": 20, "batch_size": None},
    ],
)
@pytest.mark.parametrize("targets", [None, TARGETS, TARGETS[7:]])
def test_batches_are_those_of_keras(arguments, targets):
    ours = timeseries_dataset_from_array(SERIES, targets, **arguments)
    theirs = keras.utils.timeseries_dataset_from_array(SERIES, targets, **arguments)
    if targets is not None and len(targets) < 30 and "start_index" in arguments:
        return  # Keras reads beyond their end
    for found, expected in zip(ours, theirs, strict=True):
        pairs = zip(found, expected, strict=True) if targets is not None else [(found, expected)]
        for one, other in pairs:
            np.testing.assert_array_equal(one, other.numpy())


def test_shuffled_windows_come_once_each():
    stream = windows(SERIES, length=3, horizon=1, batch_size=8, shuffle=True, seed=2)
    passes = [np.concatenate([x[:, 0, 0] for x, _ in stream]) for _ in range(2)]
    assert not np.array_equal(*passes)
    for found in passes:
        np.testing.assert_array_equal(np.sort(found), SERIES[:27, 0])


def test_a_series_on_disk_is_read_window_by_window(tmp_path):
    path = tmp_path / "series.bin"
    SERIES.tofile(path)
    on_disk = np.memmap(path, "float64", "r", shape=(30, 2))
    stream = windows(on_disk, length=3, horizon=1)
    assert not isinstance(next(iter(stream))[0], np.memmap)
    for found, expected in zip(stream, windows(SERIES, length=3, horizon=1), strict=True):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 31}, "at least 31 steps for windows of 31 steps .*, received 30; use shorter"),
        ({"length": 28, "horizon": 3}, "at least 31 steps"),
        ({"length": 9, "start": [0, 10], "end": [5, 18]}, "at least 9 steps .*, received 8"),
        ({"length": 0}, "length as a positive integer, received 0"),
        ({"length": 2, "stride": 0.5}, "stride as a positive integer, received 0.5"),
        ({"length": 2, "sampling_rate": -1}, "sampling_rate as a positive integer"),
        ({"length": 2, "start": [0, 5], "end": 9}, "lists of one length, the bounds of each part"),
        ({"length": 2, "start": 9, "end": 5}, "received start=9 and end=5"),
        ({"length": 2, "end": 31}, "within the 30 steps of the series"),
        ({"length": 2, "targets": TARGETS[1:]}, "a target for each of 30 steps, received 29"),
    ],
)
def test_windows_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        windows(SERIES, **arguments)


def test_a_series_must_have_steps_of_one_shape():
    with pytest.raises(ValueError, match="expected data with steps of one shape"):
        windows([[1, 2], [3]], length=1)
    with pytest.raises(ValueError, match="time along its first axis, received 3"):
        windows(3, length=1)
