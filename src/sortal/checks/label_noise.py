"""Labels that are probably wrong: a classifier that has not seen them finds another label several times as likely.

Probabilities are out of fold, as in confident learning (Northcutt, Jiang and Chuang, JAIR 2021). Every row has a score, and a row
is flagged when another label has odds of four to one against the one in the file. benchmarks/results/check.md compares the
score with the loss of a model, with other scores and with confident learning's own rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from scipy.sparse import csr_matrix

from sortal.checks.base import CheckContext, Finding, NotChecked
from sortal.checks.profiles import Profiles
from sortal.data.dataset import Indices
from sortal.data.problems import counted
from sortal.methods.tfidf_features import Block, TfidfFeatures
from sortal.prompting.shortlist import deal
from sortal.training.progress import NoProgress

FOLDS = 5
ODDS = 4  # for another label and against the one in the file
_LEAST_ROWS = 50
_LEAST_OF_LABEL = 10  # of fewer rows, too little is learned to judge one by the others
# Rows that classifiers are fitted on; all rows are judged. More of them cost time and hardly change who is suspected.
MAX_ROWS = 30_000
# Bytes of text: from the first on, runs of characters, which take ten times as long as words, are left out, and no more
# than the second are learned from.
CHARACTERS_TO, MAX_BYTES = 10_000_000, 30_000_000
_MAX_CELLS = 20_000_000  # of features × labels; a classifier takes 4 bytes for each, fitting it 32
_CELLS_AT_ONCE = 4_000_000  # of rows × labels
_MANY = 0.01
_TINY = 1e-12
_CHUNK = 2_000


@dataclass(frozen=True, eq=False)
class Suspects:
    """What the labels of all ``n`` training rows look like to classifiers that have not seen them.

    Attributes:
        rows: int64 ``[k]``, 0-based, those whose label is contradicted, the highest score first.
        own: float32 ``[n]``, the probability of the label in the data.
        other: int32 ``[n]``, the likeliest of the other labels.
        instead: float32 ``[n]``, its probability.
        score: float32 ``[n]``, ranks all rows: the higher, the likelier the label is wrong.
    """

    rows: Indices
    own: npt.NDArray[np.float32]
    other: npt.NDArray[np.int32]
    instead: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]


def check(context: CheckContext) -> Iterator[Finding]:
    """Of the training file, where every row has one label.

    Raises:
        NotChecked: as `suspects`.
    """
    labels, found = context.labels, context.suspects
    if not len(found.rows):
        return
    share = len(found.rows) / len(context.train)

    def note(i: int) -> str:
        row = int(found.rows[i])
        other = labels.names[found.other[row]]
        return f"{labels.shown('train', row)} here ({found.own[row]:.0%}), {other!r} is likelier ({found.instead[row]:.0%})"

    yield Finding(
        "label-noise",
        "warning" if share >= _MANY else "note",
        "train",
        f"{counted(len(found.rows), 'row')} ({share:.1%}) may have a wrong label: other rows contradict "
        f"{'it' if len(found.rows) == 1 else 'them'}",
        "read them, the first ones most of all, and correct what is wrong; hard rows with right labels are among them",
        found.rows,
        note,
    )


def suspects(context: CheckContext) -> Suspects:
    """Cross-fit classifiers on the training file and compare its labels with their probabilities.

    Every row is judged by a classifier that saw neither the row nor an equal text.

    Raises:
        NotChecked: rows have several labels, there are too few rows or labels, or no text has a word.
    """
    if not context.labels.single:
        raise NotChecked("wrong labels are looked for only where every row has exactly one")
    if len(context.train) < _LEAST_ROWS or (context.labels.counts("train") >= _LEAST_OF_LABEL).sum() < 2:
        raise NotChecked(
            f"it needs at least {_LEAST_ROWS} rows, and two labels with {_LEAST_OF_LABEL} rows each"
        )
    gold = context.labels.rows["train"]
    given, n_labels = gold.indices.astype(np.int64), gold.shape[1]
    fold = fold_of_rows(context)
    sizes = pc.binary_length(context.train.table.column("text")).to_numpy().astype(np.int64)
    sample = _sample(sizes, context.seed)
    transform, x = _features(context, context.train.text_at(sample), characters=sizes.sum() <= CHARACTERS_TO)
    if not x.shape[1]:
        raise NotChecked("its texts have no words to judge by")
    kept = _most_frequent(x, _MAX_CELLS // n_labels)
    x = x[:, kept]
    models = [Profiles.fit(x[fold[sample] != k], gold[sample[fold[sample] != k]]) for k in range(FOLDS)]
    judged = np.bincount(given[sample], minlength=n_labels) >= _LEAST_OF_LABEL
    own, instead = np.empty(len(given), np.float32), np.empty(len(given), np.float32)
    other = np.empty(len(given), np.int32)

    def keep(rows: Indices, probabilities: npt.NDArray[np.float32]) -> None:
        within = np.arange(len(rows))
        own[rows] = probabilities[within, given[rows]]
        probabilities[within, given[rows]] = -1
        other[rows] = probabilities.argmax(axis=1)
        instead[rows] = probabilities[within, other[rows]]

    step = max(1, min(_CHUNK, _CELLS_AT_ONCE // n_labels))
    for start in range(0, len(sample), step):
        rows = sample[start : start + step]
        keep(rows, _judge(models, x[start : start + step], fold[rows]))
    if len(sample) < len(given):
        rest = np.ones(len(given), bool)
        rest[sample] = False
        start = 0
        for texts in context.batches("train", "comparing labels", step):
            rows = np.flatnonzero(rest[start : start + len(texts)])
            chosen = transform([texts[row] for row in rows])[:, kept]
            keep(start + rows, _judge(models, chosen, fold[start + rows]))
            start += len(texts)
    score = suspicion(own, instead)
    rows = np.flatnonzero(judged[given] & (instead >= ODDS * own)).astype(np.int64)
    return Suspects(rows[np.argsort(-score[rows], kind="stable")], own, other, instead, score)


def suspicion(own: npt.NDArray[np.floating], instead: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """How likely each label is wrong, float32 ``[n]``, from its probability and that of the likeliest other label.

    Between −log ``own``, which is best where wrong labels are drawn at random but puts rows that nothing fits before rows
    that one other label fits, and the log-odds of the two, which is best where labels are taken for similar ones.
    """
    found: npt.NDArray[np.float32] = (
        0.5 * np.log(np.maximum(instead, _TINY)) - np.log(np.maximum(own, _TINY))
    ).astype(np.float32)
    return found


def _sample(sizes: Indices, seed: int) -> Indices:
    """Random rows to learn from, ascending, at most `MAX_ROWS` and `MAX_BYTES`; ``sizes`` are bytes of all rows' texts."""
    order = np.random.default_rng(seed).permutation(len(sizes))
    fitting = int(np.searchsorted(np.cumsum(sizes[order]), MAX_BYTES, side="right"))
    return np.sort(order[: min(MAX_ROWS, max(fitting, _LEAST_ROWS))]).astype(np.int64)


