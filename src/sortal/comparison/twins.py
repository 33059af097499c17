"""What the compared methods reach without test rows that have a twin in train or dev."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sortal.checks.twins import Twins
from sortal.evaluation.clusters import Clusters, independent
from sortal.evaluation.comparison import MIN_ROWS
from sortal.evaluation.predictions import Predictions
from sortal.evaluation.without_rows import without_rows


@dataclass(frozen=True)
class WithoutTwins:
    """The compared metric on the test rows that have no twin; everything is empty where no row has one.

    n: rows that remain; rows: those with a twin, equal and near of them; near_checked: whether near-duplicates were looked for.
    values, intervals: method → the mean over its runs and its 95 % interval over rows, None with fewer than 30 rows or groups; added,
    added_intervals: what the twins add to it.
    """

    n: int
    rows: int
    equal: int
    near: int
    near_checked: bool
    values: dict[str, float]
    intervals: dict[str, list[float] | None]
    added: dict[str, float]
    added_intervals: dict[str, list[float] | None]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return asdict(self)


def without_twins(
    twins: Twins,
    n: int,
    methods: Mapping[str, Sequence[Predictions]],
    metric: str,
    n_resamples: int,
    seed: int,
) -> WithoutTwins:
    """Of the finished runs of ``methods``, in whose ``n`` test rows ``twins`` were found."""
    found = {}
    for name, runs in methods.items() if len(twins.rows) else ():
        first = runs[0]
        clusters = Clusters.of(first.groups)
        enough = min(n - len(twins.rows), independent(n, clusters)) >= MIN_ROWS
        answers = [(run.gold, run.predicted) for run in runs if run.gold is not None]
        found[name] = without_rows(
            answers,
            len(first.names),
            first.task,
            twins.rows,
            n_resamples=n_resamples if enough else 0,
            seed=seed,
            clusters=clusters,
        )
    found = {name: one for name, one in found.items() if one["figures"]}
    return WithoutTwins(
        n=n - len(twins.rows),
        **twins.counts(),  # type: ignore[arg-type]  # the keys are these fields
        values={name: one["figures"][metric] for name, one in found.items()},
        intervals={name: one["intervals"].get(metric) for name, one in found.items()},
        added={name: one["differences"][metric]["value"] for name, one in found.items()},
        added_intervals={name: one["differences"][metric]["interval"] for name, one in found.items()},
    )
