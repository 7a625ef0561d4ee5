"""A part of the data (train, valid, test) with its images in one order, whatever their order in the file.

What counts over images (sums, noise drawn image by image, maps) is computed in the order of `index`, an
image's place in data/raw: so no number changes when the order of the images in the file does.
"""

from pathlib import Path
from typing import Any

import numpy as np

from stages.autoencoder import arrays


def load(path: Path, *names: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The named arrays of a part, each in the ascending order of its `index`, and the part's description.

    Raises UserError where the file is absent, damaged, or lacks one of the arrays.
    """
    found, about = arrays.load(path, *names, "index")
    order = np.argsort(found["index"], kind="stable")
    return {name: found[name][order] for name in names}, about
