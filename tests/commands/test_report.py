"""tools.report: which experiments count, their means, the choice, the figures, the page that loads nothing."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from stages.autoencoder.core.errors import UserError
from tools import report
from tools.sweeps import plots, render
from tools.sweeps.published_errors import MNIST
from tools.sweeps.render import Report
from tools.sweeps.results import TEST_FILE, SweepResults, build_results, choose_latent_dim, compute_means

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
                    "deps": {TEST_FILE: {"hash": "same"}},
                },
            }
        ],
        "executor": state and {"state": state},
        "name": name or f"s-{number}",
    }


def results_of(*experiments: dict) -> SweepResults:
    members = [one["revs"][0]["rev"] for one in experiments]
    return build_results("s", BASELINE, [{"rev": BASELINE, "experiments": list(experiments)}], members)


def grid(errors: dict[int, list[float]], **constant: object) -> SweepResults:
    """{latent_dim: [error with seed 0, with seed 1, ...]}"""
    rows = [(dim, seed, error) for dim, column in errors.items() for seed, error in enumerate(column)]
    return results_of(
        *(
            experiment(number, {"latent_dim": dim, "seed": seed, **constant}, {"mse": error, "psnr": -error})
            for number, (dim, seed, error) in enumerate(rows)
        )
    )


def test_means_and_standard_deviations_match_a_hand_count():
    means = compute_means(grid({4: [0.1, 0.4, 0.7], 2: [1.0, 2.0, 6.0]}))
    assert means["latent_dim"].tolist() == [2, 4]
    assert means["n"].tolist() == [3, 3]
    np.testing.assert_allclose(means["mse"], [3.0, 0.4])
    np.testing.assert_allclose(means["mse sd"], [np.sqrt((4 + 1 + 9) / 2), 0.3])  # n - 1 in the denominator
    np.testing.assert_allclose(means["psnr"], [-3.0, -0.4])


def test_runs_that_differ_in_their_normal_classes_are_averaged():
    results = results_of(*(
        experiment(number, {"latent_dim": 2, "seed": 0, "split.normal_classes": [number]}, {"mse": 0.1, "auroc": auroc})
        for number, auroc in enumerate([0.9, 0.8, 1.0])
    ))  # fmt: skip
    assert results.key_columns == ["split.normal_classes"]
    assert compute_means(results)[["n", "auroc"]].values.tolist() == [[3, pytest.approx(0.9)]]
    assert results.repeated == "normal classes"


def test_one_run_has_no_standard_deviation():
    means = compute_means(grid({2: [0.5], 4: [0.1, 0.2]}))
    assert means["n"].tolist() == [1, 2]
    assert np.isnan(means["mse sd"][0])


@pytest.mark.parametrize("state", ["failed", "queued", "running"])
def test_unfinished_experiments_are_not_averaged(state: str):
    stale = {"mse": 1e9}  # DVC shows the metrics of the commit that it started from
    good = [experiment(number, {"latent_dim": 2, "seed": number}, {"mse": 0.2}) for number in (0, 1)]
    results = results_of(*good, experiment(7, {"latent_dim": 2, "seed": 7}, stale, state))
    assert compute_means(results)[["n", "mse"]].values.tolist() == [[2, 0.2]]
    assert results.unfinished == {"s-7": state}


def test_other_experiments_and_those_without_an_error_are_left_out():
    ours, theirs = (experiment(n, {"latent_dim": 2, "seed": n}, {"mse": 0.2}) for n in (0, 1))
    without = experiment(2, {"latent_dim": 2, "seed": 2}, {"psnr": 1.0})
    states = [{"rev": BASELINE, "data": {"metrics": {}}, "experiments": [ours, theirs, without]}]
    results = build_results("s", BASELINE, states, {f"{n:040x}" for n in (0, 2)})
    assert results.table["experiment"].tolist() == ["s-0"]
    assert results.unfinished == {"s-2": "without mse"}


def test_a_failure_followed_by_a_success_counts_as_a_success():
    params = {"latent_dim": 2, "seed": 0}
    results = results_of(
        experiment(1, params, {"mse": 9.0}, "failed", "s-a"), experiment(2, params, {"mse": 0.2}, None, "s-a")
    )
    assert (results.table["mse"].tolist(), results.unfinished) == ([0.2], {})


def test_the_same_parameters_under_two_names_count_once():
    params = {"latent_dim": 2, "seed": 0}
    results = results_of(*(experiment(n, params, {"mse": 0.2}) for n in (1, 2)))
    assert compute_means(results)["n"].tolist() == [1]


def test_no_finished_experiment_is_an_error():
    with pytest.raises(UserError, match=r"^s has no finished experiment[^\n]*$"):
        results_of(experiment(1, {"latent_dim": 2}, {"mse": 1.0}, "failed"))


def test_the_table_has_every_digit():
    assert grid({2: [1 / 3], 4: [0.1 + 0.2]}).table["mse"].tolist() == [1 / 3, 0.1 + 0.2]


def test_the_axis_is_latent_dim_then_a_number_then_a_name():
    def axis(*params: dict) -> list[str]:
        return results_of(*(experiment(n, one, {"mse": 1.0}) for n, one in enumerate(params))).group_keys

    loss, rate = {"train": {"loss": "mse", "learning_rate": 0.1}}, {"train": {"loss": "bce", "learning_rate": 0.2}}
    assert axis({"seed": 0, "latent_dim": 2, **loss}, {"seed": 1, "latent_dim": 4, **rate}) == [
        *("latent_dim", "train.loss", "train.learning_rate")
    ]
    assert axis({"seed": 0, **loss}, {"seed": 0, **rate}) == ["train.learning_rate", "train.loss"]
    assert axis({"a": [1], "b": 1}, {"a": [2], "b": 1}) == ["a"]
    assert axis({"seed": 0, "latent_dim": 2}, {"seed": 1, "latent_dim": 2}) == ["latent_dim"]


@pytest.mark.parametrize(("tolerance", "dim"), [(0.0, 16), (0.04, 16), (0.06, 8), (1.0, 4), (99.0, 2)])
def test_the_smallest_latent_dim_within_the_tolerance_is_chosen(tolerance: float, dim: int):
    results = grid({2: [2.0, 2.0], 4: [0.9, 1.1], 8: [0.525, 0.525], 16: [0.4, 0.6], 32: [0.51, 0.51]})
    choice = choose_latent_dim(results, tolerance)
    assert (choice.chosen["latent_dim"], choice.best["latent_dim"]) == (dim, 16)
    alike = results.table[results.table["latent_dim"] == dim]
    assert choice.experiment == alike.sort_values("valid")["experiment"].iloc[0]  # validation chooses the seed


def test_one_latent_dim_alone_is_no_choice():
    assert choose_latent_dim(grid({4: [0.1, 0.2]}), 0.05) is None


def test_runs_that_differ_in_more_than_latent_dim_and_seed_are_no_choice():
    first = {"latent_dim": 2, "seed": 0, "train": {"epochs": 3, "loss": "mse"}}
    second = {"latent_dim": 4, "seed": 1, "train": {"epochs": 9, "loss": "bce"}}
    results = results_of(*(experiment(n, params, {"mse": 0.2}) for n, params in enumerate((first, second))))
    assert choose_latent_dim(results, 0.05) is None
    report = Report(results, ["mse"], None, 0.05, (), ["error.png"], [])
    assert render.describe_choice(report) == "No choice: the runs also differ in train.epochs, train.loss."
    assert render.describe_choice(report_on(grid({4: [0.1, 0.2]}))) == ""


def report_on(results: SweepResults) -> Report:
    choice = choose_latent_dim(results, 0.05)
    return Report(results, ["mse", "psnr"], choice, 0.05, (), ["error.png"], ["A note & more."])


def test_the_choice_names_its_command():
    text = render.describe_choice(report_on(grid({2: [0.2], 4: [0.1], 8: [0.098]})))
    assert "within 5 % of the best: **4** (0.1, n = 1; best: 0.098 at 8, n = 1)" in text
    assert text.endswith("`dvc exp apply s-1`")


@pytest.mark.parametrize(
    ("errors", "text"),
    [
        ({2: [0.2], 4: [0.1]}, ": **4** (0.1, n = 1), the largest tried; larger ones may be better. To apply it: "),
        ({2: [0.2], 4: [0.1], 8: [0.3]}, ": **4** (0.1, n = 1), the best. To apply it: "),
    ],
)
def test_the_choice_says_the_same_value_once(errors: dict[int, list[float]], text: str):
    assert text in render.describe_choice(report_on(grid(errors)))


@pytest.mark.parametrize(
    ("mean", "sd", "text"),
    [
        (0.0412995, 0.000571, "0.04130 ± 0.00057"),
        (14.3271, 0.0912, "14.327 ± 0.091"),
        (1234.5, 56.7, "1234 ± 57"),
        (12345.0, 678.0, "12345 ± 678"),
        (0.5, 0.0, "0.5 ± 0"),
        (0.5, 1e-9, "0.5 ± 1e-09"),
        (0.123456789, float("nan"), "0.12346 ± -"),
    ],
)
def test_a_mean_has_the_decimals_of_its_standard_deviation(mean: float, sd: float, text: str):
    assert render.format_mean(mean, sd) == text


def test_a_sweep_is_described_by_what_varies():
    results = grid({4: [0.1, 0.2], 2: [0.3, 0.4]}, download={"dataset": "digits"}, train={"epochs": 3})
    assert render.describe_sweep(results) == "4 runs of latent_dim 2, 4 and seed 0, 1 on digits."
    assert render.describe_sweep(grid({4: [0.1]})) == "1 run of latent_dim 4."
    many = render.describe_sweep(grid({dim: [1.0] for dim in range(1, 21)}))
    assert many == "20 runs of latent_dim 1, 2, ..., 20 (20 values)."


def test_wide_tables_are_split_without_losing_a_column():
    columns = [f"metric{number}" for number in range(23)]
    blocks = render.split_columns(columns, 7)
    assert [column for block in blocks for column in block] == columns
    assert [len(block) for block in blocks] == [6, 6, 6, 5]
    assert render.split_columns(columns[:7], 7) == [columns[:7]]


def test_published_errors_are_marked_for_the_whole_of_mnist_only():
    def select(dataset: str, classes: list[int]) -> tuple:
        results = grid({2: [0.1], 4: [0.1]}, download={"dataset": dataset}, split={"normal_classes": classes})
        return report._select_published_errors(results)

    assert select("mnist", []) == MNIST
    assert select("mnist", [3]) == select("mnist5k", []) == ()


def test_labels_leave_out_what_all_groups_share():
    keys = ["latent_dim", "train.loss", "seed"]
    assert plots.label_groups(keys, [(2, "mse", 0), (4, "mse", 0)]) == ["latent_dim 2", "latent_dim 4"]
    assert plots.label_groups(keys, [(2, "mse", 0), (2, "bce", 1)]) == ["loss mse, seed 0", "loss bce, seed 1"]
    assert plots.label_groups(keys, [(2, "mse", 0)]) == [""]


def read_title(monkeypatch: pytest.MonkeyPatch, path: Path, results: SweepResults) -> str:
    """The line above the error plot."""
    titles: list[str] = []
    set_title = Axes.set_title
    with monkeypatch.context() as patch:
        patch.setattr(Axes, "set_title", lambda a, text, **rest: (titles.append(text), set_title(a, text, **rest)))
        plots.save_error_plot(path, results)
    return titles[0]


def test_the_error_plot_explains_the_marks_that_can_be_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def title(spread: float) -> str:
        results = grid({2: [0.05, 0.05 + spread], 30: [0.005, 0.005 + spread]})
        return read_title(monkeypatch, tmp_path / "error.png", results)

    assert title(0.004) == "mean of 2 seeds; band: one standard deviation; small dots: runs"
    assert title(0.00001) == "mean of 2 seeds; spread over seeds is smaller than the markers"
    assert read_title(monkeypatch, tmp_path / "error.png", grid({2: [0.5], 4: [0.3]})) == "one run each"
    assert read_title(monkeypatch, tmp_path / "error.png", grid({2: [0.5, 0.6]})) == (
        "mean of 2 seeds; bar: one standard deviation; small dots: runs"
    )


def test_pca_at_one_dimension_is_a_marker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    axes = []
    draw = plots._draw_references
    monkeypatch.setattr(plots, "_draw_references", lambda a, *rest: (axes.append(a), draw(a, *rest)))
    pca = pd.DataFrame({"dimension": [1, 2, 4], "mse": [0.07, 0.06, 0.02]})
    plots.save_error_plot(tmp_path / "error.png", grid({4: [0.01]}), pca)
    line = next(line for line in axes[0].get_lines() if line.get_label() == "PCA")
    assert (line.get_marker(), line.get_linestyle(), line.get_xydata().tolist()) == ("x", "None", [[4, 0.02]])


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_the_error_plot_has_means_band_runs_pca_and_published_errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    axes = []
    draw = plots._draw_references
    monkeypatch.setattr(plots, "_draw_references", lambda a, *rest: (axes.append(a), draw(a, *rest)))
    results = grid({2: [0.03, 0.05], 30: [0.002, 0.004]})
    pca = pd.DataFrame({"dimension": [1, 2, 30, 31], "mse": [0.07, 0.06, 0.02, 0.01]})
    plots.save_error_plot(tmp_path / "error.png", results, pca, MNIST)
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes[0].get_lines()}
    np.testing.assert_allclose(lines["autoencoder"], [[2, 0.04], [30, 0.003]])
    assert lines["PCA"] == [[2, 0.06], [30, 0.02]]
    assert lines["Hinton & Salakhutdinov 2006"] == [[30, 0.00383]]
    assert (axes[0].get_xscale(), axes[0].get_yscale()) == ("log", "log")
    band, dots = axes[0].collections
    assert band.get_paths()[0].get_extents().ymax == pytest.approx(0.04 + 0.02 / np.sqrt(2))
    assert sorted(dots.get_offsets()[:, 1]) == [0.002, 0.004, 0.03, 0.05]
    assert pixels(tmp_path / "error.png").shape == (500, 850, 3)


INTRINSIC = """estimate,value
participation,{0}
twonn,{1}
twonn of the images,9.5
"""


def commit_estimates(monkeypatch: pytest.MonkeyPatch, values: dict[int, tuple[float, float]]) -> None:
    """plots/intrinsic.csv in the commit of each experiment by number."""
    texts = {f"{number:040x}": INTRINSIC.format(*pair) for number, pair in values.items()}
    monkeypatch.setattr(report, "_read_committed", lambda commit, path: texts.get(commit, ""))


def test_the_dimension_plot_has_means_over_seeds_and_the_images_level(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    results = grid({4: [0.1, 0.2], 16: [0.05]})
    commit_estimates(monkeypatch, {0: (3.0, 2.0), 1: (4.0, 3.0), 2: (8.0, 6.5)})
    estimates = report._load_estimates(results)
    axes = []
    scale = plots._scale_x
    monkeypatch.setattr(plots, "_scale_x", lambda a, *rest, **named: (axes.append(a), scale(a, *rest, **named)))
    plots.save_dimension_plot(tmp_path / "dimensions.png", results, estimates)
    lines = {line.get_label(): line.get_ydata() for line in axes[0].get_lines()}
    assert list(lines["participation of codes"]) == [3.5, 8]
    assert list(lines["twonn of codes"]) == [2.5, 6.5]
    assert set(lines["twonn of the images"]) == {9.5}
    assert list(lines["latent_dim"]) == [4, 16]
    assert render.describe_estimates(estimates) == (
        "Estimates of the dimension at latent_dim 16: participation 8.0, twonn 6.5, twonn of the images 9.5."
    )


def test_estimates_of_the_dimension_are_those_of_a_sweep_over_latent_dim_alone(monkeypatch: pytest.MonkeyPatch):
    assert report._load_estimates(grid({4: [0.1], 8: [0.2]})) is None  # results from before the estimates
    commit_estimates(monkeypatch, {0: (3.0, 2.0), 1: (4.0, 3.0)})
    both = results_of(*(experiment(n, {"latent_dim": 4 + n, "loss": str(n)}, {"mse": 0.1}) for n in (0, 1)))
    assert report._load_estimates(both) is None


@pytest.mark.parametrize("low", [0.0021, 0.047, 0.0505, 0.51])
@pytest.mark.parametrize("ratio", [1.0, 1.05, 1.3, 2.0, 3.0, 3.99, 4.0, 5.0, 9.0, 15.9, 16.0, 40.0, 2000.0])
def test_ticks_of_the_error_are_distinct_and_evenly_chosen(low: float, ratio: float):
    axes = Figure().subplots()
    axes.plot([1, 2], [low, low * ratio])
    plots._scale_y(axes)
    axes.figure.draw_without_rendering()
    bottom, top = axes.get_ylim()
    visible = [tick for tick in axes.yaxis.get_major_ticks() if bottom <= tick.get_loc() <= top]
    values, labels = [tick.get_loc() for tick in visible], [tick.label1.get_text() for tick in visible]
    assert [float(label) for label in labels] == pytest.approx(values, rel=1e-6)
    assert len(set(labels)) == len(labels) >= 2
    logarithmic = axes.get_yscale() == "log"
    gaps = np.diff(np.log10(values) if logarithmic else values)
    assert gaps.max() <= (2.3 if logarithmic else 1 + 1e-6) * gaps.min()  # 1, 1.5, 2, 3, 5, 7, or equal steps


def test_swept_values_too_close_for_two_labels_share_a_tick():
    assert plots._separate([2, 4, 8, 16, 30, 32], logarithmic=True) == [2, 4, 8, 16, 30]
    assert plots._separate([2, 4, 8, 16, 30, 32], logarithmic=False) == [2, 4, 8, 16, 30, 32]
    assert plots._separate([16], logarithmic=True) == [16]


def test_sweeps_of_other_parameters_are_drawn(tmp_path: Path):
    losses = [{"latent_dim": 2, "seed": s, "train": {"loss": name}} for name in ("mse", "bce") for s in (0, 1)]
    names = results_of(*(experiment(n, params, {"mse": 0.1 + n}) for n, params in enumerate(losses)))
    plots.save_error_plot(tmp_path / "names.png", names)
    alone = results_of(experiment(0, losses[0], {"mse": 0.1}))
    plots.save_error_plot(tmp_path / "one.png", alone)
    table = pd.DataFrame({"epoch": [1, 2], "valid": [3.0, -1.0]})
    plots.save_loss_plot(tmp_path / "losses.png", names, {"s-0": table})
    for name in ("names", "one", "losses"):
        assert pixels(tmp_path / f"{name}.png").std() > 5  # something is drawn


def test_the_page_is_complete_and_loads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(render, "git", lambda *_: "c0ffee, 2024-01-01: <b>a commit</b>")
    Image.new("RGB", (4, 4)).save(tmp_path / "error.png")
    results = grid({2: [0.2, 0.3], 4: [0.1, 0.2]}, train={"epochs": 3, "mlp": {"widths": [64, 32]}})
    page = render.render_page(report_on(results), tmp_path, report.list_versions())
    assert page.count('<table class="sortable">') == 2
    assert all(f">{one}<" in page for one in results.table["experiment"])
    assert 'data-value="0.30000000000000004"' not in page
    assert 'data-value="0.3"' in page  # sorted by every digit, shown with five
    assert "train.mlp.widths" in page
    assert "[64, 32]" in page
    assert "c0ffee, 2024-01-01: &lt;b&gt;a commit" in page
    assert "A note &amp; more." in page
    for package in ("torch", "torchvision", "numpy", "scikit-learn", "matplotlib"):
        assert f"<div>{package}<span>" in page
    for package in ("mypy", "ruff", "pytest", "uv"):
        assert f"<div>{package}<span>" not in page
    inlined, rest = re.subn(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)[::-1]
    assert inlined == 1
    assert not re.findall(r"https?:|//[a-z]|url\(|@import|<link|<script[^>]+src|fetch\(|import\(|XMLHttp", rest)
    assert "default-src 'none'" in rest


def test_versions_are_those_installed():
    assert report.list_versions()["numpy"] == np.__version__
