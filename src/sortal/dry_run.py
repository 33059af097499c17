"""``--dry-run``: exactly what the model would read, before it is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sortal.backbone.sources import resolve
from sortal.config import RunConfig, resolve_sizes
from sortal.methods import get_method
from sortal.parts import read_parts


def dry_run(
    config: RunConfig, *, say: Callable[[str], None], consent: bool = False, rows: int = 3
) -> dict[str, Any]:
    """Read the data, encode ``rows`` training texts the way training and serving do, and show them decoded.

    Returns:
        per row: text, ids, the decoded ids, the positions that the loss reads, and the label; plus sizes of the run.
    """
    parts = read_parts(config, say)
    method = get_method(config.method)
    method.check(config, parts.train, parts.label_space)
    source = resolve(config.model, consent=consent, say=say, trust_remote_code=config.trust_remote_code)
    preview = method.preview(config, parts.train, parts.label_space, source, rows)
    first = parts.train.take([row.row for row in preview.rows])
    targets = parts.label_space.encode(first).tolist()
    shown: list[dict[str, Any]] = []
    for row, text, labels, target in zip(preview.rows, first.texts, first.labels or [], targets, strict=True):
        shown.append(
            {
                "text": text,
                "ids": row.ids,
                "decoded": row.decoded,
                "attention_mask": [1] * len(row.ids),
                "read_at": row.read,
                "labels": list(labels),
                "target": target,
            }
        )
        say(f"\nrow {len(shown)}: {len(row.ids)} tokens, {row.about}")
        say(
            f"  decoded  {row.decoded!r}\n  ids      {row.ids}\n  label    {', '.join(labels) or '(none)'} → {target}"
        )
    sizes = resolve_sizes(config, len(parts.train))
    steps = math.ceil(len(parts.train) / sizes.batch_size) * sizes.epochs
    say(
        f"\n{len(parts.train):,} training rows, {preview.tokens:,} tokens per epoch, {preview.truncated:,} truncated to "
        f"{preview.max_length} tokens ({config.truncation}); {steps:,} optimiser steps of {sizes.batch_size} examples in {sizes.epochs} epochs. Nothing was trained."
    )
    return {
        "status": "dry-run",
        "rows": shown,
        "labels": list(parts.label_space.names),
        "task": parts.label_space.task,
        "train_rows": len(parts.train),
        "dev_rows": len(parts.dev),
        "test_rows": len(parts.test),
        "tokens_per_epoch": preview.tokens,
        "truncated": preview.truncated,
        "steps": steps,
        "template_hash": preview.template_hash,
    }
