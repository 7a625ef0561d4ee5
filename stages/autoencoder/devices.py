"""The device that computes, and what makes it compute the same each time."""

import ctypes
import logging
import platform

import torch

from stages.autoencoder.errors import UserError

log = logging.getLogger(__name__)

# mallopt(3): blocks of at least 32 MiB (its maximum) are returned when freed, the rest up to 1 GiB kept
GLIBC = {"M_MMAP_THRESHOLD": (-3, 2**25), "M_TRIM_THRESHOLD": (-1, 2**30)}


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
    _keep_memory()
    return torch.device(device)


def _keep_memory() -> None:
    """Let the memory that a batch has freed serve the next one.

    By default glibc returns it and the kernel clears it again, 500 to 2,000 pages a training step: a tenth of
    the time.
    """
    if platform.libc_ver()[0] == "glibc":
        for option, size in GLIBC.values():
            ctypes.CDLL(None).mallopt(option, size)


def check(device: str) -> None:
    """Raises UserError where this machine lacks the device."""
    kind, _, number = device.partition(":")
    present = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(kind, 1)
    if int(number or 0) >= present:
        raise UserError(
            f"params.yaml: device must be present on this machine; got {device}, but there"
            f" {'is no' if not present else f'are only {present}'} {kind} device; set device: auto or cpu"
        )
