"""Answers of one model by Sortal and by transformers' pipeline, in turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.speed.children import Children
from benchmarks.speed.sets import MAX_LENGTH, prepare

ANSWER = "benchmarks.speed.answer"
SHORT_RUN_STEPS = 10


def inference(name: str, model_dir: str | None, arguments: Any, children: Children) -> dict[str, Any]:
    """Times and labels of all sides on the first texts of the test file; ``model_dir`` None trains a short run first."""
    work = arguments.work / f"{name}-answers"
    rows = prepare(name, arguments.data, arguments.work / f"{name}-rows", 1, arguments.texts)
    folder = Path(model_dir) if model_dir else short_run(name, rows.files["data"], work, arguments, children)
    exported = work / f"{folder.resolve().parent.name}-hf"
    if not exported.exists():
        work.mkdir(parents=True, exist_ok=True)
        told = ["--data", rows.files["test"], "--rows", "8", "--dtype", "bfloat16", "--out", str(exported)]
        children.run(["-m", "sortal", "export", str(folder), "--to", "hf", *told])
    texts = work / f"texts-{arguments.texts}.json"
    texts.write_text(json.dumps(rows.test))
    places = {"sortal": folder, "int8": folder, "pipeline": exported}
    turns: dict[str, list[dict[str, Any]]] = {side: [] for side in places}
    peaks = []
    for turn in range(arguments.repeats):
        for side, place in places.items():
            kept = work / f"{exported.stem}-{side}-{arguments.texts}-{arguments.threads}-{turn}.json"
            turns[side].append(children.once(kept, ["-m", ANSWER, side, str(place), str(texts)]))
        peak = work / f"peak-{arguments.threads}-{turn}.json"
        peaks.append(children.once(peak, ["-m", "benchmarks.speed.peak"]))
    told = [str(folder), str(exported), str(texts)]
    both = work / f"{exported.stem}-in-turn-{arguments.texts}-{arguments.threads}.json"
    slices = children.once(both, ["-m", ANSWER, "in-turn", *told])
    labels = {side: found[0]["labels"] for side, found in turns.items()}
    theirs = labels.pop("pipeline")
    for found in turns.values():
        for one in found:
            del one["labels"]
    return {
        "set": name,
        "texts": len(theirs),
        "equal_labels": {
            side: sum(a == b for a, b in zip(ours, theirs, strict=True)) for side, ours in labels.items()
        },
        "short_run": model_dir is None,
        "turns": turns,
        "slices": slices,
        "peak": peaks,
    }


def short_run(name: str, data: str, work: Path, arguments: Any, children: Children) -> Path:
    """The model folder of a head after a few steps; its speed is that of a good one."""
    run = work / "short"
    if not (run / "model" / "sortal.json").exists():
        work.mkdir(parents=True, exist_ok=True)
        lines = Path(data).read_text(encoding="utf-8").splitlines(keepends=True)
        few = work / "short.jsonl"
        few.write_text("".join(lines[: SHORT_RUN_STEPS * arguments.batch_size]), encoding="utf-8")
        columns = ["--text", "text", "--label", "labels", "--model", arguments.model]
        columns += ["--epochs", "1", "--blend", "none"]
        sizes = [
            "--batch-size",
            str(arguments.batch_size),
            "--max-length",
            str(MAX_LENGTH),
            "--set",
            "test_size=0",
        ]
        children.run(["-m", "sortal", "train", str(few), *columns, *sizes, "--out", str(run)])
    return run / "model"
