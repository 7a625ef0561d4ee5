"""The pages of `dvc plots show` and `dvc plots diff`: all is drawn, in order, and nothing is asked from a network.

DVC makes the pages with the project's own .dvc/ (config and templates) in a clone of a small repository.
"""

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import ROOT
from dvc_render import ImageRenderer, VegaRenderer, render_html
from dvc_render.html import PAGE_HTML
from PIL import Image
from ruamel.yaml import YAML

from dev import plots_page

TEMPLATE = ROOT / plots_page.TEMPLATE
EPOCHS, POINTS, CLASSES = 12, 60, 10
PLOTS = """\
plots:
  - plots/loss.csv: {template: loss, x: epoch, y: valid, y_label: loss, title: Loss}
  - plots/latent_map.csv: {template: latent_map, x: x, y: y, title: Latent map}
  - plots/curve.csv: {template: linear, x: step, y: value}
  - plots/pairs.csv: {template: scatter, x: a, y: b}
  - plots/picture.png
"""
MARKED = {"plots_loss_csv", "plots_latent_map_csv", "plots_curve_csv", "plots_pairs_csv"}

# Addresses in the bundle that name a namespace, a schema, an issue or a site to click on: none is fetched.
NAMES = {"www.w3.org", "vega.github.io", "github.com"}

FETCHING = ("src", "href", "srcset", "data", "poster", "background", "action", "formaction", "xlink:href")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--proxy-server=127.0.0.1:9",  # nothing listens there: only files can be read
    "--virtual-time-budget=10000",
    "--dump-dom",
]
PROBE = """<script>
addEventListener("load", () => setTimeout(() => {
  const all = (box, selector) => [...box.querySelectorAll(selector)];
  const ink = canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data
    .filter((value, i) => i % 4 === 3 && value > 0).length;
  const charts = all(document, ".vega-embed").map(box => [box.id, {
    symbols: all(box, ".mark-symbol.role-mark > path").length,
    lines: all(box, ".mark-line.role-mark > path").map(path => path.getAttribute("d").match(/[ML]/g).length),
    colours: new Set(all(box, ".mark-symbol.role-mark > path").map(path => path.getAttribute("fill"))).size,
    texts: all(box, ".mark-text.role-mark > text").map(text => text.textContent),
    titles: all(box, ".role-title-text > text").map(text => text.textContent),
    ink: all(box, "canvas").map(ink)
  }]);
  const seen = document.createElement("pre");
  seen.id = "seen";
  seen.textContent = JSON.stringify({
    charts: Object.fromEntries(charts),
    failed: all(document, ".failed").map(box => box.textContent),
    pictures: all(document, "img").map(image => image.naturalWidth),
    sections: all(document, "main > section, main > details").map(section => [
      section.querySelector("h2, summary").textContent,
      all(section, ".plot").map(box => box.id),
      section.tagName === "SECTION" || section.open
    ]),
    revisions: document.getElementById("revisions")?.textContent,
    legends: Object.fromEntries(all(document, ".vega-embed").map(box => [box.id,
      all(box, ".role-legend .role-legend-label text").map(text => text.textContent)])),
    heights: all(document, ".plot:not(.pictures)").map(box => box.offsetHeight),
    asked: performance.getEntriesByType("resource").map(entry => entry.name),
    wider: document.documentElement.scrollWidth - document.documentElement.clientWidth
  });
  document.body.append(seen);
}, 3000));
</script>"""


class Fetches(HTMLParser):
    """`found`: what a browser would fetch for this page. `policy`: its Content-Security-Policy."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.policy = ""
        self.in_style = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.in_style = tag == "style"
        self.found += [value for name, value in given.items() if name in FETCHING]
        self.style(given.get("style", ""))
        if given.get("http-equiv", "").lower() == "refresh":
            self.found.append(given["content"])
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]

    def handle_endtag(self, tag: str) -> None:
        self.in_style = False

    def handle_data(self, data: str) -> None:
        if self.in_style:
            self.style(data)

    def style(self, css: str) -> None:
        self.found += re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s]+)""", css)


