"""Acceptance cases of `sortal check`: B5, and what it finds in public data."""

from __future__ import annotations

import csv
import json
import random

import numpy as np
import pytest
from benchmarks.injection import EDITS, mislabelled, retyped

from sortal.checks.check import check
from sortal.checks.label_noise import suspects
from sortal.checks.shingles import similarity
from sortal.cli.main import main
from sortal.data.reading import read


def quiet(line: str) -> None:
    del line


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


@pytest.fixture(scope="module")
def banking(data_root):
    """Rows of Banking77's training file, in a fixed random order."""
    with (data_root / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    random.Random(0).shuffle(rows)
    return rows


def test_b5_copies_of_training_rows_in_test_are_reported_with_their_pairs(banking, tmp_path):
    draw = random.Random(1)
    train, test = banking[:3_000], banking[3_000:3_500]
    long = [row for row in train if len(row[0]) >= 40]
    equal = [(retyped(text, draw), label) for text, label in draw.sample(long, 100)]
    originals = draw.sample(long, 300)
    edits = list(EDITS.values())
    near = [(edits[i % len(edits)](text, draw), label) for i, (text, label) in enumerate(originals)]
    report = check(
        write(tmp_path / "train.csv", train),
        test=write(tmp_path / "test.csv", [*test, *equal, *near]),
        only=["leakage"],
        say=quiet,
    )
    exact, alike = report.findings
    first = len(test)
    assert set(range(first, first + 100)) <= set(exact.rows.tolist())
    assert exact.severity == "error"
    texts = [text for pair in zip(near, originals, strict=True) for text, _ in pair]
    likeness = similarity(texts, np.arange(0, 600, 2), np.arange(1, 600, 2))
    expected = {first + 100 + i for i in np.flatnonzero(likeness >= 0.7).tolist()}
    found = set(alike.rows.tolist())
    assert len(expected) > 270
    assert len(found & expected) >= 0.99 * len(expected)
    place = {row: i for i, row in enumerate(alike.rows.tolist())}
    named = sum(
        f"of row {train.index(originals[row - first - 100]) + 1:,} of" in alike.note(place[row])
        for row in found & expected
    )
    assert named >= 0.95 * len(expected)


def test_b5_a_file_without_copies_raises_no_alarm(banking, tmp_path):
    train = write(tmp_path / "train.csv", banking[:4_000])
    report = check(train, only=["duplicates", "near-duplicates"], say=quiet)
    gone = {row for finding in report.findings for row in finding.rows.tolist()}
    kept = [row for i, row in enumerate(banking[:4_000]) if i not in gone]
    half = len(kept) // 2
    parts = write(tmp_path / "a.csv", kept[:half]), write(tmp_path / "b.csv", kept[half:])
    again = check(parts[0], test=parts[1], only=["duplicates", "near-duplicates", "leakage"], say=quiet)
    assert again.findings == ()


def test_b5_fix_takes_the_leaked_rows_out_of_train(banking, tmp_path, capsys):
    train, test = banking[:1_000], banking[1_000:1_200]
    leaked = [(text.upper(), label) for text, label in train[:50]]
    files = write(tmp_path / "train.csv", train), write(tmp_path / "test.csv", [*test, *leaked])
    before = files[0].read_bytes()
    out = tmp_path / "clean.csv"
    assert main(["check", str(files[0]), "--test", str(files[1]), "--fix", str(out), "--json"]) == 0
    cleaned = json.loads(capsys.readouterr().out)["cleaned"]
    assert cleaned["removed"] >= 50
    assert files[0].read_bytes() == before
    again = check(out, test=files[1], only=["leakage"], say=quiet)
    assert [finding for finding in again.findings if finding.severity == "error"] == []
    assert len(read(out, say=quiet)) == 1_000 - cleaned["removed"]


def test_wrong_labels_of_hausa_news_are_found_better_than_by_chance_and_by_loss(data_root):
    """Half of the labels are wrong; benchmarks/results/check.md has the figures."""
    from benchmarks.check_noise import losses
    from sklearn.metrics import average_precision_score

    from sortal.checks.base import CheckContext
    from sortal.methods.tfidf_features import TfidfFeatures

    folder = data_root / "hausa_news"
    right = read(folder / "train_clean.csv", say=quiet)
    given = read(folder / "train_clean_noisy_labels.csv", text="news_title", label="label", say=quiet)
    wrong = np.array([one != other for one, other in zip(right.labels, given.labels, strict=True)])
    context = CheckContext({"train": given})
    found = suspects(context)
    assert len(found.rows) > 50
    assert wrong[found.rows].mean() > 0.85 > wrong.mean() + 0.3
    ours = average_precision_score(wrong, found.score)
    gold = context.labels.rows["train"].indices.astype(np.int64)
    loss = losses(TfidfFeatures.fit(given.texts)[1], gold, np.zeros(len(gold), np.int64), held_out=False)
    assert ours > average_precision_score(wrong, loss) + 0.1


def test_labels_changed_at_random_are_found_among_the_first(banking):
    from checked import context

    texts, right = zip(*banking[:5_000], strict=True)
    given = mislabelled(list(right), 0.05, random.Random(0))
    wrong = np.array([one != other for one, other in zip(given, right, strict=True)])
    found = suspects(context(list(zip(texts, given, strict=True))))
    assert wrong[np.argsort(-found.score, kind="stable")[: wrong.sum()]].mean() > 0.75
    assert wrong[found.rows].mean() > 0.4


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("banking77/train.csv", {}),
        ("hausa_news/train_clean.csv", {}),
        ("goemotions/dev.tsv", {"label_delimiter": ","}),
        ("reuters21578/test.jsonl", {"label": "topics", "text": "text"}),
        ("us_patents_ipc/test.parquet", {"label": "ipc", "text": ["title", "abstract"]}),
    ],
)
def test_public_data_is_checked_and_nothing_in_it_is_taken_for_broken(data_root, name, more):
    only = ["conflicts", "label-spelling", "rare-labels", "imbalance", "text-length", "encoding", "scripts"]
    report = check(data_root / name, only=only, say=quiet, **more)
    assert "error" not in {finding.severity for finding in report.findings}
    assert all(finding.what and finding.advice and report.examples(finding) for finding in report.findings)
    json.dumps(report.to_json())
