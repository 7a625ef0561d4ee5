"""tools.report: what gets into a mean, the mean itself, the choice, the figures, the page that asks for nothing."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from stages.autoencoder.errors import UserError
from tools import curves, report, report_page, report_text, runs
from tools.anchors import MNIST
from tools.report_text import Report
from tools.runs import Runs

BASELINE = "b" * 40


def experiment(number: int, params: dict, metrics: dict | None, state: str | None = None, name: str = "") -> dict:
    """One experiment, as `dvc exp show --json` has it."""
    return {
        "revs": [
            {
                "rev": f"{number:040x}",
                "name": name or f"s-{number}",
                "data": {
                    "params": {"params.yaml": {"data": params}},
                    "metrics": {
                        "metrics/train.json": {"data": {"valid": 1.0 - number / 100}},
                        "metrics/evaluate.json": {"data": metrics},
                    },
                    "deps": {runs.TEST: {"hash": "same"}},
                },
            }
        ],
        "executor": state and {"state": state},
        "name": name or f"s-{number}",
    }


def tabulate(*experiments: dict) -> Runs:
    members = [one["revs"][0]["rev"] for one in experiments]
    return runs.tabulate("s", BASELINE, [{"rev": BASELINE, "experiments": list(experiments)}], members)


def grid(errors: dict[int, list[float]], **constant: object) -> Runs:
    """{latent_dim: [error with seed 0, with seed 1, ...]}"""
    rows = [(dim, seed, error) for dim, column in errors.items() for seed, error in enumerate(column)]
    return tabulate(
        *(
            experiment(number, {"latent_dim": dim, "seed": seed, **constant}, {"mse": error, "psnr": -error})
            for number, (dim, seed, error) in enumerate(rows)
        )
    )


def test_means_and_standard_deviations_are_those_of_numpy_by_hand():
    found = runs.means(grid({4: [0.1, 0.4, 0.7], 2: [1.0, 2.0, 6.0]}))
    assert found["latent_dim"].tolist() == [2, 4]
    assert found["n"].tolist() == [3, 3]
    np.testing.assert_allclose(found["mse"], [3.0, 0.4])
    np.testing.assert_allclose(found["mse sd"], [np.sqrt((4 + 1 + 9) / 2), 0.3])  # n - 1 in the denominator
    np.testing.assert_allclose(found["psnr"], [-3.0, -0.4])


def test_one_run_has_no_standard_deviation():
    found = runs.means(grid({2: [0.5], 4: [0.1, 0.2]}))
    assert found["n"].tolist() == [1, 2]
    assert np.isnan(found["mse sd"][0])


@pytest.mark.parametrize("state", ["failed", "queued", "running"])
def test_what_is_not_finished_never_gets_into_a_mean(state: str):
    stale = {"mse": 1e9}  # DVC shows the metrics of the commit that it started from
    good = [experiment(number, {"latent_dim": 2, "seed": number}, {"mse": 0.2}) for number in (0, 1)]
    found = tabulate(*good, experiment(7, {"latent_dim": 2, "seed": 7}, stale, state))
    assert runs.means(found)[["n", "mse"]].values.tolist() == [[2, 0.2]]
    assert found.unfinished == {"s-7": state}


def test_experiments_of_others_and_those_without_the_error_stay_out():
    ours, theirs = (experiment(n, {"latent_dim": 2, "seed": n}, {"mse": 0.2}) for n in (0, 1))
    without = experiment(2, {"latent_dim": 2, "seed": 2}, {"psnr": 1.0})
    states = [{"rev": BASELINE, "data": {"metrics": {}}, "experiments": [ours, theirs, without]}]
    found = runs.tabulate("s", BASELINE, states, {f"{n:040x}" for n in (0, 2)})
    assert found.table["experiment"].tolist() == ["s-0"]
    assert found.unfinished == {"s-2": "without mse"}


def test_one_that_failed_and_then_succeeded_counts_as_a_success():
    params = {"latent_dim": 2, "seed": 0}
    found = tabulate(
        experiment(1, params, {"mse": 9.0}, "failed", "s-a"), experiment(2, params, {"mse": 0.2}, None, "s-a")
    )
    assert (found.table["mse"].tolist(), found.unfinished) == ([0.2], {})


def test_the_same_parameters_under_two_names_count_once():
    params = {"latent_dim": 2, "seed": 0}
    found = tabulate(*(experiment(n, params, {"mse": 0.2}) for n in (1, 2)))
    assert runs.means(found)["n"].tolist() == [1]


def test_no_finished_run_is_an_error_in_one_line():
    with pytest.raises(UserError, match="no finished experiment of s"):
        tabulate(experiment(1, {"latent_dim": 2}, {"mse": 1.0}, "failed"))


def test_the_table_has_every_digit():
    assert grid({2: [1 / 3], 4: [0.1 + 0.2]}).table["mse"].tolist() == [1 / 3, 0.1 + 0.2]


def test_the_axis_is_latent_dim_then_a_number_then_a_name():
    def axis(*params: dict) -> list[str]:
        return tabulate(*(experiment(n, one, {"mse": 1.0}) for n, one in enumerate(params))).groups

    loss, rate = {"train": {"loss": "mse", "rate": 0.1}}, {"train": {"loss": "bce", "rate": 0.2}}
    assert axis({"seed": 0, "latent_dim": 2, **loss}, {"seed": 1, "latent_dim": 4, **rate}) == [
        *("latent_dim", "train.loss", "train.rate")
    ]
    assert axis({"seed": 0, **loss}, {"seed": 0, **rate}) == ["train.rate", "train.loss"]
    assert axis({"a": [1], "b": 1}, {"a": [2], "b": 1}) == ["a"]
    assert axis({"seed": 0, "latent_dim": 2}, {"seed": 1, "latent_dim": 2}) == ["latent_dim"]


@pytest.mark.parametrize(("tolerance", "dim"), [(0.0, 16), (0.04, 16), (0.06, 8), (1.0, 4), (99.0, 2)])
def test_the_smallest_latent_dim_within_the_tolerance_of_the_best_mean_is_chosen(tolerance: float, dim: int):
    found = grid({2: [2.0, 2.0], 4: [0.9, 1.1], 8: [0.525, 0.525], 16: [0.4, 0.6], 32: [0.51, 0.51]})
    choice = runs.choose(found, tolerance)
    assert (choice.chosen["latent_dim"], choice.best["latent_dim"]) == (dim, 16)
    alike = found.table[found.table["latent_dim"] == dim]
    assert choice.experiment == alike.sort_values("valid")["experiment"].iloc[0]  # validation chooses the seed


def test_without_several_latent_dims_nothing_is_chosen():
    assert runs.choose(grid({4: [0.1, 0.2]}), 0.05) is None


def made(found: Runs) -> Report:
    return Report(found, ["mse", "psnr"], runs.choose(found, 0.05), 0.05, (), ["error.png"], ["A note & more."])


def test_the_choice_is_told_with_its_command():
    text = report_text.choice_text(made(grid({2: [0.2], 4: [0.1], 8: [0.098]})))
    assert "within 5 % of the best: **4** (0.1, n = 1; best: 0.098 at 8, n = 1)" in text
    assert text.endswith("`dvc exp apply s-1`")


def test_published_errors_are_marked_on_the_whole_of_mnist_only():
    def marked(dataset: str, classes: list[int]) -> tuple:
        found = grid({2: [0.1], 4: [0.1]}, download={"dataset": dataset}, split={"normal_classes": classes})
        return report._anchors(found)[0]

    assert marked("mnist", []) == MNIST
    assert marked("mnist", [3]) == marked("mnist5k", []) == ()


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_the_figure_has_means_band_runs_pca_and_published_errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    axes = []
    draw = curves._references
    monkeypatch.setattr(curves, "_references", lambda a, *rest: (axes.append(a), draw(a, *rest)))
    found = grid({2: [0.03, 0.05], 30: [0.002, 0.004]})
    pca = curves.pd.DataFrame({"dimension": [1, 2, 30, 31], "mse": [0.07, 0.06, 0.02, 0.01]})
    curves.save_error(tmp_path / "error.png", found, pca, MNIST)
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes[0].get_lines()}
    np.testing.assert_allclose(lines["autoencoder"], [[2, 0.04], [30, 0.003]])
    assert lines["PCA"] == [[2, 0.06], [30, 0.02]]
    assert lines["Hinton & Salakhutdinov 2006"] == [[30, 0.00383]]
    assert (axes[0].get_xscale(), axes[0].get_yscale()) == ("log", "log")
    band, dots = axes[0].collections
    assert band.get_paths()[0].get_extents().ymax == pytest.approx(0.04 + 0.02 / np.sqrt(2))
    assert sorted(dots.get_offsets()[:, 1]) == [0.002, 0.004, 0.03, 0.05]
    assert pixels(tmp_path / "error.png").shape == (500, 850, 3)


def test_other_parameters_are_drawn_too(tmp_path: Path):
    losses = [{"latent_dim": 2, "seed": s, "train": {"loss": name}} for name in ("mse", "bce") for s in (0, 1)]
    names = tabulate(*(experiment(n, params, {"mse": 0.1 + n}) for n, params in enumerate(losses)))
    curves.save_error(tmp_path / "names.png", names)
    alone = tabulate(experiment(0, losses[0], {"mse": 0.1}))
    curves.save_error(tmp_path / "one.png", alone)
    table = curves.pd.DataFrame({"epoch": [1, 2], "valid": [3.0, -1.0]})
    curves.save_losses(tmp_path / "losses.png", names, {"s-0": table})
    for name in ("names", "one", "losses"):
        assert pixels(tmp_path / f"{name}.png").std() > 5  # something is drawn


def test_the_page_holds_everything_and_asks_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(report_page, "git", lambda *_: "c0ffee, 2024-01-01: <b>a commit</b>")
    Image.new("RGB", (4, 4)).save(tmp_path / "error.png")
    found = grid({2: [0.2, 0.3], 4: [0.1, 0.2]}, train={"epochs": 3, "mlp": {"widths": [64, 32]}})
    page = report_page.page(made(found), tmp_path)
    assert page.count('<table class="sortable">') == 2
    assert all(f">{one}<" in page for one in found.table["experiment"])
    assert 'data-value="0.30000000000000004"' not in page
    assert 'data-value="0.3"' in page  # sorted by every digit, shown with five
    assert "train.mlp.widths" in page
    assert "[64, 32]" in page
    assert "c0ffee, 2024-01-01: &lt;b&gt;a commit" in page
    assert "A note &amp; more." in page
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if "==" in line:
            assert f">{line.split('==')[0]}<" in page
    inlined, rest = re.subn(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)[::-1]
    assert inlined == 1
    assert not re.findall(r"https?:|//[a-z]|url\(|@import|<link|<script[^>]+src|fetch\(|import\(|XMLHttp", rest)
    assert "default-src 'none'" in rest


def test_versions_are_those_installed():
    assert report_page.versions()["numpy"] == np.__version__
