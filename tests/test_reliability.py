"""Faults and hostile input: what is refused in one line, what stays as it was. Long runs: tools.{fuzz,faults,power}."""

import hashlib
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import worlds
from conftest import ROOT
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stages import baseline, download, embed, evaluate, reconstruct, split, train
from stages.autoencoder import arrays, errors, idx, latent_figures, model, parts, pictures, score_figures
from stages.autoencoder.errors import UserError
from tools import bad_input, fuzz, mend

ENDED = subprocess.Popen([sys.executable, "--version"], stdout=subprocess.DEVNULL)
ENDED.wait()  # its number is that of no process now


@pytest.mark.parametrize("kind", fuzz.OUTPUTS)
def test_bad_input_is_taken_or_refused_in_one_line_and_changes_nothing(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cases, trial = fuzz.prepare(kind)

    @settings(
        max_examples=12,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def each(case):
        fuzz.attempt(kind, trial, case)

    each()


def flipped(content, at):
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


def test_two_writers_of_one_file_never_finish_each_others_work(tmp_path, monkeypatch):
    path, sync = tmp_path / "out", os.fsync

    def meanwhile(handle):
        monkeypatch.setattr(arrays.os, "fsync", sync)
        arrays.write(path, b"of the second")
        assert path.read_bytes() == b"of the second"
        sync(handle)

    monkeypatch.setattr(arrays.os, "fsync", meanwhile)
    arrays.write(path, b"the first one's")
    assert path.read_bytes() == b"the first one's"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_process_left_half_written_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    left, living = tmp_path / f".out.{ENDED.pid}-0a.part", tmp_path / f".out.{os.getpid()}-0a.part"
    other = tmp_path / f".other.{ENDED.pid}-0a.part"
    for path in (left, living, other):
        path.write_bytes(b"half")
    arrays.write(tmp_path / "out", b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([living, other, tmp_path / "out"])


def test_half_written_files_are_no_part_of_a_result():
    for name in (".gitignore", ".dvcignore"):
        assert ".*.part" in (ROOT / name).read_text().splitlines()


def test_a_full_disk_costs_one_line_with_path_and_need_and_no_earlier_output(workspace):
    folder = workspace()
    arrays.write(download.RAW, b"of an earlier run")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # no file may be longer, as on a disk that is full
    try:
        with pytest.raises(SystemExit) as ended:
            errors.run(download.main)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    # 1,797 images of 64 bytes, as many labels of 8, and a header
    assert str(ended.value).startswith("data/raw.safetensors: File too large; 129,")
    assert str(ended.value).endswith(" bytes are to be written; make room or give access, then run again")
    assert download.RAW.read_bytes() == b"of an earlier run"
    assert [path.name for path in (folder / "data").iterdir()] == ["raw.safetensors"]


def test_a_folder_that_is_read_only_is_named_by_the_output_and_not_by_its_temporary_file(tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)  # so does Linux, though the file is not there
    with pytest.raises(OSError, match="Read-only file system; 5 bytes are to be written") as refused:
        arrays.write(tmp_path / "out", b"whole")
    assert refused.value.filename == str(tmp_path / "out")


def test_memory_that_does_not_suffice_is_one_line():
    def hungry():
        raise MemoryError("Unable to allocate 9 TiB")

    with pytest.raises(SystemExit, match=r"^memory: must suffice for data and network; Unable to allocate 9 TiB; "):
        errors.run(hungry)


def test_an_unfinished_training_with_one_wrong_bit_is_not_taken_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(fuzz.CONFIG["arrays"])
    whole = fuzz.sets()[-1]
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    for at in (header, (header + len(whole)) // 2, len(whole) - 1, whole.index(b"history") + 20):
        Path("state").write_bytes(flipped(whole, at))
        training = fuzz.prepared()
        assert train.checkpoint.load(Path("state"), "mark", training) is None
        assert training.history == []
    Path("state").write_bytes(whole)
    assert train.checkpoint.load(Path("state"), "mark", fuzz.prepared()) is not None


def a_model(folder, **changes):
    """A small model file whose spec has these changes."""
    path = folder / "model.safetensors"
    worlds_model = model.Autoencoder(model.Spec((1, 8, 8), 4, (), (16,), "linear"))
    model.save(path, worlds_model, {"corruption": None})
    header, about, body = bad_input.taken_apart(path.read_bytes())
    about["spec"] |= changes
    header["__metadata__"]["json"] = json.dumps(about)
    path.write_bytes(bad_input.put_together(header, body))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_dim": 10**12}, "spec.latent_dim: Input should be less than or equal to 65536"),
        ({"widths": [65536] * 16}, "a network may have 268,435,456 weights, this one has 128,866,320,484"),
        ({"widths": [1] * 10**5}, "spec.widths: Tuple should have at most 16 items"),
        ({"latent_dim": 5}, r"decoder\.0\.0\.weight must be torch.float32 \(16, 5\); got torch.float32 \(16, 4\)"),
        ({"bottleneck": "top_k", "k": 9}, r"spec.k must be in 1\.\.4; got 9"),
        (
            {"bottleneck": "__import__('os')"},
            "spec.bottleneck: Input should be 'linear', 'relu', 'top_k' or 'gaussian'",
        ),
        ({"latent_dim": "4"}, "spec.latent_dim: Input should be a valid integer"),
    ],
)
def test_a_model_file_that_asks_for_another_network_is_refused_before_memory_is_taken(tmp_path, changes, message):
    path = a_model(tmp_path, **changes)
    before = fuzz.peak()
    with pytest.raises(UserError, match=f"model.safetensors: must be a model of this project; .*{message}.*train it"):
        model.load(path)
    assert fuzz.peak() - before < 100 * 2**20


def test_a_model_file_of_another_format_is_refused_in_printable_words(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(model, "FORMAT", "\x1f")
        path = a_model(tmp_path)
    with pytest.raises(UserError, match=r"model format must be 1; got '\\x1f'; train it again"):
        model.load(path)


def test_what_a_message_quotes_is_one_printable_line():
    """A file may name a type by a control sequence, which safetensors' own message hands on."""
    message = str(UserError("m: unknown variant `\x1b[2J\ud7fc\n`,  expected\tU8"))
    assert message == "m: unknown variant `\\x1b[2J\\ud7fc `, expected U8"


def test_a_model_whose_weights_are_no_numbers_is_refused(tmp_path):
    made = model.Autoencoder(model.Spec((1, 8, 8), 4, (), (16,), "linear"))
    with torch.no_grad():
        made.decoder[-2].bias[3] = np.nan
    model.save(tmp_path / "m", made, {"corruption": None})
    with pytest.raises(UserError, match=r"decoder\.1\.bias must hold finite numbers"):
        model.load(tmp_path / "m")


def test_a_network_that_no_machine_holds_is_refused_by_the_stage_train(params):
    params["train"] |= {"architecture": "mlp", "mlp": {"widths": [65536] * 3}}
    chosen = train.TrainParams.model_validate({name: params[name] for name in train.TrainParams.model_fields})
    with pytest.raises(UserError, match=r"^params.yaml: a network may have 268,435,456 weights, .*lower train.mlp"):
        train.prepare(chosen, np.zeros((4, 1, 8, 8), np.uint8), np.zeros((4, 1, 8, 8), np.uint8))


def test_programs_in_disguise_are_refused_and_not_run(tmp_path, monkeypatch):
    """A pickle and a zip with ../ names, as model file, as arrays and as a file of MNIST; a YAML with a python tag."""
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("zip", "w") as archive:
        archive.writestr("../../escaped", "x")
    for content in (bad_input.PICKLE, Path("zip").read_bytes()):
        Path("file").write_bytes(content)
        for load in (model.load, arrays.load):
            with pytest.raises(UserError, match="file: must be a whole safetensors file"):
                load(Path("file"))
        with pytest.raises(UserError, match="must be one whole gzip file"):
            idx.read(content, "file", "uint8", (28, 28))
    tagged = bad_input.PARAMS + "extra: !!python/object/apply:os.system ['touch pwned']\n"
    Path("params.yaml").write_text(tagged)
    with pytest.raises(
        UserError, match=r"could not determine a constructor for the tag.*python/object/apply:os.system"
    ):
        fuzz.check.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "params.yaml", "zip"]
    assert not (tmp_path.parent / "escaped").exists()
    assert not (tmp_path.parent.parent / "escaped").exists()


WHOLE = {
    "images": np.zeros((6, 1, 8, 8), np.uint8),
    "labels": np.array([0, 1, 2, 0, 1, 2]),
    "index": np.arange(6),
}
NAMED = {"class_names": ["a", "b", "c"], "normal_classes": []}


@pytest.mark.parametrize(
    ("changes", "named", "message"),
    [
        ({"labels": np.arange(5) % 3}, {}, "its arrays must be of one length; got 6 images, 5 labels, 6 index"),
        ({"labels": np.full(6, 3)}, {}, r"labels must be in 0\.\.2; got 3\.\.3"),
        ({"labels": np.full(6, -1)}, {}, r"labels must be in 0\.\.2; got -1\.\.-1"),
        ({"labels": np.zeros(6)}, {}, "labels must be int64 of 1 dimensions, none of them 0; got float64"),
        ({"images": np.zeros((6, 8, 8), np.uint8)}, {}, r"images must be uint8 of 4 dimensions.*got uint8 \(6, 8, 8\)"),
        (
            {"images": np.zeros((6, 1, 0, 8), np.uint8)},
            {},
            r"images must be uint8 of 4 dimensions, none of them 0; got",
        ),
        ({}, {"class_names": ["a", "b\n", "c"]}, "class_names must be a list of printable texts"),
        ({}, {"class_names": "abc"}, "class_names must be a list of printable texts"),
        ({}, {"normal_classes": ["a"]}, "normal_classes must be a list of class numbers"),
        ({}, {"normal_classes": None}, "normal_classes must be a list of class numbers"),
        ({}, {"published_test": 6}, "published_test must be a number of images below 6"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(tmp_path, changes, named, message):
    path = tmp_path / "part"
    arrays.save(path, WHOLE | changes, NAMED | named)
    with pytest.raises(UserError, match=f"part: {message}.*delete it and run dvc repro"):
        parts.in_file_order(path, *WHOLE)


HOSTILE = ["../../up", "/etc/passwd", "$x^{$ <b>", "日本"]  # no path, no formula, no markup, no sign of the font


@pytest.mark.filterwarnings("ignore:Glyph")  # matplotlib draws a box
def test_names_of_classes_are_only_text_and_never_a_path(workspace):
    folder = workspace({"embed": {"map": "none"}})
    worlds.make(folder)
    for part in ("train", "test"):
        path = folder / f"data/split/{part}.safetensors"
        held, about = arrays.load(path)
        arrays.save(path, held, about | {"class_names": HOSTILE})
    around = sorted(folder.parent.iterdir())
    worlds.run()
    assert sorted(folder.parent.iterdir()) == around
    made = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert not [name for name in made if any(part in name for part in ("up", "etc", "passwd", "x^", "日本"))]
    assert "../../up" in Path("plots/per_class.csv").read_text()


@pytest.fixture
def undrawn(monkeypatch):
    drawers = [(pictures, "save_rows"), (latent_figures, "save_map"), (latent_figures, "save_dimensions")]
    drawers += [(score_figures, name) for name in ("save_errors", "save_curve", "save_codes")]
    for module, name in drawers:
        monkeypatch.setattr(module, name, lambda *given, **named: None)


def odd_images(name):
    """60 images, uint8 (60, 1, 8, 8), and their labels."""
    images = np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8), np.uint8)
    labels = np.arange(60) % 3
    if name == "all alike":
        images[:] = images[0]
    elif name == "duplicates":
        images[:] = images[labels]
    elif name == "one class":
        labels[:] = 0
    return images, labels


ABSENT = {  # what the stages leave out of the metrics
    "all alike": {"knn", "probe", "kmeans", "nmi", "trust", "pca_ratio"},
    "duplicates": {"trust", "pca_ratio"},
    "one class": {"knn", "probe", "kmeans", "nmi", "trust"},
    "more dimensions than images": {"trust"},
}


@pytest.mark.parametrize("name", ABSENT)
def test_odd_images_go_through_all_stages_with_finite_numbers_or_none(name, workspace, undrawn, caplog):
    caplog.set_level("INFO")
    dims = 50 if name == "more dimensions than images" else 4  # 43 train
    workspace({"latent_dim": dims, "train": {"epochs": 1}, "embed": {"map": "none"}})
    images, labels = odd_images(name)
    arrays.save(split.RAW, {"images": images, "labels": labels}, NAMED | {"published_test": 0})
    for stage in (split, baseline, train, reconstruct, embed, evaluate):
        stage.main()
    found = worlds.metrics()  # NaN and infinity are refused there
    assert set(worlds.EVERY) - set(found) == ABSENT[name]
    assert all(f"no {missing}" in caplog.text or f", {missing}:" in caplog.text for missing in ABSENT[name])
    output = arrays.load(evaluate.RECONSTRUCTIONS)[0]["output"]
    clean = arrays.load(evaluate.TEST)[0]["images"] / np.float32(255)
    assert found["mse"] == pytest.approx(np.square(output - clean, dtype=float).mean(), rel=1e-6)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_too_few_images_to_split_are_refused(count, workspace):
    workspace()
    images, labels = odd_images("")
    arrays.save(split.RAW, {"images": images[:count], "labels": labels[:count]}, NAMED | {"published_test": 0})
    with pytest.raises(UserError, match=r"^params.yaml: split.test must leave images of each class on both sides"):
        split.main()


def test_a_model_that_gives_no_numbers_ends_in_one_line_and_no_metrics(workspace, undrawn):
    folder = workspace({"embed": {"map": "none"}})
    made = worlds.make(folder)
    with torch.no_grad():
        for tensor in made.parameters():
            tensor.fill_(3e38)  # finite, and infinite as soon as two are added
    model.save(reconstruct.MODEL, made, {"corruption": None})
    for stage in (reconstruct, embed):
        with pytest.raises(UserError, match=r"^model: must give finite numbers"):
            stage.main()
    assert sorted(path.name for path in (folder / "data").iterdir()) == ["model.safetensors", "split"]


@given(st.binary(max_size=300))
@settings(max_examples=100, derandomize=True, database=None, deadline=None)
def test_no_bytes_are_taken_for_an_idx_file_by_chance(content):
    with pytest.raises(UserError):
        idx.read(content, "noise", "uint8", (28, 28))


def test_a_pipe_in_the_place_of_params_is_not_waited_for():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        os.mkfifo(path)
        with pytest.raises(UserError, match=r"params.yaml: must be a file; got a folder, a pipe or a device"):
            fuzz.check.reading.read_yaml(path)


def test_mend_removes_from_the_cache_what_is_not_what_its_name_says(tmp_path):
    """As a loss of power leaves it: cut, empty, exchanged; and an empty entry of the cache of runs."""
    whole, other = b"[]", b"something else"
    contents = {"whole": (whole, whole), "folder": (whole, whole), "cut": (other, other[:5]), "empty": (b"no", b"")}
    paths = {}
    for name, (meant, _) in contents.items():
        digest = hashlib.md5(meant, usedforsecurity=False).hexdigest()
        ending = ".dir" if name == "folder" else ""
        paths[name] = tmp_path / mend.OBJECTS / digest[:2] / (digest[2:] + ending)
    paths |= {"run": tmp_path / mend.RUNS / "0a/b/c", "empty run": tmp_path / mend.RUNS / "0a/b/d"}
    contents |= {"run": (b"", b"outs: []"), "empty run": (b"", b"")}
    for name, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[name][1])
    assert set(mend.damaged(tmp_path)) == {paths["cut"], paths["empty"], paths["empty run"]}
    assert not list(mend.hollow(tmp_path))
    paths["run"].unlink()
    paths["empty run"].unlink()
    assert list(mend.hollow(tmp_path)) == [tmp_path / mend.RUNS / "0a/b"]


@pytest.mark.parametrize(("content", "spoilt"), [(b"", True), (b"\x00" * 512, True), (b"schema: '2.0'\n", False)])
def test_mend_removes_a_lock_file_that_dvc_would_stop_at(tmp_path, content, spoilt):
    (tmp_path / "dvc.lock").write_bytes(content)
    assert list(mend.unreadable(tmp_path)) == [tmp_path / "dvc.lock"] * spoilt
