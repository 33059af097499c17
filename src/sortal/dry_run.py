"""``--dry-run``: exactly what the model would read, before it is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sortal.backbone.sources import resolve
from sortal.config import RunConfig, resolve_sizes
from sortal.data.sections import plain_text
from sortal.methods import get_method
from sortal.methods.base import PreviewContext
from sortal.parts import read_parts
from sortal.training.progress import TerminalProgress


def dry_run(
    config: RunConfig, *, say: Callable[[str], None], consent: bool = False, rows: int = 3
) -> dict[str, Any]:
    """Read the data, encode ``rows`` training texts the way training and serving do, and show them decoded.

    Returns:
        per row: text, what the method reads of it (ids, the decoded ids and the positions that the loss reads, or
        features), and the label; plus sizes of the run. Of an ensemble that trains its members, that of each by its method.
    """
    if config.trained_members:
        members = {}
        for name in config.trained_members:
            say(f"\nmember {name}:")
            members[name] = dry_run(config.of_member(name), say=say, consent=consent, rows=rows)
        return {"status": "dry-run", "members": members}
    parts = read_parts(config, say)
    method = get_method(config.method)
    method.check(config, parts.train, parts.label_space)
    source = None
    if method.has_base:
        source = resolve(
            config.base_model, consent=consent, say=say, trust_remote_code=config.trust_remote_code
        )
    with TerminalProgress() as view:
        preview = method.preview(PreviewContext(source, config, parts.train, parts.label_space, rows, view))
    first = parts.train.take([row.row for row in preview.rows])
    targets = parts.label_space.encode(first).tolist()
    shown: list[dict[str, Any]] = []
    for row, text, labels, target in zip(preview.rows, first.texts, first.labels or [], targets, strict=True):
        shown.append({"text": plain_text(text), **row.to_json(), "labels": list(labels), "target": target})
        heading, *lines = row.lines()
        say("\n".join([f"\nrow {len(shown)}: {heading}", *lines]))
        say(f"  label    {', '.join(labels) or '(none)'} → {_columns(target)}")
    work, steps = "", {}
    if method.in_steps:
        sizes = resolve_sizes(config, len(parts.train))
        steps["steps"] = math.ceil(len(parts.train) / sizes.batch_size) * sizes.epochs
        work = f"; {steps['steps']:,} optimiser steps of {sizes.batch_size} examples in {sizes.epochs} epochs"
    say(
        f"\n{len(parts.train):,} training rows, {preview.summary(config.truncation)}{work}. Nothing was trained."
    )
    return {
        "status": "dry-run",
        "rows": shown,
        "labels": list(parts.label_space.names),
        "task": parts.label_space.task,
        "train_rows": len(parts.train),
        "dev_rows": len(parts.dev),
        "test_rows": len(parts.test),
        **preview.to_json(),
        **steps,
    }


def _columns(target: int | list[int]) -> str:
    """Where the labels are among the columns; of several labels the places, since all columns may be thousands."""
    if isinstance(target, int):
        return str(target)
    ones = [str(column) for column, value in enumerate(target) if value]
    return f"{', '.join(ones) or 'none'} of {len(target):,}"
