"""Fits the mixture of Gaussians from which codes are sampled to codes of the training part."""

import logging
import warnings

import numpy as np
import torch

from stages.autoencoder.data.pixels import ImageRows
from stages.autoencoder.model import inference
from stages.autoencoder.model.autoencoder import Autoencoder
from stages.autoencoder.model.sampling import MAX_AXES, Mixture

COMPONENTS = (1, 5, 20)  # numbers tried, until one makes validation codes less likely
CODES_PER_COMPONENT = 10  # at least
MAX_ITERATIONS = 50  # of expectation maximisation
LEAST_VARIANCE = 1e-3  # added to that of each component, in units of the variance of all codes along an axis
MAX_CODES, MAX_CODE_NUMBERS = 5000, 2**25  # of each part
LEAST_SHARE = 1e-6  # of the largest variance: below it, an axis is rounding
log = logging.getLogger(__name__)


def fit_to_images(model: Autoencoder, train: ImageRows, valid: ImageRows, device: torch.device) -> Mixture:
    """The density of a model's codes of training images, chosen on validation images; uint8 (N, C, H, W) each.

    Evenly spaced images count, at most MAX_CODES of each part. The code of a variational model is its mean.
    """
    most = max(2, min(MAX_CODES, MAX_CODE_NUMBERS // model.spec.latent_dim))

    known, unseen = (inference.apply_to_some(model.encode, images, most, device) for images in (train, valid))
    return fit(known, unseen)


def fit(train: np.ndarray, valid: np.ndarray) -> Mixture:
    """The mixture under which codes of the validation part are likeliest. train, valid: float32 (N, D), N >= 2 and 1.

    At most MAX_AXES principal axes count, and none along which the codes do not vary.
    """
    from sklearn.decomposition import PCA  # the import takes half a second
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    if not (train != train[0]).any():  # a dead code, whose one value is always sampled
        return _to_mixture(train[0], train[:0], np.ones(1), np.zeros((1, 0)), np.zeros((1, 0, 0)))
    pca = PCA(min(MAX_AXES, len(train) - 1, train.shape[1]), random_state=0).fit(train.astype(np.float64))
    varies = pca.explained_variance_ > LEAST_SHARE * pca.explained_variance_[0]
    deviations, directions = np.sqrt(pca.explained_variance_[varies]), pca.components_[varies]
    known, unseen = ((codes - pca.mean_) @ directions.T / deviations for codes in (train, valid))
    best, likelihood = None, -np.inf
    for count in COMPONENTS:
        if best is not None and len(known) < CODES_PER_COMPONENT * count:
            break
        tried = GaussianMixture(
            count, init_params="k-means++", random_state=0, reg_covar=LEAST_VARIANCE, max_iter=MAX_ITERATIONS
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the comparison below judges it
            tried.fit(known)
        if (score := tried.score(unseen)) <= likelihood:
            break
        best, likelihood = tried, score
    if best is None:
        raise ValueError("codes must be finite")
    log.info("codes are a mixture of %d Gaussians on %d axes", best.n_components, len(directions))
    factors = np.linalg.cholesky(best.covariances_)
    return _to_mixture(pca.mean_, directions * deviations[:, None], best.weights_, best.means_, factors)


def _to_mixture(*arrays: np.ndarray) -> Mixture:
    return Mixture(*(array.astype(np.float32) for array in arrays))
