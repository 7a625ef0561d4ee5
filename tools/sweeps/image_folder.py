"""Whether experiments in DVC's queue will see a folder of the user's own images as it is in this checkout.

They run in copies of the last commit: only files that git or DVC tracks are there. An absolute path is the same
folder for all of them.
"""

import os
import shlex
from pathlib import Path

from dvc.output import Output
from dvc.repo import Repo

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.params import folder_presence
from tools.workspace.commands import git
from tools.workspace.overrides import write_override

COPIES = "experiments run in copies of the last commit"


def locate(repo: Repo, folder: str) -> Path:
    """The absolute path of download.folder, as DVC writes it: links stay."""
    return Path(os.path.abspath(Path(repo.root_dir, folder)))  # noqa: PTH100


def check_folder(repo: Repo, folder: str) -> None:
    """Raise UserError, with the path to type, unless experiments will see all that is in `folder`.

    folder: absolute, or relative to the top of the checkout, which is the current folder.
    """
    folder_presence.check_folder(folder)
    if Path(folder).is_absolute():
        return
    path = locate(repo, folder)
    override = write_override("download.folder", str(path))
    if not path.is_relative_to(repo.root_dir):
        raise UserError(
            f"download.folder must be an absolute path in a sweep if it is outside of this checkout, since {COPIES};"
            f" got {folder}; add {override}"
        )
    outs = [out for out in repo.index.outs if out.protocol == "local"]
    if tracking := [out for out in outs if path.is_relative_to(out.fs_path)]:
        _check_tracked_by_dvc(tracking[0], folder)
        return
    inside = [Path(out.fs_path) for out in outs if Path(out.fs_path).is_relative_to(path)]
    if not inside and not git("ls-files", "-z", "--", folder):
        raise UserError(
            f"download.folder must be tracked by git or DVC, or be an absolute path, since {COPIES};"
            f" got {folder}; add {override} to this command, or type dvc add {shlex.quote(folder)} and git commit"
        )
    untracked = [
        name
        for name in git("ls-files", "--others", "-z", "--", folder).split("\0")[:-1]
        if not _is_left_out(repo, Path(repo.root_dir, name), inside)
    ]
    if untracked:
        raise UserError(
            f"{folder}: must be tracked by git as a whole, since {COPIES}; got {len(untracked):,} untracked files such"
            f" as {untracked[0]}; git add and git commit them, or add {override} to this command"
        )


def _check_tracked_by_dvc(out: Output, folder: str) -> None:
    """Raise UserError if the copies will have other content than the folder here."""
    stage_file = os.path.relpath(out.stage.path, out.repo.root_dir)
    if not git("ls-files", "--", stage_file):
        raise UserError(f"{stage_file}: not in git, and {COPIES}; git add and git commit it first")
    if out.stage.is_data_source and out.status():
        place = os.path.relpath(out.fs_path, out.repo.root_dir)
        raise UserError(
            f"{folder}: changed since dvc add, and {COPIES}; type dvc add {shlex.quote(place)}, then git commit"
        )


def _is_left_out(repo: Repo, path: Path, inside: list[Path]) -> bool:
    """Whether DVC tracks a file itself, or neither DVC nor we read it: hidden files, what .dvcignore names."""
    return (
        path.name.startswith(".")
        or any(path.is_relative_to(out) for out in inside)
        or repo.dvcignore.is_ignored_file(str(path))
    )
