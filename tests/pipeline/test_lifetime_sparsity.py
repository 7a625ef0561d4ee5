"""Lifetime sparsity: which activations of a batch the objective keeps."""

import numpy as np
import pytest
import torch

from stages.autoencoder.training.lifetime_sparsity import keep_winners


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("images", "share", "kept"), [(100, 0.05, 5), (128, 0.05, 6), (7, 0.05, 1), (4, 1.0, 4)])
def test_each_unit_keeps_its_largest_activations_of_the_batch(images, share, kept, rng):
    """NumPy sorts the activations of each unit; `kept` is counted by hand."""
    activations = rng.random((images, 30)).astype(np.float32)
    found = keep_winners(torch.from_numpy(activations), share, in_slices=True).numpy()
    rank = (-activations).argsort(0).argsort(0)
    np.testing.assert_array_equal(found, np.where(rank < kept, activations, 0))


def test_a_unit_without_enough_activations_keeps_those_it_has():
    activations = torch.tensor([[3.0, 0], [0, 0], [0, 0], [1, 0]])
    assert torch.equal(keep_winners(activations, 0.75, in_slices=True), activations)


def test_gradients_reach_the_activations_that_are_kept_and_no_others(rng):
    activations = torch.from_numpy(rng.random((20, 6))).requires_grad_()
    kept = keep_winners(activations, 0.1, in_slices=True)
    kept.sum().backward()
    assert torch.equal(activations.grad, (kept != 0).double())
