"""The network of method ``probe``: a frozen decoder, cut at a layer, and what is read off it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sortal.backbone import loading
from sortal.backbone.answering import freeze
from sortal.backbone.encoding import TextEncoder
from sortal.backbone.lora import fuse
from sortal.backbone.packing import Pack
from sortal.backbone.pooling import Pooling, pool, token_states, token_states_padded
from sortal.backbone.windows import combined


class ProbeModel(nn.Module):
    """Packs in; pooled states out, or scores once there is a ``score``.

    Args:
        base: a decoder without its head.
        packed: whether it runs packed rows (`enable_packing`) or padded ones, filled up with ``pad_id``.
        pooling, skip: how a text's states become one (`pool`).
    """

    def __init__(self, base: Any, packed: bool, pad_id: int, pooling: Pooling, skip: int) -> None:
        super().__init__()
        self.base, self.packed, self.pad_id = base, packed, pad_id
        self.pooling, self.skip = pooling, skip
        self.score: nn.Linear | None = None

    @property
    def labels(self) -> int:
        """Columns of the output."""
        return int(self.base.config.hidden_size) if self.score is None else self.score.out_features

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        device: torch.device = next(self.base.parameters()).device
        return device

    def forward(self, rows: Pack) -> torch.Tensor:
        """States ``[texts, hidden]`` or scores ``[texts, labels]``, fp32, in the order of the pack; of a text in windows, their mean."""
        states = (
            token_states(self.base, rows)
            if self.packed
            else token_states_padded(self.base, rows, self.pad_id)
        )
        pooled = combined(pool(states, rows, self.pooling, self.skip), rows.texts, "mean")
        if self.score is None:
            return pooled
        scores: torch.Tensor = self.score(pooled)
        return scores


def frozen_decoder(path: str, settings: Any, encoder: TextEncoder, how: dict[str, Any]) -> tuple[Any, bool]:
    """A pretrained decoder without its head, and whether it runs packed rows.

    Args:
        settings: of the model, already cut; gets the padding token of ``encoder``.
        how: arguments of `loading.load_classifier`.
    """
    settings.pad_token_id = encoder.tokenizer.pad_token_id
    settings.use_cache = False
    classifier = loading.load_classifier(path, settings, **how)
    packed = loading.enable_packing(classifier)
    fuse(classifier)
    freeze(classifier)
    return getattr(classifier, classifier.base_model_prefix), packed
