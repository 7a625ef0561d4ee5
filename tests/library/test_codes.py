"""Scores of codes as points: clusters against hand counts, dimensions against closed forms and scikit-dimension."""

import itertools

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score

from stages.autoencoder.scores.codes import clusters, dimension_estimates, linear_classifiers
from stages.autoencoder.scores.codes.clusters import clustering_accuracy
from stages.autoencoder.scores.probes import LabelledCodes
from stages.autoencoder.scores.undefined_scores import UndefinedScore


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_clustering_accuracy_beats_the_greedy_assignment():
    # cluster 0 holds 5 of class 0 and 4 of class 1, cluster 1 holds 4 of class 0: greedy 5, best 4 + 4 of 13
    clusters, labels = np.repeat([0, 0, 1], [5, 4, 4]), np.repeat([0, 1, 0], [5, 4, 4])
    assert clustering_accuracy(clusters, labels) == 8 / 13


def test_clustering_accuracy_is_the_best_of_all_matches(rng):
    clusters, labels = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    best = max(np.mean(np.array(match)[clusters] == labels) for match in itertools.permutations(range(5)))
    assert clustering_accuracy(clusters, labels) == best
    renamed = rng.permutation(5)
    assert clustering_accuracy(renamed[clusters], labels) == best


def test_clusters_of_all_images_are_fitted_and_scored_on_the_same_ones(rng):
    labels = np.repeat([0, 1, 2], 60)
    codes = (labels[:, None] + rng.normal(0, 0.6, (180, 2))).astype(np.float32)
    found = clusters.score_all_images(codes, None, labels)
    expected = {}
    for prefix, points in (("", codes), ("unit_", codes / np.hypot(*codes.T)[:, None])):
        fitted = KMeans(3, n_init=10, random_state=0).fit(points).labels_
        expected[f"{prefix}kmeans"] = clustering_accuracy(fitted, labels)
        expected[f"{prefix}nmi"] = pytest.approx(normalized_mutual_info_score(labels, fitted))
    assert found == expected
    assert 0.5 < found["kmeans"] < 1


def test_codes_of_any_length_cluster_by_their_direction(rng):
    labels = np.repeat([0, 1, 2], 60)
    lengths = rng.uniform(0.01, 100, (180, 1))
    codes = (lengths * (np.eye(3)[labels] + rng.normal(0, 0.05, (180, 3)))).astype(np.float32)
    found = clusters.score_all_images(codes, None, labels)
    assert found["unit_kmeans"] == 1 > found["kmeans"]
    codes[labels == 0] = 0  # as sparse codes may be: no direction, but one point
    assert clusters.score_all_images(codes, None, labels)["unit_kmeans"] == 1


def test_n2d_clusters_the_manifold_and_k_means_the_codes(rng):
    labels = np.repeat([0, 1, 2], 50)
    manifold = labels[:, None] * 20 + rng.normal(size=(150, 10))
    found = clusters.score_all_images(rng.normal(size=(150, 2)), manifold, labels)
    assert (found["n2d"], found["n2d_nmi"]) == (1, pytest.approx(1))
    assert found["kmeans"] < 0.6


def test_a_mixture_of_fewer_images_than_classes_is_undefined(rng):
    with pytest.raises(UndefinedScore, match="as many images, there are 3"):
        clusters.mixture(rng.random((3, 2)), 5, rng.random((3, 2)))


@pytest.mark.parametrize("shape", [(300, 7), (7, 30), (50, 3000)])
def test_the_spectrum_is_the_variances_of_scikit_learns_pca(rng, shape):
    points = (rng.normal(size=shape) * np.linspace(3, 1, shape[1]) + 5).astype(np.float32)
    found = dimension_estimates.spectrum(points)
    expected = PCA(svd_solver="full").fit(points.astype(float)).explained_variance_ * (shape[0] - 1) / shape[0]
    assert len(found) == min(shape)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_the_spectrum_of_many_dimensions_takes_fewer_points(rng, monkeypatch):
    monkeypatch.setattr(dimension_estimates, "MAX_COVARIANCE", 20)
    points = rng.normal(size=(99, 21))
    chosen = points[np.linspace(0, 98, 20).round().astype(int)]
    np.testing.assert_allclose(dimension_estimates.spectrum(points), dimension_estimates.spectrum(chosen))


