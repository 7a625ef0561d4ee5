"""`python -m tools.model VERB ...`: uses a trained model: encode, reconstruct, score, generate, export and more.

Images are files, folders, globs or parts of the pipeline (train, valid, test), brought to the model's size and
colours as those of its training. `python -m tools.model VERB --help` has the options of a verb. Numbers are computed
as params.yaml says (numerics, threads), so that codes of the part test are those in data/embeddings; with --fast, at
full speed on all cores.
"""

import argparse
import dataclasses
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.autoencoder.core import files
from stages.autoencoder.core.errors import UserError
from stages.runtime.command import run_main
from tools.models.model_choice import open_model
from tools.workspace.arguments import ArgumentParser

if TYPE_CHECKING:
    from stages.autoencoder.use import TrainedModel

CHECK_IMAGES = 500  # at most, on which an exported model is compared with torch
log = logging.getLogger(__name__)


def main() -> None:
    options = _parse_options()
    numerics = "fast"
    if not options.fast:
        from stages.runtime import numerics as _  # noqa: F401  first: pins threads and instruction set

        numerics = _read_params("numerics", "portable")
    from stages.autoencoder.model import devices
    from stages.autoencoder.use import load_model

    device = devices.prepare(options.device or _read_params("device", "auto"), numerics, "--device")
    with open_model(options.model, options.rev) as path:
        model = load_model(path, str(device))
        try:
            VERBS[options.verb](options, model, path)
        except BrokenPipeError:  # the reader of stdout, such as head, has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_info(options: argparse.Namespace, model: "TrainedModel", path: Path) -> None:
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


def encode(options: argparse.Namespace, model: "TrainedModel", _: Path) -> None:
    """Write the code of each image."""
    from tools.models import inputs, tables

    tables.check_name(options.out)
    images = inputs.find_images(options.images, model.fitting(options.fit))
    names = ["path", *(f"z{number}" for number in range(model.latent_dim))]
    with tables.create(options.out, names, "float32", images.count, model.latent_dim) as table:
        for batch in images.batches():
            table.append(batch.rows, batch.names, [model.encode(batch.images)])
    images.check_complete()


def score(options: argparse.Namespace, model: "TrainedModel", _: Path) -> None:
    """Write the reconstruction error of each image, and whether it is above the model's threshold for anomalies."""
    from tools.models import inputs, tables

    tables.check_name(options.out)
    images = inputs.find_images(options.images, model.fitting(options.fit))
    above = count = 0
    with tables.create(options.out, ["path", "mse", "above_threshold"], "float64", images.count, 0) as table:
        for batch in images.batches():
            errors = model.score(batch.images)
            table.append(batch.rows, batch.names, [errors, errors > model.about.threshold])
            above, count = above + int((errors > model.about.threshold).sum()), count + len(errors)
    log.info(
        "%d of %d images are above the threshold %.4g, below which %g of the validation images are",
        above, count, model.about.threshold, model.about.anomaly_quantile,
    )  # fmt: skip
    images.check_complete()


def reconstruct(options: argparse.Namespace, model: "TrainedModel", _: Path) -> None:
    """Write the reconstruction of each image; of noisy images, by a denoising model, the clean ones."""
    import numpy as np

    from stages.autoencoder.data.pixels import evenly_spaced
    from tools.models import inputs, pictures

    pictures.check_names(options.out, options.grid)
    images = inputs.find_images(options.images, model.fitting(options.fit))
    names = pictures.name_pictures(images.targets) if options.out else []
    shown = evenly_spaced(np.arange(images.count), pictures.COLUMNS * pictures.ROWS)
    apply = model.denoise if options.verb == "denoise" else model.reconstruct
    before, after = [], []
    with pictures.create(options.out) as folder:
        for batch in images.batches():
            output = apply(batch.images)
            if folder:
                for row, image in zip(batch.rows.tolist(), output, strict=True):
                    folder.save(names[row], image)
            chosen = np.isin(batch.rows, shown)
            before.append(batch.images[chosen])
            after.append(output[chosen])
    if options.grid and before:
        label = "denoised" if options.verb == "denoise" else "reconstruction"
        rows = [("given", np.concatenate(before)), (label, np.concatenate(after))]
        pictures.save_grid(
            options.grid, rows, f"Images, and what the model of {model.latent_dim} numbers makes of them"
        )
    images.check_complete()


def decode(options: argparse.Namespace, model: "TrainedModel", _: Path) -> None:
    """Write the image of each code in a table that `encode` wrote."""
    from tools.models import pictures
    from tools.models.codes import read_codes

    pictures.check_names(options.out, options.grid)
    names, codes = read_codes(options.codes, model.latent_dim)
    _save(options, model.decode(codes), pictures.name_pictures(names), "Decoded codes")


def generate(options: argparse.Namespace, model: "TrainedModel", _: Path) -> None:
    """Write new images."""
    from tools.models import pictures

    pictures.check_names(options.out, options.grid)
    near = model.read([options.near], options.fit)[0] if options.near else None
    images = model.generate(options.count, options.seed, near, options.spread)
    _save(options, images, [f"{number:06d}.png" for number in range(len(images))], "New images")


def interpolate(options: argparse.Namespace, model: "TrainedModel", _: Path) -> None:
    """Write decoded codes on the line between two images."""
    from tools.models import pictures

    pictures.check_names(options.out, options.grid)
    start, end = model.read([options.start, options.end], options.fit)
    images = model.interpolate(start, end, options.steps)
    _save(options, images, [f"{number:06d}.png" for number in range(len(images))], "From one image to the other")


