"""`python -m tools.emulate [CASE ...]`: the stages on emulated CPUs of Intel and AMD, byte for byte.

Runs the computing stages of small configurations once on this machine and once under each emulated model, each
in a folder of its own, and compares all files that they write. Exit status 1 where any differs, with the first
stage concerned. Needs an x86-64 Linux with QEMU's user-mode emulation, version 7.2 or later, which has AVX2; it
installs nothing. Each case takes minutes: an emulated CPU is some sixty times slower.

No case shifts its training images (train.augment): QEMU 7.2 reads a vgatherdps whose index stands in ymm4 as one
without an index, and torch's grid_sample has such a one, so there the emulator errs (docs/reproducibility.md).
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from stages.autoencoder.errors import UserError, run
from stages.autoencoder.params.reading import PARAMS, read_yaml
from tools import ENVIRONMENT

QEMU = "qemu-x86_64"
MODELS = ("Haswell", "Skylake-Client", "EPYC-Rome")  # Intel 2013, Intel 2015, AMD 2019
INPUT = ("download", "split")  # run on this machine alone: they copy numbers and compute none
PLAIN = {"augment": {"max_images": 0}}  # training images as they are


class Case(NamedTuple):
    """What is run: changes to params.yaml, section by section, and the stages after `split`."""

    about: str
    changes: Mapping[str, Any]
    stages: Sequence[str]


FEW = {"split": {"test": 0.97, "valid": 0.1}}  # 135 images to train on, 15 to validate, the rest unused
CASES = {
    "conv": Case(
        "the default network: convolutions and products by oneDNN",
        {**FEW, "train": {"epochs": 2, **PLAIN}},
        ["train"],
    ),
    "mlp": Case(
        "the default mlp, denoising: products by oneDNN",
        {**FEW, "train": {"epochs": 2, "architecture": "mlp", "variant": "denoising", **PLAIN}},
        ["train"],
    ),
    "small": Case(
        "8 x 8 images, variational, BCE: small convolutions by torch itself; every stage, pictures too",
        {
            "latent_dim": 4,
            "download": {"dataset": "digits"},
            "train": {
                "variant": "variational",
                "loss": "bce",
                "epochs": 2,
                "batch_size": 256,
                "conv": {"channels": [8, 16], "widths": [32]},
                **PLAIN,
            },
        },
        ["baseline", "train", "reconstruct", "embed", "evaluate"],
    ),
    "pca": Case("PCA of the default dataset", {}, ["baseline"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.emulate", description="The same bytes on other CPUs?")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; none: all of them")
    parser.add_argument("--cpu", action="append", metavar="MODEL", help=f"default: {', '.join(MODELS)}")
    options = parser.parse_args()
    if unknown := [name for name in options.cases if name not in CASES]:
        raise UserError(f"emulate: a case is one of {', '.join(CASES)}; got {unknown[0]}")
    if not shutil.which(QEMU):
        raise UserError(f"emulate: {QEMU} must be on PATH; not found; install it (Debian: apt-get install qemu-user)")
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise UserError(f"emulate: must run on x86-64 Linux; got {sys.platform} on {platform.machine()}")
    alike = [compare(name, options.cpu or MODELS) for name in options.cases or CASES]
    if not all(alike):
        sys.exit("emulate: an emulated CPU gives other bytes than this one")


def compare(name: str, models: Sequence[str]) -> bool:
    """Run one case here and under each model, print a line for each; whether all files are the same."""
    case, alike = CASES[name], True
    print(f"{name}: {case.about}; {', '.join(case.stages)}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        here = Path(place, "here")
        given = lay_out(here, case.changes)
        for model in models:
            shutil.copytree(here, Path(place, model))
        expected = [stage_outputs(here, stage, [], given) for stage in case.stages]
        for model in models:
            for stage, wanted in zip(case.stages, expected, strict=True):
                found = stage_outputs(Path(place, model), stage, [QEMU, "-cpu", model], given)
                if differing := sorted(key for key in wanted | found if wanted.get(key) != found.get(key)):
                    print(f"  {model}: different, first in {stage}: {', '.join(differing)}", flush=True)
                    alike = False
                    break
            else:
                print(f"  {model}: identical, {len(expected[-1])} files", flush=True)
    return alike


def lay_out(folder: Path, changes: Mapping[str, Any]) -> set[str]:
    """A folder with params.yaml and the data that training needs; returns the names of these files."""
    folder.mkdir()
    with (folder / PARAMS).open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(merged(read_yaml(PARAMS), changes), file)
    for stage in INPUT:
        stage_outputs(folder, stage, [], set())
    return set(files(folder))


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `changes` laid over them, section by section."""
    laid = {
        key: merged(values[key], change) if isinstance(change, Mapping) else change for key, change in changes.items()
    }
    return {**values, **laid}


def stage_outputs(folder: Path, stage: str, emulator: Sequence[str], given: set[str]) -> dict[str, bytes]:
    """Run a stage in a folder, under the emulator if one is named; all files there now but the given ones."""
    command = [*emulator, sys.executable, "-m", f"stages.{stage}"]
    environment = {**ENVIRONMENT, "PYTHONPATH": os.fspath(Path.cwd())}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        complaint = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise UserError(f"emulate: {' '.join(command)} failed; {complaint[-1]}")
    return {name: content for name, content in files(folder).items() if name not in given}


def files(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder by its name there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


if __name__ == "__main__":
    run(main)
