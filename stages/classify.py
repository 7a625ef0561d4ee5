"""Stage classify: a small classifier of the images -> data/classifier.safetensors, metrics/classify.json.

Reads data/raw, data/split/{train,valid,test} and params device, numerics, threads, sample; no model, so that all
experiments on the same images share it. It is trained on the training part, its best epoch is chosen on the validation
part, and the metrics have its accuracy on the test part. Where nobody asks for samples (`sample.count` is 0), or
where there are no two classes, the file holds no array but the reason, and the metrics are empty.
"""

from stages.runtime import numerics  # noqa: F401, I001 - first: pins threads and instruction set

import logging
from pathlib import Path

import numpy as np

from stages.autoencoder.core import arrays, files
from stages.autoencoder.data import packed_file, split_files
from stages.autoencoder.data.split_files import TEST, TRAIN, VALID, Part
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.sample import SampleParams
from stages.runtime.command import run_stage

CLASSIFIER, METRICS = Path("data/classifier.safetensors"), Path("metrics/classify.json")
log = logging.getLogger(__name__)


def main() -> None:
    params = loader.load(SampleParams)
    if not params.sample.count:
        save_reason("sample.count is 0")
        return
    train = split_files.load(TRAIN)
    if len(np.unique(train.labels)) > 1:
        fit(params, train)
    else:
        save_reason("the training part has one class" if train.class_names else "the images have no classes")


def save_reason(reason: str) -> None:
    """Write that there is no classifier."""
    log.info("no classifier: %s", reason)
    arrays.save(CLASSIFIER, {}, {"reason": reason})
    files.write_json(METRICS, {})


def fit(params: SampleParams, train: Part) -> None:
    """Train and test the classifier and write it."""
    from stages.autoencoder.classifier import classifier_file, fitting, network  # imports torch, seconds
    from stages.autoencoder.model import devices

    device = devices.prepare(params.device, params.numerics)
    parts = (train, split_files.load(VALID), split_files.load(TEST))
    labels = np.unique(train.labels)
    labelled = [fitting.LabelledImages(part.images, part.labels) for part in parts]
    fitted = fitting.fit(labelled[0], labelled[1], labels, device)
    classifier_file.save(CLASSIFIER, fitted, packed_file.read_digest(packed_file.RAW))
    test = fitting.of_known_classes(labelled[2], labels)
    metrics = {}
    if len(test.labels):
        metrics["classifier_accuracy"] = network.accuracy(fitted.classifier, *test, device)
    else:
        log.info("no classifier_accuracy: no test image is of a class of the training part")
    files.write_json(METRICS, metrics)


if __name__ == "__main__":
    run_stage(main)
