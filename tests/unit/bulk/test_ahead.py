"""Work in a thread ahead of its use."""

from __future__ import annotations

import threading

import pytest

from sortal.bulk.ahead import ahead


def sortal_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sortal-ahead"]


def test_items_keep_their_order():
    with ahead(iter(range(50))) as items:
        assert list(items) == list(range(50))
    assert not sortal_threads()


def test_the_next_items_are_made_while_one_is_used_and_no_more_than_that():
    made: list[int] = []
    third = threading.Event()

    def items():
        for i in range(10):
            made.append(i)
            if i == 2:
                third.set()
            yield i

    with ahead(items(), depth=1) as drawn:
        assert next(drawn) == 0
        assert third.wait(10), "made without being asked for"
        assert made == [0, 1, 2], "one waits, one is in the thread's hands"


def test_an_exception_is_raised_where_the_item_would_have_been():
    def items():
        yield 1
        raise ValueError("here")

    with ahead(items()) as drawn:
        assert next(drawn) == 1
        with pytest.raises(ValueError, match="here"):
            next(drawn)
    assert not sortal_threads()


def test_leaving_early_ends_the_thread():
    with ahead(iter(range(10**9))) as drawn:
        assert next(drawn) == 0
    assert not sortal_threads()
