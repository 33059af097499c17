"""Method ``instruct`` with ``shot_choice`` nearest: the training rows that stand before a text as its examples.

Nearest is the cosine of TF-IDF features, of words and of characters: a short text shares few whole words with any other. Finding
them compares a text with every row, so its time grows with their number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError
from scipy.sparse import csr_matrix

from sortal.backbone.encoding import EncodedTexts
from sortal.data.dataset import Dataset
from sortal.data.duplicates import text_keys
from sortal.data.sections import plain_text
from sortal.errors import ConfigError, ModelError
from sortal.methods.tfidf_features import Block, TfidfFeatures, chunks
from sortal.prompting.prompt import Prompt
from sortal.prompting.shortlist import MAX_WEIGHTS, largest
from sortal.prompting.shots import SHOT_TOKENS, EncodedShot
from sortal.training.atomic import write_bytes
from sortal.training.progress import NoProgress, ProgressView

FILE = "shots.safetensors"
_SCORES_AT_ONCE = 4_000_000  # bounds the memory of a search: texts × rows

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class NearestShots:
    """N of n training rows for every text.

    Attributes:
        size: examples per text, N.
        features: of texts, F of them.
        postings: float32 sparse ``[F, n]``, the rows' features; beyond 20 million values (160 MB) the smallest are dropped.
        keys: S32 ``[n]``, equal for equal texts, see `text_keys`.
        ids: int32, the token ids of the rows' texts one after another, as an example shows them.
        offsets: int64 ``[n + 1]``, where each row's begin.
        labels, label_offsets: the same for the positions of the rows' labels.
        truncated: rows whose text is longer than an example shows.
    """

    size: int
    features: TfidfFeatures
    postings: csr_matrix
    keys: npt.NDArray[np.bytes_]
    ids: npt.NDArray[np.int32]
    offsets: Ints
    labels: npt.NDArray[np.int32]
    label_offsets: Ints
    truncated: int

    @classmethod
    def fit(
        cls, train: Dataset, labels: Sequence[Sequence[int]], prompt: Prompt, view: ProgressView | None = None
    ) -> NearestShots:
        """All rows of ``train``, to choose ``prompt.nearest`` from.

        Args:
            labels: positions of each row's labels.

        Raises:
            ConfigError: there are no more rows than examples.
        """
        if len(train) <= prompt.nearest:
            raise ConfigError(
                f"shots {prompt.nearest} with shot_choice 'nearest' needs more than {len(train):,} training rows",
                "lower shots, or give more rows",
            )
        features, x = TfidfFeatures.fit(train.texts, view)
        encoded = prompt.shot_encoder().encode(map(plain_text, train.iter_texts()))
        return cls(
            prompt.nearest,
            features,
            largest(csr_matrix(x.T), MAX_WEIGHTS),
            text_keys(train.iter_texts()),
            encoded.flat,
            encoded.offsets,
            np.array([label for row in labels for label in row], np.int32),
            np.cumsum([0, *map(len, labels)], dtype=np.int64),
            encoded.truncated,
        )

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, row: int) -> EncodedShot:
        first, last = self.label_offsets[row : row + 2]
        ids = self.ids[self.offsets[row] : self.offsets[row + 1]]
        return EncodedShot(ids, tuple(self.labels[first:last].tolist()))

    def choose(self, texts: Sequence[str], view: ProgressView | None = None) -> Ints:
        """The rows nearest to each text, int64 ``[texts, N]``, the most similar last.

        A row with the very text, compared as duplicates are, is never among them: a training text would be shown its own answer. Equally near
        rows come in their order. −1 stands where there are fewer than N, and then first. A text's rows do not depend on the texts beside it.
        """
        view = view or NoProgress()
        chosen = np.full((len(texts), self.size), -1, np.int64)
        view.start("finding examples", len(texts))
        done = 0
        for chunk in chunks(texts, max(1, _SCORES_AT_ONCE // len(self))):
            near = (self.features.transform(chunk) @ self.postings).toarray()
            near[text_keys(chunk)[:, None] == self.keys] = -1
            for row in near:
                found = self._best(row)
                chosen[done, self.size - len(found) :] = found[::-1]
                done += 1
            view.advance(len(chunk), 0)
        view.stop()
        return chosen

    def _best(self, near: npt.NDArray[np.float32]) -> Ints:
        """At most N rows, the most similar first."""
        least = max(float(np.partition(near, -self.size)[-self.size]), 0.0)
        candidates = np.flatnonzero(near >= least)
        return candidates[np.argsort(-near[candidates], kind="stable")][: self.size]

    def beside(
        self,
        texts: Sequence[str],
        encoded: EncodedTexts,
        prompt: Prompt,
        listed: int,
        view: ProgressView | None = None,
    ) -> Examples:
        """The examples of ``texts``, as many as there is room for: the text comes first, then the most similar ones.

        Args:
            encoded: the texts with their cue.
            listed: see `Prompt.encoder`.
        """
        found = Examples(self, prompt, self.choose(texts, view))
        if prompt.max_length is not None:
            room = prompt.room_before(listed) - encoded.lengths
            for i, row in enumerate(found.chosen):
                while (row >= 0).any() and len(found[i]) > room[i]:
                    row[np.argmax(row >= 0)] = -1
        # Now, for these may be scored in another thread, and a tokenizer is for one at a time: what examples are made of is kept.
        _ = found.lengths
        return found

    def longest(self, prompt: Prompt, shortlist: int | None) -> int:
        """Tokens of the longest sequence; see `Prompt.longest`, which knows no examples."""
        if prompt.max_length is not None:
            return prompt.max_length
        alone = [len(prompt.before_text([self[row]])) for row in range(len(self))]
        widest = np.argsort(alone, kind="stable")[-self.size :]
        shown = prompt.before_text([self[row] for row in widest.tolist()])
        return prompt.longest(shortlist) - len(prompt.tail) + len(shown)

    def save(self, folder: Path) -> None:
        """Write ``shots.safetensors``, whose hash goes into sortal.json.

        Raises:
            ResourceError: the disk is full, or the folder cannot be written.
        """
        words, characters, postings = self.features.words, self.features.characters, self.postings
        terms = json.dumps([words.terms, characters.terms], ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )
        tensors = {
            "sizes": np.array([self.size, self.truncated], np.int64),
            "terms": np.frombuffer(terms, np.uint8),
            "words.idf": words.idf,
            "characters.idf": characters.idf,
            "postings.data": postings.data,
            "postings.indices": postings.indices.astype(np.int32),
            "postings.indptr": postings.indptr.astype(np.int64),
            "keys": self.keys.view(np.uint8).reshape(len(self), -1),
            "ids": np.asarray(self.ids),
            "offsets": self.offsets,
            "labels": self.labels,
            "label_offsets": self.label_offsets,
        }
        write_bytes(folder / FILE, safetensors.numpy.save(tensors))

    @classmethod
    def load(cls, folder: Path) -> NearestShots:
        """The inverse of `save`; its choices are the same to the bit.

        Raises:
            ModelError: the file is missing or damaged.
        """
        path = folder / FILE
        try:
            tensors = safetensors.numpy.load_file(path)
            words, characters = json.loads(tensors["terms"].tobytes().decode("utf-8", "surrogatepass"))
            features = TfidfFeatures(
                Block("words", tuple(words), tensors["words.idf"]),
                Block("characters", tuple(characters), tensors["characters.idf"]),
            )
            keys = tensors["keys"]
            parts = tuple(tensors[f"postings.{part}"] for part in ("data", "indices", "indptr"))
            size, truncated = tensors["sizes"].tolist()
            return cls(
                size,
                features,
                csr_matrix(parts, shape=(len(features), len(keys))),
                keys.reshape(-1).view(f"S{keys.shape[1]}"),
                tensors["ids"],
                tensors["offsets"],
                tensors["labels"],
                tensors["label_offsets"],
                truncated,
            )
        except FileNotFoundError:
            raise ModelError(f"{path} is missing", "restore it from the run that made it") from None
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise ModelError(f"{path} is damaged ({error})", "restore it from the run that made it") from None


@dataclass(frozen=True, eq=False)
class Examples:
    """What stands between the label list and each of some texts.

    chosen: int64 ``[texts, N]``, rows of ``pool``, −1 for none.
    """

    pool: NearestShots
    prompt: Prompt
    chosen: Ints

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, i: int) -> Ints:
        return self.prompt.before_text([self.pool[row] for row in self.chosen[i].tolist() if row >= 0])

    @cached_property
    def lengths(self) -> Ints:
        """Tokens before every text."""
        return np.array([len(self[i]) for i in range(len(self))], np.int64)

    @property
    def figures(self) -> dict[str, int]:
        """How many rows are cut where they are examples, and how many texts have fewer examples than asked for."""
        fewer = int((self.chosen < 0).any(1).sum())
        return {"truncated_examples": self.pool.truncated, "texts_with_fewer_examples": fewer}

    @property
    def line(self) -> str:
        """The same in words."""
        cut, fewer = self.figures.values()
        return (
            f"the {self.pool.size} nearest of {len(self.pool):,} training rows stand before each text ({cut:,} of them cut to {SHOT_TOKENS} tokens there; "
            f"{fewer:,} texts have room for fewer, or no other text beside them)"
        )
