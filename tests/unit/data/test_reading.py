from __future__ import annotations

import csv
import json
import tempfile
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sortal.data.reading import read
from sortal.data.schema import Schema
from sortal.errors import DataError, ResourceError

# csv cannot hold NUL, and a lone carriage return ends a line in some writers; both have tests of their own.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
LABEL = st.sampled_from(["pos", "neg", "it's", "日本", "a b"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXT, LABEL), min_size=1, max_size=15))
def test_csv_jsonl_and_parquet_give_identical_rows(tmp_path, rows):
    texts, labels = zip(*rows, strict=True)
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
        writer.writerows([("text", "label"), *rows])
    (tmp_path / "a.jsonl").write_text(
        "\n".join(json.dumps({"text": t, "label": c}) for t, c in rows), encoding="utf-8"
    )
    pq.write_table(pa.table({"text": texts, "label": labels}), tmp_path / "a.parquet")
    found = [
        read(tmp_path / f"a.{kind}", text=["text"], say=lambda message: None)
        for kind in ("csv", "jsonl", "parquet")
    ]
    for data in found:
        assert data.texts == list(texts)
        assert data.labels == [(label,) for label in labels]
        assert data.ids == [str(row) for row in range(1, len(rows) + 1)]
        assert data.fingerprint == found[0].fingerprint


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_header_without_rows_is_refused(write, heard, name):
    with pytest.raises(DataError, match="a header but no rows"):
        read(write(name, "text\tlabel\n" if name.endswith("tsv") else "text,label\n"), say=heard)


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", "\n"), ("a.json", "[]")])
def test_file_without_rows_is_refused(write, heard, name, content):
    with pytest.raises(DataError, match=r"is empty|no rows"):
        read(write(name, content), say=heard)


def test_ids_and_groups_come_from_their_columns_and_repeated_ids_are_said(write, heard):
    path = write("a.csv", "key,text,label,doc\nk1,a,x,7\nk1,b,y,\n,c,x,8\n")
    data = read(path, id="key", group="doc", say=heard)
    assert data.ids == ["k1", "k1", "3"]
    assert data.groups == ["7", None, "8"]
    assert heard.about("repeats ids in 1 row")


def test_nothing_is_left_in_the_temporary_folder(write, heard, monkeypatch, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    data = read(write("a.csv", "text,label\na,x\nb,y\n"), say=heard)
    with pytest.raises(DataError):
        read(write("b.csv", "text,label\na,x\nb,\n"), say=heard)
    assert list(spool.iterdir()) == []
    assert data.texts == ["a", "b"]


def test_full_disk_is_a_clear_sentence(write, heard, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pa.ipc, "new_file", full)
    with pytest.raises(ResourceError, match="No space left on device"):
        read(write("a.csv", "text,label\na,x\nb,y\n"), say=heard)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
def test_memory_stays_far_below_the_size_of_the_file(write, heard, kind):
    rows = [{"text": f"{i} " + "word " * 400, "label": "xy"[i % 2]} for i in range(20_000)]
    if kind == "csv":
        content = "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows)
    else:
        lines = [json.dumps(row) for row in rows]
        content = "\n".join(lines) if kind == "jsonl" else "[" + ",\n".join(lines) + "]"
    path = write(f"a.{kind}", content)
    size = path.stat().st_size
    del rows, content
    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        data = read(path, say=heard)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(data) == 20_000
    assert size > 40e6
    assert peak < 0.4 * size
    assert pa.total_allocated_bytes() - arrow < 0.1 * size


@pytest.mark.parametrize(
    ("train", "other"),
    [
        (["True", "False", "Unknown"], ["True", "False"]),
        (["1.0", "2.0", "other"], ["1.0", "2.0"]),
        (["1", "2"], ["1.0", "2.0"]),
        (["True", "False"], ["TRUE", "false"]),
    ],
)
def test_another_file_with_some_of_the_labels_spells_them_as_the_first(write, heard, train, other):
    def lines(labels):
        return "text,label\n" + "".join(f"t{i},{label}\n" for i, label in enumerate(labels))

    first = read(write("train.csv", lines(train)), say=heard)
    again = Schema.from_json(json.loads(json.dumps(first.schema.to_json())))
    second = read(write("test.csv", lines(other)), **again.arguments(), say=heard)
    assert second.labels == first.labels[:2]
    third = read(write("more.csv", lines([*other, "new"])), **again.arguments(), say=heard)
    assert third.labels == [*first.labels[:2], ("new",)], "a label that is new changes no other"


def test_another_file_with_some_of_the_levels_spells_each_as_the_first(write, heard):
    rows = ["1.0,True,x", "1.0,Unknown,y", "new,False,z"]
    levels = ("section", "class", "group")
    header = "text,section,class,group\n"
    first = read(
        write("train.csv", header + "".join(f"t,{row}\n" for row in rows)), level_columns=levels, say=heard
    )
    again = Schema.from_json(json.loads(json.dumps(first.schema.to_json())))
    second = read(write("test.csv", f"{header}u,1.0,True,\nu,1.0,,\n"), **again.arguments(), say=heard)
    assert second.labels == [("True",), ("1.0",)]
    assert second.parent_of == {"1.0": None, "True": "1.0"}
    whole = read(write("whole.csv", f"{header}u,1.0,True,\n"), level_columns=levels, say=heard)
    assert whole.labels == [("true",)], "alone, the columns hold numbers and booleans"
    unread = read(write("u.csv", f"{header}u,1.0,True,\n"), **again.arguments(), need_labels=False, say=heard)
    assert unread.schema.level_spellings == first.schema.level_spellings == ("names", "names", "names")


def test_schema_survives_json():
    schema = Schema(
        ("a", "b"),
        "{a} {b}",
        None,
        ("x", "y"),
        None,
        "id",
        "g",
        "multi",
        ("s", "c"),
        None,
        ("numbers", "names"),
    )
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    assert "group" not in schema.arguments()


def test_path_objects_strings_and_one_text_name_are_accepted(write, heard):
    path = write("a.csv", "words,label\na,x\nb,y\n")
    assert read(str(path), text="words", say=heard).texts == read(Path(path), text=["words"], say=heard).texts
