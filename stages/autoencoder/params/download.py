"""The section `download`: which images, and where from. The one list of the datasets that can be named."""

from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from stages.autoencoder.params.base.section import Section


class DatasetEntry(NamedTuple):
    """One built-in dataset. shape: (C, H, W) of its images; torchvision: its class there, if it is fetched."""

    shape: tuple[int, int, int]
    torchvision: str | None = None


DATASETS = {
    "mnist5k": DatasetEntry((1, 28, 28)),
    "digits": DatasetEntry((1, 8, 8)),
    "mnist": DatasetEntry((1, 28, 28), "MNIST"),
    "fashion_mnist": DatasetEntry((1, 28, 28), "FashionMNIST"),
    "kmnist": DatasetEntry((1, 28, 28), "KMNIST"),
    "qmnist": DatasetEntry((1, 28, 28), "QMNIST"),
}
if TYPE_CHECKING:
    DatasetName = str
else:
    DatasetName = Literal[tuple(DATASETS)]


class Download(Section):
    """Section `download`."""

    dataset: DatasetName = Field(description="mnist5k and digits come with packages; the others are fetched")
    mirror: str | None = Field(
        min_length=1,
        json_schema_extra={"rule": "null, an http(s):// or file:/// address, or a folder"},
        description="address or folder tried before the publisher's own; null: none",
    )


class DownloadParams(Section):
    """What the stage download reads."""

    download: Download
