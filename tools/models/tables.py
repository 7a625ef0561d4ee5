"""Tables of codes and scores that grow batch by batch: CSV, to a file or to stdout, or NumPy's NPY."""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO

import numpy as np

from stages.autoencoder.core import files
from stages.autoencoder.core.errors import UserError

ENDINGS = (".csv", ".npy")


class Table(Protocol):
    """A table that is being written."""

    def append(self, rows: np.ndarray, names: Sequence[str], columns: Sequence[np.ndarray]) -> None:
        """Write the next rows. rows: their positions among all, ascending; columns: (n,) or (n, D) each."""


def check_name(path: Path | None) -> None:
    """Raises UserError for another ending, or a file that exists."""
    if path and path.suffix.lower() not in ENDINGS:
        raise UserError(f"{path}: must end in {' or '.join(ENDINGS)}; choose one")
    if path and path.exists():
        raise UserError(f"{path}: must not exist; remove it or choose another name")


@contextmanager
def create(path: Path | None, names: Sequence[str], kind: str, count: int, width: int) -> Iterator[Table]:
    """A table that appears whole or not at all; on stdout if `path` is None.

    names: of the columns of a CSV file. kind, count, width: of an NPY file, which has no names: its numbers are of
    this kind and shape (count, width), or (count,) if width is 0, and a row that is never written is NaN.
    """
    if path is None:
        yield _Csv(sys.stdout, names)
        sys.stdout.flush()
        return
    with files.writing(path, count * max(1, width) * np.dtype(kind).itemsize) as file:
        if path.suffix.lower() == ".npy":
            table = _Npy(file, kind, (count, width) if width else (count,))
            yield table
            table.fill(count)
        else:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            yield _Csv(text, names)
            text.detach()


class _Csv:
    def __init__(self, file: TextIO, names: Sequence[str]) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow(names)

    def append(self, rows: np.ndarray, names: Sequence[str], columns: Sequence[np.ndarray]) -> None:
        texts = [_to_texts(column) for column in columns]
        for number in range(len(rows)):
            self._writer.writerow([names[number], *(text for column in texts for text in column[number])])


class _Npy:
    def __init__(self, file: BinaryIO, kind: str, shape: tuple[int, ...]) -> None:
        self._file, self._kind, self._row_shape, self._next = file, kind, shape[1:], 0
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(kind)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)

    def append(self, rows: np.ndarray, names: Sequence[str], columns: Sequence[np.ndarray]) -> None:
        for row, values in zip(rows.tolist(), columns[0].astype(self._kind), strict=True):
            self.fill(row)
            self._file.write(values.tobytes())
            self._next = row + 1

    def fill(self, row: int) -> None:
        """Write NaN up to this row."""
        blank = np.full(self._row_shape, np.nan, self._kind).tobytes()
        self._file.write(blank * (row - self._next))
        self._next = row


def _to_texts(column: np.ndarray) -> list[list[str]]:
    """The shortest texts that give the same numbers again."""
    matrix = column.reshape(len(column), -1)
    if matrix.dtype == np.float32:
        return [[f"{value:.9g}" for value in row] for row in matrix.tolist()]
    return [[str(value) for value in row] for row in matrix.tolist()]
