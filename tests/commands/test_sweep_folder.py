"""tools.sweep with the user's own images: a folder that queued experiments would not see is refused before anything."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from dvc.repo import Repo
from dvc.utils.hydra import apply_overrides

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.params.base.loader import read_yaml
from tools import sweep
from tools.sweeps import checks, grid
from tools.workspace.copies import IDENTITY, commit_all
from tools.workspace.overrides import write_override
from tools.workspace.params_file import write_params

PARAMS = Path("params.yaml")
DVC_YAML = "stages:\n  pack: {cmd: touch packed, deps: ['${download.folder}'], params: [download], outs: [packed]}\n"


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a stage that reads download.folder, and the folder photos, which nothing tracks."""
    folder = tmp_path / "checkout"
    for path, text in [
        *(("dvc.yaml", DVC_YAML), ("params.yaml", (ROOT / PARAMS).read_text()), ("images/README.md", "")),
        *((".dvc/config", "[core]\n    analytics = false\n    autostage = true\n"), (".dvcignore", "*.bak\n")),
        (".dvc/.gitignore", (ROOT / ".dvc/.gitignore").read_text()),
    ]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    commit_all(folder)
    for name in ("a.png", "sub/b.png", ".hidden", "c.bak"):
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / name).write_text(name)
    return folder


@pytest.fixture
def read_refusal(checkout: Path) -> Callable[..., str]:
    """A function: arguments of a sweep -> the line with which its folder is refused; empty if it is not."""

    def read(*arguments: str) -> str:
        line = ""
        with Repo(checkout) as repo:
            try:
                checks.check_folders(repo, grid.expand(["download.dataset=folder", *arguments], "s"))
            except UserError as error:
                line = str(error)
        assert "\n" not in line
        return line

    return read


def test_a_folder_that_nothing_tracks_is_refused_with_what_to_type(checkout: Path, read_refusal: Callable[..., str]):
    line = read_refusal("download.folder=photos")
    assert line == (
        "download.folder must be tracked by git or DVC, or be an absolute path, since experiments run in copies of the"
        f" last commit; got photos; add download.folder={checkout}/photos to this command, or type dvc add photos and"
        " git commit"
    )
    (checkout / ".gitignore").write_text("/photos\n")
    assert read_refusal("download.folder=photos/") == line.replace("photos;", "photos/;").replace(
        "add photos ", "add photos/ "
    )
    assert read_refusal(f"download.folder={checkout}/photos") == ""


def test_the_folder_in_params_yaml_counts_too(checkout: Path, read_refusal: Callable[..., str]):
    write_params(PARAMS, {"download.dataset": "folder", "download.folder": "photos"}, PARAMS)
    assert read_refusal("seed=1").startswith("download.folder must be tracked")
    write_params(PARAMS, {"download.dataset": "mnist5k", "download.folder": "images"}, PARAMS)
    with Repo(checkout) as repo:
        checks.check_folders(repo, grid.expand(["seed=1"], "s"))


def test_nothing_is_queued_for_a_refused_folder(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    run("git", "config", "user.name", "tester")
    run("git", "config", "user.email", "tester@example.org")
    monkeypatch.setattr(sys, "argv", ["sweep", "download.dataset=folder", "download.folder=photos", "seed=1,2"])
    with pytest.raises(UserError, match=r"^download\.folder must be tracked by git or DVC"):
        sweep.main()
    assert not (checkout / ".dvc/tmp/exps").exists()
    assert not (checkout / "packed").exists()


def test_a_folder_tracked_by_git_must_be_tracked_as_a_whole(checkout: Path, read_refusal: Callable[..., str]):
    commit_all(checkout)
    assert read_refusal("download.folder=photos") == ""
    (checkout / "photos/new.png").write_text("new")
    assert "got 1 untracked files such as photos/new.png; git add" in read_refusal("download.folder=photos")
    (checkout / ".gitignore").write_text("*.png\n")  # ignored files are not in the copies either
    assert "photos/new.png" in read_refusal("download.folder=photos")
    (checkout / "photos/new.png").rename(checkout / "photos/new.png.bak")  # neither DVC nor the stage reads it
    assert read_refusal("download.folder=photos") == ""


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # DVC 3.67 with pygtrie 2.6
def test_a_folder_tracked_by_dvc_must_be_as_it_was_added(checkout: Path, read_refusal: Callable[..., str]):
    with Repo(checkout) as repo:
        repo.add("photos")
    run("git", "rm", "--quiet", "--cached", "photos.dvc")
    assert read_refusal("download.folder=photos") == (
        "photos.dvc: not in git, and experiments run in copies of the last commit; git add and git commit it first"
    )
    commit_all(checkout)
    assert read_refusal("download.folder=photos") == ""
    assert read_refusal("download.folder=photos/sub") == ""
    (checkout / "photos/a.png").touch()
    assert read_refusal("download.folder=photos") == ""
    (checkout / "photos/a.png").write_text("another")
    assert read_refusal("download.folder=photos/sub") == (
        "photos/sub: changed since dvc add, and experiments run in copies of the last commit;"
        " type dvc add photos, then git commit"
    )


def test_a_folder_outside_must_be_absolute(checkout: Path, read_refusal: Callable[..., str]):
    outside = checkout.parent / "my pictures"
    (checkout / "photos").rename(outside)
    line = read_refusal("download.folder='../my pictures'")
    assert "must be an absolute path in a sweep" in line
    assert shlex.split(line.partition("add ")[2]) == [f"download.folder='{outside}'"]  # as a shell reads it
    assert read_refusal(f"download.folder='{outside}'") == ""
    write_params(PARAMS, {"download.dataset": "folder", "download.folder": str(outside)}, PARAMS)
    commit_all(checkout)
    with Repo(checkout) as repo:
        checks.check_workspace(repo)


def test_a_folder_that_is_absent_is_refused(read_refusal: Callable[..., str]):
    assert "must be a folder that exists; got" in read_refusal("download.folder=fotos")


def test_the_users_images_are_no_files_that_experiments_miss(checkout: Path):
    """10,000 images in the folder would otherwise be named as if they were code."""
    write_params(PARAMS, {"download.dataset": "folder", "download.folder": "photos"}, PARAMS)
    run("git", *IDENTITY, "commit", "--quiet", "--all", "--message", "params")
    with Repo(checkout) as repo:
        checks.check_workspace(repo)


@pytest.mark.parametrize("folder", ["null", "''", "5", "~"])
def test_a_folder_that_is_no_text_gets_our_message(checkout: Path, folder: str):
    text = PARAMS.read_text()
    PARAMS.write_text(text.replace("folder: images", f"folder: {folder}"))
    with Repo(checkout) as repo, pytest.raises(UserError, match=r"^params\.yaml: download\.folder must be .*path"):
        checks.check_workspace(repo)


@pytest.mark.parametrize(
    "text",
    ["photos", "/a b", "it's", "a\\'b", "end\\", "null", "True", "1e5", ".5", "é/日本", "a,b", "[a]", "$HOME", "~/x"],
)
def test_an_override_that_is_typed_gives_the_same_text(text: str, tmp_path: Path):
    """By a shell's rules and DVC's own parser."""
    (override,) = shlex.split(write_override("download.folder", text))
    (tmp_path / PARAMS).write_text("download: {folder: images}")
    apply_overrides(tmp_path / PARAMS, [override])
    assert read_yaml(tmp_path / PARAMS) == {"download": {"folder": text}}
