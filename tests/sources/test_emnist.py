"""EMNIST's archive, against torchvision's reader and against hostile files."""

import gzip
import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from stages.autoencoder.sources import builtin
from stages.autoencoder.sources.published import emnist
from tests.support.published import count_test_part, idx_file, idx_header, kept, md5, read_images, refusal

COUNTS = {"train": 9, "test": 4}
CLASSES = {"byclass": 62, "bymerge": 47, "balanced": 47, "letters": 26, "digits": 10, "mnist": 10}


def make_members() -> dict[str, bytes]:
    """The 24 files of the archive, small: images in which no two rows or columns are alike, every label in use."""
    rng = np.random.default_rng(0)
    members = {}
    for split, classes in CLASSES.items():
        first = 1 if split == "letters" else 0
        for part, count in COUNTS.items():
            labels = rng.integers(first, first + classes, count, np.uint8)
            labels[:2] = first, first + classes - 1
            prefix = f"gzip/emnist-{split}-{part}"
            members[f"{prefix}-images-idx3-ubyte.gz"] = idx_file(rng.integers(0, 256, (count, 28, 28), np.uint8))
            members[f"{prefix}-labels-idx1-ubyte.gz"] = idx_file(labels)
    return members


MEMBERS = make_members()


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """A function that makes an archive torchvision's published EMNIST, in the folder that it returns."""
    from stages.autoencoder.sources.torchvision_datasets import datasets as source

    def publish(content: bytes) -> Path:
        mirror = tmp_path / "mirror"
        mirror.mkdir()
        (mirror / "gzip.zip").write_bytes(content)
        monkeypatch.setattr(source.EMNIST, "md5", md5(content))
        return mirror

    return publish


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("split", CLASSES)
def test_a_split_is_what_torchvisions_own_class_reads_but_upright(split, compression, publish, tmp_path):
    from stages.autoencoder.sources.torchvision_datasets import datasets as source

    raw = tmp_path / "root" / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in MEMBERS.items():
        (raw / Path(name).stem).write_bytes(gzip.decompress(content))
    theirs = [source.EMNIST(tmp_path / "root", split, train=train) for train in (True, False)]
    mirror = publish(archive(MEMBERS, compression))
    dataset = builtin.load_dataset(f"emnist_{split}", tmp_path / "downloads", str(mirror))
    stored = np.concatenate([part.data for part in theirs])
    assert np.array_equal(read_images(dataset)[:, 0], stored.transpose(0, 2, 1))
    ours = [dataset.class_names[label] for label in dataset.labels]
    assert ours == [part.classes[label] for part in theirs for label in part.targets]
    assert len(dataset.class_names) == CLASSES[split]
    assert dataset.shape == (1, 28, 28)
    assert count_test_part(dataset) == COUNTS["test"]


def test_splits_are_torchvisions():
    from stages.autoencoder.sources.torchvision_datasets import datasets as source

    assert sorted(source.EMNIST.splits) == sorted(emnist.SPLITS) == sorted(CLASSES)


def test_all_splits_use_one_kept_archive(publish, tmp_path):
    downloads = tmp_path / "downloads"
    builtin.load_dataset("emnist_mnist", downloads, str(publish(archive(MEMBERS))))
    for split in emnist.SPLITS:
        read_images(builtin.load_dataset(f"emnist_{split}", downloads, None))
    assert kept(downloads) == {"gzip.zip"}


def test_the_largest_published_part_is_within_the_limit():
    # byclass: 697,932 training images, 116,323 test images (Cohen et al. 2017, table II)
    assert emnist.MOST_IMAGES == 697_932


SPLIT = "balanced"
IMAGES, LABELS = (f"gzip/emnist-{SPLIT}-test-{content}-ubyte.gz" for content in ("images-idx3", "labels-idx1"))
WHOLE = archive(MEMBERS)


def replace(name: str, content: bytes) -> bytes:
    return archive(MEMBERS | {name: content})


