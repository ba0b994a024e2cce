"""Tables: the rows of CSV files as batches of named columns, read as they are needed."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import DTypeLike

from fnn.core.tree import Tree
from fnn.data.batches import seed_of
from fnn.data.columns import MISSING, Columns
from fnn.data.delimited import Delimited, Path, Row

SAMPLE = 10_000  # rows from which dtypes are inferred


def csv(
    path: Path | Sequence[Path],
    targets: str | Sequence[str] | None = None,
    *,
    columns: Sequence[str] | None = None,
    sample_weight: str | None = None,
    dtypes: Mapping[str, DTypeLike] | None = None,
    missing: Sequence[str] = MISSING,
    fill: Mapping[str, object] | None = None,
    as_dict: bool = True,
    batch_size: int = 32,
    shuffle: int = 0,
    seed: int | None = None,
    names: Sequence[str] | None = None,
    delimiter: str = ",",
    encoding: str = "utf-8-sig",
) -> Table:
    """Batches of the rows of CSV files, as a dict of columns by name, with targets.

    Yields x, (x, y) or (x, y, weight): x is {column: (batch,)} of `columns` (by default all but
    targets and weight), or with `as_dict=False` one array (batch, columns) of numbers; y is the
    column `targets` (batch,), or (batch, targets) for a list. Files of any size are read row by
    row; `csv(...).read()` returns all rows as one batch.

    `dtypes` by name are by default those of the first 10,000 rows: int32, int64, float32, or
    object for strings. Fields in `missing` are NaN in columns of floats, or `fill[column]`; of
    strings only an empty field is missing, "" or `fill[column]`. `names` are the columns of files
    without a header. `shuffle` mixes each pass in a buffer of so many rows, by `seed`.
    Raises ValueError that names file and line for a row of another length and a field that does
    not fit.

    >>> with open("people.csv", "w") as file:
    ...     _ = file.write("name,age,income\\nAnn,31,\\nBob,45,1.5\\n")
    >>> people = csv("people.csv", "income", fill={"income": 0})
    >>> x, y = people.read()
    >>> x["name"], x["age"], y
    (array(['Ann', 'Bob'], dtype=object), array([31, 45], dtype=int32), array([0. , 1.5],
    dtype=float32))
    """
    files = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    rows = Delimited(files, names, delimiter, encoding)
    if sample_weight is not None and not targets:
        raise ValueError(
            f"csv: expected targets beside {sample_weight=}, received none; name their column"
        )
    goals = [targets] if isinstance(targets, str) else list(targets or ())
    others = [*goals] if sample_weight is None else [*goals, sample_weight]
    used = [name for name in rows.names if name not in others]
    if columns is not None:
        used = list(columns)
    converted = Columns(rows.names, dtypes or {}, missing, fill or {})
    _infer(converted, rows, [*used, *others])
    texts = [name for name in used if converted.is_text(name)]
    if texts and not as_dict:
        raise ValueError(
            f"csv: expected columns of numbers for as_dict=False, received strings in {texts}; "
            "leave them out by columns=[...]"
        )
    if int(batch_size) != batch_size or batch_size < 1:
        raise ValueError(
            f"csv: expected batch_size as a positive integer, received {batch_size!r}"
        )
    y = goals if targets and not isinstance(targets, str) else targets
    seed = seed_of(bool(shuffle), seed)
    layout = Layout(used, as_dict, y, sample_weight)
    return Table(rows, converted, layout, batch_size, shuffle, seed)


def _infer(converted: Columns, rows: Delimited, used: list[str]) -> None:
    """Sets the dtypes of the columns that are used, by the first rows."""
    for name in used:
        rows.index(name)
    sample = list(itertools.islice(rows, SAMPLE))
    if not sample:
        raise ValueError(f"expected rows in {', '.join(rows.files)}, received none")
    for name in used:
        converted.infer(name, sample)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which columns make x, y and the weights of a batch."""

    columns: list[str]
    as_dict: bool
    targets: str | Sequence[str] | None
    sample_weight: str | None


@dataclasses.dataclass
class Table:
    """The rows of CSV files as a stream of batches, made by `fnn.data.csv`."""

    rows: Delimited
    converted: Columns
    layout: Layout
    batch_size: int
    buffer: int
    seed: int | None
    passes: int = 0

    def __iter__(self) -> Iterator[Tree]:
        rows = iter(self.rows)
        if self.seed is not None:
            generator = np.random.default_rng([self.seed, self.passes])
            rows = _shuffled(rows, self.buffer, generator)
        self.passes += 1
        while chunk := list(itertools.islice(rows, self.batch_size)):
            yield self._batch(chunk)

    def read(self) -> Tree:
        """All rows as one batch, for tables that fit into memory."""
        return self._batch(list(self.rows))

    def _batch(self, rows: list[Row]) -> Tree:
        layout = self.layout
        array = self.converted.array
        x: Tree = {name: array(name, rows) for name in layout.columns}
        if not layout.as_dict:
            x = np.stack(list(x.values()), axis=-1)  # (rows, columns)
        if layout.targets is None:
            return x
        if isinstance(layout.targets, str):
            y = array(layout.targets, rows)
        else:
            parts = [array(name, rows) for name in layout.targets]
            y = np.stack(parts, axis=-1)  # (rows, targets)
        if layout.sample_weight is None:
            return x, y
        return x, y, array(layout.sample_weight, rows)


def _shuffled(
    rows: Iterator[Row], size: int, generator: np.random.Generator
) -> Iterator[Row]:
    """The rows in a random order, each drawn from a buffer of `size`."""
    buffer = list(itertools.islice(rows, size))
    for row in rows:
        place = int(generator.integers(size))
        yield buffer[place]
        buffer[place] = row
    yield from (buffer[i] for i in generator.permutation(len(buffer)))
