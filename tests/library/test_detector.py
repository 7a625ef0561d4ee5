"""The scores that find anomalies: their formulas, their fit, and what a file may hold of them."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.covariance import LedoitWolf

from stages.autoencoder.model import detector
from stages.autoencoder.model.autoencoder import Autoencoder, Code, Spec
from stages.autoencoder.model.detector import Detector, Gaussian
from stages.autoencoder.training.fits import detector_fit
from tests.support.model_files import make_detector, make_mixture

SHAPE = (1, 4, 4)


def make_model(bottleneck="linear", widths=(6,), latent_dim=3):
    torch.manual_seed(0)
    return Autoencoder(Spec(SHAPE, latent_dim, (), widths, bottleneck, k=2)).eval()


@pytest.fixture
def images():
    return torch.rand(7, *SHAPE, generator=torch.Generator().manual_seed(0))


def functions(model, known=None, loss="mse"):
    mixture = None if model.is_variational else make_mixture(model.spec.latent_dim)
    return detector.score_functions(model, known or make_detector(model), mixture, loss)


def test_the_fitted_distance_is_that_of_ledoit_and_wolf():
    rng = np.random.default_rng(0)
    known, new = (rng.normal(size=(count, 10)) @ rng.normal(size=(10, 10)) + 3 for count in (200, 20))
    fitted = detector_fit.fit(known.astype(np.float32), new.astype(np.float32), np.ones(20))
    expected = LedoitWolf().fit(known)
    found = fitted.activations.distance(torch.from_numpy(new).float()).numpy()
    np.testing.assert_allclose(found, expected.mahalanobis(new), rtol=1e-3)
    half = LedoitWolf().fit(known[:, 5:]).mahalanobis(new[:, 5:])
    np.testing.assert_allclose(
        fitted.differences.distance(torch.from_numpy(new[:, 5:]).float()).numpy(), half, rtol=1e-3
    )


@pytest.mark.parametrize("known", [np.ones((5, 4)), np.eye(4)[:2], np.full((3, 4), 1e-20) * np.arange(3)[:, None]])
def test_activations_that_hardly_vary_are_fitted(known):
    fitted = detector_fit.fit(known.astype(np.float32), known[:1].astype(np.float32), np.zeros(1))
    for array in fitted.to_arrays().values():
        assert np.isfinite(array).all()


def test_activations_are_those_of_the_image_and_how_they_differ_from_the_reconstruction(images):
    model = make_model()
    with torch.no_grad():
        found = detector.activations(model, images).numpy()
        seen = []
        model.encoder[-1].register_forward_hook(lambda _, given, output: seen.append(torch.cat([*given, output], 1)))
        model(images)
        model.encode(model(images))
    of_image, _, of_reconstruction = (values.numpy() for values in seen)
    assert found.shape == (7, detector.count_activations(model)) == (7, 2 * (6 + 3))
    np.testing.assert_allclose(found[:, :9], of_image, rtol=1e-6)
    np.testing.assert_allclose(found[:, 9:], of_image - of_reconstruction, rtol=1e-4, atol=1e-6)


def test_without_a_hidden_layer_the_pixels_take_its_place(images):
    model = make_model(widths=())
    found = detector.activations(model, images)
    assert found.shape == (7, 2 * (16 + 3))
    assert torch.equal(found[:, :16], images.flatten(1))


def test_of_a_wide_layer_evenly_spaced_units_count(images, monkeypatch):
    model = make_model(widths=(9,))
    whole = detector.activations(model, images)
    monkeypatch.setattr(detector, "MAX_UNITS", 3)
    assert torch.equal(detector.activations(model, images)[:, :3], whole[:, [0, 4, 8]])
    assert detector.count_activations(model) == 12


def test_rapp_and_mahalanobis_are_distances_of_the_differences_and_of_all_activations(images):
    model = make_model()
    count = detector.count_activations(model)
    rng = np.random.default_rng(0)
    gaussians = [
        Gaussian(*(rng.normal(size=(n,) * axes).astype(np.float32) for axes in (1, 2))) for n in (count, count // 2)
    ]
    found = functions(model, Detector(*gaussians, np.eye(2, dtype=np.float32)))
    values = detector.activations(model, images).detach().numpy().astype(float)
    for name, gaussian, given in (
        ("mahalanobis", gaussians[0], values),
        ("rapp", gaussians[1], values[:, count // 2 :]),
    ):
        precision = gaussian.whitening.astype(float) @ gaussian.whitening.T
        expected = [(row - gaussian.mean) @ precision @ (row - gaussian.mean) for row in given]
        np.testing.assert_allclose(found[name](images).detach().numpy(), expected, rtol=1e-4)


def test_mse_is_the_mean_over_pixels(images):
    model = make_model()
    expected = (model(images) - images).detach().numpy().astype(float) ** 2
    np.testing.assert_allclose(functions(model)["mse"](images).detach().numpy(), expected.mean((1, 2, 3)), rtol=1e-5)


def test_density_is_that_of_the_mixture(images):
    model = make_model()
    codes = model.encode(images).detach().numpy()
    either = [stats.multivariate_normal([sign, 0, 0], np.eye(3)).pdf(codes) for sign in (-1, 1)]
    expected = -np.log(np.mean(either, 0))
    np.testing.assert_allclose(functions(model)["density"](images).detach().numpy(), expected, rtol=1e-6)


def test_density_counts_in_units_of_the_axes():
    mixture = make_mixture(2)
    stretched = type(mixture)(mixture.mean + 1, mixture.axes * 3, mixture.weights, mixture.means, mixture.factors * 2)
    codes = np.float32([[1, 1], [4, 1], [-2, 7]])
    either = [stats.multivariate_normal([sign, 0], 4 * np.eye(2)).pdf((codes - 1) / 3) for sign in (-1, 1)]
    found = stretched.log_density(torch.from_numpy(codes)).numpy()
    np.testing.assert_allclose(found, np.log(np.mean(either, 0)), rtol=1e-6)


@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_elbo_is_the_loss_at_the_mean_of_the_code(images, loss):
    model = make_model("gaussian")
    code = model.code(images)
    output = model.decode(code.mean)
    function = torch.nn.functional.mse_loss if loss == "mse" else torch.nn.functional.binary_cross_entropy
    error = function(output, images, reduction="none").sum((1, 2, 3))
    posterior = torch.distributions.Normal(code.mean, (code.log_var / 2).exp())
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(functions(model, loss=loss)["elbo"](images).float(), error + kl)


@pytest.mark.parametrize(("bottleneck", "name"), [("linear", "density"), ("top_k", "density"), ("gaussian", "elbo")])
def test_the_fourth_score_depends_on_the_bottleneck(bottleneck, name):
    assert list(functions(make_model(bottleneck))) == ["combined", "mse", "rapp", "mahalanobis", name]


def test_the_combined_score_is_the_larger_of_two_logarithms_in_deviations_of_validation_images(images):
    model = make_model()
    rng = np.random.default_rng(0)
    known = rng.normal(size=(50, detector.count_activations(model))).astype(np.float32)
    fitted = detector_fit.fit(known[:40], known[40:], np.geomspace(0.01, 1, 10))
    found = functions(model, fitted)
    distances = np.log(fitted.activations.distance(torch.from_numpy(known[40:])).numpy())
    errors = np.log(np.geomspace(0.01, 1, 10))
    standardised = [
        (np.log(found[name](images).detach().numpy()) - of_valid.mean()) / of_valid.std()
        for name, of_valid in (("mse", errors), ("mahalanobis", distances))
    ]
    np.testing.assert_allclose(found["combined"](images).detach().numpy(), np.maximum(*standardised), rtol=1e-4)


def test_the_combined_score_of_a_perfect_reconstruction_is_finite():
    model = make_model()
    images = model.decode(torch.zeros(1, 3)).detach()
    model.code_of = lambda *_: Code(torch.zeros(1, 3))
    assert functions(model)["mse"](images).item() < 1e-12
    assert functions(model)["combined"](images).isfinite().all()


FAULTS = {
    "detector.activations.mean": (np.zeros(17, np.float32), r"finite float32 \(18,\)"),
    "detector.differences.mean": (np.zeros(9), r"must be finite float32 \(9,\); got float64"),
    "detector.activations.whitening": (np.full((18, 18), np.nan, np.float32), "must be finite"),
    "detector.differences.whitening": (np.zeros((9, 8), np.float32), r"finite float32 \(9, 9\)"),
    "detector.logarithms": (np.zeros(2, np.float32), r"finite float32 \(2, 2\)"),
    "detector.more": (np.zeros(1, np.float32), "its detector must have detector.activations.mean"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_arrays_that_are_no_detector_are_refused(name):
    model = make_model()
    arrays = make_detector(model).to_arrays()
    assert np.array_equal(Detector.from_arrays(dict(arrays), model).to_arrays()[min(arrays)], arrays[min(arrays)])
    values, message = FAULTS[name]
    with pytest.raises(ValueError, match=message):
        Detector.from_arrays(arrays | {name: values}, model)
