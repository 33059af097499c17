"""Where a head's ``score`` begins: at random, at how frequent the labels are, or at what their names say to the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sortal.backbone.encoding import EncodedTexts, TextEncoder
from sortal.backbone.packing import microbatches, pack
from sortal.data.labels import LabelSpace
from sortal.methods.frequencies import label_counts, log_odds
from sortal.methods.head_model import HeadModel

_SAMPLE = 512  # texts that say where states lie
_SPREAD = 0.5


def init_score(
    model: HeadModel,
    encoder: TextEncoder,
    train: EncodedTexts,
    gold: npt.NDArray[Any],
    space: LabelSpace,
    kind: str,
    spread: float,
    max_tokens: int,
    seed: int,
    causal: bool,
) -> None:
    """Set ``score`` (in place)."""
    if kind == "random":
        return
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(train))[:_SAMPLE])
    x = _states(model, [train[i] for i in rows], max_tokens, causal)
    mean = x.mean(0)
    weight = model.score_weight
    found = weight.detach().clone()
    if kind in ("labels", "both"):
        names = encoder.encode([name.replace("_", " ") for name in space.names])
        states = _states(model, list(names), max_tokens, causal)
        found = states - states.mean(0)
        found = found * (spread / ((x - mean) @ found.T).std())
    bias = -(found @ mean)
    if space.task == "multi":
        odds = log_odds(label_counts(gold, len(space)), len(gold))
        bias = bias + torch.from_numpy(odds).float().to(bias.device)
    with torch.no_grad():
        weight.copy_(found + torch.outer(bias, mean) / mean.square().sum())


@torch.inference_mode()
def _states(
    model: HeadModel, texts: Sequence[npt.NDArray[np.int32]], max_tokens: int, causal: bool
) -> torch.Tensor:
    out = torch.empty(len(texts), model.inner.config.hidden_size, device=model.device)
    for part in microbatches([len(text) for text in texts], max_tokens):
        packed = pack([texts[i] for i in part], causal=causal).to(model.device)
        out[part] = model.states(packed)
    return out.clone()
