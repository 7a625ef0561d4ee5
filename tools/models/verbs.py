"""What each verb of tools.model does. Imports NumPy and torch, so stages.runtime.numerics must come first."""

import argparse
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from stages.autoencoder.core import files
from stages.autoencoder.data.pixels import evenly_spaced, piece_length, pieces, to_bytes
from stages.autoencoder.model import devices, inference
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.model_use import ModelUseParams
from stages.autoencoder.use import TrainedModel, load_model
from tools.models import inputs, pictures, tables
from tools.models.codes import read_codes
from tools.models.model_choice import open_model
from tools.workspace import outputs

CHECK_IMAGES = 500  # at most, on which an exported model is compared with torch
GENERATED_CHECK_IMAGES = 100  # where none are named
GRID_IMAGES = 100  # at most, in a picture of new images
WITHOUT_PARAMS = ModelUseParams(device="auto", numerics="portable", threads=2)  # as stages.runtime.numerics pins then
log = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> None:
    """Load the model that is meant, and do what the verb says."""
    params = loader.load(ModelUseParams) if loader.PARAMS.exists() else WITHOUT_PARAMS
    numerics = "fast" if options.fast else params.numerics
    device = devices.prepare(options.device or params.device, numerics, *["--device"] * bool(options.device))
    with open_model(options.model, options.rev) as path:
        model = load_model(path, str(device))
        try:
            VERBS[options.verb](options, model, path)
        except BrokenPipeError:  # the reader of stdout, such as head, has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_info(options: argparse.Namespace, model: TrainedModel, path: Path) -> None:
    """Print what the model file holds."""
    about = model.about
    found: dict[str, Any] = dataclasses.asdict(about)
    found["corruption"] = about.corruption.model_dump() if about.corruption else None
    found["weights"] = sum(weight.numel() for weight in model.network.parameters())
    found["sampled_from"] = model.mixture.describe() if model.mixture else "the prior N(0, I)"
    found["sha256"] = files.digest(path)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    found |= found.pop("spec")
    for key, value in found.items():
        if value not in (None, (), []):
            if isinstance(value, dict):
                value = [f"{name} {setting}" for name, setting in value.items()]
            text = ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
            print(f"{key:<18}{text if len(text) <= 100 else f'{text[:97]}...'}")


def encode(options: argparse.Namespace, model: TrainedModel, _: Path) -> None:
    """Write the code of each image."""
    tables.check_name(options.out)
    images = inputs.find_images(options.images, model.fitting(options.fit))
    names = ["path", *(f"z{number}" for number in range(model.latent_dim))]
    with tables.create(options.out, names, "float32", images.count, model.latent_dim) as table:
        for batch in images.batches():
            table.append(batch.rows, batch.names, [model.encode(batch.images)])
    images.check_complete()


def score(options: argparse.Namespace, model: TrainedModel, _: Path) -> None:
    """Write the error and the score of each image, and whether it is above the model's threshold for anomalies."""
    tables.check_name(options.out)
    images = inputs.find_images(options.images, model.fitting(options.fit))
    above = count = 0
    with tables.create(options.out, ["path", "mse", "score", "above_threshold"], "float64", images.count, 0) as table:
        for batch in images.batches():
            scores = model.score(batch.images)
            decisions = scores > model.about.threshold
            table.append(batch.rows, batch.names, [model.errors(batch.images), scores, decisions])
            above, count = above + int(decisions.sum()), count + len(decisions)
    log.info(
        "%d of %d images are above the threshold %.4g of the score %s, below which %g of the validation images are",
        above, count, model.about.threshold, model.about.score, model.about.anomaly_quantile,
    )  # fmt: skip
    images.check_complete()


def reconstruct(options: argparse.Namespace, model: TrainedModel, _: Path) -> None:
    """Write the reconstruction of each image."""
    _transform(options, model, model.reconstruct, "reconstruction")


def denoise(options: argparse.Namespace, model: TrainedModel, _: Path) -> None:
    """Write noisy images cleaned, by a denoising model."""
    _transform(options, model, model.denoise, "denoised")


def decode(options: argparse.Namespace, model: TrainedModel, _: Path) -> None:
    """Write the image of each code in a table that `encode` wrote."""
    pictures.check_names(options.out, options.grid)
    names, codes = read_codes(options.codes, model.latent_dim)
    _save_decoded(options, model, codes, pictures.name_pictures(names), "Decoded codes")


def generate(options: argparse.Namespace, model: TrainedModel, _: Path) -> None:
    """Write new images."""
    pictures.check_names(options.out, options.grid)
    near = model.read([options.near], options.fit)[0] if options.near else None
    codes = model.sample(options.count, options.seed, near, options.spread)
    _save_decoded(options, model, codes, pictures.number_pictures(len(codes)), "New images")


