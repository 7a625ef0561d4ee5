"""The stages after training together: which numbers they give, from what, and what they leave out."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from scipy.ndimage import median_filter
from skimage.metrics import peak_signal_noise_ratio
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import normalized_mutual_info_score, roc_auc_score
from sklearn.svm import LinearSVC

from stages.autoencoder.core import arrays
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.figures import code_figures, score_figures
from stages.autoencoder.figures.base import image_grids
from stages.autoencoder.model import model_file
from stages.autoencoder.scores import anomalies, denoisers, pca, probes
from stages.autoencoder.scores.codes import clusters
from stages.autoencoder.scores.probes import LabelledCodes
from stages.autoencoder.training import inputs
from tests.support import model_files, stage_folders

RECONSTRUCTIONS = Path("data/reconstructions.safetensors")
EVERY = stage_folders.EVERY
ANOMALIES = ["auroc", "precision", "recall", "f1"]
ANOMALIES += ["auroc_combined", "auroc_density", "auroc_mahalanobis", "auroc_mse", "auroc_rapp"]
OF_VARIANT = {
    "undercomplete": ({}, []),
    "denoising": ({"corruption": "gaussian"}, ["gain_db"]),
    "variational": ({"bottleneck": "gaussian"}, ["elbo", "kl", "nll", "active_units"]),
    "sparse": ({"bottleneck": "relu"}, ["hoyer", "mean_active", "dead_units"]),
    "k-sparse": ({"bottleneck": "top_k"}, ["hoyer", "mean_active", "dead_units"]),
    "anomalies": ({"normal": (0, 2)}, ANOMALIES),
    "masks": ({"normal": (0, 2), "masks": True}, [*ANOMALIES, "pixel_auroc"]),
}


@pytest.fixture
def undrawn(monkeypatch):
    """No pictures, which take most of the time of a stage on tiny data."""
    drawers = [(image_grids, "save_rows"), (code_figures, "save_map"), (code_figures, "save_dimensions")]
    drawers += [
        (score_figures, name) for name in ("save_errors", "save_pca_curve", "save_code_scores", "save_spectrum")
    ]
    for module, name in drawers:
        monkeypatch.setattr(module, name, lambda *given, **named: None)


def pixels(name="test"):
    return stage_folders.read_images(name) / np.float32(255)


@pytest.mark.parametrize("variant", OF_VARIANT)
def test_each_variant_has_its_columns_and_no_others_in_this_order(variant, workspace, undrawn):
    settings, added = OF_VARIANT[variant]
    changes = {"embed": {"map": "tsne" if variant == "undercomplete" else "none"}}
    stage_folders.make(workspace(changes | {"reconstruct": {"importance_samples": 2}}), **settings)
    stage_folders.run()
    expected = EVERY + added
    assert list(stage_folders.metrics()) == [name for name in expected if variant == "undercomplete" or name != "trust"]


def unchanged_by_order():
    """Run, put the images of both parts in another order, run again: every byte must stay."""
    stage_folders.run()
    before = stage_folders.outputs()
    stage_folders.shuffle()
    stage_folders.shuffle(Path("data/split/train.safetensors"))
    stage_folders.run()
    after = stage_folders.outputs()
    assert len(before) >= 6
    assert {name for name in before if before[name] != after.get(name)} == set()


def test_the_order_of_images_changes_no_byte(workspace):
    stage_folders.make(workspace(), corruption="salt_and_pepper")
    unchanged_by_order()


@pytest.mark.parametrize("bottleneck", ["gaussian", "top_k"])
def test_the_order_of_images_changes_no_number_of_other_variants(bottleneck, workspace, undrawn):
    stage_folders.make(workspace(), bottleneck=bottleneck)
    unchanged_by_order()


def test_evaluate_without_a_model_says_how_to_make_one(workspace, undrawn):
    stage_folders.make(workspace({"embed": {"map": "none"}}))
    stage_folders.run()
    Path("data/model.safetensors").unlink()
    with pytest.raises(UserError, match=r"^data/model\.safetensors: not found; run dvc repro, which makes it$"):
        stage_folders.run("evaluate")


@pytest.mark.parametrize("stale", ["reconstructions", "embeddings"])
def test_results_of_another_model_are_refused(stale, workspace, undrawn):
    made = stage_folders.make(workspace({"embed": {"map": "none"}}))
    stage_folders.run()
    before = stage_folders.outputs()
    with torch.no_grad():
        made.decoder[-2].bias += 1
    model_files.save(Path("data/model.safetensors"), made)
    stage_folders.run("reconstruct" if stale == "embeddings" else "embed")
    reason = r"got one made with another model; run dvc repro"
    message = rf"^data/{stale}\.safetensors: must be made with data/model\.safetensors; {reason}"
    with pytest.raises(UserError, match=message):
        stage_folders.run("evaluate")
    assert stage_folders.outputs()["metrics/evaluate.json"] == before["metrics/evaluate.json"]


def test_reconstruction_scores_are_those_of_the_arrays(workspace, undrawn):
    made = stage_folders.make(workspace({"embed": {"map": "none"}}))
    stage_folders.run()
    found, clean = stage_folders.metrics(), pixels()
    with torch.no_grad():
        output = made(torch.from_numpy(clean))
        bce = torch.nn.functional.binary_cross_entropy(
            output.double(), torch.from_numpy(clean).double(), reduction="sum"
        )
    error = np.square(output.numpy().astype(float) - clean)
    assert found["mse"] == pytest.approx(error.mean(), rel=1e-5)
    assert found["per_image"] == pytest.approx(64 * error.mean(), rel=1e-5)
    assert found["bce"] == pytest.approx(bce.item() / 40, rel=1e-5)
    psnr = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in zip(clean, output.numpy(), strict=True)]
    assert found["psnr"] == pytest.approx(np.mean(psnr), rel=1e-6)
    train = pixels("train").reshape(60, -1)
    fitted = PCA(3).fit(train.astype(float))
    flat = clean.reshape(40, -1)
    expected = np.square(fitted.inverse_transform(fitted.transform(flat)) - flat).mean()
    assert found["pca_mse"] == pytest.approx(expected, rel=1e-4)
    assert found["pca_ratio"] == pytest.approx(found["mse"] / expected, rel=1e-4)


def test_scores_of_codes_stand_beside_those_of_pca_codes(workspace, undrawn):
    stage_folders.make(workspace())
    stage_folders.run()
    flat = {name: pixels(name).reshape(-1, 64) for name in ("train", "test")}
    fitted = PCA(3).fit(flat["train"].astype(float))
    expected = probes.score_codes(
        *(
            LabelledCodes(fitted.transform(images).astype(np.float32), stage_folders.read_labels(name))
            for name, images in flat.items()
        )
    )
    with Path("plots/codes.csv").open() as file:
        table = {row["score"]: float(row["value"]) for row in csv.DictReader(file)}
    metrics = stage_folders.metrics()
    for name in ("knn", "probe", "kmeans", "nmi"):
        assert table[name] == metrics[name]
        assert table[f"{name} of PCA"] == pytest.approx(expected[name], abs=0.03)
    assert table["trust of tsne map"] == metrics["trust"]


@pytest.mark.parametrize("bottleneck", ["linear", "relu", "top_k"])
def test_codes_have_classifiers_whose_strength_validation_chooses(bottleneck, workspace, undrawn):
    """scikit-learn's own with each penalty in turn, until the validation codes say stop, then fitted to them too."""
    stage_folders.make(workspace({"embed": {"map": "none", "classifiers": True}}), bottleneck=bottleneck)
    stage_folders.run()
    with Path("plots/codes.csv").open() as file:
        table = {row["score"]: float(row["value"]) for row in csv.DictReader(file)}
    codes = arrays.load(Path("data/embeddings.safetensors"))[0]
    labels = {name: stage_folders.read_labels(name) for name in codes if name in ("train", "valid", "test")}
    scale = (codes["train"] - codes["train"].mean(0)).std()
    for name, kind in (("tuned_probe", LogisticRegression), ("svm", LinearSVC)):
        best, chosen = -1, None
        for penalty in (0.01, 0.003, 0.001, 0.0003, 0.0001):
            model = kind(C=1 / (penalty * len(codes["train"])), tol=1e-5, max_iter=10_000)
            model.fit(codes["train"] / scale, labels["train"])
            share = model.score(codes["valid"] / scale, labels["valid"])
            if share <= best:
                break
            best, chosen = share, penalty
        both, their_labels = (np.concatenate([held[part] for part in ("train", "valid")]) for held in (codes, labels))
        model = kind(C=1 / (chosen * len(both)), tol=1e-5, max_iter=10_000).fit(both / scale, their_labels)
        assert table[name] == pytest.approx(model.score(codes["test"] / scale, labels["test"]), abs=0.03)


