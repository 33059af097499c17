"""Per-example losses whose sum over a step does not depend on how the step is cut into microbatches.

A step's loss is ``Σ loss_i / examples in the step``. Label weights are scaled once, over the whole training set, to a mean
of one per example, instead of being normalised inside each batch; so weighting is exact under any cut.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from sortal.config import RunConfig
from sortal.config_losses import refused_losses
from sortal.data.problems import nearest
from sortal.errors import ConfigError
from sortal.training.asymmetric import Asymmetric

_LEAST = 1e-12  # a power below 1 has no finite slope at 0


@dataclass(frozen=True)
class Loss:
    """Cross-entropy (single-label) or BCE-with-logits (multi-label, mean over labels), optionally weighted, focal or asymmetric.

    class_weight: fp32 ``[labels]`` or None; pos_weight: fp32 ``[labels]`` or None (multi-label); gamma: 0 is no focal term.
    asymmetric: stands in for BCE (multi-label). negative_smoothing: what a no is taken for (multi-label).
    adjustment: fp32 ``[labels]`` added to the logits, in training alone, or None (Menon et al. 2021, arXiv 2007.07314).
    """

    task: Literal["single", "multi"]
    label_smoothing: float = 0.0
    gamma: float = 0.0
    class_weight: torch.Tensor | None = None
    pos_weight: torch.Tensor | None = None
    asymmetric: Asymmetric | None = None
    negative_smoothing: float = 0.0
    adjustment: torch.Tensor | None = None

    @property
    def shifts_probabilities(self) -> bool:
        """Whether minimising this loss gives probabilities that no longer estimate label frequencies."""
        changed = (self.class_weight, self.pos_weight, self.asymmetric, self.adjustment)
        return self.gamma > 0 or self.negative_smoothing > 0 or any(change is not None for change in changed)

    def to(self, device: torch.device) -> Loss:
        """The same loss with its weights on ``device``."""
        moved = {
            name: tensor.to(device)
            for name in ("class_weight", "pos_weight", "adjustment")
            if (tensor := getattr(self, name)) is not None
        }
        return replace(self, **moved)

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses ``[n]`` in fp32.

        Args:
            logits: ``[n, labels]``.
            targets: int64 ``[n]`` (single) or ``[n, labels]`` of 0/1 (multi).
        """
        if self.task == "single":
            return self._single(self._adjusted(logits), targets)
        return self.per_label(logits, targets).mean(-1)

    def _adjusted(self, logits: torch.Tensor) -> torch.Tensor:
        logits = logits.float()
        return logits if self.adjustment is None else logits + self.adjustment

    def _single(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss = F.cross_entropy(logits, targets, reduction="none", label_smoothing=self.label_smoothing)
        if self.gamma:
            right = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0].exp()
            loss = (1 - right).clamp(min=_LEAST) ** self.gamma * loss
        return loss if self.class_weight is None else loss * self.class_weight[targets]

    def per_label(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Multi-label losses before their mean over labels, fp32 ``[n, labels]``."""
        logits = self._adjusted(logits)
        if self.asymmetric is not None:
            loss = self.asymmetric(logits, targets)
        else:
            smooth = targets.float() * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
            if self.negative_smoothing:
                smooth = smooth.clamp(min=self.negative_smoothing)
            loss = F.binary_cross_entropy_with_logits(
                logits, smooth, reduction="none", pos_weight=self.pos_weight
            )
        if self.gamma:
            right = torch.where(targets > 0, logits, -logits).sigmoid()
            loss = (1 - right).clamp(min=_LEAST) ** self.gamma * loss
        if self.class_weight is not None:
            loss = loss * self.class_weight
        return loss


def make_loss(
    config: RunConfig, task: Literal["single", "multi"], names: tuple[str, ...], gold: npt.NDArray[Any]
) -> Loss:
    """The loss that ``config`` asks for, its weights computed on the training labels.

    Args:
        gold: int ``[n]`` (single) or 0/1 ``[n, labels]`` (multi), dense or sparse; training rows.

    Raises:
        ConfigError: a weight for an unknown label, or settings for several labels on a single-label task.
    """
    counts = np.bincount(gold, minlength=len(names)) if task == "single" else np.asarray(gold.sum(0))
    positives = np.maximum(counts.astype(np.float64), 1.0)
    n = max(gold.shape[0], 1)
    class_weight = _weights(config.class_weight, names, n / (len(names) * positives), "class_weight")
    if class_weight is not None:
        mean = class_weight[gold].mean() if task == "single" else class_weight.mean()
        class_weight = class_weight / max(mean, 1e-12)
    if task == "single" and config.pos_weight != "none":
        raise ConfigError("pos_weight is for multi-label tasks", "use class_weight for a single-label task")
    if wrong := refused_losses(config, task):
        raise ConfigError(wrong, "leave one of them out")
    pos_weight = _weights(config.pos_weight, names, np.maximum(n - positives, 1.0) / positives, "pos_weight")
    gamma = config.focal_gamma if config.loss == "focal" else 0.0
    return Loss(
        task,
        config.label_smoothing,
        gamma,
        _tensor(class_weight),
        _tensor(pos_weight),
        Asymmetric(*config.asymmetric_settings) if config.loss == "asymmetric" else None,
        config.negative_smoothing,
        _tensor(config.logit_adjustment * _log_prior(counts, n, task) if config.logit_adjustment else None),
    )


def _log_prior(counts: npt.NDArray[Any], n: int, task: Literal["single", "multi"]) -> npt.NDArray[np.float64]:
    """Log frequency (single) or log-odds of it (multi), half a row away from never and from always: ``[labels]``."""
    if task == "single":
        return np.asarray(np.log(np.maximum(counts, 0.5) / n))
    held = np.clip(counts, 0.5, n - 0.5)
    return np.asarray(np.log(held) - np.log(n - held))


def _tensor(weights: npt.NDArray[np.float64] | None) -> torch.Tensor | None:
    return None if weights is None else torch.tensor(weights, dtype=torch.float32)


def _weights(
    setting: str | float | dict[str, float],
    names: tuple[str, ...],
    balanced: npt.NDArray[np.float64],
    key: str,
) -> npt.NDArray[np.float64] | None:
    if setting == "none":
        return None
    if setting == "balanced":
        return balanced
    if isinstance(setting, dict):
        for name in setting:
            if name not in names:
                raise ConfigError(
                    f"{key}: unknown label {name!r}{nearest(name, list(names))}", "use the labels of the data"
                )
        return np.array([float(setting.get(name, 1.0)) for name in names])
    return np.full(len(names), float(setting))
