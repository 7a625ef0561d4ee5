"""Split, baseline and arrays."""

import json
import resource
from collections import Counter

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.numpy import load_file
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from stages import baseline, split, train
from stages.autoencoder.core import arrays, files
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data import packed_file, split_files
from stages.autoencoder.data.packed_file import PARTS
from stages.autoencoder.params.split import Split
from stages.autoencoder.scores import pca
from tests.support import stage_folders


def chosen(**changes):
    return Split(**({"seed": 0, "valid": 0.1, "test": 0.2, "normal_classes": []} | changes))


LABELS = np.repeat(np.arange(4), 50)


def published(**counts):
    """Parts of 200 images: the last ones are of the published parts, the others of none."""
    numbers = [PARTS.index(name) for name, count in counts.items() for _ in range(count)]
    return np.array([0] * (200 - len(numbers)) + numbers, np.uint8)


@pytest.mark.parametrize("parts", [{}, {"test": 40}])
@pytest.mark.parametrize("normal", [[], [1, 3]])
def test_parts_are_disjoint_and_stratified(parts, normal):
    labels = np.random.default_rng(0).permutation(LABELS)
    found = split.split(labels, published(**parts), chosen(), normal)
    together = np.concatenate(list(found.values()))
    assert len(together) == len(set(together.tolist()))
    assert len(found["test"]) == 40
    if parts:
        assert found["test"].tolist() == list(range(160, 200))
    if normal:
        assert set(labels[found["train"]]) == set(labels[found["valid"]]) == set(normal)
        assert set(labels[found["test"]]) == {0, 1, 2, 3}
    else:
        assert len(together) == 200
        counts = Counter(labels[found["valid"]].tolist())
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        ({"train": 150, "valid": 30, "test": 20}, {"train": 150, "valid": 30, "test": 20}),
        ({"valid": 30, "test": 20}, {"train": 150, "valid": 30, "test": 20}),
        ({"valid": 40}, {"train": 128, "valid": 40, "test": 32}),
    ],
)
def test_published_parts_stay_and_missing_ones_come_from_the_rest(parts, sizes):
    labels, of = np.random.default_rng(0).permutation(LABELS), published(**parts)
    found = split.split(labels, of, chosen(), [])
    assert {name: len(index) for name, index in found.items()} == sizes
    assert len(np.unique(np.concatenate(list(found.values())))) == 200
    for name in parts:
        assert found[name].tolist() == np.flatnonzero(of == PARTS.index(name)).tolist()


def test_the_split_has_its_own_seed():
    same = [split.split(LABELS, published(), chosen(seed=3), [])["test"] for _ in range(2)]
    other = split.split(LABELS, published(), chosen(seed=4), [])["test"]
    assert same[0].tolist() == same[1].tolist() != other.tolist()


def test_a_class_too_small_for_its_share_is_drawn_with_all_others(caplog):
    caplog.set_level("INFO")
    labels = np.concatenate([LABELS, [4, 5, 5]])  # one image of class 4, two of class 5
    found = split.split(labels, np.zeros(203, np.uint8), chosen(), [])
    assert {name: len(index) for name, index in found.items()} == {"train": 145, "valid": 17, "test": 41}
    assert len(np.unique(np.concatenate(list(found.values())))) == 203
    assert "split: the part test is drawn without regard to classes: The least populated class" in caplog.text


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (1, r"^params.yaml: split.test must leave images on both sides; got 0.2: "),
        (2, r"^params.yaml: split.valid must leave images on both sides; got 0.1: "),
        (3, r"^split: the part train must have 2 images or more; got 1; add images$"),
    ],
)
def test_too_few_images_are_refused(count, message):
    with pytest.raises(UserError, match=message):
        split.split(np.zeros(count, np.int64), np.zeros(count, np.uint8), chosen(), [])


@pytest.mark.parametrize(("written", "name"), [("[1]", "1"), ("['01']", "01"), ("[no]", "no"), ("[null]", "null")])
def test_a_class_is_named_by_its_text(written, name):
    normal = YAML(typ="safe", pure=True).load(written)
    assert split.find_normal_classes(chosen(normal_classes=normal), ["1", "01", "no", "null", "true"], []) == [name]


