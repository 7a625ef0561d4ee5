"""One autoencoder for all variants, and its file: weights and, in the metadata, all that rebuilds it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from stages.autoencoder import arrays, networks
from stages.autoencoder.errors import UserError

FORMAT = 1  # of the model file; raised when an older file can no longer be read
LARGEST = 2**28  # weights of a network: 1 GiB in its file, four times that while it is trained
Size = Annotated[int, Field(ge=1, le=65536)]


@dataclass(frozen=True)
class Spec:
    """What decides the shape of an autoencoder's weights and the meaning of its code."""

    shape: tuple[Size, Size, Size]  # channels, height, width of an image
    latent_dim: Size
    channels: Annotated[tuple[Size, ...], Field(max_length=8)]  # of the convolutions; none in an mlp
    widths: Annotated[tuple[Size, ...], Field(max_length=16)]  # of the hidden dense layers
    bottleneck: Literal["linear", "relu", "top_k", "gaussian"]
    k: Annotated[int, Field(ge=0, le=65536)] = 0  # codes kept by top_k, at most latent_dim


@dataclass(frozen=True)
class Corruption:
    """What a denoising model was trained to undo (see corruption.py)."""

    corruption: Literal["gaussian", "salt_and_pepper", "masking"]
    level: Annotated[float, Field(ge=0, le=10)]


@dataclass(frozen=True)
class Description:
    """The part of a model file's description that decides what is computed."""

    spec: Spec
    corruption: Corruption | None


class Code(NamedTuple):
    """What the encoder says about images. z: (B, latent_dim); mean and log_var too where it is gaussian."""

    z: Tensor
    mean: Tensor | None = None
    log_var: Tensor | None = None


class Autoencoder(nn.Module):
    """encoder -> bottleneck -> decoder. Pixels are float in [0, 1], (B, C, H, W), codes (B, latent_dim)."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        outputs = spec.latent_dim * (2 if spec.bottleneck == "gaussian" else 1)
        self.encoder = networks.encoder(spec.shape, spec.channels, spec.widths, outputs)
        if spec.bottleneck == "top_k":  # on one scale, each unit has its turn; without it nine in ten are never chosen
            self.encoder.append(nn.BatchNorm1d(outputs, affine=False))
        self.decoder = networks.decoder(spec.shape, spec.channels, spec.widths, spec.latent_dim)

    def code(self, images: Tensor, generator: torch.Generator | None = None) -> Code:
        """The code of images; with a generator, a gaussian code is sampled (reparametrisation trick)."""
        if images.shape[1:] != self.spec.shape:
            raise UserError(f"model: images must be {self.spec.shape} each; got {tuple(images.shape[1:])}")
        h = self.encoder(images)
        match self.spec.bottleneck:
            case "relu":
                return Code(h.relu())
            case "top_k":  # Makhzani & Frey 2014: linear activations, the k largest kept
                kept = h.topk(self.spec.k, dim=1)
                return Code(torch.zeros_like(h).scatter(1, kept.indices, kept.values))
            case "gaussian":
                mean, log_var = h.chunk(2, dim=1)
                if generator is None:
                    return Code(mean, mean, log_var)
                return Code(reparametrise(mean, log_var, generator), mean, log_var)
        return Code(h)

    def encode(self, images: Tensor) -> Tensor:
        """The code, (B, latent_dim); of a variational autoencoder, its mean."""
        return self.code(images).z

    def decode(self, z: Tensor) -> Tensor:
        """Images in [0, 1] from codes."""
        return self.decoder(z).sigmoid()

    def forward(self, images: Tensor) -> Tensor:
        """The reconstruction of images, in [0, 1]."""
        return self.decode(self.encode(images))


def reparametrise(mean: Tensor, log_var: Tensor, generator: torch.Generator) -> Tensor:
    """A sample from N(mean, exp(log_var)) that gradients pass through (Kingma & Welling 2014, section 2.4)."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    return mean + noise * (0.5 * log_var).exp()


def save(path: Path, model: Autoencoder, about: dict[str, Any]) -> None:
    """Write weights, spec and a JSON-able description: nothing else is needed to use the model."""
    metadata = json.dumps({"format": FORMAT, "spec": asdict(model.spec), **about}, sort_keys=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    arrays.write(path, to_bytes(weights, {"json": metadata}))


def load(path: Path, device: torch.device | str = "cpu") -> tuple[Autoencoder, dict[str, Any]]:
    """The model in a file, ready to use (eval mode), and its description.

    The file may come from anybody: what it asks for is looked at before memory is taken for it.
    Raises UserError where it is absent, damaged, of another format, or no model of this project.
    """
    weights, about = arrays.load(path, framework="pt", device=str(device))
    if about.get("format") != FORMAT:
        raise UserError(f"{path}: model format must be {FORMAT}; got {about.get('format')!r:.60}; train it again")
    try:
        told = json.dumps({key: about.get(key) for key in ("spec", "corruption")})
        spec = TypeAdapter(Description).validate_json(told, strict=True).spec
        model = outline(spec)
        _check(weights, model.state_dict(), spec)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: must be a model of this project; {_brief(error)}; train it again") from None
    model = model.to_empty(device=device)
    model.load_state_dict(weights)
    return model.eval(), about


def _brief(error: Exception) -> str:
    """One line; of pydantic's many the first mistake, with its place."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)


def outline(spec: Spec) -> Autoencoder:
    """The autoencoder of a spec on torch's device `meta`: shapes without memory. Raises ValueError above LARGEST."""
    with torch.device("meta"):
        model = Autoencoder(spec)
    count = sum(tensor.numel() for tensor in model.state_dict().values())
    if count > LARGEST:
        raise ValueError(f"a network may have {LARGEST:,} weights, this one has {count:,}")
    return model


def _check(found: dict[str, Tensor], wanted: dict[str, Tensor], spec: Spec) -> None:
    """Raises ValueError where the weights in a file are not those of the spec, or are no numbers."""
    if spec.bottleneck == "top_k" and not 1 <= spec.k <= spec.latent_dim:
        raise ValueError(f"spec.k must be in 1..{spec.latent_dim}; got {spec.k}")
    if found.keys() != wanted.keys():
        differ = sorted(found.keys() ^ wanted.keys())[0][:60]
        raise ValueError(f"its weights must be those of its spec; {differ!r} is not")
    for name, tensor in found.items():
        want = wanted[name]
        if tensor.shape != want.shape or tensor.dtype != want.dtype:
            raise ValueError(
                f"{name} must be {want.dtype} {tuple(want.shape)}; got {tensor.dtype} {tuple(tensor.shape)}"
            )
        if not tensor.isfinite().all():
            raise ValueError(f"{name} must hold finite numbers")
