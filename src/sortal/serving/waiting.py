"""Texts that wait to be scored: which of them go together, and when."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

Answer = TypeVar("Answer")
Covariant = TypeVar("Covariant", covariant=True)


class Answering(Protocol[Covariant]):
    """What scores a batch. Two are the same when they are one object.

    batch_tokens: budget of one batch; a longer text is a batch of its own.
    """

    @property
    def batch_tokens(self) -> int:
        """Tokens of a batch."""

    def size(self, text: str) -> int:
        """Tokens of ``text``, about; at least 1."""

    def answer(self, texts: list[str]) -> Sequence[Covariant]:
        """One answer per text, in order."""


@dataclass(eq=False)
class Job(Generic[Answer]):
    """The texts of one request.

    since: when it came, in seconds of the batcher's clock. began: when its first text was scored. future: all its answers, in the
    order of ``texts``.
    """

    model: Answering[Answer]
    texts: Sequence[str]
    since: float
    future: Future[list[Answer]] = field(default_factory=Future)
    began: float | None = None

    def __post_init__(self) -> None:
        self._answers: dict[int, Answer] = {}

    def start(self, now: float) -> bool:
        """Mark it as begun; False when nobody waits for it any more."""
        if self.began is None and not self.future.done() and self.future.set_running_or_notify_cancel():
            self.began = now
        return not self.future.done()

    def finish(self, index: int, answer: Answer) -> None:
        """Keep the answer to one text; the last one completes ``future``."""
        self._answers[index] = answer
        if len(self._answers) == len(self.texts):
            self.future.set_result([self._answers[i] for i in range(len(self.texts))])

    def fail(self, error: Exception) -> None:
        """End ``future`` with ``error``."""
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(frozen=True, eq=False, slots=True)
class Text(Generic[Answer]):
    """One text of a job."""

    job: Job[Answer]
    index: int
    size: int

    @property
    def text(self) -> str:
        """Its words."""
        return self.job.texts[self.index]


class Waiting(Generic[Answer]):
    """Texts in order of arrival. A batch holds those of one model, the one that the oldest text is for.

    Args:
        latency: seconds that the oldest text waits for others before its batch is due.
    """

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._texts: deque[Text[Answer]] = deque()
        self._tokens: Counter[int] = Counter()  # by identity of the model

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, job: Job[Answer]) -> None:
        """Put all texts of ``job`` at the end."""
        for index, text in enumerate(job.texts):
            size = job.model.size(text)
            self._texts.append(Text(job, index, size))
            self._tokens[id(job.model)] += size

    def due_in(self, now: float) -> float | None:
        """Seconds until the next batch is due: 0 for at once, None when nothing waits."""
        if not self._texts:
            return None
        first = self._texts[0].job
        if self._tokens[id(first.model)] >= first.model.batch_tokens:
            return 0.0
        return max(0.0, first.since + self._latency - now)

    def take(self) -> list[Text[Answer]]:
        """The next batch, oldest first: at least one text, and no more than the model's budget."""
        model = self._texts[0].job.model
        batch: list[Text[Answer]] = []
        others: list[Text[Answer]] = []
        used = 0
        while self._texts:
            text = self._texts[0]
            if text.job.model is not model:
                others.append(self._texts.popleft())
                continue
            if batch and used + text.size > model.batch_tokens:
                break  # no later, shorter text overtakes it
            batch.append(self._texts.popleft())
            used += text.size
        self._texts.extendleft(reversed(others))
        self._tokens[id(model)] -= used
        return batch
