"""The beginning that a template gives to every text, read once: for a model whose weights change no more, or with every pack.

A causal model's keys and values of those tokens are the same whatever follows. Of the texts only what comes behind is then computed.
While the weights change, a pack reads the beginning before its texts, and their gradients meet in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from sortal.backbone.packing import Pack, Prefix, pack
from sortal.backbone.pooling import token_states
from sortal.backbone.trees import TreePack, TreeRow, tree_pack


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
    """A pack of what comes behind ``prefix`` in some sequences.

    Raises:
        ValueError: nothing comes behind it in one of them.
    """
    made = pack(sequences)
    return replace(made, position_ids=made.position_ids + prefix.tokens, prefix=prefix)


def below(
    beginning: Sequence[int], sequences: Sequence[Sequence[int]], *, causal: bool = True
) -> Pack | TreePack:
    """A pack of ``beginning`` and what comes behind it in some sequences; of those alone where there is none.

    Raises:
        ValueError: nothing comes behind it in one of them.
    """
    if not beginning:
        return pack(sequences, causal=causal)
    return tree_pack([TreeRow(np.asarray(sequence)) for sequence in sequences], beginning)


@torch.inference_mode()
def can_share(base: Any) -> bool:
    """Whether a decoder that runs packed rows gives the same states below a beginning as in whole rows, on a few tokens."""
    device, tolerance = next(base.parameters()).device, 1e-3 if base.dtype == torch.float32 else 6e-2
    beginning, rests = [3, 1, 2, 5, 4, 1, 7], [[2, 6], [1, 3, 5], [4]]
    whole = pack([[*beginning, *rest] for rest in rests]).to(device)
    expected = token_states(base, whole, whole.last)[whole.last].float()
    shared = below(beginning, rests).to(device)
    try:
        found = token_states(base, shared, shared.last)[shared.last].float()
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return False
    return bool((found - expected).norm() <= tolerance * expected.norm())
