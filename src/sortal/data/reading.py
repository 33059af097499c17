"""Read a labelled (or, for prediction, unlabelled) file into a `Dataset`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from sortal.data.canonical import Spelling
from sortal.data.columns import Selection, select
from sortal.data.dataset import Dataset
from sortal.data.files import open_source
from sortal.data.labelcells import CellBook, Labels, interpret
from sortal.data.problems import counted
from sortal.data.records import BATCH_ROWS, RecordSource, Say, say_on_stderr
from sortal.data.schema import Schema, Task
from sortal.data.spool import Spool
from sortal.data.stream import row_ids
from sortal.data.textcells import TextJoiner, is_missing
from sortal.data.widecolumns import add_flags, interpret_flags
from sortal.errors import ConfigError, DataError
from sortal.hierarchy.levelcells import interpret_levels


def read(
    source: str | Path,
    *,
    text: Sequence[str] = (),
    text_template: str | None = None,
    label: str | None = None,
    label_columns: Sequence[str] = (),
    label_delimiter: str | None = None,
    label_spelling: Spelling | None = None,
    level_columns: Sequence[str] = (),
    level_spellings: Sequence[Spelling] = (),
    id: str | None = None,
    group: str | None = None,
    task: Literal["auto", "single", "multi"] = "auto",
    need_labels: bool = True,
    say: Say = say_on_stderr,
) -> Dataset:
    """All rows of ``source``, in order, none dropped.

    Args:
        source: a csv, tsv, jsonl, json, parquet, arrow, feather or txt file (each may be .gz), a folder, or a hub id.
        text: text column(s); found by name when empty.
        text_template: how several text columns are joined, ``"{title}\\n{body}"``; else non-empty values, one per line.
        label: label column; found by name when None.
        label_columns: wide 0/1 columns, one per label; their order is the label order.
        label_delimiter: separates several labels in one cell; None infers it, ``""`` never splits.
        label_spelling: of the file that this one is read like (`Schema`); None infers it.
        level_columns: one column per level of a tree of labels, the top one first; a row's label is its last name.
        level_spellings: as label_spelling, of each level column; empty infers them.
        id: column with a row id; default the 1-based row number.
        group: column whose equal values stay in one split.
        task: single-label, multi-label, or inferred and said.
        need_labels: False reads for prediction: labels are neither needed nor read.
        say: receives one sentence for everything inferred, repaired or suspicious.

    Raises:
        DataError: anything wrong with the file, naming the first five rows; see the readers.
        ConfigError: arguments that contradict each other.
        ResourceError: no room in the temporary folder, or a hub id without a network.
    """
    _refuse_contradictions(text, label, label_columns, label_delimiter, level_columns, task)
    records = open_source(source, say)
    peek = next(records.batches(), None)
    if peek is None:
        raise DataError(
            f"{records.name} has a header but no rows" if records.columns else f"{records.name} has no rows",
            "add rows",
        )
    chosen = select(
        records,
        peek,
        text=(text,) if isinstance(text, str) else text,
        text_template=text_template,
        label=label,
        label_columns=label_columns or level_columns,
        id=id,
        group=group,
        need_labels=need_labels,
        say=say,
    )
    del peek
    joiner = TextJoiner(records.name, chosen.text, text_template)
    book = CellBook()
    with Spool() as spool:
        table = spool.mapped("rows", _row_schema(chosen), _rows(records, chosen, joiner, book))
        joiner.report(say)
        schema = Schema(
            chosen.text, text_template, label, tuple(label_columns), label_delimiter, id, group, None,
            label_spelling=label_spelling,
        )  # fmt: skip
        names: tuple[str, ...] | None = None
        parent_of: dict[str, str | None] | None = None
        if level_columns and chosen.label_columns:
            levels, parent_of, spellings = interpret_levels(
                book, records.name, chosen.label_columns, say, level_spellings
            )
            schema = replace(
                schema, level_columns=chosen.label_columns, level_spellings=spellings, task="single"
            )
            table = table.append_column("labels", _label_column(spool, levels, book))
        elif chosen.label or chosen.label_columns:
            labels, schema, names = _labels(
                records, chosen, book, schema, None if task == "auto" else task, say
            )
            table = table.append_column("labels", _label_column(spool, labels, book))
        else:
            schema = replace(
                schema,
                level_columns=tuple(level_columns),
                level_spellings=tuple(level_spellings),
                task=None if task == "auto" else task,
            )
    _warn_of_repeated_ids(table, chosen, records.name, say)
    return Dataset(table, records.name, schema, names, parent_of=parent_of)


def _refuse_contradictions(
    text: Sequence[str],
    label: str | None,
    label_columns: Sequence[str],
    label_delimiter: str | None,
    level_columns: Sequence[str],
    task: str,
) -> None:
    if level_columns and (label or label_columns or label_delimiter):
        raise ConfigError(
            "level_columns cannot be combined with label, label_columns or label_delimiter",
            "choose one way to give labels",
        )
    if level_columns and task == "multi":
        raise ConfigError(
            "level_columns give one label per row, which contradicts task 'multi'",
            "for several labels per row, write them as paths or give a parent map",
        )
    if label_columns and (label or label_delimiter):
        raise ConfigError(
            "label_columns cannot be combined with label or label_delimiter", "choose one way to give labels"
        )
    if task == "single" and (label_columns or label_delimiter):
        raise ConfigError(
            "task 'single' contradicts label_columns and label_delimiter",
            "use --task multi or leave them out",
        )
    for role, names in (
        ("text", [text] if isinstance(text, str) else text),
        ("label_columns", label_columns),
        ("level_columns", level_columns),
    ):
        if len(set(names)) != len(names):
            raise ConfigError(f"{role} names a column twice: {', '.join(names)}", "name each column once")


def _row_schema(chosen: Selection) -> pa.Schema:
    fields = [pa.field("id", pa.string()), pa.field("row", pa.int64()), pa.field("text", pa.large_string())]
    return pa.schema(fields + ([pa.field("group", pa.string())] if chosen.group else []))


def _rows(
    records: RecordSource, chosen: Selection, joiner: TextJoiner, book: CellBook
) -> Iterator[dict[str, Any]]:
    for batch in records.batches(chosen.columns):
        numbers = range(batch.first_row, batch.first_row + batch.size)
        rows: dict[str, Any] = {
            "row": numbers,
            "text": joiner.join(batch),
            "id": row_ids(batch, chosen.id),
        }
        if chosen.group:
            values = batch.columns.get(chosen.group) or [None] * batch.size
            rows["group"] = [None if is_missing(value) or value == "" else str(value) for value in values]
        if chosen.label:
            book.add(batch, batch.columns.get(chosen.label) or [None] * batch.size)
        elif chosen.label_columns:
            add_flags(book, batch, chosen.label_columns)
        yield rows


def _labels(
    records: RecordSource, chosen: Selection, book: CellBook, schema: Schema, task: Task | None, say: Say
) -> tuple[list[Labels], Schema, tuple[str, ...] | None]:
    """Labels per distinct cell, the resolved schema, and the label order the source declares."""
    if not chosen.label:
        if task is None:
            say(f"{records.name}: multi-label task (0/1 columns).")
        labels = interpret_flags(book, records.name, chosen.label_columns, say)
        return labels, replace(schema, label_columns=chosen.label_columns, task="multi"), chosen.label_columns
    names = records.class_names.get(chosen.label)
    found = interpret(
        book,
        records.name,
        chosen.label,
        task=task,
        delimiter="" if names else schema.label_delimiter,
        spelling=schema.label_spelling,
        names_given=names is not None,
        lists_are_format=records.lists_are_format,
        say=say,
    )
    return (
        found.labels,
        replace(
            schema,
            label=chosen.label,
            label_delimiter=found.delimiter,
            label_spelling=found.spelling,
            task=found.task,
        ),
        names,
    )


def _label_column(spool: Spool, labels: list[Labels], book: CellBook) -> pa.ChunkedArray:
    codes = book.code_array
    lists = pa.array([list(names) for names in labels], pa.list_(pa.string()))
    schema = pa.schema([pa.field("labels", pa.list_(pa.string()))])
    step = BATCH_ROWS * 100
    parts = (
        {"labels": lists.take(pa.array(codes[start : start + step]))} for start in range(0, len(codes), step)
    )
    return spool.mapped("labels", schema, parts).column("labels")


def _warn_of_repeated_ids(table: pa.Table, chosen: Selection, source: str, say: Say) -> None:
    if chosen.id:
        repeated = table.num_rows - pc.count_distinct(table.column("id")).as_py()
        if repeated:
            say(f"warning: {source}: column {chosen.id!r} repeats ids in {counted(repeated, 'row')}.")
