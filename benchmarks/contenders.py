"""One training of a network by one contender: by this project's loop (`ours`) or by one of three other programs.

benchmarks.training runs `train_and_report` in a process of its own for each trial. All contenders train the same
network, batch normalisation included, from the same initial weights and with the same batch size. They train on the
first 54,000 images of MNIST and validate on the next 6,000 after each epoch. Ours has layers of its own; the
others use those of torch.
"""

import json
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch._dynamo  # torch's first optimizer imports it, which must not be timed
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

from benchmarks import roofline
from stages.autoencoder.core import arrays
from stages.autoencoder.data import pixels
from stages.autoencoder.model import devices, inference
from stages.autoencoder.model.autoencoder import Autoencoder, Spec
from stages.autoencoder.model.bottlenecks import Bottleneck
from stages.autoencoder.model.layers.convolutions import DoublingConvolution
from stages.autoencoder.model.layers.dense import Dense
from stages.autoencoder.params.base import loader
from stages.autoencoder.params.train import TrainParams
from stages.autoencoder.sources import builtin, torchvision_datasets
from stages.autoencoder.training.loop import Training

TRAIN, VALID, TEST = range(54_000), range(54_000, 60_000), range(60_000, 70_000)
ADAM_RATE = 1e-3  # for the other programs: the default of torch's Adam
MNIST_ARRAYS = "mnist.safetensors"
SHAPE = (1, 28, 28)


class Network(NamedTuple):
    """A network and how to train it. learning_rate: our peak; our AdamW, whose rate falls to 0, takes a larger one."""

    spec: Spec
    batch_size: int
    learning_rate: float


DEEP = Spec(SHAPE, 30, (), (1000, 500, 250), Bottleneck.LINEAR)
NETWORKS = {
    "small": Network(Spec(SHAPE, 16, (), (512,), Bottleneck.LINEAR), 128, 0.01),
    "conv": Network(Spec(SHAPE, 16, (16, 32, 64), (256,), Bottleneck.LINEAR), 128, 0.03),
    "deep": Network(DEEP, 128, 0.01),
    "deep-256": Network(DEEP, 256, 0.01),
}
Fit = Callable[[], object]  # runs the training; only this call is timed


class Task(NamedTuple):
    """What a contender gets. images: uint8 (70000, 1, 28, 28); folder: the one that `fetch_mnist` filled."""

    model: Autoencoder
    images: np.ndarray
    folder: Path
    epochs: int
    network: Network
    precision: str


def prepare_muon(task: Task) -> Fit:
    """This project's loop with the default optimizer and learning rate."""
    return prepare_ours(task, optimizer="muon", learning_rate=0.03)


def prepare_ours(task: Task, **changes: object) -> Fit:
    """This project's loop, with `numerics: fast` and the optimizer of params.yaml, which is AdamW here."""
    settings = loader.load(TrainParams).train.model_copy(
        update={
            "epochs": task.epochs,
            "batch_size": task.network.batch_size,
            "learning_rate": task.network.learning_rate,
            "precision": task.precision,
        }
        | changes
    )
    train, valid = (select(task.images, part) for part in (TRAIN, VALID))
    training = Training(task.model, train, valid, settings, 0, devices.prepare("cpu", "fast"))

    def fit() -> None:
        list(training.epochs())
        task.model.load_state_dict(training.best_weights)

    return fit


def prepare_textbook(task: Task) -> Fit:
    """The loop of most tutorials: torchvision's dataset with ToTensor, DataLoader and Adam."""
    from torchvision.transforms import ToTensor

    model = task.model
    dataset = torchvision_datasets.datasets.MNIST(str(task.folder), train=True, transform=ToTensor())
    train = DataLoader(Subset(dataset, TRAIN), batch_size=task.network.batch_size, shuffle=True)
    valid = DataLoader(Subset(dataset, VALID), batch_size=task.network.batch_size)
    optimizer = torch.optim.Adam(model.parameters(), ADAM_RATE)

    def fit() -> None:
        for _ in range(task.epochs):
            model.train()
            for x, _ in train:
                loss = F.mse_loss(model(x), x)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                sum(F.mse_loss(model(x), x).item() for x, _ in valid)

    return fit


