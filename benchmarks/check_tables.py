"""The figures of `benchmarks.check` as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.injection import LEAST_CHARACTERS
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


def _noise_lines(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Label noise",
        "",
        f"Rows flagged by the detector (odds of {ODDS} to 1 against the label in the file), by confident learning's thresholds on the same probabilities, and as many rows with the highest loss "
        f"of method tfidf's logistic regression (C = {rows[0]['loss_c']:g}), fitted on these rows; means over {rows[0]['seeds']} seeds of the folds. P is precision, R is recall. Average precision: of all rows, ranked by the detector, by that loss, and by the "
        "loss on held-out folds; gain over the loss of the fitted model with 95 % bootstrap interval over rows. Labels of the files count as right, which in Banking77 and 20 Newsgroups they are not always.",
        "",
        "| set | wrong labels | flagged | P | R | confident learning: flagged | P | R | highest loss: P | average precision | loss | held-out loss | gain |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["set"], f"{row['wrong']:,} of {row['rows']:,}, {row['noise']}", f"{row['flagged']:,.0f}"]
        cells += [_figure(row, "precision"), _figure(row, "recall"), f"{row['confident_flagged']:,.0f}"]
        for key in ("confident_precision", "confident_recall", "model_loss_precision_at_flagged"):
            cells.append(_figure(row, key))
        for key in ("detector", "model_loss", "held_out_loss"):
            cells.append(_figure(row, f"{key}_average_precision"))
        gain = row["average_precision_gain_interval"]
        cells.append(f"[{gain[0]:+.3f}, {gain[1]:+.3f}]" if gain else "–")
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _figure(row: dict[str, Any], key: str) -> str:
    return f"{row[key]:.3f}" if key in row else "–"


def _scale_lines(row: dict[str, Any]) -> list[str]:
    slowest = sorted(row["seconds"].items(), key=lambda item: -item[1])[:5]
    return [
        "## Scale",
        "",
        f"{row['rows']:,} generated rows ({row['file_bytes'] / 1e6:.0f} MB) on one CPU core, other work beside it: {row['wall_seconds']:.0f} s, reading included, of which {row['cpu_seconds']:.0f} s on the core; "
        f"peak memory {row['peak_memory_bytes'] / 1e9:.2f} GB. Slowest: {', '.join(f'{name} {seconds:.0f} s' for name, seconds in slowest)}.",
        "",
    ]
