"""What the page holds as data: one JSON text, one block of numbers, one picture with all images side by side.

The same experiment gives the same bytes: no clock, host name or path goes in.
"""

import io
import math
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from stages.autoencoder.scores import maps
from tools.exploration.experiment import Experiment
from tools.exploration.layers import Layer, list_layers

TYPES = {"float32": "<f4", "uint16": "<u2"}


class Contents(NamedTuple):
    """What the page's template takes."""

    about: dict[str, Any]  # JSON-able
    numbers: bytes  # the arrays that about["arrays"] describes, one after the other
    images: bytes  # PNG


class Block:
    """Arrays one after the other, little-endian, each at a multiple of four bytes."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.entries: dict[str, dict[str, Any]] = {}

    def add(self, name: str, array: np.ndarray, kind: str = "float32") -> str:
        """Append an array as numbers of a type in TYPES, and return its name."""
        self.entries[name] = {"type": kind, "start": len(self.content), "length": int(array.size)}
        self.content += np.ascontiguousarray(array, TYPES[kind]).tobytes()
        self.content += bytes(-len(self.content) % 4)
        return name


def build(experiment: Experiment, title: str, sweep: dict[str, Any] | None) -> Contents:
    """The data of the page. title: names the experiment. sweep: the runs beside it, as explore.find_neighbours has."""
    model, block = experiment.model, Block()
    network, spec = model.network, model.network.spec
    encoder = list_layers(network.encoder, spec.shape)
    decoder = list_layers(network.decoder, (spec.latent_dim,))
    block.add("codes", experiment.codes)
    block.add("errors", experiment.errors)
    block.add("labels", experiment.labels, "uint16")
    block.add("mean_code", experiment.mean_code)
    for name, points in experiment.points.items():
        block.add(f"map.{name}", points)
    if model.mixture:
        for name, array in model.mixture.to_arrays().items():
            block.add(name, array)
    description = asdict(model.about) | {
        "corruption": model.about.corruption and model.about.corruption.model_dump(),
        "density": model.mixture.describe() if model.mixture else "the prior N(0, I)",
        "components": len(model.mixture.weights) if model.mixture else 0,
        "weights": sum(weight.numel() for weight in network.parameters()),
    }
    sprite, columns = draw_images(experiment.images)
    about = {
        "title": title,
        "summary": summarise(experiment),
        "model": description,
        "encoder": [describe_layer(layer, f"encoder.{number}", block) for number, layer in enumerate(encoder)],
        "decoder": [describe_layer(layer, f"decoder.{number}", block) for number, layer in enumerate(decoder)],
        "count": len(experiment.images),
        "test_count": experiment.test_count,
        "columns": columns,
        "names": experiment.names,
        "class_names": experiment.class_names,
        "maps": [{"name": name, "title": maps.TITLES[name], "trust": experiment.trust.get(name)}
                 for name in experiment.points],
        "dimensions": experiment.dimensions,
        "mse_added": [experiment.mse_added.get(dimension) for dimension in experiment.dimensions],
        "params": experiment.params,
        "metrics": experiment.metrics,
        "pca": experiment.pca,
        "sweep": sweep,
        "arrays": block.entries,
    }  # fmt: skip
    return Contents(about, bytes(block.content), sprite)


def summarise(experiment: Experiment) -> str:
    """The experiment in a line, below the title of the page."""
    about, params = experiment.model.about, experiment.params
    kind = f"{about.variant}, {params.get('train.architecture')}, {about.spec.latent_dim} numbers in a code"
    shown = f"{len(experiment.images):,} of {experiment.test_count:,} test images of {params.get('download.dataset')}"
    return f"{kind}; {shown}; test error {experiment.metrics['mse']:.4g}"


def describe_layer(layer: Layer, name: str, block: Block) -> dict[str, Any]:
    """A layer as the page reads it; its numbers go to the block."""
    return {
        "kind": layer.kind,
        "inputs": layer.inputs,
        "outputs": layer.outputs,
        "silu": layer.silu,
        "weight": block.add(f"{name}.weight", layer.weight),
        "bias": block.add(f"{name}.bias", layer.bias),
    }


def draw_images(images: np.ndarray) -> tuple[bytes, int]:
    """uint8 (n, C, H, W) as one PNG, and how many stand side by side in it, so that it is about square. C is 1 or 3."""
    count, channels, height, width = images.shape
    columns = min(count, max(1, math.isqrt(count * height // width)))
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, channels, height, width), np.uint8)
    sheet[:count] = images
    sheet = sheet.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    sheet = sheet.reshape(rows * height, columns * width, channels)
    file = io.BytesIO()
    Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet).save(file, "png")
    return file.getvalue(), columns
