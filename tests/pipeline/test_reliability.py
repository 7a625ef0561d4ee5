"""Faults and hostile input are refused in one line and leave earlier outputs unchanged. Long runs: tests/stress."""

import io
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
from conftest import ROOT
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stages import baseline, check, download, embed, evaluate, reconstruct, split, train
from stages.autoencoder.core import arrays, files
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data import split_files
from stages.autoencoder.figures import code_figures, score_figures
from stages.autoencoder.figures.base import image_grids
from stages.autoencoder.model import model_file
from stages.autoencoder.model.autoencoder import Autoencoder, Spec
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.train import TrainParams
from stages.autoencoder.sources.dataset import in_memory
from stages.autoencoder.sources.published import idx_files
from stages.autoencoder.training import checkpoint
from stages.autoencoder.training.preparation import prepare
from stages.runtime import command
from tests.stress import fuzz
from tests.support import model_files, stage_folders

ENDED_PROCESS = subprocess.Popen([sys.executable, "--version"], stdout=subprocess.DEVNULL)
ENDED_PROCESS.wait()  # no process has its number now
SPEC = Spec((1, 8, 8), 4, (), (16,), "linear")


@pytest.mark.parametrize("kind", fuzz.TARGETS)
def test_bad_input_is_taken_or_refused_in_one_line(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = fuzz.make_target(kind)

    @settings(
        max_examples=12,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(target.cases)
    def try_each(case):
        fuzz.try_case(target, case)

    try_each()


def flip_bit(content, at):
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


def test_two_writers_never_rename_each_others_file(tmp_path, monkeypatch):
    path, sync = tmp_path / "out", os.fsync

    def write_second(handle):
        monkeypatch.setattr(files.os, "fsync", sync)
        files.write(path, b"of the second")
        assert path.read_bytes() == b"of the second"
        sync(handle)

    monkeypatch.setattr(files.os, "fsync", write_second)
    files.write(path, b"the first one's")
    assert path.read_bytes() == b"the first one's"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_only_files_of_ended_processes_are_removed(tmp_path):
    left, living = tmp_path / f".out.{ENDED_PROCESS.pid}-0a.part", tmp_path / f".out.{os.getpid()}-0a.part"
    other = tmp_path / f".other.{ENDED_PROCESS.pid}-0a.part"
    for path in (left, living, other):
        path.write_bytes(b"half")
    files.write(tmp_path / "out", b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([living, other, tmp_path / "out"])


def test_git_and_dvc_ignore_half_written_files():
    for name in (".gitignore", ".dvcignore"):
        assert ".*.part" in (ROOT / name).read_text().splitlines()


def test_full_disk_is_one_line_and_keeps_earlier_output(workspace):
    folder = workspace()
    files.write(download.RAW, b"of an earlier run")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # bytes; a longer file fails as on a full disk
    try:
        with pytest.raises(SystemExit) as exit_error:
            command.run_main(download.main)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    # 1,797 images of 64 bytes, as many labels of 8 and parts of 1, a digest of 32, and a header
    assert str(exit_error.value).startswith("data/raw.safetensors: File too large; 131,")
    assert str(exit_error.value).endswith(" bytes could not be written; make room or give access, then run again")
    assert download.RAW.read_bytes() == b"of an earlier run"
    assert [path.name for path in (folder / "data").iterdir()] == ["raw.safetensors"]


def test_read_only_folder_is_reported_under_the_output_name(tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)  # Linux refuses this too, though the file does not exist
    with pytest.raises(OSError, match="Read-only file system; 5 bytes could not be written") as read_only_error:
        files.write(tmp_path / "out", b"whole")
    assert read_only_error.value.filename == str(tmp_path / "out")


def test_too_little_memory_is_one_line():
    def run_out_of_memory():
        raise MemoryError("Unable to allocate 9 TiB")

    with pytest.raises(SystemExit, match=r"^memory: must hold the data and the network; Unable to allocate 9 TiB; "):
        command.run_main(run_out_of_memory)


def test_state_with_one_wrong_bit_is_not_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fuzz.write_arrays_params()
    state = fuzz.make_array_files()[-1]
    header = 8 + struct.unpack("<Q", state[:8])[0]
    for at in (header, (header + len(state)) // 2, len(state) - 1, state.index(b"history") + 20):
        Path("state").write_bytes(flip_bit(state, at))
        training = fuzz.prepare_training()
        assert checkpoint.load(Path("state"), "fingerprint", training) is None
        assert training.history == []
    Path("state").write_bytes(state)
    assert checkpoint.load(Path("state"), "fingerprint", fuzz.prepare_training()) is not None


def write_model(folder, **changes):
    """Write a small model file with changes to its spec."""
    path = folder / "model.safetensors"
    model_files.save(path, Autoencoder(SPEC))
    header, about, body = fuzz.take_apart(path.read_bytes())
    about["spec"] |= changes
    header["__metadata__"]["json"] = json.dumps(about)
    path.write_bytes(fuzz.put_together(header, body))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_dim": 10**12}, "spec.latent_dim: Input should be less than or equal to 65536"),
        ({"widths": [65536] * 16}, "a network may have 268,435,456 weights, this one has 128,866,320,484"),
        ({"widths": [1] * 10**5}, "spec.widths: Tuple should have at most 16 items"),
        ({"latent_dim": 5}, r"decoder\.0\.0\.weight must be torch.float32 \(16, 5\); got torch.float32 \(16, 4\)"),
        ({"bottleneck": "top_k", "k": 9}, r"spec.k must be in 1\.\.4; got 9"),
        *(
            ({"bottleneck": "top_k", "k": 3, "encode_k": n}, rf"spec.encode_k must be 0 or in 3\.\.4; got {n}")
            for n in (2, 5)
        ),
        (
            {"bottleneck": "__import__('os')"},
            "spec.bottleneck: Input should be 'linear', 'relu', 'top_k' or 'gaussian'",
        ),
        ({"latent_dim": "4"}, "spec.latent_dim: Input should be a valid integer"),
    ],
)
def test_model_file_of_another_network_is_refused_before_memory_is_taken(tmp_path, changes, message):
    path = write_model(tmp_path, **changes)
    before = fuzz.peak_memory()
    with pytest.raises(UserError, match=f"model.safetensors: must be a model of this project; .*{message}.*train it"):
        model_file.load(path)
    assert fuzz.peak_memory() - before < 100 * 2**20


def test_model_file_of_another_format_is_refused_in_printable_words(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(model_file, "FORMAT", "\x1f")
        path = write_model(tmp_path)
    with pytest.raises(UserError, match=r"model format must be 3; got '\\x1f'; train it again"):
        model_file.load(path)


def test_message_with_control_characters_is_one_printable_line():
    """The message of safetensors repeats the name of a type as it stands in the file."""
    message = str(UserError("m: unknown variant `\x1b[2J\ud7fc\n`,  expected\tU8"))
    assert message == "m: unknown variant `\\x1b[2J\\ud7fc `, expected U8"


def test_model_with_nan_weights_is_refused(tmp_path):
    model = Autoencoder(SPEC)
    with torch.no_grad():
        model.decoder[-2].bias[3] = np.nan
    model_files.save(tmp_path / "m", model)
    with pytest.raises(UserError, match=r"decoder\.1\.bias must hold finite numbers"):
        model_file.load(tmp_path / "m")


def test_train_refuses_a_network_with_too_many_weights(params):
    params["train"] |= {"architecture": "mlp", "mlp": {"widths": [65536] * 3}}
    chosen = TrainParams.model_validate({name: params[name] for name in TrainParams.model_fields})
    with pytest.raises(UserError, match=r"^params.yaml: a network may have 268,435,456 weights, .*lower train.mlp"):
        prepare(chosen, np.zeros((4, 1, 8, 8), np.uint8), np.zeros((4, 1, 8, 8), np.uint8))


def read_idx(content, place):
    return idx_files.IdxFile(place, lambda: io.BytesIO(content), "uint8", (28, 28), 100).read_all()


def test_programs_in_disguise_are_refused_and_not_run(tmp_path, monkeypatch):
    """A pickle and a zip with ../ names as the model, arrays and a file of MNIST; params.yaml with a Python tag."""
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("zip", "w") as archive:
        archive.writestr("../../escaped", "x")
    for content in (fuzz.PICKLE, Path("zip").read_bytes()):
        Path("file").write_bytes(content)
        for load in (model_file.load, arrays.load):
            with pytest.raises(UserError, match="file: must be a whole safetensors file"):
                load(Path("file"))
        with pytest.raises(UserError, match="must be one whole gzip file"):
            read_idx(content, "file")
    tagged = fuzz.PARAMS + "extra: !!python/object/apply:os.system ['touch pwned']\n"
    Path("params.yaml").write_text(tagged)
    with pytest.raises(
        UserError, match=r"could not determine a constructor for the tag.*python/object/apply:os.system"
    ):
        check.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "params.yaml", "zip"]
    assert not (tmp_path.parent / "escaped").exists()
    assert not (tmp_path.parent.parent / "escaped").exists()


GOOD_PART = {"labels": np.array([0, 1, 2, 0, 1, 2]), "index": np.arange(6)}
GOOD_RAW = {
    "images": np.zeros((6, 1, 8, 8), np.uint8),
    "labels": GOOD_PART["labels"],
    "parts": np.zeros(6, np.uint8),
    "digest": np.zeros(32, np.uint8),
}
FITTING = {"size": [8, 8], "fit": "crop", "colour": "grey", "background": "black", "exact": True}
DESCRIPTION = {"class_names": ["a", "b", "c"], "normal_classes": [], "fitting": FITTING}


@pytest.mark.parametrize(
    ("array_changes", "description_changes", "message"),
    [
        ({"labels": np.arange(5) % 3}, {}, "its arrays must be of one length; got 5 labels, 6 index"),
        ({"labels": np.full(6, 3)}, {}, r"labels must be in 0\.\.2; got 3\.\.3"),
        ({"labels": np.full(6, -1)}, {}, r"labels must be in 0\.\.2; got -1\.\.-1"),
        ({"labels": np.zeros(6)}, {}, "labels must be int64 of 1 dimensions, none of them 0; got float64"),
        ({"labels": GOOD_PART["labels"][:0], "index": GOOD_PART["index"][:0]}, {}, "labels must be int64 of 1 dim"),
        ({"index": np.arange(1, 7)}, {}, r"index must be in 0\.\.5; got 1\.\.6"),
        ({"index": np.array([0, 1, 2, 3, 4, 4])}, {}, "index must name each image once"),
        ({}, {"class_names": ["a", "b\n", "c"]}, "class_names must be a list of printable texts"),
        ({}, {"class_names": "abc"}, "class_names must be a list of printable texts"),
        ({}, {"normal_classes": [1]}, "normal_classes must be a list of printable texts"),
        ({}, {"normal_classes": None}, "normal_classes must be a list of printable texts"),
        ({}, {"fitting": None}, "fitting: Input should be an object"),
        ({}, {"fitting": FITTING | {"fit": "cut"}}, "fitting: fit: Input should be 'crop', 'pad' or 'stretch'"),
        ({}, {"fitting": FITTING | {"size": [8, 7]}}, r"fitting must be that of images \(1, 8, 8\); got \(1, 8, 7\)"),
    ],
)
def test_images_and_labels_that_disagree_are_refused(tmp_path, array_changes, description_changes, message):
    part, raw = tmp_path / "part", tmp_path / "raw"
    arrays.save(raw, GOOD_RAW, DESCRIPTION)
    arrays.save(part, GOOD_PART | array_changes, DESCRIPTION | {"images": "00" * 32} | description_changes)
    with pytest.raises(UserError, match=f"part: {message}.*delete it and run dvc repro"):
        split_files.load(part, raw)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((6, 8, 8), np.uint8)}, r"images must be uint8 of 4 dimensions.*got uint8 \(6, 8, 8\)"),
        ({"images": np.zeros((6, 1, 0, 8), np.uint8)}, r"images must be uint8 of 4 dimensions, none of them 0; got"),
        ({"images": np.zeros((6, 1, 8, 8), np.int64)}, r"images must be uint8 of 4 dimensions, none of them 0; got"),
        ({"digest": np.zeros(31, np.uint8)}, r"digest must be 32 bytes; got 31"),
    ],
)
def test_packed_images_that_are_none_are_refused(tmp_path, changes, message):
    arrays.save(tmp_path / "raw", GOOD_RAW | changes, DESCRIPTION)
    arrays.save(tmp_path / "part", GOOD_PART, DESCRIPTION | {"images": "00" * 32})
    with pytest.raises(UserError, match=f"raw: {message}.*run dvc repro"):
        split_files.load(tmp_path / "part", tmp_path / "raw")


