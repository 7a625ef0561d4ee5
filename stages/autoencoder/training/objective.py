"""What training minimises, as a module: DistributedDataParallel sees nothing that is called around its forward."""

import torch
from torch import Tensor, nn

from stages.autoencoder.model.autoencoder import Autoencoder, Code
from stages.autoencoder.model.objectives import RECONSTRUCTION_LOSSES, gaussian_kl, l1
from stages.autoencoder.params.train import Train
from stages.autoencoder.training.corruption import corrupt


class Objective(nn.Module):
    """Reconstruction error plus the variant's term, per image."""

    def __init__(self, model: Autoencoder, settings: Train) -> None:
        super().__init__()
        self.model, self.settings = model, settings

    def forward(self, clean: Tensor, generator: torch.Generator, beta: float) -> Tensor:
        """(B, C, H, W) -> (B,). beta: the weight of the KL divergence."""
        settings = self.settings
        images = clean
        if "corruption" in settings.terms:
            images = corrupt(clean, settings.denoising.corruption, settings.denoising.level, generator)
        with torch.autocast(clean.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            code = self.model.code(images, generator)
            logits = self.model.decoder(code.z)
        return RECONSTRUCTION_LOSSES[settings.loss](logits.to(clean.dtype), clean) + self._penalty(
            code, beta, clean.dtype
        )

    def _penalty(self, code: Code, beta: float, dtype: torch.dtype) -> Tensor | float:
        """The variant's term on the code, (B,), computed in dtype; 0 if it has none."""
        if code.mean is not None and code.log_var is not None:
            return beta * gaussian_kl(code.mean.to(dtype), code.log_var.to(dtype))
        if "sparsity" in self.settings.terms and self.settings.sparse.penalty == "l1":
            return self.settings.sparse.weight * l1(code.z.to(dtype))
        return 0.0