def export(options: argparse.Namespace, model: "TrainedModel", _: Path) -> None:
    """Write the model for other programs, after a comparison with torch on real images."""
    from stages.autoencoder.figures.image_grids import to_bytes
    from stages.autoencoder.use import onnx_export
    from tools.models import inputs

    if options.file.suffix not in (".onnx", ".pt2"):
        raise UserError(f"{options.file}: must end in .onnx or .pt2; choose one")
    is_onnx = options.file.suffix == ".onnx"
    paths = onnx_export.onnx_paths(options.file) if is_onnx else [options.file]
    for path in paths:
        if path.exists():
            raise UserError(f"{path}: must not exist; remove it or choose another name")
    if options.check:
        found = inputs.find_images(options.check, model.fitting(options.fit))
        images = next(found.batches()).images[:CHECK_IMAGES]
        found.check_complete()
    else:
        images = to_bytes(model.generate(100))
        log.info("export: compared on 100 generated images; --check compares on yours, such as --check test")
    about = dataclasses.asdict(model.about)
    known = {key: about[key] for key in ("variant", "threshold", "anomaly_quantile", "class_names", "fitting")}
    write = onnx_export.export_onnx if is_onnx else onnx_export.export_program
    differences = write(model.network, known, options.file, images)
    print(f"{', '.join(map(str, paths))}: written")
    print(
        f"largest differences from torch on {len(images)} images: {differences.codes:.1g} of the largest code,"
        f" {differences.reconstructions:.1g} in pixels; {differences.ties} images with ties left out"
    )


def _save(options: argparse.Namespace, images: Any, names: list[str], title: str) -> None:
    from tools.models import pictures

    with pictures.create(options.out) as folder:
        if folder:
            for name, image in zip(names, images, strict=True):
                folder.save(name, image)
    if options.grid:
        pictures.save_grid(options.grid, [("", images[: 10 * pictures.COLUMNS])], title)


def _read_params(key: str, default: str) -> str:
    """A key at the top level of params.yaml; the default where there is no readable one."""
    from stages.autoencoder.params.base.loader import PARAMS, read_yaml

    try:
        return str(read_yaml(PARAMS).get(key, default))
    except UserError:
        return default


VERBS = {
    "info": show_info, "encode": encode, "decode": decode, "reconstruct": reconstruct, "denoise": reconstruct,
    "score": score, "generate": generate, "interpolate": interpolate, "export": export,
}  # fmt: skip


def _parse_options() -> argparse.Namespace:
    parser = ArgumentParser(
        prog="python -m tools.model",
        description="Use a trained model.",
        epilog="example: python -m tools.model encode photos --out codes.csv",
    )
    common = ArgumentParser(add_help=False)
    which = common.add_mutually_exclusive_group()
    which.add_argument("--model", type=Path, help="the model file (default: data/model.safetensors)")
    which.add_argument("--rev", help="an experiment, tag or commit whose model is taken instead")
    common.add_argument("--device", help="auto, cpu, cuda, cuda:N or mps (default: as params.yaml says)")
    common.add_argument("--fast", action="store_true", help="full speed on all cores; the last digits may differ")
    fitted = ArgumentParser(add_help=False)
    fitted.add_argument(
        "--fit",
        choices=["crop", "pad", "stretch"],
        help="how images of other sizes get the model's (default: as in training)",
    )
    table, drawn, images = (ArgumentParser(add_help=False) for _ in range(3))
    table.add_argument("--out", type=Path, help="FILE.csv or FILE.npy (default: CSV to the terminal)")
    drawn.add_argument("--out", type=Path, metavar="FOLDER", help="a PNG file for each image")
    drawn.add_argument("--grid", type=Path, metavar="FILE.png", help="one picture of some of them")
    images.add_argument("images", nargs="+", help="image files, folders, globs, or train, valid, test")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=ArgumentParser)

    def add(verb: str, text: str, *parents: ArgumentParser) -> ArgumentParser:
        added: ArgumentParser = verbs.add_parser(verb, help=text, description=f"{text}.", parents=[common, *parents])
        return added

    add("info", "Print what the model is").add_argument("--json", action="store_true", help="for programs")
    add("encode", "Write the code of each image", fitted, table, images)
    add("decode", "Write the image of each code", drawn).add_argument("codes", type=Path, help="FILE.csv or FILE.npy")
    add("reconstruct", "Write the reconstruction of each image", fitted, drawn, images)
    add("denoise", "Clean noisy images with a denoising model", fitted, drawn, images)
    add("score", "Write the error of each image, and whether it is an anomaly", fitted, table, images)
    new = add("generate", "Write new images", fitted, drawn)
    new.add_argument("--count", type=int, default=100, help="images (default 100)")
    new.add_argument("--seed", type=int, default=0, help="decides the images (default 0)")
    new.add_argument("--near", metavar="IMAGE", help="an image that they resemble")
    new.add_argument("--spread", type=float, default=0.5, help="0: as near as can be, 1: not near (default 0.5)")
    line = add("interpolate", "Write the images between two images", fitted, drawn)
    line.add_argument("start")
    line.add_argument("end")
    line.add_argument("--steps", type=int, default=12, help="images, both ends included (default 12)")
    out = add("export", "Write the model as ONNX, or as torch.export does", fitted)
    out.add_argument("file", type=Path, help="FILE.onnx or FILE.pt2")
    out.add_argument("--check", nargs="+", metavar="IMAGES", help="images on which it is compared with torch")
    return parser.parse_args()


if __name__ == "__main__":
    run_main(main)
