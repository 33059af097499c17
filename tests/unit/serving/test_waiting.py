"""Which texts go together, and when: a policy that needs neither threads nor a clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sortal.serving.waiting import Job, Waiting


def model(budget: int = 10) -> Any:
    """One that takes every character for a token."""
    return SimpleNamespace(batch_tokens=budget, size=len)


def words(batch: list[Any]) -> list[str]:
    return [text.text for text in batch]


def test_nothing_waits_for_nothing():
    assert Waiting(5.0).due_in(0.0) is None


def test_the_oldest_text_sets_the_time():
    waiting, one = Waiting(5.0), model()
    waiting.add(Job(one, ["a"], since=100.0))
    waiting.add(Job(one, ["b"], since=104.0))
    assert waiting.due_in(100.0) == 5.0
    assert waiting.due_in(104.0) == 1.0
    assert waiting.due_in(105.0) == 0.0
    assert waiting.due_in(999.0) == 0.0
    assert words(waiting.take()) == ["a", "b"]
    assert waiting.due_in(105.0) is None


def test_a_full_budget_is_due_at_once():
    waiting, one = Waiting(5.0), model(4)
    waiting.add(Job(one, ["aaa"], since=0.0))
    assert waiting.due_in(0.0) == 5.0
    waiting.add(Job(one, ["b"], since=0.0))
    assert waiting.due_in(0.0) == 0.0


def test_tokens_of_another_model_do_not_fill_the_budget_and_taken_ones_no_more():
    waiting, one, other = Waiting(5.0), model(4), model(4)
    waiting.add(Job(one, ["aaa"], since=0.0))
    waiting.add(Job(other, ["bbbb"], since=0.0))
    assert waiting.due_in(0.0) == 5.0
    assert words(waiting.take()) == ["aaa"]
    assert waiting.due_in(0.0) == 0.0
    assert words(waiting.take()) == ["bbbb"]
    waiting.add(Job(one, ["c"], since=0.0))
    assert waiting.due_in(0.0) == 5.0


def test_a_batch_holds_one_model_and_others_keep_their_places():
    waiting, one, other = Waiting(0.0), model(), model()
    for mine, text in ((one, "a"), (other, "b"), (one, "c"), (other, "d"), (one, "e")):
        waiting.add(Job(mine, [text], since=0.0))
    assert [words(waiting.take()) for _ in range(2)] == [["a", "c", "e"], ["b", "d"]]


def test_a_shorter_text_does_not_overtake():
    waiting, one = Waiting(0.0), model(4)
    waiting.add(Job(one, ["aa", "bbb", "c"], since=0.0))
    assert [words(waiting.take()) for _ in range(2)] == [["aa"], ["bbb", "c"]]


def test_a_text_longer_than_the_budget_is_alone():
    waiting, one = Waiting(0.0), model(4)
    waiting.add(Job(one, ["a" * 9, "b"], since=0.0))
    assert [words(waiting.take()) for _ in range(2)] == [["a" * 9], ["b"]]


@given(
    st.lists(st.tuples(st.sampled_from([0, 1]), st.lists(st.text("x", min_size=1, max_size=7), min_size=1)))
)
def test_every_text_is_taken_once_in_its_models_order_within_the_budget(requests):
    models = [model(8), model(5)]
    waiting: Waiting[Any] = Waiting(0.0)
    expected: list[list[Any]] = [[], []]
    for which, texts in requests:
        job = Job(models[which], texts, since=0.0)
        waiting.add(job)
        expected[which] += [(job, index) for index in range(len(texts))]
    taken: list[list[Any]] = [[], []]
    while len(waiting):
        batch = waiting.take()
        which = models.index(batch[0].job.model)
        assert all(text.job.model is models[which] for text in batch)
        assert len(batch) == 1 or sum(text.size for text in batch) <= models[which].batch_tokens
        taken[which] += [(text.job, text.index) for text in batch]
    assert taken == expected


# a job


def test_answers_come_in_the_order_of_the_texts_however_they_are_finished():
    job: Job[str] = Job(model(), ["a", "b", "c"], since=0.0)
    for index in (2, 0, 1):
        assert not job.future.done()
        job.finish(index, f"answer {index}")
    assert job.future.result() == ["answer 0", "answer 1", "answer 2"]


def test_a_failed_job_stays_failed():
    job: Job[str] = Job(model(), ["a", "b"], since=0.0)
    assert job.start(1.0)
    job.fail(ValueError("first"))
    job.fail(ValueError("second"))
    assert not job.start(2.0)
    with pytest.raises(ValueError, match="first"):
        job.future.result()


def test_a_job_that_nobody_waits_for_is_not_begun():
    job: Job[str] = Job(model(), ["a"], since=0.0)
    job.future.cancel()
    assert not job.start(1.0)
    assert not job.start(2.0)
    assert job.began is None