def test_an_unknown_class_lists_those_that_exist():
    with pytest.raises(
        UserError, match=r"split.normal_classes must be names of classes in the data \(1, 01, no\); got 7"
    ):
        split.find_normal_classes(chosen(normal_classes=[7]), ["1", "01", "no"], [])
    with pytest.raises(UserError, match=r"\(none, because the images have no classes\); got good$"):
        split.find_normal_classes(chosen(normal_classes=["good"]), [], [])


def test_the_layout_of_the_data_names_the_normal_classes_unless_the_user_does():
    assert split.find_normal_classes(chosen(), ["bad", "good"], ["good"]) == ["good"]
    assert split.find_normal_classes(chosen(normal_classes=["bad"]), ["bad", "good"], ["good"]) == ["bad"]


def test_parts_name_the_rows_of_the_packed_images(copy):
    raw = arrays.load(packed_file.RAW)[0]
    labels = load_digits().target
    rows = []
    for name in ("train", "valid", "test"):
        part = split_files.load(split_files.SPLIT / f"{name}.safetensors")
        assert np.array_equal(part.images[:], raw["images"][part.index])
        assert np.array_equal(part.labels, labels[part.index])
        rows += part.index.tolist()
    assert sorted(rows) == list(range(1797))


def test_pca_errors_are_those_of_scikit_learn_at_each_dimension(copy):
    train_part, test_part = (stage_folders.read_images(name) for name in ("train", "test"))
    x, y = (part.reshape(len(part), -1) / 255 for part in (train_part, test_part))
    mse = arrays.load(baseline.BASELINE)[0]["mse"]
    assert len(mse) == 64
    for k in (1, 5, 20):
        pca = PCA(k, svd_solver="full").fit(x)
        expected = np.square(pca.inverse_transform(pca.transform(y)) - y).mean()
        assert mse[k - 1] == pytest.approx(expected, rel=1e-4)
    assert mse[-1] == pytest.approx(0, abs=1e-9)


def test_pca_stops_at_the_dimensions_that_the_images_span():
    x = np.random.default_rng(0).integers(0, 256, (6, 1, 5, 6), np.uint8)
    mean, components = pca.fit(x)
    mse = pca.error_by_dimension(x, mean, components)
    assert len(mse) == 5  # six points span five dimensions about their mean
    assert mse[-1] == pytest.approx(0, abs=1e-7)  # what is left is the rounding of float32


def test_arrays_round_trip_with_the_same_bytes(tmp_path):
    path = tmp_path / "deep" / "a.safetensors"
    given = {"b": np.arange(6).reshape(2, 3)[:, ::-1], "a": np.zeros((0, 2), np.float32)}
    contents = []
    for about in ({"x": 1, "y": ["ü"]}, {"y": ["ü"], "x": 1}):
        arrays.save(path, given, about)
        contents.append(path.read_bytes())
    back, about = arrays.load(path)
    assert about == {"x": 1, "y": ["ü"]}
    assert all(np.array_equal(back[name], given[name]) and back[name].dtype == given[name].dtype for name in given)
    assert contents[0] == contents[1]


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "out"
    files.write(path, b"before")

    def full(_):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write(path, b"after")
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_missing_and_damaged_arrays_are_refused_by_name(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match=r"a.safetensors: not found; run dvc repro"):
        arrays.load(path)
    arrays.save(path, {"a": np.arange(3)})
    with pytest.raises(
        UserError, match=r"a.safetensors: must be a whole safetensors file with b; .*does not contain tensor b"
    ):
        arrays.load(path, "b")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"a.safetensors: must be a whole safetensors file with arrays; "):
        arrays.load(path)


def test_bytes_are_read_as_the_file_is_and_refused_with_one_kind_of_error(tmp_path):
    path = tmp_path / "a.safetensors"
    arrays.save(path, {"a": np.arange(3), "b": np.ones(2)}, {"x": 1})
    content = path.read_bytes()
    held, about = arrays.from_bytes(content, "a")
    assert (list(held), held["a"].tolist(), about) == (["a"], [0, 1, 2], {"x": 1})
    arrays.save(tmp_path / "bf16", {"a": torch.ones(2, dtype=torch.bfloat16)})  # a type that NumPy lacks
    for damaged, name in ((content[:-1], "a"), (content, "c"), (b"", "a"), ((tmp_path / "bf16").read_bytes(), "a")):
        with pytest.raises(ValueError, match=f"must be a whole safetensors file with {name}; "):
            arrays.from_bytes(damaged, name)


