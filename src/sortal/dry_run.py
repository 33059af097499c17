"""``--dry-run``: exactly what the model would read, before it is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sortal.backbone.sources import resolve
from sortal.config import RunConfig, resolve_sizes
from sortal.parts import read_parts


def dry_run(
    config: RunConfig, *, say: Callable[[str], None], consent: bool = False, rows: int = 3
) -> dict[str, Any]:
    """Read the data, encode ``rows`` training texts the way training and serving do, and show them decoded.

    Returns:
        per row: text, ids, the decoded ids, the position whose state is read, and the label; plus sizes of the run.
    """
    from sortal.methods.head import make_encoder

    parts = read_parts(config, say)
    source = resolve(config.model, consent=consent, say=say, trust_remote_code=config.trust_remote_code)
    encoder = make_encoder(source.path, config)
    first = parts.train.take(list(range(min(rows, len(parts.train)))))
    encoded = encoder.encode(first.iter_texts())
    shown: list[dict[str, Any]] = []
    for text, ids, labels in zip(first.texts, encoded, first.labels or [], strict=True):
        row = {
            "text": text,
            "ids": ids.tolist(),
            "decoded": encoder.tokenizer.decode(ids.tolist()),
            "attention_mask": [1] * len(ids),
            "read_at": len(ids) - 1,
            "read_token": encoder.tokenizer.decode([int(ids[-1])]),
            "labels": list(labels),
            "target": parts.label_space.encode(first)[len(shown)].tolist(),
        }
        shown.append(row)
        say(
            f"\nrow {len(shown)}: {len(ids)} tokens, all attended; the state of token {row['read_at']} {row['read_token']!r} is classified"
        )
        say(
            f"  decoded  {row['decoded']!r}\n  ids      {row['ids']}\n  label    {', '.join(labels) or '(none)'} → {row['target']}"
        )
    sample = encoder.encode(parts.train.iter_texts())
    sizes = resolve_sizes(config, len(parts.train))
    steps = math.ceil(len(parts.train) / sizes.batch_size) * sizes.epochs
    say(
        f"\n{len(parts.train):,} training rows, {sample.tokens:,} tokens per epoch, {sample.truncated:,} truncated to "
        f"{config.max_length} tokens ({config.truncation}); {steps:,} optimiser steps of {sizes.batch_size} examples in {sizes.epochs} epochs. Nothing was trained."
    )
    return {
        "status": "dry-run",
        "rows": shown,
        "labels": list(parts.label_space.names),
        "task": parts.label_space.task,
        "train_rows": len(parts.train),
        "dev_rows": len(parts.dev),
        "test_rows": len(parts.test),
        "tokens_per_epoch": sample.tokens,
        "truncated": sample.truncated,
        "steps": steps,
        "template_hash": encoder.template.hash,
    }
