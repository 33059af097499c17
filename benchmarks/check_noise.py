"""The label-noise detector of `sortal check` where right and wrong labels are known, beside other ways to find wrong ones.

Needs cleanlab (``pip install -e '.[bench]'``) and the model `benchmarks.check_states.MODEL`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from benchmarks.check_states import states
from benchmarks.injection import mislabelled, mistaken
from sortal.checks.base import CheckContext
from sortal.checks.label_noise import FOLDS, ODDS, fold_of_rows, suspicion
from sortal.checks.profiles import Profiles
from sortal.data.dataset import Dataset
from sortal.data.reading import read
from sortal.data.splits import subsample
from sortal.methods.linear import fit_linear
from sortal.methods.tfidf_features import TfidfFeatures

SHOP = Path(__file__).parents[1] / "examples" / "shop" / "train.csv"
OWN, RANDOM, SIMILAR, NONE = (
    "its own (distant supervision)",
    "at random",
    "for the most similar label",
    "none",
)
SETS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "hausa_news": ("hausa_news/train_clean.csv", "news_title", "label", (OWN, NONE, RANDOM, SIMILAR)),
    "banking77": ("banking77/train.csv", "text", "category", (RANDOM, SIMILAR)),
    "newsgroups20": ("newsgroups20/train.parquet", "text", "label", (RANDOM, SIMILAR)),
    "examples/shop": (str(SHOP), "text", "intent", (NONE, RANDOM)),
}
SHARE = 0.1  # of the labels are replaced where they are not wrong by themselves
# A seeded sample of larger sets; a text of 20 Newsgroups takes ten times as long as one of Banking77.
MOST_ROWS = {"hausa_news": 4_000, "banking77": 4_000, "newsgroups20": 2_000, "examples/shop": 4_000}
LOSS_C = 3.0  # the first logistic candidate of method tfidf
_STATES_SCALE = 4.0  # states have length 1: a regression with C = 1 needs larger ones
_RESAMPLES = 1_000

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]


def noise(data: Path, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A result for every kind of wrong labels in the sets called ``names``."""
    for name in names:
        file, text, label, kinds = SETS[name]
        texts, right = rows_of(data / file, text, label, MOST_ROWS[name])
        _, x = TfidfFeatures.fit(texts)
        vectors = states(texts)
        for kind in kinds:
            given, said = right, kind
            if kind == OWN:
                same, given = rows_of(
                    data / file.replace(".csv", "_noisy_labels.csv"), text, label, len(texts)
                )
                assert texts == same
            elif kind != NONE:
                draw = random.Random(0)
                given = mislabelled(right, SHARE, draw) if kind == RANDOM else mistaken(right, SHARE, draw, x)
                said = f"{SHARE:.0%} {kind}"
            yield {"set": name, "noise": said, **detected(texts, given, right, x, vectors)}


def rows_of(path: Path, text: str, label: str, most: int) -> tuple[list[str], list[str]]:
    rows = subsample(read(path, text=text, label=label, say=lambda line: None), most)
    return rows.texts, [labels[0] for labels in rows.labels or []]