def test_the_gain_is_the_mean_difference_in_psnr(workspace, undrawn):
    made = stage_folders.make(workspace({"embed": {"map": "none"}}), corruption="masking")
    stage_folders.run()
    clean = pixels()
    noise = torch.Generator().manual_seed(0)
    noisy = inputs.corrupt(torch.from_numpy(clean), "masking", 0.3, noise)
    with torch.no_grad():
        output = made(noisy)
    gains = [
        peak_signal_noise_ratio(a, c, data_range=1) - peak_signal_noise_ratio(a, b, data_range=1)
        for a, b, c in zip(clean, noisy.numpy(), output.numpy(), strict=True)
    ]
    assert stage_folders.metrics()["gain_db"] == pytest.approx(np.mean(gains), rel=1e-5)
    given = arrays.load(RECONSTRUCTIONS)[0]["given"]
    assert np.mean((given == 0) & (clean > 0)) == pytest.approx(0.3, abs=0.03)


def test_other_denoisers_stand_beside_the_model_on_the_same_images(workspace, undrawn, monkeypatch):
    stage_folders.make(workspace({"embed": {"map": "none"}}), corruption="gaussian")
    stage_folders.run()

    def table():
        with Path("plots/evaluate/denoising.csv").open() as file:
            return {row["method"]: row for row in csv.DictReader(file)}

    found = table()
    assert list(found) == ["autoencoder", "median", "PCA", "non-local means"]
    assert float(found["autoencoder"]["gain_db"]) == pytest.approx(stage_folders.metrics()["gain_db"], abs=1e-9)
    given, clean = arrays.load(RECONSTRUCTIONS)[0]["given"], pixels()
    smoothed = median_filter(given, (1, 1, *[int(float(found["median"]["strength"]))] * 2), mode="mirror")
    psnr = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in zip(clean, smoothed, strict=True)]
    assert float(found["median"]["psnr"]) == pytest.approx(np.mean(psnr), rel=1e-6)
    monkeypatch.setattr(denoisers, "MAX_NUMBERS", 64 * 15)
    stage_folders.run("evaluate")
    chosen = np.linspace(0, 39, 15).round().astype(int)
    denoised = arrays.load(RECONSTRUCTIONS)[0]["denoised"][chosen]
    psnr = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in zip(clean[chosen], denoised, strict=True)]
    assert float(table()["autoencoder"]["psnr"]) == pytest.approx(np.mean(psnr), rel=1e-6)


