"""The pictures of a sweep: test images above the reconstructions by each combination.

The arrays come from DVC's cache, so that any image can be shown, not only those in the pipeline's pictures; of files
that may be larger than memory only the rows that are shown are read.
"""

import math
from contextlib import closing
from typing import Any, BinaryIO

import dvc.api
import numpy as np
from dvc.exceptions import DvcException

from stages.autoencoder.core import arrays
from stages.autoencoder.data.pixels import evenly_spaced
from tools.sweeps.plots import label_groups
from tools.sweeps.results import TEST_FILE, SweepResults

RAW, RECONSTRUCTIONS = "data/raw.safetensors", "data/reconstructions.safetensors"
COLUMNS = 20  # images: they fill the width of the page
MAX_ROWS = 16


def collect(results: SweepResults) -> tuple[list[tuple[str, np.ndarray]], list[str]]:
    """Rows of (label, images): test images, then the reconstructions by the first run of each combination; notes."""
    first_runs = results.table.drop_duplicates(results.group_keys)
    if first_runs["test"].nunique(dropna=False) > 1:
        return [], ["No pictures: the runs have different test images."]
    notes = []
    if (count := len(first_runs)) > MAX_ROWS:
        first_runs = first_runs.iloc[evenly_spaced(np.arange(count), MAX_ROWS)]
        notes.append(f"The pictures show {MAX_ROWS} of {count} combinations, evenly spaced.")
    original: np.ndarray | None = None
    made: list[tuple[list[Any], np.ndarray]] = []
    for _, first_run in first_runs.iterrows():
        with closing(dvc.api.DVCFileSystem(rev=first_run["commit"])) as cache:
            try:
                index = np.sort(arrays.from_bytes(cache.read_bytes(TEST_FILE), "index")[0]["index"])
                chosen = evenly_spaced(np.arange(len(index)), COLUMNS)
                if original is None:
                    with cache.open(RAW, "rb") as file:
                        original = read_rows(file, "images", index[chosen])
                with cache.open(RECONSTRUCTIONS, "rb") as file:
                    output = read_rows(file, "output", chosen)
            except (OSError, DvcException, ValueError):
                experiment = first_run["experiment"]
                notes.append(f"No pictures of {experiment}: its data is not in DVC's cache; dvc fetch may get it.")
                continue
        made.append(([first_run[key] for key in results.group_keys], output))
    if original is None or not made:
        return [], notes
    labels = label_groups(results.group_keys, [values for values, _ in made])
    rows = [(label or "reconstruction", images) for label, (_, images) in zip(labels, made, strict=True)]
    return [("original", original), *rows], notes


def read_rows(file: BinaryIO, name: str, rows: np.ndarray) -> np.ndarray:
    """Some rows of one array of a safetensors file, (n, ...), without reading the others.

    Raises ValueError if the file is damaged, or lacks the array or one of the rows.
    """
    try:
        kind, (count, *shape), start = arrays.locate(file, name, arrays.MAX_DESCRIPTION)
        if not ((rows >= 0) & (rows < count)).all():
            raise ValueError(f"it has {count} rows")
        size = math.prod(shape) * kind.itemsize
        found = []
        for row in rows.tolist():
            file.seek(start + row * size)
            found.append(np.frombuffer(file.read(size), kind).reshape(shape))
        return np.stack(found)
    except ValueError as error:
        raise ValueError(f"must be a safetensors file with these rows of {name}; {error!r}") from None
