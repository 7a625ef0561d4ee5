"""Which layout a folder of images has, from the paths in it: classes, published parts, ground truth.

Recognised are a flat folder, one folder a class, train/, valid/ and test/ above either, and MVTec AD's layout: train/
has one class, test/ has others, ground_truth/ has masks of anomalous pixels.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data.packed_file import PARTS
from stages.autoencoder.sources.folder.walk import path_bytes, shorten, to_line

PART_FOLDERS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
GROUND_TRUTH = "ground_truth"
MASK_SUFFIX = "_mask"


@dataclass(frozen=True)
class Layout:
    """N images in the order of their paths."""

    description: str  # for the log
    paths: list[str]  # of the images, relative to the folder
    labels: np.ndarray  # int64 (N,), each an index into class_names; all 0 if there are no classes
    class_names: tuple[str, ...]  # in the order of their bytes; () if there are none
    parts: np.ndarray  # uint8 (N,), each an index into PARTS
    normal_classes: tuple[str, ...] = ()
    mask_rows: Sequence[int] = ()  # (M,), ascending: the images that have a mask
    mask_paths: Sequence[str] = ()  # (M,), relative to the folder


def recognise(place: str, paths: Sequence[str]) -> Layout:
    """The layout of these images, at least one, in the order of their bytes. place: the folder, for messages.

    Raises UserError for paths that fit no layout, or more than one.
    """
    tops = dict.fromkeys(path.partition("/")[0] if "/" in path else "" for path in paths)
    folders = [top for top in tops if top]
    part_of = {top: PART_FOLDERS[top.lower()] for top in folders if top.lower() in PART_FOLDERS}
    others = [top for top in folders if top not in part_of and top.lower() != GROUND_TRUTH]
    has_parts = part_of and (not others or ("train" in part_of.values() and len(part_of) > 1))
    if not has_parts:  # a class may be called test
        class_names, labels = _read_classes(place, (), paths)
        kind = "one folder a class" if class_names else "a flat folder"
        return Layout(kind, list(paths), labels, class_names, np.zeros(len(paths), np.uint8))
    if "" in tops or others:
        odd = next((path for path in paths if "/" not in path), f"{others[0]}/" if others else "")
        raise UserError(
            f"{place}: must hold nothing beside its parts {_list(part_of)}; got {_quote(odd)}; move it into one of them"
        )
    if "train" not in part_of.values() or len(set(part_of.values())) < len(part_of):
        wanted = "train/, and at most one folder for valid and for test"
        raise UserError(f"{place}: must have {wanted}; got {_list(part_of)}; rename or merge folders")
    return _read_parts(place, paths, part_of)


def _read_parts(place: str, paths: Sequence[str], part_of: dict[str, str]) -> Layout:
    """The layout with folders for the parts: part_of gives the part of each."""
    images = [path for path in paths if path.partition("/")[0] in part_of]
    truths = [path for path in paths if path.partition("/")[0] not in part_of]
    class_names, labels = _read_classes(place, part_of, images)
    parts = np.array([PARTS.index(part_of[path.partition("/")[0]]) for path in images], np.uint8)
    in_part = {part: set(labels[parts == PARTS.index(part)].tolist()) for part in PARTS}
    normal: tuple[str, ...] = ()
    if len(in_part["train"]) == 1 and in_part["test"] - in_part["train"]:
        normal = (class_names[in_part["train"].pop()],)
    kind = f"MVTec AD's layout, normal class {normal[0]}" if normal else "one folder a class" if class_names else "flat"
    counts = np.bincount(parts, minlength=len(PARTS))
    description = f"{', '.join(f'{counts[i]:,} in {part}/' for i, part in enumerate(PARTS) if counts[i])}, {kind}"
    if not {"valid", "test"} <= set(part_of.values()):
        parts[parts == PARTS.index("train")] = 0  # the stage split draws from train what is not published
    rows, masks = _match_masks(place, images, truths, part_of) if truths else ([], [])
    return Layout(description, images, labels, class_names, parts, normal, rows, masks)


def _read_classes(place: str, parts: Collection[str], paths: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """The class names, and each path's index into them; no names if the images lie in no folders.

    parts: folders that stand above the classes; none if it is empty. Raises UserError if some images lie in folders
    of classes and others beside those.
    """
    rest = [path.partition("/")[2] for path in paths] if parts else paths
    found = [path.partition("/")[0] if "/" in path else "" for path in rest]
    names = sorted(set(found), key=path_bytes)
    if names == [""]:
        return (), np.zeros(len(paths), np.int64)
    if not names[0]:
        flat, nested = paths[found.index("")], next(path for path, name in zip(paths, found, strict=True) if name)
        raise UserError(
            f"{place}: must hold either images or folders of images, one for each class; got both {_quote(flat)} and"
            f" {_quote(nested)}; move the images into folders, or the folders elsewhere"
        )
    if unprintable := [name for name in names if not name.isprintable()]:
        line = _quote(unprintable[0])
        raise UserError(f"{place}: a folder's name, a class, must be printable text; got {line}; rename it")
    numbers = {name: number for number, name in enumerate(names)}
    return tuple(names), np.array([numbers[name] for name in found], np.int64)


def _match_masks(
    place: str, images: Sequence[str], truths: Sequence[str], part_of: dict[str, str]
) -> tuple[list[int], list[str]]:
    """The images that have a mask, and their masks: ground_truth/DEFECT/NAME_mask.png is test/DEFECT/NAME.*.

    Raises UserError for a mask without its one image.
    """
    by_stem: dict[str, list[int]] = {}
    for row, path in enumerate(images):
        top, _, rest = path.partition("/")
        if part_of[top] == "test":
            by_stem.setdefault(rest.rpartition(".")[0], []).append(row)
    masks: dict[int, str] = {}
    for truth in truths:
        stem = truth.partition("/")[2].rpartition(".")[0]
        rows = by_stem.get(stem.removesuffix(MASK_SUFFIX)) or by_stem.get(stem) or []
        if len(rows) != 1 or rows[0] in masks:
            fault = "no image" if not rows else "another mask" if len(rows) == 1 else "several images"
            raise UserError(
                f"{place}: each mask in {GROUND_TRUTH}/ must belong to one image in test/ of the same name; got"
                f" {_quote(truth)}, with {fault}; rename or remove it"
            )
        masks[rows[0]] = truth
    return sorted(masks), [masks[row] for row in sorted(masks)]


def _list(folders: dict[str, str]) -> str:
    return ", ".join(f"{name}/" for name in folders)


def _quote(path: str) -> str:
    return shorten(to_line(path))
