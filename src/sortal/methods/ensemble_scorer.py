"""The scorer of an ensemble: several classifiers read the same texts, and their scores are added."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from sortal import model_folder
from sortal.methods.base import Encoded, ReadsTokens, Scorer, Scores
from sortal.training.progress import ProgressView

FOLDER = "members"


@dataclass(frozen=True)
class Member:
    """One classifier of an ensemble; ``weight`` is what its scores are multiplied with, ``folder`` its model's."""

    scorer: Scorer
    weight: float
    folder: Path


@dataclass(frozen=True)
class EnsembleScorer:
    """The weighted sum of the members' scores."""

    members: tuple[Member, ...]

    def score(self, texts: Iterable[str], view: ProgressView | None = None) -> Scores:
        """Log-probabilities up to a constant (single-label) or log-odds ``[n, L]``, fp32; one member after the other reads all texts."""
        texts = texts if isinstance(texts, Sequence) else list(texts)
        return weighted((member.weight, member.scorer.score(texts, view)) for member in self.members)

    def save(self, folder: Path) -> dict[str, Any]:
        """Copy every member's model folder into ``members/``."""
        entries = []
        for number, member in enumerate(self.members):
            shutil.copytree(member.folder, folder / FOLDER / str(number))
            meta = model_folder.read_meta(member.folder)
            entries.append(
                {
                    "method": meta["method"],
                    "base_model": meta["base_model"],
                    "weight": member.weight,
                    "sha256": digest(member.folder),
                }
            )
        return {"members": entries}


@dataclass(frozen=True)
class EnsembleTexts:
    """Texts, and what the members that read tokens read of them (None for the others)."""

    texts: Sequence[str]
    tokens: tuple[Encoded | None, ...]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of every text, ``[n]``, all members together."""
        lengths = [tokens.lengths for tokens in self.tokens if tokens is not None]
        together: npt.NDArray[np.int64] = np.stack(lengths).sum(axis=0)
        return together


@dataclass(frozen=True)
class TokenEnsembleScorer(EnsembleScorer):
    """An ensemble with members that read tokens, so that batches can be measured before they are scored."""

    @property
    def max_tokens(self) -> int:
        """What one forward of every member takes; more is scored in several."""
        return sum(
            member.scorer.max_tokens for member in self.members if isinstance(member.scorer, ReadsTokens)
        )

    def score(self, texts: Iterable[str], view: ProgressView | None = None) -> Scores:
        """See `EnsembleScorer.score`."""
        return self.score_encoded(self.encode(texts), view)

    def encode(self, texts: Iterable[str]) -> EnsembleTexts:
        """What the members read of ``texts``."""
        texts = texts if isinstance(texts, Sequence) else list(texts)
        scorers = [member.scorer for member in self.members]
        return EnsembleTexts(
            texts, tuple(s.encode(texts) if isinstance(s, ReadsTokens) else None for s in scorers)
        )

    def score_encoded(self, texts: EnsembleTexts, view: ProgressView | None = None) -> Scores:
        """Scores ``[n, L]`` of what `encode` gave."""
        return weighted(
            (
                member.weight,
                member.scorer.score(texts.texts, view)
                if tokens is None
                else cast(ReadsTokens, member.scorer).score_encoded(tokens, view),
            )
            for member, tokens in zip(self.members, texts.tokens, strict=True)
        )


def ensemble_of(members: Iterable[Member]) -> EnsembleScorer:
    """The members' scorer; of one that reads tokens where any of them does."""
    members = tuple(members)
    reads = any(isinstance(member.scorer, ReadsTokens) for member in members)
    return TokenEnsembleScorer(members) if reads else EnsembleScorer(members)


def weighted(parts: Iterable[tuple[float, Scores]]) -> Scores:
    """The sum of (weight, scores ``[n, L]``), added in fp64, as fp32."""
    total: Any = 0.0
    for weight, scores in parts:
        total = total + weight * scores.astype(np.float64)
    found: Scores = total.astype(np.float32)
    return found


def digest(folder: Path) -> str:
    """SHA-256 of a model folder's ``sortal.json``, which holds those of its files."""
    return hashlib.sha256((folder / model_folder.NAME).read_bytes()).hexdigest()
