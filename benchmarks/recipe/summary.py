"""What the finished runs of the search say: every variant beside the plain recipe, on the same rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from benchmarks.paper.sets import SETS
from benchmarks.recipe.cells import Cell
from benchmarks.recipe.variants import PLAIN
from sortal.evaluation.comparison import PairComparison
from sortal.evaluation.holm import holm
from sortal.evaluation.predictions import Predictions, read_predictions
from sortal.evaluation.significance import compare_pairs

Found = dict[str, Any]


def metric_of(name: str) -> str:
    """What variants are judged by on a set."""
    return "accuracy" if SETS[name].single else "f1_micro"


def summarise(cells: Sequence[Cell]) -> Found:
    """Figures of all finished runs and their differences from the plain recipe; p is Holm-corrected within a set.

    A variant's mean rank and gain are over the sets on which it and the plain recipe are finished.
    """
    done = [cell for cell in cells if cell.finished]
    sets: dict[str, Found] = {}
    for name in dict.fromkeys(cell.set for cell in done):
        runs: dict[str, list[Predictions]] = {}
        for cell in done:
            if cell.set == name:
                runs.setdefault(cell.variant, []).append(read_predictions(cell.out / "predictions.parquet"))
        if PLAIN in runs:
            sets[name] = {"rows": len(runs[PLAIN][0].ids), "variants": _beside_plain(name, runs, done)}
    variants = dict.fromkeys(v for found in sets.values() for v in found["variants"])
    return {"sets": sets, "variants": {variant: _over_sets(variant, sets) for variant in variants}}


def _beside_plain(name: str, runs: dict[str, list[Predictions]], done: Sequence[Cell]) -> Found:
    metric = metric_of(name)
    pairs: dict[str, PairComparison] = {
        variant: compare_pairs({variant: given, PLAIN: runs[PLAIN]}, metric)[0]
        for variant, given in runs.items()
        if variant != PLAIN
    }
    corrected = holm([pair.p for pair in pairs.values() if pair.p is not None])
    pairs = {v: replace(pair, p_holm=p) for (v, pair), p in zip(pairs.items(), corrected, strict=True)}
    found: Found = {}
    for variant in runs:
        mine = [cell for cell in done if (cell.set, cell.variant) == (name, variant)]
        metrics = [json.loads((cell.out / "metrics.json").read_text(encoding="utf-8")) for cell in mine]
        trained = [
            json.loads((cell.out / "run.json").read_text(encoding="utf-8"))["training"] for cell in mine
        ]
        found[variant] = {
            "runs": len(mine),
            metric: fmean(each[metric] for each in metrics),
            "f1_macro": fmean(each["f1_macro"] for each in metrics),
            "log_loss": fmean(each["log_loss"] for each in metrics),
            "train_seconds": fmean(each.get("train_seconds", 0.0) for each in trained),
            "steps": fmean(each.get("steps", 0) for each in trained),
            **({} if variant == PLAIN else {"beside_plain": pairs[variant].to_json()}),
        }
    return found


def _over_sets(variant: str, sets: dict[str, Found]) -> Found:
    gains, macro, ranks, wins = [], [], [], 0
    for name, found in sets.items():
        if variant not in found["variants"]:
            continue
        metric, every = metric_of(name), found["variants"]
        values = sorted((each[metric] for each in every.values()), reverse=True)
        ranks.append(1 + values.index(every[variant][metric]))
        gains.append(every[variant][metric] - every[PLAIN][metric])
        macro.append(every[variant]["f1_macro"] - every[PLAIN]["f1_macro"])
        wins += gains[-1] > 0
    return {"sets": len(ranks), "mean_rank": fmean(ranks), "mean_gain": fmean(gains), "mean_gain_f1_macro": fmean(macro), "better_on": wins}  # fmt: skip


def markdown(found: Found) -> str:
    """The tables of ``recipe.md``."""
    names = list(found["sets"])
    lines = [
        "# What each ingredient of `head` gives",
        "",
        f"{found['about']} `{found['command']}`",
        "",
        "Accuracy, or micro-F1 / macro-F1 where a text has several labels; in brackets the difference from the plain recipe in points of the first, bold where it is beyond chance (paired test, Holm-corrected within the set). Differences of one seed under a point are noise.",
        "",
        f"| variant | {' | '.join(names)} | mean gain | better on | mean rank |",
        f"|---{'|---' * len(names)}|---|---|---|",
    ]
    over = found["variants"]
    for variant in sorted(over, key=lambda v: -over[v]["mean_gain"]):
        cells = [_cell(found["sets"][name]["variants"].get(variant), metric_of(name)) for name in names]
        mine = over[variant]
        gain = "–" if variant == PLAIN else f"{100 * mine['mean_gain']:+.1f}"
        better = "–" if variant == PLAIN else f"{mine['better_on']} of {mine['sets']}"
        lines.append(f"| {variant} | {' | '.join(cells)} | {gain} | {better} | {mine['mean_rank']:.1f} |")
    rows = ", ".join(f"{name} {each['rows']:,}" for name, each in found["sets"].items())
    return "\n".join([*lines, "", f"Judged rows: {rows}. Device: {', '.join(found['devices'])}.", ""])


def _cell(each: Found | None, metric: str) -> str:
    if each is None:
        return "–"
    shown = f"{each[metric]:.3f}" + ("" if metric == "accuracy" else f" / {each['f1_macro']:.3f}")
    pair = each.get("beside_plain")
    if pair is None:
        return shown
    gain = f"({100 * pair['difference']:+.1f})"
    return f"{shown} {f'**{gain}**' if pair['p_holm'] is not None and pair['p_holm'] < 0.05 else gain}"
