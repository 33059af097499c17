from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sortal.backbone.longtexts import PLAIN, LongTexts
from sortal.errors import ConfigError

BUDGETS = st.lists(st.one_of(st.integers(1, 40), st.sampled_from(["all", "rest"])), min_size=1, max_size=5)


@st.composite
def windowed(draw):
    room = draw(st.integers(2, 30))
    long = LongTexts(windows=draw(st.integers(2, 6)), stride=draw(st.integers(0, room - 1)))
    length = draw(st.integers(0, long.capacity(room)))
    return long, room, np.arange(length, dtype=np.int32)


@given(windowed())
def test_windows_hold_every_token_overlap_by_stride_and_are_bounded(case):
    long, room, ids = case
    windows = long.cut_windows(ids, room)
    assert 1 <= len(windows) <= long.windows
    assert (len(windows) == 1) == (len(ids) <= room)
    assert all(len(window) == room for window in windows[:-1])
    for before, after in pairwise(windows):
        assert np.array_equal(before[room - long.stride :], after[: long.stride])
    rebuilt = [windows[0], *(window[long.stride :] for window in windows[1:])]
    assert np.array_equal(np.concatenate(rebuilt), ids)


def test_the_capacity_is_what_all_windows_hold_together():
    long = LongTexts(windows=3, stride=2)
    assert long.capacity(10) == 10 + 8 + 8
    assert [len(w) for w in long.cut_windows(np.arange(26, dtype=np.int32), 10)] == [10, 10, 10]
    assert [len(w) for w in long.cut_windows(np.arange(11, dtype=np.int32), 10)] == [10, 3]
    with pytest.raises(ConfigError, match="stride 10 leaves nothing new in a window, which holds 10 tokens"):
        LongTexts(windows=2, stride=10).capacity(10)


@given(BUDGETS, st.integers(0, 100), st.data())
def test_budgets_are_kept_and_the_room_is_filled(budgets, room, data):
    long = LongTexts(tuple((f"s{i}", budget) for i, budget in enumerate(budgets)))
    lengths = data.draw(st.lists(st.integers(0, 60), min_size=len(budgets), max_size=len(budgets)))
    kept = long.allot(lengths, room)
    wanted = [min(n, b) if isinstance(b, int) else n for n, b in zip(lengths, budgets, strict=True)]
    assert all(0 <= k <= w for k, w in zip(kept, wanted, strict=True))
    assert sum(kept) == min(room, sum(wanted))


def test_sections_are_filled_in_their_order_and_rest_last():
    long = LongTexts((("body", "rest"), ("title", "all"), ("claim", 5)))
    assert long.allot([50, 6, 50], 20) == [9, 6, 5]
    assert long.allot([50, 30, 50], 20) == [0, 20, 0]


def test_the_hash_is_of_everything_and_an_edit_is_refused():
    long = LongTexts((("title", "all"), ("claim", 5)), 3, 8, "max")
    saved = long.to_json("template")
    assert LongTexts.from_json(saved, "template") == long
    assert LongTexts.from_json(None, "template") is PLAIN
    assert PLAIN.hash("template") == "template" != long.hash("template") == saved["hash"]
    for changed in ({"windows": 4}, {"stride": 9}, {"aggregation": "mean"}, {"sections": [["title", 7]]}):
        with pytest.raises(ValueError, match="does not match its hash"):
            LongTexts.from_json({**saved, **changed}, "template")
    with pytest.raises(ValueError, match="does not match its hash"):
        LongTexts.from_json(saved, "another template")
