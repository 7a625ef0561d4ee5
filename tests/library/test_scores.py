"""The scores against formulas written out, other libraries, and cases solved by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from stages.autoencoder.data import pixels
from stages.autoencoder.model.autoencoder import Autoencoder, Spec
from stages.autoencoder.scores import ablation, anomalies, code_usage, maps, pca, probes, reconstruction
from stages.autoencoder.scores.probes import LabelledCodes
from stages.autoencoder.scores.undefined_scores import UndefinedScore, add_score


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def pair(rng, shape=(5, 1, 28, 28)):
    """Images and noisy copies of them, float32 in [0, 1]."""
    clean = rng.random(shape, np.float32)
    return np.clip(clean + rng.normal(0, 0.2, shape), 0, 1).astype(np.float32), clean


def coded(rng, count, dimensions=4, classes=3, spread=0.4):
    """Codes in one cloud for each class."""
    labels = rng.integers(0, classes, count)
    return LabelledCodes((labels[:, None] + rng.normal(0, spread, (count, dimensions))).astype(np.float32), labels)


def test_psnr_is_that_of_scikit_image_image_by_image(rng):
    output, clean = pair(rng)
    expected = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in zip(clean, output, strict=True)]
    mse = reconstruction.mse_per_image(output, clean)
    np.testing.assert_allclose(reconstruction.psnr_per_image(mse), expected, rtol=1e-6)


def test_psnr_of_a_perfect_image_is_100_db_and_of_a_wrong_one_0_db():
    black, white = np.zeros((1, 1, 8, 8), np.float32), np.ones((1, 1, 8, 8), np.float32)
    mse = np.concatenate([reconstruction.mse_per_image(black, black), reconstruction.mse_per_image(black, white)])
    np.testing.assert_array_equal(reconstruction.psnr_per_image(mse), [100, 0])


def ssim_written_out(a, b, side):
    """Wang et al. 2004, equation 13, over every window inside the image; sample variances, as scikit-image has."""
    values = []
    for i, j in itertools.product(range(a.shape[0] - side + 1), range(a.shape[1] - side + 1)):
        x, y = (image[i : i + side, j : j + side].astype(float).ravel() for image in (a, b))
        covariance = np.cov(x, y)
        c1, c2 = 0.01**2, 0.03**2
        above = (2 * x.mean() * y.mean() + c1) * (2 * covariance[0, 1] + c2)
        values.append(above / ((x.mean() ** 2 + y.mean() ** 2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2)))
    return np.mean(values)


@pytest.mark.parametrize(
    ("shape", "side"), [((2, 1, 28, 28), 7), ((2, 3, 12, 9), 7), ((2, 1, 8, 8), 7), ((2, 1, 6, 4), 3)]
)
def test_ssim_is_its_formula_over_windows_and_channels(rng, shape, side):
    output, clean = pair(rng, shape)
    expected = [
        np.mean([ssim_written_out(x, y, side) for x, y in zip(a, b, strict=True)])
        for a, b in zip(output, clean, strict=True)
    ]
    np.testing.assert_allclose(reconstruction.ssim_per_image(output, clean), expected, rtol=1e-6)


def test_ssim_of_constant_images_is_finite_and_of_equal_ones_1():
    black, white = np.zeros((1, 1, 8, 8), np.float32), np.ones((1, 1, 8, 8), np.float32)
    assert reconstruction.ssim_per_image(black, black) == [1]
    assert 0 < reconstruction.ssim_per_image(black, white)[0] < 0.001


def test_ssim_is_undefined_below_three_pixels(rng):
    with pytest.raises(UndefinedScore, match="3 pixels"):
        reconstruction.ssim_per_image(*pair(rng, (2, 1, 2, 9)))


def test_auroc_counts_correctly_ordered_pairs(rng):
    error, anomalous = rng.integers(0, 8, 60) / 8, rng.random(60) < 0.3  # with ties, which count half
    pairs = list(itertools.product(error[anomalous], error[~anomalous]))
    expected = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
    assert anomalies.auroc(error, anomalous) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("value", [True, False])
def test_auroc_is_undefined_with_one_kind_of_image(value):
    with pytest.raises(UndefinedScore):
        anomalies.auroc(np.arange(5.0), np.full(5, value))


def test_dead_units_are_those_that_no_image_activates():
    codes = np.array([[0, 2, 0, 0], [0, 0, -1, 0], [0, 3, 0, 0]], np.float32)
    assert code_usage.dead_units(codes) == 2 / 4
    assert code_usage.dead_units(codes[:1]) == 3 / 4


def test_hoyer_by_hand():
    # (sqrt 4 - 7/5) / (sqrt 4 - 1) = 0.6; one entry: 1; all alike: 0; a zero code has none
    codes = np.array([[3, -4, 0, 0], [0, 0, 7, 0], [2, 2, -2, 2], [0, 0, 0, 0]], np.float32)
    assert code_usage.hoyer(codes) == pytest.approx((0.6 + 1 + 0) / 3)
    assert code_usage.hoyer(codes * np.float32(1e-30)) == pytest.approx((0.6 + 1 + 0) / 3)


@pytest.mark.parametrize("codes", [np.ones((3, 1)), np.zeros((3, 4))])
def test_hoyer_is_undefined_for_one_dimension_and_for_zeros(codes):
    with pytest.raises(UndefinedScore):
        code_usage.hoyer(codes.astype(np.float32))


def test_active_dimensions_by_hand():
    codes = np.array([[0, 1, 0.1], [10, 1, 0.35]], np.float32)  # variances 25, 0, 0.0156
    np.testing.assert_array_equal(code_usage.is_active(codes, variational=True), [True, False, True])
    np.testing.assert_array_equal(code_usage.is_active(codes, variational=False), [True, False, False])
    assert code_usage.active_units(codes) == 2
    assert code_usage.mean_active(codes) == 2.5


def test_knn_is_the_vote_of_the_five_nearest_training_codes(rng):
    train, test = coded(rng, 60, spread=1), coded(rng, 40, spread=1)
    distance = ((test.codes[:, None] - train.codes[None]) ** 2).sum(2)
    votes = [np.bincount(train.labels[nearest]) for nearest in distance.argsort(1)[:, :5]]
    expected = np.mean([vote.argmax() == label for vote, label in zip(votes, test.labels, strict=True)])
    assert 0.5 < expected < 1
    assert probes.knn(train, test) == expected


def test_clusters_that_are_the_classes_score_1_and_others_0(rng):
    labels = np.repeat([0, 1, 2], 20)
    far = LabelledCodes((labels[:, None] * 100 + rng.normal(size=(60, 2))).astype(np.float32), labels)
    assert probes.clustering(far, far) == (1, pytest.approx(1))
    two = LabelledCodes(  # each cluster half of each class
        np.repeat([[0.0], [1.0]], 30, 0).astype(np.float32), np.tile([0, 1], 30)
    )
    assert probes.clustering(two, two) == (0.5, pytest.approx(0, abs=1e-9))


def test_a_code_shifted_turned_and_scaled_scores_the_same(rng):
    train, test = coded(rng, 200), coded(rng, 100)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    moved = [LabelledCodes(((part.codes @ turn) * 300 + 50).astype(np.float32), part.labels) for part in (train, test)]
    before, after = probes.score_codes(train, test), probes.score_codes(*moved)
    assert list(before) == ["knn", "probe", "kmeans", "nmi"]
    assert after == pytest.approx(before, abs=0.011)  # one image of a hundred may lie on an edge


def test_the_probe_tells_classes_apart_that_a_plane_divides(rng):
    train, test = coded(rng, 300, classes=2), coded(rng, 100, classes=2)
    moved = [part.codes + 10 * part.labels[:, None].astype(np.float32) for part in (train, test)]
    easy = [LabelledCodes(codes, part.labels) for codes, part in zip(moved, (train, test), strict=True)]
    assert probes.probe(*easy) == 1
    shuffled = LabelledCodes(easy[0].codes, rng.permutation(easy[0].labels))
    assert probes.probe(shuffled, easy[1]) < 0.9


def test_a_probe_that_is_not_at_its_end_says_so_and_counts(rng, monkeypatch, caplog):
    monkeypatch.setattr(probes, "PROBE_STEPS", 2)
    caplog.set_level("INFO")
    assert 0 < probes.probe(coded(rng, 300), coded(rng, 100)) <= 1
    assert "after 2 steps" in caplog.text


def test_images_of_classes_absent_in_training_are_left_out(rng):
    train, test = coded(rng, 200), coded(rng, 100)
    strangers = LabelledCodes(np.concatenate([test.codes, test.codes]), np.concatenate([test.labels, test.labels + 3]))
    assert probes.score_codes(train, strangers) == probes.score_codes(train, test)


def last_bits():
    """Codes of one image as a network gives them at different places of a batch, and two classes."""
    codes = np.full((50, 3), 0.7, np.float32)
    codes[::3, 0] = np.nextafter(np.float32(0.7), np.float32(1))
    return codes, np.arange(50) % 2


@pytest.mark.parametrize(
    ("train", "absent"),
    [
        (LabelledCodes(np.zeros((50, 3), np.float32), np.arange(50) % 2), {"knn", "probe", "kmeans", "nmi"}),
        (LabelledCodes(*last_bits()), {"knn", "probe", "kmeans", "nmi"}),
        (LabelledCodes(np.ones((50, 3), np.float32), np.zeros(50, int)), {"knn", "probe", "kmeans", "nmi"}),
        (LabelledCodes(np.arange(4, dtype=np.float32)[:, None], np.arange(4) % 2), {"knn"}),
        (LabelledCodes(np.arange(2, dtype=np.float32)[:, None], np.array([0, 1])), {"knn"}),
    ],
    ids=["codes alike", "codes alike but for their last bits", "one class", "four images", "two images"],
)
def test_what_codes_do_not_define_is_left_out_with_a_reason(train, absent, caplog):
    caplog.set_level("INFO")
    test = LabelledCodes(train.codes[:2], train.labels[:2])
    found = probes.score_codes(train, test)
    assert set(found) == {"knn", "probe", "kmeans", "nmi"} - absent
    assert all(math.isfinite(value) for value in found.values())
    assert all(name in caplog.text for name in absent)


def test_trustworthiness_is_that_of_scikit_learn(rng, monkeypatch):
    monkeypatch.setattr(maps, "WORKING_MEMORY", 1)  # 600 x 600 distances in three parts
    codes = rng.normal(size=(600, 8)).astype(np.float32)
    for points in (codes[:, :2], rng.normal(size=(600, 2)).astype(np.float32)):
        assert maps.trustworthiness(codes, points) == pytest.approx(trustworthiness(codes, points), abs=1e-12)


def test_trustworthiness_by_hand():
    # 12 codes on a line, the map folds it: 0 beside 11, 1 beside 10 ... The neighbours of each on the map, and
    # their ranks among the codes, are counted below without any library.
    codes = np.arange(12, dtype=np.float32)[:, None] ** 1.1
    points = np.stack([np.minimum(np.arange(12), 11 - np.arange(12)), np.arange(12) // 6 * 0.1], 1).astype(np.float32)
    points[:, 0] **= 1.2
    excess = 0
    for i in range(12):
        others = [j for j in range(12) if j != i]
        rank = {j: r for r, j in enumerate(sorted(others, key=lambda j: abs(codes[j, 0] - codes[i, 0])), 1)}
        near = sorted(others, key=lambda j: math.dist(points[i], points[j]))[:5]
        excess += sum(max(rank[j] - 5, 0) for j in near)
    assert excess > 0
    assert maps.trustworthiness(codes, points) == pytest.approx(1 - 2 * excess / (12 * 5 * (24 - 15 - 1)))


def test_trustworthiness_is_undefined_for_ten_images():
    with pytest.raises(UndefinedScore, match="more than 10"):
        maps.trustworthiness(np.eye(10, dtype=np.float32), np.eye(10, 2, dtype=np.float32))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_left_out_and_logged(value, caplog):
    caplog.set_level("INFO")
    table = {}
    add_score(table, "x", lambda: value)
    add_score(table, ("y", "z"), lambda: (1.0, value))
    add_score(table, "kept", lambda: 2.0)
    assert table == {"kept": 2.0}
    assert "no x" in caplog.text
    assert "no y, z" in caplog.text


def images_of_rank(rng, count, rank, shape=(3, 4, 5)):
    """uint8 images that vary most along a few directions."""
    varied = rng.normal(size=(count, rank)) * 3.0 ** -np.arange(rank) @ rng.normal(size=(rank, math.prod(shape)))
    return np.clip(128 + 30 * varied, 0, 255).astype(np.uint8).reshape(count, *shape)


def test_pca_error_at_each_dimension_is_that_of_reconstructing(rng):
    mixed = rng.random((55, 12)) @ rng.random((12, 12)) * 30
    train, test = np.split(mixed.astype(np.uint8).reshape(55, 3, 2, 2), [40])
    found = pca.error_by_dimension(test, *pca.fit(train))
    assert len(found) == 12
    flat = [images.reshape(len(images), -1) / 255 for images in (train, test)]
    centre = flat[0].mean(0)
    for k in range(1, 13):
        axes = np.linalg.svd(flat[0] - centre)[2][:k]
        rebuilt = (flat[1] - centre) @ axes.T @ axes + centre
        assert found[k - 1] == pytest.approx(np.square(rebuilt - flat[1]).mean(), rel=1e-3, abs=1e-8)
    assert found[-1] == 0
    assert (np.diff(found) <= 0).all()


@pytest.mark.parametrize("max_pixels", [4096, 100], ids=["float images", "products of pairs"])
def test_pca_of_few_images_has_one_axis_less_than_images(rng, monkeypatch, max_pixels):
    monkeypatch.setattr(pca, "MAX_PIXELS", max_pixels)
    train, test = rng.integers(0, 256, (2, 6, 3, 8, 8), np.uint8)
    mean, components = pca.fit(train)
    assert components.shape == (5, 192)
    np.testing.assert_allclose(components @ components.T, np.eye(5), atol=1e-5)
    assert pca.error_by_dimension(train, mean, components)[-1] == pytest.approx(0, abs=1e-7)
    assert pca.error_by_dimension(test, mean, components)[-1] > 0.01


@pytest.mark.parametrize("max_pixels", [4096, 10], ids=["float images", "products of pairs"])
def test_pca_of_equal_images_has_no_error_and_no_warning(monkeypatch, max_pixels):
    monkeypatch.setattr(pca, "MAX_PIXELS", max_pixels)
    images = np.full((5, 1, 4, 6), 100, np.uint8)
    np.testing.assert_allclose(pca.error_by_dimension(images, *pca.fit(images)), 0, atol=1e-12)


def test_pca_through_products_of_pairs_is_that_of_scikit_learn(rng, monkeypatch):
    monkeypatch.setattr(pca, "MAX_PIXELS", 50)
    monkeypatch.setattr(pca, "BLOCK", 40 * 7)  # blocks of 7 of 60 pixels
    images = images_of_rank(rng, 40, 8)
    mean, components = pca.fit(images)
    flat = images.reshape(40, -1) / 255
    expected = PCA(svd_solver="full").fit(flat)
    np.testing.assert_allclose(mean, flat.mean(0), rtol=1e-6)
    assert mean.dtype == components.dtype == np.float32
    assert components.shape == (39, 60)
    np.testing.assert_allclose(components[:20], expected.components_[:20], atol=1e-4)  # the signs too
    np.testing.assert_allclose(components @ components.T, np.eye(39), atol=1e-5)


def test_pca_keeps_a_stated_number_of_components_of_large_images(rng, monkeypatch):
    monkeypatch.setattr(pca, "MAX_PIXELS", 50)
    monkeypatch.setattr(pca, "MAX_COMPONENTS", 6)
    images = images_of_rank(rng, 40, 8)
    mean, components = pca.fit(images)
    expected = PCA(6, svd_solver="full").fit(images.reshape(40, -1) / 255)
    np.testing.assert_allclose(components, expected.components_, atol=1e-4)
    mse = pca.error_by_dimension(images, mean, components)
    assert pca.error_at(mse, 6, 60) == mse[5]
    with pytest.raises(UndefinedScore, match="keeps 6 components of such images, latent_dim is 7"):
        pca.error_at(mse, 7, 60)


def test_pca_error_beyond_every_component_is_that_of_the_last(rng):
    few = images_of_rank(rng, 6, 3)
    mse = pca.error_by_dimension(few, *pca.fit(few))
    assert len(mse) == 5
    assert [pca.error_at(mse, dimension, 60) for dimension in (1, 5, 6, 1000)] == [mse[0], mse[4], mse[4], mse[4]]
    assert pca.error_at(np.arange(4096.0), 5000, 4096) == 4095  # as many components as pixels


def test_pca_axes_of_images_that_vary_in_few_directions_are_only_these(rng, monkeypatch):
    monkeypatch.setattr(pca, "MAX_PIXELS", 50)
    monkeypatch.setattr(pca, "MAX_COMPONENTS", 6)
    pair = images_of_rank(rng, 3, 2)[np.arange(12) % 3]
    mean, components = pca.fit(pair)
    assert len(components) == 2
    np.testing.assert_allclose(components @ components.T, np.eye(2), atol=1e-6)
    assert pca.error_at(pca.error_by_dimension(pair, mean, components), 100, 60) == pytest.approx(0, abs=1e-8)


class RowsOnDisk:
    """Images of which only slices and arrays of rows can be had, and the largest number of them at a time."""

    def __init__(self, images):
        self._images, self.shape, self.most = images, images.shape, 0

    def __len__(self):
        return len(self._images)

    def __getitem__(self, rows):
        chosen = self._images[rows]
        self.most = max(self.most, len(chosen))
        return chosen


@pytest.mark.parametrize("max_pixels", [4096, 50], ids=["float images", "products of pairs"])
def test_pca_in_pieces_from_disk_is_that_in_memory(rng, monkeypatch, max_pixels):
    images = images_of_rank(rng, 40, 8)
    monkeypatch.setattr(pca, "MAX_PIXELS", max_pixels)
    expected = pca.fit(images)
    expected_mse, expected_codes = pca.error_by_dimension(images, *expected), pca.project(images, *expected)
    monkeypatch.setattr(pixels, "PIECE", 60 * 7)  # 7 images at a time
    rows = RowsOnDisk(images)
    mean, components = pca.fit(rows)
    np.testing.assert_array_equal(components, expected[1])
    rows = RowsOnDisk(images)
    np.testing.assert_allclose(pca.error_by_dimension(rows, mean, components), expected_mse, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(pca.project(rows, mean, components), expected_codes, rtol=1e-5, atol=1e-5)
    assert rows.most == 7


@pytest.mark.parametrize("max_pixels", [4096, 50], ids=["float images", "products of pairs"])
def test_pca_is_fitted_on_as_many_images_as_memory_may_hold(rng, monkeypatch, max_pixels):
    images = images_of_rank(rng, 40, 8)
    monkeypatch.setattr(pca, "MAX_PIXELS", max_pixels)
    monkeypatch.setattr(pca, "MAX_BYTES", 60 * 4 * 21 if max_pixels == 4096 else 60 * 21)
    monkeypatch.setattr(pca, "max_components", lambda size: 100)
    rows = RowsOnDisk(images)
    mean, components = pca.fit(rows)
    assert rows.most == 21
    chosen = images[np.linspace(0, 39, 21).round().astype(int)]
    np.testing.assert_allclose(mean, chosen.reshape(21, -1).mean(0) / 255, rtol=1e-5)
    assert len(components) == 20


def test_pca_of_photographs_fits_in_memory():
    for size in (3 * 64 * 64, 3 * 256 * 256, 3 * 1024 * 1024):
        assert 4 * size * pca.max_components(size) <= 2**29
    assert pca.max_components(3 * 256 * 256) == 512


def linear_model(shape, latent_dim=2):
    torch.manual_seed(0)
    spec = Spec(shape=shape, latent_dim=latent_dim, channels=(), widths=(), bottleneck="linear", k=1)
    return Autoencoder(spec).eval()


@pytest.mark.parametrize(("numbers", "images"), [(2**23, 120), (70 * 16, 70), (16, 50)])
def test_ablation_decodes_fewer_images_where_they_are_large(rng, monkeypatch, numbers, images):
    monkeypatch.setattr(ablation, "NUMBERS", numbers)
    monkeypatch.setattr(pixels, "PIECE", 16 * 30)  # in pieces of 30 images
    model, test = linear_model((1, 4, 4)), RowsOnDisk(rng.integers(0, 256, (120, 1, 4, 4), np.uint8))
    codes = rng.normal(size=(120, 2)).astype(np.float32)
    mean = np.array([0.1, 0.2])
    table = ablation.ablation_table(model, mean, test, codes, torch.device("cpu")).set_index("dimension")
    chosen = np.linspace(0, 119, images).round().astype(int)
    target = torch.from_numpy(test[chosen] / 255)
    with torch.no_grad():
        whole = torch.from_numpy(codes[chosen])
        for dimension in (0, 1):
            ablated = whole.clone()
            ablated[:, dimension] = mean[dimension]
            added = ((model.decode(ablated) - target) ** 2).mean() - ((model.decode(whole) - target) ** 2).mean()
            assert table.loc[dimension, "mse_added"] == pytest.approx(added.item(), abs=1e-6)


def test_the_ratio_to_a_pca_without_loss_is_undefined():
    assert reconstruction.mse_ratio(0.02, 0.04, 0.06) == 0.5
    for nothing in (0.0, 3e-8):  # the second: what rounding leaves of 0.06 in float32
        with pytest.raises(UndefinedScore):
            reconstruction.mse_ratio(0.02, nothing, 0.06)
