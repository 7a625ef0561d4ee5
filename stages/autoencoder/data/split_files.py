"""The parts of the data, train, valid and test: each file names the rows of data/raw that are its images.

The images stay in data/raw and are read when they are used. A reader of one part reads no image of another.
Everything is in ascending order of `index`, an image's row in data/raw: no number changes when the order of a file
does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.autoencoder.core import arrays
from stages.autoencoder.core.errors import UserError, describe_fault
from stages.autoencoder.data import packed_file
from stages.autoencoder.data.packed_file import NEXT_STEP
from stages.autoencoder.params import fitting
from stages.autoencoder.params.fitting import Fitting

SPLIT = Path("data/split")
TRAIN, VALID, TEST = (SPLIT / f"{name}.safetensors" for name in ("train", "valid", "test"))
EXPECTED = {"labels": (np.int64, 1), "index": (np.int64, 1), "parts": (np.uint8, 1)}  # type, dimensions


class Images:
    """The images of one part, uint8 (n, C, H, W), read from the packed file when they are asked for."""

    def __init__(self, packed: np.ndarray, index: np.ndarray) -> None:
        """packed: uint8 (N, C, H, W), usually a memory map; index: int64 (n,), the rows that are the part's."""
        self._packed, self._index = packed, index

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, C, H, W)."""
        return (len(self._index), *self._packed.shape[1:])

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """The images at these positions of the part, in memory. Raises IndexError for a position outside it."""
        return np.asarray(self._packed[self._index[rows]])


@dataclass(frozen=True)
class Part:
    """One part: n images, with what is known of each."""

    images: Images  # uint8 (n, C, H, W)
    labels: np.ndarray  # int64 (n,), each an index into class_names; all 0 if there are no classes
    index: np.ndarray  # int64 (n,), ascending: rows of the packed file
    class_names: list[str]  # [] if there are no classes
    normal_classes: list[str]  # the classes that train; [] if all do
    fitting: Fitting  # how an image of any size becomes one of these
    raw: Path

    @property
    def classes(self) -> np.ndarray:
        """The class name of each image, (n,); "" if there are no classes."""
        return np.array(self.class_names or [""])[self.labels]

    @property
    def is_anomalous(self) -> np.ndarray:
        """Whether an image is of a class that does not train, bool (n,)."""
        return ~np.isin(self.classes, self.normal_classes or self.class_names or [""])

    def read_names(self) -> list[str] | None:
        """The path of each image in its folder; None if the images are no files of a folder."""
        return packed_file.read_names(self.raw, self.index) if "names" in arrays.describe(self.raw)[1] else None

    def read_masks(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Positions (m,) of the images that have a mask of anomalous pixels, and the masks, bool (m, H, W), or None.

        Raises UserError for masks that do not fit the images.
        """
        if "masks" not in arrays.describe(self.raw)[1]:
            return None
        masks = packed_file.map_checked(self.raw, "masks", np.uint8, 3)
        rows = packed_file.map_checked(self.raw, "mask_rows", np.int64, 1)
        if masks.shape[1:] != self.images.shape[2:] or len(rows) != len(masks) or (np.diff(rows) <= 0).any():
            raise UserError(f"{self.raw}: masks must be of the images' size, one for each of mask_rows; {NEXT_STEP}")
        chosen = np.isin(rows, self.index)
        return np.searchsorted(self.index, rows[chosen]), np.asarray(masks[chosen]) > 0


def spread_masks(rows: np.ndarray, masked: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The mask of each image at positions `rows`, bool (n, H, W); all False for an image without one.

    masked, masks: what `Part.read_masks` gives.
    """
    mask_of = dict(zip(masked.tolist(), masks, strict=True))
    blank = np.zeros(masks.shape[1:], bool)
    return np.stack([mask_of.get(row, blank) for row in rows.tolist()])


def load(path: Path, raw: Path = packed_file.RAW) -> Part:
    """The part in a file of the split, with its images in the packed file.

    Raises UserError if one of them is absent or damaged, or if they do not belong together.
    """
    held, about = arrays.load(path, "labels", "index")
    order = np.argsort(held["index"], kind="stable")
    packed = packed_file.map_checked(raw, "images", np.uint8, 4)
    if fault := _find_fault(held, about) or _find_misfit(held["index"], len(packed)):
        raise UserError(f"{path}: {fault}; {NEXT_STEP}")
    fitted = _parse_fitting(path, about, packed.shape[1:])
    if about.get("images") != packed_file.read_digest(raw):
        raise UserError(f"{path}: must be made from {raw}; got one made from other images; run dvc repro to remake it")
    index = held["index"][order]
    images = Images(packed, index)
    return Part(images, held["labels"][order], index, about["class_names"], about["normal_classes"], fitted, raw)


def load_labels(raw: Path = packed_file.RAW) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """labels (N,), parts (N,) and the description of the packed file.

    Raises UserError if it is absent or damaged.
    """
    held, about = arrays.load(raw, "labels", "parts")
    if fault := _find_fault(held, about):
        raise UserError(f"{raw}: {fault}; {NEXT_STEP}")
    if held["parts"].max() >= len(packed_file.PARTS):
        raise UserError(f"{raw}: parts must be in 0..{len(packed_file.PARTS) - 1}; got {held['parts'].max()}")
    _parse_fitting(raw, about, packed_file.map_checked(raw, "images", np.uint8, 4).shape[1:])
    return held["labels"], held["parts"], about


def _parse_fitting(path: Path, about: Mapping[str, Any], shape: Sequence[int]) -> Fitting:
    try:
        return fitting.parse(about.get("fitting"), shape)
    except ValueError as error:
        raise UserError(f"{path}: {describe_fault(error)}; {NEXT_STEP}") from None


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
    for key in ("class_names", "normal_classes"):
        names = about.get(key)
        if not isinstance(names, list) or not all(isinstance(name, str) and name.isprintable() for name in names):
            return f"{key} must be a list of printable texts"
    classes = max(1, len(about["class_names"]))
    if not 0 <= held["labels"].min() <= held["labels"].max() < classes:
        return f"labels must be in 0..{classes - 1}; got {held['labels'].min()}..{held['labels'].max()}"
    return None


def _find_misfit(index: np.ndarray, count: int) -> str | None:
    """Why these cannot be rows of `count` packed images, None if they can."""
    if index.min() < 0 or index.max() >= count:
        return f"index must be in 0..{count - 1}; got {index.min()}..{index.max()}"
    if len(np.unique(index)) < len(index):
        return "index must name each image once"
    return None
