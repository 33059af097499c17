from types import SimpleNamespace

import numpy as np
from rich.console import Console

from sortal.evaluation.decision import Decision
from sortal.evaluation.metrics import evaluate
from sortal.evaluation.tables import confusion_excerpt, coverage_table_view, metrics_table, worst_labels

NAMES = (
    "[red]refund[/red]",
    "two\nlines",
    "card",
    "a label with a name far too long to be shown in full in a terminal",
)


def shown(table):
    console = Console(width=100, no_color=True)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def single_metrics():
    scores = np.eye(4)[[1, 1, 0, 0, 1, 2]] * 3
    space = SimpleNamespace(names=NAMES, task="single")
    return evaluate(
        scores, np.array([0, 0, 0, 1, 1, 2]), Decision("single", abstain_below=0.5), space, n_resamples=100
    )


def test_metrics_show_value_and_interval():
    metrics = single_metrics()
    text = shown(metrics_table(metrics))
    low, high = metrics["intervals"]["f1_macro"]
    line = next(line for line in text.splitlines() if "F1 macro" in line)
    assert f"{metrics['f1_macro']:.3f}" in line
    assert f"{low:.3f} – {high:.3f}" in line
    assert "6 rows, 4 labels" in text
    assert "1 of 4 labels have no rows" in text


def test_metrics_without_intervals_are_shown():
    assert "accuracy" in shown(metrics_table({**single_metrics(), "intervals": {}}))


def test_confusions_show_labels_as_they_are_written():
    text = shown(confusion_excerpt(single_metrics(), k=1))
    line = next(line for line in text.splitlines() if "refund" in line)
    assert "[red]refund[/red]" in line
    assert "two lines" in line
    assert "67%" in line
    assert "card" not in text


def test_worst_labels_come_first_and_labels_without_rows_not_at_all():
    text = shown(worst_labels(single_metrics(), k=5))
    assert text.index("refund") < text.index("two lines") < text.index("card")
    assert "far too long" not in text


def test_rows_rightly_without_labels_are_counted_where_they_lower_a_figure():
    space = SimpleNamespace(names=NAMES[:2], task="multi")
    scores = np.array([[3.0, -3], [-3, -3], [-3, -3], [-3, 3]])
    metrics = evaluate(
        scores, np.array([[1, 0], [0, 0], [0, 0], [1, 0]]), Decision("multi"), space, n_resamples=0
    )
    assert metrics["f1_samples"] == 0.25
    text = " ".join(shown(metrics_table(metrics)).split())
    assert (
        "2 of 4 rows have no label and were given none, which is right; they count as 0 in F1 per row" in text
    )
    assert "no label and were given none" not in shown(metrics_table({**metrics, "rows_without_labels": 0}))


def test_multi_label_rows_show_their_threshold():
    space = SimpleNamespace(names=NAMES[:2], task="multi")
    metrics = evaluate(np.eye(2), np.eye(2), Decision("multi", thresholds=(0.123, 0.5)), space, n_resamples=0)
    assert "0.123" in shown(worst_labels(metrics))
    assert "mean average precision" in shown(metrics_table(metrics))


def test_coverage_marks_the_rung_in_use():
    metrics = single_metrics()
    text = shown(coverage_table_view(metrics["coverage_table"], metrics["abstain_below"]))
    assert [line.split()[0] for line in text.splitlines() if "◂" in line] == ["0.50"]
    assert "–" in text  # nothing is answered at 0.99
