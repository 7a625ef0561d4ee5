"""Codes, maps of them, and what each dimension of them carries."""

import csv
import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from stages import embed
from stages.autoencoder.core import arrays
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data import split_files
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.embed import Embed, EmbedParams
from stages.autoencoder.scores import ablation, code_usage, maps
from stages.autoencoder.scores.undefined_scores import UndefinedScore
from tests.support import model_files, stage_folders

EMBEDDINGS = Path("data/embeddings.safetensors")
CPU = torch.device("cpu")


def rows(path):
    with Path(path).open() as file:
        return list(csv.DictReader(file))


def clouds(count=90, dimensions=5):
    """Codes in three clouds far from each other, and which."""
    rng = np.random.default_rng(0)
    which = np.arange(count) % 3
    return (which[:, None] * 20 + rng.normal(size=(count, dimensions))).astype(np.float32), which


def test_a_part_comes_in_the_order_of_its_index(workspace):
    folder = workspace()
    stage_folders.make(folder)
    stage_folders.save_part(folder, "test", np.array([3, 1, 2]), np.array([70, 20, 50]), list("abcd"), [])
    part = split_files.load(split_files.TEST)
    assert part.labels.tolist() == [1, 2, 3]
    assert part.index.tolist() == [20, 50, 70]
    assert np.array_equal(part.images[:], arrays.load(Path("data/raw.safetensors"))[0]["images"][[20, 50, 70]])


def test_the_pca_map_is_the_projection_on_the_first_two_axes():
    codes, _ = clouds()
    points = maps.pca(codes)
    expected = PCA(2).fit_transform(codes.astype(float))
    np.testing.assert_allclose(np.abs(points), np.abs(expected), rtol=1e-4, atol=1e-4)


def test_the_pca_map_of_one_dimension_is_a_line():
    codes = np.arange(6, dtype=np.float32)[:, None]
    points = maps.pca(codes)
    assert points.shape == (6, 2)
    np.testing.assert_allclose(np.abs(np.diff(points[:, 0])), 1, rtol=1e-5)
    np.testing.assert_array_equal(points[:, 1], 0)


@pytest.mark.parametrize(("count", "size"), [(90, 5), (90, 1), (90, 2), (5, 3), (7, 1)])
def test_tsne_maps_codes_of_any_size_the_same_way_each_time(count, size):
    codes, _ = clouds(count, size)
    points = maps.tsne(codes)
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()
    np.testing.assert_array_equal(points, maps.tsne(codes))


def test_tsne_keeps_clouds_together():
    codes, which = clouds()
    points = maps.tsne(codes)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2) + np.diag(np.full(len(points), np.inf))
    assert (which[distance.argmin(1)] == which).all()


@pytest.mark.parametrize("way", [maps.pca, maps.tsne])
@pytest.mark.parametrize("codes", [np.ones((20, 3), np.float32), np.eye(4, 3, dtype=np.float32)])
def test_codes_that_are_alike_or_few_have_no_map(way, codes):
    with pytest.raises(UndefinedScore):
        way(codes)


def test_umap_without_its_package_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    values = {"device": "cpu", "numerics": "fast", "threads": 1}
    with pytest.raises(
        UserError, match=r"^params\.yaml: embed\.map umap .*umap-learn.*pip install -r .* embed\.map: tsne$"
    ):
        loader.validate(
            EmbedParams, values | {"embed": {"map": "umap", "n2d": False, "classifiers": False}}, loader.PARAMS
        )
    with pytest.raises(UserError, match=r"^params\.yaml: embed\.n2d needs .*umap-learn.* embed\.n2d: false$"):
        loader.validate(
            EmbedParams, values | {"embed": {"map": "tsne", "n2d": True, "classifiers": False}}, loader.PARAMS
        )
    assert [Embed(map=name, n2d=False, classifiers=False).map for name in ("tsne", "none")] == ["tsne", "none"]


@pytest.mark.skipif(importlib.util.find_spec("umap") is not None, reason="umap-learn is installed")
def test_the_stage_says_that_umap_is_absent_before_it_computes(workspace):
    stage_folders.make(workspace({"embed": {"map": "umap"}}))
    with pytest.raises(UserError, match="umap-learn"):
        embed.main()
    assert not EMBEDDINGS.exists()


@pytest.mark.parametrize(("chosen", "present"), [("tsne", {"pca", "tsne"}), ("none", {"pca"})])
def test_codes_and_maps_are_those_of_the_model(workspace, chosen, present):
    made = stage_folders.make(workspace({"embed": {"map": chosen}}))
    stage_folders.run("embed")
    found, about = arrays.load(EMBEDDINGS)
    assert set(found) == {"train", "valid", "test", "mapped"} | present
    assert set(about["trust"]) == present
    for part in ("train", "valid", "test"):
        with torch.no_grad():
            expected = made.encode(torch.from_numpy(stage_folders.read_images(part)) / 255)
        np.testing.assert_allclose(found[part], expected, rtol=1e-5, atol=1e-6)
    assert found["mapped"].tolist() == list(range(40))
    for name in present:
        assert about["trust"][name] == maps.trustworthiness(found["test"], found[name])
        points = [(float(row["x"]), float(row["y"])) for row in rows(f"plots/embed/{name}.csv")]
        np.testing.assert_allclose(points, found[name], rtol=1e-5)


class Recorder:
    """In place of umap.UMAP: doubles the codes, and says how it was called."""

    given: ClassVar[dict[str, object]] = {}

    def __init__(self, **given):
        Recorder.given = given

    def fit_transform(self, codes):
        return codes * 2


