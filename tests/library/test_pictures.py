"""Pictures: every pixel where it belongs, the same bytes each time, and the codes that they are decoded from."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from skimage import data

from stages.autoencoder.data import pixels
from stages.autoencoder.figures import code_figures, decoded_codes, error_maps, score_figures, style
from stages.autoencoder.figures.base import image_grids, palettes, texts
from stages.autoencoder.model import sampling
from stages.autoencoder.model.autoencoder import Autoencoder, Spec
from stages.autoencoder.scores.anomalies import Found
from tests.support.model_files import make_mixture

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
    np.testing.assert_array_equal(pixels.to_bytes(values).ravel(), [0, 0, 1, 255])


def test_three_channels_are_colours_and_two_are_their_grey_mean(tmp_path):
    red = np.zeros((1, 3, 8, 8), np.uint8)
    red[:, 0] = 200
    image_grids.save_rows(tmp_path / "red.png", [("", red)])
    assert opened(tmp_path / "red.png").convert("RGB").getpixel((20, 20)) == (200, 0, 0)
    image_grids.save_rows(tmp_path / "two.png", [("", red[:, :2])])
    assert opened(tmp_path / "two.png").getpixel((20, 20)) == 100


@pytest.mark.parametrize(
    ("side", "drawn"), [(8, 56), (28, 56), (32, 64), (56, 56), (64, 64), (96, 96), (128, 96), (300, 96)]
)
def test_small_images_are_enlarged_and_large_ones_reduced(tmp_path, side, drawn):
    image_grids.save_rows(tmp_path / "a.png", [("", np.zeros((1, 1, side, side), np.uint8))])
    assert opened(tmp_path / "a.png").size == (drawn + 16, drawn + 16)


@pytest.mark.parametrize(("shape", "drawn"), [((48, 80), (48, 80)), ((300, 150), (96, 48)), ((4, 400), (1, 96))])
def test_images_that_are_not_square_keep_their_shape(tmp_path, shape, drawn):
    image_grids.save_rows(tmp_path / "a.png", [("", np.full((1, 3, *shape), 90, np.uint8))])
    grey = np.asarray(opened(tmp_path / "a.png").convert("L")) == 90
    assert (grey.any(1).sum(), grey.any(0).sum()) == drawn
    assert grey.sum() == drawn[0] * drawn[1]


def test_a_reduced_image_is_the_mean_of_what_it_covers(tmp_path):
    stripes = np.zeros((1, 1, 384, 384), np.uint8)
    stripes[..., ::2] = 200  # finer than the picture: it must become grey, not black or white
    image_grids.save_rows(tmp_path / "a.png", [("", stripes)])
    drawn = np.asarray(opened(tmp_path / "a.png"))[12:-12, 12:-12]
    assert abs(drawn.astype(int) - 100).max() <= 2


def test_a_picture_of_many_large_images_is_not_larger_than_half_a_megabyte(tmp_path, rng):
    photograph = data.astronaut().transpose(2, 0, 1)
    places = rng.integers(0, 512 - 128, (120, 2))
    patches = np.stack([photograph[:, y : y + 128, x : x + 128] for y, x in places])
    image_grids.save_rows(tmp_path / "a.png", [("", row) for row in np.split(patches, 10)])
    assert (tmp_path / "a.png").stat().st_size < 500_000
    image_grids.save_rows(tmp_path / "b.png", [("", patches[:12])])
    assert opened(tmp_path / "b.png").height == 96 + 16


def test_rows_in_grey_and_in_colour_stand_in_one_picture(tmp_path, rng):
    grey = rng.integers(0, 256, (2, 1, 56, 56), np.uint8)
    red = np.zeros((2, 3, 56, 56), np.uint8)
    red[:, 0] = 200
    image_grids.save_rows(tmp_path / "a.png", [("a", grey // 8 * 8), ("b", red)])
    drawn = np.asarray(opened(tmp_path / "a.png").convert("RGB"))
    np.testing.assert_array_equal(drawn[8:64, -64:-8], (grey[1, 0] // 8 * 8)[..., None].repeat(3, 2))
    assert (drawn[-64:-8, -64:-8] == [200, 0, 0]).all()


def test_photographs_keep_their_colours_within_a_palette():
    photograph = Image.fromarray(data.astronaut())
    drawn = np.asarray(palettes.reduce_colours(photograph, ("#222222", "#ffffff")).convert("RGB"))
    assert np.sqrt(np.square(drawn - data.astronaut().astype(float)).mean()) < 4.5  # of 255
    smooth = np.zeros((256, 256, 3), np.uint8)
    smooth[..., 1], smooth[..., 2] = np.arange(256), np.arange(256)[:, None]
    drawn = np.asarray(palettes.reduce_colours(Image.fromarray(smooth), ("#222222", "#ffffff")).convert("RGB"))
    assert abs(drawn.astype(int) - smooth).max() < 30


def test_ink_and_paper_are_exact_beside_photographs(tmp_path):
    photograph = data.astronaut()[:96, :96].transpose(2, 0, 1)[None]
    image_grids.save_rows(tmp_path / "a.png", [("label", photograph)], title="title")
    drawn = np.asarray(opened(tmp_path / "a.png").convert("RGB")).reshape(-1, 3)
    assert (drawn[0] == 255).all()
    assert (drawn == 0x22).all(1).any()


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("plain $a_1$ %", "plain $a_1$ %"),
        ("кофе é", "кофе é"),
        ("e\u0301", "é"),
        ("猫.png", "\\u732b.png"),
        ("\U0001f98a", "\\U0001f98a"),
        ("two\nlines\t\0", "two\\nlines\\t\\x00"),
        ("\udc80", "\\udc80"),
        ("a\u202eb", "a\\u202eb"),
    ],
)
def test_characters_that_the_font_lacks_are_escaped(text, drawn):
    assert texts.drawable(text) == drawn


def test_every_name_is_drawn_without_a_warning(tmp_path, rng):
    names = ["猫", "\U0001f600", "_leading", "$x$", "\udc80", "مرحبا", "é" * 250, "50 %", "\x07", "{}"]
    labels = np.arange(60) % len(names)
    code_figures.save_map(tmp_path / "a.png", rng.normal(size=(60, 2)), labels, names, "map", "no unit")
    code_figures.save_map(tmp_path / "b.png", rng.normal(size=(60, 2)) * [1, 0], labels, names, "map", "no unit")
    images = np.zeros((10, 1, 28, 28), np.uint8)
    image_grids.save_rows(tmp_path / "c.png", [("\n".join(names), images)], title=names[6], captions=names, names=names)
    assert opened(tmp_path / "c.png").width == 8 + 170 + 8 + 10 * 60 - 4 + 8


def test_of_a_long_file_name_the_end_is_shown():
    fits = {"short": "007.png", "folder": "test/scratch/007.png", "long": "test/" + "photo " * 40 + "end-007.png"}
    lines = {kind: image_grids._split_name(name, 60) for kind, name in fits.items()}
    assert lines["short"] == ["007.png"]
    assert lines["folder"][1] == "007.png"
    assert lines["folder"][0].startswith("…")
    assert lines["folder"][0].endswith("scratch/"[-3:])
    assert "".join(lines["long"]).endswith("end-007.png")
    assert len(lines["long"]) == 2


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
    score_figures.save_errors(folder / "errors.png", mse)
    for name, score, moved in (("positive", "mse", 0), ("signed", "combined", -0.5), ("unknown", "other", 0)):
        found = Found(score, mse + moved, 0.3)
        score_figures.save_anomalies(folder / f"{name}.png", found, mse > 0.5, 0.5)
    for name, at in (("better", 1e-3), ("perfect", 0.0)):
        score_figures.save_pca_curve(folder / f"{name}.png", curve, 8, at)
    score_figures.save_code_scores(folder / "codes.png", {"knn": 0.9, "nmi": 0.5}, {"knn": 0.8}, 8)


def test_pictures_are_reproducible_small_and_without_metadata(tmp_path):
    for name in ("first", "second"):
        save_all(tmp_path / name, np.random.default_rng(0))
    paths = sorted((tmp_path / "first").iterdir())
    assert len(paths) == 12
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


def drawn_map(monkeypatch, folder, points, class_names):
    """The axes of a map of 60 points."""
    figures = []
    monkeypatch.setattr(style.Figure, "savefig", recording(style.Figure.savefig, figures))
    labels = np.arange(60) % max(1, len(class_names))
    code_figures.save_map(folder / "map.png", points, labels, class_names, "map", "no unit")
    return figures[0].axes[0]


def recording(function, calls):
    def call(figure, *arguments, **options):
        calls.append(figure)
        return function(figure, *arguments, **options)

    return call


@pytest.mark.parametrize(
    ("classes", "legend", "labels"),
    [(0, 0, 0), (1, 1, 1), (10, 10, 10), (20, 20, 20), (21, 21, 0), (44, 44, 0), (45, 0, 0), (300, 0, 0)],
)
def test_a_map_names_as_many_classes_as_can_be_read(monkeypatch, tmp_path, rng, classes, legend, labels):
    names = [f"class {number}" for number in range(classes)]
    axes = drawn_map(monkeypatch, tmp_path, rng.normal(size=(60, 2)), names)
    shown = [text.get_text() for text in axes.get_legend().get_texts()] if axes.get_legend() else []
    assert (len(shown), len(axes.texts)) == (legend, labels)
    assert shown in ([], names)
    assert sum(len(points.get_offsets()) for points in axes.collections) == 60
    assert ("colours repeat" in axes.get_title("left")) == (classes > 44)
    colours = [points.get_facecolors() for points in axes.collections if len(points.get_offsets())]
    assert len(np.unique(np.concatenate(colours), axis=0)) == np.clip(classes, 1, 10)


def test_a_legend_leaves_the_map_more_than_half_of_the_picture(monkeypatch, tmp_path, rng):
    for count in (8, 44):
        names = [f"{number} a class with a name that goes on and on" for number in range(count)]
        axes = drawn_map(monkeypatch, tmp_path, rng.normal(size=(60, 2)), names)
        assert axes.get_position().width > 0.5
        assert axes.get_legend().get_window_extent().x1 <= axes.figure.bbox.width
        assert all(len(text.get_text()) <= 24 for text in axes.get_legend().get_texts())


def test_codes_of_one_dimension_without_classes_are_a_histogram(monkeypatch, tmp_path, rng):
    points = rng.normal(size=(60, 2)) * [1, 0]
    axes = drawn_map(monkeypatch, tmp_path, points, [])
    assert sum(bar.get_height() for bar in axes.patches) == 60


def test_an_error_map_is_black_without_error_and_lightest_where_it_is_largest():
    images = np.zeros((2, 3, 4, 4), np.uint8)
    output = np.zeros((2, 3, 4, 4), np.float32)
    output[1, :, 2, 3] = 0.5
    output[0, 0, 0, 0] = 0.5  # in one of three channels: sqrt(0.25 / 3) = 0.289
    errors = error_maps.pixel_errors(output, images)
    assert errors.shape == (2, 4, 4)
    assert errors[1, 2, 3] == pytest.approx(0.5)
    assert errors[0, 0, 0] == pytest.approx(0.5 / np.sqrt(3))
    maps = error_maps.draw(errors, 0.5)
    lightness = maps.sum(1, dtype=int)
    assert maps.shape == (2, 3, 4, 4)
    assert maps.dtype == np.uint8
    assert np.unravel_index(lightness.argmax(), lightness.shape) == (1, 2, 3)
    assert (lightness[errors == 0] == lightness.min()).all()
    assert lightness.min() < lightness[0, 0, 0] < lightness.max()
    np.testing.assert_array_equal(error_maps.draw(errors * 2, 0.5)[1, :, 2, 3], maps[1, :, 2, 3])  # above the top


def test_the_maps_of_a_picture_share_the_scale_that_their_label_states(rng):
    images = np.zeros((3, 1, 16, 16), np.uint8)
    output = np.full((3, 1, 16, 16), 0.25, np.float32) * np.array([0, 1, 2], np.float32)[:, None, None, None]
    label, maps = error_maps.row(images, output)
    assert label == "error, 0 to 0.5"
    assert len({tuple(image[:, 0, 0]) for image in maps}) == 3
    assert error_maps.row(images, output * 0)[1].max() < 10  # no error at all: black, and no division by 0


def test_class_colours_are_ten_different_ones():
    assert len(set(style.COLOURS)) == 10


def draw_codes(latent_dim, bottleneck, codes, classes):
    mixture = None if bottleneck == "gaussian" else make_mixture(latent_dim)
    made = model(latent_dim, bottleneck)
    return list(decoded_codes.pictures_of_codes(made, mixture, codes, np.array(classes), torch.device("cpu")))


def test_an_interpolation_is_a_straight_line_with_both_ends():
    line = sampling.interpolate(np.array([0.0, 10.0]), np.array([11.0, -12.0]), decoded_codes.STEPS)
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


@pytest.mark.parametrize(("classes", "label"), [(["a", "b"], "a to b"), (["good", "good"], ""), (["", ""], "")])
def test_interpolations_are_labelled_if_they_join_two_classes(rng, classes, label):
    codes = rng.normal(size=(2, 20)).astype(np.float32)
    found = {picture.name: picture for picture in draw_codes(20, "relu", codes, classes)}
    assert [text for text, _ in found["interpolations"].rows] == [label]


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


@pytest.mark.parametrize(
    ("latent_dim", "bottleneck", "names", "source"),
    [
        (1, "linear", {"interpolations", "samples"}, "a mixture of 2 Gaussians of the training codes"),
        (2, "gaussian", {"interpolations", "samples", "plane"}, "the prior N(0, I)"),
        (20, "relu", {"interpolations", "samples"}, "a mixture of 2 Gaussians of the training codes"),
        (20, "top_k", {"interpolations", "samples"}, "a mixture of 2 Gaussians of the training codes"),
    ],
)
def test_each_model_has_the_pictures_that_mean_something_for_it(latent_dim, bottleneck, names, source, rng):
    codes = rng.normal(size=(30, latent_dim)).astype(np.float32)
    found = draw_codes(latent_dim, bottleneck, codes, ["a", "b", "c"] * 10)
    assert {picture.name for picture in found} == names
    for picture in found:
        assert all(images.shape == (12, 1, 8, 8) for _, images in picture.rows)
        assert all(0 <= images.min() <= images.max() <= 1 for _, images in picture.rows)
    assert f"Decoded samples from {source}" in [picture.title for picture in found]


def test_one_image_has_no_interpolations(rng):
    found = draw_codes(3, "linear", rng.normal(size=(1, 3)).astype(np.float32), ["a"])
    assert [picture.name for picture in found] == ["samples"]


@pytest.mark.parametrize(("apart", "named"), [(0.0, 0), (8.0, 2)])
def test_classes_are_named_on_a_map_only_where_they_lie_apart(tmp_path, monkeypatch, apart, named):
    names = []
    monkeypatch.setattr(code_figures.Axes, "text", lambda self, x, y, text, **_: names.append(text))
    rng, labels = np.random.default_rng(0), np.arange(60) % 2
    points = rng.normal(size=(60, 2)) + labels[:, None] * apart
    code_figures.save_map(tmp_path / "map.png", points, labels, ["good", "bad"], "title", "unit")
    assert len([name for name in names if name in ("good", "bad")]) == named
