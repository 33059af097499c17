"""The figures of `benchmarks.speed` as a page."""

from __future__ import annotations

import statistics
from typing import Any

ALONE = ("one_text_seconds", "one_text_cpu_seconds")
SIDES = {
    "sortal": "Sortal",
    "int8": "Sortal, int8 weights",
    "hf": "transformers + peft + Trainer",
    "pipeline": "pipeline, batches of 32",
}


def page(found: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["# Training and prediction beside common scripts", "", f"{said(found)} "
             "Absolute figures mean something on this machine only; ratios are of the same step (or the same texts) on both sides in the same turn: median (range)."]  # fmt: skip
    if found["training"]:
        rate = statistics.median(one["flops"] for one in found["peak"])
        lines += [
            f"Utilisation is 4 · N · real tokens / seconds over {rate / 1e9:,.0f} GFLOP/s, the bf16 matrix product measured in the same run"
            + (f" on {found['peak'][0]['device']}." if "device" in found["peak"][0] else "."),
            "",
            "| rows | side | text form | real tokens/step | computed | first steps, s | s/step, median | real tokens/s | texts/s | utilisation | peak memory | largest difference in loss | × the peer | × in CPU seconds |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for case in found["training"]:
            lines += [training_row(case, side, rate) for side in case["turns"]]
        lines += ["", *memory(found["training"])]
    if found["inference"]:
        rates = [answer_rate(one) for one in found["inference"]]
        if all(rates):
            shown = " and ".join(f"{rate / 1e9:,.0f}" for rate in rates if rate)
            lines += [
                f"Answers' share of the rate is 2 · N · tokens read / seconds over {shown} GFLOP/s, the bf16 matrix product measured in the same turns. "
                "What the peer leaves of it bounds any ratio of sides that compute every token they read with such products.",
                "",
            ]
        lines += [
            "| rows | side | texts/s | tokens per text | of the rate | one text, ms | in CPU ms | peak memory | equal labels | × the peer | × in CPU seconds |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for one in found["inference"]:
            lines += [answer_row(one, side) for side in one["turns"]]
        lines += ["", *(in_turn(one) for one in found["inference"] if "slices" in one)]
        if any(one["short_run"] for one in found["inference"]):
            lines += [
                "Labels after ten training steps only, where the likeliest two are close: those of a finished model differ less.",
                "",
            ]
    if "instruct" in found:
        lines += [instruct_line(found["instruct"]), ""]
    return "\n".join(lines)


def said(found: dict[str, Any]) -> str:
    """The command of each half, once where it is the same."""
    halves: dict[str, list[str]] = {}
    for half, made in found["made"].items():
        halves.setdefault(f"`{made['command']}`, {made['threads']} threads", []).append(half)
    for one in found["training"]:
        if "made" in one:  # of shapes, case by case
            shapes = halves.setdefault(f"`{one['made']['command']}`, {one['made']['threads']} threads", [])
            if (shape := one["case"]["name"].split(", up to")[0]) not in shapes:
                shapes.append(shape)
    if len(halves) == 1:
        return f"{next(iter(halves))}."
    return " ".join(f"{sentence('; '.join(half))}: {made}." for made, half in halves.items())


def sentence(words: str) -> str:
    """With its first letter as a sentence has it."""
    return words[:1].upper() + words[1:]


def memory(training: list[dict[str, Any]]) -> list[str]:
    """Sortal's estimates beside what it took, where a device counts what is allocated."""
    turns = [(one["case"], turn) for one in training for turn in one["turns"]["sortal"]]
    rows = [memory_row(case, turn) for case, turn in turns if "reserved_memory_bytes" in turn]
    if not rows:
        return []
    return [
        "Memory of Sortal's steps: the estimate from the config alone, as `sortal plan` makes it, for the largest microbatch that came; the one that a run prints "
        "before its first step; and the peak of what was allocated.",
        "",
        "| rows | tokens allowed in a microbatch | the largest had | layers computed twice | plan | printed | allocated | reserved | allocated / plan |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def memory_row(case: dict[str, Any], turn: dict[str, Any]) -> str:
    plan, peak = turn["planned_peak_bytes"], turn["peak_memory_bytes"]
    gigabytes = [
        f"{value / 1e9:.2f} GB"
        for value in (plan, turn["estimated_peak_bytes"], peak, turn["reserved_memory_bytes"])
    ]
    cells = [
        case["name"],
        f"{turn['max_tokens']:,}",
        f"{turn['largest_microbatch']:,}",
        "yes" if turn["checkpointing"] else "no",
        *gigabytes,
        f"{peak / plan:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def instruct_line(found: dict[str, Any]) -> str:
    """What `benchmarks.instruct` found."""
    training = found["training"]
    low, high = training["ratio_range"]
    line = (
        f"Method instruct beside TRL's SFTTrainer, {training['examples_per_step']} examples of Banking77 a step: {training['ratio']:.1f} ({low:.1f} – {high:.1f}) times the examples "
        f"per second, largest difference in loss {training['largest_loss_difference']:.4f}."
    )
    if "scoring" in found:
        line += f" Beside `generate`: {found['scoring']['ratio']['labels']:.1f} times the labels per second."
    return line


def training_row(found: dict[str, Any], side: str, rate: float) -> str:
    case, turns = found["case"], found["turns"][side]
    form = {"eos": "text + EOS", "summary": "default template"}.get(case["template"], case["template"])
    start = [case["name"], SIDES[side], form]
    if not turns:
        return "| " + " | ".join([*start, found["failed"].get(side, "not run"), *[""] * 10]) + " |"
    first = case.get("warmup", 1)
    seconds = statistics.median(steps(turns, "seconds", first))
    tokens = statistics.mean(turns[0]["tokens"][first:])
    weights = next(
        (t["linear_weights"] for t in found["turns"].get("sortal", []) if "linear_weights" in t), 0
    )
    mean = statistics.mean(steps(turns, "seconds", first))
    before = statistics.median(sum(turn["seconds"][:first]) for turn in turns)
    cells = [
        f"{tokens:,.0f}",
        f"{statistics.mean(turns[0]['computed'][first:]):,.0f}",
        f"{before:.2f} ({first})",
        f"{seconds:.3f}" if seconds < 1 else f"{seconds:.2f}",
        f"{tokens / mean:,.0f}",
        f"{case['batch_size'] / mean:.1f}",
        f"{400 * weights * tokens / mean / rate:.0f} %",
        f"{max(t['peak_memory_bytes'] for t in turns) / 1e9:.2f} GB",
    ]
    peer = found["turns"].get("hf", [])
    if side == "sortal" and peer:
        pairs = zip(turns, peer, strict=False)
        difference = max(
            abs(a - b)
            for ours, theirs in pairs
            for a, b in zip(ours["losses"], theirs["losses"], strict=True)
        )
        cells += [
            f"{difference:.4f}",
            times(turns, peer, "seconds", first),
            times(turns, peer, "cpu_seconds", first),
        ]
    else:
        cells += [""] * 3
    return "| " + " | ".join([*start, *cells]) + " |"


def steps(turns: list[dict[str, Any]], key: str, first: int) -> list[float]:
    """Of all turns, without the ``first`` steps of each."""
    return [value for turn in turns for value in turn[key][first:]]


def times(turns: list[dict[str, Any]], peer: list[dict[str, Any]], key: str, first: int) -> str:
    """How many times the peer's seconds are, of the same step in the same turn."""
    ratios = [
        theirs / ours
        for mine, other in zip(turns, peer, strict=False)
        for ours, theirs in zip(mine[key][first:], other[key][first:], strict=True)
    ]
    return spread(ratios)


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.1f} ({min(ratios):.1f} – {max(ratios):.1f})"


def in_turn(found: dict[str, Any]) -> str:
    """Both sides in one process."""
    ours, theirs = found["slices"]["sortal"], found["slices"]["pipeline"]
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return (
        f"- {found['set']}, both sides in one process, {len(ours)} slices of the texts in turn, in seconds of CPU: all together "
        f"{sum(theirs) / sum(ours):.1f} times the texts of the pipeline, slice by slice {spread(ratios)}.\n"
    )


def answer_rate(found: dict[str, Any]) -> float | None:
    """Operations a second that the machine could do; None where that was not measured."""
    return statistics.median(one["flops"] for one in found["peak"]) if "peak" in found else None


def answer_row(found: dict[str, Any], side: str) -> str:
    turns, peer = found["turns"][side], found["turns"]["pipeline"]
    seconds = statistics.median(turn["seconds"] for turn in turns)
    read, share = "–", "–"
    if rate := answer_rate(found):
        # 8-bit weights are no parameters: N is that of the other sides
        weights = max(turn["linear_weights"] for each in found["turns"].values() for turn in each)
        read = f"{turns[0]['tokens'] / found['texts']:.1f}"
        share = f"{200 * weights * turns[0]['tokens'] / seconds / rate:.0f} %"
    cells = [
        found["set"],
        SIDES[side],
        f"{found['texts'] / seconds:.1f}",
        read,
        share,
        *(f"{1000 * statistics.median(turn[key] for turn in turns):.0f}" for key in ALONE),
        f"{max(turn['peak_memory_bytes'] for turn in turns) / 1e9:.2f} GB",
    ]
    if side in found["equal_labels"]:
        cells.append(f"{found['equal_labels'][side]} of {found['texts']}")
        for key in ("seconds", "cpu_seconds"):
            cells.append(spread([b[key] / a[key] for a, b in zip(turns, peer, strict=True)]))
    else:
        cells += [""] * 3
    return "| " + " | ".join(cells) + " |"
