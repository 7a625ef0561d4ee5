"""Charts of scores: errors of all images, the error beside PCA's, codes beside PCA's codes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stages.autoencoder.figures import COLOURS, INK, drawing, plain_log_ticks

BINS = 60
LOWEST = 1e-10  # MSE: what is less is drawn here, the axis being logarithmic
MODEL, PCA = COLOURS[0], COLOURS[1]  # what belongs to the autoencoder, and to PCA
NORMAL, ANOMALOUS = COLOURS[0], COLOURS[2]


def save_errors(path: Path, mse: np.ndarray, anomalous: np.ndarray, auroc: float | None) -> None:
    """Histogram of the error of each image, (N,); where some are anomalous, bool (N,), the two kinds apart."""
    high = max(mse.max(), LOWEST)
    low = max(mse.min(), high * 1e-4)
    bins = np.geomspace(low, high * 1.01, BINS + 1)
    error = np.clip(mse, low, None)
    with drawing(path, 8, 4.5) as figure:
        axes = figure.subplots()
        axes.set(xscale="log", xlabel="MSE per pixel", ylabel="images")
        plain_log_ticks(axes.xaxis)
        axes.grid(axis="y")
        if anomalous.any():
            for chosen, name, colour in ((~anomalous, "normal", NORMAL), (anomalous, "anomalous", ANOMALOUS)):
                weights = np.full(chosen.sum(), 100 / max(chosen.sum(), 1))
                label = f"{name} ({chosen.sum():,} images)"
                axes.hist(error[chosen], bins, weights=weights, color=colour, alpha=0.6, label=label)
            axes.set_ylabel("share of the images of the kind (%)")
            axes.set_title(
                "Error of normal and anomalous test images" + ("" if auroc is None else f"; AUROC {auroc:.3f}")
            )
            axes.legend()
            return
        axes.hist(error, bins, color=MODEL)
        for share, name in ((50, "median"), (99, "99 %")):
            value = np.percentile(error, share)
            axes.axvline(value, color=INK, linewidth=1, linestyle="--")
            axes.text(value, 0.99, f" {name}: {value:.3g}", transform=axes.get_xaxis_transform(), va="top")
        axes.margins(y=0.15)  # room for the two numbers above the bars
        axes.set_title(f"Reconstruction error of {len(mse):,} test images")


def save_curve(path: Path, pca: np.ndarray, latent_dim: int, mse: float) -> None:
    """PCA's error with 1, 2, ... components, (K,), and the autoencoder's, mse, at its number of dimensions.

    An arrow leads to the number of components that PCA needs for the same error.
    """
    shown = max(int((pca > max(mse, LOWEST) / 20).sum()), 2)
    reached = np.flatnonzero(pca <= mse)
    with drawing(path, 8, 4.5) as figure:
        axes = figure.subplots()
        axes.set(xscale="log", yscale="log", xlabel="dimensions of the code", ylabel="test MSE per pixel")
        axes.plot(
            np.arange(1, len(pca) + 1)[:shown], np.maximum(pca, LOWEST)[:shown], color=PCA, linewidth=2, label="PCA"
        )
        axes.plot([latent_dim], [max(mse, LOWEST)], "o", color=MODEL, markersize=9, label="this autoencoder")
        if len(reached) and reached[0] + 1 != latent_dim:
            needed = int(reached[0]) + 1
            style = {"arrowstyle": "->", "color": INK, "shrinkA": 7, "shrinkB": 2}
            axes.annotate("", (needed, mse), (latent_dim, mse), arrowprops=style)
            # the side of the arrow where the falling curve is not
            below = needed > latent_dim
            place = {"xytext": (0, -7 if below else 7), "va": "top" if below else "bottom"}
            middle = np.sqrt(needed * latent_dim)
            axes.annotate(f"PCA needs {needed}", (middle, mse), textcoords="offset points", ha="center", **place)
        plain_log_ticks(axes.xaxis)
        plain_log_ticks(axes.yaxis)
        axes.grid()
        axes.set_title(f"Reconstruction error at latent_dim {latent_dim} beside PCA's")
        axes.legend()


def save_codes(path: Path, codes: Mapping[str, float], pca: Mapping[str, float], latent_dim: int) -> None:
    """Bars of the scores of codes (0 to 1) beside the same scores of PCA codes; no picture where there is none."""
    names = {
        "knn": "k-NN\naccuracy",
        "probe": "linear probe\naccuracy",
        "kmeans": "k-means\naccuracy",
        "nmi": "k-means\nNMI",
    }
    if not codes:
        return
    with drawing(path, 8, 4.5) as figure:
        axes = figure.subplots()
        for side, scores, colour, label in ((-1, codes, MODEL, "autoencoder"), (1, pca, PCA, "PCA")):
            place = [i + side * 0.2 for i, name in enumerate(names) if name in scores]
            bars = axes.bar(place, [scores[n] for n in names if n in scores], 0.38, color=colour, label=label)
            axes.bar_label(bars, fmt="{:.3f}", padding=2)
        axes.set_xticks(range(len(names)), list(names.values()))
        axes.tick_params("x", length=0)
        axes.set(ylim=(0, 1.08), yticks=np.linspace(0, 1, 6), xlim=(-0.6, len(names) - 0.4))
        axes.set_ylabel("score on test images")
        axes.set_title(f"What codes of {latent_dim} dimensions tell about the class")
        axes.grid(axis="y")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
