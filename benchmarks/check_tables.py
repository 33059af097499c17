"""The figures of `benchmarks.check` as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.injection import LEAST_CHARACTERS
from benchmarks.tables import table
from sortal.checks.label_noise import ODDS
from sortal.checks.near import NEAR


def markdown(results: dict[str, Any]) -> str:
    lines = [
        "# What `sortal check` finds",
        "",
        "`python -m benchmarks.check` makes this file; check.json holds all figures.",
        "",
    ]
    if "copies" in results:
        lines += _copies_lines(results["copies"])
    if "noise" in results:
        lines += _noise_lines(results["noise"])
    if "scale" in results:
        lines += _scale_lines(results["scale"])
    return "\n".join(lines)


def _copies_lines(sets: dict[str, Any]) -> list[str]:
    lines = [
        "## Copies put into real data",
        "",
        f"Rows of training files that had no copy left, changed in one place, put back into train (duplicates) and into test (leaks); only texts of at least {LEAST_CHARACTERS} characters. "
        f"*Alike enough* are copies that are near-duplicates by definition (at least {NEAR:.0%} of all runs of four characters in common). False alarms are rows found that were not put in.",
        "",
        "| set | change | put in | alike enough | duplicates found (of those alike enough) | leaks found (of those alike enough) | false alarms: duplicates, leaks |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, entry in sets.items():
        false = f"{entry['false_alarms']['duplicates']} of {entry['rows_without_copies']['train']:,}, {entry['false_alarms']['leaks']} of {entry['rows_without_copies']['test']:,}"
        for kind, row in entry["kinds"].items():
            shares = [
                f"{_share(row[f'{what}_found'], row['put_in'])} ({_share(row[f'{what}_found_of_alike'], row['alike_enough'])})"
                for what in ("duplicates", "leaks")
            ]
            lines.append(
                f"| {name} | {kind} | {row['put_in']} | {row['alike_enough']} | {shares[0]} | {shares[1]} | {false} |"
            )
            name = false = ""
    lines += [
        "",
        "In the files as they are:",
        "",
        "| set | rows train / test | duplicates | near-duplicates | test rows in train | nearly |",
        "|---|---|---|---|---|---|",
    ]
    for name, entry in sets.items():
        own = entry["in_the_original"]
        lines.append(
            f"| {name} | {entry['rows']['train']:,} / {entry['rows']['test']:,} | {own['duplicates']:,} | {own['near_duplicates']:,} | {own['leaks']:,} | {own['near_leaks']:,} |"
        )
    return [*lines, ""]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


_SCORES = {
    "sortal": "sortal check",
    "self_confidence": "own probability",
    "normalized_margin": "margin",
    "confidence_weighted_entropy": "entropy",
    "loss": "model's loss",
    "held_out_loss": "held-out loss",
    "states": "states",
    "both": "words and states",
}
_RULES = {"odds": "sortal check", "cleanlab": "cleanlab", "states": "states", "both": "words and states"}


def _noise_lines(rows: list[dict[str, Any]]) -> list[str]:
    ranked = [row for row in rows if "average_precision" in row]
    others = {key: name for key, name in _SCORES.items() if key != "sortal"}
    gains = []
    for row in ranked:
        spans = (row["gain_interval"][key] for key in others)
        gains.append([_case(row), *(f"{low:+.3f} to {high:+.3f}" for low, high in spans)])
    return [
        "## Label noise",
        "",
        "Labels of the files count as right, which in Banking77 and 20 Newsgroups they are not always; of larger sets a sample. *sortal check* is what ships: out-of-fold probabilities of a "
        "robust classifier on TF-IDF features, every row scored by log p(likeliest other label) / 2 − log p(label in the file). *own probability*, *margin* and *entropy* are cleanlab's three scores "
        "of the same probabilities (self_confidence, normalized_margin, confidence_weighted_entropy). *model's loss*: of method tfidf's logistic regression (C = 3), fitted on these rows; *held-out loss*: on other folds. "
        "*states*: logistic regression on frozen states of minilm-l6 (English), scored as sortal check; *words and states*: the mean of both probabilities.",
        "",
        "Average precision of all rows, ranked (precision over the whole curve of recall; the share of wrong labels is what chance reaches):",
        "",
        *table(
            ["set, wrong labels", *_SCORES.values()], (_scores(row, "average_precision") for row in ranked)
        ),
        "",
        "Precision among as many of the first rows as there are wrong labels, which is also the recall there:",
        "",
        *table(
            ["set, wrong labels", *_SCORES.values()], (_scores(row, "precision_at_wrong") for row in ranked)
        ),
        "",
        "Gain of *sortal check* in average precision, 95 % paired bootstrap over rows:",
        "",
        *table(["set, wrong labels", *others.values()], gains),
        "",
        f"Rows flagged (precision, recall): *sortal check*, odds of {ODDS} to 1 for another label; *cleanlab*: find_label_issues on the same probabilities; the others with the odds of *sortal check*:",
        "",
        *table(
            ["set, wrong labels", *_RULES.values()],
            ([_case(row), *(_rule(row, key) for key in _RULES)] for row in rows),
        ),
        "",
    ]


def _case(row: dict[str, Any]) -> str:
    return f"{row['set']}, {row['wrong']:,} of {row['rows']:,}: {row['noise']}"


def _scores(row: dict[str, Any], key: str) -> list[str]:
    best = max(row[key].values())
    cells = [f"**{row[key][k]:.3f}**" if row[key][k] == best else f"{row[key][k]:.3f}" for k in _SCORES]
    return [_case(row), *cells]


def _rule(row: dict[str, Any], key: str) -> str:
    found = f"{row['flagged'][key]:,}"
    return f"{found} ({row['precision'][key]:.2f}, {row['recall'][key]:.2f})" if "precision" in row else found


def _scale_lines(row: dict[str, Any]) -> list[str]:
    slowest = sorted(row["seconds"].items(), key=lambda item: -item[1])[:5]
    return [
        "## Scale",
        "",
        f"{row['rows']:,} generated rows ({row['file_bytes'] / 1e6:.0f} MB) on one CPU core, other work beside it: {row['wall_seconds']:.0f} s, reading included, of which {row['cpu_seconds']:.0f} s on the core; "
        f"peak memory {row['peak_memory_bytes'] / 1e9:.2f} GB. Slowest: {', '.join(f'{name} {seconds:.0f} s' for name, seconds in slowest)}.",
        "",
    ]
