"""data/classifier.safetensors: the weights of a classifier, or the reason why there is none.

The description has `reason` alone, or spec, epoch, valid_accuracy and the digest of the images (data/packed_file.py).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, TypeAdapter

from stages.autoencoder.classifier.fitting import Fitted
from stages.autoencoder.classifier.network import Classifier, Spec, build_without_weights
from stages.autoencoder.core import arrays
from stages.autoencoder.core.errors import UserError, describe_fault
from stages.autoencoder.model.model_file import check_weights

NEXT_STEP = "run dvc repro to remake it"


@dataclass(frozen=True)
class Description:
    """What a classifier is, and of which images. JSON-able by dataclasses.asdict."""

    spec: Spec
    images: str  # the digest of all images of the data
    epoch: int
    valid_accuracy: Annotated[float, Field(ge=0, le=1)] | None


def save(path: Path, fitted: Fitted, images: str) -> None:
    """Write a classifier. images: the digest of data/raw."""
    about = Description(fitted.classifier.spec, images, fitted.epoch, fitted.valid_accuracy)
    arrays.save(path, fitted.classifier.state_dict(), asdict(about))


def load(path: Path, images: str, device: torch.device) -> Classifier | str:
    """The classifier of the images with this digest, in eval mode, or the reason why there is none.

    The file may be damaged, so its spec is checked before memory is taken for it. Raises UserError if it is absent or
    damaged, or of other images.
    """
    held, description = arrays.load(path, framework="pt", device=str(device))
    if isinstance(reason := description.get("reason"), str):
        return reason
    try:
        about = TypeAdapter(Description).validate_json(json.dumps(description), strict=True)
        classifier = build_without_weights(about.spec)
        check_weights(held, classifier.state_dict())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: must be a classifier of this project; {describe_fault(error)}; {NEXT_STEP}") from None
    if about.images != images:
        raise UserError(f"{path}: must be trained on data/raw.safetensors; got one of other images; {NEXT_STEP}")
    classifier.load_state_dict(held, assign=True)
    return classifier.eval()
