"""The section `embed`, and all that the stage embed reads."""

import importlib.util
from typing import Literal

from pydantic import Field

from stages.autoencoder.errors import UserError
from stages.autoencoder.params.apply import ApplyParams
from stages.autoencoder.params.section import Section


class Embed(Section):
    """Section `embed`."""

    map: Literal["tsne", "umap", "none"] = Field(description="2-D map of the codes beside PCA's")


class EmbedParams(ApplyParams):
    """What the stage embed reads."""

    embed: Embed


def check(embed: Embed) -> None:
    """Raises UserError where the package behind the chosen map is absent."""
    if embed.map == "umap" and importlib.util.find_spec("umap") is None:
        raise UserError(
            "params.yaml: embed.map umap needs the package umap-learn, which is absent; pip install umap-learn, or"
            " set embed.map: tsne"
        )
