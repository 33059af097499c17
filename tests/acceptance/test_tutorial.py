"""The tutorial, command by command, in a copy of the corpus; the fine-tune is shrunk to a tiny model and one epoch."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sortal.cli.main import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial" / "first-classifier.md").read_text(encoding="utf-8")
SMALL = [
    "--epochs",
    "1",
    "--max-length",
    "96",
    "--set",
    "max_train_rows=64",
    "n_resamples=100",
    "dtype=float32",
]


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def walked(tiny, tmp_path_factory):
    """Every ``sortal`` line of the page, run in its order: words, exit code and stdout of each, and the folder."""
    folder, done = tmp_path_factory.mktemp("tutorial"), []
    shutil.copytree(ROOT / "examples", folder / "examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in "".join(blocks("sh")).replace("\\\n", " ").splitlines():
            words = shlex.split(line)
            if words[:1] == ["echo"]:
                patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{words[1]}\n".encode())))
                words = words[words.index("|") + 1 :]
            if words[:1] != ["sortal"]:
                continue  # make and the shell's own
            tuned = words[1] == "train" and "--method" not in words
            out = io.StringIO()
            with pytest.MonkeyPatch.context() as catching:
                catching.setattr(sys, "stdout", Plain(out))
                code = main([*words[1:], *(["--model", str(tiny), *SMALL] if tuned else [])])
            done.append(SimpleNamespace(words=words[1:], code=code, out=out.getvalue()))
        yield SimpleNamespace(folder=folder, done=done)


class Plain:
    """A stdout that is kept; `predict` sets its encoding."""

    def __init__(self, kept):
        self.kept = kept

    def __getattr__(self, name):
        return getattr(self.kept, name)

    def reconfigure(self, **_):
        pass


def test_every_command_of_the_tutorial_works(walked):
    verbs = [step.words[0] for step in walked.done]
    assert verbs == ["doctor", "check", "train", "train", "train", "predict", "predict", "evaluate", "report"]
    assert [step.code for step in walked.done] == [0] * len(verbs)


def test_what_it_says_of_the_baseline_is_what_comes_out(walked):
    metrics = json.loads((walked.folder / "runs/shop-tfidf/metrics.json").read_text())
    low, high = metrics["intervals"]["accuracy"]
    assert f"accuracy                  {metrics['accuracy']:.3f}   {low:.3f} – {high:.3f}" in PAGE
    assert f"So {metrics['accuracy']:.3f} is something" in PAGE
    assert f"for the baseline from {low:.3f} to {high:.3f}" in PAGE
    assert f"off by {metrics['ece']:.2f} on average" in PAGE
    (worst,) = (label for label in metrics["per_label"] if label["label"] == "damaged_or_defective")
    assert f"in {round(worst['recall'] * worst['support'])} of {worst['support']} messages" in PAGE
    run = json.loads((walked.folder / "runs/shop-tfidf/run.json").read_text())
    dev = max(run["training"]["candidates"], key=lambda found: found["f1_macro"])["accuracy"]
    assert f"which had {dev:.3f} there" in PAGE


def test_what_it_says_of_asking_and_measuring_is_what_comes_out(walked):
    answers = [json.loads(line) for line in walked.done[5].out.splitlines()]
    assert len(answers) == 1
    assert len(answers[0]["probabilities"]) == 12
    assert len((walked.folder / "runs/answers.csv").read_text().splitlines()) >= 274
    again, first = (
        json.loads((walked.folder / name / "metrics.json").read_text())
        for name in ("runs/shop-again", "runs/shop")
    )
    assert again["accuracy"] == pytest.approx(first["accuracy"], abs=1e-9)
    assert "Mistakes" in (walked.folder / "runs/shop/report.html").read_text(encoding="utf-8")


def test_its_python_runs(walked, monkeypatch):
    monkeypatch.chdir(walked.folder)
    (code,) = blocks("python")
    names: dict = {}
    exec(compile(code, "tutorial", "exec"), names)
    assert names["classifier"].predict(["the lamp arrived broken"])[0] in names["classifier"].classes_


def test_abstaining_without_training_again_works_as_its_how_to_says(walked, monkeypatch):
    monkeypatch.chdir(walked.folder)
    page = (ROOT / "docs" / "how-to" / "thresholds.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(compile(code, "thresholds", "exec"), names)
    texts = [
        line for line in (walked.folder / "examples/shop/test.csv").read_text().splitlines()[1:50] if line
    ]
    careful, usual = (names[name].predict(texts) for name in ("careful", "classifier"))
    assert None in careful
    assert all(a in (None, b) for a, b in zip(careful, usual, strict=True))


def test_the_abstention_table_of_its_how_to_is_what_comes_out(walked):
    page = (ROOT / "docs" / "how-to" / "thresholds.md").read_text(encoding="utf-8")
    metrics = json.loads((walked.folder / "runs/shop-tfidf/metrics.json").read_text())
    shown = {
        float(line.split()[0]): line.split() for line in page.splitlines() if re.match(r" 0\.\d\d ", line)
    }
    assert len(shown) == 3
    for row in metrics["coverage_table"]:
        if row["abstain_below"] in shown:
            _, answered, coverage, accuracy = shown[row["abstain_below"]]
            assert (int(answered), accuracy) == (row["answered"], f"{row['accuracy']:.3f}")
            assert coverage == f"{100 * row['coverage']:.1f}%"
