"""The state of a training between two epochs, so that an interrupted one resumes.

One safetensors file beside the outputs, and not one of them: DVC removes those before it runs a stage.
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.autoencoder.core import arrays, files
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.training.loop import Training


def compute_fingerprint(params: str, inputs: Iterable[Path]) -> str:
    """What determines the course of a training: parameters, input files, the project's imported code, torch."""
    digest = hashlib.sha256(f"{torch.__version__}\n{params}".encode())
    for path in [*inputs, *sorted(set(_imported_code()))]:
        digest.update(bytes.fromhex(files.digest(path)))
    return digest.hexdigest()


def _imported_code() -> Iterator[Path]:
    """The project's modules in this process; the stage itself is among them, under the name `__main__`."""
    for module in list(sys.modules.values()):
        name, file = getattr(getattr(module, "__spec__", None), "name", ""), getattr(module, "__file__", None)
        if file and f"{name}.".startswith("stages."):
            yield Path(file)


def save(path: Path, fingerprint: str, training: Training, previews: np.ndarray) -> None:
    """Write the state of a training and its preview images, uint8 (epochs, n, C, H, W), under a fingerprint."""
    tensors, about = training.state()
    tensors["previews"] = torch.from_numpy(previews)
    about = {"fingerprint": fingerprint, **about}
    arrays.save(path, tensors, about | {"digest": _digest(tensors, about)})


def load(path: Path, fingerprint: str, training: Training) -> np.ndarray | None:
    """Restore the training; returns its preview images, or None if the file is no state of this training.

    A damaged file, even by one bit, is none either.
    """
    try:
        tensors, about = arrays.load(path, framework="pt")
    except UserError:
        return None
    digest = about.pop("digest", None)
    if about.get("fingerprint") != fingerprint or digest != _digest(tensors, about):
        return None
    previews: np.ndarray = tensors.pop("previews").numpy()
    training.restore(tensors, about)
    return previews


def _digest(tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> str:
    """The SHA-256 of a state: DVC does not know this file, so nothing else can tell that it is whole."""
    return hashlib.sha256(arrays.to_bytes(tensors, about)).hexdigest()
