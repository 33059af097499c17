"""Acceptance cases of the data: S7 (label order), S9, S16, B1, B2, B3 (reading), B4, and the public corpora."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sortal.data.dataset import Dataset
from sortal.data.duplicates import overlap
from sortal.data.labels import LabelSpace
from sortal.data.reading import read
from sortal.data.splitfile import load_split, save_split
from sortal.data.splits import split
from sortal.errors import DataError, SortalError

ODD_TEXTS = [
    "",
    "   ",
    "😀👩‍👩‍👧",
    "a\u200b\u2060b",
    "שלום, עולם",
    'line\nbreak "quoted", comma',
    "e\u0301",
    "\u202eevil",
]


def quiet(message: str) -> None:
    pass


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path: Path, *parts: str, **arguments: object) -> None:
    """The read fails with one message that holds every part and something to do."""
    with pytest.raises(SortalError) as error:
        read(path, say=quiet, **arguments)  # type: ignore[arg-type]
    assert error.value.exit_code == 2
    assert error.value.fix
    for part in (path.name, *parts):
        assert part in str(error.value)


def test_s7_one_order_whatever_the_file_format_and_the_order_of_rows(tmp_path):
    rows = [
        (f"text {i}", label) for i, label in enumerate(["10", "2", "ürün", "zoo", "Äpfel", "1", "日本"] * 3)
    ]
    spaces = []
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        lines = "\n".join(json.dumps({"text": text, "label": label}) for text, label in rows)
        out = io.StringIO()
        csv.writer(out).writerows([("text", "label"), *rows])
        pq.write_table(
            pa.table(dict(zip(("text", "label"), zip(*rows, strict=True), strict=True))),
            tmp_path / "a.parquet",
        )
        for path in (
            put(tmp_path, "a.jsonl", lines),
            put(tmp_path, "a.csv", out.getvalue()),
            tmp_path / "a.parquet",
        ):
            spaces.append(LabelSpace.from_dataset(read(path, say=quiet)))
    assert len(set(spaces)) == 1
    assert spaces[0].names == ("1", "2", "10", "zoo", "Äpfel", "ürün", "日本")
    assert LabelSpace.from_json(json.loads(json.dumps(spaces[0].to_json()))) == spaces[0]


def test_s7_declared_orders_are_kept(tmp_path):
    path = put(tmp_path, "a.csv", "text,zebra,apple\na,1,0\nb,0,1\n")
    data = read(path, label_columns=["zebra", "apple"], say=quiet)
    assert LabelSpace.from_dataset(data).names == ("zebra", "apple")
    assert LabelSpace.from_dataset(data).encode(data).tolist() == [[1, 0], [0, 1]]


def test_s8_two_classes_are_fine_and_one_class_is_handled():
    two = Dataset.from_lists(["a", "b"], [("no",), ("yes",)], task="single")
    assert LabelSpace.from_dataset(two).encode(two).tolist() == [0, 1]
    with pytest.raises(DataError, match="at least two classes"):
        LabelSpace.from_dataset(Dataset.from_lists(["a"], [("yes",)], task="single"))
    one = Dataset.from_lists(["a", "b"], [("yes",), ()], task="multi")
    assert LabelSpace.from_dataset(one).encode(one).tolist() == [[1], [0]]


def test_s9_every_multi_label_format_gives_the_same_labels(tmp_path):
    expected = [("joy",), ("anger", "joy"), (), ("anger",)]
    csv_rows = {
        "list.csv": ["['joy']", "['anger', 'joy']", "[]", "['anger']"],
        "json.csv": ['["joy"]', '["anger", "joy"]', "[]", '["anger"]'],
        "delimited.csv": ["joy", "anger;joy", "", "anger"],
    }
    found = {}
    for name, cells in csv_rows.items():
        out = io.StringIO()
        csv.writer(out).writerows([("text", "labels"), *((f"t{i}", cell) for i, cell in enumerate(cells))])
        found[name] = read(put(tmp_path, name, out.getvalue()), say=quiet)
    wide = "text,anger,joy\nt0,0,1\nt1,1,1\nt2,0,0\nt3,1,0\n"
    found["wide.csv"] = read(put(tmp_path, "wide.csv", wide), label_columns=["anger", "joy"], say=quiet)
    lines = "\n".join(json.dumps({"text": f"t{i}", "labels": list(row)}) for i, row in enumerate(expected))
    found["a.jsonl"] = read(put(tmp_path, "a.jsonl", lines), say=quiet)
    pq.write_table(
        pa.table({"text": ["t0", "t1", "t2", "t3"], "labels": [list(row) for row in expected]}),
        tmp_path / "a.parquet",
    )
    found["a.parquet"] = read(tmp_path / "a.parquet", say=quiet)
    for name, data in found.items():
        assert data.task == "multi", name
        assert data.labels == expected, name
        space = LabelSpace.from_dataset(data)
        assert space.encode(data).tolist() == [[0, 1], [1, 1], [0, 0], [1, 0]], name


def test_s9_hub_sequence_of_class_labels(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        text=datasets.Value("string"), labels=datasets.Sequence(datasets.ClassLabel(names=["joy", "anger"]))
    )
    data = datasets.Dataset.from_dict(
        {"text": ["a", "b", "c"], "labels": [[1, 0], [], [0]]}, features=features
    )
    data.save_to_disk(str(tmp_path / "hub"))
    data.to_parquet(str(tmp_path / "hub.parquet"))
    for source in (tmp_path / "hub", tmp_path / "hub.parquet"):
        found = read(source, say=quiet)
        assert found.labels == [("anger", "joy"), (), ("joy",)]
        assert LabelSpace.from_dataset(found).names == ("joy", "anger")


def test_s9_errors_name_row_and_column(tmp_path):
    wide = put(tmp_path, "wide.csv", "text,a,b\nx,0,1\ny,0,maybe\n")
    refused(wide, "row 2", "'b'", "'maybe'", label_columns=["a", "b"])
    single = put(tmp_path, "single.jsonl", '{"text": "x", "label": ["a"]}\n{"text": "y", "label": []}\n')
    refused(single, "row 2", "'label'", task="single")


def test_s16_windows_duplicates_and_groups_stay_in_one_part(tmp_path):
    rng = random.Random(0)
    rows = [
        {"text": f"document {i % 60} window {i}", "doc": f"d{i % 60}", "label": "abc"[i % 3]}
        for i in range(300)
    ]
    rows += [
        {"text": f"Same  text {i % 20}" + " " * rng.randrange(3), "doc": None, "label": "abc"[i % 3]}
        for i in range(100)
    ]
    rng.shuffle(rows)
    path = put(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    data = read(path, group="doc", say=quiet)
    parts = split(data, seed=1, say=quiet)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(rows)))
    for key in (lambda row: row["doc"], lambda row: " ".join(row["text"].lower().split())):
        where: dict[object, set[str]] = {}
        for name, positions in parts.items():
            for position in positions.tolist():
                if key(rows[position]) is not None:
                    where.setdefault(key(rows[position]), set()).add(name)
        assert all(len(names) == 1 for names in where.values())
    save_split(tmp_path / "split.parquet", data, parts)
    again = load_split(tmp_path / "split.parquet", read(path, group="doc", say=quiet))
    assert all((again[name] == parts[name]).all() for name in parts)


@pytest.mark.parametrize(
    ("encoding", "newline"),
    [("utf-8-sig", "\n"), ("utf-16", "\r\n"), ("utf-16-le", "\n"), ("cp1252", "\r\n")],
)
def test_b1_encodings_and_line_ends_are_read_right(tmp_path, encoding, newline):
    said: list[str] = []
    content = newline.join(["text,label", '"“naïve” café, €5",x', f'"two{newline}lines, ""quoted""",y', ""])
    data = read(put(tmp_path, "a.csv", content.encode(encoding)), say=said.append)
    assert data.texts == ["“naïve” café, €5", f'two{newline}lines, "quoted"']
    assert data.labels == [("x",), ("y",)]
    if encoding == "cp1252":
        assert any("cp1252" in message and "a.csv" in message for message in said)


