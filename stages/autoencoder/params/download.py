"""The section `download`: which images, and where from."""

from typing import Literal

from pydantic import Field

from stages.autoencoder.params.section import Section


class Download(Section):
    dataset: Literal["mnist5k", "digits", "mnist", "fashion_mnist", "kmnist", "qmnist"] = Field(
        description="mnist5k and digits come with packages; the others are fetched"
    )
    mirror: str | None = Field(
        min_length=1,
        json_schema_extra={"rule": "null, an http(s):// or file:/// address, or a folder"},
        description="address or folder tried before the publisher's own; null: none",
    )


class DownloadParams(Section):
    """What the stage download reads."""

    download: Download
