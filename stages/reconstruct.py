"""Stage reconstruct: the test images through the model -> data/reconstructions.safetensors, plots/reconstruct/.

Reads data/model.safetensors, data/split/test.safetensors and params device, numerics, threads; the model file says
what the model is. Arrays, for each test image in order of `index`: output float32 (N, C, H, W), its reconstruction;
bce float32 (N,), its binary cross-entropy in nats; of a denoising model also `given` and `denoised`, the corrupted
image and its reconstruction; of a variational one sampled_bce and kl, the two terms of its ELBO in nats. The
description has the digest of the model file.
"""

from stages.runtime import numerics  # noqa: F401, I001 - first: pins threads and instruction set

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.autoencoder.core import arrays, files
from stages.autoencoder.data import split_files
from stages.autoencoder.data.pixels import evenly_spaced, to_unit
from stages.autoencoder.figures import decoded_codes, image_grids
from stages.autoencoder.model import devices, inference, model_file
from stages.autoencoder.model.autoencoder import Autoencoder
from stages.autoencoder.model.objectives import binary_cross_entropy, gaussian_kl
from stages.autoencoder.params.model_use import ModelUseParams
from stages.autoencoder.params.base import loader
from stages.autoencoder.training.corruption import corrupt
from stages.runtime.command import run_stage

MODEL, TEST = Path("data/model.safetensors"), Path("data/split/test.safetensors")
RECONSTRUCTIONS, PICTURES = Path("data/reconstructions.safetensors"), Path("plots/reconstruct")
NOISE_SEED = 0  # the same test noise in every experiment, whatever its `seed`
COLUMNS = 12  # test images in a row of a picture


def main() -> None:
    params = loader.load(ModelUseParams)
    device = devices.prepare(params.device, params.numerics)
    digest = files.digest(MODEL)
    model, about = model_file.load(MODEL, device)
    test, data = split_files.load(TEST, "images", "labels")
    codes = inference.apply(model.encode, test["images"], device)
    results = decode(model, codes, test["images"], device)
    if about["corruption"]:
        results |= denoise(model, test["images"], about["corruption"], device)
    if model.is_variational:
        results |= compute_elbo_terms(model, test["images"], device)
    arrays.save(RECONSTRUCTIONS, results, {"model": digest})

    save_pictures(test["images"], results, codes.shape[1])
    classes = np.array(data["class_names"])[test["labels"]]
    for picture in decoded_codes.pictures_of_codes(model, codes, classes, device):
        path = PICTURES / f"{picture.name}.png"
        image_grids.save_rows(path, picture.rows, title=picture.title, captions=picture.captions)


def decode(model: Autoencoder, codes: np.ndarray, test: np.ndarray, device: torch.device) -> dict[str, np.ndarray]:
    """output, from codes (N, D), and its bce against the test images, uint8 (N, C, H, W)."""
    output, bce = np.empty(test.shape, np.float32), np.empty(len(test), np.float32)
    for start in range(0, len(test), inference.BATCH_SIZE):
        batch = slice(start, start + inference.BATCH_SIZE)
        logits = torch.from_numpy(inference.apply(model.decoder, codes[batch], device))
        output[batch] = logits.sigmoid()
        bce[batch] = binary_cross_entropy(logits, to_unit(torch.from_numpy(test[batch])))
    return {"output": output, "bce": bce}


def denoise(model: Autoencoder, test: np.ndarray, corruption: dict, device: torch.device) -> dict[str, np.ndarray]:
    """given: the test images, corrupted as in training; denoised: the model's output for them."""
    noise = torch.Generator().manual_seed(NOISE_SEED)  # drawn on the CPU, so that every device gets the same

    def add_noise(x: Tensor) -> Tensor:
        return corrupt(x, corruption["corruption"], corruption["level"], noise)

    noisy = inference.apply(add_noise, test, torch.device("cpu"))
    return {"given": noisy, "denoised": inference.apply(model, noisy, device)}


def compute_elbo_terms(model: Autoencoder, test: np.ndarray, device: torch.device) -> dict[str, np.ndarray]:
    """sampled_bce, at one sample of each image's code, and kl, both in nats (N,): their sum is -ELBO."""
    noise = torch.Generator(device).manual_seed(NOISE_SEED)

    def elbo_terms(x: Tensor) -> Tensor:
        code = model.code(x, noise)
        assert code.mean is not None and code.log_var is not None  # noqa: S101, PT018 - the model is variational
        error = binary_cross_entropy(model.decoder(code.z), x)
        return torch.stack([error, gaussian_kl(code.mean, code.log_var)], 1)

    sampled_bce, kl = inference.apply(elbo_terms, test, device).T
    return {"sampled_bce": sampled_bce, "kl": kl}


def save_pictures(test: np.ndarray, results: dict[str, np.ndarray], latent_dim: int) -> None:
    """Test images above their reconstructions; of a denoising model also noisy, denoised and clean images."""
    chosen = {
        name: evenly_spaced(results[name], COLUMNS) for name in ("output", "given", "denoised") if name in results
    }
    clean = evenly_spaced(test, COLUMNS)
    difference = np.abs(chosen["output"] - to_unit(clean))
    rows = [("original", clean), ("reconstruction", chosen["output"]), ("|difference|", difference)]
    title = f"Test images, and what becomes of them in a code of {latent_dim} numbers"
    image_grids.save_rows(PICTURES / "reconstructions.png", rows, title=title)
    if "given" in chosen:
        rows = [("noisy", chosen["given"]), ("output", chosen["denoised"]), ("clean", clean)]
        title = "Test images with noise, the output of the autoencoder, and the clean images"
        image_grids.save_rows(PICTURES / "denoising.png", rows, title=title)


if __name__ == "__main__":
    run_stage(main)
