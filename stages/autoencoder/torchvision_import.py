"""`import torchvision` beside any torch, also one built for the CPU alone. Gives torchvision's `datasets`.

PyPI's Linux wheel of torchvision is built for CUDA. Beside a CPU-only torch its compiled operators do not
load, and its Python part then stops at "operator torchvision::nms does not exist": it describes two of them
to torch's tracer without asking whether they are there. Declaring the two is enough for the import; the
datasets use neither. Where the operators load, nothing is declared.

Imports torch: import this module only where a dataset of torchvision is asked for.
"""

import torch

try:
    from torchvision import datasets
except RuntimeError as error:
    if "operator torchvision::" not in str(error):
        raise
    # Kept at module level: torch forgets the declarations when the library object goes.
    _LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
    for _operator in ("nms", "qnms"):
        _LIBRARY.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import datasets

__all__ = ["datasets"]
