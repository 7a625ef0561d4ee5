"""Stage download: the dataset named in params.yaml -> data/raw.safetensors.

Reads params download. Keeps the files that it fetches in data/downloads. Writes images uint8 (N, C, H, W) and labels
int64 (N,); the description has the dataset's name, the class names and the size of the published test part, which
is last.
"""

from stages.runtime import numerics  # noqa: F401, I001 - first: pins threads and instruction set

import logging
from pathlib import Path

from stages.autoencoder.core import arrays
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.download import DownloadParams
from stages.autoencoder.sources import builtin
from stages.runtime.command import run_stage

RAW = Path("data/raw.safetensors")
DOWNLOADS = Path("data/downloads")
log = logging.getLogger(__name__)


def main() -> None:
    params = loader.load(DownloadParams).download
    dataset = builtin.load_dataset(params.dataset, DOWNLOADS, params.mirror)
    about = {
        "dataset": params.dataset,
        "class_names": list(dataset.class_names),
        "published_test": dataset.published_test,
    }
    arrays.save(RAW, {"images": dataset.images, "labels": dataset.labels}, about)
    count, *shape = dataset.images.shape
    log.info(
        "%s: %d images of %s, %d classes; published test part: %s",
        params.dataset,
        count,
        " x ".join(map(str, shape)),
        len(dataset.class_names),
        f"the last {dataset.published_test}" if dataset.published_test else "none",
    )


if __name__ == "__main__":
    run_stage(main)
