"""A few candidate labels per text, for label spaces too large to be listed in a prompt.

The classifier adds two linear ones over TF-IDF: the complement naive Bayes of Rennie, Shih, Teevan and
Karger, "Tackling the Poor Assumptions of Naive Bayes Text Classifiers" (ICML 2003), and the cosine to the
label's centroid (Rocchio). On Banking77, Reuters-21578 and US patents the sum has a better recall at 10 than
either. One linear SVM per label is slightly better still with fewer than a hundred labels, but clearly worse
with hundreds or thousands, where it also takes minutes. The sum takes hardly longer than counting the words,
and its weights are sparse: they are zero for words that no text of the label has. Pairs of words helped only
with the shortest texts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from sortal.errors import ModelError
from sortal.evaluation.scores import check_gold
from sortal.training.atomic import write_bytes, write_json

Ints = NDArray[np.int64]

FORMAT = 1
TENSORS, META = "shortlist.safetensors", "shortlist.json"
MAX_TERMS = 50_000
MAX_WEIGHTS = 20_000_000  # 8 bytes each: 160 MB
RARE_FROM_ROWS = 5_000  # from here on, a word of a single text is noise rather than evidence
_SCORES_AT_ONCE = 4_000_000  # bounds the memory of ranking: rows × labels

# Words with their vowel signs. Scripts without spaces between words (Thai, Lao, Burmese, Khmer, Chinese,
# Japanese) give pairs of neighbouring characters instead: the lookahead takes two, the match consumes one.
_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = rf"(?:(?![{_SPACELESS}])[\w\u0300-\u036f\u0900-\u0963\u0966-\u0dff])+"
TOKEN = rf"(?=([{_SPACELESS}]{{1,2}}|{_WORD}))(?:[{_SPACELESS}]|{_WORD})"


@dataclass(frozen=True, eq=False)
class Shortlist:
    """A linear classifier that proposes ``size`` of L labels for every text.

    A text's features ``x`` are ``(1 + log tf) · idf`` of its known words, scaled to length 1; its scores are
    ``x · weights + sum(x) · slope``. Labels without a training example score lowest; equal scores, as all are
    for a text without known words, go to the label with more examples, then to the earlier one.

    ``weights`` is sparse: at most one value per word of a training text and label of that text. Beyond 20
    million values (160 MB in memory and on disk) the smallest are dropped; none is negative.

    Attributes:
        size: candidates per text, K, from 1 to L.
        terms: the F words, at most 50,000.
        idf: float32 [F].
        weights: float32 sparse [F, L].
        slope: float32 [L].
        counts: int64 [L], training rows of each label.
    """

    size: int
    terms: tuple[str, ...]
    idf: NDArray[np.float32]
    weights: csr_matrix
    slope: NDArray[np.float32]
    counts: Ints

    @classmethod
    def fit(cls, texts: Sequence[str], gold: NDArray[Any], n_labels: int, size: int) -> Shortlist:
        """Train on labelled texts; nothing is random.

        Args:
            texts: n texts, which may be empty.
            gold: int64 [n] label positions, or uint8 [n, L] of 0 and 1.
            n_labels: L.
            size: candidates per text; more than L means all.

        Raises:
            DataError: gold does not fit the texts and labels.
            ValueError: ``size`` is less than 1.
        """
        return cls._fit(texts, _indicator(gold, len(texts), n_labels), size)

    @classmethod
    def _fit(cls, texts: Sequence[str], gold: csr_matrix, size: int) -> Shortlist:
        n, n_labels = gold.shape
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        terms, counted = _count(texts)
        held = np.bincount(counted.indices, minlength=len(terms))
        idf = np.log((n + 1) / (held + 0.5)).astype(np.float32)
        mass = (gold.T.astype(np.float64) @ _weigh(counted, idf)).tocsr()
        weights, slope = _linear(mass)
        return cls(
            min(size, n_labels),
            terms,
            idf,
            largest(weights.T.tocsr(), MAX_WEIGHTS).astype(np.float32),
            slope.astype(np.float32),
            np.asarray(gold.sum(axis=0), np.int64).ravel(),
        )

    @property
    def n_labels(self) -> int:
        """How many labels it chooses from."""
        return len(self.counts)

    def propose(self, texts: Sequence[str]) -> Ints:
        """The best ``size`` labels of each text, int64 [n, size], ascending within the row.

        A text's candidates do not depend on the texts beside it.
        """
        found = np.empty((len(texts), self.size), np.int64)
        for rows, ranking in self._rankings(texts):
            found[rows] = np.sort(ranking[:, : self.size], axis=1)
        return found

    def _rankings(self, texts: Sequence[str]) -> Iterator[tuple[slice, Ints]]:
        """Slices of the rows and, for each, all labels from best to worst, int64 [rows, L]."""
        popular = np.argsort(-self.counts, kind="stable")
        untrained = self.counts == 0
        step = max(1, _SCORES_AT_ONCE // self.n_labels)
        for start in range(0, len(texts), step):
            rows = slice(start, start + step)
            x = self._features(texts[rows])
            scores = (x @ self.weights).toarray() + np.asarray(x.sum(axis=1)) * self.slope
            scores[:, untrained] = -np.inf
            yield rows, popular[np.argsort(-scores[:, popular], axis=1, kind="stable")]

    def _features(self, texts: Sequence[str]) -> csr_matrix:
        if not self.terms:
            return csr_matrix((len(texts), 0), dtype=np.float32)
        return _weigh(self._counter.transform(texts), self.idf)

    @cached_property
    def _counter(self) -> Any:
        # It takes a second to import, and most models have no shortlist.
        from sklearn.feature_extraction.text import CountVectorizer

        return CountVectorizer(token_pattern=TOKEN, vocabulary=self.terms, dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write ``shortlist.safetensors`` and ``shortlist.json`` (words, size and a hash over both files).

        Raises:
            ResourceError: the disk is full, or the folder cannot be written.
        """
        tensors = {
            "idf": self.idf,
            "slope": self.slope,
            "counts": self.counts,
            "weights.data": self.weights.data,
            "weights.indices": self.weights.indices.astype(np.int32),
            "weights.indptr": self.weights.indptr.astype(np.int64),
        }
        data = safetensors.numpy.save(tensors)
        meta = {"format": FORMAT, "size": self.size, "terms": list(self.terms)}
        write_bytes(folder / TENSORS, data)
        write_json(folder / META, meta | {"sha256": _digest(meta, data)})

    @classmethod
    def load(cls, folder: Path) -> Shortlist:
        """The inverse of `save`; its proposals are the same to the bit.

        Raises:
            ModelError: a file is missing, damaged, of another format, or the two are not from one `save`.
        """
        text, data = _read(folder / META), _read(folder / TENSORS)
        try:
            meta = json.loads(text)
            version, digest = meta["format"], meta.pop("sha256")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{folder / META} is damaged ({type(error).__name__}: {error})", "restore it from its run"
            ) from None
        if version != FORMAT:
            raise ModelError(
                f"{folder / META} has format {version!r}; this version reads {FORMAT}",
                "use the version of Sortal that wrote it",
            )
        # With a matching hash both files are as `save` wrote them: their insides need no checks of their own.
        if digest != _digest(meta, data):
            raise ModelError(
                f"{folder / META} and {TENSORS} are damaged or not from the same model (SHA-256 differs)",
                "restore both from one run",
            )
        tensors = safetensors.numpy.load(data)
        parts = tuple(tensors[f"weights.{part}"] for part in ("data", "indices", "indptr"))
        counts = tensors["counts"]
        weights = csr_matrix(parts, shape=(len(meta["terms"]), len(counts)))
        return cls(meta["size"], tuple(meta["terms"]), tensors["idf"], weights, tensors["slope"], counts)


