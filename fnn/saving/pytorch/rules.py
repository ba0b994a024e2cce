"""Rules: which tensor goes to which weight, by patterns of names; what has no place is reported."""

from __future__ import annotations

import functools
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fnn.core import arguments
from fnn.saving.pytorch.conversions import CONVERSIONS, Conversion, Part, Shape, Target
from fnn.saving.report import LoadReport, Shaped

# How many missing parts of one stacked weight are listed.
MOST_LISTED = 100
# Of a pattern: `{name}`, `*`, or `component?.`.
_SPECIAL = re.compile(r"(\{\w+\}|\*|\w+\?\.)")
_INDEX = re.compile(r"\[(\d{1,9})\]")

Indices: TypeAlias = tuple[int, ...]


class Rule(NamedTuple):
    """Tensors whose names begin with `source` go to the layer at path `target`.

    In `source`, `{name}` stands for one component of a dotted name and can be used in `target`,
    `component?.` may be absent, and `*` stands where the tensor's own name is if that is not the
    end (`"lstm.*_l0"`). In `target`, `[{name}]` is the copy in a `Repeat`. `conversion` is one of
    `CONVERSIONS` or such a table. Without a target the tensors are not needed; an empty source
    and the conversion "zeros" set a weight of fnn's that PyTorch's module does not have.

    >>> Rule("encoder.{n}.linear", "encoder_{n}", "dense")
    Rule(source='encoder.{n}.linear', target='encoder_{n}', conversion='dense')
    """

    source: str
    target: str | None = None
    conversion: str | Conversion = "dense"

    @property
    def table(self) -> Conversion:
        """The conversion as a table. Raises ValueError for an unknown name."""
        conversion = self.conversion
        if not isinstance(conversion, str):
            return conversion
        if conversion not in CONVERSIONS:
            expected = f"to be one of {sorted(CONVERSIONS)}, or a table like those"
            raise arguments.wrong("Rule", "conversion", expected, conversion)
        return CONVERSIONS[conversion]


