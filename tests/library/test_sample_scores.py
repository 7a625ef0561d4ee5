"""Scores of samples by features, each against a closed form, another library or a count by hand."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import polynomial_kernel

from stages.autoencoder.scores.samples import feature_scores
from stages.autoencoder.scores.undefined_scores import UndefinedScore


def draw(count, dimensions, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dimensions))


def with_moments(mean, covariance, count=50, seed=0):
    """Points whose mean and covariance (divisor N - 1) are exactly these."""
    points = draw(count, len(mean), seed)
    points -= points.mean(0)
    points = np.linalg.solve(np.linalg.cholesky(np.cov(points.T)), points.T).T
    return points @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_gaussians_along_the_same_axes_is_that_of_their_deviations():
    first = with_moments([1.0, 2.0, 3.0], np.diag([1.0, 4.0, 9.0]))
    second = with_moments([1.0, 0.0, 6.0], np.diag([16.0, 4.0, 1.0]), seed=1)
    # (2 - 0)^2 + (3 - 6)^2, and of the deviations (1 - 4)^2 + (2 - 2)^2 + (3 - 1)^2
    assert feature_scores.frechet_distance(first, second) == pytest.approx(4 + 9 + 9 + 0 + 4, rel=1e-9)


def test_frechet_distance_is_the_formula_with_scipys_matrix_root():
    first, second = draw(80, 6) @ draw(6, 6, 1), draw(60, 6, 2) @ draw(6, 6, 3) + 1
    a, b = np.cov(first.T), np.cov(second.T)
    shift = first.mean(0) - second.mean(0)
    expected = shift @ shift + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert feature_scores.frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_fewer_images_than_features_is_finite_and_zero_to_itself():
    few, many = draw(5, 20).astype(np.float32), draw(40, 20, 1).astype(np.float32)
    assert 0 < feature_scores.frechet_distance(few, many) < 100
    assert feature_scores.frechet_distance(few, few) == pytest.approx(0, abs=1e-6)
    constant = np.ones((6, 20), np.float32)
    assert feature_scores.frechet_distance(constant, constant + 2) == pytest.approx(20 * 4)


def test_kernel_distance_is_the_unbiased_sum_over_pairs(monkeypatch):
    monkeypatch.setattr(feature_scores, "PIECE", 7)
    first, second = draw(20, 4), draw(25, 4, 1) + 0.5
    within = [polynomial_kernel(part, degree=3, gamma=1 / 4, coef0=1) for part in (first, second)]
    means = [(matrix.sum() - np.trace(matrix)) / (len(matrix) * (len(matrix) - 1)) for matrix in within]
    between = [[(x @ y / 4 + 1) ** 3 for x in first] for y in second]
    expected = sum(means) - 2 * np.mean(between)
    assert feature_scores.kernel_distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_of_equal_distributions_is_zero_in_the_mean():
    values = [feature_scores.kernel_distance(draw(30, 3, seed), draw(30, 3, 1000 + seed)) for seed in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(300)


def test_neighbourhoods_by_hand(monkeypatch):
    monkeypatch.setattr(feature_scores, "NEIGHBOURS", 1)
    real = np.array([[0.0], [1], [3]])  # radii 1, 1, 2
    samples = np.array([[0.5], [10], [10.5]])  # radii 9.5, 0.5, 0.5
    # only 0.5 is near real points, within the radii of 0 and of 1; its own ball holds all three
    assert feature_scores.neighbourhoods(samples, real) == pytest.approx((1 / 3, 1, 2 / 3, 2 / 3))


def test_neighbourhoods_are_those_of_all_distances(monkeypatch):
    monkeypatch.setattr(feature_scores, "PIECE", 13)
    real, samples = draw(60, 3), 0.7 * draw(50, 3, 1) + 0.4
    real_radius, sample_radius = (np.sort(cdist(part, part))[:, 5] for part in (real, samples))
    distance = cdist(samples, real)
    expected = (
        (distance <= real_radius).any(1).mean(),
        (distance <= sample_radius[:, None]).any(0).mean(),
        (distance <= real_radius).sum(1).mean() / 5,
        (distance.min(0) <= real_radius).mean(),
    )
    assert feature_scores.neighbourhoods(samples, real) == pytest.approx(expected)


def test_images_beside_themselves_have_the_best_scores():
    found = feature_scores.score(draw(40, 8), draw(40, 8))
    assert list(found) == ["frechet", "kid", "precision", "recall", "density", "coverage"]
    assert found["frechet"] == pytest.approx(0, abs=1e-6)
    assert found["kid"] < 0  # each point is its own partner in the mean between the sets only
    assert (found["precision"], found["recall"], found["coverage"]) == (1, 1, 1)


def test_far_samples_have_the_worst_scores():
    found = feature_scores.score(draw(40, 8) + 1000, draw(40, 8))
    assert found["frechet"] == pytest.approx(8 * 1000**2, rel=0.01)
    assert [found[name] for name in ("precision", "recall", "density", "coverage")] == [0, 0, 0, 0]


def test_too_few_images_have_no_scores(caplog):
    caplog.set_level("INFO")
    assert feature_scores.score(draw(1, 8), draw(1, 8)) == {}
    assert "no frechet: it needs 2 samples and real images each, there are 1" in caplog.text
    assert set(feature_scores.score(draw(5, 8), draw(5, 8))) == {"frechet", "kid"}
    with pytest.raises(UndefinedScore, match="it needs 6"):
        feature_scores.neighbourhoods(draw(5, 8), draw(5, 8))


def test_the_nearest_image_has_the_smallest_distance():
    samples, real = draw(9, 5), draw(30, 5, 1)
    assert np.array_equal(feature_scores.nearest(samples, real), cdist(samples, real).argmin(1))