def test_b1_mixed_encodings_and_nul_fail_cleanly_with_their_place(tmp_path):
    refused(put(tmp_path, "mixed.csv", "text,label\nnaïve,x\n".encode() + b"caf\xe9,y\n"), "line 3", "0xe9")
    refused(put(tmp_path, "nul.csv", b"text,label\nok,x\na\0b,y\n"), "row 2", "line 3", "NUL")
    refused(
        put(tmp_path, "nul.jsonl", b'{"text": "ok", "label": "x"}\n{"text": "a\0b", "label": "y"}\n'),
        "row 2",
        "NUL",
    )


def test_b1_ten_megabyte_cell_is_read_in_every_format(tmp_path):
    big = "naïve " * 1_500_000
    out = io.StringIO()
    csv.writer(out).writerows([("text", "label"), (big, "x"), ("small", "y")])
    lines = json.dumps({"text": big, "label": "x"}) + "\n" + json.dumps({"text": "small", "label": "y"})
    for path in (put(tmp_path, "a.csv", out.getvalue()), put(tmp_path, "a.jsonl", lines)):
        assert read(path, say=quiet).texts == [big, "small"]


def test_b2_malformed_files_fail_cleanly_with_the_first_five_rows(tmp_path):
    refused(put(tmp_path, "missing.csv", "text,label\na,x\n"), "'lable'", "'label'", "'text'", label="lable")
    ragged = "text,label\n" + "a,x\n" + "b,y,extra\n" * 9
    refused(put(tmp_path, "ragged.csv", ragged), "row 2 (line 3)", "row 6 (line 7)", "3 cells")
    refused(put(tmp_path, "twice.csv", "text,text,label\na,b,x\n"), "duplicate column 'text'")
    refused(
        put(tmp_path, "bad.jsonl", '{"text": "a", "label": "x"}\n' + "{nonsense\n" * 9),
        "row 2 (line 2)",
        "row 6 (line 6)",
    )
    refused(put(tmp_path, "empty.csv", ""), "empty")
    refused(put(tmp_path, "header.csv", "text,label\n"), "no rows")
    refused(put(tmp_path, "nolabel.csv", "text,label\n" + "a,x\n" + "b,\n" * 9), "row 2", "row 6", "'label'")


