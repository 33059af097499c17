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
from sortal.evaluation.predictions import predictions_schema, predictions_table
from sortal.evaluation.scores import Floats


@dataclass(frozen=True)
class Format:
    """How answers are written.

    form: ``jsonl``, ``csv`` or ``parquet``. top: probabilities of so many labels only (jsonl).
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
            file.write(_csv([["id", label, *[f"p:{name}" for name in self.space.names]]]).encode("utf-8"))
        for shard in shards:
            file.write(shard)

    def _labels(self, decided: Any) -> list[Any]:
        space = self.space
        return list(space.decode_single(decided) if space.task == "single" else space.decode_multi(decided))

    def _csv_rows(self, ids: Sequence[str], probabilities: Floats, decided: Any) -> str:
        rows = []
        for id_, label, row in zip(ids, self._labels(decided), probabilities, strict=True):
            if self.space.task == "single":
                answer = "" if label is None else label
            else:
                answer = json.dumps(list(label), ensure_ascii=False)
            rows.append([id_, answer, *[f"{p:.6g}" for p in row]])
        return _csv(rows)

    def _json_lines(self, ids: Sequence[str], probabilities: Floats, decided: Any) -> str:
        single, names = self.space.task == "single", self.space.names
        lines = []
        for id_, label, row in zip(ids, self._labels(decided), probabilities, strict=True):
            order = (-row).argsort(kind="stable")[: self.top]
            answer = {"label": label} if single else {"labels": list(label)}
            values = {names[i]: round(float(row[i]), 6) for i in order}
            line = {"id": id_, **answer, "probabilities": values}
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
        return "".join(lines)


def _csv(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
