"""`python -m tests.stress.emulation [CASE ...]`: the stages on emulated CPUs of Intel and AMD, byte for byte.

Runs the computing stages of small configurations once on this machine and once under each emulated model, each
in a folder of its own, and compares all files that they write. Exit status 1 where any differs, with the first
stage concerned. Needs an x86-64 Linux with QEMU's user-mode emulation, version 7.2 or later, which has AVX2; it
installs nothing. Each case takes minutes: an emulated CPU is some sixty times slower.

No case augments its training images (train.augment): QEMU 7.2 reads a vgatherdps whose index is in ymm4 as one
without an index, and torch's grid_sample has such a one, so there the emulator errs (docs/reproducibility.md).
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stages.autoencoder.core.errors import UserError
from stages.runtime.command import run
from tests.stress.folder_contents import list_differences, read_files
from tools.workspace import commands
from tools.workspace.copies import ROOT
from tools.workspace.params_file import write_params

QEMU = "qemu-x86_64"
CPU_MODELS = ("Haswell", "Skylake-Client", "EPYC-Rome")  # Intel 2013, Intel 2015, AMD 2019
DATA_STAGES = ("download", "split")  # run on this machine alone: they copy numbers and compute none
NO_AUGMENTATION = {"augment": {"max_images": 0}}
SMALL_SPLIT = {"split": {"test": 0.97, "valid": 0.1}}  # 135 images to train on, 15 to validate, the rest unused


class Case(NamedTuple):
    """What is run: changes to params.yaml, section by section, and the stages after `split`."""

    description: str
    changes: Mapping[str, Any]
    stages: Sequence[str]


CASES = {
    "conv": Case(
        "the default network: convolutions and products by oneDNN",
        {**SMALL_SPLIT, "train": {"epochs": 2, **NO_AUGMENTATION}},
        ["train"],
    ),
    "mlp": Case(
        "the default mlp, denoising: products by oneDNN",
        {**SMALL_SPLIT, "train": {"epochs": 2, "architecture": "mlp", "variant": "denoising", **NO_AUGMENTATION}},
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
                **NO_AUGMENTATION,
            },
        },
        ["baseline", "train", "reconstruct", "embed", "evaluate"],
    ),
    "pca": Case("PCA of the default dataset", {}, ["baseline"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stress.emulation", description="The same bytes on other CPUs?"
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; none: all of them")
    parser.add_argument("--cpu", action="append", metavar="MODEL", help=f"default: {', '.join(CPU_MODELS)}")
    options = parser.parse_args()
    if unknown := [name for name in options.cases if name not in CASES]:
        raise UserError(f"emulation: a case is one of {', '.join(CASES)}; got {unknown[0]}")
    if obstacle := find_obstacle():
        raise UserError(f"emulation: {obstacle}")
    identical = [compare(name, options.cpu or CPU_MODELS) for name in options.cases or CASES]
    if not all(identical):
        raise UserError("emulation: an emulated CPU must give the bytes of this one; different ones are listed above")


def find_obstacle() -> str | None:
    """What keeps this machine from emulating other CPUs, None if nothing does."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return f"must run on x86-64 Linux; got {sys.platform} on {platform.machine()}"
    if not shutil.which(QEMU):
        return f"{QEMU} must be on PATH; not found; install it (Debian: apt-get install qemu-user)"
    return None


def compare(name: str, models: Sequence[str]) -> bool:
    """Run one case here and under each model and print a line for each; whether all files are the same."""
    case, identical = CASES[name], True
    print(f"{name}: {case.description}; {', '.join(case.stages)}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        native = Path(place, "native")
        inputs = prepare_inputs(native, case.changes)
        for model in models:
            shutil.copytree(native, Path(place, model))
        expected = [run_stage(native, stage, [], inputs) for stage in case.stages]
        for model in models:
            for stage, native_files in zip(case.stages, expected, strict=True):
                emulated_files = run_stage(Path(place, model), stage, [QEMU, "-cpu", model], inputs)
                if differing := list_differences(native_files, emulated_files):
                    print(f"  {model}: different, first in {stage}: {', '.join(differing)}", flush=True)
                    identical = False
                    break
            else:
                print(f"  {model}: identical, {len(expected[-1])} files", flush=True)
    return identical


def prepare_inputs(folder: Path, changes: Mapping[str, Any]) -> set[str]:
    """Make a folder with params.yaml and the data that training needs, and return the names of these files."""
    folder.mkdir()
    write_params(folder / "params.yaml", changes, source=ROOT / "params.yaml")
    for stage in DATA_STAGES:
        run_stage(folder, stage, [], set())
    return set(read_files(folder))


def run_stage(folder: Path, stage: str, emulator: Sequence[str], inputs: set[str]) -> dict[str, bytes]:
    """Run a stage in a folder, under the emulator if one is named; all files there now except the inputs."""
    command = [*emulator, sys.executable, "-m", f"stages.{stage}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    commands.run(command, cwd=folder, env=environment, place=f"emulation: {' '.join(command)}")
    return {name: content for name, content in read_files(folder).items() if name not in inputs}


if __name__ == "__main__":
    run(main)
