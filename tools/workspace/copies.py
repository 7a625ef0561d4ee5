"""A copy of the working tree, and a commit of all that a folder holds: for runs that must not touch the checkout."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tools.workspace.commands import git, run

ROOT = Path(__file__).resolve().parents[2]  # the top of the checkout
IDENTITY = ("-c", "user.name=workspace", "-c", "user.email=workspace@example.org", "-c", "commit.gpgsign=false")


def copy_working_tree(folder: Path, *, root: Path = ROOT, without: Sequence[str] = ()) -> Path:
    """Copy the files of a checkout that exist and that git does not ignore into `folder`, and return `folder`.

    without: beginnings of names, such as "docs/" or "dvc.lock", that are left out. Git's own folder is left out too.
    """
    names = git("ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=root).split("\0")
    for name in filter(None, names):
        if (root / name).is_file() and not name.startswith(tuple(without)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    return folder


def commit_all(folder: Path, message: str = "state") -> None:
    """Commit every file in `folder` that git does not ignore, in a new repository where the folder is none yet."""
    if not (folder / ".git").exists():
        git("init", "--quiet", "--initial-branch=main", cwd=folder)
    git("add", "--all", cwd=folder)
    run(["git", *IDENTITY, "commit", "--quiet", "--no-verify", "--message", message], cwd=folder, place="git commit")
