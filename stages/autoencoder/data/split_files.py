"""Images on disk with their labels: data/raw and the files of the split, train, valid and test.

Sums over images, noise drawn image by image and maps are computed in the order of `index`, an image's position in
data/raw. So no number changes when the order of the images in a file does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.autoencoder.core import arrays
from stages.autoencoder.core.errors import UserError

EXPECTED = {"images": (np.uint8, 4), "labels": (np.int64, 1), "index": (np.int64, 1)}  # type, dimensions


def load(path: Path, *names: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The named arrays of one file of the split, each in ascending order of `index`, and the description.

    Raises UserError as `load_in_file_order` does.
    """
    held, about = load_in_file_order(path, *names, "index")
    order = np.argsort(held["index"], kind="stable")
    return {name: held[name][order] for name in names}, about


def load_in_file_order(path: Path, *names: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The named arrays in the order of the file, and its description.

    images: uint8 (N, C, H, W); labels: int64 (N,), each an index into class_names; index: int64 (N,).
    Raises UserError if the file is absent or damaged, lacks an array or holds one of another type or shape.
    """
    held, about = arrays.load(path, *names)
    if fault := _find_fault(held, about):
        raise UserError(f"{path}: {fault}; delete it and run dvc repro")
    return held, about


def _find_fault(held: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> str | None:
    """What is wrong with the arrays or the description, None if nothing is."""
    for name, array in held.items():
        kind, dimensions = EXPECTED[name]
        if array.dtype != kind or array.ndim != dimensions or array.size == 0:
            wanted = f"{np.dtype(kind)} of {dimensions} dimensions, none of them 0"
            return f"{name} must be {wanted}; got {array.dtype} {array.shape}"
    counts = {name: len(array) for name, array in held.items()}
    if len(set(counts.values())) > 1:
        return f"its arrays must be of one length; got {', '.join(f'{counts[name]} {name}' for name in counts)}"
    class_names = about.get("class_names")
    if not isinstance(class_names, list) or not all(
        isinstance(name, str) and name.isprintable() for name in class_names
    ):
        return "class_names must be a list of printable texts"
    if "labels" in held and not 0 <= held["labels"].min() <= held["labels"].max() < len(class_names):
        return f"labels must be in 0..{len(class_names) - 1}; got {held['labels'].min()}..{held['labels'].max()}"
    # data/raw describes published_test, a file of the split normal_classes
    normal = about.get("normal_classes", [] if "published_test" in about else None)
    if not isinstance(normal, list) or not all(type(number) is int for number in normal):
        return "normal_classes must be a list of class numbers"
    test = about.get("published_test", 0 if "normal_classes" in about else None)
    if type(test) is not int or not 0 <= test < min(counts.values()):
        return f"published_test must be a number of images below {min(counts.values())}"
    return None
