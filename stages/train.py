"""Stage train: data/raw and data/split/{train,valid} -> data/model.safetensors. Reads no image of the test part.

Reads params latent_dim, seed, device, numerics, threads, processes, train. The model has the weights of the epoch with
the lowest validation error; its file also has what its users need to know of the data (model/model_file.py). Also
writes plots/loss.csv, a row for each epoch; data/epochs/, the same validation images reconstructed after each epoch;
plots/training.png, a strip of them; metrics/train.json.
An interrupted training resumes from data/unfinished.safetensors, which is at most SAVE_EVERY and an epoch old.
"""

from stages.runtime import numerics  # noqa: F401, I001 - first: pins threads and instruction set

import csv
import io
import logging
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stages.autoencoder.core import files
from stages.autoencoder.data import pixels, split_files
from stages.autoencoder.data.pixels import ImageRows
from stages.autoencoder.data.split_files import TRAIN, VALID, Part
from stages.autoencoder.figures.base import image_grids
from stages.autoencoder.model import inference, model_file
from stages.autoencoder.model.detector import MSE, score_functions
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.inputs import Binarize
from stages.autoencoder.params.train import TrainParams
from stages.autoencoder.training import checkpoint
from stages.autoencoder.training.fits import detector_fit, mixture_fit
from stages.autoencoder.training.inputs import DrawnImages
from stages.autoencoder.training.loop import EpochResult, Training
from stages.autoencoder.training.preparation import prepare
from stages.runtime import processes
from stages.runtime.command import run_stage

MODEL, UNFINISHED = Path("data/model.safetensors"), Path("data/unfinished.safetensors")
EPOCHS, STRIP = Path("data/epochs"), Path("plots/training.png")
LOSS, METRICS = Path("plots/loss.csv"), Path("metrics/train.json")
PREVIEWS = 10  # validation images that are pictured after each epoch
STRIP_ROWS = 10  # epochs in the strip, at about geometric steps
SAVE_EVERY = 2.0  # seconds: an interruption costs at most this and an epoch
log = logging.getLogger(__name__)


def main() -> None:
    params = loader.load(TrainParams)
    processes.run(params.processes, "stages.train", lambda: train(params))


def train(params: TrainParams) -> None:
    """Train and write all outputs; of several processes, the first writes."""
    part, validation = split_files.load(TRAIN), split_files.load(VALID)
    valid = validation.images
    training = prepare(params, *choose_images(params.train.binarize, part, validation))
    fingerprint = checkpoint.compute_fingerprint(params.model_dump_json(), [TRAIN, VALID])
    originals = pixels.evenly_spaced(valid, PREVIEWS)
    previews = checkpoint.load(UNFINISHED, fingerprint, training)  # (epochs, PREVIEWS, C, H, W)
    if previews is None:
        previews = np.empty((0, *originals.shape), np.uint8)
    else:
        log.info("train: resumes after epoch %d of an interrupted training", len(previews))
    if not training.group.is_first:
        for _ in training.epochs():
            pass
        return
    shutil.rmtree(EPOCHS, ignore_errors=True)
    for number, preview in enumerate(previews, 1):
        save_preview(number, originals, preview)

    start = saved = time.perf_counter()
    for result in report_progress(training):
        preview = pixels.to_bytes(inference.apply(training.model, originals, training.device))
        save_preview(result.epoch, originals, preview)
        previews = np.concatenate([previews, preview[None]])
        if (now := time.perf_counter()) - saved >= SAVE_EVERY:
            checkpoint.save(UNFINISHED, fingerprint, training, previews)
            saved = now

    best = training.best_result
    log.info("train: %.1f s, best epoch %d, valid %.4f", time.perf_counter() - start, best.epoch, best.valid)
    save(params, training, part, valid)
    chosen = np.unique(np.geomspace(1, len(previews), STRIP_ROWS).round().astype(int))
    strip = [(f"epoch {epoch}", previews[epoch - 1]) for epoch in chosen]
    image_grids.save_rows(STRIP, [("original", originals), *strip])
    UNFINISHED.unlink(missing_ok=True)


def choose_images(binarize: Binarize, train: Part, valid: Part) -> tuple[ImageRows, ImageRows]:
    """What the training sees: the grey images, or a draw of them. With `dynamic`, it draws those that train itself."""
    drawn_train, drawn_valid = (DrawnImages(part.images, part.index) for part in (train, valid))
    match binarize:
        case "none":
            return train.images, valid.images
        case "dynamic":
            return train.images, drawn_valid
        case "static":
            return drawn_train, drawn_valid


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


def save(params: TrainParams, training: Training, train: Part, valid: ImageRows) -> None:
    """The model of the best epoch with all that its users need, the loss of every epoch, the metrics."""
    model = training.model
    model.load_state_dict(training.best_weights)
    best, settings = training.best_result, params.train
    model.eval()
    known = detector_fit.fit_to_images(model, train.images, valid, training.device)
    mixture = None if model.is_variational else mixture_fit.fit_to_images(model, train.images, valid, training.device)
    scores = score_functions(model, known, mixture, settings.loss)
    threshold, mse_threshold = (
        float(np.quantile(inference.apply(scores[name], valid, training.device), settings.anomaly_quantile))
        for name in (settings.anomaly_score, MSE)
    )
    about = model_file.Description(
        spec=model.spec,
        variant=settings.variant,
        loss=settings.loss,
        corruption=settings.denoising if "corruption" in settings.terms else None,
        beta=settings.variational.beta if model.is_variational else None,
        best_epoch=best.epoch,
        valid=best.valid,
        score=settings.anomaly_score,
        threshold=threshold,
        mse_threshold=mse_threshold,
        anomaly_quantile=settings.anomaly_quantile,
        class_names=tuple(train.class_names),
        normal_classes=tuple(train.normal_classes),
        fitting=train.fitting,
        binarize=settings.binarize,
    )
    model_file.save(MODEL, model, about, known, mixture)
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([EpochResult._fields, *training.history])
    files.write(LOSS, table.getvalue().encode())
    files.write_json(METRICS, {"best_epoch": best.epoch, "valid": best.valid})


if __name__ == "__main__":
    run_stage(main)
