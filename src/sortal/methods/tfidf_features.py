"""TF-IDF features of a text: words and pairs of words, and the 2 to 5 neighbouring characters inside a word."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer

from sortal.prompting.shortlist import TOKEN
from sortal.training.progress import NoProgress, ProgressView

MAX_TERMS = 200_000  # of each kind, the most frequent
RARE_FROM_ROWS = 5_000  # from here on, an n-gram of a single text is noise rather than evidence
_SHOWN_EVERY = 256
_ANALYSERS: dict[str, dict[str, Any]] = {
    "words": {"token_pattern": TOKEN, "ngram_range": (1, 2)},
    "characters": {"analyzer": "char_wb", "ngram_range": (2, 5)},
}


@dataclass(frozen=True, eq=False)
class Block:
    """One kind of n-grams. A text's values are ``(1 + log tf) · idf`` of its known ones, scaled to length 1.

    Attributes:
        kind: ``words`` or ``characters``.
        terms: the F n-grams, ascending.
        idf: float32 ``[F]``, ``log((1 + n) / (1 + df)) + 1``.
    """

    kind: str
    terms: tuple[str, ...]
    idf: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, kind: str, texts: Sequence[str], view: ProgressView) -> tuple[Block, csr_matrix]:
        """Choose the n-grams of ``texts``; the block, and the texts' values float32 ``[n, F]``."""
        rare = 2 if len(texts) >= RARE_FROM_ROWS else 1
        vectorizer = _vectorizer(kind, min_df=rare, max_features=MAX_TERMS)
        view.start(f"counting {kind}", len(texts))
        try:
            x = vectorizer.fit_transform(watched(texts, view))
        except ValueError:  # scikit-learn refuses texts without a single n-gram to count
            return cls(kind, (), np.zeros(0, np.float32)), csr_matrix((len(texts), 0), dtype=np.float32)
        finally:
            view.stop()
        terms = tuple(vectorizer.get_feature_names_out().tolist())
        return cls(kind, terms, vectorizer.idf_.astype(np.float32)), x

    def transform(self, texts: Sequence[str], view: ProgressView) -> csr_matrix:
        """Values of texts, float32 ``[n, F]``."""
        if not self.terms:
            return csr_matrix((len(texts), 0), dtype=np.float32)
        return self._vectorizer.transform(watched(texts, view))

    def named(self, text: str) -> dict[str, float]:
        """The text's n-grams with their values, the largest first."""
        row = self.transform([text], NoProgress())
        order = np.argsort(-row.data, kind="stable")
        return {self.terms[row.indices[i]]: float(row.data[i]) for i in order.tolist()}

    @cached_property
    def _vectorizer(self) -> TfidfVectorizer:
        vectorizer = _vectorizer(self.kind, vocabulary=self.terms)
        vectorizer.idf_ = self.idf
        return vectorizer


@dataclass(frozen=True)
class TfidfFeatures:
    """Both kinds of n-grams side by side, words first."""

    words: Block
    characters: Block

    @classmethod
    def fit(cls, texts: Sequence[str], view: ProgressView | None = None) -> tuple[TfidfFeatures, csr_matrix]:
        """Features of the training texts, and the texts' values float32 ``[n, F]``.

        Memory grows with the different n-grams of all texts while they are counted, afterwards with those kept.
        """
        view = view or NoProgress()
        words, by_word = Block.fit("words", texts, view)
        characters, by_character = Block.fit("characters", texts, view)
        return cls(words, characters), _beside(by_word, by_character)

    def __len__(self) -> int:
        return len(self.words.terms) + len(self.characters.terms)

    def transform(self, texts: Sequence[str], view: ProgressView | None = None) -> csr_matrix:
        """Values float32 ``[n, F]``; a text without known n-grams, as an empty one, has an empty row.

        ``view`` hears of every text twice: of its words, and of its characters.
        """
        view = view or NoProgress()
        return _beside(self.words.transform(texts, view), self.characters.transform(texts, view))

    def named(self, text: str) -> dict[str, dict[str, float]]:
        """The text's features by kind: n-gram → value, the largest first."""
        return {block.kind: block.named(text) for block in (self.words, self.characters)}


def chunks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Lists of at most ``size`` texts."""
    texts = iter(texts)
    while chunk := list(islice(texts, size)):
        yield chunk


def watched(texts: Iterable[str], view: ProgressView) -> Iterator[str]:
    """``texts``, telling ``view`` as they pass."""
    for chunk in chunks(texts, _SHOWN_EVERY):
        yield from chunk
        view.advance(len(chunk), 0)


def _vectorizer(kind: str, **more: Any) -> TfidfVectorizer:
    return TfidfVectorizer(**_ANALYSERS[kind], sublinear_tf=True, dtype=np.float32, **more)


def _beside(left: csr_matrix, right: csr_matrix) -> csr_matrix:
    return csr_matrix(hstack([left, right], format="csr", dtype=np.float32))