def cross_fitted(
    texts: Sequence[str], gold: NDArray[Any], n_labels: int, size: int, seed: int, folds: int = 5
) -> Ints:
    """Candidates for the training rows themselves, int64 [n, size], ascending within the row.

    Each row is ranked by a `Shortlist` that did not see it, so that the wrong labels are as hard as at test
    time. The gold labels come first, then the rest, both by score: a missed gold label takes the place of the
    worst candidate, and of more than ``size`` gold labels the best stay. A label whose examples are all in
    one fold scores lowest there.

    Args:
        texts: n texts.
        gold: int64 [n] label positions, or uint8 [n, L] of 0 and 1.
        n_labels: L.
        size: candidates per text; more than L means all.
        seed: of the folds.
        folds: at least 2; with fewer rows, one row each.

    Raises:
        DataError: gold does not fit the texts and labels.
        ValueError: ``size`` is less than 1, or ``folds`` less than 2.
    """
    if folds < 2:
        raise ValueError(f"folds must be at least 2, got {folds}")
    indicator = _indicator(gold, len(texts), n_labels)
    fold = deal(indicator, folds, np.random.default_rng(seed))
    found = np.empty((len(texts), min(size, n_labels)), np.int64)
    for held_out in (np.flatnonzero(fold == k) for k in np.unique(fold)):
        seen = np.setdiff1d(np.arange(len(texts)), held_out)
        shortlist = Shortlist._fit([texts[i] for i in seen.tolist()], indicator[seen], size)
        for rows, ranking in shortlist._rankings([texts[i] for i in held_out.tolist()]):
            true = indicator[held_out[rows]].toarray()
            wrong = np.take_along_axis(true, ranking, axis=1) == 0
            gold_first = np.take_along_axis(ranking, np.argsort(wrong, axis=1, kind="stable"), axis=1)
            found[held_out[rows]] = np.sort(gold_first[:, : shortlist.size], axis=1)
    return found


