"""tools.explore: what it reads and refuses, what goes into the page, and that the same model gives the same bytes."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from torch.nn import functional as F

from stages.autoencoder.core import arrays
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.model.bottlenecks import Bottleneck
from tests.explorer.pages import OpenPage, draw_images, make_experiment, make_network, open_browser, write_page
from tools import explore
from tools.exploration import contents, experiment, page
from tools.exploration.layers import Layer, list_layers
from tools.sweeps import explorers, render, results
from tools.workspace.revisions import copy_files

SCRIPTS = {path.name: path.read_text() for path in (ROOT / "tools/exploration/page").glob("*.js")}


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["explore", *map(str, arguments)])
    explore.main()


def test_the_same_model_gives_the_same_page_which_opens_and_loads_nothing(copy, monkeypatch, capsys):
    run(monkeypatch)
    run(monkeypatch, "--out", "again.html")
    assert "explorer.html: 0." in capsys.readouterr().out
    content = Path("explorer.html").read_bytes()
    assert content == Path("again.html").read_bytes()
    assert str(copy).encode() not in content
    with open_browser() as browser:
        opened = OpenPage(browser, copy / "explorer.html")
        assert opened.requests == [(copy / "explorer.html").as_uri()]
        assert opened.complaints == []
        assert opened.text("found") == f"{len(arrays.load(experiment.TEST, 'labels')[0]['labels'])} images"


def test_fewer_images_are_taken_evenly(copy, monkeypatch):
    whole, part = experiment.load(copy), experiment.load(copy, 10)
    assert len(part.images) == len(part.names) == len(part.codes) == len(part.points["pca"]) == 10
    assert part.names[0] == whole.names[0]
    assert part.names[-1] == whole.names[-1]
    row = whole.names.index(part.names[4])
    np.testing.assert_array_equal(part.images[4], whole.images[row])
    np.testing.assert_array_equal(part.codes[4], whole.codes[row])
    assert part.errors[4] == whole.errors[row]
    monkeypatch.setattr(experiment, "MAX_NUMBERS", 20 * 64)
    assert len(experiment.load(copy).images) == 20


def test_numbers_of_the_page_are_those_of_the_pipeline(copy):
    held = experiment.load(copy)
    assert held.errors.mean() == pytest.approx(json.loads(Path("metrics/evaluate.json").read_text())["mse"])
    assert held.model.errors(held.images[:5]) == pytest.approx(held.errors[:5], rel=1e-4)
    assert sorted(held.dimensions) == list(range(4))
    added = [held.mse_added[dimension] for dimension in held.dimensions]
    assert added == sorted(added, reverse=True)
    assert held.params["train.mlp.widths"] == [16]


@pytest.mark.parametrize("name", ["data/model.safetensors", "metrics/evaluate.json", "plots/dimensions.csv"])
def test_an_absent_file_is_named_in_a_line(copy, monkeypatch, name):
    Path(name).unlink()
    with pytest.raises(UserError, match=rf"^{name}: not found; run dvc repro, which makes it$"):
        run(monkeypatch)


def test_files_of_another_model_are_refused(copy, monkeypatch):
    held, about = arrays.load(experiment.EMBEDDINGS)
    arrays.save(experiment.EMBEDDINGS, held, about | {"model": "0" * 64})
    with pytest.raises(UserError, match=r"^data/embeddings\.safetensors: must be made with data/model.*run dvc repro"):
        run(monkeypatch)


def test_metrics_of_another_model_are_refused(copy, monkeypatch):
    Path("metrics/evaluate.json").write_text('{"mse": 0.5}')
    with pytest.raises(UserError, match=r"^metrics/evaluate\.json: mse must be .*; got 0\.5; run dvc repro$"):
        run(monkeypatch)


def test_dimensions_of_another_model_are_refused(copy, monkeypatch):
    Path("plots/dimensions.csv").write_text("rank,dimension,std,active,mse_added\n1,9,1,1,0.1\n")
    with pytest.raises(UserError, match=r"^plots/dimensions\.csv: must list dimensions below 4; got 9; run dvc repro$"):
        run(monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "page.txt"], r"^page\.txt: must end in \.html; choose such a name$"),
        (["--images", "0"], "^--images must be at least 1; got 0$"),
        (["--revision", "a"], r"^python -m tools\.explore: unrecognized arguments: .*; see --help$"),
    ],
)
def test_bad_arguments_end_in_a_line(monkeypatch, arguments, message):
    with pytest.raises(UserError, match=message):
        run(monkeypatch, *arguments)


def test_no_traceback_for_an_unknown_revision():
    command = [sys.executable, "-m", "tools.explore", "--rev", "no-such-experiment"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert re.fullmatch(r"--rev no-such-experiment: must be an experiment, tag or commit; .*; see .*\n", ended.stderr)


def test_a_revision_whose_data_is_gone_is_refused_in_a_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dvc = [sys.executable, "-m", "dvc"]
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    Path("data").write_text("1")
    for command in (["git", "init", "-q"], [*dvc, "init", "-q"], [*dvc, "add", "-q", "data"], ["git", "add", "--all"]):
        subprocess.run(command, check=True)
    subprocess.run(["git", *identity, "commit", "-qm", "state"], check=True)
    copy_files("HEAD", [Path("data"), Path("data.dvc")], tmp_path / "copy")
    assert Path("copy/data").read_text() == "1"
    shutil.rmtree(".dvc/cache")
    Path("data").unlink()
    with pytest.raises(UserError, match=r"^--rev HEAD: its data must be in DVC's cache or remote; it is not; run dvc"):
        copy_files("HEAD", [Path("data")], tmp_path / "other")


@pytest.mark.parametrize(("channels", "bottleneck"), list(itertools.product([(4, 6, 8), ()], Bottleneck)))
def test_folded_layers_compute_what_the_network_computes(channels, bottleneck):
    network = make_network((3, 9, 12), 5, channels, (20, 12), bottleneck).double()
    images = torch.from_numpy(draw_images((3, 9, 12), 7) / 255)
    with torch.no_grad():
        encoded = network.encoder(images)
        codes = network.encode(images)
        np.testing.assert_allclose(apply(list_layers(network.encoder, (3, 9, 12)), images), encoded, atol=1e-12)
        decoded = apply(list_layers(network.decoder, (5,)), codes)
        np.testing.assert_allclose(decoded.reshape(7, 3, 9, 12), network.decoder(codes), atol=1e-12)


def apply(layers: list[Layer], x: torch.Tensor) -> torch.Tensor:
    """The layers by torch's own functions, batch norm left out."""
    for layer in layers:
        weight, bias = torch.from_numpy(layer.weight), torch.from_numpy(layer.bias)
        x = x.reshape(len(x), *layer.inputs)
        if layer.kind == "dense":
            x = F.linear(x, weight, bias)
        elif layer.kind == "halve":
            x = F.conv2d(x, weight, bias, 2, 1)
        else:
            missing = [1 - size % 2 for size in layer.outputs[1:]]
            x = F.conv_transpose2d(x, weight, bias, 2, 1, missing)
        assert list(x.shape[1:]) == layer.outputs
        x = F.silu(x) if layer.silu else x
    return x


