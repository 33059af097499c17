"""Rare and many labels as a user meets them: losses of tuned methods, sparse gold, figures in every place that shows some."""

from __future__ import annotations

import json

import numpy as np
import pytest

import sortal
from baseline_runs import baseline, topics
from head_runs import head_runs, read_json
from sortal.cli.evaluate import evaluate
from sortal.config import build_config
from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.dry_run import dry_run
from sortal.errors import ConfigError
from sortal.evaluation import predictions
from sortal.reporting.report import report
from tiny_runs import HARD_TEXTS, fit, write_csv

MULTI = {"label_delimiter": "|"}
SHIFTING = [{"loss": "asymmetric"}, {"negative_smoothing": 0.05}, {"logit_adjustment": 1.0}]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("data") / "topics.csv", topics())


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_models, data):
    return head_runs(tmp_path_factory, tiny_models, data)


@pytest.mark.parametrize("settings", SHIFTING)
def test_s11_the_losses_of_rare_labels_are_exact_under_microbatching_and_recalibrated(runs, settings):
    whole = runs("llama", max_tokens=100_000, **MULTI, **settings)
    cut = runs("llama", max_tokens=16, **MULTI, **settings)
    scores = [run.classifier.scorer.score(HARD_TEXTS) for run in (whole, cut)]
    np.testing.assert_allclose(*scores, atol=1e-3)
    plain = runs("llama", max_tokens=100_000, **MULTI).classifier.scorer.score(HARD_TEXTS)
    assert np.abs(plain - scores[0]).max() > 0.01
    assert any("shift the probabilities; they are recalibrated on dev" in line for line in whole.said)


def test_single_label_logit_adjustment_runs_and_a_loss_of_several_labels_is_refused(tiny_models, tmp_path):
    lines = [(f"parcel {i}", "often") for i in range(40)] + [(f"money {i}", "rare") for i in range(8)]
    data = write_csv(tmp_path / "data.csv", lines)
    result = fit(data, tiny_models["llama"], tmp_path / "run", logit_adjustment=1.0)
    assert set(result.classifier.predict(["parcel 3", "money 1"])) <= {"often", "rare"}
    with pytest.raises(ConfigError, match="'asymmetric' is for multi-label tasks"):
        fit(data, tiny_models["llama"], tmp_path / "other", loss="asymmetric")
    assert not (tmp_path / "other").exists()


def test_answers_that_are_words_refuse_what_is_for_logits(tiny_models, tmp_path, data):
    for settings in SHIFTING:
        with pytest.raises(ConfigError, match="does not apply to answers that are words"):
            fit(
                data,
                tiny_models["llama"],
                tmp_path / "run",
                method="instruct",
                answer="list",
                **MULTI,
                **settings,
            )


def test_a_dry_run_names_the_places_of_labels_and_not_thousands_of_zeros(tmp_path):
    lines = [(f"text {i}", f"code{i % 300:03d}|code{(i + 1) % 300:03d}") for i in range(900)]
    data, said = write_csv(tmp_path / "many.csv", lines), []
    shown = dry_run(build_config({"data": str(data), "method": "tfidf", **MULTI}), say=said.append, rows=2)
    places = [[i for i, value in enumerate(row["target"]) if value] for row in shown["rows"]]
    told = [line for line in said if line.startswith("  label")]
    assert [len(row) for row in places] == [2, 2]
    for row, (one, other), line in zip(shown["rows"], places, told, strict=True):
        assert line == f"  label    {', '.join(row['labels'])} → {one}, {other} of 300"


def test_sparse_gold_is_the_dense_gold():
    labels = [("b", "a"), (), ("c",), ("a", "a")]
    dataset = Dataset.from_lists(["w", "x", "y", "z"], labels, task="multi")
    space = LabelSpace.from_dataset(dataset)
    sparse = space.encode_sparse(dataset)
    assert sparse.dtype == np.uint8
    np.testing.assert_array_equal(sparse.toarray(), space.encode(dataset))
    single = Dataset.from_lists(["x", "y"], [("a",), ("b",)], task="single")
    space = LabelSpace.from_dataset(single)
    np.testing.assert_array_equal(space.encode_sparse(single), space.encode(single))


