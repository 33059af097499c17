"""One run of the search, in whatever process."""

from __future__ import annotations

import contextlib
import gc
import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.recipe.variants import Settings


@dataclass(frozen=True)
class Cell:
    """One run: a variant on a set with a seed."""

    set: str
    variant: str
    seed: int
    settings: Settings

    @property
    def out(self) -> Path:
        return Path(self.settings["out"])

    @property
    def finished(self) -> bool:
        run = self.out / "run.json"
        return run.exists() and json.loads(run.read_text(encoding="utf-8"))["status"] == "finished"

    @property
    def device(self) -> str:
        run = json.loads((self.out / "run.json").read_text(encoding="utf-8"))
        return str(run["environment"]["device"])


def train(cell: Cell) -> dict[str, float]:
    """One run, its words in a log beside its folder; returns what it was judged by."""
    import torch

    from benchmarks.recipe.candidates import tried
    from sortal.config import build_config
    from sortal.run import run as fine_tune

    cell.out.parent.mkdir(parents=True, exist_ok=True)
    settings = {k: v for k, v in cell.settings.items() if k != "candidate"}
    with (
        cell.out.with_suffix(".log").open("a", encoding="utf-8") as log,
        contextlib.redirect_stderr(log),
        tried(cell.settings.get("candidate")),
    ):
        fine_tune(build_config(settings), resume=True, quiet=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    metrics = json.loads((cell.out / "metrics.json").read_text(encoding="utf-8"))
    run = json.loads((cell.out / "run.json").read_text(encoding="utf-8"))
    return {
        **{key: round(metrics[key], 4) for key in ("accuracy", "f1_micro", "f1_macro") if metrics.get(key) is not None},
        "seconds": round(run["training"]["train_seconds"], 1), "all": run["seconds"],
    }  # fmt: skip
