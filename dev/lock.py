"""`python -m dev.lock`, or `make lock`: resolves requirements/*.in into the locks requirements/*.txt.

A lock names every package, transitive ones included, with the SHA-256 of each of its files. What a lock has stays as
long as the .in files allow it; `--upgrade` raises every version that they leave open. cuda.txt and the optional sets
take their versions from cpu.txt.

The CPU build of torch is not on PyPI. uv reads it from the wheel that this machine's own pip finds, otherwise from
PyTorch's public index. A wheel gives the hash for one Python only: after torch was raised, the lock is whole only if
it was made where PyTorch's index can be reached.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dev.install import FOLDER, TORCH_INDEX, is_local_build, parse_lock, pip
from stages.autoencoder.core.errors import UserError
from stages.runtime.command import run_main
from tools.workspace.arguments import ArgumentParser

OPTIONAL_SETS = ("benchmarks", "browser", "cluster", "umap")
COMPILE = [
    *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--custom-compile-command", "make lock"),
    # one version of each package for every system and every Python since 3.11, so that locks need few conditions
    *("--universal", "--fork-strategy", "fewest", "--python-version", "3.11", "--generate-hashes"),
]


def main() -> None:
    parser = ArgumentParser(prog="python -m dev.lock", description="Resolve requirements/*.in into locks.")
    parser.add_argument("--upgrade", action="store_true", help="raise every version that the .in files leave open")
    upgrade = parser.parse_args().upgrade
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheels, torch = find_torch(folder)
        kept = {name: entry for name, entry in read_lock("cpu").items() if not upgrade or is_local_build(entry)}
        write_lock("cpu", "cpu", kept | torch, folder, wheels)
        cpu = read_lock("cpu")
        from_pypi = {name: entry for name, entry in cpu.items() if not is_local_build(entry)}
        write_lock("direct", "cuda", ({} if upgrade else read_lock("cuda")) | from_pypi, folder)
        for optional_set in OPTIONAL_SETS:
            kept = ({} if upgrade else read_lock(optional_set)) | cpu
            write_lock(optional_set, optional_set, kept, folder, wheels)


def write_lock(source: str, lock: str, kept: Mapping[str, str], folder: Path, wheels: str = "") -> None:
    """Resolve requirements/SOURCE.in into requirements/LOCK.txt.

    kept: entries of locks whose versions and hashes stay if they fit. folder: for temporary files. wheels: a folder
    or page with torch's wheels. Raises UserError where no versions fit together.
    """
    output, result = FOLDER / f"{lock}.txt", folder / f"{lock}.txt"
    result.write_text("\n".join(kept.values()), encoding="utf-8")  # uv keeps what its output file has
    resolve(FOLDER / f"{source}.in", result, *(("--find-links", wheels) if wheels else ()))
    check_hashes(lock, read_lock(lock), parse_lock(result))
    output.write_bytes(result.read_bytes())
    print(f"{output}: {len(parse_lock(output))} packages")


def check_hashes(lock: str, old: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Raise UserError for a local build that has fewer hashes than before: its other Pythons would be left out."""
    for name, entry in new.items():
        before, now = old.get(name, "").count("--hash"), entry.count("--hash")
        if is_local_build(entry) and now < before:
            raise UserError(
                f"requirements/{lock}.txt: {name} must have a hash for every Python; got {now}, before {before}; run"
                " make lock where PyTorch's index can be reached"
            )


def read_lock(name: str) -> dict[str, str]:
    """The entries of requirements/NAME.txt; none where that lock is yet to be made."""
    path = FOLDER / f"{name}.txt"
    return parse_lock(path) if path.exists() else {}


def find_torch(folder: Path) -> tuple[str, dict[str, str]]:
    """Where uv finds the wheels of cpu.in's torch, and that torch's lock entry if they are on PyTorch's index.

    folder: for temporary files. Raises UserError where neither this machine's pip nor the index has that build.
    """
    (requirement,) = re.findall(r"^torch==\S+", (FOLDER / "cpu.in").read_text(encoding="utf-8"), re.MULTILINE)
    wheels, listed, result = folder / "wheels", folder / "torch.in", folder / "torch.txt"
    command = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(wheels), requirement]
    if not pip(*command, show_errors=False).returncode:
        return str(wheels), {}
    # uv takes hashes from an index, not from a page of wheels; an index given to all packages would serve others too
    listed.write_text(requirement, encoding="utf-8")
    resolve(listed, result, "--no-deps", "--no-annotate", "--index", TORCH_INDEX)
    return f"{TORCH_INDEX}/torch/", parse_lock(result)


def resolve(listed: Path, result: Path, *options: str) -> None:
    """Have uv resolve a list of packages into a lock. Raises UserError where no versions fit together."""
    command = [*COMPILE, *options, "--output-file", str(result), str(listed)]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
        raise UserError(
            f"{listed}: uv must find versions that fit together; it failed, see above; change a pin, or try where PyPI"
            " can be reached"
        )


if __name__ == "__main__":
    run_main(main)
