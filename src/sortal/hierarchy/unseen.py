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
        given: how often rows have one of them.
        rows: rows that are left out, because they had no other label.
        shortened: rows that stay without some of their labels.
        of: rows of the file.
    """

    labels: int
    given: int
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
    given = sum(len(unseen.keys() & set(row)) for row in labels)
    found = LeftOut(len(unseen), given, len(labels) - len(kept), shortened, len(labels))
    if not kept:
        raise DataError(
            f"{dataset.source}: no row is left without the labels that no training row has: {listed(list(unseen), _SHOWN)}",
            "check that the files belong together, or add rows with these labels to the training data",
        )
    rows = dataset if known is labels else dataset.with_labels(known)
    return rows.take(kept), found, _sentence(dataset.source, list(unseen), found)


def left_out_figures(found: LeftOut, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """``left_out`` of metrics.json: the counts, and what the main figure is with the labels taken out counted as missed.

    ``accuracy_of_all`` with one label per row. With several, ``f1_micro_of_all``: a bound from above, because rows left out are not
    scored, and what a model wrongly gives them would lower it.
    """
    figures: dict[str, Any] = found.to_json()
    if metrics["task"] == "single":
        figures["accuracy_of_all"] = metrics["accuracy"] * (found.of - found.rows) / found.of
    else:
        answers = sum(entry["support"] + entry["predicted"] for entry in metrics["per_label"])
        figures["f1_micro_of_all"] = metrics["f1_micro"] * answers / (answers + found.given)
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
