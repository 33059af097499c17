"""The beginning that a template gives to every text, read once for a model whose weights change no more.

A causal model's keys and values of those tokens are the same whatever follows. Of the texts only what comes behind is then computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from sortal.backbone.packing import Pack, Prefix, pack
from sortal.backbone.pooling import token_states


@torch.inference_mode()
def read_prefix(base: Any, ids: Sequence[int]) -> Prefix | None:
    """Keys and values of ``ids`` in every layer of a decoder that runs packed rows; None on CUDA, whose attention takes whole rows.

    Args:
        base: a decoder without its head.
    """
    device = next(base.parameters()).device
    if not ids or device.type != "cpu":
        return None
    reading = Prefix()
    token_states(base, replace(pack([list(ids)]), prefix=reading))
    if len(reading.layers) != base.config.num_hidden_layers:
        return None
    return Prefix(len(ids), {number: (k.clone(), v.clone()) for number, (k, v) in reading.layers.items()})


def behind(prefix: Prefix, sequences: Sequence[Sequence[int]]) -> Pack:
    """A pack of sequences that begin with ``prefix``, without it.

    Raises:
        ValueError: a sequence holds nothing else.
    """
    made = pack([sequence[prefix.tokens :] for sequence in sequences])
    return replace(made, position_ids=made.position_ids + prefix.tokens, prefix=prefix)
