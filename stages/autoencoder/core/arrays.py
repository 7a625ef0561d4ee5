"""Named arrays in one safetensors file, which runs no code when read and has the same bytes on every machine.

The description (`about`) is one JSON text in the header: safetensors keeps several metadata keys in the order of
a hash table, which differs from process to process. Arrays may be NumPy's or torch's; importing this module
imports no torch. Arrays that may be larger than memory are written in pieces (`create`) and read through a memory
map (`map_array`).
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors import numpy as numpy_files

from stages.autoencoder.core import files
from stages.autoencoder.core.errors import UserError

TYPES = {"uint8": "U8", "int64": "I64", "float32": "F32", "float64": "F64"}  # those of arrays written in pieces
MAX_HEADER = 100_000_000  # bytes, as in the library
MAX_DESCRIPTION = 2**24  # characters; a training state has 75 for each epoch, other files have hundreds


def save(path: Path, arrays: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> None:
    """Write arrays (all NumPy's, or all torch's) and a JSON-able description to `path`, whole or not at all."""
    files.write(path, to_bytes(arrays, about or {}))


def to_bytes(arrays: Mapping[str, Any], about: Mapping[str, Any]) -> bytes:
    """The content of a file that holds these arrays and this description."""
    metadata = {"json": json.dumps(about, sort_keys=True)}
    if all(isinstance(array, np.ndarray) for array in arrays.values()):
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        return numpy_files.save(contiguous, metadata)
    from safetensors import torch as torch_files

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in arrays.items()}
    return torch_files.save(tensors, metadata)


def from_bytes(content: bytes, *names: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """NumPy arrays and description out of a file's content, as `load` gives them.

    Raises ValueError if the content is damaged, or holds no array of that name.
    """
    try:
        arrays = numpy_files.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return {name: arrays[name] for name in names or sorted(arrays)}, _description(header.get("__metadata__"))
    except (SafetensorError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"must be a whole safetensors file with {', '.join(names) or 'arrays'}; {error!r}") from None


class Writer:
    """Arrays of a file that are written in pieces, each array from its first row to its last."""

    def __init__(self, file: BinaryIO, layout: Mapping[str, tuple[np.dtype[Any], Sequence[int]]], start: int) -> None:
        """layout: type and shape of each array, in the order of the file; start: where the first one begins."""
        self._file, self._layout = file, layout
        self._starts: dict[str, int] = {}
        for name, (kind, shape) in layout.items():
            self._starts[name] = start
            start += math.prod(shape) * kind.itemsize
        self._rows = dict.fromkeys(layout, 0)

    def append(self, name: str, rows: np.ndarray) -> None:
        """Write the next rows, (n, ...), of an array. Raises ValueError for another type or shape, or too many."""
        kind, shape = self._layout[name]
        done = self._rows[name] + len(rows)
        if rows.dtype != kind or rows.shape[1:] != tuple(shape[1:]) or done > shape[0]:
            raise ValueError(f"{name} must be {kind} {tuple(shape)} in all; got {rows.dtype} {rows.shape} up to {done}")
        row_bytes = math.prod(shape[1:]) * kind.itemsize
        self._file.seek(self._starts[name] + self._rows[name] * row_bytes)
        self._file.write(np.ascontiguousarray(rows).data)
        self._rows[name] = done

    def check_complete(self) -> None:
        """Raises ValueError if an array lacks rows."""
        for name, (_, shape) in self._layout.items():
            if self._rows[name] != shape[0]:
                raise ValueError(f"{name} must have {shape[0]} rows; got {self._rows[name]}")


@contextmanager
def create(
    path: Path, layout: Mapping[str, tuple[Any, Sequence[int]]], about: Mapping[str, Any] | None = None
) -> Iterator[Writer]:
    """A Writer for a file of arrays with these types and shapes, which appears whole or not at all.

    Raises OSError as files.write does, ValueError if the block ends before every array is complete.
    """
    kinds = {name: (np.dtype(kind), tuple(shape)) for name, (kind, shape) in layout.items()}
    # wide types first: every array then starts at a multiple of the size of its numbers
    kinds = dict(sorted(kinds.items(), key=lambda item: -item[1][0].itemsize))
    header: dict[str, Any] = {"__metadata__": {"json": json.dumps(about or {}, sort_keys=True)}}
    end = 0
    for name, (kind, shape) in kinds.items():
        begin, end = end, end + math.prod(shape) * kind.itemsize
        header[name] = {"dtype": TYPES[kind.name], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    with files.writing(path, start + end) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        writer = Writer(file, kinds, start)
        yield writer
        writer.check_complete()


def map_array(path: Path, name: str) -> np.ndarray:
    """One array of a file as a read-only memory map: its bytes are read when they are used, and none are held.

    Raises UserError as `load` does.
    """
    with _open(path, "numpy", "cpu", name) as file:
        file.get_slice(name)  # the header is whole, and describes this file
    with path.open("rb") as content:
        try:
            kind, shape, start = locate(content, name)
        except ValueError as error:
            raise UserError(f"{path}: {error}; run dvc repro") from None
    if not math.prod(shape):
        return np.empty(shape, kind)
    return np.memmap(path, kind, "r", offset=start, shape=shape)


def locate(file: BinaryIO, name: str, max_header: int = MAX_HEADER) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Type and shape of one array of a safetensors file, and the place of its first byte, from the header alone.

    Raises ValueError if the header is damaged, or has no such array of a type in TYPES.
    """
    length = int.from_bytes(file.read(8), "little")
    if length > max_header:
        raise ValueError(f"its header has {length} bytes")
    try:
        entry = json.loads(file.read(length))[name]
        short, shape, start = entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"must be a safetensors file with {name}; {error!r}") from None
    if not all(isinstance(size, int) for size in shape):
        raise ValueError(f"{name} must have a shape of integers; got {shape}")
    kinds = {short: kind for kind, short in TYPES.items()}
    if short not in kinds:
        raise ValueError(f"{name} must be of type {', '.join(TYPES)}; got {short}")
    return np.dtype(kinds[short]), shape, start


