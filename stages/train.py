"""Stage train: data/split/{train,valid}.safetensors -> data/model.safetensors. Never handed the test part.

Reads params latent_dim, seed, device, numerics, threads, train. The model has the weights of the best epoch
by validation error. Beside it: plots/loss.csv, a row an epoch; data/epochs/, after each epoch the same
validation images reconstructed; plots/training.png, a film strip of them; metrics/train.json.
An interrupted training goes on from its last finished epoch, kept in data/unfinished.safetensors.
"""

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

from stages.autoencoder import arrays, checkpoint, devices, images, inference, model, parts, pictures, variants
from stages.autoencoder.errors import UserError, run
from stages.autoencoder.params.reading import read
from stages.autoencoder.params.train import TrainParams
from stages.autoencoder.training import Row, Training

TRAIN, VALID = Path("data/split/train.safetensors"), Path("data/split/valid.safetensors")
MODEL, UNFINISHED = Path("data/model.safetensors"), Path("data/unfinished.safetensors")
EPOCHS, STRIP = Path("data/epochs"), Path("plots/training.png")
LOSS, METRICS = Path("plots/loss.csv"), Path("metrics/train.json")
WATCHED = 10  # validation images whose reconstruction is pictured after each epoch
STRIP_ROWS = 10  # epochs shown in the film strip, as even as powers of one number allow
log = logging.getLogger(__name__)


def main() -> None:
    params = read(TrainParams)
    train, valid = (parts.in_file_order(path, "images")[0]["images"] for path in (TRAIN, VALID))
    training = prepare(params, train, valid)
    mark = checkpoint.fingerprint(params.model_dump_json(), [TRAIN, VALID])
    watched = images.spread(valid, WATCHED)
    film = checkpoint.load(UNFINISHED, mark, training)
    if film is None:
        film = np.empty((0, *watched.shape), np.uint8)
    else:
        log.info("train: goes on after epoch %d of an interrupted training", len(film))
    shutil.rmtree(EPOCHS, ignore_errors=True)
    for number, frame in enumerate(film, 1):
        save_epoch(number, watched, frame)

    start = time.perf_counter()
    for row in shown(training):
        frame = pictures.to_bytes(inference.apply(training.model, watched, training.device))
        save_epoch(row.epoch, watched, frame)
        film = np.concatenate([film, frame[None]])
        checkpoint.save(UNFINISHED, mark, training, film)

    log.info(
        "train: %.1f s, best epoch %d, valid %.4f",
        time.perf_counter() - start,
        training.best_row.epoch,
        training.best_row.valid,
    )
    save(params, training)
    chosen = np.unique(np.geomspace(1, len(film), STRIP_ROWS).round().astype(int))
    strip = [(f"epoch {epoch}", film[epoch - 1]) for epoch in chosen]
    pictures.save_rows(STRIP, [("original", watched), *strip])
    UNFINISHED.unlink(missing_ok=True)


def prepare(params: TrainParams, train: np.ndarray, valid: np.ndarray) -> Training:
    """An untrained model and its training. train, valid: uint8 (N, C, H, W)."""
    shape = train.shape[1:]
    variants.check(params.train, params.latent_dim, params.numerics, math.prod(shape))
    settings = params.train
    spec = model.Spec(
        shape=shape,
        latent_dim=params.latent_dim,
        channels=tuple(settings.conv.channels) if settings.architecture == "conv" else (),
        widths=tuple(settings.conv.widths if settings.architecture == "conv" else settings.mlp.widths),
        bottleneck=variants.bottleneck(settings),
        k=settings.sparse.k if variants.bottleneck(settings) == "top_k" else 0,
    )
    try:
        model.outline(spec)
    except ValueError as error:
        raise UserError(f"params.yaml: {error}; lower train.{settings.architecture} or latent_dim") from None
    device = devices.prepare(params.device, params.numerics)
    torch.manual_seed(params.seed)  # the initial weights; all later chance has its own generator
    parts = map(torch.from_numpy, (train, valid))
    return Training(model.Autoencoder(spec), *parts, settings, params.seed, device)


def shown(training: Training) -> Iterator[Row]:
    """The epochs of a training: a progress bar on a terminal, a line an epoch elsewhere."""
    total, done = training.settings.epochs, len(training.history)
    with tqdm(
        total=total * training.batches,
        initial=done * training.batches,
        unit="batch",
        disable=not sys.stderr.isatty(),
        mininterval=0.5,
    ) as bar:
        for row in training.epochs(on_batch=bar.update):
            text = f"epoch {row.epoch}/{total}  train {row.train:.4f}  valid {row.valid:.4f}  rate {row.rate:.1e}"
            bar.set_description_str(text, refresh=False)
            if bar.disable:
                log.info(text)
            yield row


def save_epoch(epoch: int, watched: np.ndarray, frame: np.ndarray) -> None:
    """The picture after one epoch: originals over reconstructions."""
    rows = [("original", watched), (f"epoch {epoch}", frame)]
    pictures.save_rows(EPOCHS / f"epoch_{epoch:04d}.png", rows)


def save(params: TrainParams, training: Training) -> None:
    """The best epoch's model, the loss of every epoch, the metrics."""
    training.model.load_state_dict(training.best)
    best = training.best_row
    about = {
        "variant": params.train.variant,
        "loss": params.train.loss,
        "corruption": params.train.denoising.model_dump() if "corruption" in variants.terms(params.train) else None,
        "beta": params.train.variational.beta if params.train.variant == "variational" else None,
        "best_epoch": best.epoch,
        "valid": best.valid,
    }
    model.save(MODEL, training.model, about)
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([Row._fields, *training.history])
    arrays.write(LOSS, table.getvalue().encode())
    arrays.write_json(METRICS, {"best_epoch": best.epoch, "valid": best.valid})


if __name__ == "__main__":
    run(main)
