"""Named arrays in one file: safetensors, which runs no code when read and has the same bytes everywhere.

The description (`about`) stands in the header as one JSON text: safetensors keeps several metadata keys in
the order of a hash table, which differs from process to process.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from stages.autoencoder.errors import UserError


def save(path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any] | None = None) -> None:
    """Write arrays and a JSON-able description to `path`, whole or not at all."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write(path, to_bytes(contiguous, {"json": json.dumps(about or {}, sort_keys=True)}))


def load(path: Path, *names: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays called `names` (all of them if none is named) and the description in the file.

    Raises UserError where the file is absent, damaged, or holds no array of that name.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {}).get("json", "{}"))
            return {name: file.get_tensor(name) for name in names or sorted(file.keys())}, about
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run dvc repro, which makes it") from None
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path}: is no whole safetensors file with {names or 'arrays'}; {error}") from None


def write(path: Path, content: bytes) -> None:
    """Put `content` at `path` whole or not at all: written beside it, flushed to the disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a metrics file: keys in the given order, floats in full precision, NaN refused."""
    write(path, (json.dumps(values, indent=2, allow_nan=False) + "\n").encode())
