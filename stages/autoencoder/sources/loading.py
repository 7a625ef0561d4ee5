"""The dataset that params.yaml names: a built-in one, or a folder of the user's own images."""

from pathlib import Path

from stages.autoencoder.params.download import Download
from stages.autoencoder.sources import builtin
from stages.autoencoder.sources.dataset import Dataset


def load_dataset(params: Download, downloads: Path) -> Dataset:
    """The images that section `download` chooses.

    downloads: where the files of fetched datasets are kept. Raises UserError for files that cannot be had or read.
    """
    if params.dataset == "folder":
        from stages.autoencoder.sources.folder.open_folder import open_folder

        return open_folder(params)
    return builtin.load_dataset(params.dataset, downloads, params.mirror)
