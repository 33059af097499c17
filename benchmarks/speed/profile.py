"""Operators of Sortal's training step by their share of time: ``python -m benchmarks.speed.profile CASE_FOLDER`` prints a Markdown table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity

from benchmarks.speed.case import Case
from benchmarks.speed.train import make_loop
from sortal.training.progress import NoProgress

SHOWN = 25


class Window(NoProgress):
    """Profiles all steps but the first."""

    def __init__(self, profiler: Any) -> None:
        self.profiler, self.steps = profiler, 0

    def advance(self, units: int, tokens: int, note: str = "") -> None:
        self.steps += 1
        if self.steps == 1:
            self.profiler.start()


def main() -> None:
    folder = Path(sys.argv[1])
    case = Case.read(folder)
    cuda = case.device == "cuda"
    profiler = torch.profiler.profile(
        activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])], record_shapes=False
    )
    window = Window(profiler)
    make_loop(case, folder, window).run()
    profiler.stop()
    print(table(profiler.key_averages(), case.steps - 1, cuda))


def table(events: Any, steps: int, cuda: bool) -> str:
    """Operators, the longest first; time of an operator is without those it calls."""

    def own(event: Any) -> float:
        return float(event.self_device_time_total if cuda else event.self_cpu_time_total)

    found = sorted(
        (e for e in events if own(e) > 0 and not e.key.startswith("ProfilerStep")), key=own, reverse=True
    )
    total = sum(map(own, found))
    lines = [
        f"{steps} steps, {total / steps / 1e6:.2f} s of operators a step, {torch.get_num_threads()} threads. "
        "Time of an operator is without the operators it calls.",
        "",
        "| operator | share | calls a step | µs a call |",
        "|---|---|---|---|",
    ]
    for event in found[:SHOWN]:
        lines.append(
            f"| `{event.key}` | {100 * own(event) / total:.1f} % | {event.count / steps:,.0f} | {own(event) / event.count:,.0f} |"
        )
    rest = sum(map(own, found[SHOWN:]))
    lines += [f"| {max(len(found) - SHOWN, 0)} others | {100 * rest / total:.1f} % | | |", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
