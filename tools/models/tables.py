"""Tables of codes and scores that grow batch by batch: CSV, to a file or to stdout, Parquet, or NumPy's NPY."""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.autoencoder.core import files
from tools.workspace import outputs

CSV, PARQUET, NPY = ENDINGS = (".csv", ".parquet", ".npy")
GROUP_BYTES = 2**24  # numbers that a Parquet file gets at a time: readers are slow with many small groups


class Table(Protocol):
    """A table that is being written."""

    def append(self, rows: np.ndarray, names: Sequence[str], columns: Sequence[np.ndarray]) -> None:
        """Write the next rows. rows: their positions among all, ascending; columns: (n,) or (n, D) each."""

    def end(self) -> None:
        """Write what is left."""


def check_name(path: Path | None) -> None:
    """Raises UserError for another ending, or a file that exists."""
    if path:
        outputs.check_file(path, ENDINGS)


@contextmanager
def create(path: Path | None, names: Sequence[str], kind: str, count: int, width: int) -> Iterator[Table]:
    """A table that appears whole or not at all; on stdout if `path` is None.

    names: of the columns of a CSV or Parquet file. kind, count, width: of an NPY file, which has no names: its numbers
    are of this kind and shape (count, width), or (count,) if width is 0, and a row that is never written is NaN.
    """
    if path is None:
        yield _Csv(sys.stdout, names)
        sys.stdout.flush()
        return
    with files.writing(path, count * max(1, width) * np.dtype(kind).itemsize) as file:
        ending = path.suffix.lower()
        if ending == CSV:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            table: Table = _Csv(text, names)
        elif ending == PARQUET:
            table = _Parquet(file, names)
        else:
            table = _Npy(file, kind, count, (width,) if width else ())
        yield table
        table.end()
        if ending == CSV:
            text.detach()


class _Csv:
    def __init__(self, file: TextIO, names: Sequence[str]) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow(names)

    def append(self, rows: np.ndarray, names: Sequence[str], columns: Sequence[np.ndarray]) -> None:
        texts = [_to_texts(column) for column in columns]
        for number in range(len(rows)):
            self._writer.writerow([names[number], *(text for column in texts for text in column[number])])

    def end(self) -> None:
        pass


class _Parquet:
    def __init__(self, file: BinaryIO, names: Sequence[str]) -> None:
        self._file, self._names, self._waiting = file, names, list[pa.RecordBatch]()
        self._writer: pq.ParquetWriter | None = None

    def append(self, rows: np.ndarray, names: Sequence[str], columns: Sequence[np.ndarray]) -> None:
        single = [part for column in columns for part in column.reshape(len(column), -1).T]
        arrays = [pa.array(names, pa.string()), *(pa.array(np.ascontiguousarray(part)) for part in single)]
        self._waiting.append(pa.record_batch(arrays, names=self._names))
        if sum(batch.nbytes for batch in self._waiting) >= GROUP_BYTES:
            self._write()

    def end(self) -> None:
        self._write()
        if self._writer:
            self._writer.close()

    def _write(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting)
            self._writer = self._writer or pq.ParquetWriter(self._file, table.schema)
            self._writer.write_table(table)
            self._waiting = []


class _Npy:
    def __init__(self, file: BinaryIO, kind: str, count: int, row_shape: tuple[int, ...]) -> None:
        self._file, self._kind, self._count, self._row_shape, self._next = file, kind, count, row_shape, 0
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(kind)), "fortran_order": False}
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (count, *row_shape)})

    def append(self, rows: np.ndarray, names: Sequence[str], columns: Sequence[np.ndarray]) -> None:
        for row, values in zip(rows.tolist(), columns[0].astype(self._kind), strict=True):
            self._fill(row)
            self._file.write(values.tobytes())
            self._next = row + 1

    def end(self) -> None:
        self._fill(self._count)

    def _fill(self, row: int) -> None:
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
