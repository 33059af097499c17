"""Logits of texts by any network that takes packs: in packs of similar length, shared among the processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch

from sortal.backbone.encoding import EncodedTexts, TextEncoder
from sortal.backbone.packing import Pack, microbatches
from sortal.backbone.trees import TreePack
from sortal.backbone.windows import pack_texts
from sortal.hierarchy.units import Units
from sortal.methods.base import Scores
from sortal.training.distributed import Processes, alone
from sortal.training.progress import NoProgress, ProgressView

_CHUNK = 4096


class PackNetwork(Protocol):
    """Packs in, logits ``[texts, labels]`` out."""

    @property
    def labels(self) -> int:
        """Columns of the logits."""

    @property
    def device(self) -> torch.device:
        """Where inputs go."""

    def __call__(self, rows: Any) -> torch.Tensor:
        """Logits in fp32, in the order of the pack."""


Network = TypeVar("Network", bound=PackNetwork)


@dataclass
class PackScorer(Generic[Network]):
    """A tuned network with its text encoder.

    max_tokens: budget of one pack. group: the processes that share the texts, None for one alone. sharded: whether a forward
    takes all of them in step. causal: whether a token sees only those before it. units: what the logits are of a tree of labels that
    is learned level by level; None: of the labels themselves.
    """

    model: Network
    encoder: TextEncoder
    max_tokens: int
    group: Processes | None = None
    sharded: bool = False
    causal: bool = True
    units: Units | None = None

    def score(self, texts: Iterable[str], view: ProgressView | None = None) -> Scores:
        """Scores ``[n, labels]``: logits, or what `units` make of them."""
        return self.score_encoded(self.encode(texts), view=view)

    def encode(self, texts: Iterable[str]) -> EncodedTexts:
        """Token ids of ``texts``, templates included."""
        return self.encoder.encode(texts)

    def score_encoded(self, texts: EncodedTexts, view: ProgressView | None = None) -> Scores:
        """Scores of encoded texts, in packs of similar length; with several processes each does its part, and all must call this."""
        view, group = view or NoProgress(), self.group or alone(self.model.device)
        scores = torch.zeros(len(texts), self.model.labels, device=self.model.device)
        mine = group.share(np.arange(len(texts)))
        view.start("scoring", len(mine))
        with torch.inference_mode():
            end = group.largest(len(mine)) if self.sharded else len(mine)
            for start in range(0, end, _CHUNK):
                chunk = mine[start : start + _CHUNK]
                parts = list(microbatches(texts.lengths[chunk].tolist(), self.max_tokens))
                # Gathering a slice takes all processes in step, so all run as many packs.
                idle = group.largest(len(parts)) - len(parts) if self.sharded else 0
                for part in parts:
                    rows = chunk[part]
                    scores[torch.from_numpy(rows)] = self._logits(texts, rows)
                    view.advance(len(rows), int(texts.lengths[rows].sum()))
                for _ in range(idle):
                    self._logits(texts, np.zeros(1, np.int64))
        view.stop()
        group.sum_([scores])
        found: Scores = scores.cpu().numpy()
        return found if self.units is None else self.units.scores(found)

    def _logits(self, texts: EncodedTexts, rows: np.ndarray[Any, Any]) -> torch.Tensor:
        return self.model(self._pack(texts, rows).to(self.model.device))

    def _pack(self, texts: EncodedTexts, rows: np.ndarray[Any, Any]) -> Pack | TreePack:
        return pack_texts(texts, rows, causal=self.causal)