def test_no_text_of_the_data_ends_the_element_that_holds_it(tmp_path):
    text = "</script><script>alert(1)</script>"
    held = make_experiment(make_network(), 4, (text, "b"))
    html = write_page(tmp_path, held, text).read_text()
    assert html.count("<script") == html.count("</script") == 4
    (about,) = re.findall(r'id="about">(.*?)</script>', html)
    assert json.loads(about)["class_names"] == [text, "b"]
    assert json.loads(about)["title"] == text


def test_the_page_has_no_address_and_no_way_to_read_text_as_html(tmp_path):
    html = write_page(tmp_path, make_experiment(make_network(), 4)).read_text()
    assert re.findall(r"https?://[^\"' ]*", html) == ["http://www.w3.org/2000/svg"] * 2  # a name, not an address
    assert not re.findall(r"\b(?:src|href)=|url\(|@import", html)
    for name, script in SCRIPTS.items():
        words = re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|fetch\(", script)
        assert not words, name


def test_scripts_import_earlier_ones_by_names_that_these_export_and_share_no_name():
    assert set(page.SCRIPTS) == SCRIPTS.keys()
    exported: dict[str, set[str]] = {}
    defined: dict[str, str] = {}
    for name in page.SCRIPTS:
        script = SCRIPTS[name]
        for names, source in re.findall(r'^import \{([^}]*)\} from "\./(\S+)";$', script, re.MULTILINE):
            assert set(names.replace(" ", "").replace("\n", "").split(",")) <= exported[source], (name, source)
        pattern = r"^(export )?(?:async )?(?:const|let|function|class) (\w+|\[[^]]*\]|\{.*\})"
        exported[name] = set()
        for is_exported, names in re.findall(pattern, script, re.MULTILINE):
            for one in re.findall(r"\w+(?=\s*(?:[,\]}]|$))", names):
                assert defined.setdefault(one, name) == name, (one, name, defined[one])
                exported[name] |= {one} if is_exported else set()
    assert "import" not in re.findall(r"^\w+", page.join_scripts(), re.MULTILINE)


def state(name: str, number: int, error: float, **params: object) -> dict:
    """An experiment as `dvc exp show --json` has it."""
    data = {"params": {"params.yaml": {"data": params}}, "metrics": {"metrics/evaluate.json": {"data": {"mse": error}}}}
    return {"revs": [{"rev": f"{number:040x}", "name": name, "data": data}], "name": name}


@pytest.fixture
def sweep(monkeypatch):
    """A sweep of five runs, in place of git's experiments."""
    states = [
        state("dims-2", 1, 0.4, latent_dim=2, seed=0, epochs=3),
        state("dims-4", 2, 0.2, latent_dim=4, seed=0, epochs=3),
        state("dims-4-1", 3, 0.3, latent_dim=4, seed=1, epochs=3),
        state("dims-4-long", 4, 0.1, latent_dim=4, seed=0, epochs=9),
    ]
    members = [one["revs"][0]["rev"] for one in states]
    found = results.build_results("dims", "b" * 40, [{"experiments": states}], members)
    monkeypatch.setattr(results, "find_sweep", lambda _: ("dims", "b" * 40))
    monkeypatch.setattr(results, "collect_results", lambda *_: found)
    return found


def test_neighbours_differ_in_latent_dim_and_seed_alone(sweep):
    held = make_experiment(make_network(), 4)
    held = replace(held, params={"latent_dim": 4, "seed": 0, "epochs": 3}, metrics={"mse": 0.2})
    found = explore.find_neighbours("dims-4", held)
    assert found is not None
    assert found["name"] == "dims"
    assert {run["name"]: run["own"] for run in found["runs"]} == {"dims-2": False, "dims-4": True, "dims-4-1": False}
    alone = replace(held, params=held.params | {"epochs": 9}, metrics={"mse": 0.1})
    assert explore.find_neighbours("dims-4-long", alone) is None


def test_without_experiments_there_are_no_neighbours(monkeypatch):
    def refuse(*_):
        raise UserError("none")

    monkeypatch.setattr(results, "collect_results", refuse)
    assert explore.find_neighbours(None, make_experiment(make_network(), 4)) is None


def test_rows_of_a_report_link_to_the_pages_that_were_made(sweep, tmp_path, monkeypatch):
    def run_explore(command, **_):
        *_, rev, _, path = command
        if rev == "dims-2":
            raise UserError("explore: --rev dims-2: its data is gone")
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text("page")
        return ""

    monkeypatch.setattr(explorers.commands, "run", run_explore)
    monkeypatch.setattr(render, "git", lambda *_: "bbbbbbb, 2026-01-01\n")
    notes = explorers.write_pages(sweep.table["experiment"], tmp_path)
    assert notes == ["No explorer of dims-2: --rev dims-2: its data is gone."]
    report = render.Report(sweep, ["mse"], None, 0.05, (), [], notes)
    html = render.render_page(report, tmp_path, {})
    links = re.findall(r'<a href="([^"]*)">explore</a>', html)
    assert sorted(set(links)) == sorted(f"explorers/{name}.html" for name in ("dims-4", "dims-4-1", "dims-4-long"))
    assert all((tmp_path / link).is_file() for link in links)


def test_the_guide_has_the_measured_numbers_and_its_links_lead_somewhere():
    text = (ROOT / "docs/explorer.md").read_text()
    measured = pd.read_csv(ROOT / "docs/performance/explorer.csv").drop(columns=["page", "drawings/s"])
    rows = re.findall(r"^\| [^|]+((?:\| [\d.]+ ){5})\|$", text, re.MULTILINE)
    shown = np.array([row.strip("| ").split(" | ") for row in rows], float)
    expected = [[round(x, 1) for x in row[:1]] + list(row[1:]) for row in measured.to_numpy()]
    np.testing.assert_allclose(shown, expected, atol=0.5)
    np.testing.assert_allclose(shown[:, [0, 2, 3]], np.array(expected)[:, [0, 2, 3]], atol=0.051)
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / "docs" / target).is_file(), target


def test_contents_name_what_is_shown():
    held = replace(make_experiment(make_network(), 20), test_count=1000)
    assert "20 of 1,000 test images of digits" in contents.summarise(held)
    sheet, columns = contents.draw_images(held.images)
    assert columns == 5  # 13 x 10 pixels each: 5 x 4 are about square
    assert len(sheet) > 100
