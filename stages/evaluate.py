"""Stage evaluate: reconstructions, embeddings, baseline, train and test part -> metrics/evaluate.json, plots/.

Every number that is compared, from arrays alone: no model is run here. Definitions: docs/metrics.md. A score
that the data do not define is left out, and the log says why. The first keys of the metrics file are the first
columns of `dvc exp show`.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.autoencoder import activity, arrays, parts, pictures, probes, score_figures, scores
from stages.autoencoder.errors import run
from stages.autoencoder.images import pixels
from stages.autoencoder.probes import Coded
from stages.autoencoder.undefined import Undefined, offer

TRAIN, TEST = Path("data/split/train.safetensors"), Path("data/split/test.safetensors")
BASELINE = Path("data/baseline.safetensors")
RECONSTRUCTIONS, EMBEDDINGS = Path("data/reconstructions.safetensors"), Path("data/embeddings.safetensors")
METRICS, PICTURES = Path("metrics/evaluate.json"), Path("plots/evaluate")
PER_CLASS, CODES = Path("plots/per_class.csv"), Path("plots/codes.csv")
WORST = 12  # images shown
HELD = 4096  # images held as float at a time
log = logging.getLogger(__name__)


def main() -> None:
    train, _ = parts.load(TRAIN, "images", "labels")
    test, about = parts.load(TEST, "images", "labels")
    found = arrays.load(RECONSTRUCTIONS)[0]
    codes, embedding = arrays.load(EMBEDDINGS, "train", "test")
    pca = arrays.load(BASELINE)[0]
    latent_dim = codes["test"].shape[1]
    classes = np.array(about["class_names"])[test["labels"]]
    anomalous = ~np.isin(test["labels"], about["normal_classes"] or test["labels"])

    errors = of_images(found["output"], test["images"])
    pca_mse = float(pca["mse"][min(latent_dim, len(pca["mse"])) - 1])
    blind = np.broadcast_to(pca["mean"].reshape(test["images"].shape[1:]), test["images"].shape)  # no component
    spread = mean(in_parts(scores.mse_per_image, blind, test["images"]))
    of_codes = probes.scores(Coded(codes["train"], train["labels"]), Coded(codes["test"], test["labels"]))
    of_pca = probes.scores(*(Coded(project(part["images"], pca, latent_dim), part["labels"]) for part in (train, test)))

    metrics = {name: mean(values) for name, values in errors.items()}
    offer(metrics, "pca_ratio", scores.ratio, metrics["mse"], pca_mse, spread)
    metrics |= of_codes
    offer(metrics, "trust", trust_of_map, embedding)
    metrics |= {"per_image": metrics["mse"] * test["images"][0].size, "bce": mean(found["bce"]), "pca_mse": pca_mse}
    metrics |= of_variant(found, test["images"], codes["test"], embedding["bottleneck"])
    if about["normal_classes"]:
        offer(metrics, "auroc", scores.auroc, errors["mse"], anomalous)
    arrays.write_json(METRICS, metrics)

    per_class = pd.DataFrame({"class": classes, **errors}).groupby("class", sort=True).mean()
    arrays.write(PER_CLASS, per_class.to_csv().encode())
    arrays.write(CODES, table_of_codes(of_codes, of_pca, embedding["trust"]).to_csv(index=False).encode())
    score_figures.save_errors(PICTURES / "errors.png", errors["mse"], anomalous, metrics.get("auroc"))
    score_figures.save_curve(PICTURES / "pca.png", pca["mse"], latent_dim, metrics["mse"])
    score_figures.save_codes(PICTURES / "codes.png", of_codes, of_pca, latent_dim)
    save_worst(test["images"], found["output"], errors["mse"], classes)


def mean(values: np.ndarray) -> float:
    """The mean in float64."""
    return float(values.mean(dtype=np.float64))


def project(images: np.ndarray, pca: Mapping[str, np.ndarray], latent_dim: int) -> np.ndarray:
    """PCA codes, float32 (N, latent_dim), of images uint8 (N, C, H, W); of fewer dimensions where PCA has fewer."""
    parts_of = (images[first : first + HELD] for first in range(0, len(images), HELD))
    return np.concatenate([(pixels(part) - pca["mean"]) @ pca["components"][:latent_dim].T for part in parts_of])


def of_images(output: np.ndarray, clean: np.ndarray) -> dict[str, np.ndarray]:
    """mse, psnr and, where it is defined, ssim of each image, float64 (N,).

    output: float32 (N, C, H, W); clean: the same images as uint8.
    """
    mse = in_parts(scores.mse_per_image, output, clean)
    errors = {"mse": mse, "psnr": scores.psnr_per_image(mse)}
    try:
        errors["ssim"] = in_parts(scores.ssim_per_image, output, clean)
    except Undefined as reason:
        log.info("no ssim: %s", reason)
    return errors


def in_parts(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray], output: np.ndarray, clean: np.ndarray
) -> np.ndarray:
    """The score (N,) of images float (N, C, H, W) beside uint8 ones, of which few are held as float at a time."""
    starts = range(0, len(clean), HELD)
    return np.concatenate([score(output[i : i + HELD], clean[i : i + HELD] / np.float32(255)) for i in starts])


def of_variant(
    found: Mapping[str, np.ndarray], test: np.ndarray, codes: np.ndarray, bottleneck: str
) -> dict[str, float]:
    """The scores of denoising, variational and sparse autoencoders, as far as this is one."""
    metrics: dict[str, float] = {}
    if "given" in found:
        noisy, output = (in_parts(scores.mse_per_image, found[name], test) for name in ("given", "denoised"))
        metrics["gain_db"] = mean(scores.psnr_per_image(output) - scores.psnr_per_image(noisy))
    if bottleneck == "gaussian":
        metrics |= {"elbo": -mean(found["sampled_bce"]) - mean(found["kl"]), "kl": mean(found["kl"])}
        metrics["active_units"] = activity.active_units(codes)
    if bottleneck in ("relu", "top_k"):
        offer(metrics, "hoyer", activity.hoyer, codes)
        metrics["mean_active"] = activity.mean_active(codes)
    return metrics


def trust_of_map(embedding: Mapping[str, Any]) -> float:
    """The trustworthiness of the chosen map. Raises Undefined where there is none."""
    if embedding["map"] not in embedding["trust"]:
        raise Undefined(f"embed.map is {embedding['map']}, and the stage embed measured no such map")
    return embedding["trust"][embedding["map"]]


def table_of_codes(
    of_codes: Mapping[str, float], of_pca: Mapping[str, float], trust: Mapping[str, float]
) -> pd.DataFrame:
    """Columns score and value: each score of the codes and of PCA's codes, the trustworthiness of each map."""
    both = [(name, f"{name}{of}", table[name]) for of, table in (("", of_codes), (" of PCA", of_pca)) for name in table]
    rows = [(label, value) for _, label, value in sorted(both)]
    rows += [(f"trust of {name} map", value) for name, value in trust.items()]
    return pd.DataFrame(rows, columns=["score", "value"])


def save_worst(images: np.ndarray, output: np.ndarray, mse: np.ndarray, classes: np.ndarray) -> None:
    """The test images with the largest error over what became of them, with class and error below."""
    worst = np.argsort(-mse, kind="stable")[:WORST]
    rows = [("original", images[worst]), ("reconstruction", output[worst])]
    captions = [f"{classes[i]}\n{mse[i]:.2g}" for i in worst]
    title = "The test images with the largest reconstruction error: class and MSE per pixel"
    pictures.save_rows(PICTURES / "worst.png", rows, title=title, captions=captions)


if __name__ == "__main__":
    run(main)
