"""Settings of losses for labels that are rare, many or marked incompletely; `sortal.config.RunConfig` holds them with the others."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sortal.config_sections import Section


class LossConfig(Section):
    """Losses for many and rare labels."""

    asymmetric_gamma_positive: float = Field(
        0.0,
        ge=0,
        description="loss asymmetric: a right yes is multiplied by (1 - p) ** this; the paper's 0 leaves it whole",
    )
    asymmetric_gamma_negative: float = Field(
        4.0,
        ge=0,
        description="loss asymmetric: a no is multiplied by p ** this, so that the many easy ones hardly count",
    )
    asymmetric_shift: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="loss asymmetric: probability that a no may have at no cost at all; it is subtracted from p first",
    )
    negative_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="multi-label: what a no is taken for, the share of unmarked labels that would be right (missing positives); keep it below the frequency of a typical label. A yes stays 1; probabilities are recalibrated on dev",
    )
    logit_adjustment: float = Field(
        0.0,
        ge=0,
        description="tau: while training, tau times the log-prior of each label (multi-label: log-odds) is added to its logit, so that scores say what speaks for a label beyond its frequency; probabilities are recalibrated on dev",
    )

    @property
    def asymmetric_settings(self) -> tuple[float, float, float]:
        """Gamma of a yes, gamma of a no, shift."""
        return self.asymmetric_gamma_positive, self.asymmetric_gamma_negative, self.asymmetric_shift


LOSS_METHODS = frozenset(("head", "encoder", "instruct"))


def refused_losses(config: Any, task: str) -> str | None:
    """Why these losses cannot be combined, or None.

    Args:
        config: all settings of the run.
        task: ``single``, ``multi`` or ``auto`` (not known yet).
    """
    loss: str = config.loss
    others = {
        "label_smoothing": config.label_smoothing > 0,
        "class_weight": config.class_weight != "none",
        "pos_weight": config.pos_weight != "none",
    }
    multi_only = {
        "loss 'asymmetric'": loss == "asymmetric",
        "negative_smoothing": config.negative_smoothing > 0,
    }
    for name, used in multi_only.items():
        if used and task == "single":
            return f"{name} is for multi-label tasks: it treats a yes and a no differently"
    fields = LossConfig.model_fields
    for name in ("asymmetric_gamma_positive", "asymmetric_gamma_negative", "asymmetric_shift"):
        if getattr(config, name) != fields[name].default and loss != "asymmetric":
            return f"{name} has no effect without loss 'asymmetric'"
    clashes = {
        "loss 'asymmetric'": (loss == "asymmetric", ("label_smoothing", "pos_weight")),
        "negative_smoothing": (config.negative_smoothing > 0, ("label_smoothing",)),
        "logit_adjustment": (config.logit_adjustment > 0, ("class_weight", "pos_weight")),
    }
    for name, (used, unknown) in clashes.items():
        if found := [other for other in unknown if used and others[other]]:
            return f"{name} and {found[0]} both change how a yes and a no or frequent and rare labels weigh: use one of them"
    for name, used in (
        ("negative_smoothing", config.negative_smoothing > 0),
        ("logit_adjustment", config.logit_adjustment > 0),
    ):
        if used and loss != "auto":
            return f"{name} is for the plain loss: leave out loss {loss!r}"
    return None
