"""Stage embed: data/model + data/split/{train,test} -> data/embeddings.safetensors, plots/embed/.

Reads params device, numerics, threads, embed. Arrays: train and test, the codes float32 (N, D) of these parts;
pca and tsne, float32 (N, 2), maps of the test codes.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from stages.autoencoder import arrays, devices, figures, inference, model
from stages.autoencoder.errors import run
from stages.autoencoder.params.apply import ApplyParams
from stages.autoencoder.params.reading import read

MODEL = Path("data/model.safetensors")
TRAIN, TEST = Path("data/split/train.safetensors"), Path("data/split/test.safetensors")
EMBEDDINGS, PLOTS = Path("data/embeddings.safetensors"), Path("plots/embed")


def main() -> None:
    params = read(ApplyParams)
    device = devices.prepare(params.device, params.numerics)
    autoencoder, _ = model.load(MODEL, device)
    test, about = arrays.load(TEST, "images", "labels")
    train = arrays.load(TRAIN, "images")[0]
    codes = {
        "train": inference.apply(autoencoder.encode, train["images"], device),
        "test": inference.apply(autoencoder.encode, test["images"], device),
    }
    maps = {
        "pca": PCA(min(2, codes["test"].shape[1]), svd_solver="full").fit_transform(codes["test"]),
        "tsne": TSNE(2, init="pca", random_state=0).fit_transform(codes["test"]),
    }
    arrays.save(EMBEDDINGS, codes | maps)
    classes = np.array(about["class_names"])[test["labels"]]
    for name, points in maps.items():
        table = pd.DataFrame({"x": points[:, 0], "y": points[:, -1], "class": classes})
        arrays.write(PLOTS / f"{name}.csv", table.to_csv(index=False).encode())
        figures.save_map(PLOTS / f"{name}.png", points, test["labels"], about["class_names"])


if __name__ == "__main__":
    run(main)
