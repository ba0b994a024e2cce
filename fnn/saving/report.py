"""Report: which weights of a file fit a model, and which do not, path by path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fnn.saving.tensors import FileError, FilePath


class Shaped(Protocol):
    """Anything with a shape and a dtype."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...


@dataclass(frozen=True)
class LoadReport:
    """What a file had for a model: paths of weights, in the order of the model and of the file.

    `loaded` fit. `missing` are in the model and not in the file, `unexpected` in the file and not
    in the model, and `reshaped` in both with other shapes (or dtypes), each with what was
    expected and found. `differences` are the largest differences of the outputs, by name, if
    reference outputs were given.

    >>> report = compare({"a": np.zeros(2), "b": np.zeros(3)}, {"a": np.zeros(2), "b": np.zeros(4)})
    >>> report.loaded, report.ok
    (('a',), False)
    >>> print(report)
    b: expected float64[3], found float64[4]
    """

    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    differences: Mapping[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every weight of the model was found, and nothing else."""
        return not (self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        lines = self.lines()
        for name, most in self.differences.items():
            lines.append(f"{name}: differs from the reference by at most {most:.3g}")
        return "\n".join(lines)

    def lines(self) -> list[str]:
        """A line for each difference."""
        lines = [f"{name}: missing in the file" for name in self.missing]
        lines += [f"{name}: not in the model" for name in self.unexpected]
        for name, (expected, found) in self.reshaped.items():
            lines.append(f"{name}: expected {expected}, found {found}")
        return lines

    def check(self, path: FilePath) -> None:
        """Raises FileError that lists every difference, if there is one."""
        if not self.ok:
            raise FileError(
                f"expected weights for this model in {path}, received differences:\n  "
                + "\n  ".join(sorted(self.lines()))
            )


def compare(
    wanted: Mapping[str, Shaped],
    found: Mapping[str, Shaped],
    dtypes: bool = True,
) -> LoadReport:
    """How the weights of a file fit those of a model; `dtypes` must then be equal too."""
    reshaped = {}
    for name in wanted.keys() & found.keys():
        ours, theirs = wanted[name], found[name]
        unequal = tuple(ours.shape) != tuple(theirs.shape)
        if unequal or (dtypes and ours.dtype != theirs.dtype):
            reshaped[name] = (_shown(ours), _shown(theirs))
    return LoadReport(
        loaded=tuple(n for n in wanted if n in found and n not in reshaped),
        missing=tuple(name for name in wanted if name not in found),
        unexpected=tuple(name for name in found if name not in wanted),
        reshaped={name: reshaped[name] for name in wanted if name in reshaped},
    )


def _shown(array: Shaped) -> str:
    return f"{array.dtype}{list(array.shape)}"
