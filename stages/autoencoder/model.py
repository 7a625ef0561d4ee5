"""One autoencoder for all variants, and its file: weights and, in the metadata, all that rebuilds it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from stages.autoencoder import arrays, networks
from stages.autoencoder.errors import UserError

FORMAT = 1  # of the model file; raised when an older file can no longer be read


@dataclass(frozen=True)
class Spec:
    """What decides the shape of an autoencoder's weights and the meaning of its code."""

    shape: networks.Shape  # channels, height, width of an image
    latent_dim: int
    channels: Sequence[int]  # of the convolutions; none in an mlp
    widths: Sequence[int]  # of the hidden dense layers
    bottleneck: Literal["linear", "relu", "top_k", "gaussian"]
    k: int = 0  # codes kept by top_k


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

    Raises UserError where the file is absent, damaged or of another format.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            about = json.loads((file.metadata() or {})["json"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about["format"] != FORMAT:
            raise UserError(f"{path}: model format must be {FORMAT}; got {about['format']}; train it again")
        spec = {key: tuple(value) if isinstance(value, list) else value for key, value in about["spec"].items()}
        model = Autoencoder(Spec(**spec)).to(device)
        model.load_state_dict(weights)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run dvc repro, which trains it") from None
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{path}: is no whole model file of this project; {error}") from None
    return model.eval(), about
