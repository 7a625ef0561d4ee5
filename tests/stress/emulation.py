"""`python -m tests.stress.emulation [CASE ...]`: do emulated Intel and AMD CPUs give the same bytes as this one?

Runs the computing stages of small configurations on this machine and under each emulated CPU model, each in its own
folder, and compares all files that the stages write. For each model, one line says that the files are identical, in
which stage they first differ, or which stage failed. The exit status is 1 unless all are identical.

Needs x86-64 Linux and QEMU's user-mode emulation, version 7.2 or later, which has AVX2; it installs nothing. Each
case takes minutes: an emulated CPU is about sixty times slower.

Two errors of QEMU 7.2 limit the cases (docs/reproducibility.md):
- It executes vgatherdps with its index in ymm4 as if it had no index. torch's grid_sample contains this instruction,
  so no case augments its training images (train.augment).
- It crashed with a segmentation fault in the stage `evaluate`, so no case runs that stage.
"""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

from stages.autoencoder.core.errors import UserError
from stages.runtime.command import run_main
from tests.stress.folder_contents import list_differences, read_files
from tools.workspace import commands
from tools.workspace.arguments import ArgumentParser
from tools.workspace.copies import ROOT
from tools.workspace.params_file import write_params

QEMU = "qemu-x86_64"
CPU_MODELS = ("Haswell", "Skylake-Client", "EPYC-Rome")  # Intel 2013, Intel 2015, AMD 2019
DATA_STAGES = ("download", "split")  # not emulated: they copy numbers and compute none
NO_AUGMENTATION = {"augment": {"max_images": 0}}
SMALL_SPLIT = {"split": {"test": 0.97, "valid": 0.1}}  # 135 images to train on, 15 to validate, the rest unused


class Case(NamedTuple):
    """One configuration: changes to params.yaml, section by section, and the stages to run after `split`."""

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
        "8 x 8 images, variational, BCE: small convolutions by torch itself; figures; every stage except evaluate",
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
        ["baseline", "train", "reconstruct", "embed"],
    ),
    "pca": Case("PCA of the default dataset", {}, ["baseline"]),
}


def main() -> None:
    parser = ArgumentParser(
        prog="python -m tests.stress.emulation",
        description="Compare the files of emulated CPUs with those of this one.",
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)} (default: all)")
    parser.add_argument("--cpu", action="append", metavar="MODEL", help=f"default: {', '.join(CPU_MODELS)}")
    options = parser.parse_args()
    if unknown := [name for name in options.cases if name not in CASES]:
        raise UserError(f"emulation: a case must be one of {', '.join(CASES)}; got {unknown[0]}")
    if obstacle := find_obstacle():
        raise UserError(f"emulation: {obstacle}")
    identical = [compare(name, options.cpu or CPU_MODELS) for name in options.cases or CASES]
    if not all(identical):
        raise UserError("emulation: every emulated CPU must give the same files as this one; see above")


def find_obstacle() -> str | None:
    """What keeps this machine from emulating other CPUs; None if nothing does."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return f"must run on x86-64 Linux; got {sys.platform} on {platform.machine()}"
    if not shutil.which(QEMU):
        return f"{QEMU} must be on PATH; not found; install it (Debian: apt-get install qemu-user)"
    return None


def compare(name: str, models: Sequence[str]) -> bool:
    """Run a case here and under each model, and print one line for each model. Returns whether all are identical.

    A stage that fails ends the runs of its model only; one that fails here ends the case.
    """
    case = CASES[name]
    print(f"{name}: {case.description}; {', '.join(case.stages)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="emulation-") as folder:
        native = Path(folder, "native")
        try:
            inputs = prepare_inputs(native, case.changes)
            for model in models:
                shutil.copytree(native, Path(folder, model))
            expected = {stage: run_stage(native, stage, [], inputs) for stage in case.stages}
        except UserError as error:
            print(f"  this machine: {error}", flush=True)
            return False
        differences = {model: find_difference(Path(folder, model), model, expected, inputs) for model in models}
    return not any(differences.values())


def find_difference(
    folder: Path, model: str, expected: Mapping[str, Mapping[str, bytes]], inputs: Set[str]
) -> str | None:
    """Run stages under a model until one differs or fails, and print the result. Returns None if all are identical.

    folder: holds the inputs. expected: {stage: {name: content}} of the files after each stage on this machine.
    """
    difference, files = None, {}
    try:
        for stage, native_files in expected.items():
            files = run_stage(folder, stage, [QEMU, "-cpu", model], inputs)
            if names := list_differences(native_files, files):
                difference = f"different, first in {stage}: {', '.join(names)}"
                break
    except UserError as error:
        difference = str(error)
    print(f"  {model}: {difference or f'identical, {len(files)} files'}", flush=True)
    return difference


def prepare_inputs(folder: Path, changes: Mapping[str, Any]) -> set[str]:
    """Make a folder with params.yaml and the data that the stages need, and return the names of these files."""
    folder.mkdir()
    write_params(folder / "params.yaml", changes, source=ROOT / "params.yaml")
    for stage in DATA_STAGES:
        run_stage(folder, stage, [], set())
    return set(read_files(folder))


def run_stage(folder: Path, stage: str, emulator: Sequence[str], inputs: Set[str]) -> dict[str, bytes]:
    """Run a stage in a folder and return {name: content} of all files that are there now, except the inputs.

    emulator: the words that come before the command; none for this machine.
    Raises UserError if the stage fails: "<stage> failed: <last line of stderr>".
    """
    command = [*emulator, sys.executable, "-m", f"stages.{stage}"]
    commands.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, place=f"{stage} failed")
    return {name: content for name, content in read_files(folder).items() if name not in inputs}


if __name__ == "__main__":
    run_main(main)
