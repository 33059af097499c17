"""Figures of every level of a tree of labels."""

from __future__ import annotations

from sortal.evaluation.tables import LEVEL_TITLES
from sortal.reporting.blocks import Section, Table, Words
from sortal.reporting.formats import label, share, span
from sortal.reporting.source import FinishedRun

_WORDS = (
    "Hierarchical precision, recall and F1 count the ancestors of gold labels and answers, too, so that a wrong label in the right branch "
    "is partly right. The distance in the tree is the mean number of edges between gold label and answer"
)


def levels(run: FinishedRun) -> Section | None:
    """Quality at every level, the top one first; None when the labels form no tree."""
    found = run.metrics.get("levels")
    if not found:
        return None
    names = [name for name in LEVEL_TITLES if name in found[0]]
    header = ["level", "nodes", "rows"]
    header += [part for name in names for part in (LEVEL_TITLES[name], "95 % interval")]
    rows = [
        [
            label(level["level"]), f"{level['nodes']:,}", f"{level['rows']:,}",
            *(part for name in names for part in (share(level[name]), span(level["intervals"].get(name)))),
        ]
        for level in found
    ]  # fmt: skip
    several = "" if run.single else "; with several labels, of nodes that only one of the two has"
    return Section(
        "levels",
        "By level",
        [
            Table(
                "Rows with a gold label at the level; F1 also counts answers there that go deeper than the gold label",
                header,
                rows,
                "l" + "r" * (len(header) - 1),
            ),
            Words(f"{_WORDS}{several}."),
        ],
    )