def _features(
    context: CheckContext, texts: list[str], *, characters: bool
) -> tuple[Callable[[list[str]], csr_matrix], csr_matrix]:
    """The features of ``tfidf``, fitted on ``texts`` and with or without runs of characters: how other texts get them, and theirs ``[texts, F]``."""
    if characters:
        features, x = TfidfFeatures.fit(texts, context.view)
        return features.transform, x
    words, x = Block.fit("words", texts, context.view)
    return (lambda more: words.transform(more, NoProgress())), x


def fold_of_rows(context: CheckContext) -> Indices:
    """Fold of each training row, int64 ``[n]``: equal texts share one, and each label is spread over all."""
    ids = context.text_ids
    first = ids.first("train")
    texts = np.flatnonzero(first >= 0)
    fold = np.zeros(ids.count, np.int64)
    gold = context.labels.rows["train"]
    fold[texts] = deal(gold[first[texts]], FOLDS, np.random.default_rng(context.seed))
    return fold[ids.by_part["train"]]


def _most_frequent(x: csr_matrix, most: int) -> Indices:
    """Columns of the at most ``most`` features that occur in most rows, ascending."""
    held = np.bincount(x.indices, minlength=x.shape[1])
    return np.sort(np.argsort(-held, kind="stable")[:most])


def _judge(models: list[Profiles], x: csr_matrix, fold: Indices) -> npt.NDArray[np.float32]:
    """Probabilities ``[n, L]`` of each row by the model of its fold."""
    found = np.empty((x.shape[0], models[0].weights.shape[1]), np.float32)
    for k, model in enumerate(models):
        rows = np.flatnonzero(fold == k)
        found[rows] = model.probabilities(x[rows])
    return found
