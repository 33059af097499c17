"""Windows of long texts: packed whole text by text, and brought back to one row per text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sortal.backbone.encoding import EncodedTexts
from sortal.backbone.longtexts import Aggregation
from sortal.backbone.packing import Pack, Prefix
from sortal.backbone.prefix import behind, below
from sortal.backbone.trees import TreePack
from sortal.backbone.trunk import TrunkTexts
from sortal.errors import ModelError

FILE = "windows.safetensors"


def pack_texts(
    texts: EncodedTexts,
    rows: Sequence[int] | npt.NDArray[np.int64],
    *,
    causal: bool = True,
    prefix: Prefix | None = None,
) -> Pack | TreePack:
    """A pack of the windows of some texts, with the states below the tuned layers where they are known; ``prefix``: what all of them begin with."""
    windows, owners = texts.windows_of(rows), texts.owners(rows)
    found = [texts.unrolled[i] for i in windows]
    packed: Pack | TreePack
    if prefix is not None:
        packed = behind(prefix, found if texts.beginning else [ids[prefix.tokens :] for ids in found])
    else:
        packed = below(texts.beginning, found, causal=causal)
    if isinstance(texts, TrunkTexts):
        assert isinstance(packed, Pack)
        packed = replace(packed, below=texts.below(windows))
    # Texts of one window each go the way of texts without windows, whose answers are then the same to the last bit.
    return packed if len(windows) == len(rows) else replace(packed, texts=torch.from_numpy(owners))


def combined(values: torch.Tensor, texts: torch.Tensor | None, aggregation: Aggregation) -> torch.Tensor:
    """Mean or maximum of the windows' ``values`` ``[windows, …]`` over each text, ``[texts, …]``; see `Pack.texts`."""
    if texts is None:
        return values
    n = int(texts[-1]) + 1
    if aggregation == "max":
        index = texts.view(-1, *[1] * (values.ndim - 1)).expand_as(values)
        lowest = values.new_full((n, *values.shape[1:]), -torch.inf)
        return lowest.scatter_reduce(0, index, values, "amax")
    sums = values.new_zeros((n, *values.shape[1:])).index_add(0, texts, values)
    counts = torch.bincount(texts, minlength=n).to(values.dtype)
    return sums / counts.view(-1, *[1] * (values.ndim - 1))


class WindowScores(nn.Module):
    """Scores of texts from the states of their windows.

    ``mean`` and ``max`` combine the windows' scores, label by label. ``attention`` (Ilse et al. 2018, arXiv 1802.04712) scores the
    states' weighted mean: a weight is the softmax, over a text's windows, of a learned direction in the normalised state. It begins
    as the mean.
    """

    def __init__(
        self, aggregation: Aggregation, width: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.aggregation = aggregation
        if aggregation == "attention":
            # Named like the layer on the states, whose learning rate it shares.
            self.score = nn.Linear(width, 1, bias=False, device=device, dtype=torch.float32)
            nn.init.zeros_(self.score.weight)

    def forward(
        self, states: torch.Tensor, rows: Pack | TreePack, score: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Logits ``[texts, labels]``.

        Args:
            states: fp32 ``[windows, hidden]``, in the order of the pack.
            score: logits of states.
        """
        if rows.texts is None or self.aggregation != "attention":
            return combined(score(states), rows.texts, self.aggregation)
        asked = self.score(nn.functional.layer_norm(states, states.shape[1:]))[:, 0]
        highest = combined(asked, rows.texts, "max").detach()
        weights = (asked - highest[rows.texts]).exp()
        total = weights.new_zeros(len(highest)).index_add(0, rows.texts, weights)
        weights = weights / total[rows.texts]
        pooled = states.new_zeros((len(highest), states.shape[1])).index_add(
            0, rows.texts, states * weights[:, None]
        )
        return score(pooled)

    def save(self, folder: Path) -> None:
        """Write what was learned, if anything."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        if tensors:
            save_file(tensors, folder / FILE, metadata={"format": "pt"})

    def load(self, folder: Path) -> None:
        """Read what `save` wrote.

        Raises:
            ModelError: the file is missing or of another model.
        """
        expected = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        if not expected:
            return
        path = folder / FILE
        if not path.is_file():
            raise ModelError(f"{path} is missing", "restore it from the run that made it")
        tensors = load_file(path)
        if (found := {name: tuple(tensor.shape) for name, tensor in tensors.items()}) != expected:
            raise ModelError(
                f"{path} holds {found}, expected {expected}", "the file belongs to another model"
            )
        self.load_state_dict(tensors)
