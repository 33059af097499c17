"""The thread that answers: order, latency, a full queue, failures, the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

import pytest

from sortal.serving.batcher import BatchDone, Batcher, QueueFull

LONG = 3600.0
PATIENCE = 60.0


class Echo:
    """Answers every text with itself in capitals; keeps the batches it saw.

    hold: answering waits until it is set. bad: texts that no batch with them survives. most: texts it has memory for.
    """

    def __init__(self, budget: int = 100, bad: tuple[str, ...] = (), most: int = 1000) -> None:
        self.batch_tokens, self.bad, self.most = budget, bad, most
        self.batches: list[list[str]] = []
        self.hold, self.entered = threading.Event(), threading.Event()
        self.hold.set()

    def size(self, text: str) -> int:
        return len(text)

    def answer(self, texts: list[str]) -> list[str]:
        self.batches.append(texts)
        self.entered.set()
        assert self.hold.wait(PATIENCE)
        if len(texts) > self.most:
            raise MemoryError
        if set(texts) & set(self.bad):
            raise ValueError("a text that no model can read")
        return [text.upper() for text in texts]


@contextmanager
def running(
    *,
    latency: float = 0.0,
    max_texts: int = 100,
    watch: Callable[[BatchDone[str]], None] = lambda done: None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Batcher[str]]:
    batcher: Batcher[str] = Batcher(latency=latency, max_texts=max_texts, watch=watch, clock=clock)
    thread = threading.Thread(target=batcher.run, daemon=True)
    thread.start()
    try:
        yield batcher
    finally:
        batcher.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def answers(job: Any) -> list[str]:
    found: list[str] = job.future.result(PATIENCE)
    return found


def held(batcher: Batcher[str], model: Echo) -> Any:
    """A job whose batch is being answered until ``model.hold`` is set."""
    model.hold.clear()
    model.entered.clear()
    job = batcher.submit(model, ["held"])
    assert model.entered.wait(PATIENCE)
    return job


def test_requests_that_come_while_one_is_answered_share_the_next_batch():
    model = Echo()
    with running() as batcher:
        first = held(batcher, model)
        others = [batcher.submit(model, [f"a{i}", f"b{i}"]) for i in range(5)]
        model.hold.set()
        assert answers(first) == ["HELD"]
        assert [answers(job) for job in others] == [[f"A{i}", f"B{i}"] for i in range(5)]
    assert [len(batch) for batch in model.batches] == [1, 10]


def test_a_request_larger_than_the_budget_gets_its_answers_in_order():
    model = Echo(budget=7)
    texts = [f"t{i:02}" for i in range(20)]
    with running() as batcher:
        assert answers(batcher.submit(model, texts)) == [text.upper() for text in texts]
    assert max(map(len, model.batches)) == 2


def test_a_lonely_text_is_answered_when_the_latency_has_passed():
    with running(latency=0.01) as batcher:
        assert answers(batcher.submit(Echo(), ["a"])) == ["A"]


def test_a_full_batch_does_not_wait_for_the_latency():
    model = Echo(budget=2)
    with running(latency=LONG) as batcher:
        jobs = [batcher.submit(model, [text]) for text in "ab"]
        assert [answers(job) for job in jobs] == [["A"], ["B"]]
    assert model.batches == [["a", "b"]]


def test_an_empty_request_is_answered_at_once():
    with running(latency=LONG) as batcher:
        assert batcher.submit(Echo(), []).future.result(0) == []
        assert batcher.pending == 0


def test_a_full_queue_refuses_the_whole_request_and_takes_one_that_fits():
    model = Echo()
    with running(max_texts=4) as batcher:
        first = held(batcher, model)
        second = batcher.submit(model, ["b", "c"])
        with pytest.raises(QueueFull) as full:
            batcher.submit(model, ["d", "e"])
        assert 1 <= full.value.retry_after <= 60
        assert batcher.pending == 3
        third = batcher.submit(model, ["d"])
        model.hold.set()
        assert [answers(job) for job in (first, second, third)] == [["HELD"], ["B", "C"], ["D"]]
        assert batcher.pending == 0


def test_who_has_an_answer_finds_room_for_the_next_question():
    model = Echo()
    with running(max_texts=1) as batcher:
        for _ in range(200):
            assert answers(batcher.submit(model, ["a"])) == ["A"]


def test_a_client_is_asked_to_wait_for_what_is_pending_at_the_pace_of_the_last_batch():
    now = [0.0]

    class Slow(Echo):
        def answer(self, texts: list[str]) -> list[str]:
            now[0] += 2.0 * len(texts)
            return super().answer(texts)

    model = Slow()
    with running(clock=lambda: now[0]) as batcher:
        assert batcher.retry_after == 1
        assert answers(batcher.submit(model, ["a", "b"])) == ["A", "B"]
        jobs = [held(batcher, model), batcher.submit(model, list("bcde"))]
        assert batcher.retry_after == 10
        jobs.append(batcher.submit(model, list("x" * 90)))
        assert batcher.retry_after == 60
        model.hold.set()
        assert [len(answers(job)) for job in jobs] == [1, 4, 90]


def test_a_bad_text_fails_its_own_request_only():
    model = Echo(bad=("bad",))
    with running() as batcher:
        first = held(batcher, model)
        good = [batcher.submit(model, [f"a{i}"]) for i in range(3)]
        poisoned = batcher.submit(model, ["fine", "bad", "fine too"])
        more = [batcher.submit(model, [f"b{i}"]) for i in range(3)]
        model.hold.set()
        assert answers(first) == ["HELD"]
        assert [answers(job) for job in good] == [[f"A{i}"] for i in range(3)]
        assert [answers(job) for job in more] == [[f"B{i}"] for i in range(3)]
        with pytest.raises(ValueError, match="no model can read"):
            answers(poisoned)
        assert answers(batcher.submit(model, ["later"])) == ["LATER"]
        assert batcher.pending == 0


def test_a_batch_too_large_for_the_memory_is_answered_in_parts():
    model, seen = Echo(most=3), []
    with running(watch=seen.append) as batcher:
        texts = list("abcdefgh")
        assert answers(batcher.submit(model, texts)) == [text.upper() for text in texts]
    assert [(done.texts, len(done.answers)) for done in seen] == [
        (8, 0),
        (4, 0),
        (2, 2),
        (2, 2),
        (4, 0),
        (2, 2),
        (2, 2),
    ]


def test_too_few_answers_are_a_failure_and_not_somebody_elses():
    class Short(Echo):
        def answer(self, texts: list[str]) -> list[str]:
            return super().answer(texts)[1:]

    with running() as batcher, pytest.raises(RuntimeError, match="1 texts got 0 answers"):
        answers(batcher.submit(Short(), ["a"]))


def test_the_texts_of_a_client_that_has_gone_are_not_scored():
    model = Echo()
    with running() as batcher:
        first = held(batcher, model)
        gone, there = batcher.submit(model, ["gone"]), batcher.submit(model, ["there"])
        assert gone.future.cancel()
        model.hold.set()
        assert (answers(first), answers(there)) == (["HELD"], ["THERE"])
        with pytest.raises(CancelledError):
            gone.future.result(0)
    assert model.batches == [["held"], ["there"]]
    assert batcher.pending == 0


def test_closing_answers_what_was_accepted_without_waiting_for_company_and_takes_nothing_more():
    model = Echo(budget=3)
    with running(latency=LONG) as batcher:
        jobs = [batcher.submit(model, [text]) for text in ("a", "b")]
        batcher.close()
        assert [answers(job) for job in jobs] == [["A"], ["B"]]
        with pytest.raises(QueueFull):
            batcher.submit(model, ["c"])


def test_models_take_turns_by_the_age_of_their_texts():
    order: list[str] = []

    class Named(Echo):
        def answer(self, texts: list[str]) -> list[str]:
            order.extend(texts)
            return super().answer(texts)

    one, other = Named(), Named()
    with running() as batcher:
        first = held(batcher, one)
        jobs = [batcher.submit(m, [t]) for m, t in ((other, "b"), (one, "c"), (other, "d"))]
        one.hold.set()
        answers(first)
        assert [answers(job) for job in jobs] == [["B"], ["C"], ["D"]]
    assert order == ["held", "b", "d", "c"]


def test_many_threads_get_their_own_answers():
    model, wrong = Echo(budget=50), []
    with running(latency=0.001, max_texts=10_000) as batcher:

        def ask(number: int) -> None:
            for i in range(50):
                texts = [f"t{number}-{i}-{k}" for k in range(1 + i % 4)]
                if answers(batcher.submit(model, texts)) != [text.upper() for text in texts]:
                    wrong.append(texts)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert wrong == []
    assert len(model.batches) < 8 * 50
