"""A trained model, ready to use: images and codes in, NumPy arrays out.

Images are uint8, or float in [0, 1], (N, C, H, W), NumPy's or torch's, in memory; many are best given in pieces. All
results are arrays of the CPU and carry no gradient.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data.pixels import piece_length, pieces, to_unit
from stages.autoencoder.model import devices, inference, model_file, sampling
from stages.autoencoder.model.autoencoder import Autoencoder
from stages.autoencoder.model.detector import MSE, Detector, score_functions
from stages.autoencoder.model.sampling import Mixture
from stages.autoencoder.params.fitting import Fit, Fitting
from stages.autoencoder.scores.reconstruction import mse_per_image
from stages.autoencoder.sources.folder.decoding import RefusedImageError, decode

DEFAULT_SPREAD = 0.5
DEFAULT_STEPS = 12
Images = np.ndarray | Tensor


def load_model(path: Path | str = "data/model.safetensors", device: str = "auto") -> "TrainedModel":
    """The model in a file that the stage train has written.

    device: auto | cpu | cuda | cuda:N | mps; auto takes a CUDA GPU if there is one. The settings of torch stay as they
    are. Raises UserError if the file is absent, damaged or no model of this project, or the device is absent.
    """
    chosen = devices.choose(device, "device")
    stored = model_file.load(path, chosen)
    return TrainedModel(stored.model, stored.about, stored.detector, stored.mixture, chosen)


@dataclass(frozen=True)
class TrainedModel:
    """A model with what its file says of it. Every method raises UserError for arrays that the model does not take."""

    network: Autoencoder  # a torch module, in eval mode
    about: model_file.Description  # variant, threshold, class names, ...
    detector: Detector  # what the scores know of the training images
    mixture: Mixture | None  # the density of the training codes; None where there is a prior
    device: torch.device

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.network.spec.shape

    @property
    def latent_dim(self) -> int:
        """Numbers in a code."""
        return self.network.spec.latent_dim

    def fitting(self, fit: Fit | None = None) -> Fitting:
        """How images are brought to the model's size and colours. fit: as in `read`."""
        fitting = self.about.fitting
        return fitting if fit is None else replace(fitting, fit=fit, exact=False)

    def read(self, files: Iterable[Path | str | bytes], fit: Fit | None = None) -> np.ndarray:
        """The images in files, uint8 (N, C, H, W), brought to the model's size and colours as those of its training.

        files: paths, or what the files hold, as bytes.
        fit: how other sizes get the model's, instead of as in training; if all training images had one size, other
        sizes are refused without it. Raises UserError for a file that is no image, or none that is taken.
        """
        images, fitting = [], self.fitting(fit)
        for number, file in enumerate(files):
            try:
                images.append(decode(file if isinstance(file, bytes) else Path(file), fitting))
            except RefusedImageError as reason:
                name = f"image {number}" if isinstance(file, bytes) else file
                raise UserError(f"{name}: {reason}") from None
        return np.stack(images) if images else np.empty((0, *self.shape), np.uint8)

    def encode(self, images: Images) -> np.ndarray:
        """The codes, float32 (N, latent_dim); those of a variational model are means."""
        return inference.encode(self.network, self._check_images(images), self.device)

    def decode(self, codes: np.ndarray | Tensor) -> np.ndarray:
        """The images, float32 (N, C, H, W) in [0, 1], of codes (N, latent_dim)."""
        array = _to_numpy(codes)
        is_numeric = np.issubdtype(array.dtype, np.number)
        if array.shape[1:] != (self.latent_dim,) or not len(array) or not is_numeric:
            raise UserError(f"codes must be numbers (N, {self.latent_dim}); got {array.dtype} {array.shape}")
        return inference.decode(self.network, array.astype(np.float32), self.device)

    def reconstruct(self, images: Images) -> np.ndarray:
        """The reconstructions, float32 (N, C, H, W) in [0, 1]: the images encoded, then decoded."""
        return np.concatenate([output for _, output in self._reconstruct(self._check_images(images))])

    def denoise(self, images: Images) -> np.ndarray:
        """Noisy images cleaned, float32 (N, C, H, W) in [0, 1]. Raises UserError for a model not trained for it."""
        if self.about.corruption is None:
            raise UserError(
                f"the model must be trained to denoise; this one is {self.about.variant}; train one with"
                " train.variant=denoising, or use reconstruct"
            )
        return self.reconstruct(images)

    def errors(self, images: Images) -> np.ndarray:
        """The reconstruction error of each image, MSE per pixel, float64 (N,)."""
        checked = self._check_images(images)
        return np.concatenate(
            [
                mse_per_image(output, to_unit(given) if given.dtype == np.uint8 else given)
                for given, output in self._reconstruct(checked)
            ]
        )

    def score(self, images: Images, name: str | None = None) -> np.ndarray:
        """How unusual each image is, float64 (N,); above `about.threshold`, it counts as anomalous.

        name: another score of docs/metrics.md than `about.score`; the threshold does not belong to it.
        """
        chosen = self.about.score if name is None else name
        functions = score_functions(self.network, self.detector, self.mixture, self.about.loss)
        if chosen not in functions:
            raise UserError(f"the score must be one of {', '.join(functions)}; got {chosen!r:.60}")
        if chosen == MSE:
            return self.errors(images)
        return inference.apply(functions[chosen], self._check_images(images), self.device).astype(np.float64)

    def sample(
        self, count: int, seed: int = 0, near: Images | None = None, spread: float = DEFAULT_SPREAD
    ) -> np.ndarray:
        """Codes of new images, float32 (count, latent_dim), the same for the same seed; for what, see `generate`."""
        if count < 1 or not 0 <= spread <= 1:
            raise UserError(f"count must be at least 1 and spread in [0, 1]; got {count} and {spread}")
        if near is None:
            return sampling.sample_codes(self.network, self.mixture, count, seed)
        code = self.encode(near[None])[0]
        return sampling.sample_near(self.network, self.mixture, code, count, seed, spread)

    def generate(
        self, count: int, seed: int = 0, near: Images | None = None, spread: float = DEFAULT_SPREAD
    ) -> np.ndarray:
        """New images, float32 (count, C, H, W) in [0, 1], the same for the same seed.

        near: one image, (C, H, W), that they resemble; spread: from 0, its reconstruction, to 1, independent of it.
        """
        return inference.decode(self.network, self.sample(count, seed, near, spread), self.device)

    def interpolate(self, images: Images, steps: int = DEFAULT_STEPS) -> np.ndarray:
        """Decoded codes on the straight lines from the code of each image to that of the next.

        images: (N, C, H, W), N at least 2. steps: images of one line, both ends included; the end of a line is the
        start of the next, so float32 ((N - 1) * (steps - 1) + 1, C, H, W) in [0, 1] is returned.
        """
        if steps < 2 or len(images) < 2:
            raise UserError(f"steps and the number of images must be at least 2; got {steps} and {len(images)}")
        ends = self.encode(images)
        lines = [sampling.interpolate(start, end, steps)[1:] for start, end in pairwise(ends)]
        return inference.decode(self.network, np.concatenate([ends[:1], *lines]), self.device)

    def _reconstruct(self, images: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches of the images with their reconstructions.

        They are those of the stage reconstruct: the last digits of a sigmoid depend on a pixel's place in its array.
        """
        for rows in pieces(len(images), piece_length(self.shape, inference.BATCH_SIZE)):
            given = images[rows]
            yield given, inference.compute_logits(self.network, given, self.device).sigmoid().numpy()

    def _check_images(self, images: Images) -> np.ndarray:
        array = _to_numpy(images)
        name = f"images must be uint8, or float in [0, 1], (N, {', '.join(map(str, self.shape))})"
        if array.shape[1:] != self.shape or not len(array):
            raise UserError(f"{name}; got {array.dtype} {array.shape}")
        if array.dtype == np.uint8:
            return array
        if not np.issubdtype(array.dtype, np.floating):
            raise UserError(f"{name}; got {array.dtype}")
        if not (array.min() >= 0 and array.max() <= 1):  # NaN compares as False
            raise UserError(f"{name}; got values from {array.min():g} to {array.max():g}; divide 8-bit values by 255")
        return array.astype(np.float32)


def _to_numpy(values: np.ndarray | Tensor) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