def prepare_pythae(task: Task) -> Fit:
    """pythae's BaseTrainer and AE around our encoder and decoder; the images are floats in memory."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import AE, AEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = task.model.encoder

        def forward(self, x: Tensor) -> ModelOutput:
            return ModelOutput(embedding=self.net(x))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = task.model.decoder

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.net(z).sigmoid())

    model = AE(AEConfig(input_dim=SHAPE, latent_dim=task.model.spec.latent_dim), Encoder(), Decoder())
    train, valid = (BaseDataset(as_floats(task.images, part), torch.zeros(len(part))) for part in (TRAIN, VALID))
    config = BaseTrainerConfig(
        output_dir=str(task.folder / "pythae"),
        per_device_train_batch_size=task.network.batch_size,
        per_device_eval_batch_size=task.network.batch_size,
        num_epochs=task.epochs,
        learning_rate=ADAM_RATE,
        no_cuda=True,
    )
    return BaseTrainer(model, train, valid, training_config=config).train


def prepare_lightning(task: Task) -> Fit:
    """pytorch-lightning's Trainer without logger, progress bar and checkpoints; the images are floats in memory."""
    import pytorch_lightning

    class Module(pytorch_lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = task.model

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            return F.mse_loss(self.model(batch[0]), batch[0])

        def validation_step(self, batch: list[Tensor], _: int) -> None:
            self.log("valid", F.mse_loss(self.model(batch[0]), batch[0]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), ADAM_RATE)

    trainer = pytorch_lightning.Trainer(
        max_epochs=task.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    batch_size = task.network.batch_size
    train = DataLoader(TensorDataset(as_floats(task.images, TRAIN)), batch_size=batch_size, shuffle=True)
    valid = DataLoader(TensorDataset(as_floats(task.images, VALID)), batch_size=batch_size)
    return lambda: trainer.fit(Module(), train, valid)


CONTENDERS = {
    "ours": prepare_ours,
    "muon": prepare_muon,
    "textbook": prepare_textbook,
    "pythae": prepare_pythae,
    "lightning": prepare_lightning,
}


def train_and_report(contender: str, network_name: str, precision: str, epochs: int) -> None:
    """Train in the current folder, which `fetch_mnist` filled, and print the measurements as a line of JSON.

    seconds: of the training alone. images: how many it saw. mse: per pixel of the test images. memory: the peak of
    this process in MiB. Only for ours: operations, per image, and rates, of the products in this process (roofline.py).
    """
    network = NETWORKS[network_name]
    torch.manual_seed(0)
    model = Autoencoder(network.spec)
    is_ours = contender in ("ours", "muon")
    if not is_ours:
        use_torch_layers(model)
    images = arrays.load(Path(MNIST_ARRAYS))[0]["images"]
    fit = CONTENDERS[contender](Task(model, images, Path(), epochs, network, precision))
    start = time.perf_counter()
    fit()
    report: dict[str, object] = {"seconds": time.perf_counter() - start, "images": len(TRAIN) * epochs}
    report["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report["mse"] = float(np.mean(list(compute_errors(model.eval(), select(images, TEST)))))
    if is_ours:
        report["operations"] = roofline.count_operations(model, network.batch_size)
        report["rates"] = list(roofline.measure_rates(model, network.batch_size, precision))
    print(json.dumps(report))


def fetch_mnist(mirror: str | None) -> None:
    """Write MNIST to the current folder, both as our array file and in the form of torchvision's dataset.

    mirror: address or folder of MNIST's files, tried before torchvision's mirrors.
    """
    from torchvision.datasets.utils import extract_archive

    raw = Path("MNIST/raw")
    dataset = builtin.load_dataset("mnist", raw, mirror)
    for archive in sorted((raw / "mnist").glob("*.gz")):
        extract_archive(str(archive), str(raw))
    arrays.save(Path(MNIST_ARRAYS), {"images": np.concatenate(list(dataset.pieces))})


def use_torch_layers(model: nn.Module) -> None:
    """Give each of our own layers back the class of torch from which it was derived, with torch's speed."""
    for layer in model.modules():
        if isinstance(layer, (Dense, DoublingConvolution)):
            layer.__class__ = type(layer).__base__  # type: ignore[assignment]


def compute_errors(model: nn.Module, test: np.ndarray) -> Iterator[float]:
    """MSE per pixel of each of 20 batches. test: uint8 (N, C, H, W), values 0 to 255."""
    for batch in np.array_split(test, 20):
        output = inference.apply(model, batch, torch.device("cpu"))
        yield float(np.square(output - pixels.to_unit(batch), dtype=np.float64).mean())


def select(images: np.ndarray, part: range) -> np.ndarray:
    """The images with the numbers in `part`, as a view. images: uint8 (N, C, H, W). Returns (len(part), C, H, W)."""
    return images[part.start : part.stop]


def as_floats(images: np.ndarray, part: range) -> Tensor:
    """The images with the numbers in `part`: uint8 (N, C, H, W) -> float32 (len(part), C, H, W) in [0, 1]."""
    return torch.from_numpy(pixels.to_unit(select(images, part)))
