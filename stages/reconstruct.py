"""Stage reconstruct: the test images through the model -> data/reconstructions.safetensors, plots/reconstruct/.

Reads data/model, data/raw, data/split/test and params device, numerics, threads, reconstruct; the model file says what
the model is. Arrays, for each test image in order of `index`: output float32 (N, C, H, W), its reconstruction;
bce float32 (N,), its binary cross-entropy in nats; of a denoising model also `given` and `denoised`, the corrupted
image and its reconstruction; of a variational one sampled_bce and kl, the two terms of its ELBO in nats, and nll, an
estimate of -log p(x) in nats, if params reconstruct asks for it. A model that was trained on drawn pixels gets a draw
of the test images, and all of these but `output` belong to that draw. Where some classes are not normal, also
`anomaly.mse` and the like, the scores of model/detector.py, of the grey images. The description has the digest of the
model file.
"""

from stages.runtime import numerics  # noqa: F401, I001 - first: pins threads and instruction set

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.autoencoder.core import arrays, files
from stages.autoencoder.data import split_files
from stages.autoencoder.data.pixels import ImageRows, evenly_spaced, piece_length, pieces, to_unit
from stages.autoencoder.data.split_files import TEST, Part
from stages.autoencoder.figures import decoded_codes
from stages.autoencoder.figures.base import image_grids
from stages.autoencoder.model import devices, inference, model_file
from stages.autoencoder.model.autoencoder import Autoencoder, reparametrise
from stages.autoencoder.model.model_file import StoredModel
from stages.autoencoder.model.objectives import (
    binary_cross_entropy,
    gaussian_kl,
    importance_weighted,
    log_density_ratio,
)
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.inputs import Denoising
from stages.autoencoder.params.reconstruct import ReconstructParams
from stages.autoencoder.training.inputs import DrawnImages, corrupt
from stages.runtime.command import run_stage

MODEL = Path("data/model.safetensors")
RECONSTRUCTIONS, PICTURES = Path("data/reconstructions.safetensors"), Path("plots/reconstruct")
NOISE_SEED = 0  # the same test noise in every experiment, whatever its `seed`
COLUMNS = 12  # test images in a row of a picture
Results = dict[str, np.ndarray]


def main() -> None:
    params = loader.load(ReconstructParams)
    device = devices.prepare(params.device, params.numerics)
    digest = files.digest(MODEL)
    stored = model_file.load(MODEL, device)
    model, about = stored.model, stored.about
    test = split_files.load(TEST)
    given = test.images if about.binarize == "none" else DrawnImages(test.images, test.index)
    save_results(stored, test, given, params.reconstruct.importance_samples, digest, device)

    save_pictures(test.images, given, about.corruption is not None, model.spec.latent_dim)
    codes = inference.encode(model, given, device)
    for picture in decoded_codes.pictures_of_codes(model, stored.mixture, codes, test.classes, device):
        path = PICTURES / f"{picture.name}.png"
        image_grids.save_rows(path, picture.rows, title=picture.title, captions=picture.captions)


def save_results(
    stored: StoredModel, test: Part, given: ImageRows, samples: int, digest: str, device: torch.device
) -> None:
    """Write the arrays that the docstring of this module lists, batch by batch.

    given: the test images, or a draw of them; samples: of each code, for nll.
    """
    model, corruption = stored.model, stored.about.corruption
    scores = stored.scores if test.normal_classes else {}
    images, numbers = (np.float32, given.shape), (np.float32, (len(given),))
    layout: dict[str, tuple[Any, tuple[int, ...]]] = {"output": images, "bce": numbers}
    functions: list[Callable[[np.ndarray], Results]] = [partial(reconstruct, model, device)]
    if corruption:
        layout |= {"given": images, "denoised": images}
        noise = torch.Generator().manual_seed(NOISE_SEED)  # drawn on the CPU, so that every device gets the same
        functions.append(partial(denoise, model, device, corruption, noise))
    if model.is_variational:
        layout |= {"sampled_bce": numbers, "kl": numbers}
        sampling = torch.Generator(device).manual_seed(NOISE_SEED)
        functions.append(partial(compute_elbo_terms, model, device, sampling))
        if samples:
            layout |= {"nll": numbers}
            functions.append(partial(estimate_nll, model, device, samples, sampling))
    layout |= {f"anomaly.{name}": numbers for name in scores}
    with arrays.create(RECONSTRUCTIONS, layout, {"model": digest}) as file:
        for batch in pieces(len(given), piece_length(model.spec.shape, inference.BATCH_SIZE)):
            clean = given[batch]
            for function in functions:
                for name, values in function(clean).items():
                    file.append(name, values)
            for name, score in scores.items():
                file.append(f"anomaly.{name}", inference.apply(score, test.images[batch], device))


