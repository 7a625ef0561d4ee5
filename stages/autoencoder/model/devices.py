"""The device that computes, and the settings that make it compute the same each time."""

import ctypes
import logging
import platform

import torch

from stages.autoencoder.core.errors import UserError

log = logging.getLogger(__name__)

# mallopt(3): blocks of at least 32 MiB (its maximum) are returned when freed, the rest up to 1 GiB kept
MALLOC_OPTIONS = {"M_MMAP_THRESHOLD": (-3, 2**25), "M_TRIM_THRESHOLD": (-1, 2**30)}


def prepare(device: str, numerics: str, place: str = "params.yaml: device") -> torch.device:
    """The torch device named by auto | cpu | cuda | cuda:N | mps, with torch's arithmetic set to `numerics`.

    portable: deterministic algorithms and no TF32. place, auto, and what is raised: as in `choose`.
    """
    portable = numerics == "portable"
    # not use_deterministic_algorithms: it imports torch's compiler, 1.7 s in every stage
    torch.set_deterministic_debug_mode("error" if portable else "default")
    # filling memory before it is overwritten would cost a tenth of the time and change no result
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not portable
    torch.backends.cuda.matmul.allow_tf32 = not portable
    torch.backends.cudnn.allow_tf32 = not portable
    chosen = choose(device, place)
    _keep_freed_memory()
    return chosen


def choose(device: str, place: str = "params.yaml: device") -> torch.device:
    """The torch device named by auto | cpu | cuda | cuda:N | mps; auto: the first CUDA device, else the CPU.

    place: where the name stands, for messages. Raises UserError if a named device is absent.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        log.info("device: auto takes %s", device)
    check_present(device, place)
    return torch.device(device)


def _keep_freed_memory() -> None:
    """Let the next batch reuse the memory that a batch has freed.

    By default glibc returns it to the kernel, which clears it again, 500 to 2,000 pages in each training step: a
    tenth of the time.
    """
    if platform.libc_ver()[0] == "glibc":
        for option, size in MALLOC_OPTIONS.values():
            ctypes.CDLL(None).mallopt(option, size)


def check_count(device: str, processes: int) -> None:
    """Raises UserError if several processes are to compute on more GPUs than this machine has, one for each."""
    present = torch.cuda.device_count()
    if processes > max(1, present) and (device == "cuda" or (device == "auto" and present)):
        raise UserError(
            f"params.yaml: processes must be at most the number of cuda devices, {present}; got {processes}; lower it"
            " or set device to cpu"
        )


def check_present(device: str, place: str = "params.yaml: device") -> None:
    """Raises UserError if this machine lacks the device. place: where its name stands, for messages."""
    kind, _, number = device.partition(":")
    present = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(kind, 1)
    if int(number or 0) >= present:
        raise UserError(
            f"{place} must be present on this machine; got {device}, but the number of {kind} devices is {present};"
            " set it to auto or cpu"
        )
