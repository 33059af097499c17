"""Figures for labels that form a tree: per level, and with partly right answers counted in part.

Both the gold labels and the answer of a row are closed under ancestors. Hierarchical precision, recall and F1 are then those of the
(row, node) pairs of all rows together (Kiritchenko et al. 2006, "Learning and Evaluation in the Presence of Class Hierarchies").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sortal.evaluation.clusters import Clusters, independent
from sortal.evaluation.counts import LabelIndicators, f1_averages, ratio
from sortal.evaluation.intervals import bootstrap, percentile_interval, share_interval
from sortal.evaluation.scores import Floats, Task
from sortal.hierarchy.tree import LabelTree

HEADLINES = ("h_precision", "h_recall", "h_f1", "lca_distance")


@dataclass(frozen=True)
class TreeFigures:
    """Figures of a tree.

    headlines: `HEADLINES`. lca_distance: edges of the tree between gold label and answer through their lowest common ancestor, mean
    over rows, with a root above the top level; no answer stands at the root. With several labels: nodes that only one of the two has.
    intervals: 95 % per headline.
    levels: per level its name, nodes, ``rows`` with a gold label there, ``accuracy`` (single-label: share of those rows whose node
    there is right), ``f1_micro``, ``f1_macro`` over the level's nodes, and their intervals.
    """

    headlines: dict[str, float]
    intervals: dict[str, list[float]]
    levels: list[dict[str, Any]]


def tree_figures(
    gold: NDArray[Any],
    predicted: NDArray[Any],
    names: tuple[str, ...],
    task: Task,
    tree: LabelTree,
    *,
    n_resamples: int,
    seed: int,
    clusters: Clusters | None = None,
) -> TreeFigures:
    """Measure answers against gold labels.

    Args:
        gold, predicted: int ``[n]`` (−1 in ``predicted`` = abstained) or 0/1 ``[n, L]``.
        names: labels in the order of the positions or columns.
        n_resamples, seed, clusters: of the bootstrap over rows or their clusters; 0 resamples leave the intervals out.
    """
    indicators = _closed(gold, predicted, names, task, tree)
    statistics = _statistics(indicators, task, tree)
    n = len(gold)
    point = {name: float(values[0]) for name, values in statistics(np.ones((n, 1))).items()}
    resampled = bootstrap(statistics, n, n_resamples, seed, clusters) if n_resamples else {}
    rows = [int((indicators.gold[tree.at_level(k)].sum(axis=0) > 0).sum()) for k in _numbers(tree)]

    def interval(name: str, n_rows: int = 0) -> list[float] | None:
        if name not in resampled or np.isnan(point[name]):
            return None
        return (
            share_interval(resampled[name], point[name], min(n_rows, independent(n, clusters)))
            if n_rows
            else percentile_interval(resampled[name])
        )

    intervals = {name: found for name in HEADLINES if (found := interval(name)) is not None}
    levels = []
    for number, level_rows in zip(_numbers(tree), rows, strict=True):
        own = {name: f"{name} {number}" for name in _LEVEL_FIGURES if f"{name} {number}" in point}
        limits = {name: interval(key, level_rows if name == "accuracy" else 0) for name, key in own.items()}
        levels.append(
            {
                "level": tree.levels[number - 1],
                "nodes": len(tree.at_level(number)),
                "rows": level_rows,
                **{name: None if np.isnan(point[key]) else point[key] for name, key in own.items()},
                "intervals": {name: found for name, found in limits.items() if found is not None},
            }
        )
    return TreeFigures({name: point[name] for name in HEADLINES}, intervals, levels)


_LEVEL_FIGURES = ("accuracy", "f1_micro", "f1_macro")


def _numbers(tree: LabelTree) -> range:
    return range(1, len(tree.levels) + 1)


def _closed(
    gold: NDArray[Any], predicted: NDArray[Any], names: tuple[str, ...], task: Task, tree: LabelTree
) -> LabelIndicators:
    """Which row has which node: sparse ``[nodes, n]``, ancestors included."""
    given = LabelIndicators.build(gold, predicted, len(names), task)
    up = tree.closure[[tree.index[name] for name in names]].T.tocsr()
    both = [((up @ labels) > 0).astype(np.float64).tocsr() for labels in (given.gold, given.predicted)]
    return LabelIndicators(both[0], both[1], both[0].multiply(both[1]).tocsr())


def _statistics(
    indicators: LabelIndicators, task: Task, tree: LabelTree
) -> Callable[[Floats], dict[str, Floats]]:
    """Figures ``[c]`` as a function of row counts ``[n, c]``, each column of which sums to n."""
    levels = [tree.at_level(number) for number in _numbers(tree)]
    reached = sparse.csr_array(np.stack([_any(indicators.gold[nodes]) for nodes in levels]))
    right = sparse.csr_array(np.stack([_any(indicators.hits[nodes]) for nodes in levels]))
    ever = (indicators.gold.sum(axis=1) + indicators.predicted.sum(axis=1)) > 0

    def statistics(weights: Floats) -> dict[str, Floats]:
        hits, predicted, gold = indicators.counts(weights)
        every = hits.sum(axis=0), predicted.sum(axis=0), gold.sum(axis=0)
        found = {
            "h_precision": ratio(every[0], every[1]),
            "h_recall": ratio(every[0], every[2]),
            "h_f1": ratio(2 * every[0], every[1] + every[2]),
            "lca_distance": (every[1] + every[2] - 2 * every[0]) / weights.sum(axis=0),
        }
        accuracy = ratio(right @ weights, reached @ weights, otherwise=np.nan)
        for number, nodes in enumerate(levels, start=1):
            # As in `LabelMetrics.resampled`: a resample that misses a node says nothing about the node's F1.
            in_macro = (predicted[nodes] + gold[nodes] > 0) | ~ever[nodes][:, None]
            averages = f1_averages(hits[nodes], predicted[nodes], gold[nodes], in_macro)
            found |= {f"{name} {number}": averages[name] for name in ("f1_micro", "f1_macro")}
            if task == "single":
                found[f"accuracy {number}"] = accuracy[number - 1]
        return found

    return statistics


def _any(rows: Any) -> Floats:
    """1 for the columns of ``[k, n]`` with an entry, else 0."""
    return np.asarray(rows.sum(axis=0) > 0, dtype=np.float64)
