"""Where a head's ``score`` begins: at what the label names say to the model, before any training.

A row of ``score`` is the state of the label's name, read in the same template as a text and measured from the mean of all names. The
first logits then already rank labels by meaning, which rare labels gain most from, and with several labels per text the mean logit
is the log-odds of the label's frequency. docs/explanation/recipe.md has the measurement.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sortal.backbone.encoding import EncodedTexts, TextEncoder
from sortal.backbone.packing import microbatches, pack
from sortal.data.labels import LabelSpace
from sortal.methods.base import FitContext
from sortal.methods.frequencies import label_counts, log_odds
from sortal.methods.head_model import HeadModel
from sortal.prompting.verbalizer import worded

_SAMPLE = 128  # texts that say where states lie
_ALIKE = 0.01  # names whose states differ less, by their size, are one name
_SPREAD = 0.5  # standard deviation of the first logits: seen in the loss, and soon overruled by it


def score_of_names(
    model: HeadModel,
    encoder: TextEncoder,
    train: EncodedTexts,
    gold: npt.NDArray[Any],
    context: FitContext,
    max_tokens: int,
) -> None:
    """Set ``score`` (in place, alike in every process); as it is with fewer than two different label names.

    Args:
        gold: of ``train``, int ``[n]`` (single-label) or 0/1 ``[n, L]``.
        max_tokens: budget of a pack.
    """
    space, view = context.label_space, context.view
    rows = np.sort(np.random.default_rng(context.config.seed).permutation(len(train))[:_SAMPLE])
    texts = [*encoder.encode([worded(name) for name in space.names]), *(train[i] for i in rows)]
    view.start("reading the label names", len(texts))
    states = torch.empty(len(texts), int(model.inner.config.hidden_size), device=model.device)
    for part in microbatches([len(text) for text in texts], max_tokens):
        packed = pack([texts[i].tolist() for i in part]).to(model.device)
        with torch.inference_mode():
            states[part] = model.states(packed)
        view.advance(len(part), packed.tokens)
    view.stop()
    weight = _weight(states[: len(space)], states[len(space) :], space, gold)
    if weight is not None:
        if not context.processes.main:
            weight.zero_()
        context.processes.sum_([weight])  # rounding may differ between devices
        with torch.no_grad():
            model.score_weight.copy_(weight)


def _weight(
    names: torch.Tensor, texts: torch.Tensor, space: LabelSpace, gold: npt.NDArray[Any]
) -> torch.Tensor | None:
    """``score`` ``[L, hidden]`` from states ``[L, hidden]`` and ``[texts, hidden]``; None when it would be without meaning."""
    common = nn.functional.normalize(texts.mean(0), dim=0)
    directions = names - names.mean(0)
    if directions.norm(dim=1).max() < _ALIKE * names.norm(dim=1).max():
        return None
    # What all states have in common says nothing about labels. score has no bias, so it stands in for the constant 1.
    directions -= torch.outer(directions @ common, common)
    weight = directions * (_SPREAD / (texts @ directions.T).std(correction=0))
    offset = -(texts @ weight.T).mean(0)
    if space.task == "multi":
        odds = log_odds(label_counts(gold, len(space)), len(gold))
        offset += torch.from_numpy(odds).to(offset)
    return weight + torch.outer(offset / (texts @ common).mean(), common)
