"""The training of one autoencoder: batches, objective, optimizer and schedule, the best epoch by validation error.

Images stay where they are, on disk or in memory, and batches are indexed, so that no more than a batch is held as
float. All randomness in epoch e comes from a generator seeded with (seed, e): a training resumed after e epochs
draws what the uninterrupted one would have drawn.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data.pixels import ImageRows, evenly_spaced, piece_length, pieces, to_unit
from stages.autoencoder.model.autoencoder import Autoencoder
from stages.autoencoder.model.random_numbers import SliceGenerator
from stages.autoencoder.params.train import Train
from stages.autoencoder.training import augmentation
from stages.autoencoder.training.batches import Batches, suitable_batch_size
from stages.autoencoder.training.group import ALONE, Group
from stages.autoencoder.training.muon import Muon
from stages.autoencoder.training.objective import Objective
from stages.autoencoder.training.schedule import rise_and_fall

VALIDATION = 2**32 - 1  # in place of the epoch's number: every validation draws the same noise
VALIDATION_BATCH = 500  # images, fewer where they are large
PADDING_IMAGES = 100  # that decide what augmentation puts beyond the border


class EpochResult(NamedTuple):
    """One epoch. train, valid: mean objective per image; learning_rate: that at the end of the epoch."""

    epoch: int
    train: float
    valid: float
    learning_rate: float


class Training:
    """A resumable training. `epochs` continues from the state that `restore` was given."""

    def __init__(
        self,
        model: Autoencoder,
        train: ImageRows,
        valid: ImageRows,
        settings: Train,
        seed: int,
        device: torch.device,
        group: Group = ALONE,
    ) -> None:
        """train, valid: uint8 (N, C, H, W). The model is moved to the device and its weights change in place.

        Raises UserError if the group has more processes than a batch has images.
        """
        # channels last: a step of the default network takes a fifth less time on a CPU
        self.model: Autoencoder = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.train, self.valid = Batches(train, device), Batches(valid, device)
        self.padding = augmentation.choose_padding(evenly_spaced(train, PADDING_IMAGES))
        self.settings, self.seed, self.device = settings, seed, device
        chosen = settings.batch_size
        self.batch_size = suitable_batch_size(train.shape) if chosen == "auto" else chosen
        self.batches = max(1, len(train) // self.batch_size)
        self._images = min(self.batch_size, len(train))  # in each batch
        self.group, self._slice = group, group.slice(self._images)
        self.objective = Objective(self.model, settings)
        self._shared_objective = group.share(self.objective)
        self.history: list[EpochResult] = []
        self.best_weights: dict[str, Tensor] = {}
        self.optimizer = self._make_optimizer()
        self.schedule = self._make_schedule()

    def epochs(self, on_batch: Callable[[], object] = lambda: None) -> Iterator[EpochResult]:
        """Train until all epochs are done or validation has not improved for `patience` epochs; yields each result.

        Raises UserError if the loss is not finite.
        """
        for epoch in range(len(self.history) + 1, self.settings.epochs + 1):
            if self._out_of_patience():
                return
            loss = self._train_epoch(epoch, on_batch)
            result = EpochResult(
                epoch, loss, self.group.from_first(self._validate), self.optimizer.param_groups[0]["lr"]
            )
            if not (math.isfinite(result.train) and math.isfinite(result.valid)):
                raise UserError(
                    f"training: the loss must stay finite; got {result.train} in epoch {epoch}, {result.valid} in"
                    " validation; lower train.learning_rate or set train.max_grad_norm"
                )
            self.history.append(result)
            if result == self.best_result:
                self.best_weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            yield result

    @property
    def best_result(self) -> EpochResult:
        """The epoch with the lowest validation error, the first of equals."""
        return min(self.history, key=lambda result: result.valid)

    def _out_of_patience(self) -> bool:
        patience = self.settings.patience
        return bool(patience and self.history and len(self.history) - self.best_result.epoch >= patience)

    def _train_epoch(self, epoch: int, on_batch: Callable[[], object]) -> float:
        """One pass in a random order, without a last partial batch. Returns the mean objective."""
        self.model.train()
        generator = self._seed(SliceGenerator(self.device, self._images, self._slice), epoch)
        weight = self.group.weight(self._images)
        order = torch.randperm(len(self.train), generator=generator, device=self.device)
        total = torch.zeros((), device=self.device)
        for chosen in order[: self.batches * self.batch_size].split(self.batch_size):
            clean = to_unit(self.train.take(chosen[self._slice]))
            if self._augments(epoch):
                augment = self.settings.augment.model_dump(exclude={"max_images", "until"})
                clean = augmentation.random_affine(clean, generator, padding=self.padding, **augment)
            loss = self._shared_objective(clean, generator, self._beta(epoch)).mean() * weight
            self.optimizer.zero_grad()
            loss.backward()
            if self.settings.max_grad_norm:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
            self.optimizer.step()
            self.schedule.step()
            total += loss.detach()
            on_batch()
        return self.group.mean(total.item() / self.batches)

    @torch.no_grad()
    def _validate(self) -> float:
        """The mean objective on the validation images, at the final beta."""
        self.model.eval()
        generator = self._seed(torch.Generator(self.device), VALIDATION)
        beta = self.settings.variational.beta
        length = piece_length(self.model.spec.shape, VALIDATION_BATCH)
        batches = (self.valid.take(piece) for piece in pieces(len(self.valid), length))
        return torch.cat([self.objective(to_unit(batch), generator, beta) for batch in batches]).mean().item()

    def _augments(self, epoch: int) -> bool:
        """Whether the images of an epoch are moved. The last epochs see the images as those of validation are."""
        augment = self.settings.augment
        return len(self.train) <= augment.max_images and epoch <= augment.until * self.settings.epochs

    def _beta(self, epoch: int) -> float:
        """The weight of the KL divergence in an epoch: linear warm-up, then beta."""
        beta, warmup = self.settings.variational.beta, self.settings.variational.warmup_epochs
        return beta * min(1.0, epoch / warmup) if warmup else beta

    def _make_optimizer(self) -> torch.optim.AdamW:
        settings, weights = self.settings, self.model.parameters()
        rate, decay = settings.learning_rate, settings.weight_decay
        if settings.optimizer == "adamw":
            return torch.optim.AdamW(weights, rate, weight_decay=decay, fused=True)
        return Muon(weights, rate, decay, torch.bfloat16 if settings.precision == "bf16" else torch.float32)

    def _make_schedule(self, steps_done: int = 0) -> torch.optim.lr_scheduler.LambdaLR:
        return rise_and_fall(self.optimizer, self.settings.epochs * self.batches, steps_done)

    def _seed(self, generator: torch.Generator, epoch: int) -> torch.Generator:
        # SeedSequence mixes the two numbers, so that (1, 2) and (2, 1) give unrelated streams
        mixed = np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)[0]
        return generator.manual_seed(int(mixed >> 1))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that `restore` needs later, as tensors and a JSON-able description."""
        optimizer = self.optimizer.state_dict()
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best_weights.items()}
        for number, values in optimizer["state"].items():
            tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in values.items()}
        return tensors, {"history": self.history, "groups": optimizer["param_groups"]}

    def restore(self, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Continue from a state."""
        named: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            named[kind][rest] = tensor.to(self.device)
        weights = list(self.model.parameters())
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in named["optimizer"].items():
            number, _, rest = name.partition(".")
            if rest != "step":  # fused AdamW walks through memory, so moments need the layout of their weights
                tensor = torch.empty_like(weights[int(number)]).copy_(tensor)
            moments.setdefault(int(number), {})[rest] = tensor
        self.model.load_state_dict(named["model"])
        self.best_weights = named["best"]
        self.history = [EpochResult(*result) for result in about["history"]]
        self.optimizer.load_state_dict({"state": moments, "param_groups": about["groups"]})
        self.schedule = self._make_schedule(len(self.history) * self.batches)
