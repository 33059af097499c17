"""States of a frozen sentence encoder, for detectors of wrong labels that read more than words."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MODEL = "minilm-l6"
_TOKENS, _BATCH = 128, 64


def states(texts: list[str]) -> npt.NDArray[np.float32]:
    """Mean-pooled last states of `MODEL`, scaled to length 1, float32 ``[n, 384]``."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from sortal.backbone.sources import resolve

    source = resolve(MODEL, say=print)
    tokenizer, model = (
        AutoTokenizer.from_pretrained(source.path),
        AutoModel.from_pretrained(source.path).eval(),
    )
    ids = tokenizer(texts, truncation=True, max_length=_TOKENS)["input_ids"]
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    found = np.empty((len(texts), model.config.hidden_size), np.float32)
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        batch = tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt")
        with torch.inference_mode():
            last = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        found[rows] = ((last * mask).sum(1) / mask.sum(1)).numpy()
    return found / np.linalg.norm(found, axis=1, keepdims=True)
