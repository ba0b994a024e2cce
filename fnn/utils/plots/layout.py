"""Layout: places boxes in layers with few crossings, after Sugiyama, Tagawa and Toda (1981)."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TypeAlias

from fnn.utils.plots.graph import ENTRY, EXIT, Box, End, Group
from fnn.utils.plots.positions import place_across
from fnn.utils.plots.spots import Link, Spot, ordered

# Positions are (across, along): across a layer of boxes, and along the flow from layer to layer.
Point: TypeAlias = tuple[float, float]
# (key of a spot, end there, key of the other spot, end there)
Arrow: TypeAlias = tuple[str, End, str, End]

STEP = 30.0  # between layers, in points
LOOP = 14.0  # how far an arrow from a box to itself stands out
PASSING = 4.0  # the width of an arrow that passes a layer


@dataclasses.dataclass
class Frame:
    """How much room a group needs around its members."""

    before: float = 0.0
    after: float = 0.0
    left: float = 0.0
    right: float = 0.0
    title: float = 0.0  # the width of its title, the least across


@dataclasses.dataclass
class Place:
    """A box, or a group with its members inside, at a position: its first corner and its size."""

    across: float
    along: float
    width: float
    height: float
    content: Box | Group


@dataclasses.dataclass
class Curve:
    """The points of an arrow; one that goes on in another group has no head."""

    points: list[Point]
    has_head: bool = True


@dataclasses.dataclass
class Layout:
    """Places and curves in a rectangle, and where arrows enter and leave it, by number."""

    width: float
    height: float
    places: list[Place]
    curves: list[Curve]
    entries: dict[int, float]
    exits: dict[int, float]


class Sizes:
    """The sizes of boxes and frames, (across, along), as a drawing needs them."""

    def box(self, box: Box) -> Point:
        """The size of a box."""
        raise NotImplementedError

    def frame(self, group: Group) -> Frame:
        """The room around the members of a nested group."""
        raise NotImplementedError


def layout_of(
    group: Group,
    sizes: Sizes,
    frame: Frame | None = None,
) -> Layout:
    """Places the members of a group, nested groups with their members first."""
    return _Layers(group, sizes).layout(frame or Frame())


class _Layers:
    """The spots of a group, in layers, and the links between them."""

    def __init__(self, group: Group, sizes: Sizes) -> None:
        self.group = group
        self.spots: dict[str, Spot] = {}
        self.inner: dict[Spot, Layout] = {}  # of nested groups
        for key, member in group.members.items():
            if isinstance(member, Box):
                self.spots[key] = Spot(*sizes.box(member))
            else:
                inner = layout_of(member, sizes, sizes.frame(member))
                self.spots[key] = Spot(inner.width, inner.height)
                self.inner[self.spots[key]] = inner
        self.loops: set[str] = set()  # members that take their own outputs
        self.backwards: set[int] = set()  # the ids of first links of reversed arrows
        self.chains: list[list[Link]] = []
        self.layers: list[list[Spot]] = []

    def layout(self, frame: Frame) -> Layout:
        ends = [end for arrow in self.group.arrows for end in arrow]
        nested = frame != Frame()
        for end in ends:
            if nested and end.key in (ENTRY, EXIT):
                self.spots.setdefault(f"{end.key} {end.port}", Spot(PASSING, 0.0))
        arrows = self._between_spots()
        for key in self.loops:
            self.spots[key].width += 2 * LOOP
        self._rank(arrows)
        self._link(arrows)
        self.layers = ordered(self.layers)
        place_across(self.layers)
        return self._placed(frame)

    def _between_spots(self) -> list[Arrow]:
        """The arrows between two spots, with the keys of these; loops are kept apart."""
        arrows: dict[Arrow, None] = {}
        for start, end in self.group.arrows:
            first, last = (_key(end) for end in (start, end))
            if first not in self.spots or last not in self.spots:
                continue
            if first == last:
                self.loops.add(first)
            else:
                # Several from one box to another are one line.
                start_port = start.port if self.spots[first] in self.inner else 0
                end_port = end.port if self.spots[last] in self.inner else 0
                arrow = (
                    first,
                    End(start.key, start_port),
                    last,
                    End(end.key, end_port),
                )
                arrows[arrow] = None
        return list(arrows)

    def _rank(self, arrows: list[Arrow]) -> None:
        """The layer of each spot: after all those before it; inputs as late as they can be."""
        order = {key: i for i, key in enumerate(self.group.members)}
        forward, backward = [], []
        for a, _, b, _ in arrows:
            if order.get(a, -1) < order.get(b, len(order)):
                forward.append((a, b))
            else:
                backward.append((b, a))
        pairs = forward + backward
        keys = sorted(self.spots, key=lambda key: _position(key, order))
        for key in keys:
            before = [self.spots[a].rank for a, b in pairs if b == key]
            self.spots[key].rank = max(before, default=-1) + 1
        inner = (s.rank for key, s in self.spots.items() if not key.startswith(EXIT))
        last = max(inner, default=0) + 1
        for key in reversed(keys):
            after = [self.spots[b].rank for a, b in pairs if a == key]
            is_first = not any(b == key for _, b in pairs)
            if key.startswith(EXIT):
                self.spots[key].rank = last
            elif is_first and after and not key.startswith(ENTRY):
                self.spots[key].rank = min(after) - 1

    def _link(self, arrows: list[Arrow]) -> None:
        """A chain of links for each arrow, by a spot in each layer that it passes."""
        last_rank = max((spot.rank for spot in self.spots.values()), default=0)
        self.layers = [[] for _ in range(last_rank + 1)]
        for spot in self.spots.values():
            self.layers[spot.rank].append(spot)
        for first, start, last, end in arrows:
            a, b = self.spots[first], self.spots[last]
            a_offset = self._offset(a, start, "exits")
            b_offset = self._offset(b, end, "entries")
            is_reversed = a.rank > b.rank
            if is_reversed:
                a, b, a_offset, b_offset = b, a, b_offset, a_offset
            chain = []
            for rank in range(a.rank + 1, b.rank):
                passing = Spot(PASSING, 0.0)
                passing.rank = rank
                self.layers[rank].append(passing)
                chain.append(Link(a, passing, a_offset))
                a, a_offset = passing, 0.0
            chain.append(Link(a, b, a_offset, b_offset))
            for link in chain:
                link.start.after.append(link)
                link.end.before.append(link)
            if is_reversed:
                self.backwards.add(id(chain[0]))
            self.chains.append(chain)

    def _offset(self, spot: Spot, end: End, side: str) -> float:
        """Where an arrow meets a spot, from its center: at the entry or exit of a group."""
        if spot not in self.inner:
            return 0.0
        ends: dict[int, float] = getattr(self.inner[spot], side)
        return ends.get(end.port, spot.width / 2) - spot.width / 2

    def _placed(self, frame: Frame) -> Layout:
        spots = list(itertools.chain.from_iterable(self.layers))
        lefts = [spot.center - spot.width / 2 for spot in spots]
        rights = [spot.center + spot.width / 2 for spot in spots]
        least = min(lefts, default=0.0)
        most = max(rights, default=0.0)
        width = max(most - least + frame.left + frame.right, frame.title)
        shift = (width + frame.left - frame.right - most - least) / 2
        for spot in spots:
            spot.center += shift
        tops, heights = [], []
        along = frame.before
        for layer in self.layers:
            height = max((s.height for s in layer), default=0.0)
            tops.append(along)
            heights.append(height)
            along += height + STEP
        # The entries and exits of a frame stand on its border.
        if any(key.startswith(ENTRY) for key in self.spots):
            tops[0] = 0.0
        total = along - STEP + frame.after
        if any(key.startswith(EXIT) for key in self.spots):
            tops[-1] = total = max(total, along - STEP)
        return self._drawn(width, total, tops, heights)

    def _drawn(
        self,
        width: float,
        total: float,
        tops: list[float],
        heights: list[float],
    ) -> Layout:
        found = Layout(width, total, [], [], {}, {})
        for key, spot in self.spots.items():
            kind, _, port = key.rpartition(" ")
            if kind in (ENTRY, EXIT) and key not in self.group.members:
                ends = found.entries if kind == ENTRY else found.exits
                ends[int(port)] = spot.center
                continue
            spare = heights[spot.rank] - spot.height
            top = tops[spot.rank] + spare / 2
            width = spot.width
            if key in self.loops:
                width -= 2 * LOOP
            corner = (spot.center - width / 2, top)
            member = self.group.members[key]
            found.places.append(Place(*corner, width, spot.height, member))
            if spot in self.inner:
                _put_inside(found, self.inner[spot], *corner)
            if key in self.loops:
                found.curves.append(_loop(found.places[-1]))
        for chain in self.chains:
            points = _points(chain, tops, heights)
            end = chain[-1].end
            if id(chain[0]) in self.backwards:
                points.reverse()
                end = chain[0].start
            has_head = end not in self.inner and not end.passes
            found.curves.append(Curve(points, has_head))
        return found


def _key(end: End) -> str:
    """The key of the spot at an end of an arrow."""
    if end.key in (ENTRY, EXIT):
        return f"{end.key} {end.port}"
    return end.key


def _position(key: str, order: dict[str, int]) -> int:
    if key in order:
        return order[key]
    return -1 if key.startswith(ENTRY) else len(order)


def _put_inside(
    outer: Layout,
    inner: Layout,
    across: float,
    along: float,
) -> None:
    """Adds the places and curves of a nested group, moved to its corner."""
    for place in inner.places:
        outer.places.append(
            dataclasses.replace(
                place, across=place.across + across, along=place.along + along
            )
        )
    for curve in inner.curves:
        points = [(x + across, y + along) for x, y in curve.points]
        outer.curves.append(Curve(points, curve.has_head))


def _points(
    chain: list[Link],
    tops: list[float],
    heights: list[float],
) -> list[Point]:
    """The points of an arrow: straight through the layers that it passes."""
    points: list[Point] = []
    for link in chain:
        for spot, offset in (
            (link.start, link.start_offset),
            (link.end, link.end_offset),
        ):
            across = spot.center + offset
            top, height = tops[spot.rank], heights[spot.rank]
            inset = (height - spot.height) / 2
            if spot is link.start:
                if not spot.passes or spot.height:
                    points.append((across, top + height - inset))
                points.append((across, top + height))
            else:
                points.append((across, top))
                if not spot.passes or spot.height:
                    points.append((across, top + inset))
    return [point for point, _ in itertools.groupby(points)]


def _loop(place: Place) -> Curve:
    """The arrow of a layer that is called on its own output, at its side."""
    side = place.across + place.width
    outside = side + LOOP
    low = place.along + 0.7 * place.height
    high = place.along + 0.3 * place.height
    return Curve([(side, low), (outside, low), (outside, high), (side, high)])
