"""Pictures: every pixel where it belongs, the same bytes each time, and the codes that they are decoded from."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from stages.autoencoder.figures import code_figures, decoded_codes, image_grids, score_figures, style
from stages.autoencoder.model.autoencoder import Autoencoder, Spec

KIB150 = 150 * 1024


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def model(latent_dim, bottleneck="linear", shape=(1, 8, 8)):
    torch.manual_seed(0)
    spec = Spec(shape=shape, latent_dim=latent_dim, channels=(), widths=(), bottleneck=bottleneck, k=1)
    return Autoencoder(spec).eval()


def opened(path):
    return Image.open(io.BytesIO(path.read_bytes()))


def test_pixels_are_drawn_as_squares_in_rows(tmp_path, rng):
    images = rng.integers(0, 256, (2, 3, 1, 28, 28), np.uint8)  # two rows of three images
    image_grids.save_rows(tmp_path / "a.png", [("", images[0]), ("", images[1])])
    drawn = np.asarray(opened(tmp_path / "a.png"))
    for row in range(2):
        for column in range(3):
            top, left = 8 + row * 60, 8 + column * 60
            expected = images[row, column, 0].repeat(2, 0).repeat(2, 1)
            np.testing.assert_array_equal(drawn[top : top + 56, left : left + 56], expected)
    assert drawn.shape == (2 * 60 - 4 + 16, 3 * 60 - 4 + 16)


def test_floats_are_rounded_to_grey_levels():
    values = np.array([0, 0.4 / 255, 0.6 / 255, 1], np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(image_grids.to_bytes(values).ravel(), [0, 0, 1, 255])


def test_three_channels_are_colours_and_two_are_their_grey_mean(tmp_path):
    red = np.zeros((1, 3, 8, 8), np.uint8)
    red[:, 0] = 200
    image_grids.save_rows(tmp_path / "red.png", [("", red)])
    assert opened(tmp_path / "red.png").convert("RGB").getpixel((20, 20)) == (200, 0, 0)
    image_grids.save_rows(tmp_path / "two.png", [("", red[:, :2])])
    assert opened(tmp_path / "two.png").getpixel((20, 20)) == 100


@pytest.mark.parametrize(("side", "drawn"), [(8, 56), (28, 56), (32, 64), (56, 56), (64, 64), (128, 64), (300, 60)])
def test_images_of_every_size_are_drawn_at_about_one(tmp_path, side, drawn):
    image_grids.save_rows(tmp_path / "a.png", [("", np.zeros((1, 1, side, side), np.uint8))])
    assert opened(tmp_path / "a.png").size == (drawn + 16, drawn + 16)


def test_title_and_captions_leave_the_images_whole(tmp_path, rng):
    images = rng.integers(1, 255, (12, 1, 28, 28), np.uint8)
    title = "a title that is so long that it must be broken into several lines " * 3
    captions = ["a class name that is far too long\n0.123"] * 12
    image_grids.save_rows(tmp_path / "a.png", [("row", images)], title=title, captions=captions)
    drawn = np.asarray(opened(tmp_path / "a.png"))
    expected = images[11, 0].repeat(2, 0).repeat(2, 1)
    places = np.lib.stride_tricks.sliding_window_view(drawn, (56, 56))[:, drawn.shape[1] - 8 - 56]
    assert sum(np.array_equal(place, expected) for place in places) == 1
    assert (drawn[:8] == 255).all()
    assert (drawn[:, -8:] == 255).all()
    assert (drawn[-2:] == 255).all()


def save_all(folder, rng):
    """Every kind of picture, from the same numbers each time."""
    images = rng.random((12, 3, 32, 32), np.float32)
    image_grids.save_rows(folder / "colour.png", [("a", images), ("b", images)], title="t", captions=["1\n2"] * 12)
    points = rng.normal(size=(10_000, 2)).astype(np.float32)
    names = [str(number) for number in range(12)]
    code_figures.save_map(folder / "map.png", points, np.arange(10_000) % 12, names, "map", "no unit")
    code_figures.save_map(folder / "line.png", points * [1, 0], np.arange(10_000) % 12, names, "line", "no unit")
    for size, column in ((1, "std"), (64, "kl")):
        table = {"rank": np.arange(1, size + 1), "dimension": np.arange(size), column: np.ones(size)}
        table = pd.DataFrame(table | {"mse_added": np.linspace(1, 0, size)})
        code_figures.save_dimensions(folder / f"dimensions{size}.png", table, size, 1000)
    mse, curve = rng.random(500), np.geomspace(1, 1e-4, 64)
    for name, anomalous in (("some", mse > 0.5), ("none", mse > 2)):
        score_figures.save_errors(folder / f"{name}.png", mse, anomalous, 0.5)
    for name, at in (("better", 1e-3), ("perfect", 0.0)):
        score_figures.save_pca_curve(folder / f"{name}.png", curve, 8, at)
    score_figures.save_code_scores(folder / "codes.png", {"knn": 0.9, "nmi": 0.5}, {"knn": 0.8}, 8)


def test_pictures_are_reproducible_small_and_without_metadata(tmp_path):
    for name in ("first", "second"):
        save_all(tmp_path / name, np.random.default_rng(0))
    paths = sorted((tmp_path / "first").iterdir())
    assert len(paths) == 10
    for path in paths:
        content = path.read_bytes()
        assert content == (tmp_path / "second" / path.name).read_bytes(), path.name
        assert len(content) < KIB150, path.name
        picture = opened(path)
        assert not set(picture.info) & {"Software", "date:create", "tIME", "Creation Time"}, path.name
        assert max(picture.size) <= 1000, path.name


def test_scores_of_no_codes_give_no_picture(tmp_path):
    score_figures.save_code_scores(tmp_path / "codes.png", {}, {}, 8)
    assert not list(tmp_path.iterdir())


def test_class_colours_are_ten_different_ones():
    assert len(set(style.COLOURS)) == 10


def test_an_interpolation_is_a_straight_line_with_both_ends():
    line = decoded_codes.interpolate(np.array([0.0, 10.0]), np.array([11.0, -12.0]))
    np.testing.assert_allclose(line, np.stack([np.arange(12), 10 - 2 * np.arange(12)], 1), atol=1e-12)


def test_interpolations_lead_from_one_class_to_another():
    classes = np.array(["a", "b", "c", "d"])[[1, 1, 0, 2, 0, 3, 1]]
    start, end = decoded_codes.endpoints(classes)
    assert list(zip(classes[start], classes[end], strict=True)) == [("a", "c"), ("b", "d")]


@pytest.mark.parametrize(("count", "pairs"), [(1, 0), (2, 1), (3, 1), (100, 6)])
def test_interpolations_within_a_class_join_different_images(count, pairs):
    start, end = decoded_codes.endpoints(np.full(count, "a"))
    assert len(start) == len(end) == pairs
    assert len({*start, *end}) == 2 * pairs


def test_a_traversal_moves_one_dimension_of_a_typical_code(rng):
    codes = (rng.normal(size=(400, 12)) * np.arange(12, 0, -1)).astype(np.float32)
    typical = codes[np.linalg.norm(codes - codes.mean(0), axis=1).argmin()]
    for dimension in range(12):
        path = decoded_codes.traverse(codes, dimension)
        low, high = np.percentile(codes[:, dimension], [1, 99])
        assert path[[0, -1], dimension] == pytest.approx([low, high], rel=1e-6)
        np.testing.assert_array_equal(np.delete(path, dimension, 1), np.tile(np.delete(typical, dimension), (12, 1)))


def test_traversals_keep_the_given_order_of_dimensions(rng):
    codes = rng.normal(size=(30, 12)).astype(np.float32)
    order = rng.permutation(12).tolist()
    picture = decoded_codes.traversals(model(12), codes, order, torch.device("cpu"))
    assert [label for label, _ in picture.rows] == [f"z{dimension}" for dimension in order[:10]]
    with torch.no_grad():
        expected = model(12).decode(torch.from_numpy(decoded_codes.traverse(codes, order[3])))
    np.testing.assert_allclose(picture.rows[3][1], expected, rtol=1e-5, atol=1e-6)
    assert all(images.shape == (12, 1, 8, 8) for _, images in picture.rows)


def test_fitted_samples_have_mean_and_covariance_of_the_codes(rng, monkeypatch):
    monkeypatch.setattr(decoded_codes, "MAX_ROWS", 10_000)
    codes = rng.normal(size=(50, 3)) @ np.array([[2, 1, 0], [0, 1, 1], [0, 0, 0.1]]) + [5, 0, -5]
    samples = decoded_codes.sample_gaussian(codes)
    np.testing.assert_allclose(samples.mean(0), codes.mean(0), atol=0.05)
    np.testing.assert_allclose(np.cov(samples.T), np.cov(codes.T), atol=0.1)


@pytest.mark.parametrize(
    ("latent_dim", "bottleneck", "names"),
    [
        (1, "linear", {"interpolations", "samples"}),
        (2, "gaussian", {"interpolations", "samples", "plane"}),
        (20, "relu", {"interpolations"}),
        (20, "top_k", {"interpolations"}),
    ],
)
def test_each_model_has_the_pictures_that_mean_something_for_it(latent_dim, bottleneck, names, rng):
    codes = rng.normal(size=(30, latent_dim)).astype(np.float32)
    classes = np.array(["a", "b", "c"])[np.arange(30) % 3]
    found = list(decoded_codes.pictures_of_codes(model(latent_dim, bottleneck), codes, classes, torch.device("cpu")))
    assert {picture.name for picture in found} == names
    for picture in found:
        assert all(images.shape == (12, 1, 8, 8) for _, images in picture.rows)
        assert all(0 <= images.min() <= images.max() <= 1 for _, images in picture.rows)


def test_one_image_has_neither_interpolations_nor_samples(rng):
    codes = rng.normal(size=(1, 3)).astype(np.float32)
    found = list(decoded_codes.pictures_of_codes(model(3), codes, np.array(["a"]), torch.device("cpu")))
    assert found == []
