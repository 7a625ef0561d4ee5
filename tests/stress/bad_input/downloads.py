"""Files of published datasets for the stage download, which is told that they are the right ones."""

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from hypothesis import strategies as st

from stages import download
from stages.autoencoder.sources.published import cifar10
from stages.autoencoder.sources.torchvision_datasets import datasets as torchvision
from tests.stress.bad_input.archives import SVHN_FILES, cifar10_files, emnist_files, svhn_files
from tests.stress.bad_input.idx_files import IMAGE_COUNT, good_idx_file, odd_idx_files
from tools.workspace.copies import ROOT
from tools.workspace.params_file import write_params


class Download(NamedTuple):
    """The files of a dataset by name."""

    dataset: str
    files: dict[str, bytes]


MNIST_FILES = (  # training images and labels, test images and labels
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
FOLDERS = {"mnist": "mnist", "emnist_mnist": "emnist", "cifar10": "cifar10", "svhn": "svhn"}


def run_download(on_disk: dict[str, bytes], case: Download) -> None:
    """Run the stage download with these files as the published ones.

    on_disk: {path: content} of params.yaml and the downloads, as the last cases left them; is updated.
    """
    if on_disk.get("dataset") != case.dataset.encode():
        write_params(Path("params.yaml"), {"download.dataset": case.dataset}, source=ROOT / "params.yaml")
        on_disk["dataset"] = case.dataset.encode()
    for name, content in case.files.items():
        path = Path("data/downloads", FOLDERS[case.dataset], name)
        if on_disk.get(str(path)) != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            on_disk[str(path)] = content
    sums = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in case.files.items()}
    parts = {part: ["", name, sums.get(name)] for part, name in zip(("train", "test"), SVHN_FILES, strict=True)}
    with (
        patch.object(torchvision.MNIST, "resources", [(name, sums.get(name)) for name in MNIST_FILES]),
        patch.object(torchvision.EMNIST, "md5", sums.get("gzip.zip")),
        patch.object(torchvision.SVHN, "split_list", parts),
        patch.object(cifar10, "MD5", sums.get(cifar10.NAME)),
        patch.object(cifar10, "RECORDS", IMAGE_COUNT),
    ):
        download.main()


def downloads() -> st.SearchStrategy[Download]:
    """The files of one of the four datasets."""
    files = {"mnist": mnist_files(), "emnist_mnist": emnist_files(), "cifar10": cifar10_files(), "svhn": svhn_files()}
    return st.one_of([st.builds(Download, st.just(dataset), cases) for dataset, cases in files.items()])


@st.composite
def mnist_files(draw: st.DrawFn) -> dict[str, bytes]:
    """The four files of MNIST, one or two of them with a fault."""
    files = {name: gzip.compress(good_idx_file(name), mtime=0) for name in MNIST_FILES}
    for name in draw(st.lists(st.sampled_from(MNIST_FILES), min_size=1, max_size=2)):
        files[name] = draw(odd_idx_files(name))
    return files
