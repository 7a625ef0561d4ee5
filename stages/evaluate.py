"""Stage evaluate: every number that is compared -> metrics/evaluate.json, data/test_images.csv, plots/.

Reads data/raw, data/split/{train,valid,test}, data/reconstructions, data/embeddings, data/baseline, the description
and digest of data/model, and params numerics, threads. It works on arrays and runs no model. The validation images
choose the strengths of the filters beside a denoising model and of the classifiers of the codes. Definitions:
docs/metrics.md. A score that the data do not define is left out, and the log says why. The first keys of the metrics
file are the first columns of `dvc exp show`.
"""

from stages.runtime import numerics  # noqa: F401, I001 - first: pins threads and instruction set

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.autoencoder.core import arrays, files
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data import split_files
from stages.autoencoder.data.pixels import ImageRows, evenly_spaced
from stages.autoencoder.data.split_files import TEST, TRAIN, VALID, Part
from stages.autoencoder.figures import score_figures, worst_images
from stages.autoencoder.figures.base import image_grids
from stages.autoencoder.model.bottlenecks import Bottleneck
from stages.autoencoder.params.inputs import Denoising
from stages.autoencoder.scores import anomalies, code_usage, denoisers, pca, probes, reconstruction, tables
from stages.autoencoder.scores.codes import clusters, dimension_estimates, linear_classifiers
from stages.autoencoder.scores.probes import LabelledCodes
from stages.autoencoder.scores.reconstruction import score_in_batches
from stages.autoencoder.scores.undefined_scores import UndefinedScore, add_score
from stages.runtime.command import run_stage

BASELINE, MODEL = Path("data/baseline.safetensors"), Path("data/model.safetensors")
RECONSTRUCTIONS, EMBEDDINGS = Path("data/reconstructions.safetensors"), Path("data/embeddings.safetensors")
METRICS, PICTURES, IMAGES = Path("metrics/evaluate.json"), Path("plots/evaluate"), Path("data/test_images.csv")
PER_CLASS, CODES = Path("plots/per_class.csv"), Path("plots/codes.csv")
SPECTRUM, INTRINSIC = Path("plots/spectrum.csv"), Path("plots/intrinsic.csv")
PARTS = ("train", "valid", "test")  # of data/embeddings
COLUMNS = 12  # test images in a row of the picture of denoising
log = logging.getLogger(__name__)


