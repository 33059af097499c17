"""Predictions as bytes: a shard on its own, and shards put together into the file that the user reads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from sortal.bulk.outputs import Form
from sortal.data.labels import LabelSpace
from sortal.evaluation.predictions import inner_nodes, predictions_schema, predictions_table, with_inner_nodes
from sortal.evaluation.scores import Floats


@dataclass(frozen=True)
class Format:
    """How answers are written.

    form: ``jsonl``, ``csv`` or ``parquet``. top: probabilities of so many labels only (jsonl). Of labels in a tree, their ancestors'
    probabilities are written as well; JSON lines also have the way to a single label, ``path``.
    """

    form: Form
    space: LabelSpace
    top: int | None = None

    def encode(self, ids: Sequence[str], probabilities: Floats, decided: Any) -> bytes:
        """The rows of a shard; for ``csv`` without a header.

        Args:
            ids: ``n`` strings.
            probabilities: ``[n, labels]``.
            decided: as `Decision.decide` gives it.
        """
        if self.form == "parquet":
            sink = pa.BufferOutputStream()
            table = predictions_table(ids, probabilities, decided, self.space)
            pq.write_table(table, sink, compression="zstd")
            return bytes(sink.getvalue())
        lines = self._csv_rows if self.form == "csv" else self._json_lines
        return lines(ids, probabilities, decided).encode("utf-8")

    def join(self, shards: Iterable[bytes], file: IO[bytes]) -> None:
        """Write a whole file from the shards in order, one of them in memory."""
        if self.form == "parquet":
            schema = predictions_schema(self.space)
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for shard in shards:
                    writer.write_table(pq.read_table(pa.BufferReader(shard)))
            return
        if self.form == "csv":
            label = "label" if self.space.task == "single" else "labels"
            names = (*self.space.names, *inner_nodes(self.space))
            file.write(_csv([["id", label, *[f"p:{name}" for name in names]]]).encode("utf-8"))
        for shard in shards:
            file.write(shard)

    def _labels(self, decided: Any) -> list[Any]:
        space = self.space
        return list(space.decode_single(decided) if space.task == "single" else space.decode_multi(decided))

    def _csv_rows(self, ids: Sequence[str], probabilities: Floats, decided: Any) -> str:
        rows = []
        probabilities = with_inner_nodes(self.space, probabilities)
        for id_, label, row in zip(ids, self._labels(decided), probabilities, strict=True):
            if self.space.task == "single":
                answer = "" if label is None else label
            else:
                answer = json.dumps(list(label), ensure_ascii=False)
            rows.append([id_, answer, *[f"{p:.6g}" for p in row]])
        return _csv(rows)

    def _json_lines(self, ids: Sequence[str], probabilities: Floats, decided: Any) -> str:
        single, names = self.space.task == "single", self.space.names
        inner, lines = inner_nodes(self.space), []
        above = with_inner_nodes(self.space, probabilities)[:, len(names) :]
        for id_, label, row, nodes in zip(ids, self._labels(decided), probabilities, above, strict=True):
            answer: dict[str, Any] = {"label": label} if single else {"labels": list(label)}
            if single and self.space.tree is not None:
                answer["path"] = [] if label is None else list(self.space.tree.path(label))
            line = {"id": id_, **answer, "probabilities": self._best(names, row)}
            if inner:
                line["ancestors"] = self._best(inner, nodes)
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
        return "".join(lines)

    def _best(self, names: Sequence[str], row: Floats) -> dict[str, float]:
        """Probabilities by name, the highest first."""
        return {names[i]: round(float(row[i]), 6) for i in (-row).argsort(kind="stable")[: self.top]}


def _csv(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
