"""SVHN and MATLAB files, against scipy's and torchvision's readers and against hostile files."""

import io
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from stages.autoencoder.sources import builtin
from stages.autoencoder.sources.published import mat_files
from tests.support.mat_files import mat_file, stretch
from tests.support.published import count_test_part, md5, read_images, refusal

TRAIN, TEST = "train_32x32.mat", "test_32x32.mat"
RNG = np.random.default_rng(0)
IMAGES = {TRAIN: RNG.integers(0, 256, (32, 32, 3, 7), np.uint8), TEST: RNG.integers(0, 256, (32, 32, 3, 4), np.uint8)}
LABELS = {
    TRAIN: np.array([[10], [1], [2], [10], [9], [3], [1]], np.uint8),
    TEST: np.array([[4], [10], [5], [6]], np.uint8),
}
X, Y = IMAGES[TRAIN], LABELS[TRAIN]


def saved(images: np.ndarray, labels: np.ndarray, packed: bool = True) -> bytes:
    """The file as scipy writes it."""
    file = io.BytesIO()
    scipy.io.savemat(file, {"X": images, "y": labels}, do_compression=packed)
    return file.getvalue()


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """A function that makes small files torchvision's published SVHN, in the folder that it returns."""
    from stages.autoencoder.sources.torchvision_datasets import datasets as source

    def publish(replaced: dict[str, bytes] | None = None) -> Path:
        contents = {name: saved(IMAGES[name], LABELS[name]) for name in (TRAIN, TEST)} | (replaced or {})
        mirror = tmp_path / "mirror"
        mirror.mkdir()
        for name, content in contents.items():
            (mirror / name).write_bytes(content)
        files = {part: [f"file:///no/{name}", name, md5(contents[name])] for part, name in PARTS.items()}
        monkeypatch.setattr(source.SVHN, "split_list", files)
        return mirror

    return publish


PARTS = {"train": TRAIN, "test": TEST}


@pytest.mark.parametrize("packed", [True, False])
def test_svhn_is_what_torchvisions_own_class_reads(packed, publish, tmp_path, monkeypatch):
    from stages.autoencoder.sources.torchvision_datasets import datasets as source

    monkeypatch.setattr(mat_files, "PIECE_BYTES", 2 * 3072)  # so that the last piece is shorter
    mirror = publish({name: saved(IMAGES[name], LABELS[name], packed) for name in (TRAIN, TEST)})
    dataset = builtin.load_dataset("svhn", tmp_path / "downloads", str(mirror))
    theirs = [source.SVHN(str(mirror), part) for part in ("train", "test")]
    assert np.array_equal(read_images(dataset), np.concatenate([part.data for part in theirs]))
    assert np.array_equal(dataset.labels, np.concatenate([part.labels for part in theirs]))
    assert dataset.labels.tolist() == [0, 1, 2, 0, 9, 3, 1, 4, 0, 5, 6]
    assert dataset.class_names == tuple("0123456789")
    assert dataset.shape == (3, 32, 32)
    assert count_test_part(dataset) == 4


def test_labels_may_be_of_matlabs_usual_type(publish, tmp_path):
    dataset = builtin.load_dataset("svhn", tmp_path, str(publish({TRAIN: saved(X, Y.astype(np.float64))})))
    assert dataset.labels[:7].tolist() == [0, 1, 2, 0, 9, 3, 1]


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("shape", [(1, 3), (4, 1), (2, 3, 5), (0, 2), (2, 0)])
def test_an_array_is_what_scipy_reads(kind, order, packed, shape, tmp_path):
    array = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    other = stretch("other", np.arange(5.0)[None], order)
    path = tmp_path / "file.mat"
    path.write_bytes(mat_file(other, stretch("name", array, order, packed), order=order))
    matrix = mat_files.find_matrices(path)["name"]
    pieces = [np.empty((0, *shape[-2::-1]), kind), *matrix.read_pieces()]
    theirs = scipy.io.loadmat(path)["name"]
    assert theirs.shape == matrix.shape == shape
    assert np.array_equal(np.concatenate(pieces).transpose(), theirs)
    assert np.array_equal(theirs, array)


def test_arrays_of_other_classes_are_passed_over(tmp_path):
    path = tmp_path / "file.mat"
    values = {"a": np.eye(2), "b": "text", "c": {"field": 1}, "d": np.array([1, "x"], object), "e": np.array([1j])}
    scipy.io.savemat(path, values)
    assert mat_files.find_matrices(path).keys() == {"a"}


def changed(**changes: object) -> bytes:
    """A file whose X has a head that claims something else."""
    return mat_file(stretch("X", X, **changes), stretch("y", Y))


def packed_stretch(content: bytes) -> bytes:
    return np.array([15, len(content)], "<u4").tobytes() + content


