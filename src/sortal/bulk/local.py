"""Engine ``local``: this process, one shard after the other, the next one read and tokenised meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sortal.bulk.ahead import ahead
from sortal.bulk.engine import Job
from sortal.bulk.inputs import Input
from sortal.bulk.plan import Plan, plan
from sortal.bulk.scoring import ReadRows, ShardScorer
from sortal.bulk.work import Place
from sortal.classifier import Classifier
from sortal.data.records import Say
from sortal.training.progress import ProgressView, Within
from sortal.training.signals import Stoppable


@dataclass(frozen=True)
class LocalEngine:
    """Scores with ``classifier``; ``stop`` ends the planning between two shards."""

    classifier: Classifier
    stop: Stoppable

    def plan(self, inputs: Sequence[Input], reading: Sequence[dict[str, Any]], say: Say) -> list[Plan]:
        """See `Engine.plan`."""
        pairs = zip(inputs, reading, strict=True)
        return [plan(each, how, say, count=lambda rows: self.stop.advance(rows, 0)) for each, how in pairs]

    def score(self, job: Job, finished: frozenset[Place], view: ProgressView) -> Iterator[Place]:
        """See `Engine.score`."""
        scorer = ShardScorer(self.classifier)

        def read() -> Iterator[tuple[Place, ReadRows]]:
            for i in job.pending(finished):
                for number, rows in job.plans[i].read({shard for own, shard in finished if own == i}):
                    yield (i, number), scorer.read(rows)

        with ahead(read()) as shards:
            for place, rows in shards:
                job.work.store(place, scorer.answer(rows, job.formats[place[0]], Within(view)))
                yield place
