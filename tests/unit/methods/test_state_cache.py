from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from sortal.errors import ConfigError, ResourceError
from sortal.methods.state_cache import StateCache, states_key

SHAPE = (2, 3, 4)
ROW = 2 * 24
FACTS = {"base": "a", "dtype": "float32"}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path))
    return tmp_path / "states"


def keys(*values):
    return [states_key(np.array([value], np.int32), 0) for value in values]


def made(n, start=0):
    return np.arange(start, start + n * 24, dtype=np.float16).reshape(n, *SHAPE)


def limit(monkeypatch, rows):
    monkeypatch.setenv("SORTAL_STATES_GB", str(rows * (ROW + 16) / 1e9))


def test_rows_are_found_again_by_another_process_and_in_any_order():
    with StateCache(FACTS, SHAPE) as cache:
        assert cache.missing(keys(1, 2, 1)) == [0, 1], "equal texts are read once"
        cache.add(keys(1, 2), made(2))
    with StateCache(FACTS, SHAPE) as cache:
        assert cache.missing(keys(2, 3, 1)) == [1]
        found = cache.read(keys(2, 1, 2))
        assert found.shape == SHAPE
        assert len(found) == 3
        for index in ((0, 0), (1, 2)):
            np.testing.assert_array_equal(found[index], made(2)[[1, 0, 1]][:, *index].astype(np.float32))


def test_what_a_kill_left_half_written_is_read_again():
    with StateCache(FACTS, SHAPE) as cache:
        cache.add(keys(1, 2), made(2))
        folder = cache.folder
    with (folder / "states.f16").open("ab") as file:  # a third row whose key was never written
        file.write(b"\1" * (ROW - 5))
    with StateCache(FACTS, SHAPE) as cache:
        assert cache.missing(keys(1, 2, 3)) == [2]
        cache.add(keys(3), made(1, start=48))
        np.testing.assert_array_equal(cache.read(keys(3))[0, 0], [made(1, start=48)[0, 0, 0]])
    os.truncate(folder / "states.f16", 2 * ROW + 1)  # a third key whose row is torn
    with StateCache(FACTS, SHAPE) as cache:
        assert cache.missing(keys(1, 2, 3)) == [2]


def test_other_models_and_other_precisions_have_folders_of_their_own():
    with StateCache(FACTS, SHAPE) as cache:
        cache.add(keys(1), made(1))
    for facts, shape in (({**FACTS, "dtype": "bfloat16"}, SHAPE), (FACTS, (2, 4, 3))):
        with StateCache(facts, shape) as cache:
            assert cache.missing(keys(1)) == [0]


def test_a_key_depends_on_the_tokens_and_on_what_a_mean_leaves_out():
    ids = np.array([5, 6], np.int32)
    found = {states_key(ids, 0), states_key(ids, 1), states_key(ids[::-1].copy(), 0), states_key(ids[:1], 0)}
    assert len(found) == 4


def test_the_folder_not_used_for_longest_makes_room_first(monkeypatch, place):
    folders = []
    for number in range(3):
        with StateCache({"base": number}, SHAPE) as cache:
            cache.add(keys(*range(10)), made(10))
            folders.append(cache.folder)
        os.utime(cache.folder / "facts.json", (number, number))
    limit(monkeypatch, 30)
    with StateCache({"base": 2}, SHAPE) as cache:
        cache.make_room(10)
        assert [folder.exists() for folder in folders] == [False, True, True]
        assert cache.missing(keys(*range(10))) == []


def test_a_folder_in_use_is_not_taken_away(monkeypatch):
    with StateCache({"base": 1}, SHAPE) as held:
        held.add(keys(*range(10)), made(10))
        limit(monkeypatch, 15)
        with StateCache({"base": 2}, SHAPE) as cache:
            cache.make_room(10)
        assert held.missing(keys(*range(10))) == []
        assert (held.folder / "states.f16").stat().st_size == 10 * ROW


def test_its_own_rows_go_last(monkeypatch):
    with StateCache(FACTS, SHAPE) as cache:
        cache.add(keys(*range(10)), made(10))
        limit(monkeypatch, 15)
        cache.make_room(12)
        assert cache.missing(keys(*range(10))) == list(range(10))
        cache.add(keys(50), made(1))
        np.testing.assert_array_equal(cache.read(keys(50))[1, 0], made(1)[:, 1, 0])


def test_more_than_may_be_kept_is_refused_with_the_sizes(monkeypatch):
    monkeypatch.setenv("SORTAL_STATES_GB", "0.000001")
    with (
        StateCache(FACTS, SHAPE) as cache,
        pytest.raises(
            ResourceError,
            match=r"(?s)states take .* lower probe_rows \(now 100 texts\), or raise SORTAL_STATES_GB",
        ),
    ):
        cache.make_room(100)


def test_a_limit_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv("SORTAL_STATES_GB", "many")
    with StateCache(FACTS, SHAPE) as cache, pytest.raises(ConfigError, match="SORTAL_STATES_GB is 'many'"):
        cache.make_room(1)


def test_a_second_user_waits_for_the_first():
    order = []

    def second():
        with StateCache(FACTS, SHAPE) as cache:
            order.append(cache.missing(keys(1)))

    with StateCache(FACTS, SHAPE) as cache:
        other = threading.Thread(target=second)
        other.start()
        cache.add(keys(1), made(1))
        order.append("first is done")
    other.join()
    assert order == ["first is done", []]
