"""Pages of runs with chosen labels: escaping, bounds, sections, and what is said."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from pages import Page
from report_runs import layer_curve, write_run
from sortal.errors import ConfigError, RunFolderError
from sortal.evaluation.predictions import read_predictions
from sortal.reporting.report import report
from tiny_runs import edit_json

NASTY = ["<script>alert(1)</script>", '"><img src=http://evil.example/x>', "a|b `c` *d* [e](http://x)", "{{ 7 * 7 }}", "line\nbreak", "&amp;", "\u202eright-to-left", "x" * 300]  # fmt: skip


def written(folder, **more):
    made = report(folder, **more)
    return Page(Path(made.html).read_text(encoding="utf-8")).check(), made


@pytest.mark.parametrize("task", ["single", "multi"])
def test_labels_and_ids_cannot_become_markup(task, tmp_path):
    folder = write_run(tmp_path / "run", NASTY, task, ids=[f"<b onclick=x>{i}" for i in range(120)])
    page, made = written(folder)
    assert "<script>alert(1)</script>" in page.text  # shown as what it is
    assert "{{ 7 * 7 }}" in page.text
    assert not page.all("b")
    words = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "<script" not in words.replace("\\<script", "")
    assert "[e](http" not in words
    assert "| a\\|b \\`c\\` \\*d\\* \\[e\\](http://x) |" in words
    assert made.html_bytes == len((tmp_path / "run" / "report.html").read_bytes())


def test_texts_cannot_become_markup(tmp_path, monkeypatch):
    from sortal.reporting.rows import TestRows

    folder = write_run(tmp_path / "run", ["a", "b", "c"])
    texts = ["</td></table><script>alert(2)</script> and a </style> tag"] * 120
    monkeypatch.setattr("sortal.reporting.page.read_rows", lambda run: TestRows(texts, None))
    page, _ = written(folder)
    assert "</td></table><script>alert(2)</script>" in page.text


def test_a_run_has_every_section_and_names_no_winner(tmp_path):
    page, made = written(write_run(tmp_path / "run", [f"l{k}" for k in range(5)]))
    assert page.sections == [
        "verdict", "figures", "confusion", "labels", "calibration", "thresholds", "ranking", "mistakes", "checks", "provenance", "reproduce",
    ]  # fmt: skip
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    low, high = metrics["intervals"]["accuracy"]
    assert (
        f"tfidf reaches accuracy {metrics['accuracy']:.3f}, 95 % interval {low:.3f} to {high:.3f}"
        in made.verdict[0]
    )
    assert "120 test rows" in made.verdict[0]
    assert f"ECE {metrics['ece']:.3f}" in made.verdict[1]
    assert "One training run (seed 0)" in made.notes[0]
    assert not re.search(r"\b(better|best|wins?|winner)\b", " ".join(made.verdict))
    assert made.figures["accuracy"] == metrics["accuracy"]


def test_weights_that_are_not_as_published_are_named(tmp_path):
    folder = write_run(tmp_path / "run", ["a", "b"], method="head")
    base = {
        "spec": "base",
        "revision": "1",
        "note": "de-quantised from GGUF Q4_1",
        "fingerprint": "f",
        "licence": "MIT",
    }
    edit_json(folder / "run.json", base_model=base)
    page, made = written(folder)
    assert "Base weights: base, de-quantised from GGUF Q4_1." in made.notes
    assert "base licence" in page.text


def test_the_layer_curve_has_a_line_per_template_and_pooling_and_its_choice(tmp_path):
    page, _ = written(write_run(tmp_path / "run", ["a", "b"], method="head", training=layer_curve()))
    assert "layers" in page.sections
    assert len(page.all("svg", id="layer-plot")) == 1
    words = [e[2] for e in page.all("text")]
    assert "the ring is the choice: layer 7, summary, last" in page.text
    assert page.all("circle", **{"class": "chosen"})
    assert {"summary, last", "summary, mean", "eos, last", "eos, mean"} <= set(words)
    (section,) = [
        s
        for s in json.loads((tmp_path / "run" / "report.json").read_text())["sections"]
        if s["id"] == "layers"
    ]
    data = section["blocks"][0]["data"]
    assert data["chosen"] == {"layer": 7, "template": "summary", "pooling": "last"}
    # of every layer the better value of C
    assert data["curves"]["summary, last"]["7"] == pytest.approx(0.9)
    assert data["curves"]["eos, mean"]["1"] == pytest.approx(0.9 - 0.12 - 0.2)
    assert (
        "Chosen: layer 7 with template summary and pooling last, 0.900"
        in page.all("desc", id="layer-plot-desc")[0][2]
    )


@pytest.mark.parametrize(("task", "n"), [("single", 800), ("multi", 150)])
def test_thousands_of_labels_do_not_make_a_huge_page(task, n, tmp_path):
    folder = write_run(tmp_path / "run", [f"label number {k} of many" for k in range(2000)], task, n)
    page, made = written(folder)
    assert made.html_bytes < 400_000
    assert len(page.all("svg")) < 25
    assert re.search(
        r"1,984 labels with fewer errors are left out, and with them [\d,]+ of [\d,]+ errors", page.text
    )
    assert "1,700 more are in metrics.json" in page.text
    assert re.search(r"[\d,]+ labels are left out\.", page.text)
    assert (tmp_path / "run" / "report.json").stat().st_size < 600_000


def test_a_model_that_is_always_right_has_a_page(tmp_path):
    folder = write_run(tmp_path / "run", ["a", "b"], n=40)
    found = read_predictions(folder / "predictions.parquet")
    from sortal.evaluation.decision import Decision
    from sortal.evaluation.metrics import evaluate
    from sortal.evaluation.predictions import write_predictions

    scores = 5.0 * (found.gold[:, None] == [0, 1])
    decision = Decision("single")
    p = decision.probabilities(scores)
    write_predictions(
        folder / "predictions.parquet", found.ids, p, decision.decide(p), found, gold=found.gold
    )
    metrics = evaluate(scores, found.gold, decision, found, n_resamples=0)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    page, made = written(folder)
    assert "Every test row is right." in page.text
    assert "No label is given in place of another." in page.text
    assert "interval" not in made.verdict[0]  # no resamples were asked for


def test_abstentions_are_shown_where_they_are_in_use(tmp_path):
    page, _ = written(write_run(tmp_path / "run", ["a", "b", "c"], abstain_below=0.6))
    assert "in use: below 0.6" in [e[2] for e in page.all("text")]
    assert "gives no answer when its best probability is below 0.6" in page.text
    assert "no answer" in page.text


def test_settings_that_are_not_defaults_come_first_and_a_wide_page_is_reproducible(tmp_path):
    page, _ = written(write_run(tmp_path / "run", ["a", "b"], method="head", lora_r=4))
    code = [e[2] for e in page.all("pre")]
    assert "lora_r: 4" in code[0]
    assert "lora_alpha" not in code[0]
    assert code[1] == "sortal train --config settings.yaml --out NEW_FOLDER"
    captions = [e[2] for e in page.all("caption")]
    assert "Settings of method head that are not the defaults" in captions


def test_without_its_data_the_page_says_so_and_has_no_texts(tmp_path):
    page, made = written(write_run(tmp_path / "run", ["a", "b"]))
    assert made.notes[-1].startswith("Texts are left out: ")
    assert "no-such-file.csv" in made.notes[-1]
    assert "text" not in [e[2] for e in page.all("th", scope="col")]


def test_the_page_can_be_written_elsewhere_and_only_under_an_html_name(tmp_path):
    folder = write_run(tmp_path / "run", ["a", "b"])
    made = report(folder, out=tmp_path / "new" / "page.html")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["page.html", "page.json", "page.md"]
    assert made.markdown == str(tmp_path / "new" / "page.md")
    assert not (folder / "report.html").exists()
    with pytest.raises(ConfigError, match=r"not the name of an HTML file"):
        report(folder, out=tmp_path / "page.txt")


def test_two_reports_of_the_same_run_are_equal(tmp_path):
    folder = write_run(tmp_path / "run", ["a", "b"])
    first = Path(report(folder).html).read_bytes()
    assert first == Path(report(folder).html).read_bytes()


def test_folders_that_cannot_be_reported_are_one_clear_sentence_each(tmp_path):
    folder = write_run(tmp_path / "run", ["a", "b"])

    def refused(words, path=folder):
        with pytest.raises(RunFolderError, match=words) as error:
            report(path)
        assert error.value.fix
        assert error.value.exit_code == 2
        assert not (path / "report.html").exists()

    refused("does not exist", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    refused("has neither a run.json nor a comparison.json", tmp_path / "empty")
    (folder / "model").mkdir()
    with pytest.raises(RunFolderError, match=r"give the run's folder"):
        report(folder / "model")
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "metrics.json").write_text("{")
    refused(r"metrics\.json is damaged: it is not JSON", broken)
    (broken / "metrics.json").write_text("[]")
    refused("holds no object", broken)
    (broken / "metrics.json").write_text("{}")
    refused(r"metrics\.json lacks calibration_bins", broken)
    (broken / "metrics.json").unlink()
    refused(r"metrics\.json cannot be read", broken)
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "predictions.parquet").write_bytes(b"PAR1")
    refused("is not a predictions file", other)
    (other / "predictions.parquet").unlink()
    refused(r"predictions\.parquet does not exist", other)
    more = write_run(tmp_path / "more", ["a", "b"], n=130)
    shutil.copy(more / "predictions.parquet", other / "predictions.parquet")
    refused("it has 130 rows, not 120", other)
    edit_json(folder / "run.json", status="running")
    refused(r"has not finished \(its status is running\)")
    (tmp_path / "waiting" / "settings").mkdir(parents=True)
    (tmp_path / "waiting" / "runs").mkdir()
    refused("no run of the comparison", tmp_path / "waiting")
    (tmp_path / "waiting" / "comparison.json").write_text('{"metric": "accuracy"}')
    refused("is damaged or of another version", tmp_path / "waiting")
