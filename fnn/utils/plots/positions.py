"""Positions: straight arrows and balanced boxes, after Brandes and Koepf (2001)."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TypeAlias

from fnn.utils.plots.spots import Layers, Link, Spot, crossing_pairs, places_in

GAP = 18.0  # between boxes of a layer, in points
LANE = 10.0  # beside an arrow that passes a layer

Centers: TypeAlias = dict[Spot, float]


def place_across(layers: Layers) -> None:
    """Sets the center of each spot, in the order of its layer.

    Spots are aligned with the neighbors before or after, those on the left or on the right first:
    of these four placements, each center is the mean of the two in the middle.
    """
    links = _usable(layers)
    found = []
    for down, to_left in itertools.product((True, False), repeat=2):
        sign = 1.0 if to_left else -1.0
        turned = layers if to_left else [layer[::-1] for layer in layers]
        centers = _Alignment(turned, links, down, sign).centers()
        found.append({spot: sign * center for spot, center in centers.items()})
    _align(found)
    for spot in itertools.chain.from_iterable(layers):
        middle = sorted(centers[spot] for centers in found)[1:3]
        spot.center = sum(middle) / 2


def _usable(layers: Layers) -> set[Link]:
    """The links that spots are aligned by.

    Of two arrows of a box, one that passes layers gives way to one that does not, so that the
    main path of a residual block is straight. Each link gives way to the middle parts of arrows
    that it crosses.
    """
    found = set()
    for spot in itertools.chain.from_iterable(layers):
        for link in spot.after:
            start, end = link.start, link.end
            leaves = end.passes and not start.passes and _has_main(start, start.after)
            arrives = start.passes and not end.passes and _has_main(end, end.before)
            if not leaves and not arrives:
                found.add(link)
    places = places_in(layers)
    for layer in layers:
        for one, other in crossing_pairs(layer, places):
            is_middle = other.start.passes and other.end.passes
            found.discard(one if is_middle else other)
    return found


def _has_main(spot: Spot, links: list[Link]) -> bool:
    """Whether one of two arrows at a box comes from the next layer, the other from further on."""
    return len(links) == 2 and any(not link.other(spot).passes for link in links)


class _Alignment:
    """One placement: blocks of aligned spots, each as far to the left as there is room."""

    def __init__(
        self,
        layers: Layers,
        links: set[Link],
        down: bool,
        sign: float,
    ) -> None:
        self.layers = layers
        self.links = links
        self.down = down
        self.sign = sign  # -1: the layers and the offsets are mirrored
        self.root = {spot: spot for layer in layers for spot in layer}
        self.shift = dict.fromkeys(self.root, 0.0)  # from the center of the block
        self._make_blocks()

    def _make_blocks(self) -> None:
        """Aligns each spot with its middle neighbor, unless that crosses another alignment."""
        places = places_in(self.layers)
        taken: set[Spot] = set()
        layers = self.layers if self.down else self.layers[::-1]
        for layer in layers:
            last = -1
            for spot in layer:
                links = spot.before if self.down else spot.after
                links = [link for link in links if link in self.links]
                links.sort(key=lambda link: places[link.other(spot)])
                count = len(links)
                for link in links[(count - 1) // 2 : count // 2 + 1]:
                    other = link.other(spot)
                    if places[other] > last and other not in taken:
                        self._join(spot, other, link)
                        taken.add(other)
                        last = places[other]
                        break

    def _join(self, spot: Spot, other: Spot, link: Link) -> None:
        """Puts a spot into the block of another one, so that their link is straight."""
        offset = self.sign * (link.start_offset - link.end_offset)
        if other is link.end:
            offset = -offset
        self.root[spot] = self.root[other]
        self.shift[spot] = self.shift[other] + offset

    def centers(self) -> Centers:
        """The centers: every block at the left, then moved to its neighbor on the right."""
        after: dict[Spot, dict[Spot, float]] = defaultdict(dict)
        before: dict[Spot, dict[Spot, float]] = defaultdict(dict)
        for layer in self.layers:
            for left, right in itertools.pairwise(layer):
                a, b = self.root[left], self.root[right]
                distance = _distance(left, right) + self.shift[left] - self.shift[right]
                after[a][b] = max(after[a].get(b, distance), distance)
                before[b][a] = after[a][b]
        blocks = list(dict.fromkeys(self.root.values()))
        order = _sorted_blocks(blocks, before)
        at: Centers = {}
        for block in order:
            needed = (at[a] + d for a, d in before[block].items())
            at[block] = max(needed, default=0.0)
        for block in reversed(order):
            if after[block]:
                room = min(at[b] - d for b, d in after[block].items())
                at[block] = max(at[block], room)
        return {spot: at[self.root[spot]] + self.shift[spot] for spot in self.root}


def _distance(left: Spot, right: Spot) -> float:
    gap = LANE if left.passes or right.passes else GAP
    return (left.width + right.width) / 2 + gap


def _sorted_blocks(
    blocks: list[Spot], before: dict[Spot, dict[Spot, float]]
) -> list[Spot]:
    """The blocks, each after all those on its left, without recursion."""
    done: dict[Spot, None] = {}
    for first in blocks:
        stack = [first]
        while stack:
            missing = [b for b in before[stack[-1]] if b not in done]
            if missing:
                stack += missing
            else:
                done[stack.pop()] = None
    return list(done)


def _align(placements: list[Centers]) -> None:
    """Moves all placements to the narrowest one, by the side to which they are packed."""
    lefts = [min(_edges(c, -1)) for c in placements]
    rights = [max(_edges(c, 1)) for c in placements]
    widths = [right - left for left, right in zip(lefts, rights, strict=True)]
    narrowest = widths.index(min(widths))
    for i, centers in enumerate(placements):
        edges = lefts if i % 2 == 0 else rights
        move = edges[narrowest] - edges[i]
        for spot in centers:
            centers[spot] += move


def _edges(centers: Centers, side: int) -> list[float]:
    """The left (-1) or right (1) edge of each spot."""
    return [center + side * spot.width / 2 for spot, center in centers.items()]
