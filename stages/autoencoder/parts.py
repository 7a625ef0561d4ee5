"""Images on disk with what belongs to them: data/raw and its parts train, valid and test.

What counts over images (sums, noise drawn image by image, maps) is computed in the order of `index`, an
image's place in data/raw: so no number changes when the order of the images in the file does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.autoencoder import arrays
from stages.autoencoder.errors import UserError

FORMS = {"images": (np.uint8, 4), "labels": (np.int64, 1), "index": (np.int64, 1)}  # type, dimensions


def load(path: Path, *names: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The named arrays of a part, each in the ascending order of its `index`, and the part's description.

    Raises UserError as `in_file_order` does.
    """
    found, about = in_file_order(path, *names, "index")
    order = np.argsort(found["index"], kind="stable")
    return {name: found[name][order] for name in names}, about


def in_file_order(path: Path, *names: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The named arrays in the order of the file, and its description.

    images: uint8 (N, C, H, W); labels: int64 (N,), each an index into class_names; index: int64 (N,).
    Raises UserError where the file is absent, damaged, lacks an array or holds one of another form.
    """
    found, about = arrays.load(path, *names)
    if fault := _fault(found, about):
        raise UserError(f"{path}: {fault}; delete it and run dvc repro")
    return found, about


def _fault(found: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> str | None:
    """What is wrong with the arrays or the description, None if nothing is."""
    for name, array in found.items():
        kind, dimensions = FORMS[name]
        if array.dtype != kind or array.ndim != dimensions or array.size == 0:
            wanted = f"{np.dtype(kind)} of {dimensions} dimensions, none of them 0"
            return f"{name} must be {wanted}; got {array.dtype} {array.shape}"
    counts = {name: len(array) for name, array in found.items()}
    if len(set(counts.values())) > 1:
        return f"its arrays must be of one length; got {', '.join(f'{counts[name]} {name}' for name in counts)}"
    class_names = about.get("class_names")
    if not isinstance(class_names, list) or not all(
        isinstance(name, str) and name.isprintable() for name in class_names
    ):
        return "class_names must be a list of printable texts"
    if "labels" in found and not 0 <= found["labels"].min() <= found["labels"].max() < len(class_names):
        return f"labels must be in 0..{len(class_names) - 1}; got {found['labels'].min()}..{found['labels'].max()}"
    # data/raw tells published_test, a part normal_classes
    normal = about.get("normal_classes", [] if "published_test" in about else None)
    if not isinstance(normal, list) or not all(type(number) is int for number in normal):
        return "normal_classes must be a list of class numbers"
    test = about.get("published_test", 0 if "normal_classes" in about else None)
    if type(test) is not int or not 0 <= test < min(counts.values()):
        return f"published_test must be a number of images below {min(counts.values())}"
    return None
