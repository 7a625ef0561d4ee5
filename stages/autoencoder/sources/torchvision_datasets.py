"""torchvision's `datasets`, importable beside any torch, also one built for the CPU only.

PyPI's Linux wheel of torchvision is built for CUDA. Beside a CPU-only torch its compiled operators do not load,
and `import torchvision` stops at "operator torchvision::nms does not exist", because it describes two of them to
torch's tracer without checking that they exist. Declaring these two is enough for the import; the datasets use
neither. If the operators load, nothing is declared.

This module imports torch, so import it only when a dataset of torchvision is wanted.
"""

import torch

try:
    from torchvision import datasets
except RuntimeError as error:
    if "operator torchvision::" not in str(error):
        raise
    # Kept at module level: torch drops the declarations together with the library object.
    _LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
    for _operator in ("nms", "qnms"):
        _LIBRARY.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import datasets

__all__ = ["datasets"]
