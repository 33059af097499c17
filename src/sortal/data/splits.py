"""Train, dev and test parts of one data set: stratified, seeded, with duplicates and groups kept together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from sortal.data.dataset import Dataset, Indices
from sortal.data.duplicates import clusters
from sortal.data.problems import counted, listed
from sortal.data.records import Say, say_on_stderr
from sortal.data.stratify import stratify
from sortal.errors import ConfigError, DataError

PARTS = ("train", "dev", "test")
Split = Mapping[str, Indices]


def split(
    dataset: Dataset,
    *,
    dev_size: float = 0.1,
    test_size: float = 0.15,
    seed: int = 0,
    say: Say = say_on_stderr,
) -> dict[str, Indices]:
    """Disjoint parts that together hold every row: ``{"train": …, "dev": …, "test": …}``, sorted int64 positions.

    A part of size 0 is left out (its file is given). Rows with the same text (case and white space aside) or the same
    group stay in one part; within that, every label has close to its share of rows in every part (`stratify`). Labels
    that occur in a single row or cluster go to train, and that is said. The same data and seed give the same split.

    Raises:
        ConfigError: sizes below 0 or leaving nothing to train on.
        DataError: too few rows (or too few, too large groups) to fill a part.
    """
    if dev_size < 0 or test_size < 0 or dev_size + test_size >= 1:
        raise ConfigError(
            f"dev_size {dev_size} and test_size {test_size} leave no rows for training",
            "choose smaller parts",
        )
    shares = {"train": 1.0 - dev_size - test_size, "dev": dev_size, "test": test_size}
    shares = {part: share for part, share in shares.items() if share > 0}
    cluster = clusters(dataset)
    units = int(cluster.max()) + 1 if len(cluster) else 0
    if units < len(shares):
        raise DataError(
            f"{dataset.source} has {_distinct(units)}; that cannot be split into {listed(list(shares))}",
            "add rows, or give dev and test files",
        )
    sizes = np.bincount(cluster, minlength=units)
    counts, names = _label_counts(dataset, cluster, units)
    part_of_unit = stratify(counts, sizes, tuple(shares.values()), np.random.default_rng(seed))
    part = part_of_unit[cluster]
    parts = {name: np.flatnonzero(part == number).astype(np.int64) for number, name in enumerate(shares)}
    empty = [name for name, rows in parts.items() if not len(rows)]
    if empty:
        raise DataError(
            f"{dataset.source}: {counted(len(dataset), 'row')} in {_distinct(units)} leave {listed(empty)} empty",
            "add rows, ask for a larger part, or give dev and test files",
        )
    _tell(dataset, counts, names, sizes, parts, say)
    return parts


def _distinct(units: int) -> str:
    return "1 distinct text or group" if units == 1 else f"{units:,} distinct texts or groups"


def subsample(dataset: Dataset, n: int, seed: int = 0) -> Dataset:
    """A seeded random sample of ``n`` rows in their original order; while there is room every label keeps a row."""
    if n >= len(dataset):
        return dataset
    order = np.random.default_rng(seed).permutation(len(dataset))
    first: dict[str, int] = {}
    if dataset.labels is not None:
        for position in order.tolist():
            for label in dataset.labels[position]:
                first.setdefault(label, position)
    kept = list(dict.fromkeys(first.values()))[:n]
    chosen = set(kept)
    rest = [position for position in order.tolist() if position not in chosen]
    return dataset.take(np.sort(np.array(kept + rest[: n - len(kept)], np.int64)))


def _label_counts(
    dataset: Dataset, cluster: npt.NDArray[np.int64], units: int
) -> tuple[csr_matrix, list[str]]:
    """Rows per (unit, label) as [units, labels], and the label names in column order."""
    labels = dataset.labels or [()] * len(dataset)
    index: dict[str, int] = {}
    rows, columns = [], []
    for unit, names in zip(cluster.tolist(), labels, strict=True):
        for name in names:
            rows.append(unit)
            columns.append(index.setdefault(name, len(index)))
    ones = np.ones(len(rows), np.int64)
    matrix = csr_matrix(
        (ones, (np.array(rows, np.int64), np.array(columns, np.int64))), shape=(units, len(index))
    )
    matrix.sum_duplicates()
    return matrix, list(index)


def _tell(
    dataset: Dataset,
    counts: csr_matrix,
    names: list[str],
    sizes: npt.NDArray[np.int64],
    parts: Split,
    say: Say,
) -> None:
    shown = ", ".join(f"{name} {len(rows):,}" for name, rows in parts.items())
    together = int(sizes[sizes > 1].sum())
    kept = f"; {counted(together, 'row')} of duplicates or groups kept together" if together else ""
    say(f"{dataset.source}: split into {shown} rows{kept}.")
    holders = np.bincount(counts.indices, minlength=len(names))
    alone = sorted(names[label] for label in np.flatnonzero(holders == 1).tolist())
    if alone and len(parts) > 1:
        say(
            f"warning: {counted(len(alone), 'label')} with a single example (or one group or text) went to train "
            f"and cannot be evaluated: {listed(alone, 5)}."
        )
