"""Small data to check, and what the checks say about it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sortal.checks import get_checks
from sortal.checks.base import CheckContext, Finding
from sortal.data.dataset import Dataset
from tiny_runs import write_csv

Row = tuple[str, str | tuple[str, ...]]


WORDS = {
    "sport": ["goal", "match", "team", "player", "league", "coach", "score", "win", "cup", "season"],
    "health": [
        "doctor",
        "nurse",
        "clinic",
        "patient",
        "drug",
        "vaccine",
        "disease",
        "hospital",
        "cure",
        "pain",
    ],
    "money": ["bank", "loan", "credit", "interest", "market", "share", "price", "stock", "trade", "tax"],
}


def dataset(rows: Sequence[Row], source: str) -> Dataset:
    """Rows of (text, label) or, for several labels, (text, labels)."""
    single = all(isinstance(label, str) for _, label in rows)
    labels = [(label,) if isinstance(label, str) else label for _, label in rows]
    texts = [text for text, _ in rows]
    return Dataset.from_lists(texts, labels, task="single" if single else "multi", source=source)


def context(
    train: Sequence[Row], *, dev: Sequence[Row] = (), test: Sequence[Row] = (), **more: Any
) -> CheckContext:
    """Parts named train.csv, dev.csv and test.csv."""
    parts = {"train": train} | {name: rows for name, rows in (("dev", dev), ("test", test)) if rows}
    return CheckContext({name: dataset(rows, f"{name}.csv") for name, rows in parts.items()}, **more)


def found(name: str, given: CheckContext) -> list[Finding]:
    """What the check called ``name`` finds."""
    return list(get_checks([name])[name](given))


def rows(finding: Finding) -> list[int]:
    """The rows of a finding, 1-based as a message names them."""
    return [row + 1 for row in finding.rows.tolist()]


def notes(finding: Finding) -> list[str]:
    """What is said about each row."""
    return [finding.note(i) for i in range(len(finding.rows))]


def news(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """Rows of three topics that their words tell."""
    draw = random.Random(seed)
    shared = ["the", "a", "of", "and", "in", "to", "for", "on", "with", "that"]
    found_ = []
    for _ in range(n):
        label = draw.choice(list(WORDS))
        found_.append((" ".join(draw.choices(WORDS[label], k=5) + draw.choices(shared, k=4)), label))
    return found_


def with_noise(
    rows: Sequence[tuple[str, str]], share: float, seed: int = 1
) -> tuple[list[tuple[str, str]], set[int]]:
    """The rows with some labels replaced at random, and which (0-based)."""
    draw = random.Random(seed)
    wrong = set(draw.sample(range(len(rows)), int(share * len(rows))))
    noisy = [
        (text, draw.choice([name for name in WORDS if name != label]) if i in wrong else label)
        for i, (text, label) in enumerate(rows)
    ]
    return noisy, wrong


def faulty_files(folder: Path) -> Path:
    """``train.csv``, which is returned, and ``test.csv``: wrong labels, copies, leaks, damage; texts and labels try to be markup."""
    marked = {"sport": "<b>sport</b>", "health": "`health`|x", "money": "money"}
    rows, _ = with_noise(news(200), 0.1)
    rows = [(f"{text} <script>alert({i})</script>", marked[label]) for i, (text, label) in enumerate(rows)]
    train = [
        *rows[:160],
        *rows[:3],
        (rows[4][0], "another"),
        ("", "money"),
        ("x" * 500 + " cafÃ© <img src=x>", "money"),
    ]
    test = [*rows[160:], *rows[10:14], (f"{rows[20][0]} again", rows[20][1])]
    write_csv(folder / "test.csv", test)
    return write_csv(folder / "train.csv", train)