def test_a_part_of_other_images_is_refused(tmp_path):
    arrays.save(tmp_path / "raw", GOOD_RAW, DESCRIPTION)
    arrays.save(tmp_path / "part", GOOD_PART, DESCRIPTION | {"images": "11" * 32})
    with pytest.raises(UserError, match=r"part: must be made from .*raw; got one made from other images; run dvc"):
        split_files.load(tmp_path / "part", tmp_path / "raw")


HOSTILE_NAMES = ["../../up", "/etc/passwd", "$x^{$ <b>", "日本"]  # a path, a formula, markup, signs that the font lacks


@pytest.mark.filterwarnings("ignore:Glyph")  # matplotlib warns and draws a box
def test_class_names_never_become_paths(workspace):
    folder = workspace({"embed": {"map": "none"}})
    stage_folders.make(folder)
    for part in ("train", "test"):
        path = folder / f"data/split/{part}.safetensors"
        part_arrays, about = arrays.load(path)
        arrays.save(path, part_arrays, about | {"class_names": HOSTILE_NAMES})
    around = sorted(folder.parent.iterdir())
    stage_folders.run()
    assert sorted(folder.parent.iterdir()) == around
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert not [name for name in names if any(part in name for part in ("up", "etc", "passwd", "x^", "日本"))]
    assert "../../up" in Path("plots/per_class.csv").read_text()


