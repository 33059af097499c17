"""The asymmetric loss of Ridnik et al. 2021 (arXiv 2009.14119): many easy noes count little, and very easy ones nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

# Below it a shifted probability costs nothing that fp32 could tell from 0, and its power may have no finite slope.
_LEAST = 1e-12


@dataclass(frozen=True)
class Asymmetric:
    """``-(1 - p) ** gamma_positive · log p`` of a yes; ``-q ** gamma_negative · log(1 - q)`` of a no, ``q = max(p - shift, 0)``.

    The gradient flows through the powers too, as the paper derives it. With shift 0 and equal gammas it is the focal loss.
    """

    gamma_positive: float
    gamma_negative: float
    shift: float

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses fp32 of 0/1 ``targets``, element by element; finite, with finite gradients, at any logit."""
        yes, no = F.logsigmoid(logits), F.logsigmoid(-logits)
        positive = -torch.exp(self.gamma_positive * no) * yes
        if self.shift == 0:
            negative = -torch.exp(self.gamma_negative * yes) * no
        else:
            q = (logits.sigmoid() - self.shift).clamp(min=_LEAST)
            kept = torch.log(((-logits).sigmoid() + self.shift).clamp(max=1.0))  # of 1 - q, never of 0
            negative = torch.where(q > _LEAST, -(q**self.gamma_negative) * kept, 0.0)
        return torch.where(targets > 0, positive, negative)