def test_clusters_of_all_images_are_those_of_the_codes_of_all_parts(workspace, undrawn):
    stage_folders.make(workspace({"embed": {"map": "none"}}))
    stage_folders.run()
    names = ("train", "valid", "test")
    codes = arrays.load(Path("data/embeddings.safetensors"))[0]
    fitted = KMeans(4, n_init=10, random_state=0).fit(np.concatenate([codes[name] for name in names])).labels_
    labels = np.concatenate([stage_folders.read_labels(name) for name in names])
    with Path("plots/codes.csv").open() as file:
        table = {row["score"]: float(row["value"]) for row in csv.DictReader(file)}
    assert table["kmeans of all images"] == clusters.clustering_accuracy(fitted, labels)
    assert table["nmi of all images"] == pytest.approx(normalized_mutual_info_score(labels, fitted))
    assert "n2d of all images" not in table


def test_clusters_of_n2d_are_scored_where_embed_has_made_them(workspace, undrawn):
    stage_folders.make(workspace({"embed": {"map": "none"}}))
    stage_folders.run()
    path = Path("data/embeddings.safetensors")
    held, about = arrays.load(path)
    labels = np.concatenate([stage_folders.read_labels(name) for name in ("train", "valid", "test")])
    apart = labels[:, None] * 100 + np.random.default_rng(0).normal(size=(len(labels), 10))
    arrays.save(path, held | {"n2d": apart.astype(np.float32)}, about)
    stage_folders.run("evaluate")
    with Path("plots/codes.csv").open() as file:
        table = {row["score"]: float(row["value"]) for row in csv.DictReader(file)}
    assert (table["n2d of all images"], table["n2d_nmi of all images"]) == (1, pytest.approx(1))


