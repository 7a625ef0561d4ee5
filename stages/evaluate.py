"""Stage evaluate: every number that is compared -> metrics/evaluate.json, plots/.

Reads data/reconstructions, data/embeddings, data/baseline, the train and test files of the split, the digest of
data/model, and params numerics, threads. It works on arrays and runs no model. Definitions: docs/metrics.md. A
score that the data do not define is left out, and the log says why. The first keys of the metrics file are the
first columns of `dvc exp show`.
"""

from stages.runtime import numerics  # noqa: F401, I001 - first: pins threads and instruction set

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.autoencoder.core import arrays, files
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data import split_files
from stages.autoencoder.figures import image_grids, score_figures
from stages.autoencoder.model.bottlenecks import Bottleneck
from stages.autoencoder.scores import code_usage, pca, probes, reconstruction
from stages.autoencoder.scores.probes import LabelledCodes
from stages.autoencoder.scores.reconstruction import score_in_batches
from stages.autoencoder.scores.undefined_scores import UndefinedScore, add_score
from stages.runtime.command import run_stage

TRAIN, TEST = Path("data/split/train.safetensors"), Path("data/split/test.safetensors")
BASELINE, MODEL = Path("data/baseline.safetensors"), Path("data/model.safetensors")
RECONSTRUCTIONS, EMBEDDINGS = Path("data/reconstructions.safetensors"), Path("data/embeddings.safetensors")
METRICS, PICTURES = Path("metrics/evaluate.json"), Path("plots/evaluate")
PER_CLASS, CODES = Path("plots/per_class.csv"), Path("plots/codes.csv")
WORST = 12  # images in the picture of the largest errors
log = logging.getLogger(__name__)


def main() -> None:
    train, _ = split_files.load(TRAIN, "images", "labels")
    test, about = split_files.load(TEST, "images", "labels")
    results, _ = load_of_this_model(RECONSTRUCTIONS)
    codes, embedding = load_of_this_model(EMBEDDINGS, "train", "test")
    baseline = arrays.load(BASELINE)[0]
    latent_dim = codes["test"].shape[1]
    classes = np.array(about["class_names"])[test["labels"]]
    anomalous = ~np.isin(test["labels"], about["normal_classes"] or test["labels"])

    errors = image_errors(results["output"], test["images"])
    pca_mse = float(baseline["mse"][min(latent_dim, len(baseline["mse"])) - 1])
    mean_image = np.broadcast_to(baseline["mean"].reshape(test["images"].shape[1:]), test["images"].shape)
    mean_image_mse = mean(score_in_batches(reconstruction.mse_per_image, mean_image, test["images"]))
    code_scores = probes.score_codes(
        *(LabelledCodes(codes[n], part["labels"]) for n, part in (("train", train), ("test", test)))
    )
    axes = baseline["components"][:latent_dim]
    pca_scores = probes.score_codes(
        *(LabelledCodes(pca.project(part["images"], baseline["mean"], axes), part["labels"]) for part in (train, test))
    )

    metrics = {name: mean(values) for name, values in errors.items()}
    add_score(metrics, "pca_ratio", reconstruction.mse_ratio, metrics["mse"], pca_mse, mean_image_mse)
    metrics |= code_scores
    add_score(metrics, "trust", trust_of_chosen_map, embedding)
    metrics |= {"per_image": metrics["mse"] * test["images"][0].size, "bce": mean(results["bce"]), "pca_mse": pca_mse}
    metrics |= variant_scores(results, test["images"], codes["test"], Bottleneck(embedding["bottleneck"]))
    if about["normal_classes"]:
        add_score(metrics, "auroc", reconstruction.auroc, errors["mse"], anomalous)
    files.write_json(METRICS, metrics)

    per_class = pd.DataFrame({"class": classes, **errors}).groupby("class", sort=True).mean()
    files.write(PER_CLASS, per_class.to_csv().encode())
    files.write(CODES, table_of_codes(code_scores, pca_scores, embedding["trust"]).to_csv(index=False).encode())
    score_figures.save_errors(PICTURES / "errors.png", errors["mse"], anomalous, metrics.get("auroc"))
    score_figures.save_pca_curve(PICTURES / "pca.png", baseline["mse"], latent_dim, metrics["mse"])
    score_figures.save_code_scores(PICTURES / "codes.png", code_scores, pca_scores, latent_dim)
    save_worst(test["images"], results["output"], errors["mse"], classes)


