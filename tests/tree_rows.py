"""Rows that branch anywhere, for tests of packs and of attention."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from sortal.backbone.trees import TreeRow

PROMPT = np.random.default_rng(9).integers(2, 258, 13)  # twice the sliding windows of 6

# Parents of every token, -1 for the prompt: chains and trees, with several roots and branches anywhere.
forests = st.lists(
    st.integers(1, 14).flatmap(lambda m: st.tuples(*(st.integers(-1, i - 1) for i in range(m)))),
    min_size=1,
    max_size=6,
)


def tree_row(parents, seed=0):
    ids = np.random.default_rng([seed, len(parents)]).integers(2, 258, len(parents))
    visible, depth = np.eye(len(ids), dtype=bool), np.zeros(len(ids), np.int64)
    for i, parent in enumerate(parents):
        if parent >= 0:
            visible[i] |= visible[parent]
            depth[i] = depth[parent] + 1
    return TreeRow(ids, depth, visible)
