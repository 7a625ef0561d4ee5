"""The methods beside a denoising model: against other libraries, closed forms, and what may choose their strength."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio
from sklearn.decomposition import PCA

from stages.autoencoder.params.inputs import Denoising
from stages.autoencoder.scores import denoisers, pca
from stages.autoencoder.scores.denoisers import NoisyImages

NOISE = Denoising(corruption="gaussian", level=0.2)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def smooth(rng, count, channels=1):
    """uint8 images of a slope each, 8 x 8 pixels."""
    slopes = rng.uniform(-1, 1, (count, channels, 2, 1, 1))
    rows, columns = np.mgrid[-1:1:8j, -1:1:8j]
    return np.rint(127 + 60 * (slopes[:, :, 0] * rows + slopes[:, :, 1] * columns)).astype(np.uint8)


def noisy(clean):
    return NoisyImages(denoisers.add_noise(clean, NOISE), clean)


@pytest.mark.parametrize("channels", [1, 3])
def test_non_local_means_of_no_strength_keep_the_images(rng, channels):
    images = smooth(rng, 4, channels) / np.float32(255)
    np.testing.assert_allclose(denoisers.non_local_means(images, 1e-4), images, atol=1e-6)


def test_the_median_removes_a_single_white_pixel_and_keeps_channels_apart():
    images = np.zeros((1, 3, 8, 8), np.float32)
    images[0, 0, 4, 4] = images[0, 1, 0, 0] = 1
    images[0, 2] = 0.5
    found = denoisers.median(images, 3)
    assert not found[0, :2].any()
    assert (found[0, 2] == 0.5).all()


def test_the_projection_is_that_of_scikit_learn_within_grey_levels(rng):
    train, test = rng.integers(0, 256, (2, 30, 1, 3, 4), np.uint8)
    images = test / np.float32(255)
    expected = PCA(5, svd_solver="full").fit(train.reshape(30, 12) / 255)
    expected = expected.inverse_transform(expected.transform(images.reshape(30, 12))).clip(0, 1)
    found = denoisers.project(*pca.fit(train), images, 5)
    np.testing.assert_allclose(found.reshape(30, 12), expected, atol=1e-4)


def test_noise_of_the_validation_images_is_that_of_training_and_always_the_same(rng):
    clean = np.full((50, 1, 8, 8), 128, np.uint8)
    given = denoisers.add_noise(clean, NOISE)
    assert given.std() == pytest.approx(0.2, rel=0.05)
    assert (given == denoisers.add_noise(clean, NOISE)).all()


def test_a_gain_is_the_mean_difference_in_psnr(rng):
    images = noisy(smooth(rng, 5))
    output = np.clip(images.given * 0.9, 0, 1)
    clean = images.clean / np.float32(255)
    after = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in zip(clean, output, strict=True)]
    before = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in zip(clean, images.given, strict=True)]
    assert denoisers.gain(images, output) == pytest.approx((np.mean(after), np.mean(np.subtract(after, before))))


def compare(rng, test, valid):
    return denoisers.compare(test, test.given, valid, *pca.fit(smooth(rng, 60)))


def test_every_method_is_scored_at_the_strength_that_is_best_for_validation_images(rng):
    test, valid = noisy(smooth(rng, 20)), noisy(smooth(rng, 10))
    found = compare(np.random.default_rng(1), test, valid)
    table = found.table.set_index("method")
    assert list(table.index) == list(found.outputs) == ["autoencoder", "median", "PCA", "non-local means"]
    assert table.loc["autoencoder", "gain_db"] == 0  # its output was the noisy image here
    assert table.loc["PCA", "strength"] == 2  # slopes in two directions
    assert table.loc["PCA", "gain_db"] > table.loc["median", "gain_db"] > 3
    windows = [denoisers.gain(valid, denoisers.median(valid.given, window))[1] for window in denoisers.WINDOWS]
    assert table.loc["median", "strength"] == denoisers.WINDOWS[np.argmax(windows)]
    for name, output in found.outputs.items():
        assert (table.loc[name, "psnr"], table.loc[name, "gain_db"]) == denoisers.gain(test, output)


def test_test_images_choose_no_strength(rng):
    valid = noisy(smooth(rng, 10))
    strengths = [
        compare(np.random.default_rng(1), test, valid).table["strength"].tolist()[1:]
        for test in (noisy(smooth(rng, 5)), NoisyImages(rng.random((5, 1, 8, 8), np.float32), smooth(rng, 5)))
    ]
    assert strengths[0] == strengths[1]


def test_images_smaller_than_a_window_have_smaller_windows(rng):
    clean = rng.integers(0, 256, (4, 1, 3, 9), np.uint8)
    images = noisy(clean)
    found = denoisers.compare(images, images.given, images, *pca.fit(rng.integers(0, 256, (40, 1, 3, 9), np.uint8)))
    assert found.table["strength"].tolist()[1] == 3
