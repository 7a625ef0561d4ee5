"""What training minimises, as a module: DistributedDataParallel sees nothing that is called around its forward."""

import torch
from torch import Tensor, nn

from stages.autoencoder.model.autoencoder import Autoencoder, Code, reparametrise
from stages.autoencoder.model.objectives import (
    RECONSTRUCTION_LOSSES,
    gaussian_kl,
    importance_weighted,
    l1,
    log_density_ratio,
)
from stages.autoencoder.params.train import Train
from stages.autoencoder.training.inputs import corrupt, draw
from stages.autoencoder.training.lifetime_sparsity import keep_winners


class Objective(nn.Module):
    """Reconstruction error plus the variant's term, per image."""

    def __init__(self, model: Autoencoder, settings: Train) -> None:
        super().__init__()
        self.model, self.settings = model, settings

    def forward(self, clean: Tensor, generator: torch.Generator, beta: float) -> Tensor:
        """(B, C, H, W) -> (B,). beta: the weight of the KL divergence."""
        settings = self.settings
        if settings.binarize == "dynamic":
            clean = draw(clean, generator)
        images = clean
        if "corruption" in settings.terms:
            images = corrupt(clean, settings.denoising.corruption, settings.denoising.level, generator)
        samples = settings.variational.samples if self.model.is_variational else 1
        with self._precision(clean.device):
            code = self.model.code(images, generator if samples == 1 else None)
        if settings.limits_lifetime:  # in validation too, where one process has the whole batch
            code = Code(keep_winners(code.z, settings.sparse.lifetime, in_slices=self.model.training))
        if samples > 1:
            return self._importance_weighted(code, clean, generator, beta)
        return self._reconstruction_error(code.z, clean) + self._penalty(code, beta, clean.dtype)

    def _precision(self, device: torch.device) -> torch.autocast:
        """What the networks compute in, train.precision."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.settings.precision == "bf16")

    def _reconstruction_error(self, z: Tensor, clean: Tensor) -> Tensor:
        """Of codes (B, D) against images (B, C, H, W): (B,), computed in the dtype of the images."""
        with self._precision(clean.device):
            logits = self.model.decoder(z)
        return RECONSTRUCTION_LOSSES[self.settings.loss](logits.to(clean.dtype), clean)

    def _importance_weighted(self, code: Code, clean: Tensor, generator: torch.Generator, beta: float) -> Tensor:
        """The importance-weighted bound, (B,), with the doubly reparametrised gradient (Tucker et al. 2019).

        The decoder gets the gradient of each sample times its normalised weight, the encoder times its square, and
        through the sample alone.
        """
        assert code.mean is not None and code.log_var is not None  # noqa: S101, PT018 - the model is variational
        k = self.settings.variational.samples
        mean, log_var = (part.to(clean.dtype).unsqueeze(1).expand(-1, k, -1) for part in (code.mean, code.log_var))
        z = reparametrise(mean, log_var, generator)  # (B, k, D)
        error = self._reconstruction_error(z.flatten(0, 1), clean.repeat_interleave(k, 0)).view(-1, k)
        log_weights = beta * log_density_ratio(z, mean.detach(), log_var.detach()) - error
        weights = log_weights.detach().softmax(1)
        if z.requires_grad:
            z.register_hook(lambda gradient: gradient * weights.unsqueeze(2))
        surrogate = -(weights * log_weights).sum(1)
        return surrogate + (importance_weighted(log_weights) - surrogate).detach()

    def _penalty(self, code: Code, beta: float, dtype: torch.dtype) -> Tensor | float:
        """The variant's term on the code, (B,), computed in dtype; 0 if it has none."""
        if code.mean is not None and code.log_var is not None:
            return beta * gaussian_kl(code.mean.to(dtype), code.log_var.to(dtype))
        if "sparsity" in self.settings.terms and self.settings.sparse.penalty == "l1":
            return self.settings.sparse.weight * l1(code.z.to(dtype))
        return 0.0