def patch(name: str, at: int, value: bytes) -> bytes:
    """The archive with some bytes of a member's entry in the directory at its end changed."""
    changed = bytearray(WHOLE)
    start = WHOLE.rindex(name.encode()) - 46 + at  # an entry has 46 bytes before the name
    changed[start : start + len(value)] = value
    return bytes(changed)


def damage(name: str) -> bytes:
    changed = bytearray(archive(MEMBERS, zipfile.ZIP_STORED))
    changed[changed.index(MEMBERS[name]) + len(MEMBERS[name]) // 2] ^= 1
    return bytes(changed)


def labels(*values: int) -> bytes:
    return idx_file(np.array(values, np.uint8))


HOSTILE = {
    "nothing": (b"", "must be a zip archive with"),
    "a page": (b"<html>not here</html>", "File is not a zip file"),
    "cut short": (WHOLE[:-5000], "must be a zip archive with"),
    "other members": (archive({"gzip/readme": b"text"}), "There is no item named"),
    "no images": (archive({name: MEMBERS[name] for name in MEMBERS if name != IMAGES}), f"with {IMAGES}; "),
    "in no folder": (archive({Path(name).name: MEMBERS[name] for name in MEMBERS}), "There is no item named"),
    "in a folder above": (archive({f"../{name}": MEMBERS[name] for name in MEMBERS}), "There is no item named"),
    "bzip2": (archive(MEMBERS, zipfile.ZIP_BZIP2), "is compressed by method 12"),
    "lzma": (archive(MEMBERS, zipfile.ZIP_LZMA), "is compressed by method 14"),
    "encrypted": (patch(IMAGES, 8, b"\x01"), "is encrypted"),
    "another member's place": (patch(IMAGES, 42, bytes(4)), "differ"),
    "a place behind the end": (patch(IMAGES, 42, b"\xff\xff\xff\x7f"), "must be a zip archive with"),
    "shorter than it is": (patch(IMAGES, 20, b"\x10\0\0\0\x10\0\0\0"), "must be one whole gzip file"),
    "not gzip": (replace(IMAGES, b"<html></html>"), f"{IMAGES}: must be one whole gzip file"),
    "damaged inside": (damage(IMAGES), f"{IMAGES}: must be one whole gzip file"),
    "labels for images": (replace(IMAGES, MEMBERS[LABELS]), "IDX must start with 00000803"),
    "fewer images": (
        replace(IMAGES, idx_file(np.zeros((3, 28, 28), np.uint8))),
        f"{LABELS}: must have a label for each of 3 images; got 4",
    ),
    "more images than any part": (
        replace(IMAGES, gzip.compress(idx_header(8, 697_933, 28, 28))),
        "must unpack to at most 547178688 bytes; its header says 547179472",
    ),
    "more labels than any part": (
        replace(LABELS, gzip.compress(idx_header(8, 697_933) + bytes(697_933))),
        "must unpack to at most 697932 bytes",
    ),
    "a class too high": (replace(LABELS, labels(0, 1, 2, 47)), f"{LABELS}: labels must be in 0..46; got 0..47"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused_by_name(case, publish, tmp_path):
    content, message = HOSTILE[case]
    line = refusal(f"emnist_{SPLIT}", tmp_path, publish(content))
    assert line.startswith(f"{tmp_path}/emnist/gzip.zip: ")
    assert message in line
    assert line.endswith("delete it and run download again")


def test_letters_begin_with_label_1(publish, tmp_path):
    name = "gzip/emnist-letters-test-labels-idx1-ubyte.gz"
    line = refusal("emnist_letters", tmp_path, publish(replace(name, labels(0, 1, 2, 26))))
    assert "labels must be in 1..26; got 0..26" in line


def test_a_bomb_takes_little_memory(publish, tmp_path):
    zeros = gzip.compress(idx_header(8, 4, 28, 28) + bytes(64 * 2**20), 1)
    mirror = publish(replace(IMAGES, zeros))
    tracemalloc.start()
    try:
        line = refusal(f"emnist_{SPLIT}", tmp_path, mirror)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "must hold 3136 bytes, as its header says; got more" in line
    assert peak < 4 * 2**20
