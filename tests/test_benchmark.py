"""Speed: what counts as the limit, and what no stage spends time on. Times themselves: docs/performance.md."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT

from stages import evaluate
from stages.autoencoder import networks, scores
from stages.autoencoder.model import Autoencoder, Spec
from tools import limit


@pytest.mark.parametrize("widths", [(512,), (100, 50)])
def test_operations_of_a_step_are_those_counted_by_hand(widths):
    """Each product three times, forward, for the input, for the weights; nobody asks for the images' gradient."""
    model = Autoencoder(Spec((1, 28, 28), 16, (), widths, "linear"))
    sizes = (784, *widths, 16, *reversed(widths), 784)
    products = [2 * a * b for a, b in pairwise(sizes)]
    assert limit.operations(model, 8) == 3 * sum(products) - products[0]


def test_products_of_both_libraries_are_the_same_numbers():
    x, w, g = torch.rand(8, 5), torch.rand(3, 5), torch.rand(8, 3)
    expected = (x @ w.t(), g @ w, g.t() @ x)
    for forward, data, weights in limit.products(x, w, g).values():
        for product, wanted in zip((forward, data, weights), expected, strict=True):
            torch.testing.assert_close(product(), wanted)


def test_other_programs_are_given_the_same_network_of_layers_of_torch():
    from tools.peers import with_torch_layers

    model = Autoencoder(Spec((1, 28, 28), 3, (4,), (20,), "linear")).eval()
    images = torch.rand(6, 1, 28, 28)
    before = model(images)
    assert any(isinstance(layer, networks.Dense) for layer in model.modules())
    with_torch_layers(model)
    assert not any(isinstance(layer, networks.Dense) for layer in model.modules())
    torch.testing.assert_close(model(images), before)


def test_training_imports_neither_a_compiler_nor_what_other_stages_need():
    """torch's compiler takes as long to import as torch, and use_deterministic_algorithms imports it."""
    code = """
import sys
from stages import reconstruct, train
from stages.autoencoder import devices
devices.prepare("cpu", "portable")
print(*{"torch._inductor", "torchvision", "pandas", "sklearn", "scipy", "matplotlib", "umap"} & set(sys.modules))
"""
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split() == []


def test_scores_in_parts_are_those_of_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    output, clean = rng.random((10, 1, 8, 8), np.float32), rng.integers(0, 256, (10, 1, 8, 8), np.uint8)
    whole = scores.mse_per_image(output, clean / np.float32(255))
    monkeypatch.setattr(evaluate, "HELD", 3)
    assert np.array_equal(evaluate.in_parts(scores.mse_per_image, output, clean), whole)


def trial(turn: int, program: str, epochs: float, seconds: float, error: float = 0.1) -> dict:
    """A row of tools.benchmark, 100 images an epoch; 9 GFLOP/s at best, 0.1 GFLOP an image."""
    row = {"turn": turn, "network": "small", "program": program, "precision": "fp32", "epochs": epochs}
    row |= {"seconds": seconds, "images": 100 * epochs, "memory": 1.0, "mse": error}
    return row | {"operations": 1e8, "rates": [[16, 512, "linear", 9.0, 1.0, 2.0]]}


def test_a_ratio_is_our_speed_over_that_of_the_row():
    from tools.benchmark import summary

    rows = [("ours", 1, 1.0), ("textbook", 1, 2.0), ("ours", 0.5, 0.25)]
    trials = [trial(turn, *row, seconds * slow) for turn, slow in enumerate((1, 2, 9)) for *row, seconds in rows]
    table = summary(pd.DataFrame(trials)).set_index(["program", "epochs"])
    assert table["speed"].to_dict() == {("ours", 1): 50, ("textbook", 1): 25, ("ours", 0.5): 100}
    assert table["ratio"].to_dict() == {("ours", 1): 1, ("textbook", 1): 2, ("ours", 0.5): 0.5}
    assert table.loc[("ours", 1), ["limit", "share"]].tolist() == [90, 50 / 90]  # 9 GFLOP/s over 0.1 GFLOP an image


@pytest.mark.parametrize(("error", "sooner"), [(0.2, 6), (0.1, 3), (0.05, 1.5), (0.04, None)])
def test_a_peer_is_compared_with_the_fewest_of_our_epochs_that_are_as_good(error, sooner):
    """Ours has 0.2, 0.1, 0.05 after 1, 2, 4 epochs of a second each; a peer needs six seconds for its error."""
    from tools.benchmark import summary

    ours = [("ours", epochs, epochs, mse) for epochs, mse in ((4, 0.05), (2, 0.1), (1, 0.2))]
    trials = [
        trial(turn, name, epochs, seconds * slow, mse)
        for turn, slow in enumerate((1, 2, 9))
        for name, epochs, seconds, mse in (*ours, ("pythae", 4, 6, error))
    ]
    found = summary(pd.DataFrame(trials)).set_index("program").loc["pythae", "sooner"]
    assert np.isnan(found) if sooner is None else found == sooner


def test_a_ratio_compares_what_ran_in_the_same_turn():
    from tools.benchmark import summary

    seconds = {"ours": (1.0, 3.0, 1.0), "textbook": (2.0, 6.0, 6.0)}  # 2, 2 and 6 times; of the medians, 6 times
    trials = [trial(turn, name, 1, taken) for name, times in seconds.items() for turn, taken in enumerate(times)]
    assert summary(pd.DataFrame(trials)).set_index("program")["ratio"].to_dict() == {"ours": 1, "textbook": 2}


def test_our_programs_alone_make_a_table_too():
    from tools.benchmark import markdown, summary

    assert "mlp 784-512-16" in markdown(summary(pd.DataFrame([trial(0, "ours", 3, 1.0)])))


@pytest.mark.parametrize("command", [["tools.benchmark"], ["tools.costs", "--pipeline"]])
def test_measuring_no_times_is_refused(command):
    done = subprocess.run(
        [sys.executable, "-m", *command, "--repeat", "0"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    tool = command[0].removeprefix("tools.")
    assert (done.returncode, done.stderr) == (1, f"{tool}: --repeat must be at least 1; got 0\n")
