"""Linear classifiers of sparse codes, as papers on sparse codes report them: a logistic regression and a linear SVM.

Codes of the validation part choose the strength of the penalty. Then the classifier is fitted to them as well, as the
published ones are fitted to all images that are not test. Definitions: docs/metrics.md.
"""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from stages.autoencoder.scores.probes import LabelledCodes, check_variation
from stages.autoencoder.scores.thread_limits import limit_threads
from stages.autoencoder.scores.undefined_scores import UndefinedScore, add_score

PENALTIES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4)  # weight of |w|^2 / 2 beside the mean loss of an image, tried in this order
TOLERANCE, MAX_STEPS = 1e-3, 300
MAX_DENSITY = 0.25  # share of entries that are not 0, up to which a sparse matrix is faster
log = logging.getLogger(__name__)


def score_classifiers(train: LabelledCodes, valid: LabelledCodes, test: LabelledCodes) -> dict[str, float]:
    """tuned_probe and svm: accuracy on test codes, as far as the data define it. The training part has classes."""
    table: dict[str, float] = {}
    with limit_threads(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        add_score(table, "tuned_probe", score_classifier, make_logistic_regression, train, valid, test)
        add_score(table, "svm", score_classifier, make_svm, train, valid, test)
    return table


def make_logistic_regression(c: float) -> LogisticRegression:
    """Multinomial, with an L2 penalty; c: the weight of the summed loss beside |w|^2 / 2."""
    return LogisticRegression(C=c, tol=TOLERANCE, max_iter=MAX_STEPS)


def make_svm(c: float) -> LinearSVC:
    """One class against the others, squared hinge loss, L2 penalty; c: the weight of the summed loss."""
    return LinearSVC(C=c, dual=False, tol=TOLERANCE, max_iter=MAX_STEPS)


def score_classifier(
    make: Callable[[float], Any], train: LabelledCodes, valid: LabelledCodes, test: LabelledCodes
) -> float:
    """Accuracy on the test codes, of images whose class occurs in training, with the penalty that `valid` chooses.

    Fitted to the training codes, weaker and weaker penalties are tried until one classifies no more validation images
    right than the one before; with the best one it is then fitted to the codes of both parts.
    Codes are divided by one number, their standard deviation over all entries. Raises UndefinedScore if there is no
    validation or test image to classify, or all codes of the training part are equal.
    """
    scale = np.float32(check_variation(train.codes))
    valid, test = map(_known(train), (valid, test))
    examples, held_out, judged = ((_to_features(part.codes, scale), part.labels) for part in (train, valid, test))
    best, most = PENALTIES[0], -1.0
    for penalty in PENALTIES:
        model = make(1 / (penalty * len(train.labels))).fit(*examples)
        share = model.score(*held_out)
        log.info("%s: penalty %g, %.4f of the validation images", type(model).__name__, penalty, share)
        if share <= most:
            break
        best, most = penalty, share
    both = LabelledCodes(np.concatenate([train.codes, valid.codes]), np.concatenate([train.labels, valid.labels]))
    model = make(1 / (best * len(both.labels))).fit(_to_features(both.codes, scale), both.labels)
    return float(model.score(*judged))


def _known(train: LabelledCodes) -> Callable[[LabelledCodes], LabelledCodes]:
    """A function: the codes of a part whose class occurs in training. Raises UndefinedScore if there are none."""

    def choose(part: LabelledCodes) -> LabelledCodes:
        known = np.isin(part.labels, train.labels)
        if not known.any():
            raise UndefinedScore("no validation or no test image is of a class of the training part")
        return LabelledCodes(part.codes[known], part.labels[known])

    return choose


def _to_features(codes: np.ndarray, scale: np.float32) -> np.ndarray | csr_matrix:
    scaled = codes / scale
    return csr_matrix(scaled) if np.count_nonzero(codes) <= MAX_DENSITY * codes.size else scaled