def load_of_this_model(path: Path, *names: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and description in a file made with data/model. Raises UserError if another model made it."""
    held, about = arrays.load(path, *names)
    if about.get("model") != files.digest(MODEL):
        raise UserError(
            f"{path}: must be made with {MODEL}; got one made with another model; run dvc repro to remake it"
        )
    return held, about


def mean(values: np.ndarray) -> float:
    """The mean in float64."""
    return float(values.mean(dtype=np.float64))


def image_errors(output: np.ndarray, clean: np.ndarray) -> dict[str, np.ndarray]:
    """mse, psnr and, if it is defined, ssim of each image, float64 (N,).

    output: float32 (N, C, H, W); clean: the same images as uint8.
    """
    mse = score_in_batches(reconstruction.mse_per_image, output, clean)
    errors = {"mse": mse, "psnr": reconstruction.psnr_per_image(mse)}
    try:
        errors["ssim"] = score_in_batches(reconstruction.ssim_per_image, output, clean)
    except UndefinedScore as reason:
        log.info("no ssim: %s", reason)
    return errors


def variant_scores(
    results: Mapping[str, np.ndarray], test: np.ndarray, codes: np.ndarray, bottleneck: Bottleneck
) -> dict[str, float]:
    """The scores that only denoising, variational and sparse autoencoders have."""
    metrics: dict[str, float] = {}
    if "given" in results:
        noisy, denoised = (
            score_in_batches(reconstruction.mse_per_image, results[name], test) for name in ("given", "denoised")
        )
        metrics["gain_db"] = mean(reconstruction.psnr_per_image(denoised) - reconstruction.psnr_per_image(noisy))
    if bottleneck.is_variational:
        metrics |= {"elbo": -mean(results["sampled_bce"]) - mean(results["kl"]), "kl": mean(results["kl"])}
        metrics["active_units"] = code_usage.active_units(codes)
    if bottleneck.is_sparse:
        add_score(metrics, "hoyer", code_usage.hoyer, codes)
        metrics["mean_active"] = code_usage.mean_active(codes)
    return metrics


def trust_of_chosen_map(embedding: Mapping[str, Any]) -> float:
    """The trustworthiness of the chosen map. Raises UndefinedScore if there is none."""
    if embedding["map"] not in embedding["trust"]:
        raise UndefinedScore(f"embed.map is {embedding['map']}, and the stage embed measured no such map")
    return float(embedding["trust"][embedding["map"]])


def table_of_codes(
    code_scores: Mapping[str, float], pca_scores: Mapping[str, float], trust: Mapping[str, float]
) -> pd.DataFrame:
    """Columns score and value: each score of the codes and of PCA's codes, the trustworthiness of each map."""
    both = [(n, f"{n}{of}", scores[n]) for of, scores in (("", code_scores), (" of PCA", pca_scores)) for n in scores]
    rows = [(label, value) for _, label, value in sorted(both)]
    rows += [(f"trust of {name} map", value) for name, value in trust.items()]
    return pd.DataFrame(rows, columns=["score", "value"])


def save_worst(images: np.ndarray, output: np.ndarray, mse: np.ndarray, classes: np.ndarray) -> None:
    """The test images with the largest errors above their reconstructions, with class and error below."""
    worst = np.argsort(-mse, kind="stable")[:WORST]
    rows = [("original", images[worst]), ("reconstruction", output[worst])]
    captions = [f"{classes[i]}\n{mse[i]:.2g}" for i in worst]
    title = "The test images with the largest reconstruction error: class and MSE per pixel"
    image_grids.save_rows(PICTURES / "worst.png", rows, title=title, captions=captions)


if __name__ == "__main__":
    run_stage(main)
