"""How often labels were seen in training, and what that says about their figures on test rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.errors import ModelError
from sortal.evaluation.scores import Floats, Ints

# Jain et al. 2016, "Extreme Multi-label Loss Functions", section 6: for all but their Wikipedia and Amazon sets.
PROPENSITY_A, PROPENSITY_B = 0.55, 1.5
BANDS = ((0, 0, "0"), (1, 5, "1–5"), (6, 20, "6–20"), (21, 100, "21–100"), (101, None, "> 100"))


@dataclass(frozen=True)
class LabelFrequencies:
    """Training rows, and those of each label: int64 ``[L]``."""

    rows: int
    of_label: Ints

    @property
    def inverse_propensities(self) -> Floats:
        """``1 + C · (N_l + B) ** -A`` with ``C = (log N - 1) · (B + 1) ** A``: float64 ``[L]``.

        How much a found label counts: the rarer, the likelier it is that others of its rows were never marked.
        """
        c = max(np.log(max(self.rows, 1)) - 1, 0.0) * (PROPENSITY_B + 1) ** PROPENSITY_A
        return np.asarray(1 + c * (self.of_label + PROPENSITY_B) ** -PROPENSITY_A)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {"rows": self.rows, "of_label": self.of_label.tolist()}

    @classmethod
    def from_json(cls, values: Any, n_labels: int) -> LabelFrequencies | None:
        """The inverse of `to_json`; None, of a model saved without them, stays None.

        Raises:
            ModelError: damaged, or of another number of labels.
        """
        if values is None:
            return None
        try:
            found = cls(int(values["rows"]), np.array(values["of_label"], np.int64))
        except (KeyError, TypeError, ValueError):
            found = cls(0, np.zeros(0, np.int64))
        if found.of_label.shape != (n_labels,) or found.of_label.min() < 0:
            raise ModelError(
                f"the saved training rows are not one count for each of the {n_labels:,} labels",
                "restore sortal.json, or train again",
            )
        return found


def bands(frequencies: LabelFrequencies, support: NDArray[Any], f1: NDArray[Any]) -> list[dict[str, Any]]:
    """Macro-F1 by how often labels were seen in training; bands without labels are left out.

    Args:
        support: test rows of each label ``[L]``.
        f1: of each label ``[L]``; one without test rows and predictions counts as 0, as in f1_macro.

    Returns:
        One dict per band: training_rows, labels, labels_with_test_rows, test_rows, f1_macro, and f1_macro_with_test_rows over
        those labels alone (None without any).
    """
    found = []
    for low, high, name in BANDS:
        within = frequencies.of_label >= low
        if high is not None:
            within &= frequencies.of_label <= high
        if not within.any():
            continue
        seen = within & (support > 0)
        found.append(
            {
                "training_rows": name,
                "labels": int(within.sum()),
                "labels_with_test_rows": int(seen.sum()),
                "test_rows": int(support[within].sum()),
                "f1_macro": float(f1[within].mean()),
                "f1_macro_with_test_rows": float(f1[seen].mean()) if seen.any() else None,
            }
        )
    return found
