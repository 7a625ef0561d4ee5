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


def test_a_ratio_is_our_speed_over_that_of_the_row():
    from tools.benchmark import summary

    rates = [[16, 512, "linear", 9.0, 1.0, 2.0]]
    rows = [("ours", 1, 1.0, rates), ("textbook", 1, 2.0, None), ("ours", 0.5, 0.25, rates)]
    trials = pd.DataFrame(
        {"turn": turn, "network": "small", "program": name, "precision": "fp32", "epochs": epochs}
        | {"seconds": seconds * slow, "images": 100 * epochs, "memory": 1.0, "mse": 0.1}
        | {"operations": 1e8, "rates": rates}
        for turn, slow in enumerate((1, 2, 9))
        for name, epochs, seconds, rates in rows
    )
    table = summary(trials).set_index(["program", "epochs"])
    assert table["speed"].to_dict() == {("ours", 1): 50, ("textbook", 1): 25, ("ours", 0.5): 100}
    assert table["ratio"].to_dict() == {("ours", 1): 1, ("textbook", 1): 2, ("ours", 0.5): 0.5}
    assert table.loc[("ours", 1), ["limit", "share"]].tolist() == [90, 50 / 90]  # 9 GFLOP/s over 0.1 GFLOP an image


@pytest.mark.parametrize(("error", "sooner"), [(0.2, 6), (0.1, 3), (0.05, 1.5), (0.04, None)])
def test_a_peer_is_compared_with_the_fewest_of_our_epochs_that_are_as_good(error, sooner):
    """Ours has 0.2, 0.1, 0.05 after 1, 2, 4 epochs of a second each; a peer needs six seconds for its error."""
    from tools.benchmark import summary

    ours = [("ours", epochs, epochs, mse) for epochs, mse in ((4, 0.05), (2, 0.1), (1, 0.2))]
    trials = pd.DataFrame(
        {"turn": turn, "network": "small", "program": name, "precision": "fp32", "epochs": epochs}
        | {"seconds": seconds * slow, "images": 100 * epochs, "memory": 1.0, "mse": mse}
        | {"operations": 1e8, "rates": [[1, 1, "", 9.0]]}
        for turn, slow in enumerate((1, 2, 9))
        for name, epochs, seconds, mse in (*ours, ("pythae", 4, 6, error))
    )
    found = summary(trials).set_index("program").loc["pythae", "sooner"]
    assert np.isnan(found) if sooner is None else found == sooner


def test_a_ratio_compares_what_ran_in_the_same_turn():
    from tools.benchmark import summary

    seconds = {"ours": (1.0, 3.0, 1.0), "textbook": (2.0, 6.0, 6.0)}  # 2, 2 and 6 times; of the medians, 6 times
    trials = pd.DataFrame(
        {"turn": turn, "network": "small", "program": name, "precision": "fp32", "epochs": 1}
        | {"seconds": taken, "images": 100, "memory": 1.0, "mse": 0.1, "operations": 1e8, "rates": [[1, 1, "", 9.0]]}
        for name, times in seconds.items()
        for turn, taken in enumerate(times)
    )
    assert summary(trials).set_index("program")["ratio"].to_dict() == {"ours": 1, "textbook": 2}
