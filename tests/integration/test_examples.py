"""The shipped corpus is what its README says, and the demo's script runs on a saved model."""

from __future__ import annotations

import importlib.util
import io
import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

from rich.console import Console

import sortal
from sortal.cli.main import main
from sortal.data.duplicates import normalised
from sortal.data.reading import read
from sortal.run import run

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "examples" / "shop"
TICKETS = ROOT / "examples" / "tickets" / "tickets.csv"


def script(name: str):
    """A script of examples/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def printed(main, *arguments, **settings) -> str:
    """What a script prints."""
    console = Console(width=140, file=io.StringIO())
    main(*arguments, console=console, **settings)
    return console.file.getvalue()


def quiet(line: str) -> None:
    del line


def test_the_shop_corpus_has_twelve_intents_in_a_fixed_split_without_duplicates():
    parts = {name: read(SHOP / f"{name}.csv", label="intent", say=quiet) for name in ("train", "dev", "test")}
    assert {name: len(part) for name, part in parts.items()} == {"train": 932, "dev": 165, "test": 273}
    texts = [normalised(text) for part in parts.values() for text in part.texts]
    assert len(set(texts)) == len(texts) == 1370
    for part in parts.values():
        assert len(Counter(part.labels)) == 12
    assert min(Counter(label for part in parts.values() for label in part.labels).values()) >= 100


def test_topics_are_multi_label_with_rows_that_have_none():
    topics = read(SHOP / "train.csv", label="topics", label_delimiter="|", say=quiet)
    assert topics.task == "multi"
    assert len({name for row in topics.labels for name in row}) == 12
    assert () in topics.labels


def test_the_shop_corpus_is_checked_as_the_how_to_says(capsys):
    files = [str(SHOP / f"{name}.csv") for name in ("train", "dev", "test")]
    words = [
        "check",
        files[0],
        "--dev",
        files[1],
        "--test",
        files[2],
        "--text",
        "text",
        "--label",
        "intent",
        "--json",
    ]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert {finding["check"] for finding in found["findings"]} <= {
        "near-duplicates",
        "leakage",
        "label-noise",
        "languages",
        "text-length",
    }
    languages = [each for each in found["findings"] if each["check"] == "languages"]
    assert "(en): de " in languages[0]["what"]
    assert ", es " in languages[0]["what"]
    assert found["counts"]["error"] == 0


def test_ten_predictions_shows_messages_with_probabilities(tiny, tmp_path, capsys):
    out = tmp_path / "run"
    data = {"dev": str(SHOP / "dev.csv"), "test": str(SHOP / "test.csv")}
    settings = {"label": "intent", "model": str(tiny), "epochs": 1, "max_train_rows": 64, "max_length": 96}
    sortal.train(SHOP / "train.csv", **data, **settings, n_resamples=100, out=str(out))
    script("ten_predictions").main(str(out / "model"), str(SHOP / "test.csv"))
    shown = capsys.readouterr().out
    assert "Ten test messages" in shown
    assert shown.count("├") == 9  # the lines between ten messages


def test_scikit_learn_searches_and_learns_topics(capsys):
    script("scikit_learn").main(str(SHOP))
    shown = capsys.readouterr().out
    majority, plain, cleaned = (float(line.split()[-1]) for line in shown.splitlines()[1:4])
    assert majority < 0.05 < min(plain, cleaned)
    assert float(re.search(r"micro-F1 on test: (\d\.\d+)", shown)[1]) > 0.5
    assert "from the saved folder: ('delivery'" in shown


def test_the_tickets_are_what_their_readme_says():
    tickets = read(TICKETS, text=["text"], label="topics", label_delimiter="|", say=quiet)
    assert tickets.task == "multi"
    assert len({normalised(text) for text in tickets.texts}) == len(tickets) == 161
    assert Counter(map(len, tickets.labels)) == {0: 10, 1: 78, 2: 68, 3: 5}
    topics = Counter(name for row in tickets.labels for name in row)
    assert sorted(topics) == [
        "billing",
        "integrations",
        "login",
        "mobile",
        "performance",
        "permissions",
        "reports",
    ]
    assert (min(topics.values()), max(topics.values())) == (30, 38)


def test_multi_label_shows_thresholds_and_what_they_change():
    shown = printed(script("multi_label").main, str(TICKETS))
    tuned, half = (
        float(found)
        for found in re.findall(r"micro-F1 (0\.\d+)|thresholds: (0\.\d+)", shown)
        for found in found
        if found
    )
    assert tuned > 0.45
    assert tuned > half
    assert len(re.findall(r"│ [a-z]+ +│ +0\.\d\d │", shown)) == 7
    assert shown.count("→") == 3


def test_compare_methods_shows_quality_cost_and_pairs(tiny_encoders, tmp_path, monkeypatch):
    def here(cell, *_):
        """A cell in this process, which spares it the time to start."""
        run(cell.config, resume=True, say=quiet, quiet=True)
        return SimpleNamespace(poll=lambda: 0, returncode=0)

    monkeypatch.setattr("sortal.comparison.compare.start_cell", here)
    few = {
        "max_train_rows": 80,
        "encoder.model": str(tiny_encoders["bert"]),
        "encoder.epochs": 1,
        "n_resamples": 200,
    }
    shown = printed(script("compare_methods").main, str(tmp_path / "out"), max_length=96, **few)
    for method in ("majority", "tfidf", "encoder"):
        assert re.search(rf"^ {method} +1 +0\.\d+ ", shown, re.MULTILINE)
    assert re.search(r"^ majority − tfidf +-\d+\.\d points .* tfidf is better", shown, re.MULTILINE)