def interpolate(options: argparse.Namespace, model: TrainedModel, _: Path) -> None:
    """Write decoded codes on the lines between images."""
    pictures.check_names(options.out, options.grid)
    images = model.interpolate(model.read(options.images, options.fit), options.steps)
    _save(options, [images], pictures.number_pictures(len(images)))
    if options.grid:
        legs = range(0, len(images) - 1, options.steps - 1)
        rows = [("", images[start : start + options.steps]) for start in legs]
        pictures.save_grid(options.grid, rows, "From one image to the next", columns=options.steps)


def export(options: argparse.Namespace, model: TrainedModel, _: Path) -> None:
    """Write the model for other programs, after a comparison with torch on real images."""
    from stages.autoencoder.use import onnx_export  # imports onnx and onnxruntime, which take a second

    is_onnx = options.file.suffix.lower() == ".onnx"
    paths = onnx_export.onnx_paths(options.file) if is_onnx else [options.file]
    for path in paths:
        outputs.check_file(path, [".onnx", ".pt2"])
    if options.check:
        found = inputs.find_images(options.check, model.fitting(options.fit))
        batches = list(islice(found.batches(), 1))
        found.check_complete()
        compared = batches[0].images[:CHECK_IMAGES]
    else:
        compared = to_bytes(model.generate(GENERATED_CHECK_IMAGES))
        log.info("export: compared on generated images; --check compares on yours, such as --check test")
    about = dataclasses.asdict(model.about)
    known = {key: about[key] for key in ("variant", "mse_threshold", "anomaly_quantile", "class_names", "fitting")}
    write = onnx_export.export_onnx if is_onnx else onnx_export.export_program
    differences = write(model.network, known, options.file, compared)
    print(f"{', '.join(map(str, paths))}: written")
    print(
        f"largest differences from torch on {len(compared)} images: {differences.codes:.1g} of the largest code,"
        f" {differences.reconstructions:.1g} in pixels; {differences.ties} images with ties left out"
    )


VERBS: dict[str, Callable[[argparse.Namespace, TrainedModel, Path], None]] = {
    "info": show_info, "encode": encode, "decode": decode, "reconstruct": reconstruct, "denoise": denoise,
    "score": score, "generate": generate, "interpolate": interpolate, "export": export,
}  # fmt: skip


def _transform(
    options: argparse.Namespace, model: TrainedModel, function: Callable[[np.ndarray], np.ndarray], label: str
) -> None:
    """Write what a function makes of each image; the grid has some of them above what they became."""
    pictures.check_names(options.out, options.grid)
    images = inputs.find_images(options.images, model.fitting(options.fit))
    names = pictures.name_pictures(images.targets) if options.out else []
    shown = evenly_spaced(np.arange(images.count), pictures.COLUMNS * pictures.ROWS)
    before, after = [], []
    with _open_folder(options) as folder:
        for batch in images.batches():
            output = function(batch.images)
            if folder:
                for row, image in zip(batch.rows.tolist(), output, strict=True):
                    pictures.save(folder, names[row], image)
            chosen = np.isin(batch.rows, shown)
            before.append(batch.images[chosen])
            after.append(output[chosen])
    if options.grid and before:
        rows = [("given", np.concatenate(before)), (label, np.concatenate(after))]
        title = f"Images, and what the model of {model.latent_dim} numbers makes of them"
        pictures.save_grid(options.grid, rows, title)
    images.check_complete()


def _save_decoded(
    options: argparse.Namespace, model: TrainedModel, codes: np.ndarray, names: list[str], title: str
) -> None:
    """Write the images of codes (N, latent_dim), decoded batch by batch; the grid has the first of them."""
    batches = pieces(len(codes), piece_length(model.shape, inference.BATCH_SIZE))
    shown = _save(options, (model.decode(codes[rows]) for rows in batches), names)
    if options.grid:
        pictures.save_grid(options.grid, [("", shown)], title)


def _save(options: argparse.Namespace, batches: Iterable[np.ndarray], names: list[str]) -> np.ndarray:
    """Write images to the folder that is asked for, if one is; returns the first of them, for a grid."""
    images = inputs.show_progress((image for batch in batches for image in batch), len(names))
    with _open_folder(options) as folder:
        shown: list[np.ndarray] = []
        for name, image in zip(names, images, strict=True):
            if folder:
                pictures.save(folder, name, image)
            if len(shown) < GRID_IMAGES:
                shown.append(image)
    return np.stack(shown)


def _open_folder(options: argparse.Namespace) -> AbstractContextManager[Path | None]:
    return outputs.new_folder(options.out) if options.out else nullcontext()