def detected(
    texts: list[str], given: list[str], right: list[str], x: csr_matrix, vectors: Floats
) -> dict[str, Any]:
    """What is flagged, and how well every detector ranks all rows."""
    from cleanlab.filter import find_label_issues

    context = CheckContext({"train": Dataset.from_lists(texts, [(name,) for name in given], task="single")})
    bad = np.array([a != b for a, b in zip(given, right, strict=True)])
    gold, fold = context.labels.rows["train"], fold_of_rows(context)
    codes = gold.indices.astype(np.int64)
    found = context.suspects
    words = held_out(x, gold, fold)
    read_ = of_states(vectors, codes, fold, gold.shape[1])
    both = (words + read_) / 2
    rules = {
        "odds": found.rows,
        "cleanlab": np.flatnonzero(find_label_issues(codes, words, n_jobs=1)),
        "states": flagged(read_, codes),
        "both": flagged(both, codes),
    }
    result: dict[str, Any] = {
        "rows": len(texts),
        "wrong": int(bad.sum()),
        "flagged": {name: len(rows) for name, rows in rules.items()},
    }
    if not bad.any():
        return result
    scores = {"sortal": found.score.astype(float), **others(words, codes), **from_loss(x, codes, fold)}
    scores |= {"states": suspected(read_, codes), "both": suspected(both, codes)}
    result["precision"] = {name: hits(bad, rows)[0] for name, rows in rules.items()}
    result["recall"] = {name: hits(bad, rows)[1] for name, rows in rules.items()}
    result["average_precision"] = {n: float(average_precision_score(bad, s)) for n, s in scores.items()}
    result["precision_at_wrong"] = {
        name: hits(bad, np.argsort(-values, kind="stable")[: bad.sum()])[0] for name, values in scores.items()
    }
    result["gain_interval"] = gains(bad, scores)
    return result


def others(p: Floats, codes: Ints) -> dict[str, Floats]:
    """cleanlab's scores of the same out-of-fold probabilities; the higher, the likelier wrong."""
    from cleanlab.rank import get_label_quality_scores

    return {
        method: 1 - get_label_quality_scores(codes, p, method=method, adjust_pred_probs=False)
        for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
    }


def from_loss(x: csr_matrix, codes: Ints, fold: Ints) -> dict[str, Floats]:
    return {
        "loss": losses(x, codes, np.zeros(len(codes), np.int64), held_out=False),
        "held_out_loss": losses(x, codes, fold, held_out=True),
    }


def hits(bad: Bools, rows: Ints) -> tuple[float, float]:
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


def held_out(x: csr_matrix, gold: csr_matrix, fold: Ints) -> Floats:
    """The detector's probabilities ``[n, L]``, each row's from the other folds."""
    found = np.empty(gold.shape)
    for k in range(FOLDS):
        p = Profiles.fit(x[fold != k], gold[fold != k]).probabilities(x[fold == k]).astype(float)
        found[fold == k] = p / p.sum(axis=1, keepdims=True)
    return found


def of_states(vectors: Floats, codes: Ints, fold: Ints, n_labels: int) -> Floats:
    """Out-of-fold probabilities ``[n, L]`` of a logistic regression on the states."""
    found = np.zeros((len(codes), n_labels))
    for k in range(FOLDS):
        model = LogisticRegression(max_iter=200).fit(_STATES_SCALE * vectors[fold != k], codes[fold != k])
        rows = np.flatnonzero(fold == k)
        found[np.ix_(rows, model.classes_)] = softmax(
            model.decision_function(_STATES_SCALE * vectors[rows]), axis=1
        )
    return found


def odds_of(p: Floats, codes: Ints) -> tuple[Floats, Floats]:
    """Probabilities of the label in the data and of the likeliest other one."""
    rest, rows = p.copy(), np.arange(len(codes))
    rest[rows, codes] = 0
    return p[rows, codes], rest.max(axis=1)


def suspected(p: Floats, codes: Ints) -> Floats:
    return suspicion(*odds_of(p, codes)).astype(float)


def flagged(p: Floats, codes: Ints) -> Ints:
    own, other = odds_of(p, codes)
    return np.flatnonzero(other >= ODDS * own)


def gains(bad: Bools, scores: dict[str, Floats]) -> dict[str, list[float]]:
    """95 % intervals of the gain in average precision of ``sortal`` over every other score, over rows drawn with replacement."""
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {name: [] for name in scores if name != "sortal"}
    for _ in range(_RESAMPLES):
        rows = rng.integers(0, len(bad), len(bad))
        of = {name: average_precision_score(bad[rows], values[rows]) for name, values in scores.items()}
        for name, values in found.items():
            values.append(of["sortal"] - of[name])
    return {name: [float(v) for v in np.quantile(values, [0.025, 0.975])] for name, values in found.items()}
