"""The test images that the model reconstructs worst, each with its name."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.autoencoder.data.pixels import ImageRows
from stages.autoencoder.data.split_files import Part, spread_masks
from stages.autoencoder.figures import error_maps
from stages.autoencoder.figures.base import image_grids

COUNT = 12


def save(path: Path, part: Part, names: Sequence[str] | None, output: ImageRows, mse: np.ndarray) -> None:
    """The images of a part with the largest errors, mse (N,), above their reconstructions, float (N, C, H, W).

    Below each its class, its error and the end of its path. Where some classes are normal, an error map is added,
    and where there are masks of anomalous pixels, these.
    """
    worst = np.argsort(-mse, kind="stable")[:COUNT]
    images, outputs = part.images[worst], output[worst]
    rows = [("original", images), ("reconstruction", outputs)]
    if part.normal_classes:
        rows.append(error_maps.row(images, outputs))
        if (masks := part.read_masks()) is not None:
            rows.append(("ground truth", spread_masks(worst, *masks)[:, None] * np.uint8(255)))
    classes = part.classes
    captions = [f"{classes[i]}\n{mse[i]:.2g}" if part.class_names else f"{mse[i]:.2g}" for i in worst]
    shown = ["class"] * bool(part.class_names) + ["MSE per pixel"] + ["file"] * bool(names)
    described = " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
    title = f"The test images with the largest reconstruction error: {described}"
    files = [names[i] for i in worst] if names else []
    image_grids.save_rows(path, rows, title=title, captions=captions, names=files)
