"""The section `embed`, and all that the stage embed reads."""

import importlib.util
from typing import Literal

from pydantic import Field, model_validator

from stages.autoencoder.params.base.section import Section
from stages.autoencoder.params.model_use import ModelUseParams


class Embed(Section):
    """Section `embed`."""

    map: Literal["tsne", "umap", "none"] = Field(description="2-D map of the codes beside PCA's")
    classifiers: bool = Field(description="also classify the codes with penalties that the validation part chooses")
    n2d: bool = Field(description="also cluster the codes as N2D does: UMAP to 10 dimensions, Gaussian mixture")

    @model_validator(mode="after")
    def _package_is_installed(self) -> "Embed":
        needs = {"embed.map umap": (self.map == "umap", "embed.map: tsne"), "embed.n2d": (self.n2d, "embed.n2d: false")}
        for user, (used, alternative) in needs.items():
            if used and importlib.util.find_spec("umap") is None:
                raise ValueError(
                    f"{user} needs the package umap-learn, which is absent; pip install -r requirements/umap.txt,"
                    f" or set {alternative}"
                )
        return self


class EmbedParams(ModelUseParams):
    """What the stage embed reads."""

    embed: Embed
