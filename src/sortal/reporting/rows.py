"""The test texts of a run, read again from its data files and believed only when their fingerprint is the run's."""

from __future__ import annotations

from dataclasses import dataclass

from sortal.data.sections import plain_text
from sortal.errors import SortalError
from sortal.evaluation.scores import Ints
from sortal.methods.frequencies import label_counts
from sortal.parts import Parts
from sortal.reporting.source import FinishedRun
from sortal.run_parts import changed, read_run_parts


@dataclass(frozen=True)
class TestRows:
    """Texts of the test rows, in the order of the predictions.

    texts: None when they cannot be had; ``reason`` then says why.
    label_counts: training rows of each label ``[L]``; None when the training rows have changed.
    parts: all rows of the run; None when any of them have changed.
    """

    texts: list[str] | None
    label_counts: Ints | None
    reason: str = ""
    parts: Parts | None = None

    def text(self, row: int) -> str:
        """One text, or nothing."""
        return "" if self.texts is None else self.texts[row]


def read_rows(run: FinishedRun) -> TestRows:
    """Read the data files that the run's settings name, relative to the working directory as they were for the run."""
    try:
        parts = read_run_parts(run.record)
    except SortalError as error:
        return TestRows(None, None, f"Texts are left out: {error.what}.")
    other, recorded = changed(parts, run.record), run.record["data"]["test"]
    if "test" in other:
        return TestRows(
            None,
            None,
            f"Texts are left out: the test rows in {recorded['source']} are not those of the run any more"
            f" (fingerprint {recorded['fingerprint'][:12]} then, {parts.test.fingerprint[:12]} now).",
        )
    texts = [plain_text(text) for text in parts.test.texts]
    if "train" in other:
        return TestRows(texts, None, "The training rows have changed since the run.")
    gold = parts.label_space.encode_sparse(parts.train)
    counts = label_counts(gold, len(parts.label_space))
    return TestRows(texts, counts, parts=None if other else parts)
