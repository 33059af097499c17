"""``sortal import wipo-alpha``: every record a row or a named problem, resumable, and what comes out trains as it is."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from benchmarks.wipo_records import BROKEN, Made, record, write_broken, write_collection

from commands import Command
from sortal.cli.main import main
from sortal.importing import shards

RECORDS, SHARD = 120, 15


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_FILES", SHARD)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Made]]:
    """A collection with broken files in it."""
    root = tmp_path_factory.mktemp("collection") / "c"
    made = write_collection(root, RECORDS, description_words=20)
    write_broken(root / "train" / "broken")
    return root, made


def imported(root: Path, out: Path, *more: str) -> dict[str, Path]:
    """The files of an import in this process."""
    assert main(["import", "wipo-alpha", str(root), "--out", str(out), "--workers", "1", *more]) == 0
    return {path.name: path for path in out.iterdir()}


@pytest.fixture(scope="module")
def whole(collection: tuple[Path, list[Made]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes that an uninterrupted import writes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_FILES", SHARD)
        return {name: path.read_bytes() for name, path in imported(collection[0], out).items()}


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_every_record_is_a_row_as_it_was_written(collection, tmp_path):
    root, made = collection
    files = imported(root, tmp_path / "out")
    found = {}
    for part in ("train", "test"):
        for row in pq.read_table(files[f"{part}.parquet"]).to_pylist():
            assert row["file"].startswith(f"{part}/")
            found[row["file"]] = row
    assert list(found) == sorted(found, key=lambda path: (path.startswith("test"), path))
    assert set(found) == {item.path for item in made}
    for item in made:
        row = found[item.path]
        assert (row["id"], row["main_code"]) == (item.id, item.main)
        assert row["all_codes"] == list(dict.fromkeys([item.main, *item.others]))
        assert {name: row[name] or None for name in item.texts} == {
            name: text or None for name, text in item.texts.items()
        }


def test_files_without_a_row_are_named_with_the_reason_and_counted(collection, tmp_path, capsys):
    files = imported(collection[0], tmp_path / "out", "--json")
    lines = files["problems.jsonl"].read_text(encoding="utf-8").splitlines()
    problems = [json.loads(line) for line in lines]
    refused = {Path(item["file"]).name: item["kind"] for item in problems if not item["row"]}
    assert refused == {name: kind for name, (_, kind) in BROKEN.items()}
    noted = {item["file"]: item["kind"] for item in problems if item["row"]}
    paths = [item.path for item in collection[1]]
    assert noted == dict.fromkeys(paths[16::17], "invalid secondary code") | dict.fromkeys(
        paths[22::23], "folder disagrees"
    )
    out, err = capsys.readouterr()
    summary = json.loads(out.splitlines()[-1])
    assert summary == {
        key: value for key, value in json.loads(files["import.json"].read_text()).items() if key != "import"
    }
    assert summary["files"] == RECORDS + len(BROKEN)
    assert summary["records"] == {"train": 90, "test": 30}
    assert sum(summary["skipped"].values()) == len(BROKEN)
    assert summary["skipped"]["declares entities"] == 3
    assert summary["noted"] == {"invalid secondary code": 7, "folder disagrees": 5}
    assert summary["missing"]["no abstract"] == 24
    assert summary["languages"] == {"en": RECORDS}
    assert "skipped: declares entities" in err
    assert "problems.jsonl names every file" in err


def test_the_how_to_shows_what_is_said(tmp_path, capsys):
    write_collection(tmp_path / "made-up", 900)
    write_broken(tmp_path / "made-up" / "train" / "broken")
    imported(tmp_path / "made-up", tmp_path / "wipo")
    said = [line.strip() for line in capsys.readouterr().err.replace(f"{tmp_path}/", "").splitlines()]
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "patents.md").read_text(encoding="utf-8")
    shown = page.split("```text\n")[1].partition("```")[0].splitlines()
    assert [line.strip(" ─") for line in shown] == [line.strip(" ─") for line in said]


def test_nothing_outside_the_collection_is_read_or_asked_for(tmp_path, capsys):
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    port = listener.getsockname()[1]
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret", encoding="utf-8")
    folder = tmp_path / "c" / "train"
    folder.mkdir(parents=True)
    good = record(an="EP1", mc="D01D00106", title="good")
    for name, text in {
        "dtd": good.replace("../../../../../../ipctraining.dtd", f"http://127.0.0.1:{port}/x.dtd"),
        "file": f"<!DOCTYPE r [<!ENTITY x SYSTEM '{secret.as_uri()}'>]><record><tis><ti>&x;</ti></tis></record>",
        "net": f"<!DOCTYPE r [<!ENTITY % x SYSTEM 'http://127.0.0.1:{port}/'> %x;]><record/>",
        "include": f"<record xmlns:xi='http://www.w3.org/2001/XInclude'><ipcs mc='D01D00106'/><tis><ti><xi:include href='{secret.as_uri()}' parse='text'/></ti></tis></record>",
    }.items():
        (folder / f"{name}.xml").write_text(text, encoding="utf-8")
    (folder / "link.xml").symlink_to(secret)
    files = imported(tmp_path / "c", tmp_path / "out", "--json")
    assert pq.read_table(files["train.parquet"])["title"].to_pylist() == ["good", None]
    assert json.loads(capsys.readouterr().out)["skipped"] == {"declares entities": 2}
    assert not any(b"the secret" in path.read_bytes() for path in files.values())
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.close()


def killed_at(moment: int) -> None:
    """SIGKILL at that fsync or rename (1-based) of the process, of which there are some for every shard."""
    shards.SHARD_FILES = SHARD
    seen = 0

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)

        return call

    os.fsync, Path.replace, Path.rename = map(around, (os.fsync, Path.replace, Path.rename))  # type: ignore[method-assign]


# The manifest, the first shards, one in the middle, the last, and the folder that is published.
@pytest.mark.parametrize("moment", [1, 3, 6, 17, 29, 30, 33, 36])
def test_killed_at_any_write_the_same_command_goes_on_and_ends_alike(collection, whole, tmp_path, moment):
    words = ["import", "wipo-alpha", collection[0], "--out", "out", "--workers", "1"]
    killed = Command(*words, folder=tmp_path, before=partial(killed_at, moment))
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "out").exists() or contents(tmp_path / "out") == whole
    assert contents_after(collection[0], tmp_path) == whole


def contents_after(root: Path, folder: Path) -> dict[str, bytes]:
    """What the command leaves when it is given again."""
    imported(root, folder / "out")
    assert [path.name for path in folder.iterdir() if path.name.startswith(".out")] == []
    return contents(folder / "out")


def test_workers_end_with_a_killed_parent_and_the_rest_is_done_later(collection, whole, tmp_path):
    words = ["import", "wipo-alpha", collection[0], "--out", "out", "--workers", "2"]
    running = Command(*words, folder=tmp_path, before=small)
    work = tmp_path / ".out.sortal-import"
    running.until(lambda: any(work.glob("*.shard")))
    children = psutil.Process(running.pid).children(recursive=True)
    running.send()
    running.wait()
    assert psutil.wait_procs(children, timeout=60)[1] == []
    assert contents_after(collection[0], tmp_path) == whole


def small() -> None:
    shards.SHARD_FILES = SHARD


def stopped_at(shard: int, number: int) -> None:
    """A signal once that shard (from 1) is stored."""
    small()
    from sortal.bulk.work import Work

    store, seen = Work.store, 0

    def stored(self: Work, *arguments: Any) -> None:
        nonlocal seen
        store(self, *arguments)
        seen += 1
        if seen == shard:
            os.kill(os.getpid(), number)

    Work.store = stored  # type: ignore[method-assign]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_it_says_what_is_kept(collection, whole, tmp_path, number):
    words = ["import", "wipo-alpha", collection[0], "--out", "out", "--workers", "1"]
    stopped = Command(*words, folder=tmp_path, before=partial(stopped_at, 3, number))
    assert stopped.wait() == 128 + number
    said = f"stopped by {number.name}; 45 of 132 files are kept\n→ give the same command again to go on"
    assert said in stopped.stderr
    assert not (tmp_path / "out").exists()
    assert contents_after(collection[0], tmp_path) == whole


def test_several_processes_write_the_same_files(collection, whole, tmp_path):
    words = ["import", "wipo-alpha", str(collection[0]), "--out", str(tmp_path / "out"), "--workers", "2"]
    assert main(words) == 0
    assert contents(tmp_path / "out") == whole


def test_a_finished_import_is_left_alone_and_another_is_refused(collection, tmp_path, capsys):
    root, out = collection[0], tmp_path / "out"
    imported(root, out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    imported(root, out)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert "holds this import already" in capsys.readouterr().err
    words = ["import", "wipo-alpha", str(root), "--out", str(out), "--language", "fr"]
    assert main(words) == 2
    assert "is not the result of this import" in capsys.readouterr().err
    other = tmp_path / "mine"
    other.mkdir()
    assert main([*words[:4], str(other)]) == 2
    assert list(other.iterdir()) == []


def test_changed_files_do_not_go_with_what_is_kept(tmp_path, capsys):
    root = tmp_path / "c"
    made = write_collection(root, 60, description_words=5)
    words = ["import", "wipo-alpha", root, "--out", "out", "--workers", "1"]
    stopped = Command(*words, folder=tmp_path, before=partial(stopped_at, 2, signal.SIGTERM))
    assert stopped.wait() == 143
    (root / made[0].path).write_text(record(an="EP9", mc="A01B00100", title="changed"), encoding="utf-8")
    again = ["import", "wipo-alpha", str(root), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(again) == 2
    said = capsys.readouterr().err
    assert "finished parts of another import: files:" in said
    assert "--force" in said
    assert main([*again, "--force"]) == 0
    table = pq.read_table(tmp_path / "out" / "train.parquet")
    assert "changed" in table["title"].to_pylist()


def test_a_choice_of_language(tmp_path):
    more = '<tis><ti xml:lang="FR">un titre</ti></tis>'
    folder = tmp_path / "c"
    folder.mkdir()
    text = record(an="EP1", mc="D01D00106", title="a title", more=more)
    (folder / "EP1_01022000.xml").write_text(text, encoding="iso-8859-1")
    english = pq.read_table(imported(folder, tmp_path / "en")["train.parquet"]).to_pylist()[0]
    french = pq.read_table(
        imported(folder, tmp_path / "fr", "--language", "fr,en")["train.parquet"]
    ).to_pylist()[0]
    assert (english["title"], english["language"]) == ("a title", "en")
    assert (french["title"], french["language"]) == ("un titre", "fr")


def test_ids_that_occur_twice_are_counted_and_both_rows_kept(tmp_path, capsys):
    text = record(an="EP1", mc="D01D00106", title="a title")
    for part in ("train", "test"):
        (tmp_path / "c" / part).mkdir(parents=True)
        (tmp_path / "c" / part / "EP1_01022000.xml").write_text(text, encoding="iso-8859-1")
    imported(tmp_path / "c", tmp_path / "out", "--json")
    summary = json.loads(capsys.readouterr().out)
    assert summary["records"] == {"train": 1, "test": 1}
    assert summary["missing"]["repeated id"] == 1


def test_titles_become_wordings_of_the_training_labels(collection, tmp_path, capsys):
    table = tmp_path / "t.csv"
    table.write_text(
        "subclass,title\nD01D,SPINNING (looms D03D)\nA01B,SOIL\nH99Z,NOT HERE\n", encoding="utf-8"
    )
    files = imported(collection[0], tmp_path / "out", "--titles", str(table))
    lines = files["wording-subclass.csv"].read_text(encoding="utf-8").splitlines()
    assert lines[:3] == ["label,wording,description", "A01B,A01B,soil", "A01C,A01C,"]
    assert "D01D,D01D,spinning" in lines
    assert len(lines) == 1 + 15
    assert "wording-class.csv" not in files
    assert "wording-subclass.csv: 2 of 15 labels have a title" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none", "--out", "o"], "none is not a folder"),
        ([".", "--out", "o"], "holds no .xml files"),
        ([".", "--out", "no/such/o"], "its parent folder does not exist"),
        ([".", "--out", "/"], "its parent folder does not exist"),
        ([".", "--out", "o", "--language", " "], "no language is given"),
        ([".", "--out", "o", "--titles", "none.csv"], "none.csv does not exist"),
    ],
)
def test_a_mistake_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(["import", "wipo-alpha", *words]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_titles_may_be_given_when_it_goes_on(collection, whole, tmp_path):
    words = ["import", "wipo-alpha", collection[0], "--out", "out", "--workers", "1"]
    stopped = Command(*words, folder=tmp_path, before=partial(stopped_at, 3, signal.SIGTERM))
    assert stopped.wait() == 143
    (tmp_path / "t.csv").write_text("subclass,title\nD01D,SPINNING\n", encoding="utf-8")
    files = imported(collection[0], tmp_path / "out", "--titles", str(tmp_path / "t.csv"))
    assert files["train.parquet"].read_bytes() == whole["train.parquet"]
    assert "wording-subclass.csv" in files


def test_a_collection_of_broken_files_only_is_refused(tmp_path, capsys):
    write_broken(tmp_path / "c")
    words = ["import", "wipo-alpha", str(tmp_path / "c"), "--out", str(tmp_path / "o"), "--workers", "1"]
    assert main(words) == 2
    assert "none of 12 files gave a record (" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_what_was_imported_trains_and_is_measured_on_main_and_further_codes(collection, tmp_path, capsys):
    imported(collection[0], tmp_path / "out")
    model, data = tmp_path / "run" / "model", str(tmp_path / "out")
    words = ["--text", "title", "abstract", "--label", "class", "--method", "tfidf", "--id", "id"]
    assert main(["train", data, *words, "--out", str(tmp_path / "run")]) == 0
    test = str(tmp_path / "out" / "test.parquet")
    capsys.readouterr()
    assert main(["evaluate", str(model), test, "--also-label", "all_classes", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["main_first"] == pytest.approx(found["accuracy"])
    assert found["main_first"] <= found["main_in_three"] <= 1
    assert found["main_first"] <= found["first_in_all"] <= 1
    assert found["intervals"]["preferential"][0] <= found["preferential"]
    assert 0 < found["rows_with_further_labels"] < found["n"] == 30
    assert "main label in the first three" in err
    assert "does not know" not in err
    assert main(["evaluate", str(model), test, "--also-label", "all_codes"]) == 0
    assert "column 'all_codes' holds" in capsys.readouterr().err
    assert main(["evaluate", str(model), test, "--also-label", "al_classes"]) == 2
    assert "no column 'al_classes'; did you mean 'all_classes'?" in capsys.readouterr().err