@pytest.fixture
def no_figures(monkeypatch):
    drawers = [(image_grids, "save_rows"), (code_figures, "save_map"), (code_figures, "save_dimensions")]
    drawers += [(score_figures, name) for name in ("save_errors", "save_pca_curve", "save_code_scores")]
    for module, name in drawers:
        monkeypatch.setattr(module, name, lambda *_, **__: None)


def make_odd_images(name):
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


MISSING_SCORES = {  # that the stages leave out of the metrics; twonn needs more than the 12 test images
    "all alike": {"knn", "probe", "kmeans", "nmi", "trust", "twonn", "participation", "pca_ratio"},
    "duplicates": {"trust", "twonn", "pca_ratio"},
    "one class": {"knn", "probe", "kmeans", "nmi", "trust", "twonn"},
    "more dimensions than images": {"trust", "twonn"},
}


@pytest.mark.parametrize("name", MISSING_SCORES)
def test_odd_images_give_finite_scores_or_none(name, workspace, no_figures, caplog):
    caplog.set_level("INFO")
    dims = 50 if name == "more dimensions than images" else 4  # 43 train
    workspace({"latent_dim": dims, "train": {"epochs": 1}, "embed": {"map": "none"}})
    images, labels = make_odd_images(name)
    stage_folders.save_raw(Path(), in_memory(images, labels, "abc", 0))
    for stage in (split, baseline, train, reconstruct, embed, evaluate):
        stage.main()
    metrics = stage_folders.metrics()  # refuses NaN and infinity
    assert set(stage_folders.EVERY) - set(metrics) == MISSING_SCORES[name]
    assert all(f"no {missing}" in caplog.text or f", {missing}" in caplog.text for missing in MISSING_SCORES[name])
    output = arrays.load(evaluate.RECONSTRUCTIONS)[0]["output"]
    clean = stage_folders.read_images() / np.float32(255)
    assert metrics["mse"] == pytest.approx(np.square(output - clean, dtype=float).mean(), rel=1e-6)


def test_model_that_gives_nan_is_one_line_and_no_metrics(workspace, no_figures):
    folder = workspace({"embed": {"map": "none"}})
    model = stage_folders.make(folder)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.fill_(3e38)  # finite, but the sum of two is infinite
    model_files.save(reconstruct.MODEL, model)
    for stage in (reconstruct, embed):
        with pytest.raises(UserError, match=r"^model: must give finite numbers"):
            stage.main()
    assert sorted(path.name for path in (folder / "data").iterdir()) == [
        "model.safetensors",
        "raw.safetensors",
        "split",
    ]


@given(st.binary(max_size=300))
@settings(max_examples=100, derandomize=True, database=None, deadline=None)
def test_random_bytes_are_never_an_idx_file(content):
    with pytest.raises(UserError):
        read_idx(content, "noise")


def test_pipe_in_place_of_params_is_refused():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        os.mkfifo(path)
        with pytest.raises(UserError, match=r"params.yaml: must be a file; got a folder, a pipe or a device"):
            loader.read_yaml(path)
