"""Codes to decode into new images: the mixture and its fit, samples near a code, what a bottleneck allows."""

import numpy as np
import pytest
import torch
from scipy import stats

from stages.autoencoder.model import sampling
from stages.autoencoder.model.autoencoder import Autoencoder, Spec
from stages.autoencoder.model.sampling import Mixture
from stages.autoencoder.training.fits import mixture_fit
from tests.support.model_files import make_mixture

CENTRES = np.array([[4, 0, 0], [-4, 1, 0], [0, -3, 5], [0, 6, 0], [3, 3, 3]])
MIXING = np.array([[2, 1, 0], [0, 1, 1], [0, 0, 0.1]])


def draw_codes(count, seed):
    """Codes (count, 3) of five clusters, each with the covariance MIXING^T MIXING / 4."""
    rng = np.random.default_rng(seed)
    return (CENTRES[rng.integers(0, 5, count)] + rng.normal(size=(count, 3)) @ MIXING / 2).astype(np.float32)


def make_model(bottleneck="linear", latent_dim=3):
    torch.manual_seed(0)
    return Autoencoder(Spec((1, 4, 4), latent_dim, (), (), bottleneck, k=2)).eval()


@pytest.fixture(scope="module")
def fitted():
    return mixture_fit.fit(draw_codes(3000, 0), draw_codes(500, 1))


def test_a_fitted_mixture_has_the_clusters_of_the_codes(fitted):
    assert len(fitted.weights) >= 5
    samples = fitted.sample(20_000, 0)
    codes = draw_codes(20_000, 2)
    np.testing.assert_allclose(samples.mean(0), codes.mean(0), atol=0.15)
    np.testing.assert_allclose(np.cov(samples.T), np.cov(codes.T), atol=0.6)
    nearest = [np.square(part[:, None] - CENTRES).sum(2).argmin(1) for part in (samples, codes)]
    shares = [np.bincount(cluster, minlength=5) / 20_000 for cluster in nearest]
    np.testing.assert_allclose(*shares, atol=0.03)
    assert stats.ks_2samp(samples[:, 2], codes[:, 2]).statistic < 0.05  # one Gaussian for all has 0.2


def test_the_number_of_gaussians_is_chosen_on_validation_codes():
    normal = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    assert len(mixture_fit.fit(normal[:400], normal[400:]).weights) == 1
    assert len(mixture_fit.fit(draw_codes(400, 0), draw_codes(200, 1)).weights) >= 5


def test_a_seed_decides_the_samples(fitted):
    assert np.array_equal(fitted.sample(50, 3), fitted.sample(50, 3))
    assert not np.array_equal(fitted.sample(50, 3), fitted.sample(50, 4))


@pytest.mark.parametrize(("count", "latent_dim"), [(2, 5), (30, 200), (400, 100)])
def test_codes_of_any_number_and_dimension_are_fitted(count, latent_dim):
    rng = np.random.default_rng(0)
    mixture = mixture_fit.fit(rng.normal(size=(count, latent_dim)).astype(np.float32), np.ones((1, latent_dim)))
    assert len(mixture.axes) == min(64, count - 1, latent_dim)
    samples = mixture.sample(7, 0)
    assert samples.shape == (7, latent_dim)
    assert np.isfinite(samples).all()


def test_dead_dimensions_keep_their_value():
    codes = draw_codes(300, 0)
    codes[:, 1] = 2.5
    samples = mixture_fit.fit(codes, codes).sample(100, 0)
    np.testing.assert_allclose(samples[:, 1], 2.5, atol=1e-5)
    constant = np.full((20, 3), 7, np.float32)
    np.testing.assert_array_equal(mixture_fit.fit(constant, constant).sample(4, 0), constant[:4])


def test_a_prior_is_sampled_where_there_is_one():
    codes = sampling.sample_codes(make_model("gaussian"), None, 4000, 0)
    assert stats.kstest(codes.ravel(), "norm").pvalue > 0.01


@pytest.mark.parametrize(("bottleneck", "allowed"), [("relu", lambda z: z >= 0), ("top_k", lambda z: z == z)])
def test_samples_are_as_sparse_as_codes(bottleneck, allowed):
    codes = sampling.sample_codes(make_model(bottleneck), make_mixture(3), 500, 0)
    assert allowed(codes).all()
    assert ((codes == 0).sum(1) == 1).all() if bottleneck == "top_k" else (codes == 0).any()


@pytest.mark.parametrize("kind", ["prior", "mixture"])
def test_spread_leads_from_the_code_itself_to_samples_that_ignore_it(kind, fitted):
    model, mixture = (make_model("gaussian"), None) if kind == "prior" else (make_model(), fitted)
    code = np.array([4, 0.5, -1], np.float32)
    at = {s: sampling.sample_near(model, mixture, code, 4000, 0, s) for s in (0, 0.3, 1)}
    np.testing.assert_allclose(at[0], np.tile(code, (4000, 1)), atol=1e-6)
    np.testing.assert_allclose(at[1], sampling.sample_codes(model, mixture, 4000, 0), atol=1e-5)
    mean = 0 if mixture is None else mixture.mean
    np.testing.assert_allclose(at[0.3].mean(0), mean + 0.91**0.5 * (code - mean), atol=0.1)
    np.testing.assert_allclose(at[0.3].std(0), 0.3 * at[1].std(0), rtol=1e-4)


def test_an_interpolation_keeps_its_ends():
    line = sampling.interpolate(np.float32([1, -7]), np.float32([2, 5]), 5)
    np.testing.assert_array_equal(line, np.float32([[1, -7], [1.25, -4], [1.5, -1], [1.75, 2], [2, 5]]))


DAMAGES = {
    "mixture.weights": (np.float32([-1, 2]), "must be probabilities"),
    "mixture.means": (np.zeros((0, 3), np.float32), "1 to 100 Gaussians"),
    "mixture.factors": (np.full((2, 3, 3), np.inf, np.float32), "must be finite"),
    "mixture.mean": (np.zeros(4, np.float32), r"\(3,\); got float32 \(4,\)"),
    "mixture.axes": (np.zeros((3, 3)), "finite float32"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_mixture_is_refused(name):
    arrays = make_mixture(3).to_arrays()
    assert np.array_equal(Mixture.from_arrays(dict(arrays), 3).means, arrays["mixture.means"])
    damaged, reason = DAMAGES[name]
    with pytest.raises(ValueError, match=reason):
        Mixture.from_arrays(arrays | {name: damaged}, 3)
    with pytest.raises(ValueError, match="must have mean, axes, weights, means, factors"):
        Mixture.from_arrays({key: array for key, array in arrays.items() if key != name}, 3)
