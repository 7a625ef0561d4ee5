"""A small convolutional classifier, and the features that it computes on the way.

Images are float in [0, 1], (B, C, H, W). Its layers are those of an encoder, so the same images give the same bytes
wherever those of the autoencoder do.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from stages.autoencoder.data.pixels import ImageRows
from stages.autoencoder.model import inference, networks
from stages.autoencoder.model.autoencoder import Size

FEATURES = 64  # of an image
Label = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Spec:
    """What determines the shape of a classifier's weights and the meaning of its outputs."""

    shape: tuple[Size, Size, Size]  # channels, height, width of an image
    labels: Annotated[tuple[Label, ...], Field(min_length=2, max_length=2**20)]  # ascending: the classes that it knows


class Classifier(nn.Module):
    """Halving convolutions, a dense layer of FEATURES, all with batch norm and SiLU, then a linear layer."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        channels = networks.suitable_channels(spec.shape)
        self.network = networks.encoder(spec.shape, channels, (FEATURES,), len(spec.labels))

    def features(self, images: Tensor) -> Tensor:
        """The activations below the linear layer, (B, FEATURES)."""
        return self.network[:-1](images)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes), in the order of spec.labels."""
        return self.network(images)


def build_without_weights(spec: Spec) -> Classifier:
    """The classifier of a spec on torch's device `meta`: shapes without memory.

    Raises ValueError if it has too many weights, or where labels do not ascend.
    """
    if list(spec.labels) != sorted(set(spec.labels)):
        raise ValueError("spec.labels must ascend")
    return networks.build_without_weights(lambda: Classifier(spec), "classifier")


def compute_features(classifier: Classifier, images: ImageRows, device: torch.device) -> np.ndarray:
    """Features float32 (N, FEATURES) of images uint8 (N, C, H, W)."""
    return inference.apply(classifier.features, images, device)


def classify(classifier: Classifier, images: ImageRows, device: torch.device) -> np.ndarray:
    """The label of each of the images uint8 (N, C, H, W), int64 (N,)."""
    logits = inference.apply(classifier, images, device)
    return np.array(classifier.spec.labels, np.int64)[logits.argmax(1)]


def accuracy(classifier: Classifier, images: ImageRows, labels: np.ndarray, device: torch.device) -> float:
    """The share of the images uint8 (N, C, H, W) that get their labels (N,); N >= 1."""
    return float((classify(classifier, images, device) == labels).mean())
