"""`Decision`: how scores become probabilities and labels — fitted on dev, saved with the model, used everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.errors import ConfigError, ModelError
from sortal.evaluation.calibration import fit_temperature
from sortal.evaluation.cuts import DEFAULT
from sortal.evaluation.floor import ThresholdMetric
from sortal.evaluation.scores import Floats, Ints, Task, check_gold, check_scores, sigmoid, softmax
from sortal.evaluation.thresholds import Mode, tune_thresholds
from sortal.hierarchy.tree import LabelTree

ABSTAINED = -1
LADDER = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Decision:
    """Temperature, thresholds and abstention of one model.

    Attributes:
        task: ``single`` (softmax, one label per row) or ``multi`` (sigmoid, any number of labels per row).
        temperature: scores are divided by it; 1 leaves them as they are.
        thresholds: multi-label only: one per label, on probabilities; None means 0.5 for all.
        abstain_below: single-label only: a row whose best probability is below it gets no label.
        tree: of the labels, if they form one. Multi-label: no node is more probable than its parent, and a given node's ancestors are given.

    Raises:
        ConfigError: values that cannot work together.
    """

    task: Task
    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None
    abstain_below: float | None = None
    tree: LabelTree | None = None

    def __post_init__(self) -> None:
        if self.task not in ("single", "multi"):
            raise ConfigError(f"task {self.task!r} is neither 'single' nor 'multi'", "use one of the two")
        if not (0 < self.temperature < float("inf")):
            raise ConfigError(f"temperature {self.temperature!r} is not a positive number", "use 1 for none")
        if self.task == "single" and self.thresholds is not None:
            raise ConfigError(
                "thresholds are for multi-label tasks", "use abstain_below for single-label ones"
            )
        if self.task == "multi" and self.abstain_below is not None:
            raise ConfigError(
                "abstain_below is for single-label tasks", "multi-label answers may already be empty"
            )
        for name, values in (
            ("thresholds", self.thresholds or ()),
            ("abstain_below", (self.abstain_below or 0.0,)),
        ):
            if not all(0 <= value <= 1 for value in values):
                raise ConfigError(
                    f"{name} must lie between 0 and 1, got {list(values)}", "they are probabilities"
                )

    @classmethod
    def fit(
        cls,
        scores: NDArray[Any],
        gold: NDArray[Any],
        task: Task,
        *,
        temperature_scaling: bool = True,
        thresholds: Mode = "auto",
        threshold_metric: ThresholdMetric = "f1_macro",
        abstain_below: float | None = None,
        seed: int = 0,
        tree: LabelTree | None = None,
    ) -> Decision:
        """Fit temperature, then (multi-label) thresholds, on **dev** scores; never give it test rows.

        Args:
            scores: ``[n, L]``; n may be 0, which leaves temperature 1 and thresholds 0.5.
            gold: int ``[n]`` (single) or 0/1 ``[n, L]`` (multi).
            task: single or multi.
            temperature_scaling: False keeps temperature 1.
            thresholds: see `tune_thresholds`; ignored for single-label.
            threshold_metric: what the thresholds maximise.
            abstain_below: kept as given; single-label only.
            tree: kept as given.
            seed: of the folds of ``thresholds="auto"``.

        Raises:
            ModelError: a NaN score, with its row. DataError: gold does not fit. ConfigError: impossible settings.
        """
        scores = check_scores(scores, task)
        gold = check_gold(gold, scores.shape[0], scores.shape[1], task)
        temperature = fit_temperature(scores, gold, task) if temperature_scaling else 1.0
        tuned: tuple[float, ...] | None = None
        if task == "multi" and thresholds != "none":
            probabilities = cls(task, temperature, tree=tree).probabilities(scores)
            values = tune_thresholds(probabilities, gold, mode=thresholds, metric=threshold_metric, seed=seed)
            tuned = tuple(float(value) for value in values)
        return cls(task, temperature, tuned, abstain_below, tree)

    def probabilities(self, scores: NDArray[Any]) -> Floats:
        """float64 ``[n, L]``: softmax (rows sum to one) or sigmoid of ``scores / temperature``, in a tree at most the parent's.

        Raises:
            ModelError: naming the first row with a NaN score; −inf is allowed and gives probability 0.
        """
        if self.task == "single":
            return softmax(scores, self.temperature)
        found = sigmoid(scores, self.temperature)
        return found if self.tree is None else self.tree.monotone(found)

    def decide(self, probabilities: Floats) -> NDArray[Any]:
        """Single: int64 ``[n]``, the most probable label or −1 (abstained). Multi: uint8 ``[n, L]``, 1 = given.

        Raises:
            ModelError: the number of labels is not the one the thresholds were tuned for.
        """
        if self.task == "single":
            best: Ints = probabilities.argmax(axis=1).astype(np.int64, copy=False)
            if self.abstain_below is not None:
                best[probabilities.max(axis=1) < self.abstain_below] = ABSTAINED
            return best
        self.check_width(probabilities.shape[1])
        limits = DEFAULT if self.thresholds is None else np.array(self.thresholds)
        given = (probabilities >= limits).astype(np.uint8)
        return given if self.tree is None else self.tree.close(given)

    def check_width(self, n_labels: int) -> None:
        """Refuse a number of labels that the thresholds were not tuned for."""
        if self.thresholds is not None and len(self.thresholds) != n_labels:
            raise ModelError(
                f"the decision has {len(self.thresholds)} thresholds, the scores have {n_labels} labels",
                "use the sortal.json that was saved with this model",
            )

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; floats survive exactly, so a reloaded decision gives identical labels."""
        return {
            "task": self.task,
            "temperature": self.temperature,
            "thresholds": None if self.thresholds is None else list(self.thresholds),
            "abstain_below": self.abstain_below,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Decision:
        """The inverse of `to_json`.

        Raises:
            ModelError: missing, unknown or impossible values (a damaged or edited sortal.json).
        """
        try:
            known = {"task", "temperature", "thresholds", "abstain_below"}
            if set(values) != known:
                raise ValueError(f"its keys are {sorted(values)}, not {sorted(known)}")
            thresholds, abstain = values["thresholds"], values["abstain_below"]
            return cls(
                values["task"],
                float(values["temperature"]),
                None if thresholds is None else tuple(float(t) for t in thresholds),
                None if abstain is None else float(abstain),
            )
        except (TypeError, ValueError, ConfigError) as error:
            reason = error.what if isinstance(error, ConfigError) else str(error)
            raise ModelError(
                f"the saved decision is damaged: {reason}", "restore sortal.json, or train again"
            ) from None


def coverage_table(
    probabilities: Floats, gold: NDArray[Any], ladder: tuple[float, ...] = LADDER
) -> list[dict[str, float | int | None]]:
    """What ``abstain_below`` would buy: coverage and accuracy of the answered rows at a ladder of values.

    Args:
        probabilities: float64 ``[n, L]`` of a single-label task.
        gold: int ``[n]``.
        ladder: values of ``abstain_below``.

    Returns:
        One dict per value: abstain_below, answered (rows), coverage (share of rows), accuracy (of the answered rows;
        None when there are none).
    """
    return coverage_rows(probabilities.max(axis=1), probabilities.argmax(axis=1) == gold, ladder)


def coverage_rows(
    confidence: Floats, right: NDArray[np.bool_], ladder: tuple[float, ...] = LADDER
) -> list[dict[str, float | int | None]]:
    """`coverage_table` from the best label's probability ``[n]`` and whether it is the right one."""
    rows: list[dict[str, float | int | None]] = []
    for value in ladder:
        kept = confidence >= value
        answered = int(kept.sum())
        rows.append(
            {
                "abstain_below": value,
                "answered": answered,
                "coverage": answered / max(len(right), 1),
                "accuracy": float(right[kept].mean()) if answered else None,
            }
        )
    return rows