def test_the_spectrum_is_that_of_the_test_codes(workspace, undrawn):
    stage_folders.make(workspace({"embed": {"map": "none"}}))
    stage_folders.run()
    codes = arrays.load(Path("data/embeddings.safetensors"))[0]["test"].astype(float)
    shares = PCA().fit(codes).explained_variance_ratio_
    with Path("plots/spectrum.csv").open() as file:
        found = [[float(row[name]) for name in ("axis", "share", "cumulative")] for row in csv.DictReader(file)]
    np.testing.assert_allclose(found, np.stack([[1, 2, 3], shares, shares.cumsum()], 1))
    metrics = stage_folders.metrics()
    assert metrics["participation"] == pytest.approx(1 / np.square(shares).sum())
    with Path("plots/intrinsic.csv").open() as file:
        estimates = {row["estimate"]: float(row["value"]) for row in csv.DictReader(file)}
    assert list(estimates) == ["participation", "twonn", "ml", "twonn of the images", "ml of the images"]
    assert {name: estimates[name] for name in ("participation", "twonn")} == {
        name: metrics[name] for name in ("participation", "twonn")
    }


def test_the_elbo_is_bce_at_a_sample_plus_kl_with_the_sign_turned(workspace, undrawn):
    made = stage_folders.make(workspace({"embed": {"map": "none"}}), bottleneck="gaussian")
    stage_folders.run()
    found = stage_folders.metrics()
    x = torch.from_numpy(pixels())
    with torch.no_grad():
        code = made.code(x, torch.Generator().manual_seed(0))
        posterior = torch.distributions.Normal(code.mean, (code.log_var / 2).exp())
        kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
        bce = torch.nn.functional.binary_cross_entropy(made.decode(code.z), x, reduction="sum") / 40
    assert found["kl"] == pytest.approx(kl.item(), rel=1e-4)
    assert found["elbo"] == pytest.approx(-(bce + kl).item(), rel=1e-4)


@pytest.mark.parametrize("binarize", ["none", "dynamic"])
def test_nll_is_that_of_the_integral_over_the_code(binarize, workspace, undrawn):
    """With one dimension, p(x) is the mean of p(x | z) over a fine grid of the prior."""
    changes = {"embed": {"map": "none"}, "reconstruct": {"importance_samples": 3000}}
    made = stage_folders.make(workspace(changes), bottleneck="gaussian", latent_dim=1, binarize=binarize)
    stage_folders.run()
    x = torch.from_numpy(pixels()).double()
    if binarize == "dynamic":
        given = inputs.DrawnImages(stage_folders.read_images(), np.arange(60, 100))
        x = torch.from_numpy(given[:] / 255)
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    with torch.no_grad():
        logits = made.double().decoder(grid[:, None])
    likelihood = -torch.nn.functional.binary_cross_entropy_with_logits(
        logits[None].expand(len(x), *logits.shape), x[:, None].expand(-1, len(grid), *x.shape[1:]), reduction="none"
    ).sum((2, 3, 4))
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(grid)
    expected = -(likelihood + prior + np.log(16 / 4000)).logsumexp(1).mean().item()
    found = stage_folders.metrics()
    assert found["nll"] == pytest.approx(expected, abs=0.02)
    assert found["nll"] < -found["elbo"]