def many(n=240, n_labels=60):
    """Rows of one to two of ``n_labels`` labels, most of them rare."""
    rng = np.random.default_rng(0)
    p = 1 / np.arange(1, n_labels + 1)
    lines = []
    for i in range(n):
        own = [i] if i < n_labels else rng.choice(n_labels, rng.integers(1, 3), replace=False, p=p / p.sum())
        lines.append(
            (" ".join(f"topic{k}" for k in own) + f" row {i}", "|".join(f"label{k:02d}" for k in own))
        )
    return lines


@pytest.fixture(scope="module")
def many_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    data = write_csv(folder / "many.csv", many())
    result = baseline(data, folder / "run", **MULTI)
    return data, result


def test_figures_at_k_and_bands_are_in_metrics_and_come_again_from_the_saved_model(
    many_run, tmp_path, capsys
):
    data, result = many_run
    metrics = result.metrics
    assert metrics["n_labels"] == 60
    assert metrics["p_at_1"] == 1
    assert metrics["intervals"]["p_at_1"] == [pytest.approx(0.025 ** (1 / metrics["n"])), 1]
    for name in ("p_at_3", "r_at_3", "ndcg_at_5", "psp_at_5"):
        low, high = metrics["intervals"].get(name, (None, None))
        assert low is None if metrics[name] == 1 else low <= metrics[name] <= high
    assert sum(band["labels"] for band in metrics["bands"]) == 60
    assert metrics["propensity"] == {"a": 0.55, "b": 1.5}
    rows = read_json(result.folder / "model" / "sortal.json")["training_rows"]
    assert rows["rows"] == result.record["data"]["train"]["rows"]
    assert len(rows["of_label"]) == 60
    again = evaluate(str(result.folder / "model"), str(data), out=str(tmp_path / "again"))
    assert json.loads((tmp_path / "again" / "metrics.json").read_text())["bands"] == again["bands"]
    shown = capsys.readouterr().err
    assert "nDCG at 5" in shown
    assert "F1 macro by training rows" in shown


def test_the_report_has_them_too(many_run, tmp_path):
    _, result = many_run
    found = report(result.folder, out=tmp_path / "report.html")
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "First labels and rare labels" in page
    assert "propensity-scored precision at 5" in page
    assert "21–100" in page
    assert found.html_bytes > 0


def test_an_older_model_without_label_counts_is_still_evaluated(many_run):
    data, result = many_run
    classifier = sortal.load(result.folder / "model")
    classifier.meta.pop("training_rows")
    metrics = classifier.evaluate(data, n_resamples=0)
    assert "p_at_1" in metrics
    assert not {"psp_at_1", "bands"} & set(metrics)


def test_a_run_with_very_many_labels_writes_reads_and_reports_sparse_predictions(
    many_run, tmp_path, monkeypatch
):
    data, result = many_run
    monkeypatch.setattr(predictions, "DENSE_LABELS", 50)
    monkeypatch.setattr(predictions, "KEPT", 5)
    sparse = baseline(data, tmp_path / "run", **MULTI)
    assert sparse.metrics == result.metrics
    read = predictions.read_predictions(sparse.folder / "predictions.parquet")
    assert ((read.probabilities > 0).sum(axis=1) >= 5).all()
    report(sparse.folder, out=tmp_path / "report.html")


def test_a_tuned_model_never_sees_dense_gold_of_all_training_rows(runs, monkeypatch):
    """`LabelSpace.encode` is for dev and test rows; training rows stay sparse until their microbatch."""
    seen = []
    real = LabelSpace.encode
    monkeypatch.setattr(LabelSpace, "encode", lambda self, rows: seen.append(len(rows)) or real(self, rows))
    run = runs("llama", seed=3, **MULTI)
    assert run.result.record["data"]["train"]["rows"] not in seen
    assert seen
