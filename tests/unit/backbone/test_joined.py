from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.backbone.joined import alphabetical, common_beginning, join

texts = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=12).map(lambda ids: np.array(ids, np.int64)),
    min_size=1,
    max_size=12,
)


def _visible(row):
    m = len(row.ids)
    return np.tri(m, dtype=bool) if row.visible is None else row.visible


@settings(max_examples=200, deadline=None)
@given(texts=texts, width=st.integers(1, 30), ordered=st.booleans())
def test_every_texts_tokens_see_that_text_and_nothing_else(texts, width, ordered):
    if ordered:
        texts = [texts[i] for i in alphabetical(texts)]
    rows = join(texts, width)
    paths = [(made.row, path) for made in rows for path in made.paths]
    assert len(paths) == len(texts)
    for text, (row, path) in zip(texts, paths, strict=True):
        np.testing.assert_array_equal(row.ids[path], text)
        depth = np.arange(len(row.ids)) if row.depth is None else row.depth
        np.testing.assert_array_equal(depth[path], np.arange(len(text)))
        for position, token in enumerate(path):
            np.testing.assert_array_equal(np.flatnonzero(_visible(row)[token]), np.sort(path[: position + 1]))


@settings(max_examples=200, deadline=None)
@given(texts=texts)
def test_in_alphabetical_order_no_token_is_computed_twice(texts):
    ordered = [texts[i] for i in alphabetical(texts)]
    beginnings = {tuple(text[:n].tolist()) for text in texts for n in range(1, len(text) + 1)}
    assert sum(len(made.row.ids) for made in join(ordered, 10_000)) == len(beginnings)


@settings(max_examples=100, deadline=None)
@given(texts=texts, width=st.integers(1, 30))
def test_a_row_is_within_its_width_unless_it_is_one_text(texts, width):
    for made in join(texts, width):
        assert len(made.row.ids) <= max(width, len(made.paths[0])) or len(made.paths) == 1


def test_texts_without_a_common_beginning_stay_chains():
    rows = join([np.array([1, 2]), np.array([2, 2])])
    assert [made.row.visible for made in rows] == [None, None]
    assert common_beginning(np.array([1, 2, 3]), np.array([1, 2])) == 2
    assert common_beginning(np.array([1]), np.array([2])) == 0