def test_a_model_of_drawn_pixels_is_given_a_draw_and_measured_on_grey_images(workspace, undrawn):
    made = stage_folders.make(workspace({"embed": {"map": "none"}}), binarize="static")
    stage_folders.run()
    given = inputs.DrawnImages(stage_folders.read_images(), np.arange(60, 100))[:] / np.float32(255)
    with torch.no_grad():
        output = made(torch.from_numpy(given)).numpy()
    found = stage_folders.metrics()
    assert found["mse"] == pytest.approx(np.mean((output - pixels()) ** 2), rel=1e-4)
    bce = torch.nn.functional.binary_cross_entropy(torch.from_numpy(output), torch.from_numpy(given), reduction="sum")
    assert found["bce"] == pytest.approx(bce.item() / 40, rel=1e-4)


def test_anomalies_are_the_images_of_classes_that_are_not_normal(workspace, undrawn):
    stage_folders.make(workspace({"embed": {"map": "none"}}), normal=(1, 2))
    stage_folders.run()
    error = np.square(arrays.load(RECONSTRUCTIONS)[0]["output"] - pixels()).mean((1, 2, 3))
    expected = roc_auc_score(np.isin(stage_folders.read_labels(), [0, 3]), error)
    assert stage_folders.metrics()["auroc"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("bottleneck", "chosen"), [("linear", "combined"), ("gaussian", "elbo")])
def test_each_score_of_anomalies_has_its_auroc_and_the_chosen_one_decides(workspace, undrawn, bottleneck, chosen):
    folder = workspace({"embed": {"map": "none"}})
    stage_folders.make(folder, normal=(1, 2), bottleneck=bottleneck, score=chosen, binarize="static")
    stage_folders.run()
    stored = model_file.load("data/model.safetensors")
    anomalous, found = np.isin(stage_folders.read_labels(), [0, 3]), stage_folders.metrics()
    grey = torch.from_numpy(pixels().astype(np.float32))
    with torch.no_grad():
        scores = {name: score(grey).numpy() for name, score in stored.scores.items()}
    assert {name for name in found if name.startswith("auroc_")} == {f"auroc_{name}" for name in scores}
    for name, values in scores.items():
        assert found[f"auroc_{name}"] == pytest.approx(roc_auc_score(anomalous, values), abs=0.01)
    assert found["auroc"] == found[f"auroc_{chosen}"]
    with Path("data/test_images.csv").open() as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose([float(row["score"]) for row in rows], scores[chosen], rtol=1e-4)
    above = [row["above_threshold"] == "True" for row in rows]
    assert above == (scores[chosen] > model_files.THRESHOLD).tolist()
    assert found["recall"] == np.mean(np.array(above)[anomalous])


def test_precision_and_recall_are_those_at_the_threshold_of_the_model(workspace, undrawn):
    stage_folders.make(workspace({"embed": {"map": "none"}}), normal=(1, 2))
    stage_folders.run()
    error = np.square(arrays.load(RECONSTRUCTIONS)[0]["output"] - pixels()).mean((1, 2, 3))
    above, anomalous = error > model_files.THRESHOLD, np.isin(stage_folders.read_labels(), [0, 3])
    assert 0 < above.sum() < len(above)
    found, hits = stage_folders.metrics(), (above & anomalous).sum()
    assert found["precision"] == pytest.approx(hits / above.sum())
    assert found["recall"] == pytest.approx(hits / anomalous.sum())
    assert found["f1"] == pytest.approx(2 * hits / (above.sum() + anomalous.sum()))


