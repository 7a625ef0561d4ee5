"""Stage split: data/raw.safetensors -> data/split/{train,valid,test}.safetensors.

Reads params split. Each file holds images uint8 (N, C, H, W), labels int64 (N,) and index int64 (N,), the positions
of its images in data/raw; no index occurs in two files. All are stratified by class and ordered by index. A
published test part stays as it is. The description has the class names and the normal classes.
"""

from stages.runtime import numerics  # noqa: F401, I001 - first: pins threads and instruction set

import logging
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from stages.autoencoder.core import arrays
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data import split_files
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.split import Split, SplitParams
from stages.runtime.command import run_stage

RAW = Path("data/raw.safetensors")
SPLIT = Path("data/split")
log = logging.getLogger(__name__)


def main() -> None:
    params = loader.load(SplitParams).split
    raw, about = split_files.load_in_file_order(RAW, "images", "labels")
    indices = split(raw["labels"], about.get("published_test", 0), params, about["class_names"])
    description = {"class_names": about["class_names"], "normal_classes": params.normal_classes}
    for name, index in indices.items():
        part = {"images": raw["images"][index], "labels": raw["labels"][index], "index": index}
        arrays.save(SPLIT / f"{name}.safetensors", part, description)
    log.info("split: %s", ", ".join(f"{len(index)} {name}" for name, index in indices.items()))


def split(labels: np.ndarray, published_test: int, params: Split, class_names: list[str]) -> dict[str, np.ndarray]:
    """The indices of train, valid and test, int64, each in ascending order.

    labels: int64 (N,); the last `published_test` images, if any, are the test part.
    Raises UserError for a class number that does not occur and for a class too small for the shares.
    """
    everything = np.arange(len(labels))
    if published_test:
        rest, test = np.split(everything, [len(labels) - published_test])
    else:
        rest, test = _split_stratified(everything, labels, params.test, params.seed, "test")
    if unknown := sorted(set(params.normal_classes) - set(labels.tolist())):
        raise UserError(
            f"params.yaml: split.normal_classes must be numbers of classes in the data, 0 to"
            f" {len(class_names) - 1}; got {unknown[0]}"
        )
    if params.normal_classes:
        rest = rest[np.isin(labels[rest], params.normal_classes)]
    train, valid = _split_stratified(rest, labels, params.valid, params.seed, "valid")
    return {"train": train, "valid": valid, "test": test}


def _split_stratified(
    index: np.ndarray, labels: np.ndarray, share: float, seed: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """The index without a share of each class, and that share, both in ascending order."""
    try:
        kept, taken = train_test_split(index, test_size=share, random_state=seed, stratify=labels[index])
    except ValueError as error:
        raise UserError(
            f"params.yaml: split.{name} must leave images of each class on both sides; got {share}: {error}"
        ) from None
    return np.sort(kept), np.sort(taken)


if __name__ == "__main__":
    run_stage(main)
