"""Stage split: data/raw.safetensors -> data/split/{train,valid,test}.safetensors.

Reads params split. Each part holds images uint8 (N, C, H, W), labels int64 (N,) and index int64 (N,), the
places of its images in data/raw; no index stands in two parts. All parts are stratified by class and ordered
by index. A published test part is the test part as it is. The description names the classes and tells which of
them are normal.
"""

import logging
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from stages.autoencoder import arrays, parts
from stages.autoencoder.errors import UserError, run
from stages.autoencoder.params.reading import read
from stages.autoencoder.params.split import Split, SplitParams

RAW = Path("data/raw.safetensors")
SPLIT = Path("data/split")
log = logging.getLogger(__name__)


def main() -> None:
    params = read(SplitParams).split
    raw, about = parts.in_file_order(RAW, "images", "labels")
    indices = split(raw["labels"], about.get("published_test", 0), params, about["class_names"])
    described = {"class_names": about["class_names"], "normal_classes": params.normal_classes}
    for name, index in indices.items():
        part = {"images": raw["images"][index], "labels": raw["labels"][index], "index": index}
        arrays.save(SPLIT / f"{name}.safetensors", part, described)
    log.info("split: %s", ", ".join(f"{len(index)} {name}" for name, index in indices.items()))


def split(labels: np.ndarray, published_test: int, params: Split, class_names: list[str]) -> dict[str, np.ndarray]:
    """The indices of train, valid and test, int64, each in ascending order.

    labels: int64 (N,); the last `published_test` images are the test part where there are any.
    Raises UserError for a class number that the data lack and for a class too small for the shares.
    """
    everything = np.arange(len(labels))
    if published_test:
        rest, test = np.split(everything, [len(labels) - published_test])
    else:
        rest, test = _stratified(everything, labels, params.test, params.seed, "test")
    if unknown := sorted(set(params.normal_classes) - set(labels.tolist())):
        raise UserError(
            f"params.yaml: split.normal_classes must be numbers of classes in the data, 0 to"
            f" {len(class_names) - 1}; got {unknown[0]}"
        )
    if params.normal_classes:
        rest = rest[np.isin(labels[rest], params.normal_classes)]
    train, valid = _stratified(rest, labels, params.valid, params.seed, "valid")
    return {"train": train, "valid": valid, "test": test}


def _stratified(
    index: np.ndarray, labels: np.ndarray, share: float, seed: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    try:
        kept, taken = train_test_split(index, test_size=share, random_state=seed, stratify=labels[index])
    except ValueError as error:
        raise UserError(
            f"params.yaml: split.{name} must leave images of each class on both sides; got {share}: {error}"
        ) from None
    return np.sort(kept), np.sort(taken)


if __name__ == "__main__":
    run(main)
