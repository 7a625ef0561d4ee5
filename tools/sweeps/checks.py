"""What must hold before a sweep starts: a commit, a git identity, an unchanged workspace, a queue for itself."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from dvc.utils.flatten import flatten
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.params.all_sections import Params
from stages.autoencoder.params.base import loader
from tools.sweeps import image_folder
from tools.sweeps.engines.engine import Engine
from tools.sweeps.grid import Combination
from tools.workspace.commands import git

MAX_LISTED_NAMES = 3
MAX_VALUE_LENGTH = 30  # characters of a changed value


def check_git() -> str:
    """The commit that the experiments start from. Raises UserError if there is none, or no git identity."""
    try:
        head = git("rev-parse", "--verify", "--quiet", "HEAD").strip()
    except UserError:
        raise UserError("no git commit here that experiments could start from; git add and git commit first") from None
    if missing := [key for key in ("name", "email") if not _has_git_identity(key)]:
        commands = ", ".join(f"git config --global user.{key} ..." for key in missing)
        raise UserError(f"git does not know your {' and '.join(missing)}; {commands}")
    return head


def check_workspace(repo: Repo) -> None:
    """Raise UserError for changes that experiments would include silently, and for files that they would not see.

    Changes to what the stages write are allowed. `check_folders` looks at the user's own images.
    """
    images = _read_image_folder(repo)
    outputs = [Path(out.fs_path).relative_to(repo.root_dir) for out in repo.index.outs] + [Path("dvc.lock")]
    changed = [
        path
        for path in git("diff", "--name-only", "-z", "HEAD").split("\0")[:-1]
        if not any(Path(path).is_relative_to(out) for out in outputs)
    ]
    if changed:
        raise UserError(_describe_changes(changed))
    paths = [Path(dep.fs_path) for dep in repo.index.deps]
    dependencies = [
        path.relative_to(repo.root_dir) for path in paths if path.is_relative_to(repo.root_dir) and path != images
    ]
    untracked = [
        path
        for path in git("ls-files", "--others", "--exclude-standard", "-z").split("\0")[:-1]
        if any(Path(path).is_relative_to(dependency) for dependency in dependencies)
    ]
    if untracked:
        raise UserError(
            f"{list_names(untracked)}: not in git, and experiments see only what is; git add and git commit first"
        )


def check_folders(repo: Repo, combinations: Sequence[Combination]) -> None:
    """Raise UserError for a folder of the user's own images that experiments would not see as it is here."""
    sections = [combination.params["download"] for combination in combinations]
    for folder in dict.fromkeys(section["folder"] for section in sections if section["dataset"] == "folder"):
        image_folder.check_folder(repo, folder)


def check_queue(engine: Engine, combinations: Sequence[Combination]) -> None:
    """Raise UserError if the queue holds other experiments, or an experiment has the name of ours and other values."""
    unrelated = engine.list_unrelated(combination.name for combination in combinations)
    if unrelated:
        raise UserError(
            f"the queue holds {list_names(unrelated)}, not of this sweep; dvc queue start or dvc queue remove first"
        )
    done = engine.read_state().done
    for combination in combinations:
        name = combination.name
        if name in done and _parse_yaml(git("show", f"{done[name]}:params.yaml")) != combination.params:
            raise UserError(
                f"experiment {name} exists with other parameters; choose another --name, or dvc exp remove {name}"
            )


def list_names(names: Sequence[str]) -> str:
    """`a, b, c and 4 more`."""
    more = len(names) - MAX_LISTED_NAMES
    return ", ".join(names[:MAX_LISTED_NAMES]) + (f" and {more} more" if more > 0 else "")


def _read_image_folder(repo: Repo) -> Path | None:
    """The folder that params.yaml names for the user's own images; None if params.yaml can't be read.

    Raises UserError if it is no text, which DVC would meet in dvc.yaml and explain badly.
    """
    try:
        params = loader.read_yaml(loader.PARAMS)
    except UserError:
        return None
    section = params.get("download")
    folder = section.get("folder") if isinstance(section, Mapping) else None
    if not folder or not isinstance(folder, str):
        loader.validate(Params, params, loader.PARAMS)
        return None
    return image_folder.locate(repo, folder)


def _has_git_identity(key: str) -> bool:
    """Whether git knows the user's name or email (`key`) without having to guess it."""
    if all(os.environ.get(f"GIT_{role}_{key.upper()}") for role in ("AUTHOR", "COMMITTER")):
        return True
    try:
        return bool(git("config", f"user.{key}").strip())
    except UserError:
        return False


def _describe_changes(paths: Sequence[str]) -> str:
    """One line: which files differ from the last commit, which keys of params.yaml, and how to go on."""
    params = str(loader.PARAMS)
    paths = sorted(paths, key=lambda path: path != params)
    details = f" ({_describe_changed_keys()})" if params in paths else ""
    origin = " (a failed dvc exp run -S leaves such changes)" if params in paths else ""
    added, staged = (
        set(git("diff", "--name-only", "-z", option, "HEAD").split("\0")) for option in ("--diff-filter=A", "--cached")
    )
    restorable = [path for path in paths if path not in added]
    files = " ".join(restorable) if len(restorable) <= MAX_LISTED_NAMES else "FILE..."
    undo = f"undo it with git checkout {'HEAD ' if staged & set(paths) else ''}{files}{origin}, or " if files else ""
    rule = f"changed since the last commit{details}, from which experiments start"
    return f"{list_names(paths)}: {rule}; {undo}git commit it"


def _describe_changed_keys() -> str:
    """`latent_dim: 16 -> 7`, for each key of params.yaml that differs from the last commit."""
    try:
        old = _flatten(_parse_yaml(git("show", f"HEAD:./{loader.PARAMS}")))
        new = _flatten(loader.read_yaml(loader.PARAMS))
    except (UserError, YAMLError):  # not committed yet, deleted or not valid YAML
        return "as a whole"
    keys = [key for key in {**old, **new} if old.get(key, "none") != new.get(key, "none")]
    changes = [f"{key}: {_shorten(old.get(key, 'none'))} -> {_shorten(new.get(key, 'none'))}" for key in keys]
    return list_names(changes) if changes else "in comments or layout only"


def _parse_yaml(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def _flatten(params: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in flatten(params).items()}


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[: MAX_VALUE_LENGTH - 3]}..."
