"""`python -m tools.example brick photos/brick`: makes a folder of images to try download.dataset=folder with.

brick, grass and gravel have the layout of the MVTec AD dataset, with planted defects in some of the test images and
their ground truth; photographs has eight classes in colour. All are patches of 64 x 64 pixels of the photographs that
scikit-image's package carries, those of train, valid and test from disjoint areas. The same bytes each time.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from stages.runtime.command import run_main
from tools.examples import defects, patches
from tools.workspace import outputs
from tools.workspace.arguments import ArgumentParser
from tools.workspace.overrides import write_override

SEED = 0  # of everything that is drawn
TEXTURE_STRIDE, PHOTOGRAPH_STRIDE = 8, 32  # pixels between neighbouring patches
GOOD = 2  # test patches without a defect for each one with a defect of some kind
NAMES = [*patches.TEXTURES, "photographs"]


def main() -> None:
    options = _parse_options()
    count = make_folder(options.kind, options.folder)
    images = sum(number for place, number in count.items() if not place.startswith("ground_truth/"))
    print(f"{options.folder}: {images:,} images of {patches.SIDE} x {patches.SIDE} pixels")
    for place, number in count.items():
        print(f"  {place:<24} {number:>4}")
    colour = " -S download.colour=grey" if options.kind in patches.TEXTURES else ""
    folder = write_override("download.folder", str(options.folder))
    print(f"dvc exp run -S download.dataset=folder -S {folder}{colour}")


def _parse_options() -> argparse.Namespace:
    example = "example: python -m tools.example brick photos/brick"
    parser = ArgumentParser(
        prog="python -m tools.example", description="Make a folder of example images.", epilog=example
    )
    parser.add_argument("kind", choices=NAMES, help="a texture with planted defects, or eight colour photographs")
    parser.add_argument("folder", type=Path, help="where to; must not exist, or be empty")
    return parser.parse_args()


def make_folder(kind: str, folder: Path) -> Counter[str]:
    """Write the images below `folder`, whole or not at all. Returns {part/class: number of images}.

    Raises UserError if the folder holds anything.
    """
    count: Counter[str] = Counter()
    with outputs.new_folder(folder) as unfinished:
        for path, pixels in _texture(kind) if kind in patches.TEXTURES else _photographs():
            target = unfinished / path
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(target, format="PNG")
            count[target.parent.relative_to(unfinished).as_posix()] += 1
    return Counter(dict(sorted(count.items())))


def _texture(kind: str) -> Iterator[tuple[str, np.ndarray]]:
    """The path and pixels of each image, masks included, in MVTec AD's layout."""
    rng = np.random.default_rng(SEED)
    cut = list(patches.cut(patches.read(patches.TEXTURES[kind]), TEXTURE_STRIDE, rng))
    for patch in cut:
        if patch.part != "test":
            yield f"{patch.part}/good/{patch.name}", patch.pixels
    test = [patch for patch in cut if patch.part == "test"]
    order = [*["good"] * GOOD, *defects.KINDS]
    for number, index in enumerate(rng.permutation(len(test))):
        patch, defect = test[index], order[number % len(order)]
        if defect == "good":
            yield f"test/good/{patch.name}", patch.pixels
        else:
            changed, mask = defects.KINDS[defect](patch.pixels, rng)
            yield f"test/{defect}/{patch.name}", changed
            yield f"ground_truth/{defect}/{patch.name.replace('.png', '_mask.png')}", mask


def _photographs() -> Iterator[tuple[str, np.ndarray]]:
    """The path and pixels of each image, one folder for each class below the parts."""
    rng = np.random.default_rng(SEED)
    for name, photograph in patches.PHOTOGRAPHS.items():
        for patch in patches.cut(patches.read(photograph), PHOTOGRAPH_STRIDE, rng):
            yield f"{patch.part}/{name}/{patch.name}", patch.pixels


if __name__ == "__main__":
    run_main(main)
