"""Stage evaluate: reconstructions, embeddings, baseline and test part -> metrics/evaluate.json, plots.

Every number that is compared, from arrays alone: no model is run here. Definitions: docs/metrics.md.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.autoencoder import arrays, scores
from stages.autoencoder.errors import run

TEST, BASELINE = Path("data/split/test.safetensors"), Path("data/baseline.safetensors")
RECONSTRUCTIONS, EMBEDDINGS = Path("data/reconstructions.safetensors"), Path("data/embeddings.safetensors")
METRICS, PER_CLASS = Path("metrics/evaluate.json"), Path("plots/per_class.csv")


def main() -> None:
    test, about = arrays.load(TEST, "images", "labels")
    found = arrays.load(RECONSTRUCTIONS)[0]
    latent_dim = arrays.load(EMBEDDINGS, "test")[0]["test"].shape[1]
    pca = arrays.load(BASELINE, "mse")[0]["mse"]
    clean = test["images"] / np.float32(255)
    mse = scores.mse_per_image(found["output"], clean)
    pca_mse = float(pca[min(latent_dim, len(pca)) - 1])
    metrics = {
        "mse": float(mse.mean()),
        "sse": float(mse.mean() * clean[0].size),
        "psnr": float(scores.psnr_per_image(mse).mean()),
        "bce": float(found["bce"].mean(dtype=np.float64)),
        "pca_mse": pca_mse,
        "pca_ratio": float(mse.mean() / pca_mse),
    }
    arrays.write_json(METRICS, metrics)
    table = pd.DataFrame({"class": np.array(about["class_names"])[test["labels"]], "mse": mse})
    arrays.write(PER_CLASS, table.groupby("class", sort=True).mean().to_csv().encode())


if __name__ == "__main__":
    run(main)
