"""Stage reconstruct: data/model + data/split/test -> data/reconstructions.safetensors, plots/reconstruct/.

Reads params device, numerics, threads; what the model is stands in its file. Arrays, per test image in order:
output float32 (N, C, H, W), its reconstruction; bce float32 (N,), its binary cross-entropy in nats; for a
denoising model given and denoised, the corrupted image and what the model makes of it; for a variational one
sampled_bce and kl, the two terms of its ELBO in nats.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.autoencoder import arrays, devices, generation, images, inference, model, pictures
from stages.autoencoder.corruption import corrupt
from stages.autoencoder.errors import run
from stages.autoencoder.objectives import binary_cross_entropy, gaussian_kl
from stages.autoencoder.params.apply import ApplyParams
from stages.autoencoder.params.reading import read

MODEL, TEST = Path("data/model.safetensors"), Path("data/split/test.safetensors")
RECONSTRUCTIONS, PICTURES = Path("data/reconstructions.safetensors"), Path("plots/reconstruct")
NOISE = 0  # seed of the test noise: one and the same in every experiment, whatever its `seed`
SHOWN = 12  # test images in a row of a picture


def main() -> None:
    params = read(ApplyParams)
    device = devices.prepare(params.device, params.numerics)
    autoencoder, about = model.load(MODEL, device)
    test = arrays.load(TEST, "images")[0]["images"]
    found = {
        "output": inference.apply(autoencoder, test, device),
        "bce": inference.apply(lambda x: nats(autoencoder, autoencoder.encode(x), x), test, device),
    }
    noise = torch.Generator(device).manual_seed(NOISE)
    if about["corruption"]:
        found |= denoised(autoencoder, test, about["corruption"], noise, device)
    if autoencoder.spec.bottleneck == "gaussian":
        found |= elbo_terms(autoencoder, test, noise, device)
    arrays.save(RECONSTRUCTIONS, found)
    save_pictures(autoencoder, test, found, device)


def nats(autoencoder: model.Autoencoder, z: Tensor, images: Tensor) -> Tensor:
    """Binary cross-entropy of images (B, C, H, W) given their codes z, in nats per image, (B,)."""
    return binary_cross_entropy(autoencoder.decoder(z), images)


def denoised(
    autoencoder: model.Autoencoder, test: np.ndarray, corruption: dict, noise: torch.Generator, device: torch.device
) -> dict[str, np.ndarray]:
    """given: the test images, corrupted as in training; denoised: the model's output for them."""
    given = inference.apply(lambda x: corrupt(x, corruption["corruption"], corruption["level"], noise), test, device)
    return {"given": given, "denoised": inference.apply(autoencoder, given, device)}


def elbo_terms(
    autoencoder: model.Autoencoder, test: np.ndarray, noise: torch.Generator, device: torch.device
) -> dict[str, np.ndarray]:
    """sampled_bce, at one sample of each image's code, and kl, both in nats (N,): their sum is -ELBO."""

    def terms(x: Tensor) -> Tensor:
        code = autoencoder.code(x, noise)
        return torch.stack([nats(autoencoder, code.z, x), gaussian_kl(code.mean, code.log_var)], 1)

    sampled_bce, kl = inference.apply(terms, test, device).T
    return {"sampled_bce": sampled_bce, "kl": kl}


def save_pictures(
    autoencoder: model.Autoencoder, test: np.ndarray, found: dict[str, np.ndarray], device: torch.device
) -> None:
    """What the model makes of test images and of codes between and beyond them."""

    def show(array: np.ndarray) -> np.ndarray:
        return images.spread(array, SHOWN)

    difference = np.abs(found["output"] - test / np.float32(255))
    rows = [("original", show(test)), ("reconstruction", show(found["output"])), ("|difference|", show(difference))]
    pictures.save_rows(PICTURES / "reconstructions.png", rows)
    if "given" in found:
        rows = [("noisy", found["given"]), ("output", found["denoised"]), ("clean", test)]
        pictures.save_rows(PICTURES / "denoising.png", [(label, show(array)) for label, array in rows])
    for name, rows in generation.pictures_of_codes(autoencoder, test, device):
        pictures.save_rows(PICTURES / f"{name}.png", rows)


if __name__ == "__main__":
    run(main)
