"""Samples of a model beside real images: by a classifier's features, and by what another classifier learns from them.

Samples have no classes, so the classifier of real images gives them some. A second classifier of the same recipe is
trained on the samples with these, and judged by real test images with their true ones. The floor gets the same
treatment: as many training images in place of the samples, with the classes that the classifier gives them.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from stages.autoencoder.classifier import fitting, network
from stages.autoencoder.classifier.fitting import LabelledImages
from stages.autoencoder.classifier.network import Classifier
from stages.autoencoder.data.pixels import ChosenImages, ImageRows, evenly_spaced, piece_length, pieces, to_bytes
from stages.autoencoder.data.split_files import Part
from stages.autoencoder.model import inference
from stages.autoencoder.model.autoencoder import Autoencoder
from stages.autoencoder.model.sampling import Mixture, sample_codes
from stages.autoencoder.scores.samples import feature_scores
from stages.autoencoder.scores.undefined_scores import UndefinedScore, add_score

SEED = 0  # the same samples in every experiment with the same latent_dim
MAX_BYTES = 2**29  # of samples that are held, one byte a number


@dataclass(frozen=True)
class RealImages:
    """What samples are compared with: test images, and as many training images, which are the floor."""

    test: LabelledImages  # of the classes that the classifier knows, evenly spaced
    train: ImageRows  # evenly spaced
    valid: LabelledImages  # choose the best epoch of a classifier


def choose_images(classifier: Classifier, train: Part, valid: Part, test: Part, count: int) -> RealImages:
    """`count` test images, and as many training images; fewer if there are fewer, or if they are large.

    Raises UndefinedScore if no test image is of a class that the classifier knows.
    """
    known = np.flatnonzero(np.isin(test.labels, classifier.spec.labels))
    if not len(known):
        raise UndefinedScore("no test image is of a class of the training part")
    count = min(count, len(known), len(train.labels), max(1, MAX_BYTES // math.prod(classifier.spec.shape)))
    rows = evenly_spaced(known, count)
    return RealImages(
        LabelledImages(ChosenImages(test.images, rows), test.labels[rows]),
        ChosenImages(train.images, evenly_spaced(np.arange(len(train.labels)), count)),
        LabelledImages(valid.images, valid.labels),
    )


def draw_samples(model: Autoencoder, mixture: Mixture | None, count: int, device: torch.device) -> np.ndarray:
    """Samples of a model, uint8 (count, C, H, W) as real images are. mixture: None for the prior, N(0, I)."""
    codes = sample_codes(model, mixture, count, SEED)
    images = np.empty((count, *model.spec.shape), np.uint8)
    for rows in pieces(count, piece_length(model.spec.shape, inference.BATCH_SIZE)):
        images[rows] = to_bytes(inference.decode(model, codes[rows], device))
    return images


class Comparison:
    """Compares images with real ones."""

    def __init__(self, classifier: Classifier, real: RealImages, device: torch.device) -> None:
        self._classifier, self._real, self._device = classifier, real, device
        self._features = self.compute_features(real.test.images)

    def compute_features(self, images: ImageRows) -> np.ndarray:
        """Features float32 (N, F) of images uint8 (N, C, H, W)."""
        return network.compute_features(self._classifier, images, self._device)

    def score(self, images: ImageRows, features: np.ndarray) -> dict[str, float]:
        """frechet, kid, precision, recall, density, coverage and accuracy, as far as they are defined.

        images: uint8 (N, C, H, W); features: theirs.
        """
        table = feature_scores.score(features, self._features)
        add_score(table, "accuracy", self._train_and_test, images)
        return table

    def _train_and_test(self, images: ImageRows) -> float:
        """The accuracy on the test images of a classifier that is trained on these images."""
        if len(images) < 2:
            raise UndefinedScore("a classifier needs two images")
        labels = network.classify(self._classifier, images, self._device)
        known = np.array(self._classifier.spec.labels)
        fitted = fitting.fit(LabelledImages(images, labels), self._real.valid, known, self._device)
        return network.accuracy(fitted.classifier, *self._real.test, self._device)
