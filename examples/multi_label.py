"""Several topics per support ticket: probabilities, the thresholds tuned on dev, and what they change.

Usage: python examples/multi_label.py [TICKETS]
"""

import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sklearn.metrics import f1_score

import sortal
from sortal.evaluation.predictions import read_predictions


def main(tickets: str = "examples/tickets/tickets.csv", console: Console | None = None) -> None:
    """Train on half of the tickets, tune on a quarter, and show the answers for the last quarter."""
    console = console or Console(width=100)
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        split = {"dev_size": 0.25, "test_size": 0.25}
        columns = {"text": "text", "label": "topics", "label_delimiter": "|"}
        classifier = sortal.train(tickets, method="tfidf", **columns, **split, out=str(run))
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        test = read_predictions(run / "predictions.parquet")
    low, high = metrics["intervals"]["f1_micro"]
    console.print(
        f"{metrics['n']} test tickets, micro-F1 {metrics['f1_micro']:.3f}, 95 % interval {low:.3f} – {high:.3f}"
    )
    half = f1_score(test.gold, test.probabilities >= 0.5, average="micro")
    console.print(f"with 0.5 for every topic instead of the tuned thresholds: {half:.3f}\n")

    table = Table(title="Topics")
    for name in ("topic", "threshold", "precision", "recall", "F1", "test tickets"):
        table.add_column(name, justify="left" if name == "topic" else "right")
    for one in metrics["per_label"]:
        figures = [f"{one[key]:.2f}" for key in ("threshold", "precision", "recall", "f1")]
        table.add_row(one["label"], *figures, str(one["support"]))
    console.print(table)

    new = [
        "Since I changed my password the app on my phone says wrong company code.",
        "The monthly report takes ten minutes and then the invoice total in it is wrong.",
        "Thank you, all good now!",
    ]
    for text, row, labels in zip(new, classifier.predict_proba(new), classifier.predict(new), strict=True):
        likely = ", ".join(f"{classifier.classes_[k]} {row[k]:.2f}" for k in (-row).argsort()[:3])
        console.print(f"\n{text}\n  → {', '.join(labels) or 'no topic'}   ({likely})", highlight=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
