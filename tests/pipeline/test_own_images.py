"""A folder of the user's own images through DVC: what repeats the stages, in the workspace, in queued experiments and
in a clone, and the bytes that come out.

DVC runs check, download and, once, split: the stages behind them depend on their files alone.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY
from PIL import Image

from stages import download, split
from stages.autoencoder.core import arrays
from tools.workspace.copies import commit_all, copy_working_tree
from tools.workspace.params_file import write_params

CLASSES = ("dark", "light")
IMAGES = 40  # of each class
RAW = "data/raw.safetensors"


def make_photos(folder, names=None):
    """Colour images in two classes, written in the order of `names`, which also gives their time stamps."""
    rng = np.random.default_rng(0)
    pixels = {
        f"{name}/{number:02}.png": rng.integers(100 * label, 100 * label + 155, (8, 8, 3), dtype=np.uint8)
        for label, name in enumerate(CLASSES)
        for number in range(IMAGES)
    }
    for stamp, name in enumerate(names or pixels, 10**9):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[name]).save(folder / name)
        os.utime(folder / name, (stamp, stamp))
    return list(pixels)


def own_images(folder):
    """TINY with a folder of such images."""
    return {**TINY, "download": {"dataset": "folder", "folder": str(folder), "size": [8, 8]}}


def change_pixel(path):
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[3, 4, 1] ^= 1
    Image.fromarray(pixels).save(path)


def environment():
    """That of an activated environment, with a name and an address for git."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    who = {f"GIT_{role}_{what}": "t@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return os.environ | {"PATH": path} | who


def run(folder, *command):
    """Run a command as in an activated environment; returns its output."""
    ended = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def ran(output):
    """The stages that were run; those whose outputs came from the cache are not among them."""
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}


def repro(clone, target="download"):
    return ran(run(clone, "dvc", "repro", target))


def temporary(clone, override):
    """The stages that ran in a copy of the commit, made as for an experiment of the queue."""
    return ran(run(clone, "dvc", "exp", "run", "--temp", "-S", override, "download"))


def queued(clone, name, override):
    """The stages that ran in an experiment of DVC's queue."""
    run(clone, "dvc", "exp", "run", "--queue", "--name", name, "-S", override, "download")
    # no pipe: the worker would hold it open for as long as it waits for more
    subprocess.run(["dvc", "queue", "start"], cwd=clone, env=environment(), stdout=subprocess.DEVNULL, check=True)
    deadline = time.monotonic() + 120
    while not run(clone, "git", "for-each-ref", f"refs/exps/*/*/{name}"):
        assert time.monotonic() < deadline, run(clone, "dvc", "queue", "logs", name)
        time.sleep(0.2)
    while not re.search(rf"\b{name}\b.*Success", run(clone, "dvc", "queue", "status")):  # its results are collected
        assert time.monotonic() < deadline
    return ran(run(clone, "dvc", "queue", "logs", name))


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def clone(tmp_path):
    """A repository with the working tree's files, committed; download.folder is set by the test."""
    folder = copy_working_tree(tmp_path / "clone", without=("tests/", "docs/", "dvc.lock", "metrics/", "plots/"))

    def start(images):
        write_params(folder / "params.yaml", own_images(images), source=folder / "params.yaml")
        commit_all(folder)
        return folder

    return start


def test_images_that_change_repeat_the_stages_and_others_do_not(clone, tmp_path):
    photos = tmp_path / "my photos"
    names = make_photos(photos)
    clone = clone(photos)
    assert repro(clone, "split") == {"check", "download", "split"}
    commit_all(clone)
    first = sha256(clone / RAW)

    for name in names:
        (photos / name).touch()
    assert "up to date" in run(clone, "dvc", "status", "--with-deps", "split")
    assert temporary(clone, "seed=1") == {"check"}

    change_pixel(photos / names[5])
    assert repro(clone, "split") == {"download", "split"}
    assert sha256(clone / RAW) != first

    shutil.copy(photos / names[0], photos / "dark/one more.png")
    assert queued(clone, "added", "seed=2") == {"check", "download"}
    assert repro(clone) == set()  # an absolute path: what the experiment packed serves here too
    added, _ = arrays.load(clone / RAW, "labels")
    assert len(added["labels"]) == 2 * IMAGES + 1


def test_a_folder_added_to_dvc_is_the_same_in_a_clone_and_in_its_experiments(clone, tmp_path):
    clone = clone("photos")
    names = make_photos(clone / "photos")
    run(clone, "dvc", "add", "photos")
    run(clone, "dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    assert repro(clone) == {"check", "download"}
    commit_all(clone)
    run(clone, "dvc", "push")

    other = tmp_path / "other"
    run(tmp_path, "git", "clone", "--quiet", str(clone), "other")
    run(other, "dvc", "pull", "--with-deps", "download")
    for name in names:
        assert sha256(other / "photos" / name) == sha256(clone / "photos" / name)
    assert ran(run(other, "dvc", "exp", "run", "-S", "seed=1", "download")) == {"check"}
    run(other, "git", "checkout", "--quiet", "params.yaml", "dvc.lock")
    assert queued(other, "same", "seed=2") == {"check"}

    change_pixel(other / "photos" / names[0])
    run(other, "dvc", "add", "photos")
    commit_all(other)
    assert temporary(other, "seed=3") == {"check", "download"}


def test_order_and_time_stamps_of_the_files_change_no_byte(tmp_path, monkeypatch):
    """Of what split gives on; all other stages read no other images."""
    names = make_photos(tmp_path / "one" / "photos")
    make_photos(tmp_path / "two" / "photos", names[::-1])
    files = {}
    for place in ("one", "two"):
        monkeypatch.chdir(tmp_path / place)
        write_params(Path("params.yaml"), own_images("photos"), ROOT / "params.yaml")
        for stage in (download, split):
            stage.main()
        files[place] = {path: path.read_bytes() for path in Path("data").rglob("*.safetensors")}
    assert files["one"] == files["two"]
    assert len(files["one"]) == 4
