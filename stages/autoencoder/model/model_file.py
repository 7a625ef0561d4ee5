"""The file of a model: its weights and, in the description, all that is needed to use it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field, TypeAdapter
from torch import Tensor

from stages.autoencoder.core import arrays
from stages.autoencoder.core.errors import UserError, describe_fault
from stages.autoencoder.model import detector, sampling
from stages.autoencoder.model.autoencoder import Autoencoder, Spec, build_without_weights
from stages.autoencoder.model.bottlenecks import Bottleneck
from stages.autoencoder.model.detector import Detector, score_functions
from stages.autoencoder.model.objectives import RECONSTRUCTION_LOSSES
from stages.autoencoder.model.sampling import Mixture
from stages.autoencoder.params.fitting import Fitting
from stages.autoencoder.params.inputs import Binarize, Denoising

FORMAT = 3  # raised when an older file can no longer be read
Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]  # goes to the terminal


@dataclass(frozen=True)
class Description:
    """What a model is, and what its training knows that its use needs. JSON-able by dataclasses.asdict."""

    spec: Spec
    variant: Text
    loss: Text
    corruption: Denoising | None  # what a denoising model was trained to undo
    beta: Finite | None  # of a variational model
    best_epoch: int
    valid: Finite  # the loss of the validation part in that epoch
    score: Text  # the one of model/detector.py that finds anomalies
    threshold: Finite  # the score above which an image counts as anomalous
    mse_threshold: Annotated[Finite, Field(ge=0)]  # the same for the error, MSE per pixel
    anomaly_quantile: Annotated[Finite, Field(ge=0, le=1)]  # the share of the validation images below each threshold
    class_names: tuple[Text, ...]  # of the training part; () if it has none
    normal_classes: tuple[Text, ...]  # the only ones that trained; () if all did
    fitting: Fitting  # how an image of any size becomes the model's input
    binarize: Binarize = "none"  # how its training drew black and white pixels


class StoredModel(NamedTuple):
    """What a model file holds."""

    model: Autoencoder  # ready to use, in eval mode
    about: Description
    detector: Detector
    mixture: Mixture | None  # of the training codes; None where there is a prior

    @property
    def scores(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Its scores of anomalies by name, as detector.score_functions has them."""
        return score_functions(self.model, self.detector, self.mixture, self.about.loss)


def save(path: Path, model: Autoencoder, about: Description, known: Detector, mixture: Mixture | None) -> None:
    """Write weights, description and what is known of the training images: nothing else is needed to use the model."""
    description = asdict(about) | {"corruption": about.corruption and about.corruption.model_dump()}
    fitted = known.to_arrays() | (mixture.to_arrays() if mixture else {})
    tensors = {name: torch.from_numpy(array) for name, array in fitted.items()}
    arrays.save(path, model.state_dict() | tensors, {"format": FORMAT, **description})


def load(path: Path | str, device: torch.device | str = "cpu") -> StoredModel:
    """The model in a file.

    The file may come from anybody, so its spec is checked before memory is taken for it. Raises UserError if the
    file is absent, damaged, of another format, or no model of this project.
    """
    path = Path(path)
    held, description = arrays.load(path, framework="pt", device=str(device))
    if description.get("format") != FORMAT:
        raise UserError(f"{path}: model format must be {FORMAT}; got {description.get('format')!r:.60}; train it again")
    found, density = (
        {name: held.pop(name).cpu().numpy() for name in list(held) if name.startswith(prefix)}
        for prefix in (detector.PREFIX, sampling.PREFIX)
    )
    try:
        about = _parse(description)
        model = build_without_weights(about.spec)
        _check_kept(about.spec)
        check_weights(held, model.state_dict())
        known = Detector.from_arrays(found, model)
        mixture = None if model.is_variational else Mixture.from_arrays(density, about.spec.latent_dim)
        if about.loss not in RECONSTRUCTION_LOSSES:
            raise ValueError(f"loss must be {' or '.join(RECONSTRUCTION_LOSSES)}; got {about.loss[:60]!r}")
        if about.score not in score_functions(model, known, mixture, about.loss):
            raise ValueError(f"score must be one of its scores; got {about.score[:60]!r}")
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: must be a model of this project; {describe_fault(error)}; train it again") from None
    model.load_state_dict(held, assign=True)  # to_empty would import SymPy, half a second
    return StoredModel(model.eval(), about, known, mixture)


def _parse(description: Mapping[str, Any]) -> Description:
    """Raises ValueError if a part of the description is missing, or not what it must be."""
    about = TypeAdapter(Description).validate_json(json.dumps(description), strict=True)
    about.fitting.check_shape(about.spec.shape)
    return about


def _check_kept(spec: Spec) -> None:
    """Raises ValueError if a top-k code would keep none of its entries, or more than it has."""
    if spec.bottleneck == Bottleneck.TOP_K and not 1 <= spec.k <= spec.latent_dim:
        raise ValueError(f"spec.k must be in 1..{spec.latent_dim}; got {spec.k}")
    if spec.encode_k and not spec.k <= spec.encode_k <= spec.latent_dim:
        raise ValueError(f"spec.encode_k must be 0 or in {spec.k}..{spec.latent_dim}; got {spec.encode_k}")


def check_weights(held: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raises ValueError if the weights in a file are not those of its spec, or are not finite."""
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