def test_each_anomalous_class_has_its_auroc_against_the_normal_images(workspace, undrawn):
    stage_folders.make(workspace({"embed": {"map": "none"}}), normal=(1, 2))
    stage_folders.run()
    labels = stage_folders.read_labels()
    error = np.square(arrays.load(RECONSTRUCTIONS)[0]["output"] - pixels(), dtype=float).mean((1, 2, 3))
    with Path("plots/per_class.csv").open() as file:
        found = {row["class"]: row["auroc"] for row in csv.DictReader(file)}
    assert found["class 1"] == found["class 2"] == ""
    for number in (0, 3):
        chosen = np.isin(labels, [1, 2, number])
        expected = roc_auc_score(labels[chosen] == number, error[chosen])
        assert float(found[f"class {number}"]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("pixels_counted", [2**22, 500])
def test_pixel_auroc_is_that_of_all_pixels_of_normal_and_masked_images(workspace, undrawn, monkeypatch, pixels_counted):
    stage_folders.make(workspace({"embed": {"map": "none"}}), shape=(3, 8, 8), normal=(1, 2), masks=True)
    stage_folders.run()
    error = np.square(arrays.load(RECONSTRUCTIONS)[0]["output"] - pixels()).mean(1)
    truth = np.zeros(error.shape, bool)
    truth[np.isin(stage_folders.read_labels(), [0, 3]), :, :4] = True
    step = -(-truth.size // pixels_counted)
    expected = roc_auc_score(truth.reshape(-1)[::step], error.reshape(-1)[::step])
    monkeypatch.setattr(anomalies, "MAX_PIXELS", pixels_counted)
    monkeypatch.setattr(anomalies, "BATCH_SIZE", 7)
    stage_folders.run("evaluate")
    assert stage_folders.metrics()["pixel_auroc"] == pytest.approx(expected, abs=1e-6)


def test_the_table_of_test_images_has_path_class_errors_and_code_of_each(workspace, undrawn):
    stage_folders.make(workspace({"embed": {"map": "none"}}), normal=(1, 2), names=True)
    stage_folders.run()
    with Path("data/test_images.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    scores = ["score", "mse", "psnr", "ssim", "z0", "z1", "z2"]
    assert list(found[0]) == ["index", "path", "class", "anomalous", "above_threshold", *scores]
    error = np.square(arrays.load(RECONSTRUCTIONS)[0]["output"] - pixels(), dtype=float).mean((1, 2, 3))
    codes, labels = arrays.load(Path("data/embeddings.safetensors"))[0]["test"], stage_folders.read_labels()
    assert [row["index"] for row in found] == [str(number) for number in range(60, 100)]
    for number, row in enumerate(found):
        assert row["path"] == f"folder/image {60 + number}.png"
        assert row["class"] == f"class {labels[number]}"
        assert row["anomalous"] == str(labels[number] in (0, 3))
        assert row["above_threshold"] == str(bool(error[number] > model_files.THRESHOLD))
        assert float(row["mse"]) == pytest.approx(error[number], rel=1e-5)
        assert [float(row[f"z{d}"]) for d in range(3)] == pytest.approx(codes[number].tolist(), rel=1e-5)


def test_classes_are_averaged_apart(workspace, undrawn):
    stage_folders.make(workspace({"embed": {"map": "none"}}))
    stage_folders.run()
    labels = stage_folders.read_labels()
    error = np.square(arrays.load(RECONSTRUCTIONS)[0]["output"] - pixels(), dtype=float).mean((1, 2, 3))
    with Path("plots/per_class.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [row["class"] for row in found] == [f"class {number}" for number in range(4)]
    for number, row in enumerate(found):
        assert float(row["mse"]) == pytest.approx(error[labels == number].mean(), rel=1e-6)


CODES = {"knn", "probe", "kmeans", "nmi"}
EDGES = {  # what is special -> settings, what is absent for it
    "black images": (
        {"constant": True},
        {"knn", "probe", "kmeans", "nmi", "trust", "pca_ratio", "participation", "twonn"},
    ),
    "one class": ({"classes": 1}, CODES),
    "one normal class": ({"normal": (1,)}, CODES),
    "two test images": ({"counts": (3, 2), "classes": 2}, {"knn", "trust", "twonn"}),
    "one test image": ({"counts": (2, 1), "classes": 2}, {"knn", "trust", "participation", "twonn"}),
    "seven test images": ({"counts": (60, 7)}, {"trust", "twonn"}),
    "one dimension": ({"latent_dim": 1}, set()),
    "one dimension, sparse": ({"latent_dim": 1, "bottleneck": "top_k"}, {"hoyer"}),
    "as many dimensions as pixels": ({"latent_dim": 64}, {"pca_ratio"}),
    "more dimensions than pixels": ({"latent_dim": 100, "bottleneck": "relu"}, {"pca_ratio"}),
    "two pixels high": ({"shape": (1, 2, 9)}, {"ssim"}),
    "in colour": ({"shape": (3, 9, 6)}, set()),
    "no classes": ({"classes": 0, "names": True}, CODES),
}


def test_more_dimensions_than_components_are_kept_leave_the_comparison_with_pca_out(
    workspace, undrawn, monkeypatch, caplog
):
    caplog.set_level("INFO")
    monkeypatch.setattr(pca, "MAX_PIXELS", 100)
    monkeypatch.setattr(pca, "MAX_COMPONENTS", 8)
    stage_folders.make(workspace({"embed": {"map": "none"}}), shape=(3, 8, 8), latent_dim=10)
    stage_folders.run()
    assert set(EVERY) - set(stage_folders.metrics()) == {"pca_ratio", "pca_mse", "trust"}
    assert "no pca_mse: the baseline keeps 8 components of such images, latent_dim is 10" in caplog.text
    assert "no pca_ratio: there is no pca_mse" in caplog.text


PLAIN = {"one class", "two test images", "seven test images", "one dimension, sparse", "as many dimensions as pixels"}


@pytest.mark.parametrize("edge", EDGES)
def test_undefined_scores_are_absent_and_the_rest_finite(edge, workspace, caplog, request):
    if edge in PLAIN:  # nothing in it is new to the pictures
        request.getfixturevalue("undrawn")
    caplog.set_level("INFO")
    settings, absent = EDGES[edge]
    stage_folders.make(workspace(), **({"counts": (80, 40)} | settings))
    stage_folders.run()
    found = stage_folders.metrics()
    sparse = settings.get("bottleneck") in ("relu", "top_k")
    expected = (
        {*EVERY}
        | ({"hoyer", "mean_active", "dead_units"} if sparse else set())
        | ({*ANOMALIES} if "normal" in settings else set())
    )
    assert set(found) == expected - absent
    assert all(name in caplog.text for name in absent)
    for path, content in stage_folders.outputs().items():
        assert not path.endswith(".csv") or b"nan" not in content.lower(), path


@pytest.mark.parametrize("bottleneck", ["linear", "relu", "gaussian"])
def test_a_dead_code_has_no_maps_and_no_clusters(bottleneck, workspace, request):
    if bottleneck != "gaussian":
        request.getfixturevalue("undrawn")
    made = stage_folders.make(workspace(), bottleneck=bottleneck)
    with torch.no_grad():
        made.encoder[-1].weight.zero_()
        made.encoder[-1].bias.zero_()
    model_files.save(Path("data/model.safetensors"), made)
    stage_folders.run()
    found = stage_folders.metrics()
    assert not {"probe", "kmeans", "nmi", "trust", "hoyer", "participation", "twonn"} & set(found)
    assert found.get("active_units", 0) == 0
    assert found.get("mean_active", 0) == 0


def documented(page=ROOT / "docs/metrics.md"):
    """(first cells of the rows, file) of each table row in docs/metrics.md that names a file."""
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| `"):
            yield cells[0].strip("` "), cells[1]


def test_the_page_of_metrics_lists_the_metrics_in_order():
    names = [name for name, file in documented() if file == "metrics/evaluate.json"]
    added = [name for _, columns in OF_VARIANT.values() for name in columns]
    assert names == EVERY + list(dict.fromkeys(added))
    trained = [name for name, file in documented() if file == "metrics/train.json"]
    assert trained == list(json.loads((ROOT / "metrics/train.json").read_text()))


def test_the_page_of_metrics_names_the_columns_of_each_table(workspace, undrawn):
    made = stage_folders.make(workspace({"embed": {"map": "none"}}), bottleneck="gaussian")
    assert made.spec.bottleneck == "gaussian"
    stage_folders.run()
    lines = [line for line in (ROOT / "docs/metrics.md").read_text().splitlines() if line.startswith("| plots/")]
    tables = {
        file: re.findall("`(.*?)`", line.split("|")[2])
        for line in lines
        for file in re.findall(r"plots/\S+?\.csv", line)
    }
    assert tables["plots/per_class.csv"].pop() == "auroc"  # of anomalous classes, which there are none of here
    for path in Path("plots").rglob("*.csv"):
        assert path.read_text().splitlines()[0].split(",") == tables[path.as_posix()], path
    assert (ROOT / "plots/loss.csv").read_text().splitlines()[0].split(",") == tables["plots/loss.csv"]
