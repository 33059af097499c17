"""The test texts of a run, read again from its data files and believed only when their fingerprint is the run's."""

from __future__ import annotations

from dataclasses import dataclass

from sortal.config import build_config
from sortal.config_sections import DataConfig
from sortal.data.sections import plain_text
from sortal.errors import SortalError
from sortal.evaluation.scores import Ints
from sortal.methods.frequencies import label_counts
from sortal.parts import read_parts
from sortal.reporting.source import FinishedRun


@dataclass(frozen=True)
class TestRows:
    """Texts of the test rows, in the order of the predictions.

    texts: None when they cannot be had; ``reason`` then says why.
    label_counts: training rows of each label ``[L]``; None when the training rows have changed.
    """

    texts: list[str] | None
    label_counts: Ints | None
    reason: str = ""

    def text(self, row: int) -> str:
        """One text, or nothing."""
        return "" if self.texts is None else self.texts[row]


def read_rows(run: FinishedRun) -> TestRows:
    """Read the data files that the run's settings name, relative to the working directory as they were for the run."""
    try:
        # Only what decides the rows: other settings may have other rules in this version.
        names = {*DataConfig.model_fields, "seed"}
        given = {key: value for key, value in run.record["config"].items() if key in names}
        parts = read_parts(build_config(given), lambda line: None)
    except SortalError as error:
        return TestRows(None, None, f"Texts are left out: {error.what}.")
    except OSError as error:
        return TestRows(None, None, f"Texts are left out: {error.filename or 'a file'}: {error.strerror}.")
    recorded, now = run.record["data"], parts.fingerprints()
    if now["test"] != recorded["test"]["fingerprint"]:
        return TestRows(
            None,
            None,
            f"Texts are left out: the test rows in {recorded['test']['source']} are not those of the run any more"
            f" (fingerprint {recorded['test']['fingerprint'][:12]} then, {now['test'][:12]} now).",
        )
    texts = [plain_text(text) for text in parts.test.texts]
    if now["train"] != recorded["train"]["fingerprint"]:
        return TestRows(texts, None, "The training rows have changed since the run.")
    gold = parts.label_space.encode(parts.train)
    return TestRows(texts, label_counts(gold, len(parts.label_space)))
