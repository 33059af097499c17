"""Labels of dev and test rows that training never saw, taken out, and what that leaves out of the figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sortal.data.dataset import Dataset, Labels
from sortal.data.labels import LabelSpace
from sortal.data.problems import counted, listed
from sortal.errors import DataError

_SHOWN = 5


@dataclass(frozen=True)
class LeftOut:
    """What was taken out of a file.

    Attributes:
        labels: how many labels no training row has.
        rows: rows that are left out, because they had no other label.
        shortened: rows that stay without some of their labels.
        of: rows of the file.
    """

    labels: int
    rows: int
    shortened: int
    of: int

    def to_json(self) -> dict[str, int]:
        """A JSON-ready dict."""
        return asdict(self)


def leave_out(dataset: Dataset, space: LabelSpace) -> tuple[Dataset, LeftOut | None, str]:
    """``dataset`` without the labels that ``space`` lacks.

    One label per row: rows with such a label go. Several: such labels go, and rows that had labels and have none left; in a tree
    the nearest ancestor that was trained on stays, which such a label implies and a model can find.

    Args:
        dataset: with its labels as ``space`` spells them; see `in_space`.

    Returns:
        The rows, what was left out and a sentence that says so; None and ``""`` where every label is known.

    Raises:
        DataError: no row is left.
    """
    labels = dataset.labels or []
    unseen = dict.fromkeys(name for row in labels for name in row if name not in space.index)
    if not unseen:
        return dataset, None, ""
    known = labels if space.task == "single" else [_known(row, space) for row in labels]
    kept = [
        position
        for position, (row, now) in enumerate(zip(labels, known, strict=True))
        if (not unseen.keys() & set(row) if space.task == "single" else now or not row)
    ]
    shortened = sum(known[position] != labels[position] for position in kept)
    found = LeftOut(len(unseen), len(labels) - len(kept), shortened, len(labels))
    if not kept:
        raise DataError(
            f"{dataset.source}: no row is left without the labels that no training row has: {listed(list(unseen), _SHOWN)}",
            "check that the files belong together, or add rows with these labels to the training data",
        )
    rows = dataset if known is labels else dataset.with_labels(known)
    return rows.take(kept), found, _sentence(dataset.source, list(unseen), found)


def left_out_figures(found: LeftOut, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """``left_out`` of metrics.json: the counts and, with one label per row, ``accuracy_of_all``, in which the rows left out are wrong."""
    figures: dict[str, Any] = found.to_json()
    if metrics["task"] == "single":
        figures["accuracy_of_all"] = metrics["accuracy"] * (found.of - found.rows) / found.of
    return figures


def _known(row: Labels, space: LabelSpace) -> Labels:
    """The labels of a row that ``space`` has, and the nearest ancestors there of those that it has not."""
    above = (name if name in space.index else space.tree and space.tree.above(name) for name in row)
    return tuple(dict.fromkeys(name for name in above if name))


def _sentence(source: str, unseen: list[str], found: LeftOut) -> str:
    parts = [f"{found.rows:,} of {counted(found.of, 'row')} {'is' if found.rows == 1 else 'are'} left out"]
    if found.shortened:
        parts.append(f"{found.shortened:,} {'keeps' if found.shortened == 1 else 'keep'} other labels")
    verb = "is" if found.labels == 1 else "are"
    return f"{source}: {counted(found.labels, 'label')} that no training row has {verb} taken out ({listed(unseen, _SHOWN)}): {', '.join(parts)}"
