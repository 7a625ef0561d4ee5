"""Losses, penalties and corruption against torch.distributions, closed forms and their definitions."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from stages.autoencoder.model import objectives
from stages.autoencoder.model.autoencoder import reparametrise
from stages.autoencoder.params.inputs import Corruption
from stages.autoencoder.training import augmentation
from stages.autoencoder.training.inputs import DrawnImages, corrupt, draw


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_gaussian_kl_matches_torch_distributions():
    mean, log_var = torch.randn(50, 7, generator=generator()), torch.randn(50, 7, generator=generator(1))
    expected = kl_divergence(Normal(mean, (log_var / 2).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(objectives.gaussian_kl(mean, log_var), expected)
    assert objectives.gaussian_kl(torch.zeros(2, 3), torch.zeros(2, 3)).tolist() == [0, 0]


def test_log_density_ratio_is_that_of_torch_distributions():
    mean, log_var, z = (torch.randn(6, 3, generator=generator(seed)) for seed in range(3))
    prior, posterior = Normal(0.0, 1.0), Normal(mean, (log_var / 2).exp())
    expected = (prior.log_prob(z) - posterior.log_prob(z)).sum(1)
    torch.testing.assert_close(objectives.log_density_ratio(z, mean, log_var), expected)


def test_importance_weighted_bound_is_the_log_of_the_mean_weight():
    weights = torch.tensor([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]])
    found = objectives.importance_weighted(weights.log() - 500)  # whose weights themselves would be 0 in float32
    torch.testing.assert_close(found, 500 - torch.tensor([3.0, 4.0]).log())


def test_gaussian_kl_refuses_two_shapes():
    with pytest.raises(ValueError, match=r"must have one shape; got .*2, 3.* and .*3, 2"):
        objectives.gaussian_kl(torch.zeros(2, 3), torch.zeros(3, 2))


def test_bce_is_the_bernoulli_likelihood_of_black_and_white_images():
    logits = torch.randn(9, 1, 4, 4, generator=generator()) * 5
    target = (torch.rand(9, 1, 4, 4, generator=generator(1)) < 0.5).float()
    expected = -Bernoulli(logits=logits).log_prob(target).sum((1, 2, 3))
    torch.testing.assert_close(objectives.binary_cross_entropy(logits, target), expected)


def test_bce_of_grey_levels_is_least_at_the_grey_level():
    grey = torch.full((1, 1, 1, 1), 0.3)
    least = objectives.binary_cross_entropy(torch.logit(grey), grey).item()
    assert least == pytest.approx(-0.3 * math.log(0.3) - 0.7 * math.log(0.7))
    for other in (0.2, 0.4):
        assert objectives.binary_cross_entropy(torch.logit(torch.full_like(grey, other)), grey).item() > least


def test_squared_error_is_the_number_of_pixels_times_torchs_mse():
    logits, target = torch.randn(1, 3, 5, 4, generator=generator()), torch.rand(1, 3, 5, 4, generator=generator(1))
    expected = 60 * torch.nn.functional.mse_loss(torch.sigmoid(logits), target)
    torch.testing.assert_close(objectives.squared_error(logits, target), expected[None])


def test_l1_is_the_sum_of_absolute_values_by_hand():
    assert objectives.l1(torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]])).tolist() == [3.5, 0.0]


def test_reparametrised_samples_have_mean_and_variance():
    mean, log_var = torch.full((100_000, 1), 1.5), torch.full((100_000, 1), math.log(4.0))
    z = reparametrise(mean, log_var, generator())
    assert z.mean().item() == pytest.approx(1.5, abs=0.02)
    assert z.var().item() == pytest.approx(4.0, rel=0.02)


def test_reparametrisation_gradients_match_a_numerical_derivative():
    mean = torch.randn(3, 2, dtype=torch.float64, generator=generator(), requires_grad=True)
    log_var = torch.randn(3, 2, dtype=torch.float64, generator=generator(1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda m, v: reparametrise(m, v, generator(2)).sin(), (mean, log_var))


def test_gaussian_corruption_has_its_deviation_and_stays_in_range():
    grey = torch.full((10, 1, 100, 100), 0.5)
    noise = corrupt(grey, "gaussian", 0.05, generator()) - grey
    assert noise.mean().item() == pytest.approx(0, abs=1e-3)
    assert noise.std().item() == pytest.approx(0.05, rel=0.02)
    strong = corrupt(grey, "gaussian", 0.5, generator())
    assert strong.min() == 0
    assert strong.max() == 1
    # N(0.5, 0.5) is below 0 with probability Phi(-1)
    assert (strong == 0).float().mean().item() == pytest.approx(0.1587, abs=0.005)


@pytest.mark.parametrize(("kind", "black", "white"), [("masking", 0.4, 0.0), ("salt_and_pepper", 0.2, 0.2)])
def test_masking_and_salt_and_pepper_set_their_share_of_pixels(kind, black, white):
    grey = torch.full((10, 1, 100, 100), 0.5)
    hit = corrupt(grey, kind, 0.4, generator())
    assert (hit == 0).float().mean().item() == pytest.approx(black, abs=0.01)
    assert (hit == 1).float().mean().item() == pytest.approx(white, abs=0.01)
    assert ((hit == 0) | (hit == 1) | (hit == 0.5)).all()


CORRUPTIONS = get_args(Corruption)


def test_every_kind_of_corruption_that_params_list_is_implemented():
    images = torch.rand(2, 1, 4, 4)
    assert all(corrupt(images, kind, 0.5, generator()).shape == images.shape for kind in CORRUPTIONS)
    with pytest.raises(ValueError, match="got blur"):
        corrupt(images, "blur", 0.5, generator())


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_level_0_changes_nothing_and_no_input_changes(kind):
    images = torch.rand(5, 3, 6, 6, generator=generator())
    before = images.clone()
    assert torch.equal(corrupt(images, kind, 0.0, generator()), images)
    corrupt(images, kind, 0.9, generator())
    assert torch.equal(images, before)


def test_a_pixel_of_a_colour_image_is_hit_in_all_channels():
    hit = corrupt(torch.full((4, 3, 20, 20), 0.5), "masking", 0.5, generator()) == 0
    assert torch.equal(hit.any(1), hit.all(1))


def test_an_unknown_corruption_is_refused():
    with pytest.raises(ValueError, match="one of gaussian, salt_and_pepper, masking; got rain"):
        corrupt(torch.zeros(1, 1, 2, 2), "rain", 0.1, generator())


def test_drawn_pixels_are_white_as_often_as_they_are_grey():
    levels = torch.tensor([0.0, 0.1, 0.5, 1.0])
    drawn = draw(levels.repeat(10_000, 1)[:, None, None], generator())
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert drawn.mean((0, 1, 2)).tolist() == pytest.approx(levels.tolist(), abs=0.015)


def test_an_image_that_is_drawn_once_depends_on_its_row_alone():
    grey = np.random.default_rng(0).integers(0, 256, (400, 1, 5, 4), np.uint8)
    grey[:, :, 0] = [0, 255, 0, 255]
    drawn = DrawnImages(grey, np.arange(400))
    assert drawn.shape == grey.shape
    every = drawn[:]
    assert set(np.unique(every)) == {0, 255}
    assert np.array_equal(every[:, :, 0], grey[:, :, 0])
    level = every / 255 - grey / 255  # 0 in the mean, of a variance p (1 - p)
    assert abs(level.mean()) < 4 * np.sqrt((grey / 255 * (1 - grey / 255)).sum()) / grey.size
    part = DrawnImages(grey[[7, 3]], np.array([7, 3]))
    for rows, expected in ((0, every[7]), (slice(1, 2), every[3:4]), (np.array([1, 0]), every[[3, 7]])):
        assert np.array_equal(part[rows], expected)
    assert not np.array_equal(every[7], DrawnImages(grey[[7]], np.array([8]))[0])


def blob(batch=200, height=28, width=20):
    """Images with one bright square off the middle, and the centre of mass of images."""
    images = torch.zeros(batch, 1, height, width)
    images[:, :, 9:14, 7:11] = 1
    return images


def centres(images):
    mass = images.sum((1, 2, 3))
    rows, columns = torch.arange(images.shape[2]), torch.arange(images.shape[3])
    return torch.stack([(images.sum((1, 3)) * rows).sum(1), (images.sum((1, 2)) * columns).sum(1)], 1) / mass[:, None]


def test_no_shift_at_all_gives_the_images_back():
    images = torch.rand(3, 2, 9, 14, generator=generator())
    torch.testing.assert_close(
        augmentation.random_affine(images, generator(), translate=0, rotate=0, scale=0, padding="zeros"), images
    )


def test_translation_is_uniform_up_to_its_bound():
    moved = centres(
        augmentation.random_affine(blob(2000), generator(), translate=3.0, rotate=0, scale=0, padding="zeros")
    ) - centres(blob(1))
    assert moved.abs().max() <= 3.001
    assert moved.std(0).tolist() == pytest.approx([3 / math.sqrt(3)] * 2, rel=0.05)  # of a uniform distribution


def test_rotation_does_not_shear_an_oblong_image():
    middle = torch.tensor([13.5, 9.5])
    turned = (
        centres(augmentation.random_affine(blob(), generator(), translate=0, rotate=40.0, scale=0, padding="zeros"))
        - middle
    )
    before = centres(blob(1))[0] - middle
    torch.testing.assert_close(turned.norm(dim=1), before.norm().expand(200), rtol=0.02, atol=0.02)
    angles = torch.atan2(turned[:, 0], turned[:, 1]) - torch.atan2(before[0], before[1])
    assert math.radians(36) < angles.abs().max() < math.radians(41)


def test_scale_changes_the_area_by_the_square_of_the_factor():
    area = (
        augmentation.random_affine(blob(), generator(), translate=0, rotate=0, scale=0.2, padding="zeros").sum(
            (1, 2, 3)
        )
        / 20
    )
    assert 0.8**2 * 0.95 < area.min() < 0.72
    assert 1.38 < area.max() < 1.2**2 * 1.05


def test_images_on_white_get_no_black_corners_and_images_on_black_no_smeared_ones():
    white, black = np.full((20, 3, 16, 16), 255, np.uint8), np.zeros((20, 1, 16, 16), np.uint8)
    white[:, :, 4:12, 4:12] = 0
    black[:, :, 4:12, 4:12] = 255
    black[:3, :, 0] = 255  # a few images touch the border
    assert augmentation.choose_padding(white) == "border"
    assert augmentation.choose_padding(black) == "zeros"
    images = torch.from_numpy(white).float() / 255
    for padding, darkest in (("border", 1.0), ("zeros", 0.0)):
        moved = augmentation.random_affine(images, generator(), translate=2.0, rotate=10.0, scale=0.1, padding=padding)
        assert moved[:, :, 0].min() == pytest.approx(darkest, abs=1e-6)
