"""Short runs of the methods without a pretrained model."""

from __future__ import annotations

from sortal.config import build_config
from sortal.run import run

TOPICS = [
    ("parcel late", "p"),
    ("money back", "m"),
    ("late parcel money", "p|m"),
    ("hello", ""),
    ("refund of the money", "m"),
]


def topics(n=60):
    """Multi-label rows; no two texts are alike."""
    return [(f"{TOPICS[i % 5][0]} {i}", TOPICS[i % 5][1]) for i in range(n)]


def baseline(data, out, method="tfidf", *, said=None, **settings):
    """A run of a baseline; ``said`` collects what was printed."""
    values = {"data": str(data), "out": str(out), "method": method, "n_resamples": 100, **settings}
    return run(build_config(values), say=([] if said is None else said).append, quiet=True)
