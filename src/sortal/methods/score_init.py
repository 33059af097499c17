"""Where a ``score`` layer begins: at what the label names say to the model, before any training.

A row of ``score`` is the state of the label's name (or of what a verbalizer file says it means), read as a text is and measured from the mean of all names. The first logits then
already rank labels by meaning, which rare labels gain most from, and with several labels per text the mean logit is the log-odds of
the label's frequency. docs/explanation/recipe.md has the measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import nn

from sortal.backbone.encoding import EncodedTexts, TextEncoder
from sortal.backbone.packing import microbatches
from sortal.backbone.prefix import below
from sortal.config import RunConfig
from sortal.data.labels import LabelSpace
from sortal.hierarchy.units import Units
from sortal.methods.base import FitContext
from sortal.methods.frequencies import Gold, label_counts, log_odds
from sortal.prompting.verbalizer import label_texts, worded

_SAMPLE = 128  # texts that say where states lie
_ALIKE = 0.01  # names whose states differ less, by their size, are one name
_SPREAD = 0.5  # standard deviation of the first logits: seen in the loss, and soon overruled by it


class ReadsStates(Protocol):
    """A network with one state per text."""

    @property
    def device(self) -> torch.device:
        """Where inputs go."""

    def states(self, rows: Any) -> torch.Tensor:
        """What ``score`` reads of a pack, fp32 ``[examples, hidden]``."""


def check_wordings(config: RunConfig, space: LabelSpace) -> None:
    """Refuse, before a model is fetched, a file that does not word every label."""
    if config.score_init == "labels" or config.lists_labels:
        label_texts(config.verbalizer, space.names)


def begin_at_names(
    model: ReadsStates,
    score: nn.Linear,
    encoder: TextEncoder,
    train: EncodedTexts,
    gold: Gold,
    context: FitContext,
    max_tokens: int,
    units: Units | None = None,
) -> None:
    """Set ``score`` (in place, alike in every process); it stays as it is when all names say the same.

    Args:
        gold: of ``train``, int ``[n]`` (single-label) or 0/1 ``[n, L]``, sparse or not.
        max_tokens: budget of a pack.
        units: what the rows of ``score`` stand for, of a tree that is learned level by level; None: the labels.
    """
    view = context.view
    names, odds = _outputs(context.config, context.label_space, gold, units)
    rows = np.sort(np.random.default_rng(context.config.seed).permutation(len(train))[:_SAMPLE])
    read = [*encoder.encode(names), *(train[i] for i in rows)]
    view.start("reading the label names", len(read))
    states = torch.empty(len(read), score.in_features, device=model.device)
    for part in microbatches([len(text) for text in read], max_tokens):
        packed = below(train.beginning, [read[i].tolist() for i in part]).to(model.device)
        with torch.inference_mode():
            states[part] = model.states(packed)
        view.advance(len(part), packed.tokens)
    view.stop()
    named, texts = states[: len(names)], states[len(names) :]
    directions = named - named.mean(0)
    common = nn.functional.normalize(texts.mean(0), dim=0)
    # What all states have in common says nothing about labels.
    directions -= torch.outer(directions @ common, common)
    spread = float((texts @ directions.T).std(correction=0))
    alike = bool(directions.norm(dim=1).max() < _ALIKE * named.norm(dim=1).max())
    if context.processes.any(alike or not spread > 0):
        return
    weight = directions * (_SPREAD / spread)
    offset = -(texts @ weight.T).mean(0)
    if odds is not None:
        # Where training adds frequencies to the logits (logit adjustment), they are not the score's to say.
        offset += (1 - context.config.logit_adjustment) * torch.from_numpy(odds).to(offset)
    bias: nn.Parameter | None = score.bias
    if bias is None:  # and it stands in for the constant 1
        weight += torch.outer(offset / (texts @ common).mean(), common)
    if not context.processes.main:
        weight.zero_()
        offset.zero_()
    context.processes.sum_([weight, offset])  # rounding may differ between devices
    with torch.no_grad():
        score.weight.copy_(weight)
        if bias is not None:
            bias.copy_(offset)


def _outputs(
    config: RunConfig, space: LabelSpace, gold: Gold, units: Units | None
) -> tuple[Sequence[str], npt.NDArray[np.float64] | None]:
    """What the rows of ``score`` say, and their log-odds where each is a yes or no."""
    if units is None:
        odds = log_odds(label_counts(gold, len(space)), gold.shape[0]) if space.task == "multi" else None
        return label_texts(config.verbalizer, space.names), odds
    tree = space.tree
    says = units.says if tree is None else tuple(map(tree.own_name, units.says))
    said = [worded(name) for name in says]
    if space.task == "single":
        return said, None
    targets = units.targets(gold.toarray() if isinstance(gold, csr_array) else gold)
    return said, log_odds(label_counts(targets, len(says)), np.maximum(units.counted(targets).sum(axis=0), 1))