def write_table(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


def write_plots(plots: Path, scale: float) -> None:
    plots.mkdir(exist_ok=True)
    losses = [math.exp(-epoch / 4) * scale for epoch in range(EPOCHS)]
    epochs = [{"epoch": i, "train": loss, "valid": 1.1 * loss} for i, loss in enumerate(losses)]
    write_table(plots / "loss.csv", epochs)
    circle = [(math.cos(i) * scale, math.sin(i) * scale, i % CLASSES) for i in range(POINTS)]
    write_table(plots / "latent_map.csv", [{"x": x, "y": y, "class": label} for x, y, label in circle])
    write_table(plots / "curve.csv", [{"step": i, "value": loss} for i, loss in enumerate(losses)])
    write_table(plots / "pairs.csv", [{"a": x, "b": y} for x, y, _ in circle])
    Image.new("L", (90, 60), color=128).save(plots / "picture.png")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of a clone: `show`, `diff` (second, then first commit), `default` (DVC's own page)."""
    folder = tmp_path_factory.mktemp("plots_page")
    origin, clone = folder / "origin", folder / "clone"
    shutil.copytree(
        ROOT / ".dvc",
        origin / ".dvc",
        ignore=shutil.ignore_patterns("tmp", "cache", "config.local"),
    )
    (origin / "dvc.yaml").write_text(PLOTS, encoding="utf-8")
    (folder / "default.html").write_text(PAGE_HTML, encoding="utf-8")
    nobody = {"NAME": "nobody", "EMAIL": "nobody@localhost"}
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "no-config"),
        "DVC_SYSTEM_CONFIG_DIR": str(folder / "no-config"),
        **{f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in nobody.items()},
    }

    def call(where: Path, *command: str) -> None:
        done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    call(origin, "git", "init", "-q")
    for tag, scale in (("first", 1.0), ("second", 0.5)):
        write_plots(origin / "plots", scale)
        call(origin, "git", "add", "--all")
        call(origin, "git", "commit", "-q", "-m", tag)
        call(origin, "git", "tag", tag)
    call(folder, "git", "clone", "-q", str(origin), str(clone))
    dvc = (sys.executable, "-m", "dvc", "plots")
    call(clone, *dvc, "show", "-o", "show")
    call(clone, *dvc, "diff", "second", "first", "-o", "diff")
    call(clone, *dvc, "show", "-o", "default", "--html-template", str(folder / "default.html"))
    return {name: clone / name / "index.html" for name in ("show", "diff", "default")}


