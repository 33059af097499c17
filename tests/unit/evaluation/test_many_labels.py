"""Evaluation with many labels: bands, blocks of rows, files of many labels, and what the terminal shows."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from sortal.errors import ModelError
from sortal.evaluation import predictions
from sortal.evaluation import scores as scores_module
from sortal.evaluation.calibration import fit_temperature
from sortal.evaluation.decision import Decision
from sortal.evaluation.frequency import LabelFrequencies, bands
from sortal.evaluation.metrics import evaluate
from sortal.evaluation.predictions import read_predictions, write_predictions
from sortal.evaluation.tables import many_labels_tables


def space(n_labels, task="multi"):
    return SimpleNamespace(names=tuple(f"label {k}" for k in range(n_labels)), task=task)


def rare(n, n_labels, seed=0):
    rng = np.random.default_rng(seed)
    gold = (rng.random((n, n_labels)) < 0.5 / np.arange(1, n_labels + 1)).astype(np.uint8)
    return (rng.normal(size=gold.shape) + 3 * gold - 2).astype(np.float32), gold


def test_bands_by_hand():
    frequencies = LabelFrequencies(200, np.array([0, 1, 5, 6, 20, 21, 101]))
    support, f1 = np.array([0, 2, 0, 1, 3, 0, 9]), np.array([0, 1.0, 0, 0.5, 0.25, 0, 0.8])
    found = {band["training_rows"]: band for band in bands(frequencies, support, f1)}
    assert {name: band["labels"] for name, band in found.items()} == {
        "0": 1,
        "1–5": 2,
        "6–20": 2,
        "21–100": 1,
        "> 100": 1,
    }
    assert found["1–5"]["f1_macro"] == 0.5
    assert found["1–5"]["f1_macro_with_test_rows"] == 1.0
    assert found["6–20"]["test_rows"] == 4
    assert found["21–100"]["f1_macro_with_test_rows"] is None
    assert sum(band["labels"] for band in found.values()) == 7


def test_saved_frequencies_come_back_and_damaged_ones_are_refused():
    saved = LabelFrequencies(7, np.array([3, 0, 4])).to_json()
    again = LabelFrequencies.from_json(saved, 3)
    assert (again.rows, again.of_label.tolist()) == (7, [3, 0, 4])
    assert LabelFrequencies.from_json(None, 3) is None
    for damaged in (
        saved | {"of_label": [1, 2]},
        saved | {"of_label": "x"},
        {"rows": 3},
        [],
        saved | {"of_label": [1, 2, -1]},
    ):
        with pytest.raises(ModelError, match="training rows"):
            LabelFrequencies.from_json(damaged, 3)


def test_the_bands_of_metrics_together_are_its_macro_f1():
    scores, gold = rare(80, 60)
    frequencies = LabelFrequencies(900, np.maximum(300 // np.arange(1, 61), 1))
    metrics = evaluate(scores, gold, Decision("multi"), space(60), n_resamples=0, frequencies=frequencies)
    total = sum(band["labels"] * band["f1_macro"] for band in metrics["bands"])
    assert total / 60 == pytest.approx(metrics["f1_macro"])
    assert {"psp_at_1", "psp_at_3", "psp_at_5"} <= set(metrics)


@pytest.mark.parametrize("task", ["single", "multi"])
def test_blocks_of_rows_change_no_figure(monkeypatch, task):
    scores, gold = rare(70, 60)
    if task == "single":
        gold = gold.argmax(axis=1)
    frequencies = LabelFrequencies(500, np.arange(60))
    decision = Decision(task, temperature=1.3)
    whole = evaluate(scores, gold, decision, space(60, task), n_resamples=20, frequencies=frequencies)
    monkeypatch.setattr(scores_module, "BLOCK", 60 * 9)
    cut = evaluate(scores, gold, decision, space(60, task), n_resamples=20, frequencies=frequencies)
    for key, value in whole.items():
        if isinstance(value, float):
            assert cut[key] == pytest.approx(value, abs=1e-12), key
        elif key != "calibration_bins":
            assert str(cut[key])[:200] == str(value)[:200] if key == "intervals" else cut[key] == value, key


def test_a_large_table_gets_the_temperature_of_a_small_one(monkeypatch):
    from sortal.evaluation import calibration

    scores, gold = rare(200, 40)
    scores[0, 0] = -np.inf
    small = fit_temperature(scores, gold, "multi")
    monkeypatch.setattr(scores_module, "BLOCK", 1000)
    monkeypatch.setattr(calibration, "BLOCK", 1000)
    assert fit_temperature(scores, gold, "multi") == pytest.approx(small, rel=1e-4)


@pytest.mark.parametrize("task", ["single", "multi"])
@pytest.mark.parametrize("with_gold", [True, False])
def test_a_file_of_many_labels_keeps_the_most_probable_the_given_and_the_gold(
    tmp_path, monkeypatch, task, with_gold
):
    monkeypatch.setattr(predictions, "DENSE_LABELS", 30)
    monkeypatch.setattr(predictions, "KEPT", 4)
    monkeypatch.setattr(predictions, "ROW_GROUP", 13)
    scores, gold = rare(40, 31)
    decision = Decision(task, thresholds=(0.5,) * 31 if task == "multi" else None, abstain_below=0.2 if task == "single" else None)  # fmt: skip
    if task == "single":
        gold = np.arange(40) % 31
    p = decision.probabilities(scores)
    given = decision.decide(p)
    ids = [str(k) for k in range(40)]
    write_predictions(
        tmp_path / "p.parquet", ids, p, given, space(31, task), gold=gold if with_gold else None
    )
    read = read_predictions(tmp_path / "p.parquet")
    assert pq.read_schema(tmp_path / "p.parquet").names[-2:] == ["p", "p_labels"]
    assert read.ids == ids
    np.testing.assert_array_equal(read.predicted, given)
    kept = read.probabilities > 0
    np.testing.assert_array_equal(read.probabilities[kept], p[kept])
    expected = np.zeros(p.shape, bool)
    np.put_along_axis(expected, np.argsort(-p, axis=1)[:, :4], True, axis=1)
    for encoded in (given, gold) if with_gold else (given,):
        if task == "multi":
            expected |= encoded == 1
        else:
            expected[np.flatnonzero(encoded >= 0), encoded[encoded >= 0]] = True
    np.testing.assert_array_equal(kept, expected)
    if with_gold:
        np.testing.assert_array_equal(read.gold, gold)


def test_the_terminal_shows_first_labels_and_bands_for_many_labels_only():
    scores, gold = rare(60, 55)
    frequencies = LabelFrequencies(400, np.arange(55))
    metrics = evaluate(scores, gold, Decision("multi"), space(55), n_resamples=20, frequencies=frequencies)
    console = Console(record=True, width=120)
    for table in many_labels_tables(metrics):
        console.print(table)
    shown = console.export_text()
    for words in ("precision at 1", "nDCG at 5", "propensity-scored precision at 3", "21–100"):
        assert words in shown
    few = evaluate(scores[:, :9], gold[:, :9], Decision("multi"), space(9), n_resamples=0)
    assert few["p_at_1"] is not None
    assert many_labels_tables(few) == []


def test_memory_of_evaluation_is_a_few_tables_of_bytes_not_of_doubles(monkeypatch):
    """2,000 labels: what is kept of a row is its answers, not its probabilities."""
    monkeypatch.setattr(scores_module, "BLOCK", 200_000)
    n, n_labels = 1500, 2000
    rng = np.random.default_rng(0)
    scores = rng.normal(-6, 1, (n, n_labels)).astype(np.float32)
    gold = (rng.random((n, n_labels)) < 0.001).astype(np.uint8)
    scores += 9 * gold
    tracemalloc.start()
    decision = Decision("multi", thresholds=(0.5,) * n_labels)
    evaluate(scores, gold, decision, space(n_labels), n_resamples=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3 * n * n_labels * 8  # one table of probabilities, where six were held
