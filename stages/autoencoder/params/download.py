"""The section `download`: which images, and where from. The one list of the datasets that can be named."""

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field, model_validator

from stages.autoencoder.params.base.section import Section
from stages.autoencoder.params.fitting import CHANNELS, Background, Colour, Fit

DEFAULT_FOLDER = "images"  # always there, so that DVC can hash it for built-in datasets too


class DatasetEntry(NamedTuple):
    """One built-in dataset. shape: (C, H, W) of its images; torchvision: its class there, if its files are IDX."""

    shape: tuple[int, int, int]
    fetched: bool = False
    torchvision: str | None = None


DATASETS = {
    "mnist5k": DatasetEntry((1, 28, 28)),
    "digits": DatasetEntry((1, 8, 8)),
    "mnist": DatasetEntry((1, 28, 28), True, "MNIST"),
    "fashion_mnist": DatasetEntry((1, 28, 28), True, "FashionMNIST"),
    "kmnist": DatasetEntry((1, 28, 28), True, "KMNIST"),
    "qmnist": DatasetEntry((1, 28, 28), True, "QMNIST"),
    "emnist_balanced": DatasetEntry((1, 28, 28), True),
    "emnist_byclass": DatasetEntry((1, 28, 28), True),
    "emnist_bymerge": DatasetEntry((1, 28, 28), True),
    "emnist_digits": DatasetEntry((1, 28, 28), True),
    "emnist_letters": DatasetEntry((1, 28, 28), True),
    "emnist_mnist": DatasetEntry((1, 28, 28), True),
    "cifar10": DatasetEntry((3, 32, 32), True),
    "svhn": DatasetEntry((3, 32, 32), True),
}
if TYPE_CHECKING:
    DatasetName = str
else:
    DatasetName = Literal[(*DATASETS, "folder")]


class Download(Section):
    """Section `download`."""

    dataset: DatasetName = Field(
        json_schema_extra={
            "rule": f"one of {', '.join(DATASETS)}, or folder for your own images, with their path in download.folder"
        },
        description="mnist5k and digits come with packages; folder: your own images; the others are fetched",
    )
    folder: str = Field(
        pattern=r"^[^~\x00]",
        json_schema_extra={"rule": "the path of a folder, absolute or relative to this file, without ~"},
        description="the folder of your own images; read with dataset: folder",
    )
    size: Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=2, max_length=2)] | None = Field(
        json_schema_extra={"rule": "[height, width], each 1 to 4096 pixels, or null"},
        description="[height, width] of your own images; null: all have one size already",
    )
    fit: Fit = Field(
        description="how an image of another shape gets this size: its middle; all of it with a border; distorted"
    )
    colour: Colour = Field(description="channels of your own images: three or one")
    background: Background = Field(description="colour behind transparent pixels and of the border")
    mirror: str | None = Field(
        min_length=1,
        json_schema_extra={"rule": "null, an http(s):// or file:/// address, or a folder"},
        description="address or folder with a fetched dataset's files, tried before the publisher's own; null: none",
    )

    @model_validator(mode="after")
    def _keys_fit_the_dataset(self) -> "Download":
        if self.mirror is not None and not (self.dataset in DATASETS and DATASETS[self.dataset].fetched):
            raise ValueError(
                f"download.mirror must be null with dataset {self.dataset}, which is not fetched; got {self.mirror!r};"
                " for your own images set download.dataset=folder and download.folder"
            )
        if self.dataset == "folder":
            return self
        for key, default in (("folder", DEFAULT_FOLDER), ("size", None)):
            if (value := getattr(self, key)) != default:
                raise ValueError(
                    f"download.{key} must be {'null' if default is None else default} with dataset {self.dataset}; got"
                    f" {value!r}; for your own images set download.dataset=folder"
                )
        return self

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(C, H, W) of the images; None where only the images themselves tell."""
        if self.dataset != "folder":
            return DATASETS[self.dataset].shape
        return None if self.size is None else (CHANNELS[self.colour], self.size[0], self.size[1])


class DownloadParams(Section):
    """What the stage download reads."""

    download: Download
