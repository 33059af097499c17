"""Random trees of labels for property tests, and a small one of patents."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from sortal.hierarchy.tree import LabelTree

# D: D06 (D06Q, D06C), D07; B: B32
PARENTS = {"D": None, "B": None, "D06": "D", "D07": "D", "B32": "B", "D06Q": "D06", "D06C": "D06"}
SMALL = LabelTree.from_parents(PARENTS, sorted(PARENTS))


@st.composite
def trees(draw, most=12):
    """A tree of up to ``most`` nodes in an order that says nothing about their places; ragged and with several tops."""
    n = draw(st.integers(2, most))
    parents = [draw(st.integers(-1, node - 1)) for node in range(n)]
    order = draw(st.permutations(range(n)))
    names = {node: f"n{order[node]}" for node in range(n)}
    parent_of = {names[k]: None if up < 0 else names[up] for k, up in enumerate(parents)}
    return LabelTree.from_parents(parent_of, sorted(parent_of))


def ancestors(tree, node):
    """Positions of a node and all above it, by walking."""
    found = set()
    while node >= 0:
        found.add(node)
        node = tree.parents[node]
    return found


def leaves(tree):
    """Names of nodes without children."""
    return tuple(name for k, name in enumerate(tree.nodes) if k not in tree.parents)


def random_scores(seed, n, width, scale=4.0):
    """fp32 ``[n, width]``."""
    return (np.random.default_rng(seed).normal(size=(n, width)) * scale).astype(np.float32)
