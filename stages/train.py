"""Stage train: data/split/{train,valid}.safetensors -> data/model.safetensors. Never sees the test part.

Reads params latent_dim, seed, device, numerics, threads, train. The model has the weights of the epoch with the
lowest validation error. Also writes plots/loss.csv, a row for each epoch; data/epochs/, the same validation images
reconstructed after each epoch; plots/training.png, a strip of them; metrics/train.json.
An interrupted training resumes after its last finished epoch, from data/unfinished.safetensors.
"""

from stages.runtime import numerics  # noqa: F401, I001 - first: pins threads and instruction set

import csv
import io
import logging
import math
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from stages.autoencoder.core import files
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data import pixels, split_files
from stages.autoencoder.figures import image_grids
from stages.autoencoder.model import autoencoder, devices, inference, model_file
from stages.autoencoder.model.bottlenecks import Bottleneck
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.train import Train, TrainParams, check_latent_dim
from stages.autoencoder.training import checkpoint
from stages.autoencoder.training.loop import EpochResult, Training
from stages.runtime.command import run_stage

TRAIN, VALID = Path("data/split/train.safetensors"), Path("data/split/valid.safetensors")
MODEL, UNFINISHED = Path("data/model.safetensors"), Path("data/unfinished.safetensors")
EPOCHS, STRIP = Path("data/epochs"), Path("plots/training.png")
LOSS, METRICS = Path("plots/loss.csv"), Path("metrics/train.json")
PREVIEWS = 10  # validation images that are pictured after each epoch
STRIP_ROWS = 10  # epochs in the strip, at about geometric steps
log = logging.getLogger(__name__)


def main() -> None:
    params = loader.load(TrainParams)
    train, valid = (split_files.load_in_file_order(path, "images")[0]["images"] for path in (TRAIN, VALID))
    training = prepare(params, train, valid)
    fingerprint = checkpoint.compute_fingerprint(params.model_dump_json(), [TRAIN, VALID])
    originals = pixels.evenly_spaced(valid, PREVIEWS)
    previews = checkpoint.load(UNFINISHED, fingerprint, training)  # (epochs, PREVIEWS, C, H, W)
    if previews is None:
        previews = np.empty((0, *originals.shape), np.uint8)
    else:
        log.info("train: resumes after epoch %d of an interrupted training", len(previews))
    shutil.rmtree(EPOCHS, ignore_errors=True)
    for number, preview in enumerate(previews, 1):
        save_preview(number, originals, preview)

    start = time.perf_counter()
    for result in report_progress(training):
        preview = image_grids.to_bytes(inference.apply(training.model, originals, training.device))
        save_preview(result.epoch, originals, preview)
        previews = np.concatenate([previews, preview[None]])
        checkpoint.save(UNFINISHED, fingerprint, training, previews)

    best = training.best_result
    log.info("train: %.1f s, best epoch %d, valid %.4f", time.perf_counter() - start, best.epoch, best.valid)
    save(params, training)
    chosen = np.unique(np.geomspace(1, len(previews), STRIP_ROWS).round().astype(int))
    strip = [(f"epoch {epoch}", previews[epoch - 1]) for epoch in chosen]
    image_grids.save_rows(STRIP, [("original", originals), *strip])
    UNFINISHED.unlink(missing_ok=True)


def prepare(params: TrainParams, train: np.ndarray, valid: np.ndarray) -> Training:
    """An untrained model and its training. train, valid: uint8 (N, C, H, W).

    Raises UserError for parameters that don't fit the images.
    """
    shape, settings = train.shape[1:], params.train
    layers = settings.conv if settings.architecture == "conv" else settings.mlp
    spec = autoencoder.Spec(
        shape=shape,
        latent_dim=params.latent_dim,
        channels=tuple(getattr(layers, "channels", ())),
        widths=tuple(layers.widths),
        bottleneck=choose_bottleneck(settings),
        k=settings.sparse.k if settings.keeps_top_k else 0,
    )
    try:
        check_latent_dim(settings, params.latent_dim, math.prod(shape))
    except ValueError as error:
        raise UserError(f"params.yaml: {error}") from None
    try:
        autoencoder.build_without_weights(spec)
    except ValueError as error:
        raise UserError(f"params.yaml: {error}; lower train.{settings.architecture} or latent_dim") from None
    device = devices.prepare(params.device, params.numerics)
    torch.manual_seed(params.seed)  # the initial weights; everything random after that has its own generator
    images, valid_images = torch.from_numpy(train), torch.from_numpy(valid)
    return Training(autoencoder.Autoencoder(spec), images, valid_images, settings, params.seed, device)


def choose_bottleneck(settings: Train) -> Bottleneck:
    """What the variant puts between encoder and decoder."""
    if "kl" in settings.terms:
        return Bottleneck.GAUSSIAN
    if settings.keeps_top_k:
        return Bottleneck.TOP_K
    return Bottleneck.RELU if "sparsity" in settings.terms else Bottleneck.LINEAR


def report_progress(training: Training) -> Iterator[EpochResult]:
    """The epochs of a training, shown as a progress bar on a terminal, else as a log line for each epoch."""
    total, done = training.settings.epochs, len(training.history)
    with tqdm(
        total=total * training.batches,
        initial=done * training.batches,
        unit="batch",
        disable=not sys.stderr.isatty(),
        mininterval=0.5,
    ) as bar:
        for result in training.epochs(on_batch=bar.update):
            text = (
                f"epoch {result.epoch}/{total}  train {result.train:.4f}  valid {result.valid:.4f}"
                f"  learning rate {result.learning_rate:.1e}"
            )
            bar.set_description_str(text, refresh=False)
            if bar.disable:
                log.info(text)
            yield result


def save_preview(epoch: int, originals: np.ndarray, preview: np.ndarray) -> None:
    """The picture after one epoch: originals above reconstructions, both (PREVIEWS, C, H, W)."""
    rows = [("original", originals), (f"epoch {epoch}", preview)]
    image_grids.save_rows(EPOCHS / f"epoch_{epoch:04d}.png", rows)


def save(params: TrainParams, training: Training) -> None:
    """The model of the best epoch, the loss of every epoch, the metrics."""
    training.model.load_state_dict(training.best_weights)
    best, settings = training.best_result, params.train
    about = {
        "variant": settings.variant,
        "loss": settings.loss,
        "corruption": settings.denoising.model_dump() if "corruption" in settings.terms else None,
        "beta": settings.variational.beta if training.model.is_variational else None,
        "best_epoch": best.epoch,
        "valid": best.valid,
    }
    model_file.save(MODEL, training.model, about)
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([EpochResult._fields, *training.history])
    files.write(LOSS, table.getvalue().encode())
    files.write_json(METRICS, {"best_epoch": best.epoch, "valid": best.valid})


if __name__ == "__main__":
    run_stage(main)
