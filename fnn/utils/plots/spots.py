"""Spots: what stands in the layers of a layout, the links between neighbors, and their order."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Iterator
from typing import TypeAlias

SWEEPS = 12


class Spot:
    """A box or nested group in a layer, or an arrow that passes it (of height 0)."""

    def __init__(self, width: float, height: float) -> None:
        self.width = width
        self.height = height
        self.rank = 0
        self.center = 0.0
        self.before: list[Link] = []
        self.after: list[Link] = []

    @property
    def passes(self) -> bool:
        """Whether this is an arrow on its way."""
        return self.height == 0


@dataclasses.dataclass(eq=False)
class Link:
    """A part of an arrow between two neighboring layers, and where it meets their spots."""

    start: Spot
    end: Spot
    start_offset: float = 0.0  # from the center
    end_offset: float = 0.0

    def other(self, spot: Spot) -> Spot:
        """The spot at the other end."""
        return self.end if spot is self.start else self.start


Layers: TypeAlias = list[list[Spot]]
Places: TypeAlias = dict[Spot, int]  # the place of each spot in its layer


def places_in(layers: Layers) -> Places:
    """The place of each spot in its layer."""
    return {spot: i for layer in layers for i, spot in enumerate(layer)}


def ordered(layers: Layers) -> Layers:
    """The layers in an order with few crossings: sorted by their neighbors, back and forth."""
    best = [list(layer) for layer in layers]
    layers = [list(layer) for layer in layers]
    fewest = _count_of_crossings(layers)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        places = places_in(layers)
        swept = layers[1:] if down else layers[-2::-1]
        for layer in swept:
            wishes = {spot: _mean_place(spot, places, down) for spot in layer}
            layer.sort(key=wishes.__getitem__)
            places.update(places_in([layer]))
        _swap_neighbors(layers, places)
        crossings = _count_of_crossings(layers)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    return best


def _at_end(link: Link, spot: Spot, places: Places) -> float:
    """The place of a link at the other end than `spot`; its offset counts within a spot."""
    offset = link.end_offset if spot is link.start else link.start_offset
    return places[link.other(spot)] + offset / 1e4


def _mean_place(spot: Spot, places: Places, down: bool) -> float:
    """The mean place of the neighbors in the layer before or after."""
    links = spot.before if down else spot.after
    if not links:
        return float(places[spot])
    return sum(_at_end(link, spot, places) for link in links) / len(links)


def _swap_neighbors(layers: Layers, places: Places) -> None:
    """Swaps neighbors of a layer where that saves crossings."""
    for layer in layers:
        for i in range(len(layer) - 1):
            left, right = layer[i], layer[i + 1]
            gain = 0
            for one, other in (
                (left.before, right.before),
                (left.after, right.after),
            ):
                first = [_at_end(link, left, places) for link in one]
                last = [_at_end(link, right, places) for link in other]
                gain += sum((a > b) - (a < b) for a in first for b in last)
            if gain > 0:
                layer[i], layer[i + 1] = right, left
                places[left], places[right] = i + 1, i


def _count_of_crossings(layers: Layers) -> int:
    """The number of pairs of links that cross."""
    places = places_in(layers)
    count = 0
    for layer in layers:
        before: list[float] = []  # sorted ends of the links on the left
        for spot in layer:
            ends = [_at_end(link, spot, places) for link in spot.after]
            count += sum(len(before) - bisect.bisect_right(before, e) for e in ends)
            for end in ends:
                bisect.insort(before, end)
    return count


def crossing_pairs(layer: list[Spot], places: Places) -> Iterator[tuple[Link, Link]]:
    """The pairs of links from a layer to the next that cross."""
    ends = [
        (spot, _at_end(link, spot, places), link)
        for spot in layer
        for link in spot.after
    ]
    for (first, a, one), (last, b, other) in itertools.combinations(ends, 2):
        if first is not last and a > b:
            yield one, other
