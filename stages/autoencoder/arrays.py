"""Named arrays in one file: safetensors, which runs no code when read and has the same bytes everywhere.

The description (`about`) stands in the header as one JSON text: safetensors keeps several metadata keys in
the order of a hash table, which differs from process to process. Every file that a stage writes, and every
safetensors file that it reads, passes through here.
"""

import json
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from stages.autoencoder.errors import UserError

DESCRIPTION = 2**20  # characters of a description; what the stages write has hundreds


def save(path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any] | None = None) -> None:
    """Write arrays and a JSON-able description to `path`, whole or not at all."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write(path, to_bytes(contiguous, {"json": json.dumps(about or {}, sort_keys=True)}))


def load(
    path: Path, *names: str, framework: str = "numpy", device: str = "cpu"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays called `names` (all of them if none is named) and the description in the file.

    framework: numpy, or pt for torch tensors on `device`. Memory follows the bytes that are there: safetensors
    refuses a header that claims others. Raises UserError where the file is absent, damaged, or holds no array
    of that name.
    """
    try:
        with safe_open(path, framework=framework, device=device) as file:
            about = _description(file.metadata())
            return {name: file.get_tensor(name) for name in names or sorted(file.keys())}, about
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run dvc repro, which makes it") from None
    # AttributeError and TypeError: a number type that the framework lacks
    except (SafetensorError, ValueError, AttributeError, TypeError) as error:
        wanted = ", ".join(names) or "arrays"
        raise UserError(
            f"{path}: must be a whole safetensors file with {wanted}; {error}; delete it and run dvc repro"
        ) from None


def _description(metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """The JSON object in the metadata. Raises ValueError for anything else."""
    text = (metadata or {}).get("json", "{}")
    if len(text) > DESCRIPTION:
        raise ValueError(f"its description has {len(text)} characters")
    try:
        about = json.loads(text)
    except RecursionError:
        raise ValueError("its description is nested too deeply") from None
    if not isinstance(about, dict):
        raise ValueError("its description is no JSON object")
    return about


def write(path: Path, content: bytes) -> None:
    """Put `content` at `path` whole or not at all: written beside it, flushed to the disk, then renamed.

    The name beside it is this process's own, since two that share one could rename each other's unfinished
    file; .gitignore and .dvcignore know it. What killed processes left of earlier attempts is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:  # of a write it names no path, and never the size
        raise OSError(error.errno, f"{error.strerror}; {len(content):,} bytes are to be written", str(path)) from None
    finally:
        with suppress(OSError):  # on a disk that can't be written it complains of a file that is not there
            temporary.unlink()


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of `path` whose process is gone."""
    own = re.compile(rf"\.{re.escape(path.name)}\.([0-9]{{1,9}})-[0-9a-f]+\.part")
    for left in path.parent.iterdir():
        if (found := own.fullmatch(left.name)) and not psutil.pid_exists(int(found[1])):
            with suppress(OSError):
                left.unlink()


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a metrics file: keys in the given order, floats in full precision, NaN refused."""
    write(path, (json.dumps(values, indent=2, allow_nan=False) + "\n").encode())