def reconstruct(model: Autoencoder, device: torch.device, clean: np.ndarray) -> Results:
    """output, the reconstruction of a batch of images, uint8 (B, C, H, W), and its bce against them."""
    logits = inference.compute_logits(model, clean, device)
    bce = binary_cross_entropy(logits, to_unit(torch.from_numpy(clean)))
    return {"output": logits.sigmoid().numpy(), "bce": bce.numpy()}


def denoise(
    model: Autoencoder, device: torch.device, corruption: Denoising, noise: torch.Generator, clean: np.ndarray
) -> Results:
    """given: a batch of images, corrupted as in training; denoised: the model's output for them."""

    def add_noise(x: Tensor) -> Tensor:
        return corrupt(x, corruption.corruption, corruption.level, noise)

    noisy = inference.apply(add_noise, clean, torch.device("cpu"))
    return {"given": noisy, "denoised": inference.apply(model, noisy, device)}


def compute_elbo_terms(model: Autoencoder, device: torch.device, noise: torch.Generator, clean: np.ndarray) -> Results:
    """sampled_bce, at one sample of each image's code, and kl, both in nats (B,): their sum is -ELBO."""

    def elbo_terms(x: Tensor) -> Tensor:
        code = model.code(x, noise)
        assert code.mean is not None and code.log_var is not None  # noqa: S101, PT018 - the model is variational
        error = binary_cross_entropy(model.decoder(code.z), x)
        return torch.stack([error, gaussian_kl(code.mean, code.log_var)], 1)

    sampled_bce, kl = inference.apply(elbo_terms, clean, device).T
    return {"sampled_bce": sampled_bce, "kl": kl}


def estimate_nll(
    model: Autoencoder, device: torch.device, samples: int, noise: torch.Generator, clean: np.ndarray
) -> Results:
    """nll: -log p(x) by importance sampling with the encoder as proposal (Burda et al. 2016), in nats (B,)."""

    def nll(x: Tensor) -> Tensor:
        encoded = model.code(x)
        assert encoded.mean is not None and encoded.log_var is not None  # noqa: S101, PT018 - the model is variational
        log_weights = []
        for _ in range(samples):
            z = reparametrise(encoded.mean, encoded.log_var, noise)
            error = binary_cross_entropy(model.decoder(z), x)
            log_weights.append(log_density_ratio(z, encoded.mean, encoded.log_var) - error)
        return importance_weighted(torch.stack(log_weights, 1).double())

    return {"nll": inference.apply(nll, clean, device)}


def save_pictures(test: ImageRows, given: ImageRows, denoising: bool, latent_dim: int) -> None:
    """Test images above their reconstructions; of a denoising model also noisy, denoised and clean images.

    given: what the model got, the test images or a draw of them.
    """
    names = ("output", "given", "denoised") if denoising else ("output",)
    chosen = {name: evenly_spaced(arrays.map_array(RECONSTRUCTIONS, name), COLUMNS) for name in names}
    clean = evenly_spaced(test, COLUMNS)
    difference = np.abs(chosen["output"] - to_unit(clean))
    rows = [("original", clean), ("reconstruction", chosen["output"]), ("|difference|", difference)]
    if given is not test:
        rows.insert(1, ("drawn", evenly_spaced(given, COLUMNS)))
    title = f"Test images, and what becomes of them in a code of {latent_dim} numbers"
    image_grids.save_rows(PICTURES / "reconstructions.png", rows, title=title)
    if denoising:
        rows = [("noisy", chosen["given"]), ("output", chosen["denoised"]), ("clean", clean)]
        title = "Test images with noise, the output of the autoencoder, and the clean images"
        image_grids.save_rows(PICTURES / "denoising.png", rows, title=title)


if __name__ == "__main__":
    run_stage(main)