@pytest.mark.parametrize("need_labels", [True, False])
def test_b3_odd_texts_keep_their_place_and_content(tmp_path, need_labels):
    rows = [{"text": text, "label": "xy"[i % 2]} for i, text in enumerate(ODD_TEXTS)]
    lines = (
        "\n".join(map(json.dumps, rows))
        + '\n{"text": null, "label": "x"}\n{"text": NaN, "label": "y"}\n{"text": "a\\ud800b", "label": "x"}\n'
    )
    said: list[str] = []
    data = read(put(tmp_path, "a.jsonl", lines), need_labels=need_labels, say=said.append)
    assert data.texts == [*ODD_TEXTS, "", "", "a\ufffdb"]
    assert data.rows.tolist() == list(range(1, len(ODD_TEXTS) + 4))
    blank = sum(not text.strip() for text in ODD_TEXTS)
    assert any(f"{2 + blank} rows without text" in message for message in said)
    assert any("surrogate" in message and "row 11" in message for message in said)


def test_b4_unseen_labels_are_named_with_file_row_and_nearest_label(tmp_path):
    train = read(put(tmp_path, "train.csv", "text,label\na,refund\nb,delivery\n"), say=quiet)
    dev = read(
        put(tmp_path, "dev.csv", "text,label\na,refund\nb,refunds\n"), **train.schema.arguments(), say=quiet
    )
    with pytest.raises(DataError, match=r"dev\.csv: row 2: label 'refunds' .*did you mean 'refund'\?"):
        LabelSpace.from_dataset(train).check(dev)


