"""From the states of a pack's tokens to one state per text."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import nn

from sortal.backbone.last_layer import last_layer_at
from sortal.backbone.packing import Pack
from sortal.backbone.trees import TreePack

Pooling = Literal["last", "mean"]


def token_states(base: nn.Module, rows: Pack | TreePack, read: torch.Tensor | None = None) -> torch.Tensor:
    """The decoder's output ``[tokens, hidden]``, in the order of the pack, from one packed forward; right at ``read`` only (None: everywhere)."""
    below = rows.below if isinstance(rows, Pack) else None
    with last_layer_at(base, read):
        read_by_first = {"input_ids": rows.input_ids} if below is None else {"inputs_embeds": below[None]}
        out = base(**read_by_first, position_ids=rows.position_ids, use_cache=False, sortal_pack=rows)
    states: torch.Tensor = out.last_hidden_state[0]
    return states


def token_states_padded(base: nn.Module, rows: Pack, pad_id: int) -> torch.Tensor:
    """The same for models that cannot run packed: right-padded rows with an attention mask."""
    ids, mask = padded(rows, pad_id)
    out = base(input_ids=ids, attention_mask=mask.long(), use_cache=False)
    states: torch.Tensor = out.last_hidden_state[mask]
    return states


def padded(rows: Pack, pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids int64 ``[examples, width]`` and a mask, true at real tokens; masked cells in reading order are the pack."""
    lengths = torch.diff(rows.cu_seqlens)
    pieces = list(rows.input_ids[0].split(lengths.tolist()))
    ids = nn.utils.rnn.pad_sequence(pieces, batch_first=True, padding_value=pad_id)
    return ids, torch.arange(ids.shape[1], device=ids.device)[None, :] < lengths[:, None]


def pool(states: torch.Tensor, rows: Pack | TreePack, pooling: Pooling, skip: int = 0) -> torch.Tensor:
    """One state per example, fp32 ``[examples, hidden]``.

    Args:
        states: ``[tokens, hidden]``, in the order of the pack.
        pooling: ``last``: the final token's; ``mean``: the mean over the tokens after the template's beginning.
        skip: tokens of that beginning, the same for every text and read before any of it; the final token always counts.
    """
    if pooling == "last":
        return states.index_select(0, rows.last).float()
    positions = rows.position_ids[0]
    if isinstance(rows, TreePack):  # that beginning is no text's own
        lengths = torch.from_numpy(np.diff(rows.starts)).to(states.device)
        states, positions, skip = states[rows.prompt_tokens :], positions[rows.prompt_tokens :], 0
    else:
        lengths = torch.diff(rows.cu_seqlens).long()
        if rows.prefix is not None:  # it is not in the pack
            skip = 0
    first = torch.minimum(torch.full_like(lengths, skip), lengths - 1)
    places = torch.arange(len(lengths), device=states.device)
    # With its size known, nothing has to wait for the GPU.
    example = torch.repeat_interleave(places, lengths, output_size=len(states))
    counted = positions >= first[example]
    sums = states.new_zeros((len(lengths), states.shape[1]), dtype=torch.float32)
    sums = sums.index_add(0, example, states.float() * counted[:, None])
    return (sums / (lengths - first)[:, None])[: len(rows.last)]
