"""The device that computes, and what makes it compute the same each time."""

import logging

import torch

from stages.autoencoder.errors import UserError

log = logging.getLogger(__name__)


def prepare(device: str, numerics: str) -> torch.device:
    """The torch device named by auto | cpu | cuda | cuda:N | mps, with torch's arithmetic set to `numerics`.

    auto: the first CUDA device, else the CPU. portable: deterministic algorithms and no TF32.
    Raises UserError for a device that is named and absent.
    """
    portable = numerics == "portable"
    # not use_deterministic_algorithms, which imports torch's compiler first: 1.7 s of every stage
    torch.set_deterministic_debug_mode("error" if portable else "default")
    # filling memory that is about to be overwritten costs a tenth of the time and changes no result
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = not portable
    torch.backends.cuda.matmul.allow_tf32 = not portable
    torch.backends.cudnn.allow_tf32 = not portable
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        log.info("device: auto takes %s", device)
    check(device)
    return torch.device(device)


def check(device: str) -> None:
    """Raises UserError where this machine lacks the device."""
    kind, _, number = device.partition(":")
    present = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(kind, 1)
    if int(number or 0) >= present:
        raise UserError(
            f"params.yaml: device must be present on this machine; got {device}, but there"
            f" {'is no' if not present else f'are only {present}'} {kind} device; set device: auto or cpu"
        )