def main() -> None:
    train, valid, test = parts = [split_files.load(path) for path in (TRAIN, VALID, TEST)]
    check_same_model(RECONSTRUCTIONS)
    embedding = check_same_model(EMBEDDINGS)
    codes = arrays.load(EMBEDDINGS)[0]
    baseline = arrays.load(BASELINE)[0]
    output = arrays.map_array(RECONSTRUCTIONS, "output")
    latent_dim, pixels = codes["test"].shape[1], len(baseline["mean"])

    errors = image_errors(output, test.images)
    mse = mean(errors["mse"])
    pca_mse: dict[str, float] = {}
    add_score(pca_mse, "pca_mse", pca.error_at, baseline["mse"], latent_dim, pixels)
    axes = baseline["components"][:latent_dim]
    code_scores, pca_scores, classifiers, transductive = {}, {}, {}, {}
    if len(np.unique(train.labels)) > 1:
        code_scores = probes.score_codes(
            LabelledCodes(codes["train"], train.labels), LabelledCodes(codes["test"], test.labels)
        )
        pca_scores = probes.score_codes(
            *(LabelledCodes(pca.project(part.images, baseline["mean"], axes), part.labels) for part in (train, test))
        )
        if embedding["classifiers"]:
            classifiers = linear_classifiers.score_classifiers(
                *(LabelledCodes(codes[name], part.labels) for name, part in zip(PARTS, parts, strict=True))
            )
        if "kmeans" in code_scores:
            transductive = score_all_images(codes, parts)
    else:
        reason = "the training part has one class" if train.class_names else "the images have no classes"
        log.info("no knn, probe, kmeans, nmi: %s", reason)

    metrics = {name: mean(values) for name, values in errors.items()}
    if pca_mse:
        mean_image = np.broadcast_to(baseline["mean"].reshape(test.images.shape[1:]), test.images.shape)
        mean_image_mse = mean(score_in_batches(reconstruction.mse_per_image, mean_image, test.images))
        add_score(metrics, "pca_ratio", reconstruction.mse_ratio, mse, pca_mse["pca_mse"], mean_image_mse)
    else:
        log.info("no pca_ratio: there is no pca_mse")
    metrics |= code_scores
    add_score(metrics, "trust", trust_of_chosen_map, embedding)
    bce = arrays.load(RECONSTRUCTIONS, "bce")[0]["bce"]
    metrics |= {"per_image": mse * pixels, "bce": mean(bce)} | pca_mse
    estimates = dimension_estimates.estimate(codes["test"], test.images)
    metrics |= {name: estimates.codes[name] for name in ("participation", "twonn") if name in estimates.codes}
    metrics |= variant_scores(test.images, codes["test"], Bottleneck(embedding["bottleneck"]))
    found = find_anomalies(arrays.describe(MODEL)[0]) if test.normal_classes else None
    if found:
        metrics |= anomaly_scores(test, output, found)
    files.write_json(METRICS, metrics)

    names = test.read_names()
    files.write(IMAGES, to_csv(tables.of_images(test, names, errors, codes["test"], found)))
    files.write(PER_CLASS, to_csv(tables.of_classes(test, errors, found)))
    files.write(CODES, to_csv(tables.of_codes(code_scores, pca_scores, classifiers, transductive, embedding["trust"])))
    files.write(SPECTRUM, to_csv(tables.of_spectrum(estimates.spectrum)))
    files.write(INTRINSIC, to_csv(tables.of_estimates(estimates.codes, estimates.images)))
    if found and test.is_anomalous.any():
        score_figures.save_anomalies(PICTURES / "errors.png", found, test.is_anomalous, metrics.get("auroc"))
    else:
        score_figures.save_errors(PICTURES / "errors.png", errors["mse"])
    score_figures.save_pca_curve(PICTURES / "pca.png", baseline["mse"], latent_dim, mse)
    score_figures.save_code_scores(PICTURES / "codes.png", code_scores, pca_scores, latent_dim)
    score_figures.save_spectrum(PICTURES / "spectrum.png", estimates.spectrum, estimates.codes)
    worst_images.save(PICTURES / "worst.png", test, names, output, errors["mse"])
    if "given" in arrays.describe(RECONSTRUCTIONS)[1]:
        noise = Denoising.model_validate(arrays.describe(MODEL)[0]["corruption"])
        compare_denoisers(noise, valid.images, test.images, baseline)


def check_same_model(path: Path) -> dict[str, Any]:
    """The description of a file made with data/model. Raises UserError if another model made it."""
    about, _ = arrays.describe(path)
    if about.get("model") != files.digest(MODEL):
        raise UserError(
            f"{path}: must be made with {MODEL}; got one made with another model; run dvc repro to remake it"
        )
    return about


def mean(values: np.ndarray) -> float:
    """The mean in float64."""
    return float(values.mean(dtype=np.float64))


def image_errors(output: ImageRows, clean: ImageRows) -> dict[str, np.ndarray]:
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


def find_anomalies(about: Mapping[str, Any]) -> anomalies.Found:
    """The score that the model's description names, and what it calls anomalous."""
    score, threshold = about["score"], about["threshold"]
    return anomalies.Found(score, arrays.load(RECONSTRUCTIONS, f"anomaly.{score}")[0][f"anomaly.{score}"], threshold)


def anomaly_scores(test: Part, output: ImageRows, found: anomalies.Found) -> dict[str, float]:
    """How well the chosen score finds images of classes that do not train, how well each, and anomalous pixels."""
    metrics: dict[str, float] = {}
    anomalous = test.is_anomalous
    add_score(metrics, "auroc", anomalies.auroc, found.scores, anomalous)
    add_score(metrics, ("precision", "recall", "f1"), anomalies.detection, found, anomalous)
    names = sorted(name for name in arrays.describe(RECONSTRUCTIONS)[1] if name.startswith("anomaly."))
    for name, scores in arrays.load(RECONSTRUCTIONS, *names)[0].items():
        add_score(metrics, name.replace("anomaly.", "auroc_"), anomalies.auroc, scores, anomalous)
    if (masks := test.read_masks()) is not None:
        normal = np.flatnonzero(~anomalous)
        add_score(metrics, "pixel_auroc", anomalies.pixel_auroc, output, test.images, *masks, normal)
    return metrics


