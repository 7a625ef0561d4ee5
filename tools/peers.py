"""One training of one autoencoder by one program: `python -m tools.peers PROGRAM NETWORK PRECISION EPOCHS FOLDER`.

A process of its own for tools.benchmark. All programs train the same network (ours, batch normalisation and all,
the peers with torch's own nn.Linear) from the same weights, on the first 54,000 images of MNIST, with the next
6,000 to validate after each epoch, and the same batch size. Prints a line of JSON:
seconds of the training alone, images, MSE per pixel on the test images, peak memory of the process in MiB;
from ours also the operations for an image and the rates of products in this process (limit.py).
FOLDER: what `prepare` has filled.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch._dynamo  # torch's optimizers import it when first built: here, and not while a program is timed
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

from stages.autoencoder import arrays, datasets, devices, inference, networks, torchvision_import
from stages.autoencoder.model import Autoencoder, Spec
from stages.autoencoder.params.reading import read
from stages.autoencoder.params.train import TrainParams
from stages.autoencoder.training import Training
from tools import limit

TRAIN, VALID = range(54_000), range(54_000, 60_000)
RATE = 1e-3  # of the peers, the default of torch's Adam
ARRAYS = "mnist.safetensors"  # in FOLDER
SHAPE = (1, 28, 28)


class Network(NamedTuple):
    """What is trained. rate: our peak rate; one-cycle AdamW takes a larger one than the peers' Adam."""

    spec: Spec
    batch: int
    rate: float


DEEP = Spec(SHAPE, 30, (), (1000, 500, 250), "linear")
NETWORKS = {
    "small": Network(Spec(SHAPE, 16, (), (512,), "linear"), 128, 0.01),
    "conv": Network(Spec(SHAPE, 16, (16, 32, 64), (256,), "linear"), 128, 0.03),
    "deep": Network(DEEP, 128, 0.01),
    "deep-256": Network(DEEP, 256, 0.01),
}
Fit = Callable[[], None]


def ours(model: Autoencoder, images: np.ndarray, folder: Path, epochs: int, network: Network, precision: str) -> Fit:
    """This project's loop as `numerics: fast` has it."""
    settings = read(TrainParams).train.model_copy(
        update={"epochs": epochs, "batch_size": network.batch, "rate": network.rate, "precision": precision}
    )
    parts = (torch.from_numpy(images[part.start : part.stop]) for part in (TRAIN, VALID))
    training = Training(model, *parts, settings, 0, devices.prepare("cpu", "fast"))

    def fit() -> None:
        list(training.epochs())
        model.load_state_dict(training.best)

    return fit


def textbook(
    model: Autoencoder, images: np.ndarray, folder: Path, epochs: int, network: Network, precision: str
) -> Fit:
    """The loop of most tutorials: torchvision's dataset, ToTensor, DataLoader, Adam."""
    from torchvision.transforms import ToTensor

    dataset = torchvision_import.datasets.MNIST(str(folder), train=True, transform=ToTensor())
    loader = DataLoader(Subset(dataset, TRAIN), batch_size=network.batch, shuffle=True)
    valid = DataLoader(Subset(dataset, VALID), batch_size=network.batch)
    optimizer = torch.optim.Adam(model.parameters(), RATE)

    def fit() -> None:
        for _ in range(epochs):
            model.train()
            for x, _ in loader:
                loss = F.mse_loss(model(x), x)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                sum(F.mse_loss(model(x), x).item() for x, _ in valid)

    return fit


def pythae(model: Autoencoder, images: np.ndarray, folder: Path, epochs: int, network: Network, precision: str) -> Fit:
    """pythae's BaseTrainer and AE around our encoder and decoder, images as float in memory."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import AE, AEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = model.encoder

        def forward(self, x: Tensor) -> ModelOutput:
            return ModelOutput(embedding=self.net(x))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = model.decoder

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.net(z).sigmoid())

    peer = AE(AEConfig(input_dim=SHAPE, latent_dim=model.spec.latent_dim), Encoder(), Decoder())
    parts = (BaseDataset(floats(images, part), torch.zeros(len(part))) for part in (TRAIN, VALID))
    config = BaseTrainerConfig(
        output_dir=str(folder / "pythae"),
        per_device_train_batch_size=network.batch,
        per_device_eval_batch_size=network.batch,
        num_epochs=epochs,
        learning_rate=RATE,
        no_cuda=True,
    )
    return BaseTrainer(peer, *parts, training_config=config).train


def lightning(
    model: Autoencoder, images: np.ndarray, folder: Path, epochs: int, network: Network, precision: str
) -> Fit:
    """pytorch-lightning's Trainer, no logger, bar or checkpoints; a TensorDataset of floats in memory."""
    import pytorch_lightning

    class Module(pytorch_lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            return F.mse_loss(self.model(batch[0]), batch[0])

        def validation_step(self, batch: list[Tensor], _: int) -> None:
            self.log("valid", F.mse_loss(self.model(batch[0]), batch[0]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), RATE)

    trainer = pytorch_lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    loader = DataLoader(TensorDataset(floats(images, TRAIN)), batch_size=network.batch, shuffle=True)
    valid = DataLoader(TensorDataset(floats(images, VALID)), batch_size=network.batch)
    return lambda: trainer.fit(Module(), loader, valid)


PROGRAMS = {"ours": ours, "textbook": textbook, "pythae": pythae, "lightning": lightning}


def floats(images: np.ndarray, part: range) -> Tensor:
    """A part of the images: uint8 -> float32 in [0, 1]."""
    return torch.from_numpy(images[part.start : part.stop]).float() / 255


def with_torch_layers(model: nn.Module) -> None:
    """nn.Linear in place of each networks.Dense, with its weights: whose products are faster is a part of the race."""
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, networks.Dense):
                linear = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
                linear.load_state_dict(layer.state_dict())
                setattr(parent, name, linear)


def prepare(folder: Path, mirror: str | None) -> None:
    """Fetch MNIST into `folder`, as our array file and as torchvision's dataset wants it."""
    from torchvision.datasets.utils import extract_archive

    raw = folder / "MNIST/raw"
    dataset = datasets.load("mnist", raw, mirror)
    for packed in sorted((raw / "mnist").glob("*.gz")):
        extract_archive(packed, raw)
    arrays.save(folder / ARRAYS, {"images": dataset.images})


def main(program: str, network: str, precision: str, epochs: str, folder: str) -> None:
    chosen = NETWORKS[network]
    torch.manual_seed(0)
    model = Autoencoder(chosen.spec)
    if program != "ours":
        with_torch_layers(model)
    images = arrays.load(Path(folder) / ARRAYS)[0]["images"]
    fit = PROGRAMS[program](model, images, Path(folder), int(epochs), chosen, precision)
    start = time.perf_counter()
    fit()
    found = {"seconds": time.perf_counter() - start, "images": len(TRAIN) * int(epochs)}
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["mse"] = float(np.mean(list(errors(model.eval(), images[60_000:]))))
    if program == "ours":
        found["operations"] = limit.operations(model, chosen.batch)
        found["rates"] = list(limit.rates(model, chosen.batch, precision))
    print(json.dumps(found))


def errors(model: nn.Module, test: np.ndarray) -> Iterator[float]:
    """MSE of each batch of test images."""
    for part in np.array_split(test, 20):
        output = inference.apply(model, part, torch.device("cpu"))
        yield float(np.square(output - part / np.float32(255), dtype=np.float64).mean())


if __name__ == "__main__":
    main(*sys.argv[1:])