def recall(candidates: Ints, gold: NDArray[Any]) -> float:
    """Share of all gold labels that are among their row's candidates; 1.0 when there are none.

    Args:
        candidates: int64 [n, K], no label twice in a row.
        gold: int64 [n] label positions, or uint8 [n, L] of 0 and 1.
    """
    if gold.ndim == 1:
        hits, total = (candidates == gold[:, None]).sum(), len(gold)
    else:
        hits, total = np.take_along_axis(gold, candidates, axis=1).sum(), int(gold.sum())
    return float(hits / total) if total else 1.0


def largest(weights: csr_matrix, most: int) -> csr_matrix:
    """``weights`` (none negative), overwritten: about the ``most`` largest remain."""
    surplus = weights.nnz - most
    if surplus > 0:
        weights.data[weights.data < np.partition(weights.data, surplus)[surplus]] = 0
        weights.eliminate_zeros()
    return weights


def _indicator(gold: NDArray[Any], n: int, n_labels: int) -> csr_matrix:
    """Gold labels of either task as a 0/1 matrix, uint8 sparse [n, L]."""
    if gold.ndim != 1:
        return csr_matrix(check_gold(gold, n, n_labels, "multi"))
    columns = check_gold(gold, n, n_labels, "single")
    return csr_matrix((np.ones(n, np.uint8), columns, np.arange(n + 1)), shape=(n, n_labels))


def deal(gold: csr_matrix, folds: int, rng: np.random.Generator) -> Ints:
    """Fold of every row of 0/1 labels ``gold`` [n, L], int64 [n]; rows with the same rarest label are dealt out in turn, to spread them."""
    n, n_labels = gold.shape
    rarity = np.empty(n_labels, np.int64)
    rarity[np.argsort(np.asarray(gold.sum(axis=0)).ravel(), kind="stable")] = np.arange(n_labels)
    rarest = np.full(n, n_labels)
    rows, labels = gold.nonzero()
    np.minimum.at(rarest, rows, rarity[labels])
    fold = np.empty(n, np.int64)
    fold[np.lexsort((rng.permutation(n), rarest))] = np.arange(n) % folds
    return fold


def _count(texts: Sequence[str]) -> tuple[tuple[str, ...], csr_matrix]:
    """The F words worth counting and how often each text has them, float32 [n, F]."""
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(
        token_pattern=TOKEN,
        min_df=2 if len(texts) >= RARE_FROM_ROWS else 1,
        max_features=MAX_TERMS,
        dtype=np.float32,
    )
    try:
        counted = counter.fit_transform(texts)
    except ValueError:  # scikit-learn refuses texts without a single word to count
        return (), csr_matrix((len(texts), 0), dtype=np.float32)
    return tuple(counter.get_feature_names_out().tolist()), counted


def _weigh(counted: csr_matrix, idf: NDArray[np.float32]) -> csr_matrix:
    """Counts, overwritten, as TF-IDF rows of length 1 (0 for a text without known words), float32 [n, F]."""
    counted.data = (1 + np.log(counted.data)) * idf[counted.indices]
    return _unit(counted)


def _unit(rows: csr_matrix) -> csr_matrix:
    """``rows``, overwritten, each scaled to length 1 (scikit-learn's own refuses a matrix without columns)."""
    row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    length = np.sqrt(np.bincount(row, np.square(rows.data), minlength=rows.shape[0]))
    rows.data = (rows.data / length[row]).astype(rows.dtype)
    return rows


def _linear(mass: csr_matrix) -> tuple[csr_matrix, NDArray[np.float64]]:
    """Weights, float64 sparse [L, F], and slope [L] from the summed features of each label's rows, [L, F].

    Complement naive Bayes scores a label by how badly the others explain the text: ``−x · log((1 + rest) /
    total)``. Only in the label's own words does ``rest`` differ from the sum over all labels, which ranks
    nothing and is left out; ``total``, the same for every word, becomes the slope.
    """
    everything = np.asarray(mass.sum(axis=0)).ravel()
    rest = np.maximum(everything[mass.indices] - mass.data, 0.0)
    complement = mass.copy()
    complement.data = np.log1p(everything[mass.indices]) - np.log1p(rest)
    total = everything.sum() + len(everything) - np.asarray(mass.sum(axis=1)).ravel()
    slope = np.log(np.maximum(total, 1.0))
    return complement + _unit(mass), slope - slope.min()


def _digest(meta: dict[str, Any], data: bytes) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode("ascii") + data).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path} is missing", "restore it from the run that made this folder") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", "check the file's permissions") from None
