"""The section `train`, all that the stage train reads, and the rules between those keys.

A variant is what it adds to the reconstruction error:

| variant | adds |
|---|---|
| undercomplete | nothing: the code is smaller than the image |
| overcomplete | sparsity or corruption: without either the identity would be learnt |
| denoising | corruption of the input |
| sparse | a penalty on the code, or a limit to its entries: to k for each image, or to few images for each unit |
| variational | a Gaussian code and its KL divergence from the prior |
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.autoencoder.params.base.section import Device, LatentDim, Numerics, Processes, Section, Seed, Threads
from stages.autoencoder.params.inputs import Binarize, Denoising

Variant = Literal["undercomplete", "overcomplete", "denoising", "sparse", "variational"]
Loss = Literal["mse", "bce"]
Width = Annotated[int, Field(ge=1, le=65536)]


class Mlp(Section):
    """The encoder of architecture mlp; the decoder has its layers in reverse."""

    widths: list[Width] = Field(max_length=16, description="hidden dense layers; []: a linear map")


class Conv(Section):
    """The encoder of architecture conv; the decoder has its layers in reverse."""

    channels: Literal["auto"] | Annotated[list[Width], Field(min_length=1, max_length=8)] = Field(
        json_schema_extra={"rule": "auto, or a list of 1 to 8 integers >= 1 and <= 65536"},
        description="convolutions; each halves the image; auto: by the size of the images",
    )
    widths: list[Width] = Field(max_length=16, description="hidden dense layers after them; []: none")


class Augment(Section):
    """Random affine maps of the training images."""

    max_images: int = Field(ge=0, description="augment only training sets of at most this many images; 0: never")
    until: float = Field(ge=0, le=1, description="augment in this share of the epochs, from the first one")
    translate: float = Field(ge=0, le=64, description="shift by up to this many pixels each way")
    rotate: float = Field(ge=0, le=180, description="turn by up to this many degrees each way")
    scale: float = Field(ge=0, le=0.9, description="resize by a factor of up to 1 +- this")


class Overcomplete(Section):
    """What keeps an overcomplete code from being a copy of the image."""

    regularizer: Literal["none", "sparsity", "corruption"] = Field(
        description="uses the settings of `sparse` or of `denoising`; none is refused"
    )


class Sparse(Section):
    """The term that keeps codes sparse."""

    penalty: Literal["l1", "top_k", "lifetime"] = Field(
        description="l1: weight * sum |z_i|; top_k: only the k largest kept; lifetime: each unit is kept in few images"
        " of a batch"
    )
    weight: float = Field(ge=0, description="lambda of l1, in squared error or nats per unit of |z_i|")
    k: int = Field(ge=1, le=65536, description="codes that top_k keeps in each image")
    encode_k: Literal["auto"] | Annotated[int, Field(ge=1, le=65536)] = Field(
        json_schema_extra={"rule": "auto, or an integer >= 1 and <= 65536"},
        description="codes that top_k keeps where the trained model encodes; auto: k; or a number above k",
    )
    lifetime: float = Field(gt=0, le=1, description="share of the images of a batch in which lifetime keeps a unit")


class Variational(Section):
    """The bound that is maximised."""

    beta: float = Field(ge=0, description="weight of the KL divergence; 1 gives the ELBO")
    warmup_epochs: int = Field(ge=0, description="beta grows linearly from 0 over this many epochs; 0: no warm-up")
    samples: int = Field(ge=1, le=4096, description="of each code; above 1: the importance-weighted bound")


class Train(Section):
    """Section `train`."""

    variant: Variant = Field(description="kind of autoencoder")
    architecture: Literal["mlp", "conv"] = Field(description="kind of network; the decoder is its mirror")
    mlp: Mlp
    conv: Conv
    loss: Loss = Field(description="mse: squared error; bce: binary cross-entropy")
    binarize: Binarize = Field(
        description="draw black or white pixels, white with their grey level as probability; dynamic: of training"
        " images anew in each epoch; static: once"
    )
    epochs: int = Field(ge=1, le=100_000, description="passes over the training part")
    batch_size: Literal["auto"] | Annotated[int, Field(ge=2, le=65536)] = Field(
        json_schema_extra={"rule": "auto, or an integer >= 2 and <= 65536"},
        description="images; auto: 128, fewer if the training images are few or large",
    )
    optimizer: Literal["muon", "adamw"] = Field(
        description="muon: momentum, orthogonalised, for the weight matrices, and adamw for the rest"
    )
    learning_rate: float = Field(
        gt=0, le=10, description="peak of the learning rate, after a tenth of all batches; then it falls to 0"
    )
    weight_decay: float = Field(ge=0, le=10, description="decoupled weight decay")
    max_grad_norm: float = Field(ge=0, description="a gradient with a larger norm is scaled down to it; 0: never")
    patience: int = Field(ge=0, description="stop after this many epochs without improvement; 0: never")
    anomaly_score: Literal["combined", "mse", "rapp", "mahalanobis", "density", "elbo"] = Field(
        description="what finds anomalies; density: not of variational models, elbo: of them only"
    )
    anomaly_quantile: float = Field(
        gt=0, lt=1, description="share of the validation images whose score is below the threshold for anomalies"
    )
    precision: Literal["fp32", "bf16"] = Field(description="bf16 needs numerics: fast")
    augment: Augment
    overcomplete: Overcomplete
    denoising: Denoising
    sparse: Sparse
    variational: Variational

    @property
    def terms(self) -> set[str]:
        """What the variant adds: a subset of corruption, sparsity, kl."""
        terms: dict[str, set[str]] = {
            "undercomplete": set(),
            "overcomplete": {str(self.overcomplete.regularizer)} - {"none"},
            "denoising": {"corruption"},
            "sparse": {"sparsity"},
            "variational": {"kl"},
        }
        return terms[self.variant]

    @property
    def keeps_top_k(self) -> bool:
        """Whether only the k largest entries of a code are kept."""
        return "sparsity" in self.terms and self.sparse.penalty == "top_k"

    @property
    def limits_lifetime(self) -> bool:
        """Whether the objective keeps each unit of a code in few images of a batch only."""
        return "sparsity" in self.terms and self.sparse.penalty == "lifetime"


class TrainParams(Section):
    """What the stage train reads."""

    latent_dim: LatentDim
    seed: Seed
    device: Device
    numerics: Numerics
    threads: Threads
    processes: Processes
    train: Train

    @model_validator(mode="after")
    def _keys_fit_together(self) -> "TrainParams":
        train, denoising = self.train, self.train.denoising
        if train.variant == "overcomplete" and train.overcomplete.regularizer == "none":
            raise ValueError(
                "train.overcomplete.regularizer must be sparsity or corruption, since without either the identity"
                " would be learnt; got none"
            )
        if train.keeps_top_k and train.sparse.k > self.latent_dim:
            raise ValueError(f"train.sparse.k must be at most latent_dim, {self.latent_dim}; got {train.sparse.k}")
        k, encode_k = train.sparse.k, train.sparse.encode_k
        if train.keeps_top_k and encode_k != "auto" and not k <= encode_k <= self.latent_dim:
            raise ValueError(
                f"train.sparse.encode_k must be auto, or from train.sparse.k to latent_dim, {k} to {self.latent_dim};"
                f" got {encode_k}"
            )
        if "corruption" in train.terms and denoising.corruption != "gaussian" and denoising.level > 1:
            raise ValueError(
                f"train.denoising.level must be a share of the pixels, at most 1, for {denoising.corruption};"
                f" got {denoising.level}"
            )
        if train.binarize != "none" and train.loss != "bce":
            raise ValueError(
                f"train.loss must be bce with train.binarize {train.binarize}, for pixels that are black or white;"
                f" got {train.loss}"
            )
        if train.binarize == "static" and train.augment.max_images:
            raise ValueError(
                "train.augment.max_images must be 0 with train.binarize static, because moved pixels are grey; got"
                f" {train.augment.max_images}"
            )
        if train.variational.samples > 1 and train.variational.beta != 1:
            raise ValueError(
                "train.variational.beta must be 1 with several samples, for which there is no other bound; got"
                f" {train.variational.beta}"
            )
        absent = "density" if "kl" in train.terms else "elbo"
        if train.anomaly_score == absent:
            raise ValueError(
                f"train.anomaly_score must not be {absent} for train.variant {train.variant}, whose codes have"
                f" {'a' if absent == 'density' else 'no'} prior; choose {'elbo' if absent == 'density' else 'density'}"
            )
        if self.processes > 1 and self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device must be auto, cpu or cuda with several processes; got {self.device}")
        if train.batch_size != "auto" and self.processes > train.batch_size:
            raise ValueError(f"processes must be at most train.batch_size, {train.batch_size}; got {self.processes}")
        if train.precision == "bf16" and self.numerics == "portable":
            raise ValueError("train.precision must be fp32 with numerics portable; got bf16; set numerics: fast")
        return self


def check_latent_dim(train: Train, latent_dim: int, pixels: int) -> None:
    """Raises ValueError for a latent_dim that contradicts the variant.

    pixels: numbers in one image, channels x height x width. The stage train knows them from its images, the
    stage check from the name of the dataset.
    """
    if train.variant == "undercomplete" and latent_dim >= pixels:
        raise ValueError(
            f"latent_dim must be below the {pixels} numbers of an image for train.variant undercomplete;"
            f" got {latent_dim}; lower it or choose overcomplete"
        )
    if train.variant == "overcomplete" and latent_dim < pixels:
        raise ValueError(
            f"latent_dim must be at least the {pixels} numbers of an image for train.variant overcomplete;"
            f" got {latent_dim}; raise it or choose undercomplete or sparse"
        )
