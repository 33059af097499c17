"""The public data sets of the study, as JSON Lines files with ``id``, ``text`` and ``labels``: whole, or a declared sample."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pc
import pyarrow.json as pj
import pyarrow.parquet as pq

Row = dict[str, Any]
UNSEEN = ("spam", "tweets", "opinions", "dialogue", "sayings", "packages", "debtags")


@dataclass(frozen=True)
class PaperSet:
    """Where a set's rows are and what they say.

    dev: None where train has to give some of its rows. labels: of a row of the file.
    """

    folder: str
    train: str
    dev: str | None
    test: str
    text: tuple[str, ...]
    labels: Callable[[Row], list[str]]
    single: bool


SETS = {
    "banking77": PaperSet(
        "banking77", "train.csv", None, "test.csv", ("text",), lambda row: [row["category"]], True
    ),
    "reuters21578": PaperSet(
        "reuters21578", "train.jsonl", None, "test.jsonl", ("title", "text"), lambda row: row["topics"], False
    ),
    "goemotions": PaperSet(
        "goemotions", "train.tsv", "dev.tsv", "test.tsv", ("text",), lambda row: str(row["labels"]).split(","), False
    ),
    # the section of the main symbol: A … H
    "patents-sections": PaperSet(
        "us_patents_ipc", "train.parquet", "dev.parquet", "test.parquet", ("title", "abstract"),
        lambda row: [row["main_ipc"][0]], True,
    ),
    # its class: A01 …
    "patents-classes": PaperSet(
        "us_patents_ipc", "train.parquet", "dev.parquet", "test.parquet", ("title", "abstract"),
        lambda row: [row["main_ipc"][:3]], True,
    ),
    # the subclasses of all symbols: A01B …
    "patents-subclasses": PaperSet(
        "us_patents_ipc", "train.parquet", "dev.parquet", "test.parquet", ("title", "abstract"),
        lambda row: sorted({symbol[:4] for symbol in row["ipc"]}), False,
    ),
    # and their main groups: A01B 1 …
    "patents-groups": PaperSet(
        "us_patents_ipc", "train.parquet", "dev.parquet", "test.parquet", ("title", "abstract"),
        lambda row: sorted({symbol.partition("/")[0] for symbol in row["ipc"]}), False,
    ),
    "newsgroups20": PaperSet(
        "newsgroups20", "train.parquet", None, "test.parquet", ("text",), lambda row: [row["label"]], True
    ),
    **{  # written by benchmarks.unseen
        name: PaperSet(
            f"unseen/{name}", "train.jsonl", None, "test.jsonl", ("text",), lambda row: row["labels"], name != "debtags"
        )
        for name in UNSEEN
    },
}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """Rows drawn from each part, and words kept of each text; None is all."""

    train: int | None
    dev: int | None
    test: int | None
    words: int | None


def write_set(name: str, data: Path, sizes: Sizes, folder: Path) -> dict[str, str]:
    """Write the files of a set, the same for the same sizes; returns the settings of a run that reads them.

    Dev and test rows lose the labels that no drawn training row has, and rows left without any are left out: the sample is the
    task. A dev part is drawn from the training file where there is no dev file.
    """
    chosen = SETS[name]
    rng = np.random.default_rng(0)
    train = list(_rows(data / chosen.folder / chosen.train, chosen, sizes.words))
    test = list(_rows(data / chosen.folder / chosen.test, chosen, sizes.words))
    order = rng.permutation(len(train)).tolist()
    if chosen.dev is not None:
        dev = list(_rows(data / chosen.folder / chosen.dev, chosen, sizes.words))
        dev = [dev[i] for i in rng.permutation(len(dev))[: sizes.dev]]
    else:
        held = sizes.dev or len(train) // 10
        dev, order = [train[i] for i in order[:held]], order[held:]
    train = [train[i] for i in order[: sizes.train]]
    test = [test[i] for i in rng.permutation(len(test))[: sizes.test]]
    known = {label for row in train for label in row["labels"]}
    parts = {"data": train, "dev": _within(dev, known), "test": _within(test, known)}
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in parts.items():
        given = [{**row, "labels": row["labels"][0]} for row in rows] if chosen.single else rows
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in given)
        path = folder / f"{part}.jsonl"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    return {part: str(folder / f"{part}.jsonl") for part in parts}


def _within(rows: list[Row], known: set[str]) -> list[Row]:
    kept = ({**row, "labels": [label for label in row["labels"] if label in known]} for row in rows)
    return [row for row in kept if row["labels"]]


def _rows(path: Path, chosen: PaperSet, words: int | None) -> Iterator[Row]:
    for number, row in enumerate(_read(path)):
        text = "\n".join(str(row[column]) for column in chosen.text if row[column])
        if words is not None:
            text = " ".join(text.split()[:words])
        if text and (labels := chosen.labels(row)):
            yield {"id": f"{path.stem}-{number}", "text": text, "labels": labels}


def _read(path: Path) -> list[Row]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return pj.read_json(path).to_pylist()
    tabs = path.suffix == ".tsv"
    parse = pc.ParseOptions(
        delimiter="\t" if tabs else ",", newlines_in_values=not tabs, quote_char=False if tabs else '"'
    )
    return pc.read_csv(path, parse_options=parse).to_pylist()
