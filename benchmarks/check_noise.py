"""The label-noise detector of `sortal check` where right and wrong labels are known, beside other ways to find wrong ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.special import log_softmax
from sklearn.metrics import average_precision_score

from benchmarks.injection import mislabelled
from sortal.checks.base import CheckContext
from sortal.checks.label_noise import FOLDS, fold_of_rows, suspects
from sortal.checks.profiles import Profiles
from sortal.data.dataset import Dataset
from sortal.data.reading import read
from sortal.data.splits import subsample
from sortal.methods.linear import fit_linear
from sortal.methods.tfidf_features import TfidfFeatures

SHOP = Path(__file__).parents[1] / "examples" / "shop" / "train.csv"
# Shares of labels drawn at random. The shop corpus and the clean file of Hausa news have none that are known to be wrong.
DRAWN: dict[str, tuple[str, str, str, tuple[float, ...]]] = {
    "hausa_news": ("hausa_news/train_clean.csv", "news_title", "label", (0.0, 0.05, 0.1, 0.3)),
    "banking77": ("banking77/train.csv", "text", "category", (0.05,)),
    "newsgroups20": ("newsgroups20/train.parquet", "text", "label", (0.05,)),
    "examples/shop": (str(SHOP), "text", "intent", (0.0, 0.05)),
}
MOST_ROWS = (
    4_000  # a seeded sample of larger sets: what takes long is the loss that the detector is compared with
)
SEEDS = range(3)
LOSS_C = 3.0  # the first logistic candidate of method tfidf

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]


def noise(data: Path) -> Iterator[dict[str, Any]]:
    """A result for every set and share of wrong labels, the one with wrong labels of its own first."""
    texts, right = rows_of(data / "hausa_news" / "train_clean.csv", "news_title", "label")
    same, given = rows_of(data / "hausa_news" / "train_clean_noisy_labels.csv", "news_title", "label")
    assert texts == same
    yield {"set": "hausa_news", "noise": "its own (distant supervision)", **detected(texts, given, right)}
    for name, (file, text, label, shares) in DRAWN.items():
        texts, right = rows_of(data / file, text, label)
        for share in shares:
            wrong = mislabelled(right, share, random.Random(0))
            yield {"set": name, "noise": f"{share:.0%} drawn at random", **detected(texts, wrong, right)}


def rows_of(path: Path, text: str, label: str) -> tuple[list[str], list[str]]:
    rows = subsample(read(path, text=text, label=label, say=lambda line: None), MOST_ROWS)
    return rows.texts, [labels[0] for labels in rows.labels or []]


def detected(texts: list[str], given: list[str], right: list[str]) -> dict[str, Any]:
    """Precision and recall of what is flagged, and how well rows are ranked; mean over seeds of the folds."""
    dataset = Dataset.from_lists(texts, [(label,) for label in given], task="single")
    bad = np.array([a != b for a, b in zip(given, right, strict=True)])
    _, x = TfidfFeatures.fit(texts)
    gold = CheckContext({"train": dataset}).labels.rows["train"]
    codes = gold.indices.astype(np.int64)
    losses_ = {
        "model_loss": losses(x, codes, np.zeros(len(codes), np.int64), held_out=False),
        "held_out_loss": losses(x, codes, fold_of_rows(CheckContext({"train": dataset})), held_out=True),
    }
    runs: list[dict[str, float]] = []
    gain: list[float] = []
    for seed in SEEDS:
        context = CheckContext({"train": dataset}, seed=seed)
        found = suspects(context)
        ours = -np.log(np.maximum(found.own, 1e-12))
        confident = confidently_wrong(held_out(x, gold, fold_of_rows(context)), codes)
        run = {"flagged": len(found.rows), "confident_flagged": len(confident)}
        if bad.any():
            run |= {"precision": hits(bad, found.rows)[0], "recall": hits(bad, found.rows)[1]}
            run |= {
                "confident_precision": hits(bad, confident)[0],
                "confident_recall": hits(bad, confident)[1],
            }
            for how, values in {"detector": ours, **losses_}.items():
                order = np.argsort(-values, kind="stable")
                run[f"{how}_average_precision"] = float(average_precision_score(bad, values))
                run[f"{how}_precision_at_flagged"] = hits(bad, order[: len(found.rows)])[0]
                run[f"{how}_precision_at_wrong"] = hits(bad, order[: int(bad.sum())])[0]
            gain = gain or resampled(bad, ours, losses_["model_loss"])
        runs.append(run)
    return {
        "rows": len(texts),
        "wrong": int(bad.sum()),
        "loss_c": LOSS_C,
        "seeds": len(runs),
        **{key: float(np.mean([run[key] for run in runs])) for key in runs[0]},
        "average_precision_gain_interval": gain,
        "runs": runs,
    }


def hits(bad: npt.NDArray[np.bool_], rows: Ints) -> tuple[float, float]:
    """Precision and recall of ``rows``."""
    return float(bad[rows].sum() / max(len(rows), 1)), float(bad[rows].sum() / bad.sum())


def losses(x: csr_matrix, gold: Ints, fold: Ints, *, held_out: bool) -> npt.NDArray[np.float64]:
    """−log p(given label) of each row under method tfidf's logistic regression: fitted on all rows, or on the other folds."""
    found = np.empty(len(gold))
    for k in range(FOLDS if held_out else 1):
        rows = np.flatnonzero(fold == k)
        seen = np.flatnonzero(fold != k) if held_out else rows
        model = fit_linear(
            x[seen].astype(np.float64), gold[seen], int(gold.max()) + 1, "logistic", LOSS_C, seed=0
        )
        found[rows] = -log_softmax(model.score(x[rows]), axis=1)[np.arange(len(rows)), gold[rows]]
    return found


def held_out(x: csr_matrix, gold: csr_matrix, fold: Ints) -> npt.NDArray[np.float32]:
    """The detector's probabilities ``[n, L]``, each row's from the other folds."""
    found = np.empty(gold.shape, np.float32)
    for k in range(FOLDS):
        found[fold == k] = Profiles.fit(x[fold != k], gold[fold != k]).probabilities(x[fold == k])
    return found


def confidently_wrong(probabilities: Floats, given: Ints) -> Ints:
    """Rows flagged by confident learning's own rule (Northcutt, Jiang and Chuang, JAIR 2021).

    A label counts where it reaches its threshold, its mean probability on the rows that have it; of those that do, the
    likeliest is not the given one.
    """
    counts = np.bincount(given, minlength=probabilities.shape[1])
    own = np.bincount(given, probabilities[np.arange(len(given)), given], minlength=probabilities.shape[1])
    thresholds = np.where(counts > 0, own / np.maximum(counts, 1), np.inf)
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    return np.flatnonzero((reached.max(axis=1) >= 0) & (reached.argmax(axis=1) != given)).astype(np.int64)


def resampled(bad: npt.NDArray[np.bool_], ours: Floats, theirs: Floats) -> list[float]:
    """95 % interval of the gain in average precision, over rows drawn with replacement."""
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(500):
        rows = rng.integers(0, len(bad), len(bad))
        gains.append(
            average_precision_score(bad[rows], ours[rows]) - average_precision_score(bad[rows], theirs[rows])
        )
    return [float(value) for value in np.quantile(gains, [0.025, 0.975])]
