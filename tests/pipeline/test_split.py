"""Split, baseline and arrays."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from stages import baseline, split, train
from stages.autoencoder.core import arrays, files
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.params.split import Split
from stages.autoencoder.scores import pca


def chosen(**changes):
    return Split(**({"seed": 0, "valid": 0.1, "test": 0.2, "normal_classes": []} | changes))


LABELS = np.repeat(np.arange(4), 50)
NAMES = list("abcd")


@pytest.mark.parametrize("published", [0, 40])
@pytest.mark.parametrize("normal", [[], [1, 3]])
def test_parts_are_disjoint_and_stratified(published, normal):
    labels = np.random.default_rng(0).permutation(LABELS)
    parts = split.split(labels, published, chosen(normal_classes=normal), NAMES)
    together = np.concatenate(list(parts.values()))
    assert len(together) == len(set(together.tolist()))
    assert len(parts["test"]) == 40
    if published:
        assert parts["test"].tolist() == list(range(160, 200))
    if normal:
        assert set(labels[parts["train"]]) == set(labels[parts["valid"]]) == set(normal)
        assert set(labels[parts["test"]]) == {0, 1, 2, 3}
    else:
        assert len(together) == 200
        counts = Counter(labels[parts["valid"]].tolist())
        assert max(counts.values()) - min(counts.values()) <= 1


def test_the_split_has_its_own_seed():
    same = [split.split(LABELS, 0, chosen(seed=3), NAMES)["test"] for _ in range(2)]
    other = split.split(LABELS, 0, chosen(seed=4), NAMES)["test"]
    assert same[0].tolist() == same[1].tolist() != other.tolist()


def test_a_missing_class_and_a_class_too_small_are_refused():
    with pytest.raises(UserError, match=r"split.normal_classes must be .* 0 to 3; got 7"):
        split.split(LABELS, 0, chosen(normal_classes=[1, 7]), NAMES)
    with pytest.raises(UserError, match=r"split.test must leave images of each class on both sides; got 0.001"):
        split.split(LABELS, 0, chosen(test=0.001), NAMES)


def test_parts_hold_the_images_of_their_indices(copy):
    raw = arrays.load(split.RAW)[0]
    for name in ("train", "valid", "test"):
        part = arrays.load(split.SPLIT / f"{name}.safetensors")[0]
        assert np.array_equal(part["images"], raw["images"][part["index"]])
        assert np.array_equal(part["labels"], load_digits().target[part["index"]])


def test_pca_errors_are_those_of_scikit_learn_at_each_dimension(copy):
    train_part, test_part = (arrays.load(path, "images")[0]["images"] for path in (baseline.TRAIN, baseline.TEST))
    x, y = (part.reshape(len(part), -1) / 255 for part in (train_part, test_part))
    mse = arrays.load(baseline.BASELINE)[0]["mse"]
    assert len(mse) == 64
    for k in (1, 5, 20):
        pca = PCA(k, svd_solver="full").fit(x)
        expected = np.square(pca.inverse_transform(pca.transform(y)) - y).mean()
        assert mse[k - 1] == pytest.approx(expected, rel=1e-4)
    assert mse[-1] == pytest.approx(0, abs=1e-9)


def test_pca_stops_at_the_dimensions_that_the_images_span():
    x = np.random.default_rng(0).random((6, 30), dtype=np.float32)
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
