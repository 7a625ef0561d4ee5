"""The five kinds of autoencoder as what each adds to reconstruct(x), and the settings that make no sense.

| variant | adds |
|---|---|
| undercomplete | nothing: the code is smaller than the image |
| overcomplete | sparsity or corruption: without either the identity would be learnt |
| denoising | corruption of the input |
| sparse | a penalty on the code, or all but its k largest entries dropped |
| variational | a Gaussian code and its KL divergence |
"""

from stages.autoencoder.errors import UserError
from stages.autoencoder.params.train import Train


def terms(train: Train) -> set[str]:
    """What the variant adds: a subset of corruption, sparsity, kl."""
    return {
        "undercomplete": set(),
        "overcomplete": {train.overcomplete.regularizer} - {"none"},
        "denoising": {"corruption"},
        "sparse": {"sparsity"},
        "variational": {"kl"},
    }[train.variant]


def bottleneck(train: Train) -> str:
    """What happens between encoder and decoder: linear, relu, top_k or gaussian (see model.Autoencoder.code)."""
    if "kl" in terms(train):
        return "gaussian"
    if "sparsity" in terms(train):
        return "top_k" if train.sparse.penalty == "top_k" else "relu"
    return "linear"


def check(train: Train, latent_dim: int, numerics: str, pixels: int | None) -> None:
    """Refuse what can't mean what its author wants. Raises UserError.

    pixels: numbers in one image (channels x height x width); None where it is not known yet.
    """
    if pixels and train.variant == "undercomplete" and latent_dim >= pixels:
        raise UserError(
            f"params.yaml: latent_dim must be below the {pixels} numbers of an image for train.variant"
            f" undercomplete; got {latent_dim}; lower it or choose overcomplete"
        )
    if pixels and train.variant == "overcomplete" and latent_dim < pixels:
        raise UserError(
            f"params.yaml: latent_dim must be at least the {pixels} numbers of an image for train.variant"
            f" overcomplete; got {latent_dim}; raise it or choose undercomplete or sparse"
        )
    if train.variant == "overcomplete" and train.overcomplete.regularizer == "none":
        raise UserError(
            "params.yaml: train.overcomplete.regularizer must be sparsity or corruption, since without either"
            " the identity would be learnt; got none"
        )
    if bottleneck(train) == "top_k" and train.sparse.k > latent_dim:
        raise UserError(f"params.yaml: train.sparse.k must be at most latent_dim, {latent_dim}; got {train.sparse.k}")
    if "corruption" in terms(train) and train.denoising.corruption != "gaussian" and train.denoising.level > 1:
        raise UserError(
            f"params.yaml: train.denoising.level must be a share of the pixels, at most 1, for"
            f" {train.denoising.corruption}; got {train.denoising.level}"
        )
    if train.precision == "bf16" and numerics == "portable":
        raise UserError(
            "params.yaml: train.precision must be fp32 with numerics portable; got bf16; set numerics: fast"
        )
