"""Stage download: the dataset or folder named in params.yaml -> data/raw.safetensors.

Reads params download, and the folder in download.folder. Keeps the files that it fetches in data/downloads. What the
file holds stands in stages/autoencoder/data/packed_file.py. Its description has the dataset's name, the class names,
the normal classes, where the data's layout says them, and how an image of any size becomes one of these.
"""

from stages.runtime import numerics  # noqa: F401, I001 - first: pins threads and instruction set

import hashlib
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from stages.autoencoder.core import arrays
from stages.autoencoder.params import fitting
from stages.autoencoder.data.packed_file import PARTS, RAW, pack_names
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.download import DownloadParams
from stages.autoencoder.sources import loading
from stages.autoencoder.sources.dataset import Dataset
from stages.runtime.command import run_stage

DOWNLOADS = Path("data/downloads")
log = logging.getLogger(__name__)


def main() -> None:
    params = loader.load(DownloadParams).download
    dataset = loading.load_dataset(params, DOWNLOADS)
    save(RAW, dataset, describe(dataset, params.dataset))
    counts = np.bincount(dataset.parts, minlength=len(PARTS))
    published = ", ".join(f"{count:,} {name}" for name, count in zip(PARTS, counts, strict=True) if name and count)
    log.info(
        "%s: %d images of %s, %d classes; published parts: %s",
        params.dataset,
        len(dataset.labels),
        " x ".join(map(str, dataset.shape)),
        len(dataset.class_names),
        published or "none",
    )


def describe(dataset: Dataset, name: str) -> dict[str, Any]:
    """What the description of data/raw says of a dataset."""
    return {
        "dataset": name,
        "class_names": list(dataset.class_names),
        "normal_classes": list(dataset.normal_classes),
        "fitting": asdict(dataset.fitting or fitting.keep_size(dataset.shape)),
    }


def save(path: Path, dataset: Dataset, about: dict[str, Any]) -> None:
    """Write the images piece by piece, and what is known of them."""
    small = {"labels": dataset.labels, "parts": dataset.parts}
    if dataset.names is not None:
        small |= pack_names(dataset.names)
    layout: dict[str, Any] = {name: (array.dtype, array.shape) for name, array in small.items()}
    layout |= {"images": (np.uint8, (len(dataset.labels), *dataset.shape)), "digest": (np.uint8, (32,))}
    if dataset.masks:
        small["mask_rows"] = dataset.masks.rows
        layout["mask_rows"] = (np.int64, dataset.masks.rows.shape)
        layout["masks"] = (np.uint8, (len(dataset.masks.rows), *dataset.shape[1:]))
    with arrays.create(path, layout, about) as file:
        digest = hashlib.sha256()
        for piece in dataset.pieces:
            digest.update(np.ascontiguousarray(piece).data)
            file.append("images", piece)
        for piece in dataset.masks.pieces if dataset.masks else ():
            file.append("masks", piece)
        for name, array in small.items():
            file.append(name, array)
        file.append("digest", np.frombuffer(digest.digest(), np.uint8))


if __name__ == "__main__":
    run_stage(main)
