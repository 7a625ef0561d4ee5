"""`python -m tools.model VERB ...`: uses a trained model: encode, reconstruct, score, generate, export and more.

Images are files, folders, globs or parts of the pipeline (train, valid, test), brought to the model's size and
colours as those of its training. `python -m tools.model VERB --help` has the options of a verb. Numbers are computed
as params.yaml says (numerics, threads), so that codes of the part test are those in data/embeddings; with --fast, at
full speed on all cores.
"""

import argparse
from pathlib import Path
from typing import get_args

from stages.autoencoder.params.fitting import Fit
from stages.runtime.command import run_main
from tools.workspace.arguments import ArgumentParser


def main() -> None:
    options = _parse_options()
    if not options.fast:
        from stages.runtime import numerics as _  # noqa: F401  first: pins threads and instruction set
    from tools.models import verbs  # imports NumPy and torch

    verbs.run(options)


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
        choices=get_args(Fit),
        help="how images of other sizes get the model's (default: as in training)",
    )
    table, drawn, images = (ArgumentParser(add_help=False) for _ in range(3))
    table.add_argument("--out", type=Path, help="FILE.csv, FILE.parquet or FILE.npy (default: CSV to the terminal)")
    drawn.add_argument("--out", type=Path, metavar="FOLDER", help="a PNG file for each image")
    drawn.add_argument("--grid", type=Path, metavar="FILE.png", help="one picture of some of them")
    images.add_argument("images", nargs="+", help="image files, folders, globs, or train, valid, test")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=ArgumentParser)

    def add(verb: str, text: str, *parents: ArgumentParser) -> ArgumentParser:
        added: ArgumentParser = verbs.add_parser(verb, help=text, description=f"{text}.", parents=[common, *parents])
        return added

    add("info", "Print what the model is").add_argument("--json", action="store_true", help="for programs")
    add("encode", "Write the code of each image", fitted, table, images)
    codes = add("decode", "Write the image of each code", drawn)
    codes.add_argument("codes", type=Path, help="FILE.csv, FILE.parquet or FILE.npy, as encode wrote it")
    add("reconstruct", "Write the reconstruction of each image", fitted, drawn, images)
    add("denoise", "Clean noisy images with a denoising model", fitted, drawn, images)
    add("score", "Write error and score of each image, and whether it is an anomaly", fitted, table, images)
    new = add("generate", "Write new images", fitted, drawn)
    new.add_argument("--count", type=int, default=100, help="images (default 100)")
    new.add_argument("--seed", type=int, default=0, help="decides the images (default 0)")
    new.add_argument("--near", metavar="IMAGE", help="an image that they resemble")
    new.add_argument("--spread", type=float, default=0.5, help="0: as near as can be, 1: not near (default 0.5)")
    line = add("interpolate", "Write the images between images", fitted, drawn)
    line.add_argument("images", nargs="+", metavar="image", help="two or more image files, in the order of the way")
    line.add_argument("--steps", type=int, default=12, help="images from one to the next, both included (default 12)")
    out = add("export", "Write the model as ONNX, or as torch.export does", fitted)
    out.add_argument("file", type=Path, help="FILE.onnx or FILE.pt2")
    out.add_argument("--check", nargs="+", metavar="IMAGES", help="images on which it is compared with torch")
    return parser.parse_args()


if __name__ == "__main__":
    run_main(main)
