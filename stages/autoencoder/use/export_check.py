"""An exported model beside the same model in torch, on real images: the largest differences, and their limits."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Literal, NamedTuple

import numpy as np
import torch

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data.pixels import piece_length, pieces, to_unit
from stages.autoencoder.model import inference
from stages.autoencoder.model.autoencoder import Autoencoder
from stages.autoencoder.model.bottlenecks import Bottleneck
from stages.autoencoder.scores.reconstruction import mse_per_image

CODES, RECONSTRUCTIONS, ERRORS = "codes", "reconstructions", "errors"  # the outputs of exported models
LIMITS = {CODES: 1e-5, RECONSTRUCTIONS: 1e-5, ERRORS: 1e-6}  # rounding stays well below them
ROUNDINGS = 3  # each of two float32 outputs has rounded, in its own way
SMALL_BATCHES = (1, 7)  # beside one of all images: a model that was traced with one size must take every other
CPU = torch.device("cpu")


class ExportedModel(NamedTuple):
    """An exported model that can be run."""

    name: str  # for messages
    takes: Literal["images", "codes"]
    run: Callable[[np.ndarray], Mapping[str, np.ndarray]]  # a batch -> the outputs of it, by name


class Differences(NamedTuple):
    """The largest differences from torch, over all images and batch sizes."""

    codes: float  # divided by the largest magnitude of all codes
    reconstructions: float  # pixels are in [0, 1]
    errors: float  # relative to the MSE of the exported model's own reconstruction, computed in float64
    ties: int  # images left out, because rounding decides which of two equal activations top_k keeps


def compare(models: Iterable[ExportedModel], network: Autoencoder, images: np.ndarray) -> Differences:
    """The largest differences between exported models and `network`, which is on the CPU in eval mode.

    images: uint8 (N, C, H, W), at least one. Each model gets them in batches of 1, of 7, and all at once (fewer where
    they are large). Raises UserError if a difference exceeds both its limit in LIMITS and ROUNDINGS times the distance
    of torch's own output from that of float64: large activations round more.
    """
    codes = inference.encode(network, images, CPU)
    expected = {CODES: codes, RECONSTRUCTIONS: inference.decode(network, codes, CPU)}
    given = {"images": images, "codes": codes}
    tied = find_ties(network, images)
    largest = dict.fromkeys(LIMITS, 0.0)
    for model in models:
        # a decoder gets torch's own codes, which have no ties
        compared = ~tied if model.takes == "images" else np.full(len(tied), True)
        for size in sorted({*SMALL_BATCHES, piece_length(network.spec.shape, len(images))}):
            outputs = _run_in_batches(model, given[model.takes], size)
            for output, difference in _differences(outputs, expected, images, compared):
                limit = LIMITS[output]
                if difference > limit:
                    limit = max(limit, ROUNDINGS * _measure_rounding(output, network, images, expected, compared))
                if not difference <= limit:  # NaN is not, either
                    raise UserError(
                        f"{model.name}: {output} must differ from torch's by at most {limit:.2g}; got"
                        f" {difference:.2g} in batches of {size}; nothing is written; please report it"
                    )
                largest[output] = max(largest[output], difference)
    return Differences(**largest, ties=int(tied.sum()))


def find_ties(network: Autoencoder, images: np.ndarray) -> np.ndarray:
    """Which images, bool (N,), have no unique code: top_k may keep either of two activations.

    Their k-th and (k+1)-th largest activations, k or encode_k, differ by at most 1e-5 of the largest magnitude of all.
    """
    spec, tied = network.spec, np.full(len(images), False)
    limits = {spec.k, spec.encode_k or spec.k} - {spec.latent_dim}
    if spec.bottleneck != Bottleneck.TOP_K or not limits:
        return tied
    activations = np.sort(inference.apply(network.encoder, images, CPU), axis=1)
    for k in limits:
        gaps = activations[:, -k] - activations[:, -k - 1]
        tied |= gaps <= LIMITS[CODES] * np.abs(activations).max()
    return tied


def _measure_rounding(
    output: str, network: Autoencoder, images: np.ndarray, expected: Mapping[str, np.ndarray], compared: np.ndarray
) -> float:
    """How far an output of torch's float32 is from that of float64, in the unit of LIMITS."""
    if output == ERRORS:
        return 0.0  # what they are compared with is computed in float64
    exact = deepcopy(network).double()

    def compute(pixels: torch.Tensor) -> torch.Tensor:
        codes = exact.encode(pixels.double())
        return codes if output == CODES else exact.decode(codes)

    outputs = {output: inference.apply(compute, images, CPU)}
    return next(_differences(outputs, expected, images, compared))[1]


def _run_in_batches(model: ExportedModel, values: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """The outputs for all of `values`, joined along the batch."""
    batches = [model.run(values[batch]) for batch in pieces(len(values), size)]
    return {output: np.concatenate([batch[output] for batch in batches]) for output in batches[0]}


def _differences(
    outputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], images: np.ndarray, compared: np.ndarray
) -> Iterator[tuple[str, float]]:
    """The largest difference of each output, in the unit of LIMITS. compared: bool (N,), the images that count."""
    scale = {CODES: float(np.abs(expected[CODES]).max()) or 1.0, RECONSTRUCTIONS: 1.0}
    for output, values in outputs.items():
        if output == ERRORS:
            mse = mse_per_image(outputs[RECONSTRUCTIONS], to_unit(images))
            relative = np.abs(values - mse) / np.maximum(mse, np.finfo(np.float32).tiny)
            yield output, float(relative.max())
        else:
            absolute = np.abs(values - expected[output])[compared]
            yield output, float(absolute.max(initial=0.0)) / scale[output]