def test_metrics_refuse_nan(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        files.write_json(tmp_path / "m.json", {"mse": float("nan")})
    files.write_json(tmp_path / "m.json", {"mse": 0.1 + 0.2})
    assert json.loads((tmp_path / "m.json").read_text())["mse"] == 0.1 + 0.2


def test_each_epoch_has_a_picture_and_a_row_of_loss(copy):
    assert [path.name for path in sorted(train.EPOCHS.iterdir())] == ["epoch_0001.png", "epoch_0002.png"]
    header, *rows = train.LOSS.read_text().splitlines()
    assert header == "epoch,train,valid,learning_rate"
    assert [row.split(",")[0] for row in rows] == ["1", "2"]


LAYOUT = {"a": (np.uint8, (5, 2, 3)), "b": (np.int64, (5,)), "c": (np.float32, (3, 2)), "none": (np.float64, (0, 4))}


def test_arrays_written_in_pieces_are_read_by_safetensors_as_they_are(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "deep" / "a"
    given = {name: (rng.random(shape) * 99).astype(kind) for name, (kind, shape) in LAYOUT.items()}
    with arrays.create(path, LAYOUT, {"x": [1]}) as file:
        for start in range(0, 6, 2):  # pieces of several arrays in turn
            for name in given:
                file.append(name, given[name][start : start + 2])
    held = load_file(path)
    assert held.keys() == given.keys()
    for name, array in given.items():
        assert held[name].dtype == array.dtype
        assert np.array_equal(held[name], array)
        assert np.array_equal(arrays.map_array(path, name), array)
    assert arrays.describe(path) == ({"x": [1]}, set(given))
    assert [entry.name for entry in path.parent.iterdir()] == ["a"]


def test_a_mapped_array_holds_no_copy_and_cannot_be_changed(tmp_path):
    arrays.save(tmp_path / "a", {"x": np.zeros((100, 10), np.uint8)})
    mapped = arrays.map_array(tmp_path / "a", "x")
    assert isinstance(mapped, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 1


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("a", np.zeros((6, 2, 3), np.uint8), "a must be uint8"),
        ("a", np.zeros((1, 3, 2), np.uint8), "a must be uint8"),
        ("b", np.zeros(5), "b must be int64"),
        ("b", np.zeros(4, np.int64), "b must have 5 rows; got 4"),
    ],
)
def test_a_file_with_wrong_rows_or_too_few_does_not_appear(tmp_path, name, rows, message):
    (tmp_path / "a").write_bytes(b"of an earlier run")
    with pytest.raises(ValueError, match=message), arrays.create(tmp_path / "a", LAYOUT) as file:
        file.append(name, rows)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"of an earlier run")]


def test_a_full_disk_is_met_while_pieces_are_written(tmp_path):
    def write():
        with arrays.create(tmp_path / "a", {"x": (np.uint8, (100, 1000))}) as file:
            for _ in range(100):
                file.append("x", np.zeros((1, 1000), np.uint8))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large; 100,\d\d\d bytes could not be written"):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_names_of_any_letters_come_back_for_the_rows_that_are_asked_for(tmp_path):
    names = ["a b.png", "", "日本/ü.png", "new\nline.png", "bad\udcff.png"]
    arrays.save(tmp_path / "raw", packed_file.pack_names(names))
    assert packed_file.read_names(tmp_path / "raw", np.array([4, 2, 3, 1])) == [r"bad\udcff.png", *names[2:4], ""]


def test_damaged_names_are_refused(tmp_path):
    packed = packed_file.pack_names(["ab", "cd"])
    for ends in ([2, 9], [3, 2], [-1, 4], [4]):
        arrays.save(tmp_path / "raw", packed | {"name_ends": np.array(ends)})
        with pytest.raises(UserError, match=r"raw: name_ends must ascend to the length of names"):
            packed_file.read_names(tmp_path / "raw", np.array([1]))
