"""Stage sample: samples of the model beside real images -> metrics/sample.json, plots/sample/.

Reads data/model, data/classifier, data/raw, data/split/{train,valid,test} and params device, numerics, threads, sample.
A variational model is sampled from its prior and, for comparison, from a mixture of Gaussians that is fitted here as
`train` fits one for the other kinds. plots/sample/scores.csv has a row for each score: of samples, of samples of that
mixture, and of as many training images, the floor. Definitions: docs/metrics.md. plots/sample/samples.png shows samples
above the training images that are nearest to them. Where there is no classifier, or `sample.count` is 0, the metrics
and the table are empty, and there is no picture.
"""

from stages.runtime import numerics  # noqa: F401, I001 - first: pins threads and instruction set

import logging
from collections.abc import Mapping
from pathlib import Path

from stages.autoencoder.core import files
from stages.autoencoder.data import packed_file, split_files
from stages.autoencoder.data.split_files import TEST, TRAIN, VALID
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.sample import SampleParams
from stages.autoencoder.scores.undefined_scores import UndefinedScore
from stages.runtime.command import run_stage

MODEL, CLASSIFIER = Path("data/model.safetensors"), Path("data/classifier.safetensors")
METRICS, TABLE, PICTURE = Path("metrics/sample.json"), Path("plots/sample/scores.csv"), Path("plots/sample/samples.png")
SOURCES = ("samples", "mixture", "floor")  # columns of the table
COLUMNS, ROWS = 12, 2  # samples in a row of the picture, rows of each source
COMPARED = {  # between experiments: metric -> its source and its score
    "classifier_frechet": ("samples", "frechet"),
    "classifier_frechet_floor": ("floor", "frechet"),
    "samples_accuracy": ("samples", "accuracy"),
}
log = logging.getLogger(__name__)


def main() -> None:
    params = loader.load(SampleParams)
    PICTURE.unlink(missing_ok=True)  # one of an earlier run
    try:
        if not params.sample.count:
            raise UndefinedScore("sample.count is 0")
        scores = compare(params)
    except UndefinedScore as reason:
        log.info("no samples: %s", reason)
        scores = {}
    save_scores(scores)


def compare(params: SampleParams) -> dict[str, dict[str, float]]:
    """Draw the picture. Returns the scores of each source. Raises UndefinedScore where there is no classifier."""
    from stages.autoencoder.classifier import classifier_file  # imports torch, seconds
    from stages.autoencoder.figures.base import image_grids
    from stages.autoencoder.model import devices, model_file
    from stages.autoencoder.scores.samples import comparison, feature_scores
    from stages.autoencoder.training.fits import mixture_fit

    device = devices.prepare(params.device, params.numerics)
    classifier = classifier_file.load(CLASSIFIER, packed_file.read_digest(packed_file.RAW), device)
    if isinstance(classifier, str):
        raise UndefinedScore(classifier)
    stored = model_file.load(MODEL, device)
    model = stored.model
    train, valid, test = (split_files.load(path) for path in (TRAIN, VALID, TEST))
    real = comparison.choose_images(classifier, train, valid, test, params.sample.count)
    count = len(real.train)
    log.info("sample: %d samples beside as many test images", count)
    compared = comparison.Comparison(classifier, real, device)
    floor = compared.compute_features(real.train)
    densities = {"samples": stored.mixture}
    if model.is_variational:
        densities["mixture"] = mixture_fit.fit_to_images(model, train.images, valid.images, device)
    scores, rows = {}, []
    for source, density in densities.items():
        images = comparison.draw_samples(model, density, count, device)
        features = compared.compute_features(images)
        scores[source] = compared.score(images, features)
        title = "prior" if density is None else "mixture"
        for first in range(0, min(count, ROWS * COLUMNS), COLUMNS):
            shown = slice(first, min(first + COLUMNS, count))
            nearest = real.train[feature_scores.nearest(features[shown], floor)]
            rows += [(f"from the {title}", images[shown]), ("nearest", nearest)]
    scores["floor"] = compared.score(real.train, floor)
    title = f"Samples, and below each the image nearest in the classifier's features among {count:,} training images"
    image_grids.save_rows(PICTURE, rows, title=title)
    return scores


def save_scores(scores: Mapping[str, Mapping[str, float]]) -> None:
    """The table of all scores, and the metrics that are compared between experiments."""
    names = list(scores.get("floor", {}))
    lines = [["score", *SOURCES]]
    lines += [
        [name, *(repr(scores[of][name]) if name in scores.get(of, {}) else "" for of in SOURCES)] for name in names
    ]
    files.write(TABLE, "".join(",".join(line) + "\n" for line in lines).encode())
    files.write_json(METRICS, {m: scores[of][name] for m, (of, name) in COMPARED.items() if name in scores.get(of, {})})


if __name__ == "__main__":
    run_stage(main)