def browse(page: Path, profile: Path) -> dict:
    """What the browser sees in the page once it has drawn it; see PROBE."""
    html = page.read_text(encoding="utf-8")
    end = html.rindex("</body>")
    probed = page.with_name("probed.html")
    probed.write_text(html[:end] + PROBE + html[end:], encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", probed.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120)
    seen = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert seen, f"the page did not finish: {done.stderr[-2000:]}"
    return json.loads(unescape(seen[1]))


def test_committed_template_is_generated():
    committed = TEMPLATE.read_bytes()
    assert committed == plots_page.page().encode(), "run make generate and commit what it writes"


def test_template_has_one_place_for_plots_and_only_its_own_scripts():
    text = TEMPLATE.read_text(encoding="utf-8")
    assert [text.count(place) for place in ("{plot_divs}", "{scripts}", "{refresh_tag}")] == [1, 0, 0]
    assert text.count("</script") == text.count("\n<script>") == 2


@pytest.mark.parametrize("name", ["show", "diff"])
def test_page_asks_for_nothing_but_the_pictures_beside_it(pages, name):
    text = pages[name].read_text(encoding="utf-8")
    found = Fetches(text).found
    assert len(found) == {"show": 1, "diff": 2}[name]
    assert all((pages[name].parent / reference).is_file() for reference in found)
    hosts = re.findall(r"\b(?:https?|wss?|ftp)://([\w.-]+)", text)
    assert set(hosts) <= NAMES
    assert "jsdelivr" not in text


def test_page_forbids_every_network_address():
    policy = Fetches(TEMPLATE.read_text(encoding="utf-8")).policy
    rules = dict(rule.split(maxsplit=1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    sources = {source for rule in rules.values() for source in rule.split()}
    assert sources <= {"'none'", "'self'", "'unsafe-inline'", "'unsafe-eval'", "file:", "data:", "blob:"}


def test_check_finds_what_dvcs_own_page_asks_for(pages):
    found = Fetches(pages["default"].read_text(encoding="utf-8")).found
    assert sum("://cdn.jsdelivr.net/npm/vega" in reference for reference in found) == 3
    styled = Fetches('<style>@import "http://a/b.css"; p {background: url(//c/d.png)}</style>')
    assert styled.found == ["http://a/b.css", "//c/d.png"]


@needs_chromium
@pytest.mark.parametrize(("name", "revisions"), [("show", ["workspace"]), ("diff", ["second", "first"])])
def test_chromium_draws_every_mark_offline(pages, tmp_path, name, revisions):
    seen = browse(pages[name], tmp_path)
    charts, count = seen["charts"], len(revisions)
    assert seen["failed"] == []
    assert set(charts) == MARKED
    assert seen["pictures"] == [90] * count
    assert [address for address in seen["asked"] if not address.startswith("file:")] == []
    assert seen["wider"] == 0, "the page must not be wider than the window"

    assert charts["plots_loss_csv"]["lines"] == [EPOCHS] * 2 * count  # train and valid
    assert charts["plots_loss_csv"]["symbols"] == EPOCHS * 2 * count
    assert charts["plots_pairs_csv"]["symbols"] == POINTS * count
    assert charts["plots_curve_csv"]["lines"].count(EPOCHS) >= count  # DVC draws a smoothed line over each
    latent_map = charts["plots_latent_map_csv"]
    assert latent_map["symbols"] == POINTS * count
    assert latent_map["colours"] == CLASSES
    assert sorted(latent_map["texts"]) == sorted([str(label) for label in range(CLASSES)] * 2 * count)
    assert [title for title in latent_map["titles"] if title in revisions] == revisions  # in the order asked


@needs_chromium
def test_chromium_draws_nothing_of_dvcs_own_page_offline(pages, tmp_path):
    seen = browse(pages["default"], tmp_path)
    assert seen["charts"] == {}
    assert any("cdn.jsdelivr.net" in address for address in seen["asked"])


@needs_chromium
def test_chromium_draws_many_points_and_names_the_chart_that_fails(tmp_path):
    rows = [{"rev": "HEAD", "x": i % 83, "y": i % 71, "class": f"kind {i % 12}"} for i in range(5001)]
    style = {"template_dir": TEMPLATE.parent, "x": "x", "y": "y"}
    broken = tmp_path / "broken.json"
    broken.write_text('{"data": {"values": "<DVC_METRIC_DATA>"}, "mark": "no such mark"}', encoding="utf-8")
    renderers = [
        VegaRenderer(rows, "5001 points", template="latent_map", **style),
        VegaRenderer(rows[:1], "broken", template=str(broken), **style),
    ]
    render_html(renderers, tmp_path / "index.html", html_template=TEMPLATE)
    seen = browse(tmp_path / "index.html", tmp_path / "profile")
    assert [ink > 10_000 for ink in seen["charts"]["5001_points"]["ink"]] == [True]  # pixels on one canvas
    assert [text.split(":")[0] for text in seen["failed"]] == ["broken cannot be drawn"]


@needs_chromium
def test_a_table_without_rows_leaves_the_other_charts(tmp_path):
    style = {"template": "latent_map", "template_dir": TEMPLATE.parent, "x": "x", "y": "y"}
    rows = [{"rev": "HEAD", "x": 1, "y": 2, "class": "a"}]
    renderers = [VegaRenderer([], "empty", **style), VegaRenderer(rows, "full", **style)]
    render_html(renderers, tmp_path / "index.html", html_template=TEMPLATE)
    assert "var spec = {};" in (tmp_path / "index.html").read_text(encoding="utf-8")  # what DVC writes for no rows
    seen = browse(tmp_path / "index.html", tmp_path / "profile")
    assert (list(seen["charts"]), seen["failed"]) == (["full"], [])


def test_every_plot_of_the_pipeline_has_one_place_on_the_page():
    placed = [path for paths in plots_page.SECTIONS.values() for path in paths]
    assert len(placed) == len(set(placed))
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "plots").rglob("*.*")} <= set(placed)
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"].values()
    declared = [next(iter(entry)) for stage in stages for entry in stage.get("plots", [])]
    assert all(any(path == plot or path.startswith(f"{plot}/") for plot in declared) for path in placed)


def arranged_page(folder: Path, paths: list[str], revisions: list[str], values: dict[str, list[float]]) -> Path:
    """The page of these plots, in the order in which DVC hands them to the template.

    values: for each revision the y values of every chart.
    """
    Image.new("L", (90, 60), color=128).save(folder / "picture.png")
    renderers = []
    for path in paths:
        if path.endswith(".png"):
            images = [{"rev": rev, "src": "picture.png"} for rev in revisions]
            renderers.append(ImageRenderer(images, path))
            continue
        rows = [{"rev": rev, "x": i, "y": y, "class": i} for rev in revisions for i, y in enumerate(values[rev], 1)]
        template = "latent_map" if "embed" in path else "pca"
        style = {"template": template, "template_dir": TEMPLATE.parent, "x": "x", "y": "y", "title": path}
        renderers.append(VegaRenderer(rows, path, **style))
    render_html(renderers, folder / "index.html", html_template=TEMPLATE)
    return folder / "index.html"


@needs_chromium
def test_page_is_in_the_order_of_its_sections_with_repeats_folded(tmp_path):
    paths = [path for section in plots_page.SECTIONS.values() for path in section]
    unknown = ["plots/new.csv", "plots/new.png"]
    page = arranged_page(tmp_path, [*reversed(paths), *unknown], ["one"], {"one": [3.0, 2.0, 1.0]})
    seen = browse(page, tmp_path / "profile")

    def ids(paths: list[str]) -> list[str]:
        return [ImageRenderer.remove_special_chars(path) for path in paths]

    folded = plots_page.FOLDED
    expected = [[heading, ids(paths), True] for heading, paths in plots_page.SECTIONS.items() if heading != folded]
    expected += [["Other", sorted(ids(unknown)), True], [folded, ids(plots_page.SECTIONS[folded]), False]]
    assert seen["sections"] == expected
    assert seen["failed"] == []
    assert seen["revisions"] == "one"
    assert seen["legends"]["plots_pca_csv"] == []  # one revision needs no legend
    assert "t-SNE of the codes" in seen["charts"]["plots_embed_tsne_csv"]["titles"]
    assert seen["wider"] == 0


@needs_chromium
def test_page_draws_equal_revisions_once_under_both_names(tmp_path):
    values = {"one": [3.0, 2.0, 1.0], "two": [4.0, 2.0, 1.0], "three": [3.0, 2.0, 1.0]}
    page = arranged_page(tmp_path, ["plots/pca.csv", "plots/embed/tsne.csv"], list(values), values)
    seen = browse(page, tmp_path / "profile")
    assert seen["charts"]["plots_pca_csv"]["lines"] == [3, 3]
    assert seen["legends"]["plots_pca_csv"] == ["one, three", "two"]
    assert seen["charts"]["plots_embed_tsne_csv"]["symbols"] == 6
    titles = seen["charts"]["plots_embed_tsne_csv"]["titles"]
    assert [title for title in titles if title in ("one, three", "one", "two", "three")] == ["one, three", "two"]
    assert seen["revisions"] == "one, two, three"


@needs_chromium
def test_table_without_rows_has_no_chart(tmp_path):
    page = arranged_page(tmp_path, ["plots/pca.csv", "plots/sample/scores.csv"], ["one"], {"one": []})
    text = page.read_text()
    assert "plots_sample_scores_csv" in text
    assert browse(page, tmp_path / "profile")["charts"] == {}


def map_page(folder: Path, classes: list[str]) -> Path:
    """The page of a latent map of images of these classes, as the CSV file has them, and of a bar for each."""
    style = {"template_dir": TEMPLATE.parent, "title": "t"}
    points = [{"rev": "HEAD", "x": i % 7, "y": i % 11, "class": classes[i % len(classes)]} for i in range(660)]
    bars = [{"rev": "HEAD", "class": name, "mse": i + 1} for i, name in enumerate(classes)]
    renderers = [
        VegaRenderer(points, "map", template="latent_map", x="x", y="y", **style),
        VegaRenderer(bars, "bars", template="bars", x="mse", y="class", **style),
    ]
    render_html(renderers, folder / "index.html", html_template=TEMPLATE)
    return folder / "index.html"


@needs_chromium
def test_map_without_classes_has_neither_legend_nor_names(tmp_path):
    seen = browse(map_page(tmp_path, [""]), tmp_path / "profile")
    assert seen["failed"] == []
    assert seen["charts"]["map"]["symbols"] == 660
    assert seen["charts"]["map"]["colours"] == 1
    assert seen["legends"]["map"] == []
    assert [text for text in seen["charts"]["map"]["texts"] if text] == []


@needs_chromium
def test_map_keeps_classes_apart_whose_names_look_like_one_number(tmp_path):
    names = ["1", "01", "10", "2", "1e1", "no", "null", "NaN", "Infinity"]
    seen = browse(map_page(tmp_path, names), tmp_path / "profile")
    assert seen["failed"] == []
    assert sorted(seen["legends"]["map"]) == sorted(names)
    assert sorted(seen["charts"]["map"]["texts"]) == sorted(names * 2)  # each with its white edge
    numbers = [name for name in seen["legends"]["map"] if name in ("1", "2", "10")]
    assert numbers == ["1", "2", "10"]


@needs_chromium
def test_page_of_300_classes_stays_in_its_boxes(tmp_path):
    seen = browse(map_page(tmp_path, [f"class {i:03}" for i in range(300)]), tmp_path / "profile")
    assert seen["failed"] == []
    assert seen["charts"]["map"]["symbols"] == 660
    assert seen["charts"]["map"]["texts"] == []
    assert seen["legends"]["map"][-1] == "…257 entries"
    assert len(seen["legends"]["map"]) == 44
    assert len(seen["charts"]["bars"]["texts"]) == 300
    assert seen["wider"] == 0
    assert max(seen["heights"]) <= 960


@needs_chromium
def test_repeat_alone_on_the_page_is_open(tmp_path):
    seen = browse(arranged_page(tmp_path, ["plots/pca.csv"], ["one"], {"one": [2.0, 1.0]}), tmp_path / "profile")
    assert seen["sections"] == [["Plots", ["plots_pca_csv"], True]]
