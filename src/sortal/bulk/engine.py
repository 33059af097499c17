"""What an engine is: something that scores the shards of a job and stores each in its work folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sortal.bulk.formats import Format
from sortal.bulk.inputs import Input
from sortal.bulk.plan import Plan
from sortal.bulk.work import Place, Work
from sortal.data.records import Say
from sortal.training.progress import ProgressView


@dataclass(frozen=True)
class Job:
    """What is to be scored, and where it goes; ``formats`` are those of every plan's output, ``weights`` as of `sortal.load`."""

    model_dir: str
    plans: tuple[Plan, ...]
    formats: tuple[Format, ...]
    work: Work
    weights: str = "saved"

    def pending(self, finished: frozenset[Place]) -> list[int]:
        """The inputs with shards that are not ``finished``."""
        return [
            i
            for i, plan in enumerate(self.plans)
            if any((i, shard) not in finished for shard in range(len(plan.shards)))
        ]


class Engine(Protocol):
    """Where the work is done."""

    def plan(self, inputs: Sequence[Input], reading: Sequence[dict[str, Any]], say: Say) -> list[Plan]:
        """The plan of every input, made with its ``reading``."""

    def score(self, job: Job, finished: frozenset[Place], view: ProgressView) -> Iterator[Place]:
        """Every shard that is not ``finished``, once it is stored; in any order.

        Args:
            job: what is to be scored.
            finished: shards that need nothing more.
            view: is told rows and tokens, and raises `sortal.training.signals.StopAsked` when a stop was asked for.
        """
