"""The frozen, ordered set of labels every part of Sortal shares."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from sortal.data.dataset import Dataset, Labels
from sortal.data.problems import RowProblems, listed, nearest
from sortal.data.schema import Task
from sortal.errors import DataError
from sortal.hierarchy.tree import LabelTree

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True)
class LabelSpace:
    """Label names in their one order: the order of score columns, of ``id2label`` and of every report.

    Labels may form a ``tree``, which implies a row's ancestors. Single-label: the names are those that rows carry, and the tree has
    their ancestors, too. Multi-label: the names are all nodes in their order, and a row has the ancestors of its labels.

    Raises:
        DataError: no names, duplicate names, a single-label task with one class, or a tree of other labels.
    """

    names: tuple[str, ...]
    task: Task
    tree: LabelTree | None = None

    def __post_init__(self) -> None:
        if self.task not in ("single", "multi"):
            raise DataError(f"task {self.task!r} is not 'single' or 'multi'", "give one of the two")
        if not all(isinstance(name, str) and name for name in self.names):
            raise DataError(
                f"label names must be non-empty strings, got {listed([str(name) for name in self.names])}",
                "rename them",
            )
        if len(set(self.names)) != len(self.names):
            twice = sorted(name for name, times in Counter(self.names).items() if times > 1)
            raise DataError(f"labels {listed(twice)} occur twice in the label order", "remove the duplicates")
        if not self.names:
            raise DataError("there are no labels in the data", "check the label column")
        if self.task == "single" and len(self.names) == 1:
            raise DataError(
                f"every row has the label {self.names[0]!r}; a single-label task needs at least two classes",
                "add rows of another class, or use a multi-label task with one label (--task multi) for yes/no",
            )
        if self.tree is not None and self.task == "multi" and self.tree.nodes != self.names:
            raise DataError("the tree of labels has other nodes than there are labels", "restore both")
        if self.tree is not None and (stray := [name for name in self.names if name not in self.tree.index]):
            raise DataError(f"label {stray[0]!r} is not in the tree of labels", "restore both")

    @classmethod
    def from_labels(
        cls, labels: Iterable[Labels], task: Task, order: Sequence[str] | None = None
    ) -> LabelSpace:
        """The labels that occur, sorted (numbers by value, before words), or ``order`` as it is given.

        Raises:
            DataError: a label is not in ``order``; or see the class.
        """
        found = {label for row in labels for label in row}
        if order is None:
            return cls(tuple(sorted(found, key=natural_order)), task)
        unknown = sorted(found - set(order))
        if unknown:
            raise DataError(
                f"label {unknown[0]!r} is not among the given labels{nearest(unknown[0], order)}",
                "repair the label order",
            )
        return cls(tuple(order), task)

    @classmethod
    def from_dataset(cls, dataset: Dataset, task: Task | None = None) -> LabelSpace:
        """The label space of training data, in the order its source declares or sorted.

        Raises:
            DataError: the data has no labels; or see `from_labels`.
        """
        if dataset.labels is None:
            raise DataError(f"{dataset.source} was read without labels", "name the label column")
        try:
            return cls.from_labels(dataset.labels, task or dataset.task or "single", dataset.label_names)
        except DataError as error:
            raise DataError(f"{dataset.source}: {error.what}", error.fix) from None

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def index(self) -> dict[str, int]:
        """Name → position."""
        return {name: position for position, name in enumerate(self.names)}

    @property
    def id2label(self) -> dict[int, str]:
        """Position → name, as transformers' config wants it."""
        return dict(enumerate(self.names))

    def encode_single(self, labels: Sequence[Labels]) -> npt.NDArray[np.int64]:
        """Label positions, int64 [n].

        Raises:
            DataError: a row without exactly one label, or an unknown label.
        """
        for row, names in enumerate(labels, start=1):
            if len(names) != 1:
                raise DataError(
                    f"row {row:,} has {len(names)} labels; a single-label task needs exactly one",
                    "give each row one label",
                )
        self._refuse_unknown(labels)
        return np.fromiter((self.index[names[0]] for names in labels), np.int64, len(labels))

    def encode_multi(self, labels: Sequence[Labels]) -> npt.NDArray[np.uint8]:
        """Indicator matrix, uint8 [n, L], with the ancestors of every label; a row without labels is all zero.

        Raises:
            DataError: an unknown label.
        """
        self._refuse_unknown(labels)
        matrix = np.zeros((len(labels), len(self)), np.uint8)
        matrix[self._places(labels)] = 1
        return matrix if self.tree is None else self.tree.close(matrix)

    def encode(self, dataset: Dataset) -> npt.NDArray[Any]:
        """Gold labels of ``dataset``: int64 [n] (single) or uint8 [n, L] (multi).

        Raises:
            DataError: naming file, row and label for the first five unknown labels.
        """
        self.check(dataset)
        labels = dataset.labels or []
        return self.encode_single(labels) if self.task == "single" else self.encode_multi(labels)

    def encode_sparse(self, dataset: Dataset) -> npt.NDArray[Any] | csr_array:
        """As `encode`, but several labels per row as a sparse uint8 [n, L]: memory grows with the labels given, not with n × L.

        Raises:
            DataError: see `encode`.
        """
        if self.task == "single":
            return self.encode(dataset)
        if self.tree is not None:
            return csr_array(self.encode(dataset))  # ancestors are implied
        self.check(dataset)
        labels = dataset.labels or []
        rows, columns = self._places(labels)
        matrix = csr_array((np.ones(len(rows), np.uint8), (rows, columns)), shape=(len(labels), len(self)))
        matrix.sum_duplicates()
        matrix.data[:] = 1  # a label given twice is given
        return matrix

    def _places(self, labels: Sequence[Labels]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Row and column of every given label."""
        counts = np.fromiter(map(len, labels), np.int64, len(labels))
        columns = np.fromiter(
            (self.index[name] for names in labels for name in names), np.int64, int(counts.sum())
        )
        return np.repeat(np.arange(len(labels)), counts), columns

    def decode_single(self, positions: npt.NDArray[np.int64]) -> list[str | None]:
        """Names for int64 [n]; -1 (abstained) becomes None."""
        return [None if position < 0 else self.names[position] for position in positions.tolist()]

    def decode_multi(self, matrix: npt.NDArray[Any]) -> list[Labels]:
        """Names per row for an indicator matrix [n, L], in label order."""
        found: list[list[str]] = [[] for _ in range(len(matrix))]
        for row, column in zip(*np.nonzero(np.asarray(matrix)), strict=True):
            found[row].append(self.names[column])
        return [tuple(names) for names in found]

    def check(self, dataset: Dataset) -> None:
        """Refuse labels that training never saw.

        Raises:
            DataError: naming file, row, label and the nearest known label for the first five.
        """
        if dataset.labels is None:
            raise DataError(f"{dataset.source} was read without labels", "name the label column")
        problems = RowProblems(
            dataset.source,
            f"correct the labels, add rows with them to the training data, or take them out with unseen_labels=drop (--unseen-labels drop) (known: {listed(self.names, 12)})",
        )
        for position, names in enumerate(dataset.labels):
            row = int(dataset.rows[position])
            if self.task == "single" and len(names) != 1:
                problems.add(row, f"has {len(names)} labels; a single-label task needs exactly one")
            for name in names:
                if name not in self.index:
                    problems.add(
                        row, f"label {name!r} does not occur in the training data{nearest(name, self.names)}"
                    )
        problems.raise_if_any()

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; `from_json` reads it back."""
        tree = {} if self.tree is None else {"tree": self.tree.to_json()}
        return {"task": self.task, "names": list(self.names), **tree}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> LabelSpace:
        """The inverse of `to_json`.

        Raises:
            DataError: the dict does not hold a task and a list of unique names.
        """
        try:
            names, task = values["names"], values["task"]
        except (KeyError, TypeError):
            raise DataError(
                "the saved label space lacks 'names' or 'task'", "restore the original file"
            ) from None
        if not isinstance(names, list):
            raise DataError("the saved label names are not a list", "restore the original file")
        return cls(tuple(names), task, LabelTree.from_json(values["tree"]) if "tree" in values else None)

    def _refuse_unknown(self, labels: Sequence[Labels]) -> None:
        for row, names in enumerate(labels, start=1):
            for name in names:
                if name not in self.index:
                    raise DataError(
                        f"row {row:,}: label {name!r} is not in the label space{nearest(name, self.names)}",
                        "correct the label",
                    )


def natural_order(name: str) -> tuple[int, Decimal, str]:
    """Key that sorts numbers by value, before words."""
    return (0, Decimal(name), name) if _NUMBER.fullmatch(name) else (1, Decimal(0), name)
