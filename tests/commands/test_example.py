"""tools.example: patches of the photographs, the parts from disjoint areas, all that differs inside the masks."""

import re
import shlex
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.sources.folder.layout import recognise
from stages.autoencoder.sources.folder.walk import walk
from tools import example
from tools.examples import defects, patches


@pytest.fixture(scope="module")
def brick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example") / "brick"
    example.make_folder("brick", folder)
    return folder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example") / "photographs"
    example.make_folder("photographs", folder)
    return folder


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def corner(path: Path) -> tuple[int, int]:
    """y and x of a patch in its photograph, from its name."""
    y, x = re.findall(r"\d+", path.name)
    return int(y), int(x)


def covered(paths: list[Path]) -> np.ndarray:
    """Which pixels of a photograph these patches show: bool (H, W)."""
    shown = np.zeros((patches.MAX_SIDE, patches.MAX_SIDE), bool)
    for y, x in map(corner, paths):
        shown[y : y + patches.SIDE, x : x + patches.SIDE] = True
    return shown


def test_two_folders_have_the_same_names_and_bytes(brick: Path, tmp_path: Path):
    example.make_folder("brick", tmp_path / "again")
    files, again = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*.png")} for f in (brick, tmp_path / "again"))
    assert files == again
    assert len(files) == 1296 + 194


def test_the_layouts_are_recognised(brick: Path, photographs: Path):
    layout = recognise("brick", walk(brick).images)
    assert layout.normal_classes == ("good",)
    assert sorted(layout.class_names) == ["blot", "cut_paste", "good", "scratch"]
    bad = [path for path in layout.paths if path.startswith("test/") and "/good/" not in path]
    assert [layout.paths[row] for row in layout.mask_rows] == bad
    layout = recognise("photographs", walk(photographs).images)
    assert layout.class_names == tuple(sorted(patches.PHOTOGRAPHS))
    assert layout.normal_classes == ()
    assert set(layout.parts.tolist()) == {1, 2, 3}  # every image's part is published


def test_no_pixel_of_a_photograph_is_in_two_parts(brick: Path, photographs: Path):
    for name, parts in [
        ("brick", [list(brick.glob(f"{part}/*/*")) for part in ("train", "valid", "test")]),
        *(
            (name, [list(photographs.glob(f"{part}/{name}/*")) for part in ("train", "valid", "test")])
            for name in patches.PHOTOGRAPHS
        ),
    ]:
        assert all(parts), name
        for one, other in combinations(map(covered, parts), 2):
            assert not (one & other).any(), name


def test_every_patch_without_a_mask_is_in_its_photograph(brick: Path, photographs: Path):
    sources = {"good": patches.read(patches.TEXTURES["brick"])}
    sources |= {name: patches.read(photograph) for name, photograph in patches.PHOTOGRAPHS.items()}
    for path in [*brick.glob("*/good/*"), *photographs.glob("*/*/*")]:
        y, x = corner(path)
        np.testing.assert_array_equal(read(path), sources[path.parent.name][y : y + 64, x : x + 64], str(path))


def test_defects_differ_inside_their_masks_only(brick: Path):
    source = patches.read(patches.TEXTURES["brick"])
    for kind in defects.KINDS:
        changes = []
        for path in (brick / "test" / kind).iterdir():
            mask = read(brick / "ground_truth" / kind / f"{path.stem}_mask.png")
            y, x = corner(path)
            changed = read(path) != source[y : y + 64, x : x + 64]
            assert set(np.unique(mask)) == {0, 255}
            assert not changed[mask == 0].any(), path
            changes.append(changed[mask > 0].mean())
        assert np.mean(changes) > 0.8, kind  # and nearly everywhere there


def test_images_in_the_test_part_are_shown_once(brick: Path):
    corners = [corner(path) for path in brick.glob("test/*/*")]
    assert len(set(corners)) == len(corners) == 324


def test_a_folder_that_holds_anything_is_left_alone(tmp_path: Path):
    (tmp_path / "mine.png").write_bytes(b"mine")
    with pytest.raises(UserError, match="must not exist, or be an empty folder; choose another name"):
        example.make_folder("brick", tmp_path)
    with pytest.raises(UserError, match="must not exist"):
        example.make_folder("brick", tmp_path / "mine.png")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(defects.KINDS, "blot", interrupt)
    with pytest.raises(KeyboardInterrupt):
        example.make_folder("brick", tmp_path / "brick")
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_to_type_next(tmp_path: Path):
    command = [sys.executable, "-m", "tools.example", "photographs", str(tmp_path / "my photos")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == f"{tmp_path}/my photos: 954 images of 64 x 64 pixels"
    last = shlex.split(done.stdout.splitlines()[-1])  # as a shell reads it
    assert last[:-1] == ["dvc", "exp", "run", "-S", "download.dataset=folder", "-S"]
    assert last[-1] == f"download.folder='{tmp_path}/my photos'"
