"""Faults put into real data on purpose, so that it is known what a check should find."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_matrix

LEAST_CHARACTERS = 40  # of a text that is copied: in a shorter one, a changed word is another text
FILLERS = ("please", "now", "really", "again", "maybe")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def retyped(text: str, draw: random.Random) -> str:
    """Other case and spacing: the same text to a reader."""
    return "  ".join(text.swapcase().split(" ")) + draw.choice(["", " ", "\n"])


def repunctuated(text: str, draw: random.Random) -> str:
    return f"«{text.upper()}»" + draw.choice(["!", "?!", "...", ";"])


def mistyped(text: str, draw: random.Random) -> str:
    place = draw.randrange(len(text))
    return text[:place] + draw.choice(_LETTERS) + text[place + 1 :]


def swapped(text: str, draw: random.Random) -> str:
    place = draw.randrange(len(text) - 1)
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def shortened(text: str, draw: random.Random) -> str:
    words = text.split()
    del words[draw.randrange(len(words))]
    return " ".join(words)


def extended(text: str, draw: random.Random) -> str:
    words = text.split()
    words.insert(draw.randrange(len(words) + 1), draw.choice(FILLERS))
    return " ".join(words)


def reworded(text: str, draw: random.Random) -> str:
    words = text.split()
    words[draw.randrange(len(words))] = draw.choice(FILLERS)
    return " ".join(words)


EDITS: dict[str, Callable[[str, random.Random], str]] = {
    "other punctuation and case": repunctuated,
    "one letter mistyped": mistyped,
    "two letters swapped": swapped,
    "one word added": extended,
    "one word dropped": shortened,
    "one word replaced": reworded,
}


def mislabelled(labels: list[str], share: float, draw: random.Random) -> list[str]:
    """The labels with ``share`` of them, drawn at random, replaced by another one drawn at random."""
    names = sorted(set(labels))
    wrong = set(draw.sample(range(len(labels)), round(share * len(labels))))
    return [
        draw.choice([name for name in names if name != label]) if row in wrong else label
        for row, label in enumerate(labels)
    ]


def mistaken(labels: list[str], share: float, draw: random.Random, x: csr_matrix) -> list[str]:
    """The labels with ``share`` of them replaced by the label whose rows are most like theirs (TF-IDF features ``x`` ``[n, F]``)."""
    names, codes = np.unique(labels, return_inverse=True)
    rows = csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))))
    centres = (rows @ x).toarray() / np.bincount(codes)[:, None]
    centres -= centres.mean(axis=0)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    likeness = centres @ centres.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = likeness.argmax(axis=1)
    wrong = set(draw.sample(range(len(labels)), round(share * len(labels))))
    return [str(names[nearest[code]]) if row in wrong else labels[row] for row, code in enumerate(codes)]
