"""The labels of all parts as numbers, without a Python object per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csc_matrix, csr_matrix

from sortal.data.dataset import Dataset, Indices


@dataclass(frozen=True, eq=False)
class LabelCodes:
    """Label names of all parts, sorted, and which of them each row has.

    Attributes:
        names: L names.
        rows: part → 0/1, int64 sparse ``[rows, L]``.
        single: every row has exactly one label.
    """

    names: tuple[str, ...]
    rows: Mapping[str, csr_matrix]
    single: bool

    @classmethod
    def of(cls, parts: Mapping[str, Dataset]) -> LabelCodes:
        """The labels of ``parts``, which were read with labels."""
        columns = {part: dataset.table.column("labels") for part, dataset in parts.items()}
        flat = {part: pc.list_flatten(column) for part, column in columns.items()}
        names = sorted({name for values in flat.values() for name in pc.unique(values).to_pylist()})
        known = pa.array(names, pa.string())
        rows = {}
        for part, column in columns.items():
            counts = pc.list_value_length(column).to_numpy().astype(np.int64)
            codes = pc.index_in(flat[part], value_set=known).to_numpy().astype(np.int64)
            ends = np.concatenate([[0], np.cumsum(counts)])
            rows[part] = csr_matrix((np.ones(len(codes), np.int64), codes, ends), (len(counts), len(names)))
        return cls(tuple(names), rows, all(dataset.task == "single" for dataset in parts.values()))

    @cached_property
    def index(self) -> dict[str, int]:
        """Name → code."""
        return {name: code for code, name in enumerate(self.names)}

    def counts(self, part: str) -> npt.NDArray[np.int64]:
        """Rows of each label, int64 ``[L]``."""
        return np.asarray(self.rows[part].sum(axis=0), np.int64).ravel()

    def of_row(self, part: str, position: int) -> tuple[str, ...]:
        """The label names of a row, sorted."""
        rows = self.rows[part]
        return tuple(
            self.names[code]
            for code in sorted(rows.indices[rows.indptr[position] : rows.indptr[position + 1]])
        )

    def shown(self, part: str, position: int) -> str:
        """The labels of a row for a message."""
        return ", ".join(map(repr, self.of_row(part, position))) or "no label"

    def with_label(self, part: str, code: int) -> Indices:
        """Positions of the rows of ``part`` that have a label, ascending."""
        columns = self._columns[part]
        found: Indices = columns.indices[columns.indptr[code] : columns.indptr[code + 1]].astype(np.int64)
        return found

    def examples(self, part: str, codes: Sequence[int] | Indices, each: int = 1) -> tuple[Indices, Indices]:
        """The first ``each`` rows of every label, the label's code beside each row; a row stands for one of its labels only.

        Positions and codes, int64 ``[k]``, in the order of ``codes``.
        """
        owners = [self.with_label(part, int(code))[:each] for code in codes]
        rows = np.concatenate([np.zeros(0, np.int64), *owners])
        of = np.repeat(np.asarray(codes, np.int64), [len(found) for found in owners])
        first = np.sort(np.unique(rows, return_index=True)[1])
        return rows[first], of[first]

    @cached_property
    def _columns(self) -> dict[str, csc_matrix]:
        return {part: rows.tocsc() for part, rows in self.rows.items()}

    def set_ids(self, part: str) -> Indices:
        """A number for each row's set of labels, int64 ``[rows]``, equal for equal sets in any part."""
        rows = self.rows[part]
        if self.single:
            return np.asarray(rows.indices, np.int64)
        # Random 62-bit weights make equal sums of different sets a matter of astronomical bad luck.
        weights = np.random.default_rng(0).integers(1, 2**62, len(self.names), dtype=np.uint64)
        with np.errstate(over="ignore"):
            ends = np.concatenate([np.zeros(1, np.uint64), np.cumsum(weights[rows.indices], dtype=np.uint64)])
            sums: npt.NDArray[np.uint64] = ends[rows.indptr[1:]] - ends[rows.indptr[:-1]]
        return sums.view(np.int64)
