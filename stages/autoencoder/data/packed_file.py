"""data/raw.safetensors: all images, written once by the stage download and memory-mapped by the others.

Arrays: images uint8 (N, C, H, W); labels int64 (N,), each an index into the description's class_names, all 0 if it
has none; parts uint8 (N,), each an index into PARTS; digest uint8 (32,), the SHA-256 of the images. Of a folder also
names and name_ends, the paths of the images. Where there is ground truth of anomalous pixels, masks uint8 (M, H, W)
and mask_rows int64 (M,), the images that they belong to.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.autoencoder.core import arrays
from stages.autoencoder.core.errors import UserError

RAW = Path("data/raw.safetensors")
NEXT_STEP = "delete it and run dvc repro"
PARTS = ("", "train", "valid", "test")  # the published part of an image; "": none, the stage split decides


def pack_names(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Texts as two arrays: their bytes one after the other, uint8, and where each ends, int64 (N,)."""
    encoded = [name.encode("utf-8", "backslashreplace") for name in names]
    ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
    return {"names": np.frombuffer(b"".join(encoded), np.uint8), "name_ends": ends}


def read_names(path: Path, rows: np.ndarray) -> list[str]:
    """The names of some images. Raises UserError if the file's names are damaged."""
    names, ends = map_checked(path, "names", np.uint8, 1), map_checked(path, "name_ends", np.int64, 1)
    starts = np.concatenate([[0], ends[:-1]])
    if rows.max() >= len(ends) or (ends < starts).any() or ends[-1] != len(names):
        raise UserError(f"{path}: name_ends must ascend to the length of names, one for each image; {NEXT_STEP}")
    return [names[starts[row] : ends[row]].tobytes().decode("utf-8", "replace") for row in rows]


def read_digest(path: Path) -> str:
    """The SHA-256 of the images, as the file states it. Raises UserError for a file without one."""
    digest = map_checked(path, "digest", np.uint8, 1)
    if len(digest) != 32:
        raise UserError(f"{path}: digest must be 32 bytes; got {len(digest)}; {NEXT_STEP}")
    return digest.tobytes().hex()


def map_checked(path: Path, name: str, kind: type[np.generic], dimensions: int) -> np.ndarray:
    """One array of the file, mapped. Raises UserError unless it has this type and so many dimensions, none of 0."""
    array = arrays.map_array(path, name)
    if array.dtype != kind or array.ndim != dimensions or not array.size:
        wanted = f"{np.dtype(kind)} of {dimensions} dimensions, none of them 0"
        raise UserError(f"{path}: {name} must be {wanted}; got {array.dtype} {array.shape}; {NEXT_STEP}")
    return array
