"""Delimited files: the rows of CSV files, read one by one, each with its place."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from csv import reader
from typing import NamedTuple, TypeAlias

Path: TypeAlias = str | os.PathLike[str]


class Row(NamedTuple):
    """The fields of a row, and where it stands."""

    fields: list[str]
    file: str
    line: int


class Delimited:
    """The rows of files with the same columns.

    `names` are the columns of files without a header. Raises ValueError for a header that names a
    column twice, and for files of different columns.

    >>> with open("a.csv", "w") as file:
    ...     _ = file.write("x,y\\n1,2\\n")
    >>> list(Delimited(["a.csv"], None, ",", "utf-8"))
    [Row(fields=['1', '2'], file='a.csv', line=2)]
    """

    def __init__(
        self,
        files: Sequence[Path],
        names: Sequence[str] | None,
        delimiter: str,
        encoding: str,
    ) -> None:
        if not files:
            raise ValueError("csv: expected a file or a list of files, received none")
        self.files = [os.fspath(file) for file in files]
        self.delimiter = delimiter
        self.encoding = encoding
        self.has_header = names is None
        self.names = list(names or ()) or self._header(self.files[0])
        if self.has_header:
            for path in self.files[1:]:
                self._check_same(path)

    def __iter__(self) -> Iterator[Row]:
        for path in self.files:
            with open(path, encoding=self.encoding, newline="") as file:
                lines = reader(file, delimiter=self.delimiter)
                if self.has_header:
                    next(lines, None)
                for fields in lines:
                    if not fields:  # an empty line
                        continue
                    if len(fields) != len(self.names):
                        raise ValueError(
                            f"{path}, line {lines.line_num}: expected {len(self.names)} fields, "
                            f"one for each column, received {len(fields)}; check quotes and "
                            "delimiter"
                        )
                    yield Row(fields, path, lines.line_num)

    def index(self, name: str) -> int:
        """The number of a column. Raises ValueError for a name that is not there."""
        if name not in self.names:
            raise ValueError(
                f"{self.files[0]}: expected columns among {self.names}, received {name!r}"
            )
        return self.names.index(name)

    def _header(self, path: str) -> list[str]:
        with open(path, encoding=self.encoding, newline="") as file:
            header = next(reader(file, delimiter=self.delimiter), [])
        if not header or len(set(header)) != len(header):
            raise ValueError(
                f"{path}: expected a first line with a different name for each column, received "
                f"{header}; pass names=[...] for a file without one"
            )
        return header

    def _check_same(self, path: str) -> None:
        header = self._header(path)
        if header != self.names:
            raise ValueError(
                f"{path}: expected the columns {self.names} of {self.files[0]}, received {header}"
            )