@pytest.mark.parametrize(
    ("variances", "expected"), [([2, 2, 2, 2], 4), ([3, 0, 0], 1), ([4, 1], 25 / 17), ([1e-9, 1e-9], 2)]
)
def test_the_participation_ratio_counts_equal_variances(variances, expected):
    assert dimension_estimates.participation_ratio(np.array(variances, float)) == pytest.approx(expected)


def embedded(count, dimension):
    """Uniform points of a cube of so many dimensions, turned and stretched into ten."""
    rng = np.random.default_rng(0)
    return rng.random((count, dimension)) @ rng.normal(size=(dimension, 10))


# scikit-dimension 0.5.0: TwoNN(), and the mean over k = 10 .. 20 of MLE().fit(points, n_neighbors=k, comb="mle")
SCIKIT_DIMENSION = {
    1: (0.936595498668564, 0.9781471776808431),
    3: (3.323928762141712, 2.793630674683292),
    8: (6.115233407641446, 5.280378540880452),
}


@pytest.mark.parametrize("dimension", SCIKIT_DIMENSION)
def test_estimates_from_neighbours_are_those_of_scikit_dimension(dimension):
    found = dimension_estimates.neighbour_estimates(embedded(400, dimension))
    assert found == pytest.approx(SCIKIT_DIMENSION[dimension], rel=1e-9)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_estimates_from_neighbours_are_near_the_dimension_of_a_flat_torus(dimension):
    angles = np.random.default_rng(1).random((3000, dimension)) * 2 * np.pi  # without a border, which lowers estimates
    points = np.concatenate([np.cos(angles), np.sin(angles)], 1)
    assert dimension_estimates.neighbour_estimates(points) == pytest.approx((dimension, dimension), rel=0.1)


def test_twonn_of_distances_that_follow_its_law_gives_their_dimension():
    """Ratios at the quantiles of P(mu > m) = m^-d."""
    quantiles = 1 - np.arange(1, 1001) / 1000
    ratios = np.maximum(quantiles, 1e-4) ** (-1 / 7)
    assert dimension_estimates.twonn(np.stack([np.ones(1000), ratios], 1)) == pytest.approx(7)


def test_maximum_likelihood_by_hand():
    # T_j = 2^(j / d): log(T_k / T_j) = (k - j) log(2) / d, whose mean over j < k is k log(2) / (2 d)
    distances = np.tile(2 ** (np.arange(1, 21) / 3), (2, 1))
    expected = np.mean([2 * 3 / (k * np.log(2)) for k in range(10, 21)])
    assert dimension_estimates.maximum_likelihood(distances) == pytest.approx(expected)


def test_images_that_occur_twice_change_no_estimate():
    points = embedded(100, 3).astype(np.float32)
    once, twice = (dimension_estimates.neighbour_estimates(points[rows]) for rows in (range(100), [*range(100)] * 2))
    assert twice == once


def test_points_that_differ_by_rounding_alone_are_left_out():
    points = embedded(400, 3).astype(np.float32)
    near = np.concatenate([points, np.nextafter(points[:40], np.float32(9))])
    expected = dimension_estimates.neighbour_estimates(points)
    assert dimension_estimates.neighbour_estimates(near) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("points", [np.ones((50, 3)), np.arange(20.0)[:, None], np.repeat(np.arange(9.0), 9)[:, None]])
def test_too_few_points_that_differ_have_no_intrinsic_dimension(points):
    with pytest.raises(UndefinedScore, match="more than 20 images that differ"):
        dimension_estimates.neighbour_estimates(points)


def test_neighbours_that_are_equally_far_have_no_intrinsic_dimension():
    with pytest.raises(UndefinedScore, match="equally far"):
        dimension_estimates.twonn(np.ones((30, 20)))
    with pytest.raises(UndefinedScore, match="equally far"):
        dimension_estimates.maximum_likelihood(np.ones((30, 20)))


