"""The pictures of tools.report: the right images out of DVC's cache, and no more than these."""

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from stages.autoencoder.core import arrays
from tools.sweeps import pictures
from tools.sweeps.results import TEST_FILE, SweepResults


class CountingFile(io.BytesIO):
    """A file that counts the bytes that are read from it."""

    count = 0

    def read(self, size=-1):
        content = super().read(size)
        self.count += len(content)
        return content


def test_rows_are_those_of_the_array_and_no_others_are_read():
    rng = np.random.default_rng(0)
    held = {"images": rng.integers(0, 256, (500, 3, 8, 8), np.uint8), "labels": np.arange(500)}
    held["output"] = rng.random((500, 3, 8, 8), np.float32)
    file = CountingFile(arrays.to_bytes(held, {"a": 1}))
    for name in ("images", "output", "labels"):
        file.seek(0)
        file.count = 0
        np.testing.assert_array_equal(pictures.read_rows(file, name, np.array([499, 0, 7])), held[name][[499, 0, 7]])
        assert file.count < 3 * held[name][0].nbytes + 1000


@pytest.mark.parametrize(
    ("damage", "name", "row"),
    [
        (lambda b: b, "absent", 0),
        (lambda b: b, "images", 9),
        (lambda b: b, "images", -1),
        (lambda b: b[:-90], "images", 4),
        (lambda b: b[:20], "images", 0),
        (lambda b: b"", "images", 0),
        (lambda b: b"\xff" * len(b), "images", 0),
    ],
)
def test_a_damaged_file_is_refused(damage, name, row):
    whole = arrays.to_bytes({"images": np.zeros((5, 1, 4, 4), np.uint8), "z": np.zeros(3)}, {})
    with pytest.raises(ValueError, match="safetensors"):
        pictures.read_rows(io.BytesIO(damage(whole)), name, np.array([row]))


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository whose DVC cache has seven images, of which four are the test part, and their reconstructions."""
    monkeypatch.chdir(tmp_path)
    images = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    output = np.array([3, 1, 2, 6], np.float32)[:, None, None, None] * np.ones((1, 1, 4, 4), np.float32) / 255
    (tmp_path / "data/split").mkdir(parents=True)
    arrays.save(tmp_path / pictures.RAW, {"images": images})
    arrays.save(tmp_path / TEST_FILE, {"index": np.array([1, 6, 3, 2])})
    arrays.save(tmp_path / pictures.RECONSTRUCTIONS, {"output": np.sort(output, axis=0)})
    commands = [
        ["git", "init", "-q"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        [sys.executable, "-m", "dvc", "add", "-q", pictures.RAW, TEST_FILE, pictures.RECONSTRUCTIONS],
        ["git", "add", "--all"],
        ["git", "-c", "user.name=n", "-c", "user.email=e@localhost", "commit", "-q", "-m", "data"],
    ]
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
    for path in (pictures.RAW, TEST_FILE, pictures.RECONSTRUCTIONS):
        (tmp_path / path).unlink()  # the cache alone has them
    return subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_pictures_are_the_test_images_above_their_reconstructions(repository):
    table = pd.DataFrame({"experiment": ["s-1"], "commit": [repository], "test": ["same"], "latent_dim": [4]})
    results = SweepResults("s", repository, table, ["latent_dim"], [], {})
    rows, notes = pictures.collect(results)
    assert notes == []
    assert rows[0][0] == "original"
    assert rows[0][1][:, 0, 0, 0].tolist() == [1, 2, 3, 6]  # the rows of the test part, in ascending order
    assert (rows[1][1][:, 0, 0, 0] * 255).round().tolist() == [1, 2, 3, 6]


def test_data_that_the_cache_lacks_is_a_note(repository, tmp_path):
    for file in (tmp_path / ".dvc/cache").rglob("*"):
        if file.is_file():
            file.unlink()
    table = pd.DataFrame({"experiment": ["s-1"], "commit": [repository], "test": ["same"], "latent_dim": [4]})
    rows, notes = pictures.collect(SweepResults("s", repository, table, ["latent_dim"], [], {}))
    assert rows == []
    assert notes == ["No pictures of s-1: its data is not in DVC's cache; dvc fetch may get it."]
