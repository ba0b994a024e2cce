"""Series: windows of time series as batches, with what is to be predicted from each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from fnn.data.batches import Batch, Batches, seed_of

Bounds: TypeAlias = int | Sequence[int] | np.ndarray | None


def windows(
    data: ArrayLike,
    targets: ArrayLike | None = None,
    *,
    length: int,
    horizon: int | Sequence[int] | None = None,
    stride: int = 1,
    sampling_rate: int = 1,
    start: Bounds = None,
    end: Bounds = None,
    batch_size: int | None = 32,
    shuffle: bool = False,
    seed: int | None = None,
) -> Batches:
    """Windows of a series, each with its target.   (time, ...) -> (batch, length, ...)

    A window has every `sampling_rate`-th step of the series, and begins `stride` steps after the
    one before. Its target is the value of `targets` (without them of the series itself) `horizon`
    steps after its last step: 0 is that step itself, and the default where there are targets. A
    list of horizons, such as `range(1, 25)`, gives (batch, len(horizon), ...). Without targets and
    horizon there are windows alone.

    `start` and `end` limit the steps that are read. With gaps in the series they are lists, the
    bounds of each part: no window and no target crosses a gap. Arrays of `np.memmap` are read
    window by window. `shuffle` gives each pass an order of its own, by `seed`.
    Raises ValueError for a series that is too short for one window, and for steps of different
    shapes.

    >>> series = np.arange(10)
    >>> for x, y in windows(series, length=3, horizon=1, stride=2, batch_size=2):
    ...     print(x.tolist(), y.tolist())
    [[0, 1, 2], [2, 3, 4]] [3, 5]
    [[4, 5, 6], [6, 7, 8]] [7, 9]
    >>> [x.tolist() for x in windows(series, length=3, start=[0, 6], end=[4, 10])]
    [[[0, 1, 2], [1, 2, 3], [6, 7, 8], [7, 8, 9]]]
    """
    for name, value in (
        ("length", length),
        ("stride", stride),
        ("sampling_rate", sampling_rate),
    ):
        if int(value) != value or value < 1:
            raise ValueError(
                f"windows: expected {name} as a positive integer, received {value!r}"
            )
    series = as_series("data", data)
    goals = None
    if targets is not None:
        goals = as_series("targets", targets)
        if len(goals) != len(series):
            raise ValueError(
                f"windows: expected a target for each of {len(series)} steps, received "
                f"{len(goals)}; targets[i] belongs to step i, pass the horizon instead of a shift"
            )
    elif horizon is not None:
        goals = series
    return window_batches(
        series,
        goals,
        window=np.arange(length) * sampling_rate,
        ahead=np.asarray(0 if horizon is None else horizon),
        stride=stride,
        parts=_parts(len(series), start, end),
        batch_size=batch_size,
        seed=seed_of(shuffle, seed),
    )


def window_batches(
    series: np.ndarray,
    goals: np.ndarray | None,
    *,
    window: np.ndarray,
    ahead: np.ndarray,
    stride: int,
    parts: list[tuple[int, int]],
    batch_size: int | None,
    seed: int | None,
) -> Batches:
    """Batches of the steps `window` after each start, in the parts of a series.

    The target is that of `ahead` steps after the last one.
    """
    offsets = window
    if goals is not None:
        ahead = ahead + window[-1]  # after the start of the window
        offsets = np.append(window, ahead)
    first, last = int(offsets.min()), int(offsets.max())
    starts = [
        np.arange(begin - first, end - last, stride)  # may be empty
        for begin, end in parts
    ]
    begins = np.concatenate(starts)
    if goals is not None:
        begins = begins[begins + ahead.max() < len(goals)]
    if not len(begins):
        longest = max(end - begin for begin, end in parts)
        raise ValueError(
            f"expected a series of at least {last - first + 1} steps for windows of {len(window)} "
            f"steps with their sampling rate and horizon, received {longest}; use shorter windows"
        )

    def make(indices: np.ndarray) -> Batch:
        begin = begins[indices]  # (batch,)
        found = series[begin[:, None] + window]  # (batch, length, ...)
        if goals is None:
            return found
        if not ahead.ndim:
            return found, goals[begin + ahead]
        return found, goals[begin[:, None] + ahead]  # (batch, horizons, ...)

    return Batches(len(begins), make, batch_size, seed)


def as_series(name: str, values: ArrayLike) -> np.ndarray:
    """An array with time along its first axis. Raises ValueError for steps of several shapes.

    >>> as_series("data", [[1, 2], [3, 4]]).shape
    (2, 2)
    """
    if isinstance(values, np.ndarray):
        series = values  # also one on disk, np.memmap
    else:
        try:
            series = np.asarray(values)
        except ValueError as error:
            raise ValueError(
                f"expected {name} with steps of one shape, received steps of several; pad them, "
                "or make windows of each series"
            ) from error
    if not series.ndim:
        raise ValueError(
            f"expected {name} as an array with time along its first axis, received {values!r}"
        )
    return series


def _parts(count: int, start: Bounds, end: Bounds) -> list[tuple[int, int]]:
    """The first step of each part of a series, and the one after its last."""
    begins = np.atleast_1d(0 if start is None else start)
    ends = np.atleast_1d(count if end is None else end)
    if begins.shape != ends.shape or begins.ndim != 1 or not len(begins):
        raise ValueError(
            "windows: expected start and end as integers or lists of one length, the bounds of "
            f"each part, received {start!r} and {end!r}"
        )
    parts = []
    for bounds in zip(begins, ends, strict=True):
        begin, stop = map(int, bounds)
        if not 0 <= begin < stop <= count:
            raise ValueError(
                f"windows: expected parts within the {count} steps of the series, received "
                f"start={begin} and end={stop}"
            )
        parts.append((begin, stop))
    return parts