class Piece(NamedTuple):
    """What a tensor gives to a weight: to all of it, or to the copy at `indices` of a stack."""

    source: str
    target: Target
    indices: Indices

    def taken(self, shape: Shape) -> Shape:
        """The shape of the part of the tensor."""
        part = self.target.taken
        if part is None or not shape:
            return shape
        sizes = list(shape)
        sizes[part.axis] //= part.parts
        return tuple(sizes)

    def view(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        """The part of the weight, with the axes of the part of the tensor of this shape."""
        view = self.target.layout(array[self.indices], self.taken(shape))
        if self.target.into is not None:
            view = view[part_of(view.shape, self.target.into)]
        return view


def part_of(shape: Shape, part: Part) -> tuple[slice, ...]:
    """The index of a part of an array of this shape."""
    axis = part.axis % len(shape)
    size = shape[axis] // part.parts
    chosen = slice(part.number * size, (part.number + 1) * size)
    return (*(slice(None) for _ in range(axis)), chosen)


class Plan(NamedTuple):
    """For each weight the pieces that make it, none for zeros; and what does not fit."""

    pieces: dict[str, list[Piece]]
    report: LoadReport


class _Match(NamedTuple):
    rule: Rule
    names: tuple[tuple[str, str], ...]  # what the placeholders stand for
    weight: str

    def key(self, weight: str) -> tuple[object, ...]:
        """What a match of another tensor of the same module has too."""
        return self.rule.source, self.rule.target, self.names, weight


class _Planner:
    """The pieces so far, and what has been found wrong."""

    def __init__(self, rules: Sequence[Rule], wanted: Mapping[str, Shaped]) -> None:
        self.rules = rules
        self.wanted = wanted
        self.pieces: dict[str, list[Piece]] = {name: [] for name in wanted}
        # How many entries of each copy of a weight are written.
        self.written: dict[str, dict[Indices, int]] = defaultdict(dict)
        self.matches: dict[tuple[object, ...], _Match] = {}
        self.unexpected: list[str] = []
        self.reshaped: dict[str, tuple[str, str]] = {}

    def add(self, name: str, tensor: Shaped) -> None:
        """Finds the places of a tensor."""
        match = first_match(name, self.rules)
        if match is None:
            self.unexpected.append(name)
            return
        self.matches[match.key(match.weight)] = match
        if match.rule.target is None:
            return
        for target in match.rule.table[match.weight]:
            if not self._place(name, tensor, match, target):
                self.unexpected.append(name)
                return

    def _place(self, name: str, tensor: Shaped, match: _Match, target: Target) -> bool:
        """Adds a piece; False if the model has no such weight, or another tensor for it."""
        path, indices = _path(match, target.weight)
        piece = Piece(name, target, indices)
        if path not in self.wanted or not _is_inside(self.wanted[path], indices):
            return False
        size = self._size_of(piece, path, tensor)
        if size is not None and target.how == "copy":
            written = self.written[path]
            written[indices] = written.get(indices, 0) + size
            if written[indices] > self._needed(path, indices):
                return False
        self.pieces[path].append(piece)
        return True

    def _size_of(self, piece: Piece, path: str, tensor: Shaped) -> int | None:
        """The number of entries of a piece; None if it does not fit, which is noted."""
        wanted = self.wanted[path]
        shape = tuple(tensor.shape)
        # Of the right shape, without memory.
        array = np.broadcast_to(np.empty((), bool), wanted.shape)
        try:
            fits = piece.view(array, shape).shape
        except (ValueError, IndexError):
            fits = ()
        floating = _is_floating(wanted) == _is_floating(tensor)
        if fits == piece.taken(shape) and floating:
            return math.prod(fits)
        expected = f"{wanted.dtype}{list(wanted.shape)}"
        found = f"{_dtype_name(tensor)}{list(shape)} of {piece.source}"
        self.reshaped.setdefault(_shown(path, piece.indices), (expected, found))
        return None

    def _needed(self, path: str, indices: Indices) -> int:
        return math.prod(self.wanted[path].shape[len(indices) :])

    def zero(self, path: str) -> None:
        """A weight that is set to zeros."""
        if path in self.wanted:
            self.written[path][()] = self._needed(path, ())

    def report(self) -> LoadReport:
        """What fits and what does not."""
        missing: dict[str, str] = {}
        for path in self.wanted:
            for indices in self._unwritten(path):
                shown = _shown(path, indices)
                if shown not in self.reshaped:
                    missing[shown] = path
        for path, indices in self._without_a_summand():
            missing[_shown(path, indices)] = path
        reshaped = {_INDEX.sub("", name) for name in self.reshaped}
        bad = reshaped.union(missing.values())
        return LoadReport(
            loaded=tuple(path for path in self.wanted if path not in bad),
            missing=tuple(missing),
            unexpected=tuple(self.unexpected),
            reshaped=self.reshaped,
        )

    def _unwritten(self, path: str) -> Iterator[Indices]:
        """The copies of a weight that are not written, or not wholly."""
        written = self.written[path]
        if () in written or not written:
            if written.get((), 0) < self._needed(path, ()):
                yield ()
            return
        axes = len(next(iter(written)))
        places = np.ndindex(*self.wanted[path].shape[:axes])
        listed = 0
        for indices in places:
            if written.get(indices, 0) < self._needed(path, indices):
                yield indices
                listed += 1
            if listed == MOST_LISTED:
                return

    def _without_a_summand(self) -> Iterator[tuple[str, Indices]]:
        """Weights that are sums, of which a tensor is missing."""
        for match in self.matches.values():
            if match.rule.target is None:
                continue
            for weight, targets in match.rule.table.items():
                if match.key(weight) in self.matches:
                    continue
                for target in targets:
                    path, indices = _path(match, target.weight)
                    if target.how == "add" and path in self.wanted:
                        yield path, indices


def plan(
    rules: Sequence[Rule],
    wanted: Mapping[str, Shaped],
    found: Mapping[str, Shaped],
) -> Plan:
    """Where each tensor of `found` goes among the weights `wanted`, by the first rule for it."""
    planner = _Planner(rules, wanted)
    for rule in rules:
        if not rule.source and rule.target is not None:
            planner.zero(rule.target)
    for name, tensor in found.items():
        planner.add(name, tensor)
    return Plan(planner.pieces, planner.report())


def first_match(name: str, rules: Sequence[Rule]) -> _Match | None:
    """The first rule for a tensor, with what it leaves open; None if there is none."""
    for rule in rules:
        matched = _compiled(rule.source).fullmatch(name)
        if matched is None or not rule.source:
            continue
        names = matched.groupdict()
        weight = names.pop("_weight") or ""
        if rule.target is None or weight in rule.table:
            return _Match(rule, tuple(names.items()), weight)
    return None


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """A pattern of names as a regular expression."""
    parts = []
    for part in _SPECIAL.split(pattern):
        if part.startswith("{"):
            parts.append(f"(?P<{part[1:-1]}>[^.]+)")
        elif part == "*":
            parts.append("(?P<_weight>.+)")
        elif part.endswith("?."):
            parts.append(rf"(?:{re.escape(part[:-2])}\.)?")
        else:
            parts.append(re.escape(part))
    if "*" not in pattern:
        parts.append(r"(?:\.(?P<_weight>.+))?")
    return re.compile("".join(parts))


def _path(match: _Match, weight: str) -> tuple[str, Indices]:
    """The path of a weight, and the indices of its copy."""
    path = match.rule.target or ""
    for name, value in match.names:
        path = path.replace("{" + name + "}", str(value))
    indices = tuple(int(index) for index in _INDEX.findall(path))
    parts = _INDEX.sub("", path), weight
    return "/".join(part for part in parts if part), indices


def _shown(path: str, indices: Indices) -> str:
    return path + "".join(f"[{index}]" for index in indices)


def _is_inside(wanted: Shaped, indices: Indices) -> bool:
    if len(indices) > len(wanted.shape):
        return False
    sizes = wanted.shape[: len(indices)]
    return all(i < size for i, size in zip(indices, sizes, strict=True))


def _dtype_name(array: Any) -> str:
    return str(array.dtype).removeprefix("torch.")


def _is_floating(array: Any) -> bool:
    return "float" in _dtype_name(array)
