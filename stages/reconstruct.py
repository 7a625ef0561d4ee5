"""Stage reconstruct: data/model + data/split/test -> data/reconstructions.safetensors, plots/reconstruct/.

Reads params device, numerics, threads; what the model is stands in its file. Arrays, per test image in the order
of `index`: output float32 (N, C, H, W), its reconstruction; bce float32 (N,), its binary cross-entropy in nats;
for a denoising model given and denoised, the corrupted image and what the model makes of it; for a variational
one sampled_bce and kl, the two terms of its ELBO in nats.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.autoencoder import arrays, devices, generation, images, inference, model, parts, pictures
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
    test, data = parts.load(TEST, "images", "labels")
    codes = inference.apply(autoencoder.encode, test["images"], device)
    found = decoded(autoencoder, codes, test["images"], device)
    if about["corruption"]:
        found |= denoised(autoencoder, test["images"], about["corruption"], device)
    if autoencoder.spec.bottleneck == "gaussian":
        found |= elbo_terms(autoencoder, test["images"], device)
    arrays.save(RECONSTRUCTIONS, found)

    save_pictures(test["images"], found, codes.shape[1])
    classes = np.array(data["class_names"])[test["labels"]]
    for picture in generation.pictures_of_codes(autoencoder, codes, classes, device):
        path = PICTURES / f"{picture.name}.png"
        pictures.save_rows(path, picture.rows, title=picture.title, captions=picture.captions)


def decoded(
    autoencoder: model.Autoencoder, codes: np.ndarray, test: np.ndarray, device: torch.device
) -> dict[str, np.ndarray]:
    """output, from codes (N, D), and its bce against the test images, uint8 (N, C, H, W)."""
    output, bce = np.empty(test.shape, np.float32), np.empty(len(test), np.float32)
    for first in range(0, len(test), inference.BATCH):
        part = slice(first, first + inference.BATCH)
        logits = torch.from_numpy(inference.apply(autoencoder.decoder, codes[part], device))
        output[part] = logits.sigmoid()
        bce[part] = binary_cross_entropy(logits, torch.from_numpy(test[part]).float() / 255)
    return {"output": output, "bce": bce}


def denoised(
    autoencoder: model.Autoencoder, test: np.ndarray, corruption: dict, device: torch.device
) -> dict[str, np.ndarray]:
    """given: the test images, corrupted as in training; denoised: the model's output for them."""
    noise = torch.Generator().manual_seed(NOISE)  # drawn on the CPU, so that every device is given the same

    def spoil(x: Tensor) -> Tensor:
        return corrupt(x, corruption["corruption"], corruption["level"], noise)

    given = inference.apply(spoil, test, torch.device("cpu"))
    return {"given": given, "denoised": inference.apply(autoencoder, given, device)}


def elbo_terms(autoencoder: model.Autoencoder, test: np.ndarray, device: torch.device) -> dict[str, np.ndarray]:
    """sampled_bce, at one sample of each image's code, and kl, both in nats (N,): their sum is -ELBO."""
    noise = torch.Generator(device).manual_seed(NOISE)

    def terms(x: Tensor) -> Tensor:
        code = autoencoder.code(x, noise)
        error = binary_cross_entropy(autoencoder.decoder(code.z), x)
        return torch.stack([error, gaussian_kl(code.mean, code.log_var)], 1)

    sampled_bce, kl = inference.apply(terms, test, device).T
    return {"sampled_bce": sampled_bce, "kl": kl}


def save_pictures(test: np.ndarray, found: dict[str, np.ndarray], latent_dim: int) -> None:
    """Test images over what became of them, and for a denoising model from noisy to clean."""

    def show(array: np.ndarray) -> np.ndarray:
        return images.spread(array, SHOWN)

    difference = np.abs(show(found["output"]) - show(test) / np.float32(255))
    rows = [("original", show(test)), ("reconstruction", show(found["output"])), ("|difference|", difference)]
    title = f"Test images, and what becomes of them in a code of {latent_dim} numbers"
    pictures.save_rows(PICTURES / "reconstructions.png", rows, title=title)
    if "given" in found:
        rows = [("noisy", show(found["given"])), ("output", show(found["denoised"])), ("clean", show(test))]
        title = "Test images with noise, what the autoencoder makes of them, and as they were"
        pictures.save_rows(PICTURES / "denoising.png", rows, title=title)


if __name__ == "__main__":
    run(main)
