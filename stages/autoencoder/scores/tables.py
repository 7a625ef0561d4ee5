"""Tables of scores: a row for each test image, for each class, for each score of codes."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from stages.autoencoder.data.split_files import Part
from stages.autoencoder.scores.anomalies import Found, auroc_by_class

MAX_AXES = 512  # of the spectrum
MAX_CODES = 64  # dimensions of the code in the table of images; all of them stand in data/embeddings


def of_images(
    part: Part,
    names: Sequence[str] | None,
    errors: Mapping[str, np.ndarray],
    codes: np.ndarray,
    found: Found | None,
) -> pd.DataFrame:
    """A row for each image: row in data/raw, path in its folder, class, errors, first 64 numbers of the code.

    names: the paths, None without; errors: the scores of each image, (N,) each, `mse` among them; codes: (N, D);
    found: what finds anomalies, if some classes are normal. Numbers are rounded to six significant digits.
    """
    columns: dict[str, object] = {"index": part.index}
    if names is not None:
        columns["path"] = names
    if part.class_names:
        columns["class"] = part.classes
    numbers = dict(errors) | {f"z{number}": codes[:, number] for number in range(min(codes.shape[1], MAX_CODES))}
    if found:
        columns["anomalous"] = part.is_anomalous
        columns["above_threshold"] = found.above
        numbers = {"score": found.scores, **numbers}
    return pd.DataFrame(columns | {name: round_digits(values) for name, values in numbers.items()})


def of_classes(test: Part, errors: Mapping[str, np.ndarray], found: Found | None) -> pd.DataFrame:
    """The mean errors of each class; of anomalous classes also their AUROC against the normal images.

    found: what finds anomalies, if some classes are normal.
    """
    classes = test.classes if test.class_names else np.full(len(test.labels), "all")
    table = pd.DataFrame({"class": classes, **errors}).groupby("class", sort=True).mean()
    if found:
        table["auroc"] = pd.Series(auroc_by_class(found.scores, test.is_anomalous, classes), dtype=float)
    return table.reset_index()


def of_codes(
    code_scores: Mapping[str, float],
    pca_scores: Mapping[str, float],
    classifiers: Mapping[str, float],
    all_images: Mapping[str, float],
    trust: Mapping[str, float],
) -> pd.DataFrame:
    """Columns score and value: each score of the codes and of PCA's codes, the trustworthiness of each map.

    classifiers: the scores of linear_classifiers.score_classifiers; all_images: those of clusters.score_all_images.
    """
    both = [(n, f"{n}{of}", scores[n]) for of, scores in (("", code_scores), (" of PCA", pca_scores)) for n in scores]
    rows = [(label, value) for _, label, value in sorted(both)]
    rows += classifiers.items()
    rows += [(f"{name} of all images", value) for name, value in all_images.items()]
    rows += [(f"trust of {name} map", value) for name, value in trust.items()]
    return pd.DataFrame(rows, columns=["score", "value"])


def of_spectrum(variances: np.ndarray) -> pd.DataFrame:
    """The axes of the codes, at most 512: axis from 1, its share of the variance (K,), and the sum of shares up to it.

    Shares of codes that do not vary are 0.
    """
    shares = (variances / (variances.sum() or 1))[:MAX_AXES]
    return pd.DataFrame({"axis": np.arange(1, len(shares) + 1), "share": shares, "cumulative": shares.cumsum()})


def of_estimates(codes: Mapping[str, float], images: Mapping[str, float]) -> pd.DataFrame:
    """Columns estimate and value: each estimate of the dimension of the codes, and those of the images."""
    rows = [*codes.items(), *((f"{name} of the images", value) for name, value in images.items())]
    return pd.DataFrame(rows, columns=["estimate", "value"])


def round_digits(values: np.ndarray) -> np.ndarray:
    """Numbers (N,) rounded to six significant digits, float64."""
    return np.array([float(f"{value:.6g}") for value in values.tolist()])
