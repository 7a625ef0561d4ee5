"""Benchmarks: the limit, the ratios, the programs beside ours; and costs that no stage may have."""

import json
import shutil
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT

from benchmarks import decoding, roofline, training
from stages.autoencoder.model.autoencoder import Autoencoder, Spec
from stages.autoencoder.model.layers.dense import Dense
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.download import DownloadParams
from stages.autoencoder.scores import reconstruction


@pytest.mark.parametrize("widths", [(512,), (100, 50)])
def test_operations_of_a_step_equal_a_count_by_hand(widths):
    """Three products a layer: forward, gradient of the input, gradient of the weights; images need no gradient."""
    model = Autoencoder(Spec((1, 28, 28), 16, (), widths, "linear"))
    sizes = (784, *widths, 16, *reversed(widths), 784)
    products = [2 * a * b for a, b in pairwise(sizes)]
    assert roofline.count_operations(model, 8) == 3 * sum(products) - products[0]


def test_both_libraries_multiply_alike():
    x, weight, gradient = torch.rand(8, 5), torch.rand(3, 5), torch.rand(8, 3)
    expected = (x @ weight.t(), gradient @ weight, gradient.t() @ x)
    for products in roofline.layer_products(x, weight, gradient).values():
        for multiply, result in zip(products, expected, strict=True):
            torch.testing.assert_close(multiply(), result)


def test_other_programs_train_the_same_network_in_torch_layers():
    from benchmarks.contenders import use_torch_layers

    model = Autoencoder(Spec((1, 28, 28), 3, (4,), (20,), "linear")).eval()
    images = torch.rand(6, 1, 28, 28)
    before = model(images)
    assert any(isinstance(layer, Dense) for layer in model.modules())
    use_torch_layers(model)
    assert not any(isinstance(layer, Dense) for layer in model.modules())
    torch.testing.assert_close(model(images), before)


def test_train_imports_no_compiler_and_no_package_of_other_stages():
    """torch's compiler takes as long to import as torch, and use_deterministic_algorithms imports it."""
    code = """
import sys
from stages import reconstruct, train
from stages.autoencoder.model import devices
devices.prepare("cpu", "portable")
print(*{"torch._inductor", "torchvision", "pandas", "sklearn", "scipy", "matplotlib", "umap"} & set(sys.modules))
"""
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split() == []


def test_scores_in_batches_equal_scores_of_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    output, clean = rng.random((10, 1, 8, 8), np.float32), rng.integers(0, 256, (10, 1, 8, 8), np.uint8)
    whole = reconstruction.mse_per_image(output, clean / np.float32(255))
    monkeypatch.setattr(reconstruction, "BATCH_SIZE", 3)
    assert np.array_equal(reconstruction.score_in_batches(reconstruction.mse_per_image, output, clean), whole)


def test_child_process_gets_its_arguments_and_folder(tmp_path):
    call = "json.dump([sys.argv[1:], str(contenders.Path.cwd())], sys.stdout)"  # contenders imports json and Path
    shutil.copy(ROOT / "params.yaml", tmp_path)
    assert json.loads(training.run_in_child(call, "a", folder=tmp_path)) == [["a"], str(tmp_path)]


def make_trial(turn: int, program: str, epochs: float, seconds: float, error: float = 0.1) -> dict:
    """A row of run_trials, 100 images an epoch; 9 GFLOP/s at best, 0.1 GFLOP an image."""
    row = {"turn": turn, "network": "small", "program": program, "precision": "fp32", "epochs": epochs}
    row |= {"seconds": seconds, "images": 100 * epochs, "memory": 1.0, "mse": error}
    return row | {"operations": 1e8, "rates": [[16, 512, "linear", 9.0, 1.0, 2.0]]}


def summarise(trials: list[dict]) -> pd.DataFrame:
    return training.summarise(pd.DataFrame(trials))


def test_ratio_is_our_speed_over_that_of_the_row():
    rows = [("ours", 1, 1.0), ("textbook", 1, 2.0), ("ours", 0.5, 0.25)]
    trials = [
        make_trial(turn, *row, seconds * slowdown) for turn, slowdown in enumerate((1, 2, 9)) for *row, seconds in rows
    ]
    table = summarise(trials).set_index(["program", "epochs"])
    assert table["speed"].to_dict() == {("ours", 1): 50, ("textbook", 1): 25, ("ours", 0.5): 100}
    assert table["ratio"].to_dict() == {("ours", 1): 1, ("textbook", 1): 2, ("ours", 0.5): 0.5}
    assert table.loc[("ours", 1), "machine_limit"] == 90  # 9 GFLOP/s over 0.1 GFLOP an image
    assert table.loc[("ours", 1), "share"] == 50 / 90