def load(
    path: Path, *names: str, framework: str = "numpy", device: str = "cpu"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays called `names` (all of them if none is named) and the description in a file.

    framework: numpy, or pt for torch tensors on `device`. Memory follows the size of the file: safetensors
    refuses a header that claims more. Raises UserError if the file is absent or damaged, or holds no array of
    that name.
    """
    with _open(path, framework, device, *names) as file:
        about = _description(file.metadata())
        return {name: file.get_tensor(name) for name in names or sorted(file.keys())}, about


def describe(path: Path) -> tuple[dict[str, Any], set[str]]:
    """The description of a file and the names of its arrays. Raises UserError as `load` does."""
    with _open(path, "numpy", "cpu") as file:
        return _description(file.metadata()), set(file.keys())


@contextmanager
def _open(path: Path, framework: str, device: str, *names: str) -> Iterator[Any]:
    """A safetensors file, opened; what goes wrong in the block becomes a UserError."""
    try:
        with safe_open(path, framework=framework, device=device) as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run dvc repro, which makes it") from None
    # AttributeError and TypeError: a number type that the framework lacks
    except (SafetensorError, ValueError, AttributeError, TypeError) as error:
        wanted = ", ".join(names) or "arrays"
        raise UserError(
            f"{path}: must be a whole safetensors file with {wanted}; {error}; if a stage wrote it, delete it and run"
            " dvc repro"
        ) from None


def _description(metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """The JSON object in the metadata. Raises ValueError for anything else."""
    text = (metadata or {}).get("json", "{}")
    if len(text) > MAX_DESCRIPTION:
        raise ValueError(f"its description has {len(text)} characters")
    try:
        about = json.loads(text)
    except RecursionError:
        raise ValueError("its description is nested too deeply") from None
    if not isinstance(about, dict):
        raise ValueError("its description is not a JSON object")
    return about
