"""The network of method ``head``: a LoRA-tuned decoder, read at every text's final token by a linear ``score``."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from sortal.backbone.loading import enable_packing
from sortal.backbone.longtexts import Aggregation
from sortal.backbone.lora import add_lora, fuse
from sortal.backbone.packing import Pack
from sortal.backbone.pooling import Pooling, pool, token_states, token_states_padded
from sortal.backbone.trees import TreePack
from sortal.backbone.trunk import Trunk
from sortal.backbone.windows import WindowScores
from sortal.config import RunConfig


class HeadModel(nn.Module):
    """Packs in, logits out.

    Args:
        classifier: transformers' ``…ForSequenceClassification``, inside a peft model or merged.
        packed: whether the decoder runs packed rows (checked by `enable_packing`) or padded ones.
        pooling, skip: how a text's states become one (`pool`).
        aggregation: how a text's windows become one row of logits.

    Attributes:
        trunk: the layers that packs with states of their own (`Pack.below`) have behind them.
    """

    def __init__(
        self,
        classifier: Any,
        packed: bool,
        pooling: Pooling = "last",
        skip: int = 0,
        aggregation: Aggregation = "mean",
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.packed = packed
        self.pooling, self.skip = pooling, skip
        self.trunk: Trunk | None = None
        inner = classifier.get_base_model() if hasattr(classifier, "get_base_model") else classifier
        self.pad_id = int(inner.config.pad_token_id)
        self._inner = (inner,)  # a tuple, so that the module is not registered twice
        self.windows = WindowScores(aggregation, int(inner.config.hidden_size), self.device)

    @property
    def inner(self) -> Any:
        """The transformers model."""
        return self._inner[0]

    @property
    def decoder(self) -> Any:
        """Its part without ``score``."""
        return getattr(self.inner, self.inner.base_model_prefix)

    @property
    def labels(self) -> int:
        """Columns of the logits."""
        return int(self.inner.config.num_labels)

    @property
    def trained_score(self) -> nn.Linear:
        """The linear layer on the states; inside a peft model, the copy that is trained."""
        score = self.inner.score
        linear: nn.Linear = (
            score.modules_to_save[score.active_adapters[0]] if hasattr(score, "modules_to_save") else score
        )
        return linear

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        device: torch.device = next(self.classifier.parameters()).device
        return device

    def forward(self, rows: Pack | TreePack) -> torch.Tensor:
        """Logits ``[texts, labels]`` in fp32, in the order of the pack."""
        return self.windows(self.states(rows), rows, self.inner.score)  # type: ignore[no-any-return]

    def states(self, rows: Pack | TreePack) -> torch.Tensor:
        """What ``score`` reads: one state per text or window, fp32 ``[examples, hidden]``."""
        base = self.decoder
        if isinstance(rows, TreePack):
            read = rows.last if self.pooling == "last" else None
            return pool(token_states(base, rows, read), rows, self.pooling)
        if not self.packed:
            return pool(token_states_padded(base, rows, self.pad_id), rows, self.pooling, self.skip)
        read = rows.last if self.pooling == "last" and rows.whole else None
        above = nullcontext() if self.trunk is None or rows.below is None else self.trunk.only_above()
        with above:
            return pool(token_states(base, rows, read), rows, self.pooling, self.skip)


def tunable(classifier: Any, config: RunConfig, pooling: Pooling = "last", skip: int = 0) -> HeadModel:
    """A loaded classifier with adapters, fused computation and packing where they are exact."""
    packed = enable_packing(classifier)
    peft_model = add_lora(classifier, config)
    fuse(peft_model)
    return HeadModel(peft_model, packed, pooling, skip, config.aggregation)
