"""The stages classify and sample: a classifier of the images, and samples beside them."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from scipy.linalg import sqrtm

from stages import classify, sample
from stages.autoencoder.classifier import classifier_file, fitting, network
from stages.autoencoder.core import arrays
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data import packed_file
from stages.autoencoder.model import inference, model_file, sampling
from stages.autoencoder.scores.samples import comparison
from tests.support import stage_folders

CPU = torch.device("cpu")
COUNT = {"sample": {"count": 30}}
SCORES = ["frechet", "kid", "precision", "recall", "density", "coverage", "accuracy"]
METRICS = ["classifier_frechet", "classifier_frechet_floor", "samples_accuracy"]


def read_metrics(stage):
    return json.loads(Path(f"metrics/{stage}.json").read_text())


def read_table():
    with sample.TABLE.open() as file:
        return {row.pop("score"): row for row in csv.DictReader(file)}


def load_classifier():
    return classifier_file.load(classify.CLASSIFIER, packed_file.read_digest(packed_file.RAW), CPU)


@pytest.fixture
def quick(monkeypatch):
    """No picture and two epochs, where the numbers themselves do not matter."""
    monkeypatch.setattr(fitting, "EPOCHS", 2)
    monkeypatch.setattr("stages.autoencoder.figures.base.image_grids.save_rows", lambda *given, **named: None)


def test_the_classifier_knows_the_classes_and_its_accuracy_is_that_on_the_test_part(workspace):
    stage_folders.make(workspace(COUNT))
    stage_folders.run("classify")
    classifier = load_classifier()
    with torch.no_grad():
        logits = classifier(torch.from_numpy(stage_folders.read_images() / np.float32(255)))
    expected = (logits.argmax(1).numpy() == stage_folders.read_labels()).mean()
    assert read_metrics("classify") == {"classifier_accuracy": expected}
    assert expected > 0.9  # four prototypes with noise; chance is 0.25


def test_the_same_images_give_the_same_bytes(workspace, quick):
    written = []
    for latent_dim in (3, 2):
        stage_folders.make(workspace(COUNT), latent_dim=latent_dim)
        torch.manual_seed(latent_dim)  # what ran before has no say
        stage_folders.run("classify", "sample")
        written.append((classify.CLASSIFIER.read_bytes(), stage_folders.outputs()))
    assert written[0][0] == written[1][0]
    stage_folders.run("classify", "sample")
    assert (classify.CLASSIFIER.read_bytes(), stage_folders.outputs()) == written[1]


def test_the_best_epoch_is_the_last_of_equally_good_ones(monkeypatch):
    scores = iter([0.5, 0.75, 0.75, 0.25])
    monkeypatch.setattr(fitting, "EPOCHS", 4)
    monkeypatch.setattr(fitting, "accuracy", lambda *given: next(scores))
    images = fitting.LabelledImages(np.zeros((20, 1, 8, 8), np.uint8), np.arange(20) % 2)
    fitted = fitting.fit(images, images, np.arange(2), CPU)
    assert (fitted.epoch, fitted.valid_accuracy) == (3, 0.75)


def test_fitting_leaves_the_random_numbers_of_the_process_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    images = fitting.LabelledImages(np.zeros((20, 1, 8, 8), np.uint8), np.arange(20) % 2)
    fitting.fit(images, images, np.arange(2), CPU)
    assert torch.equal(before, torch.get_rng_state())


def test_without_a_count_both_stages_write_nothing_and_import_no_torch(workspace):
    folder = workspace()
    stage_folders.make(folder)
    Path("plots/sample").mkdir(parents=True)
    sample.PICTURE.write_bytes(b"of an earlier run")
    code = "import sys; from stages import classify, sample; classify.main(); sample.main(); print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], cwd=folder, env={"PYTHONPATH": str(ROOT)}, text=True)
    assert not {"torch", "sklearn", "scipy", "pandas", "PIL"} & set(loaded.split())
    assert read_metrics("classify") == read_metrics("sample") == {}
    assert arrays.describe(classify.CLASSIFIER) == ({"reason": "sample.count is 0"}, set())
    assert [path.name for path in Path("plots/sample").iterdir()] == ["scores.csv"]
    assert sample.TABLE.read_text() == "score,samples,mixture,floor\n"


REASONS = {
    "the images have no classes": {"classes": 0},
    "the training part has one class": {"normal": (1,)},
}


@pytest.mark.parametrize("reason", REASONS)
def test_images_without_two_classes_have_no_scores_and_the_reason_is_said(reason, workspace, caplog):
    caplog.set_level("INFO")
    stage_folders.make(workspace(COUNT), **REASONS[reason])
    stage_folders.run("classify", "sample")
    assert arrays.describe(classify.CLASSIFIER)[0] == {"reason": reason}
    assert read_metrics("classify") == read_metrics("sample") == read_table() == {}
    assert f"no classifier: {reason}" in caplog.text
    assert f"no samples: {reason}" in caplog.text


def frechet(first, second):
    a, b = np.cov(first.T.astype(float)), np.cov(second.T.astype(float))
    shift = first.mean(0, dtype=float) - second.mean(0, dtype=float)
    return shift @ shift + np.trace(a + b - 2 * sqrtm(a @ b + 1e-12 * np.eye(len(a))).real)


def test_samples_and_training_images_are_compared_with_as_many_test_images(workspace):
    stage_folders.make(workspace(COUNT))
    stage_folders.run("classify", "sample")
    classifier = load_classifier()
    network_below = classifier.network[:-1]

    def features(images):
        with torch.no_grad():
            return network_below(torch.from_numpy(images / np.float32(255))).numpy()

    stored = model_file.load(sample.MODEL)
    model, mixture = stored.model, stored.mixture
    codes = sampling.sample_codes(model, mixture, 30, 0)
    samples = np.rint(inference.decode(model, codes, CPU) * 255).astype(np.uint8)
    test = stage_folders.read_images()[np.linspace(0, 39, 30).round().astype(int)]
    train = stage_folders.read_images("train")[np.linspace(0, 59, 30).round().astype(int)]
    metrics, table = read_metrics("sample"), read_table()
    assert list(metrics) == METRICS
    assert list(table) == SCORES
    assert metrics["classifier_frechet"] == pytest.approx(frechet(features(samples), features(test)), rel=1e-3)
    assert metrics["classifier_frechet_floor"] == pytest.approx(frechet(features(train), features(test)), rel=1e-3)
    assert metrics["classifier_frechet"] == float(table["frechet"]["samples"])
    assert metrics["samples_accuracy"] == float(table["accuracy"]["samples"])
    # an untrained decoder draws no prototypes
    assert metrics["classifier_frechet"] > 2 * metrics["classifier_frechet_floor"]
    assert float(table["coverage"]["samples"]) < float(table["coverage"]["floor"])
    assert metrics["samples_accuracy"] < float(table["accuracy"]["floor"])
    assert {row["mixture"] for row in table.values()} == {""}


def test_a_variational_model_is_sampled_from_its_prior_and_from_a_mixture(workspace, quick):
    made = stage_folders.make(workspace(COUNT), bottleneck="gaussian")
    stage_folders.run("classify", "sample")
    table = read_table()
    assert all(row[source] for row in table.values() for source in sample.SOURCES)
    assert table["frechet"]["samples"] != table["frechet"]["mixture"]
    noise = torch.randn(30, made.spec.latent_dim, generator=torch.Generator().manual_seed(comparison.SEED))
    with torch.no_grad():
        expected = np.rint(made.decode(noise).numpy() * 255)
    assert np.abs(comparison.draw_samples(made, None, 30, CPU) - expected).max() <= 1


def test_more_samples_than_test_images_are_not_drawn(workspace, quick, caplog):
    caplog.set_level("INFO")
    stage_folders.make(workspace({"sample": {"count": 1000}}), counts=(60, 40))
    stage_folders.run("classify", "sample")
    assert "sample: 40 samples beside as many test images" in caplog.text


def test_samples_of_large_images_are_fewer(workspace, quick, caplog, monkeypatch):
    caplog.set_level("INFO")
    monkeypatch.setattr(comparison, "MAX_BYTES", 7 * 3 * 9 * 6)
    stage_folders.make(workspace(COUNT), shape=(3, 9, 6))
    stage_folders.run("classify", "sample")
    assert "sample: 7 samples beside as many test images" in caplog.text


def test_only_test_images_of_classes_that_train_count(workspace, quick):
    stage_folders.make(workspace({"sample": {"count": 1000}}), normal=(1, 3))
    stage_folders.run("classify", "sample")
    classifier, labels = load_classifier(), stage_folders.read_labels()
    assert classifier.spec.labels == (1, 3)
    right = network.classify(classifier, stage_folders.read_images(), CPU) == labels
    assert read_metrics("classify") == {"classifier_accuracy": right[np.isin(labels, (1, 3))].mean()}
    before = stage_folders.outputs()["plots/sample/scores.csv"]
    part, about = arrays.load(Path("data/split/test.safetensors"))
    known = np.isin(part["labels"], (1, 3))
    arrays.save(Path("data/split/test.safetensors"), {name: values[known] for name, values in part.items()}, about)
    stage_folders.run("sample")
    assert stage_folders.outputs()["plots/sample/scores.csv"] == before


@pytest.mark.parametrize("counts", [(2, 1), (3, 2), (60, 6)])
def test_few_images_leave_scores_out_and_nothing_undefined_in(counts, workspace, quick):
    stage_folders.make(workspace(COUNT), counts=counts, classes=2)
    stage_folders.run("classify", "sample")
    expected = SCORES if counts[1] == 6 else ["frechet", "kid", "accuracy"] if counts[1] == 2 else []
    assert list(read_table()) == expected
    assert "nan" not in sample.TABLE.read_text().lower()


@pytest.mark.parametrize("settings", [{"constant": True}, {"shape": (1, 2, 9)}, {"bottleneck": "top_k"}], ids=str)
def test_images_and_codes_of_any_kind_are_compared(settings, workspace, quick):
    stage_folders.make(workspace(COUNT), **settings)
    stage_folders.run("classify", "sample")
    assert list(read_metrics("sample")) == METRICS


def test_a_classifier_of_other_images_is_refused(workspace, quick):
    stage_folders.make(workspace(COUNT))
    stage_folders.run("classify")
    stage_folders.make(workspace(COUNT), classes=3)
    with pytest.raises(
        UserError, match=r"classifier\.safetensors: must be trained on data/raw\.safetensors; got one of"
    ):
        stage_folders.run("sample")


def test_a_damaged_classifier_is_refused_in_one_line(workspace, quick):
    stage_folders.make(workspace(COUNT))
    stage_folders.run("classify")
    held, about = arrays.load(classify.CLASSIFIER)
    name = "network.0.0.weight"
    damages = {
        "must hold finite numbers": ({**held, name: held[name] * np.float32("nan")}, about),
        "must be torch.float32": ({**held, name: held[name][:1]}, about),
        "its weights must be those of its spec": ({name: held[name]}, about),
        "spec.labels must ascend": (held, about | {"spec": about["spec"] | {"labels": [1, 0]}}),
        "a classifier may have": (held, about | {"spec": about["spec"] | {"shape": [1, 65536, 65536]}}),
        "spec: Field required": (held, {key: value for key, value in about.items() if key != "spec"}),
    }
    for message, content in damages.items():
        arrays.save(classify.CLASSIFIER, *content)
        with pytest.raises(UserError, match=rf"must be a classifier of this project; .*{message}.*; run dvc repro"):
            stage_folders.run("sample")


def test_features_are_those_below_the_last_layer(workspace, quick):
    stage_folders.make(workspace(COUNT))
    stage_folders.run("classify")
    classifier, images = load_classifier(), stage_folders.read_images()
    features = torch.from_numpy(network.compute_features(classifier, images, CPU))
    assert features.shape == (len(images), network.FEATURES)
    with torch.no_grad():
        labels = classifier.network[-1](features).argmax(1).numpy()
    assert np.array_equal(labels, network.classify(classifier, images, CPU))


def test_the_page_of_metrics_lists_the_scores_of_samples(workspace, quick):
    stage_folders.make(workspace(COUNT))
    stage_folders.run("classify", "sample")
    text = (ROOT / "docs/metrics.md").read_text()
    named = re.findall(r"^\| `(\w+)` \| metrics/(classify|sample)\.json \|", text, re.MULTILINE)
    assert named == [(name, stage) for stage in ("classify", "sample") for name in read_metrics(stage)]
    section = text.partition("### Samples\n")[2].partition("\n### ")[0]
    assert re.findall(r"^- `(\w+)`", section, re.MULTILINE) == [*sample.SOURCES, *read_table()]
