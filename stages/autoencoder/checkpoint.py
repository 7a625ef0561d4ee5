"""The state of a training after each epoch, so that an interrupted one goes on where it was.

One safetensors file beside the outputs, not one of them: DVC removes those before it runs a stage.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as to_bytes

from stages.autoencoder import arrays
from stages.autoencoder.errors import UserError
from stages.autoencoder.training import Training


def fingerprint(params: str, inputs: Iterable[Path]) -> str:
    """What decides the course of a training: parameters, input files, the project's loaded code, torch."""
    digest = hashlib.sha256(f"{torch.__version__}\n{params}".encode())
    code = {getattr(module, "__file__", None) for name, module in sys.modules.items() if name.startswith("stages")}
    for path in [*inputs, *map(Path, sorted(filter(None, code)))]:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def save(path: Path, mark: str, training: Training, film: np.ndarray) -> None:
    """Write the state of a training and the pictures so far under the mark of `fingerprint`."""
    tensors, about = training.state()
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    tensors["film"] = torch.from_numpy(film)
    described = {"fingerprint": mark, **about}
    described["digest"] = _digest(tensors, described)
    arrays.write(path, to_bytes(tensors, {"json": json.dumps(described)}))


def load(path: Path, mark: str, training: Training) -> np.ndarray | None:
    """Restore the training; returns the pictures so far, or None where the file is no state of this training.

    A file that is damaged, if by one bit, is none either.
    """
    try:
        tensors, about = arrays.load(path, framework="pt")
    except UserError:
        return None
    digest = about.pop("digest", None)
    if about.get("fingerprint") != mark or digest != _digest(tensors, about):
        return None
    film = tensors.pop("film").numpy()
    training.restore(tensors, about)
    return film


def _digest(tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> str:
    """What a state holds, in one number: DVC does not know this file and can't tell that it is whole."""
    return hashlib.sha256(to_bytes(tensors) + json.dumps(about, sort_keys=True).encode()).hexdigest()
