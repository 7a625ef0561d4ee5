"""`python -m tests.support.together`: two processes compute what tests/pipeline/test_processes.py compares with one.

Works in the current folder, which has a params.yaml and the data of a pipeline. Two processes run the stage train and
the trials below. Then they train in the folder `again`, until the second one is killed after its third epoch.
"""

from stages.runtime import numerics  # noqa: F401, I001 - first: pins threads and instruction set

import os
import signal
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from stages import train
from stages.autoencoder.model.layers.batch_norm import BatchNorm
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.train import TrainParams
from stages.autoencoder.training import group
from stages.autoencoder.training.loop import Training
from stages.autoencoder.training.preparation import prepare
from stages.runtime import processes
from stages.runtime.command import run_main

BATCH = 33  # images: one process has 16 of them, the other 17
STEPS = 10
TRAININGS = {  # what differs from params.yaml in the section train
    "conv": {"architecture": "conv", "conv": {"channels": [4, 8], "widths": [16]}, "max_grad_norm": 1.0},
    "variational": {"variant": "variational", "loss": "bce"},
    "denoising": {"variant": "denoising", "optimizer": "adamw", "denoising": {"corruption": "masking", "level": 0.5}},
    "importance_weighted": {
        "variant": "variational",
        "loss": "bce",
        "binarize": "dynamic",
        "variational": {"beta": 1.0, "warmup_epochs": 0, "samples": 3},
    },
    "top_k": {
        "variant": "sparse",
        "sparse": {"penalty": "top_k", "weight": 0.0, "k": 3, "encode_k": "auto", "lifetime": 1.0},
    },
    "lifetime": {
        "variant": "sparse",
        "sparse": {"penalty": "lifetime", "weight": 0.0, "k": 1, "encode_k": "auto", "lifetime": 0.6},
    },
}
Tensors = dict[str, torch.Tensor]


def run_training(changes: dict, dtype: torch.dtype, steps: int, device: str = "cpu") -> Tensors:
    """The state of a training on digits after so many steps, and the losses of its one epoch."""
    params = loader.load(TrainParams).model_dump() | {"device": device}
    augment = {"max_images": 9999, "until": 1.0, "translate": 1.0, "rotate": 10.0, "scale": 0.1}
    params["train"] |= {"epochs": 1, "batch_size": BATCH, "augment": augment} | changes
    digits = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)[:, None]
    torch.set_default_dtype(dtype)  # that of weights, of pixels and of what is drawn
    try:
        training = prepare(TrainParams.model_validate(params), digits[: steps * BATCH], digits[-100:])
        training.optimizer._dtype = dtype
        (result,) = training.epochs()
    finally:
        torch.set_default_dtype(torch.float32)
    losses = {"train": torch.tensor(result.train), "valid": torch.tensor(result.valid)}
    return training.model.state_dict() | losses


def run_batch_norm(images: torch.Tensor, rows: slice, shared: bool) -> Tensors:
    """What batch norm makes of rows of float64 images, all of them if not shared, and its gradients."""
    norm = (BatchNorm if shared else nn.BatchNorm2d)(images.shape[1], dtype=torch.float64)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(1))
        norm.bias.uniform_(-1, 1, generator=torch.Generator().manual_seed(2))
    x = images[rows].clone(memory_format=torch.channels_last).requires_grad_()
    y = norm(x)
    (y.sin() * torch.arange(len(images))[rows].view(-1, 1, 1, 1)).sum().backward()
    held = {"running_mean": norm.running_mean, "running_var": norm.running_var}
    return held | {"y": y, "of x": x.grad, "of weight": norm.weight.grad, "of bias": norm.bias.grad}


def make_images() -> torch.Tensor:
    """Images whose channels have a mean far from 0, as 1,000 standard deviations."""
    return torch.randn(5, 3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1000


def compute() -> None:
    train.train(loader.load(TrainParams))
    mine = group.current()
    images = make_images()
    found: dict[str, Tensors] = {"batch norm": run_batch_norm(images, mine.slice(len(images)), shared=True)}
    for name, changes in TRAININGS.items():
        found[name] = run_training(changes, torch.float64, STEPS)
        found[f"{name}, first step"] = run_training(changes, torch.float32, 1)
    torch.save(found, Path(f"found.{mine.rank}"))
    os.chdir("again")
    train_until_killed()


def train_until_killed() -> None:
    """The stage train, which saves its state after each epoch; the second process is killed after its third."""
    epochs = Training.epochs

    def epochs_until_killed(training: Training, **options):
        for result in epochs(training, **options):
            if result.epoch == 3 and not training.group.is_first:
                os.kill(os.getpid(), signal.SIGKILL)
            yield result

    Training.epochs = epochs_until_killed
    train.SAVE_EVERY = 0
    train.train(loader.load(TrainParams))


if __name__ == "__main__":
    run_main(lambda: processes.run(2, "tests.support.together", compute))
