"""Named arrays in one safetensors file, which runs no code when read and has the same bytes on every machine.

The description (`about`) is one JSON text in the header: safetensors keeps several metadata keys in the order of
a hash table, which differs from process to process. Arrays may be NumPy's or torch's; importing this module
imports no torch.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors import numpy as numpy_files

from stages.autoencoder.core import files
from stages.autoencoder.core.errors import UserError

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


def load(
    path: Path, *names: str, framework: str = "numpy", device: str = "cpu"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays called `names` (all of them if none is named) and the description in a file.

    framework: numpy, or pt for torch tensors on `device`. Memory follows the size of the file: safetensors
    refuses a header that claims more. Raises UserError if the file is absent or damaged, or holds no array of
    that name.
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
    if len(text) > MAX_DESCRIPTION:
        raise ValueError(f"its description has {len(text)} characters")
    try:
        about = json.loads(text)
    except RecursionError:
        raise ValueError("its description is nested too deeply") from None
    if not isinstance(about, dict):
        raise ValueError("its description is not a JSON object")
    return about
