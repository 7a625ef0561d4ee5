"""Stage split: data/raw.safetensors -> data/split/{train,valid,test}.safetensors.

Reads params split. Each file holds index int64 (N,), the rows of its images in data/raw, in ascending order, and
labels int64 (N,); the images stay where they are. No index occurs in two files. Parts that the data publish stay as
they are; the others are stratified by class, unless a class is too small. The description has the class names, the
normal classes, how an image of any size becomes one of these, and the digest of the images.
"""

from stages.runtime import numerics  # noqa: F401, I001 - first: pins threads and instruction set

import logging

import numpy as np
from sklearn.model_selection import train_test_split

from stages.autoencoder.core import arrays
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data import packed_file, split_files
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.split import Split, SplitParams
from stages.runtime.command import run_stage

MAX_LISTED = 30  # class names in a message
log = logging.getLogger(__name__)


def main() -> None:
    params = loader.load(SplitParams).split
    labels, parts, about = split_files.load_labels()
    normal = find_normal_classes(params, about["class_names"], about["normal_classes"])
    indices = split(labels, parts, params, [about["class_names"].index(name) for name in normal])
    digest = packed_file.read_digest(packed_file.RAW)
    kept = {key: about[key] for key in ("class_names", "fitting")}
    description = kept | {"normal_classes": normal, "images": digest}
    for name, index in indices.items():
        arrays.save(split_files.SPLIT / f"{name}.safetensors", {"labels": labels[index], "index": index}, description)
    log.info("split: %s", ", ".join(f"{len(index):,} {name}" for name, index in indices.items()))


def find_normal_classes(params: Split, class_names: list[str], published: list[str]) -> list[str]:
    """The names of the classes that train: split.normal_classes, else those that the data's layout says; [] if all.

    Raises UserError for a name that no class has.
    """
    names = params.normal_names or published
    if unknown := [name for name in names if name not in class_names]:
        listed = ", ".join(class_names[:MAX_LISTED]) or "none, because the images have no classes"
        more = f" and {len(class_names) - MAX_LISTED} more" if len(class_names) > MAX_LISTED else ""
        quotes = "; put quotes around a name that YAML reads as a number" if class_names else ""
        raise UserError(
            f"params.yaml: split.normal_classes must be names of classes in the data ({listed}{more}); got"
            f" {unknown[0]}{quotes}"
        )
    return list(dict.fromkeys(names))


def split(labels: np.ndarray, parts: np.ndarray, params: Split, normal: list[int]) -> dict[str, np.ndarray]:
    """The indices of train, valid and test, int64, each in ascending order.

    labels: int64 (N,); parts: uint8 (N,), the published part of each image, as an index into PARTS; normal: the
    labels that train and validate, [] for all. Raises UserError for a part with too few images.
    """
    rest, train, valid, test = (np.flatnonzero(parts == number) for number in range(len(packed_file.PARTS)))
    if not len(test):
        rest, test = _split_stratified(rest, labels, params.test, params.seed, "test")
    if normal:
        rest, train, valid = (index[np.isin(labels[index], normal)] for index in (rest, train, valid))
    if not len(valid):
        rest, valid = _split_stratified(rest, labels, params.valid, params.seed, "valid")
    train = np.sort(np.concatenate([train, rest]))
    for name, index, least in (("train", train, 2), ("valid", valid, 1), ("test", test, 1)):
        if len(index) < least:
            raise UserError(f"split: the part {name} must have {least} images or more; got {len(index)}; add images")
    return {"train": train, "valid": valid, "test": test}


def _split_stratified(
    index: np.ndarray, labels: np.ndarray, share: float, seed: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """The index without a share of each class, and that share, both in ascending order.

    Where the smallest class is too small for that, the share is drawn from all images, and the log says so.
    """
    try:
        try:
            kept, taken = train_test_split(index, test_size=share, random_state=seed, stratify=labels[index])
        except ValueError as error:
            kept, taken = train_test_split(index, test_size=share, random_state=seed)
            log.info("split: the part %s is drawn without regard to classes: %s", name, error)
    except ValueError as error:
        raise UserError(f"params.yaml: split.{name} must leave images on both sides; got {share}: {error}") from None
    return np.sort(kept), np.sort(taken)


if __name__ == "__main__":
    run_stage(main)
