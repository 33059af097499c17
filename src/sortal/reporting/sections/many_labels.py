"""With many labels: how good the first ones are, and how much a label's training rows matter."""

from __future__ import annotations

from sortal.evaluation.tables import ranked_rows
from sortal.reporting.blocks import Block, Section, Table, Words
from sortal.reporting.formats import share, span
from sortal.reporting.source import FinishedRun


def many_labels(run: FinishedRun) -> Section | None:
    """Figures at k and macro-F1 by training rows, as far as the run's metrics.json has them."""
    metrics = run.metrics
    blocks: list[Block] = []
    if rows := [[title, share(value), span(interval)] for title, value, interval in ranked_rows(metrics)]:
        words = (
            "Of the labels with the highest scores of each test row that has labels; thresholds play no part."
        )
        if "propensity" in metrics and not run.single:
            words += (
                " Propensity-scored precision counts a found label the more the rarer it was in training (Jain et al. 2016, "
                f"A = {metrics['propensity']['a']}, B = {metrics['propensity']['b']}), by the best that is possible."
            )
        blocks += [
            Table("The first labels of a row", ["figure", "value", "95 % interval"], rows, "lrr"),
            Words(words),
        ]
    if metrics.get("bands"):
        header = [
            "training rows",
            "labels",
            "with test rows",
            "test rows",
            "F1 macro",
            "of those with test rows",
        ]
        cells = [
            [
                band["training_rows"],
                *(f"{band[key]:,}" for key in ("labels", "labels_with_test_rows", "test_rows")),
                share(band["f1_macro"]),
                share(band["f1_macro_with_test_rows"]) or "–",
            ]
            for band in metrics["bands"]
        ]
        blocks.append(Table("F1 macro by how often a label was seen in training", header, cells, "lrrrrr"))
    return Section("many-labels", "First labels and rare labels", blocks) if blocks else None
