"""Training of one autoencoder: batches, objective, one-cycle AdamW, the best epoch by validation error.

Images stay in memory as uint8 and batches are indexed, so an epoch copies no more than its batches. All
chance of epoch e comes from a generator seeded with (seed, e): a training resumed after e epochs draws what
the uninterrupted one would have drawn.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stages.autoencoder import augmentation, variants
from stages.autoencoder.corruption import corrupt
from stages.autoencoder.errors import UserError
from stages.autoencoder.model import Autoencoder
from stages.autoencoder.objectives import RECONSTRUCTION, gaussian_kl, l1
from stages.autoencoder.params.train import Train

VALIDATION = 2**32 - 1  # stands in place of the epoch's number: validation draws the same noise each time


class Row(NamedTuple):
    """One epoch. train, valid: mean objective per image; rate: AdamW's at the end of the epoch."""

    epoch: int
    train: float
    valid: float
    rate: float


class Training:
    """A model on its way. `epochs` goes on from where `state` was taken."""

    def __init__(
        self, model: Autoencoder, train: Tensor, valid: Tensor, settings: Train, seed: int, device: torch.device
    ) -> None:
        """train, valid: uint8 (N, C, H, W). The model is moved to the device, its weights are changed in place."""
        # channels last: a step of the default network takes a fifth less time on a CPU
        self.model = model.to(device, memory_format=torch.channels_last)
        self.train, self.valid = train.to(device), valid.to(device)
        self.settings, self.seed, self.device = settings, seed, device
        self.batches = max(1, len(train) // settings.batch_size)
        self.history: list[Row] = []
        self.best: dict[str, Tensor] = {}
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.rate, weight_decay=settings.weight_decay, fused=True
        )
        self.schedule = self._one_cycle()

    def epochs(self, on_batch: Callable[[], None] = lambda: None) -> Iterator[Row]:
        """Train epoch by epoch until all are done or patience is at its end, yielding each one's row.

        Raises UserError when the loss is no longer finite.
        """
        for epoch in range(len(self.history) + 1, self.settings.epochs + 1):
            if self._out_of_patience():
                return
            loss = self._train_epoch(epoch, on_batch)
            row = Row(epoch, loss, self._validate(), self.optimizer.param_groups[0]["lr"])
            if not (math.isfinite(row.train) and math.isfinite(row.valid)):
                raise UserError(
                    f"training: the loss must stay finite; got {row.train} in epoch {epoch}, {row.valid} in"
                    " validation; lower train.rate or set train.clip"
                )
            self.history.append(row)
            if row == self.best_row:
                self.best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            yield row

    @property
    def best_row(self) -> Row:
        """The epoch with the lowest validation error, the first of equals."""
        return min(self.history, key=lambda row: row.valid)

    def _out_of_patience(self) -> bool:
        patience = self.settings.patience
        return bool(patience and self.history and len(self.history) - self.best_row.epoch >= patience)

    def _train_epoch(self, epoch: int, on_batch: Callable[[], None]) -> float:
        """One pass in a random order; a last batch that is not full is left out. Returns the mean objective."""
        self.model.train()
        generator = self._generator(epoch)
        order = torch.randperm(len(self.train), generator=generator, device=self.device)
        total = torch.zeros((), device=self.device)
        for chosen in order[: self.batches * self.settings.batch_size].split(self.settings.batch_size):
            clean = self.train.index_select(0, chosen).float() / 255
            if len(self.train) <= self.settings.augment.max_images:
                augment = self.settings.augment.model_dump(exclude={"max_images"})
                clean = augmentation.shift(clean, generator, **augment)
            loss = self.objective(clean, generator, self._beta(epoch)).mean()
            self.optimizer.zero_grad()
            loss.backward()
            if self.settings.clip:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
            self.optimizer.step()
            self.schedule.step()
            total += loss.detach()
            on_batch()
        return total.item() / self.batches

    @torch.no_grad()
    def _validate(self) -> float:
        self.model.eval()
        generator = self._generator(VALIDATION)
        beta = self.settings.variational.beta
        parts = [self.objective(part.float() / 255, generator, beta) for part in self.valid.split(500)]
        return torch.cat(parts).mean().item()

    def objective(self, clean: Tensor, generator: torch.Generator, beta: float) -> Tensor:
        """What is minimised, per image: reconstruction error plus the variant's term. (B, C, H, W) -> (B,)."""
        settings, terms = self.settings, variants.terms(self.settings)
        given = clean
        if "corruption" in terms:
            given = corrupt(clean, settings.denoising.corruption, settings.denoising.level, generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            code = self.model.code(given, generator)
            logits = self.model.decoder(code.z)
        error = RECONSTRUCTION[settings.loss](logits.float(), clean)
        if "kl" in terms:
            return error + beta * gaussian_kl(code.mean.float(), code.log_var.float())
        if "sparsity" in terms and settings.sparse.penalty == "l1":
            return error + settings.sparse.weight * l1(code.z.float())
        return error

    def _beta(self, epoch: int) -> float:
        """The weight of the KL divergence in an epoch: linear warm-up, then beta."""
        beta, warmup = self.settings.variational.beta, self.settings.variational.warmup_epochs
        return beta * min(1.0, epoch / warmup) if warmup else beta

    def _one_cycle(self, done: int = -1) -> torch.optim.lr_scheduler.OneCycleLR:
        steps = self.settings.epochs * self.batches
        return torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, self.settings.rate, total_steps=steps + 1, last_epoch=done
        )

    def _generator(self, epoch: int) -> torch.Generator:
        # SeedSequence mixes the two numbers, so that (1, 2) and (2, 1) are as good as strangers
        mixed = np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)[0]
        return torch.Generator(self.device).manual_seed(int(mixed >> 1))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that a later `restore` needs, as tensors and a JSON-able description."""
        optimizer = self.optimizer.state_dict()
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for number, values in optimizer["state"].items():
            tensors |= {f"adamw.{number}.{name}": tensor for name, tensor in values.items()}
        return tensors, {"history": self.history, "groups": optimizer["param_groups"]}

    def restore(self, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        named: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "adamw": {}}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            named[kind][rest] = tensor.to(self.device)
        weights = list(self.model.parameters())
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in named["adamw"].items():
            number, _, rest = name.partition(".")
            if rest != "step":  # fused AdamW walks through memory: moments lie as their weights do
                tensor = torch.empty_like(weights[int(number)]).copy_(tensor)
            moments.setdefault(int(number), {})[rest] = tensor
        self.model.load_state_dict(named["model"])
        self.best = named["best"]
        self.history = [Row(*row) for row in about["history"]]
        self.optimizer.load_state_dict({"state": moments, "param_groups": about["groups"]})
        self.schedule = self._one_cycle(len(self.history) * self.batches - 1)
