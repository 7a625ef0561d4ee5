"""Trains a classifier: a fixed recipe, so that two sets of images can be compared by what is learnt from them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stages.autoencoder.classifier.network import Classifier, Spec, accuracy, build_without_weights
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data.pixels import ChosenImages, ImageRows, to_unit
from stages.autoencoder.training.batches import Batches, suitable_batch_size
from stages.autoencoder.training.schedule import rise_and_fall

EPOCHS = 10
SEED = 0  # of weights and order: the same classifier in every experiment on the same images, whatever its `seed`
LEARNING_RATE, WEIGHT_DECAY = 0.005, 0.01  # of AdamW; the rate is the highest


class LabelledImages(NamedTuple):
    """Images uint8 (N, C, H, W) and their labels int64 (N,)."""

    images: ImageRows
    labels: np.ndarray


class Fitted(NamedTuple):
    """A trained classifier."""

    classifier: Classifier  # in eval mode
    epoch: int  # the one whose weights it has
    valid_accuracy: float | None  # in that epoch; None without a validation image of its classes


def fit(train: LabelledImages, valid: LabelledImages, labels: np.ndarray, device: torch.device) -> Fitted:
    """A classifier for `labels` (ascending), with the weights of its best epoch by accuracy on the validation part.

    train: N >= 2, each label one of `labels`; valid: images with other labels do not count. Of equally good epochs
    the last one wins. Raises UserError if the images are too large.
    """
    _, *shape = train.images.shape
    spec = Spec((shape[0], shape[1], shape[2]), tuple(labels.tolist()))
    try:
        build_without_weights(spec)
    except ValueError as error:
        raise UserError(f"params.yaml: {error}; set sample.count to 0") from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        classifier = Classifier(spec)
    classifier = classifier.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    valid = of_known_classes(valid, labels)
    best, best_weights = (0, -1.0), dict[str, Tensor]()
    for epoch in _train(classifier, train, device):
        score = accuracy(classifier.eval(), valid.images, valid.labels, device) if len(valid.labels) else 0.0
        if score >= best[1]:
            best, best_weights = (epoch, score), {n: tensor.clone() for n, tensor in classifier.state_dict().items()}
    classifier.load_state_dict(best_weights)
    return Fitted(classifier.eval(), best[0], best[1] if len(valid.labels) else None)


def of_known_classes(part: LabelledImages, labels: np.ndarray) -> LabelledImages:
    """The images of a part whose label is one of `labels`."""
    known = np.flatnonzero(np.isin(part.labels, labels))
    return LabelledImages(ChosenImages(part.images, known), part.labels[known])


def _train(classifier: Classifier, train: LabelledImages, device: torch.device) -> Iterator[int]:
    """Train in place; yields the number of each epoch when it is over."""
    images, labels = Batches(train.images, device), torch.from_numpy(train.labels)
    targets = torch.searchsorted(torch.tensor(classifier.spec.labels), labels).to(device)
    size = max(2, suitable_batch_size(train.images.shape))  # batch norm needs two images
    batches = max(1, len(labels) // size)
    optimizer = torch.optim.AdamW(classifier.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = rise_and_fall(optimizer, EPOCHS * batches)
    generator = torch.Generator().manual_seed(SEED)
    for epoch in range(1, EPOCHS + 1):
        classifier.train()
        order = torch.randperm(len(labels), generator=generator)
        for chosen in order[: batches * size].split(size):  # without a last partial batch
            rows = chosen.to(device)
            loss = F.cross_entropy(classifier(to_unit(images.take(rows))), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        yield epoch
