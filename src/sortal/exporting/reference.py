"""What Sortal itself answers: the standard an export is held to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch

from sortal.classifier import Classifier
from sortal.evaluation.decision import Decision
from sortal.evaluation.scores import Floats
from sortal.methods.base import Scorer
from sortal.methods.blend import BlendScorer
from sortal.training.progress import ProgressView


@dataclass(frozen=True)
class Reference:
    """Probabilities ``[n, labels]`` of the model folder.

    exact: with fp32 arithmetic, whatever the run's was: in bf16, the texts beside a text in a batch change its probabilities in the third
    decimal, and near-ties go either way. as_run: in the run's dtype; None when that is fp32.
    is_exact: whether ``exact`` is what it says; 4-bit products of a GPU are not.
    """

    exact: Floats
    as_run: Floats | None
    is_exact: bool


def tuned_scorer(classifier: Classifier) -> Scorer:
    """The scorer without the linear model that a blend adds."""
    scorer = classifier.scorer
    return scorer.tuned if isinstance(scorer, BlendScorer) else scorer


def reference(scorer: Scorer, decision: Decision, texts: list[str], view: ProgressView) -> Reference:
    """Score ``texts``; the scorer's weights are in fp32 afterwards."""
    model: Any = cast(Any, scorer).model
    dtype = run_dtype(model)
    as_run = None if dtype == torch.float32 else decision.probabilities(scorer.score(texts, view))
    is_exact = not any(type(module).__name__ == "Linear4bit" for module in model.modules())
    model.float()
    if hasattr(model, "dtype"):  # of an encoder, whose products are autocast
        model.dtype = torch.float32
    wide: Scorer = replace(cast(Any, scorer))  # without a prompt that was computed in the run's dtype
    return Reference(decision.probabilities(wide.score(texts, view)), as_run, is_exact)


def run_dtype(model: Any) -> torch.dtype:
    """The dtype a run multiplied in: an encoder says it itself, around a decoder it is the decoder's."""
    own = getattr(model, "dtype", None)
    if own is None:
        own = (getattr(model, "inner", None) or model.base).dtype
    return cast(torch.dtype, own)


def parameters(scorer: Scorer) -> int:
    """Weights of the network."""
    return sum(parameter.numel() for parameter in cast(Any, scorer).model.parameters())
