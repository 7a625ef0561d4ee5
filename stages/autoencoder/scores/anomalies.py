"""How well a score finds images, and the error finds pixels, that are not normal. Definitions: docs/metrics.md."""

from typing import NamedTuple

import numpy as np
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from stages.autoencoder.data.pixels import ImageRows, piece_length, pieces, to_unit
from stages.autoencoder.data.split_files import spread_masks
from stages.autoencoder.scores.undefined_scores import UndefinedScore

BATCH_SIZE = 4096  # images held as float at a time, fewer if they are large
MAX_PIXELS = 2**22  # of pixel_auroc, evenly spaced over all pixels: it sorts them


class Found(NamedTuple):
    """A score of each image, and the threshold above which an image is called anomalous."""

    name: str
    scores: np.ndarray  # (N,)
    threshold: float

    @property
    def above(self) -> np.ndarray:
        """Which images are called anomalous, bool (N,)."""
        return self.scores > self.threshold


def auroc(scores: np.ndarray, anomalous: np.ndarray) -> float:
    """Area under the ROC curve when a score (N,) separates the anomalous images, bool (N,), from the others.

    Raises UndefinedScore if all or none are anomalous.
    """
    _check_both_kinds(anomalous, "AUROC", "images")
    return float(roc_auc_score(anomalous, scores))


def auroc_by_class(scores: np.ndarray, anomalous: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """The AUROC of each anomalous class against all normal images.

    scores: (N,); anomalous: bool (N,); classes: the class name of each image, (N,). {} without a normal image.
    """
    if anomalous.all():
        return {}
    named = {}
    for name in np.unique(classes[anomalous]).tolist():
        chosen = ~anomalous | (classes == name)
        named[name] = auroc(scores[chosen], anomalous[chosen])
    return named


def detection(found: Found, anomalous: np.ndarray) -> tuple[float, float, float]:
    """Precision, recall and F1 of what is called anomalous.

    Precision and F1 are 0 if none is. Raises UndefinedScore if all or none of the images, bool (N,), are anomalous.
    """
    _check_both_kinds(anomalous, "precision and recall", "images")
    shares = precision_recall_fscore_support(anomalous, found.above, average="binary", zero_division=0)
    return float(shares[0]), float(shares[1]), float(shares[2])


def pixel_auroc(
    output: ImageRows, clean: ImageRows, masked: np.ndarray, masks: np.ndarray, normal: np.ndarray
) -> float:
    """Area under the ROC curve when the squared error of a pixel, its channels' mean, finds anomalous pixels.

    output: float32 (N, C, H, W); clean: the same images as uint8; masked: int64 (M,), the images with a mask;
    masks: bool (M, H, W); normal: int64 (K,), images without an anomalous pixel. Other images are left out. Of more
    than 4 million pixels, evenly spaced ones count. Raises UndefinedScore if all or none are anomalous.
    """
    chosen = np.union1d(masked, normal)
    height, width = clean.shape[2:]
    step = -(-len(chosen) * height * width // MAX_PIXELS)
    errors, truth = [], []
    for piece in pieces(len(chosen), piece_length(clean.shape[1:], BATCH_SIZE)):
        rows = chosen[piece]
        first = -(piece.start * height * width) % step  # the same pixels, whatever the length of a piece
        difference = output[rows] - to_unit(clean[rows])
        errors.append(np.square(difference).mean(1).reshape(-1)[first::step])
        truth.append(spread_masks(rows, masked, masks).reshape(-1)[first::step])
    anomalous = np.concatenate(truth)
    _check_both_kinds(anomalous, "pixel AUROC", "pixels")
    return float(roc_auc_score(anomalous, np.concatenate(errors)))


def _check_both_kinds(anomalous: np.ndarray, score: str, what: str) -> None:
    if anomalous.all() or not anomalous.any():
        raise UndefinedScore(
            f"{score} needs normal and anomalous {what}, here {'all' if anomalous.all() else 'none'} are anomalous"
        )
