"""The built-in datasets: a name of DATASETS -> its images.

Importing this module is cheap: each dataset imports the packages that it needs (pandas, scikit-learn, torchvision).
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from stages.autoencoder.params.download import DATASETS
from stages.autoencoder.sources import packaged
from stages.autoencoder.sources.dataset import Dataset
from stages.autoencoder.sources.published import cifar10, emnist, mnist, svhn

PACKAGED: dict[str, Callable[[], Dataset]] = {"mnist5k": packaged.load_mnist5k, "digits": packaged.load_digits}
# each is given the folder where it keeps its files, and the mirror
PUBLISHED: dict[str, Callable[[Path, str | None], Dataset]] = {
    "cifar10": cifar10.load,
    "svhn": svhn.load,
    **{f"emnist_{split}": partial(emnist.load, split) for split in emnist.SPLITS},
    **{name: partial(mnist.load, entry.torchvision) for name, entry in DATASETS.items() if entry.torchvision},
}


def load_dataset(name: str, downloads: Path, mirror: str | None) -> Dataset:
    """The dataset of that name, one of DATASETS.

    downloads: the folder where fetched files are kept. mirror: http(s) or file address, or a folder, tried
    before the publisher's own addresses; datasets that come with a package use neither. Raises UserError for a file
    that is damaged or that no address has, now or while the images are read; ValueError for an unknown name.
    """
    if name in PACKAGED:
        return PACKAGED[name]()
    if name not in PUBLISHED:
        raise ValueError(f"name must be one of {', '.join(DATASETS)}; got {name!r}")
    # the six of EMNIST share one archive
    return PUBLISHED[name](downloads / ("emnist" if name.startswith("emnist_") else name), mirror)
