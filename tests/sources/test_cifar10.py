"""CIFAR-10's binary archive, against arrays packed by tarfile and against hostile files."""

import gzip
import io
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from stages.autoencoder.sources import builtin
from stages.autoencoder.sources.published import cifar10
from tests.support.published import count_test_part, kept, md5, read_images, refusal

FOLDER = "cifar-10-batches-bin"
COUNT = 3  # images in each of the six files
ORDER = (1, 4, 0, 3, 5, 2)  # the archive has its files in no order; 5 is the test part
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, COUNT, 3, 32, 32), np.uint8)
LABELS = np.array([[6, 9, 9], [4, 1, 1], [2, 7, 8], [3, 4, 7], [7, 2, 9], [3, 8, 0]], np.uint8)
NAMES = [f"{FOLDER}/data_batch_{number}.bin" for number in range(1, 6)] + [f"{FOLDER}/test_batch.bin"]


def records(number: int) -> bytes:
    """A file as the publisher's page describes it: a label, then 1,024 red, green and blue values, for each image."""
    return b"".join(
        bytes([label]) + image.tobytes() for label, image in zip(LABELS[number], IMAGES[number], strict=True)
    )


FILES = {NAMES[number]: records(number) for number in ORDER}
EXTRAS = {f"{FOLDER}/batches.meta.txt": b"airplane\nautomobile\n", f"{FOLDER}/readme.html": b"<html></html>"}


