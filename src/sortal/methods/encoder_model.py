"""The network of method ``encoder``: a body that sees the whole text, and a head on its own pooling or on the mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from sortal.backbone.encoders import head_modules, without_pooler
from sortal.backbone.longtexts import Aggregation
from sortal.backbone.lora import add_lora
from sortal.backbone.packing import AttentionGroup, Pack
from sortal.backbone.row_gradients import add_rows
from sortal.backbone.windows import WindowScores, combined
from sortal.config import RunConfig

_FUSED_ABOVE = 128  # tokens; longer ones gain little and would keep their weights of attention for backward


class EncoderModel(nn.Module):
    """Packs in, logits out; the parameters are named ``body.…`` and, with their own learning rate, ``score.…``.

    Each of a pack's few rectangles of similar length is one padded batch of plain transformers.

    Args:
        whole: a ``…ForSequenceClassification`` with a head of its own, or a body alone, which then gets a linear layer
            on the mean of its tokens' states.
        dtype: of the products; weights, their gradients and the mean are fp32.
        aggregation: how a text's windows become one row of logits; ``attention`` needs ``own`` to be False.
    """

    def __init__(
        self,
        whole: Any,
        labels: int,
        pad_id: int,
        *,
        own: bool,
        dtype: torch.dtype,
        aggregation: Aggregation = "mean",
    ) -> None:
        super().__init__()
        self.labels, self.pad_id, self.own, self.dtype = labels, pad_id, own, dtype
        self._whole = (whole,)  # a tuple, so that its parameters are not registered twice
        self.body = getattr(whole, whole.base_model_prefix) if own else without_pooler(whole)
        width = whole.config.hidden_size
        self.score: nn.Module = head_modules(whole) if own else nn.Linear(width, labels)
        self.windows = WindowScores(aggregation, width)
        self._adapted: Any = ()
        self._fused = whole.config._attn_implementation == "sdpa"
        self.eval()

    @property
    def whole(self) -> Any:
        """The transformers model."""
        return self._whole[0]

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        device: torch.device = next(self.parameters()).device
        return device

    def forward(self, rows: Pack) -> torch.Tensor:
        """Logits ``[texts, labels]`` in fp32, in the order of the pack."""
        if self.own:
            return combined(self._by_group(rows, self._own_logits), rows.texts, self.windows.aggregation)
        return self.windows(self.states(rows), rows, self.score)  # type: ignore[no-any-return]

    def states(self, rows: Pack) -> torch.Tensor:
        """The mean of the tokens' states of each text or window, fp32 ``[examples, hidden]``; what ``score`` reads unless the head is the family's own."""
        return self._by_group(rows, self._mean)

    def _by_group(
        self, rows: Pack, read: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """``read`` of every rectangle's ids and mask, in the order of the pack."""
        starts = rows.cu_seqlens[:-1].long()
        found, members = [], []
        self._choose_attention(max(group.width for group in rows.groups))
        # One context for all rectangles: weights are narrowed once in it.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            for group in rows.groups:
                found.append(read(*self._padded(rows, group)))
                firsts = group.gather.view(group.rows, group.width)[:, 0].contiguous()
                members.append(torch.searchsorted(starts, firsts))
        return torch.cat(found).index_select(0, torch.cat(members).argsort())

    def _padded(self, rows: Pack, group: AttentionGroup) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask ``[rows, width]`` of one rectangle, int64."""
        mask = torch.zeros_like(group.gather).index_fill_(0, group.scatter, 1)
        ids = torch.where(mask > 0, rows.input_ids[0, group.gather], self.pad_id)
        return ids.view(group.rows, group.width), mask.view(group.rows, group.width)

    def _own_logits(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self._run(ids, mask).logits.float()  # type: ignore[no-any-return]

    def _mean(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states = self._run(ids, mask).last_hidden_state.float()
        weights = mask.unsqueeze(-1).float()
        return (states * weights).sum(1) / weights.sum(1)  # type: ignore[no-any-return]

    def _run(self, ids: torch.Tensor, mask: torch.Tensor) -> Any:
        return self.whole(input_ids=ids, attention_mask=mask)

    def _choose_attention(self, width: int) -> None:
        """Short texts on a CPU are learned from with plain products instead of torch's fused attention.

        The backward of the latter takes 8 times as long for 20 tokens, 2.6 for 128, 1.25 for 256 and 0.7 for 512 (bf16, one thread of a
        processor with AMX). The choice stands until the next pack: layers that backward computes again need it, too.
        """
        if self._fused:
            short = self.device.type == "cpu" and torch.is_grad_enabled() and width <= _FUSED_ABOVE
            self.whole.config._attn_implementation = "eager" if short else "sdpa"

    def tune(self, config: RunConfig) -> None:
        """Make trainable what ``config.tuning`` says: all weights, or adapters in the body, and the head."""
        self.requires_grad_(True)
        if config.tuning == "lora":
            self._adapted = (add_lora(self.body, config),)
        else:
            add_rows(self.body)

    def merge(self) -> bool:
        """Add the adapters to the weights they adapt; whether there were any."""
        if not self._adapted:
            return False
        self._adapted[0].merge_and_unload()
        self._adapted = ()
        return True
