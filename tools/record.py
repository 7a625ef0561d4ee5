"""environment.json: what the committed results were computed with, beside dvc.lock, which says what they are.

Only what may change a number or a picture: no host name, no path, no date. `python -m tools.verify --record`
writes it on the machine that made dvc.lock; the MD5 in it says for which dvc.lock.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from stages.autoencoder import arrays

RECORD, LOCK = Path("environment.json"), Path("dvc.lock")
# The packages that the stages import, and those below them that compute or draw
NUMBERS = ("torch", "torchvision", "numpy", "pandas", "scipy", "scikit-learn", "scikit-image", "threadpoolctl")
NUMBERS += ("mlxtend", "safetensors", "joblib", "psutil", "pydantic", "ruamel.yaml", "tqdm")
PICTURES = ("matplotlib", "contourpy", "kiwisolver", "pillow")
LEVELS = {"x86-64-v4": ("avx512f", "avx512bw", "avx512dq", "avx512vl"), "x86-64-v3": ("avx2", "fma", "bmi2")}


def current() -> dict[str, Any]:
    """The environment of this process, whose threads are pinned as those of a stage are."""
    cpu = _cpu()
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "cpu": cpu.get("model name") or platform.processor() or "unknown",
        "instructions": _level(cpu.get("flags", "").split()),
        "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "threads": torch.get_num_threads(),
        "packages": {name: version(name) for name in sorted((*NUMBERS, *PICTURES))},
    }


def write() -> None:
    """Record the environment of this process for the dvc.lock that is there."""
    arrays.write_json(RECORD, {LOCK.name: lock_mark(LOCK.read_bytes()), **current()})


def lock_mark(content: bytes) -> str:
    """The MD5 that ties a record to its dvc.lock."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def differences(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, str]:
    """{what: what it was and is, and whether it may explain other numbers or other pictures alone}."""
    before, now = _flat(recorded), _flat(found)
    return {
        name: f"{name}: {before.get(name, 'nothing')} recorded, {now.get(name, 'nothing')} here;"
        f" may explain other {'pictures' if name in PICTURES else 'numbers'}"
        for name in now | before
        if before.get(name) != now.get(name) and name != LOCK.name
    }


def read(text: str) -> dict[str, Any]:
    """A record. Raises ValueError where the text is none."""
    found = json.loads(text)
    if not isinstance(found, dict) or not isinstance(found.get("packages"), dict):
        raise ValueError("not a mapping with packages")
    return found


def _flat(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in environment.items() if key != "packages"}, **environment["packages"]}


def _cpu() -> dict[str, str]:
    """What Linux says of the first processor; nothing elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _level(flags: list[str]) -> str:
    """The widest level of the x86-64 instruction set that these flags make up."""
    return next((level for level, needed in LEVELS.items() if set(needed) <= set(flags)), platform.machine())
