"""The file of a model: weights and, in the description, all that rebuilds the autoencoder."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from stages.autoencoder.core import arrays
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.model.autoencoder import Autoencoder, Spec, build_without_weights
from stages.autoencoder.model.bottlenecks import Bottleneck
from stages.autoencoder.params.denoising import Denoising

FORMAT = 1  # raised when an older file can no longer be read


@dataclass(frozen=True)
class Description:
    """The part of a model file's description that decides what is computed."""

    spec: Spec
    corruption: Denoising | None  # what a denoising model was trained to undo


def save(path: Path, model: Autoencoder, about: dict[str, Any]) -> None:
    """Write weights, spec and a JSON-able description: nothing else is needed to use the model."""
    arrays.save(path, model.state_dict(), {"format": FORMAT, "spec": asdict(model.spec), **about})


def load(path: Path | str, device: torch.device | str = "cpu") -> tuple[Autoencoder, dict[str, Any]]:
    """The model in a file, ready to use (eval mode), and its description.

    The file may come from anybody, so its spec is checked before memory is taken for it. Raises UserError if the
    file is absent, damaged, of another format, or no model of this project.
    """
    path = Path(path)
    weights, about = arrays.load(path, framework="pt", device=str(device))
    if about.get("format") != FORMAT:
        raise UserError(f"{path}: model format must be {FORMAT}; got {about.get('format')!r:.60}; train it again")
    try:
        described = json.dumps({key: about[key] for key in ("spec", "corruption") if key in about})
        spec = TypeAdapter(Description).validate_json(described, strict=True).spec
        model = build_without_weights(spec)
        _check_weights(weights, model.state_dict(), spec)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: must be a model of this project; {_first_line(error)}; train it again") from None
    model = model.to_empty(device=device)
    model.load_state_dict(weights)
    return model.eval(), about


def _check_weights(held: dict[str, Tensor], expected: dict[str, Tensor], spec: Spec) -> None:
    """Raises ValueError if the weights in a file are not those of its spec, or are not finite."""
    if spec.bottleneck == Bottleneck.TOP_K and not 1 <= spec.k <= spec.latent_dim:
        raise ValueError(f"spec.k must be in 1..{spec.latent_dim}; got {spec.k}")
    if held.keys() != expected.keys():
        differ = sorted(held.keys() ^ expected.keys())[0][:60]
        raise ValueError(f"its weights must be those of its spec; {differ!r} is not")
    for name, tensor in held.items():
        want = expected[name]
        if tensor.shape != want.shape or tensor.dtype != want.dtype:
            raise ValueError(
                f"{name} must be {want.dtype} {tuple(want.shape)}; got {tensor.dtype} {tuple(tensor.shape)}"
            )
        if not tensor.isfinite().all():
            raise ValueError(f"{name} must hold finite numbers")


def _first_line(error: Exception) -> str:
    """The error as one line; of pydantic's many mistakes the first, with its place."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)
