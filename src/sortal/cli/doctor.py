"""``sortal doctor``: what this machine can do, and what to install for what it cannot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sortal.backbone.environment import Environment


def doctor() -> dict[str, Any]:
    """The facts of `sortal.backbone.environment.look`, plus ``advice``: ``[{problem, fix}, …]``."""
    from sortal.backbone.environment import look

    found = look()
    return {**found.to_json(), "advice": [{"problem": p, "fix": f} for p, f in _advice(found)]}


def _advice(found: Environment) -> list[tuple[str, str]]:
    advice = found.missing()
    if found.free_disk_bytes < 2e9:
        advice.append(
            (
                f"only {_gb(found.free_disk_bytes)} of disk free for models",
                "set SORTAL_CACHE to a bigger disk",
            )
        )
    if found.free_memory_bytes < 2e9:
        advice.append(
            (
                f"only {_gb(found.free_memory_bytes)} of memory free",
                "close other programs, or use a smaller model",
            )
        )
    if not any(found.fast_bf16.values()):
        advice.append(("no device with fast bfloat16", "training runs in float32; nothing needs to be done"))
    return advice


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line instead of a table.")] = False,
) -> None:
    """Check this machine: versions, devices, bf16, 4-bit, cache, disk and memory."""
    facts = doctor()
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    bf16 = ", ".join(f"{kind}: {'fast' if fast else 'slow'}" for kind, fast in facts["fast_bf16"].items())
    four_bit = "; ".join(f"{kind}: {text}" for kind, text in facts["four_bit"].items())
    installed = [f"{name} {version}" for name, version in facts["packages"].items() if version]
    cache = f"{facts['cache_dir']} ({_gb(facts['cache_bytes'])} used, {_gb(facts['free_disk_bytes'])} free)"
    rows = {
        "Sortal": facts["sortal"],
        "Python": f"{facts['python']} on {facts['platform']}",
        "packages": ", ".join(installed),
        "devices": "\n".join(facts["devices"]),
        "CPU features": ", ".join(facts["cpu_flags"]) or "none of AVX2, AVX-512, AMX",
        "bfloat16": bf16,
        "CPU kernels": facts["native_kernels"],
        "4-bit": four_bit,
        "model cache": cache,
        "memory": f"{_gb(facts['free_memory_bytes'])} free of {_gb(facts['total_memory_bytes'])}",
    }
    table = Table(show_header=False)
    for name, text in rows.items():
        table.add_row(name, escape(text))
    Console().print(table)
    if facts["advice"]:
        advice = Table("missing or short", "what to do")
        for item in facts["advice"]:
            advice.add_row(escape(item["problem"]), escape(item["fix"]))
        Console().print(advice)
