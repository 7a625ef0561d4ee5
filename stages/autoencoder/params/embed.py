"""The section `embed`, and all that the stage embed reads."""

from typing import Literal

from pydantic import Field

from stages.autoencoder.params.apply import ApplyParams
from stages.autoencoder.params.section import Section


class Embed(Section):
    """Section `embed`."""

    map: Literal["tsne", "umap", "none"] = Field(description="2-D map of the codes beside PCA's")


class EmbedParams(ApplyParams):
    """What the stage embed reads."""

    embed: Embed
