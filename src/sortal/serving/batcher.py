"""Requests of many clients, scored together in one thread that alone touches the models."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from sortal.serving.waiting import Answer, Answering, Job, Text, Waiting

_LONGEST_RETRY = 60


class QueueFull(Exception):  # noqa: N818 - a state, not a failure
    """No room for a request now; ``retry_after`` seconds from now there may be."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; retry after {retry_after} s")
        self.retry_after = retry_after


@dataclass(frozen=True)
class BatchDone(Generic[Answer]):
    """What one batch was: its model, its answers (none when it failed), and the seconds it took."""

    model: Answering[Answer]
    texts: int
    answers: Sequence[Answer]
    seconds: float


class Batcher(Generic[Answer]):
    """Puts requests into batches and answers them in `run`; everything else may be called from any thread.

    Args:
        latency: seconds that a text waits at most for others while nothing is being scored.
        max_texts: texts that may be accepted and not answered yet.
        watch: called after every batch, in the thread of `run`.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        latency: float,
        max_texts: int,
        watch: Callable[[BatchDone[Answer]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waiting: Waiting[Answer] = Waiting(latency)
        self._max_texts, self._watch, self._clock = max_texts, watch, clock
        self._changed = threading.Condition()
        self._pending = 0
        self._seconds_per_text = 0.0
        self._closed = False

    @property
    def pending(self) -> int:
        """Texts accepted and not answered yet."""
        return self._pending

    @property
    def retry_after(self) -> int:
        """Whole seconds, from 1 to 60, until what is pending should be answered at the pace of the last batches."""
        return min(_LONGEST_RETRY, max(1, math.ceil(self._pending * self._seconds_per_text)))

    def submit(self, model: Answering[Answer], texts: Sequence[str]) -> Job[Answer]:
        """Accept the texts of one request; ``job.future`` gives their answers.

        Raises:
            QueueFull: there is no room for all of them.
        """
        job = Job(model, texts, self._clock())
        if not texts:
            job.future.set_result([])
            return job
        with self._changed:
            if self._closed or self._pending + len(texts) > self._max_texts:
                raise QueueFull(self.retry_after)
            self._pending += len(texts)
            self._waiting.add(job)
            self._changed.notify()
        return job

    def close(self) -> None:
        """Accept nothing more; `run` answers what waits and returns."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def run(self) -> None:
        """Score batches until `close`."""
        while batch := self._next():
            self._score(batch)

    def _next(self) -> list[Text[Answer]]:
        """The next batch, as soon as it is due; empty after `close` when nothing is left."""
        with self._changed:
            while True:
                seconds = self._waiting.due_in(self._clock())
                if seconds is None and self._closed:
                    return []
                if seconds == 0 or (seconds is not None and self._closed):
                    return self._waiting.take()
                self._changed.wait(seconds)

    def _score(self, batch: list[Text[Answer]]) -> None:
        """Answer ``batch``; when it fails, its halves, so that one bad text or a lack of memory costs no other request."""
        began = self._clock()
        asked = [text for text in batch if text.job.start(began)]
        self._release(len(batch) - len(asked))
        if not asked:
            return
        model = asked[0].job.model
        try:
            answers = model.answer([text.text for text in asked])
            if len(answers) != len(asked):
                raise RuntimeError(f"{len(asked)} texts got {len(answers)} answers")
        except Exception as error:
            self._done(BatchDone(model, len(asked), (), self._clock() - began))
            if len(asked) == 1:
                self._release(1)
                asked[0].job.fail(error)
                return
            middle = len(asked) // 2
            self._score(asked[:middle])
            self._score(asked[middle:])
            return
        self._done(BatchDone(model, len(asked), answers, self._clock() - began))
        self._release(len(asked))
        for text, answer in zip(asked, answers, strict=True):
            text.job.finish(text.index, answer)

    def _release(self, texts: int) -> None:
        # Before the answer is given: who has it may ask again at once and must find room.
        with self._changed:
            self._pending -= texts

    def _done(self, batch: BatchDone[Answer]) -> None:
        pace = batch.seconds / batch.texts
        self._seconds_per_text += (pace - self._seconds_per_text) * (0.2 if self._seconds_per_text else 1.0)
        self._watch(batch)