def entry(name: str, size: int = 0, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def tar(files: dict[str, bytes], *more: tuple[tarfile.TarInfo, bytes], style: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar archive, not compressed, of the publisher's folder with these files, and more entries."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=style) as archive:
        archive.addfile(entry(FOLDER, type=tarfile.DIRTYPE, mode=0o755))
        for name, content in files.items():
            # a fraction of a second needs an extended header in the format of 2001
            archive.addfile(entry(name, len(content), mtime=1.5, uname="kriz"), io.BytesIO(content))
        for info, content in more:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """A function that makes an archive the published one, in the folder that it returns."""
    monkeypatch.setattr(cifar10, "RECORDS", COUNT)

    def publish(content: bytes) -> Path:
        mirror = tmp_path / "mirror"
        mirror.mkdir()
        (mirror / "cifar-10-binary.tar.gz").write_bytes(content)
        monkeypatch.setattr(cifar10, "MD5", md5(content))
        return mirror

    return publish


@pytest.mark.parametrize("style", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_cifar10_is_its_five_training_files_then_the_test_file(style, publish, tmp_path):
    mirror = publish(gzip.compress(tar(EXTRAS | FILES, style=style)))
    dataset = builtin.load_dataset("cifar10", tmp_path / "downloads", str(mirror))
    assert np.array_equal(read_images(dataset), IMAGES.reshape(-1, 3, 32, 32))
    assert dataset.labels.tolist() == LABELS.ravel().tolist()
    assert dataset.shape == (3, 32, 32)
    assert count_test_part(dataset) == COUNT
    assert kept(tmp_path / "downloads") == {"cifar-10-binary.tar.gz"}


def test_class_names_are_those_of_the_publishers_list(publish, tmp_path):
    # batches.meta.txt as published
    listed = "airplane automobile bird cat deer dog frog horse ship truck"
    mirror = publish(gzip.compress(tar(FILES)))
    assert builtin.load_dataset("cifar10", tmp_path, str(mirror)).class_names == tuple(listed.split())


def test_the_published_archive_has_10000_records_of_3073_bytes_in_each_file():
    assert cifar10.RECORDS * cifar10.RECORD == 30_730_000


def with_header(**fields: object) -> bytes:
    """The archive with another header before the last file."""
    name, content = list(FILES.items())[-1]
    others = {other: content for other, content in FILES.items() if other != name}
    return tar(others, (entry(**{"name": name, "size": len(content), **fields}), content))


def replace(number: int, content: bytes) -> bytes:
    return tar(FILES | {NAMES[number]: content})


WHOLE = tar(FILES)
PACKED = gzip.compress(WHOLE)
CUT = WHOLE[: 512 + 2 * 10240]  # the folder, and two files, each of a header and 19 blocks
BOMB = (entry("bomb", 64 * 2**20), bytes(64 * 2**20))
LABEL_10 = bytes([10]) + records(2)[1:]
HOSTILE = {
    "nothing": (b"", "it lacks"),
    "not gzip": (WHOLE, "Not a gzipped file"),
    "gzip cut short": (PACKED[: len(PACKED) // 2], "end-of-stream marker"),
    "gzip checksum missing": (PACKED[:-8], "end-of-stream marker"),
    "gzip checksum wrong": (PACKED[:-8] + bytes(4) + PACKED[-4:], "CRC check failed"),
    "tar cut short in a file": (gzip.compress(CUT[:-100]), "the last file ends early"),
    "tar cut short in a header": (gzip.compress(CUT[: 512 + 100]), "truncated header"),
    "tar cut short between files": (gzip.compress(CUT), "it lacks"),
    "no tar": (gzip.compress(b"x" * 10_000), "invalid header"),
    "a header's checksum": (gzip.compress(WHOLE.replace(b"test_batch.bin", b"test_batch.bix", 1)), "bad checksum"),
    "the other archive": (gzip.compress(tar({"cifar-10-batches-py/data_batch_1": b"\x80\x02}"})), "it lacks"),
    "no test file": (gzip.compress(tar({name: FILES[name] for name in NAMES[:5]})), f"it lacks {NAMES[5]}"),
    "a file twice": (gzip.compress(tar(FILES, (entry(NAMES[0], 9219), records(0)))), "data_batch_1.bin must be there"),
    "a shorter file": (gzip.compress(replace(2, records(2)[:-1])), "data_batch_3.bin must be there once"),
    "a longer file": (gzip.compress(replace(2, records(2) + b"0")), "as a file of 9219 bytes"),
    "a link": (gzip.compress(with_header(type=tarfile.SYMTYPE, linkname="/etc/passwd")), "must be there once"),
    "a folder": (gzip.compress(with_header(type=tarfile.DIRTYPE)), "must be there once"),
    "a pipe": (gzip.compress(with_header(type=tarfile.FIFOTYPE)), "must be there once"),
    "a path above": (gzip.compress(with_header(name="../../cifar-10-batches-bin/test_batch.bin")), "it lacks"),
    "an absolute path": (gzip.compress(with_header(name=f"/{NAMES[5]}")), "it lacks"),
    "terabytes": (gzip.compress(entry("x", 2**40).tobuf(tarfile.GNU_FORMAT) + WHOLE), "bytes of other files"),
    "a bomb before": (gzip.compress(tar({}, BOMB)[:-10240] + WHOLE), "more than 1048576 bytes of other files"),
    "a bomb behind": (gzip.compress(WHOLE + bytes(64 * 2**20)), "more than 1048576 bytes after its end"),
    "a bomb of headers": (
        gzip.compress(tar({f"{FOLDER}/{number}": b"" for number in range(5000)}), 1),
        "more than 1048576 bytes of other files",
    ),
    "a long extended header": (
        gzip.compress(tar({}, (entry("x", 2**23, type=tarfile.XHDTYPE), b"9" * 2**23))),
        "more than 1048576 bytes of other files",
    ),
    "a class too high": (gzip.compress(replace(2, LABEL_10)), "labels must be in 0..9; got 7..10"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused_by_name_in_little_memory(case, publish, tmp_path):
    content, message = HOSTILE[case]
    mirror = publish(content)
    tracemalloc.start()
    try:
        line = refusal("cifar10", tmp_path / "downloads", mirror)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert line.startswith(f"{tmp_path}/downloads/cifar10/cifar-10-binary.tar.gz: ")
    assert message in line
    assert line.endswith("delete it and run download again")
    assert peak < 8 * 2**20
    assert {path.name for path in tmp_path.iterdir()} == {"mirror", "downloads"}
    assert kept(tmp_path / "downloads") == {"cifar-10-binary.tar.gz"}


def test_a_header_with_a_negative_size_ends_the_reading(publish, tmp_path):
    block = bytearray(entry("x").tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 8 + (-512 & 0xFFFFFFFF).to_bytes(4, "big")  # base 256, as GNU tar writes large sizes
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    assert tarfile.TarInfo.frombuf(bytes(block), "utf-8", "strict").size == -512
    line = refusal("cifar10", tmp_path, publish(gzip.compress(bytes(block) + WHOLE)))
    assert "bytes of other files" in line
