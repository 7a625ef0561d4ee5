"""The views of the page in a browser: pointing, moving, encircling, searching, drawing, sliders, keys, phones."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from tests.explorer.pages import OpenPage, make_experiment, make_network, open_browser, write_page

HTML = "<img src=x onerror=alert(1)>"
TABS = ("image", "decode", "path", "draw", "group", "experiment")

COUNT_COLOURS = """() => {
  const { width, height } = document.getElementById("dots");
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(document.getElementById("dots"), 0, 0);
  return new Set(new Uint32Array(context.getImageData(0, 0, width, height).data.buffer)).size;
}"""


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def experiment():
    return make_experiment(make_network(), 300, ("cat", "dog", HTML))


@pytest.fixture(scope="module")
def path(experiment, tmp_path_factory):
    experiment.names[7] = f"photos/{HTML}.png"
    return write_page(tmp_path_factory.mktemp("page"), experiment, HTML)


@pytest.fixture
def opened(browser, path):
    """The page, whose console must be empty at the end, and which must have asked for nothing but itself."""
    opened = OpenPage(browser, path)
    yield opened
    assert opened.complaints == []
    assert opened.requests == [path.as_uri()]
    opened.context.close()


def test_pointing_at_a_dot_shows_its_image_class_file_and_error(opened, experiment):
    opened.page.mouse.move(*opened.place(7))
    opened.settle()
    assert opened.text("card-class") == experiment.class_names[experiment.labels[7]] == "dog"
    assert opened.text("card-name") == experiment.names[7]
    assert float(opened.text("card-score").split()[-1]) == pytest.approx(experiment.errors[7], rel=5e-3)
    shown = opened.pixels("#card-original")[0, ..., 0]
    np.testing.assert_array_equal(shown, experiment.images[7, 0])
    assert not np.array_equal(opened.pixels("#card-output"), opened.pixels("#card-original"))


def test_a_click_chooses_the_dot_and_pointing_moves_nothing(opened, experiment):
    boxes = [opened.page.locator(f"#{name}").bounding_box() for name in ("map", "side", "legend", "search")]
    opened.page.mouse.move(*opened.place(20))
    opened.page.mouse.down()
    opened.page.mouse.up()
    opened.settle()
    assert opened.text("image-name") == experiment.names[20]
    np.testing.assert_array_equal(opened.pixels("#image-original")[0, ..., 0], experiment.images[20, 0])
    assert boxes == [opened.page.locator(f"#{name}").bounding_box() for name in ("map", "side", "legend", "search")]


def test_the_map_follows_the_pointer_and_the_wheel_keeps_the_place_below_it(opened):
    before = opened.place(5)
    opened.page.mouse.move(300, 400)
    opened.page.mouse.down()
    opened.page.mouse.move(340, 380, steps=4)
    opened.page.mouse.up()
    opened.settle()
    assert opened.place(5) == pytest.approx((before[0] + 40, before[1] - 20))
    x, y = opened.place(9)
    opened.page.mouse.move(x, y)
    opened.page.mouse.wheel(0, -300)
    opened.settle()
    assert opened.place(9) == pytest.approx((x, y), abs=1)  # events have whole pixels
    opened.page.click("#zoom-all")
    assert opened.place(5) == pytest.approx(before)


def test_a_lasso_takes_the_dots_inside_it(opened):
    opened.page.click("#lasso")
    box = opened.page.locator("#overlay").bounding_box()
    x, y, middle, bottom = box["x"] + 1, box["y"] + 45, box["x"] + box["width"] / 2, box["y"] + box["height"] - 2
    inside = [place for place in opened.places(range(300)) if place[0] < middle and place[1] > y]
    opened.page.mouse.move(x, y)
    opened.page.mouse.down()
    for corner in ((middle, y), (middle, bottom), (x, bottom)):
        opened.page.mouse.move(*corner, steps=3)
    opened.page.mouse.up()
    opened.show("group")
    assert opened.text("group-count") == f"{len(inside)} of 300"
    assert 0 < len(inside) < 300
    opened.page.click("#drop-lasso")
    assert opened.text("group-count") == "300 of 300"


@pytest.mark.parametrize(("text", "count"), [("dog", 100), ("DOG", 100), ("photos/1", 111), ("<img", 101), ("none", 0)])
def test_search_finds_classes_and_files(opened, text, count):
    """1, 10 to 19 and 100 to 199 are 111 files; 100 images have HTML in their class, one in its name."""
    opened.page.fill("#search", text)
    opened.settle()
    assert opened.text("found") == f"{count} of 300"


def test_enter_in_the_search_chooses_what_is_found(opened):
    opened.page.fill("#search", "photos/42.png")
    opened.page.press("#search", "Enter")
    assert opened.text("image-name") == "photos/42.png"


def test_the_legend_narrows_to_a_class(opened):
    opened.page.click("#classes button >> nth=1")
    assert opened.text("found") == "100 of 300"
    assert opened.page.get_attribute("#classes button >> nth=1", "aria-pressed") == "true"


def test_html_in_names_is_shown_as_text(opened):
    opened.page.fill("#search", HTML)
    opened.page.press("#search", "Enter")
    for tab in TABS:
        opened.show(tab)
    assert opened.page.locator("img").count() == 0
    assert opened.text("classes").count(HTML) == 1
    assert opened.page.locator("h1").inner_text() == HTML
    assert opened.page.title() == f"{HTML}: explorer"
    opened.show("image")
    assert HTML in opened.text("image-class")


def test_sliders_decode_what_torch_decodes(opened, experiment):
    opened.show("decode")
    slider = opened.page.locator("#sliders input >> nth=0")  # the dimension that carries most, the last one
    slider.evaluate("input => { input.value = input.max; input.dispatchEvent(new Event('input')); }")
    opened.settle()
    code = experiment.codes[0].copy()
    code[3] = float(slider.evaluate("input => input.value"))
    expected = 255 * experiment.model.decode(code[None])[0, 0]
    np.testing.assert_allclose(opened.pixels("#decoded")[0, ..., 0], expected, atol=0.6)


def test_a_dot_that_is_chosen_beside_the_sliders_gives_them_its_code(opened, experiment):
    opened.show("decode")
    opened.page.mouse.click(*opened.place(33))
    opened.settle()
    code = opened.page.eval_on_selector_all("#sliders input", "inputs => inputs.map(input => Number(input.value))")[
        ::-1
    ]
    assert (np.abs(code - experiment.codes[33]) <= np.ptp(experiment.codes, 0) / 500).all()


@pytest.mark.parametrize("button", ["from-mean", "from-prior"])
def test_a_code_starts_from_the_mean_or_a_sample(opened, experiment, button):
    opened.show("decode")
    opened.page.click(f"#{button}")
    opened.settle()
    code = opened.page.eval_on_selector_all("#sliders input", "inputs => inputs.map(input => Number(input.value))")[
        ::-1
    ]
    if button == "from-mean":
        step = np.ptp(experiment.codes, 0) / 500  # of the sliders
        assert (np.abs(code - experiment.mean_code) <= step).all()
    decoded = experiment.model.decode(np.array([code], np.float32))[0, 0]
    np.testing.assert_allclose(opened.pixels("#decoded")[0, ..., 0] / 255, decoded, atol=0.02)


def test_a_film_plays_from_one_image_to_the_other(opened, experiment):
    opened.show("path")
    assert opened.page.input_value("#position") == "0"
    first = opened.pixels("#film")
    np.testing.assert_allclose(first[0, ..., 0] / 255, experiment.model.decode(experiment.codes[:1])[0, 0], atol=0.003)
    opened.page.click("#play")
    opened.wait("Number(document.getElementById('position').value) > 0.6")
    opened.page.click("#play")
    assert not np.array_equal(opened.pixels("#film"), first)


def test_a_drawing_is_scored_as_torch_scores_it(opened, experiment):
    opened.show("draw")
    opened.page.click("#clear")
    opened.settle()
    blank = opened.text("draw-score")
    box = opened.page.locator("#pad").bounding_box()
    opened.page.mouse.move(box["x"] + 30, box["y"] + 30)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + 110, box["y"] + 150, steps=6)
    opened.page.mouse.up()
    opened.settle()
    assert opened.text("draw-score") != blank
    drawn = opened.pixels("#pad")[0, ..., 0]
    assert len(np.unique(drawn)) > 2
    score = experiment.model.errors(drawn[None, None].astype(np.float32) / 255)[0]
    assert float(opened.text("draw-score").split(",")[0]) == pytest.approx(score, rel=0.01)
    verdict = "an anomaly" if score > experiment.model.about.mse_threshold else "ordinary"
    assert opened.text("draw-score").endswith(verdict)


def test_an_image_file_is_opened_and_another_file_refused_in_a_line(opened, experiment, tmp_path):
    opened.show("draw")
    Image.fromarray(experiment.images[3, 0]).save(tmp_path / "three.png")
    (tmp_path / "text.png").write_text("no image")
    opened.page.set_input_files("#file", tmp_path / "three.png")
    opened.wait("document.getElementById('file-note').textContent == 'three.png'")
    np.testing.assert_allclose(opened.pixels("#pad")[0, ..., 0], experiment.images[3, 0], atol=1)
    opened.page.set_input_files("#file", tmp_path / "text.png")
    opened.wait("document.getElementById('file-note').textContent.startsWith('text.png: must be')")


def test_keys_choose_dots_views_and_draw(opened, experiment):
    opened.page.focus("#overlay")
    opened.page.keyboard.press("ArrowRight")
    chosen = experiment.names.index(opened.text("image-name"))
    assert opened.place(chosen)[0] > opened.place(0)[0]
    opened.page.focus("#tab-image")
    opened.page.keyboard.press("ArrowLeft")
    assert opened.page.get_attribute("#tab-experiment", "aria-selected") == "true"
    opened.show("draw")
    opened.page.click("#clear")
    opened.page.focus("#pad")
    for key in (" ", "Shift+ArrowDown", "Shift+ArrowDown", "Shift+ArrowDown"):
        opened.page.keyboard.press(key)
    drawn = opened.pixels("#pad")[0, ..., 0]
    assert (drawn != drawn[0, 0]).any(1).sum() >= 4  # rows


def test_images_in_place_of_dots_and_every_map_and_colour(opened):
    opened.page.click("#images")
    for choice in ("pca", "axes"):
        opened.page.select_option("#map-choice", choice)
        for colour in ("class", "error", "3"):
            opened.page.select_option("#colour-choice", colour)
            opened.settle()
            assert opened.page.evaluate(COUNT_COLOURS) > 10


def test_the_curve_marks_this_model_among_its_neighbours(browser, experiment, tmp_path):
    runs = [{"name": f"dims-{size}", "latent_dim": size, "mse": 0.1 / size, "own": size == 4} for size in (2, 4, 8)]
    opened = OpenPage(browser, write_page(tmp_path, experiment, sweep={"name": "dims", "runs": runs}))
    opened.show("experiment")
    assert opened.page.locator("#error-curve .run").count() == 2
    assert opened.page.locator("#error-curve .own").count() == 1
    x = {node.get_attribute("cx") for node in opened.page.locator("#error-curve circle").all()}
    assert len(x) == 3
    assert "3 runs of the sweep dims" in opened.text("sweep-note")
    assert opened.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_a_phone(browser, path, scheme):
    opened = OpenPage(browser, path, 390, 844, color_scheme=scheme, has_touch=True)
    for tab in TABS:
        opened.show(tab)
        assert opened.page.evaluate("document.scrollingElement.scrollWidth") <= 390, tab
    opened.page.locator("#overlay").scroll_into_view_if_needed()
    opened.page.touchscreen.tap(*opened.place(11))
    opened.show("image")
    assert opened.text("image-name") == "photos/11.png"
    background = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", background))) < 64) == (scheme == "dark")
    assert opened.complaints == []


def open_one(browser, folder, network, **about):
    return OpenPage(browser, write_page(folder, make_experiment(network, 40, **about)))


def test_with_two_numbers_the_plane_is_the_control(browser, tmp_path):
    opened = open_one(browser, tmp_path, make_network(latent_dim=2))
    opened.show("decode")
    box = opened.page.locator("#plane").bounding_box()
    opened.page.mouse.move(box["x"] + 50, box["y"] + 50)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + 0.5, box["y"] + 0.5)
    opened.settle()
    at_corner = opened.page.eval_on_selector_all("#sliders input", "all => all.map(i => [i.value, i.min, i.max])")
    (z1, _, z1_max), (z0, z0_min, _) = np.array(at_corner, float)  # the last dimension stands first
    assert (z0, z1) == pytest.approx((z0_min, z1_max), abs=0.02)
    assert opened.page.input_value("#map-choice") == "axes"
    assert opened.complaints == []


def test_256_numbers_no_classes_and_colours(browser, tmp_path):
    network = make_network((3, 16, 16), 256, (), (12,))
    opened = open_one(browser, tmp_path, network, class_names=())
    opened.show("decode")
    assert opened.page.locator("#sliders label:visible").count() == 16
    opened.page.click("#all-sliders")
    assert opened.page.locator("#sliders label:visible").count() == 256
    assert opened.page.locator("#colour-choice option >> nth=0").inner_text() == "error"
    assert opened.page.locator("#classes").is_hidden()
    assert opened.pixels("#image-original").std(-1).max() > 0
    assert opened.complaints == []


def test_noise_is_added_and_its_level_counts(browser, tmp_path):
    opened = open_one(browser, tmp_path, make_network(), corruption="gaussian")
    differences = []
    for level in ("0", "0.2", "0.6"):
        opened.page.fill("#noise", level)
        opened.settle()
        noisy, clean = (opened.pixels(name).astype(float) for name in ("#image-noisy", "#image-original"))
        differences.append(np.abs(noisy - clean).mean())
    assert differences[0] == 0
    assert differences[1] < differences[2]
    assert "dB gained" in opened.text("noise-gain")
    assert opened.complaints == []


def test_samples_spread_around_a_variational_code(browser, tmp_path):
    network = make_network(bottleneck="gaussian")
    torch.nn.init.zeros_(network.encoder[-1].bias)
    opened = open_one(browser, tmp_path, network)
    opened.page.fill("#spread", "0")
    opened.settle()
    same = opened.pixels("#samples canvas")
    assert len(same) == 8
    assert (same == same[0]).all()
    opened.page.fill("#spread", "2")
    opened.settle()
    assert len(np.unique(opened.pixels("#samples canvas"), axis=0)) == 8
    assert opened.complaints == []


def test_active_units_of_a_top_k_code_are_named(browser, tmp_path):
    network = make_network(latent_dim=6, bottleneck="top_k")
    opened = open_one(browser, tmp_path, network)
    code = make_experiment(network, 40).codes[0]
    assert opened.text("image-units").startswith("2 of 6 units are active")
    for unit in np.flatnonzero(code):
        assert f"z{unit} " in opened.text("image-units")
    assert opened.complaints == []
