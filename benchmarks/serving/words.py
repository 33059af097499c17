"""The results as a page."""

from __future__ import annotations

from typing import Any


def page(found: dict[str, Any]) -> str:
    """Markdown."""
    return "\n\n".join([_head(found), _turns(found), _alone(found), _memory(found), _faults(found)]) + "\n"


def _head(found: dict[str, Any]) -> str:
    model = found["model"]
    note = f" {found['note']}" if found["note"] else ""
    return (
        f"# A server under load\n\n`{found['command']}`: a head on {model['base_model']['spec']} ({model['dtype']}), {found['clients']} clients "
        f"that each send one text of {found['texts']}, wait and send the next, for {found['seconds']:g} seconds.{note} "
        "Absolute figures mean something on this machine only."
    )


def _turns(found: dict[str, Any]) -> str:
    lines = [
        "| round | server | answers/s | p50, s | p99, s | CPU s / answer | 429 | other replies, errors | memory growth |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {t['round']} | {t['server']} | {t['answers_per_second']:.1f} | {t['p50_seconds']:.2f} | {t['p99_seconds']:.2f} "
        f"| {t['cpu_seconds_per_answer']:.4f} | {t['refused']} | {sum(t['other_replies_and_errors'].values())} | {100 * t['memory_growth']:+.1f} % |"
        for t in found["turns"]
    ]
    ratios = ", ".join(f"{ratio:.2f}" for ratio in found["ratios"])
    ours, theirs = ([t["cpu_seconds_per_answer"] for t in found["turns"][first::2]] for first in (0, 1))
    work = ", ".join(f"{b / a:.2f}" for a, b in zip(ours, theirs, strict=True))
    agreement = found["agreement"]
    return "\n".join(lines) + (
        f"\n\nAnswers per second, sortal serve over the pipeline, by round: {ratios}; seconds of CPU, the pipeline over sortal serve: {work}. "
        f"The best label is the same for {100 * agreement['same_label']:.1f} % of {agreement['texts']} texts: the pipeline reads merged weights, "
        f"which are rounded to {found['model']['dtype']} once more."
    )


def _alone(found: dict[str, Any]) -> str:
    one = found["one_text"]
    return (
        f"## One text, an idle server\n\nMedian of {one['texts']} texts, in turn: {1000 * one['served_p50_seconds']:.0f} ms over HTTP, "
        f"{1000 * one['offline_p50_seconds']:.0f} ms by `predict_proba` in Python. Largest difference of a probability: {one['largest_difference']:.1e}."
    )


def _memory(found: dict[str, Any]) -> str:
    lines = [
        "## Several models on one base",
        "",
        "| models | resident, MB | private, MB |",
        "|---|---|---|",
        *(
            f"| {each['models']} | {each['resident'] / 1e6:.0f} | {each['private'] / 1e6:.0f} |"
            for each in found["memory"]
        ),
    ]
    return "\n".join(lines)


def _faults(found: dict[str, Any]) -> str:
    killed, stopped = found["killed"], found["stopped"]
    tries = sum(killed["tries_without_answer"].values())
    replies = ", ".join(f"{n} × {name}" for name, n in sorted(stopped["replies"].items()))
    return (
        f"## Faults, under load\n\nSIGKILL and the same command again at once: of {killed['requests']} requests {killed['answered']} were answered "
        f"({killed['answered_before']} before, {tries} tries in vain); the first after the kill, loading included, came in {killed['seconds_to_the_next_answer']:.1f} s.\n\n"
        f"SIGTERM: {stopped['accepted']} accepted, {stopped['unanswered']} unanswered, exit code {stopped['exit_code']}; clients saw {replies}."
    )
