"""The state of a training after each epoch, so that an interrupted one resumes.

One safetensors file beside the outputs, and not one of them: DVC removes those before it runs a stage.
"""

import hashlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.autoencoder.core import arrays, files
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.training.loop import Training


def fingerprint(params: str, inputs: Iterable[Path]) -> str:
    """What determines the course of a training: parameters, input files, the project's imported code, torch."""
    digest = hashlib.sha256(f"{torch.__version__}\n{params}".encode())
    code = {getattr(module, "__file__", None) for name, module in sys.modules.items() if name.startswith("stages")}
    for path in [*inputs, *map(Path, sorted(filter(None, code)))]:
        digest.update(bytes.fromhex(files.digest(path)))
    return digest.hexdigest()


def save(path: Path, mark: str, training: Training, previews: np.ndarray) -> None:
    """Write the state of a training and its preview images, uint8 (epochs, n, C, H, W), under a fingerprint."""
    tensors, about = training.state()
    tensors["previews"] = torch.from_numpy(previews)
    about = {"fingerprint": mark, **about}
    arrays.save(path, tensors, about | {"digest": _digest(tensors, about)})


def load(path: Path, mark: str, training: Training) -> np.ndarray | None:
    """Restore the training; returns its preview images, or None if the file is no state of this training.

    A damaged file, even by one bit, is none either.
    """
    try:
        tensors, about = arrays.load(path, framework="pt")
    except UserError:
        return None
    digest = about.pop("digest", None)
    if about.get("fingerprint") != mark or digest != _digest(tensors, about):
        return None
    previews: np.ndarray = tensors.pop("previews").numpy()
    training.restore(tensors, about)
    return previews


def _digest(tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> str:
    """The SHA-256 of a state: DVC does not know this file, so nothing else can tell that it is whole."""
    return hashlib.sha256(arrays.to_bytes(tensors, about)).hexdigest()