WHOLE = saved(X, Y)
PLAIN = mat_file(stretch("X", X), stretch("y", Y))
PACKED = zlib.compress(stretch("X", X))
HOSTILE = {
    "nothing": (b"", "its header ends in nothing"),
    "a page": (b"<html>not here</html>" * 20, "its header ends in "),
    "header alone": (mat_file(), "it lacks X and y"),
    "no labels": (mat_file(stretch("X", X)), "it lacks y"),
    "cut short": (WHOLE[: len(WHOLE) // 2], "an array ends early"),
    "plain and cut short": (PLAIN[:5000], "an array ends early"),
    "cut short in a tag": (PLAIN[:132], "unpack requires a buffer of 8 bytes"),
    "checksum wrong": (
        mat_file(stretch("y", Y), packed_stretch(PACKED[:-1] + bytes([PACKED[-1] ^ 1]))),
        "incorrect data check",
    ),
    "checksum missing": (mat_file(stretch("y", Y), packed_stretch(PACKED[:-4])), "an array ends late"),
    "numbers left over": (
        mat_file(stretch("y", Y), packed_stretch(zlib.compress(stretch("X", X) + bytes(8)))),
        "an array ends late",
    ),
    "compressed twice": (mat_file(packed_stretch(zlib.compress(packed_stretch(PACKED)))), "is of type 15, not 14"),
    "another element": (mat_file(np.array([2, 8], "<u4").tobytes() + bytes(8)), "a stretch is of type 2"),
    "two of a name": (mat_file(stretch("X", X), stretch("X", X)), "two arrays have the name 'X'"),
    "a hundred arrays": (mat_file(*[stretch(f"x{i}", Y) for i in range(100)]), "more than 16 arrays"),
    "terabytes": (changed(shape=(32, 32, 3, 2**30), size=2**32 - 1), "for a shape of (32, 32, 3, 1073741824)"),
    "too many images": (
        changed(shape=(32, 32, 3, 10**6), size=3072 * 10**6),
        "X has the shape (32, 32, 3, 1000000)",
    ),
    "fewer numbers than claimed": (changed(shape=(32, 32, 3, 8)), "has 21504 bytes of type 2 for a shape of"),
    "a negative size": (changed(shape=(32, 32, -3, 7)), "an array has the shape (32, 32, -3, 7)"),
    "one dimension": (changed(shape=(21504,)), "an array has the shape (21504,)"),
    "nine dimensions": (changed(shape=(32, 32, 3, 7, 1, 1, 1, 1, 1)), "the shape (32, 32, 3, 7, 1, 1, 1, 1, 1)"),
    "a hundred dimensions": (changed(shape=(1,) * 100), "a field is of type 5 with 400 bytes"),
    "unknown numbers": (changed(kind=18), "'X' has numbers of type 18"),
    "cells": (changed(flags=1), "it lacks X"),
    "complex numbers": (changed(flags=9 | 0x800), "it lacks X"),
    "other size": (saved(X[:28], Y), "X has the shape (28, 32, 3, 7)"),
    "grey images": (saved(X[:, :, :1], Y), "X has the shape (32, 32, 1, 7)"),
    "images first": (saved(X.transpose(3, 0, 1, 2), Y), "X has the shape (7, 32, 32, 3)"),
    "no image": (saved(X[..., :0], Y[:0]), "X has the shape (32, 32, 3, 0)"),
    "a table": (saved(X[:, :, 0, 0], Y), "X has the shape (32, 32) "),
    "wide pixels": (saved(X.astype(np.uint16), Y), "the type u2"),
    "signed pixels": (saved(X.astype(np.int8), Y), "the type i1"),
    "a label missing": (saved(X, Y[:-1]), "y has the shape (6, 1) for 7 images"),
    "labels in two columns": (saved(X, np.hstack([Y, Y])), "y has the shape (7, 2) for 7 images"),
    "labels in a row": (saved(X, Y.T), "y has the shape (1, 7) for 7 images"),
    "label 0": (saved(X, Y * (Y != 3)), "labels must be in 1..10; got 0..10"),
    "label 11": (saved(X, Y + 1), "labels must be in 1..10; got 2..11"),
    "half a label": (saved(X, Y + 0.5), "labels must be integers; got 10.5"),
    "no number": (saved(X, Y * np.nan), "labels must be integers; got nan"),
    "infinite": (saved(X, Y * np.inf), "labels must be in 1..10; got inf..inf"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_by_name(case, publish, tmp_path):
    content, message = HOSTILE[case]
    line = refusal("svhn", tmp_path, publish({TEST: content}))
    assert line.startswith(f"{tmp_path}/svhn/{TEST}: ")
    assert message in line
    assert line.endswith("delete it and run download again")


def test_a_bomb_takes_little_memory(publish, tmp_path):
    zeros = zlib.compress(bytes(64 * 2**20), 9)
    head = zlib.compressobj()
    claimed = stretch("X", X[..., :0], shape=(32, 32, 3, 90_000), size=3072 * 90_000)
    bomb = head.compress(claimed) + head.compress(bytes(64 * 2**20)) + head.flush()
    mirror = publish({TRAIN: mat_file(packed_stretch(bomb), packed_stretch(zeros)), TEST: mat_file(stretch("y", Y))})
    tracemalloc.start()
    try:
        refusal("svhn", tmp_path, mirror)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20