def test_n2d_is_umap_of_the_codes_of_all_parts(workspace, monkeypatch):
    module = types.ModuleType("umap")
    module.UMAP = Recorder
    module.__spec__ = importlib.machinery.ModuleSpec("umap", None)
    monkeypatch.setitem(sys.modules, "umap", module)
    stage_folders.make(workspace({"embed": {"map": "none", "n2d": True}}))
    stage_folders.run("embed")
    found, _ = arrays.load(EMBEDDINGS)
    assert (found["n2d"] == 2 * np.concatenate([found[part] for part in ("train", "valid", "test")])).all()
    published = {"n_components": 10, "n_neighbors": 20, "min_dist": 0.0}  # McConville et al. 2020
    assert published.items() <= Recorder.given.items()


def test_codes_that_are_too_few_for_n2d_are_left_out_with_a_reason(workspace, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    stage_folders.make(workspace({"embed": {"map": "none", "n2d": True}}), counts=(6, 2))
    stage_folders.run("embed")
    assert "n2d" not in arrays.describe(EMBEDDINGS)[1]
    assert "no n2d: N2D needs more than 20 images, there are 20" in caplog.text


def test_large_parts_are_mapped_and_drawn_in_part_evenly_spread(workspace, monkeypatch):
    stage_folders.make(workspace({"embed": {"map": "none"}}))
    monkeypatch.setattr(maps, "MAX_CODES", 20)
    monkeypatch.setattr(embed, "MAX_POINTS", 5)
    stage_folders.run("embed")
    found, _ = arrays.load(EMBEDDINGS)
    assert found["mapped"].tolist() == np.linspace(0, 39, 20).round().astype(int).tolist()
    assert len(found["test"]) == 40
    assert len(found["pca"]) == 20
    drawn = rows("plots/embed/pca.csv")
    classes = [f"class {found['mapped'][i] % 4}" for i in (0, 5, 10, 14, 19)]
    assert [row["class"] for row in drawn] == classes


def test_silencing_a_dimension_costs_what_the_decoder_makes_of_it(workspace):
    made = stage_folders.make(workspace(), latent_dim=3)
    with torch.no_grad():  # a decoder whose output is sigmoid(W z), written out below
        made.decoder = torch.nn.Sequential(
            torch.nn.Linear(3, 64, bias=False), torch.nn.Unflatten(1, stage_folders.SHAPE)
        )
        weights = made.decoder[0].weight.copy_(torch.randn(64, 3)).numpy()
        weights[:, 1] = 0  # the second dimension says nothing
    rng = np.random.default_rng(0)
    codes = (rng.normal(size=(30, 3)) * [1, 5, 2]).astype(np.float32)
    mean, target = np.array([0.5, 0.0, -1.0]), rng.integers(0, 256, (30, *stage_folders.SHAPE), np.uint8)
    found = ablation.ablation_table(made, mean, target, codes, CPU).set_index("dimension")

    def mse(z):
        return np.square(1 / (1 + np.exp(-z @ weights.T.astype(float))) - target.reshape(30, -1) / 255).mean()

    for dimension in range(3):
        silenced = codes.astype(float)
        silenced[:, dimension] = mean[dimension]
        expected = mse(silenced) - mse(codes.astype(float))
        assert found["mse_added"][dimension] == pytest.approx(expected, abs=1e-6)
    assert found["mse_added"][1] == 0
    np.testing.assert_allclose(found["std"].sort_index(), codes.std(0), rtol=1e-5)
    assert found["rank"].tolist() == [1, 2, 3]
    assert found["mse_added"].is_monotonic_decreasing


def test_of_many_dimensions_those_that_vary_most_are_measured(workspace, monkeypatch):
    monkeypatch.setattr(ablation, "MAX_DIMENSIONS", 4)
    made = stage_folders.make(workspace(), latent_dim=10)
    codes = (np.random.default_rng(0).normal(size=(50, 10)) * np.arange(10)).astype(np.float32)
    images = np.zeros((50, *stage_folders.SHAPE), np.uint8)
    found = ablation.ablation_table(made, codes.mean(0), images, codes, CPU)
    assert sorted(found["dimension"]) == [6, 7, 8, 9]


def test_kl_of_each_dimension_is_that_of_torch_distributions(workspace):
    made = stage_folders.make(workspace(), bottleneck="gaussian")
    images = stage_folders.read_images()
    with torch.no_grad():
        code = made.code(torch.from_numpy(images) / 255)
        posterior = torch.distributions.Normal(code.mean, (code.log_var / 2).exp())
        expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).mean(0)
    np.testing.assert_allclose(ablation.kl_by_dimension(made, images, CPU), expected, rtol=1e-4)
    table = ablation.ablation_table(made, np.zeros(3), images, code.mean.numpy(), CPU).set_index("dimension")
    np.testing.assert_allclose(table["kl"].sort_index(), expected, rtol=1e-4)


def test_a_collapsed_dimension_of_a_gaussian_code_is_not_active(workspace):
    made = stage_folders.make(workspace({"embed": {"map": "none"}}), bottleneck="gaussian")
    with torch.no_grad():
        made.encoder[-1].weight[1] = 0  # the mean of the second dimension is the same for all images
        made.encoder[-1].weight[[0, 2]] *= 5
    model_files.save(Path("data/model.safetensors"), made)
    stage_folders.run("embed")
    found = {int(row["dimension"]): row for row in rows("plots/dimensions.csv")}
    assert [found[d]["active"] for d in range(3)] == ["1", "0", "1"]
    assert code_usage.active_units(arrays.load(EMBEDDINGS)[0]["test"]) == 2
