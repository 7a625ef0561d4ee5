"""The section `train` of params.yaml, and all that the stage train reads."""

from typing import Annotated, Literal

from pydantic import Field

from stages.autoencoder.params.section import Device, LatentDim, Numerics, Section, Seed, Threads

Variant = Literal["undercomplete", "overcomplete", "denoising", "sparse", "variational"]
Width = Annotated[int, Field(ge=1, le=65536)]


class Mlp(Section):
    """The encoder of architecture mlp; the decoder has its layers in reverse."""

    widths: list[Width] = Field(max_length=16, description="hidden dense layers; []: a linear map")


class Conv(Section):
    """The encoder of architecture conv; the decoder has its layers in reverse."""

    channels: list[Width] = Field(min_length=1, max_length=8, description="convolutions; each halves the image")
    widths: list[Width] = Field(max_length=16, description="hidden dense layers after them; []: none")


class Augment(Section):
    """Random affine shifts of the training images."""

    max_images: int = Field(ge=0, description="only training sets of at most so many images; 0: none")
    translate: float = Field(ge=0, le=64, description="up to so many pixels each way")
    rotate: float = Field(ge=0, le=180, description="up to so many degrees each way")
    scale: float = Field(ge=0, le=0.9, description="size times up to 1 +- this")


class Overcomplete(Section):
    """What keeps an overcomplete code from being a copy of the image."""

    regularizer: Literal["none", "sparsity", "corruption"] = Field(
        description="the settings of `sparse` or of `denoising`; none is refused"
    )


class Denoising(Section):
    """The corruption of the input; the target stays clean."""

    corruption: Literal["gaussian", "salt_and_pepper", "masking"] = Field(description="kind of corruption")
    level: float = Field(ge=0, le=10, description="gaussian: standard deviation; else share of pixels hit")


class Sparse(Section):
    """The term that keeps codes sparse."""

    penalty: Literal["l1", "top_k"] = Field(description="l1: weight * sum |z_i|; top_k: the k largest kept")
    weight: float = Field(ge=0, description="lambda of l1, in squared error or nats per unit of |z_i|")
    k: int = Field(ge=1, le=65536, description="codes that top_k keeps in each image")


class Variational(Section):
    """The weight of the KL divergence."""

    beta: float = Field(ge=0, description="weight of the KL divergence; 1 gives the ELBO")
    warmup_epochs: int = Field(ge=0, description="beta grows linearly from 0 over so many epochs; 0: none")


class Train(Section):
    """Section `train`."""

    variant: Variant = Field(description="kind of autoencoder")
    architecture: Literal["mlp", "conv"] = Field(description="kind of network; the decoder is its mirror")
    mlp: Mlp
    conv: Conv
    loss: Literal["mse", "bce"] = Field(description="mse: squared error; bce: binary cross-entropy")
    epochs: int = Field(ge=1, le=100_000, description="passes over the training part")
    batch_size: int = Field(ge=2, le=65536, description="images")
    rate: float = Field(gt=0, le=10, description="peak of the one-cycle learning rate of AdamW")
    weight_decay: float = Field(ge=0, le=10, description="decoupled weight decay of AdamW")
    clip: float = Field(ge=0, description="gradient norm is cut to this; 0: never")
    patience: int = Field(ge=0, description="stop after so many epochs without a better one; 0: never")
    precision: Literal["fp32", "bf16"] = Field(description="bf16 needs numerics: fast")
    augment: Augment
    overcomplete: Overcomplete
    denoising: Denoising
    sparse: Sparse
    variational: Variational


class TrainParams(Section):
    """What the stage train reads."""

    latent_dim: LatentDim
    seed: Seed
    device: Device
    numerics: Numerics
    threads: Threads
    train: Train
