"""A classifier that turns the rows of a shard into bytes of an output file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sortal.bulk.formats import Format
from sortal.bulk.plan import Rows
from sortal.classifier import Classifier
from sortal.methods.base import ReadsTokens
from sortal.training.progress import ProgressView


@dataclass(frozen=True)
class ReadRows:
    """Ids, and what the scorer reads of the texts."""

    ids: list[str]
    read: Any


@dataclass(frozen=True)
class ShardScorer:
    """Ids in, answers out; a shard is scored on its own, so its bytes do not depend on what came before."""

    classifier: Classifier

    def read(self, rows: Rows) -> ReadRows:
        """Tokenise, for a method that reads tokens; this may run in a thread beside `answer`."""
        scorer = self.classifier.scorer
        return ReadRows(
            rows.ids, scorer.encode(rows.texts) if isinstance(scorer, ReadsTokens) else rows.texts
        )

    def answer(self, rows: ReadRows, form: Format, view: ProgressView) -> bytes:
        """The rows of an output file.

        Raises:
            ModelError: a score is not a number.
        """
        scorer, decision = self.classifier.scorer, self.classifier.decision
        score = scorer.score_encoded if isinstance(scorer, ReadsTokens) else scorer.score
        probabilities = decision.probabilities(score(rows.read, view))
        return form.encode(rows.ids, probabilities, decision.decide(probabilities))
