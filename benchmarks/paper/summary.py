"""All sets of a study on one page: who is where, and how often a method is better than the two that it has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.tables import table

RIVALS = ("tfidf", "encoder")
Study = Mapping[str, Any]


def summary(kept: Mapping[str, Study]) -> list[str]:
    """Markdown lines of one table of figures and one of tests for the samples, and for all rows; only where there are two sets or more."""
    samples = {name: found for name, found in kept.items() if "," not in name}
    whole = {name.partition(",")[0]: found for name, found in kept.items() if "," in name}
    lines = []
    for title, sets in (("Samples", samples), ("All rows", whole)):
        if len(sets) > 1:
            lines += [f"## {title}, side by side", "", *_figures(sets), "", *_tests(sets), ""]
    return lines


def _figures(sets: Mapping[str, Study]) -> list[str]:
    values = {name: {entry["method"]: entry["value"] for entry in sets[name]["methods"]} for name in sets}
    methods = sorted(_methods(sets), key=lambda method: -_mean(values, method))
    seeds = sorted({entry["runs"] for found in sets.values() for entry in found["methods"]})
    about = f"Accuracy, or micro-F1 of sets with several labels per text; the mean over {'up to ' * (seeds[-1] > 2)}{seeds[-1]} training run{'s' * (seeds[-1] > 1)} of what is trained in steps. Bold: the highest of a set, and what is not told apart from it."
    rows = []
    for method in methods:
        cells = []
        for name, found in sets.items():
            value = values[name].get(method)
            best = max(values[name], key=lambda other: values[name][other])
            level = method == best or _winner(found, method, best) is None
            text = "–" if value is None else f"{value:.3f}"
            cells.append(f"**{text}**" if level and value is not None else text)
        rows.append([method, *cells])
    return [about, "", *table(["method", *sets], rows)]


def _tests(sets: Mapping[str, Study]) -> list[str]:
    """How often each method is better than a rival, not told apart, and worse; by the corrected tests of each set."""
    about = "Sets on which a method is better / not told apart / worse, by paired tests (Holm-corrected within a set):"
    rows = []
    for method in _methods(sets):
        cells = []
        for rival in RIVALS:
            met = [_winner(found, method, rival) for found in sets.values() if _pair(found, method, rival)]
            counts = (met.count(method), met.count(None), met.count(rival))
            cells.append(" / ".join(map(str, counts)) if met else "–")
        if method != "majority":
            rows.append([method, *cells])
    return [about, "", *table(["method", *(f"beside {rival}" for rival in RIVALS)], rows)]


def _methods(sets: Mapping[str, Study]) -> list[str]:
    return list(dict.fromkeys(entry["method"] for found in sets.values() for entry in found["methods"]))


def _mean(values: Mapping[str, Mapping[str, float]], method: str) -> float:
    known = [figures[method] for figures in values.values() if method in figures]
    return sum(known) / len(known)


def _pair(found: Study, a: str, b: str) -> Mapping[str, Any] | None:
    return next((pair for pair in found["pairs"] if {pair["a"], pair["b"]} == {a, b}), None)


def _winner(found: Study, a: str, b: str) -> str | None:
    pair = _pair(found, a, b)
    return None if pair is None else pair["winner"]
