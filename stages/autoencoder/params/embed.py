"""The section `embed`, and all that the stage embed reads."""

import importlib.util
from typing import Literal

from pydantic import Field, model_validator

from stages.autoencoder.params.base.section import Section
from stages.autoencoder.params.model_use import ModelUseParams


class Embed(Section):
    """Section `embed`."""

    map: Literal["tsne", "umap", "none"] = Field(description="2-D map of the codes beside PCA's")

    @model_validator(mode="after")
    def _package_is_installed(self) -> "Embed":
        if self.map == "umap" and importlib.util.find_spec("umap") is None:
            raise ValueError(
                "embed.map umap needs the package umap-learn, which is absent; pip install -r requirements/umap.txt,"
                " or set embed.map: tsne"
            )
        return self


class EmbedParams(ModelUseParams):
    """What the stage embed reads."""

    embed: Embed
