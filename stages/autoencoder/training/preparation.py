"""From parameters and images to a training that is ready to start."""

import logging
import math

import torch

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data.pixels import ImageRows
from stages.autoencoder.model import autoencoder, devices, networks
from stages.autoencoder.model.bottlenecks import Bottleneck
from stages.autoencoder.params.train import Train, TrainParams, check_latent_dim
from stages.autoencoder.training import group as processes
from stages.autoencoder.training.loop import Training

log = logging.getLogger(__name__)


def prepare(params: TrainParams, train: ImageRows, valid: ImageRows) -> Training:
    """An untrained model and its training. train, valid: uint8 (N, C, H, W).

    Raises UserError for parameters that don't fit the images.
    """
    _, *shape = train.shape
    settings = params.train
    convolutional = settings.architecture == "conv"
    channels = settings.conv.channels if convolutional else []
    spec = autoencoder.Spec(
        shape=(shape[0], shape[1], shape[2]),
        latent_dim=params.latent_dim,
        channels=networks.suitable_channels(shape) if channels == "auto" else tuple(channels),
        widths=tuple((settings.conv if convolutional else settings.mlp).widths),
        bottleneck=choose_bottleneck(settings),
        k=settings.sparse.k if settings.keeps_top_k else 0,
        encode_k=settings.sparse.encode_k if settings.keeps_top_k and settings.sparse.encode_k != "auto" else 0,
    )
    try:
        check_latent_dim(settings, params.latent_dim, math.prod(shape))
    except ValueError as error:
        raise UserError(f"params.yaml: {error}") from None
    try:
        outline = autoencoder.build_without_weights(spec)
    except ValueError as error:
        raise UserError(f"params.yaml: {error}; lower train.{settings.architecture} or latent_dim") from None
    group = processes.current()
    devices.check_count(params.device, group.size)
    device = group.choose_device(devices.prepare(params.device, params.numerics))
    torch.manual_seed(params.seed)  # the initial weights; everything random after that has its own generator
    training = Training(autoencoder.Autoencoder(spec), train, valid, settings, params.seed, device, group)
    weights = sum(weight.numel() for weight in outline.parameters())
    log.info("train: %s; batches of %d", describe(spec, weights), training.batch_size)
    return training


def choose_bottleneck(settings: Train) -> Bottleneck:
    """What the variant puts between encoder and decoder."""
    if "kl" in settings.terms:
        return Bottleneck.GAUSSIAN
    if settings.keeps_top_k:
        return Bottleneck.TOP_K
    return Bottleneck.RELU if "sparsity" in settings.terms else Bottleneck.LINEAR


def describe(spec: autoencoder.Spec, weights: int) -> str:
    """What was built, in one line."""
    sizes = networks.halved_sizes(spec.shape, len(spec.channels))
    channels = (spec.shape[0], *spec.channels)
    layers = [f"{height}x{width}x{count}" for (height, width), count in zip(sizes, channels, strict=True)]
    layers += [str(width) for width in spec.widths] + [f"code of {spec.latent_dim}"]
    return f"encoder {' - '.join(layers)}, decoder its mirror, {weights:,} weights"