def score_all_images(codes: Mapping[str, np.ndarray], parts: Sequence[Part]) -> dict[str, float]:
    """The scores of clusters of the codes of all parts, of the images whose class occurs in training.

    codes: those in data/embeddings; parts: train, valid and test.
    """
    labels = np.concatenate([part.labels for part in parts])
    known = np.isin(labels, parts[0].labels)
    whole = np.concatenate([codes[name] for name in PARTS])
    manifold = codes["n2d"][known] if "n2d" in codes else None
    return clusters.score_all_images(whole[known], manifold, labels[known])


def compare_denoisers(noise: Denoising, valid: ImageRows, test: ImageRows, baseline: Mapping[str, np.ndarray]) -> None:
    """A table and a picture of what the model and other methods make of the same noisy test images."""
    count = min(denoisers.MAX_TEST, max(COLUMNS, denoisers.MAX_NUMBERS // int(np.prod(test.shape[1:]))))
    given, denoised = (evenly_spaced(arrays.map_array(RECONSTRUCTIONS, name), count) for name in ("given", "denoised"))
    noisy = denoisers.NoisyImages(given, evenly_spaced(test, count))
    clean_valid = evenly_spaced(valid, min(denoisers.MAX_VALID, count))
    noisy_valid = denoisers.NoisyImages(denoisers.add_noise(clean_valid, noise), clean_valid)
    found = denoisers.compare(noisy, denoised, noisy_valid, baseline["mean"], baseline["components"])
    files.write(PICTURES / "denoising.csv", to_csv(found.table))
    images = {"noisy": given, **found.outputs, "clean": noisy.clean}
    rows = [(name, evenly_spaced(shown, COLUMNS)) for name, shown in images.items()]
    title = "Noisy test images and what each method makes of them"
    image_grids.save_rows(PICTURES / "denoising.png", rows, title=title)


def variant_scores(test: ImageRows, codes: np.ndarray, bottleneck: Bottleneck) -> dict[str, float]:
    """The scores that only denoising, variational and sparse autoencoders have."""
    metrics: dict[str, float] = {}
    if "given" in arrays.describe(RECONSTRUCTIONS)[1]:
        noisy, denoised = (
            score_in_batches(reconstruction.mse_per_image, arrays.map_array(RECONSTRUCTIONS, name), test)
            for name in ("given", "denoised")
        )
        metrics["gain_db"] = mean(reconstruction.psnr_per_image(denoised) - reconstruction.psnr_per_image(noisy))
    if bottleneck.is_variational:
        terms = arrays.load(RECONSTRUCTIONS, "sampled_bce", "kl")[0]
        metrics |= {"elbo": -mean(terms["sampled_bce"]) - mean(terms["kl"]), "kl": mean(terms["kl"])}
        if "nll" in arrays.describe(RECONSTRUCTIONS)[1]:
            metrics["nll"] = mean(arrays.load(RECONSTRUCTIONS, "nll")[0]["nll"])
        metrics["active_units"] = code_usage.active_units(codes)
    if bottleneck.is_sparse:
        add_score(metrics, "hoyer", code_usage.hoyer, codes)
        metrics |= {"mean_active": code_usage.mean_active(codes), "dead_units": code_usage.dead_units(codes)}
    return metrics


def to_csv(table: pd.DataFrame) -> bytes:
    """The table without its row numbers."""
    return table.to_csv(index=False, lineterminator="\n").encode()


def trust_of_chosen_map(embedding: Mapping[str, Any]) -> float:
    """The trustworthiness of the chosen map. Raises UndefinedScore if there is none."""
    if embedding["map"] not in embedding["trust"]:
        raise UndefinedScore(f"embed.map is {embedding['map']}, and the stage embed measured no such map")
    return float(embedding["trust"][embedding["map"]])


if __name__ == "__main__":
    run_stage(main)
