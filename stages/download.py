"""Stage download: dataset name -> data/raw.safetensors.

Reads params download; keeps what it fetches in data/downloads. Writes images uint8 (N, C, H, W) and labels
int64 (N,), and with them the name, the class names and the size of the published test part, which is last.
"""

import logging
from pathlib import Path

from stages.autoencoder import arrays, datasets
from stages.autoencoder.errors import run
from stages.autoencoder.params.download import DownloadParams
from stages.autoencoder.params.reading import read

RAW = Path("data/raw.safetensors")
DOWNLOADS = Path("data/downloads")
log = logging.getLogger(__name__)


def main() -> None:
    params = read(DownloadParams).download
    dataset = datasets.load(params.dataset, DOWNLOADS, params.mirror)
    arrays.save(
        RAW,
        {"images": dataset.images, "labels": dataset.labels},
        {
            "dataset": params.dataset,
            "class_names": list(dataset.class_names),
            "published_test": dataset.published_test,
        },
    )
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
    run(main)