def test_b4_number_labels_are_one_label_across_files_of_different_types(tmp_path):
    train = read(put(tmp_path, "train.csv", "text,label\na,1\nb,2\nc,10\n"), say=quiet)
    pq.write_table(pa.table({"text": ["a", "b"], "label": [1.0, 10.0]}), tmp_path / "dev.parquet")
    dev = read(tmp_path / "dev.parquet", **train.schema.arguments(), say=quiet)
    test = read(
        put(tmp_path, "test.jsonl", '{"text": "a", "label": 2}\n{"text": "b", "label": "1.0"}\n'),
        **train.schema.arguments(),
        say=quiet,
    )
    space = LabelSpace.from_dataset(train)
    assert space.names == ("1", "2", "10")
    assert space.encode(dev).tolist() == [0, 2]
    assert space.encode(test).tolist() == [1, 0]


def test_b4_spaces_case_twins_rare_and_lone_classes_are_said(tmp_path):
    said: list[str] = []
    rows = "".join(f"text {i},{['ham', 'spam', 'spam ', 'Spam'][i % 4]}\n" for i in range(40))
    data = read(put(tmp_path, "a.csv", "text,label\n" + rows + "last,rare\n"), say=said.append)
    assert set(data.labels) == {("ham",), ("spam",), ("Spam",), ("rare",)}
    parts = split(data, say=said.append)
    assert 40 in parts["train"]
    for part in ("spaces around labels removed in 10 rows", "'Spam', 'spam'", "single example"):
        assert any(part in message for message in said), part


def test_b4_five_thousand_labels_are_exact_from_file_to_split(tmp_path):
    rows = [f"text {i},label {i % 5_000}\n" for i in range(15_000)]
    data = read(put(tmp_path, "a.csv", "text,label\n" + "".join(rows)), say=quiet)
    space = LabelSpace.from_dataset(data)
    assert len(space) == 5_000
    gold = space.encode(data)
    assert [space.names[position] for position in gold.tolist()] == [
        f"label {i % 5_000}" for i in range(15_000)
    ]
    parts = split(data, say=quiet)
    assert len(np.unique(gold[parts["train"]])) == 5_000
    assert len(parts["dev"]) == pytest.approx(1_500, abs=15)


def test_b5_exact_overlap_is_reported_with_pairs():
    train = Dataset.from_lists(["Where is my card?", "b"], source="train.csv")
    test = Dataset.from_lists(["c", "where is  my card?"], source="test.csv")
    found = overlap(train, test)
    assert found.pairs.tolist() == [[0, 1]]
    assert "test.csv" in found.warning


def test_reading_and_splitting_import_no_torch():
    import subprocess

    code = "import sortal.data.reading, sortal.data.splitfile, sys; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


DATA = Path(os.environ.get("SORTAL_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
CORPORA = [
    ("banking77/train.csv", {}, 10_003, 77, "single"),
    ("goemotions/train.tsv", {}, 43_410, 28, "multi"),
    ("reuters21578/train.jsonl", {}, 7_770, 90, "multi"),
    ("hausa_news/train_noisy.csv", {}, 3_170, 5, "single"),
    ("newsgroups20/train.parquet", {}, 11_314, 20, "single"),
    ("us_patents_ipc/dev.parquet", {"label": "ipc"}, 1_111, 3_535, "multi"),
]


@pytest.mark.parametrize(("name", "arguments", "rows", "labels", "task"), CORPORA)
def test_public_corpora_are_read_without_a_word_about_their_columns(name, arguments, rows, labels, task):
    if not (DATA / name).exists():
        pytest.skip(f"no {name} under {DATA}; set SORTAL_DATA to a folder that holds it")
    data = read(DATA / name, say=quiet, **arguments)
    assert (len(data), data.task) == (rows, task)
    space = LabelSpace.from_dataset(data)
    assert len(space) == labels
    gold = space.encode_multi(data.labels or [])
    parts = split(data, say=quiet)
    assert sum(map(len, parts.values())) == rows
    assert (gold[parts["train"]].sum(0) > 0).all()
    frequent = gold.sum(0) >= 50
    for part, share in {"dev": 0.1, "test": 0.15}.items():
        assert np.abs(gold[parts[part]].sum(0) / gold.sum(0) - share)[frequent].max(initial=0) < 0.05