@pytest.mark.parametrize(("error", "ratio"), [(0.2, 6), (0.1, 3), (0.05, 1.5), (0.04, None)])
def test_time_to_equal_error_takes_the_fewest_of_our_epochs_that_reach_it(error, ratio):
    """Ours has 0.2, 0.1, 0.05 after 1, 2, 4 epochs of a second each; pythae needs six seconds for its error."""
    ours = [("ours", epochs, epochs, mse) for epochs, mse in ((4, 0.05), (2, 0.1), (1, 0.2))]
    trials = [
        make_trial(turn, name, epochs, seconds * slowdown, mse)
        for turn, slowdown in enumerate((1, 2, 9))
        for name, epochs, seconds, mse in (*ours, ("pythae", 4, 6, error))
    ]
    time_to_equal_error = summarise(trials).set_index("program").loc["pythae", "time_to_equal_error"]
    assert np.isnan(time_to_equal_error) if ratio is None else time_to_equal_error == ratio


def test_time_to_equal_error_takes_the_optimizer_that_gets_there_first():
    rows = [("ours", 4, 4.0, 0.05), ("muon", 2, 3.0, 0.06), ("muon", 1, 1.5, 0.2), ("pythae", 4, 6.0, 0.06)]
    trials = [make_trial(turn, *row) for turn in range(3) for row in rows]
    assert summarise(trials).set_index("program").loc["pythae", "time_to_equal_error"] == 2


def test_ratio_compares_trials_of_the_same_turn():
    program_times = {"ours": (1.0, 3.0, 1.0), "textbook": (2.0, 6.0, 6.0)}  # 2, 2 and 6 times; of the medians, 6 times
    trials = [
        make_trial(turn, name, 1, seconds)
        for name, times in program_times.items()
        for turn, seconds in enumerate(times)
    ]
    assert summarise(trials).set_index("program")["ratio"].to_dict() == {"ours": 1, "textbook": 2}


def test_our_programs_alone_make_a_table():
    assert "mlp 784-512-16" in training.to_markdown(summarise([make_trial(0, "ours", 3, 1.0)]))


@pytest.mark.parametrize(
    "command",
    [
        ["benchmarks.training"],
        ["benchmarks.pipeline", "stages"],
        ["benchmarks.decoding"],
        ["benchmarks.onnx_speed"],
        ["benchmarks.explorer"],
    ],
)
def test_zero_repeats_are_refused(command):
    completed = subprocess.run(
        [sys.executable, "-m", *command, "--repeat", "0"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (completed.returncode, completed.stderr) == (1, f"{command[0]}: --repeat must be at least 1; got 0\n")


def test_images_to_decode_are_the_same_ones_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "FILES", 12)
    contents = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        decoding.make_images(folder, 20)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        contents.append({path.relative_to(folder).as_posix(): path.read_bytes() for path in paths})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 20
    assert len(set(contents[0].values())) == 12  # the others are links
    assert {name.rpartition(".")[2] for name in contents[0]} == {"png", "jpg"}


def test_both_readers_give_the_same_pictures(tmp_path, monkeypatch):
    """In the same order; torchvision enlarges and reduces by another filter, and knows no faster decoding of JPEG."""
    decoding.prepare(tmp_path / "images", 24)
    monkeypatch.chdir(tmp_path / "images")
    params = loader.load(DownloadParams)
    ours = np.concatenate(list(decoding.read_ours(params))).astype(int)
    theirs = np.concatenate(list(decoding.read_torchvision(params, workers=0)))
    assert ours.shape == theirs.shape == (24, 3, 64, 64)
    assert np.abs(ours - theirs).mean(axis=(1, 2, 3)).max() < 6


def test_memory_of_decoding_includes_its_processes(tmp_path):
    row = decoding.measure_memory(tmp_path / "images", 40)
    assert row["images"] == 40
    assert 20 < row["MiB"] < 500
    assert row["MiB of children"] > 10
