"""Ten test messages with their predicted intents and probabilities, through the saved model folder.

Usage: python examples/ten_predictions.py MODEL_DIR DATA
"""

import random
import sys

from rich.console import Console
from rich.table import Table

import sortal


def main(model_dir: str, data: str) -> None:
    """Show ten rows of ``data`` with the three most probable labels of each."""
    classifier = sortal.load(model_dir)
    rows = classifier.read(data, say=lambda line: None)
    chosen = rows.take(sorted(random.Random(4).sample(range(len(rows)), 10)))
    probabilities = classifier.predict_proba(chosen.texts)
    table = Table(title="Ten test messages", show_lines=True)
    table.add_column("message", max_width=58)
    table.add_column("gold")
    table.add_column("most probable")
    for text, gold, row in zip(chosen.texts, chosen.labels, probabilities, strict=True):
        best = [f"{classifier.classes_[i]} {row[i]:.2f}" for i in (-row).argsort()[:3]]
        mark = "[green]" if best[0].startswith(gold[0]) else "[red]"
        table.add_row(text, gold[0], f"{mark}{best[0]}[/]\n{best[1]}\n{best[2]}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