def test_the_dimension_of_the_images_does_not_depend_on_the_codes(rng, monkeypatch):
    images = np.rint(embedded(60, 4).reshape(60, 1, 2, 5) * 20 + 128).clip(0, 255).astype(np.uint8)
    found = [dimension_estimates.estimate(rng.normal(size=(60, size)).astype(np.float32), images) for size in (2, 9)]
    assert found[0].images == found[1].images
    assert list(found[0].codes) == ["participation", "twonn", "ml"]
    assert found[0].codes["twonn"] < found[1].codes["twonn"]
    assert found[0].images["ml"] == dimension_estimates.neighbour_estimates(images.reshape(60, 10) / np.float32(255))[1]


@pytest.mark.parametrize("make", [linear_classifiers.make_logistic_regression, linear_classifiers.make_svm])
def test_linear_classifiers_tell_classes_apart_that_planes_divide(make, rng):
    """Three clouds at the corners of a triangle; with shuffled classes about a third is right by chance."""
    labels = rng.integers(0, 3, 300)
    codes = (10 * np.eye(3)[labels] + rng.normal(0, 0.3, (300, 3))).astype(np.float32)
    parts = [LabelledCodes(codes[rows], labels[rows]) for rows in (slice(200), slice(200, 250), slice(250, 300))]
    assert linear_classifiers.score_classifier(make, *parts) == 1
    shuffled = [LabelledCodes(part.codes, rng.permutation(part.labels)) for part in parts]
    assert linear_classifiers.score_classifier(make, *shuffled) < 0.7


@pytest.mark.parametrize(("right", "chosen"), [([8, 9, 9, 10], 1), ([10, 9, 10, 10], 0), ([1, 2, 3, 4, 5], 4)])
def test_weaker_penalties_are_tried_until_validation_gains_nothing(right, chosen):
    """`right`: validation images of ten that a stand-in for a classifier gets right with each penalty.

    The last one, which is scored on the test codes, is fitted to the 30 codes of both parts with the best penalty.
    """

    class StandIn:
        def __init__(self, c):
            self.c = c

        def fit(self, codes, labels):
            penalty = pytest.approx(1 / (self.c * len(labels)))
            self.images, self.number = len(labels), linear_classifiers.PENALTIES.index(penalty)
            return self

        def score(self, codes, labels):
            if len(labels) == 10:
                assert self.images == 20
                return right[self.number] / 10
            assert self.images == 30
            return self.number

    codes = np.arange(20, dtype=np.float32)[:, None]
    train, valid, test = (LabelledCodes(codes[:count], np.arange(count) % 2) for count in (20, 10, 5))
    assert linear_classifiers.score_classifier(StandIn, train, valid, test) == chosen


def test_classifiers_leave_out_images_of_classes_that_did_not_train(rng):
    codes = rng.normal(size=(90, 4)).astype(np.float32)
    train, valid, test = (LabelledCodes(codes[rows], np.arange(30) % 3) for rows in np.split(np.arange(90), 3))
    stranger = LabelledCodes(codes[:30], np.full(30, 7))
    both = [LabelledCodes(*map(np.concatenate, zip(part, stranger, strict=True))) for part in (valid, test)]
    score = linear_classifiers.score_classifiers
    assert score(train, *both) == score(train, valid, test)
    assert score(train, valid, stranger) == {}


def test_the_penalty_means_the_same_for_codes_of_any_scale_and_density(rng):
    """Half of the entries are zero, then two thirds of the others too: the second kind is held as a sparse matrix."""
    codes = np.maximum(rng.normal(size=(300, 20)), 0).astype(np.float32)
    labels = (codes[:, :3] + 0.3 * rng.random((300, 3))).argmax(1)
    for made in (codes, np.where(codes > 1, codes, 0)):
        parts, tiny = (
            [
                LabelledCodes((factor * made[rows]).astype(np.float32), labels[rows])
                for rows in np.split(np.arange(300), 3)
            ]
            for factor in (1, 1e-3)
        )
        assert linear_classifiers.score_classifiers(*parts) == linear_classifiers.score_classifiers(*tiny)
