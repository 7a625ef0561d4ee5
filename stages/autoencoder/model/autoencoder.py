"""One autoencoder for all variants. Pixels are float in [0, 1], (B, C, H, W); codes are (B, latent_dim)."""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.model import networks
from stages.autoencoder.model.bottlenecks import Bottleneck
from stages.autoencoder.model.layers.batch_norm import BatchNorm
from stages.autoencoder.model.random_numbers import normal

Size = Annotated[int, Field(ge=1, le=65536)]


@dataclass(frozen=True)
class Spec:
    """What determines the shape of an autoencoder's weights and the meaning of its code."""

    shape: tuple[Size, Size, Size]  # channels, height, width of an image
    latent_dim: Size
    channels: Annotated[tuple[Size, ...], Field(max_length=8)]  # of the convolutions; none in an mlp
    widths: Annotated[tuple[Size, ...], Field(max_length=16)]  # of the hidden dense layers
    bottleneck: Bottleneck
    k: Annotated[int, Field(ge=0, le=65536)] = 0  # codes kept by top_k, at most latent_dim
    encode_k: Annotated[int, Field(ge=0, le=65536)] = 0  # codes that `encode` keeps, k to latent_dim; 0: k


class Code(NamedTuple):
    """The encoder's result. z: (B, latent_dim); mean and log_var: the same shape, of a variational model only."""

    z: Tensor
    mean: Tensor | None = None
    log_var: Tensor | None = None


class Autoencoder(nn.Module):
    """encoder -> bottleneck -> decoder."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        outputs = spec.latent_dim * (2 if self.is_variational else 1)
        self.encoder = networks.encoder(spec.shape, spec.channels, spec.widths, outputs)
        self._last = len(self.encoder) - 1  # the layer that gives the code
        self.hidden_size = networks.input_size(self.encoder)
        if spec.bottleneck == Bottleneck.TOP_K:  # on one scale each unit has its turn; else nine in ten never win
            self.encoder.append(BatchNorm(outputs, affine=False))
        self.decoder = networks.decoder(spec.shape, spec.channels, spec.widths, spec.latent_dim)

    @property
    def is_variational(self) -> bool:
        """Whether the encoder gives a distribution for each image."""
        return Bottleneck(self.spec.bottleneck).is_variational

    def code(self, images: Tensor, generator: torch.Generator | None = None, k: int = 0) -> Code:
        """The code of images (B, C, H, W). With a generator, a variational code is sampled.

        k: entries that top_k keeps; 0: as many as the decoder takes. Raises UserError for images of another shape.
        """
        if images.shape[1:] != self.spec.shape:
            raise UserError(f"model: images must be {self.spec.shape} each; got {tuple(images.shape[1:])}")
        return self.code_of(self.hidden(images), generator, k)

    def hidden(self, images: Tensor) -> Tensor:
        """The activations of the encoder's last hidden layer, (B, hidden_size); without one, the pixels."""
        activations: Tensor = self.encoder[: self._last](images)
        return activations

    def code_of(self, hidden: Tensor, generator: torch.Generator | None = None, k: int = 0) -> Code:
        """The code of what `hidden` returned; generator, k: as in `code`."""
        h = self.encoder[self._last :](hidden)
        if not self.is_variational:
            return Code(self.sparsify(h, k))
        mean, log_var = h.chunk(2, dim=1)
        if generator is None:
            return Code(mean, mean, log_var)
        return Code(reparametrise(mean, log_var, generator), mean, log_var)

    def sparsify(self, h: Tensor, k: int = 0) -> Tensor:
        """What a sparse bottleneck keeps of activations (B, latent_dim); another one keeps all. k: as in `code`."""
        match self.spec.bottleneck:
            case Bottleneck.RELU:
                return h.relu()
            case Bottleneck.TOP_K:  # Makhzani & Frey 2014: linear activations, the k largest kept
                kept = h.topk(k or self.spec.k, dim=1)
                return torch.zeros_like(h).scatter(1, kept.indices, kept.values)
        return h

    def encode(self, images: Tensor) -> Tensor:
        """The code, (B, latent_dim); of a variational autoencoder, its mean; of top_k, encode_k entries."""
        return self.code(images, k=self.spec.encode_k).z

    def decode(self, z: Tensor) -> Tensor:
        """Images in [0, 1], (B, C, H, W), from codes (B, latent_dim), of which the decoder takes k entries."""
        if self.spec.encode_k > self.spec.k:  # of the entries that are kept: a zero is none, also among negative ones
            largest = z.masked_fill(z == 0, -torch.inf).topk(self.spec.k, dim=1).indices
            z = torch.zeros_like(z).scatter(1, largest, z.gather(1, largest))
        return self.decoder(z).sigmoid()

    def forward(self, images: Tensor) -> Tensor:
        """The reconstruction of images, in [0, 1]."""
        return self.decoder(self.code(images).z).sigmoid()


def reparametrise(mean: Tensor, log_var: Tensor, generator: torch.Generator) -> Tensor:
    """A sample from N(mean, exp(log_var)) that gradients pass through (Kingma & Welling 2014, section 2.4)."""
    return mean + normal(mean.shape, generator) * (0.5 * log_var).exp()


def build_without_weights(spec: Spec) -> Autoencoder:
    """The autoencoder of a spec on torch's device `meta`: shapes without memory.

    Raises ValueError if it has too many weights.
    """
    return networks.build_without_weights(lambda: Autoencoder(spec), "network")
