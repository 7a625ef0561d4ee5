"""Charts of scores: the errors of all images, the error against PCA's, codes against PCA's codes, their spectrum."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from stages.autoencoder.figures.style import COLOURS, INK, drawing, plain_log_ticks
from stages.autoencoder.scores.anomalies import Found

BINS = 60
MAX_BARS = 64  # axes of a spectrum
ESTIMATES = {"participation": "participation ratio", "twonn": "TwoNN", "ml": "maximum likelihood"}
SCORES = {  # of anomalies, as the axis names them
    "combined": "standard deviations above validation images (error or activations)",
    "mse": "MSE per pixel",
    "rapp": "squared Mahalanobis distance of the activations' differences (RaPP)",
    "mahalanobis": "squared Mahalanobis distance of the activations",
    "density": "-log density of the code, in nats",
    "elbo": "-ELBO, in nats",
}
MIN_MSE = 1e-10  # a smaller one is drawn here, because the axis is logarithmic
MODEL, PCA = COLOURS[0], COLOURS[1]
NORMAL, ANOMALOUS = COLOURS[0], COLOURS[2]


def save_errors(path: Path, mse: np.ndarray) -> None:
    """Histogram of the error of each image, (N,)."""
    error, bins = _log_bins(mse)
    with drawing(path, 8, 4.5) as figure:
        axes = figure.subplots()
        axes.set(xscale="log", xlabel="MSE per pixel", ylabel="images")
        plain_log_ticks(axes.xaxis)
        axes.grid(axis="y")
        axes.hist(error, bins.tolist(), color=MODEL)
        for share, name in ((50, "median"), (99, "99 %")):
            value = np.percentile(error, share)
            axes.axvline(value, color=INK, linewidth=1, linestyle="--")
            axes.text(value, 0.99, f" {name}: {value:.3g}", transform=axes.get_xaxis_transform(), va="top")
        axes.margins(y=0.15)  # room for the two labels above the bars
        axes.set_title(f"Reconstruction error of {len(mse):,} test images")


def save_anomalies(path: Path, found: Found, anomalous: np.ndarray, auroc: float | None) -> None:
    """Histograms of the score of normal and of anomalous images, bool (N,), and the threshold between them."""
    is_positive = found.scores.min() > 0  # a density has no scale on which ratios count
    scores, bins = (
        _log_bins(found.scores) if is_positive else (found.scores, np.linspace(*_ends(found.scores), BINS + 1))
    )
    with drawing(path, 8, 4.5) as figure:
        axes = figure.subplots()
        axes.set(xlabel=SCORES.get(found.name, found.name), ylabel="share of the images of the kind (%)")
        if is_positive:
            axes.set(xscale="log")
            plain_log_ticks(axes.xaxis)
        axes.grid(axis="y")
        for chosen, name, colour in ((~anomalous, "normal", NORMAL), (anomalous, "anomalous", ANOMALOUS)):
            weights = np.full(chosen.sum(), 100 / max(chosen.sum(), 1))
            label = f"{name} ({chosen.sum():,} images)"
            axes.hist(scores[chosen], bins.tolist(), weights=weights, color=colour, alpha=0.6, label=label)
        axes.set_title("Score of normal and anomalous test images" + ("" if auroc is None else f"; AUROC {auroc:.3f}"))
        if not is_positive or found.threshold > 0:
            label = f"threshold {found.threshold:.3g}"
            axes.axvline(found.threshold, color=INK, linewidth=1, linestyle="--", label=label)
        axes.legend()


def _log_bins(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values >= 0, the smallest raised to a ten-thousandth of the largest, and bins of equal ratios for them."""
    high = max(values.max(), MIN_MSE)
    low = max(values.min(), high * 1e-4)
    return np.clip(values, low, None), np.geomspace(low, high * 1.01, BINS + 1)


def _ends(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return low, high if high > low else low + 1


def save_pca_curve(path: Path, pca: np.ndarray, latent_dim: int, mse: float) -> None:
    """PCA's error with 1, 2, ... components, (K,), and the autoencoder's `mse` at its number of dimensions.

    An arrow points to the number of components that PCA needs for the same error.
    """
    components = max(int((pca > max(mse, MIN_MSE) / 20).sum()), 2)
    enough = np.flatnonzero(pca <= mse)
    with drawing(path, 8, 4.5) as figure:
        axes = figure.subplots()
        axes.set(xscale="log", yscale="log", xlabel="dimensions of the code", ylabel="test MSE per pixel")
        axes.plot(
            np.arange(1, len(pca) + 1)[:components],
            np.maximum(pca, MIN_MSE)[:components],
            color=PCA,
            linewidth=2,
            label="PCA",
        )
        axes.plot([latent_dim], [max(mse, MIN_MSE)], "o", color=MODEL, markersize=9, label="this autoencoder")
        if len(enough) and enough[0] + 1 != latent_dim:
            needed = int(enough[0]) + 1
            style = {"arrowstyle": "->", "color": INK, "shrinkA": 7, "shrinkB": 2}
            axes.annotate("", (needed, mse), (latent_dim, mse), arrowprops=style)
            # the label goes on the side of the arrow away from the falling curve
            below = needed > latent_dim
            if not below:
                axes.margins(y=0.12)  # room for it
            middle, offset, side = np.sqrt(needed * latent_dim), (0, -7 if below else 7), "top" if below else "bottom"
            axes.annotate(
                f"PCA needs {needed}", (middle, mse), offset, textcoords="offset points", ha="center", va=side
            )
        plain_log_ticks(axes.xaxis)
        plain_log_ticks(axes.yaxis)
        axes.grid()
        axes.set_title(f"Reconstruction error at latent_dim {latent_dim} beside PCA's")
        axes.legend()


def save_spectrum(path: Path, variances: np.ndarray, estimates: Mapping[str, float]) -> None:
    """Bars of the share of the variance on each principal axis of the codes, with estimates of their dimension.

    variances: (K,), the largest first; the first 64 axes are drawn. estimates: {name: dimension}, marked by lines.
    """
    shares = 100 * variances / (variances.sum() or 1)
    drawn = shares[:MAX_BARS]
    with drawing(path, 8, 4.5) as figure:
        axes = figure.subplots()
        axes.bar(np.arange(1, len(drawn) + 1), drawn, color=MODEL)
        for (name, value), style in zip(estimates.items(), ("-", "--", ":"), strict=False):
            axes.axvline(value, color=INK, linewidth=1.4, linestyle=style, label=f"{ESTIMATES[name]}: {value:.1f}")
        axes.set(xlabel="principal axis of the codes", ylabel="share of the variance (%)")
        axes.set_xlim(0.3, max(len(drawn), 8) + 0.7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y")
        title = f"How many of {len(variances)} dimensions the codes fill"
        axes.set_title(title + (f"; shown: the first {len(drawn)} axes" if len(drawn) < len(variances) else ""))
        if estimates:
            axes.legend(title="dimension by", loc="upper left", bbox_to_anchor=(1, 1), alignment="left")


def save_code_scores(path: Path, codes: Mapping[str, float], pca: Mapping[str, float], latent_dim: int) -> None:
    """Bars of the scores of codes (0 to 1) beside the same scores of PCA codes; no picture if there are none."""
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
