"""Shards: cut at the same places whatever the file format, and told apart by what they hold."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sortal.bulk import plan as module
from sortal.bulk.inputs import Input
from sortal.bulk.plan import Plan, Rows, plan
from sortal.errors import DataError
from tiny_runs import write_csv

TEXTS = [f"text {i} é" for i in range(10_000)]


def made(path: str | Path, **reading) -> tuple[Plan, list[str]]:
    said: list[str] = []
    return plan(Input(str(path), Path(path).name), {"text": ("text",), **reading}, said.append), said


def flat(found: Plan) -> list[tuple[str, str]]:
    return [pair for _, rows in found.read() for pair in zip(rows.ids, rows.texts, strict=True)]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    write_csv(folder / "d.csv", [(text,) for text in TEXTS], ("text",))
    (folder / "d.csv.gz").write_bytes(gzip.compress((folder / "d.csv").read_bytes()))
    (folder / "d.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    pq.write_table(pa.table({"text": TEXTS}), folder / "d.parquet", row_group_size=777)
    return {path.name: path for path in folder.iterdir()}


def test_every_format_gives_the_same_shards(files):
    plans = {name: made(path)[0] for name, path in files.items()}
    assert [shard.rows for shard in plans["d.csv"].shards] == [4096, 4096, 1808]
    assert len({each.shards for each in plans.values()}) == 1
    for each in plans.values():
        assert flat(each) == [(str(i), text) for i, text in enumerate(TEXTS, start=1)]
    assert plans["d.csv"].rows == 10_000


def test_a_url_is_read_like_the_file(files):
    for path in files.values():
        assert made(f"file://{path}")[0].shards == made(path)[0].shards


def test_long_texts_end_a_shard_early(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD_CHARACTERS", 20)
    path = write_csv(tmp_path / "d.csv", [("a" * n,) for n in (19, 1, 50, 5, 5)], ("text",))
    assert [shard.rows for shard in made(path)[0].shards] == [2, 1, 2]


def test_finished_shards_are_left_out(files):
    found, _ = made(files["d.csv"])
    ((number, rows),) = found.read({0, 2})
    assert number == 1
    assert (rows.ids[0], len(rows.ids)) == ("4097", 4096)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Rows(["1"], ["a"]), Rows(["2"], ["a"])),
        (Rows(["1"], ["a"]), Rows(["1"], ["b"])),
        (Rows(["1", "2"], ["ab", ""]), Rows(["1", "2"], ["a", "b"])),
        (Rows(["12", "3"], ["a", "b"]), Rows(["1", "23"], ["a", "b"])),
    ],
)
def test_digests_tell_ids_texts_and_their_borders_apart(a, b):
    assert a.digest != b.digest
    assert a.digest == Rows(list(a.ids), list(a.texts)).digest


@pytest.mark.parametrize("change", ["a text", "a row less", "a row more"])
def test_a_file_that_changes_meanwhile_is_noticed(tmp_path, change):
    path = write_csv(tmp_path / "d.csv", [(text,) for text in TEXTS[:5000]], ("text",))
    found, _ = made(path)
    texts = {
        "a text": ["other", *TEXTS[1:5000]],
        "a row less": TEXTS[:4000],
        "a row more": TEXTS[:9000],
    }[change]
    write_csv(path, [(text,) for text in texts], ("text",))
    with pytest.raises(DataError, match=r"d\.csv changed while it was read"):
        flat(found)


def test_ids_come_from_their_column_and_missing_ones_from_the_row(tmp_path):
    path = write_csv(tmp_path / "d.csv", [("a", "x"), ("b", ""), ("c", "x")], ("text", "key"))
    found, said = made(path, id="key", prefix="d.csv:")
    assert flat(found) == [("x", "a"), ("d.csv:2", "b"), ("x", "c")]
    assert said == [f"warning: {path}: column 'key' repeats ids in 1 row."]


def test_what_no_unicode_text_holds_is_replaced_in_ids_and_texts(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "a\\ud800", "key": "k\\ud800"}\n{"text": null, "key": 7}\n')
    found, said = made(path, id="key")
    assert flat(found) == [("k\ufffd", "a\ufffd"), ("7", "")]
    assert any("lone surrogates replaced" in line for line in said)
    assert any("1 row without text" in line for line in said)


def test_bad_rows_are_named_and_a_url_by_its_own_name(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "a"}\nnot json\n')
    for source in (str(path), f"file://{path}"):
        with pytest.raises(DataError, match="row 2") as refused:
            made(source)
        assert str(refused.value).startswith(source)


def test_a_header_alone_is_no_rows(tmp_path):
    path = write_csv(tmp_path / "d.csv", [], ("text",))
    found, _ = made(path)
    assert (found.shards, flat(found)) == ((), [])
